/* SPDX-License-Identifier: MIT
 *
 * Floor 1. Where the calling code stands, for people. backtrace_execinfo.c where the C library can tell,
 * backtrace_none.c elsewhere.
 */
#ifndef RT_OS_BACKTRACE_H
#define RT_OS_BACKTRACE_H

/* The addresses of up to `most` frames, the innermost first. Returns how many. */
int rt_backtrace(void **frames, int most);

/* Writes them to stderr, a line each. */
void rt_backtrace_write(void *const *frames, int count);

#endif
