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
    rt_sleep_until(at);
    return 0;
}

int routine_sleep(int64_t ns)
{
    rt_sleep_until(rt_clock_after(ns));
    return 0;
}
