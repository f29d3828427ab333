/* SPDX-License-Identifier: MIT
 *
 * Tests of routine-local storage: the values of routines, of children in place and of
 * plain threads; destructors, which run as the ending routine itself and may
 * block; deleted keys whose index is used again; the limit.
 *
 * ctest: workers
 */
#include "support.h"

/* ---- values ---- */

static routine_key_t plain_key; /* without a destructor */

TEST_EVERYWHERE(each_has_its_own_value)
{
    int mine;
    CHECK(routine_getspecific(plain_key) == NULL);
    CHECK_EQ(routine_setspecific(plain_key, &mine), 0);
    CHECK(routine_getspecific(plain_key) == &mine);
    routine_yield();
    CHECK(routine_getspecific(plain_key) == &mine);
    CHECK_EQ(routine_setspecific(plain_key, NULL), 0);
    CHECK(routine_getspecific(plain_key) == NULL);
}

struct keeper {
    routine_key_t keys[5];
    int rounds;
};

static void *keep(void *arg)
{
    struct keeper *k = arg;
    int values[5];
    for (int i = 0; i < 5; i++) {
        CHECK(routine_getspecific(k->keys[i]) == NULL); /* a new one starts with none */
        CHECK_EQ(routine_setspecific(k->keys[i], &values[i]), 0);
    }
    for (int round = 0; round < k->rounds; round++) {
        for (int i = 0; i < 5; i++)
            CHECK(routine_getspecific(k->keys[i]) == &values[i]);
        routine_yield(); /* and perhaps on to another thread */
        const int at = round % 5;
        CHECK_EQ(routine_setspecific(k->keys[at], &values[at]), 0);
    }
    return NULL;
}

/* The values go with the routine, whatever thread it comes to. */
TEST_EVERYWHERE(values_stay_across_yields)
{
    enum { N = 20 };
    struct keeper k = {.rounds = 100};
    routine_t h[N];
    for (int i = 0; i < 5; i++)
        CHECK_EQ(routine_key_create(&k.keys[i], NULL), 0);
    for (int i = 0; i < N; i++)
        h[i] = go(keep, &k);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(routine_key_delete(k.keys[i]), 0);
}

static void *child_in_place(void *arg)
{
    int own;
    (void)arg;
    CHECK(routine_getspecific(plain_key) == NULL);
    CHECK_EQ(routine_setspecific(plain_key, &own), 0);
    routine_yield();
    CHECK(routine_getspecific(plain_key) == &own);
    return NULL;
}

static void *joiner_with_values(void *arg)
{
    int mine;
    (void)arg;
    CHECK(routine_getspecific(plain_key) == NULL);
    CHECK_EQ(routine_setspecific(plain_key, &mine), 0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_join(go(child_in_place, NULL), NULL), 0);
        CHECK(routine_getspecific(plain_key) == &mine);
    }
    return NULL;
}

TEST_EVERYWHERE(a_child_in_place_has_its_own)
{
    CHECK_EQ(routine_join(go(joiner_with_values, NULL), NULL), 0);
}

/* ---- destructors ---- */

struct record {
    _Atomic int destroyed;
    routine_t self; /* in the destructor */
    routine_oneshot_t gate;
};

static routine_key_t record_key;

static void destroy_record(void *value)
{
    struct record *r = value;
    r->self = routine_self();
    CHECK(routine_getspecific(record_key) == NULL); /* taken before the call, as with pthreads */
    atomic_fetch_add(&r->destroyed, 1);
}

static void *set_record(void *arg)
{
    CHECK_EQ(routine_setspecific(record_key, arg), 0);
    return NULL;
}

static void *set_record_and_exit(void *arg)
{
    set_record(arg);
    routine_exit(arg);
}

TEST_EVERYWHERE(the_destructor_runs_as_the_routine_itself)
{
    for (int i = 0; i < 200; i++) {
        struct record r;
        memset(&r, 0, sizeof r);
        routine_t h = go(i % 2 ? set_record : set_record_and_exit, &r);
        if (i % 3 == 0)
            WAIT_UNTIL(routine_is_finished(h));
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(atomic_load(&r.destroyed), 1); /* before the join returns */
        CHECK(support_same(r.self, h));
    }
}

TEST_EVERYWHERE(a_detached_one_has_them_too)
{
    struct record r;
    memset(&r, 0, sizeof r);
    CHECK_EQ(go_detached(set_record, &r), 0);
    WAIT_UNTIL(atomic_load(&r.destroyed) == 1);
}

static void *set_and_clear(void *arg)
{
    CHECK_EQ(routine_setspecific(record_key, arg), 0);
    CHECK_EQ(routine_setspecific(record_key, NULL), 0);
    return NULL;
}

TEST_EVERYWHERE(a_null_value_is_not_destroyed)
{
    struct record r;
    memset(&r, 0, sizeof r);
    CHECK_EQ(routine_join(go(set_and_clear, &r), NULL), 0);
    CHECK_EQ(atomic_load(&r.destroyed), 0);
}

static void *plain_thread_with_record(void *arg)
{
    return set_record(arg);
}

TEST_EVERYWHERE(threads_have_theirs_at_their_end)
{
    struct record r;
    memset(&r, 0, sizeof r);
    support_thread_join(support_thread(plain_thread_with_record, &r), NULL);
    CHECK_EQ(atomic_load(&r.destroyed), 1);
    CHECK(support_same(r.self, (routine_t){NULL, 0}));
}

static routine_key_t blocking_key;

static void *answer(void *arg)
{
    struct record *r = arg;
    CHECK_EQ(routine_oneshot_send(&r->gate, r), 0);
    return r;
}

static void destroy_and_block(void *value)
{
    struct record *r = value;
    void *got = NULL;
    const routine_t self = routine_self();
    routine_t h = go(answer, r);
    CHECK_EQ(routine_oneshot_recv(&r->gate, &got), 0);
    CHECK(got == r);
    routine_yield();
    CHECK_EQ(routine_join(h, &got), 0);
    CHECK(support_same(self, routine_self()));
    r->self = self;
    atomic_fetch_add(&r->destroyed, 1);
}

static void *set_blocking(void *arg)
{
    CHECK_EQ(routine_setspecific(blocking_key, arg), 0);
    return NULL;
}

static void *join_blocking(void *arg)
{
    struct record *r = arg;
    routine_t h = go(set_blocking, r);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(atomic_load(&r->destroyed), 1);
    CHECK(support_same(r->self, h));
    return NULL;
}

TEST_EVERYWHERE(destructors_may_block)
{
    for (int i = 0; i < 100; i++) {
        struct record r;
        memset(&r, 0, sizeof r);
        if (i % 10 == 0) {
            support_thread_join(support_thread(set_blocking, &r), NULL);
            CHECK_EQ(atomic_load(&r.destroyed), 1);
        } else if (i % 10 == 1) {
            CHECK_EQ(routine_join(go(join_blocking, &r), NULL), 0);
        } else {
            routine_t h = go(set_blocking, &r);
            CHECK_EQ(routine_join(h, NULL), 0);
            CHECK_EQ(atomic_load(&r.destroyed), 1);
            CHECK(support_same(r.self, h));
        }
    }
}

struct persistent {
    int calls;
    int stop_after;
};

static routine_key_t persistent_key;

static void destroy_and_set_again(void *value)
{
    struct persistent *p = value;
    if (++p->calls < p->stop_after)
        CHECK_EQ(routine_setspecific(persistent_key, p), 0);
}

static void *set_persistent(void *arg)
{
    CHECK_EQ(routine_setspecific(persistent_key, arg), 0);
    return NULL;
}

TEST_EVERYWHERE(destructors_are_repeated_up_to_four_times)
{
    for (int stop_after = 1; stop_after <= 6; stop_after++) {
        struct persistent p = {0, stop_after};
        CHECK_EQ(routine_join(go(set_persistent, &p), NULL), 0);
        CHECK_EQ(p.calls, stop_after < 4 ? stop_after : 4);
        p.calls = 0;
        support_thread_join(support_thread(set_persistent, &p), NULL);
        CHECK_EQ(p.calls, stop_after < 4 ? stop_after : 4);
    }
}

struct setter {
    _Atomic int *destroyed;
    const routine_key_t *keys;
    int count;
};

static void count_destroyed(void *value)
{
    atomic_fetch_add((_Atomic int *)value, 1);
}

static void *set_many(void *arg)
{
    const struct setter *s = arg;
    for (int i = 0; i < s->count; i++)
        CHECK_EQ(routine_setspecific(s->keys[i], (void *)s->destroyed), 0);
    for (int i = 0; i < s->count; i++)
        CHECK(routine_getspecific(s->keys[i]) == (void *)s->destroyed);
    return NULL;
}

/* Each is called once, in no order that is promised. */
TEST(every_key_has_its_destructor)
{
    static routine_key_t keys[50];
    _Atomic int destroyed = 0;
    struct setter s = {&destroyed, keys, 50};
    for (int i = 0; i < 50; i++)
        CHECK_EQ(routine_key_create(&keys[i], count_destroyed), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(routine_join(go(set_many, &s), NULL), 0);
        CHECK_EQ(atomic_load(&destroyed), 50 * (i + 1));
    }
    for (int i = 0; i < 50; i++)
        CHECK_EQ(routine_key_delete(keys[i]), 0);
}

/* ---- keys ---- */

struct deletion {
    routine_key_t key, next;
    _Atomic int destroyed;
    _Atomic int step;
};

static void *keeps_a_value_of_a_deleted_key(void *arg)
{
    struct deletion *d = arg;
    CHECK_EQ(routine_setspecific(d->key, (void *)&d->destroyed), 0);
    atomic_store(&d->step, 1);
    WAIT_UNTIL(atomic_load(&d->step) == 2);
    CHECK(routine_getspecific(d->key) == NULL);
    CHECK_EQ(routine_setspecific(d->key, d), -EINVAL);
    CHECK(routine_getspecific(d->next) == NULL); /* the same index, another generation */
    return NULL;
}

TEST(a_deleted_key_forgets_its_values)
{
    struct deletion d = {.destroyed = 0};
    CHECK_EQ(routine_key_create(&d.key, count_destroyed), 0);
    routine_t h = go(keeps_a_value_of_a_deleted_key, &d);
    WAIT_UNTIL(atomic_load(&d.step) == 1);
    CHECK_EQ(routine_key_delete(d.key), 0);
    CHECK_EQ(routine_key_delete(d.key), -EINVAL);
    bool same_index = false;
    routine_key_t keys[ROUTINE_KEYS_MAX];
    int n = 0;
    while (!same_index && n < ROUTINE_KEYS_MAX && routine_key_create(&keys[n], count_destroyed) == 0) {
        same_index = keys[n].index == d.key.index;
        CHECK(!same_index || keys[n].generation != d.key.generation);
        d.next = keys[n++];
    }
    CHECK(same_index);
    atomic_store(&d.step, 2);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(atomic_load(&d.destroyed), 0); /* no destructor, neither the old nor the new one */
    while (n > 0)
        CHECK_EQ(routine_key_delete(keys[--n]), 0);
}

TEST_EVERYWHERE(keys_that_do_not_exist)
{
    static const routine_key_t none[] = {
        {ROUTINE_KEYS_MAX, 1}, {UINT32_MAX, UINT32_MAX}, {UINT32_MAX, 0}, {1, UINT32_MAX}};
    for (size_t i = 0; i < COUNT_OF(none); i++) {
        CHECK(routine_getspecific(none[i]) == NULL);
        CHECK_EQ(routine_setspecific(none[i], none), -EINVAL);
        CHECK_EQ(routine_key_delete(none[i]), -EINVAL);
    }
}

TEST(there_can_be_128)
{
    static routine_key_t keys[ROUTINE_KEYS_MAX + 1];
    enum { STANDING = 4 }; /* those that main made */
    for (int round = 0; round < 50; round++) {
        _Atomic int destroyed = 0;
        int n = 0, rc = 0;
        while (n <= ROUTINE_KEYS_MAX && (rc = routine_key_create(&keys[n], NULL)) == 0)
            n++;
        CHECK_EQ(rc, -EAGAIN);
        CHECK_EQ(n, ROUTINE_KEYS_MAX - STANDING);
        struct setter all = {&destroyed, keys, n};
        CHECK_EQ(routine_join(go(set_many, &all), NULL), 0);
        set_many(&all);
        if (round % 2) {
            CHECK_EQ(routine_key_delete(keys[n / 2]), 0); /* a hole is found */
            CHECK_EQ(routine_key_create(&keys[n / 2], NULL), 0);
            CHECK(routine_getspecific(keys[n / 2]) == NULL);
        }
        for (int i = 0; i < n; i++)
            CHECK_EQ(routine_key_delete(keys[i]), 0);
        CHECK_EQ(atomic_load(&destroyed), 0);
    }
}

static void *churn_keys(void *arg)
{
    for (long i = 0; i < support_scale(3000); i++) {
        routine_key_t key;
        CHECK_EQ(routine_key_create(&key, i % 2 ? count_destroyed : NULL), 0);
        CHECK(routine_getspecific(key) == NULL);
        CHECK_EQ(routine_setspecific(key, arg), 0);
        CHECK(routine_getspecific(key) == arg);
        if (i % 8 == 0)
            routine_yield();
        CHECK(routine_getspecific(key) == arg);
        CHECK_EQ(routine_key_delete(key), 0);
        CHECK(routine_getspecific(key) == NULL);
    }
    return NULL;
}

/* Keys come and go in several places at once; a value never shows under somebody else's. */
TEST(keys_are_made_and_deleted_at_once)
{
    enum { N = 4 };
    _Atomic int destroyed[2 * N];
    pthread_t threads[N];
    routine_t routines[N];
    for (int i = 0; i < N; i++) {
        atomic_store(&destroyed[i], 0);
        atomic_store(&destroyed[N + i], 0);
        threads[i] = support_thread(churn_keys, (void *)&destroyed[i]);
        routines[i] = go(churn_keys, (void *)&destroyed[N + i]);
    }
    for (int i = 0; i < N; i++) {
        support_thread_join(threads[i], NULL);
        CHECK_EQ(routine_join(routines[i], NULL), 0);
    }
    for (int i = 0; i < 2 * N; i++)
        CHECK_EQ(atomic_load(&destroyed[i]), 0);
}

/* A thousand with values at once, woken together: whoever ends first destroys his own, no other's. */
static void *hold_record(void *arg)
{
    struct record *r = arg;
    set_record(r);
    CHECK_EQ(routine_oneshot_recv(&r->gate, NULL), 0);
    CHECK(routine_getspecific(record_key) == r);
    return NULL;
}

TEST(many_with_values)
{
    enum { N = 1000 };
    static struct record records[N];
    static routine_t h[N];
    memset(records, 0, sizeof records);
    for (int i = 0; i < N; i++)
        h[i] = go(hold_record, &records[i]);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_oneshot_send(&records[(i * 7) % N].gate, NULL), 0);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(atomic_load(&records[i].destroyed), 1);
        CHECK(support_same(records[i].self, h[i]));
    }
}

/* Somebody asks for the name while the routine sets its first local: the two have nothing to do with each
 * other. */
struct named {
    _Atomic int begun, stop;
    struct record record;
};

static void *set_first_local(void *arg)
{
    struct named *n = arg;
    atomic_store(&n->begun, 1);
    set_record(&n->record);
    WAIT_UNTIL(atomic_load(&n->stop));
    return NULL;
}

TEST_EVERYWHERE(the_name_while_locals_are_set)
{
    for (long i = 0; i < support_scale(500); i++) {
        struct named n;
        memset(&n, 0, sizeof n);
        const char *name = i % 2 ? "named" : NULL;
        routine_t h = go_with(&(routine_attr_t){.name = name}, set_first_local, &n);
        do {
            CHECK_STR(routine_name(h), i % 2 ? "named" : "");
            routine_yield();
        } while (!atomic_load(&n.begun));
        for (int k = 0; k < 10; k++)
            CHECK_STR(routine_name(h), i % 2 ? "named" : "");
        atomic_store(&n.stop, 1);
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK_EQ(atomic_load(&n.record.destroyed), 1);
    }
}

/* What main has set when it returns is in the way of nobody. */
static int case_values_at_exit(void)
{
    static struct record r;
    CHECK_EQ(routine_key_create(&record_key, destroy_record), 0);
    set_record(&r);
    CHECK_EQ(routine_join(go(set_record, &r), NULL), 0);
    return 0;
}

/* A thread that has nothing to do with routines uses keys before there is any runtime. */
static int case_before_any_runtime(void)
{
    static struct record r;
    CHECK_EQ(routine_key_create(&record_key, destroy_record), 0);
    CHECK(routine_getspecific(record_key) == NULL);
    support_thread_join(support_thread(plain_thread_with_record, &r), NULL);
    CHECK_EQ(atomic_load(&r.destroyed), 1);
    return 0;
}

TEST(in_fresh_processes)
{
    static struct support_result result;
    CASE_EXITS(&result, "values_at_exit", NULL, 0);
    CASE_EXITS(&result, "before_any_runtime", NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"values_at_exit", case_values_at_exit},
        {"before_any_runtime", case_before_any_runtime},
    };
    SUPPORT_CASES(cases);
    if (routine_key_create(&plain_key, NULL) != 0 || routine_key_create(&record_key, destroy_record) != 0 ||
        routine_key_create(&blocking_key, destroy_and_block) != 0 ||
        routine_key_create(&persistent_key, destroy_and_set_again) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_own_value),
        cmocka_unit_test(values_stay_across_yields),
        cmocka_unit_test(a_child_in_place_has_its_own),
        cmocka_unit_test(the_destructor_runs_as_the_routine_itself),
        cmocka_unit_test(a_detached_one_has_them_too),
        cmocka_unit_test(a_null_value_is_not_destroyed),
        cmocka_unit_test(threads_have_theirs_at_their_end),
        cmocka_unit_test(destructors_may_block),
        cmocka_unit_test(destructors_are_repeated_up_to_four_times),
        cmocka_unit_test(every_key_has_its_destructor),
        cmocka_unit_test(a_deleted_key_forgets_its_values),
        cmocka_unit_test(keys_that_do_not_exist),
        cmocka_unit_test(there_can_be_128),
        cmocka_unit_test(keys_are_made_and_deleted_at_once),
        cmocka_unit_test(many_with_values),
        cmocka_unit_test(the_name_while_locals_are_set),
        cmocka_unit_test(in_fresh_processes),
    };
    return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
