/* SPDX-License-Identifier: MIT
 *
 * chat: a server where everybody hears what anybody says. Use it by nc or socat.
 *
 *     ./chat 127.0.0.1:7000          until Ctrl-C
 *     nc 127.0.0.1 7000              lines are said to all; /nick NAME, /who, /quit
 *
 * All lines go through one broadcast channel, on which sending never waits. So nobody holds up anybody: a
 * client that reads too slowly falls behind, loses the oldest lines, and is told how many; one that takes
 * nothing at all for a while is dropped.
 *
 * Each client is a child of a scope, and two more routines that are its children: hear() reads from the
 * socket, and tell() writes to it, whatever comes first of the lines of all and the replies to this client
 * alone (a select). Only tell() writes, so lines are never mixed up. If either fails, the other is cancelled;
 * if hear() comes to the end it closes the replies, and tell() ends when it has written what there is.
 *
 * At SIGINT or SIGTERM nobody is let in any more, the broadcast is closed, and who has read it to its end is
 * sent home; the rest has a grace.
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME_SIZE 24
#define TEXT_SIZE 400 /* of what is said at a time */
#define LINE_SIZE 512

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "chat: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* An element of the channels. It is copied: a pointer would need somebody who knows when the last slow client
 * has read it, or missed it. */
struct line {
    uint64_t from; /* number of a client; 0: the server */
    size_t size;   /* the newline included */
    char text[LINE_SIZE];
};

struct client;

struct room {
    chan_t *lines;             /* the broadcast */
    routine_scope_t *visitors; /* a child for each client */
    size_t most;               /* of them */
    int64_t patience;          /* with one that takes nothing */
    int64_t grace;             /* for all, in the end */
    routine_mutex_t lock;      /* for the list, and the names in it */
    struct client *clients;
    uint64_t visits;
    _Atomic uint64_t said, missed;
};

struct client {
    struct room *room;
    struct client *next;
    int fd;
    uint64_t number;
    char name[NAME_SIZE]; /* only its own hear() changes it */
    chan_t *lines;        /* its subscription */
    chan_t *replies;      /* to it alone */
    int error;            /* that has ended it; 0: it has said good-bye */
};

/* ---- Saying something. ---- */

__attribute__((format(printf, 3, 0))) static void set_line(struct line *line, uint64_t from,
                                                           const char *format, va_list args)
{
    const int n = vsnprintf(line->text, LINE_SIZE - 1, format, args);
    line->from = from;
    line->size = n < LINE_SIZE - 1 ? (size_t)n : LINE_SIZE - 2;
    line->text[line->size++] = '\n';
}

/* To all. 0; -EPIPE: the server stops; -ECANCELED. Never waits. */
__attribute__((format(printf, 3, 4))) static int say(struct room *room, uint64_t from, const char *format,
                                                     ...)
{
    struct line line;
    va_list args;
    va_start(args, format);
    set_line(&line, from, format, args);
    va_end(args);
    return chan_send(room->lines, &line);
}

/* To this client. Waits until tell() has time for it. */
__attribute__((format(printf, 2, 3))) static int reply(struct client *client, const char *format, ...)
{
    struct line line;
    va_list args;
    va_start(args, format);
    set_line(&line, 0, format, args);
    va_end(args);
    return chan_send(client->replies, &line);
}

/* ---- Coming and going. ---- */

/* 0; -ENOMEM, -ECANCELED: then it is not in the list. */
static int enter(struct client *client)
{
    struct room *room = client->room;
    client->lines = chan_subscribe(room->lines);
    client->replies = chan_make(struct line, 0);
    const bool memory = client->lines != NULL && client->replies != NULL;
    const int rc = memory ? routine_mutex_lock(&room->lock) : -ENOMEM;
    if (rc != 0) {
        chan_unsubscribe(client->lines);
        chan_unref(client->replies);
        return rc;
    }
    client->number = ++room->visits;
    snprintf(client->name, sizeof client->name, "guest-%" PRIu64, client->number % 1000000000);
    client->next = room->clients;
    room->clients = client;
    routine_mutex_unlock(&room->lock);
    return 0;
}

/* As a defer it is not reached by a cancellation. */
static void leave(void *arg)
{
    struct client *client = arg;
    struct room *room = client->room;
    check(routine_mutex_lock(&room->lock), "the list");
    struct client **link = &room->clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    routine_mutex_unlock(&room->lock);
    const uint64_t missed = chan_missed(client->lines);
    atomic_fetch_add(&room->missed, missed);
    printf("left     %s; lines missed: %" PRIu64 "%s%s\n", client->name, missed,
           client->error != 0 ? "; " : "", client->error != 0 ? strerror(-client->error) : "");
    (void)say(room, 0, "* %s has left", client->name); /* after the end nobody wants to know */
    chan_unsubscribe(client->lines);
    chan_unref(client->replies);
}

static void close_descriptor(void *fd)
{
    routine_close((int)(intptr_t)fd);
}

/* ---- A client. ---- */

static int put(const struct client *client, const char *text, size_t size)
{
    routine_with_timeout(client->room->patience);
    return routine_write_all(client->fd, text, size, NULL);
}

/* A child of visit(). Failing cancels hear(). */
static int tell(void *arg)
{
    const struct client *client = arg;
    uint64_t told = 0;
    struct line line;
    for (;;) {
        const int which = chan_select(CHAN_RECV(client->lines, &line), CHAN_RECV(client->replies, &line));
        if (which == CHAN_CLOSED(0))
            return -ESHUTDOWN; /* the server stops; this client has heard everything */
        if (which == CHAN_CLOSED(1))
            return 0; /* it has said good-bye */
        if (which < 0)
            return which;
        int rc = 0;
        const uint64_t missed = chan_missed(client->lines);
        if (which == 0 && missed != told) {
            char text[80];
            const int n =
                snprintf(text, sizeof text, "* too slow: %" PRIu64 " lines missed\n", missed - told);
            rc = put(client, text, (size_t)n);
            told = missed;
        }
        if (rc == 0 && (which == 1 || line.from != client->number)) /* its own words it knows */
            rc = put(client, line.text, line.size);
        if (rc != 0)
            return rc;
    }
}

static int nick(struct client *client, const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    struct room *room = client->room;
    char old[NAME_SIZE];
    const size_t size = strlen(name) + 1;
    if (size == 1 || size > sizeof old || strspn(name, allowed) + 1 != size)
        return reply(client, "* a name is 1 to %d letters, digits, - and _", NAME_SIZE - 1);
    int rc = routine_mutex_lock(&room->lock);
    if (rc != 0)
        return rc;
    bool taken = false;
    for (const struct client *other = room->clients; other != NULL; other = other->next)
        taken = taken || strcmp(other->name, name) == 0;
    memcpy(old, client->name, sizeof old);
    if (!taken)
        memcpy(client->name, name, size);
    routine_mutex_unlock(&room->lock);
    return taken ? reply(client, "* %s is here already", name)
                 : say(room, 0, "* %s is now %s", old, client->name);
}

static int who(struct client *client)
{
    struct room *room = client->room;
    char names[TEXT_SIZE] = "";
    size_t count = 0, length = 0;
    const int rc = routine_mutex_lock(&room->lock);
    if (rc != 0)
        return rc;
    for (const struct client *other = room->clients; other != NULL; other = other->next, count++)
        if (length + NAME_SIZE + 4 < sizeof names)
            length += (size_t)sprintf(names + length, " %s", other->name);
        else if (names[length - 1] != '.')
            length += (size_t)sprintf(names + length, " ...");
    routine_mutex_unlock(&room->lock);
    return reply(client, "* here are %zu:%s", count, names);
}

/* A child of visit(). Its end tells tell() to come to an end too; failing cancels it. */
static int hear(void *arg)
{
    struct client *client = arg;
    char text[TEXT_SIZE];
    routine_reader_t *reader = routine_reader_new(client->fd, 2 * sizeof text);
    if (reader == NULL)
        return -ENOMEM;
    int rc = reply(client, "* welcome, %s; there are /nick NAME, /who, /quit", client->name);
    while (rc == 0) {
        ssize_t n = routine_reader_line(reader, text, sizeof text);
        if (n == -EMSGSIZE) {
            rc = reply(client, "* only the first %d bytes were said", TEXT_SIZE - 1);
            n = TEXT_SIZE - 1;
        }
        if (n < 0)
            rc = (int)n;
        for (ssize_t i = 0; i < n; i++)
            if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) /* others' terminals are not its own */
                text[i] = '?';
        if (rc != 0 || n == 0)
            continue;
        if (strcmp(text, "/quit") == 0)
            rc = -ENODATA;
        else if (strcmp(text, "/who") == 0)
            rc = who(client);
        else if (strncmp(text, "/nick ", 6) == 0)
            rc = nick(client, text + 6);
        else if (text[0] == '/')
            rc = reply(client, "* there are /nick NAME, /who, /quit");
        else if ((rc = say(client->room, client->number, "%s: %s", client->name, text)) == 0)
            atomic_fetch_add(&client->room->said, 1);
    }
    routine_reader_free(reader);
    if (rc == -ENODATA)
        rc = reply(client, "* good-bye, %s", client->name);
    chan_close(client->replies);
    return rc == -EPIPE ? 0 : rc; /* the server stops: tell() sees to that */
}

/* A child of the room's scope: it never fails, since that would cancel the others. */
static int visit(void *arg)
{
    struct client *client = arg; /* a copy of our own */
    char address[ROUTINE_ADDRESS_MAX] = "?";
    routine_defer(close_descriptor, (void *)(intptr_t)client->fd);
    if (enter(client) != 0)
        return 0;
    routine_defer(leave, client);
    routine_peer_address(client->fd, address, sizeof address);
    printf("entered  %s from %s\n", client->name, address);
    if (say(client->room, client->number, "* %s has come", client->name) != 0)
        return 0;
    routine_scope(both);
    int error = 0, rc = routine_scope_go(&both, tell, client);
    if (rc == 0)
        rc = routine_scope_go(&both, hear, client);
    if (rc == 0)
        rc = routine_scope_join(&both, &error);
    client->error = rc != 0 ? rc : error;
    return 0; /* first comes the end of the scope: both have ended; then leave() */
}

/* ---- The server. ---- */

struct server {
    const char *address;
    struct room room;
    chan_t *signals; /* int */
    int fd;
};

/* A child of serve(), until it is cancelled. */
static int accept_clients(void *arg)
{
    struct server *server = arg;
    struct room *room = &server->room;
    for (;;) {
        const int fd = routine_accept(server->fd, NULL, NULL);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
            printf("no more  %s\n", strerror(-fd));
            /* The connection is still there, and somebody may leave. */
            (void)routine_sleep(50 * ROUTINE_MS);
            continue;
        }
        if (fd == -ECANCELED)
            return 0;
        check(fd < 0 ? fd : 0, "accept");
        /* Waits while the room is full. (One that is cancelled before it has begun, at the very end of the
         * grace, leaves its descriptor to the end of the process.) */
        const struct client client = {.room = room, .fd = fd};
        if (routine_scope_go_copy(room->visitors, visit, client) != 0)
            routine_close(fd);
    }
}

static void *serve(void *arg)
{
    struct server *server = arg;
    struct room *room = &server->room;
    char address[ROUTINE_ADDRESS_MAX];
    int signo;
    server->fd = routine_tcp_listen(server->address, 0);
    check(server->fd < 0 ? server->fd : 0, server->address);
    check(routine_local_address(server->fd, address, sizeof address), "the address");
    /* Accepted sockets inherit it. The kernel would keep megabytes for each client that does not read. */
    const int buffer = 16384;
    if (setsockopt(server->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) != 0)
        perror("chat: the size of the buffers");
    printf("ready: process %d listens on %s\n", (int)getpid(), address);
    {
        routine_scope_limited(visitors, room->most);
        room->visitors = &visitors;
        {
            routine_scope(accepting);
            check(routine_scope_go(&accepting, accept_clients, server), "accepting");
            check(chan_recv(server->signals, &signo), "waiting for a signal");
        } /* from here on nobody comes in */
        printf("signal %d\n", signo);
        routine_close(server->fd);
        (void)say(room, 0, "* the server stops");
        chan_close(room->lines);
        routine_with_timeout(room->grace);
        if (routine_scope_join(&visitors, NULL) == -ETIMEDOUT)
            printf("the grace is over\n");
    } /* who is still there is cancelled, and waited for */
    printf("clients: %" PRIu64 "; lines said: %" PRIu64 ", missed: %" PRIu64 "\n", room->visits, room->said,
           room->missed);
    return NULL;
}

static bool parse_number(const char *text, long smallest, long largest, long *number)
{
    char *end;
    *number = strtol(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *number >= smallest && *number <= largest;
}

int main(int argc, char **argv)
{
    static struct server server = {.address = "127.0.0.1:7000"};
    long backlog = 100, most = 10000, patience = 60, grace = 2;
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "b:n:t:g:")) != -1;)
        good = (c == 'b' && parse_number(optarg, 1, 1000000, &backlog)) ||
               (c == 'n' && parse_number(optarg, 1, 1000000, &most)) ||
               (c == 't' && parse_number(optarg, 1, 1000000, &patience)) ||
               (c == 'g' && parse_number(optarg, 0, 1000000, &grace));
    if (!good || argc - optind > 1) {
        fprintf(stderr,
                "usage: %s [options] [address]\n"
                "  address  to listen on (default %s; port 0: any that is free)\n"
                "  -b N     how many lines a client can be behind (default 100)\n"
                "  -n N     clients at once (default 10000)\n"
                "  -t S     drop one that takes nothing for so many seconds (default 60)\n"
                "  -g S     seconds that clients have after a signal to take what there is (default 2)\n",
                argv[0], server.address);
        return 2;
    }
    if (optind < argc)
        server.address = argv[optind];
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.room.lines = chan_make_broadcast(struct line, backlog);
    server.room.most = (size_t)most;
    server.room.patience = patience * ROUTINE_S;
    server.room.grace = grace * ROUTINE_S;
    server.signals = chan_make(int, 4);
    check(server.room.lines != NULL && server.signals != NULL ? 0 : -ENOMEM, "the channels");
    check(routine_signal_notify(SIGINT, server.signals), "SIGINT");
    check(routine_signal_notify(SIGTERM, server.signals), "SIGTERM");
    check(routine_run(serve, &server, NULL), "the server");
    chan_unref(server.signals);
    chan_unref(server.room.lines);
    return EXIT_SUCCESS;
}
