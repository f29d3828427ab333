/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See timers.h.
 */
#include "timers.h"

#include "../os/clock.h"

/* Under lock. */
static void set_next(rt_timers *timers, int64_t next)
{
    atomic_store_explicit(&timers->next, next, memory_order_relaxed); /* timers.h */
    atomic_store_explicit(&timers->watched, timers->always || next != INT64_MAX,
                          memory_order_relaxed); /* as that */
}

static void publish_next(rt_timers *timers)
{
    set_next(timers, rt_wheel_next(&timers->wheel));
}

void rt_timers_always(rt_timers *timers)
{
    rt_lock_acquire(&timers->lock);
    timers->always = true;
    set_next(timers, rt_timers_next(timers));
    rt_lock_release(&timers->lock);
}

void rt_timers_init(rt_timers *timers)
{
    rt_wheel_init(&timers->wheel, rt_clock_now());
    atomic_store_explicit(&timers->next, INT64_MAX, memory_order_relaxed); /* no other thread yet */
}

void rt_timers_add(rt_timers *timers, rt_alarm *alarm)
{
    alarm->home = timers;
    rt_lock_acquire(&timers->lock);
    rt_wheel_add(&timers->wheel, &alarm->timer);
    if (alarm->timer.when < rt_timers_next(timers))
        set_next(timers, alarm->timer.when);
    rt_lock_release(&timers->lock);
}

void rt_timers_remove(rt_alarm *alarm)
{
    rt_timers *timers = alarm->home;
    rt_lock_acquire(&timers->lock);
    if (alarm->timer.prev) {
        const bool earliest = alarm->timer.when == rt_timers_next(timers);
        rt_wheel_remove(&timers->wheel, &alarm->timer);
        if (earliest) /* perhaps too early, so that a wake-up is for nothing: rather that than a search each
                         time */
            set_next(timers, rt_wheel_not_before(&timers->wheel));
    }
    rt_lock_release(&timers->lock);
}

rt_block *rt_timers_expire(rt_timers *timers, int64_t now, size_t most, bool *more)
{
    rt_block *first = NULL, **end = &first;
    *more = false;
    if (rt_timers_next(timers) > now)
        return NULL;
    rt_lock_acquire(&timers->lock);
    rt_timer *const due = rt_wheel_expire(&timers->wheel, now, most);
    /* Those who have slept long are in no cache: fetch all of them at once. */
    for (const rt_timer *t = due; t; t = t->next)
        rt_block_fetch(RT_CONTAINER_OF(t, const rt_alarm, timer)->who);
    for (rt_timer *t = due, *next; t; t = next) {
        rt_alarm *alarm = RT_CONTAINER_OF(t, rt_alarm, timer);
        rt_block *r = alarm->who;
        next = t->next; /* its owner takes the lock before it goes on: all of the list is alive until we
                           release it */
        if (rt_wait_win_clock(r)) {
            r->link = NULL;
            *end = r;
            end = &r->link;
        }
    }
    publish_next(timers);
    *more = rt_timers_next(timers) <= now;
    rt_lock_release(&timers->lock);
    return first;
}
