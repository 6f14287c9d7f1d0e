/* child.h - long work (unpacking, copying, hashing) in a process of its own; the runner stays at
 * its post
 *
 * The child tells what it does as JSON objects, one a line, through a pipe or socket.  It dies with the runner.
 */
#ifndef TY_CHILD_H
#define TY_CHILD_H
#include "base/json.h"
#include "base/str.h"
#include <sys/types.h>
struct ty_error;
struct ty_owner;

struct ty_child {
    pid_t pid; /* 0: none */
    int fd;    /* -1: none; readable when there is something to read */
    struct ty_str in;
    bool passes; /* descriptors may come with its lines (ty_child_start) */
    int passed;  /* the last that came, close-on-exec, until somebody takes it (TAKE_FD); -1: none */
    bool reaped; /* by ty_child_reaped */
    int status;
};
#define TY_CHILD_INIT { .fd = -1, .passed = -1 }

/* In the child, fn is called and its value (0 or a negative errno) ends it. */
int ty_child_start(struct ty_child *c, int (*fn)(int out, void *ctx), void *ctx, struct ty_error *err);
/* The same with a program of its own: `trainyard-agent WORD OUT ARGS...`, where OUT is the number of the pipe's descriptor.
 * It ends when nobody reads there any more, leads a session of its own and bears the mark of the job. */
struct ty_child_program {
    const char *word;
    const char *const *args; /* NULL-terminated, at most TY_CHILD_ARGS_MAX; NULL: none */
    int keep;                /* a descriptor that it inherits under the same number; -1: none */
    const char *job_dir;
    int err;                 /* its stderr */
    const struct ty_owner *owner; /* who it runs as; NULL: as the runner */
};
#define TY_CHILD_ARGS_MAX 8
int ty_child_exec(struct ty_child *c, const struct ty_child_program *p, struct ty_error *err);
/* Read what is there, at most 64 KiB, and hand on each whole line.  0, also where there is no child; -EPIPE at the end: the child
 * is over and *failed says whether it failed (a non-zero exit or a signal); then *c is as new. */
int ty_child_read(struct ty_child *c, void (*fn)(json_t *line, void *ctx), void *ctx, bool *failed);
/* Whoever waits for any child says so here; a pid that is not this child's is ignored. */
void ty_child_reaped(struct ty_child *c, pid_t pid, int status);
void ty_child_kill(struct ty_child *c); /* and wait; *c is as new */

/* For the child's side: {"kind": kind, "text": text}; text may be anything. */
void ty_child_tell(int out, const char *kind, const char *text);
int ty_child_send(int out, const json_t *line);
/* The same, and a descriptor with it: what it holds (a lock) is held in between, too.  For a child of ty_child_start. */
int ty_child_pass(int out, const json_t *line, int fd);
/* A JSON string of any bytes; what is not UTF-8, and NULs, become U+FFFD.  NULL: out of memory. */
json_t *ty_lossy_text(const char *bytes, size_t n);
#endif
