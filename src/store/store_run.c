/* store_run.c - runs: added, deleted, and read one by one
 *
 * A deleted run's row takes with it, by foreign key, everything small.  Its log folder is
 * removed after the commit and its metric rows are swept in steps by the writer thread; the
 * table `garbage` remembers both across a crash.  Ids are never used again, so what is not yet
 * swept belongs to nobody.
 */
#include "store/store_internal.h"
#include <errno.h>
#include <string.h>

/* ---- adding and deleting ---- */

struct op_run_add {
    struct op op;
    struct ty_run_row row;
};

static int put_run(struct ty_store *st, const struct ty_run_row *row)
{
    const struct ty_run *run = &row->run;

    return store_exec(&st->writer, STMT_run_add,
                      "ittttt"
                      "ittt"
                      "tttiiiiiii"
                      "tt",
                      row->id, row->name, row->experiment, row->display_name, row->target,
                      row->user, row->uid, row->command_line, row->snapshot, row->token,
                      ty_run_state_word(run->state), ty_run_state_word(run->outcome),
                      ty_run_state_word(run->heard), (int64_t)!ty_run_state_ended(run->state),
                      (int64_t)run->attempt, (int64_t)run->exit_code, (int64_t)run->exit_signal,
                      run->created_us, run->started_us, run->ended_us,
                      row->kind ? row->kind : "command", row->parent);
}

/* A deleted run of that name may have left a log folder: it must not be taken for this one's.
 * While the deletion is not committed the folder has to stay, and the name is not free. */
static int clear_name(struct ty_store *st, const char *name)
{
    int64_t there;
    int r;

    for (const struct doomed *d = st->doomed; d; d = d->next)
        if (strcmp(d->name, name) == 0)
            return -EEXIST;
    r = store_get_i64(&st->writer, &there, STMT_garbage_named, "t", name);

    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = store_log_remove(st, name);
    return r < 0 ? r : store_exec(&st->writer, STMT_garbage_cleared, "t", name);
}

static int apply_run_add(struct ty_store *st, const struct op *op)
{
    const struct ty_run_row *row = &((const struct op_run_add *)op)->row;
    int r;

    if (!row->name || !row->experiment)
        return -EINVAL;
    r = clear_name(st, row->name);
    if (r == 0)
        r = store_exec(&st->writer, STMT_experiment_add, "t", row->experiment);
    if (r == 0)
        r = put_run(st, row);
    if (r == 0 && row->spec)
        r = store_exec(&st->writer, STMT_spec_add, "it", row->id, row->spec);
    return r;
}

void ty_unit_run_add(struct ty_unit *u, const struct ty_run_row *row)
{
    struct op_run_add *o = unit_op(u, sizeof *o, apply_run_add);

    if (!o)
        return;
    o->row = *row;
    o->row.name = unit_text(u, row->name);
    o->row.experiment = unit_text(u, row->experiment);
    o->row.display_name = unit_text(u, row->display_name);
    o->row.target = unit_text(u, row->target);
    o->row.user = unit_text(u, row->user);
    o->row.command_line = unit_text(u, row->command_line);
    o->row.snapshot = unit_text(u, row->snapshot);
    o->row.token = unit_text(u, row->token);
    o->row.spec = unit_text(u, row->spec);
    o->row.kind = unit_text(u, row->kind);
    o->row.parent = unit_text(u, row->parent);
}

struct op_run_number {
    struct op op;
    int64_t run;
    int64_t number;
};

int store_doom(struct ty_store *st, int64_t run, const char *name)
{
    size_t n = strlen(name) + 1;
    struct doomed *d = malloc(sizeof *d + n);

    if (!d)
        return -ENOMEM;
    d->run = run;
    d->next = st->doomed;
    memcpy(d->name, name, n);
    st->doomed = d;
    return 0;
}

void store_doomed_forget(struct ty_store *st, const struct doomed *until)
{
    while (st->doomed && st->doomed != until) {
        struct doomed *next = st->doomed->next;

        free(st->doomed);
        st->doomed = next;
    }
}

static int doom(struct ty_store *st, int64_t run)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->writer, STMT_run_name, "i", run);
    int r = store_step(q);

    return r == 1 ? store_doom(st, run, store_text(q, 0)) : r < 0 ? r : -ENOENT;
}

static int apply_run_delete(struct ty_store *st, const struct op *op)
{
    int64_t run = ((const struct op_run_number *)op)->run;
    int r = doom(st, run);

    if (r == -ENOENT) /* deleted already */
        return 0;
    if (r == 0)
        r = store_exec(&st->writer, STMT_garbage_add, "i", run);
    if (r == 0)
        r = store_exec(&st->writer, STMT_experiment_less, "i", run);
    if (r == 0)
        r = store_exec(&st->writer, STMT_run_orphan, "i", run);
    if (r == 0)
        r = store_exec(&st->writer, STMT_run_delete, "i", run);
    store_keys_forget(st);
    return r;
}

void ty_unit_run_delete(struct ty_unit *u, int64_t run_id)
{
    struct op_run_number *o = unit_op(u, sizeof *o, apply_run_delete);

    if (o)
        o->run = run_id;
}

static int apply_record_next(struct ty_store *st, const struct op *op)
{
    const struct op_run_number *o = (const struct op_run_number *)op;
    int r = store_exec(&st->writer, STMT_run_record_next, "ii", o->run, o->number);

    return r == 0 && sqlite3_changes(st->writer.db) == 0 ? -ENOENT : r;
}

void ty_unit_record_next(struct ty_unit *u, int64_t run_id, uint64_t next)
{
    struct op_run_number *o = unit_op(u, sizeof *o, apply_record_next);

    if (!o)
        return;
    o->run = run_id;
    o->number = (int64_t)next;
}

/* ---- reading ---- */

int64_t ty_store_next_id(struct ty_store *st)
{
    return st->next_id++;
}

int ty_store_run_id(struct ty_store *st, const char *name, int64_t *ret)
{
    return store_get_i64(&st->reader, ret, STMT_run_id, "t", name);
}

int ty_store_median_us(struct ty_store *st, const char *experiment, int64_t *ret)
{
    return store_get_i64(&st->reader, ret, STMT_run_median, "t", experiment);
}

int ty_store_run_user(struct ty_store *st, const char *name, char **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_run_user, "t", name);
    char *user;
    int r = store_step(q);

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    user = strdup(store_text(q, 0));
    if (!user)
        return -ENOMEM;
    *ret = user;
    return 0;
}

json_t *store_pairs(struct ty_store *st, enum stmt id, int64_t run)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, id, "i", run);
    CLEANUP_JSON json_t *o = json_object();
    int r;

    while ((r = store_step(q)) == 1) {
        CLEANUP_JSON json_t *key = store_json_text(q, 0);

        if (!key || json_object_set_new(o, json_string_value(key), store_json_text(q, 1)) < 0)
            return NULL;
    }
    return r < 0 ? NULL : TAKE(o);
}

json_t *store_texts(struct ty_store *st, enum stmt id, int64_t run)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, id, "i", run);
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, store_json_text(q, 0)) < 0)
            return NULL;
    return r < 0 ? NULL : TAKE(a);
}

static json_t *number_unless(int64_t value, int64_t none)
{
    return value == none ? json_null() : json_integer(value);
}

/* The n-th of column 19's [node_count, process_count_per_node]; one that is not said is 1. */
static json_t *process_count(const json_t *counts, size_t n)
{
    const json_t *count = json_array_get(counts, n);

    return json_integer(json_is_integer(count) ? json_integer_value(count) : 1);
}

json_t *store_run_json(struct ty_store *st, sqlite3_stmt *q)
{
    CLEANUP_JSON json_t *counts = store_json_value(q, 19);
    int64_t id = sqlite3_column_int64(q, 0);

    return json_pack(
        "{s:o s:o s:o s:I s:o s:o s:o s:I s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:n s:n s:o s:o}",
        "id", store_json_text(q, 1), "kind", store_json_text(q, 17), "parent",
        store_json_text(q, 18), "number", (json_int_t)sqlite3_column_int64(q, 2), "experiment",
        store_json_text(q, 3), "display_name", store_json_text(q, 4), "state",
        store_json_text(q, 5), "attempt", (json_int_t)sqlite3_column_int64(q, 6), "target",
        store_json_text(q, 7), "user", store_json_text(q, 8), "command_line", store_json_text(q, 9),
        "snapshot", store_json_text(q, 10), "created", store_json_time(q, 11), "started",
        store_json_time(q, 12), "ended", store_json_time(q, 13), "exit_code",
        number_unless(sqlite3_column_int64(q, 14), -1), "exit_signal",
        number_unless(sqlite3_column_int64(q, 15), 0), "error", store_json_value(q, 16), "warnings",
        store_texts(st, STMT_warning_list, id), "tags", store_pairs(st, STMT_tag_list, id),
        "properties", store_pairs(st, STMT_property_list, id), "why", "queue_place", "node_count",
        process_count(counts, 0), "process_count_per_node", process_count(counts, 1));
}

int ty_store_run(struct ty_store *st, const char *name, bool with_spec, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_run_get, "t", name);
    CLEANUP_JSON json_t *run = NULL;
    int r = store_step(q);

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    run = store_run_json(st, q);
    if (!run || (with_spec && json_object_set_new(run, "spec", store_json_value(q, 20)) < 0) ||
        json_object_set_new(run, "environment",
                            store_environment_json(st, sqlite3_column_int64(q, 0))) < 0)
        return -ENOMEM;
    *ret = TAKE(run);
    return 0;
}

int store_run_read(sqlite3_stmt *q, int column, struct ty_run *ret)
{
    struct ty_run run = {
        .state = ty_run_state_parse(store_text(q, column)),
        .outcome = ty_run_state_parse(store_text(q, column + 1)),
        .heard = ty_run_state_parse(store_text(q, column + 2)),
        .attempt = sqlite3_column_int(q, column + 3),
        .exit_code = sqlite3_column_int(q, column + 4),
        .exit_signal = sqlite3_column_int(q, column + 5),
        .created_us = sqlite3_column_int64(q, column + 6),
        .started_us = sqlite3_column_int64(q, column + 7),
        .ended_us = sqlite3_column_int64(q, column + 8),
    };

    if (run.state == TY_RUN_STATE_INVALID || run.outcome == TY_RUN_STATE_INVALID ||
        run.heard == TY_RUN_STATE_INVALID)
        return -EIO;
    *ret = run;
    return 0;
}

static int read_active(sqlite3_stmt *q, struct ty_active_run *a)
{
    *a = (struct ty_active_run){
        .row = { .id = sqlite3_column_int64(q, 0),
                 .name = store_text(q, 1),
                 .experiment = store_text(q, 2),
                 .display_name = store_text(q, 3),
                 .target = store_text(q, 4),
                 .user = store_text(q, 5),
                 .command_line = store_text(q, 6),
                 .snapshot = store_text(q, 7),
                 .token = store_text(q, 8),
                 .uid = sqlite3_column_int64(q, 9),
                 .spec = store_text(q, 10) },
        .last_seq = sqlite3_column_int64(q, 20),
        .record_next = (uint64_t)sqlite3_column_int64(q, 21),
    };
    return store_run_read(q, 11, &a->row.run);
}

static int each(sqlite3_stmt *q, int (*fn)(const struct ty_active_run *a, void *ctx), void *ctx,
                int *count)
{
    struct ty_active_run a;
    int r;

    while ((r = store_step(q)) == 1) {
        r = read_active(q, &a);
        if (r == 0)
            r = fn(&a, ctx);
        if (r < 0)
            break;
        ++*count;
    }
    return r;
}

int ty_store_each_active(struct ty_store *st, int (*fn)(const struct ty_active_run *a, void *ctx),
                         void *ctx)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_active_list, "");
    int count = 0;

    return each(q, fn, ctx, &count);
}

int ty_store_with_run(struct ty_store *st, const char *name,
                      int (*fn)(const struct ty_active_run *a, void *ctx), void *ctx)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_active_one, "t", name);
    struct ty_active_run a;
    int r = store_step(q);

    if (r == 1)
        r = read_active(q, &a);
    else if (r == 0)
        r = -ENOENT;
    return r < 0 ? r : fn(&a, ctx);
}

int ty_store_ended_before(struct ty_store *st, int64_t before_us, const char *state, int limit,
                          json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_ended_before, "iti", before_us, state, (int64_t)limit);
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, store_json_text(q, 0)) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}
