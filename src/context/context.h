/* SPDX-License-Identifier: MIT
 *
 * Floor 2. Switching between stacks: three functions in assembly, one file per CPU, and a fallback on
 * ucontext (ucontext.c), chosen by CMake. They know stacks only; what a routine is, they don't.
 *
 * A suspended stack is one pointer, its saved stack pointer. Below it stand
 * the registers that the ABI makes the callee keep:
 *   x86-64   rbp rbx r12-r15, MXCSR's control bits, the x87 control word
 *   AArch64  x19-x30, d8-d15, FPCR
 *   RISC-V   ra, s0-s11, fs0-fs11, fcsr's rounding mode
 * The floating-point control words are read at each switch and written only when
 * they differ, since writing them is dear.
 *
 * Call frame information is right at every instruction, and the first frame of a
 * stack says that nothing called it: debuggers and profilers unwind to a routine's
 * start and stop there. Frame pointers form a chain that ends in zero.
 *
 * None of these objects is marked as supporting shadow stacks (CET, GCS): they are not told of switches.
 */
#ifndef RT_CONTEXT_CONTEXT_H
#define RT_CONTEXT_CONTEXT_H

#include "../base/base.h"

/* What runs first on a new stack; `value` is what the switch to it passed. Never returns. */
typedef void rt_context_entry(void *value);

/*
 * Prepares a stack whose usable memory ends at `top` (16-aligned; the frame is
 * written just below). The first switch to the returned stack pointer calls
 * entry(value) on it. The control words are those of the calling thread now. At most 1 KiB is used (the
 * fallback on AArch64: 5 KiB).
 */
void *rt_context_make(void *top, rt_context_entry *entry);

/*
 * Suspends the current stack, stores its pointer in *save, and goes on on the
 * stack `to`: there, the switch that suspended it returns `value`.
 * Everything thread-local may be another thread's when this returns.
 */
void *rt_context_switch(void **save, void *to, void *value);

/*
 * Calls fn(arg) on the current stack and returns its result, having stored in
 * *mark what rt_context_return needs. Rounding mode and traps are as before when it returns,
 * whatever fn did to them.
 */
void *rt_context_call(void **mark, void *(*fn)(void *), void *arg);

/*
 * Abandons everything on the current stack since the rt_context_call that set `mark`, which
 * returns `value` now, with the registers and control words of the time of its call.
 */
void rt_context_return(void *mark, void *value) __attribute__((noreturn));

#endif
