/* plan_kinds.h - what each algorithm gives to plan.c, and the arithmetic of blocks that they share
 *
 * Every function is called with n >= 2 and count >= 1.  `step` fills a step that is zeroed and whose to and from are -1;
 * it may leave a partner with an empty message: plan.c takes that away on both sides.
 */
#ifndef TY_COLL_PLAN_KINDS_H
#define TY_COLL_PLAN_KINDS_H
#include "coll/plan.h"

struct ty_plan_algorithm {
    int (*steps)(const struct ty_plan *p);
    void (*step)(const struct ty_plan *p, int k, struct ty_step *ret);
};
extern const struct ty_plan_algorithm ty_plan_rdouble, ty_plan_halving, ty_plan_ring;

/* Block b of `parts` of the range; the first blocks get the elements that are left over. */
struct ty_range ty_range_block(struct ty_range r, int parts, int b);
/* `run` blocks from block `first` on, going round after the last: one range or two. */
void ty_range_blocks(struct ty_range r, int parts, int first, int run, struct ty_range ret[2]);
#endif
