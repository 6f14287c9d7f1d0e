/* prometheus.c - how the daemon is, for those who collect numbers: the text format of Prometheus, version 0.0.4 */
#include "base/clock.h"
#include "base/fs.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <trainyard/client.h>

#define TYPE "text/plain; version=0.0.4; charset=utf-8"

static void add(struct ty_str *out, const char *name, const char *type, const char *help,
                double value)
{
    ty_str_addf(out, "# HELP trainyard_%s %s\n# TYPE trainyard_%s %s\ntrainyard_%s %.17g\n", name,
                help, name, type, name, value);
}

static double number(const json_t *o, const char *part, const char *key)
{
    return (double)json_integer_value(json_object_get(part ? json_object_get(o, part) : o, key));
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void add_all(struct ty_str *out, const struct ty_http_options *o, const json_t *status,
                    const json_t *counts)
{
    struct rusage used;

    ty_str_addf(out,
                "# HELP trainyard_build_info The version of this daemon.\n"
                "# TYPE trainyard_build_info gauge\n"
                "trainyard_build_info{version=\"%s\"} 1\n",
                TY_VERSION);
    add(out, "start_time_seconds", "gauge", "When this daemon was started, Unix time.",
        (double)o->started_us / 1e6);
    add(out, "runs_stored", "gauge", "Runs that are kept.", number(counts, NULL, "runs"));
    add(out, "runs_active", "gauge", "Runs that have not ended.", number(status, "runs", "active"));
    add(out, "runs_queued", "gauge", "Runs that wait for slots.", number(status, "runs", "queued"));
    add(out, "queue_paused", "gauge", "1 when no run may start.",
        json_is_true(json_object_get(status, "queue_paused")));
    add(out, "cpu_slots", "gauge", "CPU slots of this box.", number(status, "slots", "cpus"));
    add(out, "cpu_slots_used", "gauge", "CPU slots that runs hold.",
        number(status, "slots", "used"));
    add(out, "memory_slots_bytes", "gauge", "Memory that runs may ask for.",
        number(status, "slots", "memory_mb") * (1 << 20));
    add(out, "memory_slots_used_bytes", "gauge", "Memory that running runs have asked for.",
        number(status, "slots", "memory_used_mb") * (1 << 20));
    add(out, "database_bytes", "gauge", "Size of the database with its log.",
        number(counts, NULL, "db_bytes"));
    add(out, "free_bytes", "gauge", "Free space for the state folder.",
        (double)ty_fs_free_bytes(o->home));
    add(out, "store_ok", "gauge", "1 when the store can write.", ty_store_failed(o->store) == 0);
    if (getrusage(RUSAGE_SELF, &used) == 0)
        add(out, "cpu_seconds_total", "counter", "CPU time of this daemon.",
            seconds(used.ru_utime) + seconds(used.ru_stime));
}

int ty_http_prometheus_get(struct request *req, struct reply *reply)
{
    const struct ty_http_options *o = &req->http->o;
    CLEANUP_JSON json_t *status = json_object(), *counts = NULL;
    CLEANUP_STR struct ty_str out = { 0 };
    int r = ty_store_counts(o->store, &counts);

    if (r < 0 || !status) {
        errno = r < 0 ? -r : ENOMEM;
        return ty_error_set(&req->err, -errno, "cannot read the state folder '%s': %m", o->home);
    }
    ty_sched_status(o->sched, status);
    add_all(&out, o, status, counts);
    return reply_text(reply, TYPE, &out);
}
