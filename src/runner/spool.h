/* spool.h - the mapped row spool between a script and its runner (docs/spec/rows.md)
 *
 * The writer side costs a memory copy and never waits; it is linked into the Python extension and
 * needs only glibc.  The reader side belongs to the runner; it maps nothing, so that a script that
 * cuts its own spool short cannot kill the runner.
 */
#ifndef TY_SPOOL_H
#define TY_SPOOL_H
#include "core/row.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

#define TY_SPOOL_SEGMENT (1u << 20)
#define TY_SPOOL_UNACKED_MAX (64u << 20)
#define TY_SPOOL_WRITERS_MAX 1024 /* processes of one attempt that log */
/* The longest row, and so the least buffer for ty_spool_read. */
#define TY_SPOOL_ROW_MAX (TY_ROW_HEAD + TY_ROW_NAME_MAX + TY_ROW_VALUE_MAX + 8)

/* Writer.  One per process: after a fork the child opens its own (ty_spool_writer_pid tells whose
 * it is). */
struct ty_spool_writer;
int ty_spool_create(const char *dir, struct ty_spool_writer **ret, struct ty_error *err);
struct ty_spool_writer *ty_spool_writer_free(struct ty_spool_writer *w); /* the file stays */
/* 0; -EINVAL row beyond its limits; -ENOBUFS too much is unacknowledged; -ENOSPC (or what else the
 * file system says): the disk is full.  In the last two cases the row is dropped and counted.
 * Thread-safe. */
int ty_spool_write(struct ty_spool_writer *w, const struct ty_row *row);
uint64_t ty_spool_written(const struct ty_spool_writer *w); /* rows, so far */
uint64_t ty_spool_acked(const struct ty_spool_writer *w);   /* rows that the daemon has stored */
uint32_t ty_spool_writer_number(const struct ty_spool_writer *w);
/* Bytes that can be written before rows are dropped. */
uint64_t ty_spool_room(const struct ty_spool_writer *w);
int ty_spool_writer_pid(const struct ty_spool_writer *w);

/* Reader. */
struct ty_spool_reader;
/* -EAGAIN: the head is not complete yet; -EBADMSG: no spool of this version. */
int ty_spool_reader_open(const char *path, struct ty_spool_reader **ret, struct ty_error *err);
struct ty_spool_reader *ty_spool_reader_free(struct ty_spool_reader *r);
uint32_t ty_spool_reader_writer(const struct ty_spool_reader *r);
uint64_t ty_spool_reader_dropped(const struct ty_spool_reader *r);
/* Are there rows after the present place? */
bool ty_spool_reader_pending(const struct ty_spool_reader *r);
/* Start again from row `seq` (the daemon's word); -EINVAL when it was freed already or was never
 * written. */
int ty_spool_reader_seek(struct ty_spool_reader *r, uint64_t seq);
/* Copy whole rows from the present place on into buf, at most `cap` bytes (at least
 * TY_SPOOL_ROW_MAX): bytes copied (0: none now), *first and *count say which.  Padding is left
 * out.  -EBADMSG: the file is damaged. */
ptrdiff_t ty_spool_read(struct ty_spool_reader *r, void *buf, size_t cap, uint64_t *first, uint32_t *count);
/* The daemon has stored all rows before `seq`: tell the writer and give the disk space back. */
void ty_spool_ack(struct ty_spool_reader *r, uint64_t seq);
#endif
