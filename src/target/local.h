/* local.h - this box */
#ifndef TY_TARGET_LOCAL_H
#define TY_TARGET_LOCAL_H
#include "target/target.h"
extern const struct ty_target_kind ty_target_local;
#endif
