/* SPDX-License-Identifier: MIT
 *
 * Floor 1. Opening files, and what goes with it. Negative errno instead of errno, which is left alone; EINTR
 * does not happen.
 */
#ifndef RT_OS_OPEN_H
#define RT_OS_OPEN_H

#include <sys/types.h>

#include "../base/base.h"

/* As open(2). */
int rt_open(const char *path, int flags, mode_t mode);

/* Is there a fifo of this name? */
bool rt_open_is_fifo(const char *path);

/* Has the fifo, open for reading only and non-blocking, had a writer since? Nothing is taken out of it. */
bool rt_open_has_writer(int fd);

/* Takes O_NONBLOCK away. */
void rt_open_make_blocking(int fd);

int rt_open_fsync(int fd);

/* As close(2), of what nobody else knows. */
void rt_open_close(int fd);

#endif
