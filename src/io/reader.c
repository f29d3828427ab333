/* SPDX-License-Identifier: MIT
 *
 * Floor 7. The buffered reader (io.h).
 *
 * What has been read and not yet delivered is data[begin, end). Invariants:
 *   - a line is taken out of the buffer only when it is complete, or known to be too long, or the file has
 *     ended: so an error, a limit or a cancellation in between loses nothing, and the next call, with
 *     whatever arguments, finds it all;
 *   - data[begin, scanned) has no newline: a line that comes byte by byte is searched once;
 *   - `skipping`: the buffer's beginning belongs to a line that was too long. It is dropped as it comes,
 * before anything else is done, so as long as that lasts nothing is in the buffer. The buffer grows, for
 * lines that are longer than it, to what the caller has room for and no further.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/routines/io.h"
#include "../base/base.h"

#define DEFAULT_SIZE 8192

struct routine_reader {
    int fd;
    bool skipping;
    size_t begin, scanned, end, size;
    char *data;
};

routine_reader_t *routine_reader_new(int fd, size_t buffer)
{
    routine_reader_t *r = malloc(sizeof *r);
    if (!r)
        return NULL;
    *r = (routine_reader_t){.fd = fd, .size = buffer ? buffer : DEFAULT_SIZE};
    r->data = malloc(r->size);
    if (r->data)
        return r;
    free(r);
    return NULL;
}

void routine_reader_free(routine_reader_t *reader)
{
    if (!reader)
        return;
    free(reader->data);
    free(reader);
}

size_t routine_reader_buffered(const routine_reader_t *reader)
{
    return reader->end - reader->begin;
}

static void consume(routine_reader_t *r, size_t count)
{
    r->begin += count;
    if (r->begin == r->end)
        r->begin = r->end = 0;
    r->scanned = r->begin;
}

/* Room behind `end`, for a line that begins at `begin` and may need `most` bytes. Not below that, since
 * otherwise it would have been found too long. */
static int make_room(routine_reader_t *r, size_t most)
{
    const size_t held = r->end - r->begin;
    if (r->begin > 0 && r->size - r->end < r->size / 2) {
        memmove(r->data, r->data + r->begin, held);
        r->scanned -= r->begin;
        r->begin = 0;
        r->end = held;
    }
    if (r->end < r->size)
        return 0;
    size_t size = r->size < most / 2 ? r->size * 2 : most;
    if (size < 64)
        size = 64;
    char *data = realloc(r->data, size);
    if (!data)
        return -ENOMEM;
    r->data = data;
    r->size = size;
    return 0;
}

/* One read, of as much as there is room for. */
static ssize_t refill(routine_reader_t *r)
{
    const ssize_t n = routine_read(r->fd, r->data + r->end, r->size - r->end);
    if (n > 0)
        r->end += (size_t)n;
    return n;
}

/* The newline that ends the line at the beginning of the buffer, or NULL. */
static const char *find_newline(routine_reader_t *r)
{
    const char *newline = NULL;
    if (r->scanned < r->end)
        newline = memchr(r->data + r->scanned, '\n', r->end - r->scanned);
    r->scanned = newline ? (size_t)(newline - r->data) : r->end;
    return newline;
}

static void drop(routine_reader_t *r)
{
    const char *newline = find_newline(r);
    if (newline)
        r->skipping = false;
    consume(r, newline ? (size_t)(newline - r->data) + 1 - r->begin : r->end - r->begin);
}

/* The rest of a line that was too long. 1: it has gone by; 0: the end of the file came; a negative errno. */
static ssize_t skip(routine_reader_t *r)
{
    while (r->skipping) {
        const ssize_t n = refill(r);
        if (n == 0)
            r->skipping = false;
        if (n <= 0)
            return n;
        drop(r);
    }
    return 1;
}

/* Delivers a line of `length` bytes at the beginning of the buffer. */
static ssize_t deliver(const routine_reader_t *r, size_t length, char *line, size_t size)
{
    const bool fits = length < size;
    const size_t count = fits ? length : size - 1;
    memcpy(line, r->data + r->begin, count);
    line[count] = 0;
    return fits ? (ssize_t)length : -EMSGSIZE;
}

/* The line that ends with this newline. */
static ssize_t take_line(routine_reader_t *r, const char *newline, char *line, size_t size)
{
    const char *first = r->data + r->begin;
    size_t length = (size_t)(newline - first);
    const size_t all = length + 1;
    if (length > 0 && first[length - 1] == '\r')
        length--;
    const ssize_t rc = deliver(r, length, line, size);
    consume(r, all);
    return rc;
}

/* No newline yet: is the line too long in any case? A '\r' at the end may belong to one. */
static bool is_too_long(const routine_reader_t *r, size_t size)
{
    const size_t held = r->end - r->begin;
    return held > size || (held == size && r->data[r->end - 1] != '\r');
}

ssize_t routine_reader_line(routine_reader_t *reader, char *line, size_t size)
{
    routine_reader_t *r = reader;
    if (!line || size == 0 || size > SSIZE_MAX)
        return -EINVAL;
    ssize_t n = skip(r);
    if (n <= 0)
        return n == 0 ? -ENODATA : n;
    for (;;) {
        const char *newline = find_newline(r);
        if (newline)
            return take_line(r, newline, line, size);
        if (is_too_long(r, size)) {
            n = deliver(r, r->end - r->begin, line, size);
            r->skipping = true;
            drop(r);
            return n;
        }
        const int rc = make_room(r, size + 1);
        if (rc != 0)
            return rc;
        n = refill(r);
        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    const size_t rest = r->end - r->begin;
    if (rest == 0)
        return -ENODATA;
    n = deliver(r, rest, line, size);
    consume(r, rest);
    return n;
}

static size_t take(routine_reader_t *r, void *buffer, size_t size)
{
    const size_t held = r->end - r->begin, count = size < held ? size : held;
    if (count > 0) {
        memcpy(buffer, r->data + r->begin, count);
        consume(r, count);
    }
    return count;
}

ssize_t routine_reader_read(routine_reader_t *reader, void *buffer, size_t size)
{
    routine_reader_t *r = reader;
    ssize_t n = skip(r);
    if (n <= 0 || size == 0)
        return n <= 0 ? n : 0;
    if (r->begin == r->end) {
        if (size >= r->size)
            return routine_read(r->fd, buffer, size);
        n = refill(r);
        if (n <= 0)
            return n;
    }
    return (ssize_t)take(r, buffer, size);
}

int routine_reader_read_full(routine_reader_t *reader, void *buffer, size_t size, size_t *done)
{
    size_t sum = 0;
    ssize_t n = 1;
    while (sum < size && (n = routine_reader_read(reader, (char *)buffer + sum, size - sum)) > 0)
        sum += (size_t)n;
    if (done)
        *done = sum;
    if (sum == size)
        return 0;
    return n < 0 ? (int)n : -ENODATA;
}
