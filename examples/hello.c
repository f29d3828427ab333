/* SPDX-License-Identifier: MIT
 *
 * hello: two routines run beside main, which waits for both.
 *
 *     ./hello
 */
#include <routines.h>
#include <stdio.h>

static void *greet(void *name)
{
    printf("hello, %s\n", (const char *)name);
    return NULL;
}

int main(void)
{
    routine_t a = go(greet, "routines");
    routine_t b = go(greet, "world");
    const int first = routine_join(a, NULL);
    const int second = routine_join(b, NULL);
    return first || second; /* 0: both ran */
}
