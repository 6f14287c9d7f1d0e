/* slurm.c - the kind "slurm": jobs by a courier, questions through sinfo, counts from what keepers write down
 *
 * Asking Slurm may take seconds: it is done in the pool.
 */
#include "target/slurm.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/launch_plan.h"
#include "target/courier.h"
#include "target/process.h"
#include "target/slurm_ask.h"
#include "target/slurm_channel.h"
#include "target/slurm_command.h"
#include "target/slurm_keeper.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define ASK_MS 10000
#define STATUS_MAX (64 << 20)

static int slurm_check(const struct ty_target_spec *target, const struct ty_run_spec *run,
                       struct ty_str *warning, struct ty_error *err)
{
    int64_t limit = (int64_t)target->slurm.time_minutes * 60;

    if (run->node_count > TY_SLURM_NODES_MAX)
        return ty_error_set(err, -EINVAL, "the run asks for %d nodes, and %d is the most on Slurm",
                            run->node_count, TY_SLURM_NODES_MAX);
    if (run->use_gpu && run->gpus == 0 && !target->slurm.gres)
        return ty_error_set(err, -EINVAL,
                            "use_gpu is true, and the run asks for no GPU (resources, gpus)");
    if (limit > 0 && run->max_run_seconds > limit && run->max_run_seconds < 30 * 24 * 3600)
        ty_str_addf(
            warning,
            "target '%s' gives an allocation %d minutes (time_minutes), less than the time limit of "
            "the run",
            run->target, target->slurm.time_minutes);
    return 0;
}

/* ---- asking ---- */

struct ty_probe {
    uv_work_t work;
    json_t *environment; /* owned: the target may go while the pool is at work */
    char *partition;     /* NULL: the cluster's own choice */
    int64_t minutes;     /* 0: what the partition gives */
    void (*done)(void *ctx, int r, json_t *facts, const struct ty_error *err);
    void *ctx;
    int r;
    json_t *facts;
    struct ty_error err;
};

static int check_have(const struct ty_probe *p, const struct ty_slurm_have *have,
                      struct ty_error *err)
{
    const char *names = have->names.len ? have->names.text : "none";

    if (have->nodes == 0 && p->partition)
        return ty_error_set(err, -EINVAL, "Slurm has no partition '%s'; it has %s", p->partition,
                            names);
    if (!have->up)
        return ty_error_set(
            err, -EINVAL, "the partition%s%s%s of Slurm is down; ask its administrator",
            p->partition ? " '" : "", p->partition ? p->partition : "", p->partition ? "'" : "");
    if (have->limit_seconds >= 0 && p->minutes > have->limit_seconds / 60)
        return ty_error_set(
            err, -EINVAL,
            "an allocation is to take %lld minutes (time_minutes), and the partition "
            "allows %lld: Slurm would let its runs wait for ever; ask for less, or "
            "name another partition (Slurm has %s)",
            (long long)p->minutes, (long long)(have->limit_seconds / 60), names);
    return 0;
}

static int facts_of(const struct ty_probe *p, char *text, json_t **ret, struct ty_error *err)
{
    struct ty_slurm_have have;
    int r;

    ty_slurm_have(text, p->partition, &have);
    r = check_have(p, &have, err);
    if (r == 0 && !(*ret = json_pack("{s:i s:i s:I s:i}", "nodes", have.nodes, "cpus", have.cpus,
                                     "memory_mb", (json_int_t)have.memory_mb, "gpus", have.gpus)))
        r = ty_error_oom(err);
    ty_str_done(&have.names);
    return r;
}

static void ask(uv_work_t *work)
{
    struct ty_probe *p = work->data;
    const char *argv[] = { "sinfo", "-h", "-o", TY_SLURM_PARTITION_FORMAT, NULL };
    struct ty_slurm_setting where = { .environment = p->environment };
    CLEANUP_FREE char *out = NULL;

    p->r = ty_slurm_run(&where, argv, ASK_MS, &out, &p->err);
    if (p->r == 0)
        p->r = facts_of(p, out, &p->facts, &p->err);
}

static void asked(uv_work_t *work, int status)
{
    struct ty_probe *p = work->data;

    if (status < 0 && p->r == 0)
        p->r = ty_error_set(&p->err, status, "Slurm was not asked: %s", uv_strerror(status));
    if (p->done)
        p->done(p->ctx, p->r, p->r == 0 ? p->facts : NULL, &p->err);
    json_decref(p->facts);
    json_decref(p->environment);
    free(p->partition);
    free(p);
}

static int slurm_probe(const struct ty_probe_start *how, struct ty_probe **ret,
                       struct ty_error *err)
{
    struct ty_probe *p = calloc(1, sizeof *p);
    const char *partition = ty_slurm_partition_of(how->target);

    if (!p)
        return ty_error_oom(err);
    p->environment = json_deep_copy(how->target->slurm.environment);
    p->partition = partition ? strdup(partition) : NULL;
    p->minutes = how->target->slurm.time_minutes;
    p->done = how->done;
    p->ctx = how->ctx;
    p->work.data = p;
    uv_queue_work(how->loop, &p->work, ask, asked);
    *ret = p;
    return 0;
}

/* The pool goes on; nobody hears of it. */
static struct ty_probe *slurm_probe_free(struct ty_probe *p)
{
    if (p)
        p->done = NULL;
    return NULL;
}

static bool slurm_lacks_gpus(const struct ty_target_spec *target, const json_t *facts)
{
    const json_t *gpus = json_object_get(facts, "gpus");

    return json_is_integer(gpus) && json_integer_value(gpus) == 0 &&
           !ty_slurm_names_resources(target);
}

/* ---- counting ---- */

static void count_one(const json_t *a, struct ty_node_counts *n)
{
    const char *end = json_string_value(json_object_get(a, "end_reason"));
    int nodes = (int)json_integer_value(json_object_get(a, "nodes"));

    if (json_is_true(json_object_get(a, "over"))) {
        n->preempted += end && strcmp(end, "preempted") == 0 ? nodes : 0;
        n->unusable += end && strcmp(end, "node_lost") == 0 ? nodes : 0;
    } else if (json_is_true(json_object_get(a, "ending"))) {
        n->leaving += nodes;
    } else if (!json_is_true(json_object_get(a, "up"))) {
        n->preparing += nodes;
    } else if (json_is_null(json_object_get(a, "run"))) {
        n->idle += nodes;
    } else {
        n->running += nodes;
    }
}

static void count_file(const char *folder, struct ty_node_counts *n)
{
    CLEANUP_FREE char *path = ty_path_join(folder, TY_KEEPER_STATUS);
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON json_t *o = NULL;
    const json_t *a;
    size_t i, len;

    if (!path || ty_read_file(path, STATUS_MAX, &text, &len) < 0 ||
        ty_json_parse(text, len, &o, NULL) < 0)
        return;
    json_array_foreach (json_object_get(o, "allocations"), i, a)
        count_one(a, n);
}

/* A keeper for each user: "<target>", and under a daemon of the whole machine "<target>@<user>". */
static void slurm_counts(const char *home, const char *target, const struct ty_target_spec *spec,
                         struct ty_node_counts *ret)
{
    CLEANUP_FREE char *all = ty_path_join(home, "slurm");
    CLEANUP_DIR DIR *dir = all ? opendir(all) : NULL;
    size_t n = strlen(target);
    const struct dirent *e;

    (void)spec;
    *ret = (struct ty_node_counts){ 0 };
    while (dir && (e = readdir(dir))) {
        CLEANUP_FREE char *folder = NULL;

        if (strncmp(e->d_name, target, n) != 0 || (e->d_name[n] && e->d_name[n] != '@'))
            continue;
        folder = ty_path_join(all, e->d_name);
        if (folder)
            count_file(folder, ret);
    }
}

/* ---- keeping ---- */

/* It has read its input, and goes on in a process of its own, when the one that is started here ends. */
static int tell(const char *agent, const char *home, const char *target, const json_t *spec,
                struct ty_error *err)
{
    CLEANUP_FREE char *folder = ty_strf("%s/slurm/%s", home, target);
    CLEANUP_FREE char *text = ty_json_text(spec);
    CLEANUP_CLOSE int in = memfd_create("target", MFD_CLOEXEC);
    const char *argv[] = { agent, "told", folder, NULL };
    const char *envp[] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct ty_spawn spawn = {
        .argv = argv, .envp = envp, .cwd = "/", .in = in, .out = -1, .err = -1
    };
    pid_t pid;
    int r;

    if (!folder || !text)
        return ty_error_oom(err);
    r = in < 0 ? -errno : ty_write_all(in, text, strlen(text));
    if (r == 0 && lseek(in, 0, SEEK_SET) < 0)
        r = -errno;
    if (r < 0)
        return ty_error_set(err, r, "cannot keep a target specification in memory: %s",
                            strerror(-r));
    r = ty_spawn(&spawn, &pid, err);
    if (r == 0)
        ty_wait(pid, NULL);
    return r;
}

static void slurm_keep(const char *agent, const char *home, const char *target,
                       const struct ty_target_spec *before, const struct ty_target_spec *spec)
{
    CLEANUP_JSON json_t *nothing = NULL;
    struct ty_error err = { 0 };

    if ((before ? before->min_nodes : 0) + (spec ? spec->min_nodes : 0) == 0)
        return;
    if (!spec) {
        nothing = json_copy(before->json);
        json_object_set_new(nothing, "min_nodes", json_integer(0));
        json_object_set_new(nothing, "idle_seconds_before_scaledown", json_integer(0));
    }
    if (tell(agent, home, target, spec ? spec->json : nothing, &err) < 0)
        ty_log(TY_LOG_WARN, "what target '%s' keeps is not known to its keeper: %s", target,
               err.text);
}

const struct ty_target_kind ty_target_slurm = {
    .name = "slurm",
    .check = slurm_check,
    .start = ty_courier_start,
    .cancel = ty_process_cancel,
    .kill = ty_courier_kill,
    .free = ty_process_free,
    .probe = slurm_probe,
    .probe_free = slurm_probe_free,
    .lacks_gpus = slurm_lacks_gpus,
    .counts = slurm_counts,
    .keep = slurm_keep,
    .couriers = true,
    .places = true,
};
