/* SPDX-License-Identifier: MIT
 *
 * The servers as a bare loop, written for the purpose: level-triggered epoll, and for each event a read and a
 * write, in one thread or several. What a library does more than this is its cost.
 *
 *     bench_server_epoll echo|http PORT THREADS
 *
 * Listens on 127.0.0.1 (port 0: any), prints the port, serves until it is killed. The main thread only
 * accepts, and gives connections to the loops in turn.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hello.h"

#define EVENTS 256

struct connection {
    int fd;
    bool blank;
    size_t unsent; /* bytes of data that are still to be written: then nothing is read */
    char *data;
};

static bool is_echo;

static void check(int rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        exit(EXIT_FAILURE);
    }
}

/* 1: all written; 0: later; -1: the connection is gone. */
static int send_all(int epoll, struct connection *c, const char *data, size_t size)
{
    const ssize_t n = send(c->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == (ssize_t)size)
        return 1;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return -1;
    const size_t done = n < 0 ? 0 : (size_t)n;
    char *rest = malloc(size - done);
    if (rest == NULL)
        return -1;
    memcpy(rest, data + done, size - done);
    free(c->data);
    c->data = rest;
    c->unsent = size - done;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    return epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) < 0 ? -1 : 0;
}

static bool serve_one(int epoll, struct connection *c)
{
    if (c->unsent > 0) {
        const int rc = send_all(epoll, c, c->data, c->unsent);
        if (rc <= 0)
            return rc == 0;
        c->unsent = 0;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        return epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) == 0;
    }
    char buffer[BUFFER];
    const ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    if (is_echo)
        return send_all(epoll, c, buffer, (size_t)n) >= 0;
    const size_t count = requests_in(buffer, (size_t)n, &c->blank);
    if (count == 0)
        return true;
    if (count <= REPLIES)
        return send_all(epoll, c, replies, replies_size(count)) >= 0;
    char *all = malloc(replies_size(count)); /* no client here sends so many at once */
    if (all == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        memcpy(all + replies_size(i), replies, replies_size(1));
    const int rc = send_all(epoll, c, all, replies_size(count));
    free(all);
    return rc >= 0;
}

static void *loop(void *arg)
{
    const int epoll = (int)(intptr_t)arg;
    struct epoll_event events[EVENTS];
    for (;;) {
        const int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!serve_one(epoll, c)) {
                close(c->fd);
                free(c->data);
                free(c);
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const unsigned long port = argc == 4 ? strtoul(argv[2], NULL, 10) : 65536;
    const unsigned long threads = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    is_echo = argc == 4 && strcmp(argv[1], "echo") == 0;
    if (port > 65535 || threads < 1 || threads > 64 || (!is_echo && strcmp(argv[1], "http") != 0)) {
        fprintf(stderr, "usage: bench_server_epoll echo|http PORT THREADS\n");
        return 2;
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    check(listener, "socket");
    check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
    check(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, SOMAXCONN), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");

    int loops[64];
    for (unsigned long i = 0; i < threads; i++) {
        pthread_t thread;
        check(loops[i] = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
        check(-pthread_create(&thread, NULL, loop, (void *)(intptr_t)loops[i]), "pthread_create");
    }
    printf("%u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    for (unsigned long next = 0;; next = (next + 1) % threads) {
        struct connection *c = calloc(1, sizeof *c);
        check(c != NULL ? 0 : -1, "calloc");
        check(c->fd = accept(listener, NULL, NULL), "accept");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        check(epoll_ctl(loops[next], EPOLL_CTL_ADD, c->fd, &event), "epoll_ctl");
    }
}
