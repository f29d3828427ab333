/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Joining, detaching, and the in-place run of a child by its joiner.
 *
 * The right to the handle and the right to start the routine are bits of one word, so one
 * compare-and-swap takes both (R3, R14). Having won them the joiner calls the
 * child on its own stack: sound, since it waits for exactly this child. Never is another
 * routine run on a waiting one's stack.
 *
 * The child's START entry is then taken out of the deque if it is the newest there, which it
 * usually is, or near either end; else it stays behind as a tombstone (R1, R2). The compare-and-swap on
 * the word is also the barrier that taking it out needs (deque.h, D3).
 *
 * The child is a routine of its own while it runs in place: it has its own block, which
 * is the current one of the thread, and may park, in which case the whole stack parks with it.
 * What tells them apart is `parent`, the joiner (R9).
 */
#include "routine.h"

#include <errno.h>

#include "../context/context.h"
#include "../os/clock.h"

/* A child is run in place only if its whole promise is left below the joiner's frame, and this for the calls
 * between (R5). */
#define RED_ZONE ((size_t)2048)

#define BREATHE_CANCELED 32 /* children in a row that were cancelled before they began */

RT_INLINE bool has_room_for(const rt_thread *t, uint32_t stack_pages)
{
    const size_t room = (size_t)((char *)__builtin_frame_address(0) - t->stack->low);
    return room >= (size_t)stack_pages * RT_STACK_UNIT + RED_ZONE;
}

RT_INLINE bool has_room(const rt_thread *t, const rt_block *child)
{
    return has_room_for(t, child->attr.stack_pages);
}

/* Runs the claimed child on the stack of `me`, the current routine, outside. Thread and worker may be others
 * afterwards, inside again: *at says which; it may have no worker any more. */
RT_INLINE void *run_in_place(rt_thread **at, rt_block *me, rt_block *child)
{
    rt_thread *t = *at;
    child->parent = me;
    rt_counter_add_release(&t->worker->counts.in_place, 1);
    t->current = child;
    rt_leave_as(t);
    void *result = rt_context_call(&child->mark, child->fn, child->arg);
    t = rt_enter();
    if (RT_UNLIKELY(!t->worker) && t->forked)
        rt_run_forked(child);
    if (RT_UNLIKELY(child->attr.flags)) {
        rt_run_cleanup(child, result);
        t = rt_self();
        if (t->forked) /* by a destructor */
            rt_run_forked(child);
    }
    t->current = me;
    *at = t;
    return result;
}

/* Now and then the worker looks whether anybody else is ready (R8). */
RT_INLINE bool breath_is_due(const rt_worker *w)
{
    return atomic_load_explicit(&w->counts.in_place_ended, memory_order_relaxed) >= w->breathe_at; /* own */
}

RT_INLINE void breathe_sometimes(const rt_worker *w)
{
    if (RT_LIKELY(w != NULL) && RT_UNLIKELY(breath_is_due(w)))
        rt_breathe();
}

static RT_COLD int breathe_and_leave(void)
{
    rt_breathe();
    rt_leave();
    return 0;
}

/* After the in-place run: counts it, and now and then lets others run. */
RT_INLINE void ended_in_place(rt_worker *w)
{
    if (RT_LIKELY(w != NULL))
        rt_counter_add_release(&w->counts.in_place_ended, 1);
    else
        RT_COUNT(rt_self(), in_place_ended);
    breathe_sometimes(w);
}

/* What a routine that is over has left: its result, or the text of its panic. */
static int deliver(int status, void *value, void **result)
{
    if (RT_UNLIKELY(status == -ENOTRECOVERABLE))
        rt_panic_hear(value);
    else if (result && status == 0)
        *result = value;
    return status;
}

/* The result of a finished routine whose handle is ours; the block is released. */
static int take_result(rt_block *r, void **result)
{
    const int status = r->attr.status;
    void *value = r->done.value;
    rt_release(r);
    return deliver(status, value, result);
}

/* The handle is ours. A joiner whose limit passes gives it back. */
static int wait_for(rt_block *r, void **result)
{
    const rt_block *me = rt_self()->current;
    const int64_t limit = me ? rt_frame_limit(me) : INT64_MAX;
    const int rc = rt_oneshot_wait(&r->done, limit);
    if (RT_LIKELY(rc == 0))
        return take_result(r, result);
    /* release: the next one to claim it comes after this */
    atomic_fetch_and_explicit(&r->word, ~(uint64_t)RT_CLAIMED, memory_order_release);
    return rc;
}

/* The child is claimed by the joiner, but is not to run on its stack: it runs next, on one of its own. */
static RT_COLD int run_next(rt_block *child, void **result)
{
    /* inside since it was claimed: there is a worker */
    rt_worker *w = rt_self()->worker;
    if (rt_ready_enter_soon(&w->ready)) {
        rt_ready_put_next(&w->ready, child);
        rt_ready_leave(&w->ready);
        rt_notify(w);
    } else {
        rt_spill(w, child);
    }
    return wait_for(child, result);
}

/* Where `r` runs: an address on that stack; anything, if it does not. */
RT_UNWATCHED const char *runs_at(const rt_block *r)
{
    return *(void *const volatile *)&r->mark;
}

/* Has `r` the calling routine somewhere below it on this stack, waiting? Those on it may be thousands. */
static bool is_waiting_for_me(const rt_thread *t, const rt_block *r)
{
    if (!rt_is_routine(t) || (r != t->current && (runs_at(r) < t->stack->low || runs_at(r) > t->stack->high)))
        return false;
    for (const rt_block *p = t->current; p; p = p->parent)
        if (p == r)
            return true;
    return false;
}

/* Wins the handle, with `flags` (CLAIMED, and perhaps DETACHED) set in the word; and if `start` and it has
 * not been started, the right to start it too. Returns 0 and the word as it was, or a negative errno. */
static int claim_handle(rt_block *r, uint64_t id, uint64_t flags, bool start, uint64_t *before)
{
    uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire), wanted;
    do {
        if (RT_WORD_ID(word) != id || word & (RT_DETACHED | RT_RELEASED))
            return -ESRCH;
        if (word & RT_CLAIMED)
            return -EBUSY;
        wanted = word | flags | (start ? RT_STARTED : 0);
        /* acquire: pairs with go's publication; release: with the one who starts or recycles it */
    } while (!atomic_compare_exchange_weak_explicit(&r->word, &word, wanted, memory_order_acq_rel,
                                                    memory_order_acquire));
    *before = word;
    return 0;
}

static int no_block(routine_t h)
{
    return h.id ? -(int)h.id : -ESRCH;
}

/* Inside. */
static int join_any(rt_thread *t, routine_t h, void **result)
{
    rt_block *r = h.block;
    if (!r)
        return no_block(h);
    rt_worker *w = t->worker;
    if (is_waiting_for_me(t, r) && RT_WORD_ID(atomic_load_explicit(&r->word, memory_order_relaxed)) == h.id)
        return -EDEADLK;

    /* R14; a routine of another runtime is not run here. With a limit it has to be a wait */
    const bool limited = t->current && t->current->attr.flags & RT_FLAG_LIMIT;
    const bool here = w && !limited && rt_block_runtime(r) == w->runtime;
    if (limited && rt_frame_limit(t->current) <= rt_clock_now()) {
        const int rc = routine_try_join(h, result);
        if (rc != -EAGAIN)
            return rc;
        rt_frame_expire(t->current);
        return -ETIMEDOUT;
    }
    uint64_t before;
    const int rc = claim_handle(r, h.id, RT_CLAIMED, here, &before);
    if (rc != 0)
        return rc;
    if (!here || before & RT_STARTED)
        return wait_for(r, result);

    w->dead++; /* its entry stays behind, most likely in this worker's deque */
    if (before & RT_CANCEL) {
        rt_counter_add_release(&w->counts.in_place, 1);
        rt_run_drop_copy(r);
        rt_counter_add_release(&w->counts.in_place_ended, 1);
        rt_counter_add_release(&w->counts.cancelled, 1);
        rt_release(r);
        breathe_sometimes(w);
        return -ECANCELED;
    }
    if (!has_room(t, r))
        return run_next(r, result);
    void *value = run_in_place(&t, t->current, r);
    const int status = r->attr.status;
    rt_release(r);
    ended_in_place(t->worker);
    return deliver(status, value, result);
}

static RT_NOINLINE int join_slow(rt_thread *t, routine_t h, void **result)
{
    const int rc = join_any(t, h, result);
    rt_leave();
    return rc;
}

/* The short way's claim: wins the start of a child that nothing has happened to yet but `flags`, and with
 * CLAIMED the handle. Its entry is taken out if that is easy: *entry_gone. False: lost, nothing changed. */
RT_INLINE bool claim_fresh(rt_worker *w, rt_block *r, uint64_t id, uint64_t flags, bool newest,
                           bool *entry_gone)
{
    rt_deque_taking taking = {0};
    uint64_t word = RT_WORD(id, RT_ENTRY | flags);
    if (newest)
        taking = rt_deque_take_begin(&w->deque);
    /* seq_cst: the barrier of D3. acquire and release as in claim_handle. ENTRY stays: *entry_gone tells */
    const bool won = atomic_compare_exchange_strong_explicit(&r->word, &word, word | RT_STARTED | RT_CLAIMED,
                                                             memory_order_seq_cst, memory_order_relaxed);
    if (RT_UNLIKELY(!won)) {
        if (newest) {
            rt_deque_take_abandon(&w->deque, taking);
            rt_notify(w); /* it was hidden for a moment */
        }
        return false;
    }
    if (newest) {
        *entry_gone = rt_deque_take_end(&w->deque, taking);
    } else {
        *entry_gone = rt_deque_remove(&w->deque, r);
        w->dead += !*entry_gone;
    }
    return true;
}

/* Is claim_fresh worth a try? A compare-and-swap that fails costs as much as one that does not. */
RT_INLINE bool is_fresh(const rt_block *r, uint64_t id, uint64_t flags)
{
    return atomic_load_explicit(&r->word, memory_order_relaxed) == RT_WORD(id, RT_ENTRY | flags); /* a hint */
}

/* The short way's ends where there is more to do than usual. */

static RT_COLD int too_large_for_here(rt_block *r, bool entry_gone, void **result)
{
    if (entry_gone) /* acq_rel: as every change of the word */
        atomic_fetch_and_explicit(&r->word, ~(uint64_t)RT_ENTRY, memory_order_acq_rel);
    const int rc = run_next(r, result);
    rt_leave();
    return rc;
}

static RT_COLD int ended_with_more(rt_worker *w, rt_block *r, bool entry_gone, void *value, void **result)
{
    const int status = r->attr.status;
    if (entry_gone)
        rt_recycle(r);
    else
        rt_release(r);
    if (w && w->dead != 0)
        rt_bury(w);
    ended_in_place(w);
    rt_leave();
    return deliver(status, value, result);
}

int rt_join_told(rt_block *r, uint64_t id, uint32_t stack_pages)
{
    rt_thread *t = rt_self();
    rt_worker *w = t->worker;
    if (!has_room_for(t, stack_pages))
        return RT_NOT_HERE;
    const bool newest = rt_deque_is_newest(&w->deque, r);
    bool entry_gone = false;
    if (!(newest || is_fresh(r, id, RT_CLAIMED | RT_DETACHED)) ||
        !claim_fresh(w, r, id, RT_CLAIMED | RT_DETACHED, newest, &entry_gone)) {
        uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire);
        do
            if (RT_WORD_ID(word) != id || word & RT_STARTED)
                return RT_BEGUN;
        /* as in claim_handle */
        while (!atomic_compare_exchange_weak_explicit(&r->word, &word, word | RT_STARTED,
                                                      memory_order_acq_rel, memory_order_acquire));
        w->dead++; /* its entry stays behind */
        if (word & RT_CANCEL) {
            rt_run_fail(r, -ECANCELED);
            if (++w->tick % BREATHE_CANCELED == 0) /* R8: this is not counted as a run in place */
                rt_breathe();
            return RT_RAN;
        }
    }
    (void)run_in_place(&t, t->current, r); /* what it has returned was told */
    w = t->worker;
    if (entry_gone)
        rt_recycle(r);
    else
        rt_release(r);
    if (w && w->dead != 0)
        rt_bury(w);
    ended_in_place(w);
    return RT_RAN;
}

int routine_join(routine_t h, void **result)
{
    rt_block *r = h.block;
    rt_thread *t = rt_enter();
    rt_worker *w = t->worker;
    /* The short way: a child that nothing has happened to yet. Its entry is mostly the newest on this
     * worker's deque, or, where children are joined in the order of their start, not far from there, or the
     * oldest. A routine of another runtime is not run here (R14). */
    if (RT_UNLIKELY(!w))
        return join_slow(t, h, result);
    rt_block *me = t->current;
    const bool newest = rt_deque_is_newest(&w->deque, r);
    bool entry_gone;
    if (RT_UNLIKELY(!r) || RT_UNLIKELY(!newest && !is_fresh(r, h.id, 0)) ||
        RT_UNLIKELY(rt_block_runtime(r) != w->runtime) || RT_UNLIKELY(me->attr.flags & RT_FLAG_LIMIT) ||
        RT_UNLIKELY(!claim_fresh(w, r, h.id, 0, newest, &entry_gone)))
        return join_slow(t, h, result);
    if (RT_UNLIKELY(!has_room(t, r)))
        return too_large_for_here(r, entry_gone, result);
    void *value = run_in_place(&t, me, r);
    w = t->worker;
    if (RT_UNLIKELY(r->attr.flags & (RT_FLAG_EXTRA | RT_FLAG_PANIC)) || RT_UNLIKELY(!w))
        return ended_with_more(w, r, entry_gone, value, result);
    if (result)
        *result = value;
    if (RT_LIKELY(entry_gone)) {
        /* It is blank but for its word. release: what was read of this incarnation was read before. A plain
         * store: a compare-and-swap on the old id either came before, and is void, or fails (R3) */
        atomic_store_explicit(&r->word, 0, memory_order_release);
        rt_free_put(w, r);
    } else {
        rt_release(r);
    }
    if (RT_UNLIKELY(w->dead != 0))
        rt_bury(w);
    rt_counter_add_release(&w->counts.in_place_ended, 1);
    if (RT_UNLIKELY(breath_is_due(w)))
        return breathe_and_leave();
    rt_leave_as(t);
    return 0;
}

int routine_try_join(routine_t h, void **result)
{
    rt_block *r = h.block;
    uint64_t before;
    if (!r)
        return no_block(h);
    const uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire);
    if (RT_WORD_ID(word) != h.id || word & (RT_DETACHED | RT_RELEASED))
        return -ESRCH;
    if (word & RT_CLAIMED)
        return -EBUSY;
    if (is_waiting_for_me(rt_self(), r))
        return -EDEADLK;
    /* acquire: pairs with finish. A state of another incarnation is found out by the claim */
    if (atomic_load_explicit(&r->done.state, memory_order_acquire) != RT_ONESHOT_FULL)
        return -EAGAIN;
    const int rc = claim_handle(r, h.id, RT_CLAIMED, false, &before);
    return rc != 0 ? rc : take_result(r, result);
}

int routine_detach(routine_t h)
{
    rt_block *r = h.block;
    uint64_t before;
    if (!r)
        return no_block(h);
    const int rc = claim_handle(r, h.id, RT_CLAIMED | RT_DETACHED, false, &before);
    if (rc != 0)
        return rc;
    uintptr_t empty = RT_ONESHOT_EMPTY;
    /* of this and finish the later one releases; acq_rel: after all that the other did */
    if (!atomic_compare_exchange_strong_explicit(&r->done.state, &empty, RT_ONESHOT_CLOSED,
                                                 memory_order_acq_rel, memory_order_acquire)) {
        if (RT_UNLIKELY(r->attr.status == -ENOTRECOVERABLE))
            rt_panic_unjoined(r, r->done.value);
        rt_release(r);
    }
    return 0;
}
