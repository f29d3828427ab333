/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Copying between descriptors (io.h).
 *
 * From a file the kernel does it alone:
 *   - to a file by copy_file_range,
 *   - to a non-blocking stream socket by sendfile,
 *   - to a pipe by splice, which has a flag not to wait for it.
 * Everything else, and what the kernel refuses after all, goes through a buffer by routine_read and
 * routine_write. Blocking sockets are among that: sendfile has no MSG_DONTWAIT, and would block the thread;
 * the descriptor's flags are not ours to change. Datagrams keep their boundaries there.
 *
 * Between sockets splice could do it too, through a pipe of our own. It takes a tenth less of the CPU for
 * what comes in bulk, but a fifth more for messages, and two descriptors and a pipe's memory for each
 * direction of each connection, of which a user may have only so many. So it is not used.
 *
 * A file's position stands in `at` meanwhile, and is set at the end to what has been written: of a file
 * nothing is lost, whatever comes between.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../include/routines/io.h"
#include "../../include/routines/routine.h"
#include "../../include/routines/runtime.h"
#include "../../include/routines/time.h"
#include "../os/transfer.h"

#define BUFFER       (64 * 1024) /* no datagram is longer */
#define BUFFER_FIRST (16 * 1024) /* of connections, until they fill it: many wait, with little in it */

#define CHUNK (1024 * 1024) /* what one system call is to move at most */
#define TURN  (1024 * 1024) /* after so much without waiting others have a turn */
#define VAIN  8             /* so often ready is believed that is not */

#define REFUSED 1 /* the kernel does not do this: by the buffer */

typedef struct copy {
    int to, from;
    uint64_t most, done;
    off_t *at; /* the place in the source, if it is a file */
    bool masked;
    int vain;     /* waits since something was moved */
    size_t since; /* bytes since the last turn of others */
} copy;

static bool is_refusal(ssize_t error)
{
    static const int refusals[] = {EINVAL, ENOSYS, EXDEV, EOPNOTSUPP, EBADF, EPERM, EACCES, ETXTBSY, ESPIPE};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (error == -refusals[i])
            return true;
    return false;
}

static size_t piece(const copy *c, size_t most)
{
    return c->most - c->done < most ? (size_t)(c->most - c->done) : most;
}

static void count(copy *c, size_t moved)
{
    c->done += moved;
    c->since += moved;
    c->vain = 0;
    if (c->since >= TURN) {
        c->since = 0;
        routine_yield();
    }
}

/* Until the target is ready, or says so: a socket that gets no memory from the kernel does, too. */
static int wait_for_room(copy *c)
{
    struct pollfd one = {.fd = c->to, .events = POLLOUT};
    c->since = 0;
    if (++c->vain > VAIN) {
        const int rc = routine_sleep(ROUTINE_MS);
        if (rc != 0)
            return rc;
    }
    const int rc = routine_poll(&one, 1, -1);
    return rc < 0 ? rc : 0;
}

/* ---- through a buffer ---- */

static ssize_t read_some(const copy *c, char *buffer, size_t size)
{
    return c->at ? routine_pread(c->from, buffer, size, *c->at) : routine_read(c->from, buffer, size);
}

static int by_buffer(copy *c, const rt_transfer_end *from)
{
    size_t size = from->type == RT_TRANSFER_STREAM || from->type == RT_TRANSFER_PIPE ? BUFFER_FIRST : BUFFER;
    char *buffer = malloc(size);
    if (!buffer)
        return -ENOMEM;
    int rc = 0;
    while (c->done < c->most) {
        const ssize_t n = read_some(c, buffer, piece(c, size));
        if (n <= 0) {
            rc = (int)n;
            break;
        }
        size_t written = 0;
        rc = routine_write_all(c->to, buffer, (size_t)n, &written);
        if (c->at)
            *c->at += (off_t)written;
        count(c, written);
        if (rc != 0)
            break;
        if ((size_t)n == size && size < BUFFER) {
            free(buffer); /* nothing is in it */
            size = BUFFER;
            if (!(buffer = malloc(size)))
                return -ENOMEM;
        }
    }
    free(buffer);
    return rc;
}

/* ---- by the kernel: only the target can be waited for ---- */

typedef ssize_t move_fn(copy *c, size_t size);

static ssize_t move_range(copy *c, size_t size)
{
    return rt_transfer_range(c->to, c->from, c->at, size);
}

static ssize_t move_sendfile(copy *c, size_t size)
{
    return rt_transfer_sendfile(c->to, c->from, c->at, size, c->masked);
}

static ssize_t move_splice(copy *c, size_t size)
{
    return rt_transfer_splice(c->to, c->from, c->at, size, c->masked);
}

static int by_kernel(copy *c, move_fn *move)
{
    while (c->done < c->most) {
        int rc = routine_check();
        if (rc != 0)
            return rc;
        const ssize_t n = move(c, piece(c, CHUNK));
        if (n > 0)
            count(c, (size_t)n);
        else if (n == -EAGAIN)
            rc = wait_for_room(c);
        else if (n == 0 && c->done > 0)
            return 0;
        else if (n == 0 || is_refusal(n))
            return REFUSED; /* some files seem empty to the kernel (/proc) */
        else
            rc = (int)n;
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- the calls ---- */

static int run(copy *c, const rt_transfer_end *from, bool range)
{
    rt_transfer_end to;
    int rc = rt_transfer_look(c->to, &to);
    if (rc != 0)
        return rc;
    c->masked = routine_runtime_current() != NULL;
    rc = REFUSED;
    if (from->type == RT_TRANSFER_FILE) {
        if (to.type == RT_TRANSFER_FILE)
            rc = by_kernel(c, range ? move_range : move_sendfile);
        else if (to.type == RT_TRANSFER_PIPE)
            rc = by_kernel(c, move_splice);
        else if (to.type == RT_TRANSFER_STREAM && to.nonblocking)
            rc = by_kernel(c, move_sendfile);
    }
    return rc == REFUSED ? by_buffer(c, from) : rc;
}

int routine_copy(int to, int from, uint64_t most, uint64_t *done)
{
    copy c = {.to = to, .from = from, .most = most};
    rt_transfer_end what;
    off_t at = -1;
    int rc = routine_check();
    if (rc == 0)
        rc = rt_transfer_look(from, &what);
    if (rc == 0) {
        if (what.type == RT_TRANSFER_FILE && (at = rt_transfer_seek(from, 0, SEEK_CUR)) >= 0)
            c.at = &at;
        rc = run(&c, &what, true);
        if (c.at && c.done > 0)
            rt_transfer_seek(from, at, SEEK_SET);
    }
    if (done)
        *done = c.done;
    return rc;
}

ssize_t routine_sendfile(int to, int from, off_t *offset, size_t size)
{
    copy c = {.to = to, .from = from, .most = size < SSIZE_MAX ? size : SSIZE_MAX};
    rt_transfer_end what;
    int rc = routine_check();
    if (rc == 0)
        rc = rt_transfer_look(from, &what);
    if (rc != 0)
        return rc;
    off_t at = offset ? *offset : rt_transfer_seek(from, 0, SEEK_CUR);
    if (at < 0)
        return offset ? -EINVAL : (ssize_t)at;
    c.at = &at;
    if (what.type == RT_TRANSFER_PIPE || what.type == RT_TRANSFER_STREAM)
        return -EINVAL;
    rc = run(&c, &what, false);
    if (offset)
        *offset = at;
    else if (c.done > 0)
        rt_transfer_seek(from, at, SEEK_SET);
    return c.done > 0 ? (ssize_t)c.done : rc;
}
