/* SPDX-License-Identifier: MIT
 *
 * Floor 3. How idle workers rest, and how work wakes them: nothing is ever lost
 * (design, invariant 3; R12), an idle process uses no CPU, and a push costs one load.
 *
 * A worker without work is *searching* (it looks through all queues), *napping* (it declined
 * the only item of a busy worker, which that will probably take back itself, and looks again
 * in a moment) or *sleeping* on a futex without a limit. `state` counts the three; it changes
 * under the lock only and is read without. After Go's proc.go and Vyukov's eventcount; by steps:
 *
 *  I1 Whoever makes work visible does, in this order: publish it; light barrier; read state. If
 *     nobody searches and somebody sleeps, it wakes one. If somebody naps, it does that only when
 *     it left more than one item; a lone one is the napper's to see, in time.
 *  I2 Waking counts the woken worker as searching, under the lock: so at most one wake-up is under
 *     way, however many push.
 *  I3 A worker that finds nothing declares itself sleeping and no longer searching, in one step,
 *     heavy barrier, and then looks at every queue once more. If there is anything it withdraws,
 *     and searches again.
 *  I4 By the barriers, of a push and a worker going to sleep at least one sees the other: the push
 *     finds it in state, or I3's last look finds the work. A push that left it to a searcher (I1)
 *     read a state from before that searcher's I3, so the searcher's last look comes after the
 *     push. A push that left it to a napper likewise: a napper only ever goes back to searching.
 *  I5 A searcher that finds work stops searching before it runs it; the last one to stop wakes
 *     another, who finds what pushes left to the first.
 *  I6 Timers. A worker that is about to sleep looks, in its last look (I3), for the earliest time,
 *     and if no sleeper will be awake by then (`cover`), sleeps no longer than that. Whoever adds a
 *     timer does: publish it, light barrier, read cover; if that is later, it wakes a sleeper, who
 *     looks again. As in I4 one sees the other. A cover ends with its sleeper's rest; if that one
 *     finds work, it wakes another (I5), who covers then: while anybody sleeps, and nobody
 *     searches, some sleeper will be awake when the next timer passes. (A searcher that rests, and
 *     a napper, look again within 160 microseconds: so late a timer can be that was set meanwhile.)
 *
 *  I7 Descriptors. A worker that is about to sleep looks, in its last look, whether anybody waits for a
 *     descriptor, and if no sleeper is the *poller*, becomes it: it rests in epoll_wait(2), no longer than
 *     its cover says. So an event is seen at once while there is a poller; a last look at the events
 *     is not needed, since epoll_wait(2) does that itself. It ceases to be the poller when it has come back
 *     from there and is off the list; if a waker took it off it is a searcher from that moment on (I2), and
 *     will look again as any other. Whoever begins a wait does: count it; light barrier; read `polling`;
 *     if there is no poller, it wakes a sleeper as in I1, who looks again. As in I4 one sees the other. If
 *     the poller finds work, and is the last searcher, it wakes another (I5), who becomes the poller: while
 *     anybody sleeps, nobody searches, and somebody waits, there is a poller. If nobody sleeps, the
 *     workers look at the events in passing, as at their timers (order.c), and the monitor does if all are
 *     busy with something long.
 *     Wakers take others before the poller, since it is of use where it is, and wake it by an eventfd,
 *     which stays readable until it has come back, whoever else looks at the events meanwhile; only then can
 *     there be another poller. And the waker's last touch of the eventfd must not come after its end: so
 *     the permit is given after the event, and the poller waits for the permit.
 *
 * A resting worker's own word is a permit: 0, or 1 once somebody woke it; a waker takes it off the
 * list first, so it is woken once.
 */
#ifndef RT_SCHED_IDLE_H
#define RT_SCHED_IDLE_H

#include "../os/futex.h"
#include "../os/membarrier.h"

typedef struct rt_sleeper {
    _Atomic uint32_t permit;
    /* under the lock */
    uint64_t kind;                   /* RT_IDLE_NAPPING or RT_IDLE_SLEEPING, while on the list */
    struct rt_sleeper *next, **link; /* link null: not on the list */
    bool polls;                      /* it has become the poller since it is on the list (I7) */
} rt_sleeper;

typedef struct {
    RT_ALIGNED _Atomic uint64_t state;
    rt_lock_t lock;
    rt_sleeper *sleepers;  /* under lock: the last to rest is the first to be woken, its caches are warm */
    rt_sleeper *keeper;    /* under lock: the sleeper that gives the cover; null: none */
    _Atomic int64_t cover; /* I6: when it will be awake; INT64_MAX: none. Written under lock */
    rt_sleeper *poller;    /* under lock: I7; null: none */
    _Atomic bool polling;  /* there is one. Written under lock */
    _Atomic int interrupt; /* the eventfd that wakes it */
} rt_idle;

/* Units and fields of state. */
#define RT_IDLE_SEARCHING    UINT64_C(1)
#define RT_IDLE_NAPPING      (UINT64_C(1) << 16)
#define RT_IDLE_SLEEPING     (UINT64_C(1) << 32)
#define RT_IDLE_SEARCHERS(s) ((s)&0xffff)
#define RT_IDLE_NAPPERS(s)   ((s) >> 16 & 0xffff)
#define RT_IDLE_SLEEPERS(s)  ((s) >> 32 & 0x3fffffff)

/* Set for good where light barriers are not free (membarrier.h): a push then goes the long way, where the
 * barrier is. So the short way needs no test for that. */
#define RT_IDLE_FENCE (UINT64_C(1) << 63)

/* Likewise while a push has something else to look at (runtime.c: a shutdown that cancels). */
#define RT_IDLE_LOOK (UINT64_C(1) << 62)
void rt_idle_look(rt_idle *idle, bool on);

void rt_idle_init(rt_idle *idle);

/* I1, for whoever made work visible: false if certainly nobody has to be woken. Any thread. */
RT_INLINE bool rt_idle_anybody(const rt_idle *idle)
{
    atomic_signal_fence(memory_order_seq_cst); /* the light barrier, or RT_IDLE_FENCE is set */
    return atomic_load_explicit(&idle->state, memory_order_relaxed) != 0; /* ordered by the barrier */
}

/* Does any worker search or rest? A hint. */
RT_INLINE bool rt_idle_rests(const rt_idle *idle)
{
    return (atomic_load_explicit(&idle->state, memory_order_relaxed) & ~(RT_IDLE_FENCE | RT_IDLE_LOOK)) != 0;
}

/* I1 after rt_idle_anybody. lone: only one item is there. */
void rt_idle_wake(rt_idle *idle, bool lone);

/* A worker begins to search. */
void rt_idle_search(rt_idle *idle);

/* It found something (I5). */
void rt_idle_found(rt_idle *idle);

/* It rests for at most ns, or until woken; searching before and after. Returns true if it was woken. */
bool rt_idle_nap(rt_idle *idle, rt_sleeper *me, int64_t ns);

/* It found nothing (I3, the first half): the caller looks once more after this. */
void rt_idle_announce(rt_idle *idle, rt_sleeper *me);

/* I3, the last look found something, or a rest as the poller is over: the caller is searching again. True: it
 * was woken. */
bool rt_idle_withdraw(rt_idle *idle, rt_sleeper *me);

/* I6: who has announced, and has seen `next` as the earliest time, will sleep until what is returned. */
int64_t rt_idle_cover(rt_idle *idle, rt_sleeper *me, int64_t next);

/* Sleeps until woken, or until that time; the caller is searching then. */
void rt_idle_sleep(rt_idle *idle, rt_sleeper *me, int64_t until);

/* I6: a timer was set to this time. */
void rt_idle_alarm(rt_idle *idle, int64_t when);

/* I7: by what a poller is woken. Before the first wait. */
void rt_idle_set_interrupt(rt_idle *idle, int event);

/* I7: who has announced, and knows that somebody waits for a descriptor: true: it is the poller, and waits
 * for events instead of rt_idle_sleep, and then withdraws. */
bool rt_idle_become_poller(rt_idle *idle, rt_sleeper *me);

/* I7: the same for a nap, which begins with this if it is true. */
bool rt_idle_nap_polling(rt_idle *idle, rt_sleeper *me);

/* Does a sleeper poll? A hint. */
RT_INLINE bool rt_idle_is_polling(const rt_idle *idle)
{
    return atomic_load_explicit(&idle->polling, memory_order_relaxed);
}

RT_COLD void rt_idle_call_poller(rt_idle *idle);

/* I7: a wait for a descriptor was counted. */
RT_INLINE void rt_idle_watch(rt_idle *idle)
{
    rt_membarrier_light();
    /* relaxed: ordered by the barrier */
    if (!rt_idle_is_polling(idle) &&
        RT_IDLE_SLEEPERS(atomic_load_explicit(&idle->state, memory_order_relaxed)) != 0)
        rt_idle_call_poller(idle);
}

/* Wakes everybody: shutdown. */
void rt_idle_wake_all(rt_idle *idle);

#endif
