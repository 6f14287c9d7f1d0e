/* hosts.h - machines that are reached over ssh */
#ifndef TY_TARGET_HOSTS_H
#define TY_TARGET_HOSTS_H
#include "target/target.h"
extern const struct ty_target_kind ty_target_hosts;
#endif
