/* SPDX-License-Identifier: MIT
 *
 * Floor 6. Broadcast: a send goes to every subscriber.
 *
 * Each subscription is a channel with a buffer of its own; a message that finds it full takes the place of
 * its oldest one. All sends pass under the broadcast's `order`, so every subscriber sees them in the same
 * order, and the subscriptions' own locks are taken inside it, one at a time.
 */
#include <limits.h>
#include <stdlib.h>

#include "chan.h"

static rt_broadcast *create(size_t size, size_t backlog, uint8_t kind)
{
    const size_t bytes = kind == RT_CHAN_SUBSCRIPTION ? rt_chan_buffer_size(size, backlog) : 0;
    rt_broadcast *b = malloc(sizeof *b + bytes);
    if (!b)
        return NULL;
    *b = (rt_broadcast){.last = NULL};
    rt_chan_init(&b->chan, size, backlog);
    b->chan.kind = kind;
    b->last = &b->subscribers;
    b->chan.room = backlog;
    b->chan.buffer = (char *)(b + 1);
    return b;
}

chan_t *chan_new_broadcast(size_t size, ptrdiff_t backlog)
{
    if (backlog < 1 || backlog == CHAN_UNBOUNDED || size > CHAN_ELEMENT_MAX ||
        (size != 0 && rt_chan_buffer_size(size, (size_t)backlog) == 0))
        return NULL;
    rt_broadcast *b = create(size, (size_t)backlog, RT_CHAN_BROADCAST);
    return b ? &b->chan : NULL;
}

/* Under the source's order. */
static void detach(rt_broadcast *s)
{
    rt_broadcast *source = s->source;
    if (!s->link)
        return;
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    else
        source->last = s->link;
    s->link = NULL;
    rt_chan_set_count(&source->chan, rt_chan_count(&source->chan) - 1);
}

chan_t *chan_subscribe(chan_t *broadcast)
{
    if (!broadcast || broadcast->kind != RT_CHAN_BROADCAST)
        return NULL;
    rt_broadcast *b = (rt_broadcast *)(void *)broadcast;
    rt_broadcast *s = create(broadcast->size, broadcast->capacity, RT_CHAN_SUBSCRIPTION);
    if (!s)
        return NULL;
    s->source = (rt_broadcast *)(void *)chan_ref(broadcast);
    rt_lock_acquire(&b->order);
    if (rt_chan_is_closed(broadcast)) {
        atomic_store_explicit(&s->chan.closed, true, memory_order_relaxed); /* nobody else knows it yet */
    } else {
        s->link = b->last;
        *b->last = s;
        b->last = &s->next;
        rt_chan_set_count(broadcast, rt_chan_count(broadcast) + 1);
    }
    rt_lock_release(&b->order);
    return &s->chan;
}

/* One subscriber's copy. */
static void deliver(rt_broadcast *s, const void *from)
{
    chan_t *ch = &s->chan;
    rt_block *wake;
    rt_seat *how = rt_bias_enter(&ch->bias, rt_self()->seat);
    if (rt_chan_send_now(ch, from, &wake) == -EAGAIN) {
        rt_chan_replace(ch, NULL, from);
        /* relaxed: one writer at a time, under the lock; read as a figure */
        atomic_store_explicit(&s->missed, atomic_load_explicit(&s->missed, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    }
    rt_bias_leave(&ch->bias, how);
    if (wake)
        rt_ready_block(wake);
}

int rt_broadcast_send(rt_broadcast *b, const void *from)
{
    rt_lock_acquire(&b->order);
    const bool closed = rt_chan_is_closed(&b->chan);
    for (rt_broadcast *s = b->subscribers; s && !closed; s = s->next)
        deliver(s, from);
    rt_lock_release(&b->order);
    return closed ? -EPIPE : 0;
}

int rt_broadcast_close(rt_broadcast *b)
{
    rt_lock_acquire(&b->order);
    const bool before = rt_chan_is_closed(&b->chan);
    atomic_store_explicit(&b->chan.closed, true, memory_order_relaxed); /* under order */
    while (b->subscribers) {
        rt_broadcast *s = b->subscribers;
        detach(s);
        (void)rt_chan_shut(&s->chan);
    }
    rt_lock_release(&b->order);
    return before ? -EPIPE : 0;
}

int rt_broadcast_tell(rt_broadcast *s)
{
    const uint64_t missed = atomic_load_explicit(&s->missed, memory_order_relaxed); /* under the lock */
    const uint64_t news = missed - s->told;
    s->told = missed;
    return news > INT_MAX ? INT_MAX : (int)news;
}

uint64_t chan_missed(const chan_t *subscription)
{
    if (!subscription || subscription->kind != RT_CHAN_SUBSCRIPTION)
        return 0;
    const rt_broadcast *s = (const rt_broadcast *)(const void *)subscription;
    return atomic_load_explicit(&s->missed, memory_order_relaxed); /* a figure */
}

/* No more messages. */
static void leave(rt_broadcast *s)
{
    rt_lock_acquire(&s->source->order);
    detach(s);
    rt_lock_release(&s->source->order);
}

int chan_unsubscribe(chan_t *subscription)
{
    if (!subscription || subscription->kind != RT_CHAN_SUBSCRIPTION)
        return -EINVAL;
    leave((rt_broadcast *)(void *)subscription);
    (void)rt_enter();
    (void)rt_chan_shut(subscription);
    rt_leave();
    chan_unref(subscription);
    return 0;
}

void rt_broadcast_gone(rt_broadcast *b)
{
    if (b->chan.kind == RT_CHAN_SUBSCRIPTION) {
        leave(b);
        chan_unref(&b->source->chan);
    }
}
