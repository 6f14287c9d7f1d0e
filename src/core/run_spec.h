/* run_spec.h - what a person asked to be run (docs/spec/run-spec.md)
 *
 * JSON with a version.  Parsing checks everything that can be known without a target or a disk, so
 * that what is stored can be run; unknown keys are refused by name.
 */
#ifndef TY_RUN_SPEC_H
#define TY_RUN_SPEC_H
#include "base/json.h"
#include "base/proc.h"
#include "core/env_spec.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

#define TY_RUN_SPEC_VERSION 1
#define TY_ARGUMENTS_MAX 10000    /* entries of command, and of arguments */
#define TY_ENVIRONMENT_MAX 4096   /* environment variables */
#define TY_DATA_REFS_MAX 1000
#define TY_WARNINGS_MAX 100
#define TY_NODES_MAX 10000
#define TY_NODE_PROCESSES_MAX 1024
#define TY_PROCESSES_MAX 65536
#define TY_RESTARTS_MAX 1000
#define TY_TEXT_MAX (128 * 1024 - 1) /* bytes of one argument, or of NAME=value: what execve takes */

enum ty_data_mode { TY_DATA_MOUNT, TY_DATA_DOWNLOAD, TY_DATA_UPLOAD, TY_DATA_MODE_COUNT };

/* How the processes of a job speak with each other. */
enum ty_comm { TY_COMM_NONE, TY_COMM_MPI, TY_COMM_GLOO, TY_COMM_NCCL };

/* What may end an attempt, and be worth another. */
#define TY_CAUSES(X) X(node_lost) X(preempted) X(error)
#define X(word) TY_CAUSE_##word,
enum ty_cause { TY_CAUSES(X) TY_CAUSE_COUNT };
#undef X
const char *ty_cause_word(enum ty_cause c);

struct ty_data_ref {
    const char *name;      /* of $AZUREML_DATAREFERENCE_<name> */
    const char *datastore;
    const char *path;      /* below the datastore's root; "" is the root */
    enum ty_data_mode mode;
    const char *path_on_compute; /* NULL: chosen by the runner */
    bool overwrite;
};

struct ty_run_spec {
    /* As given, with an empty object or list for each map that was left out; what follows borrows from
     * it. */
    json_t *json;
    const char *experiment, *display_name /* NULL */, *target, *snapshot /* NULL: no files */;
    const char *source_directory;           /* NULL; where the snapshot was taken, for people */
    const char *script, *interpreter;       /* a Python job; NULL for a command */
    bool interactive;                       /* no program at all: whoever submits it logs, and ends it */
    const char *parent;                     /* NULL; the run that this is a child of */
    struct ty_proc_id process;              /* of an interactive run: it is lost with it; pid 0: with none */
    const char **command;                   /* NULL-terminated; NULL for a script */
    const char **arguments;                 /* NULL-terminated, may be empty */
    bool expand;                            /* $NAME in command and arguments, on the worker */
    json_t *environment;                    /* object of texts, may be empty */
    const char **expand_variables;          /* NULL-terminated, may be empty: names in `environment` whose values have $NAME
                                             * replaced on the worker, last */
    struct ty_env_spec *env;                /* packages, image: `environment`; never NULL */
    struct ty_data_ref *data;
    int ndata;
    int node_count, process_count_per_node; /* from 1; their product is ty_run_spec_size() */
    const char *communicator;               /* as the user wrote it */
    enum ty_comm comm;
    int cpus;                               /* slots per process, from 1 */
    bool cpus_said;                         /* the user asked for so many */
    int gpus;                               /* per process; 0: use_gpu is false */
    int64_t memory_mb;                      /* that each process is to have; 0: not said */
    int priority;                           /* -1000 to 1000; higher is earlier */
    bool use_gpu;
    int64_t max_run_seconds;                /* 0: no limit */
    int64_t hang_timeout_seconds;           /* ranks that wait for each other so long end the job; 0: never */
    int max_restarts[TY_CAUSE_COUNT];       /* further attempts, by what ended the one before */
    bool interpreter_any;                   /* where `interpreter` does not exist, the node's own will do */
    json_t *tags, *properties, *warnings;   /* may be empty; warnings: array of texts known at submission */
};

/* 0 and *ret (ty_run_spec_free); -EINVAL and a sentence that names the key as users know it. */
int ty_run_spec_parse(const json_t *json, struct ty_run_spec **ret, struct ty_error *err);
struct ty_run_spec *ty_run_spec_free(struct ty_run_spec *s);
/* Processes of the job, on all nodes together. */
int64_t ty_run_spec_size(const struct ty_run_spec *s);
/* The command as a person would type it, quoted for a shell, at most `max` bytes (from 3 on); what is
 * cut ends in "...".  Empty for an interactive run.  malloc'ed; NULL: out of memory. */
char *ty_run_spec_command_line(const struct ty_run_spec *s, size_t max);
const char *ty_data_mode_word(enum ty_data_mode m);

/* Names.  Each gives 0, or -EINVAL and a sentence that names `value` and the rule. */
/* 3-36 of [A-Za-z0-9_-], the first a letter or digit */
int ty_check_experiment_name(const char *value, struct ty_error *err);
/* 2-32 of [A-Za-z0-9_-], the first a letter or digit */
int ty_check_target_name(const char *value, struct ty_error *err);
/* 1-255 of [A-Za-z0-9_] */
int ty_check_datastore_name(const char *value, struct ty_error *err);
/* of a data reference: 1-255 of [A-Za-z0-9_], the first no digit */
int ty_check_data_name(const char *value, struct ty_error *err);
/* [A-Za-z0-9_]+, the first no digit, and none that the service sets for each run: TRAINYARD_*,
 * AZUREML_RUN_*, AZUREML_DATAREFERENCE_* */
int ty_check_env_name(const char *value, struct ty_error *err);
#endif
