/* launch_plan.c - from a run spec to argument vector and environment */
#include "core/launch_plan.h"
#include "base/error.h"
#include "base/str.h"
#include "core/ascii.h"
#include <errno.h>
#include <string.h>

#define SYSTEM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define TOKEN_EXPIRY "4102444800" /* in seconds since 1970: does not expire before 2100 */

const char *ty_driver_log(int rank, int size, char buf[TY_DRIVER_LOG_MAX])
{
    if (size > 1)
        snprintf(buf, TY_DRIVER_LOG_MAX, "azureml-logs/70_driver_log_%d.txt", rank);
    else
        snprintf(buf, TY_DRIVER_LOG_MAX, "azureml-logs/70_driver_log.txt");
    return buf;
}

const char *ty_build_log(int node, char buf[TY_DRIVER_LOG_MAX])
{
    if (node > 0)
        snprintf(buf, TY_DRIVER_LOG_MAX, "azureml-logs/20_image_build_log_%d.txt", node);
    else
        snprintf(buf, TY_DRIVER_LOG_MAX, "azureml-logs/20_image_build_log.txt");
    return buf;
}

const char *ty_run_python(const struct ty_run_spec *s)
{
    const char *word = s->script    ? s->interpreter
                       : s->command ? s->command[0]
                                    : NULL,
               *name = word && *word == '/' ? strrchr(word, '/') + 1 : NULL;

    if (s->script || !name)
        return s->script ? word : NULL;
    if (strncmp(name, "python", 6) != 0 || (name[6] && name[6] != '3'))
        return NULL;
    return name[6] && name[7 + strspn(name + 7, ".0123456789")] ? NULL : word;
}

/* A growing NULL-terminated vector, owner of its texts; failure is sticky. */
struct vec {
    char **at;
    size_t n, cap;
    bool failed;
};

char **ty_strv_free(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
    return NULL;
}

static void push(struct vec *v, char *text)
{
    if (v->n + 2 > v->cap && !v->failed) {
        size_t cap = v->cap ? v->cap * 2 : 32;
        char **p = realloc(v->at, cap * sizeof *p);

        if (p) {
            v->at = p;
            v->cap = cap;
            v->at[v->n] = NULL;
        }
        v->failed = !p;
    }
    if (v->failed || !text) {
        v->failed = true;
        free(text);
        return;
    }
    v->at[v->n++] = text;
    v->at[v->n] = NULL;
}

static int take(struct vec *v, char ***ret, struct ty_error *err)
{
    if (v->failed || !v->at) {
        ty_strv_free(v->at);
        return ty_error_oom(err);
    }
    *ret = v->at;
    return 0;
}

static const char *find(char *const *env, const char *name, size_t n)
{
    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

/* Set or replace. */
static void set(struct vec *v, const char *name, const char *value)
{
    char *text = ty_strf("%s=%s", name, value);

    for (size_t i = 0; text && i < v->n; i++)
        if (strncmp(v->at[i], text, strlen(name) + 1) == 0) {
            free(v->at[i]);
            v->at[i] = text;
            return;
        }
    push(v, text);
}

static void set_number(struct vec *v, const char *name, long long value)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", value);
    set(v, name, text);
}

/* A search path of those parts that there are. */
static void set_path(struct vec *v, const char *name, const char *a, const char *b, const char *c)
{
    struct ty_str s = { 0 };
    const char *const parts[] = { a, b, c };

    for (size_t i = 0; i < 3; i++)
        if (parts[i] && *parts[i])
            ty_str_addf(&s, "%s%s", s.len ? ":" : "", parts[i]);
    char *text = ty_str_take(&s);
    if (text)
        set(v, name, text);
    v->failed |= !text;
    free(text);
}

/* ---- environment ---- */

/* What scripts look at to learn where their packages are; `bin` is the interpreter's folder. */
static void set_environment(struct vec *v, const struct ty_launch *l, const char *bin)
{
    const char *slash = bin ? strrchr(bin, '/') : NULL, *name;
    CLEANUP_FREE char *own = slash ? strndup(bin, (size_t)(slash - bin)) : NULL;
    json_t *value;

    v->failed |= slash && !own;
    if (l->env_prefix || own)
        set(v, "AZUREML_CONDA_ENVIRONMENT_PATH", l->env_prefix ? l->env_prefix : *own ? own : "/");
    set(v, "AZUREML_ENVIRONMENT_IMAGE",
        l->spec->env && l->spec->env->view == TY_VIEW_IMAGE ? "True" : "False");
    json_object_foreach ((json_t *)l->env_variables, name, value)
        if (json_is_string(value))
            set(v, name, json_string_value(value));
}

static void set_system(struct vec *v, const struct ty_launch *l)
{
    const char *python = l->interpreter ? l->interpreter : l->spec->interpreter,
               *slash = python ? strrchr(python, '/') : NULL;
    const char *given = json_string_value(json_object_get(l->spec->environment, "PATH"));
    CLEANUP_FREE char *dir = slash ? strndup(python, (size_t)(slash - python)) : NULL;

    if (!given)
        set_path(v, "PATH", l->env_path ? l->env_path : dir, SYSTEM_PATH, NULL);
    v->failed |= slash && !dir;
    set(v, "HOME", l->user_home ? l->user_home : "/");
    set(v, "USER", l->user ? l->user : "");
    set(v, "LOGNAME", l->user ? l->user : "");
    set(v, "SHELL", "/bin/sh");
    set(v, "LANG", "C.UTF-8");
    set(v, "TMPDIR", l->tmp_dir);
    set(v, "PYTHONUNBUFFERED", "1");
    set_environment(v, l, dir);
}

static void set_master(struct vec *v, const struct ty_launch *l, const char *addr, const char *port)
{
    CLEANUP_FREE char *place = ty_strf("%s:%s", addr, port);
    CLEANUP_FREE char *init =
        l->link_interface ? ty_strf("tcp://%s:%s", addr, port)
                          : ty_strf("file://%s/init-%lld", l->tmp_dir, (long long)l->attempt);

    v->failed |= !place || !init;
    if (v->failed)
        return;
    if (l->node_count > 1)
        set(v, "AZ_BATCH_MASTER_NODE", place);
    set(v, "AZ_BATCHAI_MPI_MASTER_NODE", addr);
    set(v, "AZ_BATCHAI_PYTORCH_INIT_METHOD", init);
    set_number(v, "AZ_BATCHAI_TASK_INDEX", l->rank);
}

/* As mpirun names them; its NODE_RANK is the rank within the node. */
static void set_mpi(struct vec *v, const struct ty_launch *l)
{
    set_number(v, "OMPI_COMM_WORLD_RANK", l->rank);
    set_number(v, "OMPI_COMM_WORLD_SIZE", l->size);
    set_number(v, "OMPI_COMM_WORLD_LOCAL_RANK", l->local_rank);
    set_number(v, "OMPI_COMM_WORLD_LOCAL_SIZE", l->local_size);
    set_number(v, "OMPI_COMM_WORLD_NODE_RANK", l->local_rank);
}

/* Early enough that a hang is known when it has lasted for as long as the run allows. */
static int64_t hang_check_seconds(int64_t timeout_s)
{
    int64_t s = timeout_s / 2;

    return s < 1 ? 1 : s > 60 ? 60 : s;
}

static void set_ranks(struct vec *v, const struct ty_launch *l)
{
    const char *addr = l->master_addr ? l->master_addr : "127.0.0.1";
    char port[16];

    snprintf(port, sizeof port, "%d", l->master_port ? l->master_port : TY_MASTER_PORT);
    set_number(v, "RANK", l->rank);
    set_number(v, "WORLD_SIZE", l->size);
    set_number(v, "LOCAL_RANK", l->local_rank);
    set_number(v, "LOCAL_WORLD_SIZE", l->local_size);
    set_number(v, "NODE_RANK", l->node_rank);
    set(v, "MASTER_ADDR", addr);
    set(v, "MASTER_PORT", port);
    if (l->gpus && *l->gpus)
        set(v, "CUDA_VISIBLE_DEVICES", l->gpus);
    if (l->size == 1)
        return;
    set_master(v, l, addr, port);
    if (l->spec->comm == TY_COMM_MPI)
        set_mpi(v, l);
    if (l->spec->hang_timeout_seconds > 0)
        set_number(v, "HOROVOD_STALL_CHECK_TIME_SECONDS",
                   hang_check_seconds(l->spec->hang_timeout_seconds));
    if (l->threads > 0)
        set_number(v, "OMP_NUM_THREADS", l->threads);
    if (l->link_interface) {
        set(v, "GLOO_SOCKET_IFNAME", l->link_interface);
        set(v, "NCCL_SOCKET_IFNAME", l->link_interface);
        if (l->spec->comm == TY_COMM_MPI) /* it would try all, bridges of containers among them */
            set(v, "OMPI_MCA_btl_tcp_if_include", l->link_interface);
    }
}

/* What a helper of the launcher says to this rank: whole "NAME=value". */
static void set_more(struct vec *v, const struct ty_launch *l)
{
    for (const char *const *p = l->more; p && *p; p++) {
        const char *equals = strchr(*p, '=');
        CLEANUP_FREE char *name = equals ? strndup(*p, (size_t)(equals - *p)) : NULL;

        v->failed |= equals && !name;
        if (name)
            set(v, name, equals + 1);
    }
}

/* Where our own engine says who keeps others waiting. */
static void set_stall_file(struct vec *v, const struct ty_launch *l)
{
    CLEANUP_FREE char *path = ty_strf("%s/stall.%d", l->spool_dir, l->rank);

    if (path)
        set(v, "TRAINYARD_COLL_STALL_FILE", path);
    v->failed |= !path;
}

/* How ranks of our own engine find each other. */
static void set_coll(struct vec *v, const struct ty_launch *l)
{
    if (l->size == 1)
        return;
    set_number(v, "TRAINYARD_COLL_RANK", l->rank);
    set_number(v, "TRAINYARD_COLL_SIZE", l->size);
    if (l->coll_node)
        set(v, "TRAINYARD_COLL_NODE", l->coll_node);
    if (l->rendezvous)
        set(v, "TRAINYARD_COLL_RENDEZVOUS", l->rendezvous);
    if (l->secret)
        set(v, "TRAINYARD_COLL_SECRET", l->secret);
    set_stall_file(v, l);
}

static void set_user(struct vec *v, const struct ty_launch *l)
{
    const char *name;
    json_t *value;

    json_object_foreach (l->spec->environment, name, value)
        if (strcmp(name, "PYTHONPATH") != 0)
            set(v, name, json_string_value(value));
    /* As when an environment is activated. */
    if (l->env_path && json_object_get(l->spec->environment, "PATH"))
        set_path(v, "PATH", l->env_path,
                 json_string_value(json_object_get(l->spec->environment, "PATH")), NULL);
    /* What the numbers of our list mean; a list of the user's own is theirs. */
    if (l->gpus && *l->gpus && !json_object_get(l->spec->environment, "CUDA_VISIBLE_DEVICES"))
        set(v, "CUDA_DEVICE_ORDER", "PCI_BUS_ID");
}

/* Who the run is: last, so that nothing replaces it. */
static void set_identity(struct vec *v, const struct ty_launch *l)
{
    const char *given = json_string_value(json_object_get(l->spec->environment, "PYTHONPATH"));
    const struct ty_run_spec *spec = l->spec;

    set_path(v, "PYTHONPATH", l->work_dir, l->python_path, given);
    set(v, "AZUREML_RUN_ID", l->run_id);
    set(v, "AZUREML_RUN_TOKEN", "local");
    set(v, "AZUREML_RUN_TOKEN_EXPIRY", TOKEN_EXPIRY);
    set(v, "AZUREML_EXPERIMENT_ID", spec->experiment);
    set(v, "AZUREML_ARM_SUBSCRIPTION", "trainyard");
    set(v, "AZUREML_ARM_RESOURCEGROUP", "trainyard");
    set(v, "AZUREML_ARM_WORKSPACE_NAME", l->workspace);
    set(v, "AZUREML_ARM_PROJECT_NAME", spec->experiment);
    set(v, "AZUREML_WORKSPACE_ID", l->workspace);
    set(v, "AZUREML_SERVICE_ENDPOINT", "unix");
    set(v, "AZUREML_DISCOVERY_SERVICE_ENDPOINT", "unix");
    set(v, "AZUREML_SCRIPT_DIRECTORY_NAME", l->work_dir);
    set(v, "AZ_BATCHAI_JOB_WORK_DIR", l->work_dir);
    set(v, "TRAINYARD_HOME", l->home);
    set(v, "TRAINYARD_RUN_ID", l->run_id);
    set(v, "TRAINYARD_JOB", l->job_dir);
    set(v, "TRAINYARD_SPOOL_DIR", l->spool_dir);
    set_number(v, "TRAINYARD_ATTEMPT", l->attempt);
    if (l->checkpoint_dir)
        set(v, "TRAINYARD_CHECKPOINT_DIR", l->checkpoint_dir);
    for (int i = 0; i < spec->ndata; i++) {
        CLEANUP_FREE char *name = ty_strf("AZUREML_DATAREFERENCE_%s", spec->data[i].name);

        if (name)
            set(v, name, l->data_dirs[i]);
        v->failed |= !name;
    }
}

/* Values of the user's variables that name others: with all that is known of the rank. */
static void expand_user(struct vec *v, const struct ty_launch *l)
{
    for (const char **name = l->spec->expand_variables; name && *name && !v->failed; name++) {
        CLEANUP_FREE char *value = NULL;

        /* One that grows too long stays as it is. */
        if (ty_expand(json_string_value(json_object_get(l->spec->environment, *name)), v->at,
                      &value) == -ENOMEM)
            v->failed = true;
        else if (value)
            set(v, *name, value);
    }
}

int ty_launch_env(const struct ty_launch *l, char ***ret, struct ty_error *err)
{
    struct vec v = { 0 };

    set_system(&v, l);
    set_ranks(&v, l);
    set_more(&v, l);
    set_user(&v, l);
    set_identity(&v, l);
    set_coll(&v, l);
    expand_user(&v, l);
    return take(&v, ret, err);
}

/* ---- arguments ---- */

static bool is_name(char c, bool first)
{
    return c == '_' || (ty_ascii_alnum(c) && !(first && ty_ascii_digit(c)));
}

/* The variable that `p` (at a '$') names: its name, and how many bytes the reference has; 0: none. */
static size_t reference(const char *p, const char **name, size_t *n)
{
    bool braces = p[1] == '{';
    size_t k = 0;

    *name = p + 1 + braces;
    while (is_name((*name)[k], k == 0))
        k++;
    if (k == 0 || (braces && (*name)[k] != '}'))
        return 0;
    *n = k;
    return 1 + k + (braces ? 2 : 0);
}

int ty_expand(const char *text, char *const *env, char **ret)
{
    CLEANUP_STR struct ty_str out = { 0 };
    char *whole;

    for (const char *p = text; *p && out.len <= TY_TEXT_MAX;) {
        const char *name = NULL, *value = NULL;
        size_t n = 0, used = *p == '$' ? reference(p, &name, &n) : 0;

        if (used)
            value = find(env, name, n);
        if (value) {
            ty_str_add(&out, value);
            p += used;
        } else if (p[0] == '$' && p[1] == '$') {
            ty_str_addn(&out, p, 2);
            p += 2;
        } else {
            ty_str_addn(&out, p++, 1);
        }
    }
    if (out.len > TY_TEXT_MAX)
        return -E2BIG;
    whole = ty_str_take(&out);
    if (!whole)
        return -ENOMEM;
    *ret = whole;
    return 0;
}

/* Add the words, expanded; `key` is what they are called in a run specification. */
static int push_words(struct vec *v, const struct ty_launch *l, char *const *env,
                      const char *const *words, const char *key, struct ty_error *err)
{
    int r;

    for (int i = 0; words && words[i]; i++) {
        char *word = NULL;

        if (i == 0 && words == l->spec->command && l->interpreter && ty_run_python(l->spec)) {
            push(v, strdup(l->interpreter));
            continue;
        }
        r = l->spec->expand ? ty_expand(words[i], env, &word) : 0;
        if (r == -E2BIG)
            return ty_error_set(
                err, r, "entry %d of '%s' has more than %d bytes once $NAME is replaced in it",
                i + 1, key, TY_TEXT_MAX);
        push(v, l->spec->expand ? word : strdup(words[i]));
    }
    return 0;
}

int ty_launch_argv(const struct ty_launch *l, char *const *env, char ***ret, struct ty_error *err)
{
    struct vec v = { 0 };
    int r;

    if (l->spec->script) {
        push(&v, strdup(l->interpreter ? l->interpreter : l->spec->interpreter));
        push(&v, strdup(l->spec->script));
    }
    r = push_words(&v, l, env, l->spec->command, "command", err);
    if (r == 0)
        r = push_words(&v, l, env, l->spec->arguments, "arguments", err);
    if (r < 0) {
        ty_strv_free(v.at);
        return r;
    }
    return take(&v, ret, err);
}
