/* SPDX-License-Identifier: MIT
 *
 * What does a burst cost: a thousand routines started, then a thousand joined? An
 * iteration is the whole burst. Joined in the order of their start, as one would write it;
 * "routines-backward" joins the last one first, which suits a stack of work.
 *
 * The limit: a thousand functions with arguments written to an array, then called. The naive
 * peer has a thousand threads.
 */
#include <pthread.h>

#include <routines/routine.h>

#include "harness.h"

enum { THOUSAND = 1000 };

static void *empty(void *arg)
{
    return arg;
}

static void thousand_routines(bench_t *b)
{
    routine_t h[THOUSAND];
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < THOUSAND; j++)
            h[j] = go(empty, NULL);
        for (int j = 0; j < THOUSAND; j++)
            rc |= routine_join(h[j], NULL);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a join failed");
}

BENCH(thousand_routines, .name = "thousand/routines", .on = BENCH_WORKERS, .unit = BENCH_US);

static void thousand_backward(bench_t *b)
{
    routine_t h[THOUSAND];
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < THOUSAND; j++)
            h[j] = go(empty, NULL);
        for (int j = THOUSAND; j-- > 0;)
            rc |= routine_join(h[j], NULL);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a join failed");
}

BENCH(thousand_backward, .name = "thousand/routines-backward", .on = BENCH_WORKERS, .unit = BENCH_US);

static void thousand_limit_array(bench_t *b)
{
    struct {
        routine_fn *fn;
        void *arg;
    } todo[THOUSAND];
    uint64_t n = bench_iterations(b);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < THOUSAND; j++) {
            todo[j].fn = empty;
            todo[j].arg = NULL;
        }
        BENCH_KEEP(&todo);
        for (int j = 0; j < THOUSAND; j++)
            BENCH_KEEP(todo[j].fn(todo[j].arg));
    }
    bench_stop(b);
}

BENCH(thousand_limit_array, .name = "thousand/limit-array", .on = BENCH_THREAD, .unit = BENCH_US);

static void thousand_peer_pthread(bench_t *b)
{
    pthread_t thread[THOUSAND];
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        int started = 0;
        while (started < THOUSAND && (rc = pthread_create(&thread[started], NULL, empty, NULL)) == 0)
            started++;
        for (int j = 0; j < started; j++)
            rc |= pthread_join(thread[j], NULL);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a pthread_create or pthread_join failed");
}

BENCH(thousand_peer_pthread, .name = "thousand/peer-pthread", .on = BENCH_THREAD, .unit = BENCH_US);
