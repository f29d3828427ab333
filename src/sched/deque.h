/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The Chase-Lev work-stealing deque: one owner pushes and takes at the
 * bottom, any thread steals at the top.
 *
 * Chase and Lev 2005, "Dynamic circular work-stealing deque"; the C11 orders
 * after Lê, Pop, Cohen and Zappa Nardelli 2013, "Correct and efficient
 * work-stealing for weak memory models", with two differences: the order stands
 * on the operations and not in fences (ThreadSanitizer knows no fences, and
 * clang makes an mfence of one), and every store of bottom releases (their
 * relaxed restore in take breaks the release sequence of an earlier push since C++20,
 * and a thief could then read a slot before it was written).
 *
 * The argument, by steps that the code cites:
 *
 *  D1 push writes the slot, then releases bottom; a thief acquires bottom, so it sees the slot of
 *     every index below the bottom it read.
 *  D2 Nobody but the owner writes bottom; top only grows, by one, by compare-and-swap (or by the
 *     owner alone, D6): an index is handed to one thief at most.
 *  D3 take announces: it lowers bottom to b, then reads top. steal reads top, then bottom. All four
 *     are seq_cst, so of a take and a steal of the same index b at least one sees the other: the
 *     thief that read top = b after somebody's increment finds bottom = b and leaves; or the owner
 *     finds top >= b.
 *  D4 If the owner finds top < b the item is its own: no thief can still get to b, as it would have
 *     to read top = b, written after the owner's read of top and so after bottom = b in the order
 *     of D3, and then would see that bottom. If it finds top = b, owner and thieves settle it by
 *     the compare-and-swap.
 *  D5 A ring is replaced by one of twice the size, with the same items, published by release. A
 *     thief may still read the old ring: rings are kept until the deque is destroyed (all the old
 *     ones together are smaller than the last). A slot it reads there cannot have been overwritten,
 *     unless top has moved on, and then its compare-and-swap fails.
 *
 *  D6 Most of the time no thief is near, and then the owner needs neither barrier nor
 *     compare-and-swap. The owner sets owner_in, light barrier, reads thieves; a thief
 *     counts itself in thieves, heavy barrier, reads owner_in, and leaves at once if it is
 *     set (membarrier.h: not both see nothing). So while the owner is in and has
 *     seen no thieves, nobody else reads or changes top: it may lower bottom past the item and take
 *     it, even the last one (top stays, bottom = top: empty; the next push uses the index again). A
 *     thief that comes later reads top and bottom behind its barrier, so it sees all that. If the owner
 *     has seen thieves, D3 and D4 it is. Nobody ever waits for the other.
 *
 *  D7 Under the same terms the owner may take an item from elsewhere: the oldest one by raising top; one of
 *     the newest by putting the very newest in its place and lowering bottom past that.
 *
 * On x86-64 the announcement of D3 in rt_deque_take_begin is a plain store, followed by the
 * locked instruction of the caller's claim before top is read: a locked instruction is a
 * full barrier there. Elsewhere it is a seq_cst store (AArch64: stlr, the same instruction as
 * a release).
 *
 * What the entries mean is the scheduler's business: an item is an opaque pointer.
 */
#ifndef RT_SCHED_DEQUE_H
#define RT_SCHED_DEQUE_H

#include "../os/membarrier.h"

typedef struct rt_ring {
    int64_t mask; /* capacity - 1 */
    struct rt_ring *older;
    _Atomic(void *) slots[];
} rt_ring;

typedef struct {
    /* thieves and owner, by compare-and-swap (D2) */
    RT_ALIGNED _Atomic int64_t top;
    _Atomic uint32_t thieves; /* D6 */
    /* written by the owner, read by thieves (D1, D3, D5) */
    RT_ALIGNED _Atomic int64_t bottom;
    _Atomic(rt_ring *) ring;
    _Atomic uint32_t owner_in; /* D6 */
    /* owner only: a top that was true once, so never too large */
    int64_t top_seen;
} rt_deque;

/* 64-bit indices never wrap: at an item a nanosecond that takes 292 years. */

/* The order of the announcement when a locked instruction follows: see the head. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define RT_DEQUE_ANNOUNCE memory_order_release
#else
#define RT_DEQUE_ANNOUNCE memory_order_seq_cst
#endif

/* An empty deque. false: no memory. */
bool rt_deque_init(rt_deque *d);
void rt_deque_destroy(rt_deque *d);

/* Owner: doubles the ring. false: no memory, nothing changed. */
bool rt_deque_grow(rt_deque *d);

/* Owner: the newest item, or NULL. */
void *rt_deque_take(rt_deque *d);

/* Owner, or a thief that has entered: the oldest item; NULL: there was none, or another was faster. */
void *rt_deque_take_oldest(rt_deque *d);

/* A thief comes to the deque, to take with rt_deque_take_oldest, and goes again (D6). False: the owner is at
 * it just now. About half a microsecond. */
bool rt_deque_enter(rt_deque *d);
void rt_deque_leave(rt_deque *d);

/* Both, and one take between: the oldest item; NULL: there was none, or somebody else is at it. */
void *rt_deque_steal(rt_deque *d);

/* Anybody: how many items it seems to have. A hint: never negative. */
RT_INLINE int64_t rt_deque_size(const rt_deque *d)
{
    /* relaxed: a hint, checked by whoever acts on it; the re-check before a sleep is ordered by its own
     * barrier (idle.h) */
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);
    const int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed);
    return b > t ? b - t : 0;
}

/* Anybody: the oldest item as it stands now, without taking it; NULL: none. A hint. */
void *rt_deque_peek(const rt_deque *d);

/* Owner: looks at top anew. False: there is no room without growing. */
bool rt_deque_room(rt_deque *d);

/* Owner: adds the newest item. False: there is no room. */
RT_INLINE bool rt_deque_push(rt_deque *d, void *item)
{
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own */
    rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);     /* own */
    const int64_t mask = ring->mask;
    if (RT_UNLIKELY(b - d->top_seen > mask) && !rt_deque_room(d))
        return false;
    atomic_store_explicit(&ring->slots[b & mask], item, memory_order_relaxed); /* D1: released below */
    atomic_store_explicit(&d->bottom, b + 1, memory_order_release);            /* D1 */
    return true;
}

/* Owner: is `item` the newest one? It may be stolen at any moment. */
RT_INLINE bool rt_deque_is_newest(const rt_deque *d, const void *item)
{
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own */
    const rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);   /* own */
    /* an empty deque may show an old pointer: harmless, rt_deque_take_settle finds that out. Never NULL */
    return atomic_load_explicit(&ring->slots[b & ring->mask], memory_order_relaxed) == item; /* own */
}

/* A take under way. */
typedef struct {
    int64_t b;  /* the index */
    bool alone; /* no thieves (D6) */
} rt_deque_taking;

/* Owner: begins to take the newest item, which must be there or seem so (rt_deque_is_newest). Between this
 * and rt_deque_take_end or _abandon the caller executes a seq_cst read-modify-write (D3), and nothing that
 * takes long. */
RT_INLINE rt_deque_taking rt_deque_take_begin(rt_deque *d)
{
    rt_deque_taking taking;
    atomic_store_explicit(&d->owner_in, 1, memory_order_relaxed); /* D6 */
    rt_membarrier_light();
    taking.alone =
        atomic_load_explicit(&d->thieves, memory_order_acquire) == 0;      /* D6; pairs with steal's end */
    taking.b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own */
    atomic_store_explicit(&d->bottom, taking.b, RT_DEQUE_ANNOUNCE);        /* D3 */
    return taking;
}

/* Owner: takes the beginning back; the item stays. */
RT_INLINE void rt_deque_take_abandon(rt_deque *d, rt_deque_taking taking)
{
    atomic_store_explicit(&d->bottom, taking.b + 1, memory_order_release); /* as every store of bottom */
    atomic_store_explicit(&d->owner_in, 0, memory_order_release);          /* D6 */
}

/* The end of a take when thieves were seen: D4. */
bool rt_deque_take_settle(rt_deque *d, int64_t b);

/* Owner: true if the item is the caller's now; false: it was not there, or a thief has it. */
RT_INLINE bool rt_deque_take_end(rt_deque *d, rt_deque_taking taking)
{
    if (RT_UNLIKELY(!taking.alone))
        return rt_deque_take_settle(d, taking.b);
    /* relaxed: nobody changes it now (D6), and what a thief wrote before was acquired at the beginning */
    if (RT_UNLIKELY(atomic_load_explicit(&d->top, memory_order_relaxed) > taking.b)) {
        rt_deque_take_abandon(d, taking);
        return false;
    }
    atomic_store_explicit(&d->owner_in, 0, memory_order_release); /* D6 */
    return true;
}

#define RT_DEQUE_NEAR 16 /* so many of the newest are searched: two cache lines */

/* Owner, alone (D6): takes `item` out if it is the oldest one or among the newest (D7). */
RT_INLINE bool rt_deque_remove_alone(rt_deque *d, void *item)
{
    rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed); /* own */
    const int64_t mask = ring->mask;
    const int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed);        /* nobody changes it now */
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own */
    if (t > b)
        return false;
    if (atomic_load_explicit(&ring->slots[t & mask], memory_order_relaxed) == item) {
        atomic_store_explicit(&d->top, t + 1,
                              memory_order_release); /* seen by thieves behind their barrier */
        return true;
    }
    const int64_t end = b - t < RT_DEQUE_NEAR ? t : b - RT_DEQUE_NEAR;
    for (int64_t i = b; i > end; i--) {
        if (atomic_load_explicit(&ring->slots[i & mask], memory_order_relaxed) == item) { /* own */
            atomic_store_explicit(&ring->slots[i & mask],
                                  atomic_load_explicit(&ring->slots[b & mask], memory_order_relaxed),
                                  memory_order_relaxed);                /* released below */
            atomic_store_explicit(&d->bottom, b, memory_order_release); /* as every store of bottom */
            return true;
        }
    }
    return false;
}

/* Owner: takes `item` out, wherever it is, if that is easy (D7) and no thief is near. */
RT_INLINE bool rt_deque_remove(rt_deque *d, void *item)
{
    atomic_store_explicit(&d->owner_in, 1, memory_order_relaxed); /* D6 */
    rt_membarrier_light();
    const bool removed = RT_LIKELY(atomic_load_explicit(&d->thieves, memory_order_acquire) ==
                                   0) && /* D6; pairs with steal's end */
                         rt_deque_remove_alone(d, item);
    atomic_store_explicit(&d->owner_in, 0, memory_order_release); /* D6 */
    return removed;
}

#endif
