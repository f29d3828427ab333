/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Panics of routines: a text that travels to whoever joins, or the end of the process.
 *
 * The text is on its way out in the routine's rt_more, so that a second panic or an exit by a defer
 * can replace it; then in done.value, as the result would be; then with the joiner.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../context/context.h"
#include "../os/backtrace.h"
#include "routine.h"

static _Atomic(routine_panic_hook_t *) hook;

routine_panic_hook_t *routine_set_panic_hook(routine_panic_hook_t *next)
{
    return atomic_exchange_explicit(&hook, next, memory_order_acq_rel); /* pairs with the load in unheard */
}

/* NULL: no memory. */
static RT_NOINLINE rt_message *compose(const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int length =
        vsnprintf(NULL, 0, format, again); // NOLINT(clang-analyzer-valist.Uninitialized): it was copied
    va_end(again);
    if (length < 0)
        return NULL;
    rt_message *m = malloc(sizeof *m + (size_t)length + 1);
    if (m) {
        vsnprintf(m->text, (size_t)length + 1, format, args);
        m->count = rt_backtrace(m->frames, RT_MESSAGE_FRAMES);
    }
    return m;
}

static const char *text_of(const rt_message *m)
{
    return m ? m->text : "(there was no memory for the text of this panic)";
}

/* On stderr, all there is to say. */
static void report(const routine_panic_t *panic, const rt_message *m)
{
    if (panic->id)
        rt_warn("panic: %.700s\n    in routine %llu%s%s%s, started at %s, which nobody joins", panic->message,
                (unsigned long long)panic->id, *panic->name ? " \"" : "", panic->name,
                *panic->name ? "\"" : "", panic->where);
    else
        rt_warn("panic: %s\n    in a plain thread", panic->message);
    if (m && m->count > 0)
        rt_backtrace_write(m->frames, m->count);
}

/* Returns only if the hook says so. */
static void unheard(const routine_panic_t *panic, const rt_message *m)
{
    routine_panic_hook_t *fn = atomic_load_explicit(&hook, memory_order_acquire);
    const bool inside = atomic_load_explicit(&rt_self()->inside, memory_order_relaxed) != 0; /* own */
    if (inside)
        rt_leave();
    const bool goes_on = fn && fn(panic) && panic->id;
    if (inside)
        (void)rt_enter();
    if (goes_on)
        return;
    report(panic, m);
    abort();
}

void rt_panic_unheard(uint64_t id, const char *name, const char *where, rt_message *message)
{
    const routine_panic_t panic = {.message = text_of(message), .id = id, .name = name, .where = where};
    unheard(&panic, message);
    free(message);
}

void rt_panic_unjoined(const rt_block *r, rt_message *message)
{
    const rt_extra *extra =
        atomic_load_explicit(&r->extra, memory_order_acquire); /* pairs with rt_local_extra */
    /* relaxed: the id does not change now */
    rt_panic_unheard(RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_relaxed)),
                     extra ? extra->name : "", r->where, message);
}

void rt_panic_hear(rt_message *message)
{
    rt_more *more = rt_local_more(rt_thread_here()->current);
    if (!more) {
        free(message);
        return;
    }
    free(more->heard);
    more->heard = message;
}

const char *routine_panic_message(void)
{
    const rt_block *me = rt_self()->current;
    const rt_extra *extra = me ? atomic_load_explicit(&me->extra, memory_order_relaxed) : NULL; /* own */
    return extra && extra->more && extra->more->heard ? extra->more->heard->text : "";
}

/* The text that is on its way out is this one now. */
static void say(rt_block *r, rt_message *message)
{
    rt_more *more = message ? rt_local_more(r) : NULL;
    if (!more) {
        free(message);
        return;
    }
    free(more->said);
    more->said = message;
}

static rt_message *said(rt_block *r)
{
    const rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own */
    if (!extra || !extra->more)
        return NULL;
    rt_message *message = extra->more->said;
    extra->more->said = NULL;
    return message;
}

void routine_panic(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    rt_message *message = compose(format, args);
    va_end(args);
    const rt_thread *t = rt_thread_here();
    rt_block *r = t->current;
    if (rt_is_routine(t) && !r->mark)
        rt_panic("routine_panic() was called by the destructor of a routine-local value, when the routine "
                 "had ended: %s",
                 text_of(message));
    say(r, message);
    rt_frame_unwind(r);
    message = said(r);
    if (!rt_is_routine(rt_self())) {
        const routine_panic_t panic = {.message = text_of(message), .name = "", .where = ""};
        unheard(&panic, message);
    }
    /* relaxed: if it is given up meanwhile, finish finds out */
    if (atomic_load_explicit(&r->word, memory_order_relaxed) & RT_DETACHED &&
        !(r->attr.flags & RT_FLAG_TOLD)) {
        rt_panic_unjoined(r, message); /* here, where the stack shows what was wrong */
        message = NULL;
        rt_context_return(r->mark, NULL);
    }
    r->attr.status = -ENOTRECOVERABLE;
    r->attr.flags |= RT_FLAG_PANIC;
    rt_context_return(r->mark, message);
}
