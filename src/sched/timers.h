/* SPDX-License-Identifier: MIT
 *
 * Floor 3. A worker's timers: a wheel under a lock, which hands back lists of the routines whose time has
 * come, and makes nobody runnable itself.
 *
 * Whoever waits with a limit adds an alarm, in a control block (park.c), to the timers of the worker it
 * parks on; any worker may take over what has passed. An alarm in the wheel is alive: its owner takes it out
 * before it goes on. The clock has to win the wait as everybody else (wait.h); a passed alarm that loses is
 * only taken out.
 *
 * Who adds an alarm makes `next` the earliest time, and looks whether a sleeping worker will be awake
 * by then (idle.h, I6).
 */
#ifndef RT_SCHED_TIMERS_H
#define RT_SCHED_TIMERS_H

#include "../os/futex.h"
#include "wait.h"
#include "wheel.h"

typedef struct {
    rt_lock_t lock;
    _Atomic int64_t
        next; /* the earliest time in the wheel, INT64_MAX: none; written under the lock, a hint without */
    _Atomic bool watched; /* there is one, or `always`: the worker looks at the clock now and then. As next */
    bool always;          /* under lock */
    rt_wheel wheel;       /* under lock */
} rt_timers;

/* `who` is a routine that waits, or one with RT_FLAG_TIMER, which is to be started then: an rt_told is its
 * argument. */
typedef struct {
    rt_timer timer;
    rt_block *who;
    rt_timers *home; /* where it was added */
} rt_alarm;

void rt_timers_init(rt_timers *timers);

RT_INLINE int64_t rt_timers_next(const rt_timers *timers)
{
    return atomic_load_explicit(&timers->next,
                                memory_order_relaxed); /* who relies on it has a barrier (I6) */
}

/* Is there anything for which the worker looks at the clock? */
RT_INLINE bool rt_timers_are_watched(const rt_timers *timers)
{
    return atomic_load_explicit(&timers->watched,
                                memory_order_relaxed); /* a hint: so often it is looked at */
}

/* From now on there always is: the poller has been started. */
void rt_timers_always(rt_timers *timers);

/* alarm->timer.when and who are set. */
void rt_timers_add(rt_timers *timers, rt_alarm *alarm);

/* Takes it out, if it is still in. Afterwards nobody touches it any more. */
void rt_timers_remove(rt_alarm *alarm);

/* Takes out what has passed, and returns those whose wait was won by that, a list by link in the order of
 * their times. At most `most` are taken out at a time: then *more. */
rt_block *rt_timers_expire(rt_timers *timers, int64_t now, size_t most, bool *more);

#endif
