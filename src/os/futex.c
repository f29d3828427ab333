/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See futex.h.
 */
#define _GNU_SOURCE
#include "futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* TSan holds signal handlers back until the next call that it intercepts, and these system calls are none. */
#if defined(__SANITIZE_THREAD__)
#define LET_HANDLERS_RUN() usleep(0)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LET_HANDLERS_RUN() usleep(0)
#endif
#endif
#ifndef LET_HANDLERS_RUN
#define LET_HANDLERS_RUN() ((void)0)
#endif

int rt_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    const int saved = errno;
    struct timespec at, *until = NULL;
    if (deadline != INT64_MAX) {
        if (deadline < 0)
            deadline = 0;
        at.tv_sec = (time_t)(deadline / 1000000000);
        at.tv_nsec = (long)(deadline % 1000000000);
        until = &at;
    }
    /* FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, until, NULL,
                      FUTEX_BITSET_MATCH_ANY);
    const int error = rc < 0 ? errno : 0;
    if (error == EINTR)
        LET_HANDLERS_RUN();
    errno = saved;
    return error == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void rt_futex_wake(_Atomic uint32_t *word, int count)
{
    const int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
    errno = saved;
}

/* How many pauses lie between two looks at the lock: more and more. Who holds it can so use it many times in
 * a row before its cache line goes elsewhere, which takes longer than most sections do. */
#define BACKOFF_FIRST 4
#define BACKOFF_LAST  256
#define BACKOFF_ALL   2048

void rt_lock_acquire_slow(rt_lock_t *lock)
{
    for (int all = 0, n = BACKOFF_FIRST; all < BACKOFF_ALL; all += n) {
        for (int i = 0; i < n; i++)
            rt_relax();
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 && rt_lock_try(lock))
            return;
        if (n < BACKOFF_LAST)
            n *= 2;
    }
    /* acquire: as in rt_lock_acquire; 2 tells the holder to wake somebody */
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
        rt_futex_wait(&lock->word, 2, INT64_MAX);
}
