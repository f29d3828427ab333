/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See pool.h.
 */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../os/clock.h"
#include "../os/thread.h"
#include "scheduler.h"

#define MS     INT64_C(1000000)
#define STUCK  (20 * MS) /* P5 */
#define GROWTH 8

static const uint32_t limits[RT_POOL_CLASSES] = {
    [RT_POOL_USER] = 64, [RT_POOL_FILES] = 16, [RT_POOL_NAMES] = 8};

_Atomic int64_t rt_pool_patience = 5000 * MS;

/* How often this process is the child of a fork, as far as the library knows. */
static _Atomic uint32_t forks;

/* ---- under the lock of the class ---- */

/* relaxed, all four: written under the lock only; see rt_pool_class */

static uint32_t thread_count(const rt_pool_class *c)
{
    return atomic_load_explicit(&c->threads, memory_order_relaxed);
}

static void count_threads(rt_pool_class *c, uint32_t change)
{
    atomic_store_explicit(&c->threads, thread_count(c) + change, memory_order_relaxed);
}

static void count_queued(rt_pool_class *c, uint32_t change)
{
    atomic_store_explicit(&c->queued, atomic_load_explicit(&c->queued, memory_order_relaxed) + change,
                          memory_order_relaxed);
}

/* A job has begun or ended. The clock is only read if that interests anybody. */
static void moved(rt_pool_class *c)
{
    if (c->head)
        c->moved_at = rt_clock_now();
}

static void append(rt_pool_class *c, rt_job *job)
{
    job->state = RT_JOB_QUEUED;
    job->next = NULL;
    job->prev = c->tail;
    if (c->head) {
        c->tail->next = job;
        c->tail = job;
    } else {
        c->head = c->tail = job;
        moved(c);
    }
    count_queued(c, 1);
}

static void take_out(rt_pool_class *c, rt_job *job)
{
    if (job->next)
        job->next->prev = job->prev;
    else
        c->tail = job->prev;
    if (job->prev)
        job->prev->next = job->next;
    else
        c->head = job->next;
    count_queued(c, UINT32_MAX);
}

/* The job is in its last state. Whom to make ready when the lock has been left, or null; unless it has an
 * owner that has not been woken by this, it may be gone from then on. */
static rt_block *finish(rt_job *job, uint8_t state)
{
    job->state = state;
    if (!job->waiting || !rt_wait_win(job->waiter.who))
        return NULL;
    job->waiter.result = 0;
    return job->waiter.who;
}

/* P4: a list by waiter.next of those to be made ready, for rt_ready_all. */
static rt_waiter *return_all(rt_pool_class *c)
{
    rt_waiter *first = NULL, **end = &first;
    for (rt_job *job; (job = c->head) != NULL;) {
        take_out(c, job);
        if (finish(job, RT_JOB_RETURNED)) {
            job->waiter.next = NULL;
            *end = &job->waiter;
            end = &job->waiter.next;
        }
    }
    return first;
}

/* ---- threads ---- */

/* A job is abandoned no more. The other side is drain() in runtime.c: it says that it waits, heavy barrier,
 * and looks. */
static void count_abandoned(rt_runtime *rt)
{
    uint32_t waiting = 1;
    /* release: what the job did is done */
    atomic_fetch_sub_explicit(&rt->pool.abandoned, 1, memory_order_release);
    rt_membarrier_light();
    if (atomic_load_explicit(&rt->draining, memory_order_relaxed) == 1 &&
        atomic_compare_exchange_strong_explicit(&rt->draining, &waiting, 2, memory_order_release,
                                                memory_order_relaxed)) /* pairs with drain() */
        rt_futex_wake(&rt->draining, 1);
}

/* What a thread still has to do about its last job, when it has left the lock: by then it is idle, or has
 * begun the next, so that whoever is woken finds it so. */
typedef struct {
    rt_block *wake;
    rt_job *left;
} aftermath;

static void leave(rt_pool_class *c, aftermath *a)
{
    rt_lock_release(&c->lock);
    if (a->wake)
        rt_ready_block(a->wake);
    if (a->left) {
        a->left->abandoned(a->left->arg);
        count_abandoned(c->runtime);
    }
    *a = (aftermath){0};
}

/* Runs the oldest job; under the lock, which is left meanwhile. */
static void run_one(rt_pool_class *c, aftermath *a)
{
    rt_job *job = c->head;
    take_out(c, job);
    job->state = RT_JOB_RUNNING;
    c->jobs++;
    moved(c);
    leave(c, a);

    /* relaxed, both: only this thread can be the one that has forked in between */
    const uint32_t forked = atomic_load_explicit(&forks, memory_order_relaxed);
    const int result = job->fn(job->arg);
    if (atomic_load_explicit(&forks, memory_order_relaxed) != forked)
        rt_panic("a child of fork() came back from a function that its parent gave to routine_blocking(): "
                 "end it there, by _exit() or exec");

    rt_lock_acquire(&c->lock);
    moved(c);
    job->result = result;
    if (job->left)
        a->left = job;
    else
        a->wake = finish(job, RT_JOB_DONE);
}

/* Under the lock: an idle thread is to look at what there is. The caller wakes it, when it has left. */
static rt_pool_thread *call(rt_pool_class *c)
{
    rt_pool_thread *t = c->idle;
    if (t) {
        c->idle = t->next;
        c->coming++;
        /* relaxed: it takes the lock before it looks at what this is about */
        atomic_store_explicit(&t->called, 1, memory_order_relaxed);
    }
    return t;
}

/* It may be gone by now: then somebody else is woken by mistake, who looks again. */
static void wake(rt_pool_thread *t)
{
    if (t)
        rt_futex_wake(&t->called, 1);
}

/* Under the lock, which is left meanwhile: waits until it is called. False: for too long. */
static bool rest(rt_pool_class *c, rt_pool_thread *me, aftermath *a)
{
    /* relaxed: published by the lock */
    atomic_store_explicit(&me->called, 0, memory_order_relaxed);
    me->next = c->idle;
    c->idle = me;
    leave(c, a);
    const int64_t until = rt_clock_after(atomic_load_explicit(&rt_pool_patience, memory_order_relaxed));
    int rc = 0;
    while (rc == 0 && atomic_load_explicit(&me->called, memory_order_relaxed) == 0) /* the lock follows */
        rc = rt_futex_wait(&me->called, 0, until);
    rt_lock_acquire(&c->lock);
    if (atomic_load_explicit(&me->called, memory_order_relaxed) != 0) {
        c->coming--;
        return true;
    }
    rt_pool_thread **link = &c->idle;
    while (*link != me)
        link = &(*link)->next;
    *link = me->next;
    return false;
}

static void await_maker(const rt_pool_thread *t)
{
    /* acquire: pairs with start_thread */
    while (atomic_load_explicit(&t->made, memory_order_acquire) == 0)
        rt_futex_wait((_Atomic uint32_t *)(uintptr_t)&t->made, 0, INT64_MAX);
}

/* P6. Under the lock, which is left meanwhile: joins those that have ended. */
static void bury(rt_pool_class *c, aftermath *a)
{
    rt_pool_thread *gone = c->gone;
    c->gone = NULL;
    leave(c, a);
    for (rt_pool_thread *next; gone; gone = next) {
        next = gone->next;
        await_maker(gone);
        pthread_join(gone->id, NULL);
        free(gone);
    }
    rt_lock_acquire(&c->lock);
}

/* P6. Under the lock, which is left. */
static void end(rt_pool_class *c, rt_pool_thread *me, aftermath *a)
{
    count_threads(c, UINT32_MAX);
    const bool last = thread_count(c) == 0, joined = !last || c->stopping;
    rt_pool_thread *called = NULL;
    if (joined) {
        me->next = c->gone;
        c->gone = me;
        called = call(c);
    } else {
        c->last = rt_thread_number();
    }
    leave(c, a);
    /* the class is still there: who stops the pool waits for this thread */
    wake(called);
    if (last && joined)
        rt_futex_wake(&c->threads, 1);
    if (!joined) {
        await_maker(me);
        pthread_detach(me->id);
        free(me);
    }
}

static void *thread_main(void *arg)
{
    rt_pool_thread *me = arg;
    rt_pool_class *c = me->of;
    aftermath a = {0};
    bool patient = true;
    rt_lock_acquire(&c->lock);
    c->starting--;
    for (;;) {
        if (c->head) {
            run_one(c, &a);
            patient = true;
        } else if (c->gone && !c->stopping) {
            bury(c, &a);
        } else if (!patient || c->stopping || thread_count(c) > c->limit) {
            break;
        } else {
            patient = rest(c, me, &a);
        }
    }
    end(c, me, &a);
    return NULL;
}

/* Somebody may be in the queue for whom no thread was called: from now on rt_pool_look is to be. */
static void tell_monitor(rt_runtime *rt)
{
    rt_membarrier_light(); /* H8: the monitor says that it sleeps, heavy barrier, and looks for a queue */
    if (atomic_load_explicit(&rt->monitor.asleep, memory_order_relaxed))
        rt_monitor_wake(rt);
}

/* One that is counted already, as starting. Without the lock: it takes a while. */
static void start_thread(rt_pool_class *c)
{
    char name[24];
    snprintf(name, sizeof name, "%s-p", c->runtime->name);
    rt_pool_thread *t = calloc(1, sizeof *t);
    if (t) {
        t->of = c;
        if (rt_thread_create(&t->id, name, -1, thread_main, t) == 0) {
            /* It may have ended by now, but nobody has joined it before this. release: its id is there. From
             * then on it may be gone, and somebody else be woken, who looks again */
            atomic_store_explicit(&t->made, 1, memory_order_release);
            rt_futex_wake(&t->made, 1);
            return;
        }
        free(t);
    }
    rt_lock_acquire(&c->lock);
    c->starting--;
    count_threads(c, UINT32_MAX);
    rt_waiter *returned = thread_count(c) == c->starting ? return_all(c) : NULL; /* P4 */
    const bool last = c->stopping && thread_count(c) == 0;
    rt_lock_release(&c->lock);
    tell_monitor(c->runtime);
    rt_enter();
    rt_ready_all(returned);
    rt_leave();
    if (last)
        rt_futex_wake(&c->threads, 1);
}

/* P5: under the lock. True: the caller is to start a thread; not while one is on its way, which
 * may take long on a machine that has other things to do. */
static bool is_stuck(rt_pool_class *c, int64_t now)
{
    if (!c->head || c->stopping || c->starting || c->coming || now - c->moved_at < STUCK ||
        thread_count(c) / GROWTH >= c->limit)
        return false;
    c->moved_at = now;
    c->starting++;
    count_threads(c, 1);
    return true;
}

bool rt_pool_look(rt_pool *pool, int64_t now)
{
    for (int i = 0; i < RT_POOL_CLASSES; i++) {
        rt_pool_class *c = &pool->classes[i];
        if (atomic_load_explicit(&c->queued, memory_order_relaxed) == 0) /* a hint */
            continue;
        rt_lock_acquire(&c->lock);
        const bool stuck = is_stuck(c, now);
        rt_lock_release(&c->lock);
        if (stuck)
            start_thread(c);
    }
    return rt_pool_has_queue(pool);
}

/* ---- jobs ---- */

/* P1. */
static void submit(rt_pool_class *c, rt_job *job)
{
    rt_lock_acquire(&c->lock);
    const bool others = c->head != NULL;
    append(c, job);
    rt_pool_thread *called = call(c);
    const bool starts = !called && thread_count(c) < c->limit;
    if (starts) {
        c->starting++;
        count_threads(c, 1);
    }
    rt_lock_release(&c->lock);
    if (called) {
        wake(called);
    } else if (starts) {
        start_thread(c);
    } else {
        tell_monitor(c->runtime);
        if (others)
            (void)rt_pool_look(&c->runtime->pool, rt_clock_now());
    }
}

/* The clock is read here, once, since the job is going to take time anyway. */
static int check_limit(rt_block *me)
{
    if (RT_LIKELY(!me || !(me->attr.flags & RT_FLAG_LIMIT)) || rt_frame_limit(me) > rt_clock_now())
        return 0;
    rt_frame_expire(me);
    return -ETIMEDOUT;
}

/* It will not be run, or nobody wants to know. */
static void give_up(const rt_job *job)
{
    if (job->abandoned)
        job->abandoned(job->arg);
}

/* P2 and P3. 0: it was DONE, or is RETURNED and the caller's to do; else the caller is not to wait any more.
 */
static int await(rt_pool_class *c, rt_job *job)
{
    int rc = 0;
    bool over = false, deaf = false;
    rt_enter();
    rt_lock_acquire(&c->lock);
    while (!over && job->state != RT_JOB_DONE && job->state != RT_JOB_RETURNED) {
        job->waiter.result = RT_PENDING;
        job->waiting = true;
        rc = rt_wait_locked(&c->lock, &job->waiter, deaf);
        rt_lock_acquire(&c->lock);
        job->waiting = false;
        over = rc != 0 && (job->state == RT_JOB_QUEUED || (job->state == RT_JOB_RUNNING && job->abandoned));
        deaf = true;
    }
    const bool left = job->state == RT_JOB_RUNNING;
    if (left) {
        job->left = true;
        /* relaxed: seen by who sees the caller's end, which comes later (P7) */
        atomic_fetch_add_explicit(&c->runtime->pool.abandoned, 1, memory_order_relaxed);
    } else if (job->state == RT_JOB_QUEUED) {
        take_out(c, job);
    } else if (job->state == RT_JOB_DONE) {
        rc = 0;
    }
    rt_lock_release(&c->lock);
    rt_leave();
    if (rc != 0 && !left) /* else it may be gone by now */
        give_up(job);
    return rc;
}

int rt_pool_do(int class, rt_job *job)
{
    rt_block *me = rt_self()->current;
    int rc = rt_frame_stop(me);
    if (rc == 0)
        rc = check_limit(me);
    if (rc != 0) {
        give_up(job);
        return rc;
    }
    job->state = RT_JOB_RETURNED;
    if (me && !(me->attr.flags & RT_FLAG_THREAD)) {
        rt_pool_class *c = &rt_block_runtime(me)->pool.classes[class];
        job->waiter = (rt_waiter){.who = me};
        job->waiting = job->left = false;
        submit(c, job);
        rc = await(c, job);
        if (rc != 0)
            return rc;
    }
    if (job->state == RT_JOB_RETURNED)
        job->result = job->fn(job->arg);
    (void)check_limit(me); /* what passed meanwhile is known to the next call */
    return 0;
}

int rt_pool_run(int class, int (*fn)(void *), void *arg)
{
    rt_job job = {.fn = fn, .arg = arg};
    const int rc = rt_pool_do(class, &job);
    return rc != 0 ? rc : job.result;
}

/* ---- the pool ---- */

void rt_pool_init(rt_pool *pool, rt_runtime *rt, size_t users)
{
    for (int i = 0; i < RT_POOL_CLASSES; i++) {
        rt_pool_class *c = &pool->classes[i];
        c->runtime = rt;
        c->limit = limits[i];
        if (i == RT_POOL_USER && users != 0)
            c->limit = users < UINT32_MAX / GROWTH ? (uint32_t)users : UINT32_MAX / GROWTH;
    }
}

void rt_pool_stop(rt_pool *pool)
{
    for (int i = 0; i < RT_POOL_CLASSES; i++) {
        rt_pool_class *c = &pool->classes[i];
        aftermath none = {0};
        rt_lock_acquire(&c->lock);
        c->stopping = true;
        for (rt_pool_thread *t; (t = call(c)) != NULL;)
            wake(t);
        rt_lock_release(&c->lock);
        for (uint32_t n;
             (n = atomic_load_explicit(&c->threads, memory_order_relaxed)) != 0;) /* a lock follows */
            rt_futex_wait(&c->threads, n, INT64_MAX);
        rt_lock_acquire(&c->lock);
        bury(c, &none);
        const int32_t last = c->last;
        rt_lock_release(&c->lock);
        rt_thread_await(last);
    }
}

void rt_pool_fork_child(void)
{
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed); /* this is the only thread */
}

size_t rt_pool_threads(const rt_pool *pool)
{
    size_t n = 0;
    for (int i = 0; i < RT_POOL_CLASSES; i++)
        n += atomic_load_explicit(&pool->classes[i].threads, memory_order_relaxed); /* a figure */
    return n;
}
