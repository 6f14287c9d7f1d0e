/* bring.c - data references in object stores: what there is, and what of it changes */
#include "data/bring.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "blob/blob.h"
#include "data/bring_internal.h"
#include "data/listing.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a store is, without who asks: hex digits, and for people. */
static int identify(const json_t *access, char ret[TY_BRING_ID + 1], char **about)
{
    static const char *const secret[] = { "access_key_id", "secret_access_key", "session_token",
                                          "account_key", "sas_token" };
    CLEANUP_JSON json_t *config = json_deep_copy(json_object_get(access, "config"));
    CLEANUP_FREE char *text = NULL, *whole = NULL;
    CLEANUP_JSON json_t *all = NULL;
    const char *kind = json_string_value(json_object_get(access, "kind"));
    char sha[TY_SHA256_HEX + 1];

    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
        json_object_del(config, secret[i]);
    text = config ? json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    whole = text ? ty_strf("%s %s", kind ? kind : "", text) : NULL;
    all = json_pack("{s:s? s:O?}", "kind", kind, "config", config);
    *about = all ? json_dumps(all, JSON_COMPACT) : NULL;
    if (!whole || !*about)
        return -ENOMEM;
    ty_sha256_hex(whole, strlen(whole), sha);
    memcpy(ret, sha, TY_BRING_ID);
    ret[TY_BRING_ID] = '\0';
    return 0;
}

int ty_bring_open(const struct ty_bring_options *o, struct ty_bring **ret, struct ty_error *err)
{
    struct ty_bring *b = calloc(1, sizeof *b);
    int r = b ? identify(o->access, b->id, &b->about) : -ENOMEM;

    if (r < 0) {
        ty_bring_close(b);
        return ty_error_oom(err);
    }
    b->o = *o;
    b->progress = (struct ty_progress){ .name = o->ref->name, .note = o->note, .ctx = o->ctx };
    r = ty_object_open(o->access, &b->store, err);
    if (r == 0)
        r = ty_http_new(TY_MOVE_PARALLEL, &b->http, err);
    if (r < 0) {
        ty_bring_close(b);
        return ty_error_prefix(err, "data reference '%s'", o->ref->name);
    }
    *ret = b;
    return 0;
}

struct ty_bring *ty_bring_close(struct ty_bring *b)
{
    if (b) {
        ty_http_free(b->http);
        ty_object_close(b->store);
        free(b->about);
        free(b);
    }
    return NULL;
}

void ty_bring_warn(const struct ty_bring *b, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    ty_str_addf(&text, "data reference '%s': ", b->o.ref->name);
    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    if (!text.failed && b->o.warn)
        b->o.warn(text.text, b->o.ctx);
}

/* --- the listing --- */

static void add_hex(struct ty_str *s, bool has, const uint8_t *md5)
{
    for (size_t i = 0; has && i < TY_MD5_BYTES; i++)
        ty_str_addf(s, "%02x", md5[i]);
    ty_str_add(s, has ? " " : "- ");
}

/* All that a later download wants to know of it: "md5 parts_md5 part_bytes etag". */
static int mark_of(const struct ty_object *o, struct ty_str *s)
{
    add_hex(s, o->has_md5, o->md5);
    add_hex(s, o->has_parts_md5, o->parts_md5);
    ty_str_addf(s, "%" PRIu64 " %s", o->part_bytes, o->etag);
    return s->failed ? -ENOMEM : 0;
}

static bool get_hex(const char **at, uint8_t *md5)
{
    const char *p = *at;
    unsigned byte;
    int n = 0;

    if (*p == '-') {
        *at = p[1] ? p + 2 : p + 1;
        return false;
    }
    for (size_t i = 0; i < TY_MD5_BYTES; i++, p += 2) {
        if (sscanf(p, "%2x%n", &byte, &n) != 1 || n != 2)
            return false;
        md5[i] = (uint8_t)byte;
    }
    *at = *p ? p + 1 : p;
    return true;
}

void ty_bring_object(const struct ty_listed *f, struct ty_object *o)
{
    const char *at = f->mark;
    char *end;

    *o = (struct ty_object){
        .path = f->path, .bytes = f->bytes, .modified_us = f->mtime_us, .etag = ""
    };
    if (!*at)
        return;
    o->has_md5 = get_hex(&at, o->md5);
    o->has_parts_md5 = get_hex(&at, o->parts_md5);
    o->part_bytes = strtoull(at, &end, 10);
    o->etag = *end ? end + 1 : "";
}

const char *ty_bring_below(const struct ty_bring *b, const char *path)
{
    size_t n = strlen(b->o.ref->path);

    if (n == 0)
        return path;
    return strncmp(path, b->o.ref->path, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

struct listing {
    struct ty_bring *b;
    ty_listed_fn fn;
    void *ctx;
    bool file;
    uint64_t odd;
};

static int on_object(const struct ty_object *o, void *ctx)
{
    struct listing *l = ctx;
    const char *slash = strrchr(o->path, '/'),
               *rel = l->file ? slash ? slash + 1 : o->path : ty_bring_below(l->b, o->path);
    CLEANUP_STR struct ty_str mark = { 0 };
    struct ty_listed f = { .bytes = o->bytes, .mtime_us = o->modified_us, .mode = 0644 };
    size_t n = strlen(o->path);

    if (l->file && strcmp(o->path, l->b->o.ref->path) != 0)
        return 0;
    if (n > 0 && o->path[n - 1] == '/') /* what other tools leave to stand for a folder */
        return 0;
    if (!rel || ty_listing_hides(rel))
        return 0;
    if (!ty_path_is_inside(rel)) {
        if (l->odd++ == 0)
            ty_bring_warn(l->b,
                          "an object of datastore '%s' is left out: its name cannot be that of a "
                          "file",
                          l->b->o.ref->datastore);
        return 0;
    }
    if (mark_of(o, &mark) < 0)
        return -ENOMEM;
    f.path = rel;
    f.mark = mark.text;
    return l->fn(&f, l->ctx);
}

/* Every object of the reference, with its path below it. */
static int each(struct ty_bring *b, bool file, ty_listed_fn fn, void *ctx, struct ty_error *err)
{
    struct listing l = { .b = b, .fn = fn, .ctx = ctx, .file = file };
    const char *path = b->o.ref->path;
    CLEANUP_FREE char *prefix = ty_strf("%s%s", path, *path && !file ? "/" : "");

    if (!prefix)
        return ty_error_oom(err);
    return ty_object_list(b->store, b->http, prefix, on_object, &l, err);
}

static int add(const struct ty_listed *f, void *ctx)
{
    struct ty_bring *b = ctx;

    b->files_all++;
    b->bytes_all += f->bytes;
    return ty_listing_add(&b->list, f);
}

int ty_bring_list(struct ty_bring *b, bool *file, uint64_t *files, struct ty_error *err)
{
    CLEANUP_CLOSE int fd =
        open(b->o.listing, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct ty_error why = { 0 };
    int r = fd < 0 ? -errno : ty_listing_begin(&b->list, fd), finished;

    b->files_all = b->bytes_all = 0;
    *file = false;
    if (r == 0)
        r = each(b, false, add, b, &why);
    if (r == 0 && b->files_all == 0 && *b->o.ref->path) {
        r = each(b, true, add, b, &why);
        *file = b->files_all == 1;
    }
    finished = ty_listing_finish(&b->list);
    if (r == 0)
        r = finished;
    if (r < 0)
        return ty_error_set(err, r, "data reference '%s': %s", b->o.ref->name,
                            why.code ? why.text : strerror(-r));
    b->file = *file;
    *files = b->files_all;
    return 0;
}

/* --- what changes --- */

struct source {
    struct ty_bring *b;
    bool file;
    struct ty_error err;
};

static int each_of_store(ty_listed_fn fn, void *to, void *from)
{
    struct source *s = from;

    return each(s->b, s->file, fn, to, &s->err);
}

static int count(const struct ty_listed *f, void *ctx)
{
    struct ty_bring *b = ctx;

    /* A reference that is one object is listed with its own name. */
    b->files_all++;
    b->file = b->files_all == 1 && ty_ends_with(b->o.ref->path, f->path) &&
              (strlen(b->o.ref->path) == strlen(f->path) ||
               b->o.ref->path[strlen(b->o.ref->path) - strlen(f->path) - 1] == '/');
    return 0;
}

int ty_bring_compare(struct ty_bring *b, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    struct source s = { .b = b };
    struct ty_changes c = { 0 };
    int r;

    b->files_all = 0;
    r = ty_listing_read(b->o.listing, count, b);
    if (r < 0 || b->files_all > TY_LISTING_WATCHED_MAX)
        return r == -ENOENT ? 0 : r;
    s.file = b->file;
    r = ty_listing_compare_with(b->o.listing, each_of_store, &s, b->o.ref->mode == TY_DATA_DOWNLOAD,
                                &c);
    if (r < 0)
        return ty_error_set(err, r, "data reference '%s': cannot look for changes: %s",
                            b->o.ref->name, s.err.code ? s.err.text : strerror(-r));
    text = ty_changes_text(&c, b->o.ref->datastore);
    if (text)
        ty_bring_warn(b, "%s", text);
    ty_str_done(&c.names);
    return 0;
}
