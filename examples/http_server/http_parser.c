/* SPDX-License-Identifier: MIT
 *
 * The parser of requests: a line at a time. See http_parser.h.
 */
#include "http_parser.h"

#include <string.h>
#include <strings.h>

/* ---- characters ---- */

enum {
    TOKEN = 1, /* of names: methods, fields */
    SEEN = 2,  /* visible ASCII */
    VALUE = 4, /* may be in the value of a field */
    DIGIT = 8,
    HEX = 16
};

static const unsigned char kinds[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | SEEN | VALUE,
    ['"'] = SEEN | VALUE,
    ['#' ... '\''] = TOKEN | SEEN | VALUE,
    ['(' ... ')'] = SEEN | VALUE,
    ['*' ... '+'] = TOKEN | SEEN | VALUE,
    [','] = SEEN | VALUE,
    ['-' ... '.'] = TOKEN | SEEN | VALUE,
    ['/'] = SEEN | VALUE,
    ['0' ... '9'] = TOKEN | SEEN | VALUE | HEX | DIGIT,
    [':' ... '@'] = SEEN | VALUE,
    ['A' ... 'F'] = TOKEN | SEEN | VALUE | HEX,
    ['G' ... 'Z'] = TOKEN | SEEN | VALUE,
    ['[' ... ']'] = SEEN | VALUE,
    ['^' ... '`'] = TOKEN | SEEN | VALUE,
    ['a' ... 'f'] = TOKEN | SEEN | VALUE | HEX,
    ['g' ... 'z'] = TOKEN | SEEN | VALUE,
    ['{'] = SEEN | VALUE,
    ['|'] = TOKEN | SEEN | VALUE,
    ['}'] = SEEN | VALUE,
    ['~'] = TOKEN | SEEN | VALUE,
    [0x80 ... 0xFF] = VALUE,
};

static bool is(char c, unsigned kind)
{
    return (kinds[(unsigned char)c] & kind) != 0;
}

static bool all_are(const char *at, size_t size, unsigned kind)
{
    bool good = true;
    for (size_t i = 0; i < size; i++)
        good &= is(at[i], kind);
    return good;
}

static bool equals(struct http_text text, const char *word)
{
    return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

static struct http_text trimmed(struct http_text text)
{
    while (text.size > 0 && (*text.at == ' ' || *text.at == '\t'))
        text.at++, text.size--;
    while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Takes the first element of a list with commas. */
static bool next_element(struct http_text *list, struct http_text *element)
{
    while (list->size > 0) {
        const char *comma = memchr(list->at, ',', list->size);
        *element = *list;
        if (comma != NULL) {
            element->size = (size_t)(comma - list->at);
            list->at = comma + 1;
            list->size -= element->size + 1;
        } else {
            list->size = 0;
        }
        *element = trimmed(*element);
        if (element->size > 0)
            return true;
    }
    return false;
}

/* ---- the first line ---- */

static enum http_method method_of(struct http_text text)
{
    static const char *const others[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
    if (text.size == 3 && memcmp(text.at, "GET", 3) == 0)
        return HTTP_GET;
    if (text.size == 4 && memcmp(text.at, "HEAD", 4) == 0)
        return HTTP_HEAD;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (text.size == strlen(others[i]) && memcmp(text.at, others[i], text.size) == 0)
            return HTTP_OTHER;
    return HTTP_UNKNOWN;
}

/* "GET /path HTTP/1.1" */
static int parse_first(struct http_request *request, struct http_text line)
{
    static const size_t version = 8; /* bytes of "HTTP/1.1" */
    const char *space = memchr(line.at, ' ', line.size);
    if (space == NULL || space == line.at)
        return -400;
    const struct http_text method = {line.at, (size_t)(space - line.at)};
    const char *target = space + 1, *end = line.at + line.size;
    if ((size_t)(end - target) < 2 + version)
        return -400;
    const char *last = end - version;
    if (memcmp(last, "HTTP/", 5) != 0 || !is(last[5], DIGIT) || last[6] != '.' || !is(last[7], DIGIT) ||
        last[-1] != ' ' || !all_are(method.at, method.size, TOKEN) ||
        !all_are(target, (size_t)(last - 1 - target), SEEN))
        return -400;
    if (last[5] != '1')
        return -505;
    request->http_1_0 = last[7] == '0';
    request->method = method_of(method);
    request->target = (struct http_text){target, (size_t)(last - 1 - target)};
    return 0;
}

/* ---- fields ---- */

static int parse_length(struct http_request *request, struct http_text value)
{
    uint64_t length = 0;
    if (value.size == 0 || value.size > 18 || !all_are(value.at, value.size, DIGIT))
        return -400;
    for (size_t i = 0; i < value.size; i++)
        length = length * 10 + (uint64_t)(value.at[i] - '0');
    if (request->has_length && request->length != length)
        return -400;
    request->length = length;
    request->has_length = true;
    return 0;
}

static int parse_coding(struct http_request *request, struct http_text value)
{
    if (request->has_coding || request->http_1_0)
        return -400;
    request->has_coding = true;
    request->chunked = equals(value, "chunked");
    return request->chunked ? 0 : -501;
}

static int parse_field(struct http_request *request, struct http_text line)
{
    struct http_text name = {line.at, 0}, value, element;
    while (name.size < line.size && is(line.at[name.size], TOKEN))
        name.size++;
    if (name.size == 0 || name.size == line.size || line.at[name.size] != ':')
        return -400;
    value = trimmed((struct http_text){line.at + name.size + 1, line.size - name.size - 1});
    if (!all_are(value.at, value.size, VALUE))
        return -400;
    switch (name.size) { /* few names need to be compared */
    case 4:
        if (equals(name, "host")) {
            if (request->has_host || !all_are(value.at, value.size, SEEN))
                return -400;
            request->has_host = true;
            request->host = value;
        }
        break;
    case 6:
        if (equals(name, "expect")) {
            request->expect_continue |= equals(value, "100-continue");
            request->expect_other |= !equals(value, "100-continue");
        }
        break;
    case 10:
        if (equals(name, "connection"))
            while (next_element(&value, &element)) {
                request->says_close |= equals(element, "close");
                request->says_keep_alive |= equals(element, "keep-alive");
            }
        break;
    case 14:
        if (equals(name, "content-length"))
            return parse_length(request, value);
        break;
    case 17:
        if (equals(name, "transfer-encoding"))
            return parse_coding(request, value);
        if (equals(name, "if-modified-since"))
            request->if_modified_since = value;
        break;
    default:
        break;
    }
    return 0;
}

/* ---- the head ---- */

/* Behind the empty line. */
static int finish(struct http_request *request)
{
    if (!request->has_host && !request->http_1_0)
        return -400;
    if (request->has_coding && request->has_length)
        return -400; /* two opinions about where the body ends, as request smugglers like it */
    request->expect_continue &= !request->http_1_0;
    request->keep_alive = !request->says_close && (!request->http_1_0 || request->says_keep_alive);
    return 0;
}

/* What does not begin with a method never becomes a request: that is found out before the first line, which
 * may never end, is complete. */
static bool may_become_a_request(const char *at, size_t size)
{
    if (size > 0 && (at[0] == '\n' || at[0] == '\r'))
        return at[0] == '\n' || size == 1 || at[1] == '\n';
    for (size_t i = 0; i < size && i < 16; i++) {
        if (at[i] == ' ')
            return i > 0;
        if (!is(at[i], TOKEN))
            return false;
    }
    return true;
}

int http_parse_head(struct http_request *request, const char *data, size_t size)
{
    for (;;) {
        const char *end = NULL;
        if (!request->started && request->line < HTTP_TARGET_MAX) {
            const size_t most = size < HTTP_TARGET_MAX ? size : HTTP_TARGET_MAX;
            if (!may_become_a_request(data + request->line, most - request->line))
                return -400;
        }
        if (size > request->seen)
            end = memchr(data + request->seen, '\n', size - request->seen);
        const size_t at = end != NULL ? (size_t)(end - data) : size;
        if (at >= HTTP_HEAD_MAX || (!request->started && at >= HTTP_TARGET_MAX))
            return request->started ? -431 : -414;
        request->seen = at;
        if (end == NULL)
            return 0;
        struct http_text line = {data + request->line, at - request->line};
        if (line.size > 0 && line.at[line.size - 1] == '\r')
            line.size--;
        request->seen = request->line = at + 1;
        int rc = 0;
        if (!request->started) {
            if (line.size == 0)
                continue; /* empty lines before a request are put up with */
            request->started = true;
            rc = parse_first(request, line);
        } else if (line.size > 0) {
            rc = request->fields++ < HTTP_FIELDS_MAX ? parse_field(request, line) : -431;
        } else {
            rc = finish(request);
            return rc != 0 ? rc : (int)(at + 1);
        }
        if (rc != 0)
            return rc;
    }
}

/* ---- chunks ---- */

enum {
    SIZE_BEGINS, /* zero: so it begins */
    SIZE,
    EXTENSION,
    SIZE_LF, /* behind the CR of that line */
    DATA,
    DATA_END, /* CR LF or LF */
    DATA_LF,
    TRAILER, /* at the begin of a line of it */
    TRAILER_LINE,
    TRAILER_LINE_LF,
    LAST_LF
};

#define EXTRA_MAX 4096 /* bytes of what is no data, from one chunk to the next, or to the end */

static int hex(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Behind the line with the size. */
static int begin_data(struct http_chunks *chunks)
{
    if (chunks->left == 0)
        return TRAILER;
    if (chunks->total + chunks->left < chunks->total)
        return -400;
    chunks->total += chunks->left;
    return DATA;
}

/* One byte, not of the data. The next state, or -400. */
static int next_state(struct http_chunks *chunks, char c, bool *end)
{
    switch (chunks->state) {
    case SIZE_BEGINS:
        if (!is(c, HEX))
            return -400;
        /* fall through */
    case SIZE:
        if (is(c, HEX)) {
            chunks->left = chunks->left * 16 + (uint64_t)hex(c);
            return chunks->left > UINT64_MAX >> 8 ? -400 : SIZE;
        }
        if (c != ';' && c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return -400;
        /* fall through */
    case EXTENSION:
        return c == '\n' ? begin_data(chunks) : c == '\r' ? SIZE_LF : is(c, VALUE) ? EXTENSION : -400;
    case SIZE_LF:
        return c == '\n' ? begin_data(chunks) : -400;
    case DATA_END:
        if (c == '\r')
            return DATA_LF;
        /* fall through */
    case DATA_LF:
        chunks->extra = 0;
        return c == '\n' ? SIZE_BEGINS : -400;
    case TRAILER:
        *end = c == '\n';
        return c == '\n' ? SIZE_BEGINS : c == '\r' ? LAST_LF : is(c, VALUE) ? TRAILER_LINE : -400;
    case TRAILER_LINE:
        return c == '\n' ? TRAILER : c == '\r' ? TRAILER_LINE_LF : is(c, VALUE) ? TRAILER_LINE : -400;
    case TRAILER_LINE_LF:
        return c == '\n' ? TRAILER : -400;
    default: /* LAST_LF */
        *end = c == '\n';
        return c == '\n' ? SIZE_BEGINS : -400;
    }
}

ptrdiff_t http_parse_chunks(struct http_chunks *chunks, const char *data, size_t size, bool *end)
{
    size_t i = 0;
    *end = false;
    while (i < size && !*end) {
        if (chunks->state == DATA) {
            const uint64_t n = chunks->left < size - i ? chunks->left : size - i;
            chunks->left -= n;
            i += (size_t)n;
            if (chunks->left == 0)
                chunks->state = DATA_END;
            continue;
        }
        const int next = ++chunks->extra <= EXTRA_MAX ? next_state(chunks, data[i], end) : -400;
        if (next < 0)
            return next;
        chunks->state = (unsigned)next;
        i++;
    }
    return (ptrdiff_t)i;
}

/* ---- paths ---- */

ptrdiff_t http_path(struct http_text target, char *path, size_t size)
{
    const char *at = target.at, *end = at + target.size;
    size_t length = 0;
    if (target.size > 7 && strncasecmp(at, "http://", 7) == 0) { /* as it is sent to proxies */
        for (at += 7; at < end && *at != '/' && *at != '?' && *at != '#'; at++)
            ;
        if (at == end || *at != '/')
            at = "/", end = at + 1; /* "http://host" */
    }
    if (at == end || *at != '/')
        return -400;
    for (; at < end && *at != '?' && *at != '#'; at++) {
        char c = *at;
        if (c == '%') {
            if (end - at < 3 || !is(at[1], HEX) || !is(at[2], HEX))
                return -400;
            c = (char)(hex(at[1]) << 4 | hex(at[2]));
            at += 2;
            if (c == '\0' || c == '/') /* a slash in a name is none that separates: and no file has one */
                return -400;
        }
        if (length == size)
            return -414;
        path[length++] = c;
    }
    path[length] = '\0';
    for (const char *segment = path + 1;;) {
        const size_t n = strcspn(segment, "/");
        if ((n == 0 && segment[n] == '/') || (n == 1 && segment[0] == '.') ||
            (n == 2 && segment[0] == '.' && segment[1] == '.'))
            return -400;
        if (segment[n] == '\0')
            return (ptrdiff_t)length;
        segment += n + 1;
    }
}
