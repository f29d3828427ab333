/* SPDX-License-Identifier: MIT
 *
 * Floor 3. Parking and making ready, of routines and plain threads: see scheduler.h, and wait.h for how a
 * wait ends.
 */
#include <errno.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../os/clock.h"
#include "order.h"
#include "switch.h"

#define NEXT_IN_A_ROW 16
#define SLEEP_COMPANY 256                /* see in_company */
#define SLEEP_LATEST  (INT64_C(1) << 20) /* ns */

/* ---- plain threads ---- */

static pthread_key_t plain_key;
static pthread_once_t plain_once = PTHREAD_ONCE_INIT;

/* A plain thread ends. */
static void plain_gone(void *arg)
{
    rt_thread *t = arg;
    rt_block *r = t->current;
    rt_self_set(t); /* destructors of locals may block */
    const rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own */
    if (extra && extra->cleanup)
        extra->cleanup(r);
    rt_self_set(&rt_nobody);
    rt_extra_drop(r);
    rt_block_blank(r);
    rt_block_put(r);
    free(t);
}

static void plain_init(void)
{
    if (pthread_key_create(&plain_key, plain_gone) != 0)
        rt_panic("no pthread key is left for the library: delete some (pthread_key_delete)");
}

rt_thread *rt_thread_here(void)
{
    rt_thread *t = rt_self();
    if (RT_LIKELY(t != &rt_nobody))
        return t;
    pthread_once(&plain_once, plain_init);
    t = calloc(1, sizeof *t);
    rt_block *r = rt_block_get();
    if (!t || !r || pthread_setspecific(plain_key, t) != 0)
        rt_panic("no memory to let this thread wait (%zu bytes)", sizeof *t + sizeof *r);
    r->attr = (rt_attr){.flags = RT_FLAG_THREAD};
    r->parent = NULL;
    /* of none, whatever it was before: a shutdown is not to cancel it. relaxed: published with the word */
    atomic_store_explicit(&r->runtime, NULL, memory_order_relaxed);
    atomic_store_explicit(&r->word, RT_WORD(rt_block_id(), RT_STARTED), memory_order_release);
    t->current = r;
    t->seat = &rt_no_seat;
    t->id = pthread_self();
    /* who has come in by rt_nobody, which all share, leaves by its own. relaxed: nobody reads anything by it
     */
    atomic_store_explicit(&rt_nobody.inside, 0, memory_order_relaxed);
    rt_self_set(t);
    return t;
}

/* Until it is made ready, or (shared waits) until the deadline. */
static void park_thread(rt_block *r, rt_commit_fn *fn, void *arg, int64_t deadline)
{
    atomic_store_explicit(&r->permit, 0, memory_order_relaxed); /* published by the commit */
    if (!fn(r, arg))
        return;
    while (atomic_load_explicit(&r->permit, memory_order_acquire) == 0) /* pairs with rt_ready_block */
        if (rt_futex_wait(&r->permit, 0, deadline) == -ETIMEDOUT) {
            if (rt_wait_win_clock(r))
                return;
            deadline = INT64_MAX; /* somebody was faster, and the permit is on its way */
        }
}

/* ---- park ---- */

void rt_park(rt_commit_fn *fn, void *arg)
{
    rt_thread *t = rt_thread_here();
    rt_worker *w = t->worker;
    rt_block *r = t->current;
    if (RT_UNLIKELY(r->attr.flags & RT_FLAG_THREAD)) {
        park_thread(r, fn, arg, INT64_MAX);
        return;
    }
    rt_commit c = {fn, arg, r};
    RT_COUNT(t, parks);
    rt_switch_leave(t, rt_switch_standing(t, r), &r->sp, w ? rt_order_pick(w) : NULL, &c, false);
}

/* The short way of a park: straight to the routine that was woken first. False: not now. */
RT_INLINE bool park_short(rt_thread *t, uintptr_t leave, rt_bias *bias)
{
    rt_worker *w = t->worker;
    if (RT_UNLIKELY(!w) || RT_UNLIKELY((w->tick + 1) % RT_UNUSUAL_PICK == 0))
        return false;
    if (rt_order_look_is_due(w))
        rt_order_look_at_timers(w);
    if (RT_UNLIKELY(!rt_ready_enter(&w->ready)))
        return false;
    rt_block *next = w->ready.woken.head;
    if (RT_UNLIKELY(!next) || RT_UNLIKELY(!next->stack)) {
        rt_ready_leave(&w->ready);
        return false;
    }
    rt_ready_pop(&w->ready);
    rt_ready_leave(&w->ready);
    w->tick++;
    rt_counter_add(&w->counts.parks, 1);
    rt_counter_add(&w->counts.switches, 1);
    rt_block *r = t->current;
    rt_stack *from = rt_switch_standing(t, r);
    r->link = (rt_block *)(void *)bias; /* for RT_LEAVE_LOCK */
    t->current = next;
    t->stack = next->stack;
    rt_switch_arrived(
        rt_switch_stacks(from, &r->sp, next->stack, next->sp, rt_switch_word((uintptr_t)r + leave), false));
    return true;
}

typedef struct {
    rt_bias *bias;
    rt_seat *how;
    bool shared;
} section;

/* A commit. */
static bool leave_section(rt_block *r, void *arg)
{
    const section s = *(const section *)arg; /* gone with its stack as soon as the section is left */
    const bool canceled = rt_wait_open(r, s.shared);
    rt_bias_leave(s.bias, s.how);
    return !canceled;
}

void rt_park_inside(rt_bias *bias, rt_seat *how, bool shared)
{
    if (park_short(rt_self(), (how ? RT_LEAVE_SEAT : RT_LEAVE_LOCK) + (shared ? RT_LEAVE_SHARED : 0u), bias))
        return;
    section s = {bias, how, shared};
    rt_park(leave_section, &s);
}

/* ---- waits with a limit ---- */

typedef struct {
    rt_commit_fn *fn;
    void *arg;
    uint64_t wait;
    bool deaf;
    rt_alarm *alarm; /* null: no limit */
} shared;

_Static_assert(sizeof(rt_alarm) <= RT_COPY_MAX, "an alarm fits into a control block");

/* An alarm for r. They stand in control blocks, like closures, and close together: the wheel walks over them,
 * and on parked stacks each would be in a page of its own. Without memory `own` has to do. */
static rt_alarm *alarm_get(rt_alarm *own, rt_block *r, int64_t when)
{
    rt_block *home = rt_free_get_any();
    rt_alarm *alarm = home ? (rt_alarm *)(void *)((char *)home + RT_COPY_OFFSET) : own;
    *alarm = (rt_alarm){.timer = {.when = when}, .who = r};
    return alarm;
}

static void alarm_put(rt_alarm *alarm, const rt_alarm *own)
{
    rt_timers_remove(alarm);
    if (RT_LIKELY(alarm != own))
        rt_free_any((rt_block *)(void *)((char *)alarm - RT_COPY_OFFSET));
}

/* A commit. The alarm and the caller's publication make the routine known; what stands on its stack may be
 * gone from then on. */
static bool publish(rt_block *r, void *arg)
{
    const shared s = *(const shared *)arg;
    if (s.alarm) {
        const rt_thread *t = rt_self();
        rt_worker *w = t->worker ? t->worker : &t->runtime->workers[0];
        const int64_t when = s.alarm->timer.when;
        rt_timers_add(&w->timers, s.alarm);
        rt_idle_alarm(&t->runtime->idle, when);
    }
    /* if fn says no, nobody else has seen it, and the clock has at most left a note: it goes on */
    if (!s.fn(r, s.arg)) {
        rt_wait_begin(r, RT_WAIT_NONE);
        return false;
    }
    return !rt_wait_expose(r, s.wait, s.deaf);
}

/* How the shared wait that is over has ended. */
static int how_it_ended(rt_block *r, int64_t deadline, int64_t limit)
{
    /* acquire: pairs with whoever won */
    switch (RT_WAIT_STATE(atomic_load_explicit(&r->wait, memory_order_acquire))) {
    case RT_WAIT_CLOCK:
        if (deadline <= limit)
            return RT_TIME_HAS_COME;
        rt_frame_expire(r);
        return -ETIMEDOUT;
    case RT_WAIT_CANCELED:
        return -ECANCELED;
    default:
        return 0;
    }
}

int rt_wait(rt_commit_fn *fn, void *arg, int64_t deadline, bool deaf)
{
    rt_thread *t = rt_thread_here();
    rt_block *r = t->current;
    const int64_t limit = rt_frame_limit(r);
    const int64_t until = deadline < limit ? deadline : limit;
    if (r->attr.flags & RT_FLAG_THREAD) {
        rt_wait_begin(r, RT_WAIT_SEALED);
        park_thread(r, fn, arg, until);
        return how_it_ended(r, deadline, limit);
    }
    rt_alarm own;
    shared s = {.fn = fn,
                .arg = arg,
                .wait = rt_wait_begin(r, RT_WAIT_SHARED),
                .deaf = deaf || (r->attr.flags & RT_FLAG_SHIELD),
                .alarm = until == INT64_MAX ? NULL : alarm_get(&own, r, until)};
    rt_park(publish, &s);
    if (s.alarm)
        alarm_put(s.alarm, &own);
    return how_it_ended(r, deadline, limit);
}

/* A commit: as leave_section, of a shared wait that is opened elsewhere. */
static bool only_leave(rt_block *r, void *arg)
{
    (void)r;
    const section s = *(const section *)arg; /* gone with its stack as soon as the section is left */
    rt_bias_leave(s.bias, s.how);
    return true;
}

int rt_wait_inside_limited(rt_bias *bias, rt_seat *how, rt_waiter *w)
{
    rt_block *me = w->who;
    if (rt_frame_limit(me) <= rt_clock_now()) {
        /* w stays in the queue, where it is no use to anybody, until the caller takes it out */
        rt_wait_begin(me, RT_WAIT_NONE);
        rt_bias_leave(bias, how);
        rt_frame_expire(me);
        return -ETIMEDOUT;
    }
    section s = {bias, how, true};
    return rt_wait(only_leave, &s, INT64_MAX, false);
}

void rt_give_up(rt_bias *bias, rt_queue *queue, rt_waiter *w)
{
    if (!rt_waiter_is_queued(w))
        return;
    rt_seat *how = rt_bias_enter(bias, rt_self()->seat);
    if (rt_waiter_is_queued(w))
        rt_queue_remove(queue, w);
    rt_bias_leave(bias, how);
}

/* Commits that leave a lock. */

static bool leave_lock(rt_block *r, void *arg)
{
    (void)r;
    rt_lock_release(arg);
    return true;
}

static bool open_and_leave_lock(rt_block *r, void *arg)
{
    const bool canceled = rt_wait_open(r, false);
    rt_lock_release(arg);
    return !canceled;
}

static bool leave_lock_deaf(rt_block *r, void *arg)
{
    rt_wait_begin(r, RT_WAIT_DEAF);
    rt_lock_release(arg);
    return true;
}

int rt_wait_locked(rt_lock_t *lock, rt_waiter *w, bool deaf)
{
    if (deaf)
        rt_park(leave_lock_deaf, lock);
    else if (RT_LIKELY(!(w->who->attr.flags & RT_FLAG_LIMIT)))
        rt_park(open_and_leave_lock, lock);
    else
        return rt_wait(leave_lock, lock, INT64_MAX, false);
    return RT_LIKELY(w->result != RT_PENDING) ? 0 : -ECANCELED;
}

/* A commit: there is nothing to leave. */
static bool stay(rt_block *r, void *arg)
{
    (void)r;
    (void)arg;
    return true;
}

int rt_sleep_until(int64_t deadline)
{
    if (deadline <= rt_clock_now())
        return 0;
    const int rc = rt_wait(stay, NULL, deadline, false);
    return rc == RT_TIME_HAS_COME ? 0 : rc;
}

/* Sleeps end on common times, so that one wake-up of a worker serves many: late by a 256th of their length at
 * most, and never by more than 2^20 ns. (Linux does so for poll and select: a thousandth.) Powers of
 * two, so that long ones end when short ones do; those of the same length keep their order. */
static int64_t in_company(int64_t deadline, int64_t length, int64_t limit)
{
    const int64_t late = length / SLEEP_COMPANY;
    if (late < 2 || deadline > INT64_MAX - SLEEP_LATEST)
        return deadline;
    const int64_t step =
        late >= SLEEP_LATEST ? SLEEP_LATEST : INT64_C(1) << (63 - __builtin_clzll((uint64_t)late));
    const int64_t later = (deadline + step - 1) & -step;
    return later <= limit ? later : deadline; /* what would have ended in time is not to run into its limit */
}

int rt_sleep(int64_t length)
{
    if (length <= 0)
        return 0;
    const int64_t deadline = in_company(rt_clock_after(length), length, rt_frame_limit(rt_me()));
    const int rc = rt_wait(stay, NULL, deadline, false);
    return rc == RT_TIME_HAS_COME ? 0 : rc;
}

/* ---- is it to go on? ---- */

void rt_frame_expire(rt_block *r)
{
    atomic_fetch_or_explicit(&r->word, RT_EXPIRED, memory_order_relaxed); /* for itself alone */
}

int rt_frame_stop_slow(const rt_block *me)
{
    const uint64_t word = atomic_load_explicit(&me->word, memory_order_acquire); /* as in rt_frame_stop */
    if (word & RT_CANCEL && !(me->attr.flags & RT_FLAG_SHIELD))
        return -ECANCELED;
    return word & RT_EXPIRED ? -ETIMEDOUT : 0;
}

/* ---- ready ---- */

RT_INLINE void ready_local(rt_worker *w, rt_block *r)
{
    rt_counter_add(&w->counts.readies, 1);
    if (RT_UNLIKELY(!rt_ready_enter_soon(&w->ready))) {
        rt_counter_add(&w->counts.spills, 1);
        rt_order_share(w->runtime, r, false);
        return;
    }
    if (w->next_run++ < NEXT_IN_A_ROW) {
        rt_ready_put_next(&w->ready, r);
    } else {
        rt_ready_append(&w->ready, r);
        w->next_run = 0;
    }
    rt_ready_leave(&w->ready);
    rt_notify(w);
}

void rt_ready_local(rt_worker *w, rt_block *r)
{
    ready_local(w, r);
}

void rt_ready_block(rt_block *r)
{
    if (r->attr.flags & RT_FLAG_THREAD) {
        atomic_store_explicit(&r->permit, 1, memory_order_release); /* pairs with park_thread */
        rt_futex_wake(&r->permit,
                      1); /* if it is gone by now: the block stays mapped, a wake too many is harmless */
        return;
    }
    rt_thread *t = rt_self();
    rt_runtime *rt = rt_block_runtime(r);
    if (RT_LIKELY(t->worker && t->worker->runtime == rt))
        ready_local(t->worker, r);
    else
        rt_order_share(rt, r, true);
}

void rt_ready_outside(rt_block *r)
{
    const bool entered = rt_enter_if();
    rt_ready_block(r);
    rt_leave_if(entered);
}

void rt_ready_all(rt_waiter *list)
{
    while (list) {
        rt_waiter *next = list->next; /* *list is gone once its owner may run */
        rt_ready_block(list->who);
        list = next;
    }
}
