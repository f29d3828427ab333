/* SPDX-License-Identifier: MIT
 *
 * Tests of src/os/cpus.c: cgroup quotas from trees of files made below a temporary directory, and the
 * whole of rt_cpus_available in a child whose root directory is such a tree. The affinity mask
 * is the one of a machine of the test's choice: sched_getaffinity is defined here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/cpus.h"

static char tree[64];

/* The machine that the mask is of; mask_size 0: the real one. */
static size_t mask_size, mask_bits;
static int mask_error;

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    memset(set, 0, size);
    if (mask_error != 0 || size < mask_size) {
        errno = mask_error != 0 ? mask_error : EINVAL;
        return -1;
    }
    if (mask_size == 0)
        return syscall(SYS_sched_getaffinity, pid, size, set) < 0 ? -1 : 0;
    for (size_t i = 0; i < mask_bits; i++)
        CPU_SET_S(mask_size * 8 - 1 - i, size, set);
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    mask_size = mask_bits = 0;
    mask_error = 0;
    return nftw(tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(tree, "/tmp/os_cpus_test.XXXXXX");
    return mkdtemp(tree) ? 0 : -1;
}

static void put_bytes(const char *name, const char *bytes, size_t length)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s", tree, name);
    for (char *slash = strchr(path + strlen(tree) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

#define V2_MOUNT "/sys/fs/cgroup"

static void put_v2(const char *cgroup, const char *mount_root)
{
    char text[512];
    snprintf(text, sizeof text, "0::%s\n", cgroup);
    put("/proc/self/cgroup", text);
    snprintf(text, sizeof text,
             "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
             "25 22 0:23 %s " V2_MOUNT " rw,nosuid shared:4 master:7 - cgroup2 cgroup2 rw,nsdelegate\n"
             "26 22 0:24 / /proc rw - proc proc rw\n",
             mount_root);
    put("/proc/self/mountinfo", text);
}

static void expect(uint64_t thousandths)
{
    errno = 4242;
    assert_int_equal(rt_cpus_quota(tree), thousandths);
    assert_int_equal(errno, 4242);
}

static void test_v2_leaf(void **state)
{
    (void)state;
    put_v2("/user.slice/job", "/");
    put(V2_MOUNT "/user.slice/job/cpu.max", "150000 100000\n");
    expect(1500);
    put(V2_MOUNT "/user.slice/job/cpu.max", "max 100000\n");
    expect(0);
    put(V2_MOUNT "/user.slice/job/cpu.max", "200001 100000\n");
    expect(2001);
    put(V2_MOUNT "/user.slice/job/cpu.max", "1000 1000000");
    expect(1);
}

static void test_v2_ancestors(void **state)
{
    (void)state;
    put_v2("/a/b/c", "/");
    put(V2_MOUNT "/a/b/c/cpu.max", "800000 100000\n");
    put(V2_MOUNT "/a/b/cpu.max", "max 100000\n");
    put(V2_MOUNT "/a/cpu.max", "300000 100000\n");
    expect(3000);
    put(V2_MOUNT "/a/b/cpu.max", "50000 100000\n");
    expect(500);
    put(V2_MOUNT "/a/b/c/cpu.max", "20000 100000\n");
    expect(200);
    /* siblings, and what only begins with the same letters, do not count */
    put(V2_MOUNT "/a/b/c/cpu.max", "max 100000\n");
    put(V2_MOUNT "/a/b/cpu.max", "max 100000\n");
    put(V2_MOUNT "/a/b/cc/cpu.max", "10000 100000\n");
    put(V2_MOUNT "/a/b/c/child/cpu.max", "10000 100000\n");
    expect(3000);
    /* the top of the mount is an ancestor as well (in a container it has a quota), what is above is not */
    put(V2_MOUNT "/cpu.max", "100000 100000\n");
    put("/sys/fs/cpu.max", "10000 100000\n");
    expect(1000);
}

static void test_v2_deleted_leaf(void **state)
{
    (void)state;
    put_v2("/a/gone (deleted)", "/");
    put(V2_MOUNT "/a/cpu.max", "300000 100000\n");
    expect(3000);
}

static void test_v2_at_top(void **state)
{
    (void)state;
    put_v2("/", "/");
    put(V2_MOUNT "/cpu.max", "250000 100000\n");
    expect(2500);
}

static void test_root_field(void **state)
{
    (void)state;
    /* a container that sees the host's paths: the mount shows /docker/abc only */
    put_v2("/docker/abc/inner", "/docker/abc");
    put(V2_MOUNT "/inner/cpu.max", "400000 100000\n");
    put(V2_MOUNT "/docker/abc/inner/cpu.max", "10000 100000\n");
    expect(4000);
    put(V2_MOUNT "/cpu.max", "200000 100000\n");
    expect(2000);
    put_v2("/docker/abc", "/docker/abc");
    expect(2000);
    /* not shown by this mount */
    put_v2("/docker/abcdef", "/docker/abc");
    expect(0);
    put_v2("/docker", "/docker/abc");
    expect(0);
}

static void test_namespaces(void **state)
{
    (void)state;
    put(V2_MOUNT "/cpu.max", "100000 100000\n");
    put(V2_MOUNT "/x/cpu.max", "50000 100000\n");
    put(V2_MOUNT "/../x/cpu.max", "10000 100000\n");
    /* the mount shows our parent's parent: an ancestor, the names between are not known */
    put_v2("/", "/../..");
    expect(1000);
    put_v2("/x", "/..");
    expect(1000);
    put_v2("/../x", "/../..");
    expect(1000);
    /* both are told upwards, and the names are known */
    put_v2("/../x", "/..");
    expect(500);
    put_v2("/../../x/y", "/../../x");
    expect(1000);
    /* outside of what the mount shows */
    put_v2("/../x", "/");
    expect(0);
    put_v2("/../../x", "/..");
    expect(0);
    put_v2("/x", "/../sibling");
    expect(0);
    /* dots that are part of a name */
    put_v2("/..x", "/");
    put(V2_MOUNT "/..x/cpu.max", "70000 100000\n");
    expect(700);
}

static void put_v1(const char *cgroup)
{
    put("/proc/self/cgroup", cgroup);
    put("/proc/self/mountinfo",
        "30 22 0:26 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "31 22 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpuacct,cpu\n"
        "32 22 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n");
}

static void test_v1(void **state)
{
    (void)state;
    put_v1("12:cpuset:/elsewhere\n4:cpuacct,cpu:/a/b\n1:name=systemd:/c\n");
    put("/sys/fs/cgroup/cpuset/a/b/cpu.cfs_quota_us", "10000\n");
    put("/sys/fs/cgroup/cpuset/a/b/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/elsewhere/cpu.cfs_quota_us", "10000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/elsewhere/cpu.cfs_period_us", "100000\n");
    expect(0);
    put("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "125000\n");
    expect(0); /* without a period */
    put("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "50000\n");
    expect(2500);
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    expect(2500);
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "110000\n");
    expect(1100);
    put("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    expect(1100);
}

/* systemd's hybrid: the cpu controller is in v1, v2 is there for processes only; and the other way round. */
static void test_hybrid(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "5:cpu:/one\n1:name=systemd:/two\n0::/two\n");
    put("/proc/self/mountinfo", "31 22 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                                "32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/unified/two/cgroup.procs", "1\n");
    put("/sys/fs/cgroup/cpu/one/cpu.cfs_quota_us", "300000\n");
    put("/sys/fs/cgroup/cpu/one/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/two/cpu.cfs_quota_us", "10000\n");
    put("/sys/fs/cgroup/cpu/two/cpu.cfs_period_us", "100000\n");
    expect(3000);
    put("/sys/fs/cgroup/unified/two/cpu.max", "200000 100000\n");
    expect(2000);
    put("/proc/self/cgroup", "0::/two\n");
    expect(2000);
    put("/proc/self/cgroup", "5:cpu:/one\n");
    expect(3000);
}

static void test_escapes(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/with blank/a:b/leaf\n");
    put("/proc/self/mountinfo", "31 22 0:27 /with\\040blank /mnt/c\\011g\\134roups rw - cgroup2 none rw\n");
    put("/mnt/c\tg\\roups/a:b/leaf/cpu.max", "600000 100000\n");
    expect(6000);
    /* no escapes at all */
    put("/proc/self/mountinfo", "31 22 0:27 /with\\040blank /mnt/\\04\\999\\ rw - cgroup2 none rw\n");
    put("/mnt/\\04\\999\\/a:b/cpu.max", "500000 100000\n");
    expect(5000);
}

/* The file holds `before`, 200,000 times the letter, and `after`. */
static void put_long(const char *name, const char *before, char letter, const char *after)
{
    const size_t head = strlen(before), middle = 200000, tail = strlen(after);
    char *text = malloc(head + middle + tail);
    assert_non_null(text);
    memcpy(text, before, head);
    memset(text + head, letter, middle);
    memcpy(text + head + middle, after, tail);
    put_bytes(name, text, head + middle + tail);
    free(text);
}

static void test_long_lines(void **state)
{
    (void)state;
    static const char good[] = "\n31 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    put_long("/proc/self/mountinfo", "40 22 0:40 / /overlay rw - overlay overlay rw,lowerdir=", 'l', good);
    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/cpu.max", "700000 100000\n");
    expect(7000);
    /* paths longer than a path can be */
    put_long("/proc/self/mountinfo", "31 22 0:27 / /", 'm', " rw - cgroup2 cgroup2 rw");
    expect(0);
    put_long("/proc/self/mountinfo", "31 22 0:27 /", 'm', " /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
    expect(0);
    put("/proc/self/mountinfo", good);
    expect(7000);
    put_long("/proc/self/cgroup", "0::/", 'c', "\n");
    expect(0);
    put_long("/sys/fs/cgroup/a/cpu.max", "", '1', " 100000\n");
    put("/proc/self/cgroup", "0::/a\n");
    expect(0);
}

static void test_missing(void **state)
{
    (void)state;
    expect(0);
    put("/proc/self/mountinfo", "31 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/cpu.max", "700000 100000\n");
    expect(0);
    assert_int_equal(tear_down(NULL), 0);
    assert_int_equal(mkdir(tree, 0700), 0);
    put("/proc/self/cgroup", "0::/a\n");
    expect(0);
    put("/proc/self/mountinfo/a-directory", "");
    expect(0);
}

static void test_bad_values(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "\n",
                                      " ",
                                      "100000",
                                      "100000 ",
                                      "100000 0",
                                      "0 100000",
                                      "-1 100000",
                                      "x 100000",
                                      "100000 x",
                                      "100000x 100000",
                                      "100000 100000 100000",
                                      "+5 100000",
                                      "99999999999999999999999999 100000",
                                      "18446744073709551617 100000",
                                      "100000 99999999999999999999999999",
                                      "maximum 100000",
                                      "100000\t100000"};
    put_v2("/a", "/");
    put(V2_MOUNT "/cpu.max", "900000 100000\n");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put(V2_MOUNT "/a/cpu.max", bad[i]);
        expect(9000);
    }
    put(V2_MOUNT "/a/cpu.max", "1000000000000000 1\n");
    expect(9000);
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const char *const cgroups[] = {
        "0", "0:", "0::", "::", ":::", "0::a", "1::/a", "0:cpu", "0:cpus:/a"};
    static const char *const mounts[] = {"",
                                         "31",
                                         "31 22 0:27 /",
                                         "31 22 0:27 / /sys/fs/cgroup",
                                         "31 22 0:27 / /sys/fs/cgroup rw",
                                         "31 22 0:27 / /sys/fs/cgroup rw -",
                                         "31 22 0:27 / /sys/fs/cgroup rw - ",
                                         "31 22 0:27 / /sys/fs/cgroup rw - cgroup2",
                                         "31 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2",
                                         "31 22 0:27 / /sys/fs/cgroup rw - cgroup3 cgroup2 rw",
                                         "31 22 0:27 x /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                                         "31 22 0:27 / sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                                         "31 22 0:27  /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                                         "31 22 0:27 / /sys/fs/cgroup rw cgroup2 cgroup2 rw",
                                         "- - - - - - - - - - -"};
    put_v2("/a", "/");
    put(V2_MOUNT "/a/cpu.max", "100000 100000\n");
    put(V2_MOUNT "/cpu.max", "200000 100000\n");
    expect(1000);
    for (size_t i = 0; i < sizeof cgroups / sizeof cgroups[0]; i++) {
        put("/proc/self/cgroup", cgroups[i]);
        expect(0);
    }
    put("/proc/self/cgroup", "\n::\n0\n0::/a\n0::/b");
    expect(1000);
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        put("/proc/self/mountinfo", mounts[i]);
        expect(0);
    }
}

/* Well-formed files with some bytes changed: under a sanitizer this says that no input is read past its end.
 */
static void test_garbage(void **state)
{
    (void)state;
    static const char cgroup[] = "5:cpu:/a/../b\n0::/a/b\n";
    static const char mounts[] = "31 22 0:27 / /cpu rw x:1 - cgroup cgroup rw,cpu\n"
                                 "31 22 0:27 /../.. /\\040all rw - cgroup2 cgroup2 rw\n"
                                 "31 22 0:27 /a /all rw - cgroup2 cgroup2 rw\n";
    static const char bytes[] = "\0\n :/.-\\0cx,";
    uint64_t random = 88172645463325252;
    put("/all/cpu.max", "100000 100000\n");
    put("/all/b/cpu.max", "\377\0\377 100000");
    for (int round = 0; round < 500; round++) {
        char a[sizeof cgroup], b[sizeof mounts];
        memcpy(a, cgroup, sizeof a);
        memcpy(b, mounts, sizeof b);
        for (int i = 0; i < 6; i++) {
            a[rt_random(&random) % sizeof a] = bytes[rt_random(&random) % sizeof bytes];
            b[rt_random(&random) % sizeof b] = bytes[rt_random(&random) % sizeof bytes];
        }
        put_bytes("/proc/self/cgroup", a, rt_random(&random) % (sizeof a + 1));
        put_bytes("/proc/self/mountinfo", b, rt_random(&random) % (sizeof b + 1));
        const uint64_t quota = rt_cpus_quota(tree);
        assert_true(quota == 0 || quota == 1000);
    }
}

/* rt_cpus_available in a child for which `tree` is the root directory. */
static size_t available_in_tree(void)
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0)
            _exit(255);
        if (chroot(tree) != 0 || chdir("/") != 0)
            _exit(255);
        errno = 4242;
        const size_t cpus = rt_cpus_available();
        _exit(errno == 4242 && cpus < 254 ? (int)cpus : 254);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 255)
        skip();
    return (size_t)WEXITSTATUS(status);
}

static void test_available(void **state)
{
    (void)state;
    put_v2("/a", "/");
    mask_size = 128;
    mask_bits = 10;
    assert_int_equal(available_in_tree(), 10);
    put(V2_MOUNT "/a/cpu.max", "150000 100000\n");
    assert_int_equal(available_in_tree(), 2);
    put(V2_MOUNT "/a/cpu.max", "200000 100000\n");
    assert_int_equal(available_in_tree(), 2);
    put(V2_MOUNT "/a/cpu.max", "200001 100000\n");
    assert_int_equal(available_in_tree(), 3);
    put(V2_MOUNT "/a/cpu.max", "1000 100000\n");
    assert_int_equal(available_in_tree(), 1);
    put(V2_MOUNT "/a/cpu.max", "9900000 100000\n");
    assert_int_equal(available_in_tree(), 10);
}

static void test_many_cpus(void **state)
{
    (void)state;
    mask_size = 8192 / 8;
    mask_bits = 200; /* the upper ones */
    assert_int_equal(available_in_tree(), 200);
}

static void test_no_mask(void **state)
{
    (void)state;
    static const int errors[] = {EINVAL, ENOSYS, EPERM};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        mask_error = errors[i];
        errno = 4242;
        const size_t cpus = rt_cpus_available();
        assert_int_equal(errno, 4242);
        assert_in_range(cpus, 1, (uintmax_t)sysconf(_SC_NPROCESSORS_CONF));
    }
}

static void test_real_machine(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const size_t cpus = rt_cpus_available();
    assert_in_range(cpus, 1, (uintmax_t)CPU_COUNT(&before));
    if (rt_cpus_quota("") == 0)
        assert_int_equal(cpus, CPU_COUNT(&before));
    size_t first = 0;
    while (!CPU_ISSET(first, &before))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(syscall(SYS_sched_setaffinity, 0, sizeof one, &one), 0);
    assert_int_equal(rt_cpus_available(), 1);
    assert_int_equal(syscall(SYS_sched_setaffinity, 0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_v2_leaf),    TEST(test_v2_ancestors), TEST(test_v2_deleted_leaf),
        TEST(test_v2_at_top),  TEST(test_root_field),   TEST(test_namespaces),
        TEST(test_v1),         TEST(test_hybrid),       TEST(test_escapes),
        TEST(test_long_lines), TEST(test_missing),      TEST(test_bad_values),
        TEST(test_bad_lines),  TEST(test_garbage),      TEST(test_available),
        TEST(test_many_cpus),  TEST(test_no_mask),      TEST(test_real_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
