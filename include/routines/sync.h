/* SPDX-License-Identifier: MIT
 *
 * Locks: mutex, read-write lock, condition variable, semaphore, wait group, barrier, once; with the
 * names and arguments of pthreads behind routine_, less the attributes.
 *
 *     static routine_mutex_t lock = ROUTINE_MUTEX_INITIALIZER;
 *
 *     rc = routine_mutex_lock(&lock);   // 0
 *     ...
 *     routine_mutex_unlock(&lock);
 *
 * A call that blocks stops the calling routine and leaves its thread to others; called from a plain
 * thread it blocks that thread. Routines of any runtime and plain threads may share an object. Unlike those
 * of pthreads the locks may be held across anything that blocks, and unlocked on another thread than they
 * were locked on: the routine is what holds them.
 *
 * The objects are plain memory: initialise them by the initialiser or by init, which all of them have;
 * memory that is zero is a good mutex, rwlock, condition variable, wait group and once, and a semaphore
 * of 0. They need no destruction and can be freed as soon as nobody uses them: the one whom an unlock, post,
 * done or signal lets through may free the object at once. Don't copy one that is in use.
 *
 * In a child of fork() the routine that forked is not the holder of what it held before.
 *
 * Functions return 0 or a negative errno: -EINVAL for a null object always, and what is said below. Those
 * that block (the locks, but not once; the waits) also -ECANCELED, when the calling routine has been
 * cancelled (routine_cancel), and -ETIMEDOUT, when the limit in force for it has passed (time.h: limits take
 * the place of pthreads' timed functions). These are looked at first, whether or not it would have to wait;
 * then nothing is held or counted, and what was meant for it goes to the next. If waits may be given up so,
 * free the object only when all calls have returned.
 */
#ifndef ROUTINES_SYNC_H
#define ROUTINES_SYNC_H

#include "base.h"

ROUTINES_BEGIN

/* ---- mutex ---- */

/* Opaque; do not touch the members. So with all types here. */
typedef struct {
    uintptr_t opaque[7];
} routine_mutex_t;

#define ROUTINE_MUTEX_INITIALIZER                                                                            \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0, 0, 0                                                                              \
        }                                                                                                    \
    }

/* Makes it a free mutex. Nobody may be using it. */
ROUTINES_API void routine_mutex_init(routine_mutex_t *mutex);

/*
 * Waits until the mutex is free and takes it. Blocks. A running routine may be faster than one that was woken
 * for it, but not for longer than about a millisecond: then it is handed to the one that has waited longest.
 * Free it is one compare-and-swap. Returns 0; -EDEADLK: the caller holds it already.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_mutex_lock(routine_mutex_t *mutex);

/* Takes the mutex if it is free: 0; else -EBUSY, also when the caller holds it. Never blocks. */
ROUTINES_API ROUTINES_NODISCARD int routine_mutex_trylock(routine_mutex_t *mutex);

/* Releases it. Never blocks. Returns 0; -EPERM: the caller does not hold it. */
ROUTINES_API int routine_mutex_unlock(routine_mutex_t *mutex);

/* ---- condition variable ---- */

typedef struct {
    uintptr_t opaque[5];
} routine_cond_t;

#define ROUTINE_COND_INITIALIZER                                                                             \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0                                                                                    \
        }                                                                                                    \
    }

ROUTINES_API void routine_cond_init(routine_cond_t *cond);

/*
 * Releases the mutex, waits for a signal, and takes the mutex again. Nothing comes between releasing and
 * waiting: a signal sent under the mutex is not missed. It always returns holding the mutex, unless -EPERM,
 * also when it was cancelled or its limit passed, which cuts the wait short, not the taking back.
 * Blocks. There are no spurious wake-ups, but what was signalled may have been undone by somebody who took
 * the mutex first:
 *
 *     while (rc == 0 && queue_is_empty(q))
 *         rc = routine_cond_wait(&q->filled, &q->lock);
 *
 * Returns 0; -EPERM: the caller does not hold the mutex.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_cond_wait(routine_cond_t *cond, routine_mutex_t *mutex);

/* Wakes the one that has waited longest, or all, if there are any; whoever begins to wait afterwards is not
 * among them. Never block. With or without the mutex. */
ROUTINES_API int routine_cond_signal(routine_cond_t *cond);
ROUTINES_API int routine_cond_broadcast(routine_cond_t *cond);

/* ---- read-write lock ---- */

typedef struct {
    uintptr_t opaque[8];
} routine_rwlock_t;

#define ROUTINE_RWLOCK_INITIALIZER                                                                           \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0, 0, 0, 0                                                                           \
        }                                                                                                    \
    }

ROUTINES_API void routine_rwlock_init(routine_rwlock_t *lock);

/*
 * Any number of readers, or one writer. First come, first served: a reader that comes while a writer waits
 * waits behind it, so writers don't starve; and so a routine must not take a read lock that it holds. Block.
 * Return 0; -EDEADLK: the caller holds it for writing.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_rwlock_rdlock(routine_rwlock_t *lock);
ROUTINES_API ROUTINES_NODISCARD int routine_rwlock_wrlock(routine_rwlock_t *lock);

/* As these, but -EBUSY instead of waiting, also to the one who holds it for writing. */
ROUTINES_API ROUTINES_NODISCARD int routine_rwlock_tryrdlock(routine_rwlock_t *lock);
ROUTINES_API ROUTINES_NODISCARD int routine_rwlock_trywrlock(routine_rwlock_t *lock);

/* Releases what the caller holds. Never blocks. Returns 0; -EPERM: nobody reads it, and the caller does not
 * hold it for writing. (Which readers there are is not known, only how many.) */
ROUTINES_API int routine_rwlock_unlock(routine_rwlock_t *lock);

/* ---- counting semaphore ---- */

typedef struct {
    uintptr_t opaque[6];
} routine_sem_t;

/* With n permits to begin with. */
#define ROUTINE_SEM_INITIALIZER(n)                                                                           \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0, (n)                                                                               \
        }                                                                                                    \
    }

/* The most permits that a semaphore can hold. */
#define ROUTINE_SEM_MAX INTPTR_MAX

/* Returns 0; -EINVAL: more than ROUTINE_SEM_MAX. */
ROUTINES_API int routine_sem_init(routine_sem_t *sem, size_t permits);

/* Takes a permit; waits while there is none, first come, first served. Blocks. Returns 0. */
ROUTINES_API ROUTINES_NODISCARD int routine_sem_wait(routine_sem_t *sem);

/* Takes a permit: 0; -EAGAIN: there is none. Never blocks. */
ROUTINES_API ROUTINES_NODISCARD int routine_sem_trywait(routine_sem_t *sem);

/* Adds a permit, or hands it to the one that has waited longest. Never blocks. Returns 0; -EOVERFLOW. */
ROUTINES_API int routine_sem_post(routine_sem_t *sem);

/* The permits at this moment. */
ROUTINES_API int routine_sem_getvalue(routine_sem_t *sem, size_t *permits);

/* ---- wait group ---- */

typedef struct {
    uintptr_t opaque[6];
} routine_waitgroup_t;

#define ROUTINE_WAITGROUP_INITIALIZER                                                                        \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0, 0                                                                                 \
        }                                                                                                    \
    }

ROUTINES_API void routine_waitgroup_init(routine_waitgroup_t *group);

/*
 * Counts n things to wait for (before they are started: a wait that finds zero returns), or with a negative n
 * takes away; done is add(-1). At zero everybody who waits goes on. Never block. Return 0; -EINVAL: it would
 * fall below zero (then it is left as it was); -EOVERFLOW.
 */
ROUTINES_API int routine_waitgroup_add(routine_waitgroup_t *group, ptrdiff_t n);
ROUTINES_API int routine_waitgroup_done(routine_waitgroup_t *group);

/* Waits until the count is zero. Blocks. Returns 0. */
ROUTINES_API ROUTINES_NODISCARD int routine_waitgroup_wait(routine_waitgroup_t *group);

/* ---- barrier ---- */

typedef struct {
    uintptr_t opaque[7];
} routine_barrier_t;

/* For `count` parties, at least 1. */
#define ROUTINE_BARRIER_INITIALIZER(count)                                                                   \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0, 0, (count)                                                                        \
        }                                                                                                    \
    }

/* Returns 0; -EINVAL: count is 0 or too large. */
ROUTINES_API int routine_barrier_init(routine_barrier_t *barrier, size_t count);

/*
 * Waits until `count` parties have come here, then all go on, and the barrier is ready for the next round.
 * Blocks. Returns 0, and 1 to the last one of each round; -EINVAL: the barrier was never given a count. After
 * -ECANCELED or -ETIMEDOUT the caller does not count as having come; once the last one has come it
 * gets 0 in any case.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_barrier_wait(routine_barrier_t *barrier);

/* ---- once ---- */

typedef struct {
    uintptr_t opaque[5];
} routine_once_t;

#define ROUTINE_ONCE_INITIALIZER                                                                             \
    {                                                                                                        \
        {                                                                                                    \
            0, 0, 0, 0, 0                                                                                    \
        }                                                                                                    \
    }

/*
 * Calls fn() if nobody has with this object; else waits until that call has returned. fn may block; if it
 * ends the routine (routine_exit, routine_panic), it counts as having returned. The wait is not cut short by
 * anything. After the first time it costs one load. Returns 0; -EDEADLK: called from within its own fn;
 * -EINVAL.
 */
ROUTINES_API int routine_once(routine_once_t *once, void (*fn)(void));

/* The same with an argument: fn(arg). */
ROUTINES_API int routine_once_with(routine_once_t *once, void (*fn)(void *), void *arg);

ROUTINES_END

#endif
