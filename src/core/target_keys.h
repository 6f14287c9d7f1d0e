/* target_keys.h - the keys that one kind of target has and the others have not; for target_spec.c alone */
#ifndef TY_TARGET_KEYS_H
#define TY_TARGET_KEYS_H
#include "core/target_spec.h"

#define TARGET_WHAT "compute target"

/* A list of texts, none longer than 4096 bytes; absent or null: an empty list is put in its place. */
int target_texts(json_t *o, const char *what, const char *key, json_t **ret, struct ty_error *err);
/* Each fills its part of s from s->json: 0, -EINVAL and a sentence, or -ENOMEM. */
int target_hosts(struct ty_target_spec *s, struct ty_error *err);
int target_slurm(struct ty_target_spec *s, struct ty_error *err);
#endif
