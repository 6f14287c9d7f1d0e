/* ends.c - how an operation ends, and how a world does
 *
 * A world ends for a rank when it knows that another one is gone, or that it cannot go on itself.  What has begun, that
 * is what all have agreed to run, ends well when a rank leaves after it: each has done its part.  Who does not do what
 * its post has promised, for whatever reason, breaks the node, so that nobody waits for it.
 */
#include "base/clock.h"
#include "coll/engine.h"
#include "coll/net.h"
#include "coll/stall.h"
#include "coll/timeline.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A broken connection is told to us twice; the second time says who it was. */
#define LOST_NEWS_US 2000000
/* Who has left a world of several nodes may have done its part in what we wait for; the messages of others that say so
 * can come after its goodbye. */
#define LINGER_US 3000000
#define LINGER_SURE_US 30000000 /* it has, as we can see */

/* ---- one operation ---- */

void ty_engine_complete(struct ty_coll *c, struct ty_req *r, int status, const char *error)
{
    r->status = status;
    if (status < 0 && error)
        r->error = strdup(error);
    r->state = TY_REQ_DONE;
    if (c->timeline)
        ty_timeline_record(c->timeline, r, ty_coll_path_name(r->path));
    c->pending--;
    c->stats.ops++;
    if (status >= 0 && r->kind != TY_COLL_JOIN)
        c->stats.path_ops[r->path]++;
    c->stats.bytes += (uint64_t)ty_req_bytes(r);
    if (r->name_key)
        ty_map_remove(&r->ch->by_name, r->name_key);
    if (r->ch->join == r)
        r->ch->join = NULL;
    if (c->sleepers)
        pthread_cond_broadcast(&c->changed);
}

void ty_engine_unlink(struct ty_req *r)
{
    struct ty_chan *ch = r->ch;
    uint64_t first;

    if (r->prev)
        r->prev->next = r->next;
    else
        ch->oldest = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        ch->youngest = r->prev;
    r->prev = r->next = NULL;
    ch->pending--;
    ch->waiting_since_us = 0;
    if (!ty_map_get(&ch->by_digest, r->digest, &first))
        return;
    if ((struct ty_req *)(uintptr_t)first != r) {
        struct ty_req *q = (struct ty_req *)(uintptr_t)first;

        while (q && q->same != r)
            q = q->same;
        if (q)
            q->same = r->same;
    } else if (r->same) {
        ty_map_put(&ch->by_digest, r->digest, (uint64_t)(uintptr_t)r->same);
    } else {
        ty_map_remove(&ch->by_digest, r->digest);
    }
    r->same = NULL;
}

void ty_engine_fail(struct ty_coll *c, struct ty_req *r, int code, const char *text)
{
    char full[1100], title[160];

    snprintf(full, sizeof full, "%s failed: %s",
             ty_req_title(r->kind, r->name, title, sizeof title), text);
    ty_engine_complete(c, r, code, full);
}

void ty_engine_fail_pending(struct ty_coll *c, struct ty_chan *ch, int code, const char *text)
{
    while (ch->oldest) {
        struct ty_req *r = ch->oldest;

        ty_engine_unlink(r);
        ty_engine_fail(c, r, code, text);
    }
}

/* ---- all of them ---- */

void ty_engine_end(struct ty_coll *c, int code, const char *text)
{
    if (!c->ended) {
        c->ended = code;
        snprintf(c->end_text, sizeof c->end_text, "%s", text);
    }
    for (int i = 0; i < c->nsets; i++)
        if (c->set[i]->ch)
            ty_engine_fail_pending(c, c->set[i]->ch, c->ended, c->end_text);
    pthread_cond_broadcast(&c->changed);
}

/* Is a post of this rank out, whose round has not been run? */
static bool has_promised(const struct ty_coll *c)
{
    for (int i = 0; i < c->nsets; i++) {
        const struct ty_chan *ch = c->set[i]->ch;

        if (ch && ch->posted)
            return true;
    }
    return false;
}

void ty_engine_break(struct ty_coll *c, int rank, enum ty_end why)
{
    ty_engine_lost(c, rank, why == TY_END_LEFT ? TY_END_QUIT : why);
    ty_engine_tell(c, rank, why == TY_END_LEFT ? TY_END_QUIT : why);
}

/* What this rank has waited for says more than that another one has lost its patience. */
static void say_stalled(struct ty_coll *c, int rank, char *buf, size_t cap)
{
    char waits[700] = "";

    if (rank == c->rank)
        snprintf(waits, sizeof waits, "%s", c->stall_text);
    else
        ty_stall_text(c, (int64_t)c->stall_shutdown_s * 500000, false, waits, sizeof waits);
    snprintf(buf, cap, "rank %d ended the job because an operation was stalled for too long%s%s",
             rank, *waits ? ": " : "", waits);
}

void ty_engine_end_by(struct ty_coll *c, uint64_t word)
{
    int rank = (int)(uint32_t)word - 1, code = -EOWNERDEAD;
    char text[900];

    switch ((enum ty_end)(word >> 32)) {
    case TY_END_LEFT:
    case TY_END_QUIT:
        code = -ESHUTDOWN;
        snprintf(
            text, sizeof text,
            "rank %d has shut down; either it has finished, or an exception ended it: see its log",
            rank);
        break;
    case TY_END_CUT:
        snprintf(text, sizeof text,
                 "rank %d cannot be reached any more: its process, its host or the network is gone",
                 rank);
        break;
    case TY_END_STALLED:
        code = -ETIMEDOUT;
        say_stalled(c, rank, text, sizeof text);
        break;
    case TY_END_FAILED:
        snprintf(text, sizeof text,
                 "rank %d could not start or go on (out of memory, or an error of its system): see "
                 "its log",
                 rank);
        break;
    default:
        snprintf(text, sizeof text,
                 "rank %d has died: its process was killed or ended without shutting down", rank);
    }
    /* Others hear of our leaving soon; it is not the reason. */
    if (c->net && !c->ended && word >> 32 != TY_END_LEFT)
        ty_net_tell(c->net, (int32_t[2]){ rank, (int32_t)(word >> 32) }, 2 * sizeof(int32_t));
    if (has_promised(c) && !ty_node_broken(c->node))
        ty_engine_break(c, rank, (enum ty_end)(word >> 32));
    ty_engine_end(c, code, text);
}

void ty_engine_leave(struct ty_coll *c)
{
    if (!c->ended && has_promised(c))
        ty_engine_break(c, c->rank, TY_END_QUIT);
    ty_engine_end(c, -ESHUTDOWN, "this rank has shut down");
}

/* How long the rounds that this rank has posted may still wait, now that `left` has left: it has done its part in those that
 * it posted in too, which is known of ranks of this node. */
static int64_t linger_us(const struct ty_coll *c, int left)
{
    int64_t longest = 0;

    for (int i = 0; i < c->nsets; i++) {
        struct ty_chan *ch = c->set[i]->ch;
        int posted = ch && ch->posted && ch->net ? ty_chan_has_posted(ch, left) : 0;

        if (posted == 0)
            continue;
        longest = posted > 0 ? LINGER_SURE_US : longest > LINGER_US ? longest : LINGER_US;
    }
    return longest;
}

bool ty_engine_lingers(struct ty_coll *c)
{
    uint64_t word = ty_node_poisoned(c->node);
    int64_t most;

    if ((enum ty_end)(word >> 32) != TY_END_LEFT || ty_node_broken(c->node))
        return false;
    most = linger_us(c, (int)(uint32_t)word - 1);
    if (most == 0)
        return false;
    if (!c->linger_until_us)
        c->linger_until_us = ty_mono_us() + most;
    return ty_mono_us() < c->linger_until_us;
}

void ty_engine_lost(struct ty_coll *c, int rank, enum ty_end why)
{
    ty_node_poison(c->node, rank, why);
    if (c->net)
        ty_net_wake(c->net);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

/* Wait for the news of who is gone: the poison, or 0 when there is none. */
static uint64_t news_of_end(struct ty_coll *c)
{
    int64_t until = ty_mono_us() + LOST_NEWS_US;

    pthread_mutex_unlock(&c->lock);
    while (!ty_node_poisoned(c->node) && ty_mono_us() < until) {
        for (int i = 0; i < c->node->ranks; i++)
            if (i != c->node->me)
                ty_node_look(c->node, i);
        ty_node_sleep(c->node, never, NULL, 1000);
    }
    pthread_mutex_lock(&c->lock);
    return ty_node_broken(c->node) ? ty_node_broken(c->node) : ty_node_poisoned(c->node);
}

/* When a rank is gone, the news of it is here or on its way; else this rank itself could not do its part. */
void ty_engine_end_by_failure(struct ty_coll *c, int code)
{
    bool by_others = code == -ECONNRESET || code == -ECANCELED || code == -ESHUTDOWN ||
                     code == -EPIPE || code == -EOWNERDEAD || code == -ESRCH;
    uint64_t word = by_others ? news_of_end(c) : ty_node_broken(c->node);
    char text[400];

    if (word) {
        /* What had begun is not done: whatever the reason was, others may wait for it. */
        if (!ty_node_broken(c->node))
            ty_engine_break(c, (int)(uint32_t)word - 1, (enum ty_end)(word >> 32));
        ty_engine_end_by(c, word);
        return;
    }
    snprintf(text, sizeof text, "this rank could not do its part of an operation: %s",
             c->trouble[0] ? c->trouble : strerror(-code));
    ty_engine_end(c, code, text);
    ty_engine_break(c, c->rank, TY_END_FAILED);
}
