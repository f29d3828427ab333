/* SPDX-License-Identifier: MIT
 *
 * Units of time, the clock, sleeping, limits on how long something may take, and timers.
 *
 * Durations are int64_t nanoseconds. A deadline is an absolute time of
 * routine_now(), also int64_t nanoseconds. Multiply by a unit: 50 * ROUTINE_MS. What is
 * not above 0 has passed; what is too large to add up never comes (ROUTINE_NEVER).
 *
 *     {
 *         routine_with_timeout(50 * ROUTINE_MS);       // to the closing brace, and in all that is called
 *         rc = chan_recv(replies, &reply);             // -ETIMEDOUT after 50 ms
 *     }
 */
#ifndef ROUTINES_TIME_H
#define ROUTINES_TIME_H

#include "base.h"

#define ROUTINE_NS    INT64_C(1)
#define ROUTINE_US    INT64_C(1000)
#define ROUTINE_MS    INT64_C(1000000)
#define ROUTINE_S     INT64_C(1000000000)
#define ROUTINE_NEVER INT64_MAX /* the deadline, or the timeout, that does not come */

ROUTINES_BEGIN

/* The time in nanoseconds of CLOCK_MONOTONIC. Any thread; never blocks; about 20 ns. */
ROUTINES_API int64_t routine_now(void);

/*
 * Sleeps for so many nanoseconds, or until that time; not at all if that is over. ROUTINE_NEVER sleeps for
 * ever. Blocks the calling routine (or plain thread) only; a hundred thousand may sleep at once. Never early;
 * late by what the kernel takes to wake a thread, and if all workers are busy, until one of them comes to
 * look. routine_sleep may round up, by a 256th of ns and never by more than 1.05 ms, so that those who
 * are due at about the same time are woken together; routine_sleep_until does not. Returns 0, or -ECANCELED
 * or -ETIMEDOUT if a cancellation or the limit in force ended it.
 */
ROUTINES_API int routine_sleep(int64_t ns);
ROUTINES_API int routine_sleep_until(int64_t at);

/* ---- limits ---- */

/*
 * routine_with_timeout(ns);
 * routine_with_deadline(at);
 *
 * Declarations. From here to the end of the enclosing braces, whatever the routine does and however deep the
 * calls: every operation that can block returns -ETIMEDOUT once that time has come, whether it waits or is
 * only about to begin. Of nested limits the nearest counts. Leaving the braces in any way brings the outer
 * limit back. Children that are started in a scope (scope.h) inherit the limit that was in force where the
 * scope began; routines started by go do not, nor does anything started by a plain thread's go.
 *
 * Nothing is lost by it: a call that has returned -ETIMEDOUT has received and sent nothing, holds no lock,
 * counts as no arrival. The calls that end something are never cut short: close, every unlock, the return of
 * a condition wait to its mutex, the wait for a once function, the end of a scope.
 *
 * Costs a look at the clock; an operation that does not wait costs nothing more under a limit, for it reads
 * no clock: it may still succeed as long as nobody has found out that the time has come, which a wait does,
 * and routine_check(). From then on all say -ETIMEDOUT. (A join takes the result of one that has finished in
 * any case.)
 */
#define routine_with_timeout(...)                                                                            \
    ROUTINES_FRAME(ROUTINES_CAT(routines_limit_, __LINE__), routines_limit_timeout, __VA_ARGS__)
#define routine_with_deadline(...)                                                                           \
    ROUTINES_FRAME(ROUTINES_CAT(routines_limit_, __LINE__), routines_limit_deadline, __VA_ARGS__)
ROUTINES_API void *routines_limit_timeout(routines_frame_t *frame, int64_t ns);
ROUTINES_API void *routines_limit_deadline(routines_frame_t *frame, int64_t at);

/* The limit in force for the caller: a time of routine_now(), or ROUTINE_NEVER. */
ROUTINES_API int64_t routine_deadline(void);

/* ---- timers ---- */

/*
 * Something that happens at a time: once, or again and again (a ticker). Timers may be used by any routine
 * and thread. A million of them may be pending; setting and stopping one takes no longer then. While their
 * runtime is being shut down they are held back, and when that has succeeded they never fire again.
 */
typedef struct routine_timer routine_timer_t;
struct chan; /* chan.h */

/*
 * A timer that starts fn(arg), in a routine of its own (which may block), after ns; and then every period, if
 * that is above 0. A tick that would come while fn still runs, or whose time has gone by, is left out; the
 * others keep to the grid of the first. fn runs in the runtime of the caller (of a plain thread: the default
 * one). Returns NULL: fn is null, or no memory, or the default runtime could not start.
 */
ROUTINES_API ROUTINES_NODISCARD routine_timer_t *routine_timer_new(int64_t ns, int64_t period,
                                                                   void (*fn)(void *), void *arg);

/*
 * As routine_timer_new, but sends the time (routine_now(), int64_t elements) to a channel; dropped if that is
 * full, so it needs a capacity, usually 1. The timer keeps a reference to it. Once the channel is closed the
 * timer stops. NULL also: ch is null, or its elements are not 8 bytes.
 */
ROUTINES_API ROUTINES_NODISCARD routine_timer_t *routine_timer_new_chan(int64_t ns, int64_t period,
                                                                        struct chan *ch);

/*
 * Stops it. True: it was pending, and that has been called off: fn will not be started any more, nothing will
 * be sent. False: it was not pending (it has fired, or was stopped before). fn may still be running then, it
 * is not waited for. In either case nothing more happens until a reset.
 */
ROUTINES_API bool routine_timer_stop(routine_timer_t *timer);

/*
 * Sets it anew, to fire in ns from now, and then with its period. What routine_timer_stop would have called
 * off is called off, and the return value is the same. May be called by fn itself.
 */
ROUTINES_API bool routine_timer_reset(routine_timer_t *timer, int64_t ns);

/* Stops it and releases it; NULL is allowed. fn may still be running, and may be the caller. */
ROUTINES_API void routine_timer_free(routine_timer_t *timer);

ROUTINES_END

#endif
