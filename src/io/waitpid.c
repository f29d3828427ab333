/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Waiting for child processes.
 *
 * For the end of one child the kernel has a descriptor to wait for. For any child of several, and for those
 * that stop or go on, there is none, and SIGCHLD is the program's own: there the call looks again and again,
 * after a millisecond at first, then more and more seldom.
 */
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

#include "../../include/routines/io.h"
#include "../../include/routines/time.h"
#include "../os/process.h"
#include "../sched/scheduler.h"
#include "fd.h"

#define NAP_FIRST ROUTINE_MS
#define NAP_LAST  (20 * ROUTINE_MS)

/* Until it has ended. 0, -ECANCELED, -ETIMEDOUT; or another error: there is no way to wait for it so. */
static int wait_for_end(pid_t pid)
{
    const int fd = rt_process_descriptor(pid);
    if (fd < 0)
        return fd;
    rt_fd_fresh(fd, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    const int rc = routine_poll(&p, 1, -1);
    routine_close(fd);
    return rc < 0 ? rc : 0;
}

pid_t routine_waitpid(pid_t pid, int *status, int options)
{
    if (options & WNOHANG)
        return rt_process_wait(pid, status, options);
    rt_block *me = rt_self()->current;
    int stop = rt_frame_stop(me);
    if (stop != 0)
        return stop;
    if (!me || (me->attr.flags & (RT_FLAG_THREAD | RT_FLAG_LIMIT)) == RT_FLAG_THREAD)
        return rt_process_wait(pid, status, options);
    bool one = pid > 0 && (options & (WUNTRACED | WCONTINUED)) == 0;
    int64_t length = NAP_FIRST;
    for (;;) {
        const pid_t rc = rt_process_wait(pid, status, options | WNOHANG);
        if (rc != 0)
            return rc;
        if (one) {
            stop = wait_for_end(pid);
            one = stop == 0;
        }
        if (!one && stop != -ECANCELED && stop != -ETIMEDOUT) {
            stop = routine_sleep(length);
            if (length < NAP_LAST)
                length *= 2;
        }
        if (stop != 0)
            return stop;
    }
}
