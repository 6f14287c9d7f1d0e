/* sysmetrics.c - see sysmetrics.h
 *
 * A sample: read all counters; what flows is the difference to the sample before.  What cannot be read is left out of the sample,
 * so that a machine without this or that file has the rest.
 */
#include "runner/sysmetrics.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/gpu.h"
#include "base/owner.h"
#include "base/str.h"
#include "runner/child.h"
#include "runner/memlimit.h"
#include "runner/procstat.h"
#include "runner/spool.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TEXT_MAX (64 * 1024) /* of a file of /proc; what is longer is cut */
#define MB (1 << 20)
#define LONGEST_SECONDS 60 /* between samples of a long job, unless more is asked for */
#define SAMPLES_AT_FULL_RATE 360

struct counters {
    int64_t at_us; /* monotonic */
    bool has_cpu, has_network, has_disks;
    struct ty_proc_cpu cpu;
    struct ty_proc_flow network, disks;
};

struct sampler {
    const struct ty_sysmetrics *m;
    struct ty_spool_writer *spool;
    struct ty_systree *tree;
    struct ty_memlimit limit;
    struct counters before;
    uint64_t *ticks; /* of each rank, before */
    int64_t wall_us; /* of the sample that is being taken */
    char text[TEXT_MAX];
};

int64_t ty_sysmetrics_wait(int64_t seconds, int64_t age_us)
{
    int64_t wait_us = age_us / SAMPLES_AT_FULL_RATE, longest = (int64_t)LONGEST_SECONDS * 1000000,
            least = seconds * 1000000;

    if (wait_us > longest)
        wait_us = longest;
    return wait_us > least ? wait_us : least;
}

bool ty_sysmetrics_has_gpu(const char *gpus, int index, const char *uuid)
{
    char number[16];

    if (!gpus)
        return true;
    snprintf(number, sizeof number, "%d", index);
    for (const char *at = gpus; *at;) {
        size_t n = strcspn(at, ",");

        if ((n == strlen(number) && memcmp(at, number, n) == 0) ||
            (n == strlen(uuid) && memcmp(at, uuid, n) == 0))
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

/* ---- rows ---- */

static void put(struct sampler *s, double value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put(struct sampler *s, double value, const char *fmt, ...)
{
    char name[TY_ROW_NAME_MAX];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (n <= 0 || n >= (int)sizeof name)
        return;
    struct ty_row row = { .kind = TY_ROW_DOUBLE,
                          .step = TY_ROW_NO_STEP,
                          .at_us = s->wall_us,
                          .name = name,
                          .name_len = (size_t)n,
                          .value = &value,
                          .value_len = sizeof value };
    ty_spool_write(s->spool, &row); /* one that finds no room is counted there */
}

/* "system/" or "system/<node>/" before the name of what is the machine's. */
static void put_node(struct sampler *s, double value, const char *name)
{
    put(s, value, TY_ROW_SYSTEM "%s%s%s", s->m->node, *s->m->node ? "/" : "", name);
}

static double rate(uint64_t before, uint64_t now, double seconds)
{
    return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

/* ---- the machine ---- */

static const char *text_of(struct sampler *s, const char *path)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = 1;

    while (fd >= 0 && n < sizeof s->text - 1 && got > 0) {
        got = read(fd, s->text + n, sizeof s->text - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    s->text[n] = '\0';
    return s->text;
}

static bool is_whole_disk(const char *name, void *ctx)
{
    char path[128];

    (void)ctx;
    /* Disks have a device behind them; their parts, and what is made of disks (loops, volumes), would count twice. */
    snprintf(path, sizeof path, "/sys/block/%.64s/device", name);
    return access(path, F_OK) == 0;
}

static void read_counters(struct sampler *s, struct counters *c)
{
    *c = (struct counters){ .at_us = ty_mono_us() };
    c->has_cpu = ty_procstat_cpu(text_of(s, "/proc/stat"), &c->cpu) == 0;
    c->has_network = ty_procstat_network(text_of(s, "/proc/net/dev"), &c->network) == 0;
    c->has_disks =
        ty_procstat_disks(text_of(s, "/proc/diskstats"), is_whole_disk, NULL, &c->disks) == 0;
}

static void put_flows(struct sampler *s, const struct counters *now)
{
    const struct counters *was = &s->before;
    double seconds = (double)(now->at_us - was->at_us) / 1e6;

    if (now->has_cpu && was->has_cpu && now->cpu.all > was->cpu.all)
        put_node(s,
                 100.0 * rate(was->cpu.busy, now->cpu.busy, (double)(now->cpu.all - was->cpu.all)),
                 "cpu_percent");
    if (now->has_network && was->has_network) {
        put_node(s, rate(was->network.in, now->network.in, seconds),
                 "network_received_bytes_per_s");
        put_node(s, rate(was->network.out, now->network.out, seconds), "network_sent_bytes_per_s");
    }
    if (now->has_disks && was->has_disks) {
        put_node(s, rate(was->disks.in, now->disks.in, seconds), "disk_read_bytes_per_s");
        put_node(s, rate(was->disks.out, now->disks.out, seconds), "disk_written_bytes_per_s");
    }
}

static void put_memory(struct sampler *s)
{
    struct ty_proc_memory memory;
    int64_t used, total;

    if (ty_procstat_memory(text_of(s, "/proc/meminfo"), &memory) < 0)
        return;
    total = memory.total_kb * 1024;
    used = (memory.total_kb - memory.available_kb) * 1024;
    ty_memlimit_apply(&s->limit, &used, &total);
    put_node(s, (double)used / MB, "memory_used_mb");
    if (total > 0)
        put_node(s, 100.0 * (double)used / (double)total, "memory_percent");
}

static void put_space(struct sampler *s)
{
    struct statvfs fs;

    if (statvfs(s->m->spool, &fs) == 0)
        put_node(s, (double)fs.f_bavail * (double)fs.f_frsize / MB, "disk_free_mb");
}

static void put_gpu(struct sampler *s, const struct ty_gpu *g, const char *prefix)
{
    if (g->utilization_percent != TY_GPU_UNKNOWN)
        put(s, g->utilization_percent, "%s/utilization_percent", prefix);
    if (g->memory_used_mb != TY_GPU_UNKNOWN)
        put(s, (double)g->memory_used_mb, "%s/memory_used_mb", prefix);
    if (g->power_watts >= 0)
        put(s, g->power_watts, "%s/power_watts", prefix);
    if (g->temperature_c != TY_GPU_UNKNOWN)
        put(s, g->temperature_c, "%s/temperature_c", prefix);
}

/* Parts of one GPU share its number: they are told apart by their place in the list. */
static void put_gpus(struct sampler *s)
{
    struct ty_gpu *gpu = NULL;
    char prefix[TY_ROW_NAME_MAX - 64];
    int n = 0, part = 0;

    if (s->m->gpus && !*s->m->gpus)
        return;
    if (ty_gpu_list(&gpu, &n) < 0)
        return;
    for (int i = 0; i < n; i++) {
        part = i > 0 && gpu[i].part && gpu[i - 1].index == gpu[i].index ? part + 1 : 0;
        if (!ty_sysmetrics_has_gpu(s->m->gpus, gpu[i].index, gpu[i].uuid))
            continue;
        snprintf(prefix, sizeof prefix, TY_ROW_SYSTEM "%s%sgpu%d", s->m->node,
                 *s->m->node ? "/" : "", gpu[i].index);
        if (gpu[i].part)
            snprintf(prefix + strlen(prefix), sizeof prefix - strlen(prefix), ".%d", part);
        put_gpu(s, &gpu[i], prefix);
    }
    free(gpu);
}

/* ---- the ranks ---- */

/* CPU: 100 is one CPU all the time. */
static void put_ranks(struct sampler *s, double seconds)
{
    double per_second = (double)sysconf(_SC_CLK_TCK);

    for (int i = 0; i < s->m->nranks; i++) {
        const struct ty_systree_rank *r = &s->m->ranks[i];

        if (r->processes == 0)
            continue;
        put(s, 100.0 * rate(s->ticks[i], r->ticks, seconds) / per_second,
            TY_ROW_SYSTEM "rank%d/cpu_percent", r->rank);
        put(s, (double)r->resident_bytes / MB, TY_ROW_SYSTEM "rank%d/memory_mb", r->rank);
        s->ticks[i] = r->ticks;
    }
}

/* ---- the helper's life ---- */

static void sample(struct sampler *s)
{
    struct counters now;
    double seconds;

    s->wall_us = ty_wall_us();
    read_counters(s, &now);
    seconds = (double)(now.at_us - s->before.at_us) / 1e6;
    put_flows(s, &now);
    put_memory(s);
    put_space(s);
    if (ty_systree_look(s->tree, now.at_us) == 0)
        put_ranks(s, seconds);
    put_gpus(s); /* last: it may take long */
    s->before = now;
}

/* Until `due_us`; false: nobody listens any more, the runner is gone. */
static bool wait_until(int out, int64_t due_us)
{
    for (int64_t now; (now = ty_mono_us()) < due_us;) {
        struct pollfd p = { .fd = out };
        int64_t ms = (due_us - now + 999) / 1000;

        if (poll(&p, 1, ms > INT32_MAX ? INT32_MAX : (int)ms) > 0)
            return false;
    }
    return true;
}

static void run(struct sampler *s, int out)
{
    CLEANUP_JSON json_t *told = json_pack("{s:s}", "kind", "sampled");
    int64_t began, due;

    read_counters(s, &s->before);
    if (ty_systree_look(s->tree, s->before.at_us) == 0)
        for (int i = 0; i < s->m->nranks; i++)
            s->ticks[i] = s->m->ranks[i].ticks;
    began = s->before.at_us;
    for (due = began + s->m->first_us; told && wait_until(out, due);) {
        sample(s);
        if (ty_child_send(out, told) < 0)
            return;
        due += ty_sysmetrics_wait(s->m->seconds, due - began);
        if (due < ty_mono_us())
            due = ty_mono_us(); /* it was kept waiting, or the machine slept: none is made up for */
    }
}

static int tell_writer(int out, const struct ty_spool_writer *spool)
{
    CLEANUP_JSON json_t *o =
        json_pack("{s:s, s:i}", "kind", "sampler", "writer", (int)ty_spool_writer_number(spool));

    return o ? ty_child_send(out, o) : -ENOMEM;
}

int ty_sysmetrics_main(int out, void *ctx)
{
    struct ty_sysmetrics *m = ctx;
    struct sampler *s = calloc(1, sizeof *s);
    int r;

    prctl(PR_SET_NAME, "trainyard-stat");
    if (!s)
        return -ENOMEM;
    s->m = m;
    s->tree = ty_systree_new(m->ranks, m->nranks);
    s->ticks = calloc((size_t)m->nranks + 1, sizeof *s->ticks);
    r = s->tree && s->ticks ? ty_owner_become(m->owner) : -ENOMEM;
    if (r == 0)
        r = ty_spool_create(m->spool, &s->spool, NULL);
    if (r == 0)
        r = tell_writer(out, s->spool);
    if (r == 0) {
        ty_memlimit_find(&s->limit);
        run(s, out);
    }
    ty_spool_writer_free(s->spool);
    ty_systree_free(s->tree);
    free(s->ticks);
    free(s);
    return r;
}
