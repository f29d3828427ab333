/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See fdwait.h.
 */
#include "fdwait.h"

#include <errno.h>

#include "../os/clock.h"
#include "order.h"

/* ---- who waits ---- */

static int start(rt_runtime *rt)
{
    if (RT_LIKELY(rt_poller_epoll(&rt->poller) >= 0))
        return 0;
    const int rc = rt_poller_start(&rt->poller);
    if (rc != 0)
        return rc;
    rt_idle_set_interrupt(&rt->idle, rt->poller.event);
    for (size_t i = 0; i < rt->worker_count; i++)
        rt_timers_always(&rt->workers[i].timers);
    return 0;
}

void rt_fdwait_begin(rt_runtime *rt)
{
    rt_worker *w = rt_self()->worker;
    if (RT_LIKELY(w != NULL))
        rt_counter_add_release(&w->fd_waits, 1);
    else /* release: as the counter's, rt_fdwait_any */
        atomic_fetch_add_explicit(&rt->fd_waits, 1, memory_order_release);
    rt_idle_watch(&rt->idle); /* I7 */
}

void rt_fdwait_end(rt_runtime *rt)
{
    rt_worker *w = rt_self()->worker;
    if (RT_LIKELY(w != NULL))
        rt_counter_add_release(&w->fd_waits_over, 1);
    else /* release: as above */
        atomic_fetch_add_explicit(&rt->fd_waits_over, 1, memory_order_release);
}

bool rt_fdwait_any(const rt_runtime *rt)
{
    if (rt_poller_epoll(&rt->poller) < 0)
        return false;
    /* all that are over before all that have begun, as in rt_runtime_live: so one that is not over is never
     * missed */
    uint64_t over = rt_counter_read(&rt->fd_waits_over), begun = 0;
    for (size_t i = 0; i < rt->worker_count; i++)
        over += rt_counter_read(&rt->workers[i].fd_waits_over);
    for (size_t i = 0; i < rt->worker_count; i++)
        begun += rt_counter_read(&rt->workers[i].fd_waits);
    begun += rt_counter_read(&rt->fd_waits);
    return begun != over;
}

/* What a commit needs to know; on the stack of the one who waits. */
typedef struct {
    rt_poller *poller;
    rt_fd *f;
    rt_waiter waiter;
    int direction;
    uint32_t generation, seen;
    bool limited;
} wish;

/* A commit: enters the record, unless something has happened meanwhile. Here and not before the switch, since
 * the one who parks may look at the poller itself, to find the next routine, and that takes the lock. */
static bool enter(rt_block *r, void *arg)
{
    wish *w = arg;
    rt_fd *f = w->f;
    bool waits = true;
    rt_lock_acquire(&f->lock);
    if (RT_LIKELY(rt_fd_events(f, w->direction) == w->seen) && RT_LIKELY(rt_fd_is_registered(f)) &&
        RT_LIKELY(rt_fd_generation(f) == w->generation)) { /* E1, E4 */
        rt_queue_append(&f->waiters[w->direction], &w->waiter);
        rt_poller_note(w->poller, f);
        if (!w->limited)
            waits = !rt_wait_open(r, false);
    } else {
        w->waiter.result = 0;
        waits = false;
    }
    rt_lock_release(&f->lock); /* *w is gone now, if it waits */
    return waits;
}

int rt_fdwait_register(rt_runtime *rt, rt_fd *f, int fd, uint32_t generation)
{
    int rc = start(rt);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    if (RT_LIKELY(rt_fd_is_registered(f)))
        return 0;
    rt_lock_acquire(&f->lock);
    rc = rt_fd_generation(f) == generation ? rt_poller_register(&rt->poller, f, fd) : -ECANCELED; /* E4 */
    rt_lock_release(&f->lock);
    return rc == -EPERM ? RT_FD_NEVER_WAITS : rc;
}

int rt_fdwait(rt_runtime *rt, rt_fd *f, int fd, int direction, uint32_t generation, uint32_t seen)
{
    rt_block *me = rt_me();
    int rc = rt_frame_stop(me);
    if (RT_LIKELY(rc == 0))
        rc = rt_fdwait_register(rt, f, fd, generation);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    wish w = {.poller = &rt->poller,
              .f = f,
              .waiter = {.who = me, .result = RT_PENDING},
              .direction = direction,
              .generation = generation,
              .seen = seen,
              .limited = (me->attr.flags & RT_FLAG_LIMIT) != 0};
    if (RT_UNLIKELY(w.limited) && rt_frame_limit(me) <= rt_clock_now()) {
        rt_frame_expire(me);
        return -ETIMEDOUT;
    }
    rt_fdwait_begin(rt);
    if (RT_UNLIKELY(w.limited)) {
        rc = rt_wait(enter, &w, INT64_MAX, false);
    } else {
        rt_park(enter, &w);
        rc = RT_LIKELY(w.waiter.result != RT_PENDING) ? 0 : -ECANCELED;
    }
    if (RT_UNLIKELY(rc != 0) && rt_waiter_is_queued(&w.waiter)) {
        rt_lock_acquire(&f->lock);
        if (rt_waiter_is_queued(&w.waiter))
            rt_queue_remove(&f->waiters[direction], &w.waiter);
        rt_lock_release(&f->lock);
    }
    rt_fdwait_end(rt);
    return RT_LIKELY(rc == 0) ? w.waiter.result : rc;
}

/* ---- who polls ---- */

/* All of a list onto the caller's ready list, in its order. */
static void append_all(rt_worker *w, rt_waiter *list)
{
    while (list) {
        rt_waiter *next = list->next; /* *list is gone once its owner may run */
        rt_counter_add(&w->counts.readies, 1);
        rt_order_append(w, list->who);
        list = next;
    }
}

bool rt_fdwait_look(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    rt_poller *p = &rt->poller;
    if (rt_poller_epoll(p) < 0 || rt_idle_is_polling(&rt->idle) || !rt_fdwait_any(rt) ||
        !rt_lock_try(&p->polling))
        return false;
    rt_waiter *list = NULL, **end = &list;
    rt_poller_poll(p, p->batch, 0, &end);
    rt_lock_release(&p->polling);
    append_all(w, list);
    return list != NULL;
}

bool rt_fdwait_sleep(rt_worker *w, int64_t until)
{
    rt_runtime *rt = w->runtime;
    struct epoll_event events[RT_POLLER_BATCH];
    rt_waiter *list = NULL, **end = &list;
    rt_poller_poll(&rt->poller, events, until, &end);
    const bool woken = rt_idle_withdraw(&rt->idle, &w->sleeper);
    append_all(w, list);
    return woken || list;
}

void rt_fdwait_round(rt_worker *w, int64_t now)
{
    rt_waiter *list = NULL;
    rt_poller_round(&w->runtime->poller, now, &list);
    append_all(w, list);
}

int64_t rt_fdwait_looked_at(const rt_runtime *rt)
{
    return rt_idle_is_polling(&rt->idle)
               ? INT64_MAX
               : atomic_load_explicit(&rt->poller.polled_at, memory_order_relaxed); /* a hint */
}

void rt_fdwait_look_outside(rt_runtime *rt)
{
    rt_poller *p = &rt->poller;
    if (!rt_fdwait_any(rt) || !rt_lock_try(&p->polling))
        return;
    rt_waiter *list = NULL, **end = &list;
    rt_poller_poll(p, p->batch, 0, &end);
    rt_lock_release(&p->polling);
    rt_ready_all(list);
}
