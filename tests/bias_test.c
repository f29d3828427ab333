/* SPDX-License-Identifier: MIT
 *
 * Tests of bias.h, the lock that is biased to one worker: who enters how, when a bias begins and ends, what a
 * seat remembers, and, by threads that each sit on a seat, that nobody is inside beside somebody else.
 */
#include "support.h"

#include "sched/bias.h"

static rt_seat *seat_new(void)
{
    rt_seat *seat = rt_seat_get();
    if (seat == NULL)
        abort();
    return seat;
}

/* Enters and leaves n times; returns how often it was by bias. */
static int visits(rt_bias *b, rt_seat *mine, int n)
{
    int by_bias = 0;
    for (int i = 0; i < n; i++) {
        rt_seat *how = rt_bias_enter(b, mine);
        CHECK(how == NULL || how == mine);
        by_bias += how != NULL;
        rt_bias_leave(b, how);
    }
    return by_bias;
}

TEST(a_zero_one_becomes_biased_to_who_uses_it)
{
    rt_seat *a = seat_new(), *b = seat_new();
    rt_bias bias = {.streak = 0};
    CHECK_EQ(visits(&bias, a, 100), 0);
    CHECK(visits(&bias, a, 1000) > 0 || !rt_membarrier_works);
    CHECK_EQ(visits(&bias, b, 100), 0); /* taken away */
    CHECK_EQ(visits(&bias, a, 100), 0);
    CHECK(visits(&bias, b, 1000) > 0 || !rt_membarrier_works);
    rt_seat_put(a);
    rt_seat_put(b);
}

TEST(plain_threads_have_none)
{
    rt_bias bias = {.streak = 0};
    CHECK_EQ(visits(&bias, &rt_no_seat, 5000), 0);
    rt_bias_init(&bias, &rt_no_seat);
    CHECK_EQ(visits(&bias, &rt_no_seat, 5000), 0);
}

TEST(the_lock_keeps_the_bias_of_its_own_seat)
{
    rt_seat *a = seat_new();
    rt_bias bias = {.streak = 0};
    visits(&bias, a, 2000);
    for (int i = 0; i < 10; i++) {
        rt_bias_lock(&bias, a);
        rt_bias_unlock(&bias);
        CHECK_EQ(visits(&bias, a, 10), rt_membarrier_works ? 10 : 0);
    }
    rt_seat_put(a);
}

/* New objects are biased at once, until those of this seat have turned out to be used by others. */
TEST(a_seat_learns_whether_its_objects_stay)
{
    rt_seat *a = seat_new(), *b = seat_new();
    const int yes = rt_membarrier_works ? 1 : 0;
    atomic_store(&a->trust, 0);
    for (int i = 0; i < 100; i++) {
        rt_bias stays;
        rt_bias_init(&stays, a);
        CHECK_EQ(visits(&stays, a, 1), yes);
        rt_bias_end(&stays, a);
    }
    for (int i = 0; i < 100; i++) {
        rt_bias goes;
        rt_bias_init(&goes, a);
        CHECK_EQ(visits(&goes, b, 1), 0);
        rt_bias_end(&goes, b);
    }
    rt_bias now;
    rt_bias_init(&now, a);
    CHECK_EQ(visits(&now, a, 1), 0);
    for (int i = 0; i < 1000; i++) { /* and back */
        rt_bias stays;
        rt_bias_init(&stays, a);
        visits(&stays, a, 1);
        rt_bias_end(&stays, a);
    }
    rt_bias_init(&now, a);
    CHECK_EQ(visits(&now, a, 1), yes);
    rt_seat_put(a);
    rt_seat_put(b);
}

/* ---- many ---- */

enum { THREADS = 4, OBJECTS = 3 };

struct object {
    RT_ALIGNED rt_bias bias;
    long count; /* plain: ThreadSanitizer sees who is inside at the same time */
    int inside;
};

struct storm {
    struct object objects[OBJECTS];
    long rounds;
    _Atomic int number;
};

static void *run_storm(void *arg)
{
    struct storm *s = arg;
    const int number = atomic_fetch_add(&s->number, 1);
    rt_seat *mine = number == THREADS - 1 ? &rt_no_seat : seat_new(); /* one is a plain thread */
    uint64_t random = (uint64_t)number + 1;
    struct object *o = &s->objects[0];
    for (long i = 0; i < s->rounds; i++) {
        if (support_random(&random) % 500 == 0) /* it stays with one for a while */
            o = &s->objects[support_random(&random) % OBJECTS];
        rt_seat *how = rt_bias_enter(&o->bias, mine);
        CHECK_EQ(o->inside++, 0);
        o->count++;
        if (support_random(&random) % 5000 == 0)
            sched_yield(); /* others find somebody inside who has lost its CPU */
        CHECK_EQ(--o->inside, 0);
        rt_bias_leave(&o->bias, how);
    }
    if (mine != &rt_no_seat)
        rt_seat_put(mine);
    return NULL;
}

static void storm(void)
{
    static struct storm s;
    pthread_t threads[THREADS];
    memset((void *)&s, 0, sizeof s);
    s.rounds = support_scale(400000);
    for (int i = 0; i < THREADS; i++)
        threads[i] = support_thread(run_storm, &s);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    long sum = 0;
    for (int i = 0; i < OBJECTS; i++)
        sum += s.objects[i].count;
    CHECK_EQ(sum, THREADS * s.rounds);
}

TEST(nobody_is_inside_beside_somebody_else)
{
    storm();
}

/* Where there is no membarrier everything goes by the lock. */
static int fallback(void)
{
    rt_membarrier_init();
    CHECK(!rt_membarrier_works);
    storm();
    return 0;
}

static const struct support_case cases[] = {{"fallback", fallback}};

TEST(nor_without_membarrier)
{
    static const char *const variables[] = {"ROUTINES_MEMBARRIER=0", NULL};
    static struct support_result result;
    CASE_EXITS(&result, "fallback", variables, 0);
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    rt_membarrier_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_one_becomes_biased_to_who_uses_it),
        cmocka_unit_test(plain_threads_have_none),
        cmocka_unit_test(the_lock_keeps_the_bias_of_its_own_seat),
        cmocka_unit_test(a_seat_learns_whether_its_objects_stay),
        cmocka_unit_test(nobody_is_inside_beside_somebody_else),
        cmocka_unit_test(nor_without_membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
