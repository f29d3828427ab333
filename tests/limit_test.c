/* SPDX-License-Identifier: MIT
 *
 * Tests of limits of time (time.h) and of shields as far as they hold limits off: which limit is in force,
 * how the braces that it is declared in can be left, what blocks and is ended by it, what does not block and
 * is not, what remains of a wait that was ended (nothing), and many limits against many hand-overs, where
 * each value arrives once or not at all.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/sync.h"

/* Often too short, sometimes passed already. */
static int64_t random_limit(uint64_t *random)
{
    const uint64_t kind = support_random(random) % 8;
    return kind == 0 ? -1 : (int64_t)(support_random(random) % (kind < 4 ? 3 : 60)) * ROUTINE_US;
}

/* ---- values ---- */

static const int64_t passed_values[] = {0, -1, -ROUTINE_S, INT64_MIN + 1, INT64_MIN};

static void check_passed(chan_t *ready)
{
    const ptrdiff_t length = chan_len(ready);
    int x = -1;
    CHECK(routine_deadline() <= routine_now());
    CHECK_EQ(routine_check(), -ETIMEDOUT);
    CHECK_EQ(chan_recv(ready, &x), -ETIMEDOUT);
    CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);
    CHECK_EQ(routine_check(), -ETIMEDOUT);
    CHECK_EQ(x, -1);
    CHECK_EQ(chan_len(ready), length);
}

static void check_none(void)
{
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_sleep(1), 0);
}

TEST_EVERYWHERE(what_is_not_above_0_has_passed)
{
    chan_t *ready = MAKE(int, 1);
    CHECK_EQ(chan_send(ready, &(int){7}), 0);
    for (size_t i = 0; i < COUNT_OF(passed_values); i++) {
        {
            routine_with_timeout(passed_values[i]);
            check_passed(ready);
        }
        check_none();
        {
            routine_with_deadline(passed_values[i]);
            check_passed(ready);
        }
        check_none();
    }
    {
        routine_with_deadline(routine_now());
        check_passed(ready);
    }
    {
        routine_with_deadline(routine_now() - 1);
        check_passed(ready);
    }
    check_none();
    int x = -1;
    CHECK_EQ(chan_recv(ready, &x), 0);
    CHECK_EQ(x, 7);
    chan_unref(ready);
}

TEST_EVERYWHERE(what_is_too_large_never_comes)
{
    {
        routine_with_timeout(ROUTINE_NEVER);
        check_none();
    }
    {
        routine_with_deadline(ROUTINE_NEVER);
        check_none();
    }
    {
        routine_with_timeout(INT64_MAX - 1); /* the sum saturates */
        check_none();
    }
    {
        routine_with_timeout(INT64_MAX - routine_now() / 2);
        check_none();
    }
    {
        routine_with_deadline(INT64_MAX - 1); /* a time as any other */
        CHECK_EQ(routine_deadline(), INT64_MAX - 1);
        CHECK_EQ(routine_check(), 0);
        CHECK_EQ(routine_sleep(1), 0);
    }
    {
        routine_with_timeout(INT64_MAX - routine_now() - 3600 * ROUTINE_S); /* and this sum does not */
        CHECK(routine_deadline() > INT64_MAX - 3601 * ROUTINE_S);
        CHECK_EQ(routine_check(), 0);
        CHECK_EQ(routine_sleep(1), 0);
    }
    check_none();
}

TEST_EVERYWHERE(a_timeout_counts_from_its_declaration)
{
    const int64_t before = routine_now();
    routine_with_timeout(1000 * ROUTINE_S);
    const int64_t at = routine_deadline(), after = routine_now();
    CHECK(at >= before + 1000 * ROUTINE_S);
    CHECK(at <= after + 1000 * ROUTINE_S);
    CHECK_EQ(routine_deadline(), at); /* it stays */
}

/* ---- nesting ---- */

TEST_EVERYWHERE(of_nested_limits_the_nearest_counts)
{
    const int64_t now = routine_now(), near = now + 1000 * ROUTINE_S, far = now + 2000 * ROUTINE_S,
                  farthest = now + 3000 * ROUTINE_S;
    {
        routine_with_deadline(far);
        CHECK_EQ(routine_deadline(), far);
        {
            routine_with_deadline(near); /* the inner one is shorter */
            CHECK_EQ(routine_deadline(), near);
            {
                routine_with_deadline(farthest); /* the outer one is */
                CHECK_EQ(routine_deadline(), near);
                {
                    routine_with_deadline(ROUTINE_NEVER);
                    CHECK_EQ(routine_deadline(), near);
                }
                {
                    routine_with_timeout(ROUTINE_NEVER);
                    CHECK_EQ(routine_deadline(), near);
                }
                {
                    routine_with_timeout(0);
                    CHECK_EQ(routine_check(), -ETIMEDOUT);
                    {
                        routine_with_deadline(near);
                        CHECK_EQ(routine_check(), -ETIMEDOUT);
                        CHECK(routine_deadline() <= routine_now());
                    }
                    CHECK_EQ(routine_check(), -ETIMEDOUT);
                }
                CHECK_EQ(routine_check(), 0);
                CHECK_EQ(routine_deadline(), near);
            }
            CHECK_EQ(routine_deadline(), near);
        }
        CHECK_EQ(routine_deadline(), far);
        {
            routine_with_deadline(farthest);
            CHECK_EQ(routine_deadline(), far);
        }
        CHECK_EQ(routine_deadline(), far);
    }
    check_none();
}

TEST_EVERYWHERE(several_in_the_same_braces)
{
    const int64_t now = routine_now();
    {
        routine_with_deadline(now + 2000 * ROUTINE_S);
        CHECK_EQ(routine_deadline(), now + 2000 * ROUTINE_S);
        routine_with_deadline(now + 3000 * ROUTINE_S);
        CHECK_EQ(routine_deadline(), now + 2000 * ROUTINE_S);
        routine_with_deadline(now + 1000 * ROUTINE_S);
        CHECK_EQ(routine_deadline(), now + 1000 * ROUTINE_S);
        routine_with_deadline(now + 1500 * ROUTINE_S);
        CHECK_EQ(routine_deadline(), now + 1000 * ROUTINE_S);
    }
    check_none();
}

static void nest(int depth, int64_t outer, uint64_t *random)
{
    const int64_t at =
        routine_now() + (int64_t)(support_random(random) % 1000000) * ROUTINE_S + 1000 * ROUTINE_S;
    CHECK_EQ(routine_deadline(), outer);
    {
        routine_with_deadline(at);
        const int64_t nearest = at < outer ? at : outer;
        CHECK_EQ(routine_deadline(), nearest);
        if (depth > 0) {
            nest(depth - 1, nearest, random);
            CHECK_EQ(routine_deadline(), nearest);
            if (depth % 8 == 0)
                nest(depth / 2, nearest, random);
        }
        if (depth % 16 == 3)
            routine_yield();
        CHECK_EQ(routine_deadline(), nearest);
    }
    CHECK_EQ(routine_deadline(), outer);
}

TEST_EVERYWHERE(deep_ones)
{
    uint64_t random = 4711;
    nest(40, ROUTINE_NEVER, &random);
    check_none();
}

/* ---- leaving the braces ---- */

/* All are called under `outer`, declare `inner`, which is nearer, and leave its braces in some way. */
struct limits {
    int64_t outer, inner;
};

static void by_falling_out(const struct limits *l)
{
    {
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
    }
    CHECK_EQ(routine_deadline(), l->outer);
}

static void by_break(const struct limits *l)
{
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_deadline(), l->outer);
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
        if (i == 1)
            break;
    }
    CHECK_EQ(routine_deadline(), l->outer);
    switch (l->inner % 3) {
    default: {
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
        if (l->inner > 0)
            break;
        support_fail(__FILE__, __LINE__, "not reached");
    }
    }
    CHECK_EQ(routine_deadline(), l->outer);
}

static void by_continue(const struct limits *l)
{
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(routine_deadline(), l->outer);
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
        if (i % 2)
            continue;
        {
            routine_with_deadline(l->inner - 1);
            CHECK_EQ(routine_deadline(), l->inner - 1);
            if (i % 4)
                continue; /* out of both */
        }
        CHECK_EQ(routine_deadline(), l->inner);
    }
    CHECK_EQ(routine_deadline(), l->outer);
    int n = 0;
    do {
        CHECK_EQ(routine_deadline(), l->outer);
        routine_with_deadline(l->inner);
        if (n % 2)
            continue;
    } while (n++ < 4);
    CHECK_EQ(routine_deadline(), l->outer);
}

static int64_t returns_from_inside(const struct limits *l, int depth)
{
    routine_with_deadline(l->inner - depth);
    {
        routine_with_deadline(l->inner - 2 * depth);
        for (;;) {
            routine_with_deadline(l->inner - 3 * depth);
            if (depth > 0)
                return routine_deadline(); /* computed under the limits */
            break;
        }
        return routine_deadline();
    }
}

static void by_return(const struct limits *l)
{
    CHECK_EQ(returns_from_inside(l, 1), l->inner - 3);
    CHECK_EQ(routine_deadline(), l->outer);
    CHECK_EQ(returns_from_inside(l, 0), l->inner);
    CHECK_EQ(routine_deadline(), l->outer);
}

static void by_goto_out(const struct limits *l)
{
    {
        routine_with_deadline(l->inner);
        {
            routine_with_deadline(l->inner - 1);
            if (l->outer > 0)
                goto middle; /* out of one */
            support_fail(__FILE__, __LINE__, "not reached");
        }
    middle:
        CHECK_EQ(routine_deadline(), l->inner);
        {
            routine_with_deadline(l->inner - 1);
            if (l->outer > 0)
                goto outside; /* out of two */
            support_fail(__FILE__, __LINE__, "not reached");
        }
    }
outside:
    CHECK_EQ(routine_deadline(), l->outer);
}

static void by_goto_back(const struct limits *l)
{
    int times = 0;
again:
    CHECK_EQ(routine_deadline(), l->outer);
    {
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
        if (times++ < 3)
            goto again;
    }
    CHECK_EQ(routine_deadline(), l->outer);
    {
        times = 0;
    before: /* in the braces, but before the declaration */
        CHECK_EQ(routine_deadline(), l->outer);
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
        routine_with_deadline(l->inner - 1);
        if (times++ < 3)
            goto before;
        CHECK_EQ(routine_deadline(), l->inner - 1);
    }
    CHECK_EQ(routine_deadline(), l->outer);
}

typedef void way_out(const struct limits *);
static way_out *const ways_out[] = {by_falling_out, by_break,    by_continue,
                                    by_return,      by_goto_out, by_goto_back};

TEST_EVERYWHERE(however_the_braces_are_left_the_outer_limit_comes_back)
{
    const int64_t now = routine_now();
    for (int round = 0; round < 20; round++)
        for (size_t way = 0; way < COUNT_OF(ways_out); way++) {
            const struct limits none = {ROUTINE_NEVER, now + 1000 * ROUTINE_S};
            ways_out[way](&none);
            const struct limits nested = {now + 2000 * ROUTINE_S, now + 1000 * ROUTINE_S};
            routine_with_deadline(nested.outer);
            ways_out[way](&nested);
            if (round % 4 == 0)
                routine_yield();
            ways_out[way](&nested);
        }
    check_none();
}

/* As in a server's loop: nothing is left of the ones before. */
TEST_EVERYWHERE(a_hundred_thousand_times)
{
    chan_t *ch = MAKE(long, 1);
    for (long i = 0; i < support_scale(100000); i++) {
        long x = -1;
        routine_with_timeout(1000 * ROUTINE_S);
        CHECK_EQ(chan_send(ch, &i), 0);
        CHECK_EQ(chan_recv(ch, &x), 0);
        if (x == i)
            continue;
        support_fail(__FILE__, __LINE__, "%ld is not %ld", x, i);
        break;
    }
    check_none();
    chan_unref(ch);
}

/* ---- past the declaration ---- */

/* A jump into the braces behind the declaration: the record was never begun, whatever its memory holds, so
 * nothing may happen at their end. (clang refuses to compile it.) */
#ifndef __clang__
#define CAN_JUMP_IN 1

SUPPORT_NOINLINE static void jump_in(bool past, const struct limits *l)
{
    CHECK_EQ(routine_deadline(), l->outer);
    {
        if (past)
            goto inside;
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
    inside:
        CHECK_EQ(routine_deadline(), past ? l->outer : l->inner);
        routine_with_deadline(l->inner - 1);
        CHECK_EQ(routine_deadline(), l->inner - 1);
    }
    CHECK_EQ(routine_deadline(), l->outer);
}

SUPPORT_NOINLINE static void switch_in(int from, const struct limits *l)
{
    switch (from) {
    case 0:;
        routine_with_deadline(l->inner);
        CHECK_EQ(routine_deadline(), l->inner);
        __attribute__((fallthrough));
    case 1:;
        routine_with_deadline(l->inner - 1);
        CHECK_EQ(routine_deadline(), l->inner - 1);
        __attribute__((fallthrough));
    case 2:
        CHECK_EQ(routine_deadline(), from == 2 ? l->outer : l->inner - 1);
        break;
    default:
        CHECK_EQ(routine_deadline(), l->outer);
    }
    CHECK_EQ(routine_deadline(), l->outer);
}

/* The same record in the same memory, now begun, now not, and left early. */
SUPPORT_NOINLINE static void loop_in(const struct limits *l)
{
    for (int i = 0; i < 12; i++) {
        CHECK_EQ(routine_deadline(), l->outer);
        if (i % 3 == 1)
            goto inside;
        routine_with_deadline(l->inner);
    inside:
        CHECK_EQ(routine_deadline(), i % 3 == 1 ? l->outer : l->inner);
        if (i % 4 == 2)
            continue;
        CHECK_EQ(routine_deadline(), i % 3 == 1 ? l->outer : l->inner);
    }
    CHECK_EQ(routine_deadline(), l->outer);
}

static int64_t return_from_inside(bool past, const struct limits *l)
{
    if (past)
        goto inside;
    routine_with_deadline(l->inner);
inside:
    return routine_deadline();
}

/* Leaves garbage where the records will be. */
SUPPORT_NOINLINE static void dirty_stack(int with)
{
    volatile unsigned char block[1024];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (unsigned char)(with == 0 ? 0 : with == 1 ? 0xff : i * 37);
}

static void jump_in_all_ways(const struct limits *l)
{
    for (int round = 0; round < 30; round++) {
        dirty_stack(round % 3);
        jump_in(true, l);
        dirty_stack(round % 3);
        switch_in(2, l);
        dirty_stack(round % 3);
        CHECK_EQ(return_from_inside(true, l), l->outer);
        jump_in(round % 2, l);
        switch_in(round % 4, l);
        loop_in(l);
        CHECK_EQ(return_from_inside(round % 2, l), round % 2 ? l->outer : l->inner);
    }
}

static void *jump_in_first_of_all(void *arg)
{
    jump_in(true, arg);
    jump_in_all_ways(arg);
    return arg;
}

TEST_EVERYWHERE(a_jump_past_the_declaration)
{
    const int64_t now = routine_now();
    struct limits l = {ROUTINE_NEVER, now + 1000 * ROUTINE_S};
    jump_in_all_ways(&l);
    /* the first thing that a thread or a routine does */
    act_end(act(true, jump_in_first_of_all, &l));
    act_end(act(false, jump_in_first_of_all, &l));
    routine_with_deadline(now + 2000 * ROUTINE_S);
    l.outer = now + 2000 * ROUTINE_S;
    jump_in_all_ways(&l);
}

#else
#define CAN_JUMP_IN 0
#endif

/* ---- exit and panic ---- */

enum { RETURN, EXIT, PANIC, ENDS };

struct leaver {
    int end;
    int depth;
    bool parks;
};

static routine_key_t seen_by_destructor;

static void destructor(void *value)
{
    *(int64_t *)value = routine_deadline();
    CHECK_EQ(routine_check(), 0);
}

static void leave_from(const struct leaver *l, int depth)
{
    routine_with_timeout(depth % 2 ? 1000 * ROUTINE_S : -1);
    if (depth > 0) {
        leave_from(l, depth - 1);
        return;
    }
    if (l->parks) {
        routine_shield();
        CHECK_EQ(routine_sleep(10 * ROUTINE_US), 0);
    }
    if (l->end == EXIT)
        routine_exit((void *)(uintptr_t)l);
    if (l->end == PANIC)
        routine_panic("left at depth %d", l->depth);
}

struct leaving {
    struct leaver how;
    int64_t in_destructor;
};

static void *leave(void *arg)
{
    struct leaving *l = arg;
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER); /* nothing of whoever had the block, or joins */
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_setspecific(seen_by_destructor, &l->in_destructor), 0);
    leave_from(&l->how, l->how.depth);
    return &l->how;
}

/* In place, where it is possible: the joiner's limits are what they were. */
static void *join_leavers(void *arg)
{
    const int64_t at = routine_now() + 1000 * ROUTINE_S;
    for (int i = 0; i < 60; i++) {
        struct leaving l = {{i % ENDS, i % 7, i % 5 == 0}, 0};
        void *result = NULL;
        const int expected = l.how.end == PANIC ? -ENOTRECOVERABLE : 0;
        if (i % 4 == 0) {
            CHECK_EQ(routine_join(go(leave, &l), &result), expected);
            CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
        } else if (i % 4 == 1) {
            routine_with_timeout(ROUTINE_NEVER);
            CHECK_EQ(routine_join(go(leave, &l), &result), expected);
            CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
        } else if (i % 4 == 2) {
            routine_with_deadline(at);
            CHECK_EQ(routine_join(go(leave, &l), &result), expected);
            CHECK_EQ(routine_deadline(), at);
        } else {
            routine_with_timeout(-1);
            {
                routine_shield();
                CHECK_EQ(routine_join(go(leave, &l), &result), expected);
                CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
            }
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        CHECK(result == (expected == 0 ? &l.how : NULL));
        CHECK_EQ(l.in_destructor, ROUTINE_NEVER);
    }
    check_none();
    return arg;
}

TEST_EVERYWHERE(left_by_exit_and_panic)
{
    join_leavers(NULL);
    routine_runtime_t *one = support_runtime(1); /* where all that can be is run in place */
    CHECK_EQ(routine_join(support_go_on(one, join_leavers, NULL), NULL), 0);
    support_runtime_end(one);
}

/* ---- whom they reach ---- */

SUPPORT_NOINLINE static int receive_deep(chan_t *ch, int depth)
{
    if (depth > 0) {
        const int rc = receive_deep(ch, depth - 1);
        CHECK(routine_check() == rc);
        return rc;
    }
    return chan_recv(ch, NULL);
}

SUPPORT_NOINLINE static int with_its_own(chan_t *ch, int64_t ns)
{
    routine_with_timeout(ns);
    return chan_recv(ch, NULL);
}

TEST_EVERYWHERE(all_that_is_called)
{
    chan_t *empty = MAKE(int, 1);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(receive_deep(empty, 20), -ETIMEDOUT);
    }
    {
        routine_with_timeout(1000 * ROUTINE_S);
        CHECK_EQ(with_its_own(empty, ROUTINE_MS), -ETIMEDOUT);
        CHECK_EQ(routine_check(), 0);
    }
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(with_its_own(empty, 1000 * ROUTINE_S), -ETIMEDOUT);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    check_none();
    chan_unref(empty);
}

static void *without_a_limit(void *arg)
{
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_sleep(3 * ROUTINE_MS), 0);
    CHECK_EQ(routine_check(), 0);
    if (arg != NULL)
        atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
}

static void *without_a_limit_copy(void *arg)
{
    CHECK_EQ(*(int *)arg, 5);
    return without_a_limit(NULL);
}

TEST_EVERYWHERE(not_what_go_starts)
{
    _Atomic int done = 0;
    routine_t h[3];
    pthread_t thread;
    {
        routine_with_timeout(ROUTINE_MS);
        h[0] = go(without_a_limit, (void *)&done);
        h[1] = go_with(&(routine_attr_t){.name = "without"}, without_a_limit, (void *)&done);
        h[2] = go_copy(without_a_limit_copy, ((int){5}));
        CHECK_EQ(go_detached(without_a_limit, (void *)&done), 0);
        thread = support_thread(without_a_limit, (void *)&done);
        CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    support_thread_join(thread, NULL);
    WAIT_UNTIL(atomic_load(&done) == 4);
}

/* In place: the child has its own limits and none of its joiner's. */
static void *in_place_child(void *arg)
{
    chan_t *empty = arg;
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_check(), 0);
    {
        routine_with_timeout(30 * ROUTINE_US);
        CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    CHECK_EQ(routine_sleep(30 * ROUTINE_US), 0);
    CHECK_EQ(routine_check(), 0);
    return arg;
}

static void *in_place_middle(void *arg)
{
    const int64_t at = routine_now() + 1000 * ROUTINE_S;
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_join(go(in_place_child, arg), NULL), 0);
    routine_with_deadline(at);
    CHECK_EQ(routine_join(go(in_place_child, arg), NULL), 0);
    CHECK_EQ(routine_deadline(), at);
    return arg;
}

static void *in_place_joiner(void *arg)
{
    chan_t *empty = arg;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(routine_join(go(in_place_middle, empty), NULL), 0);
        check_none();
        {
            routine_with_timeout(20 * ROUTINE_US);
            {
                routine_shield();
                CHECK_EQ(routine_join(go(in_place_middle, empty), NULL), 0);
                CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
            }
            CHECK_EQ(routine_check(), -ETIMEDOUT); /* the child slept longer */
        }
        check_none();
    }
    return arg;
}

TEST(children_in_place_have_their_own)
{
    chan_t *empty = MAKE(int, 0);
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, in_place_joiner, empty), NULL), 0);
    support_runtime_end(one);
    support_in_routine(in_place_joiner, empty);
    chan_unref(empty);
}

/* A limit belongs to the routine, whatever worker it has come to. */
static void *wander(void *arg)
{
    uint64_t random = 1 + (uint64_t)(uintptr_t)arg;
    const int64_t now = routine_now(), far = now + 2000 * ROUTINE_S,
                  near = now + 1000 * ROUTINE_S + (intptr_t)arg;
    routine_with_deadline(far);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_deadline(), far);
        {
            routine_with_deadline(near);
            for (uint64_t k = support_random(&random) % 4; k > 0; k--) {
                if (support_random(&random) % 4 == 0)
                    CHECK_EQ(routine_sleep(1), 0);
                else
                    routine_yield();
                CHECK_EQ(routine_deadline(), near);
            }
            const int64_t ns = (int64_t)(support_random(&random) % 1000);
            if (i % 10 == 0) {
                const int64_t before = routine_now();
                routine_with_timeout(ns);
                CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);
                CHECK(routine_now() - before >= ns);
                CHECK(routine_deadline() < near);
            }
        }
        routine_yield();
    }
    CHECK_EQ(routine_check(), 0);
    return arg;
}

TEST(they_wander_with_their_routines)
{
    enum { N = 40 };
    routine_runtime_t *runtime = support_runtime(4);
    routine_t h[N];
    for (intptr_t i = 0; i < N; i++)
        h[i] = support_go_on(runtime, wander, (void *)i);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    support_runtime_end(runtime);
}

/* ---- every operation ---- */

/* All that one can wait for, both so that one waits, and so that one need not. */
struct things {
    chan_t *full, *empty, *meeting, *closed, *half;
    routine_mutex_t held, free, for_cond;
    routine_cond_t cond;
    routine_rwlock_t written, read, unlocked;
    routine_sem_t none, some;
    routine_waitgroup_t busy, idle;
    routine_barrier_t pair, alone;
    routine_oneshot_t unsent, sent;
    routine_t holder; /* runs until `gate` is opened, and holds what is to be held */
    routine_oneshot_t gate;
    _Atomic int held_all;
};

static void *hold(void *arg)
{
    struct things *t = arg;
    CHECK_EQ(routine_mutex_lock(&t->held), 0);
    CHECK_EQ(routine_rwlock_wrlock(&t->written), 0);
    CHECK_EQ(routine_rwlock_rdlock(&t->read), 0);
    atomic_store(&t->held_all, 1);
    CHECK_EQ(routine_oneshot_recv(&t->gate, NULL), 0);
    CHECK_EQ(routine_mutex_unlock(&t->held), 0);
    CHECK_EQ(routine_rwlock_unlock(&t->written), 0);
    CHECK_EQ(routine_rwlock_unlock(&t->read), 0);
    return t;
}

static void things_make(struct things *t)
{
    memset(t, 0, sizeof *t);
    t->full = MAKE(int, 1);
    t->empty = MAKE(int, 1);
    t->meeting = MAKE(int, 0);
    t->closed = MAKE(int, 1);
    t->half = MAKE(int, 4);
    CHECK_EQ(chan_send(t->full, &(int){1}), 0);
    CHECK_EQ(chan_send(t->half, &(int){2}), 0);
    CHECK_EQ(chan_send(t->half, &(int){3}), 0);
    CHECK_EQ(chan_close(t->closed), 0);
    CHECK_EQ(routine_sem_init(&t->some, 2), 0);
    CHECK_EQ(routine_waitgroup_add(&t->busy, 1), 0);
    CHECK_EQ(routine_barrier_init(&t->pair, 2), 0);
    CHECK_EQ(routine_barrier_init(&t->alone, 1), 0);
    CHECK_EQ(routine_oneshot_send(&t->sent, t), 0);
    t->holder = go(hold, t);
    WAIT_UNTIL(atomic_load(&t->held_all));
}

static int with_partner(struct things *t);

/* Nothing is left of those who gave up, in any of them; and nothing was taken out, or put in. */
static void things_check(struct things *t)
{
    size_t permits = 99;
    int x = -1;
    CHECK_EQ(chan_len(t->full), 1);
    CHECK_EQ(chan_len(t->empty), 0);
    CHECK_EQ(chan_len(t->half), 2);
    CHECK_EQ(chan_try_recv(t->meeting, &x), -EAGAIN);
    CHECK_EQ(chan_try_send(t->meeting, &x), -EAGAIN);
    CHECK_EQ(routine_sem_getvalue(&t->some, &permits), 0);
    CHECK_EQ(permits, 2);
    CHECK_EQ(routine_sem_getvalue(&t->none, &permits), 0);
    CHECK_EQ(permits, 0);
    CHECK_EQ(routine_mutex_trylock(&t->free), 0);
    CHECK_EQ(routine_mutex_unlock(&t->free), 0);
    CHECK_EQ(routine_mutex_trylock(&t->for_cond), 0);
    CHECK_EQ(routine_mutex_unlock(&t->for_cond), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&t->unlocked), 0);
    CHECK_EQ(routine_rwlock_unlock(&t->unlocked), 0);
    CHECK_EQ(routine_rwlock_tryrdlock(&t->read), 0); /* no writer waits */
    CHECK_EQ(routine_rwlock_unlock(&t->read), 0);

    CHECK_EQ(chan_send(t->empty, &(int){4}), 0); /* it stays where it was put: nobody is in a queue */
    CHECK_EQ(chan_len(t->empty), 1);
    CHECK_EQ(chan_recv(t->empty, &x), 0);
    CHECK_EQ(x, 4);
    CHECK_EQ(chan_recv(t->full, &x), 0);
    CHECK_EQ(x, 1);
    CHECK_EQ(chan_len(t->full), 0);
    CHECK_EQ(chan_send(t->full, &(int){1}), 0);
    CHECK_EQ(routine_sem_post(&t->none), 0);
    CHECK_EQ(routine_sem_trywait(&t->none), 0);
    CHECK_EQ(with_partner(t), 1);
}

static void things_end(struct things *t)
{
    void *value = NULL;
    things_check(t);
    CHECK_EQ(routine_oneshot_recv(&t->sent, &value), 0);
    CHECK(value == t);
    CHECK_EQ(routine_oneshot_send(&t->unsent, &value), 0);
    CHECK_EQ(routine_oneshot_recv(&t->unsent, &value), 0);
    CHECK(value == &value);
    CHECK_EQ(routine_waitgroup_done(&t->busy), 0);
    CHECK_EQ(routine_waitgroup_wait(&t->busy), 0);
    CHECK_EQ(routine_oneshot_send(&t->gate, NULL), 0);
    CHECK_EQ(routine_join(t->holder, &value), 0);
    CHECK(value == t);
    CHECK_EQ(routine_mutex_trylock(&t->held), 0);
    CHECK_EQ(routine_mutex_unlock(&t->held), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&t->written), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&t->read), 0);
    chan_unref(t->full);
    chan_unref(t->empty);
    chan_unref(t->meeting);
    chan_unref(t->closed);
    chan_unref(t->half);
}

struct op {
    const char *name;
    int (*call)(struct things *);
};

/* clang-format off */
#define OP(name, ...) static int name(struct things *t) { (void)t; return __VA_ARGS__; }
/* Those that wait. */
OP(send_full, chan_send(t->full, &(int){9}))
OP(send_meeting, chan_send(t->meeting, &(int){9}))
OP(recv_empty, chan_recv(t->empty, &(int){9}))
OP(recv_meeting, chan_recv(t->meeting, &(int){9}))
OP(select_one, chan_select(CHAN_RECV(t->empty, &(int){9})))
OP(select_three, chan_select(CHAN_RECV(t->empty, &(int){9}), CHAN_SEND(t->full, &(int){9}), CHAN_RECV(t->meeting, &(int){9})))
OP(select_both_ways, chan_select(CHAN_RECV(t->meeting, &(int){9}), CHAN_SEND(t->meeting, &(int){9}), CHAN_TIMEOUT(3600 * ROUTINE_S)))
OP(select_null, chan_select(CHAN_RECV(NULL, &(int){9})))
OP(select_time, chan_select(CHAN_TIMEOUT(ROUTINE_NEVER)))
OP(select_nothing, chan_select_array(NULL, 0))
OP(sleep_long, routine_sleep(3600 * ROUTINE_S))
OP(sleep_for_ever, routine_sleep(ROUTINE_NEVER))
OP(sleep_until, routine_sleep_until(routine_now() + 3600 * ROUTINE_S))
OP(lock_held, routine_mutex_lock(&t->held))
OP(read_written, routine_rwlock_rdlock(&t->written))
OP(write_written, routine_rwlock_wrlock(&t->written))
OP(write_read, routine_rwlock_wrlock(&t->read))
OP(wait_none, routine_sem_wait(&t->none))
OP(wait_busy, routine_waitgroup_wait(&t->busy))
OP(barrier_pair, routine_barrier_wait(&t->pair))
OP(recv_unsent, routine_oneshot_recv(&t->unsent, NULL))
OP(join_running, routine_join(t->holder, NULL))
/* Those that need not, unless a limit has passed. */
OP(send_half, chan_send(t->half, &(int){9}))
OP(recv_half, chan_recv(t->half, &(int){9}))
OP(select_half, chan_select(CHAN_RECV(t->half, &(int){9}), CHAN_SEND(t->half, &(int){9})))
OP(select_ready_or_default, chan_select(CHAN_RECV(t->half, &(int){9}), CHAN_DEFAULT))
OP(select_empty_or_default, chan_select(CHAN_RECV(t->empty, &(int){9}), CHAN_DEFAULT))
OP(select_default, chan_select(CHAN_DEFAULT))
OP(select_no_time, chan_select(CHAN_RECV(t->empty, &(int){9}), CHAN_TIMEOUT(0)))
OP(select_ready_no_time, chan_select(CHAN_RECV(t->half, &(int){9}), CHAN_TIMEOUT(0)))
OP(sleep_short, routine_sleep(1))
OP(lock_free, routine_mutex_lock(&t->free))
OP(read_unlocked, routine_rwlock_rdlock(&t->unlocked))
OP(write_unlocked, routine_rwlock_wrlock(&t->unlocked))
OP(read_read, routine_rwlock_rdlock(&t->read))
OP(wait_some, routine_sem_wait(&t->some))
OP(wait_idle, routine_waitgroup_wait(&t->idle))
OP(barrier_alone, routine_barrier_wait(&t->alone))
OP(recv_sent, routine_oneshot_recv(&t->sent, NULL))
/* clang-format on */

/* Always holds the mutex afterwards. */
static int wait_cond(struct things *t)
{
    /* not by lock, which the limit would end */
    WAIT_UNTIL(routine_mutex_trylock(&t->for_cond) == 0);
    const int rc = routine_cond_wait(&t->cond, &t->for_cond);
    CHECK_EQ(routine_mutex_unlock(&t->for_cond), 0);
    return rc;
}

#define ENTRY(name)                                                                                          \
    {                                                                                                        \
#name, name                                                                                          \
    }
static const struct op waiting_ops[] = {
    ENTRY(send_full),   ENTRY(send_meeting),   ENTRY(recv_empty),       ENTRY(recv_meeting),
    ENTRY(select_one),  ENTRY(select_three),   ENTRY(select_both_ways), ENTRY(select_null),
    ENTRY(select_time), ENTRY(select_nothing), ENTRY(sleep_long),       ENTRY(sleep_for_ever),
    ENTRY(sleep_until), ENTRY(lock_held),      ENTRY(read_written),     ENTRY(write_written),
    ENTRY(write_read),  ENTRY(wait_none),      ENTRY(wait_busy),        ENTRY(barrier_pair),
    ENTRY(recv_unsent), ENTRY(join_running),   ENTRY(wait_cond),
};
static const struct op ready_ops[] = {
    ENTRY(send_half),
    ENTRY(recv_half),
    ENTRY(select_half),
    ENTRY(select_ready_or_default),
    ENTRY(select_empty_or_default),
    ENTRY(select_default),
    ENTRY(select_no_time),
    ENTRY(select_ready_no_time),
    ENTRY(sleep_short),
    ENTRY(lock_free),
    ENTRY(read_unlocked),
    ENTRY(write_unlocked),
    ENTRY(read_read),
    ENTRY(wait_some),
    ENTRY(wait_idle),
    ENTRY(barrier_alone),
    ENTRY(recv_sent),
};

static void expect(const struct op *op, struct things *t, int expected, const char *when)
{
    const int rc = op->call(t);
    if (rc != expected)
        support_fail(__FILE__, __LINE__, "%s, %s: %d, not %d", op->name, when, rc, expected);
}

static void *barrier_partner(void *arg)
{
    const int rc = routine_barrier_wait(&((struct things *)arg)->pair);
    CHECK(rc == 0 || rc == 1);
    return (void *)(intptr_t)rc;
}

/* Two are needed, neither more nor fewer: how many of them were the last. */
static int with_partner(struct things *t)
{
    void *other = NULL;
    const routine_t h = go(barrier_partner, t);
    const int mine = routine_barrier_wait(&t->pair);
    CHECK_EQ(routine_join(h, &other), 0);
    return mine + (int)(intptr_t)other;
}

TEST_EVERYWHERE(every_wait_is_ended)
{
    struct things t;
    things_make(&t);
    for (size_t i = 0; i < COUNT_OF(waiting_ops); i++) {
        static const int64_t times[] = {-1, 1, 50 * ROUTINE_US, ROUTINE_MS};
        for (size_t k = 0; k < COUNT_OF(times); k++) {
            const int64_t before = routine_now();
            routine_with_timeout(times[k]);
            expect(&waiting_ops[i], &t, -ETIMEDOUT, "in force");
            const int64_t after = routine_now();
            CHECK(after - before >= times[k]);
            CHECK(after >= routine_deadline());
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        things_check(&t);
    }
    things_end(&t);
}

static void check_all_ended(struct things *t, const char *when)
{
    for (size_t i = 0; i < COUNT_OF(ready_ops); i++)
        expect(&ready_ops[i], t, -ETIMEDOUT, when);
    for (size_t i = 0; i < COUNT_OF(waiting_ops); i++)
        expect(&waiting_ops[i], t, -ETIMEDOUT, when);
    for (size_t i = 0; i < COUNT_OF(ready_ops); i++)
        expect(&ready_ops[i], t, -ETIMEDOUT, when);
}

TEST_EVERYWHERE(a_limit_that_has_passed_stays)
{
    struct things t;
    things_make(&t);
    {
        routine_with_timeout(0);
        check_all_ended(&t, "born so");
    }
    {
        routine_with_timeout(ROUTINE_MS); /* noticed by waiting */
        CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);
        check_all_ended(&t, "noticed in a wait");
    }
    {
        routine_with_timeout(100 * ROUTINE_US); /* noticed by looking */
        while (routine_check() == 0)
            ;
        check_all_ended(&t, "noticed by a check");
        {
            routine_with_timeout(3600 * ROUTINE_S);
            check_all_ended(&t, "with one inside that has not");
        }
        {
            routine_with_timeout(0);
            check_all_ended(&t, "with one inside that has too");
        }
        check_all_ended(&t, "behind those");
    }
    for (size_t i = 0; i < COUNT_OF(waiting_ops); i++) { /* noticed by each of those that wait */
        routine_with_timeout(20 * ROUTINE_US);
        expect(&waiting_ops[i], &t, -ETIMEDOUT, "the first time");
        for (size_t k = 0; k < COUNT_OF(ready_ops); k++)
            expect(&ready_ops[k], &t, -ETIMEDOUT, waiting_ops[i].name);
    }
    {
        routine_with_timeout(100 * ROUTINE_US); /* noticed inside another one */
        {
            routine_with_timeout(3600 * ROUTINE_S);
            CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);
            check_all_ended(&t, "the outer one");
        }
        check_all_ended(&t, "the outer one, outside");
    }
    check_none();
    things_end(&t);
}

/* The time goes by while it computes: the next that would wait does not. */
TEST_EVERYWHERE(passed_while_computing)
{
    struct things t;
    things_make(&t);
    for (size_t i = 0; i < COUNT_OF(waiting_ops); i++) {
        routine_with_timeout(5 * ROUTINE_US);
        while (routine_now() < routine_deadline())
            ;
        expect(&waiting_ops[i], &t, -ETIMEDOUT, "about to begin");
        expect(&ready_ops[i % COUNT_OF(ready_ops)], &t, -ETIMEDOUT, "then");
    }
    things_end(&t);
}

/* Outside, all of them work; and so do they under a limit that has not passed. */
TEST_EVERYWHERE(a_limit_that_has_not_passed_changes_nothing)
{
    for (int limited = 0; limited <= 2; limited++) {
        struct things t;
        things_make(&t);
        {
            routine_with_timeout(limited == 0 ? ROUTINE_NEVER : limited == 1 ? 3600 * ROUTINE_S : -1);
            routine_shield();
            routine_with_timeout(limited == 2 ? 3600 * ROUTINE_S : ROUTINE_NEVER);
            expect(&(struct op)ENTRY(send_half), &t, 0, "not passed");
            expect(&(struct op)ENTRY(recv_half), &t, 0, "not passed");
            const int which = select_half(&t);
            CHECK(which == 0 || which == 1);
            CHECK_EQ(which == 0 ? send_half(&t) : recv_half(&t), 0);
            expect(&(struct op)ENTRY(select_ready_or_default), &t, 0, "not passed");
            expect(&(struct op)ENTRY(send_half), &t, 0, "not passed");
            expect(&(struct op)ENTRY(select_empty_or_default), &t, 1, "not passed");
            expect(&(struct op)ENTRY(select_default), &t, 0, "not passed");
            expect(&(struct op)ENTRY(select_no_time), &t, 1, "not passed");
            expect(&(struct op)ENTRY(sleep_short), &t, 0, "not passed");
            expect(&(struct op)ENTRY(lock_free), &t, 0, "not passed");
            CHECK_EQ(routine_mutex_unlock(&t.free), 0);
            expect(&(struct op)ENTRY(read_unlocked), &t, 0, "not passed");
            CHECK_EQ(routine_rwlock_unlock(&t.unlocked), 0);
            expect(&(struct op)ENTRY(write_unlocked), &t, 0, "not passed");
            CHECK_EQ(routine_rwlock_unlock(&t.unlocked), 0);
            expect(&(struct op)ENTRY(wait_some), &t, 0, "not passed");
            CHECK_EQ(routine_sem_post(&t.some), 0);
            expect(&(struct op)ENTRY(wait_idle), &t, 0, "not passed");
            expect(&(struct op)ENTRY(barrier_alone), &t, 1, "not passed");
            expect(&(struct op)ENTRY(recv_sent), &t, 0, "not passed");
            routine_oneshot_init(&t.sent);
            CHECK_EQ(routine_oneshot_send(&t.sent, &t), 0);
        }
        things_end(&t);
    }
}

static void once_fn(void *arg)
{
    /* it is the caller, with its limit: what it does is not cut short by being inside */
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void *nothing(void *arg)
{
    return arg;
}

/* What never blocks, and what ends something. */
TEST_EVERYWHERE(what_does_not_wait_is_not_ended)
{
    struct things t;
    things_make(&t);
    const routine_t finished = go(nothing, &t);
    WAIT_UNTIL(routine_is_finished(finished));
    CHECK_EQ(routine_mutex_lock(&t.free), 0);
    CHECK_EQ(routine_rwlock_wrlock(&t.unlocked), 0);
    for (int born = 0; born <= 1; born++) {
        routine_with_timeout(born ? 0 : 10 * ROUTINE_US);
        int x = -1;
        size_t permits = 0;
        void *value = NULL;
        CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);

        CHECK_EQ(chan_try_send(t.half, &(int){9}), 0);
        CHECK_EQ(chan_try_recv(t.half, &x), 0);
        CHECK_EQ(x, born ? 9 : 2);
        CHECK_EQ(chan_try_recv(t.half, &x), 0);
        CHECK_EQ(x, 3);
        CHECK_EQ(chan_try_send(t.half, &(int){born ? 2 : 3}), 0);
        CHECK_EQ(chan_try_send(t.full, &x), -EAGAIN);
        CHECK_EQ(chan_try_recv(t.empty, &x), -EAGAIN);
        CHECK_EQ(chan_try_recv(t.closed, &x), -EPIPE);
        chan_t *ch = MAKE(int, 1);
        CHECK_EQ(chan_close(ch), 0);
        chan_unref(ch);

        CHECK_EQ(routine_mutex_trylock(&t.held), -EBUSY);
        CHECK_EQ(routine_mutex_unlock(&t.free), 0);
        CHECK_EQ(routine_mutex_trylock(&t.free), 0);
        CHECK_EQ(routine_rwlock_unlock(&t.unlocked), 0);
        CHECK_EQ(routine_rwlock_tryrdlock(&t.unlocked), 0);
        CHECK_EQ(routine_rwlock_unlock(&t.unlocked), 0);
        CHECK_EQ(routine_rwlock_trywrlock(&t.unlocked), 0);
        CHECK_EQ(routine_rwlock_trywrlock(&t.written), -EBUSY);
        CHECK_EQ(routine_sem_trywait(&t.none), -EAGAIN);
        CHECK_EQ(routine_sem_post(&t.none), 0);
        CHECK_EQ(routine_sem_getvalue(&t.none, &permits), 0);
        CHECK_EQ(permits, 1);
        CHECK_EQ(routine_sem_trywait(&t.none), 0);
        CHECK_EQ(routine_waitgroup_add(&t.busy, 2), 0);
        CHECK_EQ(routine_waitgroup_add(&t.busy, -1), 0);
        CHECK_EQ(routine_waitgroup_done(&t.busy), 0);
        CHECK_EQ(routine_cond_signal(&t.cond), 0);
        CHECK_EQ(routine_cond_broadcast(&t.cond), 0);

        routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
        CHECK_EQ(routine_oneshot_try_recv(&o, &value), -EAGAIN);
        CHECK_EQ(routine_oneshot_send(&o, &o), 0);
        CHECK_EQ(routine_oneshot_try_recv(&o, &value), 0);
        CHECK(value == &o);
        CHECK_EQ(routine_oneshot_close(&t.sent), 0);
        routine_oneshot_init(&t.sent);
        CHECK_EQ(routine_oneshot_send(&t.sent, &t), 0);

        CHECK_EQ(routine_try_join(t.holder, NULL), -EAGAIN);
        CHECK(!routine_is_finished(t.holder));
        _Atomic int ran = 0;
        routine_once_t once = ROUTINE_ONCE_INITIALIZER;
        CHECK_EQ(routine_once_with(&once, once_fn, (void *)&ran), 0);
        CHECK_EQ(routine_once_with(&once, once_fn, (void *)&ran), 0);
        CHECK_EQ(atomic_load(&ran), 1);
        const routine_t child = go(nothing, NULL);
        routine_yield();
        CHECK_EQ(routine_cancel(child), 0);
        CHECK_EQ(routine_detach(child), 0);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    {
        void *value = NULL;
        routine_with_timeout(-1);
        CHECK_EQ(routine_try_join(finished, &value), 0);
        CHECK(value == &t);
        CHECK_EQ(routine_mutex_unlock(&t.free), 0);
        CHECK_EQ(routine_rwlock_unlock(&t.unlocked), 0);
    }
    things_end(&t);
}

struct slow_once {
    routine_once_t once;
    struct gate_pair {
        routine_oneshot_t open;
        _Atomic int inside, waiting;
    } gate;
};

static void slow_once_fn(void *arg)
{
    struct slow_once *s = arg;
    atomic_store(&s->gate.inside, 1);
    CHECK_EQ(routine_oneshot_recv(&s->gate.open, NULL), 0);
}

static void *slow_once_first(void *arg)
{
    struct slow_once *s = arg;
    CHECK_EQ(routine_once_with(&s->once, slow_once_fn, s), 0);
    return NULL;
}

static void *slow_once_second(void *arg)
{
    struct slow_once *s = arg;
    routine_with_timeout(ROUTINE_MS);
    atomic_store(&s->gate.waiting, 1);
    CHECK_EQ(routine_once_with(&s->once, slow_once_fn, s), 0);
    CHECK_EQ(routine_check(), -ETIMEDOUT); /* the wait was longer, and not cut short */
    return NULL;
}

TEST(the_wait_for_a_once_is_not_ended)
{
    for (int i = 0; i < 4; i++) {
        struct slow_once s;
        memset(&s, 0, sizeof s);
        struct actor first = act(i % 2, slow_once_first, &s);
        WAIT_UNTIL(atomic_load(&s.gate.inside));
        struct actor second = act(i / 2, slow_once_second, &s);
        WAIT_UNTIL(atomic_load(&s.gate.waiting));
        CHECK_EQ(routine_sleep(3 * ROUTINE_MS), 0);
        CHECK_EQ(routine_oneshot_send(&s.gate.open, NULL), 0);
        act_end(first);
        act_end(second);
    }
}

/* ---- a condition's mutex is always taken again ---- */

struct cond_holder {
    routine_mutex_t lock;
    routine_cond_t cond;
    _Atomic int has, let_go;
};

static void *take_while_it_waits(void *arg)
{
    struct cond_holder *c = arg;
    CHECK_EQ(routine_mutex_lock(&c->lock), 0);
    atomic_store(&c->has, 1);
    CHECK_EQ(routine_sleep(3 * ROUTINE_MS), 0); /* beyond the waiter's limit */
    atomic_store(&c->let_go, 1);
    CHECK_EQ(routine_mutex_unlock(&c->lock), 0);
    return NULL;
}

TEST_EVERYWHERE(a_condition_wait_comes_back_with_its_mutex)
{
    struct cond_holder c;
    memset(&c, 0, sizeof c);
    CHECK_EQ(routine_mutex_lock(&c.lock), 0);
    const routine_t h = go(take_while_it_waits, &c);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_cond_wait(&c.cond, &c.lock), -ETIMEDOUT);
        if (atomic_load(&c.has))
            CHECK(atomic_load(&c.let_go)); /* the wait for the mutex was not cut short */
        CHECK_EQ(routine_cond_wait(&c.cond, &c.lock), -ETIMEDOUT);
        CHECK_EQ(routine_mutex_unlock(&c.lock), 0);
    }
    CHECK_EQ(routine_join(h, NULL), 0);
}

/* ---- whose limit ---- */

TEST_EVERYWHERE(a_check_behind_the_braces_tells_whose_limit_has_passed)
{
    chan_t *empty = MAKE(int, 0), *ready = MAKE(int, 1);
    CHECK_EQ(chan_send(ready, &(int){1}), 0);
    {
        routine_with_timeout(3600 * ROUTINE_S);
        {
            routine_with_timeout(ROUTINE_MS);
            CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        CHECK_EQ(routine_check(), 0); /* the inner one's */
        CHECK_EQ(routine_sleep(1), 0);
    }
    {
        routine_with_timeout(ROUTINE_MS);
        {
            routine_with_timeout(3600 * ROUTINE_S);
            CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        CHECK_EQ(routine_check(), -ETIMEDOUT); /* the outer one's */
        CHECK_EQ(chan_recv(ready, NULL), -ETIMEDOUT);
    }
    {
        routine_with_timeout(2 * ROUTINE_MS);
        {
            routine_with_timeout(ROUTINE_MS);
            CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
        }
        CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT); /* now its own */
        CHECK(routine_now() >= routine_deadline());
        CHECK_EQ(chan_recv(ready, NULL), -ETIMEDOUT);
    }
    check_none();
    CHECK_EQ(chan_recv(ready, NULL), 0);
    chan_unref(empty);
    chan_unref(ready);
}

/* ---- join ---- */

struct child {
    routine_oneshot_t gate;
    _Atomic int inside;
};

static void *at_gate(void *arg)
{
    struct child *c = arg;
    atomic_store(&c->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&c->gate, NULL), 0);
    return c;
}

static void join_in_time(bool started)
{
    struct child c = {.gate = ROUTINE_ONESHOT_INITIALIZER};
    void *result = &result;
    const routine_t h = go(at_gate, &c);
    if (started)
        WAIT_UNTIL(atomic_load(&c.inside));
    for (int i = 0; i < 5; i++) {
        routine_with_timeout(i * 200 * ROUTINE_US);
        CHECK_EQ(routine_join(h, &result), -ETIMEDOUT);
        CHECK(routine_now() >= routine_deadline());
        CHECK(result == &result);
        CHECK_EQ(routine_join(h, &result), -ETIMEDOUT);
        CHECK_EQ(routine_try_join(h, &result), -EAGAIN);
        CHECK(!routine_is_finished(h));
    }
    CHECK(result == &result);
    CHECK_EQ(routine_oneshot_send(&c.gate, NULL), 0);
    {
        routine_with_timeout(started ? ROUTINE_NEVER : 3600 * ROUTINE_S);
        CHECK_EQ(routine_join(h, &result), 0);
    }
    CHECK(result == &c);
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
}

TEST_EVERYWHERE(a_join_that_timed_out_can_be_repeated)
{
    join_in_time(true);
    join_in_time(false);
}

static void *join_the_unstarted(void *arg)
{
    for (int i = 0; i < 20; i++) {
        struct child c = {.gate = ROUTINE_ONESHOT_INITIALIZER};
        void *result = &result;
        const routine_t h = go(at_gate, &c); /* not started: there is one worker, and it is ours */
        {
            routine_with_timeout(300 * ROUTINE_US);
            CHECK_EQ(routine_join(h, &result), -ETIMEDOUT); /* although the child blocks */
            CHECK(routine_now() >= routine_deadline());
            CHECK(atomic_load(&c.inside) == 1 || i > 0);
        }
        CHECK(result == &result);
        if (i % 2)
            CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
        CHECK_EQ(routine_oneshot_send(&c.gate, NULL), 0);
        CHECK_EQ(routine_join(h, &result), 0);
        CHECK(result == &c);
    }
    return arg;
}

TEST(a_join_of_one_that_has_not_started)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, join_the_unstarted, NULL), NULL), 0);
    support_runtime_end(one);
    support_in_routine(join_the_unstarted, NULL);
}

/* A limit that does not pass: nothing changes but who runs it. */
static void *join_thousands(void *arg)
{
    routine_with_timeout(3600 * ROUTINE_S);
    for (long i = 0; i < support_scale(20000); i++) {
        void *result = NULL;
        CHECK_EQ(routine_join(go(nothing, &result), &result), 0);
        CHECK(result == &result);
    }
    return arg;
}

TEST_EVERYWHERE(joins_under_a_limit)
{
    join_thousands(NULL);
    routine_t never = go(nothing, NULL);
    CHECK_EQ(routine_cancel(never), 0);
    routine_with_timeout(3600 * ROUTINE_S);
    const int rc = routine_join(never, NULL);
    CHECK(rc == -ECANCELED || rc == 0);
    CHECK_EQ(routine_join(never, NULL), -ESRCH);
    CHECK_EQ(routine_join((routine_t){NULL, 0}, NULL), -ESRCH);
    if (routine_id(routine_self()) != 0)
        CHECK_EQ(routine_join(routine_self(), NULL), -EDEADLK);
}

/* The end of the child and the limit at about the same moment. */
struct photo_finish {
    _Atomic long ran;
    int64_t sleep;
};

static void *finish(void *arg)
{
    struct photo_finish *p = arg;
    if (p->sleep > 0)
        CHECK_EQ(routine_sleep(p->sleep), 0);
    else
        routine_yield();
    atomic_fetch_add(&p->ran, 1);
    return p;
}

static void *join_at_the_finish(void *arg)
{
    uint64_t random = 99 + (uint64_t)(uintptr_t)arg;
    long timeouts = 0;
    const long rounds = support_scale(2000);
    struct photo_finish p = {0, 0};
    for (long i = 0; i < rounds; i++) {
        void *result = &result;
        int rc;
        p.sleep = (int64_t)(support_random(&random) % 60) * ROUTINE_US;
        const routine_t h = go(finish, &p);
        do {
            routine_with_timeout((int64_t)(support_random(&random) % 60) * ROUTINE_US);
            rc = routine_join(h, &result);
            CHECK(rc == 0 || rc == -ETIMEDOUT);
            CHECK(result == (rc == 0 ? (void *)&p : (void *)&result));
            timeouts += rc != 0;
        } while (rc == -ETIMEDOUT);
        CHECK_EQ(atomic_load(&p.ran), i + 1);
        CHECK_EQ(routine_try_join(h, NULL), -ESRCH);
    }
    return (void *)(intptr_t)timeouts;
}

TEST(the_end_of_a_child_against_the_limit_of_its_joiner)
{
    struct actor actors[4];
    for (intptr_t i = 0; i < 4; i++)
        actors[i] = act(i == 3, join_at_the_finish, (void *)i);
    for (int i = 0; i < 4; i++)
        act_end(actors[i]);
}

/* Whose join has timed out is no joiner any more: another one may. */
struct relay {
    routine_t handle;
    _Atomic int next;
    long got;
};

static void *join_by_turns(void *arg)
{
    struct relay *r = arg;
    int rc;
    do {
        routine_with_timeout(200 * ROUTINE_US);
        rc = routine_join(r->handle, NULL);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EBUSY || rc == -ESRCH);
        if (rc == -EBUSY)
            routine_yield();
    } while (rc == -ETIMEDOUT || rc == -EBUSY);
    if (rc == 0)
        atomic_fetch_add(&r->next, 1);
    return NULL;
}

TEST(joiners_by_turns)
{
    for (int round = 0; round < 30; round++) {
        struct child c = {.gate = ROUTINE_ONESHOT_INITIALIZER};
        struct relay r = {.handle = go(at_gate, &c)};
        struct actor actors[3];
        for (int i = 0; i < 3; i++)
            actors[i] = act(i == 2, join_by_turns, &r);
        CHECK_EQ(routine_sleep((round % 3) * ROUTINE_MS), 0);
        CHECK_EQ(routine_oneshot_send(&c.gate, NULL), 0);
        for (int i = 0; i < 3; i++)
            act_end(actors[i]);
        CHECK_EQ(atomic_load(&r.next), 1); /* exactly one of them has joined */
    }
}

/* A limited join, a detach and a cancel at the same time: one of the first two gets the handle, and a child
 * that has never run was cancelled. */
struct storm {
    long rounds;
    routine_t handle;
    struct support_turn turns[2];
    _Atomic int arrived, ran;
    bool detaches, yields;
    int detach_rc, cancel_rc;
};

static void *storm_child(void *arg)
{
    struct storm *s = arg;
    atomic_fetch_add(&s->ran, 1);
    for (int i = 0; s->yields && i < 3; i++)
        routine_yield();
    return s;
}

static void *storm_detacher(void *arg)
{
    struct storm *s = arg;
    for (long i = 0; i < s->rounds; i++) {
        support_turn_wait(&s->turns[0]);
        support_meet(&s->arrived, 3);
        s->detach_rc = s->detaches ? routine_detach(s->handle) : -EBUSY;
        support_turn_done(&s->turns[0]);
    }
    return NULL;
}

static void *storm_canceller(void *arg)
{
    struct storm *s = arg;
    for (long i = 0; i < s->rounds; i++) {
        support_turn_wait(&s->turns[1]);
        support_meet(&s->arrived, 3);
        s->cancel_rc = routine_cancel(s->handle);
        support_turn_done(&s->turns[1]);
    }
    return NULL;
}

static void *storm_joiner(void *arg)
{
    struct storm *s = arg;
    uint64_t random = 17;
    for (long i = 0; i < s->rounds; i++) {
        void *result = &result;
        int rc;
        const int before = atomic_load(&s->ran);
        atomic_store(&s->arrived, 0);
        s->yields = i % 3 != 0;
        s->detaches = i % 4 != 0;
        s->handle = go(storm_child, s);
        const routine_t h = s->handle;
        support_turn_begin(&s->turns[0]);
        support_turn_begin(&s->turns[1]);
        support_meet(&s->arrived, 3);
        do {
            routine_with_timeout(random_limit(&random));
            rc = routine_join(h, &result);
        } while (rc == -ETIMEDOUT);
        support_turn_await(&s->turns[0]);
        support_turn_await(&s->turns[1]);
        WAIT_UNTIL(routine_is_finished(h));
        const int ran = atomic_load(&s->ran) - before;
        CHECK(ran == 0 || ran == 1);
        CHECK(ran == 1 || s->cancel_rc == 0);
        CHECK(result == (rc == 0 ? (void *)s : (void *)&result));
        CHECK_EQ(rc == -ESRCH, s->detach_rc == 0);
        CHECK(rc == -ESRCH || s->detach_rc == -EBUSY || s->detach_rc == -ESRCH);
        if (rc != -ESRCH)
            CHECK_EQ(rc, ran ? 0 : -ECANCELED);
        CHECK(s->cancel_rc == 0 || s->cancel_rc == -ESRCH);
    }
    return NULL;
}

TEST(limited_joins_against_detach_and_cancel)
{
    for (int threads = 0; threads < 4; threads++) {
        struct storm s = {.rounds = support_scale(1500)};
        struct actor actors[3] = {act(threads / 2, storm_detacher, &s), act(threads % 2, storm_canceller, &s),
                                  act(threads == 3, storm_joiner, &s)};
        for (int i = 0; i < 3; i++)
            act_end(actors[i]);
    }
}

/* ---- routine_run ---- */

struct run {
    chan_t *empty;
    _Atomic int ran, over;
    bool stubborn;
    int seen;
};

static void *run_until_cancelled(void *arg)
{
    struct run *r = arg;
    atomic_fetch_add(&r->ran, 1);
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    r->seen = chan_recv(r->empty, NULL);
    if (r->stubborn) {
        routine_shield();
        CHECK_EQ(routine_sleep(3 * ROUTINE_MS), 0);
    }
    atomic_fetch_add(&r->over, 1);
    return r;
}

TEST_EVERYWHERE(a_run_is_cancelled_and_waited_for)
{
    chan_t *empty = MAKE(int, 0);
    for (int i = 0; i < 6; i++) {
        struct run r = {.empty = empty, .stubborn = i % 2};
        void *result = &result;
        {
            routine_with_timeout(i < 2 ? -1 : i < 4 ? 1 : ROUTINE_MS);
            const int rc = routine_run(run_until_cancelled, &r, &result);
            CHECK(rc == 0 || rc == -ECANCELED);
            CHECK_EQ(atomic_load(&r.ran), rc == 0);
            CHECK_EQ(atomic_load(&r.over), atomic_load(&r.ran));
            CHECK(result == (rc == 0 ? (void *)&r : (void *)&result));
            if (rc == 0)
                CHECK_EQ(r.seen, -ECANCELED);
            CHECK(routine_now() >= routine_deadline());
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        {
            routine_with_timeout(3600 * ROUTINE_S);
            CHECK_EQ(routine_run(nothing, &r, &result), 0);
            CHECK(result == &r);
        }
    }
    chan_unref(empty);
}

/* ---- shields ---- */

TEST_EVERYWHERE(a_shield_holds_off_what_is_outside)
{
    chan_t *empty = MAKE(int, 0), *ready = MAKE(int, 1);
    struct things t;
    things_make(&t);
    CHECK_EQ(chan_send(ready, &(int){1}), 0);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT); /* passed before */
        const int64_t outer = routine_deadline();
        {
            routine_shield();
            check_none();
            CHECK_EQ(chan_recv(ready, NULL), 0);
            CHECK_EQ(chan_send(ready, &(int){1}), 0);
            CHECK_EQ(routine_mutex_lock(&t.free), 0);
            CHECK_EQ(routine_mutex_unlock(&t.free), 0);
            CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
            {
                routine_with_timeout(ROUTINE_MS); /* inside it counts */
                CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
                check_all_ended(&t, "inside a shield");
            }
            check_none();
            {
                routine_shield(); /* shields nest */
                check_none();
                {
                    routine_with_timeout(0);
                    CHECK_EQ(routine_check(), -ETIMEDOUT);
                    {
                        routine_shield(); /* against that one, too */
                        check_none();
                    }
                    CHECK_EQ(routine_check(), -ETIMEDOUT);
                }
                check_none();
            }
            check_none();
        }
        CHECK_EQ(routine_deadline(), outer);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
        CHECK_EQ(chan_recv(ready, NULL), -ETIMEDOUT);
        CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
    }
    check_none();
    things_end(&t);
    chan_unref(empty);
    chan_unref(ready);
}

TEST_EVERYWHERE(what_has_passed_under_a_shield_counts_behind_it)
{
    chan_t *empty = MAKE(int, 0);
    for (int i = 0; i < 4; i++) {
        routine_with_timeout(300 * ROUTINE_US);
        const int64_t outer = routine_deadline();
        CHECK_EQ(routine_deadline(), outer);
        {
            routine_shield();
            CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
            CHECK_EQ(routine_sleep(ROUTINE_MS), 0); /* meanwhile it passes */
            CHECK_EQ(routine_check(), 0);
        }
        CHECK_EQ(routine_deadline(), outer);
        if (i % 2)
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        if (i / 2)
            CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ETIMEDOUT);
        else
            CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
    }
    { /* one that has not passed is in force again, too */
        routine_with_timeout(3 * ROUTINE_MS);
        {
            routine_shield();
            CHECK_EQ(routine_sleep(1), 0);
        }
        CHECK_EQ(chan_recv(empty, NULL), -ETIMEDOUT);
        CHECK(routine_now() >= routine_deadline());
    }
    chan_unref(empty);
}

TEST_EVERYWHERE(shields_and_limits_in_the_same_braces)
{
    const int64_t at = routine_now() + 1000 * ROUTINE_S;
    {
        routine_with_deadline(at);
        routine_shield();
        CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
        routine_with_deadline(at + 5); /* later than what the shield holds off */
        CHECK_EQ(routine_deadline(), at + 5);
        routine_with_deadline(at + 7);
        CHECK_EQ(routine_deadline(), at + 5);
        routine_shield();
        CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    }
    check_none();
    for (int i = 0; i < 6; i++) { /* and left by jumps */
        routine_with_deadline(at);
        {
            routine_shield();
            routine_with_timeout(0);
            if (i % 3 == 0)
                continue;
            if (i % 3 == 1)
                goto out;
        }
    out:
        CHECK_EQ(routine_deadline(), at);
        CHECK_EQ(routine_check(), 0);
    }
    check_none();
}

/* ---- select with a time of its own ---- */

TEST_EVERYWHERE(a_selects_own_time_against_the_limit)
{
    chan_t *empty = MAKE(int, 0), *ready = MAKE(int, 1);
    int x = -1;
    CHECK_EQ(chan_send(ready, &(int){1}), 0);
    for (int i = 0; i < 20; i++) {
        const int64_t near = i * 30 * ROUTINE_US;
        const int64_t before = routine_now();
        { /* its own is nearer */
            routine_with_timeout(3600 * ROUTINE_S);
            CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_TIMEOUT(near)), 1);
            CHECK(routine_now() - before >= near);
            CHECK_EQ(chan_select(CHAN_DEADLINE(before + near), CHAN_RECV(empty, &x)), 0);
            CHECK_EQ(chan_select(CHAN_TIMEOUT(ROUTINE_NEVER), CHAN_TIMEOUT(1), CHAN_RECV(empty, &x)), 1);
            CHECK_EQ(routine_check(), 0);
        }
        const int64_t again = routine_now();
        { /* the limit is */
            routine_with_deadline(again + near);
            CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_TIMEOUT(3600 * ROUTINE_S)), -ETIMEDOUT);
            CHECK(routine_now() - again >= near);
            CHECK_EQ(chan_select(CHAN_RECV(ready, &x), CHAN_TIMEOUT(0)), -ETIMEDOUT);
            CHECK_EQ(chan_select(CHAN_RECV(ready, &x), CHAN_DEADLINE(0)), -ETIMEDOUT);
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        const int64_t at = routine_now() + near;
        { /* both at once: one of them, never before */
            routine_with_deadline(at);
            const int got = chan_select(CHAN_RECV(empty, &x), CHAN_DEADLINE(at));
            CHECK(got == 1 || got == -ETIMEDOUT);
            CHECK(routine_now() >= at);
            CHECK_EQ(routine_check(), -ETIMEDOUT);
            CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_DEADLINE(at)), -ETIMEDOUT);
        }
        { /* neither */
            routine_with_timeout(3600 * ROUTINE_S);
            CHECK_EQ(chan_select(CHAN_RECV(ready, &x), CHAN_TIMEOUT(3600 * ROUTINE_S)), 0);
            CHECK_EQ(x, 1);
            CHECK_EQ(chan_select(CHAN_SEND(ready, &x), CHAN_DEFAULT), 0);
            x = -1;
        }
    }
    CHECK_EQ(chan_len(ready), 1);
    CHECK_EQ(x, -1);
    chan_unref(empty);
    chan_unref(ready);
}

/* ---- sleeping ---- */

TEST_EVERYWHERE(a_sleep_is_ended_never_early)
{
    uint64_t random = 5;
    for (int i = 0; i < 100; i++) {
        const int64_t limit = (int64_t)(support_random(&random) % 400) * ROUTINE_US,
                      length = (int64_t)(support_random(&random) % 400) * ROUTINE_US;
        const int64_t before = routine_now();
        routine_with_deadline(before + limit);
        const int rc = i % 2 ? routine_sleep(length) : routine_sleep_until(before + length);
        const int64_t slept = routine_now() - before;
        CHECK(rc == 0 || rc == -ETIMEDOUT);
        CHECK(slept >= (rc == 0 ? length : limit));
        if (i % 2 == 0 && length != limit && rc != (length < limit ? 0 : -ETIMEDOUT))
            CHECK(slept >= limit && slept >= length); /* both had passed when it went to look */
    }
    const int64_t at = routine_now() + 200 * ROUTINE_US;
    routine_with_deadline(at);
    const int rc = routine_sleep_until(at);
    CHECK(rc == 0 || rc == -ETIMEDOUT);
    CHECK(routine_now() >= at);
    CHECK_EQ(routine_check(), -ETIMEDOUT);
}

/* ---- many ---- */

/* Hand-overs against limits: whatever was sent (0) has been received once, whatever was not (-ETIMEDOUT)
 * never. */
struct market {
    chan_t *ch;
    long rounds;
    unsigned char *sent;             /* by value: the sender's word */
    _Atomic unsigned char *received; /* by value: how often */
    _Atomic long timeouts;
};

struct trader {
    struct market *market;
    long me;
};

static void *trade(void *arg)
{
    const struct trader *t = arg;
    struct market *m = t->market;
    uint64_t random = 77 + (uint64_t)t->me;
    for (long i = 0; i < m->rounds; i++) {
        const long value = t->me * m->rounds + i;
        long got = -1;
        bool sent = false;
        int rc;
        {
            routine_with_timeout(random_limit(&random));
            switch (support_random(&random) % 5) {
            case 0:
            case 1:
                rc = chan_send(m->ch, &value);
                sent = rc == 0;
                break;
            case 2:
            case 3:
                rc = chan_recv(m->ch, &got);
                break;
            default:
                rc = chan_select(CHAN_SEND(m->ch, &value), CHAN_RECV(m->ch, &got));
                sent = rc == 0;
                if (rc == 1)
                    rc = 0;
            }
        }
        CHECK(rc == 0 || rc == -ETIMEDOUT);
        CHECK((got != -1) == (rc == 0 && !sent));
        m->sent[value] = sent;
        if (got != -1)
            atomic_fetch_add_explicit(&m->received[got], 1, memory_order_relaxed);
        if (rc != 0)
            atomic_fetch_add_explicit(&m->timeouts, 1, memory_order_relaxed);
    }
    return NULL;
}

static void run_market(ptrdiff_t capacity, enum cast cast, routine_runtime_t *runtime)
{
    enum { TRADERS = 12 };
    struct market m = {.ch = MAKE(long, capacity), .rounds = support_scale(1500)};
    struct trader traders[TRADERS];
    struct actor actors[TRADERS];
    const size_t values = (size_t)m.rounds * TRADERS;
    m.sent = calloc(values, 1);
    m.received = calloc(values, sizeof *m.received);
    if (m.sent == NULL || m.received == NULL)
        abort();
    for (int i = 0; i < TRADERS; i++) {
        traders[i] = (struct trader){&m, i};
        actors[i] =
            cast_is_thread(cast, i) ? act(true, trade, &traders[i]) : act_on(runtime, trade, &traders[i]);
    }
    for (int i = 0; i < TRADERS; i++)
        act_end(actors[i]);
    for (long rest; chan_try_recv(m.ch, &rest) == 0;)
        atomic_fetch_add(&m.received[rest], 1);
    for (size_t i = 0; i < values; i++)
        if (m.sent[i] != atomic_load(&m.received[i]))
            support_fail(__FILE__, __LINE__, "%d was sent %d times and received %d times", (int)i, m.sent[i],
                         atomic_load(&m.received[i]));
    CHECK(atomic_load(&m.timeouts) > 0); /* those that were born so */
    chan_unref(m.ch);
    free(m.sent);
    free((void *)m.received);
}

TEST(random_limits_on_one_channel)
{
    routine_runtime_t *default_one = routine_runtime_default();
    static const ptrdiff_t capacities[] = {0, 1, 7};
    for (size_t i = 0; i < COUNT_OF(capacities); i++)
        for (enum cast cast = ROUTINES; cast < CASTS; cast++)
            run_market(capacities[i], cast, default_one);
    routine_runtime_t *one = support_runtime(1);
    run_market(0, ROUTINES, one);
    support_runtime_end(one);
}

/* Locks against limits: who has timed out holds nothing, and who holds has not timed out. */
struct arena {
    long rounds;
    routine_mutex_t lock;
    routine_rwlock_t rwlock;
    routine_sem_t sem;
    routine_barrier_t barrier;
    routine_mutex_t cond_lock;
    routine_cond_t cond;
    long counted, written;      /* under lock, under rwlock */
    long waiting, told;         /* under cond_lock */
    _Atomic long locked, wrote; /* returns of 0 */
    _Atomic int readers, writers, inside;
    _Atomic long first, last; /* of the barrier */
};

enum { PERMITS = 2, FIGHTERS = 10 };

static void pause_inside(uint64_t *random)
{
    const uint64_t kind = support_random(random) % 8;
    if (kind == 0) {
        routine_shield();
        CHECK_EQ(routine_sleep(5 * ROUTINE_US), 0);
    } else if (kind < 4) {
        routine_yield();
    }
}

static int limited_lock(struct arena *a, int64_t ns)
{
    routine_with_timeout(ns);
    return routine_mutex_lock(&a->lock);
}

static int limited_rwlock(struct arena *a, int64_t ns, bool write)
{
    routine_with_timeout(ns);
    return write ? routine_rwlock_wrlock(&a->rwlock) : routine_rwlock_rdlock(&a->rwlock);
}

static void fight_once(struct arena *a, uint64_t *random)
{
    const int64_t ns = random_limit(random);
    int rc = 0;
    switch (support_random(random) % 6) {
    case 0:
        if ((rc = limited_lock(a, ns)) == 0) {
            a->counted++;
            pause_inside(random);
            atomic_fetch_add(&a->locked, 1);
            CHECK_EQ(routine_mutex_unlock(&a->lock), 0);
        }
        break;
    case 1:
        if ((rc = limited_rwlock(a, ns, true)) == 0) {
            CHECK_EQ(atomic_fetch_add(&a->writers, 1), 0);
            CHECK_EQ(atomic_load(&a->readers), 0);
            a->written++;
            pause_inside(random);
            atomic_fetch_add(&a->wrote, 1);
            atomic_fetch_sub(&a->writers, 1);
            CHECK_EQ(routine_rwlock_unlock(&a->rwlock), 0);
        }
        break;
    case 2:
        if ((rc = limited_rwlock(a, ns, false)) == 0) {
            atomic_fetch_add(&a->readers, 1);
            CHECK_EQ(atomic_load(&a->writers), 0);
            pause_inside(random);
            atomic_fetch_sub(&a->readers, 1);
            CHECK_EQ(routine_rwlock_unlock(&a->rwlock), 0);
        }
        break;
    case 3: {
        routine_with_timeout(ns);
        if ((rc = routine_sem_wait(&a->sem)) == 0) {
            CHECK(atomic_fetch_add(&a->inside, 1) < PERMITS);
            pause_inside(random);
            atomic_fetch_sub(&a->inside, 1);
            CHECK_EQ(routine_sem_post(&a->sem), 0);
        }
        break;
    }
    case 4: {
        routine_with_timeout(ns);
        rc = routine_barrier_wait(&a->barrier);
        if (rc >= 0)
            atomic_fetch_add(rc == 1 ? &a->last : &a->first, 1);
        rc = rc == 1 ? 0 : rc;
        break;
    }
    default: {
        WAIT_UNTIL(routine_mutex_trylock(&a->cond_lock) == 0);
        if (support_random(random) % 2) {
            routine_with_timeout(ns);
            a->waiting++;
            rc = routine_cond_wait(&a->cond, &a->cond_lock);
            a->waiting--; /* holding the mutex, in any case */
            a->told -= rc == 0;
        } else if (a->waiting > 0) { /* perhaps one whose limit has passed: then it is told to nobody */
            a->told++;
            CHECK_EQ(routine_cond_signal(&a->cond), 0);
        }
        CHECK(a->told >= 0);
        CHECK_EQ(routine_mutex_unlock(&a->cond_lock), 0);
    }
    }
    if (rc != 0 && rc != -ETIMEDOUT)
        support_fail(__FILE__, __LINE__, "%d", rc);
}

static void *fight(void *arg)
{
    struct arena *a = arg;
    static _Atomic uint64_t seed;
    uint64_t random = 1000 + atomic_fetch_add(&seed, 1);
    for (long i = 0; i < a->rounds; i++)
        fight_once(a, &random);
    return NULL;
}

static void run_arena(enum cast cast, routine_runtime_t *runtime)
{
    struct arena a;
    struct actor actors[FIGHTERS];
    size_t permits = 0;
    memset(&a, 0, sizeof a);
    a.rounds = support_scale(2000);
    CHECK_EQ(routine_sem_init(&a.sem, PERMITS), 0);
    CHECK_EQ(routine_barrier_init(&a.barrier, 2), 0);
    for (int i = 0; i < FIGHTERS; i++)
        actors[i] = cast_is_thread(cast, i) ? act(true, fight, &a) : act_on(runtime, fight, &a);
    for (int i = 0; i < FIGHTERS; i++)
        act_end(actors[i]);
    CHECK_EQ(a.counted, atomic_load(&a.locked));
    CHECK_EQ(a.written, atomic_load(&a.wrote));
    CHECK_EQ(routine_sem_getvalue(&a.sem, &permits), 0);
    CHECK_EQ(permits, PERMITS);
    CHECK_EQ(atomic_load(&a.first), atomic_load(&a.last)); /* they have met in pairs */
    CHECK_EQ(a.waiting, 0);
    CHECK_EQ(routine_mutex_trylock(&a.lock), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&a.rwlock), 0);
    CHECK_EQ(routine_mutex_trylock(&a.cond_lock), 0);
}

TEST(random_limits_on_locks)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++)
        run_arena(cast, routine_runtime_default());
    routine_runtime_t *one = support_runtime(1);
    run_arena(ROUTINES, one);
    support_runtime_end(one);
}

/* Ten thousand at once. */
struct crowd {
    chan_t *empty;
    routine_sem_t none;
    _Atomic long over;
};

struct member {
    struct crowd *crowd;
    int64_t ns;
    int how;
};

static void *wait_till_the_limit(void *arg)
{
    const struct member *m = arg;
    const int64_t before = routine_now();
    {
        routine_with_timeout(m->ns);
        CHECK_EQ(m->how == 0   ? routine_sleep(ROUTINE_NEVER)
                 : m->how == 1 ? routine_sem_wait(&m->crowd->none)
                 : m->how == 2 ? chan_select(CHAN_RECV(m->crowd->empty, NULL), CHAN_TIMEOUT(3600 * ROUTINE_S))
                               : chan_recv(m->crowd->empty, NULL),
                 -ETIMEDOUT);
        CHECK(routine_now() - before >= m->ns);
    }
    CHECK_EQ(routine_check(), 0);
    atomic_fetch_add(&m->crowd->over, 1);
    return NULL;
}

static void *gather(void *arg)
{
    const long n = support_scale(10000);
    struct crowd *c = arg;
    routine_t *h = malloc((size_t)n * sizeof *h);
    uint64_t random = 8;
    if (h == NULL)
        abort();
    for (long i = 0; i < n; i++)
        h[i] = go_copy(
            wait_till_the_limit,
            ((struct member){c, (int64_t)(support_random(&random) % 300) * ROUTINE_MS, (int)(i % 4)}));
    for (long i = 0; i < n; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(atomic_load(&c->over), n);
    free(h);
    return NULL;
}

TEST(ten_thousand_at_once)
{
    struct crowd c;
    memset(&c, 0, sizeof c);
    c.empty = MAKE(int, 0);
    support_in_routine(gather, &c);
    CHECK_EQ(chan_try_send(c.empty, &(int){1}), -EAGAIN); /* nobody is left in its queue */
    CHECK_EQ(routine_sem_post(&c.none), 0);
    CHECK_EQ(routine_sem_trywait(&c.none), 0);
    chan_unref(c.empty);
}

int main(void)
{
    SUPPORT_NO_CASES();
    assert_int_equal(routine_key_create(&seen_by_destructor, destructor), 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_above_0_has_passed),
        cmocka_unit_test(what_is_too_large_never_comes),
        cmocka_unit_test(a_timeout_counts_from_its_declaration),
        cmocka_unit_test(of_nested_limits_the_nearest_counts),
        cmocka_unit_test(several_in_the_same_braces),
        cmocka_unit_test(deep_ones),
        cmocka_unit_test(however_the_braces_are_left_the_outer_limit_comes_back),
        cmocka_unit_test(a_hundred_thousand_times),
#if CAN_JUMP_IN
        cmocka_unit_test(a_jump_past_the_declaration),
#endif
        cmocka_unit_test(left_by_exit_and_panic),
        cmocka_unit_test(all_that_is_called),
        cmocka_unit_test(not_what_go_starts),
        cmocka_unit_test(children_in_place_have_their_own),
        cmocka_unit_test(they_wander_with_their_routines),
        cmocka_unit_test(every_wait_is_ended),
        cmocka_unit_test(a_limit_that_has_passed_stays),
        cmocka_unit_test(passed_while_computing),
        cmocka_unit_test(a_limit_that_has_not_passed_changes_nothing),
        cmocka_unit_test(what_does_not_wait_is_not_ended),
        cmocka_unit_test(the_wait_for_a_once_is_not_ended),
        cmocka_unit_test(a_condition_wait_comes_back_with_its_mutex),
        cmocka_unit_test(a_check_behind_the_braces_tells_whose_limit_has_passed),
        cmocka_unit_test(a_join_that_timed_out_can_be_repeated),
        cmocka_unit_test(a_join_of_one_that_has_not_started),
        cmocka_unit_test(joins_under_a_limit),
        cmocka_unit_test(the_end_of_a_child_against_the_limit_of_its_joiner),
        cmocka_unit_test(joiners_by_turns),
        cmocka_unit_test(limited_joins_against_detach_and_cancel),
        cmocka_unit_test(a_run_is_cancelled_and_waited_for),
        cmocka_unit_test(a_shield_holds_off_what_is_outside),
        cmocka_unit_test(what_has_passed_under_a_shield_counts_behind_it),
        cmocka_unit_test(shields_and_limits_in_the_same_braces),
        cmocka_unit_test(a_selects_own_time_against_the_limit),
        cmocka_unit_test(a_sleep_is_ended_never_early),
        cmocka_unit_test(random_limits_on_one_channel),
        cmocka_unit_test(random_limits_on_locks),
        cmocka_unit_test(ten_thousand_at_once),
    };
    return cmocka_run_group_tests_name("limit", tests, NULL, NULL);
}
