/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See poller.h, whose steps E1 to E5 are cited here.
 */
#include "poller.h"

#include <errno.h>
#include <stdlib.h>

#include "../os/clock.h"
#include "../os/pages.h"

#define ROUND      (100 * INT64_C(1000000)) /* ns between rounds (E5) */
#define ROUND_REST INT64_C(1000000)         /* ns between the parts of one, */
#define ROUND_MOST 256                      /* each with at most so many system calls */

#define WANTED                                                                                               \
    ((uint32_t)EPOLLIN | (uint32_t)EPOLLOUT | (uint32_t)EPOLLPRI | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET)

/* Events that end a wait for reading, for writing; and after which no other may come (E2). */
#define FOR_IN                                                                                               \
    ((uint32_t)EPOLLIN | (uint32_t)EPOLLPRI | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLHUP | (uint32_t)EPOLLERR)
#define FOR_OUT ((uint32_t)EPOLLOUT | (uint32_t)EPOLLHUP | (uint32_t)EPOLLERR)
#define LAST    ((uint32_t)EPOLLPRI | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLHUP | (uint32_t)EPOLLERR)

#define INTERRUPTION UINT64_MAX /* the data of the eventfd's events */

/* ---- its life ---- */

/* In whole pages, of which a large chunk only has those that are used. */
static size_t chunk_size(unsigned k)
{
    const size_t count = k == 0 ? RT_POLLER_FIRST : (size_t)(RT_POLLER_FIRST / 2) << k;
    return rt_round_up(count * sizeof(rt_fd), rt_pages_size());
}

void rt_poller_init(rt_poller *p)
{
    /* relaxed, all: nobody else is there yet */
    atomic_store_explicit(&p->epoll, -1, memory_order_relaxed);
    p->event = -1;
    atomic_store_explicit(&p->round_at, INT64_MAX, memory_order_relaxed);
}

/* Under `starting`. */
static int start(rt_poller *p)
{
    const int epoll = rt_epoll_create();
    if (epoll < 0)
        return epoll;
    int rc = -ENOMEM;
    const int event = rt_epoll_event_create();
    struct epoll_event *batch = malloc(RT_POLLER_BATCH * sizeof *batch);
    if (event < 0)
        rc = event;
    else if (batch)
        rc = rt_epoll_ctl(epoll, EPOLL_CTL_ADD, event, (uint32_t)EPOLLIN, INTERRUPTION);
    if (rc != 0) {
        if (event >= 0)
            rt_epoll_close(event);
        rt_epoll_close(epoll);
        free(batch);
        return rc;
    }
    p->event = event;
    p->batch = batch;
    atomic_store_explicit(&p->epoll, epoll, memory_order_release); /* pairs with rt_poller_epoll */
    return 0;
}

int rt_poller_start(rt_poller *p)
{
    rt_lock_acquire(&p->starting);
    const int rc = rt_poller_epoll(p) >= 0 ? 0 : start(p);
    rt_lock_release(&p->starting);
    return rc;
}

void rt_poller_end(rt_poller *p)
{
    const int epoll = rt_poller_epoll(p);
    if (epoll < 0)
        return;
    atomic_store_explicit(&p->epoll, -1, memory_order_relaxed); /* its threads have ended */
    rt_epoll_close(epoll);
    rt_epoll_close(p->event);
}

void rt_poller_free(rt_poller *p)
{
    for (unsigned k = 0; k < RT_POLLER_CHUNKS; k++) {
        rt_fd *chunk =
            atomic_load_explicit(&p->chunks[k], memory_order_relaxed); /* nobody else is there any more */
        if (chunk)
            rt_pages_release(chunk, chunk_size(k));
    }
    free(p->batch);
}

void rt_poller_fork_child(rt_poller *p)
{
    const int epoll = rt_poller_epoll(p);
    if (epoll < 0)
        return;
    rt_epoll_close(epoll);
    rt_epoll_close(p->event);
}

/* ---- records ---- */

rt_fd *rt_poller_make(rt_poller *p, int fd)
{
    rt_fd *f = rt_poller_find(p, fd);
    if (RT_LIKELY(f != NULL))
        return f;
    const unsigned k = rt_poller_chunk(fd);
    rt_lock_acquire(&p->starting);
    if (!atomic_load_explicit(&p->chunks[k], memory_order_relaxed)) /* written under the lock */
        atomic_store_explicit(&p->chunks[k], rt_pages_reserve(chunk_size(k), rt_pages_size()),
                              memory_order_release); /* pairs with rt_poller_find */
    rt_lock_release(&p->starting);
    return rt_poller_find(p, fd);
}

rt_fd *rt_poller_make_if_open(rt_poller *p, int fd)
{
    rt_fd *f = rt_poller_find(p, fd);
    if (RT_LIKELY(f != NULL))
        return f;
    return fd < RT_POLLER_LARGE || rt_epoll_is_open(fd) ? rt_poller_make(p, fd) : NULL;
}

static uint64_t data_of(const rt_fd *f, int fd)
{
    return (uint64_t)rt_fd_generation(f) << 32 | (uint32_t)fd;
}

/* Under lock: E1. release: pairs with rt_fd_events */
static void count_event(rt_fd *f, int direction)
{
    const uint32_t before =
        atomic_load_explicit(&f->events[direction], memory_order_relaxed); /* written under the lock */
    atomic_store_explicit(&f->events[direction], before + 1, memory_order_release);
}

/* Under lock. */
static void set_registered(rt_fd *f, bool registered)
{
    atomic_store_explicit(&f->registered, registered, memory_order_relaxed); /* written under the lock */
}

/* Under lock. */
static void set_age(rt_fd *f, uint8_t age)
{
    atomic_store_explicit(&f->age, age, memory_order_relaxed); /* written under the lock; without, a hint */
}

int rt_poller_register(rt_poller *p, rt_fd *f, int fd)
{
    uint32_t most = atomic_load_explicit(&p->end_fd, memory_order_relaxed); /* as in sweep */
    while ((uint32_t)fd >= most &&
           !atomic_compare_exchange_weak_explicit(&p->end_fd, &most, (uint32_t)fd + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
        continue;
    if (RT_LIKELY(rt_fd_is_registered(f)))
        return 0;
    const int epoll = rt_poller_epoll(p);
    const uint64_t data = data_of(f, fd);
    int rc = rt_epoll_ctl(epoll, EPOLL_CTL_ADD, fd, WANTED, data);
    if (rc == -EEXIST) /* E3 */
        rc = rt_epoll_ctl(epoll, EPOLL_CTL_MOD, fd, WANTED, data);
    set_registered(f, rc == 0);
    return rc;
}

/* Under lock: takes out all waiters, with this result. */
static rt_waiter **take_both(rt_fd *f, int32_t result, rt_waiter **end)
{
    end = rt_queue_take_all(&f->waiters[RT_FD_IN], result, end);
    return rt_queue_take_all(&f->waiters[RT_FD_OUT], result, end);
}

rt_waiter **rt_poller_forget(rt_poller *p, rt_fd *f, int fd, rt_waiter **end)
{
    rt_lock_acquire(&f->lock);
    if (rt_fd_is_registered(f))
        (void)rt_epoll_ctl(rt_poller_epoll(p), EPOLL_CTL_DEL, fd, 0, 0);
    set_registered(f, false);
    /* relaxed: written under the lock, compared under the lock */
    atomic_store_explicit(&f->generation, rt_fd_generation(f) + 1, memory_order_relaxed);
    atomic_store_explicit(&f->kind, 0, memory_order_relaxed);
    atomic_store_explicit(&f->always_try, false, memory_order_relaxed);
    count_event(f, RT_FD_IN); /* it is nothing that a short read has drained */
    count_event(f, RT_FD_OUT);
    end = take_both(f, -ECANCELED, end);
    rt_lock_release(&f->lock);
    return end;
}

rt_waiter **rt_poller_settle(rt_fd *f, rt_waiter **end)
{
    rt_lock_acquire(&f->lock);
    if (rt_fd_is_registered(f)) {
        set_registered(f, false);
        end = take_both(f, 0, end);
    }
    rt_lock_release(&f->lock);
    return end;
}

/* ---- events ---- */

static rt_waiter **note(rt_poller *p, const struct epoll_event *e, rt_waiter **end)
{
    if (e->data.u64 == INTERRUPTION)
        return end;
    const uint32_t what = e->events;
    rt_fd *f = rt_poller_find(p, (int)(uint32_t)e->data.u64); /* it was registered: it exists */
    rt_lock_acquire(&f->lock);
    if (RT_LIKELY(rt_fd_generation(f) == e->data.u64 >> 32)) { /* E3 */
        if (RT_UNLIKELY(what & LAST))
            atomic_store_explicit(&f->always_try, true, memory_order_relaxed); /* seen with the count (E2) */
        if (what & FOR_IN) {
            count_event(f, RT_FD_IN);
            end = rt_queue_take_all(&f->waiters[RT_FD_IN], 0, end);
        }
        if (what & FOR_OUT) {
            count_event(f, RT_FD_OUT);
            end = rt_queue_take_all(&f->waiters[RT_FD_OUT], 0, end);
        }
        set_age(f, 0); /* the registration is good */
    }
    rt_lock_release(&f->lock);
    return end;
}

int rt_poller_poll(rt_poller *p, struct epoll_event *events, int64_t until, rt_waiter ***end)
{
    const int n = rt_epoll_wait(rt_poller_epoll(p), events, RT_POLLER_BATCH, until);
    for (int i = 0; i < n; i++)
        *end = note(p, &events[i], *end);
    atomic_store_explicit(&p->polled_at, rt_clock_now(), memory_order_relaxed); /* a hint */
    return n;
}

/* ---- rounds (E5) ---- */

void rt_poller_plan_round(rt_poller *p)
{
    int64_t none = INT64_MAX;
    /* relaxed: if another has planned one meanwhile, that will do */
    atomic_compare_exchange_strong_explicit(&p->round_at, &none, rt_clock_now() + ROUND, memory_order_relaxed,
                                            memory_order_relaxed);
}

/* Under the record's lock: asks the kernel. */
static rt_waiter **verify(rt_poller *p, rt_fd *f, int fd, rt_waiter **end)
{
    set_age(f, 0);
    int rc = rt_epoll_ctl(rt_poller_epoll(p), EPOLL_CTL_MOD, fd, WANTED, data_of(f, fd));
    if (RT_LIKELY(rc == 0))
        return end;
    set_registered(f, false);
    atomic_store_explicit(&f->kind, 0,
                          memory_order_relaxed); /* it is something else by now; under the lock */
    if (rc == -ENOENT && (rc = rt_poller_register(p, f, fd)) == 0)
        return end;
    /* nothing to wait for; or there is no memory: their next try will tell */
    count_event(f, RT_FD_IN);
    count_event(f, RT_FD_OUT);
    return take_both(f, rc == -EBADF ? rc : 0, end);
}

/* One record of a round. True: that took a system call. */
static bool look_at(rt_poller *p, rt_fd *f, int fd, rt_waiter ***end)
{
    bool asked = false;
    if (rt_fd_age(f) == 0)
        return false;
    rt_lock_acquire(&f->lock);
    const uint8_t age = rt_fd_age(f);
    if (rt_queue_is_empty(&f->waiters[RT_FD_IN]) && rt_queue_is_empty(&f->waiters[RT_FD_OUT])) {
        set_age(f, 0);
    } else if (age == 1) {
        set_age(f, 2);
        p->some = true;
    } else if (age == 2) {
        *end = verify(p, f, fd, *end);
        asked = true;
    }
    rt_lock_release(&f->lock);
    return asked;
}

/* Under `sweeping`: the rest of a round, or as much as is allowed at once. True: the round is over. */
static bool sweep(rt_poller *p, rt_waiter ***end)
{
    int left = ROUND_MOST;
    /* relaxed: who waits has noted it before (E5) */
    const uint32_t end_fd = atomic_load_explicit(&p->end_fd, memory_order_relaxed);
    for (unsigned k = rt_poller_chunk((int)p->cursor); k < RT_POLLER_CHUNKS; k++) {
        rt_fd *chunk = atomic_load_explicit(&p->chunks[k], memory_order_acquire); /* as rt_poller_find */
        const uint32_t first = k == 0 ? 0 : (uint32_t)(RT_POLLER_FIRST / 2) << k;
        const uint32_t end_k = k == 0 ? RT_POLLER_FIRST : 2 * first, last = end_k < end_fd ? end_k : end_fd;
        if (!chunk)
            continue;
        for (uint32_t fd = p->cursor > first ? p->cursor : first; fd < last; fd++)
            if (look_at(p, chunk + (fd - first), (int)fd, end) && --left == 0 && fd != INT32_MAX) {
                p->cursor = fd + 1;
                return false;
            }
    }
    p->cursor = 0;
    return true;
}

rt_waiter **rt_poller_round(rt_poller *p, int64_t now, rt_waiter **end)
{
    if (!rt_lock_try(&p->sweeping))
        return end;
    if (rt_poller_round_at(p) <= now) {
        int64_t next = now + ROUND;
        if (p->cursor == 0) {
            p->some = false;
            atomic_store_explicit(&p->fresh, false, memory_order_relaxed); /* E5: ordered by the barrier */
            rt_membarrier_heavy(); /* who has still read it as true is found by his record's age */
        }
        if (!sweep(p, &end)) {
            next = now + ROUND_REST;
        } else if (!p->some) {
            atomic_store_explicit(&p->round_at, INT64_MAX, memory_order_relaxed); /* E5 */
            rt_membarrier_heavy();
            if (!atomic_load_explicit(&p->fresh, memory_order_relaxed)) /* E5 */
                next = INT64_MAX;
        }
        if (next != INT64_MAX)
            atomic_store_explicit(&p->round_at, next, memory_order_relaxed); /* E5 */
    }
    rt_lock_release(&p->sweeping);
    return end;
}
