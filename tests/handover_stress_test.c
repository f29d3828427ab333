/* SPDX-License-Identifier: MIT
 *
 * Tests of the hand-over of workers (sched/monitor.h) by chance: routines that keep their threads, be it in
 * the kernel or in a loop, for longer than the monitor likes, and between that do all there is to do, most of
 * it on threads that have lost their worker in the middle: children run in place and not, scopes, exits,
 * panics, cancellations, channels, select, locks, timers, defers, locals, detached routines, large and small
 * stacks.
 *
 * The monitor's millisecond is made shorter, so that there are thousands of hand-overs in some seconds. What
 * is checked are sums, and at the end of each runtime that nothing is left of it: all that was started has
 * ended, all that has parked was made ready, and no stack, thread or descriptor is there that was not before.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/scope.h"
#include "routines/sync.h"

#include "sched/monitor.h"
#include "sched/threads.h"

#define PACE          (100 * ROUTINE_US)
#define AS_ARG(value) ((void *)(intptr_t)(value))

static _Atomic long begun, ended;             /* calls of tree() */
static _Atomic long defers_open, locals_open; /* begun, and not ended */
static _Atomic long stays;

static routine_key_t key;

/* ---- keeping the thread ---- */

static long below(uint64_t *random, long limit)
{
    return (long)(support_random(random) % (uint64_t)limit);
}

/* Up to a few times as long as the monitor allows; or not at all, as often as not. */
static void stay(uint64_t *random)
{
    const int64_t ns = below(random, 25 * PACE);
    switch (below(random, 8)) {
    case 0:
        usleep((useconds_t)(ns / 1000));
        break;
    case 1: {
        const int64_t until = routine_now() + ns / 2;
        while (routine_now() < until)
            ;
        break;
    }
    case 2: /* in and out of the library meanwhile */
        for (const int64_t until = routine_now() + ns / 2; routine_now() < until;) {
            chan_t *ch = MAKE(int, 1);
            CHECK_EQ(chan_try_send(ch, &(int){1}), 0);
            chan_unref(ch);
        }
        break;
    default:
        return;
    }
    atomic_fetch_add(&stays, 1);
}

static uint64_t seed_of(uint64_t *random)
{
    return support_random(random) | 1;
}

/* ---- a tree of routines, each of which does something by chance ---- */

#define LEVELS 4

struct node {
    uint64_t random;
    int level;    /* 0: a leaf */
    bool returns; /* it does not exit */
    void *result;
};

static void *tree(void *arg);

static struct node child_of(struct node *n)
{
    return (struct node){
        .random = seed_of(&n->random), .level = n->level - 1, .result = AS_ARG(below(&n->random, 1 << 20))};
}

enum { CHILDREN = 4 };

static routine_t start(struct node *c, uint64_t *random)
{
    static const size_t sizes[] = {0, 1, 17000, 40000, 200000, (size_t)1 << 20};
    const size_t size = below(random, 3) ? 0 : sizes[below(random, COUNT_OF(sizes))];
    if (size == 0)
        return go(tree, c);
    const routine_attr_t attr = {.stack_size = size, .name = below(random, 2) ? "odd" : NULL};
    return go_with(&attr, tree, c);
}

static void joined(routine_t h, const struct node *c)
{
    void *result = NULL;
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == c->result);
}

/* Joined in one order or the other, or after somebody else may have begun them. */
static void do_children(struct node *n)
{
    struct node c[CHILDREN];
    routine_t h[CHILDREN];
    const long count = 1 + below(&n->random, CHILDREN);
    for (long i = 0; i < count; i++) {
        c[i] = child_of(n);
        h[i] = start(&c[i], &n->random);
    }
    if (below(&n->random, 2))
        stay(&n->random);
    if (below(&n->random, 3) == 0)
        routine_yield();
    const bool newest_first = below(&n->random, 2);
    for (long i = 0; i < count; i++) {
        const long k = newest_first ? count - 1 - i : i;
        joined(h[k], &c[k]);
    }
}

/* One below the other, on one stack. */
static void *chain(void *arg)
{
    struct node *n = arg;
    stay(&n->random);
    if (n->level > 0) {
        struct node c = {.random = seed_of(&n->random), .level = n->level - 1, .result = AS_ARG(n->level)};
        void *result = NULL;
        const routine_t h = go(chain, &c);
        CHECK_EQ(routine_join(h, &result), 0);
        CHECK(result == c.result);
        stay(&n->random);
    }
    if (below(&n->random, 8) == 0)
        routine_exit(n->result);
    return n->result;
}

static void do_chain(struct node *n)
{
    struct node c = {.random = seed_of(&n->random), .level = 6, .result = AS_ARG(7)};
    void *result = NULL;
    const routine_t h = go(chain, &c);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == AS_ARG(7));
}

static int scope_child(void *arg)
{
    struct node *c = arg;
    CHECK(tree(c) == c->result);
    return 0;
}

static int scope_sleeper(void *arg)
{
    struct node *c = arg;
    stay(&c->random);
    const int rc = routine_sleep(below(&c->random, 2) ? ROUTINE_NEVER : PACE);
    stay(&c->random);
    return rc;
}

static void do_scope(struct node *n)
{
    struct node c[CHILDREN];
    const long count = 1 + below(&n->random, CHILDREN);
    int error = 1;
    routine_scope(s);
    for (long i = 0; i < count; i++) {
        c[i] = child_of(n);
        c[i].returns = true; /* what it would exit with is not 0 */
        CHECK_EQ(routine_scope_go(&s, scope_child, &c[i]), 0);
    }
    stay(&n->random);
    CHECK_EQ(routine_scope_join(&s, &error), 0);
    CHECK_EQ(error, 0);
}

static void do_scope_canceled(struct node *n)
{
    struct node c[CHILDREN];
    routine_scope_limited(s, 2);
    for (long i = 0; i < CHILDREN; i++) {
        c[i] = child_of(n);
        if (i == 2)
            routine_scope_cancel(&s);
        CHECK_EQ(routine_scope_go(&s, scope_sleeper, &c[i]), i < 2 ? 0 : -ECANCELED);
        stay(&n->random);
    }
}

static void *panics(void *arg)
{
    struct node *c = arg;
    stay(&c->random);
    routine_panic("on purpose: %p", c->result);
}

static void do_panic(struct node *n)
{
    struct node c = child_of(n);
    char text[64];
    snprintf(text, sizeof text, "on purpose: %p", c.result);
    const routine_t h = go(panics, &c);
    stay(&n->random);
    CHECK_EQ(routine_join(h, NULL), -ENOTRECOVERABLE);
    CHECK_STR(routine_panic_message(), text);
}

static void *canceled(void *arg)
{
    struct node *c = arg;
    int rc = 0;
    while (rc == 0) {
        stay(&c->random);
        rc = below(&c->random, 2) ? routine_check() : routine_sleep(PACE);
    }
    stay(&c->random);
    return AS_ARG(rc);
}

static void do_cancel(struct node *n)
{
    struct node c = child_of(n);
    void *result = AS_ARG(-ECANCELED);
    const routine_t h = go(canceled, &c);
    stay(&n->random);
    if (below(&n->random, 2))
        CHECK_EQ(routine_sleep(PACE), 0);
    stay(&n->random);
    CHECK_EQ(routine_cancel(h), 0);
    const int rc = routine_join(h, &result);
    CHECK(rc == 0 || rc == -ECANCELED); /* the latter: it had not begun */
    CHECK(result == AS_ARG(-ECANCELED));
}

static void *given_up(void *arg)
{
    struct node *c = arg;
    stay(&c->random);
    return NULL;
}

static void do_limit(struct node *n)
{
    struct node c = child_of(n);
    const routine_t h = go(given_up, &c);
    int rc;
    {
        routine_with_timeout(below(&n->random, 2 * PACE));
        stay(&n->random);
        rc = routine_join(h, NULL);
    }
    CHECK(rc == 0 || rc == -ETIMEDOUT);
    if (rc != 0)
        CHECK_EQ(routine_join(h, NULL), 0);
}

/* ---- two that talk ---- */

#define TALK 6

struct talk {
    uint64_t random;
    chan_t *there, *back;
    routine_mutex_t mutex;
    routine_cond_t cond;
    int turn;
};

static void *echoes(void *arg)
{
    struct talk *t = arg;
    uint64_t random = t->random;
    for (int i = 0; i < TALK; i++) {
        int x = 0;
        CHECK_EQ(chan_recv(t->there, &x), 0);
        stay(&random);
        x++;
        CHECK_EQ(chan_send(t->back, &x), 0);
    }
    return NULL;
}

static void do_channel(struct node *n)
{
    struct talk t = {.random = seed_of(&n->random),
                     .there = MAKE(int, below(&n->random, 3)),
                     .back = MAKE(int, below(&n->random, 3))};
    const routine_t h = go(echoes, &t);
    for (int i = 0; i < TALK; i++) {
        int x = 10 * i, none = 0;
        stay(&n->random);
        CHECK_EQ(chan_send(t.there, &x), 0);
        stay(&n->random);
        if (below(&n->random, 2)) {
            CHECK_EQ(chan_recv(t.back, &x), 0);
        } else {
            int rc;
            do
                rc = chan_select(CHAN_RECV(t.back, &x), CHAN_SEND(NULL, &none), CHAN_RECV(NULL, &none),
                                 CHAN_TIMEOUT(PACE));
            while (rc == 3);
            CHECK_EQ(rc, 0);
        }
        CHECK_EQ(x, 10 * i + 1);
    }
    CHECK_EQ(routine_join(h, NULL), 0);
    chan_unref(t.there);
    chan_unref(t.back);
}

static void take_turns(struct talk *t, int mine, uint64_t *random)
{
    for (int i = 0; i < TALK; i++) {
        stay(random);
        CHECK_EQ(routine_mutex_lock(&t->mutex), 0);
        while (t->turn % 2 != mine)
            CHECK_EQ(routine_cond_wait(&t->cond, &t->mutex), 0);
        t->turn++;
        if (below(random, 4) == 0)
            stay(random); /* the lock is held */
        routine_cond_signal(&t->cond);
        CHECK_EQ(routine_mutex_unlock(&t->mutex), 0);
    }
}

static void *takes_turns(void *arg)
{
    struct talk *t = arg;
    uint64_t random = t->random;
    take_turns(t, 1, &random);
    return NULL;
}

static void do_cond(struct node *n)
{
    struct talk t = {.random = seed_of(&n->random)};
    routine_mutex_init(&t.mutex);
    routine_cond_init(&t.cond);
    const routine_t h = go(takes_turns, &t);
    take_turns(&t, 0, &n->random);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(t.turn, 2 * TALK);
}

/* ---- what all of them share ---- */

static struct {
    routine_mutex_t mutex;
    routine_rwlock_t rwlock;
    routine_sem_t sem;
    long a, b; /* under the mutex */
    long c, d; /* under the rwlock */
    chan_t *post;
} shared;

static void do_mutex(struct node *n)
{
    CHECK_EQ(routine_mutex_lock(&shared.mutex), 0);
    const long a = ++shared.a;
    if (below(&n->random, 4) == 0)
        stay(&n->random);
    CHECK_EQ(++shared.b, a);
    CHECK_EQ(routine_mutex_unlock(&shared.mutex), 0);
}

static void do_rwlock(struct node *n)
{
    if (below(&n->random, 2)) {
        CHECK_EQ(routine_rwlock_wrlock(&shared.rwlock), 0);
        shared.c++;
        if (below(&n->random, 4) == 0)
            stay(&n->random);
        shared.d++;
    } else {
        CHECK_EQ(routine_rwlock_rdlock(&shared.rwlock), 0);
        const long c = shared.c;
        if (below(&n->random, 4) == 0)
            stay(&n->random);
        CHECK_EQ(shared.d, c);
    }
    CHECK_EQ(routine_rwlock_unlock(&shared.rwlock), 0);
}

static void do_sem(struct node *n)
{
    CHECK_EQ(routine_sem_wait(&shared.sem), 0);
    if (below(&n->random, 4) == 0)
        stay(&n->random);
    CHECK_EQ(routine_sem_post(&shared.sem), 0);
}

/* What comes is not what was sent, but as much. */
static void do_post(struct node *n)
{
    const int one = 1;
    int other = 0;
    CHECK_EQ(chan_send(shared.post, &one), 0);
    stay(&n->random);
    CHECK_EQ(chan_recv(shared.post, &other), 0);
    CHECK_EQ(other, 1);
}

static void ring(void *arg)
{
    struct node *c = arg;
    stay(&c->random);
    CHECK_EQ(routine_sem_post(c->result), 0);
}

static void do_timer(struct node *n)
{
    routine_sem_t rung;
    CHECK_EQ(routine_sem_init(&rung, 0), 0);
    struct node c = {.random = seed_of(&n->random), .result = &rung};
    routine_timer_t *timer = routine_timer_new(below(&n->random, 2 * PACE), 0, ring, &c);
    if (!timer) {
        CHECK(timer);
        return;
    }
    stay(&n->random);
    if (below(&n->random, 2) || !routine_timer_stop(timer))
        CHECK_EQ(routine_sem_wait(&rung), 0);
    routine_timer_free(timer);
    stay(&n->random);
    CHECK_EQ(routine_sleep(below(&n->random, 2 * PACE)), 0);
}

static void deferred(void *arg)
{
    struct node *n = arg;
    stay(&n->random);
    if (below(&n->random, 2))
        routine_yield();
    atomic_fetch_sub(&defers_open, 1);
}

static void destroyed(void *arg)
{
    struct node *c = arg;
    stay(&c->random);
    free(c);
    atomic_fetch_sub(&locals_open, 1);
}

static void do_declare(struct node *n)
{
    atomic_fetch_add(&defers_open, 1);
    routine_defer(deferred, n);
    if (!routine_getspecific(key)) {
        struct node *c = malloc(sizeof *c);
        CHECK(c);
        if (c) {
            *c = child_of(n);
            atomic_fetch_add(&locals_open, 1);
            CHECK_EQ(routine_setspecific(key, c), 0);
        }
    }
    stay(&n->random);
}

struct detached {
    uint64_t random;
    routine_waitgroup_t *group;
};

static void *detached(void *arg)
{
    struct detached d = *(struct detached *)arg;
    stay(&d.random);
    CHECK_EQ(routine_waitgroup_done(d.group), 0);
    stay(&d.random); /* may be the last that there is of its runtime */
    return NULL;
}

static void do_detached(struct node *n)
{
    routine_waitgroup_t group;
    struct detached d[CHILDREN];
    routine_waitgroup_init(&group);
    CHECK_EQ(routine_waitgroup_add(&group, CHILDREN), 0);
    for (int i = 0; i < CHILDREN; i++) {
        d[i] = (struct detached){seed_of(&n->random), &group};
        if (i % 2)
            CHECK_EQ(go_detached(detached, &d[i]), 0);
        else
            CHECK_EQ(routine_detach(go_copy(detached, d[i])), 0);
    }
    stay(&n->random);
    CHECK_EQ(routine_waitgroup_wait(&group), 0);
}

static void first(void *arg)
{
    struct talk *t = arg;
    uint64_t random = t->random;
    stay(&random);
    t->turn++;
}

struct meeting {
    struct talk talk;
    routine_once_t once;
    routine_barrier_t barrier;
};

static void *meets(void *arg)
{
    struct meeting *m = arg;
    CHECK_EQ(routine_once_with(&m->once, first, &m->talk), 0);
    CHECK_EQ(m->talk.turn, 1);
    return AS_ARG(routine_barrier_wait(&m->barrier));
}

static void do_meet(struct node *n)
{
    struct meeting m = {.talk = {.random = seed_of(&n->random)}, .once = ROUTINE_ONCE_INITIALIZER};
    routine_t h[CHILDREN];
    intptr_t sum = 0;
    CHECK_EQ(routine_barrier_init(&m.barrier, CHILDREN), 0);
    for (int i = 0; i < CHILDREN; i++)
        h[i] = go(meets, &m);
    stay(&n->random);
    for (int i = 0; i < CHILDREN; i++) {
        void *result = NULL;
        CHECK_EQ(routine_join(h[i], &result), 0);
        sum += (intptr_t)result;
    }
    CHECK_EQ(sum, 1);
}

static void do_yield(struct node *n)
{
    for (int i = 0; i < 4; i++) {
        stay(&n->random);
        routine_yield();
    }
}

typedef void do_fn(struct node *n);

/* Those with children come first. */
static do_fn *const branches[] = {do_children, do_children, do_scope, do_chain};
static do_fn *const leaves[] = {do_scope_canceled, do_panic,   do_cancel,   do_limit, do_channel,
                                do_cond,           do_mutex,   do_rwlock,   do_sem,   do_post,
                                do_timer,          do_declare, do_detached, do_meet,  do_yield};

static void *tree(void *arg)
{
    struct node *n = arg;
    void *const result = n->result;
    atomic_fetch_add(&begun, 1);
    stay(&n->random);
    if (n->level > 0) {
        branches[below(&n->random, COUNT_OF(branches))](n);
        stay(&n->random);
        leaves[below(&n->random, COUNT_OF(leaves))](n);
    }
    stay(&n->random);
    atomic_fetch_add(&ended, 1);
    if (!n->returns && below(&n->random, 8) == 0) {
        atomic_fetch_add(&defers_open, 1);
        routine_defer(deferred, n);
        routine_exit(result);
    }
    return result;
}

/* ---- the tests ---- */

static routine_runtime_t *runtime_new(void)
{
    routine_runtime_t *rt = NULL;
    const routine_runtime_config_t config = {.name = "test"};
    CHECK_EQ(routine_runtime_new(&rt, &config), 0);
    if (!rt)
        abort();
    shared.post = MAKE(int, 8);
    CHECK_EQ(routine_sem_init(&shared.sem, 3), 0);
    return rt;
}

/* Nothing is left. */
static uint64_t runtime_end(routine_runtime_t *rt, int how)
{
    routine_stats_t s;
    CHECK_EQ(routine_runtime_shutdown(rt, how, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_stats(rt, &s), 0);
    CHECK_EQ(s.live, 0);
    CHECK_EQ(s.total.spawned, s.total.completed);
    CHECK_EQ(s.total.started, s.total.completed);
    CHECK_EQ(s.total.parks, s.total.readies);
    CHECK_EQ(s.stacks_live, 0);
    CHECK_EQ(s.running, 0);
    CHECK_EQ(s.threads, 0);
    CHECK_EQ(routine_runtime_free(rt), 0);
    CHECK_EQ(chan_len(shared.post), 0);
    chan_unref(shared.post);
    CHECK_EQ(atomic_load(&begun), atomic_load(&ended));
    CHECK_EQ(atomic_load(&defers_open), 0);
    CHECK_EQ(atomic_load(&locals_open), 0);
    return s.handovers;
}

static uint64_t random_seed(void)
{
    const char *wish = getenv("ROUTINES_TEST_SEED");
    const uint64_t seed = wish ? strtoull(wish, NULL, 0) : (uint64_t)routine_now() | 1;
    print_message("           seed %#llx\n", (unsigned long long)seed);
    return seed;
}

/* From the main thread, for about so long. */
static void grow(routine_runtime_t *rt, uint64_t *random, int64_t ns, int at_once)
{
    struct node n[16];
    routine_t h[16];
    const int64_t until = routine_now() + ns;
    do {
        for (int i = 0; i < at_once; i++) {
            n[i] = (struct node){.random = seed_of(random), .level = LEVELS, .result = AS_ARG(i)};
            h[i] = support_go_on(rt, tree, &n[i]);
        }
        for (int i = 0; i < at_once; i++)
            joined(h[i], &n[i]);
    } while (routine_now() < until);
}

TEST(everything_at_once)
{
    routine_runtime_t *rt = runtime_new();
    uint64_t random = random_seed();
    const long descriptors = support_entries("/proc/self/fd");
    grow(rt, &random, 4 * ROUTINE_S, 12);
    print_message("           %ld stays, %llu hand-overs\n", atomic_load(&stays),
                  (unsigned long long)runtime_end(rt, ROUTINE_SHUTDOWN_WAIT));
    CHECK_EQ(support_entries("/proc/self/fd"), descriptors);
}

/* A lone tree: there are few others to wait, so its own parts are what runs with and without workers. */
TEST(one_tree_at_a_time)
{
    routine_runtime_t *rt = runtime_new();
    uint64_t random = random_seed();
    grow(rt, &random, 2 * ROUTINE_S, 1);
    print_message("           %llu hand-overs\n", (unsigned long long)runtime_end(rt, ROUTINE_SHUTDOWN_WAIT));
}

static void *stays_once(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < 8; i++)
        stay(&random);
    return NULL;
}

/* The last ones to end have no worker, most likely, and the workers sleep. */
TEST(runtimes_end_while_somebody_stays)
{
    uint64_t random = random_seed();
    for (int round = 0; round < 40; round++) {
        routine_runtime_t *rt = runtime_new();
        for (int i = 0; i < 6; i++)
            CHECK_EQ(routine_detach(support_go_on(rt, stays_once, AS_ARG(seed_of(&random)))), 0);
        usleep((useconds_t)below(&random, 3000));
        (void)runtime_end(rt, round % 2 ? ROUTINE_SHUTDOWN_CANCEL : ROUTINE_SHUTDOWN_WAIT);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    atomic_store(&rt_monitor_pace, PACE);
    atomic_store(&rt_threads_patience, 20 * PACE);
    CHECK_EQ(routine_key_create(&key, destroyed), 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_at_once),
        cmocka_unit_test(one_tree_at_a_time),
        cmocka_unit_test(runtimes_end_while_somebody_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
