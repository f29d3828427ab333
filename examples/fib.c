/* SPDX-License-Identifier: MIT
 *
 * fib: Fibonacci numbers the foolish way, with a routine for every call; it shows
 * what a go and a join cost. A number travels as the argument, and its result as the
 * result, of each routine.
 *
 *     ./fib            fib(30): 2,692,537 routines
 *     ./fib 35
 *     ROUTINES_WORKERS=1 ./fib
 */
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_N 30
#define LARGEST_N 60

static uintptr_t join_number(routine_t h)
{
    void *result = NULL;
    const int rc = routine_join(h, &result);
    if (rc != 0) { /* a go that failed is reported here too */
        fprintf(stderr, "fib: a routine did not run: %s\n", strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
    return (uintptr_t)result;
}

static void *fib(void *arg)
{
    const uintptr_t n = (uintptr_t)arg;
    if (n < 2)
        return arg;
    routine_t a = go(fib, (void *)(n - 1));
    routine_t b = go(fib, (void *)(n - 2));
    const uintptr_t last = join_number(b); /* what was started last is the cheapest to join */
    return (void *)(join_number(a) + last);
}

/* The same by addition, to compare with; fib(n + 1) also tells how many calls there are. */
static uint64_t fib_by_loop(unsigned n)
{
    uint64_t a = 0;
    uint64_t b = 1;
    while (n-- > 0) {
        const uint64_t sum = a + b;
        a = b;
        b = sum;
    }
    return a;
}

static bool parse_n(const char *text, unsigned *n)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    const unsigned long value = strtoul(text, &end, 10);
    *n = (unsigned)value;
    return *end == '\0' && value <= LARGEST_N;
}

int main(int argc, char **argv)
{
    unsigned n = DEFAULT_N;
    if (argc > 2 || (argc == 2 && !parse_n(argv[1], &n))) {
        fprintf(stderr, "usage: %s [n]\n  n  0 to %d (default %d)\n", argv[0], LARGEST_N, DEFAULT_N);
        return 2;
    }

    const int64_t begun = routine_now();
    const uint64_t result = join_number(go(fib, (void *)(uintptr_t)n));
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;

    routine_stats_t stats;
    const int rc = routine_stats(NULL, &stats);
    if (rc != 0) {
        fprintf(stderr, "fib: no statistics: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    const uint64_t spawned = stats.total.spawned;
    printf("fib(%u) = %" PRIu64 "\n", n, result);
    printf("routines  %" PRIu64 ", of them run in place by their joiner: %" PRIu64 "\n", spawned,
           stats.total.in_place);
    printf("time      %.3f s with %zu worker%s, %.1f ns per routine\n", seconds, stats.workers,
           stats.workers == 1 ? "" : "s", seconds * 1e9 / (double)spawned);

    const uint64_t calls = 2 * fib_by_loop(n + 1) - 1;
    if (result != fib_by_loop(n) || spawned != calls) {
        fprintf(stderr, "fib: wrong: expected %" PRIu64 " by %" PRIu64 " routines\n", fib_by_loop(n), calls);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
