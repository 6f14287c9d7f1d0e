/* ask.h - asking machines what they have */
#ifndef TY_SCHED_ASK_H
#define TY_SCHED_ASK_H
#include "base/json.h"
#include "core/target_spec.h"
#include "sched/sched.h"
struct node;

#define TARGET_SETTING "target/" /* and its name: the setting with what an engine said of its nodes */

/* Ask all of its hosts, or the engine behind it, and store it when they have answered.  checked is taken over.  -EINVAL in
 * done: one has not, and the sentence says which and why. */
int ask_target(struct ty_sched *s, const char *name, const json_t *spec, struct ty_target_spec *checked,
               ty_sched_done done, void *ctx, struct ty_error *err);
void ask_close(struct ty_sched *s);

/* Nothing is placed on it until it has answered: it is asked every ten seconds.  Never this box.  user: whose run
 * it failed. */
void node_fails(struct node *n, const char *why, const char *user);
void node_stop_asking(struct node *n);
#endif
