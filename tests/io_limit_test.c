/* SPDX-License-Identifier: MIT
 *
 * Tests of waits for descriptors that are ended: every call that can wait, and {it completes, a limit of time
 * passes, it is cancelled, several of these at once}, before it begins, while it waits, and at the very
 * moment. The machine is that of interrupt_play.h, with this table of operations. Whatever happens, nothing
 * that came is lost and nothing is sent twice; and who has written a part of it is told how much.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "interrupt_stage.h"

#include "io_support.h"

/* ---- what is read ---- */

static void set_up(struct stage *s, const char *kind)
{
    s->fd[2] = -1;
    s->size = 0;
    s->in[0] = UNTOUCHED;
    kind_named(kind)->open(s->fd);
    s->twist = (unsigned)(support_random(&s->random) >> 20);
    if (s->twist & 1)
        set_nonblocking(s->fd[0], true);
    if (s->twist & 2)
        set_nonblocking(s->fd[1], true);
}

#define SET_UP(name, kind)                                                                                   \
    static void set_up_##name(struct stage *s)                                                               \
    {                                                                                                        \
        set_up(s, kind);                                                                                     \
    }

SET_UP(stream, "unix stream")
SET_UP(dgram, "unix dgram")
SET_UP(seqpacket, "unix seqpacket")
SET_UP(tcp, "tcp v4")
SET_UP(udp, "udp v4")
SET_UP(pipe, "pipe")
SET_UP(pty, "pty")
SET_UP(eventfd, "eventfd")
SET_UP(timerfd, "timerfd")

static int op_read(struct stage *s)
{
    return (int)routine_read(s->fd[0], &s->in[0], 8);
}

static int op_readv(struct stage *s)
{
    unsigned char *bytes = (unsigned char *)&s->in[0];
    const struct iovec parts[3] = {{bytes, 3}, {bytes, 0}, {bytes + 3, 5}};
    return (int)routine_readv(s->fd[0], parts, 3);
}

static int op_recv(struct stage *s)
{
    return (int)routine_recv(s->fd[0], &s->in[0], 8, 0);
}

static int op_recvfrom(struct stage *s)
{
    union any_address from;
    socklen_t size = sizeof from;
    const int rc = (int)routine_recvfrom(s->fd[0], &s->in[0], 8, 0, &from.any, &size);
    STAGE_CHECK(s, rc < 0 || (size == sizeof from.v4 && from.any.sa_family == AF_INET));
    return rc;
}

static int op_recvmsg(struct stage *s)
{
    struct iovec part = {&s->in[0], 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return (int)routine_recvmsg(s->fd[0], &message, 0);
}

static int op_peek(struct stage *s)
{
    uint64_t peeked = UNTOUCHED;
    int rc = (int)routine_recv(s->fd[0], &peeked, 8, MSG_PEEK);
    STAGE_CHECK(s, rc < 0 || (rc == 8 && peeked == 77));
    return rc;
}

static bool op_feed(struct stage *s)
{
    const struct itimerspec soon = {{0, 0}, {0, 1}};
    if (s->woken == 0 && s->op->setup == set_up_timerfd)
        FD(timerfd_settime(s->fd[1], 0, &soon, NULL));
    else if (s->woken == 0)
        STAGE_CHECK(s, plain_write(s->fd[1], &(uint64_t){77}, 8) == 8);
    s->woken = 1;
    return true;
}

static void close_stage(struct stage *s)
{
    for (int i = 0; i < 3; i++)
        if (s->fd[i] >= 0)
            STAGE_CHECK(s, routine_close(s->fd[i]) == 0);
}

static void check_fed(struct stage *s)
{
    const uint64_t value = s->op->setup == set_up_timerfd ? 1 : 77;
    uint64_t left = UNTOUCHED;
    STAGE_CHECK(s, !completed(s) || (s->woken != 0 && s->rc == 8));
    if (s->op->wait == op_peek)
        STAGE_CHECK(s, s->in[0] == UNTOUCHED);
    else
        STAGE_CHECK(s, s->in[0] == (completed(s) ? value : UNTOUCHED));
    if (s->woken != 0 && (!completed(s) || s->op->wait == op_peek)) {
        await_event(s->fd[0], POLLIN);
        STAGE_CHECK(s, try_read(s->fd[0], &left, 8) == 8 && left == value);
    }
    STAGE_CHECK(s, try_read(s->fd[0], &left, 8) == -EAGAIN);
    STAGE_CHECK(s,
                !!(fcntl(s->fd[0], F_GETFL) & O_NONBLOCK) ==
                    (s->twist & 1 || (s->fd[0] != s->fd[1] && (s->twist & 2) &&
                                      (s->op->setup == set_up_eventfd || s->op->setup == set_up_timerfd))));
    close_stage(s);
}

/* ---- the whole of it, in pieces ---- */

enum { PIECES = 4, PIECE = 4 };

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 7 + (i >> 8) * 13 + 1);
}

static int op_read_full(struct stage *s)
{
    size_t done = UNTOUCHED;
    const int rc = routine_read_full(s->fd[0], s->in, PIECES * PIECE, &done);
    s->size = done;
    STAGE_CHECK(s, (rc == 0) == (done == PIECES * PIECE));
    return rc;
}

/* With MSG_WAITALL what has come is the count. */
static int op_recv_all(struct stage *s)
{
    const int rc = (int)routine_recv(s->fd[0], s->in, PIECES * PIECE, MSG_WAITALL);
    STAGE_CHECK(s, rc == PIECES * PIECE || (rc != 0 && routine_check() < 0));
    s->size = rc > 0 ? (size_t)rc : 0;
    return rc;
}

static bool op_feed_piece(struct stage *s)
{
    unsigned char bytes[PIECE];
    if (s->woken < PIECES) {
        for (size_t i = 0; i < PIECE; i++)
            bytes[i] = byte_at(s->woken * PIECE + i);
        STAGE_CHECK(s, plain_write(s->fd[1], bytes, PIECE) == PIECE);
        s->woken++;
    }
    return s->woken == PIECES;
}

static void check_pieces(struct stage *s)
{
    unsigned char bytes[PIECES * PIECE] = {0};
    const size_t put = s->woken * PIECE;
    memcpy(bytes, s->in, s->size);
    STAGE_CHECK(s, s->size <= put);
    if (put > s->size) {
        await_event(s->fd[0], POLLIN);
        STAGE_CHECK(s,
                    try_read(s->fd[0], bytes + s->size, sizeof bytes - s->size) == (ssize_t)(put - s->size));
    }
    for (size_t i = 0; i < put; i++)
        STAGE_CHECK(s, bytes[i] == byte_at(i));
    STAGE_CHECK(s, try_read(s->fd[0], bytes, 1) == -EAGAIN);
    close_stage(s);
}

/* ---- what is written: to the full ---- */

static const struct kind *kind_of(const struct stage *s);

static void fill_up(struct stage *s)
{
    s->out[0] = 55;
    s->out[1] = fill(kind_of(s), s->fd[1]); /* zeros */
    s->out[2] = 0;                          /* taken out */
    s->out[3] = 0;                          /* of those, of the last eight bytes */
}

#define SET_UP_FULL(name)                                                                                    \
    static void set_up_full_##name(struct stage *s)                                                          \
    {                                                                                                        \
        set_up_##name(s);                                                                                    \
        fill_up(s);                                                                                          \
    }

SET_UP_FULL(stream)
SET_UP_FULL(dgram)
SET_UP_FULL(seqpacket)
SET_UP_FULL(pipe)
SET_UP_FULL(eventfd)

static const struct kind *kind_of(const struct stage *s)
{
    return kind_named(s->op->setup == set_up_full_stream      ? "unix stream"
                      : s->op->setup == set_up_full_dgram     ? "unix dgram"
                      : s->op->setup == set_up_full_seqpacket ? "unix seqpacket"
                      : s->op->setup == set_up_full_pipe      ? "pipe"
                                                              : "eventfd");
}

static int op_write(struct stage *s)
{
    return (int)routine_write(s->fd[1], &s->out[0], 8);
}

static int op_writev(struct stage *s)
{
    unsigned char *bytes = (unsigned char *)&s->out[0];
    const struct iovec parts[3] = {{bytes, 3}, {bytes, 0}, {bytes + 3, 5}};
    return (int)routine_writev(s->fd[1], parts, 3);
}

static int op_send(struct stage *s)
{
    return (int)routine_send(s->fd[1], &s->out[0], 8, 0);
}

static int op_sendto(struct stage *s)
{
    return (int)routine_sendto(s->fd[1], &s->out[0], 8, 0, NULL, 0);
}

static int op_sendmsg(struct stage *s)
{
    struct iovec part = {&s->out[0], 8};
    return (int)routine_sendmsg(s->fd[1], &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1}, 0);
}

/* Takes out what is there. */
static void take_out(struct stage *s)
{
    unsigned char last[8];
    memcpy(last, &s->out[3], 8);
    const size_t n = drain(s->fd[0], last, 8);
    memcpy(&s->out[3], last, 8);
    s->out[2] += n;
    s->woken |= n != 0;
}

static bool op_drain(struct stage *s)
{
    if (s->woken == 0)
        take_out(s);
    return s->woken != 0;
}

static void check_drained(struct stage *s)
{
    const uint64_t all = s->out[1] + (completed(s) ? 8 : 0);
    STAGE_CHECK(s, !completed(s) || (s->woken != 0 && s->rc == 8));
    for (int64_t end = routine_now() + PATIENCE; s->out[2] < all && routine_now() < end; take_out(s))
        routine_yield();
    take_out(s);
    STAGE_CHECK(s, s->out[2] == all);
    if (s->op->setup == set_up_full_eventfd) /* a sum: unless it was taken out in between */
        STAGE_CHECK(s, s->out[3] == (completed(s) ? 55 : UINT64_MAX - 1));
    else
        STAGE_CHECK(s, s->out[3] == (completed(s) ? 55 : 0));
    close_stage(s);
}

/* ---- what is written: much ---- */

enum { MUCH = 300000 };
static unsigned char much[MUCH];

/* The first call finds it full, so a limit and a cancellation may meet it with nothing written. */
static int op_write_much(struct stage *s)
{
    struct iovec parts[3] = {{much, 7}, {much + 7, 199993}, {much + 200000, 100000}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    ssize_t rc;
    switch (s->op->n) {
    case 0:
        rc = routine_write(s->fd[1], much, MUCH);
        break;
    case 1:
        rc = routine_writev(s->fd[1], parts, 3);
        break;
    case 2:
        rc = routine_send(s->fd[1], much, MUCH, 0);
        break;
    case 3:
        rc = routine_sendto(s->fd[1], much, MUCH, MSG_NOSIGNAL, NULL, 0);
        break;
    case 4:
        rc = routine_sendmsg(s->fd[1], &message, 0);
        break;
    default: {
        size_t done = UNTOUCHED;
        const int all = routine_write_all(s->fd[1], much, MUCH, &done);
        STAGE_CHECK(s, (all == 0) == (done == MUCH));
        s->size = done;
        return all;
    }
    }
    STAGE_CHECK(s, rc == MUCH || (rc != 0 && routine_check() < 0));
    s->size = rc > 0 ? (size_t)rc : 0;
    return (int)rc;
}

static void take_much(struct stage *s)
{
    static _Thread_local unsigned char bytes[65536];
    for (ssize_t n; (n = try_read(s->fd[0], bytes, sizeof bytes)) > 0;) {
        for (ssize_t i = 0; i < n; i++, s->out[2]++)
            if (s->out[2] >= s->out[1] && bytes[i] != much[s->out[2] - s->out[1]]) {
                STAGE_CHECK(s, bytes[i] == much[s->out[2] - s->out[1]]);
                break;
            }
        s->woken = 1;
    }
}

static bool op_drain_much(struct stage *s)
{
    take_much(s);
    return s->out[2] >= s->out[1] + MUCH;
}

static void check_much(struct stage *s)
{
    const uint64_t all = s->out[1] + s->size;
    for (int64_t end = routine_now() + PATIENCE; s->out[2] < all && routine_now() < end; take_much(s))
        routine_yield();
    take_much(s);
    STAGE_CHECK(s, s->out[2] == all);
    close_stage(s);
}

/* ---- connections ---- */

static void set_up_listener(struct stage *s)
{
    union any_address *a = calloc(1, sizeof *a);
    socklen_t size;
    s->fd[0] = FD(listener(AF_INET, a, &size, 5));
    s->fd[1] = s->fd[2] = -1;
    s->in[0] = (uint64_t)(uintptr_t)a;
    s->twist = (unsigned)(support_random(&s->random) >> 20);
    set_nonblocking(s->fd[0], s->twist & 1);
}

static int op_accept(struct stage *s)
{
    const int fd = routine_accept(s->fd[0], NULL, NULL);
    if (fd >= 0)
        s->fd[2] = fd;
    return fd < 0 ? fd : 0;
}

static bool op_dial(struct stage *s)
{
    const union any_address *a = (const union any_address *)(uintptr_t)s->in[0];
    if (s->woken == 0) {
        s->fd[1] = FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        STAGE_CHECK(s, connect(s->fd[1], &a->any, sizeof a->v4) == 0 || errno == EINPROGRESS);
        s->woken = 1;
    }
    return true;
}

static void check_accept(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    set_nonblocking(s->fd[0], true);
    if (s->woken != 0 && !completed(s)) {
        await_event(s->fd[0], POLLIN);
        s->fd[2] = FD(accept4(s->fd[0], NULL, NULL, SOCK_CLOEXEC));
    }
    STAGE_CHECK(s, accept4(s->fd[0], NULL, NULL, SOCK_CLOEXEC) < 0);
    free((void *)(uintptr_t)s->in[0]);
    close_stage(s);
}

/* Nobody accepts there, and there is no room in its queue: packets are dropped. */
static union any_address no_answer;
static int no_answer_listener, no_answer_clients[8];

static void open_no_answer(void)
{
    socklen_t size;
    no_answer_listener = FD(listener(AF_INET, &no_answer, &size, 0));
    for (int i = 0; i < 8; i++) {
        no_answer_clients[i] = FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (connect(no_answer_clients[i], &no_answer.any, size) == 0)
            continue;
    }
}

static void set_up_connect(struct stage *s)
{
    s->fd[0] = FD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    s->fd[1] = s->fd[2] = -1;
    s->twist = (unsigned)(support_random(&s->random) >> 20);
    set_nonblocking(s->fd[0], s->twist & 1);
}

static int op_connect(struct stage *s)
{
    return routine_connect(s->fd[0], &no_answer.any, sizeof no_answer.v4);
}

static void check_connect(struct stage *s)
{
    STAGE_CHECK(s, !completed(s));
    STAGE_CHECK(s, !!(fcntl(s->fd[0], F_GETFL) & O_NONBLOCK) == (s->twist & 1));
    close_stage(s);
}

/* ---- poll ---- */

static void set_up_poll(struct stage *s)
{
    set_up_stream(s);
    s->fd[2] = FD(eventfd(0, EFD_CLOEXEC));
}

static int op_poll(struct stage *s)
{
    struct pollfd p[4] = {
        {s->fd[2], POLLIN, 77}, {-1, POLLIN, 77}, {s->fd[0], POLLIN, 77}, {s->fd[0], POLLPRI, 77}};
    const bool own_time = s->op->flags & TIMED && s->duration != ROUTINE_NEVER;
    int rc = routine_poll(p, s->op->n, own_time ? 1 : s->twist & 4 ? -1 : 3600 * 1000);
    if (rc > 0)
        STAGE_CHECK(s, rc == 1 && p[0].revents == 0 && p[1].revents == 0 && p[2].revents == POLLIN &&
                           (s->op->n == 3 || p[3].revents == 0));
    if (s->op->flags & TIMED)
        return rc < 0 ? rc : 1 - rc;
    STAGE_CHECK(s, rc != 0);
    return rc;
}

/* One descriptor is all. */
static int op_poll_one(struct stage *s)
{
    struct pollfd p = {s->fd[0], POLLIN, 77};
    const int rc = routine_poll(&p, 1, -1);
    STAGE_CHECK(s, rc < 0 || (rc == 1 && p.revents == POLLIN));
    return rc;
}

static void check_poll(struct stage *s)
{
    uint64_t left;
    STAGE_CHECK(s, !completed(s) || s->woken != 0 || ((s->op->flags & TIMED) && s->rc == 1));
    STAGE_CHECK(s, try_read(s->fd[0], &left, 8) == (s->woken != 0 ? 8 : -EAGAIN));
    close_stage(s);
}

/* ---- the table ---- */

static const struct op ops[] = {
    {"read, unix stream", 0, 0, set_up_stream, op_read, op_feed, check_fed},
    {"read, tcp", 0, 0, set_up_tcp, op_read, op_feed, check_fed},
    {"read, pipe", 0, 0, set_up_pipe, op_read, op_feed, check_fed},
    {"read, pty", 0, 0, set_up_pty, op_read, op_feed, check_fed},
    {"read, eventfd", 0, 0, set_up_eventfd, op_read, op_feed, check_fed},
    {"read, timerfd", 0, 0, set_up_timerfd, op_read, op_feed, check_fed},
    {"readv, pipe", 0, 0, set_up_pipe, op_readv, op_feed, check_fed},
    {"readv, seqpacket", 0, 0, set_up_seqpacket, op_readv, op_feed, check_fed},
    {"recv, udp", 0, 0, set_up_udp, op_recv, op_feed, check_fed},
    {"recvfrom, udp", 0, 0, set_up_udp, op_recvfrom, op_feed, check_fed},
    {"recvmsg, unix dgram", 0, 0, set_up_dgram, op_recvmsg, op_feed, check_fed},
    {"recv, peek", 0, 0, set_up_stream, op_peek, op_feed, check_fed},
    {"read_full", 0, 0, set_up_stream, op_read_full, op_feed_piece, check_pieces},
    {"recv all", 0, 0, set_up_stream, op_recv_all, op_feed_piece, check_pieces},
    {"write, unix stream", 0, 0, set_up_full_stream, op_write, op_drain, check_drained},
    {"write, pipe", 0, 0, set_up_full_pipe, op_write, op_drain, check_drained},
    {"write, eventfd", 0, 0, set_up_full_eventfd, op_write, op_drain, check_drained},
    {"writev, pipe", 0, 0, set_up_full_pipe, op_writev, op_drain, check_drained},
    {"send, unix dgram", 0, 0, set_up_full_dgram, op_send, op_drain, check_drained},
    {"sendto, seqpacket", 0, 0, set_up_full_seqpacket, op_sendto, op_drain, check_drained},
    {"sendmsg, unix dgram", 0, 0, set_up_full_dgram, op_sendmsg, op_drain, check_drained},
    {"write much, unix stream", 0, 0, set_up_full_stream, op_write_much, op_drain_much, check_much},
    {"write much, pipe", 0, 0, set_up_full_pipe, op_write_much, op_drain_much, check_much},
    {"writev much, pipe", 0, 1, set_up_full_pipe, op_write_much, op_drain_much, check_much},
    {"writev much, unix stream", 0, 1, set_up_full_stream, op_write_much, op_drain_much, check_much},
    {"send much", 0, 2, set_up_full_stream, op_write_much, op_drain_much, check_much},
    {"sendto much", 0, 3, set_up_full_stream, op_write_much, op_drain_much, check_much},
    {"sendmsg much", 0, 4, set_up_full_stream, op_write_much, op_drain_much, check_much},
    {"write_all", 0, 5, set_up_full_pipe, op_write_much, op_drain_much, check_much},
    {"accept", 0, 0, set_up_listener, op_accept, op_dial, check_accept},
    {"connect without an answer", ENDLESS, 0, set_up_connect, op_connect, NULL, check_connect},
    {"poll", 0, 3, set_up_poll, op_poll, op_feed, check_poll},
    {"poll, one twice", 0, 4, set_up_poll, op_poll, op_feed, check_poll},
    {"poll of one", 0, 1, set_up_stream, op_poll_one, op_feed, check_poll},
    {"poll with a time of its own", TIMED, 3, set_up_poll, op_poll, op_feed, check_poll},
};

#include "interrupt_play.h"

/* ---- one thing, or several at once ---- */

TEST(it_completes)
{
    play(WAKE, batches(20));
}

TEST(a_limit_passes)
{
    play(LIMIT, batches(20));
}

TEST(it_is_cancelled)
{
    play(CANCEL, batches(20));
}

TEST(waker_against_canceller)
{
    play(WAKE | CANCEL, batches(50));
}

TEST(waker_against_limit)
{
    play(WAKE | LIMIT, batches(50));
}

TEST(canceller_against_limit)
{
    play(CANCEL | LIMIT, batches(20));
}

TEST(all_three)
{
    play(WAKE | CANCEL | LIMIT, batches(50));
}

TEST(at_the_very_moment)
{
    play_moments(CANCEL, batches(150));
    play_moments(WAKE | CANCEL, batches(300));
}

TEST(one_that_was_cancelled_before_takes_nothing)
{
    struct before b = {support_runtime(1), support_scale(12)};
    support_in_routine(refuse_canceled, &b);
    refuse_canceled(&b);
    support_runtime_end(b.other);
}

TEST(one_whose_limit_has_passed_before_takes_nothing)
{
    long rounds = support_scale(15);
    support_in_routine(refuse_expired, &rounds);
    refuse_expired(&rounds);
}

TEST(under_a_shield_it_completes)
{
    long rounds = support_scale(8);
    direct(direct_shielded, &rounds);
    support_in_routine(direct_shielded, &rounds);
    direct_shielded(&rounds);
}

/* A shutdown cancels all that wait for descriptors. */
TEST(a_shutdown_cancels_a_thousand)
{
    const long n = support_slow() ? 200 : 1000;
    routine_runtime_t *runtime = support_runtime(0);
    struct stage *stages = calloc((size_t)n, sizeof *stages);
    uint64_t random = 85;
    for (long i = 0; i < n; i++) {
        stage_begin(&stages[i], &ops[i % (long)COUNT_OF(ops)], CANCEL, support_random(&random));
        stages[i].actor.routine = stages[i].waiter = support_go_on(runtime, wait_here, &stages[i]);
    }
    for (long i = 0; i < n; i++)
        WAIT_UNTIL(atomic_load(&stages[i].begun));
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
    for (long i = 0; i < n; i++) {
        struct stage *s = &stages[i];
        end_waiter(s);
        STAGE_CHECK(s, s->rc == -ECANCELED || s->rc == NOT_RUN);
        s->op->check(s);
    }
    free(stages);
}

/* ---- a stream under random interruptions ---- */

/*
 * Bytes with their places go through a descriptor. Both sides give up again and again: by limits, and by
 * cancellations of the routine that makes the call, each of which is one of its own. What counts is what the
 * calls say they have read and written.
 */
struct pass {
    const struct kind *kind;
    int fd[2];
    size_t size;
    unsigned seed;
    size_t given_up;
};

struct
try {
    int fd;
    unsigned char *bytes;
    size_t size;
    bool writes;
    int how;
    ssize_t rc;
};

static ssize_t try_once(struct try *t)
{
    struct iovec parts[2] = {{t->bytes, t->size / 3}, {t->bytes + t->size / 3, t->size - t->size / 3}};
    if (t->writes)
        return t->how ? routine_writev(t->fd, parts, 2) : routine_write(t->fd, t->bytes, t->size);
    return t->how ? routine_readv(t->fd, parts, 2) : routine_read(t->fd, t->bytes, t->size);
}

static void *try_body(void *arg)
{
    struct try *t = arg;
    t->rc = try_once(t);
    return NULL;
}

static ssize_t try_interrupted(struct try *t, uint64_t *random)
{
    const uint64_t r = support_random(random);
    t->how = (int)(r & 1);
    t->rc = -ECANCELED;
    switch (r >> 8 & 3) {
    case 0: {
        routine_with_timeout((int64_t)(r >> 16) % (60 * ROUTINE_US));
        return try_once(t);
    }
    case 1: {
        const routine_t h = go(try_body, t);
        if (r >> 20 & 1)
            routine_yield();
        spin_randomly(random);
        CHECK_EQ(routine_cancel(h), 0);
        const int rc = routine_join(h, NULL);
        CHECK(rc == 0 || (rc == -ECANCELED && t->rc == -ECANCELED));
        return t->rc;
    }
    case 2: {
        const routine_t h = go(try_body, t);
        spin_randomly(random);
        {
            routine_with_timeout((int64_t)(r >> 16) % (30 * ROUTINE_US));
            if (routine_join(h, NULL) == 0)
                return t->rc;
        }
        CHECK_EQ(routine_cancel(h), 0);
        const int rc = routine_join(h, NULL);
        CHECK(rc == 0 || (rc == -ECANCELED && t->rc == -ECANCELED));
        return t->rc;
    }
    default: {
        routine_with_timeout(20 * ROUTINE_MS);
        return try_once(t);
    }
    }
}

static void *pass_on(struct pass *p, bool writes)
{
    unsigned char *bytes = malloc(100000);
    uint64_t random = p->seed * 2 + 1 + writes;
    for (size_t at = 0; at < p->size;) {
        const uint64_t r = support_random(&random);
        size_t n = 1 + r % (r >> 40 & 1 ? 100000 : 2000);
        if (n > p->size - at)
            n = p->size - at;
        for (size_t i = 0; i < n && writes; i++)
            bytes[i] = byte_at(at + i);
        struct try t = {.fd = p->fd[writes], .bytes = bytes, .size = n, .writes = writes};
        const ssize_t rc = try_interrupted(&t, &random);
        if (rc <= 0) {
            if (rc != -ETIMEDOUT && rc != -ECANCELED)
                support_fail(__FILE__, __LINE__, "%s %s: %zd", p->kind->name, writes ? "write" : "read", rc);
            if (writes)
                p->given_up++;
            if (rc != -ETIMEDOUT && rc != -ECANCELED)
                break;
            continue;
        }
        for (size_t i = 0; i < (size_t)rc && !writes; i++)
            if (bytes[i] != byte_at(at + i)) {
                support_fail(__FILE__, __LINE__, "%s: another byte at %zu", p->kind->name, at + i);
                at = p->size;
                break;
            }
        at += (size_t)rc;
    }
    free(bytes);
    return NULL;
}

static void *pass_writes(void *arg)
{
    return pass_on(arg, true);
}

static void *pass_reads(void *arg)
{
    return pass_on(arg, false);
}

TEST(a_stream_keeps_its_bytes)
{
    static const char *const names[] = {"unix stream", "tcp v4", "pipe", "fifo"};
    for (enum cast cast = ROUTINES; cast < CASTS; cast++)
        for (size_t i = 0; i < COUNT_OF(names); i++)
            for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
                struct pass p = {.kind = kind_named(names[i]),
                                 .size = (size_t)support_scale(4000000),
                                 .seed = (unsigned)i};
                unsigned char left;
                watch("a stream", names[i], NULL);
                p.kind->open(p.fd);
                for (int k = 0; k < 2; k++)
                    set_nonblocking(p.fd[k], nonblocking);
                const struct actor writer = act(cast_is_thread(cast, 0), pass_writes, &p),
                                   reader = act(cast_is_thread(cast, 1), pass_reads, &p);
                act_end(writer);
                act_end(reader);
                CHECK_EQ(try_read(p.fd[0], &left, 1), -EAGAIN);
                for (int k = 0; k < 2; k++)
                    CHECK_EQ(routine_close(p.fd[k]), 0);
            }
}

/* ---- messages under random interruptions, many on each side ---- */

enum { SIDES = 4 };

struct mail {
    int fd[2];
    long count;
    _Atomic long next, arrived;
    _Atomic unsigned char *seen;
};

static void *post_letters(void *arg)
{
    struct mail *m = arg;
    static _Atomic uint64_t seed = 1;
    uint64_t random = atomic_fetch_add(&seed, 2);
    for (long i; (i = atomic_fetch_add(&m->next, 1)) < m->count;) {
        uint64_t number = (uint64_t)i;
        ssize_t rc;
        do {
            struct try t = {
                .fd = m->fd[1], .bytes = (unsigned char *)&number, .size = sizeof number, .writes = true};
            rc = try_interrupted(&t, &random);
        } while (rc == -ETIMEDOUT || rc == -ECANCELED);
        CHECK_EQ(rc, 8);
    }
    return NULL;
}

static void *read_letters(void *arg)
{
    struct mail *m = arg;
    static _Atomic uint64_t seed = 1001;
    uint64_t random = atomic_fetch_add(&seed, 2);
    while (atomic_load(&m->arrived) < m->count) {
        uint64_t number = UINT64_MAX;
        struct try t = {.fd = m->fd[0], .bytes = (unsigned char *)&number, .size = sizeof number};
        const ssize_t rc = try_interrupted(&t, &random);
        if (rc < 0) {
            CHECK(rc == -ETIMEDOUT || rc == -ECANCELED);
            continue;
        }
        CHECK_EQ(rc, 8);
        if (number < (uint64_t)m->count)
            CHECK_EQ(atomic_fetch_add(&m->seen[number], 1), 0);
        else
            CHECK_EQ(number, 0);
        atomic_fetch_add(&m->arrived, 1);
    }
    return NULL;
}

/* Each message is received exactly once. */
TEST(messages_arrive_once)
{
    static const char *const names[] = {"unix dgram", "unix seqpacket", "pipe"};
    for (enum cast cast = ROUTINES; cast < CASTS; cast++)
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            struct mail m = {.count = support_scale(3000)};
            struct actor a[2 * SIDES];
            m.seen = calloc((size_t)m.count, 1);
            watch("messages", names[i], NULL);
            kind_named(names[i])->open(m.fd);
            for (int k = 0; k < 2 * SIDES; k++)
                a[k] = act(cast_is_thread(cast, k / 2), k % 2 ? post_letters : read_letters, &m);
            for (int k = 0; k < 2 * SIDES; k++)
                act_end(a[k]);
            CHECK_EQ(atomic_load(&m.arrived), m.count);
            for (int k = 0; k < 2; k++)
                CHECK_EQ(routine_close(m.fd[k]), 0);
            free((void *)m.seen);
        }
}

/* ---- limits and nothing else ---- */

struct punctual {
    int fd;
    int64_t ns;
};

static void *wait_punctually(void *arg)
{
    struct punctual *p = arg;
    char byte;
    const int64_t before = routine_now();
    {
        routine_with_timeout(p->ns);
        CHECK_EQ(routine_read(p->fd, &byte, 1), -ETIMEDOUT);
        CHECK(routine_now() - before >= p->ns); /* never early */
        CHECK_EQ(routine_read(p->fd, &byte, 1), -ETIMEDOUT);
    }
    CHECK_EQ(routine_check(), 0);
    return NULL;
}

/* Many limits of different lengths on one descriptor, for which nothing ever comes. */
TEST(many_limits_on_one_descriptor)
{
    enum { MANY = 500 };
    struct punctual p[MANY];
    struct actor a[MANY];
    int fd[2];
    uint64_t random = 87;
    open_unix_stream(fd);
    for (int i = 0; i < MANY; i++) {
        p[i] = (struct punctual){fd[0], (int64_t)(support_random(&random) % (300 * ROUTINE_MS))};
        a[i] = act(i % 50 == 0, wait_punctually, &p[i]);
    }
    for (int i = 0; i < MANY; i++)
        act_end(a[i]);
    CHECK_EQ(routine_close(fd[0]), 0);
    CHECK_EQ(routine_close(fd[1]), 0);
}

/* A limit that has passed by the clock does not make a call fail that need not wait; and limits nest. */
static void *nest_limits(void *arg)
{
    int fd[2];
    char byte;
    (void)arg;
    open_pipe(fd);
    {
        routine_with_timeout(50 * ROUTINE_MS);
        {
            routine_with_timeout(3600 * ROUTINE_S);
            CHECK_EQ(routine_read(fd[0], &byte, 1), -ETIMEDOUT);
        }
        CHECK_EQ(routine_check(), -ETIMEDOUT);
        {
            routine_shield();
            CHECK_EQ(routine_write(fd[1], "x", 1), 1);
            {
                routine_with_timeout(ROUTINE_MS);
                CHECK_EQ(routine_read(fd[0], &byte, 1), 1);
                CHECK_EQ(routine_read(fd[0], &byte, 1), -ETIMEDOUT);
            }
        }
        CHECK_EQ(routine_write(fd[1], "x", 1), -ETIMEDOUT);
        CHECK_EQ(routine_close(fd[0]), 0); /* close is never cut short */
    }
    CHECK_EQ(routine_write(fd[1], "x", 1), -EPIPE);
    CHECK_EQ(routine_close(fd[1]), 0);
    return NULL;
}

TEST(limits_nest)
{
    nest_limits(NULL);
    support_in_routine(nest_limits, NULL);
}

/* What ends things works for one who was cancelled. */
static void *end_things(void *arg)
{
    int fd[2];
    (void)arg;
    open_tcp4(fd);
    CHECK_EQ(routine_cancel(routine_self()), 0);
    CHECK_EQ(routine_write(fd[0], "x", 1), -ECANCELED);
    CHECK_EQ(routine_accept(fd[0], NULL, NULL), -ECANCELED);
    CHECK_EQ(routine_fd_forget(fd[0]), 0);
    CHECK_EQ(routine_close(fd[0]), 0);
    CHECK_EQ(routine_close(fd[1]), 0);
    CHECK(!is_open(fd[0]) && !is_open(fd[1]));
    return NULL;
}

TEST(close_when_cancelled)
{
    support_in_routine(end_things, NULL);
}

int main(void)
{
    SUPPORT_NO_CASES();
    watch_begin(220);
    for (size_t i = 0; i < MUCH; i++)
        much[i] = byte_at(i);
    open_no_answer();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_completes),
        cmocka_unit_test(a_limit_passes),
        cmocka_unit_test(it_is_cancelled),
        cmocka_unit_test(waker_against_canceller),
        cmocka_unit_test(waker_against_limit),
        cmocka_unit_test(canceller_against_limit),
        cmocka_unit_test(all_three),
        cmocka_unit_test(at_the_very_moment),
        cmocka_unit_test(one_that_was_cancelled_before_takes_nothing),
        cmocka_unit_test(one_whose_limit_has_passed_before_takes_nothing),
        cmocka_unit_test(under_a_shield_it_completes),
        cmocka_unit_test(a_shutdown_cancels_a_thousand),
        cmocka_unit_test(a_stream_keeps_its_bytes),
        cmocka_unit_test(messages_arrive_once),
        cmocka_unit_test(many_limits_on_one_descriptor),
        cmocka_unit_test(limits_nest),
        cmocka_unit_test(close_when_cancelled),
    };
    return cmocka_run_group_tests_name("io_limit", tests, NULL, NULL);
}
