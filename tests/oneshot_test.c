/* SPDX-License-Identifier: MIT
 *
 * Tests of oneshot.h: every return code, every pairing of routine and plain thread, both
 * orders of send and receive, chains, storms, and the promise that the memory is the
 * receiver's again the moment the receive has returned.
 *
 * What is pointed at by a value is plain memory, so that ThreadSanitizer sees whether
 * sending and receiving order it.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

/* ---- return codes ---- */

TEST_EVERYWHERE(send_then_receive)
{
    routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
    void *value = &value;
    CHECK_EQ(routine_oneshot_try_recv(&o, &value), -EAGAIN);
    CHECK(value == &value);
    CHECK_EQ(routine_oneshot_send(&o, &o), 0);
    CHECK_EQ(routine_oneshot_recv(&o, &value), 0);
    CHECK(value == &o);

    routine_oneshot_t zero = {0};
    CHECK_EQ(routine_oneshot_send(&zero, NULL), 0); /* a null value is a value */
    CHECK_EQ(routine_oneshot_try_recv(&zero, &value), 0);
    CHECK(value == NULL);

    routine_oneshot_init(&o);
    CHECK_EQ(routine_oneshot_send(&o, &o), 0);
    CHECK_EQ(routine_oneshot_recv(&o, NULL), 0);
}

TEST_EVERYWHERE(a_second_send)
{
    routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
    int first, second;
    void *value = NULL;
    CHECK_EQ(routine_oneshot_send(&o, &first), 0);
    CHECK_EQ(routine_oneshot_send(&o, &second), -EALREADY);
    CHECK_EQ(routine_oneshot_recv(&o, &value), 0);
    CHECK(value == &first); /* stands */
    CHECK_EQ(routine_oneshot_send(&o, &second), -EALREADY);
}

TEST_EVERYWHERE(a_second_receive)
{
    routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
    void *value = NULL;
    CHECK_EQ(routine_oneshot_send(&o, &o), 0);
    CHECK_EQ(routine_oneshot_recv(&o, &value), 0);
    value = NULL;
    CHECK_EQ(routine_oneshot_recv(&o, &value), -EPIPE);
    CHECK_EQ(routine_oneshot_try_recv(&o, &value), -EPIPE);
    CHECK_EQ(routine_oneshot_close(&o), -EPIPE);
    CHECK(value == NULL);
}

TEST_EVERYWHERE(close_before_the_send)
{
    routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
    CHECK_EQ(routine_oneshot_close(&o), 0);
    CHECK_EQ(routine_oneshot_send(&o, &o), -EPIPE);
    CHECK_EQ(routine_oneshot_recv(&o, NULL), -EPIPE);
    CHECK_EQ(routine_oneshot_try_recv(&o, NULL), -EPIPE);
    CHECK_EQ(routine_oneshot_close(&o), -EPIPE);
    CHECK_EQ(routine_oneshot_send(&o, &o), -EPIPE);
}

TEST_EVERYWHERE(close_after_the_send)
{
    routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
    CHECK_EQ(routine_oneshot_send(&o, &o), 0);
    CHECK_EQ(routine_oneshot_close(&o), 0); /* the value is dropped */
    CHECK_EQ(routine_oneshot_recv(&o, NULL), -EPIPE);
    CHECK_EQ(routine_oneshot_close(&o), -EPIPE);
    const int rc = routine_oneshot_send(&o, &o); /* both are true */
    CHECK(rc == -EALREADY || rc == -EPIPE);
}

TEST_EVERYWHERE(null_oneshots)
{
    CHECK_EQ(routine_oneshot_send(NULL, NULL), -EINVAL);
    CHECK_EQ(routine_oneshot_recv(NULL, NULL), -EINVAL);
    CHECK_EQ(routine_oneshot_try_recv(NULL, NULL), -EINVAL);
    CHECK_EQ(routine_oneshot_close(NULL), -EINVAL);
}

/* ---- a receiver that waits ---- */

struct waiting {
    routine_oneshot_t o;
    _Atomic int begun;
};

static void *receiver(void *arg)
{
    struct waiting *w = arg;
    void *value = NULL;
    atomic_store(&w->begun, 1);
    CHECK_EQ(routine_oneshot_recv(&w->o, &value), 0);
    return value;
}

static void check_a_waiting_receiver(bool thread)
{
    struct waiting w = {.o = ROUTINE_ONESHOT_INITIALIZER};
    void *value = NULL;
    pthread_t pthread = 0;
    routine_t routine = {NULL, 0};
    if (thread)
        pthread = support_thread(receiver, &w);
    else
        routine = go(receiver, &w);
    WAIT_UNTIL(atomic_load(&w.begun));
    int rc;
    while ((rc = routine_oneshot_try_recv(&w.o, &value)) == -EAGAIN)
        routine_yield(); /* until it waits */
    CHECK_EQ(rc, -EBUSY);
    CHECK_EQ(routine_oneshot_recv(&w.o, &value), -EBUSY);
    CHECK_EQ(routine_oneshot_close(&w.o), -EBUSY);
    CHECK(value == NULL);
    CHECK_EQ(routine_oneshot_send(&w.o, &w), 0);
    CHECK_EQ(routine_oneshot_send(&w.o, NULL), -EALREADY);
    if (thread)
        support_thread_join(pthread, &value);
    else
        CHECK_EQ(routine_join(routine, &value), 0);
    CHECK(value == &w);
    CHECK_EQ(routine_oneshot_recv(&w.o, &value), -EPIPE);
}

TEST_EVERYWHERE(while_somebody_waits)
{
    check_a_waiting_receiver(false);
    check_a_waiting_receiver(true);
}

/* ---- storms: 1:1, every pairing ---- */

struct message {
    long number;
    long check;
};

struct storm {
    long rounds;
    routine_oneshot_t offer; /* carries where to send, while the receiver is on its way to wait */
    struct message messages[2];
};

/* The oneshot lives on the stack of this call, and its place is somebody else's when it returns. */
SUPPORT_NOINLINE static long receive_on_the_stack(struct storm *s, long round)
{
    routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
    void *value = NULL;
    CHECK_EQ(routine_oneshot_send(&s->offer, &o), 0);
    if (round % 3 == 0) /* often the send comes first */
        routine_yield();
    if (round % 5 == 0) {
        int rc;
        while ((rc = routine_oneshot_try_recv(&o, &value)) == -EAGAIN)
            routine_yield();
        CHECK_EQ(rc, 0);
    } else {
        CHECK_EQ(routine_oneshot_recv(&o, &value), 0);
    }
    memset(&o, 0x5a, sizeof o);
    const struct message *m = value;
    CHECK_EQ(m->check, m->number * 3 + 1);
    for (size_t i = 0; i < sizeof o; i++)
        CHECK_EQ(((unsigned char *)&o)[i], 0x5a);
    return m->number;
}

/* The same memory, used for something else. */
SUPPORT_NOINLINE static void overwrite_the_stack(void)
{
    volatile unsigned char block[512];
    memset((void *)(uintptr_t)block, 0xa5, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        CHECK_EQ(block[i], 0xa5);
}

static void *storm_receiver(void *arg)
{
    struct storm *s = arg;
    for (long round = 1; round <= s->rounds; round++) {
        CHECK_EQ(receive_on_the_stack(s, round), round);
        overwrite_the_stack();
    }
    return NULL;
}

static void *storm_sender(void *arg)
{
    struct storm *s = arg;
    for (long round = 1; round <= s->rounds; round++) {
        void *o = NULL;
        CHECK_EQ(routine_oneshot_recv(&s->offer, &o), 0);
        routine_oneshot_init(&s->offer); /* the next offer comes after our answer */
        struct message *m = &s->messages[round % 2];
        *m = (struct message){round, round * 3 + 1};
        CHECK_EQ(routine_oneshot_send(o, m), 0);
    }
    return NULL;
}

enum { PAIRS = 4 };

static void run_storms(bool sender_thread, bool receiver_thread)
{
    static struct storm storms[PAIRS];
    pthread_t threads[2 * PAIRS];
    routine_t routines[2 * PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        memset(&storms[i], 0, sizeof storms[i]);
        storms[i].rounds = support_scale(sender_thread || receiver_thread ? 2000 : 20000);
        if (receiver_thread)
            threads[2 * i] = support_thread(storm_receiver, &storms[i]);
        else
            routines[2 * i] = go(storm_receiver, &storms[i]);
        if (sender_thread)
            threads[2 * i + 1] = support_thread(storm_sender, &storms[i]);
        else
            routines[2 * i + 1] = go(storm_sender, &storms[i]);
    }
    for (int i = 0; i < 2 * PAIRS; i++)
        if (i % 2 ? sender_thread : receiver_thread)
            support_thread_join(threads[i], NULL);
        else
            CHECK_EQ(routine_join(routines[i], NULL), 0);
}

TEST(from_routine_to_routine)
{
    run_storms(false, false);
}

TEST(from_thread_to_routine)
{
    run_storms(true, false);
}

TEST(from_routine_to_thread)
{
    run_storms(false, true);
}

TEST(from_thread_to_thread)
{
    run_storms(true, true);
}

/* ---- ping-pong: both sides wait each time ---- */

struct table {
    routine_oneshot_t to[2];
    long rounds;
};

struct player {
    struct table *table;
    int me;
};

static void *play(void *arg)
{
    struct player *p = arg;
    routine_oneshot_t *mine = &p->table->to[p->me], *theirs = &p->table->to[!p->me];
    for (long round = 0; round < p->table->rounds; round++) {
        void *value = NULL;
        if (p->me == 0) {
            CHECK_EQ(routine_oneshot_send(theirs, (void *)(round + 1)), 0);
            CHECK_EQ(routine_oneshot_recv(mine, &value), 0);
            routine_oneshot_init(mine); /* before the other can send again */
        } else {
            CHECK_EQ(routine_oneshot_recv(mine, &value), 0);
            routine_oneshot_init(mine);
            CHECK_EQ(routine_oneshot_send(theirs, (void *)(round + 1)), 0);
        }
        CHECK_EQ((long)value, round + 1);
    }
    return NULL;
}

static void ping_pong(int threads)
{
    enum { TABLES = 3 };
    struct table tables[TABLES];
    struct player players[2 * TABLES];
    pthread_t pthreads[2 * TABLES];
    routine_t routines[2 * TABLES];
    for (int i = 0; i < TABLES; i++) {
        routine_oneshot_init(&tables[i].to[0]);
        routine_oneshot_init(&tables[i].to[1]);
        tables[i].rounds = support_scale(threads ? 1000 : 20000);
    }
    for (int i = 0; i < 2 * TABLES; i++) {
        players[i] = (struct player){&tables[i / 2], i % 2};
        if (i % 2 < threads)
            pthreads[i] = support_thread(play, &players[i]);
        else
            routines[i] = go(play, &players[i]);
    }
    for (int i = 0; i < 2 * TABLES; i++)
        if (i % 2 < threads)
            support_thread_join(pthreads[i], NULL);
        else
            CHECK_EQ(routine_join(routines[i], NULL), 0);
}

TEST(ping_pong_of_routines)
{
    ping_pong(0);
}

TEST(ping_pong_of_thread_and_routine)
{
    ping_pong(1);
}

TEST(ping_pong_of_threads)
{
    ping_pong(2);
}

/* ---- close against send ---- */

struct closing {
    routine_oneshot_t o;
    struct support_turn turn;
    _Atomic int arrived;
    long rounds;
    int sent;
};

static void *closing_sender(void *arg)
{
    struct closing *c = arg;
    for (long round = 0; round < c->rounds; round++) {
        support_turn_wait(&c->turn);
        support_meet(&c->arrived, 2);
        c->sent = routine_oneshot_send(&c->o, c);
        support_turn_done(&c->turn);
    }
    return NULL;
}

TEST_EVERYWHERE(close_against_send)
{
    struct closing c = {.rounds = support_scale(2000)};
    routine_t sender = go(closing_sender, &c);
    for (long round = 0; round < c.rounds; round++) {
        void *value = NULL;
        routine_oneshot_init(&c.o);
        atomic_store(&c.arrived, 0);
        support_turn_begin(&c.turn);
        if (round % 2)
            routine_yield();
        if (round % 3)
            support_meet(&c.arrived, 2);
        const int got = routine_oneshot_try_recv(&c.o, &value);
        const int closed = got == 0 ? -EPIPE : routine_oneshot_close(&c.o);
        support_turn_await(&c.turn);
        if (got == 0) {
            CHECK(value == &c);
            CHECK_EQ(c.sent, 0);
        } else {
            CHECK_EQ(got, -EAGAIN);
            CHECK_EQ(closed, 0);
            CHECK(c.sent == 0 || c.sent == -EPIPE); /* 0: sent between, and dropped */
        }
        CHECK_EQ(routine_oneshot_close(&c.o), -EPIPE);
    }
    CHECK_EQ(routine_join(sender, NULL), 0);
}

/* ---- many senders for one ---- */

struct crowd {
    routine_oneshot_t o;
    _Atomic int accepted;
};

static void *crowd_sender(void *arg)
{
    struct crowd *c = arg;
    const int rc = routine_oneshot_send(&c->o, c);
    CHECK(rc == 0 || rc == -EALREADY);
    if (rc == 0)
        atomic_fetch_add(&c->accepted, 1);
    return NULL;
}

/* One of them is taken. Here the oneshot outlives all senders, as it must with several. */
TEST_EVERYWHERE(of_several_senders_one_wins)
{
    enum { SENDERS = 8 };
    for (long round = 0; round < support_scale(500); round++) {
        struct crowd c = {.o = ROUTINE_ONESHOT_INITIALIZER};
        routine_t h[SENDERS];
        void *value = NULL;
        for (int i = 0; i < SENDERS; i++)
            h[i] = go(crowd_sender, &c);
        CHECK_EQ(routine_oneshot_recv(&c.o, &value), 0);
        CHECK(value == &c);
        for (int i = 0; i < SENDERS; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(atomic_load(&c.accepted), 1);
    }
}

/* ---- a chain of 10,000 ---- */

enum { CHAIN = 10000 };
static routine_oneshot_t links[CHAIN + 1];
static routine_t chained[CHAIN];

static void *pass_on(void *arg)
{
    const uintptr_t i = (uintptr_t)arg;
    void *value = NULL;
    CHECK_EQ(routine_oneshot_recv(&links[i], &value), 0);
    CHECK_EQ((uintptr_t)value, i);
    CHECK_EQ(routine_oneshot_send(&links[i + 1], (void *)(i + 1)), 0);
    return NULL;
}

static void *run_chain(void *arg)
{
    const uintptr_t length = SUPPORT_TSAN ? 2000 : CHAIN;
    const bool send_first = arg != NULL;
    void *value = NULL;
    for (uintptr_t i = 0; i <= length; i++)
        routine_oneshot_init(&links[i]);
    if (send_first)
        CHECK_EQ(routine_oneshot_send(&links[0], NULL), 0);
    for (uintptr_t i = 0; i < length; i++)
        chained[i] = go(pass_on, (void *)i);
    if (!send_first)
        CHECK_EQ(routine_oneshot_send(&links[0], NULL), 0);
    CHECK_EQ(routine_oneshot_recv(&links[length], &value), 0);
    CHECK_EQ((uintptr_t)value, length);
    for (uintptr_t i = 0; i < length; i++)
        CHECK_EQ(routine_join(chained[i], NULL), 0);
    return NULL;
}

TEST(a_chain_of_10000)
{
    int yes;
    for (int i = 0; i < 3; i++) {
        run_chain(NULL);
        run_chain(&yes);
        support_in_routine(run_chain, NULL);
        support_in_routine(run_chain, &yes);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(send_then_receive),
        cmocka_unit_test(a_second_send),
        cmocka_unit_test(a_second_receive),
        cmocka_unit_test(close_before_the_send),
        cmocka_unit_test(close_after_the_send),
        cmocka_unit_test(null_oneshots),
        cmocka_unit_test(while_somebody_waits),
        cmocka_unit_test(from_routine_to_routine),
        cmocka_unit_test(from_thread_to_routine),
        cmocka_unit_test(from_routine_to_thread),
        cmocka_unit_test(from_thread_to_thread),
        cmocka_unit_test(ping_pong_of_routines),
        cmocka_unit_test(ping_pong_of_thread_and_routine),
        cmocka_unit_test(ping_pong_of_threads),
        cmocka_unit_test(close_against_send),
        cmocka_unit_test(of_several_senders_one_wins),
        cmocka_unit_test(a_chain_of_10000),
    };
    return cmocka_run_group_tests_name("oneshot", tests, NULL, NULL);
}
