/* jobfile.c - reading job.json; the phase file */
#include "runner/jobfile.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB_JSON_MAX (64 << 20)
#define CPU_NUMBER_MAX 65536

struct ty_jobfile *ty_jobfile_free(struct ty_jobfile *j)
{
    if (!j)
        return NULL;
    ty_run_spec_free(j->spec);
    ty_owner_free(j->owner);
    free(j->dir);
    free(j->work);
    free(j->tmp);
    free(j->spool);
    free(j->log);
    free(j->cache);
    free(j->data_dirs);
    free(j->data_access);
    for (int i = 0; i < j->nnodes; i++) {
        free(j->nodes[i].cpus);
        free(j->nodes[i].gpus);
    }
    free(j->nodes);
    json_decref(j->json);
    free(j);
    return NULL;
}

static int need(const json_t *o, const char *key, const char **ret, struct ty_error *err)
{
    int r = ty_json_get_str(o, "job.json", key, ret, err);

    return r < 0 ? r : *ret ? 0 : ty_error_set(err, -EINVAL, "job.json has no '%s'", key);
}

static int texts(struct ty_jobfile *j, struct ty_error *err)
{
    const struct {
        const char *key, **to;
    } must[] = {
        { "run", &j->run },     { "token", &j->token },         { "socket", &j->socket },
        { "blobs", &j->blobs }, { "home", &j->home },           { "workspace", &j->workspace },
        { "user", &j->user },   { "user_home", &j->user_home },
    };
    int r = 0;

    for (size_t i = 0; i < sizeof must / sizeof *must && r == 0; i++)
        r = need(j->json, must[i].key, must[i].to, err);
    if (r == 0)
        r = ty_json_get_str(j->json, "job.json", "manifest", &j->manifest, err);
    if (r == 0)
        r = ty_json_get_str(j->json, "job.json", "python_path", &j->python_path, err);
    if (r == 0)
        r = ty_json_get_str(j->json, "job.json", "checkpoint_dir", &j->checkpoint_dir, err);
    if (r == 0)
        r = ty_json_get_str(j->json, "job.json", "torch_index", &j->torch_index, err);
    return r;
}

/* A limit; 0 and none stand for no limit. */
static int limit(struct ty_jobfile *j, const char *key, int64_t *ret, struct ty_error *err)
{
    int r = ty_json_get_i64(j->json, "job.json", key, 0, INT64_MAX, ret, err);

    if (r == 0 && *ret == 0)
        *ret = INT64_MAX;
    return r;
}

static int numbers(struct ty_jobfile *j, struct ty_error *err)
{
    int64_t version = 0;
    int r = ty_json_get_i64(j->json, "job.json", "version", 1, 1, &version, err);

    if (r == 0 && version != 1)
        r = ty_error_set(err, -EINVAL, "job.json has no 'version'");
    j->attempt = 1;
    j->cancel_grace_seconds = 30;
    j->node_lost_seconds = 60;
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "attempt", 1, INT32_MAX, &j->attempt, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "cancel_grace_seconds", 0, 86400,
                            &j->cancel_grace_seconds, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "system_metrics_seconds", 0, INT32_MAX,
                            &j->system_metrics_seconds, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "env_cache_bytes", 0, INT64_MAX,
                            &j->env_cache_bytes, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "data_cache_bytes", 0, INT64_MAX,
                            &j->data_cache_bytes, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "record_base", 0, INT64_MAX, &j->record_base, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "writer_base", 0, INT32_MAX, &j->writer_base, err);
    j->log_base = json_object_get(j->json, "log_base");
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "node_lost_seconds", 1, 1000000,
                            &j->node_lost_seconds, err);
    if (r == 0)
        r = limit(j, "log_bytes_max", &j->log_bytes_max, err);
    if (r == 0)
        r = limit(j, "artifact_files_max", &j->artifact_files_max, err);
    if (r == 0)
        r = limit(j, "artifact_bytes_max", &j->artifact_bytes_max, err);
    return r;
}

/* Of each reference its folder, or how its object store is reached. */
static int data_places(struct ty_jobfile *j, struct ty_error *err)
{
    const json_t *list = json_object_get(j->json, "data_dirs");
    const json_t *access = json_object_get(j->json, "data_access");
    int n = j->spec->ndata;

    if (n == 0)
        return 0;
    if (!json_is_array(list) || (int)json_array_size(list) != n)
        return ty_error_set(err, -EINVAL, "job.json: 'data_dirs' must be a list of %d folders", n);
    if (access && (!json_is_array(access) || (int)json_array_size(access) != n))
        return ty_error_set(err, -EINVAL, "job.json: 'data_access' must be a list of %d stores", n);
    j->data_dirs = calloc((size_t)n, sizeof *j->data_dirs);
    j->data_access = calloc((size_t)n, sizeof *j->data_access);
    if (!j->data_dirs || !j->data_access)
        return ty_error_oom(err);
    for (int i = 0; i < n; i++) {
        const json_t *store = json_array_get(access, (size_t)i);

        j->data_dirs[i] = json_string_value(json_array_get(list, (size_t)i));
        j->data_access[i] = json_is_object(store) ? store : NULL;
        if (j->data_dirs[i] ? j->data_dirs[i][0] != '/' : !j->data_access[i])
            return ty_error_set(err, -EINVAL, "job.json: 'data_dirs' must hold absolute paths");
    }
    return 0;
}

/* ---- nodes ---- */

static int get_cpus(const json_t *list, struct ty_job_node *n, struct ty_error *err)
{
    const json_t *item;
    size_t i;

    if (json_array_size(list) == 0)
        return 0;
    n->cpus = calloc(json_array_size(list), sizeof *n->cpus);
    if (!n->cpus)
        return ty_error_oom(err);
    json_array_foreach (list, i, item) {
        if (!json_is_integer(item) || json_integer_value(item) < 0 ||
            json_integer_value(item) >= CPU_NUMBER_MAX)
            return ty_error_set(err, -EINVAL, "job.json: node '%s': 'cpus' must hold numbers",
                                n->name);
        n->cpus[n->ncpus++] = (int)json_integer_value(item);
    }
    return 0;
}

static int get_node(const json_t *o, int64_t ranks_max, struct ty_job_node *n, struct ty_error *err)
{
    CLEANUP_STR struct ty_str gpus = { 0 };
    const json_t *item;
    int64_t ranks = 1;
    size_t i;
    int r;

    n->name = "";
    if (!json_is_object(o))
        return ty_error_set(err, -EINVAL, "job.json: 'nodes' must hold objects");
    r = ty_json_get_str(o, "job.json, 'nodes'", "name", &n->name, err);
    if (r == 0)
        r = ty_json_get_i64(o, "job.json, 'nodes'", "ranks", 1, ranks_max, &ranks, err);
    if (r == 0)
        r = get_cpus(json_object_get(o, "cpus"), n, err);
    if (r < 0)
        return r;
    json_array_foreach (json_object_get(o, "gpus"), i, item)
        ty_str_addf(&gpus, "%s%s", i ? "," : "",
                    json_is_string(item) ? json_string_value(item) : "");
    n->ranks = (int)ranks;
    n->gpus = gpus.len ? ty_str_take(&gpus) : strdup("");
    return n->gpus ? 0 : ty_error_oom(err);
}

static int get_nodes(struct ty_jobfile *j, struct ty_error *err)
{
    const json_t *list = json_object_get(j->json, "nodes");
    size_t n = json_array_size(list);
    int r = 0;

    if (n > TY_NODES_MAX)
        return ty_error_set(err, -EINVAL, "job.json: there are more than %d nodes", TY_NODES_MAX);
    j->nodes = calloc(n ? n : 1, sizeof *j->nodes);
    if (!j->nodes)
        return ty_error_oom(err);
    if (n == 0) {
        j->nodes[j->nnodes++] = (struct ty_job_node){ .name = "", .ranks = 1, .gpus = strdup("") };
        j->size = 1;
        return j->nodes[0].gpus ? 0 : ty_error_oom(err);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        struct ty_job_node *node = &j->nodes[j->nnodes++];

        r = get_node(json_array_get(list, i), TY_PROCESSES_MAX - j->size, node, err);
        node->first = j->size;
        j->size += node->ranks;
    }
    return r;
}

/* Which of the nodes are this runner's. */
static int get_place(struct ty_jobfile *j, struct ty_error *err)
{
    const char *role = "leader";
    int64_t node = 0, local = j->nnodes;
    int r = ty_json_get_str(j->json, "job.json", "role", &role, err);

    if (r == 0 && strcmp(role, "leader") != 0 && strcmp(role, "node") != 0)
        r = ty_error_set(err, -EINVAL, "job.json: 'role' is '%.40s', and neither leader nor node",
                         role);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "node", 0, j->nnodes - 1, &node, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "local_nodes", 1, j->nnodes, &local, err);
    if (r < 0)
        return r;
    j->leads = *role == 'l';
    j->node = j->leads ? 0 : (int)node;
    /* To the first node every attempt is the first. */
    if (!j->leads) {
        j->log_base = NULL;
        j->record_base = j->writer_base = 0;
    }
    j->own_nodes = j->leads ? (int)local : 1;
    return 0;
}

int ty_jobfile_own_ranks(const struct ty_jobfile *j, int *first)
{
    int n = 0;

    for (int i = 0; i < j->own_nodes; i++)
        n += j->nodes[j->node + i].ranks;
    *first = j->nodes[j->node].first;
    return n;
}

const struct ty_job_node *ty_jobfile_node_of(const struct ty_jobfile *j, int rank)
{
    int low = 0, high = j->nnodes - 1;

    while (low < high) {
        int middle = (low + high + 1) / 2;

        if (j->nodes[middle].first <= rank)
            low = middle;
        else
            high = middle - 1;
    }
    return &j->nodes[low];
}

/* Under a daemon of the whole machine the job is its user's: their home, and not the daemon's. */
static int find_owner(struct ty_jobfile *j, struct ty_error *err)
{
    const char *run_as = NULL;
    int r = ty_json_get_str(j->json, "job.json", "run_as", &run_as, err);

    if (r < 0 || !run_as)
        return r;
    if (geteuid() != 0)
        return ty_error_set(err, -EPERM, "only root can run a job as user '%s'", run_as);
    r = ty_owner_find(run_as, &j->owner, err);
    if (r < 0)
        return r;
    j->user = j->owner->name;
    j->user_home = j->owner->home;
    return 0;
}

/* Has the user a home to keep things in?  Accounts of services have none, or somebody else's. */
static bool has_home(const struct ty_owner *o)
{
    bool has;

    ty_owner_enter(o);
    has = faccessat(AT_FDCWD, o->home, W_OK | X_OK, AT_EACCESS) == 0;
    ty_owner_leave(o);
    return has;
}

static int find_cache(struct ty_jobfile *j, struct ty_error *err)
{
    const char *given = NULL;
    int r = ty_json_get_str(j->json, "job.json", "cache", &given, err);

    if (r < 0)
        return r;
    if (given && *given != '/')
        return ty_error_set(err, -EINVAL, "job.json: 'cache' must be an absolute path");
    j->cache = given                ? strdup(given)
               : !j->owner          ? ty_path_join(j->home, "cache")
               : has_home(j->owner) ? ty_path_join(j->owner->home, ".cache/trainyard")
                                    : ty_strf("%s/cache/%u", j->home, (unsigned)j->owner->uid);
    return j->cache ? 0 : ty_error_oom(err);
}

/* The specification has the addresses of package indexes without passwords; the whole of them came beside it. */
static int complete(const char *text, json_t **instead, void *addresses)
{
    *instead = json_incref(json_object_get(addresses, text));
    return 0;
}

static int read_spec(struct ty_jobfile *j, struct ty_error *err)
{
    json_t *spec = json_object_get(j->json, "spec"),
           *addresses = json_object_get(j->json, "addresses");

    if (ty_json_each_text(json_object_get(spec, "environment"), NULL, complete, addresses) < 0 ||
        ty_json_each_text(json_object_get(spec, "environment_variables"), NULL, complete,
                          addresses) < 0)
        return ty_error_oom(err);
    return ty_run_spec_parse(spec, &j->spec, err);
}

int ty_jobfile_read(const char *dir, struct ty_jobfile **ret, struct ty_error *err)
{
    CLEANUP(ty_jobfile_freep) struct ty_jobfile *j = calloc(1, sizeof *j);
    CLEANUP_FREE char *path = ty_path_join(dir, "job.json");
    CLEANUP_FREE char *text = NULL;
    size_t n;
    int r;

    if (!j || !path)
        return ty_error_oom(err);
    r = ty_read_file(path, JOB_JSON_MAX, &text, &n);
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot read '%s': %m", path);
    }
    r = ty_json_parse(text, n, &j->json, err);
    if (r == 0)
        r = texts(j, err);
    if (r == 0)
        r = numbers(j, err);
    if (r == 0)
        r = read_spec(j, err);
    if (r == 0)
        r = data_places(j, err);
    if (r == 0)
        r = get_nodes(j, err);
    if (r == 0)
        r = get_place(j, err);
    if (r == 0)
        r = find_owner(j, err);
    if (r == 0)
        r = find_cache(j, err);
    if (r < 0)
        return r;
    j->warnings = json_object_get(j->json, "warnings");
    j->dir = strdup(dir);
    j->work = ty_path_join(dir, "work");
    j->tmp = ty_path_join(dir, "tmp");
    j->spool = ty_path_join(dir, "spool");
    j->log = ty_path_join(dir, "log");
    if (!j->dir || !j->work || !j->tmp || !j->spool || !j->log)
        return ty_error_oom(err);
    *ret = TAKE(j);
    return 0;
}

static const char *const phases[TY_PHASE_COUNT] = { [TY_PHASE_none] = "",
#define X(word) [TY_PHASE_##word] = #word,
                                                    TY_PHASES(X)
#undef X
};

const char *ty_phase_word(enum ty_phase p)
{
    return phases[p];
}

int ty_phase_write(const char *dir, enum ty_phase p)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "phase");
    CLEANUP_FREE char *fresh = ty_path_join(dir, ".phase");
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!path || !fresh)
        return -ENOMEM;
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = ty_write_all(fd, phases[p], strlen(phases[p]));
    return r < 0 ? r : rename(fresh, path) < 0 ? -errno : 0;
}

enum ty_phase ty_phase_read(const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "phase");
    CLEANUP_FREE char *text = NULL;
    size_t n;
    int r = path ? ty_read_file(path, 64, &text, &n) : -ENOMEM;

    if (r == -ENOENT)
        return TY_PHASE_none;
    for (enum ty_phase p = TY_PHASE_preparing; r == 0 && p < TY_PHASE_COUNT; p++)
        if (strcmp(text, phases[p]) == 0)
            return p;
    return TY_PHASE_preparing;
}
