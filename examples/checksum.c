/* SPDX-License-Identifier: MIT
 *
 * checksum: what cksum prints, of every file below directories, by several routines at once and yet in order.
 *
 *     ./checksum                     everything below the current directory
 *     ./checksum -s -j 4 /usr/include ~/notes.txt
 *
 * A pipeline of three stages with bounded channels between them:
 *
 *     walk ──▶ files ──▶ digest, digest, ... ──▶ results ──▶ main
 *
 * One routine walks the directories and numbers the files. Several take files from the same channel and
 * send their sums to the same channel: fan-out and fan-in. main puts the sums back in order and prints them;
 * it is a plain thread, so a slow terminal holds up no worker. A semaphore keeps the walk from running
 * further ahead of the output than main has room for, however long one file may take.
 *
 * Reading a file blocks the worker it happens on for as long as the disk takes: so more digesters than
 * workers gain nothing for now.
 *
 * Exit status: 0; 1 if something could not be read (it is reported and left out); 2 on failure.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK         ((size_t)64 << 10) /* read at a time */
#define WINDOW        256                /* files on their way from the walk to the output */
#define ROOM          16                 /* of each channel */
#define DIGESTERS_MAX 1024

/* Functions that look at errno never wait for a routine, and are not inlined into those that
 * do: a routine may come back on another thread, and a compiler remembers where errno was. */
#define USES_ERRNO __attribute__((noinline))

/* What both channels carry. Whoever has received one owns the path. */
struct file {
    uint64_t number; /* in the order of the walk, from 0 */
    char *path;
    uint32_t sum;
    uint64_t size;
    int error; /* 0, or the errno that stands for the sum */
};

struct pipeline {
    char *const *argument;
    size_t argument_count;
    chan_t *files;
    chan_t *results;
    routine_sem_t window;
    routine_t walk;
    routine_t digest[DIGESTERS_MAX];
    size_t digesters;
};

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "checksum: %s: %s\n", what, strerror(-rc));
        _Exit(2);
    }
}

static void *check_memory(void *p)
{
    check(p != NULL ? 0 : -ENOMEM, "memory");
    return p;
}

/* A stage that does not run would let the others wait for ever: so don't wait for the join to tell. */
static routine_t started(routine_t h)
{
    check(routine_error(h), "a routine");
    return h;
}

/* ---- The first stage: which files there are. ---- */

struct paths {
    char **path;
    size_t n;
    size_t size;
};

static void paths_push(struct paths *paths, char *path)
{
    if (paths->n == paths->size) {
        paths->size = 2 * paths->size + 16;
        paths->path = check_memory(realloc(paths->path, paths->size * sizeof *paths->path));
    }
    paths->path[paths->n++] = path;
}

static char *join_path(const char *directory, const char *name)
{
    char *path;
    const char *slash = directory[strlen(directory) - 1] == '/' ? "" : "/";
    check(asprintf(&path, "%s%s%s", directory, slash, name) >= 0 ? 0 : -ENOMEM, "memory");
    return path;
}

/* The bits of S_IFMT, or a negative errno. Symbolic links are followed if they were asked for by name. */
USES_ERRNO static int kind_of(const char *path, bool follow)
{
    struct stat status;
    return (follow ? stat : lstat)(path, &status) == 0 ? (int)(status.st_mode & S_IFMT) : -errno;
}

static int compare_downwards(const void *a, const void *b)
{
    return strcmp(*(char *const *)b, *(char *const *)a);
}

/* Pushes what is in a directory, the first in the order of names at last. Returns 0 or an errno. */
USES_ERRNO static int push_directory(struct paths *paths, const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return errno;
    const size_t begin = paths->n;
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            paths_push(paths, join_path(path, entry->d_name));
    }
    const int error = errno;
    closedir(directory);
    if (paths->n > begin)
        qsort(paths->path + begin, paths->n - begin, sizeof *paths->path, compare_downwards);
    return error;
}

/* Gives the next number to a path, and sends it into the pipeline. */
static void send_numbered(struct pipeline *p, chan_t *to, uint64_t *numbers, char *path, int error)
{
    const struct file file = {.number = *numbers, .path = path, .error = error};
    check(routine_sem_wait(&p->window), "the window");
    check(chan_send(to, &file), "sending a file");
    ++*numbers;
}

/* What is still to be visited is a list on the heap, so a deep tree needs no deep stack. */
static void *walk(void *arg)
{
    struct pipeline *p = arg;
    struct paths pending = {0};
    uint64_t numbers = 0;
    for (size_t i = 0; i < p->argument_count; i++) {
        bool argument = true;
        paths_push(&pending, check_memory(strdup(p->argument[i])));
        while (pending.n > 0) {
            char *path = pending.path[--pending.n];
            const int kind = kind_of(path, argument);
            int error = kind < 0 ? -kind : 0;
            if (kind == S_IFDIR)
                error = push_directory(&pending, path);
            else if (kind >= 0 && kind != S_IFREG && argument)
                error = EINVAL; /* below directories, devices and the like are passed over */
            if (kind == S_IFREG)
                send_numbered(p, p->files, &numbers, path, 0);
            else if (error != 0)
                send_numbered(p, p->results, &numbers, path, error); /* past the digesters, in its turn */
            else
                free(path);
            argument = false;
        }
    }
    free(pending.path);
    check(chan_close(p->files), "the end of the files");
    return NULL;
}

/* ---- The second stage: the sum of a file. ---- */

/* The checksum of POSIX's cksum: a CRC of 32 bits, highest bit first, of the contents and then the length. */
static uint32_t crc_table[256];
static routine_once_t crc_once = ROUTINE_ONCE_INITIALIZER;

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i << 24;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc << 1) ^ (crc >> 31 ? UINT32_C(0x04c11db7) : 0);
        crc_table[i] = crc;
    }
}

static uint32_t crc_bytes(uint32_t crc, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        crc = (crc << 8) ^ crc_table[(crc >> 24) ^ bytes[i]];
    return crc;
}

static uint32_t crc_length(uint32_t crc, uint64_t length)
{
    for (; length > 0; length >>= 8)
        crc = (crc << 8) ^ crc_table[(crc >> 24) ^ (length & 0xff)];
    return ~crc;
}

USES_ERRNO static void sum_file(struct file *file, unsigned char *chunk)
{
    /* Not to hang in it if it has become a pipe since it was looked at. */
    const int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        file->error = errno;
        return;
    }
    for (ssize_t got; (got = read(fd, chunk, CHUNK)) != 0;) {
        if (got > 0) {
            file->sum = crc_bytes(file->sum, chunk, (size_t)got);
            file->size += (uint64_t)got;
        } else if (errno != EINTR) {
            file->error = errno;
            break;
        }
    }
    file->sum = crc_length(file->sum, file->size);
    close(fd);
}

static void *digest(void *arg)
{
    struct pipeline *p = arg;
    unsigned char *chunk = check_memory(malloc(CHUNK));
    struct file file;
    check(routine_once(&crc_once, make_crc_table), "the table");
    while (chan_recv(p->files, &file) == 0) { /* until the walk has closed it */
        sum_file(&file, chunk);
        check(chan_send(p->results, &file), "sending a sum");
    }
    free(chunk);
    return NULL;
}

/* Closes the results when nobody is left who could send any. */
static void *close_results(void *arg)
{
    struct pipeline *p = arg;
    check(routine_join(p->walk, NULL), "the walk");
    for (size_t i = 0; i < p->digesters; i++)
        check(routine_join(p->digest[i], NULL), "a digester");
    check(chan_close(p->results), "the end of the results");
    return NULL;
}

/* ---- The third stage: main. ---- */

struct totals {
    uint64_t files;
    uint64_t bytes;
    uint64_t errors;
};

static void print_file(const struct file *file, struct totals *totals)
{
    if (file->error != 0) {
        fprintf(stderr, "checksum: %s: %s\n", file->path,
                file->error == EINVAL ? "Not a file or directory" : strerror(file->error));
        totals->errors++;
        return;
    }
    printf("%" PRIu32 " %" PRIu64 " %s\n", file->sum, file->size, file->path);
    totals->files++;
    totals->bytes += file->size;
}

/* Of the WINDOW files under way each has a place of its own here, where it waits for those before it. */
static void print_in_order(struct pipeline *p, struct totals *totals)
{
    struct file waiting[WINDOW] = {0};
    uint64_t next = 0;
    struct file file;
    int rc;
    while ((rc = chan_recv(p->results, &file)) == 0) {
        waiting[file.number % WINDOW] = file;
        for (struct file *first; first = &waiting[next % WINDOW], first->path != NULL; next++) {
            print_file(first, totals);
            free(first->path);
            first->path = NULL;
            check(routine_sem_post(&p->window), "the window");
        }
    }
    check(rc == -EPIPE ? 0 : rc, "receiving sums");
}

static int run(char *const *argument, size_t argument_count, size_t digesters, bool summary)
{
    static struct pipeline p;
    const int64_t begun = routine_now();
    p = (struct pipeline){.argument = argument,
                          .argument_count = argument_count,
                          .files = chan_make(struct file, ROOM),
                          .results = chan_make(struct file, ROOM),
                          .digesters = digesters};
    check(p.files != NULL && p.results != NULL ? 0 : -ENOMEM, "channels");
    check(routine_sem_init(&p.window, WINDOW), "the window");
    p.walk = started(go_with(&(routine_attr_t){.name = "walk"}, walk, &p));
    for (size_t i = 0; i < digesters; i++)
        p.digest[i] = started(go_with(&(routine_attr_t){.name = "digest"}, digest, &p));
    routine_t closer = started(go(close_results, &p));

    struct totals totals = {0};
    print_in_order(&p, &totals);
    check(routine_join(closer, NULL), "the end");
    chan_unref(p.files);
    chan_unref(p.results);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "checksum: the output could not be written\n");
        return 2;
    }
    if (summary) {
        const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;
        fprintf(stderr, "files %" PRIu64 ", bytes %" PRIu64 ", errors %" PRIu64 "; %.3f s, %.1f MB/s\n",
                totals.files, totals.bytes, totals.errors, seconds, (double)totals.bytes / seconds / 1e6);
    }
    return totals.errors > 0;
}

static int usage(FILE *stream, const char *program)
{
    fprintf(
        stream,
        "usage: %s [-s] [-j N] [file or directory...]\n"
        "Prints checksum, size and name of each file, and of all files below each directory (default: .),\n"
        "as cksum does. Below directories symbolic links are not followed.\n"
        "  -j N  at most N files at once, 1 to %d (default: one for each worker)\n"
        "  -s    a summary at the end, on the standard error\n",
        program, DIGESTERS_MAX);
    return stream == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    static char here[] = ".";
    static char *const default_arguments[] = {here};
    size_t digesters = 0;
    bool summary = false;
    for (int c; (c = getopt(argc, argv, "hj:s")) != -1;) {
        char *end = NULL;
        if (c == 'h')
            return usage(stdout, argv[0]);
        if (c == 's')
            summary = true;
        else if (c == 'j' && *optarg >= '0' && *optarg <= '9')
            digesters = strtoul(optarg, &end, 10);
        if (c == '?' ||
            (c == 'j' && (end == NULL || *end != '\0' || digesters < 1 || digesters > DIGESTERS_MAX)))
            return usage(stderr, argv[0]);
    }
    if (digesters == 0)
        digesters = routine_runtime_workers(routine_runtime_default());
    if (digesters == 0) {
        fprintf(stderr, "checksum: no runtime\n");
        return 2;
    }
    if (optind == argc)
        return run(default_arguments, 1, digesters, summary);
    return run(argv + optind, (size_t)(argc - optind), digesters, summary);
}
