/* slurm_ask.c - what an allocation must have, the command line that asks for it, and the script that runs in it */
#include "target/slurm_ask.h"
#include "base/error.h"
#include "core/launch_plan.h"
#include <errno.h>
#include <string.h>

/* Of a run that names no limit: no partition needs to allow so much. */
#define DEFAULT_SECONDS (30 * 24 * 3600)
/* Of a time limit: for preparing before the script, and for collecting after it. */
#define SPARE_SECONDS 600
#define BUILD_SECONDS 3600   /* the same for building an environment */
#define SCRIPT_MAX (4 << 20) /* Slurm's own limit, unless its administrator changed it */

/* ---- the shape ---- */

/* What the target's table says of its vm_size; NULL: nothing. */
static const json_t *size_of(const struct ty_target_spec *target)
{
    const char *label;
    json_t *size;

    json_object_foreach (target->slurm.vm_sizes, label, size)
        if (strcasecmp(label, target->vm_size) == 0)
            return size;
    return NULL;
}

static const char *or_size(const char *said, const json_t *size, const char *key)
{
    return said ? said : json_string_value(json_object_get(size, key));
}

bool ty_slurm_names_resources(const struct ty_target_spec *target)
{
    const json_t *v;
    size_t i;

    json_array_foreach (target->slurm.sbatch_options, i, v)
        if (ty_starts_with(json_string_value(v), "--gres") ||
            ty_starts_with(json_string_value(v), "--gpu") ||
            ty_starts_with(json_string_value(v), "-G"))
            return true;
    return or_size(target->slurm.gres, size_of(target), "gres") != NULL;
}

/* sbatch takes the last of several options, and these before its environment. */
const char *ty_slurm_partition_of(const struct ty_target_spec *target)
{
    static const char option[] = "--partition=";
    const char *named = or_size(target->slurm.partition, size_of(target), "partition");
    const json_t *v;
    size_t i;

    json_array_foreach (target->slurm.sbatch_options, i, v)
        if (ty_starts_with(json_string_value(v), option))
            named = json_string_value(v) + strlen(option);
    return named
               ? named
               : json_string_value(json_object_get(target->slurm.environment, "SBATCH_PARTITION"));
}

/* It may have to build an environment first: its own limit counts from when its processes begin. */
static bool builds(const struct ty_run_spec *run)
{
    const struct ty_env_spec *e = run->env;

    return e && (e->pip[0] || e->conda[0] || e->torch || e->torchvision || e->lock);
}

static int64_t minutes_of(const struct ty_target_spec *target, const struct ty_run_spec *run,
                          bool lasting)
{
    int64_t limit = target->slurm.time_minutes, own = 0,
            spare = SPARE_SECONDS + (builds(run) ? BUILD_SECONDS : 0);

    if (!lasting && run->max_run_seconds > 0 && run->max_run_seconds < DEFAULT_SECONDS)
        own = (run->max_run_seconds + spare + 59) / 60;
    return own > 0 && (limit == 0 || own < limit) ? own : limit;
}

void ty_slurm_shape(const struct ty_target_spec *target, const struct ty_run_spec *run,
                    bool lasting, struct ty_slurm_shape *ret)
{
    const json_t *size = size_of(target);
    int processes = run->process_count_per_node;
    int64_t cpus = (int64_t)run->cpus * processes,
            of_size = json_integer_value(json_object_get(size, "cpus"));

    *ret = (struct ty_slurm_shape){
        .nodes = run->node_count,
        .cpus = (int)(of_size > cpus ? of_size : cpus),
        .memory_mb = run->memory_mb * processes,
        .minutes = minutes_of(target, run, lasting),
        .partition = or_size(target->slurm.partition, size, "partition"),
        .gres = or_size(target->slurm.gres, size, "gres"),
        .constraint = or_size(target->slurm.constraint, size, "constraint"),
    };
    if (run->use_gpu && !ret->gres)
        ret->gpus = run->gpus * processes;
}

char *ty_slurm_shape_text(const struct ty_slurm_shape *s)
{
    return ty_strf("%d %d %lld %d %lld %s %s %s", s->nodes, s->cpus, (long long)s->memory_mb,
                   s->gpus, (long long)s->minutes, s->partition ? s->partition : "-",
                   s->gres ? s->gres : "-", s->constraint ? s->constraint : "-");
}

bool ty_slurm_shape_fits(const char *shape, const char *asked)
{
    int nodes[2], cpus[2], gpus[2], rest[2] = { 0 };
    long long memory[2], minutes[2];

    for (size_t i = 0; i < 2; i++)
        if (sscanf(i == 0 ? shape : asked, "%d %d %lld %d %lld %n", &nodes[i], &cpus[i], &memory[i],
                   &gpus[i], &minutes[i], &rest[i]) < 5)
            return false;
    return nodes[0] == nodes[1] && cpus[0] >= cpus[1] && gpus[0] == gpus[1] &&
           (memory[1] == 0 || memory[0] >= memory[1]) &&
           strcmp(shape + rest[0], asked + rest[1]) == 0;
}

/* ---- sbatch ---- */

struct args {
    char **v;
    size_t n, cap;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void add(struct args *a, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str s = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&s, fmt, ap);
    va_end(ap);
    if (a->n + 2 > a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 32;
        char **more = realloc(a->v, cap * sizeof *more);

        if (!more) {
            a->failed = true;
            return;
        }
        a->v = more;
        a->cap = cap;
    }
    a->v[a->n] = ty_str_take(&s);
    a->failed |= !a->v[a->n];
    a->v[a->n + 1] = NULL;
    a->n += a->v[a->n] != NULL;
}

static void add_text(struct args *a, const char *option, const char *value)
{
    if (value && *value)
        add(a, "--%s=%s", option, value);
}

static void add_number(struct args *a, const char *option, int64_t value, const char *unit)
{
    if (value > 0)
        add(a, "--%s=%lld%s", option, (long long)value, unit);
}

/* Drained nodes, and those that the target's own options leave out: of several --exclude the last counts. */
static void add_drained(struct args *a, const struct ty_target_spec *target)
{
    CLEANUP_STR struct ty_str list = { 0 };
    const json_t *v;
    size_t i;

    json_array_foreach (target->drained_nodes, i, v)
        ty_str_addf(&list, "%s%s", list.len ? "," : "", json_string_value(v));
    if (!list.len)
        return;
    json_array_foreach (target->slurm.sbatch_options, i, v)
        if (ty_starts_with(json_string_value(v), "--exclude="))
            ty_str_addf(&list, ",%s", json_string_value(v) + strlen("--exclude="));
    a->failed |= list.failed;
    add_text(a, "exclude", list.text);
}

int ty_slurm_args(const char *sbatch, const struct ty_target_spec *target,
                  const struct ty_slurm_shape *shape, const char *name, const char *owner,
                  char ***ret)
{
    struct args a = { 0 };
    const json_t *option;
    size_t i;

    add(&a, "%s", sbatch);
    add(&a, "--parsable");
    add(&a, "--job-name=%s", name);
    add(&a, "--comment=" TY_SLURM_COMMENT "%s", owner);
    /* What the job sees is what the run asked for, not what surrounds this process. */
    add(&a, "--export=NIL");
    add(&a, "--chdir=/");
    add(&a,
        "--output=/dev/null"); /* the agent keeps its own log: a folder of ours may not be there yet */
    add(&a, "--open-mode=append");
    add(&a, "--no-requeue"); /* attempts are Trainyard's to make */
    add(&a, "--signal=B:USR1@%d", TY_SLURM_WARNING_SECONDS);
    add(&a, "--nodes=%d", shape->nodes);
    add(&a, "--ntasks-per-node=1");
    add(&a, "--cpus-per-task=%d", shape->cpus);
    if (shape->nodes > 1)
        add(&a, "--wait-all-nodes=1");
    add_text(&a, "partition", shape->partition);
    add_text(&a, "account", target->slurm.account);
    add_text(&a, "qos", target->slurm.qos);
    add_text(&a, "gres", shape->gres);
    add_text(&a, "constraint", shape->constraint);
    add_number(&a, "gpus-per-node", shape->gpus, "");
    add_number(&a, "mem", shape->memory_mb, "M");
    add_number(&a, "time", shape->minutes, "");
    json_array_foreach (target->slurm.sbatch_options, i, option)
        add(&a, "%s", json_string_value(option));
    add_drained(&a, target);
    if (a.failed) {
        ty_strv_free(a.v);
        return -ENOMEM;
    }
    *ret = a.v;
    return 0;
}

/* ---- the batch script ---- */

/* In single quotes for a shell; a leading "~/" becomes the home folder there. */
static void add_path(struct ty_str *s, const char *path)
{
    if (ty_starts_with(path, "~/")) {
        ty_str_add(s, "\"$HOME\"/");
        path += 2;
    }
    ty_str_add(s, "'");
    for (; *path; path++)
        if (*path == '\'')
            ty_str_add(s, "'\\''");
        else
            ty_str_addn(s, path, 1);
    ty_str_add(s, "'");
}

/* The agent comes with the script: it is unpacked where it is not yet, whole or not at all. */
static void add_agent(struct ty_str *s, const struct ty_slurm_script *from)
{
    ty_str_add(s, "a=");
    add_path(s, from->agent);
    ty_str_addf(s, "\nif [ ! -x \"$a\" ]; then\nd=${a%%/*}\nmkdir -p \"$d\" && "
                   "base64 -d <<'.' | gzip -dc > \"$d/.new.$$\" && chmod 700 \"$d/.new.$$\" &&\n");
    ty_str_add_base64(s, from->packed, from->packed_bytes);
    ty_str_add(s, "\n.\nmv \"$d/.new.$$\" \"$a\" || exit 126\nfi\n");
}

int ty_slurm_script(const struct ty_slurm_script *from, struct ty_str *ret)
{
    ty_str_add(ret, "#!/bin/sh\numask 077\nPATH=");
    add_path(ret, from->path ? from->path : "/usr/local/bin:/usr/bin:/bin");
    /* HOME is not among what --export=NIL lets through. */
    ty_str_add(ret, "; export PATH\n[ \"${HOME:-}\" ] || "
                    "{ HOME=$(getent passwd \"$(id -u)\" | cut -d: -f6); export HOME; }\n");
    if (from->packed)
        add_agent(ret, from);
    ty_str_add(ret, "exec ");
    if (from->packed)
        ty_str_add(ret, "\"$a\"");
    else
        add_path(ret, from->agent);
    ty_str_addf(ret, " hold <<'.'\n%s\n.\n", from->config);
    return ret->failed ? -ENOMEM : ret->len > SCRIPT_MAX ? -E2BIG : 0;
}
