/* procstat.c - see procstat.h */
#include "runner/procstat.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512 /* of diskstats, whatever the disk has */

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');

    return end && end[1] ? end + 1 : NULL;
}

int ty_procstat_cpu(const char *text, struct ty_proc_cpu *ret)
{
    uint64_t user, nice, system, idle, wait = 0, irq = 0, soft = 0, steal = 0, busy;

    /* guest time is part of user time already */
    if (strncmp(text, "cpu ", 4) != 0 ||
        sscanf(text + 4,
               "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64,
               &user, &nice, &system, &idle, &wait, &irq, &soft, &steal) < 4)
        return -EBADMSG;
    busy = user + nice + system + irq + soft + steal;
    *ret = (struct ty_proc_cpu){ .busy = busy, .all = busy + idle + wait };
    return 0;
}

/* Of "key: value kB" and of "key value". */
int ty_procstat_value(const char *text, const char *key, uint64_t *ret)
{
    size_t n = strlen(key);

    for (const char *line = text; line; line = next_line(line)) {
        const char *at = line + n;
        char *end;
        uint64_t value;

        if (strncmp(line, key, n) != 0 || (*at != ':' && *at != ' '))
            continue;
        at += *at == ':';
        errno = 0;
        value = strtoull(at, &end, 10);
        if (end == at || errno)
            return -EBADMSG;
        *ret = value;
        return 0;
    }
    return -EBADMSG;
}

int ty_procstat_memory(const char *text, struct ty_proc_memory *ret)
{
    uint64_t total, available;

    if (ty_procstat_value(text, "MemTotal", &total) < 0 ||
        ty_procstat_value(text, "MemAvailable", &available) < 0 || total > INT64_MAX ||
        available > INT64_MAX)
        return -EBADMSG;
    *ret =
        (struct ty_proc_memory){ .total_kb = (int64_t)total, .available_kb = (int64_t)available };
    return 0;
}

int ty_procstat_network(const char *text, struct ty_proc_flow *ret)
{
    struct ty_proc_flow sum = { 0 };
    bool any = false;

    for (const char *line = text; line; line = next_line(line)) {
        uint64_t in, out;
        char name[32];

        if (sscanf(line, " %31[^: ]: %" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, name, &in,
                   &out) != 3)
            continue;
        any = true;
        if (strcmp(name, "lo") == 0)
            continue;
        sum.in += in;
        sum.out += out;
    }
    if (!any)
        return -EBADMSG;
    *ret = sum;
    return 0;
}

int ty_procstat_disks(const char *text, bool (*whole)(const char *name, void *ctx), void *ctx,
                      struct ty_proc_flow *ret)
{
    struct ty_proc_flow sum = { 0 };
    bool any = false;

    for (const char *line = text; line; line = next_line(line)) {
        uint64_t in, out;
        char name[64];

        if (sscanf(line, " %*u %*u %63s %*u %*u %" SCNu64 " %*u %*u %*u %" SCNu64, name, &in,
                   &out) != 3)
            continue;
        any = true;
        if (!whole(name, ctx))
            continue;
        sum.in += in * SECTOR;
        sum.out += out * SECTOR;
    }
    if (!any)
        return -EBADMSG;
    *ret = sum;
    return 0;
}

int ty_procstat_process(const char *text, struct ty_proc_stat *ret)
{
    const char *after = strrchr(text, ')'); /* a name may hold blanks and brackets */
    uint64_t user, system, start;
    int64_t child_user, child_system, resident;
    int pid, parent;

    if (!after || sscanf(text, "%d (", &pid) != 1 ||
        sscanf(after,
               ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNd64
               " %" SCNd64 " %*d %*d %*d %*d %" SCNu64 " %*u %" SCNd64,
               &parent, &user, &system, &child_user, &child_system, &start, &resident) != 7)
        return -EBADMSG;
    *ret = (struct ty_proc_stat){ .pid = pid,
                                  .parent = parent,
                                  .ticks =
                                      user + system + (uint64_t)child_user + (uint64_t)child_system,
                                  .start = start,
                                  .resident_pages = resident };
    return 0;
}

/* Is `word` one of the words of list[0..n), which have commas between them? */
static bool has_word(const char *list, size_t n, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = list, *end = list + n; at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t this = (size_t)((comma ? comma : end) - at);

        if (this == len && memcmp(at, word, len) == 0)
            return true;
        at += this + 1;
    }
    return false;
}

/* Lines "number:controllers:path"; the one without controllers is that of the second version. */
int ty_procstat_cgroup(const char *text, char *path, size_t n, bool *unified)
{
    const char *found = NULL;
    bool second = false;
    size_t len;

    for (const char *line = text; line; line = next_line(line)) {
        const char *list = strchr(line, ':'), *end = list ? strchr(list + 1, ':') : NULL;
        bool memory = end && has_word(list + 1, (size_t)(end - list - 1), "memory");

        if (!end || (!memory && (found || end != list + 1)))
            continue;
        found = end + 1;
        second = !memory;
        if (memory)
            break;
    }
    len = found ? strcspn(found, "\n") : 0;
    if (len == 0 || len >= n || *found != '/')
        return -EBADMSG;
    memcpy(path, found, len);
    path[len] = '\0';
    *unified = second;
    return 0;
}
