/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_sleep and routine_sleep_until: never early, side by side, by routines and threads; in
 * order; what is over and what never comes; beside busy workers, and under signals.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

TEST_EVERYWHERE(never_early)
{
    static const int64_t times[] = {1, 999, 30 * ROUTINE_US, ROUTINE_MS, 7 * ROUTINE_MS};
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        int64_t before = routine_now();
        CHECK_EQ(routine_sleep(times[i]), 0);
        CHECK(routine_now() - before >= times[i]);
        before = routine_now();
        CHECK_EQ(routine_sleep_until(before + times[i]), 0);
        CHECK(routine_now() - before >= times[i]);
    }
}

TEST_EVERYWHERE(what_is_over)
{
    static const int64_t past[] = {0, -1, INT64_MIN, -ROUTINE_S};
    for (size_t i = 0; i < COUNT_OF(past); i++) {
        CHECK_EQ(routine_sleep(past[i]), 0);
        CHECK_EQ(routine_sleep_until(past[i]), 0);
    }
    CHECK_EQ(routine_sleep_until(routine_now() - 1), 0);
    CHECK_EQ(routine_sleep_until(routine_now()), 0);
    CHECK_EQ(routine_sleep_until(routine_now() - 3600 * ROUTINE_S), 0);
}

/* Any time in the past is over, also when others are waiting to run: a routine that sleeps so in a loop
 * gets to an end. */
TEST_EVERYWHERE(again_and_again)
{
    for (long i = 0; i < 2000; i++)
        CHECK_EQ(routine_sleep(-i), 0);
    const int64_t at = routine_now() + ROUTINE_MS;
    for (int i = 0; i < 100; i++) { /* the same time, which is over from the second on */
        CHECK_EQ(routine_sleep_until(at), 0);
        CHECK(routine_now() >= at);
    }
}

/* A step of a loop that is to keep to a grid. */
TEST_EVERYWHERE(on_a_grid)
{
    const int64_t first = routine_now(), step = 300 * ROUTINE_US;
    for (int i = 1; i <= 20; i++) {
        CHECK_EQ(routine_sleep_until(first + i * step), 0);
        CHECK(routine_now() >= first + i * step);
    }
}

/* What is too large to add up never comes: it is still asleep later, and a cancellation ends it. */
static void *sleep_too_long(void *arg)
{
    const int64_t ns = *(const int64_t *)arg;
    CHECK_EQ(routine_sleep(ns), -ECANCELED);
    CHECK_EQ(routine_sleep_until(ns), -ECANCELED); /* not for long */
    return arg;
}

static void *sleep_until_too_late(void *arg)
{
    CHECK_EQ(routine_sleep_until(*(const int64_t *)arg), -ECANCELED);
    return arg;
}

TEST_EVERYWHERE(what_never_comes)
{
    static const int64_t never[] = {ROUTINE_NEVER, INT64_MAX - 1, INT64_MAX - ROUTINE_S, INT64_MAX / 2};
    routine_t h[2 * COUNT_OF(never)];
    for (size_t i = 0; i < COUNT_OF(never); i++) {
        h[2 * i] = go(sleep_too_long, (void *)(uintptr_t)&never[i]);
        h[2 * i + 1] = go(sleep_until_too_late, (void *)(uintptr_t)&never[i]);
    }
    /* most likely they have all begun then; one that has not never does */
    CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
    for (size_t i = 0; i < COUNT_OF(h); i++) {
        CHECK(!routine_is_finished(h[i]));
        CHECK_EQ(routine_cancel(h[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(h); i++) {
        const int rc = routine_join(h[i], NULL);
        CHECK(rc == 0 || rc == -ECANCELED);
    }
}

/* ---- many at once ---- */

struct bed {
    int64_t ns;
    _Atomic long *awake;
};

static void *sleeper(void *arg)
{
    const struct bed *b = arg;
    const int64_t before = routine_now();
    CHECK_EQ(routine_sleep(b->ns), 0);
    CHECK(routine_now() - before >= b->ns);
    atomic_fetch_add(b->awake, 1);
    return NULL;
}

struct dormitory {
    long beds;
    int64_t least, most;
};

static void *dormitory(void *arg)
{
    const struct dormitory *d = arg;
    routine_t *h = malloc((size_t)d->beds * sizeof *h);
    _Atomic long awake = 0;
    uint64_t random = 11;
    if (h == NULL)
        abort();
    for (long i = 0; i < d->beds; i++) {
        const int64_t ns = d->least + (int64_t)(support_random(&random) % (uint64_t)(d->most - d->least));
        h[i] = go_copy(sleeper, ((struct bed){ns, &awake}));
    }
    for (long i = 0; i < d->beds; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(atomic_load(&awake), d->beds);
    free(h);
    return arg;
}

/* A hundred thousand for 10 to 1000 ms, in random order, from a routine and from a plain thread. */
TEST(a_hundred_thousand_in_random_order)
{
    struct dormitory d = {support_scale(100000), 10 * ROUTINE_MS, 1000 * ROUTINE_MS};
    support_in_routine(dormitory, &d);
    (void)dormitory(&d);
}

TEST(thousands_for_a_moment)
{
    struct dormitory d = {support_scale(20000), 0, 3 * ROUTINE_MS};
    support_in_routine(dormitory, &d);
    (void)dormitory(&d);
}

/* In rounds, each sleeping a new time as soon as the last one is over. */
static void *sleep_in_rounds(void *arg)
{
    _Atomic uint64_t *seed = arg;
    uint64_t random = atomic_fetch_add(seed, 2);
    for (int i = 0; i < 50; i++) {
        const int64_t ns = (int64_t)(support_random(&random) % 2000000) - 200000, before = routine_now();
        CHECK_EQ(routine_sleep(ns), 0);
        CHECK(routine_now() - before >= ns);
    }
    return NULL;
}

static void *in_rounds(void *arg)
{
    routine_t h[500];
    for (size_t i = 0; i < COUNT_OF(h); i++)
        h[i] = go(sleep_in_rounds, arg);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    return NULL;
}

TEST(hundreds_again_and_again)
{
    _Atomic uint64_t seed = 1;
    support_in_routine(in_rounds, (void *)&seed);
    pthread_t threads[4]; /* and some threads among them */
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        threads[i] = support_thread(sleep_in_rounds, (void *)&seed);
    support_in_routine(in_rounds, (void *)&seed);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
}

/* ---- the order, on one worker ---- */

enum { IN_ORDER = 200 };

struct order {
    int64_t until[IN_ORDER];
    int log[IN_ORDER];
    int count;
};

struct place {
    struct order *order;
    int index;
};

static void *sleep_until_turn(void *arg)
{
    const struct place *p = arg;
    CHECK_EQ(routine_sleep_until(p->order->until[p->index]), 0);
    CHECK(routine_now() >= p->order->until[p->index]);
    p->order->log[p->order->count++] = p->index; /* one worker */
    return NULL;
}

/* Those who sleep until the same time wake in the order in which they went to sleep; others in that of their
 * times. All are due at one look of the worker, or one after the other. */
static void *wake_in_order(void *arg)
{
    for (int kind = 0; kind < 4; kind++) {
        struct order o = {.count = 0};
        routine_t h[IN_ORDER];
        uint64_t random = 3;
        const int64_t begin = routine_now() + 5 * ROUTINE_MS;
        for (int i = 0; i < IN_ORDER; i++) {
            /* hardly any two, or many, or all at the same time */
            const uint64_t step = kind / 2 ? 1000000 : support_random(&random) % (kind ? 10 : 5000000);
            o.until[i] = begin + (int64_t)step;
        }
        for (int i = 0; i < IN_ORDER; i++) {
            h[i] = go_copy(sleep_until_turn, ((struct place){&o, i}));
            routine_yield(); /* it goes to sleep */
        }
        if (routine_now() >= begin) { /* some were too late for it: again, unless it is always so */
            for (int i = 0; i < IN_ORDER; i++)
                CHECK_EQ(routine_join(h[i], NULL), 0);
            continue;
        }
        if (kind % 2)
            while (routine_now() < begin + 6 * ROUTINE_MS)
                ;
        for (int i = 0; i < IN_ORDER; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(o.count, IN_ORDER);
        for (int k = 1; k < IN_ORDER; k++) {
            const int a = o.log[k - 1], b = o.log[k];
            CHECK(o.until[a] < o.until[b] || (o.until[a] == o.until[b] && a < b));
        }
    }
    return arg;
}

TEST(in_the_order_of_their_times)
{
    routine_runtime_t *runtime = support_runtime(1);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(routine_runtime_run(runtime, wake_in_order, NULL, NULL), 0);
    support_runtime_end(runtime);
}

struct same {
    int asleep; /* so many have gone to sleep */
    int awake;
    int64_t length;
};

static struct same same;

static void *sleep_as_long(void *arg)
{
    const int64_t begin = routine_now();
    const int turn = same.asleep++; /* one worker */
    CHECK_EQ(routine_sleep(same.length), 0);
    CHECK(routine_now() - begin >= same.length);
    CHECK_EQ(turn, same.awake);
    same.awake++;
    return arg;
}

/* Though sleeps are rounded up, those of the same length wake in the order in which they went to sleep. */
static void *as_long_as_the_others(void *arg)
{
    static const int64_t lengths[] = {1, 300, 100 * ROUTINE_US, 5 * ROUTINE_MS, 70 * ROUTINE_MS};
    for (size_t n = 0; n < COUNT_OF(lengths); n++) {
        routine_t h[IN_ORDER];
        same = (struct same){.length = lengths[n]};
        for (int i = 0; i < IN_ORDER; i++) {
            h[i] = go(sleep_as_long, NULL);
            routine_yield();
        }
        for (int i = 0; i < IN_ORDER; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(same.awake, IN_ORDER);
    }
    return arg;
}

TEST(sleeps_of_the_same_length_keep_their_order)
{
    /* who counts is not to lose the worker to the next one before it sleeps */
    const int64_t pace = atomic_exchange(&rt_monitor_pace, 1000 * ROUTINE_S);
    routine_runtime_t *runtime = support_runtime(1);
    CHECK_EQ(routine_runtime_run(runtime, as_long_as_the_others, NULL, NULL), 0);
    support_runtime_end(runtime);
    atomic_store(&rt_monitor_pace, pace);
}

/* ---- workers that sleep, workers that are busy ---- */

/* While one sleeps far away, and so its worker, one who sleeps less is not kept waiting: nor by the other
 * way around, that the worker has gone to rest for the longer time. */
static void *far_away(void *arg)
{
    atomic_store((_Atomic int *)arg, 1);
    CHECK_EQ(routine_sleep(3600 * ROUTINE_S), -ECANCELED);
    return arg;
}

static void *nap(void *arg)
{
    for (int i = 0; i < 30; i++) {
        const int64_t ns = i % 10 * 100 * ROUTINE_US, before = routine_now();
        CHECK_EQ(routine_sleep(ns), 0);
        CHECK(routine_now() - before >= ns);
    }
    return arg;
}

TEST(an_earlier_one_interrupts_a_rest)
{
    for (size_t workers = 1; workers <= 3; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        _Atomic int begun = 0;
        const routine_t h = support_go_on(runtime, far_away, (void *)&begun);
        WAIT_UNTIL(atomic_load(&begun)); /* one that is cancelled before never would */
        for (int i = 0; i < 20; i++) {
            usleep((useconds_t)(i % 4) * 500); /* all workers rest */
            CHECK_EQ(routine_runtime_run(runtime, nap, NULL, NULL), 0);
        }
        CHECK_EQ(routine_cancel(h), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        support_runtime_end(runtime);
    }
}

/* A sleeper wakes although all that its worker does is to start and join, or to yield, without ever resting.
 */
static void *busy_until(void *arg)
{
    struct bed *b = arg;
    const routine_t h = go(sleeper, b);
    routine_yield(); /* it has begun to sleep, or will */
    if (b->ns % 2)
        WAIT_UNTIL(atomic_load(b->awake) != 0);
    else
        while (atomic_load(b->awake) == 0) {
            static _Atomic long nobody;
            struct bed none = {0, &nobody};
            CHECK_EQ(routine_join(go(sleeper, &none), NULL), 0);
        }
    CHECK_EQ(routine_join(h, NULL), 0);
    return NULL;
}

TEST(beside_a_busy_one)
{
    for (int odd = 0; odd <= 1; odd++) {
        _Atomic long awake = 0;
        struct bed b = {3 * ROUTINE_MS + odd, &awake};
        support_in_routine(busy_until, &b);
    }
}

/* A shutdown waits for those who sleep. */
TEST(a_shutdown_waits_for_sleepers)
{
    for (size_t workers = 1; workers <= 3; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        _Atomic long awake = 0;
        struct bed b = {5 * ROUTINE_MS, &awake};
        const routine_t h = support_go_on(runtime, sleeper, &b);
        CHECK_EQ(routine_detach(h), 0);
        support_runtime_end(runtime);
        CHECK_EQ(atomic_load(&awake), 1);
    }
}

/* ---- signals ---- */

/* A signal interrupts the thread's wait in the kernel, but not the sleep. */
static _Atomic long handled;

static void count_signal(int signo)
{
    (void)signo;
    atomic_fetch_add(&handled, 1);
}

struct disturbed {
    _Atomic int over;
};

static void *sleep_disturbed(void *arg)
{
    struct disturbed *d = arg;
    for (int i = 0; i < 40; i++) {
        const int64_t ns = i % 8 * 500 * ROUTINE_US, before = routine_now();
        CHECK_EQ(routine_sleep(ns), 0);
        CHECK(routine_now() - before >= ns);
    }
    atomic_fetch_add(&d->over, 1);
    return NULL;
}

TEST(under_signals)
{
    struct sigaction action = {.sa_handler = count_signal}, before; /* no SA_RESTART */
    struct disturbed d = {0};
    pthread_t threads[3];
    CHECK_EQ(sigaction(SIGUSR1, &action, &before), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        threads[i] = support_thread(sleep_disturbed, &d);
    const routine_t h = go(sleep_disturbed, &d);
    while (atomic_load(&d.over) < 4) {
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            pthread_kill(threads[i], SIGUSR1);
        kill(getpid(), SIGUSR1);
        usleep(50);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK(atomic_load(&handled) > 0);
    CHECK_EQ(sigaction(SIGUSR1, &before, NULL), 0);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_early),
        cmocka_unit_test(what_is_over),
        cmocka_unit_test(again_and_again),
        cmocka_unit_test(on_a_grid),
        cmocka_unit_test(what_never_comes),
        cmocka_unit_test(a_hundred_thousand_in_random_order),
        cmocka_unit_test(thousands_for_a_moment),
        cmocka_unit_test(hundreds_again_and_again),
        cmocka_unit_test(in_the_order_of_their_times),
        cmocka_unit_test(sleeps_of_the_same_length_keep_their_order),
        cmocka_unit_test(an_earlier_one_interrupts_a_rest),
        cmocka_unit_test(beside_a_busy_one),
        cmocka_unit_test(a_shutdown_waits_for_sleepers),
        cmocka_unit_test(under_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
