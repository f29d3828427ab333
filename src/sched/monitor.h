/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The monitor: a thread of each runtime that sees to it that no routine stops the others, by taking
 * the worker away from a thread that stays in one routine, be it in a loop or in a blocking call, while
 * others wait (R6 to R8). After Go's sysmon and the handoff of its Ps; the thread goes on with its routine
 * meanwhile. By steps:
 *
 *  H1 A thread is *inside* while it executes the library's code, from rt_enter to rt_leave
 *     (scheduler.h), and whenever it is on its own stack. Only inside does it read or use its
 *     worker. Its fields `worker` and `seat` are written by itself alone, but for a thread that has
 *     none and waits for one (threads.h).
 *  H2 rt_enter stores inside, light barrier, and reads `asked`. The monitor stores TAKING to asked,
 *     heavy barrier, and reads inside. By the barriers at least one sees the other (membarrier.h).
 *  H3 If the monitor finds it outside it says TAKEN, by compare-and-swap from TAKING, and the
 *     worker is its own: whatever the thread did with it came before the release store of rt_leave.
 *     The thread finds TAKEN, or TAKING, at its next rt_enter.
 *  H4 A thread that enters and finds TAKING gives up its worker, before it has used it: by
 *     compare-and-swap from TAKING too, so only one of the two can say so. If it was the monitor,
 *     it has lost its worker by H3.
 *  H5 If the monitor finds it inside it waits a little for H4, and then withdraws, by
 *     compare-and-swap from TAKING. So one that is about to park, which is where most come to, is
 *     left alone.
 *  H6 A thread without a worker executes all that does not block as a plain thread does: by the
 *     locks, and through the shared queue. It may stand inside some C library that holds a lock, so
 *     it neither waits for a worker nor moves. When its routine parks, yields, or ends, it switches
 *     to its own stack, where that is made known (a commit), and waits for a worker as any other
 *     spare thread. So coming back needs no worker.
 *  H7 It is asked for only when its routine has had it for TAKE, others could run meanwhile, and
 *     the thread has used the CPU for most of the time, or waits in the kernel: if it is only short
 *     of CPU (a throttled cgroup, a stopped process, too many threads), another thread would be no
 *     better off. The more threads go on computing without a worker, the longer it has to have
 *     computed. After a rest that was too long all begins anew.
 *  H8 It sleeps without limit when no worker has had anything to do for a while, and nobody queues in
 *     the pool (pool.h, P5). It sets `asleep`, heavy barrier, and looks at all workers' `busy`, and at
 *     the queues; a worker that has found work sets busy, light barrier, reads asleep, and so does
 *     who enters such a queue.
 *
 * Where there is no membarrier no worker is taken: entering would cost a full barrier each time (R7).
 */
#ifndef RT_SCHED_MONITOR_H
#define RT_SCHED_MONITOR_H

#include <pthread.h>

#include "../os/futex.h"
#include "block.h"

struct rt_thread;

/* rt_thread.asked */
enum {
    RT_ASKED_NOT,
    RT_ASKED_TAKING,
    RT_ASKED_TAKING_NOTES, /* TAKEN in a moment */
    RT_ASKED_TAKEN,
    RT_ASKED_GIVING, /* GIVEN in a moment */
    RT_ASKED_GIVEN
};

/* A routine that kept its worker to itself. */
typedef struct {
    char where[RT_NAME_MAX];
    char name[RT_NAME_MAX];
} rt_offence;

/* Those that were started at one place. */
typedef struct {
    rt_offence what; /* the last one; empty: free */
    uint64_t count;
    int64_t longest, total;
    uint32_t now; /* so many are at it */
} rt_offender;

#define RT_OFFENDERS 16

typedef struct {
    pthread_t id;
    bool runs;           /* constant once the runtime is there */
    _Atomic bool asleep; /* H8 */
    _Atomic bool ends;
    _Atomic uint32_t rung;         /* a futex: rises with each wake-up */
    rt_counter handovers, refused; /* the monitor's */
    /* under lock */
    RT_ALIGNED rt_lock_t lock;
    rt_offender offenders[RT_OFFENDERS];
} rt_monitor;

/* What it takes for a millisecond, in ns: tests make it shorter, or so long that nothing is ever taken. */
extern _Atomic int64_t rt_monitor_pace;

/* Starts the monitor of a runtime that has threads; without memory for it there is none. */
void rt_monitor_start(rt_runtime *rt);
void rt_monitor_stop(rt_runtime *rt);

RT_COLD void rt_monitor_wake(rt_runtime *rt);

/* A thread whose worker was taken is back in the library. */
RT_COLD void rt_monitor_came_back(struct rt_thread *t);

#endif
