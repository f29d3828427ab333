/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_sleep and routine_sleep_until: never early, side by side, by routines and threads.
 *
 * ctest: workers
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

static void *dormitory(void *arg)
{
    const long n = support_scale(20000);
    routine_t *h = malloc((size_t)n * sizeof *h);
    _Atomic long awake = 0;
    uint64_t random = 11;
    if (h == NULL)
        abort();
    for (long i = 0; i < n; i++)
        h[i] = go_copy(sleeper, ((struct bed){(int64_t)(support_random(&random) % (200 * 1000000)), &awake}));
    for (long i = 0; i < n; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(atomic_load(&awake), n);
    free(h);
    return arg;
}

TEST(thousands_in_random_order)
{
    support_in_routine(dormitory, NULL);
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

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_early),
        cmocka_unit_test(what_is_over),
        cmocka_unit_test(thousands_in_random_order),
        cmocka_unit_test(beside_a_busy_one),
        cmocka_unit_test(a_shutdown_waits_for_sleepers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
