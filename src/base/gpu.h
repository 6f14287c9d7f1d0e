/* gpu.h - the GPUs of this box, asked through NVML, NVIDIA's library that comes with the driver
 *
 * The library is opened at run time: the build needs no CUDA, and a box without a driver has no GPU.  It is loaded once and stays
 * initialised until ty_gpu_release(); after an answer that says that the driver went away (an upgrade, a reset) it is loaded anew.
 * A library that lacks a function, or a GPU that has fallen off the bus, gives less, never a crash.  Of a GPU that is divided
 * (MIG), its parts are listed in its stead: nobody can compute on the whole.
 *
 * A call may take as long as the driver likes (a second where it is not kept loaded): not for a loop that serves others.
 * Thread-safe.
 */
#ifndef TY_GPU_H
#define TY_GPU_H
#include <stdbool.h>
#include <stdint.h>

#define TY_GPU_MAX 256 /* of one box; more are not listed */
#define TY_GPU_TEXT 96
#define TY_GPU_UNKNOWN (-1)

struct ty_gpu {
    int index;  /* in the order of the PCI bus, from 0; that of the whole GPU for a part of it */
    bool part;  /* of a divided GPU: CUDA_VISIBLE_DEVICES takes its uuid alone */
    char uuid[TY_GPU_TEXT]; /* "GPU-8d6c..." or "MIG-..." */
    char name[TY_GPU_TEXT]; /* "NVIDIA H100 80GB HBM3"; "" unknown */
    int64_t memory_mb;      /* 0: unknown */
    /* At the time of asking; TY_GPU_UNKNOWN where the driver does not say. */
    int64_t memory_used_mb;
    int utilization_percent, temperature_c;
    double power_watts;
};
struct ty_gpu_driver {
    char version[TY_GPU_TEXT]; /* "550.54.15"; "" without a driver */
    char cuda[16];             /* the newest that it serves, "12.4"; "" unknown */
};

/* 0: *ret (free it; NULL for none) and *n are the GPUs that can be used; or -ENOMEM.  No driver is no error: *n is 0. */
int ty_gpu_list(struct ty_gpu **ret, int *n);
void ty_gpu_driver(struct ty_gpu_driver *ret);
/* Let go of the driver, so that somebody may exchange it; the next call takes it up again. */
void ty_gpu_release(void);
#endif
