/* courier.h - kinds whose jobs run elsewhere: a courier on this box stands for their runner (docs/spec/channel.md) */
#ifndef TY_TARGET_COURIER_H
#define TY_TARGET_COURIER_H
#include "target/target.h"

int ty_courier_start(const struct ty_job_start *how, struct ty_job **ret, struct ty_error *err);
/* A courier that the daemon does not hear is not dead: it cannot reach its hosts, and decides itself when they are lost. Only
 * one that does not even do that is killed. */
void ty_courier_kill(struct ty_job *job);
#endif
