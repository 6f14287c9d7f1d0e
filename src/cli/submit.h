/* submit.h - what `run`, `submit` and `rerun` share: from the command line to a stored run */
#ifndef TY_CLI_SUBMIT_H
#define TY_CLI_SUBMIT_H
#include "base/json.h"
#include "cli/cli.h"
#include "cli/environment.h"

/* clang-format off */
#define TY_SUBMIT_OPTIONS \
    { 'e', "experiment", "NAME", "experiment (default: the name of the folder)" }, \
    { 't', "target", "NAME", "compute target (default: local)" }, \
    { 0, "name", "TEXT", "display name, for people" }, \
    { 0, "env", "NAME[=VALUE]", "environment variable of the job; without a value: yours (repeat)" }, \
    TY_ENVIRONMENT_OPTIONS, TY_VIEW_OPTIONS, \
    { 0, "nodes", "N", "nodes (default: 1)" }, \
    { 0, "procs", "N", "processes on each node (default: 1)" }, \
    { 0, "backend", "mpi|gloo|nccl", "how several processes work together (default for them: mpi)" }, \
    { 0, "cpus", "N", "CPU slots of each process (default: 1)" }, \
    { 0, "memory", "SIZE", "memory that must be free for each process: 500M, 16G" }, \
    { 0, "priority", "N", "-1000 to 1000, higher starts earlier (default: 0)" }, \
    { 0, "gpu", NULL, "use a GPU where there is one" }, \
    { 0, "gpus", "N", "so many GPUs for each process" }, \
    { 0, "hang-timeout", "TIME", "end it when processes wait for each other so long: 10m, 1h (default: never)" }, \
    { 0, "max-restarts", "CAUSE=N[,...]", "start it again so often after node_lost, preempted or error" }, \
    { 0, "tag", "KEY=VALUE", "tag (repeat)" }, \
    { 0, "max-run-duration", "TIME", "end it after this time: 3600, 90m, 1h30m, 2d (0: no limit)" }, \
    { 0, "data", "NAME=STORE[/PATH][:MODE]", "data reference, $AZUREML_DATAREFERENCE_<NAME> in the job (repeat)" }, \
    { 0, "dir", "DIR", "folder to snapshot and to run in (default: .)" }, \
    { 0, "no-snapshot", NULL, "run in an empty folder" }, \
    { 0, "expand", NULL, "replace $NAME in the command's arguments, in the job" }
/* clang-format on */

/* Snapshot, specification, POST.  0 and RUN, with the warnings told of on stderr. */
int ty_cli_submit(struct ty_cli *cli, json_t **ret, struct ty_error *err);
/* Its last two steps.  The snapshot of `dir`, within its configuration's limits. */
int ty_submit_snapshot(struct ty_cli *cli, const char *dir, char id[65], struct ty_error *err);
/* From here on signals are caught: there may be a run, whose id must be told. */
int ty_submit_post(struct ty_cli *cli, const char *experiment, const json_t *spec, json_t **ret,
                   struct ty_error *err);

/* The specification alone (docs/spec/run-spec.md); `snapshot` NULL: none.  Reads the disk and
 * the environment only. */
int ty_submit_spec(const struct ty_cli *cli, const char *snapshot, json_t **ret,
                   struct ty_error *err);
/* The program that `word` names, as the specification has it: looked up on PATH, absolute, or
 * relative inside `dir` (NULL: no snapshot).  malloc'ed; -ENOENT. */
int ty_submit_program(const char *word, const char *dir, char **ret, struct ty_error *err);
/* A valid experiment name made of a folder's name, in ret[37]; "default" when too little is left
 * of it. */
void ty_submit_experiment(const char *dir, char ret[37]);
/* "NAME=STORE[/PATH][:MODE]" into `refs`. */
int ty_submit_data(const char *text, json_t *refs, struct ty_error *err);
#endif
