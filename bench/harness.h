/* SPDX-License-Identifier: MIT
 *
 * The benchmark harness: what a benchmark written in C sees. Google Benchmark
 * chooses how often to run a case and writes the results (main.cc); a case
 * runs its own loop, where it is to run, and measures it itself:
 *
 *     static void ping(bench_t *b)
 *     {
 *         uint64_t n = bench_iterations(b);
 *         bench_start(b);
 *         for (uint64_t i = 0; i < n; i++)
 *             ...
 *         bench_stop(b);
 *     }
 *     BENCH(ping, .name = "ping/routines", .on = BENCH_WORKERS);
 *
 * Names are question/contender. The contender "routines" is the library as a user would
 * write it; "routines-x" is a variant of that, "limit-x" what no library can beat, "peer-x" somebody else.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bench bench_t;
typedef void bench_fn(bench_t *b);

/* Where the function of a case runs. */
typedef enum {
    BENCH_WORKERS, /* in a routine of a new runtime: with one worker (name/w1), with 2, 4, 8, ... as far as
                      there are, and with all (name/wN) */
    BENCH_ONE,     /* in a routine of a new runtime with one worker only (name/w1) */
    BENCH_THREAD   /* on the plain main thread (name) */
} bench_where_t;

typedef enum { BENCH_NS, BENCH_US, BENCH_MS } bench_unit_t;

/* A case. Zero is a sensible default for all but the first two. */
typedef struct bench_case {
    const char *name;
    bench_fn *fn;
    bench_where_t on;
    bench_unit_t unit; /* what the time of one iteration is printed in */
    bool once;         /* exactly one iteration */
    bool fresh;        /* its figures hold in a process that has run nothing else; where that is not so, the
                          result says it */
    struct bench_case *next;
} bench_case_t;

/* Registers a case before main begins. */
#define BENCH(function, ...)                                                                                 \
    static bench_case_t bench_case_##function = {.fn = (function), __VA_ARGS__};                             \
    __attribute__((constructor)) static void bench_register_##function(void)                                 \
    {                                                                                                        \
        bench_register(&bench_case_##function);                                                              \
    }                                                                                                        \
    _Static_assert(1, "takes the semicolon")

void bench_register(bench_case_t *c);

/* The first registered case; the others follow by ->next. */
bench_case_t *bench_first(void);

/* How often to do it. At least 1. */
uint64_t bench_iterations(const bench_t *b);

/* The workers of the runtime that the case runs on; 0 on a plain thread. */
size_t bench_workers(const bench_t *b);

/* Begin and end of what is timed. Once each: around the loop, not in it. */
void bench_start(bench_t *b);
void bench_stop(bench_t *b);

/* What is in between, after start and before stop, is not timed. For what has to be prepared in the loop: in
 * batches, since reading the clocks takes a microsecond. */
void bench_pause(bench_t *b);
void bench_resume(bench_t *b);

/* What one iteration consists of (default 1): the result ns_per_op is the time divided by
 * iterations and this. */
void bench_ops(bench_t *b, double ops_per_iteration);

/* A further figure for the results. The name must be a constant. "ns_per_op" takes the place of the time,
 * where something else is asked. */
void bench_counter(bench_t *b, const char *name, double value);

/* Nanoseconds between start and stop. */
double bench_elapsed(const bench_t *b);

/* Nanoseconds of CPU time that the whole process has used between start and stop. */
double bench_cpu(const bench_t *b);

/* The case failed, and with it the whole run. The message must be a constant; the first one stands. */
void bench_fail(bench_t *b, const char *message);

/* A size out of the environment (1 to 1e9), so that smoke tests can be small; what cannot be understood is
 * the default. */
uint64_t bench_size(const char *variable, uint64_t otherwise);

/* Memory of this process now, in bytes. */
typedef struct {
    double resident;    /* pages that are really there (smaps_rollup, else statm) */
    double page_tables; /* and the tables that map them (VmPTE) */
} bench_memory_t;

bench_memory_t bench_memory(void);

/* What the machine could still give, in bytes; 0: not known. */
double bench_memory_available(void);

/* The value is computed, and all memory as written: the compiler may drop or merge nothing across this. */
#define BENCH_KEEP(value) __asm__ volatile("" : : "g"(value) : "memory")

/* For main.cc: one run of a case. */
#define BENCH_COUNTERS 12

struct bench {
    uint64_t iterations;
    size_t workers;
    double ops;
    int64_t begun, elapsed;         /* ns of wall time */
    int64_t cpu_begun, cpu_elapsed; /* ns of CPU time of the whole process */
    int64_t paused, cpu_paused;     /* since when; 0: it is not */
    const char *error;              /* NULL: none */
    size_t counters;
    struct {
        const char *name;
        double value;
    } counter[BENCH_COUNTERS];
};

/* Runs the case: *b has iterations and workers (0: the calling thread), the rest is results. Blocks. */
void bench_run(const bench_case_t *c, bench_t *b);

/* How many workers "all" are; 0: no runtime could be started. */
size_t bench_all_workers(void);

#ifdef __cplusplus
}
#endif

#endif
