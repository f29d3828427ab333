/* SPDX-License-Identifier: MIT
 *
 * The checks of src/context as plain functions, so that the cmocka test (context_test.c) and the cross
 * builds without cmocka (context_plain_main.c) run the same ones. context_abi_CPU.S
 * belongs to them on the three CPUs that have assembly.
 */
#ifndef TESTS_CONTEXT_CHECK_H
#define TESTS_CONTEXT_CHECK_H

#include <stddef.h>

struct context_check {
    const char *name;
    int (*run)(void); /* 0, or context_check_message says what is wrong */
};

extern const struct context_check context_checks[];
extern const size_t context_check_count;

const char *context_check_message(void);

/* Fills addresses with the return addresses of its callers, itself included, and returns how many. */
typedef int context_check_capture(void **addresses, int size);

/* Whether what capture sees inside a context ends at the context's first frame; 0 or not, as above. */
int context_check_backtrace_by(context_check_capture *capture);

#endif
