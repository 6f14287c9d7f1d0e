/* move.c - the engine: slots, tries, pauses, progress, reports
 *
 * One thread does all but the hashing of large files.  It fills free slots from the files under way, oldest
 * first, and opens another file when none of them has something to ask; then it lets libcurl move bytes, and
 * hears of ends.  After a throttle fewer slots are filled, one more after each few answers that are well.
 */
#include "data/move.h"
#include "base/clock.h"
#include "base/error.h"
#include "data/move_internal.h"
#include <errno.h>
#include <string.h>

#define PARALLEL_MAX 256
#define TELL_US 100000
#define STEP_MS 100
#define CALM_ANSWERS 16 /* after so many one more request at once is tried again */

int ty_known_set(struct ty_known *k, const struct ty_object *o, int how)
{
    char *etag = o && *o->etag ? strdup(o->etag) : NULL;

    if (o && *o->etag && !etag)
        return -ENOMEM;
    free(k->etag);
    k->etag = etag;
    k->how = how;
    k->o = o ? *o : (struct ty_object){ 0 };
    k->o.etag = etag ? etag : "";
    k->o.path = "";
    return 0;
}

int ty_moving_fail(struct ty_mover *v, struct ty_moving *w, int code, struct ty_error *err,
                   const char *fmt, ...)
{
    CLEANUP_STR struct ty_str text = { 0 };
    va_list ap;

    ty_str_addf(&text, "cannot %s '%s': ", v->way->doing,
                v->way == &ty_way_up ? w->f->local : w->f->path);
    va_start(ap, fmt);
    ty_str_addv(&text, fmt, ap);
    va_end(ap);
    return text.failed ? ty_error_oom(err) : ty_error_set(err, code, "%s", text.text);
}

/* ---- parts ---- */

uint64_t ty_part_bytes_of(const struct ty_moving *w, unsigned part)
{
    uint64_t at = (uint64_t)part * w->part_bytes;

    return w->bytes - at < w->part_bytes ? w->bytes - at : w->part_bytes;
}

static void free_parts(struct ty_moving *w)
{
    for (unsigned i = 0; i < w->nparts; i++)
        free(w->parts[i].etag);
    free(w->parts);
    w->parts = NULL;
    w->nparts = 0;
}

int ty_moving_cut(struct ty_mover *v, struct ty_moving *w, uint64_t part_bytes,
                  struct ty_error *err)
{
    uint64_t n;

    free_parts(w);
    if (part_bytes == 0) {
        part_bytes = v->kind->part_bytes;
        while (w->bytes / part_bytes >= v->kind->parts_max && part_bytes < v->kind->part_bytes_max)
            part_bytes *= 2;
    }
    n = w->bytes ? (w->bytes + part_bytes - 1) / part_bytes : 1;
    if (n > v->kind->parts_max)
        return ty_moving_fail(v, w, -EFBIG, err, "it is larger than %s can take", v->store->where);
    w->parts = calloc(n, sizeof *w->parts);
    if (!w->parts)
        return ty_error_oom(err);
    w->part_bytes = part_bytes;
    w->nparts = (unsigned)n;
    w->next_hash = w->ahead = w->done_parts = 0;
    ty_md5_begin(&w->whole);
    return 0;
}

static void part_hashed(struct ty_moving *w, struct ty_hash_job *j)
{
    struct ty_part *p = &w->parts[j->part];

    memcpy(p->md5, j->sum, sizeof p->md5);
    p->state = PART_HASHED;
    w->ahead++;
    if (w->want_whole && j->part + 1 == w->nparts)
        ty_md5_end(&w->whole, w->whole_md5);
}

int ty_moving_hash(struct ty_mover *v, struct ty_moving *w, unsigned ahead, struct ty_error *err)
{
    struct ty_hash_job *first = NULL, **last = &first;
    unsigned n = 0;
    int r = 0;

    while (r == 0 && w->next_hash < w->nparts && w->ahead + w->hashing < ahead &&
           !(w->want_whole && w->hashing > 0)) {
        struct ty_part *p = &w->parts[w->next_hash];

        p->job = (struct ty_hash_job){ .fd = w->fd,
                                       .offset = (uint64_t)w->next_hash * w->part_bytes,
                                       .bytes = ty_part_bytes_of(w, w->next_hash),
                                       .whole = w->want_whole ? &w->whole : NULL,
                                       .owner = w,
                                       .part = w->next_hash };
        p->state = PART_HASHING;
        w->next_hash++;
        if (p->job.bytes <= TY_MOVE_SMALL) {
            r = ty_hash_now(&p->job);
            if (r == 0)
                part_hashed(w, &p->job);
            else
                r = v->way->hashed(v, w, &p->job, err);
            continue;
        }
        w->hashing++;
        n++;
        *last = &p->job;
        last = &p->job.next;
    }
    if (r == 0 && first && (r = ty_hashers_add(v->hashers, first)) < 0)
        ty_error_set(err, r, "cannot start a thread that hashes: %s", strerror(-r));
    if (r < 0)
        w->hashing -= n;
    return r;
}

bool ty_object_can_compare(const struct ty_object *o, uint64_t *part_bytes)
{
    *part_bytes = o->has_md5 ? 0 : o->part_bytes;
    return o->has_md5 || (o->has_parts_md5 && o->part_bytes > 0);
}

bool ty_moving_is(const struct ty_moving *w, const struct ty_object *o)
{
    uint8_t sum[TY_MD5_BYTES];
    struct ty_md5 m;

    if (o->bytes != w->bytes)
        return false;
    if (o->has_md5 && w->nparts == 1)
        return memcmp(w->parts[0].md5, o->md5, sizeof o->md5) == 0;
    if (o->has_md5 && w->want_whole)
        return memcmp(w->whole_md5, o->md5, sizeof o->md5) == 0;
    if (!o->has_parts_md5 || o->part_bytes != w->part_bytes)
        return false;
    ty_md5_begin(&m);
    for (unsigned i = 0; i < w->nparts; i++)
        ty_md5_add(&m, w->parts[i].md5, TY_MD5_BYTES);
    ty_md5_end(&m, sum);
    return memcmp(sum, o->parts_md5, sizeof sum) == 0;
}

/* ---- files ---- */

void ty_slot_release(struct ty_mover *v, struct ty_slot *s)
{
    ty_http_cancel(v->m->http, &s->r);
    ty_http_req_done(&s->r);
    s->w->requests--;
    s->w = NULL;
    s->due_us = 0;
    v->busy--;
}

static void moving_free(struct ty_mover *v, struct ty_moving *w)
{
    for (unsigned i = 0; i < v->nslots; i++)
        if (v->slots[i].w == w)
            ty_slot_release(v, &v->slots[i]);
    ty_hashers_forget(v->hashers, w);
    v->way->close(v, w);
    free_parts(w);
    free(w->known.etag);
    free(w->content);
    free(w->upload);
    free(w->marker);
    free(w->part_path);
    free(w->state_path);
    free(w->why);
    free(w);
}

/* What ends the whole move: the next file would fail alike. */
static bool is_general(const struct ty_mover *v, const struct ty_moving *w)
{
    switch (w->code) {
    case -ENODEV:
    case -ETIME:
    case -ENOSPC:
    case -EDQUOT:
    case -EHOSTUNREACH:
    case -EKEYREJECTED:
    case -ECONNREFUSED:
    case -ETIMEDOUT:
    case -ENOMEM:
    case -EMFILE:
        return true;
    case -EACCES:
        return w->denied && v->sum.moved + v->sum.was_there == 0;
    default:
        return false;
    }
}

static void keep_first(struct ty_mover *v, int code, const char *why)
{
    if (v->result == 0 && v->sum.failed == 1)
        ty_error_set(v->err, code, "%s", why);
}

/* Tell of a file's end. */
static void report(struct ty_mover *v, struct ty_moving *w)
{
    struct ty_object o = w->known.o;
    int r = 0;

    o.path = w->f->path;
    o.etag = w->known.etag ? w->known.etag : "";
    v->counted += w->bytes - (w->counted < w->bytes ? w->counted : w->bytes);
    if (w->code < 0) {
        v->sum.failed++;
        keep_first(v, w->code, w->why ? w->why : "out of memory");
    } else if (w->what == TY_MOVE_MOVED) {
        v->sum.moved++;
    } else {
        v->sum.was_there++;
    }
    if (v->m->each)
        r = v->m->each(w->f, w->code < 0 ? TY_MOVE_FAILED : w->what, w->code, w->why ? w->why : "",
                       w->code < 0 ? NULL : &o, v->m->ctx);
    else if (w->code < 0)
        r = w->code;
    if (r == 0 && w->code < 0 && is_general(v, w))
        r = w->code;
    if (r < 0 && v->result == 0) {
        v->result = r;
        if (w->code == 0)
            ty_error_set(v->err, r, "the moving of files was stopped after '%s'", w->f->local);
    }
}

static void unlink_moving(struct ty_mover *v, struct ty_moving *w)
{
    for (struct ty_moving **at = &v->first; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            v->nmoving--;
            return;
        }
}

static void complete(struct ty_mover *v, struct ty_moving *w)
{
    unlink_moving(v, w);
    report(v, w);
    moving_free(v, w);
}

static void fail(struct ty_mover *v, struct ty_moving *w, const struct ty_error *err)
{
    w->code = err->code;
    w->why = strdup(err->text);
    complete(v, w);
}

static void append(struct ty_mover *v, struct ty_moving *w)
{
    struct ty_moving **at = &v->first;

    while (*at)
        at = &(*at)->next;
    *at = w;
    v->nmoving++;
}

static int open_next(struct ty_mover *v)
{
    struct ty_moving *w = calloc(1, sizeof *w);
    struct ty_error err = { 0 };
    size_t i = v->next++;
    int r;

    if (!w)
        return ty_error_oom(v->err);
    w->f = &v->files[i];
    w->fd = w->state_fd = -1;
    w->what = TY_MOVE_MOVED;
    if (v->known) {
        w->known = v->known[i];
        v->known[i] = (struct ty_known){ 0 };
    }
    append(v, w);
    r = ty_object_path_check(w->f->path, &err);
    if (r == 0)
        r = v->way->open(v, w, &err);
    if (r < 0)
        fail(v, w, &err);
    else if (r == 1)
        complete(v, w);
    return 0;
}

/* ---- slots ---- */

static struct ty_slot *free_slot(struct ty_mover *v)
{
    if (v->busy >= v->allowed)
        return NULL;
    for (unsigned i = 0; i < v->nslots; i++)
        if (!v->slots[i].w)
            return &v->slots[i];
    return NULL;
}

static void done(struct ty_http_req *r);

static int start(struct ty_mover *v, struct ty_slot *s, struct ty_error *err)
{
    int r;

    ty_http_req_done(&s->r);
    s->due_us = 0;
    s->r.done = done;
    s->r.ctx = s;
    r = v->way->build(v, s, err);
    return r < 0 ? r : ty_http_add(v->m->http, &s->r, err);
}

static bool try_again(struct ty_mover *v, struct ty_slot *s, int code, int again)
{
    if (again < 0 || s->tries >= TY_OBJECT_TRIES || v->result < 0)
        return false;
    if (code == -ECONNREFUSED && !v->answered && s->tries >= 2)
        return false; /* nobody is there, most probably */
    if (code == -EAGAIN && v->allowed > 1) {
        v->allowed = v->allowed / 2;
        v->calm = 0;
    }
    s->due_us = ty_mono_us() + ty_object_pause_ms(s->tries, again) * 1000ll;
    v->sum.retries++;
    return true;
}

static void went_well(struct ty_mover *v)
{
    v->answered = true;
    if (v->allowed < v->nslots && ++v->calm >= CALM_ANSWERS) {
        v->calm = 0;
        v->allowed++;
    }
}

static void done(struct ty_http_req *req)
{
    struct ty_slot *s = req->ctx;
    struct ty_mover *v = s->mover;
    struct ty_moving *w = s->w;
    struct ty_error err = { 0 };
    int again = -1, code, r;

    v->sum.bytes += s->op == OP_PUT || s->op == OP_PART ? req->sent : 0;
    v->sum.bytes += s->op == OP_GET ? req->got : 0;
    code = v->kind->judge(v->store, req, v->way->doing, w->f->path, &again, &err);
    if (code == 0)
        went_well(v);
    else if (req->status > 0)
        v->answered = true;
    w->denied = code == -EACCES;
    if (code < 0 && try_again(v, s, code, again))
        return;
    r = v->way->answer(v, s, code, &err);
    if (r == 1 && try_again(v, s, code, 0))
        return;
    if (r != 0) {
        if (r > 0 && err.code == 0)
            ty_moving_fail(v, w, code < 0 ? code : -EIO, &err, "it failed again and again");
        fail(v, w, &err);
        return;
    }
    ty_slot_release(v, s);
}

/* 1: something was started or has ended; 0: there is nothing to do for now. */
static int fill_one(struct ty_mover *v)
{
    struct ty_slot *s = free_slot(v);
    struct ty_error err = { 0 };

    for (struct ty_moving *w = v->first; w; w = w->next) {
        int r;

        if (s)
            s->op = 0, s->part = 0;
        r = v->way->next(v, w, s, &err);
        if (r == 1) {
            s->w = w;
            s->mover = v;
            s->tries = 1;
            w->requests++;
            v->busy++;
            r = start(v, s, &err);
            if (r < 0)
                fail(v, w, &err);
            return 1;
        }
        if (r == 2)
            complete(v, w);
        else if (r < 0)
            fail(v, w, &err);
        if (r != 0)
            return 1;
    }
    if (!s || v->next >= v->n || v->nmoving >= v->nslots + v->nslots / 4 + 2)
        return 0;
    v->result = v->result < 0 ? v->result : open_next(v);
    return 1;
}

static int64_t start_due(struct ty_mover *v)
{
    int64_t now = ty_mono_us(), soonest = now + STEP_MS * 1000;

    for (unsigned i = 0; i < v->nslots; i++) {
        struct ty_slot *s = &v->slots[i];
        struct ty_error err = { 0 };

        if (!s->w || s->due_us == 0)
            continue;
        if (s->due_us > now) {
            soonest = s->due_us < soonest ? s->due_us : soonest;
            continue;
        }
        s->tries++;
        if (start(v, s, &err) < 0)
            fail(v, s->w, &err);
    }
    return soonest > now ? (soonest - now + 999) / 1000 : 0;
}

static void hear_hashers(struct ty_mover *v)
{
    struct ty_hash_job *j;

    while ((j = ty_hashers_take(v->hashers))) {
        struct ty_moving *w = j->owner;
        struct ty_error err = { 0 };

        w->hashing--;
        if (j->result == 0)
            part_hashed(w, j);
        else if (v->way->hashed(v, w, j, &err) < 0)
            fail(v, w, &err);
    }
}

/* ---- all of it ---- */

static void tell(struct ty_mover *v, bool last)
{
    int64_t now = ty_mono_us();
    uint64_t bytes = v->counted;

    if (!v->m->progress || (!last && now - v->told_us < TELL_US))
        return;
    v->told_us = now;
    for (struct ty_moving *w = v->first; w; w = w->next)
        bytes += w->counted;
    for (unsigned i = 0; i < v->nslots; i++)
        if (v->slots[i].w && v->slots[i].r.running)
            bytes += v->slots[i].op == OP_GET                                ? v->slots[i].r.got
                     : v->slots[i].op == OP_PUT || v->slots[i].op == OP_PART ? v->slots[i].r.sent
                                                                             : 0;
    if (v->m->progress(bytes < v->total ? bytes : v->total, v->total,
                       v->sum.moved + v->sum.was_there + v->sum.failed, v->n, v->m->ctx) != 0 &&
        v->result == 0 && !last)
        v->result = ty_error_set(v->err, -ECANCELED, "the moving of files was cancelled");
}

static int run(struct ty_mover *v)
{
    while (v->result == 0 && (v->next < v->n || v->first)) {
        int64_t wait;
        int r;

        hear_hashers(v);
        wait = start_due(v);
        while (v->result == 0 && fill_one(v) == 1)
            ;
        if (v->result < 0 || (v->next >= v->n && !v->first))
            break;
        r = ty_http_step(v->m->http, (int)wait, v->err);
        if (r < 0)
            v->result = r;
        tell(v, false);
    }
    tell(v, true);
    if (v->result == 0 && v->sum.failed > 0) {
        v->result = v->err->code;
        if (v->sum.failed > 1) {
            struct ty_error first = *v->err;

            ty_error_set(v->err, v->result, "%.600s (and %llu more %s failed)", first.text,
                         (unsigned long long)(v->sum.failed - 1),
                         v->sum.failed == 2 ? "file" : "files");
        }
    }
    return v->result;
}

/* What a listing says of objects that have the paths of our files. */
struct looking {
    struct ty_mover *v;
    const struct ty_move_file **sorted;
    uint64_t seen, most;
};

static int by_path(const void *a, const void *b)
{
    return strcmp((*(const struct ty_move_file *const *)a)->path,
                  (*(const struct ty_move_file *const *)b)->path);
}

static int see(const struct ty_object *o, void *ctx)
{
    struct looking *l = ctx;
    const struct ty_move_file key = { .path = o->path }, *k = &key;
    const struct ty_move_file **at = bsearch(&k, l->sorted, l->v->n, sizeof k, by_path);

    if (at && ty_known_set(&l->v->known[*at - l->v->files], o, KNOWN_LISTED) < 0)
        return -ENOMEM;
    return ++l->seen > l->most ? -EOVERFLOW : 0;
}

static char *common_prefix(const struct ty_move_file *files, size_t n)
{
    size_t len = strlen(files[0].path);

    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < len; k++)
            if (files[i].path[k] != files[0].path[k])
                len = k;
    len = ty_utf8_whole(files[0].path, len);
    return strndup(files[0].path, len);
}

/* One listing instead of a question for each of many files.  Where it would be much longer than that, or is not
 * allowed, each is asked for. */
static int look(struct ty_mover *v)
{
    struct looking l = { .v = v, .most = 2 * v->n + 4000 };
    CLEANUP_FREE char *prefix = NULL;
    struct ty_error err = { 0 };
    int r;

    v->known = calloc(v->n, sizeof *v->known);
    l.sorted = calloc(v->n, sizeof *l.sorted);
    prefix = common_prefix(v->files, v->n);
    if (!v->known || !l.sorted || !prefix) {
        free(l.sorted);
        return ty_error_oom(v->err);
    }
    for (size_t i = 0; i < v->n; i++)
        l.sorted[i] = &v->files[i];
    qsort(l.sorted, v->n, sizeof *l.sorted, by_path);
    r = ty_object_list(v->store, v->m->http, prefix, see, &l, &err);
    free(l.sorted);
    if (r == 0)
        for (size_t i = 0; i < v->n; i++)
            if (v->known[i].how == KNOWN_NOT)
                v->known[i].how = KNOWN_ABSENT;
    if (r == 0 || r == -EOVERFLOW || r == -EACCES || r == -EOPNOTSUPP)
        return 0;
    return ty_error_set(v->err, r, "%s", err.text);
}

#define LOOK_FROM 8 /* files */

static int move(const struct ty_move *m, const struct ty_way *way, const struct ty_move_file *files,
                size_t n, struct ty_move_sum *sum, struct ty_error *err)
{
    struct ty_error own = { 0 };
    struct ty_mover v = { .m = m,
                          .store = m->store,
                          .kind = m->store->kind,
                          .way = way,
                          .files = files,
                          .n = n,
                          .err = err ? err : &own };
    struct stat st;

    v.nslots = m->parallel ? m->parallel : TY_MOVE_PARALLEL;
    v.nslots = v.nslots > PARALLEL_MAX ? PARALLEL_MAX : v.nslots;
    v.allowed = v.nslots;
    v.slots = calloc(v.nslots, sizeof *v.slots);
    v.hashers = ty_hashers_new(m->http);
    if (!v.slots || !v.hashers)
        v.result = ty_error_oom(v.err);
    for (size_t i = 0; i < n; i++)
        if (way == &ty_way_up)
            v.total += stat(files[i].local, &st) == 0 ? (uint64_t)st.st_size : 0;
        else
            v.total += files[i].object ? files[i].object->bytes : 0;
    if (v.result == 0 && way == &ty_way_up && n >= LOOK_FROM)
        v.result = look(&v);
    if (v.result == 0)
        run(&v);
    while (v.first) {
        struct ty_moving *w = v.first;

        unlink_moving(&v, w);
        moving_free(&v, w);
    }
    ty_hashers_free(v.hashers);
    for (size_t i = 0; v.known && i < n; i++)
        free(v.known[i].etag);
    free(v.known);
    free(v.slots);
    if (sum)
        *sum = v.sum;
    return v.result;
}

int ty_move_up(const struct ty_move *m, const struct ty_move_file *files, size_t n,
               struct ty_move_sum *sum, struct ty_error *err)
{
    return move(m, &ty_way_up, files, n, sum, err);
}

int ty_move_down(const struct ty_move *m, const struct ty_move_file *files, size_t n,
                 struct ty_move_sum *sum, struct ty_error *err)
{
    return move(m, &ty_way_down, files, n, sum, err);
}
