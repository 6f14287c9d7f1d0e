/* chan.c - posts and phases in shared memory; agreement between the leaders of nodes
 *
 * Between nodes the verdict is found by dissemination: in step j leader i tells leader i + 2^j what it knows of the
 * leaders i - 2^j + 1 .. i, so that after ceil(log2 nodes) steps each knows of all; combining is idempotent, so the overlap of
 * the last step does no harm.  Nothing of this waits: a step is taken when its message has come.
 */
#include "coll/chan.h"
#include "base/clock.h"
#include "base/fault.h"
#include "coll/nccl.h"
#include "coll/net.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* ---- members ---- */

/* Nodes are in the order of their numbers in every set: ranks commit themselves in it, and all sets must agree who is
 * before whom. */
static void find_nodes(struct ty_chan *ch, const int *node_of_world, const int *local_of_world,
                       int rank)
{
    for (int i = 0; i < ch->n; i++) {
        int w = ch->world[i], k = 0;

        while (k < ch->nnodes && node_of_world[ch->leader[k]] < node_of_world[w])
            k++;
        if (k < ch->nnodes && node_of_world[ch->leader[k]] == node_of_world[w])
            continue;
        memmove(&ch->leader[k + 1], &ch->leader[k],
                (size_t)(ch->nnodes++ - k) * sizeof *ch->leader);
        ch->leader[k] = w;
    }
    for (int i = 0; i < ch->n; i++) {
        int w = ch->world[i], k = 0;

        while (node_of_world[ch->leader[k]] != node_of_world[w])
            k++;
        ch->node_of[i] = k;
        if (node_of_world[w] != node_of_world[rank])
            continue;
        ch->my_node = k;
        if (w == rank) {
            ch->me = i;
            ch->lme = ch->nlocal;
        }
        ch->member[ch->nlocal] = i;
        ch->local[ch->nlocal++] = local_of_world[w];
    }
}

static int find_rails(struct ty_chan *ch)
{
    int *members = calloc((size_t)ch->nnodes, sizeof *members);

    if (!members)
        return -ENOMEM;
    for (int i = 0; i < ch->n; i++)
        members[ch->node_of[i]]++;
    ch->rails = ch->n;
    for (int k = 0; k < ch->nnodes; k++)
        ch->rails = members[k] < ch->rails ? members[k] : ch->rails;
    ch->rail = calloc((size_t)ch->nnodes * (size_t)ch->rails, sizeof *ch->rail);
    memset(members, 0, (size_t)ch->nnodes * sizeof *members);
    for (int i = 0; ch->rail && i < ch->n; i++) {
        int k = ch->node_of[i], at = members[k]++;

        if (at < ch->rails)
            ch->rail[k * ch->rails + at] = ch->world[i];
    }
    free(members);
    return ch->rail ? 0 : -ENOMEM;
}

int ty_chan_new(struct ty_node *node, struct ty_net *net, const struct ty_select *select, int id,
                int slot, uint64_t epoch, const int *world, int n, const int *node_of_world,
                const int *local_of_world, int rank, struct ty_chan **ret)
{
    struct ty_chan *ch = FAULT("chan.alloc", NULL, calloc(1, sizeof *ch));

    if (!ch)
        return -ENOMEM;
    ch->id = id;
    ch->slot = slot;
    ch->epoch = epoch;
    ch->node = node;
    ch->n = n;
    ch->me = ch->lme = -1;
    ch->my_node = -1;
    ch->round = 1;
    ch->step = -1;
    ch->world = malloc((size_t)n * sizeof *ch->world);
    ch->node_of = malloc((size_t)n * sizeof *ch->node_of);
    ch->local = malloc((size_t)n * sizeof *ch->local);
    ch->member = malloc((size_t)n * sizeof *ch->member);
    ch->leader = malloc((size_t)n * sizeof *ch->leader);
    ch->batch = malloc(TY_BATCH * sizeof(struct ty_req *));
    ch->joined_at = calloc((size_t)n, sizeof *ch->joined_at);
    if (!ch->world || !ch->node_of || !ch->local || !ch->member || !ch->leader || !ch->batch ||
        !ch->joined_at) {
        ty_chan_free(ch);
        return -ENOMEM;
    }
    memcpy(ch->world, world, (size_t)n * sizeof *world);
    find_nodes(ch, node_of_world, local_of_world, rank);
    if (find_rails(ch) < 0) {
        ty_chan_free(ch);
        return -ENOMEM;
    }
    ch->net = ch->nnodes > 1 ? net : NULL;
    ch->select = select;
    *ret = ch;
    return 0;
}

struct ty_chan *ty_chan_free(struct ty_chan *ch)
{
    if (!ch)
        return NULL;
    free(ch->world);
    free(ch->node_of);
    free(ch->local);
    free(ch->member);
    free(ch->leader);
    free(ch->rail);
    free(ch->batch);
    free(ch->joined_at);
    free(ch->scratch);
    ty_comm_free(ch->comm);
    ty_map_done(&ch->by_digest);
    ty_map_done(&ch->by_name);
    ty_map_done(&ch->next);
    free(ch);
    return NULL;
}

/* ---- rounds ---- */

void ty_chan_publish(struct ty_chan *ch, const struct ty_verdict *v)
{
    struct ty_post *p = ty_chan_post(ch, ch->lme, ch->round);

    p->v = ch->mine = *v;
    p->at_us =
        atomic_load_explicit(&ch->node->head->timed, memory_order_relaxed) ? ty_mono_us() : 0;
    atomic_store_explicit(&p->seq, ch->round, memory_order_release);
    ch->posted = true;
    ch->agreed = ch->committed = ch->passed = ch->sent = false;
    ch->step = -1;
    ty_node_ring(ch->node);
}

static bool has_posted(const struct ty_chan *ch, int local)
{
    return (int64_t)(atomic_load_explicit(&ty_chan_post(ch, local, ch->round)->seq,
                                          memory_order_acquire) -
                     ch->round) >= 0;
}

static bool all_posted(const struct ty_chan *ch)
{
    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme && !has_posted(ch, l))
            return false;
    return true;
}

static void combine(struct ty_verdict *sum, const struct ty_verdict *v)
{
    uint32_t all = sum->flags & v->flags & TY_POST_ALL, any = (sum->flags | v->flags) & TY_POST_ANY;

    if (sum->digest != v->digest)
        any |= TY_POST_DIFFER;
    sum->flags = all | any;
    sum->ready = v->ready < sum->ready ? v->ready : sum->ready;
}

static void combine_node(struct ty_chan *ch)
{
    ch->sum = ch->mine;
    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme)
            combine(&ch->sum, &ty_chan_post(ch, l, ch->round)->v);
}

/* Messages of the agreement: the top bit apart from those of data. */
static uint64_t agreement_tag(const struct ty_chan *ch, int step)
{
    return 1ull << 63 | (ch->epoch & 0x3fff) << 48 | (uint64_t)ch->slot << 40 |
           (ch->round & 0xffffffff) << 8 | (uint64_t)step;
}
#define STEP_COMMITTED 0xfe /* steps of the agreement end long before */
#define STEP_GO 0xff

static int from_of(const struct ty_chan *ch, int step)
{
    return ch->leader[((ch->my_node - (1 << step)) % ch->nnodes + ch->nnodes) % ch->nnodes];
}

static int disseminate(struct ty_chan *ch)
{
    struct ty_verdict got;
    size_t len;
    int r;

    if (ch->step < 0) {
        if (!all_posted(ch))
            return 0;
        combine_node(ch);
        ch->step = 0;
    }
    while (1 << ch->step < ch->nnodes) {
        int to = ch->leader[(ch->my_node + (1 << ch->step)) % ch->nnodes];

        if (!ch->sent) {
            r = ty_net_post(ch->net, to, agreement_tag(ch, ch->step), &ch->sum, sizeof ch->sum);
            if (r < 0)
                return r;
            ch->sent = true;
        }
        r = ty_net_check(ch->net, from_of(ch, ch->step), agreement_tag(ch, ch->step), &got,
                         sizeof got, &len);
        if (r <= 0)
            return r;
        if (len != sizeof got)
            return -EPROTO;
        combine(&ch->sum, &got);
        ch->step++;
        ch->sent = false;
    }
    return 1;
}

static int agreed_between_nodes(struct ty_chan *ch, struct ty_verdict *ret)
{
    struct ty_phase *line = ty_chan_phase(ch, 0);
    int r;

    if (ch->lme != 0) {
        if ((int64_t)(atomic_load_explicit(&line->seq, memory_order_acquire) - ch->round) < 0)
            return 0;
        *ret = line->v;
        return 1;
    }
    r = disseminate(ch);
    if (r <= 0)
        return r;
    line->v = *ret = ch->sum;
    atomic_store_explicit(&line->seq, ch->round, memory_order_release);
    ty_node_ring(ch->node);
    return 1;
}

int ty_chan_agreed(struct ty_chan *ch, struct ty_verdict *ret)
{
    int r;

    if (!ch->agreed) {
        if (ch->net) {
            r = agreed_between_nodes(ch, &ch->sum);
            if (r <= 0)
                return r;
        } else {
            if (!all_posted(ch))
                return 0;
            combine_node(ch);
        }
        ch->agreed = true;
    }
    *ret = ch->sum;
    return 1;
}

/* ---- commitment ---- */

static bool reached(_Atomic uint64_t *word, uint64_t round)
{
    return (int64_t)(atomic_load_explicit(word, memory_order_acquire) - round) >= 0;
}

/* May this rank commit itself: has the one before it? */
static int my_turn(struct ty_chan *ch)
{
    char byte;
    size_t len;

    if (ch->lme > 0)
        return reached(&ty_chan_phase(ch, ch->lme - 1)->committed, ch->round);
    if (!ch->net || ch->my_node == 0)
        return 1;
    return ty_net_check(ch->net, ch->leader[ch->my_node - 1], agreement_tag(ch, STEP_COMMITTED),
                        &byte, 1, &len);
}

/* The leader of a node whose members all have tells the next; that of the last node tells all. */
static int pass_on(struct ty_chan *ch)
{
    int r = 0;

    if (ch->passed || ch->lme != 0 ||
        !reached(&ty_chan_phase(ch, ch->nlocal - 1)->committed, ch->round))
        return 0;
    ch->passed = true;
    if (ch->my_node + 1 < ch->nnodes)
        return ty_net_post(ch->net, ch->leader[ch->my_node + 1], agreement_tag(ch, STEP_COMMITTED),
                           "", 1);
    for (int k = 0; r == 0 && k < ch->nnodes - 1; k++)
        r = ty_net_post(ch->net, ch->leader[k], agreement_tag(ch, STEP_GO), "", 1);
    atomic_store_explicit(&ty_chan_phase(ch, 0)->go, ch->round, memory_order_release);
    ty_node_ring(ch->node);
    return r;
}

static int all_committed(struct ty_chan *ch)
{
    struct ty_phase *line = ty_chan_phase(ch, 0);
    char byte;
    size_t len;
    int r;

    if (!ch->net)
        return reached(&ty_chan_phase(ch, ch->nlocal - 1)->committed, ch->round);
    r = pass_on(ch);
    if (r < 0 || reached(&line->go, ch->round))
        return r < 0 ? r : 1;
    if (ch->lme != 0 || ch->my_node == ch->nnodes - 1)
        return 0;
    r = ty_net_check(ch->net, ch->leader[ch->nnodes - 1], agreement_tag(ch, STEP_GO), &byte, 1,
                     &len);
    if (r <= 0)
        return r;
    atomic_store_explicit(&line->go, ch->round, memory_order_release);
    ty_node_ring(ch->node);
    return 1;
}

int ty_chan_enter(struct ty_chan *ch, bool may)
{
    int r;

    if (!ch->committed) {
        if (!may)
            return 0;
        r = my_turn(ch);
        if (r <= 0)
            return r;
        ch->committed = true;
        atomic_store_explicit(&ty_chan_phase(ch, ch->lme)->committed, ch->round,
                              memory_order_release);
        ty_node_ring(ch->node);
    }
    return all_committed(ch);
}

/* Could ty_chan_enter give more than the last time? */
static bool enter_news(struct ty_chan *ch, bool may)
{
    if (!ch->committed) {
        if (!may)
            return false;
        if (ch->lme > 0)
            return reached(&ty_chan_phase(ch, ch->lme - 1)->committed, ch->round);
        return !ch->net || ch->my_node == 0 ||
               ty_net_peek(ch->net, ch->leader[ch->my_node - 1], agreement_tag(ch, STEP_COMMITTED));
    }
    if (!ch->net)
        return reached(&ty_chan_phase(ch, ch->nlocal - 1)->committed, ch->round);
    if (reached(&ty_chan_phase(ch, 0)->go, ch->round))
        return true;
    if (ch->lme != 0)
        return false;
    if (!ch->passed && reached(&ty_chan_phase(ch, ch->nlocal - 1)->committed, ch->round))
        return true;
    return ty_net_peek(ch->net, ch->leader[ch->nnodes - 1], agreement_tag(ch, STEP_GO));
}

bool ty_chan_peer_posted(struct ty_chan *ch)
{
    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme && has_posted(ch, l))
            return true;
    if (!ch->net || ch->lme != 0)
        return false;
    for (int step = 0; 1 << step < ch->nnodes; step++)
        if (ty_net_peek(ch->net, from_of(ch, step), agreement_tag(ch, step)))
            return true;
    return false;
}

bool ty_chan_news(struct ty_chan *ch, bool may)
{
    if (!ch->posted)
        return ch->comparing && ty_chan_peer_posted(ch);
    if (ch->agreed)
        return enter_news(ch, may);
    if (!ch->net)
        return all_posted(ch);
    if (ch->lme != 0)
        return (int64_t)(atomic_load_explicit(&ty_chan_phase(ch, 0)->seq, memory_order_acquire) -
                         ch->round) >= 0;
    return ch->step < 0 ? all_posted(ch)
                        : ty_net_peek(ch->net, from_of(ch, ch->step), agreement_tag(ch, ch->step));
}

int ty_chan_missing(const struct ty_chan *ch, int *ranks)
{
    int n = 0;

    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme && !has_posted(ch, l))
            ranks[n++] = ch->world[ch->member[l]];
    return n;
}

int ty_chan_has_posted(const struct ty_chan *ch, int world)
{
    int i = ty_chan_member(ch, world);

    if (i < 0 || ch->node_of[i] != ch->my_node)
        return i < 0 ? 0 : -1;
    for (int l = 0; l < ch->nlocal; l++)
        if (ch->member[l] == i)
            return has_posted(ch, l);
    return 0;
}

void ty_chan_next(struct ty_chan *ch)
{
    ch->posted = false;
    ch->round++;
}

/* ---- phases ---- */

static bool behind(const struct ty_chan *ch, int local)
{
    return (int64_t)(atomic_load_explicit(&ty_chan_phase(ch, local)->phase, memory_order_acquire) -
                     ch->phase) < 0;
}
static bool all_here(const struct ty_chan *ch)
{
    for (int l = 0; l < ch->nlocal; l++)
        if (l != ch->lme && behind(ch, l))
            return false;
    return true;
}

static bool no_need_to_sleep(void *ctx)
{
    const struct ty_chan *ch = ctx;

    return all_here(ch) || ty_node_broken(ch->node);
}

int ty_chan_barrier(struct ty_chan *ch)
{
    struct ty_node *n = ch->node;

    atomic_store_explicit(&ty_chan_phase(ch, ch->lme)->phase, ++ch->phase, memory_order_release);
    ty_node_ring(n);
    for (int k = 0; !all_here(ch); k++) {
        if (ty_node_broken(n) && !all_here(ch))
            return -EOWNERDEAD;
        if (k < n->spins) {
            ty_cpu_pause();
        } else if (k < n->spins + n->yields) {
            sched_yield();
        } else {
            for (int l = 0; l < ch->nlocal; l++)
                if (behind(ch, l))
                    ty_node_look(n, ch->local[l]);
            ty_node_sleep(n, no_need_to_sleep, ch, 1000000);
        }
    }
    return 0;
}

uint64_t ty_chan_tag(const struct ty_chan *ch)
{
    return (ch->epoch & 0x3fff) << 48 | (uint64_t)ch->slot << 40 | (ch->round & 0xffffff) << 16;
}
