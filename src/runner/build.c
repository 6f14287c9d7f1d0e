/* build.c - the environment of a job is got, in the preparing child of its runner
 *
 *     runner -- preparing child (keeper) -- builder -- pip and what that starts
 *
 * The builder does the work, with an environment made here; the keeper is there to end it, whatever it has started, when
 * the runner is gone.  When the keeper itself is killed (a cancel), the builder dies with it, and what is left falls to the
 * runner, which ends it.  Should both be killed: what the builder starts bears the mark of the job.
 */
#include "runner/build.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "env/env.h"
#include "runner/child.h"
#include "runner/view.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_MS 5000
#define SYSTEM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define RUNNER_GONE SIGUSR1

bool ty_build_wanted(const struct ty_jobfile *j)
{
    const struct ty_env_spec *env = j->spec->env;

    return env && !j->spec->interactive &&
           (env->conda[0] || env->pip[0] || env->python || env->torch || env->torchvision ||
            env->lock);
}

/* ---- the builder ---- */

/* What the user set for the job, and the tools that build its environment understand as well. */
static bool is_for_tools(const char *name)
{
    static const char *const beginnings[] = { "CONTAINERS_", "DOCKER_", "APPTAINER_",
                                              "SINGULARITY_" };
    static const char *const names[] = { "http_proxy",     "https_proxy",        "no_proxy",
                                         "all_proxy",      "ssl_cert_file",      "ssl_cert_dir",
                                         "curl_ca_bundle", "requests_ca_bundle", "netrc" };

    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (ty_starts_with(name, beginnings[i]))
            return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return ty_env_is_for_tools(name);
}

static int set(const char *name, const char *value)
{
    return setenv(name, value, 1) < 0 ? -errno : 0;
}

int ty_build_variables(const struct ty_jobfile *j)
{
    const char *name;
    json_t *value;
    int r = 0;

    json_object_foreach (j->spec->environment, name, value)
        if (r == 0 && is_for_tools(name))
            r = set(name, json_string_value(value));
    return r;
}

/* Where users have their tools: conda and its like are rarely a distribution's. */
static int set_path(const struct ty_jobfile *j, const char *python)
{
    static const char *const folders[] = { "%s/.local/bin",          "%s/miniconda3/condabin",
                                           "%s/miniforge3/condabin", "%s/mambaforge/condabin",
                                           "%s/anaconda3/condabin",  "/opt/conda/condabin" };
    const char *slash = strrchr(python, '/');
    CLEANUP_STR struct ty_str s = { 0 };

    if (slash)
        ty_str_addf(&s, "%.*s:", (int)(slash - python), python);
    ty_str_add(&s, SYSTEM_PATH);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        CLEANUP_FREE char *path = ty_starts_with(folders[i], "%s/")
                                      ? ty_path_join(j->user_home, folders[i] + 3)
                                      : strdup(folders[i]);

        if (path && access(path, X_OK) == 0)
            ty_str_addf(&s, ":%s", path);
    }
    return s.failed ? -ENOMEM : set("PATH", s.text);
}

static int set_environment(const struct ty_jobfile *j, const char *python)
{
    const char *fault = getenv("TY_FAULT"), *nvml = getenv("TRAINYARD_TEST_NVML");
    CLEANUP_FREE char *fault_text = fault ? strdup(fault) : NULL;
    CLEANUP_FREE char *nvml_text = nvml ? strdup(nvml) : NULL;
    int r = clearenv() != 0 ? -ENOMEM : set_path(j, python);

    r = r < 0 ? r : set("HOME", j->user_home);
    r = r < 0 ? r : set("USER", j->user);
    r = r < 0 ? r : set("LOGNAME", j->user);
    r = r < 0 ? r : set("LANG", "C.UTF-8");
    r = r < 0 ? r : set("TMPDIR", j->tmp);
    r = r < 0 ? r : set("TRAINYARD_JOB", j->dir);
    if (r == 0 && fault_text)
        r = set("TY_FAULT", fault_text);
    if (r == 0 && nvml_text)
        r = set("TRAINYARD_TEST_NVML", nvml_text);
    return r < 0 ? r : ty_build_variables(j);
}

struct builder {
    int out;
    bool logged;
};

static void on_log(const char *line, void *ctx)
{
    struct builder *b = ctx;

    b->logged = true;
    ty_child_tell(b->out, "log", line);
}

static void on_progress(int percent, const char *doing, void *ctx)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:s, s:i, s:s}", "kind", "building", "percent", percent, "doing", doing);

    if (o)
        ty_child_send(((struct builder *)ctx)->out, o);
}

static int tell(const struct builder *b, const struct ty_env *e)
{
    CLEANUP_JSON json_t *o = json_pack("{s:s, s:s, s:s?, s:s?, s:O?, s:O?}", "kind", "environment",
                                       "interpreter", e->interpreter, "prefix", e->prefix, "path",
                                       e->path, "variables", e->variables, "record", e->record);

    if (!o)
        return -ENOMEM;
    return e->hold < 0 ? ty_child_send(b->out, o) : ty_child_pass(b->out, o, e->hold);
}

static void tell_failure(const struct ty_jobfile *j, const struct builder *b,
                         const struct ty_error *err)
{
    char log[TY_DRIVER_LOG_MAX];
    CLEANUP_FREE char *text =
        b->logged ? ty_strf("%s (build log: %s)", err->text, ty_build_log(j->node, log))
                  : strdup(err->text);
    for (char *p = text; p && *p; p++)
        if (*p == '\n')
            *p = ' ';
    CLEANUP_JSON json_t *o =
        text ? json_pack("{s:s, s:s, s:o}", "kind", "failed", "of", "environment", "text",
                         ty_lossy_text(text, strlen(text)))
             : NULL;

    if (o)
        ty_child_send(b->out, o);
}

/* The python to begin with.  A command may name none, and then any of this machine will do. */
static const char *base_of(const struct ty_run_spec *spec, bool *any)
{
    static const char *const others[] = { "/usr/bin/python3", "/usr/local/bin/python3",
                                          "/opt/conda/bin/python3" };
    const char *python = ty_run_python(spec);

    *any = spec->interpreter_any || !python;
    if (python && (spec->script || access(python, X_OK) == 0))
        return python;
    *any = true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (access(others[i], X_OK) == 0)
            return others[i];
    return others[0];
}

static int get(const struct ty_jobfile *j, struct builder *b, struct ty_error *err)
{
    struct ty_env_request q = { .spec = j->spec->env,
                                .cache = j->cache,
                                .python_path = j->python_path,
                                .use_gpu = j->spec->use_gpu,
                                .torch_index = j->torch_index,
                                .cache_bytes_max = j->env_cache_bytes,
                                .log = on_log,
                                .progress = on_progress,
                                .ctx = b };
    CLEANUP(ty_view_builder_done) struct ty_view_builder seen = { 0 };
    struct ty_env e = { .hold = -1 };
    int r;

    if (!j->python_path)
        return ty_error_set(
            err, -ENOTSUP,
            "cannot look for the packages of the run: Trainyard's own Python packages "
            "are not installed beside it ('make install' does that)");
    r = ty_view_of_builder(j, &seen, err);
    if (r < 0)
        return r;
    q.view = seen.id ? &seen.view : NULL;
    q.image_id = seen.id;
    if (q.view)
        q.interpreter = ty_view_interpreter(j);
    if (q.view && !q.interpreter)
        q.interpreter = ty_run_python(j->spec) ? ty_run_python(j->spec) : "python3";
    if (!q.view)
        q.interpreter = base_of(j->spec, &q.interpreter_any);
    r = set_environment(j, q.interpreter);
    if (r < 0)
        return ty_error_set(err, r, "its tools cannot be given an environment: %s", strerror(-r));
    r = ty_env_get(&q, &e, err);
    if (r < 0)
        return r;
    r = tell(b, &e);
    ty_env_done(&e);
    return r < 0 ? ty_error_set(err, r, "what was built cannot be told: %s", strerror(-r)) : 0;
}

static _Noreturn void build(const struct ty_jobfile *j, int out, pid_t keeper)
{
    struct builder b = { .out = out };
    struct ty_error err = { 0 };
    sigset_t none;
    int r;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper)
        _exit(1);
    prctl(PR_SET_NAME, "trainyard-build");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    r = get(j, &b, &err);
    if (r < 0)
        tell_failure(j, &b, &err);
    _exit(r < 0 ? 1 : 0);
}

/* ---- the keeper ---- */

/* Who became another user is not told of its parent's end any more, unless it asks again. */
static int watch(pid_t runner, sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGCHLD);
    sigaddset(signals, RUNNER_GONE);
    sigprocmask(SIG_BLOCK, signals, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, RUNNER_GONE);
    return getppid() == runner ? 0 : -ESRCH;
}

/* The builder's status; what it leaves behind is ended with it.  -1: the runner is gone, and so is all of it. */
static int wait_for(pid_t builder, const sigset_t *signals)
{
    int status = 0;

    for (;;) {
        int sig = sigwaitinfo(signals, NULL);
        pid_t pid;

        if (sig == RUNNER_GONE) {
            ty_tree_kill(KILL_MS, NULL, NULL);
            return -1;
        }
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            if (pid == builder) {
                ty_tree_kill(KILL_MS, NULL, NULL);
                return status;
            }
    }
}

int ty_build(const struct ty_jobfile *j, int out, pid_t runner)
{
    pid_t self = getpid(), builder;
    sigset_t signals;
    int status;

    if (watch(runner, &signals) < 0)
        return -ESRCH;
    builder = fork();
    if (builder == 0)
        build(j, out, self);
    if (builder < 0) {
        int r = -errno;

        ty_child_tell(out, "failed", "cannot start a process that builds the environment");
        return r;
    }
    status = wait_for(builder, &signals);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (status < 0 || getppid() != runner)
        return -ESRCH;
    if (WIFSIGNALED(status)) {
        CLEANUP_FREE char *text = ty_strf("the process that built the environment was killed by "
                                          "signal %d; was there enough memory?",
                                          WTERMSIG(status));

        if (text)
            ty_child_tell(out, "failed", text);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}
