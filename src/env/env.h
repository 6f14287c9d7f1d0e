/* env.h - from an environment's specification to an interpreter that satisfies it, on this machine
 *
 * What is there already is used as it is; else a prefix is built, once, in the cache folder, under a lock, beside its place and
 * renamed when it is whole.  Whoever needs the same one meanwhile waits for it.  Layout of the cache: docs/spec/environment.md.
 *
 * These functions wait for programs, disks and networks: they are for processes of their own (the runner's preparing child, the
 * command line), never for an event loop.
 */
#ifndef TY_ENV_H
#define TY_ENV_H
#include "core/env_spec.h"
#include <stdint.h>
struct ty_error;
struct ty_view;

struct ty_env_request {
    const struct ty_env_spec *spec;
    const char *interpreter;  /* absolute; the base: what a venv is made of */
    bool interpreter_any;     /* another one of this machine will do where that one lacks what is asked for */
    const char *cache;        /* folder, absolute; made when it is not there; the caller's own */
    const char *python_path;  /* folder of our Python packages (azureml, horovod, trainyard), or NULL */
    const struct ty_view *view; /* of an image (view.h), in which all programs run: `interpreter` is one of its own, by path or name, and
                               * the cache, python_path and TMPDIR are among what it shows at their places; NULL: of this machine.
                               * `name`, `work` and `input` are set for each program */
    const char *image_id;     /* with a view: what its packages are of; another image of that name has another one */
    bool use_gpu;             /* torch must have been built for CUDA, where this machine has a GPU */
    const char *torch_index;  /* where builds of PyTorch are, NULL: its own index (torch.h) */
    bool offline;             /* ask no index: only what is cached */
    int64_t cache_bytes_max;  /* what the cache may hold after a build; 0: no limit */
    /* A line of the build log (without newline), and how far the build is: 0 to 100, with a word for what is done ("resolving",
     * "downloading", "linking").  Either may be NULL. */
    void (*log)(const char *line, void *ctx);
    void (*progress)(int percent, const char *doing, void *ctx);
    /* Asked when a signal came, and at least once a second: true ends the build (-ECANCELED), of which nothing is left.  Or NULL. */
    bool (*stopped)(void *ctx);
    void *ctx;
};

struct ty_env {
    char *interpreter; /* malloc'ed, absolute: runs the script */
    char *prefix;      /* malloc'ed, absolute: of the environment; NULL: nothing had to be built */
    char *path;        /* malloc'ed: folders for the front of PATH, with ':' between; NULL: none but the interpreter's */
    json_t *variables; /* object of texts: for the job's environment (LD_LIBRARY_PATH, CONDA_PREFIX, ...); may be empty */
    json_t *record;    /* docs/spec/environment.md, Record: choice, reasons, lock */
    int hold;          /* a descriptor (close-on-exec); while it is open, here or where it was sent, nothing of the prefix is removed;
                        * -1: no prefix */
};

#define TY_ENV_HASH 64 /* hex digits */
/* SHA-256 of the canonical form: names the environment, whoever asks for it.  0 or -ENOMEM. */
int ty_env_hash(const struct ty_env_spec *s, char hex[TY_ENV_HASH + 1]);

/* *ret is filled (ty_env_done).  -ENOENT: a package or version that cannot be had, in the resolver's own words; -ENETUNREACH: an
 * index that does not answer; -ENOSPC; -ENOTSUP: a tool that is not here, and what to install; -ECANCELED: `stopped`; ... */
int ty_env_get(const struct ty_env_request *q, struct ty_env *ret, struct ty_error *err);
void ty_env_done(struct ty_env *e);

/* URLs with their users' passwords, users of http(s) without one (tokens), and the keys of conda channels ("/t/KEY/"), as
 * "***": malloc'ed. */
char *ty_env_mask(const char *text);
/* Where the whole of a text is kept of which ty_env_mask has left `masked`: the secret of that name, of whoever gave it.  False: nothing is
 * left out of this one. */
#define TY_ENV_SECRET 32
bool ty_env_secret(const char *masked, char name[TY_ENV_SECRET]);
/* Is a variable of that name one of those that tools of packages read (PIP_..., UV_..., CONDA_..., MAMBA_...)?  Others are the script's affair. */
bool ty_env_is_for_tools(const char *variable);

/* ---- the cache ---- */
struct ty_env_item {
    const char *key;    /* names the prefix: hex digits */
    const char *prefix; /* absolute */
    json_t *about;      /* what it was built from: {"spec", "record", "built"} */
    int64_t bytes;      /* of its own: files that no other environment shares */
    int64_t used_us;    /* when it was last used */
    bool busy;          /* somebody holds it now */
};
/* Each one, in order of use, the latest first; a negative return stops. */
int ty_env_each(const char *cache, int (*fn)(const struct ty_env_item *item, void *ctx), void *ctx, struct ty_error *err);
struct ty_env_gc {
    int64_t max_bytes;   /* remove the least recently used until no more than this is left; -1: no limit */
    int64_t unused_us;   /* remove what nobody has used so long; -1: whatever its age */
    bool all;            /* everything that nobody holds */
    bool dry;            /* only tell */
    int removed;         /* out */
    int64_t freed_bytes; /* out */
};
/* What is held stays, and so do wheels and files that something which stays needs. */
int ty_env_collect(const char *cache, struct ty_env_gc *gc, struct ty_error *err);
#endif
