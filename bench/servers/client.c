/* SPDX-License-Identifier: MIT
 *
 * The client that measures servers: the same one for all. One thread, a bare epoll loop.
 *
 *     bench_client echo PORT [option...]   sends messages, each when the last one has come back, and compares
 *     bench_client http PORT [option...]   GET / on connections that stay
 *     bench_client idle PORT [option...]   opens connections, one message on each, then nothing
 *
 *     -c N    connections (64)
 *     -b N    bytes of a message (64)
 *     -s S    seconds to measure (2), after -w S seconds of warming up (0.3)
 *     -p PID  the server's process, whose CPU time and memory are measured
 *
 * The server is on 127.0.0.1. Prints a JSON object: what has been measured between the warming up and the
 * end; the latency of a request is from before its send to the return of the epoll_wait that tells of the
 * answer's end. A wrong or missing answer ends the program with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS    256
#define ANSWER    65536 /* the longest message or answer */
#define HEARTBEAT 5000  /* milliseconds without any answer: the server hangs */

struct connection {
    int fd;
    size_t got; /* bytes of the answer that have come */
    uint64_t number;
    int64_t sent;
};

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

static bool is_http;
static size_t bytes = 64, answer_size;
static char message[ANSWER], answer[ANSWER];

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "bench_client: %s%s%s\n", what, errno != 0 ? ": " : "",
            errno != 0 ? strerror(errno) : "");
    exit(EXIT_FAILURE);
}

static void check(int rc, const char *what)
{
    if (rc < 0)
        die(what);
}

static int64_t now(clockid_t clock)
{
    struct timespec t;
    check(clock_gettime(clock, &t), "clock_gettime");
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- Latencies: 32 classes for each power of two, so that a class is 3 % wide. ---- */

#define CLASSES 1024
static uint64_t histogram[CLASSES];

static void count_latency(int64_t ns)
{
    const uint64_t v = ns < 32 ? 32 : (uint64_t)ns;
    const unsigned power = 63 - (unsigned)__builtin_clzll(v);
    const uint64_t index = (power - 5) * 32 + (v >> (power - 5)) - 32;
    histogram[index < CLASSES ? index : CLASSES - 1]++;
}

static double percentile(uint64_t all, double part)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < CLASSES; i++) {
        below += histogram[i];
        if ((double)below >= (double)all * part)
            return (double)((32 + UINT64_C(1) * (i % 32)) << (i / 32)) / 1e3;
    }
    return 0;
}

/* ---- The server's process. ---- */

static clockid_t server_clock;
static pid_t server;

static int64_t server_cpu(void)
{
    return server != 0 ? now(server_clock) : 0;
}

/* Kilobytes that a line of a file of the server's in /proc says. */
static double server_kb(const char *file, const char *name)
{
    char path[64], line[256];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)server, file);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        die(path);
    while (fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            kb = strtod(line + strlen(name) + 1, NULL);
    fclose(in);
    return kb;
}

/* ---- Requests. ---- */

static void send_next(struct connection *c)
{
    const char *data = request;
    size_t size = sizeof request - 1;
    c->got = 0;
    c->number++;
    if (!is_http) {
        memcpy(message, &c->number, bytes < sizeof c->number ? bytes : sizeof c->number);
        data = message;
        size = bytes;
    }
    if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
        die("send");
}

/* True: the answer is complete, and right. */
static bool receive(struct connection *c)
{
    const ssize_t n = recv(c->fd, answer, sizeof answer, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0)
        die(n < 0 ? "recv" : (errno = 0, "the server has closed a connection"));
    errno = 0;
    if (c->got + (size_t)n > answer_size)
        die("more came back than was asked for");
    if (!is_http) {
        memcpy(message, &c->number, bytes < sizeof c->number ? bytes : sizeof c->number);
        if (memcmp(message + c->got, answer, (size_t)n) != 0)
            die("what came back is not what was sent");
    } else if (c->got == 0 && n >= 12 && memcmp(answer, "HTTP/1.1 200", 12) != 0) {
        die("the answer is not 200");
    }
    c->got += (size_t)n;
    return c->got == answer_size;
}

/* The size of the answers, by the first of them. */
static size_t http_answer_size(struct connection *c)
{
    size_t got = 0;
    send_next(c);
    for (;;) {
        const ssize_t n = recv(c->fd, answer + got, sizeof answer - 1 - got, 0);
        if (n <= 0)
            die("the first answer");
        got += (size_t)n;
        answer[got] = '\0';
        const char *body = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "\r\ncontent-length:");
        if (body != NULL && length == NULL)
            die("an answer without Content-Length");
        if (body == NULL || (size_t)(body - answer) + 4 + strtoul(length + 17, NULL, 10) > got)
            continue;
        return got;
    }
}

static int connect_to(uint16_t port)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    check(fd, "socket");
    check(connect(fd, (const struct sockaddr *)&to, sizeof to), "connect");
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
    return fd;
}

static void load(struct connection *all, size_t count, double warm, double seconds)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS];
    int64_t begun = 0, cpu_begun = 0, cpu_own = 0, at = now(CLOCK_MONOTONIC);
    int64_t end = at + (int64_t)(warm * 1e9);
    uint64_t requests = 0;
    check(epoll, "epoll_create1");
    for (size_t i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event), "epoll_ctl");
        all[i].sent = now(CLOCK_MONOTONIC);
        send_next(&all[i]);
    }
    for (;;) {
        const int n = epoll_wait(epoll, events, EVENTS, HEARTBEAT);
        check(n, "epoll_wait");
        if (n == 0)
            die("the server hangs");
        at = now(CLOCK_MONOTONIC);
        if (at >= end && begun == 0) {
            begun = at;
            end = at + (int64_t)(seconds * 1e9);
            cpu_begun = server_cpu();
            cpu_own = now(CLOCK_PROCESS_CPUTIME_ID);
        } else if (at >= end) {
            break;
        }
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!receive(c))
                continue;
            if (begun != 0) {
                requests++;
                count_latency(at - c->sent);
            }
            c->sent = now(CLOCK_MONOTONIC);
            send_next(c);
        }
    }
    const double wall = (double)(at - begun), cpu = (double)(server_cpu() - cpu_begun);
    const double own = (double)(now(CLOCK_PROCESS_CPUTIME_ID) - cpu_own), r = (double)requests;
    if (requests == 0)
        die("not one answer");
    printf("{\"ns_per_op\": %.1f, \"requests_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": "
           "%.1f, "
           "\"client_cpu_ns\": %.1f",
           wall / r, r / wall * 1e9, percentile(requests, 0.5), percentile(requests, 0.99),
           percentile(requests, 0.999), own / r);
    if (server != 0)
        printf(", \"cpu_ns\": %.1f, \"cpus\": %.3f", cpu / r, cpu / wall);
    printf("}\n");
}

static void idle(struct connection *all, size_t count, uint16_t port)
{
    /* what the server needs for the first ones is not theirs */
    enum { first = 64 };
    const size_t more = count > first ? count - first : 0;
    double before = 0, tables = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == first && server != 0) {
            before = server_kb("smaps_rollup", "Rss");
            tables = server_kb("status", "VmPTE");
        }
        all[i].fd = connect_to(port);
        send_next(&all[i]);
        while (all[i].got < answer_size) {
            const ssize_t n = recv(all[i].fd, answer, sizeof answer, 0);
            if (n <= 0)
                die("a first message");
            all[i].got += (size_t)n;
        }
    }
    if (server == 0 || more == 0)
        die("idle wants -p, and some connections");
    const int64_t cpu = server_cpu(), from = now(CLOCK_MONOTONIC);
    usleep(300000);
    printf("{\"connections\": %zu, \"bytes_each\": %.1f, \"page_table_bytes_each\": %.1f, \"cpus\": %.4f}\n",
           count, (server_kb("smaps_rollup", "Rss") - before) * 1024 / (double)more,
           (server_kb("status", "VmPTE") - tables) * 1024 / (double)more,
           (double)(server_cpu() - cpu) / (double)(now(CLOCK_MONOTONIC) - from));
}

int main(int argc, char **argv)
{
    size_t count = 64;
    double seconds = 2, warm = 0.3;
    for (int c; (c = getopt(argc, argv, "c:b:s:w:p:")) != -1;) {
        if (c == 'c')
            count = strtoul(optarg, NULL, 10);
        else if (c == 'b')
            bytes = strtoul(optarg, NULL, 10);
        else if (c == 's')
            seconds = strtod(optarg, NULL);
        else if (c == 'w')
            warm = strtod(optarg, NULL);
        else if (c == 'p')
            server = (pid_t)strtol(optarg, NULL, 10);
        else
            return 2;
    }
    const char *what = argc - optind == 2 ? argv[optind] : "";
    const unsigned long port = argc - optind == 2 ? strtoul(argv[optind + 1], NULL, 10) : 0;
    is_http = strcmp(what, "http") == 0;
    if ((!is_http && strcmp(what, "echo") != 0 && strcmp(what, "idle") != 0) || port < 1 || port > 65535 ||
        count < 1 || bytes < 1 || bytes > ANSWER) {
        fprintf(stderr, "usage: bench_client echo|http|idle PORT [-c CONNECTIONS] [-b BYTES] [-s SECONDS] "
                        "[-w SECONDS] [-p PID]\n");
        return 2;
    }
    if (server != 0 && clock_getcpuclockid(server, &server_clock) != 0)
        die("no such process");
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (char)('a' + i % 23);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    struct connection *all = calloc(count, sizeof *all);
    if (all == NULL)
        die("memory");
    answer_size = bytes;
    errno = 0;
    if (strcmp(what, "idle") == 0) {
        idle(all, count, (uint16_t)port);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        all[i].fd = connect_to((uint16_t)port);
    if (is_http)
        answer_size = http_answer_size(&all[0]);
    load(all, count, warm, seconds);
    return 0;
}
