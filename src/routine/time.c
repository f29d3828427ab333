/* SPDX-License-Identifier: MIT
 *
 * Floor 5. The public clock.
 */
#include "../../include/routines/time.h"

#include "../os/clock.h"

int64_t routine_now(void)
{
    return rt_clock_now();
}
