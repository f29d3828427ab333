/* SPDX-License-Identifier: MIT
 *
 * What does a tree of routines cost that talk over channels? The skynet benchmark: a node starts ten
 * children and sends the sum of what they send it on the channel of its parent; a leaf sends its
 * number. With a million leaves that is 1,111,111 routines and 111,112 channels. The time is that of the
 * whole tree, once, in a process that has done nothing else, as in the original; peak_bytes is how much more
 * memory was resident at the worst moment of it than before.
 *
 * The channels are rendezvous ones, as in the original; "routines-buffered" has room for all ten sums.
 * "routines-join" is the same tree without channels: go and join. The limit is the recursion without
 * routines.
 *
 * ROUTINES_BENCH_MILLION: how many leaves, 1000000 unless given; rounded down to a power of ten.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <routines/chan.h>
#include <routines/routine.h>

#include "harness.h"

enum { CHILDREN = 10 };

static int64_t leaves(void)
{
    int64_t most = (int64_t)bench_size("ROUTINES_BENCH_MILLION", 1000000);
    int64_t size = 1;
    while (size <= most / CHILDREN)
        size *= CHILDREN;
    return size;
}

/* The leaves are numbered from 0. */
static int64_t sum_of(int64_t size)
{
    return size * (size - 1) / 2;
}

/* The most memory that was resident so far, in bytes. */
static double peak(void)
{
    static const char key[] = "VmHWM:";
    double bytes = 0;
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return bytes;
    char line[256];
    while (bytes <= 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, sizeof key - 1) == 0)
            bytes = strtod(line + sizeof key - 1, NULL) * 1024;
    }
    fclose(file);
    return bytes;
}

/* Makes the peak what is resident now. Where the kernel cannot do it, a fresh process has nothing to forget.
 */
static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (file != NULL) {
        fputs("5", file);
        fclose(file);
    }
}

/* Something could not be made or sent. relaxed: read when the whole tree has answered. */
static atomic_bool failed;

static void fail(void)
{
    atomic_store_explicit(&failed, true, memory_order_relaxed);
}

/* ---- over channels ---- */

typedef struct {
    chan_t *parent; /* its parent's, who drops it when all children have been heard: chan.h allows that */
    int64_t first;  /* the number of its first leaf */
    int64_t size;   /* its leaves */
    ptrdiff_t capacity;
} node_t;

static void *node(void *arg);

static int64_t sum_of_children(const node_t *n)
{
    node_t child[CHILDREN]; /* a child has read its own before it sends */
    int64_t sum = 0, part;
    int started = 0;
    chan_t *ch = chan_make(int64_t, n->capacity);
    if (ch == NULL) {
        fail();
        return 0;
    }
    for (int i = 0; i < CHILDREN; i++) {
        child[i] = *n;
        child[i].parent = ch;
        child[i].size = n->size / CHILDREN;
        child[i].first = n->first + i * child[i].size;
        if (go_detached(node, &child[i]) == 0)
            started++;
        else
            fail();
    }
    for (; started > 0; started--) {
        if (chan_recv(ch, &part) == 0)
            sum += part;
        else
            fail();
    }
    chan_unref(ch);
    return sum;
}

static void *node(void *arg)
{
    const node_t n = *(const node_t *)arg;
    int64_t sum = n.size == 1 ? n.first : sum_of_children(&n);
    if (chan_send(n.parent, &sum) != 0)
        fail();
    return NULL;
}

static void over_channels(bench_t *b, ptrdiff_t capacity)
{
    atomic_store_explicit(&failed, false, memory_order_relaxed);
    chan_t *ch = chan_make(int64_t, capacity);
    if (ch == NULL) {
        bench_fail(b, "no memory for a channel");
        return;
    }
    node_t root = {.parent = ch, .size = leaves(), .capacity = capacity};
    int64_t sum = 0;
    forget_peak();
    double before = peak();
    bench_start(b);
    int rc = go_detached(node, &root);
    if (rc == 0)
        rc = chan_recv(ch, &sum);
    bench_stop(b);
    bench_counter(b, "peak_bytes", peak() - before);
    bench_counter(b, "leaves", (double)root.size);
    chan_unref(ch);
    if (rc != 0 || atomic_load_explicit(&failed, memory_order_relaxed))
        bench_fail(b, "a go, send or receive failed");
    else if (sum != sum_of(root.size))
        bench_fail(b, "the wrong sum");
}

static void skynet_routines(bench_t *b)
{
    over_channels(b, 0);
}

BENCH(skynet_routines, .name = "skynet/routines", .on = BENCH_WORKERS, .unit = BENCH_MS, .once = true,
      .fresh = true);

static void skynet_buffered(bench_t *b)
{
    over_channels(b, CHILDREN);
}

BENCH(skynet_buffered, .name = "skynet/routines-buffered", .on = BENCH_WORKERS, .unit = BENCH_MS,
      .once = true, .fresh = true);

/* ---- by go and join ---- */

typedef struct {
    int64_t first;
    int64_t size;
    int64_t sum; /* the result */
} subtree_t;

static void *subtree(void *arg)
{
    subtree_t *t = arg;
    subtree_t child[CHILDREN];
    routine_t h[CHILDREN];
    if (t->size == 1) {
        t->sum = t->first;
        return NULL;
    }
    for (int i = 0; i < CHILDREN; i++) {
        child[i].size = t->size / CHILDREN;
        child[i].first = t->first + i * child[i].size;
        h[i] = go(subtree, &child[i]);
    }
    t->sum = 0;
    for (int i = 0; i < CHILDREN; i++) {
        if (routine_join(h[i], NULL) == 0)
            t->sum += child[i].sum;
        else
            fail();
    }
    return NULL;
}

static void skynet_join(bench_t *b)
{
    atomic_store_explicit(&failed, false, memory_order_relaxed);
    subtree_t root = {.size = leaves()};
    forget_peak();
    double before = peak();
    bench_start(b);
    int rc = routine_join(go(subtree, &root), NULL);
    bench_stop(b);
    bench_counter(b, "peak_bytes", peak() - before);
    bench_counter(b, "leaves", (double)root.size);
    if (rc != 0 || atomic_load_explicit(&failed, memory_order_relaxed))
        bench_fail(b, "a join failed");
    else if (root.sum != sum_of(root.size))
        bench_fail(b, "the wrong sum");
}

BENCH(skynet_join, .name = "skynet/routines-join", .on = BENCH_WORKERS, .unit = BENCH_MS, .once = true,
      .fresh = true);

/* ---- the limit ---- */

/* Through a pointer, as a library has to: otherwise compilers unroll the recursion into itself. */
static int64_t serial(int64_t first, int64_t size)
{
    int64_t (*call)(int64_t, int64_t) = serial;
    int64_t sum = 0;
    if (size == 1)
        return first;
    __asm__ volatile("" : "+r"(call));
    for (int i = 0; i < CHILDREN; i++)
        sum += call(first + i * (size / CHILDREN), size / CHILDREN);
    return sum;
}

static void skynet_limit_serial(bench_t *b)
{
    int64_t size = leaves();
    bool wrong = false;
    bench_start(b);
    for (uint64_t i = 0; i < bench_iterations(b); i++)
        wrong |= serial(0, size) != sum_of(size);
    bench_stop(b);
    if (wrong)
        bench_fail(b, "the wrong sum");
}

BENCH(skynet_limit_serial, .name = "skynet/limit-serial", .on = BENCH_THREAD, .unit = BENCH_MS);
