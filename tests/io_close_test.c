/* SPDX-License-Identifier: MIT
 *
 * Tests of the end of descriptors: routine_close() wakes those who wait, with -ECANCELED, whoever calls it;
 * and whoever gets the same number next has nothing to do with them. What was closed behind the library's
 * back, forgotten, duplicated, or opened and closed at random by many.
 *
 * ctest: workers
 */
#include "io_support.h"

/* ---- waiters ---- */

enum { READING, RECEIVING, POLLING, WRITING, POLLING_OUT, POLLING_TWO, ACCEPTING, WAYS };

struct waiter {
    int fd, other; /* that it waits for; and of a poll a second one, for which nothing comes */
    int way;
    char byte;
    short revents;
};

static ssize_t wait_way(void *arg)
{
    struct waiter *w = arg;
    static const char bytes[1000000];
    struct pollfd p[2] = {{w->fd, w->way == POLLING_OUT ? POLLOUT : POLLIN, 0}, {w->other, POLLIN, 0}};
    ssize_t rc;
    switch (w->way) {
    case READING:
        return routine_read(w->fd, &w->byte, 1);
    case RECEIVING:
        return routine_recvfrom(w->fd, &w->byte, 1, 0, NULL, NULL);
    case WRITING:
        return routine_write(w->fd, bytes, sizeof bytes);
    case ACCEPTING:
        return routine_accept(w->fd, NULL, NULL);
    default:
        rc = routine_poll(p, w->way == POLLING_TWO ? 2 : 1, -1);
        w->revents = p[0].revents;
        return rc;
    }
}

static int open_way(int way, int fd[2])
{
    union any_address a;
    socklen_t size;
    if (way == ACCEPTING) {
        fd[0] = FD(listener(AF_INET, &a, &size, 5));
        fd[1] = -1;
        return fd[0];
    }
    open_unix_stream(fd);
    if (way == WRITING || way == POLLING_OUT)
        fill(kind_named("unix stream"), fd[0]);
    return fd[0];
}

/* Who closes. */
enum { BY_THREAD, BY_ROUTINE, BY_ITS_OWN, BY_OTHER_RUNTIME, CLOSERS };

struct closing {
    int fd;
    bool forgets;
    int rc;
};

static void *close_one(void *arg)
{
    struct closing *c = arg;
    c->rc = c->forgets ? routine_fd_forget(c->fd) : routine_close(c->fd);
    return NULL;
}

static int close_by(int who, routine_runtime_t *own, routine_runtime_t *other, int fd, bool forgets)
{
    struct closing c = {fd, forgets, 1};
    switch (who) {
    case BY_THREAD:
        act_end(act(true, close_one, &c));
        break;
    case BY_ROUTINE: /* of the default runtime */
        support_in_routine(close_one, &c);
        break;
    default:
        act_end(act_on(who == BY_ITS_OWN ? own : other, close_one, &c));
    }
    return c.rc;
}

static void check_closed(const struct waiter *w, ssize_t rc)
{
    if (rc != -ECANCELED && !(w->way == WRITING && rc > 0 && rc < 1000000))
        support_fail(__FILE__, __LINE__, "way %d: %zd (%d)", w->way, rc, w->revents);
}

TEST(close_wakes_who_waits)
{
    enum { AT_ONCE = 3 };
    routine_runtime_t *runtime = support_runtime(0), *other = support_runtime(1);
    for (int i = 0; i < WAYS * CLOSERS * 8; i++) {
        const int way = i % WAYS, who = i / WAYS % CLOSERS, count = 1 + i % AT_ONCE;
        const bool forgets = i / (WAYS * CLOSERS) & 1, nonblocking = i / (WAYS * CLOSERS) & 2,
                   limited = i / (WAYS * CLOSERS) & 4;
        struct waiter w[AT_ONCE];
        struct job job[AT_ONCE];
        int fd[2], event = FD(eventfd(0, EFD_CLOEXEC));
        routine_stats_t stats;
        watch("close wakes", forgets ? "forget" : "close", NULL);
        open_way(way, fd);
        set_nonblocking(fd[0], nonblocking);
        for (int k = 0; k < count; k++) {
            w[k] = (struct waiter){.fd = fd[0], .other = event, .way = way};
            job_start(&job[k], runtime, wait_way, &w[k], limited ? PATIENCE : ROUTINE_NEVER);
        }
        do {
            CHECK_EQ(routine_stats(runtime, &stats), 0);
            routine_yield();
        } while (stats.parked != (uint64_t)count);
        CHECK_EQ(close_by(who, runtime, other, fd[0], forgets), 0);
        for (int k = 0; k < count; k++)
            check_closed(&w[k], job_end(&job[k]));
        CHECK_EQ(is_open(fd[0]), forgets);
        if (forgets) { /* nothing has happened to the descriptor itself */
            if (way == READING) {
                CHECK_EQ(plain_write(fd[1], "y", 1), 1);
                job_start(&job[0], runtime, wait_way, &w[0], PATIENCE);
                CHECK_EQ(job_end(&job[0]), 1);
                CHECK_EQ(w[0].byte, 'y');
            }
            CHECK_EQ(close_by(who, runtime, other, fd[0], false), 0);
        }
        if (fd[1] >= 0)
            close(fd[1]);
        CHECK_EQ(routine_close(event), 0);
    }
    support_runtime_end(other);
    support_runtime_end(runtime);
}

/* A reader and a writer of the same descriptor; the other descriptor of a poll works as ever. */
TEST(close_wakes_both_sides)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int round = 0; round < 50; round++) {
        struct waiter w[2];
        struct job job[2];
        routine_stats_t stats;
        int fd[2];
        open_way(WRITING, fd);
        for (int k = 0; k < 2; k++) {
            w[k] = (struct waiter){.fd = fd[0], .way = k ? WRITING : READING};
            job_start(&job[k], runtime, wait_way, &w[k], round % 2 ? PATIENCE : ROUTINE_NEVER);
        }
        do {
            CHECK_EQ(routine_stats(runtime, &stats), 0);
            routine_yield();
        } while (stats.parked != 2);
        CHECK_EQ(routine_close(fd[0]), 0);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(job_end(&job[k]), -ECANCELED);
        close(fd[1]);
    }
    support_runtime_end(runtime);
}

/* A write of which a part has gone returns that part. */
TEST(close_during_a_write)
{
    routine_runtime_t *runtime = support_runtime(0);
    static const char *const names[] = {"unix stream", "tcp v4", "pipe"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct kind *k = kind_named(names[i]);
        struct waiter w = {.way = WRITING};
        struct job job;
        int fd[2];
        size_t got = 0;
        k->open(fd);
        w.fd = fd[1];
        job_start(&job, runtime, wait_way, &w, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(routine_close(fd[1]), 0);
        const ssize_t rc = job_end(&job);
        CHECK(rc > 0 && rc < 1000000);
        for (char bytes[1000];;) {
            const ssize_t n = negative(read(fd[0], bytes, sizeof bytes));
            if (n <= 0) {
                CHECK_EQ(n, 0);
                break;
            }
            got += (size_t)n;
        }
        CHECK_EQ(got, rc);
        close(fd[0]);
    }
    support_runtime_end(runtime);
}

/* The other end goes while somebody waits: that is the end of the file for who reads, and an error for who
 * writes; of pipes epoll tells it by EPOLLHUP and EPOLLERR alone. */
TEST(the_other_end_goes)
{
    static const int ways[] = {READING, RECEIVING, POLLING, WRITING, POLLING_OUT};
    routine_runtime_t *runtime = support_runtime(0);
    for (size_t i = 0; i < COUNT_OF(kinds) * COUNT_OF(ways) * 4; i++) {
        const struct kind *k = &kinds[i / 4 % COUNT_OF(kinds)];
        const int way = ways[i / 4 / COUNT_OF(kinds)];
        const bool writes = way == WRITING || way == POLLING_OUT, thread = i & 1, nonblocking = i & 2;
        struct waiter w = {.way = way};
        struct job job;
        int fd[2];
        char byte;
        if (!(k->flags & ENDS) || (way == RECEIVING && !(k->flags & SOCKET)) ||
            (writes && (!(k->flags & STREAM) || (k->flags & LAZY))) || !k->open(fd))
            continue;
        watch("the other end goes", k->name, writes ? "writing" : "reading");
        const int own = writes ? 1 : 0;
        w.fd = fd[own];
        set_nonblocking(w.fd, nonblocking);
        if (writes)
            fill(k, w.fd);
        job_start(&job, thread ? NULL : runtime, wait_way, &w, i & 4 ? PATIENCE : ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        close(fd[1 - own]);
        const ssize_t rc = job_end(&job);
        if (way == POLLING || way == POLLING_OUT) {
            struct pollfd now = {w.fd, way == POLLING ? POLLIN : POLLOUT, 0};
            CHECK_EQ(rc, 1);
            CHECK_EQ(poll(&now, 1, 0), 1);
            CHECK(w.revents != 0 && (w.revents & ~now.revents) == 0); /* it goes in steps */
        } else {
            ssize_t expected = writes ? -EPIPE : negative(read(w.fd, &byte, 1));
            if (writes && (k->flags & SOCKET) && rc == -ECONNRESET) /* what it had not read is lost */
                expected = rc;
            if (rc != expected)
                support_fail(__FILE__, __LINE__, "%s, way %d: %zd, not %zd", k->name, way, rc, expected);
        }
        CHECK_EQ(routine_close(w.fd), 0);
    }
    support_runtime_end(runtime);
}

/* Of several runtimes' waiters all are woken. */
TEST(close_wakes_in_all_runtimes)
{
    routine_runtime_t *runtimes[3] = {support_runtime(1), support_runtime(2), routine_runtime_default()};
    for (int round = 0; round < 40; round++) {
        struct waiter w[3];
        struct job job[3];
        int fd[2];
        open_unix_stream(fd);
        for (int k = 0; k < 3; k++) {
            w[k] = (struct waiter){.fd = fd[0], .way = READING};
            job_start(&job[k], runtimes[k], wait_way, &w[k], ROUTINE_NEVER);
            CHECK(job_await_waiting(&job[k]));
        }
        CHECK_EQ(close_by(round % CLOSERS, runtimes[0], runtimes[1], fd[0], round / CLOSERS % 2), 0);
        for (int k = 0; k < 3; k++)
            CHECK_EQ(job_end(&job[k]), -ECANCELED);
        close(fd[1]);
        if (round / CLOSERS % 2)
            CHECK_EQ(routine_close(fd[0]), 0);
    }
    support_runtime_end(runtimes[0]);
    support_runtime_end(runtimes[1]);
}

/* ---- at the very moment ---- */

static void *use_a_few(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        int fd[2];
        char byte;
        open_unix_stream(fd);
        {
            routine_with_timeout(100 * ROUTINE_US);
            CHECK_EQ(routine_read(fd[0], &byte, 1), -ETIMEDOUT);
        }
        CHECK_EQ(routine_close(fd[0]), 0);
        CHECK_EQ(routine_close(fd[1]), 0);
    }
    return NULL;
}

struct moment {
    _Atomic long set, begun, ended;
    int fd;
    ssize_t rc;
    int64_t limit;
    bool nonblocking;
};

static void *read_at_moments(void *arg)
{
    struct moment *m = arg;
    for (long round = 1;; round++) {
        char byte = 0;
        while (atomic_load(&m->set) != round)
            routine_yield();
        if (m->fd < 0)
            return NULL;
        const int fd = m->fd;
        atomic_store(&m->begun, round);
        if (m->limit == ROUTINE_NEVER) {
            m->rc = routine_read(fd, &byte, 1);
        } else {
            routine_with_timeout(m->limit);
            m->rc = routine_read(fd, &byte, 1);
        }
        if (m->rc == 1)
            CHECK_EQ(byte, 'd');
        atomic_store(&m->ended, round);
    }
}

/* Data, a limit and a close at about the same moment: exactly one, and never a hang. EBADF if the close was
 * first. */
TEST(close_at_the_very_moment)
{
    const long rounds = support_scale(6000);
    routine_runtime_t *runtime = support_runtime(0);
    struct moment m = {.limit = ROUTINE_NEVER};
    /* before, so that what the runtime opens for itself does not get a number that is being read from */
    CHECK_EQ(routine_runtime_run(runtime, use_a_few, NULL, NULL), 0);
    const routine_t reader = support_go_on(runtime, read_at_moments, &m);
    uint64_t random = 91;
    long results[4] = {0};
    for (long round = 1; round <= rounds; round++) {
        const uint64_t r = support_random(&random);
        int fd[2];
        if (r & 1)
            open_pipe(fd);
        else
            open_unix_stream(fd);
        set_nonblocking(fd[0], r & 2);
        m.fd = fd[0];
        m.limit = (r >> 2 & 3) == 0 ? (int64_t)(r >> 8) % (50 * ROUTINE_US) : ROUTINE_NEVER;
        watch("close at the moment", NULL, NULL);
        atomic_store(&m.set, round);
        if (r >> 4 & 1)
            while (atomic_load(&m.begun) != round)
                sched_yield();
        for (uint64_t spins = (r >> 16) % 3000; spins > 0; spins--)
            atomic_load(&m.ended);
        if (r >> 5 & 1)
            CHECK_EQ(plain_write(fd[1], "d", 1), 1);
        for (uint64_t spins = (r >> 32) % 300; spins > 0; spins--)
            atomic_load(&m.ended);
        CHECK_EQ(routine_close(fd[0]), 0);
        while (atomic_load(&m.ended) != round)
            sched_yield();
        const bool expected = m.rc == -ECANCELED || m.rc == -EBADF || (m.rc == 1 && r >> 5 & 1) ||
                              (m.rc == -ETIMEDOUT && m.limit != ROUTINE_NEVER);
        if (!expected)
            support_fail(__FILE__, __LINE__, "round %ld: %zd", round, m.rc);
        results[m.rc == 1 ? 0 : m.rc == -ECANCELED ? 1 : m.rc == -EBADF ? 2 : 3]++;
        close(fd[1]);
    }
    m.fd = -1;
    atomic_store(&m.set, rounds + 1);
    CHECK_EQ(routine_join(reader, NULL), 0);
    support_runtime_end(runtime);
    CHECK(results[1] > 0);
}

/* ---- numbers that come back ---- */

/*
 * Closers open a descriptor, let a reader wait for it, and then either feed it or close it; closed numbers
 * come back at once to some other closer. A reader gets its own mark, or -ECANCELED; never the mark or the
 * error of another, and is never left behind. Each reader is alone in a runtime, so its closer knows when it
 * waits.
 */
enum { REUSERS = 6 };

struct reuse {
    long rounds;
    routine_runtime_t *runtime;
    uint64_t seed;
    long fed, closed;
};

struct mark {
    int fd;
    uint64_t mark;
    bool writes;
};

static ssize_t read_mark(void *arg)
{
    struct mark *m = arg;
    static const char bytes[300000];
    return m->writes ? routine_write(m->fd, bytes, sizeof bytes) : routine_read(m->fd, &m->mark, 8);
}

static void *reuse_numbers(void *arg)
{
    static const char *const names[] = {"unix stream", "pipe", "eventfd", "unix seqpacket"};
    struct reuse *u = arg;
    uint64_t random = u->seed;
    for (long i = 0; i < u->rounds; i++) {
        const uint64_t r = support_random(&random);
        const struct kind *k = kind_named(names[r >> 3 & 3]);
        struct mark m = {.mark = 0, .writes = (r & 7) == 0 && (k->flags & STREAM)};
        uint64_t mark = u->seed << 32 | (uint64_t)i;
        struct job job;
        int fd[2], at = m.writes ? 1 : 0;
        k->open(fd);
        m.fd = fd[at];
        set_nonblocking(m.fd, r >> 8 & 1);
        job_start(&job, u->runtime, read_mark, &m, r >> 9 & 1 ? ROUTINE_NEVER : PATIENCE);
        CHECK(job_await_waiting(&job));
        if (r >> 10 & 1 && !m.writes) {
            CHECK_EQ(plain_write(fd[1], &mark, 8), 8);
            CHECK_EQ(job_end(&job), 8);
            CHECK_EQ(m.mark, mark);
            u->fed++;
            CHECK_EQ(routine_close(m.fd), 0);
        } else {
            if (r >> 11 & 1) {
                CHECK_EQ(routine_fd_forget(m.fd), 0);
                CHECK_EQ(close(m.fd), 0);
            } else {
                CHECK_EQ(routine_close(m.fd), 0);
            }
            const ssize_t rc = job_end(&job);
            if (m.writes)
                CHECK(rc > 0 && rc < 300000);
            else
                CHECK_EQ(rc, -ECANCELED);
            u->closed++;
        }
        if (r >> 12 & 1) /* nobody has waited for this one; or perhaps for its number */
            CHECK_EQ(routine_close(fd[1 - at]), 0);
        else
            CHECK_EQ(close(fd[1 - at]), 0);
    }
    return NULL;
}

TEST(numbers_that_come_back)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++) {
        struct reuse u[REUSERS];
        struct actor a[REUSERS];
        watch("numbers come back", NULL, NULL);
        for (int i = 0; i < REUSERS; i++) {
            u[i] = (struct reuse){support_scale(500), support_runtime(1), 1000 + 77 * (uint64_t)i, 0, 0};
            a[i] = act(cast_is_thread(cast, i), reuse_numbers, &u[i]);
        }
        for (int i = 0; i < REUSERS; i++) {
            act_end(a[i]);
            CHECK(u[i].fed > 0 && u[i].closed > 0);
            support_runtime_end(u[i].runtime);
        }
    }
}

/* All in one runtime: then the closer does not know when its reader waits, so it shuts the socket down, sees
 * the reader come back, and closes it for the next one. */
static void *shut_and_close(void *arg)
{
    struct reuse *u = arg;
    uint64_t random = u->seed;
    for (long i = 0; i < u->rounds; i++) {
        const uint64_t r = support_random(&random);
        struct mark m = {.mark = 0};
        uint64_t mark = u->seed << 32 | (uint64_t)i;
        struct job job;
        int fd[2];
        open_unix_stream(fd);
        m.fd = fd[0];
        job_start(&job, u->runtime, read_mark, &m, PATIENCE);
        for (int k = (int)(r >> 10 & 3); k > 0; k--)
            routine_yield();
        if (r & 1)
            CHECK_EQ(plain_write(fd[1], &mark, 8), 8);
        else
            CHECK_EQ(shutdown(fd[1], SHUT_WR), 0);
        CHECK_EQ(job_end(&job), r & 1 ? 8 : 0);
        CHECK_EQ(m.mark, r & 1 ? mark : 0);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(r >> (20 + k) & 1 ? routine_close(fd[k]) : routine_fd_forget(fd[k]) + close(fd[k]), 0);
    }
    return NULL;
}

TEST(numbers_that_come_back_in_one_runtime)
{
    struct reuse u[2 * REUSERS];
    struct actor a[2 * REUSERS];
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 2 * REUSERS; i++) {
        u[i] = (struct reuse){support_scale(1000), runtime, 5000 + 77 * (uint64_t)i, 0, 0};
        a[i] = i % 2 ? act(i % 4 == 1, shut_and_close, &u[i]) : act_on(runtime, shut_and_close, &u[i]);
    }
    for (int i = 0; i < 2 * REUSERS; i++)
        act_end(a[i]);
    support_runtime_end(runtime);
}

/* ---- closed by others, and nobody was told ---- */

/* Gives fd[0] this number, which is free. */
static void take_number(int fd[2], int number)
{
    if (fd[0] == number)
        return;
    if (fd[1] == number) {
        fd[1] = FD(fcntl(number, F_DUPFD_CLOEXEC, 0));
        close(number);
    }
    CHECK_EQ(fcntl(fd[0], F_DUPFD_CLOEXEC, number), number);
    close(fd[0]);
    fd[0] = number;
}

/* The next user of the number waits, and is not forgotten: it may take a while, but no more than seconds. */
TEST(a_foreign_close)
{
    static const char *const names[] = {"unix stream", "pipe", "eventfd", "udp v4"};
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 16; i++) {
        const struct kind *first = kind_named(names[i % 4]), *second = kind_named(names[i / 4]);
        struct mark m;
        struct job job;
        int fd[2];
        watch("a foreign close", first->name, second->name);
        first->open(fd);
        m.fd = fd[0];
        m.writes = false;
        const int number = fd[0];
        job_start(&job, runtime, read_mark, &m, ROUTINE_NEVER); /* so that it is known in the poller */
        CHECK(job_await_waiting(&job));
        put(first, fd[1], "12345678", 8);
        CHECK_EQ(job_end(&job), 8);
        close(fd[0]);
        close(fd[1]);

        second->open(fd);
        take_number(fd, number);
        m.fd = number;
        job_start(&job, runtime, read_mark, &m, i % 3 ? 20 * ROUTINE_S : ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        if (i & 1) /* not before it has waited for some time */
            usleep(support_slow() ? 100000 : 400000);
        put(second, fd[1], "87654321", 8);
        CHECK_EQ(job_end(&job), 8);
        close(fd[1]);
        CHECK_EQ(routine_close(number), 0);
    }
    support_runtime_end(runtime);
}

/* Closed by others while somebody waits: what ends the wait in any case is a limit, or a cancellation. */
TEST(a_foreign_close_during_a_wait)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 4; i++) {
        struct mark m = {.mark = 0};
        struct job job;
        int fd[2];
        watch("a foreign close during a wait", NULL, NULL);
        open_unix_stream(fd);
        m.fd = fd[0];
        job_start(&job, runtime, read_mark, &m, i & 1 ? 200 * ROUTINE_MS : ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        close(fd[0]);
        close(fd[1]);
        if (i & 2)
            usleep(300000);
        if (!(i & 1))
            CHECK_EQ(routine_cancel(job.actor.routine), 0);
        const ssize_t rc = job_end(&job);
        CHECK(rc == -EBADF || rc == (i & 1 ? -ETIMEDOUT : -ECANCELED));
        routine_fd_forget(m.fd);
    }
    support_runtime_end(runtime);
}

/* ---- duplicates ---- */

TEST(duplicates)
{
    routine_runtime_t *runtimes[2] = {support_runtime(0), support_runtime(0)};
    for (int i = 0; i < 24; i++) {
        struct mark m[2], n;
        struct job job[2], again;
        int fd[2], fresh[2];
        watch("duplicates", NULL, NULL);
        kind_named(i % 3 == 0 ? "pipe" : i % 3 == 1 ? "unix stream" : "eventfd")->open(fd);
        const int copy = FD(fcntl(fd[0], F_DUPFD_CLOEXEC, 0));
        for (int k = 0; k < 2; k++) {
            m[k] = (struct mark){.fd = k ? copy : fd[0]};
            job_start(&job[k], runtimes[k], read_mark, &m[k], i & 1 ? PATIENCE : ROUTINE_NEVER);
            CHECK(job_await_waiting(&job[k]));
        }
        /* one is closed: its waiter alone is told */
        CHECK_EQ(routine_close(fd[0]), 0);
        CHECK_EQ(job_end(&job[0]), -ECANCELED);
        CHECK(!atomic_load(&job[1].done));
        /* another has its number: what happens to the copy is not its affair */
        open_unix_stream(fresh);
        take_number(fresh, fd[0]);
        n = (struct mark){.fd = fresh[0]};
        job_start(&again, runtimes[0], read_mark, &n, PATIENCE);
        CHECK(job_await_waiting(&again));
        CHECK_EQ(plain_write(fd[1], &(uint64_t){101}, 8), 8);
        CHECK_EQ(job_end(&job[1]), 8);
        CHECK_EQ(m[1].mark, 101);
        CHECK(!atomic_load(&again.done));
        CHECK_EQ(plain_write(fresh[1], &(uint64_t){102}, 8), 8);
        CHECK_EQ(job_end(&again), 8);
        CHECK_EQ(n.mark, 102);
        CHECK_EQ(routine_close(copy), 0);
        CHECK_EQ(routine_close(fresh[0]), 0);
        close(fresh[1]);
        close(fd[1]);
    }
    /* both in one runtime: two messages, one for each */
    for (int i = 0; i < 20; i++) {
        struct mark m[2];
        struct job job[2];
        routine_stats_t stats;
        int fd[2];
        open_unix_dgram(fd);
        const int copy = FD(fcntl(fd[0], F_DUPFD_CLOEXEC, 0));
        for (int k = 0; k < 2; k++) {
            m[k] = (struct mark){.fd = k ? copy : fd[0]};
            job_start(&job[k], runtimes[0], read_mark, &m[k], PATIENCE);
        }
        do {
            CHECK_EQ(routine_stats(runtimes[0], &stats), 0);
            routine_yield();
        } while (stats.parked != 2);
        for (uint64_t k = 1; k <= 2; k++)
            CHECK_EQ(plain_write(fd[1], &k, 8), 8);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(job_end(&job[k]), 8);
        CHECK_EQ(m[0].mark + m[1].mark, 3);
        CHECK_EQ(routine_close(copy), 0);
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
    }
    for (int k = 0; k < 2; k++)
        support_runtime_end(runtimes[k]);
}

/* dup2() puts another descriptor under a number that is known: forgotten before, it works at once. */
TEST(dup2_over_a_known_number)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 20; i++) {
        struct mark m = {.mark = 0};
        struct job job;
        int fd[2], fresh[2];
        open_unix_stream(fd);
        open_unix_stream(fresh);
        m.fd = fd[0];
        job_start(&job, runtime, read_mark, &m, PATIENCE);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fd[1], &(uint64_t){5}, 8), 8);
        CHECK_EQ(job_end(&job), 8);
        if (i % 2)
            CHECK_EQ(routine_fd_forget(fd[0]), 0);
        FD(dup3(fresh[0], fd[0], O_CLOEXEC));
        job_start(&job, runtime, read_mark, &m, PATIENCE);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fresh[1], &(uint64_t){6}, 8), 8);
        CHECK_EQ(job_end(&job), 8);
        CHECK_EQ(m.mark, 6);
        CHECK_EQ(routine_close(fd[0]), 0);
        CHECK_EQ(routine_close(fresh[0]), 0);
        close(fresh[1]);
        close(fd[1]);
    }
    support_runtime_end(runtime);
}

/* ---- forgetting ---- */

static void *forget_things(void *arg)
{
    int fd[2];
    char byte;
    (void)arg;
    CHECK_EQ(routine_fd_forget(-1), -EBADF);
    CHECK_EQ(routine_fd_forget(INT_MIN), -EBADF);
    open_unix_stream(fd);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(routine_fd_forget(fd[0]), 0);
        {
            routine_with_timeout(i * 100 * ROUTINE_US);
            CHECK_EQ(routine_read(fd[0], &byte, 1), -ETIMEDOUT);
        }
        CHECK_EQ(routine_fd_forget(fd[0]), 0);
        CHECK_EQ(routine_write(fd[1], "z", 1), 1);
        CHECK_EQ(routine_fd_forget(fd[0]), 0);
        CHECK_EQ(routine_read(fd[0], &byte, 1), 1);
    }
    CHECK_EQ(routine_close(fd[0]), 0);
    CHECK_EQ(routine_fd_forget(fd[0]), 0);
    CHECK_EQ(routine_close(fd[0]), -EBADF);
    CHECK_EQ(routine_close(fd[1]), 0);
    return NULL;
}

TEST(forgetting)
{
    forget_things(NULL);
    support_in_routine(forget_things, NULL);
}

/* ---- thousands of sockets at random ---- */

struct market {
    union any_address address;
    socklen_t size;
    int listener;
    long visits;
    _Atomic long served;
};

/* Both sides say a few words, and go, in any manner. */
static void converse(int fd, uint64_t *random, bool first)
{
    char text[64];
    const uint64_t r = support_random(random);
    routine_with_timeout((r & 15) == 0 ? (int64_t)(r >> 20) % ROUTINE_MS : PATIENCE);
    for (unsigned i = 0; i < (r >> 4 & 3); i++) {
        const ssize_t rc = first == (i % 2 == 0) ? routine_write(fd, text, sizeof text)
                                                 : routine_read(fd, text, sizeof text);
        if (rc <= 0) {
            CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EPIPE || rc == -ECONNRESET);
            break;
        }
    }
    if ((r >> 6 & 7) == 0)
        shutdown(fd, SHUT_RDWR);
    if ((r >> 9 & 7) == 0) {
        const struct linger none = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
    CHECK_EQ(routine_close(fd), 0);
}

static void *serve_one(void *arg)
{
    uint64_t random = (uint64_t) * (int *)arg * 7919 + 1;
    converse(*(int *)arg, &random, false);
    return NULL;
}

static void *serve_market(void *arg)
{
    struct market *m = arg;
    for (;;) {
        const int fd = routine_accept(m->listener, NULL, NULL);
        if (fd == -ECANCELED)
            return NULL;
        CHECK(fd >= 0);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(&m->served, 1);
        const routine_t h = go_copy(serve_one, fd);
        CHECK_EQ(routine_detach(h), 0);
    }
}

static void *visit_market(void *arg)
{
    struct market *m = arg;
    static _Atomic uint64_t seed;
    uint64_t random = 1 + atomic_fetch_add(&seed, 1) * 31337;
    for (long i = 0; i < m->visits; i++) {
        const int fd = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int rc = routine_connect(fd, &m->address.any, m->size);
        CHECK(rc == 0 || rc == -ECONNRESET);                 /* it may be over already */
        const int fresh = FD(fcntl(fd, F_DUPFD_CLOEXEC, 0)); /* keeps others from being handed out in order */
        close(fresh);
        converse(fd, &random, true);
    }
    return NULL;
}

TEST(thousands_of_sockets_at_random)
{
    enum { VISITORS = 24, SERVERS = 3 };
    struct market m = {.visits = support_scale(150)};
    struct actor visitors[VISITORS], servers[SERVERS];
    routine_runtime_t *runtime = support_runtime(0);
    watch("sockets at random", NULL, NULL);
    m.listener = FD(listener(AF_INET, &m.address, &m.size, 1000));
    for (int i = 0; i < SERVERS; i++)
        servers[i] = act_on(runtime, serve_market, &m);
    for (int i = 0; i < VISITORS; i++)
        visitors[i] = i % 4 ? act_on(runtime, visit_market, &m) : act(i % 8 == 0, visit_market, &m);
    for (int i = 0; i < VISITORS; i++)
        act_end(visitors[i]);
    for (int64_t end = routine_now() + PATIENCE;
         atomic_load(&m.served) < VISITORS * m.visits && routine_now() < end;)
        routine_yield();
    CHECK_EQ(atomic_load(&m.served), VISITORS * m.visits);
    routine_stats_t stats;
    do {
        CHECK_EQ(routine_stats(runtime, &stats), 0);
        routine_yield();
    } while (stats.live > SERVERS || stats.parked < SERVERS);
    CHECK_EQ(routine_close(m.listener), 0);
    for (int i = 0; i < SERVERS; i++)
        act_end(servers[i]);
    support_runtime_end(runtime);
}

/* ---- what remains ---- */

/* A runtime that is gone has left no descriptors behind, and its numbers can be used by the next one. */
TEST(a_runtime_leaves_no_descriptors)
{
    const long before = support_entries("/proc/self/fd");
    for (int i = 0; i < 20; i++) {
        routine_runtime_t *runtime = support_runtime(0);
        struct mark m = {.mark = 0};
        struct job job;
        int fd[2];
        CHECK_EQ(routine_runtime_run(runtime, use_a_few, NULL, NULL), 0);
        open_unix_stream(fd);
        m.fd = fd[0];
        job_start(&job, runtime, read_mark, &m, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
        CHECK_EQ(job_end(&job), -ECANCELED);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        close(fd[1]);
        CHECK_EQ(i % 2 ? routine_close(fd[0]) : close(fd[0]), 0);
    }
    CHECK_EQ(support_entries("/proc/self/fd"), before);
}

/* The descriptors of two runtimes, one of which is freed while the other goes on waiting. */
TEST(a_runtime_ends_while_another_waits)
{
    routine_runtime_t *stays = support_runtime(1);
    for (int i = 0; i < 20; i++) {
        routine_runtime_t *goes = support_runtime(1);
        struct mark m[2];
        struct job job[2];
        int fd[2];
        open_unix_stream(fd);
        for (int k = 0; k < 2; k++) {
            m[k] = (struct mark){.fd = fd[0]};
            job_start(&job[k], k ? stays : goes, read_mark, &m[k], ROUTINE_NEVER);
            CHECK(job_await_waiting(&job[k]));
        }
        CHECK_EQ(routine_runtime_shutdown(goes, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
        CHECK_EQ(job_end(&job[0]), -ECANCELED);
        CHECK_EQ(routine_runtime_free(goes), 0);
        CHECK_EQ(plain_write(fd[1], &(uint64_t){7}, 8), 8);
        CHECK_EQ(job_end(&job[1]), 8);
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
    }
    support_runtime_end(stays);
}

/* ---- fork ---- */

static ssize_t read_forked(void *arg)
{
    return read_mark(arg);
}

/* A child that uses the same numbers disturbs nobody in its parent. */
TEST(a_child_has_a_poller_of_its_own)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 5 && !SUPPORT_TSAN; i++) {
        struct mark m = {.mark = 0};
        struct job job;
        int fd[2], status = -1;
        watch("fork", NULL, NULL);
        open_unix_stream(fd);
        m.fd = fd[0];
        job_start(&job, runtime, read_forked, &m, PATIENCE);
        CHECK(job_await_waiting(&job));
        const pid_t child = fork();
        if (child == 0) {
            int own[2];
            atomic_store(&support_failures, 0);
            alarm(30);
            CHECK_EQ(routine_close(fd[0]), 0);
            open_unix_stream(own);
            take_number(own, fd[0]);
            m = (struct mark){.fd = fd[0]};
            routine_runtime_t *in_child = support_runtime(1);
            job_start(&job, in_child, read_forked, &m, 20 * ROUTINE_S);
            CHECK(job_await_waiting(&job));
            CHECK_EQ(plain_write(own[1], &(uint64_t){9}, 8), 8);
            CHECK_EQ(job_end(&job), 8);
            CHECK_EQ(m.mark, 9);
            _exit(atomic_load(&support_failures) != 0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(!atomic_load(&job.done));
        CHECK_EQ(plain_write(fd[1], &(uint64_t){8}, 8), 8);
        CHECK_EQ(job_end(&job), 8);
        CHECK_EQ(m.mark, 8);
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
    }
    support_runtime_end(runtime);
}

int main(void)
{
    SUPPORT_NO_CASES();
    watch_begin(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_wakes_who_waits),
        cmocka_unit_test(close_wakes_both_sides),
        cmocka_unit_test(close_during_a_write),
        cmocka_unit_test(the_other_end_goes),
        cmocka_unit_test(close_wakes_in_all_runtimes),
        cmocka_unit_test(close_at_the_very_moment),
        cmocka_unit_test(numbers_that_come_back),
        cmocka_unit_test(numbers_that_come_back_in_one_runtime),
        cmocka_unit_test(a_foreign_close),
        cmocka_unit_test(a_foreign_close_during_a_wait),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(dup2_over_a_known_number),
        cmocka_unit_test(forgetting),
        cmocka_unit_test(thousands_of_sockets_at_random),
        cmocka_unit_test(a_runtime_leaves_no_descriptors),
        cmocka_unit_test(a_runtime_ends_while_another_waits),
        cmocka_unit_test(a_child_has_a_poller_of_its_own),
    };
    return cmocka_run_group_tests_name("io_close", tests, NULL, NULL);
}
