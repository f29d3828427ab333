/* SPDX-License-Identifier: MIT
 *
 * Floor 2. See self.h. Never compiled with link-time optimisation, which would
 * look through the functions here.
 */
#include "self.h"

/* initial-exec: what the assembly in self.h is written for */
_Thread_local struct rt_thread *rt_self_word
    __attribute__((tls_model("initial-exec"), visibility("hidden"), used)) = &rt_nobody;

RT_NOINLINE void rt_self_set(struct rt_thread *thread)
{
    __asm__ volatile("" ::: "memory");
    rt_self_word = thread;
}

#if !(defined(__x86_64__) && defined(__LP64__)) && !defined(__aarch64__) &&                                  \
    !(defined(__riscv) && __riscv_xlen == 64)
RT_NOINLINE struct rt_thread *rt_self(void)
{
    __asm__ volatile("" ::: "memory");
    return rt_self_word;
}
#endif
