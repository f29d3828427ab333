/* SPDX-License-Identifier: MIT
 *
 * Tests of timers (time.h): once and periodic, with a function and with a channel; never early; the grid of a
 * ticker, and what is left out of it; stop and reset against the expiry, with every setting accounted for;
 * from routines, threads and the function itself; many at once; beside workers that sleep and workers that
 * are busy; at the end of a runtime.
 *
 * Nothing here is measured against an upper limit: what has to happen is waited for, and what must not
 * happen is looked for where it would be seen at once.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/sync.h"

/* Waits, at rest, for what others will do. */
#define AWAIT(condition)                                                                                     \
    while (!(condition))                                                                                     \
    CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0)

/* Keeps the thread busy, without yielding, until then. */
static void spin_until(int64_t at)
{
    while (routine_now() < at)
        ;
}

/* The same, but lets others have the worker. */
static void yield_until(int64_t at)
{
    while (routine_now() < at)
        routine_yield();
}

static int64_t any_below(uint64_t *random, int64_t limit)
{
    return (int64_t)(support_random(random) % (uint64_t)limit);
}

/* What a timer's function does in most tests: it counts, and looks whether it is alone and not early. */
struct bell {
    routine_sem_t rung; /* a permit for each call that is over */
    _Atomic long rings;
    _Atomic int inside;
    _Atomic int64_t due; /* no call before that */
};

static void bell_init(struct bell *b)
{
    memset(b, 0, sizeof *b);
    CHECK_EQ(routine_sem_init(&b->rung, 0), 0);
}

static void ring(void *arg)
{
    struct bell *b = arg;
    const int64_t due = atomic_load(&b->due);
    CHECK(routine_now() >= due);
    CHECK_EQ(atomic_fetch_add(&b->inside, 1), 0);
    atomic_fetch_add(&b->rings, 1);
    CHECK_EQ(atomic_fetch_sub(&b->inside, 1), 1);
    CHECK_EQ(routine_sem_post(&b->rung), 0); /* the last touch */
}

static void bell_wait(struct bell *b)
{
    CHECK_EQ(routine_sem_wait(&b->rung), 0);
}

/* A function that knows its timer. To stop a ticker from within a call is the way to know that this was the
 * last one: when somebody else stops it, a call may have been started that has not begun. */
struct self {
    _Atomic(routine_timer_t *) timer;
    routine_sem_t over; /* a permit once the last call is */
    _Atomic long calls;
    _Atomic int inside;
    _Atomic int64_t due, last;
    _Atomic int earlier, finish;
    int64_t ns, lo, period, takes;
    long most;
    bool periodic;
};

static void self_init(struct self *s, int64_t ns, long most)
{
    memset(s, 0, sizeof *s);
    CHECK_EQ(routine_sem_init(&s->over, 0), 0);
    s->ns = ns;
    s->most = most;
}

/* It may be called before its maker knows the timer. */
static routine_timer_t *self_timer(struct self *s)
{
    WAIT_UNTIL(atomic_load(&s->timer) != NULL);
    return atomic_load(&s->timer);
}

static void self_wait(struct self *s)
{
    CHECK_EQ(routine_sem_wait(&s->over), 0);
}

/* A timer, or the end of the program. */
#define TIMER(ns, period, fn, arg) timer_made(__LINE__, routine_timer_new((ns), (period), (fn), (arg)))
#define TICKER(ns, period, ch)     timer_made(__LINE__, routine_timer_new_chan((ns), (period), (ch)))

static routine_timer_t *timer_made(int line, routine_timer_t *timer)
{
    if (timer == NULL) {
        support_fail(__FILE__, line, "no timer was made");
        abort();
    }
    return timer;
}

/* ---- once ---- */

static const int64_t short_times[] = {1, 999, 30 * ROUTINE_US, ROUTINE_MS, 7 * ROUTINE_MS};

TEST_EVERYWHERE(a_function_never_early)
{
    for (size_t i = 0; i < COUNT_OF(short_times); i++) {
        struct bell b;
        bell_init(&b);
        atomic_store(&b.due, routine_now() + short_times[i]);
        routine_timer_t *t = TIMER(short_times[i], 0, ring, &b);
        bell_wait(&b);
        CHECK(!routine_timer_stop(t));
        CHECK_EQ(atomic_load(&b.rings), 1);
        routine_timer_free(t);
    }
}

TEST_EVERYWHERE(a_channel_never_early)
{
    for (size_t i = 0; i < COUNT_OF(short_times); i++) {
        chan_t *ch = MAKE(int64_t, 1);
        int64_t at = 0;
        const int64_t due = routine_now() + short_times[i];
        routine_timer_t *t = TICKER(short_times[i], 0, ch);
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK(at >= due);
        CHECK(at <= routine_now());
        CHECK(!routine_timer_stop(t));
        CHECK_EQ(chan_len(ch), 0);
        routine_timer_free(t);
        chan_unref(ch);
    }
}

/* Not above zero: it has passed. */
TEST_EVERYWHERE(at_once)
{
    static const int64_t past[] = {0, -1, -ROUTINE_S, INT64_MIN};
    for (size_t i = 0; i < COUNT_OF(past); i++) {
        struct bell b;
        bell_init(&b);
        chan_t *ch = MAKE(int64_t, 1);
        int64_t at = 0;
        const int64_t before = routine_now();
        routine_timer_t *t = TIMER(past[i], 0, ring, &b), *c = TICKER(past[i], past[i], ch);
        bell_wait(&b);
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK(at >= before || past[i] < 0); /* it may be the time asked for */
        CHECK(at <= routine_now());
        CHECK(!routine_timer_stop(t));
        CHECK(!routine_timer_stop(c)); /* a period not above zero is none */
        CHECK(!routine_timer_reset(t, past[i]));
        bell_wait(&b);
        CHECK_EQ(atomic_load(&b.rings), 2);
        routine_timer_free(t);
        routine_timer_free(c);
        chan_unref(ch);
    }
}

/* What is too large to add up never comes. */
TEST_EVERYWHERE(never)
{
    static const int64_t never[] = {ROUTINE_NEVER, INT64_MAX - 1, INT64_MAX - ROUTINE_S, INT64_MAX / 2};
    for (size_t i = 0; i < COUNT_OF(never); i++) {
        chan_t *ch = MAKE(int64_t, 4);
        struct bell b;
        bell_init(&b);
        routine_timer_t *once = TICKER(never[i], 0, ch), *often = TICKER(never[i], 1, ch),
                        *never_again = TIMER(0, never[i], ring, &b);
        bell_wait(&b);
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK_EQ(chan_len(ch), 0);
        CHECK(routine_timer_stop(once));
        CHECK(!routine_timer_reset(once, never[i]));
        CHECK(routine_timer_reset(once, never[i]));
        CHECK(routine_timer_stop(often));
        CHECK(!routine_timer_stop(often));
        CHECK(routine_timer_reset(never_again, never[i])); /* it is pending: for its next tick */
        CHECK(routine_timer_stop(never_again));
        CHECK(!routine_timer_stop(never_again));
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK_EQ(chan_len(ch), 0);
        CHECK_EQ(atomic_load(&b.rings), 1);
        routine_timer_free(once);
        routine_timer_free(often);
        routine_timer_free(never_again);
        chan_unref(ch);
    }
}

TEST_EVERYWHERE(arguments)
{
    static const size_t sizes[] = {0, 1, 4, 7, 9, 16, 4096};
    struct bell b;
    bell_init(&b);
    CHECK(routine_timer_new(0, 0, NULL, &b) == NULL);
    CHECK(routine_timer_new(ROUTINE_S, ROUTINE_S, NULL, NULL) == NULL);
    CHECK(routine_timer_new_chan(0, 0, NULL) == NULL);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        chan_t *ch = NEW(sizes[i], 2);
        CHECK(routine_timer_new_chan(0, 1, ch) == NULL);
        routine_yield();
        CHECK_EQ(chan_len(ch), 0);
        chan_unref(ch); /* the last reference: the sanitizer would see another */
    }
    routine_timer_free(NULL);
}

/* ---- tickers ---- */

/* That `at` and `next`, of which the first point lies between lo and hi, have a point of the grid between
 * them; and that the n-th is not before its own. */
static void check_tick(long n, int64_t at, int64_t next, int64_t lo, int64_t hi, int64_t period)
{
    CHECK(next >= lo + n * period);
    CHECK(next <= routine_now());
    if (at >= hi)
        CHECK((next - lo) / period > (at - hi) / period);
    CHECK(next > at);
}

TEST_EVERYWHERE(a_ticker_has_a_grid)
{
    const int64_t first = ROUTINE_MS, period = 300 * ROUTINE_US;
    chan_t *ch = MAKE(int64_t, 64);
    const int64_t lo = routine_now() + first;
    routine_timer_t *t = TICKER(first, period, ch);
    const int64_t hi = routine_now() + first;
    int64_t at = 0, next = 0;
    for (long n = 0; n < 30; n++, at = next) {
        CHECK_EQ(chan_recv(ch, &next), 0);
        check_tick(n, at, next, lo, hi, period);
    }
    CHECK(routine_timer_stop(t));
    CHECK(!routine_timer_stop(t));
    routine_timer_free(t);
    chan_unref(ch);
}

static void ring_on_the_grid(void *arg)
{
    struct self *s = arg;
    const int64_t now = routine_now();
    const long n = atomic_fetch_add(&s->calls, 1);
    CHECK(now >= s->lo + n * s->period);
    if (n + 1 == s->most) {
        CHECK(routine_timer_stop(self_timer(s)));
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
}

TEST_EVERYWHERE(a_function_has_a_grid)
{
    struct self s;
    self_init(&s, 200 * ROUTINE_US, 20);
    s.period = 500 * ROUTINE_US;
    s.lo = routine_now() + s.ns;
    atomic_store(&s.timer, TIMER(s.ns, s.period, ring_on_the_grid, &s));
    self_wait(&s);
    CHECK_EQ(routine_sleep(2 * s.period), 0);
    CHECK_EQ(atomic_load(&s.calls), s.most);
    CHECK(!routine_timer_stop(atomic_load(&s.timer)));
    routine_timer_free(atomic_load(&s.timer));
}

/* What has gone by while the only worker was busy is left out, and the next tick is again one of the grid: so
 * it comes earlier than a period after a late one. */
static void *stall(void *arg)
{
    const int64_t period = 2 * ROUTINE_MS;
    chan_t *ch = MAKE(int64_t, 64);
    const int64_t lo = routine_now() + period;
    routine_timer_t *t = TICKER(period, period, ch);
    const int64_t hi = routine_now() + period;
    int64_t at = 0, next = 0;
    int back_on_the_grid = 0;
    for (long n = 0; n < 2000 && back_on_the_grid < 5; n++, at = next) {
        CHECK_EQ(chan_recv(ch, &next), 0);
        check_tick(n, at, next, lo, hi, period);
        back_on_the_grid += n > 0 && next - at < period * 9 / 10;
        if (n % 2 == 0)
            spin_until(lo + (next - lo) / period * period + period * (n % 4 == 0 ? 3 : 11) / 2);
    }
    CHECK_EQ(back_on_the_grid, 5);
    CHECK(routine_timer_stop(t));
    routine_timer_free(t);
    chan_unref(ch);
    return arg;
}

TEST(late_ticks_are_left_out)
{
    direct(stall, NULL);
}

/* A tick that would come while the function still runs is left out: it is not made up for when the function
 * returns. */
static void ring_slowly(void *arg)
{
    struct self *s = arg;
    const int64_t now = routine_now();
    const long n = atomic_fetch_add(&s->calls, 1);
    const int64_t steps = (s->takes + s->period - 1) / s->period; /* from one call to the next */
    CHECK_EQ(atomic_fetch_add(&s->inside, 1), 0);
    CHECK(now >= s->lo + n * steps * s->period);
    /* only a grid can bring a call so early after a late one */
    if (n > 0 && now - atomic_load(&s->last) < steps * s->period)
        atomic_fetch_add(&s->earlier, 1);
    atomic_store(&s->last, now);
    CHECK_EQ(routine_sleep(s->takes), 0);
    CHECK_EQ(atomic_fetch_sub(&s->inside, 1), 1);
    if (n > 2000 || (n > 8 && atomic_load(&s->earlier) > 0)) {
        CHECK(routine_timer_stop(self_timer(s)));
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
}

TEST_EVERYWHERE(ticks_during_a_call_are_left_out)
{
    struct self s;
    self_init(&s, 0, 0);
    s.period = ROUTINE_MS;
    s.takes = s.period * 5 / 2;
    s.lo = routine_now();
    atomic_store(&s.timer, TIMER(0, s.period, ring_slowly, &s));
    self_wait(&s);
    CHECK(atomic_load(&s.earlier) > 0); /* on the grid, whatever the delays were */
    const long calls = atomic_load(&s.calls);
    CHECK_EQ(routine_sleep(2 * s.period), 0);
    CHECK_EQ(atomic_load(&s.calls), calls);
    routine_timer_free(atomic_load(&s.timer));
}

/* However it goes: with a period far shorter than the function takes, and others who reset and stop it. */
static void ring_with_pauses(void *arg)
{
    struct self *s = arg;
    CHECK_EQ(atomic_fetch_add(&s->inside, 1), 0);
    if (atomic_fetch_add(&s->calls, 1) % 4 == 0)
        CHECK_EQ(routine_sleep(30 * ROUTINE_US), 0);
    else
        routine_yield();
    CHECK_EQ(atomic_fetch_sub(&s->inside, 1), 1);
    if (atomic_load(&s->finish)) {
        CHECK(routine_timer_stop(self_timer(s)));
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
}

static void *meddle(void *arg)
{
    struct self *s = arg;
    uint64_t random = 0x9e3779b97f4a7c15 ^ (uintptr_t)&random;
    for (long i = 0; i < s->most; i++) {
        if (support_random(&random) % 4 == 0)
            (void)routine_timer_stop(self_timer(s));
        else
            (void)routine_timer_reset(self_timer(s), any_below(&random, 20 * ROUTINE_US));
        yield_until(routine_now() + any_below(&random, 40 * ROUTINE_US));
    }
    return NULL;
}

TEST(never_twice_at_the_same_time)
{
    static const int64_t periods[] = {1, 2 * ROUTINE_US, 20 * ROUTINE_US};
    for (size_t i = 0; i < COUNT_OF(periods); i++) {
        struct self s;
        struct actor actors[4];
        self_init(&s, 0, support_scale(3000));
        atomic_store(&s.timer, TIMER(0, periods[i], ring_with_pauses, &s));
        for (int k = 0; k < 4; k++)
            actors[k] = act(k == 0, meddle, &s);
        for (int k = 0; k < 4; k++)
            act_end(actors[k]);
        (void)routine_timer_reset(atomic_load(&s.timer), 0);
        const long before = atomic_load(&s.calls);
        AWAIT(atomic_load(&s.calls) >= before + 20); /* it has survived that */
        atomic_store(&s.finish, 1);
        self_wait(&s);
        CHECK(!routine_timer_stop(atomic_load(&s.timer)));
        routine_timer_free(atomic_load(&s.timer));
    }
}

/* ---- channels ---- */

TEST_EVERYWHERE(a_full_channel_drops)
{
    for (ptrdiff_t capacity = 1; capacity <= 3; capacity++) {
        chan_t *ch = MAKE(int64_t, capacity);
        const int64_t before = routine_now(), period = 50 * ROUTINE_US;
        int64_t at = 0, last = 0;
        routine_timer_t *t = TICKER(0, period, ch);
        AWAIT(chan_len(ch) == capacity);
        CHECK_EQ(routine_sleep(20 * period), 0);
        CHECK_EQ(chan_len(ch), capacity);
        for (long n = 0; n < 3 * capacity; n++, last = at) { /* and it goes on */
            CHECK_EQ(chan_recv(ch, &at), 0);
            CHECK(at >= before + n * period);
            CHECK(at > last);
        }
        CHECK(routine_timer_stop(t));
        routine_timer_free(t);
        chan_unref(ch);
    }
}

/* Without a buffer there is room only while somebody waits. */
TEST_EVERYWHERE(a_rendezvous)
{
    chan_t *ch = MAKE(int64_t, 0);
    const int64_t before = routine_now(), period = 100 * ROUTINE_US;
    int64_t at = 0;
    routine_timer_t *t = TICKER(0, period, ch);
    for (long n = 0; n < 10; n++) {
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK(at >= before + n * period);
    }
    CHECK(routine_timer_stop(t));
    CHECK_EQ(chan_try_recv(ch, &at), -EAGAIN);
    routine_timer_free(t);
    chan_unref(ch);
}

TEST_EVERYWHERE(an_unbounded_channel_keeps_all)
{
    enum { TICKS = 50 };
    chan_t *ch = MAKE(int64_t, CHAN_UNBOUNDED);
    const int64_t before = routine_now(), period = 20 * ROUTINE_US;
    routine_timer_t *t = TICKER(0, period, ch);
    AWAIT(chan_len(ch) >= TICKS);
    CHECK(routine_timer_stop(t));
    const ptrdiff_t len = chan_len(ch);
    int64_t at = 0, last = 0;
    CHECK_EQ(routine_sleep(5 * period), 0);
    CHECK_EQ(chan_len(ch), len);
    for (long n = 0; n < len; n++, last = at) {
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK(at >= before + n * period);
        CHECK(at > last);
    }
    routine_timer_free(t);
    chan_unref(ch);
}

/* One ticker for many listeners. */
TEST_EVERYWHERE(a_broadcast)
{
    chan_t *ch = chan_make_broadcast(int64_t, 1024), *subs[3];
    int64_t at[3] = {0};
    for (size_t i = 0; i < COUNT_OF(subs); i++)
        subs[i] = chan_subscribe(ch);
    routine_timer_t *t = TICKER(ROUTINE_MS, 200 * ROUTINE_US, ch);
    for (int n = 0; n < 5; n++) {
        for (size_t i = 0; i < COUNT_OF(subs); i++)
            CHECK_EQ(chan_recv(subs[i], &at[i]), 0);
        CHECK(at[0] == at[1] && at[1] == at[2]);
    }
    CHECK(routine_timer_stop(t));
    routine_timer_free(t);
    for (size_t i = 0; i < COUNT_OF(subs); i++)
        CHECK_EQ(chan_unsubscribe(subs[i]), 0);
    chan_unref(ch);
}

TEST_EVERYWHERE(in_a_select)
{
    chan_t *tick = MAKE(int64_t, 1), *after = MAKE(int64_t, 1);
    routine_timer_t *ticker = TICKER(300 * ROUTINE_US, 300 * ROUTINE_US, tick),
                    *last = TICKER(5 * ROUTINE_MS, 0, after);
    const int64_t before = routine_now();
    int64_t at = 0;
    long ticks = 0;
    for (int got; (got = chan_select(CHAN_RECV(tick, &at), CHAN_RECV(after, &at))) == 0; ticks++)
        CHECK(at >= before - 300 * ROUTINE_US);
    CHECK(routine_timer_stop(ticker));
    CHECK(!routine_timer_stop(last));
    CHECK(ticks <= (routine_now() - before) / (300 * ROUTINE_US) + 2);
    routine_timer_free(ticker);
    routine_timer_free(last);
    chan_unref(tick);
    chan_unref(after);
}

TEST_EVERYWHERE(a_closed_channel_stops_it)
{
    /* its next tick finds that out, and when that is depends on the machine: so longer and longer */
    for (int64_t ns = ROUTINE_MS;; ns *= 2) {
        chan_t *ch = MAKE(int64_t, 4);
        int64_t at;
        routine_timer_t *t = TICKER(0, 50 * ROUTINE_US, ch);
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK_EQ(chan_close(ch), 0);
        const ptrdiff_t len = chan_len(ch);
        CHECK_EQ(routine_sleep(ns), 0);
        CHECK_EQ(chan_len(ch), len);
        const bool was_pending = routine_timer_stop(t);
        if (!was_pending) {
            CHECK(!routine_timer_reset(t, 0)); /* it finds the same again */
            CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
            CHECK_EQ(chan_len(ch), len);
        }
        routine_timer_free(t);
        chan_unref(ch);
        if (!was_pending)
            break;
    }
    chan_t *ch = MAKE(int64_t, 4);
    CHECK_EQ(chan_close(ch), 0);
    routine_timer_t *t = TICKER(0, 0, ch);
    CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
    CHECK_EQ(chan_len(ch), 0);
    routine_timer_free(t);
    chan_unref(ch);
}

/* The timer's own reference, and no other, keeps the channel: the sanitizers see the rest. */
TEST_EVERYWHERE(the_channel_is_kept)
{
    for (int i = 0; i < 20; i++) {
        chan_t *ch = MAKE(int64_t, i % 3);
        routine_timer_t *t = TICKER(i % 2 ? 0 : 20 * ROUTINE_US, 20 * ROUTINE_US, ch);
        chan_unref(ch);
        CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0);
        if (i % 4 == 0)
            CHECK(routine_timer_stop(t));
        routine_timer_free(t);
    }
}

/* ---- stop and reset ---- */

TEST_EVERYWHERE(stopped_before)
{
    chan_t *ch = MAKE(int64_t, 1);
    struct bell b;
    bell_init(&b);
    for (int i = 0; i < 5; i++) {
        /* far enough away for a slow machine */
        routine_timer_t *t = TICKER(60 * ROUTINE_S, i % 2, ch), *f = TIMER(60 * ROUTINE_S, i % 2, ring, &b);
        CHECK(routine_timer_stop(t));
        CHECK(!routine_timer_stop(t));
        CHECK(routine_timer_stop(f));
        CHECK(!routine_timer_stop(f));
        routine_timer_free(t);
        routine_timer_free(f);
    }
    CHECK_EQ(chan_len(ch), 0);
    CHECK_EQ(atomic_load(&b.rings), 0);
    chan_unref(ch);
}

struct gate {
    routine_sem_t entered, open;
    _Atomic long calls;
};

static void pass_gate(void *arg)
{
    struct gate *g = arg;
    atomic_fetch_add(&g->calls, 1);
    CHECK_EQ(routine_sem_post(&g->entered), 0);
    CHECK_EQ(routine_sem_wait(&g->open), 0);
    CHECK_EQ(routine_sem_post(&g->entered), 0);
}

/* It is not waited for, and what stop returns is about the next call. */
TEST_EVERYWHERE(stopped_during_the_call)
{
    for (int64_t period = 0; period <= ROUTINE_US; period += ROUTINE_US) {
        struct gate g;
        memset(&g, 0, sizeof g);
        CHECK_EQ(routine_sem_init(&g.entered, 0), 0);
        CHECK_EQ(routine_sem_init(&g.open, 0), 0);
        routine_timer_t *t = TIMER(0, period, pass_gate, &g);
        CHECK_EQ(routine_sem_wait(&g.entered), 0);
        CHECK_EQ(routine_timer_stop(t), period > 0);
        CHECK(!routine_timer_stop(t));
        CHECK_EQ(routine_sem_post(&g.open), 0);
        CHECK_EQ(routine_sem_wait(&g.entered), 0);
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK_EQ(atomic_load(&g.calls), 1);
        CHECK(!routine_timer_reset(t, 0)); /* and so it goes on */
        CHECK_EQ(routine_sem_wait(&g.entered), 0);
        CHECK_EQ(routine_timer_stop(t), period > 0);
        routine_timer_free(t);
        CHECK_EQ(routine_sem_post(&g.open), 0);
        CHECK_EQ(routine_sem_wait(&g.entered), 0);
        CHECK_EQ(atomic_load(&g.calls), 2);
    }
}

TEST_EVERYWHERE(freed_during_the_call)
{
    for (int64_t period = 0; period <= ROUTINE_US; period += ROUTINE_US) {
        struct gate g;
        memset(&g, 0, sizeof g);
        CHECK_EQ(routine_sem_init(&g.entered, 0), 0);
        CHECK_EQ(routine_sem_init(&g.open, 0), 0);
        routine_timer_t *t = TIMER(0, period, pass_gate, &g);
        CHECK_EQ(routine_sem_wait(&g.entered), 0);
        routine_timer_free(t);
        CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0);
        CHECK_EQ(routine_sem_post(&g.open), 0);
        CHECK_EQ(routine_sem_wait(&g.entered), 0);
        CHECK_EQ(routine_sleep(100 * ROUTINE_US), 0);
        CHECK_EQ(atomic_load(&g.calls), 1);
    }
}

TEST_EVERYWHERE(reset_to_later_and_to_earlier)
{
    chan_t *ch = MAKE(int64_t, 1);
    int64_t at = 0;
    routine_timer_t *t = TICKER(60 * ROUTINE_S, 0, ch);
    int64_t due = routine_now() + ROUTINE_MS;
    CHECK(routine_timer_reset(t, ROUTINE_MS)); /* earlier */
    CHECK_EQ(chan_recv(ch, &at), 0);
    CHECK(at >= due);
    due = routine_now() + ROUTINE_MS;
    CHECK(!routine_timer_reset(t, ROUTINE_MS)); /* it had fired */
    CHECK_EQ(chan_recv(ch, &at), 0);
    CHECK(at >= due);
    CHECK(!routine_timer_reset(t, 60 * ROUTINE_S));
    CHECK(routine_timer_reset(t, 120 * ROUTINE_S)); /* later */
    CHECK(routine_timer_stop(t));
    due = routine_now() + ROUTINE_MS;
    CHECK(!routine_timer_reset(t, ROUTINE_MS)); /* it was stopped */
    CHECK_EQ(chan_recv(ch, &at), 0);
    CHECK(at >= due);
    CHECK_EQ(chan_len(ch), 0);
    routine_timer_free(t);
    chan_unref(ch);
}

/* A period stays, and its grid begins anew. */
TEST_EVERYWHERE(reset_of_a_ticker)
{
    const int64_t period = 200 * ROUTINE_US;
    chan_t *ch = MAKE(int64_t, 64);
    int64_t at = 0;
    routine_timer_t *t = TICKER(0, period, ch);
    for (int i = 0; i < 10; i++) {
        CHECK(i % 3 == 0 ? routine_timer_stop(t) : routine_timer_reset(t, ROUTINE_NEVER));
        while (chan_try_recv(ch, &at) == 0)
            ; /* of before */
        const int64_t first = i % 2 ? 0 : ROUTINE_MS, lo = routine_now() + first;
        CHECK_EQ(routine_timer_reset(t, first), i % 3 != 0);
        const int64_t hi = routine_now() + first;
        int64_t next = 0;
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK(at >= lo);
        for (long n = 1; n < 5; n++, at = next) {
            CHECK_EQ(chan_recv(ch, &next), 0);
            check_tick(n, at, next, lo, hi, period);
        }
    }
    CHECK(routine_timer_stop(t));
    routine_timer_free(t);
    chan_unref(ch);
}

/* Postponed again and again, as a watchdog is, it never fires; and then it does. */
TEST_EVERYWHERE(a_watchdog)
{
    chan_t *ch = MAKE(int64_t, 1);
    int64_t at = 0, due = 0;
    routine_timer_t *t = TICKER(60 * ROUTINE_S, 0, ch);
    for (long i = 0, n = support_scale(2000); i < n; i++)
        CHECK(routine_timer_reset(t, 60 * ROUTINE_S + (i % 7) * ROUTINE_MS));
    CHECK_EQ(chan_len(ch), 0);
    due = routine_now() + ROUTINE_US;
    CHECK(routine_timer_reset(t, ROUTINE_US));
    CHECK_EQ(chan_recv(ch, &at), 0);
    CHECK(at >= due);
    routine_timer_free(t);
    chan_unref(ch);
}

/* ---- stop and reset against the expiry: every setting is either called off or has fired, never both, and
 *      which of them is settled when the call returns ---- */

/* Waits until about then, in one of several ways. */
static void approach(uint64_t *random, int64_t at)
{
    at += any_below(random, 12 * ROUTINE_US) - 6 * ROUTINE_US;
    if (support_random(random) % 2 == 0)
        spin_until(at);
    else
        yield_until(at);
}

TEST_EVERYWHERE(stop_against_the_expiry)
{
    chan_t *ch = MAKE(int64_t, 2);
    uint64_t random = 1 + (uintptr_t)&random;
    routine_timer_t *t = TICKER(ROUTINE_NEVER, 0, ch);
    CHECK(routine_timer_stop(t));
    for (long i = 0, n = support_scale(3000); i < n; i++) {
        const int64_t ns = any_below(&random, 30 * ROUTINE_US), due = routine_now() + ns;
        int64_t at = 0;
        CHECK(!routine_timer_reset(t, ns));
        approach(&random, due);
        const bool called_off = routine_timer_stop(t);
        const int got = chan_try_recv(ch, &at);
        CHECK_EQ(got, called_off ? -EAGAIN : 0);
        if (got == 0)
            CHECK(at >= due && at <= routine_now());
        CHECK(!routine_timer_stop(t));
        CHECK_EQ(chan_len(ch), 0);
    }
    routine_timer_free(t);
    chan_unref(ch);
}

TEST_EVERYWHERE(reset_against_the_expiry)
{
    chan_t *ch = MAKE(int64_t, 2);
    uint64_t random = 2 + (uintptr_t)&random;
    routine_timer_t *t = TICKER(ROUTINE_NEVER, 0, ch);
    for (long i = 0, n = support_scale(2000); i < n; i++) {
        int64_t ns = any_below(&random, 30 * ROUTINE_US), due = routine_now() + ns, at = 0;
        CHECK(routine_timer_reset(t, ns)); /* it would never have come */
        approach(&random, due);
        ns = any_below(&random, 30 * ROUTINE_US);
        const int64_t due_then = routine_now() + ns;
        if (!routine_timer_reset(t, ns)) { /* so the first one has been sent, before the second */
            CHECK_EQ(chan_try_recv(ch, &at), 0);
            CHECK(at >= due && at <= routine_now());
        }
        if (i % 2 == 0) {
            CHECK_EQ(chan_recv(ch, &at), 0);
            CHECK(at >= due_then);
            CHECK(!routine_timer_reset(t, ROUTINE_NEVER));
        } else {
            approach(&random, due_then);
            const bool called_off = routine_timer_reset(t, ROUTINE_NEVER);
            CHECK_EQ(chan_try_recv(ch, &at), called_off ? -EAGAIN : 0);
            CHECK(called_off || at >= due_then);
        }
        CHECK_EQ(chan_len(ch), 0);
    }
    CHECK(routine_timer_stop(t));
    routine_timer_free(t);
    chan_unref(ch);
}

/* A ticker is always pending, and when it has been stopped it is silent. */
TEST_EVERYWHERE(stop_against_ticks)
{
    chan_t *ch = MAKE(int64_t, CHAN_UNBOUNDED);
    uint64_t random = 3 + (uintptr_t)&random;
    routine_timer_t *t = TICKER(ROUTINE_NEVER, 3 * ROUTINE_US, ch);
    for (long i = 0, n = support_scale(1500); i < n; i++) {
        const int64_t ns = any_below(&random, 10 * ROUTINE_US), due = routine_now() + ns;
        int64_t at;
        CHECK_EQ(routine_timer_reset(t, ns), i == 0);
        approach(&random, due + 20 * ROUTINE_US);
        CHECK(routine_timer_stop(t));
        const ptrdiff_t len = chan_len(ch);
        approach(&random, routine_now() + 8 * ROUTINE_US);
        CHECK_EQ(chan_len(ch), len);
        for (long k = 0; chan_try_recv(ch, &at) == 0; k++)
            CHECK(at >= due + k * 3 * ROUTINE_US);
        CHECK(!routine_timer_stop(t));
    }
    routine_timer_free(t);
    CHECK_EQ(chan_len(ch), 0);
    chan_unref(ch);
}

TEST_EVERYWHERE(free_against_the_expiry)
{
    chan_t *ch = MAKE(int64_t, CHAN_UNBOUNDED);
    uint64_t random = 4 + (uintptr_t)&random;
    for (long i = 0, n = support_scale(2000); i < n; i++) {
        const int64_t ns = any_below(&random, 20 * ROUTINE_US), due = routine_now() + ns;
        int64_t at;
        routine_timer_t *t = TICKER(ns, i % 2 ? 0 : 5 * ROUTINE_US, ch);
        approach(&random, due);
        routine_timer_free(t);
        const ptrdiff_t len = chan_len(ch);
        CHECK(i % 2 == 0 || len <= 1);
        if (i % 4 < 2)
            approach(&random, routine_now() + 6 * ROUTINE_US);
        CHECK_EQ(chan_len(ch), len);
        while (chan_try_recv(ch, &at) == 0)
            CHECK(at >= due);
    }
    chan_unref(ch);
}

/* With a function: in a runtime of its own, so that at its end all calls are over and the account can be
 * exact. */
struct account {
    struct bell bell;
    long fired, called_off;
};

static void *stop_calls(void *arg)
{
    struct account *a = arg;
    uint64_t random = 5 + (uintptr_t)&random;
    routine_timer_t *t = TIMER(ROUTINE_NEVER, 0, ring, &a->bell);
    CHECK(routine_timer_stop(t));
    for (long i = 0, n = support_scale(8000); i < n; i++) {
        const int64_t ns = any_below(&random, 30 * ROUTINE_US), due = routine_now() + ns;
        atomic_store(&a->bell.due, due); /* a call for an earlier setting would most likely be too early */
        CHECK(!routine_timer_reset(t, ns));
        approach(&random, due);
        if (routine_timer_stop(t)) {
            a->called_off++;
            atomic_store(&a->bell.due, INT64_MAX); /* nothing may come until the next setting */
        } else {
            a->fired++;
            bell_wait(&a->bell);
        }
    }
    routine_timer_free(t);
    return arg;
}

static void *new_calls(void *arg)
{
    struct account *a = arg;
    uint64_t random = 6 + (uintptr_t)&random;
    for (long i = 0, n = support_scale(4000); i < n; i++) {
        const int64_t ns = any_below(&random, 30 * ROUTINE_US), due = routine_now() + ns;
        atomic_store(&a->bell.due, due);
        routine_timer_t *t = TIMER(ns, 0, ring, &a->bell);
        approach(&random, due);
        if (routine_timer_stop(t)) {
            a->called_off++;
            atomic_store(&a->bell.due, INT64_MAX);
        } else {
            a->fired++;
            if (i % 2 == 0)
                routine_timer_free(t), t = NULL;
            bell_wait(&a->bell);
        }
        routine_timer_free(t);
    }
    return arg;
}

TEST(calls_against_stops)
{
    static routine_fn *const fns[] = {stop_calls, new_calls};
    for (size_t i = 0; i < COUNT_OF(fns); i++) {
        struct account a = {.fired = 0};
        bell_init(&a.bell);
        routine_runtime_t *runtime = support_runtime(0);
        CHECK_EQ(routine_runtime_run(runtime, fns[i], &a, NULL), 0);
        support_runtime_end(runtime);
        CHECK_EQ(atomic_load(&a.bell.rings), a.fired);
    }
}

/* Many timers, and routines and threads that stop and reset them against each other: the sum is exact, and at
 * once. */
enum { BESIEGED = 8, BESIEGERS = 5 };

struct siege {
    routine_timer_t *timers[BESIEGED];
    chan_t *sent[BESIEGED];
    _Atomic long settings[BESIEGED], called_off[BESIEGED], rings[BESIEGED];
    _Atomic int64_t seed;
    long rounds;
};

static void *besiege(void *arg)
{
    struct siege *s = arg;
    uint64_t random = (uint64_t)atomic_fetch_add(&s->seed, 7919);
    for (long i = 0; i < s->rounds; i++) {
        const size_t k = support_random(&random) % BESIEGED;
        if (support_random(&random) % 4 == 0) {
            if (routine_timer_stop(s->timers[k]))
                atomic_fetch_add(&s->called_off[k], 1);
        } else {
            atomic_fetch_add(&s->settings[k], 1);
            if (routine_timer_reset(s->timers[k], any_below(&random, 50 * ROUTINE_US)))
                atomic_fetch_add(&s->called_off[k], 1);
        }
        if (i % 8 == 0)
            approach(&random, routine_now() + any_below(&random, 20 * ROUTINE_US));
        else if (i % 8 == 1)
            routine_yield();
    }
    return NULL;
}

static void siege(struct siege *s)
{
    struct actor actors[BESIEGERS];
    s->rounds = support_scale(6000);
    atomic_store(&s->seed, 12345);
    for (int i = 0; i < BESIEGERS; i++)
        actors[i] = act(i % 2 == 1, besiege, s);
    for (int i = 0; i < BESIEGERS; i++)
        act_end(actors[i]);
    for (size_t k = 0; k < BESIEGED; k++) {
        if (routine_timer_stop(s->timers[k]))
            atomic_fetch_add(&s->called_off[k], 1);
        CHECK(!routine_timer_stop(s->timers[k]));
    }
}

static void *besieged_channels(void *arg)
{
    struct siege s;
    memset(&s, 0, sizeof s);
    for (size_t k = 0; k < BESIEGED; k++) {
        s.sent[k] = MAKE(int64_t, CHAN_UNBOUNDED);
        s.timers[k] = TICKER(ROUTINE_US, 0, s.sent[k]);
        atomic_store(&s.settings[k], 1);
    }
    siege(&s);
    for (size_t k = 0; k < BESIEGED; k++) {
        CHECK_EQ(chan_len(s.sent[k]) + atomic_load(&s.called_off[k]), atomic_load(&s.settings[k]));
        routine_timer_free(s.timers[k]);
        chan_unref(s.sent[k]);
    }
    return arg;
}

TEST(besieged_by_routines_and_threads)
{
    (void)besieged_channels(NULL); /* by timers that a plain thread has set */
    support_in_routine(besieged_channels, NULL);
}

static void ring_count(void *arg)
{
    atomic_fetch_add((_Atomic long *)arg, 1);
}

static void *besieged_functions(void *arg)
{
    struct siege *s = arg;
    for (size_t k = 0; k < BESIEGED; k++) {
        s->timers[k] = TIMER(ROUTINE_US, 0, ring_count, (void *)&s->rings[k]);
        atomic_store(&s->settings[k], 1);
    }
    siege(s);
    for (size_t k = 0; k < BESIEGED; k++)
        routine_timer_free(s->timers[k]);
    return NULL;
}

TEST(besieged_functions_of_a_runtime)
{
    struct siege s;
    memset(&s, 0, sizeof s);
    routine_runtime_t *runtime = support_runtime(0);
    CHECK_EQ(routine_runtime_run(runtime, besieged_functions, &s, NULL), 0);
    support_runtime_end(runtime); /* all calls are over */
    for (size_t k = 0; k < BESIEGED; k++)
        CHECK_EQ(atomic_load(&s.rings[k]) + atomic_load(&s.called_off[k]), atomic_load(&s.settings[k]));
}

/* ---- by the function itself ---- */

static void reset_itself(void *arg)
{
    struct self *s = arg;
    routine_timer_t *t = self_timer(s);
    CHECK(routine_now() >= atomic_load(&s->due));
    const long n = atomic_fetch_add(&s->calls, 1) + 1;
    if (n < s->most) {
        atomic_store(&s->due, routine_now() + s->ns);
        CHECK_EQ(routine_timer_reset(t, s->ns), s->periodic);
        if (s->takes > 0) /* so it comes before this call is over, and is made up for */
            CHECK_EQ(routine_sleep(s->takes), 0);
    } else {
        if (s->periodic)
            CHECK(routine_timer_stop(t));
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
}

TEST_EVERYWHERE(reset_in_the_call)
{
    static const int64_t times[] = {0, ROUTINE_US, 100 * ROUTINE_US, ROUTINE_MS};
    for (size_t i = 0; i < COUNT_OF(times); i++)
        for (int periodic = 0; periodic <= 1; periodic++) {
            struct self s;
            self_init(&s, times[i], 20);
            s.periodic = periodic;
            s.takes = i % 2 ? 0 : 100 * ROUTINE_US;
            atomic_store(&s.timer, TIMER(0, periodic ? 300 * ROUTINE_US : 0, reset_itself, &s));
            self_wait(&s);
            CHECK_EQ(routine_sleep(2 * times[i]), 0);
            CHECK_EQ(atomic_load(&s.calls), 20);
            CHECK(!routine_timer_stop(atomic_load(&s.timer)));
            routine_timer_free(atomic_load(&s.timer));
        }
}

static void stop_itself(void *arg)
{
    struct self *s = arg;
    routine_timer_t *t = self_timer(s);
    if (atomic_fetch_add(&s->calls, 1) + 1 == s->most) {
        CHECK_EQ(routine_timer_stop(t), s->periodic);
        CHECK(!routine_timer_stop(t));
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
}

TEST_EVERYWHERE(stop_in_the_call)
{
    for (int periodic = 0; periodic <= 1; periodic++) {
        struct self s;
        self_init(&s, 0, periodic ? 10 : 1);
        s.periodic = periodic;
        atomic_store(&s.timer, TIMER(0, periodic ? 20 * ROUTINE_US : 0, stop_itself, &s));
        self_wait(&s);
        CHECK_EQ(routine_sleep(ROUTINE_MS), 0);
        CHECK_EQ(atomic_load(&s.calls), s.most);
        CHECK(!routine_timer_stop(atomic_load(&s.timer)));
        routine_timer_free(atomic_load(&s.timer));
    }
}

static void free_itself(void *arg)
{
    struct self *s = arg;
    if (atomic_fetch_add(&s->calls, 1) + 1 == s->most) {
        routine_timer_free(self_timer(s));
        routine_yield();
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
}

TEST_EVERYWHERE(free_in_the_call)
{
    for (long i = 0, n = support_scale(400); i < n; i++) {
        struct self s;
        const bool periodic = i % 2;
        self_init(&s, 0, periodic ? 1 + i % 3 : 1);
        atomic_store(&s.timer, TIMER(i % 7, periodic ? 3 * ROUTINE_US : 0, free_itself, &s));
        self_wait(&s);
        CHECK_EQ(atomic_load(&s.calls), s.most);
    }
}

/* A call that is left by routine_exit() is over as any other. */
static void exit_itself(void *arg)
{
    struct self *s = arg;
    if (atomic_fetch_add(&s->calls, 1) + 1 == s->most) {
        CHECK(routine_timer_stop(self_timer(s)));
        CHECK_EQ(routine_sem_post(&s->over), 0);
    }
    routine_exit(NULL);
}

TEST_EVERYWHERE(exit_in_the_call)
{
    struct self s;
    self_init(&s, 0, 10);
    atomic_store(&s.timer, TIMER(0, 20 * ROUTINE_US, exit_itself, &s));
    self_wait(&s);
    routine_timer_free(atomic_load(&s.timer));
}

/* The function is not the caller's: it has no limit, whatever the caller has, and may block. */
static void look_at_limits(void *arg)
{
    struct self *s = arg;
    CHECK_EQ(routine_deadline(), ROUTINE_NEVER);
    CHECK_EQ(routine_check(), 0);
    CHECK(routine_runtime_current() != NULL);
    CHECK(routine_self().block != NULL);
    CHECK_EQ(routine_sleep(ROUTINE_US), 0);
    CHECK_EQ(routine_sem_post(&s->over), 0);
}

TEST_EVERYWHERE(limits_do_not_reach_the_function)
{
    struct self s;
    self_init(&s, 0, 1);
    chan_t *ch = MAKE(int64_t, 1);
    int64_t at;
    routine_timer_t *t, *c;
    {
        routine_with_timeout(0);
        CHECK_EQ(routine_check(), -ETIMEDOUT);
        t = TIMER(0, 0, look_at_limits, &s); /* and it can be set, reset and stopped under one */
        c = TICKER(60 * ROUTINE_S, 0, ch);
        CHECK(routine_timer_stop(c));
        CHECK(!routine_timer_reset(c, 0));
    }
    self_wait(&s);
    CHECK_EQ(chan_recv(ch, &at), 0);
    routine_timer_free(t);
    routine_timer_free(c);
    chan_unref(ch);
}

/* ---- workers that sleep, workers that are busy ---- */

/* All workers sleep, or one of them until a timer far away: a nearer one wakes somebody. */
TEST(an_earlier_one_interrupts_a_sleep)
{
    chan_t *ch = MAKE(int64_t, 1), *far_ch = MAKE(int64_t, 1);
    routine_timer_t *far_away = TICKER(3600 * ROUTINE_S, 0, far_ch), *t = TICKER(ROUTINE_NEVER, 0, ch);
    int64_t at;
    for (int i = 0, n = (int)support_scale(300); i < n; i++) {
        if (i % 4 != 0)
            usleep((useconds_t)(i % 16) * 100); /* the workers go to rest */
        const int64_t ns = i % 8 * 300 * ROUTINE_US, due = routine_now() + ns;
        if (i % 3 == 0) {
            routine_timer_free(t);
            t = TICKER(ns, 0, ch);
        } else if (i % 3 == 1) {
            CHECK(!routine_timer_reset(t, ns));
        } else {
            /* the far one itself comes nearer */
            CHECK(routine_timer_reset(far_away, ns));
            CHECK_EQ(chan_recv(far_ch, &at), 0);
            CHECK(at >= due);
            CHECK(!routine_timer_reset(far_away, 3600 * ROUTINE_S));
            continue;
        }
        CHECK_EQ(chan_recv(ch, &at), 0); /* a plain thread: nobody else looks */
        CHECK(at >= due);
    }
    CHECK(routine_timer_stop(far_away));
    routine_timer_free(far_away);
    routine_timer_free(t);
    chan_unref(ch);
    chan_unref(far_ch);
}

static void not_called(void *arg)
{
    CHECK(arg == &arg);
}

/* The same from a routine that then waits, in a runtime where nobody else is. */
static void *wait_alone(void *arg)
{
    chan_t *ch = MAKE(int64_t, 1);
    routine_timer_t *far_away = TIMER(3600 * ROUTINE_S, 0, not_called, NULL),
                    *t = TICKER(ROUTINE_NEVER, 0, ch);
    for (int i = 0, n = (int)support_scale(200); i < n; i++) {
        int64_t at;
        const int64_t ns = i % 8 * 200 * ROUTINE_US, due = routine_now() + ns;
        CHECK_EQ(routine_timer_reset(t, ns), i == 0);
        CHECK_EQ(chan_recv(ch, &at), 0);
        CHECK(at >= due);
    }
    routine_timer_free(far_away);
    routine_timer_free(t);
    chan_unref(ch);
    return arg;
}

TEST(in_an_idle_runtime)
{
    for (size_t workers = 1; workers <= 3; workers++) {
        routine_runtime_t *runtime = support_runtime(workers);
        CHECK_EQ(routine_runtime_run(runtime, wait_alone, NULL, NULL), 0);
        support_runtime_end(runtime);
    }
}

/* Beside routines that yield, or start and join, without ever resting. */
struct busy {
    _Atomic long rings;
    chan_t *ch;
    int kind;
};

static void *nothing(void *arg)
{
    return arg;
}

static void *keep_busy(void *arg)
{
    struct busy *b = arg;
    while (atomic_load(&b->rings) < 5 || chan_len(b->ch) < 5)
        if (b->kind == 0)
            routine_yield();
        else
            CHECK_EQ(routine_join(go(nothing, arg), NULL), 0);
    return NULL;
}

static void *busy_all(void *arg)
{
    struct busy *b = arg;
    routine_t h[12];
    routine_timer_t *t = TIMER(ROUTINE_MS, ROUTINE_MS, ring_count, (void *)&b->rings),
                    *c = TICKER(ROUTINE_MS, ROUTINE_MS, b->ch);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        h[i] = go(keep_busy, b);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        CHECK_EQ(routine_join(h[i], NULL), 0);
    CHECK(routine_timer_stop(t));
    CHECK(routine_timer_stop(c));
    routine_timer_free(t);
    routine_timer_free(c);
    return NULL;
}

TEST(beside_busy_workers)
{
    for (int kind = 0; kind <= 1; kind++) {
        struct busy b = {.ch = MAKE(int64_t, 8), .kind = kind};
        routine_runtime_t *runtime = support_runtime(0);
        CHECK_EQ(routine_runtime_run(runtime, busy_all, &b, NULL), 0);
        support_runtime_end(runtime);
        chan_unref(b.ch);
    }
}

/* One that never calls the library holds up what its worker would have to do, but not its timers, if there is
 * another worker. */
static void *compute(void *arg)
{
    _Atomic long rings = 0;
    chan_t *ch = MAKE(int64_t, 4);
    routine_timer_t *t = TIMER(ROUTINE_MS, 0, ring_count, (void *)&rings), *c = TICKER(ROUTINE_MS, 0, ch);
    while (atomic_load(&rings) == 0 || chan_len(ch) == 0)
        ;
    CHECK(!routine_timer_stop(t));
    CHECK(!routine_timer_stop(c));
    routine_timer_free(t);
    routine_timer_free(c);
    chan_unref(ch);
    return arg;
}

TEST(beside_one_that_computes)
{
    routine_runtime_t *runtime = support_runtime(2);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(routine_runtime_run(runtime, compute, NULL, NULL), 0);
    support_runtime_end(runtime);
}

/* ---- the order ---- */

enum { IN_ORDER = 400 };

struct order {
    _Atomic long count;
    int log[IN_ORDER];
    int64_t lo[IN_ORDER], hi[IN_ORDER]; /* when each is due lies between the two */
    int64_t most;
    bool busy;
};

struct place {
    struct order *order;
    int index;
};

static void take_place(void *arg)
{
    const struct place *p = arg;
    const long at = atomic_load(&p->order->count); /* one worker: they are called one after the other */
    p->order->log[at] = p->index;
    atomic_store(&p->order->count, at + 1);
}

static void *fire_in_order(void *arg)
{
    struct order *o = arg;
    struct place places[IN_ORDER];
    routine_timer_t *timers[IN_ORDER];
    uint64_t random = 77;
    for (int i = 0; i < IN_ORDER; i++) {
        const int64_t ns = o->most > 0 ? any_below(&random, o->most) : 0;
        places[i] = (struct place){o, i};
        o->lo[i] = routine_now() + ns;
        timers[i] = TIMER(ns, 0, take_place, &places[i]);
        o->hi[i] = routine_now() + ns;
    }
    if (o->busy) /* all at one look */
        spin_until(routine_now() + o->most);
    WAIT_UNTIL(atomic_load(&o->count) == IN_ORDER);
    int64_t latest = 0;
    for (int k = 0; k < IN_ORDER; k++) {
        const int i = o->log[k];
        CHECK(o->hi[i] >= latest); /* else an earlier one has come behind a later one */
        latest = o->lo[i] > latest ? o->lo[i] : latest;
    }
    for (int i = 0; i < IN_ORDER; i++)
        routine_timer_free(timers[i]);
    return NULL;
}

TEST(the_order_on_one_worker)
{
    static const int64_t spans[] = {0, 50 * ROUTINE_US, 2 * ROUTINE_MS, 20 * ROUTINE_MS};
    for (size_t i = 0; i < COUNT_OF(spans); i++)
        for (int busy = 0; busy <= 1; busy++) {
            struct order o;
            memset(&o, 0, sizeof o);
            o.most = spans[i];
            o.busy = busy;
            direct(fire_in_order, &o);
        }
}

/* ---- many ---- */

static void *many_pending(void *arg)
{
    const long n = support_scale(*(const long *)arg);
    routine_timer_t **timers = malloc((size_t)n * sizeof *timers);
    chan_t *ch = MAKE(int64_t, 4);
    uint64_t random = 99;
    if (timers == NULL)
        abort();
    for (long i = 0; i < n; i++) {
        const int64_t ns = 600 * ROUTINE_S + any_below(&random, 3600 * ROUTINE_S);
        timers[i] = i % 2 ? TICKER(ns, i % 3, ch) : TIMER(ns, i % 3, not_called, NULL);
    }
    /* one among them is as quick as ever */
    int64_t at = 0;
    const int64_t due = routine_now() + 100 * ROUTINE_US;
    routine_timer_t *t = TICKER(100 * ROUTINE_US, 0, ch);
    CHECK_EQ(chan_recv(ch, &at), 0);
    CHECK(at >= due);
    routine_timer_free(t);
    for (long i = 0; i < n; i++)
        if (i % 3 == 0)
            CHECK(routine_timer_stop(timers[i]));
        else if (i % 3 == 1)
            CHECK(routine_timer_reset(timers[i], 600 * ROUTINE_S + any_below(&random, 3600 * ROUTINE_S)));
    for (long i = 0; i < n; i++) {
        if (i % 5 == 0)
            CHECK_EQ(routine_timer_stop(timers[i]), i % 3 != 0);
        routine_timer_free(timers[i]);
    }
    CHECK_EQ(chan_len(ch), 0);
    chan_unref(ch);
    free(timers);
    return NULL;
}

TEST(a_million_pending)
{
    long n = 1000000;
    support_in_routine(many_pending, &n);
    n = 100000;
    (void)many_pending(&n); /* of a plain thread */
}

/* All that are not stopped come, and none early: of the times sent, the k-th is not before the k-th of the
 * times due. */
static int by_time(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void *many_fire(void *arg)
{
    const long n = support_scale(40000);
    routine_timer_t **timers = malloc((size_t)n * sizeof *timers);
    int64_t *due = malloc((size_t)n * sizeof *due);
    chan_t *ch = MAKE(int64_t, n);
    uint64_t random = 5;
    long left = 0;
    if (timers == NULL || due == NULL)
        abort();
    for (long i = 0; i < n; i++) {
        const int64_t ns = any_below(&random, 100 * ROUTINE_MS);
        due[i] = routine_now() + ns;
        timers[i] = TICKER(ns, 0, ch);
    }
    for (long i = 0; i < n; i++) {
        if (i % 4 == 0 && routine_timer_stop(timers[i]))
            continue;
        due[left++] = due[i];
    }
    qsort(due, (size_t)left, sizeof *due, by_time);
    int64_t *sent = malloc((size_t)n * sizeof *sent);
    if (sent == NULL)
        abort();
    for (long i = 0; i < left; i++)
        CHECK_EQ(chan_recv(ch, &sent[i]), 0);
    qsort(sent, (size_t)left, sizeof *sent, by_time);
    for (long i = 0; i < left; i++)
        CHECK(sent[i] >= due[i]);
    for (long i = 0; i < n; i++) {
        CHECK(!routine_timer_stop(timers[i]));
        routine_timer_free(timers[i]);
    }
    CHECK_EQ(chan_len(ch), 0);
    chan_unref(ch);
    free(timers);
    free(due);
    free(sent);
    return arg;
}

TEST(thousands_fire)
{
    (void)many_fire(NULL);
    support_in_routine(many_fire, NULL);
}

/* ---- runtimes ---- */

struct abroad {
    routine_runtime_t *runtime;
    routine_timer_t *timers[16];
    chan_t *ch;
    _Atomic long calls, sleeps, ready;
    _Atomic int stop;
    routine_sem_t go_on;
};

static void ring_abroad(void *arg)
{
    struct abroad *a = arg;
    CHECK(routine_runtime_current() == a->runtime);
    if (atomic_fetch_add(&a->calls, 1) % 3 == 0) {
        const int rc = routine_sleep(20 * ROUTINE_US);
        CHECK(rc == 0 || rc == -ECANCELED);
        CHECK(routine_runtime_current() == a->runtime);
    }
}

/* Some that tick, some that are far, some that have fired, and one that was stopped. */
static void *set_abroad(void *arg)
{
    struct abroad *a = arg;
    for (size_t i = 0; i < COUNT_OF(a->timers); i++) {
        const int64_t ns = i % 4 == 0 ? 3600 * ROUTINE_S : (int64_t)i * 10 * ROUTINE_US;
        const int64_t period = i % 3 == 0 ? 0 : 15 * ROUTINE_US;
        a->timers[i] = i % 2 ? TIMER(ns, period, ring_abroad, a) : TICKER(ns, period, a->ch);
    }
    CHECK(routine_timer_stop(a->timers[0]));
    return NULL;
}

static struct abroad *abroad_new(size_t workers)
{
    struct abroad *a = calloc(1, sizeof *a);
    if (a == NULL)
        abort();
    a->runtime = support_runtime(workers);
    a->ch = MAKE(int64_t, 8);
    CHECK_EQ(routine_sem_init(&a->go_on, 0), 0);
    return a;
}

/* After the shutdown nothing happens any more, and every call is safe: also after the runtime is gone. */
static void check_silence_abroad(struct abroad *a)
{
    int64_t at;
    while (chan_try_recv(a->ch, &at) == 0)
        ;
    const long calls = atomic_load(&a->calls);
    for (size_t i = 0; i < COUNT_OF(a->timers); i++) {
        if (i % 2 == 0)
            (void)routine_timer_stop(a->timers[i]);
        if (i % 8 == 3)
            (void)routine_timer_reset(a->timers[i], i % 16 == 3 ? 0 : ROUTINE_US);
    }
    usleep(200);
    CHECK_EQ(atomic_load(&a->calls), calls);
    CHECK_EQ(chan_len(a->ch), 0);
}

static void abroad_end(struct abroad *a)
{
    check_silence_abroad(a);
    for (size_t i = 0; i < COUNT_OF(a->timers) / 2; i++)
        routine_timer_free(a->timers[i]);
    CHECK_EQ(routine_runtime_free(a->runtime), 0);
    for (size_t i = COUNT_OF(a->timers) / 2; i < COUNT_OF(a->timers); i++) {
        if (i % 4 != 0)
            (void)routine_timer_stop(a->timers[i]);
        routine_timer_free(a->timers[i]);
    }
    chan_unref(a->ch);
    free(a);
}

/* Timers are no routines: a shutdown does not wait for them. */
TEST_EVERYWHERE(a_shutdown_is_not_held_up)
{
    for (long i = 0, n = support_scale(60); i < n; i++) {
        const int how = i % 2 ? ROUTINE_SHUTDOWN_CANCEL : ROUTINE_SHUTDOWN_WAIT;
        struct abroad *a = abroad_new((size_t)(1 + i % 3));
        CHECK_EQ(routine_runtime_run(a->runtime, set_abroad, a, NULL), 0);
        if (i % 5 != 0)
            CHECK_EQ(routine_sleep(i % 5 * 50 * ROUTINE_US), 0);
        CHECK_EQ(routine_runtime_shutdown(a->runtime, how, ROUTINE_NEVER), 0);
        abroad_end(a);
    }
}

/* While somebody sets and stops them. */
static void *meddle_abroad(void *arg)
{
    struct abroad *a = arg;
    uint64_t random = 31;
    atomic_fetch_add(&a->ready, 1);
    while (!atomic_load(&a->stop)) {
        routine_timer_t *t = a->timers[support_random(&random) % COUNT_OF(a->timers)];
        if (support_random(&random) % 3 == 0)
            (void)routine_timer_stop(t);
        else
            (void)routine_timer_reset(t, any_below(&random, 40 * ROUTINE_US));
        routine_yield();
    }
    return NULL;
}

TEST(a_shutdown_against_resets)
{
    for (long i = 0, n = support_scale(200); i < n; i++) {
        const int how = i % 2 ? ROUTINE_SHUTDOWN_CANCEL : ROUTINE_SHUTDOWN_WAIT;
        struct abroad *a = abroad_new((size_t)(1 + i % 3));
        CHECK_EQ(routine_runtime_run(a->runtime, set_abroad, a, NULL), 0);
        struct actor meddlers[2] = {act(true, meddle_abroad, a), act(false, meddle_abroad, a)};
        AWAIT(atomic_load(&a->ready) == 2);
        CHECK_EQ(routine_runtime_shutdown(a->runtime, how, ROUTINE_NEVER), 0);
        if (i % 4 < 2)
            usleep(100);
        atomic_store(&a->stop, 1);
        act_end(meddlers[0]);
        act_end(meddlers[1]);
        abroad_end(a);
    }
}

/* A shutdown that gives up leaves everything as it was: timers go on. */
static void *wait_abroad(void *arg)
{
    struct abroad *a = arg;
    CHECK_EQ(routine_sem_wait(&a->go_on), 0);
    return NULL;
}

TEST(a_shutdown_that_gives_up)
{
    struct abroad *a = abroad_new(2);
    const routine_t h = support_go_on(a->runtime, wait_abroad, a);
    CHECK_EQ(routine_runtime_run(a->runtime, set_abroad, a, NULL), 0);
    for (int i = 0; i < 5; i++) {
        int64_t at;
        CHECK_EQ(routine_runtime_shutdown(a->runtime, ROUTINE_SHUTDOWN_WAIT, i * 100 * ROUTINE_US),
                 -ETIMEDOUT);
        const long calls = atomic_load(&a->calls);
        AWAIT(atomic_load(&a->calls) > calls + 5);
        while (chan_try_recv(a->ch, &at) == 0)
            ;
        CHECK_EQ(chan_recv(a->ch, &at), 0);
    }
    CHECK_EQ(routine_sem_post(&a->go_on), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_runtime_shutdown(a->runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), 0);
    abroad_end(a);
}

/* A shutdown waits for the calls that are under way, as for any routine. */
struct last_call {
    _Atomic(routine_timer_t *) timer;
    _Atomic int begun, ended;
    bool cancel;
};

static void take_time(void *arg)
{
    struct last_call *l = arg;
    atomic_store(&l->begun, 1);
    if (l->cancel)
        CHECK_EQ(routine_sleep(ROUTINE_NEVER), -ECANCELED);
    else
        CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
    atomic_fetch_add(&l->ended, 1);
}

static void *set_last_call(void *arg)
{
    struct last_call *l = arg;
    atomic_store(&l->timer, TIMER(0, ROUTINE_US, take_time, l));
    AWAIT(atomic_load(&l->begun));
    return NULL;
}

TEST(a_shutdown_waits_for_the_call)
{
    for (int i = 0; i < 20; i++) {
        struct last_call l = {.cancel = i % 2};
        routine_runtime_t *runtime = support_runtime((size_t)(1 + i % 3));
        CHECK_EQ(routine_runtime_run(runtime, set_last_call, &l, NULL), 0);
        CHECK_EQ(routine_runtime_shutdown(runtime, l.cancel ? ROUTINE_SHUTDOWN_CANCEL : ROUTINE_SHUTDOWN_WAIT,
                                          ROUTINE_NEVER),
                 0);
        const int ended = atomic_load(&l.ended);
        CHECK(ended >= 1);
        usleep(100);
        CHECK_EQ(atomic_load(&l.ended), ended);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        routine_timer_free(atomic_load(&l.timer));
    }
}

/* ---- in a process of its own ---- */

/* The first call of the library. */
static int case_first(void)
{
    chan_t *ch = MAKE(int64_t, 1);
    int64_t at = 0;
    const int64_t due = routine_now() + ROUTINE_MS;
    routine_timer_t *t = TICKER(ROUTINE_MS, 0, ch);
    CHECK_EQ(chan_recv(ch, &at), 0);
    CHECK(at >= due);
    routine_timer_free(t);
    chan_unref(ch);
    return 0;
}

/* The default runtime ends under the timers of plain threads; new ones start it again. */
static int case_again(void)
{
    for (int i = 0; i < 5; i++) {
        chan_t *ch = MAKE(int64_t, 1);
        struct bell b;
        int64_t at = 0;
        bell_init(&b);
        routine_timer_t *t = TICKER(0, 20 * ROUTINE_US, ch), *f = TIMER(0, 0, ring, &b),
                        *far_away = TIMER(3600 * ROUTINE_S, 0, not_called, NULL);
        CHECK_EQ(chan_recv(ch, &at), 0);
        bell_wait(&b);
        routine_runtime_t *runtime = routine_runtime_default();
        support_runtime_end(runtime);
        while (chan_try_recv(ch, &at) == 0)
            ;
        usleep(1000);
        CHECK_EQ(chan_len(ch), 0);
        routine_timer_free(t);
        routine_timer_free(f);
        routine_timer_free(far_away);
        chan_unref(ch);
    }
    return 0;
}

/* Coming back from main with timers pending and ticking. */
static chan_t *left_channel;
static routine_timer_t *left_timers[3];

static int case_left(void)
{
    static struct bell b;
    left_channel = MAKE(int64_t, 1);
    int64_t at;
    bell_init(&b);
    left_timers[0] = TICKER(0, 10 * ROUTINE_US, left_channel);
    left_timers[1] = TIMER(0, 10 * ROUTINE_US, ring, &b);
    left_timers[2] = TIMER(3600 * ROUTINE_S, 0, not_called, NULL);
    CHECK_EQ(chan_recv(left_channel, &at), 0);
    return 7;
}

/* A panic in the function is that of a routine that nobody joins. */
static void panic_in_it(void *arg)
{
    (void)arg;
    routine_panic("the bell is cracked: %d", 42);
}

static int case_panic(void)
{
    routine_timer_t *t = TIMER(0, 0, panic_in_it, NULL);
    usleep(10000000);
    routine_timer_free(t);
    return 0;
}

static _Atomic long panics;

static bool count_panics(const routine_panic_t *panic)
{
    CHECK_STR(panic->message, "the bell is cracked: 42");
    atomic_fetch_add(&panics, 1);
    return true;
}

/* And if the hook lets the process go on, so does a ticker. */
static int case_panic_hook(void)
{
    routine_set_panic_hook(count_panics);
    routine_timer_t *t = TIMER(0, 50 * ROUTINE_US, panic_in_it, NULL);
    AWAIT(atomic_load(&panics) >= 5);
    CHECK(routine_timer_stop(t));
    routine_timer_free(t);
    return 0;
}

/* A forked child starts afresh: the timers of its parent are not its own. */
static int case_fork(void)
{
    struct bell b;
    bell_init(&b);
    chan_t *ch = MAKE(int64_t, 8);
    int64_t at;
    routine_timer_t *t = TICKER(0, 10 * ROUTINE_US, ch), *f = TIMER(ROUTINE_NEVER, 0, ring, &b);
    CHECK_EQ(chan_recv(ch, &at), 0);
    for (int i = 0; i < 5; i++) {
        const pid_t pid = fork();
        if (pid == 0) {
            atomic_store(&support_failures, 0);
            alarm(support_slow() ? 60 : 15);
            chan_t *own = MAKE(int64_t, 1);
            routine_timer_t *mine = TICKER(100 * ROUTINE_US, 0, own);
            CHECK_EQ(chan_recv(own, &at), 0);
            CHECK(!routine_timer_stop(mine));
            routine_timer_free(mine);
            chan_unref(own);
            _exit(atomic_load(&support_failures) != 0);
        }
        int status = -1;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        while (chan_try_recv(ch, &at) == 0)
            ;
        CHECK_EQ(chan_recv(ch, &at), 0); /* the parent does not notice */
    }
    CHECK(routine_timer_reset(f, 0));
    bell_wait(&b);
    routine_timer_free(t);
    routine_timer_free(f);
    chan_unref(ch);
    return 0;
}

static const struct support_case cases[] = {
    {"first", case_first}, {"again", case_again},           {"left", case_left},
    {"panic", case_panic}, {"panic-hook", case_panic_hook}, {"fork", case_fork},
};

TEST(processes)
{
    struct support_result r;
    CASE_EXITS(&r, "first", NULL, 0);
    CASE_EXITS(&r, "again", NULL, 0);
    CASE_EXITS(&r, "left", NULL, 7);
    CASE_DIES(&r, "panic", NULL, SIGABRT);
    CASE_SAYS(&r, "panic", "the bell is cracked: 42");
    CASE_EXITS(&r, "panic-hook", NULL, 0);
    CASE_EXITS(&r, "fork", NULL, 0);
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_never_early),
        cmocka_unit_test(a_channel_never_early),
        cmocka_unit_test(at_once),
        cmocka_unit_test(never),
        cmocka_unit_test(arguments),
        cmocka_unit_test(a_ticker_has_a_grid),
        cmocka_unit_test(a_function_has_a_grid),
        cmocka_unit_test(late_ticks_are_left_out),
        cmocka_unit_test(ticks_during_a_call_are_left_out),
        cmocka_unit_test(never_twice_at_the_same_time),
        cmocka_unit_test(a_full_channel_drops),
        cmocka_unit_test(a_rendezvous),
        cmocka_unit_test(an_unbounded_channel_keeps_all),
        cmocka_unit_test(a_broadcast),
        cmocka_unit_test(in_a_select),
        cmocka_unit_test(a_closed_channel_stops_it),
        cmocka_unit_test(the_channel_is_kept),
        cmocka_unit_test(stopped_before),
        cmocka_unit_test(stopped_during_the_call),
        cmocka_unit_test(freed_during_the_call),
        cmocka_unit_test(reset_to_later_and_to_earlier),
        cmocka_unit_test(reset_of_a_ticker),
        cmocka_unit_test(a_watchdog),
        cmocka_unit_test(stop_against_the_expiry),
        cmocka_unit_test(reset_against_the_expiry),
        cmocka_unit_test(stop_against_ticks),
        cmocka_unit_test(free_against_the_expiry),
        cmocka_unit_test(calls_against_stops),
        cmocka_unit_test(besieged_by_routines_and_threads),
        cmocka_unit_test(besieged_functions_of_a_runtime),
        cmocka_unit_test(reset_in_the_call),
        cmocka_unit_test(stop_in_the_call),
        cmocka_unit_test(free_in_the_call),
        cmocka_unit_test(exit_in_the_call),
        cmocka_unit_test(limits_do_not_reach_the_function),
        cmocka_unit_test(an_earlier_one_interrupts_a_sleep),
        cmocka_unit_test(in_an_idle_runtime),
        cmocka_unit_test(beside_busy_workers),
        cmocka_unit_test(beside_one_that_computes),
        cmocka_unit_test(the_order_on_one_worker),
        cmocka_unit_test(a_million_pending),
        cmocka_unit_test(thousands_fire),
        cmocka_unit_test(a_shutdown_is_not_held_up),
        cmocka_unit_test(a_shutdown_against_resets),
        cmocka_unit_test(a_shutdown_that_gives_up),
        cmocka_unit_test(a_shutdown_waits_for_the_call),
        cmocka_unit_test(processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
