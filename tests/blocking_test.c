/* SPDX-License-Identifier: MIT
 *
 * Tests of the pool for blocking code (blocking.h, src/sched/pool.{h,c}): what a function finds that runs
 * there; how the pool grows to its limit, and beyond when it would starve, and shrinks; the order of those
 * who queue; cancellations and limits, before and after the beginning; jobs that are left behind; plain
 * threads; several runtimes, shutdowns, forks; and no memory for threads.
 *
 * The library's monitor looks at the pool when somebody queues. Where a test wants it not to have come, it
 * looks whether it has, and is repeated; in others there is a lookout, who comes more often.
 *
 * pthread_create is defined in this file, so that it can be told to fail.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include <dlfcn.h>
#include <limits.h>
#include <sys/syscall.h>

#include "routines/blocking.h"
#include "routines/sync.h"
#include "sched/worker.h"

/* ---- pthread_create that fails on demand ---- */

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static _Atomic bool no_threads;
static _Atomic long refusals, creations;

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
    if (atomic_load(&no_threads)) {
        atomic_fetch_add(&refusals, 1);
        return EAGAIN;
    }
    atomic_fetch_add(&creations, 1);
    return REAL_CREATE(thread, attr, fn, arg);
}

/* ---- tools ---- */

static rt_pool *pool_of(routine_runtime_t *runtime)
{
    return &runtime->pool;
}

static size_t pool_threads(routine_runtime_t *runtime)
{
    routine_stats_t s;
    CHECK_EQ(routine_stats(runtime, &s), 0);
    return s.threads_pool;
}

static uint32_t queued(routine_runtime_t *runtime, int class)
{
    return atomic_load(&pool_of(runtime)->classes[class].queued);
}

static int gettid_here(void)
{
    return (int)syscall(SYS_gettid);
}

/* A routine of this runtime with one class of so many threads; config is that. */
static routine_runtime_t *runtime_with(size_t workers, size_t blocking)
{
    routine_runtime_t *runtime = NULL;
    const routine_runtime_config_t config = {
        .workers = workers, .blocking_threads = blocking, .name = "test"};
    if (routine_runtime_new(&runtime, &config) != 0)
        abort();
    return runtime;
}

/* The kernel lists a thread for a moment after it was joined. */
static void await_no_threads(void)
{
    while (support_threads_named("test") != 0)
        usleep(1000);
}

/* Functions stay inside until it opens. */
struct gate {
    _Atomic int inside, most, opened, passed;
};

static void raise_most(struct gate *g, int now)
{
    int most = atomic_load(&g->most);
    while (most < now && !atomic_compare_exchange_weak(&g->most, &most, now))
        ;
}

static int stay(void *arg)
{
    struct gate *g = arg;
    raise_most(g, atomic_fetch_add(&g->inside, 1) + 1);
    while (!atomic_load(&g->opened))
        usleep(50);
    atomic_fetch_sub(&g->inside, 1);
    atomic_fetch_add(&g->passed, 1);
    return 42;
}

static void await_inside(struct gate *g, int n)
{
    WAIT_UNTIL(atomic_load(&g->inside) >= n);
}

static void gate_open(struct gate *g)
{
    atomic_store(&g->opened, 1);
}

/* A routine that calls it. */
struct call {
    int (*fn)(void *);
    void *arg;
    int64_t limit; /* 0: none */
    bool shield;
    int rc, check_after;
    _Atomic bool begun, over;
};

static void *call_it(void *arg)
{
    struct call *c = arg;
    atomic_store(&c->begun, true);
    if (c->limit != 0) {
        routine_with_timeout(c->limit);
        c->rc = routine_blocking(c->fn, c->arg);
        c->check_after = routine_check();
    } else if (c->shield) {
        routine_shield();
        c->rc = routine_blocking(c->fn, c->arg);
        c->check_after = routine_check();
    } else {
        c->rc = routine_blocking(c->fn, c->arg);
        c->check_after = routine_check();
    }
    atomic_store(&c->over, true);
    return NULL;
}

/* Does the monitor's work for as long as it is there. */
struct lookout {
    routine_runtime_t *runtime;
    _Atomic bool over;
    pthread_t thread;
};

static void *look_out(void *arg)
{
    struct lookout *l = arg;
    while (!atomic_load(&l->over)) {
        (void)rt_pool_look(pool_of(l->runtime), routine_now());
        usleep(2000);
    }
    return NULL;
}

static void lookout_begin(struct lookout *l, routine_runtime_t *runtime)
{
    l->runtime = runtime;
    atomic_store(&l->over, false);
    l->thread = support_thread(look_out, l);
}

static void lookout_end(struct lookout *l)
{
    atomic_store(&l->over, true);
    support_thread_join(l->thread, NULL);
}

/* ---- what it is to be there ---- */

static int identity(void *arg)
{
    return *(const int *)arg;
}

TEST_EVERYWHERE(the_result_is_that_of_the_function)
{
    static int values[] = {0, 1, -1, 4711, INT_MAX, INT_MIN, -EINVAL, -ECANCELED, -ETIMEDOUT};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        CHECK_EQ(routine_blocking(identity, &values[i]), values[i]);
    CHECK_EQ(routine_blocking(NULL, values), -EINVAL);
}

struct place {
    int tid;
    bool is_plain, is_nobody;
    unsigned pages;
    size_t stack;
};

static int look_around(void *arg)
{
    struct place *p = arg;
    p->tid = gettid_here();
    p->is_plain = routine_runtime_current() == NULL;
    p->is_nobody = routine_self().block == NULL;
    p->pages = support_use_stack((size_t)1 << 20);
    errno = 4711; /* the pool does not mind */
    return 1;
}

static void *look_from_routine(void *arg)
{
    struct place *p = arg;
    CHECK_EQ(routine_blocking(look_around, p), 1);
    CHECK(p->tid != gettid_here());
    CHECK(p->is_plain);
    CHECK(p->is_nobody);
    CHECK_EQ(p->pages, (1 << 20) / 512);
    return NULL;
}

TEST(a_routines_function_runs_on_a_plain_thread)
{
    struct place p;
    memset(&p, 0, sizeof p);
    support_in_routine(look_from_routine, &p);
    memset(&p, 0, sizeof p);
    CHECK_EQ(routine_blocking(look_around, &p), 1);
    CHECK_EQ(p.tid, gettid_here()); /* a plain thread's: at home */
    CHECK(p.is_plain);
}

struct depth {
    int left, tid;
};

static int nest(void *arg)
{
    struct depth *d = arg;
    CHECK(d->tid == 0 || d->tid == gettid_here());
    d->tid = gettid_here();
    return d->left-- == 0 ? 99 : routine_blocking(nest, d);
}

TEST_EVERYWHERE(within_itself_it_is_a_call)
{
    struct depth d = {100, 0};
    CHECK_EQ(routine_blocking(nest, &d), 99);
    CHECK_EQ(d.left, -1);
}

static void *square(void *arg)
{
    *(int *)arg *= *(int *)arg;
    return arg;
}

/* All that a plain thread can do. */
static int use_the_library(void *arg)
{
    chan_t *ch = arg;
    int x = 7, y = 0;
    void *result = NULL;
    CHECK_EQ(routine_join(go(square, &x), &result), 0);
    CHECK(result == &x);
    CHECK_EQ(x, 49);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    CHECK_EQ(chan_send(ch, &x), 0);
    CHECK_EQ(chan_recv(ch, &y), 0);
    CHECK_EQ(y, 50);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(chan_recv(ch, &y), -ETIMEDOUT);
        CHECK_EQ(routine_blocking(identity, &x), -ETIMEDOUT);
    }
    CHECK_EQ(routine_check(), 0);
    return 3;
}

static void *answer(void *arg)
{
    int x = 0;
    CHECK_EQ(chan_recv(arg, &x), 0);
    x++;
    CHECK_EQ(chan_send(arg, &x), 0);
    return NULL;
}

TEST_EVERYWHERE(the_function_may_use_the_library)
{
    chan_t *ch = MAKE(int, 0);
    routine_t h = go(answer, ch);
    CHECK_EQ(routine_blocking(use_the_library, ch), 3);
    CHECK_EQ(routine_join(h, NULL), 0);
    chan_unref(ch);
}

static int nothing(void *arg)
{
    return arg != NULL;
}

static void *call_nothing(void *arg)
{
    CHECK_EQ(routine_blocking(nothing, arg), arg != NULL);
    return NULL;
}

/* In place: the joiner's stack parks with it. */
static void *call_below(void *arg)
{
    long depth = (long)(intptr_t)arg;
    if (depth > 0)
        CHECK_EQ(routine_join(go(call_below, (void *)(intptr_t)(depth - 1)), NULL), 0);
    CHECK_EQ(routine_blocking(nothing, NULL), 0);
    return NULL;
}

TEST(on_the_stack_of_a_joiner)
{
    support_in_routine(call_below, (void *)(intptr_t)10);
}

/* ---- growing and shrinking ---- */

struct growth {
    routine_runtime_t *runtime;
    struct gate gate;
    size_t n, expected;
};

static void *grow(void *arg)
{
    struct growth *g = arg;
    struct call *calls = calloc(g->n, sizeof *calls);
    routine_t *h = calloc(g->n, sizeof *h);
    CHECK_EQ(pool_threads(NULL), 0);
    for (size_t i = 0; i < g->n; i++) {
        calls[i] = (struct call){.fn = stay, .arg = &g->gate};
        h[i] = go(call_it, &calls[i]);
    }
    await_inside(&g->gate, (int)g->n); /* all of them: with one worker, too */
    CHECK_EQ(pool_threads(NULL), g->n);
    gate_open(&g->gate);
    for (size_t i = 0; i < g->n; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(calls[i].rc, 42);
    }
    CHECK_EQ(pool_threads(NULL), g->n);
    CHECK_EQ(routine_blocking(nothing, NULL), 0);
    CHECK_EQ(pool_threads(NULL), g->n);
    free(h);
    free(calls);
    return NULL;
}

TEST(it_grows_as_needed_up_to_its_limit)
{
    static const size_t sizes[][2] = {{0, 1}, {0, 7}, {0, 64}, {1, 1}, {3, 3}, {100, 100}};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct growth g = {.n = sizes[i][1]};
        routine_runtime_t *runtime = runtime_with(0, sizes[i][0]);
        CHECK_EQ(routine_runtime_run(runtime, grow, &g, NULL), 0);
        support_runtime_end(runtime);
        await_no_threads();
    }
}

static void *one_after_the_other(void *arg)
{
    for (int i = 0; i < 200; i++)
        CHECK_EQ(routine_blocking(nothing, arg), arg != NULL);
    CHECK_EQ(pool_threads(NULL), 1);
    return NULL;
}

TEST(one_thread_does_for_one_caller)
{
    routine_runtime_t *runtime = runtime_with(2, 0);
    CHECK_EQ(routine_runtime_run(runtime, one_after_the_other, NULL, NULL), 0);
    support_runtime_end(runtime);
}

/* So many more than the limit. In the first 20 ms nobody is stuck, however many queue. */
struct crowd {
    struct gate gate;
    bool undisturbed;
};

static void *press(void *arg)
{
    enum { LIMIT = 4, MORE = 30 };
    struct crowd *crowd = arg;
    struct call calls[LIMIT + MORE];
    routine_t h[LIMIT + MORE];
    routine_runtime_t *runtime = routine_runtime_current();
    const int64_t began = routine_now();
    for (int i = 0; i < LIMIT + MORE; i++) {
        calls[i] = (struct call){.fn = stay, .arg = &crowd->gate};
        h[i] = go(call_it, &calls[i]);
    }
    WAIT_UNTIL(queued(runtime, RT_POOL_USER) == MORE || routine_now() - began >= 20 * ROUTINE_MS);
    const size_t threads = pool_threads(NULL);
    crowd->undisturbed = routine_now() - began < 20 * ROUTINE_MS;
    if (crowd->undisturbed) {
        CHECK_EQ(threads, LIMIT);
        CHECK(rt_pool_has_queue(pool_of(runtime)));
    }
    gate_open(&crowd->gate);
    for (int i = 0; i < LIMIT + MORE; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(calls[i].rc, 42);
    }
    CHECK_EQ(atomic_load(&crowd->gate.passed), LIMIT + MORE);
    CHECK(!rt_pool_has_queue(pool_of(runtime)));
    /* what came above the limit goes when it is not needed */
    WAIT_UNTIL(pool_threads(NULL) <= LIMIT);
    return NULL;
}

TEST(behind_the_limit_they_queue)
{
    int undisturbed = 0;
    for (int i = 0; i < 200 && undisturbed < 3; i++) {
        struct crowd c;
        memset(&c, 0, sizeof c);
        routine_runtime_t *runtime = runtime_with(0, 4);
        CHECK_EQ(routine_runtime_run(runtime, press, &c, NULL), 0);
        undisturbed += c.undisturbed;
        support_runtime_end(runtime);
    }
    CHECK(undisturbed > 0 || support_slow());
}

/* ---- the order ---- */

struct turn {
    _Atomic int *next;
    int mine;
};

static int take_turn(void *arg)
{
    struct turn *t = arg;
    t->mine = atomic_fetch_add(t->next, 1);
    return 0;
}

static void *queue_up(void *arg)
{
    enum { MANY = 30 };
    bool *undisturbed = arg;
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    routine_runtime_t *runtime = routine_runtime_current();
    _Atomic int next = 0;
    struct turn turns[MANY];
    struct call calls[MANY], first = {.fn = stay, .arg = &gate};
    routine_t h[MANY], holder = go(call_it, &first);
    await_inside(&gate, 1);
    const long made = atomic_load(&creations);
    for (int i = 0; i < MANY; i++) {
        turns[i] = (struct turn){.next = &next};
        calls[i] = (struct call){.fn = take_turn, .arg = &turns[i]};
        h[i] = go(call_it, &calls[i]);
        /* or the monitor has come, and one more thread, which may be gone again */
        WAIT_UNTIL(queued(runtime, RT_POOL_USER) == (uint32_t)i + 1 || atomic_load(&next) > 0);
    }
    gate_open(&gate);
    CHECK_EQ(routine_join(holder, NULL), 0);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    *undisturbed = atomic_load(&creations) == made; /* it was that one thread all the time */
    for (int i = 0; i < MANY && *undisturbed; i++)
        CHECK_EQ(turns[i].mine, i);
    return NULL;
}

TEST(first_come_first_served)
{
    int undisturbed = 0;
    for (int i = 0; i < 200 && undisturbed < 5; i++) {
        bool was = false;
        routine_runtime_t *runtime = runtime_with(2, 1);
        CHECK_EQ(routine_runtime_run(runtime, queue_up, &was, NULL), 0);
        undisturbed += was;
        support_runtime_end(runtime);
    }
    CHECK(undisturbed > 0 || support_slow());
}

/* ---- it cannot starve itself ---- */

struct knot {
    _Atomic int tied;
    int all;
};

/* Waits for a routine that waits for a thread. */
static int tie(void *arg)
{
    struct knot *k = arg;
    const routine_attr_t attr = {.runtime = NULL};
    atomic_fetch_add(&k->tied, 1);
    while (atomic_load(&k->tied) < k->all)
        usleep(50);
    CHECK_EQ(routine_join(go_with(&attr, call_nothing, NULL), NULL), 0);
    return 5;
}

static void *tie_all(void *arg)
{
    struct knot *k = arg;
    struct call *calls = calloc((size_t)k->all, sizeof *calls);
    routine_t *h = calloc((size_t)k->all, sizeof *h);
    for (int i = 0; i < k->all; i++) {
        calls[i] = (struct call){.fn = tie, .arg = k};
        h[i] = go(call_it, &calls[i]);
    }
    for (int i = 0; i < k->all; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(calls[i].rc, 5);
    }
    free(h);
    free(calls);
    return NULL;
}

/* In the default runtime, which is where the routines of plain threads go, and which allows 64. It is the
 * monitor who notices; also if it was asleep, since nothing has run for a while. */
TEST(a_pool_full_of_those_who_wait_for_it)
{
    for (int i = 0; i < 3; i++) {
        struct knot k = {.all = 64};
        support_in_routine(tie_all, &k);
        usleep(i == 1 ? 250000 : 0);
    }
}

/* Deeper and deeper: each level needs a thread more, beyond the limit. */
struct chain {
    routine_runtime_t *runtime;
    int left;
};

static int chain_link(void *arg);

static void *chain_on(void *arg)
{
    CHECK_EQ(routine_blocking(chain_link, arg), 0);
    return NULL;
}

static int chain_link(void *arg)
{
    struct chain *c = arg;
    if (c->left-- > 0)
        CHECK_EQ(routine_join(support_go_on(c->runtime, chain_on, c), NULL), 0);
    return 0;
}

TEST(up_to_eight_times_the_limit)
{
    const int64_t usual = atomic_exchange(&rt_pool_patience, 3600 * ROUTINE_S);
    routine_runtime_t *runtime = runtime_with(1, 2);
    struct chain c = {runtime, 15}; /* 16 threads in all */
    CHECK_EQ(routine_runtime_run(runtime, chain_on, &c, NULL), 0);
    CHECK_EQ(c.left, -1);
    while (pool_threads(runtime) > 2) /* what is above the limit does not wait for more */
        usleep(100);
    support_runtime_end(runtime);
    atomic_store(&rt_pool_patience, usual);
}

/* But not more than that; and what moves is not stuck. */
TEST(looks_that_come_too_early_or_too_often)
{
    routine_runtime_t *runtime = runtime_with(1, 1);
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    enum { MANY = 12 };
    struct call calls[MANY];
    routine_t h[MANY];
    for (int i = 0; i < MANY; i++) {
        calls[i] = (struct call){.fn = stay, .arg = &gate};
        h[i] = support_go_on(runtime, call_it, &calls[i]);
    }
    WAIT_UNTIL(queued(runtime, RT_POOL_USER) + (uint32_t)atomic_load(&gate.inside) == MANY);
    CHECK(!rt_pool_look(pool_of(runtime), 0) || pool_threads(runtime) >= 1); /* a clock that is wrong */
    for (int n = 1; n < 8; n++) {                                            /* one at a time */
        (void)rt_pool_look(pool_of(runtime), routine_now() + n * 3600 * ROUTINE_S);
        await_inside(&gate, n + 1);
    }
    for (int i = 0; i < 50; i++)
        CHECK(rt_pool_look(pool_of(runtime), routine_now() + (i + 100) * 3600 * ROUTINE_S));
    CHECK_EQ(pool_threads(runtime), 8);
    CHECK_EQ(queued(runtime, RT_POOL_USER), MANY - 8);
    gate_open(&gate);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(atomic_load(&gate.most), 8);
    CHECK(!rt_pool_look(pool_of(runtime), ROUTINE_NEVER));
    support_runtime_end(runtime);
}

/* No class takes the threads of another. */
static void *run_in_class(void *arg)
{
    for (int class = RT_POOL_FILES; class <= RT_POOL_NAMES; class ++)
        CHECK_EQ(rt_pool_run(class, nothing, arg), arg != NULL);
    return NULL;
}

TEST(classes_share_nothing)
{
    routine_runtime_t *runtime = runtime_with(1, 1);
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    struct call calls[3];
    routine_t h[3];
    for (int i = 0; i < 3; i++) {
        calls[i] = (struct call){.fn = stay, .arg = &gate};
        h[i] = support_go_on(runtime, call_it, &calls[i]);
    }
    await_inside(&gate, 1);
    CHECK_EQ(routine_runtime_run(runtime, run_in_class, NULL, NULL), 0);
    CHECK_EQ(routine_runtime_run(runtime, run_in_class, &gate, NULL), 0);
    gate_open(&gate);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    support_runtime_end(runtime);
}

/* ---- threads end when they have nothing to do ---- */

static void *in_bursts(void *arg)
{
    uint64_t random = 17 + (uint64_t)(uintptr_t)arg;
    routine_t h[6];
    for (int round = 0; round < support_scale(600); round++) {
        const size_t n = 1 + support_random(&random) % COUNT_OF(h);
        for (size_t i = 0; i < n; i++)
            h[i] = go(call_nothing, NULL);
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        if (round % 8 == 0)
            CHECK_EQ(routine_sleep((int64_t)(support_random(&random) % 400) * ROUTINE_US), 0);
    }
    return NULL;
}

TEST(idle_threads_end)
{
    const int64_t usual = atomic_exchange(&rt_pool_patience, 2 * ROUTINE_MS);
    CHECK(usual >= ROUTINE_S);
    routine_runtime_t *runtime = runtime_with(2, 5);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_runtime_run(runtime, in_bursts, NULL, NULL), 0);
        while (pool_threads(runtime) != 0)
            usleep(100);
    }
    atomic_store(&rt_pool_patience, usual);
    support_runtime_end(runtime);
}

/* They end at the very moment when they are called. */
TEST(endings_against_calls)
{
    static const int64_t patience[] = {0, 1, 20 * ROUTINE_US, 100 * ROUTINE_US, 300 * ROUTINE_US};
    const int64_t usual = atomic_load(&rt_pool_patience);
    for (size_t i = 0; i < COUNT_OF(patience); i++) {
        atomic_store(&rt_pool_patience, patience[i]);
        routine_runtime_t *runtime = runtime_with(0, 3);
        routine_t others[3];
        for (uintptr_t k = 0; k < COUNT_OF(others); k++)
            others[k] = support_go_on(runtime, in_bursts, (void *)k);
        for (size_t k = 0; k < COUNT_OF(others); k++)
            CHECK_EQ(routine_join(others[k], NULL), 0);
        support_runtime_end(runtime);
    }
    atomic_store(&rt_pool_patience, usual);
    await_no_threads();
}

/* ---- cancelled, and limits ---- */

/* Not begun when the cancellation comes, unless a look at the pool was faster. */
TEST(cancelled_in_the_queue)
{
    int canceled = 0;
    for (int i = 0; i < 200 && canceled < 20; i++) {
        routine_runtime_t *runtime = runtime_with(1, 1);
        struct gate gate, second;
        memset(&gate, 0, sizeof gate);
        memset(&second, 0, sizeof second);
        gate_open(&second);
        struct call holder = {.fn = stay, .arg = &gate}, c = {.fn = stay, .arg = &second};
        routine_t h = support_go_on(runtime, call_it, &holder);
        await_inside(&gate, 1);
        routine_t q = support_go_on(runtime, call_it, &c);
        WAIT_UNTIL(queued(runtime, RT_POOL_USER) == 1 || atomic_load(&second.passed) == 1);
        CHECK_EQ(routine_cancel(q) * (1 - atomic_load(&c.over)), 0);
        CHECK_EQ(routine_join(q, NULL), 0);
        CHECK(c.rc == 42 || c.rc == -ECANCELED);
        CHECK_EQ(atomic_load(&second.passed), c.rc == 42);
        CHECK(c.rc == 42 || c.check_after == -ECANCELED);
        CHECK_EQ(queued(runtime, RT_POOL_USER), 0);
        canceled += c.rc == -ECANCELED;
        gate_open(&gate);
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(holder.rc, 42);
        support_runtime_end(runtime);
    }
    CHECK(canceled > 0 || support_slow());
}

TEST(cancelled_while_it_runs)
{
    for (int shield = 0; shield < 2; shield++) {
        struct gate gate;
        memset(&gate, 0, sizeof gate);
        struct call c = {.fn = stay, .arg = &gate, .shield = shield != 0};
        routine_t h = go(call_it, &c);
        await_inside(&gate, 1);
        CHECK_EQ(routine_cancel(h), 0);
        CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
        CHECK(!atomic_load(&c.over)); /* the function uses what the caller owns */
        gate_open(&gate);
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(c.rc, 42);
        CHECK_EQ(c.check_after, shield ? 0 : -ECANCELED);
    }
}

TEST(the_limit_passes_while_it_runs)
{
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    struct call c = {.fn = stay, .arg = &gate, .limit = 20 * ROUTINE_MS};
    /* it may pass before the function begins, on a machine that is busy with other things */
    for (int tries = 0; tries < 100; tries++) {
        routine_t h = go(call_it, &c);
        WAIT_UNTIL(atomic_load(&gate.inside) == 1 || atomic_load(&c.over));
        if (!atomic_load(&c.over)) {
            CHECK_EQ(routine_sleep(30 * ROUTINE_MS), 0);
            CHECK(!atomic_load(&c.over));
            gate_open(&gate);
            CHECK_EQ(routine_join(h, NULL), 0);
            CHECK_EQ(c.rc, 42);
            CHECK_EQ(c.check_after, -ETIMEDOUT); /* the next call says so */
            return;
        }
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(c.rc, -ETIMEDOUT);
        atomic_store(&c.over, false);
        c.limit *= 2;
    }
}

TEST(the_limit_passes_in_the_queue)
{
    int passed = 0;
    for (int i = 0; i < 100 && passed < 5; i++) {
        routine_runtime_t *runtime = runtime_with(1, 1);
        struct gate gate, second;
        memset(&gate, 0, sizeof gate);
        memset(&second, 0, sizeof second);
        gate_open(&second);
        struct call holder = {.fn = stay, .arg = &gate},
                    c = {.fn = stay, .arg = &second, .limit = 3 * ROUTINE_MS};
        routine_t h = support_go_on(runtime, call_it, &holder);
        await_inside(&gate, 1);
        CHECK_EQ(routine_join(support_go_on(runtime, call_it, &c), NULL), 0);
        CHECK(c.rc == -ETIMEDOUT || c.rc == 42); /* there may be one thread more, after 20 ms */
        CHECK_EQ(atomic_load(&second.passed), c.rc == 42);
        passed += c.rc == -ETIMEDOUT;
        CHECK(c.rc == 42 || c.check_after == -ETIMEDOUT);
        gate_open(&gate);
        CHECK_EQ(routine_join(h, NULL), 0);
        support_runtime_end(runtime);
    }
    CHECK(passed > 0 || support_slow());
}

static int must_not_run(void *arg)
{
    support_fail(__FILE__, __LINE__, "it was run");
    return arg != NULL;
}

/* Over before it begins: nothing runs; also if only the clock knows it so far. */
TEST_EVERYWHERE(over_before_it_begins)
{
    {
        routine_with_timeout(0);
        CHECK_EQ(routine_blocking(must_not_run, NULL), -ETIMEDOUT);
    }
    {
        routine_with_timeout(100 * ROUTINE_US);
        const int64_t end = routine_now() + 100 * ROUTINE_US;
        while (routine_now() <= end)
            ;
        CHECK_EQ(routine_blocking(must_not_run, NULL), -ETIMEDOUT);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    CHECK_EQ(routine_blocking(nothing, NULL), 0);
}

static void *call_canceled(void *arg)
{
    CHECK_EQ(routine_cancel(routine_self()), 0);
    CHECK_EQ(routine_blocking(must_not_run, arg), -ECANCELED);
    {
        routine_shield();
        CHECK_EQ(routine_blocking(nothing, NULL), 0);
    }
    CHECK_EQ(routine_blocking(must_not_run, arg), -ECANCELED);
    return NULL;
}

TEST(cancelled_before_it_begins)
{
    support_in_routine(call_canceled, NULL);
}

/* At any moment: it has run, or it has not. */
struct risk {
    _Atomic int ran;
    unsigned spins;
    int rc;
    int64_t limit;
    bool shield;
};

static void spin(unsigned n)
{
    for (volatile unsigned i = 0; i < n; i = i + 1)
        ;
}

static int run_risk(void *arg)
{
    struct risk *r = arg;
    spin(r->spins);
    atomic_fetch_add(&r->ran, 1);
    return 77;
}

static void *take_risk(void *arg)
{
    struct risk *r = arg;
    if (r->limit != 0) {
        routine_with_timeout(r->limit);
        r->rc = routine_blocking(run_risk, r);
    } else if (r->shield) {
        routine_shield();
        r->rc = routine_blocking(run_risk, r);
    } else {
        r->rc = routine_blocking(run_risk, r);
    }
    /* nobody touches it any more */
    CHECK_EQ(atomic_load(&r->ran), r->rc == 77);
    return NULL;
}

struct risks {
    uint64_t random;
    long rounds, canceled, late, ran;
};

static void *take_risks(void *arg)
{
    enum { MANY = 12 };
    struct risks *all = arg;
    struct risk risks[MANY];
    routine_t h[MANY];
    for (long round = 0; round < all->rounds; round++) {
        const uint64_t x = support_random(&all->random);
        for (int i = 0; i < MANY; i++) {
            const uint64_t y = support_random(&all->random);
            memset(&risks[i], 0, sizeof risks[i]);
            risks[i].spins = (unsigned)(y & 0xfff);
            risks[i].limit = y >> 12 & 3 ? 0 : (int64_t)(y >> 16 & 0xff) * ROUTINE_US + 1;
            risks[i].shield = (y >> 14 & 7) == 0;
            h[i] = go(take_risk, &risks[i]);
            if ((x >> i & 3) == 0)
                routine_yield();
        }
        for (int i = 0; i < MANY; i++) {
            spin((unsigned)(support_random(&all->random) & 0x3ff));
            if (x >> (20 + i) & 1) {
                const int rc = routine_cancel(h[i]);
                CHECK(rc == 0);
            }
        }
        for (int i = 0; i < MANY; i++) {
            const int rc = routine_join(h[i], NULL);
            CHECK(rc == 0 || rc == -ECANCELED); /* it may not have begun */
            if (rc == 0)
                CHECK(risks[i].rc == 77 || risks[i].rc == -ECANCELED || risks[i].rc == -ETIMEDOUT);
            all->canceled += rc != 0 || risks[i].rc == -ECANCELED;
            all->late += rc == 0 && risks[i].rc == -ETIMEDOUT;
            all->ran += rc == 0 && risks[i].rc == 77;
        }
    }
    return NULL;
}

TEST(at_any_moment)
{
    static const int64_t patience[] = {5 * ROUTINE_S, 30 * ROUTINE_US};
    const int64_t usual = atomic_load(&rt_pool_patience);
    for (size_t i = 0; i < COUNT_OF(patience); i++) {
        atomic_store(&rt_pool_patience, patience[i]);
        routine_runtime_t *runtime = runtime_with(0, 2);
        struct lookout l;
        lookout_begin(&l, runtime);
        struct risks a = {.random = 5, .rounds = support_scale(1500)}, b = a;
        b.random = 99;
        routine_t other = support_go_on(runtime, take_risks, &b);
        CHECK_EQ(routine_runtime_run(runtime, take_risks, &a, NULL), 0);
        CHECK_EQ(routine_join(other, NULL), 0);
        CHECK(a.ran > 0 && a.canceled > 0);
        CHECK(support_slow() || a.late + b.late > 0);
        lookout_end(&l);
        support_runtime_end(runtime);
    }
    atomic_store(&rt_pool_patience, usual);
}

/* ---- left behind ---- */

struct errand {
    rt_job job;
    struct gate *gate;
    unsigned spins;
    _Atomic int *freed;
    uint64_t pattern;
};

#define PATTERN UINT64_C(0x1234567887654321)

static void errand_drop(void *arg)
{
    struct errand *e = arg;
    CHECK(e->pattern == PATTERN);
    e->pattern = 0;
    _Atomic int *freed = e->freed;
    free(e);
    atomic_fetch_add(freed, 1);
}

static int errand_run(void *arg)
{
    struct errand *e = arg;
    CHECK(e->pattern == PATTERN);
    spin(e->spins);
    return e->gate ? stay(e->gate) : 88;
}

static struct errand *errand_new(struct gate *gate, _Atomic int *freed)
{
    struct errand *e = calloc(1, sizeof *e);
    if (!e)
        abort();
    e->job = (rt_job){.fn = errand_run, .arg = e, .abandoned = errand_drop};
    e->gate = gate;
    e->freed = freed;
    e->pattern = PATTERN;
    return e;
}

struct sender {
    struct gate *gate;
    _Atomic int *freed;
    unsigned spins;
    int rc, result;
    int64_t limit;
};

static void *send_errand(void *arg)
{
    struct sender *s = arg;
    struct errand *e = errand_new(s->gate, s->freed);
    e->spins = s->spins;
    if (s->limit != 0) {
        routine_with_timeout(s->limit);
        s->rc = rt_pool_do(RT_POOL_NAMES, &e->job);
    } else {
        s->rc = rt_pool_do(RT_POOL_NAMES, &e->job);
    }
    if (s->rc == 0) {
        s->result = e->job.result;
        errand_drop(e);
    }
    return NULL;
}

TEST(what_is_left_behind_runs_to_its_end)
{
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    _Atomic int freed = 0;
    routine_runtime_t *runtime = runtime_with(1, 0);
    struct sender s = {.gate = &gate, .freed = &freed};
    routine_t h = support_go_on(runtime, send_errand, &s);
    await_inside(&gate, 1);
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_join(h, NULL), 0); /* while it still runs */
    CHECK_EQ(s.rc, -ECANCELED);
    CHECK_EQ(atomic_load(&gate.inside), 1);
    CHECK_EQ(atomic_load(&freed), 0);
    CHECK(!rt_pool_is_quiet(pool_of(runtime)));
    /* its thread is the runtime's */
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, 10 * ROUTINE_MS), -ETIMEDOUT);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, 0), -ETIMEDOUT);
    CHECK_EQ(routine_runtime_run(runtime, call_nothing, &gate, NULL), 0); /* which is intact */
    gate_open(&gate);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    CHECK_EQ(atomic_load(&freed), 1);
    await_no_threads();
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

static void *open_later(void *arg)
{
    usleep(20000);
    gate_open(arg);
    return NULL;
}

/* The shutdown is already waiting when it ends. */
TEST(a_shutdown_that_waits_for_what_is_left_behind)
{
    for (int i = 0; i < 5; i++) {
        struct gate gate;
        memset(&gate, 0, sizeof gate);
        _Atomic int freed = 0;
        routine_runtime_t *runtime = runtime_with(2, 0);
        struct sender s = {.gate = &gate, .freed = &freed, .limit = 10 * ROUTINE_MS};
        CHECK_EQ(routine_runtime_run(runtime, send_errand, &s, NULL), 0);
        CHECK_EQ(s.rc, -ETIMEDOUT);
        pthread_t other = support_thread(open_later, &gate);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(atomic_load(&freed), 1);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        pthread_join(other, NULL);
    }
}

static void *send_errands(void *arg)
{
    enum { MANY = 16 };
    struct risks *all = arg;
    _Atomic int freed = 0;
    struct sender s[MANY];
    routine_t h[MANY];
    long sent = 0;
    for (long round = 0; round < all->rounds; round++) {
        const uint64_t x = support_random(&all->random);
        for (int i = 0; i < MANY; i++) {
            const uint64_t y = support_random(&all->random);
            s[i] = (struct sender){.freed = &freed, .spins = (unsigned)(y & 0x1fff)};
            s[i].limit = y >> 13 & 3 ? 0 : (int64_t)(y >> 16 & 0xff) * ROUTINE_US + 1;
            h[i] = go(send_errand, &s[i]);
            if ((x >> i & 3) == 0)
                routine_yield();
        }
        for (int i = 0; i < MANY; i++) {
            spin((unsigned)(support_random(&all->random) & 0x3ff));
            if (x >> (20 + i) & 1)
                CHECK_EQ(routine_cancel(h[i]), 0);
        }
        for (int i = 0; i < MANY; i++) {
            const int rc = routine_join(h[i], NULL);
            sent += rc == 0;
            CHECK(rc == -ECANCELED || s[i].rc != 0 || s[i].result == 88);
            all->canceled += rc == 0 && s[i].rc == -ECANCELED;
            all->ran += rc == 0 && s[i].rc == 0;
        }
    }
    /* all have been dropped once, some of them a little later */
    WAIT_UNTIL(atomic_load(&freed) == sent);
    return NULL;
}

TEST(left_behind_at_any_moment)
{
    for (int i = 0; i < 2; i++) {
        routine_runtime_t *runtime = runtime_with(0, 0);
        struct lookout l;
        lookout_begin(&l, runtime);
        struct risks r = {.random = 23 + (uint64_t)i, .rounds = support_scale(1500)};
        CHECK_EQ(routine_runtime_run(runtime, send_errands, &r, NULL), 0);
        CHECK(r.ran > 0);
        lookout_end(&l);
        WAIT_UNTIL(rt_pool_is_quiet(pool_of(runtime)));
        support_runtime_end(runtime);
    }
}

/* Dropped also by those who never let it begin. */
static void *send_in_vain(void *arg)
{
    _Atomic int freed = 0;
    struct sender s = {.freed = &freed, .limit = -1};
    send_errand(&s);
    CHECK_EQ(s.rc, -ETIMEDOUT);
    CHECK_EQ(atomic_load(&freed), 1);
    return arg;
}

TEST(dropped_without_having_begun)
{
    send_in_vain(NULL);
    support_in_routine(send_in_vain, NULL);
}

/* ---- runtimes ---- */

TEST(two_runtimes_share_no_thread)
{
    routine_runtime_t *a = runtime_with(1, 1), *b = runtime_with(1, 1);
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    struct call c = {.fn = stay, .arg = &gate};
    routine_t h = support_go_on(a, call_it, &c);
    await_inside(&gate, 1);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(routine_runtime_run(b, call_nothing, &gate, NULL), 0);
    CHECK_EQ(pool_threads(a), 1);
    CHECK_EQ(pool_threads(b), 1);
    support_runtime_end(b);
    CHECK_EQ(pool_threads(a), 1);
    gate_open(&gate);
    CHECK_EQ(routine_join(h, NULL), 0);
    support_runtime_end(a);
    await_no_threads();
}

TEST(shutdowns_with_busy_and_idle_threads)
{
    for (int i = 0; i < support_scale(60); i++) {
        routine_runtime_t *runtime = runtime_with(1 + (size_t)i % 3, 0);
        struct gate gate;
        memset(&gate, 0, sizeof gate);
        struct call calls[5];
        routine_t h[5];
        for (int k = 0; k < 5; k++) {
            calls[k] = (struct call){.fn = k < i % 5 ? nothing : stay, .arg = &gate};
            h[k] = support_go_on(runtime, call_it, &calls[k]);
        }
        gate_open(&gate);
        /* what runs is waited for, what is cancelled in time does not begin */
        CHECK_EQ(routine_runtime_shutdown(runtime, i % 2, ROUTINE_NEVER), 0);
        for (int k = 0; k < 5; k++) {
            const int rc = routine_join(h[k], NULL);
            CHECK(rc == 0 || (rc == -ECANCELED && i % 2 == 1));
        }
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
    await_no_threads();
}

/* ---- no memory for threads ---- */

static int home_tid;

static int at_home(void *arg)
{
    if (home_tid != gettid_here())
        support_fail(__FILE__, __LINE__, "on another thread");
    return *(int *)arg;
}

static void *call_at_home(void *arg)
{
    home_tid = gettid_here();
    CHECK_EQ(routine_blocking(at_home, arg), *(int *)arg);
    return NULL;
}

TEST(without_any_thread_the_caller_does_it)
{
    routine_runtime_t *runtime = runtime_with(1, 0);
    int value = 31;
    atomic_store(&no_threads, true);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(routine_runtime_run(runtime, call_at_home, &value, NULL), 0);
    CHECK(atomic_load(&refusals) >= 20);
    WAIT_UNTIL(pool_threads(runtime) == 0);
    atomic_store(&no_threads, false);
    CHECK_EQ(routine_runtime_run(runtime, call_nothing, &value, NULL), 0);
    CHECK_EQ(pool_threads(runtime), 1);
    support_runtime_end(runtime);
}

TEST(with_one_thread_all_wait_for_that)
{
    routine_runtime_t *runtime = runtime_with(1, 0);
    struct gate gate;
    memset(&gate, 0, sizeof gate);
    struct call c = {.fn = stay, .arg = &gate}, more[10];
    routine_t first = support_go_on(runtime, call_it, &c), h[10];
    await_inside(&gate, 1);
    atomic_store(&no_threads, true);
    for (int i = 0; i < 10; i++) {
        more[i] = (struct call){.fn = stay, .arg = &gate};
        h[i] = support_go_on(runtime, call_it, &more[i]);
    }
    WAIT_UNTIL(queued(runtime, RT_POOL_USER) == 10);
    for (int i = 0; i < 5; i++) /* looks do not help, nor harm */
        CHECK(rt_pool_look(pool_of(runtime), routine_now() + (i + 1) * ROUTINE_S));
    WAIT_UNTIL(pool_threads(runtime) == 1); /* the monitor may be trying just now */
    CHECK_EQ(queued(runtime, RT_POOL_USER), 10);
    gate_open(&gate);
    CHECK_EQ(routine_join(first, NULL), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(more[i].rc, 42);
    }
    WAIT_UNTIL(pool_threads(runtime) == 1);
    atomic_store(&no_threads, false);
    support_runtime_end(runtime);
}

/* Threads that come and go, and cannot be made again, now and then. */
static void *flicker(void *arg)
{
    _Atomic bool *over = arg;
    uint64_t random = 3;
    while (!atomic_load(over)) {
        atomic_store(&no_threads, support_random(&random) & 1);
        usleep(100);
    }
    atomic_store(&no_threads, false);
    return NULL;
}

TEST(threads_that_can_be_made_now_and_then)
{
    const int64_t usual = atomic_exchange(&rt_pool_patience, 50 * ROUTINE_US);
    routine_runtime_t *runtime = runtime_with(0, 2);
    struct lookout l;
    lookout_begin(&l, runtime);
    _Atomic bool over = false;
    pthread_t other = support_thread(flicker, &over);
    struct risks r = {.random = 7, .rounds = support_scale(1500)};
    CHECK_EQ(routine_runtime_run(runtime, take_risks, &r, NULL), 0);
    struct risks s = {.random = 8, .rounds = support_scale(800)};
    CHECK_EQ(routine_runtime_run(runtime, send_errands, &s, NULL), 0);
    atomic_store(&over, true);
    pthread_join(other, NULL);
    lookout_end(&l);
    support_runtime_end(runtime);
    atomic_store(&rt_pool_patience, usual);
}

/* ---- fork ---- */

/* In the child; 0 in the parent, which looks at how it ended. */
static int fork_and(void (*child)(void))
{
    const pid_t pid = fork();
    if (pid == 0) {
        child();
        return 1;
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) << 8 : -WTERMSIG(status);
}

static void exit_well(void)
{
    int x = 17;
    _exit(routine_blocking(identity, &x)); /* a plain thread's */
}

static void come_back(void)
{
}

static int fork_well(void *arg)
{
    return arg ? fork_and(exit_well) : 0;
}

static int fork_badly(void *arg)
{
    return arg ? fork_and(come_back) : 0;
}

static void *fork_in_pool(void *arg)
{
    CHECK_EQ(routine_blocking(arg == NULL ? fork_badly : fork_well, &no_threads),
             arg == NULL ? -SIGABRT : 17 << 8);
    CHECK_EQ(routine_blocking(nothing, NULL), 0);
    return NULL;
}

static int case_fork_well(void)
{
    support_in_routine(fork_in_pool, &no_threads);
    return 0;
}

static int case_fork_badly(void)
{
    support_in_routine(fork_in_pool, NULL);
    return 0;
}

TEST(a_fork_in_the_pool)
{
    static struct support_result r;
    CASE_EXITS(&r, "fork_well", NULL, 0);
    CASE_EXITS(&r, "fork_badly", NULL, 0);
    CASE_SAYS(&r, "fork_badly", "came back from a function that its parent gave to routine_blocking()");
}

/* A child forked by a plain thread starts afresh. */
static void *use_the_pool(void *arg)
{
    struct growth g = {.n = 5};
    CHECK_EQ(routine_blocking(nothing, arg), arg != NULL);
    (void)g;
    CHECK_EQ(pool_threads(NULL), 1);
    return NULL;
}

static void use_afresh(void)
{
    CHECK_EQ(routine_run(use_the_pool, NULL, NULL), 0);
    _exit(atomic_load(&support_failures) != 0);
}

static int case_fork_outside(void)
{
    CHECK_EQ(routine_run(use_the_pool, NULL, NULL), 0);
    CHECK_EQ(fork_and(use_afresh), 0);
    CHECK_EQ(routine_run(use_the_pool, NULL, NULL), 0);
    return 0;
}

TEST(a_forked_child_has_a_pool_of_its_own)
{
    static struct support_result r;
    CASE_EXITS(&r, "fork_outside", NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"fork_well", case_fork_well},
        {"fork_badly", case_fork_badly},
        {"fork_outside", case_fork_outside},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_result_is_that_of_the_function),
        cmocka_unit_test(a_routines_function_runs_on_a_plain_thread),
        cmocka_unit_test(within_itself_it_is_a_call),
        cmocka_unit_test(the_function_may_use_the_library),
        cmocka_unit_test(on_the_stack_of_a_joiner),
        cmocka_unit_test(it_grows_as_needed_up_to_its_limit),
        cmocka_unit_test(one_thread_does_for_one_caller),
        cmocka_unit_test(behind_the_limit_they_queue),
        cmocka_unit_test(first_come_first_served),
        cmocka_unit_test(a_pool_full_of_those_who_wait_for_it),
        cmocka_unit_test(up_to_eight_times_the_limit),
        cmocka_unit_test(looks_that_come_too_early_or_too_often),
        cmocka_unit_test(classes_share_nothing),
        cmocka_unit_test(idle_threads_end),
        cmocka_unit_test(endings_against_calls),
        cmocka_unit_test(cancelled_in_the_queue),
        cmocka_unit_test(cancelled_while_it_runs),
        cmocka_unit_test(the_limit_passes_while_it_runs),
        cmocka_unit_test(the_limit_passes_in_the_queue),
        cmocka_unit_test(over_before_it_begins),
        cmocka_unit_test(cancelled_before_it_begins),
        cmocka_unit_test(at_any_moment),
        cmocka_unit_test(what_is_left_behind_runs_to_its_end),
        cmocka_unit_test(a_shutdown_that_waits_for_what_is_left_behind),
        cmocka_unit_test(left_behind_at_any_moment),
        cmocka_unit_test(dropped_without_having_begun),
        cmocka_unit_test(two_runtimes_share_no_thread),
        cmocka_unit_test(shutdowns_with_busy_and_idle_threads),
        cmocka_unit_test(without_any_thread_the_caller_does_it),
        cmocka_unit_test(with_one_thread_all_wait_for_that),
        cmocka_unit_test(threads_that_can_be_made_now_and_then),
        cmocka_unit_test(a_fork_in_the_pool),
        cmocka_unit_test(a_forked_child_has_a_pool_of_its_own),
    };
    return cmocka_run_group_tests_name("blocking", tests, NULL, NULL);
}
