/* SPDX-License-Identifier: MIT
 *
 * Tests of src/os/futex.c: the deadlines of the kernel's sleep, and the lock: that it excludes, that it
 * wakes those who sleep on it, and that none of it shows in errno. A lost wake-up ends in SIGALRM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/futex.h"

#define MAGIC 4242 /* errno, to be left alone */
#define MS    INT64_C(1000000)

static pthread_t start(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}

static void *join(pthread_t thread)
{
    void *result;
    assert_int_equal(pthread_join(thread, &result), 0);
    return result;
}

static void test_deadline(void **state)
{
    (void)state;
    _Atomic uint32_t word = 7;
    errno = MAGIC;
    for (int i = 0; i < 3; i++) {
        const int64_t begin = rt_clock_now(), deadline = begin + 20 * MS;
        int rc;
        do
            rc = rt_futex_wait(&word, 7, deadline);
        while (rc == 0);
        assert_int_equal(rc, -ETIMEDOUT);
        assert_true(rt_clock_now() >= deadline);
        assert_true(rt_clock_now() < deadline + 5000 * MS);
    }
    assert_int_equal(errno, MAGIC);
}

static void test_deadline_past(void **state)
{
    (void)state;
    _Atomic uint32_t word = 7;
    errno = MAGIC;
    assert_int_equal(rt_futex_wait(&word, 7, rt_clock_now() - 1), -ETIMEDOUT);
    assert_int_equal(rt_futex_wait(&word, 7, 0), -ETIMEDOUT);
    assert_int_equal(rt_futex_wait(&word, 7, -1), -ETIMEDOUT);
    assert_int_equal(rt_futex_wait(&word, 7, INT64_MIN), -ETIMEDOUT);
    assert_int_equal(errno, MAGIC);
}

static void test_other_value(void **state)
{
    (void)state;
    _Atomic uint32_t word = 7;
    errno = MAGIC;
    assert_int_equal(rt_futex_wait(&word, 8, INT64_MAX), 0);
    assert_int_equal(rt_futex_wait(&word, 8, rt_clock_now() + 5000 * MS), 0);
    rt_futex_wake(&word, 1); /* nobody */
    assert_int_equal(errno, MAGIC);
}

typedef struct {
    _Atomic uint32_t word;
    _Atomic uint32_t through;
    int64_t deadline;
} gate_t;

static void *wait_at_gate(void *arg)
{
    gate_t *gate = arg;
    errno = MAGIC;
    while (atomic_load_explicit(&gate->word, memory_order_acquire) == 0)
        if (rt_futex_wait(&gate->word, 0, gate->deadline) != 0)
            return "timed out";
    atomic_fetch_add_explicit(&gate->through, 1, memory_order_relaxed);
    return errno == MAGIC ? NULL : "errno changed";
}

/* Without and with a deadline; INT64_MAX - 1 is one that the kernel must take too. */
static void test_wake(void **state)
{
    (void)state;
    const int64_t deadlines[] = {INT64_MAX, INT64_MAX - 1, rt_clock_now() + 100000 * MS};
    for (size_t i = 0; i < sizeof deadlines / sizeof deadlines[0]; i++) {
        gate_t gate = {.deadline = deadlines[i]};
        pthread_t thread[4];
        for (size_t k = 0; k < 4; k++)
            thread[k] = start(wait_at_gate, &gate);
        rt_clock_nap(20 * MS);
        assert_int_equal(atomic_load(&gate.through), 0);
        errno = MAGIC;
        atomic_store_explicit(&gate.word, 1, memory_order_release);
        rt_futex_wake(&gate.word, INT32_MAX);
        assert_int_equal(errno, MAGIC);
        for (size_t k = 0; k < 4; k++)
            assert_null(join(thread[k]));
        assert_int_equal(atomic_load(&gate.through), 4);
    }
}

/* One sleeper woken by each call. */
static void test_wake_one_by_one(void **state)
{
    (void)state;
    gate_t gate = {.deadline = INT64_MAX};
    pthread_t thread[3];
    for (size_t k = 0; k < 3; k++)
        thread[k] = start(wait_at_gate, &gate);
    rt_clock_nap(20 * MS);
    atomic_store_explicit(&gate.word, 1, memory_order_release);
    for (int k = 0; k < 3; k++)
        rt_futex_wake(&gate.word, 1);
    for (size_t k = 0; k < 3; k++)
        assert_null(join(thread[k]));
}

static void test_try(void **state)
{
    (void)state;
    rt_lock_t lock = {0};
    assert_true(rt_lock_try(&lock));
    assert_false(rt_lock_try(&lock));
    rt_lock_release(&lock);
    rt_lock_acquire(&lock);
    assert_false(rt_lock_try(&lock));
    rt_lock_release(&lock);
    assert_true(rt_lock_try(&lock));
    rt_lock_release(&lock);
    assert_int_equal(atomic_load(&lock.word), 0);
}

enum { THREADS = 4, ROUNDS = 50000 };

static struct {
    rt_lock_t lock;
    uint64_t count; /* under lock, like the next */
    uint64_t twice;
} shared;

/* Some sections are long enough for the others to go to sleep in the meantime. */
static void *count_up(void *arg)
{
    const uint64_t own = (uintptr_t)arg;
    errno = MAGIC;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        if (i % 7 == own) {
            if (!rt_lock_try(&shared.lock))
                rt_lock_acquire(&shared.lock);
        } else {
            rt_lock_acquire(&shared.lock);
        }
        const uint64_t seen = shared.count;
        if (i % 64 == 0)
            for (int k = 0; k < 200; k++)
                rt_relax();
        if (i % 4096 == own)
            rt_clock_nap(MS / 10);
        shared.count = seen + 1;
        shared.twice += 2;
        rt_lock_release(&shared.lock);
    }
    return errno == MAGIC ? NULL : "errno changed";
}

static void test_lock_excludes(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        thread[i] = start(count_up, (void *)(uintptr_t)i);
    for (size_t i = 0; i < THREADS; i++)
        assert_null(join(thread[i]));
    assert_int_equal(shared.count, THREADS * ROUNDS);
    assert_int_equal(shared.twice, 2 * THREADS * ROUNDS);
    assert_int_equal(atomic_load(&shared.lock.word), 0);
}

static void *take_and_give(void *arg)
{
    errno = MAGIC;
    rt_lock_acquire(arg);
    rt_lock_release(arg);
    return errno == MAGIC ? NULL : "errno changed";
}

/* Every sleeper gets its turn after one release: each that wakes passes it on. */
static void test_lock_wakes_sleepers(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        rt_lock_t lock = {0};
        pthread_t thread[THREADS];
        rt_lock_acquire(&lock);
        for (size_t i = 0; i < THREADS; i++)
            thread[i] = start(take_and_give, &lock);
        while (atomic_load(&lock.word) != 2)
            rt_clock_nap(MS / 10);
        rt_clock_nap(2 * MS);
        errno = MAGIC;
        rt_lock_release(&lock);
        assert_int_equal(errno, MAGIC);
        for (size_t i = 0; i < THREADS; i++)
            assert_null(join(thread[i]));
        assert_int_equal(atomic_load(&lock.word), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline),        cmocka_unit_test(test_deadline_past),
        cmocka_unit_test(test_other_value),     cmocka_unit_test(test_wake),
        cmocka_unit_test(test_wake_one_by_one), cmocka_unit_test(test_try),
        cmocka_unit_test(test_lock_excludes),   cmocka_unit_test(test_lock_wakes_sleepers),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
