/* SPDX-License-Identifier: MIT
 *
 * Floor 5. What can be asked of a handle, and of oneself.
 */
#include "routine.h"

#include <errno.h>
#include <sched.h>

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

int routine_cancel(routine_t h)
{
    rt_block *r = h.block;
    if (!r)
        return -ESRCH;
    uint64_t word = word_of(r);
    do {
        if (RT_WORD_ID(word) != h.id || word & RT_RELEASED)
            return -ESRCH;
        /* R3: by compare-and-swap on this incarnation. release: what the caller did before is seen by whoever
         * finds the bit; a set bit is never cleared, R4 */
    } while (!(word & RT_CANCEL) &&
             !atomic_compare_exchange_weak_explicit(&r->word, &word, word | RT_CANCEL, memory_order_acq_rel,
                                                    memory_order_acquire));
    return 0;
}

int routine_error(routine_t h)
{
    return h.block ? 0 : -(int)h.id;
}

int routine_check(void)
{
    const rt_thread *t = rt_self();
    if (!t->worker)
        return 0;
    /* acquire: pairs with routine_cancel */
    if (RT_UNLIKELY(atomic_load_explicit(&t->current->word, memory_order_acquire) & RT_CANCEL) ||
        RT_UNLIKELY(
            atomic_load_explicit(&t->runtime->cancelling, memory_order_relaxed))) /* nothing goes with it */
        return -ECANCELED;
    return 0;
}

bool routine_is_finished(routine_t h)
{
    const rt_block *r = h.block;
    if (!is_current(h))
        return true;
    /* acquire: pairs with finish, so that what the routine did is seen. If the block has moved on meanwhile,
     * it was finished as well */
    return atomic_load_explicit(&r->done.state, memory_order_acquire) == RT_ONESHOT_FULL || !is_current(h);
}

routine_t routine_self(void)
{
    const rt_thread *t = rt_self();
    if (!t->worker)
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
    const rt_thread *t = rt_self();
    if (t->worker)
        rt_yield();
    else
        sched_yield();
}
