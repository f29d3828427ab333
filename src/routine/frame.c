/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Frames: the declarations that are valid to the end of their braces. See sched/frame.h.
 *
 * `cleanup` attributes end them when the braces are left; exit and panic, which leave no braces, end them by
 * the list. A frame that is ended has been begun: one that a goto has jumped past stands in no list, and is
 * nothing. If it is not the innermost, or a new one begins above an old one, those between were left by a
 * longjmp, or by the return of a function that was not compiled to clean up.
 */
#include "../base/panic.h"
#include "../os/clock.h"
#include "routine.h"

_Static_assert(sizeof(rt_frame) <= sizeof(routines_frame_t) &&
                   _Alignof(rt_frame) <= _Alignof(routines_frame_t),
               "a frame fits into the public record");

static RT_COLD RT_NORETURN void left_behind(void)
{
    rt_panic("the braces of a routine_with_timeout, _with_deadline, _shield, _defer or _scope were left by "
             "longjmp(), "
             "so they could not be ended: leave them by return, break or goto, or end the routine by "
             "routine_exit()");
}

/* What is in force from now on. look: has the limit passed meanwhile? */
static void put_in_force(rt_block *r, int64_t limit, bool shielded, bool look)
{
    uint16_t flags = r->attr.flags & (uint16_t) ~(RT_FLAG_LIMIT | RT_FLAG_SHIELD);
    if (limit != INT64_MAX)
        flags |= RT_FLAG_LIMIT;
    if (shielded)
        flags |= RT_FLAG_SHIELD;
    r->attr.flags = flags;
    const bool expired = limit != INT64_MAX && look && limit <= rt_clock_now();
    /* relaxed, all: for the routine itself alone */
    if (((atomic_load_explicit(&r->word, memory_order_relaxed) & RT_EXPIRED) != 0) == expired)
        return;
    if (expired)
        rt_frame_expire(r);
    else
        atomic_fetch_and_explicit(&r->word, ~(uint64_t)RT_EXPIRED, memory_order_relaxed);
}

/* Of a frame that was left by longjmp nothing may be left: other calls have written over it. */
static uint32_t tag_of(const rt_frame *f)
{
    return (uint32_t)((uintptr_t)f >> 3) * 2654435761u + 0x5bd1e995u;
}

/* For one who stands here: the function that began it has been left. A scope may be begun by a function for
 * its caller. */
static bool is_dead(const rt_frame *f, const char *here)
{
    return f->tag != tag_of(f) || (f->kind != RT_FRAME_SCOPE && f->here < here);
}

static void push(rt_frame *f, rt_block *r, uint8_t kind, const char *here)
{
    rt_frame *outer = rt_frame_top(r);
    if (outer && is_dead(outer, here))
        left_behind();
    f->outer = outer;
    f->tag = tag_of(f);
    f->kind = kind;
    f->here = here;
    f->limit = outer ? outer->limit : INT64_MAX;
    f->shielded = outer && outer->shielded;
    r->done.value = f;
    r->attr.flags |= RT_FLAG_FRAMES;
}

/* Takes the innermost, f, out, and puts in force what is outside of it. */
static void pop(rt_block *r, const rt_frame *f)
{
    rt_frame *outer = f->outer;
    r->done.value = outer;
    if (!outer)
        r->attr.flags &= (uint16_t)~RT_FLAG_FRAMES;
    if (f->kind == RT_FRAME_LIMIT || f->kind == RT_FRAME_SHIELD)
        /* under a shield nobody has looked */
        put_in_force(r, outer ? outer->limit : INT64_MAX, outer && outer->shielded,
                     f->kind == RT_FRAME_SHIELD ||
                         atomic_load_explicit(&r->word, memory_order_relaxed) & RT_EXPIRED); /* its own */
}

void rt_frame_shield(rt_frame *f, rt_block *r, const char *here)
{
    push(f, r, RT_FRAME_SHIELD, here);
    f->limit = INT64_MAX;
    f->shielded = true;
    put_in_force(r, INT64_MAX, true, false);
}

/* Ends the innermost, f. What it calls may leave in its turn, by exit or panic: then the others are ended
 * from there. */
static void end_innermost(rt_block *r, rt_frame *f)
{
    pop(r, f);
    if (f->kind == RT_FRAME_DEFER) { /* R11 */
        rt_frame around;
        rt_frame_shield(&around, r, rt_here());
        f->end(f->arg);
        rt_frame_end(&around);
    } else if (f->kind == RT_FRAME_SCOPE) {
        f->end(f);
    }
}

void rt_frame_begin(rt_frame *f, rt_block *r, uint8_t kind, const char *here)
{
    push(f, r, kind, here);
}

void rt_frame_end(rt_frame *f)
{
    rt_block *r = rt_self()->current;
    const rt_frame *top = r ? rt_frame_top(r) : NULL;
    if (RT_LIKELY(top != NULL) && RT_LIKELY(top == f)) {
        end_innermost(r, f);
        return;
    }
    for (; top; top = top->outer) {
        if (is_dead(top, rt_here()) || top == f)
            left_behind();
    }
}

void rt_frame_unwind(rt_block *r)
{
    for (rt_frame *f; (f = rt_frame_top(r)) != NULL;) {
        if (is_dead(f, rt_here()))
            left_behind();
        end_innermost(r, f);
    }
}

void routines_frame_end(routines_frame_t *frame)
{
    rt_frame_end((rt_frame *)(void *)frame);
}

/* passed: at has come already, as far as the caller knows. */
static void *limit(routines_frame_t *frame, int64_t at, bool passed, const char *here)
{
    rt_frame *f = (rt_frame *)(void *)frame;
    rt_block *r = rt_thread_here()->current;
    const int64_t outer = rt_frame_limit(r);
    push(f, r, RT_FRAME_LIMIT, here);
    if (at < outer) {
        f->limit = at;
        put_in_force(r, at, f->shielded, passed);
    }
    return frame;
}

void *routines_limit_timeout(routines_frame_t *frame, int64_t ns)
{
    return limit(frame, rt_clock_after(ns), ns <= 0, rt_here());
}

void *routines_limit_deadline(routines_frame_t *frame, int64_t at)
{
    return limit(frame, at, at <= rt_clock_now(), rt_here());
}

void *routines_shield_begin(routines_frame_t *frame, int nothing)
{
    (void)nothing;
    rt_frame_shield((rt_frame *)(void *)frame, rt_thread_here()->current, rt_here());
    return frame;
}

void *routines_defer_begin(routines_frame_t *frame, void (*fn)(void *), void *arg)
{
    rt_frame *f = (rt_frame *)(void *)frame;
    if (!fn)
        rt_panic("routine_defer() was given a null function");
    push(f, rt_thread_here()->current, RT_FRAME_DEFER, rt_here());
    f->end = fn;
    f->arg = arg;
    return frame;
}

int64_t routine_deadline(void)
{
    const rt_block *me = rt_self()->current;
    return me ? rt_frame_limit(me) : INT64_MAX;
}
