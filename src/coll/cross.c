/* cross.c - plans and pairs over the lanes of the net */
#include "coll/cross.h"
#include "base/fault.h"
#include "coll/exec.h"
#include "coll/net.h"
#include <errno.h>
#include <stdlib.h>

/* Whoever asks why data do not move sees for whom this rank waits. */
static int exchanged(struct ty_chan *ch, const struct ty_net_msg *send,
                     const struct ty_net_msg *recv, void (*got)(void *arg, size_t at, size_t bytes),
                     void *arg)
{
    _Atomic uint32_t *waits_for = &ty_chan_phase(ch, ch->lme)->waits_for;
    int e, rank = recv && recv->rank >= 0 ? recv->rank : send ? send->rank : -1;

    atomic_store_explicit(waits_for, (uint32_t)(rank + 1), memory_order_relaxed);
    e = ty_net_exchange_told(ch->net, send, recv, ty_chan_stop(ch), got, arg);
    atomic_store_explicit(waits_for, 0, memory_order_relaxed);
    return e;
}

/* An exchange of exec.c between nodes of a rail: numbers of nodes become ranks of the world. */
struct rail {
    struct ty_chan *ch;
    int rail;
};

static int exchange(void *ctx, struct ty_net_msg *send, struct ty_net_msg *recv,
                    void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    struct rail *r = ctx;
    struct ty_net_msg s, t;

    if (send) {
        s = *send;
        s.rank = r->ch->rail[send->rank * r->ch->rails + r->rail];
    }
    if (recv) {
        t = *recv;
        t.rank = r->ch->rail[recv->rank * r->ch->rails + r->rail];
    }
    return exchanged(r->ch, send ? &s : NULL, recv ? &t : NULL, got, arg);
}

int ty_cross_allreduce(struct ty_chan *ch, int rail, enum ty_coll_dtype t, enum ty_coll_op op,
                       void *p, int64_t count)
{
    struct rail r = { ch, rail };
    struct ty_exec_io io = { &r, exchange };
    struct ty_exec e = { .io = &io, .dtype = t, .op = op, .tag = ty_chan_tag(ch) };
    int64_t bytes = count * (int64_t)ty_coll_dtype_size(t);
    struct ty_plan plan = { ty_select_plan(ch->select, bytes, ch->nnodes), ch->my_node, ch->nnodes,
                            count };
    size_t need = ty_exec_scratch(&e, &plan);

    if (count == 0)
        return 0;
    if (need > ch->scratch_bytes) {
        void *more = FAULT("cross.alloc", NULL, aligned_alloc(64, (need + 63) / 64 * 64));

        if (!more)
            return -ENOMEM;
        free(ch->scratch);
        ch->scratch = more;
        ch->scratch_bytes = need;
    }
    e.scratch = ch->scratch;
    return ty_exec_run(&e, &plan, p);
}

int ty_cross_exchange(struct ty_chan *ch, int to, const void *send, int64_t nsend, int from,
                      void *recv, int64_t nrecv)
{
    struct iovec out = { (void *)(uintptr_t)send, (size_t)nsend }, in = { recv, (size_t)nrecv };
    uint64_t tag = ty_chan_tag(ch);
    struct ty_net_msg s = { to >= 0 ? ch->world[to] : -1, tag, &out, nsend > 0 };
    struct ty_net_msg r = { from >= 0 ? ch->world[from] : -1, tag, &in, nrecv > 0 };

    return exchanged(ch, to >= 0 ? &s : NULL, from >= 0 ? &r : NULL, NULL, NULL);
}
