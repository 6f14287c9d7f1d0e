/* helper_files.c - put and get of the data helper: which files, and what becomes of each */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/helper_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LIST_MAX 20000000

/* What is to be moved.  Texts are owned: of those that a request names, the request has them. */
struct list {
    struct ty_move_file *files;
    struct ty_object *objects; /* down, where a listing has them; else NULL */
    size_t n, room;
    bool listed;
    json_t *keep; /* array: texts that the files point to */
    struct helper *h;
    const char *local, *path;
};

static void list_done(struct list *l)
{
    free(l->files);
    free(l->objects);
    json_decref(l->keep);
}

/* A text that lives as long as the list. */
static const char *keep(struct list *l, const char *text)
{
    json_t *j = text ? json_string_nocheck(text) : NULL;

    if (!l->keep)
        l->keep = json_array();
    return json_array_append_new(l->keep, j) < 0 ? NULL : json_string_value(j);
}

static int grow(struct list *l)
{
    size_t room = l->room ? l->room * 2 : 64;
    struct ty_move_file *files;
    struct ty_object *objects;

    if (l->n < l->room)
        return 0;
    if (l->n >= LIST_MAX)
        return ty_error_set(l->h->err, -EINVAL,
                            "there are more than %d files, too many for one request", LIST_MAX);
    files = realloc(l->files, room * sizeof *files);
    if (files)
        l->files = files;
    objects = l->listed && files ? realloc(l->objects, room * sizeof *objects) : NULL;
    if (objects)
        l->objects = objects;
    if (!files || (l->listed && !objects))
        return ty_error_oom(l->h->err);
    l->room = room;
    return 0;
}

/* Texts are the caller's to keep. */
static int add(struct list *l, const char *local, const char *path)
{
    int r = helper_path(l->h, path);

    if (r == 0 && local[0] != '/')
        r = ty_error_set(l->h->err, -EINVAL, "the local path '%.300s' is not absolute", local);
    if (r == 0)
        r = grow(l);
    if (r == 0)
        l->files[l->n++] = (struct ty_move_file){ .local = local, .path = path };
    return r;
}

static int add_kept(struct list *l, const char *local, const char *path)
{
    const char *kept = keep(l, local), *name = kept ? keep(l, path) : NULL;

    return name ? add(l, kept, name) : ty_error_oom(l->h->err);
}

/* The files that a request names one by one. */
static int named(struct list *l, const json_t *files)
{
    static const char *const known[] = { "local", "path", NULL };
    static const char what[] = "the request, 'files'";
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach (files, i, one) {
        const char *local = NULL, *path = NULL;

        r = json_is_object(one) ? ty_json_only(one, what, known, l->h->err)
                                : ty_error_set(l->h->err, -EINVAL, "%s must hold objects", what);
        if (r == 0)
            r = ty_json_get_str(one, what, "local", &local, l->h->err);
        if (r == 0)
            r = ty_json_get_str(one, what, "path", &path, l->h->err);
        if (r == 0 && (!local || !path))
            r = ty_error_set(l->h->err, -EINVAL, "%s: each has a 'local' and a 'path'", what);
        if (r == 0)
            r = add(l, local, path);
        if (r < 0)
            return r;
    }
    return 0;
}

/* `files`, or `local` and `path`: 1 for the former, 0 and both texts for the latter. */
static int which(struct list *l)
{
    const json_t *files = json_object_get(l->h->asked, "files");
    int r = helper_text(l->h, "local", &l->local);

    if (r == 0)
        r = helper_text(l->h, "path", &l->path);
    if (r < 0)
        return r;
    if (json_is_array(files) && !l->local && !l->path) {
        r = named(l, files);
        return r < 0 ? r : 1;
    }
    if (files || !l->local || !l->path)
        return ty_error_set(l->h->err, -EINVAL,
                            "the request has a list 'files', or a 'local' and a 'path'");
    return l->local[0] == '/' ? 0
                              : ty_error_set(l->h->err, -EINVAL,
                                             "the local path '%.300s' is not absolute", l->local);
}

static int warn(struct helper *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int warn(struct helper *h, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    CLEANUP_STR struct ty_str safe = { 0 };
    va_list ap;
    json_t *j;

    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    if (text.failed)
        return -ENOMEM;
    ty_str_add_json(&safe, text.text, text.len); /* names may be no UTF-8 */
    j = safe.failed ? NULL : json_loads(safe.text, JSON_DECODE_ANY, NULL);
    return helper_say(h, "warning", j);
}

/* ---- moving ---- */

static int on_progress(uint64_t bytes, uint64_t total, uint64_t files, uint64_t files_total,
                       void *ctx)
{
    struct helper *h = ctx;
    int64_t now = ty_mono_us();

    if (now - h->said_us < HELPER_PROGRESS_US && !(files == files_total && bytes == total))
        return 0;
    h->said_us = now;
    return helper_say(h, "progress",
                      json_pack("{s:I s:I s:I s:I}", "bytes", (json_int_t)bytes, "total",
                                (json_int_t)total, "files", (json_int_t)files, "files_total",
                                (json_int_t)files_total));
}

static int on_file(const struct ty_move_file *f, enum ty_move_what what, int code, const char *why,
                   const struct ty_object *o, void *ctx)
{
    static const char *const words[] = {
        [TY_MOVE_MOVED] = "moved", [TY_MOVE_WAS_THERE] = "there", [TY_MOVE_FAILED] = "failed"
    };
    struct helper *h = ctx;
    json_t *j = json_pack("{s:s s:s s:I s:s}", "path", f->path, "local", f->local, "bytes",
                          (json_int_t)(o ? o->bytes : 0), "state", words[what]);

    if (what == TY_MOVE_FAILED) {
        h->failed++;
        if (j)
            json_object_set_new(j, "error", helper_error_json(code, why));
    } else {
        h->files++;
        h->there += what == TY_MOVE_WAS_THERE;
        h->bytes += o ? o->bytes : 0;
    }
    return helper_say(h, "file", j);
}

static int move(struct list *l, int (*fn)(const struct ty_move *m, const struct ty_move_file *files,
                                          size_t n, struct ty_move_sum *sum, struct ty_error *err))
{
    struct helper *h = l->h;
    struct ty_move m = { .store = h->store,
                         .http = h->http,
                         .parallel = (unsigned)h->parallel,
                         .progress = on_progress,
                         .each = on_file,
                         .ctx = h };
    struct ty_move_sum sum = { 0 };
    int r = ty_json_get_bool(h->asked, "the request", "overwrite", &m.overwrite, h->err);

    if (r < 0)
        return r;
    if (l->listed)
        for (size_t i = 0; i < l->n; i++)
            l->files[i].object = &l->objects[i];
    return l->n ? fn(&m, l->files, l->n, &sum, h->err) : 0;
}

/* ---- put ---- */

static int on_entry(const char *rel, const struct stat *entry, void *ctx)
{
    struct list *l = ctx;
    CLEANUP_FREE char *from = ty_path_join(l->local, rel);
    CLEANUP_FREE char *path = *l->path ? ty_path_join(l->path, rel) : strdup(rel);
    struct stat st;

    if (!from || !path)
        return ty_error_oom(l->h->err);
    if (S_ISDIR(entry->st_mode))
        return 0;
    if (stat(from, &st) < 0 || !S_ISREG(st.st_mode))
        return warn(l->h, "left out '%s': neither a file nor a link to one", from);
    if (!ty_utf8_valid(rel, strlen(rel)))
        return warn(l->h, "left out '%s': its name is not valid UTF-8", from);
    return add_kept(l, from, path);
}

int helper_put(struct helper *h)
{
    CLEANUP(list_done) struct list l = { .h = h };
    struct stat st;
    int r = which(&l);

    if (r < 0)
        return r;
    if (r == 0) {
        if (stat(l.local, &st) < 0)
            return ty_error_set(h->err, -errno, "cannot read '%.300s': %m", l.local);
        r = S_ISDIR(st.st_mode) ? ty_walk(l.local, on_entry, &l, h->err) : add(&l, l.local, l.path);
    }
    return r < 0 ? r : move(&l, ty_move_up);
}

/* ---- get ---- */

/* Where an object goes: below `local` under what is left of its name behind `path/`. */
static int on_object(const struct ty_object *o, void *ctx)
{
    struct list *l = ctx;
    size_t skip = *l->path ? strlen(l->path) + 1 : 0;
    CLEANUP_FREE char *local = NULL;
    struct ty_object *kept;
    struct ty_error why;
    int r;

    if (ty_object_path_check(o->path, &why) < 0 || !o->path[skip])
        return warn(l->h, "left out the object '%s': it cannot be a file", o->path);
    local = ty_path_join(l->local, o->path + skip);
    r = local ? add_kept(l, local, o->path) : ty_error_oom(l->h->err);
    if (r < 0)
        return r;
    kept = &l->objects[l->n - 1];
    *kept = *o;
    kept->path = l->files[l->n - 1].path;
    kept->etag = keep(l, o->etag);
    return kept->etag ? 0 : ty_error_oom(l->h->err);
}

static int found(const struct ty_object *o, void *ctx)
{
    (void)o;
    *(bool *)ctx = true;
    return 0;
}

/* The object itself, or what lies below the folder. */
static int below(struct list *l)
{
    struct helper *h = l->h;
    CLEANUP_FREE char *path = strdup(l->path);
    CLEANUP_FREE char *prefix = NULL;
    size_t n = path ? strlen(path) : 0;
    bool is_file = false;
    int r = 0;

    if (n > 0 && path[n - 1] == '/')
        path[n - 1] = '\0';
    l->path = path ? keep(l, path) : NULL;
    prefix = l->path ? ty_strf(*l->path ? "%s/" : "%s", l->path) : NULL;
    if (!prefix)
        return ty_error_oom(h->err);
    if (*l->path) {
        r = helper_path(h, l->path);
        if (r == 0)
            r = ty_object_head(h->store, h->http, l->path, found, &is_file, h->err);
    }
    if (is_file)
        return add(l, l->local, l->path);
    if (r < 0 && r != -ENOENT)
        return r;
    l->listed = true;
    r = ty_object_list(h->store, h->http, prefix, on_object, l, h->err);
    if (r == 0 && l->n == 0 && *l->path)
        return ty_error_set(h->err, -ENOENT, "%s has no file or folder '%s'", h->store->where,
                            l->path);
    return r;
}

int helper_get(struct helper *h)
{
    CLEANUP(list_done) struct list l = { .h = h };
    int r = which(&l);

    if (r == 0)
        r = below(&l);
    return r < 0 ? r : move(&l, ty_move_down);
}
