/* SPDX-License-Identifier: MIT
 *
 * A parser of HTTP/1 requests (RFC 9112): heads, and bodies in chunks.
 *
 * It works on the caller's buffer, in place: it copies nothing and allocates nothing, and looks at no byte
 * behind those it was given. Bytes can come in any pieces: the result is the same as for all at once, and no
 * byte is looked at twice for the end of its line. What it lets through is strict: lines end in LF or CR LF,
 * no other control characters, no space before a colon, no folded lines, no doubt about the length of a body.
 */
#ifndef EXAMPLES_HTTP_PARSER_H
#define EXAMPLES_HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX   8192 /* bytes of a request's head; 431 */
#define HTTP_TARGET_MAX 4096 /* bytes of its first line; 414 */
#define HTTP_FIELDS_MAX 64   /* lines of its header; 431 */

/* A piece of the buffer. */
struct http_text {
    const char *at;
    size_t size;
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_OTHER,  /* one of the standard ones */
    HTTP_UNKNOWN /* any other */
};

/* Zeroed before the first piece of each request. */
struct http_request {
    struct http_text target; /* "/path?query", "http://host/path" or "*": visible ASCII, as it came */
    struct http_text host;   /* of the Host field */
    struct http_text if_modified_since; /* "" if there is none, as host in HTTP/1.0 */
    uint64_t length;                    /* of the body; 0 if it comes in chunks */
    enum http_method method;
    bool http_1_0;
    bool keep_alive;
    bool chunked;
    bool expect_continue;
    bool expect_other; /* an expectation that nobody knows; 417 */

    /* The parser's own. */
    size_t line;     /* where the line begins at which it is */
    size_t seen;     /* up to here there is no end of that line */
    unsigned fields; /* lines of the header until now */
    bool started, has_host, has_length, has_coding, says_close, says_keep_alive;
};

/*
 * The head at the begin of the data, which must be the same bytes as in the call before, and may be more.
 * Returns its size, with its empty line; 0: it needs more; or a status of HTTP, negative: -400, -414, -431,
 * -501, -505. After an error nothing can be said about what follows.
 */
int http_parse_head(struct http_request *request, const char *data, size_t size);

/* A body in chunks. Zeroed before its first piece. */
struct http_chunks {
    uint64_t left;  /* bytes of this chunk that are yet to come; its size, until it is complete */
    uint64_t total; /* bytes of all chunks, those to come of this one included */
    unsigned state;
    unsigned extra; /* bytes since the last data */
};

/*
 * Goes over a piece of it. Returns how many bytes belong to the body, all of them unless it has ended, and
 * sets *end if it has; or -400. The data itself is dropped.
 */
ptrdiff_t http_parse_chunks(struct http_chunks *chunks, const char *data, size_t size, bool *end);

/*
 * A path of a target: without query, percent signs decoded. It begins with '/', and has no empty segments,
 * no zero bytes, none of "." and "..". `path` has room for `size` bytes and a zero. Its length, or a status
 * of HTTP, negative: -400, or -414 it does not fit.
 */
ptrdiff_t http_path(struct http_text target, char *path, size_t size);

#endif
