/* SPDX-License-Identifier: MIT
 *
 * Floor 5. What can be asked of a handle, and of oneself.
 */
#include "../context/sanitize.h"
#include "../os/clock.h"
#include "routine.h"

#include <errno.h>

static uint64_t word_of(const rt_block *r)
{
    return atomic_load_explicit(&r->word, memory_order_acquire); /* pairs with go's publication */
}

/* Does the handle name a routine that is not over and done with? */
static bool is_current(routine_t h)
{
    const rt_block *r = h.block;
    const uint64_t word = r ? word_of(r) : 0;
    return r && RT_WORD_ID(word) == h.id && !(word & RT_RELEASED);
}

int rt_cancel_mark(rt_block *r, uint64_t id, uint64_t flags, uint64_t *before)
{
    uint64_t word = word_of(r);
    do {
        if (RT_WORD_ID(word) != id || word & RT_RELEASED)
            return -ESRCH;
        /* R3: by compare-and-swap on this incarnation. release: what the caller did before is seen by whoever
         * finds the bit; a set bit is never cleared, R4 */
    } while (!(word & RT_CANCEL) &&
             !atomic_compare_exchange_weak_explicit(&r->word, &word, word | flags, memory_order_acq_rel,
                                                    memory_order_acquire));
    *before = word;
    return 0;
}

int routine_cancel(routine_t h)
{
    rt_block *r = h.block;
    uint64_t before;
    const int rc = r ? rt_cancel_mark(r, h.id, RT_CANCEL, &before) : -ESRCH;
    /* whoever is to start it reads the bit; and the first to cancel it wakes it */
    if (rc != 0 || !(before & RT_STARTED) || before & RT_CANCEL)
        return rc;
    rt_membarrier_heavy();
    (void)rt_enter();
    if (rt_wait_cancel(r, h.id))
        rt_ready_block(r);
    /* a scope that is opened from now on finds the bit */
    if (before & RT_SCOPED)
        rt_scope_cancel_below(r, h.id);
    rt_leave();
    return 0;
}

int routine_error(routine_t h)
{
    return h.block ? 0 : -(int)h.id;
}

int routine_check(void)
{
    const rt_thread *t = rt_self();
    rt_block *me = t->current;
    if (RT_UNLIKELY(!me))
        return 0;
    if (RT_UNLIKELY(me->attr.flags & RT_FLAG_LIMIT) && rt_frame_limit(me) <= rt_clock_now())
        rt_frame_expire(me);
    const int stop = rt_frame_stop(me);
    if (RT_UNLIKELY(stop != 0) || me->attr.flags & (RT_FLAG_SHIELD | RT_FLAG_THREAD))
        return stop;
    /* relaxed: nothing goes with it */
    return RT_UNLIKELY(atomic_load_explicit(&t->runtime->cancelling, memory_order_relaxed)) ? -ECANCELED : 0;
}

/* A look at the oneshot of a block that may be something else: a closure, a name. */
RT_UNWATCHED bool seems_full(const rt_block *r)
{
    return atomic_load_explicit(&r->done.state, memory_order_relaxed) == RT_ONESHOT_FULL; /* see below */
}

bool routine_is_finished(routine_t h)
{
    const rt_block *r = h.block;
    if (!is_current(h))
        return true;
    if (!seems_full(r))
        return !is_current(h);
    if (!is_current(h))
        return true;
    /* acquire: pairs with finish, so that what the routine did is seen. If the block has moved on meanwhile,
     * it was finished as well */
    return atomic_load_explicit(&r->done.state, memory_order_acquire) == RT_ONESHOT_FULL || !is_current(h);
}

routine_t routine_self(void)
{
    const rt_thread *t = rt_self();
    if (!rt_is_routine(t))
        return (routine_t){NULL, 0};
    rt_block *r = t->current;
    return (routine_t){r, RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_relaxed))}; /* its own */
}

uint64_t routine_id(routine_t h)
{
    return h.block ? h.id : 0;
}

const char *routine_name(routine_t h)
{
    const rt_block *r = h.block;
    if (!is_current(h))
        return "";
    const rt_extra *extra =
        atomic_load_explicit(&r->extra, memory_order_acquire); /* pairs with rt_local_extra */
    return extra && is_current(h) ? extra->name : "";
}

void routine_yield(void)
{
    rt_yield_and_leave(rt_enter());
}
