/* SPDX-License-Identifier: MIT
 *
 * Tests of src/sched/deque.{h,c}.
 * ctest: timeout 120
 *
 * Alone: every operation against a plain model, at all fill levels around the growth of the ring, with
 * indices that have wrapped. Together: an owner and thieves; an item is a routine in small, with a word that
 * decides who starts it, as in src/routine/join.c: every entry comes out once, every item is started once.
 */
#include "support.h"

#include "sched/deque.h"

#define CAPACITY 256 /* of the first ring */

static void *item_of(size_t n)
{
    return (void *)(uintptr_t)(16 * (n + 1)); // NOLINT(performance-no-int-to-ptr): never followed
}

static void push(rt_deque *d, void *item)
{
    if (!rt_deque_push(d, item)) {
        CHECK(rt_deque_grow(d));
        CHECK(rt_deque_push(d, item));
    }
}

/* Takes as routine_join does; the claim always succeeds here. */
static bool take_newest(rt_deque *d, void *item)
{
    _Atomic uint64_t word = 0;
    uint64_t seen = 0;
    if (!rt_deque_is_newest(d, item))
        return false;
    const rt_deque_taking b = rt_deque_take_begin(d);
    atomic_compare_exchange_strong(&word, &seen, 1);
    return rt_deque_take_end(d, b);
}

/* Out of its place in the queue; not what is not there, and not while a thief is in. */
static size_t remove_oldest(rt_deque *d, void *oldest, void *other, bool thief)
{
    CHECK(rt_deque_peek(d) == oldest);
    CHECK(!rt_deque_remove(d, other));
    if (!thief) {
        CHECK(rt_deque_remove(d, oldest));
    } else {
        CHECK(!rt_deque_remove(d, oldest));
        CHECK(rt_deque_take_oldest(d) == oldest);
    }
    CHECK(!rt_deque_remove(d, oldest));
    return 1;
}

/* rt_deque_steal by a thief that stays in, if one is (`thief`) */
static void *steal(rt_deque *d, bool thief)
{
    return thief ? rt_deque_take_oldest(d) : rt_deque_steal(d);
}

/* From `n` items down to none, in a deque whose indices have moved on by `shift`. thief: one is in all the
 * time, so the owner settles by compare-and-swap (D4 rather than D6). */
static void fill_and_empty(size_t n, size_t shift, int how, bool thief)
{
    rt_deque d = {0};
    CHECK(rt_deque_init(&d));
    CHECK(!thief || rt_deque_enter(&d));
    for (size_t i = 0; i < shift; i++) {
        push(&d, item_of(0));
        CHECK(steal(&d, thief) == item_of(0));
    }
    CHECK(rt_deque_peek(&d) == NULL);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(rt_deque_size(&d), i);
        push(&d, item_of(i));
        CHECK(rt_deque_is_newest(&d, item_of(i)));
        CHECK(rt_deque_peek(&d) == item_of(0));
    }
    size_t oldest = 0, newest = n;
    while (oldest < newest) {
        CHECK_EQ(rt_deque_size(&d), newest - oldest);
        CHECK(rt_deque_peek(&d) == item_of(oldest));
        if (how == 0 || (how == 3 && newest % 3 == 0))
            CHECK(rt_deque_take(&d) == item_of(--newest));
        else if (how == 4)
            CHECK(rt_deque_take_oldest(&d) == item_of(oldest++));
        else if (how == 5)
            oldest += remove_oldest(&d, item_of(oldest), item_of(newest), thief);
        else if (how == 1 || (how == 3 && newest % 3 == 1))
            CHECK(steal(&d, thief) == item_of(oldest++));
        else
            CHECK(take_newest(&d, item_of(--newest)));
    }
    CHECK_EQ(rt_deque_size(&d), 0);
    CHECK(rt_deque_take(&d) == NULL);
    CHECK(steal(&d, thief) == NULL);
    CHECK(rt_deque_peek(&d) == NULL);
    push(&d, item_of(n));
    CHECK(rt_deque_take(&d) == item_of(n));
    if (thief)
        rt_deque_leave(&d);
    rt_deque_destroy(&d);
}

TEST(every_fill_level)
{
    static const size_t shifts[] = {0, 1, 100, CAPACITY - 1, CAPACITY, CAPACITY + 1};
    for (int how = 0; how < 12; how++) {
        for (size_t n = 0; n < 8; n++)
            fill_and_empty(n, n, how / 2, how % 2);
        for (size_t k = 0; k < COUNT_OF(shifts); k++)
            for (size_t full = CAPACITY; full <= (support_slow() ? 1 : 4) * CAPACITY; full *= 2)
                for (size_t n = full - 2; n <= full + 2; n++)
                    fill_and_empty(n, shifts[k], how / 2, how % 2);
    }
}

static void begin_and_abandon(bool thief)
{
    rt_deque d = {0};
    CHECK(rt_deque_init(&d));
    CHECK(!thief || rt_deque_enter(&d));
    for (size_t n = 0; n < 4; n++) {
        CHECK_EQ(rt_deque_size(&d), n);
        const rt_deque_taking taking = rt_deque_take_begin(&d);
        CHECK_EQ(taking.alone, !thief);
        CHECK_EQ(rt_deque_size(&d), n ? n - 1 : 0);
        CHECK(!rt_deque_enter(&d)); /* D6: it leaves again */
        CHECK(rt_deque_steal(&d) == NULL);
        if (n <= 1 && thief)
            CHECK(rt_deque_take_oldest(&d) == NULL); /* the announced one is out of reach */
        rt_deque_take_abandon(&d, taking);
        CHECK_EQ(rt_deque_size(&d), n);
        CHECK(rt_deque_push(&d, item_of(n)));
    }
    for (size_t n = 0; n < 4; n++)
        CHECK(steal(&d, thief) == item_of(n));
    if (thief)
        rt_deque_leave(&d);
    rt_deque_destroy(&d);
}

/* D7: out of the middle, at every fill level, place and offset to the ring's end: the newest takes its place,
 * and nothing else moves. What lies deeper than that stays. */
static void remove_from(size_t n, size_t shift, size_t at, bool thief)
{
    rt_deque d = {0};
    CHECK(rt_deque_init(&d));
    for (size_t i = 0; i < shift; i++) {
        push(&d, item_of(i));
        CHECK(rt_deque_take_oldest(&d) == item_of(i));
    }
    for (size_t i = 0; i < n; i++)
        push(&d, item_of(i));
    CHECK(!thief || rt_deque_enter(&d));
    const bool near = at == 0 || n - 1 - at < RT_DEQUE_NEAR;
    const bool removed = rt_deque_remove(&d, item_of(at));
    CHECK_EQ(removed, near && !thief);
    CHECK(!removed || !rt_deque_remove(&d, item_of(at)));
    CHECK(!rt_deque_remove(&d, item_of(n))); /* never was there */
    CHECK_EQ(rt_deque_size(&d), n - removed);
    for (size_t i = removed && at == 0 ? 1 : 0; i < n - (removed && at != 0); i++)
        CHECK(rt_deque_take_oldest(&d) == item_of(removed && i == at ? n - 1 : i));
    CHECK(rt_deque_take_oldest(&d) == NULL);
    if (thief)
        rt_deque_leave(&d);
    rt_deque_destroy(&d);
}

TEST(any_of_the_newest_can_be_removed)
{
    static const size_t shifts[] = {0, 1, CAPACITY - 20, CAPACITY - 3, CAPACITY};
    for (size_t k = 0; k < COUNT_OF(shifts); k++)
        for (size_t n = 1; n < 2 * RT_DEQUE_NEAR + 3; n++)
            for (size_t at = 0; at < n; at++) {
                remove_from(n, shifts[k], at, false);
                remove_from(n, shifts[k], at, true);
            }
}

/* Children joined in the order of their start, with others below them: no entry stays behind. */
TEST(in_the_order_of_their_start)
{
    rt_deque d = {0};
    CHECK(rt_deque_init(&d));
    for (size_t i = 0; i < 100; i++)
        push(&d, item_of(i));
    for (size_t n = 2; n <= RT_DEQUE_NEAR; n++) {
        for (size_t i = 0; i < n; i++)
            push(&d, item_of(1000 + i));
        for (size_t i = 0; i < n; i++)
            CHECK(take_newest(&d, item_of(1000 + i)) || rt_deque_remove(&d, item_of(1000 + i)));
        CHECK_EQ(rt_deque_size(&d), 100);
    }
    rt_deque_destroy(&d);
}

TEST(a_take_can_be_abandoned)
{
    begin_and_abandon(false);
    begin_and_abandon(true);
}

static void take_from_an_empty_one(bool thief)
{
    rt_deque d = {0};
    CHECK(rt_deque_init(&d));
    CHECK(!thief || rt_deque_enter(&d));
    for (size_t n = 0; n < 3 * CAPACITY; n++) {
        /* as if it showed an old pointer */
        CHECK(!rt_deque_take_end(&d, rt_deque_take_begin(&d)));
        CHECK_EQ(rt_deque_size(&d), 0);
        push(&d, item_of(n));
        CHECK(n % 2 ? steal(&d, thief) == item_of(n) : take_newest(&d, item_of(n)));
        CHECK(!rt_deque_remove(&d, item_of(n))); /* though it may show it still */
        CHECK(!rt_deque_take_end(&d, rt_deque_take_begin(&d)));
        CHECK_EQ(rt_deque_size(&d), 0);
    }
    rt_deque_destroy(&d);
}

TEST(an_empty_deque_gives_nothing)
{
    take_from_an_empty_one(false);
    take_from_an_empty_one(true);
}

TEST(a_thief_in_the_midst_of_a_take)
{
    rt_deque d = {0};
    CHECK(rt_deque_init(&d));
    CHECK(rt_deque_enter(&d));
    for (size_t n = 0; n < 2; n++)
        CHECK(rt_deque_push(&d, item_of(n)));
    rt_deque_taking taking = rt_deque_take_begin(&d);
    CHECK(rt_deque_take_oldest(&d) == item_of(0)); /* now the announced one is the last */
    CHECK(rt_deque_take_oldest(&d) == NULL);
    CHECK(rt_deque_take_end(&d, taking));
    CHECK_EQ(rt_deque_size(&d), 0);

    /* a thief that has read bottom before the take began may win the last one */
    CHECK(rt_deque_push(&d, item_of(2)));
    taking = rt_deque_take_begin(&d);
    atomic_fetch_add(&d.top, 1);
    CHECK(!rt_deque_take_end(&d, taking));
    CHECK_EQ(rt_deque_size(&d), 0);
    CHECK(rt_deque_take(&d) == NULL);

    /* one that counts itself once the take has begun waits or goes: the owner needs no compare-and-swap */
    rt_deque_leave(&d);
    CHECK(rt_deque_push(&d, item_of(3)));
    const int64_t top = atomic_load(&d.top);
    taking = rt_deque_take_begin(&d);
    CHECK(taking.alone);
    CHECK(!rt_deque_enter(&d));
    CHECK(rt_deque_take_end(&d, taking));
    CHECK_EQ(atomic_load(&d.top), top);
    CHECK(rt_deque_enter(&d)); /* it is out now */
    rt_deque_leave(&d);
    rt_deque_destroy(&d);
}

/* Any order of calls by the owner alone; above all, what is not empty never looks so. */
TEST(as_a_plain_model_has_it)
{
    enum { MOST = 3000 };
    static void *model[1 << 20];
    uint64_t random = 0x5eed;
    for (int run = 0; run < 4; run++) {
        size_t first = 0, end = 0, made = 0;
        rt_deque d = {0};
        CHECK(rt_deque_init(&d));
        const long rounds = support_scale(200000);
        for (long i = 0; i < rounds; i++) {
            const uint64_t dice = support_random(&random) >> 20;
            /* phases of filling and of emptying, of several thousand calls each */
            const bool filling = (i >> 12) % 2 == 0;
            CHECK_EQ(rt_deque_size(&d), end - first);
            if (dice % 8 < (filling ? 5 : 3) && end - first < MOST) {
                push(&d, model[end++] = item_of(made++));
                CHECK(rt_deque_is_newest(&d, model[end - 1]));
            } else if (dice % 8 == 5) {
                CHECK((dice & 256 ? rt_deque_steal(&d) : rt_deque_take_oldest(&d)) ==
                      (first < end ? model[first] : NULL));
                first += first < end;
            } else if (dice % 8 == 6 && first < end) {
                CHECK(take_newest(&d, model[--end]));
            } else if (first < end) {
                CHECK(rt_deque_take(&d) == model[--end]);
            } else {
                CHECK(rt_deque_take(&d) == NULL);
            }
        }
        rt_deque_destroy(&d);
    }
}

/* ---- together ---- */

enum { UNSTARTED, STARTED };

typedef struct {
    _Atomic uint64_t word;
    _Atomic uint32_t starts, outs;
    uint64_t written; /* plain: what the spawner wrote is to be seen by who starts it */
} item;

/* Lines that everybody writes: the owner's stores wait behind these in its store buffer, and what is missing
 * between them and a load comes to light. */
typedef struct {
    RT_ALIGNED _Atomic uint32_t line;
} traffic;

typedef struct {
    rt_deque deque;
    traffic lines[16];
    item *items;
    size_t count;
    bool stay;      /* thieves never leave, and hammer: the owner always has D3 and D4 to go by */
    unsigned pause; /* one in so many steps is followed by a pause */
    _Atomic bool over;
    _Atomic uint64_t stolen;
} arena;

static void write_lines(arena *a)
{
    for (size_t i = 0; i < COUNT_OF(a->lines); i++)
        atomic_store_explicit(&a->lines[i].line, 1, memory_order_relaxed);
}

static void maybe_pause(const arena *a, uint64_t *random)
{
    const uint64_t dice = support_random(random) >> 16;
    if (dice % a->pause != 0)
        return;
    if (dice / a->pause % 8 == 0)
        sched_yield();
    else
        for (uint64_t n = dice / a->pause % 200; n > 0; n--)
            __asm__ volatile("" ::: "memory");
}

static void out(item *it)
{
    CHECK_EQ(atomic_fetch_add(&it->outs, 1), 0);
}

static void started(const arena *a, item *it)
{
    CHECK_EQ(it->written, (uint64_t)(it - a->items) + 1);
    CHECK_EQ(atomic_fetch_add(&it->starts, 1), 0);
}

/* claim in scheduler.c */
static void claim(const arena *a, item *it)
{
    uint64_t word = atomic_load_explicit(&it->word, memory_order_acquire);
    if (word == UNSTARTED && atomic_compare_exchange_strong_explicit(
                                 &it->word, &word, STARTED, memory_order_acq_rel, memory_order_acquire))
        started(a, it);
}

static void *thief(void *arg)
{
    arena *a = arg;
    uint64_t random = (uintptr_t)&random | 1, stolen = 0;
    while (a->stay && !rt_deque_enter(&a->deque))
        continue;
    while (!atomic_load_explicit(&a->over, memory_order_relaxed)) {
        item *it = NULL;
        write_lines(a);
        if (a->stay) {
            it = rt_deque_take_oldest(&a->deque);
        } else if (support_random(&random) >> 16 & 1) {
            it = rt_deque_steal(&a->deque);
        } else if (rt_deque_enter(&a->deque)) {
            /* it stays for a few, and dawdles */
            for (uint64_t n = (support_random(&random) >> 16) % 4; n > 0; n--) {
                it = rt_deque_take_oldest(&a->deque);
                maybe_pause(a, &random);
                if (it && n > 1) {
                    out(it);
                    claim(a, it);
                    stolen++;
                }
            }
            rt_deque_leave(&a->deque);
        }
        if (it) {
            out(it);
            claim(a, it);
            stolen++;
        }
        if (!a->stay)
            maybe_pause(a, &random);
    }
    if (a->stay)
        rt_deque_leave(&a->deque);
    atomic_fetch_add(&a->stolen, stolen);
    return NULL;
}

/* routine_join, the short way and the long one */
static void join(arena *a, item *it, uint64_t *random)
{
    uint64_t word = UNSTARTED;
    if (rt_deque_is_newest(&a->deque, it)) {
        const rt_deque_taking taking = rt_deque_take_begin(&a->deque);
        if (!atomic_compare_exchange_strong_explicit(&it->word, &word, STARTED, memory_order_seq_cst,
                                                     memory_order_relaxed)) {
            rt_deque_take_abandon(&a->deque, taking);
            return;
        }
        if (rt_deque_take_end(&a->deque, taking))
            out(it);
        maybe_pause(a, random);
        started(a, it);
    } else if (support_random(random) % 2 &&
               atomic_compare_exchange_strong_explicit(&it->word, &word, STARTED, memory_order_seq_cst,
                                                       memory_order_relaxed)) {
        if (rt_deque_remove(&a->deque, it))
            out(it);
        started(a, it);
    } else {
        claim(a, it);
    }
}

/* burst: how many items are pushed in a row, at most. */
static void battle_with(bool stay, size_t thieves, size_t count, size_t burst, unsigned pause)
{
    arena a = {.stay = stay, .count = count, .pause = pause, .items = calloc(count, sizeof(item))};
    pthread_t threads[8];
    uint64_t random = 88172645463325252u;
    CHECK(a.items != NULL && rt_deque_init(&a.deque));
    for (size_t i = 0; i < thieves; i++)
        threads[i] = support_thread(thief, &a);
    size_t made = 0;
    while (made < count) {
        const uint64_t dice = support_random(&random) >> 16;
        for (size_t n = dice % burst + 1; n > 0 && made < count; n--) {
            item *it = &a.items[made++];
            it->written = made;
            push(&a.deque, it);
            maybe_pause(&a, &random);
        }
        for (size_t n = dice / burst % (burst + 1); n > 0; n--) {
            write_lines(&a);
            if (dice % 3 == 0) {
                item *it = dice % 5 ? rt_deque_take(&a.deque) : rt_deque_take_oldest(&a.deque);
                if (it) {
                    out(it);
                    claim(&a, it);
                }
            } else {
                /* of the newest ones, most often the very newest */
                const size_t back = (support_random(&random) >> 16) % 4 == 0 ? n : 1;
                item *it = (support_random(&random) >> 16) % 4 == 0 ? rt_deque_peek(&a.deque) : NULL;
                join(&a, it ? it : &a.items[made - (back > made ? made : back)], &random);
            }
            maybe_pause(&a, &random);
        }
    }
    for (item *it; (it = rt_deque_take(&a.deque)) != NULL || rt_deque_size(&a.deque) != 0;)
        if (it) {
            out(it);
            claim(&a, it);
        }
    atomic_store(&a.over, true);
    for (size_t i = 0; i < thieves; i++)
        pthread_join(threads[i], NULL);
    uint64_t starts = 0, outs = 0;
    for (size_t i = 0; i < count; i++) {
        starts += atomic_load(&a.items[i].starts);
        outs += atomic_load(&a.items[i].outs);
    }
    CHECK_EQ(starts, count);
    CHECK_EQ(outs, count);
    CHECK_EQ(rt_deque_size(&a.deque), 0);
    rt_deque_destroy(&a.deque);
    free(a.items);
}

static void battle(size_t thieves, size_t count, size_t burst, unsigned pause)
{
    battle_with(false, thieves, count, burst, pause);
}

TEST(a_thief_that_stays)
{
    battle_with(true, 1, (size_t)support_scale(2000000), 1, 1u << 30);
    battle_with(true, 1, (size_t)support_scale(500000), 3, 200);
}

TEST(one_thief_and_few_items)
{
    battle(1, (size_t)support_scale(1000000), 2, 1000);
}

TEST(thieves_and_few_items)
{
    battle(3, (size_t)support_scale(600000), 3, 50);
}

TEST(thieves_while_the_ring_grows)
{
    for (int i = 0; i < 20; i++)
        battle(3, (size_t)support_scale(40000), 1500, 400);
}

TEST(thieves_and_long_pauses)
{
    battle(4, (size_t)support_scale(200000), 8, 4);
}

/* The same without membarrier. */
static int fallback(void)
{
    rt_membarrier_init();
    CHECK(!rt_membarrier_works);
    battle(3, (size_t)support_scale(300000), 3, 50);
    battle(3, (size_t)support_scale(300000), 100, 1000);
    return 0;
}

static const struct support_case cases[] = {{"fallback", fallback}};

TEST(without_membarrier)
{
    static const char *const variables[] = {"ROUTINES_MEMBARRIER=0", NULL};
    struct support_result result;
    CASE_EXITS(&result, "fallback", variables, 0);
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    rt_membarrier_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fill_level),
        cmocka_unit_test(any_of_the_newest_can_be_removed),
        cmocka_unit_test(in_the_order_of_their_start),
        cmocka_unit_test(a_take_can_be_abandoned),
        cmocka_unit_test(an_empty_deque_gives_nothing),
        cmocka_unit_test(a_thief_in_the_midst_of_a_take),
        cmocka_unit_test(as_a_plain_model_has_it),
        cmocka_unit_test(a_thief_that_stays),
        cmocka_unit_test(one_thief_and_few_items),
        cmocka_unit_test(thieves_and_few_items),
        cmocka_unit_test(thieves_while_the_ring_grows),
        cmocka_unit_test(thieves_and_long_pauses),
        cmocka_unit_test(without_membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
