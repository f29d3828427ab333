/* SPDX-License-Identifier: MIT
 *
 * runtimes: two runtimes side by side. "primes" has three workers and small stacks and
 * counts prime numbers with many routines; "flood" has one worker and a large stack and
 * looks for the largest cave of a map by deep recursion. Neither notices the other:
 * each has its own threads, queues and statistics. One is then shut down by waiting
 * for the routines it still has, the other by cancelling them.
 *
 *     ./runtimes                     primes below 2,000,000
 *     ./runtimes 100000
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define DEFAULT_LIMIT 2000000
#define LARGEST_LIMIT 1000000000
#define SLICES        100
#define SIDE          128 /* of the map */
#define LEFT_BEHIND   10  /* routines that the shutdown waits for */
#define SLEEPERS      50  /* routines that it wakes and cancels */
#define WORKERS       3   /* of the runtime "primes" */

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "runtimes: %s: %s\n", what, strerror(-rc));
        exit(EXIT_FAILURE);
    }
}

/* The name of the thread that we are on, for show. A routine may change it at any blocking call. */
static void print_whereabouts(const char *what)
{
    char thread[17] = "";
    if (prctl(PR_GET_NAME, thread) == 0)
        printf("%s runs on a thread named %s\n", what, thread);
}

/* Counting primes: a routine for each slice of the numbers. */

struct slice {
    uint32_t from;
    uint32_t to;
};

static void *count_slice(void *arg)
{
    const struct slice *slice = arg;
    uintptr_t primes = 0;
    for (uint32_t n = slice->from < 2 ? 2 : slice->from; n < slice->to; n++) {
        bool prime = true;
        for (uint32_t d = 2; prime && (uint64_t)d * d <= n; d++)
            prime = n % d != 0;
        primes += prime;
    }
    return (void *)primes;
}

static void *count_primes(void *arg)
{
    const uint64_t limit = *(const uint32_t *)arg;
    routine_t h[SLICES];
    print_whereabouts("the counting of primes");
    for (uint64_t i = 0; i < SLICES; i++) { /* a go inside a routine stays in its runtime */
        h[i] = go_copy(count_slice, ((struct slice){.from = (uint32_t)(limit * i / SLICES),
                                                    .to = (uint32_t)(limit * (i + 1) / SLICES)}));
    }
    uintptr_t primes = 0;
    for (size_t i = SLICES; i-- > 0;) {
        void *result = NULL;
        check(routine_join(h[i], &result), "a slice");
        primes += (uintptr_t)result;
    }
    return (void *)primes;
}

/* The largest cave: recursion as deep as the cave has cells. */

struct map {
    bool rock[SIDE][SIDE];
};

static size_t flood(struct map *map, size_t y, size_t x)
{
    if (y >= SIDE || x >= SIDE || map->rock[y][x]) /* one less than 0 is a large number */
        return 0;
    map->rock[y][x] = true;
    return 1 + flood(map, y, x + 1) + flood(map, y + 1, x) + flood(map, y, x - 1) + flood(map, y - 1, x);
}

static void *find_largest_cave(void *arg)
{
    struct map *map = arg;
    size_t largest = 0;
    print_whereabouts("the flood");
    for (size_t y = 0; y < SIDE; y++) {
        for (size_t x = 0; x < SIDE; x++) {
            const size_t cells = flood(map, y, x);
            largest = cells > largest ? cells : largest;
        }
    }
    return (void *)largest;
}

/* Rock at every fifth place of every third row, and one wall with no gap: above it the cave is larger. */
static void dig(struct map *map)
{
    for (size_t y = 0; y < SIDE; y++) {
        for (size_t x = 0; x < SIDE; x++)
            map->rock[y][x] = (y % 3 == 0 && x % 5 == 0) || y == 100;
    }
}

static void print_counts(const char *name, routine_runtime_t *runtime)
{
    routine_stats_t stats;
    check(routine_stats(runtime, &stats), "statistics");
    printf("%-6s  %zu worker%s, %" PRIu64 " routines started, %" PRIu64 " completed, %" PRIu64 " cancelled\n",
           name, stats.workers, stats.workers == 1 ? "" : "s", stats.total.spawned, stats.total.completed,
           stats.total.cancelled);
}

static void compute(routine_runtime_t *primes, routine_runtime_t *caves, uint32_t limit)
{
    static struct map map;
    dig(&map);

    /* Both at the same time. From a plain thread a go needs to be told where. */
    routine_t a = go_with(&(routine_attr_t){.name = "primes", .runtime = primes}, count_primes, &limit);
    routine_t b = go_with(&(routine_attr_t){.name = "flood", .runtime = caves}, find_largest_cave, &map);
    void *count = NULL;
    void *cells = NULL;
    check(routine_join(a, &count), "counting primes");
    check(routine_join(b, &cells), "flooding the map");
    printf("primes below %" PRIu32 ": %zu\n", limit, (size_t)(uintptr_t)count);
    printf("the largest cave has %zu cells\n", (size_t)(uintptr_t)cells);
    print_counts("primes", primes);
    print_counts("flood", caves);
}

/* Nobody joins these, but they matter: the shutdown is to wait for them. */

static void *finish_later(void *arg)
{
    atomic_int *finished = arg;
    for (int i = 0; i < 100; i++)
        routine_yield();
    atomic_fetch_add_explicit(finished, 1, memory_order_relaxed); /* read after the shutdown: that orders */
    return NULL;
}

static void shut_down_waiting(routine_runtime_t *runtime)
{
    atomic_int finished = 0;
    for (int i = 0; i < LEFT_BEHIND; i++) {
        routine_t h = go_with(&(routine_attr_t){.runtime = runtime}, finish_later, &finished);
        check(routine_detach(h), "starting a detached routine");
    }
    check(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), "shutdown");
    printf("flood is shut down; of %d routines left behind %d have finished\n", LEFT_BEHIND,
           atomic_load_explicit(&finished, memory_order_relaxed));
    check(routine_runtime_free(runtime), "free");
}

/* These would run for ever; they are kind enough to ask now and then whether they should stop. */

static void *run_until_cancelled(void *arg)
{
    static char stopped[] = "stopped";
    check(routine_oneshot_send(arg, NULL), "telling that it runs");
    while (routine_check() == 0)
        continue;
    return stopped;
}

/* And these sleep, which a cancellation ends. That the others never let go of their workers does not keep
 * them from that. */
static void *sleep_long(void *arg)
{
    static char woken[] = "woken";
    check(routine_waitgroup_done(arg), "telling that it is about to sleep");
    return routine_sleep(3600 * ROUTINE_S) == -ECANCELED ? woken : NULL;
}

static void shut_down_cancelling(routine_runtime_t *runtime)
{
    const size_t workers = routine_runtime_workers(runtime);
    routine_oneshot_t started[WORKERS] = {0};
    routine_t endless[WORKERS];
    routine_t asleep[SLEEPERS];
    routine_waitgroup_t up = ROUTINE_WAITGROUP_INITIALIZER;
    for (size_t i = 0; i < workers; i++)
        endless[i] = go_with(&(routine_attr_t){.runtime = runtime}, run_until_cancelled, &started[i]);
    for (size_t i = 0; i < workers; i++)
        check(routine_oneshot_recv(&started[i], NULL), "waiting for a routine to start");
    check(routine_waitgroup_add(&up, SLEEPERS), "counting");
    for (size_t i = 0; i < SLEEPERS; i++)
        asleep[i] = go_with(&(routine_attr_t){.runtime = runtime}, sleep_long, &up);
    check(routine_waitgroup_wait(&up), "waiting for the sleepers");

    int rc = routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, 50 * ROUTINE_MS);
    printf("waiting 50 ms for primes: %s\n", strerror(-rc));
    check(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, 60 * ROUTINE_S), "shutdown");

    size_t stopped = 0;
    size_t woken = 0;
    for (size_t i = 0; i < workers; i++) { /* handles stay good after a shutdown */
        void *result = NULL;
        check(routine_join(endless[i], &result), "joining an endless routine");
        stopped += result != NULL;
    }
    for (size_t i = 0; i < SLEEPERS; i++) {
        void *result = NULL;
        check(routine_join(asleep[i], &result), "joining a sleeper");
        woken += result != NULL;
    }
    printf("primes is shut down; %zu running routines stopped, %zu sleeping ones woken\n", stopped, woken);

    rc = routine_join(go_with(&(routine_attr_t){.runtime = runtime}, sleep_long, &up), NULL);
    printf("a go to it now: %s\n", strerror(-rc));
    print_counts("primes", runtime);
    check(routine_runtime_free(runtime), "free");
}

int main(int argc, char **argv)
{
    unsigned long limit = DEFAULT_LIMIT;
    char *end = NULL;
    if (argc == 2 && *argv[1] >= '0' && *argv[1] <= '9')
        limit = strtoul(argv[1], &end, 10);
    if (argc > 2 || (argc == 2 && (end == NULL || *end != '\0' || limit > LARGEST_LIMIT))) {
        fprintf(stderr, "usage: %s [limit]\n  limit  count the primes below it; up to %d (default %d)\n",
                argv[0], LARGEST_LIMIT, DEFAULT_LIMIT);
        return 2;
    }

    routine_runtime_t *primes;
    routine_runtime_t *caves;
    check(routine_runtime_new(&primes, &(routine_runtime_config_t){.name = "primes",
                                                                   .workers = WORKERS,
                                                                   .stack_size = (size_t)64 << 10}),
          "a runtime for primes");
    check(routine_runtime_new(
              &caves,
              &(routine_runtime_config_t){.name = "flood", .workers = 1, .stack_size = (size_t)16 << 20}),
          "a runtime for the flood");
    compute(primes, caves, (uint32_t)limit);
    shut_down_waiting(caves);
    shut_down_cancelling(primes);
    return EXIT_SUCCESS;
}
