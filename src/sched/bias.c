/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The slow side of bias.h.
 */
#include "bias.h"

#include <stdlib.h>

/* Entries in a row by the lock until it is biased: as many as together cost about what a revocation does. So,
 * whatever comes, no more than twice is paid of what the best choice would have cost (Karlin et al. 1988). */
#define STREAK 128u
#define SPINS  64

/* Who finds it biased to a worker that is using it lets that go on for a while: TENURE looks, of PAUSES each,
 * 10 to 50 microseconds in all. Else two workers that both use it all the time would do little but take it
 * from each other. Up to TENURES of them, where it goes to others meanwhile. */
#define TENURE  64
#define PAUSES  16
#define TENURES 4

/* A revocation costs as much as some two hundred entries by the lock; a bias that held saves about ten. */
#define TRUST_LOST  16
#define TRUST_MOST  64
#define TRUST_LEAST (-256)

rt_seat rt_no_seat;

static struct {
    rt_lock_t lock;
    /* under lock */
    rt_seat *free; /* by link */
    rt_seat *all;  /* by older */
    uint16_t count;
} pool;

rt_seat *rt_seat_get(void)
{
    rt_lock_acquire(&pool.lock);
    rt_seat *seat = pool.free;
    if (seat) {
        pool.free = seat->link;
    } else {
        seat = aligned_alloc(RT_CACHE_LINE, sizeof *seat);
        if (seat) {
            *seat = (rt_seat){.number = pool.count == UINT16_MAX ? 0 : ++pool.count, .older = pool.all};
            pool.all = seat;
        }
    }
    rt_lock_release(&pool.lock);
    return seat;
}

void rt_seat_put(rt_seat *seat)
{
    rt_lock_acquire(&pool.lock);
    seat->link = pool.free;
    pool.free = seat;
    rt_lock_release(&pool.lock);
}

void rt_seat_fork_lock(void)
{
    rt_lock_acquire(&pool.lock);
}

void rt_seat_fork_unlock(void)
{
    rt_lock_release(&pool.lock);
}

void rt_seat_fork_child(void)
{
    pool.free = NULL;
    for (rt_seat *seat = pool.all; seat; seat = seat->older) {
        /* relaxed: there is no other thread */
        atomic_store_explicit(&seat->inside, 0, memory_order_relaxed);
        atomic_store_explicit(&seat->wanted, 0, memory_order_relaxed);
        seat->link = pool.free;
        pool.free = seat;
    }
}

/* relaxed, all: a hint, and nothing is lost if two change it at once */
static int32_t trust(const rt_seat *seat)
{
    return atomic_load_explicit(&seat->trust, memory_order_relaxed);
}

static void set_trust(rt_seat *seat, int32_t value)
{
    atomic_store_explicit(&seat->trust, value, memory_order_relaxed);
}

void rt_seat_wake(rt_seat *seat)
{
    rt_futex_wake(&seat->inside, INT32_MAX);
}

/* Under lock: owner is `seat`, which somebody else holds. */
static void revoke(rt_bias *b, rt_seat *seat)
{
    atomic_store_explicit(&b->owner, NULL, memory_order_release); /* B2 */
    b->moved = true;
    if (trust(seat) > TRUST_LEAST)
        set_trust(seat, trust(seat) - TRUST_LOST);
    atomic_fetch_add_explicit(&seat->wanted, 1, memory_order_relaxed); /* ordered by the barrier, B4 */
    rt_membarrier_heavy();                                             /* B2, B4 */
    const uint32_t then =
        atomic_load_explicit(&seat->inside, memory_order_acquire); /* pairs with rt_seat_go */
    if (then % 2 != 0) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&seat->inside, memory_order_acquire) == then; i++)
            rt_relax();
        while (atomic_load_explicit(&seat->inside, memory_order_acquire) == then) /* as above */
            rt_futex_wait(&seat->inside, then, INT64_MAX);
    }
    atomic_fetch_sub_explicit(&seat->wanted, 1, memory_order_relaxed); /* a wake-up too many is harmless */
}

/* Lets the holder of the seat go on, while it is seen to go in and out. True: it does so still. */
static bool be_polite(const rt_bias *b, const rt_seat *seat)
{
    uint32_t seen = atomic_load_explicit(&seat->inside, memory_order_relaxed); /* a hint, as all here */
    for (int i = 0; i < TENURE; i++) {
        for (int n = 0; n < PAUSES; n++)
            rt_relax();
        const uint32_t now = atomic_load_explicit(&seat->inside, memory_order_relaxed);
        if (now == seen || atomic_load_explicit(&b->owner, memory_order_relaxed) != seat)
            return false;
        seen = now;
    }
    return true;
}

static void set_waits(rt_seat *mine, bool waits)
{
    if (mine->number)
        atomic_store_explicit(&mine->waits, waits, memory_order_relaxed); /* a hint */
}

void rt_bias_lock(rt_bias *b, rt_seat *mine)
{
    const rt_seat *let = NULL; /* whom it was polite to */
    bool contended = false;
    /* a hint; acquire: pairs with B5, the seat is looked at */
    rt_seat *owner = atomic_load_explicit(&b->owner, memory_order_acquire);
    set_waits(mine, true);
    for (int i = 0; i < TENURES; i++) {
        if (owner && owner != mine && owner != let) {
            contended |= be_polite(b, owner);
            let = owner;
        }
        if (!rt_lock_try(&b->lock)) {
            contended = true;
            rt_lock_acquire(&b->lock);
        }
        owner = atomic_load_explicit(&b->owner, memory_order_relaxed); /* written under the lock */
        if (!owner || owner == mine || owner == let)
            break;
        if (i + 1 < TENURES)
            rt_lock_release(&b->lock); /* it went to another one while this one waited */
    }
    if (RT_UNLIKELY(owner && owner != mine))
        revoke(b, owner);
    set_waits(mine, false);
    if (owner == mine) /* B2: nobody else can enter, by either way */
        return;
    b->moved |= b->last != mine->number && b->last != 0;
    b->streak = b->last == mine->number ? b->streak + 1 : 0;
    b->last = mine->number;
    if (RT_UNLIKELY(contended || b->streak >= STREAK) && mine->number && rt_membarrier_works) {
        b->streak = 0;
        /* B5. release: who finds it sees what was done under the lock before */
        atomic_store_explicit(&b->owner, mine, memory_order_release);
    }
}

void rt_bias_init(rt_bias *b, rt_seat *mine)
{
    const bool biased = mine->number && rt_membarrier_works && trust(mine) >= 0;
    *b = (rt_bias){.last = mine->number};
    atomic_store_explicit(&b->owner, biased ? mine : NULL,
                          memory_order_relaxed); /* nobody else knows it yet */
}

void rt_bias_end(const rt_bias *b, rt_seat *mine)
{
    /* Never used by anybody else: objects do stay here. */
    if (!b->moved && b->last == mine->number && trust(mine) < TRUST_MOST)
        set_trust(mine, trust(mine) + 1);
}
