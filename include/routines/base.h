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

#endif
