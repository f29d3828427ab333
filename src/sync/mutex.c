/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The mutex: one word, and a queue for those who wait.
 *
 * As in Go (sync/mutex.go) a released mutex is free for whoever comes first, which is
 * fast, since a running routine can take it many times while the one that was woken for it is
 * on its way; and whoever has waited for longer than HANDOVER gets it handed.
 *
 *  M1 `word` is the id of the holder, or 0, and two flags. It becomes a holder by compare-and-swap
 *     from no holder, by anybody. WAITERS is set under `lock`, while it is held, and goes with the
 *     release; if it is set and COMING is not, the release is done under lock.
 *  M2 Who finds it held enters itself into the queue under lock, having set WAITERS in the word of
 *     the holder: so that one's release comes to lock, and finds it.
 *  M3 A release with waiters takes the first one out of the queue, leaves lock, and frees the word
 *     but for COMING: this is its last touch, since the next holder may free the mutex. Then it
 *     makes that waiter ready, which is now *on its way*, noted in `coming`. It comes back under
 *     lock, clears COMING, and either takes the mutex, with WAITERS if others are in the queue, or
 *     goes back to the head of the queue (M2). So while somebody is on his way the word need not
 *     have WAITERS.
 *  M4 A release that leaves the word with COMING looks at the clock, now and then, the more often
 *     the longer the sections are. When the one on its way has waited for too long since it first
 *     came (there may be no CPU for it until others let go of theirs), it is made the holder
 *     instead, by compare-and-swap from the very word that has COMING: so it has not come
 *     meanwhile. That is the last touch; the one on its way clears `coming` when it comes.
 *  M5 If `handover` is set, by one that has come too late for too long, the release makes the first
 *     waiter the holder. Neither this nor M4 soon after the last time: after a handover everybody who
 *     locks has to wait for a switch, and of a thousand waiters each has waited long.
 *  M6 One that gives up (wait.h) before a release has chosen it takes itself out of the queue;
 *     WAITERS may stay without anybody in the queue, and the release finds that out. One that was
 *     chosen comes in any case (M3), and if it does not take the mutex it has cleared COMING and
 *     set WAITERS: then it may give up, and the next release chooses another.
 */
#include <string.h>

#include "../os/clock.h"
#include "sync.h"

#define HANDOVER INT64_C(1000000) /* ns */
#define RECOVERY INT64_C(100000)  /* ns between handovers, at least */
#define SPINS    30               /* looks, before it waits: a section may be over by then */

#define LOOKS 64 /* at most so many releases past one on its way for one look at the clock */

#define FLAG_BITS 2
#define WAITERS   ((uint64_t)1)
#define COMING    ((uint64_t)2)
#define FLAGS     (WAITERS | COMING)

typedef struct {
    _Atomic uint64_t word;
    rt_lock_t lock;
    /* the holder's */
    uint16_t passed; /* releases past the one on its way, about */
    uint8_t looks;   /* and those until the next look at the clock */
    /* under lock */
    bool handover;
    rt_queue queue;
    rt_waiter *coming; /* on its way; null: nobody */
    int64_t handed_at; /* when that was last */
    /* the holder's, too */
    int64_t looked_at; /* when it first looked at the clock, past the one on its way */
} mutex;

RT_SYNC_FITS(routine_mutex_t, mutex);

/* One who waits. */
typedef struct {
    rt_waiter waiter;
    int64_t since; /* when it came */
} pending;

RT_INLINE mutex *inside(routine_mutex_t *m)
{
    return (mutex *)(void *)m;
}

RT_INLINE uint64_t word_of(const rt_block *r)
{
    return rt_sync_id(r) << FLAG_BITS;
}

void routine_mutex_init(routine_mutex_t *m)
{
    if (m)
        memset(m, 0, sizeof *m);
}

bool rt_mutex_is_held(const routine_mutex_t *m, const rt_block *by)
{
    const mutex *x = (const mutex *)(const void *)m;
    /* relaxed: that it is the caller itself is told by its own writes alone */
    return (atomic_load_explicit(&x->word, memory_order_relaxed) & ~FLAGS) == word_of(by);
}

/* Takes it, if it is free. *word: what it was. */
RT_INLINE bool try_lock(mutex *m, rt_block *me, uint64_t *word)
{
    *word = atomic_load_explicit(&m->word, memory_order_relaxed); /* the compare-and-swap decides */
    /* acquire: pairs with the release of who held it before */
    return (*word & ~FLAGS) == 0 &&
           atomic_compare_exchange_strong_explicit(&m->word, word, *word | word_of(me), memory_order_acquire,
                                                   memory_order_relaxed);
}

static int64_t since(const rt_waiter *w)
{
    return RT_CONTAINER_OF(w, const pending, waiter)->since;
}

/* Has it been made the holder by another? acquire: pairs with the store of who did. */
static bool was_handed(const mutex *m, const rt_block *me)
{
    return (atomic_load_explicit(&m->word, memory_order_acquire) & ~FLAGS) == word_of(me);
}

/* Under lock: takes it, if it is free, with WAITERS if others wait; else sees to it that its release comes to
 * the queue (M2). `come`: it was on its way. */
static bool take_or_mark(mutex *m, rt_block *me, bool come)
{
    uint64_t word = atomic_load_explicit(&m->word, memory_order_relaxed); /* the compare-and-swap decides */
    for (;;) {
        if ((word & ~FLAGS) == word_of(me)) /* M4, just now */
            return was_handed(m, me);
        const bool free = (word & ~FLAGS) == 0;
        uint64_t wanted =
            free ? word | word_of(me) | (rt_queue_is_empty(&m->queue) ? 0 : WAITERS) : word | WAITERS;
        if (come)
            wanted &= ~COMING;
        /* acquire: as in try_lock */
        if (atomic_compare_exchange_weak_explicit(&m->word, &word, wanted, memory_order_acquire,
                                                  memory_order_relaxed))
            return free;
    }
}

/* Under lock, which is left: waits until it has the mutex. deaf: whatever happens. 0, -ECANCELED, -ETIMEDOUT.
 */
static int queue_up(mutex *m, rt_block *me, bool deaf)
{
    pending p = {.waiter = {.who = me}, .since = rt_clock_now()};
    int rc = 0;
    rt_queue_append(&m->queue, &p.waiter);
    for (;;) {
        p.waiter.result = RT_PENDING;
        rc = rt_wait_locked(&m->lock, &p.waiter, deaf);
        rt_lock_acquire(&m->lock);  /* M3 */
        if (RT_UNLIKELY(rc != 0)) { /* M6 */
            if (rt_waiter_is_queued(&p.waiter))
                rt_queue_remove(&m->queue, &p.waiter);
            break;
        }
        const bool come = m->coming == &p.waiter;
        if (come)
            m->coming = NULL;
        if (was_handed(m, me) || take_or_mark(m, me, come)) /* M4, M5; M3 */
            break;
        if (!deaf && RT_UNLIKELY((rc = rt_frame_stop(me)) != 0)) /* M6: COMING is off, and WAITERS on */
            break;
        if (rt_clock_now() - p.since > HANDOVER)
            m->handover = true; /* M5 */
        rt_queue_prepend(&m->queue, &p.waiter);
    }
    rt_lock_release(&m->lock);
    return rc;
}

static RT_NOINLINE int lock_slow(mutex *m, rt_block *me, bool deaf)
{
    /* as long as nobody waits already, the one that holds it may be running somewhere, and there is nothing
     * better to do: then it is a switch that is saved, else two workers would only take it from each other */
    const rt_runtime *rt = rt_self()->runtime;
    const rt_worker *w = rt_self()->worker;
    for (int i = 0; (!rt || rt->worker_count > 1) && !(w && rt_order_has_any(w)) && i < SPINS; i++) {
        uint64_t word;
        if (try_lock(m, me, &word))
            return 0;
        if (word & WAITERS)
            break;
        rt_relax();
    }
    rt_lock_acquire(&m->lock);
    if (!take_or_mark(m, me, false))
        return queue_up(m, me, deaf);
    rt_lock_release(&m->lock);
    return 0;
}

static RT_NOINLINE int lock_any(routine_mutex_t *m)
{
    if (!m)
        return -EINVAL;
    rt_block *me = rt_me();
    const int stop = rt_frame_stop(me);
    if (RT_UNLIKELY(stop != 0))
        return stop;
    uint64_t word;
    if (try_lock(inside(m), me, &word))
        return 0;
    if (rt_mutex_is_held(m, me))
        return -EDEADLK;
    (void)rt_enter();
    const int rc = lock_slow(inside(m), me, false);
    rt_leave();
    return rc;
}

/* The short ways of both call nothing, so that they have no registers to save. */

int routine_mutex_lock(routine_mutex_t *m)
{
    rt_block *me = rt_self()->current;
    uint64_t word;
    if (RT_LIKELY(m && me) && RT_LIKELY(!rt_frame_may_stop(me)) && RT_LIKELY(try_lock(inside(m), me, &word)))
        return 0;
    return lock_any(m);
}

void rt_mutex_take_back(routine_mutex_t *m)
{
    rt_block *me = rt_me();
    uint64_t word;
    if (!try_lock(inside(m), me, &word))
        (void)lock_slow(inside(m), me, true); /* deaf: it ends with the mutex */
}

int routine_mutex_trylock(routine_mutex_t *m)
{
    uint64_t word;
    if (!m)
        return -EINVAL;
    return try_lock(inside(m), rt_me(), &word) ? 0 : -EBUSY;
}

/* Somebody waits, and nobody is on its way. False: nobody does, after all, and the word says so now. */
static RT_NOINLINE bool release_slow(mutex *m)
{
    rt_lock_acquire(&m->lock);
    rt_waiter *w = rt_queue_take(&m->queue);
    if (!w) {
        atomic_fetch_and_explicit(&m->word, ~WAITERS, memory_order_relaxed); /* still held: M1 */
        rt_lock_release(&m->lock);
        return false;
    }
    rt_block *next = w->who;
    w->result = 0;
    const int64_t now = RT_UNLIKELY(m->handover) ? rt_clock_now() : 0;
    if (RT_UNLIKELY(m->handover) && now - m->handed_at > RECOVERY) { /* M5 */
        const rt_waiter *after = rt_queue_head(&m->queue);
        m->handover = after && now - since(after) > HANDOVER;
        m->handed_at = now;
        /* release: pairs with was_handed. It waits, so the mutex is there until it is made ready */
        atomic_store_explicit(&m->word, word_of(next) | (after ? WAITERS : 0), memory_order_release);
        rt_lock_release(&m->lock);
    } else { /* M3 */
        m->coming = w;
        m->looks = 1;
        m->passed = 0;
        rt_lock_release(&m->lock);
        /* release: pairs with the acquire of the next holder. A WAITERS that was set meanwhile goes with it
         */
        atomic_store_explicit(&m->word, COMING, memory_order_release);
    }
    rt_ready_block(next);
    return true;
}

/* M4: a look at the clock. True: the mutex has been handed to the one on its way. */
static RT_NOINLINE bool release_to_late(mutex *m, uint64_t word)
{
    m->looks = 1;
    rt_lock_acquire(&m->lock);
    const rt_waiter *w = m->coming;
    const int64_t now = w ? rt_clock_now() : 0, waited = w ? now - since(w) : 0;
    const int64_t rested = now - m->handed_at;
    /* how long it is to have patience yet */
    const int64_t left = HANDOVER - waited > RECOVERY - rested ? HANDOVER - waited : RECOVERY - rested;
    const uint64_t next = w ? word_of(w->who) : 0;
    const uint64_t others = rt_queue_is_empty(&m->queue) ? word & WAITERS : WAITERS;
    if (w && left < 0)
        m->handed_at = now;
    rt_lock_release(&m->lock);
    if (w && left < 0)
        /* release: pairs with was_handed. Who came to wait since has set WAITERS, and it fails */
        return atomic_compare_exchange_strong_explicit(&m->word, &word, next | others, memory_order_release,
                                                       memory_order_relaxed);
    /* half as many as would take it to the end of its patience, if they take as long as those before */
    if (m->passed == 0)
        m->looked_at = now;
    const int64_t each = (now - m->looked_at) / (m->passed + 1) + 1;
    const int64_t looks = left / each / 2 + 1;
    m->looks = (uint8_t)(looks < LOOKS ? looks : LOOKS);
    m->passed = (uint16_t)(m->passed + m->looks);
    return false;
}

void rt_mutex_release(routine_mutex_t *mutex_, rt_block *holder)
{
    mutex *m = inside(mutex_);
    uint64_t word = atomic_load_explicit(&m->word, memory_order_relaxed); /* the compare-and-swap decides */
    for (;;) {
        if (RT_UNLIKELY(word & FLAGS)) {
            if (!(word & COMING) ? release_slow(m) : --m->looks == 0 && release_to_late(m, word))
                return;
            if (!(word & COMING))
                word = word_of(holder);
        }
        /* release: pairs with the acquire of the next holder. While somebody is on his way WAITERS goes: M3
         */
        if (RT_LIKELY(atomic_compare_exchange_strong_explicit(&m->word, &word, word & COMING,
                                                              memory_order_release, memory_order_relaxed)))
            return;
    }
}

static RT_NOINLINE int unlock_any(routine_mutex_t *m)
{
    if (!m)
        return -EINVAL;
    rt_block *me = rt_me();
    if (!rt_mutex_is_held(m, me))
        return -EPERM;
    (void)rt_enter();
    rt_mutex_release(m, me);
    rt_leave();
    return 0;
}

int routine_mutex_unlock(routine_mutex_t *m)
{
    const rt_block *me = rt_self()->current;
    if (RT_LIKELY(m && me)) {
        mutex *x = inside(m);
        uint64_t word = atomic_load_explicit(&x->word, memory_order_relaxed);
        /* as rt_mutex_release, if there are no flags, or it is not yet time to look at the clock (M4) */
        if ((RT_LIKELY(word == word_of(me)) ||
             (word == (word_of(me) | COMING) && x->looks > 1 && x->looks-- > 0)) &&
            RT_LIKELY(atomic_compare_exchange_strong_explicit(&x->word, &word, word & COMING,
                                                              memory_order_release, memory_order_relaxed)))
            return 0;
    }
    return unlock_any(m);
}
