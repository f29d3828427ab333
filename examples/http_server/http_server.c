/* SPDX-License-Identifier: MIT
 *
 * http_server: HTTP/1.1, for a text, for the files of a directory, and for the runtime's statistics.
 *
 *     ./http_server -d public :8080
 *     curl localhost:8080/hello localhost:8080/stats localhost:8080/
 *
 * One routine for each connection (connection.c), all of them children of a limited scope: if there are
 * as many as are allowed, others wait in the kernel. Whoever dawdles is cut off, be it in sending a request,
 * in reading its answer, or in asking for the next one.
 *
 * SIGINT and SIGTERM come through a channel. Then nothing more is accepted, and all connections are
 * cancelled: those that wait for a request end at once, those that are within one answer it first, for they
 * are shielded. What has not ended after a grace is cut off by the end of the process, and so is everything
 * by a second signal.
 *
 * Exit status: 0 all requests were answered; 3 some were cut off; 2 wrong arguments; 1 any other error.
 */
#define _GNU_SOURCE
#include "http_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "http_server: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

struct program {
    struct server server;
    int listener;
    size_t most;                        /* connections */
    size_t grace, idle, receive, write; /* milliseconds */
    chan_t *signals;
    routine_scope_t *connections;
};

/* Without descriptors or memory connections wait in the kernel until others have gone: not to ask again and
 * again meanwhile, it sleeps a little. */
static int accept_all(void *arg)
{
    struct program *program = arg;
    int full = 0;
    for (;;) {
        const struct connection c = {&program->server, routine_accept(program->listener, NULL, NULL)};
        int rc = c.fd;
        if (rc >= 0) {
            atomic_fetch_add_explicit(&program->server.accepted, 1, memory_order_relaxed);
            rc = routine_scope_go_copy(program->connections, serve_connection, c);
            if (rc != 0) {
                routine_close(c.fd);
                atomic_fetch_add_explicit(&program->server.ended, 1, memory_order_relaxed);
            }
        }
        if (rc == 0) {
            full = 0;
            continue;
        }
        if (rc == -ECANCELED)
            return 0;
        if (rc != -EMFILE && rc != -ENFILE && rc != -ENOBUFS && rc != -ENOMEM)
            check(rc, "accepting");
        if (rc != full)
            fprintf(stderr, "http_server: no more connections for now: %s\n", strerror(-rc));
        full = rc;
        if (routine_sleep(50 * ROUTINE_MS) != 0)
            return 0;
    }
}

static void print_counts(const struct server *server)
{
    printf("%zu connections, %zu requests; %zu cut off\n", server->accepted, server->requests,
           server->accepted - server->ended);
    fflush(stdout);
}

static void *run(void *arg)
{
    struct program *program = arg;
    struct server *server = &program->server;
    int signo = 0, waited;
    routine_scope_limited(connections, program->most);
    program->connections = &connections;
    {
        routine_scope(accepting);
        check(routine_scope_go(&accepting, accept_all, program), "accepting");
        check(chan_recv(program->signals, &signo), "waiting for a signal");
    } /* its end cancels it */
    routine_close(program->listener);
    check(routine_signal_stop(SIGINT, program->signals), "SIGINT"); /* the next one is deadly again */
    check(routine_signal_stop(SIGTERM, program->signals), "SIGTERM");
    printf("signal %d: no more connections; those there are, %zu, have %zu ms to answer\n", signo,
           server->accepted - server->ended, program->grace);
    server->stopping = true;
    routine_scope_cancel(&connections);
    {
        routine_with_timeout((int64_t)program->grace * ROUTINE_MS);
        waited = routine_scope_join(&connections, NULL);
    }
    if (waited == -ETIMEDOUT) { /* they have limits of their own, but those are for a server that goes on */
        print_counts(server);
        _Exit(3);
    }
    check(waited, "waiting for the connections");
    return NULL;
}

/* As many descriptors as the system allows; some are kept for files. */
static size_t most_connections(void)
{
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit) != 0 ? -errno : 0, "the limit of descriptors");
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit) != 0 ? -errno : 0, "the limit of descriptors");
    return limit.rlim_cur > 2000000 ? 1000000 : limit.rlim_cur / 4 * 3;
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    *number = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *number >= smallest && *number <= largest;
}

int main(int argc, char **argv)
{
    static struct program program = {
        .server.root = -1, .grace = 5000, .idle = 60000, .receive = 10000, .write = 30000};
    struct server *server = &program.server;
    const size_t most_ms = 1000000000;
    const char *directory = NULL;
    char text[ROUTINE_ADDRESS_MAX];
    bool good = true;
    program.most = most_connections();
    for (int c; good && (c = getopt(argc, argv, "d:c:g:i:r:w:")) != -1;) {
        if (c == 'd')
            directory = optarg;
        else
            good = (c == 'c' && parse_number(optarg, 1, 1000000, &program.most)) ||
                   (c == 'g' && parse_number(optarg, 0, most_ms, &program.grace)) ||
                   (c == 'i' && parse_number(optarg, 1, most_ms, &program.idle)) ||
                   (c == 'r' && parse_number(optarg, 1, most_ms, &program.receive)) ||
                   (c == 'w' && parse_number(optarg, 1, most_ms, &program.write));
    }
    if (!good || argc - optind > 1) {
        fprintf(stderr,
                "usage: %s [options] [address]\n"
                "  address  where to listen: host:port, :port (default :8080)\n"
                "  -d DIR   serve the files below it; else there are only /, /hello and /stats\n"
                "  -c N     connections at once (default %zu)\n"
                "  -r MS    limit for receiving a request (default 10000)\n"
                "  -w MS    limit for sending 128 KiB of an answer (default 30000)\n"
                "  -i MS    limit for waiting for the next request (default 60000)\n"
                "  -g MS    grace that requests have after a signal (default 5000)\n",
                argv[0], most_connections());
        return 2;
    }
    const char *address = optind < argc ? argv[optind] : ":8080";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (directory != NULL) {
        server->root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        check(server->root < 0 ? -errno : 0, directory);
    }
    server->receive = (int64_t)program.receive * ROUTINE_MS;
    server->write = (int64_t)program.write * ROUTINE_MS;
    server->idle = (int64_t)program.idle * ROUTINE_MS;
    server->started = routine_now();
    program.signals = chan_make(int, 4);
    check(routine_signal_notify(SIGINT, program.signals), "SIGINT");
    check(routine_signal_notify(SIGTERM, program.signals), "SIGTERM");
    program.listener = routine_tcp_listen(address, 0);
    check(program.listener, address);
    check(routine_local_address(program.listener, text, sizeof text), address);
    printf("listening on %s; at most %zu connections\n", text, program.most);
    check(routine_run(run, &program, NULL), "the server");
    print_counts(server);
    chan_unref(program.signals);
    return server->accepted == server->ended ? EXIT_SUCCESS : 3;
}
