/* SPDX-License-Identifier: MIT
 *
 * The process's signals, delivered to channels: for a graceful end, a reload, a child's exit.
 *
 *     chan_t *signals = chan_make(int, 4);
 *     rc = routine_signal_notify(SIGINT, signals);
 *     ...
 *     rc = chan_recv(signals, &signo);
 */
#ifndef ROUTINES_SIGNAL_H
#define ROUTINES_SIGNAL_H

#include "chan.h"

ROUTINES_BEGIN

/*
 * From now on each signal of this number is sent to the channel (elements of type int: the number), and does
 * nothing else. Several channels may be notified of a signal, and one of several signals. If a channel is
 * full the signal is dropped for it, so give it a capacity; as by the kernel, several of one number that come
 * at once may be told as one. A reference to the channel is kept. Does not block.
 *
 * A blocked signal stays pending until some thread takes it: don't block it everywhere. (The threads of
 * runtimes block it, so raise() by a routine goes nowhere: use kill(getpid(), ...).) In a forked child the
 * notifications are gone, and the actions are what they were before.
 *
 * Returns 0; -EINVAL: a number that doesn't exist or that cannot be caught (SIGKILL, SIGSTOP) or that tells
 * of an error of the running instruction (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP), a null channel, elements
 * that are not an int; -EALREADY: this channel is notified of it; -ENOMEM; -EAGAIN: no thread could be
 * created.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_signal_notify(int signo, chan_t *ch);

/*
 * Ends that. With the last channel of a signal the action of before the first comes back. After it has
 * returned nothing more is sent. Returns 0; -ENOENT: this channel is not notified of it; -EINVAL as above.
 */
ROUTINES_API int routine_signal_stop(int signo, chan_t *ch);

ROUTINES_END

#endif
