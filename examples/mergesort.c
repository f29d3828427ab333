/* SPDX-License-Identifier: MIT
 *
 * mergesort: sorts pseudo-random numbers in parallel, first in a runtime of one
 * worker, then in one of several, and prints the speed-up. Divide and conquer as it is
 * usually written: start one half as a routine, do the other oneself, join. The
 * merges are divided too, or the last of them would keep all workers but one idle.
 *
 *     ./mergesort                    4,000,000 numbers, as many workers as CPUs
 *     ./mergesort 10000000 8         10,000,000 numbers, 8 workers
 */
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_COUNT 4000000
#define LARGEST_COUNT 1000000000
#define SORT_CUTOFF   4096  /* numbers that are not worth another routine to sort */
#define MERGE_CUTOFF  16384 /* ... or to merge */
#define INSERT_CUTOFF 24    /* ... or a merge */

/* Sort data[0..n), with scratch of the same size. */
struct sort {
    int32_t *data;
    int32_t *scratch;
    size_t n;
};

/* Merge a and b, both sorted, into out. */
struct merge {
    const int32_t *a;
    const int32_t *b;
    size_t a_count;
    size_t b_count;
    int32_t *out;
};

/* Every error of go and of join arrives here. There is nothing to be saved: stop. */
static void must_join(routine_t h)
{
    const int rc = routine_join(h, NULL);
    if (rc != 0) {
        fprintf(stderr, "mergesort: a routine did not run: %s\n", strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

static void merge_here(const struct merge *m)
{
    const int32_t *a = m->a;
    const int32_t *b = m->b;
    const int32_t *const a_end = a + m->a_count;
    const int32_t *const b_end = b + m->b_count;
    int32_t *out = m->out;
    while (a < a_end && b < b_end)
        *out++ = *b < *a ? *b++ : *a++;
    memcpy(out, a, (size_t)(a_end - a) * sizeof *a);
    out += a_end - a;
    memcpy(out, b, (size_t)(b_end - b) * sizeof *b);
}

/* How many of the sorted numbers are less than limit. */
static size_t count_less(const int32_t *sorted, size_t n, int32_t limit)
{
    size_t low = 0;
    while (low < n) {
        const size_t middle = low + (n - low) / 2;
        if (sorted[middle] < limit)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

/* Cuts the longer list in the middle and the other where the same number belongs. */
static void *merge(void *arg)
{
    struct merge m = *(const struct merge *)arg;
    if (m.a_count + m.b_count <= MERGE_CUTOFF) {
        merge_here(&m);
        return NULL;
    }
    if (m.a_count < m.b_count) { /* equal numbers can't be told apart: a and b may change places */
        m = (struct merge){.a = m.b, .b = m.a, .a_count = m.b_count, .b_count = m.a_count, .out = m.out};
    }
    const size_t a_cut = m.a_count / 2;
    const size_t b_cut = count_less(m.b, m.b_count, m.a[a_cut]);
    struct merge low = {.a = m.a, .b = m.b, .a_count = a_cut, .b_count = b_cut, .out = m.out};
    struct merge high = {.a = m.a + a_cut,
                         .b = m.b + b_cut,
                         .a_count = m.a_count - a_cut,
                         .b_count = m.b_count - b_cut,
                         .out = m.out + a_cut + b_cut};
    routine_t h = go(merge, &high); /* high is ours, and outlives the routine: we join it */
    merge(&low);
    must_join(h);
    return NULL;
}

static void insertion_sort(int32_t *data, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const int32_t value = data[i];
        size_t j = i;
        for (; j > 0 && data[j - 1] > value; j--)
            data[j] = data[j - 1];
        data[j] = value;
    }
}

/* Four quarters are sorted in place, merged to halves in scratch, and these back to data. */
static void *sort(void *arg)
{
    const struct sort s = *(const struct sort *)arg;
    if (s.n <= INSERT_CUTOFF) {
        insertion_sort(s.data, s.n);
        return NULL;
    }
    struct sort quarters[4];
    for (size_t i = 0; i < 4; i++) {
        const size_t from = s.n * i / 4;
        quarters[i] =
            (struct sort){.data = s.data + from, .scratch = s.scratch + from, .n = s.n * (i + 1) / 4 - from};
    }
    struct merge halves[2];
    for (size_t i = 0; i < 2; i++) {
        const struct sort *q = quarters + 2 * i;
        halves[i] = (struct merge){
            .a = q[0].data, .b = q[1].data, .a_count = q[0].n, .b_count = q[1].n, .out = q[0].scratch};
    }
    const size_t cut = quarters[0].n + quarters[1].n;
    struct merge whole = {
        .a = s.scratch, .b = s.scratch + cut, .a_count = cut, .b_count = s.n - cut, .out = s.data};

    if (s.n <= SORT_CUTOFF) {
        for (size_t i = 0; i < 4; i++)
            sort(&quarters[i]);
        merge_here(&halves[0]);
        merge_here(&halves[1]);
        merge_here(&whole);
        return NULL;
    }
    routine_t h[3];
    for (size_t i = 0; i < 3; i++)
        h[i] = go(sort, &quarters[i]);
    sort(&quarters[3]);
    for (size_t i = 3; i-- > 0;)
        must_join(h[i]);
    routine_t left = go(merge, &halves[0]);
    merge(&halves[1]);
    must_join(left);
    merge(&whole);
    return NULL;
}

/* The next number of a fixed series (splitmix64), the same on every machine. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A sum that does not depend on the order, but on every number and how often it is there. */
static uint64_t checksum(const int32_t *data, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t state = (uint32_t)data[i];
        sum += next_random(&state);
    }
    return sum;
}

static bool is_sorted(const int32_t *data, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (data[i - 1] > data[i])
            return false;
    }
    return true;
}

/* Sorts a fresh copy of the input with that many workers (0: as many as there are); seconds, or -1. */
static double timed_sort(size_t workers, const int32_t *input, struct sort *job)
{
    memcpy(job->data, input, job->n * sizeof *input);
    routine_runtime_t *runtime;
    int rc = routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = workers, .name = "sort"});
    if (rc != 0) {
        fprintf(stderr, "mergesort: no runtime: %s\n", strerror(-rc));
        return -1;
    }
    workers = routine_runtime_workers(runtime);

    const int64_t begun = routine_now();
    const int ran = routine_runtime_run(runtime, sort, job, NULL);
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;

    rc = routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER);
    if (rc == 0)
        rc = routine_runtime_free(runtime);
    if (ran != 0 || rc != 0) {
        fprintf(stderr, "mergesort: %s\n", strerror(ran != 0 ? -ran : -rc));
        return -1;
    }
    if (!is_sorted(job->data, job->n) || checksum(job->data, job->n) != checksum(input, job->n)) {
        fprintf(stderr, "mergesort: the result is not what went in, sorted\n");
        return -1;
    }
    printf("%3zu worker%c  %8.3f s  %7.1f million numbers/s  sorted, checksum %016" PRIx64 "\n", workers,
           workers == 1 ? ' ' : 's', seconds, (double)job->n / seconds / 1e6, checksum(job->data, job->n));
    return seconds;
}

static int compare_workers(size_t n, size_t workers)
{
    int32_t *input = malloc(n * sizeof *input);
    struct sort job = {.data = malloc(n * sizeof *input), .scratch = malloc(n * sizeof *input), .n = n};
    int status = EXIT_FAILURE;
    if (input == NULL || job.data == NULL || job.scratch == NULL) {
        fprintf(stderr, "mergesort: not enough memory for %zu numbers\n", n);
        goto out;
    }
    uint64_t state = 42;
    for (size_t i = 0; i < n; i++)
        input[i] = (int32_t)(uint32_t)next_random(&state);
    memset(job.scratch, 0, n * sizeof *input); /* so that the first run does not pay for new pages */

    printf("sorting %zu numbers\n", n);
    const double alone = timed_sort(1, input, &job);
    if (alone < 0)
        goto out;
    const double together = timed_sort(workers, input, &job);
    if (together < 0)
        goto out;
    printf("speed-up %.2f\n", alone / together);
    status = EXIT_SUCCESS;
out:
    free(job.scratch);
    free(job.data);
    free(input);
    return status;
}

static bool parse_number(const char *text, size_t largest, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    const unsigned long value = strtoul(text, &end, 10);
    *number = value;
    return *end == '\0' && value >= 1 && value <= largest;
}

int main(int argc, char **argv)
{
    size_t n = DEFAULT_COUNT;
    size_t workers = 0;
    if (argc > 3 || (argc > 1 && !parse_number(argv[1], LARGEST_COUNT, &n)) ||
        (argc > 2 && !parse_number(argv[2], ROUTINE_WORKERS_MAX, &workers))) {
        fprintf(stderr,
                "usage: %s [count [workers]]\n"
                "  count    how many numbers to sort, 1 to %d (default %d)\n"
                "  workers  of the second run, 1 to %d (default: one for each CPU)\n",
                argv[0], LARGEST_COUNT, DEFAULT_COUNT, ROUTINE_WORKERS_MAX);
        return 2;
    }
    return compare_workers(n, workers);
}
