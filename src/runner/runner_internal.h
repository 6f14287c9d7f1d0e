/* runner_internal.h - what the parts of a runner share
 *
 *   runner.c    begins, waits for events, ends
 *   life.c      prepare -> run -> collect -> deliver: the only writer of the phase; tells how the job ended
 *   start.c     what each rank is told, and starting them all
 *   follow.c    what becomes of the ranks, up to the end of the last
 *   leading.c   the job's other nodes, where this is its first
 *   node.c      what is different where it is not
 *   hang.c      ranks that keep others waiting
 *   helpers.c   programs that have to be there before a rank starts
 *   mpi.c       the PMIx helper of MPI jobs
 *   environment.c  what the job's environment came to
 *   deliver.c   what goes to the daemon, and what it answers
 */
#ifndef TY_RUNNER_INTERNAL_H
#define TY_RUNNER_INTERNAL_H
#include "runner/child.h"
#include "runner/fence.h"
#include "runner/hang.h"
#include "runner/jobfile.h"
#include "runner/launch.h"
#include "runner/logs.h"
#include "runner/pmix.h"
#include "runner/ranks.h"
#include "runner/records.h"
#include "runner/rows.h"
#include "runner/stream.h"
#include <stdbool.h>

#define TY_NEVER INT64_MAX
#define TY_ROWS_POLL_US (100 * 1000)
#define TY_LOG_HOLD_US (3 * 1000) /* between two reads of a log: many small writes become one frame */
#define TY_TREE_KILL_MS 5000

enum ty_ending {
    TY_ENDING_SCRIPT,
    TY_ENDING_CANCEL,
    TY_ENDING_TIME_LIMIT,
    TY_ENDING_PREPARE,
    TY_ENDING_ENVIRONMENT,
    TY_ENDING_LOST,
    TY_ENDING_NODE_LOST,
    TY_ENDING_HANG,
    TY_ENDING_COUNT
};

/* Programs beside the ranks, on this node; each has to have said what it is asked before a rank starts (helpers.c). */
enum ty_helper { TY_HELPER_RENDEZVOUS, TY_HELPER_COUNT };

/* What all ranks of the job have to be told, on every node the same. */
struct ty_meeting {
    char addr[64];        /* of the leader; "": all ranks are on this machine */
    int port;             /* MASTER_PORT; 0: not chosen yet */
    int hold;             /* keeps the port; -1: nothing does */
    int rendezvous;       /* port of the collectives' rendezvous; 0: not known, or there is none */
    char secret[65];      /* of that */
    char interface[16];   /* of this machine, that leads to the others; "": none is needed, or known */
};

/* What an MPI job has besides (mpi.c). */
struct ty_runner;
struct ty_mpi {
    struct ty_pmix *helper;   /* NULL: there is none */
    bool settled;             /* it is ready, or will not be */
    int64_t due_us;           /* when it is no longer waited for */
    struct ty_fences *fences; /* of a leader of other machines */
    char **versions;          /* of a leader: what each node has of Open MPI; NULL: not known yet */
    bool differ;              /* and that they differ has been told */
    int aborted;              /* index of the rank that called MPI_Abort; -1: none */
    int64_t aborted_us;
    /* Ways to the other machines, set by who has them.  A leader's: a fence is complete, tell those nodes; a node's: this
     * node has come to a fence, tell the leader. */
    void (*fenced)(struct ty_runner *r, const int *nodes, int n, const struct ty_frame *f);
    void (*came)(struct ty_runner *r, const struct ty_frame *f);
};
/* The job's environment on this node (env/env.h), once it is there. */
struct ty_job_env {
    char *interpreter, *prefix, *path; /* malloc'ed; interpreter NULL: nothing was asked for, or it is not there yet */
    json_t *variables;
    int hold;          /* keeps the prefix; -1: nothing does */
    bool failed;       /* it could not be built, here or on another node: that is what `failure` says */
    int failed_node;   /* whose build that was */
    char doing[40];    /* what was told last of a build, */
    int percent;
    int64_t told_us;   /* and when */
};
struct ty_lead;
struct ty_fetch;
struct ty_blobs;
struct ty_proc_id;
struct ty_came;

struct ty_runner {
    struct ty_jobfile *job;
    struct ty_records *records;
    struct ty_stream *stream;
    struct ty_rows *rows;
    struct ty_logs logs;
    int lock, dir_fd, signals, inotify, spool_watch; /* inotify -1: none to be had, everything is polled */
    int oom; /* oom_score_adj as it was */
    int64_t oom_kills; /* as the kernel counted when the ranks were started; -1: it does not */
    int64_t files; /* the limit on open files as it was; 0: it is unchanged */
    int64_t now_us;
    bool over; /* leave the loop and remove the folder */

    /* records on their way to the disk */
    struct ty_child syncer;
    uint64_t sync_mark;   /* up to where it syncs */
    int64_t write_due_us; /* what failed is not tried again before; 0: nothing failed */

    /* sampling.c */
    struct ty_child sampler;
    int64_t sampler_due_us; /* when it begins */

    /* life.c */
    enum ty_phase phase;
    enum ty_ending ending; /* why the job ends, as far as it is known */
    int collections; /* that ended early */
    struct ty_child child; /* preparing, or collecting */
    struct ty_child helper[TY_HELPER_COUNT];
    struct ty_meeting meeting;
    struct ty_mpi mpi;
    struct ty_job_env env;
    bool prepared;         /* and only the helpers are waited for */
    struct ty_ranks ranks;
    bool started_told;     /* the record `started` was made */
    int culprit;           /* index of the rank that ended the job; -1: none */
    int64_t verdict_us;    /* when to look for it again */
    struct ty_hang hang;
    char *failure;         /* malloc'ed: why the job could not be prepared or started */
    int64_t limit_us, kill_us; /* when the time limit is reached; when SIGKILL follows SIGTERM */
    bool rebooted;
    char *declared;        /* malloc'ed: what run.fail() said on another node; NULL: nothing */

    /* leading.c, of the first node */
    struct ty_lead *lead;  /* NULL: there are no other nodes */
    int lost_node;         /* of TY_ENDING_NODE_LOST */
    bool own_collected;    /* the files of this node are kept; those of others may be waited for */
    bool released;         /* the others were told that they may go */

    /* node.c, of any other node */
    struct ty_blobs *blobs; /* what is fetched goes there */
    struct ty_fetch *fetch;
    struct ty_came *came;  /* fences that the first node was told of, and has not answered */
    bool known;            /* the first node has welcomed it once */
    bool ready_told, gone; /* gone: the ranks may start */
    int64_t heard_us;      /* when the first node was heard last */
    int64_t spoke_us;      /* the same, or when the connection was made anew since */

    /* deliver.c */
    uint64_t welcomed; /* the connection that was welcomed */
    uint64_t records_acked, collected_seq; /* collected_seq 0: not there yet */
    int64_t hold_us;      /* no log is read before */
    int64_t rows_due_us;  /* when to look at the row spools */
    bool rescan;          /* a spool appeared or was not complete */
    unsigned char *buf;   /* rows and log bytes on their way */
};

void ty_runner_init(struct ty_runner *r); /* a fresh one, with nothing in it */
/* A line in 60_control_log.txt, for users. */
void ty_runner_note(struct ty_runner *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Add a record; consumed.  It goes to disk in the same turn of the loop. */
uint64_t ty_runner_record(struct ty_runner *r, json_t *o);
void ty_runner_warning(struct ty_runner *r, const char *text);
/* Reap every child that has ended. */
void ty_runner_reap(struct ty_runner *r);
void ty_runner_reaped(pid_t pid, int status, void *ctx);

/* life.c.  `exited`: records.spool has that record; `collected`: it has that one too. */
void ty_life_begin(struct ty_runner *r);
void ty_life_salvage(struct ty_runner *r, bool exited);
void ty_life_cancel(struct ty_runner *r, enum ty_ending why);
void ty_life_child(struct ty_runner *r);  /* the child has something to say */
void ty_life_ready(struct ty_runner *r);  /* a helper has said what it had to, or failed (`failure`) */
void ty_life_timers(struct ty_runner *r);
int64_t ty_life_due(const struct ty_runner *r);
void ty_life_stop(struct ty_runner *r);   /* end everything that was started */
void ty_life_phase(struct ty_runner *r, enum ty_phase p);
/* The same with another time between SIGTERM and SIGKILL.  What is ending already ends sooner, if need be. */
void ty_life_end(struct ty_runner *r, enum ty_ending why, int64_t grace_us);
/* Everything is kept, here and on other nodes?  Then `collected`. */
void ty_life_conclude(struct ty_runner *r);
/* What run.fail() has left on this node: a sentence, malloc'ed; NULL: it was not called. */
char *ty_life_declared(const struct ty_runner *r);
/* Nothing of the job runs any more: `status` (NULL: nobody knows), and a sentence for people.  With a culprit it is named. */
void ty_life_finish(struct ty_runner *r, const int *status, const char *message);
/* The same for one that could not be prepared or started. */
void ty_life_fail(struct ty_runner *r, const char *message);
/* Everything that descends from the runner ends; 0 or -ETIMEDOUT. */
int ty_life_kill_all(struct ty_runner *r);
const char *ty_life_program(const struct ty_runner *r); /* "script" or "command" */

/* environment.c */
/* A line of the preparing child; one that is about something else does nothing. */
void ty_environment_hear(struct ty_runner *r, const char *kind, json_t *line);
/* The node has said how far it is, or what it came to: further on to the daemon, or to the first node. */
void ty_environment_building(struct ty_runner *r, int node, const json_t *told);
void ty_environment_there(struct ty_runner *r, int node, json_t *record);
void ty_environment_done(struct ty_runner *r);

/* start.c */
void ty_start_ranks(struct ty_runner *r);

/* follow.c */
void ty_follow_ranks(struct ty_runner *r); /* wrappers have something to say */
void ty_follow_judge(struct ty_runner *r); /* is it time to end the job because a rank has failed? */
void ty_follow_started(struct ty_runner *r, int i, pid_t pid); /* rank i runs, wherever */
/* "rank 3 (node h2)", or in a job of one process "the script", into buf[320]; returns buf. */
const char *ty_follow_who(const struct ty_runner *r, int i, char buf[320]);

/* The rank called MPI_Abort: it ends the job, if nothing else has. */
void ty_follow_abort(struct ty_runner *r, int rank, int code);
/* leading.c; without other nodes they do nothing, and nobody is waited for */
int ty_leading_open(struct ty_runner *r, struct ty_error *err);
/* In place of that, after a runner that was killed: warns of nodes whose part is lost.  settled: an object with the names of those
 * whose end that runner has told as keys; NULL: none. */
void ty_leading_after(struct ty_runner *r, const json_t *settled);
bool ty_leading_ready(const struct ty_runner *r);
void ty_leading_go(struct ty_runner *r); /* all start, here and there */
void ty_leading_end(struct ty_runner *r, int64_t grace_ms);
void ty_leading_artifact(struct ty_runner *r, const json_t *o); /* a file of this node is kept */
/* A node may be lost, and if so it is to blame for what ranks say of others that have gone. */
bool ty_leading_trouble(const struct ty_runner *r);
void ty_leading_take(struct ty_runner *r);  /* all of this node are */
bool ty_leading_over(const struct ty_runner *r); /* nothing is to be expected from other nodes */
void ty_leading_release(struct ty_runner *r);

/* node.c */
struct ty_stream *ty_node_stream(struct ty_runner *r, const struct ty_proc_id *me, struct ty_error *err);
int ty_node_prepare(struct ty_runner *r, struct ty_error *err);
void ty_node_welcome(struct ty_runner *r, const json_t *o);
void ty_node_frame(struct ty_runner *r, const struct ty_frame *f);
void ty_node_pump(struct ty_runner *r);
void ty_node_heard(struct ty_runner *r);
void ty_node_ready(struct ty_runner *r); /* its part is prepared */
void ty_node_rank_started(struct ty_runner *r, int i);
void ty_node_rank_ended(struct ty_runner *r, int i);
void ty_node_timers(struct ty_runner *r);
int64_t ty_node_due(const struct ty_runner *r);
void ty_node_done(struct ty_runner *r);

/* helpers.c */
int ty_helpers_start(struct ty_runner *r, struct ty_error *err);
void ty_helpers_hear(struct ty_runner *r, enum ty_helper h);
bool ty_helpers_ready(const struct ty_runner *r); /* nothing has to be waited for before ranks are started */
void ty_helpers_reaped(struct ty_runner *r, pid_t pid, int status);
void ty_helpers_stop(struct ty_runner *r);

/* sampling.c: system metrics */
void ty_sampling_begin(struct ty_runner *r); /* the ranks run */
void ty_sampling_timers(struct ty_runner *r);
void ty_sampling_hear(struct ty_runner *r);  /* the helper has something to say */
void ty_sampling_end(struct ty_runner *r);

/* mpi.c.  Nothing here fails the job. */
void ty_mpi_start(struct ty_runner *r);
bool ty_mpi_ready(const struct ty_runner *r); /* or there is nothing to wait for */
int ty_mpi_fd(const struct ty_runner *r, short *events); /* -1: none */
void ty_mpi_hear(struct ty_runner *r);
int64_t ty_mpi_due(const struct ty_runner *r); /* when to call ty_mpi_timer without an event */
void ty_mpi_timer(struct ty_runner *r);
/* What that rank needs in its environment, owned by the helper; NULL: nothing. */
const char *const *ty_mpi_env(const struct ty_runner *r, const struct ty_rank_plan *p);
/* Leader: node `node` has come to a fence (FENCE).  Any: a fence is complete (FENCED). */
void ty_mpi_fence(struct ty_runner *r, int node, const struct ty_frame *f);
void ty_mpi_fenced(struct ty_runner *r, const struct ty_frame *f);
/* Leader: what that node has of Open MPI ("" for none; a node tells it in its record `mpi`).  Where it differs, a warning
 * names both. */
void ty_mpi_has(struct ty_runner *r, int node, const char *version);
void ty_mpi_reaped(struct ty_runner *r, pid_t pid, int status);
void ty_mpi_stop(struct ty_runner *r);

/* deliver.c */
void ty_deliver_frames(struct ty_runner *r);
void ty_deliver_pump(struct ty_runner *r);
void ty_deliver_limits(struct ty_runner *r); /* tell of logs that are too long, and give back what is too much */
int64_t ty_deliver_due(const struct ty_runner *r);
/* Would news of the files be of any use now?  Without a daemon, or while a log is held back, they
 * need wake nobody. */
bool ty_deliver_listens(const struct ty_runner *r);
#endif
