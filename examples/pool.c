/* SPDX-License-Identifier: MIT
 *
 * pool: a bounded pool of routines that takes jobs from one channel and sends results to another; here each
 * job is to compute a row of the Mandelbrot set.
 *
 *     ./pool                         a picture in letters
 *     ./pool -j 8 -s 3000x2000 -o mandelbrot.pgm
 *
 * The pool (struct pool, and the functions that begin with pool_) does not know what it computes; it is meant
 * to be copied. At most as many jobs run at once as it has routines. Both channels are short, so neither jobs
 * nor results pile up; whoever uses the pool sends jobs and receives results in one select, as either
 * is possible. When no job is left, the jobs are closed, the routines end one by one, and the last
 * thing to come is that the results are closed.
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUTINES_MAX     10000
#define SIDE_MAX         20000
#define ITERATIONS_MAX   65535
#define DEFAULT_ROUTINES 4

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "pool: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* ---- The pool. ---- */

typedef void *pool_work(void *job); /* a job to its result; both are pointers to what the user likes */

struct pool {
    pool_work *work;
    chan_t *jobs;    /* of void *; close it when there are no more */
    chan_t *results; /* of void *; closed when all is done */
    size_t size;
    routine_t *routines;
    routine_t supervisor;
    atomic_size_t running; /* jobs at this moment */
    atomic_size_t most;    /* jobs at once so far */
};

static void *pool_routine(void *arg)
{
    struct pool *pool = arg;
    uintptr_t done = 0;
    void *job;
    while (chan_recv(pool->jobs, &job) == 0) {
        const size_t running = atomic_fetch_add(&pool->running, 1) + 1;
        size_t most = atomic_load(&pool->most);
        while (most < running && !atomic_compare_exchange_weak(&pool->most, &most, running))
            continue;
        void *result = pool->work(job);
        atomic_fetch_sub(&pool->running, 1);
        check(chan_send(pool->results, &result), "sending a result");
        done++;
    }
    return (void *)done;
}

/* Its result: how many jobs were done. */
static void *pool_supervise(void *arg)
{
    struct pool *pool = arg;
    uintptr_t done = 0;
    for (size_t i = 0; i < pool->size; i++) {
        void *result = NULL;
        check(routine_join(pool->routines[i], &result), "a routine of the pool");
        done += (uintptr_t)result;
    }
    check(chan_close(pool->results), "closing the results");
    return (void *)done;
}

/* Starts it. Returns 0 or a negative errno; then there is nothing to be stopped. */
static int pool_start(struct pool *pool, size_t size, pool_work *work)
{
    int rc = -ENOMEM;
    *pool = (struct pool){.work = work, .size = size};
    pool->jobs = chan_make(void *, (ptrdiff_t)size); /* so that nobody waits for a job to be handed over */
    pool->results = chan_make(void *, (ptrdiff_t)size);
    pool->routines = calloc(size, sizeof *pool->routines);
    if (pool->jobs == NULL || pool->results == NULL || pool->routines == NULL)
        goto out;
    for (size_t i = 0; i < size; i++)
        pool->routines[i] = go_with(&(routine_attr_t){.name = "pool"}, pool_routine, pool);
    pool->supervisor = go_with(&(routine_attr_t){.name = "supervisor"}, pool_supervise, pool);
    if (pool->supervisor.block != NULL)
        return 0;
    rc = routine_error(pool->supervisor); /* could not be started */
    chan_close(pool->jobs);
    for (size_t i = 0; i < size; i++)
        check(routine_join(pool->routines[i], NULL), "a routine of the pool");
out:
    free(pool->routines);
    chan_unref(pool->results);
    chan_unref(pool->jobs);
    return rc;
}

/* Waits for its end, after the jobs were closed and all results received. The number of jobs done. */
static size_t pool_finish(struct pool *pool)
{
    void *done = NULL;
    check(routine_join(pool->supervisor, &done), "the supervisor");
    free(pool->routines);
    chan_unref(pool->results);
    chan_unref(pool->jobs);
    return (uintptr_t)done;
}

/* ---- A picture: one job for each row, and the row itself is the result. ---- */

#define ONE INT64_C(4194304) /* of the fixed point: whole numbers look the same on every machine */

struct row {
    size_t y;
    size_t width;
    size_t height;
    unsigned limit;        /* iterations, for points that never escape */
    uint16_t iterations[]; /* until |z| > 2 */
};

static unsigned escape_time(int64_t cr, int64_t ci, unsigned limit)
{
    int64_t zr = 0;
    int64_t zi = 0;
    unsigned n = 0;
    for (; n < limit; n++) {
        const int64_t rr = zr * zr / ONE;
        const int64_t ii = zi * zi / ONE;
        if (rr + ii > 4 * ONE)
            break;
        zi = 2 * zr * zi / ONE + ci;
        zr = rr - ii + cr;
    }
    return n;
}

/* From -2.5 to 1 across, and from 1.25 to -1.25 down. */
static void *compute_row(void *job)
{
    struct row *row = job;
    const int64_t ci = 5 * ONE / 4 - 5 * ONE / 2 * (int64_t)row->y / (int64_t)row->height;
    for (size_t x = 0; x < row->width; x++) {
        const int64_t cr = 7 * ONE / 2 * (int64_t)x / (int64_t)row->width - 5 * ONE / 2;
        row->iterations[x] = (uint16_t)escape_time(cr, ci, row->limit);
    }
    return row;
}

struct picture {
    size_t width;
    size_t height;
    size_t limit;
    struct row **rows; /* those that have come */
    size_t most_at_once;
};

static void *new_row(const struct picture *picture, size_t y)
{
    struct row *row = malloc(sizeof *row + picture->width * sizeof row->iterations[0]);
    check(row != NULL ? 0 : -ENOMEM, "a row");
    row->y = y;
    row->width = picture->width;
    row->height = picture->height;
    row->limit = (unsigned)picture->limit;
    return row;
}

/* Sends a job or receives a result, whichever can be done first, until the results are closed. */
static void compute(struct picture *picture, size_t routines)
{
    struct pool pool;
    check(pool_start(&pool, routines, compute_row), "starting the pool");
    chan_t *jobs = pool.jobs; /* NULL when there is nothing to send: that switches the case off */
    size_t next = 0;
    size_t received = 0;
    void *job = new_row(picture, next++);
    void *result = NULL;
    for (bool more = true; more;) {
        const int which = chan_select(CHAN_SEND(jobs, &job), CHAN_RECV(pool.results, &result));
        switch (which) {
        case 0:
            if (next < picture->height) {
                job = new_row(picture, next++);
            } else {
                jobs = NULL;
                check(chan_close(pool.jobs), "closing the jobs");
            }
            break;
        case 1:
            picture->rows[((struct row *)result)->y] = result;
            received++;
            break;
        case CHAN_CLOSED(1):
            more = false;
            break;
        default:
            check(which, "select");
        }
    }
    const size_t done = pool_finish(&pool);
    picture->most_at_once = atomic_load(&pool.most);
    if (received != picture->height || done != picture->height || picture->most_at_once > routines) {
        fprintf(stderr, "pool: wrong: %zu rows, %zu results, %zu jobs done, %zu at once\n", picture->height,
                received, done, picture->most_at_once);
        exit(EXIT_FAILURE);
    }
}

/* ---- What to do with it. ---- */

static void print_letters(const struct picture *picture)
{
    static const char shades[] = " .,:;-=+*oxOX&%";
    for (size_t y = 0; y < picture->height; y++) {
        for (size_t x = 0; x < picture->width; x++) {
            const unsigned n = picture->rows[y]->iterations[x];
            const size_t shade = n < sizeof shades - 2 ? n : sizeof shades - 2;
            putchar(n == picture->limit ? '#' : shades[shade]);
        }
        putchar('\n');
    }
}

static bool write_pgm(const struct picture *picture, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        return false;
    fprintf(file, "P5\n%zu %zu\n255\n", picture->width, picture->height);
    for (size_t y = 0; y < picture->height; y++) {
        for (size_t x = 0; x < picture->width; x++) {
            const unsigned n = picture->rows[y]->iterations[x];
            putc(n == picture->limit ? 0 : (int)(255 - n * 8 % 256), file);
        }
    }
    const bool good = !ferror(file);
    return fclose(file) == 0 && good;
}

static int run(struct picture *picture, size_t routines, const char *path)
{
    picture->rows = calloc(picture->height, sizeof(struct row *));
    check(picture->rows != NULL ? 0 : -ENOMEM, "the picture");
    const int64_t begun = routine_now();
    compute(picture, routines);
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;

    uint64_t inside = 0;
    for (size_t y = 0; y < picture->height; y++) {
        for (size_t x = 0; x < picture->width; x++)
            inside += picture->rows[y]->iterations[x] == picture->limit;
    }
    bool good = true;
    if (path == NULL)
        print_letters(picture);
    else
        good = write_pgm(picture, path);
    if (!good)
        fprintf(stderr, "pool: %s: %s\n", path, strerror(errno));
    printf("jobs    %zu by %zu routine%s, at most %zu at once\n", picture->height, routines,
           routines == 1 ? "" : "s", picture->most_at_once);
    printf("points  %zu, of them inside: %" PRIu64 "\n", picture->width * picture->height, inside);
    printf("time    %.3f s\n", seconds);
    for (size_t y = 0; y < picture->height; y++)
        free(picture->rows[y]);
    free(picture->rows);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* One number, or with a separator two of them. */
static bool parse(const char *text, size_t largest, size_t *number, char separator, size_t *second)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoul(text, &end, 10);
    if (*number < 1 || *number > largest)
        return false;
    if (separator != '\0')
        return *end == separator && parse(end + 1, largest, second, '\0', NULL);
    return *end == '\0';
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [-j routines] [-s WIDTHxHEIGHT] [-i iterations] [-o file.pgm]\n"
            "  -j  routines of the pool: at most so many jobs run at once, 1 to %d (default %d)\n"
            "  -s  points of the picture, sides of 1 to %d (default 78x30)\n"
            "  -i  iterations after which a point counts as inside, 1 to %d (default 1000)\n"
            "  -o  write a grey picture; without it letters are printed\n",
            program, ROUTINES_MAX, DEFAULT_ROUTINES, SIDE_MAX, ITERATIONS_MAX);
    return 2;
}

int main(int argc, char **argv)
{
    struct picture picture = {.width = 78, .height = 30, .limit = 1000};
    size_t routines = DEFAULT_ROUTINES;
    const char *path = NULL;
    for (int c; (c = getopt(argc, argv, "j:s:i:o:")) != -1;) {
        bool good = c != '?';
        if (c == 'j')
            good = parse(optarg, ROUTINES_MAX, &routines, '\0', NULL);
        else if (c == 's')
            good = parse(optarg, SIDE_MAX, &picture.width, 'x', &picture.height);
        else if (c == 'i')
            good = parse(optarg, ITERATIONS_MAX, &picture.limit, '\0', NULL);
        else if (c == 'o')
            path = optarg;
        if (!good)
            return usage(argv[0]);
    }
    return optind == argc ? run(&picture, routines, path) : usage(argv[0]);
}
