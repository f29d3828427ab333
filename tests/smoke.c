/* SPDX-License-Identifier: MIT
 *
 * A little of everything, through the public headers and without a test framework:
 * what runs where cmocka is not to be had, on other CPUs and C libraries. One
 * line a part; exit status 1 if something was not as it should be.
 *
 * ctest: timeout 240
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 4000, ROUNDS = 3 };

static int failures;

/* Only the main thread and the first routine of a runtime check, one after the other. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            failures++;                                                                                      \
            printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition);                                    \
        }                                                                                                    \
    } while (0)

static void *number(uintptr_t n)
{
    return (void *)n;
}

/* ---- go, join, yield, many of them ---- */

static void *twice(void *arg)
{
    const uintptr_t n = (uintptr_t)arg;
    if (n % 3 == 0)
        routine_yield();
    return number(2 * n);
}

static void many_in_order(void)
{
    static routine_t handles[MANY];
    uintptr_t sum = 0;
    for (uintptr_t i = 0; i < MANY; i++)
        handles[i] = go(twice, number(i));
    for (uintptr_t i = 0; i < MANY; i++) {
        void *result = NULL;
        CHECK(routine_join(handles[i], &result) == 0);
        sum += (uintptr_t)result;
        CHECK(routine_join(handles[i], NULL) == -ESRCH);
    }
    CHECK(sum == (uintptr_t)MANY * (MANY - 1));
}

static void *tree(void *arg)
{
    const uintptr_t depth = (uintptr_t)arg;
    if (depth == 0)
        return number(1);
    routine_t left = go(tree, number(depth - 1));
    routine_t right = go(tree, number(depth - 1));
    void *a = NULL, *b = NULL;
    if (routine_join(right, &b) != 0 || routine_join(left, &a) != 0)
        return NULL;
    return number((uintptr_t)a + (uintptr_t)b);
}

static void many_in_a_tree(void)
{
    void *leaves = NULL;
    CHECK(routine_join(go(tree, number(12)), &leaves) == 0);
    CHECK((uintptr_t)leaves == 4096);
}

/* ---- closures, names, floating point kept over switches ---- */

struct job {
    double from;
    int rounds;
    double *sum;
};

static void *harmonic(void *arg)
{
    const struct job *job = arg;
    double sum = 0;
    for (int i = 0; i < job->rounds; i++) {
        sum += 1 / (job->from + i);
        routine_yield();
    }
    *job->sum = sum;
    return NULL;
}

static void closures(void)
{
    double sums[16];
    routine_t handles[16];
    for (int i = 0; i < 16; i++)
        handles[i] = go_copy(harmonic, ((struct job){.from = i + 1, .rounds = 50, .sum = &sums[i]}));
    for (int i = 0; i < 16; i++) {
        double expected = 0;
        for (int k = 0; k < 50; k++)
            expected += 1 / ((double)(i + 1) + k);
        CHECK(routine_join(handles[i], NULL) == 0);
        CHECK(sums[i] > expected - 1e-12 && sums[i] < expected + 1e-12);
    }
}

static void *own_name(void *arg)
{
    (void)arg;
    return (void *)(uintptr_t)(strcmp(routine_name(routine_self()), "somebody") == 0);
}

static void *deep(void *arg)
{
    volatile char room[1024];
    const uintptr_t depth = (uintptr_t)arg;
    room[0] = (char)depth;
    room[sizeof room - 1] = 1;
    if (depth == 0)
        return number(0);
    return number((uintptr_t)deep(number(depth - 1)) + (uintptr_t)room[sizeof room - 1]);
}

static void attributes(void)
{
    void *result = NULL;
    CHECK(routine_join(go_with(&(routine_attr_t){.name = "somebody"}, own_name, NULL), &result) == 0);
    CHECK(result != NULL);
    CHECK(routine_join(go_with(&(routine_attr_t){.stack_size = (size_t)4 << 20}, deep, number(2000)),
                       &result) == 0);
    CHECK((uintptr_t)result == 2000);
    CHECK(routine_join(go_with(&(routine_attr_t){.stack_size = ROUTINE_STACK_MAX + 1}, deep, NULL), NULL) ==
          -EINVAL);
    CHECK(routine_join(go(NULL, NULL), NULL) == -EINVAL);
}

/* ---- exit, cancel ---- */

static void leave(void *result)
{
    routine_exit(result);
}

static void *leaves_early(void *arg)
{
    leave(arg);
    return NULL;
}

static void *until_cancelled(void *arg)
{
    uintptr_t rounds = 0;
    if (routine_oneshot_send(arg, NULL) != 0)
        return NULL;
    while (routine_check() == 0) {
        routine_yield();
        rounds++;
    }
    return number(rounds + 1);
}

static void ends(void)
{
    void *result = NULL;
    routine_t h = go(leaves_early, number(7));
    CHECK(routine_join(h, &result) == 0 && (uintptr_t)result == 7);

    routine_oneshot_t started = ROUTINE_ONESHOT_INITIALIZER;
    h = go(until_cancelled, &started);
    CHECK(routine_oneshot_recv(&started, NULL) == 0);
    CHECK(routine_cancel(h) == 0);
    CHECK(routine_join(h, &result) == 0 && result != NULL);
    CHECK(routine_cancel(h) == -ESRCH);

    for (int i = 0; i < 100; i++) {
        h = go(twice, number(1));
        CHECK(routine_cancel(h) == 0);
        const int rc = routine_join(h, NULL); /* it may have run before */
        CHECK(rc == 0 || rc == -ECANCELED);
    }
}

/* ---- oneshots ---- */

struct relay {
    routine_oneshot_t *in;
    routine_oneshot_t *out;
};

static void *relay(void *arg)
{
    const struct relay *r = arg;
    void *value = NULL;
    if (routine_oneshot_recv(r->in, &value) == 0)
        (void)routine_oneshot_send(r->out, number((uintptr_t)value + 1));
    return NULL;
}

/* A chain: each waits for the one before it, so all but the last are parked at once. */
static void oneshots(void)
{
    enum { LINKS = 2000 };
    static routine_oneshot_t shots[LINKS + 1];
    static routine_t handles[LINKS];
    for (int i = 0; i <= LINKS; i++)
        routine_oneshot_init(&shots[i]);
    for (int i = 0; i < LINKS; i++)
        handles[i] = go_copy(relay, ((struct relay){&shots[i], &shots[i + 1]}));
    CHECK(routine_oneshot_send(&shots[0], number(100)) == 0);
    void *value = NULL;
    CHECK(routine_oneshot_recv(&shots[LINKS], &value) == 0);
    CHECK((uintptr_t)value == 100 + LINKS);
    CHECK(routine_oneshot_recv(&shots[LINKS], &value) == -EPIPE);
    for (int i = 0; i < LINKS; i++)
        CHECK(routine_join(handles[i], NULL) == 0);
}

/* ---- locals ---- */

static routine_key_t key;

static void destroy(void *value)
{
    ++*(uintptr_t *)value;
}

static void *uses_local(void *arg)
{
    if (routine_getspecific(key) != NULL || routine_setspecific(key, arg) != 0)
        return NULL;
    routine_yield();
    return routine_getspecific(key);
}

static void locals(void)
{
    static uintptr_t values[64];
    static routine_t handles[64];
    CHECK(routine_key_create(&key, destroy) == 0);
    for (int i = 0; i < 64; i++)
        handles[i] = go(uses_local, &values[i]);
    for (int i = 0; i < 64; i++) {
        void *result = NULL;
        CHECK(routine_join(handles[i], &result) == 0);
        CHECK(result == &values[i]);
        CHECK(values[i] == 1);
        values[i] = 0;
    }
    CHECK(routine_key_delete(key) == 0);
    CHECK(routine_key_delete(key) == -EINVAL);
}

/* ---- all of it, on the default runtime's caller and on runtimes of several sizes ---- */

/* ---- channels, select, locks, time ---- */

struct talk {
    chan_t *to, *back;
    routine_mutex_t lock;
    routine_waitgroup_t over;
    long sum;
};

static void *answer(void *arg)
{
    struct talk *t = arg;
    int64_t x;
    while (chan_recv(t->to, &x) == 0) {
        int rc = routine_mutex_lock(&t->lock);
        t->sum += (long)x;
        rc |= routine_mutex_unlock(&t->lock);
        x = rc == 0 ? 2 * x : -1;
        if (chan_send(t->back, &x) != 0)
            break;
    }
    routine_waitgroup_done(&t->over);
    return NULL;
}

static void talks(void)
{
    enum { ROUNDS_OF_TALK = 500, PARTNERS = 3 };
    struct talk t = {.lock = ROUTINE_MUTEX_INITIALIZER, .over = ROUTINE_WAITGROUP_INITIALIZER};
    int64_t sum = 0, sent = 0, x;
    long received = 0;
    t.to = chan_make(int64_t, 0);
    t.back = chan_make(int64_t, 4);
    chan_t *never = chan_make(int64_t, 0);
    CHECK(t.to != NULL && t.back != NULL && never != NULL);
    CHECK(routine_waitgroup_add(&t.over, PARTNERS) == 0);
    for (int i = 0; i < PARTNERS; i++)
        CHECK(go_detached(answer, &t) == 0);
    while (received < ROUNDS_OF_TALK) {
        const int64_t next = sent + 1;
        const int got = chan_select(CHAN_SEND(sent < ROUNDS_OF_TALK ? t.to : NULL, &next),
                                    CHAN_RECV(t.back, &x), CHAN_RECV(never, NULL));
        CHECK(got == 0 || got == 1);
        if (got == 0) {
            sent = next;
        } else {
            sum += x;
            received++;
        }
    }
    CHECK(sum == (int64_t)ROUNDS_OF_TALK * (ROUNDS_OF_TALK + 1));
    CHECK(chan_close(t.to) == 0);
    CHECK(routine_waitgroup_wait(&t.over) == 0);
    CHECK(routine_mutex_lock(&t.lock) == 0);
    CHECK(2 * t.sum == sum);
    CHECK(routine_mutex_unlock(&t.lock) == 0);
    const int64_t before = routine_now();
    CHECK(chan_select(CHAN_RECV(never, &x), CHAN_TIMEOUT(ROUTINE_MS)) == 1);
    CHECK(routine_sleep(ROUTINE_MS) == 0);
    CHECK(routine_now() - before >= 2 * ROUTINE_MS);
    CHECK(chan_select(CHAN_RECV(t.to, &x), CHAN_RECV(never, &x)) == CHAN_CLOSED(0));
    chan_unref(t.to);
    chan_unref(t.back);
    chan_unref(never);
}

/* ---- limits, cancellation, scopes, timers ---- */

static void count_up(void *arg)
{
    ++*(int *)arg;
}

struct patience {
    chan_t *never, *passed;
    int deferred;
};

static void *waits(void *arg)
{
    struct patience *p = arg;
    int x;
    routine_defer(count_up, &p->deferred);
    {
        routine_with_timeout(ROUTINE_MS);
        CHECK(chan_recv(p->never, &x) == -ETIMEDOUT);
        CHECK(routine_sleep(ROUTINE_S) == -ETIMEDOUT);
    }
    CHECK(routine_check() == 0);
    CHECK(chan_close(p->passed) == 0);
    CHECK(chan_recv(p->never, &x) == -ECANCELED);
    CHECK(routine_check() == -ECANCELED);
    {
        routine_shield();
        CHECK(routine_sleep(ROUTINE_US) == 0);
    }
    routine_exit(p);
}

static void *panics(void *arg)
{
    routine_defer(count_up, arg);
    routine_panic("number %d", 7);
}

static int member(void *arg)
{
    const intptr_t n = (intptr_t)arg;
    return n == 3 ? -EIO : routine_sleep(n % 2 ? ROUTINE_NEVER : 0);
}

static void structured(void)
{
    struct patience p = {.never = chan_make(int, 0), .passed = chan_make(int, 0)};
    void *result = NULL;
    int panicked = 0, error = 0;
    CHECK(p.never != NULL && p.passed != NULL);
    const routine_t h = go(waits, &p);
    CHECK(chan_recv(p.passed, NULL) == -EPIPE);
    CHECK(routine_cancel(h) == 0);
    CHECK(routine_join(h, &result) == 0);
    CHECK(result == &p && p.deferred == 1);
    CHECK(routine_join(go(panics, &panicked), NULL) == -ENOTRECOVERABLE);
    CHECK(panicked == 1 && strcmp(routine_panic_message(), "number 7") == 0);
    {
        routine_scope(s);
        for (intptr_t i = 0; i < 8; i++) {
            const int rc = routine_scope_go(&s, member, (void *)i);
            CHECK(rc == 0 || rc == -ECANCELED);
        }
        CHECK(routine_scope_join(&s, &error) == 0);
        CHECK(error == -EIO);
    }
    {
        routine_scope(s);
        CHECK(routine_scope_go(&s, member, (void *)1) == 0);
    } /* cancelled, and waited for */
    chan_t *ticks = chan_make(int64_t, 1);
    routine_timer_t *timer = routine_timer_new_chan(ROUTINE_MS, ROUTINE_MS, ticks);
    int64_t at[3];
    for (int i = 0; i < 3; i++)
        CHECK(chan_recv(ticks, &at[i]) == 0);
    CHECK(at[0] < at[1] && at[1] < at[2]);
    CHECK(routine_timer_stop(timer));
    routine_timer_free(timer);
    chan_unref(ticks);
    chan_unref(p.never);
    chan_unref(p.passed);
}

/* ---- input and output, and code that blocks ---- */

static void *echo(void *arg)
{
    const int *ends = arg;
    char c;
    while (routine_read(ends[0], &c, 1) == 1)
        if (routine_write(ends[1], &c, 1) != 1)
            break;
    return NULL;
}

static void *serve_one(void *arg)
{
    int fd = routine_accept(*(int *)arg, NULL, NULL);
    routine_reader_t *reader = routine_reader_new(fd, 0);
    char line[64];
    ssize_t n = fd >= 0 && reader ? routine_reader_line(reader, line, sizeof line) : -1;
    const bool well = n > 0 && routine_write_all(fd, line, (size_t)n, NULL) == 0;
    routine_reader_free(reader);
    routine_close(fd);
    return number(well);
}

static int blocks(void *arg)
{
    usleep(1000);
    return ++*(int *)arg;
}

/* No co-operation at all: it goes on when the other has. */
static void *insists(void *arg)
{
    while (!atomic_load((_Atomic int *)arg))
        continue;
    return NULL;
}

static void io(void)
{
    int there[2], back[2], calls = 0;
    if (pipe(there) != 0 || pipe(back) != 0)
        return;
    int ends[2] = {there[0], back[1]};
    routine_t h = go(echo, ends);
    char c = 0;
    for (int i = 0; i < 500; i++) {
        const char sent = (char)i;
        CHECK(routine_write(there[1], &sent, 1) == 1);
        CHECK(routine_read(back[0], &c, 1) == 1 && c == sent);
    }
    {
        routine_with_timeout(2 * ROUTINE_MS);
        CHECK(routine_read(back[0], &c, 1) == -ETIMEDOUT);
    }
    CHECK(routine_close(there[1]) == 0);
    CHECK(routine_join(h, NULL) == 0);
    CHECK(routine_close(there[0]) == 0 && routine_close(back[0]) == 0 && routine_close(back[1]) == 0);

    char address[ROUTINE_ADDRESS_MAX], answer[5] = "";
    int listener = routine_tcp_listen("127.0.0.1:0", 0);
    void *well = NULL;
    CHECK(listener >= 0 && routine_local_address(listener, address, sizeof address) == 0);
    h = go(serve_one, &listener);
    const int fd = routine_tcp_dial(address);
    CHECK(fd >= 0 && routine_write_all(fd, "hello\r\n", 7, NULL) == 0);
    CHECK(routine_read_full(fd, answer, 5, NULL) == 0 && memcmp(answer, "hello", 5) == 0);
    CHECK(routine_join(h, &well) == 0 && well != NULL);
    CHECK(routine_close(fd) == 0 && routine_close(listener) == 0);
    CHECK(routine_blocking(blocks, &calls) == 1 && calls == 1);

    /* (without membarrier a worker stays where it is: an emulator has none) */
    routine_stats_t stats;
    if (getenv("ROUTINES_TEST_EMULATOR") == NULL && routine_runtime_current() != NULL) {
        _Atomic int stop = 0;
        h = go(insists, &stop);
        CHECK(routine_sleep(ROUTINE_MS) == 0);
        atomic_store(&stop, 1);
        CHECK(routine_join(h, NULL) == 0);
        CHECK(routine_stats(NULL, &stats) == 0);
    }
}

static void *everything(void *arg)
{
    (void)arg;
    for (int round = 0; round < ROUNDS; round++) {
        many_in_order();
        many_in_a_tree();
        closures();
        attributes();
        ends();
        oneshots();
        locals();
        talks();
        structured();
        io();
    }
    return number(42);
}

static void in_runtime(size_t workers)
{
    const routine_runtime_config_t config = {.workers = workers, .name = "smoke"};
    routine_runtime_t *runtime = NULL;
    const int64_t start = routine_now();
    CHECK(routine_runtime_new(&runtime, &config) == 0);
    if (runtime == NULL)
        return;
    CHECK(routine_runtime_workers(runtime) == workers);

    void *result = NULL;
    CHECK(routine_runtime_run(runtime, everything, NULL, &result) == 0);
    CHECK((uintptr_t)result == 42);

    routine_stats_t stats;
    CHECK(routine_stats(runtime, &stats) == 0);
    CHECK(stats.workers == workers && stats.total.spawned > (uint64_t)ROUNDS * MANY);
    CHECK(routine_runtime_free(runtime) == -EBUSY);
    CHECK(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER) == 0);
    CHECK(routine_runtime_free(runtime) == 0);
    printf("%s %zu workers: %" PRIu64 " routines, %" PRIu64 " switches, %" PRId64 " ms\n",
           failures ? "FAILED" : "ok", workers, stats.total.spawned, stats.total.switches,
           (routine_now() - start) / ROUTINE_MS);
    fflush(stdout);
}

int main(void)
{
    void *result = NULL;
    CHECK(routine_id(routine_self()) == 0);
    everything(NULL);
    CHECK(routine_run(everything, NULL, &result) == 0 && (uintptr_t)result == 42);
    printf("%s default runtime: %zu workers\n", failures ? "FAILED" : "ok",
           routine_runtime_workers(routine_runtime_default()));
    fflush(stdout);
    in_runtime(1);
    in_runtime(2);
    in_runtime(8);
    if (failures == 0)
        printf("ok all\n");
    return failures != 0;
}
