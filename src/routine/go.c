/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Starting routines.
 *
 * From a worker: a block from the worker's free list, its fields, its word, and a START
 * entry on the worker's deque; no stack, no lock, no locked instruction. From anywhere
 * else: the shared queue of the runtime, with STARTED set, so that only the worker that
 * takes it from there runs it.
 */
#include "routine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOINED   0
#define DETACHED (RT_CLAIMED | RT_DETACHED)

static routine_t failed(int error)
{
    return (routine_t){NULL, (uint64_t)error};
}

/* The rare ends of spawn. Each is its last call, so that the short way needs no frame, and leaves. */

static RT_COLD routine_t spawn_notify(rt_worker *w, rt_block *r, uint64_t id)
{
    rt_notify_slow(w);
    /* relaxed: one that starts while a shutdown begins to cancel is cancelled by this or by that */
    const bool cancelling = atomic_load_explicit(&w->runtime->cancelling, memory_order_relaxed);
    rt_leave();
    if (cancelling)
        routine_cancel((routine_t){r, id});
    return (routine_t){r, id};
}

/* There is no room in the deque: makes some, or puts r into the shared queue. */
static RT_COLD routine_t spawn_no_room(rt_worker *w, rt_block *r, uint64_t id)
{
    if (rt_deque_make_room(w) && rt_deque_push(&w->deque, r)) {
        return spawn_notify(w, r, id);
    } else {
        atomic_fetch_and_explicit(&r->word, ~(uint64_t)RT_ENTRY, memory_order_relaxed); /* published by: */
        rt_spill(w, r);
        rt_leave();
    }
    return (routine_t){r, id};
}

/* Fills r, which is the worker's, publishes it, and leaves. The worker, of thread t, has an id left. */
RT_INLINE routine_t spawn(rt_thread *t, rt_worker *w, rt_block *r, const char *where, routine_fn *fn,
                          void *arg, uint64_t attr, unsigned handle)
{
    const uint64_t id = w->next_id++;
    r->fn = fn;
    r->arg = arg;
    r->where = where;
    r->attr.all = attr;
    if (handle != JOINED) /* relaxed: published with the word. The rest is blank (block.h) */
        atomic_store_explicit(&r->done.state, RT_ONESHOT_CLOSED, memory_order_relaxed);
    /* release: pairs with the claim of whoever starts it, be it by the handle or by the entry */
    atomic_store_explicit(&r->word, RT_WORD(id, RT_ENTRY | handle), memory_order_release);
    rt_counter_add(&w->counts.spawned, 1); /* before the push: it is counted before it can end (R13) */
    if (RT_UNLIKELY(!rt_deque_push(&w->deque, r)))
        return spawn_no_room(w, r, id);
    if (RT_UNLIKELY(rt_idle_anybody(&w->runtime->idle)))
        return spawn_notify(w, r, id);
    rt_leave_as(t);
    return (routine_t){r, id};
}

/* A worker with a block on its free list and an id left; else NULL. */
RT_INLINE rt_worker *ready_to_spawn(const rt_thread *t)
{
    rt_worker *w = t->worker;
    if (RT_UNLIKELY(!w) || RT_UNLIKELY(!w->free) || RT_UNLIKELY(w->next_id == w->end_id))
        return NULL;
    return w;
}

/* What a go can ask for beyond a function and its argument. */
typedef struct {
    const char *where, *name;
    routine_fn *fn;
    void *arg;
    const void *copy; /* not null: of so many bytes, instead of arg */
    size_t copy_size;
    size_t stack_size;
    rt_runtime *runtime;
    rt_told *told; /* not null: is the argument */
    unsigned handle;
} wish;

/* Makes the copy of a closure. */
static bool copy_in(rt_block *r, const wish *what)
{
    if (what->copy_size <= RT_COPY_MAX) {
        rt_block *home = rt_free_get_any();
        if (!home)
            return false;
        r->arg = (char *)home + RT_COPY_OFFSET;
        r->attr.flags |= RT_FLAG_COPY_BLOCK;
    } else {
        r->arg = malloc(what->copy_size);
        if (!r->arg)
            return false;
        r->attr.flags |= RT_FLAG_COPY_MALLOC;
    }
    memcpy(r->arg, what->copy, what->copy_size);
    return true;
}

static bool name_in(rt_block *r, const char *name)
{
    rt_extra *extra = rt_local_extra(r);
    if (!extra)
        return false;
    snprintf(extra->name, sizeof extra->name, "%s", name);
    return true;
}

static routine_t undo(rt_block *r, int error)
{
    rt_run_drop_copy(r);
    rt_extra_drop(r);
    rt_free_any(r);
    return failed(error);
}

/* The general way, for everything but a plain go on a worker. From outside. */
static RT_NOINLINE routine_t spawn_wish(const wish *what)
{
    if (!what->fn || what->stack_size > ROUTINE_STACK_MAX)
        return failed(EINVAL);
    rt_runtime *rt = what->runtime ? what->runtime : rt_runtime_of(rt_self());
    if (!rt) {
        int error = 0;
        rt = rt_runtime_default(&error);
        if (!rt)
            return failed(-error);
    }

    rt_block *r = rt_free_get_any();
    if (!r)
        return failed(ENOMEM);
    r->arg = what->arg;
    r->attr = (rt_attr){
        .stack_pages = what->stack_size ? rt_runtime_stack_pages(what->stack_size)
                                        : (uint32_t)(rt->stack_promised / RT_STACK_UNIT),
    };
    if ((what->copy && !copy_in(r, what)) || (what->name && !name_in(r, what->name)))
        return undo(r, ENOMEM);
    if (what->told) {
        r->arg = what->told;
        r->attr.flags |= RT_FLAG_TOLD;
        what->told->block = r;
    }
    rt_thread *t = rt_enter();
    rt_worker *w = t->worker;
    if (w && w->runtime == rt) {
        if (w->next_id == w->end_id) {
            w->next_id = rt_block_id_range();
            w->end_id = w->next_id + RT_ID_RANGE;
        }
        if (what->told)
            what->told->id = w->next_id;
        atomic_store_explicit(&r->runtime, rt, memory_order_relaxed); /* published with the word */
        return spawn(t, w, r, what->where, what->fn, r->arg, r->attr.all, what->handle);
    }

    const uint64_t id = rt_block_id();
    if (what->told)
        what->told->id = id;
    r->fn = what->fn;
    r->where = what->where;
    /* relaxed, both: published with the word */
    atomic_store_explicit(&r->runtime, rt, memory_order_relaxed);
    atomic_store_explicit(&r->done.state, what->handle == JOINED ? RT_ONESHOT_EMPTY : RT_ONESHOT_CLOSED,
                          memory_order_relaxed);
    /* release: as in spawn. STARTED: a joiner must not take it out of the shared queue (R4) */
    atomic_store_explicit(&r->word, RT_WORD(id, RT_STARTED | what->handle), memory_order_release);
    const int rc = rt_inject(rt, r);
    rt_leave();
    return rc != 0 ? undo(r, -rc) : (routine_t){r, id};
}

static RT_NOINLINE routine_t go_slow(const char *where, routine_fn *fn, void *arg, uint32_t said)
{
    if (said != 0)
        rt_enter_slow(rt_self(), said);
    rt_leave();
    return spawn_wish(&(wish){.where = where, .fn = fn, .arg = arg});
}

routine_t routine_go_at(const char *where, routine_fn *fn, void *arg)
{
    rt_thread *t = rt_self();
    const uint32_t said = rt_enter_mark(t);
    if (RT_UNLIKELY(said != 0))
        return go_slow(where, fn, arg, said);
    rt_worker *w = ready_to_spawn(t);
    if (RT_UNLIKELY(!w) || RT_UNLIKELY(!fn))
        return go_slow(where, fn, arg, 0);
    return spawn(t, w, rt_free_get(w), where, fn, arg, w->attr, JOINED);
}

static RT_NOINLINE int detached_slow(const char *where, routine_fn *fn, void *arg)
{
    rt_leave();
    const routine_t h = spawn_wish(&(wish){.where = where, .fn = fn, .arg = arg, .handle = DETACHED});
    return h.block ? 0 : -(int)h.id;
}

int routine_go_detached_at(const char *where, routine_fn *fn, void *arg)
{
    rt_thread *t = rt_enter();
    rt_worker *w = ready_to_spawn(t);
    if (RT_UNLIKELY(!w) || RT_UNLIKELY(!fn))
        return detached_slow(where, fn, arg);
    spawn(t, w, rt_free_get(w), where, fn, arg, w->attr, DETACHED);
    return 0;
}

int rt_go_told(const char *where, routine_fn *fn, rt_told *told)
{
    const routine_t h = spawn_wish(&(wish){.where = where, .fn = fn, .told = told, .handle = DETACHED});
    return h.block ? 0 : -(int)h.id;
}

routine_t routine_go_with_at(const char *where, const routine_attr_t *attr, routine_fn *fn, void *arg)
{
    if (!attr)
        return routine_go_at(where, fn, arg);
    return spawn_wish(&(wish){.where = where,
                              .fn = fn,
                              .arg = arg,
                              .name = attr->name,
                              .stack_size = attr->stack_size,
                              .runtime = attr->runtime});
}

routine_t routine_go_copy_at(const char *where, routine_fn *fn, const void *object, size_t size)
{
    if (!object)
        return failed(EINVAL);
    return spawn_wish(&(wish){.where = where, .fn = fn, .copy = object, .copy_size = size});
}

int routine_run_at(const char *where, routine_fn *fn, void *arg, void **result)
{
    int error = 0;
    rt_runtime *rt = rt_runtime_default(&error);
    return rt ? routine_runtime_run_at(where, rt, fn, arg, result) : error;
}

int routine_runtime_run_at(const char *where, routine_runtime_t *runtime, routine_fn *fn, void *arg,
                           void **result)
{
    if (!runtime)
        return -EINVAL;
    const routine_t h = spawn_wish(&(wish){.where = where, .fn = fn, .arg = arg, .runtime = runtime});
    const int rc = routine_join(h, result);
    if (rc != -ETIMEDOUT || !h.block)
        return rc;
    routine_cancel(h);
    routine_shield();
    return routine_join(h, result);
}
