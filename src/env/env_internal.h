/* env_internal.h - an environment that is being looked for or built
 *
 *   env.c      the way through: known, satisfied, locked, built
 *   ask.c      what an interpreter has (one Python start), and what of a specification it lacks
 *   program.c  running pip and its like, their output to the log
 *   venv.c     a prefix for pip's packages
 *   pip.c      what is put into a prefix, by pip
 *   pip_failed.c  what pip says when it cannot
 *   wheels.c   the packages that prefixes share
 *   cache.c    names and locks of the cache folder
 *   torch_ask.c  which PyTorch; torch.c decides
 *   conda.c    a prefix for conda's packages
 *   collect.c  what the cache holds, and what of it goes
 */
#ifndef TY_ENV_INTERNAL_H
#define TY_ENV_INTERNAL_H
#include "base/error.h"
#include "base/str.h"
#include "env/env.h"

struct env_build {
    const struct ty_env_request *q;
    struct ty_env_request own; /* with `spec`: where q asks for one of several locks, it becomes this */
    struct ty_env_spec spec;
    char hash[TY_ENV_HASH + 1]; /* of the specification */
    char key[TY_ENV_HASH + 1];  /* of the prefix; "": not known yet */
    char *interpreter;          /* owned: the base that was chosen */
    json_t *asked;              /* owned: what ask.c found: {"version", "platform", "prefix", "sites": [..], "pip": text or null,
                                 * "packages": {name: version}, "missing": [{"spec", "name", "why"}], "conda_missing", "satisfied", "system"} */
    json_t *torch;              /* owned: for the record: {"version", "from", "reason"} */
    json_t *lock_pip, *lock_conda; /* owned: arrays of what was installed */
    json_t *system;                /* owned: array of what the prefix takes from the interpreter it was made of; NULL: not known */
    char *final, *building;     /* owned: envs/<key>, and where it is made until it is whole */
    char *tool;                 /* owned: "pip 23.0.1"; NULL: none yet */
    char *torch_index; /* owned: with the builds of PyTorch that the node needs; NULL: pip's own alone */
    bool torch_by_pip; /* that index does not answer */
    int done, total;            /* packages that are being fetched */
    int lock;                   /* of the prefix; -1: not held */
};

/* ---- program.c ---- */
struct env_program {
    const char *const *argv;     /* argv[0] absolute */
    const char *const *more_env; /* "NAME=value", NULL-terminated, above what every program gets; or NULL */
    const char *cwd;             /* NULL: the cache folder */
    const char *input;           /* its stdin; NULL: empty */
    bool quiet;                  /* stdout is an answer, and not for the log */
    int limit_seconds;           /* 0: one day */
    void (*seen)(struct env_build *b, const char *line); /* of its output, for progress; or NULL */
    bool (*hopeless)(const char *line); /* true: nothing good will come after this line of its output, it is ended; or NULL */
    const char *doing;           /* for error texts: "resolving packages" */
};
struct env_said {
    struct ty_str out; /* stdout of a quiet program, at most 64 MiB */
    struct ty_str end; /* the last 8 KiB of what went to the log */
    int status;        /* exit status, 128 + signal */
    bool hopeless;     /* it was ended since it had said so */
};
/* 0 when it ended, whatever its status; it ends with this process.  -ETIMEDOUT, -ECANCELED. */
int env_run(struct env_build *b, const struct env_program *p, struct env_said *said, struct ty_error *err);
void env_said_done(struct env_said *s);
bool env_stopped(const struct env_build *b);
void env_log(struct env_build *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void env_progress(struct env_build *b, int percent, const char *doing);
/* Programs of PATH: malloc'ed absolute path, or NULL. */
char *env_find(const char *program);

/* ---- ask.c ---- */
int env_ask(struct env_build *b, const char *interpreter, json_t **ret, struct ty_error *err);

/* ---- cache.c ---- */
/* Make the folders of the cache. */
int env_cache_make(const char *cache, struct ty_error *err);
/* envs/<key>.lock, in b->lock instead of what is there: LOCK_SH to use the prefix, LOCK_EX to make it.  Waits, and says so. */
int env_lock(struct env_build *b, int how, struct ty_error *err);
/* The same without waiting: a descriptor, or -EWOULDBLOCK when another has it so that `how` cannot be. */
int env_lock_now(const char *cache, const char *key, int how);
/* Packages stay in wheels/ while a builder holds this shared (LOCK_SH); who removes some holds it exclusively.  `how` as for
 * flock(2).  A descriptor, or a negative errno. */
int env_lock_wheels(const char *cache, int how);
/* "<cache>/<a>/<b><suffix>": malloc'ed */
char *env_path(const char *cache, const char *a, const char *b, const char *suffix);

/* ---- venv.c ---- */
/* Make b->building a venv of the base, and put `specs` (array of texts) into it, or exactly what `lock` (array) says. */
int env_venv_build(struct env_build *b, const json_t *specs, const json_t *lock, struct ty_error *err);
/* Which packages of the interpreter it was made of the prefix counts on, into b->system: should they change, it is made anew. */
int env_ask_prefix(struct env_build *b, const char *python, struct ty_error *err);
/* lib/python3.11/site-packages of the prefix that is being built: malloc'ed. */
int env_find_site(const struct env_build *b, char **ret, struct ty_error *err);

/* ---- pip.c ---- */
/* Put `specs`, or what `lock` says, into b->building; `python` is its interpreter.  Fills b->lock_pip. */
int env_pip_into(struct env_build *b, const char *python, const json_t *specs, const json_t *lock, struct ty_error *err);

/* A Python with pip, for an interpreter that has none: malloc'ed path. */
int env_tool_pip(struct env_build *b, char **ret, struct ty_error *err);

/* ---- pip_failed.c ---- */
/* Why pip, or a venv's making, has failed: its own words, or which index does not answer, or that there is no space. */
int env_pip_failed(const struct env_build *b, const struct env_said *said, const char *doing, struct ty_error *err);
/* A line of pip's after which an index that does not answer would be asked again and again (--retries 2). */
bool env_pip_hopeless(const char *line);
/* After resolving has failed with `failed` and `err`: where an index wants another user or password, which pip passes over in silence,
 * `err` says so, too.  Returns `failed`. */
int env_pip_refused(struct env_build *b, int failed, struct ty_error *err);
/* The index that took a connection and then said nothing for seconds, as it was named; NULL: that is not what has failed. */
const char *env_pip_silent(const struct env_build *b, const struct env_said *said);

/* ---- wheels.c ---- */
/* Is the package with that SHA-256 unpacked in wheels/? */
bool env_wheel_has(const char *cache, const char *sha);
/* Split what pip put below `staging` into one folder of wheels/ for each of `items` (array of {"name", "version", "sha256"}). */
int env_wheels_split(struct env_build *b, const char *staging, const json_t *items, struct ty_error *err);
/* Link the package into the prefix that is being built. `site`: its site-packages, relative to b->building. */
int env_wheel_link(struct env_build *b, const char *sha, const char *site, struct ty_error *err);

/* ---- torch_ask.c ---- */
/* Before anything is built: fills b->torch, b->torch_index, and adds to b->asked "missing" what is to be installed.  -ENOENT: a
 * torch that is not to be had, and what to do. */
int env_torch_choose(struct env_build *b, struct ty_error *err);
/* When something is built: does the index of its builds answer?  If not, the choice is made again without it. */
int env_torch_reach(struct env_build *b, struct ty_error *err);
/* After a build has failed with `err`: true when the interpreter's own torch is taken instead; nothing of it is missing then. */
int env_torch_fall_back(struct env_build *b, const struct ty_error *err);
/* Of which kind this node is, as far as builds of PyTorch go: "" where none for CUDA is wanted or of use, else what its driver serves. */
void env_gpu_kind(const struct env_build *b, char kind[16]);
/* After it has been built: what was installed goes into b->torch. */
void env_torch_settle(struct env_build *b);
/* Before `items` (as in b->lock_pip) are fetched: is PyTorch among them, how much that is, and whether a node without GPU gets a build
 * for CUDA, is said in the log, and in b->torch where that is so. */
void env_torch_weigh(struct env_build *b, const json_t *items);
/* Which of the addresses answer (python/trainyard/reached.py): an object of null or why not, in at most 10 s. */
int env_reached(struct env_build *b, const char *const *urls, json_t **ret, struct ty_error *err);

/* ---- conda.c ---- */
/* Does the environment need a prefix made by conda? */
bool env_conda_needed(const struct env_build *b);
/* Make b->building such a prefix; `lock` (array, may be NULL): exactly that.  Fills b->lock_conda and b->tool. */
int env_conda_build(struct env_build *b, const json_t *lock, struct ty_error *err);
#endif
