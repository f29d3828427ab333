/* SPDX-License-Identifier: MIT
 *
 * Floor 6. Once: a state, and a queue of those who wait until the first call is over.
 */
#include "../../include/routines/routine.h"
#include "sync.h"

enum { FRESH, RUNNING, DONE };

typedef struct {
    _Atomic uintptr_t state; /* changes under lock; read without, to see DONE */
    rt_lock_t lock;
    /* under it */
    uint64_t runner; /* its id */
    rt_queue queue;
} once;

RT_SYNC_FITS(routine_once_t, once);

/* Ends RUNNING, also if fn has left by exit or panic. */
static void finished(void *arg)
{
    once *o = arg;
    rt_waiter *all = NULL;
    rt_lock_acquire(&o->lock);
    rt_queue_take_all(&o->queue, 0, &all);
    atomic_store_explicit(&o->state, DONE, memory_order_release); /* pairs with is_done */
    rt_lock_release(&o->lock);
    if (all) {
        (void)rt_enter();
        rt_ready_all(all);
        rt_leave();
    }
}

static RT_NOINLINE int once_slow(once *o, void (*fn)(void *), void *arg)
{
    rt_block *me = rt_me();
    rt_lock_acquire(&o->lock);
    const uintptr_t state = atomic_load_explicit(&o->state, memory_order_relaxed); /* under lock */
    if (state == RUNNING && o->runner != rt_sync_id(me)) {
        rt_waiter w = {.who = me, .result = RT_PENDING};
        rt_queue_append(&o->queue, &w);
        (void)rt_enter();
        const int rc = rt_wait_locked(&o->lock, &w, true); /* R11 */
        rt_leave();
        return rc;
    }
    if (state != FRESH) {
        rt_lock_release(&o->lock);
        return state == DONE ? 0 : -EDEADLK;
    }
    atomic_store_explicit(&o->state, RUNNING, memory_order_relaxed); /* under lock */
    o->runner = rt_sync_id(me);
    rt_lock_release(&o->lock);

    routine_defer(finished, o);
    fn(arg);
    return 0;
}

RT_INLINE bool is_done(const once *o)
{
    return RT_LIKELY(atomic_load_explicit(&o->state, memory_order_acquire) ==
                     DONE); /* what fn did comes first */
}

int routine_once_with(routine_once_t *once_, void (*fn)(void *), void *arg)
{
    if (!once_ || !fn)
        return -EINVAL;
    once *o = (once *)(void *)once_;
    return is_done(o) ? 0 : once_slow(o, fn, arg);
}

static void call(void *fn)
{
    (*(void (**)(void))fn)();
}

int routine_once(routine_once_t *once_, void (*fn)(void))
{
    if (!once_ || !fn)
        return -EINVAL;
    once *o = (once *)(void *)once_;
    return is_done(o) ? 0 : once_slow(o, call, (void *)&fn);
}
