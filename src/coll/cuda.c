/* cuda.c - see cuda.h */
#include "coll/cuda.h"
#include "coll/so.h"

static const char *const names[] = { "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0",
                                     NULL };
static const struct ty_so so = { "the CUDA runtime", "TRAINYARD_COLL_CUDART", "libcudart", names };

static const struct ty_so_call calls[] = {
#define X(type, name, args) { "cuda" #name, offsetof(struct ty_cuda, name) },
    TY_CUDA_CALLS(X)
#undef X
};

int ty_cuda_open(const char *paths, struct ty_cuda *ret, struct ty_error *err)
{
    struct ty_cuda found;
    void *handle = NULL;
    int e = ty_so_open(&so, paths, &handle, err);

    if (e == 0)
        e = ty_so_fill(&so, handle, calls, sizeof calls / sizeof calls[0], &found, err);
    if (e == 0)
        *ret = found;
    return e;
}
