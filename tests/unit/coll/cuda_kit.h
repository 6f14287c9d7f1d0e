/* cuda_kit.h - what the tests of GPUs share: the stand-ins, memory on them, and by which way an operation went
 *
 * FAKE_CUDA and FAKE_NCCL are the files of the stand-ins.
 */
#ifndef TESTS_CUDA_KIT_H
#define TESTS_CUDA_KIT_H
#include "coll/cuda.h"
#include "coll/engine.h"
#include "coll/gpu.h"
#include "coll/so.h"
#include "fake_cuda.h"
#include "tests.h"
#include "values.h"
#include "world.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

/* What processes tell the test. */
struct told {
    _Atomic int visits, failed[WORLD_MAX];
};
/* What a world is told. */
struct plan {
    int device[WORLD_MAX];
    bool nccl;  /* what NCCL can do, it does */
    int refuse; /* 1 + the rank on which no communicator comes up; 0: none */
    const char *point; /* rank 1 fails here, at this visit */
    int visit;
    struct told *told; /* shared by processes */
};

static const struct plan apart = { .device = { 0, 1, 2, 3 }, .nccl = true };
static const struct plan together = { .device = { 1, 1, 1, 1 } };

/* ---- the GPU of a test ---- */

static inline struct ty_cuda cuda(void)
{
    struct ty_cuda ret;
    struct ty_error err;

    if (ty_cuda_open(NULL, &ret, &err) < 0) {
        printf("# %s\n", err.text);
        _exit(1);
    }
    return ret;
}

static inline void *stand_in(const char *file, const char *name)
{
    void *so = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    void *f = so ? dlsym(so, name) : NULL;

    if (!f)
        _exit(1);
    return f;
}

static inline void *alias(const void *p, size_t n)
{
    fake_alias_fn *f;

    *(void **)&f = stand_in(FAKE_CUDA, "fake_alias");
    return f(p, n, -1);
}

static inline struct fake_counts cuda_counts(void)
{
    fake_counts_fn *f;

    *(void **)&f = stand_in(FAKE_CUDA, "fake_counts");
    return f();
}

static inline struct fake_nccl_counts nccl_counts(void)
{
    fake_nccl_counts_fn *f;

    *(void **)&f = stand_in(FAKE_NCCL, "fake_nccl_counts");
    return f();
}

static inline int device_of(const struct world_rank *r)
{
    return ((const struct plan *)r->arg)->device[r->rank];
}

/* Memory on this rank's GPU; what it holds is read and written at its alias. */
static inline void *memory(struct world_rank *r, int device, size_t bytes)
{
    struct ty_cuda c = cuda();
    void *p = NULL;
    int before;

    CHECK(c.GetDevice(&before) == 0 && c.SetDevice(device) == 0);
    CHECK(c.Malloc(&p, bytes + 1) == 0);
    CHECK(c.SetDevice(before) == 0);
    return p;
}

static inline void release(struct world_rank *r, void *p)
{
    CHECK(cuda().Free(p) == 0);
}

static inline uint64_t path_ops(struct world_rank *r, int path)
{
    struct ty_coll_stats s;

    ty_coll_stats(r->c, &s);
    return s.path_ops[path];
}

/* `n` operations have been done since `before`, all by this way. */
static inline void went(struct world_rank *r, bool by_nccl, const uint64_t before[2], uint64_t n)
{
    const struct plan *p = r->arg;
    bool nccl = by_nccl && p->nccl;

    CHECK(path_ops(r, TY_PATH_NCCL) - before[0] == (nccl ? n : 0));
    CHECK(path_ops(r, TY_PATH_HOST) - before[1] == (nccl ? 0 : n));
}

static inline void note(struct world_rank *r, uint64_t before[2])
{
    before[0] = path_ops(r, TY_PATH_NCCL);
    before[1] = path_ops(r, TY_PATH_HOST);
}

static inline void run(struct world_rank *r, const struct ty_coll_call *call, struct ty_coll_result *ret)
{
    struct ty_error err = { 0 };
    int e = ty_coll_do(r->c, call, ret, &err);

    if (e < 0)
        fprintf(stderr, "%s\n", err.text);
    CHECK(e == 0);
}

/* A named sum of one int32_t. */
static inline struct ty_coll_call sum_of(struct world_rank *r, struct ty_coll_buf *b, int device)
{
    (void)r;
    return (struct ty_coll_call){ .kind = TY_COLL_ALLREDUCE,
                                  .name = "x",
                                  .dtype = TY_COLL_I32,
                                  .op = TY_COLL_SUM,
                                  .device = TY_COLL_GPU(device),
                                  .in = b,
                                  .out = b,
                                  .nbufs = 1 };
}
#endif
