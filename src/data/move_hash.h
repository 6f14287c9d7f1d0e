/* move_hash.h - threads that read parts of files and hash them, beside the one that moves bytes */
#ifndef TY_MOVE_HASH_H
#define TY_MOVE_HASH_H
#include "data/md5.h"
struct ty_http;

struct ty_hash_job {
    int fd; /* the caller's */
    uint64_t offset, bytes;
    struct ty_md5 *whole; /* NULL, or a sum that the same bytes are added to: one job of it at a time */
    uint8_t sum[TY_MD5_BYTES];
    int result; /* 0, or a negative errno: -ENODATA when the file ends before */
    void *owner;
    unsigned part;
    struct ty_hash_job *next; /* that is added together with this one; private from then on */
};

struct ty_hashers;
/* Threads are started with the first job.  Each job's end wakes h (ty_http_wake). */
struct ty_hashers *ty_hashers_new(struct ty_http *h);
/* Jobs that have not begun are dropped, those that have are waited for; none is freed. */
struct ty_hashers *ty_hashers_free(struct ty_hashers *s);
/* A job and those that its `next` leads to; they must stay where they are until they are taken.  Those of the same size that are added
 * together are done side by side, which costs a core little more than two of them.  0 or a negative errno (no thread can be started). */
int ty_hashers_add(struct ty_hashers *s, struct ty_hash_job *first);
/* One that is complete, or NULL. */
struct ty_hash_job *ty_hashers_take(struct ty_hashers *s);
/* Wait until no job of `owner` is under way; those not begun are dropped. */
void ty_hashers_forget(struct ty_hashers *s, const void *owner);
/* The same work here and now. */
int ty_hash_now(struct ty_hash_job *j);
#endif
