/* engine.c - submitting, waiting, driving
 *
 * A round of a channel:
 *   1. post      what was predicted and is pending, with what is predicted after it; else, when somebody waits or
 *                patience ends, the oldest pending operation
 *   2. agree     all posts seen: equal digests, or not
 *   3. run       the operations that all have ready; or compare lists, and do what they say
 * Steps 1 and 2 never wait; step 3 does, for ranks that are in it too.
 */
#include "coll/engine.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/fast.h"
#include "coll/gpu.h"
#include "coll/names.h"
#include "coll/net.h"
#include "coll/stall.h"
#include "coll/timeline.h"
#include "coll/tune.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY_MAX 65536 /* names that are made up anew each time must not fill memory */

/* ---- posting ---- */

struct ty_req *ty_engine_pending(const struct ty_chan *ch, uint64_t digest)
{
    uint64_t r;

    return ty_map_get(&ch->by_digest, digest, &r) ? (struct ty_req *)(uintptr_t)r : NULL;
}

static struct ty_req *predicted(const struct ty_chan *ch, uint64_t after)
{
    uint64_t digest;

    return ty_map_get(&ch->next, after, &digest) ? ty_engine_pending(ch, digest) : NULL;
}

void ty_engine_remember(struct ty_chan *ch, uint64_t digest)
{
    if (ch->next.used >= HISTORY_MAX || ty_map_reserve(&ch->next) < 0)
        ty_map_clear(&ch->next);
    if (ch->next.size)
        ty_map_put(&ch->next, ch->last, digest);
    ch->last = digest;
}

/* The operation to post now, or NULL to wait for a better one. */
static struct ty_req *choose(struct ty_coll *c, struct ty_chan *ch)
{
    struct ty_req *r = predicted(ch, ch->last);
    uint64_t digest;
    int64_t now;

    if (r || !ch->oldest)
        return r;
    if (c->wanting || !ty_map_get(&ch->next, ch->last, &digest))
        return ch->oldest;
    now = ty_mono_us();
    if (!ch->waiting_since_us)
        ch->waiting_since_us = now;
    return now - ch->waiting_since_us >= TY_COLL_PATIENCE_US ? ch->oldest : NULL;
}

static bool small(const struct ty_req *r)
{
    return r->kind == TY_COLL_ALLREDUCE && r->op != TY_COLL_ADASUM && r->device < 0 &&
           ty_req_bytes(r) <= TY_INLINE_BYTES;
}
static bool chains(const struct ty_req *r)
{
    return r->kind == TY_COLL_ALLREDUCE && r->op != TY_COLL_ADASUM;
}

/* May r follow in a batch that began with a request of that kind? */
static bool fits(const struct ty_req *r, uint32_t flags)
{
    if (!chains(r))
        return false;
    return flags & TY_POST_DIRECT   ? r->arena
           : flags & TY_POST_INLINE ? small(r)
                                    : !small(r) && !r->arena;
}

/* The operations that go into one post, from `first` on: all small, or all in the arena, or all neither. */
static int make_batch(struct ty_chan *ch, struct ty_req *first, uint32_t *flags)
{
    struct ty_req *r = chains(first) ? predicted(ch, first->digest) : NULL;
    int m = 1;

    *flags = 0;
    if (chains(first) && first->arena && (!small(first) || (r && r != first && r->arena)))
        *flags = TY_POST_DIRECT;
    else if (small(first))
        *flags = TY_POST_INLINE;
    ch->batch[0] = first;
    first->marked = ch->round;
    while (r && m < TY_BATCH && r->marked != ch->round && fits(r, *flags)) {
        r->marked = ch->round;
        ch->batch[m++] = r;
        r = predicted(ch, r->digest);
    }
    if (*flags & TY_POST_DIRECT)
        return ty_direct_pack(ch, ch->batch, m);
    return *flags & TY_POST_INLINE ? ty_inline_pack(ch, ch->batch, m) : m;
}

/* True when this rank's post of the round is out. */
static bool post(struct ty_coll *c, struct ty_chan *ch)
{
    struct ty_verdict v = { 0 };
    struct ty_req *first;

    if (ch->posted)
        return true;
    if (ch->comparing && !ch->fresh && !ty_chan_peer_posted(ch))
        return false;
    if (ch->join || ch->comparing) {
        v.flags = ch->join ? TY_POST_JOINED | TY_POST_LISTS : TY_POST_LISTS;
    } else {
        first = choose(c, ch);
        if (!first)
            return false;
        v.digest = first->digest;
        v.ready = (uint32_t)make_batch(ch, first, &v.flags);
        if (v.ready == 0) { /* more tensors than a post has room for */
            v.ready = 1;
            v.flags &= ~(uint32_t)TY_POST_ALL;
        }
    }
    if (c->drift.again && ch->id == 0)
        v.flags |= TY_POST_TUNE;
    ty_chan_publish(ch, &v);
    if (c->timeline)
        ty_timeline_cycle(c->timeline, ty_mono_us());
    return true;
}

/* ---- running ---- */

static enum ty_path staged_path(const struct ty_coll *c, const struct ty_req *r)
{
    uint64_t bytes = (uint64_t)ty_req_bytes(r) | 1;

    return (enum ty_path)c->paths[63 - __builtin_clzll(bytes)];
}

static int staged(struct ty_coll *c, struct ty_req *r)
{
    enum ty_path path = staged_path(c, r);
    int e = ty_allreduce_staged(r->ch, r, path);

    r->path = r->ch->net ? TY_PATH_NET : path;
    if (!r->ch->net && r->ch->id == 0)
        ty_tune_watch(c, ty_req_bytes(r), ty_mono_us() - r->begun_us);
    return e;
}

int ty_engine_execute(struct ty_coll *c, struct ty_req *r)
{
    struct ty_chan *ch = r->ch;

    r->begun_us = ty_mono_us();
    if (r->device >= 0)
        return ty_gpu_run(c, &r, 1);
    r->path = ch->net ? TY_PATH_NET : TY_PATH_COPY;
    switch (r->kind) {
    case TY_COLL_ALLREDUCE:
        return r->op == TY_COLL_ADASUM ? ty_adasum(ch, r) : staged(c, r);
    case TY_COLL_SET_ADD:
        return ty_engine_set_add(c, r);
    case TY_COLL_SET_REMOVE:
        return ty_engine_set_remove(c, r);
    case TY_COLL_BROADCAST:
        return ty_broadcast(ch, r);
    case TY_COLL_REDUCESCATTER:
        return ty_reducescatter(ch, r);
    case TY_COLL_ALLGATHER:
        return ty_allgather(ch, r);
    case TY_COLL_ALLTOALL:
        return ty_alltoall(ch, r);
    default:
        return ty_barrier(ch);
    }
}

/* How many requests from the first on are on GPUs: what is together in a batch is together on all ranks. */
static int on_gpus(struct ty_req *const *req, int m)
{
    int n = 0;

    while (n < m && req[n]->device >= 0)
        n++;
    return n;
}

/* The first m requests of the batch; without the lock. */
static int execute_batch(struct ty_coll *c, struct ty_chan *ch, uint32_t flags, int m)
{
    int e = 0;

    if (flags & TY_POST_INLINE)
        return ty_allreduce_inline(ch, ch->batch, m);
    if (flags & TY_POST_DIRECT)
        return ty_allreduce_direct(ch, ch->batch, m);
    for (int i = 0, n; e == 0 && i < m; i += n ? n : 1) {
        n = on_gpus(ch->batch + i, m - i);
        e = n ? ty_gpu_run(c, ch->batch + i, n) : ty_engine_execute(c, ch->batch[i]);
    }
    return e;
}

static int run_batch(struct ty_coll *c, struct ty_chan *ch, const struct ty_verdict *v)
{
    int m = (int)v->ready, e;
    /* A small operation is over sooner than a clock is read twice. */
    int64_t begun = v->flags & TY_POST_INLINE && !c->timeline ? 0 : ty_mono_us();

    for (int i = 0; i < m; i++) {
        ty_engine_unlink(ch->batch[i]);
        ch->batch[i]->state = TY_REQ_RUNNING;
        ch->batch[i]->begun_us = begun;
        ch->batch[i]->path = v->flags & TY_POST_INLINE ? TY_PATH_INLINE : TY_PATH_DIRECT;
    }
    ty_stall_enter(c, ch, ch->batch, m);
    pthread_mutex_unlock(&c->lock);
    e = execute_batch(c, ch, v->flags, m);
    pthread_mutex_lock(&c->lock);
    if (begun)
        c->stats.busy_us += (uint64_t)(ty_mono_us() - begun);
    if (e < 0)
        ty_engine_end_by_failure(c, e);
    ty_stall_leave(c);
    for (int i = 0; i < m; i++) {
        struct ty_req *r = ch->batch[i];

        if (e == 0)
            ty_engine_remember(ch, r->digest);
        if (e < 0)
            ty_engine_fail(c, r, c->ended, c->end_text);
        else
            ty_engine_complete(c, r, r->status, NULL);
    }
    return 0;
}

/* Can what follows block, while another set that shares ranks with this one blocks for us? */
static bool may_block(const struct ty_coll *c, const struct ty_chan *ch, const struct ty_verdict *v)
{
    return c->nsets > 1 && (ch->net || !(v->flags & TY_POST_INLINE) || v->flags & TY_POST_ANY);
}

static int tune_again(struct ty_coll *c)
{
    int e;

    ty_stall_enter(c, c->set[0]->ch, NULL, 0);
    pthread_mutex_unlock(&c->lock);
    e = ty_tune(c);
    pthread_mutex_lock(&c->lock);
    ty_stall_leave(c);
    return e;
}

/* One step of a channel; true when a round has been run. */
static bool step(struct ty_coll *c, struct ty_chan *ch)
{
    struct ty_verdict v;
    int e;

    if (!post(c, ch))
        return false;
    e = ty_chan_agreed(ch, &v);
    if (e > 0 && may_block(c, ch, &v)) {
        e = ty_chan_enter(ch, c->entered == NULL);
        if (ch->committed)
            c->entered = ch;
    }
    if (e == 0)
        return false;
    if (e > 0)
        e = v.flags & TY_POST_COMPARE ? ty_engine_compare(c, ch) : run_batch(c, ch, &v);
    if (e >= 0 && v.flags & TY_POST_TUNE && !c->ended)
        e = tune_again(c);
    if (c->entered == ch)
        c->entered = NULL;
    if (e < 0)
        ty_engine_end_by_failure(c, e);
    ty_chan_next(ch);
    return true;
}

bool ty_engine_step(struct ty_coll *c)
{
    bool did = false;

    for (int i = 0; i < c->nsets && !c->ended; i++)
        if (c->set[i]->ch &&
            (c->set[i]->ch->pending || c->set[i]->ch->posted || c->set[i]->ch->comparing))
            did |= step(c, c->set[i]->ch);
    return did;
}

/* ---- driving ---- */

struct rest {
    struct ty_coll *c;
    uint32_t seen;
};

/* Is there a reason to look again?  Called by the driver without the lock: sets come and go by its hand alone. */
static bool news(void *ctx)
{
    const struct rest *rest = ctx;
    struct ty_coll *c = rest->c;

    if (atomic_load_explicit(&c->submits, memory_order_acquire) != rest->seen ||
        (c->linger_until_us ? ty_node_broken(c->node) : ty_node_poisoned(c->node)))
        return true;
    for (int i = 0; i < c->nsets; i++)
        if (c->set[i]->ch && ty_chan_news(c->set[i]->ch, c->entered == NULL))
            return true;
    return false;
}

/* Asked when the bell rings for us already: armed before, the net could use its one call for a message that is
 * of no use now, and the bell would not ring for the next. */
static bool last_look(void *ctx)
{
    const struct rest *rest = ctx;

    if (rest->c->net)
        ty_net_arm(rest->c->net);
    return news(ctx);
}

/* How long a rest may last: until patience ends for a channel.  -1: no end. */
static int64_t rest_us(const struct ty_coll *c)
{
    int64_t shortest = -1;

    for (int i = 0; i < c->nsets; i++) {
        const struct ty_chan *ch = c->set[i]->ch;
        int64_t left;

        if (!ch || ch->posted || !ch->waiting_since_us)
            continue;
        left = ch->waiting_since_us + TY_COLL_PATIENCE_US - ty_mono_us();
        left = left > 1 ? left : 1;
        shortest = shortest < 0 || left < shortest ? left : shortest;
    }
    return shortest;
}

/* Who kept us waiting: the local rank that posts last. */
static void blame(struct ty_coll *c, int64_t since_us)
{
    int ranks[TY_NODE_RANKS], n = 0;

    for (int i = 0; i < c->nsets && n == 0; i++)
        if (c->set[i]->ch && c->set[i]->ch->posted)
            n = ty_chan_missing(c->set[i]->ch, ranks);
    if (n > 0)
        c->late_us[ranks[n - 1]] += (uint64_t)(ty_mono_us() - since_us);
}

static void rest(struct ty_coll *c, uint32_t seen, int64_t until_us)
{
    struct rest r = { c, seen };
    struct ty_node *n = c->node;
    int64_t timeout, begun;

    for (int k = 0; k < n->spins; k++) {
        if (news(&r))
            return;
        ty_cpu_pause();
    }
    for (int k = 0; k < n->yields; k++) {
        if (news(&r))
            return;
        sched_yield();
    }
    begun = ty_mono_us();
    timeout = rest_us(c);
    if (c->linger_until_us && (until_us < 0 || c->linger_until_us < until_us))
        until_us = c->linger_until_us;
    if (until_us >= 0) {
        int64_t left = until_us > begun ? until_us - begun : 1;

        timeout = timeout < 0 || left < timeout ? left : timeout;
    }
    ty_node_sleep(n, last_look, &r, timeout);
    blame(c, begun);
}

int ty_engine_cannot_start(struct ty_coll *c, int code, struct ty_error *err)
{
    pthread_mutex_lock(&c->lock);
    ty_engine_end_by_failure(c, code);
    pthread_mutex_unlock(&c->lock);
    return ty_error_set(err, c->ended, "the world cannot start: %s", c->end_text);
}

int ty_engine_meet(struct ty_coll *c, int timeout_ms, struct ty_error *err)
{
    struct ty_chan *ch = c->set[0]->ch;
    int64_t until_us = ty_mono_us() + (int64_t)timeout_ms * 1000;
    struct ty_verdict v = { 0 };
    int e = 0;

    if (!ch->net)
        return 0;
    ty_chan_publish(ch, &v);
    for (;;) {
        bool over =
            ty_node_poisoned(c->node) || ty_mono_us() >= until_us; /* before the last look */

        e = ty_chan_agreed(ch, &v);
        if (e != 0 || (over && !ty_engine_lingers(c)))
            break;
        rest(c, atomic_load(&c->submits), until_us);
    }
    for (int i = 0; i < c->size; i++)
        c->late_us[i] = 0;
    if (e > 0) {
        ty_chan_next(ch);
        return 0;
    }
    if (e == 0 && !ty_node_poisoned(c->node))
        return ty_error_set(err, -ETIMEDOUT, "the nodes of the world have not met in %d s",
                            timeout_ms / 1000);
    return ty_engine_cannot_start(c, e < 0 ? e : -EOWNERDEAD, err);
}

/* With the lock and `driving`: until `until` is done or the time has come; for the engine's thread (NULL) until nothing
 * is pending or somebody else would drive. */
static void drive(struct ty_coll *c, struct ty_req *until, int64_t until_us)
{
    while (until ? until->state != TY_REQ_DONE : c->pending > 0 && c->wanting == 0 && !c->stop) {
        uint32_t seen = atomic_load(&c->submits);

        if (ty_engine_step(c) || c->ended)
            continue;
        if (c->stop) {
            ty_engine_leave(c);
            continue;
        }
        if (ty_node_poisoned(c->node)) {
            /* What came before the end still counts: look once more. */
            if (ty_engine_step(c) || c->ended)
                continue;
            if (!ty_engine_lingers(c)) {
                ty_engine_end_by(c, ty_node_poisoned(c->node));
                continue;
            }
        }
        if (until_us >= 0 && ty_mono_us() >= until_us)
            return;
        if (until && !until->submitted_us)
            until->submitted_us = ty_mono_us();
        pthread_mutex_unlock(&c->lock);
        rest(c, seen, until_us);
        pthread_mutex_lock(&c->lock);
    }
}

void ty_engine_stop_driving(struct ty_coll *c)
{
    c->driving = false;
    if (c->sleepers)
        pthread_cond_broadcast(&c->changed);
    else if (c->pending > 0 && c->threaded)
        pthread_cond_signal(&c->work);
}

/* Sleep until something has changed; false when the time has come. */
static bool sleep_until(struct ty_coll *c, int64_t until_us)
{
    struct timespec t = { until_us / 1000000, until_us % 1000000 * 1000 };
    int r;

    c->sleepers++;
    r = until_us < 0 ? pthread_cond_wait(&c->changed, &c->lock)
                     : pthread_cond_timedwait(&c->changed, &c->lock, &t);
    c->sleepers--;
    return r != ETIMEDOUT;
}

/* With the lock: wait for r, driving when nobody else does.  until_us < 0: without end.  False: time is up. */
bool ty_engine_await(struct ty_coll *c, struct ty_req *r, int64_t until_us)
{
    bool time_left = true;

    c->waiters++;
    c->wanting++;
    while (r->state != TY_REQ_DONE && time_left) {
        if (!c->driving) {
            c->driving = true;
            drive(c, r, until_us);
            ty_engine_stop_driving(c);
            time_left = until_us < 0 || ty_mono_us() < until_us;
            continue;
        }
        if (!r->submitted_us)
            r->submitted_us = ty_mono_us();
        atomic_fetch_add(&c->submits, 1); /* the engine's thread gives way */
        ty_node_ring_one(c->node, c->node->me);
        time_left = sleep_until(c, until_us);
    }
    c->wanting--;
    c->waiters--;
    if (c->stop && c->sleepers)
        pthread_cond_broadcast(&c->changed);
    /* Another thread may have driven until here; what is left has nobody but the engine's thread. */
    if (!c->wanting && !c->driving && c->pending > 0 && c->threaded)
        pthread_cond_signal(&c->work);
    return r->state == TY_REQ_DONE;
}

static bool posted_somewhere(const struct ty_coll *c)
{
    for (int i = 0; i < c->nsets; i++)
        if (c->set[i]->ch && c->set[i]->ch->posted)
            return true;
    return false;
}

static void *engine(void *arg)
{
    struct ty_coll *c = arg;

    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        int64_t begins = c->pending_since_us + (c->cores ? 0 : TY_COLL_GRACE_US);

        if (c->pending == 0 || c->driving || c->wanting) {
            pthread_cond_wait(&c->work, &c->lock);
            continue;
        }
        if (!posted_somewhere(c) && ty_mono_us() < begins) {
            struct timespec t = { begins / 1000000, begins % 1000000 * 1000 };

            pthread_cond_timedwait(&c->work, &c->lock, &t);
            continue;
        }
        c->driving = c->own_turn = true;
        drive(c, NULL, -1);
        c->own_turn = false;
        c->pending_since_us = ty_mono_us();
        ty_engine_stop_driving(c);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int ty_engine_start_thread(struct ty_coll *c, struct ty_error *err)
{
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = -FAULT("engine.thread", EAGAIN, pthread_create(&c->thread, NULL, engine, c));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r < 0)
        return ty_error_set(err, r, "cannot start the engine's thread: %s", strerror(-r));
    c->threaded = true;
    return 0;
}

/* ---- life ---- */

int ty_engine_init(struct ty_coll *c)
{
    pthread_condattr_t a;

    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &a);
    pthread_cond_init(&c->work, &a);
    pthread_condattr_destroy(&a);
    c->stats.late_rank = -1;
    c->late_us = FAULT("engine.alloc", NULL, calloc((size_t)c->size, sizeof *c->late_us));
    c->memo = FAULT("engine.alloc", NULL, calloc(TY_MEMOS, sizeof *c->memo));
    return c->late_us && c->memo ? 0 : -ENOMEM;
}

void ty_engine_stop(struct ty_coll *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    atomic_fetch_add(&c->submits, 1);
    ty_node_ring_one(c->node, c->node->me);
    pthread_cond_broadcast(&c->work);
    while (c->driving)
        sleep_until(c, -1);
    ty_engine_leave(c);
    while (c->waiters > 0)
        sleep_until(c, -1);
    pthread_mutex_unlock(&c->lock);
    if (c->threaded)
        pthread_join(c->thread, NULL);
}

void ty_engine_done(struct ty_coll *c)
{
    for (size_t i = 0; i < c->by_handle.size; i++)
        if (c->by_handle.at[i].key)
            ty_engine_give_back(c, (struct ty_req *)(uintptr_t)c->by_handle.at[i].value);
    while (c->spare) {
        struct ty_req *r = c->spare;

        c->spare = r->next;
        free(r);
    }
    ty_map_done(&c->by_handle);
    for (int i = 0; i < c->nsets; i++) {
        ty_chan_free(c->set[i]->ch);
        free(c->set[i]->ranks);
        free(c->set[i]);
    }
    ty_gpu_free(c->gpu);
    free(c->cuda_path);
    free(c->stall_file);
    free(c->late_us);
    free(c->memo);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}
