/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Scopes and their children, as scope.c and family.c know them.
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
#ifndef RT_ROUTINE_FAMILY_H
#define RT_ROUTINE_FAMILY_H

#include "../../include/routines/scope.h"
#include "routine.h"

typedef struct rt_child {
    rt_told told; /* first: what the routine's argument is taken for */
    struct rt_scope *scope;
    struct rt_child *next, *prev; /* in the ring of its scope: F1 */
    routine_scope_fn *fn;
    void *arg;
    rt_heritage *heritage; /* null: none */
    bool large;            /* malloc'ed; else in a control block, behind its word */
    bool begun;            /* the ring that it is in: F1 */
} rt_child;

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
    rt_child *fresh, *begun; /* rings of all children; who waits has found the latter begun */
    bool panicked;           /* a child has, and nobody has been told */
    rt_message *panic;       /* its text; null: there was no memory */
    const char *panic_where;
    uint64_t panic_id;
    rt_queue joiner; /* the owner, if it waits */
    rt_queue slots;  /* those who wait until one more child may be there */
    rt_child *above; /* on a walk: the child whose scope this is (F3) */
    /* under the owner's word's lock */
    struct rt_scope *next;
} rt_scope;

/* family.c: into the list of its owner's scopes, and out of it. */
void rt_family_enter(rt_scope *s);
void rt_family_leave(rt_scope *s);

/* family.c: cancels all children, and theirs. Under s->lock. *woken: whose waits were ended by that, for
 * rt_family_wake when the lock has been left: children that end need it. */
void rt_family_cancel(rt_scope *s, rt_block **woken);
void rt_family_wake(rt_block *woken);

#endif
