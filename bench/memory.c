/* SPDX-License-Identifier: MIT
 *
 * What does a routine take that is just there? A million of them alive: parked, each waiting
 * for a oneshot of its own, or not yet started. Counted are resident bytes and the page tables under them;
 * handles and oneshots are the user's and not counted. The time is that of creating
 * them (and, for the parked, until all of them have come to wait), per routine.
 *
 * The unstarted exist with one worker only: another would start them, and so would the thread that gets the
 * worker when this one has had it for ten milliseconds: so the monitor gets patience. They finish at once if
 * they are started all the same; the counter "unstarted" says how many were not.
 *
 * "growth_memory_N" asks the same of fewer parked ones, a thousand to a hundred thousand.
 *
 * ROUTINES_BENCH_MILLION: how many, 1000000 unless given; and the most for the others.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <routines/oneshot.h>
#include <routines/routine.h>
#include <routines/stats.h>
#include <routines/time.h>

#include "harness.h"
#include "sched/monitor.h"

/* A parked routine has a page of stack, a control block and its share of page tables, with some to spare. */
static const double PARKED_BYTES = 6000;

/* An array whose pages are there: it must not be counted later. */
static void *touched(uint64_t count, size_t size)
{
    void *array = malloc(count * size);
    if (array != NULL)
        memset(array, 0xff, count * size);
    return array;
}

static void report(bench_t *b, double count, bench_memory_t before, bench_memory_t after)
{
    bench_counter(b, "count", count);
    bench_counter(b, "bytes_each", (after.resident - before.resident) / count);
    bench_counter(b, "page_table_bytes_each", (after.page_tables - before.page_tables) / count);
}

typedef struct {
    routine_oneshot_t *oneshots;
    routine_t *handles;
    uint64_t count;
} crowd_t;

static _Atomic uint64_t arrived;

static void *wait_for_it(void *arg)
{
    void *value;
    /* relaxed: a count; nothing is read that was written before it */
    atomic_fetch_add_explicit(&arrived, 1, memory_order_relaxed);
    return routine_oneshot_recv(arg, &value) == 0 && value == arg ? arg : NULL;
}

static void start_parked(bench_t *b, const crowd_t *crowd)
{
    atomic_store(&arrived, 0);
    bench_start(b);
    for (uint64_t i = 0; i < crowd->count; i++)
        crowd->handles[i] = go(wait_for_it, &crowd->oneshots[i]);
    /* One that cannot start, or gets no stack, never arrives: its join says so later. */
    int64_t patience = routine_now() + 120 * ROUTINE_S;
    while (atomic_load_explicit(&arrived, memory_order_relaxed) < crowd->count && routine_now() < patience)
        routine_yield();
    bench_stop(b);
    if (atomic_load_explicit(&arrived, memory_order_relaxed) < crowd->count)
        bench_fail(b, "not all routines came to wait");
}

static void end_parked(bench_t *b, const crowd_t *crowd)
{
    int64_t begun = routine_now();
    for (uint64_t i = 0; i < crowd->count; i++) {
        if (routine_oneshot_send(&crowd->oneshots[i], &crowd->oneshots[i]) != 0)
            bench_fail(b, "a send failed");
    }
    for (uint64_t i = 0; i < crowd->count; i++) {
        void *result = NULL;
        if (routine_join(crowd->handles[i], &result) != 0 || result != &crowd->oneshots[i])
            bench_fail(b, "a parked routine did not receive what was sent");
    }
    bench_counter(b, "end_us_each", (double)(routine_now() - begun) / 1000 / (double)crowd->count);
}

static void parked(bench_t *b, uint64_t most)
{
    uint64_t count = bench_size("ROUTINES_BENCH_MILLION", 1000000);
    if (count > most)
        count = most;
    double available = bench_memory_available();
    if (available > 0 && available < (double)count * PARKED_BYTES) {
        bench_fail(b, "not enough memory: set ROUTINES_BENCH_MILLION to a smaller number");
        return;
    }
    crowd_t crowd = {touched(count, sizeof *crowd.oneshots), touched(count, sizeof *crowd.handles), count};
    if (crowd.oneshots == NULL || crowd.handles == NULL) {
        bench_fail(b, "no memory for the handles");
    } else {
        for (uint64_t i = 0; i < count; i++)
            routine_oneshot_init(&crowd.oneshots[i]);
        bench_memory_t before = bench_memory();
        start_parked(b, &crowd);
        bench_memory_t after = bench_memory();
        bench_ops(b, (double)count);
        report(b, (double)count, before, after);
        end_parked(b, &crowd);
    }
    free(crowd.handles);
    free(crowd.oneshots);
}

static void memory_parked(bench_t *b)
{
    parked(b, UINT64_MAX);
}

BENCH(memory_parked, .name = "memory_parked/routines", .on = BENCH_WORKERS, .unit = BENCH_MS, .once = true,
      .fresh = true);

#define GROWTH_MEMORY(number)                                                                                \
    static void growth_memory_##number(bench_t *b)                                                           \
    {                                                                                                        \
        parked(b, number);                                                                                   \
    }                                                                                                        \
    BENCH(growth_memory_##number, .name = "growth_memory_" #number "/routines", .on = BENCH_ONE,             \
          .unit = BENCH_MS, .once = true, .fresh = true)

GROWTH_MEMORY(1000);
GROWTH_MEMORY(10000);
GROWTH_MEMORY(100000);

static void *empty(void *arg)
{
    return arg;
}

static void memory_unstarted(bench_t *b)
{
    uint64_t count = bench_size("ROUTINES_BENCH_MILLION", 1000000);
    routine_t *handles = touched(count, sizeof *handles);
    if (handles == NULL) {
        bench_fail(b, "no memory for the handles");
        return;
    }
    routine_stats_t stats;
    const int64_t pace = atomic_exchange(&rt_monitor_pace, ROUTINE_S); /* its millisecond */
    bench_memory_t before = bench_memory();
    bench_start(b);
    for (uint64_t i = 0; i < count; i++)
        handles[i] = go(empty, &handles[i]);
    bench_stop(b);
    bench_memory_t after = bench_memory();
    if (routine_stats(NULL, &stats) != 0 || stats.unstarted == 0) {
        bench_fail(b, "no routine is left unstarted");
    } else {
        bench_ops(b, (double)count);
        report(b, (double)stats.unstarted, before, after);
        bench_counter(b, "unstarted", (double)stats.unstarted / (double)count);
    }

    atomic_store(&rt_monitor_pace, pace);
    int64_t begun = routine_now();
    for (uint64_t i = 0; i < count; i++) {
        void *result = NULL;
        if (routine_join(handles[i], &result) != 0 || result != &handles[i])
            bench_fail(b, "a join failed");
    }
    bench_counter(b, "end_us_each", (double)(routine_now() - begun) / 1000 / (double)count);
    free(handles);
}

BENCH(memory_unstarted, .name = "memory_unstarted/routines", .on = BENCH_ONE, .unit = BENCH_MS, .once = true,
      .fresh = true);
