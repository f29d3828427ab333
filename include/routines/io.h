/* SPDX-License-Identifier: MIT
 *
 * Input and output that blocks the routine, never the thread: the calls of POSIX, with their names and
 * arguments behind routine_, and some helpers on top of them. Listening and dialling are in net.h.
 *
 * They differ from POSIX in this only:
 *   - errors are returned, as negative errno; errno itself is never set;
 *   - they obey limits and cancellation (time.h, routine.h): -ETIMEDOUT, -ECANCELED, on entry and while they
 *     wait. What has been read or written before that is not lost: then the count is returned;
 *   - EINTR does not happen, and SIGPIPE is not raised: -EPIPE;
 *   - descriptors may be blocking or non-blocking, and stay as they are (but see accept). EAGAIN does not
 *     happen; use the system's own call for a try that does not wait, or MSG_DONTWAIT.
 *   - writing calls (write, writev, send, sendto, sendmsg on streams) return when all is written, like those
 *     of a blocking descriptor; less only if an error, the limit or a cancellation came between.
 *
 * Any descriptor will do. Sockets, pipes, terminals, eventfds and the like wait in the runtime's poller.
 * Regular files never wait there: what is in the cache is read at once, for the rest a thread of the
 * runtime's pool is sent (blocking.h). From a plain thread every call blocks that thread.
 *
 * The library remembers descriptors by number. Close those that have been used here with routine_close();
 * before a close() by somebody else, or before handing one to another process, call routine_fd_forget().
 * (What was forgotten to be forgotten is found out in time, by waits that take long; but a wait under way is
 * then not told of the close.)
 */
#ifndef ROUTINES_IO_H
#define ROUTINES_IO_H

#include <sys/socket.h>

#include "base.h"

struct addrinfo;
struct iovec;
struct pollfd;

ROUTINES_BEGIN

/* ---- the calls of POSIX ---- */

/* As read(2), readv, write, writev, pread, pwrite. The count, 0 at the end of the file, or a negative errno.
 */
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_read(int fd, void *buffer, size_t size);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_readv(int fd, const struct iovec *parts, int count);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_write(int fd, const void *data, size_t size);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_writev(int fd, const struct iovec *parts, int count);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_pread(int fd, void *buffer, size_t size, off_t offset);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_pwrite(int fd, const void *data, size_t size, off_t offset);

/* As recv(2) and the others. With MSG_DONTWAIT they do not wait: -EAGAIN. */
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_recv(int fd, void *buffer, size_t size, int flags);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_recvfrom(int fd, void *buffer, size_t size, int flags,
                                                         struct sockaddr *from, socklen_t *from_size);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_recvmsg(int fd, struct msghdr *message, int flags);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_send(int fd, const void *data, size_t size, int flags);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_sendto(int fd, const void *data, size_t size, int flags,
                                                       const struct sockaddr *to, socklen_t to_size);
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_sendmsg(int fd, const struct msghdr *message, int flags);

/*
 * As accept(2): the new descriptor, or a negative errno. It is close-on-exec. A blocking listener is made
 * non-blocking. Several routines may accept from one listener. -EMFILE and -ENFILE are returned at once, with
 * the connection still waiting: close something, or sleep a little, before the next try. Errors of a
 * connection that died before it was accepted (ECONNABORTED, EPROTO) are skipped.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_accept(int fd, struct sockaddr *address, socklen_t *size);

/* As connect(2): 0, when the connection stands, or a negative errno. After -ETIMEDOUT or -ECANCELED by the
 * limit or a cancellation close the socket. */
ROUTINES_API ROUTINES_NODISCARD int routine_connect(int fd, const struct sockaddr *address, socklen_t size);

/*
 * As poll(2), with milliseconds (negative: for ever): how many entries have events; 0 after its own time;
 * -ETIMEDOUT is the limit in force.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_poll(struct pollfd *fds, unsigned long count, int ms);

/*
 * As close(2). Routines that wait for this descriptor in this runtime are woken with -ECANCELED first, and
 * none of them will meet a descriptor that gets the same number later. Never cut short. 0 or a negative
 * errno; the descriptor is gone in any case (but with -EBADF).
 */
ROUTINES_API int routine_close(int fd);

/*
 * As open(2), run by the pool (blocking.h), since it may block on some file systems. The descriptor is
 * close-on-exec. Once it has begun it is waited for: when it returns an error nothing is left open. The wait
 * for the other side of a fifo is an exception, which takes no thread: a routine looks for it now and then,
 * at most 20 ms late, and the limit or a cancellation ends that.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_open(const char *path, int flags, ...);

/* As fsync(2), run by the pool. Once it has begun it is waited for. */
ROUTINES_API ROUTINES_NODISCARD int routine_fsync(int fd);

/*
 * As getaddrinfo(3), run by the pool's threads for names. Returns what POSIX says: 0 or an EAI_ value, which
 * is positive on some systems and negative on others: test for 0. When the limit or a cancellation comes,
 * also while the lookup is under way: EAI_AGAIN; routine_check() tells. The system goes on with the lookup
 * then, and a shutdown of the runtime waits for it. EAI_SYSTEM does not happen, since errno would have to say
 * more: EAI_MEMORY for want of memory or descriptors, else EAI_FAIL. The list is released by freeaddrinfo().
 * Numeric hosts, and none, never wait, if the service is a number too, or none.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_getaddrinfo(const char *node, const char *service,
                                                        const struct addrinfo *hints,
                                                        struct addrinfo **result);

/*
 * As waitpid(2): the child's number, 0 with WNOHANG if it has not changed, or a negative errno. With WNOHANG
 * it is a try, which neither the limit nor a cancellation stops. One child's end is waited for by a
 * descriptor (Linux 5.3); for pid 0 or below, and for WUNTRACED or WCONTINUED, a routine looks now and then,
 * so it is up to 20 ms late.
 */
ROUTINES_API ROUTINES_NODISCARD pid_t routine_waitpid(pid_t pid, int *status, int options);

/*
 * The library forgets all it knows of this descriptor; waiters are woken with -ECANCELED. Call it before a
 * close() by other code, or before handing the descriptor away. Does not block. 0, or -EBADF for a negative
 * number.
 */
ROUTINES_API int routine_fd_forget(int fd);

/* ---- helpers ---- */

/*
 * Reads, or writes, exactly so much. 0: all of it. Otherwise a negative errno, and for read_full -ENODATA if
 * the end came before; *done (may be NULL) says how many bytes it was in any case.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_read_full(int fd, void *buffer, size_t size, size_t *done);
ROUTINES_API ROUTINES_NODISCARD int routine_write_all(int fd, const void *data, size_t size, size_t *done);

/*
 * Copies from one descriptor to the other until the end of `from`, or `most` bytes: from a file by the kernel
 * alone, if the target is a file, a pipe or a non-blocking stream socket; else through a buffer. 0, also if
 * the end came first; or a negative errno; *done (may be NULL): bytes written. Bytes read but not written
 * when an error comes are lost, as is usual with pipes; but not those of a file, whose position is where the
 * copy has come to.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_copy(int to, int from, uint64_t most, uint64_t *done);

/* As sendfile(2): from a regular file to a descriptor, also one that sendfile(2) does not take; returns when
 * all is sent, or the file ends. What was sent before an error, the limit or a cancellation: the count. */
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_sendfile(int to, int from, off_t *offset, size_t size);

/*
 * A buffered reader, for protocols of lines. It belongs to one routine at a time, and does not own the
 * descriptor. NULL: no memory. buffer: bytes, 0 for 8 KiB.
 */
typedef struct routine_reader routine_reader_t;
ROUTINES_API ROUTINES_NODISCARD routine_reader_t *routine_reader_new(int fd, size_t buffer);
ROUTINES_API void routine_reader_free(routine_reader_t *reader);

/*
 * The next line, without its "\n" or "\r\n", ended by a zero byte: its length; or
 *   -ENODATA    the end of the file; a last line without a newline is a line
 *   -EMSGSIZE   it is longer than size - 1: what fits is there, the rest of the line is skipped
 *   and what routine_read returns.
 * Lines can contain zero bytes: the length counts.
 */
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_reader_line(routine_reader_t *reader, char *line,
                                                            size_t size);

/* As routine_read and routine_read_full, of what comes after the last line. */
ROUTINES_API ROUTINES_NODISCARD ssize_t routine_reader_read(routine_reader_t *reader, void *buffer,
                                                            size_t size);
ROUTINES_API ROUTINES_NODISCARD int routine_reader_read_full(routine_reader_t *reader, void *buffer,
                                                             size_t size, size_t *done);

/* How many bytes are in its buffer: so many can be read without waiting. */
ROUTINES_API size_t routine_reader_buffered(const routine_reader_t *reader);

ROUTINES_END

#endif
