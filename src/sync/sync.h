/* SPDX-License-Identifier: MIT
 *
 * Floor 6. What the files of this room share.
 *
 * All objects but mutex and once are a biased lock (bias.h), a queue of waiters, and a number or two. What is
 * waited for is handed over: whoever gives a permit, the read or the write side, or the end of a round,
 * takes the waiter out of the queue and gives it its share under the lock, so nobody can come between, and
 * waiters are served in the order of their arrival. One that has given up (wait.h) gets no share: it goes to
 * the next. Leaving the lock is the last touch of the object: waiters are made ready afterwards, from their
 * own records, so one that is let through may free the object.
 */
#ifndef RT_SYNC_SYNC_H
#define RT_SYNC_SYNC_H

#include <errno.h>

#include "../../include/routines/sync.h"
#include "../sched/scheduler.h"

/* What an object remembers of who holds it: the block may be another routine's one day, the id never is. */
RT_INLINE uint64_t rt_sync_id(const rt_block *r)
{
    /* relaxed: the id of one that runs or waits does not change */
    return RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_relaxed));
}

/* In the object's lock: waits in the queue until taken out, and leaves; and the library (rt_leave)
 * afterwards. 0, or -ECANCELED, -ETIMEDOUT: it has given up, and the object is as if it had not come. */
int rt_sync_wait(rt_bias *bias, rt_queue *queue, rt_seat *how);

/* mutex.c: does this routine hold it? */
bool rt_mutex_is_held(const routine_mutex_t *mutex, const rt_block *by);

/* mutex.c: takes it, whatever befalls the caller (R11). */
void rt_mutex_take_back(routine_mutex_t *mutex);

/* mutex.c: releases it for its holder, on whatever stack. */
void rt_mutex_release(routine_mutex_t *mutex, rt_block *holder);

/* The public type is opaque words, of which the inside makes this. */
#define RT_SYNC_FITS(public_type, type)                                                                      \
    _Static_assert(sizeof(type) <= sizeof(public_type) && _Alignof(type) <= _Alignof(public_type),           \
                   #type " does not fit into " #public_type)

#endif
