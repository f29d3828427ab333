/* SPDX-License-Identifier: MIT
 *
 * Floor 6. Channels: their life, and the calls that send and receive on one. The rules C are in chan.h.
 *
 * Small channels without a buffer stand in a control block, behind its word, as closures do: those come from
 * the worker's free list. Others are one malloc with their buffer behind them.
 */
#include "chan.h"

#include <stdlib.h>

#include "../base/panic.h"

_Static_assert(sizeof(chan_t) <= RT_COPY_MAX, "a channel fits into a control block");

/* Where the memory checker should see each channel as memory of its own, they do not come from the pool. */
#if defined(__SANITIZE_ADDRESS__)
#define POOLED false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOLED false
#endif
#endif
#ifndef POOLED
#define POOLED true
#endif

#define BUFFER_MOST ((size_t)PTRDIFF_MAX / 2)

void rt_chan_bad_size(const chan_t *ch, size_t size)
{
    rt_panic(
        "an element of %zu bytes was given to a channel whose elements have %zu: the pointer must point at "
        "the type that the channel was made for (of an array that is one element, write &array)",
        size, ch->size);
}

size_t rt_chan_buffer_size(size_t size, size_t slots)
{
    return size != 0 && slots > BUFFER_MOST / size ? 0 : size * slots;
}

void rt_chan_init(chan_t *ch, size_t size, size_t capacity)
{
    *ch = (chan_t){.size = size, .capacity = capacity};
    atomic_store_explicit(&ch->refs, 1, memory_order_relaxed); /* nobody else knows it */
    rt_bias_init(&ch->bias, rt_self()->seat);
}

/* One that stands in a control block. */
static chan_t *new_pooled(size_t size)
{
    rt_block *home = rt_free_get_any();
    if (!home)
        return NULL;
    chan_t *ch = (chan_t *)(void *)((char *)home + RT_COPY_OFFSET);
    rt_chan_init(ch, size, 0);
    ch->pooled = true;
    return ch;
}

chan_t *chan_new(size_t size, ptrdiff_t capacity)
{
    if (capacity < 0 || size > CHAN_ELEMENT_MAX)
        return NULL;
    if (POOLED && capacity == 0)
        return new_pooled(size);
    const bool unbounded = capacity == CHAN_UNBOUNDED;
    const size_t room = unbounded ? rt_chan_first_room(size) : (size_t)capacity;
    const size_t bytes = rt_chan_buffer_size(size, room);
    if (bytes == 0 && size != 0 && room != 0)
        return NULL;
    chan_t *ch = malloc(sizeof *ch + (unbounded ? 0 : bytes));
    if (!ch)
        return NULL;
    rt_chan_init(ch, size, (size_t)capacity);
    ch->room = room;
    ch->buffer = (char *)(ch + 1);
    if (unbounded && !(ch->buffer = malloc(bytes ? bytes : 1))) {
        free(ch);
        return NULL;
    }
    return ch;
}

/* Gives an unbounded channel a buffer of so many slots. */
static int resize(chan_t *ch, size_t room)
{
    const size_t bytes = rt_chan_buffer_size(ch->size, room);
    if (bytes == 0 && ch->size != 0)
        return -ENOMEM;
    char *buffer = malloc(bytes ? bytes : 1);
    if (!buffer)
        return -ENOMEM;
    const size_t count = rt_chan_count(ch), upper = ch->room - ch->first;
    if (count <= upper) {
        if (count)
            memcpy(buffer, rt_chan_slot(ch, ch->first), count * ch->size);
    } else {
        memcpy(buffer, rt_chan_slot(ch, ch->first), upper * ch->size);
        memcpy(buffer + upper * ch->size, ch->buffer, (count - upper) * ch->size);
    }
    free(ch->buffer);
    ch->buffer = buffer;
    ch->room = room;
    ch->first = 0;
    return 0;
}

int rt_chan_grow(chan_t *ch)
{
    return resize(ch, 2 * ch->room);
}

void rt_chan_shrink(chan_t *ch)
{
    const size_t first = rt_chan_first_room(ch->size);
    /* one that swings between empty and a few dozen keeps what it has; without memory it stays as it is */
    if (ch->room > 16 * first)
        (void)resize(ch, first);
}

chan_t *chan_ref(chan_t *ch)
{
    if (ch)
        atomic_fetch_add_explicit(&ch->refs, 1,
                                  memory_order_relaxed); /* the caller's own one keeps it alive */
    return ch;
}

void chan_unref(chan_t *ch)
{
    if (!ch)
        return;
    /* acquire: the last one sees what the others did; release: and they did it before. A sole owner needs no
     * exchange */
    const uint32_t refs = atomic_load_explicit(&ch->refs, memory_order_acquire);
    if (RT_UNLIKELY(refs == 0))
        rt_panic("chan_unref() of a channel that is gone: each reference (of chan_new, and of each chan_ref) "
                 "is dropped once");
    if (refs != 1 && atomic_fetch_sub_explicit(&ch->refs, 1, memory_order_acq_rel) != 1)
        return;
    atomic_store_explicit(&ch->refs, 0, memory_order_relaxed); /* nobody else uses it */
    if (!rt_queue_is_empty(&ch->senders) || !rt_queue_is_empty(&ch->receivers))
        rt_panic(
            "the last reference to a channel was dropped while somebody waits on it: whoever uses a channel "
            "needs a reference that lasts so long (chan_ref)");
    if (RT_UNLIKELY(ch->kind != RT_CHAN_PLAIN))
        rt_broadcast_gone((rt_broadcast *)(void *)ch);
    rt_bias_end(&ch->bias, rt_self()->seat);
    if (ch->pooled) {
        rt_free_any((rt_block *)(void *)((char *)ch - RT_COPY_OFFSET));
        return;
    }
    if (ch->capacity == (size_t)CHAN_UNBOUNDED)
        free(ch->buffer);
    free(ch);
}

ptrdiff_t chan_len(const chan_t *ch)
{
    return ch ? (ptrdiff_t)rt_chan_count(ch) : 0;
}

ptrdiff_t chan_cap(const chan_t *ch)
{
    return ch ? (ptrdiff_t)ch->capacity : 0;
}

/* Under the lock: waits in the queue until somebody has served it, or it has given up; and leaves. */
static RT_NOINLINE int wait_in(chan_t *ch, rt_queue *q, void *data, rt_seat *how)
{
    rt_waiter w = {.who = rt_me(), .data = data, .result = RT_PENDING};
    rt_queue_append(q, &w);
    int rc = rt_wait_inside(&ch->bias, how, &w);
    if (RT_LIKELY(rc == 0))
        rc = w.result;
    else
        rt_give_up(&ch->bias, q, &w);
    rt_leave();
    return rc;
}

/* Not one that waited has been woken, or one. Leaves. */
RT_INLINE void wake_and_leave(rt_thread *t, rt_block *wake)
{
    if (wake)
        rt_ready_block(wake);
    rt_leave_as(t);
}

/* The sends that are not a plain channel's. */
static RT_COLD int send_special(chan_t *ch, const void *element)
{
    if (ch->kind != RT_CHAN_BROADCAST)
        return -EPERM;
    (void)rt_enter();
    const int rc = rt_broadcast_send((rt_broadcast *)(void *)ch, element);
    rt_leave();
    return rc;
}

int chan_send_sized(chan_t *ch, const void *element, size_t size)
{
    if (RT_UNLIKELY(!ch))
        return -EINVAL;
    rt_chan_check_size(ch, size);
    rt_thread *t = rt_self();
    const int stop = rt_frame_stop(t->current);
    if (RT_UNLIKELY(stop != 0))
        return stop;
    if (RT_UNLIKELY(ch->kind != RT_CHAN_PLAIN))
        return send_special(ch, element);
    rt_block *wake;
    rt_enter_as(t);
    rt_seat *how = rt_bias_enter(&ch->bias, t->seat);
    const int rc = rt_chan_send_now(ch, element, &wake);
    if (RT_UNLIKELY(rc == -EAGAIN))
        return wait_in(ch, &ch->senders, (void *)(uintptr_t)element,
                       how); // NOLINT(performance-no-int-to-ptr)
    rt_bias_leave(&ch->bias, how);
    wake_and_leave(t, wake);
    return rc;
}

int chan_try_send_sized(chan_t *ch, const void *element, size_t size)
{
    if (RT_UNLIKELY(!ch))
        return -EINVAL;
    rt_chan_check_size(ch, size);
    if (RT_UNLIKELY(ch->kind != RT_CHAN_PLAIN))
        return send_special(ch, element);
    if (!rt_chan_may_send(ch))
        return -EAGAIN;
    rt_block *wake;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&ch->bias, t->seat);
    const int rc = rt_chan_send_now(ch, element, &wake);
    rt_bias_leave(&ch->bias, how);
    wake_and_leave(t, wake);
    return rc;
}

/* Under the lock, after a receive: its result, if it is a subscription. */
RT_INLINE int told(chan_t *ch, int rc)
{
    if (RT_UNLIKELY(ch->kind == RT_CHAN_SUBSCRIPTION) && rc == 0)
        return rt_broadcast_tell((rt_broadcast *)(void *)ch);
    return rc;
}

int chan_recv_sized(chan_t *ch, void *element, size_t size)
{
    if (RT_UNLIKELY(!ch))
        return -EINVAL;
    rt_chan_check_size(ch, size);
    if (RT_UNLIKELY(ch->kind == RT_CHAN_BROADCAST))
        return -EPERM;
    rt_thread *t = rt_self();
    const int stop = rt_frame_stop(t->current);
    if (RT_UNLIKELY(stop != 0))
        return stop;
    rt_block *wake;
    rt_enter_as(t);
    rt_seat *how = rt_bias_enter(&ch->bias, t->seat);
    int rc = rt_chan_recv_now(ch, element, &wake);
    if (RT_UNLIKELY(rc == -EAGAIN))
        return wait_in(ch, &ch->receivers, element, how);
    rc = told(ch, rc);
    rt_bias_leave(&ch->bias, how);
    wake_and_leave(t, wake);
    return rc;
}

int chan_try_recv_sized(chan_t *ch, void *element, size_t size)
{
    if (RT_UNLIKELY(!ch))
        return -EINVAL;
    rt_chan_check_size(ch, size);
    if (RT_UNLIKELY(ch->kind == RT_CHAN_BROADCAST))
        return -EPERM;
    if (!rt_chan_may_recv(ch))
        return -EAGAIN;
    rt_block *wake;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&ch->bias, t->seat);
    const int rc = told(ch, rt_chan_recv_now(ch, element, &wake));
    rt_bias_leave(&ch->bias, how);
    wake_and_leave(t, wake);
    return rc;
}

int rt_chan_shut(chan_t *ch)
{
    rt_waiter *woken = NULL;
    rt_seat *how = rt_bias_enter(&ch->bias, rt_self()->seat);
    const bool before = rt_chan_is_closed(ch);
    if (!before) {
        atomic_store_explicit(&ch->closed, true, memory_order_relaxed); /* C3, C4 */
        rt_queue_take_all(&ch->senders, -EPIPE, rt_queue_take_all(&ch->receivers, -EPIPE, &woken));
    }
    rt_bias_leave(&ch->bias, how);
    rt_ready_all(woken);
    return before ? -EPIPE : 0;
}

int chan_close(chan_t *ch)
{
    if (!ch)
        return -EINVAL;
    if (ch->kind == RT_CHAN_SUBSCRIPTION)
        return -EPERM;
    (void)rt_enter();
    const int rc =
        ch->kind == RT_CHAN_BROADCAST ? rt_broadcast_close((rt_broadcast *)(void *)ch) : rt_chan_shut(ch);
    rt_leave();
    return rc;
}
