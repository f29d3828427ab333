/* SPDX-License-Identifier: MIT
 *
 * Tests of channels, from the outside (chan.h): every return code at every capacity, who
 * waits and who is served first, what is copied, traffic among many with nothing lost or
 * doubled, closing and freeing at bad moments, unbounded channels, several runtimes; and some programs
 * that are known from Go: a chain of 10,000, the sieve, the power series. Select is in
 * select_test.c, broadcasts in broadcast_test.c.
 *
 * What is handed over by a channel is plain memory here, so that ThreadSanitizer sees
 * whether sending and receiving order it.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "chan_support.h"

#include <malloc.h>

static const ptrdiff_t capacities[] = {0, 1, 2, 3, 10, CHAN_UNBOUNDED};
enum { CAPACITIES = COUNT_OF(capacities), BOUNDED = CAPACITIES - 1 };

/* ---- making one ---- */

TEST_EVERYWHERE(null_channels)
{
    int x = 5;
    CHECK_EQ(chan_send(NULL, &x), -EINVAL);
    CHECK_EQ(chan_recv(NULL, &x), -EINVAL);
    CHECK_EQ(chan_try_send(NULL, &x), -EINVAL);
    CHECK_EQ(chan_try_recv(NULL, &x), -EINVAL);
    CHECK_EQ(chan_recv(NULL, NULL), -EINVAL);
    CHECK_EQ(chan_close(NULL), -EINVAL);
    CHECK_EQ(chan_len(NULL), 0);
    CHECK_EQ(chan_cap(NULL), 0);
    CHECK_EQ(chan_missed(NULL), 0);
    CHECK(chan_ref(NULL) == NULL);
    chan_unref(NULL);
    CHECK_EQ(x, 5);
}

TEST_EVERYWHERE(what_cannot_be_made)
{
    static const struct {
        size_t size;
        ptrdiff_t capacity;
    } impossible[] = {
        {4, -1},
        {0, -1},
        {4, PTRDIFF_MIN},
        {0, PTRDIFF_MIN},
        {4, -4096},
        {SIZE_MAX, 0},
        {SIZE_MAX, 1},
        {SIZE_MAX / 2, 2},
        {CHAN_ELEMENT_MAX + 1, 0},
        {CHAN_ELEMENT_MAX + 1, CHAN_UNBOUNDED},
        {8, PTRDIFF_MAX - 1},
        {2, PTRDIFF_MAX / 2 + 1},
        {16, PTRDIFF_MAX / 8},
        {CHAN_ELEMENT_MAX, PTRDIFF_MAX / 2},
        {CHAN_ELEMENT_MAX, (ptrdiff_t)1 << 38}, /* 2 to the 64: nothing, if it wraps around */
        {(size_t)1 << 20, (ptrdiff_t)1 << 44},
        {3, (ptrdiff_t)(SIZE_MAX / 3) + 1},
#if !SUPPORT_ASAN && !SUPPORT_TSAN /* their malloc ends the process instead of saying no */
        {1, PTRDIFF_MAX - 1},
        {1, PTRDIFF_MAX - 4096},
        {8, PTRDIFF_MAX / 8},
        {1, (ptrdiff_t)1 << 60},
        {CHAN_ELEMENT_MAX, (ptrdiff_t)1 << 26}, /* 4 PiB */
#endif
    };
    for (size_t i = 0; i < COUNT_OF(impossible); i++) {
        chan_t *ch = chan_new(impossible[i].size, impossible[i].capacity);
        if (ch != NULL)
            support_fail(__FILE__, __LINE__, "%zu bytes x %td is no channel", impossible[i].size,
                         impossible[i].capacity);
        chan_unref(ch);
    }
}

TEST_EVERYWHERE(length_and_capacity)
{
    for (size_t i = 0; i < CAPACITIES; i++) {
        const ptrdiff_t room = capacities[i] < 10 ? capacities[i] : 10;
        chan_t *ch = MAKE(int, capacities[i]);
        CHECK_EQ(chan_cap(ch), capacities[i]);
        CHECK_EQ(chan_missed(ch), 0);
        for (int k = 0; k < room; k++) {
            CHECK_EQ(chan_len(ch), k);
            CHECK_EQ(chan_send(ch, &k), 0);
        }
        CHECK_EQ(chan_len(ch), room);
        CHECK_EQ(chan_cap(ch), capacities[i]);
        CHECK_EQ(chan_close(ch), 0);
        CHECK_EQ(chan_len(ch), room);
        CHECK_EQ(chan_cap(ch), capacities[i]);
        for (int k = 0; k < room; k++) {
            CHECK_EQ(chan_recv(ch, NULL), 0);
            CHECK_EQ(chan_len(ch), room - 1 - k);
        }
        chan_unref(ch);
    }
}

/* Without elements there is nothing to overflow: the number of facts that stand in it is only a number. */
TEST_EVERYWHERE(elements_of_size_zero)
{
    static const ptrdiff_t many[] = {1, 2, 1000, PTRDIFF_MAX - 1, CHAN_UNBOUNDED};
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        chan_t *ch = NEW(0, many[i]);
        CHECK_EQ(chan_cap(ch), many[i]);
        const int fill = many[i] < 1000 ? (int)many[i] : 1000;
        for (int k = 0; k < fill; k++)
            CHECK_EQ(k % 2 ? chan_try_send(ch, NULL) : chan_send(ch, NULL), 0);
        CHECK_EQ(chan_len(ch), fill);
        if (many[i] == fill)
            CHECK_EQ(chan_try_send(ch, NULL), -EAGAIN);
        for (int k = 0; k < fill; k++)
            CHECK_EQ(k % 2 ? chan_try_recv(ch, NULL) : chan_recv(ch, NULL), 0);
        CHECK_EQ(chan_try_recv(ch, NULL), -EAGAIN);
        CHECK_EQ(chan_close(ch), 0);
        CHECK_EQ(chan_recv(ch, NULL), -EPIPE);
        chan_unref(ch);
    }
}

/* ---- one at a time ---- */

TEST_EVERYWHERE(tries_never_wait)
{
    for (size_t i = 0; i < CAPACITIES; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        const int room = capacities[i] < 10 ? (int)capacities[i] : 10;
        int x = -7;
        for (int round = 0; round < 3; round++) { /* so that it goes round the ring */
            CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
            CHECK_EQ(x, -7); /* untouched */
            for (int k = 0; k < room; k++)
                CHECK_EQ(chan_try_send(ch, &k), 0);
            if (capacities[i] != CHAN_UNBOUNDED)
                CHECK_EQ(chan_try_send(ch, &room), -EAGAIN);
            CHECK_EQ(chan_len(ch), room);
            for (int k = 0; k < room; k++) {
                CHECK_EQ(chan_try_recv(ch, &x), 0);
                CHECK_EQ(x, k);
            }
            x = -7;
        }
        CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
        chan_unref(ch);
    }
}

/* An open channel that is empty, full and in between is drained after the close, and says so for ever. */
TEST_EVERYWHERE(closed_ones_are_drained_in_order)
{
    for (size_t i = 0; i < CAPACITIES; i++)
        for (int fill = 0; fill <= (capacities[i] < 10 ? capacities[i] : 10); fill++) {
            chan_t *ch = MAKE(int, capacities[i]);
            int x = 1000;
            for (int k = 0; k < 3 && k < fill; k++) { /* not from the start of the ring */
                CHECK_EQ(chan_send(ch, &x), 0);
                CHECK_EQ(chan_recv(ch, &x), 0);
            }
            for (int k = 0; k < fill; k++)
                CHECK_EQ(chan_send(ch, &k), 0);
            CHECK_EQ(chan_close(ch), 0);
            for (int k = 0; k < fill; k++) {
                CHECK_EQ(chan_send(ch, &x), -EPIPE); /* room or not */
                CHECK_EQ(chan_try_send(ch, &x), -EPIPE);
                CHECK_EQ(chan_close(ch), -EPIPE);
                CHECK_EQ(chan_len(ch), fill - k);
                CHECK_EQ(k % 2 ? chan_try_recv(ch, &x) : chan_recv(ch, &x), 0);
                CHECK_EQ(x, k);
            }
            x = -7;
            for (int k = 0; k < 5; k++) {
                CHECK_EQ(chan_recv(ch, &x), -EPIPE);
                CHECK_EQ(chan_try_recv(ch, &x), -EPIPE);
                CHECK_EQ(chan_recv(ch, NULL), -EPIPE);
                CHECK_EQ(chan_send(ch, &x), -EPIPE);
                CHECK_EQ(chan_try_send(ch, &x), -EPIPE);
                CHECK_EQ(chan_close(ch), -EPIPE);
                CHECK_EQ(chan_len(ch), 0);
            }
            CHECK_EQ(x, -7);
            chan_unref(ch);
        }
}

/* A queue in an array is what a channel is compared with, one random step after the other. */
static void against_a_model(size_t size, ptrdiff_t capacity, uint64_t seed)
{
    enum { MOST = 200 };
    uint64_t next = 0, oldest = 0;
    unsigned char *element = element_room(size);
    chan_t *ch = NEW(size, capacity);
    const uint64_t room = capacity == CHAN_UNBOUNDED ? MOST : (uint64_t)capacity;
    for (int step = 0; step < 2000; step++) {
        /* for a while it rather grows, and then rather shrinks */
        const bool send = support_random(&seed) % 100 < (step / 250 % 2 ? 30U : 70U);
        if (send && (capacity != CHAN_UNBOUNDED || next - oldest < room)) {
            element_write(element, size, next);
            const int rc = chan_try_send_sized(ch, element, size);
            CHECK_EQ(rc, next - oldest < room ? 0 : -EAGAIN);
            next += rc == 0;
            memset(element, 0, size); /* it was copied */
        } else if (!send) {
            const int rc = chan_try_recv_sized(ch, element, size);
            CHECK_EQ(rc, oldest < next ? 0 : -EAGAIN);
            if (rc == 0)
                CHECK(element_is(element, size, oldest++));
        }
        CHECK_EQ(chan_len(ch), next - oldest);
    }
    CHECK_EQ(chan_close(ch), 0);
    while (oldest < next) {
        CHECK_EQ(chan_recv_sized(ch, element, size), 0);
        CHECK(element_is(element, size, oldest++));
    }
    CHECK_EQ(chan_recv_sized(ch, element, size), -EPIPE);
    CHECK(element_fenced(element, size));
    element_free(element);
    chan_unref(ch);
}

TEST_EVERYWHERE(a_random_walk_follows_the_model)
{
    static const ptrdiff_t rooms[] = {0, 1, 2, 3, 7, 8, 64, CHAN_UNBOUNDED};
    static const size_t sizes[] = {1, 3, 8, 24, 100};
    for (size_t i = 0; i < COUNT_OF(rooms); i++)
        for (size_t k = 0; k < COUNT_OF(sizes); k++)
            against_a_model(sizes[k], rooms[i], 1 + i * 10 + k);
}

/* ---- those that wait ---- */

struct single {
    chan_t *ch;
    int value;
    int rc;
    _Atomic int begun, returned;
    struct sleeper sleeper;
};

static void *send_one(void *arg)
{
    struct single *s = arg;
    sleeper_here(&s->sleeper);
    atomic_store(&s->begun, 1);
    s->rc = chan_send(s->ch, &s->value);
    atomic_store(&s->returned, 1);
    return NULL;
}

static void *recv_one(void *arg)
{
    struct single *s = arg;
    sleeper_here(&s->sleeper);
    atomic_store(&s->begun, 1);
    s->rc = chan_recv(s->ch, &s->value);
    atomic_store(&s->returned, 1);
    return NULL;
}

static void fill(chan_t *ch, int from, int count)
{
    for (int i = from; i < from + count; i++)
        CHECK_EQ(chan_try_send(ch, &i), 0);
}

/* Parks, that is: for each capacity a receive on empty and a send on full. */
TEST_EVERYWHERE(routines_wait_when_they_must)
{
    routine_runtime_t *runtime = support_runtime(2);
    for (size_t i = 0; i < CAPACITIES; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        struct single s = {.ch = ch, .value = -1};
        struct actor a = act_on(runtime, recv_one, &s);
        await_parked(runtime, 1);
        CHECK(!atomic_load(&s.returned));
        CHECK_EQ(chan_len(ch), 0);
        CHECK_EQ(chan_send(ch, &(int){77}), 0);
        act_end(a);
        CHECK_EQ(s.rc, 0);
        CHECK_EQ(s.value, 77);
        CHECK_EQ(chan_len(ch), 0);

        if (capacities[i] != CHAN_UNBOUNDED) {
            int x = -1;
            fill(ch, 0, (int)capacities[i]);
            s = (struct single){.ch = ch, .value = (int)capacities[i]};
            a = act_on(runtime, send_one, &s);
            await_parked(runtime, 1);
            CHECK(!atomic_load(&s.returned));
            CHECK_EQ(chan_len(ch), capacities[i]); /* those that wait do not count */
            for (int k = 0; k <= capacities[i]; k++) {
                CHECK_EQ(chan_recv(ch, &x), 0);
                CHECK_EQ(x, k);
            }
            act_end(a);
            CHECK_EQ(s.rc, 0);
            CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
        }
        chan_unref(ch);
    }
    support_runtime_end(runtime);
}

TEST_EVERYWHERE(threads_wait_when_they_must)
{
    for (size_t i = 0; i < CAPACITIES; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        struct single s = {.ch = ch, .value = -1};
        struct actor a = act(true, recv_one, &s);
        await_asleep(&s.sleeper);
        CHECK(!atomic_load(&s.returned));
        CHECK_EQ(chan_send(ch, &(int){77}), 0);
        act_end(a);
        CHECK_EQ(s.rc, 0);
        CHECK_EQ(s.value, 77);

        if (capacities[i] != CHAN_UNBOUNDED) {
            int x = -1;
            fill(ch, 0, (int)capacities[i]);
            s = (struct single){.ch = ch, .value = (int)capacities[i]};
            a = act(true, send_one, &s);
            await_asleep(&s.sleeper);
            CHECK(!atomic_load(&s.returned));
            CHECK_EQ(chan_len(ch), capacities[i]);
            for (int k = 0; k <= capacities[i]; k++) {
                CHECK_EQ(chan_recv(ch, &x), 0);
                CHECK_EQ(x, k);
            }
            act_end(a);
            CHECK_EQ(s.rc, 0);
        }
        chan_unref(ch);
    }
}

/* A try meets one that waits: that is when a rendezvous is ready. */
TEST_EVERYWHERE(tries_find_those_that_wait)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        chan_t *ch = MAKE(int, 0);
        struct single s = {.ch = ch, .value = -1};
        struct actor a = act(as_thread, recv_one, &s);
        int rc, x = 31;
        while ((rc = chan_try_send(ch, &x)) == -EAGAIN)
            routine_yield();
        CHECK_EQ(rc, 0);
        act_end(a);
        CHECK_EQ(s.value, 31);
        CHECK_EQ(chan_try_send(ch, &x), -EAGAIN);

        s = (struct single){.ch = ch, .value = 32};
        a = act(as_thread, send_one, &s);
        while ((rc = chan_try_recv(ch, &x)) == -EAGAIN)
            routine_yield();
        CHECK_EQ(rc, 0);
        CHECK_EQ(x, 32);
        act_end(a);
        CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
        chan_unref(ch);
    }
}

/* ---- the order of arrival ---- */

enum { QUEUE = 12 };

static void *senders_in_order(void *arg)
{
    struct single s[QUEUE];
    struct actor a[QUEUE];
    for (size_t i = 0; i < BOUNDED; i++) {
        const int room = (int)capacities[i];
        chan_t *ch = MAKE(int, room);
        int x = -1;
        fill(ch, 0, room);
        for (int k = 0; k < QUEUE; k++) {
            s[k] = (struct single){.ch = ch, .value = room + k};
            a[k] = act(false, send_one, &s[k]);
            await_parked(NULL, (uint64_t)k + 1);
        }
        CHECK_EQ(chan_len(ch), room);
        for (int k = 0; k < room + QUEUE; k++) {
            x = -1;
            CHECK_EQ(chan_try_send(ch, &x), -EAGAIN); /* nobody overtakes those that wait */
            CHECK_EQ(k % 2 ? chan_try_recv(ch, &x) : chan_recv(ch, &x), 0);
            CHECK_EQ(x, k);
            if (k < QUEUE - 1)
                CHECK_EQ(chan_try_send(ch, &(int){-1}), -EAGAIN);
            CHECK_EQ(chan_len(ch), k < QUEUE ? room : room + QUEUE - 1 - k);
            if (k >= QUEUE - 1)
                break; /* nobody waits any more */
        }
        for (int k = QUEUE; k < room + QUEUE; k++) {
            CHECK_EQ(chan_recv(ch, &x), 0);
            CHECK_EQ(x, k);
        }
        for (int k = 0; k < QUEUE; k++) {
            act_end(a[k]);
            CHECK_EQ(s[k].rc, 0);
        }
        CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
        chan_unref(ch);
    }
    return arg;
}

TEST(senders_are_served_in_the_order_of_arrival)
{
    direct(senders_in_order, NULL);
}

static void *receivers_in_order(void *arg)
{
    struct single s[QUEUE];
    struct actor a[QUEUE];
    for (size_t i = 0; i < CAPACITIES; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        int x = -1;
        for (int k = 0; k < QUEUE; k++) {
            s[k] = (struct single){.ch = ch, .value = -1};
            a[k] = act(false, recv_one, &s[k]);
            await_parked(NULL, (uint64_t)k + 1);
        }
        for (int k = 0; k < QUEUE; k++) {
            CHECK_EQ(k % 2 ? chan_try_send(ch, &k) : chan_send(ch, &k), 0);
            CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN); /* it belongs to the one who waited */
            CHECK_EQ(chan_len(ch), 0);
        }
        for (int k = 0; k < QUEUE; k++) {
            act_end(a[k]);
            CHECK_EQ(s[k].rc, 0);
            CHECK_EQ(s[k].value, k);
        }
        chan_unref(ch);
    }
    return arg;
}

TEST(receivers_are_served_in_the_order_of_arrival)
{
    direct(receivers_in_order, NULL);
}

/* With threads in the queue, between routines. */
static void *mixed_in_order(void *arg)
{
    struct single s[QUEUE];
    struct actor a[QUEUE];
    for (int receive = 0; receive <= 1; receive++) {
        chan_t *ch = MAKE(int, receive ? 3 : 0);
        bool known = true;
        uint64_t parked = 0;
        for (int k = 0; k < QUEUE; k++) {
            const bool thread = k % 3 != 1;
            s[k] = (struct single){.ch = ch, .value = receive ? -1 : k};
            a[k] = act(thread, receive ? recv_one : send_one, &s[k]);
            if (thread)
                known &= await_asleep(&s[k].sleeper);
            else
                await_parked(NULL, ++parked);
        }
        bool seen[QUEUE] = {false};
        for (int k = 0; k < QUEUE; k++) {
            int x = k;
            CHECK_EQ(receive ? chan_send(ch, &x) : chan_recv(ch, &x), 0);
            if (known)
                CHECK_EQ(x, k);
            if (!receive)
                seen[x] = true;
        }
        for (int k = 0; k < QUEUE; k++) {
            act_end(a[k]);
            CHECK_EQ(s[k].rc, 0);
            if (known)
                CHECK_EQ(s[k].value, k);
            seen[s[k].value] = true;
        }
        for (int k = 0; k < QUEUE; k++)
            CHECK(seen[k]);
        CHECK_EQ(chan_len(ch), 0);
        chan_unref(ch);
    }
    return arg;
}

TEST(threads_and_routines_stand_in_one_queue)
{
    direct(mixed_in_order, NULL);
}

/* ---- close wakes ---- */

TEST_EVERYWHERE(close_wakes_receivers)
{
    enum { EACH = 4 };
    routine_runtime_t *runtime = support_runtime(2);
    for (size_t i = 0; i < CAPACITIES; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        struct single s[2 * EACH];
        struct actor a[2 * EACH];
        for (int k = 0; k < 2 * EACH; k++) {
            s[k] = (struct single){.ch = ch, .value = -1};
            a[k] = k < EACH ? act_on(runtime, recv_one, &s[k]) : act(true, recv_one, &s[k]);
        }
        await_parked(runtime, EACH);
        for (int k = EACH; k < 2 * EACH; k++)
            await_asleep(&s[k].sleeper);
        for (int k = 0; k < 2 * EACH; k++)
            CHECK(!atomic_load(&s[k].returned));
        CHECK_EQ(chan_close(ch), 0);
        for (int k = 0; k < 2 * EACH; k++) {
            act_end(a[k]);
            CHECK_EQ(s[k].rc, -EPIPE);
            CHECK_EQ(s[k].value, -1);
        }
        chan_unref(ch);
    }
    support_runtime_end(runtime);
}

TEST_EVERYWHERE(close_wakes_senders_and_drops_what_they_had)
{
    enum { EACH = 4 };
    routine_runtime_t *runtime = support_runtime(2);
    for (size_t i = 0; i < BOUNDED; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        struct single s[2 * EACH];
        struct actor a[2 * EACH];
        int x = -1;
        fill(ch, 0, (int)capacities[i]);
        for (int k = 0; k < 2 * EACH; k++) {
            s[k] = (struct single){.ch = ch, .value = 1000 + k};
            a[k] = k < EACH ? act_on(runtime, send_one, &s[k]) : act(true, send_one, &s[k]);
        }
        await_parked(runtime, EACH);
        for (int k = EACH; k < 2 * EACH; k++)
            await_asleep(&s[k].sleeper);
        for (int k = 0; k < 2 * EACH; k++)
            CHECK(!atomic_load(&s[k].returned));
        CHECK_EQ(chan_close(ch), 0);
        for (int k = 0; k < 2 * EACH; k++) {
            act_end(a[k]);
            CHECK_EQ(s[k].rc, -EPIPE);
        }
        for (int k = 0; k < capacities[i]; k++) {
            CHECK_EQ(chan_recv(ch, &x), 0);
            CHECK_EQ(x, k);
        }
        CHECK_EQ(chan_recv(ch, &x), -EPIPE);
        chan_unref(ch);
    }
    support_runtime_end(runtime);
}

/* ---- what is copied ---- */

struct sized {
    chan_t *ch;
    size_t size;
    uint64_t count;
};

static void *send_sized(void *arg)
{
    const struct sized *s = arg;
    unsigned char *element = element_room(s->size);
    for (uint64_t n = 0; n < s->count; n++) {
        element_write(element, s->size, n);
        CHECK_EQ(n % 2 ? chan_send_sized(s->ch, element, s->size) : chan_send(s->ch, (const void *)element),
                 0);
        memset(element, 0xdd, s->size); /* it is the sender's again */
    }
    CHECK(element_fenced(element, s->size));
    element_free(element);
    return NULL;
}

static void *recv_sized(void *arg)
{
    const struct sized *s = arg;
    unsigned char *element = element_room(s->size);
    for (uint64_t n = 0; n < s->count; n++) {
        if (n % 7 == 5) {
            CHECK_EQ(chan_recv(s->ch, NULL), 0); /* dropped */
            continue;
        }
        memset(element, 0xee, s->size);
        CHECK_EQ(n % 3 ? chan_recv_sized(s->ch, element, s->size) : chan_recv(s->ch, (void *)element), 0);
        CHECK(element_is(element, s->size, n));
    }
    CHECK(element_fenced(element, s->size));
    element_free(element);
    return NULL;
}

/* Straight from variable to variable, or through the buffer, or into the buffer when a receiver
 * makes room for one that waits. */
TEST(elements_of_any_size)
{
    static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 64, 100, 4096, 65536, 1000003};
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (size_t i = 0; i < COUNT_OF(sizes); i++)
            for (size_t k = 0; k < CAPACITIES; k++) {
                struct sized s = {NEW(sizes[i], capacities[k]), sizes[i],
                                  (uint64_t)support_scale(sizes[i] > 100000 ? 10 : 50)};
                struct actor sender = act(cast_is_thread(cast, 1), send_sized, &s);
                struct actor receiver = act(cast_is_thread(cast, 0), recv_sized, &s);
                act_end(sender);
                act_end(receiver);
                CHECK_EQ(chan_len(s.ch), 0);
                chan_unref(s.ch);
            }
}

TEST(the_largest_element)
{
    for (size_t k = 0; k < 2; k++) {
        struct sized s = {NEW(CHAN_ELEMENT_MAX, capacities[k]), CHAN_ELEMENT_MAX, 1};
        struct actor sender = act(false, send_sized, &s);
        recv_sized(&s);
        act_end(sender);
        chan_unref(s.ch);
    }
}

struct vector {
    double x, y, z;
    char name[13];
};

TEST_EVERYWHERE(types_of_all_kinds)
{
    chan_t *vectors = MAKE(struct vector, 2), *pointers = MAKE(const char *, 1), *arrays = MAKE(int[5], 1);
    chan_t *const channels[] = {vectors, pointers, arrays};
    CHECK_EQ(chan_send(vectors, &(struct vector){1.5, 2.5, 3.5, "a vector"}), 0);
    const struct vector constant = {.y = -0.0, .name = "another one"};
    CHECK_EQ(chan_send(vectors, &constant), 0);
    struct vector v;
    CHECK_EQ(chan_recv(vectors, &v), 0);
    CHECK(v.x == 1.5 && v.y == 2.5 && v.z == 3.5);
    CHECK_STR(v.name, "a vector");
    CHECK_EQ(chan_recv(vectors, &v), 0);
    CHECK_STR(v.name, "another one");

    const char *text = "shared, not copied", *got = NULL;
    CHECK_EQ(chan_send(pointers, &text), 0);
    CHECK_EQ(chan_recv(pointers, &got), 0);
    CHECK(got == text);

    int five[5] = {1, 2, 3, 4, 5}, other[5] = {0};
    CHECK_EQ(chan_send(arrays, &five), 0);
    CHECK_EQ(chan_recv(arrays, &other), 0);
    CHECK(memcmp(five, other, sizeof five) == 0);
    for (size_t i = 0; i < COUNT_OF(channels); i++)
        chan_unref(channels[i]);
}

/* ---- traffic: producers and consumers ---- */

struct item {
    uint32_t producer;
    uint32_t number;
    uint64_t check;
};

struct traffic {
    chan_t *ch;
    int producers, consumers;
    uint32_t each;
    bool tries; /* by try and yield */
    _Atomic int producers_left, index;
    _Atomic uint64_t sent, received;
    _Atomic unsigned char *seen; /* how often each element was received */
};

static uint64_t item_check(uint32_t producer, uint32_t number)
{
    return (producer * UINT64_C(1000003) + number) * UINT64_C(0x9e3779b97f4a7c15);
}

static int traffic_send(const struct traffic *t, const struct item *item)
{
    int rc;
    if (!t->tries)
        return chan_send(t->ch, item);
    while ((rc = chan_try_send(t->ch, item)) == -EAGAIN)
        routine_yield();
    return rc;
}

static int traffic_recv(const struct traffic *t, struct item *item)
{
    int rc;
    if (!t->tries)
        return chan_recv(t->ch, item);
    while ((rc = chan_try_recv(t->ch, item)) == -EAGAIN)
        routine_yield();
    return rc;
}

static void *produce(void *arg)
{
    struct traffic *t = arg;
    const uint32_t me = (uint32_t)atomic_fetch_add(&t->index, 1);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->each; i++) {
        const struct item item = {me, i, item_check(me, i)};
        CHECK_EQ(traffic_send(t, &item), 0);
        sum += item.check;
    }
    atomic_fetch_add(&t->sent, sum);
    if (atomic_fetch_sub(&t->producers_left, 1) == 1)
        CHECK_EQ(chan_close(t->ch), 0);
    return NULL;
}

/* Until the channel is closed. What one consumer gets of one producer comes in its order. */
static void *consume(void *arg)
{
    struct traffic *t = arg;
    int64_t last[16];
    uint64_t sum = 0;
    int rc;
    struct item item;
    memset(last, -1, sizeof last);
    while ((rc = traffic_recv(t, &item)) == 0) {
        CHECK_EQ(item.check, item_check(item.producer, item.number));
        if (item.producer >= (uint32_t)t->producers || item.number >= t->each) {
            support_fail(__FILE__, __LINE__, "an element that nobody sent");
            break;
        }
        CHECK(item.number > last[item.producer]);
        last[item.producer] = item.number;
        CHECK_EQ(atomic_fetch_add_explicit(&t->seen[item.producer * t->each + item.number], 1,
                                           memory_order_relaxed),
                 0);
        sum += item.check;
    }
    CHECK_EQ(rc, -EPIPE);
    atomic_fetch_add(&t->received, sum);
    return NULL;
}

static void run_traffic(enum cast cast, int producers, int consumers, ptrdiff_t capacity, long each,
                        bool tries)
{
    struct traffic t = {.ch = MAKE(struct item, capacity),
                        .producers = producers,
                        .consumers = consumers,
                        .each = (uint32_t)each,
                        .tries = tries,
                        .producers_left = producers};
    struct actor actors[32];
    t.seen = calloc((size_t)producers * t.each, 1);
    for (int i = 0; i < producers + consumers; i++)
        actors[i] = act(cast_is_thread(cast, i), i < consumers ? consume : produce, &t);
    for (int i = 0; i < producers + consumers; i++)
        act_end(actors[i]);
    CHECK_EQ(atomic_load(&t.sent), atomic_load(&t.received));
    for (size_t i = 0; i < (size_t)producers * t.each; i++)
        CHECK_EQ(atomic_load_explicit(&t.seen[i], memory_order_relaxed), 1);
    CHECK_EQ(chan_len(t.ch), 0);
    free((void *)t.seen);
    chan_unref(t.ch);
}

static const struct {
    int producers, consumers;
} crowds[] = {{1, 1}, {4, 4}, {1, 7}, {7, 1}, {3, 5}};

static void traffic_of(enum cast cast, long elements)
{
    static const ptrdiff_t rooms[] = {0, 1, 2, 10, 100, CHAN_UNBOUNDED};
    for (size_t c = 0; c < COUNT_OF(crowds); c++)
        for (size_t i = 0; i < COUNT_OF(rooms); i++)
            run_traffic(cast, crowds[c].producers, crowds[c].consumers, rooms[i],
                        support_scale(elements) / crowds[c].producers, false);
}

TEST(traffic_among_routines)
{
    traffic_of(ROUTINES, 20000);
}

TEST(traffic_among_threads)
{
    traffic_of(THREADS, 1000);
}

TEST(traffic_among_both)
{
    traffic_of(MIXED, 1000);
}

/* Routines and threads that spin for each other wait whole slices of the kernel's time: few rounds there. */
TEST(traffic_by_tries)
{
    for (size_t c = 0; c < COUNT_OF(crowds); c++)
        for (int cast = ROUTINES; cast < CASTS; cast++) {
            const long part = cast == MIXED ? 20 : 1;
            const int producers = crowds[c].producers, consumers = crowds[c].consumers;
            run_traffic(cast, producers, consumers, 1, support_scale(100 / part), true);
            run_traffic(cast, producers, consumers, 50, support_scale(2000 / part), true);
            run_traffic(cast, producers, consumers, CHAN_UNBOUNDED, support_scale(2000 / part), true);
        }
}

/* ---- ping-pong ---- */

struct table {
    chan_t *to[2];
    long rounds;
};

static void *serve(void *arg)
{
    struct table *t = arg;
    for (long i = 0; i < t->rounds; i++) {
        long got = -1;
        CHECK_EQ(chan_send(t->to[1], &i), 0);
        CHECK_EQ(chan_recv(t->to[0], &got), 0);
        CHECK_EQ(got, i);
    }
    CHECK_EQ(chan_close(t->to[1]), 0);
    return NULL;
}

static void *hit_back(void *arg)
{
    struct table *t = arg;
    long got = -1, count = 0;
    while (chan_recv(t->to[1], &got) == 0) {
        CHECK_EQ(got, count++);
        CHECK_EQ(chan_send(t->to[0], &got), 0);
    }
    CHECK_EQ(count, t->rounds);
    return NULL;
}

TEST(ping_pong)
{
    enum { TABLES = 3 };
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (int room = 0; room <= 1; room++) {
            struct table tables[TABLES];
            struct actor actors[2 * TABLES];
            for (int i = 0; i < TABLES; i++) {
                tables[i] = (struct table){{MAKE(long, room), MAKE(long, room)},
                                           support_scale(cast == ROUTINES ? 20000 : 1000)};
                actors[2 * i] = act(cast_is_thread(cast, 0), serve, &tables[i]);
                actors[2 * i + 1] = act(cast_is_thread(cast, 1), hit_back, &tables[i]);
            }
            for (int i = 0; i < 2 * TABLES; i++)
                act_end(actors[i]);
            for (int i = 0; i < TABLES; i++) {
                chan_unref(tables[i].to[0]);
                chan_unref(tables[i].to[1]);
            }
        }
}

/* ---- what happens before what: plain memory between actors ---- */

struct critical {
    chan_t *room; /* the k-th receive comes before the return of send number k + capacity: a lock */
    long rounds;
    long inside, total;
};

static void *count_inside(void *arg)
{
    struct critical *c = arg;
    for (long i = 0; i < c->rounds; i++) {
        CHECK_EQ(chan_send(c->room, &i), 0);
        CHECK_EQ(c->inside++, 0);
        if (i % 16 == 0)
            routine_yield();
        c->total++;
        CHECK_EQ(--c->inside, 0);
        CHECK_EQ(chan_recv(c->room, NULL), 0);
    }
    return NULL;
}

TEST(a_channel_of_one_is_a_lock)
{
    enum { ACTORS = 8 };
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        struct critical c = {.room = MAKE(long, 1), .rounds = support_scale(cast == ROUTINES ? 5000 : 500)};
        struct actor actors[ACTORS];
        for (int i = 0; i < ACTORS; i++)
            actors[i] = act(cast_is_thread(cast, i), count_inside, &c);
        for (int i = 0; i < ACTORS; i++)
            act_end(actors[i]);
        CHECK_EQ(c.total, ACTORS * c.rounds);
        chan_unref(c.room);
    }
}

struct crowded {
    chan_t *room;
    long rounds, capacity;
    _Atomic long inside, total;
};

static void *count_few(void *arg)
{
    struct crowded *c = arg;
    for (long i = 0; i < c->rounds; i++) {
        CHECK_EQ(chan_send(c->room, NULL), 0);
        CHECK(atomic_fetch_add(&c->inside, 1) < c->capacity);
        if (i % 4 == 0)
            routine_yield();
        atomic_fetch_add(&c->total, 1);
        atomic_fetch_sub(&c->inside, 1);
        CHECK_EQ(chan_recv(c->room, NULL), 0);
    }
    return NULL;
}

TEST(a_channel_of_three_lets_three_in)
{
    enum { ACTORS = 8 };
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        struct crowded c = {
            .room = NEW(0, 3), .rounds = support_scale(cast == ROUTINES ? 5000 : 500), .capacity = 3};
        struct actor actors[ACTORS];
        for (int i = 0; i < ACTORS; i++)
            actors[i] = act(cast_is_thread(cast, i), count_few, &c);
        for (int i = 0; i < ACTORS; i++)
            act_end(actors[i]);
        CHECK_EQ(atomic_load(&c.total), ACTORS * c.rounds);
        chan_unref(c.room);
    }
}

struct ordered {
    chan_t *ch;
    long rounds;
    long before_send, before_recv, before_close;
};

static void *ordered_receiver(void *arg)
{
    struct ordered *o = arg;
    for (long i = 0; i < o->rounds; i++) {
        o->before_recv = i + 1; /* the sender reads it after its send */
        CHECK_EQ(chan_recv(o->ch, NULL), 0);
        CHECK_EQ(o->before_send, i + 1);
        CHECK_EQ(chan_recv(o->ch, NULL), 0);
    }
    CHECK_EQ(chan_recv(o->ch, NULL), -EPIPE);
    CHECK_EQ(o->before_close, 4711);
    return NULL;
}

TEST(a_rendezvous_orders_both_ways)
{
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        struct ordered o = {.ch = NEW(0, 0), .rounds = support_scale(cast == ROUTINES ? 10000 : 1000)};
        struct actor receiver = act(cast_is_thread(cast, 0), ordered_receiver, &o);
        for (long i = 0; i < o.rounds; i++) {
            o.before_send = i + 1;
            CHECK_EQ(chan_send(o.ch, NULL), 0);
            CHECK_EQ(o.before_recv, i + 1);
            CHECK_EQ(chan_send(o.ch, NULL), 0); /* so that the next round begins after this one */
        }
        o.before_close = 4711;
        CHECK_EQ(chan_close(o.ch), 0);
        act_end(receiver);
        chan_unref(o.ch);
    }
}

/* ---- closing at bad moments ---- */

struct peek {
    chan_t *ch;
    int rc, value;
};

static void peek_now(void *arg)
{
    struct peek *p = arg;
    p->rc = chan_try_recv(p->ch, &p->value);
}

/* There is a value at first, and later there may be none, but then it is closed: never "not ready". */
TEST(a_try_during_the_close_is_never_told_to_come_again)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct peek p = {0};
        struct duel d;
        duel_start(&d, as_thread, peek_now, &p);
        for (long round = 0; round < support_scale(4000); round++) {
            int mine = -1;
            p = (struct peek){MAKE(int, round % 3 ? 1 : CHAN_UNBOUNDED), 1, -1};
            CHECK_EQ(chan_send(p.ch, &(int){8}), 0);
            duel_begin(&d, round);
            CHECK_EQ(chan_close(p.ch), 0);
            const int rc = chan_try_recv(p.ch, &mine);
            duel_end(&d);
            CHECK((p.rc == 0 && rc == -EPIPE) || (p.rc == -EPIPE && rc == 0));
            CHECK_EQ(p.rc == 0 ? p.value : mine, 8);
            CHECK_EQ(p.rc == 0 ? mine : p.value, -1);
            chan_unref(p.ch);
        }
        duel_stop(&d);
    }
}

static void send_now(void *arg)
{
    struct peek *p = arg;
    p->rc = chan_send(p->ch, &p->value);
}

/* A send that says 0 is received, one that says -EPIPE is not. */
TEST(close_against_send)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct peek p = {0};
        struct duel d;
        duel_start(&d, as_thread, send_now, &p);
        for (long round = 0; round < support_scale(4000); round++) {
            int mine = -1;
            p = (struct peek){MAKE(int, capacities[round % CAPACITIES]), 1, (int)round};
            duel_begin(&d, round);
            CHECK_EQ(chan_close(p.ch), 0);
            duel_end(&d);
            CHECK(p.rc == 0 || p.rc == -EPIPE);
            CHECK_EQ(chan_recv(p.ch, &mine), p.rc);
            CHECK_EQ(mine, p.rc == 0 ? round : -1);
            if (chan_cap(p.ch) == 0)
                CHECK_EQ(p.rc, -EPIPE);
            chan_unref(p.ch);
        }
        duel_stop(&d);
    }
}

static void recv_now(void *arg)
{
    struct peek *p = arg;
    p->rc = chan_recv(p->ch, &p->value);
}

TEST(send_and_close_against_receive)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct peek p = {0};
        struct duel d;
        duel_start(&d, as_thread, recv_now, &p);
        for (long round = 0; round < support_scale(4000); round++) {
            p = (struct peek){MAKE(int, capacities[round % CAPACITIES]), 1, -1};
            const bool send = round % 2;
            duel_begin(&d, round);
            const int sent = send ? chan_try_send(p.ch, &(int){6}) : -EAGAIN;
            CHECK_EQ(chan_close(p.ch), 0);
            duel_end(&d);
            if (send && chan_cap(p.ch) > 0)
                CHECK_EQ(sent, 0);
            CHECK_EQ(p.rc, sent == 0 ? 0 : -EPIPE);
            CHECK_EQ(p.value, sent == 0 ? 6 : -1);
            chan_unref(p.ch);
        }
        duel_stop(&d);
    }
}

static void close_now(void *arg)
{
    struct peek *p = arg;
    p->rc = chan_close(p->ch);
}

TEST(of_two_closes_one_wins)
{
    struct peek p = {0};
    struct duel d;
    duel_start(&d, true, close_now, &p);
    for (long round = 0; round < support_scale(4000); round++) {
        p = (struct peek){MAKE(int, capacities[round % CAPACITIES]), 1, 0};
        duel_begin(&d, round);
        const int mine = chan_close(p.ch);
        duel_end(&d);
        CHECK((mine == 0 && p.rc == -EPIPE) || (mine == -EPIPE && p.rc == 0));
        chan_unref(p.ch);
    }
    duel_stop(&d);
}

/* Many senders and receivers, and a close in the middle: the books agree. */
struct closing {
    chan_t *ch;
    _Atomic long sent, received;
    _Atomic uint64_t sum_sent, sum_received;
};

static void *send_until_closed(void *arg)
{
    struct closing *c = arg;
    for (uint64_t i = 1;; i++) {
        const int rc = chan_send(c->ch, &i);
        if (rc != 0) {
            CHECK_EQ(rc, -EPIPE);
            return NULL;
        }
        atomic_fetch_add(&c->sent, 1);
        atomic_fetch_add(&c->sum_sent, i);
    }
}

static void *recv_until_closed(void *arg)
{
    struct closing *c = arg;
    uint64_t x;
    int rc;
    while ((rc = chan_recv(c->ch, &x)) == 0) {
        atomic_fetch_add(&c->received, 1);
        atomic_fetch_add(&c->sum_received, x);
    }
    CHECK_EQ(rc, -EPIPE);
    return NULL;
}

TEST(close_in_the_midst_of_traffic)
{
    enum { ACTORS = 6 };
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (long round = 0; round < support_scale(cast == ROUTINES ? 150 : 30); round++) {
            struct closing c = {.ch = MAKE(uint64_t, capacities[round % BOUNDED])};
            struct actor actors[ACTORS];
            for (int i = 0; i < ACTORS; i++)
                actors[i] =
                    act(cast_is_thread(cast, i), i % 3 == 0 ? recv_until_closed : send_until_closed, &c);
            WAIT_UNTIL(atomic_load(&c.received) >= round % 100);
            CHECK_EQ(chan_close(c.ch), 0);
            for (int i = 0; i < ACTORS; i++)
                act_end(actors[i]);
            CHECK_EQ(atomic_load(&c.sent), atomic_load(&c.received));
            CHECK_EQ(atomic_load(&c.sum_sent), atomic_load(&c.sum_received));
            CHECK_EQ(chan_len(c.ch), 0);
            chan_unref(c.ch);
        }
}

/* ---- references ---- */

TEST_EVERYWHERE(the_last_reference_frees)
{
    for (size_t i = 0; i < CAPACITIES; i++) {
        chan_t *ch = MAKE(int, capacities[i]);
        fill(ch, 0, capacities[i] < 10 ? (int)capacities[i] : 10); /* and what is in it */
        CHECK(chan_ref(ch) == ch);
        chan_unref(ch);
        CHECK_EQ(chan_cap(ch), capacities[i]);
        CHECK_EQ(chan_try_recv(ch, NULL), capacities[i] > 0 ? 0 : -EAGAIN); /* still there, and open */
        for (int k = 0; k < 1000; k++)
            CHECK(chan_ref(ch) == ch);
        for (int k = 0; k < 1000; k++)
            chan_unref(ch);
        chan_unref(ch);
    }
}

/* 10,000 channels of 64 KiB would be 640 MiB. */
TEST(freed_channels_leave_nothing_behind)
{
    static char element[64 << 10];
    const long before = support_resident();
    for (long i = 0; i < support_scale(10000); i++) {
        chan_t *ch = NEW(sizeof element, i % 2 ? 1 : CHAN_UNBOUNDED);
        CHECK_EQ(chan_send(ch, &element), 0);
        if (i % 3 == 0)
            CHECK_EQ(chan_close(ch), 0);
        chan_unref(ch);
    }
    if (!support_slow())
        CHECK(support_resident() - before < 128 << 20);
}

struct shared {
    chan_t *ch;
    bool send;
};

static void *use_and_unref(void *arg)
{
    const struct shared *s = arg;
    int x = 3;
    const int rc = s->send ? chan_send(s->ch, &x) : chan_recv(s->ch, &x);
    CHECK(rc == 0 || rc == -EPIPE);
    chan_unref(s->ch);
    return NULL;
}

/* Each drops its own reference as soon as its call is back; the other may still be on its way out. */
TEST(either_side_may_be_the_last)
{
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (long round = 0; round < support_scale(cast == ROUTINES ? 2500 : 120); round++) {
            chan_t *ch = MAKE(int, round / 2 % 3);
            struct shared one = {chan_ref(ch), round % 2}, other = {ch, !one.send};
            struct actor a = act(cast_is_thread(cast, 0), use_and_unref, &one);
            struct actor b = act(cast_is_thread(cast, 1), use_and_unref, &other);
            act_end(a);
            act_end(b);
        }
}

TEST(whoever_closes_may_leave_at_once)
{
    enum { WAITING = 3 };
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (long round = 0; round < support_scale(cast == ROUTINES ? 2500 : 120); round++) {
            chan_t *ch = MAKE(int, 0);
            struct shared s[WAITING];
            struct actor a[WAITING];
            for (int i = 0; i < WAITING; i++) {
                s[i] = (struct shared){chan_ref(ch), round % 2};
                a[i] = act(cast_is_thread(cast, i), use_and_unref, &s[i]);
            }
            if (round % 3)
                routine_yield();
            CHECK_EQ(chan_close(ch), 0);
            chan_unref(ch);
            for (int i = 0; i < WAITING; i++)
                act_end(a[i]);
        }
}

/* ---- channels without bound ---- */

TEST_EVERYWHERE(an_unbounded_channel_grows_and_keeps_the_order)
{
    const long most = support_scale(20000);
    chan_t *ch = MAKE(long, CHAN_UNBOUNDED);
    long in = 0, out = 0, x = -1;
    for (long step = 1; in < most; step++) { /* ever more in it */
        for (long i = 0; i < 3 * step; i++, in++)
            CHECK_EQ(chan_send(ch, &in), 0);
        CHECK_EQ(chan_len(ch), in - out);
        for (long i = 0; i < 2 * step; i++, out++) {
            CHECK_EQ(chan_recv(ch, &x), 0);
            CHECK_EQ(x, out);
        }
    }
    for (; out < in; out++) {
        CHECK_EQ(chan_recv(ch, &x), 0);
        CHECK_EQ(x, out);
    }
    CHECK_EQ(chan_try_recv(ch, &x), -EAGAIN);
    CHECK_EQ(chan_cap(ch), CHAN_UNBOUNDED);
    chan_unref(ch);
}

/* 40 channels that hold 16 MiB each, one after the other: together they would keep 640 MiB. */
TEST(a_drained_channel_gives_its_memory_back)
{
    enum { CHANNELS = 40, PIECES = 16 << 10 };
    struct kilobyte {
        char bytes[1024];
    };
    static struct kilobyte piece;
    const long before = support_resident();
    chan_t *channels[CHANNELS];
    for (int i = 0; i < CHANNELS; i++) {
        channels[i] = MAKE(struct kilobyte, CHAN_UNBOUNDED);
        const int pieces = support_slow() ? PIECES / 16 : PIECES;
        for (int k = 0; k < pieces; k++) {
            memset(&piece, k, sizeof piece);
            CHECK_EQ(chan_send(channels[i], &piece), 0);
        }
        for (int k = 0; k < pieces; k++) {
            CHECK_EQ(chan_recv(channels[i], &piece), 0);
            CHECK_EQ(piece.bytes[k % 1024], (char)k);
        }
        CHECK_EQ(chan_len(channels[i]), 0);
    }
    if (!support_slow())
        CHECK(support_resident() - before < 128 << 20);
    for (int i = 0; i < CHANNELS; i++) {
        CHECK_EQ(chan_send(channels[i], &piece), 0); /* and goes on working */
        CHECK_EQ(chan_recv(channels[i], &piece), 0);
        chan_unref(channels[i]);
    }
}

/* In a process of its own that is given little: what was sent is there, what was refused is not. */
static int case_no_memory_to_grow(void)
{
    enum { MEGABYTE = 1 << 20, MOST = 4096 };
    struct element {
        int number;
        char rest[MEGABYTE - sizeof(int)];
    };
    static struct element e;
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    if (file == NULL || fscanf(file, "%ld", &pages) != 1)
        return 1;
    fclose(file);
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    chan_t *ch = MAKE(struct element, CHAN_UNBOUNDED);
    const rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (rlim_t)128 * MEGABYTE;
    const struct rlimit little = {most, RLIM_INFINITY};
    CHECK_EQ(setrlimit(RLIMIT_AS, &little), 0);
    for (int round = 0; round < 3; round++) {
        int sent = 0, rc;
        for (;; sent++) {
            e.number = sent;
            rc = sent % 2 ? chan_try_send(ch, &e) : chan_send(ch, &e);
            if (rc != 0 || sent == MOST)
                break;
        }
        CHECK_EQ(rc, -ENOMEM);
        CHECK(sent > 8); /* of 128 MiB, even if it had to be moved when it grew */
        CHECK_EQ(chan_len(ch), sent);
        e.number = -1;
        CHECK_EQ(chan_select(CHAN_SEND(ch, &e), CHAN_TIMEOUT(ROUTINE_S)), -ENOMEM);
        for (int i = 0; i < sent; i++) {
            CHECK_EQ(chan_recv(ch, &e), 0);
            CHECK_EQ(e.number, i);
        }
        CHECK_EQ(chan_try_recv(ch, &e), -EAGAIN);
    }
    chan_unref(ch);
    return 0;
}

TEST(an_unbounded_channel_says_when_there_is_no_memory)
{
    static struct support_result r;
    if (SUPPORT_ASAN || SUPPORT_TSAN)
        return; /* they need all address space */
    CASE_EXITS(&r, "no_memory_to_grow", NULL, 0);
}

/* ---- a chain of 10,000 ---- */

enum { CHAIN = 10000 };
static chan_t *links[CHAIN + 1];
static routine_t chained[CHAIN];

static void *pass_on(void *arg)
{
    const uintptr_t i = (uintptr_t)arg;
    long x;
    int rc;
    while ((rc = chan_recv(links[i], &x)) == 0) {
        x++;
        CHECK_EQ(chan_send(links[i + 1], &x), 0);
    }
    CHECK_EQ(rc, -EPIPE);
    CHECK_EQ(chan_close(links[i + 1]), 0);
    return NULL;
}

static void *run_chain(void *arg)
{
    const ptrdiff_t room = *(ptrdiff_t *)arg;
    const uintptr_t length = SUPPORT_TSAN ? 2000 : CHAIN;
    enum { BEADS = 3 };
    for (uintptr_t i = 0; i <= length; i++)
        links[i] = MAKE(long, room);
    for (uintptr_t i = 0; i < length; i++)
        chained[i] = go(pass_on, (void *)i);
    for (long bead = 0; bead < BEADS; bead++)
        CHECK_EQ(chan_send(links[0], &bead), 0);
    CHECK_EQ(chan_close(links[0]), 0);
    for (long bead = 0; bead < BEADS; bead++) {
        long x = -1;
        CHECK_EQ(chan_recv(links[length], &x), 0);
        CHECK_EQ(x, bead + (long)length);
    }
    CHECK_EQ(chan_recv(links[length], NULL), -EPIPE);
    for (uintptr_t i = 0; i < length; i++)
        CHECK_EQ(routine_join(chained[i], NULL), 0);
    for (uintptr_t i = 0; i <= length; i++)
        chan_unref(links[i]);
    return NULL;
}

TEST(a_chain_of_10000)
{
    static ptrdiff_t rooms[] = {0, 1, CHAN_UNBOUNDED};
    for (size_t i = 0; i < COUNT_OF(rooms); i++) {
        run_chain(&rooms[i]);
        support_in_routine(run_chain, &rooms[i]);
    }
}

/* ---- the sieve ---- */

struct filter {
    chan_t *in, *out;
    int prime; /* 0: sends all numbers, up to most */
    int most;
};

static void *sieve_filter(void *arg)
{
    const struct filter *f = arg;
    int x;
    if (f->prime == 0) {
        for (x = 2; x <= f->most; x++)
            CHECK_EQ(chan_send(f->out, &x), 0);
    } else {
        while (chan_recv(f->in, &x) == 0)
            if (x % f->prime != 0)
                CHECK_EQ(chan_send(f->out, &x), 0);
        chan_unref(f->in);
    }
    CHECK_EQ(chan_close(f->out), 0);
    chan_unref(f->out);
    return NULL;
}

static void *run_sieve(void *arg)
{
    enum { MOST = 2000 };
    static const int expected_count = 303;
    routine_t filters[MOST];
    int count = 0, prime = 1;
    const int most = SUPPORT_TSAN ? 500 : MOST;
    chan_t *in = MAKE(int, *(ptrdiff_t *)arg);
    filters[0] = go_copy(sieve_filter, ((struct filter){NULL, chan_ref(in), 0, most}));
    for (;;) {
        int next = -1;
        if (chan_recv(in, &next) != 0)
            break;
        for (prime++; prime < next; prime++) { /* the numbers left out have divisors */
            bool composite = false;
            for (int i = 2; i * i <= prime; i++)
                composite |= prime % i == 0;
            CHECK(composite);
        }
        for (int i = 2; i * i <= prime; i++)
            CHECK(prime % i != 0);
        chan_t *out = MAKE(int, *(ptrdiff_t *)arg);
        filters[++count] = go_copy(sieve_filter, ((struct filter){in, chan_ref(out), prime, 0}));
        in = out;
    }
    if (most == MOST)
        CHECK_EQ(count, expected_count);
    for (int i = 0; i <= count; i++)
        CHECK_EQ(routine_join(filters[i], NULL), 0);
    chan_unref(in);
    return NULL;
}

TEST(the_sieve)
{
    static ptrdiff_t rooms[] = {0, 1, 16};
    for (size_t i = 0; i < COUNT_OF(rooms); i++) {
        run_sieve(&rooms[i]);
        support_in_routine(run_sieve, &rooms[i]);
    }
}

/* ---- power series (M. D. McIlroy, "Squinting at Power Series", 1990) ----
 *
 * A series is a stream of coefficients on demand: one channel asks, another one answers. Sums,
 * products and the rest are networks of routines, some of them with loops. Whoever finds one of its channels
 * closed closes all of its own, and so a whole network ends when somebody has seen enough. */

struct rational {
    int64_t num, den;
};

struct series {
    chan_t *ask, *answer;
};

static _Atomic int series_routines;

/* Of numbers that may be large; the tests stay where the result is not. */
static struct rational ratio(__int128 num, __int128 den)
{
    __int128 a = num < 0 ? -num : num, b = den < 0 ? -den : den;
    while (b != 0) {
        const __int128 rest = a % b;
        a = b;
        b = rest;
    }
    if (den < 0)
        a = -a;
    return (struct rational){(int64_t)(num / a), (int64_t)(den / a)};
}

static struct rational plus(struct rational a, struct rational b)
{
    return ratio((__int128)a.num * b.den + (__int128)b.num * a.den, (__int128)a.den * b.den);
}

static struct rational times(struct rational a, struct rational b)
{
    return ratio((__int128)a.num * b.num, (__int128)a.den * b.den);
}

static struct series series_new(void)
{
    return (struct series){NEW(0, 0), MAKE(struct rational, 0)};
}

/* Both ends do this when they are through. */
static void series_end(struct series s)
{
    (void)chan_close(s.ask);
    (void)chan_close(s.answer);
    chan_unref(s.ask);
    chan_unref(s.answer);
}

static struct series series_share(struct series s)
{
    return (struct series){chan_ref(s.ask), chan_ref(s.answer)};
}

static bool get(struct series s, struct rational *r)
{
    return chan_send(s.ask, NULL) == 0 && chan_recv(s.answer, r) == 0;
}

static bool put(struct series s, struct rational r)
{
    return chan_recv(s.ask, NULL) == 0 && chan_send(s.answer, &r) == 0;
}

/* A routine of a network: what it computes from f and g goes to out; all three end with it. */
struct node {
    struct series out, f, g, out2;
    struct rational c, d;
    void (*compute)(struct node *);
};

static void *node_run(void *arg)
{
    struct node *n = arg;
    n->compute(n);
    const struct series all[] = {n->out, n->f, n->g, n->out2};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (all[i].ask != NULL)
            series_end(all[i]);
    atomic_fetch_sub(&series_routines, 1);
    return NULL;
}

static struct series node_start(struct node n)
{
    if (n.out.ask == NULL)
        n.out = series_new();
    const struct series out = series_share(n.out);
    atomic_fetch_add(&series_routines, 1);
    CHECK_EQ(routine_detach(go_copy(node_run, n)), 0);
    return out;
}

static struct series node(void (*compute)(struct node *), struct series f, struct series g, struct rational c)
{
    return node_start((struct node){.f = f, .g = g, .c = c, .compute = compute});
}

static const struct series none;
static const struct rational zero = {0, 1}, one = {1, 1};

static struct rational integer(int64_t n)
{
    return (struct rational){n, 1};
}

static void copy_all(struct series from, struct series to)
{
    struct rational r;
    while (chan_recv(to.ask, NULL) == 0 && get(from, &r))
        if (chan_send(to.answer, &r) != 0)
            break;
}

/* Two streams of one, each at its own pace: what one of them has not seen yet is kept. */
static void compute_split(struct node *n)
{
    enum { MOST = 256 };
    const struct series out[2] = {n->out, n->out2};
    struct rational kept[MOST];
    size_t have = 0, given[2] = {0, 0};
    bool wanted[2] = {false, false}, asked = false;
    for (;;) {
        bool missing = false;
        for (int i = 0; i < 2; i++)
            missing |= wanted[i] && given[i] == have;
        const bool ready[2] = {wanted[0] && given[0] < have, wanted[1] && given[1] < have};
        if (have == MOST) {
            support_fail(__FILE__, __LINE__, "more terms than the tests ask for");
            return;
        }
        switch (chan_select(CHAN_RECV(wanted[0] ? NULL : out[0].ask, NULL),
                            CHAN_RECV(wanted[1] ? NULL : out[1].ask, NULL),
                            CHAN_SEND(missing && !asked ? n->f.ask : NULL, NULL),
                            CHAN_RECV(asked ? n->f.answer : NULL, &kept[have]),
                            CHAN_SEND(ready[0] ? out[0].answer : NULL, &kept[given[0]]),
                            CHAN_SEND(ready[1] ? out[1].answer : NULL, &kept[given[1]]))) {
        case 0:
            wanted[0] = true;
            break;
        case 1:
            wanted[1] = true;
            break;
        case 2:
            asked = true;
            break;
        case 3:
            asked = false;
            have++;
            break;
        case 4:
            wanted[0] = false;
            given[0]++;
            break;
        case 5:
            wanted[1] = false;
            given[1]++;
            break;
        default:
            return;
        }
    }
}

static void split(struct series f, struct series out[2])
{
    const struct series second = series_new();
    out[1] = series_share(second);
    out[0] = node_start((struct node){.out2 = second, .f = f, .compute = compute_split});
}

static void compute_constant(struct node *n)
{
    while (put(n->out, n->c))
        ;
}

static struct series ones(void)
{
    return node(compute_constant, none, none, one);
}

/* c + d x */
static void compute_line(struct node *n)
{
    if (put(n->out, n->c) && put(n->out, n->d))
        while (put(n->out, zero))
            ;
}

static struct series line(struct rational c, struct rational d)
{
    return node_start((struct node){.c = c, .d = d, .compute = compute_line});
}

/* 1/(1 + x^2) */
static void compute_bell(struct node *n)
{
    static const int terms[] = {1, 0, -1, 0};
    for (int i = 0; put(n->out, integer(terms[i % 4])); i++)
        ;
}

static void compute_add(struct node *n)
{
    struct rational a, b;
    while (chan_recv(n->out.ask, NULL) == 0 && get(n->f, &a) && get(n->g, &b)) {
        const struct rational sum = plus(a, b);
        if (chan_send(n->out.answer, &sum) != 0)
            break;
    }
}

static struct series add(struct series f, struct series g)
{
    return node(compute_add, f, g, zero);
}

static void compute_scale(struct node *n)
{
    struct rational a;
    while (chan_recv(n->out.ask, NULL) == 0 && get(n->f, &a)) {
        a = times(a, n->c);
        if (chan_send(n->out.answer, &a) != 0)
            break;
    }
}

static struct series scale(struct rational c, struct series f)
{
    return node(compute_scale, f, none, c);
}

static void compute_derivative(struct node *n)
{
    struct rational a;
    if (chan_recv(n->out.ask, NULL) != 0 || !get(n->f, &a))
        return;
    for (int64_t i = 1; get(n->f, &a); i++) {
        a = times(a, integer(i));
        if (chan_send(n->out.answer, &a) != 0 || chan_recv(n->out.ask, NULL) != 0)
            return;
    }
}

static struct series derivative(struct series f)
{
    return node(compute_derivative, f, none, zero);
}

static void compute_integral(struct node *n)
{
    struct rational a;
    if (!put(n->out, n->c))
        return;
    for (int64_t i = 1; chan_recv(n->out.ask, NULL) == 0 && get(n->f, &a); i++) {
        a = times(a, (struct rational){1, i});
        if (chan_send(n->out.answer, &a) != 0)
            return;
    }
}

static struct series integral(struct rational c, struct series f)
{
    return node(compute_integral, f, none, c);
}

static struct series arctangent(void)
{
    return integral(zero, node(compute_bell, none, none, zero));
}

/* F * G = f g + x (f G' + g F') + x^2 F' G' with F = f + x F' */
static struct series multiply(struct series f, struct series g);

static void compute_multiply(struct node *n)
{
    struct rational f, g, w;
    if (chan_recv(n->out.ask, NULL) != 0 || !get(n->f, &f) || !get(n->g, &g))
        return;
    w = times(f, g);
    if (chan_send(n->out.answer, &w) != 0 || chan_recv(n->out.ask, NULL) != 0)
        return;
    struct series ff[2], gg[2];
    split(n->f, ff);
    split(n->g, gg);
    n->f = add(scale(f, gg[0]), scale(g, ff[0]));
    n->g = none;
    if (get(n->f, &w) && chan_send(n->out.answer, &w) == 0) {
        n->f = add(n->f, multiply(ff[1], gg[1]));
        copy_all(n->f, n->out);
    } else {
        series_end(ff[1]);
        series_end(gg[1]);
    }
}

static struct series multiply(struct series f, struct series g)
{
    return node(compute_multiply, f, g, zero);
}

/* 1/F = (1 - x F' / F) / f: the answer is an input of itself */
static void compute_reciprocal(struct node *n)
{
    struct rational f;
    if (chan_recv(n->out.ask, NULL) != 0 || !get(n->f, &f))
        return;
    const struct rational first = ratio(f.den, f.num), minus = times(integer(-1), first);
    if (chan_send(n->out.answer, &first) == 0) {
        n->f = scale(minus, multiply(n->f, n->g));
        n->g = none;
        copy_all(n->f, n->out);
    }
}

/* A network with a loop: compute gets F and its own output. */
static struct series feed_back(void (*compute)(struct node *), struct series f)
{
    const struct series out = series_new();
    struct series two[2];
    split(series_share(out), two);
    const struct series same = node_start((struct node){.out = out, .f = f, .g = two[1], .compute = compute});
    chan_unref(same.ask); /* the splitter reads it */
    chan_unref(same.answer);
    return two[0];
}

static struct series reciprocal(struct series f)
{
    return feed_back(compute_reciprocal, f);
}

/* exp F for F(0) = 0: the integral of F' exp F, from 1 */
static void compute_exponential(struct node *n)
{
    n->f = integral(one, multiply(n->g, derivative(n->f)));
    n->g = none;
    copy_all(n->f, n->out);
}

static struct series exponential(struct series f)
{
    return feed_back(compute_exponential, f);
}

/* F(G) for G(0) = 0: f + x G' F'(G) */
static struct series substitute(struct series f, struct series g);

static void compute_substitute(struct node *n)
{
    struct rational f, g;
    if (chan_recv(n->out.ask, NULL) != 0 || !get(n->f, &f) || chan_send(n->out.answer, &f) != 0)
        return;
    struct series gg[2];
    split(n->g, gg);
    n->g = none;
    if (!get(gg[0], &g)) {
        series_end(gg[0]);
        series_end(gg[1]);
        return;
    }
    CHECK_EQ(g.num, 0);
    n->f = multiply(gg[0], substitute(n->f, gg[1]));
    copy_all(n->f, n->out);
}

static struct series substitute(struct series f, struct series g)
{
    return node(compute_substitute, f, g, zero);
}

/* The R with F(R(x)) = x, for F(0) = 0: x / (F/x)(R) */
static void compute_reversion(struct node *n)
{
    struct rational f;
    if (!get(n->f, &f) || !put(n->out, zero))
        return;
    CHECK_EQ(f.num, 0);
    n->f = reciprocal(substitute(n->f, n->g));
    n->g = none;
    copy_all(n->f, n->out);
}

static struct series reversion(struct series f)
{
    return feed_back(compute_reversion, f);
}

static void check_series(const char *name, struct series f, const struct rational *expected, int count)
{
    for (int i = 0; i < count; i++) {
        struct rational r = {0, 0};
        CHECK(get(f, &r));
        if (r.num != expected[i].num || r.den != expected[i].den)
            support_fail(__FILE__, __LINE__, "%s: term %d is %lld/%lld, not %lld/%lld", name, i,
                         (long long)r.num, (long long)r.den, (long long)expected[i].num,
                         (long long)expected[i].den);
    }
    series_end(f);
    WAIT_UNTIL(atomic_load(&series_routines) == 0); /* the whole network has come to its end */
}

#define SERIES(name, f, ...)                                                                                 \
    do {                                                                                                     \
        static const struct rational support_terms[] = {__VA_ARGS__};                                        \
        check_series(name, f, support_terms, (int)COUNT_OF(support_terms));                                  \
    } while (0)

static void *run_series(void *arg)
{
    SERIES("ones", ones(), {1, 1}, {1, 1}, {1, 1});
    SERIES("2", add(ones(), ones()), {2, 1}, {2, 1}, {2, 1}, {2, 1});
    SERIES("x + 1/3", line((struct rational){1, 3}, one), {1, 3}, {1, 1}, {0, 1}, {0, 1});
    SERIES("1/(1-x)^2", derivative(ones()), {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1});
    SERIES("log", integral(zero, ones()), {0, 1}, {1, 1}, {1, 2}, {1, 3}, {1, 4}, {1, 5});
    SERIES("half", scale((struct rational){-2, 4}, ones()), {-1, 2}, {-1, 2}, {-1, 2});
    SERIES("squared", multiply(ones(), ones()), {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1},
           {8, 1}, {9, 1}, {10, 1});
    SERIES("(1+x)^2", multiply(line(one, one), line(one, one)), {1, 1}, {2, 1}, {1, 1}, {0, 1}, {0, 1});
    SERIES("1-x", reciprocal(ones()), {1, 1}, {-1, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1});
    SERIES("1/(1+x/2)", reciprocal(line(one, (struct rational){1, 2})), {1, 1}, {-1, 2}, {1, 4}, {-1, 8},
           {1, 16}, {-1, 32}, {1, 64});
    SERIES("exp", exponential(line(zero, one)), {1, 1}, {1, 1}, {1, 2}, {1, 6}, {1, 24}, {1, 120}, {1, 720},
           {1, 5040}, {1, 40320});
    SERIES("1/(1-x)", exponential(integral(zero, ones())), {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1},
           {1, 1});
    SERIES("1/(1-2x)", substitute(ones(), line(zero, integer(2))), {1, 1}, {2, 1}, {4, 1}, {8, 1}, {16, 1},
           {32, 1});
    SERIES("arctan", arctangent(), {0, 1}, {1, 1}, {0, 1}, {-1, 3}, {0, 1}, {1, 5}, {0, 1}, {-1, 7});
    SERIES("tan", reversion(arctangent()), {0, 1}, {1, 1}, {0, 1}, {1, 3}, {0, 1}, {2, 15}, {0, 1}, {17, 315},
           {0, 1}, {62, 2835});
    return arg;
}

TEST(power_series)
{
    run_series(NULL);
    support_in_routine(run_series, NULL);
}

/* ---- several runtimes ---- */

TEST(ping_pong_between_two_runtimes)
{
    routine_runtime_t *a = support_runtime(1), *b = support_runtime(2);
    for (int room = 0; room <= 1; room++) {
        struct table t = {{MAKE(long, room), MAKE(long, room)}, support_scale(5000)};
        struct actor one_side = act_on(a, serve, &t), other_side = act_on(b, hit_back, &t);
        act_end(one_side);
        act_end(other_side);
        chan_unref(t.to[0]);
        chan_unref(t.to[1]);
    }
    support_runtime_end(a);
    support_runtime_end(b);
}

/* A channel travels through a channel, is used by whoever gets it, and freed by whoever is last. */
struct request {
    chan_t *reply;
    long number;
};

static void *reply_to_requests(void *arg)
{
    struct request r;
    while (chan_recv((chan_t *)arg, &r) == 0) {
        r.number = r.number * 2 + 1;
        CHECK_EQ(chan_send(r.reply, &r.number), 0);
        chan_unref(r.reply);
    }
    return NULL;
}

static void *send_requests(void *arg)
{
    for (long i = 0; i < support_scale(5000); i++) {
        long answer = -1;
        chan_t *reply = MAKE(long, i % 2);
        CHECK_EQ(chan_send((chan_t *)arg, &(struct request){chan_ref(reply), i}), 0);
        CHECK_EQ(chan_recv(reply, &answer), 0);
        CHECK_EQ(answer, 2 * i + 1);
        chan_unref(reply);
    }
    CHECK_EQ(chan_close((chan_t *)arg), 0);
    return NULL;
}

TEST(channels_go_through_channels_between_runtimes)
{
    routine_runtime_t *a = support_runtime(2), *b = support_runtime(1);
    for (int room = 0; room <= 1; room++) {
        chan_t *requests = MAKE(struct request, room);
        struct actor asks = act_on(a, send_requests, requests);
        struct actor answers = act_on(b, reply_to_requests, requests);
        act_end(asks);
        act_end(answers);
        chan_unref(requests);
    }
    support_runtime_end(a);
    support_runtime_end(b);
}

/* One and the same channel goes to and fro between two runtimes, which take turns in using it. */
struct relay {
    chan_t *to[2];
    long rounds;
};

static void *relay_first(void *arg)
{
    struct relay *r = arg;
    chan_t *ball = MAKE(long, 3);
    for (long i = 0; i < r->rounds; i++) {
        long got = -1;
        CHECK_EQ(chan_send(ball, &i), 0);
        CHECK_EQ(chan_send(ball, &(long){-i}), 0);
        CHECK_EQ(chan_send(r->to[1], &ball), 0);
        ball = NULL;
        CHECK_EQ(chan_recv(r->to[0], &ball), 0);
        CHECK_EQ(chan_len(ball), 1);
        CHECK_EQ(chan_recv(ball, &got), 0);
        CHECK_EQ(got, -i);
    }
    CHECK_EQ(chan_close(r->to[1]), 0);
    chan_unref(ball);
    return NULL;
}

static void *relay_second(void *arg)
{
    struct relay *r = arg;
    chan_t *ball;
    long expected = 0, got = -1;
    while (chan_recv(r->to[1], &ball) == 0) {
        CHECK_EQ(chan_recv(ball, &got), 0);
        CHECK_EQ(got, expected++);
        CHECK_EQ(chan_send(r->to[0], &ball), 0);
    }
    CHECK_EQ(expected, r->rounds);
    return NULL;
}

TEST(a_channel_is_handed_to_and_fro)
{
    routine_runtime_t *a = support_runtime(2), *b = support_runtime(2);
    struct relay r = {{MAKE(chan_t *, 0), MAKE(chan_t *, 0)}, support_scale(20000)};
    struct actor first = act_on(a, relay_first, &r), second = act_on(b, relay_second, &r);
    act_end(first);
    act_end(second);
    chan_unref(r.to[0]);
    chan_unref(r.to[1]);
    support_runtime_end(a);
    support_runtime_end(b);
}

TEST(a_channel_survives_a_runtime)
{
    for (int round = 0; round < 20; round++) {
        enum { TAKEN = 3 };
        routine_runtime_t *a = support_runtime(2), *b = support_runtime(1);
        chan_t *ch = MAKE(int, TAKEN);
        struct single s[2 * TAKEN], late = {.ch = ch, .value = -1};
        struct actor actors[2 * TAKEN];
        bool seen[2 * TAKEN] = {false};
        for (int i = 0; i < 2 * TAKEN; i++) { /* half of them have to wait */
            s[i] = (struct single){.ch = ch, .value = i};
            actors[i] = act_on(a, send_one, &s[i]);
        }
        await_parked(a, TAKEN);
        for (int i = 0; i < TAKEN; i++) {
            int x = 0;
            CHECK_EQ(chan_recv(ch, &x), 0);
            seen[x] = true;
        }
        for (int i = 0; i < 2 * TAKEN; i++) {
            act_end(actors[i]);
            CHECK_EQ(s[i].rc, 0);
        }
        support_runtime_end(a);
        CHECK_EQ(chan_len(ch), TAKEN);
        for (int i = 0; i < TAKEN; i++) {
            struct single r = {.ch = ch};
            if (i % 2)
                recv_one(&r);
            else
                act_end(act_on(b, recv_one, &r));
            CHECK_EQ(r.rc, 0);
            CHECK(r.value >= 0 && r.value < 2 * TAKEN && !seen[r.value]);
            seen[r.value] = true;
        }
        struct actor last = act_on(b, recv_one, &late);
        await_parked(b, 1);
        CHECK_EQ(chan_send(ch, &(int){12}), 0);
        act_end(last);
        CHECK_EQ(late.value, 12);
        support_runtime_end(b);
        CHECK_EQ(chan_try_recv(ch, NULL), -EAGAIN);
        CHECK_EQ(chan_send(ch, &(int){13}), 0);
        CHECK_EQ(chan_close(ch), 0);
        chan_unref(ch);
    }
}

static void *send_ten_thousand(void *arg)
{
    int x = 0;
    while (chan_send((chan_t *)arg, &x) == 0)
        x++;
    return NULL;
}

/* The one who waits is the last of its runtime, which is freed at once: whoever woke it may still be at it.
 */
TEST(a_runtime_goes_while_its_last_routine_is_being_woken)
{
    chan_t *ch = MAKE(int, 0);
    struct actor sender = act(true, send_ten_thousand, ch);
    for (int i = 0; i < support_scale(1000); i++) {
        routine_runtime_t *runtime = support_runtime(1);
        struct single s = {.ch = ch, .value = -1};
        struct actor receiver = act_on(runtime, recv_one, &s);
        support_runtime_end(runtime);
        act_end(receiver);
        CHECK_EQ(s.rc, 0);
        CHECK_EQ(s.value, i);
    }
    CHECK_EQ(chan_close(ch), 0);
    act_end(sender);
    chan_unref(ch);
}

/* ---- the wrong size ---- */

struct six {
    char bytes[611];
};

static chan_t *seven(void)
{
    return NEW(733, 2);
}

static int case_wrong_send(void)
{
    return chan_send(seven(), &(struct six){"six"});
}

static int case_wrong_recv(void)
{
    struct six into;
    return chan_recv(seven(), &into);
}

static int case_wrong_try_send(void)
{
    return chan_try_send(seven(), &(struct six){"six"});
}

static int case_wrong_try_recv(void)
{
    struct six into;
    return chan_try_recv(seven(), &into);
}

static int case_wrong_select_send(void)
{
    return chan_select(CHAN_SEND(seven(), &(struct six){"six"}), CHAN_DEFAULT);
}

static int case_wrong_select_recv(void)
{
    struct six into;
    return chan_select(CHAN_RECV(seven(), &into), CHAN_DEFAULT);
}

static void *wrong_send(void *arg)
{
    CHECK_EQ(chan_send((chan_t *)arg, &(struct six){"six"}), 0);
    return NULL;
}

static int case_wrong_in_a_routine(void)
{
    return routine_run(wrong_send, seven(), NULL);
}

/* The channel is full, and the wrong one would wait: it is told at once. */
static int case_wrong_when_full(void)
{
    chan_t *ch = NEW(733, 0);
    return chan_send(ch, &(struct six){"six"});
}

TEST(a_wrong_size_panics_with_a_sentence)
{
    static struct support_result r;
    static const char *const names[] = {"wrong_send",         "wrong_recv",        "wrong_try_send",
                                        "wrong_try_recv",     "wrong_select_send", "wrong_select_recv",
                                        "wrong_in_a_routine", "wrong_when_full"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CASE_DIES(&r, names[i], NULL, SIGABRT);
        CASE_SAYS(&r, names[i], "routines: ");
        CASE_SAYS(&r, names[i], "611");
        CASE_SAYS(&r, names[i], "733");
    }
}

/* ---- a try beside a receive that makes room for a blocked sender ---- */

enum { PARCEL = 16384 };

struct exchange {
    chan_t *ch;
    long rounds;
    _Atomic int phase; /* 1: the second sender waits, or is about to; 2: try now; 0: tried */
};

static void *send_two_parcels(void *arg)
{
    struct exchange *e = arg;
    static const char parcel[PARCEL];
    CHECK_EQ(chan_send(e->ch, &parcel), 0);
    atomic_store(&e->phase, 1);
    CHECK_EQ(chan_send(e->ch, &parcel), 0);
    return NULL;
}

static void *receive_parcels(void *arg)
{
    struct exchange *e = arg;
    static char parcel[PARCEL];
    for (long i = 0; i < e->rounds; i++) {
        const routine_t h = go(send_two_parcels, e);
        WAIT_UNTIL(atomic_load(&e->phase) == 1); /* on one worker: then it waits for room */
        atomic_store(&e->phase, 2);
        CHECK_EQ(chan_recv(e->ch, &parcel), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        WAIT_UNTIL(atomic_load(&e->phase) == 0);
    }
    return NULL;
}

/* The channel holds one, and a sender waits with another: whatever comes first, the receive or the try, there
 * is one. */
TEST(a_try_never_finds_a_full_channel_empty)
{
    static char parcel[PARCEL];
    struct exchange e = {.ch = NEW(PARCEL, 1), .rounds = support_scale(4000)};
    routine_runtime_t *single = support_runtime(1);
    uint64_t random = 9;
    const routine_t h = support_go_on(single, receive_parcels, &e);
    for (long i = 0; i < e.rounds; i++) {
        while (atomic_load(&e.phase) != 2)
            sched_yield();
        for (volatile uint64_t k = support_random(&random) % 2000; k > 0; k--)
            ;
        CHECK_EQ(chan_try_recv(e.ch, &parcel), 0);
        atomic_store(&e.phase, 0);
    }
    CHECK_EQ(routine_join(h, NULL), 0);
    support_runtime_end(single);
    chan_unref(e.ch);
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"no_memory_to_grow", case_no_memory_to_grow},
        {"wrong_send", case_wrong_send},
        {"wrong_recv", case_wrong_recv},
        {"wrong_try_send", case_wrong_try_send},
        {"wrong_try_recv", case_wrong_try_recv},
        {"wrong_select_send", case_wrong_select_send},
        {"wrong_select_recv", case_wrong_select_recv},
        {"wrong_in_a_routine", case_wrong_in_a_routine},
        {"wrong_when_full", case_wrong_when_full},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_channels),
        cmocka_unit_test(what_cannot_be_made),
        cmocka_unit_test(length_and_capacity),
        cmocka_unit_test(elements_of_size_zero),
        cmocka_unit_test(tries_never_wait),
        cmocka_unit_test(closed_ones_are_drained_in_order),
        cmocka_unit_test(a_random_walk_follows_the_model),
        cmocka_unit_test(routines_wait_when_they_must),
        cmocka_unit_test(threads_wait_when_they_must),
        cmocka_unit_test(tries_find_those_that_wait),
        cmocka_unit_test(senders_are_served_in_the_order_of_arrival),
        cmocka_unit_test(receivers_are_served_in_the_order_of_arrival),
        cmocka_unit_test(threads_and_routines_stand_in_one_queue),
        cmocka_unit_test(close_wakes_receivers),
        cmocka_unit_test(close_wakes_senders_and_drops_what_they_had),
        cmocka_unit_test(elements_of_any_size),
        cmocka_unit_test(the_largest_element),
        cmocka_unit_test(types_of_all_kinds),
        cmocka_unit_test(traffic_among_routines),
        cmocka_unit_test(traffic_among_threads),
        cmocka_unit_test(traffic_among_both),
        cmocka_unit_test(traffic_by_tries),
        cmocka_unit_test(ping_pong),
        cmocka_unit_test(a_channel_of_one_is_a_lock),
        cmocka_unit_test(a_channel_of_three_lets_three_in),
        cmocka_unit_test(a_rendezvous_orders_both_ways),
        cmocka_unit_test(a_try_during_the_close_is_never_told_to_come_again),
        cmocka_unit_test(close_against_send),
        cmocka_unit_test(send_and_close_against_receive),
        cmocka_unit_test(of_two_closes_one_wins),
        cmocka_unit_test(close_in_the_midst_of_traffic),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(freed_channels_leave_nothing_behind),
        cmocka_unit_test(either_side_may_be_the_last),
        cmocka_unit_test(whoever_closes_may_leave_at_once),
        cmocka_unit_test(an_unbounded_channel_grows_and_keeps_the_order),
        cmocka_unit_test(a_drained_channel_gives_its_memory_back),
        cmocka_unit_test(an_unbounded_channel_says_when_there_is_no_memory),
        cmocka_unit_test(a_chain_of_10000),
        cmocka_unit_test(the_sieve),
        cmocka_unit_test(power_series),
        cmocka_unit_test(ping_pong_between_two_runtimes),
        cmocka_unit_test(channels_go_through_channels_between_runtimes),
        cmocka_unit_test(a_channel_is_handed_to_and_fro),
        cmocka_unit_test(a_channel_survives_a_runtime),
        cmocka_unit_test(a_runtime_goes_while_its_last_routine_is_being_woken),
        cmocka_unit_test(a_try_never_finds_a_full_channel_empty),
        cmocka_unit_test(a_wrong_size_panics_with_a_sentence),
    };
    return cmocka_run_group_tests_name("chan", tests, NULL, NULL);
}
