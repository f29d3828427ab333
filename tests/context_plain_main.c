/* SPDX-License-Identifier: MIT
 *
 * Runs the checks of context_check.h without cmocka, for cross builds under qemu-user:
 * one line a check, exit status 1 if one failed.
 */
#include "context_check.h"

#include <stdio.h>

/* In memory: a context that loses registers must not lose this. */
static volatile int failed;

int main(void)
{
    for (volatile size_t i = 0; i < context_check_count; i++) {
        const int bad = context_checks[i].run();
        failed = failed | (bad != 0);
        printf("%s %s%s%s\n", bad ? "FAILED" : "ok    ", context_checks[i].name, bad ? ": " : "",
               bad ? context_check_message() : "");
        fflush(stdout);
    }
    return failed;
}
