/* SPDX-License-Identifier: MIT
 *
 * The hot paths, to have their instructions counted (scripts/bench --check, bench/check.py): each is done a
 * given number of times, on one worker, and nothing is measured here. Two runs of different lengths differ by
 * what the path itself executes, for all else is the same in both.
 *
 *     bench_hot --compiler     what compiled this, and so the library: "x86_64 gcc 12"
 *     bench_hot --list         the names, and how often to do each at least
 *     bench_hot NAME TIMES     does it so many times; exits with 1 if that failed
 *
 * Nothing in here depends on time or chance, but for the choice of a select: under Valgrind everything takes
 * fifty times as long, and longer if the machine is busy, so what the library does now and then would be done
 * the more often, the slower it goes. Hence the worker's clock goes on by a microsecond with each look at it,
 * and the runtime's monitor, who would take the worker from a routine that keeps it for ten milliseconds, has
 * patience.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <routines.h>

#include "sched/monitor.h"

/* While this thread's path is counted: its time; 0: it is that of others. */
static _Thread_local int64_t counted;

/* In place of the C library's, for the library too, since that is linked statically. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (counted == 0 || clock != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, clock, now);
    counted += ROUTINE_US;
    now->tv_sec = (time_t)(counted / ROUTINE_S);
    now->tv_nsec = (long)(counted % ROUTINE_S);
    return 0;
}

/* Each of these does something n times and returns 0. */

static void *empty(void *arg)
{
    return arg;
}

/* The join finds it unstarted and runs it in place. */
static int go_join(uint64_t n)
{
    int rc = 0;
    for (uint64_t i = 0; i < n; i++)
        rc |= routine_join(go(empty, NULL), NULL);
    return rc;
}

/* It has started, and ended, on a stack of its own before it is joined. */
static int go_started(uint64_t n)
{
    int rc = 0;
    for (uint64_t i = 0; i < n; i++) {
        const routine_t h = go(empty, NULL);
        routine_yield();
        rc |= routine_join(h, NULL);
    }
    return rc;
}

static int thousand(uint64_t n)
{
    enum { THOUSAND = 1000 };
    routine_t h[THOUSAND];
    int rc = 0;
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < THOUSAND; j++)
            h[j] = go(empty, NULL);
        for (int j = 0; j < THOUSAND; j++)
            rc |= routine_join(h[j], NULL);
    }
    return rc;
}

static void *fib_of(void *arg)
{
    const intptr_t n = (intptr_t)arg;
    if (n < 2)
        return arg;
    const routine_t h = go(fib_of, (void *)(n - 1));
    const intptr_t b = (intptr_t)fib_of((void *)(n - 2));
    void *a;
    return routine_join(h, &a) == 0 ? (void *)((intptr_t)a + b) : NULL;
}

/* A tree of 232 routines, eleven deep. */
static int fib(uint64_t n)
{
    int rc = 0;
    for (uint64_t i = 0; i < n; i++)
        rc |= (intptr_t)fib_of((void *)12) != 144;
    return rc;
}

static void *yield_often(void *arg)
{
    for (uint64_t i = *(const uint64_t *)arg; i > 0; i--)
        routine_yield();
    return NULL;
}

/* Two of them: both yield n times. */
static int yield(uint64_t n)
{
    const routine_t h = go(yield_often, &n);
    yield_often(&n);
    return routine_join(h, NULL);
}

/* Sends into a channel with room, and receives it again: neither waits. */
static int send_recv(uint64_t n)
{
    chan_t *ch = chan_make(uint64_t, 128);
    int rc = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t got;
        rc |= chan_send(ch, &i) | chan_recv(ch, &got);
    }
    chan_unref(ch);
    return rc;
}

typedef struct {
    chan_t *one, *other;
    uint64_t n;
} pair_t;

static void *send_many(void *arg)
{
    const pair_t *p = arg;
    int rc = 0;
    for (uint64_t i = 0; i < p->n; i++)
        rc |= chan_send(p->one, &i);
    return (void *)(intptr_t)rc;
}

/* A producer and a consumer, who wait for each other whenever it is full or empty. */
static int buffered(uint64_t n)
{
    const pair_t p = {chan_make(uint64_t, 128), NULL, n};
    const routine_t h = go(send_many, (void *)(uintptr_t)&p);
    void *failed;
    int rc = 0;
    for (uint64_t i = 0, got = 0; i < n; i++)
        rc |= chan_recv(p.one, &got) | (got != i);
    rc |= routine_join(h, &failed);
    chan_unref(p.one);
    return rc | (int)(intptr_t)failed;
}

static void *return_balls(void *arg)
{
    const pair_t *p = arg;
    int rc = 0;
    for (uint64_t i = 0, ball; i < p->n; i++)
        rc |= chan_recv(p->one, &ball) | chan_send(p->other, &ball);
    return (void *)(intptr_t)rc;
}

/* Round trips over two rendezvous channels. */
static int ping_pong(uint64_t n)
{
    const pair_t p = {chan_make(uint64_t, 0), chan_make(uint64_t, 0), n};
    const routine_t h = go(return_balls, (void *)(uintptr_t)&p);
    void *failed;
    int rc = 0;
    for (uint64_t i = 0, ball = 0; i < n; i++)
        rc |= chan_send(p.one, &i) | chan_recv(p.other, &ball) | (ball != i);
    rc |= routine_join(h, &failed);
    chan_unref(p.one);
    chan_unref(p.other);
    return rc | (int)(intptr_t)failed;
}

enum { FOUR = 4 };

/* Four channels that are all ready: chooses one, and makes that ready again. */
static int select_ready(uint64_t n)
{
    chan_t *ch[FOUR];
    uint64_t a, b, c, d;
    int rc = 0;
    for (uint64_t i = 0; i < FOUR; i++) {
        ch[i] = chan_make(uint64_t, 1);
        rc |= chan_send(ch[i], &i);
    }
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        const int chosen = chan_select(CHAN_RECV(ch[0], &a), CHAN_RECV(ch[1], &b), CHAN_RECV(ch[2], &c),
                                       CHAN_RECV(ch[3], &d));
        rc = chosen >= 0 ? chan_send(ch[chosen], &i) : chosen;
    }
    for (int i = 0; i < FOUR; i++)
        chan_unref(ch[i]);
    return rc;
}

/* Four rendezvous channels, each with a producer: the select mostly has to wait. n messages from each. */
static int select_wait(uint64_t n)
{
    pair_t p[FOUR];
    routine_t h[FOUR];
    uint64_t a, b, c, d;
    int rc = 0;
    for (int i = 0; i < FOUR; i++) {
        p[i] = (pair_t){chan_make(uint64_t, 0), NULL, n};
        h[i] = go(send_many, &p[i]);
    }
    for (uint64_t i = 0; i < FOUR * n; i++) {
        const int chosen = chan_select(CHAN_RECV(p[0].one, &a), CHAN_RECV(p[1].one, &b),
                                       CHAN_RECV(p[2].one, &c), CHAN_RECV(p[3].one, &d));
        rc |= chosen >= 0 ? 0 : chosen;
    }
    for (int i = 0; i < FOUR; i++) {
        void *failed;
        rc |= routine_join(h[i], &failed) | (int)(intptr_t)failed;
        chan_unref(p[i].one);
    }
    return rc;
}

static int mutex(uint64_t n)
{
    routine_mutex_t lock = ROUTINE_MUTEX_INITIALIZER;
    int rc = 0;
    for (uint64_t i = 0; i < n; i++)
        rc |= routine_mutex_lock(&lock) | routine_mutex_unlock(&lock);
    return rc;
}

static void never(void *arg)
{
    (void)arg;
    abort();
}

/* Set and stopped again. */
static int timer(uint64_t n)
{
    routine_timer_t *t = routine_timer_new(3600 * ROUTINE_S, 0, never, NULL);
    int rc = t == NULL;
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        rc = !routine_timer_stop(t);
        rc |= routine_timer_reset(t, 3600 * ROUTINE_S);
    }
    routine_timer_free(t);
    return rc;
}

static int limit(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        routine_with_timeout(3600 * ROUTINE_S);
    }
    return 0;
}

static void add_one(void *arg)
{
    ++*(uint64_t *)arg;
}

static int defer(uint64_t n)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        routine_defer(add_one, &count);
    }
    return count != n;
}

static int child(void *arg)
{
    (void)arg;
    return 0;
}

/* A scope with ten children. */
static int scope(uint64_t n)
{
    int rc = 0;
    for (uint64_t i = 0; i < n; i++) {
        int error = -EINVAL;
        routine_scope(s);
        for (int j = 0; j < 10; j++)
            rc |= routine_scope_go(&s, child, NULL);
        rc |= routine_scope_join(&s, &error) | error;
    }
    return rc;
}

/* What the counts are divided by is how many operations one of the n is. `least` is how often it is to be
 * done before free lists, warm stacks and the like are as they stay. */
static const struct path {
    const char *name;
    int (*run)(uint64_t n);
    unsigned least, operations;
} paths[] = {
    {"go_join", go_join, 2000, 1},
    {"go_started", go_started, 2000, 1},
    {"thousand", thousand, 4, 1000},
    {"fib", fib, 20, 232},
    {"yield", yield, 2000, 2},
    {"send_recv", send_recv, 2000, 1},
    {"buffered", buffered, 2560, 1},
    {"ping_pong", ping_pong, 2000, 1},
    {"select_ready", select_ready, 2000, 1},
    {"select_wait", select_wait, 1000, FOUR},
    {"mutex", mutex, 2000, 1},
    {"timer", timer, 2000, 1},
    {"limit", limit, 2000, 1},
    {"defer", defer, 2000, 1},
    {"scope", scope, 200, 10},
};

typedef struct {
    const struct path *path;
    uint64_t times;
} job_t;

static void *run(void *arg)
{
    const job_t *job = arg;
    counted = routine_now(); /* this routine stays on this thread: there is one worker, and it keeps it */
    const int failed = job->path->run(job->times);
    counted = 0;
    return (void *)(intptr_t)failed;
}

static void print_compiler(void)
{
#if defined __x86_64__
    const char *cpu = "x86_64";
#elif defined __aarch64__
    const char *cpu = "aarch64";
#elif defined __riscv
    const char *cpu = "riscv64";
#else
    const char *cpu = "other";
#endif
#if defined __clang__
    printf("%s clang %d\n", cpu, __clang_major__);
#elif defined __GNUC__
    printf("%s gcc %d\n", cpu, __GNUC__);
#else
    printf("%s other\n", cpu);
#endif
}

int main(int argc, char **argv)
{
    atomic_store(&rt_monitor_pace, ROUTINE_S); /* its millisecond */
    if (argc == 2 && strcmp(argv[1], "--compiler") == 0) {
        print_compiler();
        return 0;
    }
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (argc == 2 && strcmp(argv[1], "--list") == 0)
            printf("%s %u %u\n", paths[i].name, paths[i].least, paths[i].operations);
        else if (argc == 3 && strcmp(argv[1], paths[i].name) == 0) {
            job_t job = {&paths[i], strtoull(argv[2], NULL, 10)};
            const routine_runtime_config_t config = {.workers = 1};
            routine_runtime_t *runtime;
            void *failed = NULL;
            int rc = routine_runtime_new(&runtime, &config);
            if (rc == 0) {
                rc = routine_runtime_run(runtime, run, &job, &failed);
                rc |= routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER);
                rc |= routine_runtime_free(runtime);
            }
            if (rc != 0 || failed != NULL)
                fprintf(stderr, "bench_hot: %s failed\n", paths[i].name);
            return rc != 0 || failed != NULL;
        }
    }
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return 0;
    fputs("usage: bench_hot --compiler | --list | NAME TIMES\n", stderr);
    return 2;
}
