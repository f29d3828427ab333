/* SPDX-License-Identifier: MIT
 *
 * What does a routine cost that does nothing: go, then join at once? The join finds it
 * unstarted and runs it in place; "routines-started" is the other way: it is made to
 * start on a stack of its own (by a yield in between, which is in its time).
 *
 * Limits: calling the empty function through a pointer, and one uncontended
 * compare-and-swap, of which a pair needs one at least. The naive peer is a thread for it.
 */
#include <pthread.h>
#include <stdatomic.h>

#include <routines/routine.h>

#include "harness.h"

static void *empty(void *arg)
{
    return arg;
}

static void go_join_routines(bench_t *b)
{
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++)
        rc |= routine_join(go(empty, NULL), NULL);
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a join failed");
}

BENCH(go_join_routines, .name = "go_join/routines", .on = BENCH_WORKERS);

static void go_join_started(bench_t *b)
{
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_t h = go(empty, NULL);
        routine_yield();
        rc |= routine_join(h, NULL);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a join failed");
}

BENCH(go_join_started, .name = "go_join/routines-started", .on = BENCH_WORKERS);

static void go_join_limit_call(bench_t *b)
{
    uint64_t n = bench_iterations(b);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_fn *fn = empty;
        __asm__ volatile("" : "+r"(fn)); /* could be any function */
        BENCH_KEEP(fn(NULL));
    }
    bench_stop(b);
}

BENCH(go_join_limit_call, .name = "go_join/limit-call", .on = BENCH_THREAD);

static void go_join_limit_cas(bench_t *b)
{
    static _Atomic uint64_t word;
    uint64_t n = bench_iterations(b);
    uint64_t seen = atomic_load(&word);
    bool lost = false;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        lost |= !atomic_compare_exchange_strong(&word, &seen, seen + 1);
        seen++;
    }
    bench_stop(b);
    if (lost)
        bench_fail(b, "an uncontended exchange was lost");
}

BENCH(go_join_limit_cas, .name = "go_join/limit-cas", .on = BENCH_THREAD);

static void go_join_peer_pthread(bench_t *b)
{
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        pthread_t thread;
        rc = pthread_create(&thread, NULL, empty, NULL);
        if (rc == 0)
            rc = pthread_join(thread, NULL);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a pthread_create or pthread_join failed");
}

BENCH(go_join_peer_pthread, .name = "go_join/peer-pthread", .on = BENCH_THREAD);
