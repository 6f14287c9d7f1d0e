/* datastore.h - a place for data, whatever it is made of
 *
 * A kind of datastore is a table of functions (struct ty_datastore_kind); the one kind there is so
 * far, "file", is a folder. Paths are relative to the datastore's root, as ty_path_is_inside() has
 * them, and are looked up so that neither ".." nor a link can lead out of it.
 *
 * Functions that are marked (disk) may wait for the disk.
 */
#ifndef TY_DATASTORE_H
#define TY_DATASTORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct ty_error;

struct ty_datastore;
struct ty_data_put;

/* Told of each file, in order of path bytes within a folder; a negative return stops. */
typedef int (*ty_data_fn)(const char *path, uint64_t bytes, void *ctx);

struct ty_datastore_kind {
    const char *name;
    int (*open)(struct ty_datastore *d, const char *root, struct ty_error *err);
    void (*close)(struct ty_datastore *d);
    int (*list)(struct ty_datastore *d, const char *prefix, ty_data_fn fn, void *ctx,
                struct ty_error *err);
    int (*read)(struct ty_datastore *d, const char *path, int *fd, uint64_t *bytes,
                struct ty_error *err);
    int (*put_begin)(struct ty_datastore *d, const char *path, bool overwrite,
                     struct ty_data_put **ret, struct ty_error *err);
    int (*put_write)(struct ty_data_put *p, const void *bytes, size_t n, struct ty_error *err);
    int (*put_finish)(struct ty_data_put *p, struct ty_error *err);
    void (*put_abort)(struct ty_data_put *p);
};

/* `name` is for error texts.  -ENOENT: the root is not there; -EINVAL: no such kind. */
int ty_datastore_open(const char *name, const char *kind, const char *root,
                      struct ty_datastore **ret, struct ty_error *err);
struct ty_datastore *ty_datastore_free(struct ty_datastore *d);

/* (disk) Every file whose path begins with `prefix` (NULL: every file).  Links to files inside
 * the datastore are files; other links, files being written and names that are not UTF-8 are
 * left out. */
int ty_datastore_list(struct ty_datastore *d, const char *prefix, ty_data_fn fn, void *ctx,
                      struct ty_error *err);
/* A descriptor to read and the file's size.  -ENOENT, -EISDIR, -EXDEV (leads out), -EINVAL (no
 * such path can be). */
int ty_datastore_read(struct ty_datastore *d, const char *path, int *fd, uint64_t *bytes,
                      struct ty_error *err);

/* Put in pieces: begin, write..., then finish (disk) or abort; both free p.  The file is written
 * beside its place and renamed: readers never see half of it.  The datastore must live until
 * then.  -EEXIST: it is there and `overwrite` is not set. */
int ty_datastore_put(struct ty_datastore *d, const char *path, bool overwrite,
                     struct ty_data_put **ret, struct ty_error *err);
int ty_data_put_write(struct ty_data_put *p, const void *bytes, size_t n, struct ty_error *err);
int ty_data_put_finish(struct ty_data_put *p, struct ty_error *err);
void ty_data_put_abort(struct ty_data_put *p); /* NULL is fine */

/* For kinds: what every datastore and every put begins with. */
struct ty_datastore {
    const struct ty_datastore_kind *kind;
    char *name;
    int root; /* "file": its folder; -1: none */
};
struct ty_data_put {
    struct ty_datastore *store;
};
extern const struct ty_datastore_kind ty_ds_file;
#endif
