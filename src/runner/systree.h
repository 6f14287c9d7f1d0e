/* systree.h - how much CPU and memory each rank of a job uses, with all that descends from its wrapper
 *
 * To find descendants, the whole of /proc has to be read: on a machine with thousands of processes that costs much, and is done
 * less often there; in between, the processes that are known are looked at alone.
 */
#ifndef TY_SYSTREE_H
#define TY_SYSTREE_H
#include <stdint.h>
#include <sys/types.h>

#define TY_SYSTREE_MAX 16384 /* processes of a job on one machine that are looked at */

struct ty_systree_rank {
    int rank;
    pid_t wrapper;
    /* Of the last look. */
    uint64_t ticks; /* clock ticks of CPU so far, those of processes that have ended among them as far as somebody waited */
    int64_t resident_bytes; /* shared pages count in each process that has them */
    int processes;          /* 0: it has ended */
};
struct ty_systree;
/* `ranks` is borrowed and gets the numbers.  NULL: out of memory. */
struct ty_systree *ty_systree_new(struct ty_systree_rank *ranks, int n);
struct ty_systree *ty_systree_free(struct ty_systree *t);
/* Look again.  0 or a negative errno (no /proc, no memory): the numbers are 0 then. */
int ty_systree_look(struct ty_systree *t, int64_t now_us);
#endif
