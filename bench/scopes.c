/* SPDX-License-Identifier: MIT
 *
 * What do scopes and cancellations cost?
 *
 * "scope_N": a scope is opened, N children that do nothing are started in it, joined, and it is left, N = 1,
 * 10, 1000: ns a child. "routines-each" starts them by one call; "routines-join" is the same without a
 * scope: go, and join of each.
 *
 * "cancel": to cancel and to join one routine that waits in a receive. "routines-send" ends its wait by a
 * message instead. The naive peer cancels a thread.
 *
 * "cancel_scope": to leave a scope in which a thousand children wait in a receive: ns a child.
 *
 * For the last two the time stands still while the routines are started and come to wait.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include <routines/chan.h>
#include <routines/routine.h>
#include <routines/scope.h>
#include <routines/stats.h>
#include <routines/time.h>

#include "harness.h"

enum { THOUSAND = 1000 };

/* ---- scopes ---- */

static int child(void *arg)
{
    (void)arg;
    return 0;
}

static int one_scope(int count)
{
    int error = -EINVAL, rc = 0;
    routine_scope(s);
    for (int i = 0; i < count; i++)
        rc |= routine_scope_go(&s, child, NULL);
    rc |= routine_scope_join(&s, &error);
    return rc | error;
}

static int one_scope_each(int count)
{
    static char element[THOUSAND];
    int error = -EINVAL, rc = 0;
    routine_scope(s);
    rc |= routine_scope_go_each(&s, child, element, (size_t)count, 1);
    rc |= routine_scope_join(&s, &error);
    return rc | error;
}

static void *empty(void *arg)
{
    return arg;
}

static int no_scope(int count)
{
    routine_t h[THOUSAND];
    int rc = 0;
    for (int i = 0; i < count; i++)
        h[i] = go(empty, NULL);
    for (int i = 0; i < count; i++)
        rc |= routine_join(h[i], NULL);
    return rc;
}

static void scopes(bench_t *b, int (*one)(int count), int count)
{
    const uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++)
        rc |= one(count);
    bench_stop(b);
    bench_ops(b, count);
    if (rc != 0)
        bench_fail(b, "a go or join failed");
}

#define SCOPES(function, one, count, contender)                                                              \
    static void function(bench_t *b)                                                                         \
    {                                                                                                        \
        scopes(b, one, count);                                                                               \
    }                                                                                                        \
    BENCH(function, .name = "scope_" #count "/" contender, .on = BENCH_WORKERS)

SCOPES(scope_1, one_scope, 1, "routines");
SCOPES(scope_1_each, one_scope_each, 1, "routines-each");
SCOPES(scope_1_join, no_scope, 1, "routines-join");
SCOPES(scope_10, one_scope, 10, "routines");
SCOPES(scope_10_each, one_scope_each, 10, "routines-each");
SCOPES(scope_10_join, no_scope, 10, "routines-join");
SCOPES(scope_1000, one_scope, 1000, "routines");
SCOPES(scope_1000_each, one_scope_each, 1000, "routines-each");
SCOPES(scope_1000_join, no_scope, 1000, "routines-join");

/* ---- one at a time ---- */

/* Until so many routines wait; false: they don't. */
static bool all_parked(uint64_t count)
{
    const int64_t patience = routine_now() + 10 * ROUTINE_S;
    routine_stats_t stats;
    do {
        routine_yield();
        if (routine_stats(NULL, &stats) != 0)
            return false;
        if (stats.parked == count)
            return true;
    } while (routine_now() < patience);
    return false;
}

static void *wait_for_it(void *arg)
{
    int64_t value;
    return (void *)(intptr_t)chan_recv(arg, &value);
}

/* Each on a channel of its own. */
typedef struct {
    chan_t *ch[THOUSAND];
    routine_t h[THOUSAND];
} waiters_t;

typedef int end_fn(const waiters_t *w, uint64_t i);

static int end_by_cancel(const waiters_t *w, uint64_t i)
{
    return routine_cancel(w->h[i]);
}

static int end_by_send(const waiters_t *w, uint64_t i)
{
    const int64_t value = 1;
    return chan_send(w->ch[i], &value);
}

/* Ends and joins routines that wait, a batch at a time. */
static void end_waiters(bench_t *b, waiters_t *w, end_fn *end, int expected)
{
    const uint64_t n = bench_iterations(b);
    uint64_t right = 0;
    int rc = 0;
    bench_start(b);
    for (uint64_t done = 0; done < n;) {
        const uint64_t some = n - done < THOUSAND ? n - done : THOUSAND;
        bench_pause(b);
        for (uint64_t i = 0; i < some; i++)
            w->h[i] = go(wait_for_it, w->ch[i]);
        if (!all_parked(some))
            bench_fail(b, "not all routines came to wait");
        bench_resume(b);
        for (uint64_t i = 0; i < some; i++) {
            void *result = NULL;
            rc |= end(w, i) | routine_join(w->h[i], &result);
            right += (intptr_t)result == expected;
        }
        done += some;
    }
    bench_stop(b);
    if (rc != 0 || right != n)
        bench_fail(b, "a wait did not end as it should have");
}

static void with_waiters(bench_t *b, end_fn *end, int expected)
{
    waiters_t w;
    bool made = true;
    for (int i = 0; i < THOUSAND; i++)
        made &= (w.ch[i] = chan_make(int64_t, 0)) != NULL;
    if (made)
        end_waiters(b, &w, end, expected);
    else
        bench_fail(b, "no memory for a channel");
    for (int i = 0; i < THOUSAND; i++)
        chan_unref(w.ch[i]);
}

static void cancel_routines(bench_t *b)
{
    with_waiters(b, end_by_cancel, -ECANCELED);
}

BENCH(cancel_routines, .name = "cancel/routines", .on = BENCH_WORKERS);

static void cancel_send(bench_t *b)
{
    with_waiters(b, end_by_send, 0);
}

BENCH(cancel_send, .name = "cancel/routines-send", .on = BENCH_WORKERS);

static void *wait_in_thread(void *arg)
{
    sem_t *sem = arg;
    sem_post(&sem[0]);
    sem_wait(&sem[1]);
    return NULL;
}

/* Threads say that they are about to wait; few at a time, so that it needs no limit raised. */
static void cancel_peer_pthread(bench_t *b)
{
    enum { THREADS = 100 };
    pthread_t thread[THREADS];
    sem_t sem[2]; /* come, and never posted */
    const uint64_t n = bench_iterations(b);
    uint64_t right = 0;
    int rc = sem_init(&sem[0], 0, 0) | sem_init(&sem[1], 0, 0);
    bench_start(b);
    for (uint64_t done = 0; done < n && rc == 0;) {
        const uint64_t some = n - done < THREADS ? n - done : THREADS;
        uint64_t started = 0;
        bench_pause(b);
        while (started < some && (rc = pthread_create(&thread[started], NULL, wait_in_thread, sem)) == 0)
            started++;
        for (uint64_t i = 0; i < started; i++)
            while (sem_wait(&sem[0]) != 0 && errno == EINTR)
                ;
        bench_resume(b);
        for (uint64_t i = 0; i < started; i++) {
            void *result = NULL;
            rc |= pthread_cancel(thread[i]) | pthread_join(thread[i], &result);
            right += result == PTHREAD_CANCELED;
        }
        done += some;
    }
    bench_stop(b);
    sem_destroy(&sem[0]);
    sem_destroy(&sem[1]);
    if (rc != 0 || right != n)
        bench_fail(b, "a function of pthreads failed");
}

BENCH(cancel_peer_pthread, .name = "cancel/peer-pthread", .on = BENCH_THREAD);

/* ---- a thousand at once ---- */

typedef struct {
    chan_t *ch;
    _Atomic uint64_t canceled;
} crowd_t;

static int wait_as_child(void *arg)
{
    crowd_t *crowd = arg;
    int64_t value;
    const int rc = chan_recv(crowd->ch, &value);
    /* relaxed: a count, read behind the end of the scope */
    if (rc == -ECANCELED)
        atomic_fetch_add_explicit(&crowd->canceled, 1, memory_order_relaxed);
    return rc;
}

/* The time runs when it returns. */
static void leave_scope(bench_t *b, crowd_t *crowd)
{
    int rc = 0;
    routine_scope(s);
    for (int i = 0; i < THOUSAND; i++)
        rc |= routine_scope_go(&s, wait_as_child, crowd);
    if (rc != 0 || !all_parked(THOUSAND))
        bench_fail(b, "not all children came to wait");
    bench_resume(b);
}

static void cancel_scope_routines(bench_t *b)
{
    crowd_t crowd = {.ch = chan_make(int64_t, 0)};
    if (crowd.ch == NULL) {
        bench_fail(b, "no memory for a channel");
        return;
    }
    const uint64_t n = bench_iterations(b);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(b);
        leave_scope(b, &crowd);
    }
    bench_stop(b);
    bench_ops(b, THOUSAND);
    if (crowd.canceled != n * THOUSAND)
        bench_fail(b, "not all children were cancelled");
    chan_unref(crowd.ch);
}

BENCH(cancel_scope_routines, .name = "cancel_scope/routines", .on = BENCH_WORKERS, .unit = BENCH_US);
