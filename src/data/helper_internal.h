/* helper_internal.h - what the files of the data helper share
 *
 *   helper.c        the request, the store, the small operations
 *   helper_files.c  put and get: which files, and what is said of each
 *   helper_say.c    lines on standard output
 */
#ifndef TY_DATA_HELPER_INTERNAL_H
#define TY_DATA_HELPER_INTERNAL_H
#include "base/error.h"
#include "base/json.h"
#include "data/http.h"
#include "data/move.h"
#include "data/object.h"

#define HELPER_PROGRESS_US 100000

struct helper {
    int out;
    const json_t *asked;
    struct ty_object_store *store;
    struct ty_http *http;
    int64_t parallel; /* requests at once */
    uint64_t files, bytes, there, failed; /* for `done` */
    int64_t said_us;                      /* when progress was said last */
    struct ty_error *err;
};

/* helper_say.c.  0, or a negative errno: nobody reads. */
int helper_say(struct helper *h, const char *word, json_t *value); /* takes value over */
int helper_say_object(struct helper *h, const struct ty_object *o);
int helper_fail(struct helper *h, int r); /* the `error` line, from h->err: exit code 1 */
json_t *helper_error_json(int r, const char *sentence);

/* helper_files.c */
int helper_put(struct helper *h);
int helper_get(struct helper *h);

/* A text of the request; NULL: none.  -EINVAL: no text. */
int helper_text(const struct helper *h, const char *key, const char **ret);
int helper_path(const struct helper *h, const char *path); /* of an object: 0 or -EINVAL and why */
#endif
