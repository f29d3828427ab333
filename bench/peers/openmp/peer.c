/* SPDX-License-Identifier: MIT
 *
 * The benchmarks of the library that OpenMP's tasks can do: go and join, a thousand, fib. A
 * task can't wait for another one by name: the join is taskwait. One a process:
 *
 *     peer --list           the names
 *     peer NAME WORKERS     runs one with so many threads, prints it as a line of JSON
 *
 * ROUTINES_BENCH_FIB (30 unless given), ROUTINES_BENCH_SECONDS (how long to measure,
 * 0.5): as for the library. With one thread gcc's libgomp runs each task at once, as a call.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double number(const char *variable, double otherwise)
{
    const char *text = getenv(variable);
    double value = text != NULL ? strtod(text, NULL) : 0;
    return value > 0 ? value : otherwise;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void __attribute__((noinline)) empty(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Each of these does something n times and returns how many operations that was. */

static double go_join(long n)
{
    for (long i = 0; i < n; i++) {
#pragma omp task
        empty();
#pragma omp taskwait
    }
    return (double)n;
}

static double thousand(long n)
{
    for (long i = 0; i < n; i++) {
        for (int j = 0; j < 1000; j++) {
#pragma omp task
            empty();
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
    long of = (long)number("ROUTINES_BENCH_FIB", 30);
    long is = 0, after = 1; /* fib(of), fib(of + 1) */
    for (long i = 0; i < of; i++) {
        long sum = is + after;
        is = after;
        after = sum;
    }
    for (long i = 0; i < n; i++) {
        if (fib(of) != is) {
            fputs("peer-openmp: the wrong Fibonacci number\n", stderr);
            exit(1);
        }
    }
    return (double)n * (double)(after > 2 ? after - 1 : 1);
}

/* Repeats until it takes long enough to be measured: that run counts, those before it warm up. */
static double measure(double (*run)(long n), int workers)
{
    double enough = number("ROUTINES_BENCH_SECONDS", 0.5) * 1e9;
    double each = 0;
#pragma omp parallel num_threads(workers)
#pragma omp single
    for (long n = 1; each == 0;) {
        double begun = now();
        double ops = run(n);
        double elapsed = now() - begun;
        if (elapsed >= enough)
            each = elapsed / ops;
        else if (elapsed < enough / 20)
            n *= 10;
        else
            n = (long)((double)n * enough / elapsed * 1.2) + 1;
    }
    return each;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double (*run)(long n);
    } benchmarks[] = {
        {"go_join/peer-openmp", go_join}, {"thousand/peer-openmp", thousand}, {"fib/peer-openmp", fibs}};
    const size_t count = sizeof benchmarks / sizeof *benchmarks;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++)
            puts(benchmarks[i].name);
        return 0;
    }
    int workers = argc == 3 ? atoi(argv[2]) : 0;
    for (size_t i = 0; i < count && workers > 0; i++) {
        if (strcmp(argv[1], benchmarks[i].name) == 0) {
            printf("{\"name\":\"%s\",\"workers\":%d,\"value\":%.6g,\"unit\":\"ns\"}\n", argv[1], workers,
                   measure(benchmarks[i].run, workers));
            return 0;
        }
    }
    fputs("usage: peer --list | peer NAME WORKERS\n", stderr);
    return 1;
}
