/* store_check.c - replaying each run's events and comparing with what the tables say of it */
#include "base/error.h"
#include "store/store_internal.h"
#include <errno.h>
#include <string.h>

static int replay(struct ty_store *st, int64_t run, struct ty_run_view *v, struct ty_error *err)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_check_events, "i", run);
    int r;

    while ((r = store_step(q)) == 1) {
        CLEANUP_JSON json_t *data = store_json_value(q, 3);

        r = data ? ty_run_view_apply(v, sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1),
                                     store_text(q, 2), data, err)
                 : -ENOMEM;
        if (r < 0)
            break;
    }
    return r;
}

/* {path: {"sha256", "bytes"}}, as in struct ty_run_view */
static json_t *artifacts(struct ty_store *st, int64_t run)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_artifact_list, "i", run);
    CLEANUP_JSON json_t *o = json_object();
    int r;

    while ((r = store_step(q)) == 1) {
        CLEANUP_JSON json_t *path = store_json_text(q, 0);

        if (!path ||
            json_object_set_new(o, json_string_value(path),
                                json_pack("{s:o s:I}", "sha256", store_json_text(q, 1), "bytes",
                                          (json_int_t)sqlite3_column_int64(q, 2))) < 0)
            return NULL;
    }
    return r < 0 ? NULL : TAKE(o);
}

static bool same_run(const struct ty_run *a, const struct ty_run *b)
{
    return a->state == b->state && a->outcome == b->outcome && a->heard == b->heard &&
           a->attempt == b->attempt && a->exit_code == b->exit_code &&
           a->exit_signal == b->exit_signal && a->created_us == b->created_us &&
           a->started_us == b->started_us && a->ended_us == b->ended_us;
}

static bool same_json(const json_t *view, json_t *table)
{
    bool same = view ? json_equal(view, table) : json_is_null(table);

    json_decref(table);
    return same;
}

/* What differs, or NULL. */
static const char *difference(struct ty_store *st, sqlite3_stmt *q, const struct ty_run_view *v)
{
    int64_t id = sqlite3_column_int64(q, 0);
    struct ty_run run;

    if (store_run_read(q, 2, &run) < 0 || !same_run(&run, &v->run))
        return "its state";
    if (sqlite3_column_int64(q, 12) != v->last_seq)
        return "the number of its events";
    if (!same_json(v->error, store_json_value(q, 11)))
        return "its error";
    if (!same_json(v->warnings, store_texts(st, STMT_warning_list, id)))
        return "its warnings";
    if (!same_json(v->tags, store_pairs(st, STMT_tag_list, id)))
        return "its tags";
    if (!same_json(v->properties, store_pairs(st, STMT_property_list, id)))
        return "its properties";
    return same_json(v->artifacts, artifacts(st, id)) ? NULL : "its artifacts";
}

/* 1: differs, named in *err if it is the first; 0: the same; negative errno. */
static int check_one(struct ty_store *st, sqlite3_stmt *q, struct ty_error *err)
{
    struct ty_error why = { 0 };
    struct ty_run_view v;
    const char *what;
    int r = ty_run_view_init(&v);

    if (r < 0)
        return r;
    r = replay(st, sqlite3_column_int64(q, 0), &v, &why);
    what = r == 0 ? difference(st, q, &v) : why.text;
    ty_run_view_done(&v);
    if (r < 0 && r != -EPROTO && r != -EINVAL)
        return r;
    if (!what)
        return 0;
    if (err && err->code == 0)
        ty_error_set(err, -EBADMSG, "the events of run '%s' and its row in the tables differ: %s",
                     store_text(q, 1), what);
    return 1;
}

static int check_all(struct ty_store *view, int64_t *runs, struct ty_error *err)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&view->reader, STMT_check_runs, "");
    int64_t count = 0;
    int r, differ = 0;

    while ((r = store_step(q)) == 1) {
        r = check_one(view, q, err);
        if (r < 0)
            return r;
        differ += r;
        count++;
    }
    if (r < 0)
        return r;
    *runs = count;
    return differ;
}

int ty_store_check(const char *home, int64_t *runs, struct ty_error *err)
{
    struct ty_store view;
    int r = store_view_open(home, &view);

    if (r == 0) {
        r = check_all(&view, runs, err);
        store_view_close(&view);
    }
    return r < 0 ? ty_error_set(err, r, "cannot read the runs from '%s/state.db': %s", home,
                                strerror(-r))
                 : r;
}
