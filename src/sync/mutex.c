/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The mutex: one word, and a queue for those who wait.
 *
 * As in Go (sync/mutex.go) a released mutex is free for whoever comes first, which is
 * fast, since a running routine can take it many times while the one that was woken for it is
 * on its way; and whoever has waited for longer than HANDOVER gets it handed.
 *
 *  M1 `word` is the holder, or null, and perhaps WAITERS: then the release is done under `lock`. A
 *     free word is 0. It becomes a holder by compare-and-swap from 0; WAITERS is set and cleared under
 *     lock, by compare-and-swap while it is held.
 *  M2 Who finds it held enters itself into the queue under lock, having set WAITERS in the word of
 *     the holder: so that one's release comes to lock, and finds it.
 *  M3 A release with waiters takes the first one out of the queue, leaves lock, and frees the word:
 *     this is its last touch, since the next holder may free the mutex. Then it makes that waiter ready,
 *     which is now *on its way*: it comes back under lock, and either takes the mutex, with WAITERS if
 *     others are in the queue, or goes back to the head of the queue (M2). So while somebody is on his
 *     way the word need not say that there are others.
 *  M4 If `handover` is set, by one on its way who came too late for too long, the release makes the
 *     first waiter the holder instead.
 */
#include <string.h>

#include "../os/clock.h"
#include "sync.h"

#define HANDOVER INT64_C(1000000) /* ns */
#define SPINS    30               /* looks, before it waits: a section may be over by then */

#define WAITERS ((uintptr_t)1)

typedef struct {
    _Atomic uintptr_t word;
    rt_lock_t lock;
    bool handover; /* under lock, as the queue */
    rt_queue queue;
} mutex;

RT_SYNC_FITS(routine_mutex_t, mutex);

typedef struct {
    rt_waiter waiter;
    int64_t since;
} pending;

RT_INLINE mutex *inside(routine_mutex_t *m)
{
    return (mutex *)(void *)m;
}

RT_INLINE uintptr_t word_of(const rt_block *r)
{
    return (uintptr_t)r;
}

void routine_mutex_init(routine_mutex_t *m)
{
    if (m)
        memset(m, 0, sizeof *m);
}

bool rt_mutex_is_held(const routine_mutex_t *m, const rt_block *by)
{
    const mutex *x = (const mutex *)(const void *)m;
    /* relaxed: that it is the caller itself is told by its own writes alone */
    return (atomic_load_explicit(&x->word, memory_order_relaxed) & ~WAITERS) == word_of(by);
}

RT_INLINE bool try_lock(mutex *m, rt_block *me)
{
    uintptr_t free = 0;
    /* acquire: pairs with the release of who held it before */
    return atomic_compare_exchange_strong_explicit(&m->word, &free, word_of(me), memory_order_acquire,
                                                   memory_order_relaxed);
}

/* Under lock: takes it, if it is free, with WAITERS if others wait; else sees to it that its release comes to
 * the queue (M2). */
static bool take_or_mark(mutex *m, rt_block *me)
{
    uintptr_t word = atomic_load_explicit(&m->word, memory_order_relaxed); /* the compare-and-swap decides */
    for (;;) {
        const bool free = word == 0;
        const uintptr_t wanted =
            free ? word_of(me) | (rt_queue_is_empty(&m->queue) ? 0 : WAITERS) : word | WAITERS;
        /* acquire: as in try_lock */
        if (atomic_compare_exchange_weak_explicit(&m->word, &word, wanted, memory_order_acquire,
                                                  memory_order_relaxed))
            return free;
    }
}

static bool leave_lock(rt_block *r, void *arg)
{
    (void)r;
    rt_lock_release(arg);
    return true;
}

static RT_NOINLINE void lock_slow(mutex *m, rt_block *me)
{
    /* as long as nobody waits already, and the one that holds it may be running somewhere */
    const rt_runtime *rt = rt_self()->runtime;
    for (int i = 0; (!rt || rt->worker_count > 1) && i < SPINS; i++) {
        const uintptr_t word = atomic_load_explicit(&m->word, memory_order_relaxed); /* a hint */
        if (word == 0 && try_lock(m, me))
            return;
        if (word & WAITERS)
            break;
        rt_relax();
    }
    pending p = {.waiter = {.who = me}};
    rt_lock_acquire(&m->lock);
    while (!take_or_mark(m, me)) {
        if (p.since == 0) {
            p.since = rt_clock_now();
            rt_queue_append(&m->queue, &p.waiter);
        } else {
            if (rt_clock_now() - p.since > HANDOVER)
                m->handover = true; /* M4 */
            rt_queue_prepend(&m->queue, &p.waiter);
        }
        rt_park(leave_lock, &m->lock);
        if (rt_mutex_is_held((routine_mutex_t *)(void *)m, me)) /* M4 */
            return;
        rt_lock_acquire(&m->lock); /* M3: on its way */
    }
    rt_lock_release(&m->lock);
}

int routine_mutex_lock(routine_mutex_t *m)
{
    if (RT_UNLIKELY(!m))
        return -EINVAL;
    rt_block *me = rt_me();
    if (RT_LIKELY(try_lock(inside(m), me)))
        return 0;
    if (rt_mutex_is_held(m, me))
        return -EDEADLK;
    lock_slow(inside(m), me);
    return 0;
}

int routine_mutex_trylock(routine_mutex_t *m)
{
    if (!m)
        return -EINVAL;
    return try_lock(inside(m), rt_me()) ? 0 : -EBUSY;
}

/* Somebody waits. False: nobody did, after all, and the word says so now. */
static RT_NOINLINE bool release_slow(mutex *m)
{
    rt_lock_acquire(&m->lock);
    rt_waiter *w = rt_queue_take(&m->queue);
    if (!w) {
        atomic_fetch_and_explicit(&m->word, ~WAITERS, memory_order_relaxed); /* still held: M1 */
        rt_lock_release(&m->lock);
        return false;
    }
    rt_block *next = w->who;
    if (m->handover) {
        const rt_waiter *after = rt_queue_head(&m->queue);
        m->handover =
            after && rt_clock_now() - RT_CONTAINER_OF(after, const pending, waiter)->since > HANDOVER;
        /* release, as below. It waits, so the mutex is there until it is made ready */
        atomic_store_explicit(&m->word, word_of(next) | (after ? WAITERS : 0), memory_order_release);
        rt_lock_release(&m->lock);
    } else {
        rt_lock_release(&m->lock);
        /* M3. release: pairs with the acquire of the next holder. A WAITERS that was set meanwhile goes with
         * it: one is on its way */
        atomic_store_explicit(&m->word, 0, memory_order_release);
    }
    rt_ready_block(next);
    return true;
}

void rt_mutex_release(routine_mutex_t *m, rt_block *holder)
{
    uintptr_t word = word_of(holder);
    do {
        /* release: pairs with the acquire of the next holder */
        if (RT_LIKELY(atomic_compare_exchange_strong_explicit(&inside(m)->word, &word, 0,
                                                              memory_order_release, memory_order_relaxed)))
            return;
        word = word_of(holder);
    } while (!release_slow(inside(m)));
}

int routine_mutex_unlock(routine_mutex_t *m)
{
    if (RT_UNLIKELY(!m))
        return -EINVAL;
    rt_block *me = rt_me();
    if (RT_UNLIKELY(!rt_mutex_is_held(m, me)))
        return -EPERM;
    rt_mutex_release(m, me);
    return 0;
}
