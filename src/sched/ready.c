/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The thief's side of ready.h.
 */
#include "ready.h"

#define LOOKS 100 /* pauses: a few microseconds */

bool rt_ready_enter_wait(rt_ready *l)
{
    for (int i = 0; i < LOOKS; i++) {
        rt_relax();
        if (atomic_load_explicit(&l->thief_in, memory_order_relaxed) == 0 && rt_ready_enter(l)) /* a hint */
            return true;
    }
    return false;
}

rt_block *rt_ready_steal(rt_ready *l, uint64_t most, uint64_t *got)
{
    uint32_t out = 0;
    rt_block *chain = NULL;
    *got = 0;
    if (rt_ready_size(l) == 0)
        return NULL;
    /* acquire: L4, from the thief before */
    if (!atomic_compare_exchange_strong_explicit(&l->thief_in, &out, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return NULL;
    rt_membarrier_heavy();                                           /* L2 */
    if (!atomic_load_explicit(&l->owner_in, memory_order_acquire)) { /* L2, L4 */
        rt_fifo *from = l->woken.head ? &l->woken : &l->yielded;
        uint64_t take = (rt_ready_size(l) + 1) / 2;
        if (take > most)
            take = most;
        rt_block *last = chain = from->head;
        if (chain) {
            uint64_t n = 1;
            for (; n < take && last->link; n++)
                last = last->link;
            from->head = last->link;
            last->link = NULL;
            if (from == &l->woken)
                l->next = false;
            rt_ready_count(l, (uint64_t)0 - n);
            *got = n;
        }
    }
    atomic_store_explicit(&l->thief_in, 0, memory_order_release); /* L4 */
    return chain;
}
