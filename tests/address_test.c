/* SPDX-License-Identifier: MIT
 *
 * Tests of addresses as text (src/io/address.h): what is understood and what is not, one by one; what the
 * system returns, printed; that what is printed is understood and means the same, of addresses and texts
 * made at random from a fixed seed.
 */
#include "support.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/un.h>

#include "routines/net.h"

#include "io/address.h"

/* ---- the other way: what an address is, as text that owes nothing to the code under test ---- */

static void spell(const rt_address *a, char *text, size_t size)
{
    char host[64];
    if (a->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof host);
        snprintf(text, size, "4 %s %u", host, ntohs(a->v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof host);
        snprintf(text, size, "6 %s %u %u", host, a->v6.sin6_scope_id, ntohs(a->v6.sin6_port));
    }
}

/* In memory that ends with the text: a sanitizer sees who reads on. */
static int parse(const char *text, rt_target *target)
{
    char *copy = strdup(text);
    memset(target, 0xa5, sizeof *target);
    const int rc = rt_address_parse(copy, target);
    free(copy);
    return rc;
}

TEST(numeric_addresses)
{
    static const struct {
        const char *text, *means;
    } table[] = {
        {"1.2.3.4:80", "4 1.2.3.4 80"},
        {"127.0.0.1:0", "4 127.0.0.1 0"},
        {"0.0.0.0:65535", "4 0.0.0.0 65535"},
        {"255.255.255.255:1", "4 255.255.255.255 1"},
        {"1.2.3.4:0080", "4 1.2.3.4 80"},
        {"[::1]:80", "6 ::1 0 80"},
        {"[::]:0", "6 :: 0 0"},
        {"[2001:db8::1]:443", "6 2001:db8::1 0 443"},
        {"[2001:DB8:0:0:0:0:0:1]:443", "6 2001:db8::1 0 443"},
        {"[fe80::1%7]:80", "6 fe80::1 7 80"},
        {"[fe80::1%4294967295]:80", "6 fe80::1 4294967295 80"},
        {"[::ffff:1.2.3.4]:80", "4 1.2.3.4 80"},
        {"[::ffff:102:304]:80", "4 1.2.3.4 80"},
        {"[::1.2.3.4]:80", "6 ::1.2.3.4 0 80"},
        {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
         "6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 0 65535"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        rt_target t;
        char means[128] = "";
        const int rc = parse(table[i].text, &t);
        if (rc != 0 || t.kind != RT_TARGET_NUMERIC || t.port < 0) {
            support_fail(__FILE__, __LINE__, "\"%s\": %d, kind %d", table[i].text, rc, (int)t.kind);
            continue;
        }
        spell(&t.address, means, sizeof means);
        CHECK_STR(means, table[i].means);
    }
}

TEST(names_and_services)
{
    static const struct {
        const char *text, *host;
        int port;
        const char *service;
    } table[] = {
        {"localhost:80", "localhost", 80, ""},
        {"example.org.:443", "example.org.", 443, ""},
        {"a:0", "a", 0, ""},
        {"under_score.example:9", "under_score.example", 9, ""},
        {"1.2.3:80", "1.2.3", 80, ""}, /* the resolver knows what that is */
        {"1.2.3.4.5:80", "1.2.3.4.5", 80, ""},
        {"256.1.1.1:80", "256.1.1.1", 80, ""},
        {"m\xc3\xbc.example:80", "m\xc3\xbc.example", 80, ""},
        {"localhost:http", "localhost", -1, "http"},
        {"localhost:3com-tsmux", "localhost", -1, "3com-tsmux"},
        {"localhost:whois++", "localhost", -1, "whois++"},
        {"localhost:a", "localhost", -1, "a"},
        {":http", "", -1, "http"},
        {":80", "", 80, ""},
        {":0", "", 0, ""},
        {":65535", "", 65535, ""},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        rt_target t;
        CHECK_EQ(parse(table[i].text, &t), 0);
        CHECK_EQ(t.kind, table[i].host[0] ? RT_TARGET_NAME : RT_TARGET_ANY);
        CHECK_STR(t.host, table[i].host);
        CHECK_EQ(t.port, table[i].port);
        CHECK_STR(t.service, table[i].service);
    }
    rt_target t;
    CHECK_EQ(parse("[::1]:http", &t), 0);
    CHECK_EQ(t.kind, RT_TARGET_NUMERIC);
    CHECK_EQ(t.port, -1);
    CHECK_STR(t.service, "http");
}

TEST(what_is_not_understood)
{
    static const char *const table[] = {
        "",
        ":",
        "80",
        "localhost",
        "localhost:",
        "1.2.3.4",
        "1.2.3.4:",
        "::1",
        "::1:80",
        "fe80::1%lo:80",
        "[",
        "]",
        "[]",
        "[]:80",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[::1:80",
        "::1]:80",
        "[[::1]]:80",
        "[::1]]:80",
        "[::1] :80",
        " [::1]:80",
        "[::1 ]:80",
        "[1.2.3.4]:80",
        "[localhost]:80",
        "[:]:80",
        "[::g]:80",
        "[1:2:3:4:5:6:7:8:9]:80",
        "[fe80::1%]:80",
        "[fe80::1%0]:80",
        "[%lo]:80",
        "[fe80::1%aaaaaaaaaaaaaaaa]:80",
        "a:b:80",
        "http://a:80",
        "a/b:80",
        "a b:80",
        " a:80",
        "a :80",
        "a\n:80",
        "\x7f:80",
        "a%lo:80",
        "[a:80",
        "a]:80",
        "a:65536",
        "a:99999999999999999999999",
        "a:4294967376",
        "a:-1",
        "a:+80",
        "a: 80",
        "a:80 ",
        "a:8 0",
        "a:80/",
        "a:--",
        "a:-",
        "a:ht tp",
        "a:http\n",
        "a:h\x80",
        "a:\xff",
        ":-1",
        ":65536",
        ":[",
        "[::1]:65536",
        "[::1]:-1",
        "*:*",
    };
    rt_target t;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        const int rc = parse(table[i], &t);
        if (rc != -EINVAL)
            support_fail(__FILE__, __LINE__, "\"%s\": %d", table[i], rc);
    }
    CHECK_EQ(rt_address_parse(NULL, &t), -EINVAL);
    CHECK_EQ(parse("[fe80::1%no-such-zone]:80", &t), -ENODEV);
}

/* A host of so many bytes, a service of so many. */
static int parse_sized(size_t host, size_t service, rt_target *t)
{
    char text[2048];
    memset(text, 'h', host);
    text[host] = ':';
    memset(text + host + 1, 's', service);
    text[host + 1 + service] = 0;
    return parse(text, t);
}

TEST(lengths)
{
    rt_target t;
    CHECK_EQ(parse_sized(RT_ADDRESS_HOST, RT_ADDRESS_SERVICE, &t), 0);
    CHECK_EQ(strlen(t.host), RT_ADDRESS_HOST);
    CHECK_EQ(strlen(t.service), RT_ADDRESS_SERVICE);
    CHECK_EQ(parse_sized(RT_ADDRESS_HOST + 1, RT_ADDRESS_SERVICE, &t), -EINVAL);
    CHECK_EQ(parse_sized(RT_ADDRESS_HOST, RT_ADDRESS_SERVICE + 1, &t), -EINVAL);
    CHECK_EQ(parse_sized(1, 1000, &t), -EINVAL);
    CHECK_EQ(parse_sized(1000, 1, &t), -EINVAL);

    /* a colon within the limits, and something behind */
    char text[2048] = "a:80";
    memset(text + 4, '1', 1000);
    CHECK_EQ(parse(text, &t), -EINVAL);
    memset(text + 4, '0', 1000);
    CHECK_EQ(parse(text, &t), -EINVAL);
    text[2] = '8';
    memset(text + 1, ':', 1000);
    CHECK_EQ(parse(text, &t), -EINVAL);
}

TEST(zones)
{
    rt_target t;
    char text[ROUTINE_ADDRESS_MAX];
    const unsigned lo = if_nametoindex("lo");
    if (lo == 0)
        skip();
    CHECK_EQ(parse("[fe80::1%lo]:80", &t), 0);
    CHECK_EQ(t.address.v6.sin6_scope_id, lo);
    CHECK_EQ(rt_address_print(&t.address.any, rt_address_size(&t.address), text, sizeof text), 0);
    CHECK_STR(text, "[fe80::1%lo]:80");
    t.address.v6.sin6_scope_id = 4000000000u; /* has no name */
    CHECK_EQ(rt_address_print(&t.address.any, rt_address_size(&t.address), text, sizeof text), 0);
    CHECK_STR(text, "[fe80::1%4000000000]:80");
}

static int print_path(const char *bytes, size_t length, char *text, size_t size)
{
    struct sockaddr_un *a = calloc(1, sizeof *a);
    a->sun_family = AF_UNIX;
    memcpy(a->sun_path, bytes, length);
    const socklen_t all = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    const int rc = rt_address_print((struct sockaddr *)(void *)a, all, text, size);
    free(a);
    return rc;
}

TEST(paths_printed)
{
    char text[ROUTINE_ADDRESS_MAX], longest[108];
    memset(longest, 'p', sizeof longest);
    CHECK_EQ(print_path("/run/x", 7, text, sizeof text), 0);
    CHECK_STR(text, "/run/x");
    CHECK_EQ(print_path("/run/x", 6, text, sizeof text), 0); /* without its end */
    CHECK_STR(text, "/run/x");
    CHECK_EQ(print_path("\0name", 5, text, sizeof text), 0);
    CHECK_STR(text, "@name");
    CHECK_EQ(print_path("@name", 6, text, sizeof text), 0); /* a file of that name */
    CHECK_STR(text, "./@name");
    CHECK_EQ(print_path("", 0, text, sizeof text), 0);
    CHECK_STR(text, "");
    CHECK_EQ(print_path("\0a\0b", 4, text, sizeof text), -EILSEQ);
    CHECK_EQ(print_path(longest, sizeof longest, text, sizeof text), 0);
    CHECK_EQ(strlen(text), 108);
    longest[0] = '@';
    CHECK_EQ(print_path(longest, sizeof longest, text, sizeof text), 0);
    CHECK_EQ(strlen(text), 110);
    longest[0] = 0;
    CHECK_EQ(print_path(longest, sizeof longest, text, sizeof text), 0);
    CHECK_EQ(strlen(text), 108);
    CHECK_EQ(print_path("/run/x", 7, text, 6), -ENOSPC);
    CHECK_EQ(print_path("/run/x", 7, text, 7), 0);
}

TEST(other_families_and_sizes)
{
    rt_target t;
    char text[ROUTINE_ADDRESS_MAX] = "untouched";
    const struct sockaddr other = {.sa_family = AF_NETLINK};
    CHECK_EQ(rt_address_print(&other, sizeof other, text, sizeof text), -EAFNOSUPPORT);
    CHECK_EQ(rt_address_print(&other, 0, text, sizeof text), -EAFNOSUPPORT);
    CHECK_EQ(parse("127.0.0.1:80", &t), 0);
    CHECK_EQ(rt_address_print(&t.address.any, sizeof t.address.v4 - 1, text, sizeof text), -EAFNOSUPPORT);
    CHECK_STR(text, "untouched");
    for (size_t size = 0; size < sizeof "127.0.0.1:80"; size++) {
        char *small = malloc(size + 1);
        small[size] = 'x';
        CHECK_EQ(rt_address_print(&t.address.any, sizeof t.address.v4, small, size), -ENOSPC);
        CHECK_EQ(small[size], 'x');
        free(small);
    }
}

/* Prints, understands, and compares. */
static void there_and_back(const rt_address *a)
{
    rt_target t;
    char text[ROUTINE_ADDRESS_MAX], before[128], after[128];
    CHECK_EQ(rt_address_print(&a->any, rt_address_size(a), text, sizeof text), 0);
    const int rc = parse(text, &t);
    spell(a, before, sizeof before);
    if (rc != 0 || t.kind != RT_TARGET_NUMERIC) {
        support_fail(__FILE__, __LINE__, "\"%s\" (%s): %d", text, before, rc);
        return;
    }
    spell(&t.address, after, sizeof after);
    CHECK_STR(after, before);
    CHECK(rt_address_equal(&t.address, a));
}

TEST(there_and_back_at_random)
{
    uint64_t random = 1;
    for (long i = 0; i < support_scale(20000); i++) {
        rt_address a = rt_address_loopback(support_random(&random) % 2 ? AF_INET : AF_INET6, 0);
        if (a.any.sa_family == AF_INET) {
            a.v4.sin_addr.s_addr = (uint32_t)support_random(&random);
        } else {
            for (int j = 0; j < 16; j++) /* many zeros, for the short forms */
                a.v6.sin6_addr.s6_addr[j] =
                    support_random(&random) % 3 ? 0 : (unsigned char)support_random(&random);
            if (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr))
                continue;
            a.v6.sin6_scope_id =
                support_random(&random) % 4 ? 0 : 1 + (uint32_t)(support_random(&random) % 9);
        }
        rt_address_set_port(&a, (int)(support_random(&random) % 65536));
        there_and_back(&a);
    }
}

/* Whatever comes: one of three answers, no byte read or written beyond; and what is taken for an address is
 * one. */
TEST(any_text)
{
    static const char alphabet[] = "[]:::..%%0123456789abcdefgz-_/ \n\xff";
    static const char *const pieces[] = {"::",     "[::1]", "127.0.0.1", "%lo", ":80",
                                         ":65535", "65536", "[fe80::1%", "http"};
    uint64_t random = 7;
    long understood = 0;
    for (long i = 0; i < support_scale(400000); i++) {
        char text[400] = "";
        const size_t most = support_random(&random) % 64 ? support_random(&random) % 24 : 380;
        while (strlen(text) < most) {
            const size_t at = strlen(text);
            if (support_random(&random) % 3 == 0) {
                strncat(text, pieces[support_random(&random) % COUNT_OF(pieces)], sizeof text - at - 1);
            } else {
                text[at] = alphabet[support_random(&random) % (sizeof alphabet - 1)];
                text[at + 1] = 0;
            }
        }
        rt_target t;
        const int rc = parse(text, &t);
        if (rc != 0 && rc != -EINVAL && rc != -ENODEV)
            support_fail(__FILE__, __LINE__, "\"%s\": %d", text, rc);
        if (rc != 0)
            continue;
        understood++;
        CHECK(t.port >= -1 && t.port <= 65535);
        CHECK(strlen(t.host) <= RT_ADDRESS_HOST && strlen(t.service) <= RT_ADDRESS_SERVICE);
        CHECK_EQ(t.port == -1, t.service[0] != 0);
        if (t.kind == RT_TARGET_NUMERIC)
            there_and_back(&t.address);
        else
            CHECK_EQ(t.kind == RT_TARGET_ANY, t.host[0] == 0);
    }
    CHECK(understood > 100); /* else this tests little */
}

int main(void)
{
    SUPPORT_NO_CASES();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numeric_addresses),
        cmocka_unit_test(names_and_services),
        cmocka_unit_test(what_is_not_understood),
        cmocka_unit_test(lengths),
        cmocka_unit_test(zones),
        cmocka_unit_test(paths_printed),
        cmocka_unit_test(other_families_and_sizes),
        cmocka_unit_test(there_and_back_at_random),
        cmocka_unit_test(any_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
