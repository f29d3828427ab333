/* SPDX-License-Identifier: MIT
 *
 * The machine that plays the operations of a table, ops[], which must stand before this is included. See
 * interrupt_stage.h for who takes part.
 */
#ifndef TESTS_INTERRUPT_PLAY_H
#define TESTS_INTERRUPT_PLAY_H

#include "interrupt_stage.h"

/* ROUTINES_TEST_OP: only those operations whose name contains it. */
static bool op_is_wanted(const struct op *op)
{
    const char *wanted = getenv("ROUTINES_TEST_OP");
    return wanted == NULL || strstr(op->name, wanted) != NULL;
}

/* ---- waiters ---- */

static void *wait_here(void *arg)
{
    struct stage *s = arg;
    uint64_t count = s->spins;
    atomic_store(&s->begun, true);
    spin(count);
    s->rc = stage_wait(s);
    if (s->op->flags & TIMED && completed(s) && (s->rc == 1 || s->op->wake == NULL))
        STAGE_CHECK(s, routine_now() - s->began >= s->duration); /* never early */
    if (!(s->what & CANCEL))
        STAGE_CHECK(s, routine_check() == 0);         /* the limit has gone */
    else if (s->rc == -ECANCELED && !(s->what & ALL)) /* of a child that was cancelled before it */
        STAGE_CHECK(s, routine_check() == -ECANCELED && routine_sleep(1) == -ECANCELED); /* it stays */
    return s;
}

/* Joins at once, so that the child is likely to run in place; and learns nothing of its cancellation. */
static void *wait_inside(void *arg)
{
    struct stage *s = arg;
    routine_t h;
    if (s->joiners > 1) {
        s->joiners--;
        h = go(wait_inside, s);
    } else {
        h = go(wait_here, s);
        s->waiter = h;
        atomic_store(&s->published, true);
    }
    const int rc = routine_join(h, NULL);
    if (rc == -ECANCELED)
        STAGE_CHECK(s, s->rc == NOT_RUN && (s->what & CANCEL));
    else
        STAGE_CHECK(s, rc == 0);
    STAGE_CHECK(s, routine_check() == 0);
    return s;
}

static void start_waiter(struct stage *s)
{
    s->rc = NOT_RUN;
    s->woken = 0;
    atomic_store(&s->begun, false);
    atomic_store(&s->published, s->depth == 0);
    s->joiners = s->depth;
    s->actor = act(s->is_thread, s->depth > 0 ? wait_inside : wait_here, s);
    if (s->depth == 0)
        s->waiter = s->actor.routine;
}

/* Whoever was cancelled before it started has waited for nothing. */
static void end_waiter(struct stage *s)
{
    if (s->is_thread || s->depth > 0)
        act_end(s->actor);
    else {
        const int rc = routine_join(s->actor.routine, NULL);
        STAGE_CHECK(s, rc == 0 || (rc == -ECANCELED && (s->what & CANCEL) && s->rc == NOT_RUN));
    }
    STAGE_CHECK(s, s->rc != NOT_RUN || (s->what & CANCEL));
}

/* ---- cancellers ---- */

enum { BATCH = 8, CANCELLERS = 3 };

struct play;

struct canceller {
    struct play *play;
    struct support_turn turn;
    uint64_t random;
    struct actor actor;
};

struct play {
    unsigned what;
    long batches;
    unsigned count; /* stages in this batch */
    struct stage stages[BATCH];
    uint64_t random;

    routine_runtime_t *other;
    struct canceller cancellers[CANCELLERS];
    _Atomic int arrived;
    int parties;
    bool over;
};

static void *cancel_stages(void *arg)
{
    struct canceller *c = arg;
    struct play *p = c->play;
    for (;;) {
        support_turn_wait(&c->turn);
        if (p->over)
            return NULL;
        support_meet(&p->arrived, p->parties);
        const unsigned first = (unsigned)(support_random(&c->random) % BATCH);
        for (unsigned i = 0; i < p->count; i++) {
            struct stage *s = &p->stages[(first + i) % p->count];
            WAIT_UNTIL(atomic_load(&s->published));
            spin_randomly(&c->random);
            const int rc = routine_cancel(s->waiter);
            /* one in place is joined by its own joiner, as soon as it likes */
            STAGE_CHECK(s, rc == 0 || (rc == -ESRCH && s->depth > 0));
        }
        support_turn_done(&c->turn);
    }
}

static void play_open(struct play *p)
{
    p->over = false;
    p->random = 20240607;
    p->other = support_runtime(2);
    for (int i = 0; i < CANCELLERS; i++) {
        struct canceller *c = &p->cancellers[i];
        memset(c, 0, sizeof *c);
        c->play = p;
        c->random = 4711 + (uint64_t)i;
        c->actor = i == 2 ? act_on(p->other, cancel_stages, c) : act(i == 0, cancel_stages, c);
    }
}

static void play_close(struct play *p)
{
    p->over = true;
    for (int i = 0; i < CANCELLERS; i++) {
        support_turn_begin(&p->cancellers[i].turn);
        act_end(p->cancellers[i].actor);
    }
    support_runtime_end(p->other);
}

/* ---- the director ---- */

static void wake_surely(struct stage *s)
{
    if (s->op->wake != NULL && !(s->op->flags & TIMED)) {
        s->patience = ROUTINE_NEVER;
        WAIT_UNTIL(s->op->wake(s));
    }
}

/* The object must be as if the wait had never been: one that nobody disturbs completes. */
static void wait_again(struct stage *s)
{
    s->what = WAKE;
    s->limit = ROUTINE_NEVER;
    s->spins = 0;
    s->is_thread = false;
    s->depth = 0;
    if (s->op->flags & HAS_CHILDREN)
        set_up_gate(s);
    start_waiter(s);
    wake_surely(s);
    end_waiter(s);
    STAGE_CHECK(s, completed(s));
}

static void play_batch(struct play *p, const struct op *op, long batch)
{
    const uint64_t r = support_random(&p->random);
    const int64_t base = op->flags & LONG ? LONG_WAIT : 0;
    /* those who are deaf to cancellations, and have no limit, must be woken in the end */
    const bool surely = !(p->what & LIMIT) && (!(p->what & CANCEL) || (op->flags & DEAF));
    const unsigned mask = p->what & CANCEL ? 1 + (unsigned)(r >> 8) % 7 : 0;
    p->count = 1 + (unsigned)(r % BATCH);
    for (unsigned i = 0; i < p->count; i++) {
        struct stage *s = &p->stages[i];
        const uint64_t q = support_random(&p->random);
        s->op = op;
        s->what = p->what;
        s->random = q | 1;
        if (p->what & LIMIT)
            s->limit = base + (int64_t)(support_random(&p->random) % (40 * ROUTINE_US));
        else /* with one that does not pass it waits in another way */
            s->limit = q >> 16 & 1 ? ROUTINE_NEVER : 3600 * ROUTINE_S;
        s->duration =
            p->what & WAKE ? (int64_t)(support_random(&p->random) % (40 * ROUTINE_US)) : ROUTINE_NEVER;
        s->patience = surely ? ROUTINE_NEVER : (int64_t)(q % (30 * ROUTINE_US)) + 1;
        s->spins = batch % 2 ? (unsigned)(q >> 20) & ((1U << (q >> 50) % 10) - 1) : 0;
        s->is_thread = !(p->what & CANCEL) && batch % 4 == 3 && i == 0;
        s->depth = s->is_thread || (r >> 16) % 4 != 0 ? 0 : 1 + (unsigned)(q >> 40) % 3;
        op->setup(s);
        start_waiter(s);
    }
    if (batch % 4 != 0) /* by turns they have parked, or perhaps not even started */
        for (int i = 0; i < 3; i++)
            routine_yield();
    if (base != 0)
        CHECK_EQ(routine_sleep(base), 0);

    atomic_store(&p->arrived, 0);
    p->parties = 1 + (int)(mask & 1) + (int)(mask >> 1 & 1) + (int)(mask >> 2);
    for (unsigned i = 0; i < CANCELLERS; i++)
        if (mask >> i & 1)
            support_turn_begin(&p->cancellers[i].turn);
    if (p->what & WAKE) {
        if (mask != 0)
            support_meet(&p->arrived, p->parties);
        for (int tries = 0; tries < 2; tries++)
            for (unsigned i = 0; i < p->count && op->wake != NULL; i++) {
                spin_randomly(&p->random);
                op->wake(&p->stages[i]);
            }
    }
    for (unsigned i = 0; i < CANCELLERS; i++)
        if (mask >> i & 1)
            support_turn_await(&p->cancellers[i].turn);
    if (surely)
        for (unsigned i = 0; i < p->count; i++)
            wake_surely(&p->stages[i]);

    for (unsigned i = 0; i < p->count; i++) {
        struct stage *s = &p->stages[i];
        end_waiter(s);
        if (surely)
            STAGE_CHECK(s, completed(s) || s->rc == NOT_RUN);
        if (p->what == CANCEL && !(op->flags & DEAF))
            STAGE_CHECK(s, s->rc == -ECANCELED || s->rc == NOT_RUN);
        if (p->what == LIMIT)
            STAGE_CHECK(s, s->rc == -ETIMEDOUT);
        if (s->woken == 0 && !completed(s) && !(op->flags & (TIMED | ENDLESS)) && batch % 2)
            wait_again(s);
        op->check(s);
    }
}

static void *play_all(void *arg)
{
    struct play *p = arg;
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        const long batches = ops[i].flags & LONG ? p->batches / 8 : p->batches;
        if (!op_is_wanted(&ops[i]) || ((ops[i].flags & ENDLESS) && p->what == WAKE))
            continue;
        for (long batch = 0; batch < batches; batch++)
            play_batch(p, &ops[i], batch);
    }
    return NULL;
}

/* So many in a plain build. */
static long batches(long n)
{
    return !support_slow() ? n : n < 80 ? 10 : n / 8;
}

/* Every operation, so many batches, directed by a routine and by a plain thread. */
static void play(unsigned what, long n)
{
    struct play *p = calloc(1, sizeof *p);
    if (p == NULL)
        abort();
    play_open(p);
    p->what = what;
    p->batches = n;
    support_in_routine(play_all, p);
    p->batches = n / 2;
    play_all(p);
    play_close(p);
    free(p);
}

/* ---- at the very moment ---- */

/*
 * The same with one waiter at a time, and without anything between it and the other side but a word that both
 * look at: so a cancellation meets it just as it enters, parks, is woken or leaves. The other side is a
 * plain thread, which sets up, cancels, and perhaps wakes as well, before or after that.
 */
struct moment {
    struct stage stage;
    unsigned what;
    long rounds;
    _Atomic long set, begun, ended;
    _Atomic bool over;
};

/* Looks for a while before it lets others have the CPU. */
#define LOOK_UNTIL(condition)                                                                                \
    for (int looks = 0; !(condition); looks++)                                                               \
        if (looks > 500)                                                                                     \
    routine_yield()

/* Can be woken by one that doesn't wait itself, and has no children who come between. */
static bool has_a_moment(const struct op *op)
{
    return op_is_wanted(op) && !(op->flags & (DEAF | OWN_LIMIT | LONG | MEETS));
}

static void *wait_at_moment(void *arg)
{
    struct moment *m = arg;
    m->stage.waiter = routine_self();
    atomic_fetch_add(&m->begun, 1);
    m->stage.rc = stage_wait(&m->stage);
    return NULL;
}

static void *wait_at_moments(void *arg)
{
    struct moment *m = arg;
    for (long round = 1;; round++) {
        LOOK_UNTIL(atomic_load(&m->set) == round || atomic_load(&m->over));
        if (atomic_load(&m->over))
            return NULL;
        CHECK_EQ(routine_join(go(wait_at_moment, m), NULL), 0);
        atomic_store(&m->ended, round);
    }
}

static void meet_at_moment(struct moment *m, uint64_t *random)
{
    struct stage *s = &m->stage;
    const bool wakes = (m->what & WAKE) && s->op->wake != NULL, first = s->random & 2;
    const routine_t waiter = s->waiter;
    spin_randomly(random);
    if (wakes && first) {
        s->op->wake(s);
        if (s->random & 4)
            spin_randomly(random);
    }
    const int rc = routine_cancel(waiter);
    STAGE_CHECK(s, rc == 0 || (rc == -ESRCH && wakes));
    if (wakes && !first)
        s->op->wake(s);
}

static void *meet_at_moments(void *arg)
{
    struct moment *m = arg;
    struct stage *s = &m->stage;
    uint64_t random = 83;
    long round = 0;
    for (size_t i = 0; i < COUNT_OF(ops); i++)
        for (long k = 0; k < m->rounds && has_a_moment(&ops[i]); k++) {
            memset(s, 0, sizeof *s);
            s->op = &ops[i];
            s->what = m->what;
            s->random = support_random(&random) | 1;
            s->limit = s->random >> 8 & 1 ? ROUTINE_NEVER : 3600 * ROUTINE_S;
            s->duration = s->patience = ROUTINE_NEVER;
            s->rc = NOT_RUN;
            ops[i].setup(s);
            atomic_store(&m->set, ++round);
            LOOK_UNTIL(atomic_load(&m->begun) == round);
            meet_at_moment(m, &random);
            LOOK_UNTIL(atomic_load(&m->ended) == round);
            STAGE_CHECK(s, s->rc == -ECANCELED || ((m->what & WAKE) && completed(s)));
            ops[i].check(s);
        }
    atomic_store(&m->over, true);
    return NULL;
}

static void play_moments(unsigned what, long n)
{
    struct moment *m = calloc(1, sizeof *m);
    if (m == NULL)
        abort();
    m->what = what;
    m->rounds = n;
    const struct actor other = act(true, meet_at_moments, m);
    support_in_routine(wait_at_moments, m);
    act_end(other);
    free(m);
}

/* ---- before it begins ---- */

static void stage_begin(struct stage *s, const struct op *op, unsigned what, uint64_t random)
{
    memset(s, 0, sizeof *s);
    s->op = op;
    s->what = what;
    s->random = random | 1;
    s->limit = s->duration = s->patience = ROUTINE_NEVER;
    s->rc = NOT_RUN;
    op->setup(s);
}

/* As ready as it can be without somebody who waits on the other side. */
static void wake_ahead(struct stage *s)
{
    if ((s->op->flags & TIMED) && s->op->wake == NULL)
        s->duration = 0;
    for (int tries = 0; s->op->wake != NULL && !(s->op->flags & MEETS) && tries < 8; tries++)
        s->op->wake(s);
}

enum { BY_ITSELF, BY_ROUTINE, BY_THREAD, BY_OTHER_RUNTIME, CANCELLING };

static void *cancel_waiter(void *arg)
{
    CHECK_EQ(routine_cancel(((struct stage *)arg)->waiter), 0);
    return NULL;
}

static void *wait_canceled(void *arg)
{
    struct stage *s = arg;
    if (s->twist == BY_ITSELF)
        CHECK_EQ(routine_cancel(routine_self()), 0);
    atomic_store(&s->begun, true);
    WAIT_UNTIL(routine_check() != 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_check(), -ECANCELED);
        s->rc = stage_wait(s);
        STAGE_CHECK(s, s->rc == -ECANCELED);
    }
    return NULL;
}

struct before {
    routine_runtime_t *other;
    long rounds;
};

/* It could complete at once, and does not: nothing is taken, nothing locked. */
static void *refuse_canceled(void *arg)
{
    const struct before *b = arg;
    struct stage *s = calloc(1, sizeof *s);
    uint64_t random = 77;
    for (size_t i = 0; i < COUNT_OF(ops); i++)
        for (long round = 0; round < b->rounds && op_is_wanted(&ops[i]); round++) {
            const unsigned by = (unsigned)round % CANCELLING;
            if (ops[i].flags & DEAF)
                continue;
            stage_begin(s, &ops[i], CANCEL, support_random(&random));
            wake_ahead(s);
            const unsigned twist = s->twist;
            s->twist = by;
            s->waiter = go(wait_canceled, s);
            if (by != BY_ITSELF) {
                WAIT_UNTIL(atomic_load(&s->begun)); /* or it would never start */
                if (by == BY_ROUTINE)
                    cancel_waiter(s);
                else
                    act_end(by == BY_THREAD ? act(true, cancel_waiter, s)
                                            : act_on(b->other, cancel_waiter, s));
            }
            CHECK_EQ(routine_join(s->waiter, NULL), 0);
            s->twist = twist;
            ops[i].check(s);
        }
    free(s);
    return NULL;
}

static const int64_t past[] = {0, -1, INT64_MIN, -ROUTINE_S};

static int wait_expired(struct stage *s, long round)
{
    if (round % 3 == 0) {
        routine_with_timeout(past[round / 3 % 4]);
        return s->op->wait(s);
    }
    if (round % 3 == 1) {
        routine_with_deadline(routine_now() - 1);
        return s->op->wait(s);
    }
    routine_with_timeout(1);
    WAIT_UNTIL(routine_check() == -ETIMEDOUT); /* what has been told once stays */
    return s->op->wait(s);
}

static void *refuse_expired(void *arg)
{
    const long rounds = *(long *)arg;
    struct stage *s = calloc(1, sizeof *s);
    uint64_t random = 78;
    for (size_t i = 0; i < COUNT_OF(ops); i++)
        for (long round = 0; round < rounds && op_is_wanted(&ops[i]); round++) {
            if (ops[i].flags & OWN_LIMIT)
                continue; /* a child cannot even be started */
            stage_begin(s, &ops[i], LIMIT, support_random(&random));
            wake_ahead(s);
            const int64_t before = routine_deadline();
            s->rc = wait_expired(s, round);
            if (ops[i].flags & DEAF) /* what has finished can be joined even then */
                STAGE_CHECK(s, s->rc == -ETIMEDOUT || s->rc == 0);
            else
                STAGE_CHECK(s, s->rc == -ETIMEDOUT);
            CHECK_EQ(routine_check(), 0);
            CHECK_EQ(routine_deadline(), before);
            ops[i].check(s);
        }
    free(s);
    return NULL;
}

/* ---- under a shield ---- */

static void *wait_shielded(void *arg)
{
    struct stage *s = arg;
    atomic_store(&s->begun, true);
    {
        routine_with_timeout(s->spins % 2 ? 1 : ROUTINE_NEVER); /* does not count inside either */
        {
            routine_shield();
            if (s->spins / 2 % 2) {
                CHECK_EQ(routine_cancel(routine_self()), 0);
                CHECK_EQ(routine_check(), 0);
            }
            s->rc = stage_wait(s);
            WAIT_UNTIL(atomic_load(&s->published)); /* it has been cancelled */
            CHECK_EQ(routine_check(), 0);
            CHECK_EQ(routine_sleep(1), 0); /* another one */
        }
        const int rc = routine_sleep(ROUTINE_NEVER);
        CHECK(rc == -ECANCELED || (rc == -ETIMEDOUT && s->spins % 2));
    }
    CHECK_EQ(routine_check(), -ECANCELED);
    CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ECANCELED);
    return NULL;
}

static void *direct_shielded(void *arg)
{
    const long rounds = *(long *)arg;
    struct stage *s = calloc(1, sizeof *s);
    uint64_t random = 79;
    for (size_t i = 0; i < COUNT_OF(ops); i++)
        for (long round = 0; round < rounds && op_is_wanted(&ops[i]); round++) {
            stage_begin(s, &ops[i], CANCEL, support_random(&random));
            s->spins = (unsigned)round;
            if (ops[i].flags & TIMED)
                s->duration = ROUTINE_MS / 4;
            if (ops[i].flags & ENDLESS)
                s->limit = ROUTINE_MS / 4; /* inside the shield: this one counts */
            s->waiter = go(wait_shielded, s);
            WAIT_UNTIL(atomic_load(&s->begun));
            for (int k = 0; k < 5; k++) {
                CHECK_EQ(routine_cancel(s->waiter), 0);
                routine_yield();
            }
            atomic_store(&s->published, true);
            if (!(ops[i].flags & (TIMED | ENDLESS)))
                CHECK(!routine_is_finished(s->waiter));
            wake_surely(s);
            CHECK_EQ(routine_join(s->waiter, NULL), 0);
            STAGE_CHECK(s, ops[i].flags & ENDLESS ? s->rc == -ETIMEDOUT : completed(s));
            ops[i].check(s);
        }
    free(s);
    return NULL;
}

#endif
