/* store_artifact.c - what of a run lies in files: artifacts, logs, snapshots, and the blobs that
 * these refer to */
#include "base/str.h"
#include "store/store_internal.h"
#include <errno.h>
#include <string.h>

struct op_snapshot {
    struct op op;
    const char *id; /* NULL: prune */
    int64_t files, bytes, at_us;
    int64_t *removed; /* by prune */
};

static int apply_snapshot_put(struct ty_store *st, const struct op *op)
{
    const struct op_snapshot *o = (const struct op_snapshot *)op;

    return store_exec(&st->writer, STMT_snapshot_put, "tiii", o->id, o->files, o->bytes, o->at_us);
}

void ty_unit_snapshot_put(struct ty_unit *u, const char *id, uint64_t files, uint64_t bytes,
                          int64_t at_us)
{
    struct op_snapshot *o = unit_op(u, sizeof *o, apply_snapshot_put);

    if (!o)
        return;
    o->id = unit_text(u, id);
    o->files = (int64_t)files;
    o->bytes = (int64_t)bytes;
    o->at_us = at_us;
}

static int apply_prune(struct ty_store *st, const struct op *op)
{
    const struct op_snapshot *o = (const struct op_snapshot *)op;
    int r = store_exec(&st->writer, STMT_snapshots_prune, "i", o->at_us);

    if (r == 0 && o->removed)
        *o->removed = sqlite3_changes(st->writer.db);
    return r;
}

void ty_unit_snapshots_prune(struct ty_unit *u, int64_t before_us, int64_t *removed)
{
    struct op_snapshot *o = unit_op(u, sizeof *o, apply_prune);

    if (o) {
        o->at_us = before_us;
        o->removed = removed;
    }
}

bool ty_store_snapshot_has(struct ty_store *st, const char *id)
{
    int64_t one;

    return store_get_i64(&st->reader, &one, STMT_snapshot_has, "t", id) == 0;
}

static int each_blob(struct ty_store *view, int (*fn)(const char *sha, bool is_manifest, void *ctx),
                     void *ctx)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&view->reader, STMT_blobs, "");
    int r;

    while ((r = store_step(q)) == 1) {
        r = fn(store_text(q, 0), sqlite3_column_int(q, 1), ctx);
        if (r < 0)
            break;
    }
    return r;
}

int ty_store_each_blob(const char *home, int (*fn)(const char *sha, bool is_manifest, void *ctx),
                       void *ctx)
{
    struct ty_store view;
    int r = store_view_open(home, &view);

    if (r < 0)
        return r;
    r = each_blob(&view, fn, ctx);
    store_view_close(&view);
    return r;
}

int ty_store_files(struct ty_store *st, int64_t run_id, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_file_list, "i", run_id);
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, json_pack("{s:o s:I s:o s:o}", "path", store_json_text(q, 0), "bytes",
                                    (json_int_t)sqlite3_column_int64(q, 1), "kind",
                                    store_json_text(q, 2), "sha256", store_json_text(q, 3))) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}

int ty_store_read_files(const char *home, int64_t run_id, json_t **ret)
{
    struct ty_store view;
    int r = store_view_open(home, &view);

    if (r < 0)
        return r;
    r = ty_store_files(&view, run_id, ret);
    store_view_close(&view);
    return r;
}

int ty_store_artifact_count(struct ty_store *st, int64_t run_id, int64_t *ret)
{
    return store_get_i64(&st->reader, ret, STMT_artifact_count, "i", run_id);
}

int ty_store_artifact(struct ty_store *st, int64_t run_id, const char *path, char sha[65],
                      uint64_t *bytes)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_artifact_get, "it", run_id, path);
    int r = store_step(q);

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    snprintf(sha, 65, "%s", store_text(q, 0));
    *bytes = (uint64_t)sqlite3_column_int64(q, 1);
    return 0;
}
