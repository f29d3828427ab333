/* SPDX-License-Identifier: MIT
 *
 * Floor 3. Waiting for descriptors: the poller (poller.h) as the scheduler uses it.
 *
 * Idle workers sleep in it, in turns (idle.h, I7; search.c); busy ones look at it in passing, where they look
 * at their timers (order.c), but not while somebody sleeps in it. Each worker counts the waits that begin and
 * end on it, so that nobody polls when nobody waits.
 *
 * Only routines wait here; plain threads wait in poll(2) (io/fd.c).
 */
#ifndef RT_SCHED_FDWAIT_H
#define RT_SCHED_FDWAIT_H

#include "poller.h"
#include "scheduler.h"

/* What a wait that epoll refuses returns (E of poller.h, -EPERM): the call is simply to be made. */
#define RT_FD_NEVER_WAITS 1

/*
 * Inside, from a routine: waits until something has happened to fd since its events were counted as `seen`,
 * or until a limit or a cancellation. f is its record in the routine's runtime, generation what that was when
 * the call began. Returns 0: try again; RT_FD_NEVER_WAITS; -ECANCELED, also if it was closed; -ETIMEDOUT;
 * -EBADF; -ENOMEM, -ENOSPC, -EMFILE, -ENFILE: it cannot be waited for.
 */
int rt_fdwait(rt_runtime *rt, rt_fd *f, int fd, int direction, uint32_t generation, uint32_t seen);

/* The parts of that, for a wait for several (io/poll.c). Registers fd, and starts the poller for it, if need
 * be: 0; RT_FD_NEVER_WAITS; -ECANCELED, if its generation is another; or a negative errno. */
int rt_fdwait_register(rt_runtime *rt, rt_fd *f, int fd, uint32_t generation);

/* A wait begins, and is over: the poller is told. Inside. begin comes before its record can be found. */
void rt_fdwait_begin(rt_runtime *rt);
void rt_fdwait_end(rt_runtime *rt);

/* Does anybody wait? As long as one does it says true. */
bool rt_fdwait_any(const rt_runtime *rt);

/* Worker w, which is the caller: looks at the events without waiting, if somebody waits for any and nobody
 * else looks; those woken are on its ready list then. False: there were none. */
bool rt_fdwait_look(rt_worker *w);

/* As the poller (I7), on the thread's own stack: rests until there are events, somebody wakes it, or that
 * time. False: the last. */
bool rt_fdwait_sleep(rt_worker *w, int64_t until);

/* The round that is due (E5). */
void rt_fdwait_round(rt_worker *w, int64_t now);

/* For the monitor, and whoever is no worker: when somebody last looked at the events, INT64_MAX: somebody
 * does all the time; and a look in the workers' place. */
int64_t rt_fdwait_looked_at(const rt_runtime *rt);
void rt_fdwait_look_outside(rt_runtime *rt);

#endif
