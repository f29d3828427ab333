/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Addresses as text, and back. Nothing here waits, or asks a name server.
 *
 * What is understood:
 *     host:port   1.2.3.4:port   [v6]:port   [v6%zone]:port   :port
 * The port is a number from 0 to 65535, or the name of a service; there is always one. An IPv6 address stands
 * in brackets, and nothing else does. What stands for IPv4 in IPv6 (::ffff:1.2.3.4) is taken for, and printed
 * as, IPv4. What is printed is understood.
 */
#ifndef RT_IO_ADDRESS_H
#define RT_IO_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "../base/base.h"

#define RT_ADDRESS_HOST    253 /* bytes of a name, as DNS has it */
#define RT_ADDRESS_SERVICE 63

typedef union rt_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} rt_address;

typedef enum rt_target_kind {
    RT_TARGET_ANY,     /* without a host */
    RT_TARGET_NUMERIC, /* `address`, with the port if that is a number */
    RT_TARGET_NAME     /* `host` */
} rt_target_kind;

typedef struct rt_target {
    rt_target_kind kind;
    int port; /* -1: `service` */
    rt_address address;
    char host[RT_ADDRESS_HOST + 1];
    char service[RT_ADDRESS_SERVICE + 1];
} rt_target;

/* 0; -EINVAL: it cannot be understood; -ENODEV: there is no interface of the zone's name. text may be NULL.
 */
int rt_address_parse(const char *text, rt_target *target);

socklen_t rt_address_size(const rt_address *address);
void rt_address_set_port(rt_address *address, int port);
bool rt_address_equal(const rt_address *a, const rt_address *b);

/* The address of any interface, or of this machine itself: family is AF_INET or AF_INET6. */
rt_address rt_address_any(int family, int port);
rt_address rt_address_loopback(int family, int port);

/* Is it that of any interface? */
bool rt_address_is_any(const rt_address *address);

/* Prints what the system has returned, of the families AF_INET, AF_INET6 and AF_UNIX (a socket without a name
 * is ""). 0; -ENOSPC: text is too small; -EAFNOSUPPORT; -EILSEQ: an abstract name that text cannot say. */
int rt_address_print(const struct sockaddr *address, socklen_t size, char *text, size_t room);

#endif
