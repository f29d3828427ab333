/* SPDX-License-Identifier: MIT
 *
 * What does a lock cost? Two questions:
 *
 * "mutex": a thousand routines lock, add one and unlock a thousand times each, all on the same mutex. An
 * operation is one of these million; the sum is checked. The naive peer is two threads with a mutex of
 * pthreads that share the million between them.
 *
 * "mutex_uncontended": one routine does the same alone. pthreads' mutex is measured in a routine too, since
 * it does without locked instructions in a process that has a single thread.
 *
 * The limit of both: an uncontended compare-and-swap and an exchange, which is what it takes to lock and to
 * unlock where others might want to.
 */
#include <pthread.h>
#include <stdatomic.h>

#include <routines/routine.h>
#include <routines/sync.h>

#include "harness.h"

enum { THOUSAND = 1000, THREADS = 2 };

static const uint64_t MILLION = THOUSAND * THOUSAND;

/* ---- everybody wants it ---- */

typedef struct {
    routine_mutex_t lock;
    uint64_t sum; /* under it */
} shared_t;

static void *add_thousand(void *arg)
{
    shared_t *s = arg;
    int rc = 0;
    for (int i = 0; i < THOUSAND && rc == 0; i++) {
        rc = routine_mutex_lock(&s->lock);
        if (rc == 0) {
            s->sum++;
            rc = routine_mutex_unlock(&s->lock);
        }
    }
    return (void *)(intptr_t)rc;
}

static void mutex_routines(bench_t *b)
{
    shared_t s = {.lock = ROUTINE_MUTEX_INITIALIZER};
    routine_t h[THOUSAND];
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < THOUSAND; j++)
            h[j] = go(add_thousand, &s);
        for (int j = 0; j < THOUSAND; j++) {
            void *result = NULL;
            rc |= routine_join(h[j], &result) | (int)(intptr_t)result;
        }
    }
    bench_stop(b);
    bench_ops(b, (double)MILLION);
    if (rc != 0)
        bench_fail(b, "a lock, unlock or join failed");
    else if (s.sum != n * MILLION)
        bench_fail(b, "the wrong sum: the mutex let two in");
}

BENCH(mutex_routines, .name = "mutex/routines", .on = BENCH_WORKERS, .unit = BENCH_MS);

typedef struct {
    pthread_mutex_t lock;
    uint64_t sum;  /* under it */
    uint64_t each; /* what one thread adds */
} threads_t;

static void *add_share(void *arg)
{
    threads_t *t = arg;
    int rc = 0;
    for (uint64_t i = t->each; i > 0; i--) {
        rc |= pthread_mutex_lock(&t->lock);
        t->sum++;
        rc |= pthread_mutex_unlock(&t->lock);
    }
    return (void *)(intptr_t)rc;
}

static void mutex_peer_pthread(bench_t *b)
{
    threads_t t = {.lock = PTHREAD_MUTEX_INITIALIZER, .each = MILLION / THREADS};
    pthread_t thread[THREADS];
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        int started = 0;
        while (started < THREADS && (rc = pthread_create(&thread[started], NULL, add_share, &t)) == 0)
            started++;
        for (int j = 0; j < started; j++) {
            void *result = NULL;
            rc |= pthread_join(thread[j], &result) | (int)(intptr_t)result;
        }
    }
    bench_stop(b);
    bench_ops(b, (double)MILLION);
    if (rc != 0)
        bench_fail(b, "a function of pthreads failed");
    else if (t.sum != n * MILLION)
        bench_fail(b, "the wrong sum: the mutex let two in");
}

BENCH(mutex_peer_pthread, .name = "mutex/peer-pthread", .on = BENCH_THREAD, .unit = BENCH_MS);

/* ---- nobody else does ---- */

static void mutex_alone_routines(bench_t *b)
{
    shared_t s = {.lock = ROUTINE_MUTEX_INITIALIZER};
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        rc = routine_mutex_lock(&s.lock);
        if (rc == 0) {
            s.sum++;
            rc = routine_mutex_unlock(&s.lock);
        }
    }
    bench_stop(b);
    if (rc != 0 || s.sum != n)
        bench_fail(b, "a lock or unlock failed");
}

BENCH(mutex_alone_routines, .name = "mutex_uncontended/routines", .on = BENCH_ONE);

static void mutex_alone_peer_pthread(bench_t *b)
{
    threads_t t = {.lock = PTHREAD_MUTEX_INITIALIZER, .each = bench_iterations(b)};
    bench_start(b);
    void *result = add_share(&t);
    bench_stop(b);
    if (result != NULL || t.sum != t.each)
        bench_fail(b, "a function of pthreads failed");
}

BENCH(mutex_alone_peer_pthread, .name = "mutex_uncontended/peer-pthread", .on = BENCH_ONE);

/* ---- the limit ---- */

static void swap_and_exchange(bench_t *b)
{
    static _Atomic uintptr_t word;
    uint64_t n = bench_iterations(b);
    bool lost = false;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        uintptr_t seen = 0;
        lost |= !atomic_compare_exchange_strong(&word, &seen, 1);
        lost |= atomic_exchange(&word, 0) != 1;
    }
    bench_stop(b);
    if (lost)
        bench_fail(b, "an uncontended exchange was lost");
}

static void mutex_limit_cas(bench_t *b)
{
    swap_and_exchange(b);
}

BENCH(mutex_limit_cas, .name = "mutex/limit-cas", .on = BENCH_THREAD);

static void mutex_alone_limit_cas(bench_t *b)
{
    swap_and_exchange(b);
}

BENCH(mutex_alone_limit_cas, .name = "mutex_uncontended/limit-cas", .on = BENCH_THREAD);
