/* SPDX-License-Identifier: MIT
 *
 * What does a message cost on a channel with room? 128 messages of 8 bytes fit; "buffered" has one
 * producer and one consumer, "buffered_4_4" four of each on the same channel. The channel is closed
 * after the last message, and the consumers receive until it says so. Every message is a number of its own:
 * their count and sum are checked.
 */
#include <errno.h>

#include <routines/chan.h>
#include <routines/routine.h>

#include "harness.h"

enum { CAPACITY = 128, FOUR = 4 };

typedef struct {
    chan_t *ch;
    uint64_t first, count; /* to be sent: so many numbers from the first one on */
    int rc;
} producer_t;

typedef struct {
    chan_t *ch;
    uint64_t count, sum; /* what has been received */
    int rc;              /* what ended it: -EPIPE, or an error */
} consumer_t;

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

static void *consume(void *arg)
{
    consumer_t *c = arg;
    uint64_t value, count = 0, sum = 0;
    int rc;
    while ((rc = chan_recv(c->ch, &value)) == 0) {
        count++;
        sum += value;
    }
    c->count = count;
    c->sum = sum;
    c->rc = rc;
    return NULL;
}

/* Does it all: `each` producers and as many consumers. */
static void buffered(bench_t *b, uint64_t each)
{
    uint64_t n = bench_iterations(b), given = 0, count = 0, sum = 0;
    producer_t producer[FOUR];
    consumer_t consumer[FOUR];
    routine_t sending[FOUR], receiving[FOUR];
    chan_t *ch = chan_make(uint64_t, CAPACITY);
    if (ch == NULL) {
        bench_fail(b, "no memory for a channel");
        return;
    }
    for (uint64_t i = 0; i < each; i++) {
        uint64_t share = n / each + (i < n % each);
        producer[i] = (producer_t){.ch = ch, .first = given, .count = share};
        consumer[i] = (consumer_t){.ch = ch};
        given += share;
    }

    int rc = 0;
    bench_start(b);
    for (uint64_t i = 0; i < each; i++)
        receiving[i] = go(consume, &consumer[i]);
    for (uint64_t i = 0; i < each; i++)
        sending[i] = go(produce, &producer[i]);
    for (uint64_t i = 0; i < each; i++)
        rc |= routine_join(sending[i], NULL);
    rc |= chan_close(ch);
    for (uint64_t i = 0; i < each; i++)
        rc |= routine_join(receiving[i], NULL);
    bench_stop(b);

    for (uint64_t i = 0; i < each; i++) {
        if (producer[i].rc != 0 || consumer[i].rc != -EPIPE)
            bench_fail(b, "a send or receive failed");
        count += consumer[i].count;
        sum += consumer[i].sum;
    }
    if (rc != 0)
        bench_fail(b, "a join or close failed");
    else if (count != n || sum != n * (n - 1) / 2)
        bench_fail(b, "what was received is not what was sent");
    chan_unref(ch);
}

static void buffered_routines(bench_t *b)
{
    buffered(b, 1);
}

BENCH(buffered_routines, .name = "buffered/routines", .on = BENCH_WORKERS);

static void buffered_4_4_routines(bench_t *b)
{
    buffered(b, FOUR);
}

BENCH(buffered_4_4_routines, .name = "buffered_4_4/routines", .on = BENCH_WORKERS);
