/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The process-wide pool of control blocks: see block.h.
 *
 * Batches (Bonwick and Adams 2001, "Magazines and vmem") come and go under one
 * lock, once in RT_BLOCK_BATCH operations of a worker. Slabs are reserved,
 * carved from the front and never returned (R13).
 */
#include "block.h"

#include "../context/sanitize.h"
#include "../os/pages.h"

#define SLAB_BLOCKS ((size_t)1 << 14) /* 2 MiB of address space, touched as it is carved */

typedef struct slab {
    struct slab *older;
    size_t carved;
} slab; /* in the slab's first block */

static struct {
    rt_lock_t lock;
    /* under lock */
    rt_block *batches; /* full chains, linked by `parent` of their first block */
    rt_block *loose;   /* single blocks, linked by `link` */
    slab *slabs;
} pool;

static _Atomic uint64_t next_id = 1;

/* Under lock: one never used block, or NULL. */
static rt_block *carve(void)
{
    slab *s = pool.slabs;
    if (!s || s->carved == SLAB_BLOCKS) {
        s = rt_pages_reserve(SLAB_BLOCKS * sizeof(rt_block), rt_pages_size());
        if (!s)
            return NULL;
        rt_sanitize_roots(s, SLAB_BLOCKS * sizeof(rt_block));
        s->older = pool.slabs;
        s->carved = 1;
        pool.slabs = s;
    }
    return (rt_block *)(void *)s + s->carved++; /* zero: word 0 */
}

/* Under lock. */
static rt_block *take_one(void)
{
    rt_block *block = pool.loose;
    if (!block)
        return carve();
    pool.loose = block->link;
    return block;
}

/* Under lock. */
static rt_block *take_chain(void)
{
    rt_block *chain = pool.batches;
    if (chain) {
        pool.batches = chain->parent;
        chain->parent = NULL;
        return chain;
    }
    for (size_t n = 0; n < RT_BLOCK_BATCH; n++) {
        rt_block *block = take_one();
        if (!block) {
            while (chain) { /* not a full batch: keep what there is for singles */
                rt_block *next = chain->link;
                chain->link = pool.loose;
                pool.loose = chain;
                chain = next;
            }
            return NULL;
        }
        block->link = chain;
        chain = block;
    }
    return chain;
}

void rt_block_blank(rt_block *block)
{
    block->attr.all = 0;
    block->stack = NULL;
    /* release: what was read of this incarnation was read before. The word first: who finds it current and
     * done not FULL has looked at a routine that is not finished (routine_is_finished) */
    atomic_store_explicit(&block->word, 0, memory_order_release);
    atomic_store_explicit(&block->done.state, RT_ONESHOT_EMPTY, memory_order_release);
    atomic_store_explicit(&block->extra, NULL,
                          memory_order_relaxed); /* published with the next incarnation */
}

rt_block *rt_block_batch_get(void)
{
    rt_lock_acquire(&pool.lock);
    rt_block *chain = take_chain();
    rt_lock_release(&pool.lock);
    return chain;
}

void rt_block_batch_put(rt_block *chain)
{
    rt_lock_acquire(&pool.lock);
    chain->parent = pool.batches;
    pool.batches = chain;
    rt_lock_release(&pool.lock);
}

rt_block *rt_block_get(void)
{
    rt_lock_acquire(&pool.lock);
    rt_block *block = take_one();
    if (!block && (block = take_chain()) != NULL) /* batches may still be there */
        pool.loose = block->link;
    rt_lock_release(&pool.lock);
    return block;
}

void rt_block_put(rt_block *block)
{
    rt_lock_acquire(&pool.lock);
    block->link = pool.loose;
    pool.loose = block;
    rt_lock_release(&pool.lock);
}

uint64_t rt_block_id_range(void)
{
    return atomic_fetch_add_explicit(&next_id, RT_ID_RANGE, memory_order_relaxed); /* only unique */
}

uint64_t rt_block_id(void)
{
    return atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed); /* only unique */
}

void rt_block_each(void (*visit)(rt_block *, void *), void *arg)
{
    rt_lock_acquire(&pool.lock);
    for (slab *s = pool.slabs; s; s = s->older) {
        rt_block *blocks = (rt_block *)(void *)s;
        for (size_t i = 1; i < s->carved; i++)
            visit(&blocks[i], arg);
    }
    rt_lock_release(&pool.lock);
}

void rt_block_fork_lock(void)
{
    rt_lock_acquire(&pool.lock);
}

void rt_block_fork_unlock(void)
{
    rt_lock_release(&pool.lock);
}
