/* SPDX-License-Identifier: MIT
 *
 * Floor 5. The oneshot, for the handles of routines and for the public.
 *
 * `state` holds one of EMPTY, FULL, TAKEN, CLOSED, or the block that waits. There is one
 * receiver: a handle's is chosen by the handle's word, a public one by the
 * change of state. A handle has one sender, its routine, whose finish (run.c) is one
 * exchange. A public oneshot may be sent to by several by mistake: there a sender first wins
 * the bit SENDING, then writes the value, then exchanges for FULL, and never touches it again.
 */
#include "../../include/routines/oneshot.h"

#include <errno.h>

#include "routine.h"

_Static_assert(sizeof(routine_oneshot_t) == sizeof(rt_oneshot) &&
                   _Alignof(routine_oneshot_t) == _Alignof(rt_oneshot) &&
                   offsetof(routine_oneshot_t, state) == offsetof(rt_oneshot, state) &&
                   offsetof(routine_oneshot_t, value) == offsetof(rt_oneshot, value),
               "the public oneshot is the internal one");

static rt_oneshot *internal(routine_oneshot_t *o)
{
    return (rt_oneshot *)(void *)o;
}

static bool is_waiter(uintptr_t state)
{
    return (state & ~(uintptr_t)RT_ONESHOT_SENDING) > RT_ONESHOT_CLOSED;
}

/* A commit: the receiver is saved, and enters itself; not if the value has come. */
static bool enter(rt_block *me, void *arg)
{
    rt_oneshot *o = arg;
    uintptr_t state =
        atomic_load_explicit(&o->state, memory_order_relaxed); /* the compare-and-swap decides */
    do {
        if (state == RT_ONESHOT_FULL)
            return false;
        /* release: the sender readies a block that is saved. acquire for the value: rt_oneshot_wait's caller
         */
    } while (!atomic_compare_exchange_weak_explicit(&o->state, &state,
                                                    (uintptr_t)me | (state & RT_ONESHOT_SENDING),
                                                    memory_order_release, memory_order_relaxed));
    return true;
}

void rt_oneshot_wait(rt_oneshot *o)
{
    if (atomic_load_explicit(&o->state, memory_order_acquire) !=
        RT_ONESHOT_FULL) { /* pairs with the sender */
        rt_park(enter, o);
        atomic_load_explicit(&o->state, memory_order_acquire); /* FULL now: pairs with the sender */
    }
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
    /* A waiter has it from now on: TAKEN, so that no other receiver can come between. release: the value goes
     * with it; acquire: the waiter is saved. From then on the oneshot is the receiver's */
    state = RT_ONESHOT_SENDING;
    while (!atomic_compare_exchange_weak_explicit(&i->state, &state,
                                                  is_waiter(state) ? RT_ONESHOT_TAKEN : RT_ONESHOT_FULL,
                                                  memory_order_acq_rel, memory_order_relaxed))
        continue;
    if (is_waiter(state))
        rt_ready_block(
            (rt_block *)(state & ~(uintptr_t)RT_ONESHOT_SENDING)); // NOLINT(performance-no-int-to-ptr)
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
        /* release: as in enter */
    } while (!atomic_compare_exchange_weak_explicit(&o->state, &state,
                                                    (uintptr_t)me | (state & RT_ONESHOT_SENDING),
                                                    memory_order_release, memory_order_relaxed));
    return true;
}

int routine_oneshot_recv(routine_oneshot_t *o, void **value)
{
    if (!o)
        return -EINVAL;
    rt_oneshot *i = internal(o);
    if (atomic_load_explicit(&i->state, memory_order_acquire) !=
        RT_ONESHOT_FULL) { /* pairs with the sender */
        receiver r = {.oneshot = i};
        rt_park(enter_alone, &r);
        if (r.error)
            return r.error;
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
    /* a value is there or, for an instant, about to come: it is received and dropped */
    return routine_oneshot_recv(o, NULL);
}
