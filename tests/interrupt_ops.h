/* SPDX-License-Identifier: MIT
 *
 * The operations that can block, but those on descriptors: how each is set up, made, woken and checked. See
 * interrupt_stage.h.
 */
#ifndef TESTS_INTERRUPT_OPS_H
#define TESTS_INTERRUPT_OPS_H

#include "interrupt_stage.h"

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
    {"barrier_wait", MEETS, 0, set_up_barrier, op_barrier, op_arrive, check_barrier},
    {"join of another's child", DEAF, 0, set_up_join, op_join, op_open_gate, check_join},
    {"join of its own child", DEAF, 0, set_up_gate, op_join, op_open_gate, check_join},
    {"scope_join", OWN_LIMIT | HAS_CHILDREN, 0, set_up_gate, op_scope_join, op_open_gate, check_scope},
    {"scope_go, full", OWN_LIMIT | HAS_CHILDREN, 0, set_up_gate, op_scope_go, op_open_gate, check_scope},
};

#endif
