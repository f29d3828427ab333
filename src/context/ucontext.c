/* SPDX-License-Identifier: MIT
 *
 * Floor 2. The same four functions on getcontext and its kin, for any CPU that has them in its libc
 * (glibc; musl has none). See context.h. Two to four system calls make each of them some
 * hundred times slower than assembly.
 *
 * A suspended stack's pointer points to a struct with a ucontext_t in the suspending frame. A
 * new stack has its struct above its first frame, where it stays: with what makecontext adds, 1 KiB
 * on x86-64 and RISC-V, but 4.5 KiB on AArch64, whose ucontext_t is that large.
 *
 * What differs from the assembly:
 * - setcontext sets the signal mask to the one stored with the context. It is to stay the thread's,
 *   as there, so the current mask is stored just before; a handler that edits the mask of
 *   the code it interrupts (uc_sigmask) between the two calls is not heeded.
 * - The floating-point exception flags are stored and loaded with the control words.
 * - rt_context_call ends in setcontext always, there being no portable way to set control words
 *   without libm.
 * - The chain of frame pointers, and where unwinding ends, are libc's makecontext's.
 */
#include "context.h"

#include "../base/panic.h"

#include <signal.h>
#include <ucontext.h>

struct suspended {
    ucontext_t context;
    rt_context_entry *entry; /* of a new stack only */
    void *value;             /* what the switch or return to it passes */
};

struct called {
    ucontext_t context;
    bool returned;
    void *value;
};

static void keep_mask(ucontext_t *to)
{
    if (pthread_sigmask(SIG_BLOCK, NULL, &to->uc_sigmask) != 0)
        rt_panic("the signal mask cannot be read");
}

void *rt_context_switch(void **save, void *to, void *value)
{
    struct suspended self, *other = to;
    other->value = value;
    *save = &self;
    keep_mask(&other->context);
    if (swapcontext(&self.context, &other->context) != 0)
        rt_panic("swapcontext failed");
    return self.value;
}

/* makecontext passes ints: the struct's address comes in halves. */
static void first(unsigned high, unsigned low)
{
    struct suspended *self = (struct suspended *)(((uintptr_t)high << 16 << 16) | low);
    self->entry(self->value);
    rt_panic("a context's entry function returned");
}

void *rt_context_make(void *top, rt_context_entry *entry)
{
    uintptr_t address = ((uintptr_t)top - sizeof(struct suspended)) & ~(uintptr_t)15;
    struct suspended *self = (struct suspended *)address;
    if (getcontext(&self->context) != 0)
        rt_panic("getcontext failed");
    self->entry = entry;
    /* The size is made up: only the end counts, stacks growing downwards. */
    self->context.uc_stack.ss_size = 4096;
    self->context.uc_stack.ss_sp = (char *)self - self->context.uc_stack.ss_size;
    self->context.uc_link = NULL;
    makecontext(&self->context, (void (*)(void))first, 2, (unsigned)(address >> 16 >> 16), (unsigned)address);
    return self;
}

void *rt_context_call(void **mark, void *(*fn)(void *), void *arg)
{
    struct called self;
    self.returned = false;
    if (getcontext(&self.context) != 0) /* comes back a second time from rt_context_return */
        rt_panic("getcontext failed");
    if (!self.returned) {
        *mark = &self;
        rt_context_return(&self, fn(arg));
    }
    return self.value;
}

void rt_context_return(void *mark, void *value)
{
    struct called *to = mark;
    to->returned = true;
    to->value = value;
    keep_mask(&to->context);
    setcontext(&to->context);
    rt_panic("setcontext failed");
}
