/* slurm_keeper_internal.h - what the parts of a keeper share
 *
 *   slurm_keeper.c   the loop; beginning and ending; links that call
 *   slurm_client.c   couriers that ask for a channel
 *   slurm_alloc.c    an allocation, from sbatch to its end
 *   slurm_reserve.c  what is kept without a run
 *   slurm_give.c     what it is given: the agent, the batch script; what is kept on disk
 */
#ifndef TY_SLURM_KEEPER_INTERNAL_H
#define TY_SLURM_KEEPER_INTERNAL_H
#include "base/link_ends.h"
#include "target/slurm_ask.h"
#include "target/slurm_command.h"
#include "target/slurm_keeper.h"
#include "target/slurm_lines.h"
#include "target/slurm_pump.h"
#include <stdbool.h>

#define LOOK_US (2 * 1000 * 1000)  /* between two squeue */
#define SOON_US (200 * 1000)       /* after a sign that something has changed */
#define RETRY_US (5 * 1000 * 1000) /* after sbatch could not reach slurmctld */
#define NEVER INT64_MAX

/* A holder on one node. */
struct member {
    char *node;            /* Slurm's name of it */
    struct ty_link *link;  /* NULL: not there */
    struct ty_lines lines;
    json_t *about;         /* how it introduced itself */
    int64_t heard_us;
    int64_t left_us;       /* when its link broke; 0: it did not, or is back */
};

enum doing { DOING_NOTHING, DOING_SUBMIT, DOING_CANCEL, DOING_LOOK, DOING_TELL };

struct alloc {
    struct alloc *next;
    char id[17];
    char *shape;
    char *run, *job_dir;     /* whom it serves; NULL: nobody, it is kept for the next */
    json_t *spec;            /* of the run that it was asked for, for sbatch; NULL after that */
    int nodes;
    int64_t idle_seconds;
    uint32_t job;            /* Slurm's number; 0: not known yet */
    enum ty_slurm_state state;
    char word[24], reason[400], list[256];
    int64_t left_seconds;    /* as the last list said; -1: without end, or not known */
    char **names;            /* of its nodes, in Slurm's order; NULL: not known */
    struct member *members;  /* one for each node; the first is the first of Slurm's list */
    struct ty_slurm_command command;
    enum doing doing;
    int64_t retry_us;        /* sbatch is tried again; NEVER: it is not to be */
    bool unsure;             /* a keeper before this one may have asked for it: the list will tell */
    bool tell;               /* its holders do not know where we listen now, and share no folder with us */
    bool reserve;            /* asked for without a run */
    bool cancel;             /* scancel is wanted, or was */
    bool ending;             /* its holders were told to end */
    bool up;                 /* it was whole once */
    bool over;
    int absent;              /* lists in a row that it was not in */
    char *end_reason, *end_message; /* when it is over */
    const char *end_node;    /* the node that it ended for; NULL: none */
    int64_t idle_us;         /* since when it serves nobody */
    int64_t check_us;        /* when to look whether the run is over; NEVER */
    int64_t drop_us;         /* over: when channels that are still open are cut */
};

struct client {
    struct client *next;
    int fd;
    struct ty_lines lines;
    char *run, *job_dir, *why /* told last */, *token;
    int node;
    json_t *argv, *target, *spec;
    bool asked, gone, ended /* was told that the allocation is over */;
    int64_t asked_us, later_us; /* since when it waits for an allocation that is being left, and when to look again; 0: it does not */
    bool piped;
    struct ty_pump pump;
};

struct stranger { /* a link that has proven the key, and has not said what it is */
    struct stranger *next;
    struct ty_link *link;
    struct ty_lines lines;
    int64_t since_us;
    bool gone;
};

struct keeper {
    const char *agent, *folder;
    struct ty_owner *owner;
    char *home;                      /* of whom the jobs belong to */
    char key_text[2 * TY_LINK_KEY + 1];
    unsigned char key[TY_LINK_KEY];
    struct ty_gate *gate;
    int listen;
    struct ty_target_spec *target;   /* as asked last; NULL before */
    struct alloc *allocs;
    struct client *clients;
    struct stranger *strangers;
    struct ty_slurm_command look;    /* squeue */
    int64_t now_us, look_us, bare_us /* since when there is nothing to keep */;
    int64_t daemon_us, daemon_ask_us; /* when the daemon answered last; when it is asked next */
    int64_t reserve_us;              /* not before this is anything asked for without a run */
    char *trouble;                   /* why squeue failed; NULL: it did not */
    char sha[65];                    /* of the agent */
    bool moved;                      /* this is not the port that holders know */
    bool changed;                    /* what is on disk has to be written */
};

struct ty_slurm_setting keeper_setting(const struct keeper *k);

/* slurm_alloc.c */
struct alloc *alloc_of_run(struct keeper *k, const char *run);
/* The allocation of a run: its own, one that is kept and fits, or a new one.  NULL with c->later_us: one is being left, to be asked again
 * then; NULL without: out of memory, or the spec cannot be read. */
struct alloc *alloc_for(struct keeper *k, struct client *c, struct ty_error *err);
struct alloc *alloc_new(struct keeper *k, int nodes);
void alloc_free(struct alloc *a);
void alloc_cancel(struct alloc *a);
bool alloc_whole(const struct alloc *a); /* every holder is there */
struct member *alloc_member(const struct alloc *a, int node);
/* A holder has introduced itself: the link and the lines become its.  False: it is of no allocation here. */
bool alloc_join(struct keeper *k, struct stranger *s, json_t *about);
void alloc_turn(struct keeper *k, struct alloc *a);
void allocs_heard(struct keeper *k, char *queue); /* what squeue printed, which is written to */
char *alloc_why(const struct keeper *k, const struct alloc *a);
int64_t alloc_due(const struct keeper *k, const struct alloc *a);

int64_t alloc_idle_seconds(const struct ty_target_spec *t);

/* slurm_reserve.c */
int reserve_wanted(struct keeper *k); /* nodes */
bool reserve_holds(struct keeper *k, const struct alloc *a); /* it may not go, for all that it serves nobody */
void reserve_turn(struct keeper *k);
void reserve_lost(struct keeper *k, const struct alloc *a); /* it is over */
void reserve_changed(struct keeper *k); /* the target has */

/* slurm_client.c */
void client_new(struct keeper *k, int fd);
void client_turn(struct keeper *k, struct client *c);
bool client_opened(struct keeper *k, struct stranger *s, const char *token); /* a channel that it waits for */
void client_free(struct client *c);
bool clients_of(const struct keeper *k, const char *run);

/* slurm_give.c */
int give_script(struct keeper *k, const struct alloc *a, struct ty_str *ret, struct ty_error *err);
/* Where the holders find us when the port has changed. */
void give_address(struct keeper *k, const struct alloc *a);
void take_address(struct keeper *k, const struct alloc *a);
/* The same by a step of Slurm on each node; 0: it has begun. */
int tell_address(struct keeper *k, struct alloc *a);
int keep_key(struct keeper *k, int *port, struct ty_error *err);
void keep_port(struct keeper *k);
void keep_state(struct keeper *k);
int keep_load(struct keeper *k, struct ty_error *err);
char *keep_folder(const struct keeper *k); /* on the nodes and, when shared, here; malloc'ed */
#endif
