/* slurm.h - a cluster of Slurm: couriers bring jobs there, Slurm places them (docs/decisions/0023-slurm-allocations.md) */
#ifndef TY_TARGET_SLURM_H
#define TY_TARGET_SLURM_H
#include "target/target.h"
extern const struct ty_target_kind ty_target_slurm;
#endif
