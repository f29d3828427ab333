/* SPDX-License-Identifier: MIT
 *
 * Floor 3. What a worker runs next: its queues and the shared one, and the order in which they are served.
 * For the scheduler's own files.
 *
 * First those that were woken: what has begun is finished before something new begins.
 * Then the own deque, the newest first: depth first, so that a tree of a million routines
 * needs few stacks. Then those that yielded, and then the shared queue. So that nobody
 * starves, every 61st pick begins elsewhere: in turns with the shared queue, with the oldest
 * entry of the own deque, and with those that yielded; and it looks at the timers. Every
 * 17th routine readied by the running one goes to the end of the queue instead of the
 * next slot (park.c).
 */
#ifndef RT_SCHED_ORDER_H
#define RT_SCHED_ORDER_H

#include "scheduler.h"

#define RT_UNUSUAL_PICK 61

/* Something to run, out of the worker's own queues and the shared one. It is claimed: nobody else will run
 * it. */
rt_block *rt_order_pick(rt_worker *w);

/* The same from one of them, or NULL. */
rt_block *rt_order_woken(rt_worker *w);
rt_block *rt_order_yielded(rt_worker *w);
rt_block *rt_order_newest(rt_worker *w);
rt_block *rt_order_oldest(rt_worker *w);
rt_block *rt_order_shared(rt_worker *w);
rt_block *rt_order_unusual(rt_worker *w);

/* The oldest entry of the own deque, if that has not had its turn for some milliseconds. Not more often: in a
 * tree of routines it is the largest part of what is left, it wants a stack, and it is what a thief is to
 * find. */
rt_block *rt_order_oldest_at_last(rt_worker *w);

/* A START entry was taken out of a deque: true if the caller won the right to start it (R1, R4); else it is
 * dropped. */
bool rt_order_claim(rt_block *r);

/* A START entry was taken out of a deque, and the routine was started before (R1). */
void rt_order_drop(rt_block *r);

/* Runnable, at the end of the worker's ready list, or the shared queue if that is closed for the moment. */
void rt_order_append(rt_worker *w, rt_block *r);

/* Runnable, for the shared queue; a worker's list was closed to it, or the caller has no worker here. */
void rt_order_share(rt_runtime *rt, rt_block *r, bool readied);

uint64_t rt_order_shared_size(const rt_runtime *rt);

/* Under the lock of rt: the block of a timer whose time has come is a routine from now on. */
void rt_order_begin_timer(rt_runtime *rt, rt_block *r);

/* The timers of worker v that have passed, by the clock of now, to w's ready list. False: there was none. */
bool rt_order_timers(rt_worker *w, rt_worker *v, int64_t now);

/* A look at the clock, if any timer is set or the poller is in use: at the worker's own ones, and at those of
 * others that are overdue, since a worker that is busy in one routine does not look at its own; and at what
 * has happened to descriptors. */
RT_COLD void rt_order_look_at_timers(rt_worker *w);

/* At each pick: is it time for such a look? */
RT_INLINE bool rt_order_look_is_due(rt_worker *w)
{
    return RT_UNLIKELY(rt_timers_are_watched(&w->timers)) && --w->until_look == 0;
}

/* Work for a worker that has none; it sleeps until there is. NULL: the runtime stops. search.c */
rt_block *rt_search_work(rt_worker *w);

/* One look at every other worker, beginning anywhere. *lone: one had a lone item, which was not taken.
 * search.c */
rt_block *rt_search_steal(rt_worker *w, bool *lone);

/* The worker has something to run from now on (monitor.h, H8). search.c */
void rt_search_is_busy(rt_worker *w);

/* If somebody waits for the end of all routines, and this is it, says so. Behind a heavy barrier. search.c */
void rt_search_check_drained(rt_runtime *rt);

/* Has it work, but so little that it will most likely do it itself before anybody else could: one item, or a
 * few routines that are ready to go on? A hint. */
#define RT_FEW_READY 16
RT_INLINE bool rt_order_has_little(const rt_worker *w)
{
    const uint64_t entries = (uint64_t)rt_deque_size(&w->deque), ready = rt_ready_size(&w->ready);
    return entries == 0 ? ready != 0 && ready <= RT_FEW_READY : entries + ready == 1;
}

/* Gives the pool all but `keep` of the worker's warm stacks. scheduler.c */
void rt_stacks_flush(rt_worker *w, uint32_t keep);

#endif
