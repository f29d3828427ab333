/* SPDX-License-Identifier: MIT
 *
 * Floor 3. What is in force for a routine: its frames, and the question whether it is to go on.
 *
 * A frame is a record of a declaration that is valid to the end of its braces (base.h); the innermost one
 * stands in done.value of the block, which has no result yet. Each says what is in force inside of it. Frames
 * are their routine's own: nobody else looks at them. They begin and end in routine/frame.c.
 *
 * The word's EXPIRED says that the limit in force has passed: a hot call looks at it and at CANCEL by one
 * load, and reads no clock (R11).
 */
#ifndef RT_SCHED_FRAME_H
#define RT_SCHED_FRAME_H

#include "block.h"

typedef struct rt_frame {
    struct rt_frame *outer;
    int64_t limit;       /* in force inside; INT64_MAX: none */
    const char *here;    /* where the stack was when it began */
    void (*end)(void *); /* a defer's function; a scope's end */
    void *arg;
    uint8_t kind;  /* RT_FRAME_… */
    bool shielded; /* inside */
    uint32_t tag;  /* of its own address: has it been written over? */
} rt_frame;

/* Where the calling function's caller stands: the same for all that one function calls, whatever their own
 * frames. (A frame address is not, on AArch64.) */
#define rt_here() ((const char *)__builtin_dwarf_cfa())

enum { RT_FRAME_LIMIT, RT_FRAME_SHIELD, RT_FRAME_DEFER, RT_FRAME_SCOPE };

RT_INLINE rt_frame *rt_frame_top(const rt_block *r)
{
    return r->attr.flags & RT_FLAG_FRAMES ? r->done.value : NULL;
}

RT_INLINE int64_t rt_frame_limit(const rt_block *r)
{
    return RT_LIKELY(!(r->attr.flags & RT_FLAG_LIMIT)) ? INT64_MAX : rt_frame_top(r)->limit;
}

/* The routine itself has found that its limit has passed. */
void rt_frame_expire(rt_block *r);

/* The calling routine, or thread, is about to begin something that can block; NULL: a thread that the library
 * has not met. 0, -ECANCELED or -ETIMEDOUT. */
RT_COLD int rt_frame_stop_slow(const rt_block *me);

/* False: it says 0. */
RT_INLINE bool rt_frame_may_stop(const rt_block *me)
{
    /* acquire: pairs with routine_cancel */
    return (atomic_load_explicit(&me->word, memory_order_acquire) & (RT_CANCEL | RT_EXPIRED)) != 0;
}

RT_INLINE int rt_frame_stop(const rt_block *me)
{
    return RT_UNLIKELY(me && rt_frame_may_stop(me)) ? rt_frame_stop_slow(me) : 0;
}

#endif
