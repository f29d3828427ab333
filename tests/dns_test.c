/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_getaddrinfo: what it finds, against the system's own; numbers, which need no thread, also
 * on the smallest stacks; errors; many at once; lookups that are slow, cancelled, late, and left behind.
 *
 * getaddrinfo is defined in this file: names below .test are answered by the test, all others by the system.
 *
 * ctest: workers
 * ctest: timeout 120
 */
#include "chan_support.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "routines/io.h"
#include "routines/sync.h"
#include "sched/worker.h"

/* ---- getaddrinfo ---- */

typedef int lookup_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static _Atomic int asked, answered, inside, most, refuse, opened;
static _Atomic int error_to_set;

#if defined(__clang__) && (SUPPORT_TSAN || SUPPORT_ASAN)
lookup_fn __interceptor_getaddrinfo;
#define REAL_LOOKUP __interceptor_getaddrinfo
#else
static lookup_fn *real_lookup(void)
{
    lookup_fn *found = NULL;
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&found, &symbol, sizeof found);
    return found;
}
#define REAL_LOOKUP real_lookup()
#endif

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

/* What the answers to names below .test are. */
#define ANSWER "192.0.2.17"

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    if (!node || !ends_with(node, ".test") || (hints && hints->ai_flags & AI_NUMERICHOST))
        return REAL_LOOKUP(node, service, hints, list);
    atomic_fetch_add(&asked, 1);
    const int now = atomic_fetch_add(&inside, 1) + 1;
    int seen = atomic_load(&most);
    while (seen < now && !atomic_compare_exchange_weak(&most, &seen, now))
        ;
    int rc = 0;
    if (strncmp(node, "slow", 4) == 0)
        while (!atomic_load(&opened))
            usleep(50);
    else if (strncmp(node, "nap", 3) == 0)
        usleep((useconds_t)atoi(node + 3));
    if (strncmp(node, "none", 4) == 0)
        rc = EAI_NONAME;
    else if (strncmp(node, "system", 6) == 0)
        rc = EAI_SYSTEM;
    else if (atomic_load(&refuse))
        rc = EAI_FAIL;
    else
        rc = REAL_LOOKUP(ANSWER, service, hints, list);
    atomic_fetch_sub(&inside, 1);
    atomic_fetch_add(&answered, 1);
    if (rc == EAI_SYSTEM)
        errno = atomic_load(&error_to_set);
    return rc;
}

/* ---- what it finds ---- */

static size_t length(const struct addrinfo *list)
{
    size_t n = 0;
    for (; list; list = list->ai_next)
        n++;
    return n;
}

static bool same(const struct addrinfo *a, const struct addrinfo *b)
{
    for (; a && b; a = a->ai_next, b = b->ai_next)
        if (a->ai_family != b->ai_family || a->ai_socktype != b->ai_socktype ||
            a->ai_protocol != b->ai_protocol || a->ai_addrlen != b->ai_addrlen ||
            memcmp(a->ai_addr, b->ai_addr, a->ai_addrlen) != 0 || !a->ai_canonname != !b->ai_canonname ||
            (a->ai_canonname && strcmp(a->ai_canonname, b->ai_canonname) != 0))
            return false;
    return !a && !b;
}

struct question {
    const char *node, *service;
    int family, type, flags;
};

static const struct question questions[] = {
    {"127.0.0.1", "80", AF_UNSPEC, SOCK_STREAM, 0},
    {"127.0.0.1", NULL, AF_UNSPEC, 0, 0},
    {"::1", "65535", AF_INET6, SOCK_DGRAM, 0},
    {"::1", "1", AF_INET, SOCK_STREAM, 0}, /* of another family */
    {"127.0.0.1", "1", AF_INET6, SOCK_STREAM, AI_V4MAPPED},
    {"127.1", "8080", AF_INET, SOCK_STREAM, 0},
    {"fe80::1%1", "8080", AF_INET6, SOCK_STREAM, 0},
    {NULL, "80", AF_UNSPEC, SOCK_STREAM, AI_PASSIVE},
    {NULL, "80", AF_UNSPEC, SOCK_STREAM, 0},
    {NULL, "http", AF_INET, SOCK_STREAM, 0},
    {NULL, NULL, AF_UNSPEC, SOCK_STREAM, 0}, /* nothing */
    {"127.0.0.1", "http", AF_INET, SOCK_STREAM, 0},
    {"127.0.0.1", "no such service", AF_INET, SOCK_STREAM, 0},
    {"127.0.0.1", "", AF_INET, SOCK_STREAM, 0},
    {"127.0.0.1", "http", AF_INET, SOCK_STREAM, AI_NUMERICSERV},
    {"127.0.0.1", "99999999999999999999", AF_INET, SOCK_STREAM, 0},
    {"127.0.0.1", "80", AF_INET, SOCK_STREAM, AI_CANONNAME},
    {"127.0.0.1", "80", 4711, SOCK_STREAM, 0},          /* no such family */
    {"127.0.0.1", "80", AF_INET, 4711, 0},              /* no such type */
    {"127.0.0.1", "80", AF_INET, SOCK_STREAM, 1 << 30}, /* no such flag */
    {"localhost", "80", AF_UNSPEC, SOCK_STREAM, AI_NUMERICHOST},
    {"localhost", "80", AF_INET, SOCK_STREAM, 0},
    {"localhost", "http", AF_UNSPEC, SOCK_STREAM, 0},
    {"localhost", NULL, AF_UNSPEC, 0, AI_CANONNAME},
    {"a.test", "25", AF_INET, SOCK_STREAM, 0},
    {"none.test", "25", AF_INET, SOCK_STREAM, 0},
    {"", "25", AF_INET, SOCK_STREAM, 0},
};

TEST_EVERYWHERE(it_finds_what_the_system_finds)
{
    for (size_t i = 0; i < COUNT_OF(questions); i++) {
        const struct question *q = &questions[i];
        const struct addrinfo hints = {.ai_family = q->family, .ai_socktype = q->type, .ai_flags = q->flags};
        struct addrinfo *expected = NULL, *found = NULL;
        const int e = getaddrinfo(q->node, q->service, &hints, &expected);
        const int rc = routine_getaddrinfo(q->node, q->service, &hints, &found);
        if (rc != e || !same(found, expected))
            support_fail(__FILE__, __LINE__, "question %zu: %d and %zu, not %d and %zu", i, rc, length(found),
                         e, length(expected));
        if (e == 0)
            freeaddrinfo(expected);
        if (rc == 0)
            freeaddrinfo(found);
    }
}

TEST_EVERYWHERE(without_hints)
{
    static const char *const nodes[] = {"127.0.0.1", "localhost", "b.test", NULL};
    for (size_t i = 0; i < COUNT_OF(nodes); i++) {
        struct addrinfo *expected = NULL, *found = NULL;
        CHECK_EQ(getaddrinfo(nodes[i], "22", NULL, &expected), 0);
        CHECK_EQ(routine_getaddrinfo(nodes[i], "22", NULL, &found), 0);
        CHECK(same(found, expected));
        freeaddrinfo(expected);
        freeaddrinfo(found);
    }
}

/* EAI_SYSTEM would mean errno, which is another thread's. */
TEST(errors_of_the_system)
{
    static const int errors[][2] = {
        {ENOMEM, EAI_MEMORY}, {EMFILE, EAI_MEMORY}, {ENFILE, EAI_MEMORY}, {EACCES, EAI_FAIL}, {0, EAI_FAIL}};
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        struct addrinfo *found = NULL;
        atomic_store(&error_to_set, errors[i][0]);
        errno = 99;
        CHECK_EQ(routine_getaddrinfo("system.test", "22", NULL, &found), errors[i][1]);
        CHECK_EQ(errno, 99);
        CHECK(found == NULL);
    }
}

/* ---- numbers ---- */

static void *translate(void *arg)
{
    _Atomic int *count = arg;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    static const char *const nodes[] = {"127.0.0.1", "::1", "fe80::1%1", NULL};
    for (size_t i = 0; i < COUNT_OF(nodes); i++)
        for (int hinted = 0; hinted < 2; hinted++) {
            struct addrinfo *found = NULL;
            CHECK_EQ(routine_getaddrinfo(nodes[i], "443", hinted ? &hints : NULL, &found), 0);
            freeaddrinfo(found);
            atomic_fetch_add(count, 1);
        }
    return NULL;
}

/* They take no thread, and a stack as small as there is one is enough; of a name nothing is done on it. */
TEST(numbers_on_the_smallest_stack)
{
    routine_runtime_t *runtime = support_runtime(1);
    _Atomic int count = 0;
    const routine_attr_t attr = {.runtime = runtime, .stack_size = 1};
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_join(go_with(&attr, translate, &count), NULL), 0);
    CHECK_EQ(atomic_load(&count), 24);
    CHECK_EQ(runtime->pool.classes[RT_POOL_NAMES].jobs, 0);
    support_runtime_end(runtime);
}

static void *look_up_some(void *arg)
{
    struct addrinfo *found = NULL;
    CHECK_EQ(routine_getaddrinfo("localhost", "http", NULL, &found), 0);
    freeaddrinfo(found);
    CHECK(routine_getaddrinfo("none.test", "http", NULL, &found) != 0);
    return arg;
}

TEST(names_on_the_smallest_stack)
{
    const routine_attr_t attr = {.stack_size = 1};
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_join(go_with(&attr, look_up_some, NULL), NULL), 0);
}

/* ---- many ---- */

struct asker {
    char node[32];
    int64_t limit; /* 0: none */
    int rc, check_after;
    _Atomic bool over;
};

static int ask(struct asker *a)
{
    char node[32];
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    snprintf(node, sizeof node, "%s", a->node);
    char service[] = "25";
    const int rc = routine_getaddrinfo(node, service, &hints, &found);
    /* what a lookup that was left behind must not look at */
    memset(node, '?', sizeof node);
    memset(service, '?', sizeof service);
    memset(&hints, 0xff, sizeof hints);
    if (rc == 0) {
        char text[64] = "";
        struct sockaddr_in address;
        memcpy(&address, found->ai_addr, sizeof address);
        CHECK_STR(inet_ntop(AF_INET, &address.sin_addr, text, sizeof text), ANSWER);
        CHECK_EQ(ntohs(address.sin_port), 25);
        CHECK_EQ(length(found), 1);
        freeaddrinfo(found);
    } else {
        CHECK(found == NULL);
    }
    return rc;
}

static void *ask_it(void *arg)
{
    struct asker *a = arg;
    if (a->limit != 0) {
        routine_with_timeout(a->limit);
        a->rc = ask(a);
        a->check_after = routine_check();
    } else {
        a->rc = ask(a);
        a->check_after = routine_check();
    }
    atomic_store(&a->over, true);
    return NULL;
}

TEST(a_hundred_at_once)
{
    enum { MANY = 100 };
    struct asker askers[MANY];
    routine_t h[MANY];
    routine_runtime_t *runtime = support_runtime(2);
    atomic_store(&most, 0);
    for (int i = 0; i < MANY; i++) {
        askers[i] = (struct asker){.rc = -1};
        snprintf(askers[i].node, sizeof askers[i].node, "nap%d.test", 1000 + i);
        h[i] = support_go_on(runtime, ask_it, &askers[i]);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(askers[i].rc, 0);
        CHECK_EQ(askers[i].check_after, 0);
    }
    CHECK(atomic_load(&most) > 1);
    CHECK(atomic_load(&most) <= 64);
    support_runtime_end(runtime);
}

/* ---- cancelled, late, left behind ---- */

static void slow_begin(void)
{
    atomic_store(&opened, 0);
    atomic_store(&asked, 0);
    atomic_store(&answered, 0);
}

static void slow_end(void)
{
    atomic_store(&opened, 1);
    WAIT_UNTIL(atomic_load(&answered) == atomic_load(&asked));
}

TEST(cancelled_while_it_runs)
{
    slow_begin();
    struct asker a = {.node = "slow.test"};
    routine_t h = go(ask_it, &a);
    WAIT_UNTIL(atomic_load(&asked) == 1);
    CHECK_EQ(routine_cancel(h), 0);
    CHECK_EQ(routine_join(h, NULL), 0); /* at once */
    CHECK_EQ(a.rc, EAI_AGAIN);
    CHECK_EQ(a.check_after, -ECANCELED);
    CHECK_EQ(atomic_load(&answered), 0);
    slow_end();
}

TEST(late_while_it_runs)
{
    slow_begin();
    struct asker a = {.node = "slow.test", .limit = 20 * ROUTINE_MS};
    CHECK_EQ(routine_run(ask_it, &a, NULL), 0);
    CHECK_EQ(a.rc, EAI_AGAIN);
    CHECK_EQ(a.check_after, -ETIMEDOUT);
    CHECK_EQ(atomic_load(&answered), 0);
    slow_end();
}

/* More than there are threads for, even with those that come when nothing moves: some never begin. */
TEST(all_threads_are_stuck)
{
    enum { MANY = 100 };
    slow_begin();
    struct asker askers[MANY];
    routine_t h[MANY];
    for (int i = 0; i < MANY; i++) {
        askers[i] = (struct asker){.node = "slow.test", .limit = i % 2 ? 0 : 30 * ROUTINE_MS};
        h[i] = go(ask_it, &askers[i]);
    }
    WAIT_UNTIL(atomic_load(&asked) >= 8);
    for (int i = 0; i < MANY; i += 2) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(askers[i].rc, EAI_AGAIN);
        CHECK_EQ(askers[i].check_after, -ETIMEDOUT);
    }
    CHECK_EQ(atomic_load(&answered), 0);
    for (int i = 1; i < MANY; i += 4)
        CHECK_EQ(routine_cancel(h[i]), 0);
    for (int i = 1; i < MANY; i += 4) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(askers[i].rc, EAI_AGAIN);
        CHECK_EQ(askers[i].check_after, -ECANCELED);
    }
    atomic_store(&opened, 1);
    for (int i = 3; i < MANY; i += 4) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(askers[i].rc, 0);
    }
    slow_end();
}

TEST(over_before_it_begins)
{
    slow_begin();
    routine_with_timeout(0);
    struct addrinfo *found = NULL;
    CHECK_EQ(routine_getaddrinfo("a.test", "1", NULL, &found), EAI_AGAIN);
    CHECK_EQ(routine_getaddrinfo("127.0.0.1", "1", NULL, &found), EAI_AGAIN);
    CHECK_EQ(routine_check(), -ETIMEDOUT);
    CHECK_EQ(atomic_load(&asked), 0);
}

struct askers {
    uint64_t random;
    long rounds, found, not ;
};

static void *ask_at_random(void *arg)
{
    enum { MANY = 12 };
    struct askers *all = arg;
    struct asker a[MANY];
    routine_t h[MANY];
    for (long round = 0; round < all->rounds; round++) {
        for (int i = 0; i < MANY; i++) {
            const uint64_t x = support_random(&all->random);
            a[i] = (struct asker){.limit = x & 3 ? 0 : (int64_t)(x >> 8 & 0xff) * ROUTINE_US + 1};
            snprintf(a[i].node, sizeof a[i].node, "nap%d.test", (int)(x >> 20 & 0x7f));
            h[i] = go(ask_it, &a[i]);
        }
        for (int i = 0; i < MANY; i++)
            if (support_random(&all->random) & 1)
                CHECK_EQ(routine_cancel(h[i]), 0);
        for (int i = 0; i < MANY; i++) {
            if (routine_join(h[i], NULL) != 0)
                continue;
            CHECK(a[i].rc == 0 || (a[i].rc == EAI_AGAIN && a[i].check_after != 0));
            all->found += a[i].rc == 0;
            all->not += a[i].rc != 0;
        }
    }
    return NULL;
}

/* Lists that nobody wants are released: under AddressSanitizer this would be seen. */
TEST(cancelled_and_late_at_any_moment)
{
    routine_runtime_t *runtime = support_runtime(0);
    struct askers a = {.random = 5, .rounds = support_scale(400)}, b = a;
    b.random = 6;
    routine_t other = support_go_on(runtime, ask_at_random, &b);
    CHECK_EQ(routine_runtime_run(runtime, ask_at_random, &a, NULL), 0);
    CHECK_EQ(routine_join(other, NULL), 0);
    CHECK(a.found > 0 && (a.not > 0 || support_slow()));
    support_runtime_end(runtime); /* with some of them still running */
}

static void *ask_slowly(void *arg)
{
    struct asker a = {.node = "slow.test", .limit = 5 * ROUTINE_MS};
    ask_it(&a);
    CHECK_EQ(a.rc, EAI_AGAIN);
    return arg;
}

TEST(a_shutdown_waits_for_it)
{
    slow_begin();
    routine_runtime_t *runtime = support_runtime(1);
    CHECK_EQ(routine_runtime_run(runtime, ask_slowly, NULL, NULL), 0);
    WAIT_UNTIL(atomic_load(&asked) == 1 || rt_pool_is_quiet(&runtime->pool));
    if (atomic_load(&asked) == 1)
        CHECK_EQ(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_CANCEL, ROUTINE_MS), -ETIMEDOUT);
    slow_end();
    support_runtime_end(runtime);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_finds_what_the_system_finds),
        cmocka_unit_test(without_hints),
        cmocka_unit_test(errors_of_the_system),
        cmocka_unit_test(numbers_on_the_smallest_stack),
        cmocka_unit_test(names_on_the_smallest_stack),
        cmocka_unit_test(a_hundred_at_once),
        cmocka_unit_test(cancelled_while_it_runs),
        cmocka_unit_test(late_while_it_runs),
        cmocka_unit_test(all_threads_are_stuck),
        cmocka_unit_test(over_before_it_begins),
        cmocka_unit_test(cancelled_and_late_at_any_moment),
        cmocka_unit_test(a_shutdown_waits_for_it),
    };
    return cmocka_run_group_tests_name("dns", tests, NULL, NULL);
}
