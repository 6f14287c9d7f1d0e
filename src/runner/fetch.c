/* fetch.c - asking for blobs, and answering */
#include "runner/fetch.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "runner/stream.h"
#include <errno.h>
#include <string.h>

typedef char sha_text[TY_SHA256_HEX + 1];

/* A blob that is asked for. */
struct slot {
    sha_text sha; /* "": free */
    struct ty_blob_put *put;
    uint64_t bytes; /* that came so far */
    bool asked;     /* on this connection */
};

struct ty_fetch {
    struct ty_blobs *blobs;
    sha_text *wait; /* wait[at..n) are not asked for yet */
    size_t at, n, cap;
    struct slot slot[TY_FETCH_AT_ONCE];
    int busy; /* slots */
};

struct ty_fetch *ty_fetch_new(struct ty_blobs *into)
{
    struct ty_fetch *f = calloc(1, sizeof *f);

    if (f)
        f->blobs = into;
    return f;
}

static void give_up(struct ty_fetch *f, struct slot *s)
{
    if (s->put)
        ty_blob_abort(s->put);
    *s = (struct slot){ 0 };
    f->busy--;
}

struct ty_fetch *ty_fetch_free(struct ty_fetch *f)
{
    if (!f)
        return NULL;
    for (int i = 0; i < TY_FETCH_AT_ONCE; i++)
        if (*f->slot[i].sha)
            give_up(f, &f->slot[i]);
    free(f->wait);
    free(f);
    return NULL;
}

bool ty_fetch_is_sha(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!memchr("0123456789abcdef", name[i], 16))
            return false;
    return n == TY_SHA256_HEX;
}

int ty_fetch_add(struct ty_fetch *f, const char *sha)
{
    if (!ty_fetch_is_sha(sha, strlen(sha)))
        return -EINVAL;
    if (ty_blob_has(f->blobs, sha))
        return 0;
    if (f->at == f->n)
        f->at = f->n = 0;
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 64;
        sha_text *more = realloc(f->wait, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        f->wait = more;
        f->cap = cap;
    }
    memcpy(f->wait[f->n++], sha, TY_SHA256_HEX + 1);
    return 1;
}

size_t ty_fetch_left(const struct ty_fetch *f)
{
    return f->n - f->at + (size_t)f->busy;
}

void ty_fetch_again(struct ty_fetch *f)
{
    for (int i = 0; i < TY_FETCH_AT_ONCE; i++)
        f->slot[i].asked = false;
}

static void ask(struct slot *s, struct ty_stream *stream)
{
    struct ty_frame want = {
        .type = TY_FRAME_WANT, .seq = s->bytes, .name = s->sha, .name_len = TY_SHA256_HEX
    };

    ty_stream_send(stream, &want);
    s->asked = true;
}

void ty_fetch_pump(struct ty_fetch *f, struct ty_stream *s)
{
    for (int i = 0; i < TY_FETCH_AT_ONCE && ty_stream_room(s); i++) {
        struct slot *slot = &f->slot[i];

        if (!*slot->sha && f->at < f->n) {
            memcpy(slot->sha, f->wait[f->at++], sizeof slot->sha);
            f->busy++;
        }
        if (*slot->sha && !slot->asked)
            ask(slot, s);
    }
}

static int append(struct ty_fetch *f, struct slot *s, const struct ty_frame *in,
                  struct ty_error *err)
{
    sha_text sha;
    int r = s->put ? 0 : ty_blob_begin(f->blobs, &s->put, err);

    if (r == 0 && in->body_len > 0)
        r = ty_blob_write(s->put, in->body, in->body_len, err);
    s->bytes += in->body_len;
    if (r < 0 || in->body_len == TY_WIRE_BLOB_CHUNK)
        return r;
    r = ty_blob_finish(TAKE(s->put), s->sha, sha, err);
    return r < 0 ? r : 1;
}

int ty_fetch_hear(struct ty_fetch *f, const struct ty_frame *in, struct ty_error *err)
{
    struct slot *s = NULL;
    int r;

    for (int i = 0; i < TY_FETCH_AT_ONCE && !s; i++)
        if (*f->slot[i].sha && f->slot[i].asked && in->name_len == TY_SHA256_HEX &&
            memcmp(f->slot[i].sha, in->name, TY_SHA256_HEX) == 0 &&
            (in->seq == f->slot[i].bytes || in->seq == TY_WIRE_BLOB_NONE))
            s = &f->slot[i];
    if (!s)
        return 0;
    s->asked = false;
    if (in->body_len > TY_WIRE_BLOB_CHUNK)
        r = ty_error_set(err, -EBADMSG, "a piece of %zu bytes came for the content %.12s",
                         in->body_len, s->sha);
    else if (in->seq == TY_WIRE_BLOB_NONE)
        r = ty_error_set(err, -ENOENT, "the other side does not have the content %s", s->sha);
    else
        r = append(f, s, in, err);
    if (r != 0)
        give_up(f, s);
    return r;
}

void ty_fetch_answer(struct ty_blobs *from, const struct ty_frame *want, struct ty_stream *s)
{
    struct ty_frame blob = {
        .type = TY_FRAME_BLOB, .seq = want->seq, .name = want->name, .name_len = want->name_len
    };
    CLEANUP_FREE char *buf = malloc(TY_WIRE_BLOB_CHUNK);
    CLEANUP_CLOSE int fd = -1;
    sha_text sha = "";
    ssize_t n = -1;

    if (ty_fetch_is_sha(want->name, want->name_len)) {
        memcpy(sha, want->name, TY_SHA256_HEX);
        fd = ty_blob_open(from, sha);
    }
    if (fd >= 0 && buf && want->seq <= INT64_MAX && lseek(fd, (off_t)want->seq, SEEK_SET) >= 0)
        n = ty_read_full(fd, buf, TY_WIRE_BLOB_CHUNK);
    if (n < 0)
        blob.seq = TY_WIRE_BLOB_NONE;
    blob.body = buf;
    blob.body_len = n > 0 ? (size_t)n : 0;
    ty_stream_send(s, &blob);
}
