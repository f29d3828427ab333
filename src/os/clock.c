/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See clock.h.
 */
#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

int64_t rt_clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t rt_clock_after(int64_t ns)
{
    const int64_t now = rt_clock_now();
    if (ns <= 0)
        return now;
    return ns >= INT64_MAX - now ? INT64_MAX : now + ns;
}

void rt_clock_nap(int64_t ns)
{
    const int saved = errno;
    const struct timespec length = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
    errno = saved;
}
