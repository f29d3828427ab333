/* SPDX-License-Identifier: MIT
 *
 * What does it cost to sleep where many do? A hundred thousand routines are started, each sleeps for a time
 * of its own between 10 and 1000 ms, in no order, and ends; all are joined. The figure is the CPU time of the
 * process by their number: the start of each, the sleep and what finds its end, and the end. It is done once,
 * in a process that has done nothing else.
 *
 * late_us is by how much the last of them was late, late_mean_us by how much they were on the average, both
 * by their own clock; one that is early fails the run. wall_s is the time of all together, which cannot be
 * less than the longest sleep.
 *
 * ROUTINES_BENCH_MILLION: ten times as many as there are sleepers, 1000000 unless given.
 */
#include <stdlib.h>

#include <routines/routine.h>
#include <routines/time.h>

#include "harness.h"

static const int64_t SHORTEST = 10 * ROUTINE_MS, LONGEST = 1000 * ROUTINE_MS;
static const uint64_t SEED = 0x9e3779b97f4a7c15;

typedef struct {
    int64_t ns;   /* to sleep */
    int64_t late; /* a result */
} sleeper_t;

/* Marsaglia's xorshift64*; the peers have the same, so that all sleep alike. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

static void *sleep_once(void *arg)
{
    sleeper_t *s = arg;
    const int64_t begun = routine_now();
    const int rc = routine_sleep(s->ns);
    s->late = routine_now() - begun - s->ns;
    return (void *)(intptr_t)rc;
}

static void all_sleep(bench_t *b, sleeper_t *sleepers, routine_t *handles, size_t count)
{
    uint64_t random = SEED;
    for (size_t i = 0; i < count; i++) {
        sleepers[i].ns = SHORTEST + (int64_t)(next_random(&random) % (uint64_t)(LONGEST - SHORTEST + 1));
        sleepers[i].late = -1;
        handles[i] = (routine_t){NULL, 0}; /* touched: not to be counted */
    }
    int rc = 0;
    bench_start(b);
    for (size_t i = 0; i < count; i++)
        handles[i] = go(sleep_once, &sleepers[i]);
    for (size_t i = 0; i < count; i++) {
        void *result = NULL;
        rc |= routine_join(handles[i], &result) | (int)(intptr_t)result;
    }
    bench_stop(b);
    int64_t worst = 0;
    double sum = 0;
    bool early = false;
    for (size_t i = 0; i < count; i++) {
        const int64_t late = sleepers[i].late;
        early |= late < 0;
        worst = late > worst ? late : worst;
        sum += (double)late;
    }
    bench_counter(b, "ns_per_op", bench_cpu(b) / (double)count);
    bench_counter(b, "wall_s", bench_elapsed(b) * 1e-9);
    bench_counter(b, "late_us", (double)worst * 1e-3);
    bench_counter(b, "late_mean_us", sum * 1e-3 / (double)count);
    bench_counter(b, "count", (double)count);
    if (rc != 0)
        bench_fail(b, "a go, sleep or join failed");
    else if (early)
        bench_fail(b, "a sleeper was early");
}

static void sleepers_routines(bench_t *b)
{
    const size_t tenth = (size_t)bench_size("ROUTINES_BENCH_MILLION", 1000000) / 10;
    const size_t count = tenth > 0 ? tenth : 1;
    sleeper_t *sleepers = malloc(count * sizeof *sleepers);
    routine_t *handles = malloc(count * sizeof *handles);
    if (sleepers == NULL || handles == NULL)
        bench_fail(b, "no memory for the handles");
    else
        all_sleep(b, sleepers, handles, count);
    free(handles);
    free(sleepers);
}

BENCH(sleepers_routines, .name = "sleepers/routines", .on = BENCH_WORKERS, .unit = BENCH_MS, .once = true,
      .fresh = true);
