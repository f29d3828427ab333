/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_copy and routine_sendfile (io.h): every kind of source to every kind of target, blocking
 * and non-blocking, in many sizes, with sources and targets that are slow; limits, cancellation, and peers
 * that vanish; `most`, and what stays in the source then; positions of files.
 *
 * Each byte's value follows from its place, so that a lost, doubled or moved piece is seen. The other end of
 * a source is fed, and that of a target read and compared, by routines of their own.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "routines/io.h"
#include "routines/net.h"

enum { K = 1024, M = 1024 * K };

/* ---- data that knows its place ---- */

static unsigned char byte_at(uint64_t at)
{
    return (unsigned char)((at * 2654435761u) >> 13) ^ (unsigned char)(at >> 16);
}

static void fill(char *data, uint64_t at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (char)byte_at(at + i);
}

static bool is_right(const char *data, uint64_t at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)data[i] != byte_at(at + i)) {
            support_fail(__FILE__, __LINE__, "byte %llu is wrong", (unsigned long long)(at + i));
            return false;
        }
    return true;
}

/* ---- ends ---- */

enum kind { FILE_END, PIPE_END, UNIX_END, TCP_END, KINDS };
static const char *const kind_names[] = {"file", "pipe", "unix", "tcp"};

/* fd is what the copy gets; other is the other end, -1 for files. */
struct end {
    enum kind kind;
    int fd, other;
};

static void set_blocking(int fd, bool blocking)
{
    const int flags = fcntl(fd, F_GETFL);
    CHECK_EQ(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK), 0);
}

static int new_file(void)
{
    char path[] = "/tmp/routines-copy-XXXXXX";
    const int fd = mkostemp(path, O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(unlink(path), 0);
    return fd;
}

/* Connected to each other over loopback. */
static void tcp_pair(int fds[2])
{
    char address[ROUTINE_ADDRESS_MAX];
    const int listener = routine_tcp_listen("127.0.0.1:0", 1);
    CHECK_EQ(routine_local_address(listener, address, sizeof address), 0);
    fds[0] = routine_tcp_dial(address);
    fds[1] = routine_accept(listener, NULL, NULL);
    CHECK(listener >= 0 && fds[0] >= 0 && fds[1] >= 0);
    CHECK_EQ(routine_close(listener), 0);
}

static struct end open_end(enum kind kind, bool source, bool blocking)
{
    struct end e = {kind, -1, -1};
    int fds[2] = {-1, -1};
    switch (kind) {
    case FILE_END:
        e.fd = new_file();
        return e;
    case PIPE_END:
        CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
        e.fd = fds[source ? 0 : 1];
        e.other = fds[source ? 1 : 0];
        break;
    case UNIX_END:
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        e.fd = fds[0];
        e.other = fds[1];
        break;
    default:
        tcp_pair(fds);
        e.fd = fds[0];
        e.other = fds[1];
    }
    set_blocking(e.fd, blocking);
    return e;
}

static void close_end(const struct end *e)
{
    CHECK_EQ(routine_close(e->fd), 0);
    if (e->other >= 0)
        CHECK_EQ(routine_close(e->other), 0);
}

/* ---- who feeds a source, and reads a target ---- */

struct party {
    int fd;
    uint64_t size; /* to feed; found */
    bool slow;
};

static void *feed_body(void *arg)
{
    struct party *p = arg;
    char *data = malloc(64 * K);
    uint64_t random = p->size | 1;
    for (uint64_t at = 0; at < p->size;) {
        size_t n = p->slow ? 1 + (size_t)(support_random(&random) % (24 * K)) : 64 * K;
        if (n > p->size - at)
            n = (size_t)(p->size - at);
        fill(data, at, n);
        CHECK_EQ(routine_write_all(p->fd, data, n, NULL), 0);
        at += n;
        if (p->slow && support_random(&random) % 8 == 0)
            CHECK_EQ(routine_sleep(200 * ROUTINE_US), 0);
    }
    free(data);
    CHECK_EQ(routine_close(p->fd), 0);
    return NULL;
}

static void *drain_body(void *arg)
{
    struct party *p = arg;
    char *data = malloc(64 * K);
    uint64_t random = 5;
    p->size = 0;
    for (;;) {
        const size_t most = p->slow ? 1 + (size_t)(support_random(&random) % (24 * K)) : 64 * K;
        const ssize_t n = routine_read(p->fd, data, most);
        if (n <= 0) {
            CHECK_EQ(n, 0);
            break;
        }
        if (!is_right(data, p->size, (size_t)n))
            break;
        p->size += (uint64_t)n;
        if (p->slow && support_random(&random) % 8 == 0)
            CHECK_EQ(routine_sleep(200 * ROUTINE_US), 0);
    }
    free(data);
    CHECK_EQ(routine_close(p->fd), 0);
    return NULL;
}

/* A file with that much in it, at its beginning. */
static void feed_file(int fd, uint64_t size)
{
    char *data = malloc(64 * K);
    for (uint64_t at = 0; at < size;) {
        const size_t n = size - at < 64 * K ? (size_t)(size - at) : 64 * K;
        fill(data, at, n);
        CHECK_EQ(pwrite(fd, data, n, (off_t)at), n);
        at += n;
    }
    free(data);
}

static void check_file(int fd, uint64_t size)
{
    char *data = malloc(64 * K);
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, size);
    for (uint64_t at = 0; at < size;) {
        const ssize_t n = pread(fd, data, 64 * K, (off_t)at);
        CHECK(n > 0);
        if (n <= 0 || !is_right(data, at, (size_t)n))
            break;
        at += (uint64_t)n;
    }
    free(data);
}

/* ---- every source to every target ---- */

struct trial {
    enum kind from, to;
    bool from_blocking, to_blocking, feed_slow, drain_slow;
    uint64_t size;
};

static void run_trial(const struct trial *t)
{
    struct end from = open_end(t->from, true, t->from_blocking), to = open_end(t->to, false, t->to_blocking);
    struct party feeder = {from.other, t->size, t->feed_slow}, drainer = {to.other, 0, t->drain_slow};
    routine_t feeding = {0}, draining = {0};
    if (t->from == FILE_END)
        feed_file(from.fd, t->size);
    else
        feeding = go(feed_body, &feeder);
    if (t->to != FILE_END)
        draining = go(drain_body, &drainer);

    uint64_t done = 12345;
    CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, &done), 0);
    CHECK_EQ(done, t->size);

    /* the descriptors are as they were */
    CHECK_EQ((fcntl(from.fd, F_GETFL) & O_NONBLOCK) == 0, t->from == FILE_END || t->from_blocking);
    CHECK_EQ((fcntl(to.fd, F_GETFL) & O_NONBLOCK) == 0, t->to == FILE_END || t->to_blocking);
    if (t->from == FILE_END)
        CHECK_EQ(lseek(from.fd, 0, SEEK_CUR), t->size);
    if (t->to == FILE_END) {
        CHECK_EQ(lseek(to.fd, 0, SEEK_CUR), t->size);
        check_file(to.fd, t->size);
    }
    CHECK_EQ(routine_close(to.fd), 0);
    if (t->to != FILE_END) {
        CHECK_EQ(routine_join(draining, NULL), 0);
        CHECK_EQ(drainer.size, t->size);
    }
    if (t->from != FILE_END)
        CHECK_EQ(routine_join(feeding, NULL), 0);
    CHECK_EQ(routine_close(from.fd), 0);
    if (atomic_load(&support_failures) != 0)
        support_fail(__FILE__, __LINE__, "%s %d %d to %s %d %d, %llu", kind_names[t->from], t->from_blocking,
                     t->feed_slow, kind_names[t->to], t->to_blocking, t->drain_slow,
                     (unsigned long long)t->size);
}

/* All kinds, of which `which` numbers the four ways of being blocking. */
static void run_kinds(uint64_t size, unsigned which, bool feed_slow, bool drain_slow)
{
    for (int from = 0; from < KINDS; from++)
        for (int to = 0; to < KINDS && atomic_load(&support_failures) == 0; to++) {
            const struct trial t = {(enum kind)from, (enum kind)to, which & 1, which & 2,
                                    feed_slow,       drain_slow,    size};
            run_trial(&t);
        }
}

static void *sizes_body(void *arg)
{
    static const uint64_t sizes[] = {0, 1, 4096, 64 * K - 1, 64 * K, 64 * K + 1, 300 * K};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (unsigned which = 0; which < 4; which++)
            run_kinds(sizes[i], which, false, false);
    return arg;
}

TEST(all_kinds_and_sizes)
{
    support_in_routine(sizes_body, NULL);
}

static void *large_body(void *arg)
{
    const uint64_t size = support_slow() ? 1 * M + 3 : 10 * M;
    run_kinds(size, 0, false, false);
    run_kinds(size, 3, false, false);
    return arg;
}

TEST(all_kinds_large)
{
    support_in_routine(large_body, NULL);
}

static void *slow_body(void *arg)
{
    for (unsigned which = 0; which < 4; which++) {
        run_kinds(400 * K, which, true, false);
        run_kinds(400 * K, which, false, true);
    }
    run_kinds(400 * K, 0, true, true);
    return arg;
}

TEST(all_kinds_slow)
{
    support_in_routine(slow_body, NULL);
}

TEST(from_a_plain_thread)
{
    run_kinds(200 * K, 0, false, false);
    run_kinds(200 * K, 3, true, true);
}

/* ---- `most` ---- */

static void *most_body(void *arg)
{
    static const uint64_t mosts[] = {0, 1, 1000, 64 * K, 64 * K + 1};
    for (int kind = 0; kind < KINDS; kind++)
        for (int kind2 = 0; kind2 < KINDS; kind2++)
            for (size_t i = 0; i < COUNT_OF(mosts); i++)
                for (int blocking = 0; blocking < 2; blocking++) {
                    const uint64_t size = 100 * K, most = mosts[i];
                    struct end from = open_end((enum kind)kind, true, blocking);
                    struct end to = open_end((enum kind)kind2, false, blocking);
                    struct party feeder = {from.other, size, false}, drainer = {to.other, 0, false};
                    routine_t feeding = {0}, draining = {0};
                    if (kind == FILE_END)
                        feed_file(from.fd, size);
                    else
                        feeding = go(feed_body, &feeder);
                    if (kind2 != FILE_END)
                        draining = go(drain_body, &drainer);
                    uint64_t done = 7;
                    CHECK_EQ(routine_copy(to.fd, from.fd, most, &done), 0);
                    CHECK_EQ(done, most);
                    if (kind2 == FILE_END)
                        check_file(to.fd, most);
                    CHECK_EQ(routine_close(to.fd), 0);
                    if (kind2 != FILE_END) {
                        CHECK_EQ(routine_join(draining, NULL), 0);
                        CHECK_EQ(drainer.size, most);
                    }
                    /* the rest is where it was */
                    size_t rest = 0;
                    char *data = malloc(size);
                    CHECK_EQ(routine_read_full(from.fd, data, (size_t)(size - most), &rest), 0);
                    CHECK(is_right(data, most, rest));
                    CHECK_EQ(routine_read(from.fd, data, 1), 0);
                    free(data);
                    if (kind != FILE_END)
                        CHECK_EQ(routine_join(feeding, NULL), 0);
                    CHECK_EQ(routine_close(from.fd), 0);
                }
    return arg;
}

TEST(no_more_than_most)
{
    support_in_routine(most_body, NULL);
}

/* ---- limits and cancellation ---- */

/* Nothing comes. (What has been read when the limit passes can be lost, so nothing is sent.) */
static void *silent_body(void *arg)
{
    for (int kind = PIPE_END; kind < KINDS; kind++)
        for (int kind2 = 0; kind2 < KINDS; kind2++)
            for (int blocking = 0; blocking < 2; blocking++) {
                struct end from = open_end((enum kind)kind, true, blocking);
                struct end to = open_end((enum kind)kind2, false, blocking);
                uint64_t done = 7;
                {
                    routine_with_timeout(ROUTINE_MS);
                    CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, &done), -ETIMEDOUT);
                }
                CHECK_EQ(done, 0);
                close_end(&from);
                close_end(&to);
            }
    return arg;
}

TEST(a_source_that_is_silent)
{
    support_in_routine(silent_body, NULL);
}

/* A target that nobody reads: what is said to be copied is there, and of a file nothing is lost. */
static void *unread_body(void *arg)
{
    enum { SIZE = 16 * M };
    const int file = new_file();
    feed_file(file, SIZE);
    for (int kind2 = PIPE_END; kind2 < KINDS; kind2++)
        for (int blocking = 0; blocking < 2; blocking++) {
            struct end to = open_end((enum kind)kind2, false, blocking);
            struct party drainer = {to.other, 0, false};
            uint64_t done = 7, rest = 7;
            CHECK_EQ(lseek(file, 0, SEEK_SET), 0);
            {
                routine_with_timeout(20 * ROUTINE_MS);
                CHECK_EQ(routine_copy(to.fd, file, UINT64_MAX, &done), -ETIMEDOUT);
            }
            CHECK(done < SIZE);
            CHECK_EQ(lseek(file, 0, SEEK_CUR), done);
            routine_t draining = go(drain_body, &drainer);
            CHECK_EQ(routine_copy(to.fd, file, UINT64_MAX, &rest), 0);
            CHECK_EQ(done + rest, SIZE);
            CHECK_EQ(routine_close(to.fd), 0);
            CHECK_EQ(routine_join(draining, NULL), 0);
            CHECK_EQ(drainer.size, SIZE);
        }
    CHECK_EQ(routine_close(file), 0);
    return arg;
}

TEST(a_target_that_nobody_reads)
{
    support_in_routine(unread_body, NULL);
}

struct job {
    int to, from;
    uint64_t done;
    int rc;
};

static void *copy_body(void *arg)
{
    struct job *j = arg;
    j->rc = routine_copy(j->to, j->from, UINT64_MAX, &j->done);
    return NULL;
}

/* The source has something, which arrives, and is then silent. */
static void *cancelled_body(void *arg)
{
    for (int kind = PIPE_END; kind < KINDS; kind++)
        for (int kind2 = 0; kind2 < KINDS; kind2++)
            for (int blocking = 0; blocking < 2; blocking++) {
                struct end from = open_end((enum kind)kind, true, blocking);
                struct end to = open_end((enum kind)kind2, false, blocking);
                struct job job = {to.fd, from.fd, 7, 7};
                struct stat st = {.st_size = 0};
                char data[500];
                fill(data, 0, sizeof data);
                routine_t copier = go(copy_body, &job);
                CHECK_EQ(routine_write_all(from.other, data, sizeof data, NULL), 0);
                if (kind2 == FILE_END) {
                    while (fstat(to.fd, &st) == 0 && st.st_size < (off_t)sizeof data)
                        CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0);
                    check_file(to.fd, sizeof data);
                } else {
                    CHECK_EQ(routine_read_full(to.other, data, sizeof data, NULL), 0);
                    CHECK(is_right(data, 0, sizeof data));
                }
                CHECK_EQ(routine_cancel(copier), 0);
                CHECK_EQ(routine_join(copier, NULL), 0);
                CHECK_EQ(job.rc, -ECANCELED);
                CHECK_EQ(job.done, sizeof data);
                close_end(&from);
                close_end(&to);
            }
    return arg;
}

/* Descriptors are counted, once the poller and the like are there; memory by a sanitizer. */
TEST(cancelled_copies_leave_nothing)
{
    support_in_routine(cancelled_body, NULL);
    const long before = support_entries("/proc/self/fd");
    support_in_routine(cancelled_body, NULL);
    support_in_routine(silent_body, NULL);
    support_in_routine(unread_body, NULL);
    CHECK_EQ(support_entries("/proc/self/fd"), before);
}

static void *passed_body(void *arg)
{
    struct end from = open_end(FILE_END, true, false), to = open_end(FILE_END, false, false);
    uint64_t done = 7;
    off_t offset = 0;
    feed_file(from.fd, 10);
    {
        routine_with_timeout(0);
        CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, &done), -ETIMEDOUT);
        CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, NULL), -ETIMEDOUT);
        CHECK_EQ(routine_sendfile(to.fd, from.fd, &offset, 10), -ETIMEDOUT);
    }
    CHECK_EQ(done, 0);
    CHECK_EQ(offset, 0);
    check_file(to.fd, 0);
    close_end(&from);
    close_end(&to);
    return arg;
}

TEST(a_limit_that_has_passed)
{
    support_in_routine(passed_body, NULL);
}

/* ---- peers that vanish ---- */

/* SIGPIPE has its default action here: it would be the end. */
TEST_EVERYWHERE(nobody_reads_any_more)
{
    const int file = new_file();
    feed_file(file, 100 * K);
    for (int kind2 = PIPE_END; kind2 < KINDS; kind2++)
        for (int blocking = 0; blocking < 2; blocking++) {
            struct end to = open_end((enum kind)kind2, false, blocking);
            struct end from = open_end(UNIX_END, true, blocking);
            struct party feeder = {from.other, 100 * K, false};
            CHECK_EQ(routine_close(to.other), 0);
            CHECK_EQ(lseek(file, 0, SEEK_SET), 0);
            int rc = 0; /* TCP says it at the second try only, when the answer has come */
            for (int i = 0; i < 10000 && rc == 0; i++)
                rc = routine_copy(to.fd, file, 100, NULL);
            CHECK(rc == -EPIPE || rc == -ECONNRESET);
            off_t offset = 0;
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, 100), -EPIPE);
            routine_t feeding = go(feed_body, &feeder);
            rc = routine_copy(to.fd, from.fd, UINT64_MAX, NULL);
            CHECK_EQ(rc, -EPIPE);
            char data[1024]; /* the rest, so that the feeder comes to its end */
            while (routine_read(from.fd, data, sizeof data) > 0)
                ;
            CHECK_EQ(routine_join(feeding, NULL), 0);
            CHECK_EQ(routine_close(from.fd), 0);
            CHECK_EQ(routine_close(to.fd), 0);
        }
    CHECK_EQ(routine_close(file), 0);
    sigset_t pending;
    CHECK_EQ(sigpending(&pending), 0);
    CHECK_EQ(sigismember(&pending, SIGPIPE), 0);
}

static void reset(int fd)
{
    const struct linger at_once = {1, 0};
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQ(routine_close(fd), 0);
}

TEST_EVERYWHERE(the_source_is_reset)
{
    for (int kind2 = 0; kind2 < KINDS; kind2++)
        for (int blocking = 0; blocking < 2; blocking++) {
            struct end from = open_end(TCP_END, true, blocking),
                       to = open_end((enum kind)kind2, false, blocking);
            reset(from.other);
            CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, NULL), -ECONNRESET);
            CHECK_EQ(routine_close(from.fd), 0);
            close_end(&to);
        }
}

/* Each direction of a connection ends by itself. */
TEST_EVERYWHERE(half_closed)
{
    for (int blocking = 0; blocking < 2; blocking++) {
        struct end a = open_end(TCP_END, true, blocking), b = open_end(UNIX_END, true, blocking);
        char data[8];
        CHECK_EQ(routine_write_all(a.other, "there", 5, NULL), 0);
        CHECK_EQ(shutdown(a.other, SHUT_WR), 0);
        CHECK_EQ(routine_copy(b.fd, a.fd, UINT64_MAX, NULL), 0);
        CHECK_EQ(shutdown(b.fd, SHUT_WR), 0);
        CHECK_EQ(routine_read_full(b.other, data, 5, NULL), 0);
        CHECK_EQ(memcmp(data, "there", 5), 0);
        CHECK_EQ(routine_read(b.other, data, 1), 0);
        CHECK_EQ(routine_write_all(b.other, "back", 4, NULL), 0);
        CHECK_EQ(routine_close(b.other), 0);
        b.other = -1;
        CHECK_EQ(routine_copy(a.fd, b.fd, UINT64_MAX, NULL), 0);
        CHECK_EQ(routine_read_full(a.other, data, 4, NULL), 0);
        CHECK_EQ(memcmp(data, "back", 4), 0);
        close_end(&a);
        close_end(&b);
    }
}

/* ---- what the kernel refuses ---- */

TEST_EVERYWHERE(unusual_descriptors)
{
    struct end from = open_end(FILE_END, true, false), to = open_end(PIPE_END, false, false);
    uint64_t done = 7;
    feed_file(from.fd, 200 * K);

    /* the position of a file that is only appended to */
    char path[64];
    const int file = new_file();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    const int append = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    CHECK(append >= 0);
    CHECK_EQ(routine_copy(append, from.fd, 100 * K, &done), 0);
    CHECK_EQ(done, 100 * K);
    off_t offset = 100 * K;
    CHECK_EQ(routine_sendfile(append, from.fd, &offset, 100 * K), 100 * K);
    CHECK_EQ(offset, 200 * K);
    check_file(file, 200 * K);
    CHECK_EQ(routine_close(append), 0);
    CHECK_EQ(routine_close(file), 0);

    /* a device; a file whose size is said to be 0 */
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC),
              maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(lseek(from.fd, 0, SEEK_SET), 0);
    CHECK_EQ(routine_copy(null, from.fd, UINT64_MAX, &done), 0);
    CHECK_EQ(done, 200 * K);
    CHECK_EQ(routine_copy(to.fd, null, UINT64_MAX, &done), 0);
    CHECK_EQ(done, 0);
    const int copy = new_file();
    CHECK_EQ(routine_copy(copy, maps, UINT64_MAX, &done), 0);
    CHECK(done > 100);
    CHECK_EQ(routine_close(copy), 0);

    /* what cannot be read or written, and what is not there */
    CHECK_EQ(routine_copy(to.fd, to.fd, 10, &done), -EBADF);
    CHECK_EQ(lseek(from.fd, 0, SEEK_SET), 0);
    CHECK_EQ(routine_copy(to.other, from.fd, 10, &done), -EBADF);
    CHECK_EQ(done, 0);
    CHECK_EQ(routine_copy(-1, from.fd, 10, &done), -EBADF);
    CHECK_EQ(routine_copy(to.fd, -1, 10, NULL), -EBADF);
    CHECK_EQ(lseek(from.fd, 0, SEEK_CUR), 0);
    CHECK_EQ(routine_close(null), 0);
    CHECK_EQ(routine_close(maps), 0);
    close_end(&from);
    close_end(&to);
}

/* A flag that makes no difference to a socket, but to the kernel: what is under way goes through a buffer. */
TEST_EVERYWHERE(a_target_that_refuses)
{
    enum { SIZE = 100 * K };
    struct end from = open_end(PIPE_END, true, false), to = open_end(UNIX_END, false, false);
    struct party feeder = {from.other, SIZE, false}, drainer = {to.other, 0, false};
    const int file = new_file();
    uint64_t done = 7;
    feed_file(file, SIZE);
    CHECK_EQ(fcntl(to.fd, F_SETFL, O_NONBLOCK | O_APPEND), 0);
    routine_t feeding = go(feed_body, &feeder), draining = go(drain_body, &drainer);
    CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, &done), 0);
    CHECK_EQ(done, SIZE);
    CHECK_EQ(routine_close(to.fd), 0);
    CHECK_EQ(routine_join(feeding, NULL), 0);
    CHECK_EQ(routine_join(draining, NULL), 0);
    CHECK_EQ(drainer.size, SIZE);
    CHECK_EQ(routine_close(from.fd), 0);

    to = open_end(UNIX_END, false, false);
    drainer = (struct party){to.other, 0, false};
    CHECK_EQ(fcntl(to.fd, F_SETFL, O_NONBLOCK | O_APPEND), 0);
    draining = go(drain_body, &drainer);
    CHECK_EQ(routine_copy(to.fd, file, UINT64_MAX, &done), 0);
    CHECK_EQ(done, SIZE);
    CHECK_EQ(routine_close(to.fd), 0);
    CHECK_EQ(routine_join(draining, NULL), 0);
    CHECK_EQ(drainer.size, SIZE);
    CHECK_EQ(routine_close(file), 0);
}

/* Datagrams are copied one by one. */
TEST_EVERYWHERE(datagrams)
{
    int a[2], b[2];
    char data[64], large[40000] = {0};
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, a), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, b), 0);
    CHECK_EQ(send(a[1], "one", 3, 0), 3);
    CHECK_EQ(send(a[1], "second", 6, 0), 6);
    CHECK_EQ(send(a[1], large, sizeof large, 0), sizeof large);
    CHECK_EQ(send(a[1], "", 0, 0), 0); /* an end, as read() says it */
    CHECK_EQ(routine_copy(b[1], a[0], UINT64_MAX, NULL), 0);
    CHECK_EQ(routine_read(b[0], data, sizeof data), 3);
    CHECK_EQ(routine_read(b[0], data, sizeof data), 6);
    CHECK_EQ(routine_read(b[0], large, sizeof large), sizeof large);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(routine_close(a[i]), 0);
        CHECK_EQ(routine_close(b[i]), 0);
    }
}

/* Copying needs no descriptors of its own. */
static void *no_descriptors_body(void *arg)
{
    struct end from = open_end(UNIX_END, true, false), to = open_end(TCP_END, false, false);
    struct party feeder = {from.other, 1 * M, false}, drainer = {to.other, 0, false};
    uint64_t done = 7;
    char byte = 0; /* the poller is there before */
    CHECK_EQ(routine_write_all(to.fd, "\0", 1, NULL), 0);
    CHECK_EQ(routine_read(to.other, &byte, 1), 1);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_read(to.other, &byte, 1), -ETIMEDOUT);
    }
    const int free_one = dup(to.fd); /* the lowest */
    CHECK_EQ(close(free_one), 0);
    struct rlimit before;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit full = {(rlim_t)free_one, before.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &full), 0);
    CHECK(dup(to.fd) < 0 && errno == EMFILE);
    routine_t feeding = go(feed_body, &feeder), draining = go(drain_body, &drainer);
    CHECK_EQ(routine_copy(to.fd, from.fd, UINT64_MAX, &done), 0);
    CHECK_EQ(done, 1 * M);
    CHECK_EQ(routine_close(to.fd), 0);
    CHECK_EQ(routine_join(feeding, NULL), 0);
    CHECK_EQ(routine_join(draining, NULL), 0);
    CHECK_EQ(drainer.size, 1 * M);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0); /* sanitizers look at /proc at the end */
    return arg;
}

static int case_no_descriptors(void)
{
    support_in_routine(no_descriptors_body, NULL);
    return 0;
}

/* ---- sendfile ---- */

TEST_EVERYWHERE(sendfile_and_positions)
{
    const int file = new_file();
    feed_file(file, 300 * K);
    for (int kind2 = 0; kind2 < KINDS; kind2++)
        for (int blocking = 0; blocking < 2; blocking++) {
            struct end to = open_end((enum kind)kind2, false, blocking);
            struct party drainer = {to.other, 0, false};
            routine_t draining = {0};
            if (kind2 != FILE_END)
                draining = go(drain_body, &drainer);
            off_t offset = 0;
            CHECK_EQ(lseek(file, 100, SEEK_SET), 100);
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, 100 * K), 100 * K);
            CHECK_EQ(offset, 100 * K);
            CHECK_EQ(lseek(file, 0, SEEK_CUR), 100); /* is not touched */
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, 1), 1);
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, 0), 0);
            CHECK_EQ(offset, 100 * K + 1);
            CHECK_EQ(lseek(file, offset, SEEK_SET), offset);
            CHECK_EQ(routine_sendfile(to.fd, file, NULL, 50 * K), 50 * K);
            CHECK_EQ(lseek(file, 0, SEEK_CUR), 150 * K + 1);
            CHECK_EQ(routine_sendfile(to.fd, file, NULL, SIZE_MAX), 150 * K - 1); /* to the end */
            CHECK_EQ(lseek(file, 0, SEEK_CUR), 300 * K);
            CHECK_EQ(routine_sendfile(to.fd, file, NULL, 10), 0);
            offset = 1 * M;
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, 10), 0);
            CHECK_EQ(offset, 1 * M);
            offset = -1;
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, 10), -EINVAL);
            CHECK_EQ(offset, -1);
            if (kind2 == FILE_END)
                check_file(to.fd, 300 * K);
            CHECK_EQ(routine_close(to.fd), 0);
            if (kind2 != FILE_END) {
                CHECK_EQ(routine_join(draining, NULL), 0);
                CHECK_EQ(drainer.size, 300 * K);
            }
        }
    for (int kind = PIPE_END; kind < KINDS; kind++) {
        struct end from = open_end((enum kind)kind, true, false);
        off_t offset = 0;
        CHECK_EQ(routine_sendfile(file, from.fd, &offset, 10), -EINVAL);
        CHECK(routine_sendfile(file, from.fd, NULL, 10) < 0);
        close_end(&from);
    }
    CHECK_EQ(routine_sendfile(file, -1, NULL, 10), -EBADF);
    CHECK_EQ(routine_sendfile(-1, file, NULL, 10), -EBADF);
    CHECK_EQ(routine_close(file), 0);
}

/* Cut short it says how much it was, and the next call goes on there. */
static void *sendfile_cut_body(void *arg)
{
    enum { SIZE = 16 * M };
    const int file = new_file();
    feed_file(file, SIZE);
    for (int kind2 = PIPE_END; kind2 < KINDS; kind2++)
        for (int blocking = 0; blocking < 2; blocking++) {
            struct end to = open_end((enum kind)kind2, false, blocking);
            struct party drainer = {to.other, 0, false};
            off_t offset = 0;
            ssize_t n;
            do {
                routine_with_timeout(10 * ROUTINE_MS);
                n = routine_sendfile(to.fd, file, &offset, SIZE);
                CHECK(n == -ETIMEDOUT || (n > 0 && n < SIZE));
            } while (n > 0);
            const off_t sent = offset;
            routine_t draining = go(drain_body, &drainer);
            CHECK_EQ(routine_sendfile(to.fd, file, &offset, SIZE), SIZE - sent);
            CHECK_EQ(routine_close(to.fd), 0);
            CHECK_EQ(routine_join(draining, NULL), 0);
            CHECK_EQ(drainer.size, SIZE);
        }
    CHECK_EQ(routine_close(file), 0);
    return arg;
}

TEST(sendfile_cut_short)
{
    support_in_routine(sendfile_cut_body, NULL);
}

/* A connection is copied both ways, by many at once. */
struct side {
    int a, b;
};

static void *forward(void *arg)
{
    const struct side *s = arg;
    CHECK_EQ(routine_copy(s->b, s->a, UINT64_MAX, NULL), 0);
    CHECK_EQ(shutdown(s->b, SHUT_WR), 0);
    return NULL;
}

static void *relay_body(void *arg)
{
    struct end left = open_end(TCP_END, true, false), right = open_end(TCP_END, true, false);
    struct side there = {left.fd, right.fd}, back = {right.fd, left.fd};
    routine_t a = go(forward, &there), b = go(forward, &back);
    char data[1000], echo[1000];
    for (uint64_t at = 0; at < 100 * sizeof data; at += sizeof data) {
        fill(data, at, sizeof data);
        CHECK_EQ(routine_write_all(left.other, data, sizeof data, NULL), 0);
        CHECK_EQ(routine_read_full(right.other, echo, sizeof echo, NULL), 0);
        CHECK_EQ(memcmp(data, echo, sizeof data), 0);
        CHECK_EQ(routine_write_all(right.other, echo, sizeof echo, NULL), 0);
        CHECK_EQ(routine_read_full(left.other, data, sizeof data, NULL), 0);
        CHECK(is_right(data, at, sizeof data));
    }
    CHECK_EQ(shutdown(left.other, SHUT_WR), 0);
    CHECK_EQ(routine_read(right.other, data, 1), 0);
    CHECK_EQ(shutdown(right.other, SHUT_WR), 0);
    CHECK_EQ(routine_read(left.other, data, 1), 0);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    close_end(&left);
    close_end(&right);
    return arg;
}

TEST(many_relays)
{
    enum { MANY = 50 };
    routine_t all[MANY];
    for (int i = 0; i < MANY; i++)
        all[i] = go(relay_body, NULL);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(routine_join(all[i], NULL), 0);
}

static const struct support_case cases[] = {
    {"no_descriptors", case_no_descriptors},
};

TEST(processes)
{
    struct support_result result;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CASE_EXITS(&result, cases[i].name, NULL, 0);
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_and_sizes),
        cmocka_unit_test(all_kinds_large),
        cmocka_unit_test(all_kinds_slow),
        cmocka_unit_test(from_a_plain_thread),
        cmocka_unit_test(no_more_than_most),
        cmocka_unit_test(a_source_that_is_silent),
        cmocka_unit_test(a_target_that_nobody_reads),
        cmocka_unit_test(cancelled_copies_leave_nothing),
        cmocka_unit_test(a_limit_that_has_passed),
        cmocka_unit_test(nobody_reads_any_more),
        cmocka_unit_test(the_source_is_reset),
        cmocka_unit_test(half_closed),
        cmocka_unit_test(unusual_descriptors),
        cmocka_unit_test(a_target_that_refuses),
        cmocka_unit_test(datagrams),
        cmocka_unit_test(sendfile_and_positions),
        cmocka_unit_test(sendfile_cut_short),
        cmocka_unit_test(many_relays),
        cmocka_unit_test(processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
