/* SPDX-License-Identifier: MIT
 *
 * limiter: a rate limiter in front of some impatient clients.
 *
 *     ./limiter                      100 requests per second, bursts of 20
 *     ./limiter -r 1000 -b 5 -c 50 -p 0
 *
 * It is a bucket of tokens, and the bucket is a channel: as many tokens as may be spent at once have
 * room in it. It is full at the start; a routine adds one at regular times, and what does not fit is lost.
 * A client needs a token for each request. It waits for one, but not longer than its patience lasts: a select
 * of a receive and a timeout. Tokens carry nothing, so the elements of the channel have no size.
 *
 * The clients ask much more often than the limit allows, but are quiet in the middle third of the time.
 * Then the bucket fills again, and a new burst is possible. What was let through up to any moment can never
 * be more than the bucket held at the start and what was added since; the program checks that.
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INTERVALS 12 /* lines of the table */

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "limiter: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* Sleeps until this time of routine_now(): a select of nothing but a deadline. */
static void sleep_until(int64_t at)
{
    check(chan_select(CHAN_DEADLINE(at)), "sleeping"); /* 0 is the index of the only case */
}

/* ---- The limiter. ---- */

struct limiter {
    chan_t *tokens;
    chan_t *stop; /* carries nothing; is closed in the end */
    int64_t started;
    int64_t period; /* between one token and the next */
    routine_t refiller;
};

/* Adds a token at the end of each period. When it comes late by more than a period, what is overdue is not
 * made up for: so whatever span of time one looks at, no more than the rate gives is added in it, and two. */
static void *refill(void *arg)
{
    struct limiter *limiter = arg;
    int64_t next = limiter->started + limiter->period;
    for (;;) {
        const int which = chan_select(CHAN_RECV(limiter->stop, NULL), CHAN_DEADLINE(next));
        if (which == CHAN_CLOSED(0))
            return NULL;
        check(which == 1 ? 0 : which, "waiting for the next token");
        const int rc = chan_try_send(limiter->tokens, NULL);
        check(rc == -EAGAIN ? 0 : rc, "adding a token"); /* -EAGAIN: the bucket is full */
        const int64_t now = routine_now();
        next = next + limiter->period > now ? next + limiter->period : now;
    }
}

static void limiter_start(struct limiter *limiter, double per_second, size_t burst)
{
    limiter->tokens = chan_new(0, (ptrdiff_t)burst);
    limiter->stop = chan_new(0, 0);
    check(limiter->tokens != NULL && limiter->stop != NULL ? 0 : -ENOMEM, "the bucket");
    for (size_t i = 0; i < burst; i++)
        check(chan_try_send(limiter->tokens, NULL), "filling the bucket");
    limiter->period = (int64_t)((double)ROUTINE_S / per_second);
    limiter->started = routine_now();
    limiter->refiller = go(refill, limiter);
}

/* 0: go ahead; -ETIMEDOUT: there was no token for so long. Whoever has waited longest gets the next one. */
static int limiter_wait(struct limiter *limiter, int64_t patience)
{
    const int which = chan_select(CHAN_RECV(limiter->tokens, NULL), CHAN_TIMEOUT(patience));
    return which == 1 ? -ETIMEDOUT : which;
}

static void limiter_stop(struct limiter *limiter)
{
    check(chan_close(limiter->stop), "stopping");
    check(routine_join(limiter->refiller, NULL), "the routine that adds tokens");
    chan_unref(limiter->stop);
    chan_unref(limiter->tokens);
}

/* ---- The clients. ---- */

struct options {
    double rate; /* per second */
    size_t burst;
    size_t clients;
    size_t every;    /* milliseconds between the requests of a client */
    size_t patience; /* milliseconds */
    size_t duration; /* milliseconds, of the demand; what waits then is still served */
};

struct interval {
    uint64_t through;
    uint64_t refused;
};

struct demand {
    struct options options;
    struct limiter limiter;
    routine_mutex_t lock;
    struct interval interval[INTERVALS + 1]; /* under lock; the last one: after the duration */
};

/* Requests are scheduled: how many there are does not depend on how long each waits. */
static void *client(void *arg)
{
    struct demand *demand = arg;
    const int64_t begun = demand->limiter.started;
    const int64_t duration = (int64_t)demand->options.duration * ROUTINE_MS;
    for (int64_t at = 0; at < duration; at += (int64_t)demand->options.every * ROUTINE_MS) {
        if (at >= duration / 3 && at < duration / 3 * 2)
            continue;
        sleep_until(begun + at);
        const int rc = limiter_wait(&demand->limiter, (int64_t)demand->options.patience * ROUTINE_MS);
        check(rc == -ETIMEDOUT ? 0 : rc, "waiting for a token");
        int64_t i = (routine_now() - begun) * INTERVALS / duration;
        i = i < INTERVALS ? i : INTERVALS;
        check(routine_mutex_lock(&demand->lock), "lock");
        if (rc == 0)
            demand->interval[i].through++;
        else
            demand->interval[i].refused++;
        check(routine_mutex_unlock(&demand->lock), "unlock");
    }
    return NULL;
}

/* ---- The table. ---- */

static void print_bar(uint64_t n)
{
    for (uint64_t i = 0; i < n && i < 40; i++)
        putchar('*');
    printf("%s\n", n > 40 ? "..." : "");
}

/* How many can have been let through so long after the start. */
static uint64_t allowed_after(const struct demand *demand, int64_t time)
{
    return demand->options.burst + (uint64_t)(time / demand->limiter.period);
}

/* False if there is more in it than allowed. All clients have ended. */
static bool print_table(const struct demand *demand, int64_t ended)
{
    const int64_t duration = (int64_t)demand->options.duration * ROUTINE_MS;
    struct interval sum = {0};
    bool good = true;
    printf("until s    asked  refused  through  so far  allowed\n");
    for (int64_t i = 0; i <= INTERVALS; i++) {
        const struct interval *interval = &demand->interval[i];
        if (i == INTERVALS && interval->through + interval->refused == 0)
            break;
        const int64_t until = i < INTERVALS ? duration * (i + 1) / INTERVALS : ended;
        const uint64_t allowed = allowed_after(demand, until);
        sum.through += interval->through;
        sum.refused += interval->refused;
        good = good && sum.through <= allowed;
        printf("%7.3f  %7" PRIu64 "  %7" PRIu64 "  %7" PRIu64 "  %6" PRIu64 "  %7" PRIu64 "  ",
               (double)until / (double)ROUTINE_S, interval->through + interval->refused, interval->refused,
               interval->through, sum.through, allowed);
        print_bar(interval->through);
    }
    printf("asked %" PRIu64 ", let through %" PRIu64 ", refused %" PRIu64 " in %.3f s\n",
           sum.through + sum.refused, sum.through, sum.refused, (double)ended / (double)ROUTINE_S);
    return good;
}

static int run(const struct options *options)
{
    struct demand demand = {.options = *options, .lock = ROUTINE_MUTEX_INITIALIZER};
    routine_t *clients = malloc(options->clients * sizeof *clients);
    check(clients != NULL ? 0 : -ENOMEM, "clients");
    printf("%g requests per second, bursts of %zu; clients: %zu, ask every %zu ms, wait for %zu ms\n",
           options->rate, options->burst, options->clients, options->every, options->patience);
    limiter_start(&demand.limiter, options->rate, options->burst);
    for (size_t i = 0; i < options->clients; i++)
        clients[i] = go(client, &demand);
    for (size_t i = 0; i < options->clients; i++)
        check(routine_join(clients[i], NULL), "a client");
    const int64_t ended = routine_now() - demand.limiter.started;
    limiter_stop(&demand.limiter);
    free(clients);
    if (!print_table(&demand, ended)) {
        fprintf(stderr, "limiter: wrong: more was let through than allowed\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoul(text, &end, 10);
    return *end == '\0' && *number >= smallest && *number <= largest;
}

static bool parse_rate(const char *text, double *rate)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *rate = strtod(text, &end);
    return *end == '\0' && *rate >= 1e-3 && *rate <= 1e5;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [options]\n"
            "  -r RATE  requests per second that are let through, 0.001 to 100000 (default 100)\n"
            "  -b N     how many at once after a quiet time, 1 to 1000000 (default 20)\n"
            "  -c N     clients, 1 to 100000 (default 8)\n"
            "  -e MS    each asks every so many milliseconds, 1 to 60000 (default 10) ...\n"
            "  -t MS    ... for so many, 1 to 3600000 (default 1200), but not in the middle third\n"
            "  -p MS    and gives a request up after so many, 0 to 3600000 (default 5)\n",
            program);
    return 2;
}

int main(int argc, char **argv)
{
    struct options options = {
        .rate = 100, .burst = 20, .clients = 8, .every = 10, .patience = 5, .duration = 1200};
    for (int c; (c = getopt(argc, argv, "r:b:c:e:t:p:")) != -1;) {
        bool good = false;
        if (c == 'r')
            good = parse_rate(optarg, &options.rate);
        else if (c == 'b')
            good = parse_number(optarg, 1, 1000000, &options.burst);
        else if (c == 'c')
            good = parse_number(optarg, 1, 100000, &options.clients);
        else if (c == 'e')
            good = parse_number(optarg, 1, 60000, &options.every);
        else if (c == 't')
            good = parse_number(optarg, 1, 3600000, &options.duration);
        else if (c == 'p')
            good = parse_number(optarg, 0, 3600000, &options.patience);
        if (!good)
            return usage(argv[0]);
    }
    return optind == argc ? run(&options) : usage(argv[0]);
}
