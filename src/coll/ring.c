/* ring.c - each rank speaks to its two neighbours alone
 *
 * n blocks go round twice.  On the first round each gathers one more operand at every stop, and is whole after n-1 steps
 * on the rank before the one where it began; on the second round the whole blocks are copied.
 */
#include "coll/plan_kinds.h"

static int steps(const struct ty_plan *p)
{
    return 2 * (p->n - 1);
}

static void step(const struct ty_plan *p, int k, struct ty_step *ret)
{
    struct ty_range all = { 0, p->count };
    int n = p->n;
    bool gather = k >= n - 1;
    /* In the gather, rank r begins with block r+1, the one that it made whole. */
    int out = gather ? p->rank + 1 - (k - (n - 1)) : p->rank - k;
    int in = out - 1;

    ret->to = (p->rank + 1) % n;
    ret->from = (p->rank + n - 1) % n;
    ret->send[0] = ty_range_block(all, n, (out + n) % n);
    ret->recv[0] = ty_range_block(all, n, (in + n) % n);
    ret->use = gather ? TY_STEP_STORE : TY_STEP_REDUCE;
}

const struct ty_plan_algorithm ty_plan_ring = { steps, step };
