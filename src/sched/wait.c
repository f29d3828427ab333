/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The seldom ends of a wait: see wait.h, K.
 */
#include "wait.h"

bool rt_wait_settle(rt_block *r, uint64_t id)
{
    uint64_t word = atomic_load_explicit(&r->word, memory_order_relaxed); /* the compare-and-swap decides */
    do
        if (RT_WORD_ID(word) != id || word & RT_SETTLED)
            return false;
    /* acq_rel: as rt_wait_change */
    while (!atomic_compare_exchange_weak_explicit(&r->word, &word, word | RT_SETTLED, memory_order_acq_rel,
                                                  memory_order_relaxed));
    return true;
}

/* K5, for the cancellation. The wait is over then, also for those who look at it by a later id of the block;
 * unless a waker has stored its WOKEN, which is as good. */
static bool settle_canceled(rt_block *r, uint64_t id, uint64_t wait)
{
    if (!rt_wait_settle(r, id))
        return false;
    (void)rt_wait_change(r, &wait, RT_WAIT_CANCELED);
    return true;
}

bool rt_wait_open_canceled(rt_block *r, uint64_t wait)
{
    return RT_WAIT_STATE(wait) == RT_WAIT_ALONE ? settle_canceled(r, rt_wait_id(r), wait)
                                                : rt_wait_change(r, &wait, RT_WAIT_CANCELED);
}

bool rt_wait_win_clock(rt_block *r)
{
    uint64_t wait = atomic_load_explicit(&r->wait, memory_order_relaxed); /* the compare-and-swap decides */
    for (;;) {
        switch (RT_WAIT_STATE(wait)) {
        case RT_WAIT_SHARED:
            if (rt_wait_change(r, &wait, RT_WAIT_EARLY))
                return false;
            break;
        case RT_WAIT_EXPOSED:
        case RT_WAIT_SEALED:
            if (rt_wait_change(r, &wait, RT_WAIT_CLOCK))
                return true;
            break;
        default:
            return false;
        }
    }
}

bool rt_wait_expose(rt_block *r, uint64_t wait, bool deaf)
{
    const uint64_t opened = wait;
    if (rt_wait_change(r, &wait, deaf ? RT_WAIT_SEALED : RT_WAIT_EXPOSED)) {
        rt_membarrier_light(); /* K2 */
        if (deaf || !rt_is_canceled(r))
            return false;
        wait = opened - RT_WAIT_SHARED + RT_WAIT_EXPOSED;
        return rt_wait_change(r, &wait, RT_WAIT_CANCELED); /* K4 */
    }
    /* EARLY is left to nobody else; all else is over, perhaps long ago */
    return wait == opened - RT_WAIT_SHARED + RT_WAIT_EARLY && rt_wait_change(r, &wait, RT_WAIT_CLOCK);
}

bool rt_wait_cancel(rt_block *r, uint64_t id)
{
    uint64_t wait = atomic_load_explicit(&r->wait, memory_order_acquire); /* pairs with rt_wait_begin */
    /* acquire above: so this is read after it (K5). If the id has lasted until now, the wait is its own */
    if (RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_acquire)) != id)
        return false;
    if (RT_WAIT_STATE(wait) == RT_WAIT_ALONE)
        return settle_canceled(r, id, wait);
    return RT_WAIT_STATE(wait) == RT_WAIT_EXPOSED && rt_wait_change(r, &wait, RT_WAIT_CANCELED);
}
