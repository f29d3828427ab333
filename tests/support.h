/* SPDX-License-Identifier: MIT
 *
 * What the tests against the public headers share.
 *
 * cmocka's assertions leave a test by longjmp, which is forbidden off the main
 * stack. So tests use CHECK and CHECK_EQ, which may stand anywhere, in routines
 * and in threads: they print and count, and the end of the test looks at the
 * count. TEST(name) { ... } defines such a test; TEST_EVERYWHERE(name) { ... }
 * one whose body is run on the main thread, in a routine with a stack of its own,
 * in one that its joiner may run in place, and in several threads and routines at once.
 *
 * What ends a process (panics, overflows, exit) or needs a fresh one (the
 * environment, the first go) is a case: main() begins with SUPPORT_CASES(cases),
 * and support_run_case() starts this very program again with --case=NAME,
 * with what it prints caught. It is not a bare fork: sanitizers like that better.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "routines/oneshot.h"
#include "routines/routine.h"
#include "routines/runtime.h"
#include "routines/stats.h"
#include "routines/time.h"

#define SUPPORT_UNUSED   __attribute__((unused))
#define SUPPORT_NOINLINE __attribute__((noinline))
#define COUNT_OF(array)  (sizeof(array) / sizeof(array)[0])

/* For tests in which a routine is to keep its worker, so that others do not run: its thread loses it never.
 */
extern _Atomic int64_t rt_monitor_pace; /* sched/monitor.h */
#define SUPPORT_NO_HANDOVERS                                                                                 \
    __attribute__((constructor)) static void support_no_handovers(void)                                      \
    {                                                                                                        \
        atomic_store(&rt_monitor_pace, 1000 * ROUTINE_S);                                                    \
    }

/* ---- which build this is ---- */

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define SUPPORT_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define SUPPORT_ASAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define SUPPORT_TSAN 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define SUPPORT_ASAN 1
#endif
#ifndef SUPPORT_TSAN
#define SUPPORT_TSAN 0
#endif
#ifndef SUPPORT_ASAN
#define SUPPORT_ASAN 0
#endif

/* True where memory and time cannot be judged: under sanitizers, or as told (Valgrind, emulators). */
SUPPORT_UNUSED static bool support_slow(void)
{
    const char *slowdown = getenv("ROUTINES_TEST_SLOWDOWN");
    return SUPPORT_TSAN || SUPPORT_ASAN || (slowdown != NULL && atoi(slowdown) > 1);
}

/* Rounds of a loop: fewer where each costs much more. At least 10. */
SUPPORT_UNUSED static long support_scale(long rounds)
{
    const long scaled = support_slow() ? rounds / 20 : rounds;
    return scaled < 10 ? 10 : scaled;
}

/* What the sanitizers are to do differently here. A file whose routines are to die of SIGSEGV
 * by themselves defines SUPPORT_OWN_SEGV before it includes this. */
#ifdef SUPPORT_OWN_SEGV
#define SUPPORT_SEGV_OPTION ":handle_segv=0:handle_sigbus=0"
#else
#define SUPPORT_SEGV_OPTION ""
#endif
#if SUPPORT_TSAN
const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
    return "die_after_fork=0" SUPPORT_SEGV_OPTION;
}
#endif
#if SUPPORT_ASAN
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "allow_user_segv_handler=1" SUPPORT_SEGV_OPTION;
}
#endif

/* ---- checks ---- */

static _Atomic int support_failures;

/* Prints in one write, without stdio's locks; the first twenty failures only. */
__attribute__((format(printf, 3, 4))) SUPPORT_UNUSED static void support_fail(const char *file, int line,
                                                                              const char *format, ...)
{
    if (atomic_fetch_add(&support_failures, 1) >= 20)
        return;
    char text[512];
    int n = snprintf(text, sizeof text, "%s:%d: check failed: ", file, line);
    va_list args;
    va_start(args, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof text - 2)
        n = (int)sizeof text - 2;
    text[n++] = '\n';
    if (write(STDERR_FILENO, text, (size_t)n) < 0)
        abort();
}

#define CHECK(condition) ((condition) ? (void)0 : support_fail(__FILE__, __LINE__, "%s", #condition))

/* Integers of any kind: both values are printed. Return codes too. */
#define CHECK_EQ(actual, expected)                                                                           \
    do {                                                                                                     \
        const long long support_a = (long long)(actual), support_e = (long long)(expected);                  \
        if (support_a != support_e)                                                                          \
            support_fail(__FILE__, __LINE__, "%s is %lld, not %lld (%s)", #actual, support_a, support_e,     \
                         #expected);                                                                         \
    } while (0)

#define CHECK_STR(actual, expected)                                                                          \
    do {                                                                                                     \
        const char *support_a = (actual), *support_e = (expected);                                           \
        if (strcmp(support_a, support_e) != 0)                                                               \
            support_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #actual, support_a, support_e);     \
    } while (0)

/* Waits, without blocking anybody who shares the worker, for what others will do. Burns CPU: not in
 * loops of many rounds. */
#define WAIT_UNTIL(condition)                                                                                \
    while (!(condition))                                                                                     \
    routine_yield()

/* ---- tests ---- */

static const int support_signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS};
static struct sigaction support_actions[COUNT_OF(support_signals)];

/* cmocka handles these signals around each test by a longjmp, from whatever thread: bring back
 * what was there, and keep from test to test what the library installed. */
SUPPORT_UNUSED static void support_enter(void)
{
    for (size_t i = 0; i < COUNT_OF(support_signals); i++)
        sigaction(support_signals[i], &support_actions[i], NULL);
}

SUPPORT_UNUSED static void support_leave(void)
{
    for (size_t i = 0; i < COUNT_OF(support_signals); i++)
        sigaction(support_signals[i], NULL, &support_actions[i]);
    assert_int_equal(atomic_exchange(&support_failures, 0), 0);
}

#define TEST(name)                                                                                           \
    static void name##_body(void);                                                                           \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        (void)state;                                                                                         \
        support_enter();                                                                                     \
        name##_body();                                                                                       \
        support_leave();                                                                                     \
    }                                                                                                        \
    static void name##_body(void)

#define TEST_EVERYWHERE(name)                                                                                \
    static void name##_body(void);                                                                           \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        (void)state;                                                                                         \
        support_enter();                                                                                     \
        support_everywhere(name##_body);                                                                     \
        support_leave();                                                                                     \
    }                                                                                                        \
    static void name##_body(void)

struct support_call {
    void (*body)(void);
};

static void *support_call_body(void *arg)
{
    ((struct support_call *)arg)->body();
    return arg;
}

static void *support_call_nested(void *arg)
{
    void *result = NULL;
    routine_t h = go(support_call_body, arg);
    CHECK_EQ(routine_join(h, &result), 0);
    CHECK(result == arg);
    return NULL;
}

SUPPORT_UNUSED static void support_everywhere(void (*body)(void))
{
    enum { AT_ONCE = 3 };
    struct support_call call = {body};
    body();
    CHECK_EQ(routine_run(support_call_body, &call, NULL), 0);
    CHECK_EQ(routine_run(support_call_nested, &call, NULL), 0);

    pthread_t threads[AT_ONCE];
    routine_t routines[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, support_call_body, &call), 0);
        routines[i] = go(i % 2 ? support_call_nested : support_call_body, &call);
    }
    for (int i = 0; i < AT_ONCE; i++) {
        CHECK_EQ(routine_join(routines[i], NULL), 0);
        pthread_join(threads[i], NULL);
    }
}

/* Runs fn(arg) as a routine of the default runtime, from the main thread. */
SUPPORT_UNUSED static void support_in_routine(routine_fn *fn, void *arg)
{
    CHECK_EQ(routine_run(fn, arg, NULL), 0);
}

SUPPORT_UNUSED static pthread_t support_thread(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    const int rc = pthread_create(&thread, NULL, fn, arg);
    if (rc != 0) {
        support_fail(__FILE__, __LINE__, "pthread_create: %s", strerror(rc));
        abort();
    }
    return thread;
}

/* pthread_join that lets the worker go on where the caller is a routine: the thread may need it. */
SUPPORT_UNUSED static void support_thread_join(pthread_t thread, void **result)
{
    if (routine_runtime_current() == NULL)
        pthread_join(thread, result);
    else
        WAIT_UNTIL(pthread_tryjoin_np(thread, result) == 0);
}

/* ---- runtimes ---- */

SUPPORT_UNUSED static routine_runtime_t *support_runtime(size_t workers)
{
    routine_runtime_t *runtime = NULL;
    const routine_runtime_config_t config = {.workers = workers, .name = "test"};
    const int rc = routine_runtime_new(&runtime, &config);
    if (rc != 0) {
        support_fail(__FILE__, __LINE__, "routine_runtime_new: %s", strerror(-rc));
        abort();
    }
    return runtime;
}

SUPPORT_UNUSED static void support_runtime_end(routine_runtime_t *runtime)
{
    CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    CHECK_EQ(routine_runtime_free(runtime), 0);
}

/* A routine on the runtime given. */
SUPPORT_UNUSED static routine_t support_go_on(routine_runtime_t *runtime, routine_fn *fn, void *arg)
{
    const routine_attr_t attr = {.runtime = runtime};
    return go_with(&attr, fn, arg);
}

SUPPORT_UNUSED static bool support_same(routine_t a, routine_t b)
{
    return a.block == b.block && a.id == b.id;
}

/* ---- turns: one gives a signal, several act at about the same moment, and report ---- */

struct support_turn {
    routine_oneshot_t begin, end;
};

/* How the actors meet before they act: nobody spins for long, since there may be fewer CPUs than actors. */
SUPPORT_UNUSED static void support_meet(_Atomic int *arrived, int all)
{
    atomic_fetch_add(arrived, 1);
    for (int i = 0; i < 500 && atomic_load(arrived) < all; i++)
        ;
}

/* An actor's. */
SUPPORT_UNUSED static void support_turn_wait(struct support_turn *t)
{
    CHECK_EQ(routine_oneshot_recv(&t->begin, NULL), 0);
    routine_oneshot_init(&t->begin);
}

SUPPORT_UNUSED static void support_turn_done(struct support_turn *t)
{
    CHECK_EQ(routine_oneshot_send(&t->end, NULL), 0);
}

/* The director's. */
SUPPORT_UNUSED static void support_turn_begin(struct support_turn *t)
{
    CHECK_EQ(routine_oneshot_send(&t->begin, NULL), 0);
}

SUPPORT_UNUSED static void support_turn_await(struct support_turn *t)
{
    CHECK_EQ(routine_oneshot_recv(&t->end, NULL), 0);
    routine_oneshot_init(&t->end);
}

/* ---- small things ---- */

SUPPORT_UNUSED static uint64_t support_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Uses `size` bytes of stack, touching each page of it from the top down. */
SUPPORT_UNUSED SUPPORT_NOINLINE static unsigned support_use_stack(size_t size)
{
    volatile unsigned char *block = __builtin_alloca(size);
    unsigned sum = 0;
    for (size_t at = size; at > 0; at -= at < 512 ? at : 512)
        block[at - 1] = (unsigned char)(at >> 9);
    for (size_t at = size; at > 0; at -= at < 512 ? at : 512)
        sum += block[at - 1] == (unsigned char)(at >> 9);
    return sum; /* how many pieces were found intact */
}

/* Bytes of memory that the process has in RAM. */
SUPPORT_UNUSED static long support_resident(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2)
        support_fail(__FILE__, __LINE__, "/proc/self/statm: %s", strerror(errno));
    if (file != NULL)
        fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

/* Entries of a directory under /proc/self, such as "task" or "fd" (there the one used to look is left out).
 */
SUPPORT_UNUSED static long support_entries(const char *path)
{
    long count = 0;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        support_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
        return -1;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' && (strstr(path, "/fd") == NULL || atoi(entry->d_name) != dirfd(dir)))
            count++;
    closedir(dir);
    return count;
}

/* Threads of this process whose name begins so. */
SUPPORT_UNUSED static long support_threads_named(const char *prefix)
{
    long count = 0;
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[300], name[64] = "";
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue; /* ended meanwhile */
        if (fgets(name, sizeof name, file) != NULL && strncmp(name, prefix, strlen(prefix)) == 0)
            count++;
        fclose(file);
    }
    closedir(dir);
    return count;
}

/* The kernel lists a thread for a moment after pthread_join has returned: waits (10 s at most) until
 * there are no more than `most`. */
SUPPORT_UNUSED static bool support_threads_at_most(long most)
{
    for (int i = 0; i < 10000; i++) {
        if (support_entries("/proc/self/task") <= most)
            return true;
        usleep(1000);
    }
    return false;
}

/* The number of threads, once it stays the same for 100 ms. */
SUPPORT_UNUSED static long support_threads_settled(void)
{
    long last = -1;
    for (int same = 0; same < 20; usleep(5000)) {
        const long now = support_entries("/proc/self/task");
        same = now == last ? same + 1 : 0;
        last = now;
    }
    return last;
}

/* ---- cases: this program again, in a process of its own ---- */

struct support_case {
    const char *name;
    int (*run)(void); /* what main returns then; 99 instead if a check failed */
};

struct support_result {
    int status;       /* of waitpid */
    char text[32768]; /* stdout and stderr, as much as there is room for */
};

SUPPORT_UNUSED static int support_cases(int argc, char **argv, const struct support_case *cases, size_t count)
{
    for (size_t i = 0; i < COUNT_OF(support_signals); i++)
        sigaction(support_signals[i], NULL, &support_actions[i]);
    if (getenv("ROUTINES_TEST_ONLY") != NULL)
        cmocka_set_test_filter(getenv("ROUTINES_TEST_ONLY")); /* a pattern, for the one at work on a test */
    if (argc < 2 || strncmp(argv[1], "--case=", 7) != 0)
        return -1;
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(support_slow() ? 60 : 20); /* one that hangs dies of SIGALRM */
    for (size_t i = 0; i < count; i++)
        if (strcmp(argv[1] + 7, cases[i].name) == 0) {
            const int rc = cases[i].run();
            return atomic_load(&support_failures) != 0 ? 99 : rc;
        }
    fprintf(stderr, "no case %s\n", argv[1]);
    return 98;
}

/* The first line of a main with cases. */
#define SUPPORT_CASES(cases)                                                                                 \
    do {                                                                                                     \
        const int support_rc = support_cases(argc, argv, (cases), COUNT_OF(cases));                          \
        if (support_rc >= 0)                                                                                 \
            return support_rc;                                                                               \
    } while (0)

/* The first line of one without. */
#define SUPPORT_NO_CASES() (void)support_cases(0, NULL, NULL, 0)

extern char **environ;

/* Runs a case and waits for its end. variables: "NAME=value" or "NAME" (taken away), up to NULL; may
 * be NULL. ROUTINES_TEST_EMULATOR, if set, is the command that runs programs of this kind. */
SUPPORT_UNUSED static void support_run_case(struct support_result *result, const char *name,
                                            const char *const *variables)
{
    char self[4096], option[128], emulator[1024];
    char *arguments[18];
    size_t n = 0;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    const char *prefix = getenv("ROUTINES_TEST_EMULATOR");
    snprintf(emulator, sizeof emulator, "%s", prefix != NULL ? prefix : "");
    for (char *rest = NULL, *word = strtok_r(emulator, " ", &rest); word != NULL && n < 12;
         word = strtok_r(NULL, " ", &rest))
        arguments[n++] = word;
    snprintf(option, sizeof option, "--case=%s", name);
    arguments[n++] = self;
    arguments[n++] = option;
    arguments[n] = NULL;

    size_t size = 0, fill = 0;
    while (environ[size] != NULL)
        size++;
    for (size_t i = 0; variables != NULL && variables[i] != NULL; i++)
        size++;
    char **env = calloc(size + 1, sizeof *env);
    for (size_t i = 0; env != NULL && environ[i] != NULL; i++) {
        bool replaced = false;
        for (size_t k = 0; variables != NULL && variables[k] != NULL; k++) {
            const size_t head = strcspn(variables[k], "=");
            replaced |= strncmp(environ[i], variables[k], head) == 0 && environ[i][head] == '=';
        }
        if (!replaced)
            env[fill++] = environ[i];
    }
    for (size_t k = 0; variables != NULL && variables[k] != NULL; k++)
        if (strchr(variables[k], '=') != NULL)
            env[fill++] = (char *)(uintptr_t)variables[k];

    int ends[2] = {-1, -1};
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    int rc = pipe2(ends, O_CLOEXEC) != 0 ? errno : 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    if (rc == 0)
        rc = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, env);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    free(env);
    result->status = -1;
    result->text[0] = '\0';
    if (rc != 0) {
        support_fail(__FILE__, __LINE__, "cannot start case %s: %s", name, strerror(rc));
        close(ends[0]);
        return;
    }
    size_t have = 0;
    for (;;) {
        char surplus[512];
        const size_t room = sizeof result->text - 1 - have;
        const ssize_t got =
            read(ends[0], room > 0 ? result->text + have : surplus, room > 0 ? room : sizeof surplus);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        if (room > 0)
            have += (size_t)got;
    }
    result->text[have] = '\0';
    close(ends[0]);
    while (waitpid(pid, &result->status, 0) < 0 && errno == EINTR)
        ;
}

SUPPORT_UNUSED static void support_expect(const struct support_result *r, const char *name, const char *file,
                                          int line, bool as_expected, const char *expected)
{
    if (as_expected)
        return;
    const char *how = WIFEXITED(r->status) ? "exited with" : "died of signal";
    const int what = WIFEXITED(r->status) ? WEXITSTATUS(r->status) : WTERMSIG(r->status);
    support_fail(file, line, "case %s %s %d, expected %s; it said:", name, how, what, expected);
    fprintf(stderr, "%s\n", r->text);
}

/* Runs a case that is to exit with this status. */
#define CASE_EXITS(result, name, variables, code)                                                            \
    do {                                                                                                     \
        support_run_case((result), (name), (variables));                                                     \
        support_expect((result), (name), __FILE__, __LINE__,                                                 \
                       WIFEXITED((result)->status) && WEXITSTATUS((result)->status) == (code),               \
                       "exit with " #code);                                                                  \
    } while (0)

/* Runs a case that is to die of this signal. */
#define CASE_DIES(result, name, variables, signo)                                                            \
    do {                                                                                                     \
        support_run_case((result), (name), (variables));                                                     \
        support_expect((result), (name), __FILE__, __LINE__,                                                 \
                       WIFSIGNALED((result)->status) && WTERMSIG((result)->status) == (signo),               \
                       "death of " #signo);                                                                  \
    } while (0)

/* What the case printed contains this. */
#define CASE_SAYS(result, name, words)                                                                       \
    support_expect((result), (name), __FILE__, __LINE__, strstr((result)->text, (words)) != NULL, (words))

#define CASE_DOES_NOT_SAY(result, name, words)                                                               \
    support_expect((result), (name), __FILE__, __LINE__, strstr((result)->text, (words)) == NULL,            \
                   "no such words")

#endif
