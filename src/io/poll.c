/* SPDX-License-Identifier: MIT
 *
 * Floor 7. routine_poll: poll(2) for a routine. It asks the system; if there is nothing it waits in the
 * records of all descriptors, and asks again. Its wait is shared (wait.h), its records are entered as those
 * of a select are:
 *
 *  Q1 On the other side of the switch the locks of all records are taken, in the order of the numbers. If
 * nothing has happened to any of them since before the system was asked (poller.h, E1), all are entered; else
 *     none is. Then the locks are left.
 *  Q2 Whose wait is won while there are still locks to be left waits for that when it takes its records out,
 *     since one of each lock's is in its queue (select.c, S4): so long the list of them lasts.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "../../include/routines/io.h"
#include "../os/clock.h"
#include "../os/sys.h"
#include "fd.h"

/* Entries that need no malloc. */
#define FEW 4
#define MS  INT64_C(1000000)

typedef struct {
    int fd;
    short events;
    rt_fd *f;
    uint32_t generation, seen[2];
    rt_waiter waiters[2];
} entry;

typedef struct {
    rt_block *me;
    rt_runtime *rt;
    entry *entries; /* by number */
    size_t count;
    rt_waiter *won;
} plan;

static bool waits_for(const entry *e, int direction)
{
    return direction == RT_FD_IN || e->events & (POLLOUT | POLLWRNORM | POLLWRBAND);
}

static int by_number(const void *a, const void *b)
{
    const int x = ((const entry *)a)->fd, y = ((const entry *)b)->fd;
    return (x > y) - (x < y);
}

/* Those that are not ignored. 0, or -ENOMEM. */
static int list(plan *p, const struct pollfd *fds, size_t count)
{
    p->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (fds[i].fd < 0)
            continue;
        entry *e = &p->entries[p->count++];
        *e = (entry){
            .fd = fds[i].fd, .events = fds[i].events, .f = rt_poller_make_if_open(&p->rt->poller, fds[i].fd)};
        if (!e->f && rt_epoll_is_open(e->fd))
            return -ENOMEM;
        if (!e->f) { /* poll(2) says so at once */
            p->count--;
            continue;
        }
        e->generation = rt_fd_generation(e->f);
    }
    qsort(p->entries, p->count, sizeof *p->entries, by_number);
    return 0;
}

static void note_events(plan *p)
{
    for (entry *e = p->entries; e < p->entries + p->count; e++)
        for (int d = 0; d < 2; d++)
            e->seen[d] = rt_fd_events(e->f, d);
}

/* All of them registered. What epoll refuses is never waited for, and is left out. 0 or a negative errno. */
static int prepare(plan *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        const entry *e = &p->entries[i];
        const int rc = rt_fdwait_register(p->rt, e->f, e->fd, e->generation);
        if (rc < 0)
            return rc;
        if (rc != RT_FD_NEVER_WAITS)
            p->entries[kept++] = *e;
    }
    p->count = kept;
    return 0;
}

static bool has_changed(const entry *e)
{
    if (rt_fd_generation(e->f) != e->generation || !rt_fd_is_registered(e->f))
        return true;
    for (int d = 0; d < 2; d++)
        if (waits_for(e, d) && rt_fd_events(e->f, d) != e->seen[d])
            return true;
    return false;
}

static bool is_first(const plan *p, size_t i)
{
    return i == 0 || p->entries[i].f != p->entries[i - 1].f;
}

/* A commit (Q1). */
static bool enter_all(rt_block *r, void *arg)
{
    plan *p = arg;
    (void)r;
    bool changed = false;
    for (size_t i = 0; i < p->count; i++)
        if (is_first(p, i))
            rt_lock_acquire(&p->entries[i].f->lock);
    for (size_t i = 0; i < p->count; i++)
        changed |= has_changed(&p->entries[i]);
    for (size_t i = 0; !changed && i < p->count; i++) {
        entry *e = &p->entries[i];
        for (int d = 0; d < 2; d++)
            if (waits_for(e, d))
                rt_queue_append(&e->f->waiters[d], &e->waiters[d]);
        rt_poller_note(&p->rt->poller, e->f);
    }
    const entry *e = p->entries;
    rt_fd *f = NULL;
    for (size_t left = p->count; left > 0; left--, e++) { /* Q2 */
        if (f != e->f) {
            f = e->f;
            rt_lock_release(&f->lock);
        }
    }
    return !changed;
}

static void withdraw_all(plan *p)
{
    for (size_t i = 0; i < p->count; i++) {
        entry *e = &p->entries[i];
        for (int d = 0; d < 2; d++) {
            if (!waits_for(e, d) || !rt_waiter_is_queued(&e->waiters[d]))
                continue;
            rt_lock_acquire(&e->f->lock);
            if (rt_waiter_is_queued(&e->waiters[d]))
                rt_queue_remove(&e->f->waiters[d], &e->waiters[d]);
            rt_lock_release(&e->f->lock);
        }
    }
}

/* Inside. 0: ask again; RT_TIME_HAS_COME; or a negative errno. */
static int wait_inside(plan *p, int64_t deadline)
{
    int rc = rt_frame_stop(p->me);
    if (rc == 0)
        rc = prepare(p);
    if (rc != 0)
        return rc;
    const int64_t limit = rt_frame_limit(p->me);
    if ((deadline != INT64_MAX || limit != INT64_MAX) &&
        (deadline < limit ? deadline : limit) <= rt_clock_now()) {
        if (deadline <= limit)
            return RT_TIME_HAS_COME;
        rt_frame_expire(p->me);
        return -ETIMEDOUT;
    }
    p->won = NULL;
    for (entry *e = p->entries; e < p->entries + p->count; e++)
        for (int d = 0; d < 2; d++)
            e->waiters[d] = (rt_waiter){.who = p->me, .won = &p->won, .result = RT_PENDING};
    rt_fdwait_begin(p->rt);
    rc = rt_wait(enter_all, p, deadline, false);
    withdraw_all(p);
    rt_fdwait_end(p->rt);
    return rc != 0 ? rc : p->won ? p->won->result : 0;
}

static bool is_closed(const plan *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (rt_fd_generation(p->entries[i].f) != p->entries[i].generation)
            return true;
    return false;
}

static int poll_waiting(plan *p, struct pollfd *fds, unsigned long count, int64_t deadline)
{
    int rc = list(p, fds, count);
    while (rc == 0) {
        note_events(p);
        if (is_closed(p))
            return -ECANCELED;
        rc = rt_sys_poll(fds, count, 0);
        if (rc != 0)
            return rc;
        (void)rt_enter();
        rc = wait_inside(p, deadline);
        rt_leave();
    }
    return rc == RT_TIME_HAS_COME ? 0 : rc;
}

/* Without a descriptor: only the time. */
static int poll_none(int64_t deadline)
{
    (void)rt_enter();
    const int rc = rt_sleep_until(deadline);
    rt_leave();
    return rc;
}

static int poll_plain(const rt_block *me, struct pollfd *fds, unsigned long count, int64_t deadline)
{
    const int64_t limit = rt_frame_limit(me);
    const int rc = rt_sys_poll(fds, count, deadline < limit ? deadline : limit);
    if (rc != 0 || deadline <= limit)
        return rc;
    rt_frame_expire(rt_me());
    return -ETIMEDOUT;
}

int routine_poll(struct pollfd *fds, unsigned long count, int ms)
{
    rt_block *me = rt_me();
    int rc = rt_frame_stop(me);
    if (rc != 0)
        return rc;
    const int64_t deadline = ms < 0 ? INT64_MAX : ms == 0 ? 0 : rt_clock_after(ms * MS);
    if (me->attr.flags & RT_FLAG_THREAD)
        return poll_plain(me, fds, count, deadline);
    rc = rt_sys_poll(fds, count, 0);
    if (rc != 0 || ms == 0)
        return rc;
    size_t active = 0;
    for (size_t i = 0; i < count; i++)
        active += fds[i].fd >= 0;
    if (active == 0)
        return poll_none(deadline);
    entry few[FEW];
    plan p = {.me = me, .rt = rt_block_runtime(me), .entries = few};
    if (active > FEW && (p.entries = malloc(active * sizeof(entry))) == NULL)
        return -ENOMEM;
    rc = poll_waiting(&p, fds, count, deadline);
    if (p.entries != few)
        free(p.entries);
    return rc;
}
