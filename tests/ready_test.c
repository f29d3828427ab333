/* SPDX-License-Identifier: MIT
 *
 * Tests of src/sched/ready.{h,c}: the order of the two queues, the next slot, the biased lock.
 * ctest: timeout 120
 */
#include "support.h"

#include "sched/ready.h"

#define MOST 64

static rt_block *blocks_new(size_t count)
{
    rt_block *blocks = aligned_alloc(RT_CACHE_LINE, count * sizeof *blocks);
    if (blocks == NULL)
        abort();
    memset((void *)blocks, 0, count * sizeof *blocks);
    return blocks;
}

/* The next `count` woken ones are b[first], b[first + 1], … */
static void expect_woken(rt_ready *l, rt_block *b, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        rt_block *r = rt_ready_pop(l);
        CHECK(r == &b[i]);
    }
}

static size_t chain_length(const rt_block *chain)
{
    size_t n = 0;
    for (; chain; chain = chain->link)
        n++;
    return n;
}

TEST(first_in_first_out)
{
    rt_ready l = {0};
    rt_block *b = blocks_new(10);
    CHECK(rt_ready_enter(&l));
    CHECK(rt_ready_pop(&l) == NULL);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 10; i++) {
            CHECK_EQ(rt_ready_size(&l), i);
            rt_ready_append(&l, &b[i]);
        }
        expect_woken(&l, b, 0, 10);
        CHECK(rt_ready_pop(&l) == NULL);
        CHECK_EQ(rt_ready_size(&l), 0);
    }
    rt_ready_leave(&l);
    free(b);
}

TEST(yielded_ones_are_apart)
{
    rt_ready l = {0};
    rt_block *b = blocks_new(6);
    CHECK(rt_ready_enter(&l));
    for (size_t i = 0; i < 3; i++) {
        rt_ready_append_yielded(&l, &b[3 + i]);
        rt_ready_append(&l, &b[i]);
    }
    CHECK_EQ(rt_ready_size(&l), 6);
    expect_woken(&l, b, 0, 3);
    CHECK(rt_ready_pop(&l) == NULL);
    CHECK_EQ(rt_ready_size(&l), 3);
    for (size_t i = 3; i < 6; i++)
        CHECK(rt_ready_pop_yielded(&l) == &b[i]);
    CHECK(rt_ready_pop_yielded(&l) == NULL);
    CHECK_EQ(rt_ready_size(&l), 0);
    rt_ready_leave(&l);
    free(b);
}

TEST(the_next_slot)
{
    rt_ready l = {0};
    rt_block *b = blocks_new(8);
    CHECK(rt_ready_enter(&l));

    /* alone, and before those that queue */
    rt_ready_put_next(&l, &b[0]);
    rt_ready_append(&l, &b[1]);
    expect_woken(&l, b, 0, 2);

    /* of many put there in a row the last runs first, the others behind those that queued, in their order */
    rt_ready_append(&l, &b[1]);
    rt_ready_put_next(&l, &b[2]);
    rt_ready_put_next(&l, &b[3]);
    rt_ready_put_next(&l, &b[0]);
    CHECK_EQ(rt_ready_size(&l), 4);
    expect_woken(&l, b, 0, 4);

    /* once the slot was emptied, the head is one that queued: it keeps its place */
    rt_ready_put_next(&l, &b[0]);
    rt_ready_append(&l, &b[2]);
    expect_woken(&l, b, 0, 1);
    rt_ready_put_next(&l, &b[1]);
    expect_woken(&l, b, 1, 2);

    /* a single one in the slot is displaced to the end of an otherwise empty queue */
    rt_ready_put_next(&l, &b[1]);
    rt_ready_put_next(&l, &b[0]);
    rt_ready_append(&l, &b[2]);
    expect_woken(&l, b, 0, 3);
    CHECK_EQ(rt_ready_size(&l), 0);

    /* a thief takes from the slot too; what is then the head has queued */
    for (size_t i = 0; i < 3; i++)
        rt_ready_append(&l, &b[1 + i]);
    rt_ready_put_next(&l, &b[0]);
    rt_ready_leave(&l);
    uint64_t got;
    rt_block *chain = rt_ready_steal(&l, MOST, &got);
    CHECK_EQ(got, 2);
    CHECK(chain == &b[0] && chain->link == &b[1]);
    CHECK(rt_ready_enter(&l));
    rt_ready_put_next(&l, &b[7]);
    CHECK(rt_ready_pop(&l) == &b[7]);
    expect_woken(&l, b, 2, 2);
    rt_ready_leave(&l);
    free(b);
}

TEST(a_thief_takes_half)
{
    rt_block *b = blocks_new(100);
    for (size_t n = 0; n < 100; n++) {
        for (uint64_t most = 1; most <= 100; most = most * 3 + 1) {
            rt_ready l = {0};
            uint64_t got = 77;
            CHECK(rt_ready_enter(&l));
            for (size_t i = 0; i < n; i++)
                rt_ready_append(&l, &b[i]);
            rt_ready_leave(&l);
            const rt_block *chain = rt_ready_steal(&l, most, &got);
            const uint64_t half = (n + 1) / 2, expected = half < most ? half : most;
            CHECK_EQ(got, expected);
            CHECK_EQ(chain_length(chain), expected);
            CHECK_EQ(rt_ready_size(&l), n - expected);
            for (size_t i = 0; i < expected && chain; i++, chain = chain->link)
                CHECK(chain == &b[i]);
            CHECK(rt_ready_enter(&l));
            expect_woken(&l, b, expected, n - expected);
            CHECK(rt_ready_pop(&l) == NULL);
            rt_ready_leave(&l);
        }
    }
    free(b);
}

TEST(a_thief_takes_yielded_ones_last)
{
    rt_ready l = {0};
    rt_block *b = blocks_new(9);
    uint64_t got;
    CHECK(rt_ready_enter(&l));
    rt_ready_append(&l, &b[0]);
    for (size_t i = 1; i < 9; i++)
        rt_ready_append_yielded(&l, &b[i]);
    rt_ready_leave(&l);
    CHECK(rt_ready_steal(&l, MOST, &got) == &b[0]); /* half of all, but only of one queue */
    CHECK_EQ(got, 1);
    CHECK(rt_ready_steal(&l, MOST, &got) == &b[1]);
    CHECK_EQ(got, 4);
    CHECK_EQ(rt_ready_size(&l), 4);
    CHECK(rt_ready_enter(&l));
    for (size_t i = 5; i < 9; i++)
        CHECK(rt_ready_pop_yielded(&l) == &b[i]);
    rt_ready_leave(&l);
    free(b);
}

TEST(who_is_in_keeps_the_other_out)
{
    rt_ready l = {0};
    rt_block *b = blocks_new(1);
    uint64_t got;
    CHECK(rt_ready_enter(&l));
    rt_ready_append(&l, b);
    CHECK(rt_ready_steal(&l, MOST, &got) == NULL); /* L2 */
    CHECK_EQ(got, 0);
    CHECK_EQ(rt_ready_size(&l), 1);
    rt_ready_leave(&l);

    atomic_store(&l.thief_in, 1); /* a thief is in */
    CHECK(!rt_ready_enter(&l));   /* L1 */
    CHECK_EQ(atomic_load(&l.owner_in), 0);
    CHECK(rt_ready_steal(&l, MOST, &got) == NULL);
    atomic_store(&l.thief_in, 0);

    CHECK(rt_ready_steal(&l, MOST, &got) == b);
    CHECK_EQ(atomic_load(&l.thief_in), 0);
    CHECK(rt_ready_enter(&l));
    rt_ready_leave(&l);
    free(b);
}

/* ---- together ---- */

enum { IN_LIST, TAKEN };

typedef struct {
    rt_ready list;
    rt_block *blocks; /* word: IN_LIST or TAKEN; arg: plain, counts how often it was taken */
    size_t count;
    _Atomic bool over;
    _Atomic uint64_t robbed;
    pthread_mutex_t lock;
    rt_fifo back; /* under lock: what thieves return */
} arena;

static void pause_now_and_then(uint64_t *random)
{
    const uint64_t dice = support_random(random) >> 16;
    if (dice % 64 == 0)
        sched_yield();
    else if (dice % 4 == 0)
        for (uint64_t n = dice / 64 % 100; n > 0; n--)
            __asm__ volatile("" ::: "memory");
}

/* Whoever takes a block is alone with it. */
static void take(rt_block *r)
{
    uint64_t in_list = IN_LIST;
    CHECK(atomic_compare_exchange_strong_explicit(&r->word, &in_list, TAKEN, memory_order_relaxed,
                                                  memory_order_relaxed));
    r->arg = (char *)r->arg + 1;
}

static void put_back(rt_block *r)
{
    uint64_t taken = TAKEN;
    CHECK(atomic_compare_exchange_strong_explicit(&r->word, &taken, IN_LIST, memory_order_relaxed,
                                                  memory_order_relaxed));
}

static void *thief(void *arg)
{
    arena *a = arg;
    uint64_t random = (uintptr_t)&random | 1, robbed = 0;
    while (!atomic_load_explicit(&a->over, memory_order_relaxed)) {
        uint64_t got;
        rt_block *chain = rt_ready_steal(&a->list, support_random(&random) % 8 + 1, &got);
        CHECK_EQ(chain_length(chain), got);
        for (rt_block *r = chain; r; r = r->link)
            take(r);
        robbed += got;
        pause_now_and_then(&random);
        pthread_mutex_lock(&a->lock);
        while (chain) {
            rt_block *next = chain->link;
            put_back(chain);
            rt_fifo_append(&a->back, chain);
            chain = next;
        }
        pthread_mutex_unlock(&a->lock);
    }
    atomic_fetch_add(&a->robbed, robbed);
    return NULL;
}

static uint64_t owner(arena *a, long rounds)
{
    uint64_t random = 4711, taken = 0;
    rt_block *hand[16];
    size_t held = 0, begun = 0;
    for (long i = 0; i < rounds || held > 0; i++) {
        const uint64_t dice = support_random(&random) >> 16;
        if (i % 16 == 0 && pthread_mutex_trylock(&a->lock) == 0) {
            while (held < COUNT_OF(hand) && a->back.head) {
                rt_block *r = a->back.head;
                a->back.head = r->link;
                take(r);
                taken++;
                hand[held++] = r;
            }
            pthread_mutex_unlock(&a->lock);
        }
        if (begun < a->count && held < COUNT_OF(hand)) {
            hand[held++] = &a->blocks[begun];
            take(&a->blocks[begun++]);
            taken++;
        }
        if (!rt_ready_enter(&a->list)) { /* a thief is in: it does without */
            pause_now_and_then(&random);
            continue;
        }
        for (uint64_t n = dice % 4; n > 0 && held > 0; n--) {
            rt_block *r = hand[--held];
            put_back(r);
            if (dice / 4 % 3 == 0)
                rt_ready_put_next(&a->list, r);
            else if (dice / 4 % 3 == 1)
                rt_ready_append(&a->list, r);
            else
                rt_ready_append_yielded(&a->list, r);
        }
        for (uint64_t n = dice / 64 % 4; n > 0 && held < COUNT_OF(hand) && i < rounds; n--) {
            rt_block *r = n % 2 ? rt_ready_pop(&a->list) : rt_ready_pop_yielded(&a->list);
            if (r) {
                take(r);
                taken++;
                hand[held++] = r;
            }
        }
        if (dice / 1024 % 32 == 0)
            pause_now_and_then(&random); /* inside, as across a switch */
        rt_ready_leave(&a->list);
        if (dice / 1024 % 8 == 0)
            pause_now_and_then(&random);
    }
    return taken;
}

static void battle(size_t thieves, size_t count, long rounds)
{
    arena a = {.count = count, .blocks = blocks_new(count), .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[4];
    for (size_t i = 0; i < thieves; i++)
        threads[i] = support_thread(thief, &a);
    const uint64_t taken = owner(&a, rounds);
    atomic_store(&a.over, true);
    for (size_t i = 0; i < thieves; i++)
        pthread_join(threads[i], NULL);

    /* all are there, once, and each was taken as often as it says */
    uint64_t found = 0, sum = 0;
    CHECK(rt_ready_enter(&a.list));
    const uint64_t size = rt_ready_size(&a.list);
    for (rt_block *r; (r = rt_ready_pop(&a.list)) != NULL || (r = rt_ready_pop_yielded(&a.list)) != NULL;) {
        take(r);
        found++;
    }
    CHECK_EQ(found, size);
    CHECK_EQ(rt_ready_size(&a.list), 0);
    for (rt_block *r = a.back.head; r; r = r->link) {
        take(r);
        found++;
    }
    CHECK_EQ(found, count);
    for (size_t i = 0; i < count; i++)
        sum += (uintptr_t)a.blocks[i].arg;
    CHECK_EQ(sum, taken + atomic_load(&a.robbed) + found);
    pthread_mutex_destroy(&a.lock);
    free(a.blocks);
}

static void battles(void)
{
    battle(1, 4, support_scale(400000));
    battle(2, 40, support_scale(400000));
    battle(3, 500, support_scale(400000));
}

TEST(thieves)
{
    battles();
}

static int fallback(void)
{
    rt_membarrier_init();
    CHECK(!rt_membarrier_works);
    battles();
    return 0;
}

static const struct support_case cases[] = {{"fallback", fallback}};

TEST(thieves_without_membarrier)
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
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(yielded_ones_are_apart),
        cmocka_unit_test(the_next_slot),
        cmocka_unit_test(a_thief_takes_half),
        cmocka_unit_test(a_thief_takes_yielded_ones_last),
        cmocka_unit_test(who_is_in_keeps_the_other_out),
        cmocka_unit_test(thieves),
        cmocka_unit_test(thieves_without_membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
