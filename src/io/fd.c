/* SPDX-License-Identifier: MIT
 *
 * Floor 7. See fd.h; here too: close and forget, which are for the records of all runtimes. Steps E:
 * poller.h.
 */
#define _GNU_SOURCE
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "../../include/routines/io.h"
#include "../os/clock.h"
#include "../os/sys.h"

/* ---- kinds ---- */

static unsigned kind_of_file(int fd, int type)
{
    const int flags = rt_sys_flags(fd);
    if (flags < 0)
        return RT_FD_KNOWN;
    if (type == S_IFREG || type == S_IFBLK || type == S_IFDIR)
        return RT_FD_KNOWN | RT_FD_FILE | (flags & (O_DSYNC | O_DIRECT) ? RT_FD_SYNC : 0u);
    return RT_FD_KNOWN | (flags & O_NONBLOCK ? RT_FD_NONBLOCK : 0u);
}

static unsigned kind_of_socket(int fd)
{
    int domain, protocol;
    const bool tcp = rt_sys_socket_option(fd, SO_DOMAIN, &domain) == 0 &&
                     (domain == AF_INET || domain == AF_INET6) &&
                     rt_sys_socket_option(fd, SO_PROTOCOL, &protocol) == 0 && protocol == IPPROTO_TCP;
    return RT_FD_KNOWN | RT_FD_SOCKET | (tcp ? RT_FD_TCP : 0u);
}

void rt_fd_learn(rt_fd_use *u, unsigned kind)
{
    u->kind |= kind;
    if (!u->f)
        return;
    rt_lock_acquire(&u->f->lock);
    if (rt_fd_generation(u->f) == u->generation) /* relaxed: under the lock; without it, a hint */
        atomic_store_explicit(&u->f->kind, (uint16_t)u->kind, memory_order_relaxed);
    rt_lock_release(&u->f->lock);
}

static RT_NOINLINE int find_out(rt_fd_use *u)
{
    const int type = rt_sys_type(u->fd);
    if (type < 0)
        return type;
    u->kind = 0;
    if (type != S_IFSOCK)
        rt_fd_learn(u, kind_of_file(u->fd, type));
    else
        rt_fd_learn(u, u->f ? kind_of_socket(u->fd) : RT_FD_KNOWN | RT_FD_SOCKET);
    return 0;
}

static unsigned no_nowait(const rt_fd_use *u)
{
    return u->direction == RT_FD_IN ? RT_FD_NO_NOWAIT : RT_FD_NO_NOWAIT_W;
}

bool rt_fd_uses_nowait(const rt_fd_use *u)
{
    return u->kind & RT_FD_KNOWN && !u->direct &&
           !(u->kind & (RT_FD_SOCKET | RT_FD_NONBLOCK | RT_FD_FILE | no_nowait(u)));
}

/* Is it certain not to block, by what is said with the call itself? Only then it may be made under the lock,
 * for which whoever notes the events waits. (O_NONBLOCK may have been taken back by another process.) */
static bool never_blocks(const rt_fd_use *u)
{
    return u->kind & RT_FD_SOCKET || !(u->kind & RT_FD_KNOWN) ||
           rt_fd_uses_nowait(u); /* not known: of sockets */
}

/* ---- a call ---- */

int rt_fd_begin_any(rt_fd_use *u, int fd, int direction)
{
    rt_block *me = rt_me();
    const int rc = rt_frame_stop(me);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    if (RT_UNLIKELY(fd < 0))
        return -EBADF;
    *u = (rt_fd_use){.fd = fd, .direction = direction, .me = me};
    if (RT_UNLIKELY(me->attr.flags & RT_FLAG_THREAD))
        return 0;
    u->rt = rt_block_runtime(me);
    u->f = rt_poller_make_if_open(&u->rt->poller, fd);
    if (RT_UNLIKELY(!u->f))
        return rt_epoll_is_open(fd) ? -ENOMEM : -EBADF;
    u->generation = rt_fd_generation(u->f);
    u->kind = atomic_load_explicit(&u->f->kind, memory_order_relaxed); /* if it is wrong, that will be seen */
    return 0;
}

int rt_fd_begin(rt_fd_use *u, int fd, int direction)
{
    const int rc = rt_fd_begin_any(u, fd, direction);
    return RT_LIKELY(rc == 0) && RT_UNLIKELY(u->kind == 0) ? find_out(u) : rc;
}

/* A plain thread's. */
static int wait_plain(const rt_fd_use *u)
{
    struct pollfd one = {.fd = u->fd, .events = u->direction == RT_FD_IN ? POLLIN : POLLOUT};
    const int rc = rt_sys_poll(&one, 1, rt_frame_limit(u->me));
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rt_frame_expire(u->me);
    return -ETIMEDOUT;
}

int rt_fd_wait(rt_fd_use *u)
{
    int rc;
    u->waited = true;
    if (RT_UNLIKELY(!u->f))
        return wait_plain(u);
    (void)rt_enter();
    rc = rt_fdwait(u->rt, u->f, u->fd, u->direction, u->generation, u->seen);
    rt_leave();
    if (RT_UNLIKELY(rc == RT_FD_NEVER_WAITS)) {
        rc = find_out(u);
        u->direct = !(u->kind & RT_FD_FILE);
    }
    return rc;
}

static bool is_kind_error(const rt_fd_use *u, ssize_t rc)
{
    if (u->kind & RT_FD_SOCKET)
        return rc == -ENOTSOCK;
    return u->kind & RT_FD_KNOWN && (rc == -EOPNOTSUPP || rc == -ESPIPE || rc == -EINVAL);
}

ssize_t rt_fd_do(rt_fd_use *u, rt_fd_try *try_it, void *arg)
{
    bool doubted = false;
    for (;;) {
        ssize_t rc;
        const bool held = u->waited && u->f && never_blocks(u);
        if (held) { /* E4 */
            rt_lock_acquire(&u->f->lock);
            if (rt_fd_generation(u->f) != u->generation) {
                rt_lock_release(&u->f->lock);
                return -ECANCELED;
            }
        } else if (u->waited && u->f && rt_fd_generation(u->f) != u->generation) {
            return -ECANCELED;
        }
        if (u->f)
            u->seen = rt_fd_events(u->f, u->direction);
        rc = try_it(u, arg);
        if (held)
            rt_lock_release(&u->f->lock);
        if (rc == -EAGAIN) {
            if ((rc = rt_fd_wait(u)) < 0)
                return rc;
        } else if (RT_LIKELY(rc >= 0) || !is_kind_error(u, rc)) {
            return rc;
        } else if (rc == -EOPNOTSUPP && rt_fd_uses_nowait(u)) {
            rt_fd_learn(u, no_nowait(u));
        } else {
            const ssize_t error = rc;
            if (doubted)
                return error;
            doubted = true;
            u->direct = false;
            if ((rc = find_out(u)) < 0)
                return rc;
        }
    }
}

ssize_t rt_fd_do_waiting(rt_fd_use *u, rt_fd_try *try_it, void *arg)
{
    const int rc = rt_fd_wait(u);
    return rc < 0 ? rc : rt_fd_do(u, try_it, arg);
}

/* ---- the records of all runtimes ---- */

typedef struct {
    int fd;
    rt_waiter *list, **end;
    bool settles;
} farewell;

static void visit(rt_runtime *rt, void *arg)
{
    farewell *bye = arg;
    rt_fd *f = rt_poller_find(&rt->poller, bye->fd);
    if (f)
        bye->end = bye->settles ? rt_poller_settle(f, bye->end)
                                : rt_poller_forget(&rt->poller, f, bye->fd, bye->end);
}

/* Forgets it everywhere, or settles that, and wakes those that wait. */
static void forget(int fd, bool settles)
{
    farewell bye = {.fd = fd, .settles = settles};
    bye.end = &bye.list;
    (void)rt_enter();
    rt_runtime_each(visit, &bye);
    rt_ready_all(bye.list);
    rt_leave();
}

int routine_fd_forget(int fd)
{
    if (fd < 0)
        return -EBADF;
    forget(fd, false);
    return 0;
}

int routine_close(int fd)
{
    if (fd < 0)
        return -EBADF;
    forget(fd, false); /* E4 */
    const int rc = rt_sys_close(fd);
    forget(fd, true);
    return rc;
}

void rt_fd_fresh(int fd, unsigned kind)
{
    const rt_block *me = rt_self()->current;
    if (!me || me->attr.flags & RT_FLAG_THREAD) {
        forget(fd, false);
        return;
    }
    rt_runtime *rt = rt_self()->runtime;
    rt_fd *f = rt_poller_make(&rt->poller, fd);
    if (!f)
        return;
    rt_waiter *list = NULL;
    /* relaxed: if it was used by its last owner, and not closed here, that was long ago */
    if (atomic_load_explicit(&f->kind, memory_order_relaxed) != 0 || rt_fd_is_registered(f))
        rt_poller_forget(&rt->poller, f, fd, &list);
    rt_lock_acquire(&f->lock);
    atomic_store_explicit(&f->kind, (uint16_t)kind,
                          memory_order_relaxed); /* under the lock; without, a hint */
    rt_lock_release(&f->lock);
    if (list) {
        (void)rt_enter();
        rt_ready_all(list);
        rt_leave();
    }
}
