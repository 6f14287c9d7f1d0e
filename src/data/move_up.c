/* move_up.c - what a file needs on its way into a store
 *
 *   asked for (HEAD), unless a listing has said what is there
 *   the same size is there: compared, by hashing the file
 *   small: hashed, sent with its MD5
 *   large: an unfinished upload is looked for, its parts are listed, else one is begun; each part is hashed, and
 *   sent unless the store has it with this MD5; then the upload is finished
 *
 * A large file is looked at before its upload is finished: what was written meanwhile makes the parts a mixture.
 */
#include "base/fault.h"
#include "base/fs.h"
#include "data/move_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum phase {
    ASK,     /* HEAD is to be sent */
    COMPARE, /* all parts are to be hashed */
    PUT,
    FIND,
    LIST,
    ABANDON,
    BEGIN,
    PARTS,
    FINISH,
    VERIFY, /* the end's answer was lost, or somebody was quicker: what is there now? */
    WAIT,   /* for the answer to what was asked */
    END
};

static int fail_there(struct ty_mover *v, struct ty_moving *w, const char *why,
                      struct ty_error *err)
{
    return ty_moving_fail(v, w, -EEXIST, err,
                          "there is another '%s' in %s already (%s), and overwrite is not set",
                          w->f->path, v->store->where, why);
}

static int fail_changed(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    struct stat st;

    if (fstat(w->fd, &st) == 0 && st.st_size < w->st.st_size)
        return ty_moving_fail(
            v, w, -ENODATA, err,
            "the file became shorter while it was sent (%lld of %lld bytes are left): send it "
            "again when nobody writes it",
            (long long)st.st_size, (long long)w->st.st_size);
    return ty_moving_fail(
        v, w, -EBUSY, err,
        "the file was changed while it was sent: send it again when nobody writes it");
}

static bool has_changed(const struct ty_moving *w)
{
    struct stat st;

    return fstat(w->fd, &st) < 0 || st.st_size != w->st.st_size ||
           st.st_mtim.tv_sec != w->st.st_mtim.tv_sec || st.st_mtim.tv_nsec != w->st.st_mtim.tv_nsec;
}

/* Into memory, so that what is hashed is what is sent. */
static int read_small(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    ssize_t n;

    w->content = malloc(w->bytes ? w->bytes : 1);
    if (!w->content)
        return ty_error_oom(err);
    n = ty_read_full(w->fd, w->content, w->bytes);
    if (n < 0)
        return ty_moving_fail(v, w, (int)n, err, "it cannot be read: %s", strerror((int)-n));
    if ((uint64_t)n < w->bytes)
        return fail_changed(v, w, err);
    ty_md5(w->content, w->bytes, w->parts[0].md5);
    w->parts[0].state = PART_HASHED;
    w->next_hash = 1;
    return 0;
}

static void send(struct ty_mover *v, struct ty_moving *w)
{
    if (w->bytes <= v->kind->part_bytes)
        w->phase = PUT;
    else
        w->phase = v->kind->uploads ? FIND : LIST;
    w->what = TY_MOVE_MOVED;
}

/* What is there is known: is it the same, is it in the way? */
static int decide(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    uint64_t cut;

    if (w->known.how == KNOWN_ABSENT) {
        send(v, w);
        return 0;
    }
    if (w->known.o.bytes != w->bytes) {
        if (!v->m->overwrite)
            return fail_there(v, w, "of another size", err);
        send(v, w);
        return 0;
    }
    if (!ty_object_can_compare(&w->known.o, &cut) || (cut && cut != w->part_bytes)) {
        if (w->known.how == KNOWN_LISTED)
            w->phase = ASK; /* a listing says less */
        else if (!v->m->overwrite)
            return fail_there(v, w, "of the same size, but its content cannot be compared", err);
        else
            send(v, w);
        return 0;
    }
    if (!cut && w->nparts > 1 && !w->want_whole) {
        w->want_whole = true;
        if (w->next_hash > 0 && ty_moving_cut(v, w, w->part_bytes, err) < 0)
            return err->code;
    }
    w->phase = COMPARE;
    return 0;
}

/* Nothing of ours is there: what the end said counts. */
static int not_ours(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    if (w->code == 0)
        return fail_there(v, w, "it came while this one was sent", err);
    return ty_error_set(err, w->code, "%s", w->why ? w->why : "");
}

static int ours(struct ty_moving *w)
{
    w->code = 0;
    w->what = TY_MOVE_MOVED;
    w->counted = w->bytes;
    w->phase = END;
    return 0;
}

static int compared(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    bool same = ty_moving_is(w, &w->known.o);

    if (w->verifying)
        return same ? ours(w) : not_ours(v, w, err);
    if (same) {
        w->what = TY_MOVE_WAS_THERE;
        w->phase = END;
        return 0;
    }
    if (!v->m->overwrite && w->known.how == KNOWN_LISTED) {
        w->phase = ASK; /* the ETag of a listing is no MD5 where a KMS encrypts */
        return 0;
    }
    if (!v->m->overwrite)
        return fail_there(v, w, "of the same size, with another content", err);
    send(v, w);
    return 0;
}

static int up_open(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    int r;

    w->fd = FAULT("move.open", -1, open(w->f->local, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (w->fd < 0)
        return ty_moving_fail(v, w, -errno, err, "it cannot be opened: %m");
    if (fstat(w->fd, &w->st) < 0)
        return ty_moving_fail(v, w, -errno, err, "%m");
    if (!S_ISREG(w->st.st_mode))
        return ty_moving_fail(v, w, S_ISDIR(w->st.st_mode) ? -EISDIR : -EINVAL, err, "it is %s",
                              S_ISDIR(w->st.st_mode) ? "a folder" : "no regular file");
    w->bytes = (uint64_t)w->st.st_size;
    w->want_whole = v->kind->whole_md5;
    r = ty_moving_cut(v, w, w->bytes <= v->kind->part_bytes ? v->kind->part_bytes : 0, err);
    if (r < 0)
        return r;
    w->phase = ASK;
    return w->known.how == KNOWN_NOT ? 0 : decide(v, w, err);
}

/* ---- what comes next ---- */

static int ask(struct ty_moving *w, struct ty_slot *s, enum ty_op op)
{
    if (!s)
        return 0;
    s->op = op;
    w->phase = WAIT;
    return 1;
}

static int next_part(struct ty_mover *v, struct ty_moving *w, struct ty_slot *s,
                     struct ty_error *err)
{
    int r = ty_moving_hash(v, w, TY_MOVE_AHEAD, err);

    for (unsigned i = 0; i < w->next_hash && r == 0; i++) {
        struct ty_part *p = &w->parts[i];

        if (p->state != PART_HASHED)
            continue;
        if (p->there && memcmp(p->md5, p->there_md5, TY_MD5_BYTES) == 0) {
            p->state = PART_DONE;
            w->ahead--;
            w->done_parts++;
            w->counted += ty_part_bytes_of(w, i);
            r = ty_moving_hash(v, w, TY_MOVE_AHEAD, err);
        } else if (s) {
            p->state = PART_GOING;
            w->ahead--;
            s->op = OP_PART;
            s->part = i;
            return 1;
        }
    }
    if (r < 0 || w->done_parts < w->nparts)
        return r;
    if (has_changed(w))
        return fail_changed(v, w, err);
    w->phase = FINISH;
    return ask(w, s, OP_FINISH);
}

static int next_put(struct ty_mover *v, struct ty_moving *w, struct ty_slot *s,
                    struct ty_error *err)
{
    int r = 0;

    if (w->bytes <= TY_MOVE_SMALL && !w->content)
        r = read_small(v, w, err);
    else if (w->bytes > TY_MOVE_SMALL)
        r = ty_moving_hash(v, w, 1, err);
    if (r < 0 || w->parts[0].state != PART_HASHED)
        return r;
    if (has_changed(w) && !w->content)
        return fail_changed(v, w, err);
    return ask(w, s, OP_PUT);
}

static int up_next(struct ty_mover *v, struct ty_moving *w, struct ty_slot *s, struct ty_error *err)
{
    int r;

    switch ((enum phase)w->phase) {
    case ASK:
        return ask(w, s, OP_HEAD);
    case COMPARE:
        r = ty_moving_hash(v, w, UINT32_MAX, err);
        if (r < 0 || w->hashing > 0 || w->next_hash < w->nparts)
            return r;
        r = compared(v, w, err);
        return r < 0 ? r : w->phase == COMPARE ? 0 : up_next(v, w, s, err);
    case PUT:
        return next_put(v, w, s, err);
    case FIND:
        return ask(w, s, OP_FIND);
    case LIST:
        return ask(w, s, OP_PARTS);
    case ABANDON:
        return ask(w, s, OP_ABANDON);
    case BEGIN:
        return ask(w, s, OP_BEGIN);
    case PARTS:
        return next_part(v, w, s, err);
    case FINISH:
        return ask(w, s, OP_FINISH);
    case VERIFY:
        w->verifying = true;
        return ask(w, s, OP_HEAD);
    case END:
        return 2;
    default:
        return 0;
    }
}

/* Kinds whose uploads have no name know it as "". */
static const char *upload_of(const struct ty_moving *w)
{
    return w->upload ? w->upload : "";
}

static int up_build(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    const struct ty_object_kind *k = v->kind;
    struct ty_moving *w = s->w;
    struct ty_part *p = &w->parts[s->part];
    struct ty_object_content c = { .bytes = w->bytes,
                                   .overwrite = v->m->overwrite,
                                   .part_bytes = w->part_bytes };
    struct ty_object_part part = { .number = s->part + 1,
                                   .bytes = ty_part_bytes_of(w, s->part),
                                   .has_md5 = true };

    switch (s->op) {
    case OP_HEAD:
        return k->head(v->store, &s->r, w->f->path, err);
    case OP_PUT:
        c.md5 = p->md5;
        s->r.body_bytes = w->bytes;
        s->r.body_fd = w->fd;
        if (w->content && !(s->r.body = malloc(w->bytes ? w->bytes : 1)))
            return ty_error_oom(err);
        if (w->content && w->bytes)
            memcpy(s->r.body, w->content, w->bytes);
        return k->put(v->store, &s->r, w->f->path, &c, err);
    case OP_FIND:
        return k->uploads(v->store, &s->r, w->f->path, err);
    case OP_PARTS:
        return k->parts(v->store, &s->r, w->f->path, upload_of(w), w->marker, err);
    case OP_ABANDON:
        return k->abandon(v->store, &s->r, w->f->path, upload_of(w), err);
    case OP_BEGIN:
        return k->begin(v->store, &s->r, w->f->path, &c, err);
    case OP_PART:
        memcpy(part.md5, p->md5, sizeof part.md5);
        s->r.body_fd = w->fd;
        s->r.body_offset = (uint64_t)s->part * w->part_bytes;
        s->r.body_bytes = part.bytes;
        return k->part(v->store, &s->r, w->f->path, upload_of(w), &part, err);
    default:
        return -EINVAL;
    }
}

static int build_finish(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    struct ty_object_part *parts = calloc(w->nparts, sizeof *parts);
    struct ty_object_content c = { .bytes = w->bytes,
                                   .overwrite = v->m->overwrite,
                                   .part_bytes = w->part_bytes,
                                   .md5 = w->want_whole ? w->whole_md5 : NULL };
    int r;

    if (!parts)
        return ty_error_oom(err);
    for (unsigned i = 0; i < w->nparts; i++) {
        parts[i] = (struct ty_object_part){ .number = i + 1,
                                            .bytes = ty_part_bytes_of(w, i),
                                            .has_md5 = true,
                                            .etag = w->parts[i].etag ? w->parts[i].etag : "" };
        memcpy(parts[i].md5, w->parts[i].md5, TY_MD5_BYTES);
    }
    r = v->kind->finish(v->store, &s->r, w->f->path, upload_of(w), parts, w->nparts, &c, err);
    free(parts);
    return r;
}

static int up_build_any(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    return s->op == OP_FINISH ? build_finish(v, s, err) : up_build(v, s, err);
}

/* ---- answers ---- */

/* The object is ours now. */
static int landed(struct ty_mover *v, struct ty_moving *w, const struct ty_http_req *r)
{
    struct ty_object o;

    v->kind->about(v->store, r, &o);
    o.bytes = w->bytes;
    o.has_md5 = w->nparts == 1 || w->want_whole;
    memcpy(o.md5, w->nparts == 1 ? w->parts[0].md5 : w->whole_md5, TY_MD5_BYTES);
    w->counted = w->bytes;
    w->phase = END;
    return ty_known_set(&w->known, &o, KNOWN_ASKED);
}

static int verify(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    if (ty_moving_is(w, &w->known.o))
        return ours(w);
    if (!w->known.o.has_md5 || w->want_whole || w->nparts == 1)
        return not_ours(v, w, err);
    w->want_whole = true; /* a store that knows the sum of the whole */
    w->phase = COMPARE;
    return ty_moving_cut(v, w, w->part_bytes, err);
}

static int heard_head(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    struct ty_object o;

    if (code < 0 && w->verifying)
        return w->code < 0 ? not_ours(v, w, err) : code;
    if (code == -ENOENT ||
        code == -EACCES) { /* or we may not know: If-None-Match guards what is there */
        w->known.how = KNOWN_ABSENT;
        send(v, w);
        return 0;
    }
    if (code < 0)
        return code;
    v->kind->about(v->store, &s->r, &o);
    if (ty_known_set(&w->known, &o, KNOWN_ASKED) < 0)
        return ty_error_oom(err);
    return w->verifying ? verify(v, w, err) : decide(v, w, err);
}

/* The store says that what came is not what was meant: is it because the file has changed? */
static int mismatch(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    return has_changed(w) ? fail_changed(v, w, err) : 1;
}

static int heard_put(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    struct ty_object o;

    if (code == -ENODATA)
        return fail_changed(v, w, err);
    if (code == -EBADMSG)
        return mismatch(v, w, err);
    if (code == -EEXIST) {
        w->phase = VERIFY;
        return 0;
    }
    if (code < 0)
        return code;
    v->kind->about(v->store, &s->r, &o);
    if (o.has_md5 && memcmp(o.md5, w->parts[0].md5, TY_MD5_BYTES) != 0)
        return mismatch(v, w, err);
    return landed(v, w, &s->r) < 0 ? ty_error_oom(err) : 0;
}

static int heard_find(struct ty_mover *v, struct ty_slot *s, int code)
{
    struct ty_moving *w = s->w;

    free(w->upload);
    w->upload = NULL;
    /* Who may not list unfinished uploads, or whose store does not know how, begins anew. */
    if (code == 0)
        v->kind->found(v->store, &s->r, w->f->path, &w->upload, NULL);
    w->phase = w->upload ? LIST : BEGIN;
    return 0;
}

static int take_part(const struct ty_object_part *p, void *ctx)
{
    struct ty_moving *w = ctx;
    struct ty_part *mine = p->number <= w->nparts ? &w->parts[p->number - 1] : NULL;

    if (!mine || p->bytes != ty_part_bytes_of(w, p->number - 1)) {
        w->misfit = true;
        return 0;
    }
    if (!p->has_md5)
        return 0;
    free(mine->etag);
    mine->etag = strdup(p->etag);
    if (!mine->etag)
        return -ENOMEM;
    memcpy(mine->there_md5, p->md5, TY_MD5_BYTES);
    mine->there = true;
    return 0;
}

static void forget_parts(struct ty_moving *w)
{
    for (unsigned i = 0; i < w->nparts; i++)
        w->parts[i].there = false;
    w->misfit = false;
}

static int heard_parts(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    char *next = NULL;

    if (code == 0)
        code = v->kind->parts_listed(v->store, &s->r, take_part, w, &next, err);
    if (code == -ENOMEM)
        return code;
    free(w->marker);
    w->marker = code == 0 ? next : NULL;
    if (w->marker)
        w->phase = LIST;
    else if (v->kind->begin == NULL)
        w->phase = PARTS; /* each part that fits is what it says */
    else if (code < 0 || w->misfit) {
        forget_parts(w);
        w->phase = w->misfit && v->kind->abandon ? ABANDON : BEGIN;
    } else
        w->phase = PARTS;
    return 0;
}

/* The upload has gone under our hands: once more from its start. */
static int restart(struct ty_moving *w, int code)
{
    if (w->restarts++ > 0)
        return code;
    forget_parts(w);
    for (unsigned i = 0; i < w->nparts; i++)
        if (w->parts[i].state == PART_DONE) {
            w->parts[i].state = PART_HASHED;
            w->ahead++;
        }
    w->done_parts = 0;
    w->counted = 0;
    free(w->upload);
    w->upload = NULL;
    return 0;
}

static int heard_part(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    struct ty_part *p = &w->parts[s->part];
    struct ty_object_part told = { 0 };

    if (code == -ENODATA)
        return fail_changed(v, w, err);
    if (code == -EBADMSG)
        return mismatch(v, w, err);
    if (code < 0)
        return code;
    v->kind->sent(v->store, &s->r, &told);
    if (told.has_md5 && memcmp(told.md5, p->md5, TY_MD5_BYTES) != 0)
        return mismatch(v, w, err);
    free(p->etag);
    p->etag = strdup(told.etag ? told.etag : "");
    if (!p->etag)
        return ty_error_oom(err);
    p->state = PART_DONE;
    w->done_parts++;
    w->counted += ty_part_bytes_of(w, s->part);
    return 0;
}

static int heard_finish(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;

    if (code == -EEXIST ||
        (code < 0 && s->tries > 1)) { /* the answer to the first try may have been lost */
        if (code != -EEXIST) {
            w->code = code;
            free(w->why);
            w->why = strdup(err->text);
        }
        w->phase = VERIFY;
        return 0;
    }
    if (code == -ENOENT || code == -ESTALE) {
        code = restart(w, code);
        if (code == 0)
            w->phase = v->kind->begin ? BEGIN : PARTS;
        return code;
    }
    if (code < 0)
        return code;
    return landed(v, w, &s->r) < 0 ? ty_error_oom(err) : 0;
}

static int up_answer(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;

    switch (s->op) {
    case OP_HEAD:
        return heard_head(v, s, code, err);
    case OP_PUT:
        return heard_put(v, s, code, err);
    case OP_FIND:
        return heard_find(v, s, code);
    case OP_PARTS:
        return heard_parts(v, s, code, err);
    case OP_ABANDON:
        free(w->upload);
        w->upload = NULL;
        w->phase = BEGIN;
        return 0;
    case OP_BEGIN:
        if (code == 0)
            code = v->kind->begun(v->store, &s->r, &w->upload, err);
        w->phase = PARTS;
        return code;
    case OP_PART:
        return heard_part(v, s, code, err);
    default:
        return heard_finish(v, s, code, err);
    }
}

static int up_hashed(struct ty_mover *v, struct ty_moving *w, struct ty_hash_job *j,
                     struct ty_error *err)
{
    if (j->result == -ENODATA)
        return fail_changed(v, w, err);
    return ty_moving_fail(v, w, j->result, err, "it cannot be read: %s", strerror(-j->result));
}

static void up_close(struct ty_mover *v, struct ty_moving *w)
{
    (void)v;
    if (w->fd >= 0)
        close(w->fd);
}

const struct ty_way ty_way_up = {
    .doing = "upload",
    .open = up_open,
    .next = up_next,
    .build = up_build_any,
    .answer = up_answer,
    .hashed = up_hashed,
    .close = up_close,
};
