/* SPDX-License-Identifier: MIT
 *
 * Floor 7. The calls that are for sockets: recv and send with their relatives, accept, connect.
 *
 * All are tried with MSG_DONTWAIT; what is done is counted by a cursor, so that a message's parts are its
 * user's and stay as they are.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>

#include "../../include/routines/io.h"
#include "../os/clock.h"
#include "../os/sys.h"
#include "cursor.h"
#include "fd.h"

#define MS          INT64_C(1000000)
#define RETRY_FIRST MS /* ns between tries where the kernel tells nobody when to try again */
#define RETRY_LAST  (20 * MS)

typedef struct {
    rt_cursor at;
    struct msghdr *in;        /* recvmsg's: what comes with the first part is noted there */
    const struct msghdr *out; /* sendmsg's: is sent with the first part */
    int flags;
    bool crowded; /* there is no room where it is to go: */
    int64_t rest; /* to wait so long before the next try; 0: this was the first */
} message;

/* Waits a while. */
static int pause_until(message *m)
{
    m->rest = m->rest == 0 ? RETRY_FIRST : m->rest < RETRY_LAST ? 2 * m->rest : RETRY_LAST;
    (void)rt_enter();
    const int rc = rt_sleep_until(rt_clock_now() + m->rest);
    rt_leave();
    return rc;
}

/* ---- receiving ---- */

static ssize_t try_recv(rt_fd_use *u, void *arg)
{
    message *m = arg;
    struct iovec window[RT_CURSOR_WINDOW];
    int count;
    const struct iovec *parts = rt_cursor_window(&m->at, window, &count);
    if (count == 1 && !m->in)
        return rt_sys_recv(u->fd, parts->iov_base, parts->iov_len, m->flags | MSG_DONTWAIT);
    struct msghdr rest = {0}, *msg = &rest;
    if (m->in && m->at.done == 0)
        msg = m->in;
    else /* the list is not written to */
        rest = (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)parts,
                               .msg_iovlen = RT_SYS_PARTS(count)}; // NOLINT(performance-no-int-to-ptr)
    const ssize_t rc = rt_sys_recvmsg(u->fd, msg, m->flags | MSG_DONTWAIT);
    if (rc > 0 && m->in && msg == &rest)
        m->in->msg_flags = rest.msg_flags;
    return rc;
}

static bool is_stream(int fd)
{
    int type;
    return rt_sys_socket_option(fd, SO_TYPE, &type) == 0 && type == SOCK_STREAM;
}

/* With MSG_PEEK, of all that is asked for, or as much as will ever be there. */
static ssize_t try_peek_all(rt_fd_use *u, void *arg)
{
    const message *m = arg;
    const ssize_t rc = try_recv(u, arg);
    return rc > 0 && (size_t)rc < m->at.total && !rt_sys_is_ready(u->fd, POLLRDHUP) ? -EAGAIN : rc;
}

/* MSG_WAITALL: all of it, or up to the end. */
static ssize_t recv_all(rt_fd_use *u, message *m)
{
    if (m->flags & MSG_PEEK)
        return rt_fd_do(u, try_peek_all, m);
    do {
        const ssize_t rc = rt_fd_do(u, try_recv, m);
        if (rc <= 0)
            return m->at.done ? (ssize_t)m->at.done : rc;
        rt_cursor_advance(&m->at, (size_t)rc);
    } while (!rt_cursor_is_done(&m->at));
    return (ssize_t)m->at.done;
}

static ssize_t receive(int fd, const struct iovec *parts, int count, struct msghdr *in, int flags)
{
    rt_fd_use u;
    message m = {.in = in, .flags = flags & ~(MSG_DONTWAIT | MSG_WAITALL)};
    ssize_t rc = rt_fd_begin_any(&u, fd, RT_FD_IN);
    if (rc == 0)
        rc = rt_cursor_init(&m.at, parts, count);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    if (RT_UNLIKELY(flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB))) { /* the last two never wait */
        m.flags = flags;
        return try_recv(&u, &m);
    }
    if (flags & MSG_WAITALL && is_stream(fd))
        return recv_all(&u, &m);
    if (m.flags == 0 && !in && m.at.total != 0) { /* the usual one */
        if (!rt_fd_worth_reading(&u))
            return rt_fd_do_waiting(&u, try_recv, &m);
        rc = try_recv(&u, &m);
        if (rc > 0 && (size_t)rc < m.at.total && rc <= INT32_MAX / 2)
            rt_fd_drained(&u);
        return rc == -EAGAIN ? rt_fd_do_waiting(&u, try_recv, &m) : rc;
    }
    return rt_fd_do(&u, try_recv, &m);
}

ssize_t routine_recv(int fd, void *buffer, size_t size, int flags)
{
    const struct iovec part = {buffer, size};
    return receive(fd, &part, 1, NULL, flags);
}

ssize_t routine_recvmsg(int fd, struct msghdr *msg, int flags)
{
    if (!msg)
        return -EFAULT;
    return receive(fd, msg->msg_iov, (int)msg->msg_iovlen, msg, flags);
}

ssize_t routine_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from,
                         socklen_t *from_size)
{
    if (!from || !from_size)
        return routine_recv(fd, buffer, size, flags);
    struct iovec part = {buffer, size};
    struct msghdr msg = {.msg_name = from, .msg_namelen = *from_size, .msg_iov = &part, .msg_iovlen = 1};
    const ssize_t rc = receive(fd, &part, 1, &msg, flags);
    if (rc >= 0)
        *from_size = msg.msg_namelen;
    return rc;
}

/* ---- sending ---- */

static ssize_t try_send(rt_fd_use *u, void *arg)
{
    message *m = arg;
    struct iovec window[RT_CURSOR_WINDOW];
    int count;
    const struct iovec *parts = rt_cursor_window(&m->at, window, &count);
    const int flags = m->flags | MSG_DONTWAIT | MSG_NOSIGNAL;
    if (count == 1 && !m->out)
        return rt_sys_send(u->fd, parts->iov_base, parts->iov_len, flags);
    struct msghdr rest = {0};
    if (m->out && m->at.done == 0)
        rest = *m->out;
    else if (m->out) /* what comes with it has been sent */
        rest = (struct msghdr){.msg_name = m->out->msg_name, .msg_namelen = m->out->msg_namelen};
    rest.msg_iov = (struct iovec *)(uintptr_t)parts; // NOLINT(performance-no-int-to-ptr)
    rest.msg_iovlen = RT_SYS_PARTS(count);
    return rt_sys_sendmsg(u->fd, &rest, flags);
}

/* To an address: if there is room here, but not where it is to go, the kernel tells nobody when there is. */
static ssize_t try_send_to(rt_fd_use *u, void *arg)
{
    message *m = arg;
    const ssize_t rc = try_send(u, arg);
    m->crowded = rc == -EAGAIN && rt_sys_is_ready(u->fd, POLLOUT);
    return m->crowded ? 0 : rc;
}

static ssize_t transmit(int fd, const struct iovec *parts, int count, const struct msghdr *out, int flags)
{
    rt_fd_use u;
    message m = {.out = out, .flags = flags};
    ssize_t rc = rt_fd_begin_any(&u, fd, RT_FD_OUT);
    if (rc == 0)
        rc = rt_cursor_init(&m.at, parts, count);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    if (RT_UNLIKELY(flags & MSG_DONTWAIT))
        return try_send(&u, &m);
    rt_fd_try *const try_it = out && out->msg_name ? try_send_to : try_send;
    do {
        rc = rt_fd_do(&u, try_it, &m);
        if (RT_UNLIKELY(m.crowded))
            rc = pause_until(&m);
        else if (rc == 0)
            break;
        if (rc < 0)
            return m.at.done ? (ssize_t)m.at.done : rc;
        rt_cursor_advance(&m.at, (size_t)rc);
    } while (!rt_cursor_is_done(&m.at));
    return (ssize_t)m.at.done;
}

ssize_t routine_send(int fd, const void *data, size_t size, int flags)
{
    const struct iovec part = {(void *)(uintptr_t)data, size}; // NOLINT(performance-no-int-to-ptr)
    return transmit(fd, &part, 1, NULL, flags);
}

ssize_t routine_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    if (!msg)
        return -EFAULT;
    return transmit(fd, msg->msg_iov, (int)msg->msg_iovlen, msg, flags);
}

ssize_t routine_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
                       socklen_t to_size)
{
    if (!to)
        return routine_send(fd, data, size, flags);
    const struct iovec part = {(void *)(uintptr_t)data, size}; // NOLINT(performance-no-int-to-ptr)
    const struct msghdr msg = {.msg_name = (void *)(uintptr_t)to,
                               .msg_namelen = to_size}; // NOLINT(performance-no-int-to-ptr)
    return transmit(fd, &part, 1, &msg, flags);
}

/* ---- connections ---- */

typedef struct {
    struct sockaddr *address;
    socklen_t *size;
} guest;

static ssize_t try_accept(rt_fd_use *u, void *arg)
{
    const guest *g = arg;
    int rc;
    do
        rc = rt_sys_accept(u->fd, g->address, g->size);
    while (rc == -ECONNABORTED || rc == -EPROTO);
    return rc;
}

/* A listener must not block: somebody else may accept what poll has promised. */
static int make_nonblocking(rt_fd_use *u)
{
    const int flags = rt_sys_flags(u->fd);
    if (flags < 0)
        return flags;
    const int rc = flags & O_NONBLOCK ? 0 : rt_sys_set_flags(u->fd, flags | O_NONBLOCK);
    if (rc == 0)
        rt_fd_learn(u, RT_FD_ACCEPTS);
    return rc;
}

int routine_accept(int fd, struct sockaddr *address, socklen_t *size)
{
    rt_fd_use u;
    guest g = {address, size};
    int rc = rt_fd_begin(&u, fd, RT_FD_IN);
    if (rc == 0 && !(u.kind & RT_FD_SOCKET))
        rc = -ENOTSOCK;
    if (rc == 0 && !(u.kind & RT_FD_ACCEPTS))
        rc = make_nonblocking(&u);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    rc = (int)rt_fd_do(&u, try_accept, &g);
    if (rc >= 0)
        rt_fd_fresh(rc, u.kind & (RT_FD_KNOWN | RT_FD_SOCKET | RT_FD_TCP));
    return rc;
}

/* One call that does not block, whatever the descriptor's flags. */
static int begin_connecting(int fd, const struct sockaddr *address, socklen_t size)
{
    const int flags = rt_sys_flags(fd);
    if (flags < 0)
        return flags;
    if (!(flags & O_NONBLOCK)) {
        const int rc = rt_sys_set_flags(fd, flags | O_NONBLOCK);
        if (rc != 0)
            return rc;
    }
    const int rc = rt_sys_connect(fd, address, size);
    if (!(flags & O_NONBLOCK))
        (void)rt_sys_set_flags(fd, flags);
    return rc == -EINTR ? -EINPROGRESS : rc;
}

typedef struct {
    const struct sockaddr *address;
    socklen_t size;
} host;

/* Has it come to a connection? */
static ssize_t try_connected(rt_fd_use *u, void *arg)
{
    const host *to = arg;
    int error;
    int rc = rt_sys_socket_option(u->fd, SO_ERROR, &error);
    if (rc == 0)
        rc = -error;
    if (rc == 0)
        rc = rt_sys_has_peer(u->fd);
    if (rc == -ENOTCONN || rc == -EINPROGRESS || rc == -EALREADY)
        return -EAGAIN;
    /* it is over, which the socket itself is told by another call only; else the next connect would be */
    (void)rt_sys_connect(u->fd, to->address, to->size);
    return rc;
}

int routine_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    rt_fd_use u;
    message pauses = {0};
    int rc = rt_fd_begin(&u, fd, RT_FD_OUT);
    if (rc != 0)
        return rc;
    while ((rc = begin_connecting(fd, address, size)) == -EAGAIN) {
        /* a Unix listener's queue is full, or there is no port: nothing says when that changes */
        if (address->sa_family != AF_UNIX)
            return rc;
        if ((rc = pause_until(&pauses)) != 0)
            return rc;
    }
    host to = {address, size};
    return rc != -EINPROGRESS ? rc : (int)rt_fd_do(&u, try_connected, &to);
}
