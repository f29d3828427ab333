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
 * Calls that block also return -ECANCELED once the calling routine has been cancelled
 * (routine_cancel; but for join), and -ETIMEDOUT once a limit of time that is in force for it has passed
 * (time.h). Both are looked at first, and stay: the next such call returns the same.
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
 *   -ENOTRECOVERABLE  it ended by routine_panic(); routine_panic_message() has the text
 *   -ETIMEDOUT   the caller's limit of time passed; handle and result are as before, join again
 *   the negative errno that a handle which could not start carries
 *
 * A cancellation of the caller does not end a join; to give up early use a limit, or a scope, which
 * cancels its children.
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
 * -ECANCELED, the copy of a closure is released. One that runs finds out by what it calls: every
 * operation that can block returns -ECANCELED (but join, and under routine_shield()), the one in which it
 * waits now, too; and routine_check(). Nothing is lost: of a cancellation and what was waited for exactly one
 * happens. The children of its scopes (scope.h) are cancelled with it. What it does about it is its own
 * affair: a routine that returns has a result, and its join is 0.
 *
 * The request is sticky and may be repeated. Never blocks. Costs some microseconds if the routine has
 * started. Returns 0, also for one that has finished but was not joined yet; -ESRCH for a null or stale
 * handle.
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
 * For loops that compute, and to tell whose limit has passed: 0; -ECANCELED once somebody has cancelled the
 * calling routine; -ETIMEDOUT once the limit in force has passed. Never blocks; about a nanosecond, under a
 * limit a look at the clock.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_check(void);

/* Lets other routines run first (on a plain thread: other threads). Comes back soon. */
ROUTINES_API void routine_yield(void);

/*
 * Ends the calling routine with this result, from any depth of calls: defers run, limits, shields
 * and scopes end, from the innermost outwards. Other cleanup that the abandoned frames meant to do is not
 * done. On a plain thread it panics.
 */
ROUTINES_API void routine_exit(void *result) __attribute__((noreturn));

/* ---- valid to the end of the braces ---- */

/*
 * routine_defer(void (*fn)(void *), void *arg);
 *
 * A declaration: fn(arg) will be called at the end of the enclosing braces, however they are left: by
 * running out of them, break, continue, return, goto, routine_exit() or routine_panic(). Several run in the
 * opposite order of their declaration. fn may block; neither a cancellation nor the limit in force reaches it
 * (a limit of its own does).
 *
 *     FILE *file = fopen(path, "r");
 *     if (!file)
 *         return -errno;
 *     routine_defer(close_file, file);
 *
 * One on a line.
 */
#define routine_defer(...)                                                                                   \
    ROUTINES_FRAME(ROUTINES_CAT(routines_defer_, __LINE__), routines_defer_begin, __VA_ARGS__)
ROUTINES_API void *routines_defer_begin(routines_frame_t *frame, void (*fn)(void *), void *arg);

/*
 * routine_shield();
 *
 * A declaration: to the end of the enclosing braces the routine is not disturbed: a cancellation is held
 * off, and the limits declared outside do not count. For cleanup that has to block. A limit declared
 * inside counts.
 *
 *     routine_shield();
 *     routine_with_timeout(ROUTINE_S);
 *     rc = chan_send(log, &last_words);
 */
#define routine_shield() ROUTINES_FRAME(ROUTINES_CAT(routines_shield_, __LINE__), routines_shield_begin, 0)
ROUTINES_API void *routines_shield_begin(routines_frame_t *frame, int nothing);

/* ---- panics ---- */

/*
 * Ends the calling routine because something is wrong with the program: defers run, scopes end, as by
 * routine_exit(). Who joins it gets -ENOTRECOVERABLE, and the text by routine_panic_message(); a scope takes
 * it as the failure of a child. If nobody will join it (it is detached), or on a plain thread, the process
 * ends by abort() after the text, the routine, where it was started and a backtrace have been written to
 * stderr; unless the hook decides otherwise.
 */
ROUTINES_API void routine_panic(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/*
 * The text of the panic that the caller's last join with -ENOTRECOVERABLE was about (routine_join,
 * routine_try_join, routine_run, routine_scope_join); "" if there was none. Valid until the caller's next
 * join.
 */
ROUTINES_API const char *routine_panic_message(void);

/* A panic that nobody joins. */
typedef struct {
    const char *message;
    uint64_t id;       /* of the routine (routine_id); 0: a plain thread */
    const char *name;  /* as routine_name */
    const char *where; /* started at "file:line"; "" for a plain thread */
} routine_panic_t;

/*
 * What happens at a panic that nobody joins. The hook is called by the panicking routine, behind its defers,
 * or by whoever detaches one that has panicked; it may log, and must not panic. If it returns true the
 * process goes on without that routine (not if a plain thread has panicked); if false, it ends as without a
 * hook. Returns the hook before; NULL: none. One for the process, as a signal handler; any thread.
 */
typedef bool routine_panic_hook_t(const routine_panic_t *panic);
ROUTINES_API routine_panic_hook_t *routine_set_panic_hook(routine_panic_hook_t *hook);

/*
 * Runs fn(arg) as a routine of the default runtime and waits for it; what a main
 * function usually begins with. Returns what routine_join would; but if the caller's limit passes, the
 * routine is cancelled, and waited for.
 */
#define routine_run(...) routine_run_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API int routine_run_at(const char *where, routine_fn *fn, void *arg, void **result);

/*
 * Routine-local storage, with the contract of pthread_key_create and its
 * companions: the calling routine's own value behind each key. On a plain
 * thread it is that thread's value. Use it where you would use a thread-local
 * variable: a routine may change threads, its locals go with it. A new routine
 * starts with none; but the children of a scope (scope.h) begin with the values that whoever starts them has
 * under keys of routine_key_create_inherited().
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

/*
 * Creates a key whose values go on to the children of scopes, to theirs, and so on: what belongs to a
 * request, such as its id, its user, its log. They have no destructor: what a value points to belongs to the
 * one who has set it, and must outlast the scope. (This, with limits and cancellation, is what Go's context
 * carries.) Returns as routine_key_create.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_key_create_inherited(routine_key_t *key);

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
