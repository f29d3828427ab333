/* SPDX-License-Identifier: MIT
 *
 * Floor 1. The system calls that make sockets: socket, bind, listen, connect, their names and options, the
 * names of network interfaces, and what files stand for Unix sockets.
 *
 * All sockets made here are close-on-exec and non-blocking, so nothing here waits for a peer. Results are
 * 0, a count or a descriptor, or a negative errno; errno itself is left as it was.
 */
#ifndef RT_OS_ENDPOINT_H
#define RT_OS_ENDPOINT_H

#include <sys/socket.h>

#include "../base/base.h"

/* type: SOCK_STREAM or SOCK_DGRAM. */
int rt_endpoint_socket(int family, int type);

int rt_endpoint_set(int fd, int level, int option, int value);
int rt_endpoint_bind(int fd, const struct sockaddr *address, socklen_t size);

/* backlog <= 0: as many as the system allows. */
int rt_endpoint_listen(int fd, int backlog);

/* -EINPROGRESS: it will be writable when that has been decided, and rt_endpoint_error says how. */
int rt_endpoint_connect(int fd, const struct sockaddr *address, socklen_t size);

/* What stands in SO_ERROR, negative; 0 if nothing does. */
int rt_endpoint_error(int fd);

/* The descriptor's own address, or its peer's. */
int rt_endpoint_name(int fd, bool peer, struct sockaddr *address, socklen_t *size);

/* An interface's number by its name; -ENODEV. */
int rt_endpoint_zone(const char *name, uint32_t *number);

/* Its name by its number: text has room for RT_ENDPOINT_ZONE bytes. */
#define RT_ENDPOINT_ZONE 16
int rt_endpoint_zone_name(uint32_t number, char *text);

/* Takes the advisory lock of the directory that a path is in, if nobody has it: a descriptor; -EWOULDBLOCK.
 * The lock is an open file's: routines and processes exclude each other alike. */
int rt_endpoint_lock_directory(const char *path);
void rt_endpoint_unlock_directory(int directory);

bool rt_endpoint_is_socket_file(const char *path);
int rt_endpoint_unlink(const char *path);

#endif
