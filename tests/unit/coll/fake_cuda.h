/* fake_cuda.h - what the stand-ins for CUDA and NCCL say to each other and to the test, beyond their real functions
 *
 * Device memory is a memory file that is mapped twice: at its address nothing may touch it (whoever takes it for memory of
 * the host dies), and at its alias the stand-in does.  A stream is a thread that does what is enqueued, in order, later:
 * forgotten waits show.  An event is complete when its stream has come to it.
 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H
#include <stdbool.h>
#include <stddef.h>

/* The alias of n bytes of device memory; NULL when they are not, or not on that device (-1: any). */
typedef void *fake_alias_fn(const void *p, size_t n, int device);
/* Enqueue: f(arg) on the stream's thread. */
typedef void fake_enqueue_fn(void *stream, void (*f)(void *arg), void *arg);

struct fake_counts {
    int streams, events, blocks, registered; /* that live */
    int copies, waits;                       /* that were made */
};
typedef struct fake_counts fake_counts_fn(void);

/* Of the stand-in for NCCL. */
struct fake_nccl_counts {
    int comms, ops; /* communicators that live; reduction operators that do */
    int calls, aborts, groups;
};
typedef struct fake_nccl_counts fake_nccl_counts_fn(void);
/* This process ends in the middle of its n-th group from now on, with exit code 0; 0: never. */
typedef void fake_nccl_die_fn(int n);
/* fake_nccl_tidy, of the same type as the next: the file of a unique id that nobody has used goes. */
/* fake_nccl_lose: the connections of this process are lost in its n-th group. */
/* The next CommInitRankConfig of this process fails. */
typedef void fake_nccl_refuse_fn(void);
#endif
