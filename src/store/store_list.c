/* store_list.c - the list of runs
 *
 * The statement is composed from the filter, with the index that answers it named in it: SQLite
 * keeps no statistics here, and a page must cost the same with a thousand runs and with a
 * million.  Each index ends in the run's id, so a page is read in order and stops after `limit`
 * rows.  Where a filter asks for more than the index knows, at most SCAN runs of it are looked at:
 * the page then has what was found among them, and goes on from there.
 */
#include "base/clock.h"
#include "base/str.h"
#include "store/store_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define LIMIT_MAX 1000
#define SCAN 1000 /* some milliseconds, should each lie on a page of its own */

static bool state_is(const struct ty_run_filter *f, const char *word)
{
    return f->state && strcmp(f->state, word) == 0;
}

static bool by_state(const struct ty_run_filter *f)
{
    return f->state && !state_is(f, "active") && !state_is(f, "ended");
}

/* The table to walk: the narrowest index first. */
static const char *source(const struct ty_run_filter *f)
{
    if (f->tag)
        return f->tag_value ? "tag t INDEXED BY tag_by_value CROSS JOIN run r ON r.id = t.run"
                            : "tag t INDEXED BY tag_by_key CROSS JOIN run r ON r.id = t.run";
    if (f->parent)
        return "run r INDEXED BY run_by_parent";
    if (state_is(f, "active"))
        return "run r INDEXED BY run_active";
    if (f->top && f->experiment && !by_state(f))
        return "run r INDEXED BY run_top_by_experiment";
    if (f->experiment)
        return by_state(f) ? "run r INDEXED BY run_by_experiment_state"
                           : "run r INDEXED BY run_by_experiment";
    if (f->target)
        return by_state(f) ? "run r INDEXED BY run_by_target_state"
                           : "run r INDEXED BY run_by_target";
    if (f->user)
        return by_state(f) ? "run r INDEXED BY run_by_user_state" : "run r INDEXED BY run_by_user";
    if (by_state(f))
        return "run r INDEXED BY run_by_state";
    return f->top ? "run r INDEXED BY run_top" : "run r NOT INDEXED";
}

/* How many of the filter's conditions source() answers by its index alone. */
static int answered(const struct ty_run_filter *f)
{
    if (f->tag || f->parent || state_is(f, "active"))
        return 1;
    if (f->experiment)
        return 1 + (by_state(f) || f->top);
    if (f->target || f->user)
        return 1 + by_state(f);
    return by_state(f) || f->top;
}

static bool is_scanned(const struct ty_run_filter *f)
{
    int asked = (f->tag != NULL) + (f->parent != NULL || f->top) + (f->experiment != NULL) +
                (f->target != NULL) + (f->user != NULL) + (f->state != NULL);

    return asked > answered(f);
}

/* The conditions that decide how far the index is walked, then the others. */
static void add_walk(const struct ty_run_filter *f, struct ty_str *s)
{
    if (f->tag)
        ty_str_add(s, f->tag_value ? " AND t.key = :tag AND t.value = :tag_value"
                                   : " AND t.key = :tag");
    else if (f->parent)
        ty_str_add(s, " AND r.parent = :parent");
    else if (state_is(f, "active"))
        ty_str_add(s, " AND r.active = 1");
    else if (f->experiment)
        ty_str_addf(s, " AND r.experiment = :experiment%s",
                    by_state(f) ? " AND r.state = :state"
                    : f->top    ? " AND r.parent IS NULL"
                                : "");
    else if (f->target || f->user)
        ty_str_addf(s, "%s%s", f->target ? " AND r.target = :target" : " AND r.user = :user",
                    by_state(f) ? " AND r.state = :state" : "");
    else if (by_state(f))
        ty_str_add(s, " AND r.state = :state");
    else if (f->top)
        ty_str_add(s, " AND r.parent IS NULL");
}

static void add_rest(const struct ty_run_filter *f, struct ty_str *s)
{
    if (f->parent)
        ty_str_add(s, " AND r.parent = :parent");
    else if (f->top)
        ty_str_add(s, " AND r.parent IS NULL");
    if (f->experiment)
        ty_str_add(s, " AND r.experiment = :experiment");
    if (f->target)
        ty_str_add(s, " AND r.target = :target");
    if (f->user)
        ty_str_add(s, " AND r.user = :user");
    if (state_is(f, "active") || state_is(f, "ended"))
        ty_str_addf(s, " AND r.active = %d", state_is(f, "active"));
    if (by_state(f))
        ty_str_add(s, " AND r.state = :state");
}

static void compose(const struct ty_run_filter *f, bool to_floor, struct ty_str *s)
{
    const char *id = f->tag ? "t.run" : "r.id";

    ty_str_addf(s, "SELECT " SQL_RUN_COLUMNS " FROM %s WHERE 1", source(f));
    add_walk(f, s);
    add_rest(f, s);
    if (f->before)
        ty_str_addf(s, " AND %s < :before", id);
    if (to_floor)
        ty_str_addf(s, " AND %s >= :floor", id);
    ty_str_addf(s, " ORDER BY %s DESC LIMIT :limit", id);
}

/* The run that lies SCAN runs further down the index: the last one that this page looks at.  The index alone is walked. */
static void compose_floor(const struct ty_run_filter *f, struct ty_str *s)
{
    if (f->tag)
        ty_str_addf(
            s, "SELECT id, name FROM run WHERE id = (SELECT t.run FROM tag t INDEXED BY %s WHERE 1",
            f->tag_value ? "tag_by_value" : "tag_by_key");
    else
        ty_str_addf(s, "SELECT id, name FROM run WHERE id = (SELECT r.id FROM %s WHERE 1",
                    source(f));
    add_walk(f, s);
    if (f->before)
        ty_str_addf(s, " AND %s < :before", f->tag ? "t.run" : "r.id");
    ty_str_addf(s, " ORDER BY %s DESC LIMIT 1 OFFSET %d)", f->tag ? "t.run" : "r.id", SCAN - 1);
}

static void bind_text(sqlite3_stmt *q, const char *name, const char *value)
{
    int i = sqlite3_bind_parameter_index(q, name);

    if (i > 0)
        sqlite3_bind_text(q, i, value, -1, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *q, const char *name, int64_t value)
{
    int i = sqlite3_bind_parameter_index(q, name);

    if (i > 0)
        sqlite3_bind_int64(q, i, value);
}

/* The last run that is looked at, where there are more. */
struct floor {
    int64_t id; /* 0: all are looked at */
    char *name;
};

static void floor_done(struct floor *f)
{
    free(f->name);
}

static int page_size(const struct ty_run_filter *f)
{
    return f->limit < 1 ? 1 : f->limit > LIMIT_MAX ? LIMIT_MAX : f->limit;
}

static void bind_filter(sqlite3_stmt *q, const struct ty_run_filter *f, int64_t before,
                        int64_t floor)
{
    bind_text(q, ":experiment", f->experiment);
    bind_text(q, ":target", f->target);
    bind_text(q, ":user", f->user);
    bind_text(q, ":state", f->state);
    bind_text(q, ":parent", f->parent);
    bind_text(q, ":tag", f->tag);
    bind_text(q, ":tag_value", f->tag_value);
    bind_number(q, ":before", before);
    bind_number(q, ":floor", floor);
    bind_number(q, ":limit", page_size(f) + 1); /* one more says whether there are more */
}

static int collect(struct ty_store *st, sqlite3_stmt *q, json_t *runs)
{
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(runs, store_run_json(st, q)) < 0)
            return -ENOMEM;
    return r;
}

static void finalizep(sqlite3_stmt **q)
{
    sqlite3_finalize(*q);
}

static int prepare(struct ty_store *st, const struct ty_str *sql, sqlite3_stmt **ret)
{
    return sql->failed ? -ENOMEM
                       : store_errno(st->reader.db,
                                     sqlite3_prepare_v2(st->reader.db, sql->text, -1, ret, NULL));
}

static int find_floor(struct ty_store *st, const struct ty_run_filter *f, int64_t before,
                      struct floor *ret)
{
    CLEANUP(finalizep) sqlite3_stmt *q = NULL;
    CLEANUP_STR struct ty_str sql = { 0 };
    int r;

    if (!is_scanned(f))
        return 0;
    compose_floor(f, &sql);
    r = prepare(st, &sql, &q);
    if (r < 0)
        return r;
    bind_filter(q, f, before, 0);
    r = store_step(q);
    if (r <= 0)
        return r;
    ret->id = sqlite3_column_int64(q, 0);
    ret->name = strdup(store_text(q, 1));
    return ret->name ? 0 : -ENOMEM;
}

static int read_page(struct ty_store *st, const struct ty_run_filter *f, int64_t before,
                     int64_t floor, json_t *runs)
{
    CLEANUP(finalizep) sqlite3_stmt *q = NULL;
    CLEANUP_STR struct ty_str sql = { 0 };
    int r;

    compose(f, floor > 0, &sql);
    r = prepare(st, &sql, &q);
    if (r < 0)
        return r;
    bind_filter(q, f, before, floor);
    return collect(st, q, runs);
}

/* Drop the run that was read beyond the page; where the next page begins. */
static int next_of(const struct ty_run_filter *f, json_t *runs, struct floor *floor, char **ret)
{
    size_t n = (size_t)page_size(f);

    if (json_array_size(runs) <= n) {
        *ret = TAKE(floor->name);
        return 0;
    }
    json_array_remove(runs, n);
    *ret = strdup(json_string_value(json_object_get(json_array_get(runs, n - 1), "id")));
    return *ret ? 0 : -ENOMEM;
}

int ty_store_runs(struct ty_store *st, const struct ty_run_filter *f, json_t **ret, char **next)
{
    CLEANUP(floor_done) struct floor floor = { 0 };
    CLEANUP_JSON json_t *runs = json_array();
    CLEANUP_FREE char *more = NULL;
    int64_t before = 0;
    int r = !runs ? -ENOMEM : f->before ? ty_store_run_id(st, f->before, &before) : 0;

    if (r == 0)
        r = find_floor(st, f, before, &floor);
    if (r == 0)
        r = read_page(st, f, before, floor.id, runs);
    if (r == 0)
        r = next_of(f, runs, &floor, &more);
    if (r < 0)
        return r;
    *ret = TAKE(runs);
    if (next)
        *next = TAKE(more);
    return 0;
}

int ty_store_experiments(struct ty_store *st, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_experiments, "");
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, json_pack("{s:o s:I s:o}", "name", store_json_text(q, 0), "runs",
                                    (json_int_t)sqlite3_column_int64(q, 1), "last",
                                    store_json_time(q, 2))) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}

static int64_t file_bytes(const char *path, const char *suffix)
{
    CLEANUP_FREE char *name = ty_strf("%s%s", path, suffix);
    struct stat sb;

    return name && stat(name, &sb) == 0 ? (int64_t)sb.st_size : 0;
}

int ty_store_counts(struct ty_store *st, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_counts, "");
    int r = store_step(q);
    json_t *j;

    if (r <= 0)
        return r < 0 ? r : -EIO;
    j = json_pack("{s:I s:I s:I}", "runs", (json_int_t)sqlite3_column_int64(q, 0), "active",
                  (json_int_t)sqlite3_column_int64(q, 1), "db_bytes",
                  (json_int_t)(file_bytes(st->path, "") + file_bytes(st->path, "-wal")));
    if (!j)
        return -ENOMEM;
    *ret = j;
    return 0;
}
