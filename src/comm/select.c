/* SPDX-License-Identifier: MIT
 *
 * Floor 6. Select: one of several sends and receives, whichever is possible first.
 *
 * First without any lock: of the cases that seem ready (chan.h, C4) one is chosen at random and tried. If
 * none is, or another was faster:
 *
 *  S1 All channels are locked at once, so there is one moment at which none of the cases was ready.
 *     While they are, a case that has become ready is taken; else a default or a time that has passed;
 *     else the select is entered into the queue of every case, and parks. The locks are left on the
 *     other side.
 *  S2 Locks are taken in the order of addresses, each channel's once; or, if all are biased to this
 *     worker, all together by one visit of its seat (bias.h, B6).
 *  S3 Its wait is shared (wait.h): whoever finds a record of it in a queue wins the wait or leaves it alone.
 *     A select itself tries others' records only before it has entered its own, so it never
 *     meets itself, and two selects never have to be won at the same time.
 *  S4 Then it takes those records out that are still queued, under the lock of each channel. The one
 *     whose wait was won with the last lock not yet left waits for it here, since a record of it is in
 *     that channel's queue: the list of locks on its stack lasts so long. (So a select needs a channel
 *     for that; without one it has nothing to lock.)
 *
 * (After Go's selectgo; without its allocation and with the random choice among the ready ones only.)
 */
#include <stdlib.h>

#include "../os/clock.h"
#include "chan.h"

/* Cases that need no malloc. */
#define FEW 16

/* A case with a channel, and its place among the waiters. */
typedef struct {
    rt_waiter waiter; /* its kind is the index of the case */
    chan_t *chan;
    rt_queue *queue;
} entry;

/* What a select is made of, and which case it would take. */
typedef struct {
    const chan_case_t *cases;
    size_t count;
    size_t active;     /* cases with a channel */
    ptrdiff_t chosen;  /* one of those that seemed ready, each with the same chance; -1: none did */
    ptrdiff_t always;  /* a send on a broadcast, which never waits; -1: none */
    ptrdiff_t instead; /* the default, or the case of the nearest time; -1: none */
    bool at_once;      /* it is a default */
    int64_t deadline;
} plan;

/* The locks of all channels. */
typedef struct {
    rt_seat *how; /* null: by the locks in order[] */
    chan_t **order;
    size_t count;
} locks;

static bool is_active(const chan_case_t *c)
{
    return c->chan && (c->kind == ROUTINES_CASE_RECV || c->kind == ROUTINES_CASE_SEND);
}

static bool seems_ready(const chan_case_t *c)
{
    if (c->kind == ROUTINES_CASE_RECV)
        return rt_chan_may_recv(c->chan);
    return rt_chan_may_send(c->chan) || c->chan->kind == RT_CHAN_BROADCAST;
}

/* What a select returns whose case i had this result. */
static int result_of(int rc, size_t i)
{
    return rc == 0 ? (int)i : rc == -EPIPE ? CHAN_CLOSED((int)i) : rc;
}

/* Under the lock of its channel: the case's result, or -EAGAIN. */
static int try_now(const chan_case_t *c, size_t i, rt_block **wake)
{
    int rc;
    if (c->kind == ROUTINES_CASE_RECV) {
        rc = rt_chan_recv_now(c->chan, c->into, wake);
        if (rc == 0 && c->chan->kind == RT_CHAN_SUBSCRIPTION)
            (void)rt_broadcast_tell((rt_broadcast *)(void *)c->chan); /* chan_missed has it */
    } else {
        rc = rt_chan_send_now(c->chan, c->from, wake);
    }
    return result_of(rc, i);
}

static int try_alone(const chan_case_t *c, size_t i)
{
    if (RT_UNLIKELY(c->chan->kind == RT_CHAN_BROADCAST))
        return result_of(rt_broadcast_send((rt_broadcast *)(void *)c->chan, c->from), i);
    rt_block *wake;
    rt_seat *how = rt_bias_enter(&c->chan->bias, rt_self()->seat);
    const int rc = try_now(c, i, &wake);
    rt_bias_leave(&c->chan->bias, how);
    if (wake)
        rt_ready_block(wake);
    return rc;
}

/* A number below n, all equally likely. */
static size_t dice(size_t n)
{
    static _Atomic uint64_t outside = 1; /* of plain threads */
    rt_worker *w = rt_self()->worker;
    uint64_t state = 0, *random = &state;
    if (w)
        random = &w->random;
    else /* relaxed: any number will do */
        state = atomic_fetch_add_explicit(&outside, UINT64_C(0x9e3779b97f4a7c15), memory_order_relaxed) | 1;
    /* the upper half of the product of a 32-bit number and n (Lemire 2019): the error is n / 2^32 */
    return (size_t)((rt_random(random) >> 32) * n >> 32);
}

/* Number k, from 0, of the cases that seem ready, or the last one if there are fewer by now; -1: none. */
static ptrdiff_t ready_number(const plan *p, size_t k)
{
    ptrdiff_t last = -1;
    for (size_t i = 0; i < p->count; i++)
        if (is_active(&p->cases[i]) && seems_ready(&p->cases[i])) {
            last = (ptrdiff_t)i;
            if (k-- == 0)
                break;
        }
    return last;
}

/* One of the cases that seem ready; -1: none does. */
static ptrdiff_t choose(const plan *p)
{
    size_t ready = 0;
    for (size_t i = 0; i < p->count; i++)
        ready += is_active(&p->cases[i]) && seems_ready(&p->cases[i]);
    return ready == 0 ? -1 : ready_number(p, ready == 1 ? 0 : dice(ready));
}

/* A case without a channel. */
static int plan_other(plan *p, const chan_case_t *c, ptrdiff_t i)
{
    int64_t at;
    if (c->kind == ROUTINES_CASE_DEFAULT || (c->kind == ROUTINES_CASE_TIMEOUT && c->time <= 0)) {
        if (!p->at_once)
            p->instead = i;
        p->at_once = true;
        return 0;
    }
    switch (c->kind) {
    case ROUTINES_CASE_TIMEOUT:
        at = rt_clock_after(c->time);
        break;
    case ROUTINES_CASE_DEADLINE:
        at = c->time;
        break;
    default:
        return -EINVAL;
    }
    if (!p->at_once && (p->instead < 0 || at < p->deadline)) {
        p->instead = i;
        p->deadline = at;
    }
    return 0;
}

/* Reads the cases, up to a case END or `most`. 0 or a negative errno. */
RT_INLINE int make_plan(plan *p, const chan_case_t *cases, size_t most)
{
    uint16_t ready[FEW];
    size_t count = 0, i;
    *p = (plan){.cases = cases, .chosen = -1, .always = -1, .instead = -1, .deadline = INT64_MAX};
    for (i = 0; i < most && cases[i].kind != ROUTINES_CASE_END; i++) {
        const chan_case_t *c = &cases[i];
        if (RT_UNLIKELY(c->kind != ROUTINES_CASE_RECV && c->kind != ROUTINES_CASE_SEND)) {
            const int rc = plan_other(p, c, (ptrdiff_t)i);
            if (rc != 0)
                return rc;
            continue;
        }
        if (!c->chan)
            continue;
        rt_chan_check_size(c->chan, c->size);
        if (RT_UNLIKELY(c->chan->kind != RT_CHAN_PLAIN)) {
            if ((c->chan->kind == RT_CHAN_BROADCAST) != (c->kind == ROUTINES_CASE_SEND))
                return -EPERM;
            if (c->chan->kind == RT_CHAN_BROADCAST)
                p->always = (ptrdiff_t)i;
        }
        p->active++;
        if (seems_ready(c)) {
            if (count < FEW)
                ready[count] = (uint16_t)i;
            count++;
        }
    }
    p->count = i;
    if (count == 1)
        p->chosen = ready[0];
    else if (count != 0) {
        const size_t k = dice(count);
        p->chosen = count <= FEW ? ready[k] : ready_number(p, k);
    }
    return 0;
}

/* ---- all locks at once (S1, S2) ---- */

static bool lock_by_bias(const entry *entries, size_t n, rt_seat *mine)
{
    rt_seat_come(mine);
    for (size_t i = 0; i < n; i++) {
        /* acquire: bias.h, B1 */
        if (RT_UNLIKELY(atomic_load_explicit(&entries[i].chan->bias.owner, memory_order_acquire) != mine)) {
            rt_seat_go(mine);
            return false;
        }
    }
    return true;
}

static void sift(chan_t **heap, size_t i, size_t n)
{
    chan_t *moved = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && (uintptr_t)heap[child] < (uintptr_t)heap[child + 1])
            child++;
        if ((uintptr_t)heap[child] <= (uintptr_t)moved)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* Heap sort: in place, and never slow. */
static void sort(chan_t **list, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(list, i, n);
    while (n-- > 1) {
        chan_t *greatest = list[0];
        list[0] = list[n];
        list[n] = greatest;
        sift(list, 0, n);
    }
}

static void lock_all(const entry *entries, size_t n, locks *l)
{
    rt_seat *mine = rt_self()->seat;
    l->count = 0;
    if (mine->number && lock_by_bias(entries, n, mine)) {
        l->how = mine;
        return;
    }
    l->how = NULL;
    for (size_t i = 0; i < n; i++)
        l->order[i] = entries[i].chan;
    sort(l->order, n);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || l->order[i] != l->order[l->count - 1])
            l->order[l->count++] = l->order[i];
    for (size_t i = 0; i < l->count; i++)
        rt_bias_lock(&l->order[i]->bias, mine);
}

static void unlock_all(const locks *l)
{
    if (l->how) {
        rt_seat_go(l->how);
        return;
    }
    chan_t *const *order = l->order;
    for (size_t left = l->count; left > 0; left--)
        rt_bias_unlock(&(*order++)->bias);
}

/* A commit. */
static bool leave_all(rt_block *r, void *arg)
{
    (void)r;
    unlock_all(arg);
    return true;
}

/* A commit: that of a wait without a limit, which is opened here. */
static bool open_and_leave_all(rt_block *r, void *arg)
{
    const bool canceled = rt_wait_open(r, true);
    unlock_all(arg);
    return !canceled;
}

/* ---- waiting ---- */

static void list_cases(const plan *p, entry *e)
{
    for (size_t i = 0; i < p->count; i++)
        if (is_active(&p->cases[i])) {
            chan_t *ch = p->cases[i].chan;
            e->waiter.kind = (int32_t)i;
            e->chan = ch;
            e->queue = p->cases[i].kind == ROUTINES_CASE_RECV ? &ch->receivers : &ch->senders;
            e++;
        }
}

static void enter_all(const plan *p, entry *entries, rt_block *me, rt_waiter **won)
{
    for (size_t i = 0; i < p->active; i++) {
        rt_waiter *w = &entries[i].waiter;
        const chan_case_t *c = &p->cases[w->kind];
        w->who = me;
        w->won = won;
        w->data = c->kind == ROUTINES_CASE_RECV
                      ? c->into
                      : (void *)(uintptr_t)c->from; // NOLINT(performance-no-int-to-ptr)
        rt_queue_append(entries[i].queue, w);
    }
}

/* Those whose channel is biased to this worker. Returns how many are left. */
static size_t withdraw_by_bias(entry *entries, size_t n, rt_seat *mine)
{
    size_t rest = 0;
    rt_seat_come(mine);
    for (size_t i = 0; i < n; i++) {
        entry *e = &entries[i];
        if (!rt_waiter_is_queued(&e->waiter))
            continue;
        if (atomic_load_explicit(&e->chan->bias.owner, memory_order_acquire) == mine) /* bias.h, B1 */
            rt_queue_remove(e->queue, &e->waiter);
        else
            rest++;
    }
    rt_seat_go(mine);
    return rest;
}

/* S4. A channel is touched only while a record of this select is in its queue: the one whose case happened
 * may be gone. */
static void withdraw_all(entry *entries, size_t n)
{
    rt_seat *mine = rt_self()->seat;
    size_t rest = n;
    if (mine->number)
        rest = withdraw_by_bias(entries, n, mine);
    for (size_t i = 0; rest != 0 && i < n; i++) {
        entry *e = &entries[i];
        if (!rt_waiter_is_queued(&e->waiter))
            continue;
        rt_seat *how = rt_bias_enter(&e->chan->bias, mine);
        if (rt_waiter_is_queued(&e->waiter))
            rt_queue_remove(e->queue, &e->waiter);
        rt_bias_leave(&e->chan->bias, how);
    }
}

/* With room for an entry and a lock for each active case. */
RT_INLINE int select_locked(const plan *p, entry *entries, chan_t **order)
{
    locks l = {.order = order};
    rt_block *me = rt_me();
    list_cases(p, entries);
    lock_all(entries, p->active, &l);
    for (ptrdiff_t i; (i = choose(p)) >= 0;) {
        /* a waiter on the other side may be won by another of its channels meanwhile: then it is taken out,
         * and the next look is at what is left */
        rt_block *wake;
        const int rc = try_now(&p->cases[i], (size_t)i, &wake);
        if (RT_LIKELY(rc != -EAGAIN)) {
            unlock_all(&l);
            if (wake)
                rt_ready_block(wake);
            return rc;
        }
    }
    if (p->at_once || (p->instead >= 0 && (p->deadline <= 0 || p->deadline <= rt_clock_now()))) {
        unlock_all(&l);
        return (int)p->instead;
    }
    const int64_t limit = rt_frame_limit(me);
    if (RT_UNLIKELY(limit != INT64_MAX) && limit <= rt_clock_now()) {
        unlock_all(&l);
        rt_frame_expire(me);
        return -ETIMEDOUT;
    }
    rt_waiter *won = NULL;
    int rc = -ECANCELED;
    enter_all(p, entries, me, &won);
    if (p->deadline != INT64_MAX || limit != INT64_MAX)
        rc = rt_wait(leave_all, &l, p->deadline, false);
    else if (l.how)
        rt_park_inside(NULL, l.how, true);
    else
        rt_park(open_and_leave_all, &l);
    withdraw_all(entries, p->active);
    if (!won)
        return rc == RT_TIME_HAS_COME ? (int)p->instead : rc;
    return won->result == 0 ? (int)won->kind : CHAN_CLOSED((int)won->kind);
}

/* Without a channel: the time alone, or until it is cancelled. */
static RT_NOINLINE int select_none(const plan *p)
{
    const int rc = p->at_once ? 0 : rt_sleep_until(p->deadline);
    return rc != 0 ? rc : (int)p->instead;
}

static RT_NOINLINE int select_few(const plan *p)
{
    entry entries[FEW];
    chan_t *order[FEW];
    return select_locked(p, entries, order);
}

static RT_NOINLINE int select_many(const plan *p)
{
    char *memory = malloc(p->active * (sizeof(entry) + sizeof(chan_t *)));
    if (!memory)
        return -ENOMEM;
    entry *entries = (entry *)(void *)memory;
    const int rc = select_locked(p, entries, (chan_t **)(void *)(entries + p->active));
    free(memory);
    return rc;
}

RT_INLINE int select_plan(const plan *p)
{
    if (p->chosen >= 0) {
        const int rc = try_alone(&p->cases[p->chosen], (size_t)p->chosen);
        if (RT_LIKELY(rc != -EAGAIN))
            return rc;
        if (p->always >= 0)
            return try_alone(&p->cases[p->always], (size_t)p->always);
    } else if (p->active <= 1 && p->at_once) { /* one look at one channel is a moment (C4) */
        return (int)p->instead;
    }
    if (RT_UNLIKELY(p->active == 0))
        return select_none(p);
    return p->active <= FEW ? select_few(p) : select_many(p);
}

int chan_select_array(const chan_case_t *cases, size_t n)
{
    plan p;
    if (n > CHAN_CASES_MAX || (!cases && n != 0))
        return -EINVAL;
    int rc = rt_frame_stop(rt_self()->current);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    (void)rt_enter();
    rc = make_plan(&p, cases, n);
    if (rc == 0 && p.count != n)
        rc = -EINVAL;
    if (rc == 0)
        rc = select_plan(&p);
    rt_leave();
    return rc;
}

int chan_select_list(const chan_case_t *cases)
{
    plan p;
    int rc = rt_frame_stop(rt_self()->current);
    if (RT_UNLIKELY(rc != 0))
        return rc;
    (void)rt_enter();
    rc = make_plan(&p, cases, CHAN_CASES_MAX);
    if (rc == 0)
        rc = select_plan(&p);
    rt_leave();
    return rc;
}
