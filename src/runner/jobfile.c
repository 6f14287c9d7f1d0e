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
    free(j->data_dirs);
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
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "attempt", 1, INT32_MAX, &j->attempt, err);
    if (r == 0)
        r = ty_json_get_i64(j->json, "job.json", "cancel_grace_seconds", 0, 86400,
                            &j->cancel_grace_seconds, err);
    if (r == 0)
        r = limit(j, "log_bytes_max", &j->log_bytes_max, err);
    if (r == 0)
        r = limit(j, "artifact_files_max", &j->artifact_files_max, err);
    if (r == 0)
        r = limit(j, "artifact_bytes_max", &j->artifact_bytes_max, err);
    return r;
}

static int data_dirs(struct ty_jobfile *j, struct ty_error *err)
{
    const json_t *list = json_object_get(j->json, "data_dirs");
    int n = j->spec->ndata;

    if (n == 0)
        return 0;
    if (!json_is_array(list) || (int)json_array_size(list) != n)
        return ty_error_set(err, -EINVAL, "job.json: 'data_dirs' must be a list of %d folders", n);
    j->data_dirs = calloc((size_t)n, sizeof *j->data_dirs);
    if (!j->data_dirs)
        return ty_error_oom(err);
    for (int i = 0; i < n; i++) {
        j->data_dirs[i] = json_string_value(json_array_get(list, (size_t)i));
        if (!j->data_dirs[i] || j->data_dirs[i][0] != '/')
            return ty_error_set(err, -EINVAL, "job.json: 'data_dirs' must hold absolute paths");
    }
    return 0;
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
        r = ty_run_spec_parse(json_object_get(j->json, "spec"), &j->spec, err);
    if (r == 0)
        r = data_dirs(j, err);
    if (r == 0)
        r = find_owner(j, err);
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
