/* files.h - files of runs and datastores: listed, fetched, stored */
#ifndef TY_CLI_FILES_H
#define TY_CLI_FILES_H
#include "base/json.h"
#include "cli/cli.h"
#include "cli/out.h"

/* One kind of place that holds files. */
struct ty_place {
    int list, get;     /* routes */
    const char *owner; /* run id or datastore */
};
struct ty_place ty_place_run(const char *id);
struct ty_place ty_place_datastore(const char *name);

/* How far a transfer of several files is. */
struct ty_transfer {
    const char *what;
    uint64_t done, all;
    struct ty_progress bar;
};

/* The array "files"; `prefix` NULL: all. */
int ty_files_list(struct ty_cli *cli, const struct ty_place *p, const char *prefix, json_t **ret,
                  struct ty_error *err);
/* Of `files`, those that `path` names: the file itself, or all below the folder ("" is
 * everything).  New array, may be empty. */
json_t *ty_files_select(const json_t *files, const char *path);
uint64_t ty_files_bytes(const json_t *files);
/* Bytes from `offset` on, told to fn, whose negative return ends it and is returned; over a restart of the
 * daemon it goes on where it stopped. */
int ty_file_read(struct ty_cli *cli, const struct ty_place *p, const char *path, int64_t offset,
                 int (*fn)(const char *bytes, size_t n, void *ctx), void *ctx,
                 struct ty_transfer *t, struct ty_error *err);
/* Bytes from `offset` on to `fd`; over a restart of the daemon it goes on where it stopped. */
int ty_file_fetch(struct ty_cli *cli, const struct ty_place *p, const char *path, int64_t offset,
                  int fd, struct ty_transfer *t, struct ty_error *err);
/* The whole file as `dest`, which appears when it is complete; -EEXIST unless `overwrite`. */
int ty_file_save(struct ty_cli *cli, const struct ty_place *p, const char *path, const char *dest,
                 bool overwrite, struct ty_transfer *t, struct ty_error *err);
/* Store the local file `from`; -EEXIST unless `overwrite`. */
int ty_file_store(struct ty_cli *cli, const char *datastore, const char *path, const char *from,
                  bool overwrite, struct ty_error *err);
#endif
