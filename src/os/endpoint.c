/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See endpoint.h.
 */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(RT_ENDPOINT_ZONE >= IF_NAMESIZE, "room for the name of an interface");

/* What the call before it has returned, as the library says it; errno is `saved` again. */
static int result(int rc, int saved)
{
    const int said = rc < 0 ? -errno : rc;
    errno = saved;
    return said;
}

int rt_endpoint_socket(int family, int type)
{
    const int saved = errno;
    return result(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), saved);
}

int rt_endpoint_set(int fd, int level, int option, int value)
{
    const int saved = errno;
    return result(setsockopt(fd, level, option, &value, sizeof value), saved);
}

int rt_endpoint_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    const int saved = errno;
    return result(bind(fd, address, size), saved);
}

int rt_endpoint_listen(int fd, int backlog)
{
    const int saved = errno;
    return result(listen(fd, backlog > 0 ? backlog : INT_MAX), saved);
}

int rt_endpoint_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    const int saved = errno;
    return result(connect(fd, address, size), saved);
}

int rt_endpoint_error(int fd)
{
    const int saved = errno;
    int error = 0;
    socklen_t size = sizeof error;
    const int rc = result(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), saved);
    return rc != 0 ? rc : -error;
}

int rt_endpoint_name(int fd, bool peer, struct sockaddr *address, socklen_t *size)
{
    const int saved = errno;
    return result(peer ? getpeername(fd, address, size) : getsockname(fd, address, size), saved);
}

int rt_endpoint_zone(const char *name, uint32_t *number)
{
    const int saved = errno;
    *number = if_nametoindex(name);
    const int rc = *number ? 0 : -errno;
    errno = saved;
    return rc;
}

int rt_endpoint_zone_name(uint32_t number, char *text)
{
    const int saved = errno;
    const int rc = if_indextoname(number, text) ? 0 : -errno;
    errno = saved;
    return rc;
}

int rt_endpoint_lock_directory(const char *path)
{
    const int saved = errno;
    char directory[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    const char *slash = strrchr(path, '/');
    const size_t size = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    if (size >= sizeof directory)
        return -ENAMETOOLONG;
    memcpy(directory, path, size);
    memcpy(directory + size, size ? "" : ".", size ? 1 : 2);
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int rc = -errno;
        close(fd);
        errno = saved;
        return rc;
    }
    return result(fd, saved);
}

void rt_endpoint_unlock_directory(int directory)
{
    const int saved = errno;
    flock(directory, LOCK_UN); /* also for a child that has been forked with it meanwhile */
    close(directory);
    errno = saved;
}

bool rt_endpoint_is_socket_file(const char *path)
{
    const int saved = errno;
    struct stat st;
    const bool yes = lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
    errno = saved;
    return yes;
}

int rt_endpoint_unlink(const char *path)
{
    const int saved = errno;
    return result(unlink(path), saved);
}
