/* records.h - what a runner has to tell, on disk until the daemon has it (docs/spec/runner-stream.md)
 *
 * A record is a JSON object with a number from 1.  It may be sent only after it is on disk; while the disk is
 * full, records wait in memory and ty_records_sync is called again.
 */
#ifndef TY_RECORDS_H
#define TY_RECORDS_H
#include "base/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_error;
struct ty_records;

#define TY_RECORD_MAX (64 * 1024) /* bytes of one line */

/* Open or make; a last line that is not whole is cut off.  fn (may be NULL) is told of every record that is there. */
typedef void (*ty_record_fn)(uint64_t seq, const json_t *record, void *ctx);
int ty_records_open(const char *path, ty_record_fn fn, void *ctx, struct ty_records **ret, struct ty_error *err);
struct ty_records *ty_records_free(struct ty_records *r);
/* Only look, beside a runner that may be writing.  0 or a negative errno. */
int ty_records_each(const char *path, ty_record_fn fn, void *ctx);

/* Add a record; `o` is consumed, `at_us` is added.  Returns its number, or 0: out of memory or too long. */
uint64_t ty_records_add(struct ty_records *r, json_t *o);
/* Put what was added on disk.  0, or a negative errno: nothing is lost, call again later. */
int ty_records_sync(struct ty_records *r);
bool ty_records_waiting(const struct ty_records *r); /* something is not on disk */
uint64_t ty_records_next(const struct ty_records *r); /* number of the next one added */

/* Sending: go to record `seq`, look at the next one, go past it. */
int ty_records_seek(struct ty_records *r, uint64_t seq);
/* -EAGAIN: no further one on disk.  *json is valid until the next call. */
int ty_records_peek(struct ty_records *r, uint64_t *seq, const char **json, size_t *n);
void ty_records_skip(struct ty_records *r);
#endif
