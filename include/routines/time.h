/* SPDX-License-Identifier: MIT
 *
 * Units of time, the clock that deadlines are given in, and sleeping.
 *
 * Durations are int64_t nanoseconds. A deadline is an absolute time of
 * routine_now(), also int64_t nanoseconds. Multiply by a unit: 50 * ROUTINE_MS.
 */
#ifndef ROUTINES_TIME_H
#define ROUTINES_TIME_H

#include "base.h"

#define ROUTINE_NS    INT64_C(1)
#define ROUTINE_US    INT64_C(1000)
#define ROUTINE_MS    INT64_C(1000000)
#define ROUTINE_S     INT64_C(1000000000)
#define ROUTINE_NEVER INT64_MAX /* the deadline, or the timeout, that does not come */

ROUTINES_BEGIN

/* The time in nanoseconds of CLOCK_MONOTONIC. Any thread; never blocks; about 20 ns. */
ROUTINES_API int64_t routine_now(void);

/*
 * Sleeps for so many nanoseconds, or until that time; not at all if that is over. ROUTINE_NEVER sleeps for
 * ever. Blocks the calling routine (or plain thread) only; a hundred thousand may sleep at once. Never early;
 * late by what the kernel takes to wake a thread, and if all workers are busy, until one of them comes to
 * look. Returns 0.
 */
ROUTINES_API int routine_sleep(int64_t ns);
ROUTINES_API int routine_sleep_until(int64_t at);

ROUTINES_END

#endif
