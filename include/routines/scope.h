/* SPDX-License-Identifier: MIT
 *
 * Scopes: routines that cannot outlive the braces they were started in (structured concurrency).
 *
 *     int fetch_both(struct page *a, struct page *b)
 *     {
 *         int error;
 *         routine_scope(s);                              // to the end of the braces
 *         routine_with_timeout(2 * ROUTINE_S);
 *         routine_scope_go(&s, fetch, a);                // int fetch(void *): 0 or a negative errno
 *         routine_scope_go(&s, fetch, b);
 *         const int rc = routine_scope_join(&s, &error); // 0: all children have ended
 *         return rc != 0 ? rc : error;                   // error: of the first child that failed
 *     }
 *
 * The first child that fails cancels all others, and its error is the scope's. Leaving the braces in
 * any way (return, break, goto, routine_exit, routine_panic) without a join that returned 0 cancels the
 * children and waits for them. Cancelling a routine cancels the children of its scopes, and so on downwards.
 * The children inherit the limit of time that was in force where the scope was declared, and the values of
 * inherited keys (routine_key_create_inherited) of whoever starts them.
 *
 * Results stand where the children put them: give each its own place, and they are in order
 * (routine_scope_go_each).
 */
#ifndef ROUTINES_SCOPE_H
#define ROUTINES_SCOPE_H

#include "routine.h"

ROUTINES_BEGIN

/* Opaque. It must stay where it is; so it is declared by routine_scope(). */
typedef struct {
    void *words[28];
} routine_scope_t;

/* A child. 0, or a negative errno: it has failed. */
typedef int routine_scope_fn(void *arg);

/*
 * routine_scope(s);
 * routine_scope_limited(s, n);
 *
 * Declarations of a routine_scope_t s, in which children can be started until the end of the enclosing
 * braces; of a limited one at most n (0: any number) exist at the same time. The routine (or plain thread)
 * that declares it is its owner. A scope declared by a routine that has been cancelled is cancelled from the
 * start, but not under a shield; and one declared under a shield is not reached by a cancellation of its
 * owner.
 */
#define routine_scope(s) routine_scope_limited(s, 0)
#define routine_scope_limited(s, n)                                                                          \
    __attribute__((cleanup(routine_scope_end))) routine_scope_t s;                                           \
    void *ROUTINES_CAT(s, _at) __attribute__((unused)) = routine_scope_begin(&(s), (n))

/*
 * Starts a child that runs fn(arg). The owner may call it, and any routine or thread that knows the scope to
 * be open: a child too, so children can start children. In a limited scope that is full it waits for one to
 * end (a child that does so may wait for itself: give such a scope no limit). fn's routine_exit(p) returns
 * (int)(intptr_t)p; its panic is the failure -ENOTRECOVERABLE. One that is cancelled before it has started
 * never starts, so a descriptor or the like that its argument owns is still the starter's to release.
 *
 * Returns 0; -ECANCELED: the scope has been cancelled, or a child has failed, or the caller was cancelled
 * while it waited; -ETIMEDOUT: the caller's limit passed while it waited; -EINVAL: null scope or function;
 * -ENOMEM; -EAGAIN: no thread could be created for the default runtime. Then fn is not called.
 */
#define routine_scope_go(...) routine_scope_go_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API int routine_scope_go_at(const char *where, routine_scope_t *scope, routine_scope_fn *fn,
                                     void *arg);

/* int routine_scope_go_copy(routine_scope_t *s, routine_scope_fn *fn, object): as routine_scope_go, with a
 * copy of the object as go_copy makes it. */
ROUTINES_API int routine_scope_go_copy_at(const char *where, routine_scope_t *scope, routine_scope_fn *fn,
                                          const void *object, size_t size);

/*
 * Starts a child for each element of an array: fn(first), fn(first + size), ... Each works on its own
 * element, and may leave its result there: so results are in order. Returns 0, or the first error of
 * routine_scope_go; the rest is not started then.
 *
 *     struct page pages[20] = {...};
 *     routine_scope_limited(s, 4);
 *     rc = routine_scope_go_each(&s, fetch, pages, 20, sizeof pages[0]);
 */
#define routine_scope_go_each(...) routine_scope_go_each_at(ROUTINES_HERE, __VA_ARGS__)
ROUTINES_API int routine_scope_go_each_at(const char *where, routine_scope_t *scope, routine_scope_fn *fn,
                                          void *first, size_t count, size_t size);

/*
 * Waits until all children have ended; runs those that have not started on the caller's stack. Only the
 * owner may call it. Blocks.
 *
 * Returns 0, and *error (may be NULL) is 0, or the error of the first child that failed, other than
 * -ECANCELED after a cancellation of the scope; but -ENOTRECOVERABLE if any child has panicked, and
 * routine_panic_message() has the text of the first. The scope may be used again then, unless it was
 * cancelled. Or, about the wait, with the scope as before and *error untouched: -ETIMEDOUT the limit in force
 * passed; -ECANCELED the caller was cancelled (and with it the children); -EPERM the caller is not the owner;
 * -EINVAL null.
 */
ROUTINES_API ROUTINES_NODISCARD int routine_scope_join(routine_scope_t *scope, int *error);

/* Cancels all children, and those that are yet to come. Any routine or thread that knows the scope to be
 * open; never blocks. */
ROUTINES_API void routine_scope_cancel(routine_scope_t *scope);

/*
 * For code that can't declare a scope: what routine_scope_limited() is made of. Begin and end are called by
 * the same routine, nested as braces are; the end cancels the children unless a join has returned 0, and
 * waits for them. Neither is cut short by anything. A panic of a child that no join has told of ends the
 * process then, as that of a detached routine.
 */
ROUTINES_API void *routine_scope_begin(routine_scope_t *scope, size_t limit);
ROUTINES_API void routine_scope_end(routine_scope_t *scope);

ROUTINES_END

#ifdef __cplusplus
template <class T>
inline int routines_scope_go_copy(const char *where, routine_scope_t *scope, routine_scope_fn *fn,
                                  const T &object)
{
    static_assert(__is_trivially_copyable(T),
                  "routine_scope_go_copy copies bytes: the type must be trivially copyable");
    return routine_scope_go_copy_at(where, scope, fn, &object, sizeof object);
}
#define routine_scope_go_copy(...) routines_scope_go_copy(ROUTINES_HERE, __VA_ARGS__)
#else
#define routine_scope_go_copy(s, fn, ...)                                                                    \
    routine_scope_go_copy_at(ROUTINES_HERE, (s), (fn), &(__VA_ARGS__), sizeof(__VA_ARGS__))
#endif

#endif
