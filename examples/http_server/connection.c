/* SPDX-License-Identifier: MIT
 *
 * A connection: requests are read, parsed where they were read, and answered in order.
 *
 * Waiting for a request can be cancelled at any moment; from its first byte until the answer is written there
 * is a shield. What happens behind it has limits: of time for what is received and for what is sent (a
 * client that dawdles is cut off), and of size.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stream.h"

#define BODY_MAX (1 << 20)   /* of a request; it is dropped; 413 */
#define SLICE    (128 << 10) /* of a file: so much must be sent within the limit */

/* ---- reading ---- */

/* The next head, of which something is there. Its size, or a status, negative; -1: the client has gone. */
static int read_head(struct stream *s, struct http_request *request)
{
    *request = (struct http_request){.line = 0};
    int size = http_parse_head(request, s->in + s->begin, s->end - s->begin);
    if (size != 0)
        return size;
    flush(s, 0); /* the answers to those before are not kept back while it waits */
    routine_with_timeout(s->server->receive);
    while (size == 0) {
        const char *before = s->in + s->begin;
        const ssize_t n = fill(s);
        if (n <= 0)
            return n == -ETIMEDOUT ? -408 : n == -ENOMEM ? -503 : n == 0 ? -400 : -1;
        if (before != s->in + s->begin)
            *request = (struct http_request){.line = 0};
        size = http_parse_head(request, s->in + s->begin, s->end - s->begin);
    }
    return size;
}

/* Drops a body. False: it has not come to its end. The answer is kept back, if it is in the buffer: clients
 * may stop sending when they see it, and the connection would be lost. */
static bool drop_body(struct stream *s, const struct http_request *request)
{
    struct http_chunks chunks = {.state = 0};
    uint64_t left = request->length, all = 0;
    bool ended = false;
    routine_with_timeout(s->server->receive);
    for (;;) {
        const size_t here = s->end - s->begin;
        size_t n = here < left ? here : (size_t)left;
        if (request->chunked) {
            const ptrdiff_t taken = http_parse_chunks(&chunks, s->in + s->begin, here, &ended);
            if (taken < 0 || chunks.total > BODY_MAX)
                return false;
            n = (size_t)taken;
        } else {
            left -= n;
            ended = left == 0;
        }
        s->begin += n;
        all += n;
        if (ended)
            return true;
        if (all > 2 * BODY_MAX) /* chunks can be small, and what lies between them large */
            return false;
        if (s->begin == s->end && s->in == s->small)
            enlarge(s); /* if not, it will take longer */
        if (fill(s) <= 0)
            return false;
    }
}

/* Tells the client that nothing more comes, and waits for it to do likewise. If what it still sends met a
 * closed socket, it would be answered by a reset, which may take from it what it has not read. */
static void part(struct stream *s)
{
    routine_with_timeout(ROUTINE_S);
    shutdown(s->fd, SHUT_WR);
    for (size_t all = 0; all < BODY_MAX;) {
        const ssize_t n = routine_read(s->fd, s->in, s->room);
        if (n <= 0)
            break;
        all += (size_t)n;
    }
}

/* ---- answers ---- */

static bool wants_content(const struct http_request *request)
{
    return request == NULL || request->method != HTTP_HEAD;
}

static void answer_text(struct stream *s, const struct http_request *request, const char *text, size_t size)
{
    put_head(s, 200);
    put_content(s, "text/plain; charset=utf-8", size);
    put_end(s, request);
    if (wants_content(request))
        put(s, text, size);
}

/* fields: more of them, each begun by CR LF. */
static void answer_status(struct stream *s, const struct http_request *request, int status,
                          const char *fields)
{
    const char *text = status_text(status);
    put_head(s, status);
    put_text(s, fields);
    if (status != 304)
        put_content(s, "text/plain; charset=utf-8", strlen(text) + 1);
    put_end(s, request);
    if (status != 304 && wants_content(request)) {
        put_text(s, text);
        put_text(s, "\n");
    }
}

/* ---- what there is to be had ---- */

static void answer_statistics(struct stream *s, const struct http_request *request)
{
    struct server *server = s->server;
    char *text = NULL;
    size_t size = 0;
    FILE *page = open_memstream(&text, &size);
    if (page == NULL) {
        answer_status(s, request, 503, "");
        return;
    }
    routine_offender_t offenders[4];
    const size_t ended = server->ended, accepted = server->accepted;
    fprintf(page, "up            %" PRId64 " s\n", (routine_now() - server->started) / ROUTINE_S);
    fprintf(page, "connections   %zu, now open: %zu\n", accepted, accepted - ended);
    fprintf(page, "requests      %zu\n\n", atomic_load(&server->requests) + s->requests);
    routine_stats_print(page);
    const size_t n = routine_offenders(NULL, offenders, sizeof offenders / sizeof offenders[0]);
    for (size_t i = 0; i < n; i++)
        fprintf(page, "kept others waiting: %s %s, %" PRIu64 " times, up to %" PRId64 " ms\n",
                offenders[i].where, offenders[i].name, offenders[i].count, offenders[i].longest / ROUTINE_MS);
    if (fclose(page) == 0)
        answer_text(s, request, text, size);
    else
        answer_status(s, request, 503, "");
    free(text);
}

/* The bytes of a file, behind its head. */
static void put_file(struct stream *s, int file, size_t size)
{
    off_t at = 0;
    if (size <= s->out_room - s->filled) { /* goes with the head */
        const ssize_t n = routine_pread(file, s->out + s->filled, size, 0);
        s->filled += n > 0 ? (size_t)n : 0;
        at = n > 0 ? n : 0;
    } else {
        flush(s, MSG_MORE);
        while (!s->broken && (size_t)at < size) {
            const size_t slice = size - (size_t)at < SLICE ? size - (size_t)at : SLICE;
            const off_t before = at;
            routine_with_timeout(s->server->write);
            const ssize_t n = routine_sendfile(s->fd, file, &at, slice);
            s->slow = n < (ssize_t)slice && routine_check() == -ETIMEDOUT;
            s->broken = n < 0 || s->slow;
            if (at == before)
                break; /* it has become shorter meanwhile */
        }
    }
    if ((size_t)at < size)
        s->close = true; /* there is no other way to tell that this was not all */
}

static void answer_directory(struct stream *s, const struct http_request *request)
{
    const struct http_text target = request->target;
    const char *query = memchr(target.at, '?', target.size);
    put_head(s, 301);
    put_text(s, "\r\nLocation: ");
    put(s, target.at, query != NULL ? (size_t)(query - target.at) : target.size);
    put_text(s, "/\r\nContent-Length: 0");
    put_end(s, request);
}

static void answer_file(struct stream *s, const struct http_request *request, const char *path)
{
    struct stat status;
    struct tm parts;
    char modified[64] = "";
    const int file = open_file(s->server->root, path, &status);
    if (file == -301) {
        answer_directory(s, request);
        return;
    }
    if (file < 0) {
        answer_status(s, request, -file, "");
        return;
    }
    if (gmtime_r(&status.st_mtime, &parts) != NULL)
        strftime(modified, sizeof modified, "\r\nLast-Modified: " HTTP_DATE, &parts);
    const struct http_text since = request->if_modified_since; /* has to be what it was told before */
    const char *value = strchr(modified, ' ');
    if (since.size > 0 && value != NULL && since.size == strlen(value + 1) &&
        memcmp(value + 1, since.at, since.size) == 0) {
        answer_status(s, request, 304, modified);
    } else {
        put_head(s, 200);
        put_text(s, modified);
        put_content(s, media_type(path), (uint64_t)status.st_size);
        put_end(s, request);
        if (request->method == HTTP_GET)
            put_file(s, file, (size_t)status.st_size);
    }
    routine_close(file);
}

static bool is_hello(const struct stream *s, struct http_text path)
{
    return (path.size == 6 && memcmp(path.at, "/hello", 6) == 0) || (path.size == 1 && s->server->root < 0);
}

static void answer_hello(struct stream *s, const struct http_request *request)
{
    static const char hello[] = "Hello, world!\n";
    answer_text(s, request, hello, sizeof hello - 1);
}

/* A function of its own, since what it needs on the stack is much. */
__attribute__((noinline)) static void answer_path(struct stream *s, const struct http_request *request)
{
    char path[HTTP_TARGET_MAX + 1];
    const ptrdiff_t length = http_path(request->target, path, sizeof path - 1);
    if (length < 0)
        answer_status(s, request, (int)-length, "");
    else if (is_hello(s, (struct http_text){path, (size_t)length}))
        answer_hello(s, request);
    else if (strcmp(path, "/stats") == 0)
        answer_statistics(s, request);
    else if (s->server->root >= 0)
        answer_file(s, request, path);
    else
        answer_status(s, request, 404, "");
}

static void answer_get(struct stream *s, const struct http_request *request)
{
    if (is_hello(s, request->target) && *request->target.at == '/') /* mostly it is that simple */
        answer_hello(s, request);
    else
        answer_path(s, request);
}

/* ---- requests ---- */

static void answer(struct stream *s, const struct http_request *request)
{
    const bool has_body = request->length > 0 || request->chunked;
    s->close = !request->keep_alive || atomic_load_explicit(&s->server->stopping, memory_order_relaxed);
    /* Whoever asks whether to send a body gets the final answer, and need not. */
    if (request->length > BODY_MAX || (has_body && request->expect_continue))
        s->close = true;
    if (request->length > BODY_MAX)
        answer_status(s, request, 413, "");
    else if (request->expect_other)
        answer_status(s, request, 417, "");
    else if (request->method == HTTP_UNKNOWN)
        answer_status(s, request, 501, "");
    else if (request->method == HTTP_OTHER)
        answer_status(s, request, 405, "\r\nAllow: GET, HEAD");
    else
        answer_get(s, request);
    if (has_body && !s->close)
        s->close = !drop_body(s, request);
    s->requests++;
}

/* Answers all that is there. False: the connection is to be closed. A function of its own, so that what waits
 * for a request needs less of the stack. */
__attribute__((noinline)) static bool answer_all(struct stream *s)
{
    routine_shield();
    while (s->begin < s->end && !s->close && !s->broken) {
        struct http_request request;
        const int size = read_head(s, &request);
        if (size > 0) {
            s->begin += (size_t)size;
            answer(s, &request);
        } else {
            s->close = true;
            if (size != -1)
                answer_status(s, NULL, -size, "");
        }
    }
    flush(s, 0);
    if (s->close && !s->broken)
        part(s);
    return !s->close && !s->broken;
}

int serve_connection(void *arg)
{
    const struct connection *connection = arg;
    struct server *server = connection->server;
    struct stream s;
    stream_begin(&s, connection);
    for (;;) {
        ssize_t n;
        {
            routine_with_timeout(server->idle);
            n = fill(&s);
        }
        if (n <= 0 || !answer_all(&s))
            break;
        make_small(&s);
        if (s.requests >= 256) {
            atomic_fetch_add_explicit(&server->requests, s.requests, memory_order_relaxed);
            s.requests = 0;
        }
    }
    if (s.slow) { /* what it has not taken need not be kept for it */
        const struct linger at_once = {1, 0};
        setsockopt(s.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    make_small(&s);
    routine_close(s.fd);
    atomic_fetch_add_explicit(&server->requests, s.requests, memory_order_relaxed);
    atomic_fetch_add_explicit(&server->ended, 1, memory_order_relaxed);
    return 0;
}
