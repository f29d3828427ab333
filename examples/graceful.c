/* SPDX-License-Identifier: MIT
 *
 * graceful: a small job server that stops as one should, on SIGINT and SIGTERM.
 *
 *     ./graceful                     makes up jobs until Ctrl-C
 *     (echo one 500; echo two 9000) | ./graceful -g 1000 -
 *                                    a job on each line: its name, and how many milliseconds it takes
 *
 * Signals come through a channel. At the first one nothing more is accepted, and what runs has a grace to
 * finish: a limit of time around the join of a scope. Then it is cancelled. A cancelled job may still say, in
 * a journal, how far it got: behind a shield, and for so long only. A second signal ends the program at once.
 *
 * Each job is a child of the scope `jobs`, at most so many at a time. Accepting is a child of a scope of its
 * own, so that it can be ended at any moment: while it waits for a line, or for a job to end.
 *
 * Exit status: 0 all jobs have finished; 3 some were cancelled; 128 and the number of the second signal; 2
 * wrong arguments; 1 any other error.
 */
#include <errno.h>
#include <pthread.h>
#include <routines.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS_MAX 1000000000 /* more than a week, in milliseconds */

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "graceful: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

struct line {
    char text[64];
};

/* Times in milliseconds. */
struct server {
    size_t at_once;
    size_t grace;
    size_t last_words; /* how long a cancelled job has for them */
    size_t slowness;   /* how long the journal needs for each */
    size_t count;      /* of made up jobs; 0: without end */
    size_t usual;      /* how long these take */
    chan_t *lines;     /* of struct line; NULL: make jobs up */
    chan_t *signals;   /* int */
    chan_t *no_more;   /* closed when all that will be accepted has finished */
    chan_t *journal;   /* struct line */
    routine_scope_t *jobs;
    routine_waitgroup_t unfinished;
    size_t accepted, refused, written;
    atomic_size_t begun, finished, cancelled, said;
};

/* ---- A job. ---- */

struct job {
    struct server *server;
    char name[32];
    int64_t takes;
};

static void job_ends(void *arg)
{
    check(routine_waitgroup_done(arg), "a job that ends");
}

/* A child that fails would cancel all others: so it is no failure if a job is not finished. */
static int run_job(void *arg)
{
    const struct job *job = arg;
    struct server *server = job->server;
    atomic_fetch_add(&server->begun, 1);
    routine_defer(job_ends, &server->unfinished);
    printf("begun      %s\n", job->name);
    const int64_t begun = routine_now();
    const int rc = routine_sleep(job->takes); /* the work */
    if (rc == 0) {
        printf("finished   %s\n", job->name);
        atomic_fetch_add(&server->finished, 1);
        return 0;
    }
    printf("cancelled  %s\n", job->name);
    atomic_fetch_add(&server->cancelled, 1);
    struct line words;
    snprintf(words.text, sizeof words.text, "%s: %.1f %% were done", job->name,
             100 * (double)(routine_now() - begun) / (double)(job->takes + 1));
    routine_shield(); /* without it this send would be over before it began */
    routine_with_timeout((int64_t)server->last_words * ROUTINE_MS);
    if (chan_send(server->journal, &words) == 0)
        atomic_fetch_add(&server->said, 1);
    return 0;
}

/* What the jobs say in the end; one entry after the other. */
static int keep_journal(void *arg)
{
    struct server *server = arg;
    struct line words;
    int rc;
    while ((rc = chan_recv(server->journal, &words)) == 0) {
        rc = routine_sleep((int64_t)server->slowness * ROUTINE_MS);
        if (rc != 0)
            break;
        printf("journal    %s\n", words.text);
        server->written++;
    }
    return rc == -EPIPE ? 0 : rc;
}

/* ---- Accepting jobs. ---- */

/* 0; -EPIPE: there are no more; -ECANCELED. */
static int next_job(struct server *server, struct job *job)
{
    *job = (struct job){.server = server};
    if (server->lines == NULL) {
        if (server->count != 0 && server->accepted == server->count)
            return -EPIPE;
        job->takes = (int64_t)(server->usual * (1 + server->accepted % 3) / 2) * ROUTINE_MS;
        snprintf(job->name, sizeof job->name, "job-%zu", server->accepted + 1);
        return routine_check();
    }
    for (;;) {
        struct line line;
        unsigned long ms;
        char rest;
        const int rc = chan_recv(server->lines, &line);
        if (rc != 0)
            return rc;
        if (sscanf(line.text, "%31s %10lu %c", job->name, &ms, &rest) == 2 && ms <= MS_MAX) {
            job->takes = (int64_t)ms * ROUTINE_MS;
            return 0;
        }
        printf("unreadable %s\n", line.text);
    }
}

static void close_channel(void *arg)
{
    chan_close(arg);
}

static int accept_jobs(void *arg)
{
    struct server *server = arg;
    struct job job;
    int rc;
    routine_defer(close_channel, server->no_more);
    while ((rc = next_job(server, &job)) == 0) {
        check(routine_waitgroup_add(&server->unfinished, 1), "a job");
        rc = routine_scope_go_copy(server->jobs, run_job, job); /* waits for one of the others to end */
        if (rc != 0) {
            printf("refused    %s\n", job.name);
            server->refused++;
            return rc;
        }
        server->accepted++;
    }
    return rc == -EPIPE ? routine_waitgroup_wait(&server->unfinished) : rc;
}

/* ---- The server. ---- */

static int end_at_once(void *arg)
{
    const struct server *server = arg;
    int signo;
    if (chan_recv(server->signals, &signo) != 0)
        return 0; /* cancelled: there was no second one */
    printf("signal %d: at once\n", signo);
    fflush(stdout);
    _Exit(128 + signo);
}

/* Waits for the jobs, until all have ended, in one way or the other. */
static void finish_jobs(struct server *server, routine_scope_t *jobs, int signo)
{
    int waited, error = 0;
    routine_scope(second);
    if (signo != 0) {
        printf("signal %d: no more jobs; those that run have %zu ms\n", signo, server->grace);
        check(routine_scope_go(&second, end_at_once, server), "waiting for a second signal");
    }
    {
        routine_with_timeout(signo != 0 ? (int64_t)server->grace * ROUTINE_MS : ROUTINE_NEVER);
        waited = routine_scope_join(jobs, &error);
    }
    if (waited == -ETIMEDOUT) {
        printf("the grace is over\n");
        routine_scope_cancel(jobs);
        waited = routine_scope_join(jobs, &error);
    }
    check(waited, "waiting for the jobs");
    check(error, error == -ENOTRECOVERABLE ? routine_panic_message() : "a job"); /* none of ours fails */
}

static void *serve(void *arg)
{
    struct server *server = arg;
    int signo;
    routine_scope(writer);
    check(routine_scope_go(&writer, keep_journal, server), "the journal");
    {
        routine_scope_limited(jobs, server->at_once);
        server->jobs = &jobs;
        {
            routine_scope(accepting);
            check(routine_scope_go(&accepting, accept_jobs, server), "accepting");
            if (chan_select(CHAN_RECV(server->signals, &signo), CHAN_RECV(server->no_more, NULL)) != 0)
                signo = 0;
        } /* from here on nothing is accepted */
        finish_jobs(server, &jobs, signo);
    }
    chan_close(server->journal);
    {
        routine_with_timeout((int64_t)server->last_words * ROUTINE_MS);
        const int rc = routine_scope_join(&writer, NULL);
        check(rc == -ETIMEDOUT ? 0 : rc, "the journal");
    } /* if it is not done by now it never will be: the end of its scope cancels it */
    return NULL;
}

/* ---- Lines, read by a plain thread, since read() blocks one. It ends with the process. ---- */

static void *read_lines(void *arg)
{
    chan_t *lines = arg;
    struct line line = {""};
    size_t length = 0;
    int rc = 0;
    while (rc == 0) {
        char c;
        const ssize_t n = read(STDIN_FILENO, &c, 1); /* a slow way, but there are not so many lines */
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (c != '\n' && length < sizeof line.text - 1) /* longer ones are cut off */
            line.text[length++] = c;
        if (c != '\n')
            continue;
        rc = chan_send(lines, &line); /* -EPIPE: nothing is accepted any more */
        line = (struct line){""};
        length = 0;
    }
    if (rc == 0 && length > 0) /* a last line that has no end */
        rc = chan_send(lines, &line);
    chan_close(lines);
    chan_unref(lines);
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
    static struct server server = {.at_once = 4, .grace = 2000, .last_words = 500, .usual = 400};
    pthread_t thread;
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "j:g:w:s:n:m:")) != -1;)
        good = (c == 'j' && parse_number(optarg, 1, 100000, &server.at_once)) ||
               (c == 'g' && parse_number(optarg, 0, MS_MAX, &server.grace)) ||
               (c == 'w' && parse_number(optarg, 0, MS_MAX, &server.last_words)) ||
               (c == 's' && parse_number(optarg, 0, MS_MAX, &server.slowness)) ||
               (c == 'n' && parse_number(optarg, 0, MS_MAX, &server.count)) ||
               (c == 'm' && parse_number(optarg, 0, MS_MAX, &server.usual));
    const bool read_jobs = optind == argc - 1 && strcmp(argv[optind], "-") == 0;
    if (!good || (optind != argc && !read_jobs)) {
        fprintf(stderr,
                "usage: %s [options] [-]\n"
                "  -      jobs are lines of the standard input, NAME MILLISECONDS; else they are made up:\n"
                "  -n N   so many (default 0: without end)\n"
                "  -m MS  which take so long, on average (default 400)\n"
                "  -j N   jobs at once (default 4)\n"
                "  -g MS  grace that jobs have after a signal (default 2000)\n"
                "  -w MS  time that they have then for their last words (default 500)\n"
                "  -s MS  time that the journal takes to write each of these (default 0)\n",
                argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.unfinished = (routine_waitgroup_t)ROUTINE_WAITGROUP_INITIALIZER;
    server.signals = chan_make(int, 4);
    server.no_more = chan_new(0, 0);
    server.journal = chan_make(struct line, 0);
    server.lines = read_jobs ? chan_make(struct line, 0) : NULL;
    check(routine_signal_notify(SIGINT, server.signals), "SIGINT");
    check(routine_signal_notify(SIGTERM, server.signals), "SIGTERM");
    if (read_jobs) {
        check(-pthread_create(&thread, NULL, read_lines, chan_ref(server.lines)), "a thread");
        check(-pthread_detach(thread), "a thread");
    }
    printf("ready: process %d\n", (int)getpid());
    check(routine_run(serve, &server, NULL), "the server");
    chan_close(server.lines);

    const size_t lost = server.accepted - server.finished;
    printf("accepted: %zu; finished: %zu, cancelled: %zu, never begun: %zu; refused: %zu\n", server.accepted,
           server.finished, server.cancelled, server.accepted - server.begun, server.refused);
    printf("last words: %zu in the journal, %zu lost\n", server.written, server.cancelled - server.written);
    const bool right = server.begun == server.finished + server.cancelled &&
                       server.begun <= server.accepted && server.written <= server.said;
    check(right ? 0 : -EPROTO, "the sums");
    chan_unref(server.lines);
    chan_unref(server.journal);
    chan_unref(server.no_more);
    chan_unref(server.signals);
    return lost == 0 ? EXIT_SUCCESS : 3;
}
