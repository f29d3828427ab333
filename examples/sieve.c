/* SPDX-License-Identifier: MIT
 *
 * sieve: prime numbers by a chain of routines and channels. The first routine sends 2, 3, 4 and so on; each
 * of the others holds back the multiples of one prime and lets the rest pass. So what comes
 * out at the end of the chain is the next prime, and the chain gets one routine longer by it.
 *
 *     generate ──▶ not by 2 ──▶ not by 3 ──▶ not by 5 ──▶ ... ──▶ main
 *
 *     ./sieve                        the first 100 primes
 *     ./sieve -l 2000                only the 2000th
 *     ./sieve -l 2000 64             the same with room for 64 numbers in each channel: a number sent costs
 *                                    less, but all run ahead and send more that nobody will ever want
 *
 * As a program to find primes it is absurd; as a load of messages it is a classic.
 *
 * How it ends is worth a look: main closes the last channel, though it is the one who receives. The
 * routine that sends to it finds that out by -EPIPE, closes the channel that it receives from, and so
 * on, up to the first. Nobody is left behind, and what was under way is freed with its channel.
 */
#include <errno.h>
#include <inttypes.h>
#include <routines.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_COUNT  100
#define LARGEST_COUNT  20000
#define LARGEST_BUFFER 1000000
#define COLUMNS        10

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "sieve: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

static chan_t *new_channel(size_t buffer)
{
    chan_t *ch = chan_make(uint32_t, (ptrdiff_t)buffer);
    check(ch != NULL ? 0 : -ENOMEM, "a channel");
    return ch;
}

/* A routine must run, or nothing comes out of the chain: so don't wait for the join to tell. */
static routine_t started(routine_t h)
{
    check(routine_error(h), "a routine");
    return h;
}

/* A part of the chain. The references to its channels are the routine's own. */
struct link {
    chan_t *in; /* NULL: the first one, which makes the numbers */
    chan_t *out;
    uint32_t prime;
};

/* Sends 2, 3, 4 ... until nobody wants any more. The result of this and the next: how many were sent. */
static void *generate(void *arg)
{
    const struct link *link = arg;
    uint32_t n = 2;
    int rc;
    while ((rc = chan_send(link->out, &n)) == 0)
        n++;
    check(rc == -EPIPE ? 0 : rc, "sending");
    chan_unref(link->out);
    return (void *)(uintptr_t)(n - 2);
}

static void *hold_back_multiples(void *arg)
{
    const struct link *link = arg;
    uintptr_t sent = 0;
    uint32_t n;
    int rc;
    while ((rc = chan_recv(link->in, &n)) == 0) {
        if (n % link->prime == 0)
            continue;
        if ((rc = chan_send(link->out, &n)) != 0)
            break;
        sent++;
    }
    check(rc == -EPIPE ? 0 : rc, "passing on");
    chan_close(link->in);
    chan_unref(link->in);
    chan_unref(link->out);
    return (void *)sent;
}

static void print_prime(uint32_t prime, size_t i, size_t count)
{
    printf("%7" PRIu32 "%s", prime, i % COLUMNS == COLUMNS - 1 || i == count - 1 ? "\n" : " ");
}

static void print_primes(size_t count, size_t buffer, bool last_only)
{
    routine_t *chain = malloc(count * sizeof *chain);
    check(chain != NULL ? 0 : -ENOMEM, "the chain");
    const int64_t begun = routine_now();

    chan_t *end = new_channel(buffer);
    chain[0] = started(go_copy(generate, ((struct link){.out = chan_ref(end)})));
    for (size_t i = 0;; i++) {
        uint32_t prime = 0;
        check(chan_recv(end, &prime), "receiving");
        if (!last_only)
            print_prime(prime, i, count);
        else if (i == count - 1)
            printf("%" PRIu32 "\n", prime);
        if (i == count - 1)
            break;
        chan_t *next = new_channel(buffer);
        chain[i + 1] = started(
            go_copy(hold_back_multiples, ((struct link){.in = end, .out = chan_ref(next), .prime = prime})));
        end = next; /* the reference to the old one was passed on */
    }
    check(chan_close(end), "closing");
    chan_unref(end);

    uint64_t sent = 0;
    for (size_t i = 0; i < count; i++) {
        void *result = NULL;
        check(routine_join(chain[i], &result), "a routine");
        sent += (uintptr_t)result;
    }
    const double seconds = (double)(routine_now() - begun) / (double)ROUTINE_S;
    free(chain);

    const size_t workers = routine_runtime_workers(routine_runtime_default());
    printf("\nnumbers sent  %" PRIu64 ", along a chain of %zu routine%s\n", sent, count,
           count == 1 ? "" : "s");
    printf("time          %.3f s with %zu worker%s, %.1f ns per number sent\n", seconds, workers,
           workers == 1 ? "" : "s", seconds * 1e9 / (double)sent);
}

static bool parse_number(const char *text, size_t smallest, size_t largest, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoul(text, &end, 10);
    return *end == '\0' && *number >= smallest && *number <= largest;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [-l] [count [buffer]]\n"
            "  -l      print the last prime only\n"
            "  count   how many primes, 1 to %d (default %d)\n"
            "  buffer  numbers that each channel has room for, up to %d (default 0: a rendezvous)\n",
            program, LARGEST_COUNT, DEFAULT_COUNT, LARGEST_BUFFER);
    return 2;
}

int main(int argc, char **argv)
{
    size_t count = DEFAULT_COUNT;
    size_t buffer = 0;
    bool last_only = false;
    for (int c; (c = getopt(argc, argv, "l")) != -1;) {
        if (c != 'l')
            return usage(argv[0]);
        last_only = true;
    }
    argv += optind;
    argc -= optind;
    if (argc > 2 || (argc > 0 && !parse_number(argv[0], 1, LARGEST_COUNT, &count)) ||
        (argc > 1 && !parse_number(argv[1], 0, LARGEST_BUFFER, &buffer)))
        return usage(argv[-optind]);
    print_primes(count, buffer, last_only);
    return EXIT_SUCCESS;
}
