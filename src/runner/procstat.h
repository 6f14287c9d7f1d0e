/* procstat.h - what files of /proc and of cgroups say; pure: texts in, numbers out
 *
 * Every function returns 0, or -EBADMSG for a text that does not have what is asked for, and then writes nothing.  Counters only
 * grow, but for an interface or a disk that goes away: who takes differences has to expect a step back.
 */
#ifndef TY_PROCSTAT_H
#define TY_PROCSTAT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* /proc/stat, its first line: all CPUs together. */
struct ty_proc_cpu {
    uint64_t busy, all; /* clock ticks; waiting for a disk is not busy */
};
int ty_procstat_cpu(const char *text, struct ty_proc_cpu *ret);

/* /proc/meminfo */
struct ty_proc_memory {
    int64_t total_kb, available_kb;
};
int ty_procstat_memory(const char *text, struct ty_proc_memory *ret);

/* Two counters of bytes: received and sent, or read and written. */
struct ty_proc_flow {
    uint64_t in, out;
};
int ty_procstat_network(const char *text, struct ty_proc_flow *ret); /* /proc/net/dev: all interfaces but the loopback */
/* /proc/diskstats: all for which `whole` is true of the name; parts of a disk would count twice. */
int ty_procstat_disks(const char *text, bool (*whole)(const char *name, void *ctx), void *ctx, struct ty_proc_flow *ret);

/* /proc/PID/stat */
struct ty_proc_stat {
    pid_t pid, parent;
    uint64_t ticks; /* of CPU, its own and of children that it has waited for */
    uint64_t start; /* clock ticks since boot */
    int64_t resident_pages;
};
int ty_procstat_process(const char *text, struct ty_proc_stat *ret);

/* /proc/PID/cgroup: the path of the group that counts the memory, into path[n].  *unified: the second version of cgroups. */
int ty_procstat_cgroup(const char *text, char *path, size_t n, bool *unified);
/* The value of a line "key value", as of memory.stat. */
int ty_procstat_value(const char *text, const char *key, uint64_t *ret);
#endif
