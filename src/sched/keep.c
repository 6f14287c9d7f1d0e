/* keep.c - keeping house: retention, garbage collection, leftovers
 *
 * Once a day, and when asked (`trainyard gc`): runs that retention says are old go; snapshots that no run
 * refers to go; then the blobs that nothing refers to.  What is live is read and the folders are walked on a
 * pool thread; a blob that somebody is about to refer to is young or freshly touched, and spared by the grace time.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "blob/gc.h"
#include "blob/snapshot.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define DAY_MS (24 * 3600 * 1000)
#define FIRST_ROUND_MS (10 * 60 * 1000)
#define NEXT_ROUND_MS (60 * 1000) /* when there is more to remove */
#define RUNS_PER_ROUND 1000
#define MANIFEST_MAX (64u << 20)
#define US_PER_DAY ((int64_t)24 * 3600 * 1000000)

struct sha {
    char hex[TY_SHA256_HEX + 1];
    bool is_manifest;
    UT_hash_handle hh;
};

struct round {
    struct ty_sched *sched;
    uv_work_t work;
    struct sha *live;
    struct ty_gc_report report;
    struct ty_error err;
    int r;
    int64_t grace_s, runs_removed, snapshots_removed;
    bool more; /* runs are as old that did not fit into this round */
    void (*done)(void *ctx, int r, json_t *report, const struct ty_error *err);
    void *ctx;
};

static int add_sha(const char *hex, bool is_manifest, void *ctx)
{
    struct round *g = ctx;
    struct sha *s;

    HASH_FIND_STR(g->live, hex, s);
    if (s) {
        s->is_manifest |= is_manifest;
        return 0;
    }
    s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    memcpy(s->hex, hex, sizeof s->hex);
    s->is_manifest = is_manifest;
    HASH_ADD_STR(g->live, hex, s);
    return 0;
}

static bool is_live(const char *hex, void *ctx)
{
    struct round *g = ctx;
    struct sha *s;

    HASH_FIND_STR(g->live, hex, s);
    return s != NULL;
}

static int read_manifest(struct ty_blobs *blobs, const char *manifest, struct ty_snapshot **ret)
{
    CLEANUP_CLOSE int fd = FAULT("sched.manifest", -errno, ty_blob_open(blobs, manifest));
    CLEANUP_FREE char *text = NULL;
    struct stat st;
    ssize_t n;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size > MANIFEST_MAX)
        return -EFBIG;
    text = malloc((size_t)st.st_size + 1);
    if (!text)
        return -ENOMEM;
    n = ty_read_full(fd, text, (size_t)st.st_size);
    if (n != st.st_size)
        return n < 0 ? (int)n : -EIO;
    return ty_snapshot_parse(text, (size_t)n, ret, NULL);
}

/* A manifest that is not there, or is none, keeps nothing alive: its snapshot is broken already.  One that cannot be read
 * now may keep everything alive, and ends the round. */
static int add_files_of(struct round *g, const char *manifest)
{
    struct ty_snapshot *s = NULL;
    const char *path, *sha;
    uint64_t bytes;
    int r = read_manifest(g->sched->o.blobs, manifest, &s);

    if (r < 0)
        return r == -ENOENT || r == -EBADMSG || r == -EINVAL ? 0 : r;
    for (size_t i = 0; r == 0 && ty_snapshot_file(s, i, &path, &sha, &bytes); i++)
        r = add_sha(sha, false, g);
    ty_snapshot_free(s);
    return r;
}

/* Whoever makes a backup holds the lock: then nothing may go that it still has to copy. */
static int lock_out_backups(const char *home, int *ret)
{
    CLEANUP_FREE char *path = ty_path_join(home, "backup.lock");
    CLEANUP_CLOSE int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd < 0)
        return path ? -errno : -ENOMEM;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

static void collect(struct round *g);

static void on_pool(uv_work_t *w)
{
    struct round *g = w->data;
    CLEANUP_CLOSE int lock = -1;

    g->r = lock_out_backups(g->sched->o.home, &lock);
    if (g->r == 0)
        collect(g);
    else if (g->r == -EBUSY)
        ty_error_set(&g->err, g->r, "a backup is being made; collect again when it is done");
    else
        ty_error_set(&g->err, g->r, "cannot lock '%s/backup.lock': %s", g->sched->o.home,
                     strerror(-g->r));
}

static void collect(struct round *g)
{
    g->r = ty_store_each_blob(g->sched->o.home, add_sha, g);
    for (struct sha *s = g->live; s && g->r == 0; s = s->hh.next)
        if (s->is_manifest)
            g->r = add_files_of(g, s->hex);
    if (g->r == 0)
        g->r = ty_gc(g->sched->o.blobs, g->grace_s, is_live, g, &g->report, &g->err);
    else
        ty_error_set(&g->err, g->r,
                     "cannot read what the runs and snapshots refer to: nothing was removed");
}

static void on_daily(uv_timer_t *t);

static void finish(struct round *g)
{
    struct sha *s, *next;
    json_t *report = json_pack(
        "{s:I s:I s:I s:I s:I s:I}", "blobs_kept", (json_int_t)g->report.kept, "bytes_kept",
        (json_int_t)g->report.kept_bytes, "blobs_removed", (json_int_t)g->report.removed,
        "bytes_removed", (json_int_t)g->report.removed_bytes, "runs_removed",
        (json_int_t)g->runs_removed, "snapshots_removed", (json_int_t)g->snapshots_removed);

    g->done(g->ctx, g->r, report, &g->err);
    json_decref(report);
    g->sched->gc_going = false;
    if (g->more && !g->sched->stopping)
        uv_timer_start(&g->sched->daily, on_daily, NEXT_ROUND_MS, DAY_MS);
    HASH_ITER (hh, g->live, s, next) {
        HASH_DEL(g->live, s);
        free(s);
    }
    free(g);
}

static void on_walked(uv_work_t *w, int status)
{
    struct round *g = w->data;

    if (status < 0 && g->r == 0)
        g->r = ty_error_set(&g->err, -ECANCELED, "the daemon stops");
    finish(g);
}

/* Old runs and snapshots are gone from the tables: now the blobs. */
static void on_pruned(void *ctx, int r)
{
    struct round *g = ctx;

    if (r < 0)
        ty_error_set(&g->err, r, "cannot store what was removed: %s", strerror(-r));
    if (r < 0 && ty_store_failed(g->sched->o.store))
        recover_soon(g->sched);
    if (r == 0)
        attempt_sweep(g->sched);
    if (r == 0)
        r = uv_queue_work(g->sched->o.loop, &g->work, on_pool, on_walked);
    if (r < 0) { /* else the round is the pool's now, g->r with it */
        g->r = r;
        finish(g);
    }
}

/* Runs that ended as `state` (NULL: any) longer ago than the option says; `done` holds those that are in the unit already. */
static void prune_runs(struct round *g, struct ty_unit *u, const char *days_key, const char *state,
                       json_t *done)
{
    int64_t days = ty_conf_number(g->sched->o.conf, days_key), id;
    CLEANUP_JSON json_t *names = NULL;
    json_t *name;
    size_t i;

    if (days <= 0 || ty_store_ended_before(g->sched->o.store, ty_wall_us() - days * US_PER_DAY,
                                           state, RUNS_PER_ROUND, &names) < 0)
        return;
    json_array_foreach (names, i, name) {
        const char *run = json_string_value(name);

        if (json_object_get(done, run) || live_find(g->sched, run) ||
            ty_store_run_id(g->sched->o.store, run, &id) < 0)
            continue;
        json_object_set_new(done, run, json_true());
        ty_unit_run_delete(u, id);
        g->runs_removed++;
    }
    g->more |= json_array_size(names) == RUNS_PER_ROUND;
}

int ty_sched_gc(struct ty_sched *s,
                void (*done)(void *ctx, int r, json_t *report, const struct ty_error *err),
                void *ctx, struct ty_error *err)
{
    CLEANUP_JSON json_t *pruned = json_object();
    struct round *g;
    struct ty_unit *u;

    if (s->gc_going)
        return ty_error_set(err, -EBUSY,
                            "a collection is going on already; ask again when it is done");
    g = calloc(1, sizeof *g);
    if (!g)
        return ty_error_oom(err);
    s->gc_going = true;
    *g = (struct round){ .sched = s,
                         .done = done,
                         .ctx = ctx,
                         .grace_s = ty_conf_number(s->o.conf, "blob.gc_grace_seconds") };
    g->work.data = g;
    u = ty_unit_new();
    prune_runs(g, u, "retention.runs_days", NULL, pruned);
    prune_runs(g, u, "retention.failed_days", "Failed", pruned);
    ty_unit_snapshots_prune(u, ty_wall_us() - g->grace_s * 1000000, &g->snapshots_removed);
    ty_store_commit(s->o.store, u, on_pruned, g);
    return 0;
}

/* ---- the daily round, and what an unclean end left ---- */

static void on_daily_done(void *ctx, int r, json_t *report, const struct ty_error *err)
{
    (void)ctx;
    if (r < 0)
        ty_log(TY_LOG_WARN, "the daily collection failed: %s", err->text);
    else if (json_integer_value(json_object_get(report, "blobs_removed")) > 0)
        ty_log(TY_LOG_INFO, "the daily collection removed %lld blobs",
               (long long)json_integer_value(json_object_get(report, "blobs_removed")));
}

static void on_daily(uv_timer_t *t)
{
    struct ty_error err = { 0 };

    ty_sched_gc(t->data, on_daily_done, NULL, &err);
}

/* A runner that lives holds the folder's lock; it will ask, be refused, and remove the folder itself. */
static bool runner_holds(const char *home, const char *run)
{
    CLEANUP_FREE char *lock = ty_strf("%s/jobs/%s/lock", home, run);
    CLEANUP_CLOSE int fd = lock ? open(lock, O_RDWR | O_CLOEXEC) : -1;

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static void clear_job_folders(struct ty_sched *s)
{
    CLEANUP_FREE char *path = ty_path_join(s->o.home, "jobs");
    CLEANUP_DIR DIR *dir = NULL;
    struct dirent *e;

    if (!path || ty_mkdir_p(path, 0700) < 0 || !(dir = opendir(path)))
        return;
    while ((e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            !live_find(s, e->d_name) && !runner_holds(s->o.home, e->d_name))
            ty_jobdir_give_up(s->o.home, e->d_name);
}

void keep_open(struct ty_sched *s)
{
    clear_job_folders(s);
    uv_timer_init(s->o.loop, &s->daily);
    s->daily.data = s;
    uv_timer_start(&s->daily, on_daily, FIRST_ROUND_MS, DAY_MS);
    uv_unref((uv_handle_t *)&s->daily);
}

void keep_close(struct ty_sched *s)
{
    uv_close((uv_handle_t *)&s->daily, NULL);
}
