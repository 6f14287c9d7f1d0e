/* plan.h - who sends which bytes to whom, step by step: the algorithms between nodes, as pure functions
 *
 * A plan is for one rank of n (here a rank is what speaks for its node) and a buffer of `count` elements.  Its steps are
 * asked for one by one; each may send one message, receive one message, and says what becomes of what was received.  The
 * executor (exec.c) runs steps over lanes, the simulator (bench/sim) runs the same steps in its model.
 *
 * No step depends on the data.  All ranks of a plan have the same number of steps, and what is sent in step k to a rank
 * is received by it in its step k; a step that would carry no element sends nothing.  When the last step is done, every
 * rank holds the same bits: each element is either combined on one rank alone and then copied, or combined by both
 * partners from the same two operands in the same order.
 */
#ifndef TY_COLL_PLAN_H
#define TY_COLL_PLAN_H
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

#define TY_PLANS(X) \
    X(RECURSIVE_DOUBLING, "rd", "log2 n exchanges of everything (n no power of 2: two more): small buffers") \
    X(HALVING_DOUBLING, "hd", "reduce-scatter by halves, gather by doubling, any n: large buffers") \
    X(RING, "ring", "2(n-1) neighbour steps: few nodes")
#define X(id, word, what) TY_PLAN_##id,
enum ty_plan_kind { TY_PLANS(X) TY_PLAN_KINDS };
#undef X
const char *ty_plan_word(enum ty_plan_kind kind); /* "rd" */

struct ty_range {
    int64_t at, count; /* elements */
};
enum ty_step_use {
    TY_STEP_NOTHING, /* no receive */
    TY_STEP_REDUCE,  /* mine = mine op received, lower rank's operand first */
    TY_STEP_STORE    /* mine = received */
};
/* A message is one range, or two that follow each other in it: where a run of blocks goes over the buffer's end.  An
 * unused second range has count 0. */
struct ty_step {
    int to;                  /* -1: sends nothing */
    struct ty_range send[2];
    int from;                /* -1: receives nothing */
    struct ty_range recv[2]; /* overlaps send[] only in exchanges of the whole buffer: those may reduce what was sent */
    enum ty_step_use use;
};
struct ty_plan {
    enum ty_plan_kind kind;
    int rank, n;
    int64_t count;
};
int ty_plan_steps(const struct ty_plan *p);                       /* how many; 0 for n 1 or count 0 */
void ty_plan_step(const struct ty_plan *p, int k, struct ty_step *ret); /* 0 <= k < ty_plan_steps(p) */

/* ---- choosing ---- */

/* A table of rules, the first that fits wins; "allreduce:0-16k:2-inf:rd#allreduce:16k-inf:2-3:ring#..." : bytes and
 * nodes, both ranges half open [from, to), numbers with k, M, G (powers of 1024), inf.  text NULL or "": the default.
 * What no rule names is left to the default's rules.  -EINVAL names the rule that is wrong. */
#define TY_SELECT_RULES 64 /* most rules in a table, the default's among them */
struct ty_select;
int ty_select_parse(const char *text, struct ty_select **ret, struct ty_error *err);
enum ty_plan_kind ty_select_plan(const struct ty_select *s, int64_t bytes, int nodes);
const char *ty_select_text(const struct ty_select *s); /* canonical, owned by s; parsing it gives the same table */
struct ty_select *ty_select_free(struct ty_select *s);
#endif
