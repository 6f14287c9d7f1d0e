/* store_internal.h - what the files of this folder share
 *
 *   store.c          opening, migrating, closing; statements and what SQLite's codes mean
 *   unit.c           the memory of a unit: an arena and a chain of operations
 *   writer.c         the writer thread: batches, failures, delivery, checkpoints, sweeping
 *   store_run.c      runs: added, deleted, read one by one
 *   store_list.c     the list of runs
 *   store_event.c    events, and what follows from them in the tables
 *   store_check.c    replaying events against the tables
 *   store_log.c      log files, and what a stream wants next
 *   store_metric.c   rows
 *   metric_shape.c   from rows to the shapes of get_metrics; pure
 *   store_artifact.c files, snapshots, blobs
 *   store_target.c   compute targets, datastores, settings
 *   store_registered.c  environments and datasets by name and version
 *   store_secret.c   secrets, and the key they are sealed with
 *
 * An operation is composed on the loop (ty_unit_*) and applied on the writer thread: both halves
 * stand side by side in the file of their subject.
 */
#ifndef TY_STORE_INTERNAL_H
#define TY_STORE_INTERNAL_H
#include "base/queue.h"
#include "store/store.h"
#include "store/store_sql.h"
#include <sqlite3.h>
#include <stdatomic.h>

#define STORE_BATCH_MS 5
#define STORE_BATCH_ROWS 20000
#define STORE_WAL_PAGES 1000      /* of 4 KiB: a checkpoint is tried */
#define STORE_WAL_PAGES_MAX 16384 /* and from here on, insisted upon */
#define STORE_BUSY_MS 5000        /* another program holds the database */
#define STORE_CHECKPOINT_MS 100   /* a reader holds back a checkpoint */
#define STORE_LOG_FDS 64
#define STORE_LOG_NAME_MAX 1024
#define STORE_LOG_TIME_US 1000000     /* between two times that are kept of one log */
#define STORE_LOG_LINE_MAX (64 * 1024) /* of a longer line the beginning is not looked for */
#define STORE_SWEEP_ROWS 10000
#define STORE_KEY_SLOTS 256
#define STORE_SPARE_UNITS 16

#define STORE_APPLICATION_ID 1415139908 /* "TYRD" */
extern const char *const store_migrations[];
extern const int store_version;

struct conn {
    sqlite3 *db;
    sqlite3_stmt *q[STMT_COUNT]; /* NULL: belongs to the other connection */
};

/* ---- units ---- */

struct op {
    struct op *next;
    /* 0; -EPROTO, -EEXIST, -ENOENT or -EINVAL, which fail the unit alone; anything else fails
     * the batch. */
    int (*apply)(struct ty_store *st, const struct op *op);
};
struct ty_unit {
    struct ty_queue_item item;
    struct op *head, **tail;
    struct unit_chunk *chunks;
    bool failed;
    int64_t rows;
    uint64_t epoch;
    int result;
    ty_unit_done done;
    void *ctx;
};
/* A zeroed operation of `size` bytes (struct op first) at the end of the unit; NULL: nothing
 * more can be added. */
void *unit_op(struct ty_unit *u, size_t size,
              int (*apply)(struct ty_store *st, const struct op *op));
/* A copy that lives as long as the unit; NULL gives NULL. */
const char *unit_text(struct ty_unit *u, const char *text);
const void *unit_bytes(struct ty_unit *u, const void *bytes, size_t n);
void unit_failed(struct ty_unit *u);

/* ---- the store ---- */

struct log_fd {
    int64_t run;
    char *log;
    int fd;
    uint64_t used; /* tick of its last use */
};
struct key_slot {
    int64_t run, key; /* run 0: empty */
    char *name;
    size_t len;
};
struct doomed {
    struct doomed *next;
    int64_t run;
    char name[];
};

struct ty_store {
    char *path, *logs; /* state.db; the folder of log files */
    char *key_path;    /* secret.key */
    void (*wake)(void *ctx);
    void *ctx;
    struct ty_queue incoming, done;

    /* the loop's */
    struct conn reader;
    int64_t next_id;
    uint64_t epoch; /* of the units queued from now on */
    struct ty_unit *spares[STORE_SPARE_UNITS];
    bool closing;

    /* between both */
    atomic_int failed;
    _Atomic int64_t limit_keys, limit_rows;

    /* the writer thread's */
    struct conn writer;
    pthread_t thread;
    bool threaded;         /* the thread was started */
    uint64_t failed_epoch; /* units up to this one fail with failed_code */
    int failed_code;
    int wal_pages, checkpoint_at;
    bool sweep;            /* deleted runs may have left something */
    struct doomed *doomed; /* runs that the open batch deletes */
    struct log_fd log_fds[STORE_LOG_FDS];
    uint64_t tick;
    struct key_slot keys[STORE_KEY_SLOTS];
};

/* A second face of the store in `home`, for long reads on any thread: nothing but a path and a reader
 * with an open transaction, which sees the state of one moment. */
int store_view_open(const char *home, struct ty_store *view);
void store_view_close(struct ty_store *view);

/* ---- statements ---- */

int store_errno(sqlite3 *db, int rc); /* 0 or the negative errno that an SQLite code stands for */
/* Reset, bind and give the statement.  A letter of `types` per argument: i for int64_t, t for
 * a text (NULL: null). */
sqlite3_stmt *store_bind(struct conn *c, enum stmt id, const char *types, ...);
/* 1: a row; 0: no more; negative errno. */
int store_step(sqlite3_stmt *q);
/* Run a statement that gives no rows: store_bind, step, reset. */
int store_exec(struct conn *c, enum stmt id, const char *types, ...);
/* The first column of the only row as an integer; -ENOENT: no row. */
int store_get_i64(struct conn *c, int64_t *ret, enum stmt id, const char *types, ...);
static inline void store_resetp(sqlite3_stmt **q)
{
    if (*q)
        sqlite3_reset(*q);
}
#define CLEANUP_RESET CLEANUP(store_resetp)

static inline const char *store_text(sqlite3_stmt *q, int column)
{
    return (const char *)sqlite3_column_text(q, column);
}
json_t *store_json_text(sqlite3_stmt *q,
                        int column); /* a string, or null; what is no UTF-8 becomes U+FFFD */
json_t *store_json_time(sqlite3_stmt *q, int column); /* ISO 8601; 0 is null */
json_t *store_json_value(sqlite3_stmt *q,
                         int column); /* parsed; null is null, what cannot be parsed is a string */
json_t *store_json_lossy(const char *text, size_t n);
/* Append to the array, taking `value` over; -ENOMEM when either is NULL. */
int store_push(json_t *array, json_t *value);

/* ---- across files ---- */

void store_keys_forget(struct ty_store *st);
/* store_secret.c.  `name` is authenticated with the value and has to be given again; *ret is malloc'ed. */
int store_seal(struct ty_store *st, const char *name, const char *value, char **ret, struct ty_error *err);
/* what: for the sentence, "the secret 'x'"; undo: what its user can do, "set it again". */
int store_unseal(struct ty_store *st, const char *name, const char *sealed, const char *what, const char *undo, char **ret,
                 struct ty_error *err);
/* store_run.c */
int store_doom(struct ty_store *st, int64_t run, const char *name);
/* Forget those that were added after `until` was the newest; NULL: all. */
void store_doomed_forget(struct ty_store *st, const struct doomed *until);
json_t *store_run_json(struct ty_store *st, sqlite3_stmt *q); /* a row of SQL_RUN_COLUMNS */
json_t *store_environment_json(struct ty_store *st, int64_t run_id); /* the record of its first node, or null; NULL: it cannot be read */
int store_run_read(sqlite3_stmt *q, int column,
                   struct ty_run *ret); /* state ... ended_us, nine columns */
json_t *store_pairs(struct ty_store *st, enum stmt id, int64_t run); /* {key: text or null} */
json_t *store_texts(struct ty_store *st, enum stmt id, int64_t run); /* [text] */
/* store_log.c */
void store_log_close(struct ty_store *st, int64_t run); /* 0: every run's */
int store_log_sync(struct ty_store *st, int64_t run);
int store_log_recover(struct ty_store *st);
int store_log_remove(struct ty_store *st, const char *run_name);
/* writer.c */
int store_writer_start(struct ty_store *st);
void store_writer_stop(struct ty_store *st);
#endif
