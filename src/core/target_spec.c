/* target_spec.c - reading and checking the description of a compute target, and the sizes that labels stand for */
#include "base/error.h"
#include "core/target_keys.h"
#include <errno.h>
#include <string.h>
#include <strings.h>

#define WHAT TARGET_WHAT
#define NODES_MAX 100000
#define VM_SIZE_MAX 64
#define DESCRIPTION_MAX 4096

/* From Azure's published VM series: what scripts of the SDK's time name. */
/* clang-format off */
static const struct ty_vm_size sizes[] = {
    { "STANDARD_D1", 1, 0, 3 },          { "STANDARD_D2", 2, 0, 7 },          { "STANDARD_D1_V2", 1, 0, 3 },
    { "STANDARD_D2_V2", 2, 0, 7 },       { "STANDARD_D3_V2", 4, 0, 14 },      { "STANDARD_D4_V2", 8, 0, 28 },
    { "STANDARD_D12_V2", 4, 0, 28 },     { "STANDARD_D13_V2", 8, 0, 56 },     { "STANDARD_D14_V2", 16, 0, 112 },
    { "STANDARD_DS2_V2", 2, 0, 7 },      { "STANDARD_DS3_V2", 4, 0, 14 },     { "STANDARD_DS11_V2", 2, 0, 14 },
    { "STANDARD_DS12_V2", 4, 0, 28 },    { "STANDARD_D2S_V3", 2, 0, 8 },      { "STANDARD_D4S_V3", 4, 0, 16 },
    { "STANDARD_F2S_V2", 2, 0, 4 },      { "STANDARD_F4S_V2", 4, 0, 8 },      { "STANDARD_NC6", 6, 1, 56 },
    { "STANDARD_NC12", 12, 2, 112 },     { "STANDARD_NC24", 24, 4, 224 },     { "STANDARD_NC6S_V2", 6, 1, 112 },
    { "STANDARD_NC6S_V3", 6, 1, 112 },   { "STANDARD_NC12S_V3", 12, 2, 224 }, { "STANDARD_NC24S_V3", 24, 4, 448 },
    { "STANDARD_NC24RS_V3", 24, 4, 448 }, { "STANDARD_ND6S", 6, 1, 112 },     { "STANDARD_ND40RS_V2", 40, 8, 672 },
    { "STANDARD_NV6", 6, 1, 56 },
};
/* clang-format on */

const struct ty_vm_size *ty_vm_sizes(int n)
{
    return n >= 0 && (size_t)n < sizeof sizes / sizeof *sizes ? &sizes[n] : NULL;
}

bool ty_vm_size(const char *label, int *cpus, int *gpus, int *memory_gb)
{
    for (const struct ty_vm_size *s = sizes; s < sizes + sizeof sizes / sizeof *sizes; s++)
        if (strcasecmp(s->name, label) == 0) {
            *cpus = s->cpus;
            *gpus = s->gpus;
            *memory_gb = s->memory_gb;
            return true;
        }
    return false;
}

static int get_numbers(struct ty_target_spec *s, struct ty_error *err)
{
    int64_t min = 0, max = 0, idle = 1800;
    int r = ty_json_get_i64(s->json, WHAT, "min_nodes", 0, NODES_MAX, &min, err);

    if (r == 0)
        r = ty_json_get_i64(s->json, WHAT, "max_nodes", 0, NODES_MAX, &max, err);
    if (r == 0)
        r = ty_json_get_i64(s->json, WHAT, "idle_seconds_before_scaledown", 0, INT32_MAX, &idle,
                            err);
    if (r == 0 && max > 0 && min > max)
        r = ty_error_set(
            err, -EINVAL,
            WHAT ": min_nodes is %d and max_nodes %d; the first may not be above the second",
            (int)min, (int)max);
    s->min_nodes = (int)min;
    s->max_nodes = (int)max;
    s->idle_seconds = (int)idle;
    return r;
}

static int get_words(struct ty_target_spec *s, struct ty_error *err)
{
    int r = ty_json_get_str(s->json, WHAT, "kind", &s->kind, err);

    s->vm_size = s->description = "";
    s->vm_priority = "dedicated";
    if (r == 0 && !s->kind)
        r = ty_error_set(err, -EINVAL,
                         WHAT ": 'kind' is missing; it may be 'local', 'hosts' or 'slurm'");
    if (r == 0 && strcmp(s->kind, "local") != 0 && strcmp(s->kind, "hosts") != 0 &&
        strcmp(s->kind, "slurm") != 0)
        r = ty_error_set(err, -EINVAL,
                         WHAT ": 'kind' is '%.40s'; it may be 'local', 'hosts' or 'slurm'",
                         s->kind);
    if (r == 0)
        r = ty_json_get_str(s->json, WHAT, "vm_size", &s->vm_size, err);
    if (r == 0 && strlen(s->vm_size) > VM_SIZE_MAX)
        r = ty_error_set(err, -EINVAL, WHAT ": vm_size '%.40s...' has more than %d bytes",
                         s->vm_size, VM_SIZE_MAX);
    if (r == 0)
        r = ty_json_get_str(s->json, WHAT, "vm_priority", &s->vm_priority, err);
    if (r == 0 && strcmp(s->vm_priority, "dedicated") != 0 &&
        strcmp(s->vm_priority, "lowpriority") != 0)
        r = ty_error_set(err, -EINVAL,
                         WHAT ": vm_priority is '%.40s', and may be dedicated or lowpriority",
                         s->vm_priority);
    if (r == 0)
        r = ty_json_get_str(s->json, WHAT, "description", &s->description, err);
    if (r == 0 && strlen(s->description) > DESCRIPTION_MAX)
        r = ty_error_set(err, -EINVAL, WHAT ": 'description' has more than %d bytes",
                         DESCRIPTION_MAX);
    if (r == 0)
        r = ty_json_get_bool(s->json, WHAT, "require_gpu", &s->require_gpu, err);
    return r == 0 ? ty_json_get_strings(s->json, WHAT, "tags", &s->tags, err) : r;
}

/* Absent tags become an empty object, so that nobody has to ask. */
static int complete(json_t *o)
{
    const json_t *tags = json_object_get(o, "tags");

    return !tags || json_is_null(tags) ? json_object_set_new(o, "tags", json_object()) : 0;
}

static int get_drained(struct ty_target_spec *s, struct ty_error *err)
{
    int r = ty_json_get_bool(s->json, WHAT, "drained", &s->drained, err);

    return r == 0 ? target_texts(s->json, WHAT, "drained_nodes", &s->drained_nodes, err) : r;
}

#define KEYS_OF_ALL \
    "kind", "vm_size", "min_nodes", "max_nodes", "idle_seconds_before_scaledown", "vm_priority", \
        "require_gpu", "description", "tags", "drained", "drained_nodes"

/* Each kind has keys of its own, and refuses the others'. */
static int get_of_kind(struct ty_target_spec *s, struct ty_error *err)
{
    static const char *const local[] = { KEYS_OF_ALL, NULL };
    static const char *const hosts[] = { KEYS_OF_ALL,   "hosts",  "ssh_config",
                                         "ssh_options", "folder", NULL };
    static const char *const slurm[] = {
        KEYS_OF_ALL,   "partition",  "account",      "qos",
        "gres",        "constraint", "time_minutes", "sbatch_options",
        "shared_home", "folder",     "vm_sizes",     "environment",
        NULL
    };
    bool is_hosts = strcmp(s->kind, "hosts") == 0, is_slurm = strcmp(s->kind, "slurm") == 0;
    int r;

    if (is_hosts)
        r = ty_json_only(s->json, WHAT " of kind 'hosts'", hosts, err);
    else if (is_slurm)
        r = ty_json_only(s->json, WHAT " of kind 'slurm'", slurm, err);
    else
        r = ty_json_only(s->json, WHAT " of kind 'local'", local, err);

    if (r == 0 && is_hosts)
        r = target_hosts(s, err);
    if (r == 0 && is_slurm)
        r = target_slurm(s, err);
    return r;
}

int ty_target_spec_parse(const json_t *json, struct ty_target_spec **ret, struct ty_error *err)
{
    struct ty_target_spec *s;
    int r;

    if (!json_is_object(json))
        return ty_error_set(err, -EINVAL, "the description of a " WHAT " is not a JSON object");
    s = calloc(1, sizeof *s);
    if (!s || !(s->json = json_deep_copy(json)) || complete(s->json) < 0) {
        ty_target_spec_free(s);
        return ty_error_oom(err);
    }
    r = get_words(s, err);
    if (r == 0)
        r = get_of_kind(s, err);
    if (r == 0)
        r = get_numbers(s, err);
    if (r == 0)
        r = get_drained(s, err);
    if (r < 0) {
        ty_target_spec_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct ty_target_spec *ty_target_spec_free(struct ty_target_spec *s)
{
    if (s) {
        json_decref(s->json);
        free(s->hosts);
        free(s);
    }
    return NULL;
}

bool ty_target_spec_drains(const struct ty_target_spec *s, const char *node)
{
    const json_t *name;
    size_t i;

    if (s->drained)
        return true;
    json_array_foreach (s->drained_nodes, i, name)
        if (strcmp(json_string_value(name), node) == 0)
            return true;
    return false;
}
