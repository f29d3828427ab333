/* SPDX-License-Identifier: MIT
 *
 * Tests of runtime.h: runtimes made, used, shut down in every way and freed; what their
 * threads are called and where they run; the environment; what is left afterwards (nothing);
 * fork at several moments; the default runtime's second life.
 *
 * ctest: workers
 * ctest: timeout 240
 * ctest: serial
 */
#include "support.h"

SUPPORT_NO_HANDOVERS

static void *nothing(void *arg)
{
    return arg;
}

static void *count(void *arg)
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

static void *loop_until_cancelled(void *arg)
{
    struct gate *gate = arg;
    atomic_store(&gate->inside, 1);
    while (routine_check() == 0)
        routine_yield();
    return arg;
}

static void *tree(void *arg)
{
    const uintptr_t depth = (uintptr_t)arg;
    void *a = NULL, *b = NULL;
    if (depth == 0)
        return (void *)(uintptr_t)1;
    routine_t ha = go(tree, (void *)(depth - 1)), hb = go(tree, (void *)(depth - 1));
    CHECK_EQ(routine_join(ha, &a), 0);
    CHECK_EQ(routine_join(hb, &b), 0);
    return (void *)((uintptr_t)a + (uintptr_t)b);
}

static void check_that_it_works(routine_runtime_t *runtime)
{
    void *result = NULL;
    CHECK_EQ(routine_runtime_run(runtime, tree, (void *)(uintptr_t)6, &result), 0);
    CHECK_EQ((uintptr_t)result, 64);
}

/* ---- making ---- */

TEST_EVERYWHERE(made_used_shut_down_freed)
{
    static const size_t workers[] = {1, 2, 3, 8};
    for (size_t i = 0; i < COUNT_OF(workers); i++) {
        routine_runtime_t *runtime = support_runtime(workers[i]);
        CHECK_EQ(routine_runtime_workers(runtime), workers[i]);
        check_that_it_works(runtime);
        check_that_it_works(runtime);
        support_runtime_end(runtime);
    }
}

TEST_EVERYWHERE(shut_down_without_ever_being_used)
{
    for (int i = 0; i < 20; i++)
        support_runtime_end(support_runtime(1 + (size_t)i % 4));
}

TEST(defaults)
{
    routine_runtime_t *null = NULL, *zero = NULL;
    const routine_runtime_config_t config = {0};
    CHECK_EQ(routine_runtime_new(&null, NULL), 0);
    CHECK_EQ(routine_runtime_new(&zero, &config), 0);
    CHECK_EQ(routine_runtime_workers(null), routine_runtime_workers(zero));
    CHECK_EQ(routine_runtime_workers(null), routine_runtime_workers(routine_runtime_default()));
    const char *workers = getenv("ROUTINES_WORKERS");
    if (workers != NULL)
        CHECK_EQ(routine_runtime_workers(null), atoi(workers));
    support_runtime_end(null);
    support_runtime_end(zero);
    CHECK_EQ(routine_runtime_workers(NULL), 0);
    CHECK(routine_runtime_default() == routine_runtime_default());
}

TEST_EVERYWHERE(what_cannot_be_made)
{
    routine_runtime_t *runtime = (routine_runtime_t *)&runtime, *const untouched = runtime;
    const int no_cpu[] = {0, 1 << 20}, negative[] = {-1};
    CHECK_EQ(routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = 1025}), -EINVAL);
    CHECK_EQ(routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = SIZE_MAX}), -EINVAL);
    CHECK_EQ(routine_runtime_new(
                 &runtime, &(routine_runtime_config_t){.workers = 1, .stack_size = ROUTINE_STACK_MAX + 1}),
             -EINVAL);
    CHECK_EQ(routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = 1, .stack_size = SIZE_MAX}),
             -EINVAL);
    CHECK_EQ(routine_runtime_new(&runtime,
                                 &(routine_runtime_config_t){.workers = 2, .cpus = no_cpu, .cpu_count = 2}),
             -EINVAL);
    CHECK_EQ(routine_runtime_new(&runtime,
                                 &(routine_runtime_config_t){.workers = 1, .cpus = negative, .cpu_count = 1}),
             -EINVAL);
    CHECK(runtime == untouched);
    CHECK_EQ(routine_runtime_new(NULL, NULL), -EINVAL);
}

TEST(as_many_workers_as_1024)
{
    const size_t workers = SUPPORT_TSAN ? 64 : ROUTINE_WORKERS_MAX;
    routine_runtime_t *runtime = NULL;
    const int rc = routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = workers});
    CHECK_EQ(rc, 0);
    if (rc != 0)
        return;
    CHECK(routine_runtime_workers(runtime) <= workers);
    CHECK(routine_runtime_workers(runtime) >= 1);
    for (int i = 0; i < 10; i++)
        check_that_it_works(runtime);
    support_runtime_end(runtime);
}

/* ---- where and who ---- */

static void *current(void *arg)
{
    *(routine_runtime_t **)arg = routine_runtime_current();
    return NULL;
}

TEST_EVERYWHERE(many_runtimes_at_once)
{
    enum { N = 6 };
    routine_runtime_t *runtimes[N], *seen[N];
    routine_runtime_t *const mine = routine_runtime_current();
    struct gate gates[N];
    routine_t h[N], waiting[N];
    for (int i = 0; i < N; i++) {
        runtimes[i] = support_runtime(1 + (size_t)i % 3);
        memset(&gates[i], 0, sizeof gates[i]);
        waiting[i] = support_go_on(runtimes[i], wait_at_gate, &gates[i]);
    }
    for (int i = 0; i < N; i++)
        h[i] = support_go_on(runtimes[i], current, &seen[i]);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK(seen[i] == runtimes[i]);
        check_that_it_works(runtimes[i]);
    }
    CHECK(routine_runtime_current() == mine);
    for (int i = N - 1; i >= 0; i -= 2) {
        CHECK_EQ(routine_oneshot_send(&gates[i].open, NULL), 0);
        support_runtime_end(runtimes[i]);
        CHECK_EQ(routine_join(waiting[i], NULL), 0);
    }
    for (int i = 0; i < N; i += 2) {
        check_that_it_works(runtimes[i]);
        CHECK_EQ(routine_oneshot_send(&gates[i].open, NULL), 0);
        CHECK_EQ(routine_join(waiting[i], NULL), 0);
        support_runtime_end(runtimes[i]);
    }
}

/* A routine of one runtime joins those of another, and is joined; R14: never in place. */
struct across {
    routine_runtime_t *other, *seen;
};

static void *joins_in_the_other(void *arg)
{
    struct across *a = arg;
    routine_runtime_t *const mine = routine_runtime_current();
    CHECK(mine != a->other);
    for (int i = 0; i < 200; i++) {
        a->seen = NULL;
        routine_t h = support_go_on(a->other, current, &a->seen);
        if (i % 2)
            routine_yield();
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK(a->seen == a->other);
        CHECK(routine_runtime_current() == mine);
    }
    return NULL;
}

TEST(joins_between_runtimes)
{
    routine_runtime_t *a = support_runtime(1), *b = support_runtime(2);
    struct across to_a = {a, NULL}, to_b = {b, NULL}, from_default = {a, NULL};
    routine_t h1 = support_go_on(a, joins_in_the_other, &to_b);
    routine_t h2 = support_go_on(b, joins_in_the_other, &to_a);
    routine_t h3 = go(joins_in_the_other, &from_default);
    CHECK_EQ(routine_join(h1, NULL), 0);
    CHECK_EQ(routine_join(h2, NULL), 0);
    CHECK_EQ(routine_join(h3, NULL), 0);
    support_runtime_end(a);
    support_runtime_end(b);
}

static void *affinity(void *arg)
{
    CPU_ZERO((cpu_set_t *)arg);
    CHECK_EQ(sched_getaffinity(0, sizeof(cpu_set_t), arg), 0);
    return NULL;
}

TEST(the_cpus_given_are_kept_to)
{
    cpu_set_t allowed, seen;
    int cpus[CPU_SETSIZE];
    size_t n = 0;
    CHECK_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &allowed))
            cpus[n++] = cpu;
    const int last = cpus[n - 1];
    routine_runtime_t *runtime = NULL;
    CHECK_EQ(routine_runtime_new(&runtime,
                                 &(routine_runtime_config_t){.workers = 3, .cpus = &last, .cpu_count = 1}),
             0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_runtime_run(runtime, affinity, &seen, NULL), 0);
        CHECK_EQ(CPU_COUNT(&seen), 1);
        CHECK(CPU_ISSET((size_t)last, &seen));
    }
    support_runtime_end(runtime);

    /* several: each thread has one of them */
    CHECK_EQ(routine_runtime_new(&runtime,
                                 &(routine_runtime_config_t){.workers = 4, .cpus = cpus, .cpu_count = n}),
             0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_runtime_run(runtime, affinity, &seen, NULL), 0);
        CHECK_EQ(CPU_COUNT(&seen), 1);
        CPU_AND(&seen, &seen, &allowed);
        CHECK_EQ(CPU_COUNT(&seen), 1);
    }
    support_runtime_end(runtime);

    /* none: wherever the creating thread may */
    runtime = support_runtime(2);
    CHECK_EQ(routine_runtime_run(runtime, affinity, &seen, NULL), 0);
    CHECK(CPU_EQUAL(&seen, &allowed));
    support_runtime_end(runtime);
}

TEST(threads_bear_the_name)
{
    char prefix[] = "crew";
    routine_runtime_t *runtime = NULL;
    CHECK_EQ(support_threads_named("crew"), 0);
    CHECK_EQ(routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = 3, .name = prefix}), 0);
    memset(prefix, 'x', 4);
    check_that_it_works(runtime);
    CHECK(support_threads_named("crew") >= 3);
    support_runtime_end(runtime);
    for (int i = 0; i < 10000 && support_threads_named("crew") > 0; i++)
        usleep(1000); /* the kernel lists them for a moment longer */
    CHECK_EQ(support_threads_named("crew"), 0);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    CHECK(support_threads_named("routines") >= (long)routine_runtime_workers(routine_runtime_default()));
    CHECK_EQ(routine_runtime_new(
                 &runtime,
                 &(routine_runtime_config_t){.workers = 1, .name = "a name longer than a thread's can be"}),
             0);
    CHECK(support_threads_named("a name") >= 1);
    support_runtime_end(runtime);
}

/* ---- shutting down ---- */

TEST_EVERYWHERE(the_return_codes)
{
    routine_runtime_t *runtime = support_runtime(2);
    CHECK_EQ(routine_runtime_shutdown(NULL, ROUTINE_SHUTDOWN_WAIT, 0), -EINVAL);
    CHECK_EQ(routine_runtime_shutdown(runtime, 2, 0), -EINVAL);
    CHECK_EQ(routine_runtime_shutdown(runtime, -1, 0), -EINVAL);
    CHECK_EQ(routine_runtime_free(NULL), -EINVAL);
    CHECK_EQ(routine_runtime_free(runtime), -EBUSY);
    check_that_it_works(runtime);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), -EALREADY);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, 0), -EALREADY);
    for (int i = 0; i < 3; i++) {
        routine_t h = support_go_on(runtime, nothing, NULL);
        CHECK(h.block == NULL);
        CHECK_EQ(h.id, ECANCELED);
        CHECK_EQ(routine_join(h, NULL), -ECANCELED);
    }
    CHECK_EQ(routine_runtime_run(runtime, nothing, NULL, NULL), -ECANCELED);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

TEST_EVERYWHERE(shutdown_waits_for_what_runs)
{
    for (int i = 0; i < 10; i++) {
        routine_runtime_t *runtime = support_runtime(2);
        _Atomic int done = 0;
        struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
        routine_t h[50], waiting = support_go_on(runtime, wait_at_gate, &gate);
        for (int k = 0; k < 50; k++)
            h[k] = support_go_on(runtime, count, (void *)&done);
        CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(atomic_load(&done), 50);
        CHECK(routine_is_finished(waiting));
        /* R13: handles stay good, after the shutdown and after the end of the runtime. */
        for (int k = 0; k < 25; k++)
            CHECK_EQ(routine_join(h[k], NULL), 0);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        for (int k = 25; k < 49; k++)
            CHECK_EQ(routine_join(h[k], NULL), 0);
        CHECK_EQ(routine_detach(h[49]), 0);
        void *result = NULL;
        CHECK_EQ(routine_join(waiting, &result), 0);
        CHECK(result == &gate);
        CHECK_EQ(routine_join(h[0], NULL), -ESRCH);
    }
}

TEST_EVERYWHERE(shutdown_times_out_and_everything_goes_on)
{
    routine_runtime_t *runtime = support_runtime(2);
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t waiting = support_go_on(runtime, wait_at_gate, &gate);
    static const int64_t timeouts[] = {0, -1, INT64_MIN, 1, ROUTINE_MS, 20 * ROUTINE_MS};
    for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
        const int64_t begin = routine_now();
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, timeouts[i]), -ETIMEDOUT);
        CHECK(timeouts[i] < 0 || routine_now() - begin >= timeouts[i]);
        check_that_it_works(runtime);
        CHECK_EQ(routine_runtime_free(runtime), -EBUSY);
    }
    CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
    CHECK_EQ(routine_join(waiting, NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

/* Joined means over: there is nothing left to wait for. */
TEST_EVERYWHERE(shutdown_at_once_when_all_were_joined)
{
    for (int i = 0; i < 50; i++) {
        routine_runtime_t *runtime = support_runtime(1 + (size_t)i % 2);
        check_that_it_works(runtime);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, 0), 0);
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

TEST_EVERYWHERE(shutdown_cancels)
{
    enum { N = 20 };
    routine_runtime_t *runtime = support_runtime(2);
    struct gate gates[N], stubborn = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t h[N], stays = support_go_on(runtime, wait_at_gate, &stubborn);
    memset(gates, 0, sizeof gates);
    WAIT_UNTIL(atomic_load(&stubborn.inside));
    for (int i = 0; i < N; i++)
        h[i] = support_go_on(runtime, loop_until_cancelled, &gates[i]);
    for (int i = 0; i < N; i += 2)
        WAIT_UNTIL(atomic_load(&gates[i].inside));
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, 0), -ETIMEDOUT);
    CHECK_EQ(routine_oneshot_send(&stubborn.open, NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
    for (int i = 0; i < N; i++) {
        void *result = NULL;
        const int rc = routine_join(h[i], &result);
        if (rc == 0)
            CHECK(result == &gates[i]);
        else {
            CHECK_EQ(rc, -ECANCELED); /* had not begun */
            CHECK_EQ(atomic_load(&gates[i].inside), 0);
        }
    }
    CHECK_EQ(routine_join(stays, NULL), 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

struct stubborn {
    _Atomic int cancelled, go_on;
};

static void *obey_later(void *arg)
{
    struct stubborn *s = arg;
    while (routine_check() == 0)
        routine_yield();
    atomic_store(&s->cancelled, 1);
    WAIT_UNTIL(atomic_load(&s->go_on));
    CHECK_EQ(routine_check(), -ECANCELED); /* it stays so */
    return NULL;
}

TEST_EVERYWHERE(a_cancelling_shutdown_that_times_out)
{
    routine_runtime_t *runtime = support_runtime(1);
    struct stubborn s = {0, 0};
    routine_t h = support_go_on(runtime, obey_later, &s);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_MS), -ETIMEDOUT);
    CHECK_EQ(atomic_load(&s.cancelled), 0);
    int rc;
    do
        rc = routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, 0);
    while (rc == -ETIMEDOUT && !atomic_load(&s.cancelled) && !routine_is_finished(h));
    if (rc == 0) { /* it was cancelled before it began */
        CHECK_EQ(routine_join(h, NULL), -ECANCELED);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        return;
    }
    CHECK_EQ(rc, -ETIMEDOUT);
    check_that_it_works(runtime); /* new ones are not cancelled */
    atomic_store(&s.go_on, 1);
    rc = routine_join(h, NULL);
    CHECK(rc == 0 || rc == -ECANCELED);
    support_runtime_end(runtime);
}

/* What is started during a cancelling shutdown meets the same fate wherever it would have run. */
struct late_children {
    _Atomic int begun;
    _Atomic int ran;
    int in_place, own_stack;
};

static void *spawn_when_cancelled(void *arg)
{
    struct late_children *late = arg;
    atomic_store(&late->begun, 1);
    while (routine_check() == 0)
        sched_yield(); /* keeps the only worker: nobody starts what follows behind our back */
    late->in_place = routine_join(go(count, (void *)&late->ran), NULL);
    routine_t h = go(count, (void *)&late->ran);
    WAIT_UNTIL(routine_is_finished(h));
    late->own_stack = routine_join(h, NULL);
    return NULL;
}

TEST_EVERYWHERE(children_of_a_cancelling_shutdown)
{
    routine_runtime_t *one = support_runtime(1);
    struct late_children late = {0, 0, 1, 1};
    routine_t h = support_go_on(one, spawn_when_cancelled, &late);
    WAIT_UNTIL(atomic_load(&late.begun));
    CHECK_EQ(routine_runtime_shutdown(one, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK(late.in_place == 0 || late.in_place == -ECANCELED);
    CHECK_EQ(late.in_place, late.own_stack);
    CHECK_EQ(atomic_load(&late.ran), (late.in_place == 0) + (late.own_stack == 0));
    CHECK_EQ(routine_runtime_free(one), 0);
}

/* As every call that blocks, a shutdown blocks the calling routine, not its thread. */
struct helper {
    routine_runtime_t *other;
    struct gate gate;
};

static void *shut_the_other_down(void *arg)
{
    CHECK_EQ(routine_runtime_shutdown(((struct helper *)arg)->other, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER),
             0);
    return NULL;
}

static void *help_the_other_end(void *arg)
{
    struct helper *helper = arg;
    CHECK_EQ(routine_oneshot_send(&helper->gate.open, NULL), 0);
    return NULL;
}

static void *shut_down_and_help(void *arg)
{
    routine_t a = go(shut_the_other_down, arg);
    routine_yield(); /* on one worker: it waits now, and the next line needs the worker */
    routine_t b = go(help_the_other_end, arg);
    CHECK_EQ(routine_join(b, NULL), 0);
    CHECK_EQ(routine_join(a, NULL), 0);
    return NULL;
}

static int case_shutdown_in_a_routine(void)
{
    alarm(20);
    routine_runtime_t *one = support_runtime(1);
    struct helper helper = {.other = support_runtime(1)};
    CHECK_EQ(routine_detach(support_go_on(helper.other, wait_at_gate, &helper.gate)), 0);
    CHECK_EQ(routine_runtime_run(one, shut_down_and_help, &helper, NULL), 0);
    CHECK_EQ(routine_runtime_free(helper.other), 0);
    support_runtime_end(one);
    return 0;
}

TEST(a_shutdown_in_a_routine_leaves_the_worker_to_others)
{
    static struct support_result r;
    CASE_EXITS(&r, "shutdown_in_a_routine", NULL, 0);
}

static void *shut_down_own(void *arg)
{
    routine_runtime_t *const runtime = routine_runtime_current();
    for (int how = ROUTINE_SHUTDOWN_WAIT; how <= ROUTINE_SHUTDOWN_CANCEL; how++) {
        CHECK_EQ(routine_runtime_shutdown(runtime, how, 0), -EDEADLK);
        CHECK_EQ(routine_runtime_shutdown(runtime, how, ROUTINE_NEVER), -EDEADLK);
    }
    CHECK_EQ(routine_check(), 0);
    return arg;
}

TEST_EVERYWHERE(shutdown_from_inside_is_a_deadlock)
{
    routine_runtime_t *runtime = support_runtime(2);
    CHECK_EQ(routine_runtime_run(runtime, shut_down_own, NULL, NULL), 0);
    check_that_it_works(runtime);
    support_runtime_end(runtime);
}

struct two_shutdowns {
    routine_runtime_t *runtime;
    int rc;
};

static void *shut_down(void *arg)
{
    struct two_shutdowns *t = arg;
    do
        t->rc = routine_runtime_shutdown(t->runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER);
    while (t->rc == -EBUSY); /* the other was in the middle of a short one */
    return NULL;
}

TEST_EVERYWHERE(only_one_shutdown_at_a_time)
{
    struct two_shutdowns t = {support_runtime(2), 1};
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t waiting = support_go_on(t.runtime, wait_at_gate, &gate);
    pthread_t thread = support_thread(shut_down, &t);
    int rc;
    while ((rc = routine_runtime_shutdown(t.runtime, ROUTINE_SHUTDOWN_WAIT, 0)) == -ETIMEDOUT)
        routine_yield();
    CHECK_EQ(rc, -EBUSY);
    CHECK_EQ(routine_runtime_free(t.runtime), -EBUSY);
    CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
    support_thread_join(thread, NULL);
    CHECK_EQ(t.rc, 0);
    CHECK_EQ(routine_join(waiting, NULL), 0);
    CHECK_EQ(routine_runtime_free(t.runtime), 0);
}

/* While it waits, its routines start others, block and are woken. */
struct late {
    _Atomic int generations;
};

static void *next_generation(void *arg)
{
    struct late *late = arg;
    routine_yield();
    if (atomic_fetch_add(&late->generations, 1) < 200) {
        CHECK_EQ(go_detached(next_generation, late), 0);
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    }
    return NULL;
}

static void *shut_down_meanwhile(void *arg)
{
    CHECK_EQ(routine_runtime_shutdown(arg, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    return NULL;
}

TEST_EVERYWHERE(routines_start_others_during_a_shutdown)
{
    for (int i = 0; i < 10; i++) {
        routine_runtime_t *runtime = support_runtime(1 + (size_t)i % 3);
        struct late late = {0};
        CHECK_EQ(routine_detach(support_go_on(runtime, next_generation, &late)), 0);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(atomic_load(&late.generations), 201);
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

/* Plain threads and routines of another runtime block in joins while a shutdown waits for the same ones. */
static void *join_it(void *arg)
{
    CHECK_EQ(routine_join(*(routine_t *)arg, NULL), 0);
    return NULL;
}

TEST_EVERYWHERE(joins_during_a_shutdown)
{
    enum { N = 6 };
    routine_runtime_t *runtime = support_runtime(2);
    struct gate gates[N];
    routine_t h[N], joiners[N];
    pthread_t threads[N];
    memset(gates, 0, sizeof gates);
    for (int i = 0; i < N; i++) {
        h[i] = support_go_on(runtime, wait_at_gate, &gates[i]);
        if (i % 2)
            threads[i] = support_thread(join_it, &h[i]);
        else
            joiners[i] = support_go_on(routine_runtime_default(), join_it, &h[i]);
    }
    pthread_t shutting = support_thread(shut_down_meanwhile, runtime);
    for (int i = 0; i < N; i++) {
        routine_yield();
        CHECK_EQ(routine_oneshot_send(&gates[i].open, NULL), 0);
    }
    for (int i = 0; i < N; i++)
        if (i % 2)
            support_thread_join(threads[i], NULL);
        else
            CHECK_EQ(routine_join(joiners[i], NULL), 0);
    support_thread_join(shutting, NULL);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

struct spawner {
    routine_runtime_t *runtime;
    _Atomic int ran;
    int accepted;
    int refused;
};

static void *spawn_until_refused(void *arg)
{
    struct spawner *s = arg;
    for (long i = 0; i < support_scale(3000) && s->refused == 0; i++) {
        routine_t h = support_go_on(s->runtime, count, (void *)&s->ran);
        const int rc = routine_join(h, NULL);
        if (rc == 0) {
            s->accepted++;
        } else {
            CHECK_EQ(rc, -ECANCELED);
            CHECK(h.block == NULL);
            s->refused++;
        }
    }
    return NULL;
}

/* What was accepted runs to its end; what comes too late is told so; nothing hangs or is lost. */
TEST(spawns_against_shutdown)
{
    enum { N = 3 };
    for (long round = 0; round < support_scale(200); round++) {
        routine_runtime_t *runtime = support_runtime(1 + (size_t)round % 3);
        struct spawner spawners[N];
        pthread_t threads[N];
        for (int i = 0; i < N; i++) {
            memset(&spawners[i], 0, sizeof spawners[i]);
            spawners[i].runtime = runtime;
            threads[i] = support_thread(spawn_until_refused, &spawners[i]);
        }
        for (long i = 0; i < round % 10; i++)
            sched_yield();
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        for (int i = 0; i < N; i++) {
            support_thread_join(threads[i], NULL);
            CHECK_EQ(atomic_load(&spawners[i].ran), spawners[i].accepted);
        }
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

/* Wake-ups from outside against a shutdown that waits for the woken: sends race the last look. */
static void *open_gate(void *arg)
{
    CHECK_EQ(routine_oneshot_send(&((struct gate *)arg)->open, NULL), 0);
    return NULL;
}

TEST(wakeups_against_shutdown)
{
    for (long round = 0; round < support_scale(300); round++) {
        routine_runtime_t *runtime = support_runtime(1 + (size_t)round % 3);
        struct gate gates[4];
        routine_t h[4];
        pthread_t threads[2];
        memset(gates, 0, sizeof gates);
        for (int i = 0; i < 4; i++)
            h[i] = support_go_on(runtime, wait_at_gate, &gates[i]);
        for (int i = 0; i < 2; i++)
            threads[i] = support_thread(open_gate, &gates[i]);
        CHECK_EQ(go_detached(open_gate, &gates[2]), 0);
        open_gate(&gates[3]);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        for (int i = 0; i < 2; i++)
            support_thread_join(threads[i], NULL);
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

/* The last one of a runtime waits for a routine of another: whoever ends there and wakes it must not
 * touch the runtime once that may be over, shut down and freed. Nobody outside could wait for that. */
static void *end_elsewhere(void *arg)
{
    if (arg != NULL)
        routine_yield();
    return NULL;
}

static void *join_elsewhere(void *arg)
{
    routine_runtime_t *elsewhere = arg;
    CHECK_EQ(routine_join(support_go_on(elsewhere, end_elsewhere, NULL), NULL), 0);
    CHECK_EQ(routine_join(support_go_on(elsewhere, end_elsewhere, elsewhere), NULL), 0);
    return NULL;
}

TEST(woken_from_elsewhere_and_gone)
{
    routine_runtime_t *elsewhere = support_runtime(2);
    for (long round = 0; round < support_scale(1000); round++) {
        routine_runtime_t *runtime = support_runtime(1);
        routine_t h = support_go_on(runtime, join_elsewhere, elsewhere);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    support_runtime_end(elsewhere);
}

/* ---- what is left ---- */

static void *use_a_stack(void *arg)
{
    CHECK(support_use_stack(100 << 10) > 0);
    return wait_at_gate(arg);
}

static void one_life(int i)
{
    enum { N = 300 };
    static struct gate gates[N];
    routine_t h[N];
    routine_runtime_t *runtime = support_runtime(1 + (size_t)i % 4);
    memset(gates, 0, sizeof gates);
    for (int k = 0; k < N; k++) {
        routine_attr_t attr = {.runtime = runtime, .stack_size = k % 50 ? 0 : 1 << 20, .name = "one of many"};
        h[k] = go_with(&attr, use_a_stack, &gates[k]);
    }
    for (int k = 0; k < N; k++)
        CHECK_EQ(routine_oneshot_send(&gates[k].open, NULL), 0);
    if (i % 2)
        for (int k = 0; k < N; k++)
            CHECK_EQ(routine_join(h[k], NULL), 0);
    support_runtime_end(runtime);
    if (i % 2 == 0)
        for (int k = 0; k < N; k++)
            CHECK_EQ(routine_join(h[k], NULL), 0);
}

static long mappings(void)
{
    char line[1024];
    long lines = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        lines++;
    if (file != NULL)
        fclose(file);
    return lines;
}

/* No thread, no descriptor, no mapping of a runtime is left, as often as it is done. */
TEST(nothing_is_left)
{
    for (int i = 0; i < 10; i++)
        one_life(i);
    const long threads = support_threads_settled(), descriptors = support_entries("/proc/self/fd");
    const long maps = mappings(), resident = support_resident();
    for (int i = 0; i < (int)support_scale(100); i++)
        one_life(i);
    CHECK(support_threads_at_most(threads));
    CHECK_EQ(support_entries("/proc/self/fd"), descriptors);
    if (!support_slow()) {
        CHECK(mappings() <= maps + 10);
        CHECK(support_resident() - resident < 20 << 20);
    }
}

/* ---- the default runtime ---- */

TEST(the_default_runtime_has_a_second_life)
{
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
        routine_t late = go(nothing, NULL);
        routine_runtime_t *runtime = routine_runtime_default();
        CHECK(runtime != NULL);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        if (i % 2)
            CHECK_EQ(routine_runtime_free(runtime), 0);
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0); /* starts a new one */
        CHECK_EQ(routine_join(late, NULL), 0);
        routine_runtime_t *again = routine_runtime_default();
        CHECK(again != NULL);
        CHECK_EQ(routine_runtime_workers(again) > 0, true);
        check_that_it_works(again);
        if (i % 2 == 0) {
            CHECK(again != runtime);
            CHECK_EQ(routine_runtime_free(runtime), 0);
        }
    }
}

static void *first_go(void *arg)
{
    struct gate *gate = arg;
    WAIT_UNTIL(atomic_load(&gate->inside));
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    return routine_runtime_default();
}

/* The first go from several threads at once makes one runtime. */
static int case_first_go_of_several(void)
{
    enum { N = 8 };
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    pthread_t threads[N];
    for (int i = 0; i < N; i++)
        threads[i] = support_thread(first_go, &gate);
    atomic_store(&gate.inside, 1);
    for (int i = 0; i < N; i++) {
        void *runtime = NULL;
        support_thread_join(threads[i], &runtime);
        CHECK(runtime == routine_runtime_default());
    }
    routine_stats_t stats;
    CHECK_EQ(routine_stats(NULL, &stats), 0);
    CHECK_EQ(stats.total.spawned, N);
    return 0;
}

TEST(the_first_go_of_several_threads)
{
    static struct support_result r;
    for (int i = 0; i < (int)support_scale(20); i++)
        CASE_EXITS(&r, "first_go_of_several", NULL, 0);
}

/* ---- the environment ---- */

static void *use_all_but_little(void *arg)
{
    const size_t size = *(size_t *)arg;
    CHECK(support_use_stack(size - 4096) > 0);
    return NULL;
}

/* Exits with the number of workers; uses as much stack as the variable STACK says. */
static int case_report(void)
{
    const char *stack = getenv("STACK");
    routine_runtime_t *second = NULL;
    if (stack != NULL) {
        size_t size = (size_t)atol(stack);
        CHECK_EQ(routine_join(go(use_all_but_little, &size), NULL), 0);
    }
    const size_t workers = routine_runtime_workers(routine_runtime_default());
    CHECK_EQ(routine_runtime_new(&second, NULL), 0); /* takes the same */
    CHECK_EQ(routine_runtime_workers(second), workers);
    if (stack != NULL) {
        size_t size = (size_t)atol(stack);
        CHECK_EQ(routine_runtime_run(second, use_all_but_little, &size, NULL), 0);
    }
    routine_runtime_t *five = NULL;
    CHECK_EQ(routine_runtime_new(&five, &(routine_runtime_config_t){.workers = 5, .stack_size = 300 << 10}),
             0);
    CHECK_EQ(routine_runtime_workers(five), 5);
    size_t size = 300 << 10;
    CHECK_EQ(routine_runtime_run(five, use_all_but_little, &size, NULL), 0);
    printf("workers: %zu\n", workers);
    return 0;
}

/* What a case says about the workers; -1 if nothing. */
static long reported_workers(const struct support_result *r)
{
    const char *at = strstr(r->text, "workers: ");
    return at == NULL ? -1 : atol(at + 9);
}

static int occurrences(const char *text, const char *of)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, of)) != NULL; at += strlen(of))
        n++;
    return n;
}

TEST(the_environment_says_how_many_workers)
{
    static struct support_result r;
    static const char *const good[][2] = {
        {"ROUTINES_WORKERS=1", "1"}, {"ROUTINES_WORKERS=3", "3"}, {"ROUTINES_WORKERS=17", "17"}};
    static const char *const bad[] = {"ROUTINES_WORKERS=0",
                                      "ROUTINES_WORKERS=-2",
                                      "ROUTINES_WORKERS=1025",
                                      "ROUTINES_WORKERS=many",
                                      "ROUTINES_WORKERS=3x",
                                      "ROUTINES_WORKERS=0x",
                                      "ROUTINES_WORKERS=1.5",
                                      "ROUTINES_WORKERS=99999999999999999999999",
                                      "ROUTINES_WORKERS=18446744073709551617"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        const char *const env[] = {good[i][0], NULL};
        CASE_EXITS(&r, "report", env, 0);
        CHECK_EQ(reported_workers(&r), atol(good[i][1]));
        CASE_DOES_NOT_SAY(&r, "report", "ROUTINES_WORKERS");
    }
    static const char *const none[] = {"ROUTINES_WORKERS", NULL};
    CASE_EXITS(&r, "report", none, 0);
    const long usual = reported_workers(&r);
    CHECK(usual >= 1);
    CASE_DOES_NOT_SAY(&r, "report", "ROUTINES_");
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const char *const env[] = {bad[i], NULL};
        CASE_EXITS(&r, "report", env, 0);
        CHECK_EQ(reported_workers(&r), usual);
        CHECK_EQ(occurrences(r.text, "ROUTINES_WORKERS"), 1); /* once, with three runtimes */
    }
    static const char *const most[] = {"ROUTINES_WORKERS=1024", NULL};
    if (!support_slow()) {
        CASE_EXITS(&r, "report", most, 0);
        CHECK_EQ(reported_workers(&r), 1024);
    }
}

TEST(the_environment_says_how_large_stacks_are)
{
    static struct support_result r;
    static const char *const good[][2] = {
        {"ROUTINES_STACK_SIZE=4194304", "STACK=4194304"}, {"ROUTINES_STACK_SIZE=300K", "STACK=307200"},
        {"ROUTINES_STACK_SIZE=2M", "STACK=2097152"},      {"ROUTINES_STACK_SIZE=1G", "STACK=67108864"},
        {"ROUTINES_STACK_SIZE=1", "STACK=16384"},         {"ROUTINES_STACK_SIZE=64K", "STACK=65536"},
        {"ROUTINES_STACK_SIZE", "STACK=131072"}};
    static const char *const bad[] = {
        "ROUTINES_STACK_SIZE=big",         "ROUTINES_STACK_SIZE=-1",
        "ROUTINES_STACK_SIZE=64KB",        "ROUTINES_STACK_SIZE=12Q",
        "ROUTINES_STACK_SIZE=2G",          "ROUTINES_STACK_SIZE=K",
        "ROUTINES_STACK_SIZE=1T",          "ROUTINES_STACK_SIZE=99999999999999999999999",
        "ROUTINES_STACK_SIZE=17179869185G"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        const char *const env[] = {good[i][0], good[i][1], NULL};
        CASE_EXITS(&r, "report", env, 0);
        CASE_DOES_NOT_SAY(&r, "report", "ROUTINES_STACK_SIZE");
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const char *const env[] = {bad[i], "STACK=131072", NULL};
        CASE_EXITS(&r, "report", env, 0);
        CHECK_EQ(occurrences(r.text, "ROUTINES_STACK_SIZE"), 1);
    }
}

/* ---- fork ---- */

static int wait_for(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* In the child: everything works as in a fresh process. */
static void use_it_in_the_child(void)
{
    alarm(support_slow() ? 60 : 15); /* a child that hangs dies of it */
    void *result = NULL;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_join(go(nothing, &result), &result), 0);
        CHECK(result == &result);
    }
    routine_runtime_t *runtime = routine_runtime_default();
    check_that_it_works(runtime);
    routine_stats_t stats;
    CHECK_EQ(routine_stats(runtime, &stats), 0);
    CHECK_EQ(stats.total.spawned, 3 + 127);
    CHECK_EQ(stats.live, 0);
    runtime = support_runtime(2);
    check_that_it_works(runtime);
    support_runtime_end(runtime);
}

static bool fork_and_use(const char *what)
{
    const pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&support_failures, 0);
        use_it_in_the_child();
        _exit(atomic_load(&support_failures) != 0);
    }
    CHECK(pid > 0);
    const int status = wait_for(pid);
    const bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!good)
        support_fail(__FILE__, __LINE__, "the forked child (%s) ended with status %#x", what,
                     (unsigned)status);
    return good;
}

TEST(a_child_forked_by_a_plain_thread)
{
    for (int i = 0; i < 5; i++) {
        fork_and_use("quiet");
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    }
}

struct churn {
    _Atomic int stop;
    _Atomic long rounds;
};

static void *churn(void *arg)
{
    struct churn *c = arg;
    while (!atomic_load(&c->stop)) {
        routine_oneshot_t o = ROUTINE_ONESHOT_INITIALIZER;
        routine_t h = go(nothing, arg);
        CHECK_EQ(routine_oneshot_send(&o, NULL), 0);
        routine_yield();
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(routine_oneshot_recv(&o, NULL), 0);
        atomic_fetch_add(&c->rounds, 1);
    }
    return arg;
}

static void *churn_outside(void *arg)
{
    struct churn *c = arg;
    while (!atomic_load(&c->stop)) {
        routine_key_t key;
        CHECK_EQ(routine_join(go_with(&(routine_attr_t){.name = "n"}, nothing, arg), NULL), 0);
        CHECK_EQ(routine_key_create(&key, NULL), 0);
        CHECK_EQ(routine_key_delete(key), 0);
    }
    return arg;
}

/* fork at every moment: nothing that another thread held at that instant stays held in the child. */
TEST(forked_while_others_run)
{
    /* gcc 12's AddressSanitizer does not take its allocator's locks over a fork: a child that another
     * thread's malloc was cut off in hangs at its first own (seen in GetFromAllocator). Not ours to test,
     * then. */
    if (SUPPORT_ASAN)
        return;
    struct churn c = {0, 0};
    routine_t h[8];
    for (int i = 0; i < 8; i++)
        h[i] = go(churn, &c);
    pthread_t outside = support_thread(churn_outside, &c);
    routine_runtime_t *other = support_runtime(2);
    routine_t elsewhere = support_go_on(other, churn, &c);
    for (int i = 0; i < (int)support_scale(60); i++) {
        const long before = atomic_load(&c.rounds);
        if (!fork_and_use("busy"))
            break;
        WAIT_UNTIL(atomic_load(&c.rounds) > before); /* the parent goes on */
    }
    atomic_store(&c.stop, 1);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(routine_join(elsewhere, NULL), 0);
    support_thread_join(outside, NULL);
    support_runtime_end(other);
}

/* fork while another thread ends and starts the default runtime: R13, no lock of the library stays held. */
static void *restart_the_default(void *arg)
{
    struct churn *c = arg;
    while (!atomic_load(&c->stop)) {
        CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
        routine_runtime_t *runtime = routine_runtime_default();
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        atomic_fetch_add(&c->rounds, 1);
    }
    return arg;
}

TEST(forked_while_the_default_runtime_starts_and_ends)
{
    if (SUPPORT_ASAN) /* as in forked_while_others_run */
        return;
    struct churn c = {0, 0};
    pthread_t restarting = support_thread(restart_the_default, &c);
    for (int i = 0; i < (int)support_scale(200); i++) {
        if (!fork_and_use("restarting"))
            break;
        const long before = atomic_load(&c.rounds);
        if (i % 8 == 0)
            WAIT_UNTIL(atomic_load(&c.rounds) > before);
    }
    atomic_store(&c.stop, 1);
    support_thread_join(restarting, NULL);
}

/* What the child of a routine's fork does; it never comes back from here but for RETURN. */
enum { UNDERSCORE_EXIT, EXIT, RETURN, ROUTINE_EXIT, RETURN_INTO_JOIN, ENDS };

static int exit_handler_ran_in;

static void exit_handler(void)
{
    if (getpid() == exit_handler_ran_in)
        if (write(STDOUT_FILENO, "exit handler\n", 13) < 0)
            abort();
}

static void *fork_inside(void *arg)
{
    const int end = *(int *)arg;
    const routine_t self = routine_self();
    const pid_t pid = fork();
    if (pid == 0) {
        exit_handler_ran_in = getpid();
        CHECK(support_same(routine_self(), (routine_t){NULL, 0})); /* like a plain thread */
        CHECK(routine_runtime_current() == NULL);
        use_it_in_the_child();
        const int rc = atomic_load(&support_failures) ? 99 : 3;
        if (end == UNDERSCORE_EXIT)
            _exit(rc);
        if (end == EXIT)
            exit(rc);
        if (end == ROUTINE_EXIT)
            routine_exit(NULL);
        return NULL;
    }
    CHECK(pid > 0);
    const int status = wait_for(pid);
    CHECK(support_same(routine_self(), self));
    CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    if (end <= EXIT) {
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 3);
    } else {
        CHECK(WIFSIGNALED(status));
        CHECK_EQ(WTERMSIG(status), SIGABRT);
    }
    return NULL;
}

/* Forks in a child that (with one worker) its joiner runs in place. */
static void *fork_in_place(void *arg)
{
    CHECK_EQ(routine_join(go(fork_inside, arg), NULL), 0);
    return NULL;
}

static int case_fork_inside(void)
{
    atexit(exit_handler);
    const char *which = getenv("END");
    int end = which == NULL ? 0 : atoi(which);
    if (end == RETURN_INTO_JOIN)
        CHECK_EQ(routine_run(fork_in_place, &end, NULL), 0);
    else
        CHECK_EQ(routine_run(fork_inside, &end, NULL), 0);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0); /* the parent does not notice */
    return 5;
}

/* R13: in the child the forking stack alone is valid. */
TEST(forked_inside_a_routine)
{
    if (SUPPORT_ASAN) /* as in forked_while_others_run */
        return;
    static struct support_result r;
    for (int end = 0; end < ENDS; end++) {
        char variable[] = "END=0";
        const char *const env[] = {variable, NULL};
        variable[4] = (char)('0' + end);
        CASE_EXITS(&r, "fork_inside", env, 5);
        CASE_DOES_NOT_SAY(&r, "fork_inside", "check failed");
        CHECK_EQ(occurrences(r.text, "exit handler"), end == EXIT);
        if (end > EXIT) {
            CASE_SAYS(&r, "fork_inside", "routines: ");
            CASE_SAYS(&r, "fork_inside", "fork");
        }
    }
}

/* Children of children. */
static void fork_deeper(int depth)
{
    const pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&support_failures, 0);
        alarm(support_slow() ? 120 : 30);
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
        if (depth > 0)
            fork_deeper(depth - 1);
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
        _exit(atomic_load(&support_failures) != 0);
    }
    const int status = wait_for(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(children_of_children)
{
    fork_deeper(SUPPORT_ASAN ? 0 : 3); /* as in forked_while_others_run: these have threads of their own */
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"first_go_of_several", case_first_go_of_several},
        {"shutdown_in_a_routine", case_shutdown_in_a_routine},
        {"report", case_report},
        {"fork_inside", case_fork_inside},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_used_shut_down_freed),
        cmocka_unit_test(shut_down_without_ever_being_used),
        cmocka_unit_test(defaults),
        cmocka_unit_test(what_cannot_be_made),
        cmocka_unit_test(as_many_workers_as_1024),
        cmocka_unit_test(many_runtimes_at_once),
        cmocka_unit_test(joins_between_runtimes),
        cmocka_unit_test(the_cpus_given_are_kept_to),
        cmocka_unit_test(threads_bear_the_name),
        cmocka_unit_test(the_return_codes),
        cmocka_unit_test(shutdown_waits_for_what_runs),
        cmocka_unit_test(shutdown_times_out_and_everything_goes_on),
        cmocka_unit_test(shutdown_at_once_when_all_were_joined),
        cmocka_unit_test(shutdown_cancels),
        cmocka_unit_test(a_cancelling_shutdown_that_times_out),
        cmocka_unit_test(children_of_a_cancelling_shutdown),
        cmocka_unit_test(a_shutdown_in_a_routine_leaves_the_worker_to_others),
        cmocka_unit_test(shutdown_from_inside_is_a_deadlock),
        cmocka_unit_test(only_one_shutdown_at_a_time),
        cmocka_unit_test(routines_start_others_during_a_shutdown),
        cmocka_unit_test(joins_during_a_shutdown),
        cmocka_unit_test(spawns_against_shutdown),
        cmocka_unit_test(wakeups_against_shutdown),
        cmocka_unit_test(woken_from_elsewhere_and_gone),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(the_default_runtime_has_a_second_life),
        cmocka_unit_test(the_first_go_of_several_threads),
        cmocka_unit_test(the_environment_says_how_many_workers),
        cmocka_unit_test(the_environment_says_how_large_stacks_are),
        cmocka_unit_test(a_child_forked_by_a_plain_thread),
        cmocka_unit_test(forked_while_others_run),
        cmocka_unit_test(forked_while_the_default_runtime_starts_and_ends),
        cmocka_unit_test(forked_inside_a_routine),
        cmocka_unit_test(children_of_children),
    };
    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
