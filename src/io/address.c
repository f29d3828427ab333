/* SPDX-License-Identifier: MIT
 *
 * Floor 7. See address.h.
 *
 * Written out instead of left to getaddrinfo(): that one takes " 80", "+80" and "65616" for ports, and a
 * numeric address must not go to the pool of names.
 */
#define _GNU_SOURCE
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "../os/endpoint.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A number of digits alone, up to `most`; -1 if it is none. */
static int64_t number_of(const char *text, size_t size, uint32_t most)
{
    uint64_t value = 0;
    if (size == 0)
        return -1;
    for (size_t i = 0; i < size; i++) {
        if (!is_digit(text[i]))
            return -1;
        value = value * 10 + (unsigned)(text[i] - '0');
        if (value > most)
            return -1;
    }
    return (int64_t)value;
}

/* Letters, digits and few others, at least one a letter: what the lists of services contain. */
static bool is_service(const char *text, size_t size)
{
    bool letter = false;
    for (size_t i = 0; i < size; i++) {
        letter |= is_letter(text[i]);
        if (!is_letter(text[i]) && !is_digit(text[i]) && !strchr("-_.+*/", text[i]))
            return false;
    }
    return letter;
}

static int parse_port(const char *text, size_t size, rt_target *target)
{
    target->port = (int)number_of(text, size, UINT16_MAX);
    if (target->port >= 0)
        return 0;
    if (size > RT_ADDRESS_SERVICE || !is_service(text, size))
        return -EINVAL;
    memcpy(target->service, text, size);
    target->service[size] = 0;
    return 0;
}

static int parse_zone(const char *zone, uint32_t *scope)
{
    const size_t size = strlen(zone);
    const int64_t number = number_of(zone, size, UINT32_MAX);
    if (size == 0 || size >= RT_ENDPOINT_ZONE || number == 0)
        return -EINVAL;
    if (number < 0)
        return rt_endpoint_zone(zone, scope);
    *scope = (uint32_t)number;
    return 0;
}

/* ::ffff:1.2.3.4 becomes 1.2.3.4 */
static rt_address unmapped(const struct sockaddr_in6 *v6)
{
    rt_address address = {.v6 = *v6};
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = v6->sin6_port};
        memcpy(&v4.sin_addr, &v6->sin6_addr.s6_addr[12], sizeof v4.sin_addr);
        address = (rt_address){.v4 = v4};
    }
    return address;
}

/* What stands in brackets. */
static int parse_v6(char *host, rt_target *target)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char *percent = strchr(host, '%');
    if (percent)
        *percent = 0;
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
        return -EINVAL;
    if (percent) {
        const int rc = parse_zone(percent + 1, &v6.sin6_scope_id);
        if (rc != 0)
            return rc;
    }
    target->kind = RT_TARGET_NUMERIC;
    target->address = unmapped(&v6);
    return 0;
}

/* No control characters, no spaces, nothing that means something else in an address. Bytes of other
 * alphabets are the resolver's affair. */
static bool is_host(const char *host)
{
    for (const char *c = host; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 127 || strchr("[]%/:", *c))
            return false;
    return true;
}

static int parse_host(rt_target *target)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    if (target->host[0] == 0) {
        target->kind = RT_TARGET_ANY;
        return 0;
    }
    if (inet_pton(AF_INET, target->host, &v4.sin_addr) == 1) {
        target->kind = RT_TARGET_NUMERIC;
        target->address.v4 = v4;
        return 0;
    }
    target->kind = RT_TARGET_NAME;
    return is_host(target->host) ? 0 : -EINVAL;
}

int rt_address_parse(const char *text, rt_target *target)
{
    memset(target, 0, sizeof *target);
    if (!text)
        return -EINVAL;
    const size_t most = RT_ADDRESS_HOST + RT_ADDRESS_SERVICE + 3; /* "[]:" */
    const size_t size = strnlen(text, most + 1);
    const char *colon = memrchr(text, ':', size);
    if (!colon || size > most)
        return -EINVAL;
    const char *host = text;
    size_t length = (size_t)(colon - text);
    const bool brackets = length > 0 && text[0] == '[';
    if (brackets) {
        if (length < 2 || colon[-1] != ']')
            return -EINVAL;
        host++;
        length -= 2;
    }
    if (length > RT_ADDRESS_HOST)
        return -EINVAL;
    memcpy(target->host, host, length);
    target->host[length] = 0;
    int rc = parse_port(colon + 1, size - (size_t)(colon + 1 - text), target);
    if (rc == 0)
        rc = brackets ? parse_v6(target->host, target) : parse_host(target);
    if (rc == 0 && target->port >= 0 && target->kind == RT_TARGET_NUMERIC)
        rt_address_set_port(&target->address, target->port);
    return rc;
}

socklen_t rt_address_size(const rt_address *address)
{
    return address->any.sa_family == AF_INET ? sizeof address->v4 : sizeof address->v6;
}

void rt_address_set_port(rt_address *address, int port)
{
    if (address->any.sa_family == AF_INET)
        address->v4.sin_port = htons((uint16_t)port);
    else
        address->v6.sin6_port = htons((uint16_t)port);
}

bool rt_address_equal(const rt_address *a, const rt_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
           memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
}

static rt_address make(int family, uint32_t v4, const struct in6_addr *v6, int port)
{
    rt_address address = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = *v6}};
    if (family == AF_INET)
        address = (rt_address){.v4 = {.sin_family = AF_INET, .sin_addr = {htonl(v4)}}};
    rt_address_set_port(&address, port);
    return address;
}

rt_address rt_address_any(int family, int port)
{
    return make(family, INADDR_ANY, &in6addr_any, port);
}

rt_address rt_address_loopback(int family, int port)
{
    return make(family, INADDR_LOOPBACK, &in6addr_loopback, port);
}

bool rt_address_is_any(const rt_address *address)
{
    return address->any.sa_family == AF_INET ? address->v4.sin_addr.s_addr == htonl(INADDR_ANY)
                                             : IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

/* ---- as text ---- */

static int print_inet(const rt_address *address, char *text, size_t room)
{
    char host[INET6_ADDRSTRLEN] = "", zone[RT_ENDPOINT_ZONE + 1] = "";
    int n;
    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        n = snprintf(text, room, "%s:%u", host, ntohs(address->v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
        const uint32_t scope = address->v6.sin6_scope_id;
        if (scope != 0) {
            zone[0] = '%';
            if (rt_endpoint_zone_name(scope, zone + 1) != 0)
                snprintf(zone + 1, sizeof zone - 1, "%u", scope);
        }
        n = snprintf(text, room, "[%s%s]:%u", host, zone, ntohs(address->v6.sin6_port));
    }
    return n < 0 || (size_t)n >= room ? -ENOSPC : 0;
}

/* Abstract names begin with a zero byte, printed as '@'; so a file of that name needs another beginning. */
static int print_unix(const struct sockaddr_un *address, socklen_t size, char *text, size_t room)
{
    const char *path = address->sun_path;
    size_t length =
        size > offsetof(struct sockaddr_un, sun_path) ? size - offsetof(struct sockaddr_un, sun_path) : 0;
    const char *before = "";
    if (length > 0 && path[0] == 0) {
        before = "@";
        path++;
        length--;
        if (memchr(path, 0, length))
            return -EILSEQ;
    } else {
        length = strnlen(path, length);
        if (length > 0 && path[0] == '@')
            before = "./";
    }
    const int n = snprintf(text, room, "%s%.*s", before, (int)length, path);
    return n < 0 || (size_t)n >= room ? -ENOSPC : 0;
}

int rt_address_print(const struct sockaddr *address, socklen_t size, char *text, size_t room)
{
    rt_address inet;
    if (size < sizeof(sa_family_t))
        return -EAFNOSUPPORT;
    if (address->sa_family == AF_UNIX)
        return print_unix((const struct sockaddr_un *)(const void *)address, size, text, room);
    if (address->sa_family == AF_INET && size >= sizeof inet.v4) {
        memcpy(&inet, address, sizeof inet.v4);
    } else if (address->sa_family == AF_INET6 && size >= sizeof inet.v6) {
        memcpy(&inet, address, sizeof inet.v6);
        inet = unmapped(&inet.v6);
    } else {
        return -EAFNOSUPPORT;
    }
    return print_inet(&inet, text, room);
}
