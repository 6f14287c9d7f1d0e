/* target_spec.h - the description of a compute target (docs/spec/target-spec.md) */
#ifndef TY_TARGET_SPEC_H
#define TY_TARGET_SPEC_H
#include "base/json.h"
#include <stdbool.h>
struct ty_error;

struct ty_target_spec {
    json_t *json;           /* as given, and tags, owned; what follows borrows from it */
    const char *kind;       /* "local" */
    const char *vm_size;    /* a label, "" when none */
    int min_nodes, max_nodes; /* max_nodes: runs that go on at once, 0: no limit of its own */
    int idle_seconds;       /* before scale-down */
    const char *vm_priority; /* "dedicated" | "lowpriority" */
    bool require_gpu;       /* refuse use_gpu=True where no GPU is, instead of running on the CPU */
    const char *description;
    json_t *tags;           /* object of texts, may be empty */
};
/* 0 and *ret (ty_target_spec_free); -EINVAL and a sentence that names the key. */
int ty_target_spec_parse(const json_t *json, struct ty_target_spec **ret, struct ty_error *err);
struct ty_target_spec *ty_target_spec_free(struct ty_target_spec *s);
/* CPUs, GPUs and memory that a vm_size label stands for; false for an unknown label (accepted: 1 CPU). */
bool ty_vm_size(const char *label, int *cpus, int *gpus, int *memory_gb);
struct ty_vm_size { const char *name; int cpus, gpus, memory_gb; };
const struct ty_vm_size *ty_vm_sizes(int n); /* the n-th row; NULL after the last */
#endif
