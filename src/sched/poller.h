/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The poller of a runtime: an epoll instance, and a record for each descriptor that routines use,
 * with those who wait for it. It hands back lists of waiters whose wait is won, and makes nobody runnable
 * itself. Who polls, and when, is idle.h's affair (I7); how a routine waits is fdwait.h's.
 *
 * A descriptor is registered once, at the first wait for it, for both directions and edge-triggered. By
 * steps:
 *
 *  E1 Each record counts the events of each direction. A caller reads the count before it tries its
 *     system call; if that says EAGAIN it waits, under the record's lock, but only if the count is
 *     still the same: an edge that came between is never slept over. An event wakes all that wait
 *     for its direction, and each tries again, so an edge is never used up by one who then gives
 *     up.
 *  E2 A read of a TCP stream that came up short has drained it: what comes later makes a new edge.
 *     So the next read, if there has been no event since the count before that read, waits without
 *     trying. Not when an end, an error or urgent data has been seen (`always_try`), after which no
 *     edge may come.
 *  E3 The kernel knows a registration by the open file and the number, and keeps it as long as any
 *     duplicate of the file is open. Its events carry the number and the record's generation; a
 *     close, and everything else that gives the number a new meaning, makes the generation another
 *     one, so that late events are dropped. If the number is still registered from an earlier life
 *     (EEXIST), that is made over.
 *  E4 A close (rt_poller_forget): under the lock, a new generation, the registration is taken out,
 *     the waiters are taken out with -ECANCELED; then close(2); then (rt_poller_settle) those that
 *     have begun to wait meanwhile are sent to try again: they find EBADF, or wait for the number's
 *     next life, as their call may just as well have come after the close. A wait is for the
 *     generation that its call has begun with: one that began before the close does not wait after
 *     it, but is -ECANCELED; and since what is tried again after a wait is tried under the lock
 *     with the generation compared, it never touches the next life.
 *  E5 A foreign close leaves a record that says registered while the kernel has forgotten, and a
 *     wait that begins after the number is reused would last for ever. So waits that take long are
 *     verified, once: in rounds, ROUND apart, those that have seen a whole round without an event
 *     are registered anew (EPOLL_CTL_MOD, which also repeats the level; ENOENT: ADD). When all are
 *     verified there are no more rounds: idle costs nothing. `round_at` is when the next one is
 *     due; it is part of what the idle protocol takes for a timer (I6). Whoever begins a wait does:
 *     note it in its record and in `fresh`; light barrier; read round_at, and set it if there is
 *     none. The last round does: clear round_at; heavy barrier; read `fresh`. One sees the other.
 *
 * The table has chunks, each twice as large as the one before, made when they are needed and kept as long as
 * the runtime; so a record's address never changes, and finding it takes no lock.
 */
#ifndef RT_SCHED_POLLER_H
#define RT_SCHED_POLLER_H

#include "../os/epoll.h"
#include "../os/futex.h"
#include "wait.h"

enum { RT_FD_IN, RT_FD_OUT };

/* What the calls (io/fd.c) have found out about a descriptor; 0: nothing yet. */
enum {
    RT_FD_KNOWN = 1,
    RT_FD_SOCKET = 2,
    RT_FD_TCP = 4,           /* E2 */
    RT_FD_FILE = 8,          /* a regular file or a block device */
    RT_FD_SYNC = 16,         /* a file whose writes go to the device */
    RT_FD_NONBLOCK = 32,     /* not a socket; O_NONBLOCK */
    RT_FD_NO_NOWAIT = 64,    /* RWF_NOWAIT does not work for reading, */
    RT_FD_NO_NOWAIT_W = 128, /* for writing */
    RT_FD_ACCEPTS = 256      /* a listener, and non-blocking */
};

typedef struct {
    RT_ALIGNED rt_lock_t lock;
    _Atomic uint32_t generation; /* written under lock */
    _Atomic uint32_t events[2];  /* E1. Written under lock */
    _Atomic uint32_t drained;    /* E2: the count of events[RT_FD_IN] that a short read began with */
    _Atomic uint16_t kind;       /* RT_FD_…; written under lock */
    _Atomic bool always_try;     /* E2; written under lock */
    /* under lock */
    _Atomic bool registered; /* without the lock a hint */
    _Atomic uint8_t age;     /* E5: 0 nothing to verify; 1 somebody waits; 2 and has for a whole round */
    rt_queue waiters[2];
} rt_fd;

_Static_assert(sizeof(rt_fd) == RT_CACHE_LINE, "a descriptor costs a cache line");

#define RT_POLLER_FIRST  64 /* records of the first chunk */
#define RT_POLLER_CHUNKS 26 /* enough for all of int */

typedef struct {
    _Atomic int epoll;         /* -1: there is none yet */
    int event;                 /* the eventfd by which a polling sleeper is woken; as epoll */
    rt_lock_t starting;        /* for making these, and chunks */
    rt_lock_t polling;         /* tried by those who poll without waiting; protects batch */
    rt_lock_t sweeping;        /* tried by those who make a round */
    uint32_t cursor;           /* under sweeping: the next record of the round */
    bool some;                 /* under sweeping: the round so far has left something to verify */
    _Atomic int64_t polled_at; /* when that was last; a hint */
    _Atomic int64_t round_at;  /* E5; INT64_MAX: none */
    _Atomic bool fresh;        /* E5 */
    _Atomic uint32_t end_fd;   /* all that have been registered are below */
    _Atomic(rt_fd *) chunks[RT_POLLER_CHUNKS];
    struct epoll_event *batch; /* RT_POLLER_BATCH */
} rt_poller;

#define RT_POLLER_BATCH 128

void rt_poller_init(rt_poller *p);

/* Makes the epoll instance, if there is none. 0 or a negative errno. Any thread. */
int rt_poller_start(rt_poller *p);

RT_INLINE int rt_poller_epoll(const rt_poller *p)
{
    return atomic_load_explicit(&p->epoll,
                                memory_order_acquire); /* pairs with rt_poller_start: event, batch */
}

/* Nobody polls any more and nobody waits: closes its descriptors. rt_poller_free: its memory too. */
void rt_poller_end(rt_poller *p);
void rt_poller_free(rt_poller *p);

/* In a forked child: its copies are closed, and nothing is done to what they stand for (R13). */
void rt_poller_fork_child(rt_poller *p);

RT_INLINE unsigned rt_poller_chunk(int fd)
{
    return fd < RT_POLLER_FIRST ? 0u : 26u - (unsigned)__builtin_clz((unsigned)fd);
}

/* The record of fd >= 0, if there is one. Any thread. */
RT_INLINE rt_fd *rt_poller_find(rt_poller *p, int fd)
{
    const unsigned k = rt_poller_chunk(fd);
    /* acquire: pairs with rt_poller_make */
    rt_fd *chunk = atomic_load_explicit(&p->chunks[k], memory_order_acquire);
    return RT_LIKELY(chunk != NULL) ? chunk + (k == 0 ? fd : fd - (RT_POLLER_FIRST / 2 << k)) : NULL;
}

/* The same; made if there is none. NULL: no memory. */
rt_fd *rt_poller_make(rt_poller *p, int fd);

#define RT_POLLER_LARGE 4096 /* a chunk is as large as its numbers */

/* The same for a number that the user has given. NULL: no memory; or it is large, and not open. */
rt_fd *rt_poller_make_if_open(rt_poller *p, int fd);

RT_INLINE uint32_t rt_fd_events(const rt_fd *f, int direction)
{
    /* acquire: pairs with the count of an event: what is tried after that sees what the event was about */
    return atomic_load_explicit(&f->events[direction], memory_order_acquire);
}

RT_INLINE uint32_t rt_fd_generation(const rt_fd *f)
{
    return atomic_load_explicit(&f->generation, memory_order_relaxed); /* compared under the lock */
}

/* Under the record's lock: registers it, if it is not. 0, or a negative errno; -EPERM: epoll does not take
 * such descriptors, which never have to be waited for. The poller has been started. */
int rt_poller_register(rt_poller *p, rt_fd *f, int fd);

RT_INLINE bool rt_fd_is_registered(const rt_fd *f)
{
    return atomic_load_explicit(&f->registered, memory_order_relaxed); /* under the lock, or a hint */
}

RT_INLINE uint8_t rt_fd_age(const rt_fd *f)
{
    return atomic_load_explicit(&f->age, memory_order_relaxed); /* under the lock, or a hint */
}

RT_INLINE int64_t rt_poller_round_at(const rt_poller *p)
{
    return atomic_load_explicit(&p->round_at, memory_order_relaxed); /* ordered by E5's barriers */
}

RT_COLD void rt_poller_plan_round(rt_poller *p);

/* Under the record's lock: a wait for f is being entered (E5). */
RT_INLINE void rt_poller_note(rt_poller *p, rt_fd *f)
{
    if (rt_fd_age(f) == 0)
        atomic_store_explicit(&f->age, 1, memory_order_relaxed); /* written under the lock */
    rt_membarrier_light();
    if (!atomic_load_explicit(&p->fresh, memory_order_relaxed)) /* E5: ordered by the barriers */
        atomic_store_explicit(&p->fresh, true, memory_order_relaxed);
    rt_membarrier_light();
    if (RT_UNLIKELY(rt_poller_round_at(p) == INT64_MAX))
        rt_poller_plan_round(p);
}

/* E4. forget: -ECANCELED to those that wait, and all that is known is forgotten; settle: those that wait try
 * again. Both append the waiters won to *end and return the new end. */
rt_waiter **rt_poller_forget(rt_poller *p, rt_fd *f, int fd, rt_waiter **end);
rt_waiter **rt_poller_settle(rt_fd *f, rt_waiter **end);

/* Waits for events until that time (0: does not), and notes them. Returns how many there were, the
 * interruption included; the waiters won are appended to *end. events: room for RT_POLLER_BATCH. */
int rt_poller_poll(rt_poller *p, struct epoll_event *events, int64_t until, rt_waiter ***end);

/* Makes the round that is due; the waiters won are appended as above. */
rt_waiter **rt_poller_round(rt_poller *p, int64_t now, rt_waiter **end);

#endif
