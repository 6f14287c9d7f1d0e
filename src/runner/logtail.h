/* logtail.h - one log of a job: what was written, what was sent, what the daemon has
 *
 *     0 ... acked ... sent ... size
 *
 * Bytes that the daemon has are given back to the disk by punching holes, except the last
 * TY_LOGTAIL_KEEP, which the error of a failed run quotes.  What lies beyond the limit is never
 * sent.
 */
#ifndef TY_LOGTAIL_H
#define TY_LOGTAIL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
struct ty_error;

#define TY_LOGTAIL_KEEP (16 * 1024)
#define TY_LOGTAIL_QUOTE 4096
#define TY_LOGTAIL_WINDOW (2 * 1024 * 1024) /* bytes in flight */

struct ty_logtail {
    const char *name; /* "azureml-logs/70_driver_log.txt"; borrowed */
    int fd;           /* also the writer's, O_APPEND */
    uint64_t base;    /* bytes that earlier attempts have written to the log of that name: the file begins there */
    uint64_t limit, sent, acked, punched; /* counted from the beginning of the file */
    uint64_t beyond;  /* up to here what lies beyond the limit was given back; 0: nothing yet */
    bool over;        /* the limit was reached */
};
/* Make or open `name` below the folder `log_dir`. */
int ty_logtail_open(struct ty_logtail *t, const char *log_dir, const char *name, uint64_t limit,
                    struct ty_error *err);
/* The file goes on where earlier attempts ended, at byte `base` of the log: what the daemon says and is told is counted from
 * there, and the limit is of the whole log.  Before anything is read. */
void ty_logtail_base(struct ty_logtail *t, uint64_t base);
void ty_logtail_done(struct ty_logtail *t); /* fine for a zeroed one */
/* The daemon has `stored` bytes: go on from there. */
void ty_logtail_seek(struct ty_logtail *t, uint64_t stored);
void ty_logtail_ack(struct ty_logtail *t, uint64_t stored);
/* The next bytes to send, at most `cap`: their number, 0 for none (now, or until more is
 * acknowledged); *offset says where they stand. */
ssize_t ty_logtail_read(struct ty_logtail *t, void *buf, size_t cap, uint64_t *offset);
bool ty_logtail_pending(struct ty_logtail *t); /* something is left to send */
bool ty_logtail_over(struct ty_logtail *t); /* more was written than the limit allows */
/* Give back what is not needed. */
void ty_logtail_trim(struct ty_logtail *t);
/* The last whole lines, at most TY_LOGTAIL_QUOTE bytes, into buf; returns how many bytes. */
size_t ty_logtail_quote(const struct ty_logtail *t, char buf[TY_LOGTAIL_QUOTE]);
#endif
