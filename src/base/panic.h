/* SPDX-License-Identifier: MIT
 *
 * Floor 0. The end of the process with a sentence of advice, for contracts whose
 * breach cannot be returned as an error.
 */
#ifndef RT_BASE_PANIC_H
#define RT_BASE_PANIC_H

#include "base.h"

/* Prints "routines: <message>" on stderr, in one write, and aborts. Any thread, any stack. */
RT_COLD RT_NORETURN void rt_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a complaint that does not end the process. */
RT_COLD void rt_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
