/* SPDX-License-Identifier: MIT
 *
 * Floor 5. The life of a runtime: its threads, its end, the default one, and fork.
 *
 * A shutdown waits in `draining` (search.c: check_drained) until nothing is alive,
 * closes the shared queue under its lock, so that no plain thread can start anything more, and
 * then lets the threads end: they are all looking for work, on their own stacks.
 */
#define _GNU_SOURCE
#include "../../include/routines/runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/routines/oneshot.h"
#include "../base/panic.h"
#include "../context/control.h"
#include "../context/sanitize.h"
#include "../observe/overflow.h"
#include "../os/clock.h"
#include "../os/cpus.h"
#include "../os/pages.h"
#include "../os/thread.h"
#include "routine.h"

#define STACK_DEFAULT ((size_t)128 << 10)
#define SPARE_MOST    256 /* threads besides one for each worker */
#define FIRST_BREATH  16  /* in-place runs of a worker before it knows how long they take (scheduler.c) */

/* rt_runtime.state */
enum { RUNNING, DRAINING, STOPPED };

/* rt_runtime.gate */
enum { GATE_SHUT, GATE_OPEN };

static struct {
    rt_lock_t starting; /* held while a default runtime is started; before lock */
    rt_lock_t lock;
    rt_runtime *all; /* under lock */
} registry;

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

/* ---- fork (R13) ---- */

static void fork_prepare(void)
{
    rt_lock_acquire(&registry.starting);
    rt_lock_acquire(&registry.lock);
    rt_local_fork_lock();
    rt_block_fork_lock();
    rt_seat_fork_lock();
}

static void fork_parent(void)
{
    rt_seat_fork_unlock();
    rt_block_fork_unlock();
    rt_local_fork_unlock();
    rt_lock_release(&registry.lock);
    rt_lock_release(&registry.starting);
}

/* Only the forking thread is here. Its memory of the runtimes is of no use: their threads are gone, their
 * locks in any state. They are forgotten, not freed. */
static void fork_child(void)
{
    fork_parent();
    rt_seat_fork_child();
    rt_scope_fork_child();
    rt_pool_fork_child();
    rt_membarrier_init();
    for (rt_runtime *rt = registry.all; rt; rt = rt->next)
        rt_poller_fork_child(&rt->poller);
    registry.all = NULL;
    rt_runtime_choose(rt_runtime_chosen(), NULL);
    rt_thread *t = rt_self();
    if (t->runtime) {
        pthread_sigmask(SIG_SETMASK, &t->runtime->signals, NULL); /* it is a plain thread now */
        t->worker = NULL;
        t->runtime = NULL;
        atomic_store_explicit(&t->asked, RT_ASKED_NOT, memory_order_relaxed); /* nobody else is here */
        t->seat = &rt_no_seat;
        t->forked = true;
        rt_block *stand_in = rt_block_get();
        if (!stand_in)
            rt_panic("no memory to let a forked child go on");
        stand_in->attr = (rt_attr){.flags = RT_FLAG_THREAD};
        stand_in->where = t->current ? t->current->where : "?";
        stand_in->parent = NULL;
        atomic_store_explicit(&stand_in->runtime, NULL, memory_order_relaxed); /* as in rt_thread_here */
        atomic_store_explicit(&stand_in->word, RT_WORD(rt_block_id(), RT_STARTED),
                              memory_order_relaxed); /* as above */
        if (t->current) { /* its frames stand on this stack, and are still to be ended */
            stand_in->attr.flags |=
                t->current->attr.flags & (RT_FLAG_FRAMES | RT_FLAG_LIMIT | RT_FLAG_SHIELD);
            stand_in->done.value = t->current->done.value;
        }
        t->current = stand_in;
    }
}

static void library_init(void)
{
    rt_pages_init();
    rt_overflow_install();
}

/* Before main: a plain thread may wait before there is a runtime, and needs to know which barriers there are;
 * and a fork may come at any time, whose handlers must be there before the first lock is taken. */
__attribute__((constructor)) static void early_init(void)
{
    rt_membarrier_init();
    if (pthread_atfork(fork_prepare, fork_parent, fork_child) != 0)
        rt_warn("pthread_atfork failed for lack of memory: a child of fork() must not use the library");
}

/* ---- threads ---- */

/* Where the calling thread's own stack lies. */
static RT_NOINLINE void find_own_stack(rt_stack *own)
{
    pthread_attr_t attr;
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        void *low = NULL;
        size_t size = 0;
        pthread_attr_getstack(&attr, &low, &size);
        own->low = low;
        own->high = (char *)low + size;
        pthread_attr_destroy(&attr);
    }
    own->fiber = rt_sanitize_thread_fiber();
}

static void *thread_main(void *arg)
{
    rt_thread *t = arg;
    _Atomic uint32_t *gate = &t->runtime->gate;
    while (atomic_load_explicit(gate, memory_order_acquire) == GATE_SHUT) /* pairs with routine_runtime_new */
        rt_futex_wait(gate, GATE_SHUT, INT64_MAX);

    find_own_stack(&t->own);
    atomic_store_explicit(&t->tid, rt_thread_number(), memory_order_relaxed); /* a figure */
    rt_self_set(t);
    void *signals = rt_overflow_attach();
    rt_thread_run(t);
    rt_overflow_detach(signals);
    rt_self_set(&rt_nobody);
    return NULL;
}

/* Starts up to worker_count threads. Returns how many, and the error of the first that could not be. */
static size_t start_threads(rt_runtime *rt, const routine_runtime_config_t *config, int *error)
{
    size_t started = 0;
    *error = 0;
    while (started < rt->worker_count) {
        rt_worker *w = &rt->workers[started];
        w->cpu = config->cpu_count ? config->cpus[started % config->cpu_count] : -1;
        *error = rt_threads_add(rt, w);
        if (*error != 0)
            break;
        started++;
    }
    return started;
}

/* ---- making one ---- */

uint32_t rt_runtime_stack_pages(size_t wish)
{
    const size_t least = rt_stack_minimum();
    return (uint32_t)(rt_round_up(wish < least ? least : wish, RT_STACK_UNIT) / RT_STACK_UNIT);
}

static void worker_end(rt_worker *w)
{
    rt_deque_destroy(&w->deque);
    rt_seat_put(w->seat);
}

static void dispose(rt_runtime *rt)
{
    rt_poller_free(&rt->poller);
    free(rt->workers);
    free(rt);
}

static void workers_end(rt_runtime *rt)
{
    for (size_t i = 0; rt->workers && i < rt->worker_count; i++)
        worker_end(&rt->workers[i]);
}

void rt_runtime_each(void (*visit)(rt_runtime *, void *), void *arg)
{
    rt_lock_acquire(&registry.lock);
    for (rt_runtime *rt = registry.all; rt; rt = rt->next)
        visit(rt, arg);
    rt_lock_release(&registry.lock);
}

void rt_runtime_ref(rt_runtime *rt)
{
    atomic_fetch_add_explicit(&rt->refs, 1, memory_order_relaxed); /* the caller knows it to be there */
}

void rt_runtime_unref(rt_runtime *rt)
{
    /* acquire: the last one sees what the others did; release: and they did it before */
    if (atomic_fetch_sub_explicit(&rt->refs, 1, memory_order_acq_rel) == 1)
        dispose(rt);
}

/* Zeroed memory on cache lines of its own. */
static void *lines(size_t size)
{
    void *memory = aligned_alloc(RT_CACHE_LINE, rt_round_up(size, RT_CACHE_LINE));
    if (memory)
        memset(memory, 0, size);
    return memory;
}

static rt_runtime *allocate(size_t workers, size_t stack_promised, const char *name)
{
    rt_runtime *rt = lines(sizeof *rt);
    if (!rt)
        return NULL;
    rt->workers = lines(workers * sizeof *rt->workers);
    atomic_store_explicit(&rt->refs, 1, memory_order_relaxed); /* nobody else knows it */
    if (!rt->workers) {
        dispose(rt);
        return NULL;
    }
    for (; rt->worker_count < workers; rt->worker_count++) {
        rt_worker *w = &rt->workers[rt->worker_count];
        w->seat = rt_seat_get();
        if (!w->seat || !rt_deque_init(&w->deque)) {
            if (w->seat)
                rt_seat_put(w->seat);
            workers_end(rt);
            dispose(rt);
            return NULL;
        }
        rt_timers_init(&w->timers);
        w->until_look = 1;
        w->breathe_at = FIRST_BREATH;
        w->runtime = rt;
        w->index = rt->worker_count;
        w->random = UINT64_C(0x9e3779b97f4a7c15) * (rt->worker_count + 1);
        w->attr = (rt_attr){.stack_pages = (uint32_t)(stack_promised / RT_STACK_UNIT)}.all;
    }
    rt->stack_promised = stack_promised;
    rt->entry = rt_run_stack;
    rt->fail = rt_run_fail;
    rt->threads.main = thread_main;
    rt->threads.spare_most = SPARE_MOST;
    rt->control = rt_control_now(); /* its threads inherit them too */
    pthread_sigmask(SIG_SETMASK, NULL, &rt->signals);
    rt_idle_init(&rt->idle);
    rt_poller_init(&rt->poller);
    snprintf(rt->name, sizeof rt->name, "%s", name);
    rt_stack_pool_init(&rt->stacks, stack_promised);
    return rt;
}

int routine_runtime_new(routine_runtime_t **runtime, const routine_runtime_config_t *config)
{
    static const routine_runtime_config_t defaults;
    if (!runtime)
        return -EINVAL;
    if (!config)
        config = &defaults;
    if (config->workers > ROUTINE_WORKERS_MAX || config->stack_size > ROUTINE_STACK_MAX ||
        (config->cpu_count != 0) != (config->cpus != NULL))
        return -EINVAL;
    for (size_t i = 0; i < config->cpu_count; i++)
        if (rt_thread_check_cpu(config->cpus[i]) != 0)
            return -EINVAL;
    pthread_once(&library_once, library_init);

    size_t workers = config->workers ? config->workers : rt_config_workers();
    if (workers == 0)
        workers = rt_cpus_available();
    if (workers > ROUTINE_WORKERS_MAX)
        workers = ROUTINE_WORKERS_MAX;
    size_t stack = config->stack_size ? config->stack_size : rt_config_stack_size();
    stack = (size_t)rt_runtime_stack_pages(stack ? stack : STACK_DEFAULT) * RT_STACK_UNIT;

    rt_runtime *rt = allocate(workers, stack, config->name ? config->name : "routines");
    if (!rt)
        return -ENOMEM;
    if (config->spare_threads)
        rt->threads.spare_most = config->spare_threads;
    int error;
    const size_t started = start_threads(rt, config, &error);
    for (size_t i = started; i < rt->worker_count; i++)
        worker_end(&rt->workers[i]);
    rt->worker_count = started;
    if (started == 0) {
        workers_end(rt);
        dispose(rt);
        return error;
    }
    rt_pool_init(&rt->pool, rt, config->blocking_threads);
    rt_monitor_start(rt);
    rt_lock_acquire(&registry.lock);
    rt->next = registry.all;
    registry.all = rt;
    rt_lock_release(&registry.lock);
    atomic_store_explicit(&rt->gate, GATE_OPEN, memory_order_release); /* pairs with thread_main */
    rt_futex_wake(&rt->gate, INT32_MAX);
    *runtime = rt;
    return 0;
}

rt_runtime *rt_runtime_default(int *error)
{
    rt_runtime *rt = rt_runtime_chosen();
    if (RT_LIKELY(rt != NULL))
        return rt;
    rt_lock_acquire(&registry.starting);
    rt = rt_runtime_chosen();
    if (!rt) {
        *error = routine_runtime_new(&rt, NULL);
        if (*error == 0)
            rt_runtime_choose(NULL, rt);
        else
            rt = NULL;
    }
    rt_lock_release(&registry.starting);
    return rt;
}

routine_runtime_t *routine_runtime_default(void)
{
    int error;
    return rt_runtime_default(&error);
}

routine_runtime_t *routine_runtime_current(void)
{
    return rt_runtime_of(rt_self());
}

size_t routine_runtime_workers(const routine_runtime_t *runtime)
{
    return runtime ? runtime->worker_count : 0;
}

/* ---- ending one ---- */

/* All of a runtime's routines are cancelled in two rounds, so that one heavy barrier does for all (wait.h,
 * K2). */

static void mark_if_of(rt_block *r, void *runtime)
{
    const uint64_t word =
        atomic_load_explicit(&r->word, memory_order_acquire); /* pairs with go's publication */
    uint64_t before;
    if (RT_WORD_ID(word) != 0 && rt_block_runtime(r) == runtime)
        (void)rt_cancel_mark(r, RT_WORD_ID(word), RT_CANCEL | RT_SHUT_DOWN, &before);
}

static void wake_if_of(rt_block *r, void *runtime)
{
    const uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire); /* as above */
    /* only those marked above: for another's cancellation this barrier may have come too early */
    if (word & RT_SHUT_DOWN && rt_block_runtime(r) == runtime && rt_wait_cancel(r, RT_WORD_ID(word)))
        rt_ready_block(r);
}

/* Waits until nothing is alive, and nothing runs that was abandoned, and closes the shared queue. False: the
 * deadline passed. */
static bool drain(rt_runtime *rt, int64_t deadline)
{
    for (;;) {
        /* check_drained's other side: say so, barrier, look */
        atomic_store_explicit(&rt->draining, 1, memory_order_relaxed);
        rt_membarrier_heavy();
        rt_lock_acquire(&rt->lock);
        /* under the lock nobody outside can start one; who has abandoned a job was alive until then */
        rt->closed = rt_runtime_live(rt) == 0 && rt_pool_is_quiet(&rt->pool);
        const bool done = rt->closed;
        rt_lock_release(&rt->lock);
        if (done)
            return true;
        int rc = 0;
        while (rc == 0 &&
               atomic_load_explicit(&rt->draining, memory_order_acquire) == 1) /* pairs with check_drained */
            rc = rt_futex_wait(&rt->draining, 1, deadline);
        if (rc == -ETIMEDOUT && atomic_load_explicit(&rt->draining, memory_order_acquire) == 1)
            return false;
    }
}

static void stop_threads(rt_runtime *rt)
{
    atomic_store_explicit(&rt->stopping, true, memory_order_release); /* pairs with stopping() in search.c */
    rt_membarrier_light();                                            /* as for a push: idle.h, I1 */
    rt_idle_wake_all(&rt->idle);
    rt_monitor_stop(rt);
    rt_threads_stop(rt);
    rt_pool_stop(&rt->pool);
    rt_lock_acquire(&registry.lock); /* a close elsewhere may be looking at it (rt_runtime_each) */
    rt_poller_end(&rt->poller);
    rt_lock_release(&registry.lock);
    rt_runtime_clear(rt);
    rt_stack_pool_destroy(&rt->stacks);
}

/* The whole of a shutdown; blocks the thread. The runtime's state is DRAINING. */
static int shut_down(rt_runtime *rt, int how, int64_t deadline)
{
    if (how == ROUTINE_SHUTDOWN_CANCEL) {
        /* relaxed: a routine that starts meanwhile is cancelled by this or by the other */
        atomic_store_explicit(&rt->cancelling, true, memory_order_relaxed);
        rt_idle_look(&rt->idle, true); /* so that go notices (go.c) */
        rt_membarrier_heavy();
        rt_block_each(mark_if_of, rt);
        rt_membarrier_heavy();
        rt_block_each(wake_if_of, rt);
    }
    /* From here on a plain thread's go() starts another default runtime, and does not meet the end of this
     * one. */
    const bool was_default = rt_runtime_choose(rt, NULL);
    rt_runtime_hold(rt, true); /* a ticker would go on for ever */
    const bool drained = drain(rt, deadline);
    atomic_store_explicit(&rt->draining, 0, memory_order_relaxed); /* nobody waits any more */
    if (how == ROUTINE_SHUTDOWN_CANCEL) {
        atomic_store_explicit(&rt->cancelling, false, memory_order_relaxed); /* as above */
        rt_idle_look(&rt->idle, false);
    }
    if (!drained) {
        rt_runtime_hold(rt, false);
        if (was_default)
            rt_runtime_choose(NULL, rt);                                  /* unless there is one by now */
        atomic_store_explicit(&rt->state, RUNNING, memory_order_release); /* pairs with the next shutdown */
        return -ETIMEDOUT;
    }
    stop_threads(rt);
    atomic_store_explicit(&rt->state, STOPPED, memory_order_release); /* pairs with free */
    return 0;
}

/* A shutdown on behalf of a routine, which waits on a oneshot meanwhile: its worker is free for others. */
typedef struct {
    rt_runtime *runtime;
    int how;
    int64_t deadline;
    int rc;
    routine_oneshot_t done;
} errand;

static void *run_errand(void *arg)
{
    errand *e = arg;
    e->rc = shut_down(e->runtime, e->how, e->deadline);
    routine_oneshot_send(&e->done, NULL);
    return NULL;
}

int routine_runtime_shutdown(routine_runtime_t *runtime, int how, int64_t timeout)
{
    if (!runtime || (how != ROUTINE_SHUTDOWN_WAIT && how != ROUTINE_SHUTDOWN_CANCEL))
        return -EINVAL;
    const rt_runtime *mine = routine_runtime_current();
    if (mine == runtime)
        return -EDEADLK;
    uint32_t state = RUNNING;
    if (!atomic_compare_exchange_strong_explicit(&runtime->state, &state, DRAINING, memory_order_acquire,
                                                 memory_order_relaxed))
        return state == DRAINING ? -EBUSY : -EALREADY;
    const int64_t deadline = rt_clock_after(timeout);
    errand e = {.runtime = runtime, .how = how, .deadline = deadline};
    pthread_t thread;
    if (!mine || rt_thread_create(&thread, "shutdown", -1, run_errand, &e) != 0)
        return shut_down(runtime, how, deadline);
    (void)rt_enter();
    rt_oneshot_wait((rt_oneshot *)(void *)&e.done, INT64_MAX); /* it has a limit of its own */
    rt_leave();
    pthread_join(thread, NULL); /* it has nothing left to do */
    return e.rc;
}

int routine_runtime_free(routine_runtime_t *runtime)
{
    if (!runtime)
        return -EINVAL;
    if (atomic_load_explicit(&runtime->state, memory_order_acquire) != STOPPED)
        return -EBUSY;
    rt_lock_acquire(&registry.lock);
    rt_runtime **link = &registry.all;
    while (*link && *link != runtime)
        link = &(*link)->next;
    if (*link)
        *link = runtime->next;
    rt_lock_release(&registry.lock);
    workers_end(runtime);
    rt_runtime_unref(runtime);
    return 0;
}
