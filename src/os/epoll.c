/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See epoll.h.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

/* Linux 5.11; the same number everywhere. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

int rt_epoll_create(void)
{
    const int saved = errno;
    const int fd = epoll_create1(EPOLL_CLOEXEC), rc = fd < 0 ? -errno : fd;
    errno = saved;
    return rc;
}

int rt_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t data)
{
    const int saved = errno;
    struct epoll_event event = {.events = events, .data.u64 = data};
    const int rc = epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
    errno = saved;
    return rc;
}

/* By milliseconds, rounded up: what older kernels have. */
static int wait_ms(int epoll, struct epoll_event *events, int most, int64_t left)
{
    int ms = -1;
    if (left != INT64_MAX) {
        left = left / NS_PER_MS + (left % NS_PER_MS != 0);
        ms = left > INT_MAX ? INT_MAX : (int)left;
    }
    return epoll_wait(epoll, events, most, ms);
}

int rt_epoll_wait(int epoll, struct epoll_event *events, int most, int64_t until)
{
    static _Atomic bool only_ms; /* relaxed: who does not know it yet finds it out */
    const int saved = errno;
    int64_t left = until;
    if (until != 0 && until != INT64_MAX && (left = until - rt_clock_now()) < 0)
        left = 0;
    int n;
    if (left == 0 || left == INT64_MAX || atomic_load_explicit(&only_ms, memory_order_relaxed)) {
        n = wait_ms(epoll, events, most, left);
    } else {
        const struct timespec length = {.tv_sec = (time_t)(left / NS_PER_S),
                                        .tv_nsec = (long)(left % NS_PER_S)};
        n = (int)syscall(SYS_epoll_pwait2, epoll, events, most, &length, NULL, (size_t)0);
        if (n < 0 && (errno == ENOSYS || errno == EPERM)) { /* EPERM: some sandboxes */
            atomic_store_explicit(&only_ms, true, memory_order_relaxed);
            n = wait_ms(epoll, events, most, left);
        }
    }
    errno = saved;
    return n < 0 ? 0 : n;
}

int rt_epoll_event_create(void)
{
    const int saved = errno;
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), rc = fd < 0 ? -errno : fd;
    errno = saved;
    return rc;
}

void rt_epoll_event_signal(int event)
{
    const int saved = errno;
    const uint64_t one = 1;
    /* It can only fail when it has been signalled 2^64 - 2 times, or in a sandbox that interrupts whatever it
     * likes; and a signal that is not given is a worker that sleeps for ever. */
    while (write(event, &one, sizeof one) < 0 && errno == EINTR)
        ;
    errno = saved;
}

void rt_epoll_event_drain(int event)
{
    const int saved = errno;
    uint64_t count;
    while (read(event, &count, sizeof count) < 0 && errno == EINTR) /* EAGAIN: it was not readable */
        ;
    errno = saved;
}

void rt_epoll_close(int fd)
{
    const int saved = errno;
    close(fd);
    errno = saved;
}

bool rt_epoll_is_open(int fd)
{
    const int saved = errno;
    const bool is_open = fcntl(fd, F_GETFD) != -1;
    errno = saved;
    return is_open;
}
