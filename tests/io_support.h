/* SPDX-License-Identifier: MIT
 *
 * What the tests of input and output share: every kind of descriptor, as a pair of ends {it is read from,
 * written to}; plain system calls to feed and to drain the other end, which no test leaves to the library
 * that it tests; jobs, which are one call made by a routine or by a plain thread, and how one knows that it
 * waits; and a watch that says what was going on when a program hangs.
 *
 * Descriptors are made by FD(), which ends the program where the system has none; what it made is
 * always on loopback, in the process alone, or under a directory of mkdtemp.
 */
#ifndef TESTS_IO_SUPPORT_H
#define TESTS_IO_SUPPORT_H

#include "chan_support.h"

#include "routines/io.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>

/* A limit that is there to turn a hang into a failed check. */
#define PATIENCE (60 * ROUTINE_S)

/* ---- the watch ---- */

static _Atomic(const char *) watch_what[3];

/* What is being done just now; the strings are kept. */
SUPPORT_UNUSED static void watch(const char *a, const char *b, const char *c)
{
    atomic_store(&watch_what[0], a);
    atomic_store(&watch_what[1], b);
    atomic_store(&watch_what[2], c);
}

static void watch_barks(int signo)
{
    (void)signo;
    char text[400] = "hangs:";
    for (int i = 0; i < 3; i++) {
        const char *word = atomic_load(&watch_what[i]);
        if (word != NULL) {
            strncat(text, " ", sizeof text - strlen(text) - 1);
            strncat(text, word, sizeof text - strlen(text) - 1);
        }
    }
    strncat(text, "\n", sizeof text - strlen(text) - 1);
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        abort();
    _exit(97);
}

/* From now on: seconds in a plain build. */
SUPPORT_UNUSED static void watch_begin(unsigned seconds)
{
    struct sigaction action = {.sa_handler = watch_barks};
    const char *slowdown = getenv("ROUTINES_TEST_SLOWDOWN");
    const unsigned factor = slowdown != NULL && atoi(slowdown) > 1 ? (unsigned)atoi(slowdown) : 1;
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds * factor);
}

/* ---- descriptors ---- */

static int support_fd(int line, int fd)
{
    if (fd < 0) {
        support_fail(__FILE__, line, "no descriptor: %s", strerror(errno));
        abort();
    }
    return fd;
}

#define FD(call) support_fd(__LINE__, (call))

SUPPORT_UNUSED static ssize_t negative(ssize_t rc)
{
    return rc < 0 ? -errno : rc;
}

SUPPORT_UNUSED static void set_nonblocking(int fd, bool on)
{
    const int flags = FD(fcntl(fd, F_GETFL));
    FD(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

SUPPORT_UNUSED static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* A directory of this program's own, removed at its end. */
static char support_directory[] = "/tmp/routines-io-XXXXXX";

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static pid_t directory_owner;

static void remove_directory(void)
{
    if (getpid() == directory_owner)
        nftw(support_directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path there that nobody has used yet. */
SUPPORT_UNUSED static void own_path(char *path, size_t size)
{
    static _Atomic int number;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (directory_owner != getpid()) {
        memcpy(strchr(support_directory, '-') + 4, "XXXXXX", 6);
        if (mkdtemp(support_directory) == NULL)
            abort();
        directory_owner = getpid();
        atexit(remove_directory);
    }
    pthread_mutex_unlock(&lock);
    snprintf(path, size, "%s/%d", support_directory, atomic_fetch_add(&number, 1));
}

/* ---- sockets ---- */

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

/* Loopback, any port. */
SUPPORT_UNUSED static socklen_t loopback(union any_address *a, int family)
{
    memset(a, 0, sizeof *a);
    a->any.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        a->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof a->v4;
    }
    a->v6.sin6_addr = in6addr_loopback;
    return sizeof a->v6;
}

/* A bound socket; -1: the family does not exist here. Its address is put into a. */
SUPPORT_UNUSED static int bound(int family, int type, union any_address *a, socklen_t *size)
{
    const int fd = socket(family, type | SOCK_CLOEXEC, 0);
    *size = loopback(a, family);
    if (fd < 0 || bind(fd, &a->any, *size) != 0) {
        if (family == AF_INET)
            FD(-1);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    FD(getsockname(fd, &a->any, size));
    return fd;
}

SUPPORT_UNUSED static int listener(int family, union any_address *a, socklen_t *size, int backlog)
{
    const int fd = bound(family, SOCK_STREAM, a, size);
    if (fd >= 0)
        FD(listen(fd, backlog));
    return fd;
}

/* Plain calls, in tests that send signals all the time: an interrupted connect goes on by itself. */
SUPPORT_UNUSED static int plain_connect(int fd, const struct sockaddr *to, socklen_t size)
{
    int rc = connect(fd, to, size);
    if (rc != 0 && errno == EINTR) {
        struct pollfd p = {fd, POLLOUT, 0};
        int error = 0;
        socklen_t length = sizeof error;
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
            continue;
        rc = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0 ? 0 : -1;
        if (error != 0)
            errno = error;
    }
    return rc;
}

SUPPORT_UNUSED static int plain_accept(int fd)
{
    int rc;
    while ((rc = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    return rc;
}

SUPPORT_UNUSED static bool tcp_pair(int family, int fd[2])
{
    union any_address a;
    socklen_t size;
    const int on = 1, small = 16384; /* full soon, and nothing held back */
    const int l = bound(family, SOCK_STREAM, &a, &size);
    if (l < 0)
        return false;
    FD(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    FD(listen(l, 5));
    fd[1] = FD(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    FD(setsockopt(fd[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    FD(plain_connect(fd[1], &a.any, size));
    fd[0] = FD(plain_accept(l));
    close(l);
    for (int i = 0; i < 2; i++) {
        FD(setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
        FD(setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    }
    return true;
}

SUPPORT_UNUSED static bool udp_pair(int family, int fd[2])
{
    union any_address a[2];
    socklen_t size;
    for (int i = 0; i < 2; i++)
        if ((fd[i] = bound(family, SOCK_DGRAM, &a[i], &size)) < 0) {
            if (i == 1)
                close(fd[0]);
            return false;
        }
    FD(connect(fd[0], &a[1].any, size));
    FD(connect(fd[1], &a[0].any, size));
    return true;
}

/* Closing it will send a reset. */
SUPPORT_UNUSED static void close_by_reset(int fd)
{
    const struct linger none = {1, 0};
    FD(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none));
    close(fd);
}

/* ---- kinds ---- */

enum {
    SOCKET = 1,
    STREAM = 2,    /* bytes without boundaries */
    FILLS = 4,     /* the end that is written to becomes full */
    WAITS = 8,     /* the end that is read from can be empty */
    TWO_WAYS = 16, /* each end can do both */
    NUMBER = 32,   /* what it carries is a number of eight bytes */
    TCP = 64,
    LAZY = 256, /* the kernel passes on what is written, in its own time */
    ENDS = 128  /* who reads is told that the other end has gone */
};

struct kind {
    const char *name;
    unsigned flags;
    bool (*open)(int fd[2]); /* fd[0] is read from, fd[1] written to; false: not on this machine */
};

static bool open_unix_stream(int fd[2])
{
    return FD(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd)) == 0;
}

static bool open_unix_dgram(int fd[2])
{
    return FD(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd)) == 0;
}

static bool open_unix_seqpacket(int fd[2])
{
    return FD(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd)) == 0;
}

static bool open_tcp4(int fd[2])
{
    return tcp_pair(AF_INET, fd);
}

static bool open_tcp6(int fd[2])
{
    return tcp_pair(AF_INET6, fd);
}

static bool open_udp4(int fd[2])
{
    return udp_pair(AF_INET, fd);
}

static bool open_udp6(int fd[2])
{
    return udp_pair(AF_INET6, fd);
}

static bool open_pipe(int fd[2])
{
    return FD(pipe2(fd, O_CLOEXEC)) == 0;
}

static bool open_fifo(int fd[2])
{
    char path[128];
    own_path(path, sizeof path);
    FD(mkfifo(path, 0600));
    fd[0] = FD(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    fd[1] = FD(open(path, O_WRONLY | O_CLOEXEC));
    set_nonblocking(fd[0], false);
    unlink(path);
    return true;
}

/* Read from as a terminal in raw mode, written to by its master. */
static bool open_pty(int fd[2])
{
    char name[64];
    struct termios mode;
    fd[1] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd[1] < 0)
        return false;
    if (grantpt(fd[1]) != 0 || unlockpt(fd[1]) != 0 || ptsname_r(fd[1], name, sizeof name) != 0 ||
        (fd[0] = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        close(fd[1]);
        return false;
    }
    FD(tcgetattr(fd[0], &mode));
    cfmakeraw(&mode);
    FD(tcsetattr(fd[0], TCSANOW, &mode));
    return true;
}

static bool open_eventfd(int fd[2])
{
    fd[0] = FD(eventfd(0, EFD_CLOEXEC));
    fd[1] = FD(fcntl(fd[0], F_DUPFD_CLOEXEC, 0));
    return true;
}

static bool open_timerfd(int fd[2])
{
    fd[0] = FD(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    fd[1] = FD(fcntl(fd[0], F_DUPFD_CLOEXEC, 0));
    return true;
}

static bool open_file(int fd[2])
{
    char path[128];
    own_path(path, sizeof path);
    fd[1] = FD(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    fd[0] = FD(open(path, O_RDWR | O_CLOEXEC));
    unlink(path);
    return true;
}

static bool open_device(const char *path, int fd[2])
{
    for (int i = 0; i < 2; i++)
        fd[i] = FD(open(path, O_RDWR | O_CLOEXEC));
    return true;
}

static bool open_null(int fd[2])
{
    return open_device("/dev/null", fd);
}

static bool open_zero(int fd[2])
{
    return open_device("/dev/zero", fd);
}

static bool open_dev_full(int fd[2])
{
    return open_device("/dev/full", fd);
}

static bool open_directory(int fd[2])
{
    for (int i = 0; i < 2; i++)
        fd[i] = FD(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return true;
}

/* Descriptors that can do next to nothing. */
static bool open_o_path(int fd[2])
{
    for (int i = 0; i < 2; i++)
        fd[i] = FD(open("/", O_PATH | O_CLOEXEC));
    return true;
}

static bool open_epoll(int fd[2])
{
    for (int i = 0; i < 2; i++)
        fd[i] = FD(epoll_create1(EPOLL_CLOEXEC));
    return true;
}

static bool open_unconnected(int fd[2])
{
    for (int i = 0; i < 2; i++)
        fd[i] = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return true;
}

static bool open_listening(int fd[2])
{
    union any_address a;
    socklen_t size;
    for (int i = 0; i < 2; i++)
        fd[i] = FD(listener(AF_INET, &a, &size, 5));
    return true;
}

SUPPORT_UNUSED static const struct kind kinds[] = {
    {"unix stream", SOCKET | STREAM | FILLS | WAITS | TWO_WAYS | ENDS, open_unix_stream},
    {"unix dgram", SOCKET | FILLS | WAITS | TWO_WAYS, open_unix_dgram},
    {"unix seqpacket", SOCKET | FILLS | WAITS | TWO_WAYS | ENDS, open_unix_seqpacket},
    {"tcp v4", SOCKET | STREAM | FILLS | WAITS | TWO_WAYS | TCP | LAZY | ENDS, open_tcp4},
    {"tcp v6", SOCKET | STREAM | FILLS | WAITS | TWO_WAYS | TCP | LAZY | ENDS, open_tcp6},
    {"udp v4", SOCKET | WAITS | TWO_WAYS, open_udp4},
    {"udp v6", SOCKET | WAITS | TWO_WAYS, open_udp6},
    {"pipe", STREAM | FILLS | WAITS | ENDS, open_pipe},
    {"fifo", STREAM | FILLS | WAITS | ENDS, open_fifo},
    {"pty", LAZY | STREAM | FILLS | WAITS | TWO_WAYS | ENDS, open_pty},
    {"eventfd", NUMBER | FILLS | WAITS, open_eventfd},
    {"timerfd", NUMBER | WAITS, open_timerfd},
    {"regular file", STREAM, open_file},
    {"/dev/null", STREAM, open_null},
    {"/dev/zero", STREAM, open_zero},
    {"/dev/full", STREAM, open_dev_full},
    {"directory", 0, open_directory},
    {"O_PATH", 0, open_o_path},
    {"epoll", 0, open_epoll},
    {"unconnected socket", SOCKET, open_unconnected},
    {"listening socket", SOCKET, open_listening},
};

SUPPORT_UNUSED static const struct kind *kind_named(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    abort();
}

SUPPORT_UNUSED static void close_both(int fd[2])
{
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

/* ---- the other end, by plain system calls ---- */

/* Never raises SIGPIPE where the test does not want it: the signal is blocked around this. */
SUPPORT_UNUSED static ssize_t plain_write(int fd, const void *data, size_t size)
{
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    const ssize_t rc = negative(write(fd, data, size));
    if (rc == -EPIPE && !sigismember(&before, SIGPIPE))
        sigtimedwait(&pipe, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* One try of a call that does not wait, whatever the descriptor. For ends that nobody else uses now. */
SUPPORT_UNUSED static ssize_t try_write(int fd, const void *data, size_t size)
{
    const ssize_t sent = negative(send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (sent != -ENOTSOCK)
        return sent;
    const int flags = FD(fcntl(fd, F_GETFL)); /* poll() is not enough for terminals, which have some room */
    set_nonblocking(fd, true);
    const ssize_t written = plain_write(fd, data, size);
    FD(fcntl(fd, F_SETFL, flags));
    return written;
}

SUPPORT_UNUSED static ssize_t try_read(int fd, void *data, size_t size)
{
    struct pollfd p = {fd, POLLIN, 0};
    const ssize_t got = negative(recv(fd, data, size, MSG_DONTWAIT));
    if (got != -ENOTSOCK)
        return got;
    if (poll(&p, 1, 0) == 0)
        return -EAGAIN;
    return negative(read(fd, data, size));
}

SUPPORT_UNUSED static void put(const struct kind *k, int fd, const void *data, size_t size)
{
    if (k->open == open_timerfd) {
        const struct itimerspec soon = {{0, 0}, {0, 1}};
        FD(timerfd_settime(fd, 0, &soon, NULL));
    } else if (k->flags & NUMBER) {
        CHECK_EQ(plain_write(fd, &(uint64_t){size}, 8), 8);
    } else {
        CHECK_EQ(plain_write(fd, data, size), (ssize_t)size);
    }
}

/* Fills it until it takes no more, even after a while; how many bytes went in (of numbers: 8). */
SUPPORT_UNUSED static size_t fill(const struct kind *k, int fd)
{
    static const unsigned char bytes[4096];
    size_t sum = 0;
    if (k->flags & NUMBER) {
        CHECK_EQ(plain_write(fd, &(uint64_t){UINT64_MAX - 1}, 8), 8);
        return 8;
    }
    for (size_t size = sizeof bytes;;) {
        const ssize_t n = try_write(fd, bytes, size);
        struct pollfd p = {fd, POLLOUT, 0};
        if (n > 0) {
            sum += (size_t)n;
        } else if (n != -EAGAIN) {
            CHECK_EQ(n, -EAGAIN);
            return sum;
        } else if (size > 1 && (k->flags & STREAM)) {
            size = size > 64 ? 64 : 1;
        } else if (!(k->flags & LAZY) || poll(&p, 1, 2) == 0) {
            return sum;
        }
    }
}

/* Takes out what is there now; how much, with the last bytes put at the end of `last`. */
SUPPORT_UNUSED static size_t drain(int fd, unsigned char *last, size_t size)
{
    static _Thread_local unsigned char bytes[65536];
    size_t sum = 0;
    for (;;) {
        const ssize_t n = try_read(fd, bytes, sizeof bytes);
        if (n <= 0)
            return sum;
        sum += (size_t)n;
        if (last == NULL)
            continue;
        if ((size_t)n >= size) {
            memcpy(last, bytes + n - size, size);
        } else {
            memmove(last, last + n, size - (size_t)n);
            memcpy(last + size - n, bytes, (size_t)n);
        }
    }
}

/* Waits until plain poll says so. */
SUPPORT_UNUSED static bool await_event(int fd, short events)
{
    struct pollfd p = {fd, events, 0};
    for (int64_t end = routine_now() + PATIENCE; routine_now() < end;) {
        if (poll(&p, 1, 0) == 1)
            return true;
        routine_yield();
    }
    support_fail(__FILE__, __LINE__, "no event %d", events);
    return false;
}

/* ---- jobs: a call, and who makes it ---- */

struct job {
    ssize_t (*fn)(void *arg);
    void *arg;
    int64_t limit; /* ROUTINE_NEVER: none is declared */
    struct actor actor;
    struct sleeper sleeper;
    routine_runtime_t *runtime;
    ssize_t rc;
    _Atomic bool begun, done;
};

static void *job_body(void *arg)
{
    struct job *j = arg;
    if (j->actor.is_thread)
        sleeper_here(&j->sleeper);
    atomic_store(&j->begun, true);
    if (j->limit == ROUTINE_NEVER) {
        j->rc = j->fn(j->arg);
    } else {
        routine_with_timeout(j->limit);
        j->rc = j->fn(j->arg);
    }
    atomic_store(&j->done, true);
    return NULL;
}

/* runtime NULL: a plain thread. */
SUPPORT_UNUSED static void job_start(struct job *j, routine_runtime_t *runtime, ssize_t (*fn)(void *),
                                     void *arg, int64_t limit)
{
    memset(j, 0, sizeof *j);
    j->fn = fn;
    j->arg = arg;
    j->limit = limit;
    j->runtime = runtime;
    j->actor.is_thread = runtime == NULL; /* before it looks */
    if (runtime == NULL)
        j->actor.thread = support_thread(job_body, j);
    else
        j->actor.routine = support_go_on(runtime, job_body, j);
}

/* Waits until the job waits, being the only one of its runtime that does. False: it has ended. */
SUPPORT_UNUSED static bool job_await_waiting(struct job *j)
{
    if (j->runtime == NULL) {
        while (!atomic_load(&j->begun))
            routine_yield();
        for (int looks = 0; !atomic_load(&j->done); looks++) {
            char path[64], text[512] = "";
            snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&j->sleeper.tid));
            FILE *file = fopen(path, "r");
            const size_t got = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
            if (file != NULL)
                fclose(file);
            text[got] = '\0';
            const char *name_end = strrchr(text, ')');
            if (name_end != NULL && name_end[1] == ' ' && name_end[2] == 'S' && looks > 2)
                return true;
            usleep(200);
        }
        return false;
    }
    for (;;) {
        routine_stats_t stats;
        if (atomic_load(&j->done))
            return false;
        CHECK_EQ(routine_stats(j->runtime, &stats), 0);
        if (stats.parked == 1)
            return true;
        routine_yield();
    }
}

SUPPORT_UNUSED static ssize_t job_end(struct job *j)
{
    act_end(j->actor);
    return j->rc;
}

#endif
