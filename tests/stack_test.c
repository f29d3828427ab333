/* SPDX-License-Identifier: MIT
 *
 * Tests of src/sched/stack.{h,c}: what is promised is there, what is beyond faults, and memory goes back.
 * ctest: timeout 120
 */
#define SUPPORT_OWN_SEGV
#include "support.h"

#include <sys/mman.h>

#include "os/clock.h"
#include "os/pages.h"
#include "sched/block.h"
#include "sched/stack.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* gcc's ThreadSanitizer pays 841 KiB for each stack. */
static size_t fewer(size_t count)
{
    return SUPPORT_TSAN ? count / 8 + 1 : count;
}

/* Is the page at this address mapped, and does it have memory? */
static bool is_mapped(const void *at)
{
    const uintptr_t page = (uintptr_t)at & ~(uintptr_t)(rt_pages_size() - 1);
    unsigned char in_core;
    return mincore((void *)page, rt_pages_size(), &in_core) == 0; // NOLINT(performance-no-int-to-ptr)
}

static size_t pages_in_core(const char *low, const char *high)
{
    const size_t page = rt_pages_size();
    size_t count = 0;
    unsigned char in_core;
    for (uintptr_t at = (uintptr_t)low & ~(uintptr_t)(page - 1); at < (uintptr_t)high; at += page)
        count += mincore((void *)at, page, &in_core) == 0 && in_core & 1; // NOLINT(performance-no-int-to-ptr)
    return count;
}

static long count_maps(void)
{
    long lines = 0;
    char text[4096];
    const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            lines += text[i] == '\n';
    close(fd);
    return lines;
}

static rt_stack *take_one(rt_stack_pool *pool)
{
    size_t got = 0;
    rt_stack *stack = rt_stack_take(pool, 1, &got);
    CHECK_EQ(got, stack ? 1 : 0);
    CHECK(!stack || stack->link == NULL);
    return stack;
}

/* A list of `count`, taken in the batches there are. */
static rt_stack *take_many(rt_stack_pool *pool, size_t count, rt_stack **all)
{
    rt_stack *list = NULL;
    for (size_t n = 0; n < count;) {
        size_t got = 0, length = 0;
        rt_stack *some = rt_stack_take(pool, count - n, &got), *last = some;
        if (!some)
            return list;
        CHECK(got >= 1 && got <= count - n);
        for (rt_stack *s = some; s; s = s->link) {
            if (all)
                all[n + length] = s;
            length++;
            last = s;
        }
        CHECK_EQ(length, got);
        n += got;
        last->link = list;
        list = some;
    }
    return list;
}

TEST(what_is_promised)
{
    const size_t least = rt_stack_minimum();
    CHECK(least >= 16 * KIB + 2048);
    CHECK_EQ(least % RT_STACK_UNIT, 0);
    const size_t sizes[] = {least, 32 * KIB, 64 * KIB, 100 * KIB, 128 * KIB, 1 * MIB, 50 * MIB};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        rt_stack_pool pool;
        rt_stack_pool_init(&pool, sizes[i]);
        CHECK(rt_stack_ordinary(&pool, sizes[i]));
        CHECK(!rt_stack_ordinary(&pool, pool.spacing));
        size_t most = sizes[i];
        while (rt_stack_ordinary(&pool, most + 4096))
            most += 4096;
        rt_stack *stacks[17];
        const size_t count = sizes[i] > MIB ? 3 : COUNT_OF(stacks);
        rt_stack *list = take_many(&pool, count, stacks);
        CHECK_EQ(pool.taken, count);
        CHECK_EQ(pool.peak, count);
        for (size_t k = 0; k < count; k++) {
            const rt_stack *s = stacks[k];
            const size_t usable = (size_t)(s->high - s->low);
            CHECK(usable >= most);
            /* half used, and a child's whole promise still fits below: R5 */
            CHECK(usable / 2 + pool.guard >= sizes[i]);
            CHECK_EQ((uintptr_t)s->high % 16, 0);
            CHECK((const char *)s == s->high);
            CHECK(s->guard != 0 && s->guard % rt_pages_size() == 0);
            CHECK(!rt_stack_is_large(s));
            rt_stack_check(s);
            memset(s->low, 0x5a, 64);
            memset(s->high - 64, 0x5a, 64);
            for (size_t j = 0; j < k; j++) /* they don't overlap, descriptor and guard included */
                CHECK(stacks[j]->high + sizeof(rt_stack) <= s->low - s->guard ||
                      s->high + sizeof(rt_stack) <= stacks[j]->low - stacks[j]->guard);
        }
        rt_stack_give(&pool, list);
        rt_stack_pool_destroy(&pool);
    }
}

TEST(colours)
{
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 128 * KIB);
    rt_stack *stacks[32], *list = take_many(&pool, COUNT_OF(stacks), stacks);
    unsigned seen = 0;
    for (size_t i = 0; i < COUNT_OF(stacks); i++) {
        const uintptr_t end = (uintptr_t)stacks[i]->low - stacks[i]->guard + pool.spacing;
        const uintptr_t colour = end - (uintptr_t)stacks[i]->high;
        CHECK(colour >= sizeof(rt_stack) && colour < 4096); /* in the top page */
        CHECK_EQ(colour % RT_CACHE_LINE, 0);
        seen |= 1u << colour / RT_CACHE_LINE % 32;
    }
    CHECK_EQ(__builtin_popcount(seen), 16);
    rt_stack_give(&pool, list);
    rt_stack_pool_destroy(&pool);
}

/* All of it is there, and writing it harms no neighbour. */
TEST(usable_to_the_last_byte)
{
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 64 * KIB);
    rt_stack *stacks[20], *list = take_many(&pool, COUNT_OF(stacks), stacks);
    for (size_t i = 0; i < COUNT_OF(stacks); i++)
        memset(stacks[i]->low, (int)i + 1, (size_t)(stacks[i]->high - stacks[i]->low));
    for (size_t i = 0; i < COUNT_OF(stacks); i++) {
        size_t wrong = 0;
        for (const char *p = stacks[i]->low; p < stacks[i]->high; p++)
            wrong += *p != (char)(i + 1);
        CHECK_EQ(wrong, 0);
    }
    rt_stack_give(&pool, list);
    rt_stack_pool_destroy(&pool);
}

TEST(warm_ones_come_back)
{
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 64 * KIB);
    rt_stack *first = take_one(&pool);
    first->low[0] = 'x';
    rt_stack_give(&pool, first);
    CHECK_EQ(pool.taken, 1); /* it is in the pool's cache */
    rt_stack *second = take_one(&pool);
    CHECK(second == first && second->low[0] == 'x');
    rt_stack_give(&pool, second);
    rt_stack_pool_trim(&pool);
    CHECK_EQ(pool.taken, 0);
    rt_stack_pool_destroy(&pool);
}

TEST(large_ones)
{
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 64 * KIB);
    const size_t sizes[] = {pool.spacing, pool.spacing + 1, 1 * MIB, 10 * MIB + 4096, 100 * MIB};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        CHECK(!rt_stack_ordinary(&pool, sizes[i]));
        rt_stack *s = rt_stack_take_large(&pool, sizes[i]);
        CHECK(s != NULL && rt_stack_is_large(s));
        CHECK((size_t)(s->high - s->low) >= sizes[i]);
        CHECK(s->guard >= 4096 && s->guard <= 64 * KIB);
        CHECK_EQ(pool.taken, 1);
        s->low[0] = s->high[-1] = 'x';
        rt_stack_check(s);
        const char *low = s->low;
        CHECK(is_mapped(low));
        s->link = NULL;
        rt_stack_give(&pool, s);
        CHECK(!is_mapped(low)); /* not kept */
        CHECK_EQ(pool.taken, 0);
    }
    rt_stack_pool_destroy(&pool);
}

/* ---- memory goes back ---- */

/* As workers that rest do. */
static void cool(rt_stack_pool *pool)
{
    int64_t next;
    int rounds = 0;
    while ((next = rt_stack_pool_cool(pool)) != INT64_MAX) {
        CHECK(++rounds <= 8); /* two rests, and some hundred at a time */
        const int64_t now = rt_clock_now();
        if (next > now)
            rt_clock_nap(next - now);
    }
    CHECK(pool->warm_count <= 64);
}

/* What is needed again and again stays warm. */
TEST(what_is_in_use_is_not_cooled)
{
    static rt_stack *stacks[300];
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 128 * KIB);
    const size_t count = fewer(300);
    if (count < 100)
        skip();
    for (int round = 0; round < 3; round++) {
        rt_stack_give(&pool, take_many(&pool, count, stacks));
        CHECK_EQ(pool.warm_count, count);
        const int64_t next = rt_stack_pool_cool(&pool);
        CHECK(next != INT64_MAX);
        rt_clock_nap(next - rt_clock_now() + 1000000);
    }
    cool(&pool);
    rt_stack_pool_destroy(&pool);
}

TEST(memory_goes_back_after_a_burst)
{
    enum { BURST = 600, KEPT = 64 + 2 * 128 + 1 }; /* warm ones, and some of slabs that are not wholly free */
    const size_t count = fewer(BURST), touched = 64 * KIB, per_stack = touched / rt_pages_size();
    static rt_stack *stacks[BURST];
    static struct {
        const char *low, *high;
    } places[BURST];
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 128 * KIB);
    rt_stack *list = take_many(&pool, count, stacks);
    for (size_t i = 0; i < count; i++) {
        places[i].high = stacks[i]->high;
        places[i].low = stacks[i]->high - touched;
        memset(stacks[i]->high - touched, 1, touched);
    }
    size_t before = 0, after = 0, trimmed = 0;
    for (size_t i = 0; i < count; i++)
        before += pages_in_core(places[i].low, places[i].high);
    CHECK(before >= count * per_stack);
    rt_stack_give(&pool, list);
    cool(&pool);
    for (size_t i = 0; i < count; i++)
        after += pages_in_core(places[i].low, places[i].high);
    if (count > KEPT)
        CHECK(after <= KEPT * (per_stack + 1));
    rt_stack_pool_trim(&pool);
    CHECK_EQ(pool.taken, 0);
    for (size_t i = 0; i < count; i++)
        trimmed += pages_in_core(places[i].low, places[i].high);
    CHECK_EQ(trimmed, 0);

    /* the guards are there still, and the stacks again usable, their memory zero */
    list = take_many(&pool, count, stacks);
    for (size_t i = 0; i < count; i++) {
        CHECK(stacks[i]->guard != 0);
        CHECK_EQ(stacks[i]->high[-(long)touched], 0);
        stacks[i]->low[0] = 1;
    }
    rt_stack_give(&pool, list);
    rt_stack_pool_destroy(&pool);
}

/* A slab with a stack in use gives the memory of the others back too, whenever half of it is free and dirty.
 */
TEST(memory_goes_back_from_slabs_in_use)
{
    enum { BURST = 240 }; /* of one slab, all */
    static rt_stack *stacks[BURST];
    const size_t touched = 32 * KIB, per_stack = touched / rt_pages_size() + 1;
    if (SUPPORT_TSAN)
        skip(); /* too many */
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 128 * KIB);
    take_many(&pool, BURST, stacks);
    for (size_t i = 0; i < BURST; i++)
        memset(stacks[i]->high - touched, 1, touched);
    rt_stack *kept = stacks[BURST / 2], *list = NULL;
    const char *base = kept->low - kept->guard, *end = base;
    for (size_t i = 0; i < BURST; i++) {
        const char *low = stacks[i]->low - stacks[i]->guard;
        base = low < base ? low : base;
        end = low + pool.spacing > end ? low + pool.spacing : end;
        if (stacks[i] != kept) {
            stacks[i]->link = list;
            list = stacks[i];
        }
    }
    rt_stack_give(&pool, list);
    cool(&pool);
    CHECK(pages_in_core(base, end) <= (64 + 128 + 1) * per_stack);
    rt_stack_pool_trim(&pool);
    CHECK(pages_in_core(base, end) <= (128 + 1) * per_stack);
    CHECK(pages_in_core(kept->high - touched, kept->high) >= per_stack - 1);
    size_t wrong = 0;
    for (const char *p = kept->high - touched; p < kept->high; p++)
        wrong += *p != 1;
    CHECK_EQ(wrong, 0);
    kept->link = NULL;
    rt_stack_give(&pool, kept);
    rt_stack_pool_destroy(&pool);
}

TEST(slabs_are_unmapped_but_for_one)
{
    enum { MOST = 1024 };
    static rt_stack *stacks[MOST];
    static const char *lows[MOST];
    const long maps = count_maps();
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, 128 * KIB);
    /* a slab of 64 MiB has 256 of these: enough for several, also where stacks are dear */
    const size_t count = SUPPORT_TSAN ? 600 : MOST;
    rt_stack *list = take_many(&pool, count, stacks);
    for (size_t i = 0; i < count; i++)
        lows[i] = stacks[i]->low;
    rt_stack_give(&pool, list);
    rt_stack_pool_trim(&pool);
    CHECK_EQ(pool.taken, 0);
    size_t mapped = 0;
    for (size_t i = 0; i < count; i++)
        mapped += is_mapped(lows[i]);
    CHECK_EQ(mapped, 256);
    /* that one is used first again */
    rt_stack *again = take_one(&pool);
    bool known = false;
    for (size_t i = 0; i < count; i++)
        known |= again->low == lows[i];
    CHECK(known);
    /* now that it is in use, another that becomes free is kept */
    rt_stack *more = take_many(&pool, 256, stacks), *other = NULL, **link = &more;
    for (rt_stack *s = more; s; s = s->link) {
        if (s->slab != again->slab) {
            *link = s->link;
            s->link = NULL;
            other = s;
            break;
        }
        link = &s->link;
    }
    assert_non_null(other);
    const char *low = other->low;
    rt_stack_give(&pool, other);
    rt_stack_pool_trim(&pool);
    CHECK(is_mapped(low));
    rt_stack_give(&pool, more);
    rt_stack_give(&pool, again);
    rt_stack_pool_destroy(&pool);
    mapped = 0;
    for (size_t i = 0; i < count; i++)
        mapped += is_mapped(lows[i]);
    if (!SUPPORT_TSAN) /* it maps things of its own there */
        CHECK_EQ(mapped, 0);
    if (!support_slow())
        CHECK(count_maps() <= maps + 4); /* malloc's own */
}

static void *come_and_go(void *arg)
{
    rt_stack_pool *pool = arg;
    uint64_t random = (uintptr_t)&random | 1;
    rt_stack *mine[8] = {NULL};
    const long rounds = support_scale(4000);
    for (long i = 0; i < rounds; i++) {
        const uint64_t dice = support_random(&random) >> 16;
        rt_stack **list = &mine[dice % 8];
        for (const rt_stack *s = *list; s; s = s->link) {
            CHECK_EQ(s->low[0], 'm');
            CHECK(memcmp(s->high - sizeof list, &list, sizeof list) == 0);
        }
        if (*list) {
            rt_stack_give(pool, *list);
            *list = NULL;
        } else {
            size_t got;
            *list = rt_stack_take(pool, dice / 8 % 24 + 1, &got);
            for (const rt_stack *s = *list; s; s = s->link) {
                s->low[0] = 'm';
                memcpy(s->high - sizeof list, &list, sizeof list); /* whose it is */
            }
        }
        if (dice / 512 % 256 == 0)
            rt_stack_pool_trim(pool);
    }
    for (size_t i = 0; i < 8; i++)
        if (mine[i])
            rt_stack_give(pool, mine[i]);
    return NULL;
}

TEST(several_threads)
{
    rt_stack_pool pool;
    rt_stack_pool_init(&pool, rt_stack_minimum());
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        threads[i] = support_thread(come_and_go, &pool);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    rt_stack_pool_trim(&pool);
    CHECK_EQ(pool.taken, 0);
    CHECK(pool.peak > 0);
    rt_stack_pool_destroy(&pool);
}

/* ---- what ends a process ---- */

static rt_stack *one_of_a_new_pool(bool large)
{
    static rt_stack_pool pool;
    rt_pages_init();
    rt_stack_pool_init(&pool, 64 * KIB);
    return large ? rt_stack_take_large(&pool, 1 * MIB) : take_one(&pool);
}

static int touch_below(void)
{
    one_of_a_new_pool(false)->low[-1] = 1;
    return 0;
}

static int touch_far_below(void)
{
    const rt_stack *s = one_of_a_new_pool(false);
    s->low[0] = 1;
    *(s->low - s->guard) = 1;
    return 0;
}

static int touch_below_large(void)
{
    one_of_a_new_pool(true)->low[-1] = 1;
    return 0;
}

/* A second life of the same slot. */
static int touch_below_used(void)
{
    static rt_stack_pool pool;
    rt_pages_init();
    rt_stack_pool_init(&pool, 64 * KIB);
    for (int i = 0; i < 3; i++) {
        rt_stack *s = take_one(&pool);
        memset(s->low, 1, 4096);
        rt_stack_give(&pool, s);
        rt_stack_pool_trim(&pool);
    }
    take_one(&pool)->low[-1] = 1;
    return 0;
}

/* The address space is nearly used up: smaller slabs, and in the end NULL. */
static int exhausted(void)
{
    enum { MOST = 4000 };
    static rt_stack *stacks[MOST];
    rt_stack_pool pool;
    rt_pages_init();
    rt_stack_pool_init(&pool, 128 * KIB);
    long size = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld", &size) == 1);
    if (file)
        fclose(file);
    const rlim_t room = (rlim_t)40 << 20; /* less than a slab */
    const struct rlimit limit = {.rlim_cur = (rlim_t)(size * sysconf(_SC_PAGESIZE)) + room,
                                 .rlim_max = RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    size_t n = 0, got;
    while (n < MOST && (stacks[n] = rt_stack_take(&pool, 1, &got)) != NULL)
        n++;
    CHECK(n >= 100 && n <= 160); /* 256 KiB each */
    CHECK(rt_stack_take(&pool, 5, &got) == NULL);
    CHECK_EQ(got, 0);
    CHECK(rt_stack_take_large(&pool, 100 * MIB) == NULL);
    CHECK_EQ(pool.taken, n);
    for (size_t i = 0; i < n; i++) {
        stacks[i]->low[0] = stacks[i]->high[-1] = 1;
        stacks[i]->link = NULL;
    }
    /* what comes back can be had again */
    rt_stack_give(&pool, stacks[n - 1]);
    stacks[n - 1] = take_one(&pool);
    CHECK(stacks[n - 1] != NULL);
    for (size_t i = 0; i < n; i++) {
        stacks[i]->link = NULL;
        rt_stack_give(&pool, stacks[i]);
    }
    rt_stack_pool_destroy(&pool);
    return 0;
}

/* So many mprotect guards that no more are to be had (R15): a stack with a canary. */
static rt_stack *unguarded(void)
{
    static rt_stack_pool pool;
    rt_pages_init();
    rt_stack_pool_init(&pool, rt_stack_minimum());
    for (size_t n = 0; n < 40000; n++) {
        rt_stack *s = take_one(&pool);
        CHECK(s != NULL);
        if (!s || s->guard == 0)
            return s;
        rt_stack_check(s);
    }
    return NULL;
}

static int canary(void)
{
    rt_stack *s = unguarded();
    if (s == NULL) {
        unsigned long maps = 0;
        FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
        CHECK(file != NULL && fscanf(file, "%lu", &maps) == 1);
        if (file)
            fclose(file);
        CHECK(maps / 4 >= 40000);
        return 3; /* guards for everybody */
    }
    s->high[-1] = 1;
    s->low[64] = 1; /* the lowest usable byte beyond the canary */
    rt_stack_check(s);
    fprintf(stderr, "alive\n");
    s->low[63] = (char)~s->low[63];
    rt_stack_check(s);
    return 0;
}

static const struct support_case cases[] = {
    {"touch_below", touch_below},
    {"touch_far_below", touch_far_below},
    {"touch_below_large", touch_below_large},
    {"touch_below_used", touch_below_used},
    {"exhausted", exhausted},
    {"canary", canary},
};

static const char *const by_mprotect[] = {"ROUTINES_GUARD=mprotect", NULL};

TEST(guards)
{
    static const char *const names[] = {"touch_below", "touch_far_below", "touch_below_large",
                                        "touch_below_used"};
    struct support_result result;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CASE_DIES(&result, names[i], NULL, SIGSEGV);
        CASE_DIES(&result, names[i], by_mprotect, SIGSEGV);
    }
}

TEST(no_address_space_left)
{
    struct support_result result;
    if (support_slow())
        skip(); /* sanitizers and emulators take all there is */
    CASE_EXITS(&result, "exhausted", NULL, 0);
    CASE_EXITS(&result, "exhausted", by_mprotect, 0);
}

TEST(no_guard_left)
{
    struct support_result result;
    if (support_slow())
        skip(); /* 16,000 stacks are too many for them */
    support_run_case(&result, "canary", by_mprotect);
    if (WIFEXITED(result.status) && WEXITSTATUS(result.status) == 3)
        skip(); /* vm.max_map_count is large here */
    support_expect(&result, "canary", __FILE__, __LINE__,
                   WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGABRT, "death of SIGABRT");
    CASE_SAYS(&result, "canary", "alive");
    CASE_SAYS(&result, "canary", "found by its canary");
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    rt_pages_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_promised),
        cmocka_unit_test(colours),
        cmocka_unit_test(usable_to_the_last_byte),
        cmocka_unit_test(warm_ones_come_back),
        cmocka_unit_test(large_ones),
        cmocka_unit_test(what_is_in_use_is_not_cooled),
        cmocka_unit_test(memory_goes_back_after_a_burst),
        cmocka_unit_test(memory_goes_back_from_slabs_in_use),
        cmocka_unit_test(slabs_are_unmapped_but_for_one),
        cmocka_unit_test(several_threads),
        cmocka_unit_test(guards),
        cmocka_unit_test(no_address_space_left),
        cmocka_unit_test(no_guard_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
