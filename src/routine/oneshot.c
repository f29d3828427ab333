/* SPDX-License-Identifier: MIT
 *
 * Floor 5. The oneshot, for the handles of routines and for the public.
 *
 * `state` holds one of EMPTY, FULL, TAKEN, CLOSED, or the block that waits. There is one
 * receiver: a handle's is chosen by the handle's word, a public one by the
 * change of state. A handle has one sender, its routine, whose finish (run.c) is one
 * exchange. A public oneshot may be sent to by several by mistake: there a sender first wins
 * the bit SENDING, then writes the value, then exchanges for FULL, and never touches it again.
 *
 * Who joins without a limit of time is made ready by the sender and nobody else. All others wait with SHARED
 * beside their address: the sender holds SENDING, so the waiter can't leave meanwhile, and has to win
 * its wait (wait.h); a waiter that has given up takes its address out again, and if it finds SENDING, it
 * stays until the value is there, and has it.
 */
#include "../../include/routines/oneshot.h"

#include <errno.h>

#include "../os/clock.h"
#include "routine.h"

_Static_assert(sizeof(routine_oneshot_t) == sizeof(rt_oneshot) &&
                   _Alignof(routine_oneshot_t) == _Alignof(rt_oneshot) &&
                   offsetof(routine_oneshot_t, state) == offsetof(rt_oneshot, state) &&
                   offsetof(routine_oneshot_t, value) == offsetof(rt_oneshot, value),
               "the public oneshot is the internal one");

rt_block rt_oneshot_nobody;

static rt_oneshot *internal(routine_oneshot_t *o)
{
    return (rt_oneshot *)(void *)o;
}

#define FLAGS ((uintptr_t)(RT_ONESHOT_SENDING | RT_ONESHOT_SHARED))

static bool is_waiter(uintptr_t state)
{
    return (state & ~FLAGS) > RT_ONESHOT_CLOSED;
}

static rt_block *waiter_of(uintptr_t state)
{
    return (rt_block *)(state & ~FLAGS); // NOLINT(performance-no-int-to-ptr)
}

/* The receiver is saved, and enters itself; not if the value has come. */
RT_INLINE bool enter_as(rt_oneshot *o, uintptr_t me)
{
    uintptr_t state =
        atomic_load_explicit(&o->state, memory_order_relaxed); /* the compare-and-swap decides */
    do {
        if (state == RT_ONESHOT_FULL)
            return false;
        /* release: the sender readies a block that is saved. acquire for the value: rt_oneshot_wait's caller
         */
    } while (!atomic_compare_exchange_weak_explicit(&o->state, &state, me | (state & RT_ONESHOT_SENDING),
                                                    memory_order_release, memory_order_relaxed));
    return true;
}

/* Commits. */

static bool enter(rt_block *me, void *arg)
{
    return enter_as(arg, (uintptr_t)me);
}

static bool enter_shared(rt_block *me, void *arg)
{
    return enter_as(arg, (uintptr_t)me | RT_ONESHOT_SHARED);
}

/* Until no sender is between its two steps: a few instructions, unless its thread has no CPU. */
static void await_sender(const rt_oneshot *o)
{
    /* acquire: pairs with the sender's second step */
    for (int i = 0; atomic_load_explicit(&o->state, memory_order_acquire) & RT_ONESHOT_SENDING; i++)
        if (i < 100)
            rt_relax();
        else
            rt_clock_nap(10 * INT64_C(1000));
}

/* The waiter has given up: takes itself out. False: it cannot, since the value has come, or will at once. */
static bool withdraw(rt_oneshot *o, rt_block *me)
{
    uintptr_t state = (uintptr_t)me | RT_ONESHOT_SHARED;
    /* relaxed: nothing goes with it */
    if (atomic_compare_exchange_strong_explicit(&o->state, &state, RT_ONESHOT_EMPTY, memory_order_relaxed,
                                                memory_order_relaxed))
        return true;
    await_sender(o);
    return false;
}

int rt_oneshot_wait(rt_oneshot *o, int64_t limit)
{
    if (atomic_load_explicit(&o->state, memory_order_acquire) == RT_ONESHOT_FULL) /* pairs with the sender */
        return 0;
    int rc = 0;
    if (RT_LIKELY(limit == INT64_MAX))
        rt_park(enter, o);
    else if ((rc = rt_wait(enter_shared, o, limit, true)) != 0 && !withdraw(o, rt_me()))
        rc = 0;
    atomic_load_explicit(&o->state, memory_order_acquire); /* FULL now: pairs with the sender */
    if (rc != 0)
        rt_frame_expire(rt_me());
    return rc != 0 ? -ETIMEDOUT : 0;
}

rt_block *rt_oneshot_fill(rt_oneshot *o)
{
    uintptr_t state = atomic_load_explicit(&o->state, memory_order_relaxed),
              wanted; /* the next one decides */
    do
        wanted = RT_UNLIKELY(state & RT_ONESHOT_SHARED) ? state | RT_ONESHOT_SENDING : RT_ONESHOT_FULL;
    /* release: the result goes with it; acquire: what the waiter or the one who detached it did comes first
     */
    while (!atomic_compare_exchange_weak_explicit(&o->state, &state, wanted, memory_order_acq_rel,
                                                  memory_order_relaxed));
    if (RT_UNLIKELY(wanted != RT_ONESHOT_FULL)) {
        rt_block *waiter = waiter_of(state);
        const bool won = rt_wait_win(waiter);
        /* release: as above. From here on the waiter may be gone, if it was not won */
        atomic_store_explicit(&o->state, RT_ONESHOT_FULL, memory_order_release);
        return won ? waiter : NULL;
    }
    return is_waiter(state) ? waiter_of(state) : state == RT_ONESHOT_CLOSED ? &rt_oneshot_nobody : NULL;
}

void routine_oneshot_init(routine_oneshot_t *o)
{
    rt_oneshot *i = internal(o);
    i->value = NULL;
    atomic_store_explicit(&i->state, RT_ONESHOT_EMPTY, memory_order_release);
}

int routine_oneshot_send(routine_oneshot_t *o, void *value)
{
    if (!o)
        return -EINVAL;
    rt_oneshot *i = internal(o);
    uintptr_t state =
        atomic_load_explicit(&i->state, memory_order_relaxed); /* the compare-and-swap decides */
    do {
        if (state == RT_ONESHOT_CLOSED)
            return -EPIPE;
        if (state == RT_ONESHOT_FULL || state == RT_ONESHOT_TAKEN || state & RT_ONESHOT_SENDING)
            return -EALREADY;
        /* acquire: the value is ours to write */
    } while (!atomic_compare_exchange_weak_explicit(&i->state, &state, state | RT_ONESHOT_SENDING,
                                                    memory_order_acquire, memory_order_relaxed));
    i->value = value;
    /* A receiver may have come meanwhile, but none can leave now. If its wait is won it has the value from
     * now on: TAKEN, so that no other receiver can come between. release: the value goes with it; acquire:
     * the waiter is saved. From then on the oneshot is the receiver's */
    rt_block *wake = NULL;
    state = atomic_load_explicit(&i->state, memory_order_acquire);
    do
        if (!wake && is_waiter(state) && (!(state & RT_ONESHOT_SHARED) || rt_wait_win(waiter_of(state))))
            wake = waiter_of(state);
    while (!atomic_compare_exchange_weak_explicit(&i->state, &state,
                                                  wake ? RT_ONESHOT_TAKEN : RT_ONESHOT_FULL,
                                                  memory_order_acq_rel, memory_order_acquire));
    if (wake)
        rt_ready_outside(wake);
    return 0;
}

/* The value has come, or a sender is at it: becomes the one who takes it. */
static int take(rt_oneshot *i, void **value)
{
    void *found = i->value;
    uintptr_t full = RT_ONESHOT_FULL;
    /* of two receivers one gets it; acquire was done by the caller */
    if (!atomic_compare_exchange_strong_explicit(&i->state, &full, RT_ONESHOT_TAKEN, memory_order_relaxed,
                                                 memory_order_relaxed))
        return -EPIPE;
    if (value)
        *value = found;
    return 0;
}

typedef struct {
    rt_oneshot *oneshot;
    bool waited; /* then the value is its own */
    int error;
} receiver;

/* A commit: as enter, but there may be another receiver. */
static bool enter_alone(rt_block *me, void *arg)
{
    receiver *r = arg;
    rt_oneshot *o = r->oneshot;
    uintptr_t state =
        atomic_load_explicit(&o->state, memory_order_relaxed); /* the compare-and-swap decides */
    r->waited = true; /* before it is published: afterwards the receiver may be gone */
    do {
        if (state == RT_ONESHOT_TAKEN || state == RT_ONESHOT_CLOSED)
            r->error = -EPIPE;
        else if (is_waiter(state))
            r->error = -EBUSY;
        if (r->error || state == RT_ONESHOT_FULL) {
            r->waited = false;
            return false;
        }
        /* release: as in enter_as */
    } while (!atomic_compare_exchange_weak_explicit(
        &o->state, &state, (uintptr_t)me | RT_ONESHOT_SHARED | (state & RT_ONESHOT_SENDING),
        memory_order_release, memory_order_relaxed));
    return true;
}

int routine_oneshot_recv(routine_oneshot_t *o, void **value)
{
    if (!o)
        return -EINVAL;
    rt_oneshot *i = internal(o);
    const int stop = rt_frame_stop(rt_self()->current);
    if (stop != 0)
        return stop;
    if (atomic_load_explicit(&i->state, memory_order_acquire) !=
        RT_ONESHOT_FULL) { /* pairs with the sender */
        receiver r = {.oneshot = i};
        (void)rt_enter();
        const int rc = rt_wait(enter_alone, &r, INT64_MAX, false);
        rt_leave();
        if (r.error)
            return r.error;
        if (rc != 0)
            return withdraw(i, rt_me()) || take(i, value) != 0 ? rc : 0; /* another may have been faster */
        atomic_load_explicit(&i->state, memory_order_acquire); /* FULL or TAKEN now: pairs with the sender */
        if (r.waited) {
            if (value)
                *value = i->value;
            return 0;
        }
    }
    return take(i, value);
}

int routine_oneshot_try_recv(routine_oneshot_t *o, void **value)
{
    if (!o)
        return -EINVAL;
    rt_oneshot *i = internal(o);
    const uintptr_t state = atomic_load_explicit(&i->state, memory_order_acquire); /* pairs with the sender */
    if (state == RT_ONESHOT_FULL)
        return take(i, value);
    if (is_waiter(state))
        return -EBUSY;
    return state == RT_ONESHOT_TAKEN || state == RT_ONESHOT_CLOSED ? -EPIPE : -EAGAIN;
}

int routine_oneshot_close(routine_oneshot_t *o)
{
    if (!o)
        return -EINVAL;
    rt_oneshot *i = internal(o);
    uintptr_t state = RT_ONESHOT_EMPTY;
    /* relaxed: nothing goes with it */
    if (atomic_compare_exchange_strong_explicit(&i->state, &state, RT_ONESHOT_CLOSED, memory_order_relaxed,
                                                memory_order_relaxed))
        return 0;
    if (is_waiter(state))
        return -EBUSY;
    await_sender(i); /* a value is there or, for an instant, about to come: it is received and dropped */
    return take(i, NULL);
}
