/* SPDX-License-Identifier: MIT
 *
 * Tests of routine_open and routine_fsync: what they return, and what the descriptor is like; fifos, whose
 * other side comes late, or never; limits and cancellations, after which no descriptor is left.
 *
 * ctest: workers
 * ctest: timeout 120
 */
#include "chan_support.h"

#include <limits.h>
#include <poll.h>
#include <sys/stat.h>

#include "routines/io.h"
#include "routines/sync.h"
#include "sched/worker.h"

static char dir[64];

struct path {
    char text[128];
};

/* A name that nobody else uses. */
static struct path fresh_path(void)
{
    static _Atomic int count;
    struct path p;
    snprintf(p.text, sizeof p.text, "%s/%d", dir, atomic_fetch_add(&count, 1));
    return p;
}

static struct path fresh_fifo(void)
{
    const struct path p = fresh_path();
    CHECK_EQ(mkfifo(p.text, 0600), 0);
    return p;
}

/* The library's monitor has some open for moments. */
static void check_descriptors(long expected)
{
    for (int i = 0; i < 10000 && support_entries("/proc/self/fd") != expected; i++)
        usleep(1000);
    CHECK_EQ(support_entries("/proc/self/fd"), expected);
}

static bool is_cloexec(int fd)
{
    return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static bool is_blocking(int fd)
{
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

/* ---- files ---- */

TEST_EVERYWHERE(open_write_sync_read)
{
    const struct path p = fresh_path();
    struct stat s;
    int fd = routine_open(p.text, O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK(is_cloexec(fd));
    CHECK(is_blocking(fd));
    CHECK_EQ(fstat(fd, &s), 0);
    CHECK(S_ISREG(s.st_mode));
    CHECK_EQ(s.st_mode & 0137, 0);
    CHECK_EQ(write(fd, "hello", 5), 5);
    CHECK_EQ(routine_fsync(fd), 0);
    CHECK_EQ(close(fd), 0);

    CHECK_EQ(routine_open(p.text, O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
    fd = routine_open(p.text, O_RDONLY | O_NONBLOCK);
    CHECK(fd >= 0);
    CHECK(!is_blocking(fd));
    char text[8] = "";
    CHECK_EQ(read(fd, text, sizeof text), 5);
    CHECK_STR(text, "hello");
    CHECK_EQ(close(fd), 0);
    fd = routine_open(p.text, O_WRONLY | O_TRUNC | O_APPEND | O_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
    CHECK_EQ(fstat(fd, &s), 0);
    CHECK_EQ(s.st_size, 0);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(unlink(p.text), 0);
}

TEST_EVERYWHERE(errors)
{
    const struct path p = fresh_path();
    char below[160];
    snprintf(below, sizeof below, "%s/x", p.text);
    errno = 4711;
    CHECK_EQ(routine_open(p.text, O_RDONLY), -ENOENT);
    CHECK_EQ(routine_open(dir, O_WRONLY), -EISDIR);
    CHECK_EQ(routine_open("", O_RDONLY), -ENOENT);
    const int fd = routine_open(p.text, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(routine_open(below, O_RDONLY), -ENOTDIR);
    CHECK_EQ(routine_open(p.text, O_RDONLY | O_DIRECTORY), -ENOTDIR);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(unlink(p.text), 0);
    CHECK_EQ(routine_fsync(-1), -EBADF);
    CHECK_EQ(routine_fsync(INT_MAX), -EBADF); /* not one just closed: another body may have that number */
    const int null = routine_open("/dev/null", O_RDWR), path = routine_open(dir, O_PATH);
    CHECK(null >= 0);
    CHECK(path >= 0);
    CHECK_EQ(routine_fsync(null), -EINVAL);
    CHECK_EQ(routine_fsync(path), -EBADF);
    CHECK_EQ(close(null), 0);
    CHECK_EQ(close(path), 0);
}

/* ---- what may wait for a disk ---- */

static uint64_t jobs(void)
{
    return routine_runtime_current()->pool.classes[RT_POOL_FILES].jobs; /* no other is under way */
}

static void *write_and_read(void *arg)
{
    enum { SIZE = 1 << 20 };
    const struct path p = fresh_path();
    char *data = malloc(SIZE), *back = calloc(1, SIZE);
    memset(data, 'd', SIZE);
    int fd = routine_open(p.text, O_RDWR | O_CREAT | O_DSYNC, 0600);
    CHECK(fd >= 0);
    uint64_t before = jobs();
    CHECK_EQ(routine_write(fd, data, SIZE), SIZE); /* waits for the disk */
    CHECK(jobs() > before);
    before = jobs();
    CHECK_EQ(routine_pread(fd, back, SIZE, 0), SIZE); /* is in the cache */
    CHECK_EQ(memcmp(data, back, SIZE), 0);
    CHECK_EQ(jobs(), before);
    memset(back, 0, SIZE);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0); /* may not be any more */
    CHECK_EQ(routine_pread(fd, back, SIZE, 0), SIZE);
    CHECK_EQ(memcmp(data, back, SIZE), 0);
    *(bool *)arg |= jobs() > before;
    CHECK_EQ(routine_close(fd), 0);
    CHECK_EQ(unlink(p.text), 0);
    free(data);
    free(back);
    return NULL;
}

TEST(the_pool_reads_what_is_not_in_the_cache)
{
    bool was_read_there = false;
    routine_runtime_t *runtime = support_runtime(1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(routine_runtime_run(runtime, write_and_read, &was_read_there, NULL), 0);
    support_runtime_end(runtime);
    if (!was_read_there)
        print_message("this file system forgets nothing, or cannot tell\n");
}

/* ---- no descriptor is left ---- */

static int case_too_many(void)
{
    struct rlimit few = {.rlim_cur = 40, .rlim_max = 40};
    int fds[64];
    size_t n = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQ(routine_sleep(0), 0);
    while ((fds[n] = routine_open("/dev/null", O_RDONLY)) >= 0)
        n++;
    CHECK_EQ(fds[n], -EMFILE);
    CHECK(n > 10);
    while (n > 0)
        CHECK_EQ(close(fds[--n]), 0);
    return 0;
}

TEST(no_descriptor_left_to_have)
{
    static struct support_result r;
    CASE_EXITS(&r, "too_many", NULL, 0);
}

struct opener {
    struct path path;
    int flags;
    int64_t limit; /* 0: none */
    int rc, check_after;
    _Atomic bool begun, over;
};

static void *open_it(void *arg)
{
    struct opener *o = arg;
    atomic_store(&o->begun, true);
    if (o->limit != 0) {
        routine_with_timeout(o->limit);
        o->rc = routine_open(o->path.text, o->flags, 0600);
        o->check_after = routine_check();
    } else {
        o->rc = routine_open(o->path.text, o->flags, 0600);
        o->check_after = routine_check();
    }
    atomic_store(&o->over, true);
    return NULL;
}

TEST(opened_and_cancelled_at_any_moment)
{
    enum { MANY = 8 };
    const struct path p = fresh_path();
    uint64_t random = 31;
    long opened = 0, not = 0;
    CHECK_EQ(routine_run(open_it, &(struct opener){.path = p, .flags = O_CREAT | O_RDWR}, NULL), 0);
    const long before = support_entries("/proc/self/fd");
    for (int round = 0; round < support_scale(1000); round++) {
        struct opener o[MANY];
        routine_t h[MANY];
        for (int i = 0; i < MANY; i++) {
            const uint64_t x = support_random(&random);
            o[i] = (struct opener){.path = p, .flags = O_RDONLY};
            o[i].limit = x & 1 ? 0 : (int64_t)(x >> 8 & 0x7f) * ROUTINE_US + 1;
            h[i] = go(open_it, &o[i]);
        }
        for (int i = 0; i < MANY; i++)
            if (support_random(&random) & 1)
                CHECK_EQ(routine_cancel(h[i]), 0);
        for (int i = 0; i < MANY; i++) {
            if (routine_join(h[i], NULL) != 0)
                continue;
            CHECK(o[i].rc >= 0 || o[i].rc == -ECANCELED || o[i].rc == -ETIMEDOUT);
            opened += o[i].rc >= 0;
            not += o[i].rc < 0;
            if (o[i].rc >= 0)
                CHECK_EQ(close(o[i].rc), 0);
        }
    }
    CHECK(opened > 0 && (not > 0 || support_slow()));
    check_descriptors(before);
}

static void *sync_canceled(void *arg)
{
    CHECK_EQ(routine_cancel(routine_self()), 0);
    CHECK_EQ(routine_fsync(*(int *)arg), -ECANCELED);
    CHECK_EQ(routine_open("/dev/null", O_RDONLY), -ECANCELED);
    return NULL;
}

TEST(over_before_it_begins)
{
    const struct path p = fresh_path();
    int fd = open(p.text, O_CREAT | O_RDWR, 0600);
    support_in_routine(sync_canceled, &fd);
    routine_with_timeout(0);
    CHECK_EQ(routine_fsync(fd), -ETIMEDOUT);
    CHECK_EQ(routine_open("/dev/null", O_RDONLY), -ETIMEDOUT);
    CHECK_EQ(close(fd), 0);
}

/* ---- fifos ---- */

static bool is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) == 1 && (p.revents & events);
}

/* Opened from both ends, by routines and by the system's own call on a thread of its own. */
struct meeting {
    struct path path;
    bool first_reads, by_system;
    _Atomic bool other_came;
};

static void *come_later(void *arg)
{
    struct meeting *m = arg;
    usleep(30000);
    atomic_store(&m->other_came, true);
    const int fd = open(m->path.text, (m->first_reads ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    CHECK(fd >= 0);
    return (void *)(intptr_t)fd;
}

static void *meet(void *arg)
{
    struct meeting *m = arg;
    const int fd = routine_open(m->path.text, m->first_reads ? O_RDONLY : O_WRONLY);
    CHECK(fd >= 0);
    CHECK(atomic_load(&m->other_came)); /* not before */
    CHECK(is_blocking(fd));
    CHECK(is_cloexec(fd));
    return (void *)(intptr_t)fd;
}

static void check_pipe(int from, int to)
{
    char c = 0;
    CHECK(is_ready(to, POLLOUT));
    CHECK_EQ(write(to, "x", 1), 1);
    CHECK(is_ready(from, POLLIN));
    CHECK_EQ(read(from, &c, 1), 1);
    CHECK_EQ(c, 'x');
    CHECK_EQ(close(to), 0);
    CHECK_EQ(read(from, &c, 1), 0);
    CHECK_EQ(close(from), 0);
}

/* The other side says nothing: only that it is there. */
TEST_EVERYWHERE(a_fifo_is_open_when_the_other_side_is)
{
    for (int i = 0; i < 2; i++) {
        struct meeting m = {.path = fresh_fifo(), .first_reads = i == 0};
        void *mine = NULL, *other = NULL;
        pthread_t thread = support_thread(come_later, &m);
        mine = meet(&m);
        support_thread_join(thread, &other);
        if (m.first_reads)
            check_pipe((int)(intptr_t)mine, (int)(intptr_t)other);
        else
            check_pipe((int)(intptr_t)other, (int)(intptr_t)mine);
        CHECK_EQ(unlink(m.path.text), 0);
    }
}

static void *open_end(void *arg)
{
    struct opener *o = arg;
    o->rc = routine_open(o->path.text, o->flags);
    return NULL;
}

/* Two routines that open two fifos in the same order, each its end: nobody has to say anything first. */
TEST(two_fifos_between_two)
{
    for (int i = 0; i < 10; i++) {
        const struct path a = fresh_fifo(), b = fresh_fifo();
        struct opener o[4] = {{.path = a, .flags = O_RDONLY},
                              {.path = b, .flags = O_WRONLY},
                              {.path = a, .flags = O_WRONLY},
                              {.path = b, .flags = O_RDONLY}};
        routine_t first = go(open_end, &o[0]);
        CHECK_EQ(routine_run(open_end, &o[2], NULL), 0);
        CHECK_EQ(routine_join(first, NULL), 0);
        first = go(open_end, &o[1]);
        CHECK_EQ(routine_run(open_end, &o[3], NULL), 0);
        CHECK_EQ(routine_join(first, NULL), 0);
        check_pipe(o[0].rc, o[2].rc);
        check_pipe(o[3].rc, o[1].rc);
    }
}

/* One that came, and has gone again: open is over then too, and what it wrote is there. */
TEST(a_writer_who_has_gone)
{
    for (int i = 0; i < 2; i++) {
        struct opener o = {.path = fresh_fifo(), .flags = O_RDONLY};
        routine_t h = go(open_it, &o);
        int fd = -1;
        WAIT_UNTIL((fd = open(o.path.text, O_WRONLY | O_NONBLOCK)) >= 0);
        if (i == 1)
            CHECK_EQ(write(fd, "abc", 3), 3);
        CHECK_EQ(close(fd), 0);
        CHECK_EQ(routine_join(h, NULL), 0);
        CHECK(o.rc >= 0);
        char text[4] = "";
        CHECK_EQ(read(o.rc, text, sizeof text), i == 1 ? 3 : 0);
        CHECK_EQ(close(o.rc), 0);
    }
}

/* Those that do not wait in the kernel do not here. */
TEST_EVERYWHERE(fifos_that_are_open_at_once)
{
    const struct path p = fresh_fifo();
    const int both = routine_open(p.text, O_RDWR);
    CHECK(both >= 0);
    CHECK(is_blocking(both));
    const int reads = routine_open(p.text, O_RDONLY), writes = routine_open(p.text, O_WRONLY);
    CHECK(reads >= 0 && writes >= 0);
    CHECK_EQ(close(both), 0);
    check_pipe(reads, writes);
    const int fd = routine_open(p.text, O_RDONLY | O_NONBLOCK);
    CHECK(fd >= 0);
    CHECK(!is_blocking(fd));
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(routine_open(p.text, O_WRONLY | O_NONBLOCK), -ENXIO);
    CHECK_EQ(unlink(p.text), 0);
}

/* Nobody ever comes. More of them than the pool has threads, in any class. */
TEST(nobody_comes)
{
    enum { MANY = 300 };
    struct opener *o = calloc(MANY, sizeof *o);
    routine_t *h = calloc(MANY, sizeof *h);
    const struct path p = fresh_path();
    struct opener plain = {.path = p, .flags = O_CREAT | O_RDWR};
    support_in_routine(open_it, &plain);
    CHECK_EQ(close(plain.rc), 0);
    const long before = support_entries("/proc/self/fd");
    for (int i = 0; i < MANY; i++) {
        o[i] = (struct opener){.path = fresh_fifo(), .flags = i % 2 ? O_RDONLY : O_WRONLY};
        o[i].limit = i % 3 ? 0 : 40 * ROUTINE_MS;
        h[i] = go(open_it, &o[i]);
    }
    for (int i = 0; i < MANY; i++)
        WAIT_UNTIL(atomic_load(&o[i].begun));
    /* all that do not wait for anybody go on */
    support_in_routine(open_it, &plain);
    CHECK_EQ(close(plain.rc), 0);
    CHECK_EQ(routine_sleep(20 * ROUTINE_MS), 0);
    for (int i = 0; i < MANY; i++)
        if (i % 3 != 0) {
            CHECK(!atomic_load(&o[i].over));
            CHECK_EQ(routine_cancel(h[i]), 0);
        }
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(routine_join(h[i], NULL), 0);
        CHECK_EQ(o[i].rc, i % 3 ? -ECANCELED : -ETIMEDOUT);
        CHECK_EQ(o[i].check_after, o[i].rc);
        CHECK_EQ(unlink(o[i].path.text), 0);
    }
    check_descriptors(before);
    free(h);
    free(o);
}

TEST(nobody_comes_to_a_plain_thread_with_a_limit)
{
    for (int i = 0; i < 2; i++) {
        struct opener o = {.path = fresh_fifo(), .flags = i ? O_RDONLY : O_WRONLY, .limit = 10 * ROUTINE_MS};
        const int64_t end = routine_now() + o.limit;
        open_it(&o);
        CHECK_EQ(o.rc, -ETIMEDOUT);
        CHECK(routine_now() >= end);
    }
}

int main(int argc, char **argv)
{
    static const struct support_case cases[] = {{"too_many", case_too_many}};
    SUPPORT_CASES(cases);
    snprintf(dir, sizeof dir, "/tmp/files_test.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    umask(027);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_write_sync_read),
        cmocka_unit_test(errors),
        cmocka_unit_test(the_pool_reads_what_is_not_in_the_cache),
        cmocka_unit_test(no_descriptor_left_to_have),
        cmocka_unit_test(opened_and_cancelled_at_any_moment),
        cmocka_unit_test(over_before_it_begins),
        cmocka_unit_test(a_fifo_is_open_when_the_other_side_is),
        cmocka_unit_test(two_fifos_between_two),
        cmocka_unit_test(a_writer_who_has_gone),
        cmocka_unit_test(fifos_that_are_open_at_once),
        cmocka_unit_test(nobody_comes),
        cmocka_unit_test(nobody_comes_to_a_plain_thread_with_a_limit),
    };
    const int rc = cmocka_run_group_tests_name("files", tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) != 0 ? 1 : rc;
}
