/* SPDX-License-Identifier: MIT
 *
 * src/sched/poller.{h,c}, and fdwait.c on top of it, from within: generations, counted events, rounds, closes
 * behind its back, and who polls. ctest: workers. ctest: timeout 60
 */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "io/fd.h"
#include "routines/io.h"
#include "sched/fdwait.h"

static rt_fd *record(int fd)
{
    rt_fd *f = rt_poller_make(&rt_block_runtime(rt_me())->poller, fd);
    CHECK(f != NULL);
    return f;
}

static rt_runtime *mine(void)
{
    return rt_block_runtime(rt_me());
}

static void pair(int ends[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

/* A wait for fd as the calls make it. */
static int wait_in(int fd, uint32_t generation, uint32_t seen)
{
    rt_fd *f = record(fd);
    (void)rt_enter();
    const int rc = rt_fdwait(mine(), f, fd, RT_FD_IN, generation, seen);
    rt_leave();
    return rc;
}

static void *in_routine(void (*fn)(void), void *unused)
{
    (void)unused;
    fn();
    return NULL;
}

static void *call(void *arg)
{
    void (*fn)(void) = NULL;
    memcpy(&fn, arg, sizeof fn);
    return in_routine(fn, NULL);
}

#define TEST_ROUTINE(name)                                                                                   \
    static void name##_inside(void);                                                                         \
    TEST(name)                                                                                               \
    {                                                                                                        \
        void (*fn)(void) = name##_inside;                                                                    \
        support_in_routine(call, &fn);                                                                       \
    }                                                                                                        \
    static void name##_inside(void)

static void *read_one(void *arg)
{
    char c;
    const ssize_t n = routine_read(*(int *)arg, &c, 1);
    return (void *)(intptr_t)(n == 1 ? c : n);
}

static intptr_t result_of(routine_t h)
{
    void *result = NULL;
    CHECK_EQ(routine_join(h, &result), 0);
    return (intptr_t)result;
}

/* ---- the table ---- */

TEST(a_record_for_every_number)
{
    static rt_poller p;
    rt_poller_init(&p);
    static const int numbers[] = {0, 1, 63, 64, 65, 127, 128, 1000, 2047, 2048, RT_POLLER_LARGE - 1};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        rt_fd *f = rt_poller_make(&p, numbers[i]);
        CHECK(f != NULL);
        CHECK(rt_poller_find(&p, numbers[i]) == f);
        CHECK_EQ((uintptr_t)f % RT_CACHE_LINE, 0);
        CHECK_EQ(rt_fd_events(f, RT_FD_IN), 0);
    }
    for (int fd = RT_POLLER_LARGE; fd > 0 && fd < INT32_MAX / 2; fd = 2 * fd + 1)
        CHECK(rt_poller_make_if_open(&p, fd) == NULL && rt_poller_find(&p, fd) == NULL); /* there are none */
    CHECK(rt_poller_find(&p, INT32_MAX) == NULL);
    const int large = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3 * RT_POLLER_LARGE);
    if (large >= 0) { /* as many descriptors are allowed */
        CHECK(rt_poller_make(&p, large) != NULL);
        close(large);
    }
    for (int fd = 0; fd < 3000; fd++)
        rt_poller_make(&p, fd)->generation = (uint32_t)fd;
    for (int fd = 0; fd < 3000; fd++)
        CHECK_EQ(rt_fd_generation(rt_poller_find(&p, fd)), fd);
    rt_poller_free(&p);
}

/* ---- counted events ---- */

TEST_ROUTINE(an_event_that_came_before_the_wait_is_not_slept_over)
{
    int ends[2];
    char c;
    pair(ends);
    rt_fd *f = record(ends[0]);
    const uint32_t generation = rt_fd_generation(f);
    CHECK_EQ(routine_write(ends[1], "x", 1), 1);
    uint32_t seen = rt_fd_events(f, RT_FD_IN);
    CHECK_EQ(wait_in(ends[0], generation, seen), 0); /* registering says what is there already */
    CHECK(rt_fd_events(f, RT_FD_IN) != seen);
    CHECK_EQ(wait_in(ends[0], generation, seen), 0); /* at once: the count is another */

    CHECK_EQ(routine_read(ends[0], &c, 1), 1);
    seen = rt_fd_events(f, RT_FD_IN);
    CHECK_EQ(routine_write(ends[1], "y", 1), 1); /* an edge while nobody waits: the kernel keeps it */
    CHECK_EQ(wait_in(ends[0], generation, seen), 0);

    CHECK_EQ(routine_read(ends[0], &c, 1), 1);
    seen = rt_fd_events(f, RT_FD_IN);
    int other[2]; /* or the record does, if somebody else waits, so that there is a poller */
    pair(other);
    routine_t h = go(read_one, &other[0]);
    CHECK_EQ(routine_write(ends[1], "z", 1), 1);
    const int64_t begun = routine_now();
    while (rt_fd_events(f, RT_FD_IN) == seen && routine_now() - begun < 10 * ROUTINE_S)
        CHECK_EQ(routine_sleep(ROUTINE_MS / 4), 0);
    CHECK(rt_fd_events(f, RT_FD_IN) != seen);
    const uint32_t noted = rt_fd_events(f, RT_FD_IN);
    CHECK_EQ(wait_in(ends[0], generation, seen), 0);
    CHECK_EQ(rt_fd_events(f, RT_FD_IN), noted); /* it has not waited for a round to tell it again */
    CHECK_EQ(routine_write(other[1], "o", 1), 1);
    CHECK_EQ(result_of(h), 'o');
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(routine_close(ends[i]), 0);
        CHECK_EQ(routine_close(other[i]), 0);
    }
}

/* ---- generations ---- */

TEST_ROUTINE(a_call_from_before_the_close_does_not_wait_after_it)
{
    int ends[2];
    pair(ends);
    rt_fd *f = record(ends[0]);
    const uint32_t generation = rt_fd_generation(f), seen = rt_fd_events(f, RT_FD_IN);
    const int number = ends[0];
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(wait_in(number, generation, seen), -ECANCELED);
    int other[2];
    pair(other); /* one of them has the number again */
    CHECK_EQ(wait_in(number, generation, seen), -ECANCELED);
    CHECK_EQ(routine_close(other[0]), 0);
    CHECK_EQ(routine_close(other[1]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
    CHECK_EQ(wait_in(number, rt_fd_generation(f), rt_fd_events(f, RT_FD_IN)), -EBADF);
}

static int waiters(int fd)
{
    rt_fd *f = record(fd);
    int count = 0;
    rt_lock_acquire(&f->lock);
    for (const rt_waiter *w = rt_queue_head(&f->waiters[RT_FD_IN]); w; w = w->next)
        count++;
    rt_lock_release(&f->lock);
    return count;
}

/* Until somebody waits for fd. */
static void await_waiter(int fd)
{
    const rt_fd *f = record(fd);
    const int64_t begun = routine_now();
    while (rt_queue_is_empty(&f->waiters[RT_FD_IN])) {
        CHECK_EQ(routine_sleep(ROUTINE_MS / 8), 0);
        if (routine_now() - begun > 20 * ROUTINE_S) {
            CHECK(!"nobody waits");
            return;
        }
    }
}

TEST_ROUTINE(events_of_an_earlier_life_are_dropped)
{
    int ends[2], other[2];
    pair(ends);
    pair(other);
    const int number = ends[0];
    routine_t h = go(read_one, &ends[0]);
    await_waiter(number);
    const int kept = dup(number); /* the old registration outlives a close behind our back, */
    CHECK(kept >= 0);
    CHECK_EQ(routine_fd_forget(number), 0);
    CHECK_EQ(result_of(h), -ECANCELED);
    rt_fd *f = record(number);
    /* ... as if DEL had not been called */
    const uint64_t stale = (uint64_t)(rt_fd_generation(f) - 1) << 32 | (uint32_t)number;
    CHECK_EQ(rt_epoll_ctl(rt_poller_epoll(&mine()->poller), EPOLL_CTL_ADD, kept, EPOLLIN | EPOLLET, stale),
             0);
    CHECK_EQ(dup2(other[0], number), number);
    h = go(read_one, &ends[0]);
    await_waiter(number);
    const uint32_t before = rt_fd_events(f, RT_FD_IN);
    CHECK_EQ(routine_write(ends[1], "o", 1), 1);
    CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
    CHECK_EQ(rt_fd_events(f, RT_FD_IN), before);
    CHECK(!rt_queue_is_empty(&f->waiters[RT_FD_IN]));
    CHECK_EQ(routine_write(other[1], "n", 1), 1);
    CHECK_EQ(result_of(h), 'n');
    close(kept);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(routine_close(ends[i]), 0);
        CHECK_EQ(routine_close(other[i]), 0);
    }
}

TEST_ROUTINE(a_duplicate_does_not_keep_the_registration)
{
    int ends[2];
    pair(ends);
    const int number = ends[0], kept = dup(number);
    routine_t h = go(read_one, &ends[0]);
    await_waiter(number);
    CHECK_EQ(routine_close(number), 0);
    CHECK_EQ(result_of(h), -ECANCELED);
    CHECK_EQ(dup2(kept, number), number); /* the very same file under the same number */
    h = go(read_one, &ends[0]);
    await_waiter(number);
    CHECK_EQ(routine_write(ends[1], "x", 1), 1);
    CHECK_EQ(result_of(h), 'x');
    CHECK_EQ(routine_close(number), 0);
    CHECK_EQ(routine_close(kept), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
}

/* ---- closes behind its back: rounds ---- */

TEST_ROUTINE(a_number_reused_behind_its_back_is_found_out)
{
    int ends[2], other[2];
    pair(ends);
    pair(other);
    const int number = ends[0];
    routine_t h = go(read_one, &ends[0]);
    await_waiter(number);
    CHECK_EQ(routine_write(ends[1], "a", 1), 1);
    CHECK_EQ(result_of(h), 'a');
    CHECK(rt_fd_is_registered(record(number)));
    CHECK_EQ(dup2(other[0], number), number); /* the kernel has forgotten, the record has not */
    h = go(read_one, &ends[0]);
    await_waiter(number);
    CHECK_EQ(routine_write(other[1], "b", 1), 1);
    CHECK_EQ(result_of(h), 'b');

    CHECK_EQ(close(number), 0); /* nothing at all is there by now */
    int file[2];
    CHECK_EQ(pipe2(file, O_CLOEXEC), 0);
    if (file[0] != number) {
        CHECK_EQ(dup2(file[0], number), number); /* and now it is something else */
        close(file[0]);
    }
    h = go(read_one, &ends[0]);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    CHECK_EQ(routine_write(file[1], "c", 1), 1);
    CHECK_EQ(result_of(h), 'c');
    CHECK_EQ(routine_close(number), 0);
    CHECK_EQ(routine_close(file[1]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
    CHECK_EQ(routine_close(other[0]), 0);
    CHECK_EQ(routine_close(other[1]), 0);
}

static void tcp_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, size), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(routine_connect(ends[0], (struct sockaddr *)&address, size), 0);
    ends[1] = routine_accept(listener, NULL, NULL);
    CHECK(ends[1] >= 0);
    CHECK_EQ(routine_close(listener), 0);
}

/* A read that came up short lets the next one wait at once: for something that is not there any more. */
TEST_ROUTINE(a_wait_for_what_was_closed_ends)
{
    int ends[2];
    char text[8];
    tcp_pair(ends);
    routine_t h = go(read_one, &ends[0]);
    await_waiter(ends[0]);
    CHECK_EQ(routine_write(ends[1], "a", 1), 1);
    CHECK_EQ(result_of(h), 'a');
    CHECK_EQ(routine_write(ends[1], "bc", 2), 2);
    CHECK_EQ(routine_read(ends[0], text, sizeof text), 2);
    CHECK_EQ(atomic_load(&record(ends[0])->drained), rt_fd_events(record(ends[0]), RT_FD_IN));
    CHECK_EQ(close(ends[0]), 0); /* and the number stays free */
    CHECK_EQ(routine_read(ends[0], text, sizeof text), -EBADF);
    CHECK_EQ(routine_close(ends[1]), 0);
}

/* The end of a stream that was noted together with its last bytes makes no further edge. */
TEST_ROUTINE(the_end_is_seen_behind_a_short_read)
{
    int other[2];
    pair(other);
    routine_t poller = go(read_one, &other[0]); /* for its sake somebody polls */
    await_waiter(other[0]);
    long short_reads = 0;
    for (long i = support_scale(2000); i > 0; i--) {
        int ends[2];
        char text[8];
        tcp_pair(ends);
        const rt_fd *f = record(ends[0]);
        const bool noted = i % 2;
        CHECK_EQ(routine_write(ends[1], "abc", 3), 3);
        if (noted) {
            (void)rt_enter(); /* registered, as if it had been waited for */
            CHECK_EQ(rt_fdwait_register(mine(), record(ends[0]), ends[0], rt_fd_generation(f)), 0);
            rt_leave();
        }
        CHECK_EQ(i % 3 ? shutdown(ends[1], SHUT_WR) : 0, 0);
        CHECK_EQ(routine_close(ends[1]), 0);
        const int64_t begun = routine_now();
        while (noted && !atomic_load(&f->always_try) && routine_now() - begun < 10 * ROUTINE_S)
            routine_yield();
        CHECK_EQ(routine_read(ends[0], text, sizeof text), 3);
        CHECK_EQ(routine_read(ends[0], text, sizeof text), 0);
        /* else there was nothing to it; but another event may have come since, of the close */
        short_reads += noted && atomic_load(&f->drained) == rt_fd_events(f, RT_FD_IN);
        CHECK(!noted || rt_fd_age(f) == 0); /* it has not waited */
        CHECK_EQ(routine_close(ends[0]), 0);
    }
    CHECK(short_reads > 0);
    CHECK_EQ(routine_write(other[1], "x", 1), 1);
    CHECK_EQ(result_of(poller), 'x');
    CHECK_EQ(routine_close(other[0]), 0);
    CHECK_EQ(routine_close(other[1]), 0);
}

TEST_ROUTINE(when_all_is_verified_there_are_no_rounds)
{
    enum { PAIRS = 400 }; /* more than are verified at once */
    static int ends[PAIRS][2];
    static routine_t readers[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        pair(ends[i]);
        readers[i] = go(read_one, &ends[i][0]);
    }
    for (int i = 0; i < PAIRS; i++)
        await_waiter(ends[i][0]);
    CHECK(rt_poller_round_at(&mine()->poller) != INT64_MAX);
    const int64_t begun = routine_now();
    while (rt_poller_round_at(&mine()->poller) != INT64_MAX && routine_now() - begun < 20 * ROUTINE_S)
        CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
    CHECK_EQ(rt_poller_round_at(&mine()->poller), INT64_MAX);
    for (int i = 0; i < PAIRS; i++) {
        CHECK_EQ(rt_fd_age(record(ends[i][0])), 0);
        CHECK(!rt_queue_is_empty(&record(ends[i][0])->waiters[RT_FD_IN]));
        CHECK_EQ(routine_write(ends[i][1], "x", 1), 1);
        CHECK_EQ(result_of(readers[i]), 'x');
        CHECK_EQ(routine_close(ends[i][0]), 0);
        CHECK_EQ(routine_close(ends[i][1]), 0);
    }
}

/* ---- who polls ---- */

static void *hold(void *arg)
{
    _Atomic int *state = arg;
    atomic_fetch_add(state, 1);
    while (atomic_load(state) < 1000)
        ; /* no co-operation at all */
    return NULL;
}

TEST(events_are_seen_while_every_worker_computes)
{
    int ends[2];
    pair(ends);
    routine_runtime_t *rt = support_runtime(2);
    routine_t reader = support_go_on(rt, read_one, &ends[0]);
    usleep(5000);
    _Atomic int state = 0;
    routine_t holders[2] = {support_go_on(rt, hold, &state), support_go_on(rt, hold, &state)};
    while (atomic_load(&state) < 2)
        usleep(100);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    if (rt_membarrier_works)
        CHECK_EQ(result_of(reader), 'x');
    atomic_store(&state, 1000);
    if (!rt_membarrier_works)
        CHECK_EQ(result_of(reader), 'x');
    CHECK_EQ(routine_join(holders[0], NULL), 0);
    CHECK_EQ(routine_join(holders[1], NULL), 0);
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
    support_runtime_end(rt);
}

/* I7: that a wait has begun wakes a sleeper, who polls, though the worker that it began on goes on with
 * something else. */
static void *begin_and_compute(void *arg)
{
    rt_runtime *rt = mine();
    const int64_t begun = routine_now();
    (void)arg;
    for (;;) { /* until the other worker sleeps */
        const uint64_t state = atomic_load(&rt->idle.state);
        if ((RT_IDLE_SLEEPERS(state) == 1 && RT_IDLE_SEARCHERS(state) == 0 &&
             !rt_idle_is_polling(&rt->idle)) ||
            routine_now() - begun > 20 * ROUTINE_S)
            break;
    }
    (void)rt_enter();
    rt_fdwait_begin(rt);
    rt_leave();
    while (!rt_idle_is_polling(&rt->idle) && routine_now() - begun < 30 * ROUTINE_S)
        continue;
    CHECK(rt_idle_is_polling(&rt->idle));
    (void)rt_enter();
    rt_fdwait_end(rt);
    rt_leave();
    return NULL;
}

TEST(a_wait_that_begins_calls_a_poller)
{
    int ends[2];
    pair(ends);
    routine_runtime_t *rt = support_runtime(2);
    routine_t reader = support_go_on(rt, read_one, &ends[0]);
    usleep(1000);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(result_of(reader), 'x'); /* so it has been started */
    CHECK_EQ(routine_join(support_go_on(rt, begin_and_compute, NULL), NULL), 0);
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
    support_runtime_end(rt);
}

/* Waits are counted, and the last one ends the polling. */
TEST(nobody_polls_when_nobody_waits)
{
    int ends[2];
    pair(ends);
    routine_runtime_t *rt = support_runtime(2);
    CHECK(!rt_fdwait_any(rt));
    for (int i = 0; i < 20; i++) {
        routine_t reader = support_go_on(rt, read_one, &ends[0]);
        while (!rt_fdwait_any(rt))
            usleep(100);
        for (int k = 0; k < 20000 && !rt_idle_is_polling(&rt->idle); k++)
            usleep(1000);
        CHECK(rt_idle_is_polling(&rt->idle));
        CHECK_EQ(write(ends[1], "x", 1), 1);
        CHECK_EQ(result_of(reader), 'x');
        CHECK(!rt_fdwait_any(rt));
    }
    for (int k = 0; k < 20000 && rt_idle_is_polling(&rt->idle); k++)
        usleep(1000);
    CHECK(!rt_idle_is_polling(&rt->idle));
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
    support_runtime_end(rt);
}

/* A timer that is set while a worker sleeps in the poller is not late by the poller's sleep; nor is what a
 * plain thread starts. */
static void *start_and_sleep(void *arg)
{
    (void)arg;
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    return NULL;
}

TEST(a_sleeping_poller_is_woken_for_work_and_for_timers)
{
    for (size_t workers = 1; workers <= 2; workers++) {
        int ends[2];
        pair(ends);
        routine_runtime_t *rt = support_runtime(workers);
        routine_t reader = support_go_on(rt, read_one, &ends[0]);
        for (long i = support_scale(400); i > 0; i--) {
            for (int k = 0; k < 20000 && !rt_idle_is_polling(&rt->idle); k++)
                usleep(50);
            CHECK_EQ(routine_join(support_go_on(rt, start_and_sleep, NULL), NULL), 0);
        }
        CHECK_EQ(write(ends[1], "x", 1), 1);
        CHECK_EQ(result_of(reader), 'x');
        CHECK_EQ(routine_close(ends[0]), 0);
        CHECK_EQ(routine_close(ends[1]), 0);
        support_runtime_end(rt);
    }
}

static int64_t cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

TEST(idle_costs_nothing)
{
    int ends[2];
    pair(ends);
    routine_runtime_t *rt = support_runtime(0);
    routine_t reader = support_go_on(rt, read_one, &ends[0]);
    usleep(600000); /* rounds, and the monitor goes to sleep */
    const int64_t before = cpu_time();
    usleep(500000);
    CHECK(cpu_time() - before < 20000000); /* of 500 ms */
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(result_of(reader), 'x');
    CHECK_EQ(routine_close(ends[0]), 0);
    CHECK_EQ(routine_close(ends[1]), 0);
    support_runtime_end(rt);
}

static void *read_until_cancelled(void *arg)
{
    CHECK_EQ((intptr_t)read_one(arg), -ECANCELED);
    return NULL;
}

TEST(a_shutdown_ends_waits)
{
    for (long i = support_scale(100); i > 0; i--) {
        enum { READERS = 10 };
        int ends[2];
        pair(ends);
        routine_runtime_t *rt = support_runtime(2);
        routine_t readers[READERS];
        for (int k = 0; k < READERS; k++)
            readers[k] = support_go_on(rt, read_until_cancelled, &ends[0]);
        if (i % 2)
            usleep(300);
        CHECK_EQ(routine_runtime_shutdown(rt, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_close(ends[0]), 0); /* with the records of a runtime that is shut down */
        for (int k = 0; k < READERS; k++) {
            const int rc = routine_join(readers[k], NULL);
            CHECK(rc == 0 || rc == -ECANCELED); /* never begun */
        }
        CHECK_EQ(routine_runtime_free(rt), 0);
        CHECK_EQ(routine_close(ends[1]), 0);
    }
}

TEST(two_runtimes_wait_for_one_descriptor)
{
    int ends[2];
    pair(ends);
    routine_runtime_t *rt[2] = {support_runtime(1), support_runtime(2)};
    for (int i = 0; i < 20; i++) {
        routine_t h[2];
        for (int k = 0; k < 2; k++)
            h[k] = support_go_on(rt[k], read_one, &ends[0]);
        usleep(200);
        CHECK_EQ(write(ends[1], "ab", 2), 2);
        CHECK_EQ(result_of(h[0]) + result_of(h[1]), 'a' + 'b');
    }
    routine_t h[2];
    for (int k = 0; k < 2; k++)
        h[k] = support_go_on(rt[k], read_one, &ends[0]);
    usleep(2000);
    CHECK_EQ(routine_close(ends[0]), 0);
    for (int k = 0; k < 2; k++) {
        const intptr_t rc = result_of(h[k]);
        CHECK(rc == -ECANCELED || rc == -EBADF); /* the last: it had not begun */
        support_runtime_end(rt[k]);
    }
    CHECK_EQ(routine_close(ends[1]), 0);
}

/* ---- storms ---- */

enum { LIVES = 8 };

static struct {
    int ends[LIVES][2];
    _Atomic int state[LIVES]; /* 0: open; 1: being closed */
    _Atomic long woken, cancelled, strange;
} storm;

/* Readers of a number whose owner closes it and opens it again all the time: each gets its own life's byte,
 * or hears of the close. */
static void *storm_reader(void *arg)
{
    const int fd = (int)((intptr_t)arg & 0xffff);
    const char life = (char)((intptr_t)arg >> 16);
    char c = 0;
    const ssize_t n = routine_read(fd, &c, 1);
    if (n == 1 && c == life)
        atomic_fetch_add(&storm.woken, 1);
    else if (n == -ECANCELED)
        atomic_fetch_add(&storm.cancelled, 1);
    else
        atomic_fetch_add(&storm.strange, 1);
    return NULL;
}

static void *storm_owner(void *arg)
{
    (void)arg;
    uint64_t random = (uint64_t)routine_now() | 1;
    for (long i = 0; i < support_scale(2000); i++) {
        int ends[2];
        pair(ends);
        const char life = (char)(i % 100 + 1);
        const intptr_t what = (intptr_t)life << 16 | ends[0];
        routine_t readers[2] = {go(storm_reader, (void *)what), go(storm_reader, (void *)what)};
        const int64_t begun = routine_now(); /* both have begun before the number gets another life */
        while (waiters(ends[0]) < 2 && routine_now() - begun < 20 * ROUTINE_S)
            routine_yield();
        switch (rt_random(&random) % 4) {
        case 0:
            CHECK_EQ(routine_write(ends[1], &life, 1), 1);
            break;
        case 1:
            CHECK_EQ(routine_write(ends[1], (char[]){life, life}, 2), 2);
            routine_yield();
            break;
        default:
            break;
        }
        CHECK_EQ(routine_close(ends[0]), 0);
        CHECK_EQ(routine_close(ends[1]), 0);
        /* the readers are joined only after others have got the number */
        if (i % 2)
            routine_yield();
        int next[2];
        pair(next);
        CHECK_EQ(routine_write(next[1], "\x7f", 1), 1);
        CHECK_EQ(routine_join(readers[0], NULL), 0);
        CHECK_EQ(routine_join(readers[1], NULL), 0);
        CHECK_EQ(routine_close(next[0]), 0);
        CHECK_EQ(routine_close(next[1]), 0);
    }
    return NULL;
}

TEST(closed_and_opened_all_the_time)
{
    enum { OWNERS = 4 };
    routine_t owners[OWNERS];
    atomic_store(&storm.strange, 0);
    for (int i = 0; i < OWNERS; i++)
        owners[i] = go(storm_owner, NULL);
    for (int i = 0; i < OWNERS; i++)
        CHECK_EQ(routine_join(owners[i], NULL), 0);
    CHECK_EQ(atomic_load(&storm.strange), 0);
    CHECK(atomic_load(&storm.cancelled) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_for_every_number),
        cmocka_unit_test(an_event_that_came_before_the_wait_is_not_slept_over),
        cmocka_unit_test(a_call_from_before_the_close_does_not_wait_after_it),
        cmocka_unit_test(events_of_an_earlier_life_are_dropped),
        cmocka_unit_test(a_duplicate_does_not_keep_the_registration),
        cmocka_unit_test(a_number_reused_behind_its_back_is_found_out),
        cmocka_unit_test(a_wait_for_what_was_closed_ends),
        cmocka_unit_test(the_end_is_seen_behind_a_short_read),
        cmocka_unit_test(when_all_is_verified_there_are_no_rounds),
        cmocka_unit_test(events_are_seen_while_every_worker_computes),
        cmocka_unit_test(a_wait_that_begins_calls_a_poller),
        cmocka_unit_test(nobody_polls_when_nobody_waits),
        cmocka_unit_test(a_sleeping_poller_is_woken_for_work_and_for_timers),
        cmocka_unit_test(idle_costs_nothing),
        cmocka_unit_test(a_shutdown_ends_waits),
        cmocka_unit_test(two_runtimes_wait_for_one_descriptor),
        cmocka_unit_test(closed_and_opened_all_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
