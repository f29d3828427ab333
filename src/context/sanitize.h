/* SPDX-License-Identifier: MIT
 *
 * Floor 2. What the sanitizers and Valgrind must be told about stacks and
 * switches; nothing at all in an ordinary build.
 *
 * Facts relied on: ASan's finish call must come first on the new stack, and a
 * stack that ends passes no place to keep its fake stack; a stack is unpoisoned before
 * it is used again. TSan's call stands right before the assembly, in the
 * same function, so rt_sanitize_leave is always inlined there.
 */
#ifndef RT_CONTEXT_SANITIZE_H
#define RT_CONTEXT_SANITIZE_H

#include "../base/base.h"

#if defined(__SANITIZE_ADDRESS__)
#define RT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define RT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RT_TSAN 1
#endif
#endif

#ifdef RT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef RT_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef RT_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* For a function that may read memory which is something else by now, and then finds that out: TSan does not
 * see what it does. */
#if defined(RT_TSAN) && defined(__clang__)
#define RT_UNWATCHED static RT_NOINLINE __attribute__((unused, disable_sanitizer_instrumentation))
#elif defined(RT_TSAN)
#define RT_UNWATCHED static RT_NOINLINE __attribute__((unused, no_sanitize("thread")))
#else
#define RT_UNWATCHED RT_INLINE
#endif

/* How system calls that a handler interrupts go on: SA_RESTART. Not under TSan, which holds handlers back
 * until the next call that it intercepts: a thread that rests in a futex has to come out of it (os/futex.c).
 */
RT_INLINE int rt_sanitize_restart(int restart)
{
#ifdef RT_TSAN
    return restart * 0;
#else
    return restart;
#endif
}

/* Memory that malloc'ed memory is reachable from. */
RT_INLINE void rt_sanitize_roots(void *at, size_t size)
{
#ifdef RT_ASAN
    __lsan_register_root_region(at, size);
#endif
    (void)at;
    (void)size;
}

/* A stack [low, high) came into being: sets *fiber and *valgrind_id. */
RT_INLINE void rt_sanitize_stack_new(char *low, char *high, void **fiber, uint32_t *valgrind_id)
{
    *fiber = NULL;
    *valgrind_id = 0;
#ifdef RT_ASAN
    __lsan_register_root_region(low, (size_t)(high - low));
#endif
#ifdef RT_TSAN
    *fiber = __tsan_create_fiber(0);
#endif
#ifdef RT_HAVE_VALGRIND
    *valgrind_id = (uint32_t)VALGRIND_STACK_REGISTER(low, high - 1);
#endif
    (void)low;
    (void)high;
}

/* It goes away. Not called on the stack itself. */
RT_INLINE void rt_sanitize_stack_gone(char *low, char *high, void *fiber, uint32_t valgrind_id)
{
#ifdef RT_ASAN
    __lsan_unregister_root_region(low, (size_t)(high - low));
    __asan_unpoison_memory_region(low, (size_t)(high - low));
#endif
#ifdef RT_TSAN
    __tsan_destroy_fiber(fiber);
#endif
#ifdef RT_HAVE_VALGRIND
    VALGRIND_STACK_DEREGISTER(valgrind_id);
#endif
    (void)low;
    (void)high;
    (void)fiber;
    (void)valgrind_id;
}

/* It is about to be used again from its top. TSan: the frames that were left for ever would pile up in the
 * fiber, so it gets a new one. */
RT_INLINE void rt_sanitize_stack_reuse(char *low, char *high, void **fiber)
{
#ifdef RT_ASAN
    __asan_unpoison_memory_region(low, (size_t)(high - low));
#endif
#ifdef RT_TSAN
    __tsan_destroy_fiber(*fiber);
    *fiber = __tsan_create_fiber(0);
#endif
    (void)low;
    (void)high;
    (void)fiber;
}

/* The fiber of the calling thread's own stack. */
RT_INLINE void *rt_sanitize_thread_fiber(void)
{
#ifdef RT_TSAN
    return __tsan_get_current_fiber();
#else
    return NULL;
#endif
}

/* About to leave the current stack for [low, high) with its fiber. fake: where ASan keeps the current stack's
 * fake stack; NULL: the current stack ends. */
RT_INLINE void rt_sanitize_leave(void **fake, const char *low, const char *high, void *fiber)
{
#ifdef RT_ASAN
    __sanitizer_start_switch_fiber(fake, low, (size_t)(high - low));
#endif
#ifdef RT_TSAN
    __tsan_switch_to_fiber(fiber, 0);
#endif
    (void)fake;
    (void)low;
    (void)high;
    (void)fiber;
}

/* First thing after arriving on a stack; fake: what leaving it had kept, NULL on a new one. */
RT_INLINE void rt_sanitize_arrive(void *fake)
{
#ifdef RT_ASAN
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    (void)fake;
}

#endif
