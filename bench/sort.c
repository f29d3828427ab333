/* SPDX-License-Identifier: MIT
 *
 * How long does it take to sort 20 million integers of 32 bits? A parallel mergesort, back and forth between
 * two arrays: a routine for one half, a call for the other; and a merge is divided too, at the middle of the
 * longer part and where that falls in the other one, so that the last merges, which are the longest, have
 * work for all workers. Up to 2048 integers a quicksort sorts them, and up to 4096 are merged in one piece.
 * With 20 million that is 114,688 routines of some ten microseconds each.
 *
 * The time is that of the whole sort, once in a process; both arrays have been written before. What comes out
 * is checked: its order, and a sum. The limit is the same code with calls instead of routines; with N
 * workers there is nothing better than an Nth of it.
 *
 * ROUTINES_BENCH_SORT: how many, 20000000 unless given.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <routines/routine.h>

#include "harness.h"
#include "mix.h"

enum { LEAF = 2048, GRAIN = 4096, INSERTION = 24 };

/* A join failed somewhere. relaxed: read when all routines have been joined. */
static atomic_bool failed;

static void join(routine_t h)
{
    if (routine_join(h, NULL) != 0)
        atomic_store_explicit(&failed, true, memory_order_relaxed);
}

/* ---- what is done in one piece ---- */

static inline int32_t median(int32_t x, int32_t y, int32_t z)
{
    const int32_t low = x < y ? x : y, high = x < y ? y : x;
    return z < low ? low : z > high ? high : z;
}

/* Hoare's quicksort. */
static void sort_leaf(int32_t *a, ptrdiff_t n)
{
    while (n > INSERTION) {
        const int32_t pivot = median(a[0], a[n / 2], a[n - 1]);
        ptrdiff_t i = -1, j = n;
        for (;;) {
            do
                i++;
            while (a[i] < pivot);
            do
                j--;
            while (a[j] > pivot);
            if (i >= j)
                break;
            const int32_t other = a[i];
            a[i] = a[j];
            a[j] = other;
        }
        sort_leaf(a, j + 1);
        a += j + 1;
        n -= j + 1;
    }
    for (ptrdiff_t i = 1; i < n; i++) {
        const int32_t value = a[i];
        ptrdiff_t j = i;
        for (; j > 0 && a[j - 1] > value; j--)
            a[j] = a[j - 1];
        a[j] = value;
    }
}

/* Which of the two is the smaller is as good as random: no branch on it. */
static void merge_leaf(const int32_t *x, size_t nx, const int32_t *y, size_t ny, int32_t *out)
{
    const int32_t *const x_end = x + nx, *const y_end = y + ny;
    while (x < x_end && y < y_end) {
        const int32_t v = *x, w = *y;
        const bool take = w < v;
        *out++ = take ? w : v;
        y += take;
        x += !take;
    }
    const size_t left = (size_t)(x_end - x);
    memcpy(out, x, left * sizeof *out);
    memcpy(out + left, y, (size_t)(y_end - y) * sizeof *out);
}

/* How many of y are less than the value. */
static size_t lower_bound(const int32_t *y, size_t n, int32_t value)
{
    size_t low = 0;
    while (low < n) {
        const size_t middle = low + (n - low) / 2;
        if (y[middle] < value)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

/* ---- with routines, and without ---- */

typedef struct {
    const int32_t *x, *y;
    size_t nx, ny;
    int32_t *out;
} merge_t;

typedef struct {
    int32_t *a, *t;
    size_t n;
    bool in_t; /* the result is to be in t, else in a; the other one is scratch */
} sort_t;

/* Two merges that together are this one. */
static void divide_merge(const merge_t *m, merge_t *first, merge_t *second)
{
    const merge_t swapped = {m->y, m->x, m->ny, m->nx, m->out};
    if (m->nx < m->ny)
        m = &swapped;
    const size_t i = m->nx / 2, j = lower_bound(m->y, m->ny, m->x[i]);
    *first = (merge_t){m->x, m->y, i, j, m->out};
    *second = (merge_t){m->x + i, m->y + j, m->nx - i, m->ny - j, m->out + i + j};
}

/* Two sorts and the merge that together are this one. */
static void divide_sort(const sort_t *s, sort_t *first, sort_t *second, merge_t *then)
{
    const size_t half = s->n / 2;
    const int32_t *from = s->in_t ? s->a : s->t;
    *first = (sort_t){s->a, s->t, half, !s->in_t};
    *second = (sort_t){s->a + half, s->t + half, s->n - half, !s->in_t};
    *then = (merge_t){from, from + half, half, s->n - half, s->in_t ? s->t : s->a};
}

static bool is_merge_leaf(const merge_t *m)
{
    if (m->nx + m->ny > GRAIN)
        return false;
    merge_leaf(m->x, m->nx, m->y, m->ny, m->out);
    return true;
}

static bool is_sort_leaf(const sort_t *s)
{
    if (s->n > LEAF)
        return false;
    sort_leaf(s->a, (ptrdiff_t)s->n);
    if (s->in_t)
        memcpy(s->t, s->a, s->n * sizeof *s->a);
    return true;
}

static void *merge(void *arg)
{
    merge_t first, second;
    if (!is_merge_leaf(arg)) {
        divide_merge(arg, &first, &second);
        routine_t h = go(merge, &first);
        merge(&second);
        join(h);
    }
    return NULL;
}

static void *sort(void *arg)
{
    sort_t first, second;
    merge_t then;
    if (!is_sort_leaf(arg)) {
        divide_sort(arg, &first, &second, &then);
        routine_t h = go(sort, &first);
        sort(&second);
        join(h);
        merge(&then);
    }
    return NULL;
}

static void merge_serially(const merge_t *m)
{
    merge_t first, second;
    if (!is_merge_leaf(m)) {
        divide_merge(m, &first, &second);
        merge_serially(&first);
        merge_serially(&second);
    }
}

static void *sort_serially(void *arg)
{
    sort_t first, second;
    merge_t then;
    if (!is_sort_leaf(arg)) {
        divide_sort(arg, &first, &second, &then);
        sort_serially(&first);
        sort_serially(&second);
        merge_serially(&then);
    }
    return NULL;
}

/* ---- the cases ---- */

enum { USUAL = 20000000 };
static const uint64_t SUM_OF_USUAL = UINT64_C(0x9C9FE4E033157074);

/* The same for the same numbers in any order. */
static uint64_t sum_of(const int32_t *a, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bench_mix((uint32_t)a[i]);
    return sum;
}

static void check(bench_t *b, const int32_t *a, size_t n, uint64_t sum)
{
    uint64_t placed = 0;
    bool ordered = true;
    for (size_t i = 0; i < n; i++) {
        placed += (i + 1) * (uint64_t)(uint32_t)a[i];
        ordered = ordered && (i == 0 || a[i - 1] <= a[i]);
    }
    if (!ordered)
        bench_fail(b, "not in order");
    if (sum_of(a, n) != sum || (n == USUAL && placed != SUM_OF_USUAL))
        bench_fail(b, "not the numbers that were to be sorted");
}

static void run(bench_t *b, routine_fn *how)
{
    const size_t n = bench_size("ROUTINES_BENCH_SORT", USUAL);
    int32_t *a = malloc(n * sizeof *a), *t = malloc(n * sizeof *t);
    if (a == NULL || t == NULL) {
        bench_fail(b, "no memory for the numbers");
    } else {
        for (size_t i = 0; i < n; i++)
            a[i] = (int32_t)(uint32_t)(bench_mix((i + 1) * BENCH_GOLDEN) >> 32);
        memset(t, 0xff, n * sizeof *t);
        const uint64_t sum = sum_of(a, n);
        sort_t all = {a, t, n, false};
        atomic_store_explicit(&failed, false, memory_order_relaxed);
        bench_start(b);
        how(&all);
        bench_stop(b);
        if (atomic_load_explicit(&failed, memory_order_relaxed))
            bench_fail(b, "a join failed");
        check(b, a, n, sum);
        bench_counter(b, "count", (double)n);
    }
    free(t);
    free(a);
}

static void sort_routines(bench_t *b)
{
    run(b, sort);
}

BENCH(sort_routines, .name = "sort/routines", .on = BENCH_WORKERS, .unit = BENCH_MS, .once = true);

static void sort_limit_serial(bench_t *b)
{
    run(b, sort_serially);
}

BENCH(sort_limit_serial, .name = "sort/limit-serial", .on = BENCH_THREAD, .unit = BENCH_MS, .once = true);
