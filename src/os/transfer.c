/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See transfer.h.
 */
#define _GNU_SOURCE
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys.h"

int rt_transfer_look(int fd, rt_transfer_end *what)
{
    const int saved = errno;
    struct stat st;
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) != 0) {
        const int rc = -errno;
        errno = saved;
        return rc;
    }
    int type = 0;
    socklen_t size = sizeof type;
    what->nonblocking = (flags & O_NONBLOCK) != 0;
    what->type = RT_TRANSFER_OTHER;
    if (S_ISREG(st.st_mode))
        what->type = RT_TRANSFER_FILE;
    else if (S_ISFIFO(st.st_mode))
        what->type = RT_TRANSFER_PIPE;
    else if (S_ISSOCK(st.st_mode) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
             type == SOCK_STREAM)
        what->type = RT_TRANSFER_STREAM;
    errno = saved;
    return 0;
}

/* Around what writes, and may raise SIGPIPE. */
typedef struct pipe_guard {
    rt_sys_sigpipe held;
    int saved;
    bool masked;
} pipe_guard;

static void guard_begin(pipe_guard *g, bool masked)
{
    g->saved = errno;
    g->masked = masked;
    rt_sys_sigpipe_hold(&g->held, masked);
}

static ssize_t guard_end(pipe_guard *g, ssize_t rc)
{
    const ssize_t said = rc < 0 ? -errno : rc;
    rt_sys_sigpipe_release(&g->held, g->masked, said == -EPIPE);
    errno = g->saved;
    return said;
}

ssize_t rt_transfer_sendfile(int to, int from, off_t *offset, size_t size, bool masked)
{
    pipe_guard g;
    ssize_t rc;
    guard_begin(&g, masked);
    do
        rc = sendfile(to, from, offset, size);
    while (rc < 0 && errno == EINTR);
    return guard_end(&g, rc);
}

ssize_t rt_transfer_splice(int to, int from, off_t *offset, size_t size, bool masked)
{
    pipe_guard g;
    ssize_t rc;
    guard_begin(&g, masked);
    do
        rc = splice(from, offset, to, NULL, size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    while (rc < 0 && errno == EINTR);
    return guard_end(&g, rc);
}

ssize_t rt_transfer_range(int to, int from, off_t *offset, size_t size)
{
    const int saved = errno;
    ssize_t rc;
    do
        rc = copy_file_range(from, offset, to, NULL, size, 0);
    while (rc < 0 && errno == EINTR);
    rc = rc < 0 ? -errno : rc;
    errno = saved;
    return rc;
}

off_t rt_transfer_seek(int fd, off_t offset, int whence)
{
    const int saved = errno;
    const off_t rc = lseek(fd, offset, whence);
    const off_t said = rc < 0 ? -errno : rc;
    errno = saved;
    return said;
}
