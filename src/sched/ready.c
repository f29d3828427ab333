/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The thief's side of ready.h.
 */
#include "ready.h"

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
    rt_membarrier_heavy();                                                      /* L2 */
    if (!atomic_load_explicit(&l->owner_in, memory_order_acquire) && l->head) { /* L2, L4 */
        const uint64_t count = rt_ready_size(l);
        uint64_t take = (count + 1) / 2;
        if (take > most)
            take = most;
        rt_block *last = chain = l->head;
        for (uint64_t i = 1; i < take; i++)
            last = last->link;
        l->head = last->link;
        l->next = false;
        last->link = NULL;
        rt_ready_count(l, (uint64_t)0 - take);
        *got = take;
    }
    atomic_store_explicit(&l->thief_in, 0, memory_order_release); /* L4 */
    return chain;
}
