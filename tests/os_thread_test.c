/* SPDX-License-Identifier: MIT
 *
 * Tests of src/os/thread.c: what a created thread is like (signals, name, CPUs), what that leaves behind
 * in the creating one, and the checking of CPUs. A created thread looks at itself after the creating
 * one has gone on: its name and CPUs are set from there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/thread.h"

typedef struct {
    sem_t created;
    sigset_t blocked;
    cpu_set_t cpus;
    int cpu;
    char name[16];
} look_t;

static void *look(void *arg)
{
    look_t *seen = arg;
    pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked); /* at once: it was never otherwise */
    while (sem_wait(&seen->created) != 0)
        continue;
    pthread_getaffinity_np(pthread_self(), sizeof seen->cpus, &seen->cpus);
    seen->cpu = sched_getcpu();
    prctl(PR_GET_NAME, seen->name);
    return seen;
}

static void create(look_t *seen, const char *name, int cpu)
{
    pthread_t thread;
    void *result;
    memset(seen, 0, sizeof *seen);
    assert_int_equal(sem_init(&seen->created, 0, 0), 0);
    assert_int_equal(rt_thread_create(&thread, name, cpu, look, seen), 0);
    assert_int_equal(sem_post(&seen->created), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, seen);
    sem_destroy(&seen->created);
}

static void test_signals(void **state)
{
    (void)state;
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    const int others[] = {SIGHUP,  SIGINT,  SIGQUIT,   SIGPIPE,  SIGALRM,  SIGTERM, SIGUSR1, SIGUSR2,
                          SIGCHLD, SIGCONT, SIGTSTP,   SIGTTIN,  SIGTTOU,  SIGURG,  SIGXCPU, SIGXFSZ,
                          SIGIO,   SIGPWR,  SIGVTALRM, SIGWINCH, SIGRTMIN, SIGRTMAX};
    look_t seen;
    create(&seen, "signals", -1);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        assert_int_equal(sigismember(&seen.blocked, own[i]), 0);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(sigismember(&seen.blocked, others[i]), 1);
}

static void expect_mask(const sigset_t *mask)
{
    sigset_t now;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        assert_int_equal(sigismember(&now, sig), sigismember(mask, sig));
}

/* The creating thread's own mask is what it was, and does not change what the created one blocks. */
static void test_mask_of_creator(void **state)
{
    (void)state;
    sigset_t before, mask;
    look_t seen;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGWINCH);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, &before), 0);
    create(&seen, "mask", -1);
    expect_mask(&mask);
    assert_int_equal(sigismember(&seen.blocked, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGUSR1), 1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

static _Atomic int handled_by;

static void handle(int sig)
{
    (void)sig;
    handled_by = gettid();
}

/* A signal to the process is handled in the program's own thread. */
static void test_signal_to_process(void **state)
{
    (void)state;
    const struct sigaction action = {.sa_handler = handle};
    struct sigaction before;
    pthread_t thread;
    look_t seen = {0};
    assert_int_equal(sem_init(&seen.created, 0, 0), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(rt_thread_create(&thread, "waits", -1, look, &seen), 0);
    handled_by = 0;
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    for (int i = 0; i < 1000 && handled_by == 0; i++)
        usleep(1000);
    assert_int_equal(handled_by, gettid());
    sem_post(&seen.created);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    sem_destroy(&seen.created);
}

static void test_name(void **state)
{
    (void)state;
    look_t seen;
    create(&seen, "worker 7", -1);
    assert_string_equal(seen.name, "worker 7");
    create(&seen, "123456789012345", -1);
    assert_string_equal(seen.name, "123456789012345");
    create(&seen, "1234567890123456 and more", -1);
    assert_string_equal(seen.name, "123456789012345");
    create(&seen, "", -1);
    assert_string_equal(seen.name, "");
}

static void test_affinity(void **state)
{
    (void)state;
    cpu_set_t mine;
    look_t seen;
    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof mine, &mine), 0);
    create(&seen, "anywhere", -1);
    assert_true(CPU_EQUAL(&seen.cpus, &mine));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &mine))
            continue;
        create(&seen, "pinned", cpu);
        assert_int_equal(CPU_COUNT(&seen.cpus), 1);
        assert_true(CPU_ISSET((size_t)cpu, &seen.cpus));
        assert_int_equal(seen.cpu, cpu);
    }
    cpu_set_t after;
    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&after, &mine));
}

static void test_check_cpu(void **state)
{
    (void)state;
    cpu_set_t mine, one;
    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof mine, &mine), 0);
    assert_int_equal(rt_thread_check_cpu(-1), -EINVAL);
    assert_int_equal(rt_thread_check_cpu(INT32_MIN), -EINVAL);
    assert_int_equal(rt_thread_check_cpu(CPU_SETSIZE), -EINVAL);
    assert_int_equal(rt_thread_check_cpu(INT32_MAX), -EINVAL);
    int last = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        const bool allowed = CPU_ISSET((size_t)cpu, &mine);
        assert_int_equal(rt_thread_check_cpu(cpu), allowed ? 0 : -EINVAL);
        if (allowed)
            last = cpu;
    }
    /* there, but not for us */
    CPU_ZERO(&one);
    CPU_SET((size_t)last, &one);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof one, &one), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        assert_int_equal(rt_thread_check_cpu(cpu), cpu == last ? 0 : -EINVAL);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof mine, &mine), 0);
}

/* No memory for a stack: a negative errno, and the mask is as it was. */
static void test_no_thread(void **state)
{
    (void)state;
    const size_t huge = SIZE_MAX / 4 & ~(size_t)0xffff;
    pthread_attr_t before, attr;
    pthread_t thread;
    sigset_t mask;
    size_t size = 0;
    assert_int_equal(pthread_getattr_default_np(&before), 0);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, huge), 0);
    const int set = pthread_setattr_default_np(&attr);
    pthread_attr_destroy(&attr);
    if (set != 0 || pthread_getattr_default_np(&attr) != 0 || pthread_attr_getstacksize(&attr, &size) != 0 ||
        size != huge) {
        pthread_setattr_default_np(&before);
        skip(); /* this C library keeps within a limit */
    }
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    const int rc = rt_thread_create(&thread, "none", -1, look, NULL);
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    assert_in_range(-rc, 1, 4095);
    expect_mask(&mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals),           cmocka_unit_test(test_mask_of_creator),
        cmocka_unit_test(test_signal_to_process), cmocka_unit_test(test_name),
        cmocka_unit_test(test_affinity),          cmocka_unit_test(test_check_cpu),
        cmocka_unit_test(test_no_thread),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
