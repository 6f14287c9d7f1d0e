/* boot_pmix.c - the exchange through PMIx, whose server mpirun or srun is
 *
 * libpmix is opened when it is needed, so that neither a build nor a host without MPI needs it.  The few types below are
 * the library's binary interface, which PMIx keeps from 3.0 to 5.0 (libpmix.so.2).
 *
 * Init and Finalize are counted by the library: it does not matter whether MPI is used in the same process, before or
 * after.  Keys outlive Finalize in the server, so a later world of this process must use others: each carries the number
 * of this open, which is equal on all ranks because every rank opens every world.  The library is one per process and so is
 * that number.
 *
 * A fence that is given up stays pending in the library: what its end writes to belongs to the fence, not to us.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include "coll/boot.h"
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

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
static_assert(sizeof(struct pmix_proc) == 260 && sizeof(struct pmix_value) == 32 && sizeof(struct pmix_info) == 552,
              "layout of libpmix.so.2 on 64-bit machines");

enum { PMIX_SUCCESS = 0, PMIX_ERR_TIMEOUT = -24, PMIX_ERR_NOT_FOUND = -46 };
enum { PMIX_BOOL = 1, PMIX_INT = 6, PMIX_UINT32 = 14, PMIX_BYTE_OBJECT = 27 };
enum { PMIX_GLOBAL = 3 };
#define PMIX_RANK_WILDCARD (UINT32_MAX - 1)

struct library {
    int (*init)(struct pmix_proc *, struct pmix_info *, size_t);
    int (*finalize)(const struct pmix_info *, size_t);
    int (*put)(uint8_t, const char *, struct pmix_value *);
    int (*commit)(void);
    int (*fence_nb)(const struct pmix_proc *, size_t, const struct pmix_info *, size_t, void (*)(int, void *), void *);
    int (*get)(const struct pmix_proc *, const char *, const struct pmix_info *, size_t, struct pmix_value **);
    const char *(*error_string)(int);
};

static const struct {
    const char *name;
    size_t at;
} symbols[] = {
    { "PMIx_Init", offsetof(struct library, init) },         { "PMIx_Finalize", offsetof(struct library, finalize) },
    { "PMIx_Put", offsetof(struct library, put) },           { "PMIx_Commit", offsetof(struct library, commit) },
    { "PMIx_Fence_nb", offsetof(struct library, fence_nb) }, { "PMIx_Get", offsetof(struct library, get) },
    { "PMIx_Error_string", offsetof(struct library, error_string) },
};

/* The library has threads and handlers at exit: it stays once it is there. */
static int library_open(struct library *ret, struct ty_error *err)
{
    void *so = FAULT("pmix.dlopen", NULL, dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
    const char *why = so ? NULL : dlerror();

    if (!so)
        return ty_error_set(err, -ENOENT, "this process was started by a PMIx server, but libpmix.so.2 cannot be opened: %s "
                            "(Debian: apt install libpmix2)", why ? why : "not found");
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
    unsigned epoch;
};

static int failed(const struct pmix *x, int status, struct ty_error *err, const char *what)
{
    return ty_error_set(err, status == PMIX_ERR_TIMEOUT ? -ETIMEDOUT : -EIO, "%s through PMIx: %s (%d)", what,
                        x->lib.error_string(status), status);
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

/* Shared by the one who waits and the library's thread; the last of them frees it. */
struct wait {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int users;
    bool done;
    int status;
};

static void wait_leave(struct wait *w) /* with the mutex */
{
    bool last = --w->users == 0;

    pthread_mutex_unlock(&w->mutex);
    if (!last)
        return;
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

static struct wait *wait_new(void)
{
    struct wait *w = calloc(1, sizeof *w);
    pthread_condattr_t a;

    if (!w)
        return NULL;
    w->users = 2;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &a);
    pthread_condattr_destroy(&a);
    return w;
}

static void fence_done(int status, void *ctx)
{
    struct wait *w = ctx;

    pthread_mutex_lock(&w->mutex);
    w->done = true;
    w->status = status;
    pthread_cond_signal(&w->cond);
    wait_leave(w);
}

/* 0, or -ETIMEDOUT. */
static int wait_for(struct wait *w, int timeout_ms, int *status)
{
    struct timespec t;
    int64_t end;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &t);
    end = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 + (int64_t)timeout_ms * 1000;
    t = (struct timespec){ .tv_sec = end / 1000000, .tv_nsec = end % 1000000 * 1000 };
    pthread_mutex_lock(&w->mutex);
    while (!w->done && r == 0)
        r = pthread_cond_timedwait(&w->cond, &w->mutex, &t);
    *status = w->status;
    r = w->done ? 0 : -ETIMEDOUT;
    wait_leave(w);
    return r;
}

static int pmix_fence(void *ctx, int timeout_ms, struct ty_error *err)
{
    struct pmix *x = ctx;
    struct pmix_info collect = { .key = "pmix.collect", .value = { .type = PMIX_BOOL, .data.flag = true } };
    struct pmix_proc all = x->me;
    struct wait *w;
    int s = FAULT("pmix.commit", PMIX_ERR_NOT_FOUND, x->lib.commit());

    if (s != PMIX_SUCCESS)
        return failed(x, s, err, "cannot tell the other ranks about this one");
    w = wait_new();
    if (!w)
        return ty_error_oom(err);
    all.rank = PMIX_RANK_WILDCARD;
    s = x->lib.fence_nb(&all, 1, &collect, 1, fence_done, w);
    if (s != PMIX_SUCCESS) {
        fence_done(s, w); /* nobody else will */
        wait_for(w, 0, &s);
        return failed(x, s, err, "cannot wait for the other ranks");
    }
    if (wait_for(w, timeout_ms, &s) < 0)
        return ty_error_set(err, -ETIMEDOUT, "not all of the %d ranks have come within %d s", x->size, timeout_ms / 1000);
    return s == PMIX_SUCCESS ? 0 : failed(x, s, err, "cannot wait for the other ranks");
}

static int pmix_get_raw(struct pmix *x, int rank, const char *name, bool local, struct pmix_value **ret)
{
    struct pmix_info quick = { .key = "pmix.optional", .value = { .type = PMIX_BOOL, .data.flag = true } };
    struct pmix_proc p = x->me;

    p.rank = (uint32_t)rank;
    return x->lib.get(&p, name, &quick, local, ret);
}

static int pmix_get(void *ctx, int rank, const char *key, void **ret, size_t *n, struct ty_error *err)
{
    struct pmix *x = ctx;
    CLEANUP_FREE char *name = key_of(x, key);
    struct pmix_value *v = NULL;
    int s;

    if (!name)
        return ty_error_oom(err);
    s = pmix_get_raw(x, rank, name, true, &v);
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

static void pmix_close(void *ctx)
{
    struct pmix *x = ctx;

    x->lib.finalize(NULL, 0);
    free(x);
}

/* The library is open and x->lib filled. */
static int enter(struct pmix *x, const struct ty_world *w, struct ty_error *err)
{
    static atomic_uint opens;
    int s = FAULT("pmix.init", PMIX_ERR_NOT_FOUND, x->lib.init(&x->me, NULL, 0));

    if (s != PMIX_SUCCESS)
        return failed(x, s, err, "cannot reach the launcher");
    if (x->me.rank != (uint32_t)w->rank) {
        x->lib.finalize(NULL, 0);
        return ty_error_set(err, -EINVAL, "the variables of %s say that this is rank %d, but its PMIx server says rank %u",
                            w->launcher, w->rank, x->me.rank);
    }
    x->size = w->size;
    x->epoch = atomic_fetch_add(&opens, 1) + 1;
    return 0;
}

int ty_boot_pmix(const struct ty_world *w, struct ty_coll_boot *ret, struct ty_error *err)
{
    struct pmix *x;
    int r;

    if (!getenv("PMIX_NAMESPACE") || !getenv("PMIX_RANK"))
        return ty_error_set(err, -ENOENT, "this process was not started by a PMIx server (mpirun is one, and srun --mpi=pmix)");
    x = FAULT("pmix.alloc", NULL, calloc(1, sizeof *x));
    if (!x)
        return ty_error_oom(err);
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
