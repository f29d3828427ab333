/* SPDX-License-Identifier: MIT
 *
 * pubsub: publish and subscribe, on one broadcast channel for each of two topics.
 *
 *     ./pubsub                       1,000 messages on each topic
 *     ./pubsub -n 100000 -b 256 -p 0
 *
 * A publisher never waits for a subscriber: who falls too far behind loses the oldest messages, and is told
 * how many. What follows from that is up to the subscriber, and four kinds are here:
 *
 *   archive  must have everything, of both topics (a select). So it confirms what it has read, and the
 *            publisher has the patience to let it catch up now and then: a wait group for each topic
 *   board    shows the weather and takes its time for each message; that it misses most is all right
 *   night    looks at the traffic only when everything is over: it finds what its subscription has kept
 *   guest    reads a few messages and leaves
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUEST_READS 5

struct message {
    uint64_t number; /* from 0, in its topic */
    int32_t value;
};

struct topic {
    const char *name;
    chan_t *messages; /* the broadcast */
    uint64_t count;   /* messages to publish */
    uint64_t backlog;
    routine_waitgroup_t unconfirmed; /* messages that the archive has not read yet */
};

/* What a subscriber has seen of one topic. */
struct seen {
    uint64_t received;
    uint64_t missed;
    uint64_t gaps; /* how many times some were missed */
    struct message last;
};

struct subscriber {
    const char *name;
    struct topic *topic;
    chan_t *subscription;
    int64_t pause;    /* after each message */
    uint64_t leaves;  /* after so many messages; 0: stays */
    chan_t *begin;    /* reads nothing before this one is closed; NULL: at once */
    struct seen seen; /* good after the join */
};

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "pubsub: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

static void wrong(const char *who, const char *what)
{
    fprintf(stderr, "pubsub: wrong: %s: %s\n", who, what);
    _Exit(EXIT_FAILURE);
}

/* The publishers wait for the archive: so don't wait for its join to tell that it did not start. */
static routine_t started(routine_t h)
{
    check(routine_error(h), "a routine");
    return h;
}

static chan_t *subscribe(struct topic *topic)
{
    chan_t *subscription = chan_subscribe(topic->messages);
    check(subscription != NULL ? 0 : -ENOMEM, "a subscription");
    return subscription;
}

static void *publish(void *arg)
{
    struct topic *topic = arg;
    for (uint64_t i = 0; i < topic->count; i++) {
        const struct message message = {.number = i, .value = (int32_t)(i * 7 % 41)};
        check(routine_waitgroup_add(&topic->unconfirmed, 1), "counting a message");
        check(chan_send(topic->messages, &message), "publishing"); /* never waits */
        if ((i + 1) % topic->backlog == 0)
            check(routine_waitgroup_wait(&topic->unconfirmed), "waiting for the archive");
    }
    check(chan_close(topic->messages), "the end of a topic");
    return NULL;
}

/* Takes a message that comes after `missed` others down; they must fit together. */
static void note(const char *who, struct seen *seen, const struct message *message, uint64_t missed)
{
    if (message->number != seen->received + seen->missed + missed)
        wrong(who, "the numbers of the messages don't fit what it was told to have missed");
    seen->received++;
    seen->missed += missed;
    seen->gaps += missed > 0;
    seen->last = *message;
}

/* Board, night and guest. chan_recv says how many messages were missed just before the one received. */
static void *read_topic(void *arg)
{
    struct subscriber *s = arg;
    struct message message;
    int rc = 0;
    if (s->begin != NULL)
        check(chan_recv(s->begin, NULL) == -EPIPE ? 0 : -EPROTO, "waiting for the night");
    while ((s->leaves == 0 || s->seen.received < s->leaves) &&
           (rc = chan_recv(s->subscription, &message)) >= 0) {
        note(s->name, &s->seen, &message, (uint64_t)rc);
        if (s->pause > 0)
            check(chan_select(CHAN_TIMEOUT(s->pause)), "a pause");
    }
    check(rc >= 0 || rc == -EPIPE ? 0 : rc, "reading");
    check(chan_unsubscribe(s->subscription), "leaving");
    return NULL;
}

struct archive {
    struct topic *topic[2];
    chan_t *subscription[2];
    struct seen seen[2];
};

/* Reads two topics at once, until both are closed. Select does not say what was missed: chan_missed does. */
static void *read_both(void *arg)
{
    struct archive *archive = arg;
    chan_t *open[2] = {archive->subscription[0], archive->subscription[1]};
    struct message message;
    while (open[0] != NULL || open[1] != NULL) {
        const int which = chan_select(CHAN_RECV(open[0], &message), CHAN_RECV(open[1], &message));
        switch (which) {
        case 0:
        case 1:
            note("archive", &archive->seen[which], &message, 0);
            check(routine_waitgroup_done(&archive->topic[which]->unconfirmed), "confirming");
            break;
        case CHAN_CLOSED(0):
            open[0] = NULL;
            break;
        case CHAN_CLOSED(1):
            open[1] = NULL;
            break;
        default:
            check(which, "select");
        }
    }
    for (int i = 0; i < 2; i++) {
        if (chan_missed(archive->subscription[i]) != 0)
            wrong("archive", "it has missed something");
        check(chan_unsubscribe(archive->subscription[i]), "leaving");
    }
    return NULL;
}

static void print_line(const char *who, const struct topic *topic, const struct seen *seen)
{
    printf("%-8s  %-7s  %8" PRIu64 "  %6" PRIu64 "  %4" PRIu64 "  ", who, topic->name, seen->received,
           seen->missed, seen->gaps);
    if (seen->received == 0)
        printf("none\n");
    else
        printf("number %" PRIu64 ": %" PRId32 "\n", seen->last.number, seen->last.value);
}

static void run(uint64_t count, uint64_t backlog, int64_t pause)
{
    struct topic topics[2] = {{.name = "weather"}, {.name = "traffic"}};
    struct topic *weather = &topics[0];
    struct topic *traffic = &topics[1];
    for (int i = 0; i < 2; i++) {
        topics[i].messages = chan_make_broadcast(struct message, (ptrdiff_t)backlog);
        check(topics[i].messages != NULL ? 0 : -ENOMEM, "a topic");
        topics[i].count = count;
        topics[i].backlog = backlog;
        routine_waitgroup_init(&topics[i].unconfirmed);
    }
    chan_t *night = chan_new(0, 0);
    check(night != NULL ? 0 : -ENOMEM, "a channel");

    /* A subscription begins where it is made: here, before the first message. */
    struct archive archive = {.topic = {weather, traffic},
                              .subscription = {subscribe(weather), subscribe(traffic)}};
    struct subscriber subscribers[] = {
        {.name = "board", .topic = weather, .subscription = subscribe(weather), .pause = pause},
        {.name = "night", .topic = traffic, .subscription = subscribe(traffic), .begin = night},
        {.name = "guest", .topic = traffic, .subscription = subscribe(traffic), .leaves = GUEST_READS}};
    enum { SUBSCRIBERS = sizeof subscribers / sizeof *subscribers };
    routine_t readers[SUBSCRIBERS];
    const routine_t archivist = started(go(read_both, &archive));
    for (int i = 0; i < SUBSCRIBERS; i++)
        readers[i] = go(read_topic, &subscribers[i]);

    const routine_t first = go(publish, weather);
    const routine_t second = go(publish, traffic);
    check(routine_join(first, NULL), "a publisher");
    check(routine_join(second, NULL), "a publisher");
    check(chan_close(night), "the night");
    check(routine_join(archivist, NULL), "the archive");
    for (int i = 0; i < SUBSCRIBERS; i++)
        check(routine_join(readers[i], NULL), "a subscriber");
    chan_unref(night);
    for (int i = 0; i < 2; i++)
        chan_unref(topics[i].messages);

    printf("published: %" PRIu64 " messages on each topic; a subscriber can be %" PRIu64 " behind\n", count,
           backlog);
    printf("who       topic    received  missed  gaps  last\n");
    for (int i = 0; i < 2; i++) {
        print_line("archive", &topics[i], &archive.seen[i]);
        if (archive.seen[i].received != count)
            wrong("archive", "it has not got everything");
    }
    for (int i = 0; i < SUBSCRIBERS; i++) {
        const struct subscriber *s = &subscribers[i];
        print_line(s->name, s->topic, &s->seen);
        if (s->leaves == 0 && s->seen.received + s->seen.missed != count)
            wrong(s->name, "received and missed are not all there were");
    }
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoul(text, &end, 10);
    return *end == '\0' && *number >= smallest && *number <= largest;
}

int main(int argc, char **argv)
{
    size_t count = 1000;
    size_t backlog = 16;
    size_t pause = 100;
    bool good = true;
    for (int c; good && (c = getopt(argc, argv, "n:b:p:")) != -1;) {
        if (c == 'n')
            good = parse_number(optarg, 0, 1000000000, &count);
        else if (c == 'b')
            good = parse_number(optarg, 1, 1000000, &backlog);
        else
            good = c == 'p' && parse_number(optarg, 0, 1000000, &pause);
    }
    if (!good || optind != argc) {
        fprintf(stderr,
                "usage: %s [-n messages] [-b backlog] [-p pause]\n"
                "  -n  messages on each topic, 0 to 1000000000 (default 1000)\n"
                "  -b  how many messages a subscriber can be behind, 1 to 1000000 (default 16)\n"
                "  -p  microseconds that the board takes for each message, 0 to 1000000 (default 100)\n",
                argv[0]);
        return 2;
    }
    run(count, backlog, (int64_t)pause * ROUTINE_US);
    return EXIT_SUCCESS;
}
