/* SPDX-License-Identifier: MIT
 *
 * Tests of signals that are delivered to channels (signal.h): every signal that can be caught, every way to
 * send one; several channels and several signals; what is dropped; the former actions, which come back; that
 * nothing is sent after the end of a notification; arguments; forked children; and storms of signals, over
 * routines that run, block and switch, and over notifications that begin and end.
 *
 * Routines run on threads that block nearly all signals: so what is sent to this process is taken by the
 * plain threads of the test. ThreadSanitizer puts a handler off until the thread calls something that it
 * knows to block: so there plain threads wait by looking again and again.
 *
 * ctest: workers
 * ctest: timeout 180
 */
#include "chan_support.h"

#include "routines/signal.h"
#include "routines/sync.h"

#include <sys/syscall.h>
#include <sys/time.h>

/* Waits, at rest, for what others will do. */
#define AWAIT(condition)                                                                                     \
    while (!(condition))                                                                                     \
    rest()

#define NOTIFY(signo, ch)      CHECK_EQ(routine_signal_notify((signo), (ch)), 0)
#define STOP(signo, ch)        CHECK_EQ(routine_signal_stop((signo), (ch)), 0)
#define HEARS(ch, signo)       check_hears(__LINE__, (ch), (signo))
#define HEARS_NOTHING(ch)      CHECK_EQ(chan_len(ch), 0)
#define ACTS_AS(signo, before) CHECK(same_action((signo), (before)))

static bool takes_signals(void)
{
    return routine_runtime_current() == NULL;
}

static void rest(void)
{
    if (takes_signals())
        usleep(50);
    else
        CHECK_EQ(routine_sleep(50 * ROUTINE_US), 0);
}

static void send_to_process(int signo)
{
    CHECK_EQ(kill(getpid(), signo), 0);
}

/* The join of a plain thread that takes signals meanwhile. */
static void join_taking(routine_t h)
{
    int rc = -EAGAIN;
    if (SUPPORT_TSAN && takes_signals())
        AWAIT((rc = routine_try_join(h, NULL)) != -EAGAIN);
    else
        rc = routine_join(h, NULL);
    CHECK_EQ(rc, 0);
}

static void act_end_taking(struct actor a)
{
    if (a.is_thread)
        act_end(a);
    else
        join_taking(a.routine);
}

static void in_routine(routine_fn *fn, void *arg)
{
    join_taking(go(fn, arg));
}

/* Waits for the next signal, which is to be this one. */
static void check_hears(int line, chan_t *ch, int signo)
{
    int got = -1, rc = -EAGAIN;
    if (SUPPORT_TSAN && takes_signals())
        AWAIT((rc = chan_try_recv(ch, &got)) != -EAGAIN);
    else
        rc = chan_recv(ch, &got);
    if (rc != 0 || got != signo)
        support_fail(__FILE__, line, "received %d (%d), not %d", got, rc, signo);
}

static struct sigaction action_of(int signo)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    CHECK_EQ(sigaction(signo, NULL, &action), 0);
    return action;
}

static bool same_action(int signo, struct sigaction before)
{
    /* the C library adds a flag of its own to what has been set once */
    static const int flags =
        SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | (int)SA_RESETHAND;
    const struct sigaction now = action_of(signo);
    if (SUPPORT_TSAN) /* which shows flags and masks of its own */
        return now.sa_handler == before.sa_handler;
    bool same = now.sa_handler == before.sa_handler && (now.sa_flags & flags) == (before.sa_flags & flags);
    for (int s = 1; s < 32; s++)
        same = same && sigismember(&now.sa_mask, s) == sigismember(&before.sa_mask, s);
    return same;
}

/* Of the signals in the tests of many rounds, those that come between two notifications are nobody's. */
static struct sigaction ignore(int signo)
{
    struct sigaction action = {.sa_handler = SIG_IGN}, before;
    CHECK_EQ(sigaction(signo, &action, &before), 0);
    return before;
}

static void restore(int signo, struct sigaction before)
{
    CHECK_EQ(sigaction(signo, &before, NULL), 0);
}

static void spin_until(int64_t at)
{
    while (routine_now() < at)
        ;
}

/* ---- arguments ---- */

TEST_EVERYWHERE(arguments)
{
    static const int wrong[] = {INT32_MIN, -SIGTERM, -1,      0,       65,     66,     128,    256 + SIGTERM,
                                INT32_MAX, SIGKILL,  SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    static const size_t sizes[] = {0, 1, 2, 3, 8, 64};
    chan_t *ch = MAKE(int, 1), *other = MAKE(int, 1);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        CHECK_EQ(routine_signal_notify(wrong[i], ch), -EINVAL);
        CHECK_EQ(routine_signal_notify(wrong[i], NULL), -EINVAL);
        CHECK_EQ(routine_signal_stop(wrong[i], ch), -EINVAL);
    }
    for (int signo = 32; signo < SIGRTMIN; signo++) /* the C library's */
        CHECK_EQ(routine_signal_notify(signo, ch), -EINVAL);
    CHECK_EQ(routine_signal_notify(SIGTERM, NULL), -EINVAL);
    CHECK_EQ(routine_signal_stop(SIGTERM, NULL), -EINVAL);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        chan_t *odd = NEW(sizes[i], 1);
        CHECK_EQ(routine_signal_notify(SIGTERM, odd), -EINVAL);
        chan_unref(odd); /* the only reference: the sanitizer would see another */
    }
    CHECK_EQ(routine_signal_stop(SIGTERM, ch), -ENOENT);
    NOTIFY(SIGTERM, ch);
    CHECK_EQ(routine_signal_notify(SIGTERM, ch), -EALREADY);
    CHECK_EQ(routine_signal_stop(SIGTERM, other), -ENOENT);
    CHECK_EQ(routine_signal_stop(SIGHUP, ch), -ENOENT);
    NOTIFY(SIGHUP, ch);
    CHECK_EQ(routine_signal_notify(SIGHUP, ch), -EALREADY);
    STOP(SIGTERM, ch);
    CHECK_EQ(routine_signal_stop(SIGTERM, ch), -ENOENT);
    CHECK_EQ(routine_signal_notify(SIGHUP, ch), -EALREADY);
    STOP(SIGHUP, ch);
    CHECK_EQ(routine_signal_stop(SIGHUP, ch), -ENOENT);
    HEARS_NOTHING(ch);
    chan_unref(ch);
    chan_unref(other);
}

/* A call that fails changes no action. */
TEST(errors_change_nothing)
{
    const struct sigaction before = action_of(SIGUSR1);
    chan_t *odd = MAKE(char, 1), *ch = MAKE(int, 1);
    CHECK_EQ(routine_signal_notify(SIGUSR1, odd), -EINVAL);
    CHECK_EQ(routine_signal_notify(SIGUSR1, NULL), -EINVAL);
    CHECK_EQ(routine_signal_stop(SIGUSR1, ch), -ENOENT);
    ACTS_AS(SIGUSR1, before);
    chan_unref(odd);
    chan_unref(ch);
}

/* ---- which, and how ---- */

static void each_signal(int signo)
{
    const struct sigaction before = action_of(signo);
    chan_t *ch = MAKE(int, 4);
    NOTIFY(signo, ch);
    for (int i = 0; i < 5; i++) {
        send_to_process(signo);
        HEARS(ch, signo);
    }
    STOP(signo, ch);
    HEARS_NOTHING(ch);
    ACTS_AS(signo, before);
    chan_unref(ch);
}

TEST(all_that_can_be_caught)
{
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        static const int left_out[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
        bool left = signo >= 32 && signo < SIGRTMIN;
        for (size_t i = 0; i < COUNT_OF(left_out); i++)
            left = left || signo == left_out[i];
        if (!left)
            each_signal(signo);
    }
}

struct target {
    _Atomic int ready, over;
};

static void *be_a_target(void *arg)
{
    struct target *t = arg;
    atomic_store(&t->ready, 1);
    while (!atomic_load(&t->over))
        usleep(1000);
    return NULL;
}

static void *be_a_blocked_target(void *arg)
{
    chan_t *ch = arg;
    int x, rc = -EAGAIN;
    if (SUPPORT_TSAN)
        AWAIT((rc = chan_try_recv(ch, &x)) != -EAGAIN);
    else
        rc = chan_recv(ch, &x); /* not ended by any signal */
    CHECK_EQ(rc, -EPIPE);
    return NULL;
}

static void *send_from_here(void *arg)
{
    send_to_process(SIGUSR1);
    return arg;
}

TEST(however_it_is_sent)
{
    chan_t *ch = MAKE(int, 4), *never = MAKE(int, 0);
    struct target t = {0};
    const pthread_t thread = support_thread(be_a_target, &t),
                    blocked = support_thread(be_a_blocked_target, never);
    AWAIT(atomic_load(&t.ready));
    NOTIFY(SIGUSR1, ch);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(raise(SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        send_to_process(SIGUSR1);
        HEARS(ch, SIGUSR1);
        CHECK_EQ(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = i}), 0);
        HEARS(ch, SIGUSR1);
        CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        CHECK_EQ(pthread_kill(blocked, SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        in_routine(send_from_here, NULL);
        HEARS(ch, SIGUSR1);
        pthread_join(support_thread(send_from_here, NULL), NULL);
        HEARS(ch, SIGUSR1);
    }
    STOP(SIGUSR1, ch);
    HEARS_NOTHING(ch);
    atomic_store(&t.over, 1);
    CHECK_EQ(chan_close(never), 0);
    pthread_join(thread, NULL);
    pthread_join(blocked, NULL);
    chan_unref(ch);
    chan_unref(never);
}

/* Of the kernel's own. */
TEST(from_the_kernel)
{
    chan_t *ch = MAKE(int, 4);
    NOTIFY(SIGALRM, ch);
    alarm(0);
    const struct itimerval soon = {.it_value = {0, 2000}};
    CHECK_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
    HEARS(ch, SIGALRM);
    STOP(SIGALRM, ch);

    NOTIFY(SIGPIPE, ch);
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    CHECK_EQ(write(ends[1], "x", 1), -1);
    CHECK_EQ(errno, EPIPE);
    close(ends[1]);
    HEARS(ch, SIGPIPE);
    STOP(SIGPIPE, ch);

    NOTIFY(SIGCHLD, ch);
    for (int i = 0; i < 5; i++) {
        const pid_t pid = fork();
        if (pid == 0)
            _exit(7);
        HEARS(ch, SIGCHLD);
        int status = -1;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    STOP(SIGCHLD, ch);
    HEARS_NOTHING(ch);
    chan_unref(ch);
}

/* A signal that everybody blocks is not lost. */
TEST(blocked)
{
    chan_t *ch = MAKE(int, 4);
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    NOTIFY(SIGUSR1, ch);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, &before), 0);
    send_to_process(SIGUSR1);
    send_to_process(SIGUSR1); /* one of two that wait is told */
    CHECK_EQ(routine_sleep(2 * ROUTINE_MS), 0);
    HEARS_NOTHING(ch);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    HEARS(ch, SIGUSR1);
    send_to_process(SIGUSR1);
    HEARS(ch, SIGUSR1);
    HEARS_NOTHING(ch);
    STOP(SIGUSR1, ch);
    chan_unref(ch);
}

/* ---- several ---- */

TEST(several_channels)
{
    const struct sigaction before = action_of(SIGUSR2);
    chan_t *ch[4];
    for (size_t i = 0; i < COUNT_OF(ch); i++) {
        ch[i] = MAKE(int, (ptrdiff_t)(i + 1));
        NOTIFY(SIGUSR2, ch[i]);
        send_to_process(SIGUSR2);
        for (size_t k = 0; k <= i; k++)
            HEARS(ch[k], SIGUSR2);
    }
    static const size_t order[] = {1, 3, 0, 2}; /* from the middle, the end, the beginning */
    for (size_t i = 0; i < COUNT_OF(ch); i++) {
        CHECK(!same_action(SIGUSR2, before));
        STOP(SIGUSR2, ch[order[i]]);
        if (i + 1 < COUNT_OF(ch))
            send_to_process(SIGUSR2);
        for (size_t k = i + 1; k < COUNT_OF(ch); k++)
            HEARS(ch[order[k]], SIGUSR2);
        for (size_t k = 0; k <= i; k++)
            HEARS_NOTHING(ch[order[k]]);
    }
    ACTS_AS(SIGUSR2, before);
    for (size_t i = 0; i < COUNT_OF(ch); i++)
        chan_unref(ch[i]);
}

TEST(several_signals)
{
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGINT, SIGTERM, SIGCHLD};
    enum { N = COUNT_OF(signals) };
    chan_t *ch = MAKE(int, 2 * N);
    for (size_t i = 0; i < N; i++)
        NOTIFY(signals[i], ch);
    for (int round = 0; round < 50; round++) {
        int seen[N] = {0};
        for (size_t i = 0; i < N; i++)
            send_to_process(signals[i]);
        for (size_t i = 0; i < N; i++) {
            int signo = 0;
            CHECK_EQ(chan_recv(ch, &signo), 0);
            for (size_t k = 0; k < N; k++)
                seen[k] += signals[k] == signo;
        }
        for (size_t k = 0; k < N; k++)
            CHECK_EQ(seen[k], 1);
        HEARS_NOTHING(ch);
    }
    for (size_t i = 0; i < N; i++) { /* the others stay */
        STOP(signals[i], ch);
        for (size_t k = i + 1; k < N; k++) {
            send_to_process(signals[k]);
            HEARS(ch, signals[k]);
        }
    }
    chan_unref(ch);
}

/* One signal wakes all who wait for it, wherever they wait. */
struct listener {
    chan_t *ch;
    _Atomic long *heard;
    int kind;
};

static void *listen(void *arg)
{
    struct listener *l = arg;
    int signo = 0, other;
    if (l->kind % 3 == 0) {
        CHECK_EQ(chan_recv(l->ch, &signo), 0);
    } else if (l->kind % 3 == 1) {
        chan_t *never = MAKE(int, 0);
        CHECK_EQ(
            chan_select(CHAN_RECV(never, &other), CHAN_RECV(l->ch, &signo), CHAN_TIMEOUT(3600 * ROUTINE_S)),
            1);
        chan_unref(never);
    } else {
        routine_with_timeout(3600 * ROUTINE_S);
        CHECK_EQ(chan_recv(l->ch, &signo), 0);
    }
    CHECK_EQ(signo, SIGUSR1);
    atomic_fetch_add(l->heard, 1);
    return NULL;
}

TEST(all_who_wait)
{
    enum { N = 60 };
    struct listener l[N];
    struct actor actors[N];
    for (int round = 0; round < 5; round++) {
        _Atomic long heard = 0;
        for (int i = 0; i < N; i++) {
            l[i] = (struct listener){MAKE(int, 1), &heard, i};
            NOTIFY(SIGUSR1, l[i].ch);
            actors[i] = act(i % 10 == 9, listen, &l[i]);
        }
        if (round % 2)
            usleep(2000);
        send_to_process(SIGUSR1);
        for (int i = 0; i < N; i++)
            act_end_taking(actors[i]);
        CHECK_EQ(atomic_load(&heard), N);
        for (int i = 0; i < N; i++) {
            STOP(SIGUSR1, l[i].ch);
            HEARS_NOTHING(l[i].ch);
            chan_unref(l[i].ch);
        }
    }
}

/* ---- what is dropped ---- */

TEST(a_full_channel_drops)
{
    chan_t *one = MAKE(int, 1), *three = MAKE(int, 3), *none = MAKE(int, 0), *closed = MAKE(int, 8),
           *all = MAKE(int, CHAN_UNBOUNDED), *good = MAKE(int, 1);
    chan_t *const every[] = {one, three, none, closed, all, good};
    for (size_t i = 0; i < COUNT_OF(every); i++)
        NOTIFY(SIGUSR1, every[i]);
    CHECK_EQ(chan_close(closed), 0);
    for (int i = 0; i < 20; i++) { /* the last one hears it: so all are done */
        send_to_process(SIGUSR1);
        HEARS(good, SIGUSR1);
    }
    CHECK_EQ(chan_len(one), 1);
    CHECK_EQ(chan_len(three), 3);
    CHECK_EQ(chan_len(none), 0);
    CHECK_EQ(chan_len(closed), 0);
    CHECK_EQ(chan_len(all), 20);
    HEARS(one, SIGUSR1);
    send_to_process(SIGUSR1);
    HEARS(good, SIGUSR1);
    CHECK_EQ(chan_len(one), 1);
    for (size_t i = 0; i < COUNT_OF(every); i++) {
        STOP(SIGUSR1, every[i]);
        chan_unref(every[i]);
    }
}

/* Without a buffer it is dropped but while somebody waits: so not in every round. */
static void *send_until_told(void *arg)
{
    while (!atomic_load((_Atomic int *)arg)) {
        send_to_process(SIGUSR1);
        usleep(50);
    }
    return NULL;
}

static void *hear_a_hundred(void *arg)
{
    for (int i = 0; i < 100; i++)
        HEARS((chan_t *)arg, SIGUSR1);
    return NULL;
}

TEST(a_rendezvous)
{
    chan_t *ch = MAKE(int, 0);
    _Atomic int over = 0;
    NOTIFY(SIGUSR1, ch);
    const pthread_t sender = support_thread(send_until_told, (void *)&over);
    in_routine(hear_a_hundred, ch);
    atomic_store(&over, 1);
    pthread_join(sender, NULL);
    STOP(SIGUSR1, ch);
    chan_unref(ch);
}

/* The notification's own reference, and no other, keeps the channel. */
TEST(the_channel_is_kept)
{
    chan_t *good = MAKE(int, 1);
    for (int i = 0; i < 20; i++) {
        chan_t *ch = MAKE(int, i % 3);
        NOTIFY(SIGUSR1, ch);
        NOTIFY(SIGUSR2, ch);
        chan_unref(ch);
        NOTIFY(SIGUSR1, good);
        send_to_process(SIGUSR1);
        send_to_process(SIGUSR2);
        HEARS(good, SIGUSR1);
        STOP(SIGUSR1, good);
        STOP(SIGUSR1, ch);
        if (i % 3 > 0)
            AWAIT(chan_len(ch) > 0);
        STOP(SIGUSR2, ch);
    }
    chan_unref(good);
}

/* ---- the former action ---- */

static _Atomic long handled;
static _Atomic int handled_value;

static void own_handler(int signo)
{
    (void)signo;
    atomic_fetch_add(&handled, 1);
}

static void own_action(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    atomic_store(&handled_value, info->si_value.sival_int);
    atomic_fetch_add(&handled, 1);
}

TEST(an_own_handler_comes_back)
{
    struct sigaction own = {.sa_handler = own_handler, .sa_flags = SA_RESTART}, first;
    sigaddset(&own.sa_mask, SIGUSR2);
    sigaddset(&own.sa_mask, SIGWINCH);
    CHECK_EQ(sigaction(SIGUSR1, &own, &first), 0);
    const struct sigaction before = action_of(SIGUSR1);
    chan_t *ch = MAKE(int, 4), *other = MAKE(int, 4);
    atomic_store(&handled, 0);
    for (int i = 0; i < 10; i++) {
        NOTIFY(SIGUSR1, ch);
        NOTIFY(SIGUSR1, other);
        CHECK_EQ(raise(SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        HEARS(other, SIGUSR1);
        CHECK_EQ(atomic_load(&handled), i);
        STOP(SIGUSR1, other);
        CHECK_EQ(raise(SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        CHECK_EQ(atomic_load(&handled), i);
        STOP(SIGUSR1, ch);
        ACTS_AS(SIGUSR1, before);
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(atomic_load(&handled), i + 1);
        HEARS_NOTHING(ch);
    }
    chan_unref(ch);
    chan_unref(other);
    restore(SIGUSR1, first);
}

TEST(with_its_flags)
{
    struct sigaction own = {.sa_sigaction = own_action, .sa_flags = SA_SIGINFO | SA_NODEFER}, first;
    CHECK_EQ(sigaction(SIGUSR1, &own, &first), 0);
    const struct sigaction before = action_of(SIGUSR1);
    chan_t *ch = MAKE(int, 4);
    atomic_store(&handled, 0);
    NOTIFY(SIGUSR1, ch);
    CHECK_EQ(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 11}), 0);
    HEARS(ch, SIGUSR1);
    STOP(SIGUSR1, ch);
    ACTS_AS(SIGUSR1, before);
    CHECK_EQ(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 22}), 0);
    CHECK_EQ(atomic_load(&handled), 1);
    CHECK_EQ(atomic_load(&handled_value), 22);
    chan_unref(ch);
    restore(SIGUSR1, first);
}

TEST(ignored_again)
{
    const struct sigaction first = ignore(SIGTERM), before = action_of(SIGTERM);
    chan_t *ch = MAKE(int, 4);
    for (int i = 0; i < 10; i++) {
        NOTIFY(SIGTERM, ch);
        send_to_process(SIGTERM);
        HEARS(ch, SIGTERM);
        STOP(SIGTERM, ch);
        ACTS_AS(SIGTERM, before);
        send_to_process(SIGTERM);
        HEARS_NOTHING(ch);
    }
    chan_unref(ch);
    restore(SIGTERM, first);
}

/* ---- the end of a notification ---- */

struct sender {
    int signo;
    _Atomic int over;
    int pause; /* in microseconds */
};

static void *send_in_a_row(void *arg)
{
    struct sender *s = arg;
    for (long i = 0; !atomic_load(&s->over); i++) {
        if (i % 2)
            CHECK_EQ(raise(s->signo), 0);
        else
            send_to_process(s->signo);
        if (s->pause && i % 8 == 0)
            usleep((useconds_t)s->pause);
    }
    return NULL;
}

/* Once it has ended nothing more comes, however many are under way. */
TEST(nothing_after_the_end)
{
    const struct sigaction first = ignore(SIGUSR1);
    struct sender s = {.signo = SIGUSR1, .pause = 10};
    const pthread_t sender = support_thread(send_in_a_row, &s);
    chan_t *ch = MAKE(int, CHAN_UNBOUNDED), *also = MAKE(int, 1);
    long most = 0;
    for (long i = 0, n = support_scale(5000); i < n; i++) {
        NOTIFY(SIGUSR1, ch);
        if (i % 3 == 0)
            NOTIFY(SIGUSR1, also); /* so that it goes on for somebody */
        if (i % 4 == 0)
            HEARS(ch, SIGUSR1);
        else
            spin_until(routine_now() + i % 16 * ROUTINE_US);
        STOP(SIGUSR1, ch);
        const ptrdiff_t len = chan_len(ch);
        spin_until(routine_now() + 5 * ROUTINE_US);
        CHECK_EQ(chan_len(ch), len);
        if (i % 64 == 0) {
            usleep(200);
            CHECK_EQ(chan_len(ch), len);
        }
        if (i % 3 == 0)
            STOP(SIGUSR1, also);
        most = len > most ? len : most;
        while (chan_try_recv(ch, NULL) == 0)
            ;
    }
    CHECK(most > 0);
    atomic_store(&s.over, 1);
    pthread_join(sender, NULL);
    CHECK(action_of(SIGUSR1).sa_handler == SIG_IGN);
    chan_unref(ch);
    chan_unref(also);
    restore(SIGUSR1, first);
}

/* What the channel did not get because its notification had ended is not made up for when there is one again.
 */
TEST(nothing_from_before)
{
    const struct sigaction first = ignore(SIGUSR1);
    chan_t *ch = MAKE(int, 4);
    for (long i = 0, n = support_scale(10000); i < n; i++) {
        NOTIFY(SIGUSR1, ch);
        CHECK_EQ(raise(SIGUSR1), 0); /* the handler has run when it returns */
        spin_until(routine_now() + i % 32 * ROUTINE_US / 4);
        STOP(SIGUSR1, ch);
        while (chan_try_recv(ch, NULL) == 0)
            ;
        NOTIFY(SIGUSR1, ch);
        spin_until(routine_now() + (i % 64 ? 5 : 100) * ROUTINE_US);
        HEARS_NOTHING(ch);
        STOP(SIGUSR1, ch);
        while (chan_try_recv(ch, NULL) == 0)
            ;
    }
    chan_unref(ch);
    restore(SIGUSR1, first);
}

/* ---- none is lost ---- */

/* Each one is told when the one before has been received: whoever else sends what. */
struct lockstep {
    int signo;
    long rounds;
};

static void *in_lockstep(void *arg)
{
    const struct lockstep *l = arg;
    chan_t *ch = MAKE(int, 2);
    NOTIFY(l->signo, ch);
    for (long i = 0; i < l->rounds; i++) {
        send_to_process(l->signo);
        HEARS(ch, l->signo);
        HEARS_NOTHING(ch);
    }
    STOP(l->signo, ch);
    chan_unref(ch);
    return NULL;
}

TEST(none_is_lost)
{
    struct lockstep l[6];
    struct actor actors[COUNT_OF(l)];
    l[0] = (struct lockstep){SIGUSR1, support_scale(10000)};
    (void)in_lockstep(&l[0]);
    in_routine(in_lockstep, &l[0]);
    for (size_t i = 0; i < COUNT_OF(l); i++) {
        l[i] = (struct lockstep){i % 2 ? SIGRTMIN + (int)i : (int[]){SIGUSR1, SIGHUP, SIGTERM}[i / 2],
                                 support_scale(3000)};
        actors[i] = act(i < 2, in_lockstep, &l[i]);
    }
    for (size_t i = 0; i < COUNT_OF(l); i++)
        act_end_taking(actors[i]);
}

/* A burst may be told as one, but not as none, and its end not before its end. */
TEST(a_burst)
{
    chan_t *ch = MAKE(int, CHAN_UNBOUNDED);
    NOTIFY(SIGUSR1, ch);
    for (long i = 0, n = support_scale(500); i < n; i++) {
        const int burst = 1 + (int)(i % 40);
        for (int k = 0; k < burst; k++)
            CHECK_EQ(raise(SIGUSR1), 0);
        HEARS(ch, SIGUSR1);
        if (i % 50 == 0)
            usleep(500);
        CHECK(chan_len(ch) < burst);
        STOP(SIGUSR1, ch);
        while (chan_try_recv(ch, NULL) == 0)
            ;
        NOTIFY(SIGUSR1, ch);
    }
    STOP(SIGUSR1, ch);
    chan_unref(ch);
}

/* ---- storms ---- */

/* Routines that run, wait for each other in all ways, sleep and compute, and do not notice. */
struct work {
    chan_t *ping, *pong;
    routine_mutex_t mutex;
    routine_sem_t sem;
    long guarded, rounds;
};

static void *play(void *arg)
{
    struct work *w = arg;
    long x = 0;
    while (chan_recv(w->ping, &x) == 0) {
        x++;
        CHECK_EQ(chan_send(w->pong, &x), 0);
    }
    return NULL;
}

static void *serve(void *arg)
{
    struct work *w = arg;
    for (long i = 0; i < w->rounds; i++) {
        long x = i, y = 0;
        CHECK_EQ(chan_send(w->ping, &x), 0);
        CHECK_EQ(chan_recv(w->pong, &y), 0);
        CHECK_EQ(y, i + 1);
    }
    CHECK_EQ(chan_close(w->ping), 0);
    return NULL;
}

static void *lock_and_sleep(void *arg)
{
    struct work *w = arg;
    for (long i = 0; i < w->rounds / 4; i++) {
        CHECK_EQ(routine_mutex_lock(&w->mutex), 0);
        const long before = w->guarded;
        if (i % 16 == 0)
            routine_yield();
        w->guarded = before + 1;
        CHECK_EQ(routine_mutex_unlock(&w->mutex), 0);
        if (i % 32 == 0) {
            const int64_t at = routine_now() + i % 7 * 20 * ROUTINE_US;
            CHECK_EQ(routine_sleep_until(at), 0);
            CHECK(routine_now() >= at);
        }
        CHECK_EQ(routine_sem_post(&w->sem), 0);
        CHECK_EQ(routine_sem_wait(&w->sem), 0);
    }
    return NULL;
}

static unsigned tree(unsigned depth);

static void *subtree(void *arg)
{
    return (void *)(uintptr_t)tree((unsigned)(uintptr_t)arg);
}

static unsigned tree(unsigned depth)
{
    void *left = NULL;
    if (depth == 0)
        return 1;
    const routine_t h = go(subtree, (void *)(uintptr_t)(depth - 1));
    const unsigned right = tree(depth - 1);
    CHECK_EQ(routine_join(h, &left), 0);
    return (unsigned)(uintptr_t)left + right;
}

static void *grow(void *arg)
{
    const struct work *w = arg;
    for (long i = 0; i < w->rounds / 200; i++)
        CHECK_EQ(tree(8), 256);
    return NULL;
}

static void *work(void *arg)
{
    struct work *w = arg;
    struct actor actors[10];
    actors[0] = act(false, play, w);
    actors[1] = act(true, serve, w);
    for (int i = 2; i < 10; i++)
        actors[i] = act(i % 5 == 4, i % 4 == 3 ? grow : lock_and_sleep, w);
    for (int i = 0; i < 10; i++)
        act_end_taking(actors[i]);
    CHECK_EQ(w->guarded, 6 * (w->rounds / 4));
    return NULL;
}

/* Sends one to each thread of the process, whatever it is doing. Threads of the library block all but a few
 * signals; those that profilers use they take. */
static void send_to_all_threads(int signo)
{
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.')
            (void)syscall(SYS_tgkill, getpid(), atoi(entry->d_name), signo); /* it may have ended */
    closedir(dir);
}

struct storm {
    _Atomic int over;
    chan_t *ch;
    _Atomic long sent, heard;
};

static void *send_a_storm(void *arg)
{
    struct storm *s = arg;
    for (long i = 0; !atomic_load(&s->over); i++) {
        send_to_process(i % 3 == 0 ? SIGUSR1 : i % 3 == 1 ? SIGCHLD : SIGPROF);
        if (i % 4 == 0)
            send_to_all_threads(SIGPROF);
        else if (i % 64 == 1)
            send_to_all_threads(SIGUSR1); /* stays pending where it is blocked, and is told elsewhere */
        atomic_fetch_add(&s->sent, 1);
        usleep((useconds_t)(i % 8) * 10);
    }
    return NULL;
}

static void *hear_a_storm(void *arg)
{
    struct storm *s = arg;
    for (int signo; chan_recv(s->ch, &signo) == 0;) {
        CHECK(signo == SIGUSR1 || signo == SIGCHLD || signo == SIGPROF);
        atomic_fetch_add(&s->heard, 1);
    }
    return NULL;
}

TEST(a_storm_over_routines)
{
    static const int signals[] = {SIGUSR1, SIGCHLD, SIGPROF};
    struct storm s = {.ch = MAKE(int, 16)};
    struct work w = {.ping = MAKE(long, 0), .pong = MAKE(long, 0), .rounds = support_scale(10000)};
    routine_mutex_init(&w.mutex);
    CHECK_EQ(routine_sem_init(&w.sem, 1), 0);
    struct sigaction before[COUNT_OF(signals)];
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        before[i] = action_of(signals[i]);
        NOTIFY(signals[i], s.ch);
    }
    const pthread_t sender = support_thread(send_a_storm, &s);
    const routine_t h = go(hear_a_storm, &s);
    in_routine(work, &w);
    AWAIT(atomic_load(&s.heard) > 20);
    atomic_store(&s.over, 1);
    pthread_join(sender, NULL);
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        ignore(signals[i]); /* drops what is still pending somewhere */
        STOP(signals[i], s.ch);
        ACTS_AS(signals[i], before[i]);
    }
    CHECK_EQ(chan_close(s.ch), 0);
    join_taking(h);
    chan_unref(s.ch);
    chan_unref(w.ping);
    chan_unref(w.pong);
}

/* Many begin and end, and signals come all the time. After its beginning everybody hears what it has sent
 * itself; after its end nobody hears anything. */
struct changing {
    _Atomic long begun;
    long rounds;
};

static void *begin_and_end(void *arg)
{
    struct changing *c = arg;
    uint64_t random = 0x5555 + (uint64_t)atomic_fetch_add(&c->begun, 7777);
    chan_t *ch = MAKE(int, 2);
    for (long i = 0; i < c->rounds; i++) {
        const int signo = support_random(&random) % 2 ? SIGUSR1 : SIGUSR2;
        NOTIFY(signo, ch);
        if (support_random(&random) % 2) {
            send_to_process(signo);
            HEARS(ch, signo);
        }
        CHECK_EQ(routine_signal_notify(signo, ch), -EALREADY);
        STOP(signo, ch);
        const ptrdiff_t len = chan_len(ch);
        if (support_random(&random) % 2)
            routine_yield();
        CHECK_EQ(chan_len(ch), len);
        CHECK_EQ(routine_signal_stop(signo, ch), -ENOENT);
        while (chan_try_recv(ch, NULL) == 0)
            ;
    }
    chan_unref(ch);
    return NULL;
}

TEST(beginnings_and_ends_against_signals)
{
    const struct sigaction first1 = ignore(SIGUSR1), first2 = ignore(SIGUSR2);
    struct sender s[2] = {{.signo = SIGUSR1, .pause = 50}, {.signo = SIGUSR2, .pause = 30}};
    struct changing c = {.rounds = support_scale(2000)};
    struct actor actors[6];
    pthread_t senders[2];
    for (int i = 0; i < 2; i++)
        senders[i] = support_thread(send_in_a_row, &s[i]);
    for (int i = 0; i < 6; i++)
        actors[i] = act(i % 2, begin_and_end, &c);
    for (int i = 0; i < 6; i++)
        act_end_taking(actors[i]);
    for (int i = 0; i < 2; i++) {
        atomic_store(&s[i].over, 1);
        pthread_join(senders[i], NULL);
    }
    CHECK(action_of(SIGUSR1).sa_handler == SIG_IGN);
    CHECK(action_of(SIGUSR2).sa_handler == SIG_IGN);
    restore(SIGUSR1, first1);
    restore(SIGUSR2, first2);
}

/* ---- errno, which a handler must leave alone ---- */

TEST(errno_is_left_alone)
{
    chan_t *ch = MAKE(int, 4);
    NOTIFY(SIGUSR1, ch);
    for (int i = 0; i < 200; i++) {
        errno = 12345;
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(errno, 12345);
        HEARS(ch, SIGUSR1);
    }
    STOP(SIGUSR1, ch);
    chan_unref(ch);
}

/* ---- forked children ---- */

enum child { DIES, HANDLES, IGNORES, NOTIFIES, CHILDREN };

static void be_the_child(enum child kind)
{
    atomic_store(&support_failures, 0);
    alarm(support_slow() ? 60 : 15); /* a child that hangs dies of it */
    sigset_t none;
    sigemptyset(&none); /* forked by a routine it has the mask of the library's thread */
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &none, NULL), 0);
    CHECK(action_of(SIGTERM).sa_handler == SIG_DFL);
    CHECK(action_of(SIGUSR1).sa_handler == own_handler);
    CHECK(action_of(SIGHUP).sa_handler == SIG_IGN);
    switch (kind) {
    case DIES:
        if (atomic_load(&support_failures) == 0)
            (void)raise(SIGTERM);
        break;
    case HANDLES:
        atomic_store(&handled, 0);
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(atomic_load(&handled), 1);
        break;
    case IGNORES:
        CHECK_EQ(raise(SIGHUP), 0);
        break;
    default: {
        chan_t *ch = MAKE(int, 4);
        for (int i = 0; i < 3; i++) {
            NOTIFY(SIGTERM, ch);
            NOTIFY(SIGUSR1, ch);
            send_to_process(SIGTERM);
            HEARS(ch, SIGTERM);
            send_to_process(SIGUSR1);
            HEARS(ch, SIGUSR1);
            STOP(SIGTERM, ch);
            STOP(SIGUSR1, ch);
            CHECK_EQ(routine_signal_stop(SIGTERM, ch), -ENOENT);
        }
        CHECK(action_of(SIGTERM).sa_handler == SIG_DFL);
        CHECK(action_of(SIGUSR1).sa_handler == own_handler);
        chan_unref(ch);
        break;
    }
    }
    _exit(atomic_load(&support_failures) != 0);
}

static void fork_a_child(enum child kind)
{
    const pid_t pid = fork();
    if (pid == 0)
        be_the_child(kind);
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (kind == DIES ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM
                     : !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        support_fail(__FILE__, __LINE__, "the forked child %d ended with status %#x", (int)kind,
                     (unsigned)status);
}

static void *fork_children(void *arg)
{
    for (int i = 0; i < CHILDREN; i++)
        fork_a_child((enum child)i);
    return arg;
}

struct family {
    struct sigaction usr1, hup;
    chan_t *ch;
};

static struct family family_begin(void)
{
    struct sigaction own = {.sa_handler = own_handler};
    struct family f = {.hup = ignore(SIGHUP), .ch = MAKE(int, 4)};
    CHECK_EQ(sigaction(SIGUSR1, &own, &f.usr1), 0);
    CHECK(action_of(SIGTERM).sa_handler == SIG_DFL);
    NOTIFY(SIGTERM, f.ch);
    NOTIFY(SIGUSR1, f.ch);
    NOTIFY(SIGHUP, f.ch);
    return f;
}

static void family_end(struct family f)
{
    STOP(SIGTERM, f.ch);
    STOP(SIGUSR1, f.ch);
    STOP(SIGHUP, f.ch);
    restore(SIGUSR1, f.usr1);
    restore(SIGHUP, f.hup);
    chan_unref(f.ch);
}

/* In the child the actions are those of before; the parent does not notice. */
TEST(a_forked_child_has_the_former_actions)
{
    struct family f = family_begin();
    for (int i = 0; i < 3; i++) {
        (void)fork_children(NULL);
        in_routine(fork_children, NULL);
        pthread_join(support_thread(fork_children, NULL), NULL);
        HEARS_NOTHING(f.ch);
        send_to_process(SIGTERM);
        HEARS(f.ch, SIGTERM);
        send_to_process(SIGHUP);
        HEARS(f.ch, SIGHUP);
    }
    family_end(f);
}

/* fork at every moment of notifications that begin and end. */
static void *begin_and_end_until(void *arg)
{
    struct sender *s = arg;
    chan_t *ch = MAKE(int, 1);
    while (!atomic_load(&s->over)) {
        NOTIFY(SIGHUP, ch);
        send_to_process(SIGHUP);
        HEARS(ch, SIGHUP);
        STOP(SIGHUP, ch);
        while (chan_try_recv(ch, NULL) == 0)
            ;
    }
    chan_unref(ch);
    return NULL;
}

TEST(forked_while_they_begin_and_end)
{
    if (SUPPORT_ASAN) /* its allocator's locks do not survive a fork beside other threads */
        return;
    struct family f = family_begin();
    struct sender s = {.over = 0};
    STOP(SIGHUP, f.ch); /* so the others' are the first and the last */
    const pthread_t thread = support_thread(begin_and_end_until, &s);
    const routine_t h = go(begin_and_end_until, &s);
    for (long i = 0, n = support_scale(200); i < n; i++)
        fork_a_child((enum child)(i % CHILDREN));
    atomic_store(&s.over, 1);
    pthread_join(thread, NULL);
    join_taking(h);
    NOTIFY(SIGHUP, f.ch);
    family_end(f);
}

/* ---- in a process of its own ---- */

/* After the last notification has ended the process dies of the signal, as it would have before. */
static int dies_of(int signo)
{
    chan_t *ch = MAKE(int, 1), *other = MAKE(int, 1);
    NOTIFY(signo, ch); /* the first call of the library */
    NOTIFY(signo, other);
    send_to_process(signo);
    HEARS(ch, signo);
    HEARS(other, signo);
    STOP(signo, ch);
    send_to_process(signo);
    HEARS(other, signo);
    STOP(signo, other);
    chan_unref(ch);
    chan_unref(other);
    if (atomic_load(&support_failures) == 0)
        send_to_process(signo);
    usleep(1000000);
    return 1;
}

static int case_term(void)
{
    return dies_of(SIGTERM);
}

static int case_int(void)
{
    return dies_of(SIGINT);
}

static int case_usr1(void)
{
    return dies_of(SIGUSR1);
}

/* Coming back from main, with notifications, and signals that still come. */
static chan_t *left_channel;

static int case_left(void)
{
    static struct sender s = {.signo = SIGUSR1, .pause = 10};
    left_channel = MAKE(int, 1);
    NOTIFY(SIGUSR1, left_channel);
    pthread_detach(support_thread(send_in_a_row, &s));
    HEARS(left_channel, SIGUSR1);
    return 7;
}

/* Signals need no runtime, and outlive one. */
static int case_no_runtime(void)
{
    chan_t *ch = MAKE(int, 1);
    NOTIFY(SIGINT, ch);
    send_to_process(SIGINT);
    HEARS(ch, SIGINT);
    in_routine(send_from_here, NULL); /* SIGUSR1: ignored */
    routine_runtime_t *runtime = routine_runtime_default();
    support_runtime_end(runtime);
    send_to_process(SIGINT);
    HEARS(ch, SIGINT);
    STOP(SIGINT, ch);
    chan_unref(ch);
    return 0;
}

static int case_no_runtime_ignoring(void)
{
    ignore(SIGUSR1);
    return case_no_runtime();
}

/* A server's way out: SIGINT ends the routines that work, in order. */
static void *work_until_cancelled(void *arg)
{
    while (routine_sleep(ROUTINE_MS) == 0)
        ;
    CHECK_EQ(routine_check(), -ECANCELED);
    return arg;
}

static void *until_interrupted(void *arg)
{
    chan_t *ch = MAKE(int, 4);
    routine_t h[20];
    NOTIFY(SIGINT, ch);
    NOTIFY(SIGTERM, ch);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        h[i] = go(work_until_cancelled, arg);
    CHECK_EQ(routine_sleep(5 * ROUTINE_MS), 0);
    send_to_process(SIGINT);
    HEARS(ch, SIGINT);
    for (size_t i = 0; i < COUNT_OF(h); i++)
        CHECK_EQ(routine_cancel(h[i]), 0);
    for (size_t i = 0; i < COUNT_OF(h); i++) {
        const int rc = routine_join(h[i], NULL);
        CHECK(rc == 0 || rc == -ECANCELED); /* it had not begun */
    }
    STOP(SIGINT, ch);
    STOP(SIGTERM, ch);
    chan_unref(ch);
    return arg;
}

static int case_interrupted(void)
{
    in_routine(until_interrupted, NULL);
    return 0;
}

static const struct support_case cases[] = {
    {"term", case_term},
    {"int", case_int},
    {"usr1", case_usr1},
    {"left", case_left},
    {"no-runtime", case_no_runtime_ignoring},
    {"interrupted", case_interrupted},
};

TEST(processes)
{
    struct support_result r;
    CASE_DIES(&r, "term", NULL, SIGTERM);
    CASE_DIES(&r, "int", NULL, SIGINT);
    CASE_DIES(&r, "usr1", NULL, SIGUSR1);
    CASE_EXITS(&r, "left", NULL, 7);
    CASE_EXITS(&r, "no-runtime", NULL, 0);
    CASE_EXITS(&r, "interrupted", NULL, 0);
}

int main(int argc, char **argv)
{
    SUPPORT_CASES(cases);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments),
        cmocka_unit_test(errors_change_nothing),
        cmocka_unit_test(all_that_can_be_caught),
        cmocka_unit_test(however_it_is_sent),
        cmocka_unit_test(from_the_kernel),
        cmocka_unit_test(blocked),
        cmocka_unit_test(several_channels),
        cmocka_unit_test(several_signals),
        cmocka_unit_test(all_who_wait),
        cmocka_unit_test(a_full_channel_drops),
        cmocka_unit_test(a_rendezvous),
        cmocka_unit_test(the_channel_is_kept),
        cmocka_unit_test(an_own_handler_comes_back),
        cmocka_unit_test(with_its_flags),
        cmocka_unit_test(ignored_again),
        cmocka_unit_test(nothing_after_the_end),
        cmocka_unit_test(nothing_from_before),
        cmocka_unit_test(none_is_lost),
        cmocka_unit_test(a_burst),
        cmocka_unit_test(a_storm_over_routines),
        cmocka_unit_test(beginnings_and_ends_against_signals),
        cmocka_unit_test(errno_is_left_alone),
        cmocka_unit_test(a_forked_child_has_the_former_actions),
        cmocka_unit_test(forked_while_they_begin_and_end),
        cmocka_unit_test(processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
