/* SPDX-License-Identifier: MIT
 *
 * pingpong: two routines pass a ball to and fro through two channels without a buffer. Each pass is a
 * rendezvous: whoever sends waits until the other one takes the ball. It shows what that costs, for
 * one pair of players and for many side by side.
 *
 *     ./pingpong                     1,000,000 round trips
 *     ./pingpong 10000 100           10,000 round trips by each of 100 pairs
 *     ROUTINES_WORKERS=1 ./pingpong
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TRIPS 1000000
#define LARGEST_TRIPS 1000000000
#define LARGEST_PAIRS 100000

/* What travels; every player adds one before the ball is sent on. */
struct ball {
    uint64_t hits;
};

struct pair {
    chan_t *there; /* from ping to pong */
    chan_t *back;
    uint64_t trips;
    uint64_t ping_hits;
    uint64_t pong_hits;
    uint64_t ball_hits; /* as the ball says when it is back for the last time */
    routine_t ping;
    routine_t pong;
};

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "pingpong: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

static void *ping(void *arg)
{
    struct pair *pair = arg;
    struct ball ball = {0};
    while (pair->ping_hits < pair->trips) {
        ball.hits++;
        pair->ping_hits++;
        check(chan_send(pair->there, &ball), "ping sends");
        check(chan_recv(pair->back, &ball), "ping receives");
    }
    pair->ball_hits = ball.hits;
    check(chan_close(pair->there), "ping ends the game");
    return NULL;
}

static void *pong(void *arg)
{
    struct pair *pair = arg;
    struct ball ball;
    int rc;
    while ((rc = chan_recv(pair->there, &ball)) == 0) {
        ball.hits++;
        pair->pong_hits++;
        check(chan_send(pair->back, &ball), "pong sends");
    }
    check(rc == -EPIPE ? 0 : rc, "pong receives"); /* closed: the game is over */
    return NULL;
}

static void start(struct pair *pair, uint64_t trips)
{
    *pair =
        (struct pair){.there = chan_make(struct ball, 0), .back = chan_make(struct ball, 0), .trips = trips};
    check(pair->there != NULL && pair->back != NULL ? 0 : -ENOMEM, "two channels");
    pair->pong = go(pong, pair);
    pair->ping = go(ping, pair);
}

/* Waits for both players. False if they don't agree on the game. */
static bool finish(struct pair *pair)
{
    check(routine_join(pair->ping, NULL), "a player"); /* a go that failed is reported here too */
    check(routine_join(pair->pong, NULL), "a player");
    chan_unref(pair->there);
    chan_unref(pair->back);
    return pair->ping_hits == pair->trips && pair->pong_hits == pair->trips &&
           pair->ball_hits == 2 * pair->trips;
}

static int play(uint64_t trips, size_t count)
{
    struct pair *pairs = calloc(count, sizeof *pairs);
    check(pairs != NULL ? 0 : -ENOMEM, "the pairs");
    const int64_t begun = routine_now();
    for (size_t i = 0; i < count; i++)
        start(&pairs[i], trips);
    size_t good = 0;
    for (size_t i = 0; i < count; i++)
        good += finish(&pairs[i]);
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;
    free(pairs);

    const size_t workers = routine_runtime_workers(routine_runtime_default());
    printf("%zu pair%s, %" PRIu64 " round trip%s each\n", count, count == 1 ? "" : "s", trips,
           trips == 1 ? "" : "s");
    printf("time  %.3f s with %zu worker%s, %.1f ns per round trip\n", seconds, workers,
           workers == 1 ? "" : "s", seconds * 1e9 / ((double)trips * (double)count));
    if (good != count) {
        fprintf(stderr, "pingpong: wrong: %zu of %zu pairs miscounted\n", count - good, count);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static bool parse_number(const char *text, size_t largest, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoul(text, &end, 10);
    return *end == '\0' && *number >= 1 && *number <= largest;
}

int main(int argc, char **argv)
{
    size_t trips = DEFAULT_TRIPS;
    size_t pairs = 1;
    if (argc > 3 || (argc > 1 && !parse_number(argv[1], LARGEST_TRIPS, &trips)) ||
        (argc > 2 && !parse_number(argv[2], LARGEST_PAIRS, &pairs))) {
        fprintf(stderr,
                "usage: %s [trips [pairs]]\n"
                "  trips  round trips of each pair, 1 to %d (default %d)\n"
                "  pairs  that play side by side, 1 to %d (default 1)\n",
                argv[0], LARGEST_TRIPS, DEFAULT_TRIPS, LARGEST_PAIRS);
        return 2;
    }
    return play(trips, pairs);
}
