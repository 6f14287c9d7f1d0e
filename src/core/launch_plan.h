/* launch_plan.h - from a run spec to the argument vector and environment of each process; pure
 *
 * The environment is built from nothing, and what comes later wins:
 *   1. PATH (the folders of the job's environment first, or the interpreter's), HOME, USER, LOGNAME, SHELL, LANG, TMPDIR,
 *      PYTHONUNBUFFERED, AZUREML_CONDA_ENVIRONMENT_PATH, AZUREML_ENVIRONMENT_IMAGE, and what the environment itself wants set;
 *   2. RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK, MASTER_ADDR, MASTER_PORT, CUDA_VISIBLE_DEVICES; with
 *      several processes AZ_BATCH*, OMPI_COMM_WORLD_* (Mpi), OMP_NUM_THREADS, the interface of the link, and `more`;
 *   3. what the user asked for (a PATH follows the folders of the job's environment);
 *   4. who the run is: names that scripts know (AZUREML_*, AZ_BATCHAI_JOB_WORK_DIR), ours (TRAINYARD_*, with
 *      several processes TRAINYARD_COLL_*), and one
 *      AZUREML_DATAREFERENCE_<name> per data reference.
 * PYTHONPATH is made of the working directory, our packages and the user's PYTHONPATH, in this order.
 */
#ifndef TY_LAUNCH_PLAN_H
#define TY_LAUNCH_PLAN_H
#include "core/run_spec.h"
struct ty_error;

#define TY_MASTER_PORT 6105 /* where torch.distributed meets, if nobody has it */

struct ty_launch {
    const struct ty_run_spec *spec;
    const char *run_id;
    int64_t attempt;
    const char *work_dir, *job_dir, *spool_dir, *tmp_dir, *home; /* absolute paths; home: the state folder */
    const char *user, *user_home, *python_path; /* python_path: folder with our Python packages, or NULL */
    const char *workspace;    /* name, "trainyard" */
    const char *const *data_dirs; /* absolute; one per spec->data */
    int rank, size, local_rank, local_size, node_rank, node_count;
    const char *master_addr;    /* of the first node; NULL: 127.0.0.1 */
    int master_port;            /* 0: TY_MASTER_PORT */
    const char *link_interface; /* that leads to the other machines; NULL: there are none */
    const char *gpus;           /* for CUDA_VISIBLE_DEVICES; NULL or "": not set */
    int threads;                /* OMP_NUM_THREADS; 0: not set */
    const char *rendezvous, *secret; /* of the collectives, "host:port"; NULL: none */
    const char *coll_node;      /* NULL: ranks that can share memory do */
    const char *checkpoint_dir; /* NULL: none */
    /* What the job's environment came to on this machine (env/env.h); NULL: nothing was asked for. */
    const char *interpreter;    /* in place of the spec's, and of a python that the command begins with */
    const char *env_path;       /* folders for the front of PATH, with ':' between; NULL: the interpreter's own */
    const char *env_prefix;     /* NULL: the interpreter's own */
    const json_t *env_variables; /* object of texts */
    const char *const *more;    /* further "NAME=value", NULL-terminated; NULL: none */
};

/* The log of a rank's output, as users of Azure ML know it: azureml-logs/70_driver_log.txt, and with several
 * processes azureml-logs/70_driver_log_<rank>.txt.  Returns buf. */
#define TY_DRIVER_LOG_MAX 48
const char *ty_driver_log(int rank, int size, char buf[TY_DRIVER_LOG_MAX]);
/* What building an environment says on a node: azureml-logs/20_image_build_log.txt, and on all nodes but the first
 * azureml-logs/20_image_build_log_<index of the node>.txt.  Returns buf. */
const char *ty_build_log(int node, char buf[TY_DRIVER_LOG_MAX]);
/* The python that the run starts with: its interpreter, or the first word of a command that names one by an absolute path
 * (.../python, .../python3, .../python3.11).  NULL: it starts with another program. */
const char *ty_run_python(const struct ty_run_spec *s);
/* NULL-terminated vector of malloc'ed "NAME=value"; free with ty_strv_free. */
int ty_launch_env(const struct ty_launch *l, char ***ret, struct ty_error *err);
/* The same for argv; `env` is what ty_launch_env gave.  -E2BIG: an argument is longer than TY_TEXT_MAX
 * once expanded. */
int ty_launch_argv(const struct ty_launch *l, char *const *env, char ***ret, struct ty_error *err);
/* Replace $NAME and ${NAME} of variables that `env` has; others stay as they are, and "$$" stays two
 * dollars and hides what follows it.  What was put in is not looked at again.  0 and a malloc'ed text;
 * -E2BIG beyond TY_TEXT_MAX bytes; -ENOMEM. */
int ty_expand(const char *text, char *const *env, char **ret);
char **ty_strv_free(char **v);
#endif
