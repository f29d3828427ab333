/* SPDX-License-Identifier: MIT
 *
 * Floor 3. Stacks: where they come from, what guards them, when they go back.
 *
 * A runtime's stacks are cut from slabs of up to 64 MiB of reserved address space,
 * `spacing` bytes apart. Each slot, from its low end:
 *
 *     guard | usable, growing down ............ | rt_stack | colour
 *
 * The descriptor stands in the top page, which every stack touches anyway, so a
 * stack costs no other memory. The colour, 0 to 15 cache lines, keeps the tops of
 * stacks from falling into the same sets of the cache.
 *
 * What is promised to a routine is about half of the usable size (R5): a joiner
 * that has used up to that much can still run a child in place, with its whole promise below it.
 *
 * A stack is bound to a routine when that first runs, and comes from: the worker's
 * cache, the pool's warm list, a slab. It goes back the same way. What has not been needed for a tenth of a
 * second is marked free in its slab, some at a time, memory is given back to the kernel in runs, and a slab
 * that is wholly free is unmapped, but for one (R15). A guard stays with its slot until then. Stacks too
 * large for the spacing get a slab of their own.
 */
#ifndef RT_SCHED_STACK_H
#define RT_SCHED_STACK_H

#include "../base/base.h"
#include "../os/futex.h"

typedef struct rt_slab rt_slab;

typedef struct rt_stack {
    char *low;    /* the lowest usable byte; the guard is below */
    char *high;   /* the end of what may be used: this descriptor (of a thread's own stack: its end) */
    size_t guard; /* bytes of guard below low; 0: none could be had, there is a canary at low */
    struct rt_stack *link; /* in a cache */
    rt_slab *slab;
    uint32_t slot;
    uint32_t valgrind_id;
    void *fiber; /* ThreadSanitizer's */
    void *fake;  /* AddressSanitizer's fake stack, while suspended */
} rt_stack;

typedef struct {
    rt_lock_t lock;
    size_t spacing; /* constant after init, as the next two */
    size_t guard;
    size_t promised;
    /* under lock */
    rt_slab *slabs; /* all of them */
    rt_slab *roomy; /* those with a free slot and the ordinary spacing */
    rt_slab *spare; /* one that is wholly free, kept; it is among the roomy */
    rt_stack *warm;
    size_t warm_count;
    size_t warm_least; /* since it was last cooled: so many have not been needed */
    int64_t cool_at;   /* when to cool it next */
    size_t cool_left;  /* so many are still to go */
    size_t taken;      /* slots in use: live or cached */
    size_t peak;
} rt_stack_pool;

/* The smallest size that is ever promised. */
size_t rt_stack_minimum(void);

/* `promised`: to every routine of this pool, unless it asks for more. */
void rt_stack_pool_init(rt_stack_pool *pool, size_t promised);

/* Unmaps everything; nobody may stand on any of its stacks. */
void rt_stack_pool_destroy(rt_stack_pool *pool);

/* True if an ordinary stack of this pool keeps a promise of `size`. */
bool rt_stack_ordinary(const rt_stack_pool *pool, size_t size);

/* A list (by link) of 1 to `want` ordinary stacks; *got says how many. NULL: no memory. */
rt_stack *rt_stack_take(rt_stack_pool *pool, size_t want, size_t *got);

/* A stack with a promise of `size`, larger than ordinary. NULL: no memory. */
rt_stack *rt_stack_take_large(rt_stack_pool *pool, size_t size);

/* Gives back a list of stacks on which nobody stands. */
void rt_stack_give(rt_stack_pool *pool, rt_stack *list);

/* Called by those who are about to rest: from time to time, gives those warm stacks back to their slabs that
 * nobody has needed since the last time, but for a few. Returns when it is to be called again; INT64_MAX: it
 * need not. */
int64_t rt_stack_pool_cool(rt_stack_pool *pool);

/* Gives the pool's own warm stacks back to their slabs. */
void rt_stack_pool_trim(rt_stack_pool *pool);

/* True for a stack that rt_stack_take_large made: not for the caches. */
bool rt_stack_is_large(const rt_stack *stack);

/* Panics if the canary of a stack without a guard is gone. */
void rt_stack_check(const rt_stack *stack);

#endif
