/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See open.h.
 */
#define _GNU_SOURCE
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

RT_NOINLINE int rt_open(const char *path, int flags, mode_t mode)
{
    const int saved = errno;
    int fd;
    do
        fd = open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    const int rc = fd < 0 ? -errno : fd;
    errno = saved;
    return rc;
}

RT_NOINLINE bool rt_open_is_fifo(const char *path)
{
    const int saved = errno;
    struct stat s;
    const bool is = stat(path, &s) == 0 && S_ISFIFO(s.st_mode);
    errno = saved;
    return is;
}

/* Of an empty fifo poll(2) does not tell whether there is a writer who says nothing, but tee(2) does: into
 * any other pipe, it copies nothing if there is none, and would block if there is one. */
static bool has_silent_writer(int fd)
{
    int other[2];
    if (pipe2(other, O_CLOEXEC | O_NONBLOCK) != 0)
        return false; /* until there is something to read */
    const ssize_t n = tee(fd, other[1], 1, SPLICE_F_NONBLOCK);
    const bool has = n > 0 || (n < 0 && errno == EAGAIN);
    close(other[0]);
    close(other[1]);
    return has;
}

RT_NOINLINE bool rt_open_has_writer(int fd)
{
    const int saved = errno;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    /* POLLHUP: one has come, and gone again */
    const bool has = poll(&p, 1, 0) > 0 || has_silent_writer(fd);
    errno = saved;
    return has;
}

RT_NOINLINE void rt_open_make_blocking(int fd)
{
    const int saved = errno;
    const int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    errno = saved;
}

RT_NOINLINE int rt_open_fsync(int fd)
{
    const int saved = errno;
    int rc;
    do
        rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    rc = rc != 0 ? -errno : 0;
    errno = saved;
    return rc;
}

RT_NOINLINE void rt_open_close(int fd)
{
    const int saved = errno;
    close(fd);
    errno = saved;
}
