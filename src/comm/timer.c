/* SPDX-License-Identifier: MIT
 *
 * Floor 6. Timers for users: an alarm (sched/timers.h) whose end is the start of a routine.
 *
 * A pending timer owns a control block that is ready to be started, with a wait (wait.h) that the clock wins
 * when the time has come; then the scheduler makes it runnable like a sleeper. It calls the function, or
 * sends. By steps:
 *
 *  T1 `lock` guards a timer. It is pending while `block` is not null. Who calls it off takes the
 *     block away: if it wins the wait, by compare-and-swap on the very wait that was begun, it
 *     takes the alarm out, and the block is free again; else the routine is on its way, and finds
 *     that the block it runs in is not the timer's any more.
 *  T2 The routine that finds its own block there fires. A send is made under lock: who has called a
 *     timer off knows that nothing more comes. A function is called without it, one at a time: if
 *     the timer, set anew meanwhile, comes before the function has returned, it is called once more
 *     after that.
 *  T3 A ticker is set to its next time after it has fired, on the grid of the first.
 *  T4 The user has a reference, and each block that was set has one, which goes when that routine
 *     is over (rt_told), has never run because its runtime is cancelled, or is called off.
 */
#include "../../include/routines/time.h"

#include <stdlib.h>

#include "../base/panic.h"
#include "../os/clock.h"
#include "../routine/routine.h"
#include "chan.h"

#define RETRY INT64_C(1000000) /* ns, after there was no memory */

struct routine_timer {
    rt_told told; /* first: what the argument of its routine is taken for */
    _Atomic uint32_t refs;
    /* constant */
    rt_runtime *runtime;
    void (*fn)(void *); /* or null, and: */
    chan_t *chan;
    void *arg;
    int64_t period; /* 0: none */
    /* under lock */
    rt_lock_t lock;
    rt_block *block; /* T1; null: not pending */
    rt_block *spare; /* for the next time */
    uint64_t wait;   /* of block */
    rt_alarm alarm;
    bool ticking; /* T3: to be set again */
    bool running; /* T2: in its function */
    bool late;    /* once more */
};

static void drop(routine_timer_t *t)
{
    /* acquire: the last one sees what the others did; release: and they did it before */
    if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    chan_unref(t->chan);
    if (t->spare)
        rt_free_any(t->spare);
    rt_runtime_unref(t->runtime);
    free(t);
}

static void *come(void *arg);

/* Under lock: pending, for that time. False: no memory. */
static bool set(routine_timer_t *t, int64_t when)
{
    rt_runtime *rt = t->runtime;
    rt_block *r = t->spare ? t->spare : rt_free_get_any();
    if (!r)
        return false;
    t->spare = NULL;
    r->fn = come;
    r->arg = t;
    r->where = "a timer";
    r->attr = (rt_attr){.stack_pages = (uint32_t)(rt->stack_promised / RT_STACK_UNIT),
                        .flags = RT_FLAG_TIMER | RT_FLAG_TOLD};
    /* relaxed, both: published by the lock of the timers */
    atomic_store_explicit(&r->runtime, rt, memory_order_relaxed);
    atomic_store_explicit(&r->done.state, RT_ONESHOT_CLOSED, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed); /* T4; the caller's keeps it alive */
    t->wait = rt_wait_begin(r, RT_WAIT_SEALED);
    t->block = r;
    t->alarm = (rt_alarm){.timer = {.when = when}, .who = r};
    if (when != INT64_MAX) {
        const bool entered = rt_enter_if();
        rt_worker *w = rt_self()->worker;
        if (!w || w->runtime != rt)
            w = &rt->workers[0];
        rt_timers_add(&w->timers, &t->alarm);
        rt_idle_alarm(&rt->idle, when);
        rt_leave_if(entered);
    }
    return true;
}

static void set_or_panic(routine_timer_t *t, int64_t when)
{
    if (!set(t, when))
        rt_panic("no memory to set a timer (%zu bytes)", sizeof(rt_block));
}

/* Under lock: not pending any more. True: it was, or would have been again. *dropped: the caller is to drop a
 * reference, after the lock. */
static bool call_off(routine_timer_t *t, bool *dropped)
{
    rt_block *r = t->block;
    const bool was = r || t->ticking || t->late;
    uint64_t wait = t->wait;
    t->ticking = t->late = false;
    t->block = NULL;
    *dropped = r && rt_wait_change(r, &wait, RT_WAIT_WOKEN); /* T1 */
    if (*dropped) {
        if (t->alarm.home)
            rt_timers_remove(&t->alarm);
        if (t->spare)
            rt_free_any(t->spare);
        t->spare = r;
    }
    return was;
}

/* Under lock: the next time of a ticker, when it is now. */
static int64_t next_time(const routine_timer_t *t, int64_t now)
{
    int64_t next = t->alarm.timer.when;
    if (next > INT64_MAX - t->period)
        return INT64_MAX;
    next += t->period;
    if (next <= now) {
        const int64_t missed = (now - next) / t->period + 1;
        if (__builtin_mul_overflow(missed, t->period, &now) || __builtin_add_overflow(next, now, &next))
            return INT64_MAX;
    }
    return next;
}

/* Under lock: a ticker's next time, unless it has been set anew. */
static void set_next(routine_timer_t *t)
{
    if (t->ticking && !t->block)
        set_or_panic(t, next_time(t, rt_clock_now()));
}

/* A defer: the function has returned, or left by exit or panic. */
static void called(void *arg)
{
    routine_timer_t *t = arg;
    rt_lock_acquire(&t->lock);
    t->running = false;
    if (t->late) {
        t->late = false;
        set_or_panic(t, t->alarm.timer.when);
    } else {
        set_next(t);
    }
    rt_lock_release(&t->lock);
}

/* The routine. */
static void *come(void *arg)
{
    routine_timer_t *t = arg;
    rt_lock_acquire(&t->lock);
    const bool mine = t->block == rt_self()->current; /* T2 */
    const bool calls = mine && t->fn && !t->running;
    if (mine)
        t->block = NULL;
    if (calls) {
        t->running = true;
    } else if (mine && t->fn) {
        t->late = true;
    } else if (mine) {
        const int64_t now = rt_clock_now();
        if (chan_try_send(t->chan, &now) == -EPIPE)
            t->ticking = false;
        set_next(t);
    }
    rt_lock_release(&t->lock);
    if (calls) {
        routine_defer(called, t);
        t->fn(t->arg);
    }
    return NULL;
}

/* T4. */
static void over(rt_told *told, rt_block *r, void *value)
{
    routine_timer_t *t = (routine_timer_t *)(void *)told;
    if (r->attr.status == -ENOTRECOVERABLE) {
        rt_panic_unjoined(r, value);
    } else if (r->attr.status !=
               0) { /* it has not run: cancelled with its runtime, or no memory for its stack */
        rt_lock_acquire(&t->lock);
        if (t->block == r) {
            t->block = NULL;
            if (r->attr.status == -ENOMEM)
                set_or_panic(t, rt_clock_after(RETRY));
        }
        rt_lock_release(&t->lock);
    }
    drop(t);
}

/* ---- the calls ---- */

static routine_timer_t *make(int64_t ns, int64_t period, void (*fn)(void *), void *arg, chan_t *ch)
{
    int error;
    rt_runtime *rt = rt_runtime_of(rt_self());
    if (!rt)
        rt = rt_runtime_default(&error);
    routine_timer_t *t = rt ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return NULL;
    t->told.over = over;
    t->runtime = rt;
    rt_runtime_ref(rt);
    t->fn = fn;
    t->arg = arg;
    t->period = period > 0 ? period : 0;
    t->ticking = period > 0;
    atomic_store_explicit(&t->refs, 1, memory_order_relaxed); /* nobody else knows it */
    rt_lock_acquire(&t->lock);
    const bool done = set(t, rt_clock_after(ns));
    t->chan = done ? chan_ref(ch) : NULL;
    rt_lock_release(&t->lock);
    if (!done)
        drop(t);
    return done ? t : NULL;
}

routine_timer_t *routine_timer_new(int64_t ns, int64_t period, void (*fn)(void *), void *arg)
{
    return fn ? make(ns, period, fn, arg, NULL) : NULL;
}

routine_timer_t *routine_timer_new_chan(int64_t ns, int64_t period, chan_t *ch)
{
    return ch && ch->size == sizeof(int64_t) && ch->kind != RT_CHAN_SUBSCRIPTION
               ? make(ns, period, NULL, NULL, ch)
               : NULL;
}

bool routine_timer_stop(routine_timer_t *t)
{
    if (!t)
        return false;
    bool dropped;
    rt_lock_acquire(&t->lock);
    const bool was = call_off(t, &dropped);
    rt_lock_release(&t->lock);
    if (dropped)
        drop(t);
    return was;
}

bool routine_timer_reset(routine_timer_t *t, int64_t ns)
{
    if (!t)
        return false;
    bool dropped;
    rt_lock_acquire(&t->lock);
    const bool was = call_off(t, &dropped);
    t->ticking = t->period > 0;
    set_or_panic(t, rt_clock_after(ns));
    rt_lock_release(&t->lock);
    if (dropped)
        drop(t);
    return was;
}

void routine_timer_free(routine_timer_t *t)
{
    if (!t)
        return;
    routine_timer_stop(t);
    drop(t); // NOLINT(clang-analyzer-unix.Malloc): it counts references
}
