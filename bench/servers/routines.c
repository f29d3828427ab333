/* SPDX-License-Identifier: MIT
 *
 * The servers as one would write them with the library: a routine for each connection.
 *
 *     bench_server_routines echo|http PORT WORKERS [recv]
 *
 * Listens on 127.0.0.1 (port 0: any), prints the port, serves until it is killed. `recv`: by routine_recv and
 * routine_send in place of routine_read and routine_write.
 */
#include <errno.h>
#include <routines.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hello.h"

static routine_fn *connection;
static const char *port;

static void *echo(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char buffer[BUFFER];
    ssize_t n;
    while ((n = routine_read(fd, buffer, sizeof buffer)) > 0)
        if (routine_write(fd, buffer, (size_t)n) != n)
            break;
    routine_close(fd);
    return NULL;
}

static void *echo_recv(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char buffer[BUFFER];
    ssize_t n;
    while ((n = routine_recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (routine_send(fd, buffer, (size_t)n, 0) != n)
            break;
    routine_close(fd);
    return NULL;
}

static void *http(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char buffer[BUFFER];
    bool blank = false;
    ssize_t n;
    while ((n = routine_read(fd, buffer, sizeof buffer)) > 0) {
        for (size_t left = requests_in(buffer, (size_t)n, &blank); left > 0;) {
            const size_t now = left < REPLIES ? left : REPLIES;
            if (routine_write(fd, replies, replies_size(now)) != (ssize_t)replies_size(now))
                goto out;
            left -= now;
        }
    }
out:
    routine_close(fd);
    return NULL;
}

static void *serve(void *arg)
{
    (void)arg;
    char address[ROUTINE_ADDRESS_MAX];
    snprintf(address, sizeof address, "127.0.0.1:%.5s", port);
    const int listener = routine_tcp_listen(address, 0);
    int rc = listener < 0 ? listener : routine_local_address(listener, address, sizeof address);
    if (rc == 0) {
        puts(strrchr(address, ':') + 1);
        fflush(stdout);
    }
    while (rc == 0) {
        const int fd = routine_accept(listener, NULL, NULL);
        rc = fd < 0 ? fd : routine_go_detached(connection, (void *)(intptr_t)fd);
    }
    fprintf(stderr, "bench_server_routines: %s\n", strerror(-rc));
    _Exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    const bool recv = argc == 5 && strcmp(argv[4], "recv") == 0;
    const size_t workers = argc == 4 || recv ? strtoul(argv[3], NULL, 10) : 0;
    if (workers > 0 && strcmp(argv[1], "echo") == 0)
        connection = recv ? echo_recv : echo;
    if (workers > 0 && strcmp(argv[1], "http") == 0)
        connection = http;
    if (connection == NULL) {
        fprintf(stderr, "usage: bench_server_routines echo|http PORT WORKERS [recv]\n");
        return 2;
    }
    port = argv[2];
    routine_runtime_t *runtime;
    int rc = routine_runtime_new(&runtime, &(routine_runtime_config_t){.workers = workers});
    if (rc == 0)
        rc = routine_runtime_run(runtime, serve, NULL, NULL);
    fprintf(stderr, "bench_server_routines: %s\n", strerror(-rc));
    return EXIT_FAILURE;
}
