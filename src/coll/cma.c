/* cma.c - allreduce by reading other processes' memory (process_vm_readv), where the kernel allows it
 *
 *   1. addresses of the tensors through slots; barrier
 *   2. read my slice of the others' inputs, piece by piece, add in rank order, store into my output; barrier
 *   3. read the others' slices of their outputs; barrier, for nobody may change its tensor before
 *
 * One copy less than through slots, at the price of a system call a piece.  Containers often forbid it, so it is tried
 * first, on every pair of ranks.
 */
#include "base/fault.h"
#include "coll/move.h"
#include "coll/reduce.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define PIECE_BYTES (64 << 10) /* stays in the second cache between being read and being added */

/* The system moves 2 GiB less a page at most in one call. */
static int read_memory(const struct ty_chan *ch, int local, uint64_t from, void *to, size_t n)
{
    pid_t pid = ch->node->rank[ch->local[local]].pid;
    size_t done = 0;

    while (done < n) {
        struct iovec mine = { (unsigned char *)to + done, n - done },
                     other = { (void *)(uintptr_t)(from + done), n - done };
        ssize_t k = FAULT("cma.read", -1, process_vm_readv(pid, &mine, 1, &other, 1, 0));

        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        done += (size_t)k;
    }
    return 0;
}

/* What this rank puts into its slot. */
struct places {
    uint64_t in, out;
};

static int exchange_places(struct ty_chan *ch, struct places mine, struct places *all)
{
    uint64_t w = ch->windows++;
    int e;

    memcpy(ty_chan_slot(ch, ch->lme, w), &mine, sizeof mine);
    e = ty_chan_barrier(ch);
    for (int l = 0; e == 0 && l < ch->nlocal; l++)
        memcpy(&all[l], ty_chan_slot(ch, l, w), sizeof all[l]);
    return e;
}

int ty_cma_probe(struct ty_chan *ch, bool *ret)
{
    struct places all[TY_NODE_RANKS];
    uint64_t mark = 0x5472616e79617264u + (uint64_t)ch->lme, got;
    bool good = true;
    int e = exchange_places(ch, (struct places){ (uint64_t)(uintptr_t)&mark, 0 }, all);

    for (int l = 0; e == 0 && l < ch->nlocal; l++) {
        got = 0;
        good = good && read_memory(ch, l, all[l].in, &got, sizeof got) == 0 &&
               got == 0x5472616e79617264u + (uint64_t)l;
    }
    if (e == 0) /* the marks have been read, and what each found is known */
        e = exchange_places(ch, (struct places){ good, 0 }, all);
    for (int l = 0; e == 0 && l < ch->nlocal; l++)
        good = good && all[l].in;
    if (e == 0)
        *ret = good;
    return e;
}

/* Elements [at, at + n) of all inputs, summed into my output.  The pieces of the others go into my slots. */
static int reduce_piece(struct ty_chan *ch, const struct ty_req *r, const struct places *all,
                        int64_t at, int64_t n)
{
    unsigned char *room = ty_chan_slot(ch, ch->lme, ch->windows); /* nobody looks into it */
    size_t bytes = (size_t)n * r->size, skip = (size_t)at * r->size;
    void *dst[1] = { r->seg[0].out + skip };
    bool average = r->op == TY_COLL_AVERAGE;
    const void *src[TY_NODE_RANKS];

    for (int l = 0; l < ch->nlocal; l++) {
        unsigned char *piece = room + (size_t)l * bytes;
        int e = 0;

        if (l != ch->lme)
            e = read_memory(ch, l, all[l].in + skip, piece, bytes);
        else if (r->load_scale == 1)
            piece = r->seg[0].in + skip;
        else
            memcpy(piece, r->seg[0].in + skip, bytes);
        if (e < 0)
            return e;
        ty_scale(r->dtype, piece, r->load_scale == 1 ? 0 : (size_t)n, r->load_scale);
        src[l] = piece;
    }
    ty_reduce_all(r->dtype, average ? TY_COLL_SUM : r->op, dst, 1, src, ch->nlocal, (size_t)n,
                  ty_average(r->dtype, r->op, r->postscale, ch->n), false);
    return 0;
}

int ty_allreduce_cma(struct ty_chan *ch, struct ty_req *r)
{
    struct places all[TY_NODE_RANKS];
    int64_t piece =
        (PIECE_BYTES * 4 / ch->nlocal < PIECE_BYTES ? PIECE_BYTES * 4 / ch->nlocal : PIECE_BYTES) /
        (int64_t)r->size;
    int64_t from = ty_share(r->count, r->size, ch->lme, ch->nlocal),
            to = ty_share(r->count, r->size, ch->lme + 1, ch->nlocal);
    int e = exchange_places(
        ch,
        (struct places){ (uint64_t)(uintptr_t)r->seg[0].in, (uint64_t)(uintptr_t)r->seg[0].out },
        all);

    for (int64_t at = from; e == 0 && at < to; at += piece)
        e = reduce_piece(ch, r, all, at, to - at < piece ? to - at : piece);
    if (e == 0)
        e = ty_chan_barrier(ch);
    for (int k = 1; e == 0 && k < ch->nlocal; k++) {
        int l = (ch->lme + k) % ch->nlocal;
        int64_t a = ty_share(r->count, r->size, l, ch->nlocal),
                b = ty_share(r->count, r->size, l + 1, ch->nlocal);

        if (a < b)
            e = read_memory(ch, l, all[l].out + (uint64_t)a * r->size,
                            r->seg[0].out + (size_t)a * r->size, (size_t)(b - a) * r->size);
    }
    return e == 0 ? ty_chan_barrier(ch) : e;
}
