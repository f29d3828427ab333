/* SPDX-License-Identifier: MIT
 *
 * Floor 3. What waits for what: the records of waiters, which stand on their parked stacks, and
 * the queues of an object that they stand in.
 *
 * A queue belongs to its object and changes under the object's lock only. A record in a queue is
 * alive: the one who waits takes its records out before it goes on, under the same locks.
 *
 * Who waits in one queue, without a limit of time, is woken by the one who takes its record out.
 * Who can be woken from several sides (a select, a timer) is *shared*: its block's `wait` word is
 * opened before the records are published, and whoever wins it by compare-and-swap (rt_wait_win) wakes it;
 * the others leave it alone, and its records are dropped wherever they are met (R3).
 */
#ifndef RT_SCHED_WAIT_H
#define RT_SCHED_WAIT_H

#include "block.h"

typedef struct rt_waiter {
    struct rt_waiter *next, *prev; /* under the lock of the queue's object */
    rt_block *who;
    struct rt_waiter **won; /* not null: it is shared, and the record that won is noted here by the winner */
    void *data;             /* what is transferred, and where to: the object's affair, as the next two */
    int32_t result;         /* set by whoever wakes it */
    int32_t kind;
    _Atomic bool queued; /* release when it leaves the queue, so that its owner may see it without the lock */
} rt_waiter;

/* First in, first out. head is relaxed and atomic for those who look without the lock. */
typedef struct {
    _Atomic(rt_waiter *) head;
    rt_waiter *tail; /* means something while head is not null */
} rt_queue;

RT_INLINE rt_waiter *rt_queue_head(const rt_queue *q)
{
    return atomic_load_explicit(&q->head, memory_order_relaxed); /* under the lock, or a hint */
}

RT_INLINE bool rt_queue_is_empty(const rt_queue *q)
{
    return rt_queue_head(q) == NULL;
}

RT_INLINE void rt_queue_append(rt_queue *q, rt_waiter *w)
{
    w->next = NULL;
    atomic_store_explicit(&w->queued, true, memory_order_relaxed); /* own until it is published */
    if (rt_queue_is_empty(q)) {
        w->prev = NULL;
        atomic_store_explicit(&q->head, w, memory_order_relaxed); /* as above */
    } else {
        w->prev = q->tail;
        q->tail->next = w;
    }
    q->tail = w;
}

/* Before all others. */
RT_INLINE void rt_queue_prepend(rt_queue *q, rt_waiter *w)
{
    rt_waiter *head = rt_queue_head(q);
    w->prev = NULL;
    w->next = head;
    atomic_store_explicit(&w->queued, true, memory_order_relaxed); /* own until it is published */
    if (head)
        head->prev = w;
    else
        q->tail = w;
    atomic_store_explicit(&q->head, w, memory_order_relaxed); /* as above */
}

RT_INLINE void rt_queue_remove(rt_queue *q, rt_waiter *w)
{
    rt_waiter *next = w->next;
    if (next)
        next->prev = w->prev;
    else
        q->tail = w->prev;
    if (w->prev)
        w->prev->next = next;
    else
        atomic_store_explicit(&q->head, next, memory_order_relaxed); /* as above */
    /* release: the last touch, where its owner only waits for that (rt_waiter_is_queued) */
    atomic_store_explicit(&w->queued, false, memory_order_release);
}

/* Its owner: false: it is out, and nobody touches it any more. True: it may be; look again under the lock. */
RT_INLINE bool rt_waiter_is_queued(const rt_waiter *w)
{
    return atomic_load_explicit(&w->queued, memory_order_acquire); /* pairs with rt_queue_remove */
}

/* The word of a wait: a count of waits, times four, and one of these. */
enum { RT_WAIT_NONE = 0, RT_WAIT_OPEN = 1, RT_WAIT_WON = 2 };

/* Its owner, before its records are published. */
RT_INLINE void rt_wait_open(rt_block *r)
{
    const uint64_t before =
        atomic_load_explicit(&r->wait, memory_order_relaxed); /* own: the last one is over */
    atomic_store_explicit(&r->wait, (before & ~UINT64_C(3)) + 4 + RT_WAIT_OPEN,
                          memory_order_relaxed); /* published by the locks of the queues */
}

/* Whoever would wake r, holding the lock of a queue or heap in which its wait stands: true for exactly one.
 */
RT_INLINE bool rt_wait_win(rt_block *r)
{
    uint64_t word = atomic_load_explicit(&r->wait, memory_order_relaxed); /* the compare-and-swap decides */
    /* acq_rel: what the winner does comes after the opening; the losers leave */
    return (word & 3) == RT_WAIT_OPEN &&
           atomic_compare_exchange_strong_explicit(&r->wait, &word, word - RT_WAIT_OPEN + RT_WAIT_WON,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* As rt_queue_remove, of the head. */
RT_INLINE void rt_queue_pop(rt_queue *q, rt_waiter *head)
{
    rt_waiter *next = head->next;
    if (RT_UNLIKELY(next != NULL))
        next->prev = NULL;
    atomic_store_explicit(&q->head, next, memory_order_relaxed);       /* as in rt_queue_head */
    atomic_store_explicit(&head->queued, false, memory_order_release); /* as in rt_queue_remove */
}

/* Under the lock: takes out the first waiter that can still be woken, and wins it. The caller readies
 * w->who when it has left. NULL: there is none. */
RT_INLINE rt_waiter *rt_queue_take(rt_queue *q)
{
    rt_waiter *w;
    while ((w = rt_queue_head(q)) != NULL) {
        if (RT_LIKELY(!w->won)) {
            rt_queue_pop(q, w);
            return w;
        }
        rt_waiter **won = w->won; /* both are its owner's again once it is out, unless we have won */
        if (rt_wait_win(w->who)) {
            rt_queue_pop(q, w);
            *won = w;
            return w;
        }
        rt_queue_pop(q, w);
    }
    return NULL;
}

/* Under the lock: takes out all that can still be woken, with this result, as a list by next, in their order,
 * at *end. Returns the new end. */
RT_INLINE rt_waiter **rt_queue_take_all(rt_queue *q, int32_t result, rt_waiter **end)
{
    for (rt_waiter *w; (w = rt_queue_take(q)) != NULL;) {
        w->result = result;
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    return end;
}

#endif
