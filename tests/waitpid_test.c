/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_waitpid: ends of all kinds, of one child and of any; stops and continuations; WNOHANG;
 * limits and cancellations, after which the child can still be waited for; many at once, and several who wait
 * for the same one; without descriptors of processes.
 *
 * ctest: workers
 * ctest: timeout 120
 */
#include "chan_support.h"

#include "routines/io.h"
#include "routines/sync.h"

/* ---- children ---- */

/* A shell that executes this. The library's threads block signals, which a child would inherit. */
static pid_t child(const char *what)
{
    char sh[] = "/bin/sh", c[] = "-c", text[128];
    char *arguments[] = {sh, c, text, NULL};
    snprintf(text, sizeof text, "%s", what);
    posix_spawnattr_t attr;
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    pid_t pid = -1;
    const int rc = posix_spawn(&pid, sh, NULL, &attr, arguments, environ);
    posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        support_fail(__FILE__, __LINE__, "posix_spawn: %s", strerror(rc));
        abort();
    }
    return pid;
}

/* One that stays until it is killed. */
static pid_t lasting(void)
{
    return child("exec sleep 1000");
}

static void end(pid_t pid)
{
    int status = 0;
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(routine_waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- one ---- */

TEST_EVERYWHERE(how_it_ended)
{
    int status = 0;
    pid_t pid = child("exit 0");
    CHECK_EQ(routine_waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pid = child("sleep 0.03; exit 77");
    CHECK_EQ(routine_waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 77);
    pid = child("kill -TERM $$");
    CHECK_EQ(routine_waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    pid = child("exit 3");
    CHECK_EQ(routine_waitpid(pid, NULL, 0), pid);
    errno = 4711;
    CHECK_EQ(routine_waitpid(pid, &status, 0), -ECHILD); /* gone */
    CHECK_EQ(routine_waitpid(pid, &status, WNOHANG), -ECHILD);
    CHECK_EQ(routine_waitpid(getpid(), &status, 0), -ECHILD); /* no child */
    CHECK_EQ(routine_waitpid(pid, &status, 1 << 20), -EINVAL);
    CHECK_EQ(errno, 4711);
}

TEST_EVERYWHERE(without_waiting)
{
    int status = 4711;
    const pid_t pid = lasting();
    CHECK_EQ(routine_waitpid(pid, &status, WNOHANG), 0);
    CHECK_EQ(status, 4711);
    CHECK_EQ(kill(pid, SIGTERM), 0);
    pid_t rc = 0;
    WAIT_UNTIL((rc = routine_waitpid(pid, &status, WNOHANG)) != 0);
    CHECK_EQ(rc, pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

TEST_EVERYWHERE(it_stops_and_goes_on)
{
    int status = 0;
    const pid_t pid = lasting();
    CHECK_EQ(kill(pid, SIGSTOP), 0);
    CHECK_EQ(routine_waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK_EQ(kill(pid, SIGCONT), 0);
    CHECK_EQ(routine_waitpid(pid, &status, WCONTINUED), pid);
    CHECK(WIFCONTINUED(status));
    end(pid);
}

/* ---- others go on meanwhile ---- */

struct waiter {
    pid_t pid;
    int options;
    int64_t limit; /* 0: none */
    int status, check_after;
    pid_t rc;
    _Atomic bool begun, over;
};

static void *wait_for_it(void *arg)
{
    struct waiter *w = arg;
    atomic_store(&w->begun, true);
    if (w->limit != 0) {
        routine_with_timeout(w->limit);
        w->rc = routine_waitpid(w->pid, &w->status, w->options);
        w->check_after = routine_check();
    } else {
        w->rc = routine_waitpid(w->pid, &w->status, w->options);
        w->check_after = routine_check();
    }
    atomic_store(&w->over, true);
    return NULL;
}

/* More waiters than workers; the children end last to first. */
TEST(many_at_once)
{
    enum { MANY = 40 };
    struct waiter w[MANY];
    routine_t h[MANY];
    for (int i = 0; i < MANY; i++) {
        w[i] = (struct waiter){.pid = lasting()};
        h[i] = go(wait_for_it, &w[i]);
    }
    for (int i = 0; i < MANY; i++)
        WAIT_UNTIL(atomic_load(&w[i].begun));
    for (int i = MANY - 1; i >= 0; i--) {
        CHECK(!atomic_load(&w[i].over));
        CHECK_EQ(kill(w[i].pid, SIGTERM), 0);
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(w[i].rc, w[i].pid);
        CHECK(WIFSIGNALED(w[i].status) && WTERMSIG(w[i].status) == SIGTERM);
    }
}

/* One of them has it, for the others there is no such child any more. */
TEST(several_wait_for_the_same)
{
    enum { MANY = 6 };
    for (int round = 0; round < 5; round++) {
        struct waiter w[MANY];
        routine_t h[MANY];
        const pid_t pid = lasting();
        int had = 0;
        for (int i = 0; i < MANY; i++) {
            w[i] = (struct waiter){.pid = pid, .options = i == 5 ? WUNTRACED : 0};
            h[i] = go(wait_for_it, &w[i]);
        }
        for (int i = 0; i < MANY; i++)
            WAIT_UNTIL(atomic_load(&w[i].begun));
        CHECK_EQ(kill(pid, SIGTERM), 0);
        for (int i = 0; i < MANY; i++) {
            CHECK_EQ(routine_join(h[i], NULL), 0);
            CHECK(w[i].rc == pid || w[i].rc == -ECHILD);
            had += w[i].rc == pid;
        }
        CHECK_EQ(had, 1);
    }
}

/* ---- any child ---- */

static bool take(pid_t *left, size_t n, pid_t pid)
{
    for (size_t i = 0; i < n; i++)
        if (left[i] == pid) {
            left[i] = 0;
            return true;
        }
    return false;
}

static void *wait_for_any(void *arg)
{
    enum { MANY = 8 };
    pid_t left[MANY];
    int status = 0;
    CHECK_EQ(routine_waitpid(-1, &status, 0), -ECHILD);
    for (int i = 0; i < MANY; i++) {
        char text[32];
        snprintf(text, sizeof text, "sleep 0.0%d; exit %d", i, i);
        left[i] = child(text);
    }
    for (int i = 0; i < MANY; i++) {
        const pid_t pid = routine_waitpid(i % 2 ? -1 : 0, &status, 0); /* 0: of the same group, as they are */
        CHECK(pid > 0 && take(left, MANY, pid));
        CHECK(WIFEXITED(status));
    }
    CHECK_EQ(routine_waitpid(-1, &status, 0), -ECHILD);
    CHECK_EQ(routine_waitpid(0, &status, WNOHANG), -ECHILD);
    return arg;
}

TEST(any_child)
{
    wait_for_any(NULL);
    support_in_routine(wait_for_any, NULL);
}

/* ---- limits and cancellations ---- */

static const struct {
    bool any;
    int options;
} kinds[] = {{false, 0}, {true, 0}, {false, WUNTRACED}};

TEST(limits)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const pid_t pid = lasting();
        for (int as_thread = 0; as_thread < 2; as_thread++) {
            struct waiter w = {.pid = kinds[i].any ? -1 : pid, .options = kinds[i].options};
            w.limit = 15 * ROUTINE_MS;
            const int64_t until = routine_now() + w.limit;
            act_end(act(as_thread, wait_for_it, &w));
            CHECK_EQ(w.rc, -ETIMEDOUT);
            CHECK_EQ(w.check_after, -ETIMEDOUT);
            CHECK(routine_now() >= until);
        }
        end(pid);
    }
}

TEST(cancellations)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (int late = 0; late < 2; late++) {
            const pid_t pid = lasting();
            struct waiter w = {.pid = kinds[i].any ? -1 : pid, .options = kinds[i].options};
            routine_t h = go(wait_for_it, &w);
            WAIT_UNTIL(atomic_load(&w.begun));
            if (late)
                CHECK_EQ(routine_sleep(10 * ROUTINE_MS), 0);
            CHECK_EQ(routine_cancel(h), 0);
            CHECK_EQ(routine_join(h, NULL), 0);
            CHECK_EQ(w.rc, -ECANCELED);
            CHECK_EQ(w.check_after, -ECANCELED);
            end(pid);
        }
}

/* A routine that is to stop can still see to its children. */
static void *clean_up(void *arg)
{
    int status = 0;
    const pid_t pid = lasting();
    CHECK_EQ(routine_cancel(routine_self()), 0);
    CHECK_EQ(routine_waitpid(pid, &status, 0), -ECANCELED);
    CHECK_EQ(routine_waitpid(pid, &status, WNOHANG), 0);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    {
        routine_shield();
        CHECK_EQ(routine_waitpid(pid, &status, 0), pid);
    }
    CHECK(WIFSIGNALED(status));
    return arg;
}

TEST(over_before_it_begins)
{
    support_in_routine(clean_up, NULL);
    const pid_t pid = lasting();
    {
        routine_with_timeout(0);
        CHECK_EQ(routine_waitpid(pid, NULL, 0), -ETIMEDOUT);
        CHECK_EQ(routine_waitpid(pid, NULL, WNOHANG), 0);
    }
    end(pid);
}

/* Waited for, or still there; no descriptor is left. */
TEST(cancelled_at_any_moment)
{
    enum { MANY = 4 };
    uint64_t random = 77;
    const long before = support_entries("/proc/self/fd");
    long had = 0, not = 0;
    for (int round = 0; round < support_scale(40); round++) {
        struct waiter w[MANY];
        routine_t h[MANY];
        for (int i = 0; i < MANY; i++) {
            w[i] = (struct waiter){.pid = child("exit 5")};
            if (support_random(&random) & 1)
                w[i].limit = (int64_t)(support_random(&random) % 2000) * ROUTINE_US + 1;
            h[i] = go(wait_for_it, &w[i]);
        }
        usleep((useconds_t)(support_random(&random) % 1500));
        for (int i = 0; i < MANY; i++)
            if (support_random(&random) & 1)
                CHECK_EQ(routine_cancel(h[i]), 0);
        for (int i = 0; i < MANY; i++) {
            const bool ran = routine_join(h[i], NULL) == 0;
            had += ran && w[i].rc > 0;
            not += !ran || w[i].rc < 0;
            /* the last: cancelled after its time was over, and before it looked */
            CHECK(!ran || w[i].rc == w[i].pid || w[i].rc == w[i].check_after ||
                  (w[i].rc == -ETIMEDOUT && w[i].check_after == -ECANCELED));
            if (!ran || w[i].rc < 0) {
                CHECK_EQ(routine_waitpid(w[i].pid, &w[i].status, 0), w[i].pid);
            }
            CHECK(WIFEXITED(w[i].status) && WEXITSTATUS(w[i].status) == 5);
        }
    }
    CHECK(had > 0 && (not > 0 || support_slow()));
    for (int i = 0; i < 10000 && support_entries("/proc/self/fd") != before; i++)
        usleep(1000); /* the library's monitor has some open for moments */
    CHECK_EQ(support_entries("/proc/self/fd"), before);
}

/* ---- no descriptors ---- */

static int case_no_descriptors(void)
{
    struct waiter w[3];
    routine_t h[3];
    struct rlimit before, none;
    for (int i = 0; i < 3; i++)
        w[i] = (struct waiter){.pid = i == 0 ? child("sleep 0.1; exit 9") : lasting()};
    w[1].limit = 30 * ROUTINE_MS;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 3; i++)
        h[i] = go(wait_for_it, &w[i]);
    CHECK_EQ(routine_join(h[0], NULL), 0);
    CHECK_EQ(w[0].rc, w[0].pid);
    CHECK_EQ(WEXITSTATUS(w[0].status), 9);
    CHECK_EQ(routine_join(h[1], NULL), 0);
    CHECK_EQ(w[1].rc, -ETIMEDOUT);
    CHECK_EQ(routine_cancel(h[2]), 0);
    CHECK_EQ(routine_join(h[2], NULL), 0);
    CHECK_EQ(w[2].rc, -ECANCELED);
    end(w[1].pid);
    end(w[2].pid);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0); /* LeakSanitizer needs some */
    return 0;
}

TEST(no_descriptor_left_to_have)
{
    static struct support_result r;
    CASE_EXITS(&r, "no_descriptors", NULL, 0);
}

/* Nobody is told of their ends: they are gone, and the wait comes back when the last one is. */
static int case_ignored(void)
{
    signal(SIGCHLD, SIG_IGN);
    struct waiter w = {.pid = child("sleep 0.05")};
    CHECK_EQ(routine_run(wait_for_it, &w, NULL), 0);
    CHECK_EQ(w.rc, -ECHILD);
    w = (struct waiter){.pid = -1};
    const pid_t pid = child("sleep 0.05");
    CHECK_EQ(routine_run(wait_for_it, &w, NULL), 0);
    CHECK_EQ(w.rc, -ECHILD);
    CHECK_EQ(kill(pid, 0), -1);
    return 0;
}

TEST(ends_that_are_ignored)
{
    static struct support_result r;
    CASE_EXITS(&r, "ignored", NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"no_descriptors", case_no_descriptors},
        {"ignored", case_ignored},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_it_ended),
        cmocka_unit_test(without_waiting),
        cmocka_unit_test(it_stops_and_goes_on),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(several_wait_for_the_same),
        cmocka_unit_test(any_child),
        cmocka_unit_test(limits),
        cmocka_unit_test(cancellations),
        cmocka_unit_test(over_before_it_begins),
        cmocka_unit_test(cancelled_at_any_moment),
        cmocka_unit_test(no_descriptor_left_to_have),
        cmocka_unit_test(ends_that_are_ignored),
    };
    return cmocka_run_group_tests_name("waitpid", tests, NULL, NULL);
}
