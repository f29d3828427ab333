/* SPDX-License-Identifier: MIT
 *
 * Runtimes: independent sets of workers. Most programs never name one: the
 * default runtime starts itself at the first go() and serves the process.
 *
 * A worker is the right to run routines; at most `workers` routines of a runtime
 * run at the same instant. Two runtimes share no queue, no lock and no statistic.
 *
 * The default runtime takes its settings from the environment, at its start:
 *     ROUTINES_WORKERS      how many workers (1 to 1024)
 *     ROUTINES_STACK_SIZE   stack size in bytes; a suffix K, M or G multiplies
 * What cannot be understood is reported on stderr once, and ignored.
 *
 * fork(): the child starts afresh. It has no runtimes and no running routines;
 * its first go() starts a default runtime of its own. If it was forked from
 * within a routine, it goes on on that routine's stack like a plain thread, and
 * must end by exit(), _exit() or exec: coming back from that routine's function
 * panics. The parent does not notice.
 */
#ifndef ROUTINES_RUNTIME_H
#define ROUTINES_RUNTIME_H

#include "routine.h"
#include "time.h"

ROUTINES_BEGIN

/* All zero means: as the default runtime. */
typedef struct {
    size_t workers;    /* 0: ROUTINES_WORKERS, else the CPUs that this process may really use
                          (affinity mask and cgroup quota); at most ROUTINE_WORKERS_MAX */
    size_t stack_size; /* bytes promised to each routine. 0: ROUTINES_STACK_SIZE, else 128 KiB */
    const char *name;  /* prefix of the threads' names, copied. NULL: "routines" */
    const int *cpus;   /* worker i may run on cpus[i % cpu_count] only. NULL: wherever the
                          creating thread may */
    size_t cpu_count;
    size_t spare_threads;    /* at most so many threads besides one for each worker, for when a routine blocks
                                its thread or does not come back (blocking.h). 0: 256 */
    size_t blocking_threads; /* at most so many for routine_blocking(). 0: 64 */
} routine_runtime_config_t;

#define ROUTINE_WORKERS_MAX 1024

/*
 * Makes a runtime and starts its threads. config may be NULL. Does not block.
 * If only some of the threads can be created, it has as many workers as threads.
 * Returns 0 and sets *runtime, or -EINVAL (too many workers, a stack size larger
 * than ROUTINE_STACK_MAX, a CPU number that does not exist), -EAGAIN (not one thread
 * could be created), -ENOMEM.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_runtime_new(routine_runtime_t **runtime,
                                                        const routine_runtime_config_t *config);

/* Runs fn(arg) as a routine of this runtime and waits for it. Returns what routine_join would. */
#define routine_runtime_run(...) routine_runtime_run_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API int routine_runtime_run_at(const char *where, routine_runtime_t *runtime, routine_fn *fn,
                                        void *arg, void **result);

/* How to shut down. */
enum {
    ROUTINE_SHUTDOWN_WAIT = 0,  /* wait for every routine to finish */
    ROUTINE_SHUTDOWN_CANCEL = 1 /* cancel them all, then wait */
};

/*
 * Ends a runtime: waits until none of its routines is left, then ends its
 * threads. Blocks, for at most timeout nanoseconds (ROUTINE_NEVER: as long as it
 * takes; 0 or less: not at all). While it waits, its routines may start others,
 * and may block and be woken as ever. Handles stay good: what has finished can
 * be joined after the shutdown.
 *
 * Returns 0: no thread of it is left, and a go() to it gives ECANCELED. Or
 *   -ETIMEDOUT   routines remain, or lookups of names that were left behind (io.h);
 *                the runtime is intact and goes on (those that were cancelled stay so)
 *   -EDEADLK     called from a routine of this very runtime
 *   -EBUSY       another shutdown of it is under way
 *   -EALREADY    it is shut down already
 *   -EINVAL      runtime is null or `how` unknown
 * NULL for the default runtime is not accepted: see routine_runtime_default().
 */
ROUTINES_API ROUTINES_NODISCARD int routine_runtime_shutdown(routine_runtime_t *runtime, int how,
                                                             int64_t timeout);

/*
 * Releases a runtime that was shut down: stacks, queues, statistics. Nobody may
 * use it any more; handles of its routines stay good. Does not block.
 * Returns 0; -EBUSY: shut it down first; -EINVAL: null.
 */
ROUTINES_API int routine_runtime_free(routine_runtime_t *runtime);

/*
 * The default runtime, started if it was not; NULL if it cannot be started. It
 * may be shut down, and freed: the next go() from a plain thread then starts a
 * new one.
 */
ROUTINES_API routine_runtime_t *routine_runtime_default(void);

/* The runtime that the calling routine runs on; NULL on a plain thread. */
ROUTINES_API routine_runtime_t *routine_runtime_current(void);

/* How many workers it has (NULL: 0). */
ROUTINES_API size_t routine_runtime_workers(const routine_runtime_t *runtime);

ROUTINES_END

#endif
