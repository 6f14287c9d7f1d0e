/* plan.c - the table of algorithms, and ranges cut into blocks */
#include "coll/plan.h"
#include "coll/plan_kinds.h"
#include <assert.h>
#include <stddef.h>

static const struct {
    const char *word;
    const struct ty_plan_algorithm *does;
} kinds[] = {
    [TY_PLAN_RECURSIVE_DOUBLING] = { "rd", &ty_plan_rdouble },
    [TY_PLAN_HALVING_DOUBLING] = { "hd", &ty_plan_halving },
    [TY_PLAN_RING] = { "ring", &ty_plan_ring },
};
static_assert(sizeof kinds / sizeof *kinds == TY_PLAN_KINDS, "a plan has no algorithm");

const char *ty_plan_word(enum ty_plan_kind kind)
{
    return (unsigned)kind < TY_PLAN_KINDS ? kinds[kind].word : NULL;
}

struct ty_range ty_range_block(struct ty_range r, int parts, int b)
{
    int64_t each = r.count / parts, more = r.count % parts;

    return (struct ty_range){
        .at = r.at + b * each + (b < more ? b : more),
        .count = each + (b < more),
    };
}

static struct ty_range between(struct ty_range r, int parts, int first, int last)
{
    struct ty_range a = ty_range_block(r, parts, first), b = ty_range_block(r, parts, last);

    return (struct ty_range){ .at = a.at, .count = b.at + b.count - a.at };
}

void ty_range_blocks(struct ty_range r, int parts, int first, int run, struct ty_range ret[2])
{
    int over;

    first %= parts;
    over = first + run - parts;
    ret[0] = between(r, parts, first, over > 0 ? parts - 1 : first + run - 1);
    ret[1] = over > 0 ? between(r, parts, 0, over - 1) : (struct ty_range){ 0 };
}

int ty_plan_steps(const struct ty_plan *p)
{
    return p->n < 2 || p->count < 1 ? 0 : kinds[p->kind].does->steps(p);
}

void ty_plan_step(const struct ty_plan *p, int k, struct ty_step *ret)
{
    *ret = (struct ty_step){ .to = -1, .from = -1 };
    kinds[p->kind].does->step(p, k, ret);
    if (ret->send[0].count + ret->send[1].count == 0)
        ret->to = -1;
    if (ret->recv[0].count + ret->recv[1].count == 0)
        ret->from = -1;
    if (ret->from < 0)
        ret->use = TY_STEP_NOTHING;
}
