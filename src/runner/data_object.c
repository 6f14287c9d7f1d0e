/* data_object.c - data references in object stores
 *
 *   download   through the node's cache to its place
 *   mount      by rclone, where that can be; else a folder that is filled before the script and whose changes go back after it
 *   upload     after the script
 *
 * <job folder>/data/<i>.cache and <i>.log are rclone's.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/bring.h"
#include "data/cache.h"
#include "data/rclone.h"
#include "runner/child.h"
#include "runner/data_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct object {
    const struct ty_jobfile *j;
    const struct ty_data_ref *ref;
    int i, out;
    char *dir, *parent, *listing, *cache, *log; /* owned */
    struct ty_stage s;
    struct ty_bring_options o;
    struct ty_bring *b; /* owned */
};

static void warn(const char *text, void *ctx)
{
    ty_child_tell(((struct object *)ctx)->out, "warning", text);
}

static void note(const char *text, void *ctx)
{
    ty_child_tell(((struct object *)ctx)->out, "note", text);
}

static void done(struct object *x)
{
    ty_bring_close(x->b);
    free(x->dir);
    free(x->parent);
    free(x->listing);
    free(x->cache);
    free(x->log);
}

static int open_object(struct object *x, const struct ty_jobfile *j, int i, int out,
                       struct ty_error *err)
{
    *x = (struct object){ .j = j, .ref = &j->spec->data[i], .i = i, .out = out };
    x->dir = ty_data_dir(j, i);
    x->parent = ty_strf("%s/data/%d", j->dir, i);
    x->cache = ty_strf("%s/data/%d.cache", j->dir, i);
    x->log = ty_strf("%s/data/%d.log", j->dir, i);
    x->listing = ty_data_listing(j, i);
    if (!x->dir || !x->parent || !x->cache || !x->log || !x->listing)
        return ty_error_oom(err);
    x->s = (struct ty_stage){
        .ref = x->ref, .dir = x->dir, .work = j->work, .tmp = j->tmp, .warn = warn, .ctx = x
    };
    x->o = (struct ty_bring_options){ .ref = x->ref,
                                      .access = j->data_access[i],
                                      .cache = j->cache,
                                      .listing = x->listing,
                                      .warn = warn,
                                      .note = note,
                                      .ctx = x };
    return ty_bring_open(&x->o, &x->b, err);
}

/* --- in --- */

static int download(struct object *x, bool file, uint64_t files, struct ty_error *err)
{
    CLEANUP_FREE char *place = NULL;
    bool at_once = !file && ty_data_straight(&x->s, &place);
    int r;

    if (files == 0)
        return ty_error_set(err, -ENOENT,
                            "data reference '%s': cannot download '%s': datastore '%s' has nothing "
                            "there",
                            x->ref->name, x->ref->path, x->ref->datastore);
    r = ty_bring_down(x->b, at_once ? place : file ? x->parent : x->dir, !at_once, err);
    if (r < 0 || at_once)
        return r;
    r = ty_stage_in(&x->s, err);
    /* What is left says whether it is a file. */
    if (r == 0 && (file ? truncate(x->dir, 0) : ty_rm_rf(x->dir)) < 0)
        note("a copy of the data could not be removed", x);
    return r;
}

/* 0, or a negative errno: it cannot be mounted, which is no failure. */
static int mount_by_rclone(struct object *x)
{
    struct ty_rclone m = { .access = x->j->data_access[x->i],
                           .path = x->ref->path,
                           .at = x->dir,
                           .cache = x->cache,
                           .log = x->log };
    /* FUSE lets nobody of another user namespace in. */
    const char *why = x->j->spec->env && x->j->spec->env->view != TY_VIEW_PLAIN
                          ? "the job has a view of its own of the files"
                          : ty_rclone_why_not();
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    struct ty_error err = { 0 };
    pid_t pid = 0;

    if (!why && ty_rclone_mount(&m, &pid, &err) < 0)
        why = err.text;
    text =
        why ? ty_strf("data reference '%s': it is not mounted, but brought before the script, and "
                      "changes go back after it: %s",
                      x->ref->name, why)
            : ty_strf("data reference '%s': mounted by rclone", x->ref->name);
    if (text)
        note(text, x);
    if (why)
        return -EOPNOTSUPP;
    o = json_pack("{s:s s:i}", "kind", "mount", "pid", (int)pid);
    return o ? ty_child_send(x->out, o) : -ENOMEM;
}

static int mount_object(struct object *x, bool file, uint64_t files, struct ty_error *err)
{
    int r = 0;

    if (files == 0)
        r = ty_mkdir_p(x->dir, 0777);
    if (r < 0)
        return ty_error_set(err, r, "cannot make the folder '%s': %s", x->dir, strerror(-r));
    if (files == 0) {
        CLEANUP_FREE char *text =
            ty_strf("data reference '%s': '%s' does not exist in datastore '%s' yet", x->ref->name,
                    x->ref->path, x->ref->datastore);

        if (text)
            warn(text, x);
    }
    if (file || mount_by_rclone(x) < 0)
        r = ty_bring_down(x->b, file ? x->parent : x->dir, true, err);
    return r < 0 ? r : ty_stage_in(&x->s, err);
}

int ty_data_object_in(const struct ty_jobfile *j, int i, int out, struct ty_error *err)
{
    struct object x;
    uint64_t files = 0;
    bool file = false;
    int r = open_object(&x, j, i, out, err);

    if (r == 0 && x.ref->mode == TY_DATA_UPLOAD) {
        r = ty_stage_in(&x.s, err);
        done(&x);
        return r;
    }
    if (r == 0)
        r = ty_bring_list(x.b, &file, &files, err);
    if (r == 0)
        r = x.ref->mode == TY_DATA_DOWNLOAD ? download(&x, file, files, err)
                                            : mount_object(&x, file, files, err);
    done(&x);
    return r;
}

/* --- out --- */

static void unmount_object(struct object *x)
{
    int left = ty_rclone_flush(x->cache);
    CLEANUP_FREE char *text = NULL;

    if (ty_unmount_below(x->dir) < 0)
        note("a mount could not be taken away", x);
    if (left > 0)
        text =
            ty_strf("data reference '%s': %d files that the script wrote did not reach datastore "
                    "'%s'",
                    x->ref->name, left, x->ref->datastore);
    if (text)
        warn(text, x);
}

static void send_up(struct object *x)
{
    CLEANUP_FREE char *place = NULL;
    struct ty_error err = { 0 };

    if (ty_stage_place(&x->s, &place, &err) < 0 || ty_bring_up(x->b, place, &err) < 0)
        warn(err.text, x);
}

void ty_data_object_out(const struct ty_jobfile *j, int i, int out)
{
    struct object x;
    struct ty_error err = { 0 };
    bool mounted, listed;

    if (!ty_data_was_brought(j)) { /* the job has not begun: what stands half is taken away */
        CLEANUP_FREE char *dir = ty_data_dir(j, i);

        if (dir)
            ty_unmount_below(dir);
        return;
    }
    if (open_object(&x, j, i, out, &err) < 0) {
        warn(err.text, &x);
        if (x.dir)
            ty_unmount_below(x.dir);
        done(&x);
        return;
    }
    mounted = ty_is_mounted(x.dir);
    listed = access(x.listing, F_OK) == 0;
    if (x.ref->mode == TY_DATA_UPLOAD)
        send_up(&x);
    else if (mounted)
        unmount_object(&x);
    if (x.ref->mode != TY_DATA_UPLOAD && listed && j->leads && ty_bring_compare(x.b, &err) < 0)
        warn(err.text, &x);
    if (x.ref->mode == TY_DATA_MOUNT && !mounted && listed && ty_bring_back(x.b, x.dir, &err) < 0)
        warn(err.text, &x);
    ty_data_cache_keep(j->cache, j->data_cache_bytes);
    done(&x);
}
