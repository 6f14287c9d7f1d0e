/* start.c - what each rank is told, and starting them all
 *
 * The plan of a rank (its environment, its arguments, its CPUs) is made here, for one after the other; the wrappers that
 * carry the plans out work at the same time.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "runner/master.h"
#include "runner/oom.h"
#include "runner/prepare.h"
#include "runner/runner_internal.h"
#include "runner/view.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As the owner sees it. */
static bool is_file(const struct ty_runner *r, const char *path)
{
    struct stat st;
    int got;

    ty_owner_enter(r->job->owner);
    got = stat(path, &st);
    ty_owner_leave(r->job->owner);
    return got == 0 && S_ISREG(st.st_mode);
}

/* What cannot be said better after a failed exec.  (access(2) would ask for root, not for the owner.) */
static int check_files(struct ty_runner *r, char *const *argv, struct ty_error *err)
{
    const struct ty_run_spec *spec = r->job->spec;
    CLEANUP_FREE char *script = spec->script ? ty_strf("%s/%s", r->job->work, spec->script) : NULL;

    if (spec->script && (!script || !is_file(r, script)))
        return ty_error_set(
            err, -ENOENT, "entry_script '%s' is not a file in source_directory '%s'", spec->script,
            spec->source_directory ? spec->source_directory : "(none)");
    if (spec->script && !r->job->owner && spec->env->view != TY_VIEW_IMAGE &&
        access(argv[0], X_OK) < 0)
        return ty_error_set(
            err, -errno,
            "cannot run the interpreter '%s': %m; name one that exists on this machine", argv[0]);
    if (!argv[0] || !*argv[0])
        return ty_error_set(err, -EINVAL, "the command of the run is empty");
    return 0;
}

/* How many threads a process may reckon with: its part of the node's CPUs. */
static int threads_of(const struct ty_jobfile *j, const struct ty_job_node *n)
{
    cpu_set_t mine;
    int cpus = n->ncpus;

    if (cpus == 0)
        cpus =
            (sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 1) / j->own_nodes;
    return cpus > n->ranks ? cpus / n->ranks : 1;
}

/* Its own slice of the node's CPUs; where there are fewer CPUs than ranks, they share all. */
static void slice(const struct ty_job_node *n, const struct ty_rank_plan *p,
                  struct ty_launch_spec *ret)
{
    int from = 0, to = n->ncpus;

    if (n->ncpus >= p->local_size) {
        from = (int)((int64_t)p->local_rank * n->ncpus / p->local_size);
        to = (int)((int64_t)(p->local_rank + 1) * n->ncpus / p->local_size);
    }
    ret->cpus = n->ncpus ? n->cpus + from : NULL;
    ret->ncpus = to - from;
}

static int expand(struct ty_runner *r, const struct ty_rank_plan *p, char **places, char ***env,
                  char ***argv, struct ty_error *err)
{
    const struct ty_jobfile *j = r->job;
    const struct ty_meeting *m = &r->meeting;
    const struct ty_job_node *node = &j->nodes[p->node];
    const char *addr = *m->addr ? m->addr : "127.0.0.1";
    CLEANUP_FREE char *rendezvous = m->rendezvous ? ty_strf("%s:%d", addr, m->rendezvous) : NULL;
    struct ty_launch l = {
        .spec = j->spec,
        .run_id = j->run,
        .attempt = j->attempt,
        .work_dir = j->work,
        .job_dir = j->dir,
        .spool_dir = j->spool,
        .tmp_dir = j->tmp,
        .home = j->home,
        .user = j->user,
        .user_home = j->user_home,
        .python_path = j->python_path,
        .workspace = j->workspace,
        .data_dirs = (const char *const *)places,
        .rank = p->rank,
        .size = j->size,
        .local_rank = p->local_rank,
        .local_size = p->local_size,
        .node_rank = p->node,
        .node_count = j->nnodes,
        .master_addr = addr,
        .master_port = m->port,
        .gpus = node->gpus,
        .link_interface = *m->interface ? m->interface : NULL,
        .threads = j->size > 1 ? threads_of(j, node) : 0,
        .rendezvous = rendezvous,
        .secret = m->rendezvous ? m->secret : NULL,
        .checkpoint_dir = j->checkpoint_dir,
        .interpreter = r->env.interpreter ? r->env.interpreter : ty_view_interpreter(j),
        .env_path = r->env.path,
        .env_prefix = r->env.prefix,
        .env_variables = r->env.variables,
        .more = ty_mpi_env(r, p),
    };
    int got = m->rendezvous && !rendezvous ? ty_error_oom(err) : 0;

    if (got == 0)
        got = ty_launch_env(&l, env, err);
    if (got == 0)
        got = ty_launch_argv(&l, *env, argv, err);
    if (got == 0)
        got = check_files(r, *argv, err);
    return got;
}

static int start_rank(struct ty_runner *r, int i, char **places, struct ty_error *err)
{
    const struct ty_rank_plan *p = &r->ranks.at[i].plan;
    CLEANUP_FREE char *log =
        ty_strf("%s/%s", r->job->log, ty_logs_of_rank(&r->logs, p->rank)->name);
    struct ty_launch_spec s = { .job_dir = r->job->dir,
                                .work = r->job->work,
                                .log = log,
                                .oom = r->oom,
                                .files = r->files,
                                .err = STDERR_FILENO,
                                .owner = r->job->owner };
    char **env = NULL, **argv = NULL, **after = NULL;
    int got = log ? expand(r, p, places, &env, &argv, err) : ty_error_oom(err);

    if (got == 0)
        got = ty_view_of_rank(r, p, places, &env, &argv, &after, err);
    s.after = after;
    s.argv = argv;
    s.env = env;
    slice(&r->job->nodes[p->node], p, &s);
    /* The word before the deed; not before what could be found wrong without one. */
    if (got == 0 && r->phase != TY_PHASE_running)
        ty_life_phase(r, TY_PHASE_running);
    if (got == 0)
        got = ty_ranks_start(&r->ranks, i, &s, err);
    ty_strv_free(env);
    ty_strv_free(argv);
    ty_strv_free(after);
    return got;
}

/* The warnings of the submission head the log that people look at first. */
static void head_log(struct ty_runner *r)
{
    CLEANUP_STR struct ty_str head = { 0 };
    const struct ty_log *log = ty_logs_of_rank(&r->logs, 0);
    const json_t *text;
    size_t i;

    json_array_foreach (r->job->warnings, i, text)
        ty_str_addf(&head, "Warning: %s\n", json_string_value(text) ? json_string_value(text) : "");
    if (log && head.len > 0 && write(log->tail.fd, head.text, head.len) < 0)
        ty_log(TY_LOG_WARN, "cannot write to the log: %m");
}

static void note_start(struct ty_runner *r, int n)
{
    CLEANUP_FREE char *command = ty_run_spec_command_line(r->job->spec, 1024);
    const char *what = command ? command : "the program";

    if (r->job->size == 1)
        ty_runner_note(r, "starting: %s", what);
    else
        ty_runner_note(r, "starting %d of %d processes (%d of %d nodes): %s", n, r->job->size,
                       r->job->own_nodes, r->job->nnodes, what);
}

void ty_start_ranks(struct ty_runner *r)
{
    int first, n = ty_jobfile_own_ranks(r->job, &first), got;
    char **places = NULL;
    struct ty_error err = { 0 };

    if (r->job->leads && r->meeting.port == 0)
        r->meeting.port = ty_master_claim(&r->meeting.hold);
    r->oom_kills = ty_oom_kills();
    got = ty_prepare_places(r->job, &places, &err);
    head_log(r);
    ty_hang_open(r);
    for (int i = 0; i < n && got == 0; i++)
        got = start_rank(r, i, places, &err);
    ty_strv_free(places);
    if (got == 0) {
        note_start(r, n);
        return;
    }
    /* Those that are on their way already end with it. */
    ty_ranks_done(&r->ranks);
    ty_life_kill_all(r);
    ty_life_fail(r, err.text);
}
