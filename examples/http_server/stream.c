/* SPDX-License-Identifier: MIT
 *
 * Receiving and sending. What has been answered is sent by one call, as soon as nothing more is there to be
 * answered: so a batch of pipelined requests needs one read and one write. See stream.h.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (2 * HTTP_HEAD_MAX)

void stream_begin(struct stream *s, const struct connection *connection)
{
    memset(s, 0, offsetof(struct stream, date)); /* not the buffers */
    s->server = connection->server;
    s->fd = connection->fd;
    make_small(s);
}

/* ---- reading ---- */

bool enlarge(struct stream *s)
{
    char *large = s->in == s->small ? malloc(LARGE) : NULL;
    if (large == NULL)
        return false;
    memcpy(large, s->in + s->begin, s->end - s->begin);
    s->end -= s->begin;
    s->begin = 0;
    s->in = large;
    s->room = LARGE;
    return true;
}

void make_small(struct stream *s)
{
    if (s->in != s->small)
        free(s->in);
    if (s->out != s->small_out)
        free(s->out);
    s->in = s->small;
    s->room = sizeof s->small;
    s->out = s->small_out;
    s->out_room = sizeof s->small_out;
}

ssize_t fill(struct stream *s)
{
    if (s->begin == s->end) {
        s->begin = s->end = 0;
    } else if (s->end == s->room && s->begin > 0) {
        memmove(s->in, s->in + s->begin, s->end - s->begin);
        s->end -= s->begin;
        s->begin = 0;
    } else if (s->end == s->room && !enlarge(s)) {
        return -ENOMEM;
    }
    const ssize_t n = routine_read(s->fd, s->in + s->end, s->room - s->end);
    if (n > 0)
        s->end += (size_t)n;
    return n;
}

/* ---- writing ---- */

void flush(struct stream *s, int flags)
{
    if (s->filled > 0 && !s->broken) {
        routine_with_timeout(s->server->write);
        s->broken = routine_send(s->fd, s->out, s->filled, flags) != (ssize_t)s->filled;
        s->slow = s->broken && routine_check() == -ETIMEDOUT;
    }
    s->filled = 0;
}

/* Makes room in the buffer, by a larger one or by sending what is in it. */
static void make_room(struct stream *s)
{
    char *large = s->out == s->small_out ? malloc(LARGE) : NULL;
    if (large == NULL) {
        flush(s, MSG_MORE);
        return;
    }
    memcpy(large, s->out, s->filled);
    s->out = large;
    s->out_room = LARGE;
}

void put(struct stream *s, const char *data, size_t size)
{
    while (size > s->out_room - s->filled) {
        const size_t n = s->out_room - s->filled;
        memcpy(s->out + s->filled, data, n);
        s->filled += n;
        data += n;
        size -= n;
        make_room(s);
    }
    memcpy(s->out + s->filled, data, size);
    s->filled += size;
}

void put_text(struct stream *s, const char *text)
{
    put(s, text, strlen(text));
}

static void put_number(struct stream *s, uint64_t number)
{
    char text[20], *at = text + sizeof text;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    put(s, at, (size_t)(text + sizeof text - at));
}

static const char *date_now(struct stream *s)
{
    const time_t now = time(NULL);
    struct tm parts;
    if (now != s->second && gmtime_r(&now, &parts) != NULL) {
        strftime(s->date, sizeof s->date, HTTP_DATE, &parts);
        s->second = now;
    }
    return s->date;
}

const char *status_text(int status)
{
    switch (status) {
    case 200:
        return "200 OK";
    case 301:
        return "301 Moved Permanently";
    case 304:
        return "304 Not Modified";
    case 400:
        return "400 Bad Request";
    case 403:
        return "403 Forbidden";
    case 404:
        return "404 Not Found";
    case 405:
        return "405 Method Not Allowed";
    case 408:
        return "408 Request Timeout";
    case 413:
        return "413 Content Too Large";
    case 414:
        return "414 URI Too Long";
    case 417:
        return "417 Expectation Failed";
    case 431:
        return "431 Request Header Fields Too Large";
    case 501:
        return "501 Not Implemented";
    case 503:
        return "503 Service Unavailable";
    case 505:
        return "505 HTTP Version Not Supported";
    default:
        return "500 Internal Server Error";
    }
}

void put_head(struct stream *s, int status)
{
    put_text(s, "HTTP/1.1 ");
    put_text(s, status_text(status));
    put_text(s, "\r\nDate: ");
    put_text(s, date_now(s));
}

void put_content(struct stream *s, const char *type, uint64_t length)
{
    put_text(s, "\r\nContent-Type: ");
    put_text(s, type);
    put_text(s, "\r\nContent-Length: ");
    put_number(s, length);
}

void put_end(struct stream *s, const struct http_request *request)
{
    if (s->close)
        put_text(s, "\r\nConnection: close");
    else if (request != NULL && request->http_1_0)
        put_text(s, "\r\nConnection: keep-alive");
    put_text(s, "\r\n\r\n");
}
