/* SPDX-License-Identifier: MIT
 *
 * http_get: fetches many pages at once over plain HTTP, and says how each of them went.
 *
 *     ./http_get -n 8 -t 5 http://example.org/ http://localhost:8080/a
 *     ./http_get <list-of-urls
 *     ./http_get -o http://localhost:8080/a >a
 *
 * Each page is a child of a limited scope: with -n children at work, starting the next one waits, so the list
 * may be as long as it likes. One routine_with_timeout is the limit for all that a page needs: its name,
 * the connection, redirects, the answer to its last byte. What a fetch has opened is given back by
 * routine_defer, in whatever way it ends.
 *
 * Understood: HTTP/1.0 and 1.1; bodies with a length, in chunks, or up to the end of the connection;
 * redirects, if they stay with http. A page counts as failed if its status is not below 400, or no answer has
 * come, or the answer is not complete.
 *
 * Exit status: 0 all pages are there; 1 some failed; 2 wrong arguments.
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define URL_SIZE      2048
#define LINE_SIZE     8192
#define HEADERS_MAX   200
#define REDIRECTS_MAX 5
#define CHUNK         16384

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "http_get: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

static const char *describe(int rc)
{
    switch (rc) {
    case -EINVAL:
        return "not an http:// URL";
    case -ENOENT:
        return "no such host";
    case -EAGAIN:
        return "the name server does not answer";
    case -ETIMEDOUT:
        return "not done in time";
    case -EBADMSG:
        return "that is no answer in HTTP";
    case -EMSGSIZE:
        return "a header is too long";
    case -ENODATA:
        return "the connection ended before the answer did";
    case -ELOOP:
        return "redirected too often";
    case -EPROTONOSUPPORT:
        return "redirected to something that is not http";
    default:
        return strerror(-rc);
    }
}

/* ---- URLs. ---- */

struct url {
    char host[256]; /* an IPv6 address stands in brackets here, as everywhere below */
    char port[6];
    char path[URL_SIZE]; /* and the query; begins with a slash */
};

/* Takes http://host[:port][/path][?query][#fragment] apart. 0 or -EINVAL. */
static int parse_url(const char *text, struct url *url)
{
    if (strncasecmp(text, "http://", 7) != 0)
        return -EINVAL;
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f) /* it must not break out of its line of the request */
            return -EINVAL;
    text += 7;
    const size_t host = *text == '[' ? strcspn(text, "]/?#") + 1 : strcspn(text, ":/?#");
    const size_t authority = strcspn(text, "/?#");
    if (host == 0 || host > authority || host >= sizeof url->host || memchr(text, '@', authority) != NULL)
        return -EINVAL;
    memcpy(url->host, text, host);
    url->host[host] = '\0';

    const char *port = text + host;
    size_t digits = authority - host;
    if (digits > 0 && *port++ != ':')
        return -EINVAL;
    digits -= digits > 0;
    if (digits >= sizeof url->port || strspn(port, "0123456789") < digits)
        return -EINVAL;
    memcpy(url->port, digits > 0 ? port : "80", digits > 0 ? digits : 2);
    url->port[digits > 0 ? digits : 2] = '\0';
    const unsigned long number = strtoul(url->port, NULL, 10);
    if (number < 1 || number > 65535)
        return -EINVAL;

    text += authority;
    const int length = (int)strcspn(text, "#");
    const int n = snprintf(url->path, sizeof url->path, "%s%.*s", *text == '/' ? "" : "/", length, text);
    return (size_t)n < sizeof url->path ? 0 : -EINVAL;
}

/* Where a redirect leads, seen from the page that it stands on. 0, -EINVAL, -EPROTONOSUPPORT. */
static int follow(const struct url *from, const char *location, struct url *to)
{
    const size_t scheme = strcspn(location, ":/?#");
    size_t keep = 0; /* so much of the old path */
    char text[URL_SIZE];
    int n;
    if (location[scheme] == ':') {
        n = snprintf(text, sizeof text, "%s", location);
        if (strncasecmp(text, "http:", 5) != 0)
            return -EPROTONOSUPPORT;
    } else if (strncmp(location, "//", 2) == 0) {
        n = snprintf(text, sizeof text, "http:%s", location);
    } else {
        const size_t path = strcspn(from->path, "?");
        if (*location == '?')
            keep = path;
        else if (*location != '/')
            for (keep = path; from->path[keep - 1] != '/';)
                keep--;
        n = snprintf(text, sizeof text, "http://%s:%s%.*s%s", from->host, from->port, (int)keep, from->path,
                     location);
    }
    return (size_t)n < sizeof text ? parse_url(text, to) : -EINVAL;
}

/* ---- One page. ---- */

struct session {
    size_t at_once;
    int64_t limit;
    bool print_body; /* to the standard output; all else then goes to the other one */
    FILE *report;
    atomic_size_t running, peak, good, failed;
    _Atomic uint64_t bytes;
};

struct page {
    struct session *session;
    char url[URL_SIZE];
    /* What came of it: */
    int status; /* 0: there was no answer */
    int redirects;
    uint64_t bytes; /* of the body */
};

struct head {
    int status;
    bool chunked;
    uint64_t length; /* UINT64_MAX: not known */
    char location[URL_SIZE];
};

/* One line without zero bytes in it: 0, or a negative errno. */
static int read_line(routine_reader_t *reader, char *line, size_t size)
{
    const ssize_t n = routine_reader_line(reader, line, size);
    if (n < 0)
        return (int)n;
    return memchr(line, '\0', (size_t)n) == NULL ? 0 : -EBADMSG;
}

static int read_number(const char *text, int base, uint64_t *number)
{
    char *end;
    const size_t digits = strspn(text, base == 10 ? "0123456789" : "0123456789abcdefABCDEF");
    if (digits == 0 || digits > 18 || (base == 16 && digits > 15)) /* more than there ever will be */
        return -EBADMSG;
    *number = strtoull(text, &end, base);
    end += strspn(end, " \t");
    return *end == '\0' || (base == 16 && *end == ';') ? 0 : -EBADMSG;
}

static int read_header(char *line, struct head *head)
{
    char *value = strchr(line, ':');
    if (value == NULL)
        return *line == ' ' || *line == '\t' ? 0 : -EBADMSG; /* a header may go on in the next line */
    *value++ = '\0';
    value += strspn(value, " \t");
    if (strcasecmp(line, "Content-Length") == 0) {
        uint64_t length;
        const int rc = read_number(value, 10, &length);
        if (rc != 0 || (head->length != UINT64_MAX && head->length != length))
            return -EBADMSG;
        head->length = length;
    } else if (strcasecmp(line, "Transfer-Encoding") == 0) {
        if (strncasecmp(value, "chunked", 7) != 0) /* we have not asked for any other */
            return -EBADMSG;
        head->chunked = true;
    } else if (strcasecmp(line, "Location") == 0) {
        const size_t size = strlen(value) + 1;
        if (size > sizeof head->location)
            return -EMSGSIZE;
        memcpy(head->location, value, size);
    }
    return 0;
}

static int read_head(routine_reader_t *reader, struct head *head)
{
    char line[LINE_SIZE];
    int rc;
    do { /* 1xx: not yet the answer */
        *head = (struct head){.length = UINT64_MAX};
        rc = read_line(reader, line, sizeof line);
        if (rc != 0)
            return rc;
        if (sscanf(line, "HTTP/1.%*1[0-9] %3d", &head->status) != 1 || head->status < 100)
            return -EBADMSG;
        for (int headers = 0; (rc = read_line(reader, line, sizeof line)) == 0 && *line != '\0';) {
            rc = ++headers <= HEADERS_MAX ? read_header(line, head) : -EMSGSIZE;
            if (rc != 0)
                return rc;
        }
    } while (rc == 0 && head->status < 200);
    return rc;
}

/* So many bytes, or with UINT64_MAX all until the end. */
static int read_body(routine_reader_t *reader, struct page *page, uint64_t left)
{
    char buffer[CHUNK];
    const bool to_the_end = left == UINT64_MAX;
    while (left > 0) {
        const ssize_t n = routine_reader_read(reader, buffer, left < CHUNK ? (size_t)left : CHUNK);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return to_the_end ? 0 : -ENODATA;
        page->bytes += (uint64_t)n;
        if (!to_the_end)
            left -= (uint64_t)n;
        if (page->session->print_body) {
            const int rc = routine_write_all(STDOUT_FILENO, buffer, (size_t)n, NULL);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

static int read_chunks(routine_reader_t *reader, struct page *page)
{
    char line[LINE_SIZE];
    uint64_t size;
    int rc;
    do {
        if ((rc = read_line(reader, line, sizeof line)) != 0 || (rc = read_number(line, 16, &size)) != 0)
            return rc;
        if (size == 0)
            break;
        if ((rc = read_body(reader, page, size)) != 0 || (rc = read_line(reader, line, sizeof line)) != 0)
            return rc;
    } while (*line == '\0');
    if (size != 0)
        return -EBADMSG; /* a chunk that is longer than it said */
    for (int trailers = 0; (rc = read_line(reader, line, sizeof line)) == 0 && *line != '\0';)
        if (++trailers > HEADERS_MAX)
            return -EMSGSIZE;
    return rc;
}

static void close_descriptor(void *fd)
{
    routine_close((int)(intptr_t)fd);
}

static void free_reader(void *reader)
{
    routine_reader_free(reader);
}

/* One request, and its answer. Of one that leads elsewhere only the head is read. */
static int ask(struct page *page, const struct url *url, struct head *head)
{
    char text[URL_SIZE + 512];
    snprintf(text, sizeof text, "%s:%s", url->host, url->port);
    const int fd = routine_tcp_dial(text);
    if (fd < 0)
        return fd;
    routine_defer(close_descriptor, (void *)(intptr_t)fd);
    routine_reader_t *reader = routine_reader_new(fd, CHUNK);
    if (reader == NULL)
        return -ENOMEM;
    routine_defer(free_reader, reader);

    const bool usual = strcmp(url->port, "80") == 0;
    const int length = snprintf(text, sizeof text,
                                "GET %s HTTP/1.1\r\n"
                                "Host: %s%s%s\r\n"
                                "User-Agent: http_get (routines)\r\n"
                                "Accept: */*\r\n"
                                "Connection: close\r\n"
                                "\r\n",
                                url->path, url->host, usual ? "" : ":", usual ? "" : url->port);
    int rc = routine_write_all(fd, text, (size_t)length, NULL);
    if (rc == 0)
        rc = read_head(reader, head);
    if (rc != 0)
        return rc;
    page->status = head->status;
    if ((head->status >= 300 && head->status < 400 && head->location[0] != '\0') || head->status == 204 ||
        head->status == 304)
        return 0;
    return head->chunked ? read_chunks(reader, page) : read_body(reader, page, head->length);
}

/* The page, by however many requests. 0 or a negative errno. */
static int fetch(struct page *page)
{
    struct url url, next;
    struct head head;
    int rc = parse_url(page->url, &url);
    routine_with_timeout(page->session->limit);
    while (rc == 0 && (rc = ask(page, &url, &head)) == 0) {
        if (head.status < 300 || head.status >= 400 || head.location[0] == '\0')
            return 0;
        if (page->redirects == REDIRECTS_MAX)
            return -ELOOP;
        page->redirects++;
        rc = follow(&url, head.location, &next);
        url = next;
    }
    return rc;
}

/* A child. It never fails, since that would cancel all others: a bad page is a result like any other. */
static int get_page(void *arg)
{
    struct page *page = arg; /* a copy of our own */
    struct session *session = page->session;
    const size_t running = atomic_fetch_add(&session->running, 1) + 1;
    size_t peak = atomic_load(&session->peak);
    while (peak < running && !atomic_compare_exchange_weak(&session->peak, &peak, running)) {
    }
    const int64_t begun = routine_now();
    const int rc = fetch(page);
    const double ms = (double)(routine_now() - begun) / (double)ROUTINE_MS;

    char status[12] = "-";
    if (page->status != 0)
        snprintf(status, sizeof status, "%d", page->status);
    char more[32] = "";
    if (page->redirects > 0)
        snprintf(more, sizeof more, " (redirects: %d)", page->redirects);
    fprintf(session->report, "%6s %12" PRIu64 " %10.1f  %s%s%s%s\n", status, page->bytes, ms, page->url, more,
            rc != 0 ? ": " : "", rc != 0 ? describe(rc) : "");
    atomic_fetch_add(rc == 0 && page->status < 400 ? &session->good : &session->failed, 1);
    atomic_fetch_add(&session->bytes, page->bytes);
    atomic_fetch_sub(&session->running, 1);
    return 0;
}

/* ---- All of them. ---- */

struct task {
    struct session session;
    char **urls; /* NULL: they are lines of the standard input */
};

static void start(struct session *session, routine_scope_t *pages, const char *url)
{
    struct page page = {.session = session};
    if ((size_t)snprintf(page.url, sizeof page.url, "%s", url) < sizeof page.url) {
        check(routine_scope_go_copy(pages, get_page, page),
              "a page"); /* waits for one of the others to end */
    } else {
        fprintf(session->report, "%6s %12d %10.1f  %.60s...: too long\n", "-", 0, 0.0, url);
        atomic_fetch_add(&session->failed, 1);
    }
}

static void *get_all(void *arg)
{
    struct task *task = arg;
    struct session *session = &task->session;
    const int64_t begun = routine_now();
    routine_scope_limited(pages, session->at_once);
    fprintf(session->report, "%6s %12s %10s  %s\n", "status", "bytes", "ms", "url");
    if (task->urls != NULL) {
        for (char **url = task->urls; *url != NULL; url++)
            start(session, &pages, *url);
    } else {
        char line[URL_SIZE + 2]; /* of one that is too long enough to see it */
        ssize_t n;
        routine_reader_t *reader = routine_reader_new(STDIN_FILENO, 0);
        check(reader != NULL ? 0 : -ENOMEM, "a reader");
        while ((n = routine_reader_line(reader, line, sizeof line)) >= 0 || n == -EMSGSIZE)
            if (n != 0)
                start(session, &pages, line);
        check(n == -ENODATA ? 0 : (int)n, "the standard input");
        routine_reader_free(reader);
    }
    int error = 0;
    check(routine_scope_join(&pages, &error), "waiting for the pages");
    check(error, error == -ENOTRECOVERABLE ? routine_panic_message() : "a page");
    fprintf(session->report, "%zu fetched, %zu failed; %" PRIu64 " bytes in %.3f s, at most %zu at once\n",
            session->good, session->failed, session->bytes,
            (double)(routine_now() - begun) / (double)ROUTINE_S, session->peak);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct task task = {.session = {.at_once = 8, .limit = 30 * ROUTINE_S}};
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "n:t:o")) != -1;) {
        char *end = "";
        if (c == 'n') {
            task.session.at_once = strtoul(optarg, &end, 10);
            good = *optarg >= '1' && *optarg <= '9' && task.session.at_once <= 100000;
        } else if (c == 't') {
            const double seconds = strtod(optarg, &end);
            good = *optarg >= '0' && *optarg <= '9' && seconds > 0 && seconds < 1e6;
            task.session.limit = good ? (int64_t)(seconds * (double)ROUTINE_S) : 0;
        } else {
            good = c == 'o';
            task.session.print_body = true;
        }
        good = good && *end == '\0';
    }
    if (!good || (task.session.print_body && optind != argc - 1)) {
        fprintf(stderr,
                "usage: %s [-n at-once] [-t seconds] [-o] [url...]\n"
                "  -n N   so many pages at once (default 8)\n"
                "  -t S   how long each may take (default 30; 0.5 is half a second)\n"
                "  -o     writes the body of the page, a single one, to the standard output\n"
                "Without a url they are read from the standard input, one a line.\n",
                argv[0]);
        return 2;
    }
    task.session.report = task.session.print_body ? stderr : stdout;
    setvbuf(stdout, NULL, _IOLBF, 0);
    task.urls = optind < argc ? argv + optind : NULL;
    check(routine_run(get_all, &task, NULL), "the run");
    return task.session.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
