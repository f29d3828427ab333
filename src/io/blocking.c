/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Users' code that blocks: the pool's class for them (sched/pool.h).
 */
#include "../../include/routines/blocking.h"

#include <errno.h>

#include "../sched/pool.h"

int routine_blocking(int (*fn)(void *), void *arg)
{
    return fn ? rt_pool_run(RT_POOL_USER, fn, arg) : -EINVAL;
}
