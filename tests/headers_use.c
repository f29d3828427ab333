/* SPDX-License-Identifier: MIT
 *
 * Every macro of the public headers, expanded where warnings are errors, as C and
 * as C++: headers_check.sh compiles this, nobody runs it.
 */
#include <routines.h>

#ifdef __cplusplus
extern "C" {
#endif
int headers_use(void);
#ifdef __cplusplus
}
#endif

struct job {
    int n;
    const char *text;
};

static void *body(void *arg)
{
    return arg;
}

static routine_oneshot_t at_rest = ROUTINE_ONESHOT_INITIALIZER;

int headers_use(void)
{
    int n = 3;
    struct job job = {1, "text"};
    routine_oneshot_t local = ROUTINE_ONESHOT_INITIALIZER;
    routine_attr_t attr = {NULL, 0, NULL};
    void *result = NULL;
    int failed = 0;

    attr.name = "name";
    attr.stack_size = ROUTINE_STACK_MAX;
    failed |= routine_join(go(body, &n), &result);
    failed |= routine_join(routine_go(body, NULL), NULL);
    failed |= routine_join(go_with(&attr, body, &n), NULL);
    failed |= routine_join(routine_go_with(NULL, body, &n), NULL);
    failed |= routine_join(go_copy(body, job), &result);
    failed |= routine_join(routine_go_copy(body, n), NULL);
#ifndef __cplusplus
    failed |= routine_join(go_with(&(routine_attr_t){.name = "literal"}, body, NULL), NULL);
    failed |= routine_join(go_copy(body, ((struct job){.n = 1, .text = "a"})), NULL);
    failed |= routine_join(go_copy(body, (struct job){.n = 1, .text = "a"}), NULL);
#endif
    failed |= go_detached(body, NULL);
    failed |= routine_go_detached(body, NULL);
    failed |= routine_run(body, NULL, &result);
    failed |= routine_runtime_run(routine_runtime_default(), body, NULL, NULL);
    failed |= routine_runtime_shutdown(routine_runtime_default(), ROUTINE_SHUTDOWN_WAIT, 5 * ROUTINE_MS);
    failed |= routine_runtime_shutdown(routine_runtime_default(), ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER);
    failed |= routine_oneshot_send(&at_rest, &n) | routine_oneshot_send(&local, NULL);
    failed |= ROUTINE_NS + ROUTINE_US + ROUTINE_S > routine_now();
    failed |= ROUTINE_KEYS_MAX > ROUTINE_WORKERS_MAX;
    return failed;
}
