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
    uint64_t handovers;   /* times a worker was taken from a thread that was stuck in one routine */
    uint64_t refused;     /* times that was called for, but there was no thread to give it to */
    size_t threads;       /* that run routines, or could: at least one for each worker */
    size_t threads_spare; /* of those: without a worker and without a routine */
    size_t threads_pool;  /* of the pool for blocking code (blocking.h) */
} routine_stats_t;

/*
 * A snapshot of a runtime (NULL: the caller's; from a plain thread the default one). The figures
 * of a snapshot agree with each other: spawned >= started >= completed, and live is exact whenever
 * nothing is being started or ending. Returns 0; -ESRCH there is no such runtime; -EINVAL stats is null.
 */
ROUTINES_API int routine_stats(routine_runtime_t *runtime, routine_stats_t *stats);

/* The counts of one worker, 0 <= worker < workers. Returns as above; -EINVAL no such worker. */
ROUTINES_API int routine_stats_worker(routine_runtime_t *runtime, size_t worker, routine_counts_t *counts);

/*
 * Who kept others from running: routines that stayed in a loop or in a blocking call for more than about
 * ten milliseconds while others waited, so that their worker was taken from them. One entry for each place
 * where such routines were started; a runtime remembers the ROUTINE_OFFENDERS_MAX places with the longest
 * times.
 */
typedef struct {
    char where[96];  /* started at: "file.c:12" */
    char name[96];   /* of the last one; "" if it has none */
    uint64_t count;  /* how often; one that is still at it is counted */
    int64_t longest; /* ns from when it was last seen to begin until it came back, or until now */
    int64_t total;
    bool now; /* one of them is still at it */
} routine_offender_t;

#define ROUTINE_OFFENDERS_MAX 16

/* Fills the list, those with the longest times first. Returns how many entries it has: at most `most`.
 * runtime as above. */
ROUTINES_API size_t routine_offenders(routine_runtime_t *runtime, routine_offender_t *list, size_t most);

/* Prints the statistics of the caller's runtime (from a plain thread: the default one), as a table. */
ROUTINES_API void routine_stats_print(FILE *stream);

/* The same for the runtime given. */
ROUTINES_API void routine_runtime_stats_print(routine_runtime_t *runtime, FILE *stream);

ROUTINES_END

#endif
