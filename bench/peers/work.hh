// SPDX-License-Identifier: MIT
//
// The mergesort of work.h for the peers in C++. What differs is how two things are done at once, one by a
// task and one by the caller: a type with
//
//     template <typename Task, typename Call> static void both(const Task &task, const Call &call);
#ifndef BENCH_PEERS_WORK_HH
#define BENCH_PEERS_WORK_HH

#include "work.h"

template <typename Fork> void work_merge(const int32_t *x, long nx, const int32_t *y, long ny, int32_t *out)
{
    if (nx + ny <= WORK_GRAIN) {
        work_merge_serially(x, nx, y, ny, out);
        return;
    }
    if (nx < ny) {
        work_merge<Fork>(y, ny, x, nx, out);
        return;
    }
    const long i = nx / 2, j = work_lower_bound(y, ny, x[i]);
    Fork::both([=] { work_merge<Fork>(x, i, y, j, out); },
               [=] { work_merge<Fork>(x + i, nx - i, y + j, ny - j, out + i + j); });
}

// The result is in t if in_t, else in a.
template <typename Fork> void work_sort(int32_t *a, int32_t *t, long n, bool in_t)
{
    if (n <= WORK_LEAF) {
        work_sort_leaf(a, n);
        if (in_t)
            memcpy(t, a, static_cast<size_t>(n) * sizeof *a);
        return;
    }
    const long m = n / 2;
    Fork::both([=] { work_sort<Fork>(a, t, m, !in_t); },
               [=] { work_sort<Fork>(a + m, t + m, n - m, !in_t); });
    if (in_t)
        work_merge<Fork>(a, m, a + m, n - m, t);
    else
        work_merge<Fork>(t, m, t + m, n - m, a);
}

template <typename Fork> void work_sort_measure(peer_result_t *r)
{
    work_sort_once(r, [](int32_t *a, int32_t *t, long n) { work_sort<Fork>(a, t, n, false); });
}

#endif
