/* SPDX-License-Identifier: MIT
 *
 * Tests of the calls of io.h, each against the call of POSIX that it is named after. There are two of every
 * descriptor, prepared in the same way; the plain call is made on one of them, which is non-blocking, and
 * the library's on the other, by a routine or a plain thread. Where the plain call says EAGAIN the library's
 * must wait, until the same is done to both that lets it go on; after that results, buffers, addresses and
 * what remains to be read must be equal; and the descriptor's flags are what they were.
 *
 * ctest: workers
 */
#include "io_support.h"

/* ---- arguments and results of a call ---- */

enum { ROOM = 64 };

struct box {
    unsigned char bytes[ROOM];
    size_t size;
    struct iovec parts[3];
    union any_address address;
    socklen_t address_size;
    struct msghdr message;
    unsigned char control[64];
    const union any_address *to; /* where sendto goes; NULL: connected */
    socklen_t to_size;
};

static struct iovec many_parts[IOV_MAX + 1];
static void *volatile nowhere; /* the compiler is not to see what is wrong */
static volatile int less_than_none = -1, too_many = IOV_MAX + 1;

static void box_init(struct box *b, bool for_writing)
{
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < ROOM; i++)
        b->bytes[i] = for_writing ? (unsigned char)('a' + i % 26) : 0xA5;
    b->size = 24;
    b->parts[0] = (struct iovec){b->bytes, 7};
    b->parts[1] = (struct iovec){b->bytes + 10, 0};
    b->parts[2] = (struct iovec){b->bytes + 20, 13};
    b->address_size = sizeof b->address;
    b->message = (struct msghdr){.msg_iov = b->parts, .msg_iovlen = 3};
    if (!for_writing) {
        b->message.msg_name = &b->address;
        b->message.msg_namelen = sizeof b->address;
        b->message.msg_control = b->control;
        b->message.msg_controllen = sizeof b->control;
    }
}

struct call {
    const char *name;
    unsigned flags;
    ssize_t (*raw)(int fd, struct box *b), (*lib)(int fd, struct box *b);
};

enum { READS = 1, WRITES = 2, NO_WAIT = 4 };

/* The same call, twice. */
#define BOTH(name, fn, ...)                                                                                  \
    static ssize_t raw_##name(int fd, struct box *b)                                                         \
    {                                                                                                        \
        (void)b;                                                                                             \
        return negative(fn(fd, __VA_ARGS__));                                                                \
    }                                                                                                        \
    static ssize_t lib_##name(int fd, struct box *b)                                                         \
    {                                                                                                        \
        (void)b;                                                                                             \
        return routine_##fn(fd, __VA_ARGS__);                                                                \
    }

BOTH(read, read, b->bytes, b->size)
BOTH(read_8, read, b->bytes, 8)
BOTH(read_4, read, b->bytes, 4)
BOTH(read_0, read, b->bytes, 0)
BOTH(read_nowhere, read, nowhere, b->size)
BOTH(readv, readv, b->parts, 3)
BOTH(readv_1, readv, b->parts + 2, 1)
BOTH(readv_empty, readv, b->parts + 1, 1)
BOTH(readv_0, readv, b->parts, 0)
BOTH(readv_minus, readv, b->parts, less_than_none)
BOTH(readv_many, readv, many_parts, too_many)
BOTH(pread, pread, b->bytes, b->size, 3)
BOTH(pread_minus, pread, b->bytes, b->size, -1)
BOTH(pread_0, pread, b->bytes, 0, 0)
BOTH(recv, recv, b->bytes, b->size, 0)
BOTH(recv_4, recv, b->bytes, 4, 0)
BOTH(recv_0, recv, b->bytes, 0, 0)
BOTH(recv_peek, recv, b->bytes, b->size, MSG_PEEK)
BOTH(recv_trunc, recv, b->bytes, 4, MSG_TRUNC)
BOTH(recv_dontwait, recv, b->bytes, b->size, MSG_DONTWAIT)
BOTH(recv_nowhere, recv, nowhere, b->size, 0)
BOTH(recvfrom, recvfrom, b->bytes, b->size, 0, &b->address.any, &b->address_size)
BOTH(recvfrom_nobody, recvfrom, b->bytes, b->size, 0, NULL, NULL)
BOTH(recvmsg, recvmsg, &b->message, 0)
BOTH(recvmsg_dontwait, recvmsg, &b->message, MSG_DONTWAIT)
BOTH(write, write, b->bytes, b->size)
BOTH(write_8, write, b->bytes, 8)
BOTH(write_4, write, b->bytes, 4)
BOTH(write_0, write, b->bytes, 0)
BOTH(write_nowhere, write, nowhere, b->size)
BOTH(writev, writev, b->parts, 3)
BOTH(writev_1, writev, b->parts + 2, 1)
BOTH(writev_0, writev, b->parts, 0)
BOTH(writev_minus, writev, b->parts, less_than_none)
BOTH(writev_many, writev, many_parts, too_many)
BOTH(pwrite, pwrite, b->bytes, b->size, 5)
BOTH(pwrite_minus, pwrite, b->bytes, b->size, -1)
BOTH(send, send, b->bytes, b->size, 0)
BOTH(send_0, send, b->bytes, 0, 0)
BOTH(send_nosignal, send, b->bytes, b->size, MSG_NOSIGNAL)
BOTH(send_more, send, b->bytes, b->size, MSG_EOR)
BOTH(send_dontwait, send, b->bytes, b->size, MSG_DONTWAIT)
BOTH(send_nowhere, send, nowhere, b->size, 0)
BOTH(sendto, sendto, b->bytes, b->size, 0, NULL, 0)
BOTH(sendmsg, sendmsg, &b->message, 0)
BOTH(sendmsg_dontwait, sendmsg, &b->message, MSG_DONTWAIT)

#define CALL(name, flags)                                                                                    \
    {                                                                                                        \
#name, (flags), raw_##name, lib_##name                                                               \
    }

static const struct call calls[] = {
    CALL(read, READS),
    CALL(read_8, READS),
    CALL(read_4, READS),
    CALL(read_0, READS),
    CALL(read_nowhere, READS),
    CALL(readv, READS),
    CALL(readv_1, READS),
    CALL(readv_empty, READS),
    CALL(readv_0, READS),
    CALL(readv_minus, READS),
    CALL(readv_many, READS),
    CALL(pread, READS),
    CALL(pread_minus, READS),
    CALL(pread_0, READS),
    CALL(recv, READS),
    CALL(recv_4, READS),
    CALL(recv_0, READS),
    CALL(recv_peek, READS),
    CALL(recv_trunc, READS),
    CALL(recv_dontwait, READS | NO_WAIT),
    CALL(recv_nowhere, READS),
    CALL(recvfrom, READS),
    CALL(recvfrom_nobody, READS),
    CALL(recvmsg, READS),
    CALL(recvmsg_dontwait, READS | NO_WAIT),
    CALL(write, WRITES),
    CALL(write_8, WRITES),
    CALL(write_4, WRITES),
    CALL(write_0, WRITES),
    CALL(write_nowhere, WRITES),
    CALL(writev, WRITES),
    CALL(writev_1, WRITES),
    CALL(writev_0, WRITES),
    CALL(writev_minus, WRITES),
    CALL(writev_many, WRITES),
    CALL(pwrite, WRITES),
    CALL(pwrite_minus, WRITES),
    CALL(send, WRITES),
    CALL(send_0, WRITES),
    CALL(send_nosignal, WRITES),
    CALL(send_more, WRITES),
    CALL(send_dontwait, WRITES | NO_WAIT),
    CALL(send_nowhere, WRITES),
    CALL(sendto, WRITES),
    CALL(sendmsg, WRITES),
    CALL(sendmsg_dontwait, WRITES | NO_WAIT),
};

/* Of two mistakes either may be told. */
static bool is_either_mistake(const struct call *c, ssize_t a, ssize_t b)
{
    return (strstr(c->name, "minus") || strstr(c->name, "many")) && (a == -EBADF || a == -EINVAL) &&
           (b == -EBADF || b == -EINVAL);
}

/* By the plain call, which may raise SIGPIPE. */
static ssize_t call_raw(const struct call *c, int fd, struct box *b)
{
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    const ssize_t rc = c->raw(fd, b);
    if (rc == -EPIPE)
        sigtimedwait(&pipe, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* ---- moments ---- */

/* What has happened to the descriptor before the call. */
struct moment {
    const char *name;
    unsigned needs;                                   /* flags of the kind */
    unsigned not_with;                                /* and those it must not have */
    bool (*prepare)(const struct kind *k, int fd[2]); /* true: it may yet get better */
    bool wrong_end;
};

static bool prepare_nothing(const struct kind *k, int fd[2])
{
    (void)fd;
    return k->flags & (WAITS | FILLS);
}

static bool prepare_data(const struct kind *k, int fd[2])
{
    put(k, fd[1], "0123456789", 10);
    if (k->flags & WAITS)
        await_event(fd[0], POLLIN);
    return true;
}

static bool prepare_more_data(const struct kind *k, int fd[2])
{
    prepare_data(k, fd);
    put(k, fd[1], "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ", 52);
    put(k, fd[1], "K", 1);
    if (k->flags & STREAM) /* some take their time */
        for (int n = 0; n < 63; routine_yield())
            FD(ioctl(fd[0], FIONREAD, &n));
    return true;
}

/* One end is closed (the one that is read from for calls that write); see close_other. */
static void close_other(int fd[2], int other)
{
    close(fd[other]);
    fd[other] = -1;
}

static bool prepare_no_reader(const struct kind *k, int fd[2])
{
    close_other(fd, 0);
    if (k->flags & TCP)
        await_event(fd[1], POLLIN);
    return false;
}

static bool prepare_no_writer(const struct kind *k, int fd[2])
{
    close_other(fd, 1);
    if (k->flags & TCP)
        await_event(fd[0], POLLIN);
    return false;
}

static bool prepare_last_words(const struct kind *k, int fd[2])
{
    prepare_data(k, fd);
    return prepare_no_writer(k, fd);
}

static bool prepare_reset_by_reader(const struct kind *k, int fd[2])
{
    (void)k;
    close_by_reset(fd[0]);
    fd[0] = -1;
    await_event(fd[1], POLLIN);
    return false;
}

static bool prepare_reset_by_writer(const struct kind *k, int fd[2])
{
    (void)k;
    close_by_reset(fd[1]);
    fd[1] = -1;
    await_event(fd[0], POLLIN);
    return false;
}

static bool prepare_shut_in(const struct kind *k, int fd[2])
{
    (void)k;
    shutdown(fd[0], SHUT_RD);
    return false;
}

static bool prepare_shut_out(const struct kind *k, int fd[2])
{
    (void)k;
    shutdown(fd[1], SHUT_WR);
    return false;
}

static bool prepare_reader_shut(const struct kind *k, int fd[2])
{
    (void)k;
    shutdown(fd[0], SHUT_RD);
    return false;
}

static bool prepare_writer_shut(const struct kind *k, int fd[2])
{
    shutdown(fd[1], SHUT_WR);
    if (k->flags & TCP)
        await_event(fd[0], POLLIN);
    return false;
}

static bool prepare_full(const struct kind *k, int fd[2])
{
    fill(k, fd[1]);
    return true;
}

static const struct moment before_reading[] = {
    {"nothing there", 0, 0, prepare_nothing, false},
    {"data there", WAITS, 0, prepare_data, false},
    {"data in a file", 0, WAITS, prepare_nothing, false},
    {"several pieces of data", WAITS, NUMBER, prepare_more_data, false},
    {"end", ENDS, 0, prepare_no_writer, false},
    {"data, then the end", ENDS, 0, prepare_last_words, false},
    {"half closed by the other", SOCKET | ENDS, 0, prepare_writer_shut, false},
    {"half closed by itself", SOCKET | ENDS, 0, prepare_shut_in, false},
    {"the other's gone", WAITS, ENDS | NUMBER, prepare_no_writer, false},
    {"reset", TCP, 0, prepare_reset_by_writer, false},
    {"the end for writing", 0, WAITS | TWO_WAYS, prepare_nothing, true},
    {"the end of a pipe for writing", STREAM | WAITS, TWO_WAYS, prepare_nothing, true},
};

static const struct moment before_writing[] = {
    {"room", 0, 0, prepare_nothing, false},
    {"full", FILLS, 0, prepare_full, false},
    {"nobody reads", WAITS, NUMBER, prepare_no_reader, false},
    {"half closed by itself", SOCKET | ENDS, 0, prepare_shut_out, false},
    {"half closed by the other", SOCKET | ENDS, 0, prepare_reader_shut, false},
    {"reset", TCP, 0, prepare_reset_by_reader, false},
    {"the end for reading", STREAM | WAITS, TWO_WAYS, prepare_nothing, true},
};

/* ---- one of everything ---- */

struct lib_call {
    const struct call *call;
    int fd;
    struct box box;
};

static ssize_t call_lib(void *arg)
{
    struct lib_call *l = arg;
    return l->call->lib(l->fd, &l->box);
}

enum { TAIL = 64 };

struct trial {
    const struct kind *kind;
    const struct moment *moment;
    const struct call *call;
    routine_runtime_t *runtime; /* NULL: a plain thread makes the call */
    bool nonblocking;
    int64_t limit;
};

#define TRIAL_CHECK(t, a, b)                                                                                 \
    do {                                                                                                     \
        const long long trial_a = (long long)(a), trial_b = (long long)(b);                                  \
        if (trial_a != trial_b)                                                                              \
            support_fail(__FILE__, __LINE__, "%s, %s, %s%s%s: " #a " is %lld, and " #b " %lld",              \
                         (t)->kind->name, (t)->moment->name, (t)->call->name,                                \
                         (t)->nonblocking ? ", non-blocking" : "", (t)->runtime ? "" : ", on a thread",      \
                         trial_a, trial_b);                                                                  \
    } while (0)

static void compare_boxes(const struct trial *t, const struct box *a, const struct box *b, ssize_t rc)
{
    if (memcmp(a->bytes, b->bytes, ROOM) != 0)
        TRIAL_CHECK(t, memcmp(a->bytes, b->bytes, ROOM), 0);
    if (rc < 0)
        return;
    TRIAL_CHECK(t, b->address_size, a->address_size);
    TRIAL_CHECK(t, b->address.any.sa_family, a->address.any.sa_family);
    TRIAL_CHECK(t, b->message.msg_namelen, a->message.msg_namelen);
    TRIAL_CHECK(t, b->message.msg_controllen, a->message.msg_controllen);
    TRIAL_CHECK(t, b->message.msg_flags, a->message.msg_flags);
    TRIAL_CHECK(t, b->message.msg_iov == b->parts && b->message.msg_iovlen == 3, true);
    TRIAL_CHECK(t, b->parts[0].iov_len + b->parts[1].iov_len + b->parts[2].iov_len, 20);
}

/* Does to one of the descriptors what its call waits for. */
static void relieve(const struct trial *t, int fd[2], unsigned char tail[TAIL])
{
    if (t->call->flags & READS)
        put(t->kind, fd[1], "0123456789", 10);
    else
        drain(fd[0], tail, TAIL);
}

/* The plain call, until it does not say EAGAIN. */
static ssize_t insist(const struct trial *t, int fd[2], int at, struct box *b, unsigned char tail[TAIL])
{
    ssize_t rc;
    for (int64_t end = routine_now() + PATIENCE;;) {
        rc = call_raw(t->call, fd[at], b);
        if (rc != -EAGAIN || routine_now() > end)
            return rc;
        if (t->call->flags & WRITES)
            relieve(t, fd, tail);
        routine_yield();
    }
}

static void run_trial(const struct trial *t)
{
    const bool reads = t->call->flags & READS;
    const int at = reads != t->moment->wrong_end ? 0 : 1;
    int a[2], b[2];
    unsigned char tail_a[TAIL] = {0}, tail_b[TAIL] = {0};
    struct box box;
    struct lib_call lib = {.call = t->call};
    struct job job;

    watch(t->kind->name, t->moment->name, t->call->name);
    if (!t->kind->open(a))
        return;
    if (!t->kind->open(b))
        abort();
    if (t->moment->prepare == prepare_nothing && reads && t->kind->open == open_file)
        for (int i = 0; i < 2; i++)
            CHECK_EQ(pwrite((i ? b : a)[1], "0123456789abcdefghijklmnopqrstuvwxyz", 36, 0), 36);
    const bool hope = t->moment->prepare(t->kind, a);
    t->moment->prepare(t->kind, b);
    if (t->kind->open != open_o_path) { /* has no flags to set */
        set_nonblocking(a[at], true);
        set_nonblocking(b[at], t->nonblocking);
    }
    const int flags = fcntl(b[at], F_GETFL);
    /* there may be a little more room after a while */
    const bool lazily_full = (t->kind->flags & LAZY) && t->moment->prepare == prepare_full;

    box_init(&box, !reads);
    box_init(&lib.box, !reads);
    lib.fd = b[at];
    ssize_t expected = call_raw(t->call, a[at], &box);
    const bool waits = expected == -EAGAIN && !(t->call->flags & NO_WAIT);
    if (waits && !hope)
        expected = -ETIMEDOUT;
    job_start(&job, t->runtime, call_lib, &lib, waits && !hope ? 2 * ROUTINE_MS : t->limit);
    if (waits && hope) {
        if (!lazily_full)
            TRIAL_CHECK(t, job_await_waiting(&job), true);
        relieve(t, a, tail_a);
        relieve(t, b, tail_b);
        expected = insist(t, a, at, &box, tail_a);
    }
    while (!atomic_load(&job.done) && !reads && hope) {
        if (waits || lazily_full)
            relieve(t, b, tail_b);
        routine_yield();
    }
    const ssize_t rc = job_end(&job);
    if (!is_either_mistake(t->call, rc, expected))
        TRIAL_CHECK(t, rc, expected);
    compare_boxes(t, &box, &lib.box, expected);
    TRIAL_CHECK(t, fcntl(b[at], F_GETFL), flags);

    if (a[0] >= 0 && (t->kind->flags & WAITS) && (t->kind->open != open_timerfd)) {
        size_t left_a = drain(a[0], tail_a, TAIL), left_b = drain(b[0], tail_b, TAIL);
        if (reads)
            TRIAL_CHECK(t, left_b, left_a);
        for (int64_t end = routine_now() + 5 * ROUTINE_S; /* what was written may still be under way */
             !reads && memcmp(tail_a, tail_b, TAIL) != 0 && routine_now() < end; routine_yield()) {
            left_a += drain(a[0], tail_a, TAIL);
            left_b += drain(b[0], tail_b, TAIL);
        }
        if (memcmp(tail_a, tail_b, TAIL) != 0)
            TRIAL_CHECK(t, memcmp(tail_a, tail_b, TAIL), 0);
    } else if (t->kind->open == open_file) {
        unsigned char file_a[100] = {0}, file_b[100] = {0};
        TRIAL_CHECK(t, pread(b[0], file_b, 100, 0), pread(a[0], file_a, 100, 0));
        TRIAL_CHECK(t, memcmp(file_a, file_b, 100), 0);
        TRIAL_CHECK(t, lseek(b[at], 0, SEEK_CUR), lseek(a[at], 0, SEEK_CUR));
    }
    routine_fd_forget(b[at]); /* it is closed by others */
    close_both(a);
    close_both(b);
}

/* ROUTINES_TEST_OP: only those whose names contain it. */
static bool is_wanted(const char *name)
{
    const char *wanted = getenv("ROUTINES_TEST_OP");
    return wanted == NULL || strstr(name, wanted) != NULL;
}

/* What nobody cares about. */
static bool is_moot(const struct kind *k, const struct moment *m, const struct call *c)
{
    const bool is_directory = k->open == open_directory,
               waits = m->prepare == prepare_nothing || m->prepare == prepare_full;
    /* the kernel has one rule for reading nothing by read, and another for readv */
    if (((k->flags & NUMBER) || is_directory) &&
        (strcmp(c->name, "readv_empty") == 0 || strcmp(c->name, "pread_0") == 0))
        return true;
    /* a mistake about the size may be told only when there is something to read, or room */
    return (k->flags & NUMBER) && waits && strcmp(c->name, "read") != 0 && strcmp(c->name, "read_8") != 0 &&
           strcmp(c->name, "write_8") != 0;
}

static void run_trials(unsigned direction, const struct moment *moments, size_t count)
{
    routine_runtime_t *runtime = support_runtime(0);
    unsigned number = 0;
    for (size_t k = 0; k < COUNT_OF(kinds); k++)
        for (size_t m = 0; m < count; m++)
            for (size_t c = 0; c < COUNT_OF(calls); c++)
                for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
                    if ((kinds[k].flags & moments[m].needs) != moments[m].needs ||
                        (kinds[k].flags & moments[m].not_with) || !(calls[c].flags & direction) ||
                        ((kinds[k].flags & LAZY) && (calls[c].flags & NO_WAIT) &&
                         moments[m].prepare == prepare_full) ||
                        (!is_wanted(kinds[k].name) && !is_wanted(calls[c].name)))
                        continue;
                    if (is_moot(&kinds[k], &moments[m], &calls[c]))
                        continue;
                    number++;
                    if (support_slow() && number % 5 != 0)
                        continue;
                    run_trial(&(struct trial){&kinds[k], &moments[m], &calls[c],
                                              number % 4 == 3 ? NULL : runtime, nonblocking != 0,
                                              number / 4 % 2 ? ROUTINE_NEVER : PATIENCE});
                }
    CHECK(number > 100 || getenv("ROUTINES_TEST_OP") != NULL);
    support_runtime_end(runtime);
}

TEST(every_call_that_reads)
{
    run_trials(READS, before_reading, COUNT_OF(before_reading));
}

TEST(every_call_that_writes)
{
    run_trials(WRITES, before_writing, COUNT_OF(before_writing));
}

/* ---- what is no descriptor ---- */

static void each_on_a_bad_one(int fd)
{
    struct box b;
    struct msghdr message;
    struct sockaddr_in to = {.sin_family = AF_INET};
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        box_init(&b, calls[i].flags & WRITES);
        watch("a bad descriptor", calls[i].name, NULL);
        const ssize_t rc = calls[i].lib(fd, &b), expected = call_raw(&calls[i], fd, &b);
        if (rc != expected && !is_either_mistake(&calls[i], rc, expected))
            support_fail(__FILE__, __LINE__, "%s of %d: %zd, not %zd", calls[i].name, fd, rc, expected);
    }
    memset(&message, 0, sizeof message);
    CHECK_EQ(routine_accept(fd, NULL, NULL), -EBADF);
    CHECK_EQ(routine_connect(fd, (struct sockaddr *)&to, sizeof to), -EBADF);
    CHECK_EQ(routine_fsync(fd), -EBADF);
    CHECK_EQ(routine_close(fd), -EBADF);
    CHECK_EQ(routine_fd_forget(fd), fd < 0 ? -EBADF : 0);
    CHECK_EQ(routine_read_full(fd, &b, 10, NULL), -EBADF);
    CHECK_EQ(routine_write_all(fd, &b, 10, NULL), -EBADF);
}

TEST_EVERYWHERE(what_is_no_descriptor)
{
    each_on_a_bad_one(-1);
    each_on_a_bad_one(INT_MIN);
    each_on_a_bad_one(INT_MAX);
    each_on_a_bad_one(1 << 24);
}

/* One that was open once: nobody else gets a number as high. */
TEST_EVERYWHERE(what_is_none_any_more)
{
    static _Atomic int number = 5000;
    const int fd = FD(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, atomic_fetch_add(&number, 10)));
    char byte;
    CHECK_EQ(routine_pread(fd, &byte, 0, 0), routine_pread(STDIN_FILENO, &byte, 0, 0));
    CHECK_EQ(routine_close(fd), 0);
    each_on_a_bad_one(fd);
}

static void *use_high_number(void *arg)
{
    int fd[2], high[2];
    char byte = 0;
    (void)arg;
    open_unix_stream(fd);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 2; i++) {
        high[i] = FD(fcntl(fd[i], F_DUPFD_CLOEXEC, limit.rlim_cur > 10 ? (int)limit.rlim_cur - 5 : 3));
        close(fd[i]);
    }
    CHECK_EQ(routine_write(high[0], "x", 1), 1);
    CHECK_EQ(routine_read(high[1], &byte, 1), 1);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_read(high[1], &byte, 1), -ETIMEDOUT);
    }
    CHECK_EQ(routine_close(high[0]), 0);
    CHECK_EQ(routine_read(high[1], &byte, 1), 0);
    CHECK_EQ(routine_close(high[1]), 0);
    return NULL;
}

TEST(the_highest_number)
{
    support_in_routine(use_high_number, NULL);
    use_high_number(NULL);
}

/* ---- all of it ---- */

struct transfer {
    const struct kind *kind;
    int fd[2];
    size_t size;
    int how;
    unsigned char *data, *got;
    routine_runtime_t *runtime;
};

static ssize_t write_much(void *arg)
{
    struct transfer *t = arg;
    struct iovec parts[200];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = COUNT_OF(parts)};
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(parts); i++) { /* of all sizes, some empty */
        size_t n = i % 7 == 3 ? 0 : (i * i * 37 + 1) % (t->size / 100);
        if (n > t->size - at || i == COUNT_OF(parts) - 1)
            n = t->size - at;
        parts[i] = (struct iovec){t->data + at, n};
        at += n;
    }
    switch (t->how) {
    case 0:
        return routine_write(t->fd[1], t->data, t->size);
    case 1: {
        const ssize_t rc = routine_writev(t->fd[1], parts, COUNT_OF(parts));
        for (size_t i = 0, sum = 0; i < COUNT_OF(parts); sum += parts[i++].iov_len)
            CHECK(parts[i].iov_base == t->data + sum); /* the caller's are not touched */
        return rc;
    }
    case 2:
        return routine_send(t->fd[1], t->data, t->size, 0);
    case 3:
        return routine_sendto(t->fd[1], t->data, t->size, 0, NULL, 0);
    case 4: {
        const ssize_t rc = routine_sendmsg(t->fd[1], &message, 0);
        CHECK(message.msg_iov == parts && message.msg_iovlen == COUNT_OF(parts));
        return rc;
    }
    default: {
        size_t done = 0;
        const int rc = routine_write_all(t->fd[1], t->data, t->size, &done);
        return rc != 0 ? rc : (ssize_t)done;
    }
    }
}

/* Who writes comes back when all is written, however slowly it is read. */
static void write_all_of_it(struct transfer *t, int64_t limit)
{
    struct job job;
    size_t got = 0;
    uint64_t random = 5;
    job_start(&job, t->runtime, write_much, t, limit);
    /* a terminal that blocks may keep its thread instead: it has room, but not enough */
    if (t->kind->open != open_pty || fcntl(t->fd[1], F_GETFL) & O_NONBLOCK)
        CHECK(job_await_waiting(&job));
    while (got < t->size) {
        const size_t most = 1 + support_random(&random) % 40000;
        const ssize_t n = try_read(t->fd[0], t->got + got, most < t->size - got ? most : t->size - got);
        if (n > 0)
            got += (size_t)n;
        else if (n != -EAGAIN)
            break;
        else
            usleep(10);
    }
    CHECK_EQ(job_end(&job), t->size);
    CHECK_EQ(got, t->size);
    CHECK(memcmp(t->data, t->got, t->size) == 0);
}

TEST(who_writes_comes_back_when_all_is_written)
{
    static const char *const names[] = {"unix stream", "tcp v4", "pipe", "fifo", "pty"};
    struct transfer t = {.size = 400000, .runtime = support_runtime(0)};
    t.data = malloc(t.size);
    t.got = malloc(t.size);
    if (t.data == NULL || t.got == NULL)
        abort();
    for (size_t i = 0; i < t.size; i++)
        t.data[i] = (unsigned char)(i * 7 + (i >> 8) * 13);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (t.how = 0; t.how < 6; t.how++)
            for (int nonblocking = 0; nonblocking < 2; nonblocking++)
                for (int thread = 0; thread < 2; thread++) {
                    t.kind = kind_named(names[i]);
                    watch("writing all", names[i], NULL);
                    if (t.how >= 2 && t.how <= 4 && !(t.kind->flags & SOCKET))
                        continue;
                    if (!t.kind->open(t.fd))
                        continue;
                    if (t.kind->open == open_pty)
                        t.size = 60000;
                    set_nonblocking(t.fd[1], nonblocking);
                    const int flags = fcntl(t.fd[1], F_GETFL);
                    routine_runtime_t *runtime = t.runtime;
                    if (thread)
                        t.runtime = NULL;
                    write_all_of_it(&t, thread ? ROUTINE_NEVER : PATIENCE);
                    t.runtime = runtime;
                    CHECK_EQ(fcntl(t.fd[1], F_GETFL), flags);
                    CHECK_EQ(routine_close(t.fd[1]), 0);
                    close(t.fd[0]);
                    t.size = 400000;
                }
    free(t.data);
    free(t.got);
    support_runtime_end(t.runtime);
}

struct full_read {
    int fd, how;
    unsigned char bytes[30];
};

static ssize_t read_all_of_it(void *arg)
{
    struct full_read *r = arg;
    struct iovec parts[2] = {{r->bytes, 10}, {r->bytes + 10, 20}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    size_t done = 0;
    int rc;
    switch (r->how) {
    case 0:
        return routine_recv(r->fd, r->bytes, sizeof r->bytes, MSG_WAITALL);
    case 1:
        return routine_recvfrom(r->fd, r->bytes, sizeof r->bytes, MSG_WAITALL, NULL, NULL);
    case 2:
        return routine_recvmsg(r->fd, &message, MSG_WAITALL);
    default:
        rc = routine_read_full(r->fd, r->bytes, sizeof r->bytes, &done);
        CHECK_EQ(rc, done == sizeof r->bytes ? 0 : -ENODATA);
        return (ssize_t)done;
    }
}

/* MSG_WAITALL means it: as on a blocking socket. And read_full. */
TEST(who_reads_all_of_it)
{
    routine_runtime_t *runtime = support_runtime(0);
    static const char *const names[] = {"unix stream", "tcp v4"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (int variant = 0; variant < 4 * 2 * 2 * 2; variant++) {
            const bool thread = variant >> 2 & 1, nonblocking = variant >> 3 & 1, ends = variant >> 4 & 1;
            struct full_read r = {.how = variant % 4};
            struct job job;
            int fd[2];
            const struct kind *k = kind_named(names[i]);
            watch("reading all", k->name, NULL);
            k->open(fd);
            r.fd = fd[0];
            set_nonblocking(fd[0], nonblocking);
            job_start(&job, thread ? NULL : runtime, read_all_of_it, &r, PATIENCE);
            for (int piece = 0; piece < 2 + !ends; piece++) {
                CHECK(job_await_waiting(&job));
                put(k, fd[1], "0123456789", 10);
                usleep(300);
            }
            if (ends)
                close(fd[1]);
            CHECK_EQ(job_end(&job), ends ? 20 : 30);
            CHECK(memcmp(r.bytes, "012345678901234567890123456789", ends ? 20 : 30) == 0);
            CHECK_EQ(routine_close(fd[0]), 0);
            if (!ends)
                close(fd[1]);
        }
    support_runtime_end(runtime);
}

static void *what_never_waits(void *arg)
{
    int fd[2];
    unsigned char bytes[20], control[100];
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    routine_with_timeout(PATIENCE);
    (void)arg;
    open_udp4(fd);
    watch("the queue of errors", NULL, NULL);
    CHECK_EQ(routine_recvmsg(fd[0], &message, MSG_ERRQUEUE), -EAGAIN); /* also of a blocking socket */
    CHECK_EQ(routine_recv(fd[0], bytes, sizeof bytes, MSG_DONTWAIT), -EAGAIN);
    CHECK_EQ(routine_recvfrom(fd[0], bytes, sizeof bytes, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
    close_both(fd);
    return NULL;
}

TEST(calls_that_never_wait)
{
    support_in_routine(what_never_waits, NULL);
    what_never_waits(NULL);
}

/* ---- messages ---- */

/* A descriptor sent over a socket arrives, and works. */
static void *send_a_descriptor(void *arg)
{
    int fd[2], carried[2];
    char byte = 'b', got = 0;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    (void)arg;
    open_unix_stream(fd);
    open_pipe(carried);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    *c = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &carried[1], sizeof(int));
    CHECK_EQ(routine_sendmsg(fd[1], &message, 0), 1);
    memset(control, 0, sizeof control);
    message.msg_controllen = sizeof control;
    part.iov_base = &got;
    CHECK_EQ(routine_recvmsg(fd[0], &message, MSG_CMSG_CLOEXEC), 1);
    CHECK_EQ(got, 'b');
    c = CMSG_FIRSTHDR(&message);
    int arrived = -1;
    CHECK(c != NULL && c->cmsg_type == SCM_RIGHTS);
    if (c != NULL)
        memcpy(&arrived, CMSG_DATA(c), sizeof arrived);
    CHECK_EQ(routine_write(arrived, "through", 7), 7);
    char text[10];
    CHECK_EQ(routine_read(carried[0], text, sizeof text), 7);
    CHECK_EQ(routine_close(arrived), 0);
    CHECK_EQ(routine_close(carried[1]), 0);
    CHECK_EQ(routine_read(carried[0], text, sizeof text), 0);
    CHECK_EQ(routine_close(carried[0]), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(routine_close(fd[i]), 0);
    return NULL;
}

TEST(a_descriptor_is_sent)
{
    support_in_routine(send_a_descriptor, NULL);
    send_a_descriptor(NULL);
}

/* Between sockets that are not connected: addresses both ways, and boundaries. */
static void *send_datagrams(void *arg)
{
    for (int family = AF_INET; family != 0; family = family == AF_INET ? AF_INET6 : 0) {
        union any_address a[2], from;
        socklen_t size[2], from_size = sizeof from;
        int fd[2];
        char text[10];
        (void)arg;
        for (int i = 0; i < 2; i++)
            if ((fd[i] = bound(family, SOCK_DGRAM, &a[i], &size[i])) < 0)
                return NULL;
        for (int i = 0; i < 3; i++)
            CHECK_EQ(routine_sendto(fd[0], "12345678", (size_t)(4 - i * 2), 0, &a[1].any, size[1]),
                     4 - i * 2);
        for (int i = 0; i < 3; i++) {
            from_size = sizeof from;
            CHECK_EQ(routine_recvfrom(fd[1], text, sizeof text, 0, &from.any, &from_size), 4 - i * 2);
            CHECK_EQ(from_size, size[0]);
            CHECK(memcmp(&from, &a[0], size[0]) == 0);
        }
        from_size = 3; /* cut short, and told how long it would be */
        CHECK_EQ(routine_sendto(fd[0], "x", 1, 0, &a[1].any, size[1]), 1);
        CHECK_EQ(routine_recvfrom(fd[1], text, sizeof text, 0, &from.any, &from_size), 1);
        CHECK_EQ(from_size, size[0]);
        char *large = calloc(1, 70000);
        CHECK_EQ(routine_sendto(fd[0], large, 70000, 0, &a[1].any, size[1]), -EMSGSIZE);
        free(large);
        CHECK_EQ(routine_send(fd[0], "x", 1, 0), -EDESTADDRREQ);
        routine_close(fd[0]);
        routine_close(fd[1]);
    }
    return NULL;
}

TEST(datagrams_with_addresses)
{
    support_in_routine(send_datagrams, NULL);
    send_datagrams(NULL);
}

struct dgram {
    int fd;
    union any_address to;
    socklen_t to_size;
};

static ssize_t send_dgram(void *arg)
{
    struct dgram *d = arg;
    return routine_sendto(d->fd, "late", 4, 0, &d->to.any, d->to_size);
}

/* A Unix datagram to a receiver whose queue is full, from a socket that is not connected to it: the system
 * has no event for that, poll(2) says writable all the time; it gets through nevertheless, and meanwhile
 * nobody spins. */
TEST(a_datagram_to_a_full_queue)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int thread = 0; thread < 2; thread++) {
        struct dgram d = {.to_size = sizeof d.to.un};
        struct job job;
        char path[128], text[8];
        int n = 0;
        watch("a datagram to a full queue", thread ? "from a thread" : "from a routine", NULL);
        own_path(path, sizeof path);
        d.to.un.sun_family = AF_UNIX;
        strcpy(d.to.un.sun_path, path);
        const int receiver = FD(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        FD(bind(receiver, &d.to.any, d.to_size));
        d.fd = FD(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        while (sendto(d.fd, "soon", 4, MSG_DONTWAIT, &d.to.any, d.to_size) == 4)
            n++;
        job_start(&job, thread ? NULL : runtime, send_dgram, &d, 30 * ROUTINE_S);
        struct timespec before, after;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        usleep(400000);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        CHECK(!atomic_load(&job.done));
        CHECK(support_slow() ||
              (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec <
                  200 * ROUTINE_MS);
        for (int i = 0; i < n; i++)
            CHECK_EQ(recv(receiver, text, sizeof text, MSG_DONTWAIT), 4);
        CHECK_EQ(job_end(&job), 4);
        CHECK_EQ(recv(receiver, text, sizeof text, MSG_DONTWAIT), 4);
        CHECK_EQ(routine_close(d.fd), 0);
        close(receiver);
        unlink(path);
    }
    support_runtime_end(runtime);
}

/* ---- files ---- */

static void *use_a_file(void *arg)
{
    char path[128], text[40] = "";
    struct iovec parts[2] = {{text, 3}, {text + 3, 20}};
    (void)arg;
    own_path(path, sizeof path);
    const int fd = routine_open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    struct stat st;
    FD(fstat(fd, &st));
    CHECK_EQ(st.st_mode & 0700, 0600);
    CHECK_EQ(routine_write(fd, "0123456789", 10), 10);
    CHECK_EQ(routine_pwrite(fd, "AB", 2, 3), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10);
    CHECK_EQ(routine_pread(fd, text, sizeof text, 2), 8);
    CHECK(memcmp(text, "2AB56789", 8) == 0);
    CHECK_EQ(routine_read(fd, text, sizeof text), 0);
    CHECK_EQ(routine_pread(fd, text, sizeof text, 10000), 0);
    CHECK_EQ(lseek(fd, 1, SEEK_SET), 1);
    CHECK_EQ(routine_readv(fd, parts, 2), 9);
    CHECK(memcmp(text, "12AB56789", 9) == 0);
    CHECK_EQ(routine_pwrite(fd, "end", 3, 100000), 3);
    CHECK_EQ(routine_pread(fd, text, 4, 99999), 4);
    CHECK(memcmp(text, "\0end", 4) == 0);
    CHECK_EQ(routine_fsync(fd), 0);
    const int again = routine_open(path, O_WRONLY | O_APPEND);
    CHECK(again >= 0);
    CHECK_EQ(routine_write(again, "+", 1), 1);
    CHECK_EQ(routine_pread(fd, text, 4, 100002), 2);
    CHECK(memcmp(text, "d+", 2) == 0);
    CHECK_EQ(routine_read(again, text, 1), -EBADF);
    CHECK_EQ(routine_open(path, O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
    CHECK_EQ(routine_close(again), 0);
    CHECK_EQ(routine_close(fd), 0);
    CHECK_EQ(routine_close(fd), -EBADF);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(routine_open(path, O_RDONLY), -ENOENT);
    {
        routine_with_timeout(0);
        CHECK_EQ(routine_open("/dev/null", O_RDONLY), -ETIMEDOUT);
    }
    return NULL;
}

TEST(files)
{
    use_a_file(NULL);
    support_in_routine(use_a_file, NULL);
}

/* What is in no cache, by many at once: from the pool. */
static void *read_blocks(void *arg)
{
    const int fd = *(int *)arg;
    uint64_t random = (uint64_t)(uintptr_t)&fd | 1;
    for (int i = 0; i < 100; i++) {
        const uint64_t block = support_random(&random) % 256;
        unsigned char bytes[4096], expected[4096];
        element_write(expected, sizeof expected, block);
        if (i % 10 == 0)
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        CHECK_EQ(routine_pread(fd, bytes, sizeof bytes, (off_t)block * 4096), 4096);
        CHECK(memcmp(bytes, expected, sizeof bytes) == 0);
    }
    return NULL;
}

TEST(files_that_are_in_no_cache)
{
    int fd[2];
    struct actor a[8];
    unsigned char bytes[4096];
    open_file(fd);
    for (uint64_t i = 0; i < 256; i++) {
        element_write(bytes, sizeof bytes, i);
        CHECK_EQ(routine_write(fd[1], bytes, sizeof bytes), 4096);
    }
    CHECK_EQ(routine_fsync(fd[1]), 0);
    for (int i = 0; i < 8; i++)
        a[i] = act(i == 0, read_blocks, &fd[0]);
    for (int i = 0; i < 8; i++)
        act_end(a[i]);
    close_both(fd);
}

/* ---- accept ---- */

struct accepting {
    int fd;
    union any_address address;
    socklen_t size;
    bool wants_address;
};

static ssize_t accept_one(void *arg)
{
    struct accepting *a = arg;
    return a->wants_address ? routine_accept(a->fd, &a->address.any, &a->size)
                            : routine_accept(a->fd, NULL, NULL);
}

static int unix_listener(union any_address *a, socklen_t *size, int backlog)
{
    const int fd = FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    memset(a, 0, sizeof *a);
    *size = sizeof a->un;
    a->un.sun_family = AF_UNIX;
    own_path(a->un.sun_path, sizeof a->un.sun_path);
    FD(bind(fd, &a->any, *size));
    FD(listen(fd, backlog));
    return fd;
}

TEST(accept_waits_or_not)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 3 * 32; i++) {
        const int family = families[i / 32];
        const bool nonblocking = i & 1, thread = i >> 1 & 1, waits = i >> 2 & 1;
        union any_address to, own;
        socklen_t size, own_size = sizeof own;
        struct accepting a = {.wants_address = i >> 3 & 1, .size = i >> 4 & 1 ? 4 : sizeof a.address};
        const socklen_t room = a.size;
        struct job job;
        char byte;
        a.fd = family == AF_UNIX ? unix_listener(&to, &size, 5) : listener(family, &to, &size, 5);
        if (a.fd < 0)
            continue;
        watch("accept", thread ? "thread" : "routine", waits ? "waits" : "at once");
        set_nonblocking(a.fd, nonblocking);
        const int client = FD(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (!waits)
            FD(connect(client, &to.any, size));
        job_start(&job, thread ? NULL : runtime, accept_one, &a, i % 5 ? ROUTINE_NEVER : PATIENCE);
        if (waits) {
            CHECK(job_await_waiting(&job));
            FD(connect(client, &to.any, size));
        }
        const int fd = (int)job_end(&job);
        CHECK(fd >= 0);
        CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
        FD(getsockname(client, &own.any, &own_size));
        if (a.wants_address) {
            CHECK_EQ(a.size, own_size);
            CHECK(memcmp(&a.address, &own, room < own_size ? room : own_size) == 0);
        }
        CHECK_EQ(routine_write(client, "x", 1), 1);
        CHECK_EQ(routine_read(fd, &byte, 1), 1);
        CHECK_EQ(routine_close(client), 0);
        CHECK_EQ(routine_read(fd, &byte, 1), 0);
        CHECK_EQ(routine_close(fd), 0);
        CHECK_EQ(routine_close(a.fd), 0);
        if (family == AF_UNIX)
            unlink(to.un.sun_path);
    }
    support_runtime_end(runtime);
}

static void *accept_what_is_none(void *arg)
{
    int fd[2];
    (void)arg;
    open_unix_stream(fd);
    CHECK_EQ(routine_accept(fd[0], NULL, NULL), -EINVAL);
    close_both(fd);
    routine_fd_forget(fd[0]);
    open_udp4(fd);
    CHECK_EQ(routine_accept(fd[0], NULL, NULL), -EOPNOTSUPP);
    close_both(fd);
    routine_fd_forget(fd[0]);
    open_pipe(fd);
    CHECK_EQ(routine_accept(fd[0], NULL, NULL), -ENOTSOCK);
    CHECK_EQ(fcntl(fd[0], F_GETFL) & O_NONBLOCK, 0); /* not for a mistake */
    close_both(fd);
    routine_fd_forget(fd[0]);
    return NULL;
}

TEST(accept_of_what_does_not_listen)
{
    accept_what_is_none(NULL);
    support_in_routine(accept_what_is_none, NULL);
}

/* ---- connect ---- */

struct connecting {
    int fd;
    union any_address to;
    socklen_t size;
};

static ssize_t connect_one(void *arg)
{
    struct connecting *c = arg;
    return routine_connect(c->fd, &c->to.any, c->size);
}

/* On the calling routine or thread. */
static void *connect_to_all(void *arg)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    (void)arg;
    for (int i = 0; i < 6; i++) {
        const int family = families[i / 2];
        struct connecting c;
        char byte;
        const int l =
            family == AF_UNIX ? unix_listener(&c.to, &c.size, 5) : listener(family, &c.to, &c.size, 5);
        if (l < 0)
            continue;
        watch("connect", family == AF_UNIX ? "unix" : "tcp", NULL);
        c.fd = FD(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        set_nonblocking(c.fd, i % 2);
        const int flags = fcntl(c.fd, F_GETFL);
        CHECK_EQ(connect_one(&c), 0);
        CHECK_EQ(fcntl(c.fd, F_GETFL), flags);
        const int server = routine_accept(l, NULL, NULL);
        CHECK(server >= 0);
        CHECK_EQ(routine_write(server, "s", 1), 1);
        CHECK_EQ(routine_read(c.fd, &byte, 1), 1);
        CHECK_EQ(connect_one(&c), -EISCONN);
        CHECK_EQ(routine_close(l), 0);
        CHECK_EQ(routine_close(c.fd), 0);
        CHECK_EQ(routine_close(server), 0);

        c.fd = FD(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)); /* nobody listens there any more */
        set_nonblocking(c.fd, i % 2);
        CHECK_EQ(connect_one(&c), -ECONNREFUSED);
        CHECK_EQ(connect_one(&c), -ECONNREFUSED);
        CHECK_EQ(fcntl(c.fd, F_GETFL), flags);
        c.to.any.sa_family = AF_PACKET;
        CHECK_EQ(connect_one(&c), family == AF_UNIX ? -EINVAL : -EAFNOSUPPORT);
        c.to.any.sa_family = (sa_family_t)family;
        if (family == AF_UNIX) {
            unlink(c.to.un.sun_path);
            CHECK_EQ(connect_one(&c), -ENOENT);
        }
        CHECK_EQ(fcntl(c.fd, F_GETFL), flags);
        CHECK_EQ(routine_close(c.fd), 0);
    }
    int fd[2];
    union any_address any;
    const socklen_t size = loopback(&any, AF_INET);
    open_pipe(fd);
    CHECK_EQ(routine_connect(fd[0], &any.any, size), -ENOTSOCK);
    close_both(fd);
    routine_fd_forget(fd[0]);
    const int udp = FD(bound(AF_INET, SOCK_DGRAM, &any, &(socklen_t){0}));
    CHECK_EQ(routine_connect(udp, &any.any, size), 0);
    CHECK_EQ(routine_send(udp, "me", 2, 0), 2);
    char text[4];
    CHECK_EQ(routine_recv(udp, text, 4, 0), 2);
    CHECK_EQ(routine_close(udp), 0);
    return NULL;
}

TEST(connect_of_all_kinds)
{
    connect_to_all(NULL);
    support_in_routine(connect_to_all, NULL);
}

/* A listener whose queue is full: TCP tries again after a second; of a Unix socket the system has no event
 * for this, it says EAGAIN to non-blocking ones. Both must wait. */
TEST(connect_to_a_full_queue)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int i = 0; i < 8; i++) {
        const bool is_unix = i & 1, thread = i >> 1 & 1, nonblocking = i >> 2 & 1;
        struct connecting c;
        struct job job;
        int queued[8], n = 0;
        if (!is_unix && nonblocking)
            continue; /* once is enough, it takes its time */
        watch("connect to a full queue", is_unix ? "unix" : "tcp", thread ? "thread" : "routine");
        const int l = is_unix ? unix_listener(&c.to, &c.size, 1) : listener(AF_INET, &c.to, &c.size, 0);
        for (; n < 8; n++) {
            queued[n] = FD(socket(c.to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
            connect(queued[n], &c.to.any, c.size);
            if (!is_unix) {
                struct pollfd p = {queued[n], POLLOUT, 0};
                if (poll(&p, 1, 100) == 0)
                    break;
            } else if (send(queued[n], "", 0, MSG_NOSIGNAL) < 0) {
                break;
            }
        }
        CHECK(n < 8);
        close(queued[n]);
        c.fd = FD(socket(c.to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        set_nonblocking(c.fd, nonblocking);
        const int flags = fcntl(c.fd, F_GETFL);
        job_start(&job, thread ? NULL : runtime, connect_one, &c, 30 * ROUTINE_S);
        usleep(100000);
        CHECK(!atomic_load(&job.done));
        for (int k = 0; k <= n; k++) {
            struct pollfd p = {l, POLLIN, 0};
            if (poll(&p, 1, 0) == 1)
                close(FD(accept(l, NULL, NULL)));
        }
        CHECK_EQ(job_end(&job), 0);
        CHECK_EQ(fcntl(c.fd, F_GETFL), flags);
        for (int k = 0; k < n; k++)
            close(queued[k]);
        CHECK_EQ(routine_close(c.fd), 0);
        close(l);
        if (is_unix)
            unlink(c.to.un.sun_path);
    }
    support_runtime_end(runtime);
}

/* ---- SIGPIPE ---- */

static void *write_to_nobody(void *arg)
{
    static const char *const names[] = {"unix stream", "unix seqpacket", "tcp v4", "pipe", "fifo"};
    (void)arg;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
            const struct kind *k = kind_named(names[i]);
            struct iovec part = {"xyz", 3};
            int fd[2];
            watch("write to nobody", k->name, NULL);
            k->open(fd);
            set_nonblocking(fd[1], nonblocking);
            close(fd[0]);
            for (int tries = 0; tries < 3; tries++) {
                ssize_t rc = routine_write(fd[1], "abc", 3);
                if (tries > 0 || !(k->flags & TCP))
                    CHECK(rc == -EPIPE || ((k->flags & TCP) && tries == 1 && rc == -ECONNRESET));
                if (k->flags & TCP)
                    await_event(fd[1], POLLIN);
                rc = routine_writev(fd[1], &part, 1);
                CHECK(rc == -EPIPE || ((k->flags & TCP) && rc == -ECONNRESET && tries == 0));
                if (k->flags & SOCKET) {
                    CHECK_EQ(routine_send(fd[1], "abc", 3, 0), -EPIPE);
                    CHECK_EQ(routine_sendto(fd[1], "abc", 3, 0, NULL, 0), -EPIPE);
                    CHECK_EQ(routine_sendmsg(fd[1], &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1}, 0),
                             -EPIPE);
                }
                size_t done = 77;
                CHECK_EQ(routine_write_all(fd[1], "abc", 3, &done), -EPIPE);
                CHECK_EQ(done, 0);
            }
            CHECK_EQ(routine_close(fd[1]), 0);
        }
    return NULL;
}

static bool pipe_signal_pending(void)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, SIGPIPE);
}

/* The default action would end the process. */
TEST(sigpipe_does_not_kill)
{
    struct sigaction now;
    sigaction(SIGPIPE, NULL, &now);
    CHECK(now.sa_handler == SIG_DFL);
    write_to_nobody(NULL);
    support_in_routine(write_to_nobody, NULL);
    act_end(act(true, write_to_nobody, NULL));
    CHECK(!pipe_signal_pending());
}

static _Atomic int pipe_signals;

static void count_pipe_signal(int signo)
{
    (void)signo;
    atomic_fetch_add(&pipe_signals, 1);
}

/* Nor is the program's own handler called, unless the program raises it. */
TEST(sigpipe_is_not_delivered)
{
    const struct sigaction own = {.sa_handler = count_pipe_signal}, standard = {.sa_handler = SIG_DFL};
    sigset_t set, before;
    sigaction(SIGPIPE, &own, NULL);
    write_to_nobody(NULL);
    support_in_routine(write_to_nobody, NULL);
    act_end(act(true, write_to_nobody, NULL));
    CHECK_EQ(atomic_load(&pipe_signals), 0);
    raise(SIGPIPE);
    CHECK_EQ(atomic_load(&pipe_signals), 1);

    /* one that was pending before stays pending */
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    raise(SIGPIPE);
    write_to_nobody(NULL);
    CHECK(pipe_signal_pending());
    CHECK_EQ(atomic_load(&pipe_signals), 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK_EQ(atomic_load(&pipe_signals), 2);
    CHECK(!pipe_signal_pending());
    sigaction(SIGPIPE, &standard, NULL);
}

/* ---- other things that can be waited for ---- */

struct odd {
    int fd;
    char bytes[600];
};

static ssize_t read_odd(void *arg)
{
    struct odd *o = arg;
    return routine_read(o->fd, o->bytes, sizeof o->bytes);
}

/* inotify; and descriptors of which the library has seen another kind under this number before. */
TEST(one_number_many_kinds)
{
    static const char *const names[] = {"unix stream", "pipe", "unix dgram", "eventfd", "regular file",
                                        "udp v4",      "pty",  "/dev/zero",  "fifo",    "directory"};
    routine_runtime_t *runtime = support_runtime(0);
    for (size_t i = 0; i < COUNT_OF(names) * COUNT_OF(names); i++) {
        const struct kind *first = kind_named(names[i % COUNT_OF(names)]),
                          *second = kind_named(names[i / COUNT_OF(names)]);
        for (int forgets = 0; forgets < 3; forgets++) { /* not, by name, by routine_close */
            int fd[2];
            struct job job;
            struct odd o = {.fd = 0};
            watch(first->name, second->name, "one after the other");
            if (!first->open(fd))
                continue;
            o.fd = fd[0];
            if (first->flags & WAITS)
                put(first, fd[1], "12", 2);
            job_start(&job, runtime, read_odd, &o, PATIENCE);
            CHECK_EQ(job_end(&job), first->open == open_directory ? -EISDIR
                                    : first->flags & NUMBER       ? 8
                                    : first->flags & WAITS        ? 2
                                    : first->open == open_zero    ? (ssize_t)sizeof o.bytes
                                                                  : 0);
            const int number = fd[0];
            if (forgets == 1)
                CHECK_EQ(routine_fd_forget(number), 0);
            if (forgets == 2)
                CHECK_EQ(routine_close(number), 0);
            else
                close(number);
            close(fd[1]);
            if (!second->open(fd))
                continue;
            if (fd[0] != number) {
                if (fd[1] == number)
                    fd[1] = FD(fcntl(number, F_DUPFD_CLOEXEC, 0));
                FD(dup3(fd[0], number, O_CLOEXEC));
                close(fd[0]);
                fd[0] = number;
            }
            o.fd = number;
            job_start(&job, runtime, read_odd, &o, forgets ? ROUTINE_NEVER : PATIENCE);
            if (second->flags & WAITS) {
                /* taken for a file it may keep its thread: it was not closed as it should be */
                if (forgets == 0 && !(first->flags & WAITS))
                    usleep(1000);
                else
                    CHECK(job_await_waiting(&job));
                put(second, fd[1], "34", 2);
            }
            const ssize_t rc = job_end(&job);
            const ssize_t expected = second->open == open_directory ? -EISDIR
                                     : second->flags & NUMBER       ? 8
                                     : second->flags & WAITS        ? 2
                                     : second->open == open_zero    ? (ssize_t)sizeof o.bytes
                                                                    : 0;
            if (rc != expected)
                support_fail(__FILE__, __LINE__, "%s after %s (%d): %zd, not %zd", second->name, first->name,
                             forgets, rc, expected);
            routine_fd_forget(number);
            close_both(fd);
        }
    }
    support_runtime_end(runtime);
}

TEST(inotify_waits)
{
    routine_runtime_t *runtime = support_runtime(0);
    for (int thread = 0; thread < 2; thread++) {
        struct odd o = {.fd = FD(inotify_init1(IN_CLOEXEC))};
        struct job job;
        char path[128];
        own_path(path, sizeof path);
        FD(inotify_add_watch(o.fd, support_directory, IN_CREATE));
        job_start(&job, thread ? NULL : runtime, read_odd, &o, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        close(FD(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
        CHECK(job_end(&job) >= (ssize_t)sizeof(struct inotify_event));
        CHECK_EQ(routine_close(o.fd), 0);
        unlink(path);
    }
    support_runtime_end(runtime);
}

int main(void)
{
    SUPPORT_NO_CASES();
    watch_begin(100);
    for (size_t i = 0; i < COUNT_OF(many_parts); i++)
        many_parts[i] = (struct iovec){"x", 0};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_that_reads),
        cmocka_unit_test(every_call_that_writes),
        cmocka_unit_test(what_is_no_descriptor),
        cmocka_unit_test(what_is_none_any_more),
        cmocka_unit_test(the_highest_number),
        cmocka_unit_test(who_writes_comes_back_when_all_is_written),
        cmocka_unit_test(who_reads_all_of_it),
        cmocka_unit_test(calls_that_never_wait),
        cmocka_unit_test(a_descriptor_is_sent),
        cmocka_unit_test(datagrams_with_addresses),
        cmocka_unit_test(a_datagram_to_a_full_queue),
        cmocka_unit_test(files),
        cmocka_unit_test(files_that_are_in_no_cache),
        cmocka_unit_test(accept_waits_or_not),
        cmocka_unit_test(accept_of_what_does_not_listen),
        cmocka_unit_test(connect_of_all_kinds),
        cmocka_unit_test(connect_to_a_full_queue),
        cmocka_unit_test(sigpipe_does_not_kill),
        cmocka_unit_test(sigpipe_is_not_delivered),
        cmocka_unit_test(one_number_many_kinds),
        cmocka_unit_test(inotify_waits),
    };
    return cmocka_run_group_tests_name("io_calls", tests, NULL, NULL);
}
