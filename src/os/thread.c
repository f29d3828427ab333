/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See thread.h.
 */
#define _GNU_SOURCE
#include "thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

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
    if (cpu >= 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((unsigned)cpu, &one);
        pthread_setaffinity_np(*thread, sizeof one, &one);
    }
    return 0;
}
