/* SPDX-License-Identifier: MIT
 *
 * Tests of scopes by many rounds and by chance: every way out of the braces, and every reason to cancel,
 * crossed with children in every kind of wait; cancellations that go down through trees, from several sides
 * at once; the places of limited scopes; random trees.
 *
 * The invariant is kept by counters and flags of the children themselves: when the braces have been left, all
 * that have begun have ended.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

#include "routines/chan.h"
#include "routines/scope.h"
#include "routines/sync.h"

#define AS_ARG(integer) ((void *)(intptr_t)(integer))
#define HOUR            (3600 * ROUTINE_S)

/* The panics of these tests that no join tells of are counted, not deadly. */
static _Atomic long panics, panics_told, panics_heard;

static bool hear_panic(const routine_panic_t *panic)
{
    CHECK(strncmp(panic->message, "on purpose", 10) == 0);
    atomic_fetch_add(&panics_heard, 1);
    return true;
}

/* ---- the kinds of waits ---- */

/* What can be waited for and never comes. The stage's director holds the locks. */
struct stage {
    chan_t *empty, *full;
    routine_mutex_t mutex, cond_mutex;
    routine_cond_t cond;
    routine_rwlock_t rwlock;
    routine_sem_t sem;
    routine_waitgroup_t group;
    routine_barrier_t barrier;
    routine_once_t once;
    _Atomic long begun, ended; /* children, and theirs */
};

typedef int wait_fn(struct stage *st);

static int child_sleeps(void *arg)
{
    struct stage *st = arg;
    atomic_fetch_add(&st->begun, 1);
    const int rc = routine_sleep(ROUTINE_NEVER);
    CHECK_EQ(rc, -ECANCELED);
    atomic_fetch_add(&st->ended, 1);
    return rc;
}

static int wait_sleep(struct stage *st)
{
    (void)st;
    return routine_sleep(ROUTINE_NEVER);
}

static int wait_sleep_until(struct stage *st)
{
    (void)st;
    return routine_sleep_until(routine_now() + HOUR);
}

static int wait_recv(struct stage *st)
{
    int x = 77;
    const int rc = chan_recv(st->empty, &x);
    CHECK_EQ(x, 77);
    return rc;
}

static int wait_recv_under_limit(struct stage *st)
{
    routine_with_timeout(HOUR);
    return wait_recv(st);
}

static int wait_send(struct stage *st)
{
    const int x = 78;
    return chan_send(st->full, &x);
}

static int wait_select(struct stage *st)
{
    int x = 0;
    return chan_select(CHAN_RECV(st->empty, &x), CHAN_SEND(st->full, &x), CHAN_RECV(st->empty, NULL));
}

static int wait_select_with_timeout(struct stage *st)
{
    int x = 0;
    return chan_select(CHAN_RECV(st->empty, &x), CHAN_SEND(st->full, &x), CHAN_TIMEOUT(HOUR));
}

static int wait_select_of_nothing(struct stage *st)
{
    (void)st;
    return chan_select(CHAN_RECV((chan_t *)NULL, NULL));
}

static int wait_oneshot(struct stage *st)
{
    (void)st;
    routine_oneshot_t never = ROUTINE_ONESHOT_INITIALIZER;
    return routine_oneshot_recv(&never, NULL);
}

static int wait_mutex(struct stage *st)
{
    return routine_mutex_lock(&st->mutex);
}

static int wait_cond(struct stage *st)
{
    int rc = routine_mutex_lock(&st->cond_mutex);
    if (rc == 0) {
        rc = routine_cond_wait(&st->cond, &st->cond_mutex);
        CHECK_EQ(routine_mutex_unlock(&st->cond_mutex), 0); /* it is held, whatever happened */
    }
    return rc;
}

static int wait_rdlock(struct stage *st)
{
    return routine_rwlock_rdlock(&st->rwlock);
}

static int wait_wrlock(struct stage *st)
{
    return routine_rwlock_wrlock(&st->rwlock);
}

static int wait_sem(struct stage *st)
{
    return routine_sem_wait(&st->sem);
}

static int wait_group(struct stage *st)
{
    return routine_waitgroup_wait(&st->group);
}

static int wait_barrier(struct stage *st)
{
    return routine_barrier_wait(&st->barrier);
}

/* A scope of its own. */
static int wait_scope_join(struct stage *st)
{
    int error = 77;
    routine_scope(s);
    const int rc = routine_scope_go(&s, child_sleeps, st);
    CHECK(rc == 0 || rc == -ECANCELED);
    const int joined = routine_scope_join(&s, &error);
    CHECK(joined == -ECANCELED || (joined == 0 && error == 0)); /* the child may have been faster */
    return -ECANCELED;
}

/* A place in one. */
static int wait_slot(struct stage *st)
{
    routine_scope_limited(s, 1);
    const int rc = routine_scope_go(&s, child_sleeps, st);
    return rc != 0 ? rc : routine_scope_go(&s, child_sleeps, st);
}

static int wait_check(struct stage *st)
{
    int rc;
    (void)st;
    while ((rc = routine_check()) == 0)
        routine_yield();
    return rc;
}

/* From here on: they don't listen, and end by themselves. */
enum { LISTENING = 20, DEAF = 5, KINDS = LISTENING + DEAF };

static int wait_shielded(struct stage *st)
{
    (void)st;
    routine_shield();
    CHECK_EQ(routine_check(), 0);
    return routine_sleep(50 * ROUTINE_US);
}

static void *nap(void *arg)
{
    (void)routine_sleep(50 * ROUTINE_US);
    return arg;
}

static int wait_join(struct stage *st)
{
    (void)st;
    return routine_join(go(nap, NULL), NULL);
}

static void nap_once(void *arg)
{
    (void)nap(arg);
}

static int wait_once(struct stage *st)
{
    return routine_once_with(&st->once, nap_once, NULL);
}

static int compute(struct stage *st)
{
    (void)st;
    for (int i = 0; i < 20; i++)
        routine_yield();
    return 0;
}

static int compute_alone(struct stage *st)
{
    (void)st;
    for (volatile int i = 0; i < 20000; i = i + 1)
        ;
    return 0;
}

static wait_fn *const waits[] = {
    wait_sleep,
    wait_sleep_until,
    wait_recv,
    wait_recv_under_limit,
    wait_send,
    wait_select,
    wait_select_with_timeout,
    wait_select_of_nothing,
    wait_oneshot,
    wait_mutex,
    wait_cond,
    wait_rdlock,
    wait_wrlock,
    wait_sem,
    wait_group,
    wait_barrier,
    wait_scope_join,
    wait_slot,
    wait_check,
    wait_check,
    wait_shielded,
    wait_join,
    wait_once,
    compute,
    compute_alone,
};
_Static_assert(COUNT_OF(waits) == KINDS, "each kind has its function");

static void set_stage(struct stage *st)
{
    const int x = 79;
    memset(st, 0, sizeof *st);
    st->empty = chan_make(int, 0);
    st->full = chan_make(int, 1);
    if (st->empty == NULL || st->full == NULL)
        abort();
    CHECK_EQ(chan_try_send(st->full, &x), 0);
    routine_mutex_init(&st->mutex);
    routine_mutex_init(&st->cond_mutex);
    routine_cond_init(&st->cond);
    routine_rwlock_init(&st->rwlock);
    CHECK_EQ(routine_sem_init(&st->sem, 0), 0);
    routine_waitgroup_init(&st->group);
    CHECK_EQ(routine_waitgroup_add(&st->group, 1), 0);
    CHECK_EQ(routine_barrier_init(&st->barrier, 1000000), 0);
    CHECK_EQ(routine_mutex_trylock(&st->mutex), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&st->rwlock), 0);
}

/* Nothing of all those waits is left behind. */
static void strike_stage(struct stage *st)
{
    int x = 0;
    size_t permits = 77;
    CHECK_EQ(atomic_load(&st->begun), atomic_load(&st->ended));
    CHECK_EQ(routine_mutex_unlock(&st->mutex), 0);
    CHECK_EQ(routine_mutex_trylock(&st->mutex), 0);
    CHECK_EQ(routine_mutex_unlock(&st->mutex), 0);
    CHECK_EQ(routine_mutex_trylock(&st->cond_mutex), 0);
    CHECK_EQ(routine_mutex_unlock(&st->cond_mutex), 0);
    CHECK_EQ(routine_rwlock_unlock(&st->rwlock), 0);
    CHECK_EQ(routine_rwlock_trywrlock(&st->rwlock), 0);
    CHECK_EQ(routine_rwlock_unlock(&st->rwlock), 0);
    CHECK_EQ(routine_sem_getvalue(&st->sem, &permits), 0);
    CHECK_EQ(permits, 0);
    CHECK_EQ(routine_waitgroup_done(&st->group), 0);
    CHECK_EQ(chan_try_send(st->empty, &x), -EAGAIN);
    CHECK_EQ(chan_try_recv(st->full, &x), 0);
    CHECK_EQ(x, 79);
    CHECK_EQ(chan_try_recv(st->full, &x), -EAGAIN);
    chan_unref(st->empty);
    chan_unref(st->full);
}

/* A child: its kind, and how far it is. */
struct actor {
    struct stage *stage;
    int kind;
    _Atomic int state; /* 0, 1: begun, 2: ended */
};

static int act(void *arg)
{
    struct actor *a = arg;
    atomic_fetch_add(&a->stage->begun, 1);
    atomic_store(&a->state, 1);
    const int rc = waits[a->kind](a->stage);
    CHECK_EQ(rc, a->kind < LISTENING ? -ECANCELED : 0);
    atomic_store(&a->state, 2);
    atomic_fetch_add(&a->stage->ended, 1);
    return rc;
}

/* Which kinds, how many of them, and how far they are to come before something happens to them. */
enum { UNSTARTED, SOME_STARTED, ALL_STARTED, TIMINGS };

struct cast {
    struct stage *stage;
    struct actor actors[2 * KINDS];
    int count, timing;
};

static void choose_cast(struct cast *c, struct stage *st, uint64_t *seed)
{
    const uint64_t kinds = support_random(seed), choice = support_random(seed);
    c->stage = st;
    c->count = 0;
    c->timing = (int)(choice % TIMINGS);
    for (int kind = 0; kind < KINDS; kind++)
        if (choice / 3 % 8 == 0 || kinds >> kind & 1)
            for (int twice = 0; twice <= (int)(kinds >> (32 + kind) & 1); twice++)
                c->actors[c->count++] = (struct actor){st, kind, 0};
}

static void start_cast(routine_scope_t *s, struct cast *c)
{
    for (int i = 0; i < c->count; i++) {
        atomic_store(&c->actors[i].state, 0);
        const int rc = routine_scope_go(s, act, &c->actors[i]);
        CHECK_EQ(rc, 0);
    }
    if (c->timing == SOME_STARTED)
        for (int i = 0; i < 3; i++)
            routine_yield();
    else if (c->timing == ALL_STARTED)
        for (int i = 0; i < c->count; i++)
            WAIT_UNTIL(atomic_load(&c->actors[i].state) != 0);
}

/* Each by its own flag. */
static void look_at_flags(const struct cast *c)
{
    for (int i = 0; i < c->count; i++)
        CHECK(atomic_load(&c->actors[i].state) != 1);
    if (c->timing == ALL_STARTED)
        for (int i = 0; i < c->count; i++)
            CHECK_EQ(atomic_load(&c->actors[i].state), 2);
}

/* Also a defer of the braces around a scope. */
static void look(void *arg)
{
    const struct cast *c = arg;
    look_at_flags(c);
    CHECK_EQ(atomic_load(&c->stage->begun), atomic_load(&c->stage->ended));
}

/* ---- every way out ---- */

enum { FALL, BREAK, CONTINUE, RETURN, GOTO, DEEP_RETURN, EXIT, DEEP_EXIT, PANIC, DEEP_PANIC, WAYS };

static void look_and_free(void *arg)
{
    look_at_flags(arg);
    free(arg);
}

static SUPPORT_NOINLINE int leave_deep(routine_scope_t *s, struct cast *c, int way, int depth)
{
    volatile char frame[100];
    frame[0] = 1;
    if (depth > 0)
        return leave_deep(s, c, way, depth - 1) + frame[0] - 1;
    start_cast(s, c);
    routine_scope(own); /* which ends first */
    struct cast *mine = calloc(1, sizeof *mine);
    if (mine == NULL)
        abort();
    routine_defer(look_and_free, mine);
    uint64_t seed = (uint64_t)way + 1;
    choose_cast(mine, c->stage, &seed);
    mine->timing = c->timing;
    {
        routine_scope(inner);
        start_cast(&inner, mine);
        if (way == DEEP_EXIT)
            routine_exit(c);
        if (way == DEEP_PANIC)
            routine_panic("on purpose, way %d", way);
        CHECK_EQ(routine_scope_go(&own, child_sleeps, c->stage), 0);
        if (way == DEEP_RETURN)
            return 5;
    }
    return 6;
}

static int leave(struct cast *c, int way)
{
    int turns = 0;
again:
    for (int i = 0; i < 2; i++) {
        routine_defer(look, c);
        routine_scope(s);
        if (way == DEEP_RETURN || way == DEEP_EXIT || way == DEEP_PANIC) {
            const int rc = leave_deep(&s, c, way, 10);
            CHECK_EQ(rc, 5);
            return 1;
        }
        start_cast(&s, c);
        if (way == BREAK)
            break;
        if (way == CONTINUE)
            continue;
        if (way == RETURN)
            return 1;
        if (way == GOTO && turns++ == 0)
            goto again;
        if (way == EXIT)
            routine_exit(c);
        if (way == PANIC)
            routine_panic("on purpose, way %d", way);
    }
    look(c);
    return 0;
}

struct exit_try {
    struct cast *cast;
    int way;
};

static void *leave_as_routine(void *arg)
{
    const struct exit_try *try = arg;
    (void)leave(try->cast, try->way);
    return NULL;
}

TEST_EVERYWHERE(no_way_out_lets_a_child_outlive_the_braces)
{
    static _Atomic uint64_t seeds = 1;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15U;
    struct stage st;
    struct cast *cast = calloc(1, sizeof *cast);
    const long rounds = support_scale(200);
    if (cast == NULL)
        abort();
    set_stage(&st);
    for (long round = 0; round < rounds; round++) {
        const int way = (int)(round % WAYS);
        char message[64];
        choose_cast(cast, &st, &seed);
        if (way < EXIT && round / WAYS % 2) {
            (void)leave(cast, way); /* perhaps on a plain thread */
        } else {
            void *result = &result;
            struct exit_try try = {cast, way};
            const int rc = routine_join(go(leave_as_routine, &try), &result);
            CHECK_EQ(rc, way >= PANIC ? -ENOTRECOVERABLE : 0);
            if (way >= PANIC) {
                snprintf(message, sizeof message, "on purpose, way %d", way);
                CHECK_STR(routine_panic_message(), message);
            } else {
                CHECK(result == (way >= EXIT ? cast : NULL));
            }
        }
        look(cast);
    }
    strike_stage(&st);
    free(cast);
}

/* From the innermost outwards: while a scope ends, those around it are as before. */
struct nest {
    struct stage stage[3];
    _Atomic int looks;
};

static void look_at_inner(void *arg)
{
    struct nest *n = arg;
    const int which = 2 - atomic_fetch_add(&n->looks, 1); /* the one that has ended just now */
    CHECK_EQ(atomic_load(&n->stage[which].ended), 4);
    if (which > 0) {
        CHECK_EQ(routine_sleep(20 * ROUTINE_US), 0);
        CHECK_EQ(atomic_load(&n->stage[which - 1].ended), 0);
    }
}

static void *leave_nest(void *arg)
{
    struct nest *n = arg;
    routine_defer(look_at_inner, n);
    routine_scope(a);
    routine_defer(look_at_inner, n);
    routine_scope(b);
    routine_defer(look_at_inner, n);
    {
        routine_scope(c);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(routine_scope_go(&a, child_sleeps, &n->stage[0]), 0);
            CHECK_EQ(routine_scope_go(&b, child_sleeps, &n->stage[1]), 0);
            CHECK_EQ(routine_scope_go(&c, child_sleeps, &n->stage[2]), 0);
        }
        for (int i = 0; i < 3; i++)
            WAIT_UNTIL(atomic_load(&n->stage[i].begun) == 4);
        routine_exit(NULL);
    }
}

TEST_EVERYWHERE(scopes_end_from_the_innermost_outwards)
{
    for (int i = 0; i < 20; i++) {
        struct nest n;
        memset(&n, 0, sizeof n);
        CHECK_EQ(routine_join(go(leave_nest, &n), NULL), 0);
        CHECK_EQ(n.looks, 3);
    }
}

/* A defer inside of the braces comes before the end of the scope, and may still use it. */
struct late_join {
    routine_scope_t *scope;
    _Atomic long done;
};

static int nap_and_count(void *arg)
{
    CHECK_EQ(routine_sleep(30 * ROUTINE_US), 0);
    atomic_fetch_add((_Atomic long *)arg, 1);
    return 0;
}

static void join_in_defer(void *arg)
{
    struct late_join *l = arg;
    int error = 77;
    CHECK_EQ(routine_scope_go(l->scope, nap_and_count, (void *)&l->done), 0);
    CHECK_EQ(routine_scope_join(l->scope, &error), 0);
    CHECK_EQ(error, 0);
}

static void *exit_and_join(void *arg)
{
    struct late_join *l = arg;
    routine_scope(s);
    l->scope = &s;
    routine_defer(join_in_defer, l);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(routine_scope_go(&s, nap_and_count, (void *)&l->done), 0);
    routine_with_timeout(0);
    if (atomic_load(&l->done) >= 0)
        routine_exit(NULL);
    return NULL;
}

TEST_EVERYWHERE(a_defer_inside_still_joins)
{
    for (int i = 0; i < 20; i++) {
        struct late_join l = {0};
        CHECK_EQ(routine_join(go(exit_and_join, &l), NULL), 0);
        CHECK_EQ(atomic_load(&l.done), 6);
    }
}

/* Nobody touches it once it has ended: the memory is filled and freed at once. */
static int end_at_once(void *arg)
{
    return (int)(intptr_t)arg;
}

TEST_EVERYWHERE(its_memory_is_free_after_the_end)
{
    static _Atomic uint64_t seeds = 1000;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15U;
    const long rounds = support_scale(1000);
    for (long round = 0; round < rounds; round++) {
        const uint64_t choice = support_random(&seed);
        const int children = (int)(choice % 6), error = choice >> 8 & 7 ? 0 : -EIO;
        int told = 77;
        routine_scope_t *s = malloc(sizeof *s);
        if (s == NULL)
            abort();
        (void)routine_scope_begin(s, choice >> 12 & 3);
        for (int i = 0; i < children; i++) {
            const int rc = routine_scope_go(s, end_at_once, AS_ARG(error));
            CHECK(rc == 0 || (rc == -ECANCELED && error != 0));
        }
        if (choice >> 16 & 1) {
            CHECK_EQ(routine_scope_join(s, &told), 0);
            CHECK_EQ(told, children > 0 ? error : 0);
        } else if (choice >> 17 & 1) {
            routine_yield();
        }
        routine_scope_end(s);
        memset(s, 0xA5, sizeof *s);
        free(s);
    }
}

/* ---- every reason ---- */

enum {
    CANCELLED_BY_OWNER,
    CANCELLED_BY_CHILD,
    CANCELLED_BY_OTHER,
    A_CHILD_FAILS,
    A_CHILD_EXITS,
    A_CHILD_PANICS,
    A_CHILD_IS_LATE,
    OWNER_CANCELLED,
    OWNER_CANCELLED_BY_CHILD,
    REASONS
};

struct reason_try {
    struct cast *cast;
    int reason;
    routine_scope_t *scope;
    routine_t owner;
    _Atomic int open;
};

static int bring_about(void *arg)
{
    struct reason_try *t = arg;
    switch (t->reason) {
    case CANCELLED_BY_CHILD:
        routine_scope_cancel(t->scope);
        return 0;
    case A_CHILD_FAILS:
        return -EIO;
    case A_CHILD_EXITS:
        routine_exit(AS_ARG(-EIO));
    case A_CHILD_PANICS:
        routine_panic("on purpose, reason %d", t->reason);
    case A_CHILD_IS_LATE: {
        routine_with_timeout(20 * ROUTINE_US);
        return chan_recv(t->cast->stage->empty, NULL);
    }
    case OWNER_CANCELLED_BY_CHILD:
        CHECK_EQ(routine_cancel(t->owner), 0);
        return 0;
    default:
        return 0;
    }
}

static void *cancel_it(void *arg)
{
    struct reason_try *t = arg;
    if (t->reason == OWNER_CANCELLED)
        CHECK_EQ(routine_cancel(t->owner), 0);
    else
        routine_scope_cancel(t->scope);
    return NULL;
}

static void *try_reason(void *arg)
{
    struct reason_try *t = arg;
    const bool owner = t->reason == OWNER_CANCELLED || t->reason == OWNER_CANCELLED_BY_CHILD;
    const bool by_other = t->reason == OWNER_CANCELLED || t->reason == CANCELLED_BY_OTHER;
    const int expected = t->reason == A_CHILD_FAILS || t->reason == A_CHILD_EXITS ? -EIO
                         : t->reason == A_CHILD_PANICS                            ? -ENOTRECOVERABLE
                         : t->reason == A_CHILD_IS_LATE                           ? -ETIMEDOUT
                                                                                  : 0;
    int error = 77;
    routine_defer(look, t->cast);
    routine_scope(s);
    routine_t other = {NULL, 0};
    t->scope = &s;
    t->owner = routine_self();
    start_cast(&s, t->cast);
    if (by_other)
        other = go(cancel_it, t);
    else if (t->reason == CANCELLED_BY_OWNER)
        routine_scope_cancel(&s);
    else
        CHECK_EQ(routine_scope_go(&s, bring_about, t), 0);
    int rc = routine_scope_join(&s, &error);
    if (by_other)
        CHECK_EQ(routine_join(other, NULL), 0);
    if (owner && rc == -ECANCELED) {
        CHECK_EQ(error, 77);
        routine_shield();
        rc = routine_scope_join(&s, &error);
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(error, expected);
    if (error == -ENOTRECOVERABLE)
        CHECK(strncmp(routine_panic_message(), "on purpose, reason ", 19) == 0);
    CHECK_EQ(routine_check(), owner ? -ECANCELED : 0);
    look(t->cast);
    return NULL;
}

TEST_EVERYWHERE(every_reason_ends_every_wait)
{
    static _Atomic uint64_t seeds = 2000;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15U;
    struct stage st;
    struct reason_try t = {.cast = calloc(1, sizeof *t.cast)};
    const long rounds = support_scale(200);
    if (t.cast == NULL)
        abort();
    set_stage(&st);
    for (long round = 0; round < rounds; round++) {
        t.reason = (int)(round % REASONS);
        choose_cast(t.cast, &st, &seed);
        if (t.reason < OWNER_CANCELLED && round / REASONS % 2)
            (void)try_reason(&t);
        else
            CHECK_EQ(routine_join(go(try_reason, &t), NULL), 0);
        look(t.cast);
    }
    strike_stage(&st);
    free(t.cast);
}

/* ---- trees ---- */

struct branch {
    struct stage *stage;
    int fan, depth;
};

static void end_one(void *arg)
{
    atomic_fetch_add(&((struct stage *)arg)->ended, 1);
}

/* Ends when it is cancelled. The join at odd depths hears nothing of that, but the children do. */
static int branch(void *arg)
{
    const struct branch b = *(struct branch *)arg, below = {b.stage, b.fan, b.depth - 1};
    int error = 77, rc;
    if (b.depth == 0)
        return child_sleeps(b.stage);
    atomic_fetch_add(&b.stage->begun, 1);
    routine_defer(end_one, b.stage);
    routine_scope(s);
    for (int i = 0; i < b.fan; i++) {
        rc = routine_scope_go_copy(&s, branch, below);
        CHECK(rc == 0 || rc == -ECANCELED);
    }
    if (b.depth % 2) {
        routine_shield();
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, 0);
        return 0;
    }
    rc = routine_scope_join(&s, &error);
    CHECK(rc == -ECANCELED || (rc == 0 && error == 0));
    return rc;
}

static void *root(void *arg)
{
    (void)branch(arg);
    return NULL;
}

static void cancel_tree(int fan, int depth, long wait_for)
{
    struct stage st;
    set_stage(&st);
    struct branch b = {&st, fan, depth};
    routine_t h = go(root, &b);
    WAIT_UNTIL(atomic_load(&st.begun) >= wait_for);
    CHECK_EQ(routine_cancel(h), 0);
    const int rc = routine_join(h, NULL);
    CHECK(rc == 0 || (rc == -ECANCELED && wait_for == 0 && atomic_load(&st.begun) == 0));
    strike_stage(&st);
}

TEST(a_tree_of_ten_thousand)
{
    const int depth = support_slow() ? 3 : 4;
    const long all = depth == 3 ? 1111 : 11111;
    cancel_tree(10, depth, all);
    for (long part = 1; part < all; part *= 3)
        cancel_tree(10, depth, part);
}

TEST(a_chain_of_a_thousand)
{
    cancel_tree(1, 1000, 1001);
    for (long part = 1; part < 1000; part *= 2)
        cancel_tree(1, 1000, part);
}

TEST_EVERYWHERE(small_trees)
{
    const long rounds = support_scale(200);
    for (long i = 0; i < rounds; i++)
        cancel_tree(1 + (int)(i % 3), 1 + (int)(i / 3 % 4), i % 3); /* they have two at least */
}

/* Each has several scopes, of which the one under a shield is not reached, and leaves none of them before it
 * has seen that its own children and those below have ended. */
struct several {
    struct stage reached[3]; /* by depth */
    _Atomic long ready;
};

struct several_at {
    struct several *all;
    int depth;
};

static long reached_at(int depth)
{
    return depth == 2 ? 3 : depth == 1 ? 9 : 27;
}

static int own_several(void *arg)
{
    const struct several_at me = *(struct several_at *)arg, below = {me.all, me.depth - 1};
    struct stage *reached = &me.all->reached[me.depth];
    routine_scope(a);
    routine_scope(b);
    routine_scope_limited(c, 5);
    CHECK_EQ(routine_scope_go(&a, child_sleeps, reached), 0);
    CHECK_EQ(routine_scope_go(&b, child_sleeps, reached), 0);
    CHECK_EQ(routine_scope_go(&c, child_sleeps, reached), 0);
    if (me.depth > 0) {
        CHECK_EQ(routine_scope_go_copy(&a, own_several, below), 0);
        CHECK_EQ(routine_scope_go_copy(&b, own_several, below), 0);
        CHECK_EQ(routine_scope_go_copy(&c, own_several, below), 0);
    }
    routine_shield();
    routine_scope(d);
    struct stage mine;
    memset(&mine, 0, sizeof mine);
    CHECK_EQ(routine_scope_go(&d, child_sleeps, &mine), 0);
    WAIT_UNTIL(atomic_load(&mine.begun) == 1);
    atomic_fetch_add(&me.all->ready, 1);
    for (int depth = me.depth; depth >= 0; depth--) /* of all, though nobody has left a scope yet */
        WAIT_UNTIL(atomic_load(&me.all->reached[depth].ended) == reached_at(depth));
    CHECK_EQ(atomic_load(&mine.ended), 0);
    routine_scope_cancel(&d);
    CHECK_EQ(routine_scope_join(&d, NULL), 0);
    CHECK_EQ(atomic_load(&mine.ended), 1);
    return 0;
}

static void *own_all_several(void *arg)
{
    struct several *all = arg;
    routine_scope(s);
    CHECK_EQ(routine_scope_go_copy(&s, own_several, ((struct several_at){all, 2})), 0);
    routine_shield();
    CHECK_EQ(routine_scope_join(&s, NULL), 0);
    return NULL;
}

TEST_EVERYWHERE(all_scopes_of_a_child_are_reached)
{
    const long rounds = support_scale(10);
    for (long i = 0; i < rounds; i++) {
        struct several all;
        memset(&all, 0, sizeof all);
        routine_t h = go(own_all_several, &all);
        WAIT_UNTIL(atomic_load(&all.ready) == 1 + 3 + 9);
        for (int depth = 0; depth < 3; depth++)
            WAIT_UNTIL(atomic_load(&all.reached[depth].begun) == reached_at(depth));
        CHECK_EQ(routine_cancel(h), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
}

/* A child tells its handle: it can be cancelled alone, with all below it. */
struct layers {
    struct stage outer, inner;
    routine_t middle;
    _Atomic int told;
    int result;
};

static int middle_layer(void *arg)
{
    struct layers *l = arg;
    int error = 77;
    l->middle = routine_self();
    routine_scope(s);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_scope_go_copy(&s, branch, ((struct branch){&l->inner, 2, 2})), 0);
    atomic_store(&l->told, 1);
    {
        routine_shield(); /* to wait for them in any case */
        CHECK_EQ(routine_scope_join(&s, &error), 0);
    }
    CHECK_EQ(error, 0);
    CHECK_EQ(routine_check(), -ECANCELED);
    return l->result;
}

static void *outer_layer(void *arg)
{
    struct layers *l = arg;
    int error = 77;
    {
        routine_scope(s);
        routine_scope(t);
        CHECK_EQ(routine_scope_go(&t, child_sleeps, &l->outer), 0);
        if (l->result != 0)
            CHECK_EQ(routine_scope_go(&s, child_sleeps, &l->outer), 0);
        CHECK_EQ(routine_scope_go(&s, middle_layer, l), 0);
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error,
                 l->result); /* of the children of this scope only one was cancelled: so it has failed */
        CHECK_EQ(routine_check(), 0);
        CHECK(atomic_load(&l->outer.ended) <= (l->result != 0));
    }
    CHECK_EQ(atomic_load(&l->outer.begun), atomic_load(&l->outer.ended));
    return NULL;
}

TEST_EVERYWHERE(a_child_alone_is_cancelled)
{
    const long rounds = support_scale(100);
    for (long i = 0; i < rounds; i++) {
        struct layers l;
        memset(&l, 0, sizeof l);
        l.result = i % 2 ? -ECANCELED : 0;
        routine_t h = go(outer_layer, &l);
        WAIT_UNTIL(atomic_load(&l.told));
        CHECK_EQ(routine_cancel(l.middle), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(atomic_load(&l.inner.begun), atomic_load(&l.inner.ended));
    }
}

/* Several owners whose children cancel all of them, or their scopes, all at once. */
enum { RIVALS = 6 };

struct rivals {
    struct stage stage;
    routine_t handles[RIVALS];
    routine_scope_t *scopes[RIVALS];
    _Atomic int begin, open, done;
};

struct rival {
    struct rivals *all;
    int number;
};

static int attack(void *arg)
{
    const struct rival *r = arg;
    struct rivals *all = r->all;
    atomic_fetch_add(&all->stage.begun, 1);
    for (int i = 1; i <= RIVALS; i++) { /* itself last: it may be the only one that has begun */
        const int victim = (r->number + i) % RIVALS;
        if ((r->number + victim) % 3 == 0)
            routine_scope_cancel(all->scopes[victim]);
        else
            CHECK_EQ(routine_cancel(all->handles[victim]), 0);
    }
    atomic_fetch_add(&all->stage.ended, 1);
    return 0;
}

static void *be_rival(void *arg)
{
    struct rival *r = arg;
    struct rivals *all = r->all;
    WAIT_UNTIL(atomic_load(&all->begin));
    {
        routine_scope(s);
        all->scopes[r->number] = &s;
        for (int i = 0; i < 3; i++)
            CHECK_EQ(routine_scope_go_copy(&s, branch, ((struct branch){&all->stage, 2, 1 + i % 2})), 0);
        atomic_fetch_add(&all->open, 1);
        WAIT_UNTIL(atomic_load(&all->open) == RIVALS);
        (void)routine_scope_go(&s, attack, r); /* unless somebody was faster */
        int error = 77;
        const int rc = routine_scope_join(&s, &error);
        CHECK(rc == -ECANCELED || (rc == 0 && error == 0));
        routine_shield();
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, 0);
        atomic_fetch_add(&all->done, 1);
        WAIT_UNTIL(atomic_load(&all->done) == RIVALS); /* the scopes stay open so long */
    }
    return NULL;
}

TEST_EVERYWHERE(rivals_cancel_each_other)
{
    const long rounds = support_scale(60);
    for (long k = 0; k < rounds; k++) {
        struct rivals all;
        struct rival each[RIVALS];
        memset(&all, 0, sizeof all);
        for (int i = 0; i < RIVALS; i++) {
            each[i] = (struct rival){&all, i};
            all.handles[i] = go(be_rival, &each[i]);
        }
        atomic_store(&all.begin, 1);
        for (int i = 0; i < RIVALS; i++)
            CHECK_EQ(routine_join(all.handles[i], NULL), 0);
        CHECK_EQ(atomic_load(&all.stage.begun), atomic_load(&all.stage.ended));
    }
}

/* A routine that opens and closes scopes all the time is cancelled, by several at once. */
struct busy {
    struct stage stage;
    routine_t handle;
    _Atomic int meet;
    uint64_t seed;
};

static int child_ends(void *arg)
{
    struct stage *st = arg;
    atomic_fetch_add(&st->begun, 1);
    atomic_fetch_add(&st->ended, 1);
    return 0;
}

static void open_some(struct busy *b, int depth)
{
    const uint64_t choice = support_random(&b->seed);
    routine_scope(s);
    routine_scope_limited(t, 2);
    for (uint64_t i = 0; i < choice % 4; i++) {
        const int rc = routine_scope_go(&s, choice >> 8 & 1 ? child_sleeps : child_ends, &b->stage);
        CHECK(rc == 0 || rc == -ECANCELED);
    }
    const int rc = routine_scope_go(&t, child_ends, &b->stage);
    CHECK(rc == 0 || rc == -ECANCELED);
    if (depth > 0)
        open_some(b, depth - 1);
    if (choice >> 9 & 1) {
        routine_shield();
        CHECK_EQ(routine_scope_join(&t, NULL), 0);
        routine_scope(under);
        CHECK_EQ(routine_scope_go(&under, child_ends, &b->stage), 0);
        CHECK_EQ(routine_scope_join(&under, NULL), 0);
    } else if (choice >> 10 & 1) {
        const int joined = routine_scope_join(&t, NULL);
        CHECK(joined == 0 || joined == -ECANCELED);
    }
}

static void *open_and_close(void *arg)
{
    struct busy *b = arg;
    while (routine_check() == 0)
        open_some(b, (int)(support_random(&b->seed) % 4));
    return NULL;
}

static void *cancel_busy(void *arg)
{
    struct busy *b = arg;
    support_meet(&b->meet, 2);
    CHECK_EQ(routine_cancel(b->handle), 0);
    return NULL;
}

TEST_EVERYWHERE(cancelled_while_scopes_open_and_close)
{
    static _Atomic uint64_t seeds = 3000;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15U;
    const long rounds = support_scale(200);
    for (long i = 0; i < rounds; i++) {
        struct busy b;
        memset(&b, 0, sizeof b);
        b.seed = support_random(&seed);
        b.handle = go(open_and_close, &b);
        if (i % 4)
            WAIT_UNTIL(atomic_load(&b.stage.begun) >= i % 16);
        routine_t h[2];
        for (int k = 0; k < 2; k++)
            h[k] = go(cancel_busy, &b);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(routine_join(h[k], NULL), 0);
        const int rc = routine_join(b.handle, NULL);
        CHECK(rc == 0 ||
              (rc == -ECANCELED && atomic_load(&b.stage.begun) == 0)); /* perhaps it never started */
        CHECK_EQ(atomic_load(&b.stage.begun), atomic_load(&b.stage.ended));
    }
}

/* Who opens and leaves scopes all the time, and never waits, lets others have their turn. */
static void *leave_at_once(void *arg)
{
    _Atomic int *stop = arg;
    static struct stage nothing;
    while (!atomic_load(stop)) {
        routine_scope(s);
        CHECK_EQ(routine_scope_go(&s, child_ends, &nothing), 0);
    }
    return NULL;
}

static void *set_flag(void *arg)
{
    atomic_store((_Atomic int *)arg, 1);
    return NULL;
}

TEST(others_have_their_turn)
{
    routine_runtime_t *one = support_runtime(1);
    for (int owners = 1; owners <= 3; owners++) {
        _Atomic int stop = 0;
        routine_t h[3];
        for (int i = 0; i < owners; i++)
            h[i] = support_go_on(one, leave_at_once, (void *)&stop);
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK_EQ(routine_join(support_go_on(one, set_flag, (void *)&stop), NULL), 0);
        for (int i = 0; i < owners; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
    }
    support_runtime_end(one);
}

/* ---- the places of a limited scope ---- */

enum { PLACES = 3, FEEDERS = 6, PER_FEEDER = 20 };

struct places {
    routine_scope_t *scope;
    _Atomic int inside;
    _Atomic long begun, accepted, gave_up;
    routine_t feeders[FEEDERS];
};

struct feeder {
    struct places *places;
    uint64_t seed;
};

struct visit {
    struct places *places;
    uint64_t choice;
};

static int visit(void *arg)
{
    const struct visit *v = arg;
    CHECK(atomic_fetch_add(&v->places->inside, 1) < PLACES);
    atomic_fetch_add(&v->places->begun, 1);
    if (v->choice % 4 == 0)
        CHECK_EQ(routine_sleep((int64_t)(v->choice >> 8) % (50 * ROUTINE_US)), 0);
    else if (v->choice % 4 == 1)
        routine_yield();
    atomic_fetch_sub(&v->places->inside, 1);
    return 0;
}

static void *feed(void *arg)
{
    struct feeder *f = arg;
    for (int i = 0; i < PER_FEEDER; i++) {
        const uint64_t choice = support_random(&f->seed);
        const struct visit v = {f->places, choice >> 16};
        const bool limited = choice % 2;
        routine_with_timeout(limited ? (int64_t)(choice >> 8) % (100 * ROUTINE_US) : ROUTINE_NEVER);
        const int rc = routine_scope_go_copy(f->places->scope, visit, v);
        CHECK(rc == 0 || (rc == -ETIMEDOUT && limited) || rc == -ECANCELED);
        atomic_fetch_add(rc == 0 ? &f->places->accepted : &f->places->gave_up, 1);
        if (choice >> 4 & 1)
            CHECK(routine_cancel(f->places->feeders[choice >> 32 & 1]) <=
                  0); /* of two of them; or a null one */
    }
    return NULL;
}

static int meet_all(void *arg)
{
    const int rc = routine_barrier_wait(arg);
    return rc > 0 ? 0 : rc;
}

/* Who waits for a place is let in, gives up by its limit, or is cancelled, often at the same time: no place
 * is given to two, and none is lost. */
TEST_EVERYWHERE(no_place_is_lost)
{
    static _Atomic uint64_t seeds = 4000;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15U;
    const long rounds = support_scale(20);
    for (long i = 0; i < rounds; i++) {
        struct places p;
        struct feeder f[FEEDERS];
        routine_barrier_t all;
        int error = 77;
        memset(&p, 0, sizeof p);
        routine_scope_limited(s, PLACES);
        p.scope = &s;
        for (int k = 0; k < FEEDERS; k++) {
            f[k] = (struct feeder){&p, support_random(&seed)};
            p.feeders[k] = k < 2 ? go(feed, &f[k]) : (routine_t){NULL, 0};
        }
        for (int k = 2; k < FEEDERS; k++)
            p.feeders[k] = go(feed, &f[k]);
        long never = 0;
        for (int k = 0; k < FEEDERS; k++) {
            const int rc = routine_join(p.feeders[k], NULL);
            CHECK(rc == 0 || (rc == -ECANCELED && k < 2));
            never += rc != 0;
        }
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, 0);
        CHECK_EQ(p.inside, 0);
        CHECK_EQ(p.begun, p.accepted);
        CHECK_EQ(p.accepted + p.gave_up, (FEEDERS - never) * PER_FEEDER);
        CHECK_EQ(routine_barrier_init(&all, PLACES), 0);
        for (int k = 0; k < PLACES; k++)
            CHECK_EQ(routine_scope_go(&s, meet_all, &all), 0);
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, 0);
    }
}

/* ---- random trees ---- */

struct forest {
    _Atomic long accepted, begun, ended; /* by the scopes; of the children and roots */
    _Atomic long panicked, told;
};

/* Those in one scope. */
struct family {
    _Atomic long alive;
    _Atomic int panicked; /* one has, or several: told once */
};

struct node {
    struct forest *forest;
    routine_scope_t *up; /* null: none, or a limited one, in which a child would wait for itself */
    struct family *family;
    routine_t root;
    uint64_t seed;
    int depth;
};

struct end_of_node {
    const struct node *node;
    struct family children; /* in its own scope */
};

static void end_node(void *arg)
{
    struct end_of_node *e = arg;
    CHECK_EQ(atomic_load(&e->children.alive), 0); /* the scope has ended */
    atomic_fetch_sub(&e->node->family->alive, 1);
    atomic_fetch_add(&e->node->forest->ended, 1);
}

static int node(void *arg);

static int go_node(routine_scope_t *s, struct node n, uint64_t *seed)
{
    n.seed = support_random(seed) | 1;
    const int rc = routine_scope_go_copy(s, node, n);
    CHECK(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
    atomic_fetch_add(&n.forest->accepted, rc == 0);
    return rc;
}

static int join_node(const struct node *n, routine_scope_t *s)
{
    int error = 77;
    const int rc = routine_scope_join(s, &error);
    CHECK(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
    CHECK(rc == 0 ? error <= 0 : error == 77);
    if (rc == 0 && error == -ENOTRECOVERABLE) {
        atomic_fetch_add(&n->forest->told, 1);
        CHECK_STR(routine_panic_message(), "on purpose");
        error = -EIO; /* it is told once */
    }
    return rc != 0 ? rc : error;
}

static void __attribute__((noreturn)) panic_node(const struct node *n)
{
    if (atomic_exchange(&n->family->panicked, 1) == 0)
        atomic_fetch_add(&n->forest->panicked, 1);
    routine_panic("on purpose");
}

static int leaf(const struct node *n, uint64_t choice)
{
    const int64_t time = (int64_t)(choice >> 32) % (60 * ROUTINE_US);
    switch (choice % 16) {
    case 0:
        return -EIO;
    case 1:
        panic_node(n);
    case 2:
        routine_exit(choice & 64 ? NULL : AS_ARG(-EPIPE));
    case 3:
        return routine_sleep(ROUTINE_NEVER); /* the root's limit ends it */
    case 4: {
        routine_shield();
        return routine_sleep(time);
    }
    case 5:
        CHECK_EQ(routine_cancel(n->root), 0);
        return 0;
    case 6:
        if (n->up != NULL)
            routine_scope_cancel(n->up);
        return 0;
    case 7:
    case 8:
    case 9:
        return routine_sleep(time);
    case 10:
        routine_yield();
        return routine_check();
    default:
        return 0;
    }
}

static int node(void *arg)
{
    const struct node n = *(struct node *)arg;
    uint64_t seed = n.seed;
    const uint64_t choice = support_random(&seed);
    struct end_of_node end = {&n, {0, 0}};
    atomic_fetch_add(&n.family->alive, 1);
    atomic_fetch_add(&n.forest->begun, 1);
    routine_defer(end_node, &end);
    routine_with_timeout(choice >> 20 & 7 ? ROUTINE_NEVER : (int64_t)(choice >> 32) % (200 * ROUTINE_US));
    if (n.depth == 0 || (choice >> 24 & 3) == 0)
        return leaf(&n, choice);

    const size_t limit = choice >> 28 & 3 ? 0 : 1 + (choice >> 30 & 1);
    routine_scope_limited(s, limit);
    const struct node below = {n.forest, limit == 0 ? &s : NULL, &end.children, n.root, 0, n.depth - 1};
    int rc = 0;
    for (uint64_t i = 0; i <= (choice >> 4) % 5 && rc == 0; i++)
        rc = go_node(&s, below, &seed);
    if (n.up != NULL && (choice >> 12 & 7) == 0) { /* a sibling */
        struct node sibling = n;
        sibling.depth = n.depth - 1;
        (void)go_node(n.up, sibling, &seed);
    }
    switch (choice % 16) {
    case 0:
        return -EIO;
    case 1:
        panic_node(&n);
    case 2:
        routine_exit(choice & 64 ? NULL : AS_ARG(-EPIPE));
    case 3:
        routine_scope_cancel(&s);
        return join_node(&n, &s);
    case 4: {
        routine_with_timeout((int64_t)(choice >> 40) % (30 * ROUTINE_US));
        return join_node(&n, &s);
    }
    case 5: {
        routine_shield();
        return join_node(&n, &s);
    }
    case 6:
        (void)routine_sleep((int64_t)(choice >> 40) % (30 * ROUTINE_US));
        return 0;
    case 7:
        rc = join_node(&n, &s);
        if (rc == 0 && go_node(&s, below, &seed) == 0)
            rc = join_node(&n, &s);
        return rc;
    default:
        return join_node(&n, &s);
    }
}

static void *root_node(void *arg)
{
    struct node *n = arg;
    n->root = routine_self();
    routine_with_timeout((int64_t)(n->seed >> 8) % ROUTINE_MS);
    return AS_ARG(node(n));
}

TEST_EVERYWHERE(random_trees)
{
    static _Atomic uint64_t seeds = 5000;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15U;
    const long rounds = support_scale(1000);
    for (long i = 0; i < rounds; i++) {
        struct forest f;
        struct family family = {0, 0};
        memset(&f, 0, sizeof f);
        struct node n = {&f, NULL, &family, {NULL, 0}, support_random(&seed) | 1, 1 + (int)(i % 5)};
        routine_t h = go(root_node, &n);
        if (i % 8 == 0) {
            WAIT_UNTIL(atomic_load(&f.begun) > 0 || i % 3 == 0);
            CHECK_EQ(routine_cancel(h), 0);
        }
        void *result = AS_ARG(77);
        const int rc = routine_join(h, &result);
        CHECK(rc == -ENOTRECOVERABLE || (rc == 0 && (intptr_t)result <= 0) ||
              (rc == -ECANCELED && i % 8 == 0 && atomic_load(&f.begun) == 0));
        CHECK_EQ(atomic_load(&family.alive), 0);
        CHECK_EQ(atomic_load(&f.begun), atomic_load(&f.ended));
        CHECK(atomic_load(&f.begun) <= atomic_load(&f.accepted) + 1);
        atomic_fetch_add(&panics, atomic_load(&f.panicked));
        atomic_fetch_add(&panics_told, atomic_load(&f.told) + (rc == -ENOTRECOVERABLE));
    }
}

/* The panics in a scope were told by a join, or heard by the hook, and not both. */
TEST(no_panic_is_lost)
{
    atomic_store(&panics, 0);
    atomic_store(&panics_told, 0);
    atomic_store(&panics_heard, 0);
    random_trees_body();
    CHECK_EQ(atomic_load(&panics_told) + atomic_load(&panics_heard), atomic_load(&panics));
    CHECK(atomic_load(&panics) > 0 || support_slow());
}

/* The same on runtimes of their own: nobody is alive in the end, and everybody is counted. */
static void *trees(void *arg)
{
    random_trees_body();
    return arg;
}

TEST(trees_on_runtimes_of_their_own)
{
    for (size_t workers = 1; workers <= 3; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        routine_stats_t stats;
        CHECK_EQ(routine_join(support_go_on(runtime, trees, NULL), NULL), 0);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_stats(runtime, &stats), 0);
        CHECK_EQ(stats.live, 0);
        CHECK_EQ(stats.total.spawned, stats.total.completed);
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    routine_set_panic_hook(hear_panic);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_way_out_lets_a_child_outlive_the_braces),
        cmocka_unit_test(scopes_end_from_the_innermost_outwards),
        cmocka_unit_test(a_defer_inside_still_joins),
        cmocka_unit_test(its_memory_is_free_after_the_end),
        cmocka_unit_test(every_reason_ends_every_wait),
        cmocka_unit_test(a_tree_of_ten_thousand),
        cmocka_unit_test(a_chain_of_a_thousand),
        cmocka_unit_test(small_trees),
        cmocka_unit_test(all_scopes_of_a_child_are_reached),
        cmocka_unit_test(a_child_alone_is_cancelled),
        cmocka_unit_test(rivals_cancel_each_other),
        cmocka_unit_test(cancelled_while_scopes_open_and_close),
        cmocka_unit_test(others_have_their_turn),
        cmocka_unit_test(no_place_is_lost),
        cmocka_unit_test(random_trees),
        cmocka_unit_test(no_panic_is_lost),
        cmocka_unit_test(trees_on_runtimes_of_their_own),
    };
    return cmocka_run_group_tests_name("scope stress", tests, NULL, NULL);
}
