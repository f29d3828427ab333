/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Cancelling downward: see family.h, F2 to F5.
 */
#include "family.h"

#include "../os/clock.h"

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

void rt_family_enter(rt_scope *s)
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

void rt_family_leave(rt_scope *s)
{
    rt_block *r = s->owner;
    (void)word_lock(r, s->owner_id);
    rt_scope **link = &r->scopes;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    s->listed = false;
    word_unlock(r, s->owner_id, r->scopes ? 0 : RT_SCOPED);
}

/* ---- cancelling downward ---- */

typedef enum { MARK, WAKE } pass;

/* Whom WAKE has won is added at *end, by link. Returns the new end. */
static rt_block **visit_child(const rt_child *c, pass what, rt_block **end)
{
    rt_block *r = c->told.block;
    uint64_t before;
    if (what == MARK) {
        (void)rt_cancel_mark(r, c->told.id, RT_CANCEL, &before);
    } else if (rt_wait_cancel(r, c->told.id)) {
        r->link = NULL;
        *end = r;
        end = &r->link;
    }
    return end;
}

/* Under s->lock. Returns those who wait for a slot of it, for rt_ready_all. */
static rt_waiter *visit_scope(rt_scope *s, pass what)
{
    rt_waiter *waiting = NULL;
    if (what == MARK)
        s->canceled = true;
    else
        rt_queue_take_all(&s->slots, 0, &waiting);
    return waiting;
}

/* The first child in the two rings, and the one after c; NULL: no more. */
static rt_child *first_child(const rt_scope *s)
{
    return s->fresh ? s->fresh : s->begun;
}

static rt_child *next_child(const rt_scope *s, const rt_child *c)
{
    if (c->next != (c->begun ? s->begun : s->fresh))
        return c->next;
    return c->begun ? NULL : s->begun;
}

/* From this one on, the first of a routine's scopes that is not shielded, or NULL. */
static rt_scope *open_to_cancel(rt_scope *s)
{
    while (s && s->shielded)
        s = s->next;
    return s;
}

/* F3, F4. Under the lock of `top`. */
static void walk(rt_scope *top, pass what, rt_block **end)
{
    rt_scope *s = top;
    rt_child *c = first_child(s);
    rt_ready_all(visit_scope(s, what));
    for (;;) {
        if (c) {
            rt_block *r = c->told.block;
            rt_scope *inner = NULL;
            end = visit_child(c, what, end);
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
        rt_child *above = s->above;
        rt_scope *next = open_to_cancel(s->next);
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

void rt_family_cancel(rt_scope *s, rt_block **woken)
{
    *woken = NULL;
    if (s->canceled)
        return;
    walk(s, MARK, NULL);
    rt_membarrier_heavy();
    walk(s, WAKE, woken);
}

void rt_family_wake(rt_block *woken)
{
    while (woken) {
        rt_block *next = woken->link; /* the list's next */
        rt_ready_block(woken);
        woken = next;
    }
}

void rt_scope_cancel_below(rt_block *r, uint64_t id)
{
    if (!word_lock(r, id))
        return;
    /* locked. It may have left its scopes by now */
    if (atomic_load_explicit(&r->word, memory_order_relaxed) & RT_SCOPED)
        for (rt_scope *s = open_to_cancel(r->scopes); s; s = open_to_cancel(s->next)) {
            rt_block *woken;
            rt_lock_acquire(&s->lock);
            rt_family_cancel(s, &woken);
            rt_lock_release(&s->lock);
            rt_family_wake(woken);
        }
    word_unlock(r, id, 0);
}
