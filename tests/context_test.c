/* SPDX-License-Identifier: MIT
 *
 * src/context under cmocka: the checks of context_check.h, and libc's own backtrace() besides.
 */
#include "context_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <execinfo.h>
#include <stdlib.h>
#include <string.h>

static void run_check(void **state)
{
    const struct context_check *check = *state;
    if (check->run() != 0)
        fail_msg("%s", context_check_message());
}

/* Sanitizers put a function of theirs around backtrace(), whose frame is one more: not ours to count. */
static int capture_by_libc(void **addresses, int size)
{
    int count = backtrace(addresses, size);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERCEPTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INTERCEPTED 1
#endif
#endif
#ifdef INTERCEPTED
    if (count > 0)
        memmove(addresses, addresses + 1, (size_t)--count * sizeof *addresses);
#endif
    __asm__ volatile("" : "+r"(count)); /* not a tail call */
    return count;
}

static void run_backtrace(void **state)
{
    (void)state;
    if (context_check_backtrace_by(capture_by_libc) != 0)
        fail_msg("%s", context_check_message());
}

int main(void)
{
    enum { MOST = 32 };
    struct CMUnitTest tests[MOST] = {{"backtrace()", run_backtrace, NULL, NULL, NULL}};
    if (context_check_count >= MOST)
        abort();
    for (size_t i = 0; i < context_check_count; i++) {
        union { /* cmocka wants void *; the checks are const and stay so */
            const struct context_check *check;
            void *state;
        } initial = {&context_checks[i]};
        tests[i + 1] = (struct CMUnitTest){context_checks[i].name, run_check, NULL, NULL, initial.state};
    }
    return _cmocka_run_group_tests("context", tests, context_check_count + 1, NULL, NULL);
}
