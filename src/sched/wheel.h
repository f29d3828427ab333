/* SPDX-License-Identifier: MIT
 *
 * Floor 3. Timers, by the million, most of which are cancelled before they fire: a hierarchical
 * timing wheel (Varghese and Lauck 1987, scheme 7). It allocates nothing, locks nothing, and knows nothing of
 * what its timers are for: whoever owns it keeps others out, and gets a list of what is due.
 *
 * Adding and removing a timer is a handful of instructions, however many there are. Unlike Linux's wheel
 * (since 4.8), which never moves a timer and so fires those far away late, and tokio's, which rounds up
 * to milliseconds and knows of a far timer only when its slot begins, this one is exact: to the nanosecond of
 * `when`, in its order, and for every int64_t. By steps:
 *
 *  W1 A tick is 1024 ns. Ticks have 54 bits: nine digits of six, and a level for each digit. The
 *     wheel has a position, a tick. A timer stands at the level of the highest digit in which its tick
 *     differs from the position (level 0 if in none), in the slot that this digit of its own names.
 *  W2 So a timer of level n agrees with the position in all digits above n, and is ahead of it in
 *     digit n. Therefore all of a level are earlier than all of the next, the slots of a level stand in
 *     the order of time, and the earliest timer is in the first occupied slot of the lowest occupied
 *     level.
 *  W3 What is added with a tick before the position (it is past) is taken as if it had the position's
 *     own. It then shares that slot of level 0, the first of all, with what is due in this very tick.
 *  W4 The position only moves forward, and only to a tick that no timer is before (W3's have been
 *     taken out then). If its highest digit to change is n, no timer is left at the levels below n, and
 *     of those at n and above only the ones in the slot of level n that it now points to stand wrong by
 *     W1: these are put where they belong, in their order. A timer so moves to ever lower levels, eight
 *     times at most.
 *  W5 By W1 and W4 a timer's slot depends on nothing but its `when` and the position: equal ones are
 *     always in the same slot. Slots are first in, first out, and W4 moves timers into empty slots: so
 *     equal ones stay in the order in which they were added.
 *  W6 A slot is marked as mixed once a timer joins it behind a later one. As long as it is not, its
 *     head is its earliest, and what is due is taken from there, at any level, without a detour over the
 *     lower ones. A mixed slot that becomes due is spread over the lower levels by W4; one of level 0 is
 *     sorted, stably.
 *  W7 Each level knows a time that no timer of its first slot, and so none of the level, is before:
 *     `soonest`. It is exact after an addition below it, and when something was taken or removed from a
 *     first slot that is not mixed. Once the earliest of a mixed slot is removed, or a mixed slot becomes
 *     the first, it is a bound, until somebody asks for more.
 */
#ifndef RT_SCHED_WHEEL_H
#define RT_SCHED_WHEEL_H

#include "../base/base.h"

#define RT_WHEEL_TICK_BITS  10
#define RT_WHEEL_DIGIT_BITS 6
#define RT_WHEEL_SLOTS      (1 << RT_WHEEL_DIGIT_BITS)
#define RT_WHEEL_LEVELS     9

_Static_assert(RT_WHEEL_TICK_BITS + RT_WHEEL_LEVELS * RT_WHEEL_DIGIT_BITS == 64, "a digit for every bit");

/* All zero: not in a wheel. It must stay where it is while it is in one. */
typedef struct rt_timer {
    int64_t when; /* the caller's, in ns; not to be changed while in a wheel */
    /* the wheel's. Each slot is a circle; a list that rt_wheel_expire returns ends in NULL. */
    struct rt_timer *next, *prev; /* prev NULL: not in a wheel */
    uint16_t place;               /* level * RT_WHEEL_SLOTS + slot */
} rt_timer;

/* All of it under the owner's lock. */
typedef struct {
    uint64_t position; /* W1 */
    size_t count;
    /* bits stand for levels */
    uint32_t levels;                  /* that are occupied */
    uint32_t exact;                   /* whose soonest is some timer's `when` (W7) */
    int64_t soonest[RT_WHEEL_LEVELS]; /* W7; means something while the level is occupied */
    /* bits stand for slots */
    uint64_t occupied[RT_WHEEL_LEVELS];
    uint64_t mixed[RT_WHEEL_LEVELS];                  /* W6 */
    rt_timer *slots[RT_WHEEL_LEVELS][RT_WHEEL_SLOTS]; /* the oldest of each circle; NULL: empty */
} rt_wheel;

/* An empty wheel; now: any time that does not lie ahead of the clock. */
void rt_wheel_init(rt_wheel *w, int64_t now);

/* Adds a timer, which is in no wheel, for t->when: any time at all. O(1). */
void rt_wheel_add(rt_wheel *w, rt_timer *t);

/* Removes a timer, which must be in this wheel. O(1). */
void rt_wheel_remove(rt_wheel *w, rt_timer *t);

/* The `when` of the earliest timer; INT64_MAX if there is none. O(1), except when the earliest of a mixed
 * slot was removed since the last time, or a mixed slot has become the first: then it looks at every timer of
 * this one slot. Whoever cancels the earliest timer over and over had better sleep by rt_wheel_not_before. */
int64_t rt_wheel_next(rt_wheel *w);

/* Takes out up to `most` timers with when <= now, and returns them linked by `next` in the order of `when`,
 * equal ones in the order of adding; NULL: none. Each may be added again at once, but that overwrites its
 * `next`. It also tells the wheel the time, which keeps it fine-grained: so call it now and then even if
 * nothing is due. A `now` before an earlier one tells it nothing, and takes out what is due by it. Costs the
 * same however far now has jumped; moving timers down (W4) is O(levels) for each over its life, but a slot is
 * moved at once. */
rt_timer *rt_wheel_expire(rt_wheel *w, int64_t now, size_t most);

/* A time that no timer is before, mostly the earliest one's `when`; INT64_MAX if there is none. O(1) always.
 * Once it has come, rt_wheel_expire takes something out or makes it a later one: by looking at the head of a
 * slot, or by moving a mixed slot down. So whoever sleeps by it wakes in vain now and then, but not for every
 * timer that is cancelled. */
RT_INLINE int64_t rt_wheel_not_before(const rt_wheel *w)
{
    return w->levels ? w->soonest[__builtin_ctz(w->levels)] : INT64_MAX;
}

RT_INLINE size_t rt_wheel_count(const rt_wheel *w)
{
    return w->count;
}

/* Is it in a wheel? */
RT_INLINE bool rt_timer_is_set(const rt_timer *t)
{
    return t->prev != NULL;
}

#endif
