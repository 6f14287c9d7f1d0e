/* jobdir.c - making and removing job folders */
#include "target/jobdir.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB_JSON_MAX (64 << 20)

char *ty_jobdir_path(const char *home, const char *run)
{
    return ty_strf("%s/jobs/%s", home, run);
}

/* A folder without its job.json is one that its runner is removing. */
bool ty_jobdir_exists(const char *home, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/jobs/%s/job.json", home, run);

    return path && access(path, F_OK) == 0;
}

static json_t *read_job(const char *home, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/jobs/%s/job.json", home, run), *text = NULL;
    json_t *o = NULL;
    size_t n;

    return path && ty_read_file(path, JOB_JSON_MAX, &text, &n) == 0 &&
                   ty_json_parse(text, n, &o, NULL) == 0
               ? o
               : NULL;
}

static int attempt_of(const json_t *job)
{
    json_int_t n = json_integer_value(json_object_get(job, "attempt"));

    return n > 0 && n <= INT32_MAX ? (int)n : 1;
}

int ty_jobdir_attempt(const char *home, const char *run)
{
    CLEANUP_JSON json_t *job = read_job(home, run);

    return attempt_of(job);
}

int ty_jobdir_remove(const char *home, const char *run)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(home, run);

    return dir ? ty_rm_rf(dir) : -ENOMEM;
}

int ty_jobdir_give_up(const char *home, const char *run)
{
    CLEANUP_JSON json_t *job = read_job(home, run);
    const char *kind = json_string_value(json_object_get(json_object_get(job, "target"), "kind"));
    CLEANUP_FREE char *from = ty_jobdir_path(home, run), *lost = ty_path_join(home, "lost"),
                      *to = ty_strf("%s/lost/%s.%d", home, run, attempt_of(job));

    if (kind && strcmp(kind, "hosts") == 0 && from && to && lost && ty_mkdir_p(lost, 0700) == 0 &&
        ty_rm_rf(to) == 0 && rename(from, to) == 0)
        return 0;
    return ty_jobdir_remove(home, run);
}

static const char *user_home(void)
{
    const struct passwd *pw = getpwuid(getuid());

    return pw && pw->pw_dir && *pw->pw_dir ? pw->pw_dir : "/";
}

static json_t *data_dirs(const struct ty_jobdir *j)
{
    json_t *list = json_array();

    for (int i = 0; i < j->ndata; i++)
        json_array_append_new(list, *j->data_dirs[i] ? json_string(j->data_dirs[i]) : json_null());
    return list;
}

/* `dir` is where the folder will lie in the end, not where it is being made. */
static char *job_json(const struct ty_jobdir *j, const char *dir)
{
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_FREE char *socket = ty_path_join(j->home, "runner.sock");
    CLEANUP_FREE char *blobs = ty_path_join(j->home, "blobs");
    CLEANUP_FREE char *manifest = j->snapshot ? ty_path_join(dir, "manifest") : NULL;

    if (!socket || !blobs || (j->snapshot && !manifest))
        return NULL;
    o = json_pack("{s:i s:s s:i s:s s:s s:s s:s s:s s:O s:s? s:o s:s s:s s:s? s:I s:I s:I s:I s:O}",
                  "version", 1, "run", j->run, "attempt", j->attempt, "token", j->token, "socket",
                  socket, "blobs", blobs, "home", j->home, "workspace", "trainyard", "spec",
                  j->spec, "manifest", manifest, "data_dirs", data_dirs(j), "user", j->user,
                  "user_home", user_home(), "python_path", j->python_path, "cancel_grace_seconds",
                  (json_int_t)j->cancel_grace_seconds, "log_bytes_max",
                  (json_int_t)j->log_bytes_max, "artifact_files_max",
                  (json_int_t)j->artifact_files_max, "artifact_bytes_max",
                  (json_int_t)j->artifact_bytes_max, "warnings", j->warnings);
    if (o && json_object_set_new(o, "system_metrics_seconds",
                                 json_integer(j->system_metrics_seconds)) < 0)
        return NULL;
    if (o && j->extra && json_object_update(o, (json_t *)j->extra) < 0)
        return NULL;
    /* Of a daemon for all users it lies in the home of the job's: the runner knows that. */
    if (o && !j->run_as_user) {
        CLEANUP_FREE char *cache = ty_path_join(j->home, "cache");

        if (!cache || json_object_set_new(o, "cache", json_string(cache)) < 0)
            return NULL;
    }
    if (o && j->run_as_user && json_object_set_new(o, "run_as", json_string(j->user)) < 0)
        return NULL;
    return o ? ty_json_text(o) : NULL;
}

static int put_manifest(struct ty_blobs *blobs, const char *sha, const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "manifest");
    CLEANUP_CLOSE int from = ty_blob_open(blobs, sha);
    CLEANUP_CLOSE int to = -1;

    if (!path)
        return -ENOMEM;
    if (from < 0)
        return from;
    to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    return ty_copy_fd(from, to);
}

static int put_job_json(const struct ty_jobdir *j, const char *tmp, const char *dir)
{
    CLEANUP_FREE char *text = job_json(j, dir);
    CLEANUP_FREE char *path = ty_path_join(tmp, "job.json");
    CLEANUP_CLOSE int fd = -1;

    if (!text || !path)
        return -ENOMEM;
    /* The folder appears whole, by rename below; a power cut ends the run anyway: nothing is synced here. */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    return ty_write_all(fd, text, strlen(text));
}

int ty_jobdir_make(const struct ty_jobdir *j, struct ty_blobs *blobs, struct ty_error *err)
{
    CLEANUP_FREE char *dir = ty_jobdir_path(j->home, j->run);
    CLEANUP_FREE char *tmp = ty_strf("%s/jobs/.new-%s", j->home, j->run);
    int r;

    if (!dir || !tmp)
        return ty_error_oom(err);
    if (ty_jobdir_exists(j->home, j->run))
        return 0;
    r = ty_rm_rf(dir);
    if (r == 0)
        r = ty_rm_rf(tmp);
    if (r == 0)
        r = ty_mkdir_p(tmp, 0700);
    /* The user passes through to the folders that the runner hands over; nobody can list it. */
    if (r == 0 && j->run_as_user && chmod(tmp, 0711) < 0)
        r = -errno;
    if (r == 0)
        r = put_job_json(j, tmp, dir);
    if (r == 0 && j->snapshot)
        r = put_manifest(blobs, j->snapshot, tmp);
    if (r == 0 && rename(tmp, dir) < 0)
        r = -errno;
    if (r < 0) {
        ty_rm_rf(tmp);
        errno = -r;
        return ty_error_set(err, r, "cannot make the job folder '%s': %m", dir);
    }
    return 0;
}
