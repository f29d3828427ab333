/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Stream sockets of the Unix domain (net.h).
 *
 * A socket file stays behind when its owner is gone; bind(2) then says EADDRINUSE. Whether an owner is there
 * is asked by a socket of the wrong type: connect(2) says EPROTOTYPE if so, whether it listens already or
 * not, and it notices nothing; ECONNREFUSED if not. Between this and the removal of the file somebody else
 * could have removed it and bound his own. So who binds holds the lock of the directory, and of several that
 * start at the same time over an old file one gets the name, and the others find it alive. Where the
 * directory cannot be locked (no permission to read it, a file system without locks) nothing is removed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "../../include/routines/net.h"
#include "../../include/routines/routine.h"
#include "../../include/routines/time.h"
#include "../os/endpoint.h"
#include "net.h"

#define WAIT_FIRST ROUTINE_MS
#define WAIT_MOST  (20 * ROUTINE_MS)

typedef struct unix_name {
    struct sockaddr_un address;
    socklen_t size;
} unix_name;

static int parse(const char *path, unix_name *name)
{
    *name = (unix_name){.address = {.sun_family = AF_UNIX}};
    if (!path || path[0] == 0 || (path[0] == '@' && path[1] == 0))
        return -EINVAL;
    const size_t length = strnlen(path, sizeof name->address.sun_path);
    if (length >= sizeof name->address.sun_path)
        return -ENAMETOOLONG;
    memcpy(name->address.sun_path, path, length);
    name->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (path[0] == '@')
        name->address.sun_path[0] = 0; /* abstract: the length counts */
    else
        name->size++;
    return 0;
}

static const struct sockaddr *address_of(const unix_name *name)
{
    return (const struct sockaddr *)(const void *)&name->address;
}

static int bind_and_listen(int fd, const unix_name *name, int backlog)
{
    const int rc = rt_endpoint_bind(fd, address_of(name), name->size);
    return rc != 0 ? rc : rt_endpoint_listen(fd, backlog);
}

/* Under the directory's lock: a socket file, but nobody is behind it. */
static bool is_dead(const unix_name *name)
{
    if (!rt_endpoint_is_socket_file(name->address.sun_path)) /* on other files connect says the same */
        return false;
    const int fd = rt_net_socket(AF_UNIX, SOCK_DGRAM);
    if (fd < 0)
        return false;
    const int rc = rt_endpoint_connect(fd, address_of(name), name->size);
    routine_close(fd);
    return rc == -ECONNREFUSED;
}

/* The directory's lock, or why there is none: -EWOULDBLOCK is waited out. */
static int lock(const char *path)
{
    int64_t wait = WAIT_FIRST;
    for (;;) {
        const int directory = rt_endpoint_lock_directory(path);
        if (directory != -EWOULDBLOCK)
            return directory;
        const int rc = routine_sleep(wait);
        if (rc != 0)
            return rc;
        wait = wait * 2 < WAIT_MOST ? wait * 2 : WAIT_MOST;
    }
}

static int listen_at_path(int fd, const unix_name *name, int backlog)
{
    const char *path = name->address.sun_path;
    const int directory = lock(path);
    if (directory == -ECANCELED || directory == -ETIMEDOUT)
        return directory;
    int rc = bind_and_listen(fd, name, backlog);
    if (directory < 0)
        return rc;
    if (rc == -EADDRINUSE && is_dead(name) && rt_endpoint_unlink(path) == 0)
        rc = bind_and_listen(fd, name, backlog);
    rt_endpoint_unlock_directory(directory);
    return rc;
}

int routine_unix_listen(const char *path, int backlog)
{
    unix_name name;
    int rc = routine_check();
    if (rc == 0)
        rc = parse(path, &name);
    if (rc != 0)
        return rc;
    const int fd = rt_net_socket(AF_UNIX, SOCK_STREAM);
    if (fd < 0)
        return fd;
    rc = path[0] == '@' ? bind_and_listen(fd, &name, backlog) : listen_at_path(fd, &name, backlog);
    if (rc == 0)
        return fd;
    routine_close(fd);
    return rc;
}

int routine_unix_dial(const char *path)
{
    unix_name name;
    int rc = routine_check();
    if (rc == 0)
        rc = parse(path, &name);
    if (rc != 0)
        return rc;
    const int fd = rt_net_socket(AF_UNIX, SOCK_STREAM);
    if (fd < 0)
        return fd;
    rc = routine_connect(fd, address_of(&name), name.size);
    if (rc == 0)
        return fd;
    routine_close(fd);
    return rc;
}
