/* SPDX-License-Identifier: MIT
 *
 * Tests of src/os/membarrier.c by the "store buffering" litmus test, as membarrier.h promises it:
 *     A: store x; light; load y        B: store y; heavy; load x
 * never ends with both loads seeing the old values. Each round has cells of its own, and the threads
 * meet before it. Without barriers the forbidden outcome is there within some thousand rounds; the
 * first test looks for it and is skipped where it does not come: there the others prove nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/membarrier.h"

#define MAGIC      4242 /* errno, to be left alone */
#define MOST_NS    INT64_C(5000000000)
#define MOST_SPINS 2000

enum { ROUNDS = 100000, FEWEST_ROUNDS = 1000 };

typedef struct {
    RT_ALIGNED _Atomic uint32_t x;
    RT_ALIGNED _Atomic uint32_t y;
} cells_t;

typedef struct {
    RT_ALIGNED _Atomic uint32_t light_at; /* rounds begun; each written by one thread */
    RT_ALIGNED _Atomic uint32_t heavy_at;
    RT_ALIGNED cells_t *cells;
    uint8_t *light_saw, *heavy_saw;
    bool barriers;
    /* Lowered by the heavy thread to the round it is about to begin. relaxed: a light thread that is still in
     * the round before may see either; in that round it sees it by what meet orders. */
    _Atomic uint32_t rounds;
} litmus_t;

/* Both leave at nearly the same time. Release and acquire are for `rounds` and order nothing after. */
static void meet(_Atomic uint32_t *mine, _Atomic uint32_t *other, uint32_t round)
{
    atomic_store_explicit(mine, round + 1, memory_order_release);
    for (int spins = 0; atomic_load_explicit(other, memory_order_acquire) <= round; spins++)
        if (spins > MOST_SPINS)
            sched_yield();
}

/* A varying delay of some instructions, so that neither is always first. */
static void stagger(uint64_t *random, uint32_t most)
{
    for (uint64_t n = rt_random(random) % most; n > 0; n--)
        __asm__ volatile("" ::: "memory");
}

/* The n-th CPU, if there is one: on a CPU shared by both threads the outcome never shows. */
static void pin(int n)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
        }
    }
}

/* relaxed, here and in the other: the barriers alone are to order the two accesses */
static void *run_light(void *arg)
{
    litmus_t *t = arg;
    uint64_t random = 1234567;
    pin(0);
    for (uint32_t i = 0;; i++) {
        meet(&t->light_at, &t->heavy_at, i);
        if (i == atomic_load_explicit(&t->rounds, memory_order_relaxed))
            return NULL;
        stagger(&random, 60);
        atomic_store_explicit(&t->cells[i].x, 1, memory_order_relaxed);
        if (t->barriers)
            rt_membarrier_light();
        t->light_saw[i] = (uint8_t)atomic_load_explicit(&t->cells[i].y, memory_order_relaxed);
    }
}

static void *run_heavy(void *arg)
{
    litmus_t *t = arg;
    uint64_t random = 7654321;
    const int64_t end = rt_clock_after(MOST_NS);
    pin(1);
    for (uint32_t i = 0;; i++) {
        if (i % 64 == 0 && rt_clock_now() >= end)
            atomic_store_explicit(&t->rounds, i, memory_order_relaxed);
        meet(&t->heavy_at, &t->light_at, i);
        if (i == atomic_load_explicit(&t->rounds, memory_order_relaxed))
            return NULL;
        stagger(&random, 60);
        atomic_store_explicit(&t->cells[i].y, 1, memory_order_relaxed);
        if (t->barriers)
            rt_membarrier_heavy();
        t->heavy_saw[i] = (uint8_t)atomic_load_explicit(&t->cells[i].x, memory_order_relaxed);
    }
}

/* How many rounds ended with both seeing the old values; -1: too few rounds to say. */
static long litmus(bool barriers)
{
    litmus_t t = {.barriers = barriers, .rounds = ROUNDS};
    pthread_t light, heavy;
    long both_old = -1;
    t.cells = aligned_alloc(RT_CACHE_LINE, ROUNDS * sizeof *t.cells);
    t.light_saw = calloc(ROUNDS, 1);
    t.heavy_saw = calloc(ROUNDS, 1);
    if (!t.cells || !t.light_saw || !t.heavy_saw)
        abort();
    for (size_t i = 0; i < ROUNDS; i++) {
        atomic_init(&t.cells[i].x, 0);
        atomic_init(&t.cells[i].y, 0);
    }
    if (pthread_create(&light, NULL, run_light, &t) != 0 || pthread_create(&heavy, NULL, run_heavy, &t) != 0)
        abort();
    pthread_join(light, NULL);
    pthread_join(heavy, NULL);
    const uint32_t rounds = atomic_load_explicit(&t.rounds, memory_order_relaxed); /* after the joins */
    if (rounds >= FEWEST_ROUNDS) {
        both_old = 0;
        for (size_t i = 0; i < rounds; i++)
            both_old += !t.light_saw[i] && !t.heavy_saw[i];
    }
    free(t.cells);
    free(t.light_saw);
    free(t.heavy_saw);
    return both_old;
}

/* A child in which the barriers are chosen with this value of ROUTINES_MEMBARRIER; NULL: none. */
static int run(const char *wish, int (*body)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (wish)
            setenv("ROUTINES_MEMBARRIER", wish, 1);
        else
            unsetenv("ROUTINES_MEMBARRIER");
        errno = MAGIC;
        rt_membarrier_init();
        rt_membarrier_heavy();
        rt_membarrier_light();
        _exit(errno == MAGIC ? body() : 100);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int never_both_old(void)
{
    const long both_old = litmus(true);
    if (both_old > 0)
        fprintf(stderr, "%ld rounds of %d with both old\n", both_old, ROUNDS);
    return both_old == 0 ? 0 : both_old < 0 ? 77 : 1;
}

static int works(void)
{
    return rt_membarrier_works ? 1 : 0;
}

static void test_litmus_can_fail(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        if (litmus(false) > 0)
            return;
    skip();
}

static void expect_ordered(const char *wish)
{
    const int rc = run(wish, never_both_old);
    if (rc == 77)
        skip();
    assert_int_equal(rc, 0);
}

static void test_membarrier(void **state)
{
    (void)state;
    expect_ordered(NULL);
}

static void test_fences(void **state)
{
    (void)state;
    expect_ordered("0");
}

static void test_choice(void **state)
{
    (void)state;
    assert_int_equal(run("0", works), 0);
    assert_int_equal(run("1", works), run(NULL, works));
    assert_int_equal(run("00", works), run(NULL, works));
    assert_int_equal(run("", works), run(NULL, works));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_litmus_can_fail),
        cmocka_unit_test(test_membarrier),
        cmocka_unit_test(test_fences),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
