/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The lock of what blocks routines (channels, semaphores, ...): a small lock that is
 * biased to one worker. Most such objects are used by one worker for a long time, since who is
 * woken runs where its waker does; that worker enters and leaves by plain stores, and the one that comes
 * from elsewhere pays for the barrier (after Java's biased locking: Kawachiya, Koseki and Onodera 2002,
 * Russell and Detlefs 2006).
 *
 * A worker has a *seat*, which is never unmapped, so that an object may outlive the runtime of the
 * worker that it is biased to. `inside` of a seat counts the entries and exits of its holder into
 * whatever is biased to it: odd, it is in.
 *
 *  B1 The holder of a seat makes `inside` odd, light barrier, reads `owner`. If that is its seat, it
 *     is in. If not, it makes `inside` even again, and takes the lock as anybody does.
 *  B2 Anybody else takes `lock`. If then `owner` is a seat, and not its own, it clears owner, heavy
 *     barrier, reads that seat's inside; if odd, it waits until inside has changed. Then it is in, until
 *     it releases the lock. (The holder itself may take the lock too: it keeps out all others.)
 *  B3 By the barriers, of a holder that enters (B1) and the one that clears owner (B2) at least one
 *     sees the other (membarrier.h): the holder finds owner cleared, or its odd inside is waited for. A
 *     change of inside means that the visit of then is over; a later one has seen owner cleared.
 *  B4 Leaving by bias makes inside even by a release store, light barrier, and reads `wanted`; the
 *     one who waits (B2) counts itself in `wanted` before its heavy barrier. So it sees the change, or
 *     is woken.
 *  B5 `owner` changes under `lock` only. It becomes a seat again when the lock has been taken by that
 *     seat's holder many times in a row, or when that one had to wait for it: then others want it at the
 *     same time, and it goes back and forth less often so, since who finds it in use waits a little (bias.c).
 *  B6 Inside, no bias lock is taken by waiting for a seat, and nothing is waited for but locks whose
 *     holders never wait for a seat: so whoever is inside soon leaves. Several objects are entered at
 *     once either all by bias, in one visit of the seat, or all by their locks, in the order of
 *     their addresses.
 *
 * The section may be held over a switch of stacks: a routine that is about to wait enters itself and is
 * published only when the other side of the switch leaves (design, invariant 1). It ends on the same worker.
 */
#ifndef RT_SCHED_BIAS_H
#define RT_SCHED_BIAS_H

#include "../os/futex.h"
#include "../os/membarrier.h"

typedef struct rt_seat {
    /* its holder's */
    RT_ALIGNED _Atomic uint32_t inside;
    _Atomic bool waits;    /* for somebody else to leave: a hint for thieves */
    _Atomic int32_t trust; /* do objects stay with the worker that made them? hint, also written by others */
    uint16_t number;       /* constant; 0: nothing is ever biased to it */
    /* others' */
    RT_ALIGNED _Atomic uint32_t wanted;
    /* under the pool's lock */
    struct rt_seat *link, *older;
} rt_seat;

typedef struct {
    _Atomic(rt_seat *) owner; /* null: nobody's */
    rt_lock_t lock;
    /* under lock */
    uint32_t streak; /* entries in a row by the seat `last` */
    uint16_t last;
    bool moved; /* it has been used by more than one */
} rt_bias;

_Static_assert(sizeof(rt_bias) == 24, "the types of sync.h leave three words for it");

/* What plain threads sit on: nothing is biased to it. */
extern rt_seat rt_no_seat;

/* A seat for a worker; NULL: no memory. And back, when its worker is at rest for good. */
rt_seat *rt_seat_get(void);
void rt_seat_put(rt_seat *seat);

/* fork: before; after; and in the child, where no worker is left. */
void rt_seat_fork_lock(void);
void rt_seat_fork_unlock(void);
void rt_seat_fork_child(void);

RT_COLD void rt_seat_wake(rt_seat *seat);

/* B2. */
RT_NOINLINE void rt_bias_lock(rt_bias *b, rt_seat *mine);

RT_INLINE void rt_bias_unlock(rt_bias *b)
{
    rt_lock_release(&b->lock);
}

RT_INLINE void rt_seat_come(rt_seat *mine)
{
    /* release: what the visit before did is seen also by one who waits for its end and finds this one
     * already; the order that counts is the barrier's, B1 */
    atomic_store_explicit(&mine->inside, atomic_load_explicit(&mine->inside, memory_order_relaxed) + 1,
                          memory_order_release);
    rt_membarrier_light();
}

RT_INLINE void rt_seat_go(rt_seat *mine)
{
    /* release: B4, pairs with the acquire load in revoke */
    atomic_store_explicit(&mine->inside, atomic_load_explicit(&mine->inside, memory_order_relaxed) + 1,
                          memory_order_release);
    rt_membarrier_light();
    if (RT_UNLIKELY(atomic_load_explicit(&mine->wanted, memory_order_relaxed) != 0)) /* B4 */
        rt_seat_wake(mine);
}

/* Enters. Returns how, for rt_bias_leave: `mine`, or NULL for the lock. Does not block, but for the lock. */
RT_INLINE rt_seat *rt_bias_enter(rt_bias *b, rt_seat *mine)
{
    /* relaxed: a hint; the next look counts */
    if (RT_LIKELY(atomic_load_explicit(&b->owner, memory_order_relaxed) == mine)) {
        rt_seat_come(mine);
        if (RT_LIKELY(atomic_load_explicit(&b->owner, memory_order_acquire) == mine)) /* B1; pairs with B5 */
            return mine;
        rt_seat_go(mine);
    }
    rt_bias_lock(b, mine);
    return NULL;
}

RT_INLINE void rt_bias_leave(rt_bias *b, rt_seat *how)
{
    if (RT_LIKELY(how != NULL))
        rt_seat_go(how);
    else
        rt_bias_unlock(b);
}

/* For a new object that nobody else knows yet: biased to the seat, if that has been worth it lately. */
void rt_bias_init(rt_bias *b, rt_seat *mine);

/* The object goes; nobody else uses it any more. */
void rt_bias_end(const rt_bias *b, rt_seat *mine);

#endif
