/* SPDX-License-Identifier: MIT
 *
 * Routines: functions that run concurrently, by the million, on a few threads.
 *
 *     static void *square(void *arg) { ... return result; }
 *
 *     routine_t h = go(square, &x);     // starts concurrently, here or on another thread
 *     void *result;
 *     int rc = routine_join(h, &result);  // 0: done
 *
 * Everything in this header may be called from a routine and from any plain
 * thread (main included). Where a call blocks, it blocks the calling routine and
 * leaves its thread to others; called from a plain thread it blocks that thread.
 * After a call that may block a routine can find itself on another thread: don't
 * keep the address of a thread-local variable across one, errno included.
 *
 * Functions return 0 (or a count) on success and a negative errno on failure;
 * the library never reports through errno.
 *
 * ROUTINES_NO_GO, defined before this header is included, hides the four short
 * names go, go_with, go_copy and go_detached; routine_go… stay.
 */
#ifndef ROUTINES_ROUTINE_H
#define ROUTINES_ROUTINE_H

#include "base.h"

ROUTINES_BEGIN

/*
 * A handle: a plain value that may be copied, compared and kept for ever. It
 * names one run of one routine; when that is over and its result taken, the
 * handle is stale and every call with it returns -ESRCH (never a crash).
 * {NULL, 0} is the null handle. {NULL, errno} is a routine that could not be
 * started: joining it returns that error, negative.
 */
typedef struct {
    void *block;
    uint64_t id;
} routine_t;

/* What a routine runs. The return value is what routine_join() delivers. */
typedef void *routine_fn(void *arg);

/* An independent set of workers: see runtime.h. */
typedef struct routine_runtime routine_runtime_t;

/* How to start a routine. All zero means: defaults. */
typedef struct {
    const char *name;           /* copied (the first 95 characters); shown in messages. NULL: none */
    size_t stack_size;          /* bytes that the routine can count on. 0: the runtime's (128 KiB
                                   unless configured). Less than the minimum (16 KiB and what a
                                   signal frame needs) is raised to it; more than
                                   ROUTINE_STACK_MAX is EINVAL */
    routine_runtime_t *runtime; /* where it runs. NULL: the caller's runtime; from a plain
                                   thread the default one */
} routine_attr_t;

/* The largest stack_size that can be asked for: 1 GiB. */
#define ROUTINE_STACK_MAX ((size_t)1 << 30)

/*
 * routine_t go(routine_fn *fn, void *arg);
 *
 * Starts a routine that runs fn(arg). Does not block. The first go() of a
 * process also starts the default runtime (see runtime.h).
 *
 * Every handle that go returns must be given to routine_join(),
 * routine_try_join() (until it says something other than -EAGAIN) or
 * routine_detach(), once: that is what releases the 128 bytes behind it.
 *
 * Errors, carried in the handle ({NULL, errno}) and returned by the join:
 * EINVAL fn is null; EAGAIN no worker thread could be created; ENOMEM;
 * ECANCELED the runtime has been shut down.
 */
#define routine_go(...) routine_go_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API ROUTINES_NODISCARD routine_t routine_go_at(const char *where, routine_fn *fn, void *arg);

/*
 * routine_t go_with(const routine_attr_t *attr, routine_fn *fn, void *arg);
 *
 * As go, with a name, a stack size or a runtime of its own:
 *
 *     h = go_with(&(routine_attr_t){ .name = "indexer", .stack_size = 1 << 20 }, fn, arg);
 *
 * More errors: EINVAL stack_size is larger than ROUTINE_STACK_MAX.
 */
#define routine_go_with(...) routine_go_with_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API ROUTINES_NODISCARD routine_t routine_go_with_at(const char *where, const routine_attr_t *attr,
                                                             routine_fn *fn, void *arg);

/*
 * routine_t go_copy(routine_fn *fn, object);
 *
 * A closure: the routine is started with a pointer to its own copy of the
 * object, which may be any expression with an address, a compound literal too:
 *
 *     h = go_copy(fn, ((struct job){ .out = &total, .n = i }));
 *
 * The copy is aligned for any type, belongs to the routine and is released when
 * the routine ends, or is cancelled before it started. The routine may change
 * it, and must not return its address. Copies of up to 112 bytes need no malloc.
 */
ROUTINES_API ROUTINES_NODISCARD routine_t routine_go_copy_at(const char *where, routine_fn *fn,
                                                             const void *object, size_t size);

/*
 * int go_detached(routine_fn *fn, void *arg);
 *
 * Starts a routine that nobody will join: its result is dropped, its memory is
 * released when it ends. Returns 0, or the errors of go as a negative errno.
 */
#define routine_go_detached(...) routine_go_detached_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API ROUTINES_NODISCARD int routine_go_detached_at(const char *where, routine_fn *fn, void *arg);

/*
 * Waits until the routine has finished and takes its result (result may be
 * NULL). Blocks. A child that has not started yet is run by the join itself, on
 * the joiner's stack: that makes go and join cost about as much as two
 * function calls, and changes nothing else.
 *
 * Returns 0, and the handle is stale from then on; or
 *   -ECANCELED   it was cancelled before it started and never ran
 *   -ENOMEM      it never ran: there was no memory for its stack
 *   -ESRCH       the handle is null or stale: joined or detached before
 *   -EBUSY       somebody else is joining it
 *   -EDEADLK     a routine joins itself, or one that waits for it to return
 *   the negative errno that a handle which could not start carries
 */
ROUTINES_API ROUTINES_NODISCARD int routine_join(routine_t h, void **result);

/* As routine_join, but never blocks (and never runs the child): -EAGAIN if it has not finished. */
ROUTINES_API ROUTINES_NODISCARD int routine_try_join(routine_t h, void **result);

/*
 * Gives the handle up: nobody will join. The routine runs on and is released
 * when it ends. Never blocks. Returns 0; -ESRCH, -EBUSY or the carried error as
 * routine_join does.
 */
ROUTINES_API int routine_detach(routine_t h);

/*
 * Asks a routine to stop. One that has not started never will: its join gives
 * -ECANCELED, the copy of a closure is released. One that runs finds out by
 * routine_check(). The request is sticky and may be repeated. Never blocks.
 * Returns 0, also for one that has finished but was not joined yet; -ESRCH for a
 * null or stale handle.
 */
ROUTINES_API int routine_cancel(routine_t h);

/*
 * What is wrong with a handle that go has returned, without joining it: 0, or the negative errno of a
 * routine that could not be started. For those who join late, or wait for the routine in another way first.
 */
ROUTINES_API int routine_error(routine_t h);

/* True once the routine has finished (or never could start, or the handle is stale). Never blocks. */
ROUTINES_API bool routine_is_finished(routine_t h);

/* The calling routine's own handle; the null handle on a plain thread. */
ROUTINES_API routine_t routine_self(void);

/* A number that no other routine of this process has or will have; 0 for a handle without one. */
ROUTINES_API uint64_t routine_id(routine_t h);

/*
 * The name given to go_with, or "" (also for null and stale handles). The string
 * stays valid until the handle is joined, or, once detached, until the routine ends; after that what it
 * points to may be anything, but can be read.
 */
ROUTINES_API const char *routine_name(routine_t h);

/*
 * For loops that compute: 0, or -ECANCELED once somebody has cancelled the
 * calling routine. 0 on a plain thread. Never blocks; about a nanosecond.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_check(void);

/* Lets other routines run first (on a plain thread: other threads). Comes back soon. */
ROUTINES_API void routine_yield(void);

/*
 * Ends the calling routine with this result, from any depth of calls. Cleanup
 * that the abandoned frames meant to do is not done. On a plain thread it panics.
 */
ROUTINES_API void routine_exit(void *result) __attribute__((noreturn));

/*
 * Runs fn(arg) as a routine of the default runtime and waits for it; what a main
 * function usually begins with. Returns what routine_join would.
 */
#define routine_run(...) routine_run_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API int routine_run_at(const char *where, routine_fn *fn, void *arg, void **result);

/*
 * Routine-local storage, with the contract of pthread_key_create and its
 * companions: the calling routine's own value behind each key. On a plain
 * thread it is that thread's value. Use it where you would use a thread-local
 * variable: a routine may change threads, its locals go with it. A new routine
 * starts with none.
 */
typedef struct {
    uint32_t index;
    uint32_t generation;
} routine_key_t;

/* The most keys that can exist at the same time. */
#define ROUTINE_KEYS_MAX 128

/*
 * Creates a key. When a routine (or a plain thread) ends, destructor (if not
 * NULL) is called with each value that is not NULL, as the routine itself, so it
 * may block; repeatedly, up to four times, while destructors set new values.
 * Returns 0, or -EAGAIN: ROUTINE_KEYS_MAX keys exist.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_key_create(routine_key_t *key, void (*destructor)(void *));

/* Deletes a key. Calls no destructor; values set under it are forgotten. 0 or -EINVAL (no such key). */
ROUTINES_API int routine_key_delete(routine_key_t key);

/* The value, or NULL (none set, or no such key). Never blocks. */
ROUTINES_API void *routine_getspecific(routine_key_t key);

/* Sets it. Returns 0; -EINVAL no such key; -ENOMEM. */
ROUTINES_API int routine_setspecific(routine_key_t key, const void *value);

ROUTINES_END

#ifdef __cplusplus
template <class T>
ROUTINES_NODISCARD inline routine_t routines_go_copy(const char *where, routine_fn *fn, const T &object)
{
    static_assert(__is_trivially_copyable(T), "go_copy copies bytes: the type must be trivially copyable");
    return routine_go_copy_at(where, fn, &object, sizeof object);
}
#define routine_go_copy(...) routines_go_copy(ROUTINES_HERE, __VA_ARGS__)
#else
#define routine_go_copy(fn, ...) routine_go_copy_at(ROUTINES_HERE, (fn), &(__VA_ARGS__), sizeof(__VA_ARGS__))
#endif

#ifndef ROUTINES_NO_GO
#define go(...)          routine_go(__VA_ARGS__)
#define go_with(...)     routine_go_with(__VA_ARGS__)
#define go_copy(...)     routine_go_copy(__VA_ARGS__)
#define go_detached(...) routine_go_detached(__VA_ARGS__)
#endif

#endif
