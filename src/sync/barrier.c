/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The barrier: a queue, which the last one of each round lets go as a whole.
 */
#include <string.h>

#include "sync.h"

typedef struct {
    rt_bias bias;
    /* under it */
    rt_queue queue;
    size_t arrived;
    size_t count; /* constant */
} barrier;

RT_SYNC_FITS(routine_barrier_t, barrier);
_Static_assert(offsetof(barrier, count) == 6 * sizeof(uintptr_t),
               "ROUTINE_BARRIER_INITIALIZER sets the seventh word");

RT_INLINE barrier *inside(routine_barrier_t *b)
{
    return (barrier *)(void *)b;
}

int routine_barrier_init(routine_barrier_t *b, size_t count)
{
    if (!b || count == 0 || count > (size_t)PTRDIFF_MAX)
        return -EINVAL;
    memset(b, 0, sizeof *b);
    inside(b)->count = count;
    return 0;
}

/* Inside, having arrived. */
static int wait_for_others(barrier *b, rt_seat *how)
{
    rt_waiter w = {.who = rt_me(), .result = RT_PENDING};
    rt_queue_append(&b->queue, &w);
    const int rc = rt_wait_inside(&b->bias, how, &w);
    if (rc == 0 || !rt_waiter_is_queued(&w)) /* taken out by the last one: the round is complete, with it */
        return 0;
    how = rt_bias_enter(&b->bias, rt_self()->seat);
    const bool left_out = rt_waiter_is_queued(&w);
    if (left_out) {
        rt_queue_remove(&b->queue, &w);
        b->arrived--;
    }
    rt_bias_leave(&b->bias, how);
    return left_out ? rc : 0;
}

int routine_barrier_wait(routine_barrier_t *barrier_)
{
    if (!barrier_ || inside(barrier_)->count == 0)
        return -EINVAL;
    barrier *b = inside(barrier_);
    rt_waiter *all = NULL;
    rt_thread *t = rt_self();
    const int stop = rt_frame_stop(t->current);
    if (RT_UNLIKELY(stop != 0))
        return stop;
    rt_enter_as(t);
    rt_seat *how = rt_bias_enter(&b->bias, t->seat);
    if (++b->arrived < b->count) {
        const int rc = wait_for_others(b, how);
        rt_leave();
        return rc;
    }
    b->arrived = 0;
    rt_queue_take_all(&b->queue, 0, &all);
    rt_bias_leave(&b->bias, how);
    rt_ready_all(all);
    rt_leave_as(t);
    return 1;
}
