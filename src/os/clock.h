/* SPDX-License-Identifier: MIT
 *
 * Floor 1. The clock.
 */
#ifndef RT_OS_CLOCK_H
#define RT_OS_CLOCK_H

#include "../base/base.h"

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t rt_clock_now(void);

/* now + ns; INT64_MAX when that would overflow or ns says so; now for a negative ns. */
int64_t rt_clock_after(int64_t ns);

/* Sleeps the calling thread. Leaves errno alone. */
void rt_clock_nap(int64_t ns);

#endif
