/* SPDX-License-Identifier: MIT
 *
 * What do timers and limits of time cost, and what else is valid to the end of its braces?
 *
 * "timer_N": to set a timer and to stop it again, which is the fate of most, while N others are pending, N =
 * 0, 1000 and a million: ns for both. The others lie one to two hours ahead, in no order, and so does the
 * one: in their midst. "routines-new" makes and frees a timer each time instead.
 *
 * "limit": to enter and to leave routine_with_timeout around nothing; "routines-deadline" has the time
 * already. The limits: to read the clock, and to read it twice.
 *
 * "limit_recv": a receive that finds a message, in the braces of a long limit; "routines-plain" in none.
 *
 * "limit_wait": ping_pong.c's game with a limit around each receive on both sides, none of which passes: ns a
 * round trip. "routines-outer" has one limit around all instead, "routines-plain" none. The channels have
 * room for one ball, so that it is always the receive that waits; by rendezvous it would be the send.
 *
 * "shield", "defer": to enter and to leave one; the function deferred counts. The limits: two calls through a
 * pointer, and one.
 *
 * ROUTINES_BENCH_MILLION: how many the million are.
 */
#include <stdlib.h>

#include <routines/chan.h>
#include <routines/routine.h>
#include <routines/time.h>

#include "harness.h"

enum { THOUSAND = 1000 };

static const int64_t HOUR = 3600 * ROUTINE_S;

/* ---- timers ---- */

enum { DELAYS = 1024 };

/* An hour and up to another one. */
typedef struct {
    int64_t ns[DELAYS];
} delays_t;

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state; /* xorshift64* */
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

static int64_t delay(uint64_t *state)
{
    return HOUR + (int64_t)(next_random(state) % (uint64_t)HOUR);
}

static void make_delays(delays_t *delays)
{
    uint64_t random = 1;
    for (int i = 0; i < DELAYS; i++)
        delays->ns[i] = delay(&random);
}

static uint64_t fired; /* written where one worker runs */

static void fire(void *arg)
{
    (void)arg;
    fired++;
}

typedef struct {
    routine_timer_t **timers;
    uint64_t count;
} pending_t;

static bool pending_new(pending_t *p, uint64_t count)
{
    uint64_t random = 2;
    *p = (pending_t){calloc(count > 0 ? count : 1, sizeof(routine_timer_t *)), 0};
    while (p->timers != NULL && p->count < count) {
        routine_timer_t *timer = routine_timer_new(delay(&random), 0, fire, NULL);
        if (timer == NULL)
            return false;
        p->timers[p->count++] = timer;
    }
    return p->timers != NULL;
}

static void pending_free(pending_t *p)
{
    while (p->count > 0)
        routine_timer_free(p->timers[--p->count]);
    free(p->timers);
}

/* Sets and stops one timer while so many are pending. */
static void reset_stop(bench_t *b, uint64_t count)
{
    delays_t delays;
    pending_t pending;
    make_delays(&delays);
    fired = 0;
    routine_timer_t *timer = routine_timer_new(HOUR, 0, fire, NULL);
    if (timer == NULL || !routine_timer_stop(timer)) {
        bench_fail(b, "no memory for a timer, or it was not pending");
    } else if (!pending_new(&pending, count)) {
        bench_fail(b, "no memory for the timers");
        pending_free(&pending);
    } else {
        const uint64_t n = bench_iterations(b);
        uint64_t set = 0, stopped = 0;
        bench_start(b);
        for (uint64_t i = 0; i < n; i++) {
            set += !routine_timer_reset(timer, delays.ns[i % DELAYS]);
            stopped += routine_timer_stop(timer);
        }
        bench_stop(b);
        if (set != n || stopped != n || fired != 0)
            bench_fail(b, "a timer was pending when it should not have been, or fired");
        pending_free(&pending);
    }
    routine_timer_free(timer);
}

static void timer_0_routines(bench_t *b)
{
    reset_stop(b, 0);
}

BENCH(timer_0_routines, .name = "timer_0/routines", .on = BENCH_ONE);

static void timer_1000_routines(bench_t *b)
{
    reset_stop(b, THOUSAND);
}

BENCH(timer_1000_routines, .name = "timer_1000/routines", .on = BENCH_ONE);

static void timer_million_routines(bench_t *b)
{
    reset_stop(b, bench_size("ROUTINES_BENCH_MILLION", 1000000));
}

BENCH(timer_million_routines, .name = "timer_million/routines", .on = BENCH_ONE);

static void timer_new_free(bench_t *b)
{
    delays_t delays;
    make_delays(&delays);
    fired = 0;
    const uint64_t n = bench_iterations(b);
    uint64_t failed = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_timer_t *timer = routine_timer_new(delays.ns[i % DELAYS], 0, fire, NULL);
        failed += timer == NULL;
        routine_timer_free(timer);
    }
    bench_stop(b);
    if (failed != 0 || fired != 0)
        bench_fail(b, "no memory for a timer, or it fired");
}

BENCH(timer_new_free, .name = "timer_0/routines-new", .on = BENCH_ONE);

/* ---- entering and leaving a limit ---- */

static void limit_routines(bench_t *b)
{
    const uint64_t n = bench_iterations(b);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_with_timeout(HOUR);
    }
    bench_stop(b);
    if (routine_deadline() != ROUTINE_NEVER || routine_check() != 0)
        bench_fail(b, "a limit is left in force");
}

BENCH(limit_routines, .name = "limit/routines", .on = BENCH_ONE);

static void limit_deadline(bench_t *b)
{
    const uint64_t n = bench_iterations(b);
    const int64_t at = routine_now() + HOUR;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_with_deadline(at);
    }
    bench_stop(b);
    if (routine_deadline() != ROUTINE_NEVER || routine_check() != 0)
        bench_fail(b, "a limit is left in force");
}

BENCH(limit_deadline, .name = "limit/routines-deadline", .on = BENCH_ONE);

static void read_clock(bench_t *b, int times)
{
    const uint64_t n = bench_iterations(b);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < times; j++)
            BENCH_KEEP(routine_now());
    }
    bench_stop(b);
}

static void limit_limit_clock(bench_t *b)
{
    read_clock(b, 1);
}

BENCH(limit_limit_clock, .name = "limit/limit-clock", .on = BENCH_THREAD);

static void limit_limit_clock_twice(bench_t *b)
{
    read_clock(b, 2);
}

BENCH(limit_limit_clock_twice, .name = "limit/limit-clock-twice", .on = BENCH_THREAD);

static void timer_limit_clock(bench_t *b)
{
    read_clock(b, 1);
}

BENCH(timer_limit_clock, .name = "timer_0/limit-clock", .on = BENCH_THREAD);

/* ---- a receive in a limit ---- */

enum { ROOM = 1024 };

/* The clock runs while messages are taken out of the full channel, not while it is filled. */
static void empty_it(bench_t *b, chan_t *ch)
{
    const uint64_t n = bench_iterations(b);
    uint64_t wrong = 0;
    int rc = 0;
    bench_start(b);
    for (uint64_t done = 0; done < n && rc == 0;) {
        const uint64_t some = n - done < ROOM ? n - done : ROOM;
        bench_pause(b);
        for (uint64_t i = 0; i < some; i++) {
            const int64_t value = (int64_t)i;
            rc |= chan_send(ch, &value);
        }
        bench_resume(b);
        for (uint64_t i = 0; i < some; i++) {
            int64_t value = -1;
            rc |= chan_recv(ch, &value);
            wrong += value != (int64_t)i;
        }
        done += some;
    }
    bench_stop(b);
    if (rc != 0 || wrong != 0)
        bench_fail(b, "a send or receive failed");
}

static void recv_limited(bench_t *b)
{
    chan_t *ch = chan_make(int64_t, ROOM);
    if (ch == NULL) {
        bench_fail(b, "no memory for a channel");
        return;
    }
    routine_with_timeout(HOUR);
    empty_it(b, ch);
    chan_unref(ch);
}

BENCH(recv_limited, .name = "limit_recv/routines", .on = BENCH_ONE);

static void recv_plain(bench_t *b)
{
    chan_t *ch = chan_make(int64_t, ROOM);
    if (ch == NULL) {
        bench_fail(b, "no memory for a channel");
        return;
    }
    empty_it(b, ch);
    chan_unref(ch);
}

BENCH(recv_plain, .name = "limit_recv/routines-plain", .on = BENCH_ONE);

/* ---- waiting in a limit ---- */

typedef int recv_fn(chan_t *ch, int64_t *ball);

/* Not inlined, as the other one cannot be. */
static __attribute__((noinline)) int recv_in_none(chan_t *ch, int64_t *ball)
{
    return chan_recv(ch, ball);
}

static __attribute__((noinline)) int recv_in_limit(chan_t *ch, int64_t *ball)
{
    routine_with_timeout(HOUR);
    return chan_recv(ch, ball);
}

typedef struct {
    chan_t *ping, *pong;
    recv_fn *recv;
    bool outer; /* a limit around all */
} table_t;

static int play_back(const table_t *t)
{
    int64_t ball;
    int rc = 0;
    while (rc == 0 && t->recv(t->ping, &ball) == 0) {
        ball++;
        rc = chan_send(t->pong, &ball);
    }
    return rc;
}

static void *return_balls(void *arg)
{
    const table_t *t = arg;
    if (!t->outer)
        return (void *)(intptr_t)play_back(t);
    routine_with_timeout(HOUR);
    return (void *)(intptr_t)play_back(t);
}

static int play(bench_t *b, const table_t *t, bool *wrong)
{
    const int64_t n = (int64_t)bench_iterations(b);
    int rc = 0;
    bench_start(b);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        int64_t ball = i;
        rc = chan_send(t->ping, &ball);
        if (rc == 0)
            rc = t->recv(t->pong, &ball);
        *wrong |= ball != i + 1;
    }
    bench_stop(b);
    return rc;
}

static int play_in_limit(bench_t *b, const table_t *t, bool *wrong)
{
    routine_with_timeout(HOUR);
    return play(b, t, wrong);
}

static void ping_pong(bench_t *b, recv_fn *recv, bool outer)
{
    table_t t = {chan_make(int64_t, 1), chan_make(int64_t, 1), recv, outer};
    if (t.ping == NULL || t.pong == NULL) {
        bench_fail(b, "no memory for a channel");
    } else {
        bool wrong = false;
        void *result = NULL;
        routine_t partner = go(return_balls, &t);
        int rc = outer ? play_in_limit(b, &t, &wrong) : play(b, &t, &wrong);
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

static void wait_limited(bench_t *b)
{
    ping_pong(b, recv_in_limit, false);
}

BENCH(wait_limited, .name = "limit_wait/routines", .on = BENCH_WORKERS);

static void wait_outer(bench_t *b)
{
    ping_pong(b, recv_in_none, true);
}

BENCH(wait_outer, .name = "limit_wait/routines-outer", .on = BENCH_WORKERS);

static void wait_plain(bench_t *b)
{
    ping_pong(b, recv_in_none, false);
}

BENCH(wait_plain, .name = "limit_wait/routines-plain", .on = BENCH_WORKERS);

/* ---- shield and defer ---- */

static void shield_routines(bench_t *b)
{
    const uint64_t n = bench_iterations(b);
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_shield();
    }
    bench_stop(b);
    if (routine_check() != 0)
        bench_fail(b, "something is left in force");
}

BENCH(shield_routines, .name = "shield/routines", .on = BENCH_ONE);

static void count_up(void *arg)
{
    ++*(uint64_t *)arg;
}

static void defer_routines(bench_t *b)
{
    const uint64_t n = bench_iterations(b);
    uint64_t count = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        routine_defer(count_up, &count);
    }
    bench_stop(b);
    if (count != n)
        bench_fail(b, "a defer did not run");
}

BENCH(defer_routines, .name = "defer/routines", .on = BENCH_ONE);

static void call_count_up(bench_t *b, uint64_t times)
{
    const uint64_t n = bench_iterations(b) * times;
    uint64_t count = 0;
    bench_start(b);
    for (uint64_t i = 0; i < n; i++) {
        void (*fn)(void *) = count_up;
        __asm__ volatile("" : "+r"(fn)); /* could be any function */
        fn(&count);
    }
    bench_stop(b);
    if (count != n)
        bench_fail(b, "a call was lost");
}

static void shield_limit_calls(bench_t *b)
{
    call_count_up(b, 2);
}

BENCH(shield_limit_calls, .name = "shield/limit-calls", .on = BENCH_THREAD);

static void defer_limit_call(bench_t *b)
{
    call_count_up(b, 1);
}

BENCH(defer_limit_call, .name = "defer/limit-call", .on = BENCH_THREAD);
