/* SPDX-License-Identifier: MIT
 *
 * Floor 6. What the files of this room share: the channel itself, and the attempts to send and receive on one
 * whose lock is held.
 *
 *  C1 Senders wait only while the buffer is full, receivers only while it is empty; so never does a
 *     buffered element pass an older one, nor a receiver one that waits. On a rendezvous the buffer is
 *     full and empty.
 *  C2 Whoever finds a waiter on the other side hands over straight from variable to variable, and
 *     wakes it when the lock has been left.
 *  C3 closed is set once. From then on nobody waits: whoever did was woken by the close.
 *  C4 Without the lock a channel is seen as not ready by reading, in this order: the count, the queue
 *     of the other side, closed. If all three say no, there was a moment at which a try under the lock
 *     would have failed: with a buffer that of the first read, on a rendezvous that of the second (C1),
 *     since closed, read last, was false then too. So the count never dips while an element is replaced
 *     by another.
 */
#ifndef RT_COMM_CHAN_H
#define RT_COMM_CHAN_H

#include <errno.h>
#include <string.h>

#include "../../include/routines/chan.h"
#include "../sched/scheduler.h"

/* chan.kind */
enum {
    RT_CHAN_PLAIN,
    RT_CHAN_BROADCAST,   /* no elements of its own; has subscribers */
    RT_CHAN_SUBSCRIPTION /* sent to by its broadcast only, and then never full */
};

struct chan {
    rt_bias bias;
    _Atomic uint32_t refs;
    uint8_t kind;         /* constant, as size, capacity and pooled */
    bool pooled;          /* it stands in a control block */
    _Atomic bool closed;  /* under the lock; C4 */
    _Atomic size_t count; /* elements in the buffer: under the lock; C4 */
    size_t size;
    size_t capacity;
    /* under the lock */
    size_t room;  /* slots of the buffer: capacity, but for unbounded ones */
    size_t first; /* the slot of the oldest */
    char *buffer;
    rt_queue senders, receivers;
};

/* A channel that has subscribers, or is one. */
typedef struct rt_broadcast {
    chan_t chan;
    /* a broadcast: under `order`, which comes before the locks of subscriptions */
    rt_lock_t order;
    struct rt_broadcast *subscribers; /* in the order in which they came */
    struct rt_broadcast **last;
    /* a subscription */
    struct rt_broadcast *source;       /* constant; it holds a reference */
    struct rt_broadcast *next, **link; /* under the source's order; link null: it has left */
    _Atomic uint64_t missed;           /* under the lock of chan; read by chan_missed */
    uint64_t told;                     /* under the lock of chan: how many of them a receive has told of */
} rt_broadcast;

RT_INLINE size_t rt_chan_count(const chan_t *ch)
{
    return atomic_load_explicit(&ch->count, memory_order_relaxed); /* under the lock, or C4 */
}

RT_INLINE void rt_chan_set_count(chan_t *ch, size_t count)
{
    atomic_store_explicit(&ch->count, count, memory_order_relaxed); /* as above */
}

RT_INLINE bool rt_chan_is_closed(const chan_t *ch)
{
    return atomic_load_explicit(&ch->closed, memory_order_relaxed); /* as above */
}

/* C4. acquire: the three loads stay in this order */
RT_INLINE bool rt_chan_may_recv(const chan_t *ch)
{
    return atomic_load_explicit(&ch->count, memory_order_acquire) != 0 ||
           atomic_load_explicit(&ch->senders.head, memory_order_acquire) != NULL || rt_chan_is_closed(ch);
}

RT_INLINE bool rt_chan_may_send(const chan_t *ch)
{
    return atomic_load_explicit(&ch->count, memory_order_acquire) < ch->capacity ||
           atomic_load_explicit(&ch->receivers.head, memory_order_acquire) != NULL || rt_chan_is_closed(ch);
}

RT_INLINE void rt_chan_copy(void *to, const void *from, size_t size)
{
    if (RT_LIKELY(size == 8))
        memcpy(to, from, 8);
    else if (size != 0)
        memcpy(to, from, size);
}

RT_INLINE char *rt_chan_slot(const chan_t *ch, size_t i)
{
    return ch->buffer + i * ch->size;
}

/* Under the lock, and there is room: adds the newest. */
RT_INLINE void rt_chan_put(chan_t *ch, const void *from)
{
    const size_t count = rt_chan_count(ch);
    size_t at = ch->first + count;
    if (at >= ch->room)
        at -= ch->room;
    rt_chan_copy(rt_chan_slot(ch, at), from, ch->size);
    rt_chan_set_count(ch, count + 1);
}

/* Under the lock, and there is one: takes the oldest. */
RT_INLINE void rt_chan_get(chan_t *ch, void *into)
{
    if (into)
        rt_chan_copy(into, rt_chan_slot(ch, ch->first), ch->size);
    if (++ch->first == ch->room)
        ch->first = 0;
    rt_chan_set_count(ch, rt_chan_count(ch) - 1);
}

/* Under the lock: a larger buffer for an unbounded channel. -ENOMEM. */
RT_COLD int rt_chan_grow(chan_t *ch);
/* And a small one again, when it has been drained. */
RT_COLD void rt_chan_shrink(chan_t *ch);

/* What the buffer of an unbounded channel begins with, in slots. */
RT_INLINE size_t rt_chan_first_room(size_t size)
{
    return size <= 256 ? 16 : size <= 2048 ? 4096 / size : 1;
}

/* Under the lock: 0, -EPIPE, -ENOMEM, or -EAGAIN: it would have to wait. *wake: whom to make ready when the
 * lock has been left, or NULL. */
RT_INLINE int rt_chan_send_now(chan_t *ch, const void *from, rt_block **wake)
{
    *wake = NULL;
    if (RT_UNLIKELY(rt_chan_is_closed(ch)))
        return -EPIPE;
    if (!rt_queue_is_empty(&ch->receivers)) {
        rt_waiter *w = rt_queue_take(&ch->receivers);
        if (RT_LIKELY(w != NULL)) { /* C2 */
            if (w->data)
                rt_chan_copy(w->data, from, ch->size);
            w->result = 0;
            *wake = w->who;
            return 0;
        }
    }
    if (rt_chan_count(ch) >= ch->capacity)
        return -EAGAIN;
    if (RT_UNLIKELY(rt_chan_count(ch) == ch->room)) {
        const int rc = rt_chan_grow(ch);
        if (rc != 0)
            return rc;
    }
    rt_chan_put(ch, from);
    return 0;
}

/* Under the lock, and the buffer is full: takes the oldest and adds the newest in its place. The count stays
 * (C4). */
RT_INLINE void rt_chan_replace(chan_t *ch, void *into, const void *from)
{
    char *slot = rt_chan_slot(ch, ch->first);
    if (into)
        rt_chan_copy(into, slot, ch->size);
    rt_chan_copy(slot, from, ch->size);
    if (++ch->first == ch->room)
        ch->first = 0;
}

/* As rt_chan_send_now. -EPIPE: closed and drained. */
RT_INLINE int rt_chan_recv_now(chan_t *ch, void *into, rt_block **wake)
{
    *wake = NULL;
    const bool buffered = rt_chan_count(ch) != 0;
    if (!rt_queue_is_empty(&ch->senders)) {
        rt_waiter *w = rt_queue_take(&ch->senders);
        if (RT_LIKELY(w != NULL)) {
            if (buffered) /* C1 */
                rt_chan_replace(ch, into, w->data);
            else if (into) /* C2 */
                rt_chan_copy(into, w->data, ch->size);
            w->result = 0;
            *wake = w->who;
            return 0;
        }
    }
    if (buffered) {
        rt_chan_get(ch, into);
        if (RT_UNLIKELY(ch->capacity == (size_t)CHAN_UNBOUNDED) && rt_chan_count(ch) == 0)
            rt_chan_shrink(ch);
        return 0;
    }
    return RT_UNLIKELY(rt_chan_is_closed(ch)) ? -EPIPE : -EAGAIN;
}

/* A size given with an element does not fit. */
RT_COLD RT_NORETURN void rt_chan_bad_size(const chan_t *ch, size_t size);

RT_INLINE void rt_chan_check_size(const chan_t *ch, size_t size)
{
    if (RT_UNLIKELY(size != ch->size) && size != 0)
        rt_chan_bad_size(ch, size);
}

/* broadcast.c: a message to all subscribers; no more of them; a receive's count of missed ones, under the
 * lock; the end of one. */
int rt_broadcast_send(rt_broadcast *b, const void *from);
int rt_broadcast_close(rt_broadcast *b);
int rt_broadcast_tell(rt_broadcast *s);
void rt_broadcast_gone(rt_broadcast *b);

/* chan.c: a channel of this kind, in `bytes` of memory of which the chan is the first part. Its buffer is not
 * made. */
void rt_chan_init(chan_t *ch, size_t size, size_t capacity);
/* All bytes of a buffer, or 0: more than there could be. */
size_t rt_chan_buffer_size(size_t size, size_t slots);
/* Closes a plain channel or a subscription: wakes all who wait. -EPIPE: it was closed before. */
int rt_chan_shut(chan_t *ch);

#endif
