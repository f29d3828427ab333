/* SPDX-License-Identifier: MIT
 *
 * Tests of the scheduler by what it does to programs: everybody gets a turn, whoever else
 * is busy; work spreads over the workers; idle workers cost nothing; memory does not grow
 * under churn; many are parked and woken in any order; nothing that belongs to a
 * routine is lost when it changes threads.
 *
 * A starved routine shows as a hang: those tests are cases, which die of SIGALRM.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "support.h"

SUPPORT_NO_HANDOVERS

static void *nothing(void *arg)
{
    return arg;
}

static void *set_flag(void *arg)
{
    atomic_store((_Atomic int *)arg, 1);
    return NULL;
}

static void *count(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
}

/* ---- at the same time ---- */

struct together {
    int all;
    _Atomic int arrived;
};

/* Goes on only when all of them run at the same time: nobody yields his worker. */
static void *phases(void *arg)
{
    struct together *t = arg;
    for (int phase = 1; phase <= 20; phase++) {
        atomic_fetch_add(&t->arrived, 1);
        while (atomic_load(&t->arrived) < phase * t->all)
            sched_yield();
    }
    return NULL;
}

static void *spawn_phases(void *arg)
{
    struct together *t = arg;
    routine_t h[8];
    for (int i = 1; i < t->all; i++)
        h[i] = go(phases, t);
    phases(t);
    for (int i = 1; i < t->all; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    return NULL;
}

TEST(as_many_routines_as_workers_run_at_once)
{
    for (size_t workers = 1; workers <= 8; workers = workers * 2 + (workers == 1)) {
        routine_runtime_t *runtime = support_runtime(workers);
        for (long round = 0; round < support_scale(200) / 10; round++) {
            struct together t = {(int)workers, 0};
            routine_t h[8];
            for (size_t i = 0; i < workers; i++)
                h[i] = support_go_on(runtime, phases, &t);
            for (size_t i = 0; i < workers; i++)
                CHECK_EQ(routine_join(h[i], NULL), 0);
            t.arrived = 0; /* and started by one of them, who keeps his worker: the others must steal */
            CHECK_EQ(routine_runtime_run(runtime, spawn_phases, &t, NULL), 0);
        }
        support_runtime_end(runtime);
    }
}

/* R12: a lone child is declined at first, and taken after all. */
static void *spin_until_my_child_has_run(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        _Atomic int ran = 0;
        routine_t h = go(set_flag, (void *)&ran);
        while (!atomic_load(&ran))
            sched_yield();
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    return NULL;
}

/* The same for one that was woken, not started. */
struct gate {
    routine_oneshot_t open;
    _Atomic int inside, passed;
};

static void *wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    atomic_store(&gate->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&gate->open, NULL), 0);
    atomic_store(&gate->passed, 1);
    return NULL;
}

static void *spin_until_the_woken_has_run(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
        routine_t h = go(wait_at_gate, &gate);
        WAIT_UNTIL(atomic_load(&gate.inside));
        CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
        while (!atomic_load(&gate.passed))
            sched_yield();
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    return NULL;
}

static int case_lone_child(void)
{
    for (size_t workers = 2; workers <= 4; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        CHECK_EQ(routine_runtime_run(runtime, spin_until_my_child_has_run, NULL, NULL), 0);
        support_runtime_end(runtime);
    }
    return 0;
}

static int case_lone_woken(void)
{
    for (size_t workers = 2; workers <= 4; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        CHECK_EQ(routine_runtime_run(runtime, spin_until_the_woken_has_run, NULL, NULL), 0);
        support_runtime_end(runtime);
    }
    return 0;
}

/* Two workers: the one is kept by a routine that never yields, the other by one that always does. What the
 * first one has in its queue is not lost: whoever yields in vain looks elsewhere. */
struct hog_and_yielder {
    _Atomic int hog, yielder, child;
};

static void *hog_with_a_child(void *arg)
{
    struct hog_and_yielder *both = arg;
    atomic_store(&both->hog, 1);
    while (!atomic_load(&both->yielder))
        sched_yield();
    routine_t h = go(set_flag, (void *)&both->child);
    while (!atomic_load(&both->child))
        sched_yield();
    CHECK_EQ(routine_join(h, NULL), 0);
    return NULL;
}

static void *yielder_beside_a_hog(void *arg)
{
    struct hog_and_yielder *both = arg;
    while (!atomic_load(&both->hog))
        sched_yield();
    atomic_store(&both->yielder, 1);
    WAIT_UNTIL(atomic_load(&both->child));
    return NULL;
}

static int case_lone_child_and_yielder(void)
{
    routine_runtime_t *runtime = support_runtime(2);
    for (int i = 0; i < 20; i++) {
        struct hog_and_yielder both = {0, 0, 0};
        routine_t a = support_go_on(runtime, hog_with_a_child, &both);
        routine_t b = support_go_on(runtime, yielder_beside_a_hog, &both);
        CHECK_EQ(routine_join(a, NULL), 0);
        CHECK_EQ(routine_join(b, NULL), 0);
    }
    support_runtime_end(runtime);
    return 0;
}

static void run_case_to_0(const char *name)
{
    static struct support_result r;
    CASE_EXITS(&r, name, NULL, 0);
}

TEST(a_lone_child_is_stolen)
{
    run_case_to_0("lone_child");
}

TEST(a_lone_child_is_stolen_by_one_that_yields)
{
    run_case_to_0("lone_child_and_yielder");
}

TEST(a_lone_woken_one_is_stolen)
{
    run_case_to_0("lone_woken");
}

/* ---- nobody starves, on one worker ---- */

struct table {
    routine_oneshot_t to[2];
    _Atomic int stop;
    _Atomic long rounds;
    _Atomic int flag;
};

struct player {
    struct table *table;
    int me;
};

/* Two that wake each other for ever: each is always the next one to run. Player 0 says when to stop. */
static void *play(void *arg)
{
    struct player *p = arg;
    struct table *t = p->table;
    for (bool go_on = true; go_on;) {
        void *value = NULL;
        if (p->me == 0) {
            go_on = !atomic_load(&t->stop);
            CHECK_EQ(routine_oneshot_send(&t->to[1], go_on ? t : NULL), 0);
            CHECK_EQ(routine_oneshot_recv(&t->to[0], &value), 0);
            routine_oneshot_init(&t->to[0]);
        } else {
            CHECK_EQ(routine_oneshot_recv(&t->to[1], &value), 0);
            go_on = value != NULL;
            routine_oneshot_init(&t->to[1]);
            CHECK_EQ(routine_oneshot_send(&t->to[0], NULL), 0);
        }
        atomic_fetch_add(&t->rounds, 1);
    }
    return NULL;
}

static void *stop_the_game(void *arg)
{
    struct table *t = arg;
    atomic_store(&t->flag, 1);
    atomic_store(&t->stop, 1);
    return NULL;
}

/* Player 0, who starts another in the middle of the game. */
static void *play_and_spawn(void *arg)
{
    struct player *p = arg;
    CHECK_EQ(go_detached(stop_the_game, p->table), 0);
    return play(arg);
}

static int case_ping_pong_and_unstarted(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct table t = {.stop = 0};
    struct player players[2] = {{&t, 0}, {&t, 1}};
    routine_t b = support_go_on(one, play, &players[1]);
    routine_t a = support_go_on(one, play_and_spawn, &players[0]);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    CHECK_EQ(atomic_load(&t.flag), 1);
    support_runtime_end(one);
    return 0;
}

static int case_ping_pong_and_outsider(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct table t = {.stop = 0};
    struct player players[2] = {{&t, 0}, {&t, 1}};
    routine_t b = support_go_on(one, play, &players[1]);
    routine_t a = support_go_on(one, play, &players[0]);
    WAIT_UNTIL(atomic_load(&t.rounds) > 1000);
    CHECK_EQ(routine_join(support_go_on(one, stop_the_game, &t), NULL), 0);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    support_runtime_end(one);
    return 0;
}

static void *yield_until(void *arg)
{
    WAIT_UNTIL(atomic_load((_Atomic int *)arg));
    return NULL;
}

/* Beside a game and one that yields for ever. */
static int case_ping_pong_and_yielder(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct table t = {.stop = 0};
    struct player players[2] = {{&t, 0}, {&t, 1}};
    routine_t yielder = support_go_on(one, yield_until, (void *)&t.stop);
    routine_t b = support_go_on(one, play, &players[1]);
    routine_t a = support_go_on(one, play, &players[0]);
    WAIT_UNTIL(atomic_load(&t.rounds) > 1000);
    atomic_store(&t.stop, 1);
    CHECK_EQ(routine_join(yielder, NULL), 0); /* gets its turn, to find out */
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    support_runtime_end(one);
    return 0;
}

/* One that yields for ever does not keep away: a game, something from outside, something not begun. */
static void *yield_and_spawn(void *arg)
{
    _Atomic int began = 0;
    routine_t h = go(set_flag, (void *)&began);
    WAIT_UNTIL(atomic_load(&began));
    CHECK_EQ(routine_join(h, NULL), 0);
    return yield_until(arg);
}

static int case_yielders_and_others(void)
{
    routine_runtime_t *one = support_runtime(1);
    _Atomic int flag = 0;
    routine_t h[3];
    for (int i = 0; i < 3; i++)
        h[i] = support_go_on(one, yield_and_spawn, (void *)&flag);
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t waiting = support_go_on(one, wait_at_gate, &gate);
    WAIT_UNTIL(atomic_load(&gate.inside));
    CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
    CHECK_EQ(routine_join(waiting, NULL), 0);
    CHECK_EQ(routine_join(support_go_on(one, set_flag, (void *)&flag), NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    support_runtime_end(one);
    return 0;
}

/* R8: one that only starts and joins in place never blocks: the library makes it breathe. */
struct busy {
    _Atomic int begun, flag;
    struct gate gate;
    _Atomic int yielded;
};

static void join_until(struct busy *b)
{
    atomic_store(&b->begun, 1);
    while (!atomic_load(&b->flag))
        CHECK_EQ(routine_join(go(nothing, b), NULL), 0);
}

static void *join_for_ever(void *arg)
{
    join_until(arg);
    return NULL;
}

static int case_joins_and_outsider(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct busy b = {.flag = 0};
    routine_t h = support_go_on(one, join_for_ever, &b);
    WAIT_UNTIL(atomic_load(&b.begun));
    CHECK_EQ(routine_join(support_go_on(one, set_flag, (void *)&b.flag), NULL), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    support_runtime_end(one);
    return 0;
}

static void *pass_and_set(void *arg)
{
    struct busy *b = arg;
    wait_at_gate(&b->gate);
    atomic_store(&b->flag, 1);
    return NULL;
}

static void *wake_and_join_for_ever(void *arg)
{
    struct busy *b = arg;
    routine_t h = go(pass_and_set, b);
    WAIT_UNTIL(atomic_load(&b->gate.inside));
    CHECK_EQ(routine_oneshot_send(&b->gate.open, NULL), 0);
    join_until(b);
    CHECK_EQ(routine_join(h, NULL), 0);
    return NULL;
}

static int case_joins_and_woken(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct busy b = {.flag = 0};
    CHECK_EQ(routine_runtime_run(one, wake_and_join_for_ever, &b, NULL), 0);
    support_runtime_end(one);
    return 0;
}

static void *yield_and_set(void *arg)
{
    struct busy *b = arg;
    for (int i = 0; i < 10; i++) {
        atomic_store(&b->yielded, 1);
        routine_yield();
    }
    atomic_store(&b->flag, 1);
    return NULL;
}

static void *join_beside_a_yielder(void *arg)
{
    struct busy *b = arg;
    routine_t h = go(yield_and_set, b);
    WAIT_UNTIL(atomic_load(&b->yielded));
    join_until(b);
    CHECK_EQ(routine_join(h, NULL), 0);
    return NULL;
}

static int case_joins_and_yielder(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct busy b = {.flag = 0};
    CHECK_EQ(routine_runtime_run(one, join_beside_a_yielder, &b, NULL), 0);
    support_runtime_end(one);
    return 0;
}

/* An older child of its own, not begun, at the other end of the deque. */
static void *join_beside_an_older_child(void *arg)
{
    struct busy *b = arg;
    routine_t h = go(set_flag, (void *)&b->flag);
    join_until(b);
    CHECK_EQ(routine_join(h, NULL), 0);
    return NULL;
}

static int case_joins_and_older_child(void)
{
    routine_runtime_t *one = support_runtime(1);
    struct busy b = {.flag = 0};
    CHECK_EQ(routine_runtime_run(one, join_beside_an_older_child, &b, NULL), 0);
    support_runtime_end(one);
    return 0;
}

TEST(a_game_of_two_starves_nobody)
{
    run_case_to_0("ping_pong_and_unstarted");
    run_case_to_0("ping_pong_and_outsider");
    run_case_to_0("ping_pong_and_yielder");
}

TEST(yielding_starves_nobody)
{
    run_case_to_0("yielders_and_others");
}

TEST(joining_in_place_starves_nobody)
{
    run_case_to_0("joins_and_outsider");
    run_case_to_0("joins_and_woken");
    run_case_to_0("joins_and_yielder");
    run_case_to_0("joins_and_older_child");
}

/* All that yield get about as many turns. */
enum { EQUALS = 5 };

struct equals {
    _Atomic int turns[EQUALS];
    _Atomic int over;
};

struct equal {
    struct equals *all;
    int me;
};

static void *take_turns(void *arg)
{
    struct equal *e = arg;
    while (!atomic_load(&e->all->over)) {
        if (atomic_fetch_add(&e->all->turns[e->me], 1) == 2000)
            atomic_store(&e->all->over, 1);
        routine_yield();
    }
    return NULL;
}

static void *start_equals(void *arg)
{
    struct equals *all = arg;
    struct equal each[EQUALS];
    routine_t h[EQUALS];
    for (int i = 0; i < EQUALS; i++) {
        each[i] = (struct equal){all, i};
        h[i] = go(take_turns, &each[i]);
    }
    for (int i = 0; i < EQUALS; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    return NULL;
}

TEST(turns_are_even)
{
    routine_runtime_t *one = support_runtime(1);
    struct equals all = {.over = 0};
    CHECK_EQ(routine_runtime_run(one, start_equals, &all, NULL), 0);
    for (int i = 0; i < EQUALS; i++)
        CHECK(atomic_load(&all.turns[i]) >= 1000);
    support_runtime_end(one);
}

/* ---- memory ---- */

static void *pairs(void *arg)
{
    const long rounds = *(long *)arg;
    for (long i = 0; i < rounds; i++) {
        routine_t a = go(nothing, NULL), b = go(nothing, NULL);
        if (routine_join(a, NULL) != 0 || routine_join(b, NULL) != 0)
            support_fail(__FILE__, __LINE__, "a join failed");
    }
    return NULL;
}

/* The oldest first, above one that has not begun. */
static void *queues(void *arg)
{
    enum { N = 50 };
    const long rounds = *(long *)arg / N;
    _Atomic int old = 0;
    routine_t oldest = go(set_flag, (void *)&old);
    for (long i = 0; i < rounds; i++) {
        routine_t h[N];
        for (int k = 0; k < N; k++)
            h[k] = go(nothing, NULL);
        for (int k = 0; k < N; k++)
            if (routine_join(h[k], NULL) != 0)
                support_fail(__FILE__, __LINE__, "a join failed");
    }
    CHECK_EQ(routine_join(oldest, NULL), 0);
    return NULL;
}

/* R2: tombstones stay few. */
TEST(joining_in_the_wrong_order_does_not_grow_memory)
{
    long rounds = support_scale(4000000), few = 1000;
    support_in_routine(pairs, &few);
    support_in_routine(queues, &few);
    const long before = support_resident();
    support_in_routine(pairs, &rounds);
    support_in_routine(queues, &rounds);
    if (!support_slow())
        CHECK(support_resident() - before < 16 << 20);
}

static void *churn(void *arg)
{
    const long rounds = *(long *)arg;
    _Atomic int done = 0;
    int detached = 0;
    for (long i = 0; i < rounds; i++) {
        struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
        routine_t h = go(wait_at_gate, &gate);
        if (i % 3 == 0) {
            CHECK_EQ(go_detached(count, (void *)&done), 0);
            detached++;
        }
        if (i % 2)
            routine_yield();
        CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    WAIT_UNTIL(atomic_load(&done) == detached);
    return NULL;
}

TEST(churn_leaves_nothing_alive_and_no_memory)
{
    enum { N = 8 };
    routine_runtime_t *runtime = support_runtime(3);
    routine_t h[N];
    long few = 1000, rounds = support_scale(40000);
    CHECK_EQ(routine_runtime_run(runtime, churn, &few, NULL), 0);
    const long before = support_resident();
    for (int i = 0; i < N; i++)
        h[i] = support_go_on(runtime, churn, &rounds);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    routine_stats_t stats;
    do /* a detached one has set its flag a moment before it is over */
        CHECK_EQ(routine_stats(runtime, &stats), 0);
    while (stats.live != 0);
    CHECK_EQ(stats.total.spawned, 1 + few + (few + 2) / 3 + N * (1 + rounds + (rounds + 2) / 3));
    CHECK_EQ(stats.total.completed, stats.total.spawned);
    if (!support_slow())
        CHECK(support_resident() - before < 32 << 20);
    support_runtime_end(runtime);
}

/* Not fewer with a sanitizer: what it keeps for each stack (the call stack that it shows, the fake stack)
 * must not grow with the routines that the stack has served. */
TEST(a_stack_serves_many_routines)
{
    routine_runtime_t *one = support_runtime(1);
    long rounds = 50000;
    CHECK_EQ(routine_runtime_run(one, churn, &rounds, NULL), 0);
    support_runtime_end(one);
}

struct branch {
    _Atomic int *leaves;
    int depth;
};

static void *grow(void *arg)
{
    struct branch *b = arg;
    if (b->depth == 0) {
        atomic_fetch_add(b->leaves, 1);
        return NULL;
    }
    struct branch below = {b->leaves, b->depth - 1};
    routine_t first = go_copy(grow, below);
    routine_t second = go(grow, &below);
    routine_t third = go_with(&(routine_attr_t){.name = "third"}, grow, &below);
    if (b->depth % 2)
        routine_yield();
    CHECK_EQ(routine_join(first, NULL), 0);
    CHECK_EQ(routine_join(third, NULL), 0);
    CHECK_EQ(routine_join(second, NULL), 0);
    return NULL;
}

TEST(deep_trees)
{
    _Atomic int leaves = 0;
    struct branch root = {&leaves, support_slow() ? 6 : 10};
    support_in_routine(grow, &root);
    CHECK_EQ(atomic_load(&leaves), support_slow() ? 729 : 59049);
}

/* ---- many ---- */

TEST(a_hundred_thousand_parked_and_woken_in_random_order)
{
    const int n = SUPPORT_TSAN ? 2000 : support_slow() ? 10000 : 100000;
    struct gate *gates = calloc((size_t)n, sizeof *gates);
    routine_t *h = calloc((size_t)n, sizeof *h);
    int *order = calloc((size_t)n, sizeof *order);
    uint64_t seed = 0x9e3779b97f4a7c15;
    for (int i = 0; i < n; i++) {
        order[i] = i;
        h[i] = go(wait_at_gate, &gates[i]);
    }
    for (int i = n - 1; i > 0; i--) {
        const int k = (int)(support_random(&seed) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    for (int i = 0; i < n; i++)
        WAIT_UNTIL(atomic_load(&gates[i].inside));
    routine_stats_t stats;
    do
        CHECK_EQ(routine_stats(NULL, &stats), 0);
    while (stats.parked != (uint64_t)n);
    for (int i = 0; i < n; i++)
        CHECK_EQ(atomic_load(&gates[i].passed), 0);
    for (int i = 0; i < n; i++)
        CHECK_EQ(routine_oneshot_send(&gates[order[i]].open, NULL), 0);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(routine_join(h[order[n - 1 - i]], NULL), 0);
        CHECK_EQ(atomic_load(&gates[order[n - 1 - i]].passed), 1);
    }
    free(gates);
    free(h);
    free(order);
}

/* ---- what belongs to a routine and what to a thread ---- */

/* Asked anew each time: compilers take the address of a thread-local variable for constant. */
SUPPORT_NOINLINE static pthread_t thread_now(void)
{
    __asm__ volatile("");
    return pthread_self();
}

static __thread int thread_local_counter;

SUPPORT_NOINLINE static int *counter_now(void)
{
    int *at = &thread_local_counter;
    __asm__ volatile("" : "+r"(at));
    return at;
}

struct wanderer {
    long rounds;
    _Atomic long moves;
};

static void *wander(void *arg)
{
    struct wanderer *w = arg;
    const routine_t self = routine_self();
    volatile long seed = (long)routine_id(self);
    long a = seed + 1, b = seed * 3, c = seed ^ 0x5555, d = seed << 7;
    double x = (double)seed / 3;
    for (long i = 0; i < w->rounds; i++) {
        const pthread_t before = thread_now();
        int *const counter = counter_now();
        routine_yield();
        if (!pthread_equal(before, thread_now())) {
            atomic_fetch_add(&w->moves, 1);
            CHECK(counter != counter_now());
        } else {
            CHECK(counter == counter_now());
        }
        CHECK(support_same(self, routine_self()));
        if (a != seed + 1 || b != seed * 3 || c != (seed ^ 0x5555) || d != seed << 7 || x != (double)seed / 3)
            support_fail(__FILE__, __LINE__, "a variable was lost over a yield");
        a++, a--, b += 2, b -= 2;
    }
    return NULL;
}

TEST(wanderers_keep_what_is_theirs)
{
    enum { N = 24 };
    struct wanderer w = {support_scale(5000), 0};
    routine_t h[N];
    for (int i = 0; i < N; i++)
        h[i] = go(wander, &w);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    if (routine_runtime_workers(routine_runtime_default()) == 1)
        CHECK_EQ(atomic_load(&w.moves), 0);
}

SUPPORT_NOINLINE static int errno_now(void)
{
    __asm__ volatile("");
    return errno;
}

SUPPORT_NOINLINE static void set_errno(int value)
{
    __asm__ volatile("");
    errno = value;
}

static void *keep_errno(void *arg)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    set_errno(4711);
    for (int i = 0; i < 1000; i++) {
        routine_yield();
        CHECK_EQ(errno_now(), 4711);
        CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
        CHECK_EQ(errno_now(), 4711);
    }
    routine_t h = go(wait_at_gate, &gate);
    WAIT_UNTIL(atomic_load(&gate.inside));
    CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
    CHECK_EQ(errno_now(), 4711);
    return NULL;
}

/* The library never reports through errno, and leaves it alone: on one thread the routines find what the
 * last of them left there. */
TEST(errno_is_left_alone)
{
    routine_runtime_t *one = support_runtime(1);
    routine_t a = support_go_on(one, keep_errno, NULL), b = support_go_on(one, keep_errno, NULL);
    set_errno(815);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
    CHECK_EQ(errno_now(), 815);
    CHECK_EQ(routine_join(b, NULL), -ESRCH);
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    routine_t big = go_with(&(routine_attr_t){.stack_size = 1 << 20, .name = "n"}, nothing, NULL);
    CHECK_EQ(routine_join(big, NULL), 0);
    CHECK_EQ(errno_now(), 815);
    support_runtime_end(one);
    CHECK_EQ(errno_now(), 815);
}

/* ---- at rest ---- */

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Workers that have had work, and routines that wait, cost no CPU while nothing happens. */
static int case_idle(void)
{
    enum { N = 100 };
    static struct gate gates[N];
    static routine_t h[N];
    long few = 2000;
    routine_runtime_t *other = support_runtime(4);
    support_in_routine(churn, &few);
    CHECK_EQ(routine_runtime_run(other, churn, &few, NULL), 0);
    for (int i = 0; i < N; i++)
        h[i] = support_go_on(i % 2 ? other : NULL, wait_at_gate, &gates[i]);
    for (int i = 0; i < N; i++)
        WAIT_UNTIL(atomic_load(&gates[i].inside));
    usleep(100000); /* until they have settled */
    const double before = cpu_seconds();
    usleep(1000000);
    const double used = cpu_seconds() - before;
    if (used > (support_slow() ? 0.2 : 0.02))
        support_fail(__FILE__, __LINE__, "%.3f s of CPU in a second of rest", used);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(routine_oneshot_send(&gates[i].open, NULL), 0);
        CHECK_EQ(routine_join(h[i], NULL), 0);
    }
    support_runtime_end(other);
    return 0;
}

TEST(at_rest_no_cpu_is_used)
{
    run_case_to_0("idle");
}

/* ---- wake-ups from outside are never lost ---- */

static void *wake_one_after_the_other(void *arg)
{
    const long rounds = *(long *)arg;
    for (long i = 0; i < rounds; i++) {
        struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
        routine_t h = go(wait_at_gate, &gate); /* the workers have gone to sleep meanwhile, or are about to */
        if (i % 3 == 0)
            WAIT_UNTIL(atomic_load(&gate.inside));
        CHECK_EQ(routine_oneshot_send(&gate.open, NULL), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    return NULL;
}

TEST(threads_wake_sleeping_workers)
{
    enum { N = 3 };
    long rounds = support_scale(3000);
    pthread_t threads[N];
    wake_one_after_the_other(&rounds); /* alone: nobody else would make up for a lost one */
    for (int i = 0; i < N; i++)
        threads[i] = support_thread(wake_one_after_the_other, &rounds);
    for (int i = 0; i < N; i++)
        support_thread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"lone_child", case_lone_child},
        {"lone_child_and_yielder", case_lone_child_and_yielder},
        {"lone_woken", case_lone_woken},
        {"ping_pong_and_unstarted", case_ping_pong_and_unstarted},
        {"ping_pong_and_outsider", case_ping_pong_and_outsider},
        {"ping_pong_and_yielder", case_ping_pong_and_yielder},
        {"yielders_and_others", case_yielders_and_others},
        {"joins_and_outsider", case_joins_and_outsider},
        {"joins_and_woken", case_joins_and_woken},
        {"joins_and_yielder", case_joins_and_yielder},
        {"joins_and_older_child", case_joins_and_older_child},
        {"idle", case_idle},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_routines_as_workers_run_at_once),
        cmocka_unit_test(a_lone_child_is_stolen),
        cmocka_unit_test(a_lone_child_is_stolen_by_one_that_yields),
        cmocka_unit_test(a_lone_woken_one_is_stolen),
        cmocka_unit_test(a_game_of_two_starves_nobody),
        cmocka_unit_test(yielding_starves_nobody),
        cmocka_unit_test(joining_in_place_starves_nobody),
        cmocka_unit_test(turns_are_even),
        cmocka_unit_test(joining_in_the_wrong_order_does_not_grow_memory),
        cmocka_unit_test(churn_leaves_nothing_alive_and_no_memory),
        cmocka_unit_test(a_stack_serves_many_routines),
        cmocka_unit_test(deep_trees),
        cmocka_unit_test(a_hundred_thousand_parked_and_woken_in_random_order),
        cmocka_unit_test(wanderers_keep_what_is_theirs),
        cmocka_unit_test(errno_is_left_alone),
        cmocka_unit_test(at_rest_no_cpu_is_used),
        cmocka_unit_test(threads_wake_sleeping_workers),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
