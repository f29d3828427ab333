/* SPDX-License-Identifier: MIT
 *
 * Floor 1. Child processes. Negative errno instead of errno, which is left alone.
 */
#ifndef RT_OS_PROCESS_H
#define RT_OS_PROCESS_H

#include <sys/types.h>

#include "../base/base.h"

/* As waitpid(2); EINTR does not happen. */
pid_t rt_process_wait(pid_t pid, int *status, int options);

/* A descriptor that is readable when this process has ended; close-on-exec. -ENOSYS where there is no such
 * thing, and other errors. */
int rt_process_descriptor(pid_t pid);

#endif
