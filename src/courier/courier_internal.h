/* courier_internal.h - what the parts of a courier share
 *
 *   courier.c   begins, waits for events, ends
 *   way.c       what is to be done next: prepare -> start -> run -> end; the only writer of the phase
 *   host.c      one host: its channel, what is brought there, what comes from it
 *   slurm.c     the nodes of an allocation in place of hosts
 *   data.c      data references: what a host sees of them, and what has to be brought
 *   data_back.c files of data references that come back
 *   relay.c     the runner's stream to the daemon, held where files have to come first
 *   voice.c     the courier itself as the runner of the job: while it prepares, and when there is no other
 *   lost.c      hosts that could not be cleaned are not forgotten
 *   ending.c    the end that a courier has to tell because no runner can
 */
#ifndef TY_COURIER_INTERNAL_H
#define TY_COURIER_INTERNAL_H
#include "blob/blob.h"
#include "core/run_spec.h"
#include "core/target_spec.h"
#include "courier/channel.h"
#include "courier/content.h"
#include "courier/ssh.h"
#include "data/listing.h"
#include "data/marker.h"
#include "runner/child.h"
#include <poll.h>
#include <stdbool.h>
struct ty_owner;

#define TY_NEVER INT64_MAX
#define TY_CONTROL_LOG "azureml-logs/60_control_log.txt"

enum ty_courier_phase {
    TY_COURIER_PREPARING, /* content is brought to every host */
    TY_COURIER_STARTING,  /* the runner of the first host is started */
    TY_COURIER_RUNNING,   /* its stream is relayed */
    TY_COURIER_TELLING,   /* no runner tells how the job ended: the courier does */
    TY_COURIER_CLEANING,  /* the daemon has released the job: job folders on hosts go */
};

/* What a host has come to. */
enum ty_host_state {
    TY_HOST_DOWN,      /* no connection; retry_us says when there is to be one */
    TY_HOST_GREETING,  /* ssh, and the shell behind it */
    TY_HOST_HELLO,     /* the far end is there, and has not spoken */
    TY_HOST_ATTACHING,
    TY_HOST_LOOKING,   /* which folders of datastores does it see? */
    TY_HOST_WAITING,   /* for the hashes of what has to be brought */
    TY_HOST_ASKING,    /* what is missing? */
    TY_HOST_SENDING,
    TY_HOST_READY,     /* START can be given, or RESUME where `here` */
    TY_HOST_STARTING,
    TY_HOST_RUNNING,
    TY_HOST_CLEANING,
    TY_HOST_CLEAN,     /* nothing of the job is left there; no connection */
};

/* An item that a host lacks. */
struct ty_missing {
    int list;
    size_t item;
};

struct ty_courier;
struct ty_courier_host {
    struct ty_courier *c;
    const struct ty_host *spec;
    int index;            /* of the node; 0 leads */
    enum ty_host_state state;
    struct ty_ssh ssh;
    bool here;            /* the job folder is there already */
    bool begun;           /* it has said that its runner or agent was started */
    bool touched;         /* something of the job may be there */
    bool wanted;          /* a connection is wanted */
    int64_t retry_us, delay_us;
    int64_t heard_us, spoken_us;
    int64_t greet_us;     /* when GREETING began, or its bytes went on */
    int failures;         /* connections that could not be made, in a row */
    int fruitless;        /* connections in a row that broke before it was READY, and with which nothing new had come there */
    size_t lacked;        /* files that it lacked when it was asked last */
    char why[600];        /* what the last one said */
    char openmpi[64];
    int resumes;          /* times that its runner was started again */

    /* bringing content */
    bool *brings;              /* malloc'ed; by data reference: its folder is not seen there; NULL: there are none */
    bool waits_for_data;
    int list;                  /* whose items are asked for: 0 c->content, from 1 on those of the data references */
    size_t asked, answers_due; /* items of that list; ASKs that are not answered */
    struct ty_missing *missing;
    size_t nmissing, missing_cap, sent;
    int sending;          /* descriptor of missing[sent]; -1 */
    uint64_t sending_left;
    uint64_t sent_bytes;
    int64_t note_us;           /* when its progress is told next; 0: not told yet */
};

/* A data reference whose datastore is a folder of this machine. */
struct ty_far_data {
    char *root;                  /* owned; the datastore's folder; NULL: it is none */
    char token[TY_MARKER_TOKEN]; /* ""; nobody else can see it */
    bool wanted, listed;         /* its files have to be brought somewhere; what they are is known */
    bool file;                   /* it is a file */
    char *folder;                /* owned; where its files lie */
    json_t *left;                /* owned; what is left out, for people */
    struct ty_content content;   /* with the listing */
    struct ty_listing_known *known; /* the listing by path, once it is asked */
};
enum ty_data_state { TY_DATA_IDLE, TY_DATA_GATHERING, TY_DATA_GATHERED, TY_DATA_COMPARING, TY_DATA_COMPARED };
struct ty_courier_data {
    struct ty_far_data *refs; /* owned; one for each of spec->data */
    bool any;
    enum ty_data_state state;
    struct ty_child child;    /* lists, or compares */
    char *failure;            /* malloc'ed; why the data cannot be listed */
    int compare;              /* the reference that is compared; -1: none */
    char *changes;            /* malloc'ed; what is different; NULL: nothing */
};

/* A blob that is on its way here. */
struct ty_wanted;

struct ty_relay {
    struct ty_flow daemon; /* open: the runner's stream goes through */
    uint32_t serial;       /* of the runner's connection */
    struct ty_str up;      /* up.text[up_at..]: what the runner sent and was not passed on yet */
    size_t up_at, seen_at; /* up to seen_at it was looked through for files */
    uint32_t owed;         /* passed on, and not said to the far end yet */
    bool held;             /* a file has to come first */
    bool unsynced;         /* files have come that are not safe on disk */
    int64_t passed_us;     /* when something went to the daemon last */
    struct ty_wanted *wanted;
    struct ty_blob_put *put;
    struct ty_data_landing *landing; /* in its place: a file of a data reference */
    uint64_t put_left;
    char put_sha[TY_SHA256_HEX + 1];
    uint64_t landed_seq;   /* the last record `data` whose file is where it belongs */
};

struct ty_voice {
    struct ty_flow daemon;
    bool wanted, welcomed;
    int64_t retry_us, delay_us, spoken_us;
    uint64_t log_sent, log_stored; /* bytes of the control log; the runner's begin behind them */
};

struct ty_courier {
    json_t *job;          /* job.json; what follows borrows from it, except where it says owned */
    char *dir;            /* owned; the job folder here */
    int dir_fd, lock, signals;
    const char *run, *token, *socket;
    int64_t attempt, node_lost_us;
    struct ty_run_spec *spec;      /* owned */
    struct ty_target_spec *target; /* owned */
    struct ty_owner *owner;        /* owned; as whom ssh runs; NULL: as this process */
    struct ty_blobs *blobs;
    struct ty_content content;
    json_t *nodes;                 /* owned; as in job.json */
    char sha[TY_SHA256_HEX + 1];   /* of the agent, which is this program */
    char link_key[65];
    json_t *link;                  /* owned; what the leader's line says; NULL: not said yet */

    int64_t now_us;
    enum ty_courier_phase phase;
    bool cancel;          /* the job is to be canceled */
    bool cancel_told;
    bool released;        /* the daemon wants to hear no more of it */
    bool folder_gone;
    json_t *verdict;      /* owned; the record `exited` */
    int64_t clean_until_us;
    struct ty_courier_host *hosts;
    struct ty_host *made;          /* owned; of kind slurm: what stands for its nodes */
    int nhosts;
    struct ty_relay relay;
    struct ty_voice voice;
    struct ty_courier_data data;
};

/* host.c */
void ty_host_init(struct ty_courier_host *h, struct ty_courier *c, const struct ty_host *spec, int index);
void ty_host_done(struct ty_courier_host *h);
int ty_host_poll(const struct ty_courier_host *h, struct pollfd *p); /* at most 3 */
int64_t ty_host_due(const struct ty_courier_host *h);
void ty_host_turn(struct ty_courier_host *h);
bool ty_host_up(const struct ty_courier_host *h); /* its far end has spoken */
void ty_host_start(struct ty_courier_host *h);    /* START, or RESUME; it is READY */
void ty_host_clean(struct ty_courier_host *h, bool kill);
void ty_host_break(struct ty_courier_host *h, const char *why); /* the connection is over */
void ty_host_let_go(struct ty_courier_host *h);                 /* it is not needed for now */

/* The name of the job's folder there: nodes may share theirs. */
const char *ty_host_job(const struct ty_courier_host *h, char *buf, size_t n);

/* slurm.c */
bool ty_courier_slurm(const struct ty_courier *c);
int ty_slurm_places(struct ty_courier *c, struct ty_error *err); /* hosts for the nodes of the run */
int ty_slurm_start(struct ty_courier_host *h, struct ty_error *err);
int ty_slurm_allocated(struct ty_courier *c); /* the channel stands: learn which nodes these are */
bool ty_slurm_over(struct ty_courier_host *h); /* its allocation is over, and with it the job */

/* data.c */
int ty_data_open(struct ty_courier *c); /* 0 or -ENOMEM */
void ty_data_done(struct ty_courier *c);
void ty_data_turn(struct ty_courier *c);
int ty_data_poll(const struct ty_courier *c, struct pollfd *p); /* at most 1 */
json_t *ty_data_look(const struct ty_courier *c);               /* the payload of LOOK */
int ty_data_seen(struct ty_courier_host *h, const json_t *answer);
bool ty_data_ready(const struct ty_courier_host *h);            /* all that it is brought is listed, or cannot be */
json_t *ty_data_sent(const struct ty_courier_host *h);          /* `data_sent` of its job.json */
char *ty_data_why(const struct ty_courier *c, int ref, size_t item, int r); /* malloc'ed: why an item cannot be sent */
void ty_data_start(struct ty_courier *c, int (*fn)(int out, void *ctx), enum ty_data_state state);

/* data_back.c: records `data` of the runner */
struct ty_data_landing;
/* What is to be done about one before it goes on: 0 nothing more; 1 it has to wait; 2 its file has to be fetched.  *warning
 * (malloc'ed, or NULL): the sentence that takes its place. */
int ty_data_pass(struct ty_courier *c, const json_t *record, char **warning);
/* Its file comes.  NULL and *why (malloc'ed): it cannot land. */
struct ty_data_landing *ty_data_land(struct ty_courier *c, const json_t *record, char **why);
int ty_data_land_write(struct ty_data_landing *l, const void *bytes, size_t n, char **why);
/* Whole: under its name, if the content is what was said.  Frees l. */
int ty_data_land_end(struct ty_data_landing *l, char **why);
void ty_data_land_abort(struct ty_data_landing *l); /* NULL is fine */

/* way.c */
void ty_way(struct ty_courier *c); /* do what is next */
void ty_way_failed(struct ty_courier_host *h, const char *message); /* a host cannot do what it was asked */
void ty_way_broken(struct ty_courier_host *h);
void ty_way_ended(struct ty_courier_host *h, int code);
int ty_way_linked(struct ty_courier *c, const char *line, size_t n); /* 0 or -EBADMSG */
void ty_way_released(struct ty_courier *c);
int64_t ty_way_due(const struct ty_courier *c);
bool ty_way_over(const struct ty_courier *c);

/* ending.c */
/* reason as in docs/spec/runner-stream.md; node may be NULL.  Kept in the job folder, so that another courier goes on with it. */
void ty_courier_end(struct ty_courier *c, const char *reason, const char *node, const char *message);
int ty_courier_end_load(struct ty_courier *c);

/* lost.c */
bool ty_lost_keep(struct ty_courier *c);          /* the job folder goes to lost/; false: it has to be removed */
void ty_lost_take_up(const struct ty_courier *c); /* start couriers for what others have left there */

/* relay.c */
void ty_relay_open(struct ty_courier *c, uint32_t serial);
void ty_relay_close(struct ty_courier *c, bool tell);
int ty_relay_data(struct ty_courier *c, uint32_t serial, const char *bytes, size_t n); /* -EBADMSG: more than it has credit for */
int ty_relay_blob(struct ty_courier *c, const struct ty_channel_frame *f); /* BLOB, CHUNK and GONE; 0 or -EBADMSG */
void ty_relay_turn(struct ty_courier *c);
int ty_relay_poll(const struct ty_courier *c, struct pollfd *p);
int64_t ty_relay_due(const struct ty_courier *c);

/* voice.c */
void ty_voice_turn(struct ty_courier *c);
void ty_voice_stop(struct ty_courier *c);
/* A line in the control log, before there is a runner; lost when the daemon does not listen. */
void ty_voice_note(struct ty_courier *c, const char *text);
bool ty_voice_settled(const struct ty_courier *c); /* what was noted is stored, or nobody is there to store it */
int ty_voice_poll(const struct ty_courier *c, struct pollfd *p);
int64_t ty_voice_due(const struct ty_courier *c);
int ty_voice_connect(const char *socket); /* to runner.sock: a descriptor, or a negative errno */
#endif
