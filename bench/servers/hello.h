/* SPDX-License-Identifier: MIT
 *
 * What the servers written in C have in common: the answer, and how the end of a request is found. Requests
 * have no bodies, and end with an empty line; the servers in other languages do the same.
 */
#ifndef BENCH_SERVERS_HELLO_H
#define BENCH_SERVERS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes read at once. */
#define BUFFER 1024

#define REPLY "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"

/* How many requests end in these bytes. *blank: nothing has come since the last newline; false at first. */
static inline size_t requests_in(const char *data, size_t size, bool *blank)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\n') {
            count += *blank;
            *blank = !*blank;
        } else if (data[i] != '\r') {
            *blank = false;
        }
    }
    return count;
}

/* At most so many answers are written at once. */
#define REPLIES 32

static const char replies[] =
    REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY
        REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY REPLY;
_Static_assert(sizeof replies - 1 == REPLIES * (sizeof REPLY - 1), "as many as REPLIES says");

/* Bytes of n answers. */
static inline size_t replies_size(size_t n)
{
    return n * (sizeof REPLY - 1);
}

#endif
