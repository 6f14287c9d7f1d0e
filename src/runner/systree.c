/* systree.c - see systree.h */
#include "runner/systree.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runner/procstat.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Reading all of /proc may take this share of one CPU, and no more: 0.05 %. */
#define SHARE 2000

/* A process of the machine; its place in the job is not known (UNKNOWN), or no place (FOREIGN), or a rank's index. */
enum { UNKNOWN = -2, FOREIGN = -1 };
struct process {
    struct ty_proc_stat stat;
    int owner;
};

struct ty_systree {
    struct ty_systree_rank *ranks; /* borrowed */
    int nranks;
    int64_t due_us;      /* when all of /proc is read again */
    struct process *all; /* by pid: of the machine while it is read, then of the job */
    size_t n, room;
    int64_t page_bytes;
};

struct ty_systree *ty_systree_new(struct ty_systree_rank *ranks, int n)
{
    struct ty_systree *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->ranks = ranks;
    t->nranks = n;
    t->page_bytes = sysconf(_SC_PAGESIZE);
    return t;
}

struct ty_systree *ty_systree_free(struct ty_systree *t)
{
    if (t)
        free(t->all);
    free(t);
    return NULL;
}

static int read_process(const char *pid, struct ty_proc_stat *ret)
{
    char path[32], text[1024];
    CLEANUP_CLOSE int fd = -1;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%.16s/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return -ESRCH;
    text[n] = '\0';
    return ty_procstat_process(text, ret);
}

static int add(struct ty_systree *t, const struct ty_proc_stat *stat)
{
    if (t->n == t->room) {
        size_t room = t->room ? t->room * 2 : 256;
        struct process *more = realloc(t->all, room * sizeof *more);

        if (!more)
            return -ENOMEM;
        t->all = more;
        t->room = room;
    }
    t->all[t->n++] = (struct process){ .stat = *stat, .owner = UNKNOWN };
    return 0;
}

static int by_pid(const void *a, const void *b)
{
    pid_t x = ((const struct process *)a)->stat.pid, y = ((const struct process *)b)->stat.pid;

    return x < y ? -1 : x > y;
}

static struct process *find(const struct ty_systree *t, pid_t pid)
{
    struct process key = { .stat.pid = pid };

    return t->n ? bsearch(&key, t->all, t->n, sizeof *t->all, by_pid) : NULL;
}

/* Up to somebody whose place is known; then the same way again, to tell all that it led by.  Whose ancestors are not there
 * is nobody's. */
static void place(struct ty_systree *t, struct process *p)
{
    struct process *at = p;
    int owner;

    while (at && at->owner == UNKNOWN)
        at = at->stat.parent > 1 ? find(t, at->stat.parent) : NULL;
    owner = at ? at->owner : FOREIGN;
    for (at = p; at && at->owner == UNKNOWN; at = find(t, at->stat.parent))
        at->owner = owner;
}

/* Only what is the job's stays. */
static void keep_own(struct ty_systree *t)
{
    size_t kept = 0;

    for (int i = 0; i < t->nranks; i++) {
        struct process *wrapper = find(t, t->ranks[i].wrapper);

        if (wrapper)
            wrapper->owner = i;
    }
    for (size_t i = 0; i < t->n; i++)
        place(t, &t->all[i]);
    for (size_t i = 0; i < t->n; i++)
        if (t->all[i].owner >= 0 && kept < TY_SYSTREE_MAX)
            t->all[kept++] = t->all[i];
    t->n = kept;
}

static int read_all(struct ty_systree *t)
{
    CLEANUP_DIR DIR *d = opendir("/proc");
    struct ty_proc_stat stat;
    int r = d ? 0 : -errno;

    t->n = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && read_process(e->d_name, &stat) == 0)
            r = add(t, &stat);
    if (r < 0) {
        t->n = 0;
        return r;
    }
    qsort(t->all, t->n, sizeof *t->all, by_pid);
    keep_own(t);
    return 0;
}

static void read_known(struct ty_systree *t)
{
    size_t kept = 0;

    for (size_t i = 0; i < t->n; i++) {
        struct process p = t->all[i];
        char pid[16];

        snprintf(pid, sizeof pid, "%d", (int)p.stat.pid);
        if (read_process(pid, &p.stat) == 0 && p.stat.start == t->all[i].stat.start)
            t->all[kept++] = p;
    }
    t->n = kept;
}

static void sum(struct ty_systree *t)
{
    for (int i = 0; i < t->nranks; i++) {
        t->ranks[i].ticks = 0;
        t->ranks[i].resident_bytes = 0;
        t->ranks[i].processes = 0;
    }
    for (size_t i = 0; i < t->n; i++) {
        struct ty_systree_rank *r = &t->ranks[t->all[i].owner];

        r->ticks += t->all[i].stat.ticks;
        r->resident_bytes += t->all[i].stat.resident_pages * t->page_bytes;
        r->processes++;
    }
}

int ty_systree_look(struct ty_systree *t, int64_t now_us)
{
    int64_t began = ty_mono_us();
    int r = 0;

    if (now_us >= t->due_us) {
        r = read_all(t);
        t->due_us = now_us + (ty_mono_us() - began) * SHARE;
    } else {
        read_known(t);
    }
    sum(t);
    return r;
}
