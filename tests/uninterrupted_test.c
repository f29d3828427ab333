/* SPDX-License-Identifier: MIT
 *
 * Tests of what neither a cancellation nor a limit of time cuts short: the wait for a once function, the way
 * back from a condition wait, every call that ends something or only tries, and the end of a scope.
 *
 * ctest: workers
 */
#include "chan_support.h"

#include "routines/scope.h"
#include "routines/sync.h"

/* ---- once ---- */

static routine_once_t once;
static routine_oneshot_t once_gate;
static _Atomic int once_begun, once_over;

static void once_body(void)
{
    atomic_store(&once_begun, 1);
    CHECK_EQ(routine_oneshot_recv(&once_gate, NULL), 0);
    atomic_store(&once_over, 1);
}

static void *once_caller(void *arg)
{
    CHECK_EQ(routine_once(&once, once_body), 0);
    return arg;
}

static _Atomic int once_waits;

static void *once_waiter(void *arg)
{
    {
        routine_with_timeout(arg != NULL ? 1000 : ROUTINE_NEVER);
        atomic_fetch_add(&once_waits, 1);
        CHECK_EQ(routine_once(&once, once_body), 0);
        CHECK_EQ(atomic_load(&once_over), 1);
    }
    return NULL;
}

static void *canceled_once(void *arg)
{
    CHECK_EQ(routine_cancel(routine_self()), 0);
    return once_waiter(arg);
}

static void *direct_once(void *arg)
{
    enum { N = 12 };
    routine_t h[N];
    memset(&once, 0, sizeof once);
    routine_oneshot_init(&once_gate);
    atomic_store(&once_begun, 0);
    atomic_store(&once_over, 0);
    atomic_store(&once_waits, 0);
    const routine_t caller = go(once_caller, NULL);
    WAIT_UNTIL(atomic_load(&once_begun));
    for (int i = 0; i < N; i++)
        h[i] = go(i % 4 == 3 ? canceled_once : once_waiter, i % 2 ? &once : NULL);
    WAIT_UNTIL(atomic_load(&once_waits) == N);
    for (int i = 0; i < N; i += 3)
        CHECK_EQ(routine_cancel(h[i]), 0);
    CHECK_EQ(routine_sleep(2 * ROUTINE_MS), 0);
    for (int i = 0; i < N; i++)
        CHECK(!routine_is_finished(h[i]));
    CHECK_EQ(routine_oneshot_send(&once_gate, NULL), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(routine_join(caller, NULL), 0);
    return arg;
}

TEST(a_wait_for_a_once_function_is_not_cut_short)
{
    direct(direct_once, NULL);
    for (int i = 0; i < 5; i++) {
        support_in_routine(direct_once, NULL);
        direct_once(NULL);
    }
}

/* ---- the way back from a condition wait ---- */

struct relock {
    routine_mutex_t mutex;
    routine_cond_t cond;
    int64_t limit;
    bool waits; /* under the mutex */
    _Atomic bool comes, over;
    int rc;
};

static void *wait_and_relock(void *arg)
{
    struct relock *r = arg;
    CHECK_EQ(routine_mutex_lock(&r->mutex), 0);
    atomic_store(&r->comes, true);
    r->waits = true;
    {
        routine_with_timeout(r->limit);
        r->rc = routine_cond_wait(&r->cond, &r->mutex);
        r->waits = false;
        atomic_store(&r->over, true);
        CHECK_EQ(routine_mutex_unlock(&r->mutex), 0);
    }
    return NULL;
}

/* Whatever has ended a condition wait, it comes back with the mutex, and not before it can have it. */
static void *direct_relock(void *arg)
{
    for (int round = 0; round < 30; round++) {
        struct relock r = {.limit = round % 3 == 1 ? 100 * ROUTINE_US : ROUTINE_NEVER};
        const routine_t h = go(wait_and_relock, &r);
        WAIT_UNTIL(atomic_load(&r.comes));
        CHECK_EQ(routine_mutex_lock(&r.mutex), 0);
        CHECK(r.waits || r.limit != ROUTINE_NEVER); /* or the limit was faster than we */
        if (round % 3 == 0)
            CHECK_EQ(routine_cancel(h), 0);
        if (round % 3 == 2) {
            CHECK_EQ(routine_cond_signal(&r.cond), 0);
            CHECK_EQ(routine_cancel(h), 0); /* too late: only the relock remains */
        }
        CHECK_EQ(routine_sleep(500 * ROUTINE_US), 0);
        if (round % 3 == 0)
            CHECK_EQ(routine_cancel(h), 0);       /* as it is about to lock */
        CHECK(!r.waits || !atomic_load(&r.over)); /* it still is waiting for the mutex, then */
        CHECK_EQ(routine_mutex_unlock(&r.mutex), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(r.rc, round % 3 == 0 ? -ECANCELED : round % 3 == 1 ? -ETIMEDOUT : 0);
    }
    return arg;
}

TEST(a_condition_wait_comes_back_with_the_mutex)
{
    direct(direct_relock, NULL);
    support_in_routine(direct_relock, NULL);
    direct_relock(NULL);
}

/* ---- calls that end something ---- */

struct nap {
    _Atomic bool begun, over;
};

static int nap_child(void *arg)
{
    struct nap *n = arg;
    routine_shield();
    atomic_store(&n->begun, true);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    atomic_store(&n->over, true);
    return 0;
}

/* What ends something, and what never blocks, does what it is for. */
static void use_what_is_not_ended(int expected)
{
    chan_t *ch = MAKE(int, 2);
    routine_mutex_t mutex = ROUTINE_MUTEX_INITIALIZER;
    routine_rwlock_t rwlock = ROUTINE_RWLOCK_INITIALIZER;
    routine_cond_t cond = ROUTINE_COND_INITIALIZER;
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(1);
    routine_waitgroup_t group = ROUTINE_WAITGROUP_INITIALIZER;
    routine_oneshot_t oneshot = ROUTINE_ONESHOT_INITIALIZER;
    int x = 3;
    CHECK_EQ(routine_check(), expected);
    CHECK_EQ(chan_try_send(ch, &x), 0);
    CHECK_EQ(chan_try_recv(ch, &x), 0);
    CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
    CHECK_EQ(chan_select(CHAN_SEND(ch, &x), CHAN_DEFAULT), expected); /* no try: it looks */
    CHECK_EQ(chan_select(CHAN_DEFAULT), expected);
    CHECK_EQ(chan_len(ch), 0);
    CHECK_EQ(routine_mutex_trylock(&mutex), 0);
    CHECK_EQ(routine_mutex_unlock(&mutex), 0);
    CHECK_EQ(routine_rwlock_tryrdlock(&rwlock), 0);
    CHECK_EQ(routine_rwlock_unlock(&rwlock), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&rwlock), 0);
    CHECK_EQ(routine_rwlock_unlock(&rwlock), 0);
    CHECK_EQ(routine_cond_signal(&cond), 0);
    CHECK_EQ(routine_sem_trywait(&sem), 0);
    CHECK_EQ(routine_sem_post(&sem), 0);
    CHECK_EQ(routine_waitgroup_add(&group, 1), 0);
    CHECK_EQ(routine_waitgroup_done(&group), 0);
    CHECK_EQ(routine_oneshot_send(&oneshot, &x), 0);
    CHECK_EQ(routine_oneshot_try_recv(&oneshot, NULL), 0);
    CHECK_EQ(chan_close(ch), 0);
    CHECK_EQ(chan_try_send(ch, &x), -EPIPE);
    chan_unref(ch);
}

static void *canceled_use(void *arg)
{
    struct nap nap = {false, false};
    {
        routine_scope(scope);
        CHECK_EQ(routine_scope_go(&scope, nap_child, &nap), 0);
        WAIT_UNTIL(atomic_load(&nap.begun));
        CHECK_EQ(routine_cancel(routine_self()), 0);
        use_what_is_not_ended(-ECANCELED);
    } /* nor is this */
    CHECK(atomic_load(&nap.over));
    CHECK_EQ(routine_check(), -ECANCELED);
    return arg;
}

static void *expired_use(void *arg)
{
    struct nap nap = {false, false};
    {
        routine_scope(scope);
        CHECK_EQ(routine_scope_go(&scope, nap_child, &nap), 0);
        WAIT_UNTIL(atomic_load(&nap.begun));
        routine_with_timeout(0);
        use_what_is_not_ended(-ETIMEDOUT);
    }
    CHECK(atomic_load(&nap.over));
    CHECK_EQ(routine_check(), 0);
    return arg;
}

TEST(what_ends_something_is_never_cut_short)
{
    support_in_routine(canceled_use, NULL);
    support_in_routine(expired_use, NULL);
    expired_use(NULL);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_for_a_once_function_is_not_cut_short),
        cmocka_unit_test(a_condition_wait_comes_back_with_the_mutex),
        cmocka_unit_test(what_ends_something_is_never_cut_short),
    };
    return cmocka_run_group_tests_name("uninterrupted", tests, NULL, NULL);
}
