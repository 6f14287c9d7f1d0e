/* gpu.h - tensors on GPUs: the devices of a context, and how an operation on them is run
 *
 * Where NCCL serves a process set and an operation (nccl.h), it moves the tensors.  Else they are copied into pinned memory of
 * the host, operated on there like any other, and copied back.  Each GPU has one stream of the engine's own; the operation
 * is complete on the GPU before a caller hears of its end, so nobody else needs to wait for that stream.
 *
 * Made under the engine's lock, used by the driver alone.
 */
#ifndef TY_COLL_GPU_H
#define TY_COLL_GPU_H
#include "coll/cuda.h"
#include "coll/nccl.h"
#include "coll/req.h"
#include <stdbool.h>
#include <trainyard/coll.h>
#include <trainyard/error.h>

struct ty_chan;

struct ty_gpu_device {
    int index;
    void *stream, *done; /* a stream and an event */
    void *scratch;       /* device memory that operations use one after another */
    size_t scratch_bytes;
};
struct ty_gpu {
    struct ty_cuda cuda;
    struct ty_nccl nccl;
    bool have_nccl;
    int ndevices;
    struct ty_gpu_device **device; /* [ndevices] NULL until used */
    int last;                      /* the device used last; -1: none */
    void *pinned;
    size_t pinned_bytes;
    bool registered; /* pinned is; else it is plain memory */
    char text[300];  /* what the last failure was */
};

/* -ENOENT with text: no CUDA runtime; -ENODEV: no GPU. */
int ty_gpu_open(const char *paths, struct ty_gpu **ret, struct ty_error *err);
struct ty_gpu *ty_gpu_free(struct ty_gpu *g); /* NULL is fine; returns NULL */

/* For a call on GPU `device`: open what is needed, once.  With the lock.  -ENOTSUP: no CUDA; -EINVAL: no such GPU. */
int ty_gpu_need(struct ty_coll *c, int device, struct ty_error *err);

/* Run requests of one channel (r->device >= 0): allreduces, or one of another kind.  Without the lock, by the driver. */
int ty_gpu_run(struct ty_coll *c, struct ty_req *const *req, int m);

/* ---- between gpu.c and nccl.c ---- */

/* -EIO or -ENOMEM, and g->text: "<what> failed on GPU 0: out of memory". */
int ty_gpu_failed(struct ty_gpu *g, const char *what, int device, int error);
/* The device, made when it is new; it is the calling thread's current one from now on. */
int ty_gpu_use(struct ty_gpu *g, int device, struct ty_gpu_device **ret);
int ty_gpu_scratch(struct ty_gpu *g, struct ty_gpu_device *d, size_t bytes, void **ret);
/* Device memory for a result of r: got->data[i], which ty_coll_result_done frees. */
int ty_gpu_block(struct ty_gpu *g, struct ty_gpu_device *d, struct ty_req *r, int i, size_t bytes);
int ty_gpu_copy(struct ty_gpu *g, struct ty_gpu_device *d, void *to, const void *from, size_t bytes);
/* The stream waits for what the caller of r does before. */
int ty_gpu_after(struct ty_gpu *g, struct ty_gpu_device *d, const struct ty_req *r);
/* Mark where the stream is now; has it come there?  1, 0 not yet, or -EIO. */
int ty_gpu_mark(struct ty_gpu *g, struct ty_gpu_device *d);
int ty_gpu_reached(struct ty_gpu *g, struct ty_gpu_device *d);
/* One more moment of a wait, the k-th: spins, yields, then sleeps until the world ends or some microseconds have gone. */
void ty_gpu_nap(struct ty_chan *ch, int k);
#endif
