/* SPDX-License-Identifier: MIT
 *
 * A oneshot: one value, sent once, received once; the very thing that backs the
 * handle of a routine. No allocation, one atomic operation at each end.
 *
 *     routine_oneshot_t answer = ROUTINE_ONESHOT_INITIALIZER;
 *     ... some routine or thread: routine_oneshot_send(&answer, value);
 *     void *value;
 *     int rc = routine_oneshot_recv(&answer, &value);
 *
 * Both ends may be routines or plain threads. The memory is the user's and may
 * be reused or go away as soon as the receive has returned: the sender does not
 * touch it any more then. To use one again, initialise it again.
 */
#ifndef ROUTINES_ONESHOT_H
#define ROUTINES_ONESHOT_H

#include "base.h"

ROUTINES_BEGIN

/* Opaque; do not touch the members. */
typedef struct {
    uintptr_t state;
    void *value;
} routine_oneshot_t;

/* A fresh oneshot; also a plain = {0}. */
#define ROUTINE_ONESHOT_INITIALIZER                                                                          \
    {                                                                                                        \
        0, NULL                                                                                              \
    }

/* Makes *o a fresh oneshot. Nobody may be using it. */
ROUTINES_API void routine_oneshot_init(routine_oneshot_t *o);

/*
 * Sends the value and wakes the receiver. Never blocks.
 * Returns 0; -EPIPE the receiver has closed it; -EALREADY a value was sent before
 * (the first one stands); -EINVAL o is null.
 */
ROUTINES_API int routine_oneshot_send(routine_oneshot_t *o, void *value);

/*
 * Waits for the value and takes it (value may be NULL). Blocks.
 * Returns 0; -EBUSY somebody else is waiting for it; -EPIPE it was received or
 * closed before; -EINVAL o is null; -ECANCELED, -ETIMEDOUT: the caller was cancelled, or its limit has
 * passed, and the value can still be received.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_oneshot_recv(routine_oneshot_t *o, void **value);

/* As recv, but -EAGAIN instead of waiting. */
ROUTINES_API ROUTINES_NODISCARD int routine_oneshot_try_recv(routine_oneshot_t *o, void **value);

/*
 * The receiver gives up: a later send returns -EPIPE. Never blocks. Returns 0, and
 * a value that was sent but not received is dropped; -EBUSY a receiver is waiting;
 * -EPIPE it was received or closed before; -EINVAL o is null.
 */
ROUTINES_API int routine_oneshot_close(routine_oneshot_t *o);

ROUTINES_END

#endif
