/* SPDX-License-Identifier: MIT
 *
 * Floor 5. The settings of the default runtime from the environment.
 */
#include <errno.h>
#include <stdlib.h>

#include "../base/panic.h"
#include "routine.h"

/* A whole number with an optional suffix, in [1, most]. Sets *n; false: not that. */
static bool parse(const char *text, bool suffix, uint64_t most, uint64_t *n)
{
    uint64_t value = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > UINT64_C(1) << 32)
            return false;
    }
    if (suffix && *text) {
        switch (*text++) {
        case 'k':
        case 'K':
            value <<= 10;
            break;
        case 'm':
        case 'M':
            value <<= 20;
            break;
        case 'g':
        case 'G':
            value <<= 30;
            break;
        default:
            return false;
        }
    }
    *n = value;
    return *text == '\0' && value >= 1 && value <= most;
}

/* True from the second time on. */
static bool complained(_Atomic uint32_t *before)
{
    return atomic_exchange_explicit(before, 1, memory_order_relaxed) != 0; /* nothing goes with it */
}

size_t rt_config_workers(void)
{
    static _Atomic uint32_t before;
    const char *text = getenv("ROUTINES_WORKERS");
    uint64_t n = 0;
    if (!text || !*text)
        return 0;
    if (parse(text, false, ROUTINE_WORKERS_MAX, &n))
        return (size_t)n;
    if (!complained(&before))
        rt_warn("ROUTINES_WORKERS=%s is ignored: it must be a number from 1 to %d", text,
                ROUTINE_WORKERS_MAX);
    return 0;
}

size_t rt_config_stack_size(void)
{
    static _Atomic uint32_t before;
    const char *text = getenv("ROUTINES_STACK_SIZE");
    uint64_t n = 0;
    if (!text || !*text)
        return 0;
    if (parse(text, true, ROUTINE_STACK_MAX, &n))
        return (size_t)n;
    if (!complained(&before))
        rt_warn("ROUTINES_STACK_SIZE=%s is ignored: it must be a number of bytes up to %zu, such as 262144 "
                "or 256K",
                text, ROUTINE_STACK_MAX);
    return 0;
}
