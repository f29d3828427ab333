/* SPDX-License-Identifier: MIT
 *
 * Floor 6. How the objects of this room wait: see sync.h.
 */
#include "sync.h"

int rt_sync_wait(rt_bias *bias, rt_queue *queue, rt_seat *how)
{
    rt_waiter w = {.who = rt_me(), .result = RT_PENDING};
    rt_queue_append(queue, &w);
    const int rc = rt_wait_inside(bias, how, &w);
    if (rc != 0)
        rt_give_up(bias, queue, &w);
    rt_leave();
    return rc;
}
