/* SPDX-License-Identifier: MIT
 *
 * Tests of what happens at the end of a stack: the process dies of SIGSEGV, with a
 * sentence that names the routine, its stack size and where it was started, and for one
 * that ran in place whose stack that was. Faults of any other kind are none of the library's business:
 * they go to the handler that was there before, or kill without a word.
 *
 * Each is a process of its own.
 *
 * ctest: workers
 */
#define SUPPORT_OWN_SEGV 1
#include "support.h"

/* More than any stack here; volatile, so that no compiler knows. */
static volatile int bottom = 1 << 30;

SUPPORT_NOINLINE static int dive(int depth)
{
    volatile char frame[200];
    if (depth >= bottom)
        return 0;
    frame[depth % 200] = (char)depth;
    const int below = dive(depth + 1);
    return below + frame[depth % 200];
}

static void *dive_for_ever(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)dive(0);
}

static void *nothing(void *arg)
{
    return arg;
}

/* Not quite null: that, UBSan would see before the processor. */
#define NOWHERE ((uintptr_t)64)

static void *null_pointer(void *arg)
{
    volatile int *volatile nowhere = (int *)NOWHERE;
    (void)arg;
    *nowhere = 1;
    return NULL;
}

/* ---- overflows ---- */

enum { NAMED_LINE = __LINE__ + 6 };

static int case_named(void)
{
    const routine_attr_t attr = {.name = "deep diver", .stack_size = 64 << 10};
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    return routine_join(go_with(&attr, dive_for_ever, NULL), NULL);
}

enum { ORDINARY_LINE = __LINE__ + 4 };

static int case_ordinary(void)
{
    return routine_join(go(dive_for_ever, NULL), NULL);
}

static int case_large(void)
{
    return routine_join(
        go_with(&(routine_attr_t){.name = "large", .stack_size = 3 << 20}, dive_for_ever, NULL), NULL);
}

static int case_of_a_runtime(void)
{
    routine_runtime_t *runtime = NULL;
    CHECK_EQ(
        routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = 2, .stack_size = 200 << 10}), 0);
    return routine_runtime_run(runtime, dive_for_ever, NULL, NULL);
}

static void *dive_later(void *arg)
{
    for (int i = 0; i < 100; i++) {
        routine_yield();
        CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    }
    return dive_for_ever(arg);
}

/* After many switches, with others about. */
static int case_later(void)
{
    for (int i = 0; i < 8; i++)
        CHECK_EQ(routine_detach(go_with(&(routine_attr_t){.name = "one of eight"}, dive_later, NULL)), 0);
    for (;;)
        routine_yield();
    return 0;
}

static void *inner(void *arg)
{
    return dive_for_ever(arg);
}

static void *middle(void *arg)
{
    const routine_attr_t attr = {.name = "innermost"};
    CHECK_EQ(routine_join(go_with(&attr, inner, arg), NULL), 0);
    return NULL;
}

static void *outer(void *arg)
{
    const routine_attr_t attr = {.name = "middle one"};
    CHECK_EQ(routine_join(go_with(&attr, middle, arg), NULL), 0);
    return NULL;
}

static int case_in_place(void)
{
    routine_runtime_t *one = support_runtime(1);
    const routine_attr_t attr = {.name = "outermost", .runtime = one};
    return routine_join(go_with(&attr, outer, NULL), NULL);
}

/* In place, and back: the chain that is shown is the one there is now. */
static void *outer_again(void *arg)
{
    CHECK_EQ(routine_join(go_with(&(routine_attr_t){.name = "gone by now"}, nothing, arg), NULL), 0);
    return dive_for_ever(arg);
}

static int case_after_in_place(void)
{
    routine_runtime_t *one = support_runtime(1);
    const routine_attr_t attr = {.name = "outermost", .runtime = one};
    return routine_join(go_with(&attr, outer_again, NULL), NULL);
}

TEST(an_overflow_explains_itself)
{
    static struct support_result r;
    char place[64];
    CASE_DIES(&r, "named", NULL, SIGSEGV);
    snprintf(place, sizeof place, "overflow_test.c:%d", NAMED_LINE);
    CASE_SAYS(&r, "named", "routines: ");
    CASE_SAYS(&r, "named", "overflow");
    CASE_SAYS(&r, "named", "deep diver");
    CASE_SAYS(&r, "named", "64 KiB");
    CASE_SAYS(&r, "named", place);

    CASE_DIES(&r, "ordinary", NULL, SIGSEGV);
    snprintf(place, sizeof place, "overflow_test.c:%d", ORDINARY_LINE);
    CASE_SAYS(&r, "ordinary", "overflow");
    CASE_SAYS(&r, "ordinary", "128 KiB");
    CASE_SAYS(&r, "ordinary", place);

    CASE_DIES(&r, "large", NULL, SIGSEGV);
    CASE_SAYS(&r, "large", "overflow");
    CASE_SAYS(&r, "large", "\"large\"");
    CASE_SAYS(&r, "large", "3072 KiB");

    CASE_DIES(&r, "of_a_runtime", NULL, SIGSEGV);
    CASE_SAYS(&r, "of_a_runtime", "overflow");
    CASE_SAYS(&r, "of_a_runtime", "200 KiB");

    CASE_DIES(&r, "later", NULL, SIGSEGV);
    CASE_SAYS(&r, "later", "overflow");
    CASE_SAYS(&r, "later", "one of eight");
}

/* R9: the chain of those that run in place. */
TEST(an_overflow_in_place_names_the_chain)
{
    static struct support_result r;
    CASE_DIES(&r, "in_place", NULL, SIGSEGV);
    CASE_SAYS(&r, "in_place", "overflow");
    const char *first = strstr(r.text, "innermost"), *second = strstr(r.text, "middle one"),
               *third = strstr(r.text, "outermost");
    CHECK(first != NULL && second != NULL && third != NULL);
    CHECK(first < second && second < third);
    CASE_DOES_NOT_SAY(&r, "in_place", "check failed");

    CASE_DIES(&r, "after_in_place", NULL, SIGSEGV);
    CASE_SAYS(&r, "after_in_place", "outermost");
    CASE_DOES_NOT_SAY(&r, "after_in_place", "gone by now");
}

/* ---- other faults ---- */

static int case_null_pointer(void)
{
    return routine_join(go(null_pointer, NULL), NULL);
}

static int case_null_pointer_on_a_thread(void)
{
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    support_thread_join(support_thread(null_pointer, NULL), NULL);
    return 0;
}

static int case_null_pointer_in_main(void)
{
    CHECK_EQ(routine_join(go(nothing, NULL), NULL), 0);
    null_pointer(NULL);
    return 0;
}

static void *send_segv(void *arg)
{
    kill(getpid(), SIGSEGV);
    for (;;)
        pause();
    return arg;
}

static int case_sent(void)
{
    return routine_join(go(send_segv, NULL), NULL);
}

TEST(other_faults_kill_without_a_word)
{
    static struct support_result r;
    static const char *const names[] = {"null_pointer", "null_pointer_on_a_thread", "null_pointer_in_main",
                                        "sent"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CASE_DIES(&r, names[i], NULL, SIGSEGV);
        CASE_DOES_NOT_SAY(&r, names[i], "overflow");
        CASE_DOES_NOT_SAY(&r, names[i], "routines:");
    }
}

static void simple_handler(int signo)
{
    if (signo == SIGSEGV && write(STDOUT_FILENO, "the user's handler\n", 19) == 19)
        _exit(42);
    _exit(43);
}

static void handler_with_info(int signo, siginfo_t *info, void *context)
{
    if ((uintptr_t)info->si_addr != NOWHERE || context == NULL)
        _exit(44);
    simple_handler(signo);
}

static void install_handler(bool with_info)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    if (with_info) {
        action.sa_sigaction = handler_with_info;
        action.sa_flags = SA_SIGINFO;
    } else {
        action.sa_handler = simple_handler;
    }
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
}

static int case_simple_handler(void)
{
    install_handler(false);
    return case_null_pointer();
}

static int case_handler_with_info(void)
{
    install_handler(true);
    return case_null_pointer();
}

static int case_handler_in_main(void)
{
    install_handler(true);
    return case_null_pointer_in_main();
}

static int case_handler_and_overflow(void)
{
    install_handler(true);
    return case_named();
}

TEST(a_handler_that_was_there_before_gets_them)
{
    static struct support_result r;
    static const char *const names[] = {"simple_handler", "handler_with_info", "handler_in_main"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CASE_EXITS(&r, names[i], NULL, 42);
        CASE_SAYS(&r, names[i], "the user's handler");
        CASE_DOES_NOT_SAY(&r, names[i], "overflow");
    }
    support_run_case(&r, "handler_and_overflow", NULL); /* whoever ends it: the sentence is there */
    CASE_SAYS(&r, "handler_and_overflow", "overflow");
    CASE_SAYS(&r, "handler_and_overflow", "deep diver");
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"named", case_named},
        {"ordinary", case_ordinary},
        {"large", case_large},
        {"of_a_runtime", case_of_a_runtime},
        {"later", case_later},
        {"in_place", case_in_place},
        {"after_in_place", case_after_in_place},
        {"null_pointer", case_null_pointer},
        {"null_pointer_on_a_thread", case_null_pointer_on_a_thread},
        {"null_pointer_in_main", case_null_pointer_in_main},
        {"sent", case_sent},
        {"simple_handler", case_simple_handler},
        {"handler_with_info", case_handler_with_info},
        {"handler_in_main", case_handler_in_main},
        {"handler_and_overflow", case_handler_and_overflow},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overflow_explains_itself),
        cmocka_unit_test(an_overflow_in_place_names_the_chain),
        cmocka_unit_test(other_faults_kill_without_a_word),
        cmocka_unit_test(a_handler_that_was_there_before_gets_them),
    };
    return cmocka_run_group_tests_name("overflow", tests, NULL, NULL);
}
