/* compare.c - a round in which the lists of all members are compared, and what follows from it on this rank */
#include "base/clock.h"
#include "base/fault.h"
#include "coll/engine.h"
#include "coll/lists.h"
#include "coll/stall.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Everybody's bytes, one after another; sizes[n]. */
static int gather_lists(struct ty_chan *ch, const void *mine, size_t n, int64_t *sizes,
                        unsigned char **all)
{
    int64_t size = (int64_t)n, sum = 0;
    int e = ty_gather_fixed(ch, &size, sizeof size, sizes);

    if (e < 0)
        return e;
    for (int i = 0; i < ch->n; i++)
        sum += sizes[i];
    *all = FAULT("compare.alloc", NULL, malloc((size_t)sum));
    return *all ? ty_gather(ch, mine, sizes, *all) : -ENOMEM;
}

static int read_lists(struct ty_chan *ch, const void *mine, size_t n, struct ty_list *lists)
{
    int64_t *sizes = FAULT("compare.alloc", NULL, malloc((size_t)ch->n * sizeof *sizes));
    unsigned char *all = NULL, *at;
    int e = sizes ? gather_lists(ch, mine, n, sizes, &all) : -ENOMEM;

    at = all;
    for (int i = 0; e == 0 && i < ch->n; i++) {
        e = ty_list_read(at, (size_t)sizes[i], &lists[i]);
        at += sizes[i];
    }
    free(all);
    free(sizes);
    return e;
}

/* This rank's own request for what an entry describes, or NULL. */
static struct ty_req *own(const struct ty_chan *ch, const struct ty_entry *e)
{
    uint64_t r;
    int unnamed = 0;

    if (e->base)
        return ty_map_get(&ch->by_name, e->pairing, &r) ? (struct ty_req *)(uintptr_t)r : NULL;
    for (struct ty_req *q = ch->oldest; q; q = q->next)
        if (!q->name && (int)q->kind == e->kind && ty_list_pairing(q, unnamed++) == e->pairing)
            return q;
    return NULL;
}

/* A pending request of that name, whatever its kind, that is none of those which are decided. */
static struct ty_req *own_of_name(const struct ty_chan *ch, const char *name,
                                  struct ty_req *const *decided, int n)
{
    for (struct ty_req *q = ch->oldest; q; q = q->next) {
        bool other = !q->name || strcmp(q->name, name) != 0;

        for (int i = 0; i < n && !other; i++)
            other = decided[i] == q;
        if (!other)
            return q;
    }
    return NULL;
}

/* What a rank that has joined adds to an allreduce of the others. */
static int make_zeros(struct ty_chan *ch, const struct ty_entry *e, struct ty_req **ret)
{
    struct ty_coll_call call = { .kind = e->kind,
                                 .name = e->name,
                                 .dtype = e->dtype,
                                 .op = e->op,
                                 .prescale = e->prescale,
                                 .postscale = e->postscale,
                                 .device = e->device ? TY_COLL_GPU(0) : 0,
                                 .nbufs = e->nsegs };
    struct ty_coll_buf *buf = calloc((size_t)e->nsegs + 1, sizeof *buf);
    struct ty_req *r = FAULT("compare.alloc", NULL, calloc(1, sizeof *r));
    size_t size = ty_coll_dtype_size(e->dtype);
    int64_t count = 0;
    unsigned char *zeros;

    for (int i = 0; i < e->nsegs; i++)
        count += e->counts[i];
    zeros = calloc((size_t)count * size + 1, 1);
    if (!buf || !r || !zeros) {
        free(buf);
        free(r);
        free(zeros);
        return -ENOMEM;
    }
    count = 0;
    for (int i = 0; i < e->nsegs; i++) {
        buf[i] =
            (struct ty_coll_buf){ .data = zeros + (size_t)count * size, .count = e->counts[i] };
        count += e->counts[i];
    }
    call.in = call.out = buf;
    if (ty_req_init(r, &call, ch->n, NULL, NULL, NULL) < 0) {
        free(buf);
        free(zeros);
        free(r);
        return -ENOMEM;
    }
    free(buf);
    r->ch = ch;
    r->digest = e->digest;
    r->zeros = zeros;
    r->begun_us = ty_mono_us();
    r->state = TY_REQ_RUNNING;
    *ret = r;
    return 0;
}

static int run_zeros(struct ty_coll *c, struct ty_chan *ch, const struct ty_entry *entry)
{
    struct ty_req *r = NULL;
    int e = make_zeros(ch, entry, &r);

    if (e == 0) {
        ty_stall_enter(c, ch, &r, 1);
        pthread_mutex_unlock(&c->lock);
        e = ty_engine_execute(c, r);
        pthread_mutex_lock(&c->lock);
        ty_stall_leave(c);
        free(r->zeros);
        ty_req_done(r);
        free(r);
    }
    return e;
}

static int run_own(struct ty_coll *c, struct ty_req *r)
{
    int e;

    ty_engine_unlink(r);
    r->state = TY_REQ_RUNNING;
    ty_stall_enter(c, r->ch, &r, 1);
    pthread_mutex_unlock(&c->lock);
    e = ty_engine_execute(c, r);
    pthread_mutex_lock(&c->lock);
    if (e < 0)
        ty_engine_end_by_failure(c, e);
    ty_stall_leave(c);
    if (e < 0) {
        ty_engine_fail(c, r, c->ended, c->end_text);
    } else {
        ty_engine_complete(c, r, r->status, NULL);
    }
    return e;
}

static void fail_own(struct ty_coll *c, const struct ty_decision *d, struct ty_req *r)
{
    if (!r || r->state != TY_REQ_PENDING)
        return;
    ty_engine_unlink(r);
    ty_engine_complete(c, r, -EPROTO, d->error);
}

static int apply(struct ty_coll *c, struct ty_chan *ch, const struct ty_decisions *d)
{
    struct ty_req **mine = FAULT("compare.alloc", NULL, calloc((size_t)d->n + 1, sizeof *mine));
    int e = mine ? 0 : -ENOMEM;

    /* Before anything runs: who is the third unnamed one depends on the two before it. */
    for (int i = 0; e == 0 && i < d->n; i++)
        mine[i] = own(ch, d->at[i].entry);
    for (int i = 0; e == 0 && i < d->n; i++)
        if (d->at[i].every_kind && !mine[i])
            mine[i] = own_of_name(ch, d->at[i].entry->name, mine, d->n);
    for (int i = 0; e == 0 && i < d->n; i++) {
        if (d->at[i].error) {
            fail_own(c, &d->at[i], mine[i]);
            continue;
        }
        e = mine[i] ? run_own(c, mine[i]) : run_zeros(c, ch, d->at[i].entry);
        if (e == 0)
            ty_engine_remember(ch, d->at[i].entry->digest);
    }
    if (e == 0 && d->last_joined >= 0 && ch->join) {
        struct ty_req *r = ch->join;

        r->got.value = ch->world[d->last_joined];
        ty_engine_unlink(r);
        ty_engine_complete(c, r, 0, NULL);
    }
    free(mine);
    return e;
}

/* For the stall report: who was not there. */
static void note_missing(struct ty_chan *ch, const struct ty_list *lists)
{
    int unnamed[TY_COLL_KINDS] = { 0 };

    for (struct ty_req *r = ch->oldest; r; r = r->next) {
        uint64_t pairing = ty_list_pairing(r, unnamed[r->kind]);

        unnamed[r->kind] += r->name == NULL;
        if (!r->missing)
            r->missing = malloc((size_t)ch->n * sizeof *r->missing);
        if (r->missing)
            r->nmissing = ty_lists_missing(lists, ch->n, ch->world, pairing, r->missing);
    }
}

/* Who joined last: rounds tell it on all ranks alike; within one round, how long ago each says it was. */
static void note_joined(struct ty_chan *ch, const struct ty_list *lists, int *last)
{
    for (int i = 0; i < ch->n; i++)
        if (lists[i].joined && !ch->joined_at[i])
            ch->joined_at[i] = ch->round;
    if (*last < 0)
        return;
    for (int i = 0; i < ch->n; i++)
        if (ch->joined_at[i] > ch->joined_at[*last] ||
            (ch->joined_at[i] == ch->joined_at[*last] &&
             lists[i].joined_us < lists[*last].joined_us))
            *last = i;
    memset(ch->joined_at, 0, (size_t)ch->n * sizeof *ch->joined_at);
}

int ty_engine_compare(struct ty_coll *c, struct ty_chan *ch)
{
    struct ty_list *lists = FAULT("compare.alloc", NULL, calloc((size_t)ch->n, sizeof *lists));
    struct ty_decisions d = { 0 };
    void *mine = NULL;
    size_t n = 0;
    int e = lists ? ty_list_write(ch->oldest, ty_mono_us(), &mine, &n) : -ENOMEM;

    ch->fresh = false;
    c->stats.negotiations++;
    if (e == 0) {
        ty_stall_enter(c, ch, NULL, 0);
        pthread_mutex_unlock(&c->lock);
        e = read_lists(ch, mine, n, lists);
        if (e == 0)
            e = ty_lists_decide(lists, ch->n, ch->world, &d);
        pthread_mutex_lock(&c->lock);
        ty_stall_leave(c);
    }
    if (e == 0) {
        note_joined(ch, lists, &d.last_joined);
        ch->comparing = d.n == 0 && d.last_joined < 0;
        if (ch->comparing)
            note_missing(ch, lists);
        e = apply(c, ch, &d);
    }
    ty_decisions_done(&d);
    for (int i = 0; lists && i < ch->n; i++)
        ty_list_done(&lists[i]);
    free(lists);
    free(mine);
    return e;
}
