/* SPDX-License-Identifier: MIT
 *
 * Floor 7. What net.c, dial.c and unix.c share.
 */
#ifndef RT_IO_NET_H
#define RT_IO_NET_H

#include "../base/base.h"

/* A new socket, whose number the runtimes have forgotten: it may have been closed by somebody else. */
int rt_net_socket(int family, int type);

/* Which error tells more, of two addresses that have failed: the first; but that there is no way from here to
 * the one says nothing about the other. Start with 0. */
int rt_net_worse(int before, int now);

#endif
