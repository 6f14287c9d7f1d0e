/* proc.c - processes: who they are, and ending whole trees of them
 *
 * Everything that is signalled is first opened as a pidfd and then looked at again: a number that was given to
 * another process in between is not hit.
 */
#include "base/proc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
    STAT_MAX_BYTES = 4096,
    ENVIRON_MAX_BYTES = 8 << 20,
    PROCS_MAX = 1 << 22,  /* the kernel's own limit of pids */
    MARK_PASSES_MAX = 50, /* ty_marked_kill: a process may fork while it is looked for */
    PAUSE_MIN_US = 500,
    PAUSE_MAX_US = 20000,
};

struct proc {
    pid_t pid, parent;
    uint64_t start;
    char name[16]; /* as in /proc/PID/comm */
    char state;    /* as in /proc/PID/stat: Z is a zombie, T is stopped */
    bool ours;     /* descends from this process */
};

struct procs {
    struct proc *list;
    size_t n, cap;
};

static void procs_done(struct procs *p)
{
    free(p->list);
}

/* ---- who is who ---- */

/* State, parent and start time: fields 3, 4 and 22 of /proc/PID/stat. */
#define STAT_FIELDS \
    ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64

/* The command's name stands in parentheses and may hold anything, parentheses too. */
static int parse_stat(const char *text, struct proc *ret)
{
    const char *before = strchr(text, '('), *after = strrchr(text, ')');
    int parent;

    if (!before || !after || sscanf(after, STAT_FIELDS, &ret->state, &parent, &ret->start) != 3)
        return -ESRCH;
    ret->parent = parent;
    snprintf(ret->name, sizeof ret->name, "%.*s", (int)(after - before - 1), before + 1);
    return 0;
}

static int read_proc(pid_t pid, struct proc *ret)
{
    CLEANUP_FREE char *text = NULL;
    struct proc p = { .pid = pid };
    char path[48];
    int r;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    r = ty_read_file(path, STAT_MAX_BYTES, &text, NULL);
    if (r < 0)
        return r == -ENOMEM ? r : -ESRCH;
    r = parse_stat(text, &p);
    if (r == 0)
        *ret = p;
    return r;
}

static void read_boot(char boot[40])
{
    const char *declared = getenv("TRAINYARD_TEST_BOOT_ID");
    CLEANUP_FREE char *text = NULL;

    if (declared && *declared)
        snprintf(boot, 40, "%s", declared);
    else if (ty_read_file("/proc/sys/kernel/random/boot_id", 256, &text, NULL) == 0)
        snprintf(boot, 40, "%.*s", (int)strcspn(text, "\n"), text);
    else
        boot[0] = 0;
}

int ty_proc_identify(pid_t pid, struct ty_proc_id *ret)
{
    struct proc p;
    int r = pid > 0 ? read_proc(pid, &p) : -ESRCH;

    if (r < 0)
        return r;
    ret->pid = pid;
    ret->start = p.start;
    read_boot(ret->boot);
    return 0;
}

static bool is_dead(char state)
{
    return state == 'Z' || state == 'X' || state == 'x';
}

bool ty_proc_alive(const struct ty_proc_id *id)
{
    char boot[40];
    struct proc p;

    if (id->pid <= 0 || read_proc(id->pid, &p) < 0 || p.start != id->start || is_dead(p.state))
        return false;
    read_boot(boot);
    return strcmp(boot, id->boot) == 0;
}

int ty_proc_open(const struct ty_proc_id *id)
{
    CLEANUP_CLOSE int fd = -1;

    if (id->pid <= 0)
        return -ESRCH;
    fd = (int)syscall(SYS_pidfd_open, id->pid, 0); /* close-on-exec from birth */
    if (fd < 0)
        return errno == EINVAL ? -ESRCH : -errno;
    if (!ty_proc_alive(id))
        return -ESRCH;
    return TAKE_FD(fd);
}

static int pidfd_signal(int fd, int sig)
{
    return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0 ? -errno : 0;
}

int ty_proc_signal(const struct ty_proc_id *id, int sig)
{
    CLEANUP_CLOSE int fd = ty_proc_open(id);

    return fd < 0 ? fd : pidfd_signal(fd, sig);
}

/* The same for what a scan found in this boot; a zombie counts as gone. */
static int signal_found(const struct proc *found, int sig)
{
    CLEANUP_CLOSE int fd = (int)syscall(SYS_pidfd_open, found->pid, 0);
    struct proc now;

    if (fd < 0)
        return -errno;
    if (read_proc(found->pid, &now) < 0 || now.start != found->start || is_dead(now.state))
        return -ESRCH;
    return pidfd_signal(fd, sig);
}

/* ---- scanning ---- */

static int procs_add(struct procs *all, const struct proc *p)
{
    if (all->n == PROCS_MAX)
        return -EFBIG;
    if (all->n == all->cap) {
        size_t cap = all->cap ? all->cap * 2 : 256;
        struct proc *more = realloc(all->list, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        all->list = more;
        all->cap = cap;
    }
    all->list[all->n++] = *p;
    return 0;
}

static bool procs_have(const struct procs *all, const struct proc *p)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->list[i].pid == p->pid && all->list[i].start == p->start)
            return true;
    return false;
}

static int by_pid(const void *a, const void *b)
{
    const struct proc *p = a, *q = b;

    return (p->pid > q->pid) - (p->pid < q->pid);
}

/* Everything that runs on this machine (as far as this process may see), in order of pid. */
static int procs_scan(struct procs *all)
{
    CLEANUP_DIR DIR *dir = opendir("/proc");
    struct dirent *e;
    struct proc p;
    int r;

    if (!dir)
        return -errno;
    while ((e = readdir(dir))) {
        if (!isdigit((unsigned char)e->d_name[0]) ||
            read_proc((pid_t)strtol(e->d_name, NULL, 10), &p) < 0)
            continue;
        r = procs_add(all, &p);
        if (r < 0)
            return r;
    }
    if (all->n > 1)
        qsort(all->list, all->n, sizeof *all->list, by_pid);
    return 0;
}

/* ---- ending trees ---- */

static pid_t spared[TY_TREE_SPARED_MAX];
static size_t nspared;

int ty_tree_spare(pid_t pid)
{
    if (nspared == TY_TREE_SPARED_MAX)
        return -ENOSPC;
    spared[nspared++] = pid;
    return 0;
}

void ty_tree_spare_none(void)
{
    nspared = 0;
}

static bool is_spared(pid_t pid)
{
    for (size_t i = 0; i < nspared; i++)
        if (spared[i] == pid)
            return true;
    return false;
}

static void forget_spared(pid_t pid)
{
    for (size_t i = 0; i < nspared; i++)
        if (spared[i] == pid)
            spared[i--] = spared[--nspared];
}

/* Mark those that descend from this process.  A child's pid may be lower than its parent's, so go round until
 * nothing changes: at most once for each generation. */
static void mark_descendants(struct procs *all)
{
    bool more = true;

    for (size_t round = 0; more && round <= all->n; round++) {
        more = false;
        for (size_t i = 0; i < all->n; i++) {
            struct proc *p = &all->list[i], key = { .pid = p->parent }, *parent;

            if (p->ours || is_spared(p->pid))
                continue;
            parent = bsearch(&key, all->list, all->n, sizeof key, by_pid);
            p->ours = p->parent == getpid() || (parent && parent->ours);
            more |= p->ours;
        }
    }
}

int ty_tree_signal(int sig)
{
    CLEANUP(procs_done) struct procs all = { 0 };
    int n = 0, r = procs_scan(&all);

    if (r < 0)
        return r;
    mark_descendants(&all);
    for (size_t i = 0; i < all.n; i++) {
        const struct proc *p = &all.list[i];

        if (!p->ours || is_dead(p->state) || signal_found(p, sig) < 0)
            continue;
        n++;
        /* Only these: SIGCONT would also take away the stop that a debugger has just asked for. */
        if (p->state == 'T' && sig != 0)
            (void)signal_found(p, SIGCONT);
    }
    return n;
}

/* Reap what has ended; false: there is no child left. */
static bool reap(void (*fn)(pid_t pid, int status, void *ctx), void *ctx)
{
    int status;
    pid_t pid;

    for (;;) {
        pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0) {
            forget_spared(pid);
            if (fn)
                fn(pid, status, ctx);
        } else if (pid == 0) {
            return true;
        } else if (errno != EINTR) {
            return false;
        }
    }
}

static void pause_us(long us)
{
    nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

int ty_tree_kill(int timeout_ms, void (*fn)(pid_t pid, int status, void *ctx), void *ctx)
{
    int64_t deadline = ty_mono_us() + (int64_t)timeout_ms * 1000;
    long wait = PAUSE_MIN_US;

    while (reap(fn, ctx)) {
        if (ty_mono_us() >= deadline)
            return -ETIMEDOUT;
        if (ty_tree_signal(SIGKILL) == 0 && nspared > 0) {
            reap(fn, ctx);
            return 0;
        }
        /* Nothing tells of the death of a grandchild that has another parent. */
        pause_us(wait);
        wait = wait * 2 < PAUSE_MAX_US ? wait * 2 : PAUSE_MAX_US;
    }
    return 0;
}

/* True when the process was started with exactly this "name=value" in its environment. */
static bool is_marked(pid_t pid, const char *mark, size_t n)
{
    CLEANUP_FREE char *env = NULL;
    size_t len = 0;
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    if (ty_read_file(path, ENVIRON_MAX_BYTES, &env, &len) < 0)
        return false;
    for (size_t at = 0; at < len; at += strlen(env + at) + 1)
        if (strcmp(env + at, mark) == 0 && at + n <= len)
            return true;
    return false;
}

int ty_marked_count(const char *name, const char *value, const char *comm)
{
    CLEANUP_FREE char *mark = ty_strf("%s=%s", name, value);
    CLEANUP(procs_done) struct procs all = { 0 };
    int n = 0, r = mark ? procs_scan(&all) : -ENOMEM;

    for (size_t i = 0; r == 0 && i < all.n; i++)
        n += strcmp(all.list[i].name, comm) == 0 && !is_dead(all.list[i].state) &&
             is_marked(all.list[i].pid, mark, strlen(mark));
    return r < 0 ? r : n;
}

/* One pass; the number of processes met for the first time. */
static int marked_pass(const char *mark, struct procs *seen)
{
    CLEANUP(procs_done) struct procs all = { 0 };
    int fresh = 0, r = procs_scan(&all);

    if (r < 0)
        return r;
    for (size_t i = 0; i < all.n; i++) {
        const struct proc *p = &all.list[i];

        if (p->pid == getpid() || is_dead(p->state) || procs_have(seen, p) ||
            !is_marked(p->pid, mark, strlen(mark)))
            continue;
        if (signal_found(p, SIGKILL) < 0)
            continue;
        r = procs_add(seen, p);
        if (r < 0)
            return r;
        fresh++;
    }
    return fresh;
}

int ty_marked_kill(const char *name, const char *value)
{
    CLEANUP_FREE char *mark = ty_strf("%s=%s", name, value);
    CLEANUP(procs_done) struct procs seen = { 0 };
    int r = 1;

    if (!mark)
        return -ENOMEM;
    for (int pass = 0; r > 0 && pass < MARK_PASSES_MAX; pass++)
        r = marked_pass(mark, &seen);
    return r < 0 ? r : (int)seen.n;
}

const char *ty_status_text(int status, char buf[64])
{
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    const char *name = sig ? sigdescr_np(sig) : NULL;

    if (WIFEXITED(status))
        snprintf(buf, 64, "exited with code %d", WEXITSTATUS(status));
    else if (name)
        snprintf(buf, 64, "was killed by signal %d (%s)", sig, name);
    else
        snprintf(buf, 64, "was killed by signal %d", sig);
    return buf;
}
