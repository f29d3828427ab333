/* SPDX-License-Identifier: MIT
 *
 * Floor 3. See scheduler.h. The parts here, from the bottom up: control blocks
 * of a worker; the queues and the order in which they are served; switching and
 * what happens on the other side of a switch; park, ready and yield; thieves and
 * sleepers; the end of a runtime.
 *
 * The order of the queues. First those that were woken: what has begun is finished
 * before something new begins. Then the own deque, the newest first: depth first, so that a
 * tree of a million routines needs few stacks. Then those that yielded, and then the
 * shared queue. So that nobody starves, every 61st pick begins elsewhere: in turns with
 * the shared queue, with the oldest entry of the own deque, and with those that yielded; and
 * every 17th routine readied by the running one goes to the end of the queue instead of the
 * next slot.
 */
#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "../context/context.h"
#include "../context/control.h"
#include "../context/sanitize.h"
#include "../os/clock.h"

#define UNUSUAL_PICK     61
#define NEXT_IN_A_ROW    16
#define STACK_CACHE      64 /* warm stacks of a worker */
#define STACK_BATCH      16
#define STACK_IDLE       16 /* those that it keeps when it goes to sleep */
#define SHARED_BATCH     32
#define STEAL_BATCH      32
#define WORTH_STEALING   1000 /* ns, the switches there and back included */
#define POOR_MOST        4
#define SAMPLE           64
#define STEAL_TOMBSTONES 1024
#define LONE_LOOKS       24 /* pauses between the two looks at a lone item: 1 to 2 microseconds */
#define LONELY_YIELDS    16
#define NAP_FIRST        (20 * INT64_C(1000))
#define NAP_LAST         (320 * INT64_C(1000))

struct rt_thread rt_nobody;

/* ---- control blocks ---- */

rt_block *rt_free_refill(rt_worker *w)
{
    rt_block *chain = w->free_more;
    if (chain)
        w->free_more = NULL;
    else if (!(chain = rt_block_batch_get()))
        return NULL;
    for (rt_block *r = chain; r; r = r->link)
        if (rt_block_runtime(r) != w->runtime)
            atomic_store_explicit(&r->runtime, w->runtime,
                                  memory_order_relaxed); /* published with the word */
    w->free = chain->link;
    w->free_count = RT_BLOCK_BATCH - 1;
    return chain;
}

void rt_free_flush(rt_worker *w)
{
    if (w->free_more)
        rt_block_batch_put(w->free_more);
    w->free_more = w->free;
    w->free = NULL;
    w->free_count = 0;
}

void rt_free_any(rt_block *r)
{
    rt_worker *w = rt_self()->worker;
    rt_block_blank(r);
    if (w) {
        atomic_store_explicit(&r->runtime, w->runtime, memory_order_relaxed); /* published with the word */
        rt_free_put(w, r);
    } else {
        rt_block_put(r);
    }
}

void rt_extra_drop(rt_block *r)
{
    rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own by now */
    if (!extra)
        return;
    atomic_store_explicit(&r->extra, NULL, memory_order_relaxed);
    rt_free_any((rt_block *)(void *)((char *)extra - RT_COPY_OFFSET));
}

void rt_recycle(rt_block *r)
{
    rt_extra_drop(r);
    rt_free_any(r);
}

void rt_release(rt_block *r)
{
    /* acquire: pairs with drop, which clears ENTRY */
    if (atomic_load_explicit(&r->word, memory_order_acquire) & RT_ENTRY &&
        /* acq_rel: of release and drop the later one recycles, after all that the other did */
        atomic_fetch_or_explicit(&r->word, RT_RELEASED, memory_order_acq_rel) & RT_ENTRY)
        return;
    rt_recycle(r);
}

/* A START entry was taken out of a deque, and the routine was started before (R1). */
static void drop(rt_block *r)
{
    /* acquire, acq_rel: as in rt_release */
    if (!(atomic_load_explicit(&r->word, memory_order_acquire) & RT_RELEASED) &&
        !(atomic_fetch_and_explicit(&r->word, ~(uint64_t)RT_ENTRY, memory_order_acq_rel) & RT_RELEASED))
        return;
    rt_recycle(r);
}

/* A START entry was taken out of a deque: true if the caller won the right to start it (R1, R4); else it is
 * dropped. */
static bool claim(rt_block *r)
{
    uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire); /* pairs with go's publication */
    do {
        if (word & RT_STARTED) {
            drop(r);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&r->word, &word,
                                                    (word | RT_STARTED) & ~(uint64_t)RT_ENTRY,
                                                    memory_order_acq_rel, memory_order_acquire));
    return true;
}

/* ---- queues ---- */

/* Under the shared queue's lock. */
static void shared_append(rt_runtime *rt, rt_block *r)
{
    r->link = NULL;
    if (rt->head)
        rt->tail->link = r;
    else
        rt->head = r;
    rt->tail = r;
    /* relaxed: a hint; sleepers look again behind their barrier (I3) */
    atomic_store_explicit(&rt->count, atomic_load_explicit(&rt->count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static uint64_t shared_size(const rt_runtime *rt)
{
    return atomic_load_explicit(&rt->count, memory_order_relaxed); /* a hint */
}

static void notify_outside(rt_runtime *rt)
{
    if (rt_idle_anybody(&rt->idle))
        rt_idle_wake(&rt->idle, false);
}

int rt_inject(rt_runtime *rt, rt_block *r)
{
    rt_lock_acquire(&rt->lock);
    if (rt->closed) {
        rt_lock_release(&rt->lock);
        return -ECANCELED;
    }
    rt_counter_add_release(&rt->counts.spawned, 1);
    shared_append(rt, r);
    notify_outside(rt); /* before the lock is let go: afterwards r may have ended, and its runtime be freed */
    rt_lock_release(&rt->lock);
    return 0;
}

/* Runnable, for the shared queue; a worker's list was closed to it, or the caller has no worker here. */
static void share(rt_runtime *rt, rt_block *r, bool readied)
{
    rt_lock_acquire(&rt->lock);
    if (readied)
        rt_counter_add(&rt->counts.readies, 1);
    shared_append(rt, r);
    notify_outside(rt); /* before: as in rt_inject */
    rt_lock_release(&rt->lock);
}

void rt_spill(rt_worker *w, rt_block *r)
{
    /* acq_rel: somebody may cancel it at the same time */
    atomic_fetch_or_explicit(&r->word, RT_STARTED, memory_order_acq_rel);
    rt_counter_add(&w->counts.spills, 1);
    share(w->runtime, r, false);
}

static rt_block *ready_pop(rt_worker *w)
{
    if (rt_ready_size(&w->ready) == 0 || !rt_ready_enter(&w->ready))
        return NULL;
    rt_block *r = rt_ready_pop(&w->ready);
    rt_ready_leave(&w->ready);
    return r;
}

static rt_block *yielded_pop(rt_worker *w)
{
    if (rt_ready_size(&w->ready) == 0 || !rt_ready_enter(&w->ready))
        return NULL;
    rt_block *r = rt_ready_pop_yielded(&w->ready);
    rt_ready_leave(&w->ready);
    return r;
}

static void ready_append(rt_worker *w, rt_block *r)
{
    if (RT_LIKELY(rt_ready_enter(&w->ready))) {
        rt_ready_append(&w->ready, r);
        rt_ready_leave(&w->ready);
    } else {
        rt_counter_add(&w->counts.spills, 1);
        share(w->runtime, r, false);
    }
}

static rt_block *deque_pick(rt_worker *w)
{
    rt_block *r;
    while ((r = rt_deque_take(&w->deque)) != NULL) {
        if (claim(r))
            return r;
    }
    w->dead = 0;
    return NULL;
}

static rt_block *shared_pick(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    if (shared_size(rt) == 0)
        return NULL;
    rt_lock_acquire(&rt->lock);
    rt_block *first = rt->head;
    uint64_t left = shared_size(rt), more = 0;
    if (first) {
        rt->head = first->link;
        left--;
        /* a fair share comes along, so that the lock is not taken for each */
        if (left >= rt->worker_count && rt_ready_enter(&w->ready)) {
            for (; more < left / rt->worker_count && more < SHARED_BATCH; more++) {
                rt_block *r = rt->head;
                rt->head = r->link;
                rt_ready_append(&w->ready, r);
            }
            rt_ready_leave(&w->ready);
        }
        atomic_store_explicit(&rt->count, left - more, memory_order_relaxed); /* as in shared_append */
    }
    rt_lock_release(&rt->lock);
    if (more)
        rt_notify(w);
    return first;
}

/* The oldest entry of the own deque. */
static rt_block *oldest_pick(rt_worker *w)
{
    rt_block *r;
    while ((r = rt_deque_take_oldest(&w->deque)) != NULL)
        if (claim(r))
            return r;
    return NULL;
}

/* The head of this file says why. */
static rt_block *unusual_pick(rt_worker *w)
{
    switch (w->tick / UNUSUAL_PICK % 4) {
    case 0:
        return oldest_pick(w);
    case 2:
        return yielded_pop(w);
    default:
        return shared_pick(w);
    }
}

/* Something to run, out of the worker's own queues and the shared one. It is claimed: nobody else will run
 * it. */
static rt_block *pick(rt_worker *w)
{
    rt_block *r;
    if (RT_UNLIKELY(++w->tick % UNUSUAL_PICK == 0) && (r = unusual_pick(w)) != NULL)
        return r;
    if ((r = ready_pop(w)) != NULL || (r = deque_pick(w)) != NULL || (r = yielded_pop(w)) != NULL)
        return r;
    return shared_pick(w);
}

void rt_bury(rt_worker *w)
{
    while (w->dead) {
        rt_deque *d = &w->deque;
        const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed) - 1; /* own */
        if (rt_deque_size(d) == 0) {
            w->dead = 0;
            return;
        }
        const rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);             /* own */
        rt_block *r = atomic_load_explicit(&ring->slots[b & ring->mask], memory_order_relaxed); /* own */
        /* relaxed: STARTED is for ever; if a thief recycles the block meanwhile, the entry is gone and take
         * finds out */
        if (!(atomic_load_explicit(&r->word, memory_order_relaxed) & RT_STARTED))
            return;
        w->dead--;
        r = rt_deque_take(d);
        if (r && claim(r)) { /* a new incarnation: an old one's entry was stolen while we looked */
            ready_append(w, r);
            return;
        }
    }
}

bool rt_deque_make_room(rt_worker *w)
{
    rt_deque *d = &w->deque;
    const int64_t size = rt_deque_size(d);
    /* A sample tells how many are dead: not all of them need be of this worker's making. */
    const rt_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);    /* own */
    const int64_t bottom = atomic_load_explicit(&d->bottom, memory_order_relaxed); /* own */
    int dead = 0;
    for (int64_t i = 0; i < SAMPLE; i++) {
        const rt_block *one = atomic_load_explicit(
            &ring->slots[(bottom - 1 - i * size / SAMPLE) & ring->mask], memory_order_relaxed); /* own */
        /* relaxed: a hint. A block is never unmapped */
        dead += (atomic_load_explicit(&one->word, memory_order_relaxed) & RT_STARTED) != 0;
    }
    if (size < SAMPLE || dead < SAMPLE / 2)
        return rt_deque_grow(d);
    rt_block **alive = malloc((size_t)size * sizeof *alive);
    if (!alive)
        return rt_deque_grow(d);
    int64_t count = 0;
    rt_block *r;
    while (count < size && (r = rt_deque_take(d)) != NULL) {
        /* acquire: pairs with whoever started it */
        if (atomic_load_explicit(&r->word, memory_order_acquire) & RT_STARTED)
            drop(r);
        else
            alive[count++] = r;
    }
    while (count > 0)
        (void)rt_deque_push(d, alive[--count]); /* there is room: it was all in there */
    free(alive);
    w->dead = 0;
    return rt_deque_room(d) || rt_deque_grow(d);
}

/* ---- stacks and switches ---- */

static rt_stack *stack_for(rt_worker *w, rt_block *r)
{
    rt_stack_pool *pool = &w->runtime->stacks;
    rt_stack *stack = w->stacks;
    if (RT_UNLIKELY(!rt_stack_ordinary(pool, (size_t)r->attr.stack_pages * RT_STACK_UNIT))) {
        stack = rt_stack_take_large(pool, (size_t)r->attr.stack_pages * RT_STACK_UNIT);
    } else if (RT_LIKELY(stack != NULL)) {
        w->stacks = stack->link;
        w->stack_count--;
    } else {
        size_t got;
        stack = rt_stack_take(pool, STACK_BATCH, &got);
        if (!stack) /* address space is short: no more than what is promised (R15) */
            stack = rt_stack_take_large(pool, (size_t)r->attr.stack_pages * RT_STACK_UNIT), got = 1;
        if (stack) {
            w->stacks = stack->link;
            w->stack_count = (uint32_t)got - 1;
        }
    }
    if (stack)
        rt_counter_add(&w->counts.stacks_bound, 1);
    return stack;
}

/* Gives the pool all but `keep` of the worker's warm stacks. */
static void stacks_flush(rt_worker *w, uint32_t keep)
{
    if (w->stack_count <= keep)
        return;
    rt_stack **cut = &w->stacks;
    for (uint32_t i = 0; i < keep; i++)
        cut = &(*cut)->link;
    rt_stack *rest = *cut;
    *cut = NULL;
    w->stack_count = keep;
    rt_stack_give(&w->runtime->stacks, rest);
}

/* A commit: nobody stands on this stack any more. */
static bool stack_left(rt_block *nobody, void *arg)
{
    (void)nobody;
    rt_stack *stack = arg;
    rt_worker *w = rt_self()->worker;
    rt_counter_add(&w->counts.stacks_left, 1);
    rt_stack_check(stack);
    if (rt_stack_is_large(stack)) {
        stack->link = NULL;
        rt_stack_give(&w->runtime->stacks, stack);
        return true;
    }
    stack->link = w->stacks;
    w->stacks = stack;
    if (++w->stack_count > STACK_CACHE)
        stacks_flush(w, STACK_CACHE / 2);
    return true;
}

/* What a switch passes to the other side: something to do there, or one of two short words. */
typedef struct {
    rt_commit_fn *fn;
    void *arg;
    rt_block *r;
} commit;

#define NOTHING    NULL
#define LEAVE_LIST ((void *)1) /* the switch was made inside the worker's ready list */

static void ready_local(rt_worker *w, rt_block *r);

/* First thing on the other side of a switch. The thread may be another one than before. */
static void arrived(void *passed)
{
    if (passed == NOTHING)
        return;
    rt_worker *w = rt_self()->worker;
    if (passed == LEAVE_LIST) {
        rt_ready_leave(&w->ready);
        return;
    }
    const commit *c = passed;
    rt_block *r = c->r; /* *c is gone once r is published */
    if (RT_UNLIKELY(!c->fn(r, c->arg)))
        ready_local(w, r);
}

/* From one stack to another; `last`: for ever. Returns what the switch back passes. */
RT_INLINE void *switch_stacks(rt_stack *from, void **save, rt_stack *to, void *sp, void *pass, bool last)
{
    rt_sanitize_leave(last ? NULL : &from->fake, to->low, to->high, to->fiber);
    void *passed = rt_context_switch(save, sp, pass);
    rt_sanitize_arrive(from->fake);
    return passed;
}

/* Makes r, claimed, the current routine of t and says where to switch to. False: it could not start, and is
 * over. */
static bool prepare(rt_thread *t, rt_block *r, rt_stack **stack, void **sp)
{
    if (!r->stack) {
        rt_stack *fresh = stack_for(t->worker, r);
        if (!fresh) {
            t->runtime->fail(r, -ENOMEM);
            return false;
        }
        rt_sanitize_stack_reuse(fresh->low, fresh->high, &fresh->fiber);
        r->stack = fresh;
        r->sp = rt_context_make(fresh->high, t->runtime->entry);
    }
    *stack = r->stack;
    *sp = r->sp;
    t->stack = r->stack;
    t->current = r;
    rt_counter_add(&t->worker->counts.switches, 1);
    return true;
}

/* Leaves the stack `from`, on which a routine was running, for `next`, or whatever else is there, or the
 * thread's own stack. */
static void leave(rt_thread *t, rt_stack *from, void **save, rt_block *next, commit *c, bool last)
{
    rt_stack *stack = &t->own;
    void *sp = t->sp;
    while (next && !prepare(t, next, &stack, &sp))
        next = pick(t->worker);
    if (!next) {
        t->stack = &t->own;
        t->current = NULL;
        rt_counter_add(&t->worker->counts.switches, 1);
    }
    arrived(switch_stacks(from, save, stack, sp, c, last));
}

void rt_stack_begin(void *passed)
{
    rt_sanitize_arrive(NULL);
    arrived(passed);
    /* what the switch here brought are those of the routine that was left */
    const uint64_t control = rt_self()->runtime->control;
    if (rt_control_now() != control)
        rt_control_set(control);
}

rt_block *rt_stack_next(rt_stack *stack)
{
    rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    rt_block *next = pick(w);
    if (next && !next->stack && !rt_stack_is_large(stack) &&
        rt_stack_ordinary(&w->runtime->stacks, (size_t)next->attr.stack_pages * RT_STACK_UNIT)) {
        rt_stack_check(stack);
        next->stack = stack;
        t->current = next;
        return next;
    }
    commit c = {stack_left, stack, NULL};
    void *nowhere;
    leave(t, stack, &nowhere, next, &c, true);
    __builtin_unreachable();
}

/* The current routine is about to be suspended: notes its stack, if it has been run in place so far. */
RT_INLINE rt_stack *standing(rt_thread *t, rt_block *r)
{
    rt_stack *stack = t->stack;
    if (RT_UNLIKELY(r->stack != stack)) {
        r->stack = stack;
        r->attr.flags |= RT_FLAG_STACK;
    }
    return stack;
}

/* ---- park, ready, yield ---- */

static pthread_key_t plain_key;
static pthread_once_t plain_once = PTHREAD_ONCE_INIT;

/* A plain thread ends. */
static void plain_gone(void *arg)
{
    rt_thread *t = arg;
    rt_block *r = t->current;
    rt_self_set(t); /* destructors of locals may block */
    const rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own */
    if (extra && extra->cleanup)
        extra->cleanup(r);
    rt_self_set(&rt_nobody);
    rt_extra_drop(r);
    rt_block_blank(r);
    rt_block_put(r);
    free(t);
}

static void plain_init(void)
{
    if (pthread_key_create(&plain_key, plain_gone) != 0)
        rt_panic("no pthread key is left for the library: delete some (pthread_key_delete)");
}

rt_thread *rt_thread_here(void)
{
    rt_thread *t = rt_self();
    if (RT_LIKELY(t != &rt_nobody))
        return t;
    pthread_once(&plain_once, plain_init);
    t = calloc(1, sizeof *t);
    rt_block *r = rt_block_get();
    if (!t || !r || pthread_setspecific(plain_key, t) != 0)
        rt_panic("no memory to let this thread wait (%zu bytes)", sizeof *t + sizeof *r);
    r->attr = (rt_attr){.flags = RT_FLAG_THREAD};
    r->parent = NULL;
    atomic_store_explicit(&r->word, RT_WORD(rt_block_id(), RT_STARTED), memory_order_release);
    t->current = r;
    t->id = pthread_self();
    rt_self_set(t);
    return t;
}

static void park_thread(rt_block *r, rt_commit_fn *fn, void *arg)
{
    atomic_store_explicit(&r->permit, 0, memory_order_relaxed); /* published by the commit */
    if (!fn(r, arg))
        return;
    while (atomic_load_explicit(&r->permit, memory_order_acquire) == 0) /* pairs with rt_ready_block */
        rt_futex_wait(&r->permit, 0, INT64_MAX);
}

void rt_park(rt_commit_fn *fn, void *arg)
{
    rt_thread *t = rt_thread_here();
    rt_worker *w = t->worker;
    rt_block *r = t->current;
    if (!w) {
        park_thread(r, fn, arg);
        return;
    }
    commit c = {fn, arg, r};
    rt_counter_add(&w->counts.parks, 1);
    leave(t, standing(t, r), &r->sp, pick(w), &c, false);
}

/* Into the ready list of the caller's worker. */
static void ready_local(rt_worker *w, rt_block *r)
{
    rt_counter_add(&w->counts.readies, 1);
    if (RT_UNLIKELY(!rt_ready_enter(&w->ready))) {
        rt_counter_add(&w->counts.spills, 1);
        share(w->runtime, r, false);
        return;
    }
    if (w->next_run++ < NEXT_IN_A_ROW) {
        rt_ready_put_next(&w->ready, r);
    } else {
        rt_ready_append(&w->ready, r);
        w->next_run = 0;
    }
    rt_ready_leave(&w->ready);
    rt_notify(w);
}

void rt_ready_block(rt_block *r)
{
    if (r->attr.flags & RT_FLAG_THREAD) {
        atomic_store_explicit(&r->permit, 1, memory_order_release); /* pairs with park_thread */
        rt_futex_wake(&r->permit,
                      1); /* if it is gone by now: the block stays mapped, a wake too many is harmless */
        return;
    }
    rt_thread *t = rt_self();
    rt_runtime *rt = rt_block_runtime(r);
    if (RT_LIKELY(t->worker && t->worker->runtime == rt))
        ready_local(t->worker, r);
    else
        share(rt, r, true);
}

void rt_notify_slow(rt_worker *w)
{
    rt_idle_wake(&w->runtime->idle, rt_deque_size(&w->deque) + (int64_t)rt_ready_size(&w->ready) < 2);
}

/* A commit: the routine is saved and may run again. */
static bool yielded(rt_block *r, void *arg)
{
    (void)arg;
    rt_worker *w = rt_self()->worker;
    if (RT_LIKELY(rt_ready_enter(&w->ready))) {
        rt_ready_append_yielded(&w->ready, r);
        rt_ready_leave(&w->ready);
        rt_notify(w); /* whoever it yields to may have been the last visible one */
    } else {
        rt_counter_add(&w->counts.spills, 1);
        share(w->runtime, r, false);
    }
    return true;
}

static void yield_to(rt_thread *t, rt_block *next)
{
    rt_block *r = t->current;
    commit c = {yielded, NULL, r};
    rt_counter_add(&t->worker->counts.yields, 1);
    leave(t, standing(t, r), &r->sp, next, &c, false);
}

static rt_block *steal_round(rt_worker *w, bool *lone);

static RT_NOINLINE bool yield_slow(rt_thread *t, rt_worker *w)
{
    rt_block *next = NULL;
    if (w->tick % UNUSUAL_PICK == 0)
        next = unusual_pick(w);
    if (!next && (next = ready_pop(w)) == NULL && (next = deque_pick(w)) == NULL &&
        (next = yielded_pop(w)) == NULL && (next = shared_pick(w)) == NULL && w->tick % LONELY_YIELDS == 0) {
        /* one that yields in a loop keeps this worker from ever looking for work: now and then it looks here
         */
        bool lone;
        next = steal_round(w, &lone);
    }
    if (!next)
        return false;
    yield_to(t, next);
    return true;
}

bool rt_yield(void)
{
    rt_thread *t = rt_self();

    rt_worker *w = t->worker;
    if (RT_UNLIKELY(!w))
        return false;
    if (RT_UNLIKELY(++w->tick % UNUSUAL_PICK == 0) || RT_UNLIKELY(rt_deque_size(&w->deque) != 0) ||
        RT_UNLIKELY(!rt_ready_enter(&w->ready)))
        return yield_slow(t, w);
    rt_fifo *yielders = &w->ready.yielded;
    rt_block *next = yielders->head;
    if (RT_UNLIKELY(w->ready.woken.head != NULL) || RT_UNLIKELY(!next)) {
        rt_ready_leave(&w->ready);
        return yield_slow(t, w);
    }
    /* The short way, without a commit: the list is held across the switch (ready.h), so it keeps its length.
     */
    rt_block *r = t->current;
    yielders->head = next->link;
    rt_fifo_append(yielders, r);
    rt_counter_add(&w->counts.yields, 1);
    rt_counter_add(&w->counts.switches, 1);
    rt_stack *stack = standing(t, r);
    t->current = next;
    t->stack = next->stack;
    arrived(switch_stacks(stack, &r->sp, next->stack, next->sp, LEAVE_LIST, false));
    return true;
}

/* How many breaths go by before one is for the oldest entry of the own deque: rarely, since in a tree of
 * routines that is the largest part of what is left, and wants a stack. */
#define BREATHS_FOR_OLDEST 16

void rt_breathe(void)
{
    rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    rt_block *next = ready_pop(w);
    if (!next && (next = yielded_pop(w)) == NULL && (next = shared_pick(w)) == NULL &&
        ++w->breaths % BREATHS_FOR_OLDEST == 0)
        next = oldest_pick(w);
    if (next)
        yield_to(t, next);
}

/* ---- thieves and sleepers ---- */

/* What tells whether a worker makes progress. */
static uint64_t progress(const rt_worker *v)
{
    /* relaxed: a hint */
    return atomic_load_explicit(&v->counts.spawned, memory_order_relaxed) +
           atomic_load_explicit(&v->counts.switches, memory_order_relaxed);
}

static rt_block *steal_from(rt_worker *w, rt_worker *v)
{
    rt_block *r = NULL;
    rt_counter_add(&w->counts.steals_tried, 1);
    if (rt_deque_size(&v->deque) > 0 && rt_deque_enter(&v->deque)) {
        /* tombstones come first where children are joined in the order of their start: past them (R2) */
        for (int i = 0; i < STEAL_TOMBSTONES && !r && rt_deque_size(&v->deque) > 0; i++) {
            r = rt_deque_take_oldest(&v->deque);
            if (r && !claim(r))
                r = NULL;
        }
        rt_deque_leave(&v->deque);
        if (r) {
            rt_counter_add(&w->counts.steals_won, 1);
            return r;
        }
    }
    uint64_t got;
    r = rt_ready_steal(&v->ready, STEAL_BATCH, &got);
    if (!r)
        return NULL;
    rt_counter_add(&w->counts.steals_won, got);
    rt_block *rest = r->link;
    while (rest) {
        rt_block *next = rest->link;
        ready_append(w, rest);
        rest = next;
    }
    return r;
}

/* The victim has one item only, which it will most likely run in a moment itself: taking it away costs both
 * more than it gains. Taken only if it is still there after a short while. */
static rt_block *steal_lone(rt_worker *w, rt_worker *v)
{
    const rt_block *item = rt_deque_peek(&v->deque);
    /* relaxed: compared only. A block is never unmapped. */
    const uint64_t word = item ? atomic_load_explicit(&item->word, memory_order_relaxed) : 0;
    const uint64_t done = progress(v);
    for (int i = 0; i < LONE_LOOKS; i++)
        rt_relax();
    if (rt_deque_peek(&v->deque) != item || progress(v) != done ||
        (item && atomic_load_explicit(&item->word, memory_order_relaxed) != word)) /* as above */
        return NULL;
    return steal_from(w, v);
}

/* One look at every other worker, beginning anywhere. *lone: one had a lone item, which was not taken. */
static rt_block *steal_round(rt_worker *w, bool *lone)
{
    rt_runtime *rt = w->runtime;
    rt_worker *shy = NULL;
    const size_t count = rt->worker_count;
    size_t at = (size_t)(rt_random(&w->random) % count);
    *lone = false;
    for (size_t i = 0; i < count; i++, at = at + 1 == count ? 0 : at + 1) {
        rt_worker *v = &rt->workers[at];
        if (v == w)
            continue;
        const uint64_t items = (uint64_t)rt_deque_size(&v->deque) + rt_ready_size(&v->ready);
        if (items == 1) {
            shy = v;
        } else if (items > 1) {
            rt_block *r = steal_from(w, v);
            if (r)
                return r;
            *lone = true; /* something was there, and others are at it */
        }
    }
    if (!shy)
        return NULL;
    rt_block *r = steal_lone(w, shy);
    if (!r)
        *lone = true;
    return r;
}

static bool work_visible(rt_runtime *rt)
{
    if (shared_size(rt) > 0)
        return true;
    for (size_t i = 0; i < rt->worker_count; i++)
        if (rt_deque_size(&rt->workers[i].deque) > 0 || rt_ready_size(&rt->workers[i].ready) > 0)
            return true;
    return false;
}

static uint64_t progress_of_all(const rt_runtime *rt)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < rt->worker_count; i++)
        sum += progress(&rt->workers[i]);
    return sum;
}

static bool stopping(rt_runtime *rt)
{
    return atomic_load_explicit(&rt->stopping, memory_order_acquire); /* pairs with runtime.c */
}

/* Called by a worker that is about to sleep, behind its barrier (I3): if somebody waits for the end of all
 * routines and this is it, says so. The waiter sets draining to 1, heavy barrier, and looks itself: of the
 * two at least one sees the other. */
static void check_drained(rt_runtime *rt)
{
    uint32_t waiting = 1;
    if (atomic_load_explicit(&rt->draining, memory_order_relaxed) == 1 && rt_runtime_live(rt) == 0 &&
        atomic_compare_exchange_strong_explicit(&rt->draining, &waiting, 2, memory_order_release,
                                                memory_order_relaxed)) /* pairs with the waiter */
        rt_futex_wake(&rt->draining, 1);
}

/* Nothing is in the own queues: finds something elsewhere, or sleeps until there is. NULL: the runtime stops.
 */
/* Taking what runs for less than a microsecond costs its owner more than it saves. A thief whose last catch
 * was such a one rests before it looks again, longer each time; it stays a searcher meanwhile, so that nobody
 * is woken to do the same. */
static void rest_if_poor(rt_worker *w)
{
    if (w->stolen_at != 0) {
        if (rt_clock_now() - w->stolen_at > WORTH_STEALING)
            w->poor = 0;
        else if (w->poor < POOR_MOST)
            w->poor++;
        w->stolen_at = 0;
    }
    if (w->poor > 0)
        rt_clock_nap(NAP_FIRST << (w->poor - 1));
}

static rt_block *find_work(rt_worker *w)
{
    rt_runtime *rt = w->runtime;
    atomic_store_explicit(&w->busy, false, memory_order_relaxed); /* a hint, for statistics */
    int64_t nap = NAP_FIRST;
    uint64_t seen = 0;
    rt_block *r = NULL;
    rt_idle_search(&rt->idle);
    rest_if_poor(w);
    while (!stopping(rt)) {
        bool lone;
        if ((r = pick(w)) != NULL)
            break;
        if ((r = steal_round(w, &lone)) != NULL) {
            w->stolen_at = rt_clock_now();
            break;
        }
        /* While others are busy with what they have, it would be there and gone at each look: rest a little.
         */
        const uint64_t done = progress_of_all(rt);
        if (lone || done != seen) {
            seen = done;
            nap = rt_idle_nap(&rt->idle, &w->sleeper, nap) ? NAP_FIRST : nap < NAP_LAST ? 2 * nap : nap;
            continue;
        }
        rt_idle_announce(&rt->idle, &w->sleeper);
        if (work_visible(rt) || stopping(rt)) {
            rt_idle_withdraw(&rt->idle, &w->sleeper);
            continue;
        }
        check_drained(rt);
        stacks_flush(w, STACK_IDLE);
        rt_counter_add(&w->counts.sleeps, 1);
        rt_idle_sleep(&w->sleeper);
        rt_counter_add(&w->counts.wakeups, 1);
        nap = NAP_FIRST;
        w->poor = 0;
    }
    rt_idle_found(&rt->idle);
    atomic_store_explicit(&w->busy, r != NULL, memory_order_relaxed); /* as above */
    return r;
}

void rt_thread_run(rt_thread *t)
{
    atomic_store_explicit(&t->worker->busy, true, memory_order_relaxed); /* as in find_work */
    for (;;) {
        rt_block *r = pick(t->worker);
        if (!r && !(r = find_work(t->worker)))
            return;
        rt_stack *stack;
        void *sp;
        if (prepare(t, r, &stack, &sp))
            arrived(switch_stacks(&t->own, &t->sp, stack, sp, NOTHING, false));
    }
}

/* ---- the end of a runtime ---- */

static _Atomic(rt_runtime *) chosen;

rt_runtime *rt_runtime_chosen(void)
{
    return atomic_load_explicit(&chosen, memory_order_acquire); /* pairs with rt_runtime_choose */
}

bool rt_runtime_choose(rt_runtime *before, rt_runtime *after)
{
    return atomic_compare_exchange_strong_explicit(&chosen, &before, after, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

bool rt_worker_is_running(const rt_worker *w)
{
    return atomic_load_explicit(&w->busy, memory_order_relaxed); /* a hint */
}

uint64_t rt_runtime_live(rt_runtime *rt)
{
    /* all completed before all spawned (R13): then the difference is never negative, and 0 is true: with
     * nothing alive only an outsider could start something */
    uint64_t completed = 0;
    for (size_t i = 0; i < rt->worker_count; i++)
        completed += rt_counter_read(&rt->workers[i].counts.completed) +
                     rt_counter_read(&rt->workers[i].counts.in_place_ended);
    uint64_t spawned = rt_counter_read(&rt->counts.spawned);
    for (size_t i = 0; i < rt->worker_count; i++)
        spawned += rt_counter_read(&rt->workers[i].counts.spawned);
    return spawned - completed;
}

void rt_runtime_clear(rt_runtime *rt)
{
    for (size_t i = 0; i < rt->worker_count; i++) {
        rt_worker *w = &rt->workers[i];
        rt_block *r;
        while ((r = rt_deque_take(&w->deque)) != NULL)
            drop(r);
        while (w->free) {
            r = w->free;
            w->free = r->link;
            rt_block_put(r);
        }
        w->free_count = 0;
        if (w->free_more)
            rt_block_batch_put(w->free_more);
        w->free_more = NULL;
        stacks_flush(w, 0);
    }
}
