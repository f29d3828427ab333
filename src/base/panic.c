/* SPDX-License-Identifier: MIT
 *
 * Floor 0. See panic.h. Formats into a buffer and writes once, without stdio's
 * locks: the caller may stand on any stack and hold anything.
 */
#include "panic.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void say(const char *format, va_list args)
{
    char text[1024] = "routines: ";
    const size_t head = sizeof "routines: " - 1;
    int n = vsnprintf(text + head, sizeof text - head - 1, format, args);
    size_t length = head + (n < 0 ? 0 : (size_t)n);
    if (length > sizeof text - 2)
        length = sizeof text - 2;
    text[length++] = '\n';
    const char *from = text;
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, from, length);
        if (written <= 0)
            break;
        from += written;
        length -= (size_t)written;
    }
}

void rt_panic(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    abort();
}

void rt_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}
