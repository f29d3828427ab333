/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See backtrace.h: by glibc.
 */
#include <execinfo.h>
#include <unistd.h>

#include "backtrace.h"

int rt_backtrace(void **frames, int most)
{
    return backtrace(frames, most);
}

void rt_backtrace_write(void *const *frames, int count)
{
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
}
