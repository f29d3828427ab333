/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The three things that a schedule is made of.
 *
 * A *worker* is the right to run routines: queues, free lists, counters. A
 * *thread* is a pthread; it runs routines while it holds a worker, and there may be more
 * threads than workers. So what belongs to a run (the current routine, the thread's own
 * stack) stands in the thread, what belongs to the right stands in the worker, and
 * code fetches thread and worker anew after anything that can switch.
 *
 * A *runtime* is a set of workers with a shared queue for what comes from outside.
 */
#ifndef RT_SCHED_WORKER_H
#define RT_SCHED_WORKER_H

#include <pthread.h>
#include <signal.h>

#include "../context/sanitize.h"
#include "../context/self.h"
#include "bias.h"
#include "block.h"
#include "deque.h"
#include "idle.h"
#include "monitor.h"
#include "poller.h"
#include "pool.h"
#include "ready.h"
#include "stack.h"
#include "threads.h"
#include "timers.h"

/* Counters: each written by one worker (those of the runtime itself: under the lock of the
 * shared queue), read by anybody. */
typedef struct {
    /* started and completed: by the scheduler; those run in place are counted for themselves */
    rt_counter spawned, started, completed, cancelled, in_place, in_place_ended, switches, yields, parks,
        readies, steals_tried, steals_won, sleeps, wakeups, spills, stacks_bound, stacks_left;
} rt_counts;

typedef struct rt_worker {
    /* owner only: the thread that holds the worker */
    rt_block *free; /* control blocks, by link */
    uint32_t free_count;
    uint32_t tick; /* picks so far: now and then the order of the queues changes (order.c) */
    uint64_t next_id, end_id;
    uint64_t attr;        /* the default rt_attr */
    uint32_t dead;        /* at most so many of the deque's entries are tombstones of ours (R2) */
    uint32_t next_run;    /* routines taken from the next slot in a row */
    uint32_t poor;        /* thefts in a row that were not worth it, and could not have been larger */
    uint16_t grab;        /* the next one's size: 2^grab at most */
    bool could_grab;      /* the last one would have been larger, had that been */
    uint32_t until_look;  /* picks until the next look at the timers, while one is set; at least 1 */
    uint32_t looks;       /* and from the last one */
    int64_t looked_at;    /* when that was */
    uint64_t breathe_at;  /* at so many in-place runs rt_breathe is due (R8) */
    uint64_t breaths;     /* and so many lay between the last two */
    int64_t breathed_at;  /* when that was */
    int64_t oldest_at;    /* when the oldest entry of the deque had its turn */
    int64_t stolen_at;    /* when the last theft was, if nothing has ended since; 0: none */
    uint64_t stolen_then; /* how many this worker had spawned by then */
    uint32_t stack_count;
    rt_stack *stacks;    /* warm ones, by link */
    rt_block *free_more; /* a full batch beside the free list, or null */
    uint64_t random;
    rt_runtime *runtime;
    size_t index;
    int cpu;           /* its threads may run there only; negative: anywhere */
    rt_seat *seat;     /* bias.h */
    _Atomic bool busy; /* not looking for work; read by anybody */
    rt_deque deque;
    rt_ready ready;
    RT_ALIGNED rt_counts counts;
    rt_counter fd_waits, fd_waits_over; /* for descriptors, that began and ended here (fdwait.h) */
    /* shared */
    RT_ALIGNED rt_sleeper sleeper;
    RT_ALIGNED rt_timers timers;
    /* the monitor's (monitor.h) */
    struct rt_thread *holder;
    uint64_t seen;      /* its progress, */
    int64_t seen_since; /* and since when it has been that; 0: it was at rest */
    int64_t cpu_since;  /* the CPU time of its thread then, */
    int64_t cpu_seen;   /* and at the last look */
} rt_worker;

typedef struct rt_thread {
    rt_worker *worker;       /* null: it may not run routines; a plain thread never may */
    rt_seat *seat;           /* the worker's; rt_no_seat without a worker */
    _Atomic uint32_t inside; /* it is in the library's code, and not in its user's: monitor.h, H1 */
    _Atomic uint32_t asked;  /* RT_ASKED_…: its worker is wanted: H2 */
    rt_block *current;       /* the routine that it runs; a plain thread's stand-in */
    rt_stack *stack;         /* what it stands on: a routine's or its own */
    rt_block *stackless;     /* it was to run next, but there was no memory for its stack */
    rt_stack own;            /* its own stack, on which it looks for work */
    void *sp;                /* of its own stack, while it runs a routine */
    rt_runtime *runtime;     /* null: a plain thread */
    pthread_t id;
    bool forked; /* in a child forked from within a routine: it stands on that routine's stack */
    /* threads.h */
    _Atomic int32_t tid;     /* the kernel's number; set before its worker can be taken */
    _Atomic uint32_t permit; /* a futex: 1 when it has been given a worker, or is to end */
    /* under the lock of its runtime's threads */
    struct rt_thread *link; /* among those that wait for a worker, or have ended */
    struct rt_thread *next; /* among all */
    bool fresh;             /* made as a spare, and not yet among them */
    /* monitor.h */
    _Atomic bool stuck; /* its worker was taken from it, and it has not come back */
    int64_t stuck_since;
    int64_t cpu_seen;
    rt_offence offence; /* what it was stuck in */
} rt_thread;

struct routine_runtime {
    /* constant once it runs */
    rt_worker *workers;
    size_t worker_count;
    size_t stack_promised;
    void (*entry)(void *);         /* what runs first on a routine's stack */
    void (*fail)(rt_block *, int); /* ends a routine that never ran, with this status */
    uint64_t control;              /* the floating-point control words that routines begin with */
    sigset_t signals;              /* the mask of the thread that made it, for forked children */
    char name[12];
    _Atomic uint32_t gate; /* the threads wait here until it is known how many there are (runtime.c) */
    rt_stack_pool stacks;
    rt_idle idle;
    rt_threads threads;
    rt_monitor monitor;
    rt_pool pool;
    rt_poller poller;
    _Atomic uint64_t fd_waits, fd_waits_over; /* as the workers', of threads that had none then */
    /* the shared queue: what comes from outside, and spills */
    RT_ALIGNED rt_lock_t lock;
    /* under lock */
    rt_block *head;
    rt_block *tail;
    bool closed;      /* no routine can be started any more */
    rt_counts counts; /* what threads without a worker did */
    bool holding;     /* timers that fire are not to start anything: it is being shut down */
    rt_block *held;   /* those that have fired meanwhile, by link */
    /* written under lock, read as a hint */
    _Atomic uint64_t count;
    /* shutdown: check_drained (search.c) and runtime.c */
    _Atomic uint32_t draining; /* a futex: 0; 1 somebody waits for the end of all routines; 2 it has come */
    _Atomic bool stopping;     /* the threads are to end */
    _Atomic bool cancelling;   /* every routine is asked to stop */
    _Atomic uint32_t state;    /* RT_RUNTIME_… */
    rt_runtime *next;          /* among all runtimes, under the lock of runtime.c */
    _Atomic uint32_t refs;     /* its user's, and those of timers: the memory stays so long */
};

/* runtime.c */
void rt_runtime_each(void (*visit)(rt_runtime *, void *), void *arg); /* none can go away meanwhile */
void rt_runtime_ref(rt_runtime *rt);
void rt_runtime_unref(rt_runtime *rt);

/* The worker's free list. */
RT_COLD rt_block *rt_free_refill(rt_worker *w);
RT_COLD void rt_free_flush(rt_worker *w);

/* NULL: no memory. */
RT_INLINE rt_block *rt_free_get(rt_worker *w)
{
    rt_block *r = w->free;
    if (RT_UNLIKELY(!r))
        return rt_free_refill(w);
    w->free = r->link;
    w->free_count--;
    return r;
}

/* Takes a blank block of this runtime. */
RT_INLINE void rt_free_put(rt_worker *w, rt_block *r)
{
    /* before, not after: else a get and a put at the border would move a batch each time */
    if (RT_UNLIKELY(w->free_count == RT_BLOCK_BATCH))
        rt_free_flush(w);
    r->link = w->free;
    w->free = r;
    w->free_count++;
}

/* A block from the caller's free list, or from the pool. NULL: no memory. */
rt_block *rt_free_get_any(void);

/* Blanks any block that nobody uses any more, and puts it on the caller's free list, or into the pool. */
void rt_free_any(rt_block *r);

/* The routine's runtime. relaxed: see rt_block. Of a stale handle's block, which may hold a closure or a name
 * by now, it is anything; who asks finds out by the word (R3). */
RT_UNWATCHED rt_runtime *rt_block_runtime(rt_block *r)
{
    return atomic_load_explicit(&r->runtime, memory_order_relaxed);
}

#endif
