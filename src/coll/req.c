/* req.c - checking calls, copying them, their digest; copying ranges of many tensors */
#include "coll/req.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/names.h"
#include "coll/reduce.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ty_req_title(enum ty_coll_kind kind, const char *name, char *buf, size_t cap)
{
    if (name)
        snprintf(buf, cap, "%s '%s'", ty_coll_kind_name(kind), name);
    else
        snprintf(buf, cap, "an unnamed %s", ty_coll_kind_name(kind));
    return buf;
}

/* ---- checks ---- */

static int refuse(const struct ty_coll_call *call, int code, struct ty_error *err, const char *why)
{
    char title[160];

    return ty_error_set(err, code, "cannot submit %s: %s",
                        ty_req_title(call->kind, call->name, title, sizeof title), why);
}

static bool moves_data(enum ty_coll_kind k)
{
    return k <= TY_COLL_ALLTOALL;
}
static bool cuts_rows(enum ty_coll_kind k)
{
    return k == TY_COLL_REDUCESCATTER || k == TY_COLL_ALLGATHER || k == TY_COLL_ALLTOALL;
}

static int check_buf(const struct ty_coll_call *call, int i, int size, struct ty_error *err)
{
    const struct ty_coll_buf *b = &call->in[i];
    int64_t product = 1;

    if (b->count < 0 || b->ndims < 0 || b->ndims > TY_COLL_DIMS)
        return refuse(call, -EINVAL, err,
                      "a tensor has a negative count, or more dimensions than 16");
    if (b->count > 0 && !b->data)
        return refuse(call, -EINVAL, err, "a tensor has elements but no data");
    for (int d = 0; d < b->ndims; d++)
        if (b->dims[d] < 0 || __builtin_mul_overflow(product, b->dims[d], &product))
            return refuse(call, -EINVAL, err, "a tensor's dimensions are negative or too large");
    if (b->ndims > 0 && product != b->count)
        return refuse(call, -EINVAL, err, "a tensor's count is not the product of its dimensions");
    if (b->ndims == 0 && cuts_rows(call->kind))
        return refuse(
            call, -EINVAL, err,
            "it works along the first dimension, and a tensor has none (a rank-zero tensor)");
    /* Of a reducescatter of less rows than ranks some ranks get nothing. */
    if (call->out && call->kind != TY_COLL_ALLGATHER && call->kind != TY_COLL_ALLTOALL &&
        b->count > 0 && !call->out[i].data &&
        (call->kind != TY_COLL_REDUCESCATTER || b->dims[0] >= size))
        return refuse(call, -EINVAL, err, "an output has no data");
    return 0;
}

static int check_splits(const struct ty_coll_call *call, int size, struct ty_error *err)
{
    int64_t rows = call->in[0].dims[0], sum = 0;

    if (call->nbufs != 1)
        return refuse(call, -ENOTSUP, err, "alltoall takes one tensor");
    if (!call->splits)
        return rows % size == 0
                   ? 0
                   : refuse(
                         call, -EINVAL, err,
                         "without splits the first dimension must be divisible by the number of ranks");
    for (int i = 0; i < size; i++)
        if (call->splits[i] < 0 || __builtin_add_overflow(sum, call->splits[i], &sum))
            return refuse(call, -EINVAL, err, "a split is negative");
    if (sum > rows)
        return refuse(call, -EINVAL, err, "the splits add up to more than the first dimension");
    return 0;
}

static int check_op(const struct ty_coll_call *call, int size, struct ty_error *err)
{
    if (call->kind != TY_COLL_ALLREDUCE && call->kind != TY_COLL_REDUCESCATTER)
        return 0;
    if ((unsigned)call->op >= TY_COLL_OPS)
        return refuse(call, -EINVAL, err, "there is no such reduction");
    if (call->kind == TY_COLL_REDUCESCATTER && call->op != TY_COLL_SUM &&
        call->op != TY_COLL_AVERAGE)
        return refuse(call, -ENOTSUP, err, "reducescatter can sum and average only");
    if (call->op != TY_COLL_ADASUM)
        return 0;
    if (call->dtype < TY_COLL_F16)
        return refuse(call, -ENOTSUP, err, "Adasum needs a floating type");
    if (size & (size - 1))
        return refuse(call, -ENOTSUP, err, "Adasum needs a number of ranks that is a power of two");
    return 0;
}

static int check(const struct ty_coll_call *call, int size, struct ty_error *err)
{
    int r;

    if ((unsigned)call->kind >= TY_COLL_KINDS)
        return ty_error_set(err, -EINVAL, "cannot submit an operation of kind %d: there is none",
                            (int)call->kind);
    if (call->kind == TY_COLL_SET_ADD && (call->nranks <= 0 || !call->ranks))
        return refuse(call, -EINVAL, err, "a process set needs ranks");
    if (!moves_data(call->kind))
        return 0;
    if ((unsigned)call->dtype >= TY_COLL_DTYPES)
        return refuse(call, -EINVAL, err, "there is no such dtype");
    if (call->nbufs < 1 || !call->in)
        return refuse(call, -EINVAL, err, "no tensors were given");
    if (!call->out && call->kind != TY_COLL_ALLGATHER && call->kind != TY_COLL_ALLTOALL)
        return refuse(call, -EINVAL, err, "no outputs were given");
    for (int i = 0; i < call->nbufs; i++) {
        r = check_buf(call, i, size, err);
        if (r < 0)
            return r;
    }
    r = check_op(call, size, err);
    if (r == 0 && call->kind == TY_COLL_ALLTOALL)
        r = check_splits(call, size, err);
    return r;
}

/* ---- copy ---- */

/* Hands out pieces of a request's block. */
struct piece {
    unsigned char *at;
};
static void *take(struct piece *p, size_t n)
{
    void *ret = p->at;

    p->at += (n + 7) / 8 * 8;
    return ret;
}

static size_t block_bytes(const struct ty_coll_call *call, int nsegs, int size)
{
    size_t n = (size_t)nsegs * sizeof(struct ty_seg) + 64;

    for (int i = 0; i < nsegs; i++)
        n += (size_t)call->in[i].ndims * sizeof(int64_t);
    if (call->name)
        n += strlen(call->name) + 8;
    if (call->kind == TY_COLL_ALLTOALL)
        n += (size_t)size * sizeof(int64_t);
    if (call->kind == TY_COLL_SET_ADD)
        n += (size_t)call->nranks * sizeof(int) + 8;
    return n;
}

static void copy_segs(struct ty_req *r, const struct ty_coll_call *call, struct piece *p)
{
    r->seg = take(p, (size_t)r->nsegs * sizeof *r->seg);
    for (int i = 0; i < r->nsegs; i++) {
        const struct ty_coll_buf *b = &call->in[i];
        struct ty_seg *s = &r->seg[i];
        int64_t *dims = take(p, (size_t)b->ndims * sizeof(int64_t));

        if (b->ndims)
            memcpy(dims, b->dims, (size_t)b->ndims * sizeof(int64_t));
        s->in = b->data;
        s->out = call->out && call->kind != TY_COLL_ALLGATHER && call->kind != TY_COLL_ALLTOALL
                     ? call->out[i].data
                     : NULL;
        s->count = b->count;
        s->at = r->count;
        s->ndims = b->ndims;
        s->dims = dims;
        r->count += b->count;
    }
}

static int compare_ints(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static void copy_extras(struct ty_req *r, const struct ty_coll_call *call, int size,
                        struct piece *p)
{
    if (r->kind == TY_COLL_ALLTOALL) {
        int64_t *splits = take(p, (size_t)size * sizeof *splits);

        for (int i = 0; i < size; i++)
            splits[i] = call->splits ? call->splits[i] : call->in[0].dims[0] / size;
        r->splits = splits;
    }
    if (r->kind == TY_COLL_SET_ADD) {
        int *ranks = take(p, (size_t)call->nranks * sizeof *ranks);

        memcpy(ranks, call->ranks, (size_t)call->nranks * sizeof *ranks);
        qsort(ranks, (size_t)call->nranks, sizeof *ranks, compare_ints);
        r->ranks = ranks;
        r->nranks = call->nranks;
    }
    if (call->name) {
        char *name = take(p, strlen(call->name) + 1);

        memcpy(name, call->name, strlen(call->name) + 1);
        r->name = name;
    }
}

/* ---- digest ---- */

struct hash {
    unsigned char buf[1024];
    size_t n;
    uint64_t folded;
};

static uint64_t short_hash(const void *p, size_t n)
{
    static const unsigned char key[crypto_shorthash_KEYBYTES] = "trainyard.coll.";
    uint64_t h;

    crypto_shorthash((unsigned char *)&h, p, n, key);
    return h;
}
static void fold(struct hash *h)
{
    memcpy(h->buf + h->n, &h->folded, sizeof h->folded);
    h->folded = short_hash(h->buf, h->n + sizeof h->folded);
    h->n = 0;
}
static void add(struct hash *h, const void *p, size_t n)
{
    const unsigned char *from = p;

    while (n > 0) {
        size_t k = n < sizeof h->buf - 8 - h->n ? n : sizeof h->buf - 8 - h->n;

        memcpy(h->buf + h->n, from, k);
        h->n += k;
        from += k;
        n -= k;
        if (n > 0)
            fold(h);
    }
}

static void digest(struct ty_req *r, int set)
{
    struct hash h;
    int32_t head[8] = { r->kind,
                        r->dtype,
                        r->op,
                        r->kind == TY_COLL_BROADCAST ? r->root : 0,
                        r->nsegs,
                        r->device >= 0,
                        r->kind == TY_COLL_SET_REMOVE ? set : 0,
                        r->name != NULL };
    double scale[2] = { r->prescale, r->postscale };
    bool free_rows = r->kind == TY_COLL_ALLGATHER || r->kind == TY_COLL_ALLTOALL;

    h.n = 0;
    h.folded = 0;
    add(&h, head, sizeof head);
    add(&h, scale, sizeof scale);
    for (int i = 0; i < r->nsegs; i++) {
        const struct ty_seg *s = &r->seg[i];
        int skip = free_rows && s->ndims > 0;

        add(&h, &s->ndims, sizeof s->ndims);
        if (s->ndims == 0)
            add(&h, &s->count, sizeof s->count);
        add(&h, s->dims + skip, (size_t)(s->ndims - skip) * sizeof(int64_t));
    }
    if (r->nranks)
        add(&h, r->ranks, (size_t)r->nranks * sizeof *r->ranks);
    if (r->name)
        add(&h, r->name, strlen(r->name));
    fold(&h);
    r->digest = h.folded ? h.folded : 1;
    if (r->name) {
        h.n = 0;
        h.folded = 0;
        add(&h, head, sizeof head[0]);
        add(&h, r->name, strlen(r->name));
        fold(&h);
        r->name_key = h.folded ? h.folded : 1;
    }
}

int ty_req_init(struct ty_req *r, const struct ty_coll_call *call, int size,
                bool (*in_set)(void *ctx, int rank), void *ctx, struct ty_error *err)
{
    bool data = (unsigned)call->kind < TY_COLL_KINDS && moves_data(call->kind);
    bool reduces = call->kind == TY_COLL_ALLREDUCE || call->kind == TY_COLL_REDUCESCATTER;
    int e = check(call, size, err);
    struct piece p;
    size_t bytes;

    if (e < 0)
        return e;
    if (call->kind == TY_COLL_BROADCAST && !in_set(ctx, call->root))
        return refuse(call, -EINVAL, err, "the root rank is not in the process set");
    memset(r, 0, offsetof(struct ty_req, room));
    r->kind = call->kind;
    r->dtype = data ? call->dtype : TY_COLL_U8;
    r->op = reduces ? call->op : TY_COLL_SUM;
    r->root = call->kind == TY_COLL_SET_REMOVE ? call->set : call->root;
    r->device = data && call->device > 0 ? call->device - 1 : -1;
    r->ready = call->ready;
    r->prescale = reduces && call->prescale != 0 ? call->prescale : 1;
    r->load_scale = r->prescale;
    r->postscale = reduces && call->postscale != 0 ? call->postscale : 1;
    r->nsegs = data ? call->nbufs : 0;
    r->size = ty_coll_dtype_size(r->dtype);
    bytes = block_bytes(call, r->nsegs, size);
    if (bytes > sizeof r->room) {
        r->block = FAULT("req.alloc", NULL, malloc(bytes));
        if (!r->block)
            return ty_error_oom(err);
    }
    p.at = r->block ? r->block : (unsigned char *)r->room;
    copy_segs(r, call, &p);
    copy_extras(r, call, size, &p);
    digest(r, call->set);
    return 0;
}

void ty_req_alias(struct ty_req *ret, const struct ty_req *r)
{
    *ret = (struct ty_req){ .ch = r->ch,
                            .state = TY_REQ_RUNNING,
                            .kind = r->kind,
                            .dtype = r->dtype,
                            .op = r->op,
                            .root = r->root,
                            .device = r->device,
                            .prescale = r->prescale,
                            .postscale = r->postscale,
                            .load_scale = r->load_scale,
                            .name = r->name,
                            .digest = r->digest,
                            .name_key = r->name_key,
                            .nsegs = r->nsegs,
                            .seg = r->seg,
                            .size = r->size,
                            .count = r->count,
                            .splits = r->splits,
                            .ranks = r->ranks,
                            .nranks = r->nranks };
}

void ty_req_done(struct ty_req *r)
{
    ty_coll_result_done(&r->got);
    free(r->error);
    free(r->missing);
    free(r->block);
}

void ty_coll_result_done(struct ty_coll_result *r)
{
    if (r->data)
        for (int i = 0; r->data[i]; i++)
            r->device ? (void)r->device_free(r->data[i]) : free(r->data[i]);
    free(r->data);
    free(r->rows);
    memset(r, 0, sizeof *r);
}

/* ---- ranges ---- */

int64_t ty_seg_row(const struct ty_seg *s)
{
    int64_t row = 1;

    for (int d = 1; d < s->ndims; d++)
        row *= s->dims[d];
    return row;
}

int ty_req_seg(const struct ty_req *r, int64_t at)
{
    int low = 0, high = r->nsegs - 1;

    while (low < high) {
        int middle = (low + high + 1) / 2;

        if (r->seg[middle].at <= at)
            low = middle;
        else
            high = middle - 1;
    }
    /* Empty tensors share their successor's position. */
    while (low < r->nsegs - 1 && at >= r->seg[low].at + r->seg[low].count)
        low++;
    return low;
}

void ty_req_load(const struct ty_req *r, int64_t from, int64_t n, void *dst, double factor,
                 bool stream)
{
    unsigned char *to = dst;

    for (int i = n > 0 ? ty_req_seg(r, from) : 0; n > 0; i++) {
        const struct ty_seg *s = &r->seg[i];
        int64_t skip = from - s->at, k = s->count - skip < n ? s->count - skip : n;
        const unsigned char *src = s->in + (size_t)skip * r->size;

        if (factor != 1)
            ty_scale_to(r->dtype, to, src, (size_t)k, factor);
        else if (stream)
            ty_copy_stream(to, src, (size_t)k * r->size);
        else
            memcpy(to, src, (size_t)k * r->size);
        to += (size_t)k * r->size;
        from += k;
        n -= k;
    }
}

void ty_req_store(const struct ty_req *r, int64_t from, int64_t n, const void *src)
{
    const unsigned char *at = src;

    for (int i = n > 0 ? ty_req_seg(r, from) : 0; n > 0; i++) {
        const struct ty_seg *s = &r->seg[i];
        int64_t skip = from - s->at, k = s->count - skip < n ? s->count - skip : n;

        memcpy(s->out + (size_t)skip * r->size, at, (size_t)k * r->size);
        at += (size_t)k * r->size;
        from += k;
        n -= k;
    }
}
