/* SPDX-License-Identifier: MIT
 *
 * Floor 6. Signals to channels.
 *
 * The handler, which may interrupt anything, only notes the number and wakes a thread; that thread, which
 * exists from the first notification on and sleeps on a futex, does the sending, under the lock that also
 * guards the list: so when a notification has been ended, nothing more is sent for it.
 */
#define _GNU_SOURCE
#include "../../include/routines/signal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../context/sanitize.h"
#include "../os/thread.h"
#include "chan.h"

#ifndef NSIG
#define NSIG 65
#endif

typedef struct notified {
    struct notified *next;
    chan_t *chan;
} notified;

static struct {
    rt_lock_t lock;
    /* under lock */
    notified *all[NSIG]; /* by number */
    struct sigaction before[NSIG];
    bool running; /* the thread exists */
} table;

/* The handler's. */
static _Atomic uint32_t pending[NSIG]; /* 0 or 1; not bool, whose exchange is a call on RISC-V */
static _Atomic uint32_t rung;

static void on_signal(int signo)
{
    /* release: the thread that has seen `rung` change sees this */
    atomic_store_explicit(&pending[signo], 1, memory_order_release);
    atomic_fetch_add_explicit(&rung, 1, memory_order_release);
    rt_futex_wake(&rung, 1);
}

static void deliver(int signo)
{
    rt_lock_acquire(&table.lock);
    /* acquire: pairs with on_signal. Under the lock: what came before a notification is not for it */
    const bool news = atomic_exchange_explicit(&pending[signo], 0, memory_order_acquire) != 0;
    for (const notified *n = table.all[signo]; n && news; n = n->next) {
        const int rc = chan_try_send(n->chan, &signo);
        (void)rc; /* full or closed: dropped */
    }
    rt_lock_release(&table.lock);
}

static void *run(void *arg)
{
    for (;;) {
        const uint32_t seen = atomic_load_explicit(&rung, memory_order_acquire); /* pairs with on_signal */
        for (int signo = 1; signo < NSIG; signo++)
            if (atomic_load_explicit(&pending[signo], memory_order_relaxed)) /* a look */
                deliver(signo);
        rt_futex_wait(&rung, seen, INT64_MAX);
    }
    return arg;
}

static void fork_prepare(void)
{
    rt_lock_acquire(&table.lock);
}

static void fork_parent(void)
{
    rt_lock_release(&table.lock);
}

/* The thread is gone, and so are the routines that listened. */
static void fork_child(void)
{
    for (int signo = 1; signo < NSIG; signo++) {
        if (table.all[signo])
            sigaction(signo, &table.before[signo], NULL);
        while (table.all[signo]) { /* its reference to the channel is forgotten, as all that routines had */
            notified *n = table.all[signo];
            table.all[signo] = n->next;
            free(n);
        }
        atomic_store_explicit(&pending[signo], 0, memory_order_relaxed); /* nobody else is here */
    }
    table.running = false;
    rt_lock_release(&table.lock);
}

/* Before main, as the runtimes' ones. */
__attribute__((constructor)) static void early_init(void)
{
    if (pthread_atfork(fork_prepare, fork_parent, fork_child) != 0)
        rt_warn("pthread_atfork failed for lack of memory: a child of fork() must not use signals");
}

/* Under lock. */
static int start_thread(void)
{
    if (table.running)
        return 0;
    pthread_t thread;
    const int rc = rt_thread_create(&thread, "signals", -1, run, NULL);
    if (rc != 0)
        return rc;
    pthread_detach(thread);
    table.running = true;
    return 0;
}

static bool can_be_caught(int signo)
{
    static const int never[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (signo == never[i])
            return false;
    return signo >= 1 && signo < NSIG;
}

/* Under lock: where the channel stands in the list of this signal, or its end. */
static notified **find(int signo, const chan_t *ch)
{
    notified **link = &table.all[signo];
    while (*link && (*link)->chan != ch)
        link = &(*link)->next;
    return link;
}

/* Under lock. */
static int add(int signo, chan_t *ch)
{
    notified **link = find(signo, ch);
    if (*link)
        return -EALREADY;
    int rc = start_thread();
    if (rc != 0)
        return rc;
    notified *n = malloc(sizeof *n);
    if (!n)
        return -ENOMEM;
    *n = (notified){.chan = ch};
    *link = n;
    if (table.all[signo] == n) {
        struct sigaction action = {.sa_handler = on_signal,
                                   .sa_flags = rt_sanitize_restart(SA_RESTART) | SA_ONSTACK};
        sigfillset(&action.sa_mask);
        /* what came for somebody before. relaxed: there is no handler of ours at this moment */
        atomic_store_explicit(&pending[signo], 0, memory_order_relaxed);
        if (sigaction(signo, &action, &table.before[signo]) != 0) { /* those that the C library keeps */
            *link = NULL;
            free(n);
            return -EINVAL;
        }
    }
    chan_ref(ch);
    return 0;
}

int routine_signal_notify(int signo, chan_t *ch)
{
    if (!can_be_caught(signo) || !ch || ch->size != sizeof(int) || ch->kind == RT_CHAN_SUBSCRIPTION)
        return -EINVAL;
    rt_lock_acquire(&table.lock);
    const int rc = add(signo, ch);
    rt_lock_release(&table.lock);
    return rc;
}

int routine_signal_stop(int signo, chan_t *ch)
{
    if (!can_be_caught(signo) || !ch)
        return -EINVAL;
    rt_lock_acquire(&table.lock);
    notified **link = find(signo, ch);
    notified *n = *link;
    if (n) {
        *link = n->next;
        if (!table.all[signo])
            sigaction(signo, &table.before[signo], NULL);
    }
    rt_lock_release(&table.lock);
    if (!n)
        return -ENOENT;
    chan_unref(n->chan);
    free(n);
    return 0;
}
