/* env_spec.h - the environment that a job asks for: `environment` of a run spec (docs/spec/environment.md)
 *
 * Pure: nothing here looks at a disk or a network.  The canonical form is the specification with names as PEP 503 has them,
 * lists sorted where their order means nothing, and what does not change the packages (name, version, image options) left out;
 * its SHA-256 names the environment, whoever asks for it.
 */
#ifndef TY_ENV_SPEC_H
#define TY_ENV_SPEC_H
#include "base/json.h"
#include <stdbool.h>
struct ty_error;

#define TY_ENV_PACKAGES_MAX 1000 /* of each list */

/* How a job sees the machine's files. */
enum ty_env_view { TY_VIEW_PLAIN, TY_VIEW_SANDBOX /* bubblewrap */, TY_VIEW_IMAGE /* podman, docker or apptainer */ };

struct ty_env_spec {
    const json_t *json;         /* borrowed, as is all that follows, except the vectors (malloc'ed, NULL-terminated, never NULL) */
    const char *name, *version; /* as registered; NULL: not */
    const char *python;         /* version that is asked for: "3.8", ">=3.9"; NULL: any */
    const char **conda;         /* conda packages, without python */
    const char **channels;      /* of conda, first wins; empty: conda's own default */
    const char **pip;           /* PEP 508 requirements */
    const char *index_url;      /* NULL: pip's own */
    const char **extra_index_urls, **find_links, **constraints; /* constraints: requirement lines */
    bool pre;                   /* pip --pre */
    const char *torch, *torchvision; /* version that is asked for, "" any; NULL: not asked for */
    bool user_managed;          /* the interpreter is used as it is: nothing is built or checked */
    const json_t *lock;         /* what exactly is to be installed, of an earlier run's record; NULL: not said */
    enum ty_env_view view;
    const char *image;          /* TY_VIEW_IMAGE: name */
    const char *image_user, *image_secret; /* of its registry: the user, and the name of the secret with the password; NULL: none */
    int64_t shm_bytes;          /* of /dev/shm in the image; 0: the machine's own is shared */
    const char **image_arguments; /* further words for podman or docker run */
};

/* json may be NULL: the empty environment.  -EINVAL and a sentence that names the key as users know it. */
int ty_env_spec_parse(const json_t *json, struct ty_env_spec **ret, struct ty_error *err);
struct ty_env_spec *ty_env_spec_free(struct ty_env_spec *s);
/* Does it ask for nothing at all: no package, no version, no image, no sandbox? */
bool ty_env_spec_is_empty(const struct ty_env_spec *s);
/* malloc'ed; NULL: out of memory. */
char *ty_env_spec_canonical(const struct ty_env_spec *s);
#endif
