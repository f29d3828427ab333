/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The threads of a runtime. Each is bound to run routines while it holds a worker; who has none
 * waits here until the monitor gives it one, and ends when nobody has needed it for some seconds.
 *
 * All of them stand in one list until they have been joined: by the monitor, or at the runtime's end.
 */
#ifndef RT_SCHED_THREADS_H
#define RT_SCHED_THREADS_H

#include <pthread.h>

#include "../os/futex.h"
#include "block.h"

struct rt_thread;
struct rt_worker;

typedef struct {
    /* constant */
    size_t spare_most; /* so many besides one for each worker */
    void *(*main)(void *);
    /* under lock */
    RT_ALIGNED rt_lock_t lock;
    struct rt_thread *all;   /* by next */
    struct rt_thread *idle;  /* by link: they wait for a worker; the last to come is the first to go */
    struct rt_thread *ended; /* by link: to be joined */
    size_t count, idle_count;
    size_t coming; /* made, and not yet among the idle */
    uint64_t made; /* so far: for their names */
    bool stopping;
} rt_threads;

/* How long a thread waits for a worker before it ends, in ns. Tests change it. */
extern _Atomic int64_t rt_threads_patience;

/* Creates one more; with a worker, or without: then it waits for one. It begins with runtime's
 * `threads.main`. 0 or a negative errno. */
int rt_threads_add(rt_runtime *rt, struct rt_worker *w);

/* One more will soon wait for a worker, if there may be: one at a time. */
int rt_threads_more(rt_runtime *rt);

/* Waits, on its own stack, until it has been given a worker. False: it is to end. */
bool rt_threads_wait(struct rt_thread *t);

/* One that waits, taken out of their list, or NULL. Then one of: */
struct rt_thread *rt_threads_take_idle(rt_runtime *rt);
void rt_threads_give(struct rt_thread *t, struct rt_worker *w);
void rt_threads_put_idle(struct rt_thread *t);

/* Joins those that have ended. */
void rt_threads_bury(rt_runtime *rt);

/* All are to end, when they hold no worker any more; and waits for them. */
void rt_threads_stop(rt_runtime *rt);

#endif
