/* SPDX-License-Identifier: MIT
 *
 * Floor 3. A worker's routines that are ready to go on, in two queues: those that were
 * woken, with a next slot at the head, and those that yielded, which let everybody else go
 * first. Linked through the blocks, so they need no memory.
 *
 * Yielding and waking are the hottest things that a worker does with it, being robbed
 * by a thief is rare. So the lock is biased: the owner enters and leaves by plain
 * stores, the thief pays for the barrier (membarrier.h).
 *
 *  L1 The owner sets owner_in, light barrier, reads thief_in. If a thief is in, it
 *     backs out and tries again for as long as a thief usually takes. If the list stays closed (the thief
 *     has lost its CPU), it does without: pushes go to the shared queue, pops find nothing.
 *  L2 A thief wins thief_in from other thieves by compare-and-swap, heavy
 *     barrier, reads owner_in. If the owner is in, it backs out.
 *  L3 By the barriers not both read the other's flag as clear (membarrier.h), so not
 *     both are inside. Both may back out; nothing is lost by that.
 *  L4 Leaving is a release store, entering reads the other's flag by acquire: what one wrote
 *     inside, the next one sees.
 *
 * The owner may hold the list across a switch of stacks: a routine that yields appends itself
 * and is published only when the next one, on the same thread, leaves the list; by then
 * its registers are saved (design, invariant 1).
 */
#ifndef RT_SCHED_READY_H
#define RT_SCHED_READY_H

#include "../os/membarrier.h"
#include "block.h"

/* First in, first out. */
typedef struct {
    rt_block *head;
    rt_block *tail; /* means something while head is not null */
} rt_fifo;

typedef struct {
    /* owner's */
    RT_ALIGNED _Atomic uint32_t owner_in;
    bool next; /* inside: the head of `woken` stands in the next slot: it was put there, not queued */
    /* inside */
    rt_fifo woken;
    rt_fifo yielded;
    _Atomic uint64_t count; /* of both; written inside, read as a hint */
    /* thieves' */
    RT_ALIGNED _Atomic uint32_t thief_in;
} rt_ready;

/* Owner: true: in; false: a thief is (L1). */
RT_INLINE bool rt_ready_enter(rt_ready *l)
{
    atomic_store_explicit(&l->owner_in, 1, memory_order_relaxed); /* ordered by the barrier, L1 */
    rt_membarrier_light();
    if (RT_LIKELY(!atomic_load_explicit(&l->thief_in, memory_order_acquire))) /* L4 */
        return true;
    atomic_store_explicit(&l->owner_in, 0, memory_order_release);
    return false;
}

/* Owner: the same, having waited for up to a few microseconds, which is what a thief takes (L1). */
RT_COLD bool rt_ready_enter_wait(rt_ready *l);

/* Owner: in; false: a thief is in, and stays. */
RT_INLINE bool rt_ready_enter_soon(rt_ready *l)
{
    return RT_LIKELY(rt_ready_enter(l)) || rt_ready_enter_wait(l);
}

/* Owner. */
RT_INLINE void rt_ready_leave(rt_ready *l)
{
    atomic_store_explicit(&l->owner_in, 0, memory_order_release); /* L4 */
}

RT_INLINE void rt_ready_count(rt_ready *l, uint64_t change)
{
    /* relaxed: a hint; whoever relies on it has a barrier of its own (idle.h) */
    atomic_store_explicit(&l->count, atomic_load_explicit(&l->count, memory_order_relaxed) + change,
                          memory_order_relaxed);
}

RT_INLINE void rt_fifo_append(rt_fifo *f, rt_block *r)
{
    r->link = NULL;
    if (f->head)
        f->tail->link = r;
    else
        f->head = r;
    f->tail = r;
}

/* Inside: was woken, at the end of the queue. Its stack may be in no cache: by the time it has its turn, it
 * is. */
RT_INLINE void rt_ready_append(rt_ready *l, rt_block *r)
{
    __builtin_prefetch(r->sp, 1);
    __builtin_prefetch((const char *)r->sp + RT_CACHE_LINE, 1);
    rt_fifo_append(&l->woken, r);
    rt_ready_count(l, 1);
}

/* Inside: has yielded. */
RT_INLINE void rt_ready_append_yielded(rt_ready *l, rt_block *r)
{
    rt_fifo_append(&l->yielded, r);
    rt_ready_count(l, 1);
}

/* Inside: the next one that was woken, or NULL. */
RT_INLINE rt_block *rt_ready_pop(rt_ready *l)
{
    rt_block *r = l->woken.head;
    if (r) {
        l->woken.head = r->link;
        l->next = false;
        rt_ready_count(l, UINT64_MAX);
    }
    return r;
}

/* Inside: the next one that has yielded, or NULL. */
RT_INLINE rt_block *rt_ready_pop_yielded(rt_ready *l)
{
    rt_block *r = l->yielded.head;
    if (r) {
        l->yielded.head = r->link;
        rt_ready_count(l, UINT64_MAX);
    }
    return r;
}

/* Inside: into the next slot. Who stood there goes to the end of the queue: of many that are woken in a
 * row the last one runs first, the others in their order (as Go's runnext). */
RT_INLINE void rt_ready_put_next(rt_ready *l, rt_block *r)
{
    if (l->next)
        rt_ready_append(l, rt_ready_pop(l));
    r->link = l->woken.head;
    if (!l->woken.head)
        l->woken.tail = r;
    l->woken.head = r;
    l->next = true;
    rt_ready_count(l, 1);
}

/* Anybody: how many it seems to have. */
RT_INLINE uint64_t rt_ready_size(const rt_ready *l)
{
    return atomic_load_explicit(&l->count, memory_order_relaxed); /* a hint */
}

/* A thief: up to half of them, at least one, at most `most`, from the head, as a chain by link; *got says how
 * many. NULL: none, or somebody else is in. */
rt_block *rt_ready_steal(rt_ready *l, uint64_t most, uint64_t *got);

#endif
