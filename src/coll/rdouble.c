/* rdouble.c - recursive doubling: in step k, exchange everything with the rank whose number differs in bit k
 *
 * After step k a rank holds the sum over the 2^(k+1) ranks that share its upper bits, combined in the order of ranks: both
 * partners put the lower's sum first, so they hold the same bits, and so by induction do all ranks of the group.
 *
 * n no power of 2: of the first 2x ranks, x = n - 2^m, each even one hands its operand to its odd neighbour first, stays
 * out, and is given the result at the end.
 */
#include "coll/plan_kinds.h"

static int log2_floor(int n)
{
    return 31 - __builtin_clz((unsigned)n);
}

static int steps(const struct ty_plan *p)
{
    int m = log2_floor(p->n);

    return m + (p->n > 1 << m ? 2 : 0);
}

/* Ranks numbered without those that stay out. */
static int to_inner(int rank, int extra)
{
    return rank < 2 * extra ? rank / 2 : rank - extra;
}

static int from_inner(int inner, int extra)
{
    return inner < extra ? 2 * inner + 1 : inner + extra;
}

/* The first step (in: the pair's sum is made on its odd rank) or the last (the result goes back). */
static void pair(const struct ty_plan *p, bool in, struct ty_step *ret)
{
    struct ty_range all = { 0, p->count };
    bool even = p->rank % 2 == 0;

    if (even == in) {
        ret->to = p->rank ^ 1;
        ret->send[0] = all;
    } else {
        ret->from = p->rank ^ 1;
        ret->recv[0] = all;
        ret->use = in ? TY_STEP_REDUCE : TY_STEP_STORE;
    }
}

static void step(const struct ty_plan *p, int k, struct ty_step *ret)
{
    int extra = p->n - (1 << log2_floor(p->n));
    bool paired = p->rank < 2 * extra;

    if (extra) {
        if (k == 0 || k == steps(p) - 1) {
            if (paired)
                pair(p, k == 0, ret);
            return;
        }
        if (paired && p->rank % 2 == 0)
            return;
        k--;
    }
    ret->to = ret->from = from_inner(to_inner(p->rank, extra) ^ 1 << k, extra);
    ret->send[0] = ret->recv[0] = (struct ty_range){ 0, p->count };
    ret->use = TY_STEP_REDUCE;
}

const struct ty_plan_algorithm ty_plan_rdouble = { steps, step };
