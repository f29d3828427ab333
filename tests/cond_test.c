/* SPDX-License-Identifier: MIT
 *
 * Tests of the condition variable of sync.h: return codes, who is woken by what and in which order,
 * that no signal is stolen, lost, remembered or felt twice, that a wait always comes back with the
 * mutex, and that the memory is free once the last one has been let through. By routines of two
 * runtimes and by plain threads.
 *
 * That somebody waits is known without a sleep: whoever counted himself in under the mutex and has
 * given the mutex up since is waiting.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/sync.h"

/* A mutex, a condition variable, and those who come to wait for it. */
struct room {
    routine_mutex_t lock;
    routine_cond_t cond;
    int waiting, woken, signalled;
    bool over;
    int order[200];
};

struct guest {
    struct room *room;
    int number;
    int mine; /* how often it was woken */
};

static void enter(struct room *room)
{
    CHECK_EQ(routine_mutex_lock(&room->lock), 0);
}

static void leave(struct room *room)
{
    CHECK_EQ(routine_mutex_unlock(&room->lock), 0);
}

static int look(struct room *room, const int *what)
{
    enter(room);
    const int value = *what;
    leave(room);
    return value;
}

/* What holds after every wait. */
static void check_held(routine_mutex_t *m)
{
    CHECK_EQ(routine_mutex_trylock(m), -EBUSY);
    CHECK_EQ(routine_mutex_lock(m), -EDEADLK);
}

/* Signals by all ways there are: with the mutex, or without. */
static void signal_one(struct room *room, bool with_mutex)
{
    enter(room);
    room->signalled++;
    if (with_mutex)
        CHECK_EQ(routine_cond_signal(&room->cond), 0);
    leave(room);
    if (!with_mutex)
        CHECK_EQ(routine_cond_signal(&room->cond), 0);
}

/* Waits once, without a condition. */
static void *wait_once(void *arg)
{
    struct guest *g = arg;
    struct room *room = g->room;
    enter(room);
    room->waiting++;
    CHECK_EQ(routine_cond_wait(&room->cond, &room->lock), 0);
    check_held(&room->lock);
    g->mine++;
    room->order[room->woken++] = g->number;
    CHECK(room->woken <= room->signalled);
    leave(room);
    return NULL;
}

/* Starts n guests of all kinds, each after the one before it waits. */
static void gather(struct room *room, struct guest *guests, struct actor *actors, int n, enum cast cast,
                   routine_fn *fn)
{
    for (int i = 0; i < n; i++) {
        guests[i] = (struct guest){.room = room, .number = i};
        actors[i] = act(cast_is_thread(cast, i), fn, &guests[i]);
        WAIT_UNTIL(look(room, &room->waiting) == i + 1);
    }
}

/* ---- return codes ---- */

static void check_a_fresh_one(routine_cond_t *cond)
{
    routine_mutex_t m = ROUTINE_MUTEX_INITIALIZER;
    CHECK_EQ(routine_cond_signal(cond), 0); /* nobody is there */
    CHECK_EQ(routine_cond_broadcast(cond), 0);
    CHECK_EQ(routine_cond_wait(cond, &m), -EPERM);
    CHECK_EQ(routine_mutex_unlock(&m), -EPERM); /* it was left free */
    CHECK_EQ(routine_mutex_trylock(&m), 0);
    CHECK_EQ(routine_cond_wait(cond, NULL), -EINVAL);
    CHECK_EQ(routine_cond_wait(NULL, &m), -EINVAL);
    check_held(&m); /* it was left held */
    CHECK_EQ(routine_cond_signal(cond), 0);
    CHECK_EQ(routine_mutex_unlock(&m), 0);
    CHECK_EQ(routine_cond_wait(cond, &m), -EPERM);
}

TEST_EVERYWHERE(a_condition_however_it_was_initialised)
{
    routine_cond_t by_initialiser = ROUTINE_COND_INITIALIZER, zero, by_init;
    memset(&zero, 0, sizeof zero);
    memset(&by_init, 0xa5, sizeof by_init);
    routine_cond_init(&by_init);
    check_a_fresh_one(&by_initialiser);
    check_a_fresh_one(&zero);
    check_a_fresh_one(&by_init);
}

TEST_EVERYWHERE(no_condition)
{
    CHECK_EQ(routine_cond_signal(NULL), -EINVAL);
    CHECK_EQ(routine_cond_broadcast(NULL), -EINVAL);
    CHECK_EQ(routine_cond_wait(NULL, NULL), -EINVAL);
}

struct holder {
    routine_mutex_t m;
    routine_oneshot_t let_go;
    _Atomic int has;
};

static void *hold(void *arg)
{
    struct holder *holder = arg;
    CHECK_EQ(routine_mutex_lock(&holder->m), 0);
    atomic_store(&holder->has, 1);
    CHECK_EQ(routine_oneshot_recv(&holder->let_go, NULL), 0);
    check_held(&holder->m);
    CHECK_EQ(routine_mutex_unlock(&holder->m), 0);
    return NULL;
}

TEST_EVERYWHERE(a_wait_with_the_mutex_of_somebody_else)
{
    for (int thread = 0; thread < 2; thread++) {
        struct holder holder = {.m = ROUTINE_MUTEX_INITIALIZER};
        routine_cond_t cond = ROUTINE_COND_INITIALIZER;
        struct actor actor = act(thread, hold, &holder);
        WAIT_UNTIL(atomic_load(&holder.has));
        CHECK_EQ(routine_cond_wait(&cond, &holder.m), -EPERM);
        CHECK_EQ(routine_mutex_trylock(&holder.m), -EBUSY);
        CHECK_EQ(routine_mutex_unlock(&holder.m), -EPERM);
        CHECK_EQ(routine_oneshot_send(&holder.let_go, NULL), 0);
        act_end(actor);
    }
}

/* Who was refused does not wait: the signal is for the one who does. */
TEST_EVERYWHERE(a_refused_wait_takes_no_signal)
{
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    struct guest guest;
    struct actor actor;
    CHECK_EQ(routine_cond_wait(&room.cond, &room.lock), -EPERM);
    gather(&room, &guest, &actor, 1, ROUTINES, wait_once);
    CHECK_EQ(routine_cond_wait(&room.cond, &room.lock), -EPERM);
    signal_one(&room, true);
    act_end(actor);
    CHECK_EQ(guest.mine, 1);
}

/* ---- who is woken ---- */

TEST_EVERYWHERE(a_signal_is_not_remembered)
{
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    struct guest guest;
    for (int thread = 0; thread < 2; thread++) {
        struct actor actor;
        room.waiting = room.woken = room.signalled = 0;
        CHECK_EQ(routine_cond_signal(&room.cond), 0);
        CHECK_EQ(routine_cond_broadcast(&room.cond), 0);
        CHECK_EQ(routine_cond_signal(&room.cond), 0);
        gather(&room, &guest, &actor, 1, thread ? THREADS : ROUTINES, wait_once);
        for (int i = 0; i < 200; i++) {
            CHECK_EQ(look(&room, &room.woken), 0);
            routine_yield();
        }
        signal_one(&room, true);
        act_end(actor);
        CHECK_EQ(room.woken, 1);
    }
}

static void check_order(enum cast cast)
{
    enum { N = 30 };
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    struct guest guests[N];
    struct actor actors[N];
    gather(&room, guests, actors, N, cast, wait_once);
    for (int i = 0; i < N; i++) {
        signal_one(&room, i % 2);
        WAIT_UNTIL(look(&room, &room.woken) == i + 1);
        for (int k = 0; k < 5; k++) {
            routine_yield();
            CHECK_EQ(look(&room, &room.woken), i + 1); /* one each */
        }
    }
    for (int i = 0; i < N; i++) {
        act_end(actors[i]);
        CHECK_EQ(room.order[i], i);
        CHECK_EQ(guests[i].mine, 1);
    }
}

TEST_EVERYWHERE(a_signal_wakes_the_one_that_has_waited_longest)
{
    check_order(ROUTINES);
}

TEST(a_signal_wakes_the_one_that_has_waited_longest_thread_or_not)
{
    for (int i = 0; i < 5; i++) {
        check_order(THREADS);
        check_order(MIXED);
    }
}

/* With several signals at once, the first ones are woken, in whatever order they get the mutex. */
TEST_EVERYWHERE(as_many_are_woken_as_were_signalled)
{
    enum { N = 20 };
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    struct guest guests[N];
    struct actor actors[N];
    gather(&room, guests, actors, N, ROUTINES, wait_once);
    for (int done = 0, some = 1; done < N; done += some, some++) {
        if (some > N - done)
            some = N - done;
        enter(&room);
        for (int i = 0; i < some; i++) {
            room.signalled++;
            CHECK_EQ(routine_cond_signal(&room.cond), 0);
        }
        leave(&room);
        WAIT_UNTIL(look(&room, &room.woken) >= done + some);
        CHECK_EQ(look(&room, &room.woken), done + some);
        enter(&room);
        for (int i = 0; i < N; i++)
            CHECK_EQ(guests[i].mine, i < done + some);
        leave(&room);
    }
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
}

/* ---- no signal is stolen ---- */

/* Passes the signal on. */
static void *wait_and_pass(void *arg)
{
    struct guest *g = arg;
    struct room *room = g->room;
    enter(room);
    room->waiting++;
    CHECK_EQ(routine_cond_wait(&room->cond, &room->lock), 0);
    check_held(&room->lock);
    room->order[room->woken++] = g->number;
    if (g->number % 2)
        CHECK_EQ(routine_cond_signal(&room->cond), 0);
    leave(room);
    if (g->number % 2 == 0)
        CHECK_EQ(routine_cond_signal(&room->cond), 0);
    return NULL;
}

/* The caller signals, and waits itself before the one signalled can have come back: it is behind all who
 * waited before. */
static void check_stealing(enum cast cast)
{
    enum { N = 10 };
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    struct guest guests[N];
    struct actor actors[N];
    gather(&room, guests, actors, N, cast, wait_and_pass);
    enter(&room);
    CHECK_EQ(routine_cond_signal(&room.cond), 0);
    CHECK_EQ(routine_cond_wait(&room.cond, &room.lock), 0);
    check_held(&room.lock);
    CHECK_EQ(room.woken, N);
    for (int i = 0; i < N; i++)
        CHECK_EQ(room.order[i], i);
    leave(&room);
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
}

TEST_EVERYWHERE(who_waits_after_the_signal_does_not_take_it)
{
    check_stealing(ROUTINES);
}

TEST(who_waits_after_the_signal_does_not_take_it_thread_or_not)
{
    for (int i = 0; i < 10; i++) {
        check_stealing(THREADS);
        check_stealing(MIXED);
    }
}

/* Generations: as soon as somebody waits he is signalled, while others come and go. Each signal has its
 * waiter, each waiter his signal. */
struct generations {
    struct room room;
    long rounds, total;
    long came, sent, woken;
};

static void *come_again(void *arg)
{
    struct generations *g = arg;
    for (long i = 0; i < g->rounds; i++) {
        enter(&g->room);
        g->came++;
        CHECK_EQ(routine_cond_wait(&g->room.cond, &g->room.lock), 0);
        g->woken++;
        CHECK(g->woken <= g->sent);
        CHECK(g->sent <= g->came);
        leave(&g->room);
    }
    return NULL;
}

static void *send_signals(void *arg)
{
    struct generations *g = arg;
    for (bool over = false; !over;) {
        enter(&g->room);
        const bool send = g->sent < g->came, with_mutex = g->sent % 2;
        if (send) {
            g->sent++;
            if (with_mutex)
                CHECK_EQ(routine_cond_signal(&g->room.cond), 0);
        }
        over = g->sent == g->total;
        leave(&g->room);
        if (send && !with_mutex)
            CHECK_EQ(routine_cond_signal(&g->room.cond), 0);
        if (!send)
            routine_yield();
    }
    return NULL;
}

TEST(generations_of_waiters)
{
    enum { N = 9 };
    struct generations g = {.rounds = support_scale(1500)};
    g.total = N * g.rounds;
    struct actor thread = act(true, send_signals, &g), routine = act(false, send_signals, &g);
    crowd(N, come_again, &g);
    act_end(thread);
    act_end(routine);
    CHECK_EQ(g.came, g.total);
    CHECK_EQ(g.sent, g.total);
    CHECK_EQ(g.woken, g.total);
}

/* ---- broadcast ---- */

static void *wait_often(void *arg)
{
    struct guest *g = arg;
    struct room *room = g->room;
    enter(room);
    for (;;) {
        room->waiting++;
        CHECK_EQ(routine_cond_wait(&room->cond, &room->lock), 0);
        check_held(&room->lock);
        room->waiting--;
        if (room->over)
            break;
        g->mine++;
        room->woken++;
    }
    leave(room);
    return NULL;
}

/* Whoever is woken waits again at once, while others are still on their way to the mutex: that is for the
 * next broadcast. */
static void check_broadcast(enum cast cast, long rounds)
{
    enum { N = 12 };
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    struct guest guests[N];
    struct actor actors[N];
    gather(&room, guests, actors, N, cast, wait_often);
    for (int round = 1; round <= rounds; round++) {
        enter(&room);
        CHECK_EQ(room.waiting, N);
        if (round % 2)
            CHECK_EQ(routine_cond_broadcast(&room.cond), 0);
        leave(&room);
        if (round % 2 == 0)
            CHECK_EQ(routine_cond_broadcast(&room.cond), 0);
        for (bool again = false; !again;) {
            routine_yield();
            enter(&room);
            again = room.woken >= N * round && room.waiting == N;
            leave(&room);
        }
        enter(&room);
        CHECK_EQ(room.woken, N * round);
        for (int i = 0; i < N; i++)
            CHECK_EQ(guests[i].mine, round);
        leave(&room);
    }
    enter(&room);
    room.over = true;
    CHECK_EQ(routine_cond_broadcast(&room.cond), 0);
    leave(&room);
    for (int i = 0; i < N; i++)
        act_end(actors[i]);
    CHECK_EQ(room.waiting, 0);
    CHECK_EQ(room.woken, N * rounds);
}

TEST_EVERYWHERE(a_broadcast_wakes_all_of_that_moment_once)
{
    check_broadcast(ROUTINES, support_scale(100));
}

TEST(a_broadcast_wakes_all_of_that_moment_once_thread_or_not)
{
    check_broadcast(THREADS, support_scale(200));
    check_broadcast(MIXED, support_scale(200));
}

/* A thousand at once. */
static void *await_the_end(void *arg)
{
    struct room *room = arg;
    enter(room);
    room->waiting++;
    while (!room->over)
        CHECK_EQ(routine_cond_wait(&room->cond, &room->lock), 0);
    room->woken++;
    leave(room);
    return NULL;
}

TEST_EVERYWHERE(a_broadcast_to_many)
{
    enum { N = 300 };
    struct room room = {.cond = ROUTINE_COND_INITIALIZER};
    routine_t h[N];
    for (int i = 0; i < N; i++)
        h[i] = go(await_the_end, &room);
    WAIT_UNTIL(look(&room, &room.waiting) == N);
    CHECK_EQ(look(&room, &room.woken), 0);
    enter(&room);
    room.over = true;
    CHECK_EQ(routine_cond_broadcast(&room.cond), 0);
    leave(&room);
    for (int i = 0; i < N; i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK_EQ(room.woken, N);
}

/* ---- a bounded buffer ---- */

struct buffer {
    routine_mutex_t lock;
    routine_cond_t not_full, not_empty;
    long items[4];
    size_t head, count;
    int inside;
    long next, taken, total;
    unsigned char *seen;
    _Atomic int roles;
};

static void buffer_wait(struct buffer *b, routine_cond_t *cond)
{
    CHECK_EQ(--b->inside, 0);
    CHECK_EQ(routine_cond_wait(cond, &b->lock), 0);
    CHECK_EQ(b->inside++, 0);
}

static bool produce(struct buffer *b, bool with_mutex)
{
    CHECK_EQ(routine_mutex_lock(&b->lock), 0);
    CHECK_EQ(b->inside++, 0);
    while (b->count == COUNT_OF(b->items) && b->next < b->total)
        buffer_wait(b, &b->not_full);
    const bool more = b->next < b->total;
    if (more) {
        b->items[(b->head + b->count++) % COUNT_OF(b->items)] = b->next++;
        if (b->next == b->total)
            CHECK_EQ(routine_cond_broadcast(&b->not_full), 0); /* the others can go */
        if (with_mutex)
            CHECK_EQ(routine_cond_signal(&b->not_empty), 0);
    }
    CHECK_EQ(--b->inside, 0);
    CHECK_EQ(routine_mutex_unlock(&b->lock), 0);
    if (more && !with_mutex)
        CHECK_EQ(routine_cond_signal(&b->not_empty), 0);
    return more;
}

static bool consume(struct buffer *b, bool with_mutex)
{
    CHECK_EQ(routine_mutex_lock(&b->lock), 0);
    CHECK_EQ(b->inside++, 0);
    while (b->count == 0 && b->taken < b->total)
        buffer_wait(b, &b->not_empty);
    const bool more = b->taken < b->total;
    if (more) {
        b->seen[b->items[b->head]]++;
        b->head = (b->head + 1) % COUNT_OF(b->items);
        b->count--;
        b->taken++;
        if (b->taken == b->total)
            CHECK_EQ(routine_cond_broadcast(&b->not_empty), 0);
        if (with_mutex)
            CHECK_EQ(routine_cond_signal(&b->not_full), 0);
    }
    CHECK_EQ(--b->inside, 0);
    CHECK_EQ(routine_mutex_unlock(&b->lock), 0);
    if (more && !with_mutex)
        CHECK_EQ(routine_cond_signal(&b->not_full), 0);
    return more;
}

static void *trade(void *arg)
{
    struct buffer *b = arg;
    const bool producer = atomic_fetch_add(&b->roles, 1) % 2;
    for (long i = 0; producer ? produce(b, i % 2) : consume(b, i % 2); i++)
        if (i % 50 == 0)
            routine_yield();
    return NULL;
}

TEST(a_bounded_buffer)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct buffer b = {.total = support_scale(mixed ? 10000 : 50000)};
        b.seen = calloc((size_t)b.total, 1);
        if (mixed) {
            crowd(12, trade, &b);
        } else {
            routine_t h[40];
            for (size_t i = 0; i < COUNT_OF(h); i++)
                h[i] = go(trade, &b);
            for (size_t i = 0; i < COUNT_OF(h); i++)
                CHECK_EQ(routine_join(h[i], NULL), 0);
        }
        CHECK_EQ(b.next, b.total);
        CHECK_EQ(b.taken, b.total);
        CHECK_EQ(b.count, 0);
        long wrong = 0;
        for (long i = 0; i < b.total; i++)
            wrong += b.seen[i] != 1;
        CHECK_EQ(wrong, 0);
        free(b.seen);
    }
}

/* ---- ping-pong: each turn is a wait ---- */

struct table {
    routine_mutex_t lock;
    routine_cond_t turn[2];
    long rounds, moves;
};

struct player {
    struct table *table;
    int me;
};

static void *play(void *arg)
{
    struct player *p = arg;
    struct table *t = p->table;
    for (long round = 0; round < t->rounds; round++) {
        CHECK_EQ(routine_mutex_lock(&t->lock), 0);
        while (t->moves % 2 != p->me)
            CHECK_EQ(routine_cond_wait(&t->turn[p->me], &t->lock), 0);
        CHECK_EQ(t->moves, 2 * round + p->me);
        t->moves++;
        CHECK_EQ(routine_cond_signal(&t->turn[!p->me]), 0);
        CHECK_EQ(routine_mutex_unlock(&t->lock), 0);
    }
    return NULL;
}

TEST(by_turns)
{
    for (int threads = 0; threads < 3; threads++) {
        struct table t = {.rounds = support_scale(threads ? 2000 : 30000)};
        struct player players[2] = {{&t, 0}, {&t, 1}};
        struct actor a = act(threads > 0, play, &players[0]), b = act(threads > 1, play, &players[1]);
        act_end(a);
        act_end(b);
        CHECK_EQ(t.moves, 2 * t.rounds);
    }
}

/* ---- gone as soon as one is let through ---- */

struct call {
    routine_mutex_t lock;
    routine_cond_t cond;
    bool done;
};

struct storm {
    routine_oneshot_t offer;
    long rounds;
};

/* In the first kind of round `done` tells, and the mutex; in the others nothing but the signal. On the stack,
 * and on the heap, where sanitizers see who comes too late. */
SUPPORT_NOINLINE static void wait_for_a_call(struct storm *s, long round)
{
    struct call here = {.lock = ROUTINE_MUTEX_INITIALIZER}, *c = &here;
    if (round % 4 < 2)
        c = calloc(1, sizeof *c);
    if (round % 3 == 0)
        CHECK_EQ(routine_oneshot_send(&s->offer, c), 0);
    if (round % 2)
        routine_yield();
    CHECK_EQ(routine_mutex_lock(&c->lock), 0);
    if (round % 3 == 0) {
        while (!c->done)
            CHECK_EQ(routine_cond_wait(&c->cond, &c->lock), 0);
    } else {
        CHECK_EQ(routine_oneshot_send(&s->offer, c), 0);
        CHECK_EQ(routine_cond_wait(&c->cond, &c->lock), 0);
        CHECK(c->done);
    }
    CHECK_EQ(routine_mutex_unlock(&c->lock), 0);
    memset(c, 0x5a, sizeof *c);
    for (size_t i = 0; i < sizeof *c; i++)
        CHECK_EQ(((unsigned char *)c)[i], 0x5a);
    if (c != &here)
        free(c);
}

/* The same memory, used for something else. */
SUPPORT_NOINLINE static void overwrite_the_stack(void)
{
    volatile unsigned char block[512];
    memset((void *)(uintptr_t)block, 0xa5, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        CHECK_EQ(block[i], 0xa5);
}

static void *storm_waiter(void *arg)
{
    struct storm *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        wait_for_a_call(s, round);
        overwrite_the_stack();
    }
    return NULL;
}

static void *storm_signaller(void *arg)
{
    struct storm *s = arg;
    for (long round = 0; round < s->rounds; round++) {
        void *offer = NULL;
        CHECK_EQ(routine_oneshot_recv(&s->offer, &offer), 0);
        routine_oneshot_init(&s->offer);
        struct call *c = offer;
        CHECK_EQ(routine_mutex_lock(&c->lock), 0);
        c->done = true;
        switch (round % 3) {
        case 0:
            CHECK_EQ(routine_cond_signal(&c->cond), 0);
            CHECK_EQ(routine_mutex_unlock(&c->lock), 0);
            break;
        case 1: /* it waits: we had the mutex after it */
            CHECK_EQ(routine_mutex_unlock(&c->lock), 0);
            CHECK_EQ(routine_cond_signal(&c->cond), 0);
            break;
        default:
            CHECK_EQ(routine_mutex_unlock(&c->lock), 0);
            CHECK_EQ(routine_cond_broadcast(&c->cond), 0);
        }
    }
    return NULL;
}

TEST(the_memory_is_free_once_the_waiter_has_been_let_through)
{
    for (int kinds = 0; kinds < 4; kinds++) {
        struct storm storms[3];
        struct actor actors[6];
        for (int i = 0; i < 3; i++) {
            storms[i] = (struct storm){.rounds = support_scale(kinds == 0 ? 20000 : 2000)};
            actors[2 * i] = act(kinds & 1, storm_waiter, &storms[i]);
            actors[2 * i + 1] = act(kinds & 2, storm_signaller, &storms[i]);
        }
        for (int i = 0; i < 6; i++)
            act_end(actors[i]);
    }
}

/* Several wait for one broadcast; of all who use it the last one frees it right after its unlock. */
struct shared {
    routine_mutex_t lock;
    routine_cond_t cond;
    int users;
    bool open;
};

struct estate {
    struct shared **objects;
    long rounds;
    int users;
    _Atomic int next;
};

static void *use_and_leave(void *arg)
{
    struct estate *e = arg;
    const int me = atomic_fetch_add(&e->next, 1);
    for (long round = 0; round < e->rounds; round++) {
        struct shared *o = e->objects[round];
        CHECK_EQ(routine_mutex_lock(&o->lock), 0);
        if (round % e->users == me) {
            if (round % 2)
                routine_yield();
            o->open = true;
            CHECK_EQ(routine_cond_broadcast(&o->cond), 0);
        }
        while (!o->open)
            CHECK_EQ(routine_cond_wait(&o->cond, &o->lock), 0);
        const bool last = --o->users == 0;
        CHECK_EQ(routine_mutex_unlock(&o->lock), 0);
        if (last) {
            memset(o, 0x5a, sizeof *o);
            free(o);
        }
    }
    return NULL;
}

TEST(the_last_user_frees_it)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        struct estate e = {.rounds = support_scale(mixed ? 3000 : 20000), .users = mixed ? 6 : 4};
        e.objects = calloc((size_t)e.rounds, sizeof *e.objects);
        for (long i = 0; i < e.rounds; i++) {
            e.objects[i] = calloc(1, sizeof *e.objects[i]);
            e.objects[i]->users = e.users;
        }
        if (mixed) {
            crowd(e.users, use_and_leave, &e);
        } else {
            routine_t h[4];
            for (int i = 0; i < 4; i++)
                h[i] = go(use_and_leave, &e);
            for (int i = 0; i < 4; i++)
                CHECK_EQ(routine_join(h[i], NULL), 0);
        }
        free(e.objects);
    }
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_condition_however_it_was_initialised),
        cmocka_unit_test(no_condition),
        cmocka_unit_test(a_wait_with_the_mutex_of_somebody_else),
        cmocka_unit_test(a_refused_wait_takes_no_signal),
        cmocka_unit_test(a_signal_is_not_remembered),
        cmocka_unit_test(a_signal_wakes_the_one_that_has_waited_longest),
        cmocka_unit_test(a_signal_wakes_the_one_that_has_waited_longest_thread_or_not),
        cmocka_unit_test(as_many_are_woken_as_were_signalled),
        cmocka_unit_test(who_waits_after_the_signal_does_not_take_it),
        cmocka_unit_test(who_waits_after_the_signal_does_not_take_it_thread_or_not),
        cmocka_unit_test(generations_of_waiters),
        cmocka_unit_test(a_broadcast_wakes_all_of_that_moment_once),
        cmocka_unit_test(a_broadcast_wakes_all_of_that_moment_once_thread_or_not),
        cmocka_unit_test(a_broadcast_to_many),
        cmocka_unit_test(a_bounded_buffer),
        cmocka_unit_test(by_turns),
        cmocka_unit_test(the_memory_is_free_once_the_waiter_has_been_let_through),
        cmocka_unit_test(the_last_user_frees_it),
    };
    return cmocka_run_group_tests_name("cond", tests, NULL, NULL);
}
