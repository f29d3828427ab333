/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See threads.h.
 */
#include "threads.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/panic.h"
#include "../os/clock.h"
#include "../os/thread.h"
#include "order.h"

_Atomic int64_t rt_threads_patience = 5 * INT64_C(1000000000);

static int64_t patience_from_now(void)
{
    return rt_clock_after(atomic_load_explicit(&rt_threads_patience, memory_order_relaxed)); /* a setting */
}

static void unlink_from(rt_thread **list, const rt_thread *t, size_t offset)
{
    rt_thread **link = list;
    while (*link && *link != t)
        link = (rt_thread **)(void *)((char *)*link + offset);
    if (*link)
        *link = *(rt_thread **)(void *)((char *)*link + offset);
}

int rt_threads_add(rt_runtime *rt, rt_worker *w)
{
    rt_threads *all = &rt->threads;
    rt_thread *t = aligned_alloc(RT_CACHE_LINE, rt_round_up(sizeof *t, RT_CACHE_LINE));
    if (!t)
        return -ENOMEM;
    memset(t, 0, sizeof *t);
    t->runtime = rt;
    t->worker = w;
    t->seat = w ? w->seat : &rt_no_seat;
    t->fresh = !w;
    atomic_store_explicit(&t->inside, RT_ENTERED_TWICE, memory_order_relaxed); /* nobody else knows it */
    rt_lock_acquire(&all->lock);
    const uint64_t number = all->made++;
    t->next = all->all;
    all->all = t;
    all->count++;
    all->coming += !w;
    rt_lock_release(&all->lock);
    char name[40];
    snprintf(name, sizeof name, "%s-%llu", rt->name, (unsigned long long)number);
    const int rc = rt_thread_create(&t->id, name, w ? w->cpu : -1, all->main, t);
    if (rc != 0) {
        rt_lock_acquire(&all->lock);
        unlink_from(&all->all, t, offsetof(rt_thread, next));
        all->count--;
        all->coming -= !w;
        all->made--;
        rt_lock_release(&all->lock);
        free(t);
    } else if (w) {
        w->holder = t;
    }
    return rc;
}

int rt_threads_more(rt_runtime *rt)
{
    rt_threads *all = &rt->threads;
    rt_lock_acquire(&all->lock);
    const bool coming = all->coming != 0, full = all->count >= rt->worker_count + all->spare_most;
    rt_lock_release(&all->lock);
    return coming ? 0 : full ? -EAGAIN : rt_threads_add(rt, NULL);
}

/* Under lock. */
static void enter_idle(rt_threads *all, rt_thread *t)
{
    atomic_store_explicit(&t->permit, 0, memory_order_relaxed); /* nobody can give one yet */
    t->link = all->idle;
    all->idle = t;
    all->idle_count++;
    all->coming -= t->fresh;
    t->fresh = false;
}

bool rt_threads_wait(rt_thread *t)
{
    rt_threads *all = &t->runtime->threads;
    rt_membarrier_heavy();
    rt_search_check_drained(t->runtime); /* it may have run the last routine */
    rt_lock_acquire(&all->lock);
    bool ends = all->stopping;
    if (!ends)
        enter_idle(all, t);
    rt_lock_release(&all->lock);
    int64_t until = patience_from_now();
    while (!ends && atomic_load_explicit(&t->permit, memory_order_acquire) == 0) { /* pairs with give */
        if (rt_futex_wait(&t->permit, 0, until) != -ETIMEDOUT)
            continue;
        rt_lock_acquire(&all->lock);
        if (atomic_load_explicit(&t->permit, memory_order_relaxed) == 0) { /* locked */
            const size_t before = all->idle_count;
            rt_thread *p = all->idle;
            while (p && p != t)
                p = p->link;
            if (p) { /* else it has been taken out, and a permit will come */
                unlink_from(&all->idle, t, offsetof(rt_thread, link));
                all->idle_count = before - 1;
                ends = true;
            }
        }
        rt_lock_release(&all->lock);
        until = patience_from_now();
    }
    if (!ends && t->worker)
        return true;
    rt_lock_acquire(&all->lock);
    t->link = all->ended;
    all->ended = t;
    rt_lock_release(&all->lock);
    rt_monitor_wake(t->runtime); /* to be joined */
    return false;
}

rt_thread *rt_threads_take_idle(rt_runtime *rt)
{
    rt_threads *all = &rt->threads;
    rt_lock_acquire(&all->lock);
    rt_thread *t = all->idle;
    if (t) {
        all->idle = t->link;
        all->idle_count--;
    }
    rt_lock_release(&all->lock);
    return t;
}

static void permit(rt_thread *t)
{
    /* release: with the worker. Pairs with rt_threads_wait */
    atomic_store_explicit(&t->permit, 1, memory_order_release);
    rt_futex_wake(&t->permit, 1);
}

void rt_threads_give(rt_thread *t, rt_worker *w)
{
    if (w->cpu >= 0)
        rt_thread_pin(t->id, w->cpu);
    t->worker = w;
    t->seat = w->seat;
    w->holder = t;
    permit(t);
}

void rt_threads_put_idle(rt_thread *t)
{
    rt_threads *all = &t->runtime->threads;
    rt_lock_acquire(&all->lock);
    const bool stopping = all->stopping;
    if (!stopping) {
        t->link = all->idle; /* it still waits */
        all->idle = t;
        all->idle_count++;
    }
    rt_lock_release(&all->lock);
    if (stopping)
        permit(t);
}

void rt_threads_bury(rt_runtime *rt)
{
    rt_threads *all = &rt->threads;
    for (;;) {
        rt_lock_acquire(&all->lock);
        rt_thread *t = all->ended;
        if (t) {
            all->ended = t->link;
            unlink_from(&all->all, t, offsetof(rt_thread, next));
            all->count--;
        }
        rt_lock_release(&all->lock);
        if (!t)
            return;
        pthread_join(t->id, NULL);
        free(t);
    }
}

void rt_threads_stop(rt_runtime *rt)
{
    rt_threads *all = &rt->threads;
    rt_lock_acquire(&all->lock);
    all->stopping = true;
    rt_thread *idle = all->idle;
    all->idle = NULL;
    all->idle_count = 0;
    rt_lock_release(&all->lock);
    while (idle) {
        rt_thread *next = idle->link;
        permit(idle);
        idle = next;
    }
    while (all->all) { /* nobody is added any more */
        rt_thread *t = all->all;
        pthread_join(t->id, NULL);
        all->all = t->next;
        free(t);
    }
    all->ended = NULL;
    all->count = 0;
}
