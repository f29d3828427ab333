/* SPDX-License-Identifier: MIT
 *
 * wordcount: counts the words of text files and of whole directory trees: which words,
 * and how often. A word is a run of the letters A to Z, upper or lower case alike.
 *
 *     ./wordcount                    src include docs examples README.md, those that exist here
 *     ./wordcount -n 20 ~/books /usr/share/doc
 *     ./wordcount --list . | less    every word, as sort | uniq -c would print it
 *
 * How it works: three stages, with channels between them that have room for a few elements.
 *
 *     walk ──▶ paths ──▶ count, count, ... ──▶ tables ──▶ collect
 *
 * One routine walks the directories and sends the paths of the files. A bounded number of others, as many as
 * there are workers, receives paths; each counts the words of its files into a table of its own, and sends
 * that on when it has got large. One merges the tables as they come and sorts the words in the end. Three
 * things follow. No table is ever shared, so there is no lock. However many files there are, memory is needed
 * for some dozens of paths and tables. And who is fast takes more files than who is slow.
 *
 * The channels close from left to right: the walk closes the paths, so those who count come to an end, and
 * when the last of them has, the tables are closed.
 *
 * Reading a file blocks the worker for as long as the disk takes, so more routines to count with would not
 * help for now. As none of them waits for another while it has a file open, at most as many files are open as
 * there are workers.
 *
 * Exit status: 0; 1 if something could not be read (the rest was counted); 2 on failure.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK       ((size_t)64 << 10)  /* read at a time; in the first one a zero byte means: binary */
#define FIRST_SLOTS 64                  /* of a table: a power of two */
#define FIRST_BLOCK ((size_t)1 << 10)   /* bytes for words; each block is twice as large as the last, */
#define LAST_BLOCK  ((size_t)256 << 10) /* until they are this large */
#define BATCH       ((uint64_t)1 << 20) /* bytes of text that are worth a table of their own */
#define ROOM        64                  /* of each channel: paths, or tables */

/* Functions that look at errno never wait for a routine, and are not inlined into those that
 * do: a routine may come back on another thread, and a compiler remembers where errno was. */
#define USES_ERRNO __attribute__((noinline))

/* ---- A table: words and how often each was seen, and what else there is to say about some files. ---- */

struct word {
    const char *text; /* ends with a zero byte; NULL: a free slot */
    size_t length;
    uint64_t hash;
    uint64_t count;
};

struct block {
    struct block *next;
    size_t size;
    size_t used;
    char text[];
};

struct table {
    struct word *slots;
    size_t slot_count; /* a power of two, at least a quarter of them free */
    size_t distinct;
    struct block *blocks; /* the texts of the words; the newest first */
    uint64_t words;
    uint64_t bytes;
    uint64_t files;      /* counted */
    uint64_t binary;     /* not counted: had a zero byte in the first chunk */
    uint64_t special;    /* not counted: symbolic links, devices and the like */
    uint64_t unreadable; /* files and directories, each of them reported */
    int error;           /* 0, or the negative errno that spoilt the count */
};

static void table_free(struct table *table)
{
    if (table == NULL)
        return;
    while (table->blocks != NULL) {
        struct block *block = table->blocks;
        table->blocks = block->next;
        free(block);
    }
    free(table->slots);
    free(table);
}

/* An empty table, or NULL. It gets its slots with the first word. */
static struct table *table_new(void)
{
    return calloc(1, sizeof(struct table));
}

/* Forgets the words, for a file that turned out to be bad in the middle. */
static void table_forget_words(struct table *table)
{
    if (table->slots != NULL)
        memset(table->slots, 0, table->slot_count * sizeof *table->slots);
    table->distinct = 0;
    table->words = 0;
    table->bytes = 0;
}

static const char *table_store_text(struct table *table, const char *text, size_t length)
{
    struct block *block = table->blocks;
    if (block == NULL || block->size - block->used <= length) {
        size_t size = block == NULL ? FIRST_BLOCK : block->size < LAST_BLOCK ? 2 * block->size : LAST_BLOCK;
        size = size > length ? size : length + 1;
        block = malloc(sizeof *block + size);
        if (block == NULL)
            return NULL;
        *block = (struct block){.next = table->blocks, .size = size};
        table->blocks = block;
    }
    char *copy = block->text + block->used;
    memcpy(copy, text, length);
    copy[length] = '\0';
    block->used += length + 1;
    return copy;
}

static bool table_grow(struct table *table)
{
    const size_t slot_count = table->slot_count == 0 ? FIRST_SLOTS : 2 * table->slot_count;
    struct word *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < table->slot_count; i++) {
        if (table->slots[i].text == NULL)
            continue;
        size_t to = table->slots[i].hash & (slot_count - 1);
        while (slots[to].text != NULL)
            to = (to + 1) & (slot_count - 1);
        slots[to] = table->slots[i];
    }
    free(table->slots);
    table->slots = slots;
    table->slot_count = slot_count;
    return true;
}

/* Counts a word `count` more times; false, and table->error is set: no memory. */
static bool table_add(struct table *table, const char *text, size_t length, uint64_t hash, uint64_t count)
{
    if (table->distinct >= table->slot_count / 4 * 3 && !table_grow(table))
        goto no_memory;
    size_t at = hash & (table->slot_count - 1);
    struct word *slot;
    while (slot = &table->slots[at], slot->text != NULL) {
        if (slot->hash == hash && slot->length == length && memcmp(slot->text, text, length) == 0) {
            slot->count += count;
            return true;
        }
        at = (at + 1) & (table->slot_count - 1);
    }
    text = table_store_text(table, text, length);
    if (text == NULL)
        goto no_memory;
    *slot = (struct word){.text = text, .length = length, .hash = hash, .count = count};
    table->distinct++;
    return true;

no_memory:
    table->error = -ENOMEM;
    return false;
}

/* One table of two, which are used up. NULL stands for one that there was no memory for. */
static struct table *table_merge(struct table *a, struct table *b)
{
    if (a == NULL || b == NULL) {
        struct table *left = a != NULL ? a : b;
        if (left != NULL && left->error == 0)
            left->error = -ENOMEM;
        return left;
    }
    struct table *into = a->distinct >= b->distinct ? a : b;
    struct table *from = into == a ? b : a;
    for (size_t i = 0; i < from->slot_count && into->error == 0; i++) {
        const struct word *word = &from->slots[i];
        if (word->text != NULL)
            table_add(into, word->text, word->length, word->hash, word->count);
    }
    into->words += from->words;
    into->bytes += from->bytes;
    into->files += from->files;
    into->binary += from->binary;
    into->special += from->special;
    into->unreadable += from->unreadable;
    into->error = into->error != 0 ? into->error : from->error;
    table_free(from);
    return into;
}

/* ---- Words out of a stream of chunks. ---- */

struct scanner {
    struct table *table;
    char *held; /* the beginning of a word that the last chunk ended in */
    size_t held_length;
    size_t held_size;
};

/* 'a' to 'z' for a letter of either case, otherwise 0. */
static unsigned char letter(unsigned char c)
{
    const unsigned char lower = c | 0x20;
    return lower >= 'a' && lower <= 'z' ? lower : 0;
}

static bool scanner_hold(struct scanner *scanner, const char *text, size_t length)
{
    if (length > scanner->held_size - scanner->held_length) {
        const size_t size = 2 * (scanner->held_length + length);
        char *held = realloc(scanner->held, size);
        if (held == NULL) {
            scanner->table->error = -ENOMEM;
            return false;
        }
        scanner->held = held;
        scanner->held_size = size;
    }
    if (length > 0)
        memcpy(scanner->held + scanner->held_length, text, length);
    scanner->held_length += length;
    return true;
}

/* FNV-1a, with its upper half folded into the lower, which chooses the slot. */
static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return hash ^ (hash >> 32);
}

static bool scanner_word(struct scanner *scanner, const char *text, size_t length)
{
    scanner->table->words++;
    return table_add(scanner->table, text, length, hash_of(text, length), 1);
}

/* The word that is held is complete. */
static bool scanner_end(struct scanner *scanner)
{
    const size_t length = scanner->held_length;
    scanner->held_length = 0;
    return length == 0 || scanner_word(scanner, scanner->held, length);
}

/* Counts the words of a chunk, which is changed to lower case. False: no memory. */
static bool scanner_chunk(struct scanner *scanner, char *chunk, size_t n)
{
    size_t i = 0;
    while (i < n) {
        const size_t begin = i;
        for (unsigned char c; i < n && (c = letter((unsigned char)chunk[i])) != 0; i++)
            chunk[i] = (char)c;
        if (i == n || scanner->held_length > 0) {
            if (!scanner_hold(scanner, chunk + begin, i - begin))
                return false;
            if (i < n && !scanner_end(scanner))
                return false;
        } else if (i > begin && !scanner_word(scanner, chunk + begin, i - begin)) {
            return false;
        }
        while (i < n && letter((unsigned char)chunk[i]) == 0)
            i++;
    }
    return true;
}

/* ---- Files. ---- */

static void report(struct table *table, const char *path, int error)
{
    fprintf(stderr, "wordcount: %s: %s\n", path, strerror(error));
    table->unreadable++;
}

/* Fills the buffer as far as the file goes. The number of bytes, or a negative errno. */
USES_ERRNO static ssize_t read_chunk(int fd, char *chunk)
{
    size_t filled = 0;
    while (filled < CHUNK) {
        const ssize_t got = read(fd, chunk + filled, CHUNK - filled);
        if (got > 0)
            filled += (size_t)got;
        else if (got == 0)
            break;
        else if (errno != EINTR)
            return -errno;
    }
    return (ssize_t)filled;
}

static void count_descriptor(struct table *table, const char *path, int fd)
{
    char *chunk = malloc(CHUNK); /* half of a routine's stack would be bad manners */
    struct scanner scanner = {.table = table};
    ssize_t got = 0;
    if (chunk == NULL)
        table->error = -ENOMEM;
    while (table->error == 0 && (got = read_chunk(fd, chunk)) > 0) {
        if (table->bytes == 0 && memchr(chunk, '\0', (size_t)got) != NULL) {
            table->binary = 1;
            goto out;
        }
        table->bytes += (uint64_t)got;
        scanner_chunk(&scanner, chunk, (size_t)got); /* failed: table->error is set */
    }
    if (got < 0) {
        table_forget_words(table);
        report(table, path, (int)-got);
    } else if (table->error == 0) {
        table->files = 1;
        scanner_end(&scanner);
    }
out:
    free(scanner.held);
    free(chunk);
}

USES_ERRNO static void count_file(struct table *table, const char *path)
{
    /* Whatever has taken the file's place since it was looked at: don't follow it, don't hang in it. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        report(table, path, errno);
        return;
    }
    count_descriptor(table, path, fd);
    close(fd);
}

struct paths {
    char **path;
    size_t n;
    size_t size;
};

static void paths_free(struct paths *paths)
{
    while (paths->n > 0)
        free(paths->path[--paths->n]);
    free(paths->path);
}

static bool paths_add(struct paths *paths, const char *directory, const char *name)
{
    if (paths->n == paths->size) {
        const size_t size = paths->size == 0 ? 16 : 2 * paths->size;
        char **path = realloc(paths->path, size * sizeof *path);
        if (path == NULL)
            return false;
        paths->path = path;
        paths->size = size;
    }
    const size_t directory_length = strlen(directory);
    const size_t name_length = strlen(name);
    char *path = malloc(directory_length + name_length + 2);
    if (path == NULL)
        return false;
    memcpy(path, directory, directory_length);
    size_t at = directory_length;
    if (at > 0 && path[at - 1] != '/')
        path[at++] = '/';
    memcpy(path + at, name, name_length + 1);
    paths->path[paths->n++] = path;
    return true;
}

/* Everything in a directory. It is closed again before anything of it is opened, however deep the tree. */
USES_ERRNO static void read_directory(struct table *table, const char *path, struct paths *paths)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        report(table, path, errno);
        return;
    }
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!paths_add(paths, path, entry->d_name)) {
            table->error = -ENOMEM;
            break;
        }
    }
    if (entry == NULL && errno != 0)
        report(table, path, errno);
    closedir(directory);
}

/* What the path names, without following it: the bits of S_IFMT, or a negative errno. */
USES_ERRNO static int kind_of(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 ? (int)(status.st_mode & S_IFMT) : -errno;
}

/* ---- The routines. ---- */

/* What to begin with. */
struct span {
    char *const *path;
    size_t n;
};

struct job {
    struct span arguments;
    chan_t *paths;  /* of char *, which belongs to whoever has received it */
    chan_t *tables; /* of struct table *, likewise; NULL: there was no memory for it */
    size_t counters;
    routine_t *counter;
    routine_t walker;
};

/* Returns 0, or the negative errno for which the table was freed instead. */
static int send_table(const struct job *job, struct table *table)
{
    const int rc = chan_send(job->tables, &table);
    if (rc != 0)
        table_free(table);
    return rc;
}

/* Sends the paths of all files; the result of this and the next two: 0 or a negative errno. What is still to
 * be visited is a list on the heap: a deep tree is not our stack's problem. */
static void *walk(void *arg)
{
    const struct job *job = arg;
    struct paths pending = {0};
    struct table *table = table_new(); /* for what is not counted */
    for (size_t i = job->arguments.n; i-- > 0 && table != NULL && table->error == 0;) {
        if (!paths_add(&pending, "", job->arguments.path[i]))
            table->error = -ENOMEM;
    }
    while (table != NULL && table->error == 0 && pending.n > 0) {
        char *path = pending.path[--pending.n];
        const int kind = kind_of(path);
        if (kind == S_IFREG) {
            table->error = chan_send(job->paths, &path);
            if (table->error == 0)
                continue; /* it is not ours any more */
        } else if (kind == S_IFDIR) {
            read_directory(table, path, &pending);
        } else if (kind < 0) {
            report(table, path, -kind);
        } else {
            table->special++;
        }
        free(path);
    }
    paths_free(&pending);
    chan_close(job->paths);
    return (void *)(intptr_t)send_table(job, table);
}

/* Counts files until there are no more, or there is no memory: then the rest is only received. */
static void *count(void *arg)
{
    const struct job *job = arg;
    struct table *table = table_new();
    int rc = 0;
    char *path;
    while (chan_recv(job->paths, &path) == 0) {
        if (rc == 0 && table != NULL && table->error == 0) {
            struct table *of_file = table_new(); /* a file that turns out to be bad must leave no trace */
            if (of_file != NULL)
                count_file(of_file, path);
            table = table_merge(table, of_file);
            if (table->bytes >= BATCH) {
                rc = send_table(job, table);
                table = table_new();
            }
        }
        free(path);
    }
    const int last = send_table(job, table);
    return (void *)(intptr_t)(rc != 0 ? rc : last);
}

/* The first of two errors. */
static int join_after(int rc, routine_t h)
{
    void *result = NULL;
    const int joined = routine_join(h, &result);
    return rc != 0 ? rc : joined != 0 ? joined : (int)(intptr_t)result;
}

/* Closes the tables when nobody is left who could send one. If nobody could be started to count, the walk
 * must not wait for ever: so the paths are closed too. */
static void *close_tables(void *arg)
{
    const struct job *job = arg;
    int rc = 0;
    for (size_t i = 0; i < job->counters; i++)
        rc = join_after(rc, job->counter[i]);
    chan_close(job->paths);
    rc = join_after(rc, job->walker);
    chan_close(job->tables);
    return (void *)(intptr_t)rc;
}

/* All words, the most frequent first. */
struct ranking {
    struct table *table;
    const struct word **words;
};

static int compare_words(const void *x, const void *y)
{
    const struct word *a = *(const struct word *const *)x;
    const struct word *b = *(const struct word *const *)y;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return strcmp(a->text, b->text);
}

/* Sorts the words of a table; a struct ranking, or NULL if there is no table or no memory. */
static struct ranking *rank(struct table *table)
{
    struct ranking *ranking = table != NULL ? malloc(sizeof *ranking) : NULL;
    if (ranking == NULL) {
        table_free(table);
        return NULL;
    }
    ranking->table = table;
    ranking->words = malloc((table->distinct + 1) * sizeof(struct word *)); /* + 1: may be none */
    if (ranking->words == NULL) {
        table->error = -ENOMEM;
        return ranking;
    }
    size_t n = 0;
    for (size_t i = 0; i < table->slot_count; i++) {
        if (table->slots[i].text != NULL)
            ranking->words[n++] = &table->slots[i];
    }
    qsort(ranking->words, n, sizeof *ranking->words, compare_words);
    return ranking;
}

static void ranking_free(struct ranking *ranking)
{
    if (ranking == NULL)
        return;
    table_free(ranking->table);
    free(ranking->words);
    free(ranking);
}

/* The last stage, which starts the others: the ranking, or NULL if there is no memory. */
static void *collect(void *arg)
{
    struct job *job = arg;
    job->walker = go_with(&(routine_attr_t){.name = "walk"}, walk, job);
    for (size_t i = 0; i < job->counters; i++)
        job->counter[i] = go_with(&(routine_attr_t){.name = "count"}, count, job);
    routine_t closer = go(close_tables, job);
    int rc = 0;
    if (closer.block == NULL) { /* could not be started: so nobody would close the tables */
        chan_close(job->paths);
        chan_close(job->tables);
        rc = (int)(intptr_t)close_tables(job);
    }
    struct table *total = table_new();
    struct table *table;
    while (chan_recv(job->tables, &table) == 0)
        total = table_merge(total, table);
    rc = join_after(rc, closer);
    if (total != NULL && total->error == 0)
        total->error = rc;
    return rank(total);
}

/* Runs everything; 0, and *ranking is the caller's, or a negative errno. */
static int count_and_rank(routine_runtime_t *runtime, const struct span *arguments, struct ranking **ranking)
{
    struct job job = {.arguments = *arguments, .counters = routine_runtime_workers(runtime)};
    void *result = NULL;
    int rc = -ENOMEM;
    job.paths = chan_make(char *, ROOM);
    job.tables = chan_make(struct table *, ROOM);
    job.counter = calloc(job.counters, sizeof *job.counter);
    if (job.paths != NULL && job.tables != NULL && job.counter != NULL)
        rc = routine_runtime_run(runtime, collect, &job, &result);
    for (char *path; chan_try_recv(job.paths, &path) == 0;) /* only if nobody could be started to count */
        free(path);
    free(job.counter);
    chan_unref(job.tables);
    chan_unref(job.paths);
    *ranking = result;
    if (rc == 0)
        rc = *ranking == NULL ? -ENOMEM : (*ranking)->table->error;
    return rc;
}

/* ---- What to count, and what to print. ---- */

struct options {
    size_t top;
    size_t workers; /* 0: the default runtime, with as many as it likes */
    bool list;
    bool stats;
};

static void print_list(const struct ranking *ranking)
{
    for (size_t i = 0; i < ranking->table->distinct; i++)
        printf("%7" PRIu64 " %s\n", ranking->words[i]->count, ranking->words[i]->text);
}

static void print_summary(const struct ranking *ranking, const struct options *options, size_t workers,
                          double seconds)
{
    const struct table *table = ranking->table;
    for (size_t i = 0; i < table->distinct && i < options->top; i++)
        printf("%10" PRIu64 "  %s\n", ranking->words[i]->count, ranking->words[i]->text);
    if (options->top > 0)
        printf("\n");
    printf("words     %" PRIu64 "\n", table->words);
    printf("distinct  %zu\n", table->distinct);
    printf("files     %" PRIu64 " (not counted: %" PRIu64 " binary, %" PRIu64 " special, %" PRIu64
           " unreadable)\n",
           table->files, table->binary, table->special, table->unreadable);
    printf("bytes     %" PRIu64 "\n", table->bytes);
    printf("time      %.3f s with %zu worker%s, %.1f MB/s\n", seconds, workers, workers == 1 ? "" : "s",
           (double)table->bytes / seconds / 1e6);
}

static int count_words(const struct options *options, const struct span *arguments)
{
    routine_runtime_t *runtime = NULL;
    int rc = 0;
    if (options->workers > 0)
        rc = routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = options->workers});
    else if ((runtime = routine_runtime_default()) == NULL)
        rc = -EAGAIN;
    if (rc != 0) {
        fprintf(stderr, "wordcount: no runtime: %s\n", strerror(-rc));
        return 2;
    }

    struct ranking *ranking = NULL;
    const int64_t begun = routine_now();
    rc = count_and_rank(runtime, arguments, &ranking);
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;

    int status = 2;
    if (rc != 0) {
        fprintf(stderr, "wordcount: the count failed: %s\n", strerror(-rc));
    } else {
        status = ranking->table->unreadable > 0;
        if (options->list)
            print_list(ranking);
        else
            print_summary(ranking, options, routine_runtime_workers(runtime), seconds);
        if (options->stats && !options->list) {
            printf("\n");
            routine_runtime_stats_print(runtime, stdout);
        }
        if (fflush(stdout) != 0 || ferror(stdout)) {
            fprintf(stderr, "wordcount: the output could not be written\n");
            status = 2;
        }
    }
    ranking_free(ranking);

    rc = routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER);
    if (rc == 0)
        rc = routine_runtime_free(runtime);
    if (rc != 0) {
        fprintf(stderr, "wordcount: shutdown: %s\n", strerror(-rc));
        status = 2;
    }
    return status;
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    *number = value;
    return errno == 0 && *end == '\0' && value >= smallest && value <= largest;
}

static int usage(FILE *stream, const char *program)
{
    fprintf(stream,
            "usage: %s [options] [file or directory...]\n"
            "Counts words: runs of the letters A-Z, upper or lower case. Directories are counted with\n"
            "all that is below them; symbolic links are not followed. Without arguments: src include\n"
            "docs examples README.md, those of them that exist.\n"
            "  -n N           print the N most frequent words (default 10)\n"
            "  -l, --list     print all words with their counts, and nothing else\n"
            "  -w, --workers N  1 to %d (default: ROUTINES_WORKERS, or one for each CPU)\n"
            "  --no-stats     without the runtime's statistics\n"
            "  -h, --help\n",
            program, ROUTINE_WORKERS_MAX);
    return stream == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    enum { NO_STATS = 256 };
    static const struct option long_options[] = {{"list", no_argument, NULL, 'l'},
                                                 {"workers", required_argument, NULL, 'w'},
                                                 {"no-stats", no_argument, NULL, NO_STATS},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    struct options options = {.top = 10, .stats = true};
    for (int c; (c = getopt_long(argc, argv, "n:lw:h", long_options, NULL)) != -1;) {
        bool good = true;
        if (c == 'n')
            good = parse_number(optarg, 0, SIZE_MAX, &options.top);
        else if (c == 'l')
            options.list = true;
        else if (c == 'w')
            good = parse_number(optarg, 1, ROUTINE_WORKERS_MAX, &options.workers);
        else if (c == NO_STATS)
            options.stats = false;
        else if (c == 'h')
            return usage(stdout, argv[0]);
        else
            good = false;
        if (!good)
            return usage(stderr, argv[0]);
    }

    char *defaults[] = {"src", "include", "docs", "examples", "README.md"};
    struct span arguments = {.path = argv + optind, .n = (size_t)(argc - optind)};
    if (argc == optind) {
        for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
            if (kind_of(defaults[i]) >= 0)
                defaults[arguments.n++] = defaults[i];
        }
        arguments.path = defaults;
        if (arguments.n == 0) {
            fprintf(stderr, "wordcount: there is nothing of the default arguments here\n");
            return usage(stderr, argv[0]);
        }
    }
    return count_words(&options, &arguments);
}
