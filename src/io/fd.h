/* SPDX-License-Identifier: MIT
 *
 * Floor 7. A call on a descriptor: try, and if it would block, wait and try again.
 *
 * What a descriptor is, and so how it is tried without blocking, is found out at its first use and kept in
 * its record (poller.h): its flags are not touched, since they are shared with other processes.
 *
 *     a socket                      MSG_DONTWAIT
 *     anything with O_NONBLOCK      the call itself
 *     a regular file, a disk        never waits: see io.c
 *     anything else                 RWF_NOWAIT; where it has none (terminals, named pipes), poll(2) and then
 * the call, which can still block its thread, if somebody else is faster: then the monitor helps
 *
 * If what was kept turns out to be wrong (a number that was closed and reused behind our back) it is found
 * out anew. Plain threads have no records: they find out each time, and wait in poll(2).
 *
 * All of this is called outside (scheduler.h).
 */
#ifndef RT_IO_FD_H
#define RT_IO_FD_H

#include <sys/types.h>

#include "../sched/fdwait.h"

typedef struct {
    int fd;
    int direction; /* RT_FD_IN, RT_FD_OUT */
    unsigned kind; /* RT_FD_…, as it was when looked at */
    bool waited;   /* what comes next is tried after a wait */
    bool direct;   /* epoll takes no such thing: it may block */
    rt_block *me;
    rt_runtime *rt; /* null, as f: a plain thread */
    rt_fd *f;
    uint32_t generation, seen;
} rt_fd_use;

/* Begins a call. 0, or why it is not to be made: -ECANCELED, -ETIMEDOUT; -EBADF, -ENOMEM. */
int rt_fd_begin(rt_fd_use *u, int fd, int direction);

/* The same, for those to whom it is all one what kind it is. */
int rt_fd_begin_any(rt_fd_use *u, int fd, int direction);

/* Is it tried by RWF_NOWAIT? -EOPNOTSUPP says that it will not be any more. */
bool rt_fd_uses_nowait(const rt_fd_use *u);

/* One try, which blocks only where there is no way not to. -EAGAIN: it would. */
typedef ssize_t rt_fd_try(rt_fd_use *u, void *arg);

/* Tries until it is something else than -EAGAIN; or -ECANCELED, -ETIMEDOUT, or a wait's error. */
ssize_t rt_fd_do(rt_fd_use *u, rt_fd_try *try_it, void *arg);

/* The first try was -EAGAIN, with the events as they were when it was begun: waits, then the rest of
 * rt_fd_do. */
ssize_t rt_fd_do_waiting(rt_fd_use *u, rt_fd_try *try_it, void *arg);

/* Waits once. 0: try again. For what does not fit into rt_fd_do. */
int rt_fd_wait(rt_fd_use *u);

/* Is it worth a try? False: a read that came up short has drained it (poller.h, E2). Notes the events. */
RT_INLINE bool rt_fd_worth_reading(rt_fd_use *u)
{
    const rt_fd *f = u->f;
    if (!f)
        return true;
    u->seen = rt_fd_events(f, RT_FD_IN);
    /* relaxed, both: what counts came before the events that were seen, or is our own */
    return !(u->kind & RT_FD_TCP) || atomic_load_explicit(&f->drained, memory_order_relaxed) != u->seen ||
           atomic_load_explicit(&f->always_try, memory_order_relaxed);
}

/* A read, that the last call of rt_fd_worth_reading was before, came up short. */
RT_INLINE void rt_fd_drained(const rt_fd_use *u)
{
    if (u->f && u->kind & RT_FD_TCP) /* relaxed: a hint, which is right whoever reads it (E2) */
        atomic_store_explicit(&u->f->drained, u->seen, memory_order_relaxed);
}

/* This is known of its kind, too. */
void rt_fd_learn(rt_fd_use *u, unsigned kind);

/* fd is a new descriptor, of this kind (0: not known): what was kept of its number is forgotten. */
void rt_fd_fresh(int fd, unsigned kind);

#endif
