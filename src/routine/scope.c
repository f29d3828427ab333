/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Scopes, and cancelling downward.
 *
 * A scope stands on its owner's stack, a child's record beside the copy of its argument; the child is a
 * detached routine that tells its scope when all of its user's code is over (rt_told), and the record goes
 * then. By steps (R10):
 *
 *  F1 A scope's `lock` guards its fields, and the links of its children's records. A child is
 *     linked and started under it, so whoever holds the lock sees each child that is alive, with
 *     its block and id.
 *  F2 A routine's word has a lock too, taken by compare-and-swap on its id: LOCKED. It guards
 *     SCOPED and the list of the routine's open scopes. As long as SCOPED is set the routine cannot
 *     end, since it has to take its scopes out of that list first.
 *  F3 Locks are taken downwards only: a scope's, then a child's word, then that of each of its
 *     scopes. Who goes up (a child that ends) holds none. So a walk holds what is on its path,
 *     nothing on that path can go away, and it finds its way back by `above`: no stack, no memory.
 *  F4 A cancellation goes down twice: first every scope is marked `canceled`, and every child's
 *     word CANCEL; then, after one heavy barrier for all, those that wait are woken (wait.h, K2). A
 *     child that is started in between finds its scope canceled; a scope that is opened in between,
 *     its owner.
 *  F5 Shielded scopes, those that were declared under a shield, are left out.
 *  F6 The last child to end wakes the owner, if that waits, and lets the lock go: its last touch.
 */
#include "../../include/routines/scope.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../base/panic.h"
#include "../os/clock.h"
#include "routine.h"

typedef struct child {
    rt_told told; /* first: what the routine's argument is taken for */
    struct rt_scope *scope;
    struct child *next, *prev; /* in the ring of its scope: F1 */
    routine_scope_fn *fn;
    void *arg;
    rt_heritage *heritage; /* null: none */
    bool large;            /* malloc'ed; else in a control block, behind its word */
    bool begun;            /* the ring that it is in: F1 */
} child;

typedef struct rt_scope {
    rt_frame frame;
    /* constant */
    rt_block *owner;
    uint64_t owner_id;
    size_t limit; /* SIZE_MAX: none */
    uint32_t generation;
    bool shielded;
    bool listed; /* it stands in its owner's list: F2 */
    /* under lock */
    rt_lock_t lock;
    bool canceled;
    bool cut;  /* a child has come to -ECANCELED by that */
    int error; /* of the first child that panicked, else that failed */
    size_t count;
    child *fresh, *begun; /* rings of all children; who waits has found the latter begun */
    bool panicked;        /* a child has, and nobody has been told */
    rt_message *panic;    /* its text; null: there was no memory */
    const char *panic_where;
    uint64_t panic_id;
    rt_queue joiner; /* the owner, if it waits */
    rt_queue slots;  /* those who wait until one more child may be there */
    child *above;    /* on a walk: the child whose scope this is (F3) */
    /* under the owner's word's lock */
    struct rt_scope *next;
} scope;

_Static_assert(sizeof(scope) <= sizeof(routine_scope_t) && _Alignof(scope) <= _Alignof(routine_scope_t),
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

static scope *inside(routine_scope_t *s)
{
    return (scope *)(void *)s;
}

/* ---- rings ---- */

static void link_to(child **ring, child *c)
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

static void unlink_from(child **ring, child *c)
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

/* ---- F2 ---- */

/* False: the routine is not that one any more. */
static bool word_lock(rt_block *r, uint64_t id)
{
    for (int i = 0;; i++) {
        uint64_t word =
            atomic_load_explicit(&r->word, memory_order_relaxed); /* the compare-and-swap decides */
        if (RT_WORD_ID(word) != id)
            return false;
        /* acquire: pairs with word_unlock */
        if (!(word & RT_LOCKED) &&
            atomic_compare_exchange_weak_explicit(&r->word, &word, word | RT_LOCKED, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
        /* held for a few instructions, but by a walk */
        if (i < 100)
            rt_relax();
        else
            rt_clock_nap(20 * INT64_C(1000));
    }
}

/* Without scopes it may have ended meanwhile, and be another: then there is nothing to unlock. */
static void word_unlock(rt_block *r, uint64_t id, uint64_t clear)
{
    uint64_t word = atomic_load_explicit(&r->word, memory_order_relaxed); /* as above */
    do
        if (RT_WORD_ID(word) != id)
            return;
    while (!atomic_compare_exchange_weak_explicit(&r->word, &word, word & ~(RT_LOCKED | clear),
                                                  memory_order_release, memory_order_relaxed));
}

static void list(scope *s)
{
    rt_block *r = s->owner;
    (void)word_lock(r, s->owner_id); /* it is the caller itself */
    /* acq_rel: a cancellation before this is found here; one after it finds SCOPED, and then the list */
    const uint64_t word = atomic_fetch_or_explicit(&r->word, RT_SCOPED, memory_order_acq_rel);
    s->next = word & RT_SCOPED ? r->scopes : NULL;
    s->canceled = word & RT_CANCEL && !s->shielded;
    s->listed = true;
    r->scopes = s;
    word_unlock(r, s->owner_id, 0);
}

static void unlist(scope *s)
{
    rt_block *r = s->owner;
    (void)word_lock(r, s->owner_id);
    scope **link = &r->scopes;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    s->listed = false;
    word_unlock(r, s->owner_id, r->scopes ? 0 : RT_SCOPED);
}

/* ---- cancelling downward ---- */

typedef enum { MARK, WAKE } pass;

static void visit_child(const child *c, pass what)
{
    uint64_t before;
    if (what == MARK)
        (void)rt_cancel_mark(c->told.block, c->told.id, RT_CANCEL, &before);
    else if (rt_wait_cancel(c->told.block, c->told.id))
        rt_ready_block(c->told.block);
}

/* Under s->lock. Returns those who wait for a slot of it, for rt_ready_all. */
static rt_waiter *visit_scope(scope *s, pass what)
{
    rt_waiter *waiting = NULL;
    if (what == MARK)
        s->canceled = true;
    else
        rt_queue_take_all(&s->slots, 0, &waiting);
    return waiting;
}

/* The first child in the two rings, and the one after c; NULL: no more. */
static child *first_child(const scope *s)
{
    return s->fresh ? s->fresh : s->begun;
}

static child *next_child(const scope *s, const child *c)
{
    if (c->next != (c->begun ? s->begun : s->fresh))
        return c->next;
    return c->begun ? NULL : s->begun;
}

/* From this one on, the first of a routine's scopes that is not shielded, or NULL. */
static scope *open_to_cancel(scope *s)
{
    while (s && s->shielded)
        s = s->next;
    return s;
}

/* F3, F4. Under the lock of `top`. */
static void walk(scope *top, pass what)
{
    scope *s = top;
    child *c = first_child(s);
    rt_ready_all(visit_scope(s, what));
    for (;;) {
        if (c) {
            rt_block *r = c->told.block;
            scope *inner = NULL;
            visit_child(c, what);
            if (word_lock(r, c->told.id)) {
                if (atomic_load_explicit(&r->word, memory_order_relaxed) & RT_SCOPED) /* locked */
                    inner = open_to_cancel(r->scopes);
                if (!inner)
                    word_unlock(r, c->told.id, 0);
            }
            if (inner) { /* down */
                rt_lock_acquire(&inner->lock);
                inner->above = c;
                s = inner;
                c = first_child(s);
                rt_ready_all(visit_scope(s, what));
            } else {
                c = next_child(s, c);
            }
            continue;
        }
        if (s == top)
            return;
        /* sideways, to the owner's next scope, or up again */
        child *above = s->above;
        scope *next = open_to_cancel(s->next);
        rt_lock_release(&s->lock);
        if (next) {
            rt_lock_acquire(&next->lock);
            next->above = above;
            s = next;
            c = first_child(s);
            rt_ready_all(visit_scope(s, what));
        } else {
            word_unlock(above->told.block, above->told.id, 0);
            s = above->scope;
            c = next_child(s, above);
        }
    }
}

/* Under s->lock. */
static void cancel_locked(scope *s)
{
    if (s->canceled)
        return;
    walk(s, MARK);
    rt_membarrier_heavy();
    walk(s, WAKE);
}

void rt_scope_cancel_below(rt_block *r, uint64_t id)
{
    if (!word_lock(r, id))
        return;
    /* locked. It may have left its scopes by now */
    if (atomic_load_explicit(&r->word, memory_order_relaxed) & RT_SCOPED)
        for (scope *s = open_to_cancel(r->scopes); s; s = open_to_cancel(s->next)) {
            rt_lock_acquire(&s->lock);
            cancel_locked(s);
            rt_lock_release(&s->lock);
        }
    word_unlock(r, id, 0);
}

void routine_scope_cancel(routine_scope_t *scope_)
{
    if (!scope_)
        return;
    scope *s = inside(scope_);
    if (s->generation != generation_now())
        return; /* its children are the parent process's */
    rt_lock_acquire(&s->lock);
    cancel_locked(s);
    rt_lock_release(&s->lock);
}

/* ---- children ---- */

static void release(child *c)
{
    free(c->heritage);
    if (c->large)
        free(c);
    else
        rt_free_any((rt_block *)(void *)((char *)c - RT_COPY_OFFSET));
}

/* What a child has come to. */
static int outcome(scope *s, const rt_block *r, void *value)
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

static child **ring_of(scope *s, const child *c)
{
    return c->begun ? &s->begun : &s->fresh;
}

/* The rt_told of every child. */
static void over(rt_told *told, rt_block *r, void *value)
{
    child *c = (child *)(void *)told;
    scope *s = c->scope;
    rt_waiter *joiner = NULL, *slot = NULL;
    rt_lock_acquire(&s->lock);
    const int error = outcome(s, r, value);
    unlink_from(ring_of(s, c), c);
    s->count--;
    if (RT_UNLIKELY(error == -ECANCELED) && s->canceled) {
        s->cut = true;
    } else if (RT_UNLIKELY(error != 0)) {
        if (s->error == 0 || r->attr.status == -ENOTRECOVERABLE)
            s->error = error;
        cancel_locked(s);
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
    rt_ready_all(slot);
    if (wake)
        rt_ready_block(wake);
}

/* What runs as a child. */
static void *run_child(void *arg)
{
    child *c = arg;
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
static child *make(scope *s, routine_scope_fn *fn, void *arg, const void *copy, size_t size)
{
    if (copy && size > (size_t)PTRDIFF_MAX - sizeof(child))
        return NULL;
    const size_t bytes = sizeof(child) + (copy ? size : 0);
    child *c;
    if (bytes <= RT_COPY_MAX) {
        rt_worker *w = rt_self()->worker;
        rt_block *home = w ? rt_free_get(w) : rt_block_get();
        if (!home)
            return NULL;
        c = (child *)(void *)((char *)home + RT_COPY_OFFSET);
    } else if (!(c = malloc(bytes))) {
        return NULL;
    }
    *c = (child){.told = {.over = over}, .scope = s, .fn = fn, .arg = arg, .large = bytes > RT_COPY_MAX};
    if (copy)
        c->arg = memcpy(c + 1, copy, size);
    return c;
}

/* Under s->lock, which is left meanwhile: until one more child may be there. */
static int await_slot(scope *s)
{
    while (s->count >= s->limit && !s->canceled) {
        rt_waiter w = {.who = rt_me(), .result = RT_PENDING};
        int rc = rt_frame_stop(w.who);
        if (rc != 0)
            return rc;
        rt_queue_append(&s->slots, &w);
        rc = rt_wait_locked(&s->lock, &w, false);
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
    scope *s = inside(scope_);
    if (s->generation != generation_now())
        return -ECANCELED;
    const rt_thread *t = rt_self();
    int rc = 0;
    if (!t->worker && !rt_runtime_default(&rc)) /* so that it need not be started under the lock */
        return rc;
    child *c = make(s, fn, arg, copy, size);
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
            if ((slot = rt_queue_take(&s->slots)) != NULL) { /* it may be luckier */
                slot->result = 0;
                slot->next = NULL;
            }
        }
    }
    rt_lock_release(&s->lock);
    rt_ready_all(slot);
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
static child *unbegun(scope *s)
{
    child *c;
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

/* Under s->lock, which is left meanwhile: until there are no children. Runs them here where it can; not under
 * a limit, which has to end the wait, unless deaf. */
static int await_children(scope *s, bool deaf)
{
    rt_block *me = rt_me();
    bool here = deaf || !(me->attr.flags & RT_FLAG_LIMIT);
    while (s->count != 0) {
        const child *c = here ? unbegun(s) : NULL;
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
    scope *s = arg;
    if (s->generation != generation_now())
        return; /* its children and its list are the parent process's */
    rt_lock_acquire(&s->lock);
    if (s->count != 0)
        cancel_locked(s);
    (void)await_children(s, true);
    rt_lock_release(&s->lock);
    if (s->listed)
        unlist(s);
    if (s->panicked)
        rt_panic_unheard(s->panic_id, "", s->panic_where, s->panic);
}

void *routine_scope_begin(routine_scope_t *scope_, size_t limit)
{
    scope *s = inside(scope_);
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
        list(s);
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
    scope *s = inside(scope_);
    const rt_block *me = rt_self()->current;
    if (s->generation != generation_now())
        return -ECANCELED;
    /* relaxed: its own */
    if (me != s->owner || RT_WORD_ID(atomic_load_explicit(&me->word, memory_order_relaxed)) != s->owner_id)
        return -EPERM;
    rt_lock_acquire(&s->lock);
    int rc = rt_frame_stop(me); /* also without children: some may not have been started because of that */
    if (rc == 0)
        rc = await_children(s, false);
    if (rc == 0 && s->cut && rt_frame_stop(me) == -ECANCELED)
        rc = -ECANCELED; /* the children have not done what they were to do, because of the caller's own */
    rt_lock_release(&s->lock);
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
