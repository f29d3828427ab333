/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See stack.h.
 */
#include "stack.h"

#include <stdlib.h>
#include <unistd.h>

#include "../base/panic.h"
#include "../context/sanitize.h"
#include "../os/clock.h"
#include "../os/pages.h"
#include "block.h"

#define SLAB_BYTES   ((size_t)64 << 20)
#define SLAB_SLOTS   1024u
#define SPACING_MIN  ((size_t)64 << 10)
#define OVERHEAD     ((size_t)4096) /* descriptor, colour, first frames */
#define WARM_MIN     64             /* stacks that a pool keeps warm though they are not needed */
#define WARM_MANY    1024           /* with more, not only those who rest see to it that they cool */
#define COOLING      (100 * INT64_C(1000000)) /* ns that they have not been needed */
#define COOL_LEAST   1024
#define COOL_MOST    256                   /* at a time, since that takes a third of a millisecond */
#define COOL_STEP    (500 * INT64_C(1000)) /* ns until the next ones then */
/* Used free slots of a slab before their memory is given back, half of an ordinary one: each call interrupts
 * the other CPUs, and stacks that end in any order lie alone, until most of them have. */
#define FORGET_BATCH 128
#define CANARY       UINT64_C(0x5afe57ac6ca11a5e)
#define CANARY_WORDS 8

struct rt_slab {
    rt_slab *next, **link;             /* among all the pool's slabs */
    rt_slab *roomy_next, **roomy_link; /* among those with a free slot; roomy_link null: not there */
    char *base;
    size_t spacing;
    size_t guard;
    uint32_t slots;
    uint32_t free;  /* free slots */
    uint32_t dirty; /* of those: with memory not given back */
    bool large;
    /* bits by slot */
    uint64_t is_used[SLAB_SLOTS / 64];
    uint64_t is_dirty[SLAB_SLOTS / 64];
    uint64_t is_guarded[SLAB_SLOTS / 64];
};

static bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void bit_set(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= UINT64_C(1) << i % 64;
}

static void bit_clear(uint64_t *bits, uint32_t i)
{
    bits[i / 64] &= ~(UINT64_C(1) << i % 64);
}

size_t rt_stack_minimum(void)
{
#ifdef _SC_MINSIGSTKSZ
    const long frame = sysconf(_SC_MINSIGSTKSZ);
#else
    const long frame = 0;
#endif
    return rt_round_up((size_t)(16 << 10) + (frame > 2048 ? (size_t)frame : 2048), RT_STACK_UNIT);
}

static size_t power_of_two(size_t n)
{
    size_t power = SPACING_MIN;
    while (power < 4 * rt_pages_size()) /* a guard is whole pages */
        power *= 2;
    while (power < n)
        power *= 2;
    return power;
}

/* An eighth of the spacing: wide enough to stop the frames of code built without stack-clash protection. */
static size_t guard_for(size_t spacing)
{
    size_t guard = spacing / 8;
    if (guard > ((size_t)64 << 10))
        guard = (size_t)64 << 10;
    return rt_round_up(guard, rt_pages_size());
}

void rt_stack_pool_init(rt_stack_pool *pool, size_t promised)
{
    *pool = (rt_stack_pool){.promised = promised, .spacing = power_of_two(2 * promised)};
    pool->guard = guard_for(pool->spacing);
}

bool rt_stack_ordinary(const rt_stack_pool *pool, size_t size)
{
    return size <= pool->spacing - pool->guard - OVERHEAD;
}

/* Under lock. */
static void roomy_add(rt_stack_pool *pool, rt_slab *slab)
{
    slab->roomy_next = pool->roomy;
    slab->roomy_link = &pool->roomy;
    if (pool->roomy)
        pool->roomy->roomy_link = &slab->roomy_next;
    pool->roomy = slab;
}

/* Under lock. */
static void roomy_remove(rt_slab *slab)
{
    *slab->roomy_link = slab->roomy_next;
    if (slab->roomy_next)
        slab->roomy_next->roomy_link = slab->roomy_link;
    slab->roomy_link = NULL;
}

/* Under lock. A slab of `slots` free slots, not among the roomy yet. */
static rt_slab *slab_new(rt_stack_pool *pool, size_t spacing, size_t guard, size_t slots, bool large)
{
    rt_slab *slab = calloc(1, sizeof *slab);
    if (!slab)
        return NULL;
    char *base = rt_pages_reserve(slots * spacing, rt_pages_size());
    if (!base) {
        free(slab);
        return NULL;
    }
    slab->base = base;
    slab->spacing = spacing;
    slab->guard = guard;
    slab->slots = (uint32_t)slots;
    slab->free = (uint32_t)slots;
    slab->large = large;
    slab->next = pool->slabs;
    slab->link = &pool->slabs;
    if (pool->slabs)
        pool->slabs->link = &slab->next;
    pool->slabs = slab;
    return slab;
}

/* Under lock, of a slab that is not among the roomy. */
static void slab_delete(rt_slab *slab)
{
    size_t guarded = 0;
    for (uint32_t i = 0; i < slab->slots; i++)
        guarded += bit(slab->is_guarded, i);
    rt_pages_release(slab->base, slab->slots * slab->spacing);
    rt_pages_unguarded(guarded);
    *slab->link = slab->next;
    if (slab->next)
        slab->next->link = slab->link;
    free(slab);
}

/* Under lock: memory of free slots goes back, one call for each run of them (R15). */
static void slab_forget(rt_slab *slab)
{
    for (uint32_t i = 0; i < slab->slots; i++) {
        if (!bit(slab->is_dirty, i))
            continue;
        uint32_t end = i;
        while (end < slab->slots && bit(slab->is_dirty, end))
            bit_clear(slab->is_dirty, end++);
        rt_pages_forget(slab->base + i * slab->spacing, (end - i) * slab->spacing);
        i = end;
    }
    slab->dirty = 0;
}

/* Under lock: a free slot of the slab, now used. Those with memory first. */
static uint32_t slot_take(rt_slab *slab)
{
    uint32_t words = (slab->slots + 63) / 64, best = UINT32_MAX;
    for (uint32_t w = 0; w < words && best == UINT32_MAX; w++)
        if (slab->is_dirty[w])
            best = w * 64 + (uint32_t)__builtin_ctzll(slab->is_dirty[w]);
    for (uint32_t w = 0; w < words && best == UINT32_MAX; w++)
        if (~slab->is_used[w])
            best = w * 64 + (uint32_t)__builtin_ctzll(~slab->is_used[w]);
    bit_set(slab->is_used, best);
    slab->free--;
    if (bit(slab->is_dirty, best)) {
        bit_clear(slab->is_dirty, best);
        slab->dirty--;
    }
    return best;
}

/* Under lock. */
static void slot_free(rt_stack_pool *pool, rt_stack *stack)
{
    rt_slab *slab = stack->slab;
    const uint32_t slot = stack->slot;
    rt_sanitize_stack_gone(stack->low, stack->high, stack->fiber, stack->valgrind_id);
    pool->taken--;
    bit_clear(slab->is_used, slot);
    bit_set(slab->is_dirty, slot);
    slab->dirty++;
    slab->free++;
    if (slab->large) {
        slab_delete(slab);
        return;
    }
    if (!slab->roomy_link)
        roomy_add(pool, slab);
    if (slab->free == slab->slots) {
        if (pool->spare && pool->spare != slab) {
            roomy_remove(slab);
            slab_delete(slab);
            return;
        }
        pool->spare = slab;
        slab_forget(slab);
    } else if (slab->dirty >= FORGET_BATCH) {
        slab_forget(slab);
    }
}

/* Under lock: a slab with a free slot. When address space is short, smaller ones (R15). */
static rt_slab *slab_with_room(rt_stack_pool *pool)
{
    if (pool->roomy)
        return pool->roomy;
    size_t slots = SLAB_BYTES / pool->spacing;
    slots = slots < 1 ? 1 : slots > SLAB_SLOTS ? SLAB_SLOTS : slots;
    for (; slots > 0; slots /= 2) {
        rt_slab *slab = slab_new(pool, pool->spacing, pool->guard, slots, false);
        if (slab) {
            roomy_add(pool, slab);
            return slab;
        }
    }
    return NULL;
}

/* Makes the descriptor of a slot that is the caller's. `guarded`: it has its guard already. */
static rt_stack *stack_make(rt_slab *slab, uint32_t slot, bool guarded)
{
    char *at = slab->base + slot * slab->spacing;
    const size_t colour = slot % 16 * RT_CACHE_LINE;
    rt_stack *stack =
        (rt_stack *)(void *)(at + slab->spacing - colour - rt_round_up(sizeof *stack, RT_CACHE_LINE));
    *stack = (rt_stack){.low = at + slab->guard,
                        .high = (char *)stack,
                        .guard = guarded ? slab->guard : 0,
                        .slab = slab,
                        .slot = slot};
    rt_sanitize_stack_new(stack->low, stack->high, &stack->fiber, &stack->valgrind_id);
    if (!guarded)
        for (size_t i = 0; i < CANARY_WORDS; i++)
            ((uint64_t *)(void *)stack->low)[i] = CANARY;
    return stack;
}

rt_stack *rt_stack_take(rt_stack_pool *pool, size_t want, size_t *got)
{
    struct {
        rt_slab *slab;
        uint32_t slot;
        bool guarded;
    } fresh[16];
    rt_stack *list = NULL;
    size_t count = 0, made = 0;

    if (want > sizeof fresh / sizeof fresh[0])
        want = sizeof fresh / sizeof fresh[0];
    rt_lock_acquire(&pool->lock);
    while (count < want && pool->warm) {
        rt_stack *stack = pool->warm;
        pool->warm = stack->link;
        if (--pool->warm_count < pool->warm_least)
            pool->warm_least = pool->warm_count;
        stack->link = list;
        list = stack;
        count++;
    }
    while (count == 0 || (made > 0 && made < want)) { /* fresh ones only when there are no warm ones */
        rt_slab *slab = slab_with_room(pool);
        if (!slab)
            break;
        const uint32_t slot = slot_take(slab);
        if (slab == pool->spare)
            pool->spare = NULL;
        if (slab->free == 0)
            roomy_remove(slab);
        /* the guard is set below, outside the lock; the slot is ours */
        fresh[made].slab = slab;
        fresh[made].slot = slot;
        fresh[made].guarded = bit(slab->is_guarded, slot);
        made++;
        count++;
    }
    pool->taken += made;
    if (pool->taken > pool->peak)
        pool->peak = pool->taken;
    rt_lock_release(&pool->lock);

    uint64_t newly = 0;
    for (size_t i = 0; i < made; i++) {
        rt_slab *slab = fresh[i].slab;
        if (!fresh[i].guarded && rt_pages_guard(slab->base + fresh[i].slot * slab->spacing, slab->guard)) {
            fresh[i].guarded = true;
            newly |= UINT64_C(1) << i;
        }
        rt_stack *stack = stack_make(slab, fresh[i].slot, fresh[i].guarded);
        stack->link = list;
        list = stack;
    }
    if (newly) {
        rt_lock_acquire(&pool->lock);
        for (size_t i = 0; i < made; i++)
            if (newly >> i & 1)
                bit_set(fresh[i].slab->is_guarded, fresh[i].slot);
        rt_lock_release(&pool->lock);
    }
    *got = count;
    return list;
}

rt_stack *rt_stack_take_large(rt_stack_pool *pool, size_t size)
{
    const size_t guard = guard_for(power_of_two(size));
    const size_t spacing = rt_round_up(size + OVERHEAD, rt_pages_size()) + guard;
    rt_lock_acquire(&pool->lock);
    rt_slab *slab = slab_new(pool, spacing, guard, 1, true);
    if (slab) {
        slot_take(slab);
        pool->taken++;
        if (pool->taken > pool->peak)
            pool->peak = pool->taken;
        if (rt_pages_guard(slab->base, guard))
            bit_set(slab->is_guarded, 0);
    }
    rt_lock_release(&pool->lock);
    return slab ? stack_make(slab, 0, bit(slab->is_guarded, 0)) : NULL;
}

/* Under lock: so many of the warm ones go. */
static void warm_free(rt_stack_pool *pool, size_t count)
{
    for (; count > 0; count--) {
        rt_stack *stack = pool->warm;
        pool->warm = stack->link;
        pool->warm_count--;
        slot_free(pool, stack);
    }
}

/* Under lock, with more than WARM_MIN: of those that have not been needed since the last time an eighth, or a
 * thousand, and these in steps. So of very many it takes some seconds, and who needs them again soon has
 * them. */
static void cool(rt_stack_pool *pool)
{
    const int64_t now = rt_clock_now();
    if (pool->cool_at > now)
        return;
    const size_t most = pool->warm_count - WARM_MIN;
    if (pool->cool_left == 0) {
        const size_t spare = pool->warm_least < most ? pool->warm_least : most;
        pool->cool_left = spare / 8 > COOL_LEAST ? spare / 8 : spare < COOL_LEAST ? spare : COOL_LEAST;
        pool->warm_least = pool->warm_count;
    }
    size_t count = pool->cool_left < COOL_MOST ? pool->cool_left : COOL_MOST;
    pool->cool_left -= count;
    count = count < most ? count : most;
    count = count < pool->warm_least ? count : pool->warm_least;
    pool->warm_least -= count;
    warm_free(pool, count);
    pool->cool_at = now + (pool->cool_left > 0 ? COOL_STEP : COOLING);
}

void rt_stack_give(rt_stack_pool *pool, rt_stack *list)
{
    rt_lock_acquire(&pool->lock);
    while (list) {
        rt_stack *stack = list;
        list = list->link;
        if (stack->slab->large) {
            slot_free(pool, stack);
        } else {
            stack->link = pool->warm;
            pool->warm = stack;
            pool->warm_count++;
        }
    }
    if (RT_UNLIKELY(pool->warm_count > WARM_MANY))
        cool(pool);
    rt_lock_release(&pool->lock);
}

int64_t rt_stack_pool_cool(rt_stack_pool *pool)
{
    int64_t next = INT64_MAX;
    rt_lock_acquire(&pool->lock);
    if (pool->warm_count > WARM_MIN)
        cool(pool);
    if (pool->warm_count > WARM_MIN)
        next = pool->cool_at;
    rt_lock_release(&pool->lock);
    return next;
}

void rt_stack_pool_trim(rt_stack_pool *pool)
{
    rt_lock_acquire(&pool->lock);
    warm_free(pool, pool->warm_count);
    pool->warm_least = 0;
    rt_lock_release(&pool->lock);
}

void rt_stack_pool_destroy(rt_stack_pool *pool)
{
    rt_stack_pool_trim(pool);
    for (rt_slab *slab = pool->slabs, *next; slab; slab = next) {
        next = slab->next;
        if (slab->roomy_link)
            roomy_remove(slab);
        slab_delete(slab);
    }
    pool->spare = NULL;
}

bool rt_stack_is_large(const rt_stack *stack)
{
    return stack->slab->large;
}

void rt_stack_check(const rt_stack *stack)
{
    if (RT_LIKELY(stack->guard != 0))
        return;
    for (size_t i = 0; i < CANARY_WORDS; i++)
        if (((const uint64_t *)(const void *)stack->low)[i] != CANARY)
            rt_panic("a routine ran over the end of its stack (%zu bytes of it usable), found by its canary: "
                     "give it a larger stack_size by go_with",
                     (size_t)(stack->high - stack->low));
}
