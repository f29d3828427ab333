/* SPDX-License-Identifier: MIT
 *
 * hedge: hedged requests: when an answer is late, somebody else is asked too; the first answer wins.
 *
 *     ./hedge                        2000 requests to 3 replicas, without and with hedging
 *     ./hedge -x 50 -f 100 -p 90     more that are slow, and slower; ask again sooner
 *     ./hedge -D 1 -t 200            one of the replicas is dead
 *
 * A few slow answers decide how slow a service is for those who need many of them. A second request
 * to another replica, sent when the first has not been answered for as long as 95 of 100 are, costs five
 * per cent more and cuts the tail off. What is to be copied is ask(): a scope for the attempts, a select that
 * waits for an answer or for the moment to ask again, a limit around all of it. Leaving the
 * braces cancels the losers and waits for them, so nobody works for an answer that nobody wants.
 *
 * The replicas are simulated: an attempt sleeps as long as the answer takes. These times are drawn from the
 * seed, the same ones in both runs.
 */
#include <errno.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "hedge: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* As numbers of the command line: see main(). */
struct options {
    size_t requests, at_once, replicas, dead, usual, slow, factor, attempts, percentile, delay, limit, seed;
};

/* ---- The replicas. ---- */

static uint64_t hash(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* How long it takes: at least half of the usual time, seldom much more than that, if it is not slow. The
 * attempts go round. */
static int64_t time_of(const struct options *options, size_t request, size_t attempt)
{
    const uint64_t random = hash(hash(hash(options->seed + 1) + request) + attempt);
    const double x = (double)(random % 1000) / 1000, y = (double)(random / 1000 % 1000) / 1000;
    const double takes = (double)options->usual * (double)ROUTINE_US * (0.5 + 2 * x * x * x + y / 10);
    if ((request + attempt) % options->replicas < options->dead)
        return ROUTINE_NEVER;
    return (int64_t)((random >> 32) % 1000 < options->slow ? takes * (double)options->factor : takes);
}

/* ---- A request. ---- */

struct reply {
    size_t request;
    size_t attempt;
};

struct request {
    const struct options *options;
    size_t number;
    size_t attempts; /* at most; 1: no hedging */
    int64_t delay;
    atomic_size_t begun; /* attempts; and these have ended: */
    atomic_size_t answered;
    atomic_size_t cut_short;
    /* The results: */
    size_t sent; /* attempts that were started; some may not have begun */
    int error;   /* 0, or -ETIMEDOUT */
    int64_t latency;
    size_t winner; /* the attempt that was first */
};

struct attempt {
    struct request *request;
    size_t number;
    chan_t *replies;
};

/* A child. To come too late, or to be cancelled, is no failure: the request knows what it wants. */
static int attempt(void *arg)
{
    const struct attempt *attempt = arg;
    struct request *request = attempt->request;
    const struct options *options = request->options;
    const struct reply reply = {.request = request->number, .attempt = attempt->number};
    atomic_fetch_add(&request->begun, 1);
    int rc = routine_sleep(time_of(options, request->number, attempt->number)); /* the call */
    if (rc == 0)
        rc = chan_send(attempt->replies, &reply);
    atomic_fetch_add(rc == 0 ? &request->answered : &request->cut_short, 1);
    return 0;
}

static void drop_channel(void *arg)
{
    chan_unref(arg);
}

/* Returns 0 with the first reply; or -ETIMEDOUT, -ECANCELED. What is declared here ends in the opposite
 * order: the attempts are cancelled and waited for, then nobody needs the channel any more. */
static int ask(struct request *request, struct reply *reply)
{
    chan_t *replies = chan_make(struct reply, (ptrdiff_t)request->attempts); /* nobody waits to be heard */
    check(replies != NULL ? 0 : -ENOMEM, "a channel");
    routine_defer(drop_channel, replies);
    routine_with_timeout((int64_t)request->options->limit * ROUTINE_MS);
    routine_scope(attempts);
    for (;;) {
        if (request->sent < request->attempts) {
            const int rc = routine_scope_go_copy(&attempts, attempt,
                                                 ((struct attempt){request, request->sent, replies}));
            if (rc != 0)
                return rc;
            request->sent++;
        }
        const int64_t pause = request->sent < request->attempts ? request->delay : ROUTINE_NEVER;
        const int which = chan_select(CHAN_RECV(replies, reply), CHAN_TIMEOUT(pause));
        if (which != 1)
            return which; /* 0 is the reply */
    }
}

/* A child of the load, one for each request. */
static int serve(void *arg)
{
    struct request *request = arg;
    struct reply reply;
    const int64_t begun = routine_now();
    request->error = ask(request, &reply);
    request->latency = routine_now() - begun;
    if (request->error == 0) {
        check(reply.request == request->number ? 0 : -EBADMSG, "the answer to something else");
        request->winner = reply.attempt;
    }
    check(request->begun == request->answered + request->cut_short ? 0 : -EBUSY, "an attempt that goes on");
    return request->error == -ETIMEDOUT ? 0 : request->error;
}

/* ---- All of them, and the table. ---- */

struct summary {
    size_t answered; /* requests */
    size_t given_up;
    size_t sent;        /* attempts: all, ... */
    size_t begun;       /* ... those that have reached a replica; and of these: */
    size_t heard;       /* have answered ... */
    size_t cut_short;   /* ... or not */
    size_t later;       /* requests whose first answer was not that of the first attempt */
    int64_t *latencies; /* of those that were answered, in order */
};

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Of the requests that were answered; 0 without any. per_mille of them have taken no longer. */
static int64_t percentile(const struct summary *summary, size_t per_mille)
{
    const size_t rank = (summary->answered * per_mille + 999) / 1000;
    return summary->answered == 0 ? 0 : summary->latencies[rank > 0 ? rank - 1 : 0];
}

static struct summary run(const struct options *options, size_t attempts, int64_t delay)
{
    struct summary sum = {0};
    struct request *requests = calloc(options->requests, sizeof *requests);
    sum.latencies = calloc(options->requests, sizeof *sum.latencies);
    check(requests != NULL && sum.latencies != NULL ? 0 : -ENOMEM, "requests");
    for (size_t i = 0; i < options->requests; i++) {
        struct request *request = &requests[i];
        request->options = options;
        request->number = i;
        request->attempts = attempts;
        request->delay = delay;
    }
    int error = 0;
    routine_scope_limited(load, options->at_once);
    check(routine_scope_go_each(&load, serve, requests, options->requests, sizeof *requests), "requests");
    check(routine_scope_join(&load, &error), "waiting for the requests");
    check(error, "a request");

    for (size_t i = 0; i < options->requests; i++) {
        const struct request *request = &requests[i];
        if (request->error == 0)
            sum.latencies[sum.answered++] = request->latency;
        else
            sum.given_up++;
        sum.sent += request->sent;
        sum.begun += request->begun;
        sum.heard += request->answered;
        sum.cut_short += request->cut_short;
        sum.later += request->error == 0 && request->winner > 0;
    }
    const bool right = sum.answered + sum.given_up == options->requests && sum.begun <= sum.sent &&
                       sum.begun == sum.heard + sum.cut_short && sum.answered <= sum.heard;
    check(right ? 0 : -EPROTO, "the sums");
    qsort(sum.latencies, sum.answered, sizeof *sum.latencies, compare);
    free(requests);
    return sum;
}

static void print_line(const char *what, const struct summary *summary)
{
    static const size_t columns[] = {500, 900, 950, 990, 999, 1000};
    printf("%-14s", what);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        printf(" %8.3f", (double)percentile(summary, columns[i]) / (double)ROUTINE_MS);
    printf(" %8zu %8zu\n", summary->begun, summary->given_up);
}

static void *compare_runs(void *arg)
{
    const struct options *options = arg;
    int64_t delay = (int64_t)options->delay * ROUTINE_US;
    printf(
        "%zu requests, %zu at once; replicas: %zu, dead: %zu; %zu of 1000 answers take %zu times as long\n",
        options->requests, options->at_once, options->replicas, options->dead, options->slow,
        options->factor);
    printf("%-14s %8s %8s %8s %8s %8s %8s %8s %8s\n", "milliseconds", "p50", "p90", "p95", "p99", "p99.9",
           "max", "asked", "given up");
    if (delay == 0) {
        struct summary plain = run(options, 1, ROUTINE_NEVER);
        print_line("asked once", &plain);
        delay = percentile(&plain, options->percentile * 10);
        free(plain.latencies);
    }
    struct summary hedged = run(options, options->attempts, delay);
    print_line("hedged", &hedged);
    printf("asked again after %.3f ms: %zu times (%.1f %%), and was first: %zu times\n",
           (double)delay / (double)ROUTINE_MS, hedged.sent - options->requests,
           100.0 * (double)(hedged.sent - options->requests) / (double)options->requests, hedged.later);
    printf("losers: %zu cut short, %zu answered too late, %zu had not begun; none is left\n",
           hedged.cut_short, hedged.heard - hedged.answered, hedged.sent - hedged.begun);
    free(hedged.latencies);
    return NULL;
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    *number = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *number >= smallest && *number <= largest;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    const struct {
        size_t *number;
        size_t smallest, largest, usually;
        char letter;
        const char *what;
    } table[] = {
        {&options.requests, 1, 1000000, 2000, 'n', "requests"},
        {&options.at_once, 1, 100000, 50, 'c', "requests at once"},
        {&options.replicas, 1, 1000, 3, 'r', "replicas"},
        {&options.dead, 0, 1000, 0, 'D', "replicas that are dead"},
        {&options.usual, 1, 10000000, 4000, 'm', "microseconds that an answer usually takes"},
        {&options.slow, 0, 1000, 20, 'x', "answers of 1000 that are slow"},
        {&options.factor, 1, 10000, 25, 'f', "times as long these take"},
        {&options.attempts, 1, 16, 2, 'k', "attempts for a request"},
        {&options.percentile, 1, 100, 95, 'p', "ask again when so many % would have been answered"},
        {&options.delay, 0, 1000000000, 0, 'd',
         "or after so many microseconds; then there is no run without hedging"},
        {&options.limit, 1, 3600000, 60000, 't', "milliseconds after which a request is given up"},
        {&options.seed, 0, SIZE_MAX, 0, 's', "seed of the times"},
    };
    const size_t count = sizeof table / sizeof table[0];
    for (size_t i = 0; i < count; i++)
        *table[i].number = table[i].usually;
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "n:c:r:D:m:x:f:k:p:d:t:s:")) != -1;) {
        good = false;
        for (size_t i = 0; i < count; i++)
            if (c == table[i].letter)
                good = parse_number(optarg, table[i].smallest, table[i].largest, table[i].number);
    }
    if (!good || optind != argc || options.dead > options.replicas) {
        fprintf(stderr, "usage: %s [options]\n", argv[0]);
        for (size_t i = 0; i < count; i++)
            fprintf(stderr, "  -%c N   %s (%zu to %zu; default %zu)\n", table[i].letter, table[i].what,
                    table[i].smallest, table[i].largest, table[i].usually);
        return 2;
    }
    check(routine_run(compare_runs, &options, NULL), "the run");
    return EXIT_SUCCESS;
}
