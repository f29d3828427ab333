/* SPDX-License-Identifier: MIT
 *
 * Floor 2. The floating-point control words (rounding, traps, flush to zero) as one value, so that a routine
 * can begin with those of its runtime's threads and not with what the last routine has set.
 */
#ifndef RT_CONTEXT_CONTROL_H
#define RT_CONTEXT_CONTROL_H

#include "../base/base.h"

#if defined(__x86_64__)

/* MXCSR's control bits, and the x87 control word above. */
RT_INLINE uint64_t rt_control_now(void)
{
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
    return (mxcsr & 0xffc0u) | (uint64_t)x87 << 32;
}

RT_INLINE void rt_control_set(uint64_t control)
{
    const uint32_t mxcsr = (uint32_t)control;
    const uint16_t x87 = (uint16_t)(control >> 32);
    __asm__ volatile("ldmxcsr %0\n\tfnclex\n\tfldcw %1" : : "m"(mxcsr), "m"(x87));
}

#elif defined(__aarch64__)

RT_INLINE uint64_t rt_control_now(void)
{
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}

RT_INLINE void rt_control_set(uint64_t control)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
}

#elif defined(__riscv) && defined(__riscv_flen)

RT_INLINE uint64_t rt_control_now(void)
{
    uint64_t control;
    __asm__ volatile("frrm %0" : "=r"(control));
    return control;
}

RT_INLINE void rt_control_set(uint64_t control)
{
    __asm__ volatile("fsrm %0" : : "r"(control));
}

#else

#include <fenv.h>

RT_INLINE uint64_t rt_control_now(void)
{
    return (uint64_t)fegetround();
}

RT_INLINE void rt_control_set(uint64_t control)
{
    fesetround((int)control);
}

#endif

#endif
