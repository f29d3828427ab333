/* SPDX-License-Identifier: MIT
 *
 * What do the other locks cost a routine that has them for itself? A pair each: "sem" wait and post,
 * "rwlock_read" and "rwlock_write" lock and unlock, "waitgroup" add and done; "once" a call after the first
 * one.
 *
 * Beside each what pthreads or POSIX have, also called by a routine, so that the process has threads for
 * both. They have no wait group: theirs is a mutex, a count and a condition variable.
 */
#include <pthread.h>
#include <semaphore.h>

#include <routines/sync.h>

#include "harness.h"

/* ---- semaphore ---- */

static void sem_routines(bench_t *b)
{
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(1);
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= routine_sem_wait(&sem);
        rc |= routine_sem_post(&sem);
    }
    bench_stop(b);
    size_t permits = 0;
    rc |= routine_sem_getvalue(&sem, &permits);
    if (rc != 0 || permits != 1)
        bench_fail(b, "a wait or post failed");
}

BENCH(sem_routines, .name = "sem/routines", .on = BENCH_ONE);

static void sem_peer_posix(bench_t *b)
{
    sem_t sem;
    uint64_t n = bench_iterations(b);
    int rc = sem_init(&sem, 0, 1);
    bench_start(b);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        rc |= sem_wait(&sem);
        rc |= sem_post(&sem);
    }
    bench_stop(b);
    int permits = 0;
    if (rc != 0 || sem_getvalue(&sem, &permits) != 0 || permits != 1)
        bench_fail(b, "a function of POSIX failed");
    sem_destroy(&sem);
}

BENCH(sem_peer_posix, .name = "sem/peer-posix", .on = BENCH_ONE);

/* ---- read-write lock ---- */

static void read_routines(bench_t *b)
{
    routine_rwlock_t lock = ROUTINE_RWLOCK_INITIALIZER;
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= routine_rwlock_rdlock(&lock);
        rc |= routine_rwlock_unlock(&lock);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a lock or unlock failed");
}

BENCH(read_routines, .name = "rwlock_read/routines", .on = BENCH_ONE);

static void read_peer_pthread(bench_t *b)
{
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= pthread_rwlock_rdlock(&lock);
        rc |= pthread_rwlock_unlock(&lock);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a function of pthreads failed");
}

BENCH(read_peer_pthread, .name = "rwlock_read/peer-pthread", .on = BENCH_ONE);

static void write_routines(bench_t *b)
{
    routine_rwlock_t lock = ROUTINE_RWLOCK_INITIALIZER;
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= routine_rwlock_wrlock(&lock);
        rc |= routine_rwlock_unlock(&lock);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a lock or unlock failed");
}

BENCH(write_routines, .name = "rwlock_write/routines", .on = BENCH_ONE);

static void write_peer_pthread(bench_t *b)
{
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= pthread_rwlock_wrlock(&lock);
        rc |= pthread_rwlock_unlock(&lock);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a function of pthreads failed");
}

BENCH(write_peer_pthread, .name = "rwlock_write/peer-pthread", .on = BENCH_ONE);

/* ---- wait group ---- */

static void waitgroup_routines(bench_t *b)
{
    routine_waitgroup_t group = ROUTINE_WAITGROUP_INITIALIZER;
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= routine_waitgroup_add(&group, 1);
        rc |= routine_waitgroup_done(&group);
    }
    bench_stop(b);
    rc |= routine_waitgroup_wait(&group);
    if (rc != 0)
        bench_fail(b, "an add, done or wait failed");
}

BENCH(waitgroup_routines, .name = "waitgroup/routines", .on = BENCH_ONE);

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t zero;
    uint64_t count;
} group_t;

static __attribute__((noinline)) int group_add(group_t *group)
{
    int rc = pthread_mutex_lock(&group->lock);
    group->count++;
    return rc | pthread_mutex_unlock(&group->lock);
}

static __attribute__((noinline)) int group_done(group_t *group)
{
    int rc = pthread_mutex_lock(&group->lock);
    if (--group->count == 0)
        rc |= pthread_cond_broadcast(&group->zero);
    return rc | pthread_mutex_unlock(&group->lock);
}

static void waitgroup_peer_pthread(bench_t *b)
{
    group_t group = {.lock = PTHREAD_MUTEX_INITIALIZER, .zero = PTHREAD_COND_INITIALIZER};
    uint64_t n = bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        rc |= group_add(&group);
        rc |= group_done(&group);
    }
    bench_stop(b);
    if (rc != 0 || group.count != 0)
        bench_fail(b, "a function of pthreads failed");
}

BENCH(waitgroup_peer_pthread, .name = "waitgroup/peer-pthread", .on = BENCH_ONE);

/* ---- once ---- */

static uint64_t called;

static void call(void)
{
    called++;
}

static void once_routines(bench_t *b)
{
    routine_once_t once = ROUTINE_ONCE_INITIALIZER;
    uint64_t n = bench_iterations(b);
    called = 0;
    int rc = routine_once(&once, call);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++)
        rc |= routine_once(&once, call);
    bench_stop(b);
    if (rc != 0 || called != 1)
        bench_fail(b, "a once failed, or it was more than once");
}

BENCH(once_routines, .name = "once/routines", .on = BENCH_ONE);

static void once_peer_pthread(bench_t *b)
{
    pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t n = bench_iterations(b);
    called = 0;
    int rc = pthread_once(&once, call);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++)
        rc |= pthread_once(&once, call);
    bench_stop(b);
    if (rc != 0 || called != 1)
        bench_fail(b, "a function of pthreads failed");
}

BENCH(once_peer_pthread, .name = "once/peer-pthread", .on = BENCH_ONE);
