/* SPDX-License-Identifier: MIT
 *
 * The harness but for Google Benchmark: the list of cases, running one where it wants
 * to run, its clock, its counters. Every run of a case has a runtime of its
 * own, which must shut down cleanly afterwards.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <routines/runtime.h>

static bench_case_t *first;
static bench_case_t **last = &first;

void bench_register(bench_case_t *c)
{
    *last = c;
    last = &c->next;
}

bench_case_t *bench_first(void)
{
    return first;
}

uint64_t bench_iterations(const bench_t *b)
{
    return b->iterations;
}

size_t bench_workers(const bench_t *b)
{
    return b->workers;
}

static int64_t cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * ROUTINE_S + t.tv_nsec;
}

void bench_start(bench_t *b)
{
    if (b->begun != 0)
        bench_fail(b, "bench_start called twice");
    b->cpu_begun = cpu_now();
    b->begun = routine_now();
}

void bench_pause(bench_t *b)
{
    const int64_t now = routine_now();
    if (b->begun == 0 || b->elapsed != 0 || b->paused != 0)
        bench_fail(b, "bench_pause without bench_start, or twice");
    b->paused = now;
    b->cpu_paused = cpu_now();
}

/* What was not timed is as if it had been before the start. */
void bench_resume(bench_t *b)
{
    if (b->paused == 0)
        bench_fail(b, "bench_resume without bench_pause");
    b->cpu_begun += cpu_now() - b->cpu_paused;
    b->begun += routine_now() - b->paused;
    b->paused = b->cpu_paused = 0;
}

void bench_stop(bench_t *b)
{
    const int64_t now = routine_now();
    if (b->begun == 0 || b->elapsed != 0 || b->paused != 0)
        bench_fail(b, "bench_stop without bench_start, or twice, or during a pause");
    b->elapsed = now > b->begun ? now - b->begun : 1;
    b->cpu_elapsed = cpu_now() - b->cpu_begun;
}

void bench_ops(bench_t *b, double ops_per_iteration)
{
    b->ops = ops_per_iteration;
}

void bench_counter(bench_t *b, const char *name, double value)
{
    if (b->counters == BENCH_COUNTERS) {
        bench_fail(b, "more counters than BENCH_COUNTERS");
        return;
    }
    b->counter[b->counters].name = name;
    b->counter[b->counters].value = value;
    b->counters++;
}

double bench_elapsed(const bench_t *b)
{
    return (double)b->elapsed;
}

double bench_cpu(const bench_t *b)
{
    return (double)b->cpu_elapsed;
}

void bench_fail(bench_t *b, const char *message)
{
    if (b->error == NULL)
        b->error = message;
}

uint64_t bench_size(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    if (text == NULL || *text < '0' || *text > '9')
        return otherwise;
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    return *end == '\0' && n >= 1 && n <= 1000000000 ? n : otherwise;
}

/* The figure in kB behind `key` in a file of /proc, in bytes; negative: not there. */
static double proc_bytes(const char *path, const char *key)
{
    double bytes = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return bytes;
    char line[256];
    size_t length = strlen(key);
    while (bytes < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, length) == 0)
            bytes = strtod(line + length, NULL) * 1024;
    }
    fclose(file);
    return bytes;
}

bench_memory_t bench_memory(void)
{
    bench_memory_t memory = {.resident = proc_bytes("/proc/self/smaps_rollup", "Rss:"),
                             .page_tables = proc_bytes("/proc/self/status", "VmPTE:")};
    FILE *file = memory.resident < 0 ? fopen("/proc/self/statm", "re") : NULL;
    if (file != NULL) {
        unsigned long long pages;
        if (fscanf(file, "%*u %llu", &pages) == 1)
            memory.resident = (double)pages * (double)sysconf(_SC_PAGESIZE);
        fclose(file);
    }
    return memory;
}

double bench_memory_available(void)
{
    double bytes = proc_bytes("/proc/meminfo", "MemAvailable:");
    return bytes > 0 ? bytes : 0;
}

typedef struct {
    const bench_case_t *c;
    bench_t *b;
} run_t;

static void *run_in_routine(void *arg)
{
    const run_t *run = arg;
    run->c->fn(run->b);
    return NULL;
}

static void run_on_runtime(const bench_case_t *c, bench_t *b)
{
    routine_runtime_t *runtime;
    const routine_runtime_config_t config = {.workers = b->workers, .name = "bench"};
    if (routine_runtime_new(&runtime, &config) != 0) {
        bench_fail(b, "no runtime could be started");
        return;
    }
    if (routine_runtime_workers(runtime) != b->workers)
        bench_fail(b, "the runtime has fewer workers than were asked for");
    run_t run = {c, b};
    if (routine_runtime_run(runtime, run_in_routine, &run, NULL) != 0)
        bench_fail(b, "the routine could not be run");
    if (routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, 60 * ROUTINE_S) != 0)
        bench_fail(b, "the runtime did not shut down: routines are left");
    else if (routine_runtime_free(runtime) != 0)
        bench_fail(b, "the runtime could not be freed");
}

void bench_run(const bench_case_t *c, bench_t *b)
{
    const bench_t fresh = {.iterations = b->iterations, .workers = b->workers, .ops = 1};
    *b = fresh;
    if (b->workers == 0)
        c->fn(b);
    else
        run_on_runtime(c, b);
    if (b->elapsed == 0)
        bench_fail(b, "the case measured nothing");
}

size_t bench_all_workers(void)
{
    routine_runtime_t *runtime;
    size_t workers = 0;
    if (routine_runtime_new(&runtime, NULL) != 0)
        return 0;
    workers = routine_runtime_workers(runtime);
    if (routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER) == 0)
        routine_runtime_free(runtime);
    return workers;
}
