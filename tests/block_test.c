/* SPDX-License-Identifier: MIT
 *
 * Tests of src/sched/block.{h,c}: the pool of control blocks, and their ids.
 * ctest: timeout 120
 */
#include "support.h"

#include "sched/block.h"

static size_t length(const rt_block *chain)
{
    size_t n = 0;
    for (; chain; chain = chain->link)
        n++;
    return n;
}

/* In use from here on, by `owner`; nobody else may have it. */
static void mark(rt_block *block, uint64_t owner)
{
    uint64_t none = 0;
    CHECK(atomic_compare_exchange_strong_explicit(&block->word, &none, RT_WORD(owner, 0),
                                                  memory_order_relaxed, memory_order_relaxed));
}

static void unmark(rt_block *block, uint64_t owner)
{
    uint64_t mine = RT_WORD(owner, 0);
    CHECK(atomic_compare_exchange_strong_explicit(&block->word, &mine, 0, memory_order_relaxed,
                                                  memory_order_relaxed));
}

TEST(words)
{
    const uint64_t all = RT_STARTED | RT_ENTRY | RT_CANCEL | RT_CLAIMED | RT_DETACHED | RT_RELEASED;
    CHECK(all < (uint64_t)1 << RT_WORD_BITS);
    CHECK_EQ(RT_WORD_ID(RT_WORD(12345, all)), 12345);
    CHECK_EQ(RT_WORD(1, 0) & all, 0);
    CHECK_EQ(offsetof(rt_block, word), 0);
    /* a closure's copy lies behind the word, which stale handles look at */
    CHECK(RT_COPY_OFFSET >= sizeof(uint64_t));
    CHECK_EQ(RT_COPY_OFFSET + RT_COPY_MAX, sizeof(rt_block));
}

TEST(batches)
{
    enum { CHAINS = 80 }; /* more than a slab has */
    rt_block *chains[CHAINS];
    for (size_t i = 0; i < CHAINS; i++) {
        chains[i] = rt_block_batch_get();
        CHECK_EQ(length(chains[i]), RT_BLOCK_BATCH);
        for (rt_block *b = chains[i]; b; b = b->link) {
            CHECK_EQ((uintptr_t)b % RT_CACHE_LINE, 0);
            CHECK_EQ(atomic_load(&b->word), 0);
            mark(b, i + 1);
        }
    }
    for (size_t i = 0; i < CHAINS; i++) {
        for (rt_block *b = chains[i]; b; b = b->link)
            unmark(b, i + 1);
        rt_block_batch_put(chains[i]);
    }
    /* they come back, rather than new ones */
    rt_block *again = rt_block_batch_get();
    bool known = false;
    for (size_t i = 0; i < CHAINS; i++)
        known |= again == chains[i];
    CHECK(known);
    CHECK_EQ(length(again), RT_BLOCK_BATCH);
    rt_block_batch_put(again);
}

TEST(singles)
{
    enum { COUNT = 3 * RT_BLOCK_BATCH + 7 };
    rt_block *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = rt_block_get();
        CHECK(blocks[i] != NULL);
        mark(blocks[i], 1);
    }
    for (size_t i = 0; i < COUNT; i++) {
        unmark(blocks[i], 1);
        rt_block_put(blocks[i]);
    }
    rt_block *last = rt_block_get();
    CHECK(last == blocks[COUNT - 1]);
    rt_block_put(last);
    /* singles make batches as well */
    for (int i = 0; i < 8; i++) {
        rt_block *chain = rt_block_batch_get();
        CHECK_EQ(length(chain), RT_BLOCK_BATCH);
        rt_block_batch_put(chain);
    }
}

struct census {
    uint64_t marked, seen;
    const rt_block *last;
};

static void visit(rt_block *block, void *arg)
{
    struct census *c = arg;
    c->seen++;
    CHECK(block != c->last);
    c->last = block;
    if (RT_WORD_ID(atomic_load(&block->word)) == 777) {
        c->marked++;
        atomic_fetch_or(&block->word, RT_CANCEL); /* a second visit of it would not be counted */
        atomic_fetch_xor(&block->word, RT_WORD(777 ^ 778, 0));
    }
}

TEST(each_one_is_visited_once)
{
    enum { CHAINS = 70 };
    rt_block *chains[CHAINS];
    for (size_t i = 0; i < CHAINS; i++) {
        chains[i] = rt_block_batch_get();
        for (rt_block *b = chains[i]; b; b = b->link)
            mark(b, 777);
    }
    struct census c = {0};
    rt_block_each(visit, &c);
    CHECK_EQ(c.marked, (uint64_t)CHAINS * RT_BLOCK_BATCH);
    CHECK(c.seen >= c.marked);
    for (size_t i = 0; i < CHAINS; i++) {
        for (rt_block *b = chains[i]; b; b = b->link) {
            CHECK_EQ(atomic_load(&b->word), RT_WORD(778, RT_CANCEL));
            atomic_store(&b->word, 0);
        }
        rt_block_batch_put(chains[i]);
    }
}

enum { THREADS = 4, RANGES = 200 };

static uint64_t ranges[THREADS][RANGES];

static void *take_ids(void *arg)
{
    uint64_t *mine = arg;
    for (int i = 0; i < RANGES; i++)
        mine[i] = i % 2 ? rt_block_id_range() : rt_block_id();
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

TEST(ids_are_unique)
{
    pthread_t threads[THREADS];
    static uint64_t all[2 * THREADS * RANGES];
    for (int i = 0; i < THREADS; i++)
        threads[i] = support_thread(take_ids, ranges[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    size_t n = 0;
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k < RANGES; k++) {
            CHECK(ranges[i][k] != 0);
            all[n++] = ranges[i][k];
            if (k % 2)
                all[n++] = ranges[i][k] + RT_ID_RANGE - 1; /* a range's last one */
        }
    qsort(all, n, sizeof *all, ascending);
    for (size_t i = 1; i < n; i++)
        CHECK(all[i - 1] < all[i]);
    /* nothing begins within a range */
    for (int i = 0; i < THREADS; i++)
        for (int k = 1; k < RANGES; k += 2) {
            const uint64_t *at = bsearch(&ranges[i][k], all, n, sizeof *all, ascending);
            CHECK(at != NULL && at[1] == at[0] + RT_ID_RANGE - 1);
        }
}

static void *churn(void *arg)
{
    const uint64_t me = (uintptr_t)arg;
    uint64_t random = me * 977;
    rt_block *chains[4] = {NULL}, *singles[64] = {NULL};
    const long rounds = support_scale(40000);
    for (long i = 0; i < rounds + 128; i++) {
        const uint64_t dice = support_random(&random) >> 20;
        rt_block **chain = &chains[dice % 4], **single = &singles[dice / 4 % 64];
        if (i >= rounds) { /* the end: everything goes back */
            chain = &chains[i % 4];
            single = &singles[i % 64];
        }
        if (*single) {
            unmark(*single, me);
            rt_block_put(*single);
            *single = NULL;
        } else if (i < rounds) {
            *single = rt_block_get();
            mark(*single, me);
            (*single)->arg = NULL; /* plain: ThreadSanitizer would see another owner */
        }
        if (dice % 16 != 0 && i < rounds)
            continue;
        if (*chain) {
            for (rt_block *b = *chain; b; b = b->link)
                unmark(b, me);
            rt_block_batch_put(*chain);
            *chain = NULL;
        } else if (i < rounds) {
            *chain = rt_block_batch_get();
            size_t n = 0;
            for (rt_block *b = *chain; b; b = b->link, n++) {
                mark(b, me);
                b->arg = NULL;
            }
            CHECK_EQ(n, RT_BLOCK_BATCH);
        }
    }
    return NULL;
}

TEST(several_threads)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = support_thread(churn, (void *)(i + 1)); // NOLINT(performance-no-int-to-ptr)
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct census c = {0};
    rt_block_each(visit, &c);
    CHECK(c.seen > 0);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),          cmocka_unit_test(batches),
        cmocka_unit_test(singles),        cmocka_unit_test(each_one_is_visited_once),
        cmocka_unit_test(ids_are_unique), cmocka_unit_test(several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
