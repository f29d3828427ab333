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

/* run.c: what an ending routine, which has returned `value`, does as itself, on its own stack, inside, when
 * it has flags: destructors of its locals; then its closure's copy goes, or whoever has started it is told.
 */
RT_COLD void rt_run_cleanup(rt_block *r, void *value);

/* join.c: runs the routine here, in place, if nobody else has begun it: one that is detached, and TOLD, and
 * for whose end the caller, a worker of its runtime, waits. */
enum { RT_RAN, RT_BEGUN, RT_NOT_HERE };
int rt_join_told(rt_block *r, uint64_t id, uint32_t stack_pages);

/* go.c: as routine_go_detached_at, of one that is TOLD: told is its argument. `over` is not called if this
 * fails. */
int rt_go_told(const char *where, routine_fn *fn, rt_told *told);

/* run.c: the end of a routine that was never run: delivers the status. The runtime's `fail`. */
RT_COLD void rt_run_fail(rt_block *r, int status);

/* run.c: somebody came back to a stack in a forked child (R13). */
RT_COLD RT_NORETURN void rt_run_forked(const rt_block *r);

/* oneshot.c: parks until a value has been sent, or the limit has come: -ETIMEDOUT, and the receiver is out
 * again. The caller is the only receiver. */
int rt_oneshot_wait(rt_oneshot *o, int64_t limit);

/* oneshot.c: the value is there. Returns whom to make ready; NULL: nobody, who waits may have given up; or
 * rt_oneshot_nobody: it is closed, nobody will receive it. */
extern rt_block rt_oneshot_nobody;
rt_block *rt_oneshot_fill(rt_oneshot *o);

/* local.c: the routine's extra, made if it has none. NULL: no memory. */
rt_extra *rt_local_extra(rt_block *r);

/* local.c: the same with what stands in its rt_more. */
rt_more *rt_local_more(rt_block *r);

/* local.c: the inherited values of r, NULL if it has none; and where they arrive. -ENOMEM. */
typedef struct rt_heritage rt_heritage;
int rt_local_bequeath(const rt_block *r, rt_heritage **heritage);
int rt_local_inherit(rt_block *r, rt_heritage *heritage);

/* handle.c: sets CANCEL, which is among the flags, and these with it, unless it is set already. 0 and the
 * word before, or -ESRCH. Who has set it is then to wake it: a heavy barrier, and rt_wait_cancel. */
int rt_cancel_mark(rt_block *r, uint64_t id, uint64_t flags, uint64_t *before);

/* frame.c: ends all frames of the calling routine, from the innermost outwards. */
void rt_frame_unwind(rt_block *r);

/* frame.c: begins and ends one that the library needs for itself. here: rt_here(). */
void rt_frame_begin(rt_frame *f, rt_block *r, uint8_t kind, const char *here);
void rt_frame_shield(rt_frame *f, rt_block *r, const char *here);
void rt_frame_end(rt_frame *f);

/* family.c: r has been cancelled: cancels the children of its scopes, and theirs. */
void rt_scope_cancel_below(rt_block *r, uint64_t id);

/* scope.c: in a forked child. */
void rt_scope_fork_child(void);

/* panic.c: the caller takes over the text of one that it has joined, or drops it if there is no memory. */
void rt_panic_hear(rt_message *message);

/* panic.c: nobody will hear of this panic: asks the hook, or ends the process. Releases the message. */
void rt_panic_unheard(uint64_t id, const char *name, const char *where, rt_message *message);

/* panic.c: the same, of a routine. */
void rt_panic_unjoined(const rt_block *r, rt_message *message);

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
