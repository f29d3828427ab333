/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See process.h.
 */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

RT_NOINLINE pid_t rt_process_wait(pid_t pid, int *status, int options)
{
    const int saved = errno;
    pid_t rc;
    do
        rc = waitpid(pid, status, options);
    while (rc < 0 && errno == EINTR);
    rc = rc < 0 ? -errno : rc;
    errno = saved;
    return rc;
}

RT_NOINLINE int rt_process_descriptor(pid_t pid)
{
#ifdef SYS_pidfd_open
    const int saved = errno;
    const long fd = syscall(SYS_pidfd_open, pid, 0);
    const int rc = fd < 0 ? -errno : (int)fd;
    errno = saved;
    return rc;
#else
    (void)pid;
    return -ENOSYS;
#endif
}
