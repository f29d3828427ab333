/* SPDX-License-Identifier: MIT
 *
 * Code that blocks its thread: a driver of a database, a compressor, a library that waits for a device.
 *
 * It may simply be called. A routine that stays in such code, or in a loop of its own, for more than about
 * ten milliseconds while others wait loses its worker to another thread; it goes on meanwhile, and comes back
 * at its next wait. Nothing has to be declared for that. What it costs the others is those milliseconds;
 * routine_stats() counts these hand-overs, and routine_offenders() names those who caused them (stats.h).
 *
 * If it is known beforehand, say so, and nobody waits:
 *
 *     static int compress(void *arg) { ... }
 *     rc = routine_blocking(compress, &job);
 */
#ifndef ROUTINES_BLOCKING_H
#define ROUTINES_BLOCKING_H

#include "base.h"

ROUTINES_BEGIN

/*
 * Runs fn(arg) on a thread of the runtime's pool, while the calling routine waits; returns what it returns.
 * The pool has a class for users, one for files and one for names, so that none takes the threads of another;
 * each has threads up to a limit (for users 64), which come when they are needed and go when they have had
 * nothing to do for some seconds; behind the limit calls wait, first come, first served, and if nothing
 * moves at all for a while, because all its threads wait for somebody who waits for a thread, there will be
 * more.
 *
 * fn runs as on a plain thread, with the stack of one: it can call everything, which blocks its thread.
 * From a plain thread, and so from within fn, routine_blocking just calls fn. So it does for a routine, too,
 * if the class has no thread, and there is no memory for one.
 *
 * -ECANCELED, -ETIMEDOUT: fn was not run, and will not be. Once it runs it is waited for, since it uses what
 * the caller owns; if the limit passes meanwhile, the caller's next call says so.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_blocking(int (*fn)(void *), void *arg);

ROUTINES_END

#endif
