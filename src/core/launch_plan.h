/* launch_plan.h - from a run spec to the argument vector and environment of each process; pure
 *
 * The environment is built from nothing: PATH, HOME, USER, LOGNAME, LANG, TMPDIR, PYTHONUNBUFFERED, what
 * shared names users know (AZUREML_*), ours (TRAINYARD_*), one AZUREML_DATAREFERENCE_<name> per data
 * reference, and last what the user asked for, which wins except over identity variables.
 */
#ifndef TY_LAUNCH_PLAN_H
#define TY_LAUNCH_PLAN_H
#include "core/run_spec.h"
struct ty_error;

struct ty_launch {
    const struct ty_run_spec *spec;
    const char *run_id;
    int64_t attempt;
    const char *work_dir, *job_dir, *spool_dir, *log_dir, *tmp_dir, *home; /* absolute paths; home: the state folder */
    const char *user, *user_home, *python_path; /* python_path: folder with our Python packages, or NULL */
    const char *workspace;    /* name, "trainyard" */
    const char *const *data_dirs; /* absolute; one per spec->data */
    int rank, size, local_rank, local_size, node_rank;
};

/* NULL-terminated vector of malloc'ed "NAME=value"; free with ty_strv_free. */
int ty_launch_env(const struct ty_launch *l, char ***ret, struct ty_error *err);
/* The same for argv; `env` is what ty_launch_env gave: $NAME and ${NAME} of variables defined there are
 * replaced, others stay as they are, and "$$" stays two dollars. */
int ty_launch_argv(const struct ty_launch *l, char *const *env, char ***ret, struct ty_error *err);
char *ty_expand(const char *text, char *const *env); /* malloc'ed; NULL: out of memory */
char **ty_strv_free(char **v);
#endif
