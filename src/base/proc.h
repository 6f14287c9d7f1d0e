/* proc.h - processes: who they are, starting them, ending whole trees of them
 *
 * A pid alone is no identity: numbers are used again, and a reboot starts over.  A process is named by
 * (boot id, pid, start time).
 */
#ifndef TY_PROC_H
#define TY_PROC_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
struct ty_error;
struct ty_owner;

struct ty_proc_id {
    char boot[40];  /* /proc/sys/kernel/random/boot_id, or $TRAINYARD_TEST_BOOT_ID */
    pid_t pid;      /* 0: nobody */
    uint64_t start; /* clock ticks since boot: field 22 of /proc/PID/stat */
};

int ty_proc_identify(pid_t pid, struct ty_proc_id *ret); /* 0 or -ESRCH */
bool ty_proc_alive(const struct ty_proc_id *id);         /* false for a zombie and after a reboot */
/* A pidfd of exactly this process, or -ESRCH.  Readable when it has ended. */
int ty_proc_open(const struct ty_proc_id *id);
int ty_proc_signal(const struct ty_proc_id *id, int sig);

/* A spec of a child: everything else is closed, signals are default, the child leads its own session. */
struct ty_spawn {
    const char *const *argv; /* NULL-terminated; argv[0] is a path, relative ones seen from cwd; PATH is not searched */
    const char *const *envp; /* NULL: this process's */
    const char *cwd;         /* NULL: stay */
    int in, out, err;        /* descriptors that become 0, 1, 2; -1: /dev/null */
    int keep[4], nkeep;      /* further descriptors (3 and up) that stay open, numbers unchanged */
    const struct ty_owner *owner; /* who it runs as; NULL: as this process */
};
/* 0 and the pid; a failed exec is reported here, with its reason. */
int ty_spawn(const struct ty_spawn *spec, pid_t *ret, struct ty_error *err);

/* Wait for the end of a child, also where signals interrupt; `status` may be NULL.  0 or a negative errno. */
int ty_wait(pid_t pid, int *status);

/* Send `sig` to every descendant of this process (which should be a subreaper), and SIGCONT to those that are
 * stopped, so that they hear it; returns how many there were, or a negative errno. */
int ty_tree_signal(int sig);
/* Kill every descendant with SIGKILL and reap until none is left or `timeout_ms` have passed.
 * 0, or -ETIMEDOUT.  fn (may be NULL) is told of each one reaped. */
int ty_tree_kill(int timeout_ms, void (*fn)(pid_t pid, int status, void *ctx), void *ctx);
/* That child is no part of the tree for the two above: a process that serves the others, and is ended when they are.  At most
 * TY_TREE_SPARED_MAX; -ENOSPC. */
#define TY_TREE_SPARED_MAX 64
int ty_tree_spare(pid_t pid);
void ty_tree_spare_none(void);
/* How many processes there are whose environment holds "name=value" and whose /proc/PID/comm is `comm`; or a
 * negative errno. */
int ty_marked_count(const char *name, const char *value, const char *comm);
/* SIGKILL every process whose environment holds "name=value" (not this one); returns how many there were, or a
 * negative errno. */
int ty_marked_kill(const char *name, const char *value);
/* What a wait status says: "exited with code 3", "was killed by signal 9 (Killed)" into buf[64]; returns buf. */
const char *ty_status_text(int status, char buf[64]);
#endif
