/* attempt.c - further attempts of a run
 *
 * An attempt that ends badly, for a cause that max_restarts of the run names, is followed by another: the event `requeued` takes
 * the place of the end, at once; the runner goes on collecting and delivering, and only when its job folder has gone is
 * the run placed again.  Records, log bytes and rows count on from what the earlier attempts have told, so that
 * nothing is doubled and nothing lost.  How many restarts are used up stands in the event log alone.
 */
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "core/row.h"
#include "sched/sched_internal.h"
#include "target/jobdir.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS_PER_READ 1000
#define GONE ".gone-" /* before the name of a checkpoint folder that is being removed */

/* Every event of the run, in order.  0, or the store cannot say. */
static int each_event(struct live *l,
                      void (*fn)(struct live *l, const char *kind, const json_t *data))
{
    int64_t after = 0;
    size_t n = EVENTS_PER_READ;

    while (n == EVENTS_PER_READ) {
        CLEANUP_JSON json_t *events = NULL;
        const json_t *e;
        size_t i;
        int r = ty_store_events(l->sched->o.store, l->id, after, EVENTS_PER_READ, &events);

        if (r < 0)
            return r;
        json_array_foreach (events, i, e) {
            const char *kind = json_string_value(json_object_get(e, "kind"));

            after = json_integer_value(json_object_get(e, "seq"));
            fn(l, kind ? kind : "", json_object_get(e, "data"));
        }
        n = json_array_size(events);
    }
    return 0;
}

static void count_restart(struct live *l, const char *kind, const json_t *data)
{
    const char *of = json_string_value(json_object_get(data, "cause"));

    for (int i = 0; i < TY_CAUSE_COUNT; i++)
        l->restarts[i] += of && strcmp(kind, ty_run_event_word(TY_EV_REQUEUED)) == 0 &&
                          strcmp(of, ty_cause_word((enum ty_cause)i)) == 0;
}

/* The event log is read once: it grows with each attempt. */
static int know_restarts(struct live *l)
{
    int r;

    if (l->restarts_known)
        return 0;
    memset(l->restarts, 0, sizeof l->restarts);
    r = each_event(l, count_restart);
    l->restarts_known = r == 0;
    return r;
}

bool attempt_again(struct live *l, struct ty_unit *u, enum ty_cause cause, int64_t at_us,
                   const char *message)
{
    int max = l->spec->max_restarts[cause], used, attempt = l->run.attempt;
    CLEANUP_JSON json_t *data = NULL;
    CLEANUP_FREE char *text = NULL;

    if (max == 0 || l->spec->interactive || !l->launched || attempt_leaves(l))
        return false;
    if (know_restarts(l) < 0 || l->restarts[cause] >= max)
        return false;
    used = l->restarts[cause];
    data = json_pack("{s:s s:s}", "cause", ty_cause_word(cause), "message", message);
    if (!data || run_event(l, u, TY_EV_REQUEUED, at_us, data) < 0)
        return false;
    l->restarts[cause]++;
    text = ty_strf("attempt %d ended: %s; the run starts again (restart %d of %d for cause '%s')",
                   attempt, message, used + 1, max, ty_cause_word(cause));
    if (text)
        run_note(l, u, TY_NOTE_WARNED, json_pack("{s:s}", "text", text));
    return true;
}

bool attempt_leaves(const struct live *l)
{
    return l->launched && l->folder_attempt < l->run.attempt;
}

void attempt_left(struct live *l)
{
    json_decref(l->silent); /* the next one may have other nodes */
    l->silent = NULL;
    l->launched = false;
    l->salvages = 0;
    l->rebooted = false;
    l->not_begun_us = 0;
    gang_give(l);
    run_act(l);
}

/* ---- what a new attempt goes on from ---- */

/* The first number that no writer of rows had.  Writers outside of the job count from TY_ROW_WRITER_OUTSIDE, and do not matter. */
static int64_t writers_of(const json_t *rows)
{
    int64_t base = 0;
    const char *key;
    json_t *next;

    json_object_foreach ((json_t *)rows, key, next) {
        int64_t writer;

        if (ty_parse_i64(key, &writer) == 0 && writer < TY_ROW_WRITER_OUTSIDE && writer >= base)
            base = writer + 1;
    }
    return base;
}

int attempt_past(const struct live *l, json_t *extra, struct ty_error *err)
{
    CLEANUP_JSON json_t *at = NULL;
    json_int_t next;
    int r;

    if (l->run.attempt <= 1)
        return 0;
    r = ty_store_resume_point(l->sched->o.store, l->id, &at);
    if (r < 0)
        return ty_error_set(err, r, "cannot read what earlier attempts of run '%s' have stored: %s",
                            l->name, strerror(-r));
    next = json_integer_value(json_object_get(at, "record_next"));
    if (json_object_set_new(extra, "record_base", json_integer(next > 0 ? next - 1 : 0)) < 0 ||
        json_object_set(extra, "log_base", json_object_get(at, "logs")) < 0 ||
        json_object_set_new(extra, "writer_base",
                            json_integer(writers_of(json_object_get(at, "rows")))) < 0)
        return ty_error_oom(err);
    return 0;
}

/* ---- the checkpoint folder ---- */

static char *checkpoint_path(const struct ty_sched *s, const char *run)
{
    return ty_strf("%s/checkpoints/%s", s->o.home, run);
}

int attempt_checkpoints(const struct live *l, json_t *extra, struct ty_error *err)
{
    CLEANUP_FREE char *dir = checkpoint_path(l->sched, l->name);
    struct ty_owner *owner = NULL;
    int r = dir ? ty_mkdir_p(dir, 0700) : -ENOMEM;

    if (r == 0 && l->sched->o.system) {
        CLEANUP_FREE char *all = checkpoint_path(l->sched, "");

        r = ty_owner_find(l->user, &owner, err);
        /* Users pass through to their own; nobody can list it. */
        if (r == 0 && (!all || chmod(all, 0711) < 0))
            r = all ? -errno : -ENOMEM;
        if (r == 0 && lchown(dir, owner->uid, owner->gid) < 0)
            r = -errno;
        ty_owner_free(owner);
    }
    if (r == 0 && json_object_set_new(extra, "checkpoint_dir", json_string(dir)) < 0)
        r = -ENOMEM;
    return r < 0 ? ty_error_set(err, r, "cannot make the checkpoint folder '%s': %s",
                                dir ? dir : "", strerror(-r))
                 : 0;
}

struct removal {
    uv_work_t work;
    char path[];
};

static void on_pool(uv_work_t *work)
{
    ty_rm_rf(((struct removal *)work->data)->path);
}

static void on_removed(uv_work_t *work, int status)
{
    (void)status; /* what a daemon that ends has left goes with the next sweep */
    free(work->data);
}

/* A thread empties it: checkpoints may be many, and large. */
static void remove_folder(const struct ty_sched *s, const char *path)
{
    size_t n = strlen(path) + 1;
    struct removal *m = malloc(sizeof *m + n);

    if (!m)
        return;
    memcpy(m->path, path, n);
    m->work.data = m;
    if (uv_queue_work(s->o.loop, &m->work, on_pool, on_removed) < 0)
        free(m);
}

/* Out of sight at once. */
static void remove_checkpoints(const struct ty_sched *s, const char *run)
{
    CLEANUP_FREE char *dir = checkpoint_path(s, run);
    CLEANUP_FREE char *gone = ty_strf("%s/checkpoints/" GONE "%s", s->o.home, run);

    if (!dir || !gone || rmdir(dir) == 0 || errno == ENOENT)
        return;
    remove_folder(s, rename(dir, gone) == 0 ? gone : dir);
}

/* A run that has reached its goal needs no checkpoints; one that has not may be looked at, until it is deleted. */
void attempt_ended(const struct live *l)
{
    CLEANUP_FREE char *dir = checkpoint_path(l->sched, l->name);

    if (!dir || l->spec->interactive)
        return;
    if (l->run.state == TY_RUN_COMPLETED)
        remove_checkpoints(l->sched, l->name);
    else
        rmdir(dir); /* nothing in it */
}

void attempt_deleted(const struct ty_sched *s, const char *run)
{
    remove_checkpoints(s, run);
}

void attempt_sweep(struct ty_sched *s)
{
    CLEANUP_FREE char *path = ty_path_join(s->o.home, "checkpoints");
    CLEANUP_DIR DIR *dir = path ? opendir(path) : NULL;
    int64_t id;

    for (struct dirent *e; dir && (e = readdir(dir));) {
        CLEANUP_FREE char *left =
            ty_starts_with(e->d_name, GONE) ? ty_path_join(path, e->d_name) : NULL;

        if (left)
            remove_folder(s, left);
        else if (e->d_name[0] != '.' && !live_find(s, e->d_name) &&
                 ty_store_run_id(s->o.store, e->d_name, &id) == -ENOENT)
            attempt_deleted(s, e->d_name);
    }
}
