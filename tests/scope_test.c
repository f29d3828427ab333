/* SPDX-License-Identifier: MIT
 *
 * Tests of scopes: children and their results, failures, cancellation from outside and of the owner, limits
 * of time, limited scopes, inherited keys, panics that nobody was told of, wrong use, the statistics.
 * (What ends the children's waits, how braces are left, and chance: scope_stress_test.c.)
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

#include "routines/chan.h"
#include "routines/scope.h"
#include "routines/sync.h"

#define AS_ARG(integer) ((void *)(intptr_t)(integer))

/* ---- children ---- */

static int add_one(void *arg)
{
    atomic_fetch_add((_Atomic long *)arg, 1);
    return 0;
}

static int give(void *arg)
{
    return (int)(intptr_t)arg;
}

/* A crowd of children: how many of them have begun and ended, and what holds them up. */
struct crowd {
    _Atomic long begun, ended;
    chan_t *gate;
};

/* Only a cancellation ends it. */
static int sleep_on(void *arg)
{
    struct crowd *c = arg;
    atomic_fetch_add(&c->begun, 1);
    const int rc = routine_sleep(ROUTINE_NEVER);
    CHECK_EQ(rc, -ECANCELED);
    CHECK_EQ(routine_check(), -ECANCELED);
    atomic_fetch_add(&c->ended, 1);
    return rc;
}

/* Waits, whatever happens, until the gate is closed. */
static int shielded_at_gate(void *arg)
{
    struct crowd *c = arg;
    routine_shield();
    atomic_fetch_add(&c->begun, 1);
    CHECK_EQ(chan_recv(c->gate, NULL), -EPIPE);
    atomic_fetch_add(&c->ended, 1);
    return 0;
}

/* Waits until the gate is closed, and is not cancelled nor late. */
static int at_gate(void *arg)
{
    struct crowd *c = arg;
    atomic_fetch_add(&c->begun, 1);
    CHECK_EQ(chan_recv(c->gate, NULL), -EPIPE);
    CHECK_EQ(routine_check(), 0);
    atomic_fetch_add(&c->ended, 1);
    return 0;
}

static chan_t *new_gate(void)
{
    chan_t *gate = chan_make(char, 0);
    if (gate == NULL)
        abort();
    return gate;
}

static void go_many(routine_scope_t *s, int n, routine_scope_fn *fn, void *arg)
{
    for (int i = 0; i < n; i++)
        CHECK_EQ(routine_scope_go(s, fn, arg), 0);
}

/* Joins, without being disturbed, and checks the error. */
static void join_for(routine_scope_t *s, int expected)
{
    int error = 77;
    routine_shield();
    CHECK_EQ(routine_scope_join(s, &error), 0);
    CHECK_EQ(error, expected);
}

/* ---- results ---- */

struct square {
    int n;
    long *out;
};

static int square(void *arg)
{
    struct square *sq = arg;
    *sq->out += (long)sq->n * sq->n;
    sq->n = -1; /* its own copy */
    return 0;
}

TEST_EVERYWHERE(results_are_there_after_the_join)
{
    long out[12] = {0};
    int error = 77;
    routine_scope(s);
    struct square job = {0, NULL}, own[6];
    for (int i = 0; i < 6; i++) {
        own[i] = (struct square){i, &out[i]};
        CHECK_EQ(routine_scope_go(&s, square, &own[i]), 0);
    }
    for (job.n = 6; job.n < 11; job.n++) {
        job.out = &out[job.n];
        CHECK_EQ(routine_scope_go_copy(&s, square, job), 0);
    }
    CHECK_EQ(routine_scope_go_copy(&s, square, ((struct square){11, &out[11]})), 0);
    CHECK_EQ(routine_scope_join(&s, &error), 0);
    CHECK_EQ(error, 0);
    for (int i = 0; i < 12; i++)
        CHECK_EQ(out[i], (long)i * i);
    CHECK_EQ(job.n, 11);
    CHECK_EQ(routine_scope_join(&s, NULL), 0); /* once more: nobody is left */
}

TEST_EVERYWHERE(a_scope_without_children)
{
    for (int i = 0; i < 1000; i++) {
        int error = 77;
        routine_scope(s);
        routine_scope_limited(t, 1);
        CHECK_EQ(routine_scope_join(&s, &error), 0);
        CHECK_EQ(error, 0);
        if (i % 3 == 0)
            continue;
        if (i % 3 == 1)
            CHECK_EQ(routine_scope_join(&t, NULL), 0);
    }
}

TEST_EVERYWHERE(thousands_of_children)
{
    const long many = support_scale(4000);
    _Atomic long sum = 0;
    routine_scope(s);
    for (long i = 0; i < many; i++)
        CHECK_EQ(routine_scope_go(&s, add_one, &sum), 0);
    join_for(&s, 0);
    CHECK_EQ(atomic_load(&sum), many);
}

struct tree {
    routine_scope_t *scope;
    _Atomic long *count;
    int depth;
};

static int grow(void *arg)
{
    struct tree t = *(struct tree *)arg;
    atomic_fetch_add(t.count, 1);
    if (t.depth-- > 0)
        for (int i = 0; i < 2; i++)
            CHECK_EQ(routine_scope_go_copy(t.scope, grow, t), 0);
    return 0;
}

TEST_EVERYWHERE(children_start_children_in_the_same_scope)
{
    _Atomic long count = 0;
    routine_scope(s);
    CHECK_EQ(routine_scope_go_copy(&s, grow, ((struct tree){&s, &count, 8})), 0);
    join_for(&s, 0);
    CHECK_EQ(atomic_load(&count), (1 << 9) - 1);
}

struct level {
    int depth, error, sum;
};

static int descend(void *arg)
{
    struct level *l = arg;
    if (l->depth == 0)
        return l->error;
    struct level below = {l->depth - 1, l->error, 0};
    int error = 77;
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, descend, &below), 0);
    CHECK_EQ(routine_scope_join(&s, &error), 0);
    CHECK_EQ(error, l->error);
    l->sum = below.sum + 1;
    return error;
}

TEST_EVERYWHERE(a_thousand_nested_scopes)
{
    struct level fine = {1000, 0, 0}, bad = {1000, -EIO, 0};
    descend(&fine);
    CHECK_EQ(fine.sum, 1000);
    descend(&bad); /* the error of the innermost comes up */
    CHECK_EQ(bad.sum, 1000);
}

TEST_EVERYWHERE(several_scopes_of_one_routine)
{
    struct crowd first = {0}, second = {0};
    _Atomic long sum = 0;
    routine_scope(a);
    routine_scope(b);
    {
        routine_scope(c);
        go_many(&a, 5, sleep_on, &first);
        go_many(&b, 5, sleep_on, &second);
        go_many(&c, 5, add_one, &sum);
        WAIT_UNTIL(atomic_load(&first.begun) == 5 && atomic_load(&second.begun) == 5);
        join_for(&c, 0);
        CHECK_EQ(atomic_load(&sum), 5);

        /* what happens to one is nothing to the others */
        CHECK_EQ(routine_scope_go(&a, give, AS_ARG(-EIO)), 0);
        join_for(&a, -EIO);
        CHECK_EQ(atomic_load(&first.ended), 5);
        CHECK_EQ(atomic_load(&second.ended), 0);
        CHECK_EQ(routine_scope_go(&c, add_one, &sum), 0);
        join_for(&c, 0);
        CHECK_EQ(atomic_load(&sum), 6);
    }
    CHECK_EQ(atomic_load(&second.ended), 0);
    routine_scope_cancel(&b);
    join_for(&b, 0);
    CHECK_EQ(atomic_load(&second.ended), 5);
}

TEST_EVERYWHERE(a_scope_is_used_again_after_a_join)
{
    _Atomic long sum = 0;
    struct crowd c = {0};
    {
        routine_scope(s);
        for (int round = 1; round <= 50; round++) {
            go_many(&s, 5, add_one, &sum);
            join_for(&s, 0);
            CHECK_EQ(atomic_load(&sum), 5 * round);
        }
        go_many(&s, 5, sleep_on, &c);
        if (routine_now() % 2)
            WAIT_UNTIL(atomic_load(&c.begun) == 5);
    } /* no join has told of these: they are cancelled */
    CHECK_EQ(atomic_load(&c.begun), atomic_load(&c.ended));
}

/* The memory may go when it has ended. */
TEST_EVERYWHERE(a_scope_by_hand)
{
    for (int i = 0; i < 200; i++) {
        _Atomic long sum = 0;
        struct crowd c = {0};
        routine_scope_t *s = malloc(sizeof *s);
        if (s == NULL)
            abort();
        (void)routine_scope_begin(s, i % 4);
        CHECK_EQ(routine_scope_go(s, add_one, &sum), 0);
        if (i % 2) {
            join_for(s, 0);
            CHECK_EQ(atomic_load(&sum), 1);
        } else {
            CHECK_EQ(routine_scope_go(s, sleep_on, &c), 0);
        }
        routine_scope_end(s);
        memset(s, 0xA5, sizeof *s);
        free(s);
        CHECK_EQ(atomic_load(&c.begun), atomic_load(&c.ended));
    }
}

/* ---- failures ---- */

TEST_EVERYWHERE(the_first_failure_cancels_the_others)
{
    for (int round = 0; round < 20; round++) {
        struct crowd others = {0};
        routine_scope(s);
        go_many(&s, 10, sleep_on, &others);
        if (round % 2)
            WAIT_UNTIL(atomic_load(&others.begun) == 10);
        CHECK_EQ(routine_scope_go(&s, give, AS_ARG(-EIO - round)), 0);
        join_for(&s, -EIO - round);
        CHECK_EQ(atomic_load(&others.begun), atomic_load(&others.ended));
        CHECK(round % 2 == 0 || atomic_load(&others.ended) == 10);
    }
}

static int sleep_and_give(void *arg)
{
    CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ECANCELED);
    return (int)(intptr_t)arg;
}

TEST_EVERYWHERE(only_the_first_failure_is_told)
{
    for (int round = 0; round < 20; round++) {
        routine_scope(s);
        go_many(&s, 5, sleep_and_give, AS_ARG(-EPIPE)); /* if they have begun they fail when cancelled */
        CHECK_EQ(routine_scope_go(&s, give, AS_ARG(-EIO)), 0);
        join_for(&s, -EIO);
    }
}

TEST_EVERYWHERE(a_child_that_gives_ecanceled_without_a_cancellation_has_failed)
{
    struct crowd others = {0};
    routine_scope(s);
    go_many(&s, 5, sleep_on, &others);
    CHECK_EQ(routine_scope_go(&s, give, AS_ARG(-ECANCELED)), 0);
    join_for(&s, -ECANCELED);
    CHECK_EQ(atomic_load(&others.begun), atomic_load(&others.ended));
}

struct teller {
    _Atomic int begun;
    int error;
};

static int wait_and_tell(void *arg)
{
    struct teller *t = arg;
    atomic_store(&t->begun, 1);
    CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ECANCELED);
    return t->error;
}

TEST_EVERYWHERE(a_failure_after_a_cancellation_is_one)
{
    static const int errors[] = {-EIO, -ECANCELED, 0, -ETIMEDOUT};
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        struct teller t = {.error = errors[i]};
        routine_scope(s);
        CHECK_EQ(routine_scope_go(&s, wait_and_tell, &t), 0);
        WAIT_UNTIL(atomic_load(&t.begun));
        routine_scope_cancel(&s);
        join_for(&s, errors[i] == -ECANCELED ? 0 : errors[i]);
    }
}

struct big {
    _Atomic long *ran;
    unsigned char bytes[16 << 10];
};

static int run_big(void *arg)
{
    return add_one((void *)((struct big *)arg)->ran);
}

/* LeakSanitizer sees to the copies. */
TEST_EVERYWHERE(after_a_failure_nothing_is_started)
{
    _Atomic long ran = 0, before = 0;
    static const struct big blank;
    struct big *big = malloc(sizeof *big);
    if (big == NULL)
        abort();
    *big = blank;
    big->ran = &ran;
    {
        routine_scope(s);
        int rc;
        CHECK_EQ(routine_scope_go(&s, give, AS_ARG(-EIO)), 0);
        while ((rc = routine_scope_go(&s, add_one, &before)) == 0)
            routine_yield();
        CHECK_EQ(rc, -ECANCELED);
        for (int i = 0; i < 20; i++) {
            CHECK_EQ(routine_scope_go(&s, add_one, &ran), -ECANCELED);
            CHECK_EQ(routine_scope_go_copy(&s, run_big, *big), -ECANCELED);
            CHECK_EQ(routine_scope_go_each(&s, add_one, (void *)&ran, 3, 0), -ECANCELED);
        }
        join_for(&s, -EIO);
    }
    CHECK_EQ(atomic_load(&ran), 0);
    free(big);
}

static SUPPORT_NOINLINE int leave_from(int depth, const void *how, intptr_t arg)
{
    volatile char frame[64];
    frame[0] = (char)depth;
    if (depth > 0)
        return leave_from(depth - 1, how, arg) + frame[0];
    if (frame[0] != 0)
        return 77;
    if (how == NULL)
        routine_exit(AS_ARG(arg));
    routine_panic("child %ld: %s", (long)arg, (const char *)how);
}

static int exit_deep(void *arg)
{
    return leave_from(20, NULL, (intptr_t)arg);
}

TEST_EVERYWHERE(the_exit_of_a_child_is_its_result)
{
    static const int results[] = {0, -EIO, -ECANCELED};
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        routine_scope(s);
        CHECK_EQ(routine_scope_go(&s, exit_deep, AS_ARG(results[i])), 0);
        join_for(&s, results[i]);
    }
}

struct panicking {
    _Atomic long *cleaned;
    int number;
};

static void count_up(void *arg)
{
    atomic_fetch_add((_Atomic long *)arg, 1);
}

static int panic_deep(void *arg)
{
    const struct panicking p = *(struct panicking *)arg;
    routine_defer(count_up, (void *)p.cleaned);
    return leave_from(20, "no way on", p.number);
}

TEST_EVERYWHERE(the_panic_of_a_child_is_a_failure)
{
    for (int round = 0; round < 20; round++) {
        _Atomic long cleaned = 0;
        struct crowd others = {0};
        char expected[64];
        snprintf(expected, sizeof expected, "child %d: no way on", round);
        routine_scope(s);
        go_many(&s, 3, sleep_on, &others);
        CHECK_EQ(routine_scope_go_copy(&s, panic_deep, ((struct panicking){&cleaned, round})), 0);
        join_for(&s, -ENOTRECOVERABLE);
        CHECK_STR(routine_panic_message(), expected);
        CHECK_EQ(atomic_load(&cleaned), 1);
        CHECK_EQ(atomic_load(&others.begun), atomic_load(&others.ended));
    }
}

struct late_panic {
    _Atomic int begun;
    const char *text;
};

static int panic_when_cancelled(void *arg)
{
    struct late_panic *p = arg;
    atomic_store(&p->begun, 1);
    CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ECANCELED);
    routine_panic("%s", p->text);
}

static int panic_with(void *arg)
{
    routine_panic("%s", (const char *)arg);
}

TEST_EVERYWHERE(a_panic_counts_before_other_failures)
{
    static char first[] = "the first";
    for (int round = 0; round < 20; round++) {
        struct late_panic later = {.text = "the second"};
        routine_scope(s);
        CHECK_EQ(routine_scope_go(&s, panic_when_cancelled, &later), 0);
        WAIT_UNTIL(atomic_load(&later.begun));
        if (round % 2)
            CHECK_EQ(routine_scope_go(&s, give, AS_ARG(-EIO)), 0);
        else
            CHECK_EQ(routine_scope_go(&s, panic_with, first), 0);
        join_for(&s, -ENOTRECOVERABLE);
        CHECK_STR(routine_panic_message(), round % 2 ? "the second" : first);
    } /* of all of them the join has told */
}

/* ---- cancelled from outside ---- */

static int cancel_scope(void *arg)
{
    routine_scope_cancel(arg);
    return 0;
}

static void *cancel_scope_from_thread(void *arg)
{
    routine_scope_cancel(arg);
    return NULL;
}

static void *cancel_scope_later(void *arg)
{
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    routine_scope_cancel(arg);
    routine_scope_cancel(arg);
    return NULL;
}

enum { BY_OWNER, BY_CHILD, BY_THREAD, BY_ROUTINE_LATER, BY_THREAD_LATER, CANCELLERS };

TEST_EVERYWHERE(a_scope_is_cancelled_by_anybody)
{
    for (int round = 0; round < 4 * CANCELLERS; round++) {
        const int by = round % CANCELLERS;
        const bool begun = round / CANCELLERS % 2;
        struct crowd c = {0};
        _Atomic long ran = 0;
        bool is_thread = false, is_routine = false;
        pthread_t thread;
        routine_t h;
        {
            routine_scope(s);
            go_many(&s, 10, sleep_on, &c);
            if (begun)
                WAIT_UNTIL(atomic_load(&c.begun) == 10);
            if (by == BY_OWNER) {
                routine_scope_cancel(&s);
                routine_scope_cancel(&s);
            } else if (by == BY_CHILD) {
                CHECK_EQ(routine_scope_go(&s, cancel_scope, &s), 0);
            } else if (by == BY_ROUTINE_LATER) {
                h = go(cancel_scope_later, &s);
                is_routine = true;
            } else {
                thread = support_thread(by == BY_THREAD ? cancel_scope_from_thread : cancel_scope_later, &s);
                is_thread = true;
            }
            join_for(&s, 0);
            CHECK_EQ(atomic_load(&c.begun), atomic_load(&c.ended));
            CHECK(!begun || atomic_load(&c.ended) == 10);
            CHECK_EQ(routine_scope_go(&s, add_one, &ran), -ECANCELED);
            join_for(&s, 0);
            CHECK_EQ(routine_check(), 0); /* the owner is not */
            if (is_routine)
                CHECK_EQ(routine_join(h, NULL), 0);
            if (is_thread)
                support_thread_join(thread, NULL);
        }
        CHECK_EQ(atomic_load(&ran), 0);
    }
}

TEST_EVERYWHERE(a_scope_cancelled_from_the_start)
{
    _Atomic long ran = 0;
    {
        routine_scope_limited(s, 2);
        routine_scope_cancel(&s);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(routine_scope_go(&s, add_one, &ran), -ECANCELED);
        join_for(&s, 0);
        routine_scope_cancel(&s);
        CHECK_EQ(routine_scope_go(&s, add_one, &ran), -ECANCELED);
    }
    CHECK_EQ(atomic_load(&ran), 0);
}

/* ---- the owner is cancelled ---- */

enum { COMPUTES, JOINS, JOINS_FOR_DEAF, SHIELDED_COMPUTES, SHIELDED_JOINS, SHIELDED_IN_A_CALL, OWNER_DOES };

struct owner {
    struct crowd children;
    _Atomic int ready, cancelled;
    int does;
    bool begun; /* the children have, before it is cancelled */
};

static SUPPORT_NOINLINE void wait_shielded(struct owner *o)
{
    routine_shield();
    atomic_store(&o->ready, 1);
    WAIT_UNTIL(atomic_load(&o->children.ended) == 5);
    CHECK_EQ(routine_sleep(1), 0);
}

static void *own(void *arg)
{
    struct owner *o = arg;
    _Atomic long ran = 0;
    int error = 77;
    {
        routine_scope(s);
        go_many(&s, 5, o->does == JOINS_FOR_DEAF ? shielded_at_gate : sleep_on, &o->children);
        if (o->begun)
            WAIT_UNTIL(atomic_load(&o->children.begun) == 5);
        if (o->does == COMPUTES) {
            atomic_store(&o->ready, 1);
            WAIT_UNTIL(atomic_load(&o->children.ended) == 5); /* no call that blocks */
            CHECK_EQ(routine_check(), -ECANCELED);
            CHECK_EQ(routine_scope_join(&s, &error), -ECANCELED);
        } else if (o->does == JOINS) {
            atomic_store(&o->ready, 1);
            const int rc = routine_scope_join(&s, &error);
            CHECK(rc == -ECANCELED || (rc == 0 && error == 0)); /* the last child may have been faster */
            error = rc == 0 ? 77 : error;
        } else if (o->does == JOINS_FOR_DEAF) {
            atomic_store(&o->ready, 1);
            CHECK_EQ(routine_scope_join(&s, &error), -ECANCELED);
            CHECK_EQ(atomic_load(&o->children.ended), 0);
            chan_close(o->children.gate);
        } else if (o->does == SHIELDED_COMPUTES) {
            routine_shield();
            atomic_store(&o->ready, 1);
            WAIT_UNTIL(atomic_load(&o->children.ended) == 5);
            CHECK_EQ(routine_check(), 0);
            join_for(&s, 0);
        } else if (o->does == SHIELDED_JOINS) {
            routine_shield();
            atomic_store(&o->ready, 1);
            join_for(&s, 0);
        } else {
            wait_shielded(o);
        }
        CHECK_EQ(error, 77);
        WAIT_UNTIL(atomic_load(&o->cancelled));
        CHECK_EQ(routine_check(), -ECANCELED);
        const int again =
            routine_scope_join(&s, &error); /* it stays so, unless all was done as it was to be */
        CHECK(again == -ECANCELED || (o->does == JOINS_FOR_DEAF && again == 0 && error == 0));
        CHECK(again == 0 || error == 77);
        CHECK_EQ(routine_scope_go(&s, add_one, &ran), -ECANCELED);
        join_for(&s, 0); /* it was open all the time */
        CHECK_EQ(atomic_load(&o->children.begun), atomic_load(&o->children.ended));
    }
    CHECK_EQ(atomic_load(&ran), 0);
    return NULL;
}

TEST_EVERYWHERE(cancelling_a_routine_cancels_the_children_of_its_scope)
{
    for (int round = 0; round < 4 * OWNER_DOES; round++) {
        struct owner o = {.does = round % OWNER_DOES};
        o.begun = o.does == COMPUTES || o.does == SHIELDED_COMPUTES || o.does == SHIELDED_IN_A_CALL ||
                  o.does == JOINS_FOR_DEAF || round / OWNER_DOES % 2;
        o.children.gate = new_gate();
        routine_t h = go(own, &o);
        WAIT_UNTIL(atomic_load(&o.ready));
        if (round % 3 == 0)
            routine_yield();
        CHECK_EQ(routine_cancel(h), 0);
        atomic_store(&o.cancelled, 1);
        CHECK_EQ(routine_join(h, NULL), 0);
        chan_unref(o.children.gate);
    }
}

static int at_gate_with_child(void *arg)
{
    int error = 77;
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, at_gate, arg), 0);
    CHECK_EQ(routine_scope_join(&s, &error), 0);
    CHECK_EQ(routine_check(), 0);
    return error;
}

/* Three scopes: outside of the shield, inside, and in a call inside. */
static void *own_under_shield(void *arg)
{
    struct owner *o = arg;
    _Atomic long ran = 0;
    struct crowd outside = {0};
    {
        routine_scope(reached);
        go_many(&reached, 3, sleep_on, &outside);
        WAIT_UNTIL(atomic_load(&outside.begun) == 3);
        {
            routine_shield();
            routine_scope(s);
            go_many(&s, 5, at_gate, &o->children);
            go_many(&s, 5, at_gate_with_child, &o->children);
            WAIT_UNTIL(atomic_load(&o->children.begun) == 10);
            atomic_store(&o->ready, 1);
            WAIT_UNTIL(atomic_load(&outside.ended) == 3);
            WAIT_UNTIL(atomic_load(&o->cancelled));
            routine_scope(late);
            CHECK_EQ(routine_scope_go(&late, add_one, &ran), 0);
            join_for(&late, 0);
            CHECK_EQ(routine_scope_go(&s, at_gate, &o->children), 0);
            CHECK_EQ(atomic_load(&o->children.ended), 0);
            chan_close(o->children.gate);
            join_for(&s, 0);
            CHECK_EQ(atomic_load(&o->children.ended), 11);
        }
        CHECK_EQ(atomic_load(&ran), 1);
        CHECK_EQ(routine_check(), -ECANCELED);
        CHECK_EQ(routine_scope_go(&reached, add_one, &ran), -ECANCELED);
        routine_scope(from_the_start);
        CHECK_EQ(routine_scope_go(&from_the_start, add_one, &ran), -ECANCELED);
    }
    CHECK_EQ(atomic_load(&ran), 1);
    return NULL;
}

TEST_EVERYWHERE(a_scope_under_a_shield_is_not_reached)
{
    for (int round = 0; round < 10; round++) {
        struct owner o = {0};
        o.children.gate = new_gate();
        routine_t h = go(own_under_shield, &o);
        WAIT_UNTIL(atomic_load(&o.ready));
        CHECK_EQ(routine_cancel(h), 0);
        atomic_store(&o.cancelled, 1);
        CHECK_EQ(routine_join(h, NULL), 0);
        chan_unref(o.children.gate);
    }
}

/* Who does not look at what routine_scope_go returns, as in the example of scope.h, learns by the join that
 * not everything was done. */
static void *refuse_all(void *arg)
{
    _Atomic long ran = 0;
    int error = 77;
    atomic_store((_Atomic int *)arg, 1);
    WAIT_UNTIL(routine_check() == -ECANCELED);
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, add_one, &ran), -ECANCELED);
    CHECK_EQ(routine_scope_join(&s, &error), -ECANCELED);
    CHECK_EQ(error, 77);
    join_for(&s, 0);
    return arg;
}

TEST_EVERYWHERE(a_join_after_a_start_that_was_refused)
{
    _Atomic int begun = 0;
    routine_t h = go(refuse_all, (void *)&begun);
    WAIT_UNTIL(atomic_load(&begun));
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_join(h, NULL), 0);

    struct crowd c = {.gate = new_gate()};
    {
        int error = 77;
        routine_scope_limited(s, 1);
        CHECK_EQ(routine_scope_go(&s, at_gate, &c), 0);
        {
            routine_with_timeout(100 * ROUTINE_US);
            CHECK_EQ(routine_scope_go(&s, at_gate, &c), -ETIMEDOUT);
            chan_close(c.gate);
            WAIT_UNTIL(atomic_load(&c.ended) == 1);
            CHECK_EQ(routine_scope_join(&s, &error), -ETIMEDOUT); /* the limit is still in force */
            CHECK_EQ(error, 77);
        }
        join_for(&s, 0);
    }
    chan_unref(c.gate);
}

/* A defer of a cancelled routine whose limit has passed as well. */
static void clean_by_children(void *arg)
{
    routine_scope(s);
    int64_t limit = 0;
    CHECK_EQ(routine_scope_go(&s, add_one, arg), 0);
    CHECK_EQ(routine_scope_go(&s, add_one, arg), 0);
    CHECK_EQ(routine_check(), 0);
    limit = routine_deadline();
    CHECK_EQ(limit, ROUTINE_NEVER);
    CHECK_EQ(routine_scope_join(&s, NULL), 0);
}

static void *exit_when_cancelled(void *arg)
{
    routine_with_timeout(0);
    routine_defer(clean_by_children, arg);
    routine_exit(NULL);
}

TEST_EVERYWHERE(a_scope_in_a_defer)
{
    _Atomic long ran = 0;
    CHECK_EQ(routine_join(go(exit_when_cancelled, (void *)&ran), NULL), 0);
    CHECK_EQ(atomic_load(&ran), 2);
}

/* ---- limits ---- */

struct asked {
    int64_t own, inside, nested, nearer, later, below;
    routine_scope_t *scope;
};

static int tell_deadline(void *arg)
{
    *(int64_t *)arg = routine_deadline();
    return 0;
}

static int tell_deadlines(void *arg)
{
    struct asked *a = arg;
    const int64_t own = a->own = routine_deadline();
    routine_scope(s);
    {
        routine_with_deadline(own == ROUTINE_NEVER ? routine_now() + 1000 * ROUTINE_S : own - ROUTINE_S);
        routine_scope(near);
        CHECK_EQ(routine_scope_go(a->scope, tell_deadline, &a->below), 0); /* a sibling */
        CHECK_EQ(routine_scope_go(&s, tell_deadline, &a->nested), 0);
        CHECK_EQ(routine_scope_go(&near, tell_deadline, &a->nearer), 0);
        CHECK_EQ(routine_scope_join(&s, NULL), 0);
        CHECK_EQ(routine_scope_join(&near, NULL), 0);
        CHECK_EQ(a->nearer, routine_deadline());
    }
    routine_with_deadline(own == ROUTINE_NEVER ? own : own + ROUTINE_S);
    routine_scope(far);
    CHECK_EQ(routine_scope_go(&far, tell_deadline, &a->later), 0);
    CHECK_EQ(routine_scope_join(&far, NULL), 0);
    CHECK_EQ(routine_deadline(), own);
    return 0;
}

TEST_EVERYWHERE(children_inherit_the_limit_of_their_scope)
{
    const int64_t at = routine_now() + 3600 * ROUTINE_S;
    for (int round = 0; round < 4; round++) {
        const int64_t expected = round < 2 ? ROUTINE_NEVER : at;
        struct asked a = {0};
        int64_t shielded = 0;
        routine_with_deadline(expected);
        routine_scope(s);
        a.scope = &s;
        CHECK_EQ(routine_deadline(), expected);
        {
            routine_with_deadline(at - 100 * ROUTINE_S); /* the starter's own: nothing to the children */
            CHECK_EQ(routine_scope_go(&s, tell_deadlines, &a), 0);
            if (round % 2) /* perhaps in place */
                CHECK_EQ(routine_scope_join(&s, NULL), 0);
            CHECK_EQ(routine_deadline(), at - 100 * ROUTINE_S);
        }
        {
            routine_shield();
            CHECK_EQ(routine_scope_go(&s, tell_deadline, &a.inside), 0);
            routine_scope(under);
            CHECK_EQ(routine_scope_go(&under, tell_deadline, &shielded), 0);
            CHECK_EQ(routine_scope_join(&under, NULL), 0);
            CHECK_EQ(routine_scope_join(&s, NULL), 0);
        }
        CHECK_EQ(a.own, expected);
        CHECK_EQ(a.below, expected);
        CHECK_EQ(a.nested, expected);
        CHECK_EQ(a.later, expected);
        CHECK_EQ(a.inside, expected);
        CHECK_EQ(shielded, ROUTINE_NEVER);
        CHECK(a.nearer < expected && a.nearer != 0);
        CHECK_EQ(routine_deadline(), expected);
    }
}

/* What is run in the frame of a join is not in its limit, nor under its shield, nor it in theirs. */
TEST_EVERYWHERE(a_join_under_a_limit)
{
    for (int round = 0; round < 6; round++) {
        struct crowd c = {.gate = new_gate()};
        const int64_t limit = round * ROUTINE_MS / 2;
        {
            routine_scope(s);
            const int64_t before = routine_now();
            int error = 77;
            go_many(&s, 3, at_gate, &c);
            if (round % 2)
                WAIT_UNTIL(atomic_load(&c.begun) == 3);
            {
                routine_with_timeout(limit);
                CHECK_EQ(routine_scope_join(&s, &error), -ETIMEDOUT);
                CHECK(routine_now() - before >= limit);
                CHECK_EQ(routine_scope_join(&s, &error), -ETIMEDOUT);
                CHECK_EQ(routine_scope_go(&s, at_gate, &c), 0); /* does not wait */
            }
            CHECK_EQ(error, 77);
            CHECK_EQ(routine_scope_go(&s, at_gate, &c), 0);
            CHECK_EQ(atomic_load(&c.ended), 0);
            chan_close(c.gate);
            join_for(&s, 0);
            CHECK_EQ(atomic_load(&c.ended), 5);
        }
        chan_unref(c.gate);
    }
}

TEST_EVERYWHERE(leaving_after_a_join_that_was_too_late)
{
    for (int round = 0; round < 6; round++) {
        struct crowd c = {0};
        {
            routine_scope(s);
            routine_with_timeout(round * ROUTINE_MS / 2);
            go_many(&s, 5, sleep_on, &c);
            CHECK_EQ(routine_scope_join(&s, NULL), -ETIMEDOUT);
        }
        CHECK_EQ(atomic_load(&c.begun), atomic_load(&c.ended));
    }
}

static int sleep_too_long(void *arg)
{
    const int64_t limit = *(int64_t *)arg;
    const int rc = routine_sleep(ROUTINE_NEVER);
    CHECK(rc == -ETIMEDOUT || rc == -ECANCELED);
    CHECK(rc == -ECANCELED || routine_now() >= limit);
    return rc;
}

/* The deadline of a scope: its children fail by it. */
TEST_EVERYWHERE(the_limit_of_a_scope_ends_its_children)
{
    for (int round = 0; round < 5; round++) {
        int64_t limit = routine_now() + round * ROUTINE_MS;
        int error = 0;
        routine_with_deadline(limit);
        routine_scope(s);
        for (int i = 0; i < 5; i++) {
            const int started = routine_scope_go(&s, sleep_too_long, &limit);
            CHECK(started == 0 || (i > 0 && started == -ECANCELED)); /* one has failed already */
        }
        const int rc = routine_scope_join(&s, &error);
        CHECK(rc == -ETIMEDOUT || (rc == 0 && error == -ETIMEDOUT));
        if (rc != 0)
            join_for(&s, -ETIMEDOUT);
        CHECK(routine_now() >= limit);
    }
}

/* ---- limited scopes ---- */

struct room {
    _Atomic int inside;
    _Atomic long done;
    int limit;
};

static int visit(void *arg)
{
    struct room *r = arg;
    CHECK(atomic_fetch_add(&r->inside, 1) < r->limit);
    if (atomic_load(&r->done) % 8 == 0)
        CHECK_EQ(routine_sleep(10 * ROUTINE_US), 0);
    else
        routine_yield();
    atomic_fetch_add(&r->done, 1);
    atomic_fetch_sub(&r->inside, 1);
    return 0;
}

static int meet_all(void *arg)
{
    const int rc = routine_barrier_wait(arg);
    return rc > 0 ? 0 : rc;
}

/* A limit of n is n: so many meet. */
static void fill_up(routine_scope_t *s, size_t n)
{
    routine_barrier_t all;
    CHECK_EQ(routine_barrier_init(&all, n), 0);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(routine_scope_go(s, meet_all, &all), 0);
    join_for(s, 0);
}

TEST_EVERYWHERE(never_more_than_the_limit_at_once)
{
    static const size_t limits[] = {1, 2, 7};
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        struct room r = {.limit = (int)limits[i]};
        routine_scope_limited(s, limits[i]);
        go_many(&s, 100, visit, &r);
        fill_up(&s, limits[i]);
        go_many(&s, 20, visit, &r);
        join_for(&s, 0);
        CHECK_EQ(atomic_load(&r.done), 120);
    }
}

struct feeder {
    routine_scope_t *scope;
    routine_sem_t *sem;
    int64_t limit; /* of each go; 0: none */
    _Atomic int fed;
    int rc;
};

/* Lets one after the other through. */
static int at_sem(void *arg)
{
    return routine_sem_wait(arg);
}

static void *feed(void *arg)
{
    struct feeder *f = arg;
    routine_with_timeout(f->limit != 0 ? f->limit : ROUTINE_NEVER);
    while ((f->rc = routine_scope_go(f->scope, at_sem, f->sem)) == 0)
        atomic_fetch_add(&f->fed, 1);
    return NULL;
}

TEST_EVERYWHERE(a_full_scope_makes_its_starters_wait)
{
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(0);
    routine_scope_limited(s, 3);
    struct feeder f = {.scope = &s, .sem = &sem}, late = {.scope = &s, .sem = &sem, .limit = ROUTINE_MS};
    routine_t h = go(feed, &f);
    for (int i = 3; i < 10; i++) {
        WAIT_UNTIL(atomic_load(&f.fed) == i);
        for (int k = 0; k < 20; k++)
            routine_yield();
        if (i == 6)
            CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK_EQ(atomic_load(&f.fed), i);
        CHECK_EQ(routine_sem_post(&sem), 0);
    }
    WAIT_UNTIL(atomic_load(&f.fed) == 10);

    const int64_t before = routine_now();
    feed(&late); /* the limit of the one who waits */
    CHECK_EQ(late.rc, -ETIMEDOUT);
    CHECK_EQ(late.fed, 0);
    CHECK(routine_now() - before >= late.limit);

    CHECK_EQ(routine_cancel(h), 0); /* the one who waits is cancelled: nothing to the scope */
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(f.rc, -ECANCELED);
    CHECK_EQ(f.fed, 10);

    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_sem_post(&sem), 0);
    join_for(&s, 0);
    fill_up(&s, 3); /* no place was lost by them */
}

/* Whoever starts a child without waiting for a place is not asked whether it may. */
static void *start_though_cancelled(void *arg)
{
    struct feeder *f = arg;
    atomic_store(&f->fed, 1);
    WAIT_UNTIL(routine_check() == -ECANCELED);
    routine_with_timeout(0);
    CHECK_EQ(routine_scope_go(f->scope, at_sem, f->sem), 0);
    return NULL;
}

TEST_EVERYWHERE(a_cancelled_routine_starts_a_child_of_another)
{
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(1);
    routine_scope(s);
    struct feeder f = {.scope = &s, .sem = &sem};
    routine_t h = go(start_though_cancelled, &f);
    WAIT_UNTIL(atomic_load(&f.fed));
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    join_for(&s, 0);
}

enum { SCOPE_IS_CANCELLED, CHILD_FAILS, OWNER_IS_CANCELLED };

struct fed {
    struct feeder feeders[4];
    routine_sem_t sem;
    routine_t handles[2];
    pthread_t threads[2];
    _Atomic int ready;
    int how;
};

static int fail_at_sem(void *arg)
{
    CHECK_EQ(routine_sem_wait(arg), 0);
    return -EIO;
}

static void *own_a_full_scope(void *arg)
{
    struct fed *f = arg;
    routine_sem_t fail = ROUTINE_SEM_INITIALIZER(0);
    routine_scope_limited(s, 2);
    CHECK_EQ(routine_scope_go(&s, at_sem, &f->sem), 0);
    CHECK_EQ(routine_scope_go(&s, f->how == CHILD_FAILS ? fail_at_sem : at_sem, &fail), 0);
    for (int i = 0; i < 4; i++) {
        f->feeders[i].scope = &s;
        f->feeders[i].sem = &f->sem;
        if (i < 2)
            f->handles[i] = go(feed, &f->feeders[i]);
        else
            f->threads[i - 2] = support_thread(feed, &f->feeders[i]);
    }
    CHECK_EQ(routine_sleep(200 * ROUTINE_US),
             0); /* most likely they wait by now; it's right in either case */
    atomic_store(&f->ready, 1);
    if (f->how == SCOPE_IS_CANCELLED)
        routine_scope_cancel(&s);
    else if (f->how == CHILD_FAILS)
        CHECK_EQ(routine_sem_post(&fail), 0);
    routine_shield();
    for (int i = 0; i < 4; i++) {
        if (i < 2)
            CHECK_EQ(routine_join(f->handles[i], NULL), 0);
        else
            support_thread_join(f->threads[i - 2], NULL);
        CHECK_EQ(f->feeders[i].rc, -ECANCELED);
        CHECK_EQ(f->feeders[i].fed, 0);
    }
    join_for(&s, f->how == CHILD_FAILS ? -EIO : 0);
    return NULL;
}

TEST_EVERYWHERE(who_waits_for_a_place_of_a_cancelled_scope)
{
    for (int how = SCOPE_IS_CANCELLED; how <= OWNER_IS_CANCELLED; how++) {
        struct fed f = {.how = how};
        routine_t h = go(own_a_full_scope, &f);
        if (how == OWNER_IS_CANCELLED) {
            WAIT_UNTIL(atomic_load(&f.ready));
            CHECK_EQ(routine_cancel(h), 0);
        }
        CHECK_EQ(routine_join(h, NULL), 0);
    }
}

struct item {
    int in, out;
    _Atomic int *ran;
    int error;
};

static int work(void *arg)
{
    struct item *item = arg;
    atomic_fetch_add(item->ran, 1);
    if (item->in % 7 == 0)
        CHECK_EQ(routine_sleep(30 * ROUTINE_US), 0);
    item->out = item->in * 3 + 1;
    return item->error;
}

TEST_EVERYWHERE(one_child_for_each_element)
{
    static const size_t limits[] = {0, 1, 4, 1000};
    for (size_t k = 0; k < COUNT_OF(limits); k++) {
        struct item items[50];
        _Atomic int ran = 0;
        for (int i = 0; i < 50; i++)
            items[i] = (struct item){i, -1, &ran, 0};
        routine_scope_limited(s, limits[k]);
        CHECK_EQ(routine_scope_go_each(&s, work, items, 0, sizeof items[0]), 0);
        CHECK_EQ(routine_scope_go_each(&s, work, items, 49, sizeof items[0]), 0);
        join_for(&s, 0);
        CHECK_EQ(atomic_load(&ran), 49);
        for (int i = 0; i < 49; i++)
            CHECK_EQ(items[i].out, 3 * i + 1);
        CHECK_EQ(items[49].out, -1);
    }
}

/* One after the other: the fourth fails, so the fifth does not start. */
TEST_EVERYWHERE(an_error_in_the_middle)
{
    for (int round = 0; round < 10; round++) {
        struct item items[20];
        _Atomic int ran = 0;
        for (int i = 0; i < 20; i++)
            items[i] = (struct item){i, -1, &ran, i == 3 ? -EIO : 0};
        {
            routine_scope_limited(s, 1);
            CHECK_EQ(routine_scope_go_each(&s, work, items, 20, sizeof items[0]), -ECANCELED);
            join_for(&s, -EIO);
            CHECK_EQ(routine_scope_go_each(&s, work, items, 20, sizeof items[0]), -ECANCELED);
        }
        CHECK_EQ(atomic_load(&ran), 4);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(items[i].out, i < 4 ? 3 * i + 1 : -1);
    }
}

static int at_sem_each(void *arg)
{
    return routine_sem_wait(*(routine_sem_t **)arg);
}

TEST_EVERYWHERE(a_limit_in_the_middle)
{
    routine_sem_t sem = ROUTINE_SEM_INITIALIZER(0);
    routine_sem_t *items[10];
    for (int i = 0; i < 10; i++)
        items[i] = &sem;
    routine_scope_limited(s, 4);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_scope_go_each(&s, at_sem_each, items, 10, sizeof items[0]), -ETIMEDOUT);
    }
    for (int i = 0; i < 4; i++) /* four have been started */
        CHECK_EQ(routine_sem_post(&sem), 0);
    join_for(&s, 0);
    size_t left = 77;
    CHECK_EQ(routine_sem_getvalue(&sem, &left), 0);
    CHECK_EQ(left, 0);
}

/* ---- wrong use ---- */

static int join_the_parents(void *arg)
{
    int error = 77;
    CHECK_EQ(routine_scope_join(arg, &error), -EPERM);
    CHECK_EQ(routine_scope_join(arg, NULL), -EPERM);
    CHECK_EQ(error, 77);
    return 0;
}

static void *join_anothers(void *arg)
{
    (void)join_the_parents(arg);
    return NULL;
}

TEST_EVERYWHERE(only_the_owner_may_join)
{
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, join_the_parents, &s), 0);
    CHECK_EQ(routine_join(go(join_anothers, &s), NULL), 0);
    support_thread_join(support_thread(join_anothers, &s), NULL);
    join_for(&s, 0);
}

TEST_EVERYWHERE(arguments_that_are_null)
{
    _Atomic long ran = 0;
    struct big *big = calloc(1, sizeof *big);
    int error = 77;
    if (big == NULL)
        abort();
    routine_scope(s);
    CHECK_EQ(routine_scope_go(NULL, add_one, &ran), -EINVAL);
    CHECK_EQ(routine_scope_go(&s, NULL, &ran), -EINVAL);
    CHECK_EQ(routine_scope_go_copy(NULL, run_big, *big), -EINVAL);
    CHECK_EQ(routine_scope_go_copy(&s, NULL, *big), -EINVAL);
    CHECK_EQ(routine_scope_go_each(NULL, add_one, (void *)&ran, 2, 0), -EINVAL);
    CHECK_EQ(routine_scope_go_each(&s, NULL, (void *)&ran, 2, 0), -EINVAL);
    CHECK_EQ(routine_scope_join(NULL, &error), -EINVAL);
    CHECK_EQ(routine_scope_join(NULL, NULL), -EINVAL);
    CHECK_EQ(error, 77);
    join_for(&s, 0);
    CHECK_EQ(atomic_load(&ran), 0);
    free(big);
}

/* ---- inherited keys ---- */

static routine_key_t request, ordinary;
static _Atomic long destroyed;

static void destroy(void *value)
{
    CHECK(value != NULL);
    atomic_fetch_add(&destroyed, 1);
}

struct carried {
    routine_scope_t *scope;
    void *expected; /* under the inherited key */
    _Atomic long *looked;
    int generations;
};

static void *has_nothing(void *arg)
{
    CHECK(routine_getspecific(request) == NULL);
    CHECK(routine_getspecific(ordinary) == NULL);
    return arg;
}

static int carry(void *arg)
{
    const struct carried *c = arg;
    struct carried mine = {c->scope, (char *)c->expected + 1, c->looked, c->generations - 1};
    atomic_fetch_add(c->looked, 1);
    CHECK(routine_getspecific(request) == c->expected);
    CHECK(routine_getspecific(ordinary) == NULL);
    CHECK_EQ(routine_join(go(has_nothing, NULL), NULL), 0);
    if (mine.generations <= 0)
        return 0;
    CHECK_EQ(routine_setspecific(request, mine.expected), 0);
    CHECK_EQ(routine_setspecific(ordinary, mine.expected), 0);
    CHECK_EQ(routine_scope_go_copy(c->scope, carry, mine), 0); /* of the same scope: from whoever starts it */
    {
        routine_scope(s);
        mine.scope = &s;
        go_many(&s, 2, carry, &mine);
        join_for(&s, 0);
    }
    CHECK(routine_getspecific(request) == mine.expected); /* what the children did is theirs */
    return 0;
}

static void *carry_on(void *arg)
{
    struct carried c = {NULL, &destroyed, arg, 3};
    CHECK_EQ(routine_setspecific(request, c.expected), 0);
    CHECK_EQ(routine_setspecific(ordinary, c.expected), 0);
    {
        routine_scope(s);
        c.scope = &s;
        go_many(&s, 3, carry, &c);
        CHECK_EQ(routine_setspecific(request, &c), 0); /* too late for those */
        join_for(&s, 0);
        CHECK(routine_getspecific(request) == &c);
        c.expected = NULL; /* none */
        c.generations = 0;
        CHECK_EQ(routine_setspecific(request, NULL), 0);
        CHECK_EQ(routine_scope_go(&s, carry, &c), 0);
        join_for(&s, 0);
    }
    CHECK_EQ(routine_setspecific(request, &c), 0);
    struct crowd crowd = {0};
    routine_scope(s);
    go_many(&s, 20, sleep_on, &crowd); /* some never start: what they were given is released */
    return NULL;
}

/* A node looks, and has a sibling and two children one generation down: 1, 1 + 3, 1 + 3 * 4 of them. */
TEST(inherited_keys)
{
    enum { OWNERS = 10 };
    CHECK_EQ(routine_key_create_inherited(&request), 0);
    CHECK_EQ(routine_key_create(&ordinary, destroy), 0);
    atomic_store(&destroyed, 0);
    _Atomic long looked = 0;
    for (int i = 0; i < OWNERS; i++)
        support_thread_join(support_thread(carry_on, (void *)&looked), NULL);
    CHECK_EQ(atomic_load(&looked), OWNERS * (3 * 13 + 1));
    /* of the owner, and of each of those that has set one: 1 and 3 of every 13 */
    CHECK_EQ(atomic_load(&destroyed), OWNERS * (3 * 4 + 1));
    for (int i = 0; i < OWNERS; i++)
        support_in_routine(carry_on, (void *)&looked);
    CHECK_EQ(atomic_load(&looked), 2 * OWNERS * (3 * 13 + 1));
    CHECK_EQ(atomic_load(&destroyed), 2 * OWNERS * (3 * 4 + 1));
    CHECK_EQ(routine_key_delete(request), 0);
    CHECK_EQ(routine_key_delete(ordinary), 0);
}

static routine_key_t keys[ROUTINE_KEYS_MAX];
static size_t key_count;

static int look_at_all(void *arg)
{
    for (size_t i = 0; i < key_count; i++)
        CHECK(routine_getspecific(keys[i]) == (char *)arg + i);
    return 0;
}

TEST(as_many_inherited_keys_as_there_can_be)
{
    while (key_count < ROUTINE_KEYS_MAX && routine_key_create_inherited(&keys[key_count]) == 0)
        key_count++;
    CHECK(key_count > ROUTINE_KEYS_MAX / 2);
    routine_key_t one_more;
    CHECK_EQ(routine_key_create_inherited(&one_more), -EAGAIN);
    char base[ROUTINE_KEYS_MAX];
    for (size_t i = 0; i < key_count; i++)
        CHECK_EQ(routine_setspecific(keys[i], base + i), 0);
    {
        routine_scope(s);
        go_many(&s, 10, look_at_all, base);
        join_for(&s, 0);
    }
    for (size_t i = 0; i < key_count; i++)
        CHECK_EQ(routine_key_delete(keys[i]), 0);
}

static int has_no_value(void *arg)
{
    CHECK(routine_getspecific(*(routine_key_t *)arg) == NULL);
    return 0;
}

static void *replace_a_key(void *arg)
{
    routine_key_t key;
    CHECK_EQ(routine_key_create_inherited(&key), 0);
    CHECK_EQ(routine_setspecific(key, &key), 0);
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, has_no_value, &key), 0); /* does not start before the join */
    CHECK_EQ(routine_key_delete(key), 0);
    CHECK_EQ(routine_key_create_inherited(&key), 0);
    join_for(&s, 0);
    CHECK_EQ(routine_key_delete(key), 0);
    return arg;
}

TEST(what_a_deleted_key_had_is_not_inherited)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, replace_a_key, NULL), NULL), 0);
    support_runtime_end(one);
}

/* ---- panics that no join has told of ---- */

static _Atomic int hooked;
static char hooked_message[128], hooked_where[256];
static uint64_t hooked_id;

static bool note_panic(const routine_panic_t *panic)
{
    snprintf(hooked_message, sizeof hooked_message, "%s", panic->message);
    snprintf(hooked_where, sizeof hooked_where, "%s", panic->where);
    hooked_id = panic->id;
    atomic_fetch_add(&hooked, 1);
    return true;
}

struct doomed {
    _Atomic int begun;
    bool later; /* when it has been cancelled */
    uint64_t id;
};

static int panic_now(void *arg)
{
    struct doomed *d = arg;
    d->id = routine_id(routine_self());
    atomic_store(&d->begun, 1);
    if (d->later)
        CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ECANCELED);
    routine_panic("the end of child %d", 7);
}

enum { NO_JOIN, JOIN_TOO_LATE, AFTER_THE_CANCEL, TOLD, BY_EXIT, PANIC_ENDS };

struct panicked {
    struct doomed doomed;
    int how;
};

/* At the end of the scope. */
static void look_at_hook(void *arg)
{
    const struct panicked *p = arg;
    CHECK_EQ(atomic_load(&hooked), p->how != TOLD);
    if (p->how != TOLD) {
        CHECK_STR(hooked_message, "the end of child 7");
        CHECK(strstr(hooked_where, "scope_test.c:") != NULL);
        CHECK_EQ(hooked_id, p->doomed.id);
    }
}

static void *leave_panicked(void *arg)
{
    struct panicked *p = arg;
    atomic_store(&hooked, 0);
    hooked_id = 0;
    atomic_store(&p->doomed.begun, 0);
    p->doomed.later = p->how == AFTER_THE_CANCEL || p->how == JOIN_TOO_LATE;
    routine_defer(look_at_hook, p);
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, panic_now, &p->doomed), 0);
    WAIT_UNTIL(atomic_load(&p->doomed.begun));
    if (p->how == JOIN_TOO_LATE) {
        routine_with_timeout(1);
        CHECK_EQ(routine_scope_join(&s, NULL), -ETIMEDOUT);
    } else if (p->how == TOLD) {
        join_for(&s, -ENOTRECOVERABLE);
        CHECK_STR(routine_panic_message(), "the end of child 7");
    } else if (p->how == BY_EXIT && routine_runtime_current() != NULL) {
        routine_exit(NULL);
    }
    return NULL;
}

TEST(a_hook_hears_of_panics_that_no_join_told_of)
{
    routine_panic_hook_t *before = routine_set_panic_hook(note_panic);
    for (int round = 0; round < 10 * PANIC_ENDS; round++) {
        struct panicked p = {.how = round % PANIC_ENDS};
        leave_panicked(&p);
        support_in_routine(leave_panicked, &p);
    }
    CHECK(routine_set_panic_hook(before) == note_panic);
}

static int case_untold(void)
{
    struct doomed d = {0};
    {
        routine_scope(s);
        CHECK_EQ(routine_scope_go(&s, panic_now, &d), 0);
        WAIT_UNTIL(atomic_load(&d.begun));
    }
    return 0;
}

static void *untold(void *arg)
{
    (void)arg;
    case_untold();
    return NULL;
}

static int case_untold_in_a_routine(void)
{
    return routine_run(untold, NULL, NULL);
}

static void *untold_by_exit(void *arg)
{
    struct doomed d = {.later = true};
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, panic_now, &d), 0);
    WAIT_UNTIL(atomic_load(&d.begun));
    routine_exit(arg);
}

static int case_untold_by_exit(void)
{
    return routine_run(untold_by_exit, NULL, NULL);
}

static bool say_no(const routine_panic_t *panic)
{
    fprintf(stderr, "hook: %s\n", panic->message);
    return false;
}

static int case_hook_says_no(void)
{
    routine_set_panic_hook(say_no);
    return case_untold();
}

static int case_told(void)
{
    struct doomed d = {0};
    routine_scope(s);
    CHECK_EQ(routine_scope_go(&s, panic_now, &d), 0);
    join_for(&s, -ENOTRECOVERABLE);
    return 0;
}

TEST(a_panic_that_no_join_told_of_ends_the_process)
{
    static const char *const dies[] = {"untold", "untold_in_a_routine", "untold_by_exit"};
    static struct support_result r;
    for (size_t i = 0; i < COUNT_OF(dies); i++) {
        CASE_DIES(&r, dies[i], NULL, SIGABRT);
        CASE_SAYS(&r, dies[i], "the end of child 7");
        CASE_SAYS(&r, dies[i], "scope_test.c:");
    }
    CASE_EXITS(&r, "told", NULL, 0);
    CASE_DOES_NOT_SAY(&r, "told", "the end of child 7");
}

/* Then it ends as without a hook. */
TEST(a_hook_that_says_no)
{
    static struct support_result r;
    CASE_DIES(&r, "hook_says_no", NULL, SIGABRT);
    CASE_SAYS(&r, "hook_says_no", "hook: the end of child 7");
    CASE_SAYS(&r, "hook_says_no", "scope_test.c:");
}

/* ---- statistics ---- */

static int with_children(void *arg)
{
    struct crowd *c = arg;
    routine_scope_limited(s, 3);
    for (int i = 0; i < 3; i++) {
        const int rc = routine_scope_go(&s, sleep_on, c);
        CHECK(rc == 0 || rc == -ECANCELED); /* the parent may be leaving */
    }
    routine_yield();
    return 0; /* these are cancelled */
}

static void *all_kinds(void *arg)
{
    struct crowd *c = arg;
    _Atomic long sum = 0;
    for (int i = 0; i < 50; i++) {
        routine_scope(s);
        go_many(&s, 5, add_one, &sum);
        go_many(&s, 5, with_children, c);
        if (i % 2)
            CHECK_EQ(routine_scope_join(&s, NULL), 0);
        if (i % 5 == 0)
            CHECK_EQ(routine_scope_go(&s, give, AS_ARG(-EIO)), 0);
        if (i % 7 == 0)
            routine_yield();
    }
    return NULL;
}

TEST(the_count_of_the_living_is_exact)
{
    for (size_t workers = 1; workers <= 3; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        struct crowd c = {0};
        routine_stats_t stats;
        for (int i = 0; i < 5; i++)
            CHECK_EQ(routine_join(support_go_on(runtime, all_kinds, &c), NULL), 0);
        CHECK_EQ(atomic_load(&c.begun), atomic_load(&c.ended));
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_stats(runtime, &stats), 0);
        CHECK_EQ(stats.live, 0);
        CHECK_EQ(stats.parked, 0);
        CHECK_EQ(stats.unstarted, 0);
        CHECK_EQ(stats.total.spawned, stats.total.completed);
        CHECK_EQ(stats.total.spawned, stats.total.started);
        CHECK(stats.total.spawned >= 5 * (1 + 50 * 10));
        CHECK_EQ(routine_runtime_free(runtime), 0);
    }
}

static void *join_a_hundred(void *arg)
{
    _Atomic long sum = 0;
    routine_scope(s);
    go_many(&s, 100, add_one, &sum);
    CHECK_EQ(routine_scope_join(&s, NULL), 0);
    CHECK_EQ(atomic_load(&sum), 100);
    return arg;
}

/* The join runs those that have not started, on its own stack. */
TEST(a_join_runs_the_unstarted_in_place)
{
    routine_runtime_t *one = support_runtime(1);
    routine_stats_t stats;
    CHECK_EQ(routine_join(support_go_on(one, join_a_hundred, NULL), NULL), 0);
    CHECK_EQ(routine_stats(one, &stats), 0);
    CHECK(stats.total.in_place > 0);
    support_runtime_end(one);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"untold", case_untold},
        {"untold_in_a_routine", case_untold_in_a_routine},
        {"untold_by_exit", case_untold_by_exit},
        {"hook_says_no", case_hook_says_no},
        {"told", case_told},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_there_after_the_join),
        cmocka_unit_test(a_scope_without_children),
        cmocka_unit_test(thousands_of_children),
        cmocka_unit_test(children_start_children_in_the_same_scope),
        cmocka_unit_test(a_thousand_nested_scopes),
        cmocka_unit_test(several_scopes_of_one_routine),
        cmocka_unit_test(a_scope_is_used_again_after_a_join),
        cmocka_unit_test(a_scope_by_hand),
        cmocka_unit_test(the_first_failure_cancels_the_others),
        cmocka_unit_test(only_the_first_failure_is_told),
        cmocka_unit_test(a_child_that_gives_ecanceled_without_a_cancellation_has_failed),
        cmocka_unit_test(a_failure_after_a_cancellation_is_one),
        cmocka_unit_test(after_a_failure_nothing_is_started),
        cmocka_unit_test(the_exit_of_a_child_is_its_result),
        cmocka_unit_test(the_panic_of_a_child_is_a_failure),
        cmocka_unit_test(a_panic_counts_before_other_failures),
        cmocka_unit_test(a_scope_is_cancelled_by_anybody),
        cmocka_unit_test(a_scope_cancelled_from_the_start),
        cmocka_unit_test(cancelling_a_routine_cancels_the_children_of_its_scope),
        cmocka_unit_test(a_scope_under_a_shield_is_not_reached),
        cmocka_unit_test(a_join_after_a_start_that_was_refused),
        cmocka_unit_test(a_scope_in_a_defer),
        cmocka_unit_test(children_inherit_the_limit_of_their_scope),
        cmocka_unit_test(a_join_under_a_limit),
        cmocka_unit_test(leaving_after_a_join_that_was_too_late),
        cmocka_unit_test(the_limit_of_a_scope_ends_its_children),
        cmocka_unit_test(never_more_than_the_limit_at_once),
        cmocka_unit_test(a_full_scope_makes_its_starters_wait),
        cmocka_unit_test(a_cancelled_routine_starts_a_child_of_another),
        cmocka_unit_test(who_waits_for_a_place_of_a_cancelled_scope),
        cmocka_unit_test(one_child_for_each_element),
        cmocka_unit_test(an_error_in_the_middle),
        cmocka_unit_test(a_limit_in_the_middle),
        cmocka_unit_test(only_the_owner_may_join),
        cmocka_unit_test(arguments_that_are_null),
        cmocka_unit_test(inherited_keys),
        cmocka_unit_test(as_many_inherited_keys_as_there_can_be),
        cmocka_unit_test(what_a_deleted_key_had_is_not_inherited),
        cmocka_unit_test(a_hook_hears_of_panics_that_no_join_told_of),
        cmocka_unit_test(a_panic_that_no_join_told_of_ends_the_process),
        cmocka_unit_test(a_hook_that_says_no),
        cmocka_unit_test(the_count_of_the_living_is_exact),
        cmocka_unit_test(a_join_runs_the_unstarted_in_place),
    };
    return cmocka_run_group_tests_name("scope", tests, NULL, NULL);
}
