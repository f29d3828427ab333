/* SPDX-License-Identifier: MIT
 *
 * The benchmarks of the library by POSIX threads, a thread where there is a routine. Not all of them are
 * here: what a thread costs by itself, and its locks, are peers in the library's own program (go_join,
 * thousand, mutex, ...).
 *
 * A thread has no channels. Here each benchmark has what one would use in their place: for ping_pong a
 * variable and a semaphore in each direction, or (-cond) a mutex, a condition and a flag; for buffered a
 * ring under a mutex with two conditions. The threads of memory_parked and of sleepers have stacks of 64 KiB
 * (a guard page each), and there are at most 10,000: more of them meet the limits of many a system. Memory is
 * the process's: what the kernel keeps for a thread, 16 KiB of stack and several KiB more, is not in it.
 *
 * How it is asked and answers: ../peer.h. WORKERS is the number of CPUs: the process keeps to
 * the last so many of those it may use. ROUTINES_BENCH_MILLION: as for the library, as far as it is less.
 *
 *     gcc -std=gnu11 -O2 -pthread
 */
#define _GNU_SOURCE 1 /* sets of CPUs */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "../peer.h"

enum { STACK = 64 * 1024, MOST_THREADS = 10000, CAPACITY = 128, FOUR = 4 };

static int workers;

static void check(int rc)
{
    if (rc != 0)
        peer_fail("a function of pthreads failed");
}

static pthread_t start(void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, fn, arg));
    return thread;
}

/* ---- yield ---- */

static atomic_int met;

static void *yield_often(void *arg)
{
    atomic_fetch_add(&met, 1);
    while (atomic_load(&met) < 2 * workers)
        sched_yield();
    for (long left = *(const long *)arg; left > 0; left--)
        sched_yield();
    return NULL;
}

/* Two threads a CPU. */
static double yield(long n)
{
    enum { MOST = 256 };
    pthread_t thread[MOST];
    const int count = 2 * workers;
    long each = (n + count - 1) / count;
    if (count > MOST)
        peer_fail("too many workers");
    atomic_store(&met, 0);
    for (int i = 0; i < count; i++)
        thread[i] = start(yield_often, &each);
    for (int i = 0; i < count; i++)
        check(pthread_join(thread[i], NULL));
    return (double)each * count;
}

/* ---- ping_pong ---- */

typedef struct {
    sem_t there;
    long ball;
} post_t;

static post_t ping, pong;

static void throw_ball(post_t *p, long ball)
{
    p->ball = ball;
    check(sem_post(&p->there));
}

static long catch_ball(post_t *p)
{
    while (sem_wait(&p->there) != 0)
        ; /* a signal */
    return p->ball;
}

static void *return_balls(void *arg)
{
    (void)arg;
    for (long ball; (ball = catch_ball(&ping)) >= 0;)
        throw_ball(&pong, ball + 1);
    return NULL;
}

static double ping_pong(long n)
{
    check(sem_init(&ping.there, 0, 0));
    check(sem_init(&pong.there, 0, 0));
    pthread_t partner = start(return_balls, NULL);
    for (long i = 0; i < n; i++) {
        throw_ball(&ping, i);
        if (catch_ball(&pong) != i + 1)
            peer_fail("the wrong ball came back");
    }
    throw_ball(&ping, -1);
    check(pthread_join(partner, NULL));
    return (double)n;
}

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool there;
    long ball;
} box_t;

static box_t ping_box = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};
static box_t pong_box = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};

/* The box is empty: who threw into it last has had an answer since. */
static void put_ball(box_t *box, long ball)
{
    check(pthread_mutex_lock(&box->lock));
    box->ball = ball;
    box->there = true;
    check(pthread_cond_signal(&box->changed));
    check(pthread_mutex_unlock(&box->lock));
}

static long take_ball(box_t *box)
{
    check(pthread_mutex_lock(&box->lock));
    while (!box->there)
        check(pthread_cond_wait(&box->changed, &box->lock));
    box->there = false;
    long ball = box->ball;
    check(pthread_mutex_unlock(&box->lock));
    return ball;
}

static void *return_boxes(void *arg)
{
    (void)arg;
    for (long ball; (ball = take_ball(&ping_box)) >= 0;)
        put_ball(&pong_box, ball + 1);
    return NULL;
}

static double ping_pong_cond(long n)
{
    pthread_t partner = start(return_boxes, NULL);
    for (long i = 0; i < n; i++) {
        put_ball(&ping_box, i);
        if (take_ball(&pong_box) != i + 1)
            peer_fail("the wrong ball came back");
    }
    put_ball(&ping_box, -1);
    check(pthread_join(partner, NULL));
    return (double)n;
}

/* ---- buffered ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    /* under the lock: */
    uint64_t message[CAPACITY];
    size_t first, count;
    size_t senders, receivers; /* that wait */
    bool closed;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .not_full = PTHREAD_COND_INITIALIZER,
           .not_empty = PTHREAD_COND_INITIALIZER};

static void queue_send(uint64_t message)
{
    check(pthread_mutex_lock(&queue.lock));
    while (queue.count == CAPACITY) {
        queue.senders++;
        check(pthread_cond_wait(&queue.not_full, &queue.lock));
        queue.senders--;
    }
    queue.message[(queue.first + queue.count++) % CAPACITY] = message;
    bool wake = queue.receivers > 0;
    check(pthread_mutex_unlock(&queue.lock));
    if (wake)
        check(pthread_cond_signal(&queue.not_empty));
}

static bool queue_receive(uint64_t *message)
{
    check(pthread_mutex_lock(&queue.lock));
    while (queue.count == 0 && !queue.closed) {
        queue.receivers++;
        check(pthread_cond_wait(&queue.not_empty, &queue.lock));
        queue.receivers--;
    }
    bool received = queue.count > 0;
    if (received) {
        *message = queue.message[queue.first];
        queue.first = (queue.first + 1) % CAPACITY;
        queue.count--;
    }
    bool wake = queue.senders > 0;
    check(pthread_mutex_unlock(&queue.lock));
    if (wake)
        check(pthread_cond_signal(&queue.not_full));
    return received;
}

static void queue_close(void)
{
    check(pthread_mutex_lock(&queue.lock));
    queue.closed = true;
    check(pthread_mutex_unlock(&queue.lock));
    check(pthread_cond_broadcast(&queue.not_empty));
}

typedef struct {
    uint64_t first, count, sum;
} batch_t;

static void *produce(void *arg)
{
    const batch_t b = *(const batch_t *)arg;
    for (uint64_t i = 0; i < b.count; i++)
        queue_send(b.first + i);
    return NULL;
}

static void *consume(void *arg)
{
    batch_t b = {0, 0, 0};
    for (uint64_t message; queue_receive(&message); b.count++)
        b.sum += message;
    *(batch_t *)arg = b;
    return NULL;
}

static double buffer(uint64_t n, uint64_t each)
{
    batch_t sent[FOUR], received[FOUR];
    pthread_t sending[FOUR], receiving[FOUR];
    uint64_t count = 0, sum = 0;
    queue.closed = false;
    for (uint64_t i = 0; i < each; i++) {
        sent[i].first = peer_share(n, i, each, &sent[i].count);
        receiving[i] = start(consume, &received[i]);
        sending[i] = start(produce, &sent[i]);
    }
    for (uint64_t i = 0; i < each; i++)
        check(pthread_join(sending[i], NULL));
    queue_close();
    for (uint64_t i = 0; i < each; i++) {
        check(pthread_join(receiving[i], NULL));
        count += received[i].count;
        sum += received[i].sum;
    }
    if (count != n || sum != n * (n - 1) / 2)
        peer_fail("what was received is not what was sent");
    return (double)n;
}

static double buffered(long n)
{
    return buffer((uint64_t)n, 1);
}

static double buffered_4_4(long n)
{
    return buffer((uint64_t)n, FOUR);
}

/* ---- many threads ---- */

static pthread_t start_small(void *(*fn)(void *arg), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;
    check(pthread_attr_init(&attr));
    check(pthread_attr_setstacksize(&attr, STACK));
    if (pthread_create(&thread, &attr, fn, arg) != 0)
        peer_fail("no more threads can be had: set ROUTINES_BENCH_MILLION to a smaller number");
    check(pthread_attr_destroy(&attr));
    return thread;
}

/* An array whose pages are there: it must not be counted later. */
static void *touched(long count, size_t size)
{
    void *array = malloc((size_t)count * size);
    if (array == NULL)
        peer_fail("no memory for the handles");
    memset(array, 0xff, (size_t)count * size);
    return array;
}

static atomic_long arrived;

static void *wait_for_it(void *arg)
{
    atomic_fetch_add(&arrived, 1);
    while (sem_wait(arg) != 0)
        ;
    return NULL;
}

static void memory_parked(peer_result_t *r)
{
    const long count = peer_size("ROUTINES_BENCH_MILLION", 1e6, MOST_THREADS);
    pthread_t *threads = touched(count, sizeof *threads);
    sem_t *sems = touched(count, sizeof *sems);
    for (long i = 0; i < count; i++)
        check(sem_init(&sems[i], 0, 0));
    const double resident = peer_resident(), tables = peer_page_tables();

    int64_t begun = peer_now();
    for (long i = 0; i < count; i++)
        threads[i] = start_small(wait_for_it, &sems[i]);
    while (atomic_load(&arrived) < count)
        sched_yield();
    r->value = (double)(peer_now() - begun) / (double)count;
    peer_counter(r, "count", (double)count);
    peer_counter(r, "bytes_each", (peer_resident() - resident) / (double)count);
    peer_counter(r, "page_table_bytes_each", (peer_page_tables() - tables) / (double)count);

    begun = peer_now();
    for (long i = 0; i < count; i++)
        check(sem_post(&sems[i]));
    for (long i = 0; i < count; i++)
        check(pthread_join(threads[i], NULL));
    peer_counter(r, "end_us_each", (double)(peer_now() - begun) / 1000 / (double)count);
    free(threads);
    free(sems);
}

static void *sleep_once(void *arg)
{
    peer_sleeper_t *s = arg;
    struct timespec left = {s->ns / 1000000000, s->ns % 1000000000};
    const int64_t begun = peer_now();
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) != 0)
        ;
    s->late = peer_now() - begun - s->ns;
    return NULL;
}

static void sleepers(peer_result_t *r)
{
    const long tenth = peer_size("ROUTINES_BENCH_MILLION", 1e6, 10L * MOST_THREADS) / 10;
    const long count = tenth > 0 ? tenth : 1;
    peer_sleeper_t *all = peer_sleepers(count);
    pthread_t *threads = touched(count, sizeof *threads);
    const int64_t cpu_begun = peer_cpu(), begun = peer_now();
    for (long i = 0; i < count; i++)
        threads[i] = start_small(sleep_once, &all[i]);
    for (long i = 0; i < count; i++)
        check(pthread_join(threads[i], NULL));
    peer_sleepers_result(r, all, count, peer_now() - begun, peer_cpu() - cpu_begun);
    free(threads);
    free(all);
}

/* ---- */

static const peer_benchmark_t benchmarks[] = {
    {"yield/peer-pthread", yield, NULL},
    {"ping_pong/peer-pthread", ping_pong, NULL},
    {"ping_pong/peer-pthread-cond", ping_pong_cond, NULL},
    {"buffered/peer-pthread", buffered, NULL},
    {"buffered_4_4/peer-pthread", buffered_4_4, NULL},
    {"memory_parked/peer-pthread", NULL, memory_parked},
    {"sleepers/peer-pthread", NULL, sleepers},
};

/* Keeps to the last so many CPUs. */
static void around(int count, void (*fn)(void *arg), void *arg)
{
    cpu_set_t allowed, used;
    CPU_ZERO(&used);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        peer_fail("no list of CPUs");
    int left = count;
    for (size_t cpu = CPU_SETSIZE; left > 0 && cpu-- > 0;) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &used);
            left--;
        }
    }
    if (sched_setaffinity(0, sizeof used, &used) != 0)
        peer_fail("the CPUs cannot be chosen");
    workers = count;
    fn(arg);
}

int main(int argc, char **argv)
{
    return peer_main(argc, argv, benchmarks, sizeof benchmarks / sizeof *benchmarks, around);
}
