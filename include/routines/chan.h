/* SPDX-License-Identifier: MIT
 *
 * Channels: typed queues between routines, with Go's semantics, and select over many of them.
 *
 *     chan_t *ch = chan_make(int, 16);            // room for 16 ints; 0: a rendezvous
 *
 *     int x = 42;                                 // a routine, or a plain thread
 *     rc = chan_send(ch, &x);                     // waits while it is full
 *     chan_close(ch);                             // nothing more will come
 *
 *     while (chan_recv(ch, &x) == 0)              // another one: until closed and drained
 *         use(x);
 *     chan_unref(ch);
 *
 * Elements are copied, byte by byte, into and out of the channel, or straight from the sender's variable
 * into that of a waiting receiver. Waiting senders and receivers are served in the order of their arrival.
 * All calls may be made by routines of any runtime and by plain threads; one that blocks stops the calling
 * routine (or plain thread) only.
 *
 * What a send happens before: the receive of that element returns after all that the sender did before
 * the send. On a rendezvous also the send returns after the receive has begun. The k-th receive from a
 * channel of capacity c comes before the return of send number k + c; a close before a receive that says
 * -EPIPE.
 *
 * Whoever uses a channel needs a reference that lasts so long; with one exception: chan_send does not touch
 * the channel any more once its element has been received. So the receiver of the last element may drop the
 * last reference.
 *
 * Errors: -EPIPE the channel is closed; -EINVAL it is null; -EAGAIN a try found it not ready;
 * -ENOMEM an unbounded channel could not grow; -EPERM the wrong direction on a broadcast (below).
 * Calls that block also: -ECANCELED the calling routine has been cancelled (routine_cancel), -ETIMEDOUT the
 * limit in force for it has passed (time.h). These are looked at first, and then nothing has been sent or
 * received, though it might have been possible; trying does not look.
 *
 * The macros take the size of an element from the type of the pointer, and a size that does not fit
 * the channel panics with a sentence. `void *` is not checked. To send an array as one element write &array.
 */
#ifndef ROUTINES_CHAN_H
#define ROUTINES_CHAN_H

#include "base.h"

ROUTINES_BEGIN

/* A channel. */
typedef struct chan chan_t;

/* The capacity of a channel that never is full. */
#define CHAN_UNBOUNDED PTRDIFF_MAX

/* The largest element, in bytes: 64 MiB. Send pointers if you need more. */
#define CHAN_ELEMENT_MAX ((size_t)1 << 26)

/*
 * chan_t *chan_make(type, ptrdiff_t capacity);
 * chan_t *chan_new(size_t size, ptrdiff_t capacity);
 *
 * A new open channel for elements of a type, or of `size` bytes (0 is fine: then only the fact is sent). The
 * caller holds the only reference. capacity 0 is a rendezvous: a send waits for its
 * receiver. CHAN_UNBOUNDED grows as needed, and gives memory back when it is drained. NULL: no memory, or
 * capacity is negative, or size × capacity is more than there could be.
 */
ROUTINES_API ROUTINES_NODISCARD chan_t *chan_new(size_t size, ptrdiff_t capacity);
#define chan_make(type, capacity) chan_new(sizeof(type), (capacity))

/*
 * One more reference, for somebody else to drop; returns ch. Whoever may still use a channel while others
 * drop theirs needs one of its own. Any thread; never blocks. NULL gives NULL.
 */
ROUTINES_API chan_t *chan_ref(chan_t *ch);

/*
 * Drops a reference; the last one frees the channel with what is in it. Nobody can be waiting then (who
 * waits uses it). Does not close. NULL is fine. Never blocks.
 */
ROUTINES_API void chan_unref(chan_t *ch);

/*
 * int chan_send(chan_t *ch, const T *element);
 *
 * Sends a copy of *element (of size 0: NULL will do). Blocks while there is neither room nor a waiting
 * receiver. Returns 0: it was handed over, or stands in the channel. -EPIPE: the channel is closed, before or
 * while waiting, and nothing was sent. -EINVAL, -ENOMEM, -EPERM, -ECANCELED, -ETIMEDOUT as above.
 */
ROUTINES_API ROUTINES_NODISCARD int chan_send_sized(chan_t *ch, const void *element, size_t size);

/*
 * int chan_recv(chan_t *ch, T *element);
 *
 * Takes the oldest element; NULL drops it. Blocks while there is none.
 * Returns 0; -EPIPE: closed, and everything that was sent has been received; -EINVAL, -EPERM, -ECANCELED,
 * -ETIMEDOUT. From a subscription (below) also a positive number: how many messages were missed just before
 * this one.
 */
ROUTINES_API ROUTINES_NODISCARD int chan_recv_sized(chan_t *ch, void *element, size_t size);

/* As chan_send and chan_recv, but never blocking: -EAGAIN instead. About a nanosecond where there is nothing
 * to do. */
ROUTINES_API ROUTINES_NODISCARD int chan_try_send_sized(chan_t *ch, const void *element, size_t size);
ROUTINES_API ROUTINES_NODISCARD int chan_try_recv_sized(chan_t *ch, void *element, size_t size);

/*
 * No more sends: also by those who did not expect it, so a receiver that has had enough may close too, and
 * its senders get -EPIPE. Of several who close exactly one gets 0. Wakes everybody who waits: blocked senders
 * get -EPIPE, and so do receivers, since nothing is left; what is in a buffer can still be received. Never
 * blocks. Returns 0; -EPIPE: it was closed before; -EINVAL; -EPERM for a subscription (use chan_unsubscribe).
 */
ROUTINES_API int chan_close(chan_t *ch);

/* How many elements are in it, at this moment; blocked senders do not count. 0 for NULL. Never blocks. */
ROUTINES_API ptrdiff_t chan_len(const chan_t *ch);

/* Its capacity. 0 for NULL. */
ROUTINES_API ptrdiff_t chan_cap(const chan_t *ch);

/* ---- broadcast ---- */

/*
 * chan_t *chan_make_broadcast(type, ptrdiff_t backlog);
 * chan_t *chan_new_broadcast(size_t size, ptrdiff_t backlog);
 *
 * A channel to send on whose every message goes to every subscriber. chan_send and chan_try_send never wait:
 * a subscriber that is behind by `backlog` messages (at least 1) loses the oldest one, and is told.
 * Closing it closes all subscriptions: what they hold can still be received. chan_recv on it is -EPERM.
 * chan_len is the number of subscribers, chan_cap the backlog. NULL as chan_new, and for a backlog of 0 or
 * CHAN_UNBOUNDED.
 */
ROUTINES_API ROUTINES_NODISCARD chan_t *chan_new_broadcast(size_t size, ptrdiff_t backlog);
#define chan_make_broadcast(type, backlog) chan_new_broadcast(sizeof(type), (backlog))

/*
 * A channel to receive from: every message sent to the broadcast from now on, in the order that is
 * the same for all subscribers. It may be used in select, and by several receivers, who share it. chan_recv
 * and chan_try_recv return how many messages were missed just before the one received, usually 0:
 *
 *     while ((rc = chan_recv(sub, &event)) >= 0) {
 *         if (rc > 0)
 *             printf("too slow: %d events missed\n", rc);
 *
 * chan_send on it is -EPERM. It holds a reference to the broadcast. NULL: no memory, or not a broadcast. A
 * subscription to a closed broadcast is closed.
 */
ROUTINES_API ROUTINES_NODISCARD chan_t *chan_subscribe(chan_t *broadcast);

/* Ends a subscription: no more messages; what it holds can still be received by those who have a reference,
 * then they get -EPIPE. Drops the caller's reference to it. Returns 0; -EINVAL null, or not a subscription.
 */
ROUTINES_API int chan_unsubscribe(chan_t *subscription);

/* How many messages a subscription has missed in all, those before the messages still in it included: for
 * those who receive by select. 0 for other channels. */
ROUTINES_API uint64_t chan_missed(const chan_t *subscription);

/* ---- select ---- */

typedef enum {
    ROUTINES_CASE_END,
    ROUTINES_CASE_RECV,
    ROUTINES_CASE_SEND,
    ROUTINES_CASE_TIMEOUT,
    ROUTINES_CASE_DEADLINE,
    ROUTINES_CASE_DEFAULT
} routines_case_kind;

/* A case; made by the CHAN_… below, not by hand. */
typedef struct {
    routines_case_kind kind;
    chan_t *chan;
    void *into;
    const void *from;
    size_t size;
    int64_t time;
} chan_case_t;

/*
 * int chan_select(case, case, ...);
 *
 * Waits until one of the cases can happen, lets it happen, and returns its index, from 0 in the
 * order given. If several can, one of them is chosen at random, all with the same chance.
 *
 *     switch (chan_select(CHAN_RECV(jobs, &job), CHAN_SEND(out, &result), CHAN_TIMEOUT(50 * ROUTINE_MS))) {
 *     case 0: ...  break;                       // job has been received
 *     case 1: ...  break;                       // result has been sent
 *     case 2: ...  break;                       // 50 ms went by and neither was possible
 *     case CHAN_CLOSED(0): jobs = NULL; break;  // jobs is closed and drained: never again
 *     default: ...                              // an error
 *     }
 *
 *   CHAN_RECV(ch, p)    receives into *p (p may be NULL)
 *   CHAN_SEND(ch, p)    sends *p
 *   CHAN_DEFAULT        happens if nothing else can at once: the select does not block
 *   CHAN_TIMEOUT(ns)    happens if nothing else did for so long; not above 0: as CHAN_DEFAULT
 *   CHAN_DEADLINE(at)   happens at this time of routine_now() unless something else does before
 *
 * CHAN_CLOSED(i) is returned when case i found its channel closed (a receive: drained too); nothing was
 * transferred. A case with a null channel keeps its index and never happens: so a case is switched off. A
 * channel may stand in any number of cases, in both directions too; a select never receives what it sends
 * itself. Without cases (the array form), or with null channels only, and without a time, it waits until it
 * is cancelled or a limit passes; with a time alone it sleeps.
 *
 * Of several times the nearest counts, of several defaults the first.
 *
 * Errors: -ECANCELED the calling routine has been cancelled; -ETIMEDOUT the limit in force has passed
 * (time.h), which is not a case of the select's own; both are looked at first, also with a default, and then
 * no case has happened. -EPERM a case has the wrong direction of a broadcast; -EINVAL (array form) an unknown
 * kind of case, or more than CHAN_CASES_MAX of them; -ENOMEM there are more than 16 cases and no memory for
 * them, or an unbounded channel could not grow. A loop around a select needs a `default:` that ends it:
 * errors come again at once.
 *
 * The cost is that of trying each case; to wait, each channel once (they are locked in the order of their
 * addresses).
 */
#define CHAN_CLOSED(i) (-4096 - (i))

/* The most cases of one select. */
#define CHAN_CASES_MAX 65535

/* The array form, for cases made at run time. */
ROUTINES_API ROUTINES_NODISCARD int chan_select_array(const chan_case_t *cases, size_t n);

/* Behind chan_select: the list ends with a case of kind ROUTINES_CASE_END. */
ROUTINES_API ROUTINES_NODISCARD int chan_select_list(const chan_case_t *cases);

static inline chan_case_t routines_case_recv(chan_t *chan, void *into, size_t size)
{
    const chan_case_t c = {ROUTINES_CASE_RECV, chan, into, NULL, size, 0};
    return c;
}

static inline chan_case_t routines_case_send(chan_t *chan, const void *from, size_t size)
{
    const chan_case_t c = {ROUTINES_CASE_SEND, chan, NULL, from, size, 0};
    return c;
}

static inline chan_case_t routines_case_other(routines_case_kind kind, int64_t time)
{
    const chan_case_t c = {kind, NULL, NULL, NULL, 0, time};
    return c;
}

ROUTINES_END

#define CHAN_TIMEOUT(ns)  routines_case_other(ROUTINES_CASE_TIMEOUT, (ns))
#define CHAN_DEADLINE(at) routines_case_other(ROUTINES_CASE_DEADLINE, (at))
#define CHAN_DEFAULT      routines_case_other(ROUTINES_CASE_DEFAULT, 0)

#ifdef __cplusplus

template <class T> ROUTINES_NODISCARD inline int chan_send(chan_t *ch, const T *element)
{
    static_assert(__is_trivially_copyable(T), "channels copy bytes: the type must be trivially copyable");
    return chan_send_sized(ch, element, sizeof *element);
}
ROUTINES_NODISCARD inline int chan_send(chan_t *ch, const void *element)
{
    return chan_send_sized(ch, element, 0);
}
template <class T> ROUTINES_NODISCARD inline int chan_recv(chan_t *ch, T *element)
{
    static_assert(__is_trivially_copyable(T), "channels copy bytes: the type must be trivially copyable");
    return chan_recv_sized(ch, element, sizeof *element);
}
ROUTINES_NODISCARD inline int chan_recv(chan_t *ch, void *element)
{
    return chan_recv_sized(ch, element, 0);
}
template <class T> ROUTINES_NODISCARD inline int chan_try_send(chan_t *ch, const T *element)
{
    static_assert(__is_trivially_copyable(T), "channels copy bytes: the type must be trivially copyable");
    return chan_try_send_sized(ch, element, sizeof *element);
}
ROUTINES_NODISCARD inline int chan_try_send(chan_t *ch, const void *element)
{
    return chan_try_send_sized(ch, element, 0);
}
template <class T> ROUTINES_NODISCARD inline int chan_try_recv(chan_t *ch, T *element)
{
    static_assert(__is_trivially_copyable(T), "channels copy bytes: the type must be trivially copyable");
    return chan_try_recv_sized(ch, element, sizeof *element);
}
ROUTINES_NODISCARD inline int chan_try_recv(chan_t *ch, void *element)
{
    return chan_try_recv_sized(ch, element, 0);
}
template <class T> inline chan_case_t CHAN_SEND(chan_t *ch, const T *element)
{
    static_assert(__is_trivially_copyable(T), "channels copy bytes: the type must be trivially copyable");
    return routines_case_send(ch, element, sizeof *element);
}
inline chan_case_t CHAN_SEND(chan_t *ch, const void *element)
{
    return routines_case_send(ch, element, 0);
}
template <class T> inline chan_case_t CHAN_RECV(chan_t *ch, T *element)
{
    static_assert(__is_trivially_copyable(T), "channels copy bytes: the type must be trivially copyable");
    return routines_case_recv(ch, element, sizeof *element);
}
inline chan_case_t CHAN_RECV(chan_t *ch, void *element)
{
    return routines_case_recv(ch, element, 0);
}
template <class... Cases> ROUTINES_NODISCARD inline int chan_select(Cases... cases)
{
    const chan_case_t list[] = {cases..., {ROUTINES_CASE_END, nullptr, nullptr, nullptr, 0, 0}};
    return chan_select_list(list);
}

#else

/* The size of what a pointer points at; 0 for void *. */
#define ROUTINES_SIZE(...)                                                                                   \
    _Generic((__VA_ARGS__), void *: (size_t)0, const void *: (size_t)0,                                      \
             default: sizeof *_Generic((__VA_ARGS__), void *: "", const void *: "", default: (__VA_ARGS__)))

#define chan_send(ch, ...)     chan_send_sized((ch), (__VA_ARGS__), ROUTINES_SIZE(__VA_ARGS__))
#define chan_recv(ch, ...)     chan_recv_sized((ch), (__VA_ARGS__), ROUTINES_SIZE(__VA_ARGS__))
#define chan_try_send(ch, ...) chan_try_send_sized((ch), (__VA_ARGS__), ROUTINES_SIZE(__VA_ARGS__))
#define chan_try_recv(ch, ...) chan_try_recv_sized((ch), (__VA_ARGS__), ROUTINES_SIZE(__VA_ARGS__))
#define CHAN_RECV(ch, ...)     routines_case_recv((ch), (__VA_ARGS__), ROUTINES_SIZE(__VA_ARGS__))
#define CHAN_SEND(ch, ...)     routines_case_send((ch), (__VA_ARGS__), ROUTINES_SIZE(__VA_ARGS__))
#define chan_select(...)                                                                                     \
    chan_select_list((const chan_case_t[]){__VA_ARGS__, {ROUTINES_CASE_END, NULL, NULL, NULL, 0, 0}})

#endif

#endif
