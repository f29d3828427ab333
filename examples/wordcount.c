/* SPDX-License-Identifier: MIT
 *
 * wordcount: counts the words of text files and of whole directory trees: which words,
 * and how often. A word is a run of the letters A to Z, upper or lower case alike.
 *
 *     ./wordcount                    src include docs examples README.md, those that exist here
 *     ./wordcount -n 20 ~/books /usr/share/doc
 *     ./wordcount --list . | less    every word, as sort | uniq -c would print it
 *
 * How it works: a list of paths is halved, each half given to a routine, and so on down
 * to a routine for every path. That one counts a file into a table of its own, or
 * reads a directory and has its list treated in the same way. On the way up every routine
 * joins its two halves and merges their tables, the smaller into the larger: a tree of
 * reductions as deep as the logarithm of the number of files. Two things follow. No
 * table is ever shared, so there is no lock. And as a worker runs what it started last
 * first, the tables alive at one time number some dozens, even if there are 100,000 files.
 *
 * Reading a file blocks the thread for as long as the disk takes. As no routine waits
 * for another while it has a file open, at most as many files are open as there are workers.
 *
 * The table of everything goes by a oneshot to a routine that waits for it, to be sorted.
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

/* Some paths, next to each other in somebody else's list; who joins keeps it alive. */
struct span {
    char *const *path;
    size_t n;
};

static void *count_span(void *arg);

static struct table *join_table(routine_t h)
{
    void *result = NULL;
    const int rc = routine_join(h, &result);
    if (rc == 0)
        return result;
    struct table *failed = table_new(); /* could not be started: then the whole count is wrong */
    if (failed != NULL)
        failed->error = rc;
    return failed;
}

static struct table *count_path(const char *path)
{
    struct table *table = table_new();
    if (table == NULL)
        return NULL;
    const int kind = kind_of(path);
    if (kind < 0) {
        report(table, path, -kind);
    } else if (kind == S_IFREG) {
        count_file(table, path);
    } else if (kind == S_IFDIR) {
        struct paths paths = {0};
        read_directory(table, path, &paths);
        if (table->error == 0 && paths.n > 0) { /* as a routine: a deep tree is not our stack's problem */
            routine_t h = go_copy(count_span, ((struct span){.path = paths.path, .n = paths.n}));
            table = table_merge(table, join_table(h));
        }
        paths_free(&paths);
    } else {
        table->special++;
    }
    return table;
}

/* The table of some paths (struct span, at least one): a routine for each half. */
static void *count_span(void *arg)
{
    const struct span span = *(const struct span *)arg;
    if (span.n == 1)
        return count_path(span.path[0]);
    const size_t half = span.n / 2;
    routine_t a = go_copy(count_span, ((struct span){.path = span.path, .n = half}));
    routine_t b = go_copy(count_span, ((struct span){.path = span.path + half, .n = span.n - half}));
    struct table *last = join_table(b); /* if no other worker took it, this calls it at once */
    return table_merge(join_table(a), last);
}

/* All words, the most frequent first. */
struct ranking {
    struct table *table;
    const struct word **words;
};

struct job {
    struct span arguments;
    routine_oneshot_t counted; /* the table, from count_all to rank; NULL: there is none */
};

static int compare_words(const void *x, const void *y)
{
    const struct word *a = *(const struct word *const *)x;
    const struct word *b = *(const struct word *const *)y;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return strcmp(a->text, b->text);
}

static void *count_all(void *arg)
{
    struct job *job = arg;
    struct table *table = count_span(&job->arguments);
    const int rc = routine_oneshot_send(&job->counted, table);
    if (rc != 0)
        table_free(table);
    return NULL;
}

/* Waits for the table, sorts it; a struct ranking, or NULL if there is no table or no memory. */
static void *rank(void *arg)
{
    struct job *job = arg;
    void *table = NULL;
    if (routine_oneshot_recv(&job->counted, &table) != 0 || table == NULL)
        return NULL;
    struct ranking *ranking = malloc(sizeof *ranking);
    if (ranking == NULL) {
        table_free(table);
        return NULL;
    }
    ranking->table = table;
    const size_t distinct = ranking->table->distinct;
    ranking->words = malloc((distinct + 1) * sizeof(struct word *)); /* + 1: may be none */
    if (ranking->words == NULL) {
        ranking->table->error = -ENOMEM;
        return ranking;
    }
    size_t n = 0;
    for (size_t i = 0; i < ranking->table->slot_count; i++) {
        if (ranking->table->slots[i].text != NULL)
            ranking->words[n++] = &ranking->table->slots[i];
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

/* Runs everything; 0, and *ranking is the caller's, or a negative errno. */
static int count_and_rank(routine_runtime_t *runtime, const struct span *arguments, struct ranking **ranking)
{
    struct job job = {.arguments = *arguments, .counted = ROUTINE_ONESHOT_INITIALIZER};
    routine_t ranker = go_with(&(routine_attr_t){.name = "rank", .runtime = runtime}, rank, &job);
    routine_t counter = go_with(&(routine_attr_t){.name = "count", .runtime = runtime}, count_all, &job);

    int rc = routine_join(counter, NULL);
    if (rc != 0)
        routine_oneshot_send(&job.counted, NULL); /* it never ran: don't let the other wait for ever */
    void *result = NULL;
    const int ranked = routine_join(ranker, &result);
    if (rc == 0)
        rc = ranked;
    if (ranked != 0) { /* then the table is still where it was sent to */
        void *table = NULL;
        if (routine_oneshot_try_recv(&job.counted, &table) == 0)
            table_free(table);
    }
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
