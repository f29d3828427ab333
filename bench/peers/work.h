/* SPDX-License-Identifier: MIT
 *
 * The two pieces of work that look like real ones, for the peers in C and C++: `sort` and `tree`, less the
 * tasks, which every program starts in its own words. The numbers, the cut-offs and the loops are those of
 * the library's own benchmarks.
 *
 * sort: a mergesort of ROUTINES_BENCH_SORT (20,000,000) numbers with a parallel merge, back and forth
 * between two arrays; once in a process.
 * tree: the search of a tree that nobody knows beforehand, a task for every node: a root with
 * ROUTINES_BENCH_TREE (2000) children, where every other node has eight children with a probability of almost
 * an eighth, else none. tree_fine: the same with next to nothing to do in a node.
 */
#ifndef BENCH_PEERS_WORK_H
#define BENCH_PEERS_WORK_H

#include "peer.h"

#define WORK_GOLDEN UINT64_C(0x9E3779B97F4A7C15)

/* The finaliser of splitmix64. */
static inline uint64_t work_mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* ---- sort ---- */

/* Up to so many a half is sorted, and up to so many two halves are merged, without tasks. */
enum { WORK_LEAF = 2048, WORK_GRAIN = 4096, WORK_INSERTION = 24 };

static inline void work_insertion_sort(int32_t *a, long n)
{
    for (long i = 1; i < n; i++) {
        int32_t v = a[i];
        long j = i;
        for (; j > 0 && a[j - 1] > v; j--)
            a[j] = a[j - 1];
        a[j] = v;
    }
}

static inline int32_t work_median(int32_t x, int32_t y, int32_t z)
{
    int32_t low = x < y ? x : y, high = x < y ? y : x;
    return z < low ? low : z > high ? high : z;
}

/* Quicksort, Hoare's way of parting. */
static inline void work_sort_leaf(int32_t *a, long n)
{
    while (n > WORK_INSERTION) {
        const int32_t p = work_median(a[0], a[n / 2], a[n - 1]);
        long i = -1, j = n;
        for (;;) {
            do
                i++;
            while (a[i] < p);
            do
                j--;
            while (a[j] > p);
            if (i >= j)
                break;
            int32_t v = a[i];
            a[i] = a[j];
            a[j] = v;
        }
        work_sort_leaf(a, j + 1);
        a += j + 1;
        n -= j + 1;
    }
    work_insertion_sort(a, n);
}

/* Which of the two is taken can't be foreseen: no branch is to depend on it. */
static inline void work_merge_serially(const int32_t *x, long nx, const int32_t *y, long ny, int32_t *out)
{
    const int32_t *const x_end = x + nx, *const y_end = y + ny;
    while (x < x_end && y < y_end) {
        const int32_t v = *x, w = *y;
        const long take = w < v;
        *out++ = take ? w : v;
        y += take;
        x += !take;
    }
    memcpy(out, x, (size_t)(x_end - x) * sizeof *x);
    memcpy(out + (x_end - x), y, (size_t)(y_end - y) * sizeof *y);
}

/* The first j with y[j] >= v. */
static inline long work_lower_bound(const int32_t *y, long ny, int32_t v)
{
    long low = 0;
    while (ny > 0) {
        const long half = ny / 2;
        if (y[low + half] < v) {
            low += half + 1;
            ny -= half + 1;
        } else {
            ny = half;
        }
    }
    return low;
}

/* What does not change when numbers are put in order. */
static inline uint64_t work_bag(const int32_t *a, long n)
{
    uint64_t sum = 0;
    for (long i = 0; i < n; i++)
        sum += work_mix((uint32_t)a[i]);
    return sum;
}

/* Does it once: sort has to sort a[0..n), t is as long and its own. */
static inline void work_sort_once(peer_result_t *r, void (*sort)(int32_t *a, int32_t *t, long n))
{
    const long whole = 20000000, n = peer_size("ROUTINES_BENCH_SORT", (double)whole, INT32_MAX);
    int32_t *a = (int32_t *)malloc((size_t)n * sizeof *a), *t = (int32_t *)malloc((size_t)n * sizeof *t);
    if (a == NULL || t == NULL)
        peer_fail("no memory for what is to be sorted");
    for (long i = 0; i < n; i++)
        a[i] = (int32_t)(uint32_t)(work_mix((uint64_t)(i + 1) * WORK_GOLDEN) >> 32);
    memset(t, 0, (size_t)n * sizeof *t);
    __asm__ volatile(""
                     :
                     : "g"(t)
                     : "memory"); /* its pages are to be there: not to be merged into a calloc */
    const uint64_t bag = work_bag(a, n);

    const int64_t cpu_begun = peer_cpu(), begun = peer_now();
    sort(a, t, n);
    r->value = (double)(peer_now() - begun);
    peer_counter(r, "cpus", (double)(peer_cpu() - cpu_begun) / r->value);

    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        if (i > 0 && a[i - 1] > a[i])
            peer_fail("it is not sorted");
        sum += (uint64_t)(i + 1) * (uint32_t)a[i];
    }
    if (work_bag(a, n) != bag || (n == whole && sum != UINT64_C(0x9C9FE4E033157074)))
        peer_fail("what is sorted is not what was given");
    free(a);
    free(t);
}

/* ---- tree ---- */

enum { WORK_CHILDREN = 8, WORK_ROUNDS = 24, WORK_ROUNDS_FINE = 1, WORK_SEED = 1, WORK_SEED_FINE = 3 };

/* What a node does; and whether it has children then, which are x, x + 1, ... */
static inline uint64_t work_node(uint64_t x, int rounds)
{
    for (int i = 0; i < rounds; i++)
        x = work_mix(x + WORK_GOLDEN);
    return x;
}

static inline int work_has_children(uint64_t x)
{
    return x >> 32 < 536334041; /* 0.124875 * 2^32 */
}

static inline long work_visit_serially(uint64_t x, int rounds)
{
    long nodes = 1;
    x = work_node(x, rounds);
    for (int i = 0; i < WORK_CHILDREN && work_has_children(x); i++)
        nodes += work_visit_serially(x + (uint64_t)i, rounds);
    return nodes;
}

/* The tree that this process searches. whole: does it, and returns the nodes that it has found below the
 * root. */
static struct {
    long (*whole)(long branches, uint64_t first);
    long branches;
    uint64_t first; /* the number of the first branch; the others follow */
    long nodes;     /* that there are, the root among them */
} work_tree;

static inline double work_tree_run(long n)
{
    for (long i = 0; i < n; i++) {
        if (work_tree.whole(work_tree.branches, work_tree.first) + 1 != work_tree.nodes)
            peer_fail("the wrong number of nodes");
    }
    return (double)n * (double)work_tree.nodes;
}

/* A tree of another size than the usual one is counted first. */
static inline void work_tree_measure(peer_result_t *r, int rounds, uint64_t seed,
                                     long (*whole)(long branches, uint64_t first))
{
    const long usual = 2000;
    work_tree.whole = whole;
    work_tree.branches = peer_size("ROUTINES_BENCH_TREE", (double)usual, 1000000);
    work_tree.first = seed << 32;
    work_tree.nodes = rounds == WORK_ROUNDS ? 3543105 : 3676273;
    if (work_tree.branches != usual) {
        work_tree.nodes = 1;
        for (long i = 0; i < work_tree.branches; i++)
            work_tree.nodes += work_visit_serially(work_tree.first + (uint64_t)i, rounds);
    }
    peer_repeat(r, work_tree_run);
}

#endif
