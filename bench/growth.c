/* SPDX-License-Identifier: MIT
 *
 * How does a cost grow with the number of routines there are, N = 1000 to a million?
 *
 * "growth_spawn_N": N routines are started, and each waits for a oneshot of its own; when all do they are
 * sent something, and joined. ns_per_op is the time of all that, divided by N. A million are done once or
 * twice in a process, so most of that is the first touch of their stacks; of a thousand the stacks are used
 * again and again.
 *
 * "growth_yield_N": N routines are ready, and do nothing but yield, each eight times an iteration. ns_per_op
 * is the time of a yield. N routines are N stacks and N control blocks: what grows is how much of them the
 * caches do not hold. The time is that from when all have come to their loop to when the last one has left
 * it.
 *
 * What N routines take in memory is asked in memory.c.
 *
 * ROUTINES_BENCH_MILLION: the most there are, 1000000 unless given.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <routines/oneshot.h>
#include <routines/routine.h>
#include <routines/time.h>

#include "harness.h"

/* A routine that has begun has a page of stack, a control block and page tables, with some to spare. */
static const double BYTES = 6000;

static uint64_t limited(bench_t *b, uint64_t count)
{
    const uint64_t most = bench_size("ROUTINES_BENCH_MILLION", 1000000);
    const double available = bench_memory_available();
    if (count > most)
        count = most;
    if (available > 0 && available < (double)count * BYTES) {
        bench_fail(b, "not enough memory: set ROUTINES_BENCH_MILLION to a smaller number");
        return 0;
    }
    return count;
}

/* An array whose pages are there: their first touch is not to be timed. */
static void *touched(uint64_t count, size_t size)
{
    void *array = malloc(count * size);
    if (array != NULL)
        memset(array, 0xff, count * size);
    return array;
}

/* Counts those who have come to where they are to be. relaxed: nothing is read that was written before. */
static _Atomic uint64_t arrived;

static void arrive(void)
{
    atomic_fetch_add_explicit(&arrived, 1, memory_order_relaxed);
}

/* One that cannot start, or gets no stack, never arrives: then false, and its join says why. */
static bool all_arrive(uint64_t count)
{
    const int64_t patience = routine_now() + 120 * ROUTINE_S;
    while (atomic_load_explicit(&arrived, memory_order_relaxed) < count && routine_now() < patience)
        routine_yield();
    return atomic_load_explicit(&arrived, memory_order_relaxed) == count;
}

/* ---- start, wait, wake, join ---- */

static void *wait_for_it(void *arg)
{
    void *value;
    arrive();
    return routine_oneshot_recv(arg, &value) == 0 && value == arg ? arg : NULL;
}

static void spawn_once(bench_t *b, routine_oneshot_t *oneshots, routine_t *handles, uint64_t count)
{
    atomic_store_explicit(&arrived, 0, memory_order_relaxed);
    for (uint64_t i = 0; i < count; i++) {
        routine_oneshot_init(&oneshots[i]);
        handles[i] = go(wait_for_it, &oneshots[i]);
    }
    if (!all_arrive(count))
        bench_fail(b, "not all routines came to wait");
    int rc = 0;
    for (uint64_t i = 0; i < count; i++)
        rc |= routine_oneshot_send(&oneshots[i], &oneshots[i]);
    bool wrong = false;
    for (uint64_t i = 0; i < count; i++) {
        void *result = NULL;
        rc |= routine_join(handles[i], &result);
        wrong |= result != &oneshots[i];
    }
    if (rc != 0)
        bench_fail(b, "a send or join failed");
    else if (wrong)
        bench_fail(b, "a routine did not receive what was sent");
}

static void spawn(bench_t *b, uint64_t most)
{
    const uint64_t count = limited(b, most);
    if (count == 0)
        return;
    routine_oneshot_t *oneshots = touched(count, sizeof *oneshots);
    routine_t *handles = touched(count, sizeof *handles);
    if (oneshots == NULL || handles == NULL) {
        bench_fail(b, "no memory for the handles");
    } else {
        bench_start(b);
        for (uint64_t i = 0; i < bench_iterations(b); i++)
            spawn_once(b, oneshots, handles, count);
        bench_stop(b);
        bench_ops(b, (double)count);
        bench_counter(b, "count", (double)count);
    }
    free(handles);
    free(oneshots);
}

/* ---- yield ---- */

typedef struct {
    bench_t *b;
    uint64_t count, each;
    atomic_bool begun;
    _Atomic uint64_t finished;
} crowd_t;

static void *yield_often(void *arg)
{
    crowd_t *crowd = arg;
    arrive();
    /* acquire: pairs with yield(), whose start of the clock the last one needs */
    while (!atomic_load_explicit(&crowd->begun, memory_order_acquire))
        routine_yield();
    for (uint64_t left = crowd->each; left > 0; left--)
        routine_yield();
    /* relaxed: a count; what is written behind it is read after a join */
    if (atomic_fetch_add_explicit(&crowd->finished, 1, memory_order_relaxed) + 1 == crowd->count)
        bench_stop(crowd->b);
    return crowd;
}

static void yield(bench_t *b, uint64_t most)
{
    enum { TURNS = 8 };
    crowd_t crowd = {.b = b, .count = limited(b, most), .each = TURNS * bench_iterations(b)};
    if (crowd.count == 0)
        return;
    routine_t *handles = touched(crowd.count, sizeof *handles);
    if (handles == NULL) {
        bench_fail(b, "no memory for the handles");
        return;
    }
    atomic_store_explicit(&arrived, 0, memory_order_relaxed);
    for (uint64_t i = 0; i < crowd.count; i++)
        handles[i] = go(yield_often, &crowd);
    const bool all = all_arrive(crowd.count);
    bench_start(b);
    atomic_store_explicit(&crowd.begun, true, memory_order_release); /* pairs with yield_often() */
    bool failed = false;
    for (uint64_t i = 0; i < crowd.count; i++) {
        void *result = NULL;
        failed |= routine_join(handles[i], &result) != 0 || result != &crowd;
    }
    if (!all)
        bench_fail(b, "not all routines came to their loop");
    if (failed)
        bench_fail(b, "a join failed");
    bench_ops(b, (double)TURNS * (double)crowd.count);
    bench_counter(b, "count", (double)crowd.count);
    free(handles);
}

/* ---- the cases ---- */

#define GROWTH(what, number, in)                                                                             \
    static void growth_##what##_##number(bench_t *b)                                                         \
    {                                                                                                        \
        what(b, number);                                                                                     \
    }                                                                                                        \
    BENCH(growth_##what##_##number, .name = "growth_" #what "_" #number "/routines", .on = BENCH_WORKERS,    \
          .unit = (in))

GROWTH(spawn, 1000, BENCH_US);
GROWTH(spawn, 10000, BENCH_US);
GROWTH(spawn, 100000, BENCH_MS);
GROWTH(spawn, 1000000, BENCH_MS);
GROWTH(yield, 1000, BENCH_US);
GROWTH(yield, 10000, BENCH_US);
GROWTH(yield, 100000, BENCH_MS);
GROWTH(yield, 1000000, BENCH_MS);
