/* SPDX-License-Identifier: MIT
 *
 * Floor 4. The statistics module: adds the workers' counters up, in an order in which the sums agree.
 *
 * Each counter has one writer. What ends was counted as started before, and what starts
 * was counted as spawned before that; so the ends are read first (acquire; their writers
 * release), then the starts, then the spawns: no end without its start in the
 * sums, and live is never negative (R13).
 */
#include "../../include/routines/stats.h"

#include <errno.h>
#include <string.h>

#include "../os/clock.h"
#include "../sched/scheduler.h"

/* Of one set of counters: the ends. */
static void add_ends(routine_counts_t *sum, const rt_counts *c)
{
    sum->cancelled += rt_counter_read(&c->cancelled); /* first: counted after the end */
    sum->completed += rt_counter_read(&c->completed) + rt_counter_read(&c->in_place_ended);
}

static void add_starts(routine_counts_t *sum, const rt_counts *c)
{
    const uint64_t in_place = rt_counter_read(&c->in_place);
    sum->in_place += in_place;
    sum->started += rt_counter_read(&c->started) + in_place;
}

static void add_rest(routine_counts_t *sum, const rt_counts *c)
{
    sum->spawned += rt_counter_read(&c->spawned);
    sum->switches += rt_counter_read(&c->switches);
    sum->yields += rt_counter_read(&c->yields);
    sum->steals_tried += rt_counter_read(&c->steals_tried);
    sum->steals_won += rt_counter_read(&c->steals_won);
    sum->sleeps += rt_counter_read(&c->sleeps);
    sum->wakeups += rt_counter_read(&c->wakeups);
    sum->spills += rt_counter_read(&c->spills);
}

static rt_runtime *which(rt_runtime *rt)
{
    if (rt)
        return rt;
    rt_runtime *mine = rt_runtime_of(rt_self());
    return mine ? mine : rt_runtime_chosen();
}

static uint64_t difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Of worker i, or after the last one of those who have none. */
static const rt_counts *counts_of(const rt_runtime *rt, size_t i)
{
    return i < rt->worker_count ? &rt->workers[i].counts : &rt->counts;
}

static void add_threads(routine_stats_t *stats, rt_runtime *rt)
{
    rt_lock_acquire(&rt->threads.lock);
    stats->threads = rt->threads.count;
    stats->threads_spare = rt->threads.idle_count;
    for (const rt_thread *t = rt->threads.all; t; t = t->next)
        stats->running += atomic_load_explicit(&t->stuck, memory_order_relaxed); /* a hint */
    rt_lock_release(&rt->threads.lock);
    stats->handovers = rt_counter_read(&rt->monitor.handovers);
    stats->refused = rt_counter_read(&rt->monitor.refused);
}

int routine_stats(routine_runtime_t *runtime, routine_stats_t *stats)
{
    if (!stats)
        return -EINVAL;
    rt_runtime *rt = which(runtime);
    if (!rt)
        return -ESRCH;
    memset(stats, 0, sizeof *stats);
    routine_counts_t *sum = &stats->total;
    const size_t n = rt->worker_count;
    uint64_t ended_in_place = 0, bound = 0, left = 0;

    /* the ends of waiting first: what is readied was counted as parked before */
    for (size_t i = 0; i < n; i++)
        sum->readies += rt_counter_read(&rt->workers[i].counts.readies);
    sum->readies += rt_counter_read(&rt->counts.readies);
    for (size_t i = 0; i < n; i++)
        sum->parks += rt_counter_read(&rt->workers[i].counts.parks);
    sum->parks += rt_counter_read(&rt->counts.parks);

    for (size_t i = 0; i <= n; i++) {
        const rt_counts *c = counts_of(rt, i);
        left += rt_counter_read(&c->stacks_left);
        ended_in_place += rt_counter_read(&c->in_place_ended);
        add_ends(sum, c);
    }
    for (size_t i = 0; i <= n; i++) {
        bound += rt_counter_read(&counts_of(rt, i)->stacks_bound);
        add_starts(sum, counts_of(rt, i));
    }
    for (size_t i = 0; i <= n; i++)
        add_rest(sum, counts_of(rt, i));
    for (size_t i = 0; i < n; i++)
        stats->running += rt_worker_is_running(&rt->workers[i]);
    add_threads(stats, rt);

    stats->workers = n;
    stats->threads_pool = rt_pool_threads(&rt->pool);
    stats->live = sum->spawned - sum->completed;
    stats->unstarted = difference(sum->spawned, sum->started);
    stats->parked = difference(sum->parks, sum->readies);
    /* a joiner that runs its child in place waits for it as well */
    stats->parked += difference(sum->in_place, ended_in_place);
    /* what neither waits nor is unstarted runs, as many as there are busy workers, or is ready to */
    const uint64_t active = difference(stats->live, stats->parked + stats->unstarted);
    if (stats->running > active)
        stats->running = active;
    stats->runnable = difference(stats->live, stats->parked + stats->running);
    stats->stacks_live = (size_t)difference(bound, left);
    rt_lock_acquire(&rt->stacks.lock);
    if (stats->stacks_live > rt->stacks.taken) /* some have been left since they were counted */
        stats->stacks_live = rt->stacks.taken;
    stats->stacks_cached = (size_t)difference(rt->stacks.taken, stats->stacks_live);
    stats->stacks_peak = rt->stacks.peak;
    rt_lock_release(&rt->stacks.lock);
    return 0;
}

int routine_stats_worker(routine_runtime_t *runtime, size_t worker, routine_counts_t *counts)
{
    rt_runtime *rt = which(runtime);
    if (!rt)
        return -ESRCH;
    if (!counts || worker >= rt->worker_count)
        return -EINVAL;
    const rt_counts *c = &rt->workers[worker].counts;
    memset(counts, 0, sizeof *counts);
    counts->readies = rt_counter_read(&c->readies);
    counts->parks = rt_counter_read(&c->parks);
    add_ends(counts, c);
    add_starts(counts, c);
    add_rest(counts, c);
    return 0;
}

_Static_assert(ROUTINE_OFFENDERS_MAX == RT_OFFENDERS, "the list of offenders");

/* Under the lock of the monitor: what those that are still at it have come to by now. */
static void add_present(rt_runtime *rt, const rt_offender *o, routine_offender_t *to, int64_t now)
{
    rt_lock_acquire(&rt->threads.lock);
    for (const rt_thread *t = rt->threads.all; t; t = t->next) {
        if (!atomic_load_explicit(&t->stuck, memory_order_relaxed) || /* under the lock */
            strcmp(t->offence.where, o->what.where) != 0)
            continue;
        to->now = true;
        to->total += now - t->stuck_since;
        if (now - t->stuck_since > to->longest)
            to->longest = now - t->stuck_since;
    }
    rt_lock_release(&rt->threads.lock);
}

size_t routine_offenders(routine_runtime_t *runtime, routine_offender_t *list, size_t most)
{
    rt_runtime *rt = which(runtime);
    routine_offender_t all[RT_OFFENDERS];
    size_t count = 0;
    if (!rt || !list)
        return 0;
    const int64_t now = rt_clock_now();
    rt_lock_acquire(&rt->monitor.lock);
    for (const rt_offender *o = rt->monitor.offenders; o < rt->monitor.offenders + RT_OFFENDERS; o++) {
        if (o->count == 0)
            continue;
        routine_offender_t one = {.count = o->count, .longest = o->longest, .total = o->total};
        memcpy(one.where, o->what.where, sizeof one.where);
        memcpy(one.name, o->what.name, sizeof one.name);
        if (o->now)
            add_present(rt, o, &one, now);
        size_t at = count++;
        for (; at > 0 && all[at - 1].longest < one.longest; at--)
            all[at] = all[at - 1];
        all[at] = one;
    }
    rt_lock_release(&rt->monitor.lock);
    if (count > most)
        count = most;
    memcpy(list, all, count * sizeof *list);
    return count;
}

static void print_offenders(routine_runtime_t *runtime, FILE *stream)
{
    routine_offender_t list[5];
    const size_t count = routine_offenders(runtime, list, sizeof list / sizeof list[0]);
    for (size_t i = 0; i < count; i++)
        fprintf(stream,
                "  kept its worker: started at %s%s%s%s, %llu times, %.1f ms at most, %.1f in all%s\n",
                list[i].where, *list[i].name ? " (" : "", list[i].name, *list[i].name ? ")" : "",
                (unsigned long long)list[i].count, (double)list[i].longest / 1e6, (double)list[i].total / 1e6,
                list[i].now ? ", now too" : "");
}

static void print_counts(FILE *stream, const char *label, const routine_counts_t *c)
{
    fprintf(stream, "  %-7s %11llu %11llu %11llu %11llu %11llu %9llu %9llu %9llu %9llu\n", label,
            (unsigned long long)c->spawned, (unsigned long long)c->completed, (unsigned long long)c->in_place,
            (unsigned long long)c->switches, (unsigned long long)c->yields, (unsigned long long)c->parks,
            (unsigned long long)c->steals_won, (unsigned long long)c->steals_tried,
            (unsigned long long)c->sleeps);
}

void routine_runtime_stats_print(routine_runtime_t *runtime, FILE *stream)
{
    routine_stats_t s;
    if (routine_stats(runtime, &s) != 0) {
        fprintf(stream, "routines: no runtime\n");
        return;
    }
    const rt_runtime *rt = which(runtime);
    fprintf(stream, "routines: runtime \"%s\", %zu worker%s\n", rt->name, s.workers,
            s.workers == 1 ? "" : "s");
    fprintf(stream,
            "  routines: %llu live (%llu unstarted, %llu parked, %llu running, %llu runnable), %llu "
            "cancelled before "
            "they ran\n",
            (unsigned long long)s.live, (unsigned long long)s.unstarted, (unsigned long long)s.parked,
            (unsigned long long)s.running, (unsigned long long)s.runnable,
            (unsigned long long)s.total.cancelled);
    fprintf(stream, "  stacks:   %zu live, %zu cached, %zu at most\n", s.stacks_live, s.stacks_cached,
            s.stacks_peak);
    fprintf(stream,
            "  threads:  %zu, %zu of them spare, and %zu for code that blocks; %llu hand-overs of a worker, "
            "%llu refused\n",
            s.threads, s.threads_spare, s.threads_pool, (unsigned long long)s.handovers,
            (unsigned long long)s.refused);
    print_offenders(runtime, stream);
    fprintf(stream, "  spills:   %llu\n", (unsigned long long)s.total.spills);
    fprintf(stream, "  %-7s %11s %11s %11s %11s %11s %9s %9s %9s %9s\n", "worker", "spawned", "completed",
            "in place", "switches", "yields", "parks", "stolen", "tried", "sleeps");
    for (size_t i = 0; i < s.workers; i++) {
        routine_counts_t counts;
        char label[24];
        if (routine_stats_worker(runtime, i, &counts) != 0)
            return;
        snprintf(label, sizeof label, "%zu", i);
        print_counts(stream, label, &counts);
    }
    print_counts(stream, "all", &s.total);
}

void routine_stats_print(FILE *stream)
{
    routine_runtime_stats_print(NULL, stream);
}
