/* SPDX-License-Identifier: MIT
 *
 * What the tests of interrupted waits share: the stage that an operation is played on. Who includes this
 * then has a table of operations, ops[] (interrupt_ops.h, io_limit_test.c), and the machine that plays them
 * (interrupt_play.h).
 *
 * Each operation is a few functions that work on a stage: set it up so that a wait would block; wait;
 * wake, so that the wait completes; and look, afterwards, whether the account is right. A
 * director sets up a batch of stages and starts one waiter on each. It wakes them, cancellers
 * cancel them, and limits of time pass: one of these, or several at the same moment. Whatever of it
 * happens, a wait has completed, with all its effects, or has none.
 *
 * The director is a routine or a plain thread; waiters are routines on stacks of their own, on
 * those of their joiners (in place) at some depth, or plain threads; cancellers are plain threads,
 * and routines of this and of another runtime.
 */
#ifndef TESTS_INTERRUPT_STAGE_H
#define TESTS_INTERRUPT_STAGE_H

#include "chan_support.h"

#include "routines/scope.h"
#include "routines/sync.h"

/* What may end a wait, a set of these. ALL: the children that are waited for are cancelled too. */
enum { WAKE = 1, CANCEL = 2, LIMIT = 4, ALL = 8 };

enum {
    MOST_CASES = 20,
    NOT_RUN = 4711, /* instead of a return code */
    UNTOUCHED = 8128
};

/* ---- a stage ---- */

struct op;

struct stage {
    const struct op *op;
    unsigned what;    /* may end it */
    int64_t limit;    /* set by the waiter; ROUTINE_NEVER: it sets none */
    int64_t duration; /* of a sleep, or of a select's own timeout */
    int64_t patience; /* limit for a wake that has to wait itself; ROUTINE_NEVER: none */
    unsigned spins;   /* of the waiter, before it waits */
    unsigned depth;   /* of joiners on whose stack the waiter may run */
    unsigned joiners; /* yet to be started; theirs */
    bool is_thread;   /* the waiter */
    uint64_t random;  /* the director's */

    struct actor actor; /* the waiter, or the outermost of its joiners */
    routine_t waiter;   /* whom to cancel */
    _Atomic bool published, begun;

    int64_t began; /* when the limit, if any, was set */
    int rc;        /* what the wait returned: at least 0 if it completed */

    unsigned woken; /* times, or of a select the set of the cases, that a wake had an effect on */
    int wake_rc;
    uint64_t in[MOST_CASES], out[MOST_CASES], taken[MOST_CASES];
    chan_t *ch[MOST_CASES];
    chan_t *broadcast;
    chan_case_t cases[MOST_CASES + 1];
    unsigned twist;

    routine_oneshot_t gate;
    routine_mutex_t mutex;
    routine_cond_t cond;
    routine_rwlock_t rwlock;
    routine_sem_t sem;
    routine_waitgroup_t group;
    routine_barrier_t barrier;
    bool waiting; /* under the mutex */

    int fd[3];
    size_t size;

    routine_scope_t *scope;
    routine_t child;
    int child_rc;
    _Atomic int ran;
};

enum {
    TIMED = 1,         /* completes by itself, after the stage's duration */
    ENDLESS = 2,       /* never completes */
    DEAF = 4,          /* a cancellation does not end it */
    OWN_LIMIT = 8,     /* it calls limited() itself */
    HAS_CHILDREN = 16, /* and they are cancelled with it */
    MEETS = 64,        /* its wake waits itself */
    LONG = 32          /* the interesting things happen only after a wait of a millisecond */
};

#define LONG_WAIT (1100 * ROUTINE_US)

struct op {
    const char *name;
    unsigned flags;
    unsigned n; /* cases of a select */
    void (*setup)(struct stage *s);
    int (*wait)(struct stage *s);
    bool (*wake)(struct stage *s);  /* true: the wait completes by it, if nothing else was faster */
    void (*check)(struct stage *s); /* at the end; releases what setup made */
};

static void spin(uint64_t n)
{
    for (volatile uint64_t i = 0; i < n; i = i + 1)
        ;
}

/* Some time, of any order of magnitude up to a few microseconds. */
static void spin_randomly(uint64_t *random)
{
    const uint64_t r = support_random(random);
    spin(r & ((UINT64_C(1) << (r >> 32) % 12) - 1));
}

/* A failure says during which operation. */
#define STAGE_CHECK(s, condition)                                                                            \
    ((condition) ? (void)0                                                                                   \
                 : support_fail(__FILE__, __LINE__, "%s (%s, what %u, rc %d, woken %x)", #condition,         \
                                (s)->op->name, (s)->what, (s)->rc, (s)->woken))

static bool completed(const struct stage *s)
{
    return s->rc >= 0 && s->rc != NOT_RUN;
}

/* ---- the wait and its limit ---- */

/* What must be true behind a wait that returned rc, with its limit in force: the reason stays. */
static void check_reason(struct stage *s, int rc)
{
    const int64_t now = routine_now();
    if (rc >= 0)
        return;
    const bool deaf = routine_self().block == NULL;
    const int reason = routine_check(), again = routine_sleep(ROUTINE_NEVER);
    if (rc == -ETIMEDOUT) {
        STAGE_CHECK(s, s->limit != ROUTINE_NEVER && now - s->began >= s->limit);
        STAGE_CHECK(s, reason == -ETIMEDOUT || (reason == -ECANCELED && (s->what & CANCEL) && !deaf));
        STAGE_CHECK(s, again == -ETIMEDOUT || (again == -ECANCELED && (s->what & CANCEL) && !deaf));
    } else if (rc == -ECANCELED) {
        STAGE_CHECK(s, (s->what & CANCEL) && !(s->op->flags & DEAF) && !deaf);
        STAGE_CHECK(s, reason == -ECANCELED || (reason == -ETIMEDOUT && s->limit != ROUTINE_NEVER));
        STAGE_CHECK(s, again == -ECANCELED || (again == -ETIMEDOUT && s->limit != ROUTINE_NEVER));
    } else {
        support_fail(__FILE__, __LINE__, "%s returned %d", s->op->name, rc);
    }
}

static int limited(struct stage *s, int (*wait)(struct stage *s))
{
    int rc;
    s->began = routine_now();
    if (s->limit == ROUTINE_NEVER) { /* not even that is declared */
        rc = wait(s);
        check_reason(s, rc);
    } else {
        routine_with_timeout(s->limit);
        rc = wait(s);
        check_reason(s, rc);
    }
    return rc;
}

static int stage_wait(struct stage *s)
{
    return s->op->flags & OWN_LIMIT ? s->op->wait(s) : limited(s, s->op->wait);
}

/* ---- a gate ---- */

static void set_up_gate(struct stage *s)
{
    routine_oneshot_init(&s->gate);
    s->child = (routine_t){NULL, 0};
    s->child_rc = NOT_RUN;
    atomic_store(&s->ran, 0);
}

#endif
