/* SPDX-License-Identifier: MIT
 *
 * routines/io.h: a little of everything. ctest: workers. ctest: timeout 60
 */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "routines/io.h"

static void pair(int ends[2], int type)
{
    CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
}

static void close_both(const int ends[2])
{
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
}

/* ---- ping-pong ---- */

static void *echo(void *arg)
{
    const int fd = *(int *)arg;
    char buffer[64];
    ssize_t n;
    while ((n = routine_read(fd, buffer, sizeof buffer)) > 0)
        CHECK_EQ(routine_write(fd, buffer, (size_t)n), n);
    CHECK_EQ(n, 0);
    return NULL;
}

static void ping_pong(const int ends[2], long rounds)
{
    int other = ends[1];
    routine_t h = go(echo, &other);
    for (long i = 0; i < rounds; i++) {
        long back = -1;
        CHECK_EQ(routine_write(ends[0], &i, sizeof i), sizeof i);
        CHECK_EQ(routine_read_full(ends[0], &back, sizeof back, NULL), 0);
        CHECK_EQ(back, i);
    }
    CHECK_EQ(shutdown(ends[0], SHUT_WR), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
}

TEST_EVERYWHERE(socketpairs_ping_pong)
{
    int ends[2];
    pair(ends, SOCK_STREAM);
    ping_pong(ends, support_scale(2000));
    close_both(ends);
}

/* ---- TCP ---- */

static int tcp_listener(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQ(listen(fd, 128), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static void *dial_and_ping(void *arg)
{
    const struct sockaddr_in *to = arg;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(routine_connect(fd, (const struct sockaddr *)to, sizeof *to), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    for (int i = 0; i < 100; i++) {
        int back = -1;
        CHECK_EQ(routine_write(fd, &i, sizeof i), sizeof i);
        CHECK_EQ(routine_read_full(fd, &back, sizeof back, NULL), 0);
        CHECK_EQ(back, i);
    }
    CHECK_EQ(routine_close(fd), 0);
    return NULL;
}

static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    echo(&fd);
    CHECK_EQ(routine_close(fd), 0);
    return NULL;
}

TEST_EVERYWHERE(many_connect_and_are_served)
{
    enum { CLIENTS = 20 };
    struct sockaddr_in address;
    const int listener = tcp_listener(&address);
    routine_t clients[CLIENTS], servers[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = go(dial_and_ping, &address);
    for (int i = 0; i < CLIENTS; i++) {
        const int fd = routine_accept(listener, NULL, NULL);
        CHECK(fd >= 0);
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        servers[i] = go(serve_one, (void *)(intptr_t)fd);
    }
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_EQ(routine_join(clients[i], NULL), 0);
        CHECK_EQ(routine_join(servers[i], NULL), 0);
    }
    CHECK_EQ(routine_close(listener), 0);
}

/* ---- pipes, and what else there is ---- */

static void *write_much(void *arg)
{
    enum { SIZE = 1 << 20 };
    char *data = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7);
    CHECK_EQ(routine_write(*(int *)arg, data, SIZE), SIZE);
    free(data);
    CHECK_EQ(routine_close(*(int *)arg), 0);
    return NULL;
}

static void much_comes_through(int from, int to)
{
    char buffer[5000];
    long sum = 0;
    bool same = true;
    ssize_t n;
    routine_t h = go(write_much, &to);
    while ((n = routine_read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++)
            same &= buffer[i] == (char)(sum++ * 7);
    CHECK_EQ(n, 0);
    CHECK_EQ(sum, 1 << 20);
    CHECK(same);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_close(from), 0);
}

TEST_EVERYWHERE(a_write_goes_on_until_all_is_written)
{
    int ends[2];
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    much_comes_through(ends[0], ends[1]);
    CHECK_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    much_comes_through(ends[0], ends[1]);
    pair(ends, SOCK_STREAM);
    much_comes_through(ends[0], ends[1]);

    char path[] = "/tmp/routines-io-XXXXXX", name[64];
    CHECK(mkdtemp(path) != NULL);
    snprintf(name, sizeof name, "%s/fifo", path);
    CHECK_EQ(mkfifo(name, 0600), 0);
    const int both = open(name, O_RDWR | O_CLOEXEC);
    ends[0] = open(name, O_RDONLY | O_CLOEXEC);
    ends[1] = open(name, O_WRONLY | O_CLOEXEC);
    close(both);
    much_comes_through(ends[0], ends[1]);
    unlink(name);
    rmdir(path);
}

TEST_EVERYWHERE(files_and_devices_do_not_wait)
{
    char path[] = "/tmp/routines-io-XXXXXX", text[32] = "";
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    unlink(path);
    const struct iovec parts[3] = {{"hello", 5}, {"", 0}, {", world", 7}};
    CHECK_EQ(routine_writev(fd, parts, 3), 12);
    CHECK_EQ(routine_pread(fd, text, sizeof text, 7), 5);
    CHECK_EQ(memcmp(text, "world", 5), 0);
    CHECK_EQ(routine_pwrite(fd, "W", 1, 7), 1);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_EQ(routine_read(fd, text, sizeof text), 12);
    CHECK_EQ(memcmp(text, "hello, World", 12), 0);
    CHECK_EQ(routine_read(fd, text, sizeof text), 0);
    CHECK_EQ(routine_pread(fd, text, 1, -1), -EINVAL);
    CHECK_EQ(routine_close(fd), 0);

    const int null = open("/dev/null", O_RDWR | O_CLOEXEC), zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(routine_write(null, "x", 1), 1);
    CHECK_EQ(routine_read(null, text, 1), 0);
    CHECK_EQ(routine_read(zero, text, sizeof text), sizeof text);
    CHECK_EQ(routine_close(null), 0);
    CHECK_EQ(routine_close(zero), 0);
    const int dir = open("/tmp", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(routine_read(dir, text, sizeof text), -EISDIR);
    CHECK_EQ(routine_close(dir), 0);
    CHECK_EQ(routine_read(dir, text, 1), -EBADF);
    CHECK_EQ(routine_close(dir), -EBADF);
    CHECK_EQ(routine_read(-1, text, 1), -EBADF);
}

static void *add_to_event(void *arg)
{
    const uint64_t three = 3;
    CHECK_EQ(routine_write(*(int *)arg, &three, sizeof three), sizeof three);
    return NULL;
}

TEST_EVERYWHERE(an_eventfd_wakes)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t value = 0;
    for (int i = 0; i < 20; i++) {
        routine_t h = go(add_to_event, &fd);
        CHECK_EQ(routine_read(fd, &value, sizeof value), sizeof value);
        CHECK_EQ(value, 3);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    CHECK_EQ(routine_close(fd), 0);
}

/* ---- ends ---- */

static void *read_one(void *arg)
{
    char c;
    return (void *)(intptr_t)routine_read(*(int *)arg, &c, 1);
}

static void read_of(routine_t h, long expected)
{
    void *result = NULL;
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK_EQ((intptr_t)result, expected);
}

/* Plain threads in read() do not hear of it: so this is for routines, also about those that have not begun.
 */
static void *close_wakes(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        int ends[2];
        pair(ends, SOCK_STREAM);
        routine_t a = go(read_one, &ends[0]), b = go(read_one, &ends[0]);
        if (i % 2)
            CHECK_EQ(routine_sleep(ROUTINE_MS / 4), 0);
        CHECK_EQ(routine_fd_forget(ends[1]), 0);
        if (i % 3)
            CHECK_EQ(routine_fd_forget(ends[0]), 0);
        CHECK_EQ(routine_close(ends[0]), 0);
        void *result;
        CHECK_EQ(routine_join(a, &result), 0);
        CHECK((intptr_t)result == -ECANCELED || (intptr_t)result == -EBADF);
        CHECK_EQ(routine_join(b, &result), 0);
        CHECK((intptr_t)result == -ECANCELED || (intptr_t)result == -EBADF);
        CHECK_EQ(routine_close(ends[1]), 0);
    }
    return NULL;
}

TEST(a_close_wakes_those_that_wait)
{
    support_in_routine(close_wakes, NULL);
}

TEST(a_plain_threads_close_wakes_a_routine)
{
    for (int i = 0; i < 20; i++) {
        int ends[2];
        pair(ends, SOCK_STREAM);
        routine_t h = go(read_one, &ends[0]);
        usleep(1000);
        CHECK_EQ(routine_close(ends[0]), 0);
        void *result = NULL;
        CHECK_EQ(routine_join(h, &result), 0);
        CHECK((intptr_t)result == -ECANCELED || (intptr_t)result == -EBADF);
        CHECK_EQ(routine_close(ends[1]), 0);
    }
}

TEST_EVERYWHERE(limits_end_a_wait)
{
    int ends[2];
    char c;
    pair(ends, SOCK_STREAM);
    {
        routine_with_timeout(2 * ROUTINE_MS);
        CHECK_EQ(routine_read(ends[0], &c, 1), -ETIMEDOUT);
        CHECK_EQ(routine_write(ends[0], "x", 1), -ETIMEDOUT);
    }
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    CHECK_EQ(routine_poll(&one, 1, 2), 0);
    {
        routine_with_timeout(2 * ROUTINE_MS);
        CHECK_EQ(routine_poll(&one, 1, -1), -ETIMEDOUT);
    }
    CHECK_EQ(routine_write(ends[1], "y", 1), 1);
    CHECK_EQ(routine_poll(&one, 1, -1), 1);
    CHECK_EQ(one.revents, POLLIN);
    CHECK_EQ(routine_read(ends[0], &c, 1), 1);
    CHECK_EQ(c, 'y');
    CHECK_EQ(routine_recv(ends[0], &c, 1, MSG_DONTWAIT), -EAGAIN);
    close_both(ends);
}

static void *cancelled(void *arg)
{
    (void)arg;
    int ends[2];
    pair(ends, SOCK_STREAM);
    for (int i = 0; i < 50; i++) {
        routine_t h = go(read_one, &ends[0]);
        if (i % 2)
            CHECK_EQ(routine_sleep(ROUTINE_MS / 8), 0);
        else
            routine_yield();
        routine_cancel(h);
        void *result = NULL;
        const int rc = routine_join(h, &result);
        CHECK(rc == -ECANCELED || (rc == 0 && (intptr_t)result == -ECANCELED));
    }
    routine_t h = go(read_one, &ends[0]);
    CHECK_EQ(routine_write(ends[1], "x", 1), 1);
    read_of(h, 1);
    close_both(ends);
    return NULL;
}

TEST(a_cancellation_ends_a_wait)
{
    support_in_routine(cancelled, NULL);
}

/* ---- poll ---- */

static void *write_later(void *arg)
{
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    CHECK_EQ(routine_write(*(int *)arg, "x", 1), 1);
    return NULL;
}

TEST_EVERYWHERE(poll_waits_for_several)
{
    enum { PAIRS = 9 };
    int ends[PAIRS][2];
    struct pollfd fds[PAIRS + 2];
    for (int i = 0; i < PAIRS; i++) {
        pair(ends[i], SOCK_STREAM);
        fds[i] = (struct pollfd){.fd = ends[i][0], .events = POLLIN};
    }
    fds[PAIRS] = (struct pollfd){.fd = -1, .events = POLLIN};
    fds[PAIRS + 1] = fds[0];
    for (int i = 0; i < PAIRS; i++) {
        char c;
        routine_t h = go(write_later, &ends[i][1]);
        CHECK_EQ(routine_poll(fds, PAIRS + 2, -1), i == 0 ? 2 : 1);
        CHECK_EQ(fds[i].revents, POLLIN);
        CHECK_EQ(routine_read(ends[i][0], &c, 1), 1);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    CHECK_EQ(routine_poll(NULL, 0, 1), 0);
    for (int i = 0; i < PAIRS; i++)
        close_both(ends[i]);
    fds[0].fd = ends[0][0];
    CHECK_EQ(routine_poll(fds, 1, -1), 1);
    CHECK_EQ(fds[0].revents, POLLNVAL);
}

/* ---- SIGPIPE ---- */

static _Atomic int raised;

static void on_sigpipe(int signo)
{
    (void)signo;
    atomic_fetch_add(&raised, 1);
}

TEST_EVERYWHERE(no_sigpipe)
{
    int ends[2];
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_write(ends[1], "x", 1), -EPIPE);
    CHECK_EQ(routine_write(ends[1], "x", 1), -EPIPE);
    CHECK_EQ(routine_close(ends[1]), 0);
    pair(ends, SOCK_STREAM);
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_write(ends[1], "x", 1), -EPIPE);
    CHECK_EQ(routine_send(ends[1], "x", 1, 0), -EPIPE);
    CHECK_EQ(routine_close(ends[1]), 0);
    CHECK_EQ(atomic_load(&raised), 0);
}

/* ---- one worker is enough ---- */

static void *spin(void *arg)
{
    while (!atomic_load((_Atomic bool *)arg))
        routine_yield();
    return NULL;
}

TEST(events_are_seen_while_others_are_always_ready)
{
    _Atomic bool stop = false;
    int ends[2];
    pair(ends, SOCK_STREAM);
    routine_t spinners[4];
    for (int i = 0; i < 4; i++)
        spinners[i] = go(spin, &stop);
    ping_pong(ends, support_scale(200));
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(routine_join(spinners[i], NULL), 0);
    close_both(ends);
}

int main(void)
{
    signal(SIGPIPE, on_sigpipe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(socketpairs_ping_pong),
        cmocka_unit_test(many_connect_and_are_served),
        cmocka_unit_test(a_write_goes_on_until_all_is_written),
        cmocka_unit_test(files_and_devices_do_not_wait),
        cmocka_unit_test(an_eventfd_wakes),
        cmocka_unit_test(a_close_wakes_those_that_wait),
        cmocka_unit_test(a_plain_threads_close_wakes_a_routine),
        cmocka_unit_test(limits_end_a_wait),
        cmocka_unit_test(a_cancellation_ends_a_wait),
        cmocka_unit_test(poll_waits_for_several),
        cmocka_unit_test(no_sigpipe),
        cmocka_unit_test(events_are_seen_while_others_are_always_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
