/* SPDX-License-Identifier: MIT
 *
 * tcp_proxy: passes each connection that comes in on to a target, both ways, byte by byte.
 *
 *     ./tcp_proxy 127.0.0.1:8000 example.org:80
 *     ./tcp_proxy -n 100 :8000 [::1]:5432 30      at most 100 connections; half a minute of silence ends one
 *
 * A connection is a child of a limited scope: if too many are open, the next client waits in the kernel. In
 * it are two children more, one for each direction: read, write, again. What ends passes on:
 *
 *   one side has no more to say    the other is told (shutdown), and may go on talking
 *   one side is gone (reset)       a failed child cancels the other direction; the other side is reset
 *   both are silent for too long   a limit at each read and write, counted from the last byte either way
 *   the target does not answer     a limit around the dial; the client is reset
 *   SIGINT, SIGTERM                nobody comes in any more; those inside have a grace, and are cancelled
 *                                  after it, or at a second signal
 *
 * Exit status: 0; 2 wrong arguments; 1 any other error.
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 16384

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "tcp_proxy: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

struct proxy {
    const char *listen, *target;
    int64_t idle, dial, grace; /* limits */
    size_t most;               /* connections at once */
    bool quiet;
    chan_t *signals; /* int */
    int fd;
    routine_scope_t *connections;
    /* For the end: */
    atomic_size_t accepted, unreachable, silent, broken, cancelled, finished;
    _Atomic uint64_t up, down; /* bytes: to the target, and back */
};

/* ---- One direction. ---- */

struct connection {
    struct proxy *proxy;
    int client, target;
    _Atomic int64_t last; /* time of the last byte */
};

struct direction {
    struct connection *connection;
    int from, to;
    uint64_t bytes;
};

/* The limit for what comes next. It has to be asked for again after a -ETIMEDOUT: the other direction may
 * have been busy. */
static int64_t deadline(struct connection *connection)
{
    const int64_t last = atomic_load(&connection->last), idle = connection->proxy->idle;
    return last < ROUTINE_NEVER - idle ? last + idle : ROUTINE_NEVER;
}

static ssize_t some_bytes(struct direction *direction, bool reading, char *buffer, size_t size)
{
    struct connection *connection = direction->connection;
    ssize_t n;
    do {
        routine_with_deadline(deadline(connection));
        n = reading ? routine_read(direction->from, buffer, size)
                    : routine_write(direction->to, buffer, size); /* less than all if the time was over */
        if (n == -ETIMEDOUT && routine_check() == 0)
            n = -ECONNABORTED; /* it is not our limit that has passed: the kernel has given that side up */
    } while (n == -ETIMEDOUT && deadline(connection) > routine_now());
    if (n > 0)
        atomic_store(&connection->last, routine_now());
    return n;
}

/* A child of carry(). If it fails it cancels the other direction. */
static int pass_on(void *arg)
{
    struct direction *direction = arg;
    char buffer[CHUNK];
    for (;;) {
        const ssize_t got = some_bytes(direction, true, buffer, sizeof buffer);
        if (got <= 0) {
            if (got == 0)
                shutdown(direction->to, SHUT_WR); /* if it fails, that side is gone, and need not be told */
            return (int)got;
        }
        for (ssize_t done = 0; done < got;) {
            const ssize_t n = some_bytes(direction, false, buffer + done, (size_t)(got - done));
            if (n < 0)
                return (int)n;
            done += n;
            direction->bytes += (uint64_t)n;
        }
    }
}

/* ---- A connection. ---- */

static void close_descriptor(void *fd)
{
    routine_close((int)(intptr_t)fd);
}

/* So that closing it resets the connection: the peer must not take what it has got for all there was. */
static void break_off(int fd)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static int dial(const struct proxy *proxy)
{
    routine_with_timeout(proxy->dial);
    return routine_tcp_dial(proxy->target);
}

/* A child of serve(). It never fails, since that would cancel the others. */
static int carry(void *arg)
{
    struct connection *connection = arg; /* a copy of our own */
    struct proxy *proxy = connection->proxy;
    const int64_t begun = routine_now();
    const size_t number = atomic_fetch_add(&proxy->accepted, 1) + 1;
    char peer[ROUTINE_ADDRESS_MAX] = "?";
    routine_defer(close_descriptor, (void *)(intptr_t)connection->client);
    routine_peer_address(connection->client, peer, sizeof peer);
    connection->target = dial(proxy);
    if (connection->target < 0) {
        if (!proxy->quiet)
            printf("%zu: %s: no target: %s\n", number, peer, strerror(-connection->target));
        atomic_fetch_add(&proxy->unreachable, 1);
        break_off(connection->client);
        return 0;
    }
    routine_defer(close_descriptor, (void *)(intptr_t)connection->target);

    int error = 0;
    struct direction up = {connection, connection->client, connection->target, 0};
    struct direction down = {connection, connection->target, connection->client, 0};
    {
        routine_scope(both);
        atomic_store(&connection->last, routine_now());
        int rc = routine_scope_go(&both, pass_on, &up);
        if (rc == 0)
            rc = routine_scope_go(&both, pass_on, &down);
        if (rc == 0)
            rc = routine_scope_join(&both, &error);
        if (rc != 0)
            error = rc;
    } /* if this is not the end of the join, it is the end of both */
    atomic_fetch_add(&proxy->up, up.bytes);
    atomic_fetch_add(&proxy->down, down.bytes);
    atomic_fetch_add(error == 0            ? &proxy->finished
                     : error == -ETIMEDOUT ? &proxy->silent
                     : error == -ECANCELED ? &proxy->cancelled
                                           : &proxy->broken,
                     1);
    if (error != 0 && error != -ETIMEDOUT) {
        break_off(connection->client);
        break_off(connection->target);
    }
    if (!proxy->quiet)
        printf("%zu: %s: %" PRIu64 " bytes there, %" PRIu64 " back, %.3f s: %s\n", number, peer, up.bytes,
               down.bytes, (double)(routine_now() - begun) / (double)ROUTINE_S,
               error == 0            ? "finished"
               : error == -ETIMEDOUT ? "silent"
               : error == -ECANCELED ? "cancelled"
                                     : strerror(-error));
    return 0;
}

/* ---- The proxy. ---- */

/* A child of serve(), until it is cancelled. */
static int accept_clients(void *arg)
{
    struct proxy *proxy = arg;
    for (;;) {
        struct connection connection = {.proxy = proxy};
        connection.client = routine_accept(proxy->fd, NULL, NULL);
        switch (connection.client) {
        case -EMFILE:
        case -ENFILE:
        case -ENOBUFS:
        case -ENOMEM: /* the client waits in the kernel, until others have gone */
            printf("busy: %s\n", strerror(-connection.client));
            (void)routine_sleep(50 * ROUTINE_MS);
            continue;
        case -ECANCELED:
            return 0;
        default:
            check(connection.client < 0 ? connection.client : 0, "accept");
        }
        /* Waits for a free place. (One that is cancelled before it has begun, at the very end of a grace,
         * leaves its descriptor to the end of the process.) */
        if (routine_scope_go_copy(proxy->connections, carry, connection) != 0)
            routine_close(connection.client);
    }
}

/* A child of serve(), while it waits for the last connections. */
static int second_signal(void *arg)
{
    struct proxy *proxy = arg;
    int signo;
    if (chan_recv(proxy->signals, &signo) == 0) {
        printf("signal %d: at once\n", signo);
        routine_scope_cancel(proxy->connections);
    }
    return 0;
}

static void *serve(void *arg)
{
    struct proxy *proxy = arg;
    char address[ROUTINE_ADDRESS_MAX];
    int signo;
    proxy->fd = routine_tcp_listen(proxy->listen, 0);
    check(proxy->fd < 0 ? proxy->fd : 0, proxy->listen);
    check(routine_local_address(proxy->fd, address, sizeof address), "the address");
    printf("ready: process %d listens on %s\n", (int)getpid(), address);
    {
        routine_scope_limited(connections, proxy->most);
        proxy->connections = &connections;
        {
            routine_scope(accepting);
            check(routine_scope_go(&accepting, accept_clients, proxy), "accepting");
            check(chan_recv(proxy->signals, &signo), "waiting for a signal");
        } /* from here on nobody comes in */
        routine_close(proxy->fd);
        printf("signal %d\n", signo);
        routine_scope(second);
        check(routine_scope_go(&second, second_signal, proxy), "waiting for a second signal");
        routine_with_timeout(proxy->grace);
        if (routine_scope_join(&connections, NULL) == -ETIMEDOUT)
            printf("the grace is over\n");
    } /* who is still there is cancelled, and waited for */
    return NULL;
}

/* Seconds, which may have a fraction. */
static bool parse_time(const char *text, int64_t *time)
{
    char *end;
    const double seconds = strtod(text, &end);
    if (*text < '0' || *text > '9' || *end != '\0' || !(seconds <= 1e9))
        return false;
    *time = (int64_t)(seconds * (double)ROUTINE_S);
    return true;
}

int main(int argc, char **argv)
{
    static struct proxy proxy = {
        .idle = 60 * ROUTINE_S, .dial = 5 * ROUTINE_S, .grace = 5 * ROUTINE_S, .most = 10000};
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "n:d:g:q")) != -1;) {
        char *end = "";
        if (c == 'n')
            proxy.most = strtoul(optarg, &end, 10);
        good = (c == 'n' && *optarg >= '1' && *optarg <= '9' && *end == '\0' && proxy.most <= 1000000) ||
               (c == 'd' && parse_time(optarg, &proxy.dial)) ||
               (c == 'g' && parse_time(optarg, &proxy.grace)) || c == 'q';
        proxy.quiet = proxy.quiet || c == 'q';
    }
    const int rest = argc - optind;
    if (!good || rest < 2 || rest > 3 || (rest == 3 && !parse_time(argv[optind + 2], &proxy.idle))) {
        fprintf(stderr,
                "usage: %s [options] listen-address target-address [idle-seconds]\n"
                "  an address is host:port; idle-seconds (default 60) end a silent connection\n"
                "  -n N   connections at once (default 10000)\n"
                "  -d S   seconds that the target has for accepting one (default 5)\n"
                "  -g S   seconds that connections have after a signal (default 5)\n"
                "  -q     no line for each connection\n",
                argv[0]);
        return 2;
    }
    proxy.listen = argv[optind];
    proxy.target = argv[optind + 1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    proxy.signals = chan_make(int, 4);
    check(proxy.signals != NULL ? 0 : -ENOMEM, "a channel");
    check(routine_signal_notify(SIGINT, proxy.signals), "SIGINT");
    check(routine_signal_notify(SIGTERM, proxy.signals), "SIGTERM");
    check(routine_run(serve, &proxy, NULL), "the proxy");
    printf("connections: %zu; finished: %zu, silent: %zu, broken: %zu, cancelled: %zu, no target: %zu\n",
           proxy.accepted, proxy.finished, proxy.silent, proxy.broken, proxy.cancelled, proxy.unreachable);
    printf("bytes: %" PRIu64 " there, %" PRIu64 " back\n", proxy.up, proxy.down);
    chan_unref(proxy.signals);
    return EXIT_SUCCESS;
}
