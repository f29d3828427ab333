/* SPDX-License-Identifier: MIT
 *
 * Tests of src/sched/idle.{h,c}.
 * ctest: timeout 180
 *
 * First the rules one by one, the calling thread playing all the workers as far as none has to sleep. Then
 * workers with queues that are mere numbers, which look for work as find_work in src/sched/scheduler.c does:
 * now and then one of them waits, without looking at its own queue again, until another has taken what it has
 * just pushed. A lost wake-up then stops everything, which a watchdog notices.
 */
#include "support.h"

#include "os/clock.h"
#include "sched/idle.h"

#define NAP_FIRST (20 * INT64_C(1000))
#define NAP_LAST  (320 * INT64_C(1000))
#define HUNG      20 /* seconds without progress */

static uint64_t state_of(const rt_idle *idle)
{
    return atomic_load(&idle->state) & ~(RT_IDLE_FENCE | RT_IDLE_LOOK);
}

#define CHECK_STATE(idle, searching, napping, asleep)                                                        \
    CHECK_EQ(state_of(idle),                                                                                 \
             (searching)*RT_IDLE_SEARCHING + (napping)*RT_IDLE_NAPPING + (asleep)*RT_IDLE_SLEEPING)

static bool has_permit(rt_sleeper *s)
{
    return atomic_load(&s->permit) != 0;
}

TEST(one_searcher_is_woken_at_a_time)
{
    rt_idle idle = {0};
    rt_sleeper s[3] = {0};
    rt_idle_init(&idle);
    CHECK_STATE(&idle, 0, 0, 0);
    rt_idle_wake(&idle, false);
    CHECK_STATE(&idle, 0, 0, 0);

    for (size_t i = 0; i < 3; i++) {
        rt_idle_search(&idle);
        CHECK_STATE(&idle, 1, 0, i);
        rt_idle_announce(&idle, &s[i]);
        CHECK_STATE(&idle, 0, 0, i + 1);
    }
    CHECK(rt_idle_anybody(&idle));
    for (int push = 0; push < 5; push++) {
        rt_idle_wake(&idle, push % 2); /* I2: only the first of these wakes anybody */
        CHECK_STATE(&idle, 1, 0, 2);
    }
    CHECK(has_permit(&s[2])); /* the last to rest */
    CHECK(!has_permit(&s[0]) && !has_permit(&s[1]));
    rt_idle_sleep(&idle, &s[2], INT64_MAX);

    rt_idle_found(&idle); /* I5: it was the last searcher, and wakes another */
    CHECK_STATE(&idle, 1, 0, 1);
    CHECK(has_permit(&s[1]) && !has_permit(&s[0]));
    rt_idle_search(&idle); /* a second one searches: its finding something wakes nobody */
    CHECK_STATE(&idle, 2, 0, 1);
    rt_idle_found(&idle);
    CHECK_STATE(&idle, 1, 0, 1);
    CHECK(!has_permit(&s[0]));
    rt_idle_announce(&idle, &s[1]);
    CHECK_STATE(&idle, 0, 0, 2);
    CHECK(!has_permit(&s[1]));
    rt_idle_wake_all(&idle);
    CHECK_STATE(&idle, 2, 0, 0);
    CHECK(has_permit(&s[0]) && has_permit(&s[1]));
    rt_idle_found(&idle);
    rt_idle_found(&idle);
    CHECK_STATE(&idle, 0, 0, 0);
}

TEST(a_withdrawal)
{
    rt_idle idle = {0};
    rt_sleeper s[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        rt_idle_search(&idle);
        rt_idle_announce(&idle, &s[i]);
    }
    rt_idle_withdraw(&idle, &s[1]); /* from the midst of the list */
    CHECK_STATE(&idle, 1, 0, 2);
    rt_idle_found(&idle);
    CHECK(has_permit(&s[2]));
    /* one that was woken meanwhile takes its permit along: the next rest begins without */
    rt_idle_withdraw(&idle, &s[2]);
    CHECK_STATE(&idle, 1, 0, 1);
    rt_idle_announce(&idle, &s[2]);
    CHECK(!has_permit(&s[2]));
    rt_idle_withdraw(&idle, &s[0]);
    rt_idle_withdraw(&idle, &s[2]);
    CHECK_STATE(&idle, 2, 0, 0);
    CHECK(idle.sleepers == NULL);
}

TEST(a_nap)
{
    rt_idle idle = {0};
    rt_sleeper s = {0};
    rt_idle_search(&idle);
    const int64_t begin = rt_clock_after(0);
    CHECK(!rt_idle_nap(&idle, &s, 20 * INT64_C(1000000)));
    CHECK(rt_clock_after(0) - begin >= 20 * INT64_C(1000000));
    CHECK_STATE(&idle, 1, 0, 0);
}

struct napper {
    rt_idle *idle;
    rt_sleeper sleeper;
    bool woken;
};

static void *nap_long(void *arg)
{
    struct napper *n = arg;
    rt_idle_search(n->idle);
    n->woken = rt_idle_nap(n->idle, &n->sleeper, 60 * INT64_C(1000000000));
    return NULL;
}

TEST(a_lone_item_is_left_to_a_napper)
{
    rt_idle idle = {0};
    struct napper n = {.idle = &idle};
    const pthread_t thread = support_thread(nap_long, &n);
    while (state_of(&idle) != RT_IDLE_NAPPING)
        sched_yield();
    rt_idle_wake(&idle, true);
    usleep(1000);
    CHECK_STATE(&idle, 0, 1, 0);
    rt_idle_wake(&idle, false);
    CHECK_STATE(&idle, 1, 0, 0);
    pthread_join(thread, NULL);
    CHECK(n.woken);
}

TEST(what_a_push_is_to_look_at)
{
    rt_idle idle = {0};
    rt_idle_init(&idle);
    CHECK_EQ(rt_idle_anybody(&idle), !rt_membarrier_works);
    rt_idle_look(&idle, true);
    CHECK(rt_idle_anybody(&idle));
    CHECK_STATE(&idle, 0, 0, 0);
    rt_idle_wake(&idle, false);
    rt_idle_look(&idle, false);
    CHECK_EQ(rt_idle_anybody(&idle), !rt_membarrier_works);
}

static void *withdraw(void *arg)
{
    struct napper *n = arg;
    rt_idle_withdraw(n->idle, &n->sleeper);
    n->woken = true;
    return NULL;
}

/* A waker has taken it off the list and is interrupted before it gives the permit: who comes back by itself
 * waits for that, or the permit would end its next rest. */
TEST(a_permit_under_way)
{
    rt_idle idle = {0};
    struct napper n = {.idle = &idle};
    rt_idle_search(&idle);
    rt_idle_announce(&idle, &n.sleeper);
    idle.sleepers = NULL; /* list_remove */
    n.sleeper.link = NULL;
    atomic_fetch_add(&idle.state, RT_IDLE_SEARCHING - RT_IDLE_SLEEPING);
    const pthread_t thread = support_thread(withdraw, &n);
    usleep(20000);
    CHECK(pthread_tryjoin_np(thread, NULL) == EBUSY);
    atomic_store(&n.sleeper.permit, 1); /* give_permit */
    rt_futex_wake(&n.sleeper.permit, 1);
    pthread_join(thread, NULL);
    CHECK(n.woken);
    CHECK_STATE(&idle, 1, 0, 0);
}

/* Two who meet before each round, and leave at nearly the same time. */
static void meet(_Atomic uint32_t *mine, _Atomic uint32_t *other, uint32_t round)
{
    atomic_store_explicit(mine, round + 1, memory_order_release);
    for (int spins = 0; atomic_load_explicit(other, memory_order_acquire) <= round; spins++)
        if (spins > 1000)
            sched_yield();
}

static void stagger(uint64_t *random, uint64_t most)
{
    for (uint64_t n = (support_random(random) >> 16) % most; n > 0; n--)
        __asm__ volatile("" ::: "memory");
}

struct duel {
    rt_idle idle;
    rt_sleeper sleepers[3];
    RT_ALIGNED _Atomic uint32_t at[2];
    uint32_t rounds;
    struct {
        RT_ALIGNED _Atomic uint32_t work;
        bool left_to_a_searcher;
    } cells[1024];
    /* lines that the other wrote last: a store behind stores to these stays in the buffer for a while */
    struct {
        RT_ALIGNED _Atomic uint32_t line;
    } traffic[24];
};

static void write_lines(struct duel *d, uint32_t value)
{
    for (size_t i = 0; i < COUNT_OF(d->traffic); i++)
        atomic_store_explicit(&d->traffic[i].line, value, memory_order_relaxed);
}

static void *pusher(void *arg)
{
    struct duel *d = arg;
    uint64_t random = 5;
    for (uint32_t i = 0; i < d->rounds; i++) {
        meet(&d->at[0], &d->at[1], 2 * i);
        stagger(&random, 1500);
        write_lines(d, 1);
        atomic_store_explicit(&d->cells[i % 1024].work, 1, memory_order_release);
        const bool anybody = rt_idle_anybody(&d->idle);
        rt_membarrier_light(); /* rt_idle_wake's; where it costs anything, anybody is true */
        d->cells[i % 1024].left_to_a_searcher =
            !anybody || RT_IDLE_SEARCHERS(atomic_load_explicit(&d->idle.state, memory_order_relaxed)) != 0;
        meet(&d->at[0], &d->at[1], 2 * i + 1);
    }
    return NULL;
}

/* I4: a push that leaves its work to a searcher is seen by that searcher's last look. */
static void push_against_last_look(uint32_t rounds)
{
    struct duel *d = aligned_alloc(RT_CACHE_LINE, sizeof *d);
    uint64_t random = 6;
    uint32_t seen = 0, left = 0;
    if (d == NULL)
        abort();
    memset((void *)d, 0, sizeof *d);
    rt_idle_init(&d->idle);
    d->rounds = rounds;
    const pthread_t thread = support_thread(pusher, d);
    rt_idle_search(&d->idle);
    for (uint32_t i = 0; i < rounds; i++) {
        atomic_store_explicit(&d->cells[i % 1024].work, 0, memory_order_relaxed);
        write_lines(d, 0);
        meet(&d->at[1], &d->at[0], 2 * i);
        stagger(&random, 1500);
        rt_idle_announce(&d->idle, &d->sleepers[0]);
        const bool found = atomic_load_explicit(&d->cells[i % 1024].work, memory_order_relaxed) != 0;
        meet(&d->at[1], &d->at[0], 2 * i + 1);
        CHECK(found || !d->cells[i % 1024].left_to_a_searcher);
        seen += found;
        left += d->cells[i % 1024].left_to_a_searcher;
        rt_idle_withdraw(&d->idle, &d->sleepers[0]);
    }
    pthread_join(thread, NULL);
    /* whether both ways are met is the machine's affair: on a busy one the two hardly ever run at once */
    if (seen == 0 || left == 0)
        fprintf(stderr, "note: in %u rounds the last look found %u, %u were left to it\n", rounds, seen,
                left);
    free(d);
}

TEST(a_push_against_the_last_look)
{
    push_against_last_look((uint32_t)support_scale(100000));
}

static void *waker(void *arg)
{
    struct duel *d = arg;
    for (uint32_t i = 0; i < d->rounds; i++) {
        meet(&d->at[0], &d->at[1], 2 * i);
        rt_idle_wake(&d->idle, false);
        meet(&d->at[0], &d->at[1], 2 * i + 1);
    }
    return NULL;
}

TEST(two_pushes_wake_one)
{
    struct duel *d = aligned_alloc(RT_CACHE_LINE, sizeof *d);
    if (d == NULL)
        abort();
    memset((void *)d, 0, sizeof *d);
    d->rounds = (uint32_t)support_scale(100000);
    const pthread_t thread = support_thread(waker, d);
    for (size_t i = 0; i < 3; i++)
        rt_idle_search(&d->idle);
    for (uint32_t i = 0; i < d->rounds; i++) {
        for (size_t k = 0; k < 3; k++)
            rt_idle_announce(&d->idle, &d->sleepers[k]);
        meet(&d->at[1], &d->at[0], 2 * i);
        rt_idle_wake(&d->idle, false);
        meet(&d->at[1], &d->at[0], 2 * i + 1);
        CHECK_STATE(&d->idle, 1, 0, 2);
        for (size_t k = 0; k < 3; k++)
            rt_idle_withdraw(&d->idle, &d->sleepers[k]);
    }
    pthread_join(thread, NULL);
    free(d);
}

/* ---- together ---- */

enum { WORKERS = 3 };

typedef struct {
    RT_ALIGNED _Atomic int64_t bottom; /* its owner's, plain stores */
    RT_ALIGNED _Atomic int64_t top;    /* anybody's, by compare-and-swap */
    _Atomic uint64_t progress;
    _Atomic uint64_t sleeps, wakeups, naps;
    rt_sleeper sleeper;
    uint64_t random;
    struct office *office;
} desk;

typedef struct office {
    rt_idle idle;
    desk desks[WORKERS];
    RT_ALIGNED _Atomic int64_t shared;
    _Atomic bool stop, token;
    _Atomic uint64_t pushed, done;
    _Atomic int64_t allowed; /* so many items may still be made by items */
} office;

static int64_t size_of(const desk *d)
{
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);
    const int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed);
    return b > t ? b - t : 0;
}

static void push(desk *d)
{
    atomic_fetch_add_explicit(&d->office->pushed, 1, memory_order_relaxed);
    /* that was a locked instruction: give the buffer something to hold back again */
    const int64_t b = atomic_load_explicit(&d->bottom, memory_order_relaxed);
    atomic_store_explicit(&d->bottom, b + 1, memory_order_release);
    if (rt_idle_anybody(&d->office->idle)) /* rt_notify */
        rt_idle_wake(&d->office->idle, size_of(d) < 2);
}

static void push_outside(office *o)
{
    atomic_fetch_add_explicit(&o->pushed, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->shared, 1, memory_order_release);
    if (rt_idle_anybody(&o->idle)) /* notify_outside */
        rt_idle_wake(&o->idle, false);
}

static bool take_from(desk *d)
{
    int64_t t = atomic_load_explicit(&d->top, memory_order_relaxed);
    return t < atomic_load_explicit(&d->bottom, memory_order_acquire) &&
           atomic_compare_exchange_strong_explicit(&d->top, &t, t + 1, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static bool take_shared(office *o)
{
    int64_t n = atomic_load_explicit(&o->shared, memory_order_relaxed);
    while (n > 0)
        if (atomic_compare_exchange_weak_explicit(&o->shared, &n, n - 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static bool pick(desk *d)
{
    return take_from(d) || take_shared(d->office);
}

static bool steal_round(desk *d, bool *lone)
{
    office *o = d->office;
    desk *shy = NULL;
    *lone = false;
    for (size_t i = 0, at = support_random(&d->random) % WORKERS; i < WORKERS; i++, at = (at + 1) % WORKERS) {
        desk *v = &o->desks[at];
        if (v == d)
            continue;
        const int64_t items = size_of(v);
        if (items == 1) {
            shy = v;
        } else if (items > 1) {
            if (take_from(v))
                return true;
            *lone = true;
        }
    }
    if (!shy)
        return false;
    const uint64_t done = atomic_load_explicit(&shy->progress, memory_order_relaxed);
    for (int i = 0; i < 24; i++)
        rt_relax();
    if (done == atomic_load_explicit(&shy->progress, memory_order_relaxed) && take_from(shy))
        return true;
    *lone = true;
    return false;
}

static bool work_visible(office *o)
{
    if (atomic_load_explicit(&o->shared, memory_order_relaxed) > 0)
        return true;
    for (size_t i = 0; i < WORKERS; i++)
        if (size_of(&o->desks[i]) > 0)
            return true;
    return false;
}

static uint64_t progress_of_all(office *o)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < WORKERS; i++)
        sum += atomic_load_explicit(&o->desks[i].progress, memory_order_relaxed);
    return sum;
}

static bool stopping(office *o)
{
    return atomic_load_explicit(&o->stop, memory_order_acquire);
}

static void add_one(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* As in scheduler.c. */
static bool find_work(desk *d)
{
    office *o = d->office;
    bool found = false;
    int64_t nap = NAP_FIRST;
    uint64_t seen = 0;
    rt_idle_search(&o->idle);
    while (!stopping(o)) {
        bool lone;
        if ((found = pick(d)) || (found = steal_round(d, &lone)))
            break;
        const uint64_t done = progress_of_all(o);
        if (lone || done != seen) {
            seen = done;
            add_one(&d->naps);
            nap = rt_idle_nap(&o->idle, &d->sleeper, nap) ? NAP_FIRST : nap < NAP_LAST ? 2 * nap : nap;
            continue;
        }
        rt_idle_announce(&o->idle, &d->sleeper);
        if (work_visible(o) || stopping(o)) {
            rt_idle_withdraw(&o->idle, &d->sleeper);
            continue;
        }
        add_one(&d->sleeps);
        rt_idle_sleep(&o->idle, &d->sleeper, INT64_MAX);
        add_one(&d->wakeups);
        nap = NAP_FIRST;
    }
    rt_idle_found(&o->idle);
    return found;
}

/* An item may make others. At most one worker at a time waits until what it has pushed was taken from it. */
static void work(desk *d)
{
    office *o = d->office;
    const uint64_t dice = support_random(&d->random) >> 16;
    add_one(&d->progress);
    for (uint64_t n = dice % 3; n > 0; n--)
        if (atomic_fetch_sub_explicit(&o->allowed, 1, memory_order_relaxed) > 0)
            push(d);
    if (dice / 4 % 4 == 0 && !atomic_exchange_explicit(&o->token, true, memory_order_relaxed)) {
        push(d);
        const int64_t mine = atomic_load_explicit(&d->bottom, memory_order_relaxed);
        for (int spins = 0; atomic_load_explicit(&d->top, memory_order_relaxed) < mine && !stopping(o);
             spins++)
            if (spins > 1000)
                sched_yield();
            else
                rt_relax();
        atomic_store_explicit(&o->token, false, memory_order_relaxed);
    }
    for (uint64_t n = dice / 64 % 64; n > 0; n--)
        rt_relax();
    atomic_fetch_add_explicit(&o->done, 1, memory_order_release);
}

static void *sit(void *arg)
{
    desk *d = arg;
    while (!stopping(d->office))
        if (pick(d) || find_work(d))
            work(d);
    return NULL;
}

static void *produce(void *arg)
{
    office *o = arg;
    uint64_t random = 99;
    while (!stopping(o)) {
        const uint64_t dice = support_random(&random) >> 16;
        push_outside(o);
        usleep((useconds_t)(dice % 300));
    }
    return NULL;
}

/* Until everything that was pushed is done. */
static void settle(office *o)
{
    uint64_t last = UINT64_MAX;
    int64_t since = 0;
    for (int i = 0;; i++) {
        const uint64_t done = atomic_load_explicit(&o->done, memory_order_acquire);
        if (done == atomic_load(&o->pushed))
            return;
        if (i < 200) {
            rt_relax();
            continue;
        }
        if (done != last) {
            last = done;
            since = rt_clock_after(0);
        } else if (rt_clock_after(0) - since > HUNG * INT64_C(1000000000)) {
            fprintf(stderr, "hung: %llu of %llu are done, shared %lld, state %llx; of each worker:\n",
                    (unsigned long long)done, (unsigned long long)atomic_load(&o->pushed),
                    (long long)atomic_load(&o->shared), (unsigned long long)state_of(&o->idle));
            for (size_t k = 0; k < WORKERS; k++)
                fprintf(stderr, "  size %lld permit %u\n", (long long)size_of(&o->desks[k]),
                        atomic_load(&o->desks[k].sleeper.permit));
            abort();
        }
        sched_yield();
    }
}

static uint64_t sum_of(office *o, size_t offset)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < WORKERS; i++)
        sum += atomic_load((_Atomic uint64_t *)(void *)((char *)&o->desks[i] + offset));
    return sum;
}

static void day(long rounds)
{
    office *o = aligned_alloc(RT_CACHE_LINE, rt_round_up(sizeof *o, RT_CACHE_LINE));
    pthread_t threads[WORKERS];
    uint64_t random = 31;
    if (o == NULL)
        abort();
    memset((void *)o, 0, sizeof *o);
    rt_idle_init(&o->idle);
    for (size_t i = 0; i < WORKERS; i++) {
        o->desks[i].office = o;
        o->desks[i].random = i + 1;
        threads[i] = support_thread(sit, &o->desks[i]);
    }
    /* rounds, with a pause now and then that lets all fall asleep */
    for (long i = 0; i < rounds; i++) {
        const uint64_t dice = support_random(&random) >> 16;
        atomic_store(&o->allowed, (int64_t)(dice % 20));
        for (uint64_t n = dice / 32 % 3 + 1; n > 0; n--)
            push_outside(o);
        settle(o);
        if (dice / 128 % 8 == 0)
            usleep((useconds_t)(dice / 1024 % 1000));
        else
            for (uint64_t n = dice / 1024 % 512; n > 0; n--)
                rt_relax();
    }

    /* nothing is pushed: all sleep, and nobody is woken */
    int64_t begin = rt_clock_after(0);
    while (state_of(&o->idle) != WORKERS * RT_IDLE_SLEEPING &&
           rt_clock_after(0) - begin < HUNG * INT64_C(1000000000))
        usleep(1000);
    CHECK_STATE(&o->idle, 0, 0, WORKERS);
    const uint64_t wakeups = sum_of(o, offsetof(desk, wakeups)), naps = sum_of(o, offsetof(desk, naps));
    usleep(200000);
    CHECK_EQ(sum_of(o, offsetof(desk, wakeups)), wakeups);
    CHECK_EQ(sum_of(o, offsetof(desk, naps)), naps);
    CHECK(sum_of(o, offsetof(desk, sleeps)) >= WORKERS);

    /* two who push from outside at any time */
    pthread_t producers[2];
    atomic_store(&o->allowed, rounds);
    for (size_t i = 0; i < 2; i++)
        producers[i] = support_thread(produce, o);
    const uint64_t before = atomic_load(&o->done);
    begin = rt_clock_after(0);
    while (atomic_load(&o->done) < before + (uint64_t)rounds / 4 &&
           rt_clock_after(0) - begin < HUNG * INT64_C(1000000000))
        usleep(1000);
    CHECK(atomic_load(&o->done) >= before + (uint64_t)rounds / 4);

    atomic_store(&o->stop, true);
    rt_membarrier_light();
    rt_idle_wake_all(&o->idle);
    for (size_t i = 0; i < 2; i++)
        pthread_join(producers[i], NULL);
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_STATE(&o->idle, 0, 0, 0);
    free(o);
}

TEST(no_wake_up_is_lost)
{
    day(support_scale(20000));
}

static int fallback(void)
{
    rt_membarrier_init();
    CHECK(!rt_membarrier_works);
    day(support_scale(10000));
    what_a_push_is_to_look_at_body();
    push_against_last_look((uint32_t)support_scale(50000));
    return 0;
}

static const struct support_case cases[] = {{"fallback", fallback}};

TEST(nor_without_membarrier)
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
        cmocka_unit_test(one_searcher_is_woken_at_a_time),
        cmocka_unit_test(a_withdrawal),
        cmocka_unit_test(a_nap),
        cmocka_unit_test(a_lone_item_is_left_to_a_napper),
        cmocka_unit_test(what_a_push_is_to_look_at),
        cmocka_unit_test(a_permit_under_way),
        cmocka_unit_test(a_push_against_the_last_look),
        cmocka_unit_test(two_pushes_wake_one),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(nor_without_membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
