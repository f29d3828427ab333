/* SPDX-License-Identifier: MIT
 *
 * Tests of listening and dialling (net.h): TCP, UDP and Unix sockets, their options and addresses; which of
 * several addresses is taken, and that the others are given up without a trace; socket files that were left
 * behind; limits and cancellation.
 *
 * Names are looked up in a table here: getaddrinfo() of the C library is replaced by one that counts its
 * calls. An address that does not answer is a listener whose queue of connections is full: the kernel drops
 * what comes then. All addresses are in 127.0.0.0/8; what needs IPv6 is skipped where there is none.
 *
 * ctest: workers
 */
#include "support.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <arpa/inet.h>

#include "routines/io.h"
#include "routines/net.h"

#include "io/net.h"
#include "io/resolve.h"

/* ---- names ---- */

static const struct {
    const char *host;
    int error;
    const char *addresses; /* in this order */
} names[] = {
    {"localhost", 0, "127.0.0.1"},
    {"one.test", 0, "127.0.0.1"},
    {"three.test", 0, "127.0.0.4 127.0.0.3 127.0.0.1"},
    {"two-dead.test", 0, "127.0.0.4 127.0.0.3"},
    {"twice.test", 0, "127.0.0.1 127.0.0.1 127.0.0.2 127.0.0.1"},
    {"mixed.test", 0, "2001:db8::1 2001:db8::2 2001:db8::3 192.0.2.1 192.0.2.2"},
    {"mixed4.test", 0, "192.0.2.1 192.0.2.2 2001:db8::1"},
    {"many.test", 0,
     "127.0.1.1 127.0.1.2 127.0.1.3 127.0.1.4 127.0.1.5 127.0.1.6 127.0.1.7 127.0.1.8 127.0.1.9 127.0.1.10 "
     "127.0.1.11 127.0.1.12 127.0.1.13 127.0.1.14 127.0.1.15 127.0.1.16 127.0.0.1"},
    {"foreign.test", 0, "192.0.2.55 127.0.0.1"},
    {"unknown.test", EAI_NONAME, ""},
    {"again.test", EAI_AGAIN, ""},
    {"fail.test", EAI_FAIL, ""},
    {"memory.test", EAI_MEMORY, ""},
    {"family.test", EAI_FAMILY, ""},
};
static _Atomic long lookups; /* of names, not of services */
static _Atomic int service_port;

struct answer {
    struct addrinfo info;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
};

static bool answer(struct addrinfo ***link, const char *text, int port, int type)
{
    struct answer *a = calloc(1, sizeof *a);
    if (inet_pton(AF_INET, text, &a->address.v4.sin_addr) == 1) {
        a->address.v4.sin_family = AF_INET;
        a->address.v4.sin_port = htons((uint16_t)port);
        a->info.ai_addrlen = sizeof a->address.v4;
    } else if (inet_pton(AF_INET6, text, &a->address.v6.sin6_addr) == 1) {
        a->address.v6.sin6_family = AF_INET6;
        a->address.v6.sin6_port = htons((uint16_t)port);
        a->info.ai_addrlen = sizeof a->address.v6;
    } else {
        free(a);
        return false;
    }
    a->info.ai_family = a->address.any.sa_family;
    a->info.ai_socktype = type;
    a->info.ai_addr = &a->address.any;
    **link = &a->info;
    *link = &a->info.ai_next;
    return true;
}

__attribute__((visibility("default"))) void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints, struct addrinfo **result)
{
    const int type = hints != NULL ? hints->ai_socktype : 0;
    const int flags = hints != NULL ? hints->ai_flags : 0;
    int port = 0;
    *result = NULL;
    if (service != NULL) {
        if (strcmp(service, "test-service") != 0)
            return EAI_SERVICE;
        port = atomic_load(&service_port);
    }
    if (node == NULL)
        return answer(&result, "0.0.0.0", port, type) ? 0 : EAI_NONAME;
    if (answer(&result, node, port, type))
        return 0;
    if (flags & AI_NUMERICHOST)
        return EAI_NONAME;
    atomic_fetch_add(&lookups, 1);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i].host, node) == 0) {
            char addresses[512];
            strcpy(addresses, names[i].addresses);
            for (char *rest = NULL, *one = strtok_r(addresses, " ", &rest); one != NULL;
                 one = strtok_r(NULL, " ", &rest))
                CHECK(answer(&result, one, port, type));
            return names[i].error;
        }
    return EAI_NONAME;
}

/* ---- helpers ---- */

static bool have_ipv6(void)
{
    const struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool yes = fd >= 0 && bind(fd, (const struct sockaddr *)(const void *)&a, sizeof a) == 0;
    if (fd >= 0)
        close(fd);
    return yes;
}

static int port_of(int fd)
{
    char text[ROUTINE_ADDRESS_MAX];
    CHECK_EQ(routine_local_address(fd, text, sizeof text), 0);
    const char *colon = strrchr(text, ':');
    return colon != NULL ? atoi(colon + 1) : -1;
}

/* "host:port" */
static const char *with_port(char *text, const char *host, int port)
{
    snprintf(text, ROUTINE_ADDRESS_MAX, "%s:%d", host, port);
    return text;
}

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t size = sizeof value;
    CHECK_EQ(getsockopt(fd, level, option, &value, &size), 0);
    return value;
}

static void check_flags(int fd)
{
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void talk(int a, int b)
{
    char data[8];
    CHECK_EQ(routine_write_all(a, "ping", 4, NULL), 0);
    CHECK_EQ(routine_read_full(b, data, 4, NULL), 0);
    CHECK_EQ(memcmp(data, "ping", 4), 0);
    CHECK_EQ(routine_write_all(b, "pong", 4, NULL), 0);
    CHECK_EQ(routine_read_full(a, data, 4, NULL), 0);
    CHECK_EQ(memcmp(data, "pong", 4), 0);
}

/* Binds a port, and does not listen. 0: the port is in use. */
static int hold(int *holder, rt_address address)
{
    const int off = 0;
    *holder = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(*holder >= 0);
    if (address.any.sa_family == AF_INET6)
        CHECK_EQ(setsockopt(*holder, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
    if (bind(*holder, &address.any, rt_address_size(&address)) == 0)
        return port_of(*holder);
    CHECK_EQ(close(*holder), 0);
    return 0;
}

/* A port of all addresses of this machine on which nobody listens, nor can. */
static int dead_port(int *holder)
{
    return hold(holder, rt_address_any(have_ipv6() ? AF_INET6 : AF_INET, 0));
}

/* ---- TCP ---- */

static void listen_and_dial(const char *listen_at, const char *dial_host)
{
    char text[ROUTINE_ADDRESS_MAX], text2[ROUTINE_ADDRESS_MAX];
    const int listener = routine_tcp_listen(listen_at, 0);
    check_flags(listener);
    CHECK_EQ(option_of(listener, SOL_SOCKET, SO_REUSEADDR) != 0, 1);
    const int client = routine_tcp_dial(with_port(text, dial_host, port_of(listener)));
    check_flags(client);
    CHECK(option_of(client, IPPROTO_TCP, TCP_NODELAY) != 0);
    const int server = routine_accept(listener, NULL, NULL);
    CHECK(server >= 0);
    CHECK(option_of(server, IPPROTO_TCP, TCP_NODELAY) != 0);
    talk(client, server);

    /* the ends say the same of each other, however they came about */
    CHECK_EQ(routine_local_address(client, text, sizeof text), 0);
    CHECK_EQ(routine_peer_address(server, text2, sizeof text2), 0);
    CHECK_STR(text2, text);
    CHECK_EQ(routine_peer_address(client, text, sizeof text), 0);
    CHECK_EQ(routine_local_address(server, text2, sizeof text2), 0);
    CHECK_STR(text2, text);

    /* as text they can be dialled again */
    const int again = routine_tcp_dial(text);
    CHECK(again >= 0);
    CHECK_EQ(routine_close(again), 0);
    CHECK_EQ(routine_close(client), 0);
    CHECK_EQ(routine_close(server), 0);

    /* the port is in use, and at once free again */
    CHECK_EQ(routine_local_address(listener, text, sizeof text), 0);
    CHECK_EQ(routine_tcp_listen(text, 0), -EADDRINUSE);
    CHECK_EQ(routine_close(listener), 0);
}

TEST_EVERYWHERE(tcp_by_ipv4)
{
    listen_and_dial("127.0.0.1:0", "127.0.0.1");
    listen_and_dial("0.0.0.0:0", "127.0.0.1");
    listen_and_dial("localhost:0", "one.test");
    listen_and_dial(":0", "127.0.0.1");
    listen_and_dial(":0", "");
    listen_and_dial("127.0.0.1:0", "[::ffff:127.0.0.1]");
}

TEST_EVERYWHERE(tcp_by_ipv6)
{
    if (!have_ipv6())
        return;
    listen_and_dial("[::1]:0", "[::1]");
    listen_and_dial("[::]:0", "[::1]");
    listen_and_dial("[::]:0", "127.0.0.1");
    listen_and_dial(":0", "[::1]");
}

/* Without a host: this machine, whichever of its addresses answers. */
TEST_EVERYWHERE(the_other_family_of_this_machine)
{
    if (!have_ipv6())
        return;
    char text[ROUTINE_ADDRESS_MAX];
    int holder, port, listener;
    while ((port = hold(&holder, rt_address_loopback(AF_INET, 0))) == 0 ||
           (listener = routine_tcp_listen(with_port(text, "[::1]", port), 0)) < 0)
        if (port != 0)
            CHECK_EQ(close(holder), 0);
    const int client = routine_tcp_dial(with_port(text, "", port));
    const int server = routine_accept(listener, NULL, NULL);
    talk(client, server);
    CHECK_EQ(routine_close(client), 0);
    CHECK_EQ(routine_close(server), 0);
    CHECK_EQ(routine_close(listener), 0);
    CHECK_EQ(close(holder), 0);
}

TEST_EVERYWHERE(addresses_of_both_families)
{
    char text[ROUTINE_ADDRESS_MAX], host[64];
    const int listener = routine_tcp_listen(":0", 0);
    const int client = routine_tcp_dial(with_port(text, "127.0.0.1", port_of(listener)));
    const int server = routine_accept(listener, NULL, NULL);
    CHECK_EQ(routine_local_address(listener, text, sizeof text), 0);
    snprintf(host, sizeof host, "%s:%d", have_ipv6() ? "[::]" : "0.0.0.0", port_of(listener));
    CHECK_STR(text, host);
    CHECK_EQ(routine_peer_address(server, text, sizeof text), 0); /* not ::ffff:127.0.0.1 */
    CHECK_EQ(strncmp(text, "127.0.0.1:", 10), 0);
    CHECK_EQ(routine_close(client), 0);
    CHECK_EQ(routine_close(server), 0);
    CHECK_EQ(routine_close(listener), 0);
}

/* After a connection that its own side has closed first, which keeps the port for a minute. That somebody
 * else takes it meanwhile does not happen each time. */
TEST_EVERYWHERE(a_restarted_listener)
{
    char text[ROUTINE_ADDRESS_MAX], byte;
    int again = -EADDRINUSE;
    for (int i = 0; i < 5 && again == -EADDRINUSE; i++) {
        const int listener = routine_tcp_listen("127.0.0.1:0", 0);
        CHECK_EQ(routine_local_address(listener, text, sizeof text), 0);
        const int client = routine_tcp_dial(text), server = routine_accept(listener, NULL, NULL);
        CHECK_EQ(routine_close(server), 0);
        CHECK_EQ(routine_read(client, &byte, 1), 0);
        CHECK_EQ(routine_close(client), 0);
        CHECK_EQ(routine_close(listener), 0);
        again = routine_tcp_listen(text, 0);
    }
    CHECK(again >= 0);
    CHECK_EQ(routine_close(again), 0);
}

TEST_EVERYWHERE(what_cannot_be_understood)
{
    static const char *const wrong[] = {"",      ":",    "localhost", "localhost:", "::1:80", "1.2.3.4:65536",
                                        "[::1]", "a b:1"};
    for (size_t i = 0; i <= COUNT_OF(wrong); i++) {
        const char *address = i < COUNT_OF(wrong) ? wrong[i] : NULL;
        CHECK_EQ(routine_tcp_listen(address, 0), -EINVAL);
        CHECK_EQ(routine_tcp_dial(address), -EINVAL);
        CHECK_EQ(routine_udp_bind(address), -EINVAL);
        CHECK_EQ(routine_udp_dial(address), -EINVAL);
    }
    CHECK_EQ(routine_tcp_dial("127.0.0.1:no-such-service"), -EINVAL);
    CHECK_EQ(routine_tcp_dial("localhost:no-such-service"), -EINVAL);
    CHECK_EQ(routine_tcp_listen(":no-such-service", 0), -EINVAL);
}

TEST_EVERYWHERE(refused)
{
    int holder;
    char text[ROUTINE_ADDRESS_MAX];
    const int port = dead_port(&holder);
    CHECK_EQ(routine_tcp_dial(with_port(text, "127.0.0.1", port)), -ECONNREFUSED);
    CHECK_EQ(routine_tcp_dial(with_port(text, "three.test", port)), -ECONNREFUSED);
    CHECK_EQ(routine_tcp_dial(with_port(text, "", port)), -ECONNREFUSED);
    CHECK_EQ(routine_tcp_listen("192.0.2.55:0", 0), -EADDRNOTAVAIL); /* is not ours */
    CHECK_EQ(close(holder), 0);
}

TEST(a_host_that_is_partly_ours)
{
    char text[ROUTINE_ADDRESS_MAX];
    const int fd = routine_tcp_listen("foreign.test:0", 0);
    CHECK_EQ(routine_local_address(fd, text, sizeof text), 0);
    CHECK_EQ(strncmp(text, "127.0.0.1:", 10), 0);
    CHECK_EQ(routine_close(fd), 0);
}

/* Who dials a port on which nobody listens, of the range that is for clients, is given that very port now and
 * then, and would talk to himself. Linux gives clients every second port, and the others to whom asks for
 * any. */
static void *no_own_peer_body(void *arg)
{
    char text[ROUTINE_ADDRESS_MAX], own[ROUTINE_ADDRESS_MAX];
    const int listener = routine_tcp_listen("127.0.0.1:0", 0);
    with_port(text, "127.0.0.1", port_of(listener) ^ 1);
    CHECK_EQ(routine_close(listener), 0);
    for (long i = 0; i < support_scale(30000) && atomic_load(&support_failures) == 0; i++) {
        const int fd = routine_tcp_dial(text);
        if (fd == -ECONNREFUSED)
            continue;
        CHECK(fd >= 0); /* somebody else has come to listen there, or to connect from there */
        CHECK_EQ(routine_local_address(fd, own, sizeof own), 0);
        CHECK(strcmp(own, text) != 0);
        CHECK_EQ(routine_close(fd), 0);
        break;
    }
    return arg;
}

TEST(nobody_is_his_own_peer)
{
    support_in_routine(no_own_peer_body, NULL);
}

static void *client_body(void *arg)
{
    const char *address = arg;
    char data[4];
    const int fd = routine_tcp_dial(address);
    CHECK(fd >= 0);
    CHECK_EQ(routine_write_all(fd, "echo", 4, NULL), 0);
    CHECK_EQ(routine_read_full(fd, data, 4, NULL), 0);
    CHECK_EQ(memcmp(data, "echo", 4), 0);
    CHECK_EQ(routine_close(fd), 0);
    return NULL;
}

static void *echo_body(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    CHECK_EQ(routine_copy(fd, fd, UINT64_MAX, NULL), 0);
    CHECK_EQ(routine_close(fd), 0);
    return NULL;
}

static void *many_body(void *arg)
{
    enum { MANY = 200 };
    char text[ROUTINE_ADDRESS_MAX], address[ROUTINE_ADDRESS_MAX];
    routine_t clients[MANY], servers[MANY];
    const int listener = routine_tcp_listen(":0", 0);
    with_port(address, "localhost", port_of(listener));
    with_port(text, "", port_of(listener));
    for (int i = 0; i < MANY; i++)
        clients[i] = go(client_body, i % 2 ? address : text);
    for (int i = 0; i < MANY; i++) {
        const int fd = routine_accept(listener, NULL, NULL);
        CHECK(fd >= 0);
        servers[i] = go(echo_body, (void *)(intptr_t)fd);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(routine_join(clients[i], NULL), 0);
        CHECK_EQ(routine_join(servers[i], NULL), 0);
    }
    CHECK_EQ(routine_close(listener), 0);
    return arg;
}

TEST(many_connections)
{
    support_in_routine(many_body, NULL);
}

/* ---- names ---- */

static void check_order(const char *name, rt_resolve_for purpose, const char *expected)
{
    rt_resolved list;
    char order[1024] = "", text[ROUTINE_ADDRESS_MAX];
    CHECK_EQ(rt_resolve(name, SOCK_STREAM, purpose, &list), 0);
    for (int i = 0; i < list.count; i++) {
        CHECK_EQ(rt_address_print(&list.all[i].any, rt_address_size(&list.all[i]), text, sizeof text), 0);
        strcat(strcat(order, i ? " " : ""), text);
    }
    CHECK_STR(order, expected);
}

TEST_EVERYWHERE(the_order_of_addresses)
{
    check_order("mixed.test:7", RT_RESOLVE_TO_DIAL,
                "[2001:db8::1]:7 192.0.2.1:7 [2001:db8::2]:7 192.0.2.2:7 [2001:db8::3]:7");
    check_order("mixed4.test:7", RT_RESOLVE_TO_DIAL, "192.0.2.1:7 [2001:db8::1]:7 192.0.2.2:7");
    check_order("mixed.test:7", RT_RESOLVE_TO_LISTEN,
                "[2001:db8::1]:7 [2001:db8::2]:7 [2001:db8::3]:7 192.0.2.1:7 192.0.2.2:7");
    check_order("twice.test:7", RT_RESOLVE_TO_DIAL, "127.0.0.1:7 127.0.0.2:7");
    check_order(":7", RT_RESOLVE_TO_DIAL, "127.0.0.1:7 [::1]:7");
    check_order(":7", RT_RESOLVE_TO_LISTEN, "[::]:7 0.0.0.0:7");
    check_order("[::1]:7", RT_RESOLVE_TO_LISTEN, "[::1]:7");
    rt_resolved list;
    CHECK_EQ(rt_resolve("many.test:7", SOCK_STREAM, RT_RESOLVE_TO_DIAL, &list), 0);
    CHECK_EQ(list.count, RT_RESOLVE_MOST);
}

TEST_EVERYWHERE(errors_of_names)
{
    CHECK_EQ(routine_tcp_dial("unknown.test:80"), -ENOENT);
    CHECK_EQ(routine_tcp_dial("family.test:80"), -ENOENT);
    CHECK_EQ(routine_tcp_dial("again.test:80"), -EAGAIN);
    CHECK_EQ(routine_tcp_dial("memory.test:80"), -ENOMEM);
    CHECK_EQ(routine_tcp_dial("fail.test:80"), -EIO);
    CHECK_EQ(routine_tcp_listen("unknown.test:80", 0), -ENOENT);
    CHECK_EQ(routine_udp_bind("unknown.test:80"), -ENOENT);
    CHECK_EQ(routine_udp_dial("again.test:80"), -EAGAIN);
}

TEST(numbers_are_not_looked_up)
{
    char text[ROUTINE_ADDRESS_MAX];
    const int listener = routine_tcp_listen(":0", 0);
    const long before = atomic_load(&lookups);
    atomic_store(&service_port, port_of(listener));
    const int a = routine_tcp_dial(with_port(text, "127.0.0.1", port_of(listener)));
    const int b = routine_tcp_dial("127.0.0.1:test-service"), c = routine_tcp_dial(":test-service");
    const int d = routine_udp_dial(with_port(text, "[::1]", 9));
    CHECK(a >= 0 && b >= 0 && c >= 0 && (d >= 0 || !have_ipv6()));
    CHECK_EQ(atomic_load(&lookups), before);
    const int e = routine_tcp_dial("localhost:test-service");
    CHECK(e >= 0);
    CHECK_EQ(atomic_load(&lookups), before + 1);
    const int all[] = {a, b, c, d, e, listener};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (all[i] >= 0)
            CHECK_EQ(routine_close(all[i]), 0);
}

TEST(which_error_says_more)
{
    CHECK_EQ(rt_net_worse(0, -ENETUNREACH), -ENETUNREACH);
    CHECK_EQ(rt_net_worse(-ENETUNREACH, -ECONNREFUSED), -ECONNREFUSED);
    CHECK_EQ(rt_net_worse(-ECONNREFUSED, -ENETUNREACH), -ECONNREFUSED);
    CHECK_EQ(rt_net_worse(-ECONNREFUSED, -ETIMEDOUT), -ECONNREFUSED);
    CHECK_EQ(rt_net_worse(-EAFNOSUPPORT, -ENETUNREACH), -EAFNOSUPPORT);
}

/* ---- addresses that do not answer ---- */

/* A listener with a full queue. */
struct deaf {
    int listener, in_queue[2];
};

/* How many connections are in a listener's queue, as Linux says it. */
static unsigned queued_at(int listener)
{
    struct tcp_info info = {.tcpi_unacked = 0};
    socklen_t size = sizeof info;
    CHECK_EQ(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_unacked;
}

static void fill_queue(struct deaf *d, const char *host, int port)
{
    char text[ROUTINE_ADDRESS_MAX];
    for (int i = 0; i < 2; i++) { /* one more than it was asked for, as Linux counts */
        d->in_queue[i] = routine_tcp_dial(with_port(text, host, port));
        CHECK(d->in_queue[i] >= 0);
    }
    WAIT_UNTIL(queued_at(d->listener) == 2);
}

/* Three addresses of one port: two that do not answer, and one that does. */
struct trio {
    struct deaf first, second;
    int listener, port;
};

static void trio_open(struct trio *t)
{
    char text[ROUTINE_ADDRESS_MAX];
    for (;;) { /* until it is a port that is free at all of them */
        t->listener = routine_tcp_listen("127.0.0.1:0", 0);
        t->port = port_of(t->listener);
        t->first.listener = routine_tcp_listen(with_port(text, "127.0.0.4", t->port), 1);
        t->second.listener = routine_tcp_listen(with_port(text, "127.0.0.3", t->port), 1);
        if (t->first.listener >= 0 && t->second.listener >= 0)
            break;
        routine_close(t->first.listener);
        routine_close(t->second.listener);
        CHECK_EQ(routine_close(t->listener), 0);
    }
    fill_queue(&t->first, "127.0.0.4", t->port);
    fill_queue(&t->second, "127.0.0.3", t->port);
    struct pollfd one = {.fd = t->listener, .events = POLLIN};
    CHECK_EQ(routine_poll(&one, 1, 1), 0); /* the poller's own descriptors are there from now on */
}

static void trio_close(const struct trio *t)
{
    const struct deaf *const both[] = {&t->first, &t->second};
    for (int k = 0; k < 2; k++) {
        CHECK_EQ(routine_close(both[k]->listener), 0);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(routine_close(both[k]->in_queue[i]), 0);
    }
    CHECK_EQ(routine_close(t->listener), 0);
}

static void *next_one_body(void *arg)
{
    struct trio t;
    char text[ROUTINE_ADDRESS_MAX];
    trio_open(&t);
    const long before = support_entries("/proc/self/fd");
    const int64_t begin = routine_now();
    const int fd = routine_tcp_dial(with_port(text, "three.test", t.port));
    CHECK(fd >= 0);
    CHECK(routine_now() - begin >= 500 * ROUTINE_MS);
    CHECK_EQ(routine_peer_address(fd, text, sizeof text), 0);
    CHECK_EQ(strncmp(text, "127.0.0.1:", 10), 0);
    const int server = routine_accept(t.listener, NULL, NULL);
    talk(fd, server);
    CHECK_EQ(routine_close(fd), 0);
    CHECK_EQ(routine_close(server), 0);
    CHECK_EQ(support_entries("/proc/self/fd"), before);
    trio_close(&t);
    return arg;
}

TEST(the_next_one_has_its_turn)
{
    support_in_routine(next_one_body, NULL);
}

/* The first does answer in the end, and is taken though others have been begun. */
static void *late_body(void *arg)
{
    struct trio t;
    char text[ROUTINE_ADDRESS_MAX];
    trio_open(&t);
    with_port(text, "two-dead.test", t.port);
    routine_t h = go(client_body, text);
    CHECK_EQ(routine_sleep(400 * ROUTINE_MS), 0);
    for (int i = 0; i < 2; i++) {
        const int fd = routine_accept(t.first.listener, NULL, NULL);
        CHECK(fd >= 0);
        CHECK_EQ(routine_close(fd), 0);
    }
    const int fd = routine_accept(t.first.listener, NULL, NULL);
    CHECK(fd >= 0);
    CHECK_EQ(routine_copy(fd, fd, 4, NULL), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_close(fd), 0);
    trio_close(&t);
    return arg;
}

TEST(a_late_answer)
{
    support_in_routine(late_body, NULL);
}

struct dial {
    const char *address;
    int rc;
};

static void *dial_body(void *arg)
{
    struct dial *d = arg;
    d->rc = routine_tcp_dial(d->address);
    return NULL;
}

static void *unanswered_body(void *arg)
{
    struct trio t;
    char one[ROUTINE_ADDRESS_MAX], two[ROUTINE_ADDRESS_MAX];
    trio_open(&t);
    with_port(one, "127.0.0.4", t.port);
    with_port(two, "two-dead.test", t.port);
    for (int round = 0; round < 2; round++) { /* the first one for what is made once */
        const long before = support_entries("/proc/self/fd");
        {
            routine_with_timeout(20 * ROUTINE_MS);
            CHECK_EQ(routine_tcp_dial(one), -ETIMEDOUT);
        }
        {
            routine_with_timeout(270 * ROUTINE_MS);
            CHECK_EQ(routine_tcp_dial(two), -ETIMEDOUT);
        }
        struct dial dials[4] = {{one, 1}, {two, 1}, {two, 1}, {two, 1}};
        routine_t all[COUNT_OF(dials)];
        for (size_t i = 0; i < COUNT_OF(dials); i++)
            all[i] = go(dial_body, &dials[i]);
        for (size_t i = 0; i < COUNT_OF(dials); i++) {
            CHECK_EQ(routine_sleep(i == 3 ? 300 * ROUTINE_MS : 3 * ROUTINE_MS), 0);
            CHECK_EQ(routine_cancel(all[i]), 0);
            const int rc = routine_join(all[i], NULL);
            CHECK(rc == 0 || rc == -ECANCELED); /* or it has not even begun */
            CHECK_EQ(dials[i].rc, rc == 0 ? -ECANCELED : 1);
        }
        if (round > 0)
            CHECK_EQ(support_entries("/proc/self/fd"), before);
    }
    trio_close(&t);
    return arg;
}

TEST(nobody_answers_at_all)
{
    support_in_routine(unanswered_body, NULL);
}

TEST_EVERYWHERE(a_limit_that_has_passed)
{
    routine_with_timeout(0);
    CHECK_EQ(routine_tcp_listen("127.0.0.1:0", 0), -ETIMEDOUT);
    CHECK_EQ(routine_tcp_dial("127.0.0.1:1"), -ETIMEDOUT);
    CHECK_EQ(routine_tcp_dial("localhost:1"), -ETIMEDOUT);
    CHECK_EQ(routine_udp_bind("127.0.0.1:0"), -ETIMEDOUT);
    CHECK_EQ(routine_udp_dial("127.0.0.1:1"), -ETIMEDOUT);
    CHECK_EQ(routine_unix_listen("@routines-never", 0), -ETIMEDOUT);
    CHECK_EQ(routine_unix_dial("@routines-never"), -ETIMEDOUT);
}

/* ---- UDP ---- */

static void udp_exchange(const char *bind_at, const char *host)
{
    char text[ROUTINE_ADDRESS_MAX], data[16];
    const int server = routine_udp_bind(bind_at);
    check_flags(server);
    const int client = routine_udp_dial(with_port(text, host, port_of(server)));
    check_flags(client);
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    CHECK_EQ(routine_send(client, "hello", 5, 0), 5);
    CHECK_EQ(routine_recvfrom(server, data, sizeof data, 0, (struct sockaddr *)&from, &size), 5);
    CHECK_EQ(routine_sendto(server, "you", 3, 0, (struct sockaddr *)&from, size), 3);
    CHECK_EQ(routine_recv(client, data, sizeof data, 0), 3);
    CHECK_EQ(memcmp(data, "you", 3), 0);
    CHECK_EQ(routine_local_address(server, text, sizeof text), 0);
    CHECK_EQ(routine_udp_bind(text), -EADDRINUSE); /* no two share it */
    CHECK_EQ(routine_close(client), 0);
    CHECK_EQ(routine_close(server), 0);
}

TEST_EVERYWHERE(udp)
{
    udp_exchange("127.0.0.1:0", "127.0.0.1");
    udp_exchange("localhost:0", "localhost");
    udp_exchange(":0", "127.0.0.1");
    udp_exchange(":0", "");
    if (have_ipv6()) {
        udp_exchange("[::1]:0", "[::1]");
        udp_exchange(":0", "[::1]");
    }
}

/* ---- Unix sockets ---- */

static char directory[64];

/* A path of its own, in `text`. */
static const char *new_path(char *text)
{
    static _Atomic int count;
    snprintf(text, ROUTINE_ADDRESS_MAX, "%s/%d", directory, atomic_fetch_add(&count, 1));
    return text;
}

static void unix_exchange(const char *path)
{
    char text[ROUTINE_ADDRESS_MAX];
    const int listener = routine_unix_listen(path, 0);
    check_flags(listener);
    CHECK_EQ(routine_unix_listen(path, 0), -EADDRINUSE);
    const int client = routine_unix_dial(path);
    check_flags(client);
    const int server = routine_accept(listener, NULL, NULL); /* and nobody before, who had only looked */
    talk(client, server);
    CHECK_EQ(routine_local_address(listener, text, sizeof text), 0);
    CHECK_STR(text, path);
    CHECK_EQ(routine_peer_address(client, text, sizeof text), 0);
    CHECK_STR(text, path);
    CHECK_EQ(routine_local_address(client, text, sizeof text), 0);
    CHECK_STR(text, ""); /* has no name */
    CHECK_EQ(routine_close(client), 0);
    CHECK_EQ(routine_close(server), 0);
    CHECK_EQ(routine_close(listener), 0);
}

TEST_EVERYWHERE(unix_sockets)
{
    char path[ROUTINE_ADDRESS_MAX], name[ROUTINE_ADDRESS_MAX + 1];
    new_path(path);
    for (int i = 0; i < 3; i++) /* the file of the time before is replaced */
        unix_exchange(path);
    CHECK_EQ(unlink(path), 0);
    snprintf(name, sizeof name, "@%s", path);
    unix_exchange(name);
    CHECK_EQ(routine_unix_dial(name), -ECONNREFUSED);
    CHECK_EQ(routine_unix_dial(path), -ENOENT);
}

TEST_EVERYWHERE(paths_that_will_not_do)
{
    char path[200] = "/";
    CHECK_EQ(routine_unix_listen(NULL, 0), -EINVAL);
    CHECK_EQ(routine_unix_dial(NULL), -EINVAL);
    CHECK_EQ(routine_unix_listen("", 0), -EINVAL);
    CHECK_EQ(routine_unix_dial(""), -EINVAL);
    CHECK_EQ(routine_unix_listen("@", 0), -EINVAL);
    CHECK_EQ(routine_unix_dial("@"), -EINVAL);
    memset(path, 'p', 108);
    CHECK_EQ(routine_unix_listen(path, 0), -ENAMETOOLONG);
    CHECK_EQ(routine_unix_dial(path), -ENAMETOOLONG);
    path[0] = '@';
    CHECK_EQ(routine_unix_listen(path, 0), -ENAMETOOLONG);
    path[107] = 0;
    CHECK_EQ(routine_unix_dial(path), -ECONNREFUSED);
    path[0] = '/';
    CHECK_EQ(routine_unix_dial(path), -ENOENT);
    CHECK_EQ(routine_unix_listen("/no/such/directory/socket", 0), -ENOENT);
}

/* What is no socket is not removed. */
TEST_EVERYWHERE(other_files)
{
    char path[ROUTINE_ADDRESS_MAX], link[ROUTINE_ADDRESS_MAX];
    struct stat st;
    const int fd = open(new_path(path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(routine_unix_listen(path, 0), -EADDRINUSE);
    CHECK(lstat(path, &st) == 0 && S_ISREG(st.st_mode));
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(routine_close(routine_unix_listen(path, 0)), 0);
    CHECK_EQ(symlink(path, new_path(link)), 0); /* to a socket that is dead */
    CHECK_EQ(routine_unix_listen(link, 0), -EADDRINUSE);
    CHECK(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    CHECK(lstat(path, &st) == 0 && S_ISSOCK(st.st_mode));
    CHECK_EQ(unlink(link), 0);
    CHECK_EQ(unlink(path), 0);

    /* one that is bound and does not listen yet; one of another type */
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    for (int i = 0; i < 2; i++) {
        const int bound = socket(AF_UNIX, i ? SOCK_DGRAM : SOCK_STREAM, 0);
        CHECK_EQ(bind(bound, (const struct sockaddr *)(const void *)&a, sizeof a), 0);
        CHECK_EQ(routine_unix_listen(path, 0), -EADDRINUSE);
        CHECK(lstat(path, &st) == 0 && S_ISSOCK(st.st_mode));
        CHECK_EQ(close(bound), 0);
        CHECK_EQ(unlink(path), 0);
    }
}

/* A queue that is full is waited for. */
static void *unix_client_body(void *arg)
{
    const int fd = routine_unix_dial(arg);
    CHECK(fd >= 0);
    CHECK_EQ(routine_close(fd), 0);
    return NULL;
}

static void *full_queue_body(void *arg)
{
    char path[ROUTINE_ADDRESS_MAX];
    const int listener = routine_unix_listen(new_path(path), 1);
    int count = 0;
    for (; count < 8; count++) {
        routine_with_timeout(5 * ROUTINE_MS);
        const int fd = routine_unix_dial(path);
        if (fd < 0) {
            CHECK_EQ(fd, -ETIMEDOUT);
            break;
        }
        CHECK_EQ(routine_close(fd), 0);
    }
    CHECK(count < 8);
    CHECK_EQ(routine_unix_listen(path, 0), -EADDRINUSE); /* full is alive */
    routine_t h = go(unix_client_body, path);
    CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
    for (int i = 0; i <= count; i++)
        CHECK_EQ(routine_close(routine_accept(listener, NULL, NULL)), 0);
    CHECK_EQ(routine_join(h, NULL), 0);
    CHECK_EQ(routine_close(listener), 0);
    CHECK_EQ(unlink(path), 0);
    return arg;
}

TEST(a_full_queue)
{
    support_in_routine(full_queue_body, NULL);
}

/* Several start at the same time over the file of one that has died: one of them gets the name, and keeps it.
 */
struct start {
    const char *path;
    _Atomic int arrived, winners;
    int fd[8];
};

struct starter {
    struct start *start;
    int index;
};

static void *starter_body(void *arg)
{
    const struct starter *s = arg;
    support_meet(&s->start->arrived, 8);
    const int fd = routine_unix_listen(s->start->path, 0);
    s->start->fd[s->index] = fd;
    if (fd >= 0)
        atomic_fetch_add(&s->start->winners, 1);
    else
        CHECK_EQ(fd, -EADDRINUSE);
    return NULL;
}

static void race_of_starters(void)
{
    char path[ROUTINE_ADDRESS_MAX];
    struct start start = {.path = new_path(path)};
    struct starter starters[8];
    pthread_t threads[4];
    routine_t routines[4];
    CHECK_EQ(routine_close(routine_unix_listen(path, 0)), 0);
    for (int i = 0; i < 8; i++) {
        starters[i] = (struct starter){&start, i};
        if (i % 2)
            threads[i / 2] = support_thread(starter_body, &starters[i]);
        else
            routines[i / 2] = go(starter_body, &starters[i]);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(routine_join(routines[i], NULL), 0);
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(atomic_load(&start.winners), 1);
    const int client = routine_unix_dial(path); /* it is the one that can be reached */
    CHECK(client >= 0);
    CHECK_EQ(routine_close(client), 0);
    for (int i = 0; i < 8; i++)
        if (start.fd[i] >= 0)
            CHECK_EQ(routine_close(start.fd[i]), 0);
    CHECK_EQ(unlink(path), 0);
}

TEST(starters_at_the_same_time)
{
    for (long i = 0; i < support_scale(300) && atomic_load(&support_failures) == 0; i++)
        race_of_starters();
}

/* ---- addresses of descriptors ---- */

TEST_EVERYWHERE(addresses_of_descriptors)
{
    char text[ROUTINE_ADDRESS_MAX];
    const int listener = routine_tcp_listen("127.0.0.1:0", 0);
    CHECK_EQ(routine_local_address(listener, NULL, 10), -EINVAL);
    CHECK_EQ(routine_local_address(listener, text, 0), -ENOSPC);
    CHECK_EQ(routine_local_address(listener, text, 11), -ENOSPC);
    CHECK_EQ(routine_peer_address(listener, text, sizeof text), -ENOTCONN);
    CHECK_EQ(routine_local_address(-1, text, sizeof text), -EBADF);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(routine_local_address(null, text, sizeof text), -ENOTSOCK);
    CHECK_EQ(close(null), 0);
    CHECK_EQ(routine_close(listener), 0);
}

/* ---- without descriptors ---- */

static void *no_descriptors_body(void *arg)
{
    char text[ROUTINE_ADDRESS_MAX], path[ROUTINE_ADDRESS_MAX];
    const int listener = routine_tcp_listen(":0", 0);
    const int port = port_of(listener);
    CHECK_EQ(routine_close(routine_tcp_dial(with_port(text, "", port))), 0); /* what is made once */
    const int free_one = dup(listener);
    CHECK_EQ(close(free_one), 0);
    struct rlimit before;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit full = {(rlim_t)free_one, before.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &full), 0);
    CHECK_EQ(routine_tcp_dial(with_port(text, "", port)), -EMFILE);
    CHECK_EQ(routine_tcp_dial(with_port(text, "three.test", port)), -EMFILE);
    CHECK_EQ(routine_tcp_listen(":0", 0), -EMFILE);
    CHECK_EQ(routine_udp_bind(":0"), -EMFILE);
    CHECK_EQ(routine_udp_dial(":9"), -EMFILE);
    CHECK_EQ(routine_unix_listen(new_path(path), 0), -EMFILE);
    CHECK_EQ(routine_unix_dial(path), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0); /* sanitizers look at /proc at the end */
    return arg;
}

static int case_no_descriptors(void)
{
    support_in_routine(no_descriptors_body, NULL);
    return 0;
}

static const struct support_case cases[] = {
    {"no_descriptors", case_no_descriptors},
};

TEST(processes)
{
    struct support_result result;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CASE_EXITS(&result, cases[i].name, NULL, 0);
}

int main(int argc, char **argv)
{
    strcpy(directory, "/tmp/routines-net-XXXXXX");
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_by_ipv4),
        cmocka_unit_test(tcp_by_ipv6),
        cmocka_unit_test(the_other_family_of_this_machine),
        cmocka_unit_test(addresses_of_both_families),
        cmocka_unit_test(a_restarted_listener),
        cmocka_unit_test(what_cannot_be_understood),
        cmocka_unit_test(refused),
        cmocka_unit_test(a_host_that_is_partly_ours),
        cmocka_unit_test(nobody_is_his_own_peer),
        cmocka_unit_test(many_connections),
        cmocka_unit_test(the_order_of_addresses),
        cmocka_unit_test(errors_of_names),
        cmocka_unit_test(numbers_are_not_looked_up),
        cmocka_unit_test(which_error_says_more),
        cmocka_unit_test(the_next_one_has_its_turn),
        cmocka_unit_test(a_late_answer),
        cmocka_unit_test(nobody_answers_at_all),
        cmocka_unit_test(a_limit_that_has_passed),
        cmocka_unit_test(udp),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(paths_that_will_not_do),
        cmocka_unit_test(other_files),
        cmocka_unit_test(a_full_queue),
        cmocka_unit_test(starters_at_the_same_time),
        cmocka_unit_test(addresses_of_descriptors),
        cmocka_unit_test(processes),
    };
    if (mkdtemp(directory) == NULL)
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}
