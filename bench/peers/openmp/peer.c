/* SPDX-License-Identifier: MIT
 *
 * The benchmarks of the library that OpenMP's tasks can do. A task can't wait for another one by name: the
 * join is taskwait. A task blocks its thread when it waits for anything but tasks, so there are no
 * channels, and none to be parked; the lock of `mutex` is omp_lock_t, which no task is switched in.
 *
 * How it is asked and answers: ../peer.h. ROUTINES_BENCH_FIB (30 unless given), ROUTINES_BENCH_SORT and
 * ROUTINES_BENCH_TREE: as for the library. With one thread gcc's libgomp runs each task at once, as a call.
 *
 *     gcc -std=gnu11 -O2 -fopenmp
 */
#include <omp.h>

#include "../peer.h"
#include "../work.h"

/* ---- tasks ---- */

static double go_join(long n)
{
    for (long i = 0; i < n; i++) {
#pragma omp task
        peer_empty();
#pragma omp taskwait
    }
    return (double)n;
}

static double thousand(long n)
{
    for (long i = 0; i < n; i++) {
        for (int j = 0; j < 1000; j++) {
#pragma omp task
            peer_empty();
        }
#pragma omp taskwait
    }
    return (double)n;
}

static long fib(long n)
{
    if (n < 2)
        return n;
    long a;
#pragma omp task shared(a)
    a = fib(n - 1);
    long b = fib(n - 2);
#pragma omp taskwait
    return a + b;
}

static double fibs(long n)
{
    const long of = peer_size("ROUTINES_BENCH_FIB", 30, 45);
    for (long i = 0; i < n; i++) {
        if (fib(of) != peer_fib_number(of))
            peer_fail("the wrong Fibonacci number");
    }
    return (double)n * peer_fib_tasks(of);
}

/* ---- a lock that a thousand tasks want ---- */

static double mutex(long n)
{
    omp_lock_t lock;
    long sum = 0;
    omp_init_lock(&lock);
    for (long i = 0; i < n; i++) {
        for (int j = 0; j < 1000; j++) {
#pragma omp task shared(lock, sum)
            for (int k = 0; k < 1000; k++) {
                omp_set_lock(&lock);
                sum++;
                omp_unset_lock(&lock);
            }
        }
#pragma omp taskwait
    }
    omp_destroy_lock(&lock);
    if (sum != n * 1000000)
        peer_fail("the wrong sum");
    return (double)sum;
}

/* ---- sort ---- */

static void merge(const int32_t *x, long nx, const int32_t *y, long ny, int32_t *out)
{
    if (nx + ny <= WORK_GRAIN) {
        work_merge_serially(x, nx, y, ny, out);
        return;
    }
    if (nx < ny) {
        merge(y, ny, x, nx, out);
        return;
    }
    const long i = nx / 2, j = work_lower_bound(y, ny, x[i]);
#pragma omp task
    merge(x, i, y, j, out);
    merge(x + i, nx - i, y + j, ny - j, out + i + j);
#pragma omp taskwait
}

static void sort(int32_t *a, int32_t *t, long n, int in_t)
{
    if (n <= WORK_LEAF) {
        work_sort_leaf(a, n);
        if (in_t)
            memcpy(t, a, (size_t)n * sizeof *a);
        return;
    }
    const long m = n / 2;
#pragma omp task
    sort(a, t, m, !in_t);
    sort(a + m, t + m, n - m, !in_t);
#pragma omp taskwait
    if (in_t)
        merge(a, m, a + m, n - m, t);
    else
        merge(t, m, t + m, n - m, a);
}

static void sort_all(int32_t *a, int32_t *t, long n)
{
    sort(a, t, n, 0);
}

static void sort_once(peer_result_t *r)
{
    work_sort_once(r, sort_all);
}

/* ---- tree ---- */

/* A function for each number of rounds: a constant in each. */
#define TREE(name, rounds)                                                                                   \
    static long name##_visit(uint64_t x)                                                                     \
    {                                                                                                        \
        long nodes[WORK_CHILDREN], sum = 1;                                                                  \
        x = work_node(x, rounds);                                                                            \
        if (!work_has_children(x))                                                                           \
            return 1;                                                                                        \
        for (int i = 0; i < WORK_CHILDREN; i++) {                                                            \
            _Pragma("omp task shared(nodes)") nodes[i] = name##_visit(x + (uint64_t)i);                      \
        }                                                                                                    \
        _Pragma("omp taskwait") for (int i = 0; i < WORK_CHILDREN; i++) sum += nodes[i];                     \
        return sum;                                                                                          \
    }                                                                                                        \
    static long name##_whole(long branches, uint64_t first)                                                  \
    {                                                                                                        \
        long *nodes = malloc((size_t)branches * sizeof *nodes), sum = 0;                                     \
        if (nodes == NULL)                                                                                   \
            peer_fail("no memory for the branches");                                                         \
        for (long i = 0; i < branches; i++) {                                                                \
            _Pragma("omp task") nodes[i] = name##_visit(first + (uint64_t)i);                                \
        }                                                                                                    \
        _Pragma("omp taskwait") for (long i = 0; i < branches; i++) sum += nodes[i];                         \
        free(nodes);                                                                                         \
        return sum;                                                                                          \
    }

TREE(tree, WORK_ROUNDS)
TREE(tree_fine, WORK_ROUNDS_FINE)

static void tree_measure(peer_result_t *r)
{
    work_tree_measure(r, WORK_ROUNDS, WORK_SEED, tree_whole);
}

static void tree_fine_measure(peer_result_t *r)
{
    work_tree_measure(r, WORK_ROUNDS_FINE, WORK_SEED_FINE, tree_fine_whole);
}

/* ---- */

static const peer_benchmark_t benchmarks[] = {
    {"go_join/peer-openmp", go_join, NULL},
    {"thousand/peer-openmp", thousand, NULL},
    {"fib/peer-openmp", fibs, NULL},
    {"mutex/peer-openmp", mutex, NULL},
    {"sort/peer-openmp", NULL, sort_once},
    {"tree/peer-openmp", NULL, tree_measure},
    {"tree_fine/peer-openmp", NULL, tree_fine_measure},
};

/* The other threads wait at the end of the single block, and run tasks. */
static void around(int workers, void (*fn)(void *arg), void *arg)
{
#pragma omp parallel num_threads(workers)
#pragma omp single
    fn(arg);
}

int main(int argc, char **argv)
{
    return peer_main(argc, argv, benchmarks, sizeof benchmarks / sizeof *benchmarks, around);
}
