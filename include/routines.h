/* SPDX-License-Identifier: MIT
 *
 * routines: Go's concurrency for C. This is the umbrella header; each of the
 * headers below can also be included by itself.
 */
#ifndef ROUTINES_H
#define ROUTINES_H

#include "routines/blocking.h"
#include "routines/chan.h"
#include "routines/io.h"
#include "routines/net.h"
#include "routines/oneshot.h"
#include "routines/routine.h"
#include "routines/runtime.h"
#include "routines/scope.h"
#include "routines/signal.h"
#include "routines/stats.h"
#include "routines/sync.h"
#include "routines/time.h"

#endif
