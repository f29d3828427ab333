/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_cancel and routine_check: before the start, while running, after the
 * end, under limits and shields, on stale handles whose block is used again, and against everything else at
 * once. The account is exact: a routine either ran, and its join is 0, or did not, and its join is
 * -ECANCELED.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

SUPPORT_NO_HANDOVERS

static void *flag(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return arg;
}

/* Keeps a worker busy, without yielding, until told otherwise. */
struct hog {
    _Atomic int running;
    _Atomic int stop;
};

static void *hog(void *arg)
{
    struct hog *h = arg;
    atomic_fetch_add(&h->running, 1);
    while (!atomic_load(&h->stop))
        sched_yield();
    return NULL;
}

/* ---- before the start ---- */

enum { WORKERS = 3, MANY = 100 };

/* All workers of a runtime are busy: what is spawned now does not start before we say so. */
struct blocked {
    routine_runtime_t *runtime;
    struct hog hog;
    routine_t hogs[WORKERS];
};

static void block_runtime(struct blocked *b)
{
    memset(b, 0, sizeof *b);
    b->runtime = support_runtime(WORKERS);
    for (int i = 0; i < WORKERS; i++)
        b->hogs[i] = support_go_on(b->runtime, hog, &b->hog);
    WAIT_UNTIL(atomic_load(&b->hog.running) == WORKERS);
}

static void unblock_runtime(struct blocked *b)
{
    atomic_store(&b->hog.stop, 1);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(routine_join(b->hogs[i], NULL), 0);
}

static void *join_cancelled(void *arg)
{
    void *result = &result;
    CHECK_EQ(routine_join(*(routine_t *)arg, &result), -ECANCELED);
    CHECK(result == &result);
    return NULL;
}

TEST_EVERYWHERE(one_that_has_not_started_never_does)
{
    struct blocked b;
    _Atomic int ran = 0;
    routine_t h[MANY];
    block_runtime(&b);
    for (int i = 0; i < MANY; i++)
        h[i] = support_go_on(b.runtime, flag, (void *)&ran);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(routine_cancel(h[i]), 0);
        CHECK_EQ(routine_cancel(h[i]), 0); /* may be repeated */
    }
    unblock_runtime(&b);
    for (int i = 0; i < MANY; i++) {
        if (i % 4 == 0) {
            WAIT_UNTIL(routine_is_finished(h[i]));
            CHECK_EQ(routine_try_join(h[i], NULL), -ECANCELED);
        } else if (i % 4 == 1) {
            CHECK_EQ(routine_join(support_go_on(b.runtime, join_cancelled, &h[i]), NULL), 0);
        } else if (i % 4 == 2) {
            CHECK_EQ(routine_detach(h[i]), 0);
        } else {
            CHECK_EQ(routine_join(h[i], NULL), -ECANCELED);
        }
        CHECK_EQ(routine_join(h[i], NULL), -ESRCH);
        CHECK_EQ(routine_cancel(h[i]) == -ESRCH || i % 4 == 2, true);
    }
    support_runtime_end(b.runtime);
    CHECK_EQ(atomic_load(&ran), 0);
}

static void *spawn_and_cancel(void *arg)
{
    for (int i = 0; i < MANY; i++) {
        _Atomic int ran = 0;
        void *result = &result;
        routine_t h = go(flag, (void *)&ran);
        if (i % 3 == 1)
            h = (routine_join(h, NULL) == 0) ? go(flag, (void *)&ran) : h;
        atomic_store(&ran, 0);
        CHECK_EQ(routine_cancel(h), 0);
        if (i % 2)
            routine_yield();
        CHECK_EQ(routine_join(h, &result), -ECANCELED);
        CHECK(result == &result);
        CHECK_EQ(atomic_load(&ran), 0);
    }
    return arg;
}

/* On one worker nobody else can start the child: R4, the starter reads the bit, the joiner who would
 * run it in place too. */
TEST(cancelled_by_its_spawner_before_the_join)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, spawn_and_cancel, NULL), NULL), 0);
    support_runtime_end(one);
}

struct block_of_memory {
    unsigned char bytes[32 << 10];
};

static void *never(void *arg)
{
    (void)arg;
    support_fail(__FILE__, __LINE__, "a cancelled routine ran");
    return NULL;
}

static void *cancel_closures(void *arg)
{
    static struct block_of_memory block;
    (void)arg;
    for (long i = 0; i < support_scale(20000); i++) {
        routine_t h = go_copy(never, block);
        routine_t small = go_copy(never, ((struct hog){0, 0}));
        CHECK_EQ(routine_cancel(h), 0);
        CHECK_EQ(routine_cancel(small), 0);
        if (i % 2) {
            CHECK_EQ(routine_join(h, NULL), -ECANCELED);
            CHECK_EQ(routine_join(small, NULL), -ECANCELED);
        } else {
            CHECK_EQ(routine_detach(h), 0);
            CHECK_EQ(routine_detach(small), 0);
            WAIT_UNTIL(routine_is_finished(h) && routine_is_finished(small));
        }
    }
    return NULL;
}

/* 20,000 of 32 KiB would be 640 MB. (LeakSanitizer looks too.) */
TEST(copies_of_cancelled_closures_are_released)
{
    routine_runtime_t *one = support_runtime(1);
    const long before = support_resident();
    CHECK_EQ(routine_join(support_go_on(one, cancel_closures, NULL), NULL), 0);
    if (!support_slow())
        CHECK(support_resident() - before < 100 << 20);
    support_runtime_end(one);
}

static void *detach_and_cancel(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        routine_t h = go(never, arg);
        if (i % 2) {
            CHECK_EQ(routine_detach(h), 0);
            CHECK_EQ(routine_cancel(h), 0); /* not stale: it has not ended */
        } else {
            CHECK_EQ(routine_cancel(h), 0);
            CHECK_EQ(routine_detach(h), 0);
        }
        if (i % 10 == 0) {
            WAIT_UNTIL(routine_is_finished(h));
            CHECK_EQ(routine_cancel(h), -ESRCH);
        }
    }
    return NULL;
}

TEST(a_detached_one_can_be_cancelled)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, detach_and_cancel, NULL), NULL), 0);
    support_runtime_end(one);
}

/* ---- while running ---- */

struct looper {
    _Atomic int begun;
    int seen; /* what routine_check said in the end */
    int again;
};

static void *loop_until_cancelled(void *arg)
{
    struct looper *l = arg;
    atomic_store(&l->begun, 1);
    while ((l->seen = routine_check()) == 0)
        routine_yield();
    for (int i = 0; i < 10; i++) {
        l->again += routine_check() == -ECANCELED;
        routine_yield();
    }
    return l; /* one that obeys returns what it likes */
}

TEST_EVERYWHERE(one_that_runs_finds_out)
{
    struct looper l = {0, 0, 0};
    void *result = NULL;
    routine_t h = go(loop_until_cancelled, &l);
    WAIT_UNTIL(atomic_load(&l.begun));
    CHECK(!routine_is_finished(h));
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == &l);
    CHECK_EQ(l.seen, -ECANCELED);
    CHECK_EQ(l.again, 10); /* sticky */
    CHECK_EQ(routine_check(), 0);
}

static void *cancel_self(void *arg)
{
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_cancel(routine_self()), 0);
    CHECK_EQ(routine_check(), -ECANCELED);
    routine_yield();
    CHECK_EQ(routine_check(), -ECANCELED);
    /* It is its own affair: a child is not cancelled, joins go on. */
    _Atomic int ran = 0;
    CHECK_EQ(routine_join(go(flag, (void *)&ran), NULL), 0);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(routine_check(), -ECANCELED);
    return arg;
}

static void *check_zero(void *arg)
{
    CHECK_EQ(routine_check(), 0);
    return arg;
}

TEST_EVERYWHERE(a_routine_cancels_itself)
{
    void *result = NULL;
    routine_t h = go(cancel_self, &h);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == &h);
    for (int i = 0; i < 300; i++) /* its block is used again: nothing sticks to that */
        CHECK_EQ(routine_join(go(check_zero, NULL), NULL), 0);
}

static void *cancel_it(void *arg)
{
    CHECK_EQ(routine_cancel(*(routine_t *)arg), 0);
    return NULL;
}

/* A child in place and its joiner are two: the one is cancelled, not the other. */
static void *joiner_cancelled_by_child(void *arg)
{
    routine_t self = routine_self();
    CHECK_EQ(routine_join(go(cancel_it, &self), NULL), 0);
    CHECK_EQ(routine_check(), -ECANCELED);
    CHECK_EQ(routine_join(go(check_zero, NULL), NULL), 0);
    CHECK_EQ(routine_check(), -ECANCELED);
    return arg;
}

TEST_EVERYWHERE(a_child_in_place_is_cancelled_by_itself)
{
    CHECK_EQ(routine_join(go(joiner_cancelled_by_child, NULL), NULL), 0);
}

/* What routine_check says depends on what is in force where it is called. otherwise: without limits. */
static void check_limits(int otherwise)
{
    const int passed = otherwise != 0 ? otherwise : -ETIMEDOUT;
    CHECK_EQ(routine_check(), otherwise);
    {
        routine_with_timeout(ROUTINE_NEVER);
        CHECK_EQ(routine_check(), otherwise);
        routine_with_timeout(0);
        CHECK_EQ(routine_check(), passed);
        {
            routine_with_timeout(3600 * ROUTINE_S); /* the nearest one counts */
            CHECK_EQ(routine_check(), passed);
        }
        {
            routine_shield();
            CHECK_EQ(routine_check(), 0);
            {
                routine_with_timeout(3600 * ROUTINE_S);
                CHECK_EQ(routine_check(), 0);
                routine_with_deadline(routine_now());
                CHECK_EQ(routine_check(), -ETIMEDOUT);
            }
            CHECK_EQ(routine_check(), 0);
        }
        CHECK_EQ(routine_check(), passed);
    }
    {
        const int64_t at = routine_now() + 200 * ROUTINE_US;
        routine_with_deadline(at);
        while (routine_check() == 0)
            ;
        CHECK(otherwise != 0 || routine_now() >= at);
        CHECK_EQ(routine_check(), passed);
    }
    CHECK_EQ(routine_check(), otherwise);
}

static void *cancel_self_and_check(void *arg)
{
    check_limits(0);
    {
        routine_shield();
        CHECK_EQ(routine_cancel(routine_self()), 0);
        CHECK_EQ(routine_check(), 0);
        routine_yield();
        CHECK_EQ(routine_check(), 0);
    }
    check_limits(-ECANCELED);
    return arg;
}

TEST_EVERYWHERE(check_knows_limits_and_shields)
{
    check_limits(0);
    CHECK_EQ(routine_join(go(cancel_self_and_check, NULL), NULL), 0);
    CHECK_EQ(routine_check(), 0);
}

/* ---- after the end ---- */

TEST_EVERYWHERE(cancelling_one_that_has_finished_changes_nothing)
{
    _Atomic int ran = 0;
    void *result = NULL;
    routine_t h = go(flag, (void *)&ran);
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == (void *)&ran);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_EQ(routine_cancel(h), -ESRCH);
}

/* R3: the cancel of a stale handle never hits who has the block now. */
static void *cancel_stale(void *arg)
{
    _Atomic int ran = 0;
    routine_t old[64];
    int expected = 0;
    for (int i = 0; i < 64; i++) {
        old[i] = go(flag, (void *)&ran);
        CHECK_EQ(routine_join(old[i], NULL), 0);
        expected++;
    }
    for (int round = 0; round < 100; round++) {
        routine_t fresh[64];
        for (int i = 0; i < 64; i++)
            fresh[i] = go(flag, (void *)&ran);
        for (int i = 0; i < 64; i++)
            CHECK_EQ(routine_cancel(old[i]), -ESRCH);
        for (int i = 0; i < 64; i++) {
            CHECK_EQ(routine_join(fresh[i], NULL), 0);
            expected++;
            old[i] = fresh[i];
        }
    }
    CHECK_EQ(atomic_load(&ran), expected);
    return arg;
}

TEST_EVERYWHERE(a_stale_handle_cancels_nobody)
{
    CHECK_EQ(routine_join(go(cancel_stale, NULL), NULL), 0);
    cancel_stale(NULL);
}

/* ---- against everything else ---- */

enum { NOBODY, DETACHER };

struct storm {
    int other; /* what the third party does: DETACHER competes with the join */
    long rounds;
    bool yields; /* the child of this round */
    routine_t handle;
    struct support_turn turns[2];
    _Atomic int arrived;
    _Atomic int ran;
    int cancel_rc, other_rc;
};

static void *storm_child(void *arg)
{
    struct storm *s = arg;
    atomic_fetch_add(&s->ran, 1);
    if (s->yields)
        routine_yield();
    const int rc = routine_check();
    CHECK(rc == 0 || rc == -ECANCELED);
    return s;
}

static void *storm_canceller(void *arg)
{
    struct storm *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        support_turn_wait(&s->turns[0]);
        support_meet(&s->arrived, s->other == DETACHER ? 3 : 2);
        s->cancel_rc = routine_cancel(s->handle);
        support_turn_done(&s->turns[0]);
    }
    return NULL;
}

static void *storm_detacher(void *arg)
{
    struct storm *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        support_turn_wait(&s->turns[1]);
        support_meet(&s->arrived, 3);
        s->other_rc = routine_detach(s->handle);
        support_turn_done(&s->turns[1]);
    }
    return NULL;
}

/* Starts and joins; another cancels at the same time; perhaps a third detaches. */
static void *storm_run(void *arg)
{
    struct storm *s = arg;
    const int others = s->other == DETACHER ? 2 : 1;
    int expected = 0, cancelled = 0;
    for (long round = 0; round < s->rounds; round++) {
        void *result = NULL;
        const int before = atomic_load(&s->ran);
        atomic_store(&s->arrived, 0);
        s->yields = round % 2;
        s->handle = go(storm_child, s);
        const routine_t h = s->handle;
        if (round % 5 == 0)
            WAIT_UNTIL(routine_is_finished(h));
        for (int i = 0; i < others; i++)
            support_turn_begin(&s->turns[i]); /* now they have the handle */
        if (round % 3 == 0)
            routine_yield();
        if (round % 7 != 0)
            support_meet(&s->arrived, others + 1);
        const int rc = routine_join(h, &result);
        for (int i = 0; i < others; i++)
            support_turn_await(&s->turns[i]);
        CHECK(s->cancel_rc == 0 || s->cancel_rc == -ESRCH);
        if (rc == 0) {
            CHECK(result == s);
            CHECK_EQ(atomic_load(&s->ran) - before, 1);
            expected++;
        } else if (rc == -ECANCELED) {
            CHECK_EQ(s->cancel_rc, 0);
            CHECK_EQ(atomic_load(&s->ran), before);
            CHECK(round % 5 != 0);
            cancelled++;
        } else { /* the detacher was first: it ran, or was cancelled, we can't know which */
            CHECK_EQ(s->other, DETACHER);
            CHECK(rc == -ESRCH || rc == -EBUSY);
            CHECK_EQ(s->other_rc, 0);
            WAIT_UNTIL(routine_is_finished(h));
            const int ran = atomic_load(&s->ran) - before;
            CHECK(ran == 0 || ran == 1);
            CHECK(ran == 1 || s->cancel_rc == 0);
            expected += ran;
            continue;
        }
        if (s->other == DETACHER)
            CHECK(s->other_rc == -ESRCH || s->other_rc == -EBUSY);
        CHECK_EQ(routine_cancel(h), -ESRCH);
    }
    CHECK_EQ(atomic_load(&s->ran), expected);
    if (s->other == NOBODY)
        CHECK_EQ(expected + cancelled, s->rounds);
    return NULL;
}

static void storm(int other, bool by_routine)
{
    struct storm s = {.other = other, .rounds = support_scale(5000)};
    pthread_t canceller = support_thread(storm_canceller, &s), detacher = 0;
    if (other == DETACHER)
        detacher = support_thread(storm_detacher, &s);
    if (by_routine)
        support_in_routine(storm_run, &s);
    else
        storm_run(&s);
    support_thread_join(canceller, NULL);
    if (other == DETACHER)
        support_thread_join(detacher, NULL);
}

/* R4: cancel against start, completion and join. */
TEST(cancel_against_start_and_join)
{
    storm(NOBODY, false);
    storm(NOBODY, true);
}

TEST(cancel_against_join_and_detach)
{
    storm(DETACHER, false);
    storm(DETACHER, true);
}

struct crowd {
    routine_t *handles;
    int count;
    _Atomic int ran;
};

static void *crowd_canceller(void *arg)
{
    struct crowd *c = arg;
    for (int i = c->count - 1; i >= 0; i -= 2)
        CHECK_EQ(routine_cancel(c->handles[i]), 0);
    return NULL;
}

static void *crowd_member(void *arg)
{
    atomic_fetch_add(&((struct crowd *)arg)->ran, 1);
    routine_yield();
    return arg;
}

/* Many at once, half of them cancelled by three parties while the workers start them; the
 * statistics keep the same account. */
TEST(the_account_is_exact)
{
    enum { N = 2000 };
    static routine_t handles[N];
    routine_runtime_t *runtime = support_runtime(2);
    long cancelled_in_all = 0;
    for (long round = 0; round < support_scale(100); round++) {
        struct crowd crowd = {handles, N, 0};
        for (int i = 0; i < N; i++)
            handles[i] = support_go_on(runtime, crowd_member, &crowd);
        pthread_t thread = support_thread(crowd_canceller, &crowd);
        routine_t routine = support_go_on(runtime, crowd_canceller, &crowd);
        crowd_canceller(&crowd);
        support_thread_join(thread, NULL);
        CHECK_EQ(routine_join(routine, NULL), 0);
        int ran = 0, cancelled = 0;
        for (int i = 0; i < N; i++) {
            void *result = NULL;
            const int rc = routine_join(handles[i], &result);
            CHECK(rc == 0 || (rc == -ECANCELED && i % 2 == 1));
            ran += rc == 0 && result == &crowd;
            cancelled += rc == -ECANCELED;
        }
        CHECK_EQ(ran + cancelled, N);
        CHECK_EQ(atomic_load(&crowd.ran), ran);
        cancelled_in_all += cancelled;
    }
    routine_stats_t stats;
    CHECK_EQ(routine_stats(runtime, &stats), 0);
    CHECK_EQ(stats.total.cancelled, cancelled_in_all);
    CHECK_EQ(stats.total.spawned, (N + 1) * support_scale(100));
    CHECK_EQ(stats.total.completed, stats.total.spawned);
    CHECK_EQ(stats.live, 0);
    support_runtime_end(runtime);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_has_not_started_never_does),
        cmocka_unit_test(cancelled_by_its_spawner_before_the_join),
        cmocka_unit_test(copies_of_cancelled_closures_are_released),
        cmocka_unit_test(a_detached_one_can_be_cancelled),
        cmocka_unit_test(one_that_runs_finds_out),
        cmocka_unit_test(a_routine_cancels_itself),
        cmocka_unit_test(a_child_in_place_is_cancelled_by_itself),
        cmocka_unit_test(check_knows_limits_and_shields),
        cmocka_unit_test(cancelling_one_that_has_finished_changes_nothing),
        cmocka_unit_test(a_stale_handle_cancels_nobody),
        cmocka_unit_test(cancel_against_start_and_join),
        cmocka_unit_test(cancel_against_join_and_detach),
        cmocka_unit_test(the_account_is_exact),
    };
    return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
