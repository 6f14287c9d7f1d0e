/* boot.c - who am I: the launchers' variables; and which exchange they lead to
 *
 * Variables of several launchers can be there at once, because jobs nest: an agent's job that calls mpirun, srun that
 * starts torchrun.  The table is in the order of who is most likely the innermost: who names this engine, then those
 * that start each rank themselves, and last what scripts set by hand.
 */
#include "coll/boot.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/rendezvous.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_RANKS 1048576
/* Under torchrun, MASTER_PORT itself belongs to torch's own store. */
#define PORTS_AFTER_MASTER 8

/* An empty variable counts as none. */
static const char *env(const char *name)
{
    const char *s = getenv(name);

    return s && *s ? s : NULL;
}

/* ---- rank and size ---- */

/* A batch script, too, has a step of Slurm, whose number is one of the special ones at the top. */
static bool in_slurm_step(void)
{
    const char *step = env("SLURM_STEP_ID");
    int64_t n;

    return step && ty_parse_i64(step, &n) == 0 && n >= 0 && n < 0xfffffff0;
}

static bool in_slurm_step_with_tasks(void)
{
    return in_slurm_step() && env("SLURM_STEP_NUM_TASKS");
}

static bool in_torchrun(void)
{
    return env("TORCHELASTIC_RUN_ID");
}

static bool has_master(void)
{
    return env("MASTER_ADDR") && (env("RANK") || env("WORLD_SIZE"));
}

/* RANK alone is a word that many programs use. */
static bool has_rank_and_world(void)
{
    return env("RANK") && env("WORLD_SIZE");
}

static const struct launcher {
    const char *name, *rank, *size;
    bool (*here)(void); /* NULL: when either variable is there */
} launchers[] = {
    { "horovodrun", "HOROVOD_RANK", "HOROVOD_SIZE", NULL },
    { "trainyard", "TRAINYARD_COLL_RANK", "TRAINYARD_COLL_SIZE", NULL },
    { "torchrun", "RANK", "WORLD_SIZE", in_torchrun },
    { "openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL },
    { "pmi", "PMI_RANK", "PMI_SIZE", NULL },
    { "slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", in_slurm_step_with_tasks },
    { "slurm", "SLURM_PROCID", "SLURM_NTASKS", in_slurm_step },
    { "torchrun", "RANK", "WORLD_SIZE", has_master },
    { "torchrun", "RANK", "WORLD_SIZE", has_rank_and_world },
};

static int read_pair(const struct launcher *l, struct ty_world *ret, struct ty_error *err)
{
    const char *rank = env(l->rank), *size = env(l->size);
    int64_t r, n;

    if (!rank || !size)
        return ty_error_set(err, -EINVAL, "cannot tell rank and size: %s is %s, but %s is not set",
                            rank ? l->rank : l->size, rank ? rank : size, rank ? l->size : l->rank);
    if (ty_parse_i64(size, &n) < 0 || n < 1 || n > SIZE_MAX_RANKS)
        return ty_error_set(
            err, -EINVAL,
            "cannot tell the number of ranks: %s is '%s', and not a number from 1 to %d", l->size,
            size, SIZE_MAX_RANKS);
    if (ty_parse_i64(rank, &r) < 0 || r < 0 || r >= n)
        return ty_error_set(
            err, -EINVAL,
            "cannot tell this process's rank: %s is '%s', and with %s=%s it must be a number from 0 to %lld",
            l->rank, rank, l->size, size, (long long)n - 1);
    *ret = (struct ty_world){ .rank = (int)r, .size = (int)n, .launcher = l->name };
    return 0;
}

int ty_world_from_env(struct ty_world *ret, struct ty_error *err)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const struct launcher *l = &launchers[i];

        if (l->here ? l->here() : env(l->rank) || env(l->size))
            return read_pair(l, ret, err);
    }
    *ret = (struct ty_world){ .rank = 0, .size = 1, .launcher = "alone" };
    return 0;
}

/* ---- a world of one ---- */

struct alone {
    struct pair {
        struct pair *next;
        char *key;
        void *value;
        size_t n;
    } * pairs; /* the latest first */
};

static void pair_free(struct pair *p)
{
    free(p->key);
    free(p->value);
    free(p);
}

/* malloc'ed, n 0 too. */
static void *copy(const void *bytes, size_t n)
{
    void *p = FAULT("boot.copy", NULL, malloc(n ? n : 1));

    if (p && n)
        memcpy(p, bytes, n);
    return p;
}

static int alone_put(void *ctx, const char *key, const void *value, size_t n, struct ty_error *err)
{
    struct alone *a = ctx;
    struct pair *p = calloc(1, sizeof *p);

    if (!p)
        return ty_error_oom(err);
    p->key = strdup(key);
    p->value = copy(value, n);
    p->n = n;
    if (!p->key || !p->value) {
        pair_free(p);
        return ty_error_oom(err);
    }
    p->next = a->pairs;
    a->pairs = p;
    return 0;
}

static int alone_fence(void *ctx, int timeout_ms, struct ty_error *err)
{
    (void)ctx, (void)timeout_ms, (void)err;
    return 0;
}

static int alone_get(void *ctx, int rank, const char *key, void **ret, size_t *n,
                     struct ty_error *err)
{
    struct alone *a = ctx;
    void *value;

    for (struct pair *p = rank == 0 ? a->pairs : NULL; p; p = p->next)
        if (strcmp(p->key, key) == 0) {
            value = copy(p->value, p->n);
            if (!value)
                return ty_error_oom(err);
            *ret = value;
            *n = p->n;
            return 0;
        }
    return ty_error_set(err, -ENOENT, "rank %d has put nothing under '%s'", rank, key);
}

static void alone_close(void *ctx)
{
    struct alone *a = ctx;

    for (struct pair *p; (p = a->pairs);) {
        a->pairs = p->next;
        pair_free(p);
    }
    free(a);
}

int ty_boot_alone(struct ty_coll_boot *ret, struct ty_error *err)
{
    struct alone *a = FAULT("boot.alloc", NULL, calloc(1, sizeof *a));

    if (!a)
        return ty_error_oom(err);
    *ret = (struct ty_coll_boot){ a, alone_put, alone_fence, alone_get, alone_close };
    return 0;
}

/* ---- which exchange ---- */

/* "host:port", "[::1]:4711". */
static int split_place(const char *variable, const char *text, char **host, int *port,
                       struct ty_error *err)
{
    const char *colon = strrchr(text, ':');
    const char *start = text, *end = colon;
    int64_t n;

    if (colon && *text == '[' && colon > text + 2 && colon[-1] == ']') {
        start++;
        end--;
    }
    if (!colon || end == start || ty_parse_i64(colon + 1, &n) < 0 || n < 1 || n > 65535)
        return ty_error_set(err, -EINVAL,
                            "cannot find the rendezvous: %s is '%s', and not host:port", variable,
                            text);
    *host = strndup(start, (size_t)(end - start));
    if (!*host)
        return ty_error_oom(err);
    *port = (int)n;
    return 0;
}

static int read_port(const char *variable, int *port, struct ty_error *err)
{
    const char *text = env(variable);
    int64_t n;

    if (!text)
        return ty_error_set(err, -EINVAL,
                            "cannot find the rendezvous: its host is named, but %s is not set",
                            variable);
    if (ty_parse_i64(text, &n) < 0 || n < 1 || n > 65535)
        return ty_error_set(
            err, -EINVAL, "cannot find the rendezvous: %s is '%s', and not a port from 1 to 65535",
            variable, text);
    *port = (int)n;
    return 0;
}

static bool is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || ty_starts_with(host, "127.") ||
           strcmp(host, "::1") == 0;
}

/* Rank 0 of a launcher that has no rendezvous of its own opens one: *p is then told where. */
static int serve(struct ty_rdv_place *p, int size, struct ty_error *err)
{
    bool local = is_loopback(p->host);
    const char *host = !local ? NULL : strcmp(p->host, "localhost") == 0 ? "127.0.0.1" : p->host;
    int r = 0;

    for (int i = 0; i < p->nports; i++) {
        r = ty_rendezvous_open(host, p->port + i, p->secret, size, &p->own, err);
        if (r != -EADDRINUSE)
            break;
    }
    if (r == 0) {
        p->dial = host ? host : "localhost";
        p->port = ty_rendezvous_port(p->own);
        p->nports = 1;
    } else if (r == -EADDRINUSE && p->nports == 1) {
        return 0; /* perhaps it is the rendezvous that we are told of: the hello will tell */
    } else if (r == -EADDRINUSE) {
        return ty_error_set(
            err, r,
            "cannot open the rendezvous of rank 0: the ports %d to %d are all in use; name a free one "
            "with TRAINYARD_COLL_RENDEZVOUS=host:port on every rank",
            p->port, p->port + p->nports - 1);
    }
    return r;
}

static int open_place(struct ty_rdv_place *p, const struct ty_world *w, int timeout_ms,
                      struct ty_coll_boot *ret, struct ty_error *err)
{
    bool launcher_serves =
        strcmp(w->launcher, "horovodrun") == 0 || strcmp(w->launcher, "trainyard") == 0;
    int r = 0;

    p->who_serves = launcher_serves ? "the launcher" : "rank 0";
    if (!launcher_serves && w->rank == 0)
        r = serve(p, w->size, err);
    return r < 0 ? r : ty_boot_rendezvous_at(p, w, timeout_ms, ret, err);
}

static int named_rendezvous(const char *variable, const char *text, const struct ty_world *w,
                            int timeout_ms, struct ty_coll_boot *ret, struct ty_error *err)
{
    const char *secret = env("TRAINYARD_COLL_SECRET");
    CLEANUP_FREE char *host = NULL;
    struct ty_rdv_place p = { .nports = 1, .secret = secret ? secret : "" };
    int r = split_place(variable, text, &host, &p.port, err);

    p.host = host;
    return r < 0 ? r : open_place(&p, w, timeout_ms, ret, err);
}

static int horovodrun_rendezvous(const char *host, const struct ty_world *w, int timeout_ms,
                                 struct ty_coll_boot *ret, struct ty_error *err)
{
    const char *secret = env("HOROVOD_SECRET_KEY");
    struct ty_rdv_place p = { .host = host, .nports = 1, .secret = secret ? secret : "" };
    int r = read_port("HOROVOD_GLOO_RENDEZVOUS_PORT", &p.port, err);

    return r < 0 ? r : open_place(&p, w, timeout_ms, ret, err);
}

/* Without a secret of the user's, what only this job's processes have in common keeps jobs apart, but hides nothing from
 * somebody who knows how the job was started. */
static int master_rendezvous(const char *host, const struct ty_world *w, int timeout_ms,
                             struct ty_coll_boot *ret, struct ty_error *err)
{
    const char *given = env("TRAINYARD_COLL_SECRET"), *run = env("TORCHELASTIC_RUN_ID");
    CLEANUP_FREE char *secret = NULL;
    struct ty_rdv_place p = { .host = host, .nports = PORTS_AFTER_MASTER };
    int master, r = read_port("MASTER_PORT", &master, err);

    if (r < 0)
        return r;
    /* Near the top there is no room after it. */
    p.port = master + PORTS_AFTER_MASTER <= 65535 ? master + 1 : master - PORTS_AFTER_MASTER;
    secret = given ? strdup(given) : ty_strf("master %s %d run %s", host, master, run ? run : "");
    if (!secret)
        return ty_error_oom(err);
    p.secret = secret;
    return open_place(&p, w, timeout_ms, ret, err);
}

static bool starts_with_pmix(const struct ty_world *w)
{
    return strcmp(w->launcher, "torchrun") != 0;
}

int ty_boot_from_env(const struct ty_world *w, int timeout_ms, struct ty_coll_boot *ret,
                     struct ty_error *err)
{
    const char *named = env("TRAINYARD_COLL_RENDEZVOUS"),
               *gloo = env("HOROVOD_GLOO_RENDEZVOUS_ADDR");
    const char *master = env("MASTER_ADDR");
    struct ty_error pmix = { 0 };
    int r;

    if (w->size == 1)
        return ty_boot_alone(ret, err);
    if (named)
        return named_rendezvous("TRAINYARD_COLL_RENDEZVOUS", named, w, timeout_ms, ret, err);
    if (gloo && strcmp(w->launcher, "horovodrun") == 0)
        return horovodrun_rendezvous(gloo, w, timeout_ms, ret, err);
    r = starts_with_pmix(w) ? ty_boot_pmix(w, ret, &pmix) : -ENOENT;
    if (r != -ENOENT) {
        if (r < 0)
            ty_error_set(err, r, "%s", pmix.text);
        return r;
    }
    if (master)
        return master_rendezvous(master, w, timeout_ms, ret, err);
    return ty_error_set(
        err, -ENOENT,
        "rank %d of %d (from %s) has no way to find the others: %s%sset MASTER_ADDR and MASTER_PORT, or "
        "TRAINYARD_COLL_RENDEZVOUS=host:port, on every rank",
        w->rank, w->size, w->launcher, pmix.text, pmix.text[0] ? "; " : "");
}

void ty_boot_forked(const struct ty_coll_boot *b)
{
    ty_boot_rendezvous_forked(b); /* PMIx closes its own by itself */
}
