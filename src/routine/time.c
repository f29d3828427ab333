/* SPDX-License-Identifier: MIT
 *
 * Floor 5. The public clock.
 */
#include "../../include/routines/time.h"

#include "../os/clock.h"
#include "../sched/scheduler.h"

int64_t routine_now(void)
{
    return rt_clock_now();
}

int routine_sleep_until(int64_t at)
{
    const int stop = rt_frame_stop(rt_self()->current);
    if (stop != 0)
        return stop;
    (void)rt_enter();
    const int rc = rt_sleep_until(at);
    rt_leave();
    return rc;
}

int routine_sleep(int64_t ns)
{
    const int stop = rt_frame_stop(rt_self()->current);
    if (stop != 0)
        return stop;
    (void)rt_enter();
    const int rc = rt_sleep(ns);
    rt_leave();
    return rc;
}
