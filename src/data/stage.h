/* stage.h - bringing the data of a data reference to a job, and back
 *
 *   mount      the directory itself, or a symbolic link to it at path_on_compute
 *   download   a copy below the job's tmp folder, or at path_on_compute
 *   upload     a directory of the job, whose content is copied to the datastore after the script
 *
 * A relative path_on_compute lies in the job's working directory; an absolute one is used as it is,
 * and nothing that exists there is removed, except a symbolic link when `overwrite` is set.
 */
#ifndef TY_STAGE_H
#define TY_STAGE_H
#include "core/run_spec.h"
struct ty_error;

#define TY_STAGE_FILES_MAX 10000000 /* files of one reference */

struct ty_stage {
    const struct ty_data_ref *ref;
    const char *dir;  /* where the reference lies in its datastore; absolute */
    const char *work; /* the job's working directory */
    const char *tmp;  /* the job's TMPDIR */
    void (*warn)(const char *text, void *ctx);
    /* May be NULL: told of what a download has copied so far. */
    void (*progress)(uint64_t bytes, uint64_t files, void *ctx);
    void *ctx;
    uint64_t bytes, files; /* that there are, for texts; 0: not known */
};

/* Where the job finds it: malloc'ed, absolute.  -EINVAL: path_on_compute leads out of the working
 * directory. */
int ty_stage_place(const struct ty_stage *s, char **ret, struct ty_error *err);
/* Before the script.  -ENOENT: nothing to download; -EEXIST: something else is at path_on_compute. */
int ty_stage_in(const struct ty_stage *s, struct ty_error *err);
/* After the script: copies what an `upload` reference has; nothing for the others.  A file that
 * cannot be copied, or that exists with another content and must not be overwritten, is a warning;
 * the rest goes on.  May be called again. */
int ty_stage_out(const struct ty_stage *s, struct ty_error *err);
#endif
