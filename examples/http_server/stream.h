/* SPDX-License-Identifier: MIT
 *
 * The two buffers of a connection: what was received and is not consumed, and what is to be sent.
 *
 * They are small, so that a connection that waits fits, with both of them, into a page of its stack. A head
 * that is longer gets a larger buffer, and so do the answers to a batch of requests, until they are sent.
 */
#ifndef EXAMPLES_STREAM_H
#define EXAMPLES_STREAM_H

#include <sys/socket.h>
#include <time.h>

#include "http_parser.h"
#include "http_server.h"

#define HTTP_DATE "%a, %d %b %Y %H:%M:%S GMT" /* for strftime */

struct stream {
    struct server *server;
    int fd;
    bool close;        /* behind the answers that are in the buffer */
    bool broken;       /* nothing can be written any more, ... */
    bool slow;         /* ... because the client did not read */
    char *in;          /* `small`, or from malloc */
    size_t room;       /* of it */
    size_t begin, end; /* what was received and is not consumed */
    char *out;         /* what is to be sent: likewise */
    size_t out_room;   /* of it */
    size_t filled;     /* of that */
    size_t requests;   /* not counted yet */
    time_t second;     /* of `date` */
    char date[32], small[1024], small_out[512];
};

void stream_begin(struct stream *s, const struct connection *connection);

/* Receives more: as routine_read. What was received and not consumed may have moved. */
ssize_t fill(struct stream *s);

/* A larger buffer for what is received; false: there is none to be had. */
bool enlarge(struct stream *s);

/* Back to the small buffers; they are empty. */
void make_small(struct stream *s);

/* Sends all that is there; flags: 0, or MSG_MORE if more will follow at once. */
void flush(struct stream *s, int flags);

void put(struct stream *s, const char *data, size_t size);
void put_text(struct stream *s, const char *text);

/* The head of an answer: its status; then maybe more fields, each begun by CR LF; then its end. request: NULL
 * if it could not be read. */
void put_head(struct stream *s, int status);
void put_content(struct stream *s, const char *type, uint64_t length);
void put_end(struct stream *s, const struct http_request *request);

/* "404 Not Found" */
const char *status_text(int status);

#endif
