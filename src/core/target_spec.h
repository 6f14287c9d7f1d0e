/* target_spec.h - the description of a compute target (docs/spec/target-spec.md) */
#ifndef TY_TARGET_SPEC_H
#define TY_TARGET_SPEC_H
#include "base/json.h"
#include <stdbool.h>
struct ty_error;

#define TY_TARGET_HOSTS_MAX 10000

/* A machine of a target of kind "hosts". */
struct ty_host {
    json_t *json;              /* its entry, as given; borrowed from the spec */
    const char *host;          /* destination of ssh: a name of its configuration, a host name or an address */
    int port;                  /* 0: what ssh's configuration says */
    const char *user;          /* NULL: likewise */
    const char *identity_file; /* NULL: likewise */
    int cpus;                  /* these three replace what the probe found; -1: not said */
    int64_t memory_mb;
    int gpus;
};
/* "[user@]host[:port]": what names a machine across targets.  malloc'ed; NULL: out of memory. */
char *ty_host_key(const struct ty_host *h);

struct ty_target_slurm {
    const char *partition, *account, *qos, *gres, *constraint; /* NULL: not said */
    int time_minutes;           /* limit of an allocation; 0: the partition's */
    json_t *sbatch_options;     /* array of texts, may be empty */
    bool shared_home;           /* the folder is seen by all nodes */
    json_t *vm_sizes;           /* label -> {partition, gres, constraint: text; cpus: number}; may be empty */
    json_t *environment;        /* of Slurm's commands: object of texts, may be empty */
};

struct ty_target_spec {
    json_t *json;           /* as given, and an empty map or list for each that was left out, owned; what follows borrows from it */
    const char *kind;       /* "local" | "hosts" | "slurm" */
    const char *vm_size;    /* a label, "" when none */
    int min_nodes, max_nodes; /* max_nodes: that runs hold at once, 0: no limit of its own */
    int idle_seconds;       /* before scale-down */
    const char *vm_priority; /* "dedicated" | "lowpriority" */
    bool require_gpu;       /* refuse use_gpu=True where no GPU is, instead of running on the CPU */
    bool drained;           /* nothing new is placed on it */
    json_t *drained_nodes;  /* array of names of nodes on which nothing new is placed; may be empty */
    const char *description;
    json_t *tags;           /* object of texts, may be empty */
    const char *folder;     /* of our files on its nodes; NULL: ~/.cache/trainyard there; unused by "local" */
    struct ty_host *hosts;  /* of kind "hosts", owned; in the order given, from 1 on */
    int nhosts;
    const char *ssh_config; /* NULL: the user's own */
    json_t *ssh_options;    /* of kind "hosts": array of texts "Name=value", each given to ssh with -o; may be empty */
    struct ty_target_slurm slurm; /* of kind "slurm"; else all zero */
};
/* 0 and *ret (ty_target_spec_free); -EINVAL and a sentence that names the key. */
int ty_target_spec_parse(const json_t *json, struct ty_target_spec **ret, struct ty_error *err);
struct ty_target_spec *ty_target_spec_free(struct ty_target_spec *s);
/* Is the node of this name drained, alone or with the whole target? */
bool ty_target_spec_drains(const struct ty_target_spec *s, const char *node);
/* CPUs, GPUs and memory that a vm_size label stands for; false for an unknown label (accepted: 1 CPU). */
bool ty_vm_size(const char *label, int *cpus, int *gpus, int *memory_gb);
struct ty_vm_size { const char *name; int cpus, gpus, memory_gb; };
const struct ty_vm_size *ty_vm_sizes(int n); /* the n-th row; NULL after the last */
#endif
