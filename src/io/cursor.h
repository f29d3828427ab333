/* SPDX-License-Identifier: MIT
 *
 * Floor 7. How far a transfer from or to a list of parts has come. The list is its user's and is not changed;
 * what is left of it is shown in windows of a few parts.
 */
#ifndef RT_IO_CURSOR_H
#define RT_IO_CURSOR_H

#include <errno.h>
#include <limits.h>
#include <sys/uio.h>

#include "../base/base.h"

#define RT_CURSOR_WINDOW 8

typedef struct {
    const struct iovec *parts;
    int count;
    int next;    /* the part that is under way */
    size_t into; /* bytes of it that are done */
    size_t done, total;
} rt_cursor;

/* 0; -EINVAL as the system calls say. */
RT_INLINE int rt_cursor_init(rt_cursor *c, const struct iovec *parts, int count)
{
    *c = (rt_cursor){.parts = parts, .count = count};
    if (count < 0 || count > IOV_MAX)
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > (size_t)PTRDIFF_MAX - c->total)
            return -EINVAL;
        c->total += parts[i].iov_len;
    }
    return 0;
}

RT_INLINE bool rt_cursor_is_done(const rt_cursor *c)
{
    return c->done == c->total;
}

/* What is left, or its first parts: all of it, as long as nothing is done. */
RT_INLINE const struct iovec *rt_cursor_window(const rt_cursor *c, struct iovec window[RT_CURSOR_WINDOW],
                                               int *count)
{
    if (RT_LIKELY(c->done == 0)) {
        *count = c->count;
        return c->parts;
    }
    int n = 0;
    size_t into = c->into;
    for (int i = c->next; i < c->count && n < RT_CURSOR_WINDOW; i++, into = 0)
        window[n++] = (struct iovec){(char *)c->parts[i].iov_base + into, c->parts[i].iov_len - into};
    *count = n;
    return window;
}

RT_INLINE void rt_cursor_advance(rt_cursor *c, size_t bytes)
{
    c->done += bytes;
    while (c->next < c->count && bytes >= c->parts[c->next].iov_len - c->into) {
        bytes -= c->parts[c->next].iov_len - c->into;
        c->next++;
        c->into = 0;
    }
    c->into += bytes;
}

#endif
