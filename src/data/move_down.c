/* move_down.c - what an object needs on its way to a file
 *
 *   asked for (HEAD), unless a listing has said enough
 *   a file of the same size is there: compared, by hashing it
 *   small: fetched into memory or a part file, hashed
 *   large: parts are fetched into ".NAME.trainyard-part", those that are whole are noted in ".NAME.trainyard-part.state"; hashed
 *   then the part file gets the file's name
 *
 * All parts ask for the same ETag.  An object that changes meanwhile, and content that is not what its MD5
 * says, are fetched once more from the start.  The part file is locked: two processes do not write one.
 */
#include "base/fault.h"
#include "base/fs.h"
#include "data/move_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#define STATE_MAX (1 << 20)
#define PART_MIN \
    (1ull << 20) /* parts that an object came in are ours too when they are of a handy size */
#define PART_MOST (64ull << 20)

enum phase { ASK, COMPARE, PREPARE, GET, CHECK, PARTS, WAIT, END };

static int fail_there(struct ty_mover *v, struct ty_moving *w, const char *why,
                      struct ty_error *err)
{
    return ty_moving_fail(v, w, -EEXIST, err,
                          "there is another file '%s' already (%s), and overwrite is not set",
                          w->f->local, why);
}

static int fail_local(struct ty_mover *v, struct ty_moving *w, int code, struct ty_error *err)
{
    char shown[16];

    if (code == -ENOSPC)
        return ty_moving_fail(v, w, code, err,
                              "there is no space for '%s': %s are needed, %s are free", w->f->local,
                              ty_show_bytes(w->bytes, shown),
                              ty_show_bytes(ty_fs_free_bytes(w->f->local), (char[16]){ 0 }));
    return ty_moving_fail(v, w, code, err, "'%s' cannot be written: %s", w->f->local,
                          strerror(-code));
}

/* ---- the part file ---- */

static int name_parts(struct ty_moving *w)
{
    const char *slash = strrchr(w->f->local, '/'), *name = slash ? slash + 1 : w->f->local;
    char hex[TY_MD5_HEX + 1];
    uint8_t sum[TY_MD5_BYTES];

    if (strlen(name) > 220) { /* the longer name would be too long */
        ty_md5(name, strlen(name), sum);
        name = ty_md5_hex(sum, hex);
    }
    w->part_path = ty_strf("%.*s.%s.trainyard-part", slash ? (int)(slash + 1 - w->f->local) : 0,
                           w->f->local, name);
    w->state_path = w->part_path ? ty_strf("%s.state", w->part_path) : NULL;
    return w->state_path ? 0 : -ENOMEM;
}

/* What an earlier process has left of it goes.  A new one is left alone: ext4 writes a file that was cut to nothing to the disk
 * when it is closed, and waits for it. */
static int empty(struct ty_moving *w)
{
    if (w->st.st_size > 0 && ftruncate(w->fd, 0) < 0)
        return -errno;
    w->st.st_size = 0;
    return 0;
}

/* Open and lock it (w->st is what it was); the lock counts only for the file that has the name still. */
static int open_part(struct ty_moving *w)
{
    struct stat b;
    int r = name_parts(w);

    if (r < 0)
        return r;
    for (int made = 0, tries = 0; tries < 10; tries++) {
        w->fd = FAULT("move.part", -1,
                      open(w->part_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
        if (w->fd < 0 && errno == ENOENT && !made++) {
            r = ty_mkdir_parent(w->part_path, 0777);
            if (r < 0)
                return r;
            continue;
        }
        if (w->fd < 0)
            return -errno;
        if (flock(w->fd, LOCK_EX | LOCK_NB) < 0) { /* it is not ours to remove */
            r = errno == EWOULDBLOCK ? -EBUSY : -errno;
            close(w->fd);
            w->fd = -1;
            return r;
        }
        if (fstat(w->fd, &w->st) == 0 && stat(w->part_path, &b) == 0 && w->st.st_ino == b.st_ino &&
            w->st.st_dev == b.st_dev)
            return 0;
        close(w->fd);
        w->fd = -1;
    }
    return -EBUSY;
}

/* "trainyard-part 1 BYTES PART_BYTES ETAG", then the number of each part that is whole. */
static char *state_head(const struct ty_moving *w)
{
    return ty_strf("trainyard-part 1 %llu %llu %s\n", (unsigned long long)w->bytes,
                   (unsigned long long)w->part_bytes, w->known.o.etag);
}

static void take_state(struct ty_moving *w)
{
    CLEANUP_FREE char *head = state_head(w), *text = NULL;
    char *line, *rest;
    int64_t n;

    if (!head || !*w->known.o.etag || ty_read_foreign(w->state_path, STATE_MAX, &text, NULL) < 0 ||
        !ty_starts_with(text, head) || fstat(w->fd, &w->st) < 0 ||
        (uint64_t)w->st.st_size != w->bytes)
        return;
    rest = text + strlen(head);
    while ((line = strsep(&rest, "\n")) && rest) /* a line without its end was not written whole */
        if (ty_parse_i64(line, &n) == 0 && n >= 0 && n < w->nparts && !w->parts[n].there) {
            w->parts[n].there = w->resumed = true;
            w->counted += ty_part_bytes_of(w, (unsigned)n);
            w->done_parts++;
        }
}

static int open_state(struct ty_moving *w)
{
    CLEANUP_FREE char *head = state_head(w);

    if (!head)
        return -ENOMEM;
    w->state_fd = open(
        w->state_path,
        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (w->resumed ? 0 : O_TRUNC), 0666);
    if (w->state_fd < 0)
        return -errno;
    /* A number that was not written whole is ended, and does not become another one. */
    return w->resumed ? ty_write_all(w->state_fd, "\n", 1)
                      : ty_write_all(w->state_fd, head, strlen(head));
}

static void close_parts(struct ty_moving *w)
{
    if (w->state_fd >= 0)
        close(w->state_fd);
    if (w->fd >= 0)
        close(w->fd);
    w->state_fd = w->fd = -1;
}

/* What is fetched is worth nothing.  Only who holds the lock may remove it. */
static void drop_parts(struct ty_moving *w)
{
    if (w->fd >= 0 && w->part_path) {
        unlink(w->state_path);
        unlink(w->part_path);
    }
    close_parts(w);
    free(w->part_path);
    free(w->state_path);
    w->part_path = w->state_path = NULL;
}

/* ---- beginning ---- */

static int cut(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    const struct ty_object *o = &w->known.o;
    uint64_t of_object = o->has_parts_md5 ? o->part_bytes : 0, part = of_object;

    w->bytes = o->bytes;
    if (w->bytes <= v->kind->part_bytes && !of_object)
        part = w->bytes ? w->bytes : 1;
    else if (part < PART_MIN || part > PART_MOST)
        part = 0;
    w->want_whole = o->has_md5 && (part == 0 || part != of_object);
    return ty_moving_cut(v, w, part, err);
}

/* What the object is, is known; what is here? */
static int decide(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    uint64_t of_object;
    struct stat st;
    int r = cut(v, w, err);

    if (r < 0)
        return r;
    if (v->total < v->counted + w->bytes)
        v->total = v->counted + w->bytes;
    w->phase = PREPARE;
    if (stat(w->f->local, &st) < 0)
        return errno == ENOENT ? 0 : fail_local(v, w, -errno, err);
    if (!S_ISREG(st.st_mode))
        return fail_local(v, w, S_ISDIR(st.st_mode) ? -EISDIR : -EEXIST, err);
    if ((uint64_t)st.st_size != w->bytes)
        return v->m->overwrite ? 0 : fail_there(v, w, "of another size", err);
    if (!ty_object_can_compare(&w->known.o, &of_object) ||
        (of_object && of_object != w->part_bytes)) {
        if (w->known.how == KNOWN_LISTED)
            w->phase = ASK; /* a listing says less */
        else if (!v->m->overwrite)
            return fail_there(v, w, "of the same size, but its content cannot be compared", err);
        return 0;
    }
    w->fd = open(w->f->local, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (w->fd < 0)
        return v->m->overwrite
                   ? 0
                   : ty_moving_fail(v, w, -errno, err, "'%s' cannot be read: %m", w->f->local);
    w->phase = COMPARE;
    return 0;
}

static int compared(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    bool same = ty_moving_is(w, &w->known.o);

    close(w->fd);
    w->fd = -1;
    if (same) {
        w->what = TY_MOVE_WAS_THERE;
        w->phase = END;
        return 0;
    }
    if (!v->m->overwrite && w->known.how == KNOWN_LISTED) {
        w->phase = ASK;
        return 0;
    }
    if (!v->m->overwrite)
        return fail_there(v, w, "of the same size, with another content", err);
    w->phase = PREPARE;
    return cut(v, w, err);
}

static int down_open(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    w->phase = ASK;
    if (!w->f->object)
        return 0;
    if (ty_known_set(&w->known, w->f->object, KNOWN_LISTED) < 0)
        return ty_error_oom(err);
    w->bytes = w->known.o.bytes;
    /* Of a large one more than a listing says is good to know. */
    return w->bytes > v->kind->part_bytes ? 0 : decide(v, w, err);
}

static int prepare(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    int r;

    w->phase = GET;
    if (w->nparts == 1 && w->bytes <= TY_MOVE_SMALL)
        return 0;
    r = open_part(w);
    if (r == -EBUSY)
        return ty_moving_fail(
            v, w, r, err, "another process is downloading it to '%s' at this moment", w->f->local);
    if (r == 0 && w->nparts > 1) {
        w->phase = PARTS;
        take_state(w);
    }
    if (r == 0 && !w->resumed)
        r = empty(w);
    if (r == 0 && w->bytes > 0 && !w->resumed &&
        FAULT("move.allocate", -1, fallocate(w->fd, 0, 0, (off_t)w->bytes)) < 0) {
        if (errno != EOPNOTSUPP)
            r = -errno;
        else if (ftruncate(w->fd, (off_t)w->bytes) < 0)
            r = -errno;
    }
    if (r == 0 && w->nparts > 1)
        r = open_state(w);
    if (r == -ENOSPC && !w->resumed)
        drop_parts(w);
    return r < 0 ? fail_local(v, w, r, err) : 0;
}

/* ---- the end ---- */

static int name_it(struct ty_moving *w)
{
    if (FAULT("move.rename", -1, rename(w->part_path, w->f->local)) < 0)
        return -errno;
    if (w->nparts > 1)
        unlink(w->state_path);
    close_parts(w);
    w->phase = END;
    return 0;
}

static int write_small(struct ty_moving *w, const char *bytes)
{
    int r = open_part(w);

    if (r == 0)
        r = empty(w);
    if (r == 0)
        r = FAULT("move.write", -errno, ty_pwrite_all(w->fd, bytes, w->bytes, 0));
    if (r == 0)
        r = name_it(w);
    if (r < 0)
        drop_parts(w);
    return r;
}

/* Once more from the start, or -1: it was that already. */
static int restart(struct ty_moving *w)
{
    drop_parts(w);
    w->resumed = false;
    w->counted = 0;
    if (w->restarts++ > 0)
        return -1;
    w->phase = ASK;
    return 0;
}

static int fail_sum(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    if (restart(w) == 0)
        return 0;
    return ty_moving_fail(v, w, -EBADMSG, err,
                          "what came is not what %s has: its MD5 is another one, twice",
                          v->store->where);
}

static int fail_changed(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    if (restart(w) == 0)
        return 0;
    return ty_moving_fail(v, w, -ESTALE, err,
                          "the object was changed in %s while it was fetched, twice: fetch it "
                          "again when nobody writes it",
                          v->store->where);
}

static int check(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    uint64_t of_object;
    int r;

    if (ty_object_can_compare(&w->known.o, &of_object) &&
        (!of_object || of_object == w->part_bytes) && !ty_moving_is(w, &w->known.o))
        return fail_sum(v, w, err);
    r = name_it(w);
    return r < 0 ? fail_local(v, w, r, err) : 0;
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

static bool is_checked(const struct ty_moving *w)
{
    return w->known.o.has_md5 || w->known.o.has_parts_md5;
}

/* How many parts are to be hashed now: they are hashed in order, those behind a gap later.  Sums of their own are computed of as
 * many at once as have lanes, since a core has eight for the price of three: parts wait for others while some are to come. */
static unsigned parts_to_hash(const struct ty_moving *w)
{
    unsigned n = w->next_hash;

    while (n < w->nparts && w->parts[n].there)
        n++;
    n -= w->next_hash;
    return w->want_whole || w->done_parts == w->nparts ? n : n - n % TY_MD5_LANES;
}

static int hash_parts(struct ty_mover *v, struct ty_moving *w, struct ty_error *err)
{
    w->ahead = 0;
    return ty_moving_hash(v, w, w->hashing + parts_to_hash(w), err);
}

static int next_part(struct ty_mover *v, struct ty_moving *w, struct ty_slot *s,
                     struct ty_error *err)
{
    int r = is_checked(w) ? hash_parts(v, w, err) : 0;

    if (r < 0)
        return r;
    if (w->done_parts == w->nparts) {
        if (is_checked(w) && (w->next_hash < w->nparts || w->hashing > 0))
            return 0;
        r = check(v, w, err);
        return r < 0 ? r : w->phase == END ? 2 : ask(w, s, OP_HEAD);
    }
    for (unsigned i = 0; s && i < w->nparts; i++)
        if (!w->parts[i].there && w->parts[i].state == PART_TODO) {
            w->parts[i].state = PART_GOING;
            s->op = OP_GET;
            s->part = i;
            return 1;
        }
    return 0;
}

static int down_next(struct ty_mover *v, struct ty_moving *w, struct ty_slot *s,
                     struct ty_error *err)
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
        return r < 0 ? r : down_next(v, w, s, err);
    case PREPARE:
        if (!s)
            return 0;
        r = prepare(v, w, err);
        return r < 0 ? r : down_next(v, w, s, err);
    case GET:
        return ask(w, s, OP_GET);
    case CHECK:
        r = is_checked(w) ? ty_moving_hash(v, w, 1, err) : 0;
        if (r < 0 || (is_checked(w) && (w->hashing > 0 || w->next_hash == 0)))
            return r;
        r = check(v, w, err);
        return r < 0 ? r : down_next(v, w, s, err);
    case PARTS:
        return next_part(v, w, s, err);
    case END:
        return 2;
    default:
        return 0;
    }
}

static int down_build(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    uint64_t n = ty_part_bytes_of(w, s->part);

    if (s->op == OP_HEAD)
        return v->kind->head(v->store, &s->r, w->f->path, err);
    if (w->fd >= 0) {
        s->r.to_file = true;
        s->r.sink_fd = w->fd;
        s->r.sink_offset = (uint64_t)s->part * w->part_bytes;
        s->r.sink_max = n;
    } else {
        s->r.want_md5 = true;
    }
    if (w->nparts == 1)
        n = UINT64_MAX;
    return v->kind->get(v->store, &s->r, w->f->path,
                        w->nparts == 1 ? 0 : (uint64_t)s->part * w->part_bytes, n, w->known.o.etag,
                        err);
}

/* ---- answers ---- */

static int heard_head(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_object o;

    if (code < 0)
        return code;
    v->kind->about(v->store, &s->r, &o);
    if (ty_known_set(&s->w->known, &o, KNOWN_ASKED) < 0)
        return ty_error_oom(err);
    return decide(v, s->w, err);
}

/* The answer says more than a listing did: of what is not an MD5, too. */
static int heard_get(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    uint8_t sum[TY_MD5_BYTES];
    struct ty_object o;
    int r;

    v->kind->about(v->store, &s->r, &o);
    o.bytes = s->r.got;
    if (ty_known_set(&w->known, &o, KNOWN_ASKED) < 0)
        return ty_error_oom(err);
    if (s->r.got != w->bytes)
        return fail_changed(v, w, err);
    w->counted = w->bytes;
    if (w->fd >= 0) {
        w->phase = CHECK;
        return 0;
    }
    ty_md5_end(&s->r.md5, sum);
    if (o.has_md5 && memcmp(sum, o.md5, sizeof sum) != 0)
        return fail_sum(v, w, err);
    r = write_small(w, s->r.text.text ? s->r.text.text : "");
    if (r == -EBUSY)
        return ty_moving_fail(
            v, w, r, err, "another process is downloading it to '%s' at this moment", w->f->local);
    return r < 0 ? fail_local(v, w, r, err) : 0;
}

static int heard_part(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    struct ty_moving *w = s->w;
    char line[16];
    int n, r;

    if (s->r.got != ty_part_bytes_of(w, s->part) || s->r.status != 206)
        return ty_moving_fail(
            v, w, -EPROTO, err,
            "%s answers a request for a part of it with something else (%ld, %llu bytes)",
            v->store->where, s->r.status, (unsigned long long)s->r.got);
    n = snprintf(line, sizeof line, "%u\n", s->part);
    r = ty_write_all(w->state_fd, line, (size_t)n);
    if (r < 0)
        return fail_local(v, w, r, err);
    w->parts[s->part].there = true;
    w->counted += s->r.got;
    w->done_parts++;
    return 0;
}

static int stop_requests(struct ty_mover *v, struct ty_slot *own)
{
    for (unsigned i = 0; i < v->nslots; i++)
        if (&v->slots[i] != own && v->slots[i].w == own->w)
            ty_slot_release(v, &v->slots[i]);
    ty_hashers_forget(v->hashers, own->w);
    own->w->hashing = 0;
    return 0;
}

static int down_answer(struct ty_mover *v, struct ty_slot *s, int code, struct ty_error *err)
{
    struct ty_moving *w = s->w;

    if (s->op == OP_HEAD)
        return heard_head(v, s, code, err);
    if (code == -ESTALE || code == -EMSGSIZE) {
        stop_requests(v, s);
        return fail_changed(v, w, err);
    }
    if (s->r.result == -ENOSPC || s->r.result == -EDQUOT || s->r.result == -EIO)
        return fail_local(v, w, s->r.result, err);
    if (code < 0)
        return code;
    return w->nparts > 1 ? heard_part(v, s, err) : heard_get(v, s, err);
}

static int down_hashed(struct ty_mover *v, struct ty_moving *w, struct ty_hash_job *j,
                       struct ty_error *err)
{
    return ty_moving_fail(v, w, j->result, err, "'%s' cannot be read: %s",
                          w->part_path ? w->part_path : w->f->local, strerror(-j->result));
}

/* What was begun of a large one stays, for the next time. */
static void down_close(struct ty_mover *v, struct ty_moving *w)
{
    (void)v;
    if (w->fd >= 0 && w->part_path && w->nparts == 1)
        drop_parts(w);
    close_parts(w);
}

const struct ty_way ty_way_down = {
    .doing = "download",
    .open = down_open,
    .next = down_next,
    .build = down_build,
    .answer = down_answer,
    .hashed = down_hashed,
    .close = down_close,
};
