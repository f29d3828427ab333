/* SPDX-License-Identifier: MIT
 *
 * Tests of broadcasts, from the outside (chan.h): every subscriber sees the same order, from when it
 * joined to when it left; who is behind loses the oldest and is told the exact number; sends that never
 * wait; closing, leaving and freeing while others are at it.
 *
 * Messages carry numbers, so that each receive can be checked: the number must be the one after the last
 * one and all those that were missed between.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "chan_support.h"

#define MAKE_BROADCAST(type, backlog) support_made(__LINE__, chan_make_broadcast(type, (backlog)))
#define SUBSCRIBE(broadcast)          support_made(__LINE__, chan_subscribe(broadcast))

/* ---- what is and what is not ---- */

TEST_EVERYWHERE(what_cannot_be_made)
{
    static const struct {
        size_t size;
        ptrdiff_t backlog;
    } impossible[] = {
        {4, -1},
        {4, PTRDIFF_MIN},
        {4, CHAN_UNBOUNDED},
        {0, CHAN_UNBOUNDED},
        {8, PTRDIFF_MAX - 1},
        {SIZE_MAX, 1},
        {CHAN_ELEMENT_MAX + 1, 1},
        {CHAN_ELEMENT_MAX, (ptrdiff_t)1 << 38},
    };
    for (size_t i = 0; i < COUNT_OF(impossible); i++) {
        chan_t *b = chan_new_broadcast(impossible[i].size, impossible[i].backlog);
        if (b != NULL)
            support_fail(__FILE__, __LINE__, "%zu bytes x %td is no broadcast", impossible[i].size,
                         impossible[i].backlog);
        chan_unref(b);
    }
    chan_t *plain = MAKE(int, 1), *b = MAKE_BROADCAST(int, 1), *sub = SUBSCRIBE(b);
    CHECK(chan_subscribe(NULL) == NULL);
    CHECK(chan_subscribe(plain) == NULL);
    CHECK(chan_subscribe(sub) == NULL);
    chan_unref(plain);
    chan_unref(sub);
    chan_unref(b);
}

TEST_EVERYWHERE(the_wrong_direction)
{
    chan_t *plain = MAKE(int, 1), *b = MAKE_BROADCAST(int, 3), *sub = SUBSCRIBE(b);
    int x = -1, y = 4;
    for (int closed = 0; closed <= 1; closed++) {
        CHECK_EQ(chan_recv(b, &x), -EPERM);
        CHECK_EQ(chan_try_recv(b, &x), -EPERM);
        CHECK_EQ(chan_send(sub, &y), -EPERM);
        CHECK_EQ(chan_try_send(sub, &y), -EPERM);
        CHECK_EQ(chan_close(sub), -EPERM);
        CHECK_EQ(chan_send(plain, &y), 0);
        for (int i = 0; i < 20; i++) { /* whatever else could happen, and nothing does */
            CHECK_EQ(chan_select(CHAN_RECV(b, &x), CHAN_RECV(plain, &x), CHAN_DEFAULT), -EPERM);
            CHECK_EQ(chan_select(CHAN_RECV(plain, &x), CHAN_SEND(sub, &y), CHAN_DEFAULT), -EPERM);
            CHECK_EQ(chan_select(CHAN_SEND(sub, &y)), -EPERM);
            CHECK_EQ(chan_select(CHAN_RECV(plain, &x), CHAN_RECV(b, &x), CHAN_TIMEOUT(ROUTINE_S)), -EPERM);
        }
        CHECK_EQ(chan_recv(plain, &x), 0);
        CHECK_EQ(chan_unsubscribe(NULL), -EINVAL);
        CHECK_EQ(chan_unsubscribe(plain), -EINVAL);
        CHECK_EQ(chan_unsubscribe(b), -EINVAL);
        CHECK_EQ(chan_missed(NULL), 0);
        CHECK_EQ(chan_missed(plain), 0);
        CHECK_EQ(chan_missed(b), 0);
        CHECK_EQ(chan_missed(sub), 0);
        CHECK_EQ(chan_close(b), closed ? -EPIPE : 0);
    }
    CHECK_EQ(chan_unsubscribe(sub), 0);
    chan_unref(plain);
    chan_unref(b);
}

TEST_EVERYWHERE(length_and_capacity)
{
    chan_t *b = MAKE_BROADCAST(long, 3), *subs[4];
    CHECK_EQ(chan_cap(b), 3);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(chan_len(b), i);
        subs[i] = SUBSCRIBE(b);
        CHECK_EQ(chan_cap(subs[i]), 3);
        CHECK_EQ(chan_len(subs[i]), 0);
    }
    CHECK_EQ(chan_len(b), 4);
    for (long i = 1; i <= 5; i++) {
        CHECK_EQ(chan_send(b, &i), 0);
        for (int k = 0; k < 4; k++)
            CHECK_EQ(chan_len(subs[k]), i < 3 ? i : 3);
    }
    CHECK_EQ(chan_len(b), 4);
    CHECK_EQ(chan_unsubscribe(subs[1]), 0);
    CHECK_EQ(chan_len(b), 3);
    chan_unref(subs[3]); /* freed: it is no subscriber any more */
    CHECK_EQ(chan_len(b), 2);
    CHECK_EQ(chan_unsubscribe(subs[0]), 0);
    CHECK_EQ(chan_unsubscribe(subs[2]), 0);
    CHECK_EQ(chan_len(b), 0);
    chan_unref(b);
}

/* ---- one at a time ---- */

TEST_EVERYWHERE(everyone_gets_everything)
{
    chan_t *b = MAKE_BROADCAST(int, 10), *subs[3];
    int x = -1;
    CHECK_EQ(chan_send(b, &x), 0); /* to nobody */
    for (int i = 0; i < 3; i++)
        subs[i] = SUBSCRIBE(b);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 10; i++)
            CHECK_EQ(i % 2 ? chan_try_send(b, &i) : chan_send(b, &i), 0);
        for (int k = 0; k < 3; k++) {
            for (int i = 0; i < 10; i++) {
                CHECK_EQ(i % 3 == 0   ? chan_try_recv(subs[k], &x)
                         : i % 3 == 1 ? chan_recv(subs[k], &x)
                                      : chan_select(CHAN_RECV(subs[k], &x), CHAN_DEFAULT),
                         0);
                CHECK_EQ(x, i);
            }
            CHECK_EQ(chan_try_recv(subs[k], &x), -EAGAIN);
            CHECK_EQ(chan_select(CHAN_RECV(subs[k], &x), CHAN_DEFAULT), 1);
            CHECK_EQ(chan_missed(subs[k]), 0);
        }
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(chan_unsubscribe(subs[i]), 0);
    chan_unref(b);
}

/* A send on a broadcast is the right direction, and never has to wait. */
TEST_EVERYWHERE(a_select_sends_on_a_broadcast)
{
    chan_t *b = MAKE_BROADCAST(int, 2), *sub = SUBSCRIBE(b), *never = MAKE(int, 0);
    int x = -1;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(chan_select(CHAN_RECV(never, &x), CHAN_SEND(b, &i), CHAN_DEFAULT), 1);
    CHECK_EQ(chan_select(CHAN_SEND(b, &(int){5}), CHAN_TIMEOUT(ROUTINE_S)), 0);
    CHECK_EQ(chan_missed(sub), 4);
    CHECK_EQ(chan_try_recv(sub, &x), 4);
    CHECK_EQ(x, 4);
    CHECK_EQ(chan_try_recv(sub, &x), 0);
    CHECK_EQ(x, 5);
    CHECK_EQ(chan_close(b), 0);
    CHECK_EQ(chan_select(CHAN_SEND(b, &x), CHAN_DEFAULT), CHAN_CLOSED(0));
    CHECK_EQ(chan_unsubscribe(sub), 0);
    chan_unref(b);
    chan_unref(never);
}

TEST_EVERYWHERE(who_joins_sees_what_comes_later)
{
    enum { SUBSCRIBERS = 6 };
    chan_t *b = MAKE_BROADCAST(int, 100), *subs[SUBSCRIBERS];
    for (int i = 0; i < SUBSCRIBERS; i++) {
        CHECK_EQ(chan_send(b, &(int){10 * i}), 0);
        subs[i] = SUBSCRIBE(b);
        CHECK_EQ(chan_try_recv(subs[i], NULL), -EAGAIN);
        CHECK_EQ(chan_send(b, &(int){10 * i + 1}), 0);
    }
    for (int i = 0; i < SUBSCRIBERS; i++) {
        int x = -1;
        CHECK_EQ(chan_recv(subs[i], &x), 0);
        CHECK_EQ(x, 10 * i + 1);
        for (int k = i + 1; k < SUBSCRIBERS; k++)
            for (int second = 0; second <= 1; second++) {
                CHECK_EQ(chan_recv(subs[i], &x), 0);
                CHECK_EQ(x, 10 * k + second);
            }
        CHECK_EQ(chan_try_recv(subs[i], &x), -EAGAIN);
        CHECK_EQ(chan_unsubscribe(subs[i]), 0);
    }
    chan_unref(b);
}

TEST_EVERYWHERE(laggards_lose_the_oldest_and_are_told)
{
    for (int backlog = 1; backlog <= 5; backlog++)
        for (int sent = 0; sent <= 12; sent++) {
            chan_t *b = MAKE_BROADCAST(int, backlog), *sub = SUBSCRIBE(b);
            const int lost = sent > backlog ? sent - backlog : 0;
            int x = -1;
            for (int i = 0; i < sent; i++)
                CHECK_EQ(chan_send(b, &i), 0);
            CHECK_EQ(chan_missed(sub), lost);
            CHECK_EQ(chan_len(sub), sent - lost);
            for (int i = lost; i < sent; i++) {
                if (backlog % 2)
                    CHECK_EQ(i % 2 ? chan_try_recv(sub, &x) : chan_recv(sub, &x), i == lost ? lost : 0);
                else
                    CHECK_EQ(chan_select(CHAN_RECV(sub, &x)), 0); /* here only chan_missed tells */
                CHECK_EQ(x, i);
                CHECK_EQ(chan_missed(sub), lost);
            }
            CHECK_EQ(chan_try_recv(sub, &x), -EAGAIN);
            CHECK_EQ(chan_send(b, &sent), 0);
            CHECK_EQ(chan_recv(sub, NULL), 0); /* told once only */
            CHECK_EQ(chan_missed(sub), lost);
            CHECK_EQ(chan_unsubscribe(sub), 0);
            chan_unref(b);
        }
}

/* Queues in arrays are what a broadcast is compared with, one random step after the other. */
static void against_a_model(int backlog, uint64_t seed)
{
    enum { MOST = 4, STEPS = 3000 };
    chan_t *b = MAKE_BROADCAST(uint64_t, backlog), *subs[MOST] = {NULL};
    uint64_t next = 0, oldest[MOST] = {0}, untold[MOST] = {0}, missed[MOST] = {0};
    for (int step = 0; step < STEPS; step++) {
        const int k = (int)(support_random(&seed) % MOST);
        uint64_t x = UINT64_MAX;
        int rc;
        switch (support_random(&seed) % 16) {
        case 0:
            if (subs[k] != NULL)
                CHECK_EQ(chan_unsubscribe(subs[k]), 0);
            subs[k] = NULL;
            break;
        case 1:
        case 2:
            if (subs[k] == NULL) {
                subs[k] = SUBSCRIBE(b);
                oldest[k] = next;
                untold[k] = missed[k] = 0;
            }
            break;
        default:
            if (support_random(&seed) % 100 < (step / 300 % 2 ? 15U : 40U)) {
                CHECK_EQ(chan_send(b, &next), 0);
                next++;
                for (int i = 0; i < MOST; i++)
                    if (subs[i] != NULL && next - oldest[i] > (uint64_t)backlog) {
                        oldest[i]++;
                        untold[i]++;
                        missed[i]++;
                    }
            } else if (subs[k] != NULL) {
                rc = chan_try_recv(subs[k], &x);
                if (oldest[k] == next) {
                    CHECK_EQ(rc, -EAGAIN);
                } else {
                    CHECK_EQ(rc, untold[k]);
                    CHECK_EQ(x, oldest[k]);
                    oldest[k]++;
                    untold[k] = 0;
                }
            }
        }
        for (int i = 0; i < MOST; i++)
            if (subs[i] != NULL) {
                CHECK_EQ(chan_missed(subs[i]), missed[i]);
                CHECK_EQ(chan_len(subs[i]), next - oldest[i]);
            }
    }
    for (int i = 0; i < MOST; i++)
        if (subs[i] != NULL)
            CHECK_EQ(chan_unsubscribe(subs[i]), 0);
    CHECK_EQ(chan_len(b), 0);
    chan_unref(b);
}

TEST_EVERYWHERE(a_random_walk_follows_the_model)
{
    static const int backlogs[] = {1, 2, 3, 8, 64};
    for (size_t i = 0; i < COUNT_OF(backlogs); i++)
        against_a_model(backlogs[i], 77 + i);
}

TEST_EVERYWHERE(elements_of_any_size)
{
    static const size_t sizes[] = {0, 1, 3, 7, 8, 16, 100, 4096, 65536};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        chan_t *b = support_made(__LINE__, chan_new_broadcast(sizes[i], 3));
        chan_t *subs[2] = {SUBSCRIBE(b), SUBSCRIBE(b)};
        unsigned char *element = element_room(sizes[i]);
        for (uint64_t n = 0; n < 8; n++) {
            element_write(element, sizes[i], n);
            CHECK_EQ(chan_send(b, (const void *)element), 0);
            memset(element, 0xdd, sizes[i]);
        }
        for (int k = 0; k < 2; k++)
            for (uint64_t n = 5; n < 8; n++) {
                CHECK_EQ(chan_recv(subs[k], (void *)element), n == 5 ? 5 : 0);
                CHECK(element_is(element, sizes[i], n));
            }
        CHECK(element_fenced(element, sizes[i]));
        element_free(element);
        CHECK_EQ(chan_unsubscribe(subs[0]), 0);
        CHECK_EQ(chan_unsubscribe(subs[1]), 0);
        chan_unref(b);
    }
}

/* ---- the end ---- */

TEST_EVERYWHERE(what_was_sent_before_the_close_is_received)
{
    chan_t *b = MAKE_BROADCAST(int, 3), *full = SUBSCRIBE(b), *sub;
    int x = -1;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(chan_send(b, &i), 0);
    sub = SUBSCRIBE(b);
    CHECK_EQ(chan_close(b), 0);
    CHECK_EQ(chan_close(b), -EPIPE);
    CHECK_EQ(chan_send(b, &x), -EPIPE);
    CHECK_EQ(chan_try_send(b, &x), -EPIPE);
    CHECK_EQ(chan_recv(sub, &x), -EPIPE);
    for (int i = 2; i < 5; i++) {
        CHECK_EQ(chan_recv(full, &x), i == 2 ? 2 : 0);
        CHECK_EQ(x, i);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(chan_recv(full, &x), -EPIPE);
        CHECK_EQ(chan_try_recv(full, &x), -EPIPE);
        CHECK_EQ(chan_select(CHAN_RECV(full, &x), CHAN_DEFAULT), CHAN_CLOSED(0));
        CHECK_EQ(chan_missed(full), 2);
    }
    chan_t *late = SUBSCRIBE(b); /* closed from the start */
    CHECK_EQ(chan_recv(late, &x), -EPIPE);
    CHECK_EQ(chan_try_recv(late, &x), -EPIPE);
    CHECK_EQ(chan_len(late), 0);
    CHECK_EQ(x, 4);
    CHECK_EQ(chan_unsubscribe(late), 0);
    CHECK_EQ(chan_unsubscribe(full), 0);
    chan_unref(sub);
    chan_unref(b);
}

TEST_EVERYWHERE(subscriptions_keep_the_broadcast_alive)
{
    chan_t *b = MAKE_BROADCAST(int, 2), *one = SUBSCRIBE(b), *two = SUBSCRIBE(b);
    int x = -1;
    CHECK_EQ(chan_send(b, &(int){3}), 0);
    CHECK(chan_ref(two) == two);
    chan_unref(b); /* nobody can send any more; that does not close */
    CHECK_EQ(chan_recv(one, &x), 0);
    CHECK_EQ(x, 3);
    CHECK_EQ(chan_try_recv(one, &x), -EAGAIN);
    CHECK_EQ(chan_unsubscribe(one), 0);
    chan_unref(two);
    CHECK_EQ(chan_recv(two, &x), 0);
    chan_unref(two); /* the last of all */
}

TEST_EVERYWHERE(an_ended_subscription_says_so)
{
    chan_t *b = MAKE_BROADCAST(int, 2), *sub = SUBSCRIBE(b), *other = SUBSCRIBE(b);
    int x = -1;
    CHECK(chan_ref(sub) == sub);
    CHECK_EQ(chan_unsubscribe(sub), 0); /* the second reference is left */
    CHECK_EQ(chan_send(b, &(int){5}), 0);
    CHECK_EQ(chan_recv(sub, &x), -EPIPE);
    CHECK_EQ(chan_try_recv(sub, &x), -EPIPE);
    CHECK_EQ(chan_select(CHAN_RECV(sub, &x), CHAN_TIMEOUT(ROUTINE_S)), CHAN_CLOSED(0));
    CHECK_EQ(x, -1);
    CHECK_EQ(chan_recv(other, &x), 0);
    CHECK_EQ(x, 5);
    chan_unref(sub);
    CHECK_EQ(chan_unsubscribe(other), 0);
    chan_unref(b);
}

/* ---- those that wait ---- */

struct listener {
    chan_t *sub;
    int kind; /* 0: receives, 1: selects, 2: selects with a time that does not come */
    int got, x;
    struct sleeper sleeper;
};

static void *listen_once(void *arg)
{
    struct listener *l = arg;
    sleeper_here(&l->sleeper);
    switch (l->kind) {
    case 0:
        l->got = chan_recv(l->sub, &l->x);
        break;
    case 1:
        l->got = chan_select(CHAN_RECV(NULL, NULL), CHAN_RECV(l->sub, &l->x));
        break;
    default:
        l->got = chan_select(CHAN_TIMEOUT(3600 * ROUTINE_S), CHAN_RECV(l->sub, &l->x));
    }
    return NULL;
}

/* A message, the close, or the end of the subscription reaches those that wait, routines and threads. */
TEST_EVERYWHERE(those_that_wait_are_woken)
{
    enum { LISTENERS = 6 };
    routine_runtime_t *runtime = support_runtime(2);
    for (int how = 0; how < 3; how++) {
        chan_t *b = MAKE_BROADCAST(int, 1);
        struct listener l[LISTENERS];
        struct actor a[LISTENERS];
        for (int i = 0; i < LISTENERS; i++) {
            l[i] = (struct listener){.sub = SUBSCRIBE(b), .kind = i / 2, .got = -1, .x = -1};
            a[i] = i % 2 ? act_on(runtime, listen_once, &l[i]) : act(true, listen_once, &l[i]);
        }
        await_parked(runtime, LISTENERS / 2);
        for (int i = 0; i < LISTENERS; i += 2)
            await_asleep(&l[i].sleeper);
        if (how == 0)
            CHECK_EQ(chan_send(b, &(int){8}), 0);
        else if (how == 1)
            CHECK_EQ(chan_close(b), 0);
        for (int i = 0; i < LISTENERS; i++) {
            if (how == 2) {
                CHECK(chan_ref(l[i].sub) == l[i].sub); /* theirs */
                CHECK_EQ(chan_unsubscribe(l[i].sub), 0);
            }
            act_end(a[i]);
            if (how == 0)
                CHECK_EQ(l[i].got, l[i].kind == 0 ? 0 : 1);
            else
                CHECK_EQ(l[i].got, l[i].kind == 0 ? -EPIPE : CHAN_CLOSED(1));
            CHECK_EQ(l[i].x, how == 0 ? 8 : -1);
            CHECK_EQ(chan_missed(l[i].sub), 0);
            chan_unref(l[i].sub);
        }
        CHECK_EQ(chan_len(b), 0);
        chan_unref(b);
    }
    support_runtime_end(runtime);
}

/* ---- many at once ---- */

struct message {
    uint64_t number; /* position in the order of all, if there is one sender */
    uint32_t sender, of_sender;
    uint64_t check;
};

static struct message message_make(uint64_t number, uint32_t sender, uint32_t of_sender)
{
    return (struct message){number, sender, of_sender,
                            (number ^ ((uint64_t)sender << 40) ^ of_sender) * UINT64_C(0x9e3779b97f4a7c15)};
}

static void message_check(const struct message *m)
{
    CHECK_EQ(m->check, message_make(m->number, m->sender, m->of_sender).check);
}

enum { SENDERS = 3, SUBSCRIBERS = 6 };

struct party {
    chan_t *b;
    uint32_t each;
    _Atomic int senders_left, sender_index, index;
    struct message *order[SUBSCRIBERS]; /* what each received */
    uint64_t received[SUBSCRIBERS], missed[SUBSCRIBERS];
    int *gaps[SUBSCRIBERS]; /* how many it had missed before each */
    chan_t *subs[SUBSCRIBERS];
    bool slow[SUBSCRIBERS];
};

static void *party_send(void *arg)
{
    struct party *p = arg;
    const uint32_t me = (uint32_t)atomic_fetch_add(&p->sender_index, 1);
    for (uint32_t i = 0; i < p->each; i++) {
        const struct message m = message_make(0, me, i);
        CHECK_EQ(i % 3 ? chan_send(p->b, &m) : chan_try_send(p->b, &m), 0);
        if (i % 8 == 0)
            routine_yield();
    }
    if (atomic_fetch_sub(&p->senders_left, 1) == 1)
        CHECK_EQ(chan_close(p->b), 0);
    return NULL;
}

static void *party_listen(void *arg)
{
    struct party *p = arg;
    const int me = atomic_fetch_add(&p->index, 1);
    int rc;
    struct message m;
    while ((rc = chan_recv(p->subs[me], &m)) >= 0) {
        message_check(&m);
        if (p->received[me] == (uint64_t)SENDERS * p->each) {
            support_fail(__FILE__, __LINE__, "more was received than sent");
            break;
        }
        p->gaps[me][p->received[me]] = rc;
        p->order[me][p->received[me]++] = m;
        p->missed[me] += (uint64_t)rc;
        if (p->slow[me])
            routine_yield();
    }
    CHECK_EQ(rc, -EPIPE);
    return NULL;
}

/* The books of one subscriber. With what it missed each message has a place in the order of all, and
 * whoever received the one of that place received the same. */
static void check_books(struct party *p, int i, struct message *order, bool *known)
{
    const uint64_t all = (uint64_t)SENDERS * p->each;
    int64_t last[SENDERS];
    uint64_t place = 0;
    memset(last, -1, sizeof last);
    CHECK_EQ(p->received[i] + p->missed[i], all);
    CHECK_EQ(chan_missed(p->subs[i]), p->missed[i]);
    for (uint64_t k = 0; k < p->received[i]; k++, place++) {
        const struct message *m = &p->order[i][k];
        place += (uint64_t)p->gaps[i][k];
        if (m->sender >= SENDERS || place >= all) {
            support_fail(__FILE__, __LINE__, "sender %u, place %llu", m->sender, (unsigned long long)place);
            return;
        }
        CHECK((int64_t)m->of_sender > last[m->sender]); /* each sender's in its order */
        last[m->sender] = m->of_sender;
        if (known[place])
            CHECK(memcmp(m, &order[place], sizeof *m) == 0);
        known[place] = true;
        order[place] = *m;
    }
    CHECK_EQ(place, all); /* the newest is never lost */
}

static void run_party(enum cast cast, ptrdiff_t backlog, long each)
{
    struct party p = {.each = (uint32_t)each, .senders_left = SENDERS};
    const size_t all = (size_t)SENDERS * p.each;
    struct actor actors[SENDERS + SUBSCRIBERS];
    struct message *order = calloc(all, sizeof *order);
    bool *known = calloc(all, sizeof *known);
    p.b = MAKE_BROADCAST(struct message, backlog);
    for (int i = 0; i < SUBSCRIBERS; i++) {
        p.subs[i] = SUBSCRIBE(p.b);
        p.order[i] = calloc(all, sizeof *p.order[i]);
        p.gaps[i] = calloc(all, sizeof *p.gaps[i]);
        p.slow[i] = i % 2;
    }
    for (int i = 0; i < SENDERS + SUBSCRIBERS; i++)
        actors[i] = act(cast_is_thread(cast, i), i % 3 == 1 ? party_send : party_listen, &p);
    for (int i = 0; i < SENDERS + SUBSCRIBERS; i++)
        act_end(actors[i]);
    for (int i = 0; i < SUBSCRIBERS; i++) {
        check_books(&p, i, order, known);
        if (backlog >= (ptrdiff_t)all)
            CHECK_EQ(p.missed[i], 0);
        CHECK_EQ(chan_unsubscribe(p.subs[i]), 0);
        free(p.order[i]);
        free(p.gaps[i]);
    }
    free(order);
    free(known);
    chan_unref(p.b);
}

TEST(the_order_is_the_same_for_all)
{
    run_party(ROUTINES, SENDERS * support_scale(4000), support_scale(4000));
    run_party(THREADS, SENDERS * support_scale(1000), support_scale(1000));
    run_party(MIXED, SENDERS * support_scale(1000), support_scale(1000));
}

TEST(received_and_missed_are_all_that_was_sent)
{
    static const ptrdiff_t backlogs[] = {1, 2, 7, 64};
    for (size_t i = 0; i < COUNT_OF(backlogs); i++) {
        run_party(ROUTINES, backlogs[i], support_scale(4000));
        run_party(THREADS, backlogs[i], support_scale(1000));
        run_party(MIXED, backlogs[i], support_scale(1000));
    }
}

/* ---- gaps: one sender, whose numbers tell where each subscriber stands ---- */

struct stream {
    chan_t *b;
    uint64_t most;
    _Atomic uint64_t sent;
    _Atomic bool over;
    _Atomic int index;
    _Atomic uint64_t received, missed;
    int64_t rounds;
};

static void *stream_send(void *arg)
{
    struct stream *s = arg;
    for (uint64_t i = 0; !atomic_load(&s->over); i++) {
        const struct message m = message_make(i, 0, 0);
        CHECK_EQ(chan_send(s->b, &m), 0);
        atomic_store(&s->sent, i + 1);
        if (i % 16 == 0)
            routine_yield();
    }
    CHECK_EQ(chan_close(s->b), 0);
    return NULL;
}

/* Comes and goes. Its first message is not older than the subscription; after that the numbers go on
 * without a gap but those that it is told of. */
static void *come_and_go(void *arg)
{
    struct stream *s = arg;
    const int me = atomic_fetch_add(&s->index, 1);
    uint64_t seed = 1000 + (uint64_t)me;
    for (int64_t round = 0; round < s->rounds; round++) {
        const uint64_t before = atomic_load(&s->sent);
        chan_t *sub = SUBSCRIBE(s->b);
        const uint64_t after = atomic_load(&s->sent);
        uint64_t next = 0, missed = 0, count = support_random(&seed) % 40;
        bool first = true;
        for (uint64_t i = 0; i < count; i++) {
            struct message m;
            const int rc = chan_recv(sub, &m);
            CHECK(rc >= 0);
            if (rc < 0)
                break;
            message_check(&m);
            missed += (uint64_t)rc;
            if (first) {
                CHECK(m.number - (uint64_t)rc >= before);
                /* the sender counts a message when it has been sent: one may not be counted yet */
                CHECK(m.number - (uint64_t)rc <= after + 1);
            } else {
                CHECK_EQ(m.number, next + (uint64_t)rc);
            }
            first = false;
            next = m.number + 1;
            if (i % 5 == 0)
                routine_yield();
        }
        CHECK(chan_missed(sub) >= missed);
        if (round % 3 == 0)
            chan_unref(sub); /* or so, without a farewell */
        else
            CHECK_EQ(chan_unsubscribe(sub), 0);
    }
    return NULL;
}

TEST(subscribers_come_and_go_while_others_send)
{
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (int backlog = 1; backlog <= 9; backlog += 4) {
            enum { GUESTS = 4 };
            struct stream s = {.b = MAKE_BROADCAST(struct message, backlog),
                               .rounds = support_scale(cast == ROUTINES ? 300 : 60)};
            struct actor sender = act(cast_is_thread(cast, 0), stream_send, &s), guests[GUESTS];
            for (int i = 0; i < GUESTS; i++)
                guests[i] = act(cast_is_thread(cast, i), come_and_go, &s);
            for (int i = 0; i < GUESTS; i++)
                act_end(guests[i]);
            CHECK_EQ(chan_len(s.b), 0);
            atomic_store(&s.over, true);
            act_end(sender);
            chan_unref(s.b);
        }
}

/* Several receivers share one subscription: together they get all that is not missed, each once. */
static void *share(void *arg)
{
    struct stream *s = arg;
    uint64_t last = 0, received = 0, missed = 0;
    int rc;
    struct message m;
    while ((rc = chan_recv(s->b, &m)) >= 0) {
        message_check(&m);
        CHECK(m.number + 1 > last);
        last = m.number + 1;
        received++;
        missed += (uint64_t)rc;
        if (received % 4 == 0)
            routine_yield();
    }
    CHECK_EQ(rc, -EPIPE);
    atomic_fetch_add(&s->received, received);
    atomic_fetch_add(&s->missed, missed);
    return NULL;
}

TEST(several_receivers_share_a_subscription)
{
    enum { SHARERS = 4 };
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (int backlog = 1; backlog <= 50; backlog += 49) {
            const uint64_t most = (uint64_t)support_scale(cast == ROUTINES ? 20000 : 3000);
            chan_t *b = MAKE_BROADCAST(struct message, backlog);
            struct stream s = {.b = SUBSCRIBE(b)};
            struct actor sharers[SHARERS];
            for (int i = 0; i < SHARERS; i++)
                sharers[i] = act(cast_is_thread(cast, i), share, &s);
            for (uint64_t i = 0; i < most; i++) {
                const struct message m = message_make(i, 0, 0);
                CHECK_EQ(chan_send(b, &m), 0);
                if (i % 10 == 0)
                    routine_yield();
            }
            CHECK_EQ(chan_close(b), 0);
            for (int i = 0; i < SHARERS; i++)
                act_end(sharers[i]);
            CHECK_EQ(atomic_load(&s.received) + atomic_load(&s.missed), most);
            CHECK_EQ(chan_missed(s.b), atomic_load(&s.missed));
            CHECK_EQ(chan_unsubscribe(s.b), 0);
            chan_unref(b);
        }
}

/* Two subscriptions and a plain channel in one select, until all of them have ended. */
struct both {
    chan_t *one, *two, *commands;
    uint64_t from_one, from_two, commanded;
    int64_t last_one, last_two;
};

static void *select_among(void *arg)
{
    struct both *b = arg;
    chan_t *one = b->one, *two = b->two, *commands = b->commands;
    struct message x = {0}, y = {0};
    b->last_one = b->last_two = -1;
    while (one || two || commands)
        switch (chan_select(CHAN_RECV(one, &x), CHAN_RECV(two, &y), CHAN_RECV(commands, NULL))) {
        case 0:
            CHECK((int64_t)x.number > b->last_one);
            message_check(&x);
            b->last_one = (int64_t)x.number;
            b->from_one++;
            break;
        case 1:
            CHECK((int64_t)y.number > b->last_two);
            message_check(&y);
            b->last_two = (int64_t)y.number;
            b->from_two++;
            break;
        case 2:
            b->commanded++;
            break;
        case CHAN_CLOSED(0):
            one = NULL;
            break;
        case CHAN_CLOSED(1):
            two = NULL;
            break;
        case CHAN_CLOSED(2):
            commands = NULL;
            break;
        default:
            CHECK(false);
            return NULL;
        }
    return NULL;
}

TEST(subscriptions_in_select)
{
    for (int cast = ROUTINES; cast < CASTS; cast++) {
        const uint64_t most = (uint64_t)support_scale(cast == ROUTINES ? 20000 : 3000);
        chan_t *b = MAKE_BROADCAST(struct message, 20), *c = MAKE_BROADCAST(struct message, 3);
        struct both both = {.one = SUBSCRIBE(b), .two = SUBSCRIBE(c), .commands = NEW(0, 0)};
        struct actor a = act(cast_is_thread(cast, 0), select_among, &both);
        for (uint64_t i = 0; i < most; i++) {
            const struct message m = message_make(i, 1, 1);
            CHECK_EQ(chan_send(b, &m), 0);
            CHECK_EQ(chan_send(c, &m), 0);
            if (i % 8 == 0)
                CHECK_EQ(chan_send(both.commands, NULL), 0); /* it meets the select, which comes along */
        }
        CHECK_EQ(chan_close(b), 0);
        CHECK_EQ(chan_close(both.commands), 0);
        CHECK_EQ(chan_close(c), 0);
        act_end(a);
        CHECK_EQ(both.from_one + chan_missed(both.one), most);
        CHECK_EQ(both.from_two + chan_missed(both.two), most);
        CHECK_EQ(both.last_one, most - 1); /* the newest is never lost */
        CHECK_EQ(both.last_two, most - 1);
        CHECK_EQ(both.commanded, (most + 7) / 8);
        CHECK_EQ(chan_unsubscribe(both.one), 0);
        CHECK_EQ(chan_unsubscribe(both.two), 0);
        chan_unref(both.commands);
        chan_unref(b);
        chan_unref(c);
    }
}

/* ---- at bad moments ---- */

struct meeting {
    chan_t *b, *sub;
    int rc;
};

static void send_now(void *arg)
{
    struct meeting *m = arg;
    m->rc = chan_send(m->b, &(int){4});
}

/* A send against a subscription's begin, end and last reference, and against the close. */
TEST(a_send_against_everything)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct meeting m = {0};
        struct duel d;
        duel_start(&d, as_thread, send_now, &m);
        for (long round = 0; round < support_scale(6000); round++) {
            int x = -1, rc;
            m.b = MAKE_BROADCAST(int, 1 + round % 2);
            m.sub = SUBSCRIBE(m.b);
            m.rc = 1;
            duel_begin(&d, round / 6);
            switch (round % 6) {
            case 0: /* leaves */
                CHECK_EQ(chan_unsubscribe(m.sub), 0);
                duel_end(&d);
                CHECK_EQ(m.rc, 0);
                break;
            case 1: /* is freed */
                chan_unref(m.sub);
                duel_end(&d);
                CHECK_EQ(m.rc, 0);
                break;
            case 2: /* joins */
            {
                chan_t *other = SUBSCRIBE(m.b);
                duel_end(&d);
                rc = chan_try_recv(other, &x);
                CHECK(rc == 0 || rc == -EAGAIN);
                CHECK_EQ(x, rc == 0 ? 4 : -1);
                CHECK_EQ(chan_recv(m.sub, &x), 0);
                CHECK_EQ(chan_unsubscribe(other), 0);
                CHECK_EQ(chan_unsubscribe(m.sub), 0);
                break;
            }
            case 3: /* is closed: whoever sent has been received */
                CHECK_EQ(chan_close(m.b), 0);
                duel_end(&d);
                CHECK(m.rc == 0 || m.rc == -EPIPE);
                CHECK_EQ(chan_recv(m.sub, &x), m.rc);
                CHECK_EQ(chan_recv(m.sub, &x), -EPIPE);
                CHECK_EQ(chan_unsubscribe(m.sub), 0);
                break;
            case 4: /* receives by try */
                rc = chan_try_recv(m.sub, &x);
                duel_end(&d);
                CHECK(rc == 0 || rc == -EAGAIN);
                CHECK_EQ(chan_try_recv(m.sub, &x), rc == 0 ? -EAGAIN : 0);
                CHECK_EQ(x, 4);
                chan_unref(m.sub);
                break;
            default: /* receives, waiting */
                CHECK_EQ(chan_recv(m.sub, &x), 0);
                CHECK_EQ(x, 4);
                chan_unref(m.sub);
                duel_end(&d);
            }
            CHECK_EQ(chan_close(m.b), round % 6 == 3 ? -EPIPE : 0);
            chan_unref(m.b);
        }
        duel_stop(&d);
    }
}

struct leaving {
    chan_t *sub;
    int rc, x;
};

static void recv_now(void *arg)
{
    struct leaving *l = arg;
    l->rc = l->x % 2 ? chan_recv(l->sub, &l->x)
                     : chan_select(CHAN_RECV(l->sub, &l->x), CHAN_TIMEOUT(3600 * ROUTINE_S));
    chan_unref(l->sub);
}

/* The subscription ends while somebody receives from it, who has a reference of his own. */
TEST(leaving_against_a_receive)
{
    for (int as_thread = 0; as_thread <= 1; as_thread++) {
        struct leaving l = {0};
        struct duel d;
        chan_t *b = MAKE_BROADCAST(int, 2);
        duel_start(&d, as_thread, recv_now, &l);
        for (long round = 0; round < support_scale(4000); round++) {
            chan_t *sub = SUBSCRIBE(b);
            const int kind = (int)(round & 1);
            l = (struct leaving){chan_ref(sub), 1, kind};
            duel_begin(&d, round);
            if (round % 3 == 0)
                CHECK_EQ(chan_send(b, &(int){1000}), 0);
            CHECK_EQ(chan_unsubscribe(sub), 0);
            duel_end(&d);
            CHECK(l.rc == (kind ? -EPIPE : CHAN_CLOSED(0)) || (round % 3 == 0 && l.rc == 0));
            CHECK_EQ(l.x, l.rc == 0 ? 1000 : kind);
            CHECK_EQ(chan_len(b), 0);
        }
        duel_stop(&d);
        chan_unref(b);
    }
}

/* Each drops what it has when it is through; nobody is there to clean up. */
struct household {
    chan_t *mine;
    long count;
};

static void *send_and_go(void *arg)
{
    struct household *h = arg;
    for (long i = 0; i < h->count; i++)
        CHECK_EQ(chan_send(h->mine, &i), 0);
    CHECK_EQ(chan_close(h->mine), 0);
    chan_unref(h->mine);
    return NULL;
}

static void *listen_and_go(void *arg)
{
    struct household *h = arg;
    long x, next = 0;
    int rc;
    while ((rc = chan_recv(h->mine, &x)) >= 0) {
        CHECK_EQ(x, next + rc);
        next = x + 1;
    }
    CHECK_EQ(rc, -EPIPE);
    CHECK_EQ(next, h->count);
    CHECK_EQ(chan_unsubscribe(h->mine), 0);
    return NULL;
}

TEST(the_last_one_puts_out_the_light)
{
    enum { MEMBERS = 4 };
    for (int cast = ROUTINES; cast < CASTS; cast++)
        for (long round = 0; round < support_scale(cast == ROUTINES ? 1000 : 150); round++) {
            struct household h[MEMBERS];
            struct actor a[MEMBERS];
            chan_t *b = MAKE_BROADCAST(long, 1 + round % 5);
            for (int i = 1; i < MEMBERS; i++)
                h[i] = (struct household){SUBSCRIBE(b), 20};
            h[0] = (struct household){b, 20};
            for (int i = 0; i < MEMBERS; i++)
                a[i] = act(cast_is_thread(cast, i), i == 0 ? send_and_go : listen_and_go, &h[i]);
            for (int i = 0; i < MEMBERS; i++)
                act_end(a[i]);
        }
}

/* 2,000 broadcasts and subscriptions that hold 64 KiB each would be more than 256 MiB. */
TEST(nothing_is_left_behind)
{
    static char element[64 << 10];
    const long before = support_resident();
    for (long i = 0; i < support_scale(4000); i++) {
        chan_t *b = support_made(__LINE__, chan_new_broadcast(sizeof element, 2)), *sub = SUBSCRIBE(b);
        CHECK_EQ(chan_send(b, &element), 0);
        CHECK_EQ(chan_send(b, &element), 0);
        if (i % 2)
            chan_unref(b);
        CHECK_EQ(chan_unsubscribe(sub), 0);
        if (i % 2 == 0)
            chan_unref(b);
    }
    if (!support_slow())
        CHECK(support_resident() - before < 64 << 20);
}

/* Subscribers of two runtimes, one of which ends before the broadcast does. */
TEST(subscribers_of_several_runtimes)
{
    for (long round = 0; round < support_scale(100); round++) {
        routine_runtime_t *one = support_runtime(1), *two = support_runtime(2);
        chan_t *b = MAKE_BROADCAST(int, 4);
        struct listener l[4];
        struct actor a[4];
        for (int i = 0; i < 4; i++) {
            l[i] = (struct listener){.sub = SUBSCRIBE(b), .kind = i % 3, .got = -1, .x = -1};
            a[i] = i == 0 ? act(true, listen_once, &l[i]) : act_on(i == 1 ? one : two, listen_once, &l[i]);
        }
        CHECK_EQ(chan_send(b, &(int){6}), 0);
        support_runtime_end(one);
        CHECK_EQ(chan_send(b, &(int){7}), 0);
        for (int i = 0; i < 4; i++) {
            int x = -1;
            act_end(a[i]);
            CHECK_EQ(l[i].x, 6);
            CHECK_EQ(chan_recv(l[i].sub, &x), 0);
            CHECK_EQ(x, 7);
            CHECK_EQ(chan_unsubscribe(l[i].sub), 0);
        }
        support_runtime_end(two);
        chan_unref(b);
    }
}

/* ---- the wrong size ---- */

struct six {
    char bytes[611];
};

static int case_wrong_send(void)
{
    return chan_send(support_made(__LINE__, chan_new_broadcast(733, 1)), &(struct six){"six"});
}

static int case_wrong_recv(void)
{
    struct six into;
    chan_t *b = support_made(__LINE__, chan_new_broadcast(733, 1));
    return chan_try_recv(SUBSCRIBE(b), &into);
}

TEST(a_wrong_size_panics_with_a_sentence)
{
    static struct support_result r;
    static const char *const names[] = {"wrong_send", "wrong_recv"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CASE_DIES(&r, names[i], NULL, SIGABRT);
        CASE_SAYS(&r, names[i], "routines: ");
        CASE_SAYS(&r, names[i], "611");
        CASE_SAYS(&r, names[i], "733");
    }
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {
        {"wrong_send", case_wrong_send},
        {"wrong_recv", case_wrong_recv},
    };
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_made),
        cmocka_unit_test(the_wrong_direction),
        cmocka_unit_test(length_and_capacity),
        cmocka_unit_test(everyone_gets_everything),
        cmocka_unit_test(a_select_sends_on_a_broadcast),
        cmocka_unit_test(who_joins_sees_what_comes_later),
        cmocka_unit_test(laggards_lose_the_oldest_and_are_told),
        cmocka_unit_test(a_random_walk_follows_the_model),
        cmocka_unit_test(elements_of_any_size),
        cmocka_unit_test(what_was_sent_before_the_close_is_received),
        cmocka_unit_test(subscriptions_keep_the_broadcast_alive),
        cmocka_unit_test(an_ended_subscription_says_so),
        cmocka_unit_test(those_that_wait_are_woken),
        cmocka_unit_test(the_order_is_the_same_for_all),
        cmocka_unit_test(received_and_missed_are_all_that_was_sent),
        cmocka_unit_test(subscribers_come_and_go_while_others_send),
        cmocka_unit_test(several_receivers_share_a_subscription),
        cmocka_unit_test(subscriptions_in_select),
        cmocka_unit_test(a_send_against_everything),
        cmocka_unit_test(leaving_against_a_receive),
        cmocka_unit_test(the_last_one_puts_out_the_light),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(subscribers_of_several_runtimes),
        cmocka_unit_test(a_wrong_size_panics_with_a_sentence),
    };
    return cmocka_run_group_tests_name("broadcast", tests, NULL, NULL);
}
