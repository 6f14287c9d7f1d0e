/* prepare.c - from a snapshot to a working directory */
#include "runner/prepare.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "blob/snapshot.h"
#include "core/launch_plan.h"
#include "data/stage.h"
#include "runner/build.h"
#include "runner/child.h"
#include "runner/data.h"
#include "runner/view.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX (512 << 20)

static void blobs_freep(struct ty_blobs **b)
{
    ty_blobs_free(*b);
}
static void snapshot_freep(struct ty_snapshot **s)
{
    ty_snapshot_free(*s);
}

static int unpack(const struct ty_jobfile *j, int out, struct ty_error *err)
{
    CLEANUP(blobs_freep) struct ty_blobs *blobs = NULL;
    CLEANUP(snapshot_freep) struct ty_snapshot *s = NULL;
    CLEANUP_FREE char *text = NULL, *note = NULL;
    char size[16];
    size_t n;
    int r = ty_read_file(j->manifest, MANIFEST_MAX, &text, &n);

    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "cannot read the snapshot's manifest '%s': %m", j->manifest);
    }
    r = ty_snapshot_parse(text, n, &s, err);
    if (r == 0)
        r = ty_blobs_open(j->blobs, &blobs, err);
    if (r == 0) {
        r = FAULT("runner.unpack", -errno, ty_snapshot_unpack(s, blobs, j->work, err));
        if (r < 0 && err->code == 0)
            ty_error_set(err, r, "%s", strerror(-r));
    }
    if (r < 0)
        return ty_error_prefix(err, "cannot unpack the snapshot");
    note = ty_strf("snapshot %.12s unpacked: %zu files, %s", ty_snapshot_id(s),
                   ty_snapshot_files(s), ty_show_bytes(ty_snapshot_bytes(s), size));
    if (note)
        ty_child_tell(out, "note", note);
    return 0;
}

static int make_folders(const struct ty_jobfile *j, struct ty_error *err)
{
    static const char *const names[] = { NULL, "outputs", "logs" };
    int r = 0;

    for (size_t i = 0; i < sizeof names / sizeof *names && r == 0; i++) {
        CLEANUP_FREE char *path = names[i] ? ty_path_join(j->work, names[i]) : strdup(j->work);

        r = path ? ty_mkdir_p(path, 0700) : -ENOMEM;
        if (r < 0) {
            errno = -r;
            ty_error_set(err, r, "cannot make the folder '%s': %m", path ? path : j->work);
        }
    }
    return r;
}

int ty_prepare_places(const struct ty_jobfile *j, char ***ret, struct ty_error *err)
{
    char **places = calloc((size_t)j->spec->ndata + 1, sizeof *places);
    int r = places ? 0 : ty_error_oom(err);

    for (int i = 0; r == 0 && i < j->spec->ndata; i++) {
        CLEANUP_FREE char *dir = ty_data_dir(j, i);
        struct ty_stage s = {
            .ref = &j->spec->data[i], .dir = dir, .work = j->work, .tmp = j->tmp
        };

        r = dir ? ty_stage_place(&s, &places[i], err) : ty_error_oom(err);
    }
    if (r < 0) {
        ty_strv_free(places);
        return r;
    }
    *ret = places;
    return 0;
}

/* A folder before its content, and the whole before anybody but root can enter it: nothing is followed. */
static int give(const char *rel, const struct stat *st, void *ctx)
{
    const struct ty_jobfile *j = ctx;
    CLEANUP_FREE char *path = ty_path_join(j->work, rel);

    (void)st;
    if (!path)
        return -ENOMEM;
    return lchown(path, j->owner->uid, j->owner->gid) < 0 ? -errno : 0;
}

/* The cache of a user without a home lies in the state folder, where root alone can make it.  Another place is the user's to make. */
static int give_cache(const struct ty_jobfile *j)
{
    CLEANUP_FREE char *all = ty_path_join(j->home, "cache");
    size_t n = all ? strlen(all) : 0;

    if (!all)
        return -ENOMEM;
    if (strncmp(j->cache, all, n) != 0 || j->cache[n] != '/')
        return 0;
    if ((mkdir(all, 0711) < 0 && errno != EEXIST) || chmod(all, 0711) < 0)
        return -errno;
    if (mkdir(j->cache, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    return lchown(j->cache, j->owner->uid, j->owner->gid) < 0 ? -errno : 0;
}

/* Until here the working directory is root's own; from here on it is the user's, and so is this process. */
static int hand_over(struct ty_jobfile *j, struct ty_error *err)
{
    int r = ty_mkdir_p(j->work, 0700);

    if (!j->owner)
        return 0;
    if (r == 0)
        r = ty_walk(j->work, give, j, err);
    if (r == 0 && lchown(j->work, j->owner->uid, j->owner->gid) < 0)
        r = -errno;
    if (r == 0)
        r = give_cache(j);
    if (r == 0)
        r = ty_owner_become(j->owner);
    return r < 0 ? ty_error_set(err, r, "cannot give the working directory to user '%s': %s",
                                j->owner->name, strerror(-r))
                 : 0;
}

int ty_prepare(int out, void *ctx)
{
    struct ty_jobfile *j = ctx;
    pid_t runner = getppid();
    struct ty_error err = { 0 };
    int r = j->manifest ? unpack(j, out, &err) : 0;

    if (r == 0)
        r = ty_data_begin(j, &err);
    if (r == 0)
        r = hand_over(j, &err);
    if (r == 0)
        r = make_folders(j, &err);
    if (r == 0)
        r = ty_view_prepare(j, out, &err);
    if (r == 0 && ty_build_wanted(j) && (r = ty_build(j, out, runner)) < 0)
        return r; /* it has said why */
    if (r == 0)
        r = ty_data_in(j, out, &err);
    if (r < 0)
        ty_child_tell(out, "failed", err.text);
    return r;
}
