/* SPDX-License-Identifier: MIT
 *
 * What does it cost that a thread can lose its worker while it runs its user's code? Every call marks that
 * its thread is inside the library, and looks whether it is asked. Built twice: with the library as it is,
 * and with one without those marks; as a peer's program, so that the two alternate.
 *
 *     bench_marked --list | NAME WORKERS
 */
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t least_time = 500 * ROUTINE_MS;

static void *empty(void *arg)
{
    return arg;
}

static int go_join(long n)
{
    int rc = 0;
    for (long i = 0; i < n; i++)
        rc |= routine_join(go(empty, NULL), NULL);
    return rc;
}

static int buffered(long n)
{
    chan_t *ch = chan_make(long, 128);
    int rc = 0;
    for (long i = 0; i < n; i++)
        rc |= chan_send(ch, &i) | chan_recv(ch, &i);
    chan_unref(ch);
    return rc;
}

static const struct question {
    const char *name;
    int (*run)(long n);
} questions[] = {{"mark_go_join/" CONTENDER, go_join}, {"mark_send_recv/" CONTENDER, buffered}};

static void *measure(void *arg)
{
    const struct question *q = arg;
    for (long n = 1000;; n *= 2) {
        const int64_t begun = routine_now();
        if (q->run(n) != 0)
            return NULL;
        const int64_t took = routine_now() - begun;
        if (took >= least_time) {
            printf(
                "{\"name\": \"%s\", \"workers\": 1, \"value\": %.3f, \"unit\": \"ns\", \"counters\": {}}\n",
                q->name, (double)took / (double)n);
            return arg;
        }
    }
}

int main(int argc, char **argv)
{
    const char *seconds = getenv("ROUTINES_BENCH_SECONDS");
    if (seconds)
        least_time = (int64_t)(strtod(seconds, NULL) * (double)ROUTINE_S);
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        if (argc == 2 && strcmp(argv[1], "--list") == 0)
            puts(questions[i].name);
        else if (argc == 3 && strcmp(argv[1], questions[i].name) == 0) {
            void *done = NULL;
            const int rc = routine_run(measure, (void *)(uintptr_t)&questions[i], &done);
            return rc == 0 && done ? 0 : 1;
        }
    }
    return argc == 2 ? 0 : 2;
}
