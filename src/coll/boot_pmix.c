/* boot_pmix.c - the exchange through PMIx, whose server mpirun or srun is
 *
 * libpmix is opened when it is needed, so that neither a build nor a host without MPI needs it.  The few types below are
 * the library's binary interface, which PMIx keeps from 3.0 to 5.0 (libpmix.so.2).
 *
 * The library is one for the whole process, and so is what is static here:
 *   - Keys stay in the server, so a later world of this process must use others: each carries the number of this open, which
 *     is equal on all ranks because every rank opens every world.
 *   - Init and Finalize are counted by the library, and MPI in the same process counts too.  The last Finalize cannot be
 *     taken back (an Init after it finds no job), so this engine's own comes at the exit of the process.
 *     Without it, mpirun reports an abnormal end.
 *
 * When MPI had the library alone and has ended it already, it cannot be used any more: PMIx 4.2 mixes up values after a second
 * Init.  MPI is asked for that.
 *
 * A fence that a rank's goodbye hits ends as "partial": it is begun again, and the time-out tells who is missing.
 *
 * Every rank puts a mark before it waits at a fence: so those who have waited in vain can tell who is missing.
 * What is given up stays pending in the library: it ends in memory that belongs to it, not to us.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/boot.h"
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROBE_S 1    /* to ask who has come */
#define NAMED_MAX 16 /* ranks in an error */

/* ---- the part of PMIx's interface that is used here ---- */

struct pmix_proc {
    char nspace[256];
    uint32_t rank;
};
struct pmix_value {
    uint16_t type;
    union {
        bool flag;
        int integer;
        struct {
            char *bytes;
            size_t size;
        } bo;
        struct {
            char *envar, *value;
            char separator;
        } largest;
    } data;
};
struct pmix_info {
    char key[512];
    uint32_t flags;
    struct pmix_value value;
};
static_assert(sizeof(struct pmix_proc) == 260 && sizeof(struct pmix_value) == 32 &&
                  sizeof(struct pmix_info) == 552,
              "layout of libpmix.so.2 on 64-bit machines");

enum {
    PMIX_SUCCESS = 0,
    PMIX_ERR_TIMEOUT = -24,
    PMIX_ERR_NOMEM = -32,
    PMIX_ERR_NOT_FOUND = -46,
    PMIX_ERR_PARTIAL_SUCCESS = -52,
    PMIX_OPERATION_SUCCEEDED = -157
};
enum { PMIX_BOOL = 1, PMIX_INT = 6, PMIX_BYTE_OBJECT = 27 };
enum { PMIX_GLOBAL = 3 };
#define PMIX_RANK_WILDCARD (UINT32_MAX - 1)

struct library {
    int (*init)(struct pmix_proc *, struct pmix_info *, size_t);
    int (*finalize)(const struct pmix_info *, size_t);
    int (*put)(uint8_t, const char *, struct pmix_value *);
    int (*commit)(void);
    int (*fence_nb)(const struct pmix_proc *, size_t, const struct pmix_info *, size_t,
                    void (*)(int, void *), void *);
    int (*get)(const struct pmix_proc *, const char *, const struct pmix_info *, size_t,
               struct pmix_value **);
    int (*get_nb)(const struct pmix_proc *, const char *, const struct pmix_info *, size_t,
                  void (*)(int, struct pmix_value *, void *), void *);
    const char *(*error_string)(int);
};

static const struct {
    const char *name;
    size_t at;
} symbols[] = {
    { "PMIx_Init", offsetof(struct library, init) },
    { "PMIx_Finalize", offsetof(struct library, finalize) },
    { "PMIx_Put", offsetof(struct library, put) },
    { "PMIx_Commit", offsetof(struct library, commit) },
    { "PMIx_Fence_nb", offsetof(struct library, fence_nb) },
    { "PMIx_Get", offsetof(struct library, get) },
    { "PMIx_Get_nb", offsetof(struct library, get_nb) },
    { "PMIx_Error_string", offsetof(struct library, error_string) },
};

/* The library has threads and handlers at exit: it stays once it is there. */
static int library_open(struct library *ret, struct ty_error *err)
{
    void *so =
        FAULT("pmix.dlopen", NULL, dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
    const char *why = so ? NULL : dlerror();

    if (!so)
        return ty_error_set(
            err, -ENOENT,
            "this process was started by a PMIx server, but libpmix.so.2 cannot be opened: %s "
            "(Debian: apt install libpmix2)",
            why ? why : "not found");
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(so, symbols[i].name);

        if (!f) {
            dlclose(so);
            return ty_error_set(err, -ENOENT, "libpmix.so.2 has no function %s", symbols[i].name);
        }
        memcpy((char *)ret + symbols[i].at, &f, sizeof f);
    }
    dlclose(so);
    return 0;
}

/* ---- the exchange ---- */

struct pmix {
    struct library lib;
    struct pmix_proc me;
    int size;
    unsigned epoch, fences;
};

static int failed(const struct pmix *x, int status, struct ty_error *err, const char *what)
{
    return ty_error_set(err, status == PMIX_ERR_TIMEOUT ? -ETIMEDOUT : -EIO,
                        "%s through PMIx: %s (%d)", what, x->lib.error_string(status), status);
}

static char *key_of(const struct pmix *x, const char *key)
{
    return ty_strf("trainyard.%u.%s", x->epoch, key);
}

static int pmix_put(void *ctx, const char *key, const void *value, size_t n, struct ty_error *err)
{
    struct pmix *x = ctx;
    CLEANUP_FREE char *name = key_of(x, key);
    CLEANUP_FREE char *bytes = malloc(n ? n : 1);
    struct pmix_value v = { .type = PMIX_BYTE_OBJECT, .data.bo = { bytes, n } };
    int s;

    if (!name || !bytes)
        return ty_error_oom(err);
    if (n)
        memcpy(bytes, value, n);
    s = FAULT("pmix.put", PMIX_ERR_NOT_FOUND, x->lib.put(PMIX_GLOBAL, name, &v));
    return s == PMIX_SUCCESS ? 0 : failed(x, s, err, "cannot tell the other ranks about this one");
}

/* ---- waiting ---- */

/* Shared by the one who waits and the library's thread; the last of them frees it. */
struct wait {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int users, pending;
    struct pmix_info info; /* what the call was given, which the library may read until its end */
    char mark[64];
    struct slot {
        struct wait *wait;
        bool done;
        int status;
    } slots[];
};

static struct wait *wait_new(int n)
{
    struct wait *w = FAULT("pmix.wait", NULL, calloc(1, sizeof *w + (size_t)n * sizeof *w->slots));
    pthread_condattr_t a;

    if (!w)
        return NULL;
    w->users = n + 1;
    w->pending = n;
    for (int i = 0; i < n; i++)
        w->slots[i].wait = w;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &a);
    pthread_condattr_destroy(&a);
    return w;
}

/* With the mutex, which is gone afterwards. */
static void wait_leave(struct wait *w)
{
    bool last = --w->users == 0;

    pthread_mutex_unlock(&w->mutex);
    if (!last)
        return;
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

static void on_end(int status, void *ctx)
{
    struct slot *slot = ctx;
    struct wait *w = slot->wait;

    pthread_mutex_lock(&w->mutex);
    slot->done = true;
    slot->status = status;
    if (--w->pending == 0)
        pthread_cond_signal(&w->cond);
    wait_leave(w);
}

static void on_value(int status, struct pmix_value *value, void *ctx)
{
    (void)value; /* the library's */
    on_end(status, ctx);
}

/* Until all have ended or the time is over; returns with the mutex held, for wait_leave. */
static void wait_until(struct wait *w, int64_t until_us)
{
    struct timespec t = { .tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000 };

    pthread_mutex_lock(&w->mutex);
    while (w->pending > 0 && pthread_cond_timedwait(&w->cond, &w->mutex, &t) == 0)
        ;
}

/* ---- the fence ---- */

static void mark_of(const struct pmix *x, char mark[64])
{
    snprintf(mark, 64, "trainyard.%u/fence.%u", x->epoch, x->fences);
}

static int put_mark(struct pmix *x)
{
    struct pmix_value here = { .type = PMIX_BOOL, .data.flag = true };
    char mark[64];
    int s;

    mark_of(x, mark);
    s = x->lib.put(PMIX_GLOBAL, mark, &here);
    return s == PMIX_SUCCESS ? FAULT("pmix.commit", PMIX_ERR_NOT_FOUND, x->lib.commit()) : s;
}

/* PMIX_ERR_TIMEOUT: it stays pending. */
static int fence_once(struct pmix *x, int64_t until_us)
{
    struct pmix_proc all = x->me;
    struct wait *w = wait_new(1);
    int s;

    if (!w)
        return PMIX_ERR_NOMEM;
    all.rank = PMIX_RANK_WILDCARD;
    w->info = (struct pmix_info){ .key = "pmix.collect",
                                  .value = { .type = PMIX_BOOL, .data.flag = true } };
    s = x->lib.fence_nb(&all, 1, &w->info, 1, on_end, &w->slots[0]);
    if (s != PMIX_SUCCESS)
        on_end(s == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : s,
               &w->slots[0]); /* nobody else will */
    wait_until(w, until_us);
    s = w->slots[0].done ? w->slots[0].status : PMIX_ERR_TIMEOUT;
    wait_leave(w);
    return s;
}

/* Ask for the mark of every rank at once. */
static struct wait *ask_for_marks(struct pmix *x)
{
    struct pmix_proc p = x->me;
    struct wait *w = wait_new(x->size);

    if (!w)
        return NULL;
    mark_of(x, w->mark);
    w->info = (struct pmix_info){ .key = "pmix.timeout",
                                  .value = { .type = PMIX_INT, .data.integer = PROBE_S } };
    for (int i = 0; i < x->size; i++) {
        int s;

        p.rank = (uint32_t)i;
        s = x->lib.get_nb(&p, w->mark, &w->info, 1, on_value, &w->slots[i]);
        if (s != PMIX_SUCCESS)
            on_end(s == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : s, &w->slots[i]);
    }
    return w;
}

static int missing(struct pmix *x, int timeout_ms, struct ty_error *err)
{
    CLEANUP_STR struct ty_str names = { 0 };
    struct wait *w = ask_for_marks(x);
    int n = 0;

    if (!w)
        return ty_error_oom(err);
    wait_until(w, ty_mono_us() + PROBE_S * 1500000);
    for (int i = 0; i < x->size; i++)
        if (!w->slots[i].done || w->slots[i].status != PMIX_SUCCESS)
            if (n++ < NAMED_MAX)
                ty_str_addf(&names, "%s%d", n == 1 ? "" : ", ", i);
    wait_leave(w);
    if (n > NAMED_MAX)
        ty_str_addf(&names, " and %d more", n - NAMED_MAX);
    if (names.failed)
        return ty_error_oom(err);
    if (n == 0)
        return ty_error_set(err, -ETIMEDOUT,
                            "the %d ranks have not found each other through PMIx within %d s",
                            x->size, (timeout_ms + 999) / 1000);
    return ty_error_set(err, -ETIMEDOUT, "rank%s %s of %d %s not come within %d s",
                        n > 1 ? "s" : "", names.text, x->size, n > 1 ? "have" : "has",
                        (timeout_ms + 999) / 1000);
}

static int pmix_fence(void *ctx, int timeout_ms, struct ty_error *err)
{
    struct pmix *x = ctx;
    int64_t until_us = ty_mono_us() + (int64_t)timeout_ms * 1000;
    int s;

    x->fences++;
    s = put_mark(x);
    if (s != PMIX_SUCCESS)
        return failed(x, s, err, "cannot tell the other ranks about this one");
    do
        s = fence_once(x, until_us);
    while (s == PMIX_ERR_PARTIAL_SUCCESS && ty_mono_us() < until_us);
    if (s == PMIX_ERR_TIMEOUT)
        return missing(x, timeout_ms, err);
    return s == PMIX_SUCCESS ? 0 : failed(x, s, err, "cannot wait for the other ranks");
}

/* ---- reading ---- */

static int pmix_get(void *ctx, int rank, const char *key, void **ret, size_t *n,
                    struct ty_error *err)
{
    struct pmix *x = ctx;
    /* Everything has come with the fence. */
    struct pmix_info known = { .key = "pmix.optional",
                               .value = { .type = PMIX_BOOL, .data.flag = true } };
    struct pmix_proc p = x->me;
    CLEANUP_FREE char *name = key_of(x, key);
    struct pmix_value *v = NULL;
    int s;

    if (!name)
        return ty_error_oom(err);
    p.rank = (uint32_t)rank;
    s = FAULT("pmix.get", PMIX_ERR_TIMEOUT, x->lib.get(&p, name, &known, 1, &v));
    if (s == PMIX_ERR_NOT_FOUND)
        return ty_error_set(err, -ENOENT, "rank %d has put nothing under '%s'", rank, key);
    if (s != PMIX_SUCCESS || !v)
        return failed(x, s, err, "cannot read what another rank has told");
    if (v->type == PMIX_BYTE_OBJECT) {
        *ret = v->data.bo.bytes ? v->data.bo.bytes : calloc(1, 1);
        *n = v->data.bo.size;
        free(v);
        return 0;
    }
    free(v);
    return ty_error_set(err, -EPROTO, "rank %d has put something else under '%s'", rank, key);
}

/* ---- open and close ---- */

static void pmix_close(void *ctx)
{
    struct pmix *x = ctx;

    x->lib.finalize(NULL, 0);
    free(x);
}

/* Has MPI been here, and gone? */
static bool mpi_has_ended(void)
{
    void *so = dlopen("libmpi.so.40", RTLD_LAZY | RTLD_NOLOAD);
    void *f = dlsym(so ? so : RTLD_DEFAULT, "MPI_Finalized");
    int (*finalized)(int *), yes = 0;

    memcpy(&finalized, &f, sizeof f);
    if (f)
        finalized(&yes);
    if (so)
        dlclose(so);
    return yes;
}

static struct {
    pthread_mutex_t mutex;
    int (*finalize)(const struct pmix_info *, size_t); /* NULL: not held */
    pid_t pid;
    unsigned opens;
} held = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/* A forked child has the parent's connection to the server, but must not end it. */
static void at_exit(void)
{
    if (held.pid == getpid())
        held.finalize(NULL, 0);
}

/* One Init more than there are worlds, until the exit. */
static int hold(const struct library *lib, unsigned *epoch)
{
    struct pmix_proc me;
    int s = PMIX_SUCCESS;

    pthread_mutex_lock(&held.mutex);
    if (!held.finalize) {
        s = lib->init(&me, NULL, 0);
        if (s == PMIX_SUCCESS) {
            held.finalize = lib->finalize;
            held.pid = getpid();
            atexit(at_exit);
        }
    }
    *epoch = ++held.opens;
    pthread_mutex_unlock(&held.mutex);
    return s;
}

static bool is_held(void)
{
    bool yes;

    pthread_mutex_lock(&held.mutex);
    yes = held.finalize != NULL;
    pthread_mutex_unlock(&held.mutex);
    return yes;
}

/* The library is open and x->lib filled. */
static int enter(struct pmix *x, const struct ty_world *w, struct ty_error *err)
{
    int s = FAULT("pmix.init", PMIX_ERR_NOT_FOUND, x->lib.init(&x->me, NULL, 0));

    if (s != PMIX_SUCCESS)
        return failed(x, s, err, "cannot reach the launcher");
    if (x->me.rank == (uint32_t)w->rank) {
        s = hold(&x->lib, &x->epoch);
        if (s == PMIX_SUCCESS)
            return 0;
        x->lib.finalize(NULL, 0);
        return failed(x, s, err, "cannot reach the launcher");
    }
    x->lib.finalize(NULL, 0);
    return ty_error_set(
        err, -EINVAL,
        "the variables of %s say that this is rank %d, but its PMIx server says rank %u",
        w->launcher, w->rank, x->me.rank);
}

int ty_boot_pmix(const struct ty_world *w, struct ty_coll_boot *ret, struct ty_error *err)
{
    struct pmix *x;
    int r;

    if (!getenv("PMIX_NAMESPACE") || !getenv("PMIX_RANK"))
        return ty_error_set(
            err, -ENOENT,
            "this process was not started by a PMIx server (mpirun is one, and srun --mpi=pmix)");
    if (!is_held() && mpi_has_ended())
        return ty_error_set(
            err, -ENOENT,
            "MPI was used in this process and has ended, and PMIx cannot be begun again after that "
            "(call init before MPI_Finalize)");
    x = FAULT("pmix.alloc", NULL, calloc(1, sizeof *x));
    if (!x)
        return ty_error_oom(err);
    x->size = w->size;
    r = library_open(&x->lib, err);
    if (r == 0)
        r = enter(x, w, err);
    if (r < 0) {
        free(x);
        return r;
    }
    *ret = (struct ty_coll_boot){ x, pmix_put, pmix_fence, pmix_get, pmix_close };
    return 0;
}
