/* launch.h - the runner's side of a rank wrapper: starting it, and what it tells
 *
 * Runner and wrapper hold the two ends of a socket.  The wrapper reports through it; when the
 * runner's end closes, for whatever reason, the wrapper kills the whole tree of its program
 * (rank.h).
 */
#ifndef TY_LAUNCH_H
#define TY_LAUNCH_H
#include <sys/types.h>
struct ty_error;
struct ty_owner;

struct ty_launch_spec {
    const char *job_dir; /* marks every process of the job: TRAINYARD_JOB */
    const char *work;    /* working directory */
    const char *log;     /* stdout and stderr */
    char *const *argv, *const *env;
    char *const *after;  /* run when the program did not end by itself: removes what its tool left; NULL: nothing */
    const int *cpus;     /* that the program may use */
    int ncpus;           /* 0: it is not bound */
    int oom;             /* oom_score_adj of the program */
    int64_t files;       /* its limit on open files; 0: as the runner's */
    int err;             /* the wrapper's own stderr */
    const struct ty_owner *owner; /* who wrapper and program run as; NULL: as the runner */
};
struct ty_rank {
    pid_t pid; /* of the wrapper; 0: none */
    int line;  /* -1: none */
};
#define TY_RANK_INIT { .line = -1 }

enum ty_report_kind { TY_REPORT_STARTED, TY_REPORT_FAILED, TY_REPORT_EXITED };
struct ty_report {
    enum ty_report_kind kind;
    int value;      /* STARTED: pid of the program; FAILED: negative errno; EXITED: wait status */
    char text[768]; /* FAILED: why */
};

int ty_rank_start(const struct ty_launch_spec *s, struct ty_rank *ret, struct ty_error *err);
/* 0 and *ret; -EAGAIN: nothing yet; -EPIPE: the wrapper is gone (not reaped here). */
int ty_rank_report(struct ty_rank *r, struct ty_report *ret);
void ty_rank_done(struct ty_rank *r); /* close the line: the wrapper ends its tree */
#endif
