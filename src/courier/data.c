/* data.c - data references whose datastore is a folder of this machine
 *
 *   ATTACHED -> LOOK (the folders and their words) -> SEEN -> what a host sees it uses as it is;
 *   of the rest the files travel: listed and hashed once, by a child, then brought like all content
 *
 * A listing lies in the job folder, as data.<i>; hashes of files that have not changed since come from <home>/cache/stat.  Files are
 * read from their place, as the job's owner.  The other way is data_back.c.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "blob/statcache.h"
#include "courier/courier_internal.h"
#include "data/listing.h"
#include "data/progress.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 1000000 /* of one reference that travels */
#define LEFT_MAX 20       /* files left out that are named */

static const char *dir_of(const struct ty_courier *c, int i)
{
    return json_string_value(json_array_get(json_object_get(c->job, "data_dirs"), (size_t)i));
}

static char *list_of(const struct ty_courier *c, int i)
{
    return ty_strf("%s/data.%d", c->dir, i);
}

int ty_data_open(struct ty_courier *c)
{
    const json_t *access = json_object_get(c->job, "data_access");

    c->data.compare = -1;
    c->data.child = (struct ty_child)TY_CHILD_INIT;
    c->data.refs = calloc((size_t)c->spec->ndata + 1, sizeof *c->data.refs);
    if (!c->data.refs)
        return -ENOMEM;
    for (int i = 0; i < c->spec->ndata; i++) {
        struct ty_far_data *d = &c->data.refs[i];
        const char *dir = dir_of(c, i), *path = c->spec->data[i].path;
        size_t n = dir ? strlen(dir) : 0, m = *path ? strlen(path) + 1 : 0;

        if (!dir || dir[0] != '/' || n <= m || json_is_object(json_array_get(access, (size_t)i)))
            continue;
        d->root = strndup(dir, n - m);
        d->left = json_array();
        if (!d->root || !d->left)
            return -ENOMEM;
        if (ty_marker_token(d->root, d->token) < 0)
            d->token[0] = '\0';
        c->data.any = true;
    }
    return 0;
}

void ty_data_done(struct ty_courier *c)
{
    ty_child_kill(&c->data.child);
    for (int i = 0; c->data.refs && i < c->spec->ndata; i++) {
        struct ty_far_data *d = &c->data.refs[i];

        ty_content_done(&d->content);
        ty_listing_forget(d->known);
        json_decref(d->left);
        free(d->folder);
        free(d->root);
    }
    free(c->data.refs);
    free(c->data.failure);
    free(c->data.changes);
}

/* --- which folders a host sees --- */

json_t *ty_data_look(const struct ty_courier *c)
{
    json_t *folders = json_array();

    for (int i = 0; i < c->spec->ndata; i++)
        json_array_append_new(folders, json_pack("{s:s s:s}", "path",
                                                 c->data.refs[i].root ? c->data.refs[i].root : "",
                                                 "token", c->data.refs[i].token));
    return json_pack("{s:o}", "folders", folders);
}

int ty_data_seen(struct ty_courier_host *h, const json_t *answer)
{
    struct ty_courier *c = h->c;
    const json_t *seen = json_object_get(answer, "seen");

    if ((int)json_array_size(seen) != c->spec->ndata)
        return -EBADMSG;
    free(h->brings);
    h->brings = calloc((size_t)c->spec->ndata, sizeof *h->brings);
    if (!h->brings)
        return -ENOMEM;
    for (int i = 0; i < c->spec->ndata; i++) {
        h->brings[i] = c->data.refs[i].root && !json_is_true(json_array_get(seen, (size_t)i));
        if (h->brings[i] && c->spec->data[i].mode != TY_DATA_UPLOAD) {
            c->data.refs[i].wanted = true;
            h->waits_for_data = true;
        }
    }
    return 0;
}

/* --- listing and hashing, in a child --- */

struct gathering {
    struct ty_courier *c;
    int i, out;
    struct ty_statcache *known;
    struct ty_listing_out list;
    struct ty_progress progress;
    struct ty_error err;
    const char *dir;
    bool file;
    int left;
};

static void tell_progress(const char *text, void *ctx)
{
    ty_child_tell(((struct gathering *)ctx)->out, "note", text);
}

static int failed(struct gathering *g, const char *path, int r)
{
    const struct ty_data_ref *ref = &g->c->spec->data[g->i];

    return ty_error_set(&g->err, r, "data reference '%s': cannot read '%s' of datastore '%s': %s%s",
                        ref->name, path, ref->datastore, strerror(-r),
                        r == -ENOENT ? " (it has vanished while the data were listed, or is a link "
                                       "that leads nowhere)"
                                     : "");
}

static int hash(struct gathering *g, const struct ty_listed *f, char sha[TY_SHA256_HEX + 1])
{
    CLEANUP_FREE char *path = g->file ? strdup(g->dir) : ty_path_join(g->dir, f->path);
    CLEANUP_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    const char *found;
    struct stat st;
    uint64_t bytes;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0)
        return path ? failed(g, f->path, -errno) : -ENOMEM;
    found = ty_statcache_get(g->known, path, &st);
    if (found) {
        memcpy(sha, found, TY_SHA256_HEX + 1);
        return 0;
    }
    r = ty_sha256_file(fd, sha, &bytes);
    if (r < 0)
        return failed(g, f->path, r);
    if (bytes == f->bytes && (uint64_t)st.st_size == f->bytes)
        ty_statcache_put(g->known, path, &st, sha);
    return 0;
}

static int list_one(const struct ty_listed *f, void *ctx)
{
    struct gathering *g = ctx;
    struct ty_listed with = *f;
    char sha[TY_SHA256_HEX + 1];
    int r;

    if (g->list.files >= FILES_MAX)
        return ty_error_set(&g->err, -EFBIG,
                            "data reference '%s': '%s' has more than %d files, the most that are "
                            "brought to another machine; put the datastore on a file system that "
                            "its nodes share, or into an object store",
                            g->c->spec->data[g->i].name, g->dir, FILES_MAX);
    r = hash(g, f, sha);
    with.mark = sha;
    if (r == 0)
        r = ty_listing_add(&g->list, &with);
    ty_progress_tell(&g->progress, g->list.bytes, 0, g->list.files, 0);
    return r;
}

static int leave_out(const char *path, int why, void *ctx)
{
    struct gathering *g = ctx;
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_FREE char *text = NULL;

    if (why != -ELOOP && why != -ENOTSUP && why != -EILSEQ)
        return failed(g, path, why);
    if (g->left++ >= LEFT_MAX)
        return 0;
    text = ty_strf("'%s' is left out: %s", path,
                   why == -ELOOP    ? "it is a link to a folder"
                   : why == -EILSEQ ? "its name has control characters"
                                    : "it is not a regular file");
    o = text ? json_pack("{s:s s:i s:o}", "kind", "left", "ref", g->i, "text",
                         ty_lossy_text(text, strlen(text)))
             : NULL;
    return o ? ty_child_send(g->out, o) : -ENOMEM;
}

static int list_ref(struct gathering *g)
{
    const struct ty_data_ref *ref = &g->c->spec->data[g->i];
    CLEANUP_FREE char *path = list_of(g->c, g->i);
    CLEANUP_CLOSE int fd =
        path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    CLEANUP_JSON json_t *o = NULL;
    struct stat st;
    int r = fd < 0 ? -errno : ty_listing_begin(&g->list, fd);

    if (r < 0)
        return r;
    ty_owner_enter(g->c->owner);
    if (stat(g->dir, &st) < 0)
        r = -errno;
    else
        g->file = S_ISREG(st.st_mode);
    if (r == 0)
        r = ty_listing_walk(g->dir, list_one, leave_out, g, &g->err);
    else if (r == -ENOENT && ref->mode == TY_DATA_MOUNT)
        r = 0;
    else
        failed(g, ref->path, r);
    ty_owner_leave(g->c->owner);
    if (ty_listing_finish(&g->list) < 0 && r == 0)
        r = -EIO;
    o = json_pack("{s:s s:i s:b}", "kind", "listed", "ref", g->i, "file", (int)g->file);
    return r < 0 ? r : o ? ty_child_send(g->out, o) : -ENOMEM;
}

static char *stat_file(const struct ty_courier *c, const char *dir)
{
    const char *home = json_string_value(json_object_get(c->job, "home"));
    char sha[TY_SHA256_HEX + 1];

    ty_sha256_hex(dir, strlen(dir), sha);
    return home ? ty_strf("%s/cache/stat/data-%.16s", home, sha) : NULL;
}

static int gather(int out, void *ctx)
{
    struct ty_courier *c = ctx;
    int r = 0;

    for (int i = 0; r == 0 && i < c->spec->ndata; i++) {
        struct gathering g = { .c = c, .i = i, .out = out, .dir = dir_of(c, i) };
        CLEANUP_FREE char *file = stat_file(c, g.dir ? g.dir : "");

        if (!c->data.refs[i].wanted || c->data.refs[i].listed)
            continue;
        g.progress =
            (struct ty_progress){ .name = c->spec->data[i].name, .note = tell_progress, .ctx = &g };
        g.known = ty_statcache_load(file);
        r = g.known ? list_ref(&g) : -ENOMEM;
        if (g.known && file)
            ty_statcache_save(g.known, file);
        ty_statcache_free(g.known);
        if (r < 0)
            ty_child_tell(out, "failed", g.err.code ? g.err.text : strerror(-r));
    }
    return r;
}

/* --- what the child says --- */

static void listed(struct ty_courier *c, int i, bool file)
{
    struct ty_far_data *d = &c->data.refs[i];
    CLEANUP_FREE char *list = list_of(c, i);
    const char *dir = dir_of(c, i), *slash = strrchr(dir, '/');
    struct ty_error err = { 0 };

    d->file = file;
    d->listed = true;
    d->folder = file ? strndup(dir, (size_t)(slash - dir) + (slash == dir)) : strdup(dir);
    if (!d->folder || !list)
        c->data.failure = strdup("out of memory");
    else if (ty_content_open_listing(&d->content, list, d->folder, c->owner, &err) < 0 &&
             !c->data.failure)
        c->data.failure = strdup(err.text);
}

static void hear(json_t *line, void *ctx)
{
    struct ty_courier *c = ctx;
    const char *kind = json_string_value(json_object_get(line, "kind")),
               *text = json_string_value(json_object_get(line, "text"));
    int i = (int)json_integer_value(json_object_get(line, "ref"));

    if (!kind || i < 0 || i >= c->spec->ndata)
        return;
    if (strcmp(kind, "listed") == 0)
        listed(c, i, json_is_true(json_object_get(line, "file")));
    else if (text && strcmp(kind, "left") == 0)
        json_array_append_new(c->data.refs[i].left, json_string(text));
    else if (text && strcmp(kind, "note") == 0)
        ty_voice_note(c, text);
    else if (text && strcmp(kind, "failed") == 0 && !c->data.failure)
        c->data.failure = strdup(text);
    else if (text && strcmp(kind, "changes") == 0 && !c->data.changes)
        c->data.changes = strdup(text);
}

void ty_data_start(struct ty_courier *c, int (*fn)(int out, void *ctx), enum ty_data_state state)
{
    struct ty_error err = { 0 };

    c->data.state = state;
    if (ty_child_start(&c->data.child, fn, c, &err) < 0) {
        free(c->data.failure);
        c->data.failure = strdup(err.text);
    }
}

bool ty_data_ready(const struct ty_courier_host *h)
{
    const struct ty_courier *c = h->c;

    if (c->data.failure)
        return true;
    for (int i = 0; i < c->spec->ndata; i++)
        if (h->brings[i] && c->spec->data[i].mode != TY_DATA_UPLOAD && !c->data.refs[i].listed)
            return false;
    return true;
}

void ty_data_turn(struct ty_courier *c)
{
    bool wanted = false, broke = false;

    for (int i = 0; !c->data.child.pid && i < c->nhosts; i++)
        wanted |= c->hosts[i].state == TY_HOST_WAITING && !ty_data_ready(&c->hosts[i]);
    if (wanted)
        ty_data_start(c, gather, TY_DATA_GATHERING);
    if (c->data.child.pid && ty_child_read(&c->data.child, hear, c, &broke) < 0) {
        if (c->data.state == TY_DATA_GATHERING && broke && !c->data.failure)
            c->data.failure = strdup("the process that lists its data was killed");
    }
    if (c->data.child.pid)
        return;
    if (c->data.state == TY_DATA_GATHERING)
        c->data.state = TY_DATA_GATHERED;
    if (c->data.state == TY_DATA_COMPARING)
        c->data.state = TY_DATA_COMPARED;
}

int ty_data_poll(const struct ty_courier *c, struct pollfd *p)
{
    if (!c->data.child.pid)
        return 0;
    p[0] = (struct pollfd){ .fd = c->data.child.fd, .events = POLLIN };
    return 1;
}

/* --- for job.json --- */

json_t *ty_data_sent(const struct ty_courier_host *h)
{
    const struct ty_courier *c = h->c;
    json_t *list = json_array();

    for (int i = 0; i < c->spec->ndata; i++) {
        const struct ty_far_data *d = &c->data.refs[i];

        if (!h->brings || !h->brings[i])
            json_array_append_new(list, json_null());
        else
            json_array_append_new(list, json_pack("{s:s? s:b s:O}", "list",
                                                  d->content.n ? d->content.manifest : NULL, "file",
                                                  (int)d->file, "left", d->left));
    }
    return list;
}

/* Why an item cannot be sent. */
char *ty_data_why(const struct ty_courier *c, int ref, size_t item, int r)
{
    const struct ty_data_ref *d = &c->spec->data[ref];
    CLEANUP_FREE char *name = ty_content_name(&c->data.refs[ref].content, item);

    return ty_strf("data reference '%s': '%s' of datastore '%s' %s", d->name, name ? name : "?",
                   d->datastore,
                   r == -ESTALE   ? "was changed while the data were brought; submit again when it "
                                    "is not written any more"
                   : r == -ENOENT ? "has vanished while the data were brought"
                                  : strerror(-r));
}
