/* sched_internal.h - what the files of this folder share
 *
 *   sched.c    the table of live runs, opening, time, recovering
 *   queue.c    which run is next, and starting those that may
 *   why.c      what people are told of those that wait
 *   plan.c     gangs and back-filling: pure
 *   node.c     the machines, and what runs hold of each
 *   gang.c     what a run needs and holds
 *   fleet.c    what people are told of targets and nodes; draining
 *   ask.c      asking machines what they have
 *   fit.c      what is refused at submission, because it would wait for ever
 *   share.c    what each user holds, and has used lately
 *   run.c      one run: its events, and what follows from them
 *   record.c   what a runner says of its run
 *   attempt.c  a run that ended badly is started again
 *   submit.c   from a run spec to a live run
 *   interactive.c  runs without a program: whoever submits one logs, and ends it
 *   change.c   cancel, tag, artifact, delete; targets
 *   limits.c   what one run may hold
 *   keep.c     garbage collection, retention
 */
#ifndef TY_SCHED_INTERNAL_H
#define TY_SCHED_INTERNAL_H
#include "base/error.h"
#include "core/run_event.h"
#include "core/run_spec.h"
#include "core/target_spec.h"
#include "sched/node.h"
#include "sched/plan.h"
#include "sched/sched.h"
#include "store/store.h"
#include "target/target.h"
#include <uthash.h>

#define SALVAGES_MAX 3           /* times that a dead runner's job is taken up again before it is given up */
#define TICK_MS 1000
#define RETRY_MS 2000 /* after a runner could not be started */

/* A run that has not ended, or that has changes on their way to the store. */
struct live {
    struct ty_sched *sched;
    char *name, *token;
    int64_t id;
    struct ty_run run;       /* after every event that was queued */
    int64_t seq;             /* of the last event queued */
    struct ty_run_spec *spec;
    json_t *warnings;        /* array of texts, for the log's first lines */
    char *user;
    int units;               /* on their way to the store */
    int64_t stored_seq;      /* of the last event stored: only then is the state acted on */
    int unstored;            /* 0, or why a change of it could not be stored (negative errno), */
    int64_t unstored_us;     /* and when that was, monotonic */
    bool placed;             /* holds its nodes */
    struct hold *holds;      /* what it holds of them; none where the target's engine places it */
    int nholds;
    /* What was found when the queue was looked at last; good as long as s->looked is s->changes. */
    int place, verdict;
    const struct live *behind, *last; /* whom it would delay; whose end it waits for, as far as can be guessed */
    int64_t expected_us;     /* when it can be expected to start, wall clock; PLAN_NEVER: nobody knows */
    struct share *share;     /* its user's */
    bool launched;           /* a runner was started for it: its job folder is not made twice */
    int folder_attempt;      /* whose job folder there is, while launched */
    bool rebooted;           /* since its runner was started */
    struct ty_job *job;      /* its runner, while one is watched */
    const struct ty_target_kind *kind; /* whose job that is: the target may be gone before it */
    int salvages;
    int64_t not_begun_us;    /* monotonic: since when no runner of it could begin; 0: the last one could */
    bool restarts_known;     /* else the event log is asked */
    int restarts[TY_CAUSE_COUNT]; /* by cause, with those on their way to the store */
    char *trouble;           /* why its runner could not be started; tried again */
    bool gone;               /* deleted */
    bool forgotten;          /* its submission could not be stored: dropped by run_act */
    bool stale;              /* a unit of it failed alone: read again when all are back */
    unsigned limits_told;    /* bit per enum limit */
    json_t *tags;            /* those it has, with those on their way to the store; NULL: not asked yet */
    int64_t properties;      /* how many it has, at most; -1: not asked yet */
    json_t *pending;         /* "path" or "=key" -> SHA-256 or value, of files and properties on their way; may be NULL */
    json_t *silent;          /* object: names of its nodes from which its runner hears nothing; NULL: none */
    char *building;          /* what its runner said last of the environment that it builds: "40 %, downloading"; NULL: none is built */
    bool unreadable;         /* its spec is not one of this version: `spec` holds no more than the row says */
    int64_t heard_us;        /* monotonic */
    UT_hash_handle hh;       /* by name; iteration is in order of submission */
};

struct target {
    char *name;
    struct ty_target_spec *spec;
    const struct ty_target_kind *kind;
    struct node **nodes; /* this box, or its hosts in the spec's order; none where the engine behind it places */
    int nnodes;
    json_t *facts;  /* of its nodes taken together, where the engine behind it places; NULL: not asked */
    int in_use;     /* nodes that placed runs hold */
    int index;      /* in the plan that is being made */
    bool going;     /* its removal is on its way to the store */
    UT_hash_handle hh;
};

struct ty_sched {
    struct ty_sched_options o;
    struct live *runs;
    struct target *targets;
    struct share *shares;  /* by user */
    struct ty_ingest *ingest;
    uv_timer_t tick, retry, recover, daily, gpus;
    struct node *nodes;  /* by key */
    struct node *box;    /* this machine's */
    struct asking *askings; /* targets that are being asked */
    uv_timer_t ask;         /* nodes that failed, again */
    struct history *histories; /* by experiment */
    int64_t changes;     /* counts everything that the order of the queue, or the reasons, may depend on */
    int64_t looked, looked_us; /* s->changes, and monotonic, when the queue was looked at last; 0: never */
    int user_cpus;       /* that one user may hold; 0: no limit */
    bool paused;         /* nothing is placed */
    bool restored;       /* this is the first start after a restore */
    int64_t round;       /* of looking at the queue */
    int64_t begin_us;                /* that runners which cannot begin are tried again */
    int64_t silent_us, node_lost_us; /* without a word from a runner: NotResponding; the runner is killed */
    int64_t last_tick_us;
    bool recovering; /* the store failed: everything is read again soon */
    bool gc_going;
    bool stopping;
};

/* A change that somebody waits for. */
struct waiter {
    struct ty_sched *sched;
    struct live *live;
    ty_sched_done done;
    void *ctx;
    char *run;
    int64_t seq; /* of the unit's last event */
};

/* sched.c */
struct live *live_find(struct ty_sched *s, const char *name);
struct live *live_add(struct ty_sched *s, const struct ty_active_run *a, struct ty_error *err);
void live_drop(struct live *l); /* when it has ended and nothing of it is on its way */
void recover_soon(struct ty_sched *s);
void keep_ticking(struct ty_sched *s);
void retry_soon(struct ty_sched *s);
struct target *target_any(struct ty_sched *s, const char *name);
struct target *target_find(struct ty_sched *s, const char *name); /* not one that is being removed */
int target_has_kind(const char *kind, struct ty_error *err); /* else -EINVAL */
/* Store it, and what asking has given ({setting: facts}; NULL: nothing); it changes in memory when that is done. */
int target_store(struct ty_sched *s, const char *name, const json_t *spec, const json_t *facts, ty_sched_done done,
                 void *ctx, struct ty_error *err);
int target_add(struct ty_sched *s, const char *name, const json_t *spec, struct ty_error *err);
void target_keep(struct ty_sched *s, const struct target *t, const struct ty_target_spec *spec);
void target_drop(struct ty_sched *s, struct target *t);
bool target_drains_node(const struct target *t, int i); /* alone: not with the whole target */
bool node_is_drained(const struct node *n);             /* by one of the targets that name it, alone */

/* queue.c */
void queue_open(struct ty_sched *s);
void queue_stop(struct ty_sched *s); /* pause it; stored with the next settling */
bool queue_waits(const struct live *l);
bool queue_is_before(const struct live *a, const struct live *b);
static inline void queue_changed(struct ty_sched *s)
{
    s->changes++;
}
void place(struct ty_sched *s); /* start what may start now */

/* why.c */
void history_forget(struct ty_sched *s, const char *experiment); /* a run of it has ended */
void history_close(struct ty_sched *s);
/* When a placed run may be expected to end; PLAN_NEVER: nobody knows. */
int64_t guess_end(struct ty_sched *s, const struct live *l, int64_t ends_us, int64_t now_us);

/* fit.c */
/* Can the run be placed at all?  -EINVAL and a sentence; or 0, and what its user should know is added to *warning. */
int fit_check(const struct ty_sched *s, const struct target *t, const struct ty_run_spec *spec, struct ty_str *warning,
              struct ty_error *err);

bool target_lacks_gpus(const struct target *t); /* is known to; of this box its kind tells (target/local.c) */

/* gang.c */
bool target_on_box(const struct target *t);
bool target_has_gpus(const struct target *t);
bool run_says_gpus(const struct ty_run_spec *spec); /* how many, not just use_gpu */
int64_t run_limit_us(const struct ty_sched *s, const struct ty_run_spec *spec); /* once it has started; PLAN_NEVER: it named none */
void gang_need(const struct ty_sched *s, const struct target *t, const struct ty_run_spec *spec, struct plan_need *ret);
int gang_take(struct live *l, const struct plan_need *need, struct node *const *node); /* by piece; 0 or -ENOMEM */
int gang_take_again(struct live *l); /* as its job folder says */
void gang_give(struct live *l); /* what it holds; nothing is fine */
/* Add to job.json what its runner, and the next daemon, must know of it. */
int gang_describe(const struct live *l, const struct target *t, json_t *job);

/* share.c */
struct share {
    char *user;
    int cpus;         /* slots that placed runs hold */
    int64_t full_round; /* of looking at the queue, in which a run of this user met sched.user_cpus */
    double used;      /* slot-seconds, losing weight with time, up to at_us (wall clock) */
    int64_t at_us, noted_us;
    UT_hash_handle hh;
};
struct share *share_of(struct ty_sched *s, const char *user); /* NULL: out of memory */
void share_change(struct ty_sched *s, struct share *share, int cpus); /* it holds so many more, or fewer */
void share_account(struct ty_sched *s); /* bring all up to now; before they are compared */
int share_compare(const struct share *a, const struct share *b); /* negative: a is to be served first */
void share_note(struct ty_sched *s); /* for the next daemon */
void share_close(struct ty_sched *s);

/* run.c */
/* Apply the event and add it to the unit.  -EPROTO when it cannot follow: then nothing was added. */
int run_event(struct live *l, struct ty_unit *u, enum ty_run_event ev, int64_t at_us /* 0: now */, const json_t *data);
void run_note(struct live *l, struct ty_unit *u, enum ty_note note, json_t *data /* taken over */);
/* Commit a unit of this run; done may be NULL. */
void run_commit(struct live *l, struct ty_unit *u, ty_sched_done done, void *ctx);
/* Take the run over as the store has it. */
int run_reload(const struct ty_active_run *a, void *sched);
/* Do what the stored state asks for; idempotent. */
void run_act(struct live *l);
int run_start_job(struct live *l, struct ty_error *err);
void run_unit_back(struct live *l, int r, int64_t seq); /* a unit of it was stored, or was not (r) */

/* Give up on a run whose runner cannot be brought back. */
void run_lost(struct live *l, const char *code, const char *message);
void run_check_silence(struct live *l, int64_t now_us);

/* record.c */
void record_silence(struct live *l); /* a daemon before this one heard that a node was silent */
int run_open_ingest(struct ty_sched *s, struct ty_error *err);

/* attempt.c */
/* The attempt has ended badly: add the events of a restart, if the run has one left for that cause.  False: it has none. */
bool attempt_again(struct live *l, struct ty_unit *u, enum ty_cause cause, int64_t at_us, const char *message);
bool attempt_leaves(const struct live *l); /* the runner of the attempt before is still at work */
void attempt_left(struct live *l);         /* it is gone, and so is its folder: the next may be placed */
/* Keys of job.json: where earlier attempts have ended, and the folder that outlives them. */
int attempt_past(const struct live *l, json_t *extra, struct ty_error *err);
int attempt_checkpoints(const struct live *l, json_t *extra, struct ty_error *err);
void attempt_ended(const struct live *l);  /* the run has: its checkpoints go, unless it failed and left some */
void attempt_deleted(const struct ty_sched *s, const char *run);
void attempt_sweep(struct ty_sched *s);    /* checkpoints of runs that are gone go */

/* view.c */
/* Is there something on the target's machines that can run the run's image, or make its sandbox?  -ENOTSUP and a sentence. */
int view_check(const struct target *t, const struct ty_run_spec *spec, struct ty_error *err);
/* addresses.c: leave the passwords of package indexes and channels out of a specification (its values are copied before they are
 * changed); *found, an object, gets each whole text under what is left of it. */
int addresses_mask(json_t *spec, json_t *found, struct ty_error *err);
/* They become secrets of the user.  -ENOENT: `spec` has one without its password that nobody has ever given whole. */
int addresses_seal(struct ty_sched *s, const char *user, const json_t *spec, json_t *found, struct ty_unit *u,
                   struct ty_error *err);
/* Put "addresses" into the keys of a job.json: whole texts under what the specification has of them.  -ENOENT: as above. */
int addresses_give(struct ty_sched *s, const char *user, const json_t *spec, json_t *extra, struct ty_error *err);

/* Put "image_password" into the keys of a job.json, when the image's registry wants one: it is a secret of the run's user. */
int view_secret(struct ty_sched *s, const struct live *l, json_t *extra, struct ty_error *err);

/* submit.c */
/* The absolute directory of each data reference, NULL-terminated; free with ty_strv_free. */
int data_dirs(struct ty_sched *s, const struct ty_run_spec *spec, char ***ret, struct ty_error *err);
/* Put "data_access" into the keys of a job.json: for each reference null, or ACCESS of its object store, with the credentials. */
int data_access(struct ty_sched *s, const struct ty_run_spec *spec, json_t *extra, struct ty_error *err);

/* interactive.c */
/* After a start: does its parent still go on?  Else it ends as that did. */
void interactive_resume(struct live *l);
void interactive_begin(struct live *l, struct ty_unit *u);
/* Of one that has not ended.  error (borrowed) belongs to Failed; done may be NULL. */
void interactive_end(struct live *l, enum ty_run_state outcome, json_t *error, ty_sched_done done, void *ctx);
/* The process that an interactive run belongs to has ended, and the run has not: it ends as lost.  True while there is
 * something to look after. */
bool interactive_look(struct live *l);
/* A run has ended: its interactive children end as it did. */
void interactive_end_children(const struct live *parent);

/* change.c */
/* The run as a live one, loaded when it has ended: -ENOENT.  Whoever changes nothing after all calls run_act. */
int live_load(struct ty_sched *s, const char *run, struct live **ret, struct ty_error *err);

/* limits.c */
enum limit { LIMIT_METRIC_KEYS, LIMIT_METRIC_ROWS, LIMIT_TAGS, LIMIT_PROPERTIES, LIMIT_ARTIFACTS, LIMIT_WRITERS };
bool limits_tag_fits(struct live *l, const char *key);
int limits_tags(struct live *l, const json_t *set, struct ty_error *err); /* 0 or -EUSERS */
int limits_spec(const struct ty_sched *s, const struct ty_run_spec *spec, struct ty_error *err); /* of a submission */
bool limits_property_fits(struct live *l);
int limits_properties(struct live *l, const json_t *set, struct ty_error *err); /* 0, -EEXIST or -EUSERS */
int limits_target(const struct ty_sched *s, const char *name, struct ty_error *err);
int limits_writer(struct live *l, uint32_t writer, struct ty_error *err);
int limits_artifact(struct live *l, const char *path, const char *sha, struct ty_error *err); /* 0, -EEXIST or -EUSERS */
/* A tag was set, or removed. */
void limits_tagged(struct live *l, const char *key, bool there);
/* Warn, once a run, that something was dropped; added to the unit. */
void limits_tell(struct live *l, struct ty_unit *u, enum limit what);
void limits_look(struct live *l); /* has the store dropped rows? */

/* keep.c */
void keep_open(struct ty_sched *s); /* clears leftovers of ended runs, starts the daily round */
void keep_close(struct ty_sched *s);
#endif
