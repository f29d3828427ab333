/* SPDX-License-Identifier: MIT
 *
 * Floor 1. The system calls on descriptors that src/io/ is made of: each returns a negative errno, never
 * -EINTR, and leaves errno alone. None is inlined, so that errno's address is not kept over a switch.
 */
#ifndef RT_OS_SYS_H
#define RT_OS_SYS_H

#include <sys/socket.h>
#include <sys/types.h>

#include "../base/base.h"

struct iovec;
struct pollfd;

/* offset: where, or RT_SYS_HERE: at the file's position. nowait: RWF_NOWAIT; -EOPNOTSUPP where the kernel or
 * the file has none. */
#define RT_SYS_HERE ((off_t)-1)
ssize_t rt_sys_readv(int fd, const struct iovec *parts, int count, off_t offset, bool nowait);
ssize_t rt_sys_writev(int fd, const struct iovec *parts, int count, off_t offset, bool nowait);

ssize_t rt_sys_recv(int fd, void *buffer, size_t size, int flags);
ssize_t rt_sys_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t rt_sys_send(int fd, const void *data, size_t size, int flags);
ssize_t rt_sys_sendmsg(int fd, const struct msghdr *message, int flags);

/* For msg_iovlen, whose type C libraries do not agree on. */
#define RT_SYS_PARTS(count) ((__typeof__(((struct msghdr *)NULL)->msg_iovlen))(count))

/* Close-on-exec. */
int rt_sys_accept(int fd, struct sockaddr *address, socklen_t *size);

/* May return -EINTR, after which the connection is still being made. */
int rt_sys_connect(int fd, const struct sockaddr *address, socklen_t size);

/* An option of SOL_SOCKET that is an int: 0 and *value, or a negative errno. */
int rt_sys_socket_option(int fd, int option, int *value);

/* Has it a peer? 0 or -ENOTCONN, -ENOTSOCK… */
int rt_sys_has_peer(int fd);

/* O_… of fcntl(F_GETFL), or a negative errno; and F_SETFL. */
int rt_sys_flags(int fd);
int rt_sys_set_flags(int fd, int flags);

/* The file's S_IFMT, or a negative errno. */
int rt_sys_type(int fd);

/* poll(2), until that time (ns of CLOCK_MONOTONIC; 0: at once; INT64_MAX: for ever). How many have events; 0:
 * the time has come. */
int rt_sys_poll(struct pollfd *fds, unsigned long count, int64_t until);

/* poll(2) of one, at once: has it any of these, or an error? */
bool rt_sys_is_ready(int fd, short events);

/* close(2): the descriptor is gone afterwards, but with -EBADF. */
int rt_sys_close(int fd);

/* SIGPIPE, around a write that may raise it: *held says what is to be undone. broken: it has. own: in a
 * thread of the library, which has it blocked. */
typedef struct {
    bool blocked, pending;
} rt_sys_sigpipe;
void rt_sys_sigpipe_hold(rt_sys_sigpipe *held, bool own);
void rt_sys_sigpipe_release(const rt_sys_sigpipe *held, bool own, bool broken);

#endif
