/* gpu.c - see gpu.h
 *
 * The path through the host, for one request:
 *   1. after `ready`, the stream copies the inputs into pinned memory
 *   2. a copy of the request, whose tensors are that memory, runs like any other of the host
 *   3. the stream copies the outputs, or the blocks that were made, to the GPU
 * The pinned memory is ordinary memory that CUDA has registered, not what cudaMallocHost gives: other ranks read it from
 * this process (the way "cma"), and a fork must not make its pages move under the GPU (MADV_DONTFORK).
 */
#include "coll/gpu.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/engine.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NAP_US 50 /* the shortest sleep between two looks at a stream, and the longest */
#define LONG_NAP_US 500
#define PINNED_STEP (4 << 20)
#define NICE 256 /* where tensors begin in scratch memory */

static size_t rounded(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- devices ---- */

int ty_gpu_failed(struct ty_gpu *g, const char *what, int device, int error)
{
    snprintf(g->text, sizeof g->text, "%s failed on GPU %d: %s", what, device,
             g->cuda.GetErrorString(error));
    g->cuda.GetLastError(); /* torch, on this thread, must not take it for its own */
    return error == TY_CUDA_NO_MEMORY ? -ENOMEM : -EIO;
}

int ty_gpu_open(const char *paths, struct ty_gpu **ret, struct ty_error *err)
{
    struct ty_gpu *g = FAULT("gpu.alloc", NULL, calloc(1, sizeof *g));
    int e = g ? ty_cuda_open(paths, &g->cuda, err) : ty_error_oom(err), r;

    if (e == 0) {
        r = g->cuda.GetDeviceCount(&g->ndevices);
        if (r != 0 || g->ndevices <= 0)
            e = ty_error_set(err, -ENODEV, "the CUDA runtime finds no GPU: %s",
                             r ? g->cuda.GetErrorString(r) : "there are none");
    }
    if (e == 0) {
        g->last = -1;
        g->have_nccl = ty_nccl_open(paths, &g->nccl, NULL) == 0;
        g->device =
            FAULT("gpu.alloc", NULL, calloc((size_t)g->ndevices, sizeof(struct ty_gpu_device *)));
        e = g->device ? 0 : ty_error_oom(err);
    }
    if (e < 0) {
        free(g);
        return e;
    }
    *ret = g;
    return 0;
}

static void unpin(struct ty_gpu *g)
{
    if (g->registered)
        g->cuda.HostUnregister(g->pinned);
    if (g->pinned)
        munmap(g->pinned, g->pinned_bytes);
    g->pinned = NULL;
    g->pinned_bytes = 0;
    g->registered = false;
}

struct ty_gpu *ty_gpu_free(struct ty_gpu *g)
{
    if (!g)
        return NULL;
    unpin(g);
    for (int i = 0; i < g->ndevices; i++) {
        struct ty_gpu_device *d = g->device[i];

        if (!d)
            continue;
        if (d->scratch)
            g->cuda.Free(d->scratch);
        if (d->done)
            g->cuda.EventDestroy(d->done);
        if (d->stream)
            g->cuda.StreamDestroy(d->stream);
        free(d);
    }
    free(g->device);
    free(g);
    return NULL;
}

int ty_gpu_need(struct ty_coll *c, int device, struct ty_error *err)
{
    if (!c->gpu && !c->no_gpu) {
        struct ty_gpu *g = NULL;
        int e = ty_gpu_open(c->cuda_path, &g, &c->no_gpu_why);

        if (e == -ENOMEM)
            return ty_error_oom(err);
        c->gpu = g;
        c->no_gpu = e;
    }
    if (c->no_gpu)
        return ty_error_set(err, -ENOTSUP, "cannot take tensors on a GPU: %s", c->no_gpu_why.text);
    if (device >= c->gpu->ndevices)
        return ty_error_set(err, -EINVAL,
                            "cannot take tensors on GPU %d: this process sees %d (numbered from 0)",
                            device, c->gpu->ndevices);
    return 0;
}

/* With the device current. */
static int new_device(struct ty_gpu *g, int device, struct ty_gpu_device **ret)
{
    struct ty_gpu_device *d = FAULT("gpu.alloc", NULL, calloc(1, sizeof *d));
    int e;

    if (!d)
        return -ENOMEM;
    d->index = device;
    e = g->cuda.StreamCreateWithFlags(&d->stream, TY_CUDA_NON_BLOCKING);
    if (e == 0)
        e = g->cuda.EventCreateWithFlags(&d->done, TY_CUDA_NO_TIMING);
    if (e != 0) {
        if (d->stream)
            g->cuda.StreamDestroy(d->stream);
        free(d);
        return ty_gpu_failed(g, "making a stream and an event", device, e);
    }
    *ret = g->device[device] = d;
    return 0;
}

int ty_gpu_use(struct ty_gpu *g, int device, struct ty_gpu_device **ret)
{
    int e = g->cuda.SetDevice(device);

    if (e != 0)
        return ty_gpu_failed(g, "cudaSetDevice", device, e);
    g->last = device;
    if (!g->device[device])
        return new_device(g, device, ret);
    *ret = g->device[device];
    return 0;
}

int ty_gpu_scratch(struct ty_gpu *g, struct ty_gpu_device *d, size_t bytes, void **ret)
{
    int e = 0;

    if (bytes > d->scratch_bytes) {
        g->cuda.Free(d->scratch);
        d->scratch = NULL;
        d->scratch_bytes = 0;
        e = g->cuda.Malloc(&d->scratch, bytes);
        if (e != 0)
            return ty_gpu_failed(g, "allocating scratch memory", d->index, e);
        d->scratch_bytes = bytes;
    }
    *ret = d->scratch;
    return 0;
}

int ty_gpu_block(struct ty_gpu *g, struct ty_gpu_device *d, struct ty_req *r, int i, size_t bytes)
{
    int e;

    r->got.device = TY_COLL_GPU(d->index);
    r->got.device_free = g->cuda.Free;
    e = g->cuda.Malloc(&r->got.data[i], bytes ? bytes : 1);
    return e ? ty_gpu_failed(g, "allocating memory for a result", d->index, e) : 0;
}

int ty_gpu_copy(struct ty_gpu *g, struct ty_gpu_device *d, void *to, const void *from, size_t bytes)
{
    int e = bytes ? g->cuda.MemcpyAsync(to, from, bytes, TY_CUDA_COPY_DEFAULT, d->stream) : 0;

    return e ? ty_gpu_failed(g, "copying a tensor", d->index, e) : 0;
}

int ty_gpu_after(struct ty_gpu *g, struct ty_gpu_device *d, const struct ty_req *r)
{
    int e = r->ready ? g->cuda.StreamWaitEvent(d->stream, r->ready, 0) : 0;

    return e ? ty_gpu_failed(g, "waiting for the caller's event", d->index, e) : 0;
}

/* ---- waiting ---- */

static bool world_broken(void *node)
{
    return ty_node_broken(node);
}

void ty_gpu_nap(struct ty_chan *ch, int k)
{
    struct ty_node *n = ch->node;
    int64_t us;

    if (k < n->spins) {
        ty_cpu_pause();
    } else if (k < n->spins + n->yields) {
        sched_yield();
    } else {
        us = NAP_US + (k - n->spins - n->yields);
        ty_node_sleep(n, world_broken, n, us < LONG_NAP_US ? us : LONG_NAP_US);
    }
}

int ty_gpu_mark(struct ty_gpu *g, struct ty_gpu_device *d)
{
    int e = g->cuda.EventRecord(d->done, d->stream);

    return e ? ty_gpu_failed(g, "recording an event", d->index, e) : 0;
}

int ty_gpu_reached(struct ty_gpu *g, struct ty_gpu_device *d)
{
    int e = g->cuda.EventQuery(d->done);

    if (e == TY_CUDA_NOT_READY) {
        g->cuda.GetLastError(); /* it counts as an error */
        return 0;
    }
    return e ? ty_gpu_failed(g, "an operation or what came before it", d->index, e) : 1;
}

/* Copies end by themselves, and nothing may be freed before: whatever happens to the world. */
static int wait_for_copies(struct ty_gpu *g, struct ty_gpu_device *d, struct ty_chan *ch)
{
    int e = ty_gpu_mark(g, d);

    for (int k = 0; e == 0; k++) {
        e = ty_gpu_reached(g, d);
        if (e == 0)
            ty_gpu_nap(ch, k);
    }
    return e < 0 ? e : 0;
}

/* ---- through the host ---- */

static int need_pinned(struct ty_gpu *g, size_t bytes)
{
    void *p;

    if (bytes <= g->pinned_bytes)
        return 0;
    unpin(g);
    bytes = rounded(bytes, PINNED_STEP);
    p = FAULT("gpu.pinned", MAP_FAILED,
              mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (p == MAP_FAILED)
        return -ENOMEM;
    madvise(p, bytes, MADV_DONTFORK);
    g->pinned = p;
    g->pinned_bytes = bytes;
    /* Where it cannot be pinned (a limit on locked memory), copies are slower and still right. */
    g->registered = g->cuda.HostRegister(p, bytes, TY_CUDA_PORTABLE) == 0;
    if (!g->registered)
        g->cuda.GetLastError();
    return 0;
}

static bool makes_blocks(const struct ty_req *r)
{
    return r->kind == TY_COLL_ALLGATHER || r->kind == TY_COLL_ALLTOALL;
}

static size_t out_bytes(const struct ty_req *r, const struct ty_seg *s)
{
    int n = r->ch->n, me = r->ch->me;

    if (makes_blocks(r))
        return 0;
    if (r->kind == TY_COLL_REDUCESCATTER)
        return (size_t)((ty_first_row(s->dims[0], n, me + 1) - ty_first_row(s->dims[0], n, me)) *
                        ty_seg_row(s)) *
               r->size;
    return (size_t)s->count * r->size;
}

/* seg[]: where the tensors of r lie in memory of the host; how many bytes that takes.  Outputs take the place of inputs where
 * the engine works in place. */
static size_t lay_out(const struct ty_req *r, struct ty_seg *seg, unsigned char *base)
{
    size_t at = 0;

    for (int i = 0; i < r->nsegs; i++) {
        seg[i] = r->seg[i];
        seg[i].in = base ? base + at : NULL;
        at += rounded((size_t)seg[i].count * r->size, NICE);
        if (makes_blocks(r))
            continue;
        seg[i].out = seg[i].in;
        if (r->kind == TY_COLL_REDUCESCATTER) {
            seg[i].out = base ? base + at : NULL;
            at += rounded(out_bytes(r, &seg[i]), NICE);
        }
    }
    return at;
}

static int copy_down(struct ty_gpu *g, struct ty_gpu_device *d, const struct ty_req *r,
                     const struct ty_seg *host)
{
    bool reads = r->kind != TY_COLL_BROADCAST || r->ch->world[r->ch->me] == r->root;
    int e = ty_gpu_after(g, d, r);

    for (int i = 0; e == 0 && reads && i < r->nsegs; i++)
        e = ty_gpu_copy(g, d, host[i].in, r->seg[i].in, (size_t)r->seg[i].count * r->size);
    /* What has been begun must end, whatever came after it. */
    return wait_for_copies(g, d, r->ch) < 0 && e == 0 ? -EIO : e;
}

/* The blocks of `host` as blocks of r on the GPU. */
static int move_blocks(struct ty_gpu *g, struct ty_gpu_device *d, struct ty_req *r,
                       struct ty_req *host)
{
    int each = host->got.nrows / r->nsegs, e = 0;

    r->got.rows = host->got.rows;
    r->got.nrows = host->got.nrows;
    host->got.rows = NULL;
    r->got.data = calloc((size_t)r->nsegs + 1, sizeof *r->got.data);
    if (!r->got.data)
        return -ENOMEM;
    for (int i = 0; e == 0 && i < r->nsegs; i++) {
        int64_t rows = 0;
        size_t bytes;

        for (int k = each * i; k < each * (i + 1); k++)
            rows += r->got.rows[k];
        bytes = (size_t)(rows * ty_seg_row(&r->seg[i])) * r->size;
        e = ty_gpu_block(g, d, r, i, bytes);
        if (e == 0)
            e = ty_gpu_copy(g, d, r->got.data[i], host->got.data[i], bytes);
    }
    return e;
}

static int copy_up(struct ty_gpu *g, struct ty_gpu_device *d, struct ty_req *r, struct ty_req *host)
{
    int e = 0;

    if (makes_blocks(r))
        e = move_blocks(g, d, r, host);
    else
        for (int i = 0; e == 0 && i < r->nsegs; i++)
            e = ty_gpu_copy(g, d, r->seg[i].out, host->seg[i].out, out_bytes(r, &r->seg[i]));
    return wait_for_copies(g, d, r->ch) < 0 && e == 0 ? -EIO : e;
}

static int run_host(struct ty_coll *c, struct ty_req *r)
{
    struct ty_gpu *g = c->gpu;
    struct ty_req host;
    struct ty_gpu_device *d = NULL;
    int e;

    ty_req_alias(&host, r);
    host.device = -1;
    if (r->zeros) /* they are in memory of the host */
        return ty_engine_execute(c, &host);
    host.seg = malloc((size_t)r->nsegs * sizeof *host.seg);
    e = host.seg ? need_pinned(g, lay_out(r, host.seg, NULL)) : -ENOMEM;
    if (e == 0)
        e = ty_gpu_use(g, r->device, &d);
    if (e == 0) {
        lay_out(r, host.seg, g->pinned);
        e = copy_down(g, d, r, host.seg);
    }
    if (e == 0)
        e = ty_engine_execute(c, &host);
    if (e == 0)
        e = copy_up(g, d, r, &host);
    r->path = TY_PATH_HOST;
    ty_coll_result_done(&host.got);
    free(host.seg);
    return e;
}

/* ---- which way ---- */

/* This rank's GPU for a request list; one that has joined takes the one it used before. */
static int device_of(const struct ty_coll *c, struct ty_req *const *req, int m)
{
    for (int i = 0; i < m; i++)
        if (!req[i]->zeros)
            return req[i]->device;
    return c->gpu ? c->gpu->last : -1;
}

static int settle(struct ty_coll *c, struct ty_chan *ch, int device)
{
    const char *wanted = getenv("TRAINYARD_COLL_NCCL");
    struct ty_comm_why why = { "" };
    int e = ty_comm_settle(c->gpu, ch, device, &why);
    char line[320];

    if (e < 0 || !ch->comm_settled || ch->comm || ch->me != 0 || ch->n == 1 ||
        (wanted && strcmp(wanted, "none") == 0))
        return e;
    snprintf(line, sizeof line,
             "tensors on GPUs of process set %d go through memory of the host, which is slower: %s",
             ch->id, why.text);
    ty_engine_warn(c, line);
    return e;
}

static int run(struct ty_coll *c, struct ty_req *const *req, int m)
{
    struct ty_chan *ch = req[0]->ch;
    int e = 0;

    if (!ch->comm_settled)
        e = settle(c, ch, device_of(c, req, m));
    for (int i = 0, n; e == 0 && i < m; i += n) {
        bool serves = ch->comm && ty_nccl_serves(req[i], ch->n);

        for (n = 1; serves && i + n < m && ty_nccl_serves(req[i + n], ch->n);)
            n++;
        e = serves ? ty_comm_run(c->gpu, ch, req + i, n) : run_host(c, req[i]);
    }
    return e;
}

int ty_gpu_run(struct ty_coll *c, struct ty_req *const *req, int m)
{
    struct ty_gpu *g = c->gpu;
    int before = -1, e;

    /* A caller's thread keeps its current device.  The engine's own has none that it should go back to: to name one can
     * make a context on it. */
    if (g && !c->own_turn && g->cuda.GetDevice(&before) != 0)
        before = -1;
    if (g)
        g->text[0] = 0;
    e = run(c, req, m);
    if (before >= 0)
        g->cuda.SetDevice(before);
    if (e < 0 && g && g->text[0])
        snprintf(c->trouble, sizeof c->trouble, "%s", g->text);
    return e;
}

/* ---- asked from outside ---- */

int ty_coll_gpu_ready(struct ty_coll *c, struct ty_error *err)
{
    int e;

    if (c->forked)
        return ty_error_set(err, -ENOTSUP,
                            "a forked child cannot use the collectives of its parent");
    pthread_mutex_lock(&c->lock);
    e = ty_gpu_need(c, 0, err);
    pthread_mutex_unlock(&c->lock);
    return e;
}

int ty_coll_cuda_found(const char *cuda_path, struct ty_error *err)
{
    struct ty_cuda cuda;

    return ty_cuda_open(cuda_path, &cuda, err);
}

int ty_coll_nccl_found(const char *cuda_path, int *version, struct ty_error *err)
{
    struct ty_nccl nccl;
    int e = ty_nccl_open(cuda_path, &nccl, err);

    if (e == 0)
        *version = nccl.version;
    return e;
}
