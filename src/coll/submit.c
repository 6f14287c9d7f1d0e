/* submit.c - what callers call: submit, poll, wait, do
 *
 * A call is checked and copied into a request, which enters its channel's lists; from there on the driver has it.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/engine.h"
#include "coll/fast.h"
#include "coll/gpu.h"
#include "coll/names.h"
#include "coll/stall.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests ---- */

static bool is_member(void *ctx, int rank)
{
    const struct ty_set *s = ctx;

    for (int i = 0; i < s->n; i++)
        if (s->ranks[i] == rank)
            return true;
    return false;
}

/* A free request, or a new one. */
static struct ty_req *new_req(struct ty_coll *c)
{
    struct ty_req *r = c->spare;

    if (r)
        c->spare = r->next;
    else
        r = FAULT("engine.req", NULL, calloc(1, sizeof *r));
    return r;
}
void ty_engine_give_back(struct ty_coll *c, struct ty_req *r)
{
    ty_req_done(r);
    r->next = c->spare;
    c->spare = r;
}

static int refuse_name(const struct ty_coll_call *call, struct ty_error *err)
{
    char title[160];

    return ty_error_set(
        err, -EEXIST,
        "cannot submit %s: an operation of that name is in flight on this rank (a duplicate name); wait for it, "
        "or give another name",
        ty_req_title(call->kind, call->name, title, sizeof title));
}

static bool all_in_arena(const struct ty_coll *c, const struct ty_req *r)
{
    for (int i = 0; i < r->nsegs; i++)
        if (r->seg[i].count && (!r->seg[i].out || !ty_arena_has(&c->arena, r->seg[i].out)))
            return false;
    return r->nsegs > 0;
}

/* The set of a call; what makes and removes sets is of the world. */
static struct ty_set *set_of(struct ty_coll *c, const struct ty_coll_call *call,
                             struct ty_error *err)
{
    bool world = call->kind == TY_COLL_SET_ADD || call->kind == TY_COLL_SET_REMOVE;
    struct ty_set *s = ty_engine_set(c, world ? 0 : call->set);

    if (!s || (call->kind == TY_COLL_SET_REMOVE && !ty_engine_set(c, call->set))) {
        ty_error_set(err, -EINVAL, "cannot submit %s: there is no process set %d",
                     (unsigned)call->kind < TY_COLL_KINDS ? ty_coll_kind_name(call->kind)
                                                          : "an operation",
                     call->set);
        return NULL;
    }
    if (!s->ch) {
        ty_error_set(err, -EINVAL, "cannot submit %s: rank %d is not a member of process set %d",
                     (unsigned)call->kind < TY_COLL_KINDS ? ty_coll_kind_name(call->kind)
                                                          : "an operation",
                     c->rank, call->set);
        return NULL;
    }
    return s;
}

static int check_open(const struct ty_coll *c, struct ty_error *err)
{
    if (c->forked)
        return ty_error_set(
            err, -ESHUTDOWN,
            "cannot use the collectives of rank %d in a forked child; its parent has them",
            c->rank);
    if (c->stop)
        return ty_error_set(err, -ESHUTDOWN, "the collectives of rank %d are being shut down",
                            c->rank);
    return c->ended ? ty_error_set(err, c->ended, "%s", c->end_text) : 0;
}

static void link_req(struct ty_coll *c, struct ty_chan *ch, struct ty_req *r)
{
    struct ty_req *same = ty_engine_pending(ch, r->digest);

    r->prev = ch->youngest;
    r->next = NULL;
    if (ch->youngest)
        ch->youngest->next = r;
    else
        ch->oldest = r;
    ch->youngest = r;
    ch->pending++;
    ch->fresh = true;
    if (same) {
        while (same->same)
            same = same->same;
        same->same = r;
    } else {
        ty_map_put(&ch->by_digest, r->digest, (uint64_t)(uintptr_t)r);
    }
    if (r->name_key)
        ty_map_put(&ch->by_name, r->name_key, (uint64_t)(uintptr_t)r);
    if (r->kind == TY_COLL_JOIN)
        ch->join = r;
    c->pending++;
    ty_stall_arm(c);
}

/* Check, copy, and put into the channel's lists.  With the lock. */
static int enter(struct ty_coll *c, const struct ty_coll_call *call, struct ty_req *r,
                 struct ty_error *err)
{
    struct ty_set *s;
    uint64_t old;
    int e = check_open(c, err);

    if (e < 0)
        return e;
    s = set_of(c, call, err);
    if (!s)
        return -EINVAL;
    if (call->kind == TY_COLL_JOIN && s->ch->join)
        return ty_error_set(err, -EEXIST, "cannot join: this rank has joined already");
    e = call->device > 0 ? ty_gpu_need(c, call->device - 1, err) : 0;
    if (e == 0)
        e = ty_req_init(r, call, s->n, is_member, s, err);
    if (e < 0)
        return e;
    if (r->name_key && ty_map_get(&s->ch->by_name, r->name_key, &old)) {
        ty_req_done(r);
        return refuse_name(call, err);
    }
    if (ty_map_reserve(&s->ch->by_digest) < 0 || ty_map_reserve(&s->ch->by_name) < 0 ||
        ty_map_reserve(&s->ch->next) < 0) {
        ty_req_done(r);
        return ty_error_oom(err);
    }
    r->ch = s->ch;
    r->arena = r->kind == TY_COLL_ALLREDUCE && r->device < 0 && all_in_arena(c, r);
    link_req(c, s->ch, r);
    return 0;
}

int64_t ty_coll_submit(struct ty_coll *c, const struct ty_coll_call *call, struct ty_error *err)
{
    int64_t handle = 0;
    struct ty_req *r;
    int e = 0;

    if (c->forked)
        return check_open(c, err);
    pthread_mutex_lock(&c->lock);
    if (!c->threaded)
        e = ty_engine_start_thread(c, err);
    r = e == 0 && ty_map_reserve(&c->by_handle) == 0 ? new_req(c) : NULL;
    if (e == 0)
        e = r ? enter(c, call, r, err) : ty_error_oom(err);
    if (e < 0 && r) {
        r->next = c->spare;
        c->spare = r;
    }
    if (e == 0) {
        r->submitted_us = ty_mono_us();
        handle = r->handle = ++c->handles;
        ty_map_put(&c->by_handle, (uint64_t)handle, (uint64_t)(uintptr_t)r);
        if (c->pending == 1)
            c->pending_since_us = r->submitted_us;
        if (c->driving && !r->ch->posted) {
            atomic_fetch_add(&c->submits, 1);
            ty_node_ring_one(c->node, c->node->me);
        } else if (c->pending == 1 && !c->driving) {
            pthread_cond_signal(&c->work);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return e < 0 ? e : handle;
}

static struct ty_req *find(struct ty_coll *c, int64_t handle)
{
    uint64_t r;

    return handle > 0 && ty_map_get(&c->by_handle, (uint64_t)handle, &r)
               ? (struct ty_req *)(uintptr_t)r
               : NULL;
}

int ty_coll_poll(struct ty_coll *c, int64_t handle)
{
    struct ty_req *r;
    int ret;

    if (c->forked)
        return -ENOENT;
    pthread_mutex_lock(&c->lock);
    r = find(c, handle);
    if (r && r->state == TY_REQ_PENDING && !c->driving) {
        c->driving = true;
        while (r->state != TY_REQ_DONE && !c->ended) {
            bool over = ty_node_poisoned(c->node); /* before the last look */

            if (ty_engine_step(c))
                continue;
            if (over && !c->ended && !ty_engine_lingers(c))
                ty_engine_end_by(c, ty_node_poisoned(c->node));
            break;
        }
        ty_engine_stop_driving(c);
    }
    ret = !r ? -ENOENT : r->state == TY_REQ_DONE;
    pthread_mutex_unlock(&c->lock);
    return ret;
}

/* What a finished request has to say. */
static int outcome(struct ty_req *r, struct ty_coll_result *ret, struct ty_error *err)
{
    if (r->status < 0)
        return ty_error_set(err, r->status, "%s", r->error ? r->error : strerror(-r->status));
    if (ret) {
        *ret = r->got;
        memset(&r->got, 0, sizeof r->got);
    }
    return 0;
}

static int no_such_handle(int64_t handle, struct ty_error *err)
{
    return ty_error_set(
        err, -ENOENT,
        "there is no operation with handle %lld: it was never submitted, or was waited for",
        (long long)handle);
}

int ty_coll_wait_ms(struct ty_coll *c, int64_t handle, int timeout_ms, struct ty_coll_result *ret,
                    struct ty_error *err)
{
    int64_t begun = ty_mono_us();
    struct ty_req *r;
    bool done;
    int e;

    if (c->forked)
        return check_open(c, err);
    pthread_mutex_lock(&c->lock);
    r = find(c, handle);
    if (!r) {
        pthread_mutex_unlock(&c->lock);
        return no_such_handle(handle, err);
    }
    r->waiters++;
    done = ty_engine_await(c, r, timeout_ms < 0 ? -1 : begun + (int64_t)timeout_ms * 1000);
    if (!done) {
        e = -EAGAIN;
    } else if (find(c, handle) != r) { /* another thread that waited for it was faster */
        e = no_such_handle(handle, err);
    } else {
        ty_map_remove(&c->by_handle, (uint64_t)handle);
        e = outcome(r, ret, err);
    }
    if (--r->waiters == 0 && done)
        ty_engine_give_back(c, r);
    c->stats.wait_us += (uint64_t)(ty_mono_us() - begun);
    pthread_mutex_unlock(&c->lock);
    return e;
}

int ty_coll_wait(struct ty_coll *c, int64_t handle, struct ty_coll_result *ret,
                 struct ty_error *err)
{
    return ty_coll_wait_ms(c, handle, -1, ret, err);
}

/* A call that fast.c did not finish: as a request, which is done when 0 or an error is returned. */
static int do_slowly(struct ty_coll *c, const struct ty_coll_call *call, struct ty_chan *posted,
                     struct ty_req *r, int64_t until_us, struct ty_error *err)
{
    int e = enter(c, call, r, err);

    if (e < 0)
        return e;
    r->submitted_us =
        ty_mono_us(); /* lists tell how long ago: who joined last is the youngest join */
    if (posted)
        posted->batch[0] = r;
    else
        ty_fast_note(c, call, r->digest);
    e = ty_engine_await(c, r, until_us) ? 0 : -EAGAIN;
    c->stats.wait_us += (uint64_t)(ty_mono_us() - r->submitted_us);
    return e;
}

/* What was done in one call goes on as if it had been submitted. */
static int64_t keep(struct ty_coll *c, struct ty_req *r)
{
    r->handle = ++c->handles;
    ty_map_put(&c->by_handle, (uint64_t)r->handle, (uint64_t)(uintptr_t)r);
    if (!c->driving)
        pthread_cond_signal(&c->work);
    return r->handle;
}

int ty_coll_do_ms(struct ty_coll *c, const struct ty_coll_call *call, int timeout_ms,
                  struct ty_coll_result *ret, int64_t *handle, struct ty_error *err)
{
    struct ty_chan *ch = NULL;
    struct ty_req *r = NULL;
    int e = 0, fast;

    if (c->forked)
        return check_open(c, err);
    pthread_mutex_lock(&c->lock);
    fast = ty_fast_allreduce(c, call, &ch);
    if (fast != 1) {
        if (timeout_ms >= 0 && !c->threaded)
            e = ty_engine_start_thread(c, err);
        r = e == 0 && ty_map_reserve(&c->by_handle) == 0 ? new_req(c) : NULL;
        if (e == 0)
            e = r ? do_slowly(c, call, fast == 2 ? ch : NULL, r,
                              timeout_ms < 0 ? -1 : ty_mono_us() + (int64_t)timeout_ms * 1000, err)
                  : ty_error_oom(err);
    }
    if (r && e == -EAGAIN) {
        *handle = keep(c, r);
    } else if (r && e == 0) {
        e = outcome(r, ret, err);
        ty_engine_give_back(c, r);
    } else if (e < 0) {
        if (r) {
            r->next = c->spare;
            c->spare = r;
        }
        if (fast == 2) { /* the others have seen a post that this rank cannot stand by */
            ty_engine_end(c, e, "this rank ran out of memory");
            ty_engine_lost(c, c->rank, TY_END_FAILED);
        }
    } else if (ret) {
        memset(ret, 0, sizeof *ret);
    }
    pthread_mutex_unlock(&c->lock);
    return e;
}

int ty_coll_do(struct ty_coll *c, const struct ty_coll_call *call, struct ty_coll_result *ret,
               struct ty_error *err)
{
    return ty_coll_do_ms(c, call, -1, ret, NULL, err);
}
