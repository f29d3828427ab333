/* SPDX-License-Identifier: MIT
 *
 * Floor 3. Workers without work: thieves and sleepers. See idle.h for the protocol, whose steps are cited
 * here.
 */
#include "../os/clock.h"
#include "fdwait.h"
#include "order.h"

#define STEAL_BATCH      32
#define WORTH_STEALING   1000  /* ns, the switches there and back included */
#define WORTH_MANY_TIMES 20000 /* ns: it was more than had to be */
#define POOR_MOST        4
#define GRAB_MOST        4 /* 16 routines */
#define STEAL_TOMBSTONES 1024
#define LITTLE_LOOKS     24 /* pauses between the two looks at a victim that has little: 1 to 2 microseconds */
#define NAP_FIRST        (20 * INT64_C(1000))
#define NAP_LAST         (160 * INT64_C(1000))
#define STACK_IDLE       16 /* warm stacks that a worker keeps when it goes to sleep */

/* What tells whether a worker makes progress. */
static uint64_t progress(const rt_worker *v)
{
    /* relaxed: a hint */
    return atomic_load_explicit(&v->counts.spawned, memory_order_relaxed) +
           atomic_load_explicit(&v->counts.switches, memory_order_relaxed);
}

/* A thief is in: the oldest routine; and up to `more` that follow it, half of them at most, go to the thief's
 * own deque, as they are. */
static rt_block *steal_oldest(rt_worker *w, rt_worker *v, int64_t more)
{
    rt_block *r = NULL;
    /* tombstones come first where children are joined in the order of their start: past them (R2) */
    for (int i = 0; i < STEAL_TOMBSTONES && !r && rt_deque_size(&v->deque) > 0; i++) {
        r = rt_deque_take_oldest(&v->deque);
        if (r && !rt_order_claim(r))
            r = NULL;
    }
    if (!r)
        return NULL;
    rt_counter_add(&w->counts.steals_won, 1);
    const int64_t half = rt_deque_size(&v->deque) / 2;
    w->could_grab = half > more && w->grab < GRAB_MOST;
    for (int64_t i = 0; i < more && i < half && rt_deque_room(&w->deque); i++) {
        rt_block *other = rt_deque_take_oldest(&v->deque);
        if (!other)
            break;
        (void)rt_deque_push(&w->deque, other);
        rt_counter_add(&w->counts.steals_won, 1);
    }
    return r;
}

static rt_block *steal_from(rt_worker *w, rt_worker *v)
{
    rt_block *r = NULL;
    rt_counter_add(&w->counts.steals_tried, 1);
    w->could_grab = false;
    if (rt_deque_size(&v->deque) > 0 && rt_deque_enter(&v->deque)) {
        r = steal_oldest(w, v, (INT64_C(1) << w->grab) - 1);
        rt_deque_leave(&v->deque);
        if (r)
            return r;
    }
    uint64_t got;
    r = rt_ready_steal(&v->ready, STEAL_BATCH, &got);
    if (!r)
        return NULL;
    rt_counter_add(&w->counts.steals_won, got);
    rt_block *rest = r->link;
    while (rest) {
        rt_block *next = rest->link;
        rt_order_append(w, rest);
        rest = next;
    }
    return r;
}

/* The victim has little: one item, or a few routines that are ready to go on. Most likely it will run them in
 * a moment itself, and taking them away, from caches and partners, costs more than it gains. Taken only if
 * they are still there after a short while, in which it did not get through as many as it has. */
static rt_block *steal_little(rt_worker *w, rt_worker *v)
{
    const rt_block *item = rt_deque_peek(&v->deque);
    /* relaxed: compared only. A block is never unmapped. */
    const uint64_t word = item ? atomic_load_explicit(&item->word, memory_order_relaxed) : 0;
    const uint64_t done = progress(v), few = rt_ready_size(&v->ready);
    for (int i = 0; i < LITTLE_LOOKS; i++)
        rt_relax();
    const uint64_t did = progress(v) - done;
    /* one that waits for a lock of another worker will go on when that lets go: most likely they are partners
     */
    if (atomic_load_explicit(&v->seat->waits, memory_order_relaxed)) /* a hint */
        return NULL;
    if ((did != 0 && did >= few) || rt_deque_peek(&v->deque) != item ||
        (item && atomic_load_explicit(&item->word, memory_order_relaxed) != word)) /* as above */
        return NULL;
    return steal_from(w, v);
}

rt_block *rt_search_steal(rt_worker *w, bool *lone)
{
    rt_runtime *rt = w->runtime;
    rt_worker *shy = NULL;
    const size_t count = rt->worker_count;
    size_t at = (size_t)(rt_random(&w->random) % count);
    *lone = false;
    for (size_t i = 0; i < count; i++, at = at + 1 == count ? 0 : at + 1) {
        rt_worker *v = &rt->workers[at];
        if (v == w)
            continue;
        if (rt_order_has_little(v)) {
            shy = v;
        } else if (rt_deque_size(&v->deque) > 0 || rt_ready_size(&v->ready) > 0) {
            rt_block *r = steal_from(w, v);
            if (r)
                return r;
            *lone = true; /* something was there, and others are at it */
        }
    }
    if (!shy)
        return NULL;
    rt_block *r = steal_little(w, shy);
    if (!r)
        *lone = true;
    return r;
}

static bool work_visible(rt_runtime *rt)
{
    if (rt_order_shared_size(rt) > 0)
        return true;
    for (size_t i = 0; i < rt->worker_count; i++)
        if (rt_deque_size(&rt->workers[i].deque) > 0 || rt_ready_size(&rt->workers[i].ready) > 0)
            return true;
    return false;
}

static uint64_t progress_of_others(const rt_worker *w)
{
    const rt_runtime *rt = w->runtime;
    uint64_t sum = 0;
    for (size_t i = 0; i < rt->worker_count; i++)
        if (&rt->workers[i] != w)
            sum += progress(&rt->workers[i]);
    return sum;
}

/* The earliest time of all timers; the poller's next round counts as one. */
static int64_t earliest(const rt_runtime *rt)
{
    int64_t least = rt_poller_round_at(&rt->poller);
    for (size_t i = 0; i < rt->worker_count; i++) {
        const int64_t next = rt_timers_next(&rt->workers[i].timers);
        if (next < least)
            least = next;
    }
    return least;
}

/* Takes over everybody's timers that have passed. */
static void look_at_timers(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    int64_t now;
    if (earliest(rt) == INT64_MAX || earliest(rt) > (now = rt_clock_now()))
        return;
    for (size_t i = 0; i < rt->worker_count; i++)
        (void)rt_order_timers(w, &rt->workers[i], now);
    if (rt_poller_round_at(&rt->poller) <= now)
        rt_fdwait_round(w, now);
}

/* How long to rest at most, for a rest of ns. */
static int64_t until_timer(const rt_runtime *rt, int64_t ns)
{
    const int64_t next = earliest(rt);
    if (next == INT64_MAX)
        return ns;
    const int64_t left = next - rt_clock_now();
    return left < 0 ? 0 : left < ns ? left : ns;
}

static bool stopping(rt_runtime *rt)
{
    return atomic_load_explicit(&rt->stopping, memory_order_acquire); /* pairs with runtime.c */
}

/* Called by a worker that is about to sleep, behind its barrier (I3), or a thread that has run its routine
 * without one: if somebody waits for the end of all routines and this is it, says so. The waiter sets
 * draining to 1, heavy barrier, and looks itself: of the two at least one sees the other. */
void rt_search_check_drained(rt_runtime *rt)
{
    uint32_t waiting = 1;
    if (atomic_load_explicit(&rt->draining, memory_order_relaxed) == 1 && rt_runtime_live(rt) == 0 &&
        atomic_compare_exchange_strong_explicit(&rt->draining, &waiting, 2, memory_order_release,
                                                memory_order_relaxed)) /* pairs with the waiter */
        rt_futex_wake(&rt->draining, 1);
}

static uint64_t spawned(const rt_worker *w)
{
    return atomic_load_explicit(&w->counts.spawned, memory_order_relaxed); /* own */
}

/* Taking what runs for less than a microsecond costs its owner more than it saves. A thief whose last catch
 * was such a one takes more at once next time; and when that does not help either, it rests before it looks
 * again, longer each time; it stays a searcher meanwhile, so that nobody is woken to do the same. (One at a
 * time is best where the oldest one is the largest, many where nobody can tell: Dinan and others 2009,
 * "Scalable work stealing".) */
static void rest_if_poor(rt_worker *w)
{
    if (w->stolen_at != 0) {
        const int64_t worth = rt_clock_now() - w->stolen_at;
        w->stolen_at = 0;
        /* a little: each that was taken along cost something too. What has children of its own is always
         * worth it */
        if (worth > WORTH_STEALING << w->grab / 2 || spawned(w) != w->stolen_then) {
            w->poor = 0;
            if (worth > WORTH_MANY_TIMES && w->grab > 0)
                w->grab--;
        } else if (w->could_grab) {
            w->grab++;
        } else if (w->poor < POOR_MOST) {
            w->poor++;
        }
    }
    if (w->poor > 0)
        rt_clock_nap(until_timer(w->runtime, NAP_FIRST << (w->poor - 1)));
}

void rt_search_is_busy(rt_worker *w)
{
    atomic_store_explicit(&w->busy, true, memory_order_relaxed); /* H8, and a hint for statistics */
    rt_membarrier_light();
    if (RT_UNLIKELY(atomic_load_explicit(&w->runtime->monitor.asleep, memory_order_relaxed))) /* H8 */
        rt_monitor_wake(w->runtime);
}

rt_block *rt_search_work(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    atomic_store_explicit(&w->busy, false, memory_order_relaxed); /* as in rt_search_is_busy */
    int64_t nap = NAP_FIRST;
    uint64_t seen = progress_of_others(w);
    rt_block *r = NULL;
    rt_idle_search(&rt->idle);
    rest_if_poor(w);
    while (!stopping(rt)) {
        bool lone;
        look_at_timers(w);
        if ((r = rt_order_pick(w)) != NULL || (rt_fdwait_look(w) && (r = rt_order_pick(w)) != NULL))
            break;
        if ((r = rt_search_steal(w, &lone)) != NULL) {
            w->stolen_at = rt_clock_now();
            w->stolen_then = spawned(w);
            break;
        }
        /* While others are busy with what they have, it would be there and gone at each look: rest a little.
         */
        const uint64_t done = progress_of_others(w);
        if (lone || done != seen) {
            seen = done;
            const int64_t ns = until_timer(rt, nap);
            const bool woken = rt_fdwait_any(rt) && rt_idle_nap_polling(&rt->idle, &w->sleeper) /* I7 */
                                   ? rt_fdwait_sleep(w, rt_clock_after(ns))
                                   : rt_idle_nap(&rt->idle, &w->sleeper, ns);
            nap = woken ? NAP_FIRST : nap < NAP_LAST ? 2 * nap : nap;
            continue;
        }
        rt_idle_announce(&rt->idle, &w->sleeper);
        const int64_t next = earliest(rt);
        if (work_visible(rt) || stopping(rt) || (next != INT64_MAX && next <= rt_clock_now())) {
            rt_idle_withdraw(&rt->idle, &w->sleeper);
            continue;
        }
        rt_search_check_drained(rt);
        rt_stacks_flush(w, STACK_IDLE);
        const int64_t cool = rt_stack_pool_cool(&rt->stacks);
        int64_t until = rt_idle_cover(&rt->idle, &w->sleeper, next);
        if (until > cool)
            until = cool;
        rt_counter_add(&w->counts.sleeps, 1);
        if (rt_fdwait_any(rt) && rt_idle_become_poller(&rt->idle, &w->sleeper)) /* I7 */
            rt_fdwait_sleep(w, until);
        else
            rt_idle_sleep(&rt->idle, &w->sleeper, until);
        rt_counter_add(&w->counts.wakeups, 1);
        nap = NAP_FIRST;
        w->poor = 0;
    }
    rt_idle_found(&rt->idle);
    if (r)
        rt_search_is_busy(w);
    return r;
}
