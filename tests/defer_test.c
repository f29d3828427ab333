/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_defer: that each declared one is called once, in the opposite order, however its braces
 * are left, on whatever stack; that neither a cancellation nor a limit reaches inside; what defers may do
 * themselves, up to leaving by exit or panic; defers of routines that share a stack; before which other
 * endings of a routine they come; and what remains of them in a forked child.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/sync.h"

/* What has happened, as text. */
struct log {
    int length;
    char text[200];
};

static void put(struct log *log, int letter)
{
    if (log->length < (int)sizeof log->text - 1)
        log->text[log->length++] = (char)letter;
    log->text[log->length] = '\0';
}

/* Begins anew. */
static void expect_log(struct log *log, int line, const char *expected)
{
    if (strcmp(log->text, expected) != 0)
        support_fail(__FILE__, line, "\"%s\", not \"%s\"", log->text, expected);
    log->length = 0;
    log->text[0] = '\0';
}

#define EXPECT_LOG(of, expected) expect_log((of), __LINE__, (expected))

struct letter {
    struct log *log;
    int letter;
};

static void put_letter(void *arg)
{
    const struct letter *l = arg;
    put(l->log, l->letter);
}

/* At the end of the braces: this letter. */
#define LATER(to, what) routine_defer(put_letter, &(struct letter){(to), (what)})

/* How a routine, or a stretch of one, ends. */
enum end { RETURN, EXIT, PANIC, ENDS };

static void end_by(enum end end, void *result)
{
    if (end == EXIT)
        routine_exit(result);
    if (end == PANIC)
        routine_panic("ended by a panic");
}

/* Joins one that ends so. */
static void join_ended(routine_t h, enum end end, const void *expected)
{
    void *result = NULL;
    CHECK_EQ(routine_join(h, &result), end == PANIC ? -ENOTRECOVERABLE : 0);
    CHECK(result == (end == PANIC ? NULL : expected));
}

/* ---- order ---- */

TEST_EVERYWHERE(last_in_first_out)
{
    struct log log = {0, ""};
    {
        LATER(&log, 'a');
        LATER(&log, 'b');
        put(&log, '1');
        LATER(&log, 'c');
        put(&log, '2');
        EXPECT_LOG(&log, "12");
    }
    EXPECT_LOG(&log, "cba");
    {
        LATER(&log, 'a');
        {
            LATER(&log, 'b');
            put(&log, '1');
            {
                LATER(&log, 'c');
                LATER(&log, 'd');
                put(&log, '2');
            }
            put(&log, '3');
            {
                LATER(&log, 'e');
            }
        }
        put(&log, '4');
        LATER(&log, 'f');
    }
    EXPECT_LOG(&log, "12dc3eb4fa");
}

TEST_EVERYWHERE(one_for_each_turn_of_a_loop)
{
    struct log log = {0, ""};
    for (int i = 0; i < 4; i++) {
        LATER(&log, 'a' + i);
        put(&log, '0' + i);
    }
    EXPECT_LOG(&log, "0a1b2c3d");
    int n = 0;
    while (n < 3) {
        LATER(&log, 'a' + n);
        LATER(&log, 'A' + n);
        n++;
    }
    EXPECT_LOG(&log, "AaBbCc");
    do {
        LATER(&log, '0' + n);
    } while (--n > 0);
    EXPECT_LOG(&log, "321");
}

/* The argument is evaluated where the defer is declared; what it points to is looked at when it is called. */
static void put_number(void *arg)
{
    const struct letter *l = arg;
    put(l->log, '0' + l->letter);
}

TEST_EVERYWHERE(the_argument_is_taken_at_the_declaration)
{
    struct log log = {0, ""};
    {
        struct letter one = {&log, 1}, two = {&log, 2}, *which = &one;
        routine_defer(put_number, which);
        which = &two;
        routine_defer(put_number, which);
        which = NULL;
        one.letter = 7;
    }
    EXPECT_LOG(&log, "27");
}

/* ---- ways out ---- */

static void by_break(struct log *log)
{
    for (int i = 0; i < 5; i++) {
        LATER(log, 'a' + i);
        if (i == 2)
            break;
        LATER(log, 'A' + i);
    }
    put(log, '-');
    switch (log->length > 0 ? 1 : 0) {
    case 1: {
        LATER(log, 'x');
        break;
    }
    default:
        put(log, '?');
    }
}

static void by_continue(struct log *log)
{
    for (int i = 0; i < 3; i++) {
        LATER(log, 'a' + i);
        {
            LATER(log, 'A' + i);
            if (i == 1)
                continue;
        }
        put(log, '0' + i);
    }
}

static int by_return_value(struct log *log)
{
    LATER(log, 'a');
    for (;;) {
        LATER(log, 'b');
        {
            LATER(log, 'c');
            return log->length; /* computed before the defers are called */
        }
    }
}

static void by_return(struct log *log)
{
    const int before = log->length;
    CHECK_EQ(by_return_value(log), before);
    CHECK_EQ(log->length, before + 3);
}

static void by_goto_out(struct log *log)
{
    LATER(log, 'a');
    {
        LATER(log, 'b');
        {
            LATER(log, 'c');
            if (log->length >= 0)
                goto middle;
        }
        put(log, '?');
    middle:
        put(log, '1');
        {
            LATER(log, 'd');
            if (log->length >= 0)
                goto out;
        }
        put(log, '?');
    }
out:
    put(log, '2');
}

static void by_goto_back(struct log *log)
{
    int times = 0;
    {
    before:
        put(log, '0' + times);
        LATER(log, 'a' + times);
        LATER(log, 'A' + times);
        if (++times < 3)
            goto before;
    }
}

TEST_EVERYWHERE(however_the_braces_are_left)
{
    struct log log = {0, ""};
    by_break(&log);
    EXPECT_LOG(&log, "AaBbc-x");
    by_continue(&log);
    EXPECT_LOG(&log, "A0aBbC2c");
    by_return(&log);
    EXPECT_LOG(&log, "cba");
    by_goto_out(&log);
    EXPECT_LOG(&log, "c1db2a");
    by_goto_back(&log);
    EXPECT_LOG(&log, "0Aa1Bb2Cc");
}

/* Past the declaration it has not been declared. (clang refuses to compile it.) */
#ifndef __clang__
#define CAN_JUMP_IN 1
SUPPORT_NOINLINE static void jump_in(struct log *log, int past)
{
    LATER(log, 'a');
    {
        struct letter b = {log, 'b'}, c = {log, 'c'};
        if (past == 1)
            goto first;
        if (past == 2)
            goto second;
        routine_defer(put_letter, &b);
    first:
        put(log, '1');
        routine_defer(put_letter, &c);
    second:
        put(log, '2');
    }
    put(log, '3');
}

TEST_EVERYWHERE(a_jump_past_the_declaration)
{
    struct log log = {0, ""};
    for (int i = 0; i < 20; i++) {
        jump_in(&log, 1);
        EXPECT_LOG(&log, "12c3a");
        jump_in(&log, 0);
        EXPECT_LOG(&log, "12cb3a");
        jump_in(&log, 2);
        EXPECT_LOG(&log, "23a");
    }
}
#else
#define CAN_JUMP_IN 0
#endif

/* ---- exit and panic ---- */

struct diver {
    struct log log;
    enum end end;
    bool parks;
};

SUPPORT_NOINLINE static void dive(struct diver *d, int depth)
{
    LATER(&d->log, 'a' + depth);
    if (depth % 2) {
        LATER(&d->log, 'A' + depth);
        dive(d, depth - 1);
        put(&d->log, '-');
        return;
    }
    if (depth > 0) {
        for (;;) {
            dive(d, depth - 1);
            LATER(&d->log, 'A' + depth); /* declared on the way back only */
            break;
        }
        return;
    }
    if (d->parks)
        CHECK_EQ(routine_sleep(10 * ROUTINE_US), 0);
    put(&d->log, '0');
    end_by(d->end, d);
}

static void *dive_in(void *arg)
{
    struct diver *d = arg;
    LATER(&d->log, '!');
    dive(d, 5);
    put(&d->log, '=');
    return d;
}

static void check_dives(void)
{
    for (int i = 0; i < 12; i++) {
        struct diver d = {{0, ""}, i % ENDS, i % 2};
        const routine_t h = go(dive_in, &d);
        if (i % 4 == 3)
            WAIT_UNTIL(routine_is_finished(h));
        join_ended(h, d.end, &d);
        if (d.end == RETURN)
            EXPECT_LOG(&d.log, "0a-BbCc-DdEe-Ff=!");
        else
            EXPECT_LOG(&d.log, "0aBbcDdeFf!");
    }
}

TEST_EVERYWHERE(by_exit_and_panic_from_deep_calls)
{
    check_dives();
}

struct levels {
    int depth;
    struct log *log;
};

static void *many_levels(void *arg)
{
    struct levels *d = arg;
    LATER(d->log, '0' + d->depth % 10);
    if (d->depth-- == 0)
        routine_exit(arg);
    if (d->log->length == 0) /* always: no defer has been called */
        many_levels(arg);
    put(d->log, '?');
    return NULL;
}

TEST_EVERYWHERE(a_hundred_and_fifty_levels)
{
    struct log log = {0, ""};
    char expected[151];
    struct levels d = {149, &log};
    void *result = NULL;
    CHECK_EQ(routine_join(go(many_levels, &d), &result), 0);
    CHECK(result == &d);
    for (int i = 0; i < 150; i++)
        expected[i] = (char)('0' + i % 10);
    expected[150] = '\0';
    EXPECT_LOG(&log, expected);
}

/* ---- those that block ---- */

struct blocker {
    struct log log;
    enum end end;
    chan_t *ch;
    routine_mutex_t lock;
    _Atomic int over;
};

static void *answer(void *arg)
{
    struct blocker *b = arg;
    int x = 0;
    CHECK_EQ(chan_recv(b->ch, &x), 0);
    x++;
    CHECK_EQ(chan_send(b->ch, &x), 0);
    return NULL;
}

static void sleep_in_defer(void *arg)
{
    struct blocker *b = arg;
    const int64_t before = routine_now();
    CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0);
    CHECK(routine_now() - before >= 100 * ROUTINE_US);
    put(&b->log, 's');
}

static void talk_in_defer(void *arg)
{
    struct blocker *b = arg;
    int x = 41;
    const routine_t h = go(answer, b);
    CHECK_EQ(chan_send(b->ch, &x), 0);
    CHECK_EQ(chan_recv(b->ch, &x), 0);
    CHECK_EQ(x, 42);
    CHECK_EQ(routine_join(h, NULL), 0);
    put(&b->log, 't');
}

static void *take_lock(void *arg)
{
    struct blocker *b = arg;
    CHECK_EQ(routine_mutex_lock(&b->lock), 0);
    CHECK_EQ(routine_mutex_unlock(&b->lock), 0);
    return b;
}

static void lock_in_defer(void *arg)
{
    struct blocker *b = arg;
    CHECK_EQ(routine_mutex_lock(&b->lock), 0);
    const routine_t h = go(take_lock, b);
    routine_yield();
    CHECK_EQ(routine_mutex_unlock(&b->lock), 0);
    CHECK_EQ(routine_mutex_lock(&b->lock), 0);
    CHECK_EQ(routine_mutex_unlock(&b->lock), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    put(&b->log, 'l');
}

static void unlock_in_defer(void *arg)
{
    struct blocker *b = arg;
    CHECK_EQ(routine_mutex_unlock(&b->lock), 0); /* the same routine still, wherever it has come to */
    put(&b->log, 'u');
}

static void *block_in_defers(void *arg)
{
    struct blocker *b = arg;
    routine_defer(sleep_in_defer, b);
    routine_defer(talk_in_defer, b);
    routine_defer(lock_in_defer, b);
    CHECK_EQ(routine_mutex_lock(&b->lock), 0);
    routine_defer(unlock_in_defer, b);
    routine_defer(sleep_in_defer, b);
    end_by(b->end, b);
    return b;
}

TEST_EVERYWHERE(defers_may_block)
{
    for (int i = 0; i < 3 * ENDS; i++) {
        struct blocker b = {.end = i % ENDS, .ch = MAKE(int, 0)};
        join_ended(go(block_in_defers, &b), b.end, &b);
        EXPECT_LOG(&b.log, "sults");
        if (b.end == RETURN) { /* on the caller itself, which may be a plain thread */
            CHECK(block_in_defers(&b) == &b);
            EXPECT_LOG(&b.log, "sults");
        }
        chan_unref(b.ch);
    }
}

/* ---- what a defer may declare ---- */

static void with_everything(void *arg)
{
    struct blocker *b = arg;
    LATER(&b->log, 'a');
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    {
        routine_with_timeout(50 * ROUTINE_US);
        LATER(&b->log, 'b');
        CHECK_EQ(chan_recv(b->ch, NULL), -ETIMEDOUT);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
        {
            routine_shield();
            LATER(&b->log, 'c');
            CHECK_EQ(routine_sleep(10), 0);
        }
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    CHECK_EQ(routine_check(), 0);
    routine_defer(sleep_in_defer, b);
    put(&b->log, '1');
}

static void *declare_everything(void *arg)
{
    struct blocker *b = arg;
    LATER(&b->log, 'x');
    routine_with_timeout(-1);
    routine_defer(with_everything, b);
    LATER(&b->log, 'y');
    end_by(b->end, b);
    return b;
}

TEST_EVERYWHERE(defers_may_declare_defers_shields_and_limits)
{
    for (int i = 0; i < ENDS; i++) {
        struct blocker b = {.end = i, .ch = MAKE(int, 0)};
        join_ended(go(declare_everything, &b), b.end, &b);
        EXPECT_LOG(&b.log, "ycb1sax");
        if (b.end == RETURN) {
            CHECK(declare_everything(&b) == &b);
            EXPECT_LOG(&b.log, "ycb1sax");
        }
        chan_unref(b.ch);
    }
}

/* ---- those that leave themselves ---- */

struct leaver {
    struct log log;
    enum end end;         /* of the routine */
    enum end first, then; /* of its two defers that may leave */
};

static void leave_first(void *arg)
{
    struct leaver *l = arg;
    put(&l->log, '1');
    LATER(&l->log, 'i');
    if (l->first == EXIT)
        routine_exit(&l->first);
    if (l->first == PANIC)
        routine_panic("first");
}

static void leave_then(void *arg)
{
    struct leaver *l = arg;
    put(&l->log, '2');
    LATER(&l->log, 'j');
    if (l->then == EXIT)
        routine_exit(&l->then);
    if (l->then == PANIC)
        routine_panic("then");
}

static void *leave(void *arg)
{
    struct leaver *l = arg;
    LATER(&l->log, 'a');
    {
        routine_defer(leave_then, l);
        LATER(&l->log, 'b');
        {
            routine_defer(leave_first, l);
            LATER(&l->log, 'c');
            put(&l->log, '0');
            if (l->end == EXIT)
                routine_exit(&l->end);
            if (l->end == PANIC)
                routine_panic("itself");
        }
        put(&l->log, '-');
    }
    put(&l->log, '=');
    return l;
}

TEST_EVERYWHERE(defers_may_leave_and_the_others_are_called_once)
{
    for (int i = 0; i < ENDS * ENDS * ENDS; i++) {
        struct leaver l = {{0, ""}, i % ENDS, i / ENDS % ENDS, i / ENDS / ENDS};
        void *result = NULL;
        const routine_t h = go(leave, &l);
        if (i % 2)
            WAIT_UNTIL(routine_is_finished(h));
        const int rc = routine_join(h, &result);
        char expected[32];
        snprintf(expected, sizeof expected, "0c1i%sb2j%sa", l.end == RETURN && l.first == RETURN ? "-" : "",
                 l.end == RETURN && l.first == RETURN && l.then == RETURN ? "=" : "");
        EXPECT_LOG(&l.log, expected);
        /* the last to leave decides */
        const enum end *decides = l.then != RETURN ? &l.then : l.first != RETURN ? &l.first : &l.end;
        if (*decides == PANIC) {
            CHECK_EQ(rc, -ENOTRECOVERABLE);
            CHECK(result == NULL);
            CHECK_STR(routine_panic_message(), decides == &l.then    ? "then"
                                               : decides == &l.first ? "first"
                                                                     : "itself");
        } else {
            CHECK_EQ(rc, 0);
            CHECK(result == (*decides == EXIT ? (const void *)decides : &l));
        }
    }
}

/* ---- cancellation and limits ---- */

struct quiet {
    struct log log;
    enum end end;
    chan_t *ready, *empty;
    routine_mutex_t lock;
};

static void *cancelled_in_place(void *arg)
{
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_cancel(routine_self()), 0);
    CHECK_EQ(routine_check(), -ECANCELED); /* the shield is its joiner's, who stands in a defer */
    CHECK_EQ(routine_sleep(1), -ECANCELED);
    return arg;
}

static void undisturbed(void *arg)
{
    struct quiet *q = arg;
    int x = 0;
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_sleep(20 * ROUTINE_US), 0);
    CHECK_EQ(chan_recv(q->ready, &x), 0);
    CHECK_EQ(chan_send(q->ready, &x), 0);
    CHECK_EQ(chan_select(CHAN_RECV(q->empty, &x), CHAN_TIMEOUT(10 * ROUTINE_US)), 1);
    CHECK_EQ(routine_mutex_lock(&q->lock), 0);
    CHECK_EQ(routine_mutex_unlock(&q->lock), 0);
    CHECK_EQ(routine_join(go(cancelled_in_place, q), NULL), 0);
    {
        routine_with_timeout(30 * ROUTINE_US); /* its own counts */
        CHECK(routine_deadline() < ROUTINE_NEVER);
        CHECK_EQ(chan_recv(q->empty, &x), -ETIMEDOUT);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
    }
    CHECK_EQ(routine_check(), 0);
    put(&q->log, 'q');
}

static void *disturbed(void *arg)
{
    struct quiet *q = arg;
    routine_defer(undisturbed, q);
    routine_with_timeout(20 * ROUTINE_US);
    routine_defer(undisturbed, q);
    CHECK_EQ(chan_recv(q->empty, NULL), -ETIMEDOUT);
    {
        routine_defer(undisturbed, q);
    }
    CHECK_EQ(routine_check(), -ETIMEDOUT);
    CHECK_EQ(routine_cancel(routine_self()), 0);
    for (int i = 0; i < 2; i++) {
        routine_with_timeout(-1);
        routine_defer(undisturbed, q);
        CHECK_EQ(routine_check(), -ECANCELED);
        CHECK_EQ(chan_recv(q->ready, NULL), -ECANCELED);
        if (i == 0)
            continue;
        CHECK_EQ(chan_recv(q->ready, NULL), -ECANCELED);
    }
    CHECK_EQ(routine_check(), -ECANCELED); /* it is back */
    CHECK_EQ(routine_sleep(1), -ECANCELED);
    end_by(q->end, q);
    return q;
}

TEST_EVERYWHERE(neither_a_cancellation_nor_a_limit_reaches_inside)
{
    for (int i = 0; i < 2 * ENDS; i++) {
        struct quiet q = {.end = i % ENDS, .ready = MAKE(int, 1), .empty = MAKE(int, 0)};
        CHECK_EQ(chan_send(q.ready, &(int){5}), 0);
        join_ended(go(disturbed, &q), q.end, &q);
        EXPECT_LOG(&q.log, "qqqqq");
        CHECK_EQ(chan_len(q.ready), 1);
        chan_unref(q.ready);
        chan_unref(q.empty);
    }
}

/* On a plain thread, where there are limits only. */
TEST_EVERYWHERE(limits_do_not_reach_inside_on_a_thread_either)
{
    struct quiet q = {.ready = MAKE(int, 1), .empty = MAKE(int, 0)};
    CHECK_EQ(chan_send(q.ready, &(int){5}), 0);
    {
        routine_with_timeout(-1);
        {
            routine_defer(undisturbed, &q);
            CHECK_EQ(routine_check(), -ETIMEDOUT);
        }
        CHECK_EQ(routine_check(), -ETIMEDOUT);
        routine_defer(undisturbed, &q);
    }
    CHECK_EQ(routine_check(), 0);
    EXPECT_LOG(&q.log, "qq");
    chan_unref(q.ready);
    chan_unref(q.empty);
}

/* A cancellation that comes while the defer waits. */
struct late {
    routine_oneshot_t gate;
    _Atomic int inside;
    enum end end;
    int again;
};

static void wait_in_defer(void *arg)
{
    struct late *l = arg;
    atomic_store(&l->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&l->gate, NULL), 0);
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_sleep(1), 0);
}

static void *cancelled_in_defer(void *arg)
{
    struct late *l = arg;
    {
        routine_defer(wait_in_defer, l);
        end_by(l->end, l);
    }
    CHECK_EQ(routine_check(), -ECANCELED);
    return l;
}

TEST_EVERYWHERE(a_cancellation_waits_for_the_end_of_a_defer)
{
    for (long i = 0; i < support_scale(600); i++) {
        struct late l = {.gate = ROUTINE_ONESHOT_INITIALIZER, .end = (enum end)(i % ENDS)};
        const routine_t h = go(cancelled_in_defer, &l);
        WAIT_UNTIL(atomic_load(&l.inside));
        CHECK_EQ(routine_cancel(h), 0);
        if (i % 4 == 0)
            routine_yield();
        CHECK(!routine_is_finished(h));
        CHECK_EQ(routine_oneshot_send(&l.gate, NULL), 0);
        join_ended(h, l.end, &l);
    }
}

/* ---- in place ---- */

struct pair {
    struct log log;
    enum end end;
    int mode;
};

static void *pair_child(void *arg)
{
    struct pair *p = arg;
    LATER(&p->log, 'c');
    {
        LATER(&p->log, 'd');
        if (p->mode % 2)
            CHECK_EQ(routine_sleep(1), 0);
        put(&p->log, '2');
        end_by(p->end, p);
    }
    return p;
}

static void *pair_middle(void *arg)
{
    struct pair *p = arg;
    LATER(&p->log, 'b');
    put(&p->log, '1');
    const routine_t h = go(pair_child, p);
    join_ended(h, p->end, p);
    put(&p->log, '3'); /* of the child's defers all have been called, of its own none */
    end_by(p->mode % 4 / 2 ? EXIT : RETURN, p);
    return p;
}

static void *pair_joiner(void *arg)
{
    (void)arg;
    for (int i = 0; i < 8 * ENDS; i++) {
        struct pair p = {{0, ""}, i % ENDS, i / ENDS};
        {
            LATER(&p.log, 'a');
            put(&p.log, '0');
            if (i % 2) {
                routine_shield();
                join_ended(go(pair_middle, &p), RETURN, &p);
            } else {
                join_ended(go(pair_middle, &p), RETURN, &p);
            }
            put(&p.log, '4');
        }
        EXPECT_LOG(&p.log, "012dc3b4a");
    }
    return NULL;
}

TEST(those_of_a_child_in_place_and_of_its_joiner_stay_apart)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, pair_joiner, NULL), NULL), 0);
    support_runtime_end(one);
    support_in_routine(pair_joiner, NULL);
    pair_joiner(NULL);
}

/* A join in a defer, in place, of one that leaves. */
struct joining {
    struct log log;
    enum end end, child_end;
};

static void *joining_child(void *arg)
{
    struct joining *j = arg;
    LATER(&j->log, 'c');
    put(&j->log, '1');
    end_by(j->child_end, j);
    return j;
}

static void join_in_defer(void *arg)
{
    struct joining *j = arg;
    LATER(&j->log, 'b');
    join_ended(go(joining_child, j), j->child_end, j);
    put(&j->log, '2');
}

static void *joining(void *arg)
{
    struct joining *j = arg;
    LATER(&j->log, 'a');
    routine_defer(join_in_defer, j);
    put(&j->log, '0');
    end_by(j->end, j);
    return j;
}

static void *join_joining(void *arg)
{
    for (int i = 0; i < 4 * ENDS * ENDS; i++) {
        struct joining j = {{0, ""}, i % ENDS, i / ENDS % ENDS};
        join_ended(go(joining, &j), j.end, &j);
        EXPECT_LOG(&j.log, "01c2ba");
    }
    return arg;
}

TEST(a_join_in_a_defer)
{
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, join_joining, NULL), NULL), 0);
    support_runtime_end(one);
    support_in_routine(join_joining, NULL);
    join_joining(NULL);
}

/* ---- the other endings of a routine ---- */

static routine_key_t log_key;

static void log_destroyed(void *value)
{
    struct log *log = value;
    {
        LATER(log, 'E'); /* in a destructor, too */
        CHECK_EQ(routine_check(), 0);
        CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
        CHECK_EQ(routine_sleep(1), 0);
    }
    put(log, 'D');
}

static void use_local(void *arg)
{
    struct log *log = arg;
    CHECK(routine_getspecific(log_key) == log); /* it is still there */
    put(log, 'l');
}

static void set_local(void *arg)
{
    struct log *log = arg;
    CHECK(routine_getspecific(log_key) == NULL);
    CHECK_EQ(routine_setspecific(log_key, log), 0);
    put(log, 's');
}

static void *with_local(void *arg)
{
    struct diver *d = arg;
    routine_defer(use_local, &d->log);
    CHECK_EQ(routine_setspecific(log_key, &d->log), 0);
    routine_with_timeout(-1);
    CHECK_EQ(routine_cancel(routine_self()), 0);
    LATER(&d->log, 'a');
    end_by(d->end, d);
    return d;
}

/* The value is set by a defer only. */
static void *with_local_in_defer(void *arg)
{
    struct diver *d = arg;
    routine_defer(use_local, &d->log);
    routine_defer(set_local, &d->log);
    end_by(d->end, d);
    return d;
}

TEST_EVERYWHERE(defers_come_before_destructors)
{
    for (int i = 0; i < 4 * ENDS; i++) {
        struct diver d = {{0, ""}, i % ENDS, i / ENDS % 2};
        const routine_t h = go(d.parks ? with_local_in_defer : with_local, &d);
        if (i % 4 == 0)
            WAIT_UNTIL(routine_is_finished(h));
        join_ended(h, d.end, &d);
        if (d.parks)
            EXPECT_LOG(&d.log, "slED");
        else
            EXPECT_LOG(&d.log, "alED");
    }
}

/* Of a detached one, too. */
static void count(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void *counted(void *arg)
{
    routine_defer(count, arg);
    {
        routine_defer(count, arg);
        routine_yield();
    }
    routine_defer(count, arg);
    routine_exit(NULL);
}

TEST_EVERYWHERE(of_a_detached_one)
{
    _Atomic int counter = 0;
    for (int i = 0; i < 50; i++)
        CHECK_EQ(go_detached(counted, (void *)&counter), 0);
    WAIT_UNTIL(atomic_load(&counter) == 150);
}

/* ---- at random ---- */

/* The account of one routine: which of its defers are declared and not yet called. Several hands write to it
 * (in-place children have their own), and each call must find itself on top. */
enum { PENDING = 300 };

struct account {
    uint64_t random;
    int next, depth;
    int pending[PENDING];
    long declared, called;
    bool may_leave; /* it is a routine, and its joiner expects anything */
    int generation;
};

struct entry {
    struct account *account;
    int id;
};

static struct entry declare(struct account *a)
{
    const struct entry e = {a, a->next++};
    if (a->depth < PENDING)
        a->pending[a->depth] = e.id;
    else
        support_fail(__FILE__, __LINE__, "too deep for the account");
    a->depth++;
    a->declared++;
    return e;
}

static void call(const struct entry *e)
{
    struct account *a = e->account;
    CHECK(a->depth > 0 && a->pending[a->depth - 1] == e->id);
    a->depth--;
    a->called++;
}

static void play(struct account *a, int depth);

static void call_entry(void *arg)
{
    call(arg);
}

static void call_and_wait(void *arg)
{
    const struct entry *e = arg;
    call(e);
    CHECK_EQ(routine_check(), 0);
    if (support_random(&e->account->random) % 4 == 0)
        CHECK_EQ(routine_sleep(1), 0);
    else
        routine_yield();
}

static void call_and_play(void *arg)
{
    const struct entry *e = arg;
    call(e);
    if (support_random(&e->account->random) % 4 == 0)
        play(e->account, 3);
}

static void call_and_leave(void *arg)
{
    const struct entry *e = arg;
    call(e);
    if (e->account->may_leave && support_random(&e->account->random) % 4 == 0) {
        if (support_random(&e->account->random) % 2)
            routine_exit(NULL);
        routine_panic("from defer %d", e->id);
    }
}

static void *player(void *arg);

static void play_child(struct account *a)
{
    if (a->generation >= 3)
        return;
    struct account child = {
        .random = support_random(&a->random), .may_leave = true, .generation = a->generation + 1};
    routine_shield(); /* a limit of the caller's may have passed: the child is joined all the same */
    const int rc = routine_join(go(player, &child), NULL);
    CHECK(rc == 0 || rc == -ENOTRECOVERABLE);
    CHECK_EQ(child.called, child.declared);
    CHECK_EQ(child.depth, 0);
}

static int random_turn(struct account *a, int depth)
{
    const uint64_t turn = support_random(&a->random) % 40;
    if (turn < 14) {
        if (depth < 8)
            play(a, depth + 1);
        return 0;
    }
    switch (turn) {
    case 14:
    case 15:
        routine_yield();
        return 0;
    case 16: {
        routine_shield();
        CHECK_EQ(routine_sleep(1), 0);
        return 0;
    }
    case 17:
        play_child(a);
        return 0;
    case 18:
        if (a->may_leave)
            routine_exit(a);
        return 0;
    case 19:
        if (a->may_leave)
            routine_panic("at depth %d", depth);
        return 0;
    case 20: {
        const int rc = routine_sleep(1);
        CHECK(rc == 0 || rc == -ETIMEDOUT);
        return 0;
    }
    default:
        return (int)(turn % 5);
    }
}

static void play(struct account *a, int depth)
{
    struct entry first = declare(a);
    routine_defer(call_entry, &first);
    for (uint64_t n = support_random(&a->random) % 4; n > 0; n--) {
        struct entry e = declare(a);
        switch (support_random(&a->random) % 8) {
        case 0: {
            routine_defer(call_and_wait, &e);
            if (random_turn(a, depth) == 1)
                return;
            break;
        }
        case 1: {
            routine_defer(call_and_play, &e);
            if (random_turn(a, depth) == 2)
                goto out;
            break;
        }
        case 2: {
            routine_with_timeout(support_random(&a->random) % 2 ? -1 : 1000 * ROUTINE_S);
            routine_defer(call_and_leave, &e);
            if (random_turn(a, depth) == 3)
                continue;
            break;
        }
        default: {
            routine_defer(call_entry, &e);
            const int turn = random_turn(a, depth);
            if (turn == 1)
                return;
            if (turn == 2)
                continue;
            if (turn == 3)
                goto out;
            break;
        }
        }
        struct entry last = declare(a);
        routine_defer(call_entry, &last);
        if (random_turn(a, depth) == 4)
            break;
    }
out:
    first.account = a;
}

static void *player(void *arg)
{
    play(arg, 0);
    return arg;
}

struct players {
    uint64_t seed;
    bool may_leave;
};

static void *play_often(void *arg)
{
    const struct players *p = arg;
    uint64_t random = p->seed;
    for (long i = 0; i < support_scale(1500); i++) {
        if (p->may_leave) {
            play_child(&(struct account){.random = support_random(&random)});
            continue;
        }
        struct account a = {.random = support_random(&random)};
        play(&a, 0);
        CHECK_EQ(a.called, a.declared);
        CHECK_EQ(a.depth, 0);
        CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    }
    return NULL;
}

TEST(random_nesting_and_random_exits)
{
    enum { N = 16 };
    struct players players[N];
    struct actor actors[N];
    for (int i = 0; i < N; i++) {
        players[i] = (struct players){1234567 * ((uint64_t)i + 1), i % 4 != 0};
        actors[i] = act(i % 8 >= 6 || i == 0, play_often, &players[i]);
    }
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, play_often, &players[1]), NULL), 0);
    support_runtime_end(one);
    for (int i = 0; i < 2; i++)
        play_often(&players[i]);
}

/* ---- fork ---- */

/* A child forked inside open braces goes on, and may leave them: the defers are called. */
static pid_t fork_here(struct log *log)
{
    LATER(log, 'a');
    for (int i = 0; i < 2; i++) {
        routine_with_timeout(1000 * ROUTINE_S);
        LATER(log, 'b');
        {
            routine_shield();
            LATER(log, 'c');
            if (i == 0)
                continue;
            const pid_t pid = fork();
            if (pid != 0)
                return pid;
            put(log, 'F');
            {
                LATER(log, 'd'); /* and new ones can be declared */
                CHECK_EQ(routine_sleep(1), 0);
            }
            for (;;) {
                routine_with_timeout(-1);
                LATER(log, 'e');
                CHECK_EQ(routine_sleep(1), -ETIMEDOUT);
                break;
            }
            {
                routine_t h = go(joining_child, &(struct joining){{0, ""}, RETURN, RETURN});
                CHECK_EQ(routine_join(h, NULL), 0);
            }
        }
        put(log, '-');
    }
    put(log, '=');
    return 0;
}

static void *fork_and_wait(void *arg)
{
    struct log log = {0, ""};
    {
        LATER(&log, 'z');
        const pid_t pid = fork_here(&log);
        if (pid == 0) {
            alarm(support_slow() ? 60 : 15);
            EXPECT_LOG(&log, "cbFdec-b=a");
            _exit(atomic_load(&support_failures) ? 99 : 3);
        }
        EXPECT_LOG(&log, "cbcba");
        int status = -1;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 3);
    }
    EXPECT_LOG(&log, "z");
    return arg;
}

static void *fork_in_place(void *arg)
{
    struct log log = {0, ""};
    {
        LATER(&log, 'y');
        CHECK_EQ(routine_join(go(fork_and_wait, arg), NULL), 0);
        EXPECT_LOG(&log, "");
    }
    EXPECT_LOG(&log, "y");
    return NULL;
}

static int case_fork(void)
{
    fork_and_wait(NULL);
    support_thread_join(support_thread(fork_and_wait, NULL), NULL);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_run(fork_and_wait, NULL, NULL), 0);
        CHECK_EQ(routine_run(fork_in_place, NULL, NULL), 0);
    }
    routine_runtime_t *one = support_runtime(1);
    CHECK_EQ(routine_join(support_go_on(one, fork_in_place, NULL), NULL), 0);
    support_runtime_end(one);
    fork_and_wait(NULL);
    return 5;
}

TEST(in_a_forked_child)
{
    /* gcc 12's AddressSanitizer does not take its allocator's locks over a fork: not ours to test */
    if (SUPPORT_ASAN)
        return;
    static struct support_result r;
    CASE_EXITS(&r, "fork", NULL, 5);
    CASE_DOES_NOT_SAY(&r, "fork", "check failed");
    CASE_DOES_NOT_SAY(&r, "fork", "routines:");
}

/* ---- wrong use ---- */

static int case_null_function(void)
{
    routine_defer(NULL, NULL);
    return 0;
}

TEST(a_null_function)
{
    static struct support_result r;
    CASE_DIES(&r, "null_function", NULL, SIGABRT);
    CASE_SAYS(&r, "null_function", "routines: ");
    CASE_SAYS(&r, "null_function", "routine_defer");
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"fork", case_fork},
        {"null_function", case_null_function},
    };
    SUPPORT_CASES(cases);
    assert_int_equal(routine_key_create(&log_key, log_destroyed), 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_in_first_out),
        cmocka_unit_test(one_for_each_turn_of_a_loop),
        cmocka_unit_test(the_argument_is_taken_at_the_declaration),
        cmocka_unit_test(however_the_braces_are_left),
#if CAN_JUMP_IN
        cmocka_unit_test(a_jump_past_the_declaration),
#endif
        cmocka_unit_test(by_exit_and_panic_from_deep_calls),
        cmocka_unit_test(a_hundred_and_fifty_levels),
        cmocka_unit_test(defers_may_block),
        cmocka_unit_test(defers_may_declare_defers_shields_and_limits),
        cmocka_unit_test(defers_may_leave_and_the_others_are_called_once),
        cmocka_unit_test(neither_a_cancellation_nor_a_limit_reaches_inside),
        cmocka_unit_test(limits_do_not_reach_inside_on_a_thread_either),
        cmocka_unit_test(a_cancellation_waits_for_the_end_of_a_defer),
        cmocka_unit_test(those_of_a_child_in_place_and_of_its_joiner_stay_apart),
        cmocka_unit_test(a_join_in_a_defer),
        cmocka_unit_test(defers_come_before_destructors),
        cmocka_unit_test(of_a_detached_one),
        cmocka_unit_test(random_nesting_and_random_exits),
        cmocka_unit_test(in_a_forked_child),
        cmocka_unit_test(a_null_function),
    };
    return cmocka_run_group_tests_name("defer", tests, NULL, NULL);
}
