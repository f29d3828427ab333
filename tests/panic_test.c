/* SPDX-License-Identifier: MIT
 *
 * Tests of panics: the text that whoever joins gets, from whatever depth and on whatever stack; what a
 * panicked routine leaves behind (nothing); the end of the process where nobody joins, with what is said
 * then, and the hook that decides otherwise; braces that were left by longjmp; and a once function that
 * does not return.
 *
 * What ends the process is a process of its own.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/scope.h"
#include "routines/sync.h"

#include <dlfcn.h>

static void *nothing(void *arg)
{
    return arg;
}

/* How a routine gets to its panic. */
enum way { AT_ONCE, DEEP, PARKED, OFTEN_PARKED, FROM_DEFER, FROM_DEFER_OF_PANIC, IN_BRACES, WAYS };

struct doomed {
    enum way way;
    long number;
    const char *text;
};

static void deferred_panic(void *arg)
{
    const struct doomed *d = arg;
    if (d->number % 2)
        CHECK_EQ(routine_sleep(10), 0);
    routine_panic("%s %ld", d->text, d->number);
}

SUPPORT_NOINLINE static void panic_deep(const struct doomed *d, int depth)
{
    volatile char room[100];
    room[0] = (char)depth;
    if (depth == 0)
        routine_panic("%s %ld", d->text, d->number);
    if (room[0] != 0) /* always */
        panic_deep(d, depth - 1);
}

static void *panic_somehow(void *arg)
{
    struct doomed *d = arg;
    switch (d->way) {
    case AT_ONCE:
        break;
    case DEEP:
        panic_deep(d, 100);
        break;
    case PARKED:
        CHECK_EQ(routine_sleep(20 * ROUTINE_US), 0);
        break;
    case OFTEN_PARKED:
        for (int i = 0; i < 20; i++) {
            routine_yield();
            if (i % 5 == 0)
                CHECK_EQ(routine_sleep(1), 0);
        }
        break;
    case FROM_DEFER: {
        routine_defer(deferred_panic, d);
        return d;
    }
    case FROM_DEFER_OF_PANIC: {
        routine_defer(deferred_panic, d);
        routine_panic("the first of two, which the second replaces");
    }
    case IN_BRACES: {
        routine_with_timeout(-1);
        {
            routine_shield();
            routine_with_timeout(1000 * ROUTINE_S);
            routine_panic("%s %ld", d->text, d->number);
        }
    }
    default:
        break;
    }
    routine_panic("%s %ld", d->text, d->number);
}

static void expect_message(const struct doomed *d)
{
    char expected[200];
    snprintf(expected, sizeof expected, "%s %ld", d->text, d->number);
    CHECK_STR(routine_panic_message(), expected);
}

/* ---- the text ---- */

TEST_EVERYWHERE(a_join_gets_the_text)
{
    for (int i = 0; i < 6 * WAYS; i++) {
        struct doomed d = {(enum way)(i % WAYS), i, "this was to be expected"};
        void *result = &result;
        const routine_t h = go(panic_somehow, &d);
        if (i / WAYS % 3 == 0) {
            CHECK_EQ(routine_join(h, &result), -ENOTRECOVERABLE);
        } else if (i / WAYS % 3 == 1) {
            WAIT_UNTIL(routine_is_finished(h));
            CHECK_EQ(routine_cancel(h), 0); /* it has finished, and was not joined yet */
            CHECK_EQ(routine_join(h, &result), -ENOTRECOVERABLE);
        } else {
            int rc;
            while ((rc = routine_try_join(h, &result)) == -EAGAIN)
                routine_yield();
            CHECK_EQ(rc, -ENOTRECOVERABLE);
        }
        expect_message(&d);
        CHECK(result == &result);
        CHECK_EQ(routine_join(h, NULL), -ESRCH);
        CHECK_EQ(routine_cancel(h), -ESRCH);
        CHECK(routine_is_finished(h));
        if (i % 3 == 0) { /* the text stays, wherever the reader goes */
            for (int k = 0; k < 5; k++)
                routine_yield();
            CHECK_EQ(routine_sleep(1), 0);
            expect_message(&d);
        }
    }
}

TEST_EVERYWHERE(a_run_gets_it_too)
{
    for (int i = 0; i < 2 * WAYS; i++) {
        struct doomed d = {(enum way)(i % WAYS), 1000 + i, "run"};
        void *result = &result;
        CHECK_EQ(routine_run(panic_somehow, &d, &result), -ENOTRECOVERABLE);
        expect_message(&d);
        CHECK(result == &result);
    }
}

static void *without_a_message(void *arg)
{
    CHECK_STR(routine_panic_message(), "");
    CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    CHECK_STR(routine_panic_message(), "");
    CHECK_EQ(routine_join((routine_t){NULL, 0}, NULL), -ESRCH);
    CHECK_STR(routine_panic_message(), "");
    return NULL;
}

TEST_EVERYWHERE(without_a_panic_there_is_no_text)
{
    struct doomed d = {AT_ONCE, 5, "of another one"};
    act_end(act(false, without_a_message, NULL));
    act_end(act(true, without_a_message, NULL));
    CHECK_EQ(routine_join(go(panic_somehow, &d), NULL), -ENOTRECOVERABLE);
    /* the text is this one's, who has joined; blocks and threads that are used again know nothing of it */
    act_end(act(false, without_a_message, NULL));
    act_end(act(true, without_a_message, NULL));
}

/* ---- texts ---- */

static void *panic_empty(void *arg)
{
    (void)arg;
    routine_panic("%s", "");
}

static void *panic_formats(void *arg)
{
    routine_panic("%d%% of %s, %5.2f, %p, %-4u|%.*s|%zu|%c%lld", 42, "everything", 3.14159, arg, 7U, 3,
                  "abcdef", sizeof(int), '!', -5LL);
}

static void *panic_plain(void *arg)
{
    (void)arg;
    routine_panic("only text, \"quoted\"\nand in two lines");
}

static void *panic_with_argument(void *arg)
{
    char *text = arg;
    const size_t length = strlen(text);
    /* what the text was made of may be gone at once */
    routine_defer(free, text);
    routine_panic("%zu: %s.", length, text);
}

TEST_EVERYWHERE(texts_of_all_kinds)
{
    char expected[200];
    CHECK_EQ(routine_join(go(panic_empty, NULL), NULL), -ENOTRECOVERABLE);
    CHECK_STR(routine_panic_message(), "");
    CHECK_EQ(routine_join(go(panic_formats, expected), NULL), -ENOTRECOVERABLE);
    snprintf(expected, sizeof expected, "%d%% of %s, %5.2f, %p, %-4u|%.*s|%zu|%c%lld", 42, "everything",
             3.14159, (void *)expected, 7U, 3, "abcdef", sizeof(int), '!', -5LL);
    CHECK_STR(routine_panic_message(), expected);
    CHECK_EQ(routine_join(go(panic_plain, NULL), NULL), -ENOTRECOVERABLE);
    CHECK_STR(routine_panic_message(), "only text, \"quoted\"\nand in two lines");
    for (size_t length = 1; length <= 100000; length = length * 3 + 1) {
        char *text = malloc(length + 1), *whole = malloc(length + 20);
        if (text == NULL || whole == NULL)
            abort();
        memset(text, 'x', length);
        text[length - 1] = 'y';
        text[length] = '\0';
        snprintf(whole, length + 20, "%zu: %s.", length, text);
        CHECK_EQ(routine_join(go(panic_with_argument, text), NULL), -ENOTRECOVERABLE);
        CHECK(strcmp(routine_panic_message(), whole) == 0);
        free(whole);
    }
}

/* ---- one after the other ---- */

struct chain {
    int depth;
    int parks;
};

/* Each panics because of the one below, whose text it still has. */
static void *chain(void *arg)
{
    const struct chain *c = arg;
    if (c->parks % 2)
        CHECK_EQ(routine_sleep(1), 0);
    if (c->depth == 0)
        routine_panic("0");
    struct chain below = {c->depth - 1, c->parks / 2};
    CHECK_STR(routine_panic_message(), "");
    CHECK_EQ(routine_join(go(chain, &below), NULL), -ENOTRECOVERABLE);
    routine_panic("%d because of %s", c->depth, routine_panic_message());
}

TEST_EVERYWHERE(one_because_of_the_other)
{
    for (int parks = 0; parks < 64; parks += 3) {
        struct chain c = {5, parks};
        CHECK_EQ(routine_join(go(chain, &c), NULL), -ENOTRECOVERABLE);
        CHECK_STR(routine_panic_message(),
                  "5 because of 4 because of 3 because of 2 because of 1 because of 0");
    }
}

static void *inner_join(void *arg)
{
    struct doomed d = {*(enum way *)arg, 1, "inner"};
    CHECK_EQ(routine_join(go(panic_somehow, &d), NULL), -ENOTRECOVERABLE);
    expect_message(&d);
    return arg;
}

/* The text is of the last such join of the one who asks. */
TEST_EVERYWHERE(the_text_is_that_of_the_callers_last_join)
{
    for (int i = 0; i < 2 * WAYS; i++) {
        struct doomed first = {(enum way)(i % WAYS), i, "first"},
                      second = {(enum way)((i + 3) % WAYS), i, "second"};
        enum way way = (enum way)((i + 1) % WAYS);
        CHECK_EQ(routine_join(go(panic_somehow, &first), NULL), -ENOTRECOVERABLE);
        expect_message(&first);
        const routine_t h = go(panic_somehow, &second);
        CHECK_EQ(routine_join(h, NULL), -ENOTRECOVERABLE);
        expect_message(&second);
        const routine_t child = go(inner_join, &way);
        WAIT_UNTIL(routine_is_finished(child));
        expect_message(&second); /* not the child's */
        CHECK_EQ(routine_join(child, NULL), 0);
    }
}

static void join_in_defer(void *arg)
{
    const struct doomed *d = arg;
    struct doomed other = {DEEP, d->number + 1, "the other"};
    CHECK_EQ(routine_join(go(panic_somehow, &other), NULL), -ENOTRECOVERABLE);
    expect_message(&other);
}

static void *panic_and_join_in_defer(void *arg)
{
    struct doomed *d = arg;
    routine_defer(join_in_defer, d);
    {
        routine_defer(join_in_defer, d);
        return panic_somehow(d);
    }
}

/* A panic on its way out, and one that is heard of meanwhile, are two. */
TEST_EVERYWHERE(a_defer_that_joins_a_panicked_one)
{
    for (int i = 0; i < 2 * WAYS; i++) {
        struct doomed d = {(enum way)(i % WAYS), 7 * i, "its own"};
        CHECK_EQ(routine_join(go(panic_and_join_in_defer, &d), NULL), -ENOTRECOVERABLE);
        expect_message(&d);
    }
}

/* Many at once, with joiners on all sides. */
struct crowd {
    long seed;
};

static void *join_many(void *arg)
{
    const struct crowd *c = arg;
    uint64_t random = (uint64_t)c->seed;
    enum { N = 8 };
    for (long round = 0; round < support_scale(300); round++) {
        struct doomed d[N];
        routine_t h[N];
        for (int i = 0; i < N; i++) {
            d[i] = (struct doomed){(enum way)(support_random(&random) % WAYS),
                                   (long)(support_random(&random) % 100000), "one of many"};
            h[i] = go(panic_somehow, &d[i]);
        }
        for (int i = 0; i < N; i++) {
            const int k = round % 2 ? i : N - 1 - i;
            if (support_random(&random) % 4 == 0) {
                routine_with_timeout(1000 * ROUTINE_S);
                CHECK_EQ(routine_join(h[k], NULL), -ENOTRECOVERABLE);
            } else {
                CHECK_EQ(routine_join(h[k], NULL), -ENOTRECOVERABLE);
            }
            expect_message(&d[k]);
        }
    }
    return NULL;
}

TEST(many_at_once)
{
    struct crowd crowds[8];
    struct actor actors[8];
    for (int i = 0; i < 8; i++) {
        crowds[i].seed = 100 + i;
        actors[i] = act(i % 4 == 3, join_many, &crowds[i]);
    }
    for (int i = 0; i < 8; i++)
        act_end(actors[i]);
    routine_runtime_t *one = support_runtime(1); /* where most run in place */
    routine_stats_t stats;
    CHECK_EQ(routine_join(support_go_on(one, join_many, &crowds[0]), NULL), 0);
    CHECK_EQ(routine_stats(one, &stats), 0);
    CHECK_EQ(stats.live, 0);
    CHECK_EQ(stats.total.spawned, stats.total.completed);
    support_runtime_end(one);
}

/* A limit of the joiner, and the panic, at about the same moment. */
static void *join_in_time(void *arg)
{
    uint64_t random = 5 + (uint64_t)(uintptr_t)arg;
    for (long i = 0; i < support_scale(1000); i++) {
        struct doomed d = {i % 2 ? PARKED : OFTEN_PARKED, i, "in time"};
        const routine_t h = go(panic_somehow, &d);
        int rc;
        do {
            routine_with_timeout((int64_t)(support_random(&random) % 50) * ROUTINE_US);
            rc = routine_join(h, NULL);
        } while (rc == -ETIMEDOUT);
        CHECK_EQ(rc, -ENOTRECOVERABLE);
        expect_message(&d);
    }
    return NULL;
}

TEST(the_limit_of_a_joiner_against_a_panic)
{
    struct actor actors[3];
    for (intptr_t i = 0; i < 3; i++)
        actors[i] = act(i == 2, join_in_time, (void *)i);
    for (int i = 0; i < 3; i++)
        act_end(actors[i]);
}

/* ---- what is left behind ---- */

struct large {
    struct doomed doomed;
    unsigned char bytes[32 << 10];
};

static void *panic_closure(void *arg)
{
    struct large *l = arg;
    memset(l->bytes, 1, sizeof l->bytes);
    return panic_somehow(&l->doomed);
}

static void *panic_small_closure(void *arg)
{
    return panic_somehow(arg);
}

static bool live_on(const routine_panic_t *panic)
{
    (void)panic;
    return true;
}

static void *release_closures(void *arg)
{
    static struct large large;
    (void)arg;
    for (long i = 0; i < support_scale(10000); i++) {
        const struct doomed d = {i % 4 == 0 ? PARKED : i % 4 == 1 ? FROM_DEFER : AT_ONCE, i, "closure"};
        large.doomed = d;
        routine_t h = go_copy(panic_closure, large);
        routine_t small = go_copy(panic_small_closure, d);
        if (i % 3 == 0)
            routine_yield();
        if (i % 5 == 4) { /* the hook lets the process live */
            CHECK_EQ(routine_detach(h), 0);
            CHECK_EQ(routine_detach(small), 0);
            while (!routine_is_finished(h) || !routine_is_finished(small))
                routine_yield();
            continue;
        }
        CHECK_EQ(routine_join(h, NULL), -ENOTRECOVERABLE);
        expect_message(&d);
        CHECK_EQ(routine_join(small, NULL), -ENOTRECOVERABLE);
        expect_message(&d);
    }
    return NULL;
}

/* 10,000 of 32 KiB would be 320 MB. (LeakSanitizer looks too.) */
TEST(copies_of_closures_are_released)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK(routine_set_panic_hook(live_on) == NULL);
    const long before = support_resident();
    CHECK_EQ(routine_join(support_go_on(one, release_closures, NULL), NULL), 0);
    support_runtime_end(one);
    support_in_routine(release_closures, NULL);
    if (!support_slow())
        CHECK(support_resident() - before < 100 << 20);
    CHECK(routine_set_panic_hook(NULL) == live_on);
}

/* ---- scopes ---- */

static int scope_child(void *arg)
{
    panic_somehow(arg);
    return 0;
}

static int quiet_child(void *arg)
{
    (void)arg;
    const int rc = routine_sleep(ROUTINE_NEVER);
    CHECK_EQ(rc, -ECANCELED);
    return rc;
}

TEST_EVERYWHERE(the_panic_of_a_scopes_child_is_its_failure)
{
    for (int i = 0; i < 2 * WAYS; i++) {
        struct doomed d = {(enum way)(i % WAYS), i, "in a scope"};
        int error = 1;
        routine_scope(s);
        if (i % 2)
            CHECK_EQ(routine_scope_go(&s, quiet_child, NULL), 0);
        const int rc = routine_scope_go(&s, scope_child, &d);
        CHECK_EQ(rc, 0);
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, -ENOTRECOVERABLE);
        expect_message(&d);
    }
}

/* ---- the hook ---- */

enum { HOOKED = 20000 };

static struct {
    _Atomic long calls;
    _Atomic int seen[HOOKED];
    _Atomic uint64_t ids[HOOKED];
} hooked;

static int hooked_line; /* where all of them are started */

static bool hook(const routine_panic_t *panic)
{
    long number = -1;
    char name[32] = "";
    if (sscanf(panic->message, "number %ld", &number) != 1 || number < 0 || number >= HOOKED) {
        support_fail(__FILE__, __LINE__, "the hook was told \"%s\"", panic->message);
        return true;
    }
    atomic_fetch_add(&hooked.seen[number], 1);
    CHECK(panic->id != 0);
    CHECK_EQ(panic->id, atomic_load(&hooked.ids[number]));
    if (number % 2)
        snprintf(name, sizeof name, "n%ld", number);
    CHECK_STR(panic->name, name);
    char place[64];
    snprintf(place, sizeof place, "panic_test.c:%d", hooked_line);
    CHECK(strstr(panic->where, place) != NULL);
    atomic_fetch_add(&hooked.calls, 1); /* last: then the test goes on */
    return true;
}

static void *panic_hooked(void *arg)
{
    struct doomed *d = arg;
    atomic_store(&hooked.ids[d->number], routine_id(routine_self()));
    return panic_somehow(d);
}

enum { HOOKED_LINE = __LINE__ + 10 };

static routine_t go_hooked(enum way way, long number)
{
    static struct doomed doomed[HOOKED];
    char name[32] = "";
    doomed[number] = (struct doomed){way, number, "number"};
    if (number % 2)
        snprintf(name, sizeof name, "n%ld", number);
    const routine_attr_t attr = {.name = name};
    return go_with(&attr, panic_hooked, &doomed[number]);
}

static void check_hooked(long count)
{
    WAIT_UNTIL(atomic_load(&hooked.calls) >= count);
    CHECK_EQ(atomic_load(&hooked.calls), count);
    for (long i = 0; i < count; i++)
        CHECK_EQ(atomic_load(&hooked.seen[i]), 1);
}

static void *detach_hooked(void *arg)
{
    const long count = *(long *)arg;
    for (long i = 0; i < count; i++) {
        const routine_t h = go_hooked((enum way)(i % WAYS), i);
        if (i % 3 == 0)
            while (!routine_is_finished(h))
                routine_yield();
        else if (i % 3 == 1)
            routine_yield();
        CHECK_EQ(routine_detach(h), 0); /* of one that will panic, does, or has */
        if (i % 3 == 0)
            CHECK_EQ(atomic_load(&hooked.seen[i]), 1); /* called by who detaches */
        CHECK_EQ(routine_join(h, NULL), -ESRCH);
    }
    return NULL;
}

TEST(the_hook_is_told_once_of_each)
{
    long count = support_scale(HOOKED / 4);
    hooked_line = HOOKED_LINE;
    CHECK(routine_set_panic_hook(hook) == NULL);
    for (int i = 0; i < 2; i++) {
        memset(&hooked, 0, sizeof hooked);
        if (i == 0)
            detach_hooked(&count);
        else
            support_in_routine(detach_hooked, &count);
        check_hooked(count);
    }
    memset(&hooked, 0, sizeof hooked);
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, detach_hooked, &count), NULL), 0);
    check_hooked(count);
    support_runtime_end(one);
    CHECK(routine_set_panic_hook(NULL) == hook);
}

/* A detach while the panic is on its way: one of them tells the hook, and it is alive after that. */
struct race {
    struct support_turn turn;
    routine_t handle;
    _Atomic int arrived;
    long rounds;
    int rc;
};

static void *race_panicker(void *arg)
{
    struct race *r = arg;
    support_meet(&r->arrived, 2);
    routine_panic("number 0");
}

static void *race_detacher(void *arg)
{
    struct race *r = arg;
    for (long i = 0; i < r->rounds; i++) {
        support_turn_wait(&r->turn);
        support_meet(&r->arrived, 2);
        r->rc = routine_detach(r->handle);
        support_turn_done(&r->turn);
    }
    return NULL;
}

static bool race_hook(const routine_panic_t *panic)
{
    CHECK_STR(panic->message, "number 0");
    atomic_fetch_add(&hooked.calls, 1);
    return true;
}

TEST(a_detach_against_a_panic)
{
    for (int threads = 0; threads <= 1; threads++) {
        struct race r = {.rounds = support_scale(4000)};
        struct actor detacher = act(threads, race_detacher, &r);
        atomic_store(&hooked.calls, 0);
        CHECK(routine_set_panic_hook(race_hook) == NULL);
        for (long i = 0; i < r.rounds; i++) {
            atomic_store(&r.arrived, 0);
            r.handle = go(race_panicker, &r);
            support_turn_begin(&r.turn);
            support_turn_await(&r.turn);
            CHECK_EQ(r.rc, 0);
            WAIT_UNTIL(routine_is_finished(r.handle));
        }
        act_end(detacher);
        WAIT_UNTIL(atomic_load(&hooked.calls) >= r.rounds);
        CHECK_EQ(atomic_load(&hooked.calls), r.rounds);
        CHECK(routine_set_panic_hook(NULL) == race_hook);
    }
}

static void *detach_it(void *arg)
{
    return (void *)(intptr_t)routine_detach(*(routine_t *)arg);
}

/* The panic is heard of by exactly one: the joiner, or the hook. */
TEST_EVERYWHERE(what_is_joined_is_not_the_hooks_affair)
{
    struct doomed d = {AT_ONCE, 3, "joined"};
    for (int i = 0; i < 20; i++) {
        d.way = (enum way)(i % WAYS);
        const routine_t h = go(panic_somehow, &d);
        CHECK_EQ(routine_join(h, NULL), -ENOTRECOVERABLE);
        expect_message(&d);
        routine_t stale = h;
        void *rc = NULL;
        CHECK_EQ(routine_join(go(detach_it, &stale), &rc), 0);
        CHECK_EQ((intptr_t)rc, -ESRCH);
    }
}

/* One after the other, from several threads: each hook that was set is the one before of exactly one other.
 */
enum { SETTERS = 4 };
static bool hook_0(const routine_panic_t *p)
{
    return p != NULL;
}
static bool hook_1(const routine_panic_t *p)
{
    return p == NULL || true;
}
static bool hook_2(const routine_panic_t *p)
{
    return p->id != 0;
}
static bool hook_3(const routine_panic_t *p)
{
    return p->message != NULL;
}
static routine_panic_hook_t *const own_hooks[SETTERS] = {hook_0, hook_1, hook_2, hook_3};

struct setter {
    int me;
    long times;
    long before[SETTERS + 1]; /* how often each was the one before; last: none */
};

static void *set_hooks(void *arg)
{
    struct setter *s = arg;
    for (long i = 0; i < s->times; i++) {
        routine_panic_hook_t *before = routine_set_panic_hook(own_hooks[s->me]);
        int which = 0;
        while (which < SETTERS && own_hooks[which] != before)
            which++;
        CHECK(which < SETTERS || before == NULL);
        s->before[which]++;
        if (i % 100 == 0) {
            struct doomed d = {AT_ONCE, i, "for one of them"};
            const routine_t h = go(panic_somehow, &d);
            while (!routine_is_finished(h))
                routine_yield();
            CHECK_EQ(routine_detach(h), 0);
        }
    }
    return NULL;
}

TEST(the_hook_is_set_by_several)
{
    struct setter setters[SETTERS];
    struct actor actors[SETTERS];
    memset(setters, 0, sizeof setters);
    for (int i = 0; i < SETTERS; i++) {
        setters[i].me = i;
        setters[i].times = support_scale(5000);
        actors[i] = act(i % 2, set_hooks, &setters[i]);
    }
    for (int i = 0; i < SETTERS; i++)
        act_end(actors[i]);
    routine_panic_hook_t *last = routine_set_panic_hook(NULL);
    long none = 0;
    for (int which = 0; which < SETTERS; which++) {
        long before = own_hooks[which] == last;
        for (int i = 0; i < SETTERS; i++)
            before += setters[i].before[which];
        CHECK_EQ(before, setters[which].times);
        none += setters[which].before[SETTERS];
    }
    CHECK_EQ(none, 1);
}

/* ---- the end of the process ---- */

static void say(void *arg)
{
    printf("%s\n", (const char *)arg);
    fflush(stdout);
}

static char inner_defer[] = "the inner defer", outer_defer[] = "the outer defer", now[] = "now";

SUPPORT_NOINLINE static void the_deepest_function(int number)
{
    routine_defer(say, inner_defer);
    routine_panic("the sky is falling %d %s", number, "today");
}

static void *fall(void *arg)
{
    routine_defer(say, outer_defer);
    if (arg != NULL)
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    the_deepest_function(42);
    return arg;
}

static int wait_for_the_end(void)
{
    for (;;)
        pause();
    return 1;
}

enum { DETACHED_LINE = __LINE__ + 4 };

static int case_detached(void)
{
    CHECK_EQ(go_detached(fall, NULL), 0);
    return wait_for_the_end();
}

enum { NAMED_LINE = __LINE__ + 5 };

static int case_named(void)
{
    const routine_attr_t attr = {.name = "chicken"};
    const routine_t h = go_with(&attr, fall, now);
    CHECK_EQ(routine_detach(h), 0);
    return wait_for_the_end();
}

enum { DETACH_AFTER_LINE = __LINE__ + 4 };

static int case_detach_after(void)
{
    const routine_t h = go(fall, NULL);
    WAIT_UNTIL(routine_is_finished(h));
    say(now);
    CHECK_EQ(routine_detach(h), 0);
    return 1;
}

static struct {
    routine_oneshot_t open;
    _Atomic int inside;
} end_gate;

static void wait_at_the_gate(void *arg)
{
    atomic_store(&end_gate.inside, 1);
    CHECK_EQ(routine_oneshot_recv(&end_gate.open, NULL), 0);
    say(arg);
}

static void *fall_slowly(void *arg)
{
    routine_defer(wait_at_the_gate, outer_defer);
    return fall(arg);
}

enum { DETACH_DURING_LINE = __LINE__ + 4 };

static int case_detach_during(void)
{
    const routine_t h = go(fall_slowly, NULL);
    WAIT_UNTIL(atomic_load(&end_gate.inside));
    CHECK_EQ(routine_detach(h), 0);
    CHECK_EQ(routine_oneshot_send(&end_gate.open, NULL), 0);
    return wait_for_the_end();
}

enum { LONG_LINE = __LINE__ + 14 };

static void *long_last_words(void *arg)
{
    static char text[5000];
    (void)arg;
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "beginning ", 10);
    routine_panic("%s", text);
}

static int case_long(void)
{
    const routine_attr_t attr = {.name = "chatterbox"};
    const routine_t h = go_with(&attr, long_last_words, NULL);
    CHECK_EQ(routine_detach(h), 0);
    return wait_for_the_end();
}

static int case_main_thread(void)
{
    fall(NULL);
    return 1;
}

static int case_second_thread(void)
{
    support_thread_join(support_thread(fall, now), NULL);
    return 1;
}

static void after_the_sentence(const char *text, const char *what)
{
    const char *sentence = strstr(text, "the sky is falling 42 today"), *other = strstr(text, what);
    CHECK(sentence != NULL && other != NULL && other > sentence);
}

static void before_the_sentence(const char *text, const char *what)
{
    const char *sentence = strstr(text, "the sky is falling 42 today"), *other = strstr(text, what);
    CHECK(sentence != NULL && other != NULL && other < sentence);
}

/* Where the C library can tell, the lines of the backtrace say where the panic was. */
static void has_backtrace(const char *text)
{
#ifdef __GLIBC__
    int lines = 0, inside = 0, offsets = 0;
    Dl_info info;
    void *function;
    void (*pointer)(int) = the_deepest_function;
    memcpy(&function, &pointer, sizeof function);
    CHECK(dladdr(function, &info) != 0);
    const unsigned long offset = (unsigned long)((char *)function - (char *)info.dli_fbase);
    for (const char *at = strstr(text, "[0x"); at != NULL; at = strstr(at + 1, "[0x"))
        lines++;
    for (const char *at = strstr(text, "(+0x"); at != NULL; at = strstr(at + 1, "(+0x")) {
        const unsigned long here = strtoul(at + 2, NULL, 16);
        offsets++;
        inside += here > offset && here < offset + 4096;
    }
    CHECK(lines >= 3);
    CHECK(offsets == 0 || inside > 0);
#else
    (void)text;
#endif
}

static void check_end(const char *name, int line, const char *routine_name)
{
    static struct support_result r;
    char place[64];
    CASE_DIES(&r, name, NULL, SIGABRT);
    CASE_SAYS(&r, name, "routines: ");
    CASE_SAYS(&r, name, "the sky is falling 42 today");
    CASE_DOES_NOT_SAY(&r, name, "check failed");
    before_the_sentence(r.text, inner_defer); /* the defers come first */
    before_the_sentence(r.text, outer_defer);
    if (line > 0) {
        snprintf(place, sizeof place, "panic_test.c:%d", line);
        after_the_sentence(r.text, place);
    } else {
        after_the_sentence(r.text, "thread");
    }
    if (routine_name != NULL)
        after_the_sentence(r.text, routine_name);
    if (strcmp(name, "detach_after") == 0)
        before_the_sentence(r.text, now);
    has_backtrace(r.text);
}

TEST(where_nobody_joins_the_process_ends_with_a_sentence)
{
    check_end("detached", DETACHED_LINE, NULL);
    check_end("named", NAMED_LINE, "chicken");
    check_end("detach_after", DETACH_AFTER_LINE, NULL);
    check_end("detach_during", DETACH_DURING_LINE, NULL);
    check_end("main_thread", 0, NULL);
    check_end("second_thread", 0, NULL);
}

/* A long text hides nothing of the rest. */
TEST(long_last_words_are_not_the_last)
{
    static struct support_result r;
    char place[64];
    snprintf(place, sizeof place, "panic_test.c:%d", LONG_LINE);
    CASE_DIES(&r, "long", NULL, SIGABRT);
    CASE_SAYS(&r, "long", "beginning xxx");
    CASE_SAYS(&r, "long", "chatterbox");
    CASE_SAYS(&r, "long", place);
}

/* ---- the hook and the end ---- */

static bool hook_says_no(const routine_panic_t *panic)
{
    printf("hook: %s, %s, %s\n", panic->message, panic->id != 0 ? "a routine" : "a thread", panic->name);
    fflush(stdout);
    CHECK((panic->id != 0) == (panic->where[0] != '\0'));
    return false;
}

static bool hook_says_yes(const routine_panic_t *panic)
{
    hook_says_no(panic);
    return true;
}

static int case_hook_no(void)
{
    CHECK(routine_set_panic_hook(hook_says_no) == NULL);
    return case_named();
}

static int case_hook_no_detach_after(void)
{
    CHECK(routine_set_panic_hook(hook_says_no) == NULL);
    return case_detach_after();
}

static int case_hook_yes(void)
{
    CHECK(routine_set_panic_hook(hook_says_yes) == NULL);
    CHECK_EQ(go_detached(fall, NULL), 0);
    const routine_t h = go(fall, NULL);
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_EQ(routine_detach(h), 0);
    routine_runtime_t *runtime = routine_runtime_default();
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
    return 7;
}

static int case_hook_yes_on_a_thread(void)
{
    CHECK(routine_set_panic_hook(hook_says_yes) == NULL);
    return case_second_thread();
}

TEST(the_hook_decides_about_the_end)
{
    static struct support_result r;
    CASE_DIES(&r, "hook_no", NULL, SIGABRT);
    CASE_SAYS(&r, "hook_no", "hook: the sky is falling 42 today, a routine, chicken\n");
    CASE_SAYS(&r, "hook_no", "routines: "); /* and then as without a hook */
    CASE_DOES_NOT_SAY(&r, "hook_no", "check failed");
    has_backtrace(r.text);
    CASE_DIES(&r, "hook_no_detach_after", NULL, SIGABRT);
    CASE_SAYS(&r, "hook_no_detach_after", "hook: the sky is falling 42 today, a routine, \n");
    CASE_SAYS(&r, "hook_no_detach_after", "routines: ");

    CASE_EXITS(&r, "hook_yes", NULL, 7);
    CASE_SAYS(&r, "hook_yes", "hook: the sky is falling 42 today, a routine, \n");
    CASE_DOES_NOT_SAY(&r, "hook_yes", "routines: ");

    CASE_DIES(&r, "hook_yes_on_a_thread", NULL, SIGABRT); /* there is nothing that could go on */
    CASE_SAYS(&r, "hook_yes_on_a_thread", "hook: the sky is falling 42 today, a thread, \n");
    CASE_SAYS(&r, "hook_yes_on_a_thread", "routines: ");
}

/* ---- where a panic cannot be one ---- */

static routine_key_t bad_key;

static void panic_in_destructor(void *value)
{
    routine_panic("too late for %s", (const char *)value);
}

static void *set_bad_local(void *arg)
{
    CHECK_EQ(routine_setspecific(bad_key, arg), 0);
    return NULL;
}

static int case_destructor(void)
{
    CHECK_EQ(routine_key_create(&bad_key, panic_in_destructor), 0);
    CHECK_EQ(routine_join(go(set_bad_local, now), NULL), 0);
    return 1;
}

static void *fork_and_fall(void *arg)
{
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        fall(NULL); /* this goes on as a plain thread: its joiner is in another process */
        _exit(1);
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
    return arg;
}

static int case_forked(void)
{
    CHECK_EQ(routine_run(fork_and_fall, NULL, NULL), 0);
    return 3;
}

TEST(panics_that_nobody_can_be_told_of)
{
    static struct support_result r;
    CASE_DIES(&r, "destructor", NULL, SIGABRT);
    CASE_SAYS(&r, "destructor", "routines: ");
    CASE_SAYS(&r, "destructor", "too late for now");
    if (!SUPPORT_ASAN) { /* gcc 12's does not take its allocator's locks over a fork */
        CASE_EXITS(&r, "forked", NULL, 3);
        CASE_SAYS(&r, "forked", "the sky is falling 42 today");
    }
}

/* ---- longjmp ---- */

static jmp_buf back;

SUPPORT_NOINLINE static void jump_out(void)
{
    routine_with_timeout(1000 * ROUTINE_S);
    {
        routine_shield();
        longjmp(back, 1);
    }
}

/* What is called afterwards writes over the records that were left: with what, WITH says. */
SUPPORT_NOINLINE static void write_over(void)
{
    const char *with = getenv("WITH");
    volatile char block[2000];
    for (size_t i = 0; with != NULL && i < sizeof block; i++)
        block[i] = (char)(*with == '0' ? 0 : *with == '1' ? 0xff : (int)(i * 37));
}

SUPPORT_NOINLINE static void come_back(void)
{
    if (setjmp(back) == 0)
        jump_out();
    write_over();
}

/* Noticed at the end of the braces around. */
SUPPORT_NOINLINE static void come_back_inside(void)
{
    routine_defer(say, outer_defer);
    come_back();
}

/* Noticed at the next declaration: the record of the old one is below. */
SUPPORT_NOINLINE static void come_back_and_declare(void)
{
    come_back();
    routine_shield();
    say(now);
}

static void *longjmp_inside(void *arg)
{
    come_back_inside();
    return arg;
}

static void *longjmp_and_declare(void *arg)
{
    come_back_and_declare();
    return arg;
}

static void *longjmp_and_return(void *arg)
{
    come_back();
    return arg;
}

static void *longjmp_and_exit(void *arg)
{
    come_back();
    routine_exit(arg);
}

static int case_longjmp_exit(void)
{
    return routine_join(go(longjmp_and_exit, NULL), NULL);
}

static int case_longjmp_inside(void)
{
    return routine_join(go(longjmp_inside, NULL), NULL);
}

static int case_longjmp_declare(void)
{
    return routine_join(go(longjmp_and_declare, NULL), NULL);
}

static int case_longjmp_return(void)
{
    return routine_join(go(longjmp_and_return, NULL), NULL);
}

static void *longjmp_in_place(void *arg)
{
    CHECK_EQ(routine_join(go(longjmp_and_return, arg), NULL), 0);
    return NULL;
}

static int case_longjmp_in_place(void)
{
    return routine_join(support_go_on(support_runtime(1), longjmp_in_place, NULL), NULL);
}

static int case_longjmp_inside_on_a_thread(void)
{
    longjmp_inside(NULL);
    return 0;
}

static int case_longjmp_declare_on_a_thread(void)
{
    longjmp_and_declare(NULL);
    return 0;
}

TEST(a_longjmp_out_of_braces_is_noticed)
{
    static struct support_result r;
    static const char *const names[] = {"longjmp_inside",
                                        "longjmp_declare",
                                        "longjmp_return",
                                        "longjmp_exit",
                                        "longjmp_in_place",
                                        "longjmp_inside_on_a_thread",
                                        "longjmp_declare_on_a_thread"};
    static const char *const with[][2] = {{NULL}, {"WITH=0"}, {"WITH=1"}, {"WITH=2"}};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (size_t k = 0; k < COUNT_OF(with); k++) {
            CASE_DIES(&r, names[i], with[k], SIGABRT);
            CASE_SAYS(&r, names[i], "routines: ");
            CASE_SAYS(&r, names[i], "longjmp");
            CASE_DOES_NOT_SAY(&r, names[i], now);
        }
}

/* A scope without the macro may be begun by a function that has returned when it ends: that is none. */
static int leave_mark(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return 0;
}

SUPPORT_NOINLINE static void begin_deeper(routine_scope_t *scope)
{
    volatile char room[500];
    room[0] = 0;
    routine_scope_begin(scope, 0);
    room[1] = room[0];
}

SUPPORT_NOINLINE static void end_deeper(routine_scope_t *scope)
{
    volatile char room[900];
    room[0] = 0;
    routine_scope_end(scope);
    room[1] = room[0];
}

TEST_EVERYWHERE(a_scope_that_a_function_has_begun_is_no_longjmp)
{
    _Atomic int marks = 0;
    routine_scope_t *scopes = malloc(2 * sizeof *scopes), here;
    if (scopes == NULL)
        abort();
    for (int i = 0; i < 3; i++) {
        routine_scope_t *outer = i == 0 ? &here : &scopes[0], *inner = i == 2 ? &here : &scopes[1];
        int error = 1;
        begin_deeper(outer);
        {
            routine_with_timeout(1000 * ROUTINE_S);
            CHECK_EQ(routine_scope_go(outer, leave_mark, (void *)&marks), 0);
            begin_deeper(inner);
            {
                routine_shield();
                CHECK_EQ(routine_scope_go(inner, leave_mark, (void *)&marks), 0);
            }
            CHECK_EQ(routine_scope_join(inner, &error), 0);
            CHECK_EQ(error, 0);
            end_deeper(inner);
        }
        CHECK_EQ(routine_scope_join(outer, &error), 0);
        end_deeper(outer);
        CHECK_EQ(atomic_load(&marks), 2 * i + 2);
    }
    free(scopes);
}

/* ---- once ---- */

struct once {
    routine_once_t once;
    int how; /* 0: its function returns, 1: exits, 2: panics */
    routine_oneshot_t gate;
    _Atomic int calls, inside, arrived, through;
};

static void once_fn(void *arg)
{
    struct once *o = arg;
    if (atomic_fetch_add(&o->calls, 1) > 0)
        return;
    atomic_store(&o->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&o->gate, NULL), 0);
    if (o->how == 1)
        routine_exit(o);
    if (o->how == 2)
        routine_panic("once and for all");
}

static void *once_first(void *arg)
{
    struct once *o = arg;
    CHECK_EQ(routine_once_with(&o->once, once_fn, o), 0);
    CHECK_EQ(o->how, 0);
    return o;
}

static void *once_other(void *arg)
{
    struct once *o = arg;
    atomic_fetch_add(&o->arrived, 1);
    CHECK_EQ(routine_once_with(&o->once, once_fn, o), 0);
    atomic_fetch_add(&o->through, 1);
    return NULL;
}

TEST(a_once_function_that_does_not_return_leaves_nobody_waiting)
{
    enum { OTHERS = 6 };
    for (int i = 0; i < (int)support_scale(300); i++) {
        struct once o = {.how = i % 3};
        struct actor others[OTHERS];
        void *result = NULL;
        const routine_t first = go(once_first, &o);
        WAIT_UNTIL(atomic_load(&o.inside));
        for (int k = 0; k < OTHERS; k++)
            others[k] = act(k % 3 == 2, once_other, &o);
        if (i % 2)
            WAIT_UNTIL(atomic_load(&o.arrived) == OTHERS);
        CHECK_EQ(routine_oneshot_send(&o.gate, NULL), 0);
        for (int k = 0; k < OTHERS; k++)
            act_end(others[k]);
        CHECK_EQ(routine_join(first, &result), o.how == 2 ? -ENOTRECOVERABLE : 0);
        CHECK(result == (o.how == 2 ? NULL : &o));
        CHECK_EQ(atomic_load(&o.through), OTHERS);
        once_other(&o); /* and whoever comes later */
        CHECK_EQ(atomic_load(&o.calls), 1);
    }
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"detached", case_detached},
        {"named", case_named},
        {"detach_after", case_detach_after},
        {"detach_during", case_detach_during},
        {"long", case_long},
        {"main_thread", case_main_thread},
        {"second_thread", case_second_thread},
        {"hook_no", case_hook_no},
        {"hook_no_detach_after", case_hook_no_detach_after},
        {"hook_yes", case_hook_yes},
        {"hook_yes_on_a_thread", case_hook_yes_on_a_thread},
        {"destructor", case_destructor},
        {"forked", case_forked},
        {"longjmp_inside", case_longjmp_inside},
        {"longjmp_declare", case_longjmp_declare},
        {"longjmp_return", case_longjmp_return},
        {"longjmp_exit", case_longjmp_exit},
        {"longjmp_in_place", case_longjmp_in_place},
        {"longjmp_inside_on_a_thread", case_longjmp_inside_on_a_thread},
        {"longjmp_declare_on_a_thread", case_longjmp_declare_on_a_thread},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_join_gets_the_text),
        cmocka_unit_test(a_run_gets_it_too),
        cmocka_unit_test(without_a_panic_there_is_no_text),
        cmocka_unit_test(texts_of_all_kinds),
        cmocka_unit_test(one_because_of_the_other),
        cmocka_unit_test(the_text_is_that_of_the_callers_last_join),
        cmocka_unit_test(a_defer_that_joins_a_panicked_one),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(the_limit_of_a_joiner_against_a_panic),
        cmocka_unit_test(copies_of_closures_are_released),
        cmocka_unit_test(the_panic_of_a_scopes_child_is_its_failure),
        cmocka_unit_test(the_hook_is_told_once_of_each),
        cmocka_unit_test(a_detach_against_a_panic),
        cmocka_unit_test(what_is_joined_is_not_the_hooks_affair),
        cmocka_unit_test(the_hook_is_set_by_several),
        cmocka_unit_test(where_nobody_joins_the_process_ends_with_a_sentence),
        cmocka_unit_test(long_last_words_are_not_the_last),
        cmocka_unit_test(the_hook_decides_about_the_end),
        cmocka_unit_test(panics_that_nobody_can_be_told_of),
        cmocka_unit_test(a_longjmp_out_of_braces_is_noticed),
        cmocka_unit_test(a_once_function_that_does_not_return_leaves_nobody_waiting),
        cmocka_unit_test(a_scope_that_a_function_has_begun_is_no_longjmp),
    };
    return cmocka_run_group_tests_name("panic", tests, NULL, NULL);
}
