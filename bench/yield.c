/* SPDX-License-Identifier: MIT
 *
 * What does a yield cost? Two routines a worker do nothing but yield, so that each
 * yield is a trip through the scheduler to the other one. Beside it the limit:
 * the same hand-over between two stacks by the bare context switch.
 *
 * With several workers the time is that of all yields together, divided by their number.
 * The counter "switched" is the part of the yields that found somebody to yield to.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include <routines/routine.h>
#include <routines/stats.h>
#include <routines/time.h>

#include "context/context.h"
#include "harness.h"

typedef struct {
    uint64_t each; /* yields of one routine */
    size_t pairs;
    _Atomic size_t met;
} yield_t;

/* Not inlined: both of a pair return to the same place (see hand_over). */
static __attribute__((noinline)) void *yield_often(void *arg)
{
    const yield_t *y = arg;
    for (uint64_t left = y->each; left > 0; left--)
        routine_yield();
    return NULL;
}

/* Starts its partner once there is a pair leader on every worker: left to chance, one worker has
 * three routines and the other one, whose yields find nobody and are over in no time. */
static void *lead_pair(void *arg)
{
    yield_t *y = arg;
    int64_t patience = routine_now() + ROUTINE_S;
    atomic_fetch_add(&y->met, 1);
    while (atomic_load(&y->met) < y->pairs && routine_now() < patience)
        ;
    routine_t partner = go(yield_often, y);
    yield_often(y);
    return (void *)(intptr_t)routine_join(partner, NULL);
}

static void yield_routines(bench_t *b)
{
    enum { MOST = 128 };
    routine_t h[MOST];
    yield_t y = {.pairs = bench_workers(b) < MOST ? bench_workers(b) : MOST};
    y.each = (bench_iterations(b) + 2 * y.pairs - 1) / (2 * y.pairs);
    routine_stats_t before, after;
    int rc = routine_stats(NULL, &before);

    bench_start(b);
    for (size_t i = 0; i < y.pairs; i++)
        h[i] = go(lead_pair, &y);
    for (size_t i = 0; i < y.pairs; i++) {
        void *result = NULL;
        rc |= routine_join(h[i], &result) | (int)(intptr_t)result;
    }
    bench_stop(b);

    rc |= routine_stats(NULL, &after);
    if (rc != 0)
        bench_fail(b, "a go, join or stats failed");
    /* What was done is `each` rounded up: see that ns_per_op knows. */
    double yields = (double)y.each * 2 * (double)y.pairs;
    bench_ops(b, yields / (double)bench_iterations(b));
    bench_counter(b, "switched", (double)(after.total.yields - before.total.yields) / yields);
}

BENCH(yield_routines, .name = "yield/routines", .on = BENCH_WORKERS);

/* One of the two stacks of the raw switch. */
typedef struct side {
    void *saved;
    struct side *other;
    uint64_t turns;
} side_t;

/* Both stacks run this very loop: all switches return to the same place, and so the CPU predicts them,
 * as it does those of a scheduler. With a loop of its own for each side none is predicted, and the
 * "limit" is slower than the library. */
static __attribute__((noinline)) void hand_over(void *value)
{
    side_t *side = value;
    for (uint64_t left = side->turns; left > 0; left--)
        rt_context_switch(&side->saved, side->other->saved, side->other);
}

static void yield_limit_switch(bench_t *b)
{
    const size_t size = 64 * 1024;
    char *stack = aligned_alloc(64, size);
    if (stack == NULL) {
        bench_fail(b, "no memory for a stack");
        return;
    }
    uint64_t pairs = (bench_iterations(b) + 1) / 2;
    side_t here = {.turns = pairs};
    side_t there = {.turns = UINT64_MAX, .other = &here}; /* it never ends: its stack is abandoned */
    here.other = &there;
    there.saved = rt_context_make(stack + size, hand_over);
    bench_start(b);
    hand_over(&here);
    bench_stop(b);
    bench_ops(b, 2 * (double)pairs / (double)bench_iterations(b));
    free(stack);
}

BENCH(yield_limit_switch, .name = "yield/limit-switch", .on = BENCH_THREAD);
