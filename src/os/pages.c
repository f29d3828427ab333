/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See pages.h; mmap(2), madvise(2).
 *
 * A guard is a marker in the page table (MADV_GUARD_INSTALL, Linux 6.13) or, where that does not
 * work, a mapping of its own without access (mprotect). Which it is, is decided by having the
 * kernel touch a guarded page: a system call answers EFAULT where the program would get a signal.
 *
 * Markers are refused for memory locked by mlockall; then rt_pages_guard says so.
 */
#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

/* younger than the headers of many a system */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

#define DEFAULT_MAX_MAPS 65530
#define MAPS_PER_GUARD   2 /* it cuts a mapping into three */

/* Written by rt_pages_init only. */
static rt_pages_guard_t guard_kind = RT_PAGES_GUARD_MPROTECT;
static size_t most_guards = DEFAULT_MAX_MAPS / 2 / MAPS_PER_GUARD;

/* The mprotect guards there are. Relaxed everywhere: a mere count, nothing is published by it. Not set
 * back by rt_pages_init: a forked child has the mappings of its parent. */
static _Atomic size_t guards;

size_t rt_pages_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Does the kernel fail to write to a page with a marker? The raw system call, since getrandom of newer C
 * libraries writes in user space. */
static bool markers_work(void)
{
    const size_t size = rt_pages_size();
    void *page = rt_pages_reserve(size, size);
    if (!page)
        return false;
    const bool works = madvise(page, size, MADV_GUARD_INSTALL) == 0 &&
                       syscall(SYS_getrandom, page, (size_t)1, GRND_NONBLOCK) == -1 && errno == EFAULT;
    rt_pages_release(page, size);
    return works;
}

static size_t read_max_maps(void)
{
    unsigned long maps = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (!file)
        return DEFAULT_MAX_MAPS;
    if (fscanf(file, "%lu", &maps) != 1)
        maps = DEFAULT_MAX_MAPS;
    fclose(file);
    return maps;
}

void rt_pages_init(void)
{
    const int saved = errno;
    const char *wish = getenv("ROUTINES_GUARD");
    const bool wanted = !(wish && strcmp(wish, "mprotect") == 0);
    guard_kind = wanted && markers_work() ? RT_PAGES_GUARD_MADVISE : RT_PAGES_GUARD_MPROTECT;
    most_guards = read_max_maps() / 2 / MAPS_PER_GUARD;
    errno = saved;
}

rt_pages_guard_t rt_pages_guard_kind(void)
{
    return guard_kind;
}

void *rt_pages_reserve(size_t size, size_t align)
{
    const int saved = errno;
    const size_t spare = align - rt_pages_size(); /* mmap's answer is off by so much at most */
    char *at = NULL;
    if (size > 0 && size <= SIZE_MAX - spare) {
        void *mapped = mmap(NULL, size + spare, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (mapped != MAP_FAILED) {
            const size_t before = (align - (uintptr_t)mapped % align) % align;
            at = (char *)mapped + before;
            /* a trim that fails, for want of mappings, leaves unused address space behind and no more */
            if (before > 0)
                munmap(mapped, before);
            if (before < spare)
                munmap(at + size, spare - before);
            madvise(at, size, MADV_NOHUGEPAGE); /* fails where there are no huge pages */
        }
    }
    errno = saved;
    return at;
}

void rt_pages_release(void *at, size_t size)
{
    const int saved = errno;
    munmap(at, size);
    errno = saved;
}

static bool guard_by_mprotect(void *at, size_t size)
{
    /* relaxed: see guards */
    if (atomic_fetch_add_explicit(&guards, 1, memory_order_relaxed) < most_guards &&
        mprotect(at, size, PROT_NONE) == 0)
        return true;
    rt_pages_unguarded(1);
    return false;
}

bool rt_pages_guard(void *at, size_t size)
{
    const int saved = errno;
    const bool done = guard_kind == RT_PAGES_GUARD_MADVISE ? madvise(at, size, MADV_GUARD_INSTALL) == 0
                                                           : guard_by_mprotect(at, size);
    errno = saved;
    return done;
}

void rt_pages_forget(void *at, size_t size)
{
    const int saved = errno;
    /* memory locked by mlockall wants its own word (Linux 5.18), or unlocking */
    if (madvise(at, size, MADV_DONTNEED) != 0 && madvise(at, size, MADV_DONTNEED_LOCKED) != 0 &&
        munlock(at, size) == 0)
        madvise(at, size, MADV_DONTNEED);
    errno = saved;
}

void rt_pages_unguarded(size_t count)
{
    /* relaxed: see guards */
    if (guard_kind == RT_PAGES_GUARD_MPROTECT)
        atomic_fetch_sub_explicit(&guards, count, memory_order_relaxed);
}
