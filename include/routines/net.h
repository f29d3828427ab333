/* SPDX-License-Identifier: MIT
 *
 * Listening and dialling, in Go's manner: addresses are text. What comes back is a descriptor for the calls
 * of io.h, close-on-exec, non-blocking; close it with routine_close().
 *
 *     int fd = routine_tcp_listen(":8080", 0);
 *     while ((client = routine_accept(fd, NULL, NULL)) >= 0)
 *         ...
 *
 * Addresses are "host:port", "1.2.3.4:80", "[::1]:80", "[fe80::1%eth0]:80"; the port a number or the name of
 * a service. Without a host, ":80": all interfaces for listening, this machine for dialling. Port 0 lets the
 * system choose (routine_local_address tells).
 *
 * All return a descriptor or a negative errno: -EINVAL an address that cannot be understood; -ENOENT a host
 * that has no address; -EAGAIN its name server does not answer, -EIO it fails; -ETIMEDOUT, -ECANCELED; and
 * what the system says.
 */
#ifndef ROUTINES_NET_H
#define ROUTINES_NET_H

#include "io.h"

ROUTINES_BEGIN

/* Listens for connections. backlog <= 0: the system's most. Without a host both IPv6 and IPv4 come in. The
 * address may be used again at once after a restart; small messages are not held back (TCP_NODELAY, which
 * accepted connections inherit). */
ROUTINES_API ROUTINES_NODISCARD int routine_tcp_listen(const char *address, int backlog);

/* Connects. If the name has several addresses they are tried in turn, the next one when the last fails or has
 * not answered for 250 ms (RFC 8305), and the first to answer is taken. TCP_NODELAY is on. */
ROUTINES_API ROUTINES_NODISCARD int routine_tcp_dial(const char *address);

/* A UDP socket bound to an address: recvfrom and sendto. */
ROUTINES_API ROUTINES_NODISCARD int routine_udp_bind(const char *address);

/* A UDP socket connected to an address: send and recv. */
ROUTINES_API ROUTINES_NODISCARD int routine_udp_dial(const char *address);

/* Stream sockets of the Unix domain. A path that begins with '@' is in the abstract name space. A socket file
 * that nobody listens on any more is replaced; -EADDRINUSE if somebody does; remove the file yourself. */
ROUTINES_API ROUTINES_NODISCARD int routine_unix_listen(const char *path, int backlog);
ROUTINES_API ROUTINES_NODISCARD int routine_unix_dial(const char *path);

/* The descriptor's own address, or its peer's, as text that the functions above understand; "" is a Unix
 * socket without a name, as those of who dials are. 0; -ENOSPC: it does not fit (ROUTINE_ADDRESS_MAX always
 * does); or a negative errno. */
#define ROUTINE_ADDRESS_MAX 112
ROUTINES_API int routine_local_address(int fd, char *text, size_t size);
ROUTINES_API int routine_peer_address(int fd, char *text, size_t size);

ROUTINES_END

#endif
