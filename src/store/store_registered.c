/* store_registered.c - environments and datasets that are registered by name, in versions
 *
 * A version is never changed but for what its content says "about" it.  The statement that adds one decides itself whether it
 * has to: two who register the same at once get one version.
 */
#include "base/error.h"
#include "base/str.h"
#include "store/store_internal.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define HASH_SIZE (2 * crypto_hash_sha256_BYTES + 1)

struct op_registered {
    struct op op;
    const char *kind, *name, *content, *hash;
    int64_t at_us, only_first;
};

/* Of everything but "about". */
static int hash_of(const json_t *content, char hex[HASH_SIZE])
{
    CLEANUP_JSON json_t *counts = json_copy((json_t *)content);
    CLEANUP_FREE char *text = NULL;
    unsigned char hash[crypto_hash_sha256_BYTES];

    if (!counts)
        return -ENOMEM;
    json_object_del(counts, "about");
    text = json_dumps(counts, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return -ENOMEM;
    crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
    sodium_bin2hex(hex, HASH_SIZE, hash, sizeof hash);
    return 0;
}

static int apply_put(struct ty_store *st, const struct op *op)
{
    const struct op_registered *o = (const struct op_registered *)op;
    int r = store_exec(&st->writer, STMT_registered_add, "ttttii", o->kind, o->name, o->content,
                       o->hash, o->at_us, o->only_first);

    return r < 0 ? r
                 : store_exec(&st->writer, STMT_registered_about, "tttt", o->kind, o->name,
                              o->content, o->hash);
}

void ty_unit_registered_put(struct ty_unit *u, const char *kind, const char *name,
                            const json_t *content, bool only_first, int64_t at_us)
{
    CLEANUP_FREE char *text = json_dumps(content, JSON_COMPACT | JSON_SORT_KEYS);
    struct op_registered *o = unit_op(u, sizeof *o, apply_put);
    char hash[HASH_SIZE];

    if (!text || hash_of(content, hash) < 0)
        unit_failed(u);
    else if (o) {
        o->kind = unit_text(u, kind);
        o->name = unit_text(u, name);
        o->content = unit_text(u, text);
        o->hash = unit_text(u, hash);
        o->at_us = at_us;
        o->only_first = only_first;
    }
}

static int apply_delete(struct ty_store *st, const struct op *op)
{
    const struct op_registered *o = (const struct op_registered *)op;

    return store_exec(&st->writer, STMT_registered_delete, "tt", o->kind, o->name);
}

void ty_unit_registered_delete(struct ty_unit *u, const char *kind, const char *name)
{
    struct op_registered *o = unit_op(u, sizeof *o, apply_delete);

    if (o) {
        o->kind = unit_text(u, kind);
        o->name = unit_text(u, name);
    }
}

/* ---- reading ---- */

static json_t *registered_json(sqlite3_stmt *q)
{
    return json_pack("{s:o s:I s:o s:o}", "name", store_json_text(q, 0), "version",
                     (json_int_t)sqlite3_column_int64(q, 1), "content", store_json_value(q, 2),
                     "created", store_json_time(q, 3));
}

static int list(sqlite3_stmt *q, json_t **ret)
{
    CLEANUP_JSON json_t *a = json_array();
    int r;

    while ((r = store_step(q)) == 1)
        if (store_push(a, registered_json(q)) < 0)
            return -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE(a);
    return 0;
}

static int one(sqlite3_stmt *q, json_t **ret)
{
    int r = store_step(q);

    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    *ret = registered_json(q);
    return *ret ? 0 : -ENOMEM;
}

int ty_store_registered_list(struct ty_store *st, const char *kind, json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_registered_latest, "t", kind);

    return list(q, ret);
}

int ty_store_registered_versions(struct ty_store *st, const char *kind, const char *name,
                                 json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_registered_versions, "tt", kind, name);

    return list(q, ret);
}

int ty_store_registered(struct ty_store *st, const char *kind, const char *name, int64_t version,
                        json_t **ret)
{
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_registered_one, "tti", kind, name, version);

    return one(q, ret);
}

int ty_store_registered_same(struct ty_store *st, const char *kind, const char *name,
                             const json_t *content, json_t **ret)
{
    char hash[HASH_SIZE];
    int r = hash_of(content, hash);
    CLEANUP_RESET sqlite3_stmt *q =
        store_bind(&st->reader, STMT_registered_same, "ttt", kind, name, r == 0 ? hash : "");

    return r < 0 ? r : one(q, ret);
}

int ty_store_registered_count(struct ty_store *st, const char *kind, int64_t *ret)
{
    CLEANUP_RESET sqlite3_stmt *q = store_bind(&st->reader, STMT_registered_count, "t", kind);
    int r = store_step(q);

    if (r == 1)
        *ret = sqlite3_column_int64(q, 0);
    return r < 0 ? r : 0;
}
