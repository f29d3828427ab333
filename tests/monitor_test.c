/* SPDX-License-Identifier: MIT
 *
 * Tests of the monitor (R6 to R8): with one worker, routines that compute without end or block their thread
 * in the C library, beside others that have to get on; each goes on only when the others have, so a worker
 * that is not handed over is a hang, and nothing is measured. What a routine can do on a thread without a
 * worker: every call that does not block, on the same thread, with a lock of the C library held; and all that
 * does, coming back to a worker by that; its frames, its locals, its end in every way. Callbacks of the user.
 * The cap on threads, their reuse and their end; statistics and offenders; stopped processes; no membarrier;
 * signal handlers; fork.
 *
 * ctest: timeout 180
 */
#include "support.h"

#include <poll.h>
#include <sys/time.h>

#include "routines/chan.h"
#include "routines/scope.h"
#include "routines/sync.h"
#include "sched/threads.h"

/* Others get on: counts the times, by sleeping and yielding. */
struct others {
    _Atomic long turns;
    _Atomic int stop;
};

static void *get_on(void *arg)
{
    struct others *o = arg;
    while (!atomic_load(&o->stop)) {
        CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0);
        atomic_fetch_add(&o->turns, 1);
    }
    return NULL;
}

/* Keeps its thread until the others have had so many turns more. */
static void outlast(struct others *o, long turns)
{
    const long until = atomic_load(&o->turns) + turns;
    while (atomic_load(&o->turns) < until)
        continue;
}

/* The same in a call that blocks the thread. */
static void sleep_them_out(struct others *o, long turns)
{
    const long until = atomic_load(&o->turns) + turns;
    while (atomic_load(&o->turns) < until)
        usleep(30000);
}

static uint64_t handovers(routine_runtime_t *runtime)
{
    routine_stats_t stats;
    CHECK_EQ(routine_stats(runtime, &stats), 0);
    return stats.handovers;
}

/* Runs fn(others) as a routine of a runtime with one worker, on which others get on meanwhile; the worker has
 * been handed over at least so many times then. */
static void beside_others(routine_fn *fn, uint64_t at_least)
{
    routine_runtime_t *runtime = support_runtime(1);
    struct others o = {0, 0};
    routine_t other = support_go_on(runtime, get_on, &o);
    CHECK_EQ(routine_runtime_run(runtime, fn, &o, NULL), 0);
    atomic_store(&o.stop, 1);
    CHECK_EQ(routine_join(other, NULL), 0);
    CHECK(handovers(runtime) >= at_least);
    routine_stats_t stats;
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_stats(runtime, &stats), 0);
    CHECK_EQ(stats.live, 0);
    CHECK_EQ(stats.total.spawned, stats.total.completed);
    CHECK_EQ(stats.parked, 0);
    CHECK_EQ(stats.stacks_live, 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

/* ---- loops and blocking calls ---- */

static void *compute(void *arg)
{
    outlast(arg, 3);
    return NULL;
}

static void *block(void *arg)
{
    sleep_them_out(arg, 3);
    return NULL;
}

static void *many_at_once(void *arg)
{
    routine_t h[6];
    for (size_t i = 0; i < COUNT_OF(h); i++)
        h[i] = go(i % 2 ? compute : block, arg);
    compute(arg);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    return NULL;
}

TEST(a_loop_does_not_stop_the_others)
{
    beside_others(compute, 1);
}

TEST(a_blocking_call_does_not_stop_the_others)
{
    beside_others(block, 1);
}

TEST(several_at_once_do_not_stop_the_others)
{
    beside_others(many_at_once, 2);
}

/* A blocking call that only another routine can end. */
static void *write_later(void *arg)
{
    CHECK_EQ(routine_sleep(20 * ROUTINE_MS), 0);
    CHECK_EQ(write(*(int *)arg, "x", 1), 1);
    return NULL;
}

static void *read_by_libc(void *arg)
{
    int ends[2];
    char c = 0;
    (void)arg;
    CHECK_EQ(pipe(ends), 0);
    routine_t h = go(write_later, &ends[1]);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0); /* it sleeps now */
    CHECK_EQ(read(ends[0], &c, 1), 1);
    CHECK_EQ(routine_join(h, NULL), 0);
    close(ends[0]);
    close(ends[1]);
    return NULL;
}

TEST(a_read_of_libc_that_another_routine_ends)
{
    beside_others(read_by_libc, 1);
}

/* R8: it is in the library most of the time, and never waits. */
static void *nothing(void *arg)
{
    return arg;
}

static void *join_for_ever(void *arg)
{
    struct others *o = arg;
    const long until = atomic_load(&o->turns) + 3;
    while (atomic_load(&o->turns) < until)
        CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    return NULL;
}

static void *try_for_ever(void *arg)
{
    struct others *o = arg;
    const long until = atomic_load(&o->turns) + 3;
    chan_t *ch = chan_make(int, 1);
    int value = 1;
    while (atomic_load(&o->turns) < until) {
        CHECK_EQ(chan_try_send(ch, &value), 0);
        CHECK_EQ(chan_try_recv(ch, &value), 0);
    }
    chan_unref(ch);
    return NULL;
}

static void *detach_for_ever(void *arg)
{
    struct others *o = arg;
    const long until = atomic_load(&o->turns) + 3;
    for (long n = 0; atomic_load(&o->turns) < until; n++)
        if (n < 1000000)
            CHECK_EQ(go_detached(nothing, NULL), 0);
    return NULL;
}

TEST(a_loop_of_go_and_join_lets_others_run)
{
    beside_others(join_for_ever, 0);
}

TEST(a_loop_of_calls_that_never_wait_lets_others_run)
{
    beside_others(try_for_ever, 1);
}

TEST(a_loop_of_starts_lets_others_run)
{
    beside_others(detach_for_ever, 0);
}

/* ---- without a worker ---- */

/* Everything that does not block, under a lock of the C library that only its thread can release. */
static void *hold_a_lock(void *arg)
{
    static pthread_mutex_t lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    struct others *o = arg;
    chan_t *ch = chan_make(long, CHAN_UNBOUNDED), *full = chan_make(long, 1);
    routine_mutex_t mutex = ROUTINE_MUTEX_INITIALIZER;
    routine_rwlock_t rwlock = ROUTINE_RWLOCK_INITIALIZER;
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(1);
    routine_cond_t cond = ROUTINE_COND_INITIALIZER;
    routine_waitgroup_t group = ROUTINE_WAITGROUP_INITIALIZER;
    routine_oneshot_t shot = {0};
    routine_t children[10];
    const routine_t me = routine_self();
    long value = 7;
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(pthread_mutex_lock(&lock), 0);
        const pthread_t thread = pthread_self();
        outlast(o, 3); /* by now the worker is gone */
        for (size_t i = 0; i < COUNT_OF(children); i++)
            children[i] = go(nothing, &value);
        CHECK_EQ(go_detached(nothing, NULL), 0);
        CHECK_EQ(chan_send(ch, &value), 0);
        CHECK_EQ(chan_recv(ch, &value), 0);
        CHECK_EQ(chan_try_send(full, &value), 0);
        CHECK_EQ(chan_try_send(full, &value), -EAGAIN);
        CHECK_EQ(chan_select(CHAN_RECV(full, &value), CHAN_DEFAULT), 0);
        CHECK_EQ(routine_mutex_lock(&mutex), 0);
        CHECK_EQ(routine_mutex_trylock(&mutex), -EBUSY);
        CHECK_EQ(routine_mutex_unlock(&mutex), 0);
        CHECK_EQ(routine_rwlock_wrlock(&rwlock), 0);
        CHECK_EQ(routine_rwlock_unlock(&rwlock), 0);
        CHECK_EQ(routine_sem_wait(&sem), 0);
        CHECK_EQ(routine_sem_post(&sem), 0);
        CHECK_EQ(routine_cond_broadcast(&cond), 0);
        CHECK_EQ(routine_waitgroup_add(&group, 1), 0);
        CHECK_EQ(routine_waitgroup_done(&group), 0);
        CHECK_EQ(routine_waitgroup_wait(&group), 0);
        routine_oneshot_init(&shot);
        CHECK_EQ(routine_oneshot_send(&shot, &value), 0);
        CHECK_EQ(routine_oneshot_recv(&shot, NULL), 0);
        CHECK_EQ(routine_check(), 0);
        CHECK(support_same(routine_self(), me));
        CHECK(routine_runtime_current() != NULL);
        for (int i = 0; i < 100; i++) { /* memory of the library, to and fro */
            chan_t *more = chan_make(char, 0);
            CHECK(more != NULL);
            chan_unref(more);
        }
        CHECK(pthread_equal(thread, pthread_self()));
        CHECK_EQ(pthread_mutex_unlock(&lock), 0);
        for (size_t i = 0; i < COUNT_OF(children); i++) {
            void *result = NULL;
            CHECK_EQ(routine_join(children[i], &result), 0);
            CHECK(result == &value);
        }
    }
    chan_unref(ch);
    chan_unref(full);
    return NULL;
}

TEST(what_does_not_block_stays_on_the_thread_with_a_lock_of_libc_held)
{
    beside_others(hold_a_lock, 1);
}

/* Two that want the same lock of the C library; one holds it while the other blocks in it. */
static pthread_mutex_t foreign = PTHREAD_MUTEX_INITIALIZER;

static void *want_the_lock(void *arg)
{
    pthread_mutex_lock(&foreign);
    atomic_fetch_add((_Atomic int *)arg, 1);
    pthread_mutex_unlock(&foreign);
    return NULL;
}

static void *lend_the_lock(void *arg)
{
    _Atomic int got = 0;
    pthread_mutex_lock(&foreign);
    routine_t a = go(want_the_lock, &got), b = go(want_the_lock, &got);
    outlast(arg, 20); /* both wait for it, on their threads */
    CHECK_EQ(go_detached(nothing, NULL), 0);
    pthread_mutex_unlock(&foreign);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    CHECK_EQ(atomic_load(&got), 2);
    return NULL;
}

TEST(a_lock_of_libc_across_the_hand_over)
{
    beside_others(lend_the_lock, 1);
}

/* Everything that blocks, right after the worker was lost. */
static void *send_one(void *arg)
{
    int value = 5;
    CHECK_EQ(chan_send(arg, &value), 0);
    return NULL;
}

static int child(void *arg)
{
    outlast(arg, 2);
    return 0;
}

static void *wait_in_every_way(void *arg)
{
    struct others *o = arg;
    chan_t *ch = chan_make(int, 0);
    int value = 0, error = -1;
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(0);
    routine_mutex_t mutex = ROUTINE_MUTEX_INITIALIZER;
    routine_cond_t cond = ROUTINE_COND_INITIALIZER;

    outlast(o, 2);
    routine_t h = go(send_one, ch);
    CHECK_EQ(chan_recv(ch, &value), 0);
    CHECK_EQ(value, 5);
    CHECK_EQ(routine_join(h, NULL), 0);
    outlast(o, 2);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    outlast(o, 2);
    routine_yield();
    outlast(o, 2);
    h = go(send_one, ch);
    CHECK_EQ(chan_select(CHAN_RECV(ch, &value), CHAN_TIMEOUT(100 * ROUTINE_S)), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    outlast(o, 2);
    CHECK_EQ(chan_select(CHAN_RECV(ch, &value), CHAN_TIMEOUT(ROUTINE_MS)), 1);
    {
        routine_with_timeout(ROUTINE_MS);
        outlast(o, 20); /* two milliseconds: it has passed */
        CHECK_EQ(routine_sem_wait(&sem), -ETIMEDOUT);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    CHECK_EQ(routine_check(), 0);
    outlast(o, 2);
    CHECK_EQ(routine_mutex_lock(&mutex), 0);
    outlast(o, 2);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_cond_wait(&cond, &mutex), -ETIMEDOUT);
    }
    outlast(o, 2);
    CHECK_EQ(routine_mutex_unlock(&mutex), 0);
    outlast(o, 2);
    {
        routine_scope(s);
        outlast(o, 2);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(routine_scope_go(&s, child, o), 0);
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, 0);
    }
    outlast(o, 2);
    h = go(compute, o);
    CHECK_EQ(routine_join(h, NULL), 0);
    chan_unref(ch);
    return NULL;
}

TEST(whatever_blocks_comes_back_to_a_worker)
{
    beside_others(wait_in_every_way, 5);
}

/* In place: the parent's thread loses its worker in a child, at each depth. */
struct depth {
    struct others *others;
    int left;
};

static void *deep(void *arg)
{
    struct depth d = *(struct depth *)arg;
    if (d.left == 0)
        return NULL;
    d.left--;
    routine_t h = go(deep, &d), sibling = go(nothing, &d);
    if (d.left % 3 == 0)
        outlast(d.others, 2);
    CHECK_EQ(routine_join(sibling, NULL), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    if (d.left % 3 == 1)
        outlast(d.others, 2);
    return NULL;
}

static void *go_deep(void *arg)
{
    struct depth d = {arg, 24};
    return deep(&d);
}

TEST(children_in_place_lose_the_worker_of_their_parents)
{
    beside_others(go_deep, 4);
}

/* ---- ends ---- */

static _Atomic int destroyed;
static struct others *theirs; /* of the test that runs */

static void destructor(void *value)
{
    CHECK(value == &destroyed);
    outlast(theirs, 2);
    CHECK_EQ(routine_sleep(ROUTINE_US), 0);
    outlast(theirs, 2);
    atomic_fetch_add(&destroyed, 1);
}

static void deferred(void *arg)
{
    outlast(theirs, 2);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

struct ending {
    routine_key_t key;
    _Atomic int defers;
};

static void *end_by_return(void *arg)
{
    struct ending *e = arg;
    routine_defer(deferred, &e->defers);
    CHECK_EQ(routine_setspecific(e->key, &destroyed), 0);
    outlast(theirs, 2);
    return e;
}

static void *end_by_exit(void *arg)
{
    struct ending *e = arg;
    routine_defer(deferred, &e->defers);
    CHECK_EQ(routine_setspecific(e->key, &destroyed), 0);
    outlast(theirs, 2);
    routine_exit(e);
}

static void *end_by_panic(void *arg)
{
    struct ending *e = arg;
    routine_defer(deferred, &e->defers);
    CHECK_EQ(routine_setspecific(e->key, &destroyed), 0);
    outlast(theirs, 2);
    routine_panic("at the end");
}

static void *end_in_every_way(void *arg)
{
    theirs = arg;
    struct ending e = {.defers = 0};
    atomic_store(&destroyed, 0);
    CHECK_EQ(routine_key_create(&e.key, destructor), 0);
    for (int in_place = 0; in_place <= 1; in_place++) {
        routine_fn *const ways[] = {end_by_return, end_by_exit, end_by_panic};
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
            void *result = NULL;
            routine_t h = go(ways[i], &e);
            if (!in_place)
                CHECK_EQ(routine_sleep(ROUTINE_MS), 0); /* it has begun */
            CHECK_EQ(routine_join(h, &result), ways[i] == end_by_panic ? -ENOTRECOVERABLE : 0);
            if (ways[i] == end_by_panic)
                CHECK_STR(routine_panic_message(), "at the end");
            else
                CHECK(result == &e);
        }
    }
    CHECK_EQ(atomic_load(&e.defers), 6);
    CHECK_EQ(atomic_load(&destroyed), 6);
    CHECK_EQ(routine_key_delete(e.key), 0);
    return NULL;
}

TEST(every_end_without_a_worker)
{
    beside_others(end_in_every_way, 6);
}

/* ---- callbacks ---- */

static void first(void *arg)
{
    outlast(arg, 2);
}

static void tick(void *arg)
{
    outlast(theirs, 2);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static bool hook(const routine_panic_t *panic)
{
    CHECK_STR(panic->message, "unheard");
    outlast(theirs, 2);
    return true;
}

static void *panic_unheard(void *arg)
{
    (void)arg;
    routine_panic("unheard");
}

static void *call_back(void *arg)
{
    theirs = arg;
    routine_once_t once = ROUTINE_ONCE_INITIALIZER;
    CHECK_EQ(routine_once_with(&once, first, arg), 0);
    _Atomic int ticks = 0;
    routine_timer_t *timer = routine_timer_new(0, 0, tick, &ticks);
    CHECK(timer != NULL);
    while (atomic_load(&ticks) == 0)
        continue;
    routine_timer_free(timer);
    routine_panic_hook_t *before = routine_set_panic_hook(hook);
    CHECK_EQ(go_detached(panic_unheard, NULL), 0);
    outlast(arg, 20);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    routine_set_panic_hook(before);
    return NULL;
}

TEST(callbacks_of_the_user_do_not_stop_the_others)
{
    beside_others(call_back, 3);
}

/* ---- threads ---- */

static size_t threads_of(routine_runtime_t *runtime)
{
    routine_stats_t stats;
    CHECK_EQ(routine_stats(runtime, &stats), 0);
    return stats.threads;
}

static void *compute_often(void *arg)
{
    for (int i = 0; i < 20; i++) {
        outlast(arg, 2);
        CHECK_EQ(routine_sleep(0), 0);
        routine_yield();
    }
    CHECK(threads_of(NULL) <= 4);
    return NULL;
}

TEST(spare_threads_are_used_again)
{
    beside_others(compute_often, 10);
}

TEST(spare_threads_end)
{
    const int64_t before = atomic_exchange(&rt_threads_patience, 20 * ROUTINE_MS);
    routine_runtime_t *runtime = support_runtime(1);
    struct others o = {0, 0};
    routine_t other = support_go_on(runtime, get_on, &o);
    CHECK_EQ(routine_runtime_run(runtime, many_at_once, &o, NULL), 0);
    while (threads_of(runtime) > 1)
        usleep(1000);
    atomic_store(&o.stop, 1);
    CHECK_EQ(routine_join(other, NULL), 0);
    support_runtime_end(runtime);
    atomic_store(&rt_threads_patience, before);
}

struct gate {
    _Atomic int inside, open;
};

static void *wait_at_the_gate(void *arg)
{
    struct gate *g = arg;
    atomic_fetch_add(&g->inside, 1);
    while (!atomic_load(&g->open))
        usleep(1000);
    return NULL;
}

TEST(no_more_threads_than_allowed)
{
    enum { SPARE = 3, MORE = 8 };
    routine_runtime_t *runtime = NULL;
    const routine_runtime_config_t config = {.workers = 2, .spare_threads = SPARE};
    CHECK_EQ(routine_runtime_new(&runtime, &config), 0);
    struct gate g = {0, 0};
    routine_t h[MORE];
    for (int i = 0; i < MORE; i++)
        h[i] = support_go_on(runtime, wait_at_the_gate, &g);
    routine_stats_t stats;
    do {
        usleep(1000);
        CHECK_EQ(routine_stats(runtime, &stats), 0);
    } while (stats.refused == 0);
    while (atomic_load(&g.inside) < 2 + SPARE)
        usleep(1000);
    usleep(20000);
    CHECK_EQ(routine_stats(runtime, &stats), 0);
    CHECK_EQ(stats.threads, 2 + SPARE);
    CHECK_EQ(atomic_load(&g.inside), 2 + SPARE);
    CHECK_EQ(stats.handovers, SPARE);
    atomic_store(&g.open, 1);
    for (int i = 0; i < MORE; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(atomic_load(&g.inside), MORE);
    support_runtime_end(runtime);
}

/* Nobody waits: nothing is taken. */
static void *compute_alone(void *arg)
{
    const int64_t until = routine_now() + 60 * ROUTINE_MS;
    while (routine_now() < until)
        continue;
    return arg;
}

TEST(one_that_is_alone_keeps_its_worker)
{
    routine_runtime_t *runtime = support_runtime(1);
    CHECK_EQ(routine_runtime_run(runtime, compute_alone, NULL, NULL), 0);
    CHECK_EQ(handovers(runtime), 0);
    CHECK_EQ(threads_of(runtime), 1);
    support_runtime_end(runtime);
}

/* ---- offenders ---- */

TEST(offenders_are_named)
{
    routine_runtime_t *runtime = support_runtime(1);
    struct others o = {0, 0};
    struct gate g = {0, 0};
    routine_t other = support_go_on(runtime, get_on, &o);
    routine_offender_t list[ROUTINE_OFFENDERS_MAX];
    CHECK_EQ(routine_offenders(runtime, list, COUNT_OF(list)), 0);
    const routine_attr_t named = {.name = "sluggard", .runtime = runtime};
    routine_t a = go_with(&named, wait_at_the_gate, &g);
    const int line = __LINE__ - 1;
    size_t count;
    while ((count = routine_offenders(runtime, list, COUNT_OF(list))) == 0)
        usleep(1000);
    char where[sizeof list[0].where];
    snprintf(where, sizeof where, "%s:%d", __FILE__, line);
    CHECK_EQ(count, 1);
    CHECK_STR(list[0].where, where);
    CHECK_STR(list[0].name, "sluggard");
    CHECK_EQ(list[0].count, 1);
    CHECK(list[0].now);
    CHECK(list[0].longest >= 8 * ROUTINE_MS);
    usleep(20000);
    CHECK_EQ(routine_offenders(runtime, list, 1), 1);
    CHECK(list[0].longest >= 28 * ROUTINE_MS);
    atomic_store(&g.open, 1);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_offenders(runtime, list, 1), 1);
    CHECK(!list[0].now);
    CHECK_EQ(list[0].count, 1);
    CHECK_EQ(list[0].total, list[0].longest);
    CHECK_EQ(routine_offenders(runtime, list, 0), 0);
    char text[4096] = "";
    FILE *stream = fmemopen(text, sizeof text, "w");
    routine_runtime_stats_print(runtime, stream);
    fclose(stream);
    CHECK(strstr(text, "sluggard") != NULL);
    CHECK(strstr(text, where) != NULL);
    atomic_store(&o.stop, 1);
    CHECK_EQ(routine_join(other, NULL), 0);
    support_runtime_end(runtime);
}

/* ---- the end of a runtime, fork ---- */

TEST(a_shutdown_waits_for_one_without_a_worker)
{
    routine_runtime_t *runtime = support_runtime(1);
    struct gate g = {0, 0};
    struct others o = {0, 0};
    routine_t h = support_go_on(runtime, wait_at_the_gate, &g), other = support_go_on(runtime, get_on, &o);
    while (atomic_load(&o.turns) == 0 || atomic_load(&g.inside) == 0)
        usleep(1000);
    atomic_store(&o.stop, 1);
    CHECK_EQ(routine_join(other, NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, 20 * ROUTINE_MS), -ETIMEDOUT);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, 20 * ROUTINE_MS), -ETIMEDOUT);
    atomic_store(&g.open, 1);
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

static void *fork_without(void *arg)
{
    outlast(arg, 2);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        void *result = NULL;
        int value = 3;
        chan_t *ch = chan_make(int, 1);
        const bool well = routine_self().block == NULL && chan_send(ch, &value) == 0 &&
                          routine_join(go(nothing, &value), &result) == 0 && result == &value &&
                          routine_sleep(ROUTINE_MS) == 0;
        _exit(well ? 0 : 1);
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    CHECK_EQ(status, 0);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    return NULL;
}

TEST(a_fork_without_a_worker)
{
    if (!SUPPORT_ASAN && !SUPPORT_TSAN) /* their allocators keep locks over a fork */
        beside_others(fork_without, 1);
}

/* ---- cases: processes of their own ---- */

/* Stopped and continued: that is not the routines' doing. */
static int be_stopped(void)
{
    routine_runtime_t *runtime = support_runtime(2);
    struct others o = {0, 0};
    routine_t h[4];
    for (size_t i = 0; i < COUNT_OF(h); i++)
        h[i] = support_go_on(runtime, get_on, &o);
    for (int i = 0; i < 20; i++) {
        const pid_t pid = fork();
        if (pid == 0) {
            usleep(30000);
            kill(getppid(), SIGCONT);
            _exit(0);
        }
        kill(getpid(), SIGSTOP);
        waitpid(pid, NULL, 0);
        const long turns = atomic_load(&o.turns);
        while (atomic_load(&o.turns) < turns + 20)
            usleep(1000);
    }
    atomic_store(&o.stop, 1);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(handovers(runtime), 0);
    CHECK_EQ(threads_of(runtime), 2);
    return 0;
}

/* Without membarrier nothing is taken, and everything else is as ever. */
static int have_no_membarrier(void)
{
    routine_runtime_t *runtime = support_runtime(1);
    struct others o = {0, 0};
    routine_t other = support_go_on(runtime, get_on, &o);
    while (atomic_load(&o.turns) < 3)
        usleep(1000);
    CHECK_EQ(routine_runtime_run(runtime, compute_alone, NULL, NULL), 0);
    const long turns = atomic_load(&o.turns);
    while (atomic_load(&o.turns) < turns + 3)
        usleep(1000);
    atomic_store(&o.stop, 1);
    CHECK_EQ(routine_join(other, NULL), 0);
    CHECK_EQ(handovers(runtime), 0);
    support_runtime_end(runtime);
    return 0;
}

/* A signal handler that uses the library interrupts it sooner or later. */
static chan_t *signalled;

static void handler(int signo)
{
    CHECK(chan_try_send(signalled, &signo) != -EPIPE);
}

static _Atomic pthread_t interrupted;
static _Atomic int is_there;

static void *be_interrupted(void *arg)
{
    atomic_store(&interrupted, pthread_self());
    atomic_store(&is_there, 1);
    while (arg == NULL)
        CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    return NULL;
}

static int use_the_library_in_a_handler(void)
{
    signalled = chan_make(int, 1 << 20);
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(SIGPROF, &action, NULL); /* which threads of workers take */
    routine_t h = go(be_interrupted, NULL);
    while (!atomic_load(&is_there))
        usleep(100);
    for (;;) {
        CHECK_EQ(pthread_kill(atomic_load(&interrupted), SIGPROF), 0);
        usleep(50);
    }
    return routine_join(h, NULL);
}

static const struct support_case cases[] = {
    {"be_stopped", be_stopped},
    {"have_no_membarrier", have_no_membarrier},
    {"use_the_library_in_a_handler", use_the_library_in_a_handler},
};

TEST(a_stopped_process_makes_no_threads)
{
    struct support_result r;
    CASE_EXITS(&r, "be_stopped", NULL, 0);
}

TEST(without_membarrier)
{
    struct support_result r;
    const char *const variables[] = {"ROUTINES_MEMBARRIER=0", NULL};
    CASE_EXITS(&r, "have_no_membarrier", variables, 0);
}

TEST(a_signal_handler_inside_the_library_panics)
{
    struct support_result r;
    if (SUPPORT_TSAN) /* it puts handlers off */
        return;
    CASE_DIES(&r, "use_the_library_in_a_handler", NULL, SIGABRT);
    CASE_SAYS(&r, "use_the_library_in_a_handler", "signal handler");
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_does_not_stop_the_others),
        cmocka_unit_test(a_blocking_call_does_not_stop_the_others),
        cmocka_unit_test(several_at_once_do_not_stop_the_others),
        cmocka_unit_test(a_read_of_libc_that_another_routine_ends),
        cmocka_unit_test(a_loop_of_go_and_join_lets_others_run),
        cmocka_unit_test(a_loop_of_calls_that_never_wait_lets_others_run),
        cmocka_unit_test(a_loop_of_starts_lets_others_run),
        cmocka_unit_test(what_does_not_block_stays_on_the_thread_with_a_lock_of_libc_held),
        cmocka_unit_test(a_lock_of_libc_across_the_hand_over),
        cmocka_unit_test(whatever_blocks_comes_back_to_a_worker),
        cmocka_unit_test(children_in_place_lose_the_worker_of_their_parents),
        cmocka_unit_test(every_end_without_a_worker),
        cmocka_unit_test(callbacks_of_the_user_do_not_stop_the_others),
        cmocka_unit_test(spare_threads_are_used_again),
        cmocka_unit_test(spare_threads_end),
        cmocka_unit_test(no_more_threads_than_allowed),
        cmocka_unit_test(one_that_is_alone_keeps_its_worker),
        cmocka_unit_test(offenders_are_named),
        cmocka_unit_test(a_shutdown_waits_for_one_without_a_worker),
        cmocka_unit_test(a_fork_without_a_worker),
        cmocka_unit_test(a_stopped_process_makes_no_threads),
        cmocka_unit_test(without_membarrier),
        cmocka_unit_test(a_signal_handler_inside_the_library_panics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
