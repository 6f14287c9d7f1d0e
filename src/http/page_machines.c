/* page_machines.c - where runs are placed: machines, targets, who waits, and where data lies
 *
 * Everything is read at once, on the loop; each part is what the API gives of it.
 */
#include "http/page.h"
#include "store/store.h"
#include <string.h>

#define ROWS_MAX 500

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static long long number_of(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static void begin_table(struct ty_str *s, const char *heads)
{
    ty_str_addf(s, "<div class=\"scroll\"><table><thead><tr>%s</tr></thead><tbody>\n", heads);
}

static void end_table(struct ty_str *s, size_t rows)
{
    ty_str_add(s, "</tbody></table></div>\n");
    if (rows > ROWS_MAX)
        ty_str_addf(s, "<p class=\"faint\">and %zu more</p>\n", rows - ROWS_MAX);
}

/* Used and all, with a bar between: seen from afar, and read out as the numbers. */
static void add_use(struct ty_str *s, long long used, long long all)
{
    ty_str_addf(s,
                "<td class=\"nowrap\"><meter min=\"0\" max=\"%lld\" value=\"%lld\" "
                "aria-hidden=\"true\"></meter> %lld of %lld</td>",
                all > 0 ? all : 1, used, used, all);
}

static long long gpus_used(const json_t *gpus)
{
    const json_t *gpu;
    long long used = 0;
    size_t i;

    json_array_foreach (gpus, i, gpu)
        used += json_is_string(json_object_get(gpu, "run"));
    return used;
}

static void add_node(struct ty_str *s, const json_t *node)
{
    const json_t *gpus = json_object_get(node, "gpus"), *target;
    const char *why = text_of(node, "why");
    size_t i;

    html_add(s, "<tr><td>%s</td><td>%s", text_of(node, "name"), text_of(node, "state"));
    if (why)
        html_add(s, "<br><span class=\"faint\">%s</span>", why);
    ty_str_add(s, "</td>");
    add_use(s, number_of(node, "cpus_used"), number_of(node, "cpus"));
    add_use(s, number_of(node, "memory_used_mb"), number_of(node, "memory_mb"));
    add_use(s, gpus_used(gpus), (long long)json_array_size(gpus));
    ty_str_add(s, "<td>");
    json_array_foreach (json_object_get(node, "targets"), i, target)
        html_add(s, i ? ", %s" : "%s", json_string_value(target));
    ty_str_addf(s, "</td><td>%zu</td></tr>\n", json_array_size(json_object_get(node, "runs")));
}

static void add_nodes(struct ty_str *s, const json_t *nodes)
{
    const json_t *node;
    size_t i;

    begin_table(s, "<th>Machine</th><th>State</th><th>CPU slots</th><th>Memory asked for, MB</th>"
                   "<th>GPUs</th><th>Targets</th><th>Runs</th>");
    json_array_foreach (nodes, i, node)
        if (i < ROWS_MAX)
            add_node(s, node);
    end_table(s, json_array_size(nodes));
}

/* Everybody sees the queue; the page of a run is for those who may read it (`only_of` NULL: of anybody). */
static void add_waiting(struct ty_str *s, const json_t *run, size_t place, const char *only_of)
{
    const char *id = text_of(run, "id"), *user = text_of(run, "user");
    CLEANUP_FREE char *path = ty_route_path(TY_ROUTE_page_run, (const char *const[]){ id, NULL });

    ty_str_addf(s, "<tr><td>%zu</td><td>", place);
    if (only_of && strcmp(user, only_of) != 0)
        html_text(s, id);
    else
        html_add(s, "<a href=\"%s\">%s</a>", path, id);
    html_add(s, "</td><td>%s</td><td>%s</td></tr>\n", user, text_of(run, "why"));
}

static void add_queue(struct ty_str *s, const json_t *queue, const char *only_of)
{
    const json_t *runs = json_object_get(queue, "runs"), *run;
    size_t i;

    ty_str_add(s, "<h2>Waiting</h2>\n");
    if (json_is_true(json_object_get(queue, "paused")))
        ty_str_add(
            s,
            "<p class=\"warning\">The queue is paused: no run starts until <code>trainyard queue "
            "resume</code>.</p>\n");
    if (json_array_size(runs) == 0) {
        ty_str_add(s, "<p class=\"faint\">No run waits.</p>\n");
        return;
    }
    begin_table(s, "<th>Place</th><th>Run</th><th>User</th><th>Why</th>");
    json_array_foreach (runs, i, run)
        if (i < ROWS_MAX)
            add_waiting(s, run, i + 1, only_of);
    end_table(s, json_array_size(runs));
}

static void add_targets(struct ty_str *s, struct ty_http *h, json_t *targets)
{
    json_t *target;
    size_t i;

    ty_str_add(s, "<h2>Compute targets</h2>\n");
    begin_table(s, "<th>Target</th><th>Kind</th><th>Nodes in use</th><th>Label</th>");
    json_array_foreach (targets, i, target) {
        const json_t *spec = json_object_get(target, "spec"), *nodes;

        if (i >= ROWS_MAX)
            break;
        ty_sched_annotate_target(h->o.sched, target);
        nodes = json_object_get(target, "nodes");
        html_add(s, "<tr><td>%s</td><td>%s</td>", text_of(target, "name"), text_of(spec, "kind"));
        add_use(s, number_of(nodes, "running"), number_of(nodes, "max"));
        html_add(s, "<td>%s</td></tr>\n", text_of(spec, "vm_size"));
    }
    end_table(s, json_array_size(targets));
}

static void add_datastores(struct ty_str *s, const json_t *stores)
{
    const json_t *store;
    size_t i;

    ty_str_add(s, "<h2>Datastores</h2>\n");
    begin_table(s, "<th>Datastore</th><th>Kind</th><th></th>");
    json_array_foreach (stores, i, store) {
        if (i >= ROWS_MAX)
            break;
        html_add(s, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", text_of(store, "name"),
                 text_of(store, "kind"),
                 json_is_true(json_object_get(store, "default")) ? "the default one" : "");
    }
    end_table(s, json_array_size(stores));
}

int ty_http_page_machines(struct request *req, struct reply *reply)
{
    struct ty_http *h = req->http;
    struct ty_run_filter f = { 0 };
    CLEANUP_STR struct ty_str page = { 0 };
    CLEANUP_JSON json_t *nodes = NULL;
    CLEANUP_JSON json_t *queue = NULL;
    CLEANUP_JSON json_t *targets = NULL;
    CLEANUP_JSON json_t *stores = NULL;
    int r = runs_only_own(req, &f);

    (void)reply;
    if (r < 0)
        return r;
    if (ty_sched_nodes(h->o.sched, &nodes) < 0 || ty_sched_queue(h->o.sched, &queue) < 0)
        return ty_error_oom(&req->err);
    r = ty_store_targets(h->o.store, &targets);
    if (r == 0)
        r = ty_store_datastores(h->o.store, &stores);
    if (r < 0)
        return ty_error_set(&req->err, r,
                            "cannot read the targets and datastores from the state folder: %s",
                            strerror(-r));
    page_begin(&page, "Machines", " data-list=\"1\"", "");
    ty_str_add(&page, "<h1>Machines</h1>\n");
    add_nodes(&page, json_object_get(nodes, "nodes"));
    add_queue(&page, queue, f.user);
    add_targets(&page, h, targets);
    add_datastores(&page, stores);
    page_end(&page);
    return page_reply(req, &page);
}
