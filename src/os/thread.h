/* SPDX-License-Identifier: MIT
 *
 * Floor 1. Creating the library's pthreads: signals, names, CPUs.
 */
#ifndef RT_OS_THREAD_H
#define RT_OS_THREAD_H

#include <pthread.h>

#include "../base/base.h"

/*
 * Creates a thread that runs fn(arg) with every asynchronous signal blocked (the
 * program's own threads are to handle them) but those that the thread itself
 * raises (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS), and SIGPROF, by which profilers sample.
 * name: shown by ps and gdb, cut at 15 characters. cpu: may run there only; negative: anywhere. Both take
 * effect by the time this returns, not necessarily when fn begins.
 * Returns 0 or a negative errno.
 */
int rt_thread_create(pthread_t *thread, const char *name, int cpu, void *(*fn)(void *), void *arg);

/* From now on the thread runs on this CPU only. */
void rt_thread_pin(pthread_t thread, int cpu);

/* The kernel's number of the calling thread. */
int32_t rt_thread_number(void);

/* How much CPU time it has had, in ns. The thread has not been joined. Half a microsecond. */
int64_t rt_thread_cpu_time(pthread_t thread);

/* Does it wait in the kernel, rather than run, or wait for a CPU, or stand still by a signal? True also where
 * there is no /proc to tell, false if there is no descriptor to open it. Some microseconds. */
bool rt_thread_is_blocked(int32_t number);

/* 0 if the process could run a thread on this CPU, -EINVAL if not. */
int rt_thread_check_cpu(int cpu);

/* Waits until a thread of this process that is about to end is gone; 0: none. If its number is another's by
 * now, waits for a tenth of a second. */
void rt_thread_await(int32_t number);

#endif
