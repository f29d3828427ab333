/* SPDX-License-Identifier: MIT
 *
 * Floor 1. Pages from the kernel: reserving, guarding, giving back. The one place
 * that knows mmap, so that tests can link another that fails.
 */
#ifndef RT_OS_PAGES_H
#define RT_OS_PAGES_H

#include "../base/base.h"

/* How guards are made on this machine; tried out once (R15, and qemu-user accepts
 * MADV_GUARD_INSTALL without guarding anything). */
typedef enum {
    RT_PAGES_GUARD_MADVISE, /* markers in the page table: no further mappings */
    RT_PAGES_GUARD_MPROTECT /* a mapping more for each; limited by vm.max_map_count */
} rt_pages_guard_t;

size_t rt_pages_size(void);

/* Tries the guards out and reads vm.max_map_count. Call once, before the functions below; what it found
 * holds in a forked child too. ROUTINES_GUARD=mprotect in the environment (for tests): no markers. */
void rt_pages_init(void);

rt_pages_guard_t rt_pages_guard_kind(void);

/* Reserves `size` bytes (whole pages), aligned to `align` (a power of two, at least a page), readable and
 * writable, not committed, never in huge pages. NULL: no memory. Leaves errno alone, as all of these do. */
void *rt_pages_reserve(size_t size, size_t align);

/* Unmaps. */
void rt_pages_release(void *at, size_t size);

/* Makes [at, at + size) fault on every access. Returns false where no guard could be set: for mprotect guards
 * that is so once half of vm.max_map_count is used by them (R15), so that malloc and dlopen still find some;
 * for markers, in memory locked by mlockall. Once for each place: a second guard there is counted again. */
bool rt_pages_guard(void *at, size_t size);

/* The memory there is not needed any more: it reads as zero afterwards. Guards stay. */
void rt_pages_forget(void *at, size_t size);

/* An rt_pages_release of something with `count` guards in it: what the mprotect limit counts. */
void rt_pages_unguarded(size_t count);

#endif
