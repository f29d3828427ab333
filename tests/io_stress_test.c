/* SPDX-License-Identifier: MIT
 *
 * Descriptors under load: many to many with every byte verified, events that come while nobody waits, half
 * closes, resets, peers that never read, several readers and several acceptors of one descriptor, floods of
 * input and output beside timers and beside routines that compute, a storm of signals, an accept without
 * descriptors, ten thousand idle connections and what they cost.
 *
 * ctest: workers
 * ctest: serial
 * ctest: timeout 240
 */
#include "io_support.h"

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 7 + (i >> 8) * 13 + (i >> 16));
}

/* ---- lines of relays ---- */

enum { LINES = 6, LENGTH = 4 };

struct line {
    size_t size;
    int fd[LENGTH][2];
    bool by_poll;
};

struct relay {
    struct line *line;
    int place; /* 0: the source; LENGTH: the sink; else from the one to the next */
    uint64_t random;
};

static void wait_by_poll(const struct relay *r, int fd, short events)
{
    struct pollfd p = {fd, events, 0};
    if (r->line->by_poll)
        CHECK_EQ(routine_poll(&p, 1, -1), 1);
}

static void *relay(void *arg)
{
    struct relay *r = arg;
    unsigned char *bytes = malloc(30000);
    size_t at = 0;
    while (at < r->line->size) {
        size_t n = 1 + support_random(&r->random) % (support_random(&r->random) % 8 == 0 ? 30000 : 1000);
        ssize_t rc;
        if (n > r->line->size - at)
            n = r->line->size - at;
        if (r->place == 0) {
            for (size_t i = 0; i < n; i++)
                bytes[i] = byte_at(at + i);
        } else {
            const int fd = r->line->fd[r->place - 1][0];
            wait_by_poll(r, fd, POLLIN);
            rc = routine_read(fd, bytes, n);
            if (rc <= 0) {
                support_fail(__FILE__, __LINE__, "place %d: %zd at %zu", r->place, rc, at);
                break;
            }
            n = (size_t)rc;
        }
        for (size_t i = 0; i < n && r->place == LENGTH; i++)
            if (bytes[i] != byte_at(at + i)) {
                support_fail(__FILE__, __LINE__, "another byte at %zu", at + i);
                break;
            }
        if (r->place < LENGTH) {
            wait_by_poll(r, r->line->fd[r->place][1], POLLOUT);
            rc = routine_write(r->line->fd[r->place][1], bytes, n);
            if (rc != (ssize_t)n) {
                support_fail(__FILE__, __LINE__, "place %d: %zd of %zu", r->place, rc, n);
                break;
            }
        }
        at += n;
    }
    if (r->place < LENGTH)
        CHECK_EQ(routine_close(r->line->fd[r->place][1]), 0);
    if (r->place > 0) {
        CHECK_EQ(routine_read(r->line->fd[r->place - 1][0], bytes, 1), 0);
        CHECK_EQ(routine_close(r->line->fd[r->place - 1][0]), 0);
    }
    free(bytes);
    return NULL;
}

/* A storm of signals (below) holds its breath while descriptors are made by calls that it would interrupt. */
static _Atomic bool storm_held;
static _Atomic long storm_rounds;

static void run_lines(enum cast cast, size_t size)
{
    static const char *const names[] = {"unix stream", "pipe", "tcp v4", "fifo"};
    struct line *lines = calloc(LINES, sizeof *lines);
    struct relay relays[LINES][LENGTH + 1];
    struct actor actors[LINES][LENGTH + 1];
    routine_runtime_t *other = support_runtime(1);
    const long rounds = atomic_load(&storm_rounds);
    atomic_store(&storm_held, true);
    while (rounds != 0 && atomic_load(&storm_rounds) < rounds + 2)
        usleep(100);
    for (int l = 0; l < LINES; l++) {
        lines[l].size = size;
        lines[l].by_poll = l % 3 == 2;
        for (int i = 0; i < LENGTH; i++) {
            kind_named(names[(l + i) % 4])->open(lines[l].fd[i]);
            set_nonblocking(lines[l].fd[i][0], l & 1);
            set_nonblocking(lines[l].fd[i][1], i & 1);
        }
    }
    atomic_store(&storm_held, false);
    for (int l = 0; l < LINES; l++)
        for (int i = 0; i <= LENGTH; i++) {
            relays[l][i] = (struct relay){&lines[l], i, 1 + (uint64_t)(l * 100 + i)};
            actors[l][i] = l == 3 && i == 2 ? act_on(other, relay, &relays[l][i])
                                            : act(cast_is_thread(cast, i), relay, &relays[l][i]);
        }
    for (int l = 0; l < LINES; l++)
        for (int i = 0; i <= LENGTH; i++)
            act_end(actors[l][i]);
    support_runtime_end(other);
    free(lines);
}

TEST(lines_of_relays)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++) {
        watch("lines of relays", NULL, NULL);
        run_lines(cast, (size_t)support_scale(2000000));
    }
}

/* ---- events while nobody waits ---- */

struct pulse {
    int fd[2];
    long rounds;
};

static void *pulse(void *arg)
{
    struct pulse *p = arg;
    uint64_t random = 3, value;
    for (long i = 0; i < p->rounds; i++) {
        const uint64_t r = support_random(&random);
        const unsigned ahead = (unsigned)(r % 4);
        for (unsigned k = 0; k < ahead; k++) /* edges, and nobody there */
            CHECK_EQ(routine_write(p->fd[1], &(uint64_t){(uint64_t)i}, 8), 8);
        if (r >> 8 & 1)
            routine_yield();
        if ((r >> 9 & 15) == 0)
            CHECK_EQ(routine_sleep(10 * ROUTINE_US), 0);
        for (unsigned k = 0; k < ahead; k++) {
            CHECK_EQ(routine_read(p->fd[0], &value, 8), 8);
            CHECK_EQ(value, i);
        }
        { /* and none is left over that would make it believe there is something */
            routine_with_timeout((int64_t)(r >> 20 & 15) * ROUTINE_US);
            CHECK_EQ(routine_read(p->fd[0], &value, 8), -ETIMEDOUT);
        }
    }
    return NULL;
}

TEST(events_while_nobody_waits)
{
    static const char *const names[] = {"unix stream", "pipe", "tcp v4", "unix dgram", "udp v4"};
    struct pulse p[COUNT_OF(names)];
    struct actor a[COUNT_OF(names)];
    watch("events while nobody waits", NULL, NULL);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        p[i].rounds = support_scale(1500);
        kind_named(names[i])->open(p[i].fd);
        a[i] = act(false, pulse, &p[i]);
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        act_end(a[i]);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(routine_close(p[i].fd[k]), 0);
    }
}

/* ---- half close ---- */

static void *echo_to_the_end(void *arg)
{
    const int fd = *(int *)arg;
    char bytes[5000];
    ssize_t n;
    while ((n = routine_read(fd, bytes, sizeof bytes)) > 0)
        CHECK_EQ(routine_write(fd, bytes, (size_t)n), n);
    CHECK_EQ(n, 0);
    CHECK_EQ(routine_close(fd), 0);
    return NULL;
}

struct half {
    int fd[2];
    size_t size;
    struct actor actors[3];
};

static void *say_all(void *arg)
{
    struct half *h = arg;
    unsigned char *bytes = malloc(h->size);
    for (size_t i = 0; i < h->size; i++)
        bytes[i] = byte_at(i);
    CHECK_EQ(routine_write(h->fd[1], bytes, h->size), h->size);
    CHECK_EQ(shutdown(h->fd[1], SHUT_WR), 0);
    free(bytes);
    return NULL;
}

static void *hear_all(void *arg)
{
    struct half *h = arg;
    unsigned char byte[777];
    size_t at = 0;
    ssize_t n;
    while ((n = routine_read(h->fd[1], byte, sizeof byte)) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            if (byte[i] != byte_at(at))
                support_fail(__FILE__, __LINE__, "another byte at %zu", at);
    CHECK_EQ(n, 0);
    CHECK_EQ(at, h->size);
    return NULL;
}

/* One side says all it has to say, and closes its half, while the answer still comes: a reader and a writer
 * on the same descriptor. */
TEST(half_closed_connections)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++) {
        enum { MANY = 12 };
        struct half h[MANY];
        watch("half closed connections", NULL, NULL);
        for (int i = 0; i < MANY; i++) {
            h[i].size = (size_t)support_scale(300000);
            kind_named(i % 2 ? "tcp v4" : "unix stream")->open(h[i].fd);
            h[i].actors[0] = act(cast_is_thread(cast, 0), echo_to_the_end, &h[i].fd[0]);
            h[i].actors[1] = act(cast_is_thread(cast, 1), say_all, &h[i]);
            h[i].actors[2] = act(cast_is_thread(cast, 2), hear_all, &h[i]);
        }
        for (int i = 0; i < MANY; i++) {
            for (int k = 0; k < 3; k++)
                act_end(h[i].actors[k]);
            CHECK_EQ(routine_close(h[i].fd[1]), 0);
        }
    }
}

/* ---- resets ---- */

static ssize_t read_until_reset(void *arg)
{
    char byte;
    return routine_read(*(int *)arg, &byte, 1);
}

static ssize_t write_until_reset(void *arg)
{
    static const char bytes[1000000];
    const ssize_t rc = routine_write(*(int *)arg, bytes, sizeof bytes);
    return rc > 0 && rc < (ssize_t)sizeof bytes ? routine_write(*(int *)arg, bytes, 1) : rc;
}

TEST(resets)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 40; i++) {
        const bool reads = i & 1, thread = i & 2;
        struct job job;
        int fd[2];
        watch("resets", NULL, NULL);
        open_tcp4(fd);
        job_start(&job, thread ? NULL : runtime, reads ? read_until_reset : write_until_reset, &fd[0],
                  i & 4 ? PATIENCE : ROUTINE_NEVER);
        if (i & 8)
            CHECK(job_await_waiting(&job));
        close_by_reset(fd[1]);
        const ssize_t rc = job_end(&job);
        CHECK(rc == -ECONNRESET || (!reads && rc == -EPIPE));
        char byte;
        const ssize_t again = routine_read(fd[0], &byte, 1); /* told once, then it is the end */
        CHECK(again == 0 || again == -ECONNRESET);
        CHECK_EQ(routine_write(fd[0], "x", 1), -EPIPE);
        CHECK_EQ(routine_close(fd[0]), 0);
    }
    support_runtime_end(runtime);
}

/* ---- a peer that never reads ---- */

struct deaf {
    int fd[2];
    ssize_t rc;
};

static void *write_to_deaf(void *arg)
{
    struct deaf *d = arg;
    static const char bytes[4000000];
    routine_with_timeout(100 * ROUTINE_MS);
    d->rc = routine_write(d->fd[0], bytes, sizeof bytes);
    CHECK(d->rc > 0 && d->rc < (ssize_t)sizeof bytes);
    CHECK_EQ(routine_check(), -ETIMEDOUT);
    CHECK_EQ(routine_write(d->fd[0], bytes, 1), -ETIMEDOUT);
    return NULL;
}

/* Those who write to it wait, and nobody else does; what they are told has gone is what can be read. */
TEST(a_peer_that_never_reads)
{
    enum { MANY = 30 };
    static const char *const names[] = {"unix stream", "tcp v4", "pipe"};
    struct deaf d[MANY];
    struct actor a[MANY];
    watch("a peer that never reads", NULL, NULL);
    for (int i = 0; i < MANY; i++) {
        const struct kind *k = kind_named(names[i % 3]);
        int fd[2];
        k->open(fd);
        d[i].fd[0] = fd[1];
        d[i].fd[1] = fd[0];
        a[i] = act(i % 10 == 9, write_to_deaf, &d[i]);
    }
    run_lines(ROUTINES, (size_t)support_scale(200000));
    for (int i = 0; i < MANY; i++) {
        size_t got = 0;
        unsigned char last[8];
        act_end(a[i]);
        CHECK_EQ(routine_close(d[i].fd[0]), 0);
        while (await_event(d[i].fd[1], POLLIN)) {
            const size_t n = drain(d[i].fd[1], last, sizeof last);
            if (n == 0)
                break;
            got += n;
        }
        CHECK_EQ(got, d[i].rc);
        close(d[i].fd[1]);
    }
}

/* ---- several readers, several acceptors ---- */

enum { SIDES = 5 };

struct shared {
    int fd[2];
    long count;
    _Atomic long next;
    _Atomic unsigned char *seen;
};

static void *post(void *arg)
{
    struct shared *s = arg;
    for (long i; (i = atomic_fetch_add(&s->next, 1)) < s->count;) {
        uint64_t number = (uint64_t)i;
        CHECK_EQ(routine_write(s->fd[1], &number, sizeof number), 8);
    }
    return NULL;
}

static void *collect(void *arg)
{
    struct shared *s = arg;
    uint64_t number;
    ssize_t n;
    while ((n = routine_read(s->fd[0], &number, sizeof number)) > 0 && number != UINT64_MAX) {
        CHECK_EQ(n, 8);
        if (number < (uint64_t)s->count)
            CHECK_EQ(atomic_fetch_add(&s->seen[number], 1), 0);
    }
    CHECK_EQ(n, 8);
    return NULL;
}

TEST(several_readers_of_one_descriptor)
{
    static const char *const names[] = {"unix dgram", "unix seqpacket", "pipe"};
    for (enum cast cast = ROUTINES; cast < CASTS; cast++)
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            struct shared s = {.count = support_scale(5000)};
            struct actor posters[SIDES], readers[SIDES];
            watch("several readers", names[i], NULL);
            s.seen = calloc((size_t)s.count, 1);
            kind_named(names[i])->open(s.fd);
            for (int k = 0; k < SIDES; k++)
                readers[k] = act(cast_is_thread(cast, k), collect, &s);
            for (int k = 0; k < SIDES; k++)
                posters[k] = act(cast_is_thread(cast, k + 1), post, &s);
            for (int k = 0; k < SIDES; k++)
                act_end(posters[k]);
            for (int k = 0; k < SIDES; k++) /* one that ends each of them */
                CHECK_EQ(routine_write(s.fd[1], &(uint64_t){UINT64_MAX}, 8), 8);
            for (int k = 0; k < SIDES; k++)
                act_end(readers[k]);
            for (long k = 0; k < s.count; k++)
                CHECK_EQ(s.seen[k], 1);
            for (int k = 0; k < 2; k++)
                CHECK_EQ(routine_close(s.fd[k]), 0);
            free((void *)s.seen);
        }
}

struct door {
    int listener;
    union any_address address;
    socklen_t size;
    long visits;
    _Atomic long accepted;
};

/* Says which connection it is to whoever asks, until the listener is closed. */
static void *accept_at_door(void *arg)
{
    struct door *d = arg;
    for (;;) {
        uint64_t number = 0;
        const int fd = routine_accept(d->listener, NULL, NULL);
        if (fd < 0) {
            /* the last: he comes after the close, and the number is already that of a directory (storm) */
            if (fd != -ECANCELED && fd != -EBADF && fd != -EINVAL && fd != -ENOTSOCK)
                support_fail(__FILE__, __LINE__, "accept: %d", fd);
            return NULL;
        }
        atomic_fetch_add(&d->accepted, 1);
        CHECK_EQ(routine_read_full(fd, &number, 8, NULL), 0);
        number += 1;
        CHECK_EQ(routine_write(fd, &number, 8), 8);
        CHECK_EQ(routine_close(fd), 0);
    }
}

static void *knock(void *arg)
{
    struct door *d = arg;
    static _Atomic uint64_t numbers;
    for (long i = 0; i < d->visits; i++) {
        const uint64_t number = atomic_fetch_add(&numbers, 1);
        uint64_t answer = 0;
        const int fd = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        routine_with_timeout(PATIENCE);
        CHECK_EQ(routine_connect(fd, &d->address.any, d->size), 0);
        CHECK_EQ(routine_write(fd, &number, 8), 8);
        CHECK_EQ(routine_read_full(fd, &answer, 8, NULL), 0);
        CHECK_EQ(answer, number + 1);
        CHECK_EQ(routine_close(fd), 0);
    }
    return NULL;
}

TEST(several_acceptors_of_one_listener)
{
    for (enum cast cast = ROUTINES; cast < CASTS; cast++) {
        enum { GUESTS = 12 };
        struct door d = {.visits = support_scale(60)};
        struct actor acceptors[SIDES], guests[GUESTS];
        routine_runtime_t *other = support_runtime(1);
        watch("several acceptors", NULL, NULL);
        d.listener = FD(listener(AF_INET, &d.address, &d.size, 1000));
        for (int i = 0; i < SIDES; i++) /* one of another runtime; no threads, which a close does not wake */
            acceptors[i] = i == 2 ? act_on(other, accept_at_door, &d) : act(false, accept_at_door, &d);
        for (int i = 0; i < GUESTS; i++)
            guests[i] = act(cast_is_thread(cast, i), knock, &d);
        for (int i = 0; i < GUESTS; i++)
            act_end(guests[i]);
        CHECK_EQ(atomic_load(&d.accepted), GUESTS * d.visits);
        CHECK_EQ(routine_close(d.listener), 0);
        for (int i = 0; i < SIDES; i++)
            act_end(acceptors[i]);
        support_runtime_end(other);
    }
}

/* ---- no descriptors left ---- */

static ssize_t accept_one(void *arg)
{
    return routine_accept(*(int *)arg, NULL, NULL);
}

static int64_t cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * ROUTINE_S + t.tv_nsec;
}

/* EMFILE comes at once, the connection is still there, and nobody spins while it is. */
static int without_descriptors(void)
{
    union any_address a;
    socklen_t size;
    struct rlimit limit;
    struct job job;
    int fds[2000], n = 0;
    routine_runtime_t *runtime = support_runtime(0);
    int l = FD(listener(AF_INET, &a, &size, 10));
    /* first one that has to wait, so that all is there that a wait needs */
    job_start(&job, runtime, accept_one, &l, PATIENCE);
    CHECK(job_await_waiting(&job));
    const int first = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    FD(connect(first, &a.any, size));
    const int server = (int)job_end(&job);
    CHECK(server >= 0);

    const int second = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 200;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (n < 2000 && (fds[n] = fcntl(l, F_DUPFD_CLOEXEC, 0)) >= 0)
        n++;
    CHECK_EQ(errno, EMFILE);
    FD(connect(second, &a.any, size));
    for (int i = 0; i < 20; i++) {
        job_start(&job, i % 2 ? NULL : runtime, accept_one, &l, PATIENCE);
        CHECK_EQ(job_end(&job), -EMFILE);
    }
    close(fds[--n]);
    job_start(&job, runtime, accept_one, &l, PATIENCE);
    CHECK(job_end(&job) >= 0);
    /* one who waits when it comes: there was a number left when it began */
    close(first);
    const int third = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    close(fds[--n]);
    job_start(&job, runtime, accept_one, &l, PATIENCE);
    CHECK(job_await_waiting(&job));
    fds[n++] = FD(fcntl(l, F_DUPFD_CLOEXEC, 0));
    FD(connect(third, &a.any, size));
    CHECK_EQ(job_end(&job), -EMFILE);
    const int64_t before = cpu_time();
    usleep(300000); /* the connection waits, and nobody asks for it */
    CHECK(support_slow() || cpu_time() - before < 100 * ROUTINE_MS);
    close(fds[--n]);
    job_start(&job, runtime, accept_one, &l, PATIENCE);
    const int last = (int)job_end(&job);
    CHECK(last >= 0);
    char byte;
    CHECK_EQ(routine_write(third, "t", 1), 1);
    CHECK_EQ(routine_read(last, &byte, 1), 1);

    /* and a runtime that has no poller yet cannot make one: the call says so, and works later */
    while (n < 2000 && (fds[n] = fcntl(l, F_DUPFD_CLOEXEC, 0)) >= 0)
        n++;
    routine_runtime_t *fresh = support_runtime(1);
    job_start(&job, fresh, accept_one, &l, PATIENCE);
    CHECK_EQ(job_end(&job), -EMFILE);
    for (int i = 0; i < 10; i++)
        close(fds[--n]);
    job_start(&job, fresh, accept_one, &l, 5 * ROUTINE_MS);
    CHECK_EQ(job_end(&job), -ETIMEDOUT);
    support_runtime_end(fresh);
    support_runtime_end(runtime);
    return 0;
}

TEST(accept_without_descriptors)
{
    struct support_result result;
    watch("accept without descriptors", NULL, NULL);
    CASE_EXITS(&result, "without_descriptors", NULL, 0);
}

/* ---- a storm of signals ---- */

static _Atomic bool storm_ends;
static _Atomic long storm_count;

static void in_storm(int signo)
{
    (void)signo;
    atomic_fetch_add(&storm_count, 1);
}

/* Each thread of the process is hit, again and again; those that block the signal keep it pending. */
static void *storm(void *arg)
{
    (void)arg;
    while (!atomic_load(&storm_ends)) {
        DIR *dir = atomic_load(&storm_held) ? NULL : opendir("/proc/self/task");
        atomic_fetch_add(&storm_rounds, 1);
        for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
            if (entry->d_name[0] != '.' && atoi(entry->d_name) != gettid())
                tgkill(getpid(), atoi(entry->d_name), SIGUSR1);
        if (dir != NULL)
            closedir(dir);
        usleep(300);
    }
    return NULL;
}

/* No call is ended by a signal, whose handler does not restart system calls; on workers neither. */
TEST(a_storm_of_signals)
{
    if (SUPPORT_TSAN) /* it keeps handlers back, and what it knows of numbers is not made for such reuse */
        return;
    struct sigaction action = {.sa_handler = in_storm};
    sigaction(SIGUSR1, &action, NULL);
    atomic_store(&storm_ends, false);
    const pthread_t thread = support_thread(storm, NULL);
    for (enum cast cast = ROUTINES; cast < CASTS; cast++) {
        struct door d = {.visits = support_scale(30)};
        struct actor acceptor, guests[4];
        watch("a storm of signals", NULL, NULL);
        run_lines(cast, (size_t)support_scale(300000));
        d.listener = FD(listener(AF_INET, &d.address, &d.size, 100));
        acceptor = act(false, accept_at_door, &d);
        for (int i = 0; i < 4; i++)
            guests[i] = act(cast_is_thread(cast, i), knock, &d);
        for (int i = 0; i < 4; i++)
            act_end(guests[i]);
        CHECK_EQ(routine_close(d.listener), 0);
        act_end(acceptor);
        const int64_t before = routine_now();
        struct pollfd p = {-1, POLLIN, 0};
        CHECK_EQ(routine_poll(&p, 1, 20), 0);
        CHECK(routine_now() - before >= 20 * ROUTINE_MS);
    }
    atomic_store(&storm_ends, true);
    pthread_join(thread, NULL);
    atomic_store(&storm_rounds, 0);
    signal(SIGUSR1, SIG_IGN);
    CHECK(atomic_load(&storm_count) > 0);
}

/* ---- everybody gets a turn ---- */

struct flood {
    int fd[2];
    _Atomic bool *ends;
    _Atomic long count;
    bool computes;
};

/* Never waits: what it writes it reads. */
static void *flood(void *arg)
{
    struct flood *f = arg;
    uint64_t value = 1;
    volatile uint64_t sum = 0;
    while (!atomic_load(f->ends)) {
        if (f->computes) {
            for (volatile int i = 0; i < 1000; i = i + 1)
                sum = sum + (uint64_t)i;
            routine_yield();
        } else {
            CHECK_EQ(routine_write(f->fd[1], &value, 8), 8);
            CHECK_EQ(routine_read(f->fd[0], &value, 8), 8);
        }
        atomic_fetch_add(&f->count, 1);
    }
    return NULL;
}

static void *bounce(void *arg)
{
    struct flood *f = arg;
    uint64_t value;
    while (routine_read(f->fd[0], &value, 8) == 8 && value != 0)
        if (routine_write(f->fd[0], &value, 8) != 8)
            break;
    return NULL;
}

struct turns {
    _Atomic bool ends;
    bool computes;
    routine_runtime_t *runtime;
};

/* Beside a flood of those who always can go on: a timer of 1 ms fires, and a wait for a descriptor ends, a
 * hundred times each. */
static void *take_turns(void *arg)
{
    struct turns *t = arg;
    enum { FLOODS = 10 };
    struct flood floods[FLOODS], partner = {.count = 0};
    struct actor actors[FLOODS], other;
    for (int i = 0; i < FLOODS; i++) {
        floods[i].ends = &t->ends;
        floods[i].computes = t->computes;
        atomic_store(&floods[i].count, 0);
        kind_named(i % 2 ? "pipe" : "unix stream")->open(floods[i].fd);
        actors[i] = act(false, flood, &floods[i]);
    }
    open_unix_stream(partner.fd);
    other = act(true, bounce, &partner); /* a thread, that sleeps in the kernel in between */
    for (int i = 0; i < 30; i++) {
        uint64_t value = 1 + (uint64_t)i, answer = 0;
        const int64_t before = routine_now();
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK(routine_now() - before >= ROUTINE_MS);
        CHECK_EQ(routine_write(partner.fd[1], &value, 8), 8);
        CHECK_EQ(routine_read(partner.fd[1], &answer, 8), 8);
        CHECK_EQ(answer, value);
    }
    CHECK_EQ(routine_write(partner.fd[1], &(uint64_t){0}, 8), 8);
    act_end(other);
    atomic_store(&t->ends, true);
    for (int i = 0; i < FLOODS; i++) {
        act_end(actors[i]);
        CHECK(atomic_load(&floods[i].count) > 0);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(routine_close(floods[i].fd[k]), 0);
    }
    for (int k = 0; k < 2; k++)
        CHECK_EQ(routine_close(partner.fd[k]), 0);
    return NULL;
}

TEST(everybody_gets_a_turn)
{
    for (int computes = 0; computes < 2; computes++)
        for (size_t workers = 0; workers < 2; workers++) {
            routine_runtime_t *runtime = support_runtime(workers);
            struct turns t = {.computes = computes};
            watch("everybody gets a turn", computes ? "beside computing" : "beside a flood", NULL);
            CHECK_EQ(routine_runtime_run(runtime, take_turns, &t, NULL), 0);
            support_runtime_end(runtime);
        }
}

/* A timer beside descriptors that nobody feeds: who polls sleeps no longer than the timer allows. */
static void *sleep_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        const int64_t before = routine_now();
        CHECK_EQ(routine_sleep((i % 10) * 100 * ROUTINE_US), 0);
        CHECK(routine_now() - before >= (i % 10) * 100 * ROUTINE_US);
    }
    return NULL;
}

struct waits {
    int fd[2];
    ssize_t rc;
};

static void *wait_for_byte(void *arg)
{
    struct waits *w = arg;
    char byte;
    w->rc = routine_read(w->fd[0], &byte, 1);
    return NULL;
}

TEST(timers_beside_waits)
{
    struct waits w[20];
    struct actor a[20], sleepers[4];
    watch("timers beside waits", NULL, NULL);
    for (int i = 0; i < 20; i++) {
        open_unix_stream(w[i].fd);
        a[i] = act(false, wait_for_byte, &w[i]);
    }
    for (int i = 0; i < 4; i++)
        sleepers[i] = act(false, sleep_often, NULL);
    for (int i = 0; i < 4; i++)
        act_end(sleepers[i]);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(plain_write(w[i].fd[1], "x", 1), 1);
        act_end(a[i]);
        CHECK_EQ(w[i].rc, 1);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(routine_close(w[i].fd[k]), 0);
    }
}

/* ---- ten thousand idle connections ---- */

struct idle {
    int fd[2];
    routine_t routine;
};

static void *serve_idle(void *arg)
{
    struct idle *c = arg;
    char bytes[64];
    ssize_t n;
    while ((n = routine_read(c->fd[0], bytes, sizeof bytes)) > 0)
        CHECK_EQ(routine_write(c->fd[0], bytes, (size_t)n), n);
    CHECK_EQ(n, 0);
    return NULL;
}

static int many_idle(void)
{
    struct rlimit limit = {0, 0};
    long n = support_slow() ? 1000 : 10000;
    getrlimit(RLIMIT_NOFILE, &limit);
    const struct rlimit before = limit;
    limit.rlim_cur = (rlim_t)n * 2 + 500;
    if (limit.rlim_max < limit.rlim_cur)
        limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        limit = before;
        limit.rlim_cur = limit.rlim_max;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        n = ((long)limit.rlim_max - 500) / 2;
        printf("only %ld connections: no more than %ld descriptors are allowed\n", n, (long)limit.rlim_max);
    }
    struct idle *c = calloc((size_t)n, sizeof *c);
    char byte = 0;
    routine_runtime_t *runtime = support_runtime(0);
    for (long i = 0; i < n; i++) {
        open_unix_stream(c[i].fd);
        c[i].routine = (routine_t){NULL, 0};
    }
    const long memory_before = support_resident();
    routine_stats_t stats;
    for (long i = 0; i < n; i++)
        c[i].routine = support_go_on(runtime, serve_idle, &c[i]);
    do {
        CHECK_EQ(routine_stats(runtime, &stats), 0);
        usleep(1000);
    } while (stats.parked != (uint64_t)n);
    const long each = (support_resident() - memory_before) / n;
    printf("%ld idle connections: %ld bytes each\n", n, each);
    usleep(1500000); /* what is looked at after a while has been looked at */
    const int64_t cpu = cpu_time();
    usleep(500000);
    const int64_t spent = cpu_time() - cpu;
    printf("in half a second of rest: %ld us of CPU time\n", (long)(spent / ROUTINE_US));
    if (!support_slow() && getenv("ROUTINES_TEST_EMULATOR") == NULL) {
        CHECK(each <= sysconf(_SC_PAGESIZE) + 1024); /* a page of stack, and what stands beside it */
        CHECK(spent < 100 * ROUTINE_MS);
    }
    for (int round = 0; round < 2; round++) { /* all of them work, in another order */
        for (long i = 0; i < n; i++)
            CHECK_EQ(plain_write(c[(i * 7919) % n].fd[1], "?", 1), 1);
        for (long i = 0; i < n; i++) {
            CHECK_EQ(read(c[i].fd[1], &byte, 1), 1);
            CHECK_EQ(byte, '?');
        }
    }
    for (long i = 0; i < n; i++)
        close(c[i].fd[1]);
    for (long i = 0; i < n; i++) {
        CHECK_EQ(routine_join(c[i].routine, NULL), 0);
        CHECK_EQ(routine_close(c[i].fd[0]), 0);
    }
    support_runtime_end(runtime);
    free(c);
    return 0;
}

TEST(ten_thousand_idle_connections)
{
    struct support_result result;
    watch("ten thousand idle connections", NULL, NULL);
    CASE_EXITS(&result, "many_idle", NULL, 0);
    print_message("%s", result.text);
}

/* ---- at rest ---- */

/* Waits that last, of all kinds, and nobody uses the CPU. */
static int at_rest(void)
{
    enum { MANY = 100 };
    static const char *const names[] = {"unix stream", "pipe", "tcp v4", "udp v4",
                                        "eventfd",     "pty",  "timerfd"};
    static struct idle w[MANY];
    for (int i = 0; i < MANY; i++) {
        kind_named(names[(size_t)i % COUNT_OF(names)])->open(w[i].fd);
        CHECK_EQ(go_detached(serve_idle, &w[i]), 0);
    }
    usleep(1500000);
    const int64_t before = cpu_time();
    usleep(500000);
    CHECK(support_slow() || cpu_time() - before < 50 * ROUTINE_MS);
    _exit(atomic_load(&support_failures) != 0 ? 99 : 0); /* they wait for ever */
}

TEST(at_rest_nobody_uses_the_cpu)
{
    struct support_result result;
    watch("at rest", NULL, NULL);
    CASE_EXITS(&result, "at_rest", NULL, 0);
}

static const struct support_case cases[] = {
    {"without_descriptors", without_descriptors}, {"many_idle", many_idle}, {"at_rest", at_rest}};

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    watch_begin(220);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_relays),
        cmocka_unit_test(events_while_nobody_waits),
        cmocka_unit_test(half_closed_connections),
        cmocka_unit_test(resets),
        cmocka_unit_test(a_peer_that_never_reads),
        cmocka_unit_test(several_readers_of_one_descriptor),
        cmocka_unit_test(several_acceptors_of_one_listener),
        cmocka_unit_test(accept_without_descriptors),
        cmocka_unit_test(a_storm_of_signals),
        cmocka_unit_test(everybody_gets_a_turn),
        cmocka_unit_test(timers_beside_waits),
        cmocka_unit_test(ten_thousand_idle_connections),
        cmocka_unit_test(at_rest_nobody_uses_the_cpu),
    };
    return cmocka_run_group_tests_name("io_stress", tests, NULL, NULL);
}
