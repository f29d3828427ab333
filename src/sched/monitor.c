/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See monitor.h for the argument; the steps H1 to H8 are cited here.
 */
#include "monitor.h"

#include <stdio.h>
#include <string.h>

#include "../base/panic.h"
#include "../os/clock.h"
#include "../os/thread.h"
#include "fdwait.h"
#include "order.h"

_Atomic int64_t rt_monitor_pace = INT64_C(1000000);

/* relaxed: a setting */
#define MS        atomic_load_explicit(&rt_monitor_pace, memory_order_relaxed)
#define TICK      (5 * MS)   /* ns between two looks */
#define SPARE     (5 * MS)   /* in one routine: a spare thread is made ready */
#define TAKE      (10 * MS)  /* and its worker is taken */
#define LATE      (2 * TICK) /* a rest that was so long says nothing about routines */
#define ENOUGH    (4 * MS)   /* of CPU time, of the last TAKE - TICK, to count as computing */
#define QUIET     20         /* looks without news until they become rare, or it sleeps */
#define SLOW_TICK TAKE       /* then */
#define A_LITTLE  (MS / 10)  /* who has had less CPU time than that in a tick does not compute */
#define A_TICK    4          /* workers are taken in one tick at most */
#define WAITS     50         /* looks, of PAUSES each, for H4: some 50 microseconds */
#define PAUSES    32

/* ---- offenders ---- */

/* Under lock. */
static rt_offender *offender(rt_monitor *m, const char *where)
{
    rt_offender *least = NULL;
    for (rt_offender *o = m->offenders; o < m->offenders + RT_OFFENDERS; o++) {
        if (strcmp(o->what.where, where) == 0)
            return o;
        if (o->now == 0 && (!least || o->longest < least->longest))
            least = o; /* a free one has 0 */
    }
    if (least)
        memset(least, 0, sizeof *least);
    return least;
}

/* It begins to be one, having been in its routine since then; ended: and is back already. */
static void note(rt_monitor *m, rt_thread *t, int64_t since, int64_t ended)
{
    rt_lock_acquire(&m->lock);
    rt_offender *o = offender(m, t->offence.where);
    t->stuck_since = since;
    if (ended == 0)
        t->cpu_seen = rt_thread_cpu_time(t->id);
    atomic_store_explicit(&t->stuck, ended == 0, memory_order_relaxed); /* a hint for computing */
    if (o) {
        o->what = t->offence;
        o->count++;
        if (ended == 0) {
            o->now++;
        } else {
            o->total += ended - since;
            if (ended - since > o->longest)
                o->longest = ended - since;
        }
    }
    rt_lock_release(&m->lock);
}

void rt_monitor_came_back(rt_thread *t)
{
    rt_monitor *m = &t->runtime->monitor;
    const int64_t took = rt_clock_now() - t->stuck_since;
    rt_lock_acquire(&m->lock);
    atomic_store_explicit(&t->stuck, false, memory_order_relaxed); /* as in note */
    for (rt_offender *o = m->offenders; o < m->offenders + RT_OFFENDERS; o++)
        if (o->now && strcmp(o->what.where, t->offence.where) == 0) {
            o->now--;
            o->total += took;
            if (took > o->longest)
                o->longest = took;
            break;
        }
    rt_lock_release(&m->lock);
}

/* Copies: the code that they belong to may be unloaded one day. */
static void describe(rt_offence *offence, const rt_block *r)
{
    const rt_extra *extra =
        atomic_load_explicit(&r->extra, memory_order_acquire); /* pairs with rt_local_extra */
    snprintf(offence->where, sizeof offence->where, "%s", r->where ? r->where : "?");
    snprintf(offence->name, sizeof offence->name, "%s", extra ? extra->name : "");
}

/* ---- the hand-over ---- */

/* The thread's side. */
void rt_enter_slow(rt_thread *t, uint32_t said)
{
    if (!t->runtime) /* nobody takes anything from a plain thread; and many share rt_nobody */
        return;
    if (said & RT_ENTERED_TWICE)
        rt_panic("a signal handler, or code that is called by the library itself, has called into the "
                 "library while this thread was "
                 "inside of it: signal handlers must not use it (send signals to channels by "
                 "routine_signal_notify)");
    rt_worker *w = t->worker;
    uint32_t asked = RT_ASKED_TAKING;
    if (w) {
        t->worker = NULL;
        t->seat = &rt_no_seat;
        /* H4. release: what it did with its worker comes first; acquire: pairs with the monitor's notes */
        if (atomic_compare_exchange_strong_explicit(&t->asked, &asked, RT_ASKED_GIVING, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            describe(&t->offence, t->current);
            atomic_store_explicit(&t->asked, RT_ASKED_GIVEN, memory_order_release); /* pairs with take */
            return;
        }
        if (asked == RT_ASKED_NOT) { /* H5 */
            t->worker = w;
            t->seat = w->seat;
            return;
        }
    }
    asked = atomic_load_explicit(&t->asked, memory_order_acquire);
    if (asked == RT_ASKED_GIVEN || asked == RT_ASKED_NOT) /* the monitor has yet to notice */
        return;
    while (atomic_load_explicit(&t->asked, memory_order_acquire) ==
           RT_ASKED_TAKING_NOTES) /* pairs with take */
        rt_relax();
    atomic_store_explicit(&t->asked, RT_ASKED_NOT, memory_order_relaxed); /* nobody else changes TAKEN */
    rt_monitor_came_back(t);
}

/* The monitor's side: true: w is nobody's now. */
static bool take(rt_runtime *rt, rt_worker *w)
{
    rt_thread *t = w->holder;
    rt_monitor *m = &rt->monitor;
    uint32_t asked = RT_ASKED_TAKING;
    atomic_store_explicit(&t->asked, RT_ASKED_TAKING, memory_order_relaxed); /* ordered by: */
    rt_membarrier_heavy();                                                   /* H2 */
    if (atomic_load_explicit(&t->inside, memory_order_acquire) == 0) {       /* H3; pairs with rt_leave */
        /* acq_rel: as in H4 */
        if (atomic_compare_exchange_strong_explicit(&t->asked, &asked, RT_ASKED_TAKING_NOTES,
                                                    memory_order_acq_rel, memory_order_acquire)) {
            describe(&t->offence, t->current);
            note(m, t, w->seen_since, 0);
            atomic_store_explicit(&t->asked, RT_ASKED_TAKEN,
                                  memory_order_release); /* pairs with rt_enter_slow */
            return true;
        }
    }
    for (int i = 0; i < WAITS * PAUSES; i++) {
        if (i % PAUSES == 0 &&
            atomic_load_explicit(&t->asked, memory_order_relaxed) != RT_ASKED_TAKING) /* looked at below */
            break;
        rt_relax();
    }
    asked = RT_ASKED_TAKING;
    if (atomic_compare_exchange_strong_explicit(&t->asked, &asked, RT_ASKED_NOT, memory_order_relaxed,
                                                memory_order_relaxed)) /* H5 */
        return false;
    while (atomic_load_explicit(&t->asked, memory_order_acquire) !=
           RT_ASKED_GIVEN) /* pairs with rt_enter_slow */
        rt_relax();
    note(m, t, w->seen_since, rt_clock_now());
    atomic_store_explicit(&t->asked, RT_ASKED_NOT, memory_order_release); /* the notes have been read */
    return true;
}

/* One that waits for a worker; made if there is none. NULL: not yet; or refused: never. */
static rt_thread *spare(rt_runtime *rt, bool *refused)
{
    rt_thread *t = rt_threads_take_idle(rt);
    *refused = !t && rt_threads_more(rt) != 0;
    return t;
}

/* ---- looking ---- */

static uint64_t progress(const rt_worker *w)
{
    return rt_counter_read(&w->counts.switches) + rt_counter_read(&w->counts.in_place_ended);
}

static bool is_busy(const rt_worker *w)
{
    return atomic_load_explicit(&w->busy, memory_order_relaxed); /* a hint; H8: ordered by the barrier */
}

/* How much could be run at once by more threads: none if a worker is at rest, for that one will take it. */
static uint64_t waiting(rt_runtime *rt, int64_t now)
{
    if (rt_idle_rests(&rt->idle))
        return 0;
    uint64_t count = rt_order_shared_size(rt);
    for (size_t i = 0; i < rt->worker_count; i++) {
        const rt_worker *w = &rt->workers[i];
        count += (uint64_t)rt_deque_size(&w->deque) + rt_ready_size(&w->ready) +
                 (rt_timers_next(&w->timers) <= now);
    }
    return count;
}

/* How many threads have computed without a worker since they were counted last: once in a look. */
static size_t computing(rt_runtime *rt)
{
    size_t count = 0;
    rt_lock_acquire(&rt->threads.lock);
    for (rt_thread *t = rt->threads.all; t; t = t->next)
        if (atomic_load_explicit(&t->stuck, memory_order_relaxed)) { /* a hint */
            const int64_t cpu = rt_thread_cpu_time(t->id);
            count += cpu != t->cpu_seen; /* however little: they may be many */
            t->cpu_seen = cpu;
        }
    rt_lock_release(&rt->threads.lock);
    return count;
}

/* H7. */
static bool is_stuck(rt_runtime *rt, const rt_worker *w, int64_t used, int64_t just_now, size_t *others)
{
    if (used >= ENOUGH) {
        if (*others == SIZE_MAX)
            *others = computing(rt);
        const size_t doublings = *others / (4 * rt->worker_count);
        return doublings < 16 && used >= ENOUGH << doublings;
    }
    /* relaxed: constant since its thread began */
    return just_now < A_LITTLE &&
           rt_thread_is_blocked(atomic_load_explicit(&w->holder->tid, memory_order_relaxed));
}

/* A worker that has been in one routine for `since` ns, while others wait. True: it was taken. *others: those
 * that compute without one; SIZE_MAX: not known yet. */
static bool hand_over(rt_runtime *rt, rt_worker *w, int64_t since, size_t *others)
{
    bool refused, taken = false;
    rt_thread *t = spare(rt, &refused);
    const int64_t cpu = rt_thread_cpu_time(w->holder->id);
    const int64_t used = cpu - w->cpu_since, just_now = cpu - w->cpu_seen;
    w->cpu_seen = cpu;
    if (since >= TAKE) {
        if (refused)
            rt_counter_add(&rt->monitor.refused, 1);
        taken = t && is_stuck(rt, w, used, just_now, others) && take(rt, w);
    }
    if (taken) {
        rt_threads_give(t, w);
        rt_counter_add(&rt->monitor.handovers, 1);
        w->seen_since = 0;
    } else if (t) {
        rt_threads_put_idle(t);
    }
    return taken;
}

typedef struct {
    bool busy; /* a worker was */
    bool news; /* one has got on, or somebody waits */
} looked;

static looked look(rt_runtime *rt, int64_t now, bool late)
{
    looked seen = {0};
    uint64_t more = UINT64_MAX; /* not known yet */
    size_t others = SIZE_MAX;   /* as well */
    int taken = 0;
    for (size_t i = 0; i < rt->worker_count; i++) {
        rt_worker *w = &rt->workers[i];
        const uint64_t done = progress(w);
        const bool at_work = is_busy(w);
        seen.busy |= at_work;
        if (!at_work || done != w->seen || w->seen_since == 0 || late) {
            seen.news |= at_work;
            w->seen = done;
            w->seen_since = at_work ? now : 0;
            w->cpu_since = -1;
            continue;
        }
        if (w->cpu_since < 0)
            w->cpu_since = w->cpu_seen = rt_thread_cpu_time(w->holder->id);
        if (now - w->seen_since < SPARE || !rt_membarrier_works || RT_UNMARKED || taken == A_TICK)
            continue;
        if (more == UINT64_MAX)
            more = waiting(rt, now);
        seen.news |= more != 0;
        if (more != 0 && hand_over(rt, w, now - w->seen_since, &others)) {
            taken++;
            more--;
        }
    }
    return seen;
}

static void rest(rt_monitor *m, int64_t until)
{
    const uint32_t seen =
        atomic_load_explicit(&m->rung, memory_order_acquire); /* pairs with rt_monitor_wake */
    if (!atomic_load_explicit(&m->ends, memory_order_acquire))
        rt_futex_wait(&m->rung, seen, until);
}

/* H8. */
static void sleep_until_busy(rt_runtime *rt)
{
    rt_monitor *m = &rt->monitor;
    const uint32_t seen =
        atomic_load_explicit(&m->rung, memory_order_acquire);      /* pairs with rt_monitor_wake */
    atomic_store_explicit(&m->asleep, true, memory_order_relaxed); /* ordered by: */
    rt_membarrier_heavy();
    bool busy = rt_pool_has_queue(&rt->pool);
    for (size_t i = 0; i < rt->worker_count && !busy; i++)
        busy = is_busy(&rt->workers[i]);
    if (!busy && !atomic_load_explicit(&m->ends, memory_order_acquire))
        rt_futex_wait(&m->rung, seen, INT64_MAX);
    atomic_store_explicit(&m->asleep, false, memory_order_relaxed);
}

static void *run(void *arg)
{
    rt_runtime *rt = arg;
    rt_monitor *m = &rt->monitor;
    int quiet = 0;                                                  /* looks without news */
    while (!atomic_load_explicit(&m->ends, memory_order_acquire)) { /* pairs with rt_monitor_stop */
        const int64_t until = rt_clock_after(quiet < QUIET ? TICK : SLOW_TICK);
        rest(m, until);
        const int64_t now = rt_clock_now();
        if (rt_fdwait_looked_at(rt) < now - TICK) /* they are all busy with something long (idle.h, I7) */
            rt_fdwait_look_outside(rt);
        (void)rt_stack_pool_cool(&rt->stacks); /* as those who rest do: perhaps nobody does */
        looked seen = look(rt, now, now - until > LATE);
        if (rt_pool_has_queue(&rt->pool) && rt_pool_look(&rt->pool, now))
            seen.busy = seen.news = true;
        rt_threads_bury(rt);
        quiet = seen.news ? 0 : quiet + 1;
        if (quiet >= QUIET && !seen.busy) {
            sleep_until_busy(rt);
            rt_threads_bury(rt);
            quiet = 0;
        }
    }
    return NULL;
}

void rt_monitor_wake(rt_runtime *rt)
{
    rt_monitor *m = &rt->monitor;
    atomic_fetch_add_explicit(&m->rung, 1, memory_order_release); /* pairs with rest */
    rt_futex_wake(&m->rung, 1);
}

void rt_monitor_start(rt_runtime *rt)
{
    char name[40];
    snprintf(name, sizeof name, "%s-m", rt->name);
    rt->monitor.runs = rt_thread_create(&rt->monitor.id, name, -1, run, rt) == 0;
}

void rt_monitor_stop(rt_runtime *rt)
{
    if (!rt->monitor.runs)
        return;
    atomic_store_explicit(&rt->monitor.ends, true, memory_order_release); /* pairs with run */
    rt_monitor_wake(rt);
    pthread_join(rt->monitor.id, NULL);
    rt->monitor.runs = false;
}
