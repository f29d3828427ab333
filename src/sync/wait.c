/* SPDX-License-Identifier: MIT
 *
 * Floor 6. How the objects of this room wait: see sync.h.
 */
#include "sync.h"

void rt_sync_wait(rt_bias *bias, rt_queue *queue, rt_seat *how, int32_t kind)
{
    rt_waiter w = {.who = rt_me(), .kind = kind};
    rt_queue_append(queue, &w);
    rt_park_inside(bias, how);
}
