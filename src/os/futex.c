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
    errno = saved;
    return error == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void rt_futex_wake(_Atomic uint32_t *word, int count)
{
    const int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
    errno = saved;
}

void rt_lock_acquire_slow(rt_lock_t *lock)
{
    for (int spin = 0; spin < 100; spin++) {
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 && rt_lock_try(lock))
            return;
        rt_relax();
    }
    /* acquire: as in rt_lock_acquire; 2 tells the holder to wake somebody */
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
        rt_futex_wait(&lock->word, 2, INT64_MAX);
}
