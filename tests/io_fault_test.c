/* SPDX-License-Identifier: MIT
 *
 * Input and output while the system fails: no memory and no room in epoll, no descriptors for the poller's
 * own needs, EINTR from every call at random, reads and writes that do less than they were asked for,
 * connections that died before they were accepted, a close that is interrupted.
 *
 * The system calls are replaced by functions of the same names here, which the linker prefers to those of the
 * C library; they fail when a test says so, else they do what they always do.
 *
 * ctest: workers
 */
#include "io_support.h"

#include <sys/syscall.h>

/* ---- the replaced calls ---- */

enum {
    EPOLL_CREATE,
    EPOLL_CTL,
    EVENTFD,
    ACCEPT,
    CONNECT,
    CLOSE,
    POLL,
    TRANSFER, /* everything that reads and writes */
    CALLS
};

static _Atomic int fail_with[CALLS];   /* errno, or 0 */
static _Atomic int fail_every[CALLS];  /* one in so many; 0: none */
static _Atomic long fail_count[CALLS]; /* at most so many times; negative: always */
static _Atomic long calls[CALLS];      /* how often they were called */
static _Atomic int fail_fd = -1;       /* this descriptor only; -1: any */
static _Atomic int fail_op = -1;       /* of epoll_ctl: this operation only */
static _Atomic int close_delay;        /* us before a descriptor is really closed */
static _Atomic bool shorten;           /* transfers do less */

static uint64_t draw(void)
{
    static _Atomic uint64_t state = 88172645463325252U;
    uint64_t x = atomic_fetch_add(&state, UINT64_C(0x9E3779B97F4A7C15));
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    return x ^ (x >> 27);
}

static bool fails(int call, int fd)
{
    atomic_fetch_add(&calls[call], 1);
    const int every = atomic_load(&fail_every[call]), only = atomic_load(&fail_fd);
    if (every == 0 || (only >= 0 && fd != only) || draw() % (unsigned)every != 0)
        return false;
    if (atomic_load(&fail_count[call]) >= 0 && atomic_fetch_sub(&fail_count[call], 1) <= 0) {
        atomic_store(&fail_count[call], 0);
        return false;
    }
    errno = atomic_load(&fail_with[call]);
    return true;
}

static void set_fault(int call, int error, int every, long count)
{
    atomic_store(&fail_with[call], error);
    atomic_store(&fail_count[call], count);
    atomic_store(&fail_every[call], every);
}

static void clear_faults(void)
{
    for (int i = 0; i < CALLS; i++)
        set_fault(i, 0, 0, -1);
    atomic_store(&fail_fd, -1);
    atomic_store(&fail_op, -1);
    atomic_store(&shorten, false);
}

/* Of so many bytes fewer: at least one. An eventfd takes and gives eight, or fails. */
static size_t less(size_t size)
{
    return atomic_load(&shorten) && size > 1 && size != sizeof(uint64_t) ? 1 + draw() % size : size;
}

#define REPLACED __attribute__((visibility("default")))

REPLACED int epoll_create1(int flags)
{
    return fails(EPOLL_CREATE, -1) ? -1 : (int)syscall(SYS_epoll_create1, flags);
}

REPLACED int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    const int only = atomic_load(&fail_op);
    if ((only < 0 || op == only) && fails(EPOLL_CTL, fd))
        return -1;
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

REPLACED int eventfd(unsigned value, int flags)
{
    return fails(EVENTFD, -1) ? -1 : (int)syscall(SYS_eventfd2, value, flags);
}

REPLACED int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    return fails(ACCEPT, fd) ? -1 : (int)syscall(SYS_accept4, fd, address, size, flags);
}

REPLACED int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    return fails(CONNECT, fd) ? -1 : (int)syscall(SYS_connect, fd, address, size);
}

/* Interrupted, but the descriptor is gone all the same. */
REPLACED int close(int fd)
{
    const bool failed = fails(CLOSE, fd);
    const int error = errno, only = atomic_load(&fail_fd);
    if (atomic_load(&close_delay) != 0 && fd == only)
        usleep((unsigned)atomic_load(&close_delay));
    const int rc = (int)syscall(SYS_close, fd);
    if (failed && rc == 0) {
        errno = error;
        return -1;
    }
    return rc;
}

REPLACED int poll(struct pollfd *fds, nfds_t count, int ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    return fails(POLL, -1) ? -1 : (int)syscall(SYS_ppoll, fds, count, ms < 0 ? NULL : &time, NULL, (size_t)8);
}

REPLACED int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *time, const sigset_t *mask)
{
    struct timespec copy;
    if (time != NULL)
        copy = *time;
    return fails(POLL, -1) ? -1 : (int)syscall(SYS_ppoll, fds, count, time ? &copy : NULL, mask, (size_t)8);
}

REPLACED ssize_t read(int fd, void *buffer, size_t size)
{
    return fails(TRANSFER, fd) ? -1 : syscall(SYS_read, fd, buffer, less(size));
}

REPLACED ssize_t write(int fd, const void *buffer, size_t size)
{
    return fails(TRANSFER, fd) ? -1 : syscall(SYS_write, fd, buffer, less(size));
}

REPLACED ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from,
                          socklen_t *length)
{
    return fails(TRANSFER, fd) ? -1 : syscall(SYS_recvfrom, fd, buffer, less(size), flags, from, length);
}

REPLACED ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    return recvfrom(fd, buffer, size, flags, NULL, NULL);
}

REPLACED ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to,
                        socklen_t length)
{
    return fails(TRANSFER, fd) ? -1 : syscall(SYS_sendto, fd, buffer, less(size), flags, to, length);
}

REPLACED ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    return sendto(fd, buffer, size, flags, NULL, 0);
}

/* Of the list only the first part that is not empty, and of that perhaps less. */
static struct iovec first_of(const struct iovec *parts, size_t count)
{
    while (count > 1 && parts->iov_len == 0) {
        parts++;
        count--;
    }
    return (struct iovec){parts->iov_base, less(parts->iov_len)};
}

REPLACED ssize_t readv(int fd, const struct iovec *parts, int count)
{
    if (fails(TRANSFER, fd))
        return -1;
    if (!atomic_load(&shorten) || count <= 0)
        return syscall(SYS_readv, fd, parts, count);
    const struct iovec part = first_of(parts, (size_t)count);
    return syscall(SYS_readv, fd, &part, 1);
}

REPLACED ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (fails(TRANSFER, fd))
        return -1;
    if (!atomic_load(&shorten) || count <= 0)
        return syscall(SYS_writev, fd, parts, count);
    const struct iovec part = first_of(parts, (size_t)count);
    return syscall(SYS_writev, fd, &part, 1);
}

REPLACED ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return fails(TRANSFER, fd) ? -1 : syscall(SYS_recvmsg, fd, message, flags);
}

REPLACED ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (fails(TRANSFER, fd))
        return -1;
    if (!atomic_load(&shorten) || message->msg_iovlen == 0)
        return syscall(SYS_sendmsg, fd, message, flags);
    struct iovec part = first_of(message->msg_iov, message->msg_iovlen);
    struct msghdr shorter = *message;
    shorter.msg_iov = &part;
    shorter.msg_iovlen = 1;
    return syscall(SYS_sendmsg, fd, &shorter, flags);
}

/* ---- no memory in epoll ---- */

struct waiting {
    int fd;
    char byte;
};

static ssize_t wait_read(void *arg)
{
    struct waiting *w = arg;
    return routine_read(w->fd, &w->byte, 1);
}

static ssize_t wait_poll(void *arg)
{
    struct waiting *w = arg;
    struct pollfd p = {w->fd, POLLIN, 0};
    return routine_poll(&p, 1, -1);
}

/* The call that would have had to wait returns the error, once; others are not touched, and later it works.
 */
TEST(no_memory_in_epoll)
{
    static const int errors[] = {ENOMEM, ENOSPC};
    routine_runtime_t *runtime = support_runtime(0);
    struct waiting other;
    struct job bystander;
    int others[2];
    open_unix_stream(others);
    other.fd = others[0];
    job_start(&bystander, runtime, wait_read, &other, ROUTINE_NEVER);
    CHECK(job_await_waiting(&bystander));
    const long before = atomic_load(&calls[EPOLL_CTL]);
    CHECK(before > 0); /* or the library makes its system calls in another way than this test thinks */
    for (int i = 0; i < 8; i++) {
        struct waiting w;
        struct job job;
        int fd[2];
        watch("no memory in epoll", NULL, NULL);
        open_unix_stream(fd);
        w.fd = fd[0];
        atomic_store(&fail_fd, fd[0]);
        set_fault(EPOLL_CTL, errors[i % 2], 1, -1);
        for (int k = 0; k < 3; k++) {
            job_start(&job, runtime, i & 2 ? wait_read : wait_poll, &w, i & 4 ? PATIENCE : ROUTINE_NEVER);
            CHECK_EQ(job_end(&job), -errors[i % 2]);
        }
        CHECK_EQ(plain_write(fd[1], "x", 1), 1); /* what need not wait is not concerned */
        job_start(&job, runtime, wait_read, &w, ROUTINE_NEVER);
        CHECK_EQ(job_end(&job), 1);
        clear_faults();
        {
            routine_stats_t stats;
            CHECK_EQ(routine_stats(runtime, &stats), 0);
            CHECK_EQ(stats.parked, 1);
        }
        CHECK(!atomic_load(&bystander.done));
        job_start(&job, runtime, i & 2 ? wait_read : wait_poll, &w, ROUTINE_NEVER);
        routine_stats_t stats;
        do {
            CHECK_EQ(routine_stats(runtime, &stats), 0);
            routine_yield();
        } while (stats.parked != 2);
        CHECK_EQ(plain_write(fd[1], "y", 1), 1);
        CHECK_EQ(job_end(&job), 1);
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
    }
    CHECK_EQ(plain_write(others[1], "o", 1), 1);
    CHECK_EQ(job_end(&bystander), 1);
    CHECK_EQ(routine_close(others[0]), 0);
    close(others[1]);
    support_runtime_end(runtime);
}

/* ---- no poller ---- */

TEST(no_poller)
{
    static const struct {
        int call, error;
    } faults[] = {{EPOLL_CREATE, EMFILE},
                  {EPOLL_CREATE, ENOMEM},
                  {EVENTFD, EMFILE},
                  {EVENTFD, ENFILE},
                  {EPOLL_CTL, ENOMEM}};
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        routine_runtime_t *runtime = support_runtime(0);
        const long before = support_entries("/proc/self/fd");
        struct waiting w;
        struct job job;
        int fd[2];
        watch("no poller", NULL, NULL);
        open_unix_stream(fd);
        w.fd = fd[0];
        set_fault(faults[i].call, faults[i].error, 1, -1);
        for (int k = 0; k < 3; k++) {
            job_start(&job, runtime, k & 1 ? wait_read : wait_poll, &w, ROUTINE_NEVER);
            CHECK_EQ(job_end(&job), -faults[i].error);
        }
        CHECK_EQ(support_entries("/proc/self/fd"), before + 2); /* nothing half made is left */
        /* all else works: sleeping, writing, reading what is there, and plain threads */
        CHECK_EQ(routine_write(fd[1], "a", 1), 1);
        job_start(&job, runtime, wait_read, &w, ROUTINE_NEVER);
        CHECK_EQ(job_end(&job), 1);
        job_start(&job, NULL, wait_read, &w, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fd[1], "b", 1), 1);
        CHECK_EQ(job_end(&job), 1);
        clear_faults();
        job_start(&job, runtime, wait_read, &w, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fd[1], "c", 1), 1);
        CHECK_EQ(job_end(&job), 1);
        CHECK_EQ(w.byte, 'c');
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
        support_runtime_end(runtime);
    }
}

/* ---- interrupted, and cut short ---- */

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 7 + (i >> 8) * 13);
}

struct pass {
    const struct kind *kind;
    int fd[2];
    size_t size;
};

static void *pass_writes(void *arg)
{
    struct pass *p = arg;
    unsigned char *bytes = malloc(p->size);
    for (size_t i = 0; i < p->size; i++)
        bytes[i] = byte_at(i);
    for (size_t at = 0, n; at < p->size; at += n) {
        n = 1 + draw() % 20000;
        if (n > p->size - at)
            n = p->size - at;
        struct iovec parts[3] = {
            {bytes + at, n / 3}, {bytes + at + n / 3, 0}, {bytes + at + n / 3, n - n / 3}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
        const bool is_socket = p->kind->flags & SOCKET;
        switch (draw() % (is_socket ? 4 : 2)) {
        case 0:
            CHECK_EQ(routine_write(p->fd[1], bytes + at, n), n);
            break;
        case 1:
            CHECK_EQ(routine_writev(p->fd[1], parts, 3), n);
            break;
        case 2:
            CHECK_EQ(routine_send(p->fd[1], bytes + at, n, 0), n);
            break;
        default:
            CHECK_EQ(routine_sendmsg(p->fd[1], &message, 0), n);
        }
    }
    free(bytes);
    return NULL;
}

static void *pass_reads(void *arg)
{
    struct pass *p = arg;
    unsigned char bytes[5000];
    for (size_t at = 0; at < p->size;) {
        const size_t n = 1 + draw() % sizeof bytes;
        struct iovec parts[2] = {{bytes, n / 2}, {bytes + n / 2, n - n / 2}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t rc;
        switch (draw() % (p->kind->flags & SOCKET ? 4 : 2)) {
        case 0:
            rc = routine_read(p->fd[0], bytes, n);
            break;
        case 1:
            rc = routine_readv(p->fd[0], parts, 2);
            break;
        case 2:
            rc = routine_recv(p->fd[0], bytes, n, 0);
            break;
        default:
            rc = routine_recvmsg(p->fd[0], &message, 0);
        }
        if (rc <= 0 || rc > (ssize_t)n) {
            support_fail(__FILE__, __LINE__, "%s: %zd at %zu", p->kind->name, rc, at);
            return NULL;
        }
        for (ssize_t i = 0; i < rc; i++, at++)
            if (bytes[i] != byte_at(at)) {
                support_fail(__FILE__, __LINE__, "%s: another byte at %zu", p->kind->name, at);
                return NULL;
            }
    }
    return NULL;
}

static void pass_all(enum cast cast)
{
    static const char *const names[] = {"unix stream", "tcp v4", "pipe", "fifo"};
    struct pass p[COUNT_OF(names) * 2];
    struct actor a[COUNT_OF(p)][2];
    for (size_t i = 0; i < COUNT_OF(p); i++) {
        p[i].kind = kind_named(names[i / 2]);
        p[i].size = (size_t)support_scale(100000);
        p[i].kind->open(p[i].fd);
        for (int k = 0; k < 2; k++)
            set_nonblocking(p[i].fd[k], i % 2);
    }
    for (size_t i = 0; i < COUNT_OF(p); i++)
        for (int k = 0; k < 2; k++)
            a[i][k] = act(cast_is_thread(cast, k), k ? pass_reads : pass_writes, &p[i]);
    for (size_t i = 0; i < COUNT_OF(p); i++)
        for (int k = 0; k < 2; k++)
            act_end(a[i][k]);
    for (size_t i = 0; i < COUNT_OF(p); i++)
        for (int k = 0; k < 2; k++)
            CHECK_EQ(routine_close(p[i].fd[k]), 0);
}

/* Every third system call is interrupted, and those that are not do less than they were asked for. */
TEST(interrupted_and_cut_short)
{
    static const int replaced[] = {POLL, TRANSFER};
    for (enum cast cast = ROUTINES; cast < CASTS; cast++)
        for (int variant = 1; variant < 4; variant++) {
            watch("interrupted and cut short", variant & 1 ? "EINTR" : "", variant & 2 ? "short" : "");
            const long before = atomic_load(&calls[TRANSFER]);
            for (size_t i = 0; i < COUNT_OF(replaced) && (variant & 1); i++)
                set_fault(replaced[i], EINTR, 3, -1);
            atomic_store(&shorten, (variant & 2) != 0);
            pass_all(cast);
            clear_faults();
            CHECK(atomic_load(&calls[TRANSFER]) - before > (support_slow() ? 10 : 100));
        }
}

/* ---- accept ---- */

static ssize_t accept_one(void *arg)
{
    return routine_accept(*(int *)arg, NULL, NULL);
}

/* What is skipped, and what is told. */
TEST(accept_that_fails)
{
    static const struct {
        int error;
        bool skipped;
    } faults[] = {{ECONNABORTED, true}, {EPROTO, true},   {EINTR, true},   {EMFILE, false},
                  {ENFILE, false},      {ENOBUFS, false}, {ENOMEM, false}, {EPERM, false}};
    routine_runtime_t *runtime = support_runtime(0);
    for (size_t i = 0; i < COUNT_OF(faults) * 2; i++) {
        union any_address a;
        socklen_t size;
        struct job job;
        int l = FD(listener(AF_INET, &a, &size, 5));
        watch("accept that fails", NULL, NULL);
        const int client = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        FD(connect(client, &a.any, size));
        set_fault(ACCEPT, faults[i / 2].error, 1, 3);
        const long before = atomic_load(&calls[ACCEPT]);
        job_start(&job, i % 2 ? NULL : runtime, accept_one, &l, PATIENCE);
        ssize_t rc = job_end(&job);
        if (faults[i / 2].skipped) {
            CHECK(rc >= 0);
            CHECK_EQ(atomic_load(&calls[ACCEPT]) - before, 4);
        } else {
            CHECK_EQ(rc, -faults[i / 2].error);
            CHECK_EQ(atomic_load(&calls[ACCEPT]) - before, 1); /* at once, and nothing is tried again */
            clear_faults();
            job_start(&job, i % 2 ? NULL : runtime, accept_one, &l, PATIENCE);
            rc = job_end(&job); /* the connection is still there */
            CHECK(rc >= 0);
        }
        clear_faults();
        CHECK_EQ(routine_close((int)rc), 0);
        CHECK_EQ(routine_close(client), 0);
        CHECK_EQ(routine_close(l), 0);
    }
    support_runtime_end(runtime);
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

/* A connect that fails leaves the descriptor's flags as they were. */
TEST(connect_that_fails)
{
    static const int errors[] = {ENETUNREACH, EADDRNOTAVAIL, EACCES, ENOBUFS};
    routine_runtime_t *runtime = support_runtime(0);
    for (size_t i = 0; i < COUNT_OF(errors) * 4; i++) {
        struct connecting c;
        struct job job;
        const int l = FD(listener(AF_INET, &c.to, &c.size, 5));
        watch("connect that fails", NULL, NULL);
        c.fd = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        set_nonblocking(c.fd, i & 1);
        const int flags = fcntl(c.fd, F_GETFL);
        set_fault(CONNECT, errors[i / 4], 1, 1);
        job_start(&job, i & 2 ? NULL : runtime, connect_one, &c, PATIENCE);
        CHECK_EQ(job_end(&job), -errors[i / 4]);
        CHECK_EQ(fcntl(c.fd, F_GETFL), flags);
        clear_faults();
        job_start(&job, i & 2 ? NULL : runtime, connect_one, &c, PATIENCE);
        CHECK_EQ(job_end(&job), 0);
        CHECK_EQ(fcntl(c.fd, F_GETFL), flags);
        CHECK_EQ(routine_close(c.fd), 0);
        CHECK_EQ(routine_close(l), 0);
    }
    support_runtime_end(runtime);
}

/* ---- close ---- */

static void *close_interrupted(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        int fd[2];
        open_unix_stream(fd);
        const long before = atomic_load(&calls[CLOSE]);
        atomic_store(&fail_fd, fd[0]);
        set_fault(CLOSE, i % 2 ? EINTR : EIO, 1, 1);
        const int rc = routine_close(fd[0]);
        clear_faults();
        CHECK_EQ(rc, i % 2 ? 0 : -EIO);                   /* EINTR does not happen */
        CHECK_EQ(atomic_load(&calls[CLOSE]) - before, 1); /* not twice: the number may be another's by now */
        CHECK(!is_open(fd[0]));
        CHECK_EQ(routine_close(fd[1]), 0);
    }
    return NULL;
}

TEST(close_that_is_interrupted)
{
    close_interrupted(NULL);
    support_in_routine(close_interrupted, NULL);
}

/* ---- a close that takes its time ---- */

struct late {
    struct waiting waiting;
    int wait_first; /* us */
    int way;
    ssize_t rc;
};

static void *read_late(void *arg)
{
    struct late *l = arg;
    CHECK_EQ(routine_sleep(l->wait_first * ROUTINE_US), 0);
    l->rc = l->way ? wait_poll(&l->waiting) : wait_read(&l->waiting);
    return NULL;
}

/* Two connected sockets, opened behind ThreadSanitizer's back: who uses a number that another thread opens
 * again at that time is what it reports, and what is tested here. */
static void open_next(int fd[2])
{
    CHECK_EQ(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, fd), 0);
}

/* Waits that begin while the descriptor is being closed: whenever that is, they do not hang, nor get what
 * belongs to the next owner of the number. */
TEST(waits_that_begin_during_a_close)
{
    enum { LATE = 6 };
    routine_runtime_t *runtime = support_runtime(0);
    const long rounds = support_scale(100);
    uint64_t random = 97;
    {
        /* the poller is there before the first close: its own descriptors are not to be the number's next
         * life */
        struct waiting w;
        struct job job;
        int fd[2];
        open_unix_stream(fd);
        w.fd = fd[0];
        job_start(&job, runtime, wait_read, &w, ROUTINE_NEVER);
        CHECK(job_await_waiting(&job));
        CHECK_EQ(plain_write(fd[1], "p", 1), 1);
        CHECK_EQ(job_end(&job), 1);
        CHECK_EQ(routine_close(fd[0]), 0);
        close(fd[1]);
    }
    for (long i = 0; i < rounds; i++) {
        struct late l[LATE];
        struct actor a[LATE];
        int fd[2], next[2];
        watch("waits that begin during a close", NULL, NULL);
        open_unix_stream(fd);
        for (int k = 0; k < LATE; k++) {
            l[k] = (struct late){.waiting = {.fd = fd[0]}, .way = k % 3 == 2};
            l[k].wait_first = (int)(support_random(&random) % 1000);
            a[k] = act_on(runtime, read_late, &l[k]);
        }
        usleep((unsigned)(support_random(&random) % 300));
        atomic_store(&fail_fd, fd[0]);
        atomic_store(&close_delay, 400);
        CHECK_EQ(routine_close(fd[0]), 0);
        atomic_store(&close_delay, 0);
        atomic_store(&fail_fd, -1);
        /* the next owner: who comes after the close waits for that one, as he asked for */
        open_next(next);
        usleep(1000);
        CHECK_EQ(close(next[1]), 0); /* its end */
        for (int k = 0; k < LATE; k++) {
            act_end(a[k]);
            const bool expected =
                l[k].rc == -ECANCELED || l[k].rc == -EBADF ||
                (l[k].rc == 1 && l[k].way) ||  /* a poll is told of what is bad, or of the end */
                (l[k].rc == 0 && !l[k].way) || /* the end, of the next one */
                (l[k].rc == -EINVAL);
            if (!expected)
                support_fail(__FILE__, __LINE__, "way %d: %zd", l[k].way, l[k].rc);
        }
        CHECK_EQ(routine_close(next[0]), 0);
        close(fd[1]);
    }
    support_runtime_end(runtime);
}

int main(void)
{
    SUPPORT_NO_CASES();
    clear_faults();
    watch_begin(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_memory_in_epoll),
        cmocka_unit_test(no_poller),
        cmocka_unit_test(interrupted_and_cut_short),
        cmocka_unit_test(accept_that_fails),
        cmocka_unit_test(connect_that_fails),
        cmocka_unit_test(close_that_is_interrupted),
        cmocka_unit_test(waits_that_begin_during_a_close),
    };
    return cmocka_run_group_tests_name("io_fault", tests, NULL, NULL);
}
