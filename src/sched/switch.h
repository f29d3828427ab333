/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The switch between two stacks as the scheduler makes it, and what is done on its other side.
 * For scheduler.c and park.c.
 */
#ifndef RT_SCHED_SWITCH_H
#define RT_SCHED_SWITCH_H

#include "../context/context.h"
#include "../context/sanitize.h"
#include "scheduler.h"

/* What a switch passes to the other side, to be done there: nothing; a commit; or, told by the lowest bits of
 * a word, to leave what the switch was made inside of: the worker's ready list, its seat, or a lock. For the
 * last two the word is the address of the routine that waits, with its wait yet to be opened. */
typedef struct {
    rt_commit_fn *fn;
    void *arg;
    rt_block *r;
} rt_commit;

#define RT_LEAVE_LIST   1u /* alone */
#define RT_LEAVE_LOCK   2u /* whose rt_bias is the routine's `link` */
#define RT_LEAVE_SEAT   3u
#define RT_LEAVE_WHAT   3u /* the bits of these */
#define RT_LEAVE_SHARED 4u /* with one of the last two: the wait is not ALONE */
#define RT_LEAVE_ALL    7u

RT_INLINE void *rt_switch_word(uintptr_t what)
{
    return (void *)what; // NOLINT(performance-no-int-to-ptr)
}

/* First thing on the other side of a switch. The thread may be another one than before. */
RT_INLINE void rt_switch_arrived(void *passed)
{
    const uintptr_t word = (uintptr_t)passed, what = word & RT_LEAVE_WHAT;
    rt_block *r = rt_switch_word(word & ~(uintptr_t)RT_LEAVE_ALL);
    if (RT_LIKELY(what == RT_LEAVE_SEAT)) {
        const bool canceled = rt_wait_open(r, (word & RT_LEAVE_SHARED) != 0);
        rt_seat_go(rt_self()->seat);
        if (RT_UNLIKELY(canceled))
            rt_ready_block(r);
    } else if (what == RT_LEAVE_LIST) {
        rt_ready_leave(&rt_self()->worker->ready);
    } else if (what == RT_LEAVE_LOCK) {
        rt_bias *bias = (rt_bias *)(void *)r->link;
        const bool canceled = rt_wait_open(r, (word & RT_LEAVE_SHARED) != 0);
        rt_bias_unlock(bias);
        if (RT_UNLIKELY(canceled))
            rt_ready_block(r);
    } else if (passed) {
        const rt_commit *c = passed;
        r = c->r; /* *c is gone once r is published */
        if (RT_UNLIKELY(!c->fn(r, c->arg)))
            rt_ready_block(r);
    }
}

/* From one stack to another; `last`: for ever. Returns what the switch back passes. */
RT_INLINE void *rt_switch_stacks(rt_stack *from, void **save, rt_stack *to, void *sp, void *pass, bool last)
{
    rt_sanitize_leave(last ? NULL : &from->fake, to->low, to->high, to->fiber);
    void *passed = rt_context_switch(save, sp, pass);
    rt_sanitize_arrive(from->fake);
    return passed;
}

/* The current routine is about to be suspended: notes its stack, if it has been run in place so far. */
RT_INLINE rt_stack *rt_switch_standing(rt_thread *t, rt_block *r)
{
    rt_stack *stack = t->stack;
    if (RT_UNLIKELY(r->stack != stack)) {
        r->stack = stack;
        r->attr.flags |= RT_FLAG_STACK;
    }
    return stack;
}

/* Leaves the stack `from`, on which a routine was running, for `next`, or whatever else is there, or the
 * thread's own stack. */
void rt_switch_leave(rt_thread *t, rt_stack *from, void **save, rt_block *next, rt_commit *c, bool last);

#endif
