/* rows.h - every row spool of a job, and what is under way of each */
#ifndef TY_ROWS_H
#define TY_ROWS_H
#include "base/json.h"
#include "runner/spool.h"
#include <stdbool.h>
struct ty_rows;

#define TY_ROWS_FRAMES_MAX 8 /* frames in flight per writer */

struct ty_rows *ty_rows_new(const char *dir); /* NULL: out of memory */
struct ty_rows *ty_rows_free(struct ty_rows *r);
/* Writers of earlier attempts have the numbers below `base`: what the daemon says and is told is counted from there. */
void ty_rows_base(struct ty_rows *r, uint32_t base);
/* Take up spools that appeared in the folder.  True: there is one whose head is not complete yet. */
bool ty_rows_scan(struct ty_rows *r);
int ty_rows_count(const struct ty_rows *r); /* spools that are open and have to be looked at */
/* The writer says itself when it has written: its spool does not count. */
void ty_rows_quiet(struct ty_rows *r, uint32_t writer);
/* The daemon's {"<writer>": next row}: go on from there.  A writer that it does not name starts at 0. */
void ty_rows_seek(struct ty_rows *r, const json_t *next);
/* The next rows to send, of any writer: bytes, or 0. */
ptrdiff_t ty_rows_read(struct ty_rows *r, void *buf, size_t cap, uint32_t *writer, uint64_t *first,
                       uint32_t *count);
void ty_rows_ack(struct ty_rows *r, uint32_t writer, uint64_t next);
bool ty_rows_pending(const struct ty_rows *r); /* something is left to send */
uint64_t ty_rows_dropped(const struct ty_rows *r); /* rows that found their spool full */
/* A spool that had to be given up since the last call: its writer in *writer; false: none. */
bool ty_rows_damaged(struct ty_rows *r, uint32_t *writer);
#endif
