/* SPDX-License-Identifier: MIT
 *
 * Floor 1. See cpus.h; sched(7), cgroups(7), proc(5), and cgroup-v1/cgroups.txt, cgroup-v2.rst of the kernel.
 *
 * /proc/self/cgroup says in which cgroup we are, /proc/self/mountinfo where that is to be seen. A mount
 * shows the subtree below its root field, so the cgroup's directory is the mount point followed by
 * what the path has more than the root. Both are told as seen from our cgroup namespace, "/.." being
 * one above its top: a root made of nothing but "/.." is an ancestor of ours, though we are not told the
 * names on the way down from it. A path that leaves the mount upwards is not to be seen through it.
 *
 * Every mount that shows us is looked at, v1 and v2: a hybrid system has the cpu controller in
 * one of them, and the other has no such files. What is missing or not understood does not limit.
 */
#define _GNU_SOURCE
#include "cpus.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_CPUS (1 << 20) /* a mask that the kernel finds too small at this size is not about size */
#define MOST_US   UINT64_C(1000000000000000)

typedef struct {
    const char *root;
    char *v1; /* path of our cgroup in the v1 hierarchy of the cpu controller; NULL: none */
    char *v2;
    uint64_t quota; /* the least so far, thousandths of a CPU; 0: none */
} search_t;

/* 0 for what is no number, and for more than a thousand million seconds. */
static uint64_t to_us(const char *text)
{
    uint64_t n = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        n = n * 10 + (uint64_t)(*text - '0');
        if (n > MOST_US)
            return 0;
    }
    return *text == '\0' ? n : 0;
}

static void limit(search_t *s, uint64_t quota_us, uint64_t period_us)
{
    if (quota_us == 0 || period_us == 0)
        return;
    const uint64_t quota = (quota_us * 1000 + period_us - 1) / period_us;
    if (s->quota == 0 || quota < s->quota)
        s->quota = quota;
}

/* The first line of dir/name; false if there is none. */
static bool read_value(const char *dir, const char *name, char *line, int size)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const bool got = fgets(line, size, file) != NULL;
    fclose(file);
    if (got)
        line[strcspn(line, "\n")] = '\0';
    return got;
}

static void look_v1(search_t *s, const char *dir)
{
    char quota[64], period[64];
    if (read_value(dir, "cpu.cfs_quota_us", quota, sizeof quota) &&
        read_value(dir, "cpu.cfs_period_us", period, sizeof period))
        limit(s, to_us(quota), to_us(period));
}

static void look_v2(search_t *s, const char *dir)
{
    char both[64];
    if (!read_value(dir, "cpu.max", both, sizeof both))
        return;
    char *period = both;
    const char *quota = strsep(&period, " ");
    if (period)
        limit(s, to_us(quota), to_us(period));
}

/* True if `list`, separated by commas, contains `word`. */
static bool lists(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (;;) {
        const size_t n = strcspn(list, ",");
        if (n == length && memcmp(list, word, n) == 0)
            return true;
        if (list[n] == '\0')
            return false;
        list += n + 1;
    }
}

/* True if `path` has a component ".."; if `only`, if it has no others. */
static bool goes_up(const char *path, bool only)
{
    bool up = false;
    while (*(path += strspn(path, "/")) != '\0') {
        const size_t n = strcspn(path, "/");
        const bool dots = n == 2 && path[0] == '.' && path[1] == '.';
        if (only && !dots)
            return false;
        up = up || dots;
        path += n;
    }
    return up;
}

/* What of `path` lies below the mount's root; NULL: the mount does not show it. */
static const char *below(const char *path, const char *mount_root)
{
    const size_t n = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    if (strncmp(path, mount_root, n) == 0 && (path[n] == '/' || path[n] == '\0'))
        return goes_up(path + n, false) ? NULL : path + n;
    return goes_up(mount_root, true) ? "" : NULL;
}

/* Our cgroup and its ancestors, up to the top of the mount. */
static void climb(search_t *s, const char *mount_root, const char *mount_point, const char *path,
                  void (*look)(search_t *, const char *))
{
    const char *rest = path ? below(path, mount_root) : NULL;
    if (!rest)
        return;
    char dir[PATH_MAX];
    const int n = snprintf(dir, sizeof dir, "%s%s%s", s->root, mount_point, rest);
    if (n < 0 || (size_t)n >= sizeof dir)
        return;
    const size_t top = strlen(s->root) + strlen(mount_point);
    for (;;) {
        look(s, dir);
        if (strlen(dir) <= top)
            return;
        *strrchr(dir + top, '/') = '\0'; /* there is one: `rest` is empty or begins with it */
    }
}

/* mountinfo writes blank, tab, newline and backslash as \ooo. In place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' &&
            from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* hierarchy-id:controllers:path; "0::path" for v2. */
static void read_cgroup(search_t *s, char *line)
{
    const char *id = strsep(&line, ":");
    const char *controllers = strsep(&line, ":");
    if (!line || line[0] != '/')
        return;
    if (!s->v2 && strcmp(id, "0") == 0 && controllers[0] == '\0')
        s->v2 = strdup(line);
    else if (!s->v1 && lists(controllers, "cpu"))
        s->v1 = strdup(line);
}

/* id parent major:minor root mount-point options [optional...] - type source super-options */
static void read_mount(search_t *s, char *line)
{
    char *field[5];
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
        field[i] = strsep(&line, " ");
    while (line && strcmp(strsep(&line, " "), "-") != 0)
        continue;
    const char *type = strsep(&line, " ");
    strsep(&line, " ");
    const char *super = strsep(&line, " ");
    if (!super) /* strsep goes on answering NULL at the end of the line */
        return;
    unescape(field[3]);
    unescape(field[4]);
    if (field[3][0] != '/' || field[4][0] != '/')
        return;
    if (strcmp(type, "cgroup2") == 0)
        climb(s, field[3], field[4], s->v2, look_v2);
    else if (strcmp(type, "cgroup") == 0 && lists(super, "cpu"))
        climb(s, field[3], field[4], s->v1, look_v1);
}

static void each_line(search_t *s, const char *name, void (*take)(search_t *, char *))
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s%s", s->root, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return;
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    char *line = NULL; /* grows: options of an overlay mount can take kilobytes */
    size_t size = 0;
    while (getline(&line, &size, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        take(s, line);
    }
    free(line);
    fclose(file);
}

uint64_t rt_cpus_quota(const char *root)
{
    const int saved = errno;
    search_t s = {.root = root};
    each_line(&s, "/proc/self/cgroup", read_cgroup);
    each_line(&s, "/proc/self/mountinfo", read_mount);
    free(s.v1);
    free(s.v2);
    errno = saved;
    return s.quota;
}

/* CPUs in the mask of the calling thread, 0 if the kernel does not tell. The kernel refuses a
 * mask smaller than its own, which it does not tell the size of. */
static size_t count_affinity(void)
{
    for (int cpus = CPU_SETSIZE; cpus <= MOST_CPUS; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            return 0;
        const size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        const int rc = sched_getaffinity(0, size, set);
        const int error = rc == 0 ? 0 : errno;
        const int count = rc == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (error != EINVAL)
            return (size_t)count;
    }
    return 0;
}

size_t rt_cpus_available(void)
{
    const int saved = errno;
    size_t cpus = count_affinity();
    if (cpus == 0) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        cpus = online > 0 ? (size_t)online : 1;
    }
    const uint64_t quota = (rt_cpus_quota("") + 999) / 1000;
    if (quota > 0 && quota < cpus)
        cpus = (size_t)quota;
    errno = saved;
    return cpus;
}
