/* SPDX-License-Identifier: MIT
 *
 * Floor 4. A routine that overflows its stack says so: which one, how large the
 * stack is, where it was started; then the process ends by SIGSEGV as it would have anyway.
 */
#ifndef RT_OBSERVE_OVERFLOW_H
#define RT_OBSERVE_OVERFLOW_H

#include "../base/base.h"

/* Installs the handler for SIGSEGV, once in the process. What is no overflow goes to the handler that was
 * there. */
void rt_overflow_install(void);

/* Gives the calling thread, which is to run routines, a stack to handle signals on. Returns it, for
 * rt_overflow_detach; NULL: no memory, or it has one. */
void *rt_overflow_attach(void);
void rt_overflow_detach(void *memory);

#endif
