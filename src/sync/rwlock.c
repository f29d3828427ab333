/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The read-write lock: first come, first served; readers that stand next to each other in
 * the queue enter together.
 */
#include <string.h>

#include "sync.h"

enum { READ, WRITE };

typedef struct {
    rt_bias bias;
    /* under it */
    rt_queue queue;
    size_t readers;
    uint64_t writer; /* its id; 0: none */
} rwlock;

RT_SYNC_FITS(routine_rwlock_t, rwlock);

RT_INLINE rwlock *inside(routine_rwlock_t *l)
{
    return (rwlock *)(void *)l;
}

void routine_rwlock_init(routine_rwlock_t *lock)
{
    if (lock)
        memset(lock, 0, sizeof *lock);
}

/* Inside: takes it at once, if nobody is before. */
static bool take(rwlock *l, uint64_t me, int kind)
{
    if (l->writer || !rt_queue_is_empty(&l->queue) || (kind == WRITE && l->readers))
        return false;
    if (kind == READ)
        l->readers++;
    else
        l->writer = me;
    return true;
}

/* Inside: lets in who comes next. Returns them, for rt_ready_all. */
static rt_waiter *let_in(rwlock *l)
{
    rt_waiter *first = NULL, **end = &first;
    for (rt_waiter *w; (w = rt_queue_head(&l->queue)) != NULL && !l->writer;) {
        const int32_t kind = w->kind;
        if (kind == WRITE && l->readers)
            break;
        const bool there = rt_wait_win(w->who);
        rt_queue_pop(&l->queue, w);
        if (!there)
            continue;
        if (kind == READ)
            l->readers++;
        else
            l->writer = rt_sync_id(w->who);
        w->result = 0;
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    return first;
}

/* Inside. */
static int wait_for_turn(rwlock *l, rt_seat *how, int32_t kind)
{
    rt_waiter w = {.who = rt_me(), .kind = kind, .result = RT_PENDING};
    rt_queue_append(&l->queue, &w);
    const int rc = rt_wait_inside(&l->bias, how, &w);
    if (rc == 0 || !rt_waiter_is_queued(&w))
        return rc;
    how = rt_bias_enter(&l->bias, rt_self()->seat);
    if (rt_waiter_is_queued(&w))
        rt_queue_remove(&l->queue, &w);
    rt_waiter *next = let_in(l); /* readers may have stood behind a writer */
    rt_bias_leave(&l->bias, how);
    rt_ready_all(next);
    return rc;
}

static int lock(routine_rwlock_t *lock, int kind, bool wait)
{
    if (RT_UNLIKELY(!lock))
        return -EINVAL;
    rwlock *l = inside(lock);
    const rt_block *me = rt_me();
    const uint64_t id = rt_sync_id(me);
    const int stop = wait ? rt_frame_stop(me) : 0;
    if (RT_UNLIKELY(stop != 0))
        return stop;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&l->bias, t->seat);
    const bool mine = l->writer == id;
    const bool taken = !mine && take(l, id, kind);
    if (!taken && !mine && wait) {
        const int rc = wait_for_turn(l, how, kind);
        rt_leave();
        return rc;
    }
    rt_bias_leave(&l->bias, how);
    rt_leave_as(t);
    return taken ? 0 : wait ? -EDEADLK : -EBUSY;
}

int routine_rwlock_rdlock(routine_rwlock_t *l)
{
    return lock(l, READ, true);
}

int routine_rwlock_wrlock(routine_rwlock_t *l)
{
    return lock(l, WRITE, true);
}

int routine_rwlock_tryrdlock(routine_rwlock_t *l)
{
    return lock(l, READ, false);
}

int routine_rwlock_trywrlock(routine_rwlock_t *l)
{
    return lock(l, WRITE, false);
}

int routine_rwlock_unlock(routine_rwlock_t *lock)
{
    if (RT_UNLIKELY(!lock))
        return -EINVAL;
    rwlock *l = inside(lock);
    rt_waiter *next = NULL;
    int rc = 0;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&l->bias, t->seat);
    if (l->writer) {
        if (l->writer == rt_sync_id(rt_me()))
            l->writer = 0;
        else
            rc = -EPERM;
    } else if (l->readers) {
        l->readers--;
    } else {
        rc = -EPERM;
    }
    if (rc == 0)
        next = let_in(l);
    rt_bias_leave(&l->bias, how);
    rt_ready_all(next);
    rt_leave_as(t);
    return rc;
}
