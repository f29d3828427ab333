/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The condition variable: a queue.
 *
 * Who waits enters the queue, parks, and only on the other side releases the mutex, and after it the lock of
 * the queue: so a signal sent under the mutex finds it there, and it cannot be woken while it still holds the
 * mutex.
 */
#include <string.h>

#include "sync.h"

typedef struct {
    rt_bias bias;
    rt_queue queue;
} cond;

RT_SYNC_FITS(routine_cond_t, cond);

RT_INLINE cond *inside(routine_cond_t *c)
{
    return (cond *)(void *)c;
}

void routine_cond_init(routine_cond_t *c)
{
    if (c)
        memset(c, 0, sizeof *c);
}

typedef struct {
    rt_bias *bias;
    rt_seat *how;
    routine_mutex_t *mutex;
    bool limited; /* its wait is opened elsewhere */
} leaving;

/* A commit. */
static bool leave(rt_block *r, void *arg)
{
    const leaving l = *(const leaving *)arg; /* gone with its stack as soon as the lock has been left */
    const bool canceled = !l.limited && rt_wait_open(r, false);
    rt_mutex_release(l.mutex, r);
    rt_bias_leave(l.bias, l.how);
    return !canceled;
}

int routine_cond_wait(routine_cond_t *cond_, routine_mutex_t *mutex)
{
    if (!cond_ || !mutex)
        return -EINVAL;
    cond *c = inside(cond_);
    rt_waiter w = {.who = rt_me(), .result = RT_PENDING};
    if (!rt_mutex_is_held(mutex, w.who))
        return -EPERM;
    const int stop = rt_frame_stop(w.who);
    if (stop != 0)
        return stop;
    const rt_thread *t = rt_enter();
    leaving l = {.bias = &c->bias, .mutex = mutex, .limited = rt_frame_limit(w.who) != INT64_MAX};
    l.how = rt_bias_enter(&c->bias, t->seat);
    rt_queue_append(&c->queue, &w);
    int rc = 0;
    if (l.limited)
        rc = rt_wait(leave, &l, INT64_MAX, false);
    else
        rt_park(leave, &l);
    if (w.result == RT_PENDING) {
        rc = rc != 0 ? rc : -ECANCELED;
        rt_give_up(&c->bias, &c->queue, &w);
    }
    rt_mutex_take_back(mutex);
    rt_leave();
    return rc;
}

int routine_cond_signal(routine_cond_t *cond_)
{
    if (!cond_)
        return -EINVAL;
    cond *c = inside(cond_);
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&c->bias, t->seat);
    rt_waiter *w = rt_queue_take(&c->queue);
    rt_block *wake = w ? w->who : NULL;
    if (w)
        w->result = 0;
    rt_bias_leave(&c->bias, how);
    if (wake)
        rt_ready_block(wake);
    rt_leave_as(t);
    return 0;
}

int routine_cond_broadcast(routine_cond_t *cond_)
{
    if (!cond_)
        return -EINVAL;
    cond *c = inside(cond_);
    rt_waiter *all = NULL;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&c->bias, t->seat);
    rt_queue_take_all(&c->queue, 0, &all);
    rt_bias_leave(&c->bias, how);
    rt_ready_all(all);
    rt_leave_as(t);
    return 0;
}
