/* store_metric.c - what the writers of a run logged, in the order in which each writer logged it
 *
 * Key (run, writer, seq): a writer is one process of one attempt, seq counts from 0.  The table
 * `writer` knows the next number of each, so a batch that is sent twice changes nothing and a
 * gap is noticed.  Names are interned: a row holds a small number, and `metric_key` its text,
 * once per run.
 *
 * Names that begin with TY_ROW_SYSTEM are kept apart: they are counted and read by themselves.  Their rows are not among
 * `rows` of `writer`, so that a writer whose `rows` is 0, such as a sampler, is never walked for what was logged.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "store/metric_shape.h"
#include "store/store_internal.h"
#include <errno.h>
#include <math.h>
#include <string.h>

struct op_rows {
    struct op op;
    int64_t run;
    uint32_t writer, count;
    uint64_t first;
    const char *bytes;
    size_t n;
};

/* Logged, or sampled of a machine. */
enum side { LOGGED, SYSTEM, SIDES };

/* One unit's rows on their way into the tables. */
struct pass {
    struct ty_store *st;
    const struct op_rows *o;
    int64_t keys;        /* of the run, of both sides; -1: not asked for yet */
    int64_t system_keys; /* known when `keys` is */
    int64_t rows[SIDES]; /* of the run, before this unit; -1: not asked for yet */
    int64_t added[SIDES];
    int64_t dropped[2]; /* by TY_STORE_METRIC_KEYS, TY_STORE_METRIC_ROWS; logged ones */
};

/* ---- names ---- */

static struct key_slot *slot_of(struct ty_store *st, int64_t run, const char *name, size_t n)
{
    uint64_t h = 14695981039346656037u ^ (uint64_t)run;

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)name[i]) * 1099511628211u;
    return &st->keys[(h ^ h >> 32) % STORE_KEY_SLOTS];
}

static void slot_clear(struct key_slot *s)
{
    free(s->name);
    *s = (struct key_slot){ 0 };
}

void store_keys_forget(struct ty_store *st)
{
    for (int i = 0; i < STORE_KEY_SLOTS; i++)
        slot_clear(&st->keys[i]);
}

/* The cache is a help only: without memory it stays empty. */
static void slot_fill(struct key_slot *s, int64_t run, const char *name, size_t n, int64_t key)
{
    slot_clear(s);
    s->name = malloc(n ? n : 1);
    if (!s->name)
        return;
    memcpy(s->name, name, n);
    s->len = n;
    s->run = run;
    s->key = key;
}

/* A name that can be a key of a JSON object. */
static char *clean_name(const char *name, size_t n)
{
    CLEANUP_JSON json_t *text = store_json_lossy(name, n);
    size_t len = json_string_length(text);
    char *copy = text ? malloc(len + 1) : NULL;

    if (!copy)
        return NULL;
    memcpy(copy, json_string_value(text), len + 1);
    for (size_t i = 0; i < len; i++)
        if (copy[i] == '\0')
            copy[i] = '?';
    return copy;
}

static int count_keys(struct pass *p)
{
    int64_t system = 0, all = 0;
    int r = store_get_i64(&p->st->writer, &all, STMT_metric_keys, "i", p->o->run);

    if (r == 0)
        r = store_get_i64(&p->st->writer, &system, STMT_metric_keys_system, "i", p->o->run);
    if (r < 0)
        return r;
    p->keys = all;
    p->system_keys = system;
    return 0;
}

/* 0 and its number; -ENOSPC is the disk's, and 1 says that the run has no room for another name. */
static int make_key(struct pass *p, const char *name, enum side side, int64_t *ret)
{
    int64_t limit = atomic_load(&p->st->limit_keys);
    int r = p->keys < 0 ? count_keys(p) : 0;

    if (r < 0)
        return r;
    if (limit > 0 && (side == SYSTEM ? p->system_keys : p->keys - p->system_keys) >= limit)
        return 1;
    r = store_exec(&p->st->writer, STMT_metric_key_add, "iti", p->o->run, name, p->keys + 1);
    if (r < 0)
        return r;
    *ret = ++p->keys;
    p->system_keys += side == SYSTEM;
    return 0;
}

static int find_key(struct pass *p, const char *name, size_t n, enum side side, int64_t *ret)
{
    struct key_slot *s = slot_of(p->st, p->o->run, name, n);
    CLEANUP_FREE char *text = NULL;
    int64_t key = 0;
    int r;

    if (s->run == p->o->run && s->len == n && memcmp(s->name, name, n) == 0) {
        *ret = s->key;
        return 0;
    }
    text = clean_name(name, n);
    if (!text)
        return -ENOMEM;
    r = store_get_i64(&p->st->writer, &key, STMT_metric_key_get, "it", p->o->run, text);
    if (r == -ENOENT)
        r = make_key(p, text, side, &key);
    if (r != 0)
        return r;
    slot_fill(s, p->o->run, name, n, key);
    *ret = key;
    return 0;
}

/* ---- storing ---- */

static const char *float_word(double d)
{
    return isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity";
}

/* Numbers as SQLite's own (it has no NaN: that is kept as a word, the row's kind tells it from a
 * text). */
static int bind_value(sqlite3_stmt *q, int i, const struct ty_row *row)
{
    double d;
    int64_t n;

    if (row->kind == TY_ROW_DOUBLE && row->value_len == sizeof d) {
        memcpy(&d, row->value, sizeof d);
        return isfinite(d) ? sqlite3_bind_double(q, i, d)
                           : sqlite3_bind_text(q, i, float_word(d), -1, SQLITE_STATIC);
    }
    if (row->kind == TY_ROW_INT && row->value_len == sizeof n) {
        memcpy(&n, row->value, sizeof n);
        return sqlite3_bind_int64(q, i, n);
    }
    if (row->kind == TY_ROW_DOUBLE || row->kind == TY_ROW_INT)
        return SQLITE_MISMATCH;
    return sqlite3_bind_text64(q, i, row->value_len ? row->value : "", row->value_len,
                               SQLITE_STATIC, SQLITE_UTF8);
}

static int insert_row(struct pass *p, uint64_t seq, int64_t key, const struct ty_row *row)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&p->st->writer, STMT_metric_put, "iiii", p->o->run,
                                               (int64_t)p->o->writer, (int64_t)seq, key);
    int rc;

    sqlite3_bind_int(q, 5, row->kind);
    if (row->step == TY_ROW_NO_STEP)
        sqlite3_bind_null(q, 6);
    else
        sqlite3_bind_int64(q, 6, row->step);
    sqlite3_bind_int64(q, 7, row->at_us);
    if (bind_value(q, 8, row) != SQLITE_OK)
        return -EPROTO;
    rc = FAULT("store.row", -1, sqlite3_step(q));
    return store_errno(p->st->writer.db, rc);
}

static int count_rows(struct pass *p, enum side side)
{
    return store_get_i64(&p->st->writer, &p->rows[side],
                         side == SYSTEM ? STMT_metric_rows_system : STMT_metric_rows, "i",
                         p->o->run);
}

static int drop(struct pass *p, enum side side, enum ty_store_limit what)
{
    if (side == LOGGED)
        p->dropped[what]++;
    return 0;
}

static int put_row(struct pass *p, uint64_t seq, const struct ty_row *row)
{
    enum side side = ty_row_is_system(row->name, row->name_len) ? SYSTEM : LOGGED;
    int64_t limit = atomic_load(&p->st->limit_rows), key;
    int r = 0;

    if (limit > 0 && p->rows[side] < 0)
        r = count_rows(p, side);
    if (r < 0)
        return r;
    if (limit > 0 && p->rows[side] + p->added[side] >= limit)
        return drop(p, side, TY_STORE_METRIC_ROWS);
    r = find_key(p, row->name, row->name_len, side, &key);
    if (r == 1)
        return drop(p, side, TY_STORE_METRIC_KEYS);
    if (r == 0)
        r = insert_row(p, seq, key, row);
    p->added[side] += r == 0;
    return r;
}

static bool is_metric(enum ty_row_kind kind)
{
    return kind != TY_ROW_TAG && kind != TY_ROW_PROPERTY;
}

static int put_rows(struct pass *p, uint64_t next)
{
    const struct op_rows *o = p->o;
    const char *at = o->bytes;
    size_t left = o->n;
    uint64_t seq = o->first;
    int r = 0;

    while (r == 0 && left > 0) {
        struct ty_row row;
        ptrdiff_t used = ty_row_decode(at, left, &row);

        if (used <= 0)
            return -EPROTO;
        at += used;
        left -= (size_t)used;
        if (row.kind == TY_ROW_PAD)
            continue;
        if (seq >= next && is_metric(row.kind))
            r = put_row(p, seq, &row);
        seq++;
    }
    return r < 0 ? r : seq == o->first + o->count ? 0 : -EPROTO;
}

static int count_dropped(struct pass *p)
{
    int r = 0;

    for (int64_t what = 0; what < 2 && r == 0; what++)
        if (p->dropped[what] > 0)
            r = store_exec(&p->st->writer, STMT_dropped_add, "iii", p->o->run, what,
                           p->dropped[what]);
    return r;
}

static int apply_rows(struct ty_store *st, const struct op *op)
{
    const struct op_rows *o = (const struct op_rows *)op;
    struct pass p = { .st = st, .o = o, .keys = -1, .rows = { -1, -1 } };
    int64_t next = 0;
    int r = store_get_i64(&st->writer, &next, STMT_writer_get, "ii", o->run, (int64_t)o->writer);

    if (r < 0 && r != -ENOENT)
        return r;
    if (o->first > (uint64_t)next)
        return -EPROTO;
    if (o->first + o->count <= (uint64_t)next)
        return 0;
    r = put_rows(&p, (uint64_t)next);
    if (r == 0)
        r = store_exec(&st->writer, STMT_writer_put, "iiii", o->run, (int64_t)o->writer,
                       (int64_t)(o->first + o->count), p.added[LOGGED]);
    return r < 0 ? r : count_dropped(&p);
}

void ty_unit_rows(struct ty_unit *u, int64_t run_id, uint32_t writer, uint64_t first,
                  uint32_t count, const void *rows, size_t n)
{
    struct op_rows *o = unit_op(u, sizeof *o, apply_rows);

    if (!o)
        return;
    o->run = run_id;
    o->writer = writer;
    o->first = first;
    o->count = count;
    o->bytes = unit_bytes(u, rows, n);
    o->n = n;
    u->rows += count;
}

/* ---- limits ---- */

void ty_store_limits(struct ty_store *st, const struct ty_store_limits *limits)
{
    atomic_store(&st->limit_keys, limits->metric_keys);
    atomic_store(&st->limit_rows, limits->metric_rows);
}

int64_t ty_store_dropped(struct ty_store *st, int64_t run_id, enum ty_store_limit what)
{
    int64_t n = 0;

    store_get_i64(&st->reader, &n, STMT_dropped_get, "ii", run_id, (int64_t)what);
    return n;
}

/* ---- reading ---- */

struct series {
    char *name;
    struct ty_metric_point *points;
    size_t n, room;
};
struct reading {
    struct series *series; /* by key, from 1; [0] is not used */
    size_t n;
};

static void reading_done(struct reading *g)
{
    for (size_t i = 0; i < g->n; i++) {
        for (size_t k = 0; k < g->series[i].n; k++)
            json_decref(g->series[i].points[k].value);
        free(g->series[i].points);
        free(g->series[i].name);
    }
    free(g->series);
}

static json_t *value_of(sqlite3_stmt *q, enum ty_row_kind kind)
{
    switch (kind) {
    case TY_ROW_INT:
        return json_integer(sqlite3_column_int64(q, 6));
    case TY_ROW_DOUBLE:
        if (sqlite3_column_type(q, 6) != SQLITE_TEXT)
            return json_real(sqlite3_column_double(q, 6));
        return json_pack("{s:s}", "$float", store_text(q, 6));
    case TY_ROW_TEXT:
        return store_json_text(q, 6);
    default:
        return store_json_value(q, 6);
    }
}

static int add_point(struct series *s, sqlite3_stmt *q)
{
    struct ty_metric_point *p;

    if (s->n == s->room) {
        size_t room = s->room ? s->room * 2 : 16;

        p = realloc(s->points, room * sizeof *p);
        if (!p)
            return -ENOMEM;
        s->points = p;
        s->room = room;
    }
    p = &s->points[s->n];
    p->writer = (uint32_t)sqlite3_column_int64(q, 1);
    p->seq = (uint64_t)sqlite3_column_int64(q, 2);
    p->kind = (enum ty_row_kind)sqlite3_column_int(q, 3);
    p->at_us = sqlite3_column_int64(q, 5);
    p->value = value_of(q, p->kind);
    if (!p->value)
        return -ENOMEM;
    s->n++;
    return 0;
}

static int read_names(struct ty_store *st, int64_t run, struct reading *g)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_metric_names, "i", run);
    int r;

    while ((r = store_step(q)) == 1) {
        size_t key = (size_t)sqlite3_column_int64(q, 0);
        struct series *grown =
            key >= g->n ? realloc(g->series, (key + 1) * sizeof *grown) : g->series;

        if (!grown)
            return -ENOMEM;
        g->series = grown;
        if (key >= g->n) {
            memset(grown + g->n, 0, (key + 1 - g->n) * sizeof *grown);
            g->n = key + 1;
        }
        grown[key].name = strdup(store_text(q, 1));
        if (!grown[key].name)
            return -ENOMEM;
    }
    return r;
}

/* The rows of the run, or of one name; *ret stays NULL when there are none.  Without names there
 * is no run: rows may still wait to be swept. */
static int select_rows(struct ty_store *st, int64_t run, const char *name, int64_t limit,
                       const struct reading *g, sqlite3_stmt **ret)
{
    int64_t key;
    int r;

    if (g->n == 0)
        return 0;
    if (!name || strcmp(name, TY_ROW_SYSTEM) == 0) {
        *ret = store_bind(&st->reader, name ? STMT_metric_all_system : STMT_metric_all, "ii", run,
                          limit);
        return 0;
    }
    r = store_get_i64(&st->reader, &key, STMT_metric_name_key, "it", run, name);
    if (r == 0)
        *ret = store_bind(&st->reader, STMT_metric_one, "iii", run, limit, key);
    return r == -ENOENT ? 0 : r;
}

static int read_points(struct ty_store *st, int64_t run, const char *name, struct reading *g)
{
    CLEANUP_RESET sqlite3_stmt *q = NULL;
    int64_t count = 0;
    int r = select_rows(st, run, name, TY_STORE_VALUES_MAX + 1, g, &q);

    while (r == 0 && q && (r = store_step(q)) == 1) {
        size_t key = (size_t)sqlite3_column_int64(q, 0);

        r = key >= g->n                     ? -EIO
            : ++count > TY_STORE_VALUES_MAX ? -EFBIG
                                            : add_point(&g->series[key], q);
    }
    return r;
}

static int shape_all(struct reading *g, json_t *metrics)
{
    for (size_t i = 0; i < g->n; i++) {
        struct series *s = &g->series[i];

        if (s->n == 0)
            continue;
        ty_metric_order(s->points, s->n);
        if (json_object_set_new(metrics, s->name, ty_metric_shape(s->name, s->points, s->n)) < 0)
            return -ENOMEM;
    }
    return 0;
}

int ty_store_metrics(struct ty_store *st, int64_t run_id, const char *name, json_t **ret)
{
    CLEANUP(reading_done) struct reading g = { 0 };
    CLEANUP_JSON json_t *metrics = json_object();
    int r = metrics ? read_names(st, run_id, &g) : -ENOMEM;

    if (r == 0)
        r = read_points(st, run_id, name, &g);
    if (r == 0)
        r = shape_all(&g, metrics);
    if (r < 0)
        return r;
    *ret = TAKE(metrics);
    return 0;
}

static json_t *row_json(sqlite3_stmt *q, const struct reading *g)
{
    size_t key = (size_t)sqlite3_column_int64(q, 0);
    enum ty_row_kind kind = (enum ty_row_kind)sqlite3_column_int(q, 3);

    return json_pack(
        "{s:o s:s s:o s:o s:o s:I s:I}", "name",
        key < g->n ? json_string(g->series[key].name) : NULL, "kind", ty_row_kind_word(kind),
        "step",
        sqlite3_column_type(q, 4) == SQLITE_NULL ? json_null()
                                                 : json_integer(sqlite3_column_int64(q, 4)),
        "at", store_json_time(q, 5), "value", value_of(q, kind), "writer",
        (json_int_t)sqlite3_column_int64(q, 1), "seq", (json_int_t)sqlite3_column_int64(q, 2));
}

int ty_store_rows_json(struct ty_store *st, int64_t run_id, const char *name, int64_t limit,
                       json_t **ret)
{
    CLEANUP(reading_done) struct reading g = { 0 };
    CLEANUP_JSON json_t *rows = json_array();
    CLEANUP_RESET sqlite3_stmt *q = NULL;
    int r = rows ? read_names(st, run_id, &g) : -ENOMEM;

    if (r == 0)
        r = select_rows(st, run_id, name, limit > 0 ? limit : -1, &g, &q);
    while (r == 0 && q && (r = store_step(q)) == 1)
        r = store_push(rows, row_json(q, &g));
    if (r < 0)
        return r;
    *ret = TAKE(rows);
    return 0;
}

int ty_store_read_metrics(const char *home, int64_t run_id, const char *name, int64_t rows,
                          json_t **ret)
{
    struct ty_store view;
    int r = store_view_open(home, &view);

    if (r < 0)
        return r;
    r = rows > 0 ? ty_store_rows_json(&view, run_id, name, rows, ret)
                 : ty_store_metrics(&view, run_id, name, ret);
    store_view_close(&view);
    return r;
}

int ty_store_row_count(struct ty_store *st, int64_t run_id, int64_t *ret)
{
    return store_get_i64(&st->reader, ret, STMT_rows_stored, "i", run_id);
}

int ty_store_outside_writers(struct ty_store *st, int64_t run_id, uint32_t writer, int64_t *count,
                             bool *known)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_writers_outside, "ii", run_id, (int64_t)writer);
    int r = store_step(q);

    if (r <= 0)
        return r < 0 ? r : -EIO;
    *count = sqlite3_column_int64(q, 0);
    *known = sqlite3_column_int(q, 1) > 0;
    return 0;
}

/* ---- reading on ---- */

/* Rows of a run on their way to a reader. */
struct page {
    struct ty_store *st;
    int64_t run, limit;
    bool system, more;
    struct reading g;
    struct ty_row_places places; /* after it */
    json_t *rows;
};

static void page_done(struct page *p)
{
    reading_done(&p->g);
    ty_row_places_done(&p->places);
    json_decref(p->rows);
}

void ty_row_places_done(struct ty_row_places *p)
{
    free(p->list);
    *p = (struct ty_row_places){ 0 };
}

/* Where the writer stands in the list, or would stand. */
static uint32_t place_of(const struct ty_row_places *p, uint32_t writer)
{
    uint32_t low = 0, high = p->n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (p->list[middle].writer < writer)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t ty_row_places_get(const struct ty_row_places *p, uint32_t writer)
{
    uint32_t at = place_of(p, writer);

    return at < p->n && p->list[at].writer == writer ? p->list[at].next : 0;
}

int ty_row_places_set(struct ty_row_places *p, uint32_t writer, uint64_t next)
{
    uint32_t at = place_of(p, writer);

    if (at < p->n && p->list[at].writer == writer) {
        p->list[at].next = next;
        return 0;
    }
    if (p->n == TY_ROW_PLACES_MAX)
        return -EINVAL;
    if (p->n == p->room) {
        uint32_t room = p->room ? p->room * 2 : 4;
        struct ty_row_place *more = realloc(p->list, room * sizeof *more);

        if (!more)
            return -ENOMEM;
        p->list = more;
        p->room = room;
    }
    memmove(&p->list[at + 1], &p->list[at], (p->n - at) * sizeof *p->list);
    p->list[at] = (struct ty_row_place){ .writer = writer, .next = next };
    p->n++;
    return 0;
}

/* One writer's rows from `from` to before `until`; *next is behind the last one that was read. */
static int read_on(const struct page *p, int64_t writer, uint64_t from, uint64_t until,
                   int64_t limit, uint64_t *next)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&p->st->reader, p->system ? STMT_metric_from_system : STMT_metric_from, "iiiii",
                   p->run, writer, (int64_t)from, (int64_t)until, limit);
    int64_t n = 0;
    int r;

    *next = until;
    while ((r = store_step(q)) == 1) {
        r = store_push(p->rows, row_json(q, &p->g));
        if (r < 0)
            return r;
        if (++n == limit)
            *next = (uint64_t)sqlite3_column_int64(q, 2) + 1;
    }
    return r;
}

static int copy_places(const struct ty_row_places *from, struct ty_row_places *to)
{
    int r = 0;

    for (uint32_t i = 0; i < from->n && r == 0; i++)
        r = ty_row_places_set(to, from->list[i].writer, from->list[i].next);
    return r;
}

/* One writer's share of a page.  A writer that has nothing of the kind is not even looked at. */
static int read_share(struct page *p, sqlite3_stmt *writer)
{
    int64_t id = sqlite3_column_int64(writer, 0), logged = sqlite3_column_int64(writer, 2),
            room = p->limit - (int64_t)json_array_size(p->rows);
    uint64_t until = (uint64_t)sqlite3_column_int64(writer, 1), next = 0,
             from = ty_row_places_get(&p->places, (uint32_t)id);
    int r;

    if (from >= until || (p->system ? logged == (int64_t)until : logged == 0))
        return 0;
    if (room <= 0) {
        p->more = true;
        return 0;
    }
    r = p->g.n == 0 ? read_names(p->st, p->run, &p->g) : 0;
    if (r == 0)
        r = read_on(p, id, from, until, room, &next);
    p->more = p->more || next < until;
    return r < 0 ? r : ty_row_places_set(&p->places, (uint32_t)id, next);
}

int ty_store_rows_from(struct ty_store *st, int64_t run_id, struct ty_row_places *places,
                       bool system, int64_t limit, json_t **ret, bool *more)
{
    CLEANUP(page_done)
    struct page p = {
        .st = st, .run = run_id, .limit = limit, .system = system, .rows = json_array()
    };
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_writers_all, "i", run_id);
    int r = p.rows ? copy_places(places, &p.places) : -ENOMEM;

    while (r == 0 && (r = store_step(q)) == 1) /* all in one view of the tables, while q is open */
        r = read_share(&p, q);
    if (r < 0)
        return r;
    ty_row_places_done(places);
    *places = p.places;
    p.places = (struct ty_row_places){ 0 };
    *more = p.more;
    *ret = TAKE(p.rows);
    return 0;
}
