/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_poll(): against poll(2) where that does not wait, for every kind of descriptor and set of
 * events; and where it waits: whatever comes, its own time, limits, cancellations, descriptors that stand in
 * it several times, large sets, several polls of one descriptor, polls beside reads.
 *
 * ctest: workers
 */
#include "io_support.h"

static const short all_events[] = {0,
                                   POLLIN,
                                   POLLOUT,
                                   POLLPRI,
                                   POLLRDNORM,
                                   POLLRDHUP,
                                   POLLIN | POLLOUT,
                                   POLLIN | POLLRDHUP,
                                   POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDBAND |
                                       POLLRDHUP};

/* ---- without a wait ---- */

struct trial {
    struct pollfd fds[40];
    unsigned long count;
    int ms;
};

static ssize_t poll_trial(void *arg)
{
    struct trial *t = arg;
    return routine_poll(t->fds, t->count, t->ms);
}

/* Says what poll(2) says, with no time and, if there is something to say, with some. */
static void compare(routine_runtime_t *runtime, const struct pollfd *fds, unsigned long count,
                    const char *what)
{
    for (int variant = 0; variant < 4; variant++) {
        struct pollfd plain[40];
        struct trial t = {.count = count, .ms = variant & 1 ? -1 : 0};
        struct job job;
        memcpy(plain, fds, count * sizeof *plain);
        memcpy(t.fds, fds, count * sizeof *plain);
        const int expected = (int)negative(poll(plain, count, 0));
        if (t.ms < 0 && expected == 0)
            continue;
        job_start(&job, variant & 2 ? NULL : runtime, poll_trial, &t, PATIENCE);
        const ssize_t rc = job_end(&job);
        if (rc != expected)
            support_fail(__FILE__, __LINE__, "%s, events %x: %zd, not %d", what, fds[0].events, rc, expected);
        for (unsigned long i = 0; i < count; i++)
            if (t.fds[i].revents != plain[i].revents || t.fds[i].fd != fds[i].fd ||
                t.fds[i].events != fds[i].events)
                support_fail(__FILE__, __LINE__, "%s, events %x: %x, not %x", what, fds[i].events,
                             t.fds[i].revents, plain[i].revents);
    }
}

TEST(as_poll_says)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (size_t k = 0; k < COUNT_OF(kinds); k++)
        for (int moment = 0; moment < 5; moment++) {
            int fd[2];
            watch("poll", kinds[k].name, NULL);
            if (!kinds[k].open(fd))
                continue;
            if (moment == 1 && (kinds[k].flags & WAITS)) {
                put(&kinds[k], fd[1], "12345678", 8);
                await_event(fd[0], POLLIN);
            }
            if (moment == 2 && (kinds[k].flags & FILLS))
                fill(&kinds[k], fd[1]);
            if (moment >= 3 && !(kinds[k].flags & NUMBER)) {
                const int goes = moment - 3;
                close(fd[goes]);
                if (kinds[k].flags & TCP)
                    await_event(fd[1 - goes], POLLIN);
                fd[goes] = fd[1 - goes];
            }
            for (size_t e = 0; e < COUNT_OF(all_events); e++)
                for (int end = 0; end < 2; end++)
                    if (!(kinds[k].flags & LAZY) || moment != 2) /* not for long */
                        compare(runtime, &(struct pollfd){fd[end], all_events[e], 77}, 1, kinds[k].name);
            routine_fd_forget(fd[0]);
            routine_fd_forget(fd[1]);
            close(fd[0]);
            if (fd[1] != fd[0])
                close(fd[1]);
        }
    support_runtime_end(runtime);
}

/* Sets of all of them, with holes and with numbers that nobody has. */
TEST(sets_of_all_kinds)
{
    routine_runtime_t *runtime = support_runtime(0);
    uint64_t random = 93;
    for (int round = 0; round < 60; round++) {
        int fd[COUNT_OF(kinds)][2];
        struct pollfd fds[40];
        unsigned long n = 0;
        for (size_t k = 0; k < COUNT_OF(kinds); k++)
            if (!kinds[k].open(fd[k]))
                fd[k][0] = fd[k][1] = -1;
            else if ((kinds[k].flags & WAITS) && support_random(&random) % 4 == 0)
                put(&kinds[k], fd[k][1], "12345678", 8);
        for (; n < support_random(&random) % 40; n++) {
            const size_t k = support_random(&random) % COUNT_OF(kinds);
            fds[n] = (struct pollfd){fd[k][support_random(&random) % 2],
                                     all_events[support_random(&random) % COUNT_OF(all_events)], 77};
            if (support_random(&random) % 8 == 0)
                fds[n].fd = support_random(&random) % 2 ? -1 - (int)n : 9000 + (int)n;
            if (fds[n].fd == fd[9][0] || fds[n].fd == fd[9][1])
                fds[n].events = 0; /* a pty passes things on in its own time */
        }
        compare(runtime, fds, n, "a set");
        for (size_t k = 0; k < COUNT_OF(kinds); k++)
            for (int end = 0; end < 2 && fd[k][end] >= 0; end++)
                CHECK_EQ(routine_close(fd[k][end]), 0);
    }
    support_runtime_end(runtime);
}

static void *refuse(void *arg)
{
    struct pollfd p = {0, POLLIN, 0};
    struct pollfd *volatile nowhere = NULL;
    (void)arg;
    if (!SUPPORT_ASAN && !SUPPORT_TSAN)                     /* they believe the number */
        CHECK_EQ(routine_poll(&p, ULONG_MAX, -1), -EINVAL); /* more than there can be */
    const int rc = routine_poll(nowhere, 1, 0);
    CHECK(rc == -EFAULT || rc == -EINVAL);
    CHECK_EQ(routine_poll(nowhere, 0, 0), 0);
    CHECK_EQ(routine_poll(nowhere, 0, 1), 0);
    return NULL;
}

TEST(what_is_no_set)
{
    if (SUPPORT_TSAN) /* it reads the set before poll(2) can refuse it */
        return;
    refuse(NULL);
    support_in_routine(refuse, NULL);
}

/* ---- its own time ---- */

static void *keep_time(void *arg)
{
    int fd[2];
    (void)arg;
    open_unix_stream(fd);
    static const int times[] = {0, 1, 2, 5, 20};
    for (size_t i = 0; i < COUNT_OF(times) * 4; i++) {
        struct pollfd p[3] = {{fd[0], POLLIN, 77}, {-1, POLLIN, 77}, {fd[1], POLLIN, 77}};
        const int ms = times[i % COUNT_OF(times)];
        const unsigned long n = i / COUNT_OF(times);
        const int64_t before = routine_now();
        CHECK_EQ(routine_poll(p, n, ms), 0);
        CHECK(routine_now() - before >= ms * ROUTINE_MS); /* never early */
        for (unsigned long k = 0; k < n; k++)
            CHECK_EQ(p[k].revents, 0);
        CHECK_EQ(routine_check(), 0);
    }
    struct pollfd p = {fd[0], POLLIN, 77};
    { /* the limit comes first, or its own time does */
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_poll(&p, 1, 10000), -ETIMEDOUT);
        CHECK_EQ(routine_poll(&p, 1, 0), -ETIMEDOUT);
        CHECK_EQ(routine_poll(NULL, 0, -1), -ETIMEDOUT);
    }
    {
        routine_with_timeout(PATIENCE);
        CHECK_EQ(routine_poll(&p, 1, 1), 0);
        CHECK_EQ(routine_poll(NULL, 0, 1), 0);
    }
    {
        routine_with_timeout(0);
        CHECK_EQ(routine_poll(&p, 1, 0), -ETIMEDOUT);
        CHECK_EQ(routine_poll(NULL, 0, -1), -ETIMEDOUT);
    }
    CHECK_EQ(routine_close(fd[0]), 0);
    CHECK_EQ(routine_close(fd[1]), 0);
    return NULL;
}

TEST(its_own_time)
{
    keep_time(NULL);
    support_in_routine(keep_time, NULL);
    CHECK_EQ(routine_join(go(keep_time, NULL), NULL), 0);
}

/* An empty set is waited for until a cancellation. */
static void *poll_nothing(void *arg)
{
    (void)arg;
    CHECK_EQ(routine_poll(NULL, 0, -1), -ECANCELED);
    struct pollfd p = {-5, POLLIN, 77};
    CHECK_EQ(routine_poll(&p, 1, 1000), -ECANCELED);
    return NULL;
}

TEST(nothing_for_ever)
{
    const routine_t h = go(poll_nothing, NULL);
    usleep(1000);
    CHECK_EQ(routine_cancel(h), 0);
    const int rc = routine_join(h, NULL);
    CHECK(rc == 0 || rc == -ECANCELED);
}

/* ---- it waits, and is told ---- */

enum { SET = 24 };

TEST(any_of_many)
{
    routine_runtime_t *runtime = support_runtime(0);
    uint64_t random = 95;
    for (int round = 0; round < 200; round++) {
        struct trial t = {.count = SET, .ms = round % 3 == 0 ? -1 : 60000};
        const bool thread = round % 4 == 0;
        struct job job;
        int fd[SET][2];
        const size_t which = support_random(&random) % SET;
        watch("any of many", NULL, NULL);
        for (size_t i = 0; i < SET; i++) {
            static const char *const names[] = {"unix stream", "pipe", "eventfd", "udp v4"};
            const struct kind *k = kind_named(names[i % 4]);
            k->open(fd[i]);
            set_nonblocking(fd[i][0], round & 1);
            t.fds[i] = (struct pollfd){fd[i][0], POLLIN, 77};
        }
        job_start(&job, thread ? NULL : runtime, poll_trial, &t, round % 2 ? PATIENCE : ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fd[which][1], &(uint64_t){1}, 8), 8);
        CHECK_EQ(job_end(&job), 1);
        for (size_t i = 0; i < SET; i++)
            CHECK_EQ(t.fds[i].revents, i == which ? POLLIN : 0);
        for (size_t i = 0; i < SET; i++)
            for (int end = 0; end < 2; end++)
                CHECK_EQ(routine_close(fd[i][end]), 0);
    }
    support_runtime_end(runtime);
}

struct change {
    const char *name;
    short events, revents; /* what is waited for, and what is said */
    bool full;
    void (*happens)(int other);
};

static void some_data(int other)
{
    CHECK_EQ(plain_write(other, "x", 1), 1);
}

static void half_closed(int other)
{
    shutdown(other, SHUT_WR);
}

static void gone(int other)
{
    close(other);
}

static void drained(int other)
{
    drain(other, NULL, 0);
}

static void reset_by_peer(int other)
{
    close_by_reset(other);
}

static const struct change changes[] = {
    {"data", POLLIN, POLLIN, false, some_data},
    {"data, normal", POLLRDNORM, POLLRDNORM, false, some_data},
    {"half closed", POLLIN, POLLIN, false, half_closed},
    {"half closed, told", POLLRDHUP, POLLRDHUP, false, half_closed},
    {"half closed, both", POLLIN | POLLRDHUP, POLLIN | POLLRDHUP, false, half_closed},
    {"room", POLLOUT, POLLOUT, true, drained},
    {"room, data or room", POLLIN | POLLOUT, POLLOUT, true, drained},
    {"data while full", POLLIN | POLLOUT, POLLIN, true, some_data},
    {"closed", POLLIN, POLLIN, false, gone},
    {"closed, and asked for nothing", 0, 0, false, gone},
    {"reset", POLLIN, POLLIN, false, reset_by_peer},
    {"reset while full", POLLOUT, POLLOUT, true, reset_by_peer},
    {"reset, and asked for nothing", 0, 0, false, reset_by_peer},
};

/* Errors and hang-ups are told without being asked for. */
TEST(all_that_can_happen)
{
    static const char *const names[] = {"unix stream", "tcp v4"};
    routine_runtime_t *runtime = support_runtime(0);
    for (size_t i = 0; i < COUNT_OF(changes) * COUNT_OF(names) * 4; i++) {
        const struct change *c = &changes[i % COUNT_OF(changes)];
        const struct kind *k = kind_named(names[i / COUNT_OF(changes) % COUNT_OF(names)]);
        const unsigned variant = (unsigned)(i / COUNT_OF(changes) / COUNT_OF(names));
        struct trial t = {.count = 1, .ms = variant & 1 ? -1 : 60000};
        struct job job;
        int fd[2];
        const bool resets = c->happens == reset_by_peer;
        if ((k->flags & TCP) && (c->happens == gone && c->events == 0))
            continue; /* no hang-up: the other direction is open */
        if (!(k->flags & TCP) && resets)
            continue;
        if ((k->flags & TCP) && c->full && !resets)
            continue; /* not full for long */
        watch("poll", c->name, k->name);
        k->open(fd);
        if (c->full)
            fill(k, fd[0]);
        t.fds[0] = (struct pollfd){fd[0], c->events, 77};
        job_start(&job, variant & 2 ? NULL : runtime, poll_trial, &t, ROUTINE_NEVER);
        if (!job_await_waiting(&job))
            support_fail(__FILE__, __LINE__, "%s, %s: does not wait, %x", c->name, k->name, t.fds[0].revents);
        c->happens(fd[1]);
        CHECK_EQ(job_end(&job), 1);
        struct pollfd now = {fd[0], c->events, 0};
        CHECK_EQ(poll(&now, 1, 0), 1);
        const short said = t.fds[0].revents;
        if ((said & c->revents) != c->revents || (said & ~now.revents) != 0 ||
            (c->events == 0 && !(said & (POLLERR | POLLHUP))))
            support_fail(__FILE__, __LINE__, "%s, %s: %x, poll says %x", c->name, k->name, said, now.revents);
        CHECK_EQ(routine_close(fd[0]), 0);
        if (is_open(fd[1]) && c->happens != gone && !resets)
            close(fd[1]);
    }
    support_runtime_end(runtime);
}

/* What is not asked for wakes nobody for long, and is still there for the next one. */
TEST(only_what_is_asked_for)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 20; i++) {
        struct trial t = {.count = 1, .ms = -1};
        struct job job;
        int fd[2];
        char byte;
        watch("only what is asked for", NULL, NULL);
        open_unix_stream(fd);
        fill(kind_named("unix stream"), fd[0]);
        t.fds[0] = (struct pollfd){fd[0], POLLOUT, 0};
        job_start(&job, runtime, poll_trial, &t, PATIENCE);
        CHECK(job_await_waiting(&job));
        for (int k = 0; k < 3; k++)
            CHECK_EQ(plain_write(fd[1], "x", 1), 1);
        usleep(2000);
        CHECK(!atomic_load(&job.done));
        drain(fd[1], NULL, 0);
        CHECK_EQ(job_end(&job), 1);
        CHECK_EQ(t.fds[0].revents, POLLOUT);
        t.fds[0].events = POLLIN;
        job_start(&job, runtime, poll_trial, &t, PATIENCE);
        CHECK_EQ(job_end(&job), 1);
        CHECK_EQ(t.fds[0].revents, POLLIN);
        CHECK_EQ(routine_read(fd[0], &byte, 1), 1);
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
    }
    support_runtime_end(runtime);
}

/* ---- several at once ---- */

struct crowd {
    int fd;
    _Atomic int told;
    bool also_reads;
};

static void *poll_in_crowd(void *arg)
{
    struct crowd *c = arg;
    struct pollfd p[2] = {{c->fd, POLLIN, 0}, {c->fd, POLLIN | POLLPRI, 0}}; /* one twice */
    routine_with_timeout(PATIENCE);
    const int rc = routine_poll(p, 2, -1);
    CHECK(rc == 1 || rc == 2); /* poll(2) looks at one after the other: it may come between */
    CHECK_EQ(p[1].revents, POLLIN);
    CHECK_EQ(p[0].revents, rc == 2 ? POLLIN : 0);
    atomic_fetch_add(&c->told, 1);
    return NULL;
}

/* All who poll a descriptor are told of what stays there. */
TEST(all_polls_of_one_descriptor)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++)
        for (int round = 0; round < 10; round++) {
            enum { CROWD = 8 };
            struct crowd c = {.fd = -1};
            struct actor a[CROWD];
            int fd[2];
            watch("a crowd of polls", NULL, NULL);
            open_unix_stream(fd);
            c.fd = fd[0];
            for (int i = 0; i < CROWD; i++)
                a[i] = act(cast_is_thread(cast, i), poll_in_crowd, &c);
            if (round % 2)
                usleep(1000);
            CHECK_EQ(plain_write(fd[1], "x", 1), 1);
            for (int i = 0; i < CROWD; i++)
                act_end(a[i]);
            CHECK_EQ(atomic_load(&c.told), CROWD);
            CHECK_EQ(routine_close(fd[0]), 0);
            close(fd[1]);
        }
}

struct ring {
    int in, out[2];
    long rounds;
};

/* Waits for either of two, reads what is there, and sends it on to one of the others. */
static void *pass_by_poll(void *arg)
{
    struct ring *r = arg;
    struct pollfd p[1] = {{r->in, POLLIN, 0}};
    uint64_t value;
    routine_with_timeout(PATIENCE);
    for (;;) {
        const int rc = routine_poll(p, 1, -1);
        if (rc != 1) {
            CHECK_EQ(rc, 1);
            return NULL;
        }
        CHECK_EQ(routine_read(r->in, &value, 8), 8);
        const uint64_t next = value == 0 ? 0 : value - 1;
        CHECK_EQ(routine_write(r->out[value % 2], &next, 8), 8);
        if (value == 0)
            return NULL;
    }
}

/* A token goes through polls of sockets, thousands of times: no event is missed between two of them. */
TEST(no_event_is_missed_between_polls)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++) {
        int fd[2];
        struct ring r[2];
        struct actor a[2];
        uint64_t start = (uint64_t)support_scale(cast == ROUTINES ? 20000 : 4000);
        watch("a token through polls", NULL, NULL);
        open_unix_seqpacket(fd);
        for (int i = 0; i < 2; i++)
            r[i] = (struct ring){.in = fd[i], .out = {fd[i], fd[i]}};
        CHECK_EQ(plain_write(fd[0], &start, 8), 8);
        for (int i = 0; i < 2; i++)
            a[i] = act(cast_is_thread(cast, i), pass_by_poll, &r[i]);
        for (int i = 0; i < 2; i++)
            act_end(a[i]);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(routine_close(fd[i]), 0);
    }
}

/* ---- large sets ---- */

enum { LARGE = 2000 };

struct large {
    struct pollfd fds[LARGE];
    unsigned long count;
};

static ssize_t poll_large(void *arg)
{
    struct large *l = arg;
    return routine_poll(l->fds, l->count, -1);
}

/* More records than a stack would hold; nothing of them is left behind. */
TEST(a_large_set)
{
    const int count = support_slow() ? 300 : LARGE;
    routine_runtime_t *runtime = support_runtime(0);
    struct large *l = calloc(1, sizeof *l);
    int(*fd)[2] = calloc((size_t)count, sizeof *fd);
    struct job job;
    char byte;
    watch("a large set", NULL, NULL);
    if (l == NULL || fd == NULL)
        abort();
    for (int i = 0; i < count; i++) {
        open_unix_stream(fd[i]);
        l->fds[i] = (struct pollfd){fd[i][0], POLLIN, 77};
    }
    l->count = (unsigned long)count;
    for (int round = 0; round < 10; round++) {
        const int a = round * 31 % count, b = count - 1 - round;
        job_start(&job, runtime, poll_large, l, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fd[a][1], "x", 1), 1);
        CHECK_EQ(job_end(&job), 1);
        CHECK_EQ(plain_write(fd[b][1], "x", 1), 1);
        job_start(&job, runtime, poll_large, l, ROUTINE_NEVER);
        CHECK_EQ(job_end(&job), 2);
        for (int i = 0; i < count; i++)
            CHECK_EQ(l->fds[i].revents, i == a || i == b ? POLLIN : 0);
        CHECK_EQ(routine_read(fd[a][0], &byte, 1), 1);
        CHECK_EQ(routine_read(fd[b][0], &byte, 1), 1);
        job_start(&job, runtime, poll_large, l, ROUTINE_MS); /* and one that gives up */
        CHECK_EQ(job_end(&job), -ETIMEDOUT);
    }
    for (int i = 0; i < count; i++)
        for (int end = 0; end < 2; end++)
            CHECK_EQ(routine_close(fd[i][end]), 0);
    free(l);
    free(fd);
    support_runtime_end(runtime);
}

int main(void)
{
    SUPPORT_NO_CASES();
    watch_begin(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_poll_says),
        cmocka_unit_test(sets_of_all_kinds),
        cmocka_unit_test(what_is_no_set),
        cmocka_unit_test(its_own_time),
        cmocka_unit_test(nothing_for_ever),
        cmocka_unit_test(any_of_many),
        cmocka_unit_test(all_that_can_happen),
        cmocka_unit_test(only_what_is_asked_for),
        cmocka_unit_test(all_polls_of_one_descriptor),
        cmocka_unit_test(no_event_is_missed_between_polls),
        cmocka_unit_test(a_large_set),
    };
    return cmocka_run_group_tests_name("io_poll", tests, NULL, NULL);
}
