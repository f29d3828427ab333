/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The wait group: a count, and a queue of those who wait for its end.
 */
#include <string.h>

#include "sync.h"

typedef struct {
    rt_bias bias;
    /* under it */
    rt_queue queue;
    ptrdiff_t count;
} waitgroup;

RT_SYNC_FITS(routine_waitgroup_t, waitgroup);

RT_INLINE waitgroup *inside(routine_waitgroup_t *g)
{
    return (waitgroup *)(void *)g;
}

void routine_waitgroup_init(routine_waitgroup_t *group)
{
    if (group)
        memset(group, 0, sizeof *group);
}

int routine_waitgroup_add(routine_waitgroup_t *group, ptrdiff_t n)
{
    if (RT_UNLIKELY(!group))
        return -EINVAL;
    waitgroup *g = inside(group);
    rt_waiter *all = NULL;
    ptrdiff_t sum;
    int rc = 0;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&g->bias, t->seat);
    if (RT_UNLIKELY(__builtin_add_overflow(g->count, n, &sum))) {
        rc = n > 0 ? -EOVERFLOW : -EINVAL;
    } else if (RT_UNLIKELY(sum < 0)) {
        rc = -EINVAL;
    } else {
        g->count = sum;
        if (sum == 0)
            rt_queue_take_all(&g->queue, 0, &all);
    }
    rt_bias_leave(&g->bias, how);
    rt_ready_all(all);
    rt_leave_as(t);
    return rc;
}

int routine_waitgroup_done(routine_waitgroup_t *group)
{
    return routine_waitgroup_add(group, -1);
}

int routine_waitgroup_wait(routine_waitgroup_t *group)
{
    if (RT_UNLIKELY(!group))
        return -EINVAL;
    waitgroup *g = inside(group);
    rt_thread *t = rt_self();
    const int stop = rt_frame_stop(t->current);
    if (RT_UNLIKELY(stop != 0))
        return stop;
    rt_enter_as(t);
    rt_seat *how = rt_bias_enter(&g->bias, t->seat);
    if (g->count != 0)
        return rt_sync_wait(&g->bias, &g->queue, how);
    rt_bias_leave(&g->bias, how);
    rt_leave_as(t);
    return 0;
}
