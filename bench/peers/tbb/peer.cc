// SPDX-License-Identifier: MIT
//
// The benchmarks of the library that oneTBB's tasks can do: task_group, run and wait. A task can't wait for
// another one by name, only for its group; and it blocks its thread when it waits for anything else, so there
// are no channels, and none to be parked.
//
// sort/peer-tbb is the mergesort that all have; sort/peer-tbb-own is tbb::parallel_sort, which is what its
// users would call: a quicksort. max_allowed_parallelism limits the threads, the calling one included. How it
// is asked and answers: ../peer.h. ROUTINES_BENCH_FIB (30 unless given), ROUTINES_BENCH_SORT and
// ROUTINES_BENCH_TREE: as for the library.
//
//     g++ -std=c++17 -O2 -DNDEBUG peer.cc -ltbb
#include <atomic>
#include <vector>

#include <tbb/global_control.h>
#include <tbb/parallel_sort.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include "../peer.h"
#include "../work.hh"

namespace
{

// ---- tasks ----

double go_join(long n)
{
    tbb::task_group group;
    for (long i = 0; i < n; i++) {
        group.run(peer_empty);
        group.wait();
    }
    return static_cast<double>(n);
}

double thousand(long n)
{
    tbb::task_group group;
    for (long i = 0; i < n; i++) {
        for (int j = 0; j < 1000; j++)
            group.run(peer_empty);
        group.wait();
    }
    return static_cast<double>(n);
}

long fib(long n)
{
    if (n < 2)
        return n;
    long a = 0;
    tbb::task_group group;
    group.run([&a, n] { a = fib(n - 1); });
    const long b = fib(n - 2);
    group.wait();
    return a + b;
}

double fibs(long n)
{
    const long of = peer_size("ROUTINES_BENCH_FIB", 30, 45);
    for (long i = 0; i < n; i++) {
        if (fib(of) != peer_fib_number(of))
            peer_fail("the wrong Fibonacci number");
    }
    return static_cast<double>(n) * peer_fib_tasks(of);
}

// ---- sort ----

struct tasks_t {
    template <typename Task, typename Call> static void both(const Task &task, const Call &call)
    {
        tbb::task_group group;
        group.run(task);
        call();
        group.wait();
    }
};

void sort_own(peer_result_t *r)
{
    work_sort_once(r, [](int32_t *a, int32_t *, long n) { tbb::parallel_sort(a, a + n); });
}

// ---- tree ----

template <int rounds> long visit(uint64_t x)
{
    x = work_node(x, rounds);
    if (!work_has_children(x))
        return 1;
    long nodes[WORK_CHILDREN], sum = 1;
    tbb::task_group group;
    for (int i = 0; i < WORK_CHILDREN; i++)
        group.run([&nodes, x, i] { nodes[i] = visit<rounds>(x + static_cast<uint64_t>(i)); });
    group.wait();
    for (const long part : nodes)
        sum += part;
    return sum;
}

template <int rounds> long whole(long branches, uint64_t first)
{
    std::vector<long> nodes(static_cast<size_t>(branches));
    long sum = 0;
    tbb::task_group group;
    for (size_t i = 0; i < nodes.size(); i++)
        group.run([&nodes, first, i] { nodes[i] = visit<rounds>(first + i); });
    group.wait();
    for (const long part : nodes)
        sum += part;
    return sum;
}

void tree(peer_result_t *r)
{
    work_tree_measure(r, WORK_ROUNDS, WORK_SEED, whole<WORK_ROUNDS>);
}

void tree_fine(peer_result_t *r)
{
    work_tree_measure(r, WORK_ROUNDS_FINE, WORK_SEED_FINE, whole<WORK_ROUNDS_FINE>);
}

// ----

const peer_benchmark_t benchmarks[] = {
    {"go_join/peer-tbb", go_join, nullptr},
    {"thousand/peer-tbb", thousand, nullptr},
    {"fib/peer-tbb", fibs, nullptr},
    {"sort/peer-tbb", nullptr, work_sort_measure<tasks_t>},
    {"sort/peer-tbb-own", nullptr, sort_own},
    {"tree/peer-tbb", nullptr, tree},
    {"tree_fine/peer-tbb", nullptr, tree_fine},
};

// The threads are to be there before anything is measured: each of them meets all others once.
void start_threads(int workers)
{
    std::atomic<int> met{0};
    tbb::task_group group;
    const int64_t patience = peer_now() + 1000000000;
    for (int i = 0; i < workers; i++) {
        group.run([&met, workers, patience] {
            met++;
            while (met < workers && peer_now() < patience)
                ;
        });
    }
    group.wait();
}

void around(int workers, void (*fn)(void *arg), void *arg)
{
    const auto count = static_cast<size_t>(workers);
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, count);
    tbb::task_arena arena(workers);
    arena.execute([=] {
        start_threads(workers);
        fn(arg);
    });
}

} // namespace

int main(int argc, char **argv)
{
    return peer_main(argc, argv, benchmarks, sizeof benchmarks / sizeof *benchmarks, around);
}
