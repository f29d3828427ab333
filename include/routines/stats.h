/* SPDX-License-Identifier: MIT
 *
 * Statistics: what a runtime has done and what it is doing. The counters are
 * always on; each is written by one worker only, and reading them disturbs
 * nobody. Every call here may be made from any thread or routine, and does not
 * block.
 */
#ifndef ROUTINES_STATS_H
#define ROUTINES_STATS_H

#include <stdio.h>

#include "runtime.h"

ROUTINES_BEGIN

/* Counts since the runtime started. */
typedef struct {
    uint64_t spawned;      /* routines created by go and its companions */
    uint64_t started;      /* that began to run, or were found cancelled when they were to begin */
    uint64_t completed;    /* that ended, in whatever way */
    uint64_t cancelled;    /* of those completed: cancelled before they ran */
    uint64_t in_place;     /* of those started: run by their joiner, on its stack */
    uint64_t switches;     /* switches from one stack to another */
    uint64_t yields;       /* routine_yield() that let somebody else run */
    uint64_t parks;        /* times a routine stopped to wait */
    uint64_t readies;      /* times one that waited was made runnable */
    uint64_t steals_tried; /* looks at other workers' queues that found something */
    uint64_t steals_won;   /* routines taken from other workers */
    uint64_t sleeps;       /* times a worker went to sleep for lack of work */
    uint64_t wakeups;      /* times it was woken by somebody */
    uint64_t spills;       /* routines moved to the shared queue for lack of memory or balance */
} routine_counts_t;

typedef struct {
    routine_counts_t total; /* the sum of all workers and of what plain threads did */
    size_t workers;
    uint64_t live;        /* spawned and not completed */
    uint64_t unstarted;   /* of those: not begun */
    uint64_t parked;      /* of those: waiting for something */
    uint64_t running;     /* of those: on a worker at this moment */
    uint64_t runnable;    /* of those: could run, had they a worker; the unstarted included */
    size_t stacks_live;   /* stacks that routines stand on */
    size_t stacks_cached; /* warm ones, kept for reuse */
    size_t stacks_peak;   /* the most that were live or cached at once */
} routine_stats_t;

/*
 * A snapshot of a runtime (NULL: the caller's; from a plain thread the default one). The figures
 * of a snapshot agree with each other: spawned >= started >= completed, and live is exact whenever
 * nothing is being started or ending. Returns 0; -ESRCH there is no such runtime; -EINVAL stats is null.
 */
ROUTINES_API int routine_stats(routine_runtime_t *runtime, routine_stats_t *stats);

/* The counts of one worker, 0 <= worker < workers. Returns as above; -EINVAL no such worker. */
ROUTINES_API int routine_stats_worker(routine_runtime_t *runtime, size_t worker, routine_counts_t *counts);

/* Prints the statistics of the caller's runtime (from a plain thread: the default one), as a table. */
ROUTINES_API void routine_stats_print(FILE *stream);

/* The same for the runtime given. */
ROUTINES_API void routine_runtime_stats_print(routine_runtime_t *runtime, FILE *stream);

ROUTINES_END

#endif
