/* allreduce.c - the ways of an allreduce
 *
 *   inline  small tensors are in the posts: whoever has seen all posts reduces all of them.  No barrier.
 *   direct  all tensors are in the arenas.  The batch is cut into one slice for each rank; each reduces its slice of all
 *           ranks' tensors, in rank order, and stores the result to all of them.  One barrier, at the end.
 *   each    windows of 128 KiB pass through slots; each rank reduces all slots.  One barrier a window.
 *   slices  windows of 1 MiB; each rank reduces its slice of all slots into its own slot, and copies the others' slices
 *           out.  Two barriers a window.
 *   cma     each rank reads its slice of the others' tensors from their processes, and then the others' results (cma.c).
 *
 * The order of additions is that of the ranks in all of them, so the result does not depend on the way taken, on how
 * a tensor is cut, or on who comes first.  Between nodes the slices of a node are reduced with the same slices of the
 * others, by the first `rails` members of each node; the order is the plan's, equal on all ranks.
 */
#include "base/fault.h"
#include "coll/cross.h"
#include "coll/move.h"
#include "coll/reduce.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EACH_BYTES (128 << 10)
#define PIECE_BYTES (64 << 20)

double ty_average(enum ty_coll_dtype t, enum ty_coll_op op, double postscale, int n)
{
    double factor = op == TY_COLL_AVERAGE ? postscale / n : postscale;

    if (op != TY_COLL_AVERAGE || t > TY_COLL_BOOL || n == 1)
        return factor;
    return nextafter(factor, factor < 0 ? -INFINITY : INFINITY);
}

/* What the sum is multiplied by; an average is a sum. */
static double factor_of(const struct ty_chan *ch, const struct ty_req *r)
{
    return ty_average(r->dtype, r->op, r->postscale, ch->n);
}
static enum ty_coll_op op_of(const struct ty_req *r)
{
    return r->op == TY_COLL_AVERAGE ? TY_COLL_SUM : r->op;
}

_Static_assert(TY_NODE_RANKS <= TY_REDUCE_RANKS, "all ranks of a node at once");

static void reduce_many(const struct ty_req *r, void *const *dst, int ndst, const void **src,
                        int nsrc, size_t n, double factor)
{
    ty_reduce_all(r->dtype, op_of(r), dst, ndst, src, nsrc, n, factor, false);
}

/* ---- inline ---- */

static size_t inline_room(const struct ty_req *r)
{
    return ((size_t)ty_req_bytes(r) + 15) / 16 * 16;
}

int ty_inline_pack(struct ty_chan *ch, struct ty_req *const *req, int m)
{
    struct ty_post *p = ty_chan_post(ch, ch->lme, ch->round);
    size_t at = 0;
    int k = 0;

    for (; k < m && at + inline_room(req[k]) <= sizeof p->payload; k++) {
        ty_req_load(req[k], 0, req[k]->count, p->payload + at, req[k]->load_scale, false);
        at += inline_room(req[k]);
    }
    return k;
}

/* Between nodes the leader reduces the posts of its node, then with the other leaders, and publishes in its slot. */
static int inline_between_nodes(struct ty_chan *ch, struct ty_req *r, const void **src,
                                unsigned char *sum)
{
    unsigned char *slot = ty_chan_slot(ch, 0, ch->windows++);
    void *dst[1] = { slot };
    int e = 0;

    if (ch->lme == 0) {
        reduce_many(r, dst, 1, src, ch->nlocal, (size_t)r->count, 1);
        e = ty_cross_allreduce(ch, 0, r->dtype, op_of(r), slot, r->count);
    }
    if (e == 0)
        e = ty_chan_barrier(ch);
    if (e == 0) {
        memcpy(sum, slot, (size_t)ty_req_bytes(r));
        ty_scale(r->dtype, sum, (size_t)r->count, factor_of(ch, r));
    }
    return e;
}

int ty_allreduce_inline(struct ty_chan *ch, struct ty_req *const *req, int m)
{
    const void *src[TY_NODE_RANKS];
    _Alignas(64) unsigned char sum[TY_INLINE_BYTES];
    size_t at = 0;

    for (int k = 0; k < m; k++) {
        struct ty_req *r = req[k];
        bool one = r->nsegs == 1 && !ch->net;
        void *dst[1] = { one ? r->seg[0].out : sum };
        int e;

        for (int l = 0; l < ch->nlocal; l++)
            src[l] = ty_chan_post(ch, l, ch->round)->payload + at;
        at += inline_room(r);
        if (r->count == 0)
            continue;
        if (ch->net) {
            e = inline_between_nodes(ch, r, src, sum);
            if (e < 0)
                return e;
        } else {
            reduce_many(r, dst, 1, src, ch->nlocal, (size_t)r->count, factor_of(ch, r));
        }
        if (!one)
            ty_req_store(r, 0, r->count, sum);
    }
    return 0;
}

/* ---- direct ---- */

int ty_direct_pack(struct ty_chan *ch, struct ty_req *const *req, int m)
{
    struct ty_post *p = ty_chan_post(ch, ch->lme, ch->round);
    const unsigned char *arena = ty_node_arena(ch->node, ch->node->me);
    uint64_t *offset = (uint64_t *)p->payload;
    int room = (int)(sizeof p->payload / sizeof *offset), k = 0;

    for (; k < m && req[k]->nsegs <= room; k++) {
        struct ty_req *r = req[k];

        room -= r->nsegs;
        for (int i = 0; i < r->nsegs; i++) {
            struct ty_seg *s = &r->seg[i];

            *offset++ = s->count ? (uint64_t)(s->out - arena) : 0;
            if (s->count == 0)
                continue;
            if (s->in != s->out)
                ty_scale_to(r->dtype, s->out, s->in, (size_t)s->count, r->load_scale);
            else
                ty_scale(r->dtype, s->out, (size_t)s->count, r->load_scale);
            s->in = s->out;
        }
        r->load_scale = 1;
    }
    return k;
}

/* Elements [from, to) of tensor s, which is at offset[l] in the arena of local member l. */
static int direct_range(struct ty_chan *ch, const struct ty_req *r, const uint64_t *offset,
                        int64_t from, int64_t to, int rail)
{
    const void *src[TY_NODE_RANKS];
    void *dst[TY_NODE_RANKS];
    double factor = factor_of(ch, r);
    size_t n = (size_t)(to - from);
    int e;

    for (int l = 0; l < ch->nlocal; l++)
        src[l] = dst[l] =
            ty_node_arena(ch->node, ch->local[l]) + offset[l] + (size_t)from * r->size;
    if (!ch->net) {
        reduce_many(r, dst, ch->nlocal, src, ch->nlocal, n, factor);
        return 0;
    }
    reduce_many(r, &dst[ch->lme], 1, src, ch->nlocal, n, 1);
    e = ty_cross_allreduce(ch, rail, r->dtype, op_of(r), dst[ch->lme], (int64_t)n);
    if (e < 0)
        return e;
    ty_scale(r->dtype, dst[ch->lme], n, factor);
    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme)
            memcpy(dst[l], dst[ch->lme], n * r->size);
    return 0;
}

int64_t ty_share(int64_t count, size_t size, int i, int owners)
{
    int64_t line = 64 / (int64_t)size, lines = (count + line - 1) / line,
            at = lines / owners * i + (lines % owners) * i / owners;

    return i == owners || at * line > count ? count : at * line;
}

int ty_allreduce_direct(struct ty_chan *ch, struct ty_req *const *req, int m)
{
    int owners = ch->net ? ch->rails : ch->nlocal;
    int64_t total = 0, from, to, at = 0;
    int k = 0;

    /* Slices are of the whole batch, in bytes: tensors of different types may be in one. */
    for (int i = 0; i < m; i++)
        total += (ty_req_bytes(req[i]) + 63) / 64 * 64;
    from = ty_share(total, 1, ch->lme < owners ? ch->lme : owners, owners);
    to = ty_share(total, 1, ch->lme < owners ? ch->lme + 1 : owners, owners);
    for (int i = 0; i < m; i++) {
        const struct ty_req *r = req[i];
        int64_t size = (int64_t)r->size, end = at + (ty_req_bytes(r) + 63) / 64 * 64;

        for (int j = 0; j < r->nsegs; j++, k++) {
            const struct ty_seg *s = &r->seg[j];
            int64_t first = (from - at) / size - s->at,
                    past = to >= end ? s->count : (to - at) / size - s->at;
            uint64_t offset[TY_NODE_RANKS];
            int e;

            first = first < 0 ? 0 : first;
            past = past > s->count ? s->count : past;
            if (first >= past)
                continue;
            for (int l = 0; l < ch->nlocal; l++)
                offset[l] = ((const uint64_t *)ty_chan_post(ch, l, ch->round)->payload)[k];
            e = direct_range(ch, r, offset, first, past, ch->lme);
            if (e < 0)
                return e;
        }
        at = end;
    }
    return ty_chan_barrier(ch);
}

/* ---- staged ---- */

static int each_window(struct ty_chan *ch, struct ty_req *r, int64_t from, int64_t n, bool stream)
{
    uint64_t w = ch->windows++;
    const void *src[TY_NODE_RANKS];
    double factor = factor_of(ch, r);
    int64_t at = from;
    int e;

    ty_req_load(r, from, n, ty_chan_slot(ch, ch->lme, w), r->load_scale, stream);
    e = ty_chan_barrier(ch);
    if (e < 0)
        return e;
    for (int i = ty_req_seg(r, from); at < from + n; i++) {
        const struct ty_seg *s = &r->seg[i];
        int64_t skip = at - s->at,
                k = s->count - skip < from + n - at ? s->count - skip : from + n - at;
        void *dst[1] = { s->out + (size_t)skip * r->size };

        if (k == 0)
            continue;
        for (int l = 0; l < ch->nlocal; l++)
            src[l] = ty_chan_slot(ch, l, w) + (size_t)(at - from) * r->size;
        reduce_many(r, dst, 1, src, ch->nlocal, (size_t)k, factor);
        at += k;
    }
    return 0;
}

static int slices_window(struct ty_chan *ch, struct ty_req *r, int64_t from, int64_t n, bool stream)
{
    uint64_t w = ch->windows++;
    int owners = ch->nlocal;
    const void *src[TY_NODE_RANKS];
    unsigned char *own = ty_chan_slot(ch, ch->lme, w);
    int64_t a = ty_share(n, r->size, ch->lme, owners),
            b = ty_share(n, r->size, ch->lme + 1, owners);
    int e;

    ty_req_load(r, from, n, own, r->load_scale, stream);
    e = ty_chan_barrier(ch);
    if (e < 0)
        return e;
    if (a < b) {
        void *dst[1] = { own + (size_t)a * r->size };

        for (int l = 0; l < ch->nlocal; l++)
            src[l] = ty_chan_slot(ch, l, w) + (size_t)a * r->size;
        reduce_many(r, dst, 1, src, ch->nlocal, (size_t)(b - a), factor_of(ch, r));
    }
    e = ty_chan_barrier(ch);
    for (int i = 0; e == 0 && i < owners; i++) {
        a = ty_share(n, r->size, i, owners);
        b = ty_share(n, r->size, i + 1, owners);
        ty_req_store(r, from + a, b - a, ty_chan_slot(ch, i, w) + (size_t)a * r->size);
    }
    return e;
}

/* ---- staged, between nodes ---- */

/* A piece of a tensor on its way: elements [from, from + n) of r; `sum`: this rank's slices of its windows, one after another. */
struct piece {
    struct ty_chan *ch;
    struct ty_req *r;
    int64_t from, n;
    unsigned char *sum;
};

static int64_t window_of(const struct piece *p, int64_t at)
{
    int64_t most = TY_SLOT_BYTES / (int64_t)p->r->size;

    return p->n - at < most ? p->n - at : most;
}

/* My slice of a window of n elements; empty for those who are no rail. */
static void my_slice(const struct piece *p, int64_t n, int64_t *a, int64_t *b)
{
    int rails = p->ch->rails, i = p->ch->lme < rails ? p->ch->lme : rails;

    *a = ty_share(n, p->r->size, i, rails);
    *b = ty_share(n, p->r->size, i < rails ? i + 1 : rails, rails);
}

/* 1: the node's sum of my slices.  *count: how many elements. */
static int gather_slices(struct piece *p, int64_t *count)
{
    struct ty_chan *ch = p->ch;
    size_t size = p->r->size;
    const void *src[TY_NODE_RANKS];
    int64_t n, a, b;
    int e = 0;

    *count = 0;
    for (int64_t at = 0; e == 0 && at < p->n; at += n) {
        uint64_t w = ch->windows++;

        n = window_of(p, at);
        my_slice(p, n, &a, &b);
        ty_req_load(p->r, p->from + at, n, ty_chan_slot(ch, ch->lme, w), p->r->load_scale, false);
        e = ty_chan_barrier(ch);
        if (e == 0 && a < b) {
            void *dst[1] = { p->sum + (size_t)*count * size };

            for (int l = 0; l < ch->nlocal; l++)
                src[l] = ty_chan_slot(ch, l, w) + (size_t)a * size;
            reduce_many(p->r, dst, 1, src, ch->nlocal, (size_t)(b - a), 1);
            *count += b - a;
        }
    }
    return e;
}

/* 3: everybody's slices to everybody on the node. */
static int spread_slices(struct piece *p)
{
    struct ty_chan *ch = p->ch;
    size_t size = p->r->size, done = 0;
    int64_t n, a, b;
    int e = 0;

    for (int64_t at = 0; e == 0 && at < p->n; at += n) {
        uint64_t w = ch->windows++;

        n = window_of(p, at);
        my_slice(p, n, &a, &b);
        if (a < b)
            memcpy(ty_chan_slot(ch, ch->lme, w) + (size_t)a * size, p->sum + done,
                   (size_t)(b - a) * size);
        done += (size_t)(b - a) * size;
        e = ty_chan_barrier(ch);
        for (int i = 0; e == 0 && i < ch->rails; i++) {
            a = ty_share(n, size, i, ch->rails);
            b = ty_share(n, size, i + 1, ch->rails);
            ty_req_store(p->r, p->from + at + a, b - a, ty_chan_slot(ch, i, w) + (size_t)a * size);
        }
    }
    return e;
}

/* 2: with the same slices of the other nodes. */
static int cross_slices(struct piece *p, int64_t count)
{
    int e =
        count ? ty_cross_allreduce(p->ch, p->ch->lme, p->r->dtype, op_of(p->r), p->sum, count) : 0;

    if (e == 0)
        ty_scale(p->r->dtype, p->sum, (size_t)count, factor_of(p->ch, p->r));
    return e;
}

/* A node with one member has nothing to gather or to spread. */
static int alone_on_node(struct piece *p, bool in_place)
{
    int e;

    if (in_place)
        p->sum = p->r->seg[0].out + (size_t)p->from * p->r->size;
    if (!in_place || p->r->seg[0].in != p->r->seg[0].out || p->r->load_scale != 1)
        ty_req_load(p->r, p->from, p->n, p->sum, p->r->load_scale, false);
    e = cross_slices(p, p->n);
    if (e == 0 && !in_place)
        ty_req_store(p->r, p->from, p->n, p->sum);
    return e;
}

/* Pieces are large, for every plan between nodes has its latency, and the same on all nodes. */
static int allreduce_between_nodes(struct ty_chan *ch, struct ty_req *r)
{
    int64_t most = PIECE_BYTES / (int64_t)r->size, n;
    bool in_place = ch->nlocal == 1 && r->nsegs == 1;
    struct piece p = { .ch = ch, .r = r };
    unsigned char *sum = NULL;
    int e = 0;

    if (!in_place && ch->lme < ch->rails && r->count) {
        size_t room = (size_t)(r->count < most ? r->count : most) * r->size;

        /* Slices are cut at lines, so that mine may be a line longer in every window. */
        room = room / (size_t)ch->rails + (room / TY_SLOT_BYTES + 2) * 128;
        sum = FAULT("allreduce.alloc", NULL, aligned_alloc(64, (room + 63) / 64 * 64));
        if (!sum)
            return -ENOMEM;
    }
    for (int64_t at = 0; e == 0 && at < r->count; at += n) {
        int64_t count = 0;

        n = r->count - at < most ? r->count - at : most;
        p.from = at;
        p.n = n;
        p.sum = sum;
        if (ch->nlocal == 1) {
            e = alone_on_node(&p, in_place);
            continue;
        }
        e = gather_slices(&p, &count);
        if (e == 0)
            e = cross_slices(&p, count);
        if (e == 0)
            e = spread_slices(&p);
    }
    free(sum);
    return e;
}

int ty_allreduce_staged(struct ty_chan *ch, struct ty_req *r, enum ty_path path)
{
    bool slices = path == TY_PATH_SLICES || path == TY_PATH_SLICES_STREAM || path == TY_PATH_CMA;
    bool stream = path == TY_PATH_EACH_STREAM || path == TY_PATH_SLICES_STREAM;
    int64_t step = (slices ? TY_SLOT_BYTES : EACH_BYTES) / (int64_t)r->size;
    int e = 0;

    if (ch->net)
        return allreduce_between_nodes(ch, r);
    if (path == TY_PATH_CMA && r->nsegs == 1)
        return ty_allreduce_cma(ch, r);
    for (int64_t at = 0; e == 0 && at < r->count; at += step) {
        int64_t n = r->count - at < step ? r->count - at : step;

        e = slices ? slices_window(ch, r, at, n, stream) : each_window(ch, r, at, n, stream);
    }
    return e;
}

/* ---- adasum ---- */

/* a = the sum of a and b without what they have in common, in the order (lower rank, higher rank). */
static void adasum_pair(const struct ty_req *r, unsigned char *a, const unsigned char *b,
                        bool lower)
{
    for (int i = 0; i < r->nsegs; i++) {
        const struct ty_seg *s = &r->seg[i];
        unsigned char *x = a + (size_t)s->at * r->size;
        const unsigned char *y = b + (size_t)s->at * r->size;
        double ab, aa, bb, ca, cb;

        if (lower)
            ty_dots(r->dtype, x, y, (size_t)s->count, &ab, &aa, &bb);
        else
            ty_dots(r->dtype, y, x, (size_t)s->count, &ab, &bb, &aa);
        ca = aa > 0 ? 1 - ab / (2 * aa) : 1;
        cb = bb > 0 ? 1 - ab / (2 * bb) : 1;
        ty_axpby(r->dtype, x, y, (size_t)s->count, ca, cb);
    }
}

/* other = the vector of the member me ^ bit.  Windows go through slots; all members of a node do as many barriers. */
static int exchange_vectors(struct ty_chan *ch, const struct ty_req *r, const unsigned char *mine,
                            unsigned char *other, int bit)
{
    int partner = ch->me ^ bit, lpartner = -1;
    int64_t bytes = ty_req_bytes(r);
    int e = 0;

    for (int l = 0; l < ch->nlocal; l++)
        if (ch->member[l] == partner)
            lpartner = l;
    for (int64_t at = 0; e == 0 && at < bytes; at += TY_SLOT_BYTES) {
        size_t n = (size_t)(bytes - at < TY_SLOT_BYTES ? bytes - at : TY_SLOT_BYTES);
        uint64_t w = ch->windows++;

        memcpy(ty_chan_slot(ch, ch->lme, w), mine + at, n);
        e = ty_chan_barrier(ch);
        if (e == 0 && lpartner >= 0)
            memcpy(other + at, ty_chan_slot(ch, lpartner, w), n);
    }
    if (e == 0 && lpartner < 0)
        e = ty_cross_exchange(ch, partner, mine, bytes, partner, other, bytes);
    return e;
}

int ty_adasum(struct ty_chan *ch, struct ty_req *r)
{
    size_t bytes = (size_t)ty_req_bytes(r);
    unsigned char *mine = FAULT("adasum.alloc", NULL, malloc(bytes * 2 + 1)), *other;
    int e = 0;

    if (!mine)
        return -ENOMEM;
    other = mine + bytes;
    ty_req_load(r, 0, r->count, mine, r->load_scale, false);
    for (int bit = 1; e == 0 && bit < ch->n; bit <<= 1) {
        e = exchange_vectors(ch, r, mine, other, bit);
        if (e == 0)
            adasum_pair(r, mine, other, (ch->me & bit) == 0);
    }
    if (e == 0) {
        ty_scale(r->dtype, mine, (size_t)r->count, r->postscale);
        ty_req_store(r, 0, r->count, mine);
    }
    free(mine);
    return e;
}
