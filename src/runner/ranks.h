/* ranks.h - the processes of a job, as far as its runner knows of them
 *
 * A rank of this machine has a wrapper (launch.h), which is started and heard here.  Of a rank that runs elsewhere
 * somebody else tells, with the same functions: ty_ranks_started, ty_ranks_ended.  Nothing here decides what follows;
 * that is verdict.h and life.c.
 */
#ifndef TY_RANKS_H
#define TY_RANKS_H
#include "runner/jobfile.h"
#include "runner/launch.h"

/* Who a rank is. */
struct ty_rank_plan {
    int rank, node;             /* node: index of jobfile's nodes */
    int local_rank, local_size; /* within its node */
};

struct ty_member {
    struct ty_rank_plan plan;
    struct ty_rank wrapper; /* line -1: none, it runs elsewhere or is gone */
    int wrapper_status;     /* once `reaped` */
    bool reaped;            /* its wrapper, here or on its node */
    pid_t pid;              /* of the program; 0: not started yet */
    bool reported;          /* `status` is known */
    bool ended;             /* nothing of it runs any more */
    bool victim;            /* it said that it ends because another rank has gone */
    int status;             /* of the program, as of wait(2) */
    int oom_kills;          /* processes of its machine that the kernel killed for want of memory, from the job's start to its bad end */
    int64_t ended_us;       /* monotonic */
};

struct ty_ranks {
    struct ty_member *at; /* of the leader: all of the job, at[i] is rank i; of another node: its own */
    int n;
    int started, ended; /* how many were ever started; how many are over */
    int bad;            /* how many of those that are over have not ended well */
    int epoll;          /* readable when a wrapper has something to say; -1: there is none */
};
#define TY_RANKS_INIT { .epoll = -1 }

int ty_ranks_open(struct ty_ranks *s, const struct ty_jobfile *j, struct ty_error *err);
void ty_ranks_done(struct ty_ranks *s); /* closes all lines: the wrappers end their trees.  Fine for a fresh one */
/* Start the wrapper of s->at[i]. */
int ty_ranks_start(struct ty_ranks *s, int i, const struct ty_launch_spec *how, struct ty_error *err);
/* Hear what wrappers say, without waiting: fn is told of each report, and with NULL of the end of wrapper i's line. */
void ty_ranks_hear(struct ty_ranks *s, void (*fn)(int i, const struct ty_report *report, void *ctx), void *ctx);
/* Whoever waits for any child says so here; false: it is no wrapper. */
bool ty_ranks_reaped(struct ty_ranks *s, pid_t pid, int status);

/* The program of s->at[i] runs. */
void ty_ranks_started(struct ty_ranks *s, int i, pid_t pid);
/* It is over; `status` NULL: nobody knows how. */
void ty_ranks_ended(struct ty_ranks *s, int i, const int *status, bool victim, int64_t now_us);
/* Did it end well?  False also for one that is not over. */
bool ty_member_good(const struct ty_member *m);
#endif
