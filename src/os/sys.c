/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See sys.h.
 */
#define _GNU_SOURCE
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define NS_PER_S INT64_C(1000000000)

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

/* Not inlined anywhere: see sys.h. Again when a signal came. */
#define AGAIN(type, result, call)                                                                            \
    do {                                                                                                     \
        const int saved = errno;                                                                             \
        type rc;                                                                                             \
        do                                                                                                   \
            rc = (call);                                                                                     \
        while (rc < 0 && errno == EINTR);                                                                    \
        (result) = rc < 0 ? -errno : rc;                                                                     \
        errno = saved;                                                                                       \
    } while (0)

/* What TSan does not know: preadv2 and pwritev2 order what is before a write and after a read of the same
 * bytes. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RT_SYS_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define RT_SYS_TSAN 1
#endif
#ifdef RT_SYS_TSAN
void __tsan_acquire(void *);
void __tsan_release(void *);
static char order;
#define READ_DONE()   __tsan_acquire(&order)
#define WRITE_BEGUN() __tsan_release(&order)
#else
#define READ_DONE()   ((void)0)
#define WRITE_BEGUN() ((void)0)
#endif

RT_NOINLINE ssize_t rt_sys_readv(int fd, const struct iovec *parts, int count, off_t offset, bool nowait)
{
    ssize_t result;
    if (nowait)
        /* by number: not all C libraries have it. The upper half of the offset is only used by 32-bit kernels
         */
        AGAIN(long, result, syscall(SYS_preadv2, fd, parts, (long)count, (long)offset, 0L, RWF_NOWAIT));
    else if (offset != RT_SYS_HERE)
        AGAIN(ssize_t, result, preadv(fd, parts, count, offset));
    else if (count == 1)
        AGAIN(ssize_t, result, read(fd, parts->iov_base, parts->iov_len));
    else
        AGAIN(ssize_t, result, readv(fd, parts, count));
    if (nowait)
        READ_DONE();
    return result == -ENOSYS ? -EOPNOTSUPP : result;
}

RT_NOINLINE ssize_t rt_sys_writev(int fd, const struct iovec *parts, int count, off_t offset, bool nowait)
{
    ssize_t result;
    if (nowait)
        WRITE_BEGUN();
    if (nowait)
        AGAIN(long, result, syscall(SYS_pwritev2, fd, parts, (long)count, (long)offset, 0L, RWF_NOWAIT));
    else if (offset != RT_SYS_HERE)
        AGAIN(ssize_t, result, pwritev(fd, parts, count, offset));
    else if (count == 1)
        AGAIN(ssize_t, result, write(fd, parts->iov_base, parts->iov_len));
    else
        AGAIN(ssize_t, result, writev(fd, parts, count));
    return result == -ENOSYS ? -EOPNOTSUPP : result;
}

RT_NOINLINE ssize_t rt_sys_recv(int fd, void *buffer, size_t size, int flags)
{
    ssize_t result;
    AGAIN(ssize_t, result, recv(fd, buffer, size, flags));
    return result;
}

RT_NOINLINE ssize_t rt_sys_recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t result;
    AGAIN(ssize_t, result, recvmsg(fd, message, flags));
    return result;
}

RT_NOINLINE ssize_t rt_sys_send(int fd, const void *data, size_t size, int flags)
{
    ssize_t result;
    AGAIN(ssize_t, result, send(fd, data, size, flags));
    return result;
}

RT_NOINLINE ssize_t rt_sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t result;
    AGAIN(ssize_t, result, sendmsg(fd, message, flags));
    return result;
}

RT_NOINLINE int rt_sys_accept(int fd, struct sockaddr *address, socklen_t *size)
{
    int result;
    AGAIN(int, result, accept4(fd, address, size, SOCK_CLOEXEC));
    return result;
}

RT_NOINLINE int rt_sys_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    const int saved = errno;
    const int rc = connect(fd, address, size) < 0 ? -errno : 0;
    errno = saved;
    return rc;
}

RT_NOINLINE int rt_sys_socket_option(int fd, int option, int *value)
{
    int result;
    socklen_t size = sizeof *value;
    AGAIN(int, result, getsockopt(fd, SOL_SOCKET, option, value, &size));
    return result;
}

RT_NOINLINE int rt_sys_has_peer(int fd)
{
    int result;
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    AGAIN(int, result, getpeername(fd, (struct sockaddr *)&peer, &size));
    return result;
}

RT_NOINLINE int rt_sys_flags(int fd)
{
    int result;
    AGAIN(int, result, fcntl(fd, F_GETFL));
    return result;
}

RT_NOINLINE int rt_sys_set_flags(int fd, int flags)
{
    int result;
    AGAIN(int, result, fcntl(fd, F_SETFL, flags));
    return result;
}

RT_NOINLINE int rt_sys_type(int fd)
{
    int result;
    struct stat about;
    AGAIN(int, result, fstat(fd, &about));
    return result < 0 ? result : (int)(about.st_mode & (mode_t)S_IFMT);
}

RT_NOINLINE int rt_sys_poll(struct pollfd *fds, unsigned long count, int64_t until)
{
    const int saved = errno;
    int rc;
    do {
        struct timespec length = {0}, *left = until == INT64_MAX ? NULL : &length;
        if (until != 0 && until != INT64_MAX) {
            int64_t ns = until - rt_clock_now();
            if (ns < 0)
                ns = 0;
            length = (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
        }
        rc = ppoll(fds, (nfds_t)count, left, NULL);
        if (rc < 0)
            rc = -errno;
    } while (rc == -EINTR);
    errno = saved;
    return rc;
}

bool rt_sys_is_ready(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};
    return rt_sys_poll(&one, 1, 0) != 0;
}

/* ThreadSanitizer takes a close during a call on the same descriptor for a race. Here it is what
 * routine_close is for: it is not to look, but still to forget what it knows of the number. */
#if defined(__SANITIZE_THREAD__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WATCHED 1
#endif
#endif
#ifdef WATCHED
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define LOOK_AWAY()  AnnotateIgnoreWritesBegin(__FILE__, __LINE__)
#define LOOK_AGAIN() AnnotateIgnoreWritesEnd(__FILE__, __LINE__)
#else
#define LOOK_AWAY()  (void)0
#define LOOK_AGAIN() (void)0
#endif

RT_NOINLINE int rt_sys_close(int fd)
{
    const int saved = errno;
    LOOK_AWAY();
    int rc = close(fd) < 0 ? -errno : 0;
    LOOK_AGAIN();
    errno = saved;
    return rc == -EINTR || rc == -EINPROGRESS ? 0 : rc;
}

static void only_sigpipe(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGPIPE);
}

RT_NOINLINE void rt_sys_sigpipe_hold(rt_sys_sigpipe *held, bool own)
{
    *held = (rt_sys_sigpipe){false, false};
    if (own)
        return;
    sigset_t set, before, pending;
    only_sigpipe(&set);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    held->blocked = sigismember(&before, SIGPIPE) != 0;
    held->pending = held->blocked && sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

RT_NOINLINE void rt_sys_sigpipe_release(const rt_sys_sigpipe *held, bool own, bool broken)
{
    static const struct timespec at_once;
    const int saved = errno;
    sigset_t set;
    only_sigpipe(&set);
    if (broken && !held->pending)
        while (sigtimedwait(&set, NULL, &at_once) < 0 && errno == EINTR)
            ;
    if (!own && !held->blocked)
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    errno = saved;
}
