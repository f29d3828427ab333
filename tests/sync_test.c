/* SPDX-License-Identifier: MIT
 *
 * Tests of the semaphore, the wait group, the barrier and once of sync.h: every return code, the
 * order of those who wait, what is promised to whom, storms, and that the memory is free as soon as
 * the one whom a post, done or the last arrival lets through has come back. By routines of two
 * runtimes and by plain threads. The other locks have tests of their own.
 *
 * What is handed over is plain memory here, so that ThreadSanitizer sees whether the calls order it.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/sync.h"

/* The object is gone: its owner writes over it, and nobody else writes there any more. By turns it was on the
 * stack, and on the heap, where sanitizers see who comes too late. */
static void check_gone(void *object, size_t size, bool on_heap)
{
    unsigned char *bytes = object;
    memset(bytes, 0x5a, size);
    for (size_t i = 0; i < size; i++)
        CHECK_EQ(bytes[i], 0x5a);
    if (on_heap)
        free(object);
}

/* The same memory, used for something else. */
SUPPORT_NOINLINE static void overwrite_the_stack(void)
{
    volatile unsigned char block[512];
    memset((void *)(uintptr_t)block, 0xa5, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        CHECK_EQ(block[i], 0xa5);
}

/* ---- helpers who do something with an object that they are given, round after round ---- */

enum { HELPERS = 3 };

struct service {
    routine_oneshot_t orders[HELPERS]; /* carry the object */
    long rounds;
    int helpers;
    _Atomic int next;
    void (*help)(void *object, int me);
    void (*use)(struct service *s, long round); /* the master's: an object of its own, gone at the end */
};

static void order(struct service *s, void *object)
{
    for (int i = 0; i < s->helpers; i++)
        CHECK_EQ(routine_oneshot_send(&s->orders[i], object), 0);
}

static void *helper(void *arg)
{
    struct service *s = arg;
    const int me = atomic_fetch_add(&s->next, 1);
    for (long round = 0; round < s->rounds; round++) {
        void *object = NULL;
        CHECK_EQ(routine_oneshot_recv(&s->orders[me], &object), 0);
        routine_oneshot_init(&s->orders[me]); /* the next order comes after our help */
        s->help(object, me);
    }
    return NULL;
}

static void *master(void *arg)
{
    struct service *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        s->use(s, round);
        overwrite_the_stack();
    }
    return NULL;
}

/* Every pairing of routine and thread. */
static void serve(void (*help)(void *object, int me), void (*use)(struct service *s, long round))
{
    for (int kinds = 0; kinds < 8; kinds++) {
        struct service s = {.helpers = kinds & 4 ? HELPERS : 1, .help = help, .use = use};
        struct actor actors[HELPERS + 1];
        s.rounds = support_scale(kinds & 3 ? 1200 : 15000);
        actors[0] = act(kinds & 1, master, &s);
        for (int i = 0; i < s.helpers; i++)
            actors[i + 1] = act((kinds & 2) && i < 2, helper, &s); /* the third one is a routine always */
        for (int i = 0; i <= s.helpers; i++)
            act_end(actors[i]);
    }
}

/* ==== semaphore ==== */

static size_t sem_value(routine_sem_t *sem)
{
    size_t permits = SIZE_MAX;
    CHECK_EQ(routine_sem_getvalue(sem, &permits), 0);
    return permits;
}

static void check_permits(routine_sem_t *sem, size_t permits)
{
    CHECK_EQ(sem_value(sem), permits);
    for (size_t left = permits; left > 0; left--) {
        CHECK_EQ((left % 2 ? routine_sem_trywait : routine_sem_wait)(sem), 0);
        CHECK_EQ(sem_value(sem), left - 1);
    }
    CHECK_EQ(routine_sem_trywait(sem), -EAGAIN);
    CHECK_EQ(routine_sem_trywait(sem), -EAGAIN);
    for (size_t i = 1; i <= 4; i++) {
        CHECK_EQ(routine_sem_post(sem), 0);
        CHECK_EQ(sem_value(sem), i);
    }
    for (size_t i = 4; i > 0; i--)
        CHECK_EQ(routine_sem_trywait(sem), 0);
    CHECK_EQ(routine_sem_trywait(sem), -EAGAIN);
    CHECK_EQ(sem_value(sem), 0);
}

static routine_sem_t five_permits = ROUTINE_SEM_INITIALIZER(5);

TEST(a_static_semaphore)
{
    check_permits(&five_permits, 5);
}

TEST_EVERYWHERE(a_semaphore_however_it_was_initialised)
{
    routine_sem_t none = ROUTINE_SEM_INITIALIZER(0), three = ROUTINE_SEM_INITIALIZER(3), zero, by_init;
    memset(&zero, 0, sizeof zero);
    check_permits(&none, 0);
    check_permits(&three, 3);
    check_permits(&zero, 0);
    for (size_t permits = 0; permits < 5; permits++) {
        memset(&by_init, 0xa5, sizeof by_init);
        CHECK_EQ(routine_sem_init(&by_init, permits), 0);
        check_permits(&by_init, permits);
    }
}

TEST_EVERYWHERE(no_semaphore)
{
    size_t permits = 42;
    CHECK_EQ(routine_sem_init(NULL, 0), -EINVAL);
    CHECK_EQ(routine_sem_wait(NULL), -EINVAL);
    CHECK_EQ(routine_sem_trywait(NULL), -EINVAL);
    CHECK_EQ(routine_sem_post(NULL), -EINVAL);
    CHECK_EQ(routine_sem_getvalue(NULL, &permits), -EINVAL);
    CHECK_EQ(permits, 42);
}

TEST_EVERYWHERE(a_semaphore_has_a_limit)
{
    routine_sem_t sem, by_initialiser = ROUTINE_SEM_INITIALIZER(ROUTINE_SEM_MAX);
    CHECK_EQ(routine_sem_init(&sem, (size_t)ROUTINE_SEM_MAX + 1), -EINVAL);
    CHECK_EQ(routine_sem_init(&sem, SIZE_MAX), -EINVAL);
    CHECK_EQ(routine_sem_init(&sem, ROUTINE_SEM_MAX), 0);
    routine_sem_t *const both[] = {&sem, &by_initialiser};
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(sem_value(both[i]), ROUTINE_SEM_MAX);
        CHECK_EQ(routine_sem_post(both[i]), -EOVERFLOW);
        CHECK_EQ(sem_value(both[i]), ROUTINE_SEM_MAX);
        CHECK_EQ(routine_sem_wait(both[i]), 0);
        CHECK_EQ(routine_sem_trywait(both[i]), 0);
        CHECK_EQ(sem_value(both[i]), ROUTINE_SEM_MAX - 2);
        CHECK_EQ(routine_sem_post(both[i]), 0);
        CHECK_EQ(routine_sem_post(both[i]), 0);
        CHECK_EQ(routine_sem_post(both[i]), -EOVERFLOW);
    }
}

/* ---- the order of those who wait ---- */

struct queue {
    routine_sem_t sem;
    _Atomic int served;
    int order[300];
};

struct place {
    struct queue *queue;
    int number;
    bool is_thread;
    struct sleeper sleeper;
};

static void *stand_in_queue(void *arg)
{
    struct place *p = arg;
    if (p->is_thread)
        sleeper_here(&p->sleeper);
    CHECK_EQ(routine_sem_wait(&p->queue->sem), 0);
    p->queue->order[atomic_fetch_add(&p->queue->served, 1)] = p->number;
    return NULL;
}

/* A permit posted belongs to the one that has waited longest: nobody who comes later takes it. */
static void *serve_one_by_one(void *arg)
{
    enum { N = COUNT_OF(((struct queue *)0)->order) };
    struct queue *q = calloc(1, sizeof *q);
    struct place *places = calloc(N, sizeof *places);
    routine_t h[N];
    for (int i = 0; i < N; i++) {
        places[i] = (struct place){.queue = q, .number = i};
        h[i] = go(stand_in_queue, &places[i]);
        await_parked(NULL, (uint64_t)i + 1);
        CHECK_EQ(routine_sem_trywait(&q->sem), -EAGAIN);
        CHECK_EQ(sem_value(&q->sem), 0);
    }
    for (int done = 0, some = 1; done < N; done += some, some++) {
        if (some > N - done)
            some = N - done;
        for (int i = 0; i < some; i++) {
            CHECK_EQ(routine_sem_post(&q->sem), 0);
            CHECK_EQ(sem_value(&q->sem), 0);
            CHECK_EQ(routine_sem_trywait(&q->sem), -EAGAIN);
        }
        CHECK_EQ(atomic_load(&q->served), done);
        WAIT_UNTIL(atomic_load(&q->served) >= done + some);
        await_parked(NULL, (uint64_t)(N - done - some));
        CHECK_EQ(atomic_load(&q->served), done + some);
        for (int i = done; i < done + some; i++) /* they may run in any order */
            CHECK(q->order[i] >= done && q->order[i] < done + some);
    }
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(routine_sem_post(&q->sem), 0);
    CHECK_EQ(routine_sem_trywait(&q->sem), 0);
    free(places);
    free(q);
    return arg;
}

TEST(a_permit_goes_to_the_one_that_has_waited_longest)
{
    direct(serve_one_by_one, NULL);
}

static void *serve_all_kinds(void *arg)
{
    enum { N = 12 };
    struct queue q = {.sem = ROUTINE_SEM_INITIALIZER(0)};
    struct place places[N];
    struct actor actors[N];
    bool known = true;
    uint64_t parked = 0;
    for (int i = 0; i < N; i++) {
        places[i] = (struct place){.queue = &q, .number = i, .is_thread = i % 3 == 1};
        actors[i] = act(places[i].is_thread, stand_in_queue, &places[i]);
        if (places[i].is_thread)
            known &= await_asleep(&places[i].sleeper);
        else
            await_parked(NULL, ++parked);
    }
    for (int i = 0; i < N; i++) {
        CHECK_EQ(routine_sem_post(&q.sem), 0);
        if (known)
            CHECK_EQ(routine_sem_trywait(&q.sem), -EAGAIN);
        WAIT_UNTIL(atomic_load(&q.served) == i + 1);
    }
    int last = -1;
    for (int i = 0; i < N; i++) {
        act_end(actors[i]);
        if (!known && places[q.order[i]].is_thread)
            continue; /* when it came is not known */
        CHECK(q.order[i] > last);
        last = q.order[i];
    }
    CHECK_EQ(sem_value(&q.sem), 0);
    return arg;
}

TEST(a_permit_goes_to_the_one_that_has_waited_longest_thread_or_not)
{
    for (int i = 0; i < 10; i++)
        direct(serve_all_kinds, NULL);
}

/* Who posts and waits again at once is behind those who waited. */
static void *take_and_return(void *arg)
{
    struct place *p = arg;
    CHECK_EQ(routine_sem_wait(&p->queue->sem), 0);
    p->queue->order[atomic_fetch_add(&p->queue->served, 1)] = p->number;
    CHECK_EQ(routine_sem_post(&p->queue->sem), 0);
    return NULL;
}

static void *post_and_wait(void *arg)
{
    enum { N = 10 };
    struct queue q = {.sem = ROUTINE_SEM_INITIALIZER(0)};
    struct place places[N];
    routine_t h[N];
    for (int i = 0; i < N; i++) {
        places[i] = (struct place){.queue = &q, .number = i};
        h[i] = go(take_and_return, &places[i]);
        await_parked(NULL, (uint64_t)i + 1);
    }
    CHECK_EQ(routine_sem_post(&q.sem), 0);
    CHECK_EQ(routine_sem_wait(&q.sem), 0);
    CHECK_EQ(atomic_load(&q.served), N);
    CHECK_EQ(sem_value(&q.sem), 0);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(q.order[i], i);
        CHECK_EQ(routine_join(h[i], NULL), 0);
    }
    return arg;
}

TEST(who_posts_and_waits_is_last)
{
    direct(post_and_wait, NULL);
}

/* ---- storms ---- */

struct tally {
    routine_sem_t sem;
    long rounds, count;
    int inside;
    bool trying;
};

static void *add_up(void *arg)
{
    struct tally *t = arg;
    for (long i = 0; i < t->rounds; i++) {
        int rc;
        if (t->trying)
            while ((rc = routine_sem_trywait(&t->sem)) == -EAGAIN)
                routine_yield();
        else
            rc = routine_sem_wait(&t->sem);
        CHECK_EQ(rc, 0);
        CHECK_EQ(t->inside++, 0);
        t->count++;
        if (i % 7 == 0)
            routine_yield();
        CHECK_EQ(--t->inside, 0);
        CHECK_EQ(routine_sem_post(&t->sem), 0);
    }
    return NULL;
}

TEST(a_semaphore_as_a_mutex)
{
    for (int i = 0; i < 4; i++) {
        const bool mixed = i % 2;
        struct tally t = {.sem = ROUTINE_SEM_INITIALIZER(1), .trying = i / 2};
        t.rounds = support_scale(mixed ? 500 : 5000);
        (mixed ? crowd : company)(12, add_up, &t);
        CHECK_EQ(t.count, 12 * t.rounds);
        CHECK_EQ(sem_value(&t.sem), 1);
    }
}

struct limited {
    routine_sem_t sem;
    int limit;
    long rounds;
    _Atomic int inside, most;
};

static void *enter_limited(void *arg)
{
    struct limited *l = arg;
    for (long i = 0; i < l->rounds; i++) {
        CHECK_EQ(routine_sem_wait(&l->sem), 0);
        const int inside = atomic_fetch_add(&l->inside, 1) + 1;
        CHECK(inside <= l->limit);
        for (int most = atomic_load(&l->most); most < inside;)
            atomic_compare_exchange_weak(&l->most, &most, inside);
        if (i == 0)
            WAIT_UNTIL(atomic_load(&l->most) == l->limit); /* so many at a time do get in */
        routine_yield();
        atomic_fetch_sub(&l->inside, 1);
        CHECK_EQ(routine_sem_post(&l->sem), 0);
    }
    return NULL;
}

TEST(so_many_at_a_time)
{
    for (int i = 0; i < 4; i++) {
        struct limited l = {.limit = i < 2 ? 3 : 8, .rounds = support_scale(1000)};
        CHECK_EQ(routine_sem_init(&l.sem, (size_t)l.limit), 0);
        (i % 2 ? crowd : company)(12, enter_limited, &l);
        CHECK_EQ(sem_value(&l.sem), l.limit);
    }
}

struct buffer {
    routine_sem_t room, filled, heads, tails;
    long items[4];
    size_t head, tail;
    long total, next, taken;
    unsigned char *seen;
    _Atomic int roles;
};

static void *trade(void *arg)
{
    struct buffer *b = arg;
    const bool producer = atomic_fetch_add(&b->roles, 1) % 2;
    for (bool more = true; more;) {
        CHECK_EQ(routine_sem_wait(producer ? &b->room : &b->filled), 0);
        CHECK_EQ(routine_sem_wait(producer ? &b->tails : &b->heads), 0);
        if (producer) {
            more = b->next < b->total;
            if (more)
                b->items[b->tail++ % COUNT_OF(b->items)] = b->next++;
        } else {
            more = b->taken < b->total;
            if (more) {
                b->seen[b->items[b->head++ % COUNT_OF(b->items)]]++;
                b->taken++;
            }
        }
        const bool over = producer ? b->next == b->total : b->taken == b->total;
        CHECK_EQ(routine_sem_post(producer ? &b->tails : &b->heads), 0);
        if (more)
            CHECK_EQ(routine_sem_post(producer ? &b->filled : &b->room), 0);
        if (over) /* so does the next of our kind find it, and pass it on */
            CHECK_EQ(routine_sem_post(producer ? &b->room : &b->filled), 0);
    }
    return NULL;
}

TEST(a_bounded_buffer_of_semaphores)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct buffer b = {.room = ROUTINE_SEM_INITIALIZER(COUNT_OF(b.items)),
                           .heads = ROUTINE_SEM_INITIALIZER(1),
                           .tails = ROUTINE_SEM_INITIALIZER(1),
                           .total = support_scale(mixed ? 10000 : 50000)};
        b.seen = calloc((size_t)b.total, 1);
        (mixed ? crowd : company)(12, trade, &b);
        CHECK_EQ(b.next, b.total);
        CHECK_EQ(b.taken, b.total);
        long wrong = 0;
        for (long i = 0; i < b.total; i++)
            wrong += b.seen[i] != 1;
        CHECK_EQ(wrong, 0);
        free(b.seen);
    }
}

/* Everybody posts and waits, by turns in this order and that: no permit is lost, and none comes from nowhere.
 */
struct flood {
    routine_sem_t sem;
    long rounds;
    _Atomic long posted, taken;
    _Atomic int next;
};

static void *post_and_take(void *arg)
{
    struct flood *f = arg;
    uint64_t seed = 7919 + 104729 * (uint64_t)atomic_fetch_add(&f->next, 1);
    for (long i = 0; i < f->rounds; i++) {
        const uint64_t what = support_random(&seed);
        const int some = (int)(what % 4) + 1;
        for (int k = 0; k < some; k++) {
            atomic_fetch_add(&f->posted, 1); /* before: so nobody takes one that is not counted */
            CHECK_EQ(routine_sem_post(&f->sem), 0);
        }
        for (int k = 0; k < some; k++) {
            if (what % 3 != 0 || routine_sem_trywait(&f->sem) != 0)
                CHECK_EQ(routine_sem_wait(&f->sem), 0);
            CHECK(atomic_fetch_add(&f->taken, 1) < atomic_load(&f->posted));
        }
        if (what % 5 == 0)
            routine_yield();
    }
    return NULL;
}

TEST(permits_are_conserved)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct flood f = {.rounds = support_scale(mixed ? 2000 : 10000)};
        (mixed ? crowd : company)(12, post_and_take, &f);
        CHECK_EQ(sem_value(&f.sem), 0);
        CHECK_EQ(atomic_load(&f.posted), atomic_load(&f.taken));
    }
}

/* ---- gone as soon as the last permit has been taken ---- */

struct wanted {
    routine_sem_t sem;
    long delivered[HELPERS];
};

static void help_by_post(void *object, int me)
{
    struct wanted *w = object;
    w->delivered[me] = me + 1;
    CHECK_EQ(routine_sem_post(&w->sem), 0);
}

/* Each of the helpers posts once: when as many permits have been taken none of them touches it any more. */
SUPPORT_NOINLINE static void wait_by_sem(struct service *s, long round)
{
    struct wanted here = {.sem = ROUTINE_SEM_INITIALIZER(0)}, *w = &here;
    if (round % 4 < 2)
        w = calloc(1, sizeof *w);
    order(s, w);
    if (round % 2)
        routine_yield();
    for (int i = 0; i < s->helpers; i++)
        if (round % 6 != 0)
            CHECK_EQ(routine_sem_wait(&w->sem), 0);
        else
            WAIT_UNTIL(routine_sem_trywait(&w->sem) == 0);
    for (int i = 0; i < s->helpers; i++)
        CHECK_EQ(w->delivered[i], i + 1);
    check_gone(w, sizeof *w, w != &here);
}

TEST(a_semaphore_is_gone_after_the_last_wait)
{
    serve(help_by_post, wait_by_sem);
}

/* ==== wait group ==== */

static void check_a_group_of_none(routine_waitgroup_t *g)
{
    CHECK_EQ(routine_waitgroup_wait(g), 0);
    CHECK_EQ(routine_waitgroup_done(g), -EINVAL);
    CHECK_EQ(routine_waitgroup_add(g, -1), -EINVAL);
    CHECK_EQ(routine_waitgroup_add(g, PTRDIFF_MIN), -EINVAL);
    CHECK_EQ(routine_waitgroup_wait(g), 0); /* still none */
    CHECK_EQ(routine_waitgroup_add(g, 0), 0);
    CHECK_EQ(routine_waitgroup_wait(g), 0);
    CHECK_EQ(routine_waitgroup_add(g, 3), 0);
    CHECK_EQ(routine_waitgroup_done(g), 0);
    CHECK_EQ(routine_waitgroup_add(g, -3), -EINVAL); /* two are left */
    CHECK_EQ(routine_waitgroup_add(g, 1), 0);
    CHECK_EQ(routine_waitgroup_add(g, 0), 0);
    CHECK_EQ(routine_waitgroup_add(g, -4), -EINVAL);
    CHECK_EQ(routine_waitgroup_add(g, -3), 0);
    CHECK_EQ(routine_waitgroup_wait(g), 0);
    CHECK_EQ(routine_waitgroup_add(g, 1), 0);
    CHECK_EQ(routine_waitgroup_add(g, PTRDIFF_MAX), -EOVERFLOW);
    CHECK_EQ(routine_waitgroup_done(g), 0); /* it was one */
    CHECK_EQ(routine_waitgroup_wait(g), 0);
    CHECK_EQ(routine_waitgroup_done(g), -EINVAL);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(routine_waitgroup_add(g, 1000000), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(routine_waitgroup_add(g, -1000000), 0);
    CHECK_EQ(routine_waitgroup_wait(g), 0);
}

TEST_EVERYWHERE(a_group_however_it_was_initialised)
{
    routine_waitgroup_t by_initialiser = ROUTINE_WAITGROUP_INITIALIZER, zero, by_init;
    memset(&zero, 0, sizeof zero);
    memset(&by_init, 0xa5, sizeof by_init);
    routine_waitgroup_init(&by_init);
    check_a_group_of_none(&by_initialiser);
    check_a_group_of_none(&zero);
    check_a_group_of_none(&by_init);
}

TEST_EVERYWHERE(no_group)
{
    CHECK_EQ(routine_waitgroup_add(NULL, 1), -EINVAL);
    CHECK_EQ(routine_waitgroup_done(NULL), -EINVAL);
    CHECK_EQ(routine_waitgroup_wait(NULL), -EINVAL);
}

/* ---- those who wait ---- */

struct gathering {
    routine_waitgroup_t g;
    _Atomic int passed;
};

static void *wait_for_all(void *arg)
{
    struct gathering *gathering = arg;
    CHECK_EQ(routine_waitgroup_wait(&gathering->g), 0);
    atomic_fetch_add(&gathering->passed, 1);
    return NULL;
}

/* At zero all who wait go on, even if there is something new to wait for by then; who comes later waits
 * for that. */
static void *let_all_go(void *arg)
{
    enum { N = 50, ROUNDS = 10 };
    struct gathering gathering = {.g = ROUTINE_WAITGROUP_INITIALIZER};
    routine_t h[ROUNDS][N];
    CHECK_EQ(routine_waitgroup_add(&gathering.g, 2), 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            h[round][i] = go(wait_for_all, &gathering);
        await_parked(NULL, N);
        CHECK_EQ(routine_waitgroup_done(&gathering.g), 0);
        CHECK_EQ(routine_waitgroup_add(&gathering.g, -2), -EINVAL); /* one is left, and they wait */
        CHECK_EQ(routine_waitgroup_add(&gathering.g, 3), 0);
        CHECK_EQ(routine_waitgroup_add(&gathering.g, -3), 0);
        for (int i = 0; i < 10; i++)
            routine_yield();
        CHECK_EQ(atomic_load(&gathering.passed), round * N);
        CHECK_EQ(routine_waitgroup_done(&gathering.g), 0);
        CHECK_EQ(routine_waitgroup_add(&gathering.g, 2), 0); /* the next round's */
        WAIT_UNTIL(atomic_load(&gathering.passed) == (round + 1) * N);
    }
    CHECK_EQ(routine_waitgroup_add(&gathering.g, -2), 0);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < N; i++)
            CHECK_EQ(routine_join(h[round][i], NULL), 0);
    return arg;
}

TEST(at_zero_all_who_wait_go_on)
{
    direct(let_all_go, NULL);
}

/* Routines and threads wait for routines and threads, round after round, with one group. */
enum { DOERS = 6, WAITERS = 6 };

struct project {
    routine_waitgroup_t g;
    int done[DOERS];
    _Atomic int next;
};

static void *do_or_wait(void *arg)
{
    struct project *p = arg;
    const int me = atomic_fetch_add(&p->next, 1);
    if (me % 2) {
        if (me % 4 == 1)
            routine_yield();
        p->done[me / 2] = me;
        CHECK_EQ(routine_waitgroup_done(&p->g), 0);
    } else {
        CHECK_EQ(routine_waitgroup_wait(&p->g), 0);
        for (int i = 0; i < DOERS; i++)
            CHECK_EQ(p->done[i], 2 * i + 1);
    }
    return NULL;
}

TEST(many_wait_for_many)
{
    struct project p = {.g = ROUTINE_WAITGROUP_INITIALIZER};
    for (long round = 0; round < support_scale(1000); round++) {
        memset(p.done, 0, sizeof p.done);
        atomic_store(&p.next, 0);
        CHECK_EQ(routine_waitgroup_add(&p.g, DOERS), 0);
        (round % 10 == 0 ? crowd : company)(DOERS + WAITERS, do_or_wait, &p);
    }
}

/* A tree of routines that nobody joins: each counts its children in before it counts itself out. */
struct tree {
    routine_waitgroup_t *g;
    _Atomic int *leaves;
    int depth;
};

static void *grow(void *arg)
{
    struct tree *t = arg;
    if (t->depth == 0) {
        atomic_fetch_add(t->leaves, 1);
    } else {
        CHECK_EQ(routine_waitgroup_add(t->g, 2), 0);
        for (int i = 0; i < 2; i++) {
            routine_t h = go_copy(grow, ((struct tree){t->g, t->leaves, t->depth - 1}));
            CHECK_EQ(routine_detach(h), 0);
        }
    }
    CHECK_EQ(routine_waitgroup_done(t->g), 0);
    return NULL;
}

TEST_EVERYWHERE(a_group_may_grow_while_somebody_waits)
{
    for (int i = 0; i < 3; i++) {
        routine_waitgroup_t g = ROUTINE_WAITGROUP_INITIALIZER;
        _Atomic int leaves = 0;
        struct tree t = {&g, &leaves, support_slow() ? 6 : 10};
        CHECK_EQ(routine_waitgroup_add(&g, 1), 0);
        routine_t h = go(grow, &t);
        CHECK_EQ(routine_waitgroup_wait(&g), 0);
        CHECK_EQ(atomic_load(&leaves), 1 << t.depth);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
}

/* ---- gone right after the wait ---- */

struct work {
    routine_waitgroup_t g;
    long done[HELPERS];
};

static void help_by_done(void *object, int me)
{
    struct work *w = object;
    w->done[me] = me + 1;
    if (me == 1)
        routine_yield();
    CHECK_EQ(routine_waitgroup_done(&w->g), 0);
}

SUPPORT_NOINLINE static void wait_by_group(struct service *s, long round)
{
    struct work here = {.g = ROUTINE_WAITGROUP_INITIALIZER}, *w = &here;
    if (round % 4 < 2)
        w = calloc(1, sizeof *w);
    CHECK_EQ(routine_waitgroup_add(&w->g, s->helpers), 0);
    order(s, w);
    if (round % 2)
        routine_yield();
    CHECK_EQ(routine_waitgroup_wait(&w->g), 0);
    for (int i = 0; i < s->helpers; i++)
        CHECK_EQ(w->done[i], i + 1);
    check_gone(w, sizeof *w, w != &here);
}

TEST(a_group_is_gone_after_the_wait)
{
    serve(help_by_done, wait_by_group);
}

/* ==== barrier ==== */

TEST_EVERYWHERE(a_barrier_needs_a_count)
{
    routine_barrier_t b, zero;
    memset(&zero, 0, sizeof zero);
    CHECK_EQ(routine_barrier_init(&b, 0), -EINVAL);
    CHECK_EQ(routine_barrier_init(&b, SIZE_MAX), -EINVAL);
    CHECK_EQ(routine_barrier_init(NULL, 1), -EINVAL);
    CHECK_EQ(routine_barrier_wait(NULL), -EINVAL);
    CHECK_EQ(routine_barrier_wait(&zero), -EINVAL);
    CHECK_EQ(routine_barrier_wait(&zero), -EINVAL);
    CHECK_EQ(routine_barrier_init(&zero, 1), 0);
    CHECK_EQ(routine_barrier_wait(&zero), 1);
}

TEST_EVERYWHERE(a_barrier_for_one)
{
    routine_barrier_t by_initialiser = ROUTINE_BARRIER_INITIALIZER(1), by_init;
    memset(&by_init, 0xa5, sizeof by_init);
    CHECK_EQ(routine_barrier_init(&by_init, 1), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(routine_barrier_wait(&by_initialiser), 1);
        CHECK_EQ(routine_barrier_wait(&by_init), 1);
    }
}

/* ---- rounds ---- */

enum { PARTIES_MOST = 300 };

struct rounds {
    routine_barrier_t b;
    int parties;
    long rounds;
    _Atomic int next;
    _Atomic int *arrived,
        *last; /* of each round: how many came, and how many were told that they are the last */
    long progress[PARTIES_MOST]; /* plain: each writes its own before the wait and reads others' behind it */
};

static void *take_part(void *arg)
{
    struct rounds *r = arg;
    const int me = atomic_fetch_add(&r->next, 1);
    for (long round = 0; round < r->rounds; round++) {
        CHECK_EQ(atomic_load(&r->arrived[round + 1]), 0); /* nobody is a round ahead of us */
        r->progress[me] = round;
        atomic_fetch_add(&r->arrived[round], 1);
        const int rc = routine_barrier_wait(&r->b);
        CHECK(rc == 0 || rc == 1);
        atomic_fetch_add(&r->last[round], rc);
        CHECK_EQ(atomic_load(&r->arrived[round]), r->parties);
        const int neighbour = (me + 1) % r->parties;
        CHECK_EQ(r->progress[neighbour], round);
        if ((round + me) % 7 == 0)
            routine_yield();
        CHECK(routine_barrier_wait(&r->b) >= 0); /* before it is written again */
    }
    return NULL;
}

static void go_round(int parties, long rounds, void (*all)(int n, routine_fn *fn, void *arg))
{
    struct rounds *r = calloc(1, sizeof *r);
    r->parties = parties;
    r->rounds = rounds;
    r->arrived = calloc((size_t)rounds + 1, sizeof *r->arrived);
    r->last = calloc((size_t)rounds, sizeof *r->last);
    CHECK_EQ(routine_barrier_init(&r->b, (size_t)parties), 0);
    all(parties, take_part, r);
    for (long round = 0; round < rounds; round++) {
        CHECK_EQ(atomic_load(&r->last[round]), 1);
        CHECK_EQ(atomic_load(&r->arrived[round]), parties);
    }
    free(r->last);
    free(r->arrived);
    free(r);
}

TEST(rounds_of_routines)
{
    go_round(1, 100, company);
    go_round(2, support_scale(10000), company);
    go_round(3, support_scale(5000), company);
    go_round(20, support_scale(1000), company);
    go_round(PARTIES_MOST, support_scale(100), company);
}

TEST(rounds_of_routines_and_threads)
{
    go_round(2, support_scale(1200), crowd);
    go_round(3, support_scale(1000), crowd);
    go_round(9, support_scale(300), crowd);
}

/* The last one does not wait, and is told; and everybody knows it so. */
struct arrivals {
    routine_barrier_t b;
    _Atomic int passed;
};

static void *arrive(void *arg)
{
    struct arrivals *a = arg;
    CHECK_EQ(routine_barrier_wait(&a->b), 0);
    atomic_fetch_add(&a->passed, 1);
    return NULL;
}

static void *arrive_last(void *arg)
{
    enum { N = 10 };
    struct arrivals a = {.b = ROUTINE_BARRIER_INITIALIZER(N + 1)};
    for (int round = 1; round <= 20; round++) {
        routine_t h[N];
        for (int i = 0; i < N; i++) {
            h[i] = go(arrive, &a);
            await_parked(NULL, (uint64_t)i + 1);
        }
        for (int i = 0; i < 10; i++)
            routine_yield();
        CHECK_EQ(atomic_load(&a.passed), (round - 1) * N);
        CHECK_EQ(routine_barrier_wait(&a.b), 1);
        for (int i = 0; i < N; i++)
            CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(atomic_load(&a.passed), round * N);
    }
    return arg;
}

TEST(the_last_one_is_told)
{
    direct(arrive_last, NULL);
}

/* More come than there is room for in a round: each four of them are one. */
struct ferry {
    routine_barrier_t b;
    _Atomic int boarded, landed, trips;
};

static void *board(void *arg)
{
    struct ferry *f = arg;
    atomic_fetch_add(&f->boarded, 1);
    const int rc = routine_barrier_wait(&f->b);
    CHECK(rc == 0 || rc == 1);
    const int landed = atomic_fetch_add(&f->landed, 1) + 1;
    CHECK(landed <= atomic_load(&f->boarded) / 4 * 4);
    atomic_fetch_add(&f->trips, rc);
    return NULL;
}

TEST(many_more_than_one_round_takes)
{
    enum { N = 2000 };
    struct ferry f = {.b = ROUTINE_BARRIER_INITIALIZER(4)};
    company(N, board, &f);
    CHECK_EQ(atomic_load(&f.trips), N / 4);
    for (int i = 0; i < 50; i++) {
        struct ferry mixed = {.b = ROUTINE_BARRIER_INITIALIZER(4)};
        crowd(12, board, &mixed);
        CHECK_EQ(atomic_load(&mixed.trips), 12 / 4);
    }
}

/* ---- gone after the last round ---- */

struct estate {
    routine_barrier_t **objects;
    long rounds;
    int users;
    _Atomic int next;
};

/* By turns one of them frees it, as soon as it has come back from the last round: whether it let the others
 * go, or was let go by one of them. */
static void *use_and_leave(void *arg)
{
    struct estate *e = arg;
    const int me = atomic_fetch_add(&e->next, 1);
    for (long round = 0; round < e->rounds; round++) {
        routine_barrier_t *b = e->objects[round];
        if ((round + me) % 5 == 0)
            routine_yield();
        CHECK(routine_barrier_wait(b) >= 0);
        CHECK(routine_barrier_wait(b) >= 0);
        if (round % e->users == me) {
            memset(b, 0x5a, sizeof *b);
            free(b);
        }
    }
    return NULL;
}

static void inherit(int users, long rounds, void (*all)(int n, routine_fn *fn, void *arg))
{
    struct estate e = {.rounds = rounds, .users = users};
    e.objects = calloc((size_t)rounds, sizeof *e.objects);
    for (long i = 0; i < rounds; i++) {
        e.objects[i] = malloc(sizeof *e.objects[i]);
        CHECK_EQ(routine_barrier_init(e.objects[i], (size_t)users), 0);
    }
    all(users, use_and_leave, &e);
    free(e.objects);
}

TEST(a_barrier_is_free_after_the_last_round)
{
    inherit(2, support_scale(10000), company);
    inherit(6, support_scale(4000), company);
    inherit(2, support_scale(1200), crowd);
    inherit(6, support_scale(600), crowd);
}

/* ==== once ==== */

enum { ONCES = 2000 };

static routine_once_t onces[ONCES];
static routine_mutex_t once_mutex = ROUTINE_MUTEX_INITIALIZER;
static long once_calls, once_ended; /* plain: calls come one after the other */
static long once_values[ONCES];

static void *answer(void *arg)
{
    routine_yield();
    return arg;
}

/* Blocks in several ways. */
static void initialise(void)
{
    const long call = once_calls++;
    void *result = NULL;
    routine_yield();
    CHECK_EQ(routine_mutex_lock(&once_mutex), 0);
    CHECK_EQ(routine_join(go(answer, &once_calls), &result), 0);
    CHECK(result == &once_calls);
    routine_yield();
    CHECK_EQ(routine_mutex_unlock(&once_mutex), 0);
    if (call < ONCES)
        once_values[call] = call + 1;
    once_ended++;
}

struct stampede {
    _Atomic int *arrived;
    int all;
    long rounds;
};

static void *storm_in(void *arg)
{
    struct stampede *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        support_meet(&s->arrived[round], s->all);
        CHECK_EQ(routine_once(&onces[round], initialise), 0);
        CHECK_EQ(once_values[round], round + 1); /* it has returned */
        CHECK_EQ(routine_once(&onces[round], initialise), 0);
    }
    return NULL;
}

static void stampede(int n, long rounds, void (*all)(int n, routine_fn *fn, void *arg))
{
    static const routine_once_t fresh = ROUTINE_ONCE_INITIALIZER;
    struct stampede s = {.all = n, .rounds = rounds};
    s.arrived = calloc((size_t)rounds, sizeof *s.arrived);
    for (int i = 0; i < ONCES; i++)
        onces[i] = fresh;
    memset(once_values, 0, sizeof once_values);
    once_calls = once_ended = 0;
    all(n, storm_in, &s);
    CHECK_EQ(once_calls, rounds);
    CHECK_EQ(once_ended, rounds);
    free(s.arrived);
}

TEST(a_stampede_of_routines)
{
    stampede(16, support_scale(ONCES), company);
}

TEST(a_stampede_of_routines_and_threads)
{
    stampede(9, support_scale(ONCES / 2), crowd);
}

/* ---- who comes while it runs waits ---- */

static routine_once_t slow_once;
static routine_oneshot_t slow_let_go;
static _Atomic int slow_begun, slow_ended, slow_passed;

static void run_slowly(void)
{
    CHECK_EQ(atomic_fetch_add(&slow_begun, 1), 0);
    CHECK_EQ(routine_oneshot_recv(&slow_let_go, NULL), 0);
    for (int i = 0; i < 10; i++)
        routine_yield();
    CHECK_EQ(atomic_load(&slow_passed), 0);
    atomic_fetch_add(&slow_ended, 1);
}

static void *call_slow(void *arg)
{
    CHECK_EQ(routine_once(&slow_once, run_slowly), 0);
    CHECK_EQ(atomic_load(&slow_ended), 1);
    atomic_fetch_add(&slow_passed, 1);
    return arg;
}

static void *wait_for_slow(void *arg)
{
    enum { N = 8 };
    const bool thread_begins = arg != NULL;
    struct actor actors[N];
    memset(&slow_once, 0, sizeof slow_once);
    routine_oneshot_init(&slow_let_go);
    atomic_store(&slow_begun, 0);
    atomic_store(&slow_ended, 0);
    atomic_store(&slow_passed, 0);
    uint64_t parked = 0;
    for (int i = 0; i < N; i++) {
        const bool thread = i == 0 ? thread_begins : i % 4 == 3;
        actors[i] = act(thread, call_slow, NULL);
        if (i == 0)
            WAIT_UNTIL(atomic_load(&slow_begun) == 1);
        if (!thread)
            await_parked(NULL, ++parked);
    }
    for (int i = 0; i < 20; i++)
        routine_yield();
    CHECK_EQ(atomic_load(&slow_passed), 0);
    CHECK_EQ(routine_oneshot_send(&slow_let_go, NULL), 0);
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
    CHECK_EQ(atomic_load(&slow_passed), N);
    CHECK_EQ(atomic_load(&slow_begun), 1);
    return NULL;
}

TEST(others_wait_until_it_has_returned)
{
    int yes;
    for (int i = 0; i < 10; i++) {
        direct(wait_for_slow, NULL);
        direct(wait_for_slow, &yes);
    }
}

/* ---- by itself, within itself, without ---- */

static routine_once_t inner_once, outer_once;
static int inner_calls, outer_calls;

static void inner(void)
{
    inner_calls++;
    CHECK_EQ(routine_once(&inner_once, inner), -EDEADLK);
    CHECK_EQ(routine_once(&outer_once, inner), -EDEADLK);
}

static void outer(void)
{
    outer_calls++;
    CHECK_EQ(routine_once(&outer_once, outer), -EDEADLK);
    routine_yield();
    CHECK_EQ(routine_once(&outer_once, inner), -EDEADLK);
    CHECK_EQ(routine_once(&inner_once, inner), 0);
    CHECK_EQ(routine_once(&inner_once, inner), 0);
    CHECK_EQ(routine_once(&outer_once, outer), -EDEADLK);
}

static void *call_from_within(void *arg)
{
    memset(&inner_once, 0, sizeof inner_once);
    memset(&outer_once, 0, sizeof outer_once);
    inner_calls = outer_calls = 0;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_once(&outer_once, outer), 0);
        CHECK_EQ(routine_once(&inner_once, outer), 0);
    }
    CHECK_EQ(outer_calls, 1);
    CHECK_EQ(inner_calls, 1);
    return arg;
}

TEST(once_from_within)
{
    for (int i = 0; i < 10; i++) {
        call_from_within(NULL);
        support_in_routine(call_from_within, NULL);
        CHECK_EQ(routine_join(go(call_from_within, NULL), NULL), 0);
        support_thread_join(support_thread(call_from_within, NULL), NULL);
    }
}

static _Atomic int plain_calls;

static void count_call(void)
{
    atomic_fetch_add(&plain_calls, 1);
}

static void count_up(void *arg)
{
    ++*(int *)arg;
}

TEST(once_without)
{
    routine_once_t once = ROUTINE_ONCE_INITIALIZER;
    atomic_store(&plain_calls, 0);
    CHECK_EQ(routine_once(NULL, count_call), -EINVAL);
    CHECK_EQ(routine_once(&once, NULL), -EINVAL);
    CHECK_EQ(routine_once(NULL, NULL), -EINVAL);
    CHECK_EQ(atomic_load(&plain_calls), 0);
    CHECK_EQ(routine_once(&once, count_call), 0); /* as if nothing had been */
    CHECK_EQ(atomic_load(&plain_calls), 1);
    CHECK_EQ(routine_once(&once, count_call), 0);
    CHECK_EQ(atomic_load(&plain_calls), 1);

    routine_once_t another = ROUTINE_ONCE_INITIALIZER;
    int x = 0;
    CHECK_EQ(routine_once_with(NULL, count_up, &x), -EINVAL);
    CHECK_EQ(routine_once_with(&another, NULL, &x), -EINVAL);
    CHECK_EQ(routine_once_with(&once, count_up, &x), 0); /* it has been */
    CHECK_EQ(x, 0);
    CHECK_EQ(routine_once_with(&another, count_up, &x), 0);
    CHECK_EQ(routine_once_with(&another, count_up, &x), 0);
    CHECK_EQ(routine_once(&another, count_call), 0);
    CHECK_EQ(x, 1);
    CHECK_EQ(atomic_load(&plain_calls), 1);
}

/* ---- with an argument ---- */

struct lazy {
    routine_once_t once;
    int users;
    _Atomic int arrived;
    long value;
};

static void make_value(void *arg)
{
    struct lazy *l = arg;
    CHECK_EQ(routine_once_with(&l->once, make_value, l), -EDEADLK);
    routine_yield();
    l->value++;
    routine_yield();
}

static void *use_value(void *arg)
{
    struct lazy *l = arg;
    support_meet(&l->arrived, l->users);
    CHECK_EQ(routine_once_with(&l->once, make_value, l), 0);
    CHECK_EQ(l->value, 1);
    return NULL;
}

TEST(once_with_an_argument)
{
    for (long i = 0; i < support_scale(2000); i++) {
        struct lazy l = {.once = ROUTINE_ONCE_INITIALIZER, .users = 6};
        (i % 20 == 0 ? crowd : company)(l.users, use_value, &l);
        CHECK_EQ(l.value, 1);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_static_semaphore),
        cmocka_unit_test(a_semaphore_however_it_was_initialised),
        cmocka_unit_test(no_semaphore),
        cmocka_unit_test(a_semaphore_has_a_limit),
        cmocka_unit_test(a_permit_goes_to_the_one_that_has_waited_longest),
        cmocka_unit_test(a_permit_goes_to_the_one_that_has_waited_longest_thread_or_not),
        cmocka_unit_test(who_posts_and_waits_is_last),
        cmocka_unit_test(a_semaphore_as_a_mutex),
        cmocka_unit_test(so_many_at_a_time),
        cmocka_unit_test(a_bounded_buffer_of_semaphores),
        cmocka_unit_test(permits_are_conserved),
        cmocka_unit_test(a_semaphore_is_gone_after_the_last_wait),
        cmocka_unit_test(a_group_however_it_was_initialised),
        cmocka_unit_test(no_group),
        cmocka_unit_test(at_zero_all_who_wait_go_on),
        cmocka_unit_test(many_wait_for_many),
        cmocka_unit_test(a_group_may_grow_while_somebody_waits),
        cmocka_unit_test(a_group_is_gone_after_the_wait),
        cmocka_unit_test(a_barrier_needs_a_count),
        cmocka_unit_test(a_barrier_for_one),
        cmocka_unit_test(rounds_of_routines),
        cmocka_unit_test(rounds_of_routines_and_threads),
        cmocka_unit_test(the_last_one_is_told),
        cmocka_unit_test(many_more_than_one_round_takes),
        cmocka_unit_test(a_barrier_is_free_after_the_last_round),
        cmocka_unit_test(a_stampede_of_routines),
        cmocka_unit_test(a_stampede_of_routines_and_threads),
        cmocka_unit_test(others_wait_until_it_has_returned),
        cmocka_unit_test(once_from_within),
        cmocka_unit_test(once_without),
        cmocka_unit_test(once_with_an_argument),
    };
    return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
