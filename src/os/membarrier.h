/* SPDX-License-Identifier: MIT
 *
 * Floor 1. An asymmetric full barrier: nearly free where it is needed often
 * (light), dear where it is rare (heavy).
 *
 * The guarantee: of a light barrier in one thread and a heavy one in another, one
 * comes first; all that the thread of the first did before it is seen by what
 * the other thread does after its own. So
 *     A: store x; light; load y        B: store y; heavy; load x
 * never ends with both loads seeing the old values.
 *
 * membarrier(PRIVATE_EXPEDITED) makes every running thread of the process execute
 * a full barrier, somewhere: the light side then only has to keep the compiler
 * from reordering. Where the kernel has no membarrier, both sides are full
 * barriers; which it is, is decided once, before there is a second thread
 * of ours, and can be forced for tests (ROUTINES_MEMBARRIER=0).
 */
#ifndef RT_OS_MEMBARRIER_H
#define RT_OS_MEMBARRIER_H

#include "../base/base.h"

/* True: heavy barriers reach every thread, light ones may be empty. Written by rt_membarrier_init only. */
extern bool rt_membarrier_works;

/* Registers the process. Call before any light or heavy barrier, and again in a forked child. */
void rt_membarrier_init(void);

/* About half a microsecond. */
void rt_membarrier_heavy(void);

RT_INLINE void rt_membarrier_light(void)
{
    if (RT_LIKELY(rt_membarrier_works))
        atomic_signal_fence(memory_order_seq_cst);
    else
        atomic_thread_fence(memory_order_seq_cst);
}

#endif
