/* SPDX-License-Identifier: MIT
 *
 * Floor 4. See overflow.h. The handler reads the thread's current routine and
 * compares the faulting address with the guard of the stack that it stands on.
 */
#define _GNU_SOURCE
#include "overflow.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/panic.h"
#include "../os/pages.h"
#include "../sched/scheduler.h"

#define SIGNAL_STACK ((size_t)64 << 10)

static struct sigaction before;

static const char *name_of(const rt_block *r)
{
    const rt_extra *extra =
        atomic_load_explicit(&r->extra, memory_order_relaxed); /* the thread's own routines */
    return extra ? extra->name : "";
}

static void report(const rt_block *r)
{
    const char *name = name_of(r);
    rt_warn("stack overflow in routine %llu%s%s%s: its stack of %zu KiB is used up. It was started at %s. "
            "Start it by "
            "go_with with a larger stack_size, set ROUTINES_STACK_SIZE, or keep large arrays elsewhere",
            (unsigned long long)RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_relaxed)),
            *name ? " \"" : "", name, *name ? "\"" : "", (size_t)r->attr.stack_pages * RT_STACK_UNIT >> 10,
            r->where);
    for (const rt_block *p = r->parent; p; p = p->parent)
        rt_warn("    it was run on the stack of its joiner, routine %llu%s%s%s, started at %s",
                (unsigned long long)RT_WORD_ID(atomic_load_explicit(&p->word, memory_order_relaxed)),
                *name_of(p) ? " \"" : "", name_of(p), *name_of(p) ? "\"" : "", p->where);
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    const rt_thread *t = rt_self();
    const rt_block *r = rt_is_routine(t) ? t->current : NULL;
    const rt_stack *stack = r ? t->stack : NULL;
    const char *at = info->si_addr;
    if (stack && info->si_code > 0 && at < stack->low && at >= stack->low - stack->guard) {
        report(r);
        signal(signo, SIG_DFL); /* the instruction faults again, and the core shows it */
        return;
    }
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signo, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        signal(signo, SIG_DFL);
        if (info->si_code <= 0)
            raise(signo); /* it was sent, so it would not come again by itself */
    } else {
        before.sa_handler(signo);
    }
}

void rt_overflow_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, NULL, &before) == 0)
        sigaction(SIGSEGV, &action, NULL);
}

void *rt_overflow_attach(void)
{
    stack_t now;
    if (sigaltstack(NULL, &now) != 0 || !(now.ss_flags & SS_DISABLE))
        return NULL; /* a sanitizer gave it one */
    void *memory = rt_pages_reserve(SIGNAL_STACK, rt_pages_size());
    if (!memory)
        return NULL;
    const stack_t stack = {.ss_sp = memory, .ss_size = SIGNAL_STACK};
    sigaltstack(&stack, NULL);
    return memory;
}

void rt_overflow_detach(void *memory)
{
    if (!memory)
        return;
    const stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    rt_pages_release(memory, SIGNAL_STACK);
}
