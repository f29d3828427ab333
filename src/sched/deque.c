/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See deque.h for the argument; the steps D1 to D5 are cited here.
 */
#include "deque.h"

#include <stdlib.h>

#define FIRST_CAPACITY 256

static rt_ring *ring_new(int64_t capacity, rt_ring *older)
{
    rt_ring *ring = malloc(sizeof *ring + (size_t)capacity * sizeof ring->slots[0]);
    if (!ring)
        return NULL;
    ring->mask = capacity - 1;
    ring->older = older;
    return ring;
}

bool rt_deque_init(rt_deque *d)
{
    rt_ring *ring = ring_new(FIRST_CAPACITY, NULL);
    if (!ring)
        return false;
    for (int64_t i = 0; i < FIRST_CAPACITY; i++) /* rt_deque_is_newest looks at slots never pushed */
        atomic_init(&ring->slots[i], ring);      /* which is no item */
    /* index 1: rt_deque_is_newest looks at bottom - 1 */
    atomic_init(&d->top, 1);
    atomic_init(&d->bottom, 1);
    atomic_init(&d->ring, ring);
    atomic_init(&d->thieves, 0);
    atomic_init(&d->owner_in, 0);
    d->top_seen = 1;
    return true;
}

void rt_deque_destroy(rt_deque *d)
{
    rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed); /* nobody else is left */
    while (ring) {
        rt_ring *older = ring->older;
        free(ring);
        ring = older;
    }
    atomic_store_explicit(&d->ring, NULL, memory_order_relaxed);
}

bool rt_deque_room(rt_deque *d)
{
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);   /* own */
    const rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed); /* own */
    d->top_seen =
        atomic_load_explicit(&d->top, memory_order_acquire); /* pairs with steal: slots below are free */
    return b - d->top_seen <= ring->mask;
}

bool rt_deque_grow(rt_deque *d)
{
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own */
    rt_ring *old = atomic_load_explicit(&d->ring, memory_order_relaxed);      /* own */
    rt_ring *ring = ring_new(2 * (old->mask + 1), old);
    if (!ring)
        return false;
    for (int64_t i = b - 1 - old->mask; i < b; i++) { /* the whole old ring, so bottom - 1 is there too */
        void *item = atomic_load_explicit(&old->slots[i & old->mask], memory_order_relaxed); /* own */
        atomic_store_explicit(&ring->slots[i & ring->mask], item, memory_order_relaxed);
    }
    for (int64_t i = b; i <= b + old->mask; i++)
        atomic_init(&ring->slots[i & ring->mask], ring);
    atomic_store_explicit(&d->ring, ring, memory_order_release); /* D5 */
    return true;
}

bool rt_deque_take_settle(rt_deque *d, int64_t b)
{
    int64_t t = atomic_load_explicit(&d->top, memory_order_seq_cst); /* D3 */
    bool won = true;                                                 /* D4: t < b */
    if (t >= b) {
        won = t == b && /* D4; seq_cst: pairs with steal's */
              atomic_compare_exchange_strong_explicit(&d->top, &t, t + 1, memory_order_seq_cst,
                                                      memory_order_relaxed);
        atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* as every store of bottom */
    }
    atomic_store_explicit(&d->owner_in, 0, memory_order_release); /* D6 */
    return won;
}

void *rt_deque_take(rt_deque *d)
{
    /* acquire: whatever top is now, it was at least this */
    if (atomic_load_explicit(&d->bottom, memory_order_relaxed) <= /* own */
        atomic_load_explicit(&d->top, memory_order_acquire))
        return NULL;
    const rt_deque_taking taking = rt_deque_take_begin(d);
    if (!taking.alone) /* D3: the barrier between bottom and top; and a release, as all */
        atomic_exchange_explicit(&d->bottom, taking.b, memory_order_seq_cst);
    rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);                         /* own */
    void *item = atomic_load_explicit(&ring->slots[taking.b & ring->mask], memory_order_relaxed); /* own */
    return rt_deque_take_end(d, taking) ? item : NULL;
}

void *rt_deque_take_oldest(rt_deque *d)
{
    int64_t t = atomic_load_explicit(&d->top, memory_order_seq_cst);          /* D3 */
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_seq_cst); /* D3, D1 */
    if (t >= b)
        return NULL;
    rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_acquire); /* D5 */
    /* relaxed: D1 ordered the write before; if it is overwritten meanwhile, top has moved */
    void *item = atomic_load_explicit(&ring->slots[t & ring->mask], memory_order_relaxed);
    /* D2, D4. The failure order is relaxed: nothing is used then */
    return atomic_compare_exchange_strong_explicit(&d->top, &t, t + 1, memory_order_seq_cst,
                                                   memory_order_relaxed)
               ? item
               : NULL;
}

#define ENTER_TRIES 64 /* the owner is in for some nanoseconds, unless it is preempted */

bool rt_deque_enter(rt_deque *d)
{
    atomic_fetch_add_explicit(&d->thieves, 1, memory_order_seq_cst); /* D6 */
    rt_membarrier_heavy();
    /* Once it is seen outside, it stays with compare-and-swap as long as we are counted. */
    for (int i = 0; i < ENTER_TRIES; i++) {
        if (!atomic_load_explicit(&d->owner_in,
                                  memory_order_acquire)) /* D6; pairs with the owner's way out */
            return true;
        rt_relax();
    }
    rt_deque_leave(d);
    return false;
}

void rt_deque_leave(rt_deque *d)
{
    atomic_fetch_sub_explicit(&d->thieves, 1, memory_order_release); /* D6 */
}

void *rt_deque_steal(rt_deque *d)
{
    if (rt_deque_size(d) == 0 || !rt_deque_enter(d))
        return NULL;
    void *item = rt_deque_take_oldest(d);
    rt_deque_leave(d);
    return item;
}

void *rt_deque_peek(const rt_deque *d)
{
    const int64_t t = atomic_load_explicit(&d->top, memory_order_acquire);
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_acquire); /* D1 */
    if (t >= b)
        return NULL;
    rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_acquire); /* D5 */
    return atomic_load_explicit(&ring->slots[t & ring->mask], memory_order_relaxed);
}
