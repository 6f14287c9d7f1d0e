/* store.h - what the daemon keeps: the event log and the tables that follow from it, in SQLite
 *
 * One writer thread owns the only writing connection.  The loop composes units; a unit is stored whole or not
 * at all.  Units join the open transaction; it commits when the queue is empty or after STORE_BATCH_MS, and
 * only then are the callbacks told, in order, on the loop (ty_store_deliver).  Reads are done on the loop, from a second
 * connection, and see only what is committed: nobody is told what could still be lost.
 *
 * When a commit fails (a full disk), every unit of the batch and everything queued behind it fails with
 * the same code, because it may rest on what was not stored; the store stays refusing until ty_store_resume().
 * The caller reloads what it knows from the tables first.  A unit for which there was no memory counts as such a failure.
 * -EPROTO, -EEXIST, -ENOENT and -EINVAL are a unit's own: nothing of it is stored, and the others go on.
 */
#ifndef TY_STORE_H
#define TY_STORE_H
#include "base/json.h"
#include "core/row.h"
#include "core/run_event.h"
#include <stdint.h>
struct ty_error;
struct ty_store;
struct ty_unit;

/* `wake` is called on the writer thread when callbacks wait.  Opens <home>/state.db (migrating it forward), log files below
 * <home>/logs.  -EROFS, -ENOSPC, -EPROTO (made by a newer version) and so on, with a sentence. */
int ty_store_open(const char *home, void (*wake)(void *ctx), void *ctx, struct ty_store **ret, struct ty_error *err);
/* Commit what is queued, deliver all callbacks, close. */
struct ty_store *ty_store_close(struct ty_store *st);
void ty_store_deliver(struct ty_store *st); /* run waiting callbacks; loop thread only */
/* Wait until what is queued is stored or has failed, and deliver; 0 or the last one's negative errno.  For the start,
 * when there is no loop yet that could be kept from its work. */
int ty_store_settle(struct ty_store *st);
int ty_store_resume(struct ty_store *st);   /* after a failure was delivered: accept units again */
int ty_store_failed(const struct ty_store *st); /* 0, or the negative errno that it refuses with */

/* How many metrics (names, rows) a run may hold; 0: no limit.  Rows beyond are dropped and counted. */
/* Of what is logged; as many names and values again may be sampled of the machines, and the rest of those is not kept. */
enum ty_store_limit { TY_STORE_METRIC_KEYS, TY_STORE_METRIC_ROWS };
struct ty_store_limits {
    int64_t metric_keys, metric_rows;
};
void ty_store_limits(struct ty_store *st, const struct ty_store_limits *limits);
/* Rows of the run that were dropped because of that limit, so far; kept across restarts. */
int64_t ty_store_dropped(struct ty_store *st, int64_t run_id, enum ty_store_limit what);

/* Units.  Additions are sticky: a failed one makes the commit fail with -ENOMEM.  The texts are copied. */
struct ty_unit *ty_unit_new(void); /* NULL: out of memory; a NULL unit is accepted everywhere and fails on commit */
void ty_unit_free(struct ty_unit *u); /* a unit that is not committed after all */
typedef void (*ty_unit_done)(void *ctx, int r); /* on the loop: 0 once it is stored, or a negative errno */
/* Queue the unit and take it over.  done (may be NULL) is always called exactly once; with -ESHUTDOWN once close has begun. */
void ty_store_commit(struct ty_store *st, struct ty_unit *u, ty_unit_done done, void *ctx);

struct ty_run_row {
    int64_t id;            /* given by ty_store_next_id */
    const char *name;      /* the id that users see */
    const char *experiment, *display_name, *target, *user, *command_line, *snapshot, *token; /* NULL where none */
    const char *kind;      /* "script", "command" or "interactive" */
    const char *parent;    /* name of the run that this is a child of; NULL: none */
    int64_t uid;
    const char *spec;      /* JSON text */
    struct ty_run run;
};
int64_t ty_store_next_id(struct ty_store *st); /* monotonic, never used again */
void ty_unit_run_add(struct ty_unit *u, const struct ty_run_row *row);
/* The event, and what follows from it in the tables: run holds the state after it (for notes: unchanged), and
 * the data's error, text, tags, properties and artifacts go to their tables. */
void ty_unit_event(struct ty_unit *u, int64_t run_id, int64_t seq, int64_t at_us, const char *kind, const json_t *data,
                   const struct ty_run *run);
/* With everything that belongs to it, log files too; its children have no parent then.  A run that is not there is no error. */
void ty_unit_run_delete(struct ty_unit *u, int64_t run_id);
/* What the environment of the run came to on that node (docs/spec/environment.md, Record); one that is there is replaced. */
void ty_unit_environment(struct ty_unit *u, int64_t run_id, int node, const json_t *record);
void ty_unit_record_next(struct ty_unit *u, int64_t run_id, uint64_t next); /* of the runner's records */
/* Append log bytes, which came at at_us, at `offset`: what is stored already is skipped; a gap fails the unit with -EPROTO. */
void ty_unit_log(struct ty_unit *u, int64_t run_id, const char *run_name, const char *log, uint64_t offset, const void *bytes,
                 size_t n, int64_t at_us);
/* Rows (encoded, as in row.h), from number `first` of `writer` on; known ones are skipped, a gap fails with -EPROTO.
 * TAG and PROPERTY rows are not stored here: the caller made events of them. */
void ty_unit_rows(struct ty_unit *u, int64_t run_id, uint32_t writer, uint64_t first, uint32_t count, const void *rows, size_t n);
void ty_unit_target_put(struct ty_unit *u, const char *name, const char *spec_json, int64_t at_us);
void ty_unit_target_delete(struct ty_unit *u, const char *name);
void ty_unit_snapshot_put(struct ty_unit *u, const char *id, uint64_t files, uint64_t bytes, int64_t at_us); /* again: touched */
/* Without credentials; config_json: an object. */
void ty_unit_datastore_put(struct ty_unit *u, const char *name, const char *kind, const char *config_json, int64_t at_us);
/* With the credentials (an object as text; NULL: none), sealed as a secret is, and the word for them ("sas_token").  Where there is one of
 * that name when it is stored, that is replaced, or not `replace`, stays as it is. */
int ty_unit_datastore_put_sealed(struct ty_unit *u, struct ty_store *st, const char *name, const char *kind, const json_t *config,
                                 const char *credentials, const json_t *secrets, bool replace, int64_t at_us, struct ty_error *err);
void ty_unit_datastore_delete(struct ty_unit *u, const char *name);
#define TY_STORE_DEFAULT_DATASTORE "datastore.default" /* the setting that names the default one; none: the first one */
void ty_unit_setting(struct ty_unit *u, const char *name, const char *value);
/* Environments and datasets (kind "environment", "dataset"): the content (an object) becomes a new version of `name`, unless a version
 * has it already but for its "about", which is replaced then.  only_first: nothing is added when there is a version. */
void ty_unit_registered_put(struct ty_unit *u, const char *kind, const char *name, const json_t *content, bool only_first,
                            int64_t at_us);
void ty_unit_registered_delete(struct ty_unit *u, const char *kind, const char *name); /* all versions */
/* Seals the value (a text) with the key in <home>/secret.key, which the first secret makes.  0, or the key cannot be used. */
int ty_unit_secret_put(struct ty_unit *u, struct ty_store *st, const char *name, const char *value, struct ty_error *err);
void ty_unit_secret_delete(struct ty_unit *u, const char *name);

/* Reads.  0 or -ENOENT, -ENOMEM, -EIO; json results are new references, in the shapes of docs/spec/http-api.md. */
/* The median of what the last runs of the experiment that ended well took, at most 21 of them; -ENOENT: none has. */
int ty_store_median_us(struct ty_store *st, const char *experiment, int64_t *ret);
int ty_store_run_id(struct ty_store *st, const char *name, int64_t *ret);
int ty_store_run_user(struct ty_store *st, const char *name, char **ret); /* whose run it is; malloc'ed */
int ty_store_run(struct ty_store *st, const char *name, bool with_spec, json_t **ret); /* RUN */
struct ty_run_filter {
    const char *experiment, *target, *state /* or "active", "ended" */, *user; /* NULL: any */
    const char *tag, *tag_value;                /* key exists / equals; NULL: any */
    const char *parent;                         /* its children; NULL: any */
    bool top;                                   /* without a parent */
    const char *before;                         /* run name: older than this one; NULL: from the newest */
    int limit;                                  /* 1..1000 */
};
/* RUNS: array, newest first.  *next (may be NULL) becomes the name after which the next page begins, malloc'ed; NULL: nothing is left.
 * A filter that no index answers whole may give a page that is not full, and yet is not the last. */
int ty_store_runs(struct ty_store *st, const struct ty_run_filter *f, json_t **ret, char **next);
int ty_store_events(struct ty_store *st, int64_t run_id, int64_t after_seq, int limit, json_t **ret); /* EVENTS: array */
/* "metrics" of METRICS: Azure's shapes; -EFBIG beyond TY_STORE_VALUES_MAX values.  `name` NULL: all that the run's processes logged;
 * TY_ROW_SYSTEM: all that was sampled of its machines (core/row.h); else this metric alone. */
#define TY_STORE_VALUES_MAX 2000000
int ty_store_metrics(struct ty_store *st, int64_t run_id, const char *name, json_t **ret);
int ty_store_row_count(struct ty_store *st, int64_t run_id, int64_t *ret); /* of what was logged */
int ty_store_rows_json(struct ty_store *st, int64_t run_id, const char *name, int64_t limit, json_t **ret); /* "rows" */
/* How far a reader is with the rows of each writer: the number of the row that it wants next, in order of writers; 0 for
 * those that are not there.  Zero-initialise; ty_row_places_done frees. */
#define TY_ROW_PLACES_MAX 4096
struct ty_row_places {
    struct ty_row_place { uint32_t writer; uint64_t next; } *list;
    uint32_t n, room;
};
void ty_row_places_done(struct ty_row_places *p);
int ty_row_places_set(struct ty_row_places *p, uint32_t writer, uint64_t next); /* 0, -EINVAL (too many), -ENOMEM */
uint64_t ty_row_places_get(const struct ty_row_places *p, uint32_t writer);
/* At most `limit` of the rows that are stored behind the places, which move on: by writer, then number; those that were
 * logged, or (`system`) those that were sampled.  *more: there
 * are others. */
int ty_store_rows_from(struct ty_store *st, int64_t run_id, struct ty_row_places *places, bool system, int64_t limit,
                       json_t **ret, bool *more);
int ty_store_files(struct ty_store *st, int64_t run_id, json_t **ret);                 /* FILES: logs and artifacts, by path */
/* [{"node": index, "record": {...}}], in order of nodes; empty before there is one, and where nothing was asked for. */
int ty_store_environments(struct ty_store *st, int64_t run_id, json_t **ret);
int ty_store_artifact(struct ty_store *st, int64_t run_id, const char *path, char sha[65], uint64_t *bytes);
int ty_store_artifact_count(struct ty_store *st, int64_t run_id, int64_t *ret);
/* How many writers outside of its job a run has, and whether `writer` is one of them. */
int ty_store_outside_writers(struct ty_store *st, int64_t run_id, uint32_t writer, int64_t *count, bool *known);
int ty_store_log_size(struct ty_store *st, int64_t run_id, const char *log, uint64_t *bytes);
/* Where the line begins in which the first byte lies that came at at_us or later; the log's size when none did.  Times are kept
 * to a second: what came up to a second earlier may be counted in, and all of a log from before they were kept. */
int ty_store_log_since(struct ty_store *st, int64_t run_id, const char *run_name, const char *log, int64_t at_us,
                       uint64_t *offset);
/* When the byte at `offset` came, as far as times are kept; 0 when it came before they were, or has not come. */
int ty_store_log_time_at(struct ty_store *st, int64_t run_id, const char *log, uint64_t offset, int64_t *at_us);
/* The next time after at_us that is kept, and where the bytes begin that came then; -ENOENT: there is none. */
int ty_store_log_time_next(struct ty_store *st, int64_t run_id, const char *log, int64_t at_us, int64_t *next_us,
                           uint64_t *offset);
char *ty_store_log_path(struct ty_store *st, const char *run_name, const char *log); /* malloc'ed */
int ty_store_experiments(struct ty_store *st, json_t **ret);
int ty_store_targets(struct ty_store *st, json_t **ret);                               /* [{"name","spec","created"}] */
int ty_store_target(struct ty_store *st, const char *name, json_t **ret);
int ty_store_datastores(struct ty_store *st, json_t **ret);
int ty_store_datastore(struct ty_store *st, const char *name, json_t **ret);
/* ACCESS, with the credentials; -EIO and a sentence when they cannot be opened. */
int ty_store_datastore_access(struct ty_store *st, const char *name, json_t **ret, struct ty_error *err);
/* REGISTERED: {"name","version","content","created"}.  The latest version of each name; all of one name, latest first; one (0:
 * the latest); the one with that content but for its "about".  -ENOENT of the last two. */
int ty_store_registered_list(struct ty_store *st, const char *kind, json_t **ret);
int ty_store_registered_versions(struct ty_store *st, const char *kind, const char *name, json_t **ret);
int ty_store_registered(struct ty_store *st, const char *kind, const char *name, int64_t version, json_t **ret);
int ty_store_registered_same(struct ty_store *st, const char *kind, const char *name, const json_t *content, json_t **ret);
int ty_store_registered_count(struct ty_store *st, const char *kind, int64_t *ret); /* versions of all names */
int ty_store_setting(struct ty_store *st, const char *name, char **ret); /* malloc'ed */
int ty_store_secrets(struct ty_store *st, json_t **ret); /* [{"name","created","changed"}] */
int ty_store_secret(struct ty_store *st, const char *name, char **ret, struct ty_error *err); /* malloc'ed; with a sentence */
/* A key for one use, made from secret.key, which is made when it is not there; the same each time. */
#define TY_STORE_KEY_BYTES 32
int ty_store_derived_key(struct ty_store *st, const char *use, unsigned char key[TY_STORE_KEY_BYTES], struct ty_error *err);
bool ty_store_snapshot_has(struct ty_store *st, const char *id);
/* What the stream of a run wants next: {"record_next": n, "logs": {..}, "rows": {..}}. */
int ty_store_resume_point(struct ty_store *st, int64_t run_id, json_t **ret);
/* Each run that has not ended, oldest first; a negative return of fn stops. */
struct ty_active_run {
    struct ty_run_row row;
    int64_t last_seq;
    uint64_t record_next;
};
int ty_store_each_active(struct ty_store *st, int (*fn)(const struct ty_active_run *a, void *ctx), void *ctx);
/* The same for one run, ended or not, by its name: fn's result, or -ENOENT. */
int ty_store_with_run(struct ty_store *st, const char *name, int (*fn)(const struct ty_active_run *a, void *ctx), void *ctx);
/* Snapshots that no run refers to and that are older than before_us are forgotten; *removed (NULL: not asked) says how many,
 * once done is called. */
void ty_unit_snapshots_prune(struct ty_unit *u, int64_t before_us, int64_t *removed);
/* Names of ended runs that ended before `before_us` (state NULL: any end); array of texts. */
int ty_store_ended_before(struct ty_store *st, int64_t before_us, const char *state, int limit, json_t **ret);
int ty_store_counts(struct ty_store *st, json_t **ret); /* {"runs": n, "active": n, "db_bytes": n} */
/* Long reads: on any thread, over a connection of their own to the store in `home`, open elsewhere.
 * Each blob that something refers to (snapshots' manifests and artifacts); the caller adds what manifests list. */
int ty_store_each_blob(const char *home, int (*fn)(const char *sha, bool is_manifest, void *ctx), void *ctx);
int ty_store_read_files(const char *home, int64_t run_id, json_t **ret); /* ty_store_files */
/* ty_store_metrics, or with `rows` > 0 ty_store_rows_json with that limit. */
int ty_store_read_metrics(const char *home, int64_t run_id, const char *name, int64_t rows, json_t **ret);
/* Write a copy of the database, as it is now, to the file `to`, which must not exist.  May take a while; any thread. */
int ty_store_copy(const char *home, const char *to, struct ty_error *err);
/* Replay each run's events and compare with its row: number of runs that differ (the first is named in *err), or negative.
 * *runs: how many there are. */
int ty_store_check(const char *home, int64_t *runs, struct ty_error *err);
#endif
