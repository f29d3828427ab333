/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See order.h, and worker.h for the free lists: control blocks of a worker and
 * their end; the queues, and the order in which they are served.
 */
#include "order.h"

#include <errno.h>
#include <stdlib.h>

#include "../os/clock.h"
#include "fdwait.h"

#define SHARED_BATCH 32
#define SAMPLE       64
#define TIMERS_BATCH 64
#define OLDEST_EVERY (5 * INT64_C(1000000)) /* ns */
#define LOOK_EVERY                                                                                           \
    (50 * INT64_C(1000)) /* ns between looks at the timers and the poller, while one is set                  \
                          */
#define POLL_EVERY                                                                                           \
    (250 * INT64_C(1000)) /* ns between looks at the poller, with routines that are ready: they come first   \
                           */
#define LOOKS_MOST 16     /* and at most so many picks */
#define OVERDUE    INT64_C(1000000) /* ns after which a timer is taken over by any worker */

/* ---- control blocks ---- */

rt_block *rt_free_refill(rt_worker *w)
{
    rt_block *chain = w->free_more;
    if (chain) { /* they have been this worker's */
        w->free_more = NULL;
    } else {
        if (!(chain = rt_block_batch_get()))
            return NULL;
        for (rt_block *r = chain; r; r = r->link)
            if (rt_block_runtime(r) != w->runtime)
                atomic_store_explicit(&r->runtime, w->runtime,
                                      memory_order_relaxed); /* published with the word */
    }
    w->free = chain->link;
    w->free_count = RT_BLOCK_BATCH - 1;
    return chain;
}

void rt_free_flush(rt_worker *w)
{
    if (w->free_more)
        rt_block_batch_put(w->free_more);
    w->free_more = w->free;
    w->free = NULL;
    w->free_count = 0;
}

rt_block *rt_free_get_any(void)
{
    const bool entered = rt_enter_if();
    rt_worker *w = rt_self()->worker;
    rt_block *r = w ? rt_free_get(w) : rt_block_get();
    rt_leave_if(entered);
    return r;
}

void rt_free_any(rt_block *r)
{
    const bool entered = rt_enter_if();
    rt_worker *w = rt_self()->worker;
    rt_block_blank(r);
    if (w) {
        atomic_store_explicit(&r->runtime, w->runtime, memory_order_relaxed); /* published with the word */
        rt_free_put(w, r);
    } else {
        rt_block_put(r);
    }
    rt_leave_if(entered);
}

void rt_extra_drop(rt_block *r)
{
    const rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own by now */
    if (!extra)
        return;
    atomic_store_explicit(&r->extra, NULL, memory_order_relaxed);
    if (extra->more) {
        free(extra->more->locals);
        free(extra->more->heard);
        free(extra->more->said);
        free(extra->more);
    }
    rt_free_any((rt_block *)(void *)((char *)extra - RT_COPY_OFFSET));
}

void rt_recycle(rt_block *r)
{
    rt_extra_drop(r);
    rt_free_any(r);
}

void rt_release(rt_block *r)
{
    /* acquire: pairs with drop, which clears ENTRY */
    if (atomic_load_explicit(&r->word, memory_order_acquire) & RT_ENTRY &&
        /* acq_rel: of release and drop the later one recycles, after all that the other did */
        atomic_fetch_or_explicit(&r->word, RT_RELEASED, memory_order_acq_rel) & RT_ENTRY)
        return;
    rt_recycle(r);
}

void rt_order_drop(rt_block *r)
{
    /* acquire, acq_rel: as in rt_release */
    if (!(atomic_load_explicit(&r->word, memory_order_acquire) & RT_RELEASED) &&
        !(atomic_fetch_and_explicit(&r->word, ~(uint64_t)RT_ENTRY, memory_order_acq_rel) & RT_RELEASED))
        return;
    rt_recycle(r);
}

bool rt_order_claim(rt_block *r)
{
    uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire); /* pairs with go's publication */
    do {
        if (word & RT_STARTED) {
            rt_order_drop(r);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&r->word, &word,
                                                    (word | RT_STARTED) & ~(uint64_t)RT_ENTRY,
                                                    memory_order_acq_rel, memory_order_acquire));
    return true;
}

/* ---- queues ---- */

/* Under the shared queue's lock. */
static void shared_append(rt_runtime *rt, rt_block *r)
{
    r->link = NULL;
    if (rt->head)
        rt->tail->link = r;
    else
        rt->head = r;
    rt->tail = r;
    /* relaxed: a hint; sleepers look again behind their barrier (I3) */
    atomic_store_explicit(&rt->count, atomic_load_explicit(&rt->count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

uint64_t rt_order_shared_size(const rt_runtime *rt)
{
    return atomic_load_explicit(&rt->count, memory_order_relaxed); /* a hint */
}

static void notify_outside(rt_runtime *rt)
{
    if (rt_idle_anybody(&rt->idle))
        rt_idle_wake(&rt->idle, false);
}

int rt_inject(rt_runtime *rt, rt_block *r)
{
    rt_lock_acquire(&rt->lock);
    if (rt->closed) {
        rt_lock_release(&rt->lock);
        return -ECANCELED;
    }
    rt_counter_add_release(&rt->counts.spawned, 1);
    shared_append(rt, r);
    notify_outside(rt); /* before the lock is let go: afterwards r may have ended, and its runtime be freed */
    rt_lock_release(&rt->lock);
    return 0;
}

void rt_order_share(rt_runtime *rt, rt_block *r, bool readied)
{
    rt_lock_acquire(&rt->lock);
    if (readied)
        rt_counter_add(&rt->counts.readies, 1);
    shared_append(rt, r);
    notify_outside(rt); /* before: as in rt_inject */
    rt_lock_release(&rt->lock);
}

void rt_spill(rt_worker *w, rt_block *r)
{
    /* acq_rel: somebody may cancel it at the same time */
    atomic_fetch_or_explicit(&r->word, RT_STARTED, memory_order_acq_rel);
    rt_counter_add(&w->counts.spills, 1);
    rt_order_share(w->runtime, r, false);
}

rt_block *rt_order_woken(rt_worker *w)
{
    if (rt_ready_size(&w->ready) == 0 || !rt_ready_enter_soon(&w->ready))
        return NULL;
    rt_block *r = rt_ready_pop(&w->ready);
    rt_ready_leave(&w->ready);
    return r;
}

rt_block *rt_order_yielded(rt_worker *w)
{
    if (rt_ready_size(&w->ready) == 0 || !rt_ready_enter_soon(&w->ready))
        return NULL;
    rt_block *r = rt_ready_pop_yielded(&w->ready);
    rt_ready_leave(&w->ready);
    return r;
}

void rt_order_append(rt_worker *w, rt_block *r)
{
    if (RT_LIKELY(rt_ready_enter_soon(&w->ready))) {
        rt_ready_append(&w->ready, r);
        rt_ready_leave(&w->ready);
    } else {
        rt_counter_add(&w->counts.spills, 1);
        rt_order_share(w->runtime, r, false);
    }
}

rt_block *rt_order_newest(rt_worker *w)
{
    rt_block *r;
    while ((r = rt_deque_take(&w->deque)) != NULL) {
        if (rt_order_claim(r))
            return r;
    }
    w->dead = 0;
    return NULL;
}

rt_block *rt_order_shared(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    if (rt_order_shared_size(rt) == 0)
        return NULL;
    rt_lock_acquire(&rt->lock);
    rt_block *first = rt->head;
    uint64_t left = rt_order_shared_size(rt), more = 0;
    if (first) {
        rt->head = first->link;
        left--;
        /* a fair share comes along, so that the lock is not taken for each */
        if (left >= rt->worker_count && rt_ready_enter_soon(&w->ready)) {
            for (; more < left / rt->worker_count && more < SHARED_BATCH; more++) {
                rt_block *r = rt->head;
                rt->head = r->link;
                rt_ready_append(&w->ready, r);
            }
            rt_ready_leave(&w->ready);
        }
        atomic_store_explicit(&rt->count, left - more, memory_order_relaxed); /* as in shared_append */
    }
    rt_lock_release(&rt->lock);
    if (more)
        rt_notify(w);
    return first;
}

/* The oldest entry of the own deque. */
rt_block *rt_order_oldest(rt_worker *w)
{
    rt_block *r;
    while ((r = rt_deque_take_oldest(&w->deque)) != NULL)
        if (rt_order_claim(r))
            return r;
    return NULL;
}

void rt_order_begin_timer(rt_runtime *rt, rt_block *r)
{
    r->attr.flags &= (uint16_t)~RT_FLAG_TIMER;
    /* before it can end, and under the lock: a shutdown that has found nothing alive has closed before that
     */
    rt_counter_add_release(&rt->counts.spawned, 1);
    /* release: as go's */
    atomic_store_explicit(&r->word, RT_WORD(rt_block_id(), RT_STARTED | RT_CLAIMED | RT_DETACHED),
                          memory_order_release);
}

/* A timer has fired. False: not now (rt_runtime_hold). */
static bool begin_or_hold(rt_runtime *rt, rt_block *r)
{
    rt_lock_acquire(&rt->lock);
    const bool begins = !rt->holding;
    if (begins) {
        rt_order_begin_timer(rt, r);
    } else {
        r->link = rt->held;
        rt->held = r;
    }
    rt_lock_release(&rt->lock);
    return begins;
}

bool rt_order_timers(rt_worker *w, rt_worker *v, int64_t now)
{
    bool any = false, more = true;
    while (more) {
        rt_block *r = rt_timers_expire(&v->timers, now, TIMERS_BATCH, &more);
        while (r) {
            rt_block *next = r->link;
            if (r->attr.flags & RT_FLAG_TIMER) {
                if (!begin_or_hold(w->runtime, r)) {
                    r = next;
                    continue;
                }
            } else {
                rt_counter_add(&w->counts.readies, 1);
            }
            rt_order_append(w, r);
            any = true;
            r = next;
        }
    }
    return any;
}

void rt_order_look_at_timers(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < rt->worker_count; i++)
        if (rt_timers_next(&rt->workers[i].timers) < next)
            next = rt_timers_next(&rt->workers[i].timers);
    const bool polls = rt_poller_epoll(&rt->poller) >= 0;
    if (next == INT64_MAX && !polls) {
        w->until_look = 1;
        return;
    }
    const int64_t now = rt_clock_now();
    /* as many picks until the next look as take LOOK_EVERY, if they take as long as the last ones */
    const int64_t each = (now - w->looked_at) / (w->looks + 1) + 1;
    w->looks = (uint32_t)(each > LOOK_EVERY                ? 1
                          : LOOK_EVERY / each < LOOKS_MOST ? LOOK_EVERY / each
                                                           : LOOKS_MOST);
    w->until_look = w->looks;
    w->looked_at = now;
    bool any = false;
    for (size_t i = 0; i < rt->worker_count && next <= now; i++) {
        rt_worker *v = &rt->workers[i];
        /* others look at their own, unless they are busy in one routine */
        if (rt_timers_next(&v->timers) <= (v == w ? now : now - OVERDUE))
            any |= rt_order_timers(w, v, now);
    }
    if (polls) {
        if (RT_UNLIKELY(rt_poller_round_at(&rt->poller) <= now))
            rt_fdwait_round(w, now);
        /* a hint: others may look too */
        if (now - atomic_load_explicit(&rt->poller.polled_at, memory_order_relaxed) >= POLL_EVERY)
            any |= rt_fdwait_look(w);
    }
    if (any)
        rt_notify(w);
}

rt_block *rt_order_oldest_at_last(rt_worker *w)
{
    const int64_t now = rt_clock_now();
    if (now - w->oldest_at < OLDEST_EVERY)
        return NULL;
    w->oldest_at = now;
    return rt_order_oldest(w);
}

rt_block *rt_order_unusual(rt_worker *w)
{
    rt_order_look_at_timers(w);
    switch (w->tick / RT_UNUSUAL_PICK % 4) {
    case 0:
        return rt_order_oldest_at_last(w);
    case 2:
        return rt_order_yielded(w);
    default:
        return rt_order_shared(w);
    }
}

rt_block *rt_order_pick(rt_worker *w)
{
    rt_block *r;
    if (rt_order_look_is_due(w))
        rt_order_look_at_timers(w);
    if (RT_UNLIKELY(++w->tick % RT_UNUSUAL_PICK == 0) && (r = rt_order_unusual(w)) != NULL)
        return r;
    if ((r = rt_order_woken(w)) != NULL || (r = rt_order_newest(w)) != NULL ||
        (r = rt_order_yielded(w)) != NULL)
        return r;
    return rt_order_shared(w);
}

void rt_bury(rt_worker *w)
{
    while (w->dead) {
        rt_deque *d = &w->deque;
        const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own */
        if (rt_deque_size(d) == 0) {
            w->dead = 0;
            return;
        }
        const rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);             /* own */
        rt_block *r = atomic_load_explicit(&ring->slots[b & ring->mask], memory_order_relaxed); /* own */
        /* relaxed: STARTED is for ever; if a thief recycles the block meanwhile, the entry is gone and take
         * finds out */
        if (!(atomic_load_explicit(&r->word, memory_order_relaxed) & RT_STARTED))
            return;
        w->dead--;
        r = rt_deque_take(d);
        if (r && rt_order_claim(r)) { /* a new incarnation: an old one's entry was stolen while we looked */
            rt_order_append(w, r);
            return;
        }
    }
}

bool rt_deque_make_room(rt_worker *w)
{
    rt_deque *d = &w->deque;
    const int64_t size = rt_deque_size(d);
    /* A sample tells how many are dead: not all of them need be of this worker's making. */
    const rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);    /* own */
    const int64_t bottom = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own */
    int dead = 0;
    for (int64_t i = 0; i < SAMPLE; i++) {
        const rt_block *one = atomic_load_explicit(
            &ring->slots[(bottom - 1 - i * size / SAMPLE) & ring->mask], memory_order_relaxed); /* own */
        /* relaxed: a hint. A block is never unmapped */
        dead += (atomic_load_explicit(&one->word, memory_order_relaxed) & RT_STARTED) != 0;
    }
    if (size < SAMPLE || dead < SAMPLE / 2)
        return rt_deque_grow(d);
    rt_block **alive = malloc((size_t)size * sizeof *alive);
    if (!alive)
        return rt_deque_grow(d);
    int64_t count = 0;
    rt_block *r;
    while (count < size && (r = rt_deque_take(d)) != NULL) {
        /* acquire: pairs with whoever started it */
        if (atomic_load_explicit(&r->word, memory_order_acquire) & RT_STARTED)
            rt_order_drop(r);
        else
            alive[count++] = r;
    }
    while (count > 0)
        (void)rt_deque_push(d, alive[--count]); /* there is room: it was all in there */
    free(alive);
    w->dead = 0;
    return rt_deque_room(d) || rt_deque_grow(d);
}
