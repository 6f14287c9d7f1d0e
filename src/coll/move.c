/* move.c - broadcast, reducescatter, allgather, alltoall, barrier: through the slots of a node, then between nodes
 *
 * All work in windows of a slot.  A window costs one barrier: slots alternate, and whoever passes the barrier of window
 * w + 1 knows that all have read those of window w, so that slot may be written for w + 2.  Whatever a rank writes or
 * reads, every member of the node goes through the same number of windows.
 */
#include "coll/move.h"
#include "base/fault.h"
#include "coll/cross.h"
#include "coll/reduce.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- bytes from all to all ---- */

/* Between the ranks of this node: windows of the largest piece. */
static int gather_on_node(struct ty_chan *ch, const void *in, const int64_t *sizes,
                          const int64_t *at, unsigned char *out)
{
    int64_t most = 0;
    int e = 0;

    for (int l = 0; l < ch->nlocal; l++)
        most = sizes[ch->member[l]] > most ? sizes[ch->member[l]] : most;
    for (int64_t from = 0; e == 0 && from < most; from += TY_SLOT_BYTES) {
        uint64_t w = ch->windows++;
        int64_t n = least(sizes[ch->me] - from, TY_SLOT_BYTES);

        if (n > 0)
            memcpy(ty_chan_slot(ch, ch->lme, w), (const unsigned char *)in + from, (size_t)n);
        e = ty_chan_barrier(ch);
        for (int l = 0; e == 0 && l < ch->nlocal; l++) {
            n = least(sizes[ch->member[l]] - from, TY_SLOT_BYTES);
            if (n > 0)
                memcpy(out + at[ch->member[l]] + from, ty_chan_slot(ch, l, w), (size_t)n);
        }
    }
    return e;
}

/* Member i is met in step i - me: whom I send to receives from me in the same step. */
static int gather_between_nodes(struct ty_chan *ch, const void *in, const int64_t *sizes,
                                const int64_t *at, unsigned char *out)
{
    for (int step = 1; step < ch->n; step++) {
        int to = (ch->me + step) % ch->n, from = (ch->me - step + ch->n) % ch->n, e;

        e = ty_cross_exchange(ch, ch->node_of[to] == ch->my_node ? -1 : to, in, sizes[ch->me],
                              ch->node_of[from] == ch->my_node ? -1 : from, out + at[from],
                              sizes[from]);
        if (e < 0)
            return e;
    }
    return 0;
}

int ty_gather(struct ty_chan *ch, const void *in, const int64_t *sizes, void *out)
{
    int64_t *at = FAULT("gather.alloc", NULL, malloc((size_t)ch->n * sizeof *at)), sum = 0;
    int e;

    if (!at)
        return -ENOMEM;
    for (int i = 0; i < ch->n; i++) {
        at[i] = sum;
        sum += sizes[i];
    }
    e = gather_on_node(ch, in, sizes, at, out);
    if (e == 0 && ch->net)
        e = gather_between_nodes(ch, in, sizes, at, out);
    free(at);
    return e;
}

int ty_gather_fixed(struct ty_chan *ch, const void *in, size_t bytes, void *out)
{
    int64_t *sizes = FAULT("gather.alloc", NULL, malloc((size_t)ch->n * sizeof *sizes));
    int e;

    if (!sizes)
        return -ENOMEM;
    for (int i = 0; i < ch->n; i++)
        sizes[i] = (int64_t)bytes;
    e = ty_gather(ch, in, sizes, out);
    free(sizes);
    return e;
}

int ty_barrier(struct ty_chan *ch)
{
    char all[TY_NODE_RANKS], one = 1;
    char *out = ch->n <= TY_NODE_RANKS ? all : malloc((size_t)ch->n);
    int e = out ? ty_gather_fixed(ch, &one, 1, out) : -ENOMEM;

    if (out != all)
        free(out);
    return e;
}

/* ---- broadcast ---- */

/* `source`: the local member that has the data at first. */
static int broadcast_on_node(struct ty_chan *ch, struct ty_req *r, int source)
{
    int64_t step = TY_SLOT_BYTES / 2 / (int64_t)r->size;
    int e = 0;

    for (int64_t at = 0; e == 0 && at < r->count; at += step) {
        int64_t n = least(r->count - at, step);
        unsigned char *slot = ty_chan_slot(ch, source, ch->windows++);

        if (ch->lme == source)
            ty_req_load(r, at, n, slot, 1, false);
        e = ty_chan_barrier(ch);
        if (e == 0 && ch->lme != source)
            ty_req_store(r, at, n, slot);
    }
    return e;
}

/* A tensor after the other down a binomial tree of one member for each node: the root, and the leaders of the others. */
static int broadcast_between_nodes(struct ty_chan *ch, struct ty_req *r, int root)
{
    int home = ch->node_of[root], n = ch->nnodes, v = (ch->my_node - home + n) % n, bit = 1;
    int e = 0;

    while (bit < n && !(v & bit))
        bit <<= 1;
    for (int i = 0; e == 0 && i < r->nsegs; i++) {
        struct ty_seg *s = &r->seg[i];
        int64_t bytes = s->count * (int64_t)r->size;

        if (v != 0) {
            int parent = (v - bit + home) % n;

            e = ty_cross_exchange(
                ch, -1, NULL, 0, parent == home ? root : ty_chan_leader(ch, parent), s->out, bytes);
        }
        for (int b = bit >> 1; e == 0 && b > 0; b >>= 1)
            if (v + b < n)
                e = ty_cross_exchange(ch, ty_chan_leader(ch, (v + b + home) % n),
                                      v ? s->out : s->in, bytes, -1, NULL, 0);
    }
    return e;
}

int ty_broadcast(struct ty_chan *ch, struct ty_req *r)
{
    int root = ty_chan_member(ch, r->root), source = 0, e = 0;
    bool here = ch->node_of[root] == ch->my_node;

    for (int l = 0; here && l < ch->nlocal; l++)
        if (ch->member[l] == root)
            source = l;
    if (ch->net && (here ? ch->me == root : ch->lme == 0))
        e = broadcast_between_nodes(ch, r, root);
    if (ch->me == root)
        for (int i = 0; i < r->nsegs; i++)
            if (r->seg[i].out != r->seg[i].in && r->seg[i].count)
                memcpy(r->seg[i].out, r->seg[i].in, (size_t)r->seg[i].count * r->size);
    if (ch->net && ch->me != root && ch->lme == 0 && !here)
        for (int i = 0; i < r->nsegs; i++)
            r->seg[i].in = r->seg[i].out; /* it is the source for its node now */
    if (e == 0)
        e = broadcast_on_node(ch, r, source);
    return e;
}

/* ---- reducescatter ---- */

/* This node's sum of what belongs to the members, window by window: a slot holds the same part of each one's block.
 * sum[i] receives for member i where this rank is to have it: `mine` alone on one node. */
static int scatter_on_node(struct ty_chan *ch, const struct ty_req *r, const struct ty_seg *s,
                           double factor)
{
    int64_t row = ty_seg_row(s), rows = s->dims[0],
            part = TY_SLOT_BYTES / ch->n / 64 * 64 / (int64_t)r->size;
    int64_t longest = (ty_first_row(rows, ch->n, 1) - 0) * row;
    const void *src[TY_NODE_RANKS];
    int e = 0;

    for (int64_t at = 0; e == 0 && at < longest; at += part) {
        uint64_t w = ch->windows++;
        unsigned char *slot = ty_chan_slot(ch, ch->lme, w);
        int64_t n;

        for (int i = 0; i < ch->n; i++) {
            int64_t first = ty_first_row(rows, ch->n, i) * row + at,
                    past = ty_first_row(rows, ch->n, i + 1) * row;

            n = least(past - first, part);
            if (n > 0)
                ty_scale_to(r->dtype, slot + (size_t)(i * part) * r->size,
                            s->in + (size_t)first * r->size, (size_t)n, r->load_scale);
        }
        e = ty_chan_barrier(ch);
        n = least(
            (ty_first_row(rows, ch->n, ch->me + 1) - ty_first_row(rows, ch->n, ch->me)) * row - at,
            part);
        if (e == 0 && n > 0) {
            void *dst[1] = { s->out + (size_t)at * r->size };

            for (int l = 0; l < ch->nlocal; l++)
                src[l] = ty_chan_slot(ch, l, w) + (size_t)(ch->me * part) * r->size;
            ty_reduce_all(r->dtype, TY_COLL_SUM, dst, 1, src, ch->nlocal, (size_t)n, factor, false);
        }
    }
    return e;
}

/* Between nodes: an allreduce into memory of our own, of which each keeps its block. */
static int scatter_between_nodes(struct ty_chan *ch, const struct ty_req *r)
{
    struct ty_req all;
    int e;

    ty_req_alias(&all, r);
    all.block = FAULT("scatter.alloc", NULL,
                      malloc((size_t)r->nsegs * sizeof *all.seg + (size_t)ty_req_bytes(r) + 64));
    if (!all.block)
        return -ENOMEM;
    all.kind = TY_COLL_ALLREDUCE;
    all.seg = all.block;
    for (int i = 0; i < r->nsegs; i++) {
        all.seg[i] = r->seg[i];
        all.seg[i].out = (unsigned char *)all.block + (size_t)r->nsegs * sizeof *all.seg +
                         (size_t)r->seg[i].at * r->size;
    }
    e = ty_allreduce_staged(ch, &all, TY_PATH_SLICES);
    for (int i = 0; e == 0 && i < r->nsegs; i++) {
        const struct ty_seg *s = &r->seg[i];
        int64_t row = ty_seg_row(s), a = ty_first_row(s->dims[0], ch->n, ch->me),
                b = ty_first_row(s->dims[0], ch->n, ch->me + 1);

        if (a < b && row)
            memcpy(s->out, all.seg[i].out + (size_t)(a * row) * r->size,
                   (size_t)((b - a) * row) * r->size);
    }
    free(all.block);
    return e;
}

int ty_reducescatter(struct ty_chan *ch, struct ty_req *r)
{
    double factor = ty_average(r->dtype, r->op, r->postscale, ch->n);
    int e = 0;

    if (ch->net)
        return scatter_between_nodes(ch, r);
    for (int i = 0; e == 0 && i < r->nsegs; i++)
        e = scatter_on_node(ch, r, &r->seg[i], factor);
    return e;
}

/* ---- allgather ---- */

static void *block(size_t n)
{
    return FAULT("result.alloc", NULL, malloc(n ? n : 1));
}

/* rows[n * nsegs] by member; got.rows wants them tensor after tensor. */
int ty_allgather_rows(struct ty_chan *ch, struct ty_req *r)
{
    int64_t *rows = block((size_t)(ch->n + 1) * (size_t)r->nsegs * sizeof *rows), *mine;
    int e = rows ? 0 : -ENOMEM;

    if (e == 0) {
        mine = rows + (size_t)ch->n * (size_t)r->nsegs;
        for (int s = 0; s < r->nsegs; s++)
            mine[s] = r->seg[s].dims[0];
        e = ty_gather_fixed(ch, mine, (size_t)r->nsegs * sizeof *mine, rows);
    }
    if (e == 0) {
        r->got.rows = block((size_t)(ch->n * r->nsegs) * sizeof *r->got.rows);
        r->got.data = calloc((size_t)r->nsegs + 1, sizeof *r->got.data);
        e = r->got.rows && r->got.data ? 0 : -ENOMEM;
    }
    if (e == 0) {
        r->got.nrows = ch->n * r->nsegs;
        for (int s = 0; s < r->nsegs; s++)
            for (int i = 0; i < ch->n; i++)
                r->got.rows[s * ch->n + i] = rows[i * r->nsegs + s];
    }
    free(rows);
    return e;
}

int ty_allgather(struct ty_chan *ch, struct ty_req *r)
{
    int64_t *sizes = block((size_t)ch->n * sizeof *sizes);
    int e = sizes ? ty_allgather_rows(ch, r) : -ENOMEM;

    for (int s = 0; e == 0 && s < r->nsegs; s++) {
        int64_t sum = 0;

        for (int i = 0; i < ch->n; i++) {
            sizes[i] = r->got.rows[s * ch->n + i] * ty_seg_row(&r->seg[s]) * (int64_t)r->size;
            sum += sizes[i];
        }
        r->got.data[s] = block((size_t)sum);
        e = r->got.data[s] ? ty_gather(ch, r->seg[s].in, sizes, r->got.data[s]) : -ENOMEM;
    }
    free(sizes);
    return e;
}

/* ---- alltoall ---- */

/* The bytes that member i has for member j begin at start_of(i, j) of its tensor; all[] is the matrix of splits in rows. */
static int64_t start_of(const struct ty_chan *ch, const int64_t *all, int i, int j)
{
    int64_t sum = 0;

    for (int k = 0; k < j; k++)
        sum += all[i * ch->n + k];
    return sum;
}

static int alltoall_on_node(struct ty_chan *ch, struct ty_req *r, const int64_t *all, int64_t row,
                            const int64_t *at, unsigned char *out)
{
    int64_t most = 0;
    int e = 0;

    for (int l = 0; l < ch->nlocal; l++) {
        int64_t total = start_of(ch, all, ch->member[l], ch->n) * row;

        most = total > most ? total : most;
    }
    for (int64_t from = 0; e == 0 && from < most; from += TY_SLOT_BYTES) {
        uint64_t w = ch->windows++;
        int64_t n = least(start_of(ch, all, ch->me, ch->n) * row - from, TY_SLOT_BYTES);

        if (n > 0)
            memcpy(ty_chan_slot(ch, ch->lme, w), r->seg[0].in + from, (size_t)n);
        e = ty_chan_barrier(ch);
        for (int l = 0; e == 0 && l < ch->nlocal; l++) {
            int i = ch->member[l];
            int64_t first = start_of(ch, all, i, ch->me) * row,
                    past = first + all[i * ch->n + ch->me] * row;
            int64_t a = first > from ? first : from, b = least(past, from + TY_SLOT_BYTES);

            if (a < b)
                memcpy(out + at[i] + (a - first), ty_chan_slot(ch, l, w) + (a - from),
                       (size_t)(b - a));
        }
    }
    return e;
}

static int alltoall_between_nodes(struct ty_chan *ch, struct ty_req *r, const int64_t *all,
                                  int64_t row, const int64_t *at, unsigned char *out)
{
    for (int step = 1; step < ch->n; step++) {
        int to = (ch->me + step) % ch->n, from = (ch->me - step + ch->n) % ch->n, e;

        e = ty_cross_exchange(ch, ch->node_of[to] == ch->my_node ? -1 : to,
                              r->seg[0].in + start_of(ch, all, ch->me, to) * row,
                              all[ch->me * ch->n + to] * row,
                              ch->node_of[from] == ch->my_node ? -1 : from, out + at[from],
                              all[from * ch->n + ch->me] * row);
        if (e < 0)
            return e;
    }
    return 0;
}

int ty_alltoall_rows(struct ty_chan *ch, struct ty_req *r, int64_t *all)
{
    int e = ty_gather_fixed(ch, r->splits, (size_t)ch->n * sizeof *r->splits, all);

    if (e < 0)
        return e;
    r->got.rows = block((size_t)ch->n * sizeof *r->got.rows);
    r->got.data = calloc(2, sizeof *r->got.data);
    if (!r->got.rows || !r->got.data)
        return -ENOMEM;
    r->got.nrows = ch->n;
    for (int i = 0; i < ch->n; i++)
        r->got.rows[i] = all[i * ch->n + ch->me];
    return 0;
}

int ty_alltoall(struct ty_chan *ch, struct ty_req *r)
{
    int64_t row = ty_seg_row(&r->seg[0]) * (int64_t)r->size, sum = 0;
    int64_t *all = block((size_t)ch->n * (size_t)ch->n * sizeof *all),
            *at = block((size_t)ch->n * sizeof *at);
    int e = all && at ? ty_alltoall_rows(ch, r, all) : -ENOMEM;

    if (e == 0) {
        for (int i = 0; i < ch->n; i++) {
            at[i] = sum;
            sum += r->got.rows[i] * row;
        }
        r->got.data[0] = block((size_t)sum);
        e = r->got.data[0] ? alltoall_on_node(ch, r, all, row, at, r->got.data[0]) : -ENOMEM;
    }
    if (e == 0 && ch->net)
        e = alltoall_between_nodes(ch, r, all, row, at, r->got.data[0]);
    free(all);
    free(at);
    return e;
}
