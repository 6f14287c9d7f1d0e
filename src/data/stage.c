/* stage.c - mount, download and upload on one box */
#include "data/stage.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/copy.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMED_MAX 20 /* files named in warnings, per reference; the rest is counted */

__attribute__((format(printf, 2, 3))) static void warn(const struct ty_stage *s, const char *fmt,
                                                       ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    ty_str_addf(&text, "data reference '%s': ", s->ref->name);
    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    if (s->warn && !text.failed)
        s->warn(text.text, s->ctx);
}

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool in_work(const struct ty_stage *s)
{
    return !s->ref->path_on_compute || s->ref->path_on_compute[0] != '/';
}

/* The folder (or link) at path_on_compute, or NULL with *r 0 when the reference names none. */
static char *asked_place(const struct ty_stage *s, int *r, struct ty_error *err)
{
    const char *path = s->ref->path_on_compute;
    CLEANUP_FREE char *clean = NULL;
    char *place;

    *r = 0;
    if (!path || !*path)
        return NULL;
    if (path[0] == '/') {
        place = strdup(path);
    } else {
        *r = ty_path_clean(path, &clean);
        if (*r < 0) {
            ty_error_set(
                err, *r,
                "data reference '%s': path_on_compute '%s' leads out of the working directory",
                s->ref->name, path);
            return NULL;
        }
        place = *clean ? ty_path_join(s->work, clean) : strdup(s->work);
    }
    if (!place)
        *r = ty_error_oom(err);
    return place;
}

int ty_stage_place(const struct ty_stage *s, char **ret, struct ty_error *err)
{
    int r;
    CLEANUP_FREE char *asked = asked_place(s, &r, err);
    CLEANUP_FREE char *base = NULL;
    const char *slash;

    if (r < 0)
        return r;
    if (s->ref->mode == TY_DATA_MOUNT)
        base = asked ? TAKE(asked) : strdup(s->dir);
    else if (asked)
        base = TAKE(asked);
    else
        base = ty_strf("%s/%s/%s", s->tmp, s->ref->mode == TY_DATA_DOWNLOAD ? "data" : "upload",
                       s->ref->name);
    if (base && s->ref->mode == TY_DATA_DOWNLOAD && is_file(s->dir) &&
        (slash = strrchr(s->dir, '/'))) {
        char *file = ty_path_join(base, slash + 1);

        free(base);
        base = file;
    }
    if (!base)
        return ty_error_oom(err);
    *ret = TAKE(base);
    return 0;
}

/* Make way for a link: 0, or -EEXIST. */
static int clear(const struct ty_stage *s, const char *place, struct ty_error *err)
{
    struct stat st;

    if (lstat(place, &st) < 0)
        return 0;
    if (S_ISDIR(st.st_mode) && in_work(s) && rmdir(place) == 0)
        return 0;
    if (s->ref->overwrite && (S_ISLNK(st.st_mode) || in_work(s)) && strcmp(place, s->work) != 0)
        return ty_rm_rf(place);
    return ty_error_set(
        err, -EEXIST,
        "data reference '%s': there is something at path_on_compute '%s' already; choose another "
        "path, or set overwrite=True to replace a link or what the snapshot has there",
        s->ref->name, s->ref->path_on_compute);
}

static int mount_in(const struct ty_stage *s, const char *place, struct ty_error *err)
{
    char was[4096];
    ssize_t n;
    int r;

    if (access(s->dir, F_OK) < 0)
        warn(s, "'%s' does not exist in datastore '%s' yet", s->ref->path, s->ref->datastore);
    if (strcmp(place, s->dir) == 0)
        return 0;
    n = readlink(place, was, sizeof was);
    if (n == (ssize_t)strlen(s->dir) && memcmp(was, s->dir, (size_t)n) == 0)
        return 0;
    r = clear(s, place, err);
    if (r == 0)
        r = ty_mkdir_parent(place, 0777);
    if (r == 0 && symlink(s->dir, place) < 0)
        r = -errno;
    if (r < 0 && r != -EEXIST) {
        errno = -r;
        ty_error_set(err, r, "data reference '%s': cannot make the link '%s': %m", s->ref->name,
                     place);
    }
    return r;
}

struct report {
    const struct ty_stage *s;
    struct ty_error *err;
    int count;
    uint64_t bytes, files;
};

static const char *why_text(int why)
{
    if (why == -ELOOP)
        return "it is a link to a folder";
    if (why == -ENOTSUP)
        return "it is not a regular file";
    if (why == -EEXIST)
        return "there is another file of that name, and overwrite is not set";
    if (why == -EBUSY)
        return "it was changed again and again while it was copied";
    return strerror(-why);
}

/* A file may vanish or be cut while it is copied, and a disk may fill. */
static int failed_in(struct report *p, const char *rel, int why)
{
    char needed[16], done[16], room[16];

    if (why == -ENOSPC || why == -EDQUOT)
        return ty_error_set(
            p->err, why,
            "data reference '%s': cannot download '%s': %s; the data are %s, of which %s were "
            "copied, and %s are free in '%s'",
            p->s->ref->name, rel, strerror(-why), ty_show_bytes(p->s->bytes, needed),
            ty_show_bytes(p->bytes, done), ty_show_bytes(ty_fs_free_bytes(p->s->tmp), room),
            p->s->tmp);
    if (why == -ENOENT)
        return ty_error_set(
            p->err, why,
            "data reference '%s': cannot download '%s': it has vanished from "
            "datastore '%s' while the data were copied, or is a link that leads nowhere",
            p->s->ref->name, rel, p->s->ref->datastore);
    return ty_error_set(p->err, why, "data reference '%s': cannot download '%s': %s",
                        p->s->ref->name, rel, why_text(why));
}

/* A download must be whole: only what is no file may be missing. */
static int missed_in(const char *rel, int why, void *ctx)
{
    struct report *p = ctx;

    if (why != -ELOOP && why != -ENOTSUP)
        return failed_in(p, rel, why);
    if (++p->count <= NAMED_MAX)
        warn(p->s, "'%s' is left out: %s", rel, why_text(why));
    return 0;
}

static void copied(uint64_t bytes, void *ctx)
{
    struct report *p = ctx;

    p->bytes += bytes;
    p->files++;
    if (p->s->progress)
        p->s->progress(p->bytes, p->files, p->s->ctx);
}

static int missed_out(const char *rel, int why, void *ctx)
{
    struct report *p = ctx;

    if (++p->count <= NAMED_MAX)
        warn(p->s, "'%s' was not uploaded to datastore '%s': %s", rel, p->s->ref->datastore,
             why_text(why));
    return 0;
}

static void rest(const struct report *p)
{
    if (p->count > NAMED_MAX)
        warn(p->s, "%d more files were left out", p->count - NAMED_MAX);
}

/* Does path_on_compute of an upload name a file?  Its last part has an ending, and no '/' after it. */
static bool names_file(const struct ty_stage *s)
{
    const char *path = s->ref->path_on_compute, *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;
    const char *dot = name ? strrchr(name, '.') : NULL;

    return dot && dot > name && dot[1];
}

/* Where a file that the script wrote goes: below the reference's folder under its own name, or to the path
 * itself when that has the same name and is no folder. */
static char *file_target(const struct ty_stage *s, const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    const char *last = strrchr(s->dir, '/');
    struct stat st;
    bool folder = stat(s->dir, &st) == 0 && S_ISDIR(st.st_mode);

    if (!folder && *s->ref->path && last && strcmp(last + 1, name) == 0)
        return strdup(s->dir);
    return ty_path_join(s->dir, name);
}

static int download(const struct ty_stage *s, const char *place, struct ty_error *err)
{
    struct report p = { .s = s, .err = err };
    struct stat st;
    int r;

    if (stat(s->dir, &st) < 0)
        return ty_error_set(err, -errno,
                            "data reference '%s': cannot download '%s' from datastore '%s': %m",
                            s->ref->name, s->ref->path, s->ref->datastore);
    if (S_ISDIR(st.st_mode)) {
        r = ty_copy_tree(s->dir, place, s->ref->overwrite, missed_in, copied, &p, err);
        rest(&p);
        return r;
    }
    r = ty_copy_file(s->dir, place, s->ref->overwrite);
    return r < 0 ? missed_in(s->ref->path, r, &p) : 0;
}

int ty_stage_in(const struct ty_stage *s, struct ty_error *err)
{
    CLEANUP_FREE char *place = NULL;
    int r = ty_stage_place(s, &place, err);

    if (r < 0)
        return r;
    if (s->ref->mode == TY_DATA_MOUNT)
        return mount_in(s, place, err);
    if (s->ref->mode == TY_DATA_DOWNLOAD)
        return download(s, place, err);
    r = names_file(s) ? ty_mkdir_parent(place, 0777) : ty_mkdir_p(place, 0777);
    if (r < 0) {
        errno = -r;
        return ty_error_set(err, r, "data reference '%s': cannot make the folder '%s': %m",
                            s->ref->name, place);
    }
    return 0;
}

int ty_stage_out(const struct ty_stage *s, struct ty_error *err)
{
    struct report p = { .s = s, .err = err };
    CLEANUP_FREE char *place = NULL;
    struct stat st;
    int r;

    if (s->ref->mode != TY_DATA_UPLOAD)
        return 0;
    r = ty_stage_place(s, &place, err);
    if (r < 0)
        return r;
    if (stat(place, &st) < 0)
        return ty_error_set(err, -errno, "data reference '%s': nothing to upload, there is no '%s'",
                            s->ref->name, place);
    if (S_ISDIR(st.st_mode)) {
        r = ty_copy_tree(place, s->dir, s->ref->overwrite, missed_out, NULL, &p, err);
        rest(&p);
        return r;
    }
    CLEANUP_FREE char *to = file_target(s, place);
    if (!to)
        return ty_error_oom(err);
    r = ty_copy_file(place, to, s->ref->overwrite);
    if (r < 0)
        missed_out(strrchr(place, '/') + 1, r, &p);
    return 0;
}
