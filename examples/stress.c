/* SPDX-License-Identifier: MIT
 *
 * stress: a million routines, and what they cost. All are started first, then all are
 * joined; with --parked all of them run and wait, each on a oneshot of its own, before
 * they are woken. Prints memory and time of every step.
 *
 *     ./stress                       1,000,000 routines that have not begun: about 150 MB
 *     ./stress --parked              1,000,000 that wait, each on its own stack: about 4.5 GB
 *     ./stress --workers 4 --parked 100000
 *
 * One worker is the default: it is busy with the starting, so that nobody runs what
 * was started before the memory has been measured.
 */
#include <getopt.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_COUNT 1000000
#define LARGEST_COUNT 100000000

struct job {
    size_t count;
    size_t workers;
    bool parked;
    routine_t *handles;
    routine_oneshot_t *gates; /* one for each routine, with --parked */
    size_t failed;            /* joins that did not give what they should */
    int error;                /* of the first of them */
};

/* Resident memory in bytes; 0: unknown. */
static size_t resident(void)
{
    size_t total = 0;
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm == NULL)
        return 0;
    if (fscanf(statm, "%zu %zu", &total, &pages) != 2)
        pages = 0;
    fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Page tables in bytes: the kernel's share, which is not in the resident memory. 0: unknown. */
static size_t page_tables(void)
{
    size_t kib = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "re");
    if (status == NULL)
        return 0;
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmPTE: %zu", &kib) != 1)
        continue;
    fclose(status);
    return kib << 10;
}

struct reading {
    int64_t at;
    size_t resident;
    size_t page_tables;
};

static struct reading read_all(void)
{
    return (struct reading){.at = routine_now(), .resident = resident(), .page_tables = page_tables()};
}

static double growth(size_t from, size_t to, size_t count)
{
    return ((double)to - (double)from) / (double)count;
}

/* A line about the step that ended now; takes the time of printing out. */
static void print_step(const char *step, struct reading *before, const struct reading *base, size_t count)
{
    const struct reading now = read_all();
    const double ns = (double)(now.at - before->at);
    printf("%-22s %9.3f s  %8.1f ns each   resident %8.1f MB, %7.1f bytes each + page tables %6.1f\n", step,
           ns / 1e9, ns / (double)count, (double)now.resident / 1e6,
           growth(base->resident, now.resident, count), growth(base->page_tables, now.page_tables, count));
    fflush(stdout);
    *before = read_all();
}

static void *give_back(void *arg)
{
    return arg;
}

static void *wait_at_gate(void *arg)
{
    void *value = NULL;
    return routine_oneshot_recv(arg, &value) == 0 ? value : NULL;
}

static void print_states(void)
{
    routine_stats_t stats;
    if (routine_stats(NULL, &stats) != 0)
        return;
    printf("  now: %" PRIu64 " live, %" PRIu64 " of them unstarted, %" PRIu64 " parked; %zu stacks\n",
           stats.live, stats.unstarted, stats.parked, stats.stacks_live);
}

/* Lets the others run until all wait, but for those that could not get a stack and are over. */
static void let_all_park(void)
{
    routine_stats_t stats;
    do
        routine_yield();
    while (routine_stats(NULL, &stats) == 0 && stats.parked + 1 < stats.live);
}

static void join_all(struct job *job)
{
    for (size_t i = 0; i < job->count; i++) {
        void *result = NULL;
        const int rc = routine_join(job->handles[i], &result);
        if (rc != 0 || result != &job->handles[i]) {
            job->error = job->failed == 0 ? rc : job->error;
            job->failed++;
        }
    }
}

static void *run(void *arg)
{
    struct job *job = arg;
    const struct reading base = read_all();
    struct reading last = base;
    printf("%-22s %53.1f MB\n", "before", (double)base.resident / 1e6);

    for (size_t i = 0; i < job->count; i++)
        job->handles[i] = job->parked ? go(wait_at_gate, &job->gates[i]) : go(give_back, &job->handles[i]);
    print_step("started", &last, &base, job->count);
    print_states();

    if (job->parked) {
        last.at = routine_now();
        let_all_park();
        print_step("all wait", &last, &base, job->count);
        print_states();
        last.at = routine_now();
        for (size_t i = 0; i < job->count; i++) {
            const int rc = routine_oneshot_send(&job->gates[i], &job->handles[i]);
            if (rc != 0)
                job->error = rc;
        }
        print_step("woken", &last, &base, job->count);
    }
    last.at = routine_now();
    join_all(job);
    print_step("joined", &last, &base, job->count);
    return NULL;
}

static int measure(struct job *job)
{
    routine_runtime_t *runtime;
    int rc = routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = job->workers});
    if (rc != 0) {
        fprintf(stderr, "stress: no runtime: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    printf("%zu routines, %s, workers: %zu\n", job->count, job->parked ? "parked" : "unstarted",
           routine_runtime_workers(runtime));
    const int64_t begun = routine_now();
    const int ran = routine_runtime_run(runtime, run, job, NULL);
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;
    rc = routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER);
    if (rc == 0)
        rc = routine_runtime_free(runtime);
    if (ran != 0 || rc != 0) {
        fprintf(stderr, "stress: %s\n", strerror(ran != 0 ? -ran : -rc));
        return EXIT_FAILURE;
    }
    printf("%-22s %53.1f MB\n", "runtime freed", (double)resident() / 1e6);
    if (job->failed > 0 || job->error != 0) {
        fprintf(stderr, "stress: %zu of %zu routines failed: %s\n", job->failed, job->count,
                job->error != 0 ? strerror(-job->error) : "a wrong result");
        return EXIT_FAILURE;
    }
    printf("all %zu joined after %.3f s\n", job->count, seconds);
    return EXIT_SUCCESS;
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

static int usage(FILE *stream, const char *program)
{
    fprintf(stream,
            "usage: %s [--parked] [--workers N] [count]\n"
            "  count          how many routines, 1 to %d (default %d)\n"
            "  -p, --parked   let them all start and wait before they are joined\n"
            "  -w, --workers  1 to %d (default 1)\n",
            program, LARGEST_COUNT, DEFAULT_COUNT, ROUTINE_WORKERS_MAX);
    return stream == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"parked", no_argument, NULL, 'p'},
                                            {"workers", required_argument, NULL, 'w'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct job job = {.count = DEFAULT_COUNT, .workers = 1};
    for (int c; (c = getopt_long(argc, argv, "pw:h", options, NULL)) != -1;) {
        if (c == 'p')
            job.parked = true;
        else if (c == 'h')
            return usage(stdout, argv[0]);
        else if (c != 'w' || !parse_number(optarg, ROUTINE_WORKERS_MAX, &job.workers))
            return usage(stderr, argv[0]);
    }
    if (argc - optind > 1 || (argc - optind == 1 && !parse_number(argv[optind], LARGEST_COUNT, &job.count)))
        return usage(stderr, argv[0]);

    /* Written to now, so that our own arrays don't count as the routines' memory. */
    const size_t gates = job.parked ? job.count : 1;
    job.handles = malloc(job.count * sizeof *job.handles);
    job.gates = malloc(gates * sizeof *job.gates);
    int status = EXIT_FAILURE;
    if (job.handles != NULL && job.gates != NULL) {
        memset(job.handles, 0xff, job.count * sizeof *job.handles);
        for (size_t i = 0; i < gates; i++)
            routine_oneshot_init(&job.gates[i]);
        status = measure(&job);
    } else {
        fprintf(stderr, "stress: not enough memory for %zu handles\n", job.count);
    }
    free(job.gates);
    free(job.handles);
    return status;
}
