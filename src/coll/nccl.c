/* nccl.c - see nccl.h
 *
 * Settling a channel takes three exchanges of all members, over the engine's own paths: cards (host, GPU, version of NCCL), from
 * which each finds the same answer; the unique id that the first member has made; and whether the communicator came up,
 * for when it did not on one, none may use it.
 */
#include "coll/nccl.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/gpu.h"
#include "coll/move.h"
#include "coll/reduce.h"
#include "coll/so.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_MAGIC 0xcafebeefu
#define UP_SECONDS 60    /* for all members' NCCL to find each other */
#define ABORT_US 2000000 /* for kernels that were aborted to leave the GPU */
#define ASK_EVERY 16     /* naps between two questions to NCCL */
#define NICE 256         /* where tensors begin in scratch memory */

/* ncclDataType_t, ncclRedOp_t */
enum {
    NCCL_I8 = 0,
    NCCL_U8 = 1,
    NCCL_I32 = 2,
    NCCL_I64 = 4,
    NCCL_F16 = 6,
    NCCL_F32 = 7,
    NCCL_F64 = 8,
    NCCL_BF16 = 9,
    NCCL_NO_TYPE = -1
};
enum { NCCL_SUM = 0, NCCL_PROD = 1, NCCL_MAX = 2, NCCL_MIN = 3, NCCL_AVG = 4 };
enum { NCCL_SCALAR_NOW = 1 }; /* ncclScalarHostImmediate */

static const int types[TY_COLL_DTYPES] = {
    [TY_COLL_U8] = NCCL_U8,   [TY_COLL_I8] = NCCL_I8,     [TY_COLL_I16] = NCCL_NO_TYPE,
    [TY_COLL_I32] = NCCL_I32, [TY_COLL_I64] = NCCL_I64,   [TY_COLL_BOOL] = NCCL_U8,
    [TY_COLL_F16] = NCCL_F16, [TY_COLL_BF16] = NCCL_BF16, [TY_COLL_F32] = NCCL_F32,
    [TY_COLL_F64] = NCCL_F64,
};

struct ty_comm {
    struct ty_nccl *nccl;
    void *comm; /* NULL: aborted */
    int device;
};

/* ---- the library ---- */

static const char *const names[] = { "libnccl.so.2", NULL };
static const struct ty_so so = { "NCCL", "TRAINYARD_COLL_NCCL", "libnccl", names };
static const struct ty_so_call calls[] = {
#define X(type, name, args) { "nccl" #name, offsetof(struct ty_nccl, name) },
    TY_NCCL_CALLS(X)
#undef X
};

/* Before 2.9 a version was 2 * 1000 + minor * 100 + patch. */
static int comparable(int version)
{
    return version < 10000 ? version / 1000 * 10000 + version % 1000 : version;
}

int ty_nccl_open(const char *paths, struct ty_nccl *ret, struct ty_error *err)
{
    struct ty_nccl found;
    void *handle = NULL;
    int e = ty_so_open(&so, paths, &handle, err);

    if (e == 0)
        e = ty_so_fill(&so, handle, calls, sizeof calls / sizeof calls[0], &found, err);
    if (e < 0)
        return e;
    if (found.GetVersion(&found.version) != 0 || comparable(found.version) < TY_NCCL_OLDEST)
        return ty_error_set(
            err, -ENOENT,
            "cannot use NCCL: it is older than 2.14, and could not be stopped when a "
            "rank dies");
    *ret = found;
    return 0;
}

/* ---- what it serves ---- */

/* What all inputs are multiplied by before they are added. */
static double scale_of(const struct ty_req *r, int n)
{
    return r->prescale * r->postscale / (r->op == TY_COLL_AVERAGE ? n : 1);
}

static bool holds(enum ty_coll_dtype t, double scale)
{
    double a = fabs(scale);

    switch (t) {
    case TY_COLL_F16:
        return a >= 0x1p-14 && a <= 65504;
    case TY_COLL_BF16:
    case TY_COLL_F32:
        return a >= 0x1p-126 && a <= 0x1p127;
    default:
        return t == TY_COLL_F64 && isfinite(scale) && a > 0;
    }
}

bool ty_nccl_serves(const struct ty_req *r, int n)
{
    bool scaled = r->prescale != 1 || r->postscale != 1;

    if (r->kind == TY_COLL_BROADCAST || r->kind == TY_COLL_ALLGATHER || r->kind == TY_COLL_ALLTOALL)
        return true; /* bytes */
    if (r->op == TY_COLL_ADASUM || types[r->dtype] == NCCL_NO_TYPE)
        return false;
    if (r->dtype == TY_COLL_BOOL && r->kind == TY_COLL_REDUCESCATTER)
        return false;
    if (r->op != TY_COLL_SUM && r->op != TY_COLL_AVERAGE)
        return !scaled;
    if (r->dtype < TY_COLL_F16)
        return r->op == TY_COLL_SUM && !scaled;
    return holds(r->dtype, scale_of(r, n));
}

/* ---- failures, and the end of the world ---- */

static int failed(struct ty_gpu *g, const char *what, int error)
{
    snprintf(
        g->text, sizeof g->text,
        "NCCL failed %s: %s (NCCL_DEBUG=WARN says more; TRAINYARD_COLL_NCCL=none does without NCCL)",
        what, g->nccl.GetErrorString(error));
    return -EIO;
}

static bool accepted(int error)
{
    return error == 0 || error == TY_NCCL_IN_PROGRESS;
}

static void stop(struct ty_comm *k)
{
    if (k->comm)
        k->nccl->CommAbort(k->comm);
    k->comm = NULL;
}

struct ty_comm *ty_comm_free(struct ty_comm *k)
{
    if (!k)
        return NULL;
    stop(k);
    free(k);
    return NULL;
}

/* Has a member on this node given up in this round? */
static bool hopeless(const struct ty_chan *ch)
{
    bool ret = false;

    for (int l = 0; l < ch->nlocal; l++)
        ret |= atomic_load(&ty_chan_phase(ch, l)->no_comm) == ch->round;
    return ret;
}

/* Until NCCL has done what was asked for: 0 or its error; -EOWNERDEAD; -ETIMEDOUT.  until_us > 0: while the communicator comes
 * up, for which it needs all members. */
static int settled(struct ty_comm *k, struct ty_chan *ch, int64_t until_us, int *error)
{
    for (int i = 0;; i++) {
        int e = k->nccl->CommGetAsyncError(k->comm, error);

        if (e != 0)
            *error = e;
        if (*error != TY_NCCL_IN_PROGRESS)
            return 0;
        if (ty_node_broken(ch->node))
            return -EOWNERDEAD;
        if (until_us > 0 && (hopeless(ch) || ty_mono_us() >= until_us))
            return -ETIMEDOUT;
        ty_gpu_nap(ch, i);
    }
}

/* The world has ended, or NCCL has failed, while kernels of ours may wait for others: they leave the GPU, so that nothing
 * writes to the caller's tensors after this. */
static int give_up(struct ty_gpu *g, struct ty_comm *k, struct ty_gpu_device *d, struct ty_chan *ch,
                   int code)
{
    int64_t until = ty_mono_us() + ABORT_US;
    char text[sizeof g->text];

    memcpy(text, g->text, sizeof text); /* of the first failure */
    stop(k);
    if (ty_gpu_mark(g, d) == 0)
        for (int i = 0; ty_gpu_reached(g, d) == 0 && ty_mono_us() < until; i++)
            ty_gpu_nap(ch, i);
    memcpy(g->text, text, sizeof text);
    return code;
}

/* ---- settling ---- */

struct card {
    char host[40], bus[24]; /* boot id: containers of one machine have one, and see the same GPUs */
    int32_t version, has_gpu;
};
struct offer {
    int32_t made;
    struct ty_nccl_id id;
};

static void host_id(char *buf, size_t cap)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, cap - 1) : -1;

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        gethostname(buf, cap - 1);
}

enum answer { ANSWER_YES, ANSWER_NO, ANSWER_LATER };

static enum answer compare(const struct card *all, const struct ty_chan *ch,
                           struct ty_comm_why *why)
{
    for (int i = 0; i < ch->n; i++)
        if (!all[i].has_gpu)
            return ANSWER_LATER; /* it has joined, and has not used one yet */
    for (int i = 0; i < ch->n; i++) {
        if (!all[i].version) {
            snprintf(why->text, sizeof why->text, "rank %d has no NCCL", ch->world[i]);
            return ANSWER_NO;
        }
        if (all[i].version != all[0].version) {
            snprintf(why->text, sizeof why->text, "rank %d has NCCL %d, rank %d NCCL %d",
                     ch->world[0], all[0].version, ch->world[i], all[i].version);
            return ANSWER_NO;
        }
        for (int j = 0; j < i; j++)
            if (strcmp(all[i].host, all[j].host) == 0 && strcmp(all[i].bus, all[j].bus) == 0) {
                snprintf(why->text, sizeof why->text, "ranks %d and %d share the GPU %.20s",
                         ch->world[j], ch->world[i], all[i].bus);
                return ANSWER_NO;
            }
    }
    return ANSWER_YES;
}

static int ask_all(struct ty_gpu *g, struct ty_chan *ch, int device, enum answer *ret,
                   struct ty_comm_why *why)
{
    struct card *all = FAULT("nccl.alloc", NULL, malloc((size_t)ch->n * sizeof *all)), mine = { 0 };
    int e;

    if (!all)
        return -ENOMEM;
    host_id(mine.host, sizeof mine.host);
    mine.has_gpu = device >= 0;
    if (device >= 0 && g->have_nccl &&
        g->cuda.DeviceGetPCIBusId(mine.bus, sizeof mine.bus, device) == 0)
        mine.version = g->nccl.version;
    e = ty_gather_fixed(ch, &mine, sizeof mine, all);
    if (e == 0)
        *ret = compare(all, ch, why);
    free(all);
    return e;
}

static int share_id(struct ty_gpu *g, struct ty_chan *ch, struct offer *ret)
{
    struct offer *all = FAULT("nccl.alloc", NULL, malloc((size_t)ch->n * sizeof *all)),
                 mine = { 0 };
    int e;

    if (!all)
        return -ENOMEM;
    if (ch->me == 0)
        mine.made = g->nccl.GetUniqueId(&mine.id) == 0;
    e = ty_gather_fixed(ch, &mine, sizeof mine, all);
    if (e == 0)
        *ret = all[0];
    free(all);
    return e;
}

/* 0 and *up, or the end of the world. */
static int come_up(struct ty_gpu *g, struct ty_chan *ch, const struct ty_nccl_id *id,
                   struct ty_comm *k, bool *up)
{
    struct ty_nccl_config config = {
        .size = sizeof config, .magic = CONFIG_MAGIC, .version = TY_NCCL_OLDEST, .blocking = 0
    };
    int error = g->nccl.CommInitRankConfig(&k->comm, ch->n, *id, ch->me, &config), e = 0;

    if (accepted(error) && k->comm)
        e = settled(k, ch, ty_mono_us() + (int64_t)UP_SECONDS * 1000000, &error);
    *up = e == 0 && error == 0 && k->comm;
    if (!*up)
        atomic_store(&ty_chan_phase(ch, ch->lme)->no_comm, ch->round);
    return e == -EOWNERDEAD ? e : 0;
}

/* Did it come up on all? */
static int all_up(struct ty_chan *ch, bool *up)
{
    char *all = FAULT("nccl.alloc", NULL, malloc((size_t)ch->n)), mine = *up;
    int e = all ? ty_gather_fixed(ch, &mine, 1, all) : -ENOMEM;

    for (int i = 0; e == 0 && i < ch->n; i++)
        *up &= all[i];
    free(all);
    return e;
}

int ty_comm_settle(struct ty_gpu *g, struct ty_chan *ch, int device, struct ty_comm_why *why)
{
    struct ty_gpu_device *d = NULL;
    struct offer offer = { 0 };
    enum answer answer = ANSWER_NO;
    struct ty_comm *k;
    bool up = false;
    int e = ask_all(g, ch, device, &answer, why);

    if (e == 0)
        ch->comm_settled = answer != ANSWER_LATER;
    if (e < 0 || answer != ANSWER_YES)
        return e;
    snprintf(why->text, sizeof why->text,
             "NCCL could not connect the ranks (NCCL_DEBUG=WARN says more)");
    e = ty_gpu_use(g, device, &d);
    if (e == 0)
        e = share_id(g, ch, &offer);
    if (e < 0 || !offer.made)
        return e;
    k = FAULT("nccl.alloc", NULL, calloc(1, sizeof *k));
    if (!k)
        return -ENOMEM;
    k->nccl = &g->nccl;
    k->device = device;
    e = come_up(g, ch, &offer.id, k, &up);
    if (e == 0)
        e = all_up(ch, &up);
    if (e == 0 && up)
        ch->comm = k;
    else
        ty_comm_free(k);
    return e;
}

/* ---- operations ---- */

struct view {
    unsigned char *in, *out; /* out NULL: a block of the result */
};

/* One run: everything that its parts need. */
struct job {
    struct ty_gpu *g;
    struct ty_chan *ch;
    struct ty_comm *k;
    struct ty_gpu_device *d;
    struct ty_req *const *req;
    int m;
    struct view *view; /* of all tensors of all requests, one after another */
    int *op;           /* [m] */
    bool *made;        /* [m] op[i] is one that must be destroyed */
    int64_t *all;      /* alltoall: the splits of all */
};

/* Tensors that are not on the communicator's GPU are copied there. */
static bool foreign(const struct job *j, const struct ty_req *r)
{
    return r->zeros || r->device != j->k->device;
}

static int64_t block_rows(const struct job *j, const struct ty_seg *s, int member)
{
    return ty_first_row(s->dims[0], j->ch->n, member + 1) -
           ty_first_row(s->dims[0], j->ch->n, member);
}

static size_t bytes_out(const struct job *j, const struct ty_req *r, const struct ty_seg *s)
{
    if (r->kind == TY_COLL_REDUCESCATTER)
        return (size_t)(block_rows(j, s, j->ch->me) * ty_seg_row(s)) * r->size;
    return s->out ? (size_t)s->count * r->size : 0;
}

static bool overlap(const void *a, size_t n, const void *b, size_t m)
{
    return (uintptr_t)a < (uintptr_t)b + m && (uintptr_t)b < (uintptr_t)a + n;
}

/* Scratch memory that is handed out; base NULL: only measured. */
struct pieces {
    unsigned char *base;
    size_t used;
};
static unsigned char *piece(struct pieces *p, size_t n)
{
    unsigned char *ret = p->base ? p->base + p->used : NULL;

    p->used += (n + NICE - 1) / NICE * NICE;
    return ret;
}

/* Where NCCL reads and writes. */
static void lay_out(struct job *j, struct pieces *p)
{
    struct view *v = j->view;

    for (int i = 0; i < j->m; i++) {
        const struct ty_req *r = j->req[i];

        for (int s = 0; s < r->nsegs; s++, v++) {
            const struct ty_seg *seg = &r->seg[s];
            size_t in = (size_t)seg->count * r->size, out = bytes_out(j, r, seg);

            v->in = foreign(j, r) ? piece(p, in) : seg->in;
            v->out = foreign(j, r) && seg->out ? v->in : seg->out;
            if (r->kind == TY_COLL_REDUCESCATTER &&
                (foreign(j, r) || overlap(seg->in, in, seg->out, out)))
                v->out = piece(p, out);
        }
    }
}

static int place(struct job *j)
{
    struct pieces p = { NULL, 0 };
    void *scratch = NULL;
    int e;

    lay_out(j, &p);
    if (!p.used)
        return 0;
    e = ty_gpu_scratch(j->g, j->d, p.used, &scratch);
    p = (struct pieces){ scratch, 0 };
    if (e == 0)
        lay_out(j, &p);
    return e;
}

static int copy_in(struct job *j)
{
    const struct view *v = j->view;
    int e = 0;

    for (int i = 0; e == 0 && i < j->m; i++) {
        const struct ty_req *r = j->req[i];

        e = ty_gpu_after(j->g, j->d, r);
        for (int s = 0; e == 0 && s < r->nsegs; s++, v++)
            if (foreign(j, r))
                e = ty_gpu_copy(j->g, j->d, v->in, r->seg[s].in, (size_t)r->seg[s].count * r->size);
    }
    return e;
}

static int copy_out(struct job *j)
{
    const struct view *v = j->view;
    int e = 0;

    for (int i = 0; e == 0 && i < j->m; i++) {
        const struct ty_req *r = j->req[i];

        for (int s = 0; e == 0 && s < r->nsegs; s++, v++)
            if (!r->zeros && v->out && v->out != r->seg[s].out)
                e = ty_gpu_copy(j->g, j->d, r->seg[s].out, v->out, bytes_out(j, r, &r->seg[s]));
    }
    return e;
}

/* ---- reductions ---- */

static int plain_op(const struct ty_req *r)
{
    bool flags = r->dtype == TY_COLL_BOOL;

    switch (r->op) {
    case TY_COLL_MIN:
        return NCCL_MIN;
    case TY_COLL_MAX:
        return NCCL_MAX;
    case TY_COLL_PRODUCT:
        return flags ? NCCL_MIN : NCCL_PROD;
    case TY_COLL_AVERAGE:
        return NCCL_AVG;
    default:
        return flags ? NCCL_MAX : NCCL_SUM;
    }
}

static int scaled_op(struct job *j, const struct ty_req *r, double scale, int *op)
{
    union {
        double d;
        float f;
        uint16_t half; /* the bits of a float16 or bfloat16 */
    } s;

    switch (r->dtype) {
    case TY_COLL_F16:
    case TY_COLL_BF16:
        s.half = r->dtype == TY_COLL_F16 ? 0x3c00 : 0x3f80; /* one */
        ty_scale(r->dtype, &s, 1, scale);
        break;
    case TY_COLL_F32:
        s.f = (float)scale;
        break;
    default:
        s.d = scale;
    }
    return j->g->nccl.RedOpCreatePreMulSum(op, &s, types[r->dtype], NCCL_SCALAR_NOW, j->k->comm);
}

static int make_ops(struct job *j)
{
    int e = 0;

    for (int i = 0; e == 0 && i < j->m; i++) {
        const struct ty_req *r = j->req[i];

        j->op[i] = plain_op(r);
        if (r->prescale * r->postscale == 1 || r->dtype < TY_COLL_F16)
            continue;
        e = scaled_op(j, r, scale_of(r, j->ch->n), &j->op[i]);
        j->made[i] = e == 0;
    }
    return e ? failed(j->g, "to make an operator", e) : 0;
}

static void destroy_ops(struct job *j)
{
    for (int i = 0; i < j->m; i++)
        if (j->made[i])
            j->g->nccl.RedOpDestroy(j->op[i], j->k->comm);
}

static int scatter(struct job *j, const struct ty_req *r, const struct ty_seg *s,
                   const struct view *v, int op)
{
    const struct ty_nccl *x = &j->g->nccl;
    int64_t row = ty_seg_row(s);
    int e = 0;

    if (s->dims[0] % j->ch->n == 0)
        return x->ReduceScatter(v->in, v->out, (size_t)(s->dims[0] / j->ch->n * row),
                                types[r->dtype], op, j->k->comm, j->d->stream);
    for (int i = 0; accepted(e) && i < j->ch->n; i++) {
        size_t n = (size_t)(block_rows(j, s, i) * row);
        const unsigned char *from =
            v->in + (size_t)(ty_first_row(s->dims[0], j->ch->n, i) * row) * r->size;

        if (n > 0)
            e = x->Reduce(from, v->out, n, types[r->dtype], op, i, j->k->comm, j->d->stream);
    }
    return e;
}

/* ---- the others: bytes ---- */

static int gather(struct job *j, const struct ty_req *r, int seg, const struct view *v)
{
    const struct ty_nccl *x = &j->g->nccl;
    const int64_t *rows = r->got.rows + (size_t)seg * (size_t)j->ch->n;
    int64_t row = ty_seg_row(&r->seg[seg]) * (int64_t)r->size;
    unsigned char *out = r->got.data[seg];
    bool even = true;
    int e = 0;

    for (int i = 1; i < j->ch->n; i++)
        even &= rows[i] == rows[0];
    if (even)
        return rows[0] * row > 0 ? x->AllGather(v->in, out, (size_t)(rows[0] * row), NCCL_U8,
                                                j->k->comm, j->d->stream)
                                 : 0;
    for (int i = 0; accepted(e) && i < j->ch->n; out += rows[i++] * row)
        if (rows[i] * row > 0)
            e = x->Broadcast(i == j->ch->me ? v->in : out, out, (size_t)(rows[i] * row), NCCL_U8, i,
                             j->k->comm, j->d->stream);
    return e;
}

static int exchange(struct job *j, const struct ty_req *r, const struct view *v)
{
    const struct ty_nccl *x = &j->g->nccl;
    int64_t row = ty_seg_row(&r->seg[0]) * (int64_t)r->size;
    const unsigned char *in = v->in;
    unsigned char *out = r->got.data[0];
    int e = 0;

    for (int i = 0; accepted(e) && i < j->ch->n; i++) {
        size_t to = (size_t)(r->splits[i] * row), from = (size_t)(r->got.rows[i] * row);

        if (to)
            e = x->Send(in, to, NCCL_U8, i, j->k->comm, j->d->stream);
        if (accepted(e) && from)
            e = x->Recv(out, from, NCCL_U8, i, j->k->comm, j->d->stream);
        in += to;
        out += from;
    }
    return e;
}

/* The sizes of what allgather and alltoall make, and memory for it. */
static int make_blocks(struct job *j, struct ty_req *r)
{
    int e = 0;

    if (r->kind == TY_COLL_ALLTOALL) {
        j->all = malloc((size_t)j->ch->n * (size_t)j->ch->n * sizeof *j->all);
        e = j->all ? ty_alltoall_rows(j->ch, r, j->all) : -ENOMEM;
    } else if (r->kind == TY_COLL_ALLGATHER) {
        e = ty_allgather_rows(j->ch, r);
    } else {
        return 0;
    }
    for (int s = 0; e == 0 && s < r->nsegs; s++) {
        int64_t rows = 0;

        for (int i = 0; i < j->ch->n; i++)
            rows += r->got.rows[s * j->ch->n + i];
        e = ty_gpu_block(j->g, j->d, r, s, (size_t)(rows * ty_seg_row(&r->seg[s])) * r->size);
    }
    return e;
}

static int call(struct job *j, const struct ty_req *r, int s, const struct view *v, int op)
{
    const struct ty_nccl *x = &j->g->nccl;
    const struct ty_seg *seg = &r->seg[s];

    switch (r->kind) {
    case TY_COLL_ALLGATHER:
        return gather(j, r, s, v);
    case TY_COLL_ALLTOALL:
        return exchange(j, r, v);
    case TY_COLL_REDUCESCATTER:
        return seg->count ? scatter(j, r, seg, v, op) : 0;
    case TY_COLL_BROADCAST:
        return seg->count ? x->Broadcast(v->in, v->out, (size_t)seg->count * r->size, NCCL_U8,
                                         ty_chan_member(j->ch, r->root), j->k->comm, j->d->stream)
                          : 0;
    default:
        return seg->count ? x->AllReduce(v->in, v->out, (size_t)seg->count, types[r->dtype], op,
                                         j->k->comm, j->d->stream)
                          : 0;
    }
}

/* All calls as one group, and until NCCL has put it on the stream. */
static int launch(struct job *j)
{
    const struct ty_nccl *x = &j->g->nccl;
    const struct view *v = j->view;
    int error = x->GroupStart(), end, e;

    if (error != 0)
        return failed(j->g, "to begin a group", error);
    for (int i = 0; i < j->m; i++)
        for (int s = 0; s < j->req[i]->nsegs; s++, v++)
            if (accepted(error))
                error = call(j, j->req[i], s, v, j->op[i]);
    end = x->GroupEnd();
    if (accepted(error))
        error = end;
    if (!accepted(error))
        return failed(j->g, "in an operation", error);
    e = settled(j->k, j->ch, 0, &error);
    return e < 0 ? e : error ? failed(j->g, "in an operation", error) : 0;
}

/* Until the kernels have run.  While they do, NCCL tells of a connection that was lost. */
static int complete(struct job *j)
{
    int e = copy_out(j), error = 0;

    if (e == 0)
        e = ty_gpu_mark(j->g, j->d);
    for (int i = 0; e == 0; i++) {
        e = ty_gpu_reached(j->g, j->d);
        if (e != 0)
            break;
        if (ty_node_broken(j->ch->node))
            return -EOWNERDEAD;
        if (i % ASK_EVERY == ASK_EVERY - 1 &&
            (j->g->nccl.CommGetAsyncError(j->k->comm, &error) != 0 || !accepted(error)))
            return failed(j->g, "in an operation", error);
        ty_gpu_nap(j->ch, i);
    }
    return e < 0 ? e : 0;
}

static int run(struct job *j)
{
    int e = ty_gpu_use(j->g, j->k->device, &j->d);

    if (e == 0)
        e = make_blocks(j, j->req[0]);
    if (e == 0)
        e = place(j);
    if (e == 0)
        e = make_ops(j);
    if (e == 0)
        e = copy_in(j);
    if (e == 0)
        e = launch(j);
    if (e == 0)
        e = complete(j);
    if (e == 0)
        destroy_ops(j);
    else if (j->d)
        e = give_up(j->g, j->k, j->d, j->ch, e);
    return e;
}

int ty_comm_run(struct ty_gpu *g, struct ty_chan *ch, struct ty_req *const *req, int m)
{
    struct job j = { .g = g, .ch = ch, .k = ch->comm, .req = req, .m = m };
    size_t views = 0;
    int e = -ENOMEM;

    if (!ch->comm->comm) /* aborted: the world is about to end */
        return -EOWNERDEAD;
    for (int i = 0; i < m; i++)
        views += (size_t)req[i]->nsegs;
    j.view = FAULT("nccl.alloc", NULL, calloc(views + 1, sizeof *j.view));
    j.op = calloc((size_t)m, sizeof *j.op);
    j.made = calloc((size_t)m, sizeof *j.made);
    if (j.view && j.op && j.made)
        e = run(&j);
    for (int i = 0; i < m; i++)
        req[i]->path = TY_PATH_NCCL;
    free(j.all);
    free(j.view);
    free(j.op);
    free(j.made);
    return e;
}
