/* SPDX-License-Identifier: MIT
 *
 * Tests of the read-write lock of sync.h: every return code, that readers are inside together and
 * writers alone, who holds it, the order of arrival, that neither readers nor writers starve, and that
 * its memory is free after the last unlock. By routines of two runtimes and by plain threads.
 *
 * What the lock protects is plain memory here, so that ThreadSanitizer sees whether unlock and
 * lock order it.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/sync.h"

/* What the writer sees. */
static void check_held(routine_rwlock_t *l)
{
    CHECK_EQ(routine_rwlock_rdlock(l), -EDEADLK);
    CHECK_EQ(routine_rwlock_wrlock(l), -EDEADLK);
    CHECK_EQ(routine_rwlock_tryrdlock(l), -EBUSY);
    CHECK_EQ(routine_rwlock_trywrlock(l), -EBUSY);
}

/* What everybody else sees while somebody writes. */
static void *meddle(void *arg)
{
    routine_rwlock_t *l = arg;
    CHECK_EQ(routine_rwlock_tryrdlock(l), -EBUSY);
    CHECK_EQ(routine_rwlock_trywrlock(l), -EBUSY);
    CHECK_EQ(routine_rwlock_unlock(l), -EPERM);
    return NULL;
}

/* ---- return codes ---- */

static void check_a_free_one(routine_rwlock_t *l)
{
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(routine_rwlock_unlock(l), -EPERM);
        CHECK_EQ(routine_rwlock_wrlock(l), 0);
        check_held(l);
        check_held(l);
        CHECK_EQ(routine_rwlock_unlock(l), 0);
        CHECK_EQ(routine_rwlock_unlock(l), -EPERM);
        CHECK_EQ(routine_rwlock_rdlock(l), 0);
        CHECK_EQ(routine_rwlock_trywrlock(l), -EBUSY);
        CHECK_EQ(routine_rwlock_unlock(l), 0);
        CHECK_EQ(routine_rwlock_unlock(l), -EPERM);
        CHECK_EQ(routine_rwlock_tryrdlock(l), 0);
        CHECK_EQ(routine_rwlock_trywrlock(l), -EBUSY);
        CHECK_EQ(routine_rwlock_unlock(l), 0);
        CHECK_EQ(routine_rwlock_trywrlock(l), 0);
        check_held(l);
        CHECK_EQ(routine_rwlock_unlock(l), 0);
    }
}

TEST_EVERYWHERE(a_lock_however_it_was_initialised)
{
    routine_rwlock_t by_initialiser = ROUTINE_RWLOCK_INITIALIZER, zero, by_init;
    memset(&zero, 0, sizeof zero);
    memset(&by_init, 0xa5, sizeof by_init);
    routine_rwlock_init(&by_init);
    check_a_free_one(&by_initialiser);
    check_a_free_one(&zero);
    check_a_free_one(&by_init);

    CHECK_EQ(routine_rwlock_wrlock(&by_init), 0);
    routine_rwlock_init(&by_init); /* whatever it was before */
    check_a_free_one(&by_init);
}

static routine_rwlock_t at_file_scope = ROUTINE_RWLOCK_INITIALIZER;
static routine_rwlock_t in_bss;

TEST(static_ones)
{
    check_a_free_one(&at_file_scope);
    check_a_free_one(&in_bss);
}

TEST_EVERYWHERE(no_lock)
{
    CHECK_EQ(routine_rwlock_rdlock(NULL), -EINVAL);
    CHECK_EQ(routine_rwlock_wrlock(NULL), -EINVAL);
    CHECK_EQ(routine_rwlock_tryrdlock(NULL), -EINVAL);
    CHECK_EQ(routine_rwlock_trywrlock(NULL), -EINVAL);
    CHECK_EQ(routine_rwlock_unlock(NULL), -EINVAL);
}

/* ---- who holds it ---- */

TEST_EVERYWHERE(nobody_else_can_unlock_what_is_written)
{
    routine_rwlock_t l = ROUTINE_RWLOCK_INITIALIZER;
    routine_runtime_t *other = support_runtime(1);
    CHECK_EQ(routine_rwlock_wrlock(&l), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(routine_join(go(meddle, &l), NULL), 0); /* in place, unless somebody was faster */
        check_held(&l);
        routine_yield();
    }
    routine_t h = go(meddle, &l);
    WAIT_UNTIL(routine_is_finished(h)); /* not in place */
    CHECK_EQ(routine_join(h, NULL), 0);
    check_held(&l);
    act_end(act(true, meddle, &l));
    check_held(&l);
    act_end(act_on(other, meddle, &l));
    check_held(&l);
    CHECK_EQ(routine_rwlock_unlock(&l), 0);
    CHECK_EQ(routine_rwlock_unlock(&l), -EPERM);
    support_runtime_end(other);
}

struct holder {
    routine_rwlock_t l;
    routine_oneshot_t let_go;
    bool write;
    _Atomic int has;
};

static void *hold(void *arg)
{
    struct holder *holder = arg;
    CHECK_EQ((holder->write ? routine_rwlock_wrlock : routine_rwlock_rdlock)(&holder->l), 0);
    atomic_store(&holder->has, 1);
    CHECK_EQ(routine_oneshot_recv(&holder->let_go, NULL), 0);
    if (holder->write)
        check_held(&holder->l);
    CHECK_EQ(routine_rwlock_unlock(&holder->l), 0);
    return NULL;
}

TEST_EVERYWHERE(it_belongs_to_the_one_who_locked_it)
{
    routine_runtime_t *other = support_runtime(1);
    for (int kind = 0; kind < 6; kind++) {
        struct holder holder = {.l = ROUTINE_RWLOCK_INITIALIZER, .write = kind % 2};
        struct actor actor = kind / 2 == 2 ? act_on(other, hold, &holder) : act(kind / 2 == 1, hold, &holder);
        WAIT_UNTIL(atomic_load(&holder.has));
        if (holder.write) {
            meddle(&holder.l);
            CHECK_EQ(routine_join(go(meddle, &holder.l), NULL), 0);
        } else {
            CHECK_EQ(routine_rwlock_trywrlock(&holder.l), -EBUSY);
            CHECK_EQ(routine_rwlock_rdlock(&holder.l), 0);
            CHECK_EQ(routine_rwlock_unlock(&holder.l), 0);
            CHECK_EQ(routine_rwlock_trywrlock(&holder.l), -EBUSY); /* it still reads */
        }
        CHECK_EQ(routine_oneshot_send(&holder.let_go, NULL), 0);
        act_end(actor);
        CHECK_EQ(routine_rwlock_trywrlock(&holder.l), 0);
        check_held(&holder.l);
        CHECK_EQ(routine_rwlock_unlock(&holder.l), 0);
    }
    support_runtime_end(other);
}

static void *read_and_end(void *arg)
{
    CHECK_EQ(routine_rwlock_rdlock(arg), 0);
    return NULL;
}

/* Readers are only counted. */
TEST_EVERYWHERE(a_read_lock_may_be_released_by_another)
{
    routine_rwlock_t l = ROUTINE_RWLOCK_INITIALIZER;
    for (int i = 0; i < 4; i++)
        act_end(act(i % 2, read_and_end, &l));
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(routine_rwlock_trywrlock(&l), -EBUSY);
        CHECK_EQ(routine_rwlock_unlock(&l), 0);
    }
    CHECK_EQ(routine_rwlock_unlock(&l), -EPERM);
    CHECK_EQ(routine_rwlock_trywrlock(&l), 0);
    CHECK_EQ(routine_rwlock_unlock(&l), 0);
}

static void *write_and_end(void *arg)
{
    CHECK_EQ(routine_rwlock_wrlock(arg), 0);
    return NULL;
}

/* The writer has ended: whoever uses its memory next is not the writer. */
static void *succeed(void *arg)
{
    routine_rwlock_t l = ROUTINE_RWLOCK_INITIALIZER;
    int same = 0;
    const routine_t writer = go(write_and_end, &l);
    CHECK_EQ(routine_join(writer, NULL), 0);
    for (int i = 0; i < 100000 && same < 10; i++) {
        const routine_t h = go(meddle, &l);
        same += h.block == writer.block;
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    CHECK(same > 0);
    return arg;
}

TEST(a_successor_is_not_the_writer)
{
    direct(succeed, NULL);

    routine_rwlock_t l = ROUTINE_RWLOCK_INITIALIZER;
    support_thread_join(support_thread(write_and_end, &l), NULL);
    for (int i = 0; i < 50; i++)
        support_thread_join(support_thread(meddle, &l), NULL);
}

/* ---- readers together ---- */

struct meeting {
    routine_rwlock_t l;
    _Atomic int inside;
    int all;
};

static void *attend(void *arg)
{
    struct meeting *m = arg;
    CHECK_EQ(routine_rwlock_rdlock(&m->l), 0);
    atomic_fetch_add(&m->inside, 1);
    WAIT_UNTIL(atomic_load(&m->inside) == m->all); /* all of them are in */
    CHECK_EQ(routine_rwlock_trywrlock(&m->l), -EBUSY);
    CHECK_EQ(routine_rwlock_unlock(&m->l), 0);
    return NULL;
}

TEST(readers_meet_inside)
{
    struct meeting m = {.all = 300};
    company(m.all, attend, &m);
    CHECK_EQ(routine_rwlock_trywrlock(&m.l), 0);
    CHECK_EQ(routine_rwlock_unlock(&m.l), 0);

    for (int i = 0; i < 10; i++) {
        struct meeting mixed = {.all = 12};
        crowd(mixed.all, attend, &mixed);
        CHECK_EQ(routine_rwlock_trywrlock(&mixed.l), 0);
    }
}

/* ---- writers alone: a table whose rows must agree ---- */

enum { ROWS = 16 };

struct table {
    routine_rwlock_t l;
    bool trying;
    long rounds;
    long rows[ROWS];
    long writes;
    int writers; /* inside */
    _Atomic int readers;
    _Atomic int next;
};

static void lock_table(struct table *t, bool write)
{
    int rc;
    if (t->trying)
        while ((rc = (write ? routine_rwlock_trywrlock : routine_rwlock_tryrdlock)(&t->l)) == -EBUSY)
            routine_yield();
    else
        rc = (write ? routine_rwlock_wrlock : routine_rwlock_rdlock)(&t->l);
    CHECK_EQ(rc, 0);
}

static void write_table(struct table *t, bool yield)
{
    lock_table(t, true);
    CHECK_EQ(t->writers++, 0);
    CHECK_EQ(atomic_load(&t->readers), 0);
    t->writes++;
    for (int i = 0; i < ROWS; i++) {
        if (yield && i == ROWS / 2)
            routine_yield();
        CHECK_EQ(++t->rows[i], t->writes);
    }
    CHECK_EQ(atomic_load(&t->readers), 0);
    CHECK_EQ(--t->writers, 0);
    CHECK_EQ(routine_rwlock_unlock(&t->l), 0);
}

static void read_table(struct table *t, bool yield)
{
    lock_table(t, false);
    atomic_fetch_add(&t->readers, 1);
    CHECK_EQ(t->writers, 0);
    for (int i = 0; i < ROWS; i++) {
        if (yield && i == ROWS / 2)
            routine_yield();
        CHECK_EQ(t->rows[i], t->writes);
    }
    atomic_fetch_sub(&t->readers, 1);
    CHECK_EQ(routine_rwlock_unlock(&t->l), 0);
}

static void *use_table(void *arg)
{
    struct table *t = arg;
    uint64_t seed = 7919 + 104729 * (uint64_t)atomic_fetch_add(&t->next, 1);
    for (long i = 0; i < t->rounds; i++) {
        const uint64_t what = support_random(&seed);
        if (i % 4 == 0)
            write_table(t, what % 8 == 0);
        else
            read_table(t, what % 8 == 0);
    }
    return NULL;
}

TEST(writers_are_alone)
{
    for (int trying = 0; trying < 2; trying++) {
        struct table t = {.trying = trying, .rounds = support_scale(4 * 1500)};
        t.rounds -= t.rounds % 4;
        company(16, use_table, &t);
        CHECK_EQ(t.writes, 16 * t.rounds / 4);
    }
}

TEST(writers_are_alone_with_threads)
{
    for (int trying = 0; trying < 2; trying++) {
        struct table t = {.trying = trying, .rounds = support_scale(4 * 400)};
        t.rounds -= t.rounds % 4;
        crowd(9, use_table, &t);
        CHECK_EQ(t.writes, 9 * t.rounds / 4);
    }
}

/* ---- nobody starves ---- */

struct stream {
    routine_rwlock_t l;
    _Atomic int left; /* of those that the stream must not starve */
    _Atomic int roles;
    int few, all;
    bool few_write;
    long turns;
};

/* The first ones to come want it a few times; the others don't leave it alone until these have had it. */
static void *swim(void *arg)
{
    struct stream *s = arg;
    const int role = atomic_fetch_add(&s->roles, 1);
    const bool write = role < s->few ? s->few_write : !s->few_write;
    WAIT_UNTIL(atomic_load(&s->roles) == s->all);
    for (long i = 0; role < s->few ? i < s->turns : atomic_load(&s->left) > 0; i++) {
        CHECK_EQ((write ? routine_rwlock_wrlock : routine_rwlock_rdlock)(&s->l), 0);
        for (int k = 0; k < 3; k++)
            routine_yield(); /* so the readers overlap, and the writers queue */
        CHECK_EQ(routine_rwlock_unlock(&s->l), 0);
    }
    if (role < s->few)
        atomic_fetch_sub(&s->left, 1);
    return NULL;
}

TEST(a_stream_of_readers_does_not_starve_writers)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct stream s = {.few = 2, .left = 2, .all = 10, .few_write = true, .turns = support_scale(300)};
        (mixed ? crowd : company)(s.all, swim, &s);
        CHECK_EQ(atomic_load(&s.left), 0);
    }
}

TEST(a_stream_of_writers_does_not_starve_readers)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct stream s = {.few = 2, .left = 2, .all = 10, .few_write = false, .turns = support_scale(300)};
        (mixed ? crowd : company)(s.all, swim, &s);
        CHECK_EQ(atomic_load(&s.left), 0);
    }
}

/* ---- the order of arrival ---- */

enum { LINE = 40 };

struct line {
    routine_rwlock_t l;
    int groups, sizes[LINE];
    _Atomic int inside[LINE]; /* of each group, how many have come in */
    _Atomic int left;         /* how many have left, of all */
};

struct place {
    struct line *line;
    bool write, is_thread;
    int group;  /* a writer is one by itself; readers that come one after the other are one together */
    int before; /* how many are in earlier groups */
    struct sleeper sleeper;
};

/* A group comes in when all before it have left, and readers leave when their group is complete. */
static void *stand_in_line(void *arg)
{
    struct place *p = arg;
    struct line *line = p->line;
    if (p->is_thread)
        sleeper_here(&p->sleeper);
    CHECK_EQ((p->write ? routine_rwlock_wrlock : routine_rwlock_rdlock)(&line->l), 0);
    CHECK_EQ(atomic_load(&line->left), p->before);
    atomic_fetch_add(&line->inside[p->group], 1);
    WAIT_UNTIL(atomic_load(&line->inside[p->group]) == line->sizes[p->group]);
    routine_yield();
    CHECK_EQ(atomic_load(&line->inside[p->group]), line->sizes[p->group]);
    atomic_fetch_add(&line->left, 1);
    CHECK_EQ(routine_rwlock_unlock(&line->l), 0);
    return NULL;
}

struct pattern {
    uint64_t seed;
    int threads;      /* every so many a thread; 0: none */
    bool first_reads; /* what the director does while they come */
};

static void *serve(void *arg)
{
    struct pattern *pattern = arg;
    struct line *line = calloc(1, sizeof *line);
    struct place *places = calloc(LINE, sizeof *places);
    struct actor actors[LINE];
    const int n = pattern->threads ? LINE / 4 : LINE;
    uint64_t parked = 0;
    int complete = 0; /* how many are in groups before the present one */
    CHECK_EQ((pattern->first_reads ? routine_rwlock_rdlock : routine_rwlock_wrlock)(&line->l), 0);
    for (int i = 0; i < n; i++) {
        struct place *p = &places[i];
        *p = (struct place){.line = line};
        p->write = support_random(&pattern->seed) % 3 == 0 || (i == 0 && pattern->first_reads);
        p->is_thread = pattern->threads && i % pattern->threads == 1;
        if (i > 0 && (p->write || places[i - 1].write)) {
            complete += line->sizes[line->groups];
            line->groups++;
        }
        p->group = line->groups;
        p->before = complete;
        line->sizes[p->group]++;
        actors[i] = act(p->is_thread, stand_in_line, p);
        if (p->is_thread)
            CHECK(await_asleep(&p->sleeper));
        else
            await_parked(NULL, ++parked);
        if (pattern->first_reads)
            CHECK_EQ(routine_rwlock_tryrdlock(&line->l), -EBUSY); /* a writer waits */
    }
    CHECK_EQ(atomic_load(&line->inside[0]), 0);
    CHECK_EQ(routine_rwlock_unlock(&line->l), 0);
    for (int i = 0; i < n; i++)
        act_end(actors[i]);
    CHECK_EQ(atomic_load(&line->left), n);
    CHECK_EQ(routine_rwlock_trywrlock(&line->l), 0);
    free(places);
    free(line);
    return NULL;
}

TEST(first_come_first_served_and_readers_together)
{
    struct pattern pattern = {.seed = 88172645463325252u};
    for (int i = 0; i < 20; i++) {
        pattern.first_reads = i % 2;
        direct(serve, &pattern);
    }
}

TEST(first_come_first_served_with_threads)
{
    struct pattern pattern = {.seed = 362436069, .threads = 3};
    for (int i = 0; i < 10 && !support_slow(); i++) { /* there it is not known when a thread waits */
        pattern.first_reads = i % 2;
        direct(serve, &pattern);
    }
}

/* A reader that comes back at once finds the writer before it, and the other way round. */
struct revolving {
    routine_rwlock_t l;
    _Atomic int passed;
    bool write;
};

static void *pass_through(void *arg)
{
    struct revolving *r = arg;
    CHECK_EQ((r->write ? routine_rwlock_wrlock : routine_rwlock_rdlock)(&r->l), 0);
    atomic_fetch_add(&r->passed, 1);
    CHECK_EQ(routine_rwlock_unlock(&r->l), 0);
    return NULL;
}

static void *revolve(void *arg)
{
    for (int write = 0; write < 2; write++) {
        struct revolving r = {.l = ROUTINE_RWLOCK_INITIALIZER, .write = write};
        int (*const take)(routine_rwlock_t *) = write ? routine_rwlock_rdlock : routine_rwlock_wrlock;
        CHECK_EQ(take(&r.l), 0);
        for (int i = 1; i <= 50; i++) {
            routine_t h = go(pass_through, &r);
            await_parked(NULL, 1);
            CHECK_EQ(atomic_load(&r.passed), i - 1);
            CHECK_EQ(routine_rwlock_unlock(&r.l), 0);
            CHECK_EQ(take(&r.l), 0);
            CHECK_EQ(atomic_load(&r.passed), i);
            CHECK_EQ(routine_join(h, NULL), 0);
        }
        CHECK_EQ(routine_rwlock_unlock(&r.l), 0);
    }
    return arg;
}

TEST(who_comes_back_at_once_is_behind_those_who_waited)
{
    direct(revolve, NULL);
}

/* Readers come and go while a writer waits for one of them: what remains is what it waits for. */
struct siege {
    routine_rwlock_t l;
    routine_oneshot_t let_go[2];
    _Atomic int inside, written;
    _Atomic int next;
};

static void *besieged_reader(void *arg)
{
    struct siege *s = arg;
    const int me = atomic_fetch_add(&s->next, 1);
    CHECK_EQ(routine_rwlock_rdlock(&s->l), 0);
    atomic_fetch_add(&s->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&s->let_go[me], NULL), 0);
    CHECK_EQ(atomic_load(&s->written), 0);
    CHECK_EQ(routine_rwlock_unlock(&s->l), 0);
    atomic_fetch_sub(&s->inside, 1);
    return NULL;
}

static void *besieging_writer(void *arg)
{
    struct siege *s = arg;
    CHECK_EQ(routine_rwlock_wrlock(&s->l), 0);
    atomic_fetch_add(&s->written, 1);
    CHECK_EQ(routine_rwlock_unlock(&s->l), 0);
    return NULL;
}

static void *lay_siege(void *arg)
{
    struct siege s = {.l = ROUTINE_RWLOCK_INITIALIZER};
    routine_t readers[2] = {go(besieged_reader, &s), go(besieged_reader, &s)};
    WAIT_UNTIL(atomic_load(&s.inside) == 2);
    await_parked(NULL, 2);
    routine_t writer = go(besieging_writer, &s);
    await_parked(NULL, 3);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(atomic_load(&s.written), 0);
        CHECK_EQ(routine_rwlock_tryrdlock(&s.l), -EBUSY);
        CHECK_EQ(routine_rwlock_trywrlock(&s.l), -EBUSY);
        CHECK_EQ(routine_oneshot_send(&s.let_go[i], NULL), 0);
        WAIT_UNTIL(atomic_load(&s.inside) == 1 - i);
    }
    CHECK_EQ(routine_join(writer, NULL), 0);
    CHECK_EQ(atomic_load(&s.written), 1);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(routine_join(readers[i], NULL), 0);
    return arg;
}

TEST(a_writer_waits_for_the_last_reader)
{
    for (int i = 0; i < 10; i++)
        direct(lay_siege, NULL);
}

/* ---- free after the last unlock ---- */

struct shared {
    routine_rwlock_t l;
    _Atomic int readers;
    routine_oneshot_t all_in;
    long value;
    int users;
};

struct estate {
    struct shared **objects;
    _Atomic int *arrived;
    long rounds;
    int users;
    _Atomic int next;
};

static void discard(struct shared *o)
{
    memset(o, 0x5a, sizeof *o);
    free(o);
}

/* By turns all of them write, and the last one frees it; or one of them writes, when all others have come
 * in to read: it is let through when the last one leaves, and frees it then. */
static void *use_and_leave(void *arg)
{
    struct estate *e = arg;
    const int me = atomic_fetch_add(&e->next, 1);
    for (long round = 0; round < e->rounds; round++) {
        struct shared *o = e->objects[round];
        support_meet(&e->arrived[round], e->users);
        if (round % 2) {
            CHECK_EQ(routine_rwlock_wrlock(&o->l), 0);
            if ((round + me) % 5 == 0)
                routine_yield();
            const bool last = --o->users == 0;
            CHECK_EQ(routine_rwlock_unlock(&o->l), 0);
            if (last)
                discard(o);
        } else if (round / 2 % e->users == me) {
            CHECK_EQ(routine_oneshot_recv(&o->all_in, NULL), 0);
            CHECK_EQ(routine_rwlock_wrlock(&o->l), 0);
            CHECK_EQ(o->value, round);
            CHECK_EQ(routine_rwlock_unlock(&o->l), 0);
            discard(o);
        } else {
            CHECK_EQ(routine_rwlock_rdlock(&o->l), 0);
            CHECK_EQ(o->value, round);
            if (atomic_fetch_add(&o->readers, 1) + 1 == e->users - 1)
                CHECK_EQ(routine_oneshot_send(&o->all_in, NULL), 0);
            if ((round + me) % 3 == 0)
                routine_yield();
            CHECK_EQ(routine_rwlock_unlock(&o->l), 0);
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
        e.objects[i]->value = i;
    }
    all(users, use_and_leave, &e);
    free(e.arrived);
    free(e.objects);
}

TEST(the_last_user_frees_it_after_unlock)
{
    inherit(3, support_scale(20000), company);
    inherit(5, support_scale(10000), company);
    inherit(3, support_scale(4000), crowd);
    inherit(6, support_scale(2000), crowd);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_however_it_was_initialised),
        cmocka_unit_test(static_ones),
        cmocka_unit_test(no_lock),
        cmocka_unit_test(nobody_else_can_unlock_what_is_written),
        cmocka_unit_test(it_belongs_to_the_one_who_locked_it),
        cmocka_unit_test(a_read_lock_may_be_released_by_another),
        cmocka_unit_test(a_successor_is_not_the_writer),
        cmocka_unit_test(readers_meet_inside),
        cmocka_unit_test(writers_are_alone),
        cmocka_unit_test(writers_are_alone_with_threads),
        cmocka_unit_test(a_stream_of_readers_does_not_starve_writers),
        cmocka_unit_test(a_stream_of_writers_does_not_starve_readers),
        cmocka_unit_test(first_come_first_served_and_readers_together),
        cmocka_unit_test(first_come_first_served_with_threads),
        cmocka_unit_test(who_comes_back_at_once_is_behind_those_who_waited),
        cmocka_unit_test(a_writer_waits_for_the_last_reader),
        cmocka_unit_test(the_last_user_frees_it_after_unlock),
    };
    return cmocka_run_group_tests_name("rwlock", tests, NULL, NULL);
}
