/* SPDX-License-Identifier: MIT
 *
 * Floor 2. The one thread-local word of the library, read in a way that the
 * compiler cannot see through.
 *
 * A routine may come back from a switch on another thread, and compilers keep the
 * address of a thread-local variable over any call (gcc 12, clang 14, at -O2).
 * So no C code of the library names a thread-local variable: volatile
 * assembly computes its address anew each time. In an executable the linker
 * turns it into a constant offset: two instructions.
 */
#ifndef RT_CONTEXT_SELF_H
#define RT_CONTEXT_SELF_H

#include "../base/base.h"

struct rt_thread;

/* What the word of a thread is that the library has not met: it has no worker and no current routine. So the
 * hot paths need no test for null. Defined in scheduler.c; nothing in it is read that is ever written. */
extern struct rt_thread rt_nobody;

/* Sets the word for the calling thread. */
void rt_self_set(struct rt_thread *thread);

#if defined(__x86_64__) && defined(__LP64__)

RT_INLINE struct rt_thread *rt_self(void)
{
    struct rt_thread *thread;
    __asm__ volatile("movq rt_self_word@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(thread));
    return thread;
}

#elif defined(__aarch64__)

RT_INLINE struct rt_thread *rt_self(void)
{
    struct rt_thread *thread;
    uintptr_t offset;
    __asm__ volatile("mrs %0, tpidr_el0\n\t"
                     "adrp %1, :gottprel:rt_self_word\n\t"
                     "ldr %1, [%1, #:gottprel_lo12:rt_self_word]\n\t"
                     "ldr %0, [%0, %1]"
                     : "=&r"(thread), "=&r"(offset));
    return thread;
}

#elif defined(__riscv) && __riscv_xlen == 64

RT_INLINE struct rt_thread *rt_self(void)
{
    struct rt_thread *thread;
    __asm__ volatile("la.tls.ie %0, rt_self_word\n\t"
                     "add %0, %0, tp\n\t"
                     "ld %0, 0(%0)"
                     : "=r"(thread));
    return thread;
}

#else

struct rt_thread *rt_self(void);

#endif

#endif
