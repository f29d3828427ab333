/* SPDX-License-Identifier: MIT
 *
 * first_error: runs commands side by side; the first one that fails stops the others.
 *
 *     ./first_error make test -- make lint -- ./check docs
 *
 * The part to be copied is struct group with its functions, which is Go's errgroup: tasks are started in a
 * group, the first one that returns something other than 0 decides what the whole group returns, and a closed
 * channel, stop, tells the others that nobody needs them any more. They listen to it in a select beside
 * whatever else they wait for.
 *
 * Exit status: 0 if every command succeeded; 1 if one failed; 2 for wrong arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <routines.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "first_error: %s: %s\n", what, strerror(-rc));
        _Exit(EXIT_FAILURE);
    }
}

/* ---- The group. ---- */

/* A task returns 0, or something else that says what went wrong. If stop is closed it should end soon. */
typedef int group_fn(chan_t *stop, void *arg);

struct group {
    routine_waitgroup_t running;
    chan_t *stop;
    int error;   /* of the first that failed */
    void *which; /* its argument */
};

struct group_task {
    struct group *group;
    group_fn *fn;
    void *arg;
};

static int group_init(struct group *group)
{
    *group = (struct group){.running = ROUTINE_WAITGROUP_INITIALIZER, .stop = chan_new(0, 0)};
    return group->stop != NULL ? 0 : -ENOMEM;
}

/* Of all who close a channel one is told 0: that is the first to fail. */
static void group_end(struct group *group, int error, void *arg)
{
    if (error != 0 && chan_close(group->stop) == 0) {
        group->error = error; /* read after the wait, which our done comes before */
        group->which = arg;
    }
    routine_waitgroup_done(&group->running);
}

static void *group_run(void *arg)
{
    const struct group_task *task = arg;
    group_end(task->group, task->fn(task->group->stop, task->arg), task->arg);
    return NULL;
}

/* Starts fn(stop, arg). If it can't be started, then that is how it failed. */
static void group_go(struct group *group, group_fn *fn, void *arg)
{
    check(routine_waitgroup_add(&group->running, 1), "a task");
    const int rc =
        routine_detach(go_copy(group_run, ((struct group_task){.group = group, .fn = fn, .arg = arg})));
    if (rc != 0)
        group_end(group, rc, arg);
}

/* Waits for all tasks. Returns 0, or what the first that failed has returned; *which is its argument then. */
static int group_wait(struct group *group, void **which)
{
    check(routine_waitgroup_wait(&group->running), "waiting for the tasks");
    chan_unref(group->stop);
    *which = group->which;
    return group->error;
}

/* ---- The tasks: commands. ---- */

#define FIRST_PAUSE (1 * ROUTINE_MS) /* between looks whether a command has ended */
#define LAST_PAUSE  (20 * ROUTINE_MS)
#define GRACE       (5 * ROUTINE_S) /* to end by oneself, when asked to */

struct command {
    char **argv;
    int64_t begun;
};

/* All commands read from /dev/null: opened by whoever needs it first. */
static int null_fd;
static routine_once_t null_once = ROUTINE_ONCE_INITIALIZER;

static void open_null(void)
{
    null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Returns the process, or a negative errno. */
static pid_t start_command(const struct command *command)
{
    sigset_t none;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = 0;
    check(routine_once(&null_once, open_null), "once");
    check(-posix_spawn_file_actions_init(&actions), "actions");
    check(-posix_spawn_file_actions_adddup2(&actions, null_fd, STDIN_FILENO), "actions");
    check(-posix_spawnattr_init(&attributes), "attributes");
    sigemptyset(&none); /* the threads of a runtime block signals, and a command would inherit that */
    check(-posix_spawnattr_setsigmask(&attributes, &none), "attributes");
    check(-posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK), "attributes");
    const int error = posix_spawnp(&pid, command->argv[0], &actions, &attributes, command->argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error == 0 ? pid : -error;
}

/* Not inlined into what may switch threads, because of errno. 1: it has ended; 0: it runs; a negative errno.
 */
__attribute__((noinline)) static int has_ended(pid_t pid, int *status)
{
    const pid_t got = waitpid(pid, status, WNOHANG);
    return got > 0 ? 1 : got == 0 || errno == EINTR ? 0 : -errno;
}

static void describe(int error, char *text, size_t size)
{
    if (error < 0)
        snprintf(text, size, "%s", strerror(-error));
    else if (WIFSIGNALED(error))
        snprintf(text, size, "signal %d", WTERMSIG(error));
    else
        snprintf(text, size, "exit status %d", WEXITSTATUS(error));
}

static void print_command(FILE *stream, const char *what, double seconds, const struct command *command,
                          const char *why)
{
    flockfile(stream);
    fprintf(stream, "%-8s %7.3f s ", what, seconds);
    for (char **word = command->argv; *word != NULL; word++)
        fprintf(stream, " %s", *word);
    fprintf(stream, "%s%s\n", *why != '\0' ? ": " : "", why);
    funlockfile(stream);
}

/* Tells how a command has ended, and returns that. (Of one that was stopped it does not count: it is not the
 * first.) */
static int report(const struct command *command, int error, bool stopped)
{
    char why[128] = "";
    const double seconds = (double)(routine_now() - command->begun) / (double)ROUTINE_S;
    if (error != 0)
        describe(error, why, sizeof why);
    print_command(stdout, error == 0 ? "ok" : stopped ? "stopped" : "failed", seconds, command, why);
    return error;
}

/* A task. Returns 0, a negative errno, or the status of wait(). To wait for a process without blocking the
 * worker there is only to look now and then. */
static int run_command(chan_t *stop, void *arg)
{
    struct command *command = arg;
    command->begun = routine_now();
    const pid_t pid = start_command(command);
    if (pid < 0)
        return report(command, pid, false);
    int64_t kill_at = ROUTINE_NEVER;
    int64_t pause = FIRST_PAUSE;
    bool stopped = false;
    int status = 0;
    int ended;
    while ((ended = has_ended(pid, &status)) == 0) {
        const int which = chan_select(CHAN_RECV(stop, NULL), CHAN_TIMEOUT(pause), CHAN_DEADLINE(kill_at));
        switch (which) {
        case CHAN_CLOSED(0):
            kill(pid, SIGTERM);
            stopped = true;
            stop = NULL; /* never again */
            kill_at = routine_now() + GRACE;
            pause = FIRST_PAUSE;
            break;
        case 1:
            pause = 2 * pause < LAST_PAUSE ? 2 * pause : LAST_PAUSE;
            break;
        case 2:
            kill(pid, SIGKILL);
            kill_at = ROUTINE_NEVER;
            break;
        default:
            check(which, "waiting");
        }
    }
    return report(command, ended < 0 ? ended : status, stopped);
}

static int run(struct command *commands, size_t count)
{
    struct group group;
    check(group_init(&group), "a group");
    for (size_t i = 0; i < count; i++)
        group_go(&group, run_command, &commands[i]);
    void *which;
    const int error = group_wait(&group, &which);
    if (error == 0)
        return EXIT_SUCCESS;
    char why[128];
    describe(error, why, sizeof why);
    fprintf(stderr, "first_error: %s: %s\n", ((struct command *)which)->argv[0], why);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct command *commands = calloc((size_t)argc + 1, sizeof *commands);
    check(commands != NULL ? 0 : -ENOMEM, "commands");
    size_t count = 0;
    bool good = argc > 1;
    for (int i = 1; i < argc; i++) { /* each "--" becomes the end of a list of arguments */
        commands[count++].argv = &argv[i];
        good = good && strcmp(argv[i], "--") != 0;
        while (i < argc && strcmp(argv[i], "--") != 0)
            i++;
        good = good && i != argc - 1; /* nothing after the last "--" */
        argv[i] = NULL;
    }
    int status = 2;
    if (good)
        status = run(commands, count);
    else
        fprintf(stderr,
                "usage: %s command [argument...] [-- command [argument...]]...\n"
                "Runs all commands at once. The first one that fails stops the others.\n",
                argv[0]);
    free(commands);
    return status;
}
