/* SPDX-License-Identifier: MIT
 *
 * tls_server: a small HTTPS server; OpenSSL, with every wait left to the routines.
 *
 *     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
 *         -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
 *     ./tls_server cert.pem key.pem &
 *     curl --cacert cert.pem https://localhost:8443/
 *
 * OpenSSL never sees a descriptor. It reads and writes two memory BIOs: what a peer has sent is put into one,
 * what it wants to send is taken out of the other, by the calls of this library. So no call of OpenSSL
 * blocks, none is under way while a routine waits, and a routine may go on on another thread: the errors of
 * OpenSSL belong to a thread, and are asked for at once after the call that has failed.
 *
 * A routine for each connection, in a scope, with stacks large enough for OpenSSL. Limits of time: for the
 * handshake, for each request, and for each piece of an answer, so that nobody stays who neither asks nor
 * reads. SIGINT and SIGTERM: nothing more is accepted, what is connected has a grace, and everybody is told
 * the end (close_notify).
 *
 * Exit status: 0 after a signal; 1 an error; 2 wrong arguments.
 */
#define _GNU_SOURCE /* memmem, strcasestr */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <routines.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A handshake uses some 12 KiB of stack with OpenSSL 3.0; other versions, providers and certificates want
 * more. Only what is touched becomes memory. */
#define STACK ((size_t)320 << 10)

#define LINES_MAX 10000000

static struct {
    SSL_CTX *tls;
    int64_t limit; /* for a handshake, a request, a piece of an answer; ns */
    int64_t grace; /* after a signal */
    bool quiet;
    atomic_size_t connections, failed, requests;
} server = {.limit = 10 * ROUTINE_S, .grace = 2 * ROUTINE_S};

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "tls_server: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* ---- TLS over a descriptor. All return 0 or more, or a negative errno; -EPROTO: the text is in `why`. ----
 */

struct tls {
    SSL *ssl;
    BIO *in, *out; /* they belong to ssl */
    int fd;
    char why[128];
};

static int tls_new(struct tls *t, int fd)
{
    *t = (struct tls){
        .ssl = SSL_new(server.tls), .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem()), .fd = fd};
    if (t->ssl == NULL || t->in == NULL || t->out == NULL) {
        SSL_free(t->ssl);
        BIO_free(t->in);
        BIO_free(t->out);
        return -ENOMEM;
    }
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_accept_state(t->ssl);
    return 0;
}

/* Sends what OpenSSL has written. */
static int tls_flush(struct tls *t)
{
    char *data;
    const long size = BIO_get_mem_data(t->out, &data);
    if (size <= 0)
        return 0;
    const int rc = routine_write_all(t->fd, data, (size_t)size, NULL);
    (void)BIO_reset(t->out);
    return rc;
}

/* What to do about the result of an SSL_ function, at once after it: 0 call it again; 1 it is done; else it
 * has failed, -ENODATA by the end of what the peer has to say. */
static int tls_go_on(struct tls *t, int result)
{
    char data[4096];
    const int error = SSL_get_error(t->ssl, result);
    if (error == SSL_ERROR_SSL)
        ERR_error_string_n(ERR_get_error(), t->why, sizeof t->why);
    const int rc = tls_flush(t); /* also of an alert; from here on this may be another thread */
    if (error == SSL_ERROR_NONE)
        return rc < 0 ? rc : 1;
    if (error == SSL_ERROR_ZERO_RETURN)
        return -ENODATA;
    if (error != SSL_ERROR_WANT_READ)
        return -EPROTO;
    if (rc < 0)
        return rc;
    const ssize_t n = routine_read(t->fd, data, sizeof data);
    if (n == 0)
        snprintf(t->why, sizeof t->why, "the peer has gone");
    if (n <= 0)
        return n < 0 ? (int)n : -EPROTO;
    return BIO_write(t->in, data, (int)n) == (int)n ? 0 : -ENOMEM;
}

static int tls_handshake(struct tls *t)
{
    int rc;
    do {
        ERR_clear_error(); /* of this thread, from whomever */
        rc = tls_go_on(t, SSL_do_handshake(t->ssl));
    } while (rc == 0);
    return rc < 0 ? rc : 0;
}

/* The count, at least 1. */
static int tls_read(struct tls *t, char *buffer, size_t size)
{
    for (;;) {
        ERR_clear_error();
        const int n = SSL_read(t->ssl, buffer, (int)size);
        const int rc = tls_go_on(t, n);
        if (rc != 0)
            return rc < 0 ? rc : n;
    }
}

/* All of it. */
static int tls_write(struct tls *t, const char *data, size_t size)
{
    int rc;
    do {
        ERR_clear_error();
        rc = tls_go_on(t, SSL_write(t->ssl, data, (int)size));
    } while (rc == 0);
    return rc < 0 ? rc : 0;
}

/*
 * Says that nothing more will come, and lets the peer say the same: a socket that is closed with something
 * unread in it is reset, and what the peer has not read yet is lost to it.
 */
static void tls_close(void *arg)
{
    struct tls *t = arg;
    char rest[4096];
    routine_with_timeout(ROUTINE_S); /* a defer is called under a shield: only this limit counts */
    if (SSL_is_init_finished(t->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); /* only writes, to our BIO; after an error it does nothing */
    }
    if (tls_flush(t) == 0 && shutdown(t->fd, SHUT_WR) == 0)
        while (routine_read(t->fd, rest, sizeof rest) > 0)
            continue;
    SSL_free(t->ssl);
}

static void close_fd(void *arg)
{
    routine_close((int)(intptr_t)arg);
}

/* ---- HTTP, as little as will do. ---- */

/* N lines of 16 bytes each, in pieces of a TLS record. */
static int answer_lines(struct tls *t, unsigned long count)
{
    char piece[16384], line[32];
    for (unsigned long i = 0; i < count;) {
        size_t size = 0;
        for (; i < count && size < sizeof piece; size += 16) {
            snprintf(line, sizeof line, "%015lu\n", ++i);
            memcpy(piece + size, line, 16);
        }
        routine_with_timeout(server.limit);
        const int rc = tls_write(t, piece, size);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Answers a request without a body. 1: there may be another one; 0: that was the last. */
static int answer(struct tls *t, const char *head)
{
    char text[256], path[64] = "", method[16] = "", version, rest;
    unsigned long lines = 0;
    int rc;
    const char *status = "200 OK", *body = "";
    const bool good = sscanf(head, "%15s %63s HTTP/1.%c", method, path, &version) == 3;
    const bool stay = good && version == '1' && strcasestr(head, "\r\nConnection: close") == NULL;
    atomic_fetch_add(&server.requests, 1);
    if (!good)
        status = "400 Bad Request";
    else if (strcmp(method, "GET") != 0)
        status = "405 Method Not Allowed";
    else if (strcmp(path, "/") == 0)
        body = "Hello, world!\n";
    else if (sscanf(path, "/lines/%8lu%c", &lines, &rest) != 1 || lines > LINES_MAX)
        status = "404 Not Found", lines = 0;
    const bool keep = stay && strcmp(method, "GET") == 0; /* others could have a body */
    const int size = snprintf(
        text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s",
        status, lines != 0 ? (size_t)lines * 16 : strlen(body), keep ? "" : "Connection: close\r\n", body);
    {
        routine_with_timeout(server.limit);
        rc = tls_write(t, text, (size_t)size);
    }
    if (rc == 0)
        rc = answer_lines(t, lines);
    return rc < 0 ? rc : keep;
}

/* Reads until there is a whole head in the buffer: its size; 0 if the client says instead that there will be
 * none. */
static int read_head(struct tls *t, char *buffer, size_t size, size_t *got)
{
    const char *end;
    routine_with_timeout(server.limit);
    while ((end = memmem(buffer, *got, "\r\n\r\n", 4)) == NULL) {
        if (*got == size)
            return -EMSGSIZE;
        const int n = tls_read(t, buffer + *got, size - *got);
        if (n < 0)
            return n == -ENODATA && *got == 0 ? 0 : n;
        *got += (size_t)n;
    }
    return (int)(end + 4 - buffer);
}

static int shake_hands(struct tls *t)
{
    routine_with_timeout(server.limit);
    return tls_handshake(t);
}

/* One request after the other, until one of both ends it: 0; or a negative errno. */
static int talk(struct tls *t)
{
    char buffer[4096];
    size_t got = 0;
    int rc = shake_hands(t);
    while (rc >= 0) {
        const int head = read_head(t, buffer, sizeof buffer, &got);
        if (head <= 0)
            return head;
        buffer[head - 2] = '\0';
        rc = answer(t, buffer);
        if (rc == 0)
            return 0;
        got -= (size_t)head;
        memmove(buffer, buffer + head, got);
    }
    return rc;
}

/* A child of the scope of connections: that it fails is its own affair. */
static int connection(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char peer[ROUTINE_ADDRESS_MAX] = "?";
    struct tls t;
    routine_defer(close_fd, arg);
    atomic_fetch_add(&server.connections, 1);
    int rc = tls_new(&t, fd);
    if (rc == 0) {
        routine_defer(tls_close, &t);
        rc = talk(&t);
    }
    if (rc < 0) {
        atomic_fetch_add(&server.failed, 1);
        (void)routine_peer_address(fd, peer, sizeof peer);
        if (!server.quiet)
            fprintf(stderr, "%s: %s\n", peer, rc == -EPROTO ? t.why : strerror(-rc));
    }
    return 0;
}

/* ---- The server. ---- */

struct accepting {
    int listener;
    routine_scope_t *connections;
};

static int accept_all(void *arg)
{
    const struct accepting *a = arg;
    for (;;) {
        const int fd = routine_accept(a->listener, NULL, NULL);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            fprintf(stderr, "tls_server: accept: %s\n", strerror(-fd));
            if (routine_sleep(50 * ROUTINE_MS) < 0)
                return 0;
            continue;
        }
        if (fd < 0)
            return fd == -ECANCELED ? 0 : fd;
        if (routine_scope_go(a->connections, connection, (void *)(intptr_t)fd) < 0)
            routine_close(fd);
    }
}

static void *serve(void *arg)
{
    char address[ROUTINE_ADDRESS_MAX];
    int signo = 0, rc;
    chan_t *signals = chan_make(int, 4);
    check(signals != NULL ? 0 : -ENOMEM, "a channel");
    check(routine_signal_notify(SIGINT, signals), "SIGINT");
    check(routine_signal_notify(SIGTERM, signals), "SIGTERM");
    const int listener = routine_tcp_listen(arg, 0);
    check(listener, arg);
    check(routine_local_address(listener, address, sizeof address), "the address");
    printf("listening on %s\n", address);
    {
        routine_scope(connections);
        {
            routine_scope(accepting);
            struct accepting a = {listener, &connections};
            check(routine_scope_go(&accepting, accept_all, &a), "accepting");
            check(chan_recv(signals, &signo), "signals");
        } /* from here on nothing is accepted */
        routine_close(listener);
        routine_with_timeout(server.grace);
        rc = routine_scope_join(&connections, NULL);
        printf("signal %d: %s\n", signo, rc == 0 ? "all have ended" : "the grace is over");
    } /* who is left is cancelled, and waited for */
    chan_unref(signals);
    printf("connections: %zu, of which failed: %zu; requests: %zu\n", atomic_load(&server.connections),
           atomic_load(&server.failed), atomic_load(&server.requests));
    return NULL;
}

static bool parse_seconds(const char *text, int64_t *ns)
{
    char *end;
    const double seconds = strtod(text, &end);
    *ns = (int64_t)(seconds * 1e9);
    return *text >= '0' && *text <= '9' && *end == '\0' && seconds <= 1e6;
}

int main(int argc, char **argv)
{
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "qt:g:")) != -1;)
        good = (c == 'q' && (server.quiet = true)) || (c == 't' && parse_seconds(optarg, &server.limit)) ||
               (c == 'g' && parse_seconds(optarg, &server.grace));
    if (!good || argc - optind < 2 || argc - optind > 3) {
        fprintf(stderr,
                "usage: %s [options] CERTIFICATE.pem KEY.pem [ADDRESS]\n"
                "  ADDRESS  where to listen (default \":8443\"; port 0: any)\n"
                "  -t S     seconds for a handshake, a request, a piece of an answer (default 10)\n"
                "  -g S     grace of the connections after a signal (default 2)\n"
                "  -q       nothing about connections that fail\n"
                "GET / says hello, GET /lines/N has N lines.\n",
                argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.tls = SSL_CTX_new(TLS_server_method());
    if (server.tls == NULL || !SSL_CTX_set_min_proto_version(server.tls, TLS1_2_VERSION) ||
        SSL_CTX_use_certificate_chain_file(server.tls, argv[optind]) != 1 ||
        SSL_CTX_use_PrivateKey_file(server.tls, argv[optind + 1], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return EXIT_FAILURE;
    }
    SSL_CTX_set_mode(server.tls, SSL_MODE_RELEASE_BUFFERS); /* idle connections need little memory */
    routine_runtime_t *runtime;
    check(routine_runtime_new(&runtime, &(routine_runtime_config_t){.stack_size = STACK, .name = "tls"}),
          "a runtime");
    check(routine_runtime_run(runtime, serve, argc - optind == 3 ? argv[optind + 2] : ":8443", NULL),
          "serving");
    check(routine_runtime_shutdown(runtime, ROUTINE_SHUTDOWN_WAIT, ROUTINE_NEVER), "shutting down");
    routine_runtime_free(runtime);
    SSL_CTX_free(server.tls);
    return EXIT_SUCCESS;
}
