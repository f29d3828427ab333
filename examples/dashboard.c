/* SPDX-License-Identifier: MIT
 *
 * dashboard: a status line, ten times a second, of workers that get through a queue of jobs.
 *
 *     ./dashboard                    2000 jobs; on a terminal the line is rewritten
 *     ./dashboard -n 0 -t 5000       jobs without end, for five seconds
 *     ./dashboard -n 0 -e 1000 -c 5  ... or five lines, one a second
 *
 * The routine that shows it all waits in one select: for a tick of the ticker, and for the next result. So
 * what it shows is its own, and needs no lock. The time to end is a limit around the select, and the end is
 * that of a scope: generator and workers are cancelled, and what they were about then is counted. Every job
 * that was made has been done, or cut short, or is still in the queue; the program checks that.
 *
 * The jobs sleep. Every third five hundred of them come three times as fast: the queue grows, and so does the
 * wait.
 */
#include <errno.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECENT 1024 /* results that the percentile is of */
#define BAR    20   /* characters */

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "dashboard: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

struct options {
    size_t jobs;    /* 0: without end */
    size_t rate;    /* per second */
    size_t workers; /* how many jobs are done at once */
    size_t room;    /* in the queue */
    size_t usual;   /* microseconds that a job takes, on average */
    size_t every;   /* milliseconds between two lines */
    size_t time;    /* milliseconds, 0: until all jobs are done */
    size_t lines;   /* 0: any number */
    bool rewrite;
};

/* ---- Those who work: children of one scope. ---- */

struct job {
    int64_t made;
    int64_t takes;
};

struct plant {
    const struct options *options;
    chan_t *jobs;
    chan_t *results;       /* how long each job has waited; closed when all are done */
    atomic_size_t working; /* workers that have not ended */
    atomic_size_t begun;   /* jobs */
    size_t made;
};

/* Each on its own; read when they have ended. */
struct worker {
    struct plant *plant;
    size_t done;
    size_t cut_short;
};

static int make_jobs(void *arg)
{
    struct plant *plant = arg;
    const struct options *options = plant->options;
    const int64_t period = ROUTINE_S / (int64_t)options->rate;
    int64_t next = routine_now();
    uint64_t random = 1;
    for (size_t i = 0; options->jobs == 0 || i < options->jobs; i++) {
        next += i / 500 % 3 == 2 ? period / 3 : period;
        int rc = routine_sleep_until(next);
        if (rc != 0)
            return rc;
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        const int64_t usual = (int64_t)options->usual * ROUTINE_US;
        const struct job job = {routine_now(), usual / 2 + usual * (int64_t)((random >> 32) % 1000) / 1000};
        rc = chan_send(plant->jobs, &job); /* waits while the queue is full */
        if (rc != 0)
            return rc;
        plant->made++;
    }
    return chan_close(plant->jobs);
}

static int work(void *arg)
{
    struct worker *worker = arg;
    struct plant *plant = worker->plant;
    struct job job;
    int rc;
    while ((rc = chan_recv(plant->jobs, &job)) == 0) {
        const int64_t waited = routine_now() - job.made;
        atomic_fetch_add(&plant->begun, 1);
        rc = routine_sleep(job.takes);
        if (rc != 0) {
            worker->cut_short++;
            break;
        }
        worker->done++;
        rc = chan_send(plant->results, &waited);
        if (rc != 0)
            break;
    }
    if (atomic_fetch_sub(&plant->working, 1) == 1)
        chan_close(plant->results); /* there is nobody left to send any */
    return rc == -EPIPE ? 0 : rc;
}

/* ---- What is shown. ---- */

struct board {
    const struct plant *plant;
    int64_t started;
    int64_t shown;     /* when, ... */
    size_t shown_done; /* ... and how many were done then */
    size_t lines;
    size_t done;
    int64_t waits[RECENT]; /* of the last of them */
};

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* In milliseconds; 0 if there is nothing. */
static double percentile(const struct board *board, size_t percent)
{
    int64_t waits[RECENT];
    const size_t n = board->done < RECENT ? board->done : RECENT;
    if (n == 0)
        return 0;
    memcpy(waits, board->waits, n * sizeof waits[0]);
    qsort(waits, n, sizeof waits[0], compare);
    return (double)waits[(n * percent + 99) / 100 - 1] / (double)ROUTINE_MS;
}

static void show(struct board *board, int64_t now)
{
    const struct options *options = board->plant->options;
    const int64_t elapsed = now - board->started;
    const int64_t span = now > board->shown ? now - board->shown : 1;
    const double rate = (double)(board->done - board->shown_done) / (double)span * (double)ROUTINE_S;
    const size_t in_flight = atomic_load(&board->plant->begun) - board->done;
    double part = 0;
    if (options->jobs != 0)
        part = (double)board->done / (double)options->jobs;
    else if (options->time != 0)
        part = (double)elapsed / (double)((int64_t)options->time * ROUTINE_MS);
    else if (options->lines != 0)
        part = (double)(board->lines + 1) / (double)options->lines;
    char bar[BAR + 1] = "";
    for (size_t i = 0; i < BAR; i++)
        bar[i] = (double)i + 0.5 < part * BAR ? '#' : '.';
    printf("%s%7.3f s [%s] %6zu done %7.0f/s %4zu in flight %5td queued  p99 wait %8.3f ms%s",
           options->rewrite ? "\r" : "", (double)elapsed / (double)ROUTINE_S, bar, board->done, rate,
           in_flight, chan_len(board->plant->jobs), percentile(board, 99),
           options->rewrite ? "\033[K" : "\n");
    fflush(stdout);
    board->shown = now;
    board->shown_done = board->done;
    board->lines++;
}

/* Until all jobs are done, or the time is over, or there are enough lines: which of these, in words. */
static const char *watch(struct board *board, chan_t *ticks)
{
    const struct options *options = board->plant->options;
    routine_with_timeout(options->time != 0 ? (int64_t)options->time * ROUTINE_MS : ROUTINE_NEVER);
    for (;;) {
        int64_t waited, tick;
        const int which = chan_select(CHAN_RECV(board->plant->results, &waited), CHAN_RECV(ticks, &tick));
        switch (which) {
        case 0:
            board->waits[board->done++ % RECENT] = waited;
            break;
        case CHAN_CLOSED(0):
            return "all jobs are done";
        case 1:
            show(board, routine_now());
            /* No tick comes early; but some may be left out. */
            check(tick - board->started >= (int64_t)(board->lines * options->every) * ROUTINE_MS ? 0 : -ETIME,
                  "an early tick");
            if (board->lines == options->lines)
                return "enough lines";
            break;
        case -ETIMEDOUT:
            return "the time is over";
        default:
            check(which, "waiting");
        }
    }
}

static void free_timer(void *timer)
{
    routine_timer_free(timer);
}

static void *run(void *arg)
{
    const struct options *options = arg;
    struct plant plant = {.options = options, .working = options->workers};
    struct board board = {.plant = &plant};
    struct worker *workers = calloc(options->workers, sizeof *workers);
    chan_t *ticks = chan_make(int64_t, 1);
    plant.jobs = chan_make(struct job, (ptrdiff_t)options->room);
    plant.results = chan_make(int64_t, 0);
    check(workers != NULL && ticks != NULL && plant.jobs != NULL && plant.results != NULL ? 0 : -ENOMEM,
          "begin");
    for (size_t i = 0; i < options->workers; i++)
        workers[i].plant = &plant;

    const char *why;
    {
        routine_scope(workshop);
        board.shown = board.started = routine_now();
        routine_timer_t *ticker = routine_timer_new_chan((int64_t)options->every * ROUTINE_MS,
                                                         (int64_t)options->every * ROUTINE_MS, ticks);
        check(ticker != NULL ? 0 : -ENOMEM, "the ticker");
        routine_defer(free_timer, ticker);
        check(routine_scope_go_each(&workshop, work, workers, options->workers, sizeof *workers), "workers");
        check(routine_scope_go(&workshop, make_jobs, &plant), "the generator");
        why = watch(&board, ticks);
    } /* whoever is at work is cancelled here, and waited for */

    const int64_t elapsed = routine_now() - board.started;
    size_t done = 0, cut_short = 0, queued = 0;
    for (size_t i = 0; i < options->workers; i++) {
        done += workers[i].done;
        cut_short += workers[i].cut_short;
    }
    struct job job;
    while (chan_try_recv(plant.jobs, &job) == 0)
        queued++;
    printf("%s%s, after %.3f s and %zu lines\n", options->rewrite && board.lines > 0 ? "\n" : "", why,
           (double)elapsed / (double)ROUTINE_S, board.lines);
    printf("jobs made: %zu; done: %zu, cut short: %zu, still queued: %zu; %.0f per second\n", plant.made,
           done, cut_short, queued, (double)done / (double)elapsed * (double)ROUTINE_S);
    printf("wait: p50 %.3f ms, p99 %.3f ms\n", percentile(&board, 50), percentile(&board, 99));
    /* Who was cancelled with a result in hand has done the job, but could not tell. */
    const bool right = plant.made == done + cut_short + queued && plant.begun == done + cut_short &&
                       board.done <= done && done - board.done <= options->workers;
    check(right ? 0 : -EPROTO, "the sums");
    chan_unref(plant.results);
    chan_unref(plant.jobs);
    chan_unref(ticks);
    free(workers);
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
    struct options options = {.jobs = 2000, .rate = 2000, .workers = 16, .room = 200, .usual = 5000};
    options.every = 100;
    options.rewrite = isatty(STDOUT_FILENO) != 0;
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "n:r:w:q:m:e:t:c:T")) != -1;)
        good = (c == 'n' && parse_number(optarg, 0, 1000000000, &options.jobs)) ||
               (c == 'r' && parse_number(optarg, 1, 1000000, &options.rate)) ||
               (c == 'w' && parse_number(optarg, 1, 100000, &options.workers)) ||
               (c == 'q' && parse_number(optarg, 0, 1000000, &options.room)) ||
               (c == 'm' && parse_number(optarg, 0, 1000000000, &options.usual)) ||
               (c == 'e' && parse_number(optarg, 1, 3600000, &options.every)) ||
               (c == 't' && parse_number(optarg, 0, 1000000000, &options.time)) ||
               (c == 'c' && parse_number(optarg, 0, 1000000000, &options.lines)) ||
               (c == 'T' && (options.rewrite = true));
    if (!good || optind != argc || (options.jobs == 0 && options.time == 0 && options.lines == 0)) {
        fprintf(stderr,
                "usage: %s [options]\n"
                "  -n N   jobs, 0 to 1000000000 (default 2000); 0: without end, needs -t or -c\n"
                "  -r N   made per second, 1 to 1000000 (default 2000)\n"
                "  -w N   workers, 1 to 100000 (default 16)\n"
                "  -q N   jobs that have room in the queue, 0 to 1000000 (default 200)\n"
                "  -m US  microseconds that a job takes, on average, 0 to 1000000000 (default 5000)\n"
                "  -e MS  a line every so many milliseconds, 1 to 3600000 (default 100)\n"
                "  -t MS  end after so many milliseconds, 1 to 1000000000 (default 0: when all is done)\n"
                "  -c N   end after so many lines, 1 to 1000000000 (default 0: any number)\n"
                "  -T     rewrite the line, even if this is no terminal\n",
                argv[0]);
        return 2;
    }
    check(routine_run(run, &options, NULL), "the run");
    return EXIT_SUCCESS;
}
