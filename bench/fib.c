/* SPDX-License-Identifier: MIT
 *
 * What does a tree of routines cost: Fibonacci numbers, where every call but the leaves starts a
 * routine for one of its two children and calls the other? It takes
 * fib(n + 1) - 1 routines, and ns_per_op is the time of the whole divided by that, for
 * the serial limit too: there it is the time of two calls.
 *
 * ROUTINES_BENCH_FIB: n, 35 unless given (1 to 45).
 */
#include <stdatomic.h>

#include <routines/routine.h>

#include "harness.h"

static intptr_t fib_n(void)
{
    uint64_t n = bench_size("ROUTINES_BENCH_FIB", 35);
    return n <= 45 ? (intptr_t)n : 45;
}

static intptr_t fib_number(intptr_t n)
{
    intptr_t a = 0, b = 1;
    for (; n > 0; n--) {
        intptr_t next = a + b;
        a = b;
        b = next;
    }
    return a;
}

/* r(n) = 0 for n < 2, else 1 + r(n - 1) + r(n - 2). */
static double fib_routines_started(intptr_t n)
{
    return (double)(fib_number(n + 1) - 1);
}

/* A join failed somewhere. relaxed: read when all routines have been joined. */
static atomic_bool fib_failed;

static void *fib(void *arg)
{
    intptr_t n = (intptr_t)arg;
    if (n < 2)
        return arg;
    routine_t h = go(fib, (void *)(n - 1));
    intptr_t b = (intptr_t)fib((void *)(n - 2));
    void *a;
    if (routine_join(h, &a) != 0) {
        atomic_store_explicit(&fib_failed, true, memory_order_relaxed);
        return NULL;
    }
    return (void *)((intptr_t)a + b);
}

static void fib_routines(bench_t *b)
{
    intptr_t n = fib_n();
    bool wrong = false;
    atomic_store_explicit(&fib_failed, false, memory_order_relaxed);
    bench_start(b);
    for (uint64_t i = 0; i < bench_iterations(b); i++)
        wrong |= (intptr_t)fib((void *)n) != fib_number(n);
    bench_stop(b);
    double routines = fib_routines_started(n);
    bench_ops(b, routines > 1 ? routines : 1);
    bench_counter(b, "routines", routines);
    if (atomic_load_explicit(&fib_failed, memory_order_relaxed))
        bench_fail(b, "a join failed");
    if (wrong)
        bench_fail(b, "the wrong Fibonacci number");
}

BENCH(fib_routines, .name = "fib/routines", .on = BENCH_WORKERS, .unit = BENCH_MS);

/* Through a pointer, as a library has to: otherwise compilers unroll the recursion into itself. */
static intptr_t serial(intptr_t n)
{
    if (n < 2)
        return n;
    intptr_t (*call)(intptr_t) = serial;
    __asm__ volatile("" : "+r"(call));
    intptr_t a = call(n - 1);
    return a + call(n - 2);
}

static void fib_limit_serial(bench_t *b)
{
    intptr_t n = fib_n();
    bool wrong = false;
    bench_start(b);
    for (uint64_t i = 0; i < bench_iterations(b); i++)
        wrong |= serial(n) != fib_number(n);
    bench_stop(b);
    double routines = fib_routines_started(n);
    bench_ops(b, routines > 1 ? routines : 1);
    if (wrong)
        bench_fail(b, "the wrong Fibonacci number");
}

BENCH(fib_limit_serial, .name = "fib/limit-serial", .on = BENCH_THREAD, .unit = BENCH_MS);
