/* SPDX-License-Identifier: MIT
 *
 * Floor 3. Threads for code that blocks: routines give them jobs, and wait.
 *
 * A runtime has one pool with a few classes, which share nothing, so that none takes the threads of another.
 * There is no thread before the first job. By steps:
 *
 *  P1 A job is a record of its caller's. It enters its class's queue, and the caller sees to a thread
 *     for it: one that is idle, the newest first, or a new one, while there are fewer than the limit.
 *     Threads take the oldest job of the queue, whoever it was that they were called for, and are
 *     idle only while there is none. So what stays in the queue has all threads of its class before
 *     it, and at least one.
 *  P2 The caller looks at the job's state, and waits, under the lock of the class, which is left when
 *     its routine is saved. The thread sets the state, and wins the wait, under that lock; from then
 *     on the job is the caller's again. So it does not matter who is faster.
 *  P3 A cancellation, or the limit of time, ends the wait. A job that is still in the queue is taken
 *     out. One that has begun uses what its caller owns, and is waited for, deaf; unless it has
 *     `abandoned`: then it owns what it uses, the caller goes, and that is called for it in the end.
 *  P4 Without memory for a thread, and with no other in the class, nobody would come for what is in
 *     the queue: all of it is RETURNED, and each caller does it itself.
 *  P5 All threads of a class may wait for somebody who waits for a thread. If there is a queue, and
 *     nothing of its class has begun or ended for a while, rt_pool_look makes one thread more, up to
 *     some times the limit. What is above the limit ends when the queue is empty.
 *  P6 A thread that has had no job for some seconds ends. An idle one of its class is called to join
 *     it. The last one has nobody for that; the kernel's number of it is noted, and the end of the
 *     runtime waits until that is gone.
 *  P7 The end of the runtime comes when nothing is alive in it, so nothing waits here. Only abandoned
 *     jobs may still run: they are waited for as routines are (rt_pool_is_quiet).
 */
#ifndef RT_SCHED_POOL_H
#define RT_SCHED_POOL_H

#include <pthread.h>

#include "../os/futex.h"
#include "wait.h"

enum { RT_POOL_USER, RT_POOL_FILES, RT_POOL_NAMES, RT_POOL_CLASSES };

enum { RT_JOB_QUEUED, RT_JOB_RUNNING, RT_JOB_DONE, RT_JOB_RETURNED };

typedef struct rt_job {
    /* the caller's */
    int (*fn)(void *);
    void *arg;
    void (*abandoned)(void *arg); /* or null: P3 */
    int result;                   /* fn's */
    /* under the lock of the class */
    struct rt_job *next, *prev;
    uint8_t state;
    bool waiting; /* the caller is, by: */
    bool left;    /* it has gone */
    rt_waiter waiter;
} rt_job;

typedef struct rt_pool_thread {
    struct rt_pool_thread *next; /* idle, or gone: under the lock */
    struct rt_pool_class *of;
    pthread_t id;
    _Atomic uint32_t called; /* a futex: 0 while it is idle */
    _Atomic uint32_t made;   /* a futex: 1 when who has created it is done with that */
} rt_pool_thread;

typedef struct rt_pool_class {
    RT_ALIGNED rt_lock_t lock;
    rt_runtime *runtime;
    uint32_t limit; /* constant */
    /* under lock */
    rt_job *head, *tail;
    rt_pool_thread *idle; /* the newest first */
    rt_pool_thread *gone; /* to be joined */
    int32_t last;         /* number of the last one that nobody joins; 0: none */
    uint32_t starting;    /* of the threads: have not begun, and may not come to */
    uint32_t coming;      /* of the threads: were idle, and have been called */
    int64_t moved_at;     /* while there is a queue: when a job last began or ended, or the queue began */
    uint64_t jobs;        /* begun so far */
    bool stopping;
    /* written under lock, read by anybody: hints, and a futex */
    _Atomic uint32_t threads;
    _Atomic uint32_t queued;
} rt_pool_class;

typedef struct {
    rt_pool_class classes[RT_POOL_CLASSES];
    _Atomic uint32_t abandoned; /* jobs that run for nobody */
} rt_pool;

/* How long a thread waits for a job before it ends, in ns. Tests change it. */
extern _Atomic int64_t rt_pool_patience;

/* users: the limit of that class; 0: the usual one. */
void rt_pool_init(rt_pool *pool, rt_runtime *rt, size_t users);

/* Ends and joins all threads. Nothing is alive, and the pool is quiet. */
void rt_pool_stop(rt_pool *pool);

/* In a forked child: its pools are forgotten. */
void rt_pool_fork_child(void);

/*
 * Has the pool run job->fn(job->arg), and waits. From a plain thread, it is just called. Outside when called
 * (scheduler.h): fn may run here. Returns 0: it has run, and job->result is there; or -ECANCELED, -ETIMEDOUT:
 * the caller is not to wait any more. Then fn was not run and will not be; or, if the job has `abandoned`,
 * may run, or be about to, and the job is not the caller's any more: abandoned(arg) was or will be called,
 * once.
 */
int rt_pool_do(int class, rt_job *job);

/* The same for a job that uses what the caller owns: fn's result, or -ECANCELED, -ETIMEDOUT. */
int rt_pool_run(int class, int (*fn)(void *), void *arg);

/* Does anybody queue? A hint, at the price of three loads. */
RT_INLINE bool rt_pool_has_queue(const rt_pool *pool)
{
    /* relaxed: a hint; who relies on it makes a barrier before (P5) */
    return (atomic_load_explicit(&pool->classes[RT_POOL_USER].queued, memory_order_relaxed) |
            atomic_load_explicit(&pool->classes[RT_POOL_FILES].queued, memory_order_relaxed) |
            atomic_load_explicit(&pool->classes[RT_POOL_NAMES].queued, memory_order_relaxed)) != 0;
}

/* P5, for the monitor, every few milliseconds while there is a queue. Any thread. Returns whether there still
 * is one. */
bool rt_pool_look(rt_pool *pool, int64_t now);

/* No abandoned job is running. */
RT_INLINE bool rt_pool_is_quiet(const rt_pool *pool)
{
    return atomic_load_explicit(&pool->abandoned, memory_order_acquire) == 0; /* pairs with its end */
}

/* How many threads it has. */
size_t rt_pool_threads(const rt_pool *pool);

#endif
