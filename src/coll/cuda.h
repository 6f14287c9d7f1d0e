/* cuda.h - the few functions of the CUDA runtime that the engine uses, declared here and found at run time
 *
 * Streams and events are pointers that the runtime and the driver share, so those of another copy of the runtime (torch's)
 * serve as well.  Every function but the first returns 0 or a number of CUDA's.
 */
#ifndef TY_COLL_CUDA_H
#define TY_COLL_CUDA_H
#include <stddef.h>
#include <trainyard/error.h>

enum {
    TY_CUDA_NO_MEMORY = 2,
    TY_CUDA_NOT_READY = 600,
    TY_CUDA_COPY_DEFAULT = 4,   /* cudaMemcpyDefault: the addresses say which memory is where */
    TY_CUDA_NON_BLOCKING = 1,   /* cudaStreamNonBlocking: no order with the default stream */
    TY_CUDA_NO_TIMING = 2,      /* cudaEventDisableTiming */
    TY_CUDA_PORTABLE = 1        /* cudaHostRegisterPortable: pinned for all GPUs */
};

#define TY_CUDA_CALLS(X) \
    X(const char *, GetErrorString, (int error)) \
    X(int, GetLastError, (void)) \
    X(int, GetDeviceCount, (int *n)) \
    X(int, GetDevice, (int *device)) \
    X(int, SetDevice, (int device)) \
    X(int, DeviceGetPCIBusId, (char *id, int cap, int device)) \
    X(int, StreamCreateWithFlags, (void **stream, unsigned flags)) \
    X(int, StreamDestroy, (void *stream)) \
    X(int, StreamWaitEvent, (void *stream, void *event, unsigned flags)) \
    X(int, EventCreateWithFlags, (void **event, unsigned flags)) \
    X(int, EventDestroy, (void *event)) \
    X(int, EventRecord, (void *event, void *stream)) \
    X(int, EventQuery, (void *event)) \
    X(int, Malloc, (void **ret, size_t bytes)) \
    X(int, Free, (void *p)) \
    X(int, HostRegister, (void *p, size_t bytes, unsigned flags)) \
    X(int, HostUnregister, (void *p)) \
    X(int, MemcpyAsync, (void *to, const void *from, size_t bytes, int kind, void *stream))

struct ty_cuda {
#define X(type, name, args) type(*name) args;
    TY_CUDA_CALLS(X)
#undef X
};

/* paths: as for ty_so_open.  -ENOENT with text: no CUDA runtime, or one without a function that is needed. */
int ty_cuda_open(const char *paths, struct ty_cuda *ret, struct ty_error *err);
#endif
