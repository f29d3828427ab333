/* SPDX-License-Identifier: MIT
 *
 * Every macro of the public headers, expanded where warnings are errors, as C and
 * as C++: headers_check.sh compiles this, nobody runs it.
 */
#include <routines.h>

#ifdef __cplusplus
extern "C" {
#endif
int headers_use(void);
#ifdef __cplusplus
}
#endif

struct job {
    int n;
    const char *text;
};

static void *body(void *arg)
{
    return arg;
}

static routine_oneshot_t at_rest = ROUTINE_ONESHOT_INITIALIZER;
static routine_mutex_t mutex = ROUTINE_MUTEX_INITIALIZER;
static routine_cond_t cond = ROUTINE_COND_INITIALIZER;
static routine_rwlock_t rwlock = ROUTINE_RWLOCK_INITIALIZER;
static routine_sem_t sem = ROUTINE_SEM_INITIALIZER(3);
static routine_waitgroup_t group = ROUTINE_WAITGROUP_INITIALIZER;
static routine_barrier_t barrier = ROUTINE_BARRIER_INITIALIZER(1);
static routine_once_t once = ROUTINE_ONCE_INITIALIZER;

static void nothing(void)
{
}

static int channels(void)
{
    int x = 1, failed = 0;
    struct job job = {1, "text"};
    void *any = &x;
    const int constant = 2;
    char bytes[4] = {0, 0, 0, 0};
    chan_t *a = chan_make(int, 1), *b = chan_make_broadcast(struct job, 2), *sub = chan_subscribe(b);

    failed |= chan_send(a, &x) | chan_recv(a, &x) | chan_send(a, &constant) | chan_recv(a, NULL);
    failed |=
        chan_try_send(b, &job) | chan_try_recv(sub, &job) | chan_try_send(a, any) | chan_send(a, &bytes);
    switch (chan_select(CHAN_RECV(a, &x), CHAN_SEND(b, &job), CHAN_RECV(a, NULL),
                        CHAN_TIMEOUT(5 * ROUTINE_MS), CHAN_DEADLINE(ROUTINE_NEVER), CHAN_DEFAULT)) {
    case 0:
    case CHAN_CLOSED(0):
    default:
        break;
    }
#ifndef __cplusplus
    failed |= chan_send(b, &(struct job){.n = 1, .text = "a"});
    failed |= chan_select(CHAN_SEND(b, (&(struct job){1, "a"})), CHAN_DEFAULT);
#endif
    failed |= chan_close(a) | (int)chan_len(a) | (int)chan_cap(a) | chan_unsubscribe(sub);
    chan_unref(chan_ref(a));
    return failed;
}

static int locks(void)
{
    size_t permits = 0;
    int failed = routine_mutex_lock(&mutex) | routine_cond_wait(&cond, &mutex) | routine_mutex_unlock(&mutex);
    failed |= routine_rwlock_rdlock(&rwlock) | routine_rwlock_unlock(&rwlock);
    failed |= routine_sem_wait(&sem) | routine_sem_post(&sem) | routine_sem_getvalue(&sem, &permits);
    failed |= routine_waitgroup_add(&group, 0) | routine_waitgroup_wait(&group);
    failed |= routine_barrier_wait(&barrier) | routine_once(&once, nothing);
    return failed | routine_sleep(ROUTINE_NS);
}

static void undo(void *arg)
{
    (void)arg;
}

static int child(void *arg)
{
    return arg ? 0 : -1;
}

static int blocks(void)
{
    int failed = 0, n = 2, error;
    routine_key_t key;
    {
        routine_with_timeout(5 * ROUTINE_MS);
        routine_with_deadline(ROUTINE_NEVER);
        routine_shield();
        routine_defer(undo, &n);
        failed |= routine_check() + (routine_deadline() != ROUTINE_NEVER);
    }
    {
        routine_scope(s);
        routine_scope_limited(t, (size_t)n);
        failed |= routine_scope_go(&s, child, &n) | routine_scope_go_copy(&t, child, n);
#ifndef __cplusplus
        failed |= routine_scope_go_copy(&t, child, ((struct job){1, "a"}));
#endif
        failed |= routine_scope_go_each(&s, child, &n, 1, sizeof n);
        routine_scope_cancel(&t);
        failed |= routine_scope_join(&s, &error) | routine_scope_join(&t, NULL);
    }
    routine_timer_t *timer = routine_timer_new(ROUTINE_S, 0, undo, NULL);
    chan_t *ticks = chan_make(int64_t, 1), *signals = chan_make(int, 1);
    routine_timer_t *ticker = routine_timer_new_chan(ROUTINE_S, ROUTINE_S, ticks);
    failed |= routine_timer_stop(timer);
    failed |= routine_timer_reset(ticker, 1);
    routine_timer_free(timer);
    routine_timer_free(ticker);
    failed |= routine_signal_notify(15, signals) | routine_signal_stop(15, signals);
    chan_unref(ticks);
    chan_unref(signals);
    failed |= routine_key_create_inherited(&key) + (*routine_panic_message() != 0);
    (void)routine_set_panic_hook(NULL);
    if (failed)
        routine_panic("%d", failed);
    return failed;
}

int headers_use(void)
{
    int n = 3 + blocks();
    struct job job = {1, "text"};
    routine_oneshot_t local = ROUTINE_ONESHOT_INITIALIZER;
    routine_attr_t attr = {NULL, 0, NULL};
    void *result = NULL;
    int failed = 0;

    attr.name = "name";
    attr.stack_size = ROUTINE_STACK_MAX;
    failed |= routine_join(go(body, &n), &result);
    failed |= routine_join(routine_go(body, NULL), NULL);
    failed |= routine_join(go_with(&attr, body, &n), NULL);
    failed |= routine_join(routine_go_with(NULL, body, &n), NULL);
    failed |= routine_join(go_copy(body, job), &result);
    failed |= routine_join(routine_go_copy(body, n), NULL);
#ifndef __cplusplus
    failed |= routine_join(go_with(&(routine_attr_t){.name = "literal"}, body, NULL), NULL);
    failed |= routine_join(go_copy(body, ((struct job){.n = 1, .text = "a"})), NULL);
    failed |= routine_join(go_copy(body, (struct job){.n = 1, .text = "a"}), NULL);
#endif
    failed |= go_detached(body, NULL);
    failed |= routine_go_detached(body, NULL);
    failed |= routine_run(body, NULL, &result);
    failed |= routine_runtime_run(routine_runtime_default(), body, NULL, NULL);
    failed |= routine_runtime_shutdown(routine_runtime_default(), ROUTINE_SHUTDOWN_WAIT, 5 * ROUTINE_MS);
    failed |= routine_runtime_shutdown(routine_runtime_default(), ROUTINE_SHUTDOWN_CANCEL, ROUTINE_NEVER);
    failed |= routine_oneshot_send(&at_rest, &n) | routine_oneshot_send(&local, NULL);
    failed |= ROUTINE_NS + ROUTINE_US + ROUTINE_S > routine_now();
    failed |= ROUTINE_KEYS_MAX > ROUTINE_WORKERS_MAX;
    return failed | channels() | locks();
}
