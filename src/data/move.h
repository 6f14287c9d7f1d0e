/* move.h - moving many files between a folder and an object store
 *
 * Small files go one request each, many at once over kept connections; files that are larger than the kind's
 * part size go in parts, several at once.  What is there already with the same content is not moved again.
 * What is broken off is taken up where it was: uploads by the parts that the store has, downloads by
 * ".NAME.trainyard-part" beside the file, whose ".NAME.trainyard-part.state" says which object it is of and which parts
 * are whole.  A local file appears under its name when it is whole and checked, never before.
 *
 * Checked by MD5: of each part and small file that is sent (the store refuses what arrives otherwise), of the parts of what
 * comes down, or of its whole, where the store knows that.  A file that is changed or shortened while it is sent is an error that names it;
 * the store keeps what it had.
 *
 * Throttling, 5xx and broken connections are tried again, up to TY_OBJECT_TRIES times for one request, with growing pauses, or
 * as long as the store's Retry-After says.  Memory: some 20 MB, and about 300 bytes a file.
 */
#ifndef TY_MOVE_H
#define TY_MOVE_H
#include "data/object.h"

#define TY_MOVE_PARALLEL 16

struct ty_move_file {
    const char *local; /* path on this machine */
    const char *path;  /* of the object */
    /* down: as a listing had it (object->path is not looked at); NULL: the store is asked. */
    const struct ty_object *object;
};

enum ty_move_what { TY_MOVE_MOVED, TY_MOVE_WAS_THERE, TY_MOVE_FAILED };

struct ty_move {
    struct ty_object_store *store;
    struct ty_http *http;
    bool overwrite;    /* false: another content that is there already is -EEXIST for that file */
    unsigned parallel; /* requests at once; 0: TY_MOVE_PARALLEL */
    /* Told now and then (about 10 times a second, and at the end): bytes that need not be moved count as moved.
     * Not 0: stop; the move returns -ECANCELED. */
    int (*progress)(uint64_t bytes, uint64_t total, uint64_t files, uint64_t files_total, void *ctx);
    /* Told of each file's end; `code` and `why` (a whole sentence) with FAILED, else 0 and "".  `o` is what is in the store now (path, bytes,
     * etag, md5 where known); NULL with FAILED.  A negative return stops and is returned. NULL: the first failure stops. */
    int (*each)(const struct ty_move_file *f, enum ty_move_what what, int code, const char *why, const struct ty_object *o, void *ctx);
    void *ctx;
};

struct ty_move_sum {
    uint64_t moved, was_there, failed; /* files */
    uint64_t bytes;                    /* that went over the wire as content, again ones included */
    uint64_t retries;
};

/* Local regular files (links to files are followed) to objects.  0 when all are there; else the first failure's errno and text, with
 * the number of other files that failed.  -ENOENT, -EACCES, -EISDIR of local files; -EBUSY: changed while it was sent; -ENODATA: it shrank;
 * and what judge() says.  sum (NULL is fine) is filled in always. */
int ty_move_up(const struct ty_move *m, const struct ty_move_file *files, size_t n, struct ty_move_sum *sum, struct ty_error *err);
/* Objects to local files, folders made.  Mode 0666 and the umask; mtime is that of the download.  -ENOSPC with what is free; -ESTALE: the
 * object changed meanwhile (tried again from its start once). */
int ty_move_down(const struct ty_move *m, const struct ty_move_file *files, size_t n, struct ty_move_sum *sum, struct ty_error *err);
#endif
