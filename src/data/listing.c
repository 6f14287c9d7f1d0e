/* listing.c - listings of data: writing, reading, comparing */
#include "data/listing.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define HEADER "trainyard-data 1\n"
#define FLUSH_BYTES (256 * 1024)
#define NAMED_MAX 5

bool ty_listing_hides(const char *path)
{
    const char *slash = strrchr(path, '/');

    return ty_starts_with(slash ? slash + 1 : path, ".trainyard-");
}

/* ---- writing ---- */

static int flush(struct ty_listing_out *o)
{
    int r = o->unsent.failed ? -ENOMEM : ty_write_all(o->fd, o->unsent.text, o->unsent.len);

    ty_str_done(&o->unsent);
    return r;
}

int ty_listing_begin(struct ty_listing_out *o, int fd)
{
    *o = (struct ty_listing_out){ .fd = fd };
    ty_str_add(&o->unsent, HEADER);
    return o->unsent.failed ? -ENOMEM : 0;
}

int ty_listing_add(struct ty_listing_out *o, const struct ty_listed *f)
{
    ty_str_addf(&o->unsent, "%o %" PRIu64 " %" PRId64 " ", f->mode, f->bytes, f->mtime_us);
    if (f->mark && *f->mark)
        ty_str_add_url(&o->unsent, f->mark, false);
    else
        ty_str_add(&o->unsent, "-");
    ty_str_add(&o->unsent, " ");
    ty_str_add_url(&o->unsent, f->path, true);
    ty_str_add(&o->unsent, "\n");
    o->files++;
    o->bytes += f->bytes;
    return o->unsent.failed || o->unsent.len >= FLUSH_BYTES ? flush(o) : 0;
}

int ty_listing_finish(struct ty_listing_out *o)
{
    return o->unsent.len > 0 || o->unsent.failed ? flush(o) : 0;
}

/* ---- reading ---- */

static int on_line(char *line, uint64_t offset, ty_listed_fn fn, void *ctx)
{
    struct ty_listed f = { .offset = offset };
    char *mark = NULL, *path = NULL;
    int at = 0;

    if (sscanf(line, "%o %" SCNu64 " %" SCNd64 " %n", &f.mode, &f.bytes, &f.mtime_us, &at) != 3 ||
        at == 0 || !(path = strchr(line + at, ' ')))
        return -EBADMSG;
    mark = line + at;
    *path++ = '\0';
    if (ty_url_decode(mark) < 0 || ty_url_decode(path) < 0 || !ty_path_is_inside(path))
        return -EBADMSG;
    f.mark = strcmp(mark, "-") == 0 ? "" : mark;
    f.path = path;
    f.mode &= 0777;
    return fn(&f, ctx);
}

static void file_closep(FILE **f)
{
    if (*f)
        fclose(*f);
}

int ty_listing_read(const char *file, ty_listed_fn fn, void *ctx)
{
    CLEANUP(file_closep) FILE *in = fopen(file, "re");
    CLEANUP_FREE char *line = malloc(TY_LISTING_LINE_MAX);
    uint64_t offset = strlen(HEADER);
    int r = 0;

    if (!in || !line)
        return in ? -ENOMEM : -errno;
    if (!fgets(line, TY_LISTING_LINE_MAX, in) || strcmp(line, HEADER) != 0)
        return -EBADMSG;
    while (r == 0 && fgets(line, TY_LISTING_LINE_MAX, in)) {
        size_t n = strlen(line);

        if (n == 0 || line[n - 1] != '\n')
            return -EBADMSG;
        line[n - 1] = '\0';
        r = on_line(line, offset, fn, ctx);
        offset += n;
    }
    return r == 0 && ferror(in) ? -EIO : r;
}

int ty_listing_at(int fd, uint64_t offset, ty_listed_fn fn, void *ctx)
{
    CLEANUP_FREE char *line = malloc(TY_LISTING_LINE_MAX);
    ssize_t n = line ? pread(fd, line, TY_LISTING_LINE_MAX - 1, (off_t)offset) : -1;
    char *end;

    if (n < 0)
        return line ? -errno : -ENOMEM;
    line[n] = '\0';
    end = strchr(line, '\n');
    if (!end)
        return -EBADMSG;
    *end = '\0';
    return on_line(line, offset, fn, ctx);
}

/* ---- what lies there now ---- */

struct walking {
    const char *dir;
    ty_listed_fn fn;
    int (*left)(const char *path, int why, void *ctx);
    void *ctx;
};

static int tell(const struct walking *w, const char *path, const struct stat *st)
{
    struct ty_listed f = { .path = path,
                           .mark = "",
                           .bytes = (uint64_t)st->st_size,
                           .mtime_us = ty_time_us(st->st_mtim),
                           .mode = st->st_mode & 0111 ? 0755 : 0644 };

    return w->fn(&f, w->ctx);
}

static int leave_out(const struct walking *w, const char *path, int why)
{
    return w->left ? w->left(path, why, w->ctx) : 0;
}

static int visit(const char *rel, const struct stat *lst, void *ctx)
{
    const struct walking *w = ctx;
    CLEANUP_FREE char *path = ty_path_join(w->dir, rel);
    struct stat st = *lst;
    int r;

    if (!path)
        return -ENOMEM;
    if (ty_listing_hides(rel))
        return S_ISDIR(st.st_mode) ? 1 : 0;
    if (S_ISDIR(st.st_mode)) {
        r = ty_fs_can_enter(AT_FDCWD, path);
        if (r == 0)
            return 0;
        r = leave_out(w, rel, r);
        return r < 0 ? r : 1;
    }
    if (S_ISLNK(st.st_mode) && stat(path, &st) < 0)
        return leave_out(w, rel, -errno);
    if (!ty_path_is_inside(rel))
        return leave_out(w, rel, -EILSEQ);
    if (S_ISREG(st.st_mode))
        return tell(w, rel, &st);
    return leave_out(w, rel, S_ISDIR(st.st_mode) ? -ELOOP : -ENOTSUP);
}

int ty_listing_walk(const char *dir, ty_listed_fn fn,
                    int (*left)(const char *path, int why, void *ctx), void *ctx,
                    struct ty_error *err)
{
    struct walking w = { .dir = dir, .fn = fn, .left = left, .ctx = ctx };
    const char *slash = strrchr(dir, '/');
    struct stat st;

    if (stat(dir, &st) < 0)
        return ty_error_set(err, -errno, "cannot read '%s': %m", dir);
    if (S_ISREG(st.st_mode))
        return tell(&w, slash ? slash + 1 : dir, &st);
    return ty_walk(dir, visit, &w, err);
}

/* ---- asking ---- */

struct known {
    struct ty_listed f; /* its texts lie behind */
    bool seen;
    UT_hash_handle hh;
    char text[];
};
struct ty_listing_known {
    struct known *files;
};

static int learn(const struct ty_listed *f, void *ctx)
{
    struct ty_listing_known *all = ctx;
    size_t n = strlen(f->path) + 1, m = strlen(f->mark) + 1;
    struct known *k = calloc(1, sizeof *k + n + m);

    if (!k)
        return -ENOMEM;
    k->f = *f;
    memcpy(k->text, f->path, n);
    memcpy(k->text + n, f->mark, m);
    k->f.path = k->text;
    k->f.mark = k->text + n;
    HASH_ADD_KEYPTR(hh, all->files, k->f.path, n - 1, k);
    if (k->hh.tbl)
        return 0;
    free(k);
    return -ENOMEM;
}

struct ty_listing_known *ty_listing_forget(struct ty_listing_known *all)
{
    struct known *k, *next;

    if (!all)
        return NULL;
    HASH_ITER (hh, all->files, k, next) {
        HASH_DEL(all->files, k);
        free(k);
    }
    free(all);
    return NULL;
}

int ty_listing_load(const char *file, struct ty_listing_known **ret)
{
    struct ty_listing_known *all = calloc(1, sizeof *all);
    int r = all ? ty_listing_read(file, learn, all) : -ENOMEM;

    if (r < 0)
        ty_listing_forget(all);
    else
        *ret = all;
    return r;
}

static struct known *find(const struct ty_listing_known *all, const char *path)
{
    struct known *k;

    HASH_FIND_STR(all->files, path, k);
    return k;
}

const struct ty_listed *ty_listing_find(const struct ty_listing_known *all, const char *path)
{
    const struct known *k = find(all, path);

    return k ? &k->f : NULL;
}

/* ---- comparing ---- */

struct comparing {
    struct ty_listing_known *before;
    struct ty_changes *out;
    uint64_t named;
    bool added;
};

static void name(struct comparing *c, const char *path)
{
    if (c->named++ < NAMED_MAX)
        ty_str_addf(&c->out->names, "%s%s", c->named > 1 ? ", " : "", path);
}

static int judge(const struct ty_listed *f, void *ctx)
{
    struct comparing *c = ctx;
    struct known *k = find(c->before, f->path);

    if (!k && c->added) {
        c->out->added++;
        name(c, f->path);
    }
    if (!k)
        return 0;
    k->seen = true;
    if (*f->mark ? strcmp(f->mark, k->f.mark) != 0
                 : k->f.bytes != f->bytes || k->f.mtime_us != f->mtime_us) {
        c->out->changed++;
        name(c, f->path);
    }
    return 0;
}

int ty_listing_compare_with(const char *file, int (*each)(ty_listed_fn fn, void *to, void *from),
                            void *from, bool added, struct ty_changes *ret)
{
    struct comparing c = { .out = ret, .added = added };
    int r;

    *ret = (struct ty_changes){ 0 };
    r = ty_listing_load(file, &c.before);
    if (r == 0)
        r = each(judge, &c, from);
    for (const struct known *k = c.before ? c.before->files : NULL; r == 0 && k; k = k->hh.next) {
        if (k->seen)
            continue;
        ret->gone++;
        name(&c, k->f.path);
    }
    ty_listing_forget(c.before);
    if (c.named > NAMED_MAX)
        ty_str_addf(&ret->names, " and %" PRIu64 " more", c.named - NAMED_MAX);
    if (r < 0)
        ty_str_done(&ret->names);
    return r;
}

struct folder {
    const char *dir;
    struct ty_error why;
};

static int each_of_folder(ty_listed_fn fn, void *to, void *from)
{
    struct folder *f = from;
    int r = ty_listing_walk(f->dir, fn, NULL, to, &f->why);

    return r == -ENOENT || r == -ENOTDIR ? 0 : r; /* all of it is gone */
}

int ty_listing_compare(const char *file, const char *dir, bool added, struct ty_changes *ret,
                       struct ty_error *err)
{
    struct folder f = { .dir = dir };
    int r = ty_listing_compare_with(file, each_of_folder, &f, added, ret);

    return r < 0 ? ty_error_set(err, r, "cannot look for changes in '%s': %s", dir,
                                f.why.code ? f.why.text : strerror(-r))
                 : 0;
}

char *ty_changes_text(const struct ty_changes *c, const char *datastore)
{
    uint64_t n = c->changed + c->gone + c->added;
    CLEANUP_STR struct ty_str text = { 0 };

    if (n == 0)
        return NULL;
    ty_str_addf(&text, "%" PRIu64 " file%s of datastore '%s' changed while the run was running", n,
                n == 1 ? "" : "s", datastore);
    if (c->gone > 0 || c->added > 0)
        ty_str_addf(&text, " (%" PRIu64 " changed, %" PRIu64 " gone, %" PRIu64 " new)", c->changed,
                    c->gone, c->added);
    ty_str_addf(&text, ": %s", c->names.text ? c->names.text : "");
    return ty_str_take(&text);
}

struct removed {
    const char *dir;
    struct ty_changes out;
    struct comparing c; /* for its names */
};

static int look_for(const struct ty_listed *f, void *ctx)
{
    struct removed *m = ctx;
    CLEANUP_FREE char *path = ty_path_join(m->dir, f->path);
    struct stat st;

    if (path && lstat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        m->out.gone++;
        name(&m->c, f->path);
    }
    return path ? 0 : -ENOMEM;
}

char *ty_listing_removed(const char *file, const char *dir, const char *datastore)
{
    struct removed m = { .dir = dir };
    char *text = NULL;

    m.c.out = &m.out;
    if (ty_listing_read(file, look_for, &m) == 0 && m.out.gone > 0)
        text =
            ty_strf("%" PRIu64 " file%s that the run has removed stay%s in datastore '%s': %s%s",
                    m.out.gone, m.out.gone == 1 ? "" : "s", m.out.gone == 1 ? "s" : "", datastore,
                    m.out.names.text ? m.out.names.text : "", m.c.named > NAMED_MAX ? ", ..." : "");
    ty_str_done(&m.out.names);
    return text;
}
