/* SPDX-License-Identifier: MIT
 *
 * Floor 7. See resolve.h.
 */
#define _GNU_SOURCE
#include "resolve.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "../../include/routines/io.h"
#include "../../include/routines/routine.h"

/* What getaddrinfo says, as net.h says it. routine_check first: EAI_AGAIN is also the limit and the
 * cancellation. */
static int error_of(int eai)
{
    const int stop = routine_check();
    if (stop != 0)
        return stop;
    switch (eai) {
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SERVICE:
    case EAI_BADFLAGS:
    case EAI_SOCKTYPE:
        return -EINVAL;
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY:
#endif
    case EAI_FAMILY:
        return -ENOENT;
    case EAI_AGAIN:
        return -EAGAIN;
    default: /* EAI_FAIL, EAI_SYSTEM */
        return -EIO;
    }
}

static void add(rt_resolved *to, const rt_address *address)
{
    for (int i = 0; i < to->count; i++)
        if (rt_address_equal(&to->all[i], address))
            return;
    if (to->count < RT_RESOLVE_MOST)
        to->all[to->count++] = *address;
}

/* The number of a service, without any name being looked up. */
static int port_of(const char *service, int type)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_family = AF_INET, .ai_socktype = type};
    struct addrinfo *list = NULL;
    const int eai = routine_getaddrinfo(NULL, service, &hints, &list);
    if (eai != 0)
        return eai == EAI_NONAME ? -EINVAL : error_of(eai);
    const struct sockaddr_in *first = (const struct sockaddr_in *)(const void *)list->ai_addr;
    const int port = ntohs(first->sin_port);
    freeaddrinfo(list);
    return port;
}

/* A name. What is left over by the table: every second place for one family while there are of both. */
static int look_up(const rt_target *target, int port, int type, bool alternate, rt_resolved *to)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = type};
    struct addrinfo *list = NULL;
    const int eai = routine_getaddrinfo(target->host, NULL, &hints, &list);
    if (eai != 0)
        return error_of(eai);
    rt_resolved of[2] = {{.count = 0}, {.count = 0}}; /* of the first one's family, of the other */
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        rt_address address = {.any.sa_family = AF_UNSPEC};
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof address)
            continue;
        memcpy(&address, a->ai_addr, a->ai_addrlen);
        rt_address_set_port(&address, port);
        const bool other =
            alternate && of[0].count > 0 && of[0].all[0].any.sa_family != address.any.sa_family;
        add(&of[other], &address);
    }
    freeaddrinfo(list);
    for (int i = 0; i < RT_RESOLVE_MOST; i++)
        for (int j = 0; j < 2; j++)
            if (i < of[j].count)
                add(to, &of[j].all[i]);
    return to->count > 0 ? 0 : -ENOENT;
}

int rt_resolve(const char *text, int type, rt_resolve_for purpose, rt_resolved *to)
{
    rt_target target;
    to->count = 0;
    int rc = routine_check();
    if (rc == 0)
        rc = rt_address_parse(text, &target);
    if (rc != 0)
        return rc;
    const int port = target.port >= 0 ? target.port : port_of(target.service, type);
    if (port < 0)
        return port;
    if (target.kind == RT_TARGET_NAME)
        return look_up(&target, port, type, purpose == RT_RESOLVE_TO_DIAL, to);
    if (target.kind == RT_TARGET_NUMERIC) {
        rt_address_set_port(&target.address, port);
        add(to, &target.address);
    } else if (purpose == RT_RESOLVE_TO_LISTEN) {
        to->all[0] = rt_address_any(AF_INET6, port);
        to->all[1] = rt_address_any(AF_INET, port);
        to->count = 2;
    } else {
        to->all[0] = rt_address_loopback(AF_INET, port);
        to->all[1] = rt_address_loopback(AF_INET6, port);
        to->count = 2;
    }
    return 0;
}
