/* objects.h - files of object stores, which the data helper moves (docs/spec/data-helper.md)
 *
 * The bytes go from this machine to the store and back, and never through the daemon; it says only how the store is reached.
 */
#ifndef TY_CLI_OBJECTS_H
#define TY_CLI_OBJECTS_H
#include "base/json.h"
#include "cli/cli.h"

/* How a datastore is reached, with its credentials: *ret is ACCESS (new) of an object store, NULL for a folder of the daemon's machine.
 * -ENOENT: there is no such datastore. */
int ty_objects_access(struct ty_cli *cli, const char *datastore, json_t **ret,
                      struct ty_error *err);
/* "s3://bucket/prefix", "https://account.blob.../container", a folder: where a DATASTORE is, for people; malloc'ed. */
char *ty_objects_where(const json_t *datastore);

/* Told of each line of the answer but the last: its word ("file", "progress", "warning") and value.  A negative return ends it and is returned. */
typedef int (*ty_objects_fn)(const char *word, const json_t *value, void *ctx);
/* Ask the helper: `asked` has "do" and more; "version" and `access` are put into it.  0 and *done (new; may be NULL), or what the helper said
 * went wrong: -ENOENT, -EACCES, -EEXIST, ...; -EINTR after ty_cli_catch_signals() and a Ctrl-C. */
int ty_objects_ask(const json_t *access, json_t *asked, ty_objects_fn fn, void *ctx, json_t **done,
                   struct ty_error *err);

/* Every file whose path begins with `prefix`: array of FILE. */
int ty_objects_list(const json_t *access, const char *prefix, json_t **ret, struct ty_error *err);
/* sources: [{"from", "to"}], local files and folders, and the object or folder that each becomes.  Says on stderr what was done, and
 * draws how far it is. */
int ty_objects_put(struct ty_cli *cli, const json_t *access, const json_t *sources,
                   struct ty_error *err);
/* The file or folder `named` ("": everything) to `dest`, as `trainyard data get` names it. */
int ty_objects_get(struct ty_cli *cli, const json_t *access, const char *named, const char *dest,
                   struct ty_error *err);
#endif
