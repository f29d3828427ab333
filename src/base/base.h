/* SPDX-License-Identifier: MIT
 *
 * Floor 0. The few words every file uses: branch hints, container_of, the size
 * of a cache line, a plain random generator, and the counter that only its owner writes.
 */
#ifndef RT_BASE_BASE_H
#define RT_BASE_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RT_LIKELY(x)   __builtin_expect(!!(x), 1)
#define RT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define RT_NOINLINE    __attribute__((noinline))
#define RT_COLD        __attribute__((noinline, cold))
#define RT_NORETURN    __attribute__((noreturn))
#define RT_INLINE      static inline __attribute__((always_inline))

/* What two CPUs must not write at the same time is this far apart (two lines: the
 * prefetcher of x86-64 fetches them in pairs only for L2, one line is what is shared). */
#define RT_CACHE_LINE 64
#define RT_ALIGNED    _Alignas(RT_CACHE_LINE)

#define RT_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

RT_INLINE size_t rt_round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* xorshift64* (Vigna 2016): victims, nothing that needs to be unpredictable. */
RT_INLINE uint64_t rt_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

/* A counter with one writer and any readers. The addition is a plain load and store: relaxed, since a
 * reader orders nothing by it; rt_counter_add_release is for the counts of which a snapshot says
 * "this one is never ahead of that one" (stats.c). */
typedef _Atomic uint64_t rt_counter;

RT_INLINE void rt_counter_add(rt_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

RT_INLINE void rt_counter_add_release(rt_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_release);
}

RT_INLINE uint64_t rt_counter_read(const rt_counter *c)
{
    return atomic_load_explicit(c, memory_order_acquire);
}

/* A pause for the CPU inside a short bounded spin. */
RT_INLINE void rt_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

#endif
