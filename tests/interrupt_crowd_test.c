/* SPDX-License-Identifier: MIT
 *
 * Tests of waits that are ended, in crowds: many share one channel or lock and give up at random, by limits
 * and by cancellations, while others go on. Nothing may get lost on the way: every value, permit, signal
 * and arrival is accounted for, and nobody who did not give up is left waiting. And cancellations by handles
 * whose routine has ended: they hit nobody.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "chan_support.h"

#include "routines/scope.h"
#include "routines/sync.h"

/* A limit that is there to turn a hang into a failed check. */
#define PATIENCE (60 * ROUTINE_S)

/* Some time, of any order of magnitude up to a few microseconds. */
static void spin_randomly(uint64_t *random)
{
    const uint64_t r = support_random(random);
    const uint64_t n = r & ((UINT64_C(1) << (r >> 32) % 12) - 1);
    for (volatile uint64_t i = 0; i < n; i = i + 1)
        ;
}

/* ---- attempts ---- */

/* One call, fn(arg), that may be given up. */
struct attempt {
    int (*fn)(void *arg);
    void *arg;
    int rc;
};

static void *attempt_body(void *arg)
{
    struct attempt *a = arg;
    a->rc = a->fn(a->arg);
    return NULL;
}

static void *cancel_handle(void *arg)
{
    const int rc = routine_cancel(*(routine_t *)arg);
    CHECK(rc == 0);
    return NULL;
}

/* Calls fn(arg) in a routine that is cancelled after a while: by the caller, or by one more while the caller
 * joins it. One that never started has given up too. */
static int attempt_canceled(uint64_t *random, int (*fn)(void *), void *arg)
{
    struct attempt a = {fn, arg, -ECANCELED};
    routine_t h = go(attempt_body, &a);
    const uint64_t r = support_random(random);
    if (r % 4 != 0)
        routine_yield();
    spin_randomly(random);
    if (r % 16 < 3) {
        const routine_t canceller = go(cancel_handle, &h);
        CHECK_EQ(routine_join(canceller, NULL), 0);
    } else {
        CHECK_EQ(routine_cancel(h), 0);
    }
    const int rc = routine_join(h, NULL);
    CHECK(rc == 0 || (rc == -ECANCELED && a.rc == -ECANCELED));
    return a.rc;
}

/* longest: of the limits. */
static int attempt_limited(uint64_t *random, int64_t longest, int (*fn)(void *), void *arg)
{
    routine_with_timeout((int64_t)(support_random(random) % (uint64_t)longest));
    return fn(arg);
}

static int attempt(uint64_t *random, int64_t longest, int (*fn)(void *), void *arg)
{
    int rc;
    switch (support_random(random) % 3) {
    case 0: {
        routine_with_timeout(PATIENCE);
        rc = fn(arg);
        CHECK(rc >= 0);
        return rc;
    }
    case 1:
        rc = attempt_limited(random, longest, fn, arg);
        CHECK(rc >= 0 || rc == -ETIMEDOUT);
        return rc;
    default:
        rc = attempt_canceled(random, fn, arg);
        CHECK(rc >= 0 || rc == -ECANCELED);
        return rc;
    }
}

static _Atomic uint64_t seeds;

static uint64_t new_seed(void)
{
    return 0x9e3779b97f4a7c15U * (atomic_fetch_add(&seeds, 1) + 1);
}

/* ---- mutex ---- */

struct till {
    routine_mutex_t mutex;
    long rounds;
    long inside;  /* under the mutex: how often it was had */
    bool is_busy; /* under the mutex */
    int64_t longest;
    unsigned hold; /* every so many-th holds it for more than a millisecond */
    _Atomic long had;
};

static int use_till(void *arg)
{
    struct till *t = arg;
    const int rc = routine_mutex_lock(&t->mutex);
    if (rc != 0)
        return rc;
    CHECK(!t->is_busy);
    t->is_busy = true;
    const long n = t->inside++;
    if (n % 3 == 0)
        routine_yield();
    if (t->hold != 0 && n % t->hold == 0) {
        routine_shield();
        CHECK_EQ(routine_sleep(1200 * ROUTINE_US), 0);
    }
    t->is_busy = false;
    CHECK_EQ(routine_mutex_unlock(&t->mutex), 0);
    return 0;
}

static void *queue_at_till(void *arg)
{
    struct till *t = arg;
    uint64_t random = new_seed();
    for (long i = 0; i < t->rounds; i++)
        if (attempt(&random, t->longest, use_till, t) == 0)
            atomic_fetch_add(&t->had, 1);
    return NULL;
}

static void till(bool holds, void (*run)(int, routine_fn *, void *), long rounds)
{
    struct till t = {.rounds = rounds, .hold = holds ? 16 : 0};
    t.longest = holds ? 3 * ROUTINE_MS : 40 * ROUTINE_US;
    run(12, queue_at_till, &t);
    CHECK_EQ(atomic_load(&t.had), t.inside);
    CHECK_EQ(routine_mutex_trylock(&t.mutex), 0);
    CHECK_EQ(routine_mutex_unlock(&t.mutex), 0);
}

TEST(random_ones_give_up_a_mutex)
{
    till(false, company, support_scale(4000));
    till(false, crowd, support_scale(1000));
}

/* The mutex is handed over to one that has waited long, and that one may just be giving up. */
TEST(random_ones_give_up_a_mutex_that_is_handed_over)
{
    till(true, company, support_scale(400));
    till(true, crowd, support_scale(200));
}

/* ---- read-write lock ---- */

struct library {
    routine_rwlock_t lock;
    long rounds;
    _Atomic int readers, writers;
    long written; /* under the lock */
    _Atomic long wrote;
};

static int read_library(void *arg)
{
    struct library *l = arg;
    const int rc = routine_rwlock_rdlock(&l->lock);
    if (rc != 0)
        return rc;
    const long written = l->written;
    atomic_fetch_add(&l->readers, 1);
    CHECK_EQ(atomic_load(&l->writers), 0);
    if (written % 3 == 0)
        routine_yield();
    CHECK_EQ(l->written, written);
    atomic_fetch_sub(&l->readers, 1);
    CHECK_EQ(routine_rwlock_unlock(&l->lock), 0);
    return 0;
}

static int write_library(void *arg)
{
    struct library *l = arg;
    const int rc = routine_rwlock_wrlock(&l->lock);
    if (rc != 0)
        return rc;
    CHECK_EQ(atomic_fetch_add(&l->writers, 1), 0);
    CHECK_EQ(atomic_load(&l->readers), 0);
    if (++l->written % 3 == 0)
        routine_yield();
    atomic_fetch_sub(&l->writers, 1);
    atomic_fetch_add(&l->wrote, 1);
    CHECK_EQ(routine_rwlock_unlock(&l->lock), 0);
    return 0;
}

static void *visit_library(void *arg)
{
    struct library *l = arg;
    uint64_t random = new_seed();
    for (long i = 0; i < l->rounds; i++)
        attempt(&random, 40 * ROUTINE_US, support_random(&random) % 3 ? read_library : write_library, l);
    return NULL;
}

TEST(random_ones_give_up_a_rwlock)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct library l = {.rounds = support_scale(mixed ? 1000 : 4000)};
        (mixed ? crowd : company)(12, visit_library, &l);
        CHECK_EQ(atomic_load(&l.wrote), l.written);
        CHECK_EQ(routine_rwlock_unlock(&l.lock), -EPERM);
        CHECK_EQ(routine_rwlock_trywrlock(&l.lock), 0);
        CHECK_EQ(routine_rwlock_unlock(&l.lock), 0);
    }
}

struct bench {
    routine_rwlock_t lock;
    int64_t limit;
    int writer_rc;
    _Atomic int readers;
};

static void *write_or_give_up(void *arg)
{
    struct bench *b = arg;
    routine_with_timeout(b->limit);
    b->writer_rc = routine_rwlock_wrlock(&b->lock);
    if (b->writer_rc == 0)
        CHECK_EQ(routine_rwlock_unlock(&b->lock), 0);
    return NULL;
}

static void *read_behind(void *arg)
{
    struct bench *b = arg;
    CHECK_EQ(routine_rwlock_rdlock(&b->lock), 0);
    atomic_fetch_add(&b->readers, 1);
    CHECK_EQ(routine_rwlock_unlock(&b->lock), 0);
    return NULL;
}

/* The readers behind it come in, although the lock is never released in between. */
static void *direct_bench(void *arg)
{
    enum { READERS = 4 };
    const long rounds = *(long *)arg;
    const bool one_worker = routine_runtime_workers(routine_runtime_current()) == 1;
    uint64_t random = 80;
    for (long round = 0; round < rounds; round++) {
        struct bench b = {.limit = round % 2 ? (int64_t)(support_random(&random) % (50 * ROUTINE_US))
                                             : ROUTINE_NEVER};
        routine_t h[READERS];
        routine_rwlock_init(&b.lock);
        CHECK_EQ(routine_rwlock_rdlock(&b.lock), 0);
        const routine_t writer = go(write_or_give_up, &b);
        for (int k = 0; k < 2; k++)
            routine_yield();
        for (int i = 0; i < READERS; i++)
            h[i] = go(read_behind, &b);
        routine_yield();
        if (one_worker && round % 2 == 0)
            CHECK_EQ(atomic_load(&b.readers), 0); /* they stand behind it */
        spin_randomly(&random);
        if (round % 2 == 0)
            CHECK_EQ(routine_cancel(writer), 0);
        for (int i = 0; i < READERS; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        const int rc = routine_join(writer, NULL);
        CHECK(rc == 0 ? b.writer_rc == (round % 2 ? -ETIMEDOUT : -ECANCELED) : rc == -ECANCELED);
        CHECK_EQ(atomic_load(&b.readers), READERS);
        CHECK_EQ(routine_rwlock_trywrlock(&b.lock), -EBUSY);
        CHECK_EQ(routine_rwlock_unlock(&b.lock), 0);
        CHECK_EQ(routine_rwlock_trywrlock(&b.lock), 0);
        CHECK_EQ(routine_rwlock_unlock(&b.lock), 0);
    }
    return NULL;
}

TEST(a_writer_that_gives_up_lets_the_readers_behind_it_in)
{
    long rounds = support_scale(1000);
    direct(direct_bench, &rounds);
    support_in_routine(direct_bench, &rounds);
    direct_bench(&rounds);
}

/* ---- semaphore ---- */

enum { PERMITS = 3 };

struct lot {
    routine_sem_t sem;
    long rounds;
    _Atomic int inside;
};

static int park_in_lot(void *arg)
{
    struct lot *l = arg;
    const int rc = routine_sem_wait(&l->sem);
    if (rc != 0)
        return rc;
    CHECK(atomic_fetch_add(&l->inside, 1) < PERMITS);
    routine_yield();
    atomic_fetch_sub(&l->inside, 1);
    CHECK_EQ(routine_sem_post(&l->sem), 0);
    return 0;
}

static void *drive_to_lot(void *arg)
{
    struct lot *l = arg;
    uint64_t random = new_seed();
    for (long i = 0; i < l->rounds; i++)
        attempt(&random, 40 * ROUTINE_US, park_in_lot, l);
    return NULL;
}

TEST(a_permit_is_passed_on_by_one_that_gives_up)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct lot l = {.rounds = support_scale(mixed ? 1000 : 4000)};
        size_t permits = 0;
        CHECK_EQ(routine_sem_init(&l.sem, PERMITS), 0);
        (mixed ? crowd : company)(12, drive_to_lot, &l);
        CHECK_EQ(routine_sem_getvalue(&l.sem, &permits), 0);
        CHECK_EQ(permits, PERMITS);
    }
}

/* ---- condition variable ---- */

/* Each token is announced by one signal. Those that give up leave it; so it must reach another one, or the
 * steady ones wait for ever. */
struct tokens {
    routine_mutex_t mutex;
    routine_cond_t cond;
    long rounds;
    long tokens, given, taken; /* under the mutex, as this: */
    bool over;
    _Atomic int roles, steady;
};

static int take_token(struct tokens *t, bool is_steady)
{
    int rc = routine_mutex_lock(&t->mutex);
    if (rc != 0)
        return rc;
    if (is_steady) {
        while (rc == 0 && t->tokens == 0)
            rc = routine_cond_wait(&t->cond, &t->mutex);
    } else if (t->tokens == 0 && !t->over) { /* it takes only what it was told of: that shows more */
        rc = routine_cond_wait(&t->cond, &t->mutex);
    } else {
        rc = -EAGAIN;
    }
    CHECK_EQ(routine_mutex_trylock(&t->mutex), -EBUSY);
    if (rc == 0 && t->tokens > 0) {
        t->tokens--;
        t->taken++;
    }
    CHECK_EQ(routine_mutex_unlock(&t->mutex), 0);
    return rc;
}

static int take_if_told(void *arg)
{
    return take_token(arg, false);
}

static void take_steadily(struct tokens *t)
{
    routine_with_timeout(PATIENCE);
    for (long i = 0; i < t->rounds; i++)
        CHECK_EQ(take_token(t, true), 0);
    atomic_fetch_sub(&t->steady, 1);
}

/* Gives a token only when the last one has been taken: then a signal that has reached nobody is the end. */
static void give_tokens(struct tokens *t)
{
    uint64_t random = new_seed();
    while (atomic_load(&t->steady) > 0) {
        const bool under = support_random(&random) % 2;
        CHECK_EQ(routine_mutex_lock(&t->mutex), 0);
        const bool gives = t->tokens == 0;
        t->tokens += gives;
        t->given += gives;
        if (gives && under)
            CHECK_EQ(routine_cond_signal(&t->cond), 0);
        CHECK_EQ(routine_mutex_unlock(&t->mutex), 0);
        if (gives && !under)
            CHECK_EQ(routine_cond_signal(&t->cond), 0);
        spin_randomly(&random);
        routine_yield();
    }
    CHECK_EQ(routine_mutex_lock(&t->mutex), 0);
    t->over = true;
    CHECK_EQ(routine_cond_broadcast(&t->cond), 0);
    CHECK_EQ(routine_mutex_unlock(&t->mutex), 0);
}

enum { STEADY = 4 };

static void *token_role(void *arg)
{
    struct tokens *t = arg;
    const int role = atomic_fetch_add(&t->roles, 1);
    uint64_t random = new_seed();
    if (role == 0)
        give_tokens(t);
    else if (role <= STEADY)
        take_steadily(t);
    else
        while (atomic_load(&t->steady) > 0)
            if (support_random(&random) % 2)
                attempt_limited(&random, 40 * ROUTINE_US, take_if_told, t);
            else
                attempt_canceled(&random, take_if_told, t);
    return NULL;
}

TEST(a_signal_is_passed_on_by_one_that_gives_up)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct tokens t = {.rounds = support_scale(mixed ? 300 : 1500), .steady = STEADY};
        (mixed ? crowd : company)(11, token_role, &t);
        CHECK_EQ(t.given, t.taken + t.tokens);
        CHECK_EQ(routine_mutex_trylock(&t.mutex), 0);
        CHECK_EQ(routine_mutex_unlock(&t.mutex), 0);
    }
}

/* ---- barrier ---- */

enum { PARTIES = 3 };

struct tour {
    routine_barrier_t barrier;
    long rounds;
    _Atomic int roles, steady;
    _Atomic long passed, last;
};

static int arrive(void *arg)
{
    struct tour *t = arg;
    const int rc = routine_barrier_wait(&t->barrier);
    if (rc >= 0)
        atomic_fetch_add(&t->passed, 1);
    if (rc == 1)
        atomic_fetch_add(&t->last, 1);
    return rc;
}

static void *tour_role(void *arg)
{
    struct tour *t = arg;
    uint64_t random = new_seed();
    if (atomic_fetch_add(&t->roles, 1) < STEADY) {
        routine_with_timeout(PATIENCE);
        for (long i = 0; i < t->rounds; i++)
            CHECK(arrive(t) >= 0);
        atomic_fetch_sub(&t->steady, 1);
    } else {
        while (atomic_load(&t->steady) > 0)
            if (support_random(&random) % 2)
                attempt_limited(&random, 40 * ROUTINE_US, arrive, t);
            else
                attempt_canceled(&random, arrive, t);
    }
    return NULL;
}

/* Each round has the parties that it is to have, one of them the last; who gave up is not counted. */
TEST(a_party_that_gives_up_is_not_counted)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct tour t = {.rounds = support_scale(mixed ? 1000 : 4000), .steady = STEADY};
        CHECK_EQ(routine_barrier_init(&t.barrier, PARTIES), 0);
        (mixed ? crowd : company)(9, tour_role, &t);
        CHECK_EQ(atomic_load(&t.passed), PARTIES * atomic_load(&t.last));
    }
}

/* ---- channels ---- */

struct market {
    chan_t *ch;
    long rounds;
    _Atomic int roles, producers;
    _Atomic long next;
    _Atomic unsigned char *sent, *received;
};

struct trade {
    chan_t *ch;
    long value;
    bool selects;
};

static int sell(void *arg)
{
    const struct trade *t = arg;
    return t->selects ? chan_select(CHAN_SEND(t->ch, &t->value)) : chan_send(t->ch, &t->value);
}

static int buy(void *arg)
{
    struct trade *t = arg;
    const int rc = t->selects ? chan_select(CHAN_RECV(t->ch, &t->value), CHAN_RECV((chan_t *)NULL, &t->value))
                              : chan_recv(t->ch, &t->value);
    return rc == CHAN_CLOSED(0) ? -EPIPE : rc;
}

static int trade(uint64_t *random, int (*fn)(void *), struct trade *t)
{
    t->selects = support_random(random) % 2;
    switch (support_random(random) % 3) {
    case 0:
        return fn(t);
    case 1:
        return attempt_limited(random, 40 * ROUTINE_US, fn, t);
    default:
        return attempt_canceled(random, fn, t);
    }
}

static void *market_role(void *arg)
{
    struct market *m = arg;
    uint64_t random = new_seed();
    struct trade t = {.ch = m->ch};
    if (atomic_fetch_add(&m->roles, 1) % 2 == 0) {
        for (long i = 0; i < m->rounds; i++) {
            t.value = atomic_fetch_add(&m->next, 1);
            const long value = t.value;
            const int rc = trade(&random, sell, &t);
            CHECK(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
            if (rc == 0)
                atomic_fetch_add(&m->sent[value], 1);
        }
        if (atomic_fetch_sub(&m->producers, 1) == 1)
            CHECK_EQ(chan_close(m->ch), 0);
        return NULL;
    }
    for (;;) {
        t.value = -1;
        const int rc = trade(&random, buy, &t);
        if (rc == -EPIPE)
            return NULL;
        if (rc == 0)
            atomic_fetch_add(&m->received[t.value], 1);
        else
            CHECK_EQ(t.value, -1);
        CHECK(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
    }
}

static void market(ptrdiff_t capacity, void (*run)(int, routine_fn *, void *), long rounds)
{
    enum { ROLES = 8 };
    struct market m = {.ch = MAKE(long, capacity), .rounds = rounds, .producers = ROLES / 2};
    const size_t n = (size_t)rounds * ROLES / 2;
    m.sent = calloc(n, 1);
    m.received = calloc(n, 1);
    if (m.sent == NULL || m.received == NULL)
        abort();
    run(ROLES, market_role, &m);
    CHECK_EQ(chan_len(m.ch), 0);
    CHECK_EQ(atomic_load(&m.next), n);
    for (size_t i = 0; i < n; i++) {
        CHECK(m.sent[i] <= 1);
        CHECK_EQ(m.sent[i], m.received[i]);
    }
    free((void *)m.sent);
    free((void *)m.received);
    chan_unref(m.ch);
}

/* Both sides give up, at the same time too: what the one says that it has sent the other has received. */
TEST(what_was_sent_is_what_was_received)
{
    static const ptrdiff_t capacities[] = {0, 1, 3};
    for (size_t i = 0; i < COUNT_OF(capacities); i++) {
        market(capacities[i], company, support_scale(3000));
        market(capacities[i], crowd, support_scale(1000));
    }
}

/* ---- stale handles ---- */

enum { SLOTS = 8 };

struct parish {
    struct slot {
        _Atomic(void *) block;
        _Atomic uint64_t id;
    } slots[SLOTS];
    _Atomic int roles;
    _Atomic bool over;
    _Atomic int looking;
    long rounds;
};

/* What stands there may be read half old, half new: one more handle that is stale. */
static void *cancel_whatever(void *arg)
{
    struct parish *p = arg;
    atomic_fetch_add(&p->looking, 1);
    for (unsigned i = 0; !atomic_load(&p->over); i++) {
        struct slot *s = &p->slots[i % SLOTS];
        routine_t h;
        h.id = atomic_load(&s->id);
        h.block = atomic_load(&s->block);
        const int rc = routine_cancel(h);
        CHECK(rc == 0 || rc == -ESRCH);
        if (i % 64 == 0)
            routine_yield();
    }
    return NULL;
}

/* Somebody who is looked for: it runs into whatever comes. */
static void *guilty(void *arg)
{
    const uintptr_t kind = (uintptr_t)arg;
    routine_oneshot_t never = ROUTINE_ONESHOT_INITIALIZER;
    int rc = 0;
    if (kind % 4 == 1)
        rc = routine_sleep((int64_t)(kind % 64) * 100);
    if (kind % 4 == 2)
        routine_yield();
    if (kind % 4 == 3) {
        routine_with_timeout(2000);
        rc = routine_oneshot_recv(&never, NULL);
    }
    CHECK(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
    return NULL;
}

struct alibi {
    chan_t *ch;
    routine_sem_t sem;
    routine_oneshot_t oneshot;
    _Atomic int done;
};

/* Nobody has ever had its handle. It lives in the control block of one that was looked for. */
static void *innocent(void *arg)
{
    struct alibi *a = arg;
    int x = 0;
    CHECK_EQ(routine_check(), 0);
    CHECK_EQ(routine_sem_wait(&a->sem), 0);
    CHECK_EQ(chan_recv(a->ch, &x), 0);
    CHECK_EQ(routine_sleep(1), 0);
    CHECK_EQ(chan_select(CHAN_RECV(a->ch, &x), CHAN_TIMEOUT(PATIENCE)), 0);
    CHECK_EQ(routine_oneshot_recv(&a->oneshot, NULL), 0);
    CHECK_EQ(routine_check(), 0);
    atomic_fetch_add(&a->done, 1);
    return NULL;
}

static void *live_in_parish(void *arg)
{
    struct parish *p = arg;
    struct slot *s = &p->slots[atomic_fetch_add(&p->roles, 1) % SLOTS];
    uint64_t random = new_seed();
    struct alibi a = {.ch = MAKE(int, 0)};
    CHECK_EQ(routine_sem_init(&a.sem, 0), 0);
    for (long i = 0; i < p->rounds; i++) {
        const uint64_t r = support_random(&random);
        const routine_t h = go(guilty, (void *)(uintptr_t)(r >> 16 & 0xff));
        atomic_store(&s->block, h.block);
        atomic_store(&s->id, h.id);
        if (r % 4 == 0)
            routine_yield();
        if (r / 4 % 8 == 0) { /* it may end at any time */
            CHECK_EQ(routine_detach(h), 0);
        } else {
            const int rc = routine_join(h, NULL);
            CHECK(rc == 0 || rc == -ECANCELED);
        }

        routine_oneshot_init(&a.oneshot);
        const routine_t other = go(innocent, &a);
        if (r / 32 % 2)
            routine_yield();
        CHECK_EQ(routine_sem_post(&a.sem), 0);
        CHECK_EQ(chan_send(a.ch, &(int){1}), 0);
        CHECK_EQ(chan_send(a.ch, &(int){2}), 0);
        if (r / 64 % 2)
            spin_randomly(&random);
        CHECK_EQ(routine_oneshot_send(&a.oneshot, NULL), 0);
        CHECK_EQ(routine_join(other, NULL), 0);
        CHECK_EQ(atomic_load(&a.done), i + 1);
        CHECK_EQ(routine_check(), 0);
    }
    chan_unref(a.ch);
    return NULL;
}

/* R3: who ends while it is cancelled leaves its block to another one, and that one does not notice. */
TEST(a_cancellation_never_hits_the_next_one)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct parish p = {.rounds = support_scale(mixed ? 1000 : 4000)};
        routine_runtime_t *other = support_runtime(1);
        const struct actor cancellers[] = {act(true, cancel_whatever, &p),
                                           act_on(other, cancel_whatever, &p)};
        WAIT_UNTIL(atomic_load(&p.looking) == (int)COUNT_OF(cancellers));
        (mixed ? crowd : company)(SLOTS, live_in_parish, &p);
        atomic_store(&p.over, true);
        for (size_t i = 0; i < COUNT_OF(cancellers); i++)
            act_end(cancellers[i]);
        support_runtime_end(other);
    }
}

static int fallback(void)
{
    till(false, company, support_scale(300));
    market(0, company, support_scale(300));
    a_cancellation_never_hits_the_next_one_body();
    return 0;
}

TEST(without_membarrier)
{
    static const char *const variables[] = {"ROUTINES_MEMBARRIER=0", NULL};
    struct support_result result;
    CASE_EXITS(&result, "fallback", variables, 0);
}

static const struct support_case cases[] = {{"fallback", fallback}};

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ones_give_up_a_mutex),
        cmocka_unit_test(random_ones_give_up_a_mutex_that_is_handed_over),
        cmocka_unit_test(random_ones_give_up_a_rwlock),
        cmocka_unit_test(a_writer_that_gives_up_lets_the_readers_behind_it_in),
        cmocka_unit_test(a_permit_is_passed_on_by_one_that_gives_up),
        cmocka_unit_test(a_signal_is_passed_on_by_one_that_gives_up),
        cmocka_unit_test(a_party_that_gives_up_is_not_counted),
        cmocka_unit_test(what_was_sent_is_what_was_received),
        cmocka_unit_test(a_cancellation_never_hits_the_next_one),
        cmocka_unit_test(without_membarrier),
    };
    return cmocka_run_group_tests_name("interrupt_crowd", tests, NULL, NULL);
}
