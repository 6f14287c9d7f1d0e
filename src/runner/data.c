/* data.c - the data references of a job on its node */
#include "runner/data.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "blob/blob.h"
#include "data/listing.h"
#include "data/progress.h"
#include "runner/build.h"
#include "runner/child.h"
#include "runner/data_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMED_MAX 20

/* What the courier has brought of a reference: an object; NULL: the folder is seen here. */
static const json_t *sent_of(const struct ty_jobfile *j, int i)
{
    const json_t *o = json_array_get(json_object_get(j->json, "data_sent"), (size_t)i);

    return json_is_object(o) ? o : NULL;
}

const char *ty_data_leaf(const struct ty_data_ref *ref)
{
    const char *slash = strrchr(ref->path, '/');

    return *ref->path ? slash ? slash + 1 : ref->path : "data";
}

char *ty_data_dir(const struct ty_jobfile *j, int i)
{
    return sent_of(j, i) || !j->data_dirs[i]
               ? ty_strf("%s/data/%d/%s", j->dir, i, ty_data_leaf(&j->spec->data[i]))
               : strdup(j->data_dirs[i]);
}

char *ty_data_listing(const struct ty_jobfile *j, int i)
{
    return ty_strf("%s/data/%d.list", j->dir, i);
}

int ty_data_begin(const struct ty_jobfile *j, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(j->dir, "data");
    int r = path ? 0 : -ENOMEM;

    if (j->spec->ndata == 0)
        return 0;
    if (r == 0)
        r = ty_mkdir_p(path, 0700);
    if (r == 0 && j->owner && lchown(path, j->owner->uid, j->owner->gid) < 0)
        r = -errno;
    return r < 0 ? ty_error_set(err, r, "cannot make the folder '%s': %s", path ? path : j->dir,
                                strerror(-r))
                 : 0;
}

/* --- in --- */

struct bringing {
    const struct ty_jobfile *j;
    int i, out;
    struct ty_error *err;
    struct ty_progress progress;
    struct ty_blobs *blobs;
    const char *to; /* a folder */
    uint64_t files, bytes, files_all, bytes_all;
    int64_t watched; /* lines of the listing; -1: too many to look for changes */
    struct ty_listing_out list;
};

static const struct ty_data_ref *ref_of(const struct bringing *b)
{
    return &b->j->spec->data[b->i];
}

static void warn(const char *text, void *ctx)
{
    ty_child_tell(((struct bringing *)ctx)->out, "warning", text);
}

static void note(const char *text, void *ctx)
{
    ty_child_tell(((struct bringing *)ctx)->out, "note", text);
}

static void progress(uint64_t bytes, uint64_t files, void *ctx)
{
    struct bringing *b = ctx;

    ty_progress_tell(&b->progress, bytes, b->bytes_all, files, b->files_all);
}

static int count(const struct ty_listed *f, void *ctx)
{
    struct bringing *b = ctx;

    b->files_all++;
    b->bytes_all += f->bytes;
    if (b->watched < 0)
        return 0;
    if (++b->watched > TY_LISTING_WATCHED_MAX) {
        b->watched = -1;
        return 0;
    }
    return ty_listing_add(&b->list, f);
}

/* What is there when the job begins: later it is compared.  Nothing of this can fail the job. */
static void remember(struct bringing *b, const char *dir)
{
    CLEANUP_FREE char *path = ty_data_listing(b->j, b->i);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!path || access(dir, F_OK) < 0)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    r = ty_listing_begin(&b->list, fd);
    if (r == 0)
        r = ty_listing_walk(dir, count, NULL, b, NULL);
    if (ty_listing_finish(&b->list) < 0 || r < 0 || b->watched < 0)
        unlink(path);
}

/* A folder that is seen here. */
/* A sandbox or an image has what is bound into it; what a script would make in place of the rest is lost with it, or refused. */
static void make_to_bind(struct bringing *b, const char *dir)
{
    int r = access(dir, F_OK) == 0 ? 0 : ty_mkdir_p(dir, 0777);
    CLEANUP_FREE char *text =
        r < 0 ? ty_strf(
                    "data reference '%s': cannot make the folder '%s': %s; what the script writes "
                    "there is not kept",
                    ref_of(b)->name, dir, strerror(-r))
              : NULL;

    if (text)
        warn(text, b);
}

static int bring_seen(struct bringing *b)
{
    const struct ty_jobfile *j = b->j;
    struct ty_stage s = { .ref = ref_of(b),
                          .dir = j->data_dirs[b->i],
                          .work = j->work,
                          .tmp = j->tmp,
                          .warn = warn,
                          .progress = progress,
                          .ctx = b };
    int r;

    if (s.ref->mode != TY_DATA_UPLOAD)
        remember(b, s.dir);
    s.bytes = b->bytes_all;
    s.files = b->files_all;
    r = ty_stage_in(&s, b->err);
    if (r == 0 && s.ref->mode == TY_DATA_MOUNT && j->spec->env &&
        j->spec->env->view != TY_VIEW_PLAIN)
        make_to_bind(b, s.dir);
    return r;
}

static int unpack_failed(const struct bringing *b, const char *path, int r)
{
    char needed[16], room[16];

    if (r == -ENOSPC || r == -EDQUOT)
        return ty_error_set(b->err, r,
                            "data reference '%s': cannot write '%s' into '%s': %s; %s of %s are "
                            "still to be written, and %s are free",
                            ref_of(b)->name, path, b->to, strerror(-r),
                            ty_show_bytes(b->bytes_all - b->bytes, needed),
                            ty_show_bytes(b->bytes_all, (char[16]){ 0 }),
                            ty_show_bytes(ty_fs_free_bytes(b->j->dir), room));
    return ty_error_set(b->err, r, "data reference '%s': cannot write '%s' into '%s': %s",
                        ref_of(b)->name, path, b->to, strerror(-r));
}

static int copy_blob(const struct bringing *b, const struct ty_listed *f, const char *to)
{
    CLEANUP_CLOSE int from = ty_blob_open(b->blobs, f->mark), out = -1;
    struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
                             { .tv_sec = f->mtime_us / 1000000,
                               .tv_nsec = f->mtime_us % 1000000 * 1000 } };
    int r;

    if (from < 0)
        return from;
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, f->mode);
    if (out < 0)
        return -errno;
    r = ty_copy_fd(from, out);
    if (r >= 0 && futimens(out, t) < 0)
        r = -errno;
    return r < 0 ? r : 0;
}

static int unpack(const struct ty_listed *f, void *ctx)
{
    struct bringing *b = ctx;
    CLEANUP_FREE char *to = ty_path_join(b->to, f->path);
    int r = to ? ty_mkdir_parent(to, 0777) : -ENOMEM;

    if (r == 0)
        r = copy_blob(b, f, to);
    if (r < 0)
        return unpack_failed(b, f->path, r);
    b->files++;
    b->bytes += f->bytes;
    progress(b->bytes, b->files, b);
    return 0;
}

static int sum_up(const struct ty_listed *f, void *ctx)
{
    struct bringing *b = ctx;

    b->files_all++;
    b->bytes_all += f->bytes;
    return 0;
}

/* The listing lies in the blob store; a copy beside the data is for comparing later. */
static int unpack_listed(struct bringing *b, const char *sha)
{
    CLEANUP_FREE char *path = ty_data_listing(b->j, b->i);
    CLEANUP_CLOSE int from = ty_blob_open(b->blobs, sha);
    CLEANUP_CLOSE int to =
        path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    int r = from < 0 ? from : to < 0 ? -errno : ty_copy_fd(from, to);

    if (r >= 0)
        r = ty_listing_read(path, sum_up, b);
    if (r >= 0)
        r = ty_mkdir_p(b->to, 0777);
    if (r < 0)
        return ty_error_set(b->err, r, "data reference '%s': what was brought cannot be read: %s",
                            ref_of(b)->name, strerror(-r));
    return ty_listing_read(path, unpack, b);
}

bool ty_data_straight(const struct ty_stage *s, char **place)
{
    struct stat st;

    if (s->ref->mode != TY_DATA_DOWNLOAD || ty_stage_place(s, place, NULL) < 0)
        return false;
    return lstat(*place, &st) < 0 && errno == ENOENT && ty_mkdir_parent(*place, 0777) == 0;
}

static void tell_left(struct bringing *b)
{
    const json_t *list = json_object_get(sent_of(b->j, b->i), "left"), *item;
    size_t k;

    json_array_foreach (list, k, item) {
        CLEANUP_FREE char *text = ty_strf("data reference '%s': %s", ref_of(b)->name,
                                          json_is_string(item) ? json_string_value(item) : "?");

        if (text && b->j->leads)
            warn(text, b);
    }
}

/* What came from the daemon's machine. */
static int bring_sent(struct bringing *b)
{
    const struct ty_jobfile *j = b->j;
    const json_t *sent = sent_of(j, b->i);
    const char *sha = json_string_value(json_object_get(sent, "list"));
    bool file = json_is_true(json_object_get(sent, "file")), at_once;
    CLEANUP_FREE char *dir = ty_data_dir(j, b->i), *parent = NULL, *place = NULL;
    struct ty_stage s = {
        .ref = ref_of(b), .dir = dir, .work = j->work, .tmp = j->tmp, .warn = warn, .ctx = b
    };
    int r;

    parent = ty_strf("%s/data/%d", j->dir, b->i);
    if (!dir || !parent)
        return ty_error_oom(b->err);
    tell_left(b);
    if (s.ref->mode == TY_DATA_UPLOAD)
        return ty_stage_in(&s, b->err);
    if (!sha) /* a mount of what is not there yet */
        r = ty_mkdir_p(dir, 0777);
    else
        r = ty_blobs_open(j->blobs, &b->blobs, b->err);
    if (r < 0)
        return b->err->code
                   ? r
                   : ty_error_set(b->err, r, "cannot make the folder '%s': %s", dir, strerror(-r));
    at_once = sha && !file && ty_data_straight(&s, &place);
    b->to = at_once ? place : file ? parent : dir;
    r = sha ? unpack_listed(b, sha) : 0;
    ty_blobs_free(b->blobs);
    if (r < 0 || at_once)
        return r;
    r = ty_stage_in(&s, b->err);
    if (r == 0 && s.ref->mode == TY_DATA_DOWNLOAD &&
        (file ? truncate(dir, 0) : ty_rm_rf(parent)) < 0)
        ty_child_tell(
            b->out, "note",
            "a copy of the data could not be removed"); /* the empty file says that it was one */
    return r;
}

/* The way to an object store may lead through a proxy, which the job's variables name. */
static int know_the_way(const struct ty_jobfile *j)
{
    for (int i = 0; i < j->spec->ndata; i++)
        if (!j->data_dirs[i])
            return ty_build_variables(j);
    return 0;
}

static int mark_brought(const struct ty_jobfile *j, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(j->dir, "data/brought");
    CLEANUP_CLOSE int fd =
        path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

    return fd < 0 ? ty_error_set(err, -errno, "cannot write to the job folder '%s': %m", j->dir)
                  : 0;
}

bool ty_data_was_brought(const struct ty_jobfile *j)
{
    CLEANUP_FREE char *path = ty_path_join(j->dir, "data/brought");

    return path && access(path, F_OK) == 0;
}

int ty_data_in(const struct ty_jobfile *j, int out, struct ty_error *err)
{
    int r = know_the_way(j) < 0 ? ty_error_oom(err) : 0;

    for (int i = 0; r == 0 && i < j->spec->ndata; i++) {
        struct bringing b = { .j = j, .i = i, .out = out, .err = err };

        b.progress = (struct ty_progress){ .name = ref_of(&b)->name, .note = note, .ctx = &b };
        r = !j->data_dirs[i] ? ty_data_object_in(j, i, out, err)
            : sent_of(j, i)  ? bring_sent(&b)
                             : bring_seen(&b);
    }
    if (r == 0 && j->spec->ndata > 0)
        r = mark_brought(j, err);
    return r;
}

/* --- out --- */

struct returning {
    const struct ty_jobfile *j;
    int i;
    const struct ty_data_back *back;
    const char *from; /* folder */
    bool file;
    struct ty_listing_known *known;
    uint64_t left;
};

static void warn_back(const char *text, void *ctx)
{
    ty_child_tell(((struct returning *)ctx)->back->out, "warning", text);
}

static int left_out(const char *path, int why, void *ctx)
{
    struct returning *b = ctx;
    const struct ty_data_ref *ref = &b->j->spec->data[b->i];
    CLEANUP_FREE char *text = NULL;

    if (b->left++ < NAMED_MAX &&
        (text = ty_strf("data reference '%s': '%s' is not sent back to datastore '%s': %s",
                        ref->name, path, ref->datastore,
                        why == -ELOOP     ? "it is a link to a folder"
                        : why == -ENOTSUP ? "it is not a regular file"
                        : why == -EILSEQ  ? "its name has control characters"
                                          : strerror(-why))))
        warn_back(text, b);
    return 0;
}

static int send_back(const struct ty_listed *f, void *ctx)
{
    struct returning *b = ctx;
    CLEANUP_FREE char *real = b->file ? strdup(b->from) : ty_path_join(b->from, f->path);
    const struct ty_listed *was = b->known ? ty_listing_find(b->known, f->path) : NULL;
    CLEANUP_JSON json_t *o = NULL;

    if (!real)
        return -ENOMEM;
    if (was && was->bytes == f->bytes && was->mtime_us == f->mtime_us)
        return 0;
    if (!ty_utf8_valid(f->path, strlen(f->path)))
        return left_out("a file whose name is not UTF-8", -EILSEQ, b);
    o = json_pack("{s:s s:s s:s s:b}", "kind", "data", "ref", b->j->spec->data[b->i].name, "path",
                  f->path, "file", (int)b->file);
    if (o && was)
        json_object_set_new(o, "was", json_string(was->mark));
    return o ? b->back->keep(b->back->ctx, real, o) : -ENOMEM;
}

static void tell_removed(struct returning *b, const char *list)
{
    const struct ty_data_ref *ref = &b->j->spec->data[b->i];
    CLEANUP_FREE char *gone = ty_listing_removed(list, b->from, ref->datastore);
    CLEANUP_FREE char *text = gone ? ty_strf("data reference '%s': %s", ref->name, gone) : NULL;

    if (text)
        warn_back(text, b);
}

/* Files that the job has left in an upload, and new or changed ones of a mount. */
static int return_sent(struct returning *b)
{
    const struct ty_data_ref *ref = &b->j->spec->data[b->i];
    CLEANUP_FREE char *dir = ty_data_dir(b->j, b->i), *list = ty_data_listing(b->j, b->i),
                      *place = NULL;
    struct ty_stage s = { .ref = ref, .dir = dir, .work = b->j->work, .tmp = b->j->tmp };
    struct ty_error err = { 0 };
    struct stat st;
    int r;

    if (!dir || !list)
        return -ENOMEM;
    r = ty_stage_place(&s, &place, &err);
    if (r == 0 && stat(place, &st) < 0)
        r = ty_error_set(&err, -errno,
                         "data reference '%s': nothing to send back, there is no '%s'", ref->name,
                         place);
    if (r == 0 && ref->mode == TY_DATA_MOUNT && access(list, F_OK) == 0)
        r = ty_listing_load(list, &b->known);
    if (r == 0) {
        b->from = place;
        b->file = S_ISREG(st.st_mode);
        r = ty_listing_walk(place, send_back, left_out, b, &err);
    }
    if (r == 0 && b->known && !b->file)
        tell_removed(b, list);
    ty_listing_forget(b->known);
    if (r < 0 && r != -EPIPE && r != -ENOMEM)
        warn_back(err.code ? err.text : strerror(-r), b);
    return r == -EPIPE || r == -ENOMEM ? r : 0;
}

/* The near side compares what it has sent with what is there now, and says so in this record's place. */
static int end_sent(const struct returning *b)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:s s:s s:b}", "kind", "data", "ref", b->j->spec->data[b->i].name, "end", 1);

    if (!b->j->leads || b->j->spec->data[b->i].mode == TY_DATA_UPLOAD)
        return 0;
    return o ? b->back->tell(b->back->ctx, o) : -ENOMEM;
}

static void compare(struct returning *b)
{
    const struct ty_data_ref *ref = &b->j->spec->data[b->i];
    CLEANUP_FREE char *list = ty_data_listing(b->j, b->i), *text = NULL, *whole = NULL;
    struct ty_changes c = { 0 };

    if (!list || !b->j->leads || access(list, F_OK) < 0)
        return;
    if (ty_listing_compare(list, b->j->data_dirs[b->i], ref->mode == TY_DATA_DOWNLOAD, &c, NULL) <
        0)
        return;
    text = ty_changes_text(&c, ref->datastore);
    whole = text ? ty_strf("data reference '%s': %s", ref->name, text) : NULL;
    if (whole)
        warn_back(whole, b);
    ty_str_done(&c.names);
}

static int return_seen(struct returning *b)
{
    const struct ty_jobfile *j = b->j;
    struct ty_stage s = { .ref = &j->spec->data[b->i],
                          .dir = j->data_dirs[b->i],
                          .work = j->work,
                          .tmp = j->tmp,
                          .warn = warn_back,
                          .ctx = b };
    struct ty_error err = { 0 };

    if (ty_stage_out(&s, &err) < 0)
        warn_back(err.text, b);
    if (s.ref->mode != TY_DATA_UPLOAD)
        compare(b);
    return 0;
}

int ty_data_out(const struct ty_jobfile *j, const struct ty_data_back *back)
{
    int r = know_the_way(j);

    for (int i = 0; r == 0 && i < j->spec->ndata; i++) {
        struct returning b = { .j = j, .i = i, .back = back };

        if (!j->data_dirs[i]) {
            ty_data_object_out(j, i, back->out);
            continue;
        }
        if (!sent_of(j, i)) {
            r = return_seen(&b);
            continue;
        }
        if (j->spec->data[i].mode != TY_DATA_DOWNLOAD && ty_data_was_brought(j))
            r = return_sent(&b);
        if (r == 0)
            r = end_sent(&b);
    }
    return r;
}
