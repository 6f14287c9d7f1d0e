/* records.h - what a runner has to tell, on disk until the daemon has it (docs/spec/runner-stream.md)
 *
 * A record is a JSON object with a number from 1.  It goes three steps: added (in memory), written
 * (in the file) and synced (on disk), and may be sent after the third.  Syncing can take long on a
 * busy disk: it is somebody else's work (sync.h), here only the mark up to which it came is kept.
 */
#ifndef TY_RECORDS_H
#define TY_RECORDS_H
#include "base/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_error;
struct ty_records;

#define TY_RECORD_MAX (512 * 1024) /* bytes of one line: the lock of a large environment has them */

/* Open or make; a last line that is not whole is cut off.  fn (may be NULL) is told of every record. */
typedef void (*ty_record_fn)(uint64_t seq, const json_t *record, void *ctx);
int ty_records_open(const char *path, ty_record_fn fn, void *ctx, struct ty_records **ret,
                    struct ty_error *err);
struct ty_records *ty_records_free(struct ty_records *r);
/* Only look, beside a runner that may be writing.  0 or a negative errno. */
int ty_records_each(const char *path, ty_record_fn fn, void *ctx);

/* Add a record; `o` is consumed, `at_us` is added.  Returns its number, or 0: out of memory or too
 * long. */
uint64_t ty_records_add(struct ty_records *r, json_t *o);
/* Write what was added.  0, or a negative errno (a full disk): nothing is lost, call again later. */
int ty_records_write(struct ty_records *r);
bool ty_records_waiting(const struct ty_records *r);  /* something is not written */
bool ty_records_unsynced(const struct ty_records *r); /* something is written and not synced */
/* How far the file is written; the same, once a sync that began after this call is done. */
uint64_t ty_records_mark(const struct ty_records *r);
void ty_records_synced(struct ty_records *r, uint64_t mark);
uint64_t ty_records_next(const struct ty_records *r); /* number of the next one added */

/* Sending: go to record `seq`, look at the next one, go past it. */
int ty_records_seek(struct ty_records *r, uint64_t seq);
/* -EAGAIN: no further one that is synced.  *json is valid until the next call. */
int ty_records_peek(struct ty_records *r, uint64_t *seq, const char **json, size_t *n);
void ty_records_skip(struct ty_records *r);
#endif
