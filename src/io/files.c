/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Opening files, and having them written: calls that may block for long, on some file systems, and
 * that nothing can wait for but a thread. Once one has begun it is waited for, so no descriptor is lost.
 *
 * A fifo is opened when its other side is, which may be never: no thread waits for that. For writing it is
 * tried, non-blocking, again and again: the kernel says ENXIO until there is a reader. For reading it is
 * open at once, non-blocking, so that writers can come; and given to the caller, blocking as he wants it,
 * when the first one has.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "../../include/routines/io.h"
#include "../../include/routines/time.h"
#include "../os/open.h"
#include "../sched/pool.h"
#include "../sched/scheduler.h"
#include "fd.h"

#define NAP_FIRST ROUTINE_MS
#define NAP_LAST  (20 * ROUTINE_MS)

typedef struct {
    const char *path;
    int flags;
    mode_t mode;
    bool asks; /* whether it is a fifo */
    bool fifo;
} opening;

/* In the pool. The descriptor. */
static int open_it(void *arg)
{
    opening *o = arg;
    o->fifo = o->asks && rt_open_is_fifo(o->path);
    return rt_open(o->path, o->flags | (o->fifo ? O_NONBLOCK : 0), o->mode);
}

/* Of the times between two looks at what tells nobody when it happens. */
static int nap(int64_t *length)
{
    const int rc = routine_sleep(*length);
    if (*length < NAP_LAST)
        *length *= 2;
    return rc;
}

/* The descriptor, or a negative errno. */
static int open_fifo(opening *o)
{
    int64_t length = NAP_FIRST;
    int fd;
    while ((fd = rt_pool_run(RT_POOL_FILES, open_it, o)) == -ENXIO && o->fifo) {
        const int rc = nap(&length);
        if (rc != 0)
            return rc;
    }
    if (fd < 0 || !o->fifo)
        return fd;
    length = NAP_FIRST;
    while ((o->flags & O_ACCMODE) == O_RDONLY && !rt_open_has_writer(fd)) {
        const int rc = nap(&length);
        if (rc != 0) {
            rt_open_close(fd);
            return rc;
        }
    }
    rt_open_make_blocking(fd);
    return fd;
}

/* Nothing but the call itself can end its wait. */
static bool may_block(void)
{
    const rt_block *me = rt_self()->current;
    return !me || (me->attr.flags & (RT_FLAG_THREAD | RT_FLAG_LIMIT)) == RT_FLAG_THREAD;
}

int routine_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t); // NOLINT(clang-analyzer-valist.Uninitialized): it was started
        va_end(args);
    }
    opening o = {.path = path, .flags = flags | O_CLOEXEC, .mode = mode};
    o.asks = (flags & (O_NONBLOCK | O_PATH)) == 0 && (flags & O_ACCMODE) != O_RDWR && !may_block();
    const int fd = open_fifo(&o);
    if (fd >= 0)
        rt_fd_fresh(fd, 0);
    return fd;
}

/* In the pool, on the caller's descriptor. */
static int fsync_it(void *arg)
{
    return rt_open_fsync(*(const int *)arg);
}

int routine_fsync(int fd)
{
    return rt_pool_run(RT_POOL_FILES, fsync_it, &fd);
}
