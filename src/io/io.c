/* SPDX-License-Identifier: MIT
 *
 * Floor 7. read, write and their relatives, on any descriptor: see fd.h.
 *
 * A regular file never waits in the poller. Reading tries RWF_NOWAIT: what is in the page cache comes at
 * once, for the rest a thread of the pool is sent. Where the file system has no RWF_NOWAIT (tmpfs, procfs)
 * the call is simply made, as is writing, which goes to the page cache; if one of them takes long after all,
 * the monitor sees to the other routines. Files opened with O_DSYNC, O_SYNC or O_DIRECT are written by the
 * pool.
 */
#define _GNU_SOURCE
#include "../../include/routines/io.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "../os/sys.h"
#include "../sched/pool.h"
#include "cursor.h"
#include "fd.h"

#define MOST_AT_ONCE (INT_MAX / 2) /* of more the kernel may cut a piece off */

/* What is tried. */
typedef struct {
    rt_cursor at;
    off_t offset; /* or RT_SYS_HERE */
} transfer;

/* ---- regular files ---- */

typedef struct {
    int fd;
    const struct iovec *parts;
    int count;
    off_t offset;
    ssize_t result;
} job;

static int read_job(void *arg)
{
    job *j = arg;
    j->result = rt_sys_readv(j->fd, j->parts, j->count, j->offset, false);
    return 0;
}

static int write_job(void *arg)
{
    job *j = arg;
    j->result = rt_sys_writev(j->fd, j->parts, j->count, j->offset, false);
    return 0;
}

/* On a thread that may wait for the device. */
static ssize_t in_pool(int (*fn)(void *), const rt_fd_use *u, const transfer *t, const struct iovec *parts,
                       int count)
{
    job j = {u->fd, parts, count, t->offset == RT_SYS_HERE ? t->offset : t->offset + (off_t)t->at.done, 0};
    const int rc = rt_pool_run(RT_POOL_FILES, fn, &j);
    return rc < 0 ? rc : j.result;
}

static bool is_file(int fd)
{
    const int type = rt_sys_type(fd);
    return type == S_IFREG || type == S_IFBLK || type == S_IFDIR;
}

/* As much as is asked for, or up to the end of the file: what is short of that is a cache that has only a
 * part. */
static ssize_t read_file(rt_fd_use *u, transfer *t)
{
    bool simply;
    do {
        struct iovec window[RT_CURSOR_WINDOW];
        int count;
        const struct iovec *parts = rt_cursor_window(&t->at, window, &count);
        const off_t offset = t->offset == RT_SYS_HERE ? t->offset : t->offset + (off_t)t->at.done;
        ssize_t rc = -EOPNOTSUPP;
        if (u->f && !(u->kind & RT_FD_NO_NOWAIT)) {
            rc = rt_sys_readv(u->fd, parts, count, offset, true);
            if (rc == -EAGAIN) /* ESPIPE: the number is something else by now */
                rc = is_file(u->fd) ? in_pool(read_job, u, t, parts, count) : -ESPIPE;
            else if (rc == -EOPNOTSUPP)
                rt_fd_learn(u, RT_FD_NO_NOWAIT);
        }
        simply = rc == -EOPNOTSUPP;
        if (simply)
            rc = rt_sys_readv(u->fd, parts, count, offset, false);
        if (rc <= 0)
            return t->at.done ? (ssize_t)t->at.done : rc;
        rt_cursor_advance(&t->at, (size_t)rc);
        /* no second one, if the number may be something else by now: that might block, or join two messages
         */
    } while (!rt_cursor_is_done(&t->at) && !simply && is_file(u->fd));
    return (ssize_t)t->at.done;
}

static ssize_t write_file(rt_fd_use *u, transfer *t)
{
    do {
        struct iovec window[RT_CURSOR_WINDOW];
        int count;
        const struct iovec *parts = rt_cursor_window(&t->at, window, &count);
        const off_t offset = t->offset == RT_SYS_HERE ? t->offset : t->offset + (off_t)t->at.done;
        const ssize_t rc = u->kind & RT_FD_SYNC ? in_pool(write_job, u, t, parts, count)
                                                : rt_sys_writev(u->fd, parts, count, offset, false);
        if (rc <= 0)
            return t->at.done ? (ssize_t)t->at.done : rc;
        rt_cursor_advance(&t->at, (size_t)rc);
    } while (!rt_cursor_is_done(&t->at));
    return (ssize_t)t->at.done;
}

/* ---- everything else ---- */

static ssize_t try_read(rt_fd_use *u, void *arg)
{
    transfer *t = arg;
    const struct iovec *parts = t->at.parts;
    if (u->kind & RT_FD_SOCKET) {
        ssize_t rc;
        if (t->at.count == 1) {
            rc = rt_sys_recv(u->fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT);
        } else {
            struct msghdr message = {
                .msg_iov = (struct iovec *)(uintptr_t)parts, // NOLINT(performance-no-int-to-ptr)
                .msg_iovlen = RT_SYS_PARTS(t->at.count)};
            rc = rt_sys_recvmsg(u->fd, &message, MSG_DONTWAIT);
        }
        if (rc > 0 && (size_t)rc < t->at.total && rc <= MOST_AT_ONCE)
            rt_fd_drained(u);
        return rc;
    }
    if (u->kind & RT_FD_FILE)
        return read_file(u, t);
    if (rt_fd_uses_nowait(u))
        return rt_sys_readv(u->fd, parts, t->at.count, RT_SYS_HERE, true);
    if (!u->direct && !(u->kind & RT_FD_NONBLOCK) && !rt_sys_is_ready(u->fd, POLLIN))
        return -EAGAIN;
    return rt_sys_readv(u->fd, parts, t->at.count, RT_SYS_HERE, false);
}

static ssize_t try_write(rt_fd_use *u, void *arg)
{
    transfer *t = arg;
    struct iovec window[RT_CURSOR_WINDOW];
    int count;
    const struct iovec *parts = rt_cursor_window(&t->at, window, &count);
    if (u->kind & RT_FD_SOCKET) {
        if (count == 1)
            return rt_sys_send(u->fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        const struct msghdr message = {
            .msg_iov = (struct iovec *)(uintptr_t)parts, // NOLINT(performance-no-int-to-ptr)
            .msg_iovlen = RT_SYS_PARTS(count)};
        return rt_sys_sendmsg(u->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (u->kind & RT_FD_FILE)
        return write_file(u, t);
    struct iovec little;
    const bool nowait = rt_fd_uses_nowait(u);
    if (!nowait && !u->direct && !(u->kind & RT_FD_NONBLOCK)) {
        if (!rt_sys_is_ready(u->fd, POLLOUT))
            return -EAGAIN;
        if (t->at.total - t->at.done > PIPE_BUF) { /* for so much there is room in a pipe that is ready */
            while (parts->iov_len == 0)
                parts++;
            little = (struct iovec){parts->iov_base, parts->iov_len < PIPE_BUF ? parts->iov_len : PIPE_BUF};
            parts = &little;
            count = 1;
        }
    }
    rt_sys_sigpipe held;
    rt_sys_sigpipe_hold(&held, u->f != NULL);
    const ssize_t rc = rt_sys_writev(u->fd, parts, count, RT_SYS_HERE, nowait);
    rt_sys_sigpipe_release(&held, u->f != NULL, rc == -EPIPE);
    return rc;
}

/* The rest of a write: until all is written. */
static ssize_t write_on(rt_fd_use *u, transfer *t)
{
    while (!rt_cursor_is_done(&t->at)) {
        const size_t before = t->at.done;
        const ssize_t rc = rt_fd_do(u, try_write, t);
        if (rc <= 0)
            return t->at.done ? (ssize_t)t->at.done : rc;
        if (t->at.done == before) /* write_file does it itself */
            rt_cursor_advance(&t->at, (size_t)rc);
    }
    return (ssize_t)t->at.done;
}

static ssize_t read_parts(int fd, const struct iovec *parts, int count)
{
    rt_fd_use u;
    transfer t = {.offset = RT_SYS_HERE};
    int rc = rt_fd_begin(&u, fd, RT_FD_IN);
    if (rc == 0)
        rc = rt_cursor_init(&t.at, parts, count);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    if (RT_UNLIKELY(t.at.total == 0)) /* this never waits */
        return rt_sys_readv(fd, parts, count, RT_SYS_HERE, false);
    if (!rt_fd_worth_reading(&u))
        return rt_fd_do_waiting(&u, try_read, &t);
    return rt_fd_do(&u, try_read, &t);
}

static ssize_t write_parts(int fd, const struct iovec *parts, int count, bool is_list)
{
    rt_fd_use u;
    transfer t = {.offset = RT_SYS_HERE};
    int rc = rt_fd_begin(&u, fd, RT_FD_OUT);
    if (rc == 0)
        rc = rt_cursor_init(&t.at, parts, count);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    if (RT_LIKELY(t.at.total != 0))
        return write_on(&u, &t);
    if (u.kind & RT_FD_SOCKET && !is_list) /* a message: only write() and send() send nothing */
        return rt_fd_do(&u, try_write, &t);
    return rt_sys_writev(fd, parts, is_list ? 0 : count, RT_SYS_HERE, false); /* never waits */
}

/* ---- the calls ---- */

ssize_t routine_read(int fd, void *buffer, size_t size)
{
    const struct iovec part = {buffer, size};
    return read_parts(fd, &part, 1);
}

ssize_t routine_readv(int fd, const struct iovec *parts, int count)
{
    return read_parts(fd, parts, count);
}

ssize_t routine_write(int fd, const void *data, size_t size)
{
    const struct iovec part = {(void *)(uintptr_t)data, size}; // NOLINT(performance-no-int-to-ptr)
    return write_parts(fd, &part, 1, false);
}

ssize_t routine_writev(int fd, const struct iovec *parts, int count)
{
    return write_parts(fd, parts, count, true);
}

/* At an offset: that only files have. */
static ssize_t at_offset(int fd, const struct iovec *part, off_t offset, bool writes)
{
    rt_fd_use u;
    transfer t = {.offset = offset};
    int rc = rt_fd_begin(&u, fd, writes ? RT_FD_OUT : RT_FD_IN);
    if (rc == 0)
        rc = offset < 0 ? -EINVAL : rt_cursor_init(&t.at, part, 1);
    if (rc != 0)
        return rc;
    if (u.kind & RT_FD_FILE && t.at.total != 0)
        return writes ? write_file(&u, &t) : read_file(&u, &t);
    return writes ? rt_sys_writev(fd, part, 1, offset, false) : rt_sys_readv(fd, part, 1, offset, false);
}

ssize_t routine_pread(int fd, void *buffer, size_t size, off_t offset)
{
    const struct iovec part = {buffer, size};
    return at_offset(fd, &part, offset, false);
}

ssize_t routine_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    const struct iovec part = {(void *)(uintptr_t)data, size}; // NOLINT(performance-no-int-to-ptr)
    return at_offset(fd, &part, offset, true);
}

/* ---- helpers ---- */

int routine_read_full(int fd, void *buffer, size_t size, size_t *done)
{
    size_t had = 0;
    ssize_t rc = 0;
    while (had < size && (rc = routine_read(fd, (char *)buffer + had, size - had)) > 0)
        had += (size_t)rc;
    if (done)
        *done = had;
    return had == size ? 0 : rc < 0 ? (int)rc : -ENODATA;
}

int routine_write_all(int fd, const void *data, size_t size, size_t *done)
{
    size_t had = 0;
    ssize_t rc = 0;
    while (had < size && (rc = routine_write(fd, (const char *)data + had, size - had)) > 0)
        had += (size_t)rc;
    if (done)
        *done = had;
    return had == size ? 0 : rc < 0 ? (int)rc : -EIO;
}
