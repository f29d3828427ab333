/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Listening, UDP, and the addresses of sockets (net.h).
 *
 * An IPv6 socket bound to any interface takes IPv4 as well, however the machine is set (net.ipv6.bindv6only).
 * Where there is no IPv6, the socket cannot be made (EAFNOSUPPORT) or bound (EADDRNOTAVAIL), and an address
 * without a host means IPv4; any other error, a port that is in use above all, is the caller's.
 */
#define _GNU_SOURCE
#include "net.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include "../../include/routines/net.h"
#include "../os/endpoint.h"
#include "fd.h"
#include "resolve.h"

int rt_net_socket(int family, int type)
{
    const int fd = rt_endpoint_socket(family, type);
    if (fd < 0)
        return fd;
    const bool tcp = type == SOCK_STREAM && family != AF_UNIX;
    routine_fd_forget(fd); /* in all runtimes: it may be handed on */
    rt_fd_fresh(fd, RT_FD_KNOWN | RT_FD_SOCKET | (tcp ? RT_FD_TCP : 0u));
    return fd;
}

static bool is_no_way(int error)
{
    return error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL || error == -ENETUNREACH;
}

int rt_net_worse(int before, int now)
{
    return before == 0 || (is_no_way(before) && !is_no_way(now)) ? now : before;
}

/* Options, the name, and for a stream the queue of connections. */
static int set_up(int fd, const rt_address *address, int type, int backlog)
{
    int rc = 0;
    if (address->any.sa_family == AF_INET6 && rt_address_is_any(address))
        rc = rt_endpoint_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (rc == 0 && type == SOCK_STREAM)
        rc = rt_endpoint_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && type == SOCK_STREAM)
        rc = rt_endpoint_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (rc == 0)
        rc = rt_endpoint_bind(fd, &address->any, rt_address_size(address));
    if (rc == 0 && type == SOCK_STREAM)
        rc = rt_endpoint_listen(fd, backlog);
    return rc;
}

static int bind_one(const rt_address *address, int type, int backlog)
{
    const int fd = rt_net_socket(address->any.sa_family, type);
    if (fd < 0)
        return fd;
    const int rc = set_up(fd, address, type, backlog);
    if (rc == 0)
        return fd;
    routine_close(fd);
    return rc;
}

static int bind_first(const char *text, int type, int backlog)
{
    rt_resolved list;
    const int rc = rt_resolve(text, type, RT_RESOLVE_TO_LISTEN, &list);
    if (rc != 0)
        return rc;
    int error = 0;
    for (int i = 0; i < list.count; i++) {
        const int fd = bind_one(&list.all[i], type, backlog);
        if (fd >= 0)
            return fd;
        error = rt_net_worse(error, fd);
        if (rt_address_is_any(&list.all[i]) && !is_no_way(fd))
            break; /* IPv4 alone is not what was asked for */
    }
    return error;
}

int routine_tcp_listen(const char *address, int backlog)
{
    return bind_first(address, SOCK_STREAM, backlog);
}

int routine_udp_bind(const char *address)
{
    return bind_first(address, SOCK_DGRAM, 0);
}

int routine_udp_dial(const char *address)
{
    rt_resolved list;
    const int rc = rt_resolve(address, SOCK_DGRAM, RT_RESOLVE_TO_DIAL, &list);
    if (rc != 0)
        return rc;
    int error = 0;
    for (int i = 0; i < list.count; i++) {
        const rt_address *to = &list.all[i];
        const int fd = rt_net_socket(to->any.sa_family, SOCK_DGRAM);
        const int said = fd < 0 ? fd : rt_endpoint_connect(fd, &to->any, rt_address_size(to));
        if (said >= 0)
            return fd;
        if (fd >= 0)
            routine_close(fd);
        error = rt_net_worse(error, said);
    }
    return error;
}

static int print_name(int fd, bool peer, char *text, size_t size)
{
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
        struct sockaddr_un path;
    } name;
    socklen_t length = sizeof name;
    if (!text)
        return -EINVAL;
    const int rc = rt_endpoint_name(fd, peer, &name.any, &length);
    return rc != 0 ? rc : rt_address_print(&name.any, length, text, size);
}

int routine_local_address(int fd, char *text, size_t size)
{
    return print_name(fd, false, text, size);
}

int routine_peer_address(int fd, char *text, size_t size)
{
    return print_name(fd, true, text, size);
}
