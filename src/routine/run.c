/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Running a routine on a stack of its own, and its end.
 *
 * A stack runs one routine after the other: when one is over and the next to run has
 * not begun yet, it begins on the same stack, without a switch.
 */
#include "routine.h"

#include <errno.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../context/context.h"

void rt_run_drop_copy(rt_block *r)
{
    if (r->attr.flags & RT_FLAG_COPY_BLOCK) {
        rt_block *home = (rt_block *)(void *)((char *)r->arg - RT_COPY_OFFSET);
        rt_free_any(home);
    } else if (r->attr.flags & RT_FLAG_COPY_MALLOC) {
        free(r->arg);
    }
    r->attr.flags &= (uint16_t) ~(RT_FLAG_COPY_BLOCK | RT_FLAG_COPY_MALLOC);
}

/* All of its user's code is over: its argument is done with. */
static void drop_argument(rt_block *r, void *value)
{
    if (r->attr.flags & RT_FLAG_TOLD) {
        rt_told *told = r->arg;
        told->over(told, r, value);
    } else {
        rt_run_drop_copy(r);
    }
}

void rt_run_cleanup(rt_block *r, void *value)
{
    if (RT_UNLIKELY(r->attr.flags & RT_FLAG_FRAMES))
        rt_panic("a routine (started at %s) has returned, and braces with a routine_with_timeout, "
                 "_with_deadline, _shield, "
                 "_defer or _scope are still open: they were left by longjmp(), or not compiled to clean up",
                 r->where);
    const rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own */
    r->mark = NULL; /* there is no frame to exit to any more */
    if (extra && extra->cleanup) {
        rt_frame around;
        rt_frame_shield(&around, r, rt_here()); /* R11 */
        rt_leave();
        extra->cleanup(r);
        (void)rt_enter();
        rt_frame_end(&around);
    }
    drop_argument(r, value);
    if (r->attr.flags & RT_FLAG_STACK) {
        r->stack = NULL;
        r->attr.flags &= (uint16_t)~RT_FLAG_STACK;
    }
}

/* Delivers the result. The block may be gone when this returns. */
static void finish(rt_block *r, void *result, int status)
{
    r->done.value = result;
    r->attr.status = (int16_t)status;
    rt_block *next = rt_oneshot_fill(&r->done);
    if (next == &rt_oneshot_nobody) {
        if (RT_UNLIKELY(status == -ENOTRECOVERABLE) && !(r->attr.flags & RT_FLAG_TOLD))
            rt_panic_unjoined(r, result); /* given up while its defers ran */
        rt_release(r);
    } else if (next) {
        rt_ready_block(next);
    }
}

void rt_run_fail(rt_block *r, int status)
{
    rt_counts *counts = &rt_self()->worker->counts;
    rt_counter_add_release(&counts->started, 1);
    /* relaxed: a hint is enough to panic */
    if (status != -ECANCELED && !(r->attr.flags & RT_FLAG_TOLD) &&
        atomic_load_explicit(&r->word, memory_order_relaxed) & RT_DETACHED)
        rt_panic(
            "no memory for the stack of a detached routine (started at %s): nobody would learn that it did "
            "not run. Start fewer at a time, with smaller stacks, or join them",
            r->where);
    r->attr.status = (int16_t)status;
    drop_argument(r, NULL);
    /* before the result: a joiner finds it counted. cancelled after completed: stats.c reads it before */
    rt_counter_add_release(&counts->completed, 1);
    if (status == -ECANCELED)
        rt_counter_add_release(&counts->cancelled, 1);
    finish(r, NULL, status);
}

void rt_run_forked(const rt_block *r)
{
    rt_panic("this is a child process, forked from within a routine (started at %s): only its current stack "
             "exists here, so it must not return from the routine's function nor from a child run in place. "
             "End it by exit(), _exit() or exec",
             r->where);
}

void rt_run_stack(void *passed)
{
    rt_stack_begin(passed);
    rt_block *r = rt_self()->current;
    rt_stack *stack = rt_self()->stack;
    for (;;) {
        rt_runtime *rt = rt_block_runtime(r);
        r->parent = NULL;
        /* acquire: pairs with routine_cancel. R4: who starts it reads the bit */
        if (RT_UNLIKELY(atomic_load_explicit(&r->word, memory_order_acquire) & RT_CANCEL) ||
            RT_UNLIKELY(atomic_load_explicit(&rt->cancelling, memory_order_relaxed))) {
            rt_run_fail(r, -ECANCELED);
        } else {
            rt_counter_add_release(&rt_self()->worker->counts.started, 1);
            rt_leave();
            void *result = rt_context_call(&r->mark, r->fn, r->arg);
            if (RT_UNLIKELY(rt_enter()->forked))
                rt_run_forked(r);
            if (RT_UNLIKELY(r->attr.flags))
                rt_run_cleanup(r, result);
            const rt_thread *t = rt_self();
            if (RT_UNLIKELY(t->forked)) /* by a destructor */
                rt_run_forked(r);
            /* before the result: a joiner finds it counted */
            RT_COUNT(t, completed);
            finish(r, result, r->attr.status);
        }
        r = rt_stack_next(stack);
    }
}

void routine_exit(void *result)
{
    const rt_thread *t = rt_self();
    if (!rt_is_routine(t)) {
        if (t->forked)
            rt_run_forked(t->current);
        rt_panic(
            "routine_exit() was called by a plain thread: it ends routines; a thread ends by pthread_exit()");
    }
    if (!t->current->mark)
        rt_panic(
            "routine_exit() was called by the destructor of a routine-local value: the routine has ended "
            "already; return instead");
    rt_block *r = t->current;
    rt_frame_unwind(r);
    rt_context_return(r->mark, result);
}
