/* SPDX-License-Identifier: MIT
 *
 * Floor 7. TCP connections to an address, the first of several to answer (net.h; RFC 8305).
 *
 * No routine is started for it: the sockets are non-blocking, each attempt is begun by connect(2), and one
 * routine_poll waits for all that are under way, no longer than until the next is to begin. So there is
 * nothing to be cancelled and nobody to be waited for: whatever ends the wait, an answer, the limit, a
 * cancellation, an error of the wait itself, the attempts are closed before the call returns, and what is
 * not returned is open no more.
 *
 * A socket that connects to a port of its own machine where nobody listens can be given that very port, and
 * is then connected to itself. That is a refusal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "../../include/routines/net.h"
#include "../../include/routines/time.h"
#include "../os/endpoint.h"
#include "net.h"
#include "resolve.h"

#define NEXT_AFTER (250 * ROUTINE_MS)

static int new_socket(const rt_address *to)
{
    const int fd = rt_net_socket(to->any.sa_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    const int rc = rt_endpoint_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (rc == 0)
        return fd;
    routine_close(fd);
    return rc;
}

static bool is_own_peer(int fd)
{
    rt_address own, peer;
    socklen_t own_size = sizeof own, peer_size = sizeof peer;
    return rt_endpoint_name(fd, false, &own.any, &own_size) == 0 &&
           rt_endpoint_name(fd, true, &peer.any, &peer_size) == 0 && rt_address_equal(&own, &peer);
}

/* The end of an attempt, of which rc is known: the descriptor, or an error, and it is closed. */
static int decide(int fd, int rc)
{
    if (rc == 0 && is_own_peer(fd))
        rc = -ECONNREFUSED;
    if (rc == 0)
        return fd;
    routine_close(fd);
    return rc;
}

static int dial_one(const rt_address *to)
{
    const int fd = new_socket(to);
    return fd < 0 ? fd : decide(fd, routine_connect(fd, &to->any, rt_address_size(to)));
}

/* The attempts under way. */
typedef struct race {
    struct pollfd fds[RT_RESOLVE_MOST];
    int count;
    int error; /* of those that have failed */
} race;

/* Begins one. A descriptor: it is connected already; else an error, -EINPROGRESS if it is under way. */
static int begin(race *r, const rt_address *to)
{
    const int fd = new_socket(to);
    if (fd < 0)
        return fd;
    const int rc = rt_endpoint_connect(fd, &to->any, rt_address_size(to));
    if (rc != -EINPROGRESS)
        return decide(fd, rc);
    r->fds[r->count++] = (struct pollfd){.fd = fd, .events = POLLOUT};
    return rc;
}

/* After a poll: a descriptor that has connected, or -1; those that have failed are gone. */
static int look(race *r, bool *failed)
{
    int kept = 0, winner = -1;
    for (int i = 0; i < r->count; i++) {
        if (winner >= 0 || r->fds[i].revents == 0) {
            r->fds[kept++] = r->fds[i];
            continue;
        }
        const int fd = decide(r->fds[i].fd, rt_endpoint_error(r->fds[i].fd));
        if (fd >= 0) {
            winner = fd;
        } else {
            r->error = rt_net_worse(r->error, fd);
            *failed = true;
        }
    }
    r->count = kept;
    return winner;
}

/* How long a poll may wait, in its unit, rounded up. */
static int milliseconds_until(int64_t at)
{
    const int64_t rest = at - routine_now();
    return rest <= 0 ? 0 : (int)((rest + ROUTINE_MS - 1) / ROUTINE_MS);
}

static int run(race *r, const rt_resolved *list)
{
    int64_t next_at = 0;
    for (int next = 0;;) {
        while (next < list->count && (r->count == 0 || routine_now() >= next_at)) {
            const int fd = begin(r, &list->all[next++]);
            if (fd >= 0)
                return fd;
            next_at = 0; /* one that has failed: the next one at once */
            if (fd == -EINPROGRESS)
                next_at = routine_now() + NEXT_AFTER;
            else
                r->error = rt_net_worse(r->error, fd);
        }
        if (r->count == 0)
            return r->error;
        const int ms = next < list->count ? milliseconds_until(next_at) : -1;
        const int rc = routine_poll(r->fds, (unsigned long)r->count, ms);
        if (rc < 0)
            return rc;
        bool failed = false;
        const int fd = look(r, &failed);
        if (fd >= 0)
            return fd;
        if (failed)
            next_at = 0;
    }
}

int routine_tcp_dial(const char *address)
{
    rt_resolved list;
    const int rc = rt_resolve(address, SOCK_STREAM, RT_RESOLVE_TO_DIAL, &list);
    if (rc != 0)
        return rc;
    if (list.count == 1)
        return dial_one(&list.all[0]);
    race r = {.count = 0};
    const int fd = run(&r, &list);
    for (int i = 0; i < r.count; i++)
        routine_close(r.fds[i].fd);
    return fd;
}
