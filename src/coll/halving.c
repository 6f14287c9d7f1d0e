/* halving.c - reduce-scatter by halves, then the same way back: 2(n-1)/n of the buffer in 2 ceil(log2 n) steps, for any n
 *
 * Let n = 2^a m, m odd; ranks r = 2^a g + l form m groups of 2^a neighbours.
 *
 *   halves  a steps in the group, nearest first: with the rank whose l differs in bit i, half of what is left is
 *           exchanged; who has the bit 0 keeps the lower half.  Afterwards the ranks of equal l, one in each group,
 *           share the same range.
 *   hops    ceil(log2 m) steps among those: the range is m blocks, block g is to end in group g.  With s' = ceil(s/2),
 *           from s = m down to 1, group g sends what it has of the blocks g+s' .. g+s-1 to group g+s' and receives
 *           blocks g .. g+s-s'-1 from group g-s'.  What a group sends is never looked at again before the way back.
 *   back    the steps in reverse order and direction, whole blocks instead of sums.
 *
 * n a power of 2 has no hops; n odd has nothing else.  Each element becomes whole on one rank and is then copied.
 * The largest messages go to the nearest ranks, which often share a switch.
 */
#include "coll/plan_kinds.h"

struct shape {
    int halves, hops, groups; /* a, ceil(log2 m), m */
};

static struct shape shape_of(int n)
{
    struct shape s = { .halves = __builtin_ctz((unsigned)n) };

    s.groups = n >> s.halves;
    while (1 << s.hops < s.groups)
        s.hops++;
    return s;
}

static int steps(const struct ty_plan *p)
{
    struct shape s = shape_of(p->n);

    return 2 * (s.halves + s.hops);
}

/* What is left to this rank when `done` halvings are done. */
static struct ty_range left_after(const struct ty_plan *p, int done)
{
    struct ty_range r = { 0, p->count };

    for (int i = 0; i < done; i++)
        r = ty_range_block(r, 2, p->rank >> i & 1);
    return r;
}

static void half(const struct ty_plan *p, int i, bool back, struct ty_step *ret)
{
    struct ty_range all = left_after(p, i);
    int bit = p->rank >> i & 1;
    struct ty_range mine = ty_range_block(all, 2, bit), other = ty_range_block(all, 2, !bit);

    ret->to = ret->from = p->rank ^ 1 << i;
    ret->send[0] = back ? mine : other;
    ret->recv[0] = back ? other : mine;
}

static void hop(const struct ty_plan *p, struct shape s, int i, bool back, struct ty_step *ret)
{
    struct ty_range all = left_after(p, s.halves), far[2], near[2];
    int m = s.groups, g = p->rank >> s.halves, l = p->rank & ((1 << s.halves) - 1);
    int reach = m, next = (m + 1) / 2;

    for (; i > 0; i--) {
        reach = next;
        next = (reach + 1) / 2;
    }
    int up = ((g + next) % m) << s.halves | l, down = ((g + m - next) % m) << s.halves | l;

    ty_range_blocks(all, m, g + next, reach - next, far);
    ty_range_blocks(all, m, g, reach - next, near);
    ret->to = back ? down : up;
    ret->from = back ? up : down;
    for (int j = 0; j < 2; j++) {
        ret->send[j] = back ? near[j] : far[j];
        ret->recv[j] = back ? far[j] : near[j];
    }
}

static void step(const struct ty_plan *p, int k, struct ty_step *ret)
{
    struct shape s = shape_of(p->n);
    int way = s.halves + s.hops;
    bool back = k >= way;
    int i = back ? 2 * way - 1 - k : k;

    if (i < s.halves)
        half(p, i, back, ret);
    else
        hop(p, s, i - s.halves, back, ret);
    ret->use = back ? TY_STEP_STORE : TY_STEP_REDUCE;
}

const struct ty_plan_algorithm ty_plan_halving = { steps, step };
