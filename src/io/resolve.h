/* SPDX-License-Identifier: MIT
 *
 * Floor 7. From the text of an address to the socket addresses that it means, in the order in which they are
 * to be tried. Only names are looked up, by routine_getaddrinfo; what is numeric does not wait.
 */
#ifndef RT_IO_RESOLVE_H
#define RT_IO_RESOLVE_H

#include "address.h"

/* More are not tried. */
#define RT_RESOLVE_MOST 16

typedef struct rt_resolved {
    int count; /* at least 1 */
    rt_address all[RT_RESOLVE_MOST];
} rt_resolved;

typedef enum rt_resolve_for { RT_RESOLVE_TO_LISTEN, RT_RESOLVE_TO_DIAL } rt_resolve_for;

/*
 * type: SOCK_STREAM or SOCK_DGRAM. Without a host: to listen, any interface, of IPv6 (which takes IPv4 as
 * well) before IPv4; to dial, this machine. To dial, families alternate, beginning with that of the first
 * (RFC 8305, 4). Returns 0, or what net.h says. Outside (scheduler.h).
 */
int rt_resolve(const char *text, int type, rt_resolve_for purpose, rt_resolved *to);

#endif
