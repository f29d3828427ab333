/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See thread.h.
 */
#define _GNU_SOURCE
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

int rt_thread_check_cpu(int cpu)
{
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return -EINVAL;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 0; /* more CPUs than the set has room for: let pthread_create judge */
    return CPU_ISSET((size_t)cpu, &allowed) ? 0 : -EINVAL;
}

int rt_thread_create(pthread_t *thread, const char *name, int cpu, void *(*fn)(void *), void *arg)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&blocked, own[i]);

    pthread_sigmask(SIG_BLOCK, &blocked, &before); /* inherited by the new thread: no window */
    int rc = pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return -rc;

    char cut[16];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(*thread, cut);
    if (cpu >= 0)
        rt_thread_pin(*thread, cpu);
    return 0;
}

void rt_thread_pin(pthread_t thread, int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((unsigned)cpu, &one);
    pthread_setaffinity_np(thread, sizeof one, &one);
}

int32_t rt_thread_number(void)
{
    return (int32_t)syscall(SYS_gettid);
}

int64_t rt_thread_cpu_time(pthread_t thread)
{
    clockid_t clock;
    struct timespec time;
    if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return 0;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

bool rt_thread_is_blocked(int32_t number)
{
    char name[48], text[256];
    snprintf(name, sizeof name, "/proc/self/task/%d/stat", (int)number);
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno != EMFILE && errno != ENFILE;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return true;
    text[n] = 0;
    const char *state = strrchr(text, ')'); /* "number (name) S ..." */
    return !state || !state[1] || state[2] == 'S' || state[2] == 'D' || state[2] == 'I';
}

void rt_thread_await(int32_t number)
{
    const int64_t nap = INT64_C(50000);
    const int saved = errno;
    for (int i = 0; i < 2000 && number != 0 && syscall(SYS_tgkill, getpid(), number, 0) == 0; i++)
        rt_clock_nap(nap);
    errno = saved;
}
