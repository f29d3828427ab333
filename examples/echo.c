/* SPDX-License-Identifier: MIT
 *
 * echo: a TCP server that sends back what it gets.
 *
 *     ./echo [-g MS] [address]       address: ":7777" if none is given; port 0: the system chooses
 *     nc localhost 7777
 *
 * One routine for each connection, all of them children of one scope. Accepting is a child of a scope of its
 * own, so that it can be ended at any moment: by SIGINT or SIGTERM, which come through a channel. Then the
 * connections have a grace to finish, which is a limit around the join of their scope, and are cancelled. A
 * second signal ends the program as if it had no handler.
 *
 * The buffer of a connection is small enough to fit, with all that waits on it, into one page of a stack.
 *
 * Exit status: 0 all connections have finished; 3 some were cut off; 2 wrong arguments; 1 any other error.
 */
#include <errno.h>
#include <routines.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "echo: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

struct server {
    int listener;
    long grace; /* milliseconds */
    chan_t *signals;
    routine_scope_t *connections;
    size_t accepted;
    atomic_size_t finished; /* of their own accord */
    atomic_ullong bytes;
};

struct connection {
    struct server *server;
    int fd;
};

/* A child that fails would cancel all others: so it is no failure if a peer is gone. */
static int serve(void *arg)
{
    const struct connection *c = arg;
    char buffer[2048];
    unsigned long long bytes = 0;
    ssize_t n;
    while ((n = routine_read(c->fd, buffer, sizeof buffer)) > 0) {
        const int rc = routine_write_all(c->fd, buffer, (size_t)n, NULL);
        if (rc != 0) {
            n = rc;
            break;
        }
        bytes += (size_t)n;
    }
    routine_close(c->fd);
    atomic_fetch_add(&c->server->bytes, bytes);
    atomic_fetch_add(&c->server->finished, n != -ECANCELED);
    return 0;
}

/* Without descriptors or memory the connections wait in the kernel until others have gone: not to ask again
 * and again meanwhile, it sleeps a little. */
static int accept_all(void *arg)
{
    struct server *server = arg;
    int full = 0;
    for (;;) {
        const struct connection c = {server, routine_accept(server->listener, NULL, NULL)};
        int rc = c.fd;
        if (rc >= 0 && (rc = routine_scope_go_copy(server->connections, serve, c)) != 0)
            routine_close(c.fd);
        if (rc == 0) {
            server->accepted++;
            full = 0;
            continue;
        }
        if (rc == -ECANCELED)
            return 0;
        if (rc != -EMFILE && rc != -ENFILE && rc != -ENOBUFS && rc != -ENOMEM)
            check(rc, "accepting");
        if (rc != full)
            fprintf(stderr, "echo: no more connections for now: %s\n", strerror(-rc));
        full = rc;
        if (routine_sleep(50 * ROUTINE_MS) != 0)
            return 0;
    }
}

static void *run(void *arg)
{
    struct server *server = arg;
    int signo = 0, waited;
    routine_scope(connections);
    server->connections = &connections;
    {
        routine_scope(accepting);
        check(routine_scope_go(&accepting, accept_all, server), "accepting");
        check(chan_recv(server->signals, &signo), "waiting for a signal");
    } /* its end cancels it */
    routine_close(server->listener);
    check(routine_signal_stop(SIGINT, server->signals), "SIGINT"); /* the next one is deadly again */
    check(routine_signal_stop(SIGTERM, server->signals), "SIGTERM");
    printf("signal %d: no more connections; those there are, %zu, have %ld ms\n", signo,
           server->accepted - server->finished, server->grace);
    {
        routine_with_timeout(server->grace * ROUTINE_MS);
        waited = routine_scope_join(&connections, NULL);
    }
    if (waited == -ETIMEDOUT) {
        routine_scope_cancel(&connections);
        waited = routine_scope_join(&connections, NULL);
    }
    check(waited, "waiting for the connections");
    return NULL;
}

int main(int argc, char **argv)
{
    static struct server server = {.grace = 5000};
    char text[ROUTINE_ADDRESS_MAX], *end = "";
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "g:")) != -1;) {
        good = c == 'g' && (server.grace = strtol(optarg, &end, 10), end != optarg && *end == '\0') &&
               server.grace >= 0 && server.grace <= 1000000000;
    }
    if (!good || argc - optind > 1) {
        fprintf(stderr,
                "usage: %s [-g MS] [address]\n"
                "  -g MS    grace that connections have after a signal (default 5000)\n"
                "  address  where to listen: host:port, :port (default :7777)\n",
                argv[0]);
        return 2;
    }
    const char *address = optind < argc ? argv[optind] : ":7777";
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.signals = chan_make(int, 4);
    check(routine_signal_notify(SIGINT, server.signals), "SIGINT");
    check(routine_signal_notify(SIGTERM, server.signals), "SIGTERM");
    server.listener = routine_tcp_listen(address, 0);
    check(server.listener, address);
    check(routine_local_address(server.listener, text, sizeof text), address);
    printf("listening on %s\n", text);
    check(routine_run(run, &server, NULL), "the server");
    printf("%zu connections, %llu bytes; %zu cut off\n", server.accepted, server.bytes,
           server.accepted - server.finished);
    chan_unref(server.signals);
    return server.accepted == server.finished ? EXIT_SUCCESS : 3;
}
