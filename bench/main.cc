/* SPDX-License-Identifier: MIT
 *
 * The cases of harness.h on Google Benchmark, which chooses the iterations, repeats,
 * filters and writes JSON (--benchmark_format, --benchmark_out, --benchmark_filter,
 * --benchmark_min_time, ...). Times are those the cases measured themselves. Exits
 * with 1 if a case failed.
 */
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "harness.h"

namespace
{

bool failed = false;
bool warm = false; /* a case has run in this process */

void run(benchmark::State &state, const bench_case_t *c, size_t workers)
{
    if (c->fresh && warm)
        state.SetLabel("not alone in its process: its figures are too low");
    warm = true;

    bench_t b{};
    b.workers = workers;
    while (state.KeepRunningBatch(state.max_iterations)) {
        b.iterations = static_cast<uint64_t>(state.max_iterations);
        bench_run(c, &b);
        if (b.error != nullptr) {
            failed = true;
            state.SkipWithError(b.error);
            return;
        }
        state.SetIterationTime(static_cast<double>(b.elapsed) * 1e-9);
    }
    state.counters["ns_per_op"] = bench_elapsed(&b) / (static_cast<double>(b.iterations) * b.ops);
    state.counters["cpus"] = static_cast<double>(b.cpu_elapsed) / static_cast<double>(b.elapsed);
    for (size_t i = 0; i < b.counters; i++)
        state.counters[b.counter[i].name] = b.counter[i].value;
}

void add(const bench_case_t *c, size_t workers)
{
    static const benchmark::TimeUnit units[] = {benchmark::kNanosecond, benchmark::kMicrosecond,
                                                benchmark::kMillisecond};
    std::string name = c->name;
    if (workers != 0)
        name += "/w" + std::to_string(workers);
    auto *registered = benchmark::RegisterBenchmark(
        name.c_str(), [c, workers](benchmark::State &state) { run(state, c, workers); });
    registered->UseManualTime()->Unit(units[c->unit]);
    if (c->once)
        registered->Iterations(1);
}

} // namespace

int main(int argc, char **argv)
{
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    const size_t all = bench_all_workers();
    if (all == 0) {
        std::fprintf(stderr, "routines_bench: no runtime could be started\n");
        return 1;
    }
    for (const bench_case_t *c = bench_first(); c != nullptr; c = c->next) {
        add(c, c->on == BENCH_THREAD ? 0 : 1);
        if (c->on != BENCH_WORKERS)
            continue;
        for (size_t workers = 2; workers < all; workers *= 2)
            add(c, workers);
        if (all > 1)
            add(c, all);
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return failed ? 1 : 0;
}
