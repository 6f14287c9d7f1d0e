/* lead_take.c - what nodes send, and where it goes
 *
 *   logs       are appended to the file that the leader has for the rank, or for the node's build; lines of the control log go to the hook
 *   rows       are written into a spool of the leader's, one for each writer there
 *   records    are told in their order.  An artifact waits until its content is in the store and on the disk, and until the
 *              leader has kept its own files: of two files with one name the leader's keeps it
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "core/launch_plan.h"
#include "core/row.h"
#include "runner/lead_internal.h"
#include "runner/logs.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CONTROL_LOG "azureml-logs/60_control_log.txt"
#define LINE_MAX_BYTES 4096
#define SYNC_RETRY_US (500 * 1000)
#define ROWS_PATIENCE_US (2 * 1000 * 1000)

static void say(struct ty_node *n, const struct ty_frame *f)
{
    if (n->conn)
        ty_stream_send(n->conn->stream, f);
}

static const char *name_of(const struct ty_node *n)
{
    return n->lead->job->nodes[n->index].name;
}

static void warn(struct ty_lead *l, char *text)
{
    CLEANUP_FREE char *mine = text;

    if (mine)
        l->hooks->warning(l->ctx, mine);
}

json_t *ty_lead_taken(const struct ty_node *n)
{
    const struct ty_job_node *node = &n->lead->job->nodes[n->index];
    json_t *logs = json_object(), *rows = json_object();
    char name[TY_DRIVER_LOG_MAX];

    json_object_set_new(logs, CONTROL_LOG, json_integer((json_int_t)n->control));
    if (n->built)
        json_object_set_new(logs, ty_build_log(n->index, name), json_integer((json_int_t)n->built));
    for (int i = 0; i < node->ranks; i++)
        if (n->logged[i])
            json_object_set_new(logs, ty_driver_log(node->first + i, n->lead->job->size, name),
                                json_integer((json_int_t)n->logged[i]));
    for (uint32_t i = 0; i < n->nwriters; i++) {
        snprintf(name, sizeof name, "%" PRIu32, i);
        if (n->writer[i].next)
            json_object_set_new(rows, name, json_integer((json_int_t)n->writer[i].next));
    }
    return json_pack("{s:i, s:I, s:o, s:o, s:b}", "protocol", TY_WIRE_PROTOCOL, "record_next",
                     (json_int_t)n->record_next, "logs", logs, "rows", rows, "cancel", 0);
}

/* --- logs --- */

/* The rank of the node whose log that is, counted from its first; -1: none. */
static int rank_of(const struct ty_node *n, const struct ty_frame *f)
{
    const struct ty_job_node *node = &n->lead->job->nodes[n->index];
    char text[TY_DRIVER_LOG_MAX], name[TY_DRIVER_LOG_MAX];
    int rank = -1;

    if (f->name_len >= sizeof text)
        return -1;
    memcpy(text, f->name, f->name_len);
    text[f->name_len] = '\0';
    if (sscanf(text, "azureml-logs/70_driver_log_%9d.txt", &rank) != 1 || rank < node->first ||
        rank >= node->first + node->ranks ||
        strcmp(text, ty_driver_log(rank, n->lead->job->size, name)) != 0)
        return -1;
    return rank - node->first;
}

/* Whole lines; one that is too long is told in parts. */
static void control(struct ty_node *n, const char *bytes, size_t len)
{
    struct ty_lead *l = n->lead;

    while (len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t part = end ? (size_t)(end - bytes) : len;

        ty_str_addn(&n->line, bytes, part);
        if (end || n->line.len >= LINE_MAX_BYTES) {
            if (!n->line.failed)
                l->hooks->line(l->ctx, n->index, n->line.text ? n->line.text : "", n->line.len);
            ty_str_done(&n->line);
        }
        part += end ? 1 : 0;
        bytes += part;
        len -= part;
    }
}

/* All of it or nothing, for what is not acknowledged comes again.  Nobody else writes there. */
static int append(int fd, const struct ty_frame *f)
{
    int r = ty_write_all(fd, f->body, f->body_len);

    if (r < 0 && ftruncate(fd, (off_t)f->seq) < 0)
        ty_log(TY_LOG_ERROR, "cannot take back what was written: %m");
    return r;
}

static bool is_named(const struct ty_frame *f, const char *name)
{
    return f->name_len == strlen(name) && memcmp(f->name, name, f->name_len) == 0;
}

static int take_log(struct ty_node *n, const struct ty_frame *f)
{
    struct ty_lead *l = n->lead;
    char built[TY_DRIVER_LOG_MAX];
    bool is_control = is_named(f, CONTROL_LOG),
         is_build = is_named(f, ty_build_log(n->index, built));
    int rank = is_control || is_build ? -1 : rank_of(n, f), fd, r = 0;
    uint64_t *have = is_control  ? &n->control
                     : is_build  ? &n->built
                     : rank >= 0 ? &n->logged[rank]
                                 : NULL;
    struct ty_frame ack = { .type = TY_FRAME_LOG_ACK, .name = f->name, .name_len = f->name_len };

    if (!have || f->seq > *have)
        return -EBADMSG;
    if (f->seq == *have && is_control) {
        control(n, f->body, f->body_len);
    } else if (f->seq == *have) {
        fd = l->hooks->log_fd(l->ctx, is_build ? TY_LOG_BUILD(n->index)
                                               : l->job->nodes[n->index].first + rank);
        r = fd < 0 ? fd : append(fd, f);
    }
    if (r < 0) {
        ty_log(TY_LOG_ERROR, "cannot write the log of node '%s': %s", name_of(n), strerror(-r));
        return r;
    }
    if (f->seq == *have)
        *have += f->body_len;
    ack.seq = *have;
    say(n, &ack);
    return 0;
}

/* --- rows --- */

static struct ty_node_writer *writer_of(struct ty_node *n, uint32_t writer)
{
    if (writer >= TY_SPOOL_WRITERS_MAX)
        return NULL;
    if (writer >= n->nwriters) {
        struct ty_node_writer *more = realloc(n->writer, (writer + 1) * sizeof *more);

        if (!more)
            return NULL;
        memset(more + n->nwriters, 0, (writer + 1 - n->nwriters) * sizeof *more);
        n->writer = more;
        n->nwriters = writer + 1;
    }
    return &n->writer[writer];
}

/* What cannot be kept is acknowledged all the same: the node need not wait for that. */
static void open_spool(struct ty_node *n, struct ty_node_writer *w)
{
    struct ty_lead *l = n->lead;
    struct ty_error err = { 0 };
    int r;

    ty_owner_enter(l->job->owner);
    r = ty_spool_create(l->job->spool, &w->spool, &err);
    ty_owner_leave(l->job->owner);
    if (r == 0)
        return;
    w->given_up = true;
    if (!l->writers_told)
        warn(l, ty_strf("values that processes on node '%s' log are not kept: %s", name_of(n),
                        err.text));
    l->writers_told = true;
}

static int put_rows(struct ty_node_writer *w, const struct ty_frame *f)
{
    const char *at = f->body, *end = at + f->body_len;
    uint32_t count = 0;

    for (struct ty_row row; at < end; count++) {
        ptrdiff_t used = ty_row_decode(at, (size_t)(end - at), &row);

        if (used <= 0 || row.kind == TY_ROW_PAD)
            return -EBADMSG;
        if (f->seq + count >= w->next && w->spool)
            (void)ty_spool_write(w->spool, &row); /* a full disk: the spool has counted it */
        at += used;
    }
    return count == f->count ? 0 : -EBADMSG;
}

/* Rows wait a little for the daemon to take others.  Then they go the way of those that a process here logs without a
 * daemon: they are dropped and counted, for what its node has to say besides cannot wait for them. */
static bool is_full(const struct ty_node *n, struct ty_node_writer *w, size_t bytes)
{
    if (!w->spool || ty_spool_room(w->spool) >= bytes) {
        w->full_us = 0;
        return false;
    }
    if (!w->full_us)
        w->full_us = n->lead->now_us;
    return n->lead->now_us < w->full_us + ROWS_PATIENCE_US;
}

static int take_rows(struct ty_node *n, const struct ty_frame *f)
{
    struct ty_node_writer *w = writer_of(n, f->writer);
    struct ty_frame ack = { .type = TY_FRAME_ROWS_ACK, .writer = f->writer };
    int r;

    if (!w || f->seq > w->next)
        return -EBADMSG;
    if (!w->spool && !w->given_up)
        open_spool(n, w);
    if (is_full(n, w, f->body_len))
        return -EAGAIN;
    r = put_rows(w, f);
    if (r < 0)
        return r;
    if (f->seq + f->count > w->next)
        w->next = f->seq + f->count;
    ack.seq = w->next;
    say(n, &ack);
    return 0;
}

/* --- artifacts --- */

void ty_lead_own_artifact(struct ty_lead *l, const char *path, const char *sha, uint64_t bytes)
{
    json_object_set_new(l->files, path, json_string(sha));
    l->nfiles++;
    l->file_bytes += (int64_t)bytes;
}

/* May it be kept?  The limits are those of the whole run. */
static bool fits(struct ty_node *n, const char *path, json_int_t bytes)
{
    struct ty_lead *l = n->lead;

    if (l->nfiles < l->job->artifact_files_max && bytes >= 0 &&
        bytes <= l->job->artifact_bytes_max - l->file_bytes)
        return true;
    if (!l->files_full_told)
        warn(
            l,
            ty_strf(
                "'%s' of node '%s' is not kept, and perhaps others: the files of a run reach the limit (limits.artifacts, limits.artifact_bytes)",
                path, name_of(n)));
    l->files_full_told = true;
    return false;
}

static void keep(struct ty_node *n, const char *path, const char *sha, json_int_t bytes)
{
    struct ty_lead *l = n->lead;

    if (!fits(n, path, bytes))
        return;
    ty_lead_own_artifact(l, path, sha, (uint64_t)bytes);
    l->hooks->artifact(l->ctx, n->index, path, sha, (uint64_t)bytes);
}

/* Of several files with one name the first keeps it; the content of another is kept under the name of its node. */
static void name_and_keep(struct ty_node *n, const json_t *o, const char *sha)
{
    struct ty_lead *l = n->lead;
    const char *path = json_string_value(json_object_get(o, "path")), *slash = strchr(path, '/');
    json_int_t bytes = json_integer_value(json_object_get(o, "bytes"));
    const char *there = json_string_value(json_object_get(l->files, path));
    CLEANUP_FREE char *other = NULL;

    if (there && strcmp(there, sha) == 0)
        return;
    if (!there) {
        keep(n, path, sha, bytes);
        return;
    }
    other = slash ? ty_strf("%.*s/node-%d%s", (int)(slash - path), path, n->index, slash) : NULL;
    if (!other || json_object_get(l->files, other))
        return;
    warn(l,
         ty_strf("'%s' of node '%s' is kept as '%s': another node has written a file of that name",
                 path, name_of(n), other));
    keep(n, other, sha, bytes);
}

/* --- records --- */

static const char *kind_of(const json_t *o)
{
    const char *kind = json_string_value(json_object_get(o, "kind"));

    return kind ? kind : "";
}

static bool good_artifact(const json_t *o)
{
    const char *path = json_string_value(json_object_get(o, "path")),
               *sha = json_string_value(json_object_get(o, "sha256"));

    return path && sha && ty_path_is_inside(path) && ty_fetch_is_sha(sha, strlen(sha)) &&
           (ty_starts_with(path, "outputs/") || ty_starts_with(path, "logs/"));
}

/* A file of a data reference: its content comes here like an artifact's, and the leader tells it as its own. */
static bool good_data(const json_t *o)
{
    const char *path = json_string_value(json_object_get(o, "path")),
               *sha = json_string_value(json_object_get(o, "sha256"));

    return path && sha && ty_path_is_inside(path) && ty_fetch_is_sha(sha, strlen(sha));
}

static void state_of(struct ty_node *n, const char *kind)
{
    if (strcmp(kind, "ready") == 0)
        ty_lead_set(n, TY_NODE_READY);
    else if (strcmp(kind, "rank_started") == 0)
        ty_lead_set(n, TY_NODE_RUNNING);
    else if (strcmp(kind, "collected") == 0)
        ty_lead_set(n, TY_NODE_DONE);
}

/* True: it is told, and can be forgotten. */
static bool tell(struct ty_node *n, struct ty_told *t)
{
    struct ty_lead *l = n->lead;
    const char *kind = kind_of(t->o);

    if (t->sha && (!l->take || t->sync_no == 0 || t->sync_no > l->synced))
        return false;
    if (t->sha && strcmp(kind, "data") != 0)
        name_and_keep(n, t->o, t->sha);
    else if (strcmp(kind, "artifact") != 0 && strcmp(kind, "collected") != 0)
        l->hooks->told(l->ctx, n->index, t->o);
    state_of(n, kind);
    return true;
}

void ty_lead_tell(struct ty_node *n)
{
    struct ty_frame ack = { .type = TY_FRAME_RECORD_ACK };

    while (n->told_at < n->ntold && tell(n, &n->told[n->told_at])) {
        struct ty_told *t = &n->told[n->told_at++];

        ack.seq = t->seq + 1;
        json_decref(t->o);
    }
    if (n->told_at == n->ntold)
        n->told_at = n->ntold = 0;
    if (ack.seq)
        say(n, &ack);
}

static int queue(struct ty_node *n, uint64_t seq, json_t *o)
{
    if (n->ntold == n->told_cap && n->told_at > 0) {
        n->ntold -= n->told_at;
        memmove(n->told, n->told + n->told_at, n->ntold * sizeof *n->told);
        n->told_at = 0;
    }
    if (n->ntold == n->told_cap) {
        size_t cap = n->told_cap ? 2 * n->told_cap : 16;
        struct ty_told *more = realloc(n->told, cap * sizeof *more);

        if (!more)
            return -ENOMEM;
        n->told = more;
        n->told_cap = cap;
    }
    n->told[n->ntold++] = (struct ty_told){ .seq = seq, .o = json_incref(o) };
    return 0;
}

/* Its content is here: the next sync brings it to the disk. */
static void is_here(struct ty_node *n, struct ty_told *t)
{
    t->sync_no = n->lead->syncing + 1;
    n->lead->sync_wanted = true;
}

static int take_record(struct ty_node *n, const struct ty_frame *f)
{
    CLEANUP_JSON json_t *o = NULL;
    struct ty_told *t;
    int r;

    if (f->seq > n->record_next)
        return -EBADMSG;
    if (f->seq < n->record_next)
        return 0;
    if (ty_json_parse(f->body, f->body_len, &o, NULL) < 0 || !json_is_object(o))
        return -EBADMSG;
    r = queue(n, f->seq, o);
    if (r < 0)
        return r;
    n->record_next++;
    t = &n->told[n->ntold - 1];
    if ((strcmp(kind_of(o), "artifact") == 0 && good_artifact(o)) ||
        (strcmp(kind_of(o), "data") == 0 && good_data(o))) {
        t->sha = json_string_value(json_object_get(o, "sha256"));
        r = ty_fetch_add(n->fetch, t->sha);
        if (r == 0)
            is_here(n, t);
    }
    ty_lead_tell(n);
    return r < 0 ? r : 0;
}

static int take_blob(struct ty_node *n, const struct ty_frame *f)
{
    struct ty_error err = { 0 };
    int r = ty_fetch_hear(n->fetch, f, &err);

    if (r == 0)
        return 0;
    for (size_t i = n->told_at; i < n->ntold; i++) {
        struct ty_told *t = &n->told[i];

        if (!t->sha || t->sync_no != 0 || memcmp(t->sha, f->name, TY_SHA256_HEX) != 0)
            continue;
        if (r == 1) {
            is_here(n, t);
            continue;
        }
        warn(n->lead,
             ty_strf("'%s' of node '%s' could not be kept: %s",
                     json_string_value(json_object_get(t->o, "path")), name_of(n), err.text));
        t->sha = NULL;
    }
    ty_lead_tell(n);
    return 0;
}

/* --- to the disk --- */

/* In a child, which has none of the runner's descriptors. */
static int sync_blobs(int out, void *ctx)
{
    struct ty_blobs *blobs = NULL;
    int r = ty_blobs_open(ctx, &blobs, NULL);

    (void)out;
    if (r == 0)
        r = ty_blobs_sync(blobs);
    ty_blobs_free(blobs);
    return r;
}

void ty_lead_sync(struct ty_lead *l)
{
    struct epoll_event e = { .events = EPOLLIN, .data.u64 = TY_EVENT_SYNCER };
    struct ty_error err;

    if (!l->sync_wanted || l->syncer.pid || l->now_us < l->sync_due_us)
        return;
    if (ty_child_start(&l->syncer, sync_blobs, (char *)l->job->blobs, &err) < 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->syncer.fd, &e) < 0) {
        ty_child_kill(&l->syncer);
        l->sync_due_us = l->now_us + SYNC_RETRY_US;
        return;
    }
    l->sync_wanted = false;
    l->syncing++;
}

static void no_lines(json_t *line, void *ctx)
{
    (void)line, (void)ctx;
}

void ty_lead_sync_heard(struct ty_lead *l)
{
    struct epoll_event e = { .events = EPOLLIN, .data.u64 = TY_EVENT_SYNCER };
    bool failed = false;

    /* Its socket may stand open in another child that was just forked: closing alone does not take it out. */
    epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->syncer.fd, &e);
    if (ty_child_read(&l->syncer, no_lines, NULL, &failed) == 0) {
        if (l->syncer.pid)
            epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->syncer.fd, &e);
        return;
    }
    if (failed) {
        /* Killed with the job's processes, or the disk has a fault: once more, with the next number, which is also that of what
         * has come meanwhile. */
        l->sync_wanted = true;
        l->sync_due_us = l->now_us + SYNC_RETRY_US;
        return;
    }
    l->synced = l->syncing;
    for (int i = 0; i < l->n; i++)
        if (l->node[i].told_at < l->node[i].ntold) {
            ty_lead_tell(&l->node[i]);
            ty_lead_watch(&l->node[i]);
        }
}

void ty_lead_reaped(struct ty_lead *l, pid_t pid, int status)
{
    ty_child_reaped(&l->syncer, pid, status);
}

/* --- fences --- */

/* One that was complete already, while the node was away, is told again. */
static void take_fence(struct ty_node *n, const struct ty_frame *f)
{
    struct ty_lead *l = n->lead;
    struct ty_frame again;

    for (int i = 0; i < TY_LEAD_FENCES; i++) {
        const struct ty_fence_told *t = &l->fence[i];

        if (t->name && strlen(t->name) == f->name_len &&
            memcmp(t->name, f->name, f->name_len) == 0 &&
            ty_frame_decode(t->frame.text, t->frame.len, &again) > 0) {
            say(n, &again);
            return;
        }
    }
    l->hooks->fence(l->ctx, n->index, f);
}

/* --- frames --- */

int ty_lead_take(struct ty_node *n, const struct ty_frame *f)
{
    struct ty_lead *l = n->lead;

    switch (f->type) {
    case TY_FRAME_PING:
        say(n, &(struct ty_frame){ .type = TY_FRAME_PONG });
        return 0;
    case TY_FRAME_RECORD:
        return take_record(n, f);
    case TY_FRAME_LOG:
        return take_log(n, f);
    case TY_FRAME_ROWS:
        return take_rows(n, f);
    case TY_FRAME_BLOB:
        return take_blob(n, f);
    case TY_FRAME_WANT:
        if (n->conn)
            ty_fetch_answer(l->blobs, f, n->conn->stream);
        return 0;
    case TY_FRAME_FENCE:
        take_fence(n, f);
        return 0;
    default:
        return -EBADMSG;
    }
}

void ty_lead_take_free(struct ty_node *n)
{
    for (size_t i = n->told_at; i < n->ntold; i++)
        json_decref(n->told[i].o);
    for (uint32_t i = 0; i < n->nwriters; i++)
        ty_spool_writer_free(n->writer[i].spool);
    ty_fetch_free(n->fetch);
    ty_str_done(&n->line);
    free(n->told);
    free(n->writer);
    free(n->logged);
    free(n->who);
}
