/* SPDX-License-Identifier: MIT
 *
 * Tests of src/sched/wheel.{h,c}.
 * ctest: timeout 120
 *
 * Every operation against a plain model, a sorted array, over all scales of time from a nanosecond to the
 * ends of int64_t; and what a wheel could get wrong by its nature: the edges of slots and levels, the order
 * of equal deadlines that were added at different distances, deadlines in the past, clocks that jump.
 * Operations that would cost a walk over a million timers, or over the ticks of a century, are done so often
 * that the test would not end if they did.
 */
#include "support.h"

#include "sched/wheel.h"

#define TICK (INT64_C(1) << RT_WHEEL_TICK_BITS)

/* A timer, and when it was added among all. */
typedef struct {
    rt_timer timer;
    uint64_t order;
} item;

static item *item_of(rt_timer *t)
{
    return RT_CONTAINER_OF(t, item, timer);
}

static int64_t sum(int64_t a, int64_t b)
{
    int64_t result;
    return __builtin_add_overflow(a, b, &result) ? (b > 0 ? INT64_MAX : INT64_MIN) : result;
}

static rt_wheel *new_wheel(int64_t now)
{
    rt_wheel *w = malloc(sizeof *w);
    if (!w)
        abort();
    memset(w, 0xa5, sizeof *w);
    rt_wheel_init(w, now);
    return w;
}

static item *new_items(size_t n)
{
    item *items = calloc(n, sizeof *items);
    if (!items)
        abort();
    for (size_t i = 0; i < n; i++)
        items[i].order = i;
    return items;
}

static void add(rt_wheel *w, item *it, int64_t when)
{
    it->timer.when = when;
    CHECK(!rt_timer_is_set(&it->timer));
    rt_wheel_add(w, &it->timer);
    CHECK(rt_timer_is_set(&it->timer));
}

/* Exactly this one is due at `now`. */
static void check_fires(rt_wheel *w, const item *it, int64_t now)
{
    rt_timer *t = rt_wheel_expire(w, now, SIZE_MAX);
    CHECK(t == &it->timer);
    CHECK(t && !t->next && !rt_timer_is_set(t));
}

/* ---- what the head of wheel.h claims ---- */

static uint64_t tick_of(int64_t time)
{
    return ((uint64_t)time + (UINT64_C(1) << 63)) / (uint64_t)TICK;
}

/* W1 and W3, digit by digit */
static unsigned right_place(const rt_wheel *w, int64_t when)
{
    uint64_t tick = tick_of(when);
    if (tick < w->position)
        tick = w->position;
    for (unsigned level = RT_WHEEL_LEVELS - 1;; level--) {
        const uint64_t here = tick >> (6 * level) & 63, there = w->position >> (6 * level) & 63;
        if (here != there || level == 0)
            return level * 64 + (unsigned)here;
    }
}

static void audit(const rt_wheel *w)
{
    size_t count = 0;
    for (unsigned level = 0; level < RT_WHEEL_LEVELS; level++) {
        bool first = true;
        CHECK_EQ(w->levels >> level & 1, w->occupied[level] != 0);
        for (unsigned slot = 0; slot < RT_WHEEL_SLOTS; slot++) {
            const rt_timer *const head = w->slots[level][slot];
            const bool mixed = w->mixed[level] >> slot & 1;
            int64_t soonest = INT64_MAX;
            CHECK_EQ(w->occupied[level] >> slot & 1, head != NULL);
            if (!head) {
                CHECK(!mixed);
                continue;
            }
            const rt_timer *t = head;
            do {
                CHECK_EQ(t->place, level * 64 + slot);
                CHECK_EQ(t->place, right_place(w, t->when));
                CHECK(t->next->prev == t);
                CHECK(mixed || t->next == head || t->when <= t->next->when); /* W6 */
                soonest = t->when < soonest ? t->when : soonest;
                count++;
                t = t->next;
            } while (t != head);
            if (first && w->exact >> level & 1)
                CHECK_EQ(w->soonest[level], soonest); /* W7 */
            CHECK(w->soonest[level] <= soonest);
            first = false;
        }
    }
    CHECK_EQ(count, rt_wheel_count(w));
}

/* ---- small cases ---- */

TEST(an_empty_wheel)
{
    static const int64_t times[] = {0, 1, -1, INT64_MIN, INT64_MAX, 123456789};
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        rt_wheel *w = new_wheel(times[i]);
        CHECK(w->position == tick_of(times[i]));
        for (size_t k = 0; k < COUNT_OF(times); k++) {
            CHECK_EQ(rt_wheel_count(w), 0);
            CHECK_EQ(rt_wheel_next(w), INT64_MAX);
            CHECK_EQ(rt_wheel_not_before(w), INT64_MAX);
            CHECK(rt_wheel_expire(w, times[k], SIZE_MAX) == NULL);
            CHECK(rt_wheel_expire(w, times[k], 0) == NULL);
            audit(w);
        }
        free(w);
    }
    CHECK(sizeof(rt_wheel) < 6144);
}

/* All alone: known exactly, removed without a trace, not early by a nanosecond, and not late. */
static void alone(int64_t now, int64_t when)
{
    rt_wheel *w = new_wheel(now);
    item *it = new_items(1);
    for (int round = 0; round < 2; round++) {
        add(w, it, when);
        CHECK_EQ(rt_wheel_count(w), 1);
        CHECK_EQ(rt_wheel_next(w), when);
        CHECK_EQ(rt_wheel_not_before(w), when);
        audit(w);
        if (round == 0) {
            rt_wheel_remove(w, &it->timer);
            CHECK(!rt_timer_is_set(&it->timer));
            CHECK_EQ(rt_wheel_count(w), 0);
            CHECK_EQ(rt_wheel_next(w), INT64_MAX);
            audit(w);
        }
    }
    if (when > INT64_MIN) {
        CHECK(rt_wheel_expire(w, when - 1, SIZE_MAX) == NULL);
        CHECK_EQ(rt_wheel_next(w), when);
        audit(w);
    }
    CHECK(rt_wheel_expire(w, when, 0) == NULL);
    check_fires(w, it, when);
    CHECK_EQ(rt_wheel_next(w), INT64_MAX);
    audit(w);
    free(it);
    free(w);
}

static const int64_t bases[] = {
    0,
    1,
    TICK - 1,
    TICK,
    63 * TICK,
    64 * TICK - 1,
    64 * TICK,
    4095 * TICK,
    4096 * TICK,
    1234567890123456,
    INT64_MAX - 5,
    INT64_MAX,
    -1,
    -TICK,
    -64 * TICK,
    -4096 * TICK - 1,
    -987654321,
    INT64_MIN,
    INT64_MIN + 1,
};

/* now + 64^k ticks + d, and the edges of the slots around it, by number. */
static int64_t edge(int64_t now, unsigned number)
{
    const unsigned k = number % 10, d = number / 10 % 5, how = number / 50;
    const int64_t width = k < 9 ? TICK << 6 * k : INT64_MAX;
    const int64_t when = sum(now, how & 1 ? -width : width);
    const int64_t begin = (int64_t)((uint64_t)when & ~((uint64_t)width - 1));
    return sum(how & 2 && k < 9 ? begin : when, (int64_t)d - 2);
}

enum { EDGES = 200 };

TEST(every_edge_of_slots_and_levels)
{
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        for (unsigned n = 0; n < EDGES; n++)
            alone(bases[i], edge(bases[i], n));
        for (size_t k = 0; k < COUNT_OF(bases); k++)
            alone(bases[i], bases[k]);
    }
}

static int compare(const void *a, const void *b)
{
    const item *x = *(item *const *)a, *y = *(item *const *)b;
    if (x->timer.when != y->timer.when)
        return x->timer.when < y->timer.when ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* The same all at once, by a clock that stops just before each and at each. */
TEST(all_edges_together)
{
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        rt_wheel *w = new_wheel(bases[i]);
        item *items = new_items(EDGES), *sorted[EDGES];
        for (unsigned n = 0; n < EDGES; n++) {
            sorted[n] = &items[n];
            add(w, &items[n], edge(bases[i], n));
        }
        qsort(sorted, EDGES, sizeof sorted[0], compare);
        audit(w);
        for (size_t n = 0; n < EDGES; n++) {
            const int64_t when = sorted[n]->timer.when;
            CHECK_EQ(rt_wheel_next(w), when);
            if (when > INT64_MIN)
                CHECK(rt_wheel_expire(w, when - 1, SIZE_MAX) == NULL);
            audit(w);
            CHECK(rt_wheel_expire(w, when, 1) == &sorted[n]->timer);
            audit(w);
        }
        CHECK_EQ(rt_wheel_count(w), 0);
        free(items);
        free(w);
    }
}

TEST(equal_deadlines_keep_their_order)
{
    enum { EACH = 3, STEPS = 60 };
    /* The same deadline, and its neighbours, are added from ever nearer, so first to high levels and then to
     * low ones; the clock passes no boundary, one, or many between. */
    for (int64_t distance = 1; distance < INT64_MAX / 4; distance *= 3) {
        const int64_t now = -distance / 3, when = now + distance;
        rt_wheel *w = new_wheel(now);
        item *items = new_items((size_t)EACH * STEPS);
        size_t n = 0;
        int64_t left = distance;
        for (int step = 0; step < STEPS; step++) {
            add(w, &items[n++], when);
            add(w, &items[n++], when + (step % 3 == 0));
            add(w, &items[n++], when);
            left -= left / 3;
            CHECK(rt_wheel_expire(w, when - left, SIZE_MAX) == NULL);
            CHECK_EQ(rt_wheel_next(w), when);
            audit(w);
        }
        CHECK(rt_wheel_expire(w, when - 1, SIZE_MAX) == NULL);
        for (int later = 0; later < 2; later++) {
            rt_timer *t = rt_wheel_expire(w, when + later, SIZE_MAX);
            for (size_t i = 0; i < n; i++)
                if (items[i].timer.when == when + later) {
                    CHECK(t == &items[i].timer);
                    t = t ? t->next : NULL;
                }
            CHECK(t == NULL);
        }
        CHECK_EQ(rt_wheel_count(w), 0);
        free(items);
        free(w);
    }
}

TEST(past_deadlines)
{
    static const int64_t now = 5000 * TICK + 7;
    static const int64_t whens[] = {now - 1,   now,     now + 1,   INT64_MIN, 0,  now - TICK, now - 1,
                                    INT64_MIN, now - 2, INT64_MAX, INT64_MAX, -1, now,        now + 2};
    static const size_t order[] = {3, 7, 11, 4, 5, 8, 0, 6, 1, 12}; /* of those that are due */
    rt_wheel *w = new_wheel(0);
    item *items = new_items(COUNT_OF(whens));
    CHECK(rt_wheel_expire(w, now, SIZE_MAX) == NULL);
    for (size_t i = 0; i < COUNT_OF(whens); i++)
        add(w, &items[i], whens[i]);
    CHECK_EQ(rt_wheel_next(w), INT64_MIN);
    audit(w);
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        rt_timer *t = rt_wheel_expire(w, now, 1);
        CHECK(t == &items[order[i]].timer);
        audit(w);
    }
    CHECK(rt_wheel_expire(w, now, SIZE_MAX) == NULL);
    CHECK_EQ(rt_wheel_next(w), now + 1);
    check_fires(w, &items[2], now + 1);
    check_fires(w, &items[13], INT64_MAX - 1);
    CHECK_EQ(rt_wheel_next(w), INT64_MAX);
    CHECK_EQ(rt_wheel_count(w), 2);

    /* the end of time: everything is past now */
    rt_timer *t = rt_wheel_expire(w, INT64_MAX, SIZE_MAX);
    CHECK(t == &items[9].timer && t->next == &items[10].timer && !t->next->next);
    add(w, &items[0], INT64_MAX);
    add(w, &items[1], INT64_MAX - 1);
    add(w, &items[2], 0);
    audit(w);
    t = rt_wheel_expire(w, INT64_MAX, SIZE_MAX);
    CHECK(t == &items[2].timer && t->next == &items[1].timer && t->next->next == &items[0].timer);
    free(items);
    free(w);
}

TEST(a_clock_that_steps_back)
{
    for (int64_t step = 1; step < (INT64_C(1) << 50); step *= 2) {
        const int64_t now = INT64_C(1) << 55;
        rt_wheel *w = new_wheel(0);
        item *items = new_items(4);
        CHECK(rt_wheel_expire(w, now, SIZE_MAX) == NULL);
        add(w, &items[0], now - step);
        add(w, &items[1], now + 1);
        add(w, &items[2], now - step - 1);
        add(w, &items[3], now - step + 1);
        CHECK(rt_wheel_expire(w, now - step - 2, SIZE_MAX) == NULL);
        CHECK_EQ(rt_wheel_next(w), now - step - 1);
        rt_timer *t = rt_wheel_expire(w, now - step, SIZE_MAX);
        CHECK(t == &items[2].timer && t->next == &items[0].timer && !t->next->next);
        audit(w);
        CHECK(rt_wheel_expire(w, now - step, SIZE_MAX) == NULL);
        CHECK(rt_wheel_expire(w, INT64_MIN, SIZE_MAX) == NULL);
        CHECK_EQ(rt_wheel_next(w), now - step + 1);
        audit(w);
        check_fires(w, &items[3], now);
        check_fires(w, &items[1], now + 1);
        free(items);
        free(w);
    }
}

TEST(jumps_cost_nothing)
{
    rt_wheel *w = new_wheel(0);
    item *items = new_items(2);
    const long rounds = support_scale(1000000);
    const int64_t jump = INT64_MAX / rounds; /* hours: billions of ticks */
    int64_t now = 0;
    add(w, &items[1], INT64_MAX);
    for (long i = 0; i < rounds; i++) {
        const int64_t when = now + jump / 2 + i;
        add(w, &items[0], when);
        CHECK_EQ(rt_wheel_next(w), when);
        check_fires(w, &items[0], now += jump);
    }
    check_fires(w, &items[1], INT64_MAX);
    free(items);
    free(w);
}

/* Each is added again, while the list it came in is walked. */
TEST(periodic_timers)
{
    static const int64_t periods[] = {1, 2, 999, TICK, TICK + 1, 65536, 1000000, 3000000, 50000000};
    int64_t fired[COUNT_OF(periods)] = {0};
    const int64_t start = 77777777777777, stop = support_slow() ? 100000 : 2000000;
    rt_wheel *w = new_wheel(start);
    item *items = new_items(COUNT_OF(periods));
    uint64_t random = 0xbe11;
    for (size_t i = 0; i < COUNT_OF(periods); i++)
        add(w, &items[i], start + periods[i]);
    for (int64_t now = start; now < start + stop;) {
        now += (int64_t)(support_random(&random) >> 32) % (support_random(&random) >> 32 & 15 ? 50 : 5000);
        for (rt_timer *t, *next; (t = rt_wheel_expire(w, now, 4));)
            for (; t; t = next) {
                const size_t i = (size_t)(item_of(t) - items);
                next = t->next;
                fired[i]++;
                CHECK(t->when <= now);
                CHECK_EQ(t->when, start + fired[i] * periods[i]);
                add(w, &items[i], t->when + periods[i]);
            }
        for (size_t i = 0; i < COUNT_OF(periods); i++)
            CHECK_EQ(fired[i], (now - start) / periods[i]);
    }
    free(items);
    free(w);
}

/* ---- a million ---- */

static size_t million(void)
{
    return (size_t)support_scale(1000000);
}

/* The whole list is in order, and within (after, until]. */
static size_t check_list(rt_timer *t, int64_t after, int64_t until)
{
    size_t n = 0;
    for (const rt_timer *before = NULL; t; before = t, t = t->next, n++) {
        CHECK(!rt_timer_is_set(t));
        CHECK(t->when > after && t->when <= until);
        CHECK(!before || before->when < t->when ||
              (before->when == t->when && item_of((rt_timer *)before)->order < item_of(t)->order));
    }
    return n;
}

static void shuffle(item **items, size_t n, uint64_t *random)
{
    for (size_t i = n; i > 1; i--) {
        const size_t k = (support_random(random) >> 11) % i;
        item *const swap = items[i - 1];
        items[i - 1] = items[k];
        items[k] = swap;
    }
}

TEST(a_million_added_and_removed)
{
    const size_t n = million();
    const int64_t now = 1000000000000;
    rt_wheel *w = new_wheel(now);
    item *items = new_items(n), **shuffled = malloc(n * sizeof(item *));
    uint64_t random = 0x111;
    assert_non_null(shuffled);
    for (int order = 0; order < 3; order++) {
        for (size_t i = 0; i < n; i++) {
            shuffled[i] = &items[i];
            add(w, &items[i], now + (int64_t)(support_random(&random) >> 20) % (60 * ROUTINE_S));
        }
        CHECK_EQ(rt_wheel_count(w), n);
        if (order == 1)
            shuffle(shuffled, n, &random);
        else if (order == 2)
            qsort(shuffled, n, sizeof shuffled[0], compare);
        for (size_t i = 0; i < n; i++) {
            rt_wheel_remove(w, &shuffled[i]->timer);
            CHECK(rt_wheel_not_before(w) <=
                  (order == 2 && i + 1 < n ? shuffled[i + 1]->timer.when : INT64_MAX));
            if (i % (n / 8) == 0)
                audit(w);
        }
        CHECK_EQ(rt_wheel_count(w), 0);
        CHECK_EQ(rt_wheel_next(w), INT64_MAX);
        audit(w);
    }
    free(shuffled);
    free(items);
    free(w);
}

/* A third is removed on the way; the others come out once each, in time. */
TEST(a_million_expired)
{
    const size_t n = million();
    static const int64_t spans[] = {TICK, ROUTINE_MS, 60 * ROUTINE_S, INT64_MAX / 2};
    rt_wheel *w = new_wheel(-5);
    item *items = new_items(n);
    uint64_t random = 0x222;
    for (size_t k = 0; k < COUNT_OF(spans); k++) {
        int64_t now = -5;
        size_t out = 0, removed = 0;
        rt_wheel_init(w, now);
        for (size_t i = 0; i < n; i++)
            add(w, &items[i], (int64_t)(support_random(&random) >> 1) % spans[k]);
        while (rt_wheel_count(w) > 0) {
            const int64_t until = sum(now, 1 + (int64_t)(support_random(&random) >> 1) % (spans[k] / 20));
            const size_t most = support_random(&random) >> 16 & 1 ? 1000 : SIZE_MAX;
            int64_t after = now;
            for (rt_timer *t; (t = rt_wheel_expire(w, until, most));) {
                const size_t some = check_list(t, after, until);
                CHECK(some <= most);
                after = t->when - 1; /* the next list has nothing that is before this one's first */
                out += some;
            }
            now = until;
            for (size_t i = 0; i < n / 60; i++) {
                item *it = &items[(support_random(&random) >> 11) % n];
                if (rt_timer_is_set(&it->timer)) {
                    rt_wheel_remove(w, &it->timer);
                    removed++;
                }
            }
            CHECK(rt_wheel_count(w) == 0 || rt_wheel_next(w) > now);
        }
        CHECK_EQ(out + removed, n);
        CHECK(out > 0 && removed > 0);
        audit(w);
    }
    free(items);
    free(w);
}

/* A crowd in a single slot is sorted once, not for each that is taken from it. */
TEST(a_million_in_one_slot_taken_one_by_one)
{
    const size_t n = million();
    rt_wheel *w = new_wheel(0);
    item *items = new_items(n);
    uint64_t random = 0x333;
    for (int how = 0; how < 3; how++) {
        /* in one tick; all equal; in order in one slot of a higher level */
        const int64_t start = (INT64_C(1) << 60) * (how + 1);
        for (size_t i = 0; i < n; i++)
            add(w, &items[i],
                start + (how == 0   ? (int64_t)(support_random(&random) >> 11) % TICK
                         : how == 1 ? 0
                                    : (int64_t)i));
        item *before = NULL;
        for (size_t i = 0; i < n; i++) {
            rt_timer *t = rt_wheel_expire(w, start + (int64_t)n + TICK, 1);
            CHECK(t && !t->next);
            if (!t)
                break;
            item *it = item_of(t);
            CHECK(!before || compare(&before, &it) < 0);
            CHECK_EQ(rt_wheel_count(w), n - 1 - i);
            if (i + 1 < n)
                CHECK(rt_wheel_next(w) >= t->when);
            before = it;
        }
        CHECK_EQ(rt_wheel_count(w), 0);
    }
    free(items);
    free(w);
}

/* A crowd far away, in disorder, beside a timer that is set anew over and over: the crowd's earliest is
 * looked for once. And: a crowd in order whose earliest is removed over and over. */
TEST(next_beside_a_crowd)
{
    const size_t n = million();
    rt_wheel *w = new_wheel(0);
    item *items = new_items(n + 1);
    const int64_t far = INT64_C(1) << 58;
    int64_t now = 0;
    for (size_t i = 0; i < n; i++)
        add(w, &items[i], far + (int64_t)(i % 2 ? i : n - i));
    rt_wheel_remove(w, &items[1].timer);
    CHECK_EQ(rt_wheel_next(w), far + 2);
    for (size_t i = 0; i < n; i++) {
        add(w, &items[n], now + 100 * ROUTINE_US);
        CHECK_EQ(rt_wheel_next(w), now + 100 * ROUTINE_US);
        if (i % 2) {
            now += 100 * ROUTINE_US;
            check_fires(w, &items[n], now);
        } else {
            rt_wheel_remove(w, &items[n].timer);
        }
        CHECK_EQ(rt_wheel_next(w), far + 2);
    }
    CHECK_EQ(check_list(rt_wheel_expire(w, INT64_MAX / 2, SIZE_MAX), now, INT64_MAX / 2), n - 1);

    for (size_t i = 0; i < n; i++)
        add(w, &items[i], INT64_MAX - (int64_t)n + (int64_t)i);
    for (size_t i = 0; i + 1 < n; i++) {
        rt_wheel_remove(w, &items[i].timer);
        CHECK_EQ(rt_wheel_next(w), items[i + 1].timer.when);
    }
    audit(w);
    free(items);
    free(w);
}

/* Who sleeps by rt_wheel_not_before is never late, and seldom woken in vain. */
TEST(sleep_by_not_before)
{
    enum { TIMERS = 20000 };
    rt_wheel *w = new_wheel(0);
    item *items = new_items(TIMERS);
    uint64_t random = 0x444;
    for (int shift = 4; shift < 62; shift += 3) {
        size_t vain = 0, fired = 0, removed = 0;
        int64_t now = 0;
        rt_wheel_init(w, 0);
        for (size_t i = 0; i < TIMERS; i++)
            add(w, &items[i], (int64_t)(support_random(&random) >> (63 - shift) >> 1) + 1);
        while (rt_wheel_count(w) > 0) {
            CHECK(rt_wheel_not_before(w) > now); /* or this would not end */
            now = rt_wheel_not_before(w);
            rt_timer *t = rt_wheel_expire(w, now, SIZE_MAX);
            vain += !t;
            for (; t; t = t->next, fired++)
                CHECK_EQ(t->when, now);
            item *it = &items[(support_random(&random) >> 11) % TIMERS];
            if (rt_timer_is_set(&it->timer)) {
                rt_wheel_remove(w, &it->timer);
                removed++;
            }
        }
        CHECK_EQ(fired + removed, TIMERS);
        CHECK(vain <= fired + removed);
    }
    free(items);
    free(w);
}

/* ---- any order of calls ---- */

enum { MOST = 4000 };

typedef struct {
    rt_wheel *wheel;
    int64_t now;
    uint64_t random, order;
    item *sorted[MOST]; /* the model: by `when`, equal ones by order */
    size_t count;
    item items[MOST], *idle[MOST];
    size_t idle_count;
} world;

static uint64_t dice(world *m, uint64_t sides)
{
    return (support_random(&m->random) >> 13) % sides;
}

/* Of any size: as likely below 2 as around 2^62. */
static int64_t some_distance(world *m, unsigned most_bits)
{
    return (int64_t)(support_random(&m->random) >> 1 >> (63 - dice(m, most_bits + 1)));
}

static int64_t some_deadline(world *m, unsigned bits)
{
    switch (dice(m, 16)) {
    case 0:
        return m->count > 0 ? m->sorted[dice(m, m->count)]->timer.when : m->now;
    case 1:
        return sum(m->now, -some_distance(m, bits));
    case 2:
        return edge(m->now, (unsigned)dice(m, EDGES));
    case 3:
        return dice(m, 100) ? sum(m->now, 1) : dice(m, 2) ? INT64_MAX : INT64_MIN;
    case 4:
        return m->count > 0 ? sum(m->sorted[dice(m, m->count)]->timer.when, some_distance(m, 12) - 2048)
                            : m->now;
    default:
        return sum(m->now, some_distance(m, bits));
    }
}

/* How many of the model are before `it`. */
static size_t rank(const world *m, item *it)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (compare(&m->sorted[middle], &it) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void model_take(world *m, size_t at, size_t n)
{
    for (size_t i = at; i < at + n; i++)
        m->idle[m->idle_count++] = m->sorted[i];
    m->count -= n;
    memmove(&m->sorted[at], &m->sorted[at + n], (m->count - at) * sizeof m->sorted[0]);
}

static void add_some(world *m, unsigned bits)
{
    item *it = m->idle[--m->idle_count];
    it->order = m->order++;
    add(m->wheel, it, some_deadline(m, bits));
    const size_t at = rank(m, it);
    memmove(&m->sorted[at + 1], &m->sorted[at], (m->count - at) * sizeof m->sorted[0]);
    m->sorted[at] = it;
    m->count++;
}

static void remove_some(world *m)
{
    const size_t at = dice(m, 4) ? dice(m, m->count) : 0;
    rt_wheel_remove(m->wheel, &m->sorted[at]->timer);
    CHECK(!rt_timer_is_set(&m->sorted[at]->timer));
    model_take(m, at, 1);
}

static void expire_some(world *m, unsigned bits)
{
    const size_t most = dice(m, 3) ? SIZE_MAX : dice(m, 5);
    int64_t now = m->now;
    switch (dice(m, 8)) {
    case 0: /* two threads read the clock */
        now = sum(now, -some_distance(m, 20));
        break;
    case 1:
        now = m->count > 0 ? m->sorted[0]->timer.when : now;
        break;
    case 2:
        now = m->count > 0 ? sum(m->sorted[dice(m, m->count)]->timer.when, (int64_t)dice(m, 3) - 1) : now;
        if (bits < 63 && now > sum(m->now, INT64_C(1) << bits)) /* not too far: all would be over */
            now = m->now;
        break;
    default:
        now = sum(now, some_distance(m, dice(m, 20) ? bits / 2 + 1 : bits));
    }
    size_t n = 0;
    rt_timer *t = rt_wheel_expire(m->wheel, now, most);
    for (; t && n < m->count; t = t->next, n++) {
        CHECK(t == &m->sorted[n]->timer);
        CHECK(t->when <= now);
        CHECK(!rt_timer_is_set(t));
    }
    CHECK(t == NULL);
    CHECK(n == most || n == m->count || m->sorted[n]->timer.when > now);
    CHECK(n <= most);
    CHECK(n == most || m->wheel->position >= tick_of(now)); /* it has learnt the time */
    model_take(m, 0, n);
    m->now = now > m->now ? now : m->now;
}

static void any_calls(int64_t start, unsigned bits, size_t limit, long rounds, uint64_t seed)
{
    world *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->wheel = new_wheel(start);
    m->now = start;
    m->random = seed;
    for (; m->idle_count < MOST; m->idle_count++)
        m->idle[m->idle_count] = &m->items[m->idle_count];
    for (long i = 0; i < rounds && atomic_load(&support_failures) == 0; i++) {
        const uint64_t what = dice(m, 16), filling = (uint64_t)i / (4 * limit) % 2;
        if (what < 6 + 2 * filling) {
            if (m->count < limit)
                add_some(m, bits);
        } else if (what < 12) {
            if (m->count > 0)
                remove_some(m);
        } else if (what < 14) {
            expire_some(m, bits);
        } else {
            CHECK_EQ(rt_wheel_next(m->wheel), m->count > 0 ? m->sorted[0]->timer.when : INT64_MAX);
        }
        CHECK(rt_wheel_not_before(m->wheel) <= (m->count > 0 ? m->sorted[0]->timer.when : INT64_MAX));
        CHECK_EQ(rt_wheel_count(m->wheel), m->count);
        if (i % (long)(8 * limit) == 0)
            audit(m->wheel);
    }
    audit(m->wheel);
    free(m->wheel);
    free(m);
}

TEST(as_a_plain_model_has_it)
{
    static const unsigned bits[] = {3, 10, 13, 16, 22, 28, 35, 42, 50, 62};
    static const size_t limits[] = {3, 30, 300, MOST};
    uint64_t seed = 0x5eed;
    for (size_t i = 0; i < COUNT_OF(bits); i++)
        for (size_t k = 0; k < COUNT_OF(limits); k++) {
            any_calls(0, bits[i], limits[k], support_scale(80000), seed++);
            any_calls((int64_t)support_random(&seed), bits[i], limits[k], support_scale(80000), seed);
        }
}

/* The clock gets to the end of time soon, and stays there: so many short lives instead. */
TEST(as_a_plain_model_has_it_at_all_distances)
{
    uint64_t seed = 0xfeed;
    for (long i = 0; i < support_scale(4000); i++) {
        const int64_t start = i % 3 ? (int64_t)support_random(&seed) : i % 2 ? INT64_MIN : -1;
        any_calls(start, 63, 100, 500, support_random(&seed));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_wheel),
        cmocka_unit_test(every_edge_of_slots_and_levels),
        cmocka_unit_test(all_edges_together),
        cmocka_unit_test(equal_deadlines_keep_their_order),
        cmocka_unit_test(past_deadlines),
        cmocka_unit_test(a_clock_that_steps_back),
        cmocka_unit_test(jumps_cost_nothing),
        cmocka_unit_test(periodic_timers),
        cmocka_unit_test(a_million_added_and_removed),
        cmocka_unit_test(a_million_expired),
        cmocka_unit_test(a_million_in_one_slot_taken_one_by_one),
        cmocka_unit_test(next_beside_a_crowd),
        cmocka_unit_test(sleep_by_not_before),
        cmocka_unit_test(as_a_plain_model_has_it),
        cmocka_unit_test(as_a_plain_model_has_it_at_all_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
