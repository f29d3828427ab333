/* SPDX-License-Identifier: MIT
 *
 * Floor 3. What waits for what: the records of waiters, which stand on their parked stacks, the queues of
 * an object that they stand in, and how a wait ends.
 *
 * A queue belongs to its object and changes under the object's lock only. A record in a queue is
 * alive: the one who waits takes its records out before it goes on, under the same locks.
 *
 * A wait can be ended by those who take its records out of queues (wakers), by the clock, and by a
 * cancellation. Exactly one of them wins it (R3), and makes the routine ready; the others leave it alone,
 * and its records are dropped wherever they are met. `wait` of its block is a count of its waits and the
 * state of the last one. By steps:
 *
 *  K1 A wait with one record and no limit is ALONE: its wakers come one at a time, under the lock
 *     of the object, and only a cancellation can come between. All others are shared, and won by
 *     compare-and-swap on `wait`.
 *  K2 A cancellation is rare, so it pays: it sets CANCEL in the word, heavy barrier, and then reads
 *     `wait`. Whoever opens a wait to it, or wins an ALONE one, does a store to `wait`, light
 *     barrier, and reads CANCEL. By the barriers at least one sees the other's store
 *     (membarrier.h).
 *  K3 Only the wait of a saved routine is open to a cancellation. An ALONE wait is opened on the
 *     other side of the switch, before the lock of its object is left: who is cancelled then cannot
 *     go on before that, since its record is still in the queue. So is a select without a limit, as
 *     EXPOSED. Any other is opened, SHARED, before the switch, for wakers, who only find what is
 *     published, and for the clock, which if it comes that early only leaves a note, EARLY. The
 *     last act of the other side, which touches nothing of its stack any more, makes it EXPOSED to
 *     cancellations too, by compare-and-swap, since it may be over by then; or finds EARLY, and
 *     ends it for the clock.
 *  K4 Who opens a wait and then reads CANCEL ends it itself, as the cancellation would.
 *  K5 A waker wins an ALONE wait by a plain store of WOKEN, and if it reads no CANCEL (K2) that is
 *     all. If it does, and so would the cancellation (or K4) that has read ALONE, they settle it:
 *     who sets SETTLED in the word first, by compare-and-swap on the id. One bit is enough for a
 *     routine's whole life: once it is set, so is CANCEL, and seen by the routine before it begins
 *     its next wait, which then is not opened to cancellations, or not begun. And a wait whose
 *     waker has read no CANCEL is not met by a cancellation, since that reads WOKEN (K2). A
 *     cancellation that reads that, or finds another id in the word after it has read `wait`,
 *     leaves it alone. A cancellation that wins makes `wait` CANCELED, by compare-and-swap, so that
 *     it is over for the next id too; a waker's WOKEN may take its place.
 *  K6 So the one who waited learns how an ALONE wait ended from its record, whose result every
 *     waker sets; and of a shared one from `wait`.
 *  K7 A deaf wait (under a shield, of a join, inside once) is never opened to cancellations: DEAF
 *     instead of ALONE, SEALED instead of EXPOSED.
 */
#ifndef RT_SCHED_WAIT_H
#define RT_SCHED_WAIT_H

#include "../os/membarrier.h"
#include "block.h"

typedef struct rt_waiter {
    struct rt_waiter *next, *prev; /* under the lock of the queue's object */
    rt_block *who;
    struct rt_waiter **won; /* null, or where the waker notes which of several records won */
    void *data;             /* what is transferred, and where to: the object's affair, as the next two */
    int32_t result;         /* RT_PENDING, until set by the waker */
    int32_t kind;
    _Atomic bool queued; /* release when it leaves the queue, so that its owner may see it without the lock */
} rt_waiter;

#define RT_PENDING INT32_MIN

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

/* The states of `wait`, below its count. */
enum {
    RT_WAIT_NONE,
    RT_WAIT_ALONE,
    RT_WAIT_DEAF,     /* ALONE, but not for cancellations */
    RT_WAIT_SHARED,   /* for wakers; being published */
    RT_WAIT_EXPOSED,  /* for wakers, the clock and cancellations */
    RT_WAIT_SEALED,   /* EXPOSED, but not for cancellations */
    RT_WAIT_EARLY,    /* the clock came before it was published */
    RT_WAIT_WOKEN,    /* over, as the next two: by a waker, */
    RT_WAIT_CLOCK,    /* by the clock, */
    RT_WAIT_CANCELED, /* by a cancellation */
    RT_WAIT_BITS = 4
};

#define RT_WAIT_STATES   ((UINT64_C(1) << RT_WAIT_BITS) - 1)
#define RT_WAIT_STATE(w) ((w)&RT_WAIT_STATES)

/* The next wait of r, in this state. Its owner, or the other side of its switch. */
RT_INLINE uint64_t rt_wait_begin(rt_block *r, uint64_t state)
{
    const uint64_t before =
        atomic_load_explicit(&r->wait, memory_order_relaxed);   /* its own: the last one is over */
    const uint64_t now = (before | RT_WAIT_STATES) + 1 + state; /* the next count */
    /* release: who reads it finds the routine saved (K3). To wakers it is published by their lock */
    atomic_store_explicit(&r->wait, now, memory_order_release);
    return now;
}

RT_INLINE bool rt_is_canceled(const rt_block *r)
{
    /* acquire: pairs with routine_cancel, so what the canceller did before is seen; ordered by K2 */
    return (atomic_load_explicit(&r->word, memory_order_acquire) & RT_CANCEL) != 0;
}

/* K5: true for one of the two. */
RT_COLD bool rt_wait_settle(rt_block *r, uint64_t id);

/* Who waits: by those who know that it does. */
RT_INLINE uint64_t rt_wait_id(const rt_block *r)
{
    return RT_WORD_ID(
        atomic_load_explicit(&r->word, memory_order_relaxed)); /* does not change while it waits */
}

/* `wait` as it was seen, to another state. False: it is not that any more, and *wait what it is. */
RT_INLINE bool rt_wait_change(rt_block *r, uint64_t *wait, uint64_t state)
{
    /* acquire if it fails: what the winner has read is done with. seq_cst: K2, where no heavy barrier helps;
     * what the winner does comes after the opening, and its owner's doings after that */
    return atomic_compare_exchange_strong_explicit(&r->wait, wait, *wait - RT_WAIT_STATE(*wait) + state,
                                                   memory_order_seq_cst, memory_order_acquire);
}

/* A waker of a shared wait; `wait` is how it was seen. */
RT_INLINE bool rt_wait_win_shared(rt_block *r, uint64_t wait)
{
    do {
        const uint64_t state = RT_WAIT_STATE(wait);
        if (state != RT_WAIT_EXPOSED && state != RT_WAIT_SHARED && state != RT_WAIT_SEALED)
            return false;
    } while (!rt_wait_change(r, &wait, RT_WAIT_WOKEN));
    return true;
}

/* The clock, holding the lock of the timers in which r's alarm is: true if it is to make r ready. */
bool rt_wait_win_clock(rt_block *r);

/* A waker, holding the lock of a queue in which r's record is: true if it has won the wait, and is to wake r.
 */
RT_INLINE bool rt_wait_win(rt_block *r)
{
    const uint64_t wait = atomic_load_explicit(&r->wait, memory_order_relaxed); /* see each case */
    const uint64_t state = RT_WAIT_STATE(wait);
    if (RT_LIKELY(state == RT_WAIT_ALONE || state == RT_WAIT_DEAF)) {
        /* K5. relaxed: of all others only a cancellation looks, and takes nothing from it */
        atomic_store_explicit(&r->wait, wait - state + RT_WAIT_WOKEN, memory_order_relaxed);
        rt_membarrier_light(); /* K2 */
        if (RT_LIKELY(!rt_is_canceled(r)))
            return true;
        return state == RT_WAIT_DEAF || rt_wait_settle(r, rt_wait_id(r));
    }
    return rt_wait_win_shared(r, wait);
}

/* K4, of a wait without a limit. */
RT_COLD bool rt_wait_open_canceled(rt_block *r, uint64_t wait);

/* On the other side of its switch, under the locks of all objects in whose queues r has a record (K3): opens
 * its wait, which has no limit; shared: there are several. True: it has been cancelled, and the caller is to
 * make it ready when it has left the locks (K4). */
RT_INLINE bool rt_wait_open(rt_block *r, bool shared)
{
    if (RT_UNLIKELY(r->attr.flags & RT_FLAG_SHIELD)) { /* read before anybody can wake it */
        rt_wait_begin(r, shared ? RT_WAIT_SEALED : RT_WAIT_DEAF);
        return false;
    }
    const uint64_t wait = rt_wait_begin(r, shared ? RT_WAIT_EXPOSED : RT_WAIT_ALONE);
    rt_membarrier_light(); /* K2 */
    return RT_UNLIKELY(rt_is_canceled(r)) && rt_wait_open_canceled(r, wait);
}

/* The last act of the other side of a switch (K3): the shared wait of r, as it was opened, is published.
 * True: it is over by the clock or a cancellation (K4), and the caller is to make it ready. */
bool rt_wait_expose(rt_block *r, uint64_t wait, bool deaf);

/* A cancellation: CANCEL was set in r's word while its id was this, and a heavy barrier has followed. True:
 * it has ended its wait, and the caller is to make it ready. */
bool rt_wait_cancel(rt_block *r, uint64_t id);

/* As rt_queue_remove, of the head. */
RT_INLINE void rt_queue_pop(rt_queue *q, rt_waiter *head)
{
    rt_waiter *next = head->next;
    if (RT_UNLIKELY(next != NULL))
        next->prev = NULL;
    atomic_store_explicit(&q->head, next, memory_order_relaxed);       /* as in rt_queue_head */
    atomic_store_explicit(&head->queued, false, memory_order_release); /* as in rt_queue_remove */
}

/* Under the lock: takes out the first waiter that can still be woken, and wins it. The caller sets its
 * result, and readies w->who when it has left. NULL: there is none. */
RT_INLINE rt_waiter *rt_queue_take(rt_queue *q)
{
    rt_waiter *w;
    while ((w = rt_queue_head(q)) != NULL) {
        rt_waiter **won = w->won; /* both are its owner's again once it is out, unless we have won */
        const bool mine = rt_wait_win(w->who);
        rt_queue_pop(q, w);
        if (RT_LIKELY(mine)) {
            if (RT_UNLIKELY(won != NULL))
                *won = w;
            return w;
        }
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
