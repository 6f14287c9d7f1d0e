/* data_back.c - files of data references that come back from a host
 *
 * A record `data` of the runner names a file that the job has left in an upload, or made or changed in a mount.  It goes on to the daemon
 * when its file lies whole in the datastore's folder, below the reference's path and never outside, written as the job's owner.
 * Nothing is replaced, except with `overwrite`, or where a mount's file is still what the job was given.  The last record of a
 * reference has the data that were sent compared with what is there now.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "courier/courier_internal.h"
#include "data/datastore.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ty_data_landing {
    struct ty_courier *c;
    int ref;
    struct ty_datastore *store;
    struct ty_data_put *put;
    crypto_hash_sha256_state hash;
    char sha[TY_SHA256_HEX + 1];
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

/* The reference that a record is of; -1: none whose datastore is a folder here. */
static int ref_of(const struct ty_courier *c, const json_t *o)
{
    for (int i = 0; i < c->spec->ndata; i++)
        if (strcmp(c->spec->data[i].name, text_of(o, "ref")) == 0)
            return c->data.refs[i].root ? i : -1;
    return -1;
}

/* Where the file goes, below the datastore's root: a file that stands for the reference itself keeps that name. */
static char *target_of(const struct ty_courier *c, int ref, const json_t *o)
{
    const char *base = c->spec->data[ref].path, *path = text_of(o, "path"),
               *slash = strrchr(base, '/'), *last = slash ? slash + 1 : base;
    CLEANUP_FREE char *there = ty_path_join(c->data.refs[ref].root, base);
    struct stat st;

    if (!ty_path_is_inside(path) || !there || ty_listing_hides(path))
        return NULL;
    if (json_is_true(json_object_get(o, "file")) && *base && strcmp(last, path) == 0 &&
        (stat(there, &st) < 0 || !S_ISDIR(st.st_mode)))
        return strdup(base);
    return *base ? ty_path_join(base, path) : strdup(path);
}

static char *sentence(const struct ty_courier *c, int ref, const json_t *o, const char *why)
{
    const struct ty_data_ref *d = &c->spec->data[ref];

    return ty_strf("data reference '%s': '%s' was not brought back to datastore '%s': %s", d->name,
                   text_of(o, "path"), d->datastore, why);
}

/* The file that has that name already: 1 the same content, 0 another, -ENOENT. */
static int is_there(const struct ty_courier *c, int ref, const char *target, const json_t *o,
                    struct stat *st)
{
    CLEANUP_CLOSE int dir = open(c->data.refs[ref].root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int fd =
        dir < 0 ? -1 : ty_open_beneath(dir, target, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    char sha[TY_SHA256_HEX + 1];
    uint64_t bytes;

    if (fd < 0 || fstat(fd, st) < 0)
        return -ENOENT;
    if (!S_ISREG(st->st_mode) || st->st_size != json_integer_value(json_object_get(o, "bytes")))
        return 0;
    return ty_sha256_file(fd, sha, &bytes) == 0 && strcmp(sha, text_of(o, "sha256")) == 0;
}

/* Is a file of a mount still what was sent? */
static bool is_as_sent(struct ty_courier *c, int ref, const json_t *o, const struct stat *st)
{
    struct ty_far_data *d = &c->data.refs[ref];
    CLEANUP_FREE char *list = ty_strf("%s/data.%d", c->dir, ref);
    const struct ty_listed *f;

    if (!*text_of(o, "was") || !list || (!d->known && ty_listing_load(list, &d->known) < 0))
        return false;
    f = ty_listing_find(d->known, text_of(o, "path"));
    return f && f->bytes == (uint64_t)st->st_size && f->mtime_us == ty_time_us(st->st_mtim);
}

static int may_replace(struct ty_courier *c, int ref, const json_t *o, const struct stat *st)
{
    if (c->spec->data[ref].overwrite || is_as_sent(c, ref, o, st))
        return 0;
    return *text_of(o, "was") ? -ESTALE : -EEXIST;
}

/* --- a file --- */

static int judge(struct ty_courier *c, const json_t *o, char **target, bool *overwrite, char **why)
{
    int ref = ref_of(c, o), r;
    struct stat st;

    *target = ref < 0 ? NULL : target_of(c, ref, o);
    if (!*target) {
        *why = strdup("a file of a data reference was not brought back: it has no place here");
        return -EINVAL;
    }
    ty_owner_enter(c->owner);
    r = is_there(c, ref, *target, o, &st);
    ty_owner_leave(c->owner);
    *overwrite = r == 0;
    if (r != 0)
        return r == 1 ? 1 : 0;
    r = may_replace(c, ref, o, &st);
    if (r < 0)
        *why = sentence(c, ref, o,
                        r == -ESTALE ? "it was changed there while the run was running"
                                     : "there is another file of that name, and overwrite is not "
                                       "set");
    return r;
}

struct ty_data_landing *ty_data_land(struct ty_courier *c, const json_t *o, char **why)
{
    struct ty_data_landing *l = calloc(1, sizeof *l);
    CLEANUP_FREE char *target = NULL;
    struct ty_error err = { 0 };
    bool overwrite = false;
    int r = l ? judge(c, o, &target, &overwrite, why) : -ENOMEM;
    int ref = ref_of(c, o);

    if (r != 0) {
        free(l);
        return NULL;
    }
    l->c = c;
    l->ref = ref;
    snprintf(l->sha, sizeof l->sha, "%s", text_of(o, "sha256"));
    crypto_hash_sha256_init(&l->hash);
    ty_owner_enter(c->owner);
    r = ty_datastore_open(c->spec->data[ref].datastore, "file", c->data.refs[ref].root, &l->store,
                          &err);
    if (r == 0)
        r = ty_datastore_put(l->store, target, overwrite, &l->put, &err);
    ty_owner_leave(c->owner);
    if (r < 0) {
        *why = sentence(c, ref, o, err.code ? err.text : strerror(-r));
        ty_data_land_abort(l);
        return NULL;
    }
    return l;
}

void ty_data_land_abort(struct ty_data_landing *l)
{
    if (!l)
        return;
    ty_owner_enter(l->c->owner);
    ty_data_put_abort(l->put);
    ty_datastore_free(l->store);
    ty_owner_leave(l->c->owner);
    free(l);
}

static char *full_text(const struct ty_data_landing *l, const struct ty_error *err, int r)
{
    const struct ty_data_ref *d = &l->c->spec->data[l->ref];
    char room[16];

    if (r != -ENOSPC && r != -EDQUOT)
        return ty_strf("data reference '%s': %s", d->name, err->text);
    return ty_strf("data reference '%s': %s (%s are free there)", d->name, err->text,
                   ty_show_bytes(ty_fs_free_bytes(l->c->data.refs[l->ref].root), room));
}

int ty_data_land_write(struct ty_data_landing *l, const void *bytes, size_t n, char **why)
{
    struct ty_error err = { 0 };
    int r;

    crypto_hash_sha256_update(&l->hash, bytes, n);
    ty_owner_enter(l->c->owner);
    r = ty_data_put_write(l->put, bytes, n, &err);
    ty_owner_leave(l->c->owner);
    if (r < 0)
        *why = full_text(l, &err, r);
    return r;
}

int ty_data_land_end(struct ty_data_landing *l, char **why)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[TY_SHA256_HEX + 1];
    struct ty_error err = { 0 };
    int r;

    crypto_hash_sha256_final(&l->hash, sum);
    ty_sha_to_hex(sum, hex);
    if (strcmp(hex, l->sha) != 0) {
        *why = strdup("a file of a data reference was not brought back: what came is not what was "
                      "sent");
        ty_data_land_abort(l);
        return -EBADMSG;
    }
    ty_owner_enter(l->c->owner);
    r = ty_data_put_finish(TAKE(l->put), &err);
    ty_owner_leave(l->c->owner);
    if (r < 0)
        *why = full_text(l, &err, r);
    ty_data_land_abort(l);
    return r;
}

/* --- the end of a reference --- */

struct there {
    const struct ty_courier *c;
    const char *dir;
    struct ty_error err;
};

/* As the owner, as they were listed: root sees more, or on a network's file system less. */
static int each_there(ty_listed_fn fn, void *to, void *from)
{
    struct there *t = from;
    int r;

    ty_owner_enter(t->c->owner);
    r = ty_listing_walk(t->dir, fn, NULL, to, &t->err);
    ty_owner_leave(t->c->owner);
    return r == -ENOENT || r == -ENOTDIR ? 0 : r; /* all of it is gone */
}

static int compare(int out, void *ctx)
{
    struct ty_courier *c = ctx;
    int i = c->data.compare;
    const struct ty_data_ref *d = &c->spec->data[i];
    CLEANUP_FREE char *list = ty_strf("%s/data.%d", c->dir, i), *text = NULL, *whole = NULL;
    struct there there = { .c = c,
                           .dir = json_string_value(
                               json_array_get(json_object_get(c->job, "data_dirs"), (size_t)i)) };
    struct ty_changes changes = { 0 };
    int r;

    if (!list || access(list, F_OK) < 0)
        return 0;
    r = ty_listing_compare_with(list, each_there, &there, d->mode == TY_DATA_DOWNLOAD, &changes);
    if (r < 0)
        ty_log(TY_LOG_WARN, "data reference '%s': cannot look for changes in '%s': %s", d->name,
               there.dir, there.err.code ? there.err.text : strerror(-r));
    text = r < 0 ? NULL : ty_changes_text(&changes, d->datastore);
    whole = text ? ty_strf("data reference '%s': %s", d->name, text) : NULL;
    if (whole)
        ty_child_tell(out, "changes", whole);
    ty_str_done(&changes.names);
    return 0;
}

static int pass_end(struct ty_courier *c, int ref, char **warning)
{
    if (c->data.state == TY_DATA_COMPARED && c->data.compare == ref) {
        *warning = TAKE(c->data.changes);
        c->data.compare = -1;
        c->data.state = TY_DATA_GATHERED;
        return 0;
    }
    if (c->data.child.pid)
        return 1;
    c->data.compare = ref;
    ty_data_start(c, compare, TY_DATA_COMPARING);
    return 1;
}

int ty_data_pass(struct ty_courier *c, const json_t *o, char **warning)
{
    CLEANUP_FREE char *target = NULL;
    int ref = ref_of(c, o), r;
    bool overwrite;

    if (json_is_true(json_object_get(o, "end")))
        return ref < 0 ? 0 : pass_end(c, ref, warning);
    r = judge(c, o, &target, &overwrite, warning);
    return r == 1 || r < 0 ? 0 : 2;
}
