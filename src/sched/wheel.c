/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See wheel.h for the argument; the steps W1 to W7 are cited here.
 */
#include "wheel.h"

#include <string.h>

#define SIGN        (UINT64_C(1) << 63) /* maps the order of int64_t to that of uint64_t */
#define BIT(n)      (UINT64_C(1) << (n))
#define LEVEL(n)    (UINT32_C(1) << (n))
#define FIRST(bits) ((unsigned)__builtin_ctzll(bits))

static uint64_t tick_of(int64_t time)
{
    return ((uint64_t)time ^ SIGN) >> RT_WHEEL_TICK_BITS;
}

static int64_t time_of(uint64_t tick)
{
    return (int64_t)((tick << RT_WHEEL_TICK_BITS) ^ SIGN);
}

/* The highest digit in which two ticks differ; 0 if they don't. */
static unsigned level_between(uint64_t a, uint64_t b)
{
    return (63 - (unsigned)__builtin_clzll((a ^ b) | 1)) / RT_WHEEL_DIGIT_BITS;
}

static unsigned digit_of(uint64_t tick, unsigned level)
{
    return tick >> (level * RT_WHEEL_DIGIT_BITS) & (RT_WHEEL_SLOTS - 1);
}

/* The tick with which a slot ahead of the position begins. */
static uint64_t start_of(const rt_wheel *w, unsigned level, unsigned slot)
{
    const unsigned bits = level * RT_WHEEL_DIGIT_BITS;
    return ((w->position >> bits & ~(uint64_t)(RT_WHEEL_SLOTS - 1)) | slot) << bits;
}

void rt_wheel_init(rt_wheel *w, int64_t now)
{
    memset(w, 0, sizeof *w);
    w->position = tick_of(now);
}

/* W1, W3 */
static void put(rt_wheel *w, rt_timer *t)
{
    uint64_t tick = tick_of(t->when);
    if (tick < w->position)
        tick = w->position;
    const unsigned level = level_between(tick, w->position);
    const unsigned slot = digit_of(tick, level);
    const uint64_t occupied = w->occupied[level];
    rt_timer *const head = w->slots[level][slot];

    /* W7: is it the earliest of the level? */
    if (!occupied || slot < FIRST(occupied) || (slot == FIRST(occupied) && t->when <= w->soonest[level])) {
        w->soonest[level] = t->when;
        w->exact |= LEVEL(level);
    }
    if (head) {
        rt_timer *const last = head->prev;
        if (t->when < last->when)
            w->mixed[level] |= BIT(slot);
        t->next = head;
        t->prev = last;
        last->next = head->prev = t;
    } else {
        t->next = t->prev = t;
        w->slots[level][slot] = t;
        w->occupied[level] = occupied | BIT(slot);
        w->levels |= LEVEL(level);
    }
    t->place = (uint16_t)(level * RT_WHEEL_SLOTS + slot);
}

/* Makes a slot empty, whatever becomes of its timers. */
static void vacate(rt_wheel *w, unsigned level, unsigned slot)
{
    const uint64_t others = w->occupied[level] & ~BIT(slot);
    w->slots[level][slot] = NULL;
    w->occupied[level] = others;
    w->mixed[level] &= ~BIT(slot);
    if (!others) {
        w->levels &= ~LEVEL(level);
    } else if (slot < FIRST(others)) {
        /* W7. The new first one lies ahead: W3's comes before all others. */
        const unsigned first = FIRST(others);
        const bool known = !(w->mixed[level] & BIT(first));
        w->soonest[level] = known ? w->slots[level][first]->when : time_of(start_of(w, level, first));
        w->exact = known ? w->exact | LEVEL(level) : w->exact & ~LEVEL(level);
    }
}

/* W4. No timer may be before `tick`. */
static void advance(rt_wheel *w, uint64_t tick)
{
    const unsigned level = level_between(tick, w->position);
    const unsigned slot = digit_of(tick, level);
    rt_timer *t = w->slots[level][slot];
    w->position = tick;
    if (level == 0 || !t)
        return;
    rt_timer *const last = t->prev;
    vacate(w, level, slot);
    for (rt_timer *next;; t = next) {
        next = t->next;
        put(w, t);
        if (t == last)
            return;
    }
}

void rt_wheel_add(rt_wheel *w, rt_timer *t)
{
    put(w, t);
    w->count++;
}

void rt_wheel_remove(rt_wheel *w, rt_timer *t)
{
    const unsigned level = t->place / RT_WHEEL_SLOTS;
    const unsigned slot = t->place % RT_WHEEL_SLOTS;
    if (t->next == t) {
        vacate(w, level, slot);
    } else {
        t->prev->next = t->next;
        t->next->prev = t->prev;
        if (w->slots[level][slot] == t)
            w->slots[level][slot] = t->next;
        if (t->next->next == t->next)
            w->mixed[level] &= ~BIT(slot);
        if (t->when == w->soonest[level]) { /* W7; so it was in the first slot */
            if (w->mixed[level] & BIT(slot)) {
                w->exact &= ~LEVEL(level);
            } else {
                w->soonest[level] = w->slots[level][slot]->when;
                w->exact |= LEVEL(level);
            }
        }
    }
    t->prev = NULL;
    w->count--;
}

int64_t rt_wheel_next(rt_wheel *w)
{
    if (!w->levels)
        return INT64_MAX;
    const unsigned level = FIRST(w->levels);
    if (!(w->exact & LEVEL(level))) {
        const rt_timer *const head = w->slots[level][FIRST(w->occupied[level])]; /* W2 */
        int64_t soonest = head->when;
        for (const rt_timer *t = head->next; t != head; t = t->next)
            soonest = t->when < soonest ? t->when : soonest;
        w->soonest[level] = soonest;
        w->exact |= LEVEL(level);
    }
    return w->soonest[level];
}

/* Of two lists in order and ended by NULL: one. Equal timers of `a` come before those of `b`. */
static rt_timer *merge(rt_timer *a, rt_timer *b)
{
    rt_timer *first = NULL, **end = &first;
    while (a && b) {
        rt_timer **const from = b->when < a->when ? &b : &a;
        *end = *from;
        end = &(*from)->next;
        *from = *end;
    }
    *end = a ? a : b;
    return first;
}

/* Brings a slot in order (W6) by a stable merge sort that uses the runs it finds: n timers of which k joined
 * behind a later one cost n * log k. */
static void sort(rt_wheel *w, unsigned level, unsigned slot)
{
    rt_timer *merged[64] = {NULL}; /* [i]: 2^i runs, or none; the higher i, the earlier they were added */
    rt_timer *rest = w->slots[level][slot], *all = NULL;
    rest->prev->next = NULL;
    while (rest) {
        rt_timer *run = rest, *last = rest;
        while (last->next && last->next->when >= last->when)
            last = last->next;
        rest = last->next;
        last->next = NULL;
        unsigned i = 0;
        for (; merged[i]; i++) {
            run = merge(merged[i], run);
            merged[i] = NULL;
        }
        merged[i] = run;
    }
    for (unsigned i = 0; i < 64; i++)
        all = merge(merged[i], all);

    rt_timer *last = all;
    for (; last->next; last = last->next)
        last->next->prev = last;
    last->next = all;
    all->prev = last;
    w->slots[level][slot] = all;
    w->mixed[level] &= ~BIT(slot);
}

/* Takes what is due, up to `most`, from the first slot of a level, which must not be mixed (W6). Moves *end
 * behind the last one; returns how many. */
static size_t take(rt_wheel *w, unsigned level, unsigned slot, int64_t now, size_t most, rt_timer ***end)
{
    rt_timer *const head = w->slots[level][slot], *const last = head->prev;
    rt_timer *t = head, *taken = NULL;
    size_t n = 0;
    while (n < most && t->when <= now && taken != last) {
        taken = t;
        t = t->next;
        taken->prev = NULL;
        n++;
    }
    if (taken) {
        **end = head;
        *end = &taken->next;
    }
    if (taken == last) {
        vacate(w, level, slot);
    } else {
        w->slots[level][slot] = t;
        t->prev = last;
        last->next = t;
        w->soonest[level] = t->when;
        w->exact |= LEVEL(level);
    }
    return n;
}

rt_timer *rt_wheel_expire(rt_wheel *w, int64_t now, size_t most)
{
    rt_timer *first = NULL, **end = &first;
    /* Either a mixed slot goes down a level, or something is taken, or it turns out that nothing is due. */
    while (most > 0 && rt_wheel_not_before(w) <= now && w->levels) {
        const unsigned level = FIRST(w->levels), slot = FIRST(w->occupied[level]);
        if (level > 0 && w->mixed[level] & BIT(slot)) {
            /* which is not beyond now: `soonest` is not before it (W7) */
            advance(w, start_of(w, level, slot));
            continue;
        }
        if (w->mixed[level] & BIT(slot))
            sort(w, level, slot);
        const size_t n = take(w, level, slot, now, most, &end);
        w->count -= n;
        most -= n;
    }
    *end = NULL;
    if (most > 0 && tick_of(now) > w->position) /* all that is left is later: W4 */
        advance(w, tick_of(now));
    return first;
}
