/* SPDX-License-Identifier: MIT
 *
 * What the peers in C and C++ share: how they are asked, how they measure, how they answer. One benchmark
 * a process:
 *
 *     peer --list           the names, question/contender
 *     peer NAME WORKERS     runs one with so many threads, prints it as a line of JSON
 *
 * ROUTINES_BENCH_SECONDS (0.5 unless given) is how long to measure. All else is the program's, which has this
 * as its main:
 *
 *     return peer_main(argc, argv, benchmarks, count, around);
 *
 * The header is for programs of one source file, and for both languages: what one of them uses, and another
 * one does not, is static inline.
 */
#ifndef BENCH_PEERS_PEER_H
#define BENCH_PEERS_PEER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what a benchmark finds here ---- */

/* Ends the process: a benchmark that went wrong has no figure. */
static inline __attribute__((noreturn)) void peer_fail(const char *message)
{
    fprintf(stderr, "peer: %s\n", message);
    _Exit(1);
}

/* A number out of the environment. What isn't positive is the default. */
static inline double peer_number(const char *variable, double otherwise)
{
    const char *text = getenv(variable);
    double value = text != NULL ? strtod(text, NULL) : 0;
    return value > 0 ? value : otherwise;
}

/* The same, but at most so many: for what cannot be had in the full size. At least 1. */
static inline long peer_size(const char *variable, double otherwise, long most)
{
    double value = peer_number(variable, otherwise);
    return value > (double)most ? most : value < 1 ? 1 : (long)value;
}

/* In nanoseconds: the clock, and the CPU time of the process. */
static inline int64_t peer_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t peer_now(void)
{
    return peer_clock(CLOCK_MONOTONIC);
}

static inline int64_t peer_cpu(void)
{
    return peer_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* A figure in kB out of a file of /proc, in bytes; 0: not there. */
static inline double peer_proc_bytes(const char *path, const char *key)
{
    FILE *file = fopen(path, "r");
    char line[256];
    double bytes = 0;
    if (file == NULL)
        return 0;
    while (bytes <= 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            bytes = strtod(line + strlen(key), NULL) * 1024;
    }
    fclose(file);
    return bytes;
}

static inline double peer_resident(void)
{
    return peer_proc_bytes("/proc/self/smaps_rollup", "Rss:");
}

static inline double peer_page_tables(void)
{
    return peer_proc_bytes("/proc/self/status", "VmPTE:");
}

/* The most that was resident so far. peer_forget_peak makes it what is resident now; where the kernel cannot
 * do that, a fresh process has nothing to forget. */
static inline double peer_peak(void)
{
    return peer_proc_bytes("/proc/self/status", "VmHWM:");
}

static inline void peer_forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file != NULL) {
        fputs("5", file);
        fclose(file);
    }
}

/* Nothing, to be called. */
static __attribute__((noinline, unused)) void peer_empty(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Marsaglia's xorshift64*, as the library's benchmarks have it. */
static inline uint64_t peer_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

static inline long peer_fib_number(long n)
{
    long is = 0, after = 1;
    for (; n > 0; n--) {
        long sum = is + after;
        is = after;
        after = sum;
    }
    return is;
}

/* The tasks that fib(n) takes, where every call but the leaves starts one. */
static inline double peer_fib_tasks(long n)
{
    long tasks = peer_fib_number(n + 1) - 1;
    return tasks > 1 ? (double)tasks : 1;
}

/* The i-th of count senders sends *many numbers, from the returned one on. */
static inline uint64_t peer_share(uint64_t n, uint64_t i, uint64_t count, uint64_t *many)
{
    uint64_t extra = n % count;
    *many = n / count + (i < extra);
    return n / count * i + (i < extra ? i : extra);
}

/* ---- sleepers: who sleeps for how long, and how late they were ---- */

typedef struct {
    int64_t ns;   /* to sleep */
    int64_t late; /* to be filled in */
} peer_sleeper_t;

static inline peer_sleeper_t *peer_sleepers(long count)
{
    const int64_t shortest = 10000000, longest = 1000000000;
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15);
    peer_sleeper_t *sleepers = (peer_sleeper_t *)malloc((size_t)count * sizeof *sleepers);
    if (sleepers == NULL)
        peer_fail("no memory for the sleepers");
    for (long i = 0; i < count; i++) {
        sleepers[i].ns = shortest + (int64_t)(peer_random(&random) % (uint64_t)(longest - shortest + 1));
        sleepers[i].late = -1;
    }
    return sleepers;
}

/* ---- results ---- */

#define PEER_COUNTERS 8

typedef struct {
    int workers;  /* as asked for */
    double value; /* nanoseconds an operation */
    size_t counters;
    struct {
        const char *name;
        double value;
    } counter[PEER_COUNTERS];
} peer_result_t;

static inline void peer_counter(peer_result_t *r, const char *name, double value)
{
    if (r->counters == PEER_COUNTERS)
        peer_fail("more counters than PEER_COUNTERS");
    r->counter[r->counters].name = name;
    r->counter[r->counters].value = value;
    r->counters++;
}

static inline void peer_sleepers_result(peer_result_t *r, const peer_sleeper_t *sleepers, long count,
                                        int64_t wall, int64_t cpu)
{
    int64_t worst = 0;
    double sum = 0;
    for (long i = 0; i < count; i++) {
        if (sleepers[i].late < 0)
            peer_fail("a sleeper was early, or did not sleep");
        worst = sleepers[i].late > worst ? sleepers[i].late : worst;
        sum += (double)sleepers[i].late;
    }
    r->value = (double)cpu / (double)count;
    peer_counter(r, "wall_s", (double)wall * 1e-9);
    peer_counter(r, "late_us", (double)worst * 1e-3);
    peer_counter(r, "late_mean_us", sum * 1e-3 / (double)count);
    peer_counter(r, "count", (double)count);
    peer_counter(r, "cpus", (double)cpu / (double)wall);
}

/* Repeats until it takes long enough to be measured: that run counts, those before it warm up. The very first
 * one, which meets memory that nobody has touched, counts only if it takes more than a second. */
static inline void peer_repeat(peer_result_t *r, double (*run)(long n))
{
    double enough = peer_number("ROUTINES_BENCH_SECONDS", 0.5) * 1e9;
    int warm = 0;
    for (long n = 1;; warm = 1) {
        int64_t cpu_begun = peer_cpu(), begun = peer_now();
        double ops = run(n);
        double elapsed = (double)(peer_now() - begun);
        if (elapsed >= enough && (warm || elapsed > 1e9)) {
            r->value = elapsed / ops;
            peer_counter(r, "cpus", (double)(peer_cpu() - cpu_begun) / elapsed);
            return;
        }
        if (elapsed < enough / 20)
            n *= 10;
        else if (elapsed < enough)
            n = (long)((double)n * enough / elapsed * 1.2) + 1;
    }
}

/* ---- a program of benchmarks ---- */

typedef struct {
    const char *name;
    /* Does something n times and returns how many operations that was. */
    double (*run)(long n);
    /* Or measures for itself: what is done once, in a process that has done nothing else; or by peer_repeat,
     * when something has been prepared. */
    void (*once)(peer_result_t *r);
} peer_benchmark_t;

/* Calls fn(arg) where so many workers are there to run what it starts. */
typedef void peer_around_fn(int workers, void (*fn)(void *arg), void *arg);

typedef struct {
    const peer_benchmark_t *benchmark;
    peer_result_t result;
} peer_run_t;

/* Runs the benchmark, where there are workers for it. */
static inline void peer_run_it(void *arg)
{
    peer_run_t *p = (peer_run_t *)arg;
    if (p->benchmark->once != NULL)
        p->benchmark->once(&p->result);
    else
        peer_repeat(&p->result, p->benchmark->run);
}

static inline int peer_print(const peer_run_t *p)
{
    const peer_result_t *r = &p->result;
    printf("{\"name\":\"%s\",\"workers\":%d,\"value\":%.9g,\"unit\":\"ns\",\"counters\":{",
           p->benchmark->name, r->workers, r->value);
    for (size_t i = 0; i < r->counters; i++)
        printf("%s\"%s\":%.9g", i > 0 ? "," : "", r->counter[i].name, r->counter[i].value);
    puts("}}");
    return fflush(stdout) == 0 ? 0 : 1;
}

static inline int peer_main(int argc, char **argv, const peer_benchmark_t *benchmarks, size_t count,
                            peer_around_fn *around)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++)
            puts(benchmarks[i].name);
        return 0;
    }
    int workers = argc == 3 ? atoi(argv[2]) : 0;
    for (size_t i = 0; i < count && workers > 0; i++) {
        if (strcmp(argv[1], benchmarks[i].name) == 0) {
            peer_run_t p;
            memset(&p, 0, sizeof p);
            p.benchmark = &benchmarks[i];
            p.result.workers = workers;
            around(workers, peer_run_it, &p);
            return peer_print(&p);
        }
    }
    fputs("usage: peer --list | peer NAME WORKERS\n", stderr);
    return 1;
}

#endif
