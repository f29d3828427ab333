/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See transfer.h.
 */
#define _GNU_SOURCE
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* SIGPIPE is sent to the thread that writes, at once: blocked, it becomes pending, and is taken off by
 * whoever has caused it. One that has been pending before, from elsewhere, is left to those it is for. */
typedef struct pipe_guard {
    sigset_t pipe, before;
    int saved;
    bool masked, pending;
} pipe_guard;

static void guard_begin(pipe_guard *g, bool masked)
{
    g->saved = errno;
    g->masked = masked;
    g->pending = false;
    sigemptyset(&g->pipe);
    sigaddset(&g->pipe, SIGPIPE);
    if (!masked) {
        sigset_t pending;
        sigpending(&pending);
        g->pending = sigismember(&pending, SIGPIPE) == 1;
        pthread_sigmask(SIG_BLOCK, &g->pipe, &g->before);
    }
}

static ssize_t guard_end(pipe_guard *g, ssize_t rc)
{
    const struct timespec at_once = {0, 0};
    const ssize_t said = rc < 0 ? -errno : rc;
    if (said == -EPIPE && !g->pending)
        while (sigtimedwait(&g->pipe, NULL, &at_once) < 0 && errno == EINTR)
            ;
    if (!g->masked)
        pthread_sigmask(SIG_SETMASK, &g->before, NULL);
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

int rt_transfer_pipe(int ends[2])
{
    const int saved = errno;
    const int rc = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 ? 0 : -errno;
    errno = saved;
    return rc;
}

void rt_transfer_pipe_close(const int ends[2])
{
    const int saved = errno;
    close(ends[0]);
    close(ends[1]);
    errno = saved;
}

ssize_t rt_transfer_pipe_read(int end, void *buffer, size_t size)
{
    const int saved = errno;
    ssize_t rc;
    do
        rc = read(end, buffer, size);
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
