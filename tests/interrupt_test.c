/* SPDX-License-Identifier: MIT
 *
 * Tests of waits that are ended: every operation that can block, and {it completes, a limit of time passes,
 * it is cancelled, several of these at once}. A wait has completed, with all its effects, or has none:
 * nothing is received and lost, nothing sent twice, no lock held, nobody counted. The operations stand in
 * interrupt_ops.h.
 *
 * ctest: workers
 * ctest: timeout 240
 */
#include "interrupt_ops.h"

#include "interrupt_play.h"

/* ---- one thing, or several at once ---- */

TEST(it_completes)
{
    play(WAKE, batches(60));
}

TEST(a_limit_passes)
{
    play(LIMIT, batches(80));
}

TEST(it_is_cancelled)
{
    play(CANCEL, batches(100));
}

TEST(waker_against_canceller)
{
    play(WAKE | CANCEL, batches(300));
}

TEST(waker_against_limit)
{
    play(WAKE | LIMIT, batches(200));
}

TEST(canceller_against_limit)
{
    play(CANCEL | LIMIT, batches(120));
}

TEST(all_three)
{
    play(WAKE | CANCEL | LIMIT, batches(250));
}

TEST(at_the_very_moment)
{
    play_moments(CANCEL, batches(1000));
    play_moments(WAKE | CANCEL, batches(2000));
}

static int fallback(void)
{
    play_moments(CANCEL, batches(200));
    play_moments(WAKE | CANCEL, batches(400));
    play(WAKE | CANCEL, batches(60));
    play(WAKE | CANCEL | LIMIT, batches(60));
    return 0;
}

TEST(without_membarrier)
{
    static const char *const variables[] = {"ROUTINES_MEMBARRIER=0", NULL};
    struct support_result result;
    CASE_EXITS(&result, "fallback", variables, 0);
}

/* ---- before it begins ---- */

TEST(one_that_was_cancelled_before_takes_nothing)
{
    struct before b = {support_runtime(1), support_scale(24)};
    support_in_routine(refuse_canceled, &b);
    refuse_canceled(&b);
    support_runtime_end(b.other);
}

TEST(one_whose_limit_has_passed_before_takes_nothing)
{
    long rounds = support_scale(100);
    support_in_routine(refuse_expired, &rounds);
    refuse_expired(&rounds);
}

/* ---- with a partner that waits ---- */

struct partner {
    chan_t *ch;
    routine_barrier_t barrier;
    routine_mutex_t mutex;
    routine_cond_t cond;
    uint64_t value;
    int kind;
    _Atomic int has;
};

static void *wait_for_partner(void *arg)
{
    struct partner *p = arg;
    uint64_t value = 5;
    switch (p->kind) {
    case 0:
        CHECK_EQ(chan_recv(p->ch, &p->value), 0);
        break;
    case 1:
        CHECK_EQ(chan_send(p->ch, &value), 0);
        break;
    case 2:
        CHECK_EQ(routine_barrier_wait(&p->barrier), 0);
        break;
    default: /* gets the mutex only if a condition wait releases it */
        CHECK_EQ(routine_mutex_lock(&p->mutex), 0);
        atomic_store(&p->has, 1);
        CHECK_EQ(routine_mutex_unlock(&p->mutex), 0);
    }
    return NULL;
}

static void refused(struct partner *p, int expected)
{
    uint64_t value = 6, untouched = UNTOUCHED;
    switch (p->kind) {
    case 0:
        CHECK_EQ(chan_send(p->ch, &value), expected);
        CHECK_EQ(chan_select(CHAN_SEND(p->ch, &value)), expected);
        CHECK_EQ(p->value, UNTOUCHED);
        break;
    case 1:
        CHECK_EQ(chan_recv(p->ch, &untouched), expected);
        CHECK_EQ(chan_select(CHAN_RECV(p->ch, &untouched), CHAN_TIMEOUT(ROUTINE_S)), expected);
        CHECK_EQ(untouched, UNTOUCHED);
        break;
    case 2:
        CHECK_EQ(routine_barrier_wait(&p->barrier), expected);
        CHECK_EQ(routine_barrier_wait(&p->barrier), expected);
        break;
    default:
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(routine_cond_wait(&p->cond, &p->mutex), expected);
            CHECK_EQ(atomic_load(&p->has), 0); /* it was held all the time */
        }
    }
}

static void *refused_canceled(void *arg)
{
    struct partner *p = arg;
    if (p->kind == 3) { /* who waits for the mutex comes after this one */
        CHECK_EQ(routine_mutex_lock(&p->mutex), 0);
        const routine_t h = go(wait_for_partner, p);
        await_parked(NULL, 1);
        CHECK_EQ(routine_cancel(routine_self()), 0);
        refused(p, -ECANCELED);
        CHECK_EQ(routine_mutex_unlock(&p->mutex), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        return NULL;
    }
    CHECK_EQ(routine_cancel(routine_self()), 0);
    refused(p, -ECANCELED);
    return NULL;
}

static void *refused_expired(void *arg)
{
    struct partner *p = arg;
    if (p->kind == 3) {
        CHECK_EQ(routine_mutex_lock(&p->mutex), 0);
        const routine_t h = go(wait_for_partner, p);
        await_parked(NULL, 1);
        {
            routine_with_timeout(0);
            refused(p, -ETIMEDOUT);
        }
        CHECK_EQ(routine_mutex_unlock(&p->mutex), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        return NULL;
    }
    routine_with_timeout(0);
    refused(p, -ETIMEDOUT);
    return NULL;
}

static void *direct_partners(void *arg)
{
    for (int i = 0; i < 8; i++) {
        struct partner p = {.ch = MAKE(uint64_t, 0), .kind = i % 4, .value = UNTOUCHED};
        routine_t h = {NULL, 0};
        CHECK_EQ(routine_barrier_init(&p.barrier, 2), 0);
        if (p.kind != 3) {
            h = go(wait_for_partner, &p);
            await_parked(NULL, 1);
        }
        const routine_t refusing = go(i / 4 ? refused_expired : refused_canceled, &p);
        WAIT_UNTIL(routine_is_finished(refusing)); /* on a stack of its own: this one is not parked */
        CHECK_EQ(routine_join(refusing, NULL), 0);
        if (p.kind == 0)
            CHECK_EQ(chan_try_send(p.ch, &(uint64_t){9}), 0); /* it still waits, for that */
        else if (p.kind == 1)
            CHECK_EQ(chan_try_recv(p.ch, &p.value), 0);
        else if (p.kind == 2)
            CHECK_EQ(routine_barrier_wait(&p.barrier), 1);
        if (p.kind != 3)
            CHECK_EQ(routine_join(h, NULL), 0);
        if (p.kind < 2)
            CHECK_EQ(p.value, p.kind == 0 ? 9 : 5);
        chan_unref(p.ch);
    }
    return arg;
}

TEST(nor_from_a_partner_that_waits)
{
    direct(direct_partners, NULL);
}

/* ---- under a shield ---- */

TEST(under_a_shield_it_completes)
{
    long rounds = support_scale(80);
    direct(direct_shielded, &rounds);
    support_in_routine(direct_shielded, &rounds);
    direct_shielded(&rounds);
}

/* ---- in place ---- */

enum { LINKS = 5 };

struct links {
    struct link {
        struct links *links;
        routine_oneshot_t gate;
        _Atomic bool parked;
        routine_t self;
        int index, rc;
    } link[LINKS];
    int victim;
};

/* Each one's child is the next one, which it joins before it has started. The innermost waits; then, on
 * the way out, each waits once more. */
static void *nest(void *arg)
{
    struct link *l = arg;
    const bool is_victim = l->index == l->links->victim;
    l->self = routine_self();
    if (l->index + 1 < LINKS)
        CHECK_EQ(routine_join(go(nest, l + 1), NULL), 0);
    atomic_store(&l->parked, true);
    l->rc = routine_oneshot_recv(&l->gate, NULL);
    CHECK_EQ(l->rc, is_victim ? -ECANCELED : 0);
    CHECK_EQ(routine_check(), is_victim ? -ECANCELED : 0);
    return NULL;
}

/* Of routines that share a stack only the one that was cancelled is told, whichever is parked at the time. */
static void *direct_nest(void *arg)
{
    for (int round = 0; round < 4 * LINKS; round++) {
        struct links *links = calloc(1, sizeof *links);
        links->victim = round % LINKS;
        for (int i = 0; i < LINKS; i++)
            links->link[i] = (struct link){.links = links, .index = i};
        const routine_t h = go(nest, &links->link[0]);
        WAIT_UNTIL(atomic_load(&links->link[LINKS - 1].parked));
        if (round / LINKS % 2)
            CHECK_EQ(routine_cancel(links->link[links->victim].self), 0);
        for (int i = LINKS - 1; i >= 0; i--) {
            WAIT_UNTIL(atomic_load(&links->link[i].parked));
            for (int k = 0; k < 3; k++)
                routine_yield();
            if (i != links->victim)
                CHECK_EQ(routine_oneshot_send(&links->link[i].gate, NULL), 0);
            else if (round / LINKS % 2 == 0)
                CHECK_EQ(routine_cancel(links->link[i].self), 0);
        }
        CHECK_EQ(routine_join(h, NULL), 0);
        free(links);
    }
    return arg;
}

TEST(in_place_only_the_one_that_was_meant)
{
    direct(direct_nest, NULL);
    support_in_routine(direct_nest, NULL);
    direct_nest(NULL);
}

/* ---- thousands at once ---- */

enum { THOUSANDS = 10000 };

static struct stage *set_up_thousands(routine_runtime_t *runtime, long n, unsigned what)
{
    struct stage *stages = calloc((size_t)n, sizeof *stages);
    uint64_t random = 81;
    if (stages == NULL)
        abort();
    for (long i = 0; i < n; i++) {
        struct stage *s = &stages[i];
        stage_begin(s, &ops[i % (long)COUNT_OF(ops)], what, support_random(&random));
        s->actor.routine = s->waiter = support_go_on(runtime, wait_here, s);
    }
    return stages;
}

static void check_thousands(struct stage *stages, long n)
{
    for (long i = 0; i < n; i++) {
        struct stage *s = &stages[i];
        if (s->op->flags & DEAF && !(s->what & ALL))
            wake_surely(s);
        end_waiter(s);
        STAGE_CHECK(s, s->op->flags & DEAF ? completed(s) || s->rc == NOT_RUN
                                           : s->rc == -ECANCELED || s->rc == NOT_RUN);
        s->op->check(s);
    }
    free(stages);
}

TEST(ten_thousand_are_cancelled_one_after_another)
{
    const long n = support_slow() ? 1000 : THOUSANDS;
    routine_runtime_t *runtime = support_runtime(0);
    struct stage *stages = set_up_thousands(runtime, n, CANCEL);
    for (long i = 0; i < n; i++)
        WAIT_UNTIL(atomic_load(&stages[i].begun));
    for (long i = 0; i < n; i++) {
        CHECK_EQ(routine_cancel(stages[(i * 7919) % n].waiter), 0);
        CHECK_EQ(routine_cancel(stages[i].waiter), 0);
    }
    check_thousands(stages, n);
    support_runtime_end(runtime);
}

TEST(a_shutdown_cancels_ten_thousand)
{
    for (int parked = 0; parked < 2; parked++) {
        const long n = support_slow() ? 1000 : THOUSANDS;
        routine_runtime_t *runtime = support_runtime(0);
        struct stage *stages = set_up_thousands(runtime, n, CANCEL | ALL);
        for (long i = 0; i < n && parked; i++)
            WAIT_UNTIL(atomic_load(&stages[i].begun));
        for (long i = 0; i < n; i++) /* children of the default runtime are not among them */
            if (stages[i].op->setup == set_up_join)
                wake_surely(&stages[i]);
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER), 0);
        CHECK_EQ(routine_runtime_free(runtime), 0);
        check_thousands(stages, n);
    }
}

static const struct support_case cases[] = {{"fallback", fallback}};

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_completes),
        cmocka_unit_test(a_limit_passes),
        cmocka_unit_test(it_is_cancelled),
        cmocka_unit_test(waker_against_canceller),
        cmocka_unit_test(waker_against_limit),
        cmocka_unit_test(canceller_against_limit),
        cmocka_unit_test(all_three),
        cmocka_unit_test(at_the_very_moment),
        cmocka_unit_test(without_membarrier),
        cmocka_unit_test(one_that_was_cancelled_before_takes_nothing),
        cmocka_unit_test(one_whose_limit_has_passed_before_takes_nothing),
        cmocka_unit_test(nor_from_a_partner_that_waits),
        cmocka_unit_test(under_a_shield_it_completes),
        cmocka_unit_test(in_place_only_the_one_that_was_meant),
        cmocka_unit_test(ten_thousand_are_cancelled_one_after_another),
        cmocka_unit_test(a_shutdown_cancels_ten_thousand),
    };
    return cmocka_run_group_tests_name("interrupt", tests, NULL, NULL);
}
