/* exec.c - plans run step by step, segment by segment */
#include "coll/exec.h"
#include "coll/names.h"
#include "coll/reduce.h"

/* The part of a message that one exchange carries. */
struct segment {
    const struct ty_exec *e;
    const struct ty_range *ranges; /* of the whole message */
    size_t at, bytes;              /* this part of it */
    char *data;
    bool theirs_first;
    bool added; /* some of it, so in the end all of it, was added while it came */
};

static size_t segment_bytes(const struct ty_exec *e)
{
    size_t s = (e->segment ? e->segment : TY_EXEC_SEGMENT) & ~(size_t)63;

    return s ? s : 64;
}

static size_t message_bytes(const struct ty_exec *e, const struct ty_range r[2])
{
    return (size_t)(r[0].count + r[1].count) * ty_coll_dtype_size(e->dtype);
}

/* Where bytes [at, at + n) of the message lie in data: one piece or two. */
static int pieces(const struct segment *s, size_t at, size_t n, struct iovec ret[2])
{
    size_t size = ty_coll_dtype_size(s->e->dtype);
    int count = 0;

    for (int i = 0; i < 2 && n; i++) {
        size_t whole = (size_t)s->ranges[i].count * size;

        if (at >= whole) {
            at -= whole;
            continue;
        }
        size_t len = whole - at < n ? whole - at : n;

        ret[count++] = (struct iovec){ s->data + (size_t)s->ranges[i].at * size + at, len };
        n -= len;
        at = 0;
    }
    return count;
}

/* The lower rank's operand comes first on both sides of an exchange: a minimum of -0 and 0, or a NaN, has the same bits
 * on both then. */
static void add(const struct segment *s, void *mine, const void *theirs, size_t bytes)
{
    size_t n = bytes / ty_coll_dtype_size(s->e->dtype);

    if (s->theirs_first)
        ty_reduce_all(s->e->dtype, s->e->op, &mine, 1, (const void *[]){ theirs, mine }, 2, n, 1.0,
                      false);
    else
        ty_reduce(s->e->dtype, s->e->op, mine, theirs, n);
}

static void add_part(struct segment *s, size_t at, size_t bytes)
{
    const char *theirs = (const char *)s->e->scratch + at;
    struct iovec mine[2];
    int n = pieces(s, s->at + at, bytes, mine);

    for (int i = 0; i < n; i++) {
        add(s, mine[i].iov_base, theirs, mine[i].iov_len);
        theirs += mine[i].iov_len;
    }
}

static void got(void *arg, size_t at, size_t bytes)
{
    struct segment *s = arg;

    s->added = true;
    add_part(s, at, bytes);
}

static bool overlap(const struct ty_step *s)
{
    if (s->to < 0)
        return false;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            if (s->send[i].at < s->recv[j].at + s->recv[j].count &&
                s->recv[j].at < s->send[i].at + s->send[i].count)
                return true;
    return false;
}

static size_t part_of(size_t whole, size_t at, size_t most)
{
    return at >= whole ? 0 : whole - at < most ? whole - at : most;
}

static int run_segment(const struct ty_exec *e, const struct ty_step *step, bool ahead,
                       struct segment *out, struct segment *in, uint64_t tag)
{
    struct iovec send_iov[2], recv_iov[2] = { { e->scratch, in->bytes } };
    struct ty_net_msg send = { step->to, tag, send_iov,
                               pieces(out, out->at, out->bytes, send_iov) };
    struct ty_net_msg recv = { step->from, tag, recv_iov, 1 };
    bool adds = in->bytes && step->use == TY_STEP_REDUCE;

    if (!adds)
        recv.niov = pieces(in, in->at, in->bytes, recv_iov);
    int r = e->io->exchange(e->io->ctx, out->bytes ? &send : NULL, in->bytes ? &recv : NULL,
                            adds && ahead ? got : NULL, in);

    if (r == 0 && adds && !in->added)
        add_part(in, 0, in->bytes);
    return r;
}

static int run_step(const struct ty_exec *e, const struct ty_plan *p, int k, char *data)
{
    struct ty_step step;

    ty_plan_step(p, k, &step);
    size_t sends = step.to < 0 ? 0 : message_bytes(e, step.send);
    size_t receives = step.from < 0 ? 0 : message_bytes(e, step.recv);
    size_t most = segment_bytes(e);
    bool ahead = !overlap(&step); /* else what is added to may not have been sent yet */

    for (size_t at = 0; at < sends || at < receives; at += most) {
        struct segment out = { e, step.send, at, part_of(sends, at, most), data, false, false };
        struct segment in = { e,    step.recv,           at,   part_of(receives, at, most),
                              data, step.from < p->rank, false };
        int r = run_segment(e, &step, ahead, &out, &in, e->tag + (uint64_t)k);

        if (r < 0)
            return r;
    }
    return 0;
}

size_t ty_exec_scratch(const struct ty_exec *e, const struct ty_plan *p)
{
    size_t most = 0, segment = segment_bytes(e);

    for (int k = 0; k < ty_plan_steps(p) && most < segment; k++) {
        struct ty_step step;

        ty_plan_step(p, k, &step);
        if (step.use == TY_STEP_REDUCE && message_bytes(e, step.recv) > most)
            most = message_bytes(e, step.recv);
    }
    return most < segment ? most : segment;
}

int ty_exec_run(const struct ty_exec *e, const struct ty_plan *p, void *data)
{
    for (int k = 0; k < ty_plan_steps(p); k++) {
        int r = run_step(e, p, k, data);

        if (r < 0)
            return r;
    }
    return 0;
}
