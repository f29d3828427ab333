/* SPDX-License-Identifier: MIT
 *
 * Floor 1. The kernel's sleep on a word, and a small lock made of it.
 */
#ifndef RT_OS_FUTEX_H
#define RT_OS_FUTEX_H

#include "../base/base.h"

/* Sleeps while *word is `expected`, until woken or until `deadline` (ns of CLOCK_MONOTONIC;
 * INT64_MAX: none). May come back early for no reason: the caller looks at the word again.
 * Returns 0, or -ETIMEDOUT. Leaves errno alone. */
int rt_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);

/* Wakes up to `count` sleepers. Leaves errno alone. */
void rt_futex_wake(_Atomic uint32_t *word, int count);

/* A lock for sections of a few dozen instructions off the hot paths: 0 free, 1 held, 2 held and
 * somebody may sleep (Drepper 2011, "Futexes are tricky", mutex 2). Not recursive. Zero is free. */
typedef struct {
    _Atomic uint32_t word;
} rt_lock_t;

void rt_lock_acquire_slow(rt_lock_t *lock);

/* acquire: pairs with the release in rt_lock_release. */
RT_INLINE void rt_lock_acquire(rt_lock_t *lock)
{
    uint32_t free = 0;
    if (RT_UNLIKELY(!atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire,
                                                             memory_order_relaxed)))
        rt_lock_acquire_slow(lock);
}

RT_INLINE bool rt_lock_try(rt_lock_t *lock)
{
    uint32_t free = 0;
    return atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

RT_INLINE void rt_lock_release(rt_lock_t *lock)
{
    if (RT_UNLIKELY(atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2))
        rt_futex_wake(&lock->word, 1);
}

#endif
