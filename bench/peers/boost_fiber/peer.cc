// SPDX-License-Identifier: MIT
//
// The benchmarks of the library, as Boost.Fiber would have them. It has no select.
//
// One worker: the scheduler that every thread has by default, round_robin. Several: work_stealing, in its
// default way, in which threads with nothing to do look for it without end.
//
// Stacks are from pooled_fixedsize_stack. It is not made for several threads, so with those it has a lock
// around it here. With the default, fixedsize_stack, which is malloc, a start is up to fifty times as
// dear: glibc gives pieces of that size back to the kernel at once. Stacks have the default size, 128 KiB,
// and no guard pages. What parked fibers take is asked with the default and (-guarded) with
// protected_fixedsize_stack, which has what the library has.
//
// A fiber is started as by default, put at the end of the queue (launch::post), or in -dispatch run at once,
// with its starter put at the end of the queue. That queue is first in, first out, so a tree of fibers is
// alive all at once: fib is that of 20 unless ROUTINES_BENCH_FIB says less; skynet has 100,000 leaves at
// most, its time and peak scaled up to the number asked for (the counter "leaves" says how many there were).
// memory_parked has 30,000 fibers at most: with guards that is about what a process can map.
//
// buffered_channel holds one message less than its size, a power of two: here 127. How it is asked and
// answers: ../peer.h.
//
//     g++ -std=c++17 -O2 -DNDEBUG -pthread peer.cc -lboost_fiber -lboost_context
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <boost/fiber/all.hpp>

#include "../peer.h"
#include "../work.hh"

namespace
{

namespace fibers = boost::fibers;
using fibers::fiber;
using fibers::launch;

int workers;

// The library's pool, for several threads. Copies are the same pool.
class locked_pool_t
{
  public:
    using traits_type = fibers::pooled_fixedsize_stack::traits_type;

    explicit locked_pool_t(const fibers::pooled_fixedsize_stack &stacks) : all(new all_t{stacks, {}})
    {
    }

    boost::context::stack_context allocate()
    {
        const std::lock_guard<std::mutex> locked(all->lock);
        return all->stacks.allocate();
    }

    void deallocate(boost::context::stack_context &stack)
    {
        const std::lock_guard<std::mutex> locked(all->lock);
        all->stacks.deallocate(stack);
    }

  private:
    struct all_t {
        fibers::pooled_fixedsize_stack stacks;
        std::mutex lock;
    };
    all_t *all; // to the end of the process
};

std::optional<fibers::pooled_fixedsize_stack> pool; // with one worker
std::optional<locked_pool_t> locked_pool;           // with several

template <typename Fn> fiber start(launch how, Fn &&fn)
{
    if (pool)
        return fiber(how, std::allocator_arg, *pool, std::forward<Fn>(fn));
    return fiber(how, std::allocator_arg, *locked_pool, std::forward<Fn>(fn));
}

template <typename Fn> fiber start(Fn &&fn)
{
    return start(launch::post, std::forward<Fn>(fn));
}

template <typename Channel, typename T> void send(Channel &channel, T value)
{
    if (channel.push(std::move(value)) != fibers::channel_op_status::success)
        peer_fail("a push failed");
}

template <typename Channel, typename T> bool receive(Channel &channel, T &value)
{
    return channel.pop(value) == fibers::channel_op_status::success;
}

// ---- yield ----

void yield_often(long each)
{
    for (; each > 0; each--)
        boost::this_fiber::yield();
}

// Two fibers a worker: the partner is started when there is a leader on every worker.
double yield(long n)
{
    const int pairs = workers;
    const long each = (n + 2 * pairs - 1) / (2 * pairs);
    const int64_t patience = peer_now() + 1000000000;
    std::atomic<int> met{0};
    std::vector<fiber> leaders;
    for (int i = 0; i < pairs; i++) {
        leaders.push_back(start([&met, pairs, each, patience] {
            met++;
            while (met < pairs && peer_now() < patience)
                ;
            fiber partner = start([each] { yield_often(each); });
            yield_often(each);
            partner.join();
        }));
    }
    for (fiber &leader : leaders)
        leader.join();
    return static_cast<double>(each) * 2 * pairs;
}

// ---- start and join ----

template <launch how> double go_join(long n)
{
    for (long i = 0; i < n; i++)
        start(how, peer_empty).join();
    return static_cast<double>(n);
}

template <launch how> double thousand(long n)
{
    fiber started[1000];
    for (long i = 0; i < n; i++) {
        for (fiber &f : started)
            f = start(how, peer_empty);
        for (fiber &f : started)
            f.join();
    }
    return static_cast<double>(n);
}

template <launch how> long fib(long n)
{
    if (n < 2)
        return n;
    long a = 0;
    fiber half = start(how, [&a, n] { a = fib<how>(n - 1); });
    const long b = fib<how>(n - 2);
    half.join();
    return a + b;
}

template <launch how> double fibs(long n)
{
    const long of = peer_size("ROUTINES_BENCH_FIB", 20, 20);
    for (long i = 0; i < n; i++) {
        if (fib<how>(of) != peer_fib_number(of))
            peer_fail("the wrong Fibonacci number");
    }
    return static_cast<double>(n) * peer_fib_tasks(of);
}

// ---- skynet ----

// Rooms for ten, and a power of two.
constexpr std::size_t ROOM = 16;

template <typename Channel> std::shared_ptr<Channel> make_channel()
{
    if constexpr (std::is_same_v<Channel, fibers::unbuffered_channel<int64_t>>)
        return std::make_shared<Channel>();
    else
        return std::make_shared<Channel>(ROOM);
}

// The channel belongs to all who use it: on another thread, a child can still be in its push when the parent
// has what was pushed.
template <typename Channel, launch how>
void node(const std::shared_ptr<Channel> &parent, int64_t first, int64_t size)
{
    if (size == 1) {
        send(*parent, first);
        return;
    }
    const auto channel = make_channel<Channel>();
    int64_t sum = 0, part = 0;
    for (int i = 0; i < 10; i++) {
        start(how, [channel, first, size, i] {
            node<Channel, how>(channel, first + i * (size / 10), size / 10);
        }).detach();
    }
    for (int i = 0; i < 10; i++) {
        if (!receive(*channel, part))
            peer_fail("a pop failed");
        sum += part;
    }
    send(*parent, sum);
}

template <typename Channel, launch how> int64_t over_channels(int64_t size)
{
    const auto channel = make_channel<Channel>();
    int64_t sum = 0;
    start(how, [channel, size] { node<Channel, how>(channel, 0, size); }).detach();
    if (!receive(*channel, sum))
        peer_fail("a pop failed");
    return sum;
}

int64_t subtree(int64_t first, int64_t size)
{
    if (size == 1)
        return first;
    int64_t part[10], sum = 0;
    fiber child[10];
    for (int i = 0; i < 10; i++) {
        child[i] = start(launch::dispatch,
                         [&part, first, size, i] { part[i] = subtree(first + i * (size / 10), size / 10); });
    }
    for (int i = 0; i < 10; i++) {
        child[i].join();
        sum += part[i];
    }
    return sum;
}

int64_t join_tree(int64_t size)
{
    int64_t sum = 0;
    start([&sum, size] { sum = subtree(0, size); }).join();
    return sum;
}

template <int64_t tree(int64_t size)> void skynet(peer_result_t *r)
{
    constexpr int64_t most = 100000;
    constexpr double each = 20000; // bytes of memory that a leaf may take: to be had, or there are fewer
    const double wanted = peer_number("ROUTINES_BENCH_MILLION", 1e6);
    const double available = peer_proc_bytes("/proc/meminfo", "MemAvailable:");
    int64_t asked = 1, size = 1;
    while (static_cast<double>(asked) * 10 <= wanted)
        asked *= 10;
    while (size < asked && size < most &&
           (available <= 0 || static_cast<double>(size) * 10 * each < available))
        size *= 10;
    const double scale = static_cast<double>(asked) / static_cast<double>(size);
    peer_forget_peak();
    const double before = peer_peak();
    const int64_t begun = peer_now();
    const int64_t sum = tree(size);
    r->value = static_cast<double>(peer_now() - begun) * scale;
    peer_counter(r, "leaves", static_cast<double>(size));
    peer_counter(r, "peak_bytes", (peer_peak() - before) * scale);
    if (sum != size * (size - 1) / 2)
        peer_fail("the wrong sum");
}

// ---- channels ----

double ping_pong(long n)
{
    fibers::unbuffered_channel<long> ping, pong;
    fiber partner = start([&ping, &pong] {
        for (long ball = 0; receive(ping, ball);)
            send(pong, ball + 1);
    });
    for (long i = 0; i < n; i++) {
        long ball = 0;
        send(ping, i);
        if (!receive(pong, ball) || ball != i + 1)
            peer_fail("the wrong ball came back");
    }
    ping.close();
    partner.join();
    return static_cast<double>(n);
}

template <uint64_t each> double buffered(long count)
{
    const auto n = static_cast<uint64_t>(count);
    fibers::buffered_channel<uint64_t> channel{128};
    uint64_t counts[each] = {}, sums[each] = {}, received = 0, sum = 0;
    fiber producers[each], consumers[each];
    for (uint64_t i = 0; i < each; i++) {
        consumers[i] = start([&channel, &counts, &sums, i] {
            uint64_t value = 0, number = 0, total = 0;
            for (; receive(channel, value); number++)
                total += value;
            counts[i] = number;
            sums[i] = total;
        });
    }
    for (uint64_t i = 0; i < each; i++) {
        producers[i] = start([&channel, n, i] {
            uint64_t many = 0;
            const uint64_t first = peer_share(n, i, each, &many);
            for (uint64_t j = 0; j < many; j++)
                send(channel, first + j);
        });
    }
    for (fiber &producer : producers)
        producer.join();
    channel.close();
    for (uint64_t i = 0; i < each; i++) {
        consumers[i].join();
        received += counts[i];
        sum += sums[i];
    }
    if (received != n || sum != n * (n - 1) / 2)
        peer_fail("what was received is not what was sent");
    return static_cast<double>(n);
}

// ---- many fibers ----

// Each waits for a future of its own. Promises, futures and fibers are there before and not counted.
template <typename Stack> void memory_parked(peer_result_t *r)
{
    const auto count = static_cast<std::size_t>(peer_size("ROUTINES_BENCH_MILLION", 1e6, 30000));
    const auto of_all = static_cast<double>(count);
    std::vector<fibers::promise<std::size_t>> promises(count);
    std::vector<fibers::future<std::size_t>> futures;
    std::vector<fiber> all(count);
    for (auto &promise : promises)
        futures.push_back(promise.get_future());
    std::atomic<std::size_t> arrived{0}, right{0};
    Stack stack;
    const double resident = peer_resident(), tables = peer_page_tables();

    int64_t begun = peer_now();
    for (std::size_t i = 0; i < count; i++) {
        all[i] = fiber(std::allocator_arg, stack, [&arrived, &right, future = &futures[i], i] {
            arrived++;
            right += future->get() == i;
        });
    }
    while (arrived < count)
        boost::this_fiber::yield();
    r->value = static_cast<double>(peer_now() - begun) / of_all;
    peer_counter(r, "count", of_all);
    peer_counter(r, "bytes_each", (peer_resident() - resident) / of_all);
    peer_counter(r, "page_table_bytes_each", (peer_page_tables() - tables) / of_all);

    begun = peer_now();
    for (std::size_t i = 0; i < count; i++)
        promises[i].set_value(i);
    for (fiber &f : all)
        f.join();
    peer_counter(r, "end_us_each", static_cast<double>(peer_now() - begun) / 1000 / of_all);
    if (right != count)
        peer_fail("a parked fiber did not receive what was sent");
}

void sleepers(peer_result_t *r)
{
    const long tenth = peer_size("ROUTINES_BENCH_MILLION", 1e6, 1000000) / 10;
    const long count = tenth > 0 ? tenth : 1;
    peer_sleeper_t *const sleeping = peer_sleepers(count);
    std::vector<fiber> all(static_cast<std::size_t>(count));
    const int64_t cpu_begun = peer_cpu(), begun = peer_now();
    for (long i = 0; i < count; i++) {
        all[static_cast<std::size_t>(i)] = start([s = &sleeping[i]] {
            const auto from = std::chrono::steady_clock::now();
            boost::this_fiber::sleep_until(from + std::chrono::nanoseconds(s->ns));
            s->late = (std::chrono::steady_clock::now() - from).count() - s->ns;
        });
    }
    for (fiber &f : all)
        f.join();
    peer_sleepers_result(r, sleeping, count, peer_now() - begun, peer_cpu() - cpu_begun);
    free(sleeping);
}

// ---- mutex ----

double mutex(long n)
{
    fibers::mutex lock;
    long sum = 0;
    fiber all[1000];
    for (long i = 0; i < n; i++) {
        for (fiber &f : all) {
            f = start([&lock, &sum] {
                for (int k = 0; k < 1000; k++) {
                    const std::lock_guard<fibers::mutex> locked(lock);
                    sum++;
                }
            });
        }
        for (fiber &f : all)
            f.join();
    }
    if (sum != n * 1000000)
        peer_fail("the wrong sum");
    return static_cast<double>(sum);
}

double mutex_uncontended(long n)
{
    fibers::mutex lock;
    long sum = 0;
    for (long i = 0; i < n; i++) {
        const std::lock_guard<fibers::mutex> locked(lock);
        sum++;
    }
    if (sum != n)
        peer_fail("the wrong sum");
    return static_cast<double>(n);
}

// ---- sort and tree ----

template <launch how> struct fibers_t {
    template <typename Task, typename Call> static void both(const Task &task, const Call &call)
    {
        fiber half = start(how, task);
        call();
        half.join();
    }
};

template <launch how, int rounds> long visit(uint64_t x)
{
    x = work_node(x, rounds);
    if (!work_has_children(x))
        return 1;
    long nodes[WORK_CHILDREN], sum = 1;
    fiber children[WORK_CHILDREN];
    for (int i = 0; i < WORK_CHILDREN; i++) {
        children[i] =
            start(how, [&nodes, x, i] { nodes[i] = visit<how, rounds>(x + static_cast<uint64_t>(i)); });
    }
    for (int i = 0; i < WORK_CHILDREN; i++) {
        children[i].join();
        sum += nodes[i];
    }
    return sum;
}

template <launch how, int rounds> long whole(long branches, uint64_t first)
{
    const auto count = static_cast<std::size_t>(branches);
    std::vector<long> nodes(count);
    std::vector<fiber> all(count);
    long sum = 0;
    for (std::size_t i = 0; i < count; i++)
        all[i] = start(how, [&nodes, first, i] { nodes[i] = visit<how, rounds>(first + i); });
    for (std::size_t i = 0; i < count; i++) {
        all[i].join();
        sum += nodes[i];
    }
    return sum;
}

template <launch how> void tree(peer_result_t *r)
{
    work_tree_measure(r, WORK_ROUNDS, WORK_SEED, whole<how, WORK_ROUNDS>);
}

template <launch how> void tree_fine(peer_result_t *r)
{
    work_tree_measure(r, WORK_ROUNDS_FINE, WORK_SEED_FINE, whole<how, WORK_ROUNDS_FINE>);
}

// ----

using rendezvous = fibers::unbuffered_channel<int64_t>;
using with_room = fibers::buffered_channel<int64_t>;

const peer_benchmark_t benchmarks[] = {
    {"yield/peer-boost", yield, nullptr},
    {"go_join/peer-boost", go_join<launch::post>, nullptr},
    {"go_join/peer-boost-dispatch", go_join<launch::dispatch>, nullptr},
    {"thousand/peer-boost", thousand<launch::post>, nullptr},
    {"thousand/peer-boost-dispatch", thousand<launch::dispatch>, nullptr},
    {"fib/peer-boost", fibs<launch::post>, nullptr},
    {"fib/peer-boost-dispatch", fibs<launch::dispatch>, nullptr},
    {"skynet/peer-boost", nullptr, skynet<over_channels<rendezvous, launch::post>>},
    {"skynet/peer-boost-dispatch", nullptr, skynet<over_channels<rendezvous, launch::dispatch>>},
    {"skynet/peer-boost-buffered", nullptr, skynet<over_channels<with_room, launch::dispatch>>},
    {"skynet/peer-boost-join", nullptr, skynet<join_tree>},
    {"ping_pong/peer-boost", ping_pong, nullptr},
    {"buffered/peer-boost", buffered<1>, nullptr},
    {"buffered_4_4/peer-boost", buffered<4>, nullptr},
    {"memory_parked/peer-boost", nullptr, memory_parked<fibers::fixedsize_stack>},
    {"memory_parked/peer-boost-guarded", nullptr, memory_parked<fibers::protected_fixedsize_stack>},
    {"sleepers/peer-boost", nullptr, sleepers},
    {"mutex/peer-boost", mutex, nullptr},
    {"mutex_uncontended/peer-boost", mutex_uncontended, nullptr},
    {"sort/peer-boost", nullptr, work_sort_measure<fibers_t<launch::post>>},
    {"sort/peer-boost-dispatch", nullptr, work_sort_measure<fibers_t<launch::dispatch>>},
    {"tree/peer-boost", nullptr, tree<launch::post>},
    {"tree/peer-boost-dispatch", nullptr, tree<launch::dispatch>},
    {"tree_fine/peer-boost", nullptr, tree_fine<launch::post>},
    {"tree_fine/peer-boost-dispatch", nullptr, tree_fine<launch::dispatch>},
};

// ---- workers ----

struct run_t {
    void (*fn)(void *arg);
    void *arg;
    std::vector<std::thread> threads; // all but the main one
    fibers::mutex lock;
    fibers::condition_variable ended;
    bool over = false; // under lock
};

// What a thread's own fiber does meanwhile: it waits, and the thread runs others.
void wait_for_end(run_t &run)
{
    std::unique_lock<fibers::mutex> locked(run.lock);
    run.ended.wait(locked, [&run] { return run.over; });
}

// Everything is run by a fiber that any thread may take, not by main's own, which none can.
void around(int count, void (*fn)(void *arg), void *arg)
{
    run_t run{fn, arg, {}, {}, {}};
    const std::size_t most = 1024; // stacks allocated at once
    const fibers::pooled_fixedsize_stack stacks(fibers::pooled_fixedsize_stack::traits_type::default_size(),
                                                32, most);
    workers = count;
    if (count > 1) {
        const auto all = static_cast<std::uint32_t>(count);
        locked_pool.emplace(stacks);
        for (int i = 1; i < count; i++) {
            run.threads.emplace_back([&run, all] {
                fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(all);
                wait_for_end(run);
            });
        }
        fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(all); // waits for all of them
    } else {
        pool.emplace(stacks);
    }
    start([&run] {
        run.fn(run.arg);
        const std::lock_guard<fibers::mutex> locked(run.lock);
        run.over = true;
        run.ended.notify_all();
    }).detach();
    wait_for_end(run);
    for (std::thread &thread : run.threads)
        thread.join();
}

} // namespace

int main(int argc, char **argv)
{
    return peer_main(argc, argv, benchmarks, sizeof benchmarks / sizeof *benchmarks, around);
}
