/* bring_up.c - what a job has left goes to its object store */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/bring_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH 4096
#define NAMED_MAX 20

struct piece {
    char *local, *path; /* owned */
};
struct sending {
    struct ty_bring *b;
    const char *from;
    bool file;                      /* `from` is one */
    struct ty_listing_known *known; /* of a mount; NULL: everything goes */
    bool changed;                   /* this round takes what the mount had, else what it had not */
    struct piece *at;
    struct ty_move_file *files;
    size_t n;
    uint64_t sent, bytes, failed, named; /* named: of those that failed */
    struct ty_error *err;
};

static void failed(struct sending *s, const char *path, const char *why)
{
    s->failed++;
    if (s->named == NAMED_MAX)
        return;
    s->named++;
    ty_bring_warn(s->b, "'%s' was not put into datastore '%s': %s", path, s->b->o.ref->datastore,
                  why);
}

static int on_file(const struct ty_move_file *f, enum ty_move_what what, int code, const char *why,
                   const struct ty_object *o, void *ctx)
{
    struct sending *s = ctx;

    (void)o;
    if (what != TY_MOVE_FAILED)
        return 0;
    failed(s, f->path,
           code == -EEXIST || code == EEXIST
               ? "there is another one of that name, and overwrite is not set"
               : why);
    return 0;
}

static int on_progress(uint64_t bytes, uint64_t total, uint64_t files, uint64_t files_total,
                       void *ctx)
{
    struct sending *s = ctx;

    (void)total, (void)files_total;
    ty_progress_tell(&s->b->progress, s->bytes + bytes, 0, s->sent + files, 0);
    return 0;
}

static int flush(struct sending *s)
{
    struct ty_move m = { .store = s->b->store,
                         .http = s->b->http,
                         .overwrite = s->b->o.ref->overwrite || s->changed,
                         .progress = on_progress,
                         .each = on_file,
                         .ctx = s };
    struct ty_move_sum sum = { 0 };
    struct ty_error err = { 0 };
    uint64_t before = s->failed;
    int r = s->n > 0 ? ty_move_up(&m, s->files, s->n, &sum, &err) : 0;

    if (r < 0 && s->failed == before) /* none of the files in particular */
        ty_bring_warn(s->b, "files were not put into datastore '%s': %s", s->b->o.ref->datastore,
                      err.text);
    /* What stops the whole move leaves files that nobody has tried. */
    s->failed += s->n - (sum.moved + sum.was_there + sum.failed);
    s->sent += sum.moved + sum.was_there;
    s->bytes += sum.bytes;
    for (size_t i = 0; i < s->n; i++) {
        free(s->at[i].local);
        free(s->at[i].path);
    }
    s->n = 0;
    return 0;
}

static int left_out(const char *path, int why, void *ctx)
{
    failed(ctx, path,
           why == -ELOOP     ? "it is a link to a folder"
           : why == -ENOTSUP ? "it is not a regular file"
           : why == -EILSEQ  ? "its name has control characters"
                             : strerror(-why));
    return 0;
}

/* Below the reference; a single file of its own name takes its place. */
static char *target(const struct sending *s, const char *rel)
{
    const char *base = s->b->o.ref->path, *slash = strrchr(base, '/');

    if (!*base)
        return strdup(rel);
    if (s->file && strcmp(slash ? slash + 1 : base, rel) == 0)
        return strdup(base);
    return ty_path_join(base, rel);
}

struct same {
    const char *etag;
    uint64_t bytes;
    bool is;
};

static int compare(const struct ty_object *o, void *ctx)
{
    struct same *c = ctx;

    c->is = c->etag[0] && o->etag[0] ? strcmp(c->etag, o->etag) == 0 : c->bytes == o->bytes;
    return 0;
}

/* Before a file of a mount replaces an object: is that still the one which the job was given?  One that is gone may come again. */
static bool is_as_given(const struct sending *s, const struct ty_listed *was, const char *path)
{
    struct ty_object given;
    struct same c = { .is = false };
    int r;

    ty_bring_object(was, &given);
    c.etag = given.etag;
    c.bytes = was->bytes;
    r = ty_object_head(s->b->store, s->b->http, path, compare, &c, NULL);
    return r == -ENOENT || (r == 0 && c.is);
}

static int take(const struct ty_listed *f, void *ctx)
{
    struct sending *s = ctx;
    const struct ty_listed *was = s->known ? ty_listing_find(s->known, f->path) : NULL;
    struct piece *p = &s->at[s->n];

    if (was && was->bytes == f->bytes && was->mtime_us == f->mtime_us)
        return 0;
    if (s->known && s->changed != (was != NULL))
        return 0;
    *p = (struct piece){ .local = s->file ? strdup(s->from) : ty_path_join(s->from, f->path),
                         .path = target(s, f->path) };
    if (!p->local || !p->path) {
        free(p->local);
        free(p->path);
        return -ENOMEM;
    }
    if (was && !s->b->o.ref->overwrite && !is_as_given(s, was, p->path)) {
        failed(s, p->path, "it was changed there while the run was running");
        free(p->local);
        free(p->path);
        return 0;
    }
    s->files[s->n++] = (struct ty_move_file){ .local = p->local, .path = p->path };
    return s->n == BATCH ? flush(s) : 0;
}

static int nothing(const char *path, int why, void *ctx)
{
    (void)path, (void)why, (void)ctx;
    return 0;
}

static int send_all(struct sending *s)
{
    struct stat st;
    int r;

    if (stat(s->from, &st) < 0)
        return ty_error_set(s->err, -errno,
                            "data reference '%s': nothing to send back, there is no '%s'",
                            s->b->o.ref->name, s->from);
    s->file = S_ISREG(st.st_mode);
    s->at = calloc(BATCH, sizeof *s->at);
    s->files = calloc(BATCH, sizeof *s->files);
    r = s->at && s->files ? 0 : ty_error_oom(s->err);
    if (r == 0)
        r = ty_listing_walk(s->from, take, left_out, s, s->err);
    if (r == 0)
        r = flush(s);
    if (r == 0 && s->known) {
        s->changed = true;
        r = ty_listing_walk(s->from, take, nothing, s, s->err);
        if (r == 0)
            r = flush(s);
    }
    if (s->at)
        (void)flush(s);
    free(s->at);
    free(s->files);
    if (s->failed > s->named)
        ty_bring_warn(s->b, "%llu%s file%s not put there",
                      (unsigned long long)(s->failed - s->named), s->named > 0 ? " more" : "",
                      s->failed - s->named == 1 ? " was" : "s were");
    return r;
}

int ty_bring_up(struct ty_bring *b, const char *from, struct ty_error *err)
{
    struct sending s = { .b = b, .from = from, .err = err };

    return send_all(&s);
}

int ty_bring_back(struct ty_bring *b, const char *from, struct ty_error *err)
{
    struct sending s = { .b = b, .from = from, .err = err };
    CLEANUP_FREE char *gone = NULL;
    int r = ty_listing_load(b->o.listing, &s.known);

    if (r < 0)
        return ty_error_set(err, r, "data reference '%s': the listing of its data is lost: %s",
                            b->o.ref->name, strerror(-r));
    r = send_all(&s);
    ty_listing_forget(s.known);
    if (!s.file)
        gone = ty_listing_removed(b->o.listing, from, b->o.ref->datastore);
    if (gone)
        ty_bring_warn(b, "%s", gone);
    return r;
}
