/* SPDX-License-Identifier: MIT
 *
 * Floor 1. How many CPUs this process may really use.
 */
#ifndef RT_OS_CPUS_H
#define RT_OS_CPUS_H

#include "../base/base.h"

/*
 * The smaller of the CPUs in the affinity mask of the calling thread and the CPU
 * quota of its cgroup and all the cgroup's ancestors (v2 cpu.max; v1
 * cpu.cfs_quota_us and cpu.cfs_period_us), the quota rounded up to whole CPUs.
 * At least 1. Never fails: what cannot be read does not limit. Leaves errno alone.
 */
size_t rt_cpus_available(void);

/*
 * The quota part, from files below `root` ("" is the real file system): root/proc/self/cgroup,
 * root/proc/self/mountinfo and the cgroup files below root at the mount points named there.
 * Returns the quota in thousandths of a CPU, rounded up; 0: none. Leaves errno alone.
 */
uint64_t rt_cpus_quota(const char *root);

#endif
