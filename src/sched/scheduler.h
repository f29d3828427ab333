/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The scheduler: which routine runs next, and where. All that blocks is
 * written on rt_park and rt_ready alone.
 *
 * Protocols cited by number: block.h (the word), deque.h (D), ready.h (L), idle.h (I),
 * and the rules R of docs/design.md.
 */
#ifndef RT_SCHED_SCHEDULER_H
#define RT_SCHED_SCHEDULER_H

#include <errno.h>

#include "frame.h"
#include "wait.h"
#include "worker.h"

/* 1: threads do not mark that they are inside, and keep their workers. For the benchmark that shows what the
 * marks cost (bench/unmarked.c). */
#ifndef RT_UNMARKED
#define RT_UNMARKED 0
#endif

/* What rt_enter_mark has said. */
RT_COLD void rt_enter_slow(rt_thread *t, uint32_t said);
#define RT_ENTERED_TWICE 0x100u

/* The first half of rt_enter, for those who want the second to be a tail call. 0: there is none. */
RT_INLINE uint32_t rt_enter_mark(rt_thread *t)
{
    if (RT_UNMARKED)
        return 0;
    const uint32_t was = atomic_load_explicit(&t->inside, memory_order_relaxed); /* own */
    atomic_store_explicit(&t->inside, RT_ENTERED_TWICE, memory_order_relaxed);   /* H2 */
    /* only where there are free light barriers is anything taken: so this is one */
    atomic_signal_fence(memory_order_seq_cst);
    return was | atomic_load_explicit(&t->asked, memory_order_relaxed); /* H2 */
}

/*
 * The calling thread enters the library's code: from here to rt_leave nobody takes its worker away
 * (monitor.h). Whatever looks at t->worker or t->seat, parks, makes ready, or enters an rt_bias, is done
 * inside. Not nested: what the user calls too is not called by the library from inside. Around callbacks of
 * the user, and system calls that may block, it leaves and enters again; its worker may be gone then.
 */
RT_INLINE void rt_enter_as(rt_thread *t) /* t: the calling thread */
{
    const uint32_t said = rt_enter_mark(t);
    if (RT_UNLIKELY(said != 0))
        rt_enter_slow(t, said);
}

RT_INLINE rt_thread *rt_enter(void)
{
    rt_thread *t = rt_self();
    rt_enter_as(t);
    return t;
}

/* t is the calling thread. */
RT_INLINE void rt_leave_as(rt_thread *t)
{
    if (!RT_UNMARKED)
        atomic_store_explicit(&t->inside, 0, memory_order_release); /* H3 */
}

/* The thread may be another one than that which has entered. */
RT_INLINE void rt_leave(void)
{
    rt_leave_as(rt_self());
}

/* For what is called from inside and from outside, and seldom. False: it was inside. */
RT_INLINE bool rt_enter_if(void)
{
    const bool outside = atomic_load_explicit(&rt_self()->inside, memory_order_relaxed) == 0; /* own */
    if (outside)
        (void)rt_enter();
    return outside;
}

RT_INLINE void rt_leave_if(bool entered)
{
    if (entered)
        rt_leave();
}

/* Does the thread run a routine? (It may do so without a worker.) */
RT_INLINE bool rt_is_routine(const rt_thread *t)
{
    return t->current && !(t->current->attr.flags & RT_FLAG_THREAD);
}

/* The runtime of the routine that it runs, or null. */
RT_INLINE rt_runtime *rt_runtime_of(const rt_thread *t)
{
    return rt_is_routine(t) ? t->runtime : NULL;
}

/* One more of a counter of the worker, or, without one, of the runtime. */
#define RT_COUNT(t, field)                                                                                   \
    do {                                                                                                     \
        if (RT_LIKELY((t)->worker != NULL)) {                                                                \
            rt_counter_add_release(&(t)->worker->counts.field, 1);                                           \
        } else {                                                                                             \
            rt_lock_acquire(&(t)->runtime->lock);                                                            \
            rt_counter_add_release(&(t)->runtime->counts.field, 1);                                          \
            rt_lock_release(&(t)->runtime->lock);                                                            \
        }                                                                                                    \
    } while (0)

/*
 * Runs on the other side of a park, when the routine `r` is saved: here it is published
 * (enqueued as a waiter, a lock released). False: it is not to wait after all, and is made runnable again.
 * Must not park itself. On the parked stack `arg` is still good until r has been published.
 */
typedef bool rt_commit_fn(rt_block *r, void *arg);

/*
 * Stops the calling routine, or plain thread, until rt_ready_block, and nothing else. A routine may be on
 * another thread afterwards.
 */
void rt_park(rt_commit_fn *fn, void *arg);

/* Parks, and leaves the section on the other side (bias.h), where its wait, without a limit of time, is
 * opened (wait.h): the caller has entered a queue of its object; shared: several. */
void rt_park_inside(rt_bias *bias, rt_seat *how, bool shared);

/*
 * A shared wait (wait.h): parks until it is won by a waker, the deadline or the limit in force has come, or,
 * unless deaf or shielded, the routine is cancelled. fn returns false if there is nothing to wait for, and
 * nothing has been published. Returns 0: a waker has won it, or fn has returned false; RT_TIME_HAS_COME:
 * `deadline` has; -ETIMEDOUT: the limit; -ECANCELED.
 */
#define RT_TIME_HAS_COME 1
int rt_wait(rt_commit_fn *fn, void *arg, int64_t deadline, bool deaf);

int rt_wait_inside_limited(rt_bias *bias, rt_seat *how, rt_waiter *w);

/*
 * Waits inside a section in whose object's one queue w has been entered, with result PENDING; leaves it
 * meanwhile. Returns 0: a waker has set the result; -ECANCELED, -ETIMEDOUT: it has given up, and is to take w
 * out of the queue, if it is still there (rt_give_up).
 */
RT_INLINE int rt_wait_inside(rt_bias *bias, rt_seat *how, rt_waiter *w)
{
    if (RT_UNLIKELY(w->who->attr.flags & RT_FLAG_LIMIT))
        return rt_wait_inside_limited(bias, how, w);
    rt_park_inside(bias, how, false);
    return RT_LIKELY(w->result != RT_PENDING) ? 0 : -ECANCELED;
}

/* After that: takes it out. The object is only touched if w is still in its queue, which keeps it there. */
RT_COLD void rt_give_up(rt_bias *bias, rt_queue *queue, rt_waiter *w);

/* The same under an ordinary lock. deaf: nothing but a waker ends it. w has to be taken out by the caller,
 * when it has the lock again. */
int rt_wait_locked(rt_lock_t *lock, rt_waiter *w, bool deaf);

/* Has the worker anything to run, as far as one can see? */
RT_INLINE bool rt_order_has_any(const rt_worker *w)
{
    return rt_deque_size(&w->deque) > 0 || rt_ready_size(&w->ready) > 0;
}

/* Parks until that time; INT64_MAX: for ever. 0, -ECANCELED, -ETIMEDOUT. */
int rt_sleep_until(int64_t deadline);

/* The same for so many nanoseconds, or up to a 256th more, to wake together with others. */
int rt_sleep(int64_t length);

/* Makes a parked routine runnable, or wakes a parked plain thread. Exactly once for each park. Any thread. */
void rt_ready_block(rt_block *r);

/* The same, for callers that may be outside. */
RT_COLD void rt_ready_outside(rt_block *r);

/* The same as rt_ready_block, of a routine, by the worker w that the caller is. */
void rt_ready_local(rt_worker *w, rt_block *r);

/* All of a list that rt_queue_take_all has made. */
void rt_ready_all(rt_waiter *list);

/* Work was made visible on the worker's own queues (I1). */
RT_COLD void rt_notify_slow(rt_worker *w);

RT_INLINE void rt_notify(rt_worker *w)
{
    if (RT_UNLIKELY(rt_idle_anybody(&w->runtime->idle)))
        rt_notify_slow(w);
}

/* Lets others run; of a plain thread, other threads. It is inside, and leaves. */
void rt_yield_and_leave(rt_thread *t);

/* Now and then, from a routine that only starts and joins: lets those run that are ready, and looks at the
 * shared queue (R8). */
RT_COLD void rt_breathe(void);

/* A routine that has never run, to the shared queue of its runtime. Its word says STARTED: nobody else may
 * start it. -ECANCELED: the runtime is closed. */
int rt_inject(rt_runtime *rt, rt_block *r);

/* After a push on the worker's deque failed for lack of memory: a routine whose word says UNSTARTED and no
 * ENTRY goes to the shared queue. */
RT_COLD void rt_spill(rt_worker *w, rt_block *r);

/* Drops the dead entries at the bottom of the worker's own deque (R2). */
RT_COLD void rt_bury(rt_worker *w);

/* Before the deque grows: if it holds many dead entries, they are dropped instead (R2). */
RT_COLD bool rt_deque_make_room(rt_worker *w);

/* The routine's execution is over and its handle is used up: recycles it, unless its entry still stands in a
 * deque (R1). */
void rt_release(rt_block *r);

/* Releases what is left of its extra. */
void rt_extra_drop(rt_block *r);

/* The same when its entry is known to be gone. */
void rt_recycle(rt_block *r);

/* The calling thread's record; made if this is a plain thread that has none. Never NULL: no memory panics. */
rt_thread *rt_thread_here(void);

/* What waits when the caller waits: the calling routine, or the plain thread's stand-in. */
RT_INLINE rt_block *rt_me(void)
{
    rt_block *me = rt_self()->current;
    return RT_LIKELY(me != NULL) ? me : rt_thread_here()->current;
}

/*
 * For the first function of a routine's stack (runtime's `entry`): called first of all with what the switch
 * passed; then after each routine, which is over, to get the next one to run on this very stack.
 * Does not return when there is none to run here: then this stack is given back.
 */
void rt_stack_begin(void *passed);
rt_block *rt_stack_next(rt_stack *stack);

/* What a thread that holds a worker does all day: runs routines until the runtime stops. On the thread's own
 * stack. */
void rt_thread_run(rt_thread *t);

/* The default runtime, if there is one; and its choice (runtime.c). */
rt_runtime *rt_runtime_chosen(void);
bool rt_runtime_choose(rt_runtime *before, rt_runtime *after);

/* Does the worker run a routine at this moment? A hint. */
bool rt_worker_is_running(const rt_worker *w);

/* How many routines of a runtime are alive: exact when none is being started or ending. */
uint64_t rt_runtime_live(rt_runtime *rt);

/* Timers that fire start nothing while this is on (a shutdown); afterwards they do. */
void rt_runtime_hold(rt_runtime *rt, bool on);

/* Empties all queues of a runtime without threads and without live routines: only tombstones are left. */
void rt_runtime_clear(rt_runtime *rt);

#endif
