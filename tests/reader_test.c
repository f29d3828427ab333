/* SPDX-License-Identifier: MIT
 *
 * Tests of the buffered reader (io.h): lines that arrive in two parts, split at every byte; all calls in any
 * order against a splitter that has the whole text before it, with limits that interrupt; long lines, lines
 * that are too long, the end of the file, cancellation in the middle of a line.
 *
 * What interrupts is a limit that has passed already, or one that passes while nothing comes: in both cases
 * what is checked does not depend on when that is found out.
 *
 * ctest: workers
 */
#include "support.h"

#include <sys/socket.h>

#include "routines/io.h"

enum { LINE_MOST = 64 };

/* A connected pair: [0] is read by a reader, [1] is written. */
static void pair_open(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        support_fail(__FILE__, __LINE__, "socketpair: %s", strerror(errno));
        abort();
    }
}

static void say(int fd, const char *text, size_t size)
{
    CHECK_EQ(routine_write_all(fd, text, size, NULL), 0);
}

/* ---- the splitter ---- */

/* What a line call has to say at `*at` of the text. */
static ssize_t split(const char *text, size_t size, size_t *at, char *line, size_t room)
{
    if (*at == size)
        return -ENODATA;
    const char *first = text + *at, *newline = memchr(first, '\n', size - *at);
    size_t length = newline ? (size_t)(newline - first) : size - *at;
    *at += length + (newline != NULL);
    if (newline && length > 0 && first[length - 1] == '\r')
        length--;
    const bool fits = length < room;
    if (!fits)
        length = room - 1;
    memcpy(line, first, length);
    line[length] = 0;
    return fits ? (ssize_t)length : -EMSGSIZE;
}

static void check_line(ssize_t n, const char *line, ssize_t expected, const char *expected_line, size_t room)
{
    CHECK_EQ(n, expected);
    if (n == expected && (n >= 0 || n == -EMSGSIZE))
        CHECK_EQ(memcmp(line, expected_line, n >= 0 ? (size_t)n + 1 : room), 0);
}

/* ---- split at every byte ---- */

#define TEXT(literal)                                                                                        \
    {                                                                                                        \
        literal, sizeof(literal) - 1                                                                         \
    }
static const struct {
    const char *text;
    size_t size;
} texts[] = {
    TEXT(""),
    TEXT("\n"),
    TEXT("\r\n"),
    TEXT("\r"),
    TEXT("\n\n\r\n\n"),
    TEXT("one line\n"),
    TEXT("no newline"),
    TEXT("with cr\r"),
    TEXT("a\r\nb\nc\r\r\n\rd\n\r\n"),
    TEXT("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody"),
    TEXT("zero\0byte\n\0\n\0"),
    TEXT("0123456789\n0123456789\r\n0123456789"),
};

/* The text in two parts, the second one when the reader has been found waiting for it. */
static void two_parts(const char *text, size_t size, size_t first, size_t buffer, size_t room)
{
    int fds[2];
    size_t at = 0;
    bool whole = false;
    pair_open(fds);
    routine_reader_t *r = routine_reader_new(fds[0], buffer);
    say(fds[1], text, first);
    for (;;) {
        char line[LINE_MOST], expected_line[LINE_MOST];
        ssize_t n;
        if (whole) {
            n = routine_reader_line(r, line, room);
        } else {
            routine_with_timeout(200 * ROUTINE_US);
            n = routine_reader_line(r, line, room);
        }
        if (n == -ETIMEDOUT && !whole) {
            say(fds[1], text + first, size - first);
            CHECK_EQ(routine_close(fds[1]), 0);
            whole = true;
            continue;
        }
        const ssize_t expected = split(text, size, &at, expected_line, room);
        check_line(n, line, expected, expected_line, room);
        if (n == -ENODATA || n != expected)
            break;
    }
    CHECK(whole);
    CHECK_EQ(routine_reader_buffered(r), 0);
    routine_reader_free(r);
    CHECK_EQ(routine_close(fds[0]), 0);
}

static void *at_every_byte_body(void *arg)
{
    static const size_t buffers[] = {1, 2, 5, 0}, rooms[] = {1, 2, 10, 11, LINE_MOST};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        for (size_t first = 0; first <= texts[i].size; first++)
            for (size_t b = 0; b < COUNT_OF(buffers); b++)
                two_parts(texts[i].text, texts[i].size, first, buffers[b],
                          rooms[(first + b) % COUNT_OF(rooms)]);
    return arg;
}

TEST(split_at_every_byte)
{
    support_in_routine(at_every_byte_body, NULL);
    two_parts(texts[8].text, texts[8].size, 3, 0, LINE_MOST); /* on a plain thread */
}

/* ---- all calls in any order ---- */

struct feed {
    int fd;
    const char *text;
    size_t size;
    uint64_t random;
};

/* Writes the text in pieces, and lets the reader run now and then. */
static void *feed_body(void *arg)
{
    struct feed *f = arg;
    for (size_t at = 0; at < f->size;) {
        size_t n = 1 + (size_t)(support_random(&f->random) % (support_random(&f->random) % 8 ? 9 : 500));
        if (n > f->size - at)
            n = f->size - at;
        say(f->fd, f->text + at, n);
        at += n;
        if (support_random(&f->random) % 2)
            routine_yield();
    }
    CHECK_EQ(routine_close(f->fd), 0);
    return NULL;
}

static ssize_t read_some(routine_reader_t *r, char *data, size_t size, bool passed)
{
    if (passed) {
        routine_with_timeout(0);
        return routine_reader_read(r, data, size);
    }
    return routine_reader_read(r, data, size);
}

static ssize_t line_of(routine_reader_t *r, char *line, size_t room, bool passed)
{
    if (passed) {
        routine_with_timeout(0);
        return routine_reader_line(r, line, room);
    }
    return routine_reader_line(r, line, room);
}

static int full_of(routine_reader_t *r, char *data, size_t size, size_t *done, bool passed)
{
    if (passed) {
        routine_with_timeout(0);
        return routine_reader_read_full(r, data, size, done);
    }
    return routine_reader_read_full(r, data, size, done);
}

/* One call, checked. False: the end has been reached. */
static bool any_call(routine_reader_t *r, const char *text, size_t size, size_t *at, uint64_t *random)
{
    char data[600], expected[600];
    const size_t room = 1 + (size_t)(support_random(random) % (support_random(random) % 4 ? 40 : 600));
    const bool passed = support_random(random) % 4 == 0;
    const size_t held = routine_reader_buffered(r);
    switch (support_random(random) % 4) {
    case 0: {
        const ssize_t n = read_some(r, data, room, passed);
        if (n == -ETIMEDOUT && passed) {
            CHECK_EQ(held, 0);
        } else if (*at == size) {
            CHECK_EQ(n, 0);
            return false;
        } else {
            CHECK(n > 0 && (size_t)n <= room && (size_t)n <= size - *at);
            if (n <= 0)
                return false;
            CHECK_EQ(memcmp(data, text + *at, (size_t)n), 0);
            *at += (size_t)n;
        }
        return true;
    }
    case 1: {
        size_t done = 12345;
        const int rc = full_of(r, data, room, &done, passed);
        const size_t rest = size - *at;
        CHECK(done <= room && done <= rest);
        CHECK_EQ(memcmp(data, text + *at, done), 0);
        *at += done;
        if (rc == -ETIMEDOUT && passed)
            CHECK(done < room && done >= (held < room ? held : room));
        else
            CHECK_EQ(rc, rest < room ? -ENODATA : 0);
        return rc != -ENODATA;
    }
    default: {
        const ssize_t n = line_of(r, data, room, passed);
        if (n == -ETIMEDOUT && passed)
            return true;
        const ssize_t said = split(text, size, at, expected, room);
        check_line(n, data, said, expected, room);
        return n == said && n != -ENODATA;
    }
    }
}

static void any_calls(uint64_t seed)
{
    enum { SIZE = 6000 };
    static const char alphabet[] = "abcdefgh\r\r\n\n\n";
    uint64_t random = seed * 0x9e3779b97f4a7c15u + 1;
    char *text = malloc(SIZE);
    const size_t size = (size_t)(support_random(&random) % SIZE);
    const bool dense = support_random(&random) % 2;
    for (size_t i = 0; i < size; i++) {
        text[i] = alphabet[support_random(&random) % sizeof alphabet]; /* the zero, too */
        if (!dense && support_random(&random) % 8)
            text[i] = 'x';
    }
    int fds[2];
    size_t at = 0;
    pair_open(fds);
    struct feed feed = {fds[1], text, size, support_random(&random)};
    routine_t feeder = go(feed_body, &feed);
    routine_reader_t *r = routine_reader_new(fds[0], 1 + (size_t)(support_random(&random) % 80));
    while (any_call(r, text, size, &at, &random)) {
        if (at == size && support_random(&random) % 8 == 0)
            break;
    }
    CHECK_EQ(at, size);
    CHECK_EQ(routine_join(feeder, NULL), 0);
    routine_reader_free(r);
    CHECK_EQ(routine_close(fds[0]), 0);
    free(text);
    if (atomic_load(&support_failures) != 0)
        support_fail(__FILE__, __LINE__, "seed %llu", (unsigned long long)seed);
}

static void *any_calls_body(void *arg)
{
    for (long i = 0; i < support_scale(300) && atomic_load(&support_failures) == 0; i++)
        any_calls((uint64_t)i);
    return arg;
}

TEST(calls_in_any_order)
{
    support_in_routine(any_calls_body, NULL);
}

/* ---- long lines ---- */

TEST_EVERYWHERE(a_line_longer_than_the_buffer)
{
    enum { LONG = 100000 };
    char *text = malloc(LONG + 3), *line = malloc(LONG + 1);
    for (size_t i = 0; i < LONG; i++)
        text[i] = (char)('a' + i % 26);
    memcpy(text + LONG, "\nz", 3);
    int fds[2];
    pair_open(fds);
    struct feed feed = {fds[1], text, LONG + 2, 3};
    routine_t feeder = go(feed_body, &feed);
    routine_reader_t *r = routine_reader_new(fds[0], 16);
    CHECK_EQ(routine_reader_line(r, line, LONG + 1), LONG);
    CHECK_EQ(memcmp(line, text, LONG), 0);
    CHECK_EQ(line[LONG], 0);
    CHECK_EQ(routine_reader_line(r, line, LONG + 1), 1);
    CHECK_STR(line, "z");
    CHECK_EQ(routine_reader_line(r, line, LONG + 1), -ENODATA);
    CHECK_EQ(routine_reader_line(r, line, LONG + 1), -ENODATA);
    CHECK_EQ(routine_join(feeder, NULL), 0);
    routine_reader_free(r);
    CHECK_EQ(routine_close(fds[0]), 0);
    free(text);
    free(line);
}

/* It is said at once, not when the line has ended: whoever sends it may take for ever. What comes later of it
 * is skipped by whatever is called next. */
TEST_EVERYWHERE(too_long_is_known_at_once)
{
    int fds[2];
    char line[8];
    pair_open(fds);
    routine_reader_t *r = routine_reader_new(fds[0], 0);
    say(fds[1], "0123456789", 10);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), -EMSGSIZE);
    CHECK_STR(line, "0123456");
    CHECK_EQ(routine_reader_buffered(r), 0); /* nothing that a read could have */
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_reader_read(r, line, sizeof line), -ETIMEDOUT);
    }
    say(fds[1], "still the same", 14);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK_EQ(routine_reader_line(r, line, sizeof line), -ETIMEDOUT);
    }
    say(fds[1], "\nnext\nthen", 10);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), 4);
    CHECK_STR(line, "next");
    CHECK_EQ(routine_reader_buffered(r), 4);
    say(fds[1], "too long again", 14);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), -EMSGSIZE);
    CHECK_STR(line, "thentoo");
    say(fds[1], "...\nbody", 8);
    size_t done = 0;
    CHECK_EQ(routine_reader_read_full(r, line, 4, &done), 0);
    CHECK_EQ(memcmp(line, "body", 4), 0);
    say(fds[1], "no end of this", 14);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), -EMSGSIZE);
    CHECK_EQ(routine_close(fds[1]), 0);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), -ENODATA);
    routine_reader_free(r);
    CHECK_EQ(routine_close(fds[0]), 0);
}

/* The borders of "fits". */
TEST_EVERYWHERE(exactly_so_long)
{
    static const struct {
        const char *text;
        ssize_t rc;
    } table[] = {
        {"1234567\n", 7},          {"1234567\r\n", 7},          {"1234567", 7},
        {"12345678\n", -EMSGSIZE}, {"12345678\r\n", -EMSGSIZE}, {"12345678", -EMSGSIZE},
        {"1234567\r", -EMSGSIZE},  {"1234567\rx\n", -EMSGSIZE}, {"123456\r\r\n", 7},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        for (size_t buffer = 1; buffer < 12; buffer++) {
            int fds[2];
            char line[8];
            pair_open(fds);
            routine_reader_t *r = routine_reader_new(fds[0], buffer);
            say(fds[1], table[i].text, strlen(table[i].text));
            CHECK_EQ(routine_close(fds[1]), 0);
            CHECK_EQ(routine_reader_line(r, line, sizeof line), table[i].rc);
            CHECK_EQ(strlen(line), 7);
            CHECK_EQ(routine_reader_line(r, line, sizeof line), -ENODATA);
            routine_reader_free(r);
            CHECK_EQ(routine_close(fds[0]), 0);
        }
}

/* ---- cancellation, errors, arguments ---- */

struct cut {
    routine_reader_t *reader;
    _Atomic ssize_t said;
};

static void *read_until_cancelled(void *arg)
{
    struct cut *c = arg;
    char line[64];
    atomic_store(&c->said, routine_reader_line(c->reader, line, sizeof line));
    return NULL;
}

static void *cancelled_body(void *arg)
{
    int fds[2];
    char line[64];
    pair_open(fds);
    struct cut c = {.reader = routine_reader_new(fds[0], 4)};
    say(fds[1], "half of a line, ", 16);
    routine_t reader = go(read_until_cancelled, &c);
    for (int i = 0; i < 10; i++)
        routine_yield();
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    CHECK_EQ(routine_cancel(reader), 0);
    const int rc = routine_join(reader, NULL);
    CHECK(rc == 0 || rc == -ECANCELED);
    CHECK_EQ(atomic_load(&c.said), rc == 0 ? -ECANCELED : 0); /* or it has not even begun */
    say(fds[1], "and the other\n", 14);
    CHECK_EQ(routine_reader_line(c.reader, line, sizeof line), 29);
    CHECK_STR(line, "half of a line, and the other");
    routine_reader_free(c.reader);
    CHECK_EQ(routine_close(fds[0]), 0);
    CHECK_EQ(routine_close(fds[1]), 0);
    return arg;
}

TEST(cancelled_in_a_line)
{
    support_in_routine(cancelled_body, NULL);
}

TEST_EVERYWHERE(how_much_is_buffered)
{
    int fds[2];
    char line[64];
    pair_open(fds);
    routine_reader_t *r = routine_reader_new(fds[0], 0);
    say(fds[1], "one\ntwo\nthree", 13);
    CHECK_EQ(routine_reader_buffered(r), 0);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), 3);
    CHECK_EQ(routine_reader_buffered(r), 9); /* all of it in one read */
    CHECK_EQ(routine_reader_line(r, line, sizeof line), 3);
    CHECK_EQ(routine_reader_buffered(r), 5);
    CHECK_EQ(routine_reader_read(r, line, 2), 2);
    CHECK_EQ(routine_reader_read(r, line, 64), 3);
    CHECK_EQ(memcmp(line, "ree", 3), 0);
    CHECK_EQ(routine_reader_read(r, line, 0), 0);
    CHECK_EQ(routine_close(fds[1]), 0);
    CHECK_EQ(routine_reader_read(r, line, 64), 0);
    CHECK_EQ(routine_reader_read(r, line, 64), 0);
    routine_reader_free(r);
    CHECK_EQ(routine_close(fds[0]), 0);
}

TEST_EVERYWHERE(errors_and_arguments)
{
    char line[8];
    size_t done = 77;
    routine_reader_t *r = routine_reader_new(-1, 0);
    CHECK_EQ(routine_reader_line(r, line, 0), -EINVAL);
    CHECK_EQ(routine_reader_line(r, NULL, 8), -EINVAL);
    CHECK_EQ(routine_reader_line(r, line, sizeof line), -EBADF);
    CHECK_EQ(routine_reader_read(r, line, sizeof line), -EBADF);
    CHECK_EQ(routine_reader_read_full(r, line, sizeof line, &done), -EBADF);
    CHECK_EQ(done, 0);
    CHECK_EQ(routine_reader_read_full(r, line, 0, &done), 0);
    CHECK_EQ(routine_reader_read_full(r, line, 0, NULL), 0);
    routine_reader_free(r);
    routine_reader_free(NULL);
    if (!SUPPORT_ASAN && !SUPPORT_TSAN) /* who end the process */
        CHECK(routine_reader_new(0, SIZE_MAX) == NULL);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_at_every_byte),
        cmocka_unit_test(calls_in_any_order),
        cmocka_unit_test(a_line_longer_than_the_buffer),
        cmocka_unit_test(too_long_is_known_at_once),
        cmocka_unit_test(exactly_so_long),
        cmocka_unit_test(cancelled_in_a_line),
        cmocka_unit_test(how_much_is_buffered),
        cmocka_unit_test(errors_and_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
