/* tune.h - which way private tensors take through the slots of a node, found by trying */
#ifndef TY_COLL_TUNE_H
#define TY_COLL_TUNE_H
struct ty_coll;
struct ty_error;

/* At the start of a world: every way at some sizes, for some milliseconds; all ranks choose the same.  Fills c->paths. */
int ty_tune(struct ty_coll *c, struct ty_error *err);
#endif
