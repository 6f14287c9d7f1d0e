/* code.h - in which files two snapshots differ, and in which lines */
#ifndef TY_CLI_CODE_H
#define TY_CLI_CODE_H
#include "base/json.h"
#include "base/str.h"
#include "cli/cli.h"

#define TY_CODE_FILES_MAX 1000         /* files whose lines are compared */
#define TY_CODE_FILE_BYTES (4u << 20)  /* a larger one is named only */
#define TY_CODE_LINES_BYTES (32u << 20) /* of what `diff` says of one file */

/* [{"path", "change": "added", "removed" or "changed", "before": SIDE, "after": SIDE}], sorted by path, of
 * two manifests; SIDE: {"type": "file", "link" or "folder", "bytes", "mode", "sha256", "target"} or null.  A
 * path that is not UTF-8 has '?' in place of what is not, and then there is "inexact": true. */
int ty_code_compare(const char *before, const char *after, json_t **ret, struct ty_error *err);
/* The same of two snapshots; an id may be "": no code. */
int ty_code_files(struct ty_cli *cli, const char *before, const char *after, json_t **ret,
                  struct ty_error *err);
/* What `diff -u` says of those files that are text on both sides; those that are not, or too large, are
 * named in a line of their own. -ENOENT: there is no program `diff`. */
int ty_code_lines(struct ty_cli *cli, const char *before, const char *after, const json_t *files,
                  struct ty_str *out, struct ty_error *err);
#endif
