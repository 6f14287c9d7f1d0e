/* farjob.c - making, starting and removing a job folder on a host */
#include "courier/farjob.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "blob/gc.h"
#include "blob/snapshot.h"
#include "core/run_spec.h"
#include "courier/channel.h"
#include "data/cache.h"
#include "data/rclone.h"
#include "runner/rank.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MANIFEST_MAX (512 << 20)
#define JOB_JSON_MAX (64 << 20)
#define WRAPPER_END_US (7 * 1000 * 1000) /* it ends its tree in less when its runner is gone */
#define MARKED_KILL_US (5 * 1000 * 1000)
#define KEEP_S (30 * 24 * 3600)
#define KEEP_LOOK_S (24 * 3600)
#define BEGIN_S (24 * 3600) /* bringing what a job needs takes less */

int ty_far_open(struct ty_far *f, const char *folder, struct ty_error *err)
{
    CLEANUP_FREE char *blobs = ty_path_join(folder, "blobs");
    CLEANUP_FREE char *jobs = ty_path_join(folder, "jobs");
    int r;

    *f = (struct ty_far){ .folder = strdup(folder) };
    if (!f->folder || !blobs || !jobs)
        return ty_error_oom(err);
    r = ty_mkdir_p(jobs, 0700);
    if (r < 0)
        return ty_error_set(err, r, "cannot make the folder '%s': %s", jobs, strerror(-r));
    return ty_blobs_open(blobs, &f->blobs, err);
}

void ty_far_done(struct ty_far *f)
{
    ty_blobs_free(f->blobs);
    free(f->folder);
    free(f->run);
    free(f->dir);
    *f = (struct ty_far){ 0 };
}

/* --- who is at work --- */

static int signed_by(const char *dir, const char *name, struct ty_proc_id *ret)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);
    CLEANUP_FREE char *text = NULL;
    int pid = 0;

    *ret = (struct ty_proc_id){ 0 };
    if (!path || ty_read_file(path, 256, &text, NULL) < 0 ||
        sscanf(text, "%39s %d %" SCNu64, ret->boot, &pid, &ret->start) != 3)
        return -ESRCH;
    ret->pid = pid;
    return ty_proc_alive(ret) ? 0 : -ESRCH;
}

int ty_far_running(const struct ty_far *f, struct ty_proc_id *ret)
{
    return signed_by(f->dir, "runner.id", ret);
}

/* A channel that broke may have left its far end behind; it would hold the socket. */
static void end_other(const struct ty_far *f)
{
    struct ty_proc_id other;

    if (signed_by(f->dir, "remote.id", &other) == 0 && other.pid != getpid())
        ty_proc_signal(&other, SIGKILL);
}

static void take_over(const struct ty_far *f)
{
    CLEANUP_FREE char *path = ty_path_join(f->dir, "remote.id");
    CLEANUP_FREE char *text = NULL;
    struct ty_proc_id me = { 0 };

    end_other(f);
    if (!path || ty_proc_identify(getpid(), &me) < 0 ||
        !(text = ty_strf("%s %d %" PRIu64 "\n", me.boot, (int)me.pid, me.start)))
        return;
    if (ty_write_file(path, text, strlen(text), 0600) < 0)
        ty_log(TY_LOG_WARN, "cannot write '%s'", path);
}

/* Whose folder is it?  False: nobody's, for it is not whole. */
static bool read_attempt(const char *dir, int64_t *attempt, bool *ours, const char *token)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "job.json");
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    const char *its;
    size_t n;

    if (!path || ty_read_file(path, JOB_JSON_MAX, &text, &n) < 0 ||
        ty_json_parse(text, n, &o, NULL) < 0)
        return false;
    its = json_string_value(json_object_get(o, "token"));
    *ours = its && strcmp(its, token) == 0;
    *attempt = json_integer_value(json_object_get(o, "attempt"));
    return true;
}

static bool is_run(const char *name)
{
    return ty_path_is_inside(name) && !strchr(name, '/') && name[0] != '.';
}

int ty_far_attach(struct ty_far *f, const char *run, int64_t attempt, const char *token,
                  struct ty_error *err)
{
    int64_t its = 0;
    bool ours = false;

    if (!is_run(run))
        return ty_error_set(err, -EINVAL, "'%.100s' is no name of a run", run);
    free(f->run);
    free(f->dir);
    f->run = strdup(run);
    f->dir = ty_strf("%s/jobs/%s", f->folder, run);
    if (!f->run || !f->dir)
        return ty_error_oom(err);
    if (access(f->dir, F_OK) < 0)
        return 0;
    if (read_attempt(f->dir, &its, &ours, token) && ours && its == attempt) {
        take_over(f);
        return 1;
    }
    /* The run began anew, and a courier of an attempt that was lost comes late: nothing here is its. */
    if (ours && its > attempt) {
        free(f->dir);
        f->dir = NULL;
        return 0;
    }
    end_other(f);
    return ty_far_clean(f, 0, err);
}

/* --- making --- */

static int unpack_packages(struct ty_far *f, const char *sha, char **ret, struct ty_error *err)
{
    CLEANUP_FREE char *dir = ty_strf("%s/packages/%s", f->folder, sha);
    CLEANUP_FREE char *fresh = ty_strf("%s/packages/.new-%s-%s", f->folder, sha, f->run);
    CLEANUP_FREE char *manifest = ty_strf("%s/%.2s/%s", ty_blobs_dir(f->blobs), sha, sha + 2);
    CLEANUP_FREE char *text = NULL;
    struct ty_snapshot *s = NULL;
    size_t n;
    int r;

    if (!dir || !fresh || !manifest)
        return ty_error_oom(err);
    if (utimensat(AT_FDCWD, dir, NULL, 0) == 0) { /* there, and used */
        *ret = TAKE(dir);
        return 0;
    }
    r = ty_read_file(manifest, MANIFEST_MAX, &text, &n);
    if (r == 0)
        r = ty_snapshot_parse(text, n, &s, err);
    if (r == 0)
        r = ty_rm_rf(fresh);
    if (r == 0)
        r = ty_mkdir_p(fresh, 0700);
    if (r == 0)
        r = ty_snapshot_unpack(s, f->blobs, fresh, err);
    ty_snapshot_free(s);
    if (r == 0 && rename(fresh, dir) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        r = -errno;
    ty_rm_rf(fresh);
    if (r < 0)
        return err->code
                   ? ty_error_prefix(err, "unpacking Trainyard's Python packages")
                   : ty_error_set(err, r, "cannot unpack Trainyard's Python packages in '%s': %s",
                                  f->folder, strerror(-r));
    *ret = TAKE(dir);
    return 0;
}

/* The interpreter that the user did not name may be another one here. */
static int choose_python(json_t *spec, json_t *notes, struct ty_error *err)
{
    static const char *const others[] = { "/usr/bin/python3", "/usr/local/bin/python3",
                                          "/opt/conda/bin/python3" };
    const char *python = json_string_value(json_object_get(spec, "interpreter"));

    if (!python || access(python, X_OK) == 0)
        return 0;
    if (!json_is_true(json_object_get(spec, "interpreter_any")))
        return ty_error_set(err, -ENOENT,
                            "the interpreter '%s' is not there; name one that every host has, or "
                            "none: then each host's own python3 is taken",
                            python);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CLEANUP_FREE char *note = NULL;

        if (access(others[i], X_OK) < 0)
            continue;
        note = ty_strf("'%s' is not there; '%s' runs the script", python, others[i]);
        if (note)
            json_array_append_new(notes, json_string(note));
        return json_object_set_new(spec, "interpreter", json_string(others[i])) < 0
                   ? ty_error_oom(err)
                   : 0;
    }
    return ty_error_set(err, -ENOENT, "there is no python3 (looked for '%s', and in /usr/bin)",
                        python);
}

/* What no runner could read is refused here, while somebody listens. */
static int check_spec(const json_t *job, struct ty_error *err)
{
    struct ty_run_spec *spec = NULL;
    int r = ty_run_spec_parse(json_object_get(job, "spec"), &spec, err);

    ty_run_spec_free(spec);
    return r;
}

/* The job.json that the daemon made, with what is different here. */
static int localize(struct ty_far *f, json_t *job, const char *manifest, const char *packages,
                    struct ty_error *err)
{
    const struct passwd *pw = getpwuid(getuid());
    CLEANUP_FREE char *socket = ty_path_join(f->dir, "daemon.sock");
    CLEANUP_FREE char *place = ty_path_join(f->dir, "manifest");
    const char *run = json_string_value(json_object_get(job, "run"));
    /* The run's, not the node's: where the folder is shared, all ranks see the same. */
    CLEANUP_FREE char *checkpoints =
        ty_strf("%s/checkpoints/%s", f->folder, run && is_run(run) ? run : f->run);
    bool keeps = json_is_string(json_object_get(job, "checkpoint_dir"));
    const char *home = pw && pw->pw_dir && *pw->pw_dir ? pw->pw_dir : "/",
               *user = pw && pw->pw_name ? pw->pw_name : "";
    int r = 0;

    if (!socket || !place || !checkpoints)
        return ty_error_oom(err);
    if (keeps && (r = ty_mkdir_p(checkpoints, 0700)) < 0)
        return ty_error_set(err, r, "cannot make the folder '%s': %s", checkpoints, strerror(-r));
    r |= json_object_set_new(job, "socket", json_string(socket));
    r |= json_object_set_new(job, "blobs", json_string(ty_blobs_dir(f->blobs)));
    r |= json_object_set_new(job, "home", json_string(f->folder));
    r |= json_object_set_new(job, "cache", json_string(f->folder));
    r |= json_object_set_new(job, "manifest", manifest ? json_string(place) : json_null());
    r |= json_object_set_new(job, "python_path", packages ? json_string(packages) : json_null());
    r |= json_object_set_new(job, "user", json_string(user));
    r |= json_object_set_new(job, "user_home", json_string(home));
    if (keeps)
        r |= json_object_set_new(job, "checkpoint_dir", json_string(checkpoints));
    json_object_del(job, "run_as");
    return r < 0 ? ty_error_oom(err) : 0;
}

static int put_file(const char *dir, const char *name, const char *text, size_t n)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);
    CLEANUP_CLOSE int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;

    if (fd < 0)
        return path ? -errno : -ENOMEM;
    return ty_write_all(fd, text, n);
}

static int put_manifest(const struct ty_far *f, const char *dir, const char *sha)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "manifest");
    CLEANUP_CLOSE int from = ty_blob_open(f->blobs, sha);
    CLEANUP_CLOSE int to = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;

    if (from < 0 || to < 0)
        return from < 0 ? from : -errno;
    return ty_copy_fd(from, to);
}

static int put_folder(struct ty_far *f, const json_t *job, const char *manifest)
{
    CLEANUP_FREE char *fresh = ty_strf("%s/jobs/.new-%s", f->folder, f->run);
    CLEANUP_FREE char *text = ty_json_text(job);
    int r = fresh && text ? ty_rm_rf(fresh) : -ENOMEM;

    if (r == 0)
        r = ty_mkdir_p(fresh, 0700);
    if (r == 0)
        r = put_file(fresh, "job.json", text, strlen(text));
    if (r == 0 && manifest)
        r = put_manifest(f, fresh, manifest);
    if (r == 0 && rename(fresh, f->dir) < 0)
        r = -errno;
    if (r < 0 && fresh)
        ty_rm_rf(fresh);
    return r;
}

int ty_far_make(struct ty_far *f, const json_t *start, json_t *notes, struct ty_error *err)
{
    CLEANUP_JSON json_t *job = json_deep_copy(json_object_get(start, "job"));
    const char *manifest = json_string_value(json_object_get(start, "manifest")),
               *packages = json_string_value(json_object_get(start, "packages"));
    CLEANUP_FREE char *python_path = NULL;
    unsigned char sha[TY_CHANNEL_SHA];
    int r;

    /* They become names of files. */
    if (!json_is_object(job) || !f->dir || (manifest && ty_sha_to_bytes(manifest, sha) < 0) ||
        (packages && ty_sha_to_bytes(packages, sha) < 0))
        return ty_error_set(err, -EINVAL, "START does not hold a job");
    r = packages ? unpack_packages(f, packages, &python_path, err) : 0;
    if (r == 0)
        r = choose_python(json_object_get(job, "spec"), notes, err);
    if (r == 0)
        r = check_spec(job, err);
    if (r == 0)
        r = localize(f, job, manifest, python_path, err);
    if (r < 0)
        return r;
    r = put_folder(f, job, manifest);
    if (r < 0)
        return ty_error_set(err, r, "cannot make the job folder '%s': %s", f->dir, strerror(-r));
    take_over(f);
    return 0;
}

int ty_far_start(const struct ty_far *f, const char *verb, pid_t *ret, struct ty_error *err)
{
    const char *argv[] = { "/proc/self/exe", verb, f->dir, NULL };
    const char *nvml = getenv("TRAINYARD_TEST_NVML"), *fault = getenv("TY_FAULT");
    CLEANUP_FREE char *nvml_text = nvml ? ty_strf("TRAINYARD_TEST_NVML=%s", nvml) : NULL;
    CLEANUP_FREE char *fault_text = fault ? ty_strf("TY_FAULT=%s", fault) : NULL;
    const char *envp[4] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct ty_spawn spawn = {
        .argv = argv, .envp = envp, .cwd = "/", .in = -1, .out = -1, .err = -1
    };
    int n = 1;

    if (nvml_text)
        envp[n++] = nvml_text;
    if (fault_text)
        envp[n++] = fault_text;
    return ty_spawn(&spawn, ret, err);
}

/* --- removing --- */

static void end_marked(const char *dir)
{
    int64_t end = ty_mono_us() + WRAPPER_END_US;

    /* The wrappers end their trees when their runner is gone, also what has no mark. */
    while (ty_marked_count("TRAINYARD_JOB", dir, TY_RANK_COMM) > 0 && ty_mono_us() < end)
        usleep(5000);
    end = ty_mono_us() + MARKED_KILL_US;
    while (ty_marked_kill("TRAINYARD_JOB", dir) > 0 && ty_mono_us() < end)
        usleep(5000);
}

int ty_far_clean(struct ty_far *f, int64_t wait_us, struct ty_error *err)
{
    CLEANUP_FREE char *job = ty_path_join(f->dir, "job.json"), *data = ty_path_join(f->dir, "data");
    int64_t end = ty_mono_us() + wait_us;
    struct ty_proc_id id;
    int r;

    while (ty_far_running(f, &id) == 0 && ty_mono_us() < end)
        usleep(5000);
    if (ty_far_running(f, &id) == 0)
        ty_proc_signal(&id, SIGKILL);
    end_marked(f->dir);
    if (data && ty_unmount_below(data) < 0)
        ty_log(TY_LOG_WARN, "a mount below '%s' cannot be taken away", data);
    if (job)
        unlink(job);
    r = ty_rm_rf(f->dir);
    return r < 0
               ? ty_error_set(err, r, "cannot remove the job folder '%s': %s", f->dir, strerror(-r))
               : 0;
}

/* --- keeping house --- */

static bool nothing_is_live(const char *sha, void *ctx)
{
    (void)sha, (void)ctx;
    return false;
}

/* Does its process live?  It holds the lock; also one on another machine, where the folder is shared. */
static bool in_use(const char *job)
{
    CLEANUP_FREE char *path = ty_path_join(job, "lock");
    CLEANUP_CLOSE int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    struct ty_proc_id id;

    if (signed_by(job, "runner.id", &id) == 0 || signed_by(job, "remote.id", &id) == 0)
        return true;
    return fd < 0 ? errno != ENOENT : flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* Was anything in the tree touched since? */
static bool is_fresh(const char *path, time_t since)
{
    char *roots[] = { (char *)path, NULL };
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    bool fresh = !fts;
    FTSENT *e;

    while (!fresh && (e = fts_read(fts)))
        fresh = e->fts_info == FTS_NS || e->fts_info == FTS_ERR || e->fts_statp->st_mtime >= since;
    if (fts)
        fts_close(fts);
    return fresh;
}

/* Call `consider` for each folder in <folder>/<name>/. */
static void each(const char *folder, const char *name,
                 void (*consider)(const char *path, const struct stat *st, time_t *before),
                 time_t *before)
{
    CLEANUP_FREE char *path = ty_path_join(folder, name);
    CLEANUP_DIR DIR *dir = path ? opendir(path) : NULL;
    struct dirent *e;
    struct stat st;

    while (dir && (e = readdir(dir))) {
        CLEANUP_FREE char *entry = ty_path_join(path, e->d_name);

        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && entry &&
            lstat(entry, &st) == 0)
            consider(entry, &st, before);
    }
}

/* What a job uses was touched when it began, or later: a job that is here keeps all that is not a day older than it.  One that nobody
 * has come for in so long was lost with its courier. */
static void consider_job(const char *path, const struct stat *st, time_t *before)
{
    CLEANUP_FREE char *json = ty_path_join(path, "job.json");
    struct stat begun;

    if (!in_use(path) && !is_fresh(path, time(NULL) - KEEP_S)) {
        ty_rm_rf(path);
        return;
    }
    if (!json || stat(json, &begun) < 0)
        begun = *st;
    if (begun.st_mtime - BEGIN_S < *before)
        *before = begun.st_mtime - BEGIN_S;
}

static void consider_old(const char *path, const struct stat *st, time_t *before)
{
    if (st->st_mtime < *before)
        ty_rm_rf(path);
}

static void keep(const struct ty_far *f)
{
    time_t now = time(NULL), before = now - KEEP_S;
    struct ty_gc_report report;
    struct ty_error err = { 0 };
    uint64_t freed;

    each(f->folder, "jobs", consider_job, &before);
    each(f->folder, "agents", consider_old, &before);
    each(f->folder, "packages", consider_old, &before);
    if (ty_data_cache_collect(f->folder, UINT64_MAX, (int64_t)(now - before) * 1000000, false,
                              &freed, &err) < 0)
        ty_log(TY_LOG_WARN, "%s", err.text);
    ty_gc(f->blobs, now - before, nothing_is_live, NULL, &report, &err);
}

void ty_far_keep(const struct ty_far *f)
{
    CLEANUP_FREE char *mark = ty_path_join(f->folder, "kept");
    struct ty_far mine = *f;
    struct stat st;

    if (!mark || (stat(mark, &st) == 0 && st.st_mtime + KEEP_LOOK_S > time(NULL)) ||
        ty_write_file(mark, "", 0, 0600) < 0 || fork() != 0)
        return;
    setsid();
    /* Who looks after old files does not hold the channel open. */
    if (close_range(3, ~0U, 0) < 0 || ty_blobs_open(ty_blobs_dir(f->blobs), &mine.blobs, NULL) < 0)
        _exit(1);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    keep(&mine);
    _exit(0);
}
