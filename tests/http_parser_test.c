/* SPDX-License-Identifier: MIT
 *
 * Tests of the parser of examples/http_server: what it must let through and what not; and that no input makes
 * it read outside of its data, or decide otherwise when the same bytes come in other pieces.
 *
 * Data lies between two pages that cannot be touched, at the end of its room or at its begin; and what was
 * parsed is looked at: all the texts must lie within the head. The random inputs are requests that have been
 * mutated, put together from a list of words, or plain noise. The seed is printed, and can be given by
 * ROUTINES_TEST_SEED.
 */
#include "support.h"

#include <sys/mman.h>

#include "../examples/http_server/http_parser.c"

/* ---- data with guards ---- */

#define ROOM ((size_t)128 << 10)

static char *room; /* ROOM bytes between guards */

static int make_room(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *all = mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)state;
    if (all == MAP_FAILED || mprotect(all + page, ROOM, PROT_READ | PROT_WRITE) != 0)
        return -1;
    room = all + page;
    return 0;
}

static uint64_t seed;

static size_t below(size_t n)
{
    return (size_t)(support_random(&seed) % n);
}

/* ---- heads ---- */

static bool within(struct http_text text, const char *data, int head)
{
    return text.size == 0 || (text.at >= data && text.at + text.size <= data + head);
}

static bool same(struct http_text a, struct http_text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

/* All at once, at the end of the room. */
static int parse(struct http_request *request, const char *text, size_t size)
{
    char *data = room + ROOM - size;
    memcpy(data, text, size);
    *request = (struct http_request){.line = 0};
    const int head = http_parse_head(request, data, size);
    CHECK(head <= (int)size && head <= HTTP_HEAD_MAX);
    if (head > 0) {
        CHECK(within(request->target, data, head) && request->target.size > 0);
        CHECK(within(request->host, data, head));
        CHECK(within(request->if_modified_since, data, head));
        CHECK(!request->chunked || request->length == 0);
    } else {
        CHECK(head == 0 || head == -400 || head == -414 || head == -431 || head == -501 || head == -505);
    }
    return head;
}

/* In pieces of 1 to `most` bytes; the text lies at the begin of the room. */
static void parse_in_pieces(const char *text, size_t size, size_t most)
{
    struct http_request whole, request = {.line = 0};
    const int expected = parse(&whole, text, size);
    int head = 0;
    for (size_t n = 0; head == 0 && n < size;) {
        const size_t more = 1 + below(most);
        const size_t next = n + more < size ? n + more : size;
        memcpy(room + n, text + n, next - n);
        n = next;
        head = http_parse_head(&request, room, n);
    }
    CHECK_EQ(head, expected);
    if (head != expected)
        fprintf(stderr, "%.*s\n", (int)size, text);
    if (head <= 0 || head != expected)
        return;
    /* `whole` points to the end of the room, which nothing has been written to. */
    CHECK(same(whole.target, request.target) && same(whole.host, request.host));
    CHECK(same(whole.if_modified_since, request.if_modified_since));
    CHECK(whole.length == request.length && whole.method == request.method);
    CHECK(whole.http_1_0 == request.http_1_0 && whole.keep_alive == request.keep_alive);
    CHECK(whole.chunked == request.chunked && whole.expect_other == request.expect_other);
    CHECK(whole.expect_continue == request.expect_continue);
}

/* What of it is a head, or which status it gives. */
#define ALL 1
static const struct {
    const char *text;
    int result; /* ALL: it is a head as a whole */
} heads[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ALL},
    {"GET / HTTP/1.1\nHost: a\n\n", ALL},
    {"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ALL},
    {"GET / HTTP/1.0\r\n\r\n", ALL},
    {"GET /?a=%20b#c HTTP/1.1\r\nhOsT:a\r\n\r\n", ALL},
    {"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", ALL},
    {"OPTIONS * HTTP/1.1\r\nHost: \t a \t \r\n\r\n", ALL},
    {"BREW / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \x80\xff caf\xc3\xa9\r\n\r\n", ALL},
    {"GET / HTTP/1.7\r\nHost: a\r\n\r\n", ALL},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", ALL},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", ALL},
    {"", 0},
    {"\r", 0},
    {"GET / HTTP/1.1\r\nHost: a\r\n", 0},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r", 0},
    {"GET", 0},
    {"get / HTTP/1.1\r\nHost: a\r\n\r\n", ALL}, /* some method, since they are case-sensitive */
    {"GET / HTTP/1.1\r\n\r\n", -400},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", -400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", -400},
    {"GET /\r\n\r\n", -400},
    {"GET\r\n\r\n", -400},
    {" GET / HTTP/1.1\r\n", -400},
    {" ", -400},
    {"\r\r", -400},
    {"GET  HTTP/1.1\r\n", -400},
    {"GET / /HTTP/1.1\r\n", -400},
    {"GET / a HTTP/1.1\r\n", -400},
    {"GET /\t HTTP/1.1\r\n", -400},
    {"GET /\xc3\xa9 HTTP/1.1\r\n", -400},
    {"GET / HTTP/1.1 \r\n", -400},
    {"GET / HTTP/1.\r\n", -400},
    {"GET / http/1.1\r\n", -400},
    {"GET / HTTP/11\r\n", -400},
    {"GET / HTTP/2.0\r\n", -505},
    {"GET / HTTP/0.9\r\n", -505},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -505},
    {"\x16\x03\x01\x02", -400}, /* TLS */
    {"(GET", -400},
    {"GET / HTTP/1.1\r\n Host: a\r\n", -400},
    {"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n", -400},
    {"GET / HTTP/1.1\r\nHost : a\r\n", -400},
    {"GET / HTTP/1.1\r\n: a\r\n", -400},
    {"GET / HTTP/1.1\r\nHost\r\n", -400},
    {"GET / HTTP/1.1\r\nHo\rst: a\r\n", -400},
    {"GET / HTTP/1.1\r\nX: a\rb\r\n", -400},
    {"GET / HTTP/1.1\r\nX: a\r\r\n", -400},
    {"GET / HTTP/1.1\r\nX: a\x01\r\n", -400},
    {"GET / HTTP/1.1\r\nX: a\x7f\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: -1\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: +1\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: 0x1\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length:\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: 1 1\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: 5, 5\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n", -400},
    {"GET / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n", -400},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", -400},
    {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", -400},
    {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", -400},
    {"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", -501},
    {"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", -501},
};

TEST(heads_are_taken_or_refused)
{
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct http_request request;
        const size_t size = strlen(heads[i].text);
        const int expected = heads[i].result == ALL ? (int)size : heads[i].result;
        CHECK_EQ(parse(&request, heads[i].text, size), expected);
        if (support_failures != 0) {
            fprintf(stderr, "in: %s\n", heads[i].text);
            return;
        }
        for (size_t most = 1; most <= 8; most++)
            parse_in_pieces(heads[i].text, size, most);
    }
    struct http_request request;
    static const char zero[] = "GET /a\0b HTTP/1.1\r\n\r\n";
    CHECK_EQ(parse(&request, zero, sizeof zero - 1), -400);
    static const char zero_value[] = "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n";
    CHECK_EQ(parse(&request, zero_value, sizeof zero_value - 1), -400);
}

TEST(what_a_head_says)
{
    static const char full[] =
        "HEAD /a?b HTTP/1.1\r\nHost: example.org:80\r\nIf-Modified-Since:  then \r\n"
        "Expect: 100-Continue\r\nContent-Length: 0123\r\nConnection: x, Keep-Alive ,,close\r\n\r\nrest";
    struct http_request r;
    CHECK_EQ(parse(&r, full, sizeof full - 1), sizeof full - 1 - 4);
    CHECK(r.method == HTTP_HEAD && r.length == 123 && !r.keep_alive && r.expect_continue && !r.expect_other);
    CHECK(equals(r.target, "/a?b") && equals(r.host, "example.org:80") &&
          equals(r.if_modified_since, "then"));

    static const struct {
        const char *text;
        enum http_method method;
        bool keep_alive, expect_continue, expect_other;
    } some[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GET, true, false, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", HTTP_GET, false, false, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", HTTP_GET, true, false, false},
        {"GET / HTTP/1.0\r\n\r\n", HTTP_GET, false, false, false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", HTTP_GET, true, false, false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", HTTP_GET, false, false,
         false},
        {"PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", HTTP_OTHER, false, false, false},
        {"POST / HTTP/1.1\r\nHost: a\r\nExpect: money\r\n\r\n", HTTP_OTHER, true, false, true},
        {"get / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_UNKNOWN, true, false, false},
        {"GETS / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_UNKNOWN, true, false, false},
    };
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        CHECK_EQ(parse(&r, some[i].text, strlen(some[i].text)), strlen(some[i].text));
        CHECK_EQ(r.method, some[i].method);
        CHECK_EQ(r.keep_alive, some[i].keep_alive);
        CHECK_EQ(r.expect_continue, some[i].expect_continue);
        CHECK_EQ(r.expect_other, some[i].expect_other);
    }
}

/* One more than is allowed, of everything; and exactly what is allowed. */
TEST(limits_of_a_head)
{
    static char text[2 * HTTP_HEAD_MAX];
    struct http_request r;
    for (int more = 0; more <= 1; more++) {
        const size_t target = HTTP_TARGET_MAX - 1 - 14 + (size_t)more; /* the line has 14 bytes besides it */
        size_t n = (size_t)sprintf(text, "GET /%0*d HTTP/1.1\r\n", (int)target - 1, 0);
        n += (size_t)sprintf(text + n, "Host: a\r\n\r\n");
        CHECK_EQ(parse(&r, text, n), more ? -414 : (int)n);
        parse_in_pieces(text, n, 100);

        n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 1; i < HTTP_FIELDS_MAX + more; i++)
            n += (size_t)sprintf(text + n, "X: %d\r\n", i);
        n += (size_t)sprintf(text + n, "\r\n");
        CHECK_EQ(parse(&r, text, n), more ? -431 : (int)n);
        parse_in_pieces(text, n, 100);

        n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
        const size_t fill = HTTP_HEAD_MAX - 4 - n + (size_t)more;
        n += (size_t)sprintf(text + n, "%0*d\r\n\r\n", (int)fill, 0);
        CHECK_EQ(parse(&r, text, n), more ? -431 : (int)n);
        parse_in_pieces(text, n, 100);
    }
    memset(text, 'A', sizeof text);
    CHECK_EQ(parse(&r, text, HTTP_TARGET_MAX - 1), 0);
    CHECK_EQ(parse(&r, text, HTTP_TARGET_MAX), -414);
    memset(text, '\n', sizeof text);
    CHECK_EQ(parse(&r, text, HTTP_TARGET_MAX - 1), 0);
    CHECK_EQ(parse(&r, text, HTTP_TARGET_MAX), -414);
    parse_in_pieces(text, sizeof text, 100);
    for (size_t i = HTTP_TARGET_MAX - 20; i < HTTP_TARGET_MAX + 5; i++) { /* two things wrong at once */
        memset(text, '\n', sizeof text);
        memset(text + i - 12, 'A', 12);
        text[i] = '(';
        for (int k = 0; k < 20; k++)
            parse_in_pieces(text, i + 1 + below(20), 1 + below(30));
    }
}

/* ---- random input ---- */

static const char *const words[] = {
    "GET",
    " ",
    "/",
    "HTTP/1.1",
    "HTTP/1.0",
    "\r\n",
    "\n",
    "\r\n\r\n",
    "Host",
    ":",
    ": ",
    "a",
    "Content-Length",
    "5",
    "Transfer-Encoding",
    "chunked",
    "Connection",
    "close",
    "Expect",
    "100-continue",
    "HEAD",
    "POST",
    "%2e%2e",
    "..",
    ";x=y",
    "0",
    "ff",
    "\t",
    ",",
    "\r",
    "GET / HTTP/1.1\r\n",
    "Host: a\r\n",
    "If-Modified-Since",
    "http://a/",
    "keep-alive",
    "?",
    "\xff",
    "\x01",
};

/* Good ones stand at the begin of the list. */
static const char *some_head(void)
{
    return heads[below(below(2) == 0 ? 11 : COUNT_OF(heads))].text;
}

static size_t random_text(char *text, size_t size)
{
    size_t n = 0;
    switch (below(4)) {
    case 0: { /* mutated */
        const char *from = some_head();
        n = strlen(from);
        memcpy(text, from, n);
        for (size_t k = below(4) + 1; k > 0 && n > 0; k--) {
            const size_t i = below(n), kind = below(4);
            if (kind == 0) {
                text[i] = (char)below(256);
            } else if (kind == 1) {
                memmove(text + i, text + i + 1, n - i - 1);
                n--;
            } else if (kind == 2) {
                memmove(text + i + 1, text + i, n - i);
                n++;
            } else {
                text[i] = (char)(text[i] ^ 1 << below(8));
            }
        }
        break;
    }
    case 1: /* cut off, or with something behind it */
        for (size_t k = below(4); k > 0; k--) {
            const char *from = some_head();
            const size_t length = below(4) > 0 ? strlen(from) : below(strlen(from) + 1);
            memcpy(text + n, from, length);
            n += length;
        }
        break;
    case 2: /* put together */
        for (size_t k = below(40); k > 0; k--) {
            const char *from = words[below(COUNT_OF(words))];
            for (size_t again = below(200) == 0 ? below(2000) : 1; again > 0 && n + 32 < size; again--) {
                memcpy(text + n, from, strlen(from));
                n += strlen(from);
            }
        }
        break;
    default: /* noise */
        n = below(300);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)below(256);
        break;
    }
    return n;
}

static long rounds(void)
{
    return support_slow() ? 20000 : 100000;
}

TEST(random_heads)
{
    static char text[48 << 10];
    long taken = 0;
    for (long i = 0; i < rounds() && support_failures == 0; i++) {
        struct http_request request;
        char path[64];
        const size_t n = random_text(text, sizeof text);
        parse_in_pieces(text, n, 1 + below(40));
        if (parse(&request, text, n) > 0) {
            taken++;
            const ptrdiff_t length = http_path(request.target, path, sizeof path - 1);
            CHECK(length == -400 || length == -414 || (length > 0 && (size_t)length < sizeof path));
            CHECK(length < 0 || (path[0] == '/' && strlen(path) == (size_t)length));
            CHECK(length < 0 || (strstr(path, "/../") == NULL && strstr(path, "//") == NULL));
        }
        parse(&request, text, below(n + 1));
    }
    CHECK(taken > rounds() / 20 && taken < rounds() / 2);
}

/* ---- chunks ---- */

static ptrdiff_t chunks_in_pieces(const char *text, size_t size, size_t most, struct http_chunks *chunks,
                                  bool *end)
{
    ptrdiff_t all = 0;
    *chunks = (struct http_chunks){.state = 0};
    *end = false;
    for (size_t n = 0; n < size && !*end;) {
        const size_t more = 1 + below(most), piece = more < size - n ? more : size - n;
        char *data = room + ROOM - piece;
        memcpy(data, text + n, piece);
        const ptrdiff_t taken = http_parse_chunks(chunks, data, piece, end);
        if (taken < 0)
            return taken;
        CHECK(taken <= (ptrdiff_t)piece && (*end || taken == (ptrdiff_t)piece));
        all += taken;
        n += piece;
    }
    return all;
}

TEST(chunks_are_taken_or_refused)
{
    static const struct {
        const char *text;
        ptrdiff_t taken;
        uint64_t total;
        bool end;
    } table[] = {
        {"0\r\n\r\n", 5, 0, true},
        {"0\n\nrest", 3, 0, true},
        {"5\r\nhello\r\n0\r\n\r\nGET", 15, 5, true},
        {"05;a=\"b\"\r\nhello\r\n00\r\nA: b\r\nC: d\r\n\r\n!", 35, 5, true},
        {"a \r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", 36, 20, true},
        {"5\r\nhel", 6, 5, false},
        {"5\r\nhello", 8, 5, false},
        {"", 0, 0, false},
        {"\r\n", -400, 0, false},
        {"x\r\n", -400, 0, false},
        {"-1\r\n", -400, 0, false},
        {"5\rhello", -400, 0, false},
        {"5\r\nhello!", -400, 0, false},
        {"5\r\nhello\r\r", -400, 0, false},
        {"5;\x01\r\n", -400, 0, false},
        {"ffffffffffffffffff\r\n", -400, 0, false},
        {"0\r\n\rA", -400, 0, false},
        {"0\r\nA\r\r\n", -400, 0, false},
        {"0\r\n\x02", -400, 0, false},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        for (size_t most = 1; most < 40; most++) {
            struct http_chunks chunks;
            bool end;
            CHECK_EQ(chunks_in_pieces(table[i].text, strlen(table[i].text), most, &chunks, &end),
                     table[i].taken);
            CHECK_EQ(end, table[i].end);
            if (table[i].taken >= 0)
                CHECK_EQ(chunks.total, table[i].total);
            if (support_failures != 0) {
                fprintf(stderr, "in: %s\n", table[i].text);
                return;
            }
        }
}

TEST(limits_of_chunks)
{
    static char text[3 * 4096 + 64];
    for (int more = 0; more <= 1; more++) {
        struct http_chunks chunks;
        bool end;
        int n = sprintf(text, "1;%0*d\r\nx\r\n", 4096 - 6 + more, 0);
        CHECK_EQ(chunks_in_pieces(text, (size_t)n, 500, &chunks, &end), more ? -400 : n);
        n = sprintf(text, "1\r\nx\r\n1;%0*d\r\nx\r\n0\r\nA: %0*d\r\n\r\n", 4096 - 6 + more, 0, 1000, 0);
        CHECK_EQ(chunks_in_pieces(text, (size_t)n, 500, &chunks, &end), more ? -400 : n);
        n = sprintf(text, "1\r\nx\r\n0\r\nA: %0*d\r\nB: %0*d\r\n\r\n", 1000, 0, 4096 - 1000 - 15 + more, 0);
        CHECK_EQ(chunks_in_pieces(text, (size_t)n, 500, &chunks, &end), more ? -400 : n);
    }
}

TEST(random_chunks)
{
    static char text[48 << 10];
    for (long i = 0; i < rounds() / 4 && support_failures == 0; i++) {
        struct http_chunks chunks;
        bool end;
        size_t n = 0, total = 0;
        for (size_t k = below(5); k > 0; k--) { /* right ones */
            const size_t size = 1 + below(3000);
            n += (size_t)sprintf(text + n, "%zx%s\r\n", size, below(3) == 0 ? ";ext" : "");
            memset(text + n, 'x', size);
            n += size;
            n += (size_t)sprintf(text + n, "\r\n");
            total += size;
        }
        n += (size_t)sprintf(text + n, "0\r\n%s\r\n", below(3) == 0 ? "Trailer: y\r\n" : "");
        const size_t body = n;
        n += (size_t)sprintf(text + n, "GET / HTTP/1.1\r\n");
        CHECK_EQ(chunks_in_pieces(text, n, 1 + below(4000), &chunks, &end), body);
        CHECK(end && chunks.total == total);

        text[below(body)] = (char)below(256); /* a wrong one: in all pieces the same */
        struct http_chunks again;
        bool end_again;
        const ptrdiff_t taken = chunks_in_pieces(text, n, 1 + below(4000), &chunks, &end);
        CHECK_EQ(chunks_in_pieces(text, n, 1 + below(10), &again, &end_again), taken);
        CHECK(end == end_again && (taken < 0 || chunks.total == again.total));
    }
}

/* ---- paths ---- */

TEST(paths)
{
    static const struct {
        const char *target, *path; /* NULL: -400 */
    } table[] = {
        {"/", "/"},
        {"/a/b.c", "/a/b.c"},
        {"/a/", "/a/"},
        {"/a?/../b", "/a"},
        {"/a#../b", "/a"},
        {"/%41%2Eb%20c", "/A.b c"},
        {"/...", "/..."},
        {"/..a/b..", "/..a/b.."},
        {"http://host/a", "/a"},
        {"HTTP://host", "/"},
        {"http://host?/x", "/"},
        {"", NULL},
        {"*", NULL},
        {"a", NULL},
        {"?", NULL},
        {"//", NULL},
        {"/a//b", NULL},
        {"/..", NULL},
        {"/../a", NULL},
        {"/a/..", NULL},
        {"/a/../b", NULL},
        {"/./a", NULL},
        {"/a/.", NULL},
        {"/%2e%2e/a", NULL},
        {"/.%2E", NULL},
        {"/a%2f..%2fb", NULL},
        {"/a%00", NULL},
        {"/a%", NULL},
        {"/a%4", NULL},
        {"/a%4g", NULL},
        {"http://host/../a", NULL},
        {"https://host/", NULL},
    };
    char path[16];
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        const size_t size = strlen(table[i].target);
        char *data = room + ROOM - size;
        memcpy(data, table[i].target, size);
        const ptrdiff_t length = http_path((struct http_text){data, size}, path, sizeof path - 1);
        CHECK_EQ(length, table[i].path != NULL ? (ptrdiff_t)strlen(table[i].path) : -400);
        CHECK(length < 0 || table[i].path == NULL || strcmp(path, table[i].path) == 0);
        if (support_failures != 0)
            fprintf(stderr, "in: %s\n", table[i].target);
    }
    CHECK_EQ(http_path((struct http_text){"/23456789012345", 15}, path, sizeof path - 1), 15);
    CHECK_EQ(http_path((struct http_text){"/234567890123456", 16}, path, sizeof path - 1), -414);
}

int main(void)
{
    SUPPORT_NO_CASES();
    const char *given = getenv("ROUTINES_TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)routine_now();
    seed += seed == 0;
    fprintf(stderr, "ROUTINES_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_taken_or_refused),
        cmocka_unit_test(what_a_head_says),
        cmocka_unit_test(limits_of_a_head),
        cmocka_unit_test(random_heads),
        cmocka_unit_test(chunks_are_taken_or_refused),
        cmocka_unit_test(random_chunks),
        cmocka_unit_test(limits_of_chunks),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests_name("http_parser", tests, make_room, NULL);
}
