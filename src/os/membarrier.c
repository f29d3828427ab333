/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See membarrier.h; membarrier(2).
 */
#define _GNU_SOURCE
#include "membarrier.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

bool rt_membarrier_works;

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

void rt_membarrier_init(void)
{
    const int saved = errno;
    const char *wish = getenv("ROUTINES_MEMBARRIER");
    const bool wanted = !(wish && wish[0] == '0' && wish[1] == '\0');
    const long offered = wanted ? membarrier(MEMBARRIER_CMD_QUERY) : -1;
    rt_membarrier_works = offered > 0 && (offered & MEMBARRIER_CMD_PRIVATE_EXPEDITED) &&
                          membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
                          membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
    errno = saved;
}

void rt_membarrier_heavy(void)
{
    if (rt_membarrier_works) {
        const int saved = errno;
        membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        errno = saved;
    } else {
        atomic_thread_fence(memory_order_seq_cst);
    }
}
