/* SPDX-License-Identifier: MIT
 *
 * What does a select cost? Two questions:
 *
 * "select": a consumer selects over four rendezvous channels, each with a producer of its own. An operation
 * is a message. Mostly nothing is ready, so a select has to wait on all four.
 *
 * "select_ready_N": N channels, all of them ready, so a select tries, chooses and never waits. An operation
 * is a select and the plain send that makes the chosen channel ready again. "routines-plain" is the same with
 * a plain receive: what remains of the select is the difference.
 */
#include <routines/chan.h>
#include <routines/routine.h>

#include "harness.h"

enum { FOUR = 4, MOST = 256 };

/* ---- waiting ---- */

typedef struct {
    chan_t *ch;
    uint64_t first, count; /* so many numbers from the first one on */
    int rc;
} producer_t;

static void *produce(void *arg)
{
    producer_t *p = arg;
    int rc = 0;
    for (uint64_t i = 0; i < p->count && rc == 0; i++) {
        uint64_t value = p->first + i;
        rc = chan_send(p->ch, &value);
    }
    p->rc = rc;
    return NULL;
}

/* Receives n messages and adds them up; the number of those from each channel goes into received. Returns 0,
 * or what a select has said instead of the index of a channel. */
static int consume(const producer_t *producer, uint64_t n, uint64_t *received, uint64_t *total)
{
    chan_t *a = producer[0].ch, *b = producer[1].ch, *c = producer[2].ch, *d = producer[3].ch;
    uint64_t w, x, y, z, sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        int chosen = chan_select(CHAN_RECV(a, &w), CHAN_RECV(b, &x), CHAN_RECV(c, &y), CHAN_RECV(d, &z));
        switch (chosen) {
        case 0:
            sum += w;
            break;
        case 1:
            sum += x;
            break;
        case 2:
            sum += y;
            break;
        case 3:
            sum += z;
            break;
        default:
            return chosen;
        }
        received[chosen]++;
    }
    *total = sum;
    return 0;
}

static void select_routines(bench_t *b)
{
    uint64_t n = bench_iterations(b), given = 0, sum = 0, received[FOUR] = {0};
    producer_t producer[FOUR];
    routine_t h[FOUR];
    bool all = true;
    for (uint64_t i = 0; i < FOUR; i++) {
        uint64_t share = n / FOUR + (i < n % FOUR);
        producer[i] = (producer_t){.ch = chan_make(uint64_t, 0), .first = given, .count = share};
        given += share;
        all = all && producer[i].ch != NULL;
    }
    if (all) {
        bench_start(b);
        for (int i = 0; i < FOUR; i++)
            h[i] = go(produce, &producer[i]);
        int rc = consume(producer, n, received, &sum);
        bench_stop(b);
        if (rc != 0)
            bench_fail(b, "a select failed");
        for (int i = 0; i < FOUR; i++) {
            /* ends those who still have something to send, after a failed select */
            rc |= chan_close(producer[i].ch);
            rc |= routine_join(h[i], NULL) | producer[i].rc;
            if (received[i] != producer[i].count)
                bench_fail(b, "a select said the wrong channel");
        }
        if (rc != 0)
            bench_fail(b, "a send, close or join failed");
        else if (sum != n * (n - 1) / 2)
            bench_fail(b, "what was received is not what was sent");
    } else {
        bench_fail(b, "no memory for the channels");
    }
    for (int i = 0; i < FOUR; i++)
        chan_unref(producer[i].ch);
}

BENCH(select_routines, .name = "select/routines", .on = BENCH_WORKERS);

/* ---- ready ---- */

/* Selects among `count` channels, each of which holds its own number. */
static void select_ready(bench_t *b, int count)
{
    chan_t *ch[MOST];
    chan_case_t cases[MOST];
    uint64_t value = 0;
    int made = 0, rc = 0;
    for (; made < count && rc == 0; made++) {
        uint64_t number = (uint64_t)made;
        ch[made] = chan_make(uint64_t, 1);
        cases[made] = CHAN_RECV(ch[made], &value);
        rc = chan_send(ch[made], &number); /* -EINVAL if there is no channel */
    }
    if (rc != 0) {
        bench_fail(b, "no memory for the channels, or a send failed");
    } else {
        bool wrong = false; /* then it ends at once: a send to a channel that is full would wait for ever */
        bench_start(b);
        for (uint64_t i = bench_iterations(b); i > 0 && rc == 0 && !wrong; i--) {
            int chosen = chan_select_array(cases, (size_t)count);
            wrong = chosen < 0 || chosen >= count || value != (uint64_t)chosen;
            if (!wrong)
                rc = chan_send(ch[chosen], &value);
        }
        bench_stop(b);
        if (wrong)
            bench_fail(b, "a select failed, or said the wrong channel");
        else if (rc != 0)
            bench_fail(b, "a send failed");
    }
    while (made > 0)
        chan_unref(ch[--made]);
}

static void select_ready_1(bench_t *b)
{
    select_ready(b, 1);
}

BENCH(select_ready_1, .name = "select_ready_1/routines", .on = BENCH_ONE);

static void select_ready_4(bench_t *b)
{
    select_ready(b, 4);
}

BENCH(select_ready_4, .name = "select_ready_4/routines", .on = BENCH_ONE);

static void select_ready_16(bench_t *b)
{
    select_ready(b, 16);
}

BENCH(select_ready_16, .name = "select_ready_16/routines", .on = BENCH_ONE);

static void select_ready_64(bench_t *b)
{
    select_ready(b, 64);
}

BENCH(select_ready_64, .name = "select_ready_64/routines", .on = BENCH_ONE);

static void select_ready_256(bench_t *b)
{
    select_ready(b, 256);
}

BENCH(select_ready_256, .name = "select_ready_256/routines", .on = BENCH_ONE);

static void select_ready_plain(bench_t *b)
{
    uint64_t value = 0;
    chan_t *ch = chan_make(uint64_t, 1);
    int rc = chan_send(ch, &value); /* -EINVAL if there is no channel */
    bench_start(b);
    for (uint64_t i = bench_iterations(b); i > 0 && rc == 0; i--) {
        rc = chan_recv(ch, &value);
        if (rc == 0)
            rc = chan_send(ch, &value);
    }
    bench_stop(b);
    if (rc != 0)
        bench_fail(b, "a send or receive failed");
    chan_unref(ch);
}

BENCH(select_ready_plain, .name = "select_ready_1/routines-plain", .on = BENCH_ONE);
