/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See idle.h for the argument; the steps I1 to I7 are cited here.
 */
#include "idle.h"

#include <errno.h>

#include "../os/clock.h"
#include "../os/epoll.h"

/* A sleeper's permit. */
enum { NONE, GIVEN, AWAITED /* the poller sleeps on the word after all */ };

/* Under lock. seq_cst: one order of all changes of state, seen by I1 by way of its barrier */
static uint64_t change(rt_idle *idle, uint64_t minus, uint64_t plus)
{
    const uint64_t before =
        atomic_load_explicit(&idle->state, memory_order_relaxed); /* written under the lock */
    atomic_store_explicit(&idle->state, before - minus + plus, memory_order_seq_cst);
    return before;
}

/* Under lock. */
static void list_add(rt_idle *idle, rt_sleeper *me, uint64_t kind)
{
    atomic_store_explicit(&me->permit, NONE, memory_order_relaxed); /* nobody can give one yet */
    me->kind = kind;
    me->polls = false;
    me->next = idle->sleepers;
    me->link = &idle->sleepers;
    if (me->next)
        me->next->link = &me->next;
    idle->sleepers = me;
    change(idle, RT_IDLE_SEARCHING, kind);
}

/* Under lock: it is searching then. */
static void list_remove(rt_idle *idle, rt_sleeper *s)
{
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    s->link = NULL;
    if (idle->keeper == s) {
        idle->keeper = NULL;
        atomic_store_explicit(&idle->cover, INT64_MAX, memory_order_relaxed); /* I6 */
    }
    change(idle, s->kind, RT_IDLE_SEARCHING);
}

/* Under lock: who is to be woken; NULL: nobody rests. */
static rt_sleeper *choose(const rt_idle *idle)
{
    rt_sleeper *s = idle->sleepers;
    return s && s == idle->poller && s->next ? s->next : s; /* I7 */
}

void rt_idle_look(rt_idle *idle, bool on)
{
    rt_lock_acquire(&idle->lock);
    change(idle, on ? 0 : RT_IDLE_LOOK, on ? RT_IDLE_LOOK : 0);
    rt_lock_release(&idle->lock);
}

/* To one that was taken off the list. */
static void give_permit(rt_idle *idle, rt_sleeper *s)
{
    if (s->polls) { /* the event first (I7) */
        rt_epoll_event_signal(
            atomic_load_explicit(&idle->interrupt, memory_order_relaxed)); /* I7: it is set */
        /* release: pairs with permitted */
        if (atomic_exchange_explicit(&s->permit, GIVEN, memory_order_release) == AWAITED)
            rt_futex_wake(&s->permit, 1);
        return;
    }
    atomic_store_explicit(&s->permit, GIVEN, memory_order_release); /* pairs with permitted */
    rt_futex_wake(&s->permit, 1);
}

static bool permitted(rt_sleeper *me)
{
    return atomic_load_explicit(&me->permit, memory_order_acquire) == GIVEN; /* pairs with give_permit */
}

void rt_idle_init(rt_idle *idle)
{
    atomic_store_explicit(&idle->state, rt_membarrier_works ? 0 : RT_IDLE_FENCE, memory_order_relaxed);
    atomic_store_explicit(&idle->cover, INT64_MAX, memory_order_relaxed); /* nobody else is there yet */
}

void rt_idle_wake(rt_idle *idle, bool lone)
{
    rt_membarrier_light(); /* I1, for RT_IDLE_FENCE */
    const uint64_t seen =
        atomic_load_explicit(&idle->state, memory_order_relaxed); /* looked at again below */
    if (RT_IDLE_SEARCHERS(seen) || (lone && RT_IDLE_NAPPERS(seen)) ||
        (seen & ~(RT_IDLE_FENCE | RT_IDLE_LOOK)) == 0)
        return;
    rt_lock_acquire(&idle->lock);
    const uint64_t state =
        atomic_load_explicit(&idle->state, memory_order_relaxed); /* written under the lock */
    rt_sleeper *s = RT_IDLE_SEARCHERS(state) ? NULL : choose(idle);
    if (s)
        list_remove(idle, s); /* I2 */
    rt_lock_release(&idle->lock);
    if (s)
        give_permit(idle, s);
}

void rt_idle_search(rt_idle *idle)
{
    rt_lock_acquire(&idle->lock);
    change(idle, 0, RT_IDLE_SEARCHING);
    rt_lock_release(&idle->lock);
}

void rt_idle_found(rt_idle *idle)
{
    rt_lock_acquire(&idle->lock);
    const uint64_t before = change(idle, RT_IDLE_SEARCHING, 0);
    rt_lock_release(&idle->lock);
    if (RT_IDLE_SEARCHERS(before) == 1 && RT_IDLE_SLEEPERS(before) != 0)
        rt_idle_wake(idle, false); /* I5 */
}

static void await_permit(rt_sleeper *me)
{
    uint32_t word = NONE;
    if (me->polls) /* relaxed: what counts is seen by permitted */
        atomic_compare_exchange_strong_explicit(&me->permit, &word, AWAITED, memory_order_relaxed,
                                                memory_order_relaxed);
    while (!permitted(me))
        rt_futex_wait(&me->permit, me->polls ? AWAITED : NONE, INT64_MAX);
}

/* Under lock: I7. */
static void cease_to_poll(rt_idle *idle)
{
    idle->poller = NULL;
    atomic_store_explicit(&idle->polling, false, memory_order_relaxed);
}

/* Off the list again, by itself or because a waker took it off. True: woken. */
static bool come_back(rt_idle *idle, rt_sleeper *me)
{
    rt_lock_acquire(&idle->lock);
    const bool woken = !me->link;
    if (!woken) {
        list_remove(idle, me);
        if (me->polls)
            cease_to_poll(idle);
    }
    rt_lock_release(&idle->lock);
    if (!woken)
        return false;
    await_permit(me); /* the permit has come, or is about to: it must not meet the next rest */
    if (me->polls) {
        /* relaxed: it is set before there is a poller */
        rt_epoll_event_drain(atomic_load_explicit(&idle->interrupt, memory_order_relaxed));
        rt_lock_acquire(&idle->lock);
        cease_to_poll(idle);
        rt_lock_release(&idle->lock);
    }
    return true;
}

bool rt_idle_nap(rt_idle *idle, rt_sleeper *me, int64_t ns)
{
    const int64_t until = rt_clock_after(ns);
    rt_lock_acquire(&idle->lock);
    list_add(idle, me, RT_IDLE_NAPPING);
    rt_lock_release(&idle->lock);
    while (!permitted(me) && rt_futex_wait(&me->permit, NONE, until) == 0)
        continue;
    return come_back(idle, me);
}

void rt_idle_announce(rt_idle *idle, rt_sleeper *me)
{
    rt_lock_acquire(&idle->lock);
    list_add(idle, me, RT_IDLE_SLEEPING);
    rt_lock_release(&idle->lock);
    rt_membarrier_heavy(); /* I3, I4 */
}

bool rt_idle_withdraw(rt_idle *idle, rt_sleeper *me)
{
    return come_back(idle, me);
}

int64_t rt_idle_cover(rt_idle *idle, rt_sleeper *me, int64_t next)
{
    int64_t until = INT64_MAX;
    rt_lock_acquire(&idle->lock);
    /* relaxed: written under the lock; read by rt_idle_alarm, I6 */
    if (me->link && next < atomic_load_explicit(&idle->cover, memory_order_relaxed)) {
        idle->keeper = me;
        atomic_store_explicit(&idle->cover, next, memory_order_relaxed);
        until = next;
    }
    rt_lock_release(&idle->lock);
    return until;
}

void rt_idle_sleep(rt_idle *idle, rt_sleeper *me, int64_t until)
{
    while (!permitted(me))
        if (rt_futex_wait(&me->permit, NONE, until) == -ETIMEDOUT) {
            come_back(idle, me);
            return;
        }
}

void rt_idle_alarm(rt_idle *idle, int64_t when)
{
    rt_membarrier_light(); /* I6 */
    /* relaxed: ordered by the barrier */
    if (when < atomic_load_explicit(&idle->cover, memory_order_relaxed) &&
        RT_IDLE_SLEEPERS(atomic_load_explicit(&idle->state, memory_order_relaxed)) != 0)
        rt_idle_wake(idle, false);
}

void rt_idle_set_interrupt(rt_idle *idle, int event)
{
    atomic_store_explicit(&idle->interrupt, event, memory_order_relaxed); /* seen by way of the lock (I7) */
}

/* Under lock. */
static void make_poller(rt_idle *idle, rt_sleeper *me)
{
    idle->poller = me;
    me->polls = true;
    atomic_store_explicit(&idle->polling, true, memory_order_relaxed); /* I7 */
}

bool rt_idle_become_poller(rt_idle *idle, rt_sleeper *me)
{
    rt_lock_acquire(&idle->lock);
    const bool mine = me->link && !idle->poller;
    if (mine)
        make_poller(idle, me);
    rt_lock_release(&idle->lock);
    return mine;
}

bool rt_idle_nap_polling(rt_idle *idle, rt_sleeper *me)
{
    rt_lock_acquire(&idle->lock);
    const bool mine = !idle->poller;
    if (mine) {
        list_add(idle, me, RT_IDLE_NAPPING);
        make_poller(idle, me);
    }
    rt_lock_release(&idle->lock);
    return mine;
}

void rt_idle_call_poller(rt_idle *idle)
{
    rt_idle_wake(idle, false);
}

void rt_idle_wake_all(rt_idle *idle)
{
    for (;;) {
        rt_lock_acquire(&idle->lock);
        rt_sleeper *s = idle->sleepers;
        if (s)
            list_remove(idle, s);
        rt_lock_release(&idle->lock);
        if (!s)
            return;
        give_permit(idle, s);
    }
}
