/* SPDX-License-Identifier: MIT
 *
 * Tests of src/os/pages.c. Which of the two kinds of guards is used is decided once a process, so every
 * test runs in a forked child of its own: the tests of guards once as the machine has them, and once with
 * ROUTINES_GUARD=mprotect. Whether a place faults is asked of the kernel (EFAULT), and once of a signal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/pages.h"

#define MAGIC 4242 /* errno, to be left alone */

#define CHECK(truth)                                                                                         \
    do {                                                                                                     \
        if (!(truth)) {                                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #truth);                                      \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

static size_t page;

/* Runs `body` in a child. */
static int run(void (*body)(void), const char *guard)
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (guard)
            setenv("ROUTINES_GUARD", guard, 1);
        else
            unsetenv("ROUTINES_GUARD");
        errno = MAGIC;
        rt_pages_init();
        CHECK(errno == MAGIC);
        body();
        CHECK(errno == MAGIC);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void run_both(void (*body)(void))
{
    assert_int_equal(run(body, NULL), 0);
    assert_int_equal(run(body, "mprotect"), 0);
}

/* Can the kernel read this byte for us, and can it write it? */
static bool faults(const char *at)
{
    const int saved = errno;
    int ends[2];
    CHECK(pipe(ends) == 0);
    const bool no_read = write(ends[1], at, 1) == -1 && errno == EFAULT;
    CHECK(no_read || write(ends[1], "x", 1) == 1);
    char *to = (char *)(uintptr_t)at;
    CHECK(write(ends[1], "x", 1) == 1);
    const bool no_write = read(ends[0], to, 1) == -1 && errno == EFAULT;
    CHECK(no_read == no_write);
    close(ends[0]);
    close(ends[1]);
    errno = saved;
    return no_read;
}

/* From /proc/self/smaps: the value of `key` for the mapping that contains `at`; -1: no such mapping. */
static long smaps(const void *at, const char *key, char *flags, size_t flags_size)
{
    const int saved = errno;
    char line[1024];
    long value = -1;
    bool inside = false;
    FILE *file = fopen("/proc/self/smaps", "re");
    CHECK(file);
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (uintptr_t)at >= from && (uintptr_t)at < to;
        else if (inside && strncmp(line, key, strlen(key)) == 0)
            value = atol(line + strlen(key));
        else if (inside && flags && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, flags_size, "%s", line + 8);
    }
    fclose(file);
    errno = saved;
    return value;
}

static bool mapped(const void *at)
{
    unsigned char in;
    const int saved = errno;
    const bool is = mincore((void *)(uintptr_t)at, page, &in) == 0;
    errno = saved;
    return is;
}

static void reserve(void)
{
    const size_t sizes[] = {page, 3 * page, 64 * page, (size_t)64 << 20};
    const size_t aligns[] = {page, 2 * page, (size_t)256 << 10, (size_t)4 << 20, (size_t)64 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizeof aligns / sizeof aligns[0]; j++) {
            char *block[3];
            for (size_t k = 0; k < 3; k++) {
                block[k] = rt_pages_reserve(sizes[i], aligns[j]);
                CHECK(block[k]);
                CHECK((uintptr_t)block[k] % aligns[j] == 0);
                CHECK(block[k][0] == 0 && block[k][sizes[i] - 1] == 0);
                block[k][0] = block[k][sizes[i] - 1] = (char)(k + 1);
            }
            for (size_t k = 0; k < 3; k++) {
                CHECK(block[k][0] == (char)(k + 1) && block[k][sizes[i] - 1] == (char)(k + 1));
                rt_pages_release(block[k], sizes[i]);
                CHECK(!mapped(block[k]));
                CHECK(!mapped(block[k] + sizes[i] - page));
            }
        }
    }
}

static void test_reserve(void **state)
{
    (void)state;
    assert_int_equal(run(reserve, NULL), 0);
}

/* Nothing is left of what was reserved for the sake of alignment. */
static unsigned long pages_of_process(void)
{
    const int saved = errno;
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    errno = saved;
    return pages;
}

static void trim(void)
{
    const size_t align = (size_t)16 << 20, size = 5 * page;
    pages_of_process(); /* stdio's buffers are there from now on */
    for (int i = 0; i < 50; i++) {
        const unsigned long before = pages_of_process();
        CHECK(rt_pages_reserve(size, align));
        CHECK(pages_of_process() - before <= size / page + 32); /* 32: for what the C library maps */
    }
}

static void test_trim(void **state)
{
    (void)state;
    assert_int_equal(run(trim, NULL), 0);
}

static void no_memory(void)
{
    CHECK(!rt_pages_reserve(SIZE_MAX - page + 1, page));
    CHECK(!rt_pages_reserve(SIZE_MAX - page + 1, 4 * page)); /* with what alignment takes: two pages */
    CHECK(!rt_pages_reserve(SIZE_MAX / 2 / page * page, page));
    CHECK(!rt_pages_reserve(0, page) && !rt_pages_reserve(0, 4 * page));
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_int_equal(run(no_memory, NULL), 0);
}

static void not_committed(void)
{
    const size_t size = (size_t)64 << 20;
    char flags[1024] = "";
    char *block = rt_pages_reserve(size, size);
    CHECK(block);
    const long before = smaps(block, "Rss:", flags, sizeof flags);
    if (before < 0 || flags[0] == '\0') /* an emulator's smaps */
        return;
    CHECK(before == 0);
    CHECK(strstr(flags, " nr") && strstr(flags, " rd wr"));
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0)
        CHECK(strstr(flags, " nh"));
    block[size / 2] = 1;
    CHECK(smaps(block, "Rss:", NULL, 0) == (long)(page / 1024));
    rt_pages_release(block, size);
}

static void test_not_committed(void **state)
{
    (void)state;
    assert_int_equal(run(not_committed, NULL), 0);
}

static void guard(void)
{
    const size_t size = 16 * page;
    char *block = rt_pages_reserve(size, size);
    CHECK(block);
    memset(block, 'x', size); /* a guard set over pages in use, and one over two pages */
    CHECK(!faults(block) && !faults(block + 5 * page));
    CHECK(rt_pages_guard(block, page));
    CHECK(rt_pages_guard(block + 5 * page, 2 * page));
    for (size_t i = 0; i < 16; i++) {
        const bool guarded = i == 0 || i == 5 || i == 6;
        CHECK(faults(block + i * page) == guarded);
        CHECK(faults(block + i * page + page - 1) == guarded);
        CHECK(guarded || (block[i * page + 1] == 'x' && block[(i + 1) * page - 2] == 'x'));
    }
    rt_pages_release(block, size);
    rt_pages_unguarded(2);
    CHECK(!mapped(block));
}

static void test_guard(void **state)
{
    (void)state;
    run_both(guard);
}

static void touch_guard(void)
{
    char *block = rt_pages_reserve(4 * page, page);
    signal(SIGSEGV, SIG_DFL); /* not a sanitizer's */
    signal(SIGBUS, SIG_DFL);
    CHECK(block && rt_pages_guard(block, page));
    block[page] = 1;
    *(volatile char *)(block + page - 1) = 1;
}

static void test_signal(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const int status = run(touch_guard, i == 0 ? NULL : "mprotect");
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    }
}

static void forget(void)
{
    const size_t size = 8 * page;
    char *block = rt_pages_reserve(size, page);
    CHECK(block && rt_pages_guard(block, page) && rt_pages_guard(block + 4 * page, page));
    for (int round = 0; round < 3; round++) {
        memset(block + page, 'x', 3 * page);
        memset(block + 5 * page, 'y', 3 * page);
        rt_pages_forget(block, 7 * page);
        for (size_t i = page; i < 7 * page; i++)
            CHECK(i / page == 4 || block[i] == 0);
        CHECK(block[7 * page] == 'y' && block[size - 1] == 'y');
        CHECK(faults(block) && faults(block + 4 * page) && !faults(block + page));
    }
}

static void test_forget(void **state)
{
    (void)state;
    run_both(forget);
}

static void forget_gives_back(void)
{
    char *block = rt_pages_reserve(64 * page, page);
    CHECK(block);
    memset(block, 'x', 64 * page);
    rt_pages_forget(block, 64 * page);
    const long left = smaps(block, "Rss:", NULL, 0);
    CHECK(left <= 0);
}

static void forget_locked(void)
{
    char *block = rt_pages_reserve(4 * page, page);
    CHECK(block && rt_pages_guard(block, page));
    memset(block + page, 'x', 3 * page);
    if (mlock(block + page, page) != 0) {
        errno = MAGIC;
        return;
    }
    rt_pages_forget(block, 4 * page);
    for (size_t i = page; i < 4 * page; i++)
        CHECK(block[i] == 0);
    CHECK(faults(block));
}

static void test_forget_gives_back(void **state)
{
    (void)state;
    assert_int_equal(run(forget_gives_back, NULL), 0);
    run_both(forget_locked);
}

/* A guard is either there or said not to be, also where memory is locked as soon as it is mapped. */
static void guard_locked(void)
{
    if (mlockall(MCL_FUTURE) != 0) {
        errno = MAGIC;
        return;
    }
    char *block = rt_pages_reserve(2 * page, page);
    CHECK(block);
    CHECK(rt_pages_guard(block, page) == faults(block));
    CHECK(!faults(block + page));
}

static void init_locked(void)
{
    if (mlockall(MCL_FUTURE) != 0) {
        errno = MAGIC;
        return;
    }
    rt_pages_init();
    char *block = rt_pages_reserve(2 * page, page);
    CHECK(block && rt_pages_guard(block, page));
    CHECK(faults(block) && !faults(block + page));
}

static void test_locked(void **state)
{
    (void)state;
    run_both(guard_locked);
    run_both(init_locked);
}

/* The parent's guards hold in a forked child. */
static void guard_and_fork(void)
{
    char *block = rt_pages_reserve(2 * page, page);
    CHECK(block && rt_pages_guard(block, page));
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(faults(block) && !faults(block + page) ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void test_fork(void **state)
{
    (void)state;
    run_both(guard_and_fork);
}

static void kind_default(void)
{
    char *block = rt_pages_reserve(2 * page, page);
    CHECK(block);
    /* markers are used exactly where they can be set and guard */
    const bool work = madvise(block, page, 102) == 0 && faults(block);
    errno = MAGIC;
    CHECK(rt_pages_guard_kind() == (work ? RT_PAGES_GUARD_MADVISE : RT_PAGES_GUARD_MPROTECT));
}

static void kind_mprotect(void)
{
    CHECK(rt_pages_guard_kind() == RT_PAGES_GUARD_MPROTECT);
}

static void test_kind(void **state)
{
    (void)state;
    assert_int_equal(run(kind_default, NULL), 0);
    assert_int_equal(run(kind_default, "something else"), 0);
    assert_int_equal(run(kind_mprotect, "mprotect"), 0);
}

static size_t max_guards(void)
{
    unsigned long maps = 65530;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file) {
        assert_int_equal(fscanf(file, "%lu", &maps), 1);
        fclose(file);
    }
    return maps / 4;
}

/* Guards until there are no more; puts back what it counted; again. */
static void limit(void)
{
    const size_t most = max_guards(), size = (2 * most + 2) * page;
    errno = MAGIC;
    char *block = rt_pages_reserve(size, page);
    CHECK(block);
    for (size_t i = 0; i < most; i++)
        CHECK(rt_pages_guard(block + 2 * i * page, page));
    for (int i = 0; i < 3; i++) /* a refusal is not counted */
        CHECK(!rt_pages_guard(block + 2 * most * page, page));
    CHECK(!faults(block + 2 * most * page));

    /* there are mappings left for others */
    char *other = rt_pages_reserve(page, page);
    CHECK(other);
    rt_pages_release(other, page);

    rt_pages_release(block, 6 * page);
    rt_pages_unguarded(3);
    char *more = rt_pages_reserve(8 * page, page);
    CHECK(more);
    for (size_t i = 0; i < 4; i++)
        CHECK(rt_pages_guard(more + 2 * i * page, page) == (i < 3));
    rt_pages_release(more, 8 * page);
    rt_pages_release(block + 6 * page, size - 6 * page);
    rt_pages_unguarded(most);
    char *last = rt_pages_reserve(2 * page, page);
    CHECK(last && rt_pages_guard(last, page) && faults(last));
}

static void test_limit(void **state)
{
    (void)state;
    if (max_guards() > 300000) /* would take seconds */
        skip();
    assert_int_equal(run(limit, "mprotect"), 0);
}

/* A guard that mprotect refuses is not counted. */
static void refused(void)
{
    const size_t most = max_guards();
    errno = MAGIC;
    char *hole = rt_pages_reserve(2 * page, page);
    CHECK(hole);
    rt_pages_release(hole, 2 * page);
    for (size_t i = 0; i < most + 1; i++)
        CHECK(!rt_pages_guard(hole, page));
    char *block = rt_pages_reserve(2 * page, page);
    CHECK(block && rt_pages_guard(block, page) && faults(block));
}

static void test_refused(void **state)
{
    (void)state;
    if (max_guards() > 300000)
        skip();
    assert_int_equal(run(refused, "mprotect"), 0);
}

/* Markers take no mappings: far more of them than the limit. */
static void many_markers(void)
{
    if (rt_pages_guard_kind() != RT_PAGES_GUARD_MADVISE)
        return;
    const size_t count = max_guards() + 1000 < 40000 ? max_guards() + 1000 : 40000;
    errno = MAGIC;
    char *block = rt_pages_reserve(2 * count * page, page);
    CHECK(block);
    for (size_t i = 0; i < count; i++)
        CHECK(rt_pages_guard(block + 2 * i * page, page));
    CHECK(faults(block) && faults(block + 2 * (count - 1) * page));
    rt_pages_unguarded(count);
    rt_pages_release(block, 2 * count * page);
}

static void test_many_markers(void **state)
{
    (void)state;
    assert_int_equal(run(many_markers, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve),   cmocka_unit_test(test_trim),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_not_committed),
        cmocka_unit_test(test_guard),     cmocka_unit_test(test_signal),
        cmocka_unit_test(test_forget),    cmocka_unit_test(test_forget_gives_back),
        cmocka_unit_test(test_locked),    cmocka_unit_test(test_fork),
        cmocka_unit_test(test_kind),      cmocka_unit_test(test_limit),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_many_markers),
    };
    page = rt_pages_size();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
