/* SPDX-License-Identifier: MIT
 *
 * What does it cost to hand a message to another routine and to get one back? Two routines and two
 * rendezvous channels; an operation is a round trip. The answer is checked each time.
 *
 * The limit: a round trip between two stacks by the bare context switch, which can carry the message: two
 * switches.
 */
#include <stdlib.h>

#include <routines/chan.h>
#include <routines/routine.h>

#include "context/context.h"
#include "harness.h"

typedef struct {
    chan_t *ping, *pong;
} table_t;

static void *return_balls(void *arg)
{
    const table_t *t = arg;
    int64_t ball;
    int rc = 0;
    while (rc == 0 && chan_recv(t->ping, &ball) == 0) {
        ball++;
        rc = chan_send(t->pong, &ball);
    }
    return (void *)(intptr_t)rc;
}

static void ping_pong_routines(bench_t *b)
{
    table_t t = {chan_make(int64_t, 0), chan_make(int64_t, 0)};
    if (t.ping == NULL || t.pong == NULL) {
        bench_fail(b, "no memory for a channel");
    } else {
        int64_t n = (int64_t)bench_iterations(b);
        bool wrong = false;
        int rc = 0;
        void *result = NULL;
        bench_start(b);
        routine_t partner = go(return_balls, &t);
        for (int64_t i = 0; i < n && rc == 0; i++) {
            int64_t ball = i;
            rc = chan_send(t.ping, &ball);
            if (rc == 0)
                rc = chan_recv(t.pong, &ball);
            wrong |= ball != i + 1;
        }
        bench_stop(b);
        rc |= chan_close(t.ping);
        rc |= routine_join(partner, &result);
        if (rc != 0 || result != NULL)
            bench_fail(b, "a send, receive or join failed");
        else if (wrong)
            bench_fail(b, "the wrong ball came back");
    }
    chan_unref(t.ping);
    chan_unref(t.pong);
}

BENCH(ping_pong_routines, .name = "ping_pong/routines", .on = BENCH_WORKERS);

/* One of the two stacks of the bare switch. */
typedef struct side {
    void *saved;
    struct side *other;
    uint64_t turns;
    uint64_t ball; /* what it was thrown last */
} side_t;

/* Both stacks run this very loop, so that the CPU predicts where a switch returns to: see hand_over in
 * yield.c. */
static __attribute__((noinline)) void throw_balls(void *value)
{
    side_t *side = value;
    for (uint64_t left = side->turns; left > 0; left--) {
        side->other->ball = side->ball + 1;
        rt_context_switch(&side->saved, side->other->saved, side->other);
    }
}

static void ping_pong_limit_switch(bench_t *b)
{
    const size_t size = 64 * 1024;
    char *stack = aligned_alloc(64, size);
    if (stack == NULL) {
        bench_fail(b, "no memory for a stack");
        return;
    }
    side_t here = {.turns = bench_iterations(b)};
    side_t there = {.turns = UINT64_MAX, .other = &here}; /* it never ends: its stack is abandoned */
    here.other = &there;
    there.saved = rt_context_make(stack + size, throw_balls);
    bench_start(b);
    throw_balls(&here);
    bench_stop(b);
    if (here.ball != 2 * bench_iterations(b))
        bench_fail(b, "the wrong ball came back");
    free(stack);
}

BENCH(ping_pong_limit_switch, .name = "ping_pong/limit-switches", .on = BENCH_THREAD);
