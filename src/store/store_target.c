/* store_target.c - compute targets, datastores and settings */
#include "base/error.h"
#include "base/str.h"
#include "core/datastore_spec.h"
#include "store/store_internal.h"
#include <errno.h>
#include <string.h>

struct op_named {
    struct op op;
    const char *name, *kind, *json, *sealed;
    int64_t at_us;
    bool replace;
};

static struct op_named *named_op(struct ty_unit *u,
                                 int (*apply)(struct ty_store *st, const struct op *op),
                                 const char *name, const char *kind, const char *json,
                                 int64_t at_us)
{
    struct op_named *o = unit_op(u, sizeof *o, apply);

    if (!o)
        return NULL;
    o->name = unit_text(u, name);
    o->kind = unit_text(u, kind);
    o->json = unit_text(u, json);
    o->at_us = at_us;
    return o;
}

static int apply_target_put(struct ty_store *st, const struct op *op)
{
    const struct op_named *o = (const struct op_named *)op;

    return store_exec(&st->writer, STMT_target_put, "tti", o->name, o->json, o->at_us);
}

void ty_unit_target_put(struct ty_unit *u, const char *name, const char *spec_json, int64_t at_us)
{
    named_op(u, apply_target_put, name, NULL, spec_json, at_us);
}

static int apply_target_delete(struct ty_store *st, const struct op *op)
{
    return store_exec(&st->writer, STMT_target_delete, "t", ((const struct op_named *)op)->name);
}

void ty_unit_target_delete(struct ty_unit *u, const char *name)
{
    named_op(u, apply_target_delete, name, NULL, NULL, 0);
}

static int apply_datastore_put(struct ty_store *st, const struct op *op)
{
    const struct op_named *o = (const struct op_named *)op;

    return store_exec(&st->writer, STMT_datastore_put, "tttiti", o->name, o->kind, o->json,
                      o->at_us, o->sealed, (int64_t)o->replace);
}

void ty_unit_datastore_put(struct ty_unit *u, const char *name, const char *kind,
                           const char *config_json, int64_t at_us)
{
    struct op_named *o = named_op(u, apply_datastore_put, name, kind, config_json, at_us);

    if (o)
        o->replace = true;
}

/* No name of a secret has a ':'. */
static char *sealed_name(const char *datastore)
{
    return ty_strf("datastore:%s", datastore);
}

int ty_unit_datastore_put_sealed(struct ty_unit *u, struct ty_store *st, const char *name,
                                 const char *kind, const json_t *config, const char *credentials,
                                 const json_t *secrets, bool replace, int64_t at_us,
                                 struct ty_error *err)
{
    CLEANUP_JSON json_t *kept = json_copy((json_t *)config);
    CLEANUP_FREE char *text = NULL;
    CLEANUP_FREE char *value = json_object_size(secrets) ? ty_json_text(secrets) : NULL;
    CLEANUP_FREE char *as = sealed_name(name);
    CLEANUP_FREE char *sealed = NULL;
    struct op_named *o;
    int r = 0;

    if (!kept || json_object_set_new(kept, "credentials", json_string(credentials)) < 0 ||
        !(text = ty_json_text(kept)) || !as || (json_object_size(secrets) && !value))
        return ty_error_oom(err);
    if (value)
        r = store_seal(st, as, value, &sealed, err);
    if (r < 0)
        return r;
    o = named_op(u, apply_datastore_put, name, kind, text, at_us);
    if (!o)
        return ty_error_oom(err);
    o->sealed = unit_text(u, sealed);
    o->replace = replace;
    return 0;
}

static int apply_datastore_delete(struct ty_store *st, const struct op *op)
{
    return store_exec(&st->writer, STMT_datastore_delete, "t", ((const struct op_named *)op)->name);
}

void ty_unit_datastore_delete(struct ty_unit *u, const char *name)
{
    named_op(u, apply_datastore_delete, name, NULL, NULL, 0);
}

static int apply_setting(struct ty_store *st, const struct op *op)
{
    const struct op_named *o = (const struct op_named *)op;

    return store_exec(&st->writer, STMT_setting_put, "tt", o->name, o->json);
}

void ty_unit_setting(struct ty_unit *u, const char *name, const char *value)
{
    named_op(u, apply_setting, name, NULL, value, 0);
}

/* ---- reading ---- */

int ty_store_setting(struct ty_store *st, const char *name, char **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_setting_get, "t", name);
    int r = store_step(q);
    char *value;

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    value = strdup(store_text(q, 0));
    if (!value)
        return -ENOMEM;
    *ret = value;
    return 0;
}

static json_t *target_json(sqlite3_stmt *q)
{
    return json_pack("{s:o s:o s:o}", "name", store_json_text(q, 0), "spec", store_json_value(q, 1),
                     "created", store_json_time(q, 2));
}

/* The column `config` has the word for the credentials among its keys; a root stands beside them, too. */
static json_t *datastore_json(sqlite3_stmt *q)
{
    CLEANUP_JSON json_t *config = store_json_value(q, 2);
    CLEANUP_JSON json_t *word = NULL;
    CLEANUP_JSON json_t *j =
        json_pack("{s:o s:o}", "name", store_json_text(q, 0), "kind", store_json_text(q, 1));
    json_t *root;

    if (!json_is_object(config)) {
        json_decref(config);
        config = json_object();
    }
    word = json_incref(json_object_get(config, "credentials"));
    json_object_del(config, "credentials");
    root = json_object_get(config, "root");
    if (!config || !j || (root && json_object_set(j, "root", root) < 0) ||
        json_object_set(j, "config", config) < 0 ||
        json_object_set_new(j, "credentials", word ? TAKE(word) : json_string("none")) < 0 ||
        json_object_set_new(j, "default", json_boolean(sqlite3_column_int(q, 4))) < 0 ||
        json_object_set_new(j, "created", store_json_time(q, 3)) < 0)
        return NULL;
    return TAKE(j);
}

static int list(sqlite3_stmt *q, json_t *(*row)(sqlite3_stmt *q), json_t **ret)
{
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, row(q)) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}

static int one(sqlite3_stmt *q, json_t *(*row)(sqlite3_stmt *q), json_t **ret)
{
    int r = store_step(q);
    json_t *j;

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    j = row(q);
    if (!j)
        return -ENOMEM;
    *ret = j;
    return 0;
}

int ty_store_targets(struct ty_store *st, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_targets, "");

    return list(q, target_json, ret);
}

int ty_store_target(struct ty_store *st, const char *name, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_target_one, "t", name);

    return one(q, target_json, ret);
}

int ty_store_datastores(struct ty_store *st, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_datastores, "");

    return list(q, datastore_json, ret);
}

int ty_store_datastore(struct ty_store *st, const char *name, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_datastore_one, "t", name);

    return one(q, datastore_json, ret);
}

static int open_secrets(struct ty_store *st, const char *name, const char *sealed, json_t **ret,
                        struct ty_error *err)
{
    CLEANUP_FREE char *what = ty_strf("the key of datastore '%s'", name);
    CLEANUP_FREE char *as = sealed_name(name);
    CLEANUP_FREE char *text = NULL;
    int r = what && as ? store_unseal(st, as, sealed, what, "register it again", &text, err)
                       : ty_error_oom(err);

    return r < 0 ? r : ty_json_parse(text, strlen(text), ret, err);
}

int ty_store_datastore_access(struct ty_store *st, const char *name, json_t **ret,
                              struct ty_error *err)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_datastore_one, "t", name);
    CLEANUP_JSON json_t *secrets = NULL;
    CLEANUP_JSON json_t *j = NULL;
    json_t *access;
    int r = store_step(q);

    if (r == 0)
        return ty_error_set(err, -ENOENT, "there is no datastore '%s'", name);
    if (r < 0)
        return ty_error_set(err, r, "cannot read the datastore '%s' from the state folder: %s",
                            name, strerror(-r));
    j = datastore_json(q);
    if (!j)
        return ty_error_oom(err);
    r = store_text(q, 5) ? open_secrets(st, name, store_text(q, 5), &secrets, err) : 0;
    if (r < 0)
        return r;
    access = ty_datastore_access(name, json_string_value(json_object_get(j, "kind")),
                                 json_object_get(j, "config"), secrets);
    if (!access)
        return ty_error_oom(err);
    *ret = access;
    return 0;
}
