/* SPDX-License-Identifier: MIT
 *
 * Floor 7. Names of hosts and services: getaddrinfo(3), by the pool's threads for names.
 *
 * A lookup may take half a minute, and nothing can interrupt it. So the job owns copies of all that it needs,
 * and the caller leaves it behind when the limit or a cancellation comes; its list is then released by
 * whoever has the job last. What is numeric, host and service, is only translated, on the caller's stack.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/routines/io.h"
#include "../sched/pool.h"
#include "../sched/scheduler.h"

typedef struct {
    rt_job job;
    int rc; /* an EAI_ value */
    struct addrinfo *list;
    struct addrinfo hints;
    const char *node, *service; /* null or: */
    bool hinted;
    char text[];
} lookup;

/* EAI_SYSTEM says no more than errno, which a routine cannot rely on. */
static int explain(int error)
{
    switch (error) {
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE:
        return EAI_MEMORY;
    default:
        return EAI_FAIL;
    }
}

static RT_NOINLINE int look_up(const char *node, const char *service, const struct addrinfo *hints,
                               struct addrinfo **list)
{
    const int saved = errno;
    int rc = getaddrinfo(node, service, hints, list);
    if (rc == EAI_SYSTEM)
        rc = explain(errno);
    errno = saved;
    return rc;
}

static bool is_number(const char *service)
{
    return !service || (*service != '\0' && service[strspn(service, "0123456789")] == '\0');
}

/* The translation of what is a number, or EAI_NONAME. */
static int translate(const char *node, const char *service, const struct addrinfo *hints,
                     struct addrinfo **list)
{
    struct addrinfo h = {.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG, .ai_family = AF_UNSPEC};
    if (hints)
        h = *hints;
    if (node)
        h.ai_flags |= AI_NUMERICHOST;
    return look_up(node, service, &h, list);
}

/* In the pool. */
static int run(void *arg)
{
    lookup *l = arg;
    l->rc = look_up(l->node, l->service, l->hinted ? &l->hints : NULL, &l->list);
    return 0;
}

static void drop(void *arg)
{
    lookup *l = arg;
    if (l->rc == 0)
        freeaddrinfo(l->list);
    free(l);
}

static lookup *lookup_new(const char *node, const char *service, const struct addrinfo *hints)
{
    const size_t node_size = node ? strlen(node) + 1 : 0, service_size = service ? strlen(service) + 1 : 0;
    lookup *l = malloc(sizeof *l + node_size + service_size);
    if (!l)
        return NULL;
    memset(l, 0, sizeof *l);
    l->job = (rt_job){.fn = run, .arg = l, .abandoned = drop};
    l->rc = EAI_AGAIN;
    if (node)
        l->node = memcpy(l->text, node, node_size);
    if (service)
        l->service = memcpy(l->text + node_size, service, service_size);
    if (hints) {
        l->hints = *hints;
        l->hinted = true;
    }
    return l;
}

int routine_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                        struct addrinfo **result)
{
    if (rt_frame_stop(rt_self()->current) != 0)
        return EAI_AGAIN;
    if (is_number(service)) {
        const int rc = translate(node, service, hints, result);
        if (rc != EAI_NONAME || !node || (hints && hints->ai_flags & AI_NUMERICHOST))
            return rc;
    }
    lookup *l = lookup_new(node, service, hints);
    if (!l)
        return EAI_MEMORY;
    if (rt_pool_do(RT_POOL_NAMES, &l->job) != 0)
        return EAI_AGAIN;
    const int rc = l->rc;
    if (rc == 0)
        *result = l->list;
    free(l);
    return rc;
}
