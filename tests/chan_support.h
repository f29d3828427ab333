/* SPDX-License-Identifier: MIT
 *
 * What the tests of channels, select, broadcasts and locks share: actors that are routines or plain
 * threads, a runtime whose waiting routines can be counted, a director on a single worker, duels,
 * and elements whose every byte can be verified.
 *
 * How a test knows that somebody waits, without a sleep: in a runtime of its own the
 * statistics say how many have parked. With one worker (direct()) it follows that they stand in
 * the queue of their channel, since nobody else runs before they do: so the order of
 * arrival is known.
 */
#ifndef TESTS_CHAN_SUPPORT_H
#define TESTS_CHAN_SUPPORT_H

#include "support.h"

#include "routines/chan.h"

/* A channel, or the end of the program: what follows makes no sense without it. */
#define MAKE(type, capacity) support_made(__LINE__, chan_make(type, (capacity)))
#define NEW(size, capacity)  support_made(__LINE__, chan_new((size), (capacity)))

SUPPORT_UNUSED static chan_t *support_made(int line, chan_t *ch)
{
    if (ch == NULL) {
        support_fail(__FILE__, line, "no channel was made");
        abort();
    }
    return ch;
}

/* ---- actors ---- */

struct actor {
    bool is_thread;
    pthread_t thread;
    routine_t routine;
};

/* Starts fn(arg) as a plain thread, or as a routine (of the caller's runtime; from a plain thread
 * the default one). */
SUPPORT_UNUSED static struct actor act(bool as_thread, routine_fn *fn, void *arg)
{
    struct actor a = {.is_thread = as_thread};
    if (as_thread)
        a.thread = support_thread(fn, arg);
    else
        a.routine = go(fn, arg);
    return a;
}

/* Starts it as a routine of this runtime. */
SUPPORT_UNUSED static struct actor act_on(routine_runtime_t *runtime, routine_fn *fn, void *arg)
{
    return (struct actor){.is_thread = false, .routine = support_go_on(runtime, fn, arg)};
}

SUPPORT_UNUSED static void *act_end(struct actor a)
{
    void *result = NULL;
    if (a.is_thread)
        support_thread_join(a.thread, &result);
    else
        CHECK_EQ(routine_join(a.routine, &result), 0);
    return result;
}

/* Who takes part: all routines, all threads, or by turns. */
enum cast { ROUTINES, THREADS, MIXED, CASTS };

SUPPORT_UNUSED static bool cast_is_thread(enum cast cast, int i)
{
    return cast == THREADS || (cast == MIXED && i % 2 == 0);
}

/* ---- those who wait ---- */

/* Waits until so many routines of the runtime (NULL: the caller's) are parked. */
SUPPORT_UNUSED static void await_parked(routine_runtime_t *runtime, uint64_t count)
{
    for (;;) {
        routine_stats_t stats;
        const int rc = routine_stats(runtime, &stats);
        if (rc != 0) {
            CHECK_EQ(rc, 0);
            return;
        }
        if (stats.parked == count)
            return;
        routine_yield();
    }
}

/* Runs fn(arg) as a routine of a runtime with one worker. There, whoever has parked has done so
 * completely when the director runs. */
SUPPORT_UNUSED static void direct(routine_fn *fn, void *arg)
{
    routine_runtime_t *runtime = support_runtime(1);
    CHECK_EQ(routine_runtime_run(runtime, fn, arg, NULL), 0);
    support_runtime_end(runtime);
}

/* A plain thread that says where it is, so that others see it asleep in the kernel. */
struct sleeper {
    _Atomic int tid;
};

SUPPORT_UNUSED static void sleeper_here(struct sleeper *s)
{
    atomic_store(&s->tid, gettid());
}

/* Waits until it sleeps. Where a tool may put threads to sleep for reasons of its own, only until it has
 * come. Returns whether it is known to sleep. */
SUPPORT_UNUSED static bool await_asleep(struct sleeper *s)
{
    WAIT_UNTIL(atomic_load(&s->tid) != 0);
    if (support_slow())
        return false;
    for (;;) {
        char path[64], text[512] = "";
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&s->tid));
        FILE *file = fopen(path, "r");
        const size_t got = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
        if (file != NULL)
            fclose(file);
        text[got] = '\0';
        const char *name_end = strrchr(text, ')');
        if (name_end == NULL)
            return false;
        if (name_end[1] == ' ' && name_end[2] == 'S')
            return true;
        routine_yield();
    }
}

/* ---- duels: two act at about the same moment, round after round ---- */

struct duel {
    struct support_turn turn;
    _Atomic int arrived;
    bool over;
    void (*act)(void *);
    void *arg;
    struct actor second;
};

SUPPORT_UNUSED static void *duel_second(void *arg)
{
    struct duel *d = arg;
    for (;;) {
        support_turn_wait(&d->turn);
        if (d->over)
            return NULL;
        support_meet(&d->arrived, 2);
        d->act(d->arg);
        support_turn_done(&d->turn);
    }
}

/* The second one does act(arg) in each round. */
SUPPORT_UNUSED static void duel_start(struct duel *d, bool as_thread, void (*act_fn)(void *), void *arg)
{
    memset(d, 0, sizeof *d);
    d->act = act_fn;
    d->arg = arg;
    d->second = act(as_thread, duel_second, d);
}

/* After this both act. */
SUPPORT_UNUSED static void duel_begin(struct duel *d, long round)
{
    atomic_store(&d->arrived, 0);
    support_turn_begin(&d->turn);
    if (round % 4 == 1)
        routine_yield();
    if (round % 4 != 0)
        support_meet(&d->arrived, 2);
}

/* After this the second one has acted. */
SUPPORT_UNUSED static void duel_end(struct duel *d)
{
    support_turn_await(&d->turn);
}

SUPPORT_UNUSED static void duel_stop(struct duel *d)
{
    d->over = true;
    support_turn_begin(&d->turn);
    act_end(d->second);
}

/* ---- elements ---- */

/* Element number n: any size, every byte known. */
SUPPORT_UNUSED static void element_write(unsigned char *bytes, size_t size, uint64_t n)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((n + 1) * 151 + i * 7 + (i >> 8) * 13 + (n >> 8) * 3);
}

SUPPORT_UNUSED static bool element_is(const unsigned char *bytes, size_t size, uint64_t n)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)((n + 1) * 151 + i * 7 + (i >> 8) * 13 + (n >> 8) * 3))
            return false;
    return true;
}

/* Room for an element, with bytes before and behind it that nobody may write. */
enum { FENCE = 64 };

SUPPORT_UNUSED static unsigned char *element_room(size_t size)
{
    unsigned char *room = malloc(size + (size_t)2 * FENCE);
    if (room == NULL)
        abort();
    memset(room, 0xc3, size + (size_t)2 * FENCE);
    return room + FENCE;
}

SUPPORT_UNUSED static bool element_fenced(const unsigned char *bytes, size_t size)
{
    for (size_t i = 1; i <= FENCE; i++)
        if (bytes[-(ptrdiff_t)i] != 0xc3 || bytes[size + i - 1] != 0xc3)
            return false;
    return true;
}

SUPPORT_UNUSED static void element_free(unsigned char *bytes)
{
    free(bytes - FENCE);
}

/* ---- many at once ---- */

/* Runs fn(arg) n times at once: by turns in a plain thread, a routine, and a routine of another
 * runtime. */
SUPPORT_UNUSED static void crowd(int n, routine_fn *fn, void *arg)
{
    enum { MOST = 32 };
    struct actor actors[MOST];
    routine_runtime_t *other = support_runtime(2);
    CHECK(n <= MOST);
    for (int i = 0; i < n && i < MOST; i++)
        actors[i] = i % 3 == 2 ? act_on(other, fn, arg) : act(i % 3 == 0, fn, arg);
    for (int i = 0; i < n && i < MOST; i++)
        act_end(actors[i]);
    support_runtime_end(other);
}

/* The same by routines of one runtime only. */
SUPPORT_UNUSED static void company(int n, routine_fn *fn, void *arg)
{
    routine_t *h = calloc((size_t)n, sizeof *h);
    for (int i = 0; i < n; i++)
        h[i] = go(fn, arg);
    for (int i = 0; i < n; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    free(h);
}

#endif
