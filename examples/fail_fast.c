/* SPDX-License-Identifier: MIT
 *
 * fail_fast: checks that files are UTF-8, some at a time; the first that is not stops the others.
 *
 *     ./fail_fast -j 4 *.txt
 *     ./fail_fast                    three demonstrations with made-up pieces of text
 *
 * A scope does it: it starts a child for each piece, lets no more than N exist at once, cancels all others
 * when one has failed, and tells its error. A child fails by returning an error, or by a panic: that of the
 * checker here, which was not made for lines of more than 64 KiB. However a child ends, what it has taken
 * (a file, a buffer) is given back by routine_defer; the program counts it.
 *
 * Exit status: 0 all is well; 1 something failed; 2 wrong arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK        4096  /* read at a time; in between the child looks whether it is still wanted */
#define LONGEST_LINE 65536 /* more is too much for the checker */
#define COLUMNS      80    /* of the map */

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "fail_fast: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* ---- The checker. ---- */

struct checker {
    size_t lines;
    size_t column;           /* bytes of this line */
    unsigned left;           /* bytes that this character still needs, ... */
    unsigned char low, high; /* ... and between what the next one must be */
};

/* 0 or -EILSEQ. */
static int check_text(struct checker *checker, const unsigned char *text, size_t size, const char *name)
{
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = text[i];
        if (c == '\n')
            checker->lines++;
        if (checker->left > 0) {
            if (c < checker->low || c > checker->high)
                return -EILSEQ;
            checker->left--;
            checker->low = 0x80;
            checker->high = 0xBF;
        } else if (c >= 0x80) {
            if (c < 0xC2 || c > 0xF4)
                return -EILSEQ;
            checker->left = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
            checker->low = c == 0xE0   ? 0xA0
                           : c == 0xF0 ? 0x90
                                       : 0x80; /* nothing longer than it need be, ... */
            checker->high = c == 0xED   ? 0x9F
                            : c == 0xF4 ? 0x8F
                                        : 0xBF; /* ... no surrogates, no end of range */
        }
        checker->column = c == '\n' ? 0 : checker->column + 1;
        if (checker->column > LONGEST_LINE)
            routine_panic("%s: line %zu is longer than %d bytes", name, checker->lines + 1, LONGEST_LINE);
    }
    return 0;
}

/* ---- A piece, and the child that checks it. ---- */

enum state { UNTOUCHED, DONE, FAILED, PANICKED, CANCELLED, STATES };
static const char state_letter[] = ".+FPx";

struct work;

struct piece {
    struct work *work; /* of which it is a part */
    const char *name;
    const char *text; /* NULL: in the file of this name */
    size_t size;
    /* What came of it: */
    enum state state;
    int error;
    size_t bytes; /* that were read */
    size_t lines;
};

struct work {
    struct piece *pieces;
    size_t count;
    size_t at_once;
    int64_t pause; /* between the chunks, as if they came from afar */
    atomic_size_t running;
};

static atomic_size_t taken, given_back; /* files and buffers */

static void close_file(void *file)
{
    fclose(file);
    atomic_fetch_add(&given_back, 1);
}

static void free_buffer(void *buffer)
{
    free(buffer);
    atomic_fetch_add(&given_back, 1);
}

/* Not inlined into what may switch threads, because of errno; as the next one. 0 or a negative errno. */
__attribute__((noinline)) static int open_piece(const struct piece *piece, FILE **file)
{
    *file = piece->text != NULL ? fmemopen((void *)(uintptr_t)piece->text, piece->size, "r")
                                : fopen(piece->name, "re");
    return *file != NULL ? 0 : -errno;
}

__attribute__((noinline)) static ssize_t read_chunk(FILE *file, void *buffer)
{
    const size_t n = fread(buffer, 1, CHUNK, file);
    return n > 0 || !ferror(file) ? (ssize_t)n : -errno;
}

/* 0; what is wrong with it; or -ECANCELED. However it is left, the defers see to it. */
static int check_piece(struct piece *piece)
{
    const int64_t pause = piece->work->pause;
    struct checker checker = {0};
    FILE *file;
    int rc = open_piece(piece, &file);
    if (rc != 0)
        return rc;
    atomic_fetch_add(&taken, 1);
    routine_defer(close_file, file);
    unsigned char *buffer = malloc(CHUNK);
    if (buffer == NULL)
        return -ENOMEM;
    atomic_fetch_add(&taken, 1);
    routine_defer(free_buffer, buffer);
    for (;;) {
        rc = pause > 0 ? routine_sleep(pause) : routine_check();
        if (rc != 0)
            return rc;
        const ssize_t n = read_chunk(file, buffer);
        if (n <= 0)
            return n < 0 ? (int)n : checker.left > 0 ? -EILSEQ : 0;
        rc = check_text(&checker, buffer, (size_t)n, piece->name); /* may panic */
        piece->bytes += (size_t)n;
        piece->lines = checker.lines;
        if (rc != 0)
            return rc;
    }
}

static void leave(void *running)
{
    atomic_fetch_sub((atomic_size_t *)running, 1);
}

static int child(void *arg)
{
    struct piece *piece = arg;
    check(atomic_fetch_add(&piece->work->running, 1) < piece->work->at_once ? 0 : -EBUSY, "too many at once");
    routine_defer(leave, &piece->work->running);
    piece->state = PANICKED; /* if it does not get to say something else */
    piece->error = check_piece(piece);
    piece->state = piece->error == 0 ? DONE : piece->error == -ECANCELED ? CANCELLED : FAILED;
    return piece->error;
}

/* ---- All pieces, and what is said about them. ---- */

static void print_first_failure(const struct work *work, int error, const char *panic)
{
    const struct piece *piece = work->pieces;
    if (error == -ENOTRECOVERABLE) {
        printf("  failed first: a panic: %s\n", panic);
        return;
    }
    while (piece->state != FAILED ||
           piece->error != error) /* of two at once, the one that comes first here */
        piece++;
    printf("  failed first: %s: %s, after %zu lines\n", piece->name,
           error == -EILSEQ ? "not UTF-8" : strerror(-error), piece->lines);
}

/* Returns the error of the first that failed, or 0. */
static int check_all(struct work *work)
{
    const int64_t begun = routine_now();
    int error = 0;
    taken = given_back = 0;
    for (size_t i = 0; i < work->count; i++)
        work->pieces[i].work = work;
    routine_scope_limited(scope, work->at_once);
    const int started = routine_scope_go_each(&scope, child, work->pieces, work->count, sizeof *work->pieces);
    check(started == -ECANCELED ? 0 : started, "starting"); /* -ECANCELED: one has failed already */
    check(routine_scope_join(&scope, &error), "waiting");
    const char *panic = routine_panic_message();
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;

    size_t states[STATES] = {0}, size = 0, read = 0;
    for (size_t i = 0; i < work->count; i++) {
        const struct piece *piece = &work->pieces[i];
        states[piece->state]++;
        size += piece->size;
        read += piece->bytes;
        printf("%s%c", i % COLUMNS == 0 ? "  " : "", state_letter[piece->state]);
        if (i % COLUMNS == COLUMNS - 1 || i == work->count - 1)
            putchar('\n');
    }
    printf("  %zu done, %zu failed, %zu cancelled at work, %zu never begun; at most %zu at once\n",
           states[DONE], states[FAILED] + states[PANICKED], states[CANCELLED], states[UNTOUCHED],
           work->at_once);
    if (error != 0)
        print_first_failure(work, error, panic);
    printf("  %zu files and buffers taken, %zu given back; %.3f s", taken, given_back, seconds);
    if (error != 0 && read > 0 && size > read)
        printf(", saved about %.3f s", seconds / (double)read * (double)(size - read));
    putchar('\n');
    const bool right =
        taken == given_back && work->running == 0 && (error != 0) == (states[DONE] < work->count);
    check(right ? 0 : -EPROTO, "the sums");
    return error;
}

/* One piece is special: the others are followed there by so many of this character. */
static int demonstrate(struct work *work, const char *what, size_t special, int character, size_t more)
{
    static const char line[] = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n";
    const size_t size = 4 * CHUNK / (sizeof line - 1) * (sizeof line - 1);
    char *text = malloc(size + more);
    char(*names)[32] = calloc(work->count, sizeof *names);
    work->pieces = calloc(work->count, sizeof *work->pieces);
    check(text != NULL && names != NULL && work->pieces != NULL ? 0 : -ENOMEM, "pieces");
    for (size_t i = 0; i < size; i++)
        text[i] = line[i % (sizeof line - 1)];
    memset(text + size, character, more);
    for (size_t i = 0; i < work->count; i++) {
        snprintf(names[i], sizeof names[i], "piece %zu", i + 1);
        work->pieces[i] = (struct piece){.name = names[i], .text = text, .size = size};
    }
    work->pieces[special - 1].size += more;
    printf("%s\n", what);
    const int error = check_all(work);
    free(work->pieces);
    free(names);
    free(text);
    return error;
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    *number = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *number >= smallest && *number <= largest;
}

int main(int argc, char **argv)
{
    size_t at_once = 8, count = 200, special = 70, pause = 500;
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "j:n:b:w:")) != -1;)
        good = (c == 'j' && parse_number(optarg, 1, 100000, &at_once)) ||
               (c == 'n' && parse_number(optarg, 1, 1000000, &count)) ||
               (c == 'b' && parse_number(optarg, 1, 1000000, &special)) ||
               (c == 'w' && parse_number(optarg, 0, 60000000, &pause));
    const bool files = optind < argc;
    if (!good || (!files && special > count)) {
        fprintf(stderr,
                "usage: %s [-j N] [file...]\n"
                "  -j N   at once (default 8)\n"
                "  -n N   without files: pieces (default 200)\n"
                "  -b N   which of them is bad (default 70)\n"
                "  -w US  microseconds that a chunk of 4 KiB takes to come (default 500)\n",
                argv[0]);
        return 2;
    }
    struct work work = {.at_once = at_once, .count = files ? (size_t)(argc - optind) : count};
    if (files) {
        work.pieces = calloc(work.count, sizeof *work.pieces);
        check(work.pieces != NULL ? 0 : -ENOMEM, "pieces");
        for (size_t i = 0; i < work.count; i++) {
            struct stat status;
            work.pieces[i].name = argv[optind + (int)i];
            work.pieces[i].size = stat(work.pieces[i].name, &status) == 0 ? (size_t)status.st_size : 0;
        }
        const int error = check_all(&work);
        free(work.pieces);
        return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    work.pause = (int64_t)pause * ROUTINE_US;
    check(demonstrate(&work, "all is well", special, 0, 0), "pieces that are good");
    const int bad = demonstrate(&work, "a piece is not UTF-8", special, 0xFF, 1);
    const int panic = demonstrate(&work, "a piece makes the checker panic", special, 'x', LONGEST_LINE + 1);
    check(bad == -EILSEQ && panic == -ENOTRECOVERABLE ? 0 : -EPROTO, "the errors");
    return EXIT_SUCCESS;
}
