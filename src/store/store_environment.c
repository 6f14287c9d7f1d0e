/* store_environment.c - what the environment of a run came to, on each of its nodes */
#include "store/store_internal.h"
#include <errno.h>

struct op_environment {
    struct op op;
    int64_t run, node;
    const char *record; /* JSON */
};

static int apply(struct ty_store *st, const struct op *op)
{
    const struct op_environment *o = (const struct op_environment *)op;

    return store_exec(&st->writer, STMT_environment_put, "iit", o->run, o->node, o->record);
}

void ty_unit_environment(struct ty_unit *u, int64_t run_id, int node, const json_t *record)
{
    CLEANUP_FREE char *text = ty_json_text(record);
    struct op_environment *o = unit_op(u, sizeof *o, apply);

    if (!text)
        unit_failed(u);
    if (!o || !text)
        return;
    o->run = run_id;
    o->node = node;
    o->record = unit_text(u, text);
}

/* Of the first node; null before it is known. */
json_t *store_environment_json(struct ty_store *st, int64_t run_id)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_environment_get, "ii", run_id, (int64_t)0);
    int r = store_step(q);

    return r == 1 ? store_json_value(q, 0) : r == 0 ? json_null() : NULL;
}

int ty_store_environments(struct ty_store *st, int64_t run_id, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_environment_list, "i", run_id);
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, json_pack("{s:i s:o}", "node", sqlite3_column_int(q, 0), "record",
                                    store_json_value(q, 1))) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}
