/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Scopes: their children, and the owner who waits for them. See family.h.
 */
#include "family.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rt_scope) <= sizeof(routine_scope_t) && _Alignof(rt_scope) <= _Alignof(routine_scope_t),
               "a scope fits into the public type");

/* Rises with each fork: what was opened before has no children here. */
static _Atomic uint32_t generation;

static uint32_t generation_now(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed); /* changes in a child of fork alone */
}

void rt_scope_fork_child(void)
{
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed); /* as above */
}

static rt_scope *inside(routine_scope_t *s)
{
    return (rt_scope *)(void *)s;
}

/* ---- rings ---- */

static void link_to(rt_child **ring, rt_child *c)
{
    if (*ring) {
        c->next = *ring;
        c->prev = (*ring)->prev;
        c->prev->next = c->next->prev = c;
    } else {
        c->next = c->prev = c;
    }
    *ring = c;
}

static void unlink_from(rt_child **ring, rt_child *c)
{
    if (c->next == c) {
        *ring = NULL;
        return;
    }
    c->prev->next = c->next;
    c->next->prev = c->prev;
    if (*ring == c)
        *ring = c->next;
}

void routine_scope_cancel(routine_scope_t *scope_)
{
    if (!scope_)
        return;
    rt_scope *s = inside(scope_);
    if (s->generation != generation_now())
        return; /* its children are the parent process's */
    rt_block *woken;
    (void)rt_enter();
    rt_lock_acquire(&s->lock);
    rt_family_cancel(s, &woken);
    rt_lock_release(&s->lock);
    rt_family_wake(woken);
    rt_leave();
}

/* ---- children ---- */

static void release(rt_child *c)
{
    free(c->heritage);
    if (c->large)
        free(c);
    else
        rt_free_any((rt_block *)(void *)((char *)c - RT_COPY_OFFSET));
}

/* What a child has come to. */
static int outcome(rt_scope *s, const rt_block *r, void *value)
{
    if (RT_LIKELY(r->attr.status == 0))
        return (int)(intptr_t)value;
    if (r->attr.status == -ENOTRECOVERABLE) {
        if (s->panicked) {
            free(value);
        } else {
            s->panicked = true;
            s->panic = value;
            s->panic_where = r->where;
            /* relaxed: it is over, and the id does not change */
            s->panic_id = RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_relaxed));
        }
    }
    return r->attr.status;
}

static rt_child **ring_of(rt_scope *s, const rt_child *c)
{
    return c->begun ? &s->begun : &s->fresh;
}

/* The rt_told of every child. */
static void over(rt_told *told, rt_block *r, void *value)
{
    rt_child *c = (rt_child *)(void *)told;
    rt_scope *s = c->scope;
    rt_waiter *joiner = NULL, *slot = NULL;
    rt_block *woken = NULL;
    rt_lock_acquire(&s->lock);
    const int error = outcome(s, r, value);
    unlink_from(ring_of(s, c), c);
    s->count--;
    if (RT_UNLIKELY(error == -ECANCELED) && s->canceled) {
        s->cut = true;
    } else if (RT_UNLIKELY(error != 0)) {
        if (s->error == 0 || r->attr.status == -ENOTRECOVERABLE)
            s->error = error;
        rt_family_cancel(s, &woken);
    }
    if (!s->canceled && (slot = rt_queue_take(&s->slots)) != NULL) {
        slot->result = 0;
        slot->next = NULL;
    }
    if (s->count == 0 && (joiner = rt_queue_take(&s->joiner)) != NULL)
        joiner->result = 0;
    rt_block *wake = joiner ? joiner->who : NULL;
    rt_lock_release(&s->lock); /* F6 */
    release(c);
    rt_family_wake(woken);
    rt_ready_all(slot);
    if (wake)
        rt_ready_block(wake);
}

/* What runs as a child. */
static void *run_child(void *arg)
{
    rt_child *c = arg;
    rt_block *me = rt_self()->current;
    rt_heritage *heritage = c->heritage;
    c->heritage = NULL;
    if (heritage && rt_local_inherit(me, heritage) != 0)
        return (void *)(intptr_t)-ENOMEM; // NOLINT(performance-no-int-to-ptr)
    /* the owner cannot leave, so its frame can be read */
    const int64_t limit = c->scope->frame.limit;
    if (RT_LIKELY(limit == INT64_MAX))
        return (void *)(intptr_t)c->fn(c->arg); // NOLINT(performance-no-int-to-ptr)
    routine_with_deadline(limit);
    return (void *)(intptr_t)c->fn(c->arg); // NOLINT(performance-no-int-to-ptr)
}

/* With its own copy of the argument, if copy is not null. NULL: no memory. */
static rt_child *make(rt_scope *s, routine_scope_fn *fn, void *arg, const void *copy, size_t size)
{
    if (copy && size > (size_t)PTRDIFF_MAX - sizeof(rt_child))
        return NULL;
    const size_t bytes = sizeof(rt_child) + (copy ? size : 0);
    rt_child *c;
    if (bytes <= RT_COPY_MAX) {
        rt_block *home = rt_free_get_any();
        if (!home)
            return NULL;
        c = (rt_child *)(void *)((char *)home + RT_COPY_OFFSET);
    } else if (!(c = malloc(bytes))) {
        return NULL;
    }
    *c = (rt_child){.told = {.over = over}, .scope = s, .fn = fn, .arg = arg, .large = bytes > RT_COPY_MAX};
    if (copy)
        c->arg = memcpy(c + 1, copy, size);
    return c;
}

/* Under s->lock, which is left meanwhile: until one more child may be there. From outside. */
static int await_slot(rt_scope *s)
{
    while (s->count >= s->limit && !s->canceled) {
        rt_waiter w = {.who = rt_me(), .result = RT_PENDING};
        int rc = rt_frame_stop(w.who);
        if (rc != 0)
            return rc;
        rt_queue_append(&s->slots, &w);
        (void)rt_enter();
        rc = rt_wait_locked(&s->lock, &w, false);
        rt_leave();
        rt_lock_acquire(&s->lock);
        if (rc != 0) {
            if (rt_waiter_is_queued(&w))
                rt_queue_remove(&s->slots, &w);
            return rc;
        }
    }
    return s->canceled ? -ECANCELED : 0;
}

static int start(const char *where, routine_scope_t *scope_, routine_scope_fn *fn, void *arg,
                 const void *copy, size_t size)
{
    if (!scope_ || !fn)
        return -EINVAL;
    rt_scope *s = inside(scope_);
    if (s->generation != generation_now())
        return -ECANCELED;
    const rt_thread *t = rt_self();
    int rc = 0;
    if (!rt_is_routine(t) && !rt_runtime_default(&rc)) /* so that it need not be started under the lock */
        return rc;
    rt_child *c = make(s, fn, arg, copy, size);
    if (!c)
        return -ENOMEM;
    rt_waiter *slot = NULL;
    rc = t->current ? rt_local_bequeath(t->current, &c->heritage) : 0;
    rt_lock_acquire(&s->lock);
    if (rc == 0)
        rc = await_slot(s);
    if (rc == 0) { /* F1 */
        link_to(&s->fresh, c);
        s->count++;
        rc = rt_go_told(where, run_child, &c->told);
        if (rc != 0) {
            unlink_from(&s->fresh, c);
            s->count--;
            if ((slot = rt_queue_take(&s->slots)) != NULL) /* it may be luckier */
                slot->result = 0;
        }
    }
    rt_lock_release(&s->lock);
    if (slot)
        rt_ready_outside(slot->who);
    if (rc != 0)
        release(c);
    return rc;
}

int routine_scope_go_at(const char *where, routine_scope_t *scope_, routine_scope_fn *fn, void *arg)
{
    return start(where, scope_, fn, arg, NULL, 0);
}

int routine_scope_go_copy_at(const char *where, routine_scope_t *scope_, routine_scope_fn *fn,
                             const void *object, size_t size)
{
    return object ? start(where, scope_, fn, NULL, object, size) : -EINVAL;
}

int routine_scope_go_each_at(const char *where, routine_scope_t *scope_, routine_scope_fn *fn, void *first,
                             size_t count, size_t size)
{
    if (!scope_ || !fn || (!first && count != 0))
        return -EINVAL;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = start(where, scope_, fn, (char *)first + i * size, NULL, 0);
    return rc;
}

/* ---- the owner ---- */

/* Under s->lock: a child that nobody has begun, the newest first; NULL: there is none. */
static rt_child *unbegun(rt_scope *s)
{
    rt_child *c;
    while ((c = s->fresh) != NULL) {
        /* relaxed: a hint; STARTED is for ever */
        if (!(atomic_load_explicit(&c->told.block->word, memory_order_relaxed) & RT_STARTED))
            return c;
        unlink_from(&s->fresh, c);
        c->begun = true;
        link_to(&s->begun, c);
    }
    return NULL;
}

/* Inside, under s->lock, which is left meanwhile: until there are no children. Runs them here where it can;
 * not under a limit, which has to end the wait, unless deaf. */
static int await_children(rt_scope *s, bool deaf)
{
    rt_block *me = rt_me();
    bool here = deaf || !(me->attr.flags & RT_FLAG_LIMIT);
    while (s->count != 0) {
        const rt_child *c = here ? unbegun(s) : NULL;
        if (c) {
            rt_block *r = c->told.block;
            const uint64_t id = c->told.id;
            const uint32_t pages = r->attr.stack_pages;
            const rt_worker *w = rt_self()->worker;
            here = w && rt_block_runtime(r) == w->runtime;
            rt_lock_release(&s->lock);
            here = here && rt_join_told(r, id, pages) != RT_NOT_HERE;
            rt_lock_acquire(&s->lock);
            continue;
        }
        rt_waiter w = {.who = me, .result = RT_PENDING};
        int rc = deaf ? 0 : rt_frame_stop(me); /* before each wait: wait.h, K5 */
        if (rc != 0)
            return rc;
        rt_queue_append(&s->joiner, &w);
        rc = rt_wait_locked(&s->lock, &w, deaf);
        rt_lock_acquire(&s->lock);
        if (rc != 0) {
            if (rt_waiter_is_queued(&w))
                rt_queue_remove(&s->joiner, &w);
            return s->count != 0 ? rc : 0;
        }
    }
    return 0;
}

/* The end of its frame. */
static void close_scope(void *arg)
{
    rt_scope *s = arg;
    if (s->generation != generation_now())
        return; /* its children and its list are the parent process's */
    (void)rt_enter();
    rt_lock_acquire(&s->lock);
    if (s->count != 0) {
        rt_block *woken;
        rt_family_cancel(s, &woken);
        rt_lock_release(&s->lock);
        rt_family_wake(woken);
        rt_lock_acquire(&s->lock);
    }
    (void)await_children(s, true);
    rt_lock_release(&s->lock);
    rt_leave();
    if (s->listed)
        rt_family_leave(s);
    if (s->panicked)
        rt_panic_unheard(s->panic_id, "", s->panic_where, s->panic);
}

void *routine_scope_begin(routine_scope_t *scope_, size_t limit)
{
    rt_scope *s = inside(scope_);
    rt_block *me = rt_thread_here()->current;
    memset(s, 0, sizeof *s);
    rt_frame_begin(&s->frame, me, RT_FRAME_SCOPE, rt_here());
    s->frame.end = close_scope;
    s->owner = me;
    s->owner_id = RT_WORD_ID(atomic_load_explicit(&me->word, memory_order_relaxed)); /* its own */
    s->limit = limit ? limit : SIZE_MAX;
    s->generation = generation_now();
    s->shielded = s->frame.shielded;
    if (!(me->attr.flags & RT_FLAG_THREAD)) /* nobody cancels a thread */
        rt_family_enter(s);
    return scope_;
}

void routine_scope_end(routine_scope_t *scope_)
{
    if (scope_)
        rt_frame_end(&inside(scope_)->frame);
}

int routine_scope_join(routine_scope_t *scope_, int *error)
{
    if (!scope_)
        return -EINVAL;
    rt_scope *s = inside(scope_);
    const rt_block *me = rt_self()->current;
    if (s->generation != generation_now())
        return -ECANCELED;
    /* relaxed: its own */
    if (me != s->owner || RT_WORD_ID(atomic_load_explicit(&me->word, memory_order_relaxed)) != s->owner_id)
        return -EPERM;
    (void)rt_enter();
    rt_lock_acquire(&s->lock);
    int rc = rt_frame_stop(me); /* also without children: some may not have been started because of that */
    if (rc == 0)
        rc = await_children(s, false);
    if (rc == 0 && s->cut && rt_frame_stop(me) == -ECANCELED)
        rc = -ECANCELED; /* the children have not done what they were to do, because of the caller's own */
    rt_lock_release(&s->lock);
    rt_leave();
    if (rc != 0)
        return rc;
    if (s->error == -ENOTRECOVERABLE && s->panicked) {
        s->panicked = false;
        rt_panic_hear(s->panic);
    }
    if (error)
        *error = s->error;
    return 0;
}
