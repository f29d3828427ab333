/* SPDX-License-Identifier: MIT
 *
 * Floor 1. epoll(7) and eventfd(2): raw system calls, each of which returns a negative errno and leaves errno
 * alone. The poller (sched/poller.h) says what they are for.
 */
#ifndef RT_OS_EPOLL_H
#define RT_OS_EPOLL_H

#include <sys/epoll.h>

#include "../base/base.h"

/* An epoll instance, close-on-exec: its descriptor, or a negative errno. */
int rt_epoll_create(void);

/* epoll_ctl(2). 0 or a negative errno. */
int rt_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t data);

/*
 * Waits for events, at most until that time (ns of CLOCK_MONOTONIC; INT64_MAX: for ever; 0: not at all).
 * Returns how many there are; 0 also when a signal came.
 */
int rt_epoll_wait(int epoll, struct epoll_event *events, int most, int64_t until);

/* An eventfd, close-on-exec, non-blocking: its descriptor, or a negative errno. */
int rt_epoll_event_create(void);

/* Makes it readable; and not readable again. */
void rt_epoll_event_signal(int event);
void rt_epoll_event_drain(int event);

/* Is there a descriptor of this number? */
bool rt_epoll_is_open(int fd);

/* close(2) of any of these. */
void rt_epoll_close(int fd);

#endif
