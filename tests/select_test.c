/* SPDX-License-Identifier: MIT
 *
 * Tests of select, from the outside (chan.h): every kind of case, what is returned, times, fairness;
 * that exactly one case happens, whoever else is at it; that the other cases leave nothing behind,
 * neither in queues nor in memory; selects that face each other, in pairs, crowds and rings.
 *
 * What is handed over is plain memory here, so that ThreadSanitizer sees whether select orders it as
 * sending and receiving do.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "chan_support.h"

#include <math.h>

/* ---- at once ---- */

TEST_EVERYWHERE(default_happens_when_nothing_else_can)
{
    chan_t *empty = MAKE(int, 3), *full = MAKE(int, 1), *meeting = MAKE(int, 0);
    int x = -1, y = 5;
    CHECK_EQ(chan_send(full, &y), 0);
    CHECK_EQ(chan_select(CHAN_DEFAULT), 0);
    CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_DEFAULT), 1);
    CHECK_EQ(chan_select(CHAN_DEFAULT, CHAN_RECV(empty, &x)), 0);
    CHECK_EQ(chan_select(CHAN_SEND(full, &y), CHAN_RECV(empty, &x), CHAN_DEFAULT), 2);
    CHECK_EQ(chan_select(CHAN_SEND(meeting, &y), CHAN_RECV(meeting, &x), CHAN_DEFAULT), 2);
    CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_DEFAULT, CHAN_DEFAULT), 1); /* the first */
    CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_DEFAULT, CHAN_TIMEOUT(ROUTINE_S)), 1);
    CHECK_EQ(chan_select(CHAN_RECV(empty, &x), CHAN_TIMEOUT(0), CHAN_DEFAULT), 1);
    CHECK_EQ(x, -1);
    CHECK_EQ(chan_select(CHAN_DEFAULT, CHAN_RECV(full, &x)), 1);
    CHECK_EQ(x, 5);
    CHECK_EQ(chan_select(CHAN_DEFAULT, CHAN_SEND(empty, &y), CHAN_RECV(full, &x)), 1);
    CHECK_EQ(chan_len(empty), 1);
    CHECK_EQ(chan_len(full), 0);
    chan_unref(empty);
    chan_unref(full);
    chan_unref(meeting);
}

TEST_EVERYWHERE(a_null_channel_is_a_case_switched_off)
{
    chan_t *ch = MAKE(int, 1);
    int x = -1, y = 3;
    CHECK_EQ(chan_select(CHAN_RECV(NULL, &x), CHAN_DEFAULT), 1);
    CHECK_EQ(chan_select(CHAN_SEND(NULL, &y), CHAN_RECV(NULL, &x), CHAN_DEFAULT), 2);
    CHECK_EQ(chan_select(CHAN_SEND(NULL, &y), CHAN_TIMEOUT(ROUTINE_MS)), 1);
    CHECK_EQ(chan_select(CHAN_SEND(NULL, &y), CHAN_RECV(NULL, &x), CHAN_SEND(ch, &y)), 2);
    CHECK_EQ(chan_select(CHAN_SEND(NULL, &y), CHAN_RECV(NULL, &x), CHAN_SEND(NULL, &y), CHAN_RECV(ch, &x)),
             3);
    CHECK_EQ(x, 3);
    CHECK_EQ(chan_close(ch), 0);
    CHECK_EQ(chan_select(CHAN_RECV(NULL, &x), CHAN_RECV(NULL, &x), CHAN_RECV(ch, &x)), CHAN_CLOSED(2));
    chan_unref(ch);
}

/* {open, closed, null} x {send, receive} x {blocking, try, select}: here all that need not wait. */
TEST_EVERYWHERE(the_whole_matrix)
{
    static const ptrdiff_t rooms[] = {0, 1, 2, 3, CHAN_UNBOUNDED};
    for (size_t i = 0; i < COUNT_OF(rooms); i++) {
        chan_t *ch = MAKE(int, rooms[i]);
        const int room = rooms[i] == CHAN_UNBOUNDED ? 4 : (int)rooms[i];
        int x = -1;
        CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN); /* open */
        CHECK_EQ(chan_select(CHAN_RECV(ch, &x), CHAN_DEFAULT), 1);
        for (int k = 0; k < room; k++)
            CHECK_EQ(k % 3 == 0   ? chan_send(ch, &k)
                     : k % 3 == 1 ? chan_try_send(ch, &k)
                                  : chan_select(CHAN_SEND(ch, &k), CHAN_DEFAULT),
                     0);
        if (rooms[i] != CHAN_UNBOUNDED) {
            CHECK_EQ(chan_try_send(ch, &x), -EAGAIN);
            CHECK_EQ(chan_select(CHAN_SEND(ch, &x), CHAN_DEFAULT), 1);
        }
        CHECK_EQ(chan_close(ch), 0);
        for (int k = 0; k < room; k++) { /* closed, not drained */
            CHECK_EQ(chan_send(ch, &x), -EPIPE);
            CHECK_EQ(chan_try_send(ch, &x), -EPIPE);
            CHECK_EQ(chan_select(CHAN_SEND(ch, &x), CHAN_DEFAULT), CHAN_CLOSED(0));
            CHECK_EQ(k % 3 == 2   ? chan_recv(ch, &x)
                     : k % 3 == 1 ? chan_try_recv(ch, &x)
                                  : chan_select(CHAN_RECV(ch, &x)),
                     0);
            CHECK_EQ(x, k);
        }
        x = -1;
        CHECK_EQ(chan_recv(ch, &x), -EPIPE); /* drained */
        CHECK_EQ(chan_try_recv(ch, &x), -EPIPE);
        CHECK_EQ(chan_select(CHAN_RECV(ch, &x)), CHAN_CLOSED(0));
        CHECK_EQ(chan_select(CHAN_DEFAULT, CHAN_RECV(ch, &x)), CHAN_CLOSED(1));
        CHECK_EQ(chan_send(ch, &x), -EPIPE);
        CHECK_EQ(chan_try_send(ch, &x), -EPIPE);
        CHECK_EQ(chan_select(CHAN_SEND(ch, &x)), CHAN_CLOSED(0));
        CHECK_EQ(x, -1);
        chan_unref(ch);
    }
    CHECK_EQ(chan_send(NULL, &(int){0}), -EINVAL); /* null */
    CHECK_EQ(chan_try_send(NULL, &(int){0}), -EINVAL);
    CHECK_EQ(chan_select(CHAN_SEND(NULL, &(int){0}), CHAN_DEFAULT), 1);
    CHECK_EQ(chan_recv(NULL, &(int){0}), -EINVAL);
    CHECK_EQ(chan_try_recv(NULL, &(int){0}), -EINVAL);
    CHECK_EQ(chan_select(CHAN_RECV(NULL, &(int){0}), CHAN_DEFAULT), 1);
}

TEST_EVERYWHERE(closed_and_ready_ones_are_chosen_alike)
{
    chan_t *closed = MAKE(int, 1), *ready = MAKE(int, 1);
    int seen[2] = {0, 0};
    CHECK_EQ(chan_close(closed), 0);
    CHECK_EQ(chan_send(ready, &(int){0}), 0);
    for (int i = 0; i < 200; i++) {
        int x = -1;
        const int got = i % 2 ? chan_select(CHAN_SEND(closed, &x), CHAN_RECV(ready, &x), CHAN_DEFAULT)
                              : chan_select(CHAN_RECV(closed, &x), CHAN_RECV(ready, &x), CHAN_DEFAULT);
        CHECK(got == CHAN_CLOSED(0) || got == 1);
        CHECK_EQ(x, got == 1 ? 0 : -1);
        CHECK_EQ(chan_len(ready), got == 1 ? 0 : 1);
        if (got == 1)
            CHECK_EQ(chan_send(ready, &x), 0);
        seen[got == 1]++;
    }
    CHECK(seen[0] > 0);
    CHECK(seen[1] > 0);
    chan_unref(closed);
    chan_unref(ready);
}

static int evaluations;

static chan_t *evaluated(chan_t *ch)
{
    evaluations++;
    return ch;
}

TEST(arguments_are_evaluated_once)
{
    chan_t *ch = MAKE(int, 2);
    int x[5] = {1, 2, 3, 4, 5}, *p = x, *q = x;
    evaluations = 0;
    CHECK_EQ(chan_select(CHAN_SEND(evaluated(ch), p++), CHAN_RECV(evaluated(NULL), q++), CHAN_DEFAULT), 0);
    CHECK_EQ(evaluations, 2);
    CHECK(p == x + 1 && q == x + 1);
    CHECK_EQ(chan_send(evaluated(ch), p++), 0);
    CHECK_EQ(chan_recv(evaluated(ch), p++), 0);
    CHECK_EQ(chan_try_recv(evaluated(ch), p++), 0);
    CHECK_EQ(chan_try_send(evaluated(ch), --p), 0);
    CHECK_EQ(evaluations, 6);
    CHECK(p == x + 3);
    CHECK_EQ(x[2], 1);
    chan_unref(ch);
}

/* ---- the array form ---- */

TEST_EVERYWHERE(the_array_form)
{
    chan_t *ch = MAKE(int, 2);
    int x = -1, y = 9;
    const chan_case_t nothing[] = {CHAN_DEFAULT};
    const chan_case_t cases[] = {CHAN_RECV(NULL, &x), CHAN_DEFAULT, CHAN_RECV(ch, &x)};
    CHECK_EQ(chan_select_array(nothing, 1), 0);
    CHECK_EQ(chan_select_array(cases, 3), 1);
    CHECK_EQ(chan_send(ch, &y), 0);
    CHECK_EQ(chan_select_array(cases, 2), 1); /* only those that were given */
    CHECK_EQ(x, -1);
    CHECK_EQ(chan_select_array(cases, 3), 2);
    CHECK_EQ(x, 9);
    CHECK_EQ(chan_close(ch), 0);
    CHECK_EQ(chan_select_array(cases, 3), CHAN_CLOSED(2));
    chan_unref(ch);
}

/* An error is an error whatever the other cases are, and nothing was transferred. */
TEST_EVERYWHERE(cases_that_are_none)
{
    static const int kinds[] = {99, 6, 1000000, -1};
    chan_t *ch = MAKE(int, 2);
    int x = -1, y = 9;
    CHECK_EQ(chan_send(ch, &y), 0);
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (int at = 0; at < 4; at++) {
            chan_case_t cases[] = {CHAN_RECV(ch, &x), CHAN_SEND(ch, &y), CHAN_TIMEOUT(1), CHAN_DEFAULT};
            memcpy(&cases[at].kind, &kinds[i], sizeof cases[at].kind);
            CHECK_EQ(chan_select_array(cases, 4), -EINVAL);
            CHECK_EQ(chan_select_array(&cases[at], 1), -EINVAL);
            CHECK_EQ(chan_len(ch), 1);
            CHECK_EQ(x, -1);
        }
    chan_unref(ch);
}

/* As many as there may be, and one more. */
TEST(the_most_cases)
{
    const size_t most = CHAN_CASES_MAX;
    chan_case_t *cases = calloc(most + 1, sizeof *cases);
    chan_t *ch = MAKE(int, 1), *never = MAKE(int, 0);
    int x = -1;
    for (size_t i = 0; i <= most; i++)
        cases[i] = CHAN_RECV(NULL, &x);
    cases[most - 1] = CHAN_RECV(ch, &x);
    CHECK_EQ(chan_send(ch, &(int){5}), 0);
    CHECK_EQ(chan_select_array(cases, most + 1), -EINVAL);
    CHECK_EQ(chan_select_array(cases, SIZE_MAX), -EINVAL);
    CHECK_EQ(chan_len(ch), 1);
    CHECK_EQ(chan_select_array(cases, most), most - 1);
    CHECK_EQ(x, 5);
    CHECK_EQ(chan_close(ch), 0);
    CHECK_EQ(chan_select_array(cases, most), CHAN_CLOSED((int)most - 1));
    for (size_t i = 0; i < most; i++)
        cases[i] = CHAN_RECV(never, &x);
    cases[most - 2] = CHAN_TIMEOUT(ROUTINE_MS);
    CHECK_EQ(chan_select_array(cases, most), most - 2);
    CHECK_EQ(chan_try_send(never, &x), -EAGAIN); /* all of them have left its queue */
    free(cases);
    chan_unref(ch);
    chan_unref(never);
}

/* ---- many channels ---- */

struct wide {
    chan_t **channels;
    size_t n;
    bool send;
    int got;
    size_t value;
    size_t *values;
};

static void *select_wide(void *arg)
{
    struct wide *w = arg;
    chan_case_t *cases = malloc(w->n * sizeof *cases);
    for (size_t i = 0; i < w->n; i++) {
        w->values[i] = i;
        cases[i] = w->send ? CHAN_SEND(w->channels[i], &w->values[i]) : CHAN_RECV(w->channels[i], &w->value);
    }
    w->got = chan_select_array(cases, w->n);
    free(cases);
    return NULL;
}

static void nobody_waits(chan_t *const *channels, size_t n)
{
    size_t x = 0;
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(chan_try_send(channels[i], &x), -EAGAIN);
        CHECK_EQ(chan_try_recv(channels[i], &x), -EAGAIN);
    }
}

TEST(over_any_number_of_channels)
{
    static const size_t numbers[] = {1, 2, 3, 15, 16, 17, 18, 33, 100, 1000};
    static chan_t *channels[1000];
    static size_t values[1000];
    for (size_t k = 0; k < COUNT_OF(numbers); k++) {
        const size_t n = numbers[k];
        struct wide w = {.channels = channels, .n = n, .values = values};
        uint64_t seed = n;
        for (size_t i = 0; i < n; i++)
            channels[i] = MAKE(size_t, 0);
        for (int round = 0; round < 24; round++) {
            const size_t at = round < 2 ? 0 : round < 4 ? n - 1 : support_random(&seed) % n;
            size_t x = at + 1000;
            w.send = round % 2;
            w.got = -1;
            struct actor a = act(round % 8 > 5, select_wide, &w);
            if (round % 3) { /* waits at one place, or is found ready */
                CHECK_EQ(w.send ? chan_recv(channels[at], &x) : chan_send(channels[at], &x), 0);
            } else {
                int rc;
                while ((rc = w.send ? chan_try_recv(channels[at], &x) : chan_try_send(channels[at], &x)) ==
                       -EAGAIN)
                    routine_yield();
                CHECK_EQ(rc, 0);
            }
            act_end(a);
            CHECK_EQ(w.got, at);
            CHECK_EQ(w.send ? x : w.value, w.send ? at : at + 1000);
            nobody_waits(channels, n);
        }
        const size_t last = support_random(&seed) % n;
        struct actor a = act(false, select_wide, &w);
        routine_yield();
        CHECK_EQ(chan_close(channels[last]), 0);
        act_end(a);
        CHECK_EQ(w.got, CHAN_CLOSED((int)last));
        for (size_t i = 0; i < n; i++)
            chan_unref(channels[i]);
    }
}

/* ---- one channel in several cases ---- */

TEST_EVERYWHERE(the_same_channel_many_times)
{
    chan_t *ch = MAKE(int, 1);
    int x[4] = {-1, -1, -1, -1}, y = 6;
    for (int round = 0; round < 50; round++) {
        CHECK_EQ(chan_send(ch, &y), 0);
        const int got = chan_select(CHAN_RECV(ch, &x[0]), CHAN_RECV(ch, &x[1]), CHAN_RECV(ch, &x[2]),
                                    CHAN_RECV(ch, &x[3]), CHAN_DEFAULT);
        CHECK(got >= 0 && got < 4);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(x[i], i == got ? 6 : -1);
            x[i] = -1;
        }
        CHECK_EQ(chan_len(ch), 0);
        CHECK(chan_select(CHAN_SEND(ch, &y), CHAN_SEND(ch, &y)) >= 0);
        CHECK_EQ(chan_len(ch), 1);
        CHECK_EQ(chan_recv(ch, NULL), 0);
    }
    chan_unref(ch);
}

/* Both directions of a buffered channel: what comes out was once put in, and it is never both at once. */
TEST_EVERYWHERE(both_directions_of_a_buffer)
{
    chan_t *ch = MAKE(int, 3);
    int in = 0, out = 0, x = -1;
    for (int i = 0; i < 2000; i++) {
        switch (chan_select(CHAN_SEND(ch, &in), CHAN_RECV(ch, &x))) {
        case 0:
            in++;
            break;
        case 1:
            CHECK_EQ(x, out);
            out++;
            break;
        default:
            CHECK(false);
        }
        CHECK_EQ(chan_len(ch), in - out);
    }
    CHECK(in >= 900); /* every other time at least it must send */
    chan_unref(ch);
}

/* Alone with itself it can do neither. */
TEST_EVERYWHERE(never_with_itself)
{
    chan_t *ch = MAKE(int, 0);
    int x = -1, y = 7;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(chan_select(CHAN_SEND(ch, &y), CHAN_RECV(ch, &x), CHAN_DEFAULT), 2);
        CHECK_EQ(chan_select(CHAN_RECV(ch, &x), CHAN_SEND(ch, &y), CHAN_RECV(ch, &x),
                             CHAN_TIMEOUT(100 * ROUTINE_US)),
                 3);
    }
    CHECK_EQ(x, -1);
    CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
    CHECK_EQ(chan_try_send(ch, &y), -EAGAIN);
    chan_unref(ch);
}

struct both {
    chan_t *ch;
    long rounds;
    _Atomic int index;
    _Atomic long sent, received;
    _Atomic uint64_t sum_sent, sum_received;
};

/* With two at a rendezvous each deed of one is a deed of the other: they come to the end together. */
static void *send_or_receive(void *arg)
{
    struct both *b = arg;
    const uint64_t me = (uint64_t)atomic_fetch_add(&b->index, 1);
    for (long i = 0; i < b->rounds; i++) {
        uint64_t mine = (uint64_t)i * 2 + me, theirs = UINT64_MAX;
        int got = me == 0 || i % 2 ? chan_select(CHAN_SEND(b->ch, &mine), CHAN_RECV(b->ch, &theirs))
                                   : 1 - chan_select(CHAN_RECV(b->ch, &theirs), CHAN_SEND(b->ch, &mine));
        if (got == 0) {
            CHECK_EQ(theirs, UINT64_MAX);
            atomic_fetch_add(&b->sent, 1);
            atomic_fetch_add(&b->sum_sent, mine);
        } else {
            CHECK_EQ(got, 1);
            if (chan_cap(b->ch) == 0)
                CHECK(theirs % 2 != me); /* never one's own */
            atomic_fetch_add(&b->received, 1);
            atomic_fetch_add(&b->sum_received, theirs);
        }
    }
    return NULL;
}

static void run_both(enum cast cast, ptrdiff_t room, long rounds)
{
    struct both b = {.ch = MAKE(uint64_t, room), .rounds = rounds};
    struct actor a[2];
    uint64_t x;
    for (int i = 0; i < 2; i++)
        a[i] = act(cast_is_thread(cast, i), send_or_receive, &b);
    for (int i = 0; i < 2; i++)
        act_end(a[i]);
    while (chan_try_recv(b.ch, &x) == 0) {
        CHECK(room > 0);
        atomic_fetch_add(&b.received, 1);
        atomic_fetch_add(&b.sum_received, x);
    }
    CHECK_EQ(atomic_load(&b.sent), atomic_load(&b.received));
    CHECK_EQ(atomic_load(&b.sum_sent), atomic_load(&b.sum_received));
    chan_unref(b.ch);
}

TEST(both_directions_of_a_rendezvous)
{
    run_both(ROUTINES, 0, support_scale(100000));
    run_both(ROUTINES, 10, support_scale(100000));
    run_both(THREADS, 0, support_scale(5000));
    run_both(THREADS, 10, support_scale(5000));
    run_both(MIXED, 0, support_scale(5000));
    run_both(MIXED, 1, support_scale(5000));
}

/* ---- selects against selects ---- */

struct facing {
    chan_t *a, *b;
    long rounds;
    long sent[2], received[2], sum_sent[2], sum_received[2]; /* by channel: each has one writer */
};

static void *face_left(void *arg)
{
    struct facing *f = arg;
    for (long i = 0; i < f->rounds; i++) {
        long mine = 3 * i, theirs = -1;
        const int got = chan_select(CHAN_SEND(f->a, &mine), CHAN_RECV(f->b, &theirs));
        CHECK(got == 0 || got == 1);
        f->sent[0] += got == 0;
        f->sum_sent[0] += got == 0 ? mine : 0;
        f->received[1] += got == 1;
        f->sum_received[1] += got == 1 ? theirs : 0;
    }
    return NULL;
}

static void *face_right(void *arg)
{
    struct facing *f = arg;
    for (long i = 0; i < f->rounds; i++) {
        long mine = 5 * i, theirs = -1;
        /* the other order of the channels: neither may wait for the other's locks */
        const int got = chan_select(CHAN_SEND(f->b, &mine), CHAN_RECV(f->a, &theirs));
        CHECK(got == 0 || got == 1);
        f->sent[1] += got == 0;
        f->sum_sent[1] += got == 0 ? mine : 0;
        f->received[0] += got == 1;
        f->sum_received[0] += got == 1 ? theirs : 0;
    }
    return NULL;
}

TEST(two_selects_that_face_each_other)
{
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        struct facing f = {
            .a = MAKE(long, 0), .b = MAKE(long, 0), .rounds = support_scale(cast == ROUTINES ? 50000 : 5000)};
        struct actor left = act(cast_is_thread(cast, 0), face_left, &f);
        struct actor right = act(cast_is_thread(cast, 1), face_right, &f);
        act_end(left);
        act_end(right);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(f.sent[i], f.received[i]);
            CHECK_EQ(f.sum_sent[i], f.sum_received[i]);
        }
        CHECK_EQ(f.sent[0] + f.sent[1], f.rounds);
        chan_unref(f.a);
        chan_unref(f.b);
    }
}

/* Several that send by select, several that receive by select, over the same three channels. */
enum { CROWD = 3 };

struct crowd {
    chan_t *channels[CROWD];
    long rounds;
    _Atomic int index;
    _Atomic unsigned char *seen;
};

static void *crowd_send(void *arg)
{
    struct crowd *c = arg;
    const long me = atomic_fetch_add(&c->index, 1);
    for (long i = 0; i < c->rounds; i++) {
        const long x = me * c->rounds + i;
        const int got =
            chan_select(CHAN_SEND(c->channels[me % 3], &x), CHAN_SEND(c->channels[(me + 1) % 3], &x),
                        CHAN_SEND(c->channels[(me + 2) % 3], &x));
        CHECK(got >= 0 && got < CROWD);
    }
    return NULL;
}

static void *crowd_recv(void *arg)
{
    struct crowd *c = arg;
    for (long i = 0; i < c->rounds; i++) {
        long x[CROWD] = {-1, -1, -1};
        const int got = chan_select(CHAN_RECV(c->channels[0], &x[0]), CHAN_RECV(c->channels[1], &x[1]),
                                    CHAN_RECV(c->channels[2], &x[2]));
        CHECK(got >= 0 && got < CROWD);
        for (int k = 0; k < CROWD; k++)
            if (k != got)
                CHECK_EQ(x[k], -1);
        if (got < 0 || x[got] < 0 || x[got] >= CROWD * c->rounds)
            CHECK(false);
        else
            CHECK_EQ(atomic_fetch_add_explicit(&c->seen[x[got]], 1, memory_order_relaxed), 0);
    }
    return NULL;
}

TEST(three_send_and_three_receive_by_select)
{
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (int room = 0; room <= 2; room++) {
            struct crowd c = {.rounds = support_scale(cast == ROUTINES ? 10000 : 1000)};
            struct actor actors[2 * CROWD];
            for (int i = 0; i < CROWD; i++)
                c.channels[i] = MAKE(long, room == 2 ? i : room);
            c.seen = calloc((size_t)(CROWD * c.rounds), 1);
            for (int i = 0; i < 2 * CROWD; i++)
                actors[i] = act(cast_is_thread(cast, i), i < CROWD ? crowd_recv : crowd_send, &c);
            for (int i = 0; i < 2 * CROWD; i++)
                act_end(actors[i]);
            for (long i = 0; i < CROWD * c.rounds; i++)
                CHECK_EQ(atomic_load_explicit(&c.seen[i], memory_order_relaxed), 1);
            for (int i = 0; i < CROWD; i++) {
                CHECK_EQ(chan_len(c.channels[i]), 0);
                chan_unref(c.channels[i]);
            }
            free((void *)c.seen);
        }
}

/* One select that sends on four channels and one that receives, among plain senders and receivers. */
enum { LANES = 4 };

struct lanes {
    chan_t *lanes[LANES];
    long rounds;
    _Atomic long sum;
    _Atomic int index;
};

static void *lane_send(void *arg)
{
    struct lanes *l = arg;
    chan_t *mine = l->lanes[atomic_fetch_add(&l->index, 1) % LANES];
    for (long i = 1; i <= l->rounds; i++)
        CHECK_EQ(chan_send(mine, &i), 0);
    return NULL;
}

static void *lane_recv(void *arg)
{
    struct lanes *l = arg;
    chan_t *mine = l->lanes[atomic_fetch_add(&l->index, 1) % LANES];
    long sum = 0;
    for (long i = 1; i <= l->rounds; i++) {
        long x = 0;
        CHECK_EQ(chan_recv(mine, &x), 0);
        sum += x;
    }
    atomic_fetch_add(&l->sum, sum);
    return NULL;
}

static void *lanes_select(void *arg, bool send)
{
    struct lanes *l = arg;
    long left[LANES], x[LANES], sum = 0;
    chan_t *open[LANES];
    for (int i = 0; i < LANES; i++) {
        left[i] = l->rounds;
        open[i] = l->lanes[i];
    }
    for (long i = 0; i < LANES * l->rounds; i++) {
        chan_case_t cases[LANES];
        for (int k = 0; k < LANES; k++) {
            x[k] = left[k];
            cases[k] = send ? CHAN_SEND(open[k], &x[k]) : CHAN_RECV(open[k], &x[k]);
        }
        const int got = chan_select_array(cases, LANES);
        if (got < 0 || got >= LANES) {
            CHECK_EQ(got, 0);
            break;
        }
        sum += x[got];
        if (--left[got] == 0)
            open[got] = NULL;
    }
    if (!send)
        atomic_fetch_add(&l->sum, sum);
    return NULL;
}

static void *lanes_select_send(void *arg)
{
    return lanes_select(arg, true);
}

static void *lanes_select_recv(void *arg)
{
    return lanes_select(arg, false);
}

TEST(selects_among_plain_senders_and_receivers)
{
    static const ptrdiff_t rooms[LANES] = {0, 0, 2, 3};
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        struct lanes l = {.rounds = support_scale(cast == ROUTINES ? 10000 : 1000)};
        struct actor actors[2 * LANES + 2];
        int n = 0;
        for (int i = 0; i < LANES; i++)
            l.lanes[i] = MAKE(long, rooms[i]);
        for (int i = 0; i < LANES; i++, n++)
            actors[n] = act(cast_is_thread(cast, n), lane_send, &l);
        WAIT_UNTIL(atomic_load(&l.index) == LANES); /* so that each lane has one of either kind */
        for (int i = 0; i < LANES; i++, n++)
            actors[n] = act(cast_is_thread(cast, n), lane_recv, &l);
        actors[n] = act(cast_is_thread(cast, n), lanes_select_send, &l);
        n++;
        actors[n] = act(cast_is_thread(cast, n), lanes_select_recv, &l);
        n++;
        while (n > 0)
            act_end(actors[--n]);
        CHECK_EQ(atomic_load(&l.sum), LANES * l.rounds * (l.rounds + 1));
        for (int i = 0; i < LANES; i++) {
            CHECK_EQ(chan_len(l.lanes[i]), 0);
            chan_unref(l.lanes[i]);
        }
    }
}

/* A ring, in which each gives to and takes from both neighbours: what they have together stays the same. */
enum { RING = 8 };

struct ring {
    chan_t *right[RING], *left[RING]; /* from i to i + 1, and from i + 1 to i */
    chan_t *stop;
    _Atomic int index;
    _Atomic long deeds, sent, received, wealth;
    long most;
};

static void *ring_member(void *arg)
{
    struct ring *r = arg;
    const int me = atomic_fetch_add(&r->index, 1), before = (me + RING - 1) % RING;
    long mine = 1000, sent = 0, received = 0;
    for (long i = 0;; i++) {
        long give = i % 17 + 1, get = 0;
        const int got = chan_select(CHAN_SEND(r->right[me], &give), CHAN_RECV(r->right[before], &get),
                                    CHAN_SEND(r->left[before], &give), CHAN_RECV(r->left[me], &get),
                                    CHAN_RECV(r->stop, NULL));
        if (got == CHAN_CLOSED(4))
            break;
        CHECK(got >= 0 && got < 4);
        if (got % 2 == 0) {
            mine -= give;
            sent++;
            CHECK_EQ(get, 0);
        } else {
            mine += get;
            received++;
            CHECK(get > 0);
        }
        if (atomic_fetch_add(&r->deeds, 1) == r->most)
            CHECK_EQ(chan_close(r->stop), 0);
    }
    atomic_fetch_add(&r->sent, sent);
    atomic_fetch_add(&r->received, received);
    atomic_fetch_add(&r->wealth, mine);
    return NULL;
}

TEST(a_ring_of_selects_in_both_directions)
{
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        struct ring r = {.stop = NEW(0, 0), .most = support_scale(cast == ROUTINES ? 200000 : 20000)};
        struct actor actors[RING];
        for (int i = 0; i < RING; i++) {
            r.right[i] = MAKE(long, 0);
            r.left[i] = MAKE(long, 0);
        }
        for (int i = 0; i < RING; i++)
            actors[i] = act(cast_is_thread(cast, i), ring_member, &r);
        for (int i = 0; i < RING; i++)
            act_end(actors[i]);
        CHECK_EQ(atomic_load(&r.sent), atomic_load(&r.received));
        CHECK_EQ(atomic_load(&r.wealth), RING * 1000);
        for (int i = 0; i < RING; i++) {
            CHECK_EQ(chan_try_send(r.right[i], &(long){0}), -EAGAIN);
            CHECK_EQ(chan_try_recv(r.left[i], NULL), -EAGAIN);
            chan_unref(r.right[i]);
            chan_unref(r.left[i]);
        }
        chan_unref(r.stop);
    }
}

/* ---- fairness ---- */

/* The share of hits is p, within that many standard deviations. */
static void check_share(const char *what, long hits, long trials, double p, double deviations)
{
    const double share = (double)hits / (double)trials;
    const double most = deviations * sqrt(p * (1 - p) / (double)trials);
    if (fabs(share - p) > most)
        support_fail(__FILE__, __LINE__, "%s: %ld of %ld is %.4f, not %.4f within %.4f", what, hits, trials,
                     share, p, most);
}

/* 4.89 deviations: one run in a million is further off. */
TEST_EVERYWHERE(of_two_each_has_half)
{
    const long trials = support_scale(10000);
    chan_t *one = MAKE(char, trials), *two = MAKE(char, trials), *never = MAKE(char, 1);
    long hits[2] = {0, 0}, same = 0;
    int last = 0;
    for (long i = 0; i < trials; i++) {
        CHECK_EQ(chan_send(one, &(char){1}), 0);
        CHECK_EQ(chan_send(two, &(char){2}), 0);
    }
    for (long i = 0; i < trials; i++) {
        char x = 0;
        const int got = chan_select(CHAN_RECV(never, &x), CHAN_RECV(NULL, &x), CHAN_RECV(one, &x),
                                    CHAN_RECV(two, &x), CHAN_RECV(never, &x));
        CHECK(got == 2 || got == 3);
        CHECK_EQ(x, got - 1);
        hits[got == 3]++;
        same += got == last;
        last = got;
    }
    check_share("the first", hits[0], trials, 0.5, 4.89);
    check_share("the same as before", same, trials, 0.5, 4.89); /* and it is not their turn either */
    CHECK_EQ(chan_len(one) + chan_len(two), trials);
    chan_unref(one);
    chan_unref(two);
    chan_unref(never);
}

static void fair_among(int ready, int idle)
{
    enum { MOST = 40 };
    const long trials = support_scale(10000);
    chan_t *closed[MOST], *never = MAKE(int, 0);
    chan_case_t cases[MOST];
    long hits[MOST] = {0};
    const int n = ready + idle;
    for (int i = 0; i < n; i++) {
        closed[i] = NULL;
        if (i % 2 && idle > 0) { /* those that are not ready stand between the others */
            cases[i] = CHAN_RECV(i % 4 == 1 ? never : NULL, NULL);
            idle--;
            continue;
        }
        closed[i] = MAKE(int, 1);
        CHECK_EQ(chan_close(closed[i]), 0);
        cases[i] = i % 3 ? CHAN_RECV(closed[i], NULL) : CHAN_SEND(closed[i], NULL);
    }
    for (long i = 0; i < trials; i++) {
        const int at = -4096 - chan_select_array(cases, (size_t)n);
        if (at < 0 || at >= n || closed[at] == NULL) {
            CHECK_EQ(at, 0);
            break;
        }
        hits[at]++;
    }
    for (int i = 0; i < n; i++)
        if (closed[i] != NULL) {
            check_share("one of many", hits[i], trials, 1.0 / ready, 6);
            chan_unref(closed[i]);
        }
    chan_unref(never);
}

static void *fair_among_many(void *arg)
{
    fair_among(2, 1);
    fair_among(3, 0);
    fair_among(3, 3);
    fair_among(5, 2);
    fair_among(16, 0);
    fair_among(17, 10);
    return arg;
}

TEST(of_many_each_has_its_share)
{
    fair_among_many(NULL);
    support_in_routine(fair_among_many, NULL);
}

struct newcomer {
    chan_t *one, *two;
    _Atomic long hits[2];
};

static void *choose_once(void *arg)
{
    struct newcomer *n = arg;
    const int got = chan_select(CHAN_RECV(n->one, NULL), CHAN_RECV(n->two, NULL));
    CHECK(got == CHAN_CLOSED(0) || got == CHAN_CLOSED(1));
    atomic_fetch_add(&n->hits[got == CHAN_CLOSED(1)], 1);
    return NULL;
}

/* The first choice of a routine or thread is no more foreseeable than its last one. */
TEST(newcomers_choose_fairly)
{
    for (int thread = 0; thread <= 1; thread++) {
        const long trials = support_scale(thread ? 2000 : 10000);
        struct newcomer n = {MAKE(int, 0), MAKE(int, 0), {0, 0}};
        CHECK_EQ(chan_close(n.one), 0);
        CHECK_EQ(chan_close(n.two), 0);
        for (long i = 0; i < trials; i++)
            act_end(act(thread, choose_once, &n));
        check_share("the first choice", atomic_load(&n.hits[0]), trials, 0.5, 4.89);
        chan_unref(n.one);
        chan_unref(n.two);
    }
}

/* ---- exactly one ---- */

struct choice {
    chan_t *a, *b;
    int x, y, got;
};

static void choose_or_default(void *arg)
{
    struct choice *c = arg;
    c->got = chan_select(CHAN_RECV(c->a, &c->x), CHAN_RECV(c->b, &c->y), CHAN_DEFAULT);
}

/* There is something in a, and before it is taken out something stands in b, or b is closed. */
TEST(if_one_of_two_is_always_ready_default_never_happens)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct choice c = {0};
        struct duel d;
        duel_start(&d, as_thread, choose_or_default, &c);
        for (long round = 0; round < support_scale(5000); round++) {
            const bool close = round % 2;
            int x = -1;
            c = (struct choice){MAKE(int, 1), MAKE(int, 1), -1, -1, -1};
            if (round / 2 % 2) { /* either order in the select, and of the addresses */
                chan_t *a = c.a;
                c.a = c.b;
                c.b = a;
            }
            chan_t *first = round / 4 % 2 ? c.a : c.b, *second = first == c.a ? c.b : c.a;
            CHECK_EQ(chan_send(first, &(int){1}), 0);
            duel_begin(&d, round / 8);
            if (close)
                CHECK_EQ(chan_close(second), 0);
            else
                CHECK_EQ(chan_send(second, &(int){2}), 0);
            const int rc = chan_try_recv(first, &x);
            duel_end(&d);
            const int first_case = first == c.a ? 0 : 1, second_case = 1 - first_case;
            if (c.got == first_case) {
                CHECK_EQ(first == c.a ? c.x : c.y, 1);
                CHECK_EQ(rc, -EAGAIN);
            } else {
                CHECK_EQ(c.got, close ? CHAN_CLOSED(second_case) : second_case);
                if (!close)
                    CHECK_EQ(second == c.a ? c.x : c.y, 2);
                CHECK_EQ(rc, 0);
                CHECK_EQ(x, 1);
            }
            chan_unref(c.a);
            chan_unref(c.b);
        }
        duel_stop(&d);
    }
}

struct waiter {
    chan_t *a, *b;
    bool send;
    int x, y, got;
};

static void *wait_for_either(void *arg)
{
    struct waiter *w = arg;
    w->got = w->send ? chan_select(CHAN_SEND(w->a, &w->x), CHAN_SEND(w->b, &w->y))
                     : chan_select(CHAN_RECV(w->a, &w->x), CHAN_RECV(w->b, &w->y));
    return NULL;
}

struct offer {
    chan_t *ch;
    bool send;
    int x, rc;
};

static void offer_now(void *arg)
{
    struct offer *o = arg;
    o->rc = o->send ? chan_try_send(o->ch, &o->x) : chan_try_recv(o->ch, &o->x);
}

/* Two want the one that waits for either: one of them gets it. */
TEST(two_cases_never_both_happen)
{
    routine_runtime_t *runtime = support_runtime(1);
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct offer theirs = {0};
        struct duel d;
        duel_start(&d, as_thread, offer_now, &theirs);
        for (long round = 0; round < support_scale(3000); round++) {
            struct waiter w = {MAKE(int, 0), MAKE(int, 0), round % 2, 51, 52, -1};
            struct offer mine = {w.a, !w.send, 61, 1};
            theirs = (struct offer){w.b, !w.send, 62, 1};
            struct actor a = act_on(runtime, wait_for_either, &w);
            await_parked(runtime, 1);
            duel_begin(&d, round);
            offer_now(&mine);
            duel_end(&d);
            if (mine.rc == -EAGAIN && theirs.rc == -EAGAIN) /* it had not quite come to wait */
                mine.rc = mine.send ? chan_send(mine.ch, &mine.x) : chan_recv(mine.ch, &mine.x);
            act_end(a);
            CHECK_EQ(w.got, mine.rc == 0 ? 0 : 1);
            CHECK_EQ(mine.rc, w.got == 0 ? 0 : -EAGAIN);
            CHECK_EQ(theirs.rc, w.got == 1 ? 0 : -EAGAIN);
            if (w.send) {
                CHECK_EQ(mine.x, w.got == 0 ? 51 : 61);
                CHECK_EQ(theirs.x, w.got == 1 ? 52 : 62);
            } else {
                CHECK_EQ(w.x, w.got == 0 ? 61 : 51);
                CHECK_EQ(w.y, w.got == 1 ? 62 : 52);
            }
            CHECK_EQ(chan_try_send(w.a, &(int){0}), -EAGAIN);
            CHECK_EQ(chan_try_recv(w.b, NULL), -EAGAIN);
            chan_unref(w.a);
            chan_unref(w.b);
        }
        duel_stop(&d);
    }
    support_runtime_end(runtime);
}

/* ---- those that lose leave no trace ---- */

static void *time_out_often(void *arg)
{
    chan_t *never = MAKE(int, 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(chan_select(CHAN_RECV(never, NULL), CHAN_TIMEOUT(50 * ROUTINE_US)), 1);
    chan_unref(never);
    return arg;
}

/* The statistics know that such a wait is over. The tests that follow count those that wait. */
TEST(who_was_woken_by_time_is_not_counted_as_waiting)
{
    for (size_t workers = 1; workers <= 2; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        routine_stats_t stats;
        CHECK_EQ(routine_runtime_run(runtime, time_out_often, NULL, NULL), 0);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_stats(runtime, &stats), 0);
        CHECK_EQ(stats.live, 0);
        CHECK_EQ(stats.parked, 0);
        CHECK_EQ(stats.total.parks, stats.total.readies);
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

enum { HERD = 10 };

struct herd_member {
    chan_t *common, *own;
    int number;
    int kind; /* how the channels stand in the select; 6, 7: no select at all */
    bool send;
    int64_t timeout;
    int got; /* 0: common, 1: own, 2: time */
};

/* Waits until each of those that have begun is parked or finished. */
static void await_settled(const struct actor *actors, int count)
{
    for (;;) {
        routine_stats_t stats;
        uint64_t settled = 0;
        for (int i = 0; i < count; i++)
            settled += routine_is_finished(actors[i].routine);
        CHECK_EQ(routine_stats(NULL, &stats), 0); /* after that: who is counted here is not finished before */
        if (settled + stats.parked == (uint64_t)count)
            return;
        routine_yield();
    }
}

static void *herd_wait(void *arg)
{
    struct herd_member *m = arg;
    int got, x = -1, y = -1;
    const int number = m->number;
    chan_t *c = m->common, *o = m->own;
    const int64_t t = m->timeout;
    if (m->kind >= 6) {
        got = m->send ? chan_send(c, &number) : chan_recv(c, &x);
    } else if (m->send) {
        switch (m->kind % 3) {
        case 0:
            got = chan_select(CHAN_SEND(c, &number), CHAN_RECV(o, &y), CHAN_TIMEOUT(t));
            break;
        case 1:
            got = chan_select(CHAN_RECV(o, &y), CHAN_SEND(c, &number), CHAN_TIMEOUT(t));
            got = got < 0 || got == 2 ? got : 1 - got;
            break;
        default:
            got = chan_select(CHAN_SEND(c, &number), CHAN_RECV(o, &y), CHAN_SEND(c, &number),
                              CHAN_SEND(c, &number), CHAN_TIMEOUT(t));
            got = got == 1 ? 1 : got == 4 ? 2 : got < 0 ? got : 0;
        }
    } else {
        switch (m->kind % 3) {
        case 0:
            got = chan_select(CHAN_RECV(c, &x), CHAN_RECV(o, &y), CHAN_TIMEOUT(t));
            break;
        case 1:
            got = chan_select(CHAN_RECV(o, &y), CHAN_RECV(c, &x), CHAN_TIMEOUT(t));
            got = got < 0 || got == 2 ? got : 1 - got;
            break;
        default:
            got = chan_select(CHAN_RECV(c, &x), CHAN_RECV(c, &x), CHAN_RECV(o, &y), CHAN_RECV(c, &x),
                              CHAN_TIMEOUT(t));
            got = got == 2 ? 1 : got == 4 ? 2 : got < 0 ? got : 0;
        }
    }
    m->got = got;
    if (got == 0 && !m->send)
        m->number = x;
    if (got == 1)
        CHECK_EQ(y, 1000 + number);
    return NULL;
}

/* They queue up at one channel; some of them, anywhere in the queue, are called away by a channel of
 * their own, or by time; the others are served in the order of their arrival. */
static void *thin_out(void *arg)
{
    uint64_t seed = 4711;
    for (long round = 0; round < support_scale(600); round++) {
        struct herd_member herd[HERD];
        struct actor actors[HERD];
        bool away[HERD] = {false}, brief[HERD];
        const bool send = round % 2, by_time = round % 8 > 5;
        const int room = by_time ? 0 : (int)(round / 2 % 3);
        chan_t *common = MAKE(int, room);
        if (send)
            for (int i = 0; i < room; i++)
                CHECK_EQ(chan_send(common, &(int){-1}), 0);
        for (int i = 0; i < HERD; i++) {
            brief[i] = by_time && support_random(&seed) % 2;
            herd[i] = (struct herd_member){.common = common,
                                           .own = MAKE(int, 0),
                                           .number = i,
                                           .kind = brief[i] ? i % 3 : (int)(support_random(&seed) % 8),
                                           .send = send,
                                           .timeout = brief[i] ? 50 * ROUTINE_US : ROUTINE_NEVER,
                                           .got = -1};
            actors[i] = act(false, herd_wait, &herd[i]);
            await_settled(actors, i + 1);
        }
        for (int i = 0; i < HERD; i++)
            if (brief[i]) {
                WAIT_UNTIL(routine_is_finished(actors[i].routine));
                away[i] = true;
            }
        for (int calls = (int)(support_random(&seed) % HERD); calls > 0; calls--) {
            const int i = (int)(support_random(&seed) % HERD);
            if (away[i] || herd[i].kind >= 6)
                continue;
            away[i] = true;
            CHECK_EQ(chan_try_send(herd[i].own, &(int){1000 + i}), 0);
        }
        if (send)
            for (int i = 0; i < room; i++)
                CHECK_EQ(chan_recv(common, NULL), 0);
        for (int i = 0; i < HERD; i++) {
            int x = -1;
            if (away[i])
                continue;
            if (send) {
                CHECK_EQ(chan_recv(common, &x), 0);
                CHECK_EQ(x, i);
            } else {
                CHECK_EQ(chan_try_send(common, &(int){500 + i}), 0);
            }
        }
        CHECK_EQ(chan_try_recv(common, NULL), -EAGAIN);
        for (int i = 0; i < HERD; i++) {
            act_end(actors[i]);
            CHECK_EQ(herd[i].got, !away[i] ? 0 : brief[i] ? 2 : 1);
            if (!send)
                CHECK_EQ(herd[i].number, away[i] ? i : 500 + i);
            CHECK_EQ(chan_try_send(herd[i].own, &(int){0}), -EAGAIN);
            chan_unref(herd[i].own);
        }
        CHECK_EQ(chan_len(common), 0);
        for (int i = 0; i < room; i++)
            CHECK_EQ(chan_try_send(common, &i), 0);
        CHECK_EQ(chan_try_send(common, &room), -EAGAIN);
        chan_unref(common);
    }
    return arg;
}

TEST(losers_anywhere_in_a_queue_leave_without_damage)
{
    direct(thin_out, NULL);
}

struct served {
    chan_t *ch, *never[20];
    long rounds;
    int cases;
};

static void *serve_selects(void *arg)
{
    struct served *s = arg;
    for (long i = 0; i < s->rounds; i++)
        CHECK_EQ(chan_send(s->ch, &i), 0);
    return NULL;
}

/* Some are ready at once, most have to wait; all have times that they never reach. */
static void many_selects(struct served *s, long rounds, enum cast cast)
{
    s->rounds = rounds;
    struct actor a = act(cast_is_thread(cast, 1), serve_selects, s);
    for (long i = 0; i < rounds; i++) {
        long x = -1, y = -1;
        chan_case_t cases[24];
        int n = 0;
        cases[n++] = CHAN_RECV(s->ch, &x);
        for (int k = 0; k < s->cases; k++)
            cases[n++] = k % 2 ? CHAN_SEND(s->never[k], &y) : CHAN_RECV(s->never[k], &y);
        cases[n++] = CHAN_TIMEOUT(3600 * ROUTINE_S);
        CHECK_EQ(chan_select_array(cases, (size_t)n), 0);
        CHECK_EQ(x, i);
        CHECK_EQ(y, -1);
    }
    act_end(a);
}

static void *leave_nothing(void *arg)
{
    const enum cast cast = arg != NULL ? ROUTINES : THREADS;
    struct served s = {.ch = MAKE(long, 0)};
    for (int i = 0; i < 20; i++)
        s.never[i] = MAKE(long, 0);
    s.cases = 20;
    many_selects(&s, support_scale(1000), cast); /* so that all that is allocated once is there */
    const long before = support_resident();
    s.cases = 1;
    many_selects(&s, support_scale(cast == ROUTINES ? 100000 : 10000), cast);
    s.cases = 5;
    many_selects(&s, support_scale(cast == ROUTINES ? 20000 : 2000), cast);
    s.cases = 20;
    many_selects(&s, support_scale(cast == ROUTINES ? 20000 : 2000), cast);
    if (!support_slow())
        CHECK(support_resident() - before < 4 << 20);
    for (int i = 0; i < 20; i++) {
        long x = 5, y = -1;
        CHECK_EQ(chan_len(s.never[i]), 0);
        CHECK_EQ(chan_try_send(s.never[i], &x), -EAGAIN);
        CHECK_EQ(chan_try_recv(s.never[i], &y), -EAGAIN);
        CHECK_EQ(chan_close(s.never[i]), 0);
        CHECK_EQ(chan_recv(s.never[i], &y), -EPIPE);
        chan_unref(s.never[i]);
    }
    chan_unref(s.ch);
    return NULL;
}

TEST(a_hundred_thousand_selects_leave_nothing_behind)
{
    int yes;
    leave_nothing(NULL);
    support_in_routine(leave_nothing, &yes);
}

/* ---- what is copied, and what is ordered ---- */

struct sized {
    chan_t *ch, *back;
    size_t size;
    uint64_t count;
    uint64_t written, answered; /* plain: ordered by what is sent */
};

static void *select_sized(void *arg)
{
    struct sized *s = arg;
    unsigned char *element = element_room(s->size);
    for (uint64_t n = 0; n < s->count; n++) {
        s->written = n;
        element_write(element, s->size, n);
        const int got = chan_select(CHAN_RECV(s->back, NULL), CHAN_SEND(s->ch, (const void *)element));
        CHECK_EQ(got, 1);
        memset(element, 0xdd, s->size);
        CHECK_EQ(chan_select(CHAN_RECV(s->back, NULL), CHAN_TIMEOUT(ROUTINE_NEVER)), 0);
        CHECK_EQ(s->answered, n + 1);
    }
    CHECK(element_fenced(element, s->size));
    element_free(element);
    return NULL;
}

TEST(select_copies_and_orders_as_send_and_receive_do)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 16, 100, 4096, 65536};
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (size_t i = 0; i < COUNT_OF(sizes); i++)
            for (int room = 0; room <= 1; room++) {
                struct sized s = {.ch = NEW(sizes[i], room),
                                  .back = NEW(0, 0),
                                  .size = sizes[i],
                                  .count = (uint64_t)support_scale(300)};
                chan_t *never = NEW(sizes[i], 1);
                unsigned char *element = element_room(sizes[i]);
                struct actor a = act(cast_is_thread(cast, 0), select_sized, &s);
                for (uint64_t n = 0; n < s.count; n++) {
                    memset(element, 0xee, sizes[i]);
                    CHECK_EQ(chan_select(CHAN_RECV(never, (void *)element), CHAN_RECV(NULL, (void *)element),
                                         CHAN_RECV(s.ch, (void *)element)),
                             2);
                    CHECK(element_is(element, sizes[i], n));
                    CHECK_EQ(s.written, n);
                    s.answered = n + 1;
                    CHECK_EQ(n % 2 ? chan_send(s.back, NULL) : chan_select(CHAN_SEND(s.back, NULL)), 0);
                }
                act_end(a);
                CHECK(element_fenced(element, sizes[i]));
                element_free(element);
                chan_unref(s.ch);
                chan_unref(s.back);
                chan_unref(never);
            }
}

/* ---- times ---- */

TEST_EVERYWHERE(a_time_is_never_early)
{
    static const int64_t times[] = {1, 1000, 50 * ROUTINE_US, ROUTINE_MS, 3 * ROUTINE_MS, 20 * ROUTINE_MS};
    chan_t *never = MAKE(int, 0);
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        int64_t before = routine_now();
        CHECK_EQ(chan_select(CHAN_RECV(never, NULL), CHAN_TIMEOUT(times[i])), 1);
        CHECK(routine_now() - before >= times[i]);
        before = routine_now();
        CHECK_EQ(chan_select(CHAN_TIMEOUT(times[i])), 0); /* nothing else */
        CHECK(routine_now() - before >= times[i]);
        const int64_t at = routine_now() + times[i];
        CHECK_EQ(chan_select(CHAN_DEADLINE(at), CHAN_SEND(never, &(int){0})), 0);
        CHECK(routine_now() >= at);
    }
    CHECK_EQ(chan_try_send(never, &(int){0}), -EAGAIN);
    chan_unref(never);
}

TEST_EVERYWHERE(times_that_are_over)
{
    static const int64_t past[] = {0, -1, -ROUTINE_S, INT64_MIN, INT64_MIN + 1};
    chan_t *never = MAKE(int, 0), *ready = MAKE(int, 1);
    for (size_t i = 0; i < COUNT_OF(past); i++) {
        int x = -1;
        CHECK_EQ(chan_select(CHAN_RECV(never, &x), CHAN_TIMEOUT(past[i])), 1);
        CHECK_EQ(chan_select(CHAN_DEADLINE(past[i]), CHAN_RECV(never, &x)), 0);
        CHECK_EQ(chan_select(CHAN_DEADLINE(routine_now() - 1), CHAN_RECV(NULL, &x)), 0);
        CHECK_EQ(chan_select(CHAN_TIMEOUT(past[i])), 0);
        /* as a default: what can happen at once does */
        CHECK_EQ(chan_select(CHAN_TIMEOUT(past[i]), CHAN_SEND(ready, &(int){4})), 1);
        CHECK_EQ(chan_select(CHAN_RECV(ready, &x), CHAN_DEADLINE(past[i])), 0);
        CHECK_EQ(x, 4);
    }
    chan_unref(never);
    chan_unref(ready);
}

TEST_EVERYWHERE(the_nearest_time_counts)
{
    chan_t *never = MAKE(int, 0);
    const int64_t hour = 3600 * ROUTINE_S;
    int64_t before = routine_now();
    CHECK_EQ(chan_select(CHAN_TIMEOUT(hour), CHAN_TIMEOUT(2 * ROUTINE_MS), CHAN_TIMEOUT(40 * ROUTINE_MS)), 1);
    CHECK(routine_now() - before >= 2 * ROUTINE_MS);
    CHECK_EQ(chan_select(CHAN_TIMEOUT(ROUTINE_NEVER), CHAN_RECV(never, NULL), CHAN_TIMEOUT(hour),
                         CHAN_DEADLINE(routine_now() + ROUTINE_MS), CHAN_TIMEOUT(2 * hour)),
             3);
    CHECK_EQ(chan_select(CHAN_DEADLINE(ROUTINE_NEVER), CHAN_DEADLINE(routine_now() + hour),
                         CHAN_TIMEOUT(ROUTINE_MS)),
             2);
    before = routine_now();
    CHECK_EQ(chan_select(CHAN_DEADLINE(before + 3 * ROUTINE_MS), CHAN_DEADLINE(before + 2 * ROUTINE_MS),
                         CHAN_DEADLINE(before + 2 * ROUTINE_MS + 1)),
             1);
    CHECK_EQ(chan_select(CHAN_TIMEOUT(hour), CHAN_RECV(never, NULL), CHAN_TIMEOUT(0)), 2);
    CHECK_EQ(chan_select(CHAN_TIMEOUT(INT64_MAX - 1), CHAN_DEADLINE(INT64_MAX - 1), CHAN_TIMEOUT(1)), 2);
    CHECK_EQ(chan_try_send(never, &(int){0}), -EAGAIN);
    chan_unref(never);
}

struct patient {
    chan_t *ch;
    int64_t time;
    bool deadline;
    int got, x;
};

static void *be_patient(void *arg)
{
    struct patient *p = arg;
    p->got = p->deadline ? chan_select(CHAN_RECV(p->ch, &p->x), CHAN_DEADLINE(p->time))
                         : chan_select(CHAN_RECV(p->ch, &p->x), CHAN_TIMEOUT(p->time));
    return NULL;
}

/* So long that sums with the present overflow: they wait, and are woken by what comes. */
TEST(never_and_almost_never)
{
    static const int64_t times[] = {ROUTINE_NEVER, INT64_MAX - 1, INT64_MAX / 2, 1000000 * ROUTINE_S};
    routine_runtime_t *runtime = support_runtime(2);
    for (size_t i = 0; i < COUNT_OF(times); i++)
        for (int deadline = 0; deadline <= 1; deadline++) {
            struct patient r = {MAKE(int, 0), times[i], deadline, -1, -1}, t = r;
            t.ch = MAKE(int, 0);
            struct actor routine = act_on(runtime, be_patient, &r), thread = act(true, be_patient, &t);
            await_parked(runtime, 1);
            CHECK_EQ(chan_send(r.ch, &(int){11}), 0);
            CHECK_EQ(chan_send(t.ch, &(int){12}), 0);
            act_end(routine);
            act_end(thread);
            CHECK_EQ(r.got, 0);
            CHECK_EQ(r.x, 11);
            CHECK_EQ(t.got, 0);
            CHECK_EQ(t.x, 12);
            chan_unref(r.ch);
            chan_unref(t.ch);
        }
    support_runtime_end(runtime);
}

/* Many routines with times of their own, in no order. */
struct alarm {
    chan_t *never;
    int64_t time;
};

static void *wait_for_alarm(void *arg)
{
    const struct alarm *a = arg;
    const int64_t before = routine_now();
    CHECK_EQ(chan_select(CHAN_RECV(a->never, NULL), CHAN_TIMEOUT(a->time)), 1);
    CHECK(routine_now() - before >= a->time);
    return NULL;
}

TEST(a_thousand_times)
{
    enum { MANY = 1000 };
    static routine_t h[MANY];
    uint64_t seed = 99;
    chan_t *never = MAKE(int, 0);
    for (int i = 0; i < MANY; i++) {
        const struct alarm a = {never, (int64_t)(support_random(&seed) % (30 * 1000000))};
        h[i] = go_copy(wait_for_alarm, a);
    }
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(chan_try_send(never, &(int){0}), -EAGAIN);
    chan_unref(never);
}

/* Waits for times and nothing else; then uses a channel of its own for a while and returns it. */
static void *rest_and_make(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (long i = 0; i < support_scale(1000); i++) {
        const int64_t time = (int64_t)(support_random(&seed) % 8000) + 1;
        CHECK_EQ(i % 2 ? chan_select(CHAN_TIMEOUT(time)) : chan_select(CHAN_DEADLINE(routine_now() + time)),
                 0);
    }
    chan_t *ch = MAKE(long, 1);
    for (long i = 0; i < 1000; i++) {
        long x = -1;
        CHECK_EQ(chan_send(ch, &i), 0);
        CHECK_EQ(chan_recv(ch, &x), 0);
        CHECK_EQ(x, i);
    }
    return ch;
}

/* Whatever a select of times alone holds while it goes to wait, it lets go of, whoever wakes it: others can
 * use the channels of the one that had waited. */
TEST(times_alone_hold_nobody_up)
{
    enum { TIRED = 16 };
    for (uintptr_t round = 0; round < 10; round++) {
        struct actor actors[TIRED];
        for (uintptr_t i = 0; i < TIRED; i++)
            actors[i] = act(false, rest_and_make, (void *)(round * TIRED + i + 1));
        for (int i = 0; i < TIRED; i++) {
            chan_t *ch = act_end(actors[i]);
            long x = -1;
            CHECK_EQ(chan_send(ch, &(long){i}), 0);
            CHECK_EQ(chan_recv(ch, &x), 0);
            CHECK_EQ(x, i);
            chan_unref(ch);
        }
    }
}

/* An earlier time than all before wakes who waits for those. */
TEST_EVERYWHERE(an_earlier_time_comes_first)
{
    chan_t *ch = MAKE(int, 0);
    struct patient late = {ch, 3600 * ROUTINE_S, false, -1, -1};
    struct actor a = act(false, be_patient, &late);
    for (int i = 0; i < 20; i++) {
        routine_yield();
        CHECK_EQ(chan_select(CHAN_TIMEOUT((20 - i) * 100 * ROUTINE_US)), 0);
    }
    CHECK_EQ(chan_send(ch, &(int){3}), 0);
    act_end(a);
    CHECK_EQ(late.got, 0);
    chan_unref(ch);
}

struct hurried {
    chan_t *ch;
    int64_t time;
    int got, x;
};

static void be_hurried(void *arg)
{
    struct hurried *h = arg;
    h->got = chan_select(CHAN_RECV(h->ch, &h->x), CHAN_TIMEOUT(h->time));
}

/* The send comes at about the moment when the time is over: either both sides say so, or neither. */
TEST(a_time_against_a_send)
{
    uint64_t seed = 17;
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct hurried h = {0};
        struct duel d;
        long sent = 0;
        duel_start(&d, as_thread, be_hurried, &h);
        h.ch = MAKE(int, 0);
        for (long round = 0; round < support_scale(4000); round++) {
            h.time = (int64_t)(support_random(&seed) % 60000);
            h.got = h.x = -1;
            duel_begin(&d, round);
            int rc = -EAGAIN;
            const int64_t until = routine_now() + (int64_t)(support_random(&seed) % 90000);
            while (rc == -EAGAIN && routine_now() < until)
                if (round % 2 == 0 || routine_now() > until - 20000)
                    rc = chan_try_send(h.ch, &(int){(int)round});
            duel_end(&d);
            CHECK_EQ(h.got, rc == 0 ? 0 : 1);
            CHECK_EQ(h.x, rc == 0 ? round : -1);
            CHECK_EQ(chan_try_send(h.ch, &(int){0}), -EAGAIN);
            sent += rc == 0;
        }
        duel_stop(&d);
        CHECK(sent > 0);
        chan_unref(h.ch);
    }
}

struct fleeting {
    chan_t *ch;
    long rounds;
    uint64_t seed;
    _Atomic long sent, received, missed;
    _Atomic uint64_t sum_sent, sum_received;
    _Atomic int index;
};

static void *fleeting_send(void *arg)
{
    struct fleeting *f = arg;
    uint64_t seed = f->seed + (uint64_t)atomic_fetch_add(&f->index, 1);
    for (long i = 0; i < f->rounds; i++) {
        const uint64_t x = support_random(&seed);
        switch (chan_select(CHAN_SEND(f->ch, &x), CHAN_TIMEOUT((int64_t)(x % 20000)))) {
        case 0:
            atomic_fetch_add(&f->sent, 1);
            atomic_fetch_add(&f->sum_sent, x);
            break;
        case 1:
            atomic_fetch_add(&f->missed, 1);
            break;
        default:
            CHECK(false);
        }
    }
    return NULL;
}

static void *fleeting_recv(void *arg)
{
    struct fleeting *f = arg;
    uint64_t seed = f->seed + (uint64_t)atomic_fetch_add(&f->index, 1);
    for (long i = 0; i < f->rounds; i++) {
        uint64_t x = 0;
        switch (chan_select(CHAN_RECV(f->ch, &x), CHAN_TIMEOUT((int64_t)(support_random(&seed) % 20000)))) {
        case 0:
            atomic_fetch_add(&f->received, 1);
            atomic_fetch_add(&f->sum_received, x);
            break;
        case 1:
            CHECK_EQ(x, 0);
            atomic_fetch_add(&f->missed, 1);
            break;
        default:
            CHECK(false);
        }
    }
    return NULL;
}

TEST(no_value_is_lost_or_doubled_by_times)
{
    enum { EACH = 3 };
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (int room = 0; room <= 1; room++) {
            struct fleeting f = {.ch = MAKE(uint64_t, room),
                                 .rounds = support_scale(cast == ROUTINES ? 3000 : 1000),
                                 .seed = 12345};
            struct actor actors[2 * EACH];
            uint64_t x;
            for (int i = 0; i < 2 * EACH; i++)
                actors[i] = act(cast_is_thread(cast, i), i % 2 ? fleeting_send : fleeting_recv, &f);
            for (int i = 0; i < 2 * EACH; i++)
                act_end(actors[i]);
            while (chan_try_recv(f.ch, &x) == 0) {
                CHECK_EQ(room, 1);
                atomic_fetch_add(&f.received, 1);
                atomic_fetch_add(&f.sum_received, x);
            }
            CHECK_EQ(atomic_load(&f.sent), atomic_load(&f.received));
            CHECK_EQ(atomic_load(&f.sum_sent), atomic_load(&f.sum_received));
            CHECK_EQ(chan_try_send(f.ch, &x), room ? 0 : -EAGAIN);
            chan_unref(f.ch);
        }
}

/* ---- close ---- */

struct closing {
    chan_t *a, *b;
    int got;
};

static void *wait_for_close(void *arg)
{
    struct closing *c = arg;
    int x = -1, y = 8;
    c->got = chan_select(CHAN_RECV(c->a, &x), CHAN_SEND(c->b, &y), CHAN_TIMEOUT(3600 * ROUTINE_S));
    CHECK_EQ(x, -1);
    return NULL;
}

TEST_EVERYWHERE(close_wakes_those_in_select)
{
    enum { EACH = 4 };
    routine_runtime_t *runtime = support_runtime(2);
    for (int round = 0; round < 4; round++) {
        struct closing c[2 * EACH];
        struct actor actors[2 * EACH];
        chan_t *a = MAKE(int, round / 2), *b = MAKE(int, 0);
        for (int i = 0; i < 2 * EACH; i++) {
            c[i] = (struct closing){a, b, -1};
            actors[i] = i < EACH ? act_on(runtime, wait_for_close, &c[i]) : act(true, wait_for_close, &c[i]);
        }
        await_parked(runtime, EACH);
        CHECK_EQ(chan_close(round % 2 ? a : b), 0);
        for (int i = 0; i < 2 * EACH; i++) {
            act_end(actors[i]);
            CHECK_EQ(c[i].got, round % 2 ? CHAN_CLOSED(0) : CHAN_CLOSED(1));
        }
        if (round % 2) {
            CHECK_EQ(chan_try_recv(b, NULL), -EAGAIN);
        } else {
            CHECK_EQ(chan_try_send(a, &(int){1}), round / 2 ? 0 : -EAGAIN);
            CHECK_EQ(chan_try_recv(b, NULL), -EPIPE); /* theirs was not sent */
        }
        chan_unref(a);
        chan_unref(b);
    }
    support_runtime_end(runtime);
}

static void select_now(void *arg)
{
    struct closing *c = arg;
    c->got = chan_select(CHAN_RECV(c->a, NULL), CHAN_SEND(c->b, &(int){5}));
}

TEST(close_against_select)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct closing c = {0};
        struct duel d;
        duel_start(&d, as_thread, select_now, &c);
        for (long round = 0; round < support_scale(4000); round++) {
            int x = -1;
            c = (struct closing){MAKE(int, round % 3 == 1), MAKE(int, 0), -1};
            duel_begin(&d, round);
            if (round % 3 == 0) { /* two closes: it sees one of them */
                CHECK_EQ(chan_close(c.b), 0);
                CHECK_EQ(chan_close(c.a), 0);
                duel_end(&d);
                CHECK(c.got == CHAN_CLOSED(0) || c.got == CHAN_CLOSED(1));
            } else if (round % 3 == 1) { /* a send, and a close of the same channel */
                CHECK_EQ(chan_send(c.a, &x), 0);
                CHECK_EQ(chan_close(c.a), 0);
                duel_end(&d);
                CHECK_EQ(c.got, 0);
            } else { /* a try on one, a close of the other */
                const int rc = chan_try_recv(c.b, &x);
                CHECK_EQ(chan_close(c.a), 0);
                duel_end(&d);
                CHECK_EQ(c.got, rc == 0 ? 1 : CHAN_CLOSED(0));
                CHECK_EQ(x, rc == 0 ? 5 : -1);
            }
            if (round % 3 == 0)
                CHECK_EQ(chan_recv(c.b, &x), -EPIPE);
            else
                CHECK_EQ(chan_try_recv(c.b, &x), -EAGAIN);
            chan_unref(c.a);
            chan_unref(c.b);
        }
        duel_stop(&d);
    }
}

struct last_use {
    chan_t *ch, *other;
};

static void *select_and_unref(void *arg)
{
    const struct last_use *u = arg;
    const int got = chan_select(CHAN_RECV(u->ch, NULL), CHAN_RECV(u->other, NULL));
    CHECK(got == 0 || got == CHAN_CLOSED(0));
    chan_unref(u->ch);
    chan_unref(u->other);
    return NULL;
}

/* Whoever wakes a select may be the last to use the channels, or the select may be. */
TEST(either_side_may_be_the_last)
{
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (long round = 0; round < support_scale(cast == ROUTINES ? 5000 : 500); round++) {
            chan_t *ch = MAKE(int, 0), *other = MAKE(int, 0);
            struct last_use u = {chan_ref(ch), chan_ref(other)};
            struct actor a = act(cast_is_thread(cast, 0), select_and_unref, &u);
            chan_unref(other);
            if (round % 3)
                routine_yield();
            CHECK_EQ(round % 2 ? chan_close(ch) : chan_send(ch, &(int){1}), 0);
            chan_unref(ch);
            act_end(a);
        }
}

/* ---- runtimes ---- */

TEST(selects_of_two_runtimes_face_each_other)
{
    routine_runtime_t *left = support_runtime(1), *right = support_runtime(2);
    struct facing f = {.a = MAKE(long, 0), .b = MAKE(long, 0), .rounds = support_scale(10000)};
    struct actor one = act_on(left, face_left, &f), other = act_on(right, face_right, &f);
    act_end(one);
    act_end(other);
    CHECK_EQ(f.sum_sent[0] + f.sum_sent[1], f.sum_received[0] + f.sum_received[1]);
    CHECK_EQ(f.sent[0] + f.sent[1], f.rounds);
    support_runtime_end(left);
    support_runtime_end(right);
    chan_unref(f.a);
    chan_unref(f.b);
}

static void *send_until_closed(void *arg)
{
    int x = 0, rc;
    while ((rc = chan_send((chan_t *)arg, &x)) == 0)
        x++;
    CHECK_EQ(rc, -EPIPE);
    return NULL;
}

/* The last routine of a runtime is woken out of a select with a time, and the runtime is freed at once. */
TEST(a_runtime_goes_while_its_last_select_is_being_woken)
{
    chan_t *ch = MAKE(int, 0);
    struct actor sender = act(true, send_until_closed, ch);
    int next = 0;
    for (long i = 0; i < support_scale(1000); i++) {
        routine_runtime_t *runtime = support_runtime(1);
        struct patient p = {ch, i % 2 ? 30 * ROUTINE_US : 3600 * ROUTINE_S, false, -1, -1};
        struct actor receiver = act_on(runtime, be_patient, &p);
        support_runtime_end(runtime);
        act_end(receiver);
        CHECK(p.got == 0 || (p.got == 1 && i % 2));
        CHECK_EQ(p.x, p.got == 0 ? next++ : -1);
    }
    CHECK_EQ(chan_close(ch), 0);
    act_end(sender);
    chan_unref(ch);
}

/* ---- a program: two streams become one ---- */

static int merge(chan_t *a, chan_t *b, chan_t *out)
{
    int x, y, pending = 0;
    bool have = false;
    while (a || b || have) {
        const int got = chan_select(CHAN_RECV(have ? NULL : a, &x), CHAN_RECV(have ? NULL : b, &y),
                                    CHAN_SEND(have ? out : NULL, &pending), CHAN_TIMEOUT(ROUTINE_S));
        switch (got) {
        case 0:
            pending = x;
            have = true;
            break;
        case 1:
            pending = y;
            have = true;
            break;
        case 2:
            have = false;
            break;
        case CHAN_CLOSED(0):
            a = NULL;
            break;
        case CHAN_CLOSED(1):
            b = NULL;
            break;
        case 3:
            continue;
        default:
            return got == CHAN_CLOSED(2) ? -EPIPE : got;
        }
    }
    return chan_close(out);
}

struct streams {
    chan_t *a, *b, *out;
    int count;
};

static void *merge_streams(void *arg)
{
    const struct streams *s = arg;
    CHECK_EQ(merge(s->a, s->b, s->out), 0);
    return NULL;
}

static void *merge_in_vain(void *arg)
{
    const struct streams *s = arg;
    CHECK_EQ(merge(s->a, s->b, s->out), -EPIPE);
    return NULL;
}

static void *even_stream(void *arg)
{
    const struct streams *s = arg;
    for (int i = 0; i < s->count; i += 2)
        CHECK_EQ(chan_send(s->a, &i), 0);
    CHECK_EQ(chan_close(s->a), 0);
    return NULL;
}

static void *odd_stream(void *arg)
{
    const struct streams *s = arg;
    for (int i = 1; i < s->count; i += 2)
        CHECK_EQ(chan_send(s->b, &i), 0);
    CHECK_EQ(chan_close(s->b), 0);
    return NULL;
}

TEST(two_streams_become_one)
{
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (int room = 0; room <= 2; room++) {
            struct streams s = {MAKE(int, room), MAKE(int, 0), MAKE(int, room),
                                (int)support_scale(cast == ROUTINES ? 10000 : 1000)};
            struct actor even = act(cast_is_thread(cast, 0), even_stream, &s);
            struct actor odd = act(cast_is_thread(cast, 1), odd_stream, &s);
            struct actor merger = act(cast_is_thread(cast, 2), merge_streams, &s);
            int next[2] = {0, 1}, count = 0, x = -1;
            while (chan_recv(s.out, &x) == 0) {
                CHECK_EQ(x, next[x & 1]); /* each in its own order */
                next[x & 1] += 2;
                count++;
            }
            CHECK_EQ(count, s.count);
            act_end(even);
            act_end(odd);
            act_end(merger);
            chan_unref(s.a);
            chan_unref(s.b);
            chan_unref(s.out);
        }
}

TEST_EVERYWHERE(the_merger_notices_that_nobody_reads)
{
    struct streams s = {MAKE(int, 2), MAKE(int, 2), MAKE(int, 0), 0};
    struct actor merger = act(false, merge_in_vain, &s);
    CHECK_EQ(chan_send(s.b, &(int){1}), 0);
    CHECK_EQ(chan_close(s.out), 0);
    act_end(merger);
    chan_unref(s.a);
    chan_unref(s.b);
    chan_unref(s.out);
}

/* ---- in processes of their own ---- */

static void *select_for_ever(void *arg)
{
    const int got =
        arg != NULL ? chan_select(CHAN_RECV(NULL, NULL), CHAN_SEND(NULL, NULL), CHAN_TIMEOUT(ROUTINE_NEVER))
                    : chan_select_array(NULL, 0);
    fprintf(stderr, "a select of nothing has returned %d\n", got);
    exit(1);
}

/* Nothing can end these selects but the end of the process. */
static int case_for_ever(void)
{
    chan_t *ch = MAKE(int, 0);
    struct actor other = act(false, send_until_closed, ch);
    CHECK_EQ(go_detached(select_for_ever, NULL), 0);
    CHECK_EQ(go_detached(select_for_ever, ch), 0);
    support_thread(select_for_ever, NULL);
    support_thread(select_for_ever, ch);
    CHECK_EQ(chan_recv(ch, NULL), 0);
    await_parked(NULL, 3);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(chan_recv(ch, NULL), 0);
    await_parked(NULL, 3);
    CHECK_EQ(chan_close(ch), 0);
    act_end(other);
    await_parked(NULL, 2);
    chan_unref(ch);
    return 0;
}

TEST(without_cases_it_waits_for_ever)
{
    static struct support_result r;
    CASE_EXITS(&r, "for_ever", NULL, 0);
    CASE_DOES_NOT_SAY(&r, "for_ever", "check failed");
}

/* As many cases as there may be, and no memory for them. */
static int case_no_memory(void)
{
    enum { CASES = CHAN_CASES_MAX };
    static chan_t *channels[CASES];
    static chan_case_t cases[CASES];
    for (int i = 0; i < CASES - 1; i++) {
        channels[i] = MAKE(int, 0);
        cases[i] = CHAN_RECV(channels[i], NULL);
    }
    cases[CASES - 1] = CHAN_TIMEOUT(ROUTINE_MS);
    const struct rlimit none = {4096, RLIM_INFINITY}, plenty = {RLIM_INFINITY, RLIM_INFINITY};
    CHECK_EQ(chan_select_array(cases + CASES - 3, 3), 2); /* it has waited: what a thread needs is there */
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    CHECK_EQ(chan_select_array(cases, CASES), -ENOMEM);
    CHECK_EQ(chan_select_array(cases + CASES - 3, 3), 2); /* a few always can */
    CHECK_EQ(setrlimit(RLIMIT_AS, &plenty), 0);
    for (int i = 0; i < CASES - 1; i++)
        CHECK_EQ(chan_try_send(channels[i], &i), -EAGAIN); /* nobody was left waiting */
    CHECK_EQ(chan_select_array(cases, CASES), CASES - 1);
    for (int i = 0; i < CASES - 1; i++)
        chan_unref(channels[i]);
    return 0;
}

TEST(more_cases_than_memory_for_them)
{
    static struct support_result r;
    if (SUPPORT_ASAN || SUPPORT_TSAN)
        return; /* they need all address space */
    CASE_EXITS(&r, "no_memory", NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"for_ever", case_for_ever},
        {"no_memory", case_no_memory},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_happens_when_nothing_else_can),
        cmocka_unit_test(a_null_channel_is_a_case_switched_off),
        cmocka_unit_test(the_whole_matrix),
        cmocka_unit_test(closed_and_ready_ones_are_chosen_alike),
        cmocka_unit_test(arguments_are_evaluated_once),
        cmocka_unit_test(the_array_form),
        cmocka_unit_test(cases_that_are_none),
        cmocka_unit_test(the_most_cases),
        cmocka_unit_test(over_any_number_of_channels),
        cmocka_unit_test(the_same_channel_many_times),
        cmocka_unit_test(both_directions_of_a_buffer),
        cmocka_unit_test(never_with_itself),
        cmocka_unit_test(both_directions_of_a_rendezvous),
        cmocka_unit_test(two_selects_that_face_each_other),
        cmocka_unit_test(three_send_and_three_receive_by_select),
        cmocka_unit_test(selects_among_plain_senders_and_receivers),
        cmocka_unit_test(a_ring_of_selects_in_both_directions),
        cmocka_unit_test(of_two_each_has_half),
        cmocka_unit_test(of_many_each_has_its_share),
        cmocka_unit_test(newcomers_choose_fairly),
        cmocka_unit_test(if_one_of_two_is_always_ready_default_never_happens),
        cmocka_unit_test(two_cases_never_both_happen),
        cmocka_unit_test(who_was_woken_by_time_is_not_counted_as_waiting),
        cmocka_unit_test(losers_anywhere_in_a_queue_leave_without_damage),
        cmocka_unit_test(a_hundred_thousand_selects_leave_nothing_behind),
        cmocka_unit_test(select_copies_and_orders_as_send_and_receive_do),
        cmocka_unit_test(a_time_is_never_early),
        cmocka_unit_test(times_that_are_over),
        cmocka_unit_test(the_nearest_time_counts),
        cmocka_unit_test(never_and_almost_never),
        cmocka_unit_test(a_thousand_times),
        cmocka_unit_test(times_alone_hold_nobody_up),
        cmocka_unit_test(an_earlier_time_comes_first),
        cmocka_unit_test(a_time_against_a_send),
        cmocka_unit_test(no_value_is_lost_or_doubled_by_times),
        cmocka_unit_test(close_wakes_those_in_select),
        cmocka_unit_test(close_against_select),
        cmocka_unit_test(either_side_may_be_the_last),
        cmocka_unit_test(selects_of_two_runtimes_face_each_other),
        cmocka_unit_test(a_runtime_goes_while_its_last_select_is_being_woken),
        cmocka_unit_test(two_streams_become_one),
        cmocka_unit_test(the_merger_notices_that_nobody_reads),
        cmocka_unit_test(without_cases_it_waits_for_ever),
        cmocka_unit_test(more_cases_than_memory_for_them),
    };
    return cmocka_run_group_tests_name("select", tests, NULL, NULL);
}
