/* node.c - the agent of a node that is not the job's first
 *
 * It is a runner in all but this: its stream leads to the runner of the first node; it fetches what it lacks; it waits until all
 * nodes are ready; what its ranks do it tells, and somebody else decides; and without the runner it has no reason to live.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "blob/snapshot.h"
#include "runner/fetch.h"
#include "runner/prepare.h"
#include "runner/runner_internal.h"
#include <errno.h>
#include <string.h>

#define MANIFEST_MAX (512 << 20)
#define SILENT_US (10 * 1000 * 1000) /* of a connection that is then made anew */

/* --- fences of MPI --- */

/* One that this node has come to: told again on each new connection, until it is answered. */
struct ty_came {
    struct ty_came *next;
    struct ty_frame frame;
    char name[256];
    char body[];
};

static void came(struct ty_runner *r, const struct ty_frame *f)
{
    struct ty_came *c = malloc(sizeof *c + f->body_len);

    if (!c || f->name_len >= sizeof c->name) {
        free(c);
        ty_log(TY_LOG_ERROR, "a fence of MPI cannot be told: out of memory");
        return;
    }
    memcpy(c->name, f->name, f->name_len);
    memcpy(c->body, f->body, f->body_len);
    c->frame = *f;
    c->frame.name = c->name;
    c->frame.body = c->body;
    c->next = r->came;
    r->came = c;
    if (r->welcomed && r->welcomed == ty_stream_serial(r->stream))
        ty_stream_send(r->stream, &c->frame);
}

static void fenced(struct ty_runner *r, const struct ty_frame *f)
{
    for (struct ty_came **p = &r->came, *c; (c = *p); p = &c->next)
        if (c->frame.name_len == f->name_len && memcmp(c->name, f->name, f->name_len) == 0) {
            *p = c->next;
            free(c);
            ty_mpi_fenced(r, f);
            return;
        }
}

/* --- the way to the first node --- */

static char *hello(const struct ty_jobfile *j, const struct ty_proc_id *me)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:i, s:s, s:I, s:i, s:s, s:i, s:I}", "protocol", TY_WIRE_PROTOCOL, "run",
                  j->run, "attempt", (json_int_t)j->attempt, "node", j->node, "boot", me->boot,
                  "pid", (int)me->pid, "start", (json_int_t)me->start);

    return o ? ty_json_text(o) : NULL;
}

/* job.json's "link": where the runner of the first node is. */
static int make_call(const struct ty_jobfile *j, struct ty_call **ret)
{
    const json_t *link = json_object_get(j->json, "link"),
                 *addresses = json_object_get(link, "addresses");
    const char *hex = json_string_value(json_object_get(link, "key"));
    json_int_t port = json_integer_value(json_object_get(link, "port"));
    char *list[TY_LINK_ADDRESSES_MAX + 1] = { NULL };
    unsigned char key[TY_LINK_KEY];
    const json_t *item;
    size_t i;

    if (!hex || ty_link_key_parse(hex, key) < 0 || port < 1 || port > 65535)
        return -EINVAL;
    json_array_foreach (addresses, i, item)
        if (i < TY_LINK_ADDRESSES_MAX)
            list[i] = (char *)(json_is_string(item) ? json_string_value(item) : "");
    return ty_call_new(list, (int)port, key, ret);
}

struct ty_stream *ty_node_stream(struct ty_runner *r, const struct ty_proc_id *me,
                                 struct ty_error *err)
{
    CLEANUP_FREE char *text = hello(r->job, me);
    struct ty_call *call = NULL;
    struct ty_stream *s;
    int got = text ? make_call(r->job, &call) : -ENOMEM;

    if (got < 0) {
        ty_error_set(
            err, got,
            "job.json: 'link' does not say how to reach the job's first node (addresses, port, key): %s",
            strerror(-got));
        return NULL;
    }
    r->mpi.came = came;
    s = ty_stream_new_call(call, text);
    if (!s)
        ty_error_oom(err);
    return s;
}

/* --- content --- */

static int want_files(struct ty_runner *r, struct ty_error *err)
{
    CLEANUP_FREE char *text = NULL;
    struct ty_snapshot *s = NULL;
    const char *path, *sha;
    uint64_t bytes;
    size_t n;
    int got = ty_read_file(r->job->manifest, MANIFEST_MAX, &text, &n);

    if (got < 0)
        return ty_error_set(err, got, "cannot read the snapshot's manifest '%s': %s",
                            r->job->manifest, strerror(-got));
    got = ty_snapshot_parse(text, n, &s, err);
    for (size_t i = 0; got >= 0 && ty_snapshot_file(s, i, &path, &sha, &bytes); i++)
        got = ty_fetch_add(r->fetch, sha);
    ty_snapshot_free(s);
    return got < 0 && !err->code
               ? ty_error_set(err, got, "cannot list the files of the snapshot: %s", strerror(-got))
           : got < 0 ? got
                     : 0;
}

static int prepare(struct ty_runner *r, struct ty_error *err)
{
    return ty_child_start(&r->child, ty_prepare, r->job, err);
}

int ty_node_prepare(struct ty_runner *r, struct ty_error *err)
{
    int got = ty_blobs_open(r->job->blobs, &r->blobs, err);

    if (got < 0)
        return got;
    r->fetch = ty_fetch_new(r->blobs);
    if (!r->fetch)
        return ty_error_oom(err);
    if (r->job->manifest)
        got = want_files(r, err);
    if (got == 0 && ty_fetch_left(r->fetch) == 0)
        return prepare(r, err);
    if (got == 0)
        ty_runner_note(r, "%zu files of the snapshot are brought from the first node",
                       ty_fetch_left(r->fetch));
    return got;
}

static void on_blob(struct ty_runner *r, const struct ty_frame *f)
{
    struct ty_error err = { 0 };
    int got = ty_fetch_hear(r->fetch, f, &err);

    if (r->phase != TY_PHASE_preparing || r->child.pid || r->prepared)
        return;
    if (got >= 0 && ty_fetch_left(r->fetch) == 0)
        got = prepare(r, &err);
    if (got < 0) {
        ty_error_prefix(&err, "cannot bring the files of the snapshot from the first node");
        ty_life_fail(r, err.text);
    }
}

/* --- end --- */

void ty_node_done(struct ty_runner *r)
{
    for (struct ty_came *c; (c = r->came);) {
        r->came = c->next;
        free(c);
    }
    r->fetch = ty_fetch_free(r->fetch);
    r->blobs = ty_blobs_free(r->blobs);
}

/* --- what the first node says --- */

static void go(struct ty_runner *r, const json_t *o)
{
    struct ty_meeting *m = &r->meeting;
    const char *addr = json_string_value(json_object_get(o, "addr")),
               *secret = json_string_value(json_object_get(o, "secret"));
    char mine[TY_LINK_ADDRESS_TEXT];

    if (r->gone)
        return;
    r->gone = true;
    snprintf(m->addr, sizeof m->addr, "%s", addr ? addr : "");
    snprintf(m->secret, sizeof m->secret, "%s", secret ? secret : "");
    m->port = (int)json_integer_value(json_object_get(o, "port"));
    m->rendezvous = (int)json_integer_value(json_object_get(o, "rendezvous"));
    if (!ty_stream_link(r->stream) || ty_link_local(ty_stream_link(r->stream), mine) < 0 ||
        ty_link_interface(mine, m->interface) < 0)
        *m->interface = '\0';
    ty_life_ready(r);
}

void ty_node_welcome(struct ty_runner *r, const json_t *o)
{
    const json_t *end = json_object_get(o, "end_ms"), *what = json_object_get(o, "go");

    r->known = true;
    if (r->fetch)
        ty_fetch_again(r->fetch);
    for (const struct ty_came *c = r->came; c; c = c->next)
        ty_stream_send(r->stream, &c->frame);
    if (json_is_integer(end))
        ty_life_end(r, TY_ENDING_CANCEL, json_integer_value(end) * 1000);
    else if (json_is_object(what))
        go(r, what);
}

void ty_node_frame(struct ty_runner *r, const struct ty_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;

    if (r->job->leads)
        return;
    if (f->type == TY_FRAME_END)
        ty_life_end(r, TY_ENDING_CANCEL, (int64_t)f->count * 1000);
    else if (f->type == TY_FRAME_GO && ty_json_parse(f->body, f->body_len, &o, NULL) == 0)
        go(r, o);
    else if (f->type == TY_FRAME_BLOB && r->fetch)
        on_blob(r, f);
    else if (f->type == TY_FRAME_FENCED)
        fenced(r, f);
    else if (f->type == TY_FRAME_WANT && r->blobs)
        ty_fetch_answer(r->blobs, f, r->stream);
}

void ty_node_pump(struct ty_runner *r)
{
    if (r->fetch)
        ty_fetch_pump(r->fetch, r->stream);
}

/* --- what it is told --- */

void ty_node_ready(struct ty_runner *r)
{
    if (r->ready_told)
        return;
    r->ready_told = true;
    ty_runner_note(r, "ready; waiting for the other nodes");
    ty_runner_record(r, json_pack("{s:s}", "kind", "ready"));
}

void ty_node_rank_started(struct ty_runner *r, int i)
{
    const struct ty_member *m = &r->ranks.at[i];

    if (!r->job->leads)
        ty_runner_record(r, json_pack("{s:s, s:i, s:i}", "kind", "rank_started", "rank",
                                      m->plan.rank, "pid", (int)m->pid));
}

void ty_node_rank_ended(struct ty_runner *r, int i)
{
    const struct ty_member *m = &r->ranks.at[i];
    CLEANUP_FREE char *declared = NULL;
    json_t *o;

    if (r->job->leads)
        return;
    o = json_pack("{s:s, s:i, s:b}", "kind", "rank_ended", "rank", m->plan.rank, "victim",
                  m->victim);
    if (m->reported)
        json_object_set_new(o, "status", json_integer(m->status));
    else if (m->reaped)
        json_object_set_new(o, "wrapper", json_integer(m->wrapper_status));
    if (m->oom_kills > 0)
        json_object_set_new(o, "oom_kills", json_integer(m->oom_kills));
    if (r->failure)
        json_object_set_new(o, "failed", ty_lossy_text(r->failure, strlen(r->failure)));
    if (r->ranks.ended == r->ranks.n && (declared = ty_life_declared(r)))
        json_object_set_new(o, "declared", ty_lossy_text(declared, strlen(declared)));
    ty_runner_record(r, o);
}

/* --- without the first node --- */

static int64_t lost_us(const struct ty_runner *r)
{
    return r->job->node_lost_seconds * 1000000;
}

void ty_node_timers(struct ty_runner *r)
{
    if (r->job->leads)
        return;
    if (r->known && ty_stream_refused(r->stream)) {
        ty_runner_note(r, "the runner of the first node has ended: so does this one");
        r->over = true;
    } else if (r->now_us >= r->heard_us + lost_us(r)) {
        ty_log(TY_LOG_ERROR, "the job's first node was not heard for %lld s: everything ends here",
               (long long)r->job->node_lost_seconds);
        r->over = true;
    } else if (ty_stream_connected(r->stream) && r->now_us >= r->spoke_us + SILENT_US) {
        /* A connection may be dead and not know it. */
        r->spoke_us = r->now_us;
        ty_stream_break(r->stream, r->now_us);
    }
}

int64_t ty_node_due(const struct ty_runner *r)
{
    int64_t due, silent = r->spoke_us + SILENT_US;

    if (r->job->leads)
        return TY_NEVER;
    due = r->heard_us + lost_us(r);
    return ty_stream_connected(r->stream) && silent < due ? silent : due;
}

void ty_node_heard(struct ty_runner *r)
{
    r->heard_us = r->spoke_us = r->now_us;
}
