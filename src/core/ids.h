/* ids.h - names of runs: <experiment>_<unix seconds>_<8 hex>, as Azure ML has had them since 2020 */
#ifndef TY_IDS_H
#define TY_IDS_H
#include <stdbool.h>
#include <stdint.h>
#define TY_RUN_ID_MAX 255
/* 0, or -EINVAL where the name would be no valid id. */
int ty_run_id_make(const char *experiment, int64_t unix_seconds, uint32_t random, char ret[TY_RUN_ID_MAX + 1]);
bool ty_run_id_valid(const char *id); /* ^[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}$ */
bool ty_sha256_valid(const char *hex); /* 64 lower-case hex digits */
#endif
