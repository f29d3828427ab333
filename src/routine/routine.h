/* SPDX-License-Identifier: MIT
 *
 * Floor 5. What the files of this room share: the life of a routine from go to join.
 */
#ifndef RT_ROUTINE_ROUTINE_H
#define RT_ROUTINE_ROUTINE_H

#include "../../include/routines/routine.h"
#include "../../include/routines/runtime.h"
#include "../sched/scheduler.h"

/* run.c: the first function of a routine's stack. */
void rt_run_stack(void *passed);

/* run.c: releases a closure's copy. */
RT_COLD void rt_run_drop_copy(rt_block *r);

/* run.c: what an ending routine does as itself, on its own stack, when it has flags: destructors of its
 * locals; then its closure's copy goes. */
RT_COLD void rt_run_cleanup(rt_block *r);

/* run.c: the end of a routine that was never run: delivers the status. The runtime's `fail`. */
RT_COLD void rt_run_fail(rt_block *r, int status);

/* run.c: somebody came back to a stack in a forked child (R13). */
RT_COLD RT_NORETURN void rt_run_forked(const rt_block *r);

/* oneshot.c: parks until a value has been sent. The caller is the only receiver. */
void rt_oneshot_wait(rt_oneshot *o);

/* local.c: the routine's extra, made if it has none. NULL: no memory. */
rt_extra *rt_local_extra(rt_block *r);

/* local.c: for fork. */
void rt_local_fork_lock(void);
void rt_local_fork_unlock(void);

/* runtime.c: the default runtime, started if need be; NULL and *error (negative) if it cannot be. */
rt_runtime *rt_runtime_default(int *error);

/* The promise for a wish: raised to the minimum, in units of RT_STACK_UNIT. */
uint32_t rt_runtime_stack_pages(size_t wish);

/* The settings of the default runtime from the environment (config.c). 0: not set. */
size_t rt_config_workers(void);
size_t rt_config_stack_size(void);

#endif
