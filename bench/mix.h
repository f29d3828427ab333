/* SPDX-License-Identifier: MIT
 *
 * Numbers that look random and are the same everywhere: the increment and the last step of splitmix64
 * (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). The peers have the
 * same in their own languages.
 */
#ifndef BENCH_MIX_H
#define BENCH_MIX_H

#include <stdint.h>

#define BENCH_GOLDEN UINT64_C(0x9E3779B97F4A7C15)

static inline uint64_t bench_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

#endif
