/* sets.c - process sets: made and removed by operations of the world, so that ids are the same on all ranks */
#include "base/error.h"
#include "base/fault.h"
#include "coll/engine.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ty_set *ty_engine_set(struct ty_coll *c, int id)
{
    for (int i = 0; i < c->nsets; i++)
        if (c->set[i]->id == id)
            return c->set[i];
    return NULL;
}

static void set_free(struct ty_set *s)
{
    if (!s)
        return;
    ty_chan_free(s->ch);
    free(s->ranks);
    free(s);
}

static int refuse(struct ty_req *r, const char *text)
{
    r->status = -EINVAL;
    r->error = strdup(text);
    return 0;
}

/* The same on all ranks, for they were given the same. */
static const char *wrong_ranks(const struct ty_coll *c, const int *ranks, int n)
{
    for (int i = 0; i < n; i++) {
        if (ranks[i] < 0 || ranks[i] >= c->size)
            return "cannot add a process set: it has a rank that is not in the world";
        if (i > 0 && ranks[i] == ranks[i - 1])
            return "cannot add a process set: it has a rank twice";
    }
    for (int i = 0; i < c->nsets; i++)
        if (c->set[i]->n == n && memcmp(c->set[i]->ranks, ranks, (size_t)n * sizeof *ranks) == 0)
            return "cannot add a process set: there is one of exactly these ranks";
    return ~c->slots ? NULL : "cannot add a process set: there are 64, and no more at a time";
}

static int new_set(struct ty_coll *c, const int *ranks, int n, struct ty_set **ret)
{
    struct ty_set *s = FAULT("sets.alloc", NULL, calloc(1, sizeof *s));
    bool member = false;
    int e = 0;

    if (s)
        s->ranks = malloc((size_t)n * sizeof *ranks);
    if (!s || !s->ranks) {
        set_free(s);
        return -ENOMEM;
    }
    memcpy(s->ranks, ranks, (size_t)n * sizeof *ranks);
    s->n = n;
    s->id = c->next_set;
    s->slot = __builtin_ctzll(~c->slots);
    for (int i = 0; i < n; i++)
        member |= ranks[i] == c->rank;
    if (member)
        e = ty_chan_new(c->node, c->net, c->select, s->id, s->slot, c->epoch, ranks, n, c->node_of,
                        c->local_of, c->rank, &s->ch);
    if (e < 0) {
        set_free(s);
        return e;
    }
    /* The slot may have served another set: its last rounds must not be taken for ours. */
    if (member && s->id != 0)
        memset(ty_node_control(c->node, s->slot, c->node->me), 0, 2 * TY_POST_BYTES + TY_LINE);
    *ret = s;
    return 0;
}

static void enlist(struct ty_coll *c, struct ty_set *s)
{
    c->set[c->nsets++] = s;
    c->slots |= 1ull << s->slot;
    c->next_set++;
    c->epoch++;
}

int ty_engine_set_add(struct ty_coll *c, struct ty_req *r)
{
    const char *wrong = wrong_ranks(c, r->ranks, r->nranks);
    struct ty_set *s;
    int e;

    if (wrong)
        return refuse(r, wrong);
    e = new_set(c, r->ranks, r->nranks, &s);
    if (e < 0)
        return e;
    r->got.value = s->id;
    e = ty_barrier(r->ch);
    if (e < 0) {
        set_free(s);
        return e;
    }
    pthread_mutex_lock(&c->lock);
    enlist(c, s);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int ty_engine_set_remove(struct ty_coll *c, struct ty_req *r)
{
    struct ty_set *s = ty_engine_set(c, r->root);
    char text[200];
    int e;

    if (!s)
        return refuse(r, "cannot remove a process set: it is gone already");
    if (s->id == 0)
        return refuse(r, "cannot remove process set 0: it is the world");
    e = ty_barrier(r->ch);
    if (e < 0)
        return e;
    pthread_mutex_lock(&c->lock);
    snprintf(text, sizeof text, "process set %d has been removed", s->id);
    if (s->ch)
        ty_engine_fail_pending(c, s->ch, -EINVAL, text);
    for (int i = 0; i < c->nsets; i++)
        if (c->set[i] == s)
            c->set[i] = c->set[--c->nsets];
    c->slots &= ~(1ull << s->slot);
    set_free(s);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int ty_engine_add_world(struct ty_coll *c)
{
    int *ranks = malloc((size_t)c->size * sizeof *ranks);
    struct ty_set *s = NULL;
    int e = ranks ? 0 : -ENOMEM;

    for (int i = 0; ranks && i < c->size; i++)
        ranks[i] = i;
    if (e == 0)
        e = new_set(c, ranks, c->size, &s);
    if (e == 0)
        enlist(c, s);
    free(ranks);
    return e;
}

/* ---- asked from outside ---- */

int ty_coll_set_size(struct ty_coll *c, int set)
{
    struct ty_set *s;
    int n;

    ty_engine_lock(c);
    s = ty_engine_set(c, set);
    n = s ? s->n : -ENOENT;
    ty_engine_unlock(c);
    return n;
}

int ty_coll_set_rank(struct ty_coll *c, int set)
{
    struct ty_set *s;
    int me;

    ty_engine_lock(c);
    s = ty_engine_set(c, set);
    me = !s ? -ENOENT : s->ch ? s->ch->me : -EINVAL;
    ty_engine_unlock(c);
    return me;
}

int ty_coll_set_ranks(struct ty_coll *c, int set, int *ranks, int n)
{
    struct ty_set *s;
    int have;

    ty_engine_lock(c);
    s = ty_engine_set(c, set);
    have = s ? s->n : -ENOENT;
    if (s)
        memcpy(ranks, s->ranks, (size_t)(have < n ? have : n) * sizeof *ranks);
    ty_engine_unlock(c);
    return have;
}
