/* store.c - opening, migrating and closing the store; statements and what SQLite's codes mean
 *
 * Two connections to one file in WAL mode: the writer thread's, with synchronous=FULL, and the
 * loop's, which only reads.  A reader never waits for the writer and never makes it wait.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "store/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    const char *sql;
    bool writes;
} statements[STMT_COUNT] = {
#define W(name, text) [STMT_##name] = { text, true },
#define R(name, text) [STMT_##name] = { text, false },
    STATEMENTS(W, R)
#undef W
#undef R
};

/* ---- codes ---- */

static int io_errno(sqlite3 *db, int rc)
{
    int e = db ? sqlite3_system_errno(db) : 0;

    if (rc == SQLITE_IOERR_NOMEM)
        return -ENOMEM;
    if (rc == SQLITE_CANTOPEN_ISDIR)
        return -EISDIR;
    if (e == EDQUOT)
        return -ENOSPC;
    return e == ENOSPC || e == EROFS || e == EACCES || e == EPERM || e == ENOTDIR || e == EMFILE ||
                   e == ENFILE
               ? -e
               : -EIO;
}

static int constraint_errno(int rc)
{
    if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
        return -ENOENT;
    return rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_UNIQUE ||
                   rc == SQLITE_CONSTRAINT_ROWID
               ? -EEXIST
               : -EINVAL;
}

int store_errno(sqlite3 *db, int rc)
{
    if (rc < 0) /* a fault point */
        return errno > 0 ? -errno : -EIO;
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_CONSTRAINT:
        return constraint_errno(db ? sqlite3_extended_errcode(db) : rc);
    case SQLITE_TOOBIG:
        return -EINVAL;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    default:
        return io_errno(db, db ? sqlite3_extended_errcode(db) : rc);
    }
}

/* ---- statements ---- */

static sqlite3_stmt *bind_all(struct conn *c, enum stmt id, const char *types, va_list ap)
{
    sqlite3_stmt *q = c->q[id];

    sqlite3_reset(q);
    for (int i = 1; types[i - 1]; i++)
        if (types[i - 1] == 'i')
            sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
        else
            sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
    return q;
}

sqlite3_stmt *store_bind(struct conn *c, enum stmt id, const char *types, ...)
{
    sqlite3_stmt *q;
    va_list ap;

    va_start(ap, types);
    q = bind_all(c, id, types, ap);
    va_end(ap);
    return q;
}

int store_step(sqlite3_stmt *q)
{
    int rc = sqlite3_step(q);

    return rc == SQLITE_ROW ? 1 : store_errno(sqlite3_db_handle(q), rc);
}

int store_exec(struct conn *c, enum stmt id, const char *types, ...)
{
    sqlite3_stmt *q;
    va_list ap;
    int r;

    va_start(ap, types);
    q = bind_all(c, id, types, ap);
    va_end(ap);
    r = store_step(q);
    sqlite3_reset(q);
    return r < 0 ? r : 0;
}

int store_get_i64(struct conn *c, int64_t *ret, enum stmt id, const char *types, ...)
{
    sqlite3_stmt *q;
    va_list ap;
    int r;

    va_start(ap, types);
    q = bind_all(c, id, types, ap);
    va_end(ap);
    r = store_step(q);
    if (r == 1)
        *ret = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return r == 1 ? 0 : r < 0 ? r : -ENOENT;
}

static int prepare(struct conn *c, bool writes)
{
    for (int i = 0; i < STMT_COUNT; i++)
        if (statements[i].writes == writes) {
            int rc = sqlite3_prepare_v3(c->db, statements[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                        &c->q[i], NULL);

            if (rc != SQLITE_OK)
                return store_errno(c->db, rc);
        }
    return 0;
}

static void conn_done(struct conn *c)
{
    for (int i = 0; i < STMT_COUNT; i++)
        sqlite3_finalize(c->q[i]);
    sqlite3_close(c->db);
    *c = (struct conn){ 0 };
}

/* ---- opening ---- */

static int exec(sqlite3 *db, const char *sql)
{
    int rc = FAULT("store.open", -1, sqlite3_exec(db, sql, NULL, NULL, NULL));

    return store_errno(db, rc);
}

static int get_number(sqlite3 *db, const char *sql, int64_t *ret)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL), r = store_errno(db, rc);

    if (r == 0)
        r = store_step(q);
    if (r == 1)
        *ret = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return r < 0 ? r : 0;
}

static int open_conn(struct conn *c, const char *path, const char *pragmas)
{
    int rc =
        FAULT("store.open", -1,
              sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL));

    if (rc != SQLITE_OK)
        return store_errno(c->db, rc);
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, STORE_BUSY_MS);
    if (sqlite3_db_readonly(c->db, "main") == 1)
        return -EROFS;
    return exec(c->db, pragmas);
}

/* The file exists before SQLite sees it: so it is for the owner's eyes only from birth, and the
 * system's own reason is known when it cannot be written. */
static int make_file(const char *path)
{
    CLEANUP_CLOSE int fd = FAULT("store.open", -1, open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

    return fd < 0 ? -errno : 0;
}

static int migrate_one(sqlite3 *db, int version)
{
    CLEANUP_FREE char *done = ty_strf("PRAGMA user_version = %d; COMMIT", version);
    int r;

    if (!done)
        return -ENOMEM;
    r = exec(db, "BEGIN IMMEDIATE");
    if (r == 0)
        r = exec(db, store_migrations[version - 1]);
    if (r == 0)
        r = exec(db, done);
    if (r < 0 && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

static int migrate(struct ty_store *st, struct ty_error *err)
{
    int64_t version = 0, tables = 0, app = 0;
    sqlite3 *db = st->writer.db;
    int r = get_number(db, "PRAGMA user_version", &version);

    if (r == 0)
        r = get_number(db, "SELECT count(*) FROM sqlite_master", &tables);
    if (r == 0)
        r = get_number(db, "PRAGMA application_id", &app);
    if (r < 0)
        return r;
    if (tables > 0 && app != STORE_APPLICATION_ID)
        return ty_error_set(
            err, -EPROTO,
            "cannot open the state file '%s': it is a database of another program; move it away, or set "
            "TRAINYARD_HOME to another folder",
            st->path);
    if (version > store_version)
        return ty_error_set(
            err, -EPROTO,
            "cannot open the state file '%s': a newer Trainyard made it (version %lld of its tables, this "
            "program knows %d); install the newer one again, or set TRAINYARD_HOME to another folder",
            st->path, (long long)version, store_version);
    for (; version < store_version && r == 0; version++)
        r = migrate_one(db, (int)version + 1);
    return r;
}

static int open_writer(struct ty_store *st, struct ty_error *err)
{
    int r = open_conn(
        &st->writer, st->path,
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
        "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048; PRAGMA wal_autocheckpoint = 0;"
        "PRAGMA journal_size_limit = 67108864");

    if (r == 0)
        r = migrate(st, err);
    return r < 0 ? r : prepare(&st->writer, true);
}

static int open_reader(struct ty_store *st)
{
    int r =
        open_conn(&st->reader, st->path,
                  "PRAGMA query_only = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY");

    return r < 0 ? r : prepare(&st->reader, false);
}

int store_view_open(const char *home, struct ty_store *view)
{
    struct ty_store v = { .path = ty_path_join(home, "state.db") };
    int r = v.path ? open_reader(&v) : -ENOMEM;

    if (r == 0)
        r = exec(v.reader.db, "BEGIN");
    if (r < 0)
        store_view_close(&v);
    else
        *view = v;
    return r;
}

void store_view_close(struct ty_store *view)
{
    conn_done(&view->reader);
    free(view->path);
}

int ty_store_copy(const char *home, const char *to, struct ty_error *err)
{
    CLEANUP_FREE char *path = ty_path_join(home, "state.db");
    sqlite3_stmt *q = NULL;
    sqlite3 *db = NULL;
    int rc, r;

    if (!path)
        return ty_error_oom(err);
    /* A connection of its own: VACUUM INTO writes nothing here, but is refused where only queries are allowed. */
    rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &q, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(q, 1, to, -1, SQLITE_STATIC);
        rc = FAULT("store.copy", -1, sqlite3_step(q));
    }
    r = store_errno(db, rc);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return r < 0 ? ty_error_set(err, r, "cannot copy the database to '%s': %s", to, strerror(-r))
                 : 0;
}

static int first_id(struct ty_store *st)
{
    int64_t last = 0;
    int r = get_number(st->reader.db, "SELECT seq FROM sqlite_sequence WHERE name = 'run'", &last);

    st->next_id = last + 1;
    return r;
}

static int open_error(const char *path, int r, struct ty_error *err)
{
    if (err && err->code == r && err->text[0])
        return r;
    switch (r) {
    case -EROFS:
        return ty_error_set(
            err, r,
            "cannot write the state file '%s': it lies on a read-only file system; set TRAINYARD_HOME "
            "to a folder that can be written",
            path);
    case -ENOSPC:
        return ty_error_set(
            err, r,
            "cannot open the state file '%s': the disk is full; free some space and try again",
            path);
    case -EBADMSG:
        return ty_error_set(
            err, r,
            "cannot read the state file '%s': it is damaged; put a backup in its place, or move it "
            "away together with the files '-wal' and '-shm' beside it and start with an empty one",
            path);
    case -EBUSY:
        return ty_error_set(
            err, r,
            "cannot open the state file '%s': another program holds it locked; end that program and "
            "try again",
            path);
    case -ENOMEM:
        return ty_error_oom(err);
    default:
        return ty_error_set(
            err, r,
            "cannot open the state file '%s': %s; check the folder, or set TRAINYARD_HOME to another "
            "one",
            path, strerror(-r));
    }
}

static int open_all(struct ty_store *st, struct ty_error *err)
{
    int64_t garbage = 0;
    int r = FAULT("store.open", -errno, ty_mkdir_p(st->logs, 0700));

    if (r == 0)
        r = make_file(st->path);
    if (r == 0)
        r = open_writer(st, err);
    if (r == 0)
        r = open_reader(st);
    if (r == 0)
        r = first_id(st);
    if (r == 0)
        r = store_log_recover(st);
    if (r == 0)
        r = get_number(st->writer.db, "SELECT count(*) FROM garbage", &garbage);
    st->sweep = garbage > 0;
    return r < 0 ? r : store_writer_start(st);
}

static struct ty_store *store_free(struct ty_store *st)
{
    if (!st)
        return NULL;
    for (int i = 0; i < STORE_SPARE_UNITS; i++)
        ty_unit_free(st->spares[i]);
    store_log_close(st, 0);
    store_keys_forget(st);
    store_doomed_forget(st, NULL);
    conn_done(&st->reader); /* the writer last: closing the last connection checkpoints */
    conn_done(&st->writer);
    ty_queue_done(&st->incoming);
    ty_queue_done(&st->done);
    free(st->path);
    free(st->logs);
    free(st->key_path);
    free(st);
    return NULL;
}

int ty_store_open(const char *home, void (*wake)(void *ctx), void *ctx, struct ty_store **ret,
                  struct ty_error *err)
{
    struct ty_store *st = calloc(1, sizeof *st);
    int r;

    if (!st)
        return ty_error_oom(err);
    ty_queue_init(&st->incoming);
    ty_queue_init(&st->done);
    st->wake = wake;
    st->ctx = ctx;
    st->epoch = 1;
    st->path = ty_path_join(home, "state.db");
    st->logs = ty_path_join(home, "logs");
    st->key_path = ty_path_join(home, "secret.key");
    r = st->path && st->logs && st->key_path ? open_all(st, err) : -ENOMEM;
    if (r < 0) {
        r = open_error(st->path, r, err);
        store_free(st);
        return r;
    }
    *ret = st;
    return 0;
}

struct ty_store *ty_store_close(struct ty_store *st)
{
    if (!st)
        return NULL;
    st->closing = true;
    store_writer_stop(st);
    ty_store_deliver(st);
    return store_free(st);
}

/* ---- what a reader makes of columns ---- */

json_t *store_json_lossy(const char *text, size_t n)
{
    CLEANUP_STR struct ty_str s = { 0 };
    json_t *j = json_stringn(text, n);

    if (j)
        return j;
    ty_str_add_json(&s, text, n);
    return s.failed ? NULL : json_loadb(s.text, s.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

json_t *store_json_text(sqlite3_stmt *q, int column)
{
    const char *text = store_text(q, column);

    return text ? store_json_lossy(text, (size_t)sqlite3_column_bytes(q, column)) : json_null();
}

json_t *store_json_value(sqlite3_stmt *q, int column)
{
    const char *text = store_text(q, column);
    size_t n = (size_t)sqlite3_column_bytes(q, column);
    json_t *j = text ? json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : json_null();

    return j ? j : store_json_lossy(text, n);
}

json_t *store_json_time(sqlite3_stmt *q, int column)
{
    int64_t at = sqlite3_column_int64(q, column);
    char buf[32];

    return at ? json_string(ty_time_iso(at, buf)) : json_null();
}

int store_push(json_t *array, json_t *value)
{
    return json_array_append_new(array, value) < 0 ? -ENOMEM : 0;
}
