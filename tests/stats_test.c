/* SPDX-License-Identifier: MIT
 *
 * Tests of stats.h: counts that are exact when nothing moves, snapshots that agree with
 * themselves while everything does, situations staged on one worker, two runtimes that
 * never see each other's numbers, and what is printed.
 *
 * ctest: workers
 */
#include "support.h"

SUPPORT_NO_HANDOVERS

static void *nothing(void *arg)
{
    return arg;
}

struct gate {
    routine_oneshot_t open;
    _Atomic int inside;
};

static void *wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    atomic_store(&gate->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&gate->open, NULL), 0);
    return arg;
}

static routine_stats_t stats_of(routine_runtime_t *runtime)
{
    routine_stats_t s;
    memset(&s, 0xff, sizeof s);
    CHECK_EQ(routine_stats(runtime, &s), 0);
    return s;
}

/* What holds of every snapshot, whatever goes on. */
static void check_snapshot(const routine_stats_t *s)
{
    CHECK(s->total.spawned >= s->total.started);
    CHECK(s->total.started >= s->total.completed);
    CHECK(s->total.completed >= s->total.cancelled);
    CHECK(s->total.started >= s->total.in_place);
    CHECK_EQ(s->live, s->total.spawned - s->total.completed);
    CHECK_EQ(s->unstarted, s->total.spawned - s->total.started);
    CHECK(s->live >= s->unstarted);
    CHECK(s->running <= s->workers);
    CHECK(s->running <= s->live);
    CHECK(s->stacks_peak >= s->stacks_live);
}

/* What holds when all is over. */
static void check_quiet(const routine_stats_t *s)
{
    check_snapshot(s);
    CHECK_EQ(s->total.spawned, s->total.started);
    CHECK_EQ(s->total.spawned, s->total.completed);
    CHECK_EQ(s->total.parks, s->total.readies);
    CHECK_EQ(s->live, 0);
    CHECK_EQ(s->unstarted, 0);
    CHECK_EQ(s->parked, 0);
    CHECK_EQ(s->running, 0);
    CHECK_EQ(s->runnable, 0);
}

/* ---- exact when quiet ---- */

static void *tree(void *arg)
{
    const uintptr_t depth = (uintptr_t)arg;
    if (depth == 0)
        return NULL;
    routine_t a = go(tree, (void *)(depth - 1)), b = go(tree, (void *)(depth - 1));
    if (depth % 2)
        routine_yield();
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    return NULL;
}

TEST(the_counts_add_up)
{
    for (size_t workers = 1; workers <= 4; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        uint64_t spawned = 0;
        for (int i = 0; i < 20; i++) {
            CHECK_EQ(routine_runtime_run(runtime, tree, (void *)(uintptr_t)8, NULL), 0);
            spawned += 511;
            const routine_stats_t s = stats_of(runtime);
            CHECK_EQ(s.total.spawned, spawned);
            CHECK_EQ(s.total.completed, spawned); /* joined means over: no waiting here */
            CHECK_EQ(s.live, 0);
            CHECK_EQ(s.workers, workers);
            CHECK_EQ(s.total.cancelled, 0);
        }
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        const routine_stats_t s = stats_of(runtime); /* the statistics live until the runtime is freed */
        check_quiet(&s);
        CHECK_EQ(s.total.spawned, spawned);
        CHECK_EQ(s.stacks_live, 0);
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

enum { COUNTS = sizeof(routine_counts_t) / sizeof(uint64_t) };

TEST(workers_add_up_to_the_total)
{
    enum { OUTSIDE = 123 };
    routine_runtime_t *runtime = support_runtime(3);
    for (int i = 0; i < OUTSIDE; i++)
        CHECK_EQ(routine_runtime_run(runtime, tree, (void *)(uintptr_t)3, NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    const routine_stats_t s = stats_of(runtime);
    routine_counts_t sum;
    memset(&sum, 0, sizeof sum);
    for (size_t worker = 0; worker < 3; worker++) {
        routine_counts_t one;
        CHECK_EQ(routine_stats_worker(runtime, worker, &one), 0);
        for (size_t i = 0; i < COUNTS; i++)
            ((uint64_t *)&sum)[i] += ((uint64_t *)&one)[i];
    }
    check_quiet(&s);
    CHECK_EQ(s.total.spawned, OUTSIDE * 15);
    CHECK_EQ(s.total.spawned - sum.spawned, OUTSIDE); /* by this thread, which has no worker */
    CHECK_EQ(sum.started, s.total.started);
    CHECK_EQ(sum.completed, s.total.completed);
    CHECK_EQ(sum.in_place, s.total.in_place);
    CHECK_EQ(sum.yields, s.total.yields);
    CHECK_EQ(sum.parks, s.total.parks);
    for (size_t i = 0; i < COUNTS; i++)
        CHECK(((uint64_t *)&sum)[i] <= ((const uint64_t *)&s.total)[i]);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

static void *join_at_once(void *arg)
{
    const uintptr_t n = (uintptr_t)arg;
    for (uintptr_t i = 0; i < n; i++)
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    return NULL;
}

TEST(children_in_place_are_counted)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_runtime_run(one, join_at_once, (void *)(uintptr_t)1000, NULL), 0);
    routine_stats_t s = stats_of(one);
    CHECK_EQ(s.total.in_place, 1000);
    CHECK_EQ(s.total.started, 1001);
    CHECK_EQ(s.total.completed, 1001);
    support_runtime_end(one);
}

static void *cancel_some(void *arg)
{
    const uintptr_t n = (uintptr_t)arg;
    for (uintptr_t i = 0; i < n; i++) {
        routine_t h = go(nothing, NULL);
        CHECK_EQ(routine_cancel(h), 0);
        if (i % 2)
            routine_yield();
        CHECK_EQ(routine_join(h, NULL), -ECANCELED);
    }
    return NULL;
}

TEST(cancelled_ones_are_counted)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_runtime_run(one, cancel_some, (void *)(uintptr_t)500, NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(one, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    const routine_stats_t s = stats_of(one);
    check_quiet(&s);
    CHECK_EQ(s.total.cancelled, 500);
    CHECK_EQ(s.total.spawned, 501);
    CHECK_EQ(routine_runtime_free(one), 0);
}

static void *yield_some(void *arg)
{
    for (uintptr_t i = 0; i < (uintptr_t)arg; i++)
        routine_yield();
    return NULL;
}

static void *two_that_yield(void *arg)
{
    routine_t a = go(yield_some, arg), b = go(yield_some, arg);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    return NULL;
}

TEST(yields_are_counted)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_runtime_run(one, yield_some, (void *)(uintptr_t)100, NULL), 0);
    CHECK_EQ(stats_of(one).total.yields, 0); /* nobody else was there to run */
    CHECK_EQ(routine_runtime_run(one, two_that_yield, (void *)(uintptr_t)100, NULL), 0);
    const uint64_t yields = stats_of(one).total.yields;
    CHECK(yields >= 150 && yields <= 200);
    CHECK(stats_of(one).total.switches >= yields);
    support_runtime_end(one);
}

struct relay {
    routine_oneshot_t ping[100], pong[100];
};

static void *relay_back(void *arg)
{
    struct relay *r = arg;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_oneshot_recv(&r->ping[i], NULL), 0);
        CHECK_EQ(routine_oneshot_send(&r->pong[i], NULL), 0);
    }
    return NULL;
}

static void *relay_forth(void *arg)
{
    struct relay *r = arg;
    routine_t h = go(relay_back, r);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_oneshot_send(&r->ping[i], NULL), 0);
        CHECK_EQ(routine_oneshot_recv(&r->pong[i], NULL), 0);
    }
    CHECK_EQ(routine_join(h, NULL), 0);
    return NULL;
}

TEST(parks_are_counted)
{
    static struct relay r;
    memset(&r, 0, sizeof r);
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_runtime_run(one, relay_forth, &r, NULL), 0);
    const routine_stats_t s = stats_of(one);
    check_quiet(&s);
    CHECK(s.total.parks >= 100 && s.total.parks <= 202); /* the first side has to wait each time */
    support_runtime_end(one);
}

/* ---- staged on one worker ---- */

struct stage {
    struct gate gates[3];
    _Atomic int leave;
    routine_stats_t inside;
    _Atomic int set;
};

static void *yield_until_left(void *arg)
{
    struct stage *stage = arg;
    WAIT_UNTIL(atomic_load(&stage->leave));
    return NULL;
}

static void *director(void *arg)
{
    struct stage *stage = arg;
    routine_t waiting[3], unstarted[4], runnable;
    for (int i = 0; i < 3; i++)
        waiting[i] = go(wait_at_gate, &stage->gates[i]);
    runnable = go(yield_until_left, stage);
    do
        routine_yield();
    while (stats_of(NULL).parked < 3 || stats_of(NULL).unstarted > 0);
    for (int i = 0; i < 4; i++)
        unstarted[i] = go(nothing, NULL);
    stage->inside = stats_of(NULL);
    atomic_store(&stage->set, 1);
    while (!atomic_load(&stage->leave))
        sched_yield(); /* keeps the worker */
    for (int i = 0; i < 4; i++)
        CHECK_EQ(routine_join(unstarted[i], NULL), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_oneshot_send(&stage->gates[i].open, NULL), 0);
        CHECK_EQ(routine_join(waiting[i], NULL), 0);
    }
    CHECK_EQ(routine_join(runnable, NULL), 0);
    return NULL;
}

static void check_the_scene(const routine_stats_t *s)
{
    check_snapshot(s);
    CHECK_EQ(s->workers, 1);
    CHECK_EQ(s->live, 9);
    CHECK_EQ(s->unstarted, 4);
    CHECK_EQ(s->parked, 3);
    CHECK_EQ(s->running, 1);
    CHECK_EQ(s->runnable, 5); /* four that have not begun and one that yielded */
    CHECK_EQ(s->total.spawned, 9);
    CHECK_EQ(s->total.started, 5);
    CHECK_EQ(s->total.completed, 0);
    CHECK_EQ(s->stacks_live, 5); /* what has not begun has none */
    CHECK(s->stacks_peak >= 5);
}

TEST(a_scene_on_one_worker)
{
    static struct stage stage;
    routine_runtime_t *one = support_runtime(1);
    routine_t h = support_go_on(one, director, &stage);
    WAIT_UNTIL(atomic_load(&stage.set));
    const routine_stats_t outside = stats_of(one);
    check_the_scene(&stage.inside); /* NULL: the routine's own runtime */
    check_the_scene(&outside);
    atomic_store(&stage.leave, 1);
    CHECK_EQ(routine_join(h, NULL), 0);
    routine_stats_t s = stats_of(one);
    check_quiet(&s);
    CHECK_EQ(s.total.spawned, 9);
    CHECK(s.stacks_peak >= 5);
    support_runtime_end(one);
}

struct hog {
    _Atomic int running, stop;
};

static void *hog(void *arg)
{
    struct hog *h = arg;
    atomic_fetch_add(&h->running, 1);
    while (!atomic_load(&h->stop))
        sched_yield();
    return NULL;
}

TEST(as_many_run_as_there_are_workers)
{
    enum { WORKERS = 3, HOGS = 5 };
    routine_runtime_t *runtime = support_runtime(WORKERS);
    struct hog busy = {0, 0};
    routine_t h[HOGS];
    for (int i = 0; i < HOGS; i++)
        h[i] = support_go_on(runtime, hog, &busy);
    WAIT_UNTIL(atomic_load(&busy.running) == WORKERS);
    const routine_stats_t s = stats_of(runtime);
    check_snapshot(&s);
    CHECK_EQ(s.running, WORKERS);
    CHECK_EQ(s.live, HOGS);
    CHECK_EQ(s.unstarted, HOGS - WORKERS);
    CHECK_EQ(s.runnable, HOGS - WORKERS);
    CHECK_EQ(s.parked, 0);
    atomic_store(&busy.stop, 1);
    for (int i = 0; i < HOGS; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    support_runtime_end(runtime);
}

TEST(stacks_are_counted)
{
    enum { N = 1000 };
    static struct gate gates[N];
    static routine_t h[N];
    routine_runtime_t *runtime = support_runtime(2);
    memset(gates, 0, sizeof gates);
    for (int i = 0; i < N; i++)
        h[i] = support_go_on(runtime, wait_at_gate, &gates[i]);
    for (int i = 0; i < N; i++)
        WAIT_UNTIL(atomic_load(&gates[i].inside));
    WAIT_UNTIL(stats_of(runtime).parked == N);
    routine_stats_t s = stats_of(runtime);
    CHECK_EQ(s.stacks_live, N);
    CHECK(s.stacks_peak >= N);
    CHECK_EQ(s.live, N);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_oneshot_send(&gates[i].open, NULL), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    WAIT_UNTIL(stats_of(runtime).stacks_live == 0); /* the last one leaves its stack after its result */
    s = stats_of(runtime);
    check_quiet(&s);
    CHECK(s.stacks_peak >= N);
    CHECK(s.stacks_cached <= s.stacks_peak);
    support_runtime_end(runtime);
}

static void *work_for_thieves(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
}

static void *spawn_and_spin(void *arg)
{
    enum { N = 200 };
    _Atomic int done = 0;
    routine_t h[N];
    (void)arg;
    for (int i = 0; i < N; i++)
        h[i] = go(work_for_thieves, (void *)&done);
    while (atomic_load(&done) < N)
        sched_yield(); /* keeps its worker: the others must come and take all */
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    return NULL;
}

TEST(steals_and_sleeps_are_counted)
{
    routine_runtime_t *runtime = support_runtime(2);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(routine_runtime_run(runtime, spawn_and_spin, NULL, NULL), 0);
    WAIT_UNTIL(stats_of(runtime).total.sleeps > 0); /* idle workers go to sleep */
    const routine_stats_t s = stats_of(runtime);
    check_quiet(&s);
    CHECK(s.total.steals_won > 0); /* in batches: there may be more than looks */
    CHECK(s.total.steals_tried > 0);
    const uint64_t wakeups = s.total.wakeups;
    do /* whoever finds them asleep wakes one */
        CHECK_EQ(routine_runtime_run(runtime, nothing, NULL, NULL), 0);
    while (stats_of(runtime).total.wakeups <= wakeups);
    support_runtime_end(runtime);
}

/* ---- apart ---- */

TEST(two_runtimes_never_see_each_others_numbers)
{
    routine_runtime_t *a = support_runtime(2), *b = support_runtime(2);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    const routine_stats_t before = stats_of(NULL);
    CHECK_EQ(routine_runtime_run(a, tree, (void *)(uintptr_t)7, NULL), 0);
    routine_stats_t s = stats_of(b);
    for (size_t i = 0; i < COUNTS; i++)
        if (&((const uint64_t *)&s.total)[i] != &s.total.sleeps &&
            &((const uint64_t *)&s.total)[i] != &s.total.wakeups)
            CHECK_EQ(((const uint64_t *)&s.total)[i], 0);
    CHECK_EQ(s.live, 0);
    CHECK_EQ(s.stacks_live, 0);
    CHECK_EQ(routine_runtime_run(b, tree, (void *)(uintptr_t)5, NULL), 0);
    CHECK_EQ(stats_of(a).total.spawned, 255);
    CHECK_EQ(stats_of(b).total.spawned, 63);
    CHECK_EQ(stats_of(NULL).total.spawned, before.total.spawned);
    CHECK_EQ(stats_of(NULL).total.completed, before.total.completed);
    CHECK_EQ(stats_of(routine_runtime_default()).total.spawned, before.total.spawned);
    support_runtime_end(a);
    support_runtime_end(b);
}

/* A routine that spawns into another runtime does so as an outsider. */
static void *spawn_there(void *arg)
{
    for (int i = 0; i < 50; i++)
        CHECK_EQ(routine_join(support_go_on(arg, nothing, NULL), NULL), 0);
    return NULL;
}

TEST(spawned_elsewhere_is_counted_there)
{
    routine_runtime_t *here = support_runtime(1), *there = support_runtime(1);
    CHECK_EQ(routine_runtime_run(here, spawn_there, there, NULL), 0);
    CHECK_EQ(stats_of(here).total.spawned, 1);
    CHECK_EQ(stats_of(there).total.spawned, 50);
    CHECK_EQ(stats_of(there).total.completed, 50);
    CHECK_EQ(stats_of(there).total.in_place, 0); /* R14: never on a stack of another runtime */
    support_runtime_end(here);
    support_runtime_end(there);
}

/* ---- under load ---- */

static void *churn(void *arg)
{
    _Atomic int *stop = arg;
    while (!atomic_load(stop)) {
        routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
        routine_t a = go(nothing, NULL), b = go(tree, (void *)(uintptr_t)2), c = go(nothing, NULL);
        CHECK_EQ(routine_cancel(c), 0);
        CHECK_EQ(routine_oneshot_send(&o, NULL), 0);
        routine_yield();
        CHECK_EQ(routine_join(a, NULL), 0);
        CHECK_EQ(routine_join(b, NULL), 0);
        const int rc = routine_join(c, NULL);
        CHECK(rc == 0 || rc == -ECANCELED);
        CHECK_EQ(routine_oneshot_recv(&o, NULL), 0);
    }
    return NULL;
}

/* R13: all completed before all spawned; so no snapshot shows more ended than begun. */
TEST(snapshots_agree_with_themselves)
{
    enum { N = 6 };
    routine_runtime_t *runtime = support_runtime(3);
    _Atomic int stop = 0;
    routine_t h[N];
    for (int i = 0; i < N; i++)
        h[i] = support_go_on(runtime, churn, (void *)&stop);
    routine_stats_t last = stats_of(runtime);
    for (long i = 0; i < support_scale(100000); i++) {
        const routine_stats_t s = stats_of(runtime);
        check_snapshot(&s);
        CHECK_EQ(s.workers, 3);
        CHECK(s.live >= 1);
        for (size_t k = 0; k < COUNTS; k++)
            CHECK(((const uint64_t *)&s.total)[k] >= ((const uint64_t *)&last.total)[k]);
        CHECK(s.stacks_peak >= last.stacks_peak);
        last = s;
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    const routine_stats_t s = stats_of(runtime);
    check_quiet(&s);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

/* ---- printing ---- */

static void *print_own(void *arg)
{
    routine_stats_print(arg);
    return NULL;
}

TEST(the_table_has_the_numbers)
{
    routine_runtime_t *one = support_runtime(1);
    char *text = NULL, *own = NULL, *of_default = NULL;
    size_t size = 0, own_size = 0, default_size = 0;
    CHECK_EQ(routine_runtime_run(one, join_at_once, (void *)(uintptr_t)54320, NULL), 0);
    FILE *stream = open_memstream(&text, &size);
    routine_runtime_stats_print(one, stream);
    fclose(stream);
    CHECK(strstr(text, "54321") != NULL); /* spawned, started, completed */
    CHECK(strstr(text, "54320") != NULL); /* in place */
    CHECK(strstr(text, "spawned") != NULL);
    CHECK(strstr(text, "completed") != NULL);
    CHECK(size > 0 && text[size - 1] == '\n');

    stream = open_memstream(&own, &own_size);
    CHECK_EQ(routine_runtime_run(one, print_own, stream, NULL), 0);
    fclose(stream);
    CHECK(strstr(own, "54322") != NULL); /* the caller's runtime: itself included */

    stream = open_memstream(&of_default, &default_size);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    routine_stats_print(stream);
    fclose(stream);
    CHECK(default_size > 0);
    CHECK(strstr(of_default, "5432") == NULL);
    free(text);
    free(own);
    free(of_default);
    support_runtime_end(one);
}

/* ---- errors ---- */

TEST_EVERYWHERE(errors)
{
    routine_runtime_t *runtime = support_runtime(2);
    routine_counts_t counts;
    routine_stats_t stats;
    CHECK_EQ(routine_stats(runtime, NULL), -EINVAL);
    CHECK_EQ(routine_stats_worker(runtime, 0, NULL), -EINVAL);
    CHECK_EQ(routine_stats_worker(runtime, 1, &counts), 0);
    CHECK_EQ(routine_stats_worker(runtime, 2, &counts), -EINVAL);
    CHECK_EQ(routine_stats_worker(runtime, SIZE_MAX, &counts), -EINVAL);
    CHECK_EQ(routine_stats(NULL, &stats), 0);
    support_runtime_end(runtime);
}

static int case_before_the_first_go(void)
{
    routine_stats_t stats;
    routine_counts_t counts;
    CHECK_EQ(routine_stats(NULL, &stats), -ESRCH); /* asking does not start one */
    CHECK_EQ(routine_stats_worker(NULL, 0, &counts), -ESRCH);
    CHECK_EQ(support_threads_named("routines"), 0);
    routine_stats_print(stdout); /* prints something or nothing, and comes back */
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    CHECK_EQ(routine_stats(NULL, &stats), 0);
    CHECK_EQ(stats.total.spawned, 1);
    CHECK_EQ(stats.workers, routine_runtime_workers(routine_runtime_default()));
    return 0;
}

TEST(before_the_first_go)
{
    static struct support_result r;
    CASE_EXITS(&r, "before_the_first_go", NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {{"before_the_first_go", case_before_the_first_go}};
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counts_add_up),
        cmocka_unit_test(workers_add_up_to_the_total),
        cmocka_unit_test(children_in_place_are_counted),
        cmocka_unit_test(cancelled_ones_are_counted),
        cmocka_unit_test(yields_are_counted),
        cmocka_unit_test(parks_are_counted),
        cmocka_unit_test(a_scene_on_one_worker),
        cmocka_unit_test(as_many_run_as_there_are_workers),
        cmocka_unit_test(stacks_are_counted),
        cmocka_unit_test(steals_and_sleeps_are_counted),
        cmocka_unit_test(two_runtimes_never_see_each_others_numbers),
        cmocka_unit_test(spawned_elsewhere_is_counted_there),
        cmocka_unit_test(snapshots_agree_with_themselves),
        cmocka_unit_test(the_table_has_the_numbers),
        cmocka_unit_test(errors),
        cmocka_unit_test(before_the_first_go),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
