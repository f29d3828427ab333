/* SPDX-License-Identifier: MIT
 *
 * What the other headers share: linkage, attributes and the helpers behind
 * the macros. Nothing here is meant to be used directly.
 */
#ifndef ROUTINES_BASE_H
#define ROUTINES_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
#define ROUTINES_BEGIN extern "C" {
#define ROUTINES_END   }
#else
#define ROUTINES_BEGIN
#define ROUTINES_END
#endif

/* The library is compiled with hidden visibility; what the headers declare is public. */
#define ROUTINES_API __attribute__((visibility("default")))

/* The result carries an error or a handle that must not be dropped. */
#define ROUTINES_NODISCARD __attribute__((warn_unused_result))

#define ROUTINES_STRING2(x) #x
#define ROUTINES_STRING(x)  ROUTINES_STRING2(x)

/* The place of a call, as one string constant: "file.c:12". */
#define ROUTINES_HERE __FILE__ ":" ROUTINES_STRING(__LINE__)

#define ROUTINES_CAT2(a, b) a##b
#define ROUTINES_CAT(a, b)  ROUTINES_CAT2(a, b)

ROUTINES_BEGIN

/*
 * What stands behind the declarations that are valid to the end of the enclosing braces (a limit of time, a
 * shield, a defer, a scope): a record in the frame of the function, which also stands in a list of its
 * routine. So leaving the braces by break, continue, return or goto ends it, and so do routine_exit() and
 * routine_panic(). longjmp() out of such braces is forbidden; the library panics when it notices.
 */
typedef struct {
    void *words[6];
} routines_frame_t;

ROUTINES_API void routines_frame_end(routines_frame_t *frame);

ROUTINES_END

/* A frame, and a pointer made by the function that begins it: the record knows its own address. */
#define ROUTINES_FRAME(name, begin, ...)                                                                     \
    __attribute__((cleanup(routines_frame_end))) routines_frame_t name;                                      \
    void *ROUTINES_CAT(name, _at) __attribute__((unused)) = begin(&name, __VA_ARGS__)

#endif
