/* blob.h - files named by their content
 *
 *   <store>/ab/cdef...   the bytes whose SHA-256 is abcdef...; mode 0444, never changed, never hard-linked to
 *   <store>/tmp/         being written
 *
 * Several processes may put at once (daemon and runners): a blob appears whole, by rename.  A blob that is put
 * again is touched, so that collection (gc.h) spares what somebody is about to refer to.
 */
#ifndef TY_BLOB_H
#define TY_BLOB_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define TY_SHA256_HEX 64
struct ty_error;
struct ty_blobs;

int ty_blobs_open(const char *dir, struct ty_blobs **ret, struct ty_error *err); /* makes the folders */
struct ty_blobs *ty_blobs_free(struct ty_blobs *b);
const char *ty_blobs_dir(const struct ty_blobs *b); /* owned by b */
bool ty_blob_has(struct ty_blobs *b, const char *sha);   /* touches it */
int ty_blob_open(struct ty_blobs *b, const char *sha);   /* a descriptor to read, or a negative errno */
int64_t ty_blob_bytes(struct ty_blobs *b, const char *sha); /* -ENOENT */

/* Put in pieces: begin, write..., then finish or abort (both free p).  `expect` NULL: any content.
 * finish: -EBADMSG when the content is not `expect`; the blob's name goes to sha[65]. */
struct ty_blob_put;
int ty_blob_begin(struct ty_blobs *b, struct ty_blob_put **ret, struct ty_error *err);
int ty_blob_write(struct ty_blob_put *p, const void *bytes, size_t n, struct ty_error *err);
int ty_blob_finish(struct ty_blob_put *p, const char *expect, char sha[TY_SHA256_HEX + 1], struct ty_error *err);
void ty_blob_abort(struct ty_blob_put *p);
/* A whole file, by reflink where that works. */
int ty_blob_put_file(struct ty_blobs *b, const char *path, char sha[TY_SHA256_HEX + 1], uint64_t *bytes,
                     struct ty_error *err);
/* The same of an open file, which stays the caller's; `path` is its name in error texts. */
int ty_blob_put_fd(struct ty_blobs *b, int fd, const char *path, char sha[TY_SHA256_HEX + 1], uint64_t *bytes,
                   struct ty_error *err);
int ty_blob_put_bytes(struct ty_blobs *b, const void *bytes, size_t n, char sha[TY_SHA256_HEX + 1], struct ty_error *err);
/* Make everything put so far survive a power cut. */
int ty_blobs_sync(struct ty_blobs *b);
int ty_blob_remove(struct ty_blobs *b, const char *sha);

/* SHA-256 in pieces and of files. */
void ty_sha256_hex(const void *bytes, size_t n, char sha[TY_SHA256_HEX + 1]);
int ty_sha256_file(int fd, char sha[TY_SHA256_HEX + 1], uint64_t *bytes);
#endif
