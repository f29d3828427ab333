/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See scheduler.h. Here: stacks and switching between them; yield; a worker's day; the end of
 * a runtime. Which routine is next is order.c's affair, what a worker without work does search.c's, park and
 * ready are park.c's.
 */
#include "order.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../context/context.h"
#include "../context/control.h"
#include "../os/clock.h"
#include "switch.h"

#define STACK_CACHE   64 /* warm stacks of a worker */
#define STACK_BATCH   16
#define LONELY_YIELDS 16
#define BREATH_EVERY                                                                                         \
    (50 * INT64_C(1000))  /* ns between two breaths of a routine that only starts and joins                  \
                           */
#define BREATHS_MOST 2048 /* and at most so many joins */

struct rt_thread rt_nobody = {.seat = &rt_no_seat};

/* ---- stacks and switches ---- */

static rt_stack *stack_for(rt_worker *w, rt_block *r)
{
    rt_stack_pool *pool = &w->runtime->stacks;
    rt_stack *stack = w->stacks;
    if (RT_UNLIKELY(!rt_stack_ordinary(pool, (size_t)r->attr.stack_pages * RT_STACK_UNIT))) {
        stack = rt_stack_take_large(pool, (size_t)r->attr.stack_pages * RT_STACK_UNIT);
    } else if (RT_LIKELY(stack != NULL)) {
        w->stacks = stack->link;
        w->stack_count--;
    } else {
        size_t got;
        stack = rt_stack_take(pool, STACK_BATCH, &got);
        if (!stack) /* address space is short: no more than what is promised (R15) */
            stack = rt_stack_take_large(pool, (size_t)r->attr.stack_pages * RT_STACK_UNIT), got = 1;
        if (stack) {
            w->stacks = stack->link;
            w->stack_count = (uint32_t)got - 1;
        }
    }
    if (stack)
        rt_counter_add(&w->counts.stacks_bound, 1);
    return stack;
}

void rt_stacks_flush(rt_worker *w, uint32_t keep)
{
    if (w->stack_count <= keep)
        return;
    rt_stack **cut = &w->stacks;
    for (uint32_t i = 0; i < keep; i++)
        cut = &(*cut)->link;
    rt_stack *rest = *cut;
    *cut = NULL;
    w->stack_count = keep;
    rt_stack_give(&w->runtime->stacks, rest);
}

/* A commit: nobody stands on this stack any more. */
static bool stack_left(rt_block *nobody, void *arg)
{
    (void)nobody;
    rt_stack *stack = arg;
    const rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    RT_COUNT(t, stacks_left);
    rt_stack_check(stack);
    if (rt_stack_is_large(stack) || !w) {
        stack->link = NULL;
        rt_stack_give(&t->runtime->stacks, stack);
        return true;
    }
    stack->link = w->stacks;
    w->stacks = stack;
    if (++w->stack_count > STACK_CACHE)
        rt_stacks_flush(w, STACK_CACHE / 2);
    return true;
}

/* Makes r, claimed, the current routine of t and says where to switch to. False: there is no memory for its
 * stack. */
static bool prepare(rt_thread *t, rt_block *r, rt_stack **stack, void **sp)
{
    if (!r->stack) {
        rt_stack *fresh = stack_for(t->worker, r);
        if (!fresh)
            return false;
        rt_sanitize_stack_reuse(fresh->low, fresh->high, &fresh->fiber);
        r->stack = fresh;
        r->sp = rt_context_make(fresh->high, t->runtime->entry);
    }
    *stack = r->stack;
    *sp = r->sp;
    t->stack = r->stack;
    t->current = r;
    rt_counter_add(&t->worker->counts.switches, 1);
    return true;
}

void rt_switch_leave(rt_thread *t, rt_stack *from, void **save, rt_block *next, rt_commit *c, bool last)
{
    rt_stack *stack = &t->own;
    void *sp = t->sp;
    if (next && !prepare(t, next, &stack, &sp)) {
        t->stackless = next; /* its end may need what the commit is yet to leave: from the own stack */
        next = NULL;
    }
    if (!next) {
        t->stack = &t->own;
        t->current = NULL;
        RT_COUNT(t, switches);
    }
    rt_switch_arrived(rt_switch_stacks(from, save, stack, sp, c, last));
}

void rt_stack_begin(void *passed)
{
    rt_sanitize_arrive(NULL);
    rt_switch_arrived(passed);
    /* what the switch here brought are those of the routine that was left */
    const uint64_t control = rt_self()->runtime->control;
    if (rt_control_now() != control)
        rt_control_set(control);
}

rt_block *rt_stack_next(rt_stack *stack)
{
    rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    rt_block *next = w ? rt_order_pick(w) : NULL;
    if (next && !next->stack && !rt_stack_is_large(stack) &&
        rt_stack_ordinary(&w->runtime->stacks, (size_t)next->attr.stack_pages * RT_STACK_UNIT)) {
        rt_stack_check(stack);
        next->stack = stack;
        t->current = next;
        return next;
    }
    rt_commit c = {stack_left, stack, NULL};
    void *nowhere;
    rt_switch_leave(t, stack, &nowhere, next, &c, true);
    __builtin_unreachable();
}

/* ---- yield ---- */

void rt_notify_slow(rt_worker *w)
{
    rt_idle_wake(&w->runtime->idle, rt_order_has_little(w));
}

/* A commit: the routine is saved and may run again. */
static bool yielded(rt_block *r, void *arg)
{
    (void)arg;
    const rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    if (RT_LIKELY(w != NULL) && RT_LIKELY(rt_ready_enter_soon(&w->ready))) {
        rt_ready_append_yielded(&w->ready, r);
        rt_ready_leave(&w->ready);
        rt_notify(w); /* whoever it yields to may have been the last visible one */
    } else {
        if (w)
            rt_counter_add(&w->counts.spills, 1);
        rt_order_share(t->runtime, r, false);
    }
    return true;
}

static void yield_to(rt_thread *t, rt_block *next)
{
    rt_block *r = t->current;
    rt_commit c = {yielded, NULL, r};
    RT_COUNT(t, yields);
    rt_switch_leave(t, rt_switch_standing(t, r), &r->sp, next, &c, false);
}

static RT_NOINLINE void yield_slow(rt_thread *t, rt_worker *w)
{
    rt_block *next = NULL;
    if (w->tick % RT_UNUSUAL_PICK == 0)
        next = rt_order_unusual(w);
    if (!next && (next = rt_order_woken(w)) == NULL && (next = rt_order_newest(w)) == NULL &&
        (next = rt_order_yielded(w)) == NULL && (next = rt_order_shared(w)) == NULL &&
        w->tick % LONELY_YIELDS == 0) {
        /* one that yields in a loop keeps this worker from ever looking for work: now and then it looks here
         */
        bool lone;
        next = rt_search_steal(w, &lone);
    }
    if (next)
        yield_to(t, next);
    rt_leave();
}

static RT_NOINLINE void yield_without_worker(rt_thread *t)
{
    if (rt_is_routine(t))
        yield_to(t, NULL); /* H6: it goes on when a worker takes it up */
    else
        sched_yield();
    rt_leave();
}

static RT_NOINLINE void yield_arrived(void *passed)
{
    rt_switch_arrived(passed);
    rt_leave();
}

/* Nothing that the short way needs is in a register across the switch, and the others are tail calls: so it
 * saves none but those that the switch does. */
void rt_yield_and_leave(rt_thread *t)
{
    rt_worker *w = t->worker;
    if (RT_UNLIKELY(!w)) {
        yield_without_worker(t);
        return;
    }
    if (rt_order_look_is_due(w))
        rt_order_look_at_timers(w);
    if (RT_UNLIKELY(++w->tick % RT_UNUSUAL_PICK == 0) || RT_UNLIKELY(rt_deque_size(&w->deque) != 0) ||
        RT_UNLIKELY(!rt_ready_enter(&w->ready))) {
        yield_slow(t, w);
        return;
    }
    rt_fifo *yielders = &w->ready.yielded;
    rt_block *next = yielders->head;
    if (RT_UNLIKELY(w->ready.woken.head != NULL) || RT_UNLIKELY(!next)) {
        rt_ready_leave(&w->ready);
        yield_slow(t, w);
        return;
    }
    /* The short way, without a commit: the list is held across the switch (ready.h), so it keeps its length.
     */
    rt_block *r = t->current;
    yielders->head = next->link;
    rt_fifo_append(yielders, r);
    rt_counter_add(&w->counts.yields, 1);
    rt_counter_add(&w->counts.switches, 1);
    rt_stack *stack = rt_switch_standing(t, r);
    t->current = next;
    t->stack = next->stack;
    void *passed =
        rt_switch_stacks(stack, &r->sp, next->stack, next->sp, rt_switch_word(RT_LEAVE_LIST), false);
    if (RT_UNLIKELY(passed != rt_switch_word(RT_LEAVE_LIST))) {
        yield_arrived(passed);
        return;
    }
    t = rt_self(); /* it may be another one */
    rt_ready_leave(&t->worker->ready);
    rt_leave_as(t);
}

void rt_breathe(void)
{
    rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    if (!w)
        return;
    /* as many runs until the next one as take BREATH_EVERY, if they take as long as the last ones */
    const int64_t now = rt_clock_now();
    const int64_t each = (now - w->breathed_at) / ((int64_t)w->breaths + 1) + 1;
    w->breaths = (uint64_t)(each > BREATH_EVERY                  ? 1
                            : BREATH_EVERY / each < BREATHS_MOST ? BREATH_EVERY / each
                                                                 : BREATHS_MOST);
    w->breathe_at =
        atomic_load_explicit(&w->counts.in_place_ended, memory_order_relaxed) + w->breaths; /* own */
    w->breathed_at = now;
    rt_order_look_at_timers(w);
    /* two that only start and join must not pass the worker to each other for ever */
    rt_block *next = ++w->tick % RT_UNUSUAL_PICK == 0 ? rt_order_unusual(w) : NULL;
    if (!next && (next = rt_order_woken(w)) == NULL && (next = rt_order_yielded(w)) == NULL &&
        (next = rt_order_shared(w)) == NULL)
        next = rt_order_oldest_at_last(w);
    if (next)
        yield_to(t, next);
}

/* ---- a worker's day ---- */

void rt_thread_run(rt_thread *t)
{
    if (t->worker)
        rt_search_is_busy(t->worker);
    for (;;) {
        if (!t->worker && !rt_threads_wait(t)) /* H6 */
            return;
        rt_block *r = t->stackless;
        t->stackless = NULL;
        if (!r && !(r = rt_order_pick(t->worker)) && !(r = rt_search_work(t->worker)))
            return;
        rt_stack *stack;
        void *sp;
        if (!prepare(t, r, &stack, &sp))
            t->runtime->fail(r, -ENOMEM);
        else
            rt_switch_arrived(rt_switch_stacks(&t->own, &t->sp, stack, sp, NULL, false));
    }
}

/* ---- the end of a runtime ---- */

static _Atomic(rt_runtime *) chosen;

rt_runtime *rt_runtime_chosen(void)
{
    return atomic_load_explicit(&chosen, memory_order_acquire); /* pairs with rt_runtime_choose */
}

bool rt_runtime_choose(rt_runtime *before, rt_runtime *after)
{
    return atomic_compare_exchange_strong_explicit(&chosen, &before, after, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

bool rt_worker_is_running(const rt_worker *w)
{
    return atomic_load_explicit(&w->busy, memory_order_relaxed); /* a hint */
}

uint64_t rt_runtime_live(rt_runtime *rt)
{
    /* all completed before all spawned (R13): then the difference is never negative, and 0 is true: with
     * nothing alive only an outsider could start something */
    uint64_t completed = rt_counter_read(&rt->counts.completed) + rt_counter_read(&rt->counts.in_place_ended);
    for (size_t i = 0; i < rt->worker_count; i++)
        completed += rt_counter_read(&rt->workers[i].counts.completed) +
                     rt_counter_read(&rt->workers[i].counts.in_place_ended);
    uint64_t spawned = rt_counter_read(&rt->counts.spawned);
    for (size_t i = 0; i < rt->worker_count; i++)
        spawned += rt_counter_read(&rt->workers[i].counts.spawned);
    return spawned - completed;
}

static void drop_timers(rt_block *r)
{
    while (r) {
        rt_block *next = r->link;
        rt_told *told = r->arg;
        r->attr.status = -ECANCELED;
        told->over(told, r, NULL);
        rt_free_any(r);
        r = next;
    }
}

void rt_runtime_hold(rt_runtime *rt, bool on)
{
    rt_lock_acquire(&rt->lock);
    rt->holding = on;
    rt_block *held = rt->held;
    if (!on)
        rt->held = NULL;
    rt_lock_release(&rt->lock);
    while (!on && held) {
        rt_block *next = held->link;
        rt_lock_acquire(&rt->lock);
        rt_order_begin_timer(rt, held);
        rt_lock_release(&rt->lock);
        rt_order_share(rt, held, false);
        held = next;
    }
}

/* What is left in the wheels are timers that will not fire any more. */
static void clear_timers(rt_worker *w)
{
    bool more = true;
    while (more) {
        drop_timers(rt_timers_expire(&w->timers, INT64_MAX - 1, 64, &more));
    }
}

void rt_runtime_clear(rt_runtime *rt)
{
    drop_timers(rt->held);
    rt->held = NULL;
    for (size_t i = 0; i < rt->worker_count; i++) {
        rt_worker *w = &rt->workers[i];
        rt_block *r;
        clear_timers(w);
        while ((r = rt_deque_take(&w->deque)) != NULL)
            rt_order_drop(r);
        while (w->free) {
            r = w->free;
            w->free = r->link;
            rt_block_put(r);
        }
        w->free_count = 0;
        if (w->free_more)
            rt_block_batch_put(w->free_more);
        w->free_more = NULL;
        rt_stacks_flush(w, 0);
    }
}
