/* SPDX-License-Identifier: MIT
 *
 * Tests of routine.h, from the outside: go and its companions, join, detach, yield,
 * exit, handles, names, ids; in routines and in plain threads; on stacks of their own
 * and in place on the joiner's. Wrong use is in misuse_test.c, cancelling in
 * cancel_test.c, locals in local_test.c.
 *
 * What a routine hands over to its joiner is plain memory here, so that ThreadSanitizer
 * sees whether go and join order it.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "support.h"

/* ---- go and join ---- */

struct pair {
    int in;
    int out;
};

static void *square(void *arg)
{
    struct pair *p = arg;
    p->out = p->in * p->in;
    return p;
}

static void *nothing(void *arg)
{
    return arg;
}

static void *count(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
}

TEST_EVERYWHERE(join_delivers_what_the_function_returned)
{
    struct pair p = {7, 0};
    void *result = NULL;
    CHECK_EQ(routine_join(go(square, &p), &result), 0);
    CHECK(result == &p);
    CHECK_EQ(p.out, 49);
    CHECK_EQ(routine_join(go(nothing, NULL), &result), 0);
    CHECK(result == NULL);
}

TEST_EVERYWHERE(the_result_may_be_ignored)
{
    struct pair p = {3, 0};
    CHECK_EQ(routine_join(go(square, &p), NULL), 0);
    CHECK_EQ(p.out, 9);
    CHECK_EQ(routine_run(square, &p, NULL), 0);
}

TEST_EVERYWHERE(many_are_joined_in_any_order)
{
    enum { N = 300 };
    static const int strides[] = {1, 7, 299}; /* 299: backwards */
    for (size_t s = 0; s < COUNT_OF(strides); s++) {
        struct pair pairs[N];
        routine_t handles[N];
        for (int i = 0; i < N; i++) {
            pairs[i] = (struct pair){i, -1};
            handles[i] = go(square, &pairs[i]);
        }
        for (int i = 0; i < N; i++) {
            const int at = i * strides[s] % N;
            void *result = NULL;
            CHECK_EQ(routine_join(handles[at], &result), 0);
            CHECK(result == &pairs[at]);
            CHECK_EQ(pairs[at].out, at * at);
        }
    }
}

static void *fib(void *arg)
{
    const uintptr_t n = (uintptr_t)arg;
    if (n < 2)
        return arg;
    void *a = NULL, *b = NULL;
    routine_t ha = go(fib, (void *)(n - 1)), hb = go(fib, (void *)(n - 2));
    CHECK_EQ(routine_join(ha, &a), 0);
    CHECK_EQ(routine_join(hb, &b), 0);
    return (void *)((uintptr_t)a + (uintptr_t)b);
}

TEST_EVERYWHERE(a_tree_of_routines_adds_up)
{
    void *result = NULL;
    CHECK_EQ(routine_join(go(fib, (void *)(uintptr_t)(support_slow() ? 12 : 18)), &result), 0);
    CHECK_EQ((uintptr_t)result, support_slow() ? 144 : 2584);
}

/* ---- go_with ---- */

static void *name_inside(void *arg)
{
    char *out = arg;
    snprintf(out, 128, "%s", routine_name(routine_self()));
    return NULL;
}

TEST_EVERYWHERE(a_name_is_copied_and_lasts_until_the_join)
{
    char source[] = "a name that is somewhat longer than a thread's could be";
    char inside[128] = "";
    routine_t h = go_with(&(routine_attr_t){.name = source}, name_inside, inside);
    memset(source, 'x', sizeof source - 1);
    CHECK_STR(routine_name(h), "a name that is somewhat longer than a thread's could be");
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_STR(routine_name(h), "a name that is somewhat longer than a thread's could be");
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_STR(inside, "a name that is somewhat longer than a thread's could be");
    CHECK_STR(routine_name(h), "");
}

TEST_EVERYWHERE(without_a_name_it_is_empty)
{
    char inside[128] = "?";
    routine_t h = go(name_inside, inside);
    CHECK_STR(routine_name(h), "");
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_STR(inside, "");
    h = go_with(&(routine_attr_t){0}, name_inside, inside);
    CHECK_STR(routine_name(h), "");
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_STR(routine_name((routine_t){NULL, 0}), "");
}

static void *use_stack(void *arg)
{
    const size_t size = *(size_t *)arg;
    CHECK_EQ(support_use_stack(size), (size + 511) / 512);
    return arg;
}

/* A frame of the test's own and what alloca adds. */
#define FRAMES ((size_t)4096)

TEST_EVERYWHERE(the_stack_asked_for_can_be_used)
{
    static const size_t sizes[] = {1,         20 << 10,  64 << 10, 100 << 10, 128 << 10, 129 << 10,
                                   200 << 10, 256 << 10, 1 << 20,  64 << 20,  255 << 10, 0};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        const size_t promised = sizes[i] == 0 ? 128 << 10 : sizes[i] < 16 << 10 ? 16 << 10 : sizes[i];
        size_t use = promised - FRAMES;
        void *result = NULL;
        routine_t h = go_with(&(routine_attr_t){.stack_size = sizes[i]}, use_stack, &use);
        CHECK_EQ(routine_join(h, &result), 0);
        CHECK(result == &use);
    }
}

static void *where_am_i(void *arg)
{
    routine_runtime_t **seen = arg;
    seen[0] = routine_runtime_current();
    void *grandchild = NULL;
    if (seen[1] == NULL) {
        routine_runtime_t *below[2] = {NULL, seen[0]};
        CHECK_EQ(routine_join(go(where_am_i, below), &grandchild), 0);
        CHECK(below[0] == seen[0]); /* go inside stays in the runtime */
    }
    return NULL;
}

TEST_EVERYWHERE(a_routine_runs_where_it_was_told)
{
    routine_runtime_t *other = support_runtime(2);
    routine_runtime_t *seen[2] = {NULL, NULL};
    CHECK_EQ(routine_join(support_go_on(other, where_am_i, seen), NULL), 0);
    CHECK(seen[0] == other);
    seen[0] = NULL;
    CHECK_EQ(routine_join(go(where_am_i, seen), NULL), 0);
    CHECK(seen[0] == routine_runtime_default());
    support_runtime_end(other);
}

/* ---- go_copy ---- */

struct closure {
    int *out;
    int a, b;
};

static void *add(void *arg)
{
    struct closure *c = arg;
    CHECK_EQ((uintptr_t)arg % 16, 0);
    *c->out = c->a + c->b;
    c->a = c->b = -1; /* its own copy */
    return NULL;
}

TEST_EVERYWHERE(a_closure_is_a_copy)
{
    int sum[3] = {0, 0, 0};
    struct closure c = {&sum[0], 1, 2};
    routine_t first = go_copy(add, c);
    c = (struct closure){&sum[1], 10, 20};
    routine_t second = go_copy(add, c);
    routine_t third = go_copy(add, ((struct closure){&sum[2], 100, 200}));
    memset(&c, 0, sizeof c);
    CHECK_EQ(routine_join(third, NULL), 0);
    CHECK_EQ(routine_join(first, NULL), 0);
    CHECK_EQ(routine_join(second, NULL), 0);
    CHECK_EQ(sum[0], 3);
    CHECK_EQ(sum[1], 30);
    CHECK_EQ(sum[2], 300);
    CHECK(c.out == NULL && c.a == 0);
}

static void *sum_bytes(void *arg)
{
    const unsigned char *bytes = arg;
    uintptr_t sum = 0;
    CHECK_EQ((uintptr_t)arg % 16, 0);
    size_t size;
    memcpy(&size, bytes, sizeof size);
    for (size_t i = sizeof size; i < size; i++)
        sum += bytes[i];
    memset(arg, 0xee, size);
    return (void *)sum;
}

TEST_EVERYWHERE(a_closure_may_have_any_size)
{
    static const size_t sizes[] = {8, 9, 15, 16, 17, 111, 112, 113, 128, 1000, 4096, 100000};
    unsigned char *object = malloc(100000);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        routine_t h[3];
        uintptr_t expected[3] = {0, 0, 0};
        for (unsigned k = 0; k < 3; k++) {
            memset(object, 0, 100000);
            memcpy(object, &sizes[i], sizeof sizes[i]);
            for (size_t at = sizeof sizes[i]; at < sizes[i]; at++)
                expected[k] += object[at] = (unsigned char)(at * 31 + k);
            h[k] = routine_go_copy_at(ROUTINES_HERE, sum_bytes, object, sizes[i]);
        }
        memset(object, 0, 100000);
        for (int k = 0; k < 3; k++) {
            void *sum = NULL;
            CHECK_EQ(routine_join(h[k], &sum), 0);
            CHECK_EQ((uintptr_t)sum, expected[k]);
        }
    }
    free(object);
}

/* Copies are released with their routine: 20,000 of 64 KiB would be more than a gigabyte. */
TEST(closures_are_released)
{
    static unsigned char object[64 << 10];
    const size_t size = sizeof object;
    memcpy(object, &size, sizeof size);
    const long before = support_resident();
    for (long i = 0; i < support_scale(20000); i++)
        CHECK_EQ(routine_join(go_copy(sum_bytes, object), NULL), 0);
    if (!support_slow())
        CHECK(support_resident() - before < 256 << 20);
}

/* ---- detached ---- */

TEST_EVERYWHERE(detached_ones_run)
{
    _Atomic int done = 0;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(go_detached(count, (void *)&done), 0);
    WAIT_UNTIL(atomic_load(&done) == 100);
}

struct gate {
    routine_oneshot_t open;
    _Atomic int inside, passed;
};

static void *wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    void *value = NULL;
    atomic_fetch_add(&gate->inside, 1);
    CHECK_EQ(routine_oneshot_recv(&gate->open, &value), 0);
    CHECK(value == gate);
    atomic_fetch_add(&gate->passed, 1);
    return value;
}

TEST_EVERYWHERE(detach_before_and_after_the_end)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t h = go_with(&(routine_attr_t){.name = "at the gate"}, wait_at_gate, &gate);
    CHECK_EQ(routine_detach(h), 0); /* perhaps not begun */
    CHECK_STR(routine_name(h), "at the gate");
    WAIT_UNTIL(atomic_load(&gate.inside) == 1);
    CHECK(!routine_is_finished(h));
    CHECK_STR(routine_name(h), "at the gate");
    CHECK_EQ(routine_oneshot_send(&gate.open, &gate), 0);
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_EQ(atomic_load(&gate.passed), 1);

    routine_oneshot_init(&gate.open);
    h = go(wait_at_gate, &gate);
    WAIT_UNTIL(atomic_load(&gate.inside) == 2);
    CHECK_EQ(routine_detach(h), 0); /* while it waits */
    CHECK_EQ(routine_oneshot_send(&gate.open, &gate), 0);
    WAIT_UNTIL(atomic_load(&gate.passed) == 2);

    _Atomic int done = 0;
    h = go(count, (void *)&done);
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_EQ(atomic_load(&done), 1);
    CHECK_EQ(routine_detach(h), 0);
    CHECK_EQ(routine_detach(h), -ESRCH);
}

/* A routine may detach itself. */
static void *detach_self(void *arg)
{
    const routine_t self = routine_self();
    CHECK_EQ(routine_detach(self), 0);
    CHECK_EQ(routine_detach(self), -ESRCH);
    CHECK(support_same(self, routine_self()));
    CHECK(!routine_is_finished(self));
    atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
}

TEST_EVERYWHERE(a_routine_detaches_itself)
{
    _Atomic int done = 0;
    routine_t h = go(detach_self, (void *)&done);
    WAIT_UNTIL(atomic_load(&done) == 1);
    CHECK_EQ(routine_join(h, NULL), -ESRCH);
}

/* ---- try_join, is_finished ---- */

TEST_EVERYWHERE(try_join_does_not_wait)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    void *result = &result;
    routine_t h = go(wait_at_gate, &gate);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(routine_try_join(h, &result), -EAGAIN);
        CHECK(!routine_is_finished(h));
        routine_yield();
    }
    WAIT_UNTIL(atomic_load(&gate.inside) == 1);
    CHECK_EQ(routine_try_join(h, &result), -EAGAIN);
    CHECK(result == &result); /* untouched */
    CHECK_EQ(routine_oneshot_send(&gate.open, &gate), 0);
    int rc;
    while ((rc = routine_try_join(h, &result)) == -EAGAIN)
        routine_yield();
    CHECK_EQ(rc, 0);
    CHECK(result == &gate);
    CHECK_EQ(atomic_load(&gate.passed), 1);
    CHECK_EQ(routine_try_join(h, &result), -ESRCH);
    CHECK(routine_is_finished(h));
}

TEST_EVERYWHERE(a_failed_try_join_leaves_the_join_possible)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    void *result = NULL;
    routine_t h = go(wait_at_gate, &gate);
    CHECK_EQ(routine_try_join(h, NULL), -EAGAIN);
    CHECK_EQ(routine_oneshot_send(&gate.open, &gate), 0);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == &gate);
}

TEST_EVERYWHERE(finished_says_what_is_so)
{
    struct pair p = {5, 0};
    CHECK(routine_is_finished((routine_t){NULL, 0}));
    routine_t h = go(square, &p);
    WAIT_UNTIL(routine_is_finished(h));
    CHECK_EQ(p.out, 25); /* and what it did is seen */
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK(routine_is_finished(h));
}

/* ---- self and id ---- */

static void *return_self(void *arg)
{
    *(routine_t *)arg = routine_self();
    return NULL;
}

TEST_EVERYWHERE(self_is_the_handle)
{
    routine_t self = {NULL, 0};
    const routine_t mine = routine_self();
    for (int i = 0; i < 50; i++) {
        routine_t h = go(return_self, &self);
        if (i % 2)
            WAIT_UNTIL(routine_is_finished(h)); /* not in place */
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK(support_same(self, h));
        CHECK(routine_id(h) != 0);
        CHECK_EQ(routine_id(h), routine_id(self));
        CHECK(support_same(routine_self(), mine));
    }
}

TEST(a_plain_thread_has_no_self)
{
    CHECK(support_same(routine_self(), (routine_t){NULL, 0}));
    CHECK_EQ(routine_id(routine_self()), 0);
    CHECK(routine_runtime_current() == NULL);
    CHECK_EQ(routine_check(), 0);
    routine_yield();
}

static uint64_t *ids;
static _Atomic size_t id_count;

static void *collect_ids(void *arg)
{
    const uintptr_t depth = (uintptr_t)arg;
    ids[atomic_fetch_add(&id_count, 1)] = routine_id(routine_self());
    if (depth == 0)
        return NULL;
    routine_t a = go(collect_ids, (void *)(depth - 1)), b = go(collect_ids, (void *)(depth - 1));
    if (depth % 3 == 0)
        routine_yield();
    CHECK_EQ(routine_join(depth % 2 ? a : b, NULL), 0);
    CHECK_EQ(routine_join(depth % 2 ? b : a, NULL), 0);
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *collect_from_thread(void *arg)
{
    CHECK_EQ(routine_join(go(collect_ids, arg), NULL), 0);
    return NULL;
}

TEST(ids_are_unique)
{
    const uintptr_t depth = support_slow() ? 8 : 13;
    enum { THREADS = 4 };
    const size_t total = (((size_t)2 << depth) - 1) * THREADS;
    ids = calloc(total, sizeof *ids);
    atomic_store(&id_count, 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        threads[i] = support_thread(collect_from_thread, (void *)depth);
    for (int i = 0; i < THREADS; i++)
        support_thread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&id_count), total);
    qsort(ids, total, sizeof *ids, compare_ids);
    CHECK(ids[0] != 0);
    size_t twice = 0;
    for (size_t i = 1; i < total; i++)
        twice += ids[i] == ids[i - 1];
    CHECK_EQ(twice, 0);
    free(ids);
}

/* ---- handles ---- */

TEST_EVERYWHERE(a_stale_handle_stays_stale_when_its_block_is_used_again)
{
    struct pair p = {1, 0};
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    const routine_t old = go(square, &p);
    const routine_t copy = old;
    CHECK_EQ(routine_join(copy, NULL), 0);
    for (int i = 0; i < 2000; i++) {
        routine_t h = i == 1000 ? go(wait_at_gate, &gate) : go(square, &p);
        CHECK(!support_same(h, old));
        CHECK_EQ(routine_join(old, NULL), -ESRCH);
        CHECK_EQ(routine_try_join(old, NULL), -ESRCH);
        CHECK_EQ(routine_detach(old), -ESRCH);
        CHECK_EQ(routine_cancel(old), -ESRCH);
        CHECK(routine_is_finished(old));
        CHECK_STR(routine_name(old), "");
        if (i == 1000)
            CHECK_EQ(routine_oneshot_send(&gate.open, &gate), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
}

/* The block of a finished routine is used again at once on one worker: make sure that the test above
 * means what it says. */
static void *see_reuse(void *arg)
{
    struct pair p = {1, 0};
    int same = 0;
    const routine_t old = go(square, &p);
    CHECK_EQ(routine_join(old, NULL), 0);
    for (int i = 0; i < 100000 && same == 0; i++) {
        const routine_t h = go(square, &p);
        same += h.block == old.block;
        CHECK(h.block != old.block || h.id != old.id);
        CHECK_EQ(routine_join(old, NULL), -ESRCH);
        CHECK_EQ(routine_join(h, NULL), 0);
    }
    *(int *)arg = same;
    return NULL;
}

TEST(blocks_are_used_again)
{
    int same = 0;
    support_in_routine(see_reuse, &same);
    CHECK(same > 0);
}

static void *join_it(void *arg)
{
    void *result = NULL;
    CHECK_EQ(routine_join(*(routine_t *)arg, &result), 0);
    return result;
}

/* R4: a joiner that is not the spawner: another routine, another thread; the child begun or not. */
TEST_EVERYWHERE(anybody_may_join)
{
    for (int i = 0; i < support_scale(400); i++) {
        struct pair p = {i, 0};
        void *result = NULL;
        routine_t h = go(square, &p);
        if (i % 4 == 0) {
            pthread_t thread = support_thread(join_it, &h);
            if (i % 8 == 0)
                routine_yield();
            support_thread_join(thread, &result);
        } else {
            routine_t joiner = go(join_it, &h);
            if (i % 4 == 1)
                routine_yield();
            CHECK_EQ(routine_join(joiner, &result), 0);
        }
        CHECK(result == &p);
        CHECK_EQ(p.out, i * i);
        CHECK_EQ(routine_join(h, NULL), -ESRCH);
    }
}

/* ---- yield ---- */

struct spinners {
    _Atomic int turns[2];
};

struct spinner {
    struct spinners *both;
    int me;
};

static void *spin_in_turns(void *arg)
{
    struct spinner *s = arg;
    for (int i = 0; i < 1000; i++) {
        atomic_fetch_add(&s->both->turns[s->me], 1);
        while (atomic_load(&s->both->turns[!s->me]) < i)
            routine_yield();
    }
    return NULL;
}

TEST_EVERYWHERE(yield_lets_the_other_run)
{
    struct spinners both = {{0, 0}};
    struct spinner spinners[2] = {{&both, 0}, {&both, 1}};
    routine_t a = go(spin_in_turns, &spinners[0]), b = go(spin_in_turns, &spinners[1]);
    CHECK_EQ(routine_join(a, NULL), 0);
    CHECK_EQ(routine_join(b, NULL), 0);
}

static void *set_flag(void *arg)
{
    atomic_store((_Atomic int *)arg, 1);
    return NULL;
}

TEST_EVERYWHERE(yield_reaches_one_that_has_not_started)
{
    _Atomic int flag = 0;
    routine_t h = go(set_flag, (void *)&flag);
    WAIT_UNTIL(atomic_load(&flag) == 1);
    CHECK_EQ(routine_join(h, NULL), 0);
}

TEST_EVERYWHERE(yield_reaches_one_that_was_readied)
{
    struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
    routine_t h = go(wait_at_gate, &gate);
    WAIT_UNTIL(atomic_load(&gate.inside) == 1);
    CHECK_EQ(atomic_load(&gate.passed), 0);
    CHECK_EQ(routine_oneshot_send(&gate.open, &gate), 0);
    WAIT_UNTIL(atomic_load(&gate.passed) == 1);
    CHECK_EQ(routine_join(h, NULL), 0);
}

/* ---- exit ---- */

/* Ends the routine with every register that the ABI makes the callee keep overwritten. */
SUPPORT_NOINLINE static void exit_from(int depth, void *result)
{
    volatile char frame[64];
    frame[0] = (char)depth;
    if (depth < 0)
        return;
    if (depth > 0) {
        exit_from(depth - 1, result);
        frame[1] = frame[0];
        return;
    }
#if defined(__x86_64__)
    __asm__ volatile("movq $-1, %%rbx\n\tmovq %%rbx, %%r12\n\tmovq %%rbx, %%r13\n\tmovq %%rbx, %%r14\n\t"
                     "movq %%rbx, %%r15" ::
                         : "rbx", "r12", "r13", "r14", "r15");
#elif defined(__aarch64__)
    __asm__ volatile("mov x19, #-1\n\tmov x20, x19\n\tmov x21, x19\n\tmov x22, x19\n\tmov x23, x19\n\t"
                     "mov x24, x19\n\tmov x25, x19\n\tmov x26, x19\n\tmov x27, x19\n\tmov x28, x19\n\t"
                     "fmov d8, x19\n\tfmov d9, x19\n\tfmov d14, x19\n\tfmov d15, x19" ::
                         : "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "d8", "d9",
                           "d14", "d15");
#elif defined(__riscv)
    __asm__ volatile("li s2, -1\n\tli s3, -1\n\tli s4, -1\n\tli s5, -1\n\tli s6, -1\n\tli s7, -1\n\t"
                     "li s8, -1\n\tli s9, -1\n\tli s10, -1\n\tli s11, -1" ::
                         : "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11");
#endif
    routine_exit(result);
}

static void *exit_deep(void *arg)
{
    exit_from(50, arg);
    support_fail(__FILE__, __LINE__, "routine_exit came back");
    return NULL;
}

static void *exit_after_waiting(void *arg)
{
    CHECK(wait_at_gate(arg) == arg);
    return exit_deep(arg);
}

/* Joins with more live variables than registers, and looks whether they survived. */
SUPPORT_NOINLINE static void join_with_many_locals(routine_t h, void *expected)
{
    volatile long seed = 1000;
    long a = seed + 1, b = seed + 2, c = seed + 3, d = seed + 4, e = seed + 5, f = seed + 6, g = seed + 7;
    double x = (double)seed * 1.5, y = (double)seed * 2.5;
    void *result = NULL;
    const int rc = routine_join(h, &result);
    CHECK_EQ(rc, 0);
    CHECK(result == expected);
    CHECK_EQ(a, 1001);
    CHECK_EQ(b, 1002);
    CHECK_EQ(c, 1003);
    CHECK_EQ(d, 1004);
    CHECK_EQ(e, 1005);
    CHECK_EQ(f, 1006);
    CHECK_EQ(g, 1007);
    CHECK(x == 1500.0);
    CHECK(y == 2500.0);
}

/* R9: leaving a child that was run in place needs no more than the join's own record. */
TEST_EVERYWHERE(exit_from_deep_inside)
{
    int result;
    for (int i = 0; i < 100; i++) {
        routine_t h = go(exit_deep, &result);
        if (i % 2)
            WAIT_UNTIL(routine_is_finished(h));
        join_with_many_locals(h, &result);
    }
    CHECK_EQ(go_detached(exit_deep, NULL), 0);
}

static void *open_gate(void *arg)
{
    struct gate *gate = arg;
    WAIT_UNTIL(atomic_load(&gate->inside) > 0);
    CHECK_EQ(routine_oneshot_send(&gate->open, gate), 0);
    return NULL;
}

TEST_EVERYWHERE(exit_after_the_child_has_blocked)
{
    for (int i = 0; i < 100; i++) {
        struct gate gate = {.open = ROUTINE_ONESHOT_INITIALIZER};
        routine_t opener = go(open_gate, &gate);
        routine_t h = go(exit_after_waiting, &gate);
        join_with_many_locals(h, &gate);
        CHECK_EQ(routine_join(opener, NULL), 0);
        CHECK_EQ(atomic_load(&gate.passed), 1);
    }
}

static void *exit_nested(void *arg)
{
    const uintptr_t depth = (uintptr_t)arg;
    if (depth > 0) {
        void *result = NULL;
        const routine_t self = routine_self();
        CHECK_EQ(routine_join(go(exit_nested, (void *)(depth - 1)), &result), 0);
        CHECK_EQ((uintptr_t)result, depth - 1);
        CHECK(support_same(self, routine_self()));
    }
    if (depth % 3 != 1)
        routine_exit(arg);
    return arg;
}

TEST_EVERYWHERE(exits_at_every_level)
{
    void *result = NULL;
    CHECK_EQ(routine_join(go(exit_nested, (void *)(uintptr_t)50), &result), 0);
    CHECK_EQ((uintptr_t)result, 50);
}

/* ---- in place ---- */

struct relay {
    routine_oneshot_t in, out;
    _Atomic int steps;
};

static void *relay_answer(void *arg)
{
    struct relay *relay = arg;
    void *value = NULL;
    CHECK_EQ(routine_oneshot_recv(&relay->in, &value), 0);
    CHECK_EQ(routine_oneshot_send(&relay->out, value), 0);
    return NULL;
}

static void *parked_grandchild(void *arg)
{
    struct relay *relay = arg;
    void *value = NULL;
    CHECK_EQ(routine_oneshot_recv(&relay->out, &value), 0);
    atomic_fetch_add(&relay->steps, 1);
    return value;
}

/* Run in place by its joiner (unless somebody takes it first), and blocks in several ways. */
static void *blocking_child(void *arg)
{
    struct relay *relay = arg;
    const routine_t self = routine_self();
    void *value = NULL;
    routine_t grandchild = go(parked_grandchild, relay);
    routine_yield();
    CHECK_EQ(routine_oneshot_send(&relay->in, arg), 0);
    routine_yield();
    CHECK(support_same(self, routine_self()));
    CHECK_EQ(routine_join(grandchild, &value), 0);
    CHECK(value == arg);
    CHECK(support_same(self, routine_self()));
    atomic_fetch_add(&relay->steps, 1);
    return value;
}

TEST_EVERYWHERE(a_child_in_place_may_block)
{
    const routine_t self = routine_self();
    for (int i = 0; i < support_scale(500); i++) {
        struct relay relay = {.in = ROUTINE_ONESHOT_INITIALIZER, .out = ROUTINE_ONESHOT_INITIALIZER};
        routine_t answer = go(relay_answer, &relay);
        routine_t child = go(blocking_child, &relay);
        join_with_many_locals(child, &relay);
        CHECK(support_same(self, routine_self()));
        CHECK_EQ(routine_join(answer, NULL), 0);
        CHECK_EQ(atomic_load(&relay.steps), 2);
    }
}

/* R1: a child claimed in the middle of the deque leaves its start entry behind. It parks and is readied
 * while the entry is still there: whoever meets that must not start or resume it again. */
struct once {
    struct gate gate;
    _Atomic int begun, ended;
};

static void *only_once(void *arg)
{
    struct once *once = arg;
    CHECK_EQ(atomic_fetch_add(&once->begun, 1), 0);
    CHECK(wait_at_gate(&once->gate) == &once->gate);
    routine_yield();
    CHECK_EQ(atomic_fetch_add(&once->ended, 1), 0);
    return NULL;
}

static void *stale_entries(void *arg)
{
    (void)arg;
    enum { N = 6 };
    uint64_t seed = 88172645463325252u + routine_id(routine_self());
    for (long round = 0; round < support_scale(2000); round++) {
        struct once once[N];
        routine_t h[N], openers[N];
        for (int i = 0; i < N; i++) {
            memset(&once[i], 0, sizeof once[i]);
            openers[i] = go(open_gate, &once[i].gate);
            h[i] = go(only_once, &once[i]);
        }
        bool joined[N] = {false};
        for (int left = N; left > 0;) {
            const size_t i = support_random(&seed) % N;
            if (joined[i])
                continue;
            joined[i] = true;
            left--;
            CHECK_EQ(routine_join(h[i], NULL), 0);
            if (support_random(&seed) % 2)
                routine_yield();
        }
        for (int i = 0; i < N; i++) {
            CHECK_EQ(routine_join(openers[i], NULL), 0);
            CHECK_EQ(atomic_load(&once[i].begun), 1);
            CHECK_EQ(atomic_load(&once[i].ended), 1);
        }
    }
    return NULL;
}

TEST(a_child_claimed_by_its_joiner_is_never_started_twice)
{
    routine_t h[3];
    for (int i = 0; i < 3; i++)
        h[i] = go(stale_entries, NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
}

static void *chain(void *arg)
{
    const uintptr_t left = (uintptr_t)arg;
    if (left == 0)
        return NULL;
    void *below = NULL;
    const routine_t self = routine_self();
    const int rc = routine_join(go(chain, (void *)(left - 1)), &below);
    if (rc != 0 || (uintptr_t)below != left - 1 || !support_same(self, routine_self()))
        support_fail(__FILE__, __LINE__, "link %lu: join gave %d", (unsigned long)left, rc);
    return arg;
}

TEST(a_chain_of_100000_each_joining_the_next)
{
    const uintptr_t length = SUPPORT_TSAN ? 3000 : support_slow() ? 20000 : 100000;
    for (int i = 0; i < 3; i++) {
        void *result = NULL;
        CHECK_EQ(routine_join(go(chain, (void *)length), &result), 0);
        CHECK_EQ((uintptr_t)result, length);
    }
}

/* ---- stacks ---- */

struct nesting {
    size_t joiner, child;
};

SUPPORT_NOINLINE static int join_below(size_t used, size_t child)
{
    volatile char *block = __builtin_alloca(used);
    for (size_t i = 0; i < used; i += 512)
        block[i] = (char)(i >> 9);
    size_t use = child;
    void *result = NULL;
    const int rc = routine_join(go(use_stack, &use), &result);
    CHECK(result == &use);
    for (size_t i = 0; i < used; i += 512)
        CHECK_EQ(block[i], (char)(i >> 9));
    return rc;
}

static void *nest(void *arg)
{
    struct nesting *n = arg;
    CHECK_EQ(join_below(n->joiner, n->child), 0);
    return NULL;
}

/* R5: what was promised is there, in place or not, however much the joiner has used of its own. */
TEST_EVERYWHERE(a_child_has_its_promised_stack_wherever_it_runs)
{
    for (size_t joiner = 1; joiner <= 120 << 10; joiner += 7 << 10) {
        struct nesting n = {joiner, (128 << 10) - FRAMES};
        CHECK_EQ(routine_join(go(nest, &n), NULL), 0);
    }
    struct nesting n = {100 << 10, 120 << 10};
    CHECK_EQ(routine_join(go(nest, &n), NULL), 0);
}

/* Larger and smaller ones joined by ordinary ones, and the other way round. */
static void *mixed_sizes(void *arg)
{
    const uintptr_t depth = (uintptr_t)arg;
    static const size_t sizes[] = {16 << 10, 1 << 20, 0, 40 << 10, 300 << 10};
    if (depth == 0)
        return NULL;
    size_t use[COUNT_OF(sizes)];
    routine_t h[COUNT_OF(sizes)];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        use[i] = (sizes[i] == 0 ? 128 << 10 : sizes[i]) - FRAMES;
        h[i] = go_with(&(routine_attr_t){.stack_size = sizes[i]}, use_stack, &use[i]);
    }
    routine_t deeper = go_with(&(routine_attr_t){.stack_size = sizes[depth % COUNT_OF(sizes)]}, mixed_sizes,
                               (void *)(depth - 1));
    CHECK_EQ(routine_join(deeper, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    return NULL;
}

TEST_EVERYWHERE(stacks_of_mixed_sizes)
{
    CHECK_EQ(routine_join(go(mixed_sizes, (void *)(uintptr_t)10), NULL), 0);
}

/* ---- all at once, from routines and plain threads ---- */

static void *mixture(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg * 7919 + 104729;
    _Atomic int detached = 0;
    int expected = 0;
    for (long i = 0; i < support_scale(3000); i++) {
        struct pair p[4] = {{1, 0}, {2, 0}, {3, 0}, {4, 0}};
        int sum = 0;
        void *result = NULL;
        routine_t h[4];
        const uint64_t kind = support_random(&seed);
        h[0] = go(square, &p[0]);
        h[1] = kind % 2 ? go(square, &p[1]) : go_with(&(routine_attr_t){.name = "second"}, square, &p[1]);
        h[2] = go_copy(add, ((struct closure){&sum, (int)i, 1}));
        h[3] = go(square, &p[3]);
        if (kind % 5 == 0) {
            CHECK_EQ(go_detached(count, (void *)&detached), 0);
            expected++;
        }
        if (kind % 7 == 0)
            routine_yield();
        if (kind % 3 == 0) {
            int rc;
            while ((rc = routine_try_join(h[3], &result)) == -EAGAIN)
                routine_yield();
            CHECK_EQ(rc, 0);
        } else {
            CHECK_EQ(routine_join(h[3], &result), 0);
        }
        CHECK(result == &p[3]);
        CHECK_EQ(p[3].out, 16);
        CHECK_EQ(routine_join(h[kind % 2], NULL), 0);
        CHECK_EQ(routine_join(h[1 - kind % 2], NULL), 0);
        CHECK_EQ(p[0].out, 1);
        CHECK_EQ(p[1].out, 4);
        CHECK_EQ(routine_join(h[2], NULL), 0);
        CHECK_EQ(sum, (int)i + 1);
        CHECK_EQ(routine_join(h[2], NULL), -ESRCH);
    }
    WAIT_UNTIL(atomic_load(&detached) == expected);
    return NULL;
}

TEST(routines_and_threads_at_once)
{
    enum { N = 4 };
    pthread_t threads[N];
    routine_t routines[N];
    for (uintptr_t i = 0; i < N; i++) {
        threads[i] = support_thread(mixture, (void *)i);
        routines[i] = go(mixture, (void *)(i + N));
    }
    mixture((void *)(uintptr_t)99);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(routine_join(routines[i], NULL), 0);
        support_thread_join(threads[i], NULL);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(join_delivers_what_the_function_returned),
        cmocka_unit_test(the_result_may_be_ignored),
        cmocka_unit_test(many_are_joined_in_any_order),
        cmocka_unit_test(a_tree_of_routines_adds_up),
        cmocka_unit_test(a_name_is_copied_and_lasts_until_the_join),
        cmocka_unit_test(without_a_name_it_is_empty),
        cmocka_unit_test(the_stack_asked_for_can_be_used),
        cmocka_unit_test(a_routine_runs_where_it_was_told),
        cmocka_unit_test(a_closure_is_a_copy),
        cmocka_unit_test(a_closure_may_have_any_size),
        cmocka_unit_test(closures_are_released),
        cmocka_unit_test(detached_ones_run),
        cmocka_unit_test(detach_before_and_after_the_end),
        cmocka_unit_test(a_routine_detaches_itself),
        cmocka_unit_test(try_join_does_not_wait),
        cmocka_unit_test(a_failed_try_join_leaves_the_join_possible),
        cmocka_unit_test(finished_says_what_is_so),
        cmocka_unit_test(self_is_the_handle),
        cmocka_unit_test(a_plain_thread_has_no_self),
        cmocka_unit_test(ids_are_unique),
        cmocka_unit_test(a_stale_handle_stays_stale_when_its_block_is_used_again),
        cmocka_unit_test(blocks_are_used_again),
        cmocka_unit_test(anybody_may_join),
        cmocka_unit_test(yield_lets_the_other_run),
        cmocka_unit_test(yield_reaches_one_that_has_not_started),
        cmocka_unit_test(yield_reaches_one_that_was_readied),
        cmocka_unit_test(exit_from_deep_inside),
        cmocka_unit_test(exit_after_the_child_has_blocked),
        cmocka_unit_test(exits_at_every_level),
        cmocka_unit_test(a_child_in_place_may_block),
        cmocka_unit_test(a_child_claimed_by_its_joiner_is_never_started_twice),
        cmocka_unit_test(a_chain_of_100000_each_joining_the_next),
        cmocka_unit_test(a_child_has_its_promised_stack_wherever_it_runs),
        cmocka_unit_test(stacks_of_mixed_sizes),
        cmocka_unit_test(routines_and_threads_at_once),
    };
    return cmocka_run_group_tests_name("routine", tests, NULL, NULL);
}
