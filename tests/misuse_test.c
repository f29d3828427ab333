/* SPDX-License-Identifier: MIT
 *
 * Wrong use and want: each row of the table of join and detach, races for one handle,
 * functions that are null, stack sizes that are none, no memory for a stack, threads that
 * cannot be created, exit where it must not be, main that returns too early.
 * Each has an error or a sentence; nothing crashes, hangs or is lost.
 *
 * pthread_create is defined in this file, so that it can be told to fail.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

#include <dlfcn.h>

/* ---- pthread_create that fails on demand ---- */

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static _Atomic int creations; /* calls seen since the last fail_threads() */
static _Atomic int fail_from = INT32_MAX, fail_to = INT32_MAX;

/* Calls number first to last, from 1 on, give EAGAIN. */
static void fail_threads(int first, int last)
{
    atomic_store(&creations, 0);
    atomic_store(&fail_from, first);
    atomic_store(&fail_to, last);
}

static void fail_no_threads(void)
{
    fail_threads(INT32_MAX, INT32_MAX);
}

#if defined(__clang__) && (SUPPORT_TSAN || SUPPORT_ASAN)
/* Linked statically: the sanitizer's own stands behind this name. */
create_fn __interceptor_pthread_create;
#define REAL_CREATE __interceptor_pthread_create
#else
static create_fn *real_create(void)
{
    create_fn *found = NULL;
    void *symbol = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&found, &symbol, sizeof found);
    return found;
}
#define REAL_CREATE real_create()
#endif

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    const int n = atomic_fetch_add(&creations, 1) + 1;
    if (n >= atomic_load(&fail_from) && n <= atomic_load(&fail_to))
        return EAGAIN;
    return REAL_CREATE(thread, attr, fn, arg);
}

/* ---- the table ---- */

static void *nothing(void *arg)
{
    return arg;
}

static void *flag(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
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

TEST_EVERYWHERE(a_null_handle)
{
    const routine_t null = {NULL, 0};
    void *result = &result;
    CHECK_EQ(routine_join(null, &result), -ESRCH);
    CHECK_EQ(routine_try_join(null, &result), -ESRCH);
    CHECK_EQ(routine_detach(null), -ESRCH);
    CHECK_EQ(routine_cancel(null), -ESRCH);
    CHECK(routine_is_finished(null));
    CHECK_STR(routine_name(null), "");
    CHECK_EQ(routine_id(null), 0);
    CHECK(result == &result);
}

TEST_EVERYWHERE(join_twice)
{
    void *result = NULL;
    routine_t h = go(nothing, &h);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == &h);
    result = NULL;
    CHECK_EQ(routine_join(h, &result), -ESRCH);
    CHECK_EQ(routine_try_join(h, &result), -ESRCH);
    CHECK_EQ(routine_detach(h), -ESRCH);
    CHECK_EQ(routine_cancel(h), -ESRCH);
    CHECK(result == NULL);
}

TEST_EVERYWHERE(join_a_detached_one)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t h = go(wait_at_gate, &gate);
    CHECK_EQ(routine_detach(h), 0);
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
    CHECK_EQ(routine_try_join(h, NULL), -ESRCH);
    CHECK_EQ(routine_detach(h), -ESRCH);
    WAIT_UNTIL(atomic_load(&gate.inside));
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
    CHECK_EQ(routine_try_join(h, NULL), -ESRCH);
    CHECK_EQ(routine_detach(h), -ESRCH);
    CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
    CHECK_EQ(routine_detach(h), -ESRCH);
}

TEST_EVERYWHERE(detach_after_join)
{
    routine_t h = go(nothing, NULL);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_detach(h), -ESRCH);
}

static void *join_itself(void *arg)
{
    const routine_t self = routine_self();
    void *result = &result;
    (void)arg;
    CHECK_EQ(routine_join(self, &result), -EDEADLK);
    CHECK_EQ(routine_join(self, NULL), -EDEADLK);
    CHECK(result == &result);
    CHECK(!routine_is_finished(self));
    return arg;
}

/* The handle survives it: the join of the right one is still good. */
TEST_EVERYWHERE(join_itself_is_a_deadlock)
{
    void *result = NULL;
    routine_t h = go(join_itself, &h);
    WAIT_UNTIL(routine_is_finished(h)); /* nobody else joins meanwhile */
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == &h);
}

struct family {
    routine_t ancestors[5];
    int generation;
};

static void *join_ancestors(void *arg)
{
    struct family family = *(struct family *)arg;
    family.ancestors[family.generation] = routine_self();
    for (int i = 0; i <= family.generation; i++)
        CHECK_EQ(routine_join(family.ancestors[i], NULL), -EDEADLK);
    if (++family.generation < 5) {
        routine_t child = go(join_ancestors, &family);
        CHECK_EQ(routine_join(child, NULL), 0);
    }
    return NULL;
}

/* With one worker, children that are joined at once run in place: each of the ancestors waits for
 * the return of the one that would wait for it. */
TEST(join_an_ancestor_in_place_is_a_deadlock)
{
    routine_runtime_t *runtime = support_runtime(1);
    for (int i = 0; i < 100; i++) {
        struct family family = {.generation = 0};
        routine_t h = support_go_on(runtime, join_ancestors, &family);
        WAIT_UNTIL(routine_is_finished(h));
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    support_runtime_end(runtime);
}

TEST_EVERYWHERE(a_function_that_is_null)
{
    routine_t h[4];
    h[0] = go(NULL, NULL);
    h[1] = go_with(&(routine_attr_t){.name = "none"}, NULL, NULL);
    h[2] = go_copy(NULL, h[0]);
    h[3] = go_with(&(routine_attr_t){.stack_size = 1 << 20}, NULL, NULL);
    for (int i = 0; i < 4; i++) {
        CHECK(h[i].block == NULL);
        CHECK_EQ(h[i].id, EINVAL);
        CHECK_EQ(routine_id(h[i]), 0);
        CHECK(routine_is_finished(h[i]));
        CHECK_STR(routine_name(h[i]), "");
        CHECK_EQ(routine_try_join(h[i], NULL), -EINVAL);
        CHECK_EQ(routine_join(h[i], NULL), -EINVAL);
        CHECK_EQ(routine_join(h[i], NULL), -EINVAL);
        CHECK_EQ(routine_detach(h[i]), -EINVAL);
        CHECK(routine_cancel(h[i]) < 0);
    }
    CHECK_EQ(go_detached(NULL, NULL), -EINVAL);
    CHECK_EQ(routine_run(NULL, NULL, NULL), -EINVAL);
}

static void *use_most_of_16k(void *arg)
{
    CHECK(support_use_stack(12 << 10) > 0);
    return arg;
}

TEST_EVERYWHERE(a_stack_of_one_byte_is_raised_to_the_minimum)
{
    void *result = NULL;
    routine_t h = go_with(&(routine_attr_t){.stack_size = 1}, use_most_of_16k, &h);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == &h);
}

TEST_EVERYWHERE(a_stack_of_1_tib_is_refused)
{
    static const size_t sizes[] = {(size_t)1 << 40, ROUTINE_STACK_MAX + 1, SIZE_MAX, SIZE_MAX - 4095};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        routine_t h = go_with(&(routine_attr_t){.stack_size = sizes[i]}, nothing, NULL);
        CHECK(h.block == NULL);
        CHECK_EQ(routine_join(h, NULL), -EINVAL);
    }
    routine_t h = go_with(&(routine_attr_t){.stack_size = ROUTINE_STACK_MAX}, nothing, NULL);
    const int rc = routine_join(h, NULL); /* the largest, unless there is no room for it */
    CHECK(rc == 0 || rc == -ENOMEM);
}

/* ---- races for one handle ---- */

enum { JOIN, TRY_JOIN, DETACH, RACERS = 2 };

struct race {
    const int *ops; /* of the racers */
    void *(*child)(void *);
    long rounds;
    routine_t handle;
    struct support_turn turns[RACERS];
    _Atomic int arrived;
    _Atomic int runs; /* of children */
    int rc[RACERS];
};

struct racer {
    struct race *race;
    int me;
};

static void *race_yield(void *arg)
{
    routine_yield();
    return flag(arg);
}

static void *race_racer(void *arg)
{
    struct racer *racer = arg;
    struct race *race = racer->race;
    const int op = race->ops[racer->me];
    for (long round = 0; round < race->rounds; round++) {
        support_turn_wait(&race->turns[racer->me]);
        support_meet(&race->arrived, RACERS);
        int rc = -EAGAIN;
        if (op == JOIN)
            rc = routine_join(race->handle, NULL);
        else if (op == DETACH)
            rc = routine_detach(race->handle);
        else
            while ((rc = routine_try_join(race->handle, NULL)) == -EAGAIN)
                routine_yield();
        race->rc[racer->me] = rc;
        support_turn_done(&race->turns[racer->me]);
    }
    return NULL;
}

/* threads: how many of the racers are plain threads. */
static void run_race(const int *ops, int threads, void *(*child)(void *))
{
    struct race race = {.ops = ops, .child = child, .rounds = support_scale(1000)};
    struct racer racers[RACERS];
    routine_t routines[RACERS];
    pthread_t pthreads[RACERS];
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){&race, i};
        if (i < threads)
            pthreads[i] = support_thread(race_racer, &racers[i]);
        else
            routines[i] = go(race_racer, &racers[i]);
    }
    for (long round = 0; round < race.rounds; round++) {
        race.handle = go(child, (void *)&race.runs);
        if (round % 3 == 0)
            WAIT_UNTIL(routine_is_finished(race.handle));
        atomic_store(&race.arrived, 0);
        for (int i = 0; i < RACERS; i++)
            support_turn_begin(&race.turns[(i + round) % RACERS]);
        for (int i = 0; i < RACERS; i++)
            support_turn_await(&race.turns[i]);
        const bool first = race.rc[0] == 0, second = race.rc[1] == 0;
        CHECK(first != second);
        const int loser = race.rc[first ? 1 : 0];
        if (loser != -ESRCH && loser != -EBUSY)
            support_fail(__FILE__, __LINE__, "the loser of round %ld got %d", round, loser);
        CHECK_EQ(routine_join(race.handle, NULL), -ESRCH);
    }
    for (int i = 0; i < RACERS; i++)
        if (i < threads)
            support_thread_join(pthreads[i], NULL);
        else
            CHECK_EQ(routine_join(routines[i], NULL), 0);
    WAIT_UNTIL(atomic_load(&race.runs) == race.rounds); /* each ran, once */
}

struct race_from {
    const int *ops;
    int threads;
};

static void *race_from_routine(void *arg)
{
    const struct race_from *from = arg;
    run_race(from->ops, from->threads, flag);
    run_race(from->ops, from->threads, race_yield);
    return NULL;
}

/* R4, R14: of two that want the handle one gets it, the other an error of the table. */
static void race_everywhere(const int *ops)
{
    for (int threads = 0; threads <= RACERS; threads++) {
        struct race_from from = {ops, threads};
        run_race(ops, threads, flag);
        run_race(ops, threads, race_yield);
        support_in_routine(race_from_routine, &from); /* the handles come from a routine */
    }
}

TEST(two_joins_at_once)
{
    static const int ops[] = {JOIN, JOIN};
    race_everywhere(ops);
}

TEST(a_join_and_a_try_join_at_once)
{
    static const int ops[] = {TRY_JOIN, JOIN};
    race_everywhere(ops);
}

TEST(a_join_and_a_detach_at_once)
{
    static const int ops[] = {JOIN, DETACH};
    race_everywhere(ops);
}

TEST(two_detaches_at_once)
{
    static const int ops[] = {DETACH, DETACH};
    race_everywhere(ops);
}

static void *join_later(void *arg)
{
    CHECK_EQ(routine_join(*(routine_t *)arg, NULL), 0);
    return NULL;
}

/* While one waits, everybody else is told so. */
static void check_that_somebody_waits(bool thread)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t h = go(wait_at_gate, &gate), joiner = {NULL, 0};
    pthread_t pthread = 0;
    WAIT_UNTIL(atomic_load(&gate.inside));
    if (thread)
        pthread = support_thread(join_later, &h);
    else
        joiner = go(join_later, &h);
    int rc;
    while ((rc = routine_try_join(h, NULL)) == -EAGAIN)
        routine_yield(); /* until the joiner waits */
    CHECK_EQ(rc, -EBUSY);
    CHECK_EQ(routine_join(h, NULL), -EBUSY);
    CHECK_EQ(routine_detach(h), -EBUSY);
    CHECK(!routine_is_finished(h));
    CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
    if (thread)
        support_thread_join(pthread, NULL);
    else
        CHECK_EQ(routine_join(joiner, NULL), 0);
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
}

TEST_EVERYWHERE(somebody_else_waits)
{
    check_that_somebody_waits(false);
    check_that_somebody_waits(true);
}

/* ---- no memory ---- */

enum { HUNGRY = 20000 };

static struct gate hungry_gate[HUNGRY];
static routine_t hungry[HUNGRY];

static void *stand_and_join(void *arg)
{
    void *result = NULL;
    wait_at_gate(arg);
    CHECK_EQ(routine_join(go(nothing, arg), &result), 0);
    CHECK(result == arg);
    return NULL;
}

static int case_no_memory_for_stacks(void)
{
    struct rlimit before, tight;
    long size = 0;
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    routine_runtime_t *one = support_runtime(1);

    struct gate standing = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t stands = support_go_on(one, stand_and_join, &standing);
    WAIT_UNTIL(atomic_load(&standing.inside));

    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld", &size) == 1);
    if (file != NULL)
        fclose(file);
    getrlimit(RLIMIT_AS, &before);
    tight = before;
    tight.rlim_cur = (rlim_t)size * (rlim_t)sysconf(_SC_PAGESIZE) + (16 << 20);
    CHECK_EQ(setrlimit(RLIMIT_AS, &tight), 0);

    for (int i = 0; i < HUNGRY; i++)
        hungry[i] = go(wait_at_gate, &hungry_gate[i]);
    /* Those that got a stack wait; the others are over. Nobody is in between for ever. */
    int waiting = 0, refused = 0;
    for (int i = 0; i < HUNGRY; i++) {
        WAIT_UNTIL(atomic_load(&hungry_gate[i].inside) || routine_is_finished(hungry[i]));
        if (!atomic_load(&hungry_gate[i].inside)) {
            CHECK_EQ(routine_join(hungry[i], NULL), -ENOMEM);
            refused++;
        }
    }
    CHECK(refused > 0);
    /* The one that stands has a stack; a child of it, joined at once, needs none. */
    CHECK_EQ(routine_oneshot_send(&standing.open, NULL), 0);
    CHECK_EQ(routine_join(stands, NULL), 0);
    for (int i = 0; i < HUNGRY; i++)
        if (atomic_load(&hungry_gate[i].inside)) {
            CHECK_EQ(routine_oneshot_send(&hungry_gate[i].open, NULL), 0);
            CHECK_EQ(routine_join(hungry[i], NULL), 0);
            waiting++;
        }
    CHECK(waiting > 0);
    CHECK_EQ(waiting + refused, HUNGRY);
    CHECK_EQ(setrlimit(RLIMIT_AS, &before), 0);
    support_runtime_end(one);

    /* There is memory again: as if nothing had been. */
    for (int i = 0; i < 2000; i++) {
        memset(&hungry_gate[i], 0, sizeof hungry_gate[i]);
        hungry[i] = go(wait_at_gate, &hungry_gate[i]);
    }
    for (int i = 0; i < 2000; i++) {
        CHECK_EQ(routine_oneshot_send(&hungry_gate[i].open, NULL), 0);
        CHECK_EQ(routine_join(hungry[i], NULL), 0);
    }
    printf("%d waited, %d were refused\n", waiting, refused);
    return 0;
}

/* Nobody would learn that a detached one never ran: that is the end, with a sentence. */
static int case_no_memory_for_a_detached_one(void)
{
    struct rlimit tight;
    long size = 0;
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld", &size) == 1);
    if (file != NULL)
        fclose(file);
    getrlimit(RLIMIT_AS, &tight);
    tight.rlim_cur = (rlim_t)size * (rlim_t)sysconf(_SC_PAGESIZE) + (16 << 20);
    CHECK_EQ(setrlimit(RLIMIT_AS, &tight), 0);
    for (int i = 0; i < HUNGRY; i++) {
        const int rc = go_detached(wait_at_gate, &hungry_gate[i]);
        if (rc != 0) { /* not even a control block */
            CHECK_EQ(rc, -ENOMEM);
            break;
        }
    }
    pause(); /* the end comes from a worker */
    return 1;
}

TEST(no_memory_for_stacks)
{
    if (SUPPORT_ASAN || SUPPORT_TSAN)
        return; /* they need address space without end */
    static struct support_result r;
    CASE_EXITS(&r, "no_memory_for_stacks", NULL, 0);
    CASE_DIES(&r, "no_memory_for_a_detached_one", NULL, SIGABRT);
    CASE_SAYS(&r, "no_memory_for_a_detached_one", "no memory for the stack of a detached routine");
    CASE_SAYS(&r, "no_memory_for_a_detached_one", "misuse_test.c:");
}

/* ---- no threads ---- */

static int case_no_threads_at_all(void)
{
    routine_runtime_t *runtime = NULL;
    const long threads_before = support_entries("/proc/self/task");
    fail_threads(1, INT32_MAX);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), -EAGAIN);
    CHECK_EQ(go_detached(nothing, NULL), -EAGAIN);
    CHECK_EQ(routine_run(nothing, NULL, NULL), -EAGAIN);
    CHECK_EQ(routine_detach(go(nothing, NULL)), -EAGAIN);
    CHECK(routine_runtime_default() == NULL);
    CHECK_EQ(routine_runtime_new(&runtime, NULL), -EAGAIN);
    CHECK_EQ(routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = 3}), -EAGAIN);
    CHECK_EQ(support_entries("/proc/self/task"), threads_before);
    fail_no_threads();
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    CHECK(routine_runtime_default() != NULL);
    return 0;
}

TEST(no_threads_at_all)
{
    static struct support_result r;
    CASE_EXITS(&r, "no_threads_at_all", NULL, 0);
}

static void *spawn_some(void *arg)
{
    for (int i = 0; i < 100; i++)
        CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    return NULL;
}

static void works(routine_runtime_t *runtime)
{
    routine_t h[20];
    for (int i = 0; i < 20; i++)
        h[i] = support_go_on(runtime, spawn_some, NULL);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
}

TEST(some_threads_fail)
{
    works(routine_runtime_default());
    for (int first = 1; first <= 4; first++)
        for (int more = 0; more <= 1; more++) {
            routine_runtime_t *runtime = NULL;
            const long threads_before = support_entries("/proc/self/task");
            fail_threads(first, more ? INT32_MAX : first);
            const int rc = routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = 4});
            fail_no_threads();
            if (rc == -EAGAIN) { /* not one: only if the first failed */
                CHECK_EQ(first, 1);
                CHECK(support_threads_at_most(threads_before));
                continue;
            }
            CHECK_EQ(rc, 0);
            const size_t workers = routine_runtime_workers(runtime);
            CHECK(workers >= 1 && workers <= 3);
            if (more)
                CHECK_EQ(workers, first - 1);
            works(runtime);
            support_runtime_end(runtime);
            CHECK(support_threads_at_most(threads_before));
        }
}

static int case_second_thread_fails(void)
{
    fail_threads(2, INT32_MAX);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    fail_no_threads();
    CHECK_EQ(routine_runtime_workers(routine_runtime_default()), 1);
    works(routine_runtime_default());
    return 0;
}

TEST(the_default_runtime_does_with_fewer_threads)
{
    static struct support_result r;
    CASE_EXITS(&r, "second_thread_fails", NULL, 0);
    CASE_DOES_NOT_SAY(&r, "second_thread_fails", "check failed");
}

/* ---- ends ---- */

static int case_exit_on_a_plain_thread(void)
{
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    routine_exit(NULL);
}

static void *exit_on_thread(void *arg)
{
    routine_exit(arg);
}

static int case_exit_on_a_second_thread(void)
{
    support_thread_join(support_thread(exit_on_thread, NULL), NULL);
    return 0;
}

TEST(routine_exit_on_a_plain_thread_panics)
{
    static struct support_result r;
    CASE_DIES(&r, "exit_on_a_plain_thread", NULL, SIGABRT);
    CASE_SAYS(&r, "exit_on_a_plain_thread", "routines: ");
    CASE_SAYS(&r, "exit_on_a_plain_thread", "routine_exit");
    CASE_DIES(&r, "exit_on_a_second_thread", NULL, SIGABRT);
    CASE_SAYS(&r, "exit_on_a_second_thread", "routine_exit");
}

static struct gate end_gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
static _Atomic int end_flag;

static void *spin_for_ever(void *arg)
{
    atomic_store((_Atomic int *)arg, 1);
    for (;;)
        routine_yield();
    return NULL;
}

static void *churn_for_ever(void *arg)
{
    for (;;)
        CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    return NULL;
}

static void leave_running(void)
{
    CHECK_EQ(go_detached(wait_at_gate, &end_gate), 0);
    CHECK_EQ(go_detached(spin_for_ever, (void *)&end_flag), 0);
    CHECK_EQ(go_detached(churn_for_ever, NULL), 0);
    WAIT_UNTIL(atomic_load(&end_flag));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(go_detached(nothing, NULL), 0);
}

static int case_main_returns(void)
{
    leave_running();
    return 7;
}

static void *call_exit(void *arg)
{
    leave_running();
    exit((int)(uintptr_t)arg);
}

static int case_exit_in_a_routine(void)
{
    CHECK_EQ(routine_run(call_exit, (void *)(uintptr_t)9, NULL), 0);
    return 1;
}

TEST(main_returns_while_routines_run)
{
    static struct support_result r;
    for (long i = 0; i < support_scale(200) / 10; i++) {
        CASE_EXITS(&r, "main_returns", NULL, 7);
        CASE_EXITS(&r, "exit_in_a_routine", NULL, 9);
        CHECK_STR(r.text, "");
    }
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"no_memory_for_stacks", case_no_memory_for_stacks},
        {"no_memory_for_a_detached_one", case_no_memory_for_a_detached_one},
        {"no_threads_at_all", case_no_threads_at_all},
        {"second_thread_fails", case_second_thread_fails},
        {"exit_on_a_plain_thread", case_exit_on_a_plain_thread},
        {"exit_on_a_second_thread", case_exit_on_a_second_thread},
        {"main_returns", case_main_returns},
        {"exit_in_a_routine", case_exit_in_a_routine},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_null_handle),
        cmocka_unit_test(join_twice),
        cmocka_unit_test(join_a_detached_one),
        cmocka_unit_test(detach_after_join),
        cmocka_unit_test(join_itself_is_a_deadlock),
        cmocka_unit_test(join_an_ancestor_in_place_is_a_deadlock),
        cmocka_unit_test(a_function_that_is_null),
        cmocka_unit_test(a_stack_of_one_byte_is_raised_to_the_minimum),
        cmocka_unit_test(a_stack_of_1_tib_is_refused),
        cmocka_unit_test(two_joins_at_once),
        cmocka_unit_test(a_join_and_a_try_join_at_once),
        cmocka_unit_test(a_join_and_a_detach_at_once),
        cmocka_unit_test(two_detaches_at_once),
        cmocka_unit_test(somebody_else_waits),
        cmocka_unit_test(no_memory_for_stacks),
        cmocka_unit_test(no_threads_at_all),
        cmocka_unit_test(some_threads_fail),
        cmocka_unit_test(the_default_runtime_does_with_fewer_threads),
        cmocka_unit_test(routine_exit_on_a_plain_thread_panics),
        cmocka_unit_test(main_returns_while_routines_run),
    };
    return cmocka_run_group_tests_name("misuse", tests, NULL, NULL);
}
