/* SPDX-License-Identifier: MIT
 *
 * Tests of the mutex of sync.h: every return code, exclusion, who holds it and over what, the order
 * of those who wait, that nobody starves, and that its memory is free after the last unlock. By
 * routines of two runtimes and by plain threads.
 *
 * What a mutex protects is plain memory here, so that ThreadSanitizer sees whether unlock and
 * lock order it.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include <limits.h>

#include "routines/sync.h"

SUPPORT_NO_HANDOVERS

/* What the holder sees. */
static void check_held(routine_mutex_t *m)
{
    CHECK_EQ(routine_mutex_lock(m), -EDEADLK);
    CHECK_EQ(routine_mutex_trylock(m), -EBUSY);
}

/* What everybody else sees. */
static void *meddle(void *arg)
{
    routine_mutex_t *m = arg;
    CHECK_EQ(routine_mutex_trylock(m), -EBUSY);
    CHECK_EQ(routine_mutex_unlock(m), -EPERM);
    return NULL;
}

/* ---- return codes ---- */

static void check_a_free_one(routine_mutex_t *m)
{
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_mutex_unlock(m), -EPERM);
        CHECK_EQ(routine_mutex_lock(m), 0);
        check_held(m);
        check_held(m);
        CHECK_EQ(routine_mutex_unlock(m), 0);
        CHECK_EQ(routine_mutex_unlock(m), -EPERM);
        CHECK_EQ(routine_mutex_trylock(m), 0);
        check_held(m);
        CHECK_EQ(routine_mutex_unlock(m), 0);
    }
}

TEST_EVERYWHERE(a_mutex_however_it_was_initialised)
{
    routine_mutex_t by_initialiser = ROUTINE_MUTEX_INITIALIZER, zero, by_init;
    memset(&zero, 0, sizeof zero);
    memset(&by_init, 0xa5, sizeof by_init);
    routine_mutex_init(&by_init);
    check_a_free_one(&by_initialiser);
    check_a_free_one(&zero);
    check_a_free_one(&by_init);

    CHECK_EQ(routine_mutex_lock(&by_init), 0);
    routine_mutex_init(&by_init); /* whatever it was before */
    check_a_free_one(&by_init);
}

static routine_mutex_t at_file_scope = ROUTINE_MUTEX_INITIALIZER;
static routine_mutex_t in_bss;

TEST(static_ones)
{
    check_a_free_one(&at_file_scope);
    check_a_free_one(&in_bss);
}

TEST_EVERYWHERE(no_mutex)
{
    CHECK_EQ(routine_mutex_lock(NULL), -EINVAL);
    CHECK_EQ(routine_mutex_trylock(NULL), -EINVAL);
    CHECK_EQ(routine_mutex_unlock(NULL), -EINVAL);
}

TEST_EVERYWHERE(many_are_held_at_once)
{
    enum { N = 2000 };
    routine_mutex_t *m = calloc(N, sizeof *m);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_mutex_lock(&m[i]), 0);
    routine_yield();
    for (int i = 0; i < N; i++) {
        const int at = i * 7 % N;
        check_held(&m[at]);
        CHECK_EQ(routine_mutex_unlock(&m[at]), 0);
    }
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_mutex_unlock(&m[i]), -EPERM);
    free(m);
}

/* ---- who holds it ---- */

TEST_EVERYWHERE(nobody_else_can_unlock_it)
{
    routine_mutex_t m = ROUTINE_MUTEX_INITIALIZER;
    routine_runtime_t *other = support_runtime(1);
    CHECK_EQ(routine_mutex_lock(&m), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(routine_join(go(meddle, &m), NULL), 0); /* in place, unless somebody was faster */
        check_held(&m);
    }
    routine_t h = go(meddle, &m);
    WAIT_UNTIL(routine_is_finished(h)); /* not in place */
    CHECK_EQ(routine_join(h, NULL), 0);
    check_held(&m);
    act_end(act(true, meddle, &m));
    check_held(&m);
    act_end(act_on(other, meddle, &m));
    check_held(&m);
    CHECK_EQ(routine_mutex_unlock(&m), 0);
    CHECK_EQ(routine_mutex_unlock(&m), -EPERM);
    support_runtime_end(other);
}

struct holder {
    routine_mutex_t m;
    routine_oneshot_t let_go;
    _Atomic int has;
};

static void *hold(void *arg)
{
    struct holder *holder = arg;
    CHECK_EQ(routine_mutex_lock(&holder->m), 0);
    atomic_store(&holder->has, 1);
    CHECK_EQ(routine_oneshot_recv(&holder->let_go, NULL), 0);
    check_held(&holder->m);
    CHECK_EQ(routine_mutex_unlock(&holder->m), 0);
    return NULL;
}

TEST_EVERYWHERE(it_belongs_to_the_one_who_locked_it)
{
    routine_runtime_t *other = support_runtime(1);
    for (int kind = 0; kind < 3; kind++) {
        struct holder holder = {.m = ROUTINE_MUTEX_INITIALIZER};
        struct actor actor = kind == 2 ? act_on(other, hold, &holder) : act(kind == 1, hold, &holder);
        WAIT_UNTIL(atomic_load(&holder.has));
        meddle(&holder.m);
        CHECK_EQ(routine_join(go(meddle, &holder.m), NULL), 0);
        act_end(act(true, meddle, &holder.m));
        CHECK_EQ(routine_oneshot_send(&holder.let_go, NULL), 0);
        act_end(actor);
        CHECK_EQ(routine_mutex_trylock(&holder.m), 0);
        check_held(&holder.m);
        CHECK_EQ(routine_mutex_unlock(&holder.m), 0);
    }
    support_runtime_end(other);
}

/* A child that locks and keeps something, blocks meanwhile, and may stand on the stack of a joiner who
 * holds something else. */
struct family {
    routine_mutex_t parents, childs;
    chan_t *there, *back;
};

static void *child(void *arg)
{
    struct family *f = arg;
    int answer = 0;
    meddle(&f->parents);
    CHECK_EQ(routine_mutex_lock(&f->childs), 0);
    routine_yield();
    CHECK_EQ(chan_send(f->there, &(int){7}), 0);
    CHECK_EQ(chan_recv(f->back, &answer), 0);
    CHECK_EQ(answer, 14);
    CHECK_EQ(routine_join(go(meddle, &f->childs), NULL), 0);
    check_held(&f->childs);
    meddle(&f->parents);
    CHECK_EQ(routine_mutex_unlock(&f->childs), 0);
    routine_exit(f);
}

static void *twice_as_much(void *arg)
{
    struct family *f = arg;
    int x;
    while (chan_recv(f->there, &x) == 0)
        CHECK_EQ(chan_send(f->back, &(int){2 * x}), 0);
    return NULL;
}

TEST_EVERYWHERE(it_is_held_over_whatever_blocks)
{
    struct family f = {.there = MAKE(int, 0), .back = MAKE(int, 0)};
    struct actor partner = act(false, twice_as_much, &f);
    for (int i = 0; i < 100; i++) {
        int answer = 0;
        void *result = NULL;
        CHECK_EQ(routine_mutex_lock(&f.parents), 0);
        routine_yield();
        check_held(&f.parents);
        routine_t h = go(child, &f);
        if (i % 3 == 0) {
            WAIT_UNTIL(routine_is_finished(h));
            check_held(&f.parents);
        }
        CHECK_EQ(routine_join(h, &result), 0);
        CHECK(result == &f);
        check_held(&f.parents);
        CHECK_EQ(routine_mutex_unlock(&f.childs), -EPERM);
        CHECK_EQ(chan_send(f.there, &i), 0);
        CHECK_EQ(chan_recv(f.back, &answer), 0);
        CHECK_EQ(answer, 2 * i);
        check_held(&f.parents);
        CHECK_EQ(routine_mutex_unlock(&f.parents), 0);
    }
    CHECK_EQ(chan_close(f.there), 0);
    act_end(partner);
    chan_unref(f.there);
    chan_unref(f.back);
}

/* Waiting for one while holding another: the other stays held. */
static void *hold_second(void *arg)
{
    struct family *f = arg;
    CHECK_EQ(routine_mutex_lock(&f->childs), 0);
    CHECK_EQ(chan_send(f->there, &(int){1}), 0);
    for (int i = 0; i < 10; i++)
        routine_yield();
    meddle(&f->parents);
    CHECK_EQ(routine_mutex_unlock(&f->childs), 0);
    return NULL;
}

TEST_EVERYWHERE(it_is_held_while_waiting_for_another)
{
    struct family f = {.there = MAKE(int, 0)};
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(routine_mutex_lock(&f.parents), 0);
        struct actor other = act(i % 4 == 3, hold_second, &f);
        CHECK_EQ(chan_recv(f.there, NULL), 0);
        CHECK_EQ(routine_mutex_lock(&f.childs), 0);
        check_held(&f.parents);
        check_held(&f.childs);
        CHECK_EQ(routine_mutex_unlock(&f.childs), 0);
        act_end(other);
        CHECK_EQ(routine_mutex_unlock(&f.parents), 0);
    }
    chan_unref(f.there);
}

/* ---- unlocked on another thread ---- */

struct journey {
    routine_mutex_t m;
    routine_oneshot_t go_on;
    _Atomic int from, sent, arrived;
};

static void *travel(void *arg)
{
    struct journey *j = arg;
    CHECK_EQ(routine_mutex_lock(&j->m), 0);
    const int from = gettid();
    atomic_store(&j->from, from);
    CHECK_EQ(routine_oneshot_recv(&j->go_on, NULL), 0);
    CHECK(gettid() != from);
    check_held(&j->m);
    CHECK_EQ(routine_mutex_unlock(&j->m), 0);
    atomic_store(&j->arrived, 1);
    return NULL;
}

/* Once on the traveller's thread, stays there: so that the traveller goes on on another. */
static void *squat(void *arg)
{
    struct journey *j = arg;
    while (gettid() != atomic_load(&j->from)) {
        if (atomic_load(&j->sent))
            return NULL;
        routine_yield();
    }
    if (atomic_exchange(&j->sent, 1) != 0)
        return NULL;
    meddle(&j->m);
    CHECK_EQ(routine_oneshot_send(&j->go_on, NULL), 0);
    while (!atomic_load(&j->arrived))
        sched_yield();
    return NULL;
}

TEST(it_is_unlocked_on_another_thread_than_it_was_locked_on)
{
    routine_runtime_t *two = support_runtime(2);
    for (int i = 0; i < 20; i++) {
        struct journey j = {.m = ROUTINE_MUTEX_INITIALIZER};
        struct actor actors[4] = {act_on(two, travel, &j)};
        for (int k = 1; k < 4; k++)
            actors[k] = act_on(two, squat, &j);
        for (int k = 0; k < 4; k++)
            act_end(actors[k]);
        CHECK_EQ(routine_mutex_trylock(&j.m), 0);
        CHECK_EQ(routine_mutex_unlock(&j.m), 0);
    }
    support_runtime_end(two);
}

/* ---- the holder has ended: whoever uses its memory next is not the holder ---- */

static void *lock_and_end(void *arg)
{
    CHECK_EQ(routine_mutex_lock(arg), 0);
    return NULL;
}

static void *succeed(void *arg)
{
    routine_mutex_t m = ROUTINE_MUTEX_INITIALIZER;
    int same = 0;
    const routine_t holder = go(lock_and_end, &m);
    CHECK_EQ(routine_join(holder, NULL), 0);
    for (int i = 0; i < 100000 && same < 10; i++) {
        const routine_t h = go(meddle, &m);
        same += h.block == holder.block;
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    CHECK(same > 0);
    routine_mutex_init(&m);
    check_a_free_one(&m);
    return arg;
}

TEST(a_successor_is_not_the_holder)
{
    direct(succeed, NULL);

    routine_mutex_t m = ROUTINE_MUTEX_INITIALIZER;
    support_thread_join(support_thread(lock_and_end, &m), NULL);
    for (int i = 0; i < 50; i++)
        support_thread_join(support_thread(meddle, &m), NULL);
}

/* ---- exclusion ---- */

enum style { STRAIGHT, YIELDING, TRYING, STYLES };

struct tally {
    routine_mutex_t m;
    enum style style;
    long rounds;
    long count;
    int inside;
};

static void *add_up(void *arg)
{
    struct tally *t = arg;
    for (long i = 0; i < t->rounds; i++) {
        int rc;
        if (t->style == TRYING)
            while ((rc = routine_mutex_trylock(&t->m)) == -EBUSY)
                routine_yield();
        else
            rc = routine_mutex_lock(&t->m);
        CHECK_EQ(rc, 0);
        CHECK_EQ(t->inside++, 0);
        t->count++;
        if (t->style == YIELDING && i % 3 == 0)
            routine_yield();
        CHECK_EQ(--t->inside, 0);
        CHECK_EQ(routine_mutex_unlock(&t->m), 0);
    }
    return NULL;
}

TEST(one_at_a_time_of_routines)
{
    for (enum style style = 0; style < STYLES; style++) {
        struct tally t = {.style = style, .rounds = support_scale(style == STRAIGHT ? 200000 : 20000)};
        company(16, add_up, &t);
        CHECK_EQ(t.count, 16 * t.rounds);
    }
}

TEST(one_at_a_time_of_routines_and_threads)
{
    for (enum style style = 0; style < STYLES; style++) {
        struct tally t = {.style = style, .rounds = support_scale(style == STRAIGHT ? 50000 : 2000)};
        crowd(12, add_up, &t);
        CHECK_EQ(t.count, 12 * t.rounds);
    }
}

TEST(a_thousand_routines)
{
    struct tally t = {.style = YIELDING, .rounds = 20};
    company(1000, add_up, &t);
    CHECK_EQ(t.count, 1000 * t.rounds);
}

/* ---- the order of those who wait ---- */

struct line {
    routine_mutex_t m;
    int served;
    int order[1000];
};

struct place {
    struct line *line;
    int number;
    bool is_thread;
    struct sleeper sleeper;
};

static void *stand_in_line(void *arg)
{
    struct place *p = arg;
    if (p->is_thread)
        sleeper_here(&p->sleeper);
    CHECK_EQ(routine_mutex_lock(&p->line->m), 0);
    p->line->order[p->line->served++] = p->number;
    CHECK_EQ(routine_mutex_unlock(&p->line->m), 0);
    return NULL;
}

static void *serve_a_thousand(void *arg)
{
    enum { N = COUNT_OF(((struct line *)0)->order) };
    struct line *line = calloc(1, sizeof *line);
    struct place *places = calloc(N, sizeof *places);
    routine_t *h = calloc(N, sizeof *h);
    CHECK_EQ(routine_mutex_lock(&line->m), 0);
    for (int i = 0; i < N; i++) {
        places[i] = (struct place){.line = line, .number = i};
        h[i] = go(stand_in_line, &places[i]);
        await_parked(NULL, (uint64_t)i + 1);
        CHECK_EQ(routine_mutex_trylock(&line->m), -EBUSY);
    }
    CHECK_EQ(line->served, 0);
    CHECK_EQ(routine_mutex_unlock(&line->m), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(line->served, N);
    for (int i = 0; i < N; i++)
        CHECK_EQ(line->order[i], i);
    free(h);
    free(places);
    free(line);
    return arg;
}

TEST(first_come_first_served)
{
    direct(serve_a_thousand, NULL);
}

/* Every third one is a plain thread. */
static void *serve_all_kinds(void *arg)
{
    enum { N = 12 };
    struct line line = {.m = ROUTINE_MUTEX_INITIALIZER};
    struct place places[N];
    struct actor actors[N];
    bool known = true;
    uint64_t parked = 0;
    CHECK_EQ(routine_mutex_lock(&line.m), 0);
    for (int i = 0; i < N; i++) {
        places[i] = (struct place){.line = &line, .number = i, .is_thread = i % 3 == 1};
        actors[i] = act(places[i].is_thread, stand_in_line, &places[i]);
        if (places[i].is_thread)
            known &= await_asleep(&places[i].sleeper);
        else
            await_parked(NULL, ++parked);
    }
    CHECK_EQ(routine_mutex_unlock(&line.m), 0);
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
    CHECK_EQ(line.served, N);
    int last = -1;
    for (int i = 0; i < N; i++) {
        if (!known && places[line.order[i]].is_thread)
            continue; /* when it came is not known */
        CHECK(line.order[i] > last);
        last = line.order[i];
    }
    return arg;
}

TEST(first_come_first_served_with_threads)
{
    for (int i = 0; i < 10; i++)
        direct(serve_all_kinds, NULL);
}

/* ---- nobody starves ---- */

struct feast {
    routine_mutex_t m;
    bool hog_tries;
    _Atomic int left, number;
    long rounds, count;
    int served;
    int order[8]; /* in which each had its first */
};

static void burn(int64_t duration)
{
    for (const int64_t end = routine_now() + duration; routine_now() < end;)
        ;
}

/* Gives the mutex back for a moment only, and lets nobody else have the CPU, unless it cannot have the mutex.
 */
static void hog(struct feast *f, long most)
{
    for (long i = 0; i < most && atomic_load(&f->left) > 0; i++) {
        if (!f->hog_tries) {
            CHECK_EQ(routine_mutex_lock(&f->m), 0);
        } else if (routine_mutex_trylock(&f->m) != 0) {
            routine_yield();
            continue;
        }
        f->count++;
        burn(100 * ROUTINE_US);
        CHECK_EQ(routine_mutex_unlock(&f->m), 0);
    }
}

static void *run_hog(void *arg)
{
    hog(arg, LONG_MAX);
    return NULL;
}

static void *be_modest(void *arg)
{
    struct feast *f = arg;
    const int number = atomic_fetch_add(&f->number, 1);
    for (long i = 0; i < f->rounds; i++) {
        CHECK_EQ(routine_mutex_lock(&f->m), 0);
        f->count++;
        if (i == 0)
            f->order[f->served++] = number;
        CHECK_EQ(routine_mutex_unlock(&f->m), 0);
    }
    atomic_fetch_sub(&f->left, 1);
    return NULL;
}

/* On a single worker those who wait run only if the hog has to wait for them. */
static void *dine_alone(void *arg)
{
    enum { N = 5 };
    struct feast f = {.left = N, .rounds = 10, .hog_tries = arg != NULL};
    routine_t h[N];
    CHECK_EQ(routine_mutex_lock(&f.m), 0);
    for (int i = 0; i < N; i++) {
        h[i] = go(be_modest, &f);
        await_parked(NULL, (uint64_t)i + 1);
    }
    CHECK_EQ(routine_mutex_unlock(&f.m), 0);
    hog(&f, 50000); /* five seconds, where some 50 milliseconds would do */
    CHECK_EQ(atomic_load(&f.left), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(f.order[i], i);
    CHECK(f.count > N * f.rounds);
    return NULL;
}

TEST(a_routine_that_hogs_the_mutex_does_not_starve_those_of_its_worker)
{
    direct(dine_alone, NULL);
}

TEST(a_routine_that_hogs_the_mutex_by_trylock_does_not_starve_those_of_its_worker)
{
    int yes;
    direct(dine_alone, &yes);
}

TEST(a_thread_that_hogs_the_mutex_does_not_starve_routines)
{
    enum { N = 6 };
    struct feast f = {.left = N, .rounds = 10};
    routine_t h[N];
    for (int i = 0; i < N; i++)
        h[i] = go(be_modest, &f);
    hog(&f, LONG_MAX);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
}

TEST(a_routine_that_hogs_the_mutex_does_not_starve_others)
{
    enum { N = 6 };
    struct feast f = {.left = N, .rounds = 10};
    struct actor actors[N];
    routine_runtime_t *other = support_runtime(1);
    routine_t h = go(run_hog, &f);
    for (int i = 0; i < N; i++)
        actors[i] = i % 2 ? act_on(other, be_modest, &f) : act(true, be_modest, &f);
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
    CHECK_EQ(routine_join(h, NULL), 0);
    support_runtime_end(other);
}

/* Whoever has waited for longer than about a millisecond is served before others, the longest first: also
 * those who were woken in vain before. */
static void wait_longer(struct feast *f, routine_t *h, int n)
{
    f->left = n;
    f->rounds = 1;
    CHECK_EQ(routine_mutex_lock(&f->m), 0);
    for (int i = 0; i < n; i++) {
        h[i] = go(be_modest, f);
        await_parked(NULL, (uint64_t)i + 1);
    }
    burn(5 * ROUTINE_MS);
}

static void *dine_in_order(void *arg)
{
    enum { N = 8 };
    const long yields = *(const long *)arg;
    struct feast f = {.m = ROUTINE_MUTEX_INITIALIZER};
    routine_t h[N];
    wait_longer(&f, h, N);
    while (atomic_load(&f.left) > 0) {
        CHECK_EQ(routine_mutex_unlock(&f.m), 0);
        CHECK_EQ(routine_mutex_lock(&f.m), 0);
        for (long i = 0; i < yields; i++)
            routine_yield();
    }
    CHECK_EQ(routine_mutex_unlock(&f.m), 0);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(f.order[i], i);
        CHECK_EQ(routine_join(h[i], NULL), 0);
    }
    return arg;
}

TEST(who_has_waited_longest_is_served_first)
{
    for (long yields = 1; yields < 5; yields++)
        direct(dine_in_order, &yields);
}

/* The millisecond counts, not how often the mutex was taken meanwhile: whoever holds it for long each time
 * gets it a few times only before the one that waits. */
static void *dine_slowly(void *arg)
{
    enum { A_FEW = 4 };
    struct feast f = {.m = ROUTINE_MUTEX_INITIALIZER};
    routine_t h;
    int passed = -1; /* the last time it is taken others have had it */
    wait_longer(&f, &h, 1);
    for (; atomic_load(&f.left) > 0; passed++) {
        CHECK_EQ(routine_mutex_unlock(&f.m), 0);
        CHECK_EQ(routine_mutex_lock(&f.m), 0);
        burn(5 * ROUTINE_MS);
    }
    CHECK_EQ(routine_mutex_unlock(&f.m), 0);
    CHECK(passed <= A_FEW);
    CHECK_EQ(routine_join(h, NULL), 0);
    return arg;
}

TEST(long_sections_do_not_prolong_the_wait)
{
    direct(dine_slowly, NULL);
}

/* Several are woken in vain before one of them can run, since others come meanwhile and queue up: here
 * threads, while the worker of those woken is kept busy. */
struct latecomer {
    struct feast *feast;
    struct sleeper sleeper;
};

static void *come_late(void *arg)
{
    struct latecomer *l = arg;
    sleeper_here(&l->sleeper);
    CHECK_EQ(routine_mutex_lock(&l->feast->m), 0);
    CHECK_EQ(routine_mutex_unlock(&l->feast->m), 0);
    return NULL;
}

static void *watch(void *arg)
{
    await_asleep(arg);
    return NULL;
}

static void *dine_with_latecomers(void *arg)
{
    enum { N = 8, LATE = 5 };
    struct feast f = {.m = ROUTINE_MUTEX_INITIALIZER};
    struct latecomer late[LATE];
    pthread_t threads[LATE];
    routine_t h[N];
    wait_longer(&f, h, N);
    for (int i = 0; i < LATE; i++) {
        CHECK_EQ(routine_mutex_unlock(&f.m), 0);
        CHECK_EQ(routine_mutex_lock(&f.m), 0);
        late[i] = (struct latecomer){.feast = &f};
        threads[i] = support_thread(come_late, &late[i]);
        pthread_join(support_thread(watch, &late[i].sleeper), NULL); /* no routine runs meanwhile */
    }
    CHECK_EQ(routine_mutex_unlock(&f.m), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(f.order[i], i);
    for (int i = 0; i < LATE; i++)
        support_thread_join(threads[i], NULL);
    return arg;
}

TEST(those_woken_in_vain_keep_their_place)
{
    for (int i = 0; i < 5; i++)
        direct(dine_with_latecomers, NULL);
}

/* ---- free after the last unlock ---- */

struct shared {
    routine_mutex_t m;
    int users;
    long sum;
};

struct estate {
    struct shared **objects;
    _Atomic int *arrived;
    long rounds;
    int users;
    _Atomic int next;
};

/* The last user frees the object right after its unlock; another may just be leaving its own. */
static void *use_and_leave(void *arg)
{
    struct estate *e = arg;
    const int me = atomic_fetch_add(&e->next, 1);
    for (long round = 0; round < e->rounds; round++) {
        struct shared *o = e->objects[round];
        support_meet(&e->arrived[round], e->users);
        CHECK_EQ(routine_mutex_lock(&o->m), 0);
        o->sum += me + 1;
        if ((round + me) % 5 == 0)
            routine_yield();
        const bool last = --o->users == 0;
        const long sum = o->sum;
        CHECK_EQ(routine_mutex_unlock(&o->m), 0);
        if (last) {
            CHECK_EQ(sum, e->users * (e->users + 1) / 2);
            memset(o, 0x5a, sizeof *o);
            free(o);
        }
    }
    return NULL;
}

static void inherit(int users, long rounds, void (*all)(int n, routine_fn *fn, void *arg))
{
    struct estate e = {.rounds = rounds, .users = users};
    e.objects = calloc((size_t)rounds, sizeof *e.objects);
    e.arrived = calloc((size_t)rounds, sizeof *e.arrived);
    for (long i = 0; i < rounds; i++) {
        e.objects[i] = calloc(1, sizeof *e.objects[i]);
        e.objects[i]->users = users;
    }
    all(users, use_and_leave, &e);
    free(e.arrived);
    free(e.objects);
}

TEST(the_last_user_frees_it_after_unlock)
{
    inherit(2, support_scale(20000), company);
    inherit(4, support_scale(20000), company);
    inherit(2, support_scale(10000), crowd);
    inherit(6, support_scale(3000), crowd);
}

/* On the stack: the owner waits for its one helper by the mutex alone, and then the place is used for
 * something else. */
struct errand {
    routine_mutex_t m;
    bool done;
};

struct service {
    routine_oneshot_t offer;
    long rounds;
};

SUPPORT_NOINLINE static void have_it_done(struct service *s, long round)
{
    struct errand e = {.m = ROUTINE_MUTEX_INITIALIZER};
    CHECK_EQ(routine_oneshot_send(&s->offer, &e), 0);
    for (bool done = false; !done;) {
        int rc = 0;
        if (round % 2)
            CHECK_EQ(routine_mutex_lock(&e.m), 0);
        else
            rc = routine_mutex_trylock(&e.m);
        if (rc == 0) {
            done = e.done;
            CHECK_EQ(routine_mutex_unlock(&e.m), 0);
        }
        if (!done)
            routine_yield();
    }
    memset(&e, 0x5a, sizeof e);
    for (size_t i = 0; i < sizeof e; i++)
        CHECK_EQ(((unsigned char *)&e)[i], 0x5a);
}

SUPPORT_NOINLINE static void overwrite_the_stack(void)
{
    volatile unsigned char block[512];
    memset((void *)(uintptr_t)block, 0xa5, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        CHECK_EQ(block[i], 0xa5);
}

static void *master(void *arg)
{
    struct service *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        have_it_done(s, round);
        overwrite_the_stack();
    }
    return NULL;
}

static void *servant(void *arg)
{
    struct service *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        void *offer = NULL;
        CHECK_EQ(routine_oneshot_recv(&s->offer, &offer), 0);
        routine_oneshot_init(&s->offer);
        struct errand *e = offer;
        CHECK_EQ(routine_mutex_lock(&e->m), 0);
        e->done = true;
        if (round % 3 == 0)
            routine_yield();
        CHECK_EQ(routine_mutex_unlock(&e->m), 0);
    }
    return NULL;
}

TEST(a_mutex_on_the_stack_is_gone_after_the_last_unlock)
{
    for (int kinds = 0; kinds < 4; kinds++) {
        struct service s = {.rounds = support_scale(kinds == 0 ? 20000 : 2000)};
        struct actor a = act(kinds & 1, master, &s), b = act(kinds & 2, servant, &s);
        act_end(a);
        act_end(b);
    }
}

/* ---- several mutexes at once ---- */

enum { SEATS = 7 };

struct dinner {
    struct fork {
        routine_mutex_t m;
        long used;
        int hands;
    } forks[SEATS];
    long meals;
    _Atomic int next;
};

static void pick_up(struct fork *f)
{
    CHECK_EQ(routine_mutex_lock(&f->m), 0);
    CHECK_EQ(f->hands++, 0);
    f->used++;
}

static void put_down(struct fork *f)
{
    CHECK_EQ(--f->hands, 0);
    CHECK_EQ(routine_mutex_unlock(&f->m), 0);
}

static void *philosopher(void *arg)
{
    struct dinner *d = arg;
    const int me = atomic_fetch_add(&d->next, 1), other = (me + 1) % SEATS;
    struct fork *first = &d->forks[me < other ? me : other], *second = &d->forks[me < other ? other : me];
    for (long i = 0; i < d->meals; i++) {
        pick_up(first);
        if (i % 4 == 0)
            routine_yield();
        pick_up(second);
        if (i % 7 == 0)
            routine_yield();
        put_down(i % 2 ? first : second);
        put_down(i % 2 ? second : first);
    }
    return NULL;
}

TEST(philosophers)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct dinner d = {.meals = support_scale(mixed ? 1500 : 10000)};
        (mixed ? crowd : company)(SEATS, philosopher, &d);
        for (int i = 0; i < SEATS; i++)
            CHECK_EQ(d.forks[i].used, 2 * d.meals);
    }
}

/* Hand over hand along a chain: whoever enters it first is first everywhere. */
struct chain {
    struct link {
        routine_mutex_t m;
        long passed;
    } links[20];
    long walks;
};

static void *walk(void *arg)
{
    struct chain *c = arg;
    for (long i = 0; i < c->walks; i++) {
        CHECK_EQ(routine_mutex_lock(&c->links[0].m), 0);
        const long ticket = c->links[0].passed++;
        for (size_t k = 1; k < COUNT_OF(c->links); k++) {
            CHECK_EQ(routine_mutex_lock(&c->links[k].m), 0);
            CHECK_EQ(c->links[k].passed++, ticket);
            CHECK_EQ(routine_mutex_unlock(&c->links[k - 1].m), 0);
            if ((ticket + (long)k) % 50 == 0)
                routine_yield();
        }
        CHECK_EQ(routine_mutex_unlock(&c->links[COUNT_OF(c->links) - 1].m), 0);
    }
    return NULL;
}

TEST(hand_over_hand)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct chain c = {.walks = support_scale(mixed ? 150 : 1000)};
        (mixed ? crowd : company)(9, walk, &c);
        for (size_t k = 0; k < COUNT_OF(c.links); k++)
            CHECK_EQ(c.links[k].passed, 9 * c.walks);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mutex_however_it_was_initialised),
        cmocka_unit_test(static_ones),
        cmocka_unit_test(no_mutex),
        cmocka_unit_test(many_are_held_at_once),
        cmocka_unit_test(nobody_else_can_unlock_it),
        cmocka_unit_test(it_belongs_to_the_one_who_locked_it),
        cmocka_unit_test(it_is_held_over_whatever_blocks),
        cmocka_unit_test(it_is_held_while_waiting_for_another),
        cmocka_unit_test(it_is_unlocked_on_another_thread_than_it_was_locked_on),
        cmocka_unit_test(a_successor_is_not_the_holder),
        cmocka_unit_test(one_at_a_time_of_routines),
        cmocka_unit_test(one_at_a_time_of_routines_and_threads),
        cmocka_unit_test(a_thousand_routines),
        cmocka_unit_test(first_come_first_served),
        cmocka_unit_test(first_come_first_served_with_threads),
        cmocka_unit_test(a_routine_that_hogs_the_mutex_does_not_starve_those_of_its_worker),
        cmocka_unit_test(a_routine_that_hogs_the_mutex_by_trylock_does_not_starve_those_of_its_worker),
        cmocka_unit_test(a_thread_that_hogs_the_mutex_does_not_starve_routines),
        cmocka_unit_test(a_routine_that_hogs_the_mutex_does_not_starve_others),
        cmocka_unit_test(who_has_waited_longest_is_served_first),
        cmocka_unit_test(long_sections_do_not_prolong_the_wait),
        cmocka_unit_test(those_woken_in_vain_keep_their_place),
        cmocka_unit_test(the_last_user_frees_it_after_unlock),
        cmocka_unit_test(a_mutex_on_the_stack_is_gone_after_the_last_unlock),
        cmocka_unit_test(philosophers),
        cmocka_unit_test(hand_over_hand),
    };
    return cmocka_run_group_tests_name("mutex", tests, NULL, NULL);
}
