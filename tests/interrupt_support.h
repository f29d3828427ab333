/* SPDX-License-Identifier: MIT
 *
 * What the tests of interrupted waits share: a table of every operation that can block, and the machine
 * that plays them.
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
#ifndef TESTS_INTERRUPT_SUPPORT_H
#define TESTS_INTERRUPT_SUPPORT_H

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

/* ---- operations: channels ---- */

static int op_send(struct stage *s)
{
    return chan_send(s->ch[0], &s->out[0]);
}

static int op_recv(struct stage *s)
{
    return chan_recv(s->ch[0], &s->in[0]);
}

static bool op_take(struct stage *s)
{
    if (s->woken == 0 && chan_try_recv(s->ch[0], &s->taken[0]) == 0)
        s->woken = 1;
    return s->woken != 0;
}

static bool op_put(struct stage *s)
{
    if (s->woken == 0 && chan_try_send(s->ch[0], &(uint64_t){77}) == 0)
        s->woken = 1;
    return s->woken != 0;
}

static void set_up_rendezvous(struct stage *s)
{
    s->ch[0] = MAKE(uint64_t, 0);
    s->out[0] = 55;
    s->in[0] = UNTOUCHED;
}

static void set_up_full(struct stage *s)
{
    s->ch[0] = MAKE(uint64_t, 2);
    s->out[0] = 55;
    CHECK_EQ(chan_send(s->ch[0], &(uint64_t){101}), 0);
    CHECK_EQ(chan_send(s->ch[0], &(uint64_t){102}), 0);
}

static void set_up_empty(struct stage *s)
{
    s->ch[0] = MAKE(uint64_t, 2);
    s->in[0] = UNTOUCHED;
}

/* Nothing is in it, and nobody waits. */
static void check_idle(struct stage *s, chan_t *ch)
{
    uint64_t x = 1;
    STAGE_CHECK(s, chan_len(ch) == 0);
    STAGE_CHECK(s, chan_try_recv(ch, &x) == -EAGAIN);
    if (chan_cap(ch) == 0)
        STAGE_CHECK(s, chan_try_send(ch, &x) == -EAGAIN);
    chan_unref(ch);
}

static void check_send_rendezvous(struct stage *s)
{
    STAGE_CHECK(s, completed(s) == (s->woken != 0));
    STAGE_CHECK(s, s->woken == 0 || s->taken[0] == 55);
    check_idle(s, s->ch[0]);
}

static void expect(struct stage *s, chan_t *ch, uint64_t value)
{
    uint64_t x = 0;
    STAGE_CHECK(s, chan_try_recv(ch, &x) == 0 && x == value);
}

static void check_send_full(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    if (s->woken != 0)
        STAGE_CHECK(s, s->taken[0] == 101);
    else
        expect(s, s->ch[0], 101);
    expect(s, s->ch[0], 102);
    if (completed(s))
        expect(s, s->ch[0], 55);
    check_idle(s, s->ch[0]);
}

static void check_recv_rendezvous(struct stage *s)
{
    STAGE_CHECK(s, completed(s) == (s->woken != 0));
    STAGE_CHECK(s, s->in[0] == (completed(s) ? 77 : UNTOUCHED));
    check_idle(s, s->ch[0]);
}

static void check_recv_empty(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    STAGE_CHECK(s, s->in[0] == (completed(s) ? 77 : UNTOUCHED));
    if (s->woken != 0 && !completed(s))
        expect(s, s->ch[0], 77);
    check_idle(s, s->ch[0]);
}

/* Instead of a value there comes the end, which is a completion too. */
static int closed(struct stage *s, int rc, int by_close)
{
    STAGE_CHECK(s, rc < 0);
    return rc == by_close ? 0 : rc;
}

static int op_send_until_closed(struct stage *s)
{
    return closed(s, op_send(s), -EPIPE);
}

static int op_recv_until_closed(struct stage *s)
{
    return closed(s, op_recv(s), -EPIPE);
}

static int op_select_until_closed(struct stage *s)
{
    return closed(s, chan_select(CHAN_RECV((chan_t *)NULL, &s->in[0]), CHAN_RECV(s->ch[0], &s->in[0])),
                  CHAN_CLOSED(1));
}

static bool op_close(struct stage *s)
{
    if (s->woken == 0)
        STAGE_CHECK(s, chan_close(s->ch[0]) == 0);
    s->woken = 1;
    return true;
}

static void check_closed(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    STAGE_CHECK(s, s->in[0] == UNTOUCHED);
    STAGE_CHECK(s, chan_try_send(s->ch[0], &s->out[0]) == (s->woken != 0 ? -EPIPE : -EAGAIN));
    STAGE_CHECK(s, chan_try_recv(s->ch[0], &s->in[0]) == (s->woken != 0 ? -EPIPE : -EAGAIN));
    chan_unref(s->ch[0]);
}

static void set_up_subscription(struct stage *s)
{
    s->broadcast = support_made(__LINE__, chan_make_broadcast(uint64_t, 2));
    s->ch[0] = support_made(__LINE__, chan_subscribe(s->broadcast));
    s->in[0] = UNTOUCHED;
}

static bool op_publish(struct stage *s)
{
    if (s->woken == 0) {
        CHECK_EQ(chan_send(s->broadcast, &(uint64_t){77}), 0);
        s->woken = 1;
    }
    return true;
}

static void check_recv_subscription(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || (s->rc == 0 && s->woken != 0));
    STAGE_CHECK(s, s->in[0] == (completed(s) ? 77 : UNTOUCHED));
    if (s->woken != 0 && !completed(s))
        expect(s, s->ch[0], 77);
    STAGE_CHECK(s, chan_try_recv(s->ch[0], &s->in[0]) == -EAGAIN);
    STAGE_CHECK(s, chan_unsubscribe(s->ch[0]) == 0);
    chan_unref(s->broadcast);
}

/* ---- operations: select ---- */

enum { RECV_EMPTY, SEND_FULL, RECV_MEETING, SEND_MEETING };

static unsigned case_kind(const struct stage *s, unsigned i)
{
    return (i + s->twist) % 4;
}

static void set_up_select(struct stage *s)
{
    s->twist = (unsigned)(support_random(&s->random) % 4);
    for (unsigned i = 0; i < s->op->n; i++) {
        const unsigned kind = case_kind(s, i);
        s->ch[i] = MAKE(uint64_t, kind == RECV_EMPTY || kind == SEND_FULL);
        s->in[i] = UNTOUCHED;
        s->out[i] = 2000 + i;
        if (kind == SEND_FULL)
            CHECK_EQ(chan_send(s->ch[i], &(uint64_t){1000 + i}), 0);
        s->cases[i] = kind == RECV_EMPTY || kind == RECV_MEETING ? CHAN_RECV(s->ch[i], &s->in[i])
                                                                 : CHAN_SEND(s->ch[i], &s->out[i]);
    }
    s->cases[s->op->n] = CHAN_TIMEOUT(3600 * ROUTINE_S);
}

/* Not more channels than there are cases; by turns with a time that does not come. */
static int op_select(struct stage *s)
{
    return chan_select_array(s->cases, s->op->n + (s->twist == 1));
}

/* Any of them. */
static bool op_select_wake(struct stage *s)
{
    const unsigned i = (unsigned)(support_random(&s->random) % s->op->n);
    const unsigned kind = case_kind(s, i);
    const uint64_t value = 3000 + i;
    if (s->woken >> i & 1)
        return true;
    const int rc = kind == RECV_EMPTY || kind == RECV_MEETING ? chan_try_send(s->ch[i], &value)
                                                              : chan_try_recv(s->ch[i], &s->taken[i]);
    if (rc == 0)
        s->woken |= 1U << i;
    return s->woken != 0;
}

static void check_select(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || (s->rc < (int)s->op->n && (s->woken >> s->rc & 1)));
    for (unsigned i = 0; i < s->op->n; i++) {
        const bool happened = completed(s) && s->rc == (int)i, woken = s->woken >> i & 1;
        const unsigned kind = case_kind(s, i);
        STAGE_CHECK(s, s->in[i] ==
                           (happened && (kind == RECV_EMPTY || kind == RECV_MEETING) ? 3000 + i : UNTOUCHED));
        switch (kind) {
        case RECV_EMPTY:
            if (woken && !happened)
                expect(s, s->ch[i], 3000 + i);
            break;
        case SEND_FULL:
            if (!woken || happened)
                expect(s, s->ch[i], woken ? 2000 + i : 1000 + i);
            STAGE_CHECK(s, !woken || s->taken[i] == 1000 + i);
            break;
        default:
            STAGE_CHECK(s, happened == woken);
            STAGE_CHECK(s, !woken || kind == RECV_MEETING || s->taken[i] == 2000 + i);
        }
        check_idle(s, s->ch[i]);
    }
}

/* All cases are of one channel, in both directions. */
static void set_up_select_same(struct stage *s)
{
    s->ch[0] = MAKE(uint64_t, 0);
    for (unsigned i = 0; i < s->op->n; i++) {
        s->in[i] = UNTOUCHED;
        s->out[i] = 2000 + i;
        s->cases[i] = i % 2 ? CHAN_SEND(s->ch[0], &s->out[i]) : CHAN_RECV(s->ch[0], &s->in[i]);
    }
}

static int op_select_same(struct stage *s)
{
    return chan_select_array(s->cases, s->op->n);
}

static bool op_select_same_wake(struct stage *s)
{
    if (s->woken == 0) {
        s->twist = (unsigned)(support_random(&s->random) % 2);
        if ((s->twist ? chan_try_recv(s->ch[0], &s->taken[0]) : chan_try_send(s->ch[0], &(uint64_t){77})) ==
            0)
            s->woken = 1;
    }
    return s->woken != 0;
}

static void check_select_same(struct stage *s)
{
    STAGE_CHECK(s, completed(s) == (s->woken != 0));
    STAGE_CHECK(s, !completed(s) || (unsigned)s->rc % 2 == s->twist);
    STAGE_CHECK(s, !completed(s) || !s->twist || s->taken[0] == 2000 + (unsigned)s->rc);
    for (unsigned i = 0; i < s->op->n; i++)
        STAGE_CHECK(s, s->in[i] == (completed(s) && s->rc == (int)i && !s->twist ? 77 : UNTOUCHED));
    check_idle(s, s->ch[0]);
}

/* With a time of its own. */
static int op_select_timeout(struct stage *s)
{
    if (s->duration == ROUTINE_NEVER || s->random & 2)
        return chan_select(CHAN_RECV(s->ch[0], &s->in[0]), CHAN_TIMEOUT(s->duration));
    return chan_select(CHAN_RECV(s->ch[0], &s->in[0]), CHAN_DEADLINE(s->began + s->duration));
}

static bool op_select_timeout_wake(struct stage *s)
{
    return s->random & 4 ? op_put(s) : false;
}

static void check_select_timeout(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->rc == 1 || (s->rc == 0 && s->woken != 0));
    STAGE_CHECK(s, s->in[0] == (s->rc == 0 ? 77 : UNTOUCHED));
    if (s->woken != 0 && s->rc != 0)
        expect(s, s->ch[0], 77);
    check_idle(s, s->ch[0]);
}

static void set_up_nothing(struct stage *s)
{
    s->in[0] = UNTOUCHED;
}

static int op_select_nothing(struct stage *s)
{
    return s->random & 2 ? chan_select_array(NULL, 0)
                         : chan_select(CHAN_RECV((chan_t *)NULL, &s->in[0]), CHAN_SEND(NULL, &s->out[0]));
}

static void check_nothing(struct stage *s)
{
    STAGE_CHECK(s, s->in[0] == UNTOUCHED);
}

/* ---- operations: time, oneshots ---- */

static int op_sleep(struct stage *s)
{
    return routine_sleep(s->duration);
}

static int op_sleep_until(struct stage *s)
{
    return routine_sleep_until(s->duration == ROUTINE_NEVER ? ROUTINE_NEVER : s->began + s->duration);
}

static void set_up_gate(struct stage *s)
{
    routine_oneshot_init(&s->gate);
    s->child = (routine_t){NULL, 0};
    s->child_rc = NOT_RUN;
    atomic_store(&s->ran, 0);
}

static int op_oneshot(struct stage *s)
{
    void *value = s->ch;
    const int rc = routine_oneshot_recv(&s->gate, &value);
    STAGE_CHECK(s, value == (rc == 0 ? (void *)s : (void *)s->ch));
    return rc;
}

static bool op_open_gate(struct stage *s)
{
    if (s->woken == 0) {
        STAGE_CHECK(s, routine_oneshot_send(&s->gate, s) == 0);
        s->woken = 1;
    }
    return true;
}

static void check_oneshot(struct stage *s)
{
    void *value = NULL;
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    const int rc = routine_oneshot_try_recv(&s->gate, &value);
    STAGE_CHECK(s, rc == (completed(s) ? -EPIPE : s->woken != 0 ? 0 : -EAGAIN));
    if (rc == -EAGAIN) /* nobody is noted as waiting */
        STAGE_CHECK(s, routine_oneshot_send(&s->gate, s) == 0 &&
                           routine_oneshot_try_recv(&s->gate, &value) == 0 && value == s);
}

/* ---- operations: locks ---- */

static void set_up_mutex(struct stage *s)
{
    routine_mutex_init(&s->mutex);
    CHECK_EQ(routine_mutex_lock(&s->mutex), 0);
}

static int op_mutex(struct stage *s)
{
    const int rc = routine_mutex_lock(&s->mutex);
    if (rc == 0)
        STAGE_CHECK(s, routine_mutex_trylock(&s->mutex) == -EBUSY && routine_mutex_unlock(&s->mutex) == 0);
    else
        STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == -EPERM);
    return rc;
}

static bool op_mutex_wake(struct stage *s)
{
    if (s->woken == 0)
        STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
    s->woken = 1;
    return true;
}

static void check_mutex(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    if (s->woken == 0)
        STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
    STAGE_CHECK(s, routine_mutex_trylock(&s->mutex) == 0);
    STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
    STAGE_CHECK(s, routine_mutex_lock(&s->mutex) == 0);
    STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
}

static void set_up_written(struct stage *s)
{
    routine_rwlock_init(&s->rwlock);
    CHECK_EQ(routine_rwlock_wrlock(&s->rwlock), 0);
}

static void set_up_read(struct stage *s)
{
    routine_rwlock_init(&s->rwlock);
    CHECK_EQ(routine_rwlock_rdlock(&s->rwlock), 0);
}

static int op_rdlock(struct stage *s)
{
    const int rc = routine_rwlock_rdlock(&s->rwlock);
    if (rc == 0)
        STAGE_CHECK(s, routine_rwlock_trywrlock(&s->rwlock) == -EBUSY &&
                           routine_rwlock_tryrdlock(&s->rwlock) == 0 &&
                           routine_rwlock_unlock(&s->rwlock) == 0 && routine_rwlock_unlock(&s->rwlock) == 0);
    return rc;
}

static int op_wrlock(struct stage *s)
{
    const int rc = routine_rwlock_wrlock(&s->rwlock);
    if (rc == 0)
        STAGE_CHECK(s,
                    routine_rwlock_tryrdlock(&s->rwlock) == -EBUSY && routine_rwlock_unlock(&s->rwlock) == 0);
    return rc;
}

static bool op_rwlock_wake(struct stage *s)
{
    if (s->woken == 0)
        STAGE_CHECK(s, routine_rwlock_unlock(&s->rwlock) == 0);
    s->woken = 1;
    return true;
}

static void check_rwlock(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    if (s->woken == 0)
        STAGE_CHECK(s, routine_rwlock_unlock(&s->rwlock) == 0);
    STAGE_CHECK(s, routine_rwlock_unlock(&s->rwlock) == -EPERM); /* nobody reads it */
    STAGE_CHECK(s, routine_rwlock_trywrlock(&s->rwlock) == 0);
    STAGE_CHECK(s, routine_rwlock_unlock(&s->rwlock) == 0);
    STAGE_CHECK(s, routine_rwlock_tryrdlock(&s->rwlock) == 0);
    STAGE_CHECK(s, routine_rwlock_unlock(&s->rwlock) == 0);
}

static void lock_anyway(routine_mutex_t *mutex)
{
    routine_shield();
    CHECK_EQ(routine_mutex_lock(mutex), 0);
}

static void set_up_cond(struct stage *s)
{
    routine_mutex_init(&s->mutex);
    routine_cond_init(&s->cond);
    s->waiting = false;
}

static int op_cond(struct stage *s)
{
    lock_anyway(&s->mutex);
    s->waiting = true;
    const int rc = routine_cond_wait(&s->cond, &s->mutex);
    s->waiting = false; /* under the mutex, whatever the wait returned */
    STAGE_CHECK(s, routine_mutex_trylock(&s->mutex) == -EBUSY);
    STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
    return rc;
}

static bool op_cond_wake(struct stage *s)
{
    const uint64_t r = support_random(&s->random);
    lock_anyway(&s->mutex);
    const bool signals = s->waiting && s->woken == 0;
    if (signals && r % 4 == 0)
        STAGE_CHECK(s, routine_cond_signal(&s->cond) == 0);
    if (signals && r % 4 == 1)
        STAGE_CHECK(s, routine_cond_broadcast(&s->cond) == 0);
    STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
    if (signals && r % 4 == 2)
        STAGE_CHECK(s, routine_cond_signal(&s->cond) == 0);
    if (signals && r % 4 == 3)
        STAGE_CHECK(s, routine_cond_broadcast(&s->cond) == 0);
    s->woken += signals;
    return s->woken != 0;
}

/* That no record was left in it the wait behind it shows, which one signal must reach. */
static void check_cond(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    STAGE_CHECK(s, routine_cond_signal(&s->cond) == 0);
    STAGE_CHECK(s, routine_mutex_trylock(&s->mutex) == 0);
    STAGE_CHECK(s, routine_mutex_unlock(&s->mutex) == 0);
}

static void set_up_sem(struct stage *s)
{
    CHECK_EQ(routine_sem_init(&s->sem, 0), 0);
}

static int op_sem(struct stage *s)
{
    return routine_sem_wait(&s->sem);
}

static bool op_post(struct stage *s)
{
    if (s->woken == 0)
        STAGE_CHECK(s, routine_sem_post(&s->sem) == 0);
    s->woken = 1;
    return true;
}

static void check_sem(struct stage *s)
{
    size_t permits = 99;
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    STAGE_CHECK(s, routine_sem_getvalue(&s->sem, &permits) == 0 &&
                       permits == (size_t)(s->woken != 0 && !completed(s)));
    STAGE_CHECK(s, routine_sem_post(&s->sem) == 0); /* for nobody */
    STAGE_CHECK(s, routine_sem_trywait(&s->sem) == 0);
}

static void set_up_group(struct stage *s)
{
    routine_waitgroup_init(&s->group);
    CHECK_EQ(routine_waitgroup_add(&s->group, 1), 0);
}

static int op_group(struct stage *s)
{
    return routine_waitgroup_wait(&s->group);
}

static bool op_done(struct stage *s)
{
    if (s->woken == 0)
        STAGE_CHECK(s, routine_waitgroup_done(&s->group) == 0);
    s->woken = 1;
    return true;
}

static void check_group(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    STAGE_CHECK(s, routine_waitgroup_done(&s->group) == (s->woken != 0 ? -EINVAL : 0));
    STAGE_CHECK(s, routine_waitgroup_add(&s->group, 1) == 0);
    STAGE_CHECK(s, routine_waitgroup_done(&s->group) == 0);
}

static void set_up_barrier(struct stage *s)
{
    CHECK_EQ(routine_barrier_init(&s->barrier, 2), 0);
    s->wake_rc = NOT_RUN;
}

static int op_barrier(struct stage *s)
{
    return routine_barrier_wait(&s->barrier);
}

/* The director is the other party. */
static bool op_arrive(struct stage *s)
{
    if (s->woken == 0) {
        routine_with_timeout(s->patience);
        s->wake_rc = routine_barrier_wait(&s->barrier);
        s->woken = s->wake_rc >= 0;
        STAGE_CHECK(s, s->wake_rc >= 0 || s->wake_rc == -ETIMEDOUT);
    }
    return s->woken != 0;
}

static void check_barrier(struct stage *s)
{
    STAGE_CHECK(s, completed(s) == (s->woken != 0));
    STAGE_CHECK(s, !completed(s) || s->rc + s->wake_rc == 1); /* one of them is the last */
    routine_with_timeout(1);
    STAGE_CHECK(s, routine_barrier_wait(&s->barrier) == -ETIMEDOUT); /* nobody else is counted */
}

/* ---- operations: joins and scopes ---- */

static void *gate_routine(void *arg)
{
    struct stage *s = arg;
    const int rc = routine_oneshot_recv(&s->gate, NULL);
    STAGE_CHECK(s, rc == 0 || ((s->what & ALL) && rc == -ECANCELED));
    STAGE_CHECK(s, routine_check() == rc);
    return s;
}

/* The child of the director. */
static void set_up_join(struct stage *s)
{
    set_up_gate(s);
    s->child = go(gate_routine, s);
}

/* Or the waiter's own, which it may run in place. */
static int op_join(struct stage *s)
{
    void *result = &result;
    if (s->child.block == NULL)
        s->child = go(gate_routine, s);
    const int rc = routine_join(s->child, &result);
    if (rc == -ECANCELED && (s->what & ALL))
        return 0; /* it never started */
    STAGE_CHECK(s, result == (rc == 0 ? (void *)s : (void *)&result));
    return rc;
}

/* After a limit the handle is as good as before. */
static void check_join(struct stage *s)
{
    void *result = NULL;
    STAGE_CHECK(s, !completed(s) || s->woken != 0 || (s->what & ALL));
    if (s->child.block == NULL) {
        STAGE_CHECK(s, !completed(s));
        return;
    }
    if (completed(s)) {
        STAGE_CHECK(s, routine_join(s->child, NULL) == -ESRCH);
        return;
    }
    if (s->woken == 0)
        STAGE_CHECK(s, routine_try_join(s->child, &result) == -EAGAIN);
    op_open_gate(s);
    STAGE_CHECK(s, routine_join(s->child, &result) == 0 && result == s);
}

static int gate_child(void *arg)
{
    struct stage *s = arg;
    s->child_rc = routine_oneshot_recv(&s->gate, NULL);
    return s->child_rc;
}

/* Whoever cancels the owner of a scope cancels its children, so they may end before the owner is told: then
 * it is no completion. */
static int scope_outcome(struct stage *s, int rc)
{
    if (rc == 0 && s->child_rc != 0) {
        STAGE_CHECK(s, (s->what & CANCEL) && (s->child_rc == -ECANCELED || s->child_rc == NOT_RUN));
        return -ECANCELED;
    }
    return rc;
}

static int join_scope(struct stage *s)
{
    int error = UNTOUCHED;
    const int rc = routine_scope_join(s->scope, &error);
    STAGE_CHECK(s, error == (rc == 0 ? 0 : UNTOUCHED) ||
                       /* a child alone was cancelled: that is its failure */
                       (rc == 0 && error == -ECANCELED && (s->what & ALL)));
    return rc;
}

/* The scope stands outside the limit, so that its children don't inherit it. */
static int op_scope_join(struct stage *s)
{
    int rc;
    {
        routine_scope(scope);
        s->scope = &scope;
        rc = routine_scope_go(&scope, gate_child, s);
        if (rc == 0)
            rc = limited(s, join_scope);
        else
            STAGE_CHECK(s, rc == -ECANCELED && (s->what & CANCEL));
    }
    return scope_outcome(s, rc);
}

static int second_child(void *arg)
{
    atomic_fetch_add(&((struct stage *)arg)->ran, 1);
    return 0;
}

static int start_second(struct stage *s)
{
    return routine_scope_go(s->scope, second_child, s);
}

/* There is room for one, and the first one stays until the gate opens. */
static int op_scope_go(struct stage *s)
{
    int rc;
    {
        routine_scope_limited(scope, 1);
        s->scope = &scope;
        rc = routine_scope_go(&scope, gate_child, s);
        if (rc == 0)
            rc = limited(s, start_second);
        else
            STAGE_CHECK(s, rc == -ECANCELED && (s->what & CANCEL));
        if (rc == 0) {
            int error = UNTOUCHED;
            routine_shield();
            STAGE_CHECK(s, routine_scope_join(&scope, &error) == 0 && error == 0);
        }
    }
    if (rc < 0 || (s->what & CANCEL))
        STAGE_CHECK(s, atomic_load(&s->ran) <= (rc == 0));
    else
        STAGE_CHECK(s, atomic_load(&s->ran) == 1);
    return scope_outcome(s, rc);
}

static void check_scope(struct stage *s)
{
    STAGE_CHECK(s, !completed(s) || s->woken != 0);
    STAGE_CHECK(s, s->child_rc != 0 || s->woken != 0);
    if (s->woken == 0) /* nobody waits at the gate */
        STAGE_CHECK(s, routine_oneshot_close(&s->gate) == 0);
}

/* ---- the table ---- */

static const struct op ops[] = {
    {"send on a rendezvous", 0, 0, set_up_rendezvous, op_send, op_take, check_send_rendezvous},
    {"send, buffer full", 0, 0, set_up_full, op_send, op_take, check_send_full},
    {"recv on a rendezvous", 0, 0, set_up_rendezvous, op_recv, op_put, check_recv_rendezvous},
    {"recv, buffer empty", 0, 0, set_up_empty, op_recv, op_put, check_recv_empty},
    {"recv of a subscription", 0, 0, set_up_subscription, op_recv, op_publish, check_recv_subscription},
    {"send until closed", 0, 0, set_up_rendezvous, op_send_until_closed, op_close, check_closed},
    {"recv until closed", 0, 0, set_up_rendezvous, op_recv_until_closed, op_close, check_closed},
    {"select until closed", 0, 0, set_up_rendezvous, op_select_until_closed, op_close, check_closed},
    {"select of 1", 0, 1, set_up_select, op_select, op_select_wake, check_select},
    {"select of 4", 0, 4, set_up_select, op_select, op_select_wake, check_select},
    {"select of 20", 0, 20, set_up_select, op_select, op_select_wake, check_select},
    {"select of one channel", 0, 4, set_up_select_same, op_select_same, op_select_same_wake,
     check_select_same},
    {"select with a timeout", TIMED, 0, set_up_empty, op_select_timeout, op_select_timeout_wake,
     check_select_timeout},
    {"select without cases", ENDLESS, 0, set_up_nothing, op_select_nothing, NULL, check_nothing},
    {"sleep", TIMED, 0, set_up_nothing, op_sleep, NULL, check_nothing},
    {"sleep_until", TIMED, 0, set_up_nothing, op_sleep_until, NULL, check_nothing},
    {"oneshot_recv", 0, 0, set_up_gate, op_oneshot, op_open_gate, check_oneshot},
    {"mutex_lock", 0, 0, set_up_mutex, op_mutex, op_mutex_wake, check_mutex},
    {"mutex_lock, handed over", LONG, 0, set_up_mutex, op_mutex, op_mutex_wake, check_mutex},
    {"rdlock behind a writer", 0, 0, set_up_written, op_rdlock, op_rwlock_wake, check_rwlock},
    {"wrlock behind a reader", 0, 0, set_up_read, op_wrlock, op_rwlock_wake, check_rwlock},
    {"wrlock behind a writer", 0, 0, set_up_written, op_wrlock, op_rwlock_wake, check_rwlock},
    {"cond_wait", 0, 0, set_up_cond, op_cond, op_cond_wake, check_cond},
    {"sem_wait", 0, 0, set_up_sem, op_sem, op_post, check_sem},
    {"waitgroup_wait", 0, 0, set_up_group, op_group, op_done, check_group},
    {"barrier_wait", 0, 0, set_up_barrier, op_barrier, op_arrive, check_barrier},
    {"join of another's child", DEAF, 0, set_up_join, op_join, op_open_gate, check_join},
    {"join of its own child", DEAF, 0, set_up_gate, op_join, op_open_gate, check_join},
    {"scope_join", OWN_LIMIT | HAS_CHILDREN, 0, set_up_gate, op_scope_join, op_open_gate, check_scope},
    {"scope_go, full", OWN_LIMIT | HAS_CHILDREN, 0, set_up_gate, op_scope_go, op_open_gate, check_scope},
};

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
    return op_is_wanted(op) && !(op->flags & (DEAF | OWN_LIMIT | LONG)) && op->wake != op_arrive;
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

#endif
