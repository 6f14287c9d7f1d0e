/* page_run.c - the page of one run
 *
 * What is known of the run itself is read at once, on the loop; files, metrics and the log's end are read, and the page is written,
 * on the pool.
 * `part=metrics` gives the curves alone, for a page that is shown already; `part=system` those of the machines.
 */
#include "base/clock.h"
#include "core/row.h"
#include "http/page.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define RANKS_LISTED 256
#define LOG_TAIL (48 * 1024)
#define CURVES_MAX 48
#define VALUES_MAX 200 /* in the table of single values */
#define TEXT_MAX_SHOWN 300
#define FILES_MAX 500
#define EVENTS_MAX 200

struct page {
    int64_t id, seq; /* seq: of the last event that is shown */
    json_t *run, *files, *events;
    int64_t rank, ranks; /* whose log is shown, of how many */
    char log_name[TY_DRIVER_LOG_MAX];
    char *log; /* path of the file */
    uint64_t log_bytes;
};

static void page_free(void *data)
{
    struct page *p = data;

    json_decref(p->run);
    json_decref(p->files);
    json_decref(p->events);
    free(p->log);
    free(p);
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static bool is_going(const struct page *p)
{
    return !ty_run_state_ended(ty_run_state_parse(text_of(p->run, "state")));
}

/* ---- metrics ---- */

static bool is_curve(const json_t *value)
{
    const json_t *one;
    size_t i;

    if (json_array_size(value) < 2)
        return false;
    json_array_foreach (value, i, one)
        if (!json_is_number(one) && !json_is_null(one))
            return false;
    return true;
}

static void add_curve(struct ty_str *s, const char *name, const json_t *value)
{
    size_t n = json_array_size(value), i;
    double *values = malloc(n * sizeof *values);
    const json_t *one;

    if (!values) {
        s->failed = true;
        return;
    }
    json_array_foreach (value, i, one)
        values[i] = json_is_number(one) ? json_number_value(one) : NAN;
    html_chart(s, name, values, n);
    free(values);
}

static void add_value(struct ty_str *s, const char *name, const json_t *value)
{
    CLEANUP_FREE char *text = json_is_string(value)
                                  ? strdup(json_string_value(value))
                                  : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;

    html_add(s, "<tr><th scope=\"row\">%s</th><td class=\"path\">", name);
    html_textn(s, text ? text : "", n > TEXT_MAX_SHOWN ? ty_utf8_whole(text, TEXT_MAX_SHOWN) : n);
    ty_str_add(s, n > TEXT_MAX_SHOWN ? "&hellip;</td></tr>\n" : "</td></tr>\n");
}

static void add_curves(struct ty_str *s, json_t *metrics)
{
    int shown = 0, more = 0;
    const char *name;
    json_t *value;

    ty_str_add(s, "<div class=\"charts\">\n");
    json_object_foreach (metrics, name, value) {
        if (!is_curve(value))
            continue;
        if (shown++ < CURVES_MAX)
            add_curve(s, name, value);
        else
            more++;
    }
    ty_str_add(s, "</div>\n");
    if (more)
        ty_str_addf(
            s,
            "<p class=\"faint\">%d more curves are not drawn; <code>trainyard metrics</code> has them.</p>\n",
            more);
}

static void add_values(struct ty_str *s, json_t *metrics)
{
    const char *name;
    json_t *value;
    int shown = 0;

    json_object_foreach (metrics, name, value) {
        if (is_curve(value) || shown == VALUES_MAX)
            continue;
        if (shown++ == 0)
            ty_str_add(s, "<div class=\"scroll\"><table><tbody>\n");
        add_value(s, name, value);
    }
    if (shown)
        ty_str_add(s, "</tbody></table></div>\n");
}

/* `set` as of ty_store_metrics. */
static void add_metrics(struct ty_str *s, const struct ty_http *h, const struct page *p,
                        const char *set, const char *none)
{
    CLEANUP_JSON json_t *metrics = NULL;
    int r = ty_store_read_metrics(h->o.home, p->id, set, 0, &metrics);

    if (!set && (r < 0 || json_object_size(metrics) > 0))
        ty_str_add(s, "<h2>Metrics</h2>\n");
    if (r == -EFBIG)
        ty_str_addf(
            s,
            "<p>There are more than %d values: <code>trainyard metrics</code> shows one by name.</p>\n",
            TY_STORE_VALUES_MAX);
    else if (r < 0)
        ty_str_addf(s, "<p>They cannot be read: %s</p>\n", strerror(-r));
    else if (json_object_size(metrics) > 0) {
        add_curves(s, metrics);
        add_values(s, metrics);
    } else {
        ty_str_add(s, none);
    }
}

static void add_logged(struct ty_str *s, const struct ty_http *h, const struct page *p)
{
    ty_str_add(s, "<section id=\"metrics\">\n");
    add_metrics(s, h, p, NULL, "");
    ty_str_add(s, "</section>\n");
}

/* There may be very many: they are read when somebody opens this, `part=system`. */
static void add_system(struct ty_str *s, const struct ty_http *h, const struct page *p)
{
    ty_str_add(s, "<details id=\"system\"><summary>System metrics</summary>\n"
                  "<div id=\"system-charts\">\n");
    if (h)
        add_metrics(s, h, p, TY_ROW_SYSTEM,
                    "<p class=\"faint\">None were sampled; the first come two seconds after the "
                    "start.</p>\n");
    ty_str_add(s, "</div></details>\n");
}

/* ---- the log ---- */

/* The end of the log, from the beginning of a line; *at becomes where a follower goes on. */
static void add_log(struct ty_str *s, const struct page *p, uint64_t *at)
{
    CLEANUP_CLOSE int fd = p->log_bytes ? open(p->log, O_RDONLY | O_CLOEXEC) : -1;
    uint64_t from = p->log_bytes > LOG_TAIL ? p->log_bytes - LOG_TAIL : 0;
    CLEANUP_FREE char *bytes = malloc(LOG_TAIL);
    ssize_t n = fd >= 0 && bytes ? pread(fd, bytes, (size_t)(p->log_bytes - from), (off_t)from) : 0;
    char *line = from > 0 && n > 0 ? memchr(bytes, '\n', (size_t)n) : NULL;
    size_t skip = line ? (size_t)(line + 1 - bytes) : 0;
    size_t whole = n > 0 ? ty_utf8_whole(bytes, (size_t)n) : 0;

    *at = from + whole;
    ty_str_addf(
        s,
        "<pre class=\"log\" id=\"log\" tabindex=\"0\" aria-label=\"The last lines of the log\"%s>",
        whole > skip ? "" : " hidden");
    if (whole > skip)
        html_log(s, bytes + skip, whole - skip);
    ty_str_addf(s, "</pre>\n<p class=\"faint\" id=\"no-log\"%s>Nothing was printed yet.</p>\n",
                whole > skip ? " hidden" : "");
}

/* Of a run of several processes: whose log this is, and the way to the others. */
static void add_ranks(struct ty_str *s, const struct page *p)
{
    int64_t listed = p->ranks < RANKS_LISTED ? p->ranks : RANKS_LISTED;

    if (p->ranks < 2)
        return;
    ty_str_add(s, "<p id=\"ranks\">Process");
    for (int64_t i = 0; i < listed; i++)
        if (i == p->rank)
            ty_str_addf(s, " <strong aria-current=\"page\">%lld</strong>", (long long)i);
        else
            ty_str_addf(s, " <a href=\"?rank=%lld\">%lld</a>", (long long)i, (long long)i);
    if (p->ranks > listed)
        ty_str_addf(s, " ... %lld", (long long)p->ranks - 1);
    ty_str_add(s, "</p>\n");
}

static void add_log_section(struct ty_str *s, const struct page *p, uint64_t *at)
{
    const char *id = text_of(p->run, "id");
    CLEANUP_FREE char *path =
        ty_route_path(TY_ROUTE_file_get, (const char *const[]){ id, p->log_name, NULL });

    ty_str_add(s, "<section>\n<h2>Log</h2>\n");
    add_ranks(s, p);
    add_log(s, p, at);
    if (p->log_bytes > LOG_TAIL)
        html_add(s, "<p><a href=\"%s\">The whole log</a></p>\n", path);
    ty_str_add(s, "</section>\n");
}

/* ---- the rest ---- */

static void fact(struct ty_str *s, const char *what, const char *value)
{
    if (value)
        html_add(s, "<div><dt>%s</dt><dd>%s</dd></div>\n", what, value);
}

static void fact_time(struct ty_str *s, const char *what, const json_t *iso)
{
    html_add(s, "<div><dt>%s</dt><dd>", what);
    html_time(s, iso);
    ty_str_add(s, "</dd></div>\n");
}

static void add_facts(struct ty_str *s, const struct page *p)
{
    const json_t *run = p->run, *code = json_object_get(run, "exit_code");
    const char *parent = text_of(run, "parent");
    char number[48];

    ty_str_add(s, "<dl class=\"facts\">\n");
    if (text_of(run, "display_name") &&
        strcmp(text_of(run, "display_name"), text_of(run, "id")) != 0)
        fact(s, "Run", text_of(run, "id"));
    ty_str_add(s, "<div><dt>Experiment</dt><dd>");
    page_experiment(s, text_of(run, "experiment"));
    ty_str_add(s, "</dd></div>\n");
    fact(s, "Target", text_of(run, "target"));
    if (p->ranks > 1) {
        snprintf(number, sizeof number, "%lld x %lld",
                 (long long)json_integer_value(json_object_get(run, "node_count")),
                 (long long)json_integer_value(json_object_get(run, "process_count_per_node")));
        fact(s, "Nodes x processes", number);
    }
    fact(s, "User", text_of(run, "user"));
    fact_time(s, "Submitted", json_object_get(run, "created"));
    fact_time(s, "Started", json_object_get(run, "started"));
    fact_time(s, "Ended", json_object_get(run, "ended"));
    html_add(s, "<div><dt>Took</dt><dd id=\"took\" data-since=\"%s\">",
             is_going(p) ? text_of(run, "started") : NULL);
    page_took(s, run);
    ty_str_add(s, "</dd></div>\n");
    if (json_is_integer(code)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(code));
        fact(s, "Exit code", number);
    }
    if (parent) {
        CLEANUP_FREE char *path =
            ty_route_path(TY_ROUTE_page_run, (const char *const[]){ parent, NULL });

        html_add(s, "<div><dt>Child of</dt><dd><a href=\"%s\">%s</a></dd></div>\n", path, parent);
    }
    ty_str_add(s, "</dl>\n");
}

static void add_error(struct ty_str *s, const json_t *error)
{
    const char *tail = text_of(error, "log_tail");

    if (!json_is_object(error))
        return;
    html_add(s, "<section class=\"error\" aria-label=\"Error\"><p><b>%s</b>: %s</p>\n",
             text_of(error, "code"), text_of(error, "message"));
    if (tail && *tail) {
        ty_str_add(s, "<pre>");
        html_log(s, tail, strlen(tail));
        ty_str_add(s, "</pre>\n");
    }
    ty_str_add(s, "</section>\n");
}

static void add_warnings(struct ty_str *s, const json_t *warnings)
{
    const json_t *one;
    size_t i;

    json_array_foreach (warnings, i, one)
        html_add(s, "<p class=\"warning\">%s</p>\n", json_string_value(one));
}

static void add_pairs(struct ty_str *s, const char *title, json_t *pairs)
{
    const char *key;
    json_t *value;

    if (json_object_size(pairs) == 0)
        return;
    html_add(s, "<section>\n<h2>%s</h2>\n<div class=\"scroll\"><table><tbody>\n", title);
    json_object_foreach (pairs, key, value) {
        CLEANUP_FREE char *text = json_is_string(value) || json_is_null(value)
                                      ? NULL
                                      : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

        html_add(s, "<tr><th scope=\"row\">%s</th><td class=\"path\">%s</td></tr>\n", key,
                 text ? text : json_string_value(value));
    }
    ty_str_add(s, "</tbody></table></div>\n</section>\n");
}

static void add_reproduce(struct ty_str *s, const struct page *p)
{
    const char *command = text_of(p->run, "command_line"), *id = text_of(p->run, "id");

    if (!command || strcmp(text_of(p->run, "kind"), "interactive") == 0)
        return;
    html_add(s,
             "<section>\n<h2>How it was run, and how to do it again</h2>\n<pre>%s</pre>\n"
             "<pre>trainyard rerun %s          # with the files as they are now\n"
             "trainyard rerun --exact %s  # with the files as they were</pre>\n",
             command, id, id);
    if (text_of(p->run, "snapshot"))
        html_add(s, "<p class=\"faint\">Snapshot <code>%s</code></p>\n",
                 text_of(p->run, "snapshot"));
    ty_str_add(s, "</section>\n");
}

static void add_files(struct ty_str *s, const struct page *p)
{
    const json_t *file;
    char size[16];
    size_t i;

    if (json_array_size(p->files) == 0)
        return;
    ty_str_add(s, "<section>\n<h2>Files</h2>\n<div class=\"scroll\"><table><tbody>\n");
    json_array_foreach (p->files, i, file) {
        const char *path = text_of(file, "path");
        CLEANUP_FREE char *at = NULL;

        if (i == FILES_MAX)
            break;
        at = ty_route_path(TY_ROUTE_file_get,
                           (const char *const[]){ text_of(p->run, "id"), path, NULL });
        html_add(
            s,
            "<tr><td><a class=\"path\" href=\"%s\">%s</a></td><td class=\"number\">%s</td></tr>\n",
            at, path,
            ty_show_bytes((uint64_t)json_integer_value(json_object_get(file, "bytes")), size));
    }
    ty_str_add(s, "</tbody></table></div>\n");
    if (json_array_size(p->files) > FILES_MAX)
        ty_str_addf(
            s,
            "<p class=\"faint\">%zu more: <code>trainyard artifacts ls</code> has them all.</p>\n",
            json_array_size(p->files) - FILES_MAX);
    ty_str_add(s, "</section>\n");
}

static void add_events(struct ty_str *s, const struct page *p)
{
    const json_t *event;
    size_t i;

    ty_str_add(s, "<details>\n<summary>Events</summary>\n<div class=\"scroll\"><table><tbody>\n");
    json_array_foreach (p->events, i, event) {
        if (i == EVENTS_MAX)
            break;
        ty_str_add(s, "<tr><td>");
        html_time(s, json_object_get(event, "at"));
        html_add(s, "</td><td>%s</td></tr>\n", text_of(event, "kind"));
    }
    ty_str_add(s, "</tbody></table></div>\n</details>\n");
}

static void add_top(struct ty_str *s, const struct page *p, const char *name)
{
    html_add(s, "<h1>%s ", name);
    page_state(s, text_of(p->run, "state"), "state");
    ty_str_add(s, " <button type=\"button\" id=\"cancel\" hidden>Cancel</button>");
    html_add(s, "</h1>\n<p class=\"faint\" id=\"why\">%s</p>\n", text_of(p->run, "why"));
}

static void write_page(struct ty_str *s, const struct ty_http *h, const struct page *p)
{
    const char *id = text_of(p->run, "id"), *display = text_of(p->run, "display_name"),
               *name = display ? display : id;
    CLEANUP_STR struct ty_str attributes = { 0 }, log = { 0 };
    CLEANUP_FREE char *title = ty_strf("%s · %s", text_of(p->run, "state"), name);
    uint64_t at = 0;

    add_log_section(&log, p, &at);
    html_add(&attributes, " data-run=\"%s\" data-name=\"%s\" data-log=\"%s\"", id, name,
             p->log_name);
    ty_str_addf(&attributes, " data-going=\"%s\" data-after=\"%lld:%llu\"", is_going(p) ? "1" : "",
                (long long)p->seq, (unsigned long long)at);
    page_begin(s, title, attributes.text, text_of(p->run, "experiment"));
    add_top(s, p, name);
    add_warnings(s, json_object_get(p->run, "warnings"));
    add_error(s, json_object_get(p->run, "error"));
    add_facts(s, p);
    add_logged(s, h, p);
    add_system(s, NULL, p);
    ty_str_add(s, log.text);
    page_environment(s, json_object_get(p->run, "environment"));
    add_reproduce(s, p);
    add_files(s, p);
    add_pairs(s, "Tags", json_object_get(p->run, "tags"));
    add_pairs(s, "Properties", json_object_get(p->run, "properties"));
    add_events(s, p);
    page_end(s);
    s->failed |= attributes.failed || log.failed;
}

static int on_pool(struct request *req)
{
    CLEANUP_STR struct ty_str text = { 0 };
    const char *part = request_param(req, "part");
    struct page *p = req->data;
    int r = 0;

    if (part && strcmp(part, "system") == 0)
        add_system(&text, req->http, p);
    else if (part)
        add_logged(&text, req->http, p);
    else if ((r = ty_store_read_files(req->http->o.home, p->id, &p->files)) == 0)
        write_page(&text, req->http, p);
    return r < 0 ? run_missing(req, r, req->args[0]) : page_reply(req, &text);
}

static int check_part(struct request *req)
{
    const char *part = request_param(req, "part");

    return !part || strcmp(part, "metrics") == 0 || strcmp(part, "system") == 0
               ? 0
               : ty_error_set(&req->err, -EINVAL,
                              "the query parameter 'part' is '%.40s'; it can be metrics or system",
                              part);
}

static int choose_log(struct request *req, struct page *p)
{
    p->ranks = json_integer_value(json_object_get(p->run, "node_count")) *
               json_integer_value(json_object_get(p->run, "process_count_per_node"));
    p->rank = request_count(req, "rank", 0);
    if (p->rank >= p->ranks)
        return ty_error_set(&req->err, -EINVAL,
                            "run '%s' has no process %lld; the first is 0 and the last %lld",
                            req->args[0], (long long)p->rank, (long long)p->ranks - 1);
    ty_driver_log((int)p->rank, (int)p->ranks, p->log_name);
    return 0;
}

static int read_page(struct request *req, struct page *p)
{
    struct ty_store *st = req->http->o.store;
    const char *run = req->args[0];
    int r = ty_store_run_id(st, run, &p->id);

    if (r == 0)
        r = ty_store_run(st, run, false, &p->run);
    if (r == 0)
        r = ty_store_events(st, p->id, 0, 1000, &p->events);
    if (r < 0)
        return run_missing(req, r, run);
    ty_sched_annotate(req->http->o.sched, p->run);
    p->seq = json_integer_value(
        json_object_get(json_array_get(p->events, json_array_size(p->events) - 1), "seq"));
    r = choose_log(req, p);
    if (r < 0)
        return r;
    p->log = ty_store_log_path(st, run, p->log_name);
    if (ty_store_log_size(st, p->id, p->log_name, &p->log_bytes) < 0)
        p->log_bytes = 0;
    return p->log ? 0 : ty_error_oom(&req->err);
}

int ty_http_page_run(struct request *req, struct reply *reply)
{
    struct page *p;
    int r = check_part(req);

    (void)reply;
    if (r < 0)
        return r;
    p = calloc(1, sizeof *p);
    if (!p)
        return ty_error_oom(&req->err);
    request_keep(req, p, page_free);
    r = read_page(req, p);
    return r < 0 ? r : request_work(req, on_pool, NULL);
}
