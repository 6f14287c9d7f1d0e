/* page.c - what all pages have in common; the list of runs; the files that pages are drawn with */
#include "http/page.h"
#include "base/clock.h"
#include "store/store.h"
#include <errno.h>
#include <microhttpd.h>
#include <string.h>

#define LIST_RUNS 50

void page_begin(struct ty_str *s, const char *title, const char *attributes, const char *place)
{
    html_add(
        s,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>%s</title>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/static/page.css\">\n"
        "<script src=\"/static/page.js\" defer></script></head>\n",
        title);
    ty_str_addf(s, "<body%s>\n", attributes);
    html_add(s,
             "<header><a href=\"/\">Trainyard</a><nav aria-label=\"Pages\"><a href=\"/\">Runs</a> "
             "<a href=\"/machines\">Machines</a></nav><span>%s</span></header>\n<main>\n",
             place);
}

void page_end(struct ty_str *s)
{
    ty_str_add(s, "</main>\n<footer>Trainyard " TY_VERSION
                  "; all times are UTC</footer>\n</body>\n</html>\n");
}

void page_state(struct ty_str *s, const char *state, const char *id)
{
    html_add(s, "<span class=\"state %s\"", state);
    if (id)
        html_add(s, " id=\"%s\"", id);
    html_add(s, ">%s</span>", state);
}

static int64_t time_of(const json_t *run, const char *key, int64_t otherwise)
{
    const char *text = json_string_value(json_object_get(run, key));
    int64_t us;

    return text && ty_time_parse(text, false, &us) == 0 ? us : otherwise;
}

void page_took(struct ty_str *s, const json_t *run)
{
    int64_t started = time_of(run, "started", 0), ended = time_of(run, "ended", ty_wall_us());

    if (started)
        html_duration(s, ended > started ? ended - started : 0);
    else
        ty_str_add(s, "&ndash;");
}

int page_reply(struct request *req, struct ty_str *page)
{
    if (page->failed)
        return ty_error_oom(&req->err);
    return reply_text(&req->reply, "text/html; charset=utf-8", page);
}

/* ---- the list ---- */

void page_experiment(struct ty_str *s, const char *experiment)
{
    ty_str_add(s, "<a href=\"/?experiment=");
    ty_str_add_url(s, experiment, false);
    html_add(s, "\">%s</a>", experiment);
}

static void add_name(struct ty_str *s, const json_t *run)
{
    const char *id = json_string_value(json_object_get(run, "id")),
               *name = json_string_value(json_object_get(run, "display_name")),
               *command = json_string_value(json_object_get(run, "command_line")),
               *why = json_string_value(json_object_get(run, "why"));
    CLEANUP_FREE char *path = ty_route_path(TY_ROUTE_page_run, (const char *const[]){ id, NULL });

    html_add(s, "<a href=\"%s\">%s</a>", path, name ? name : id);
    if (name && strcmp(name, id) != 0)
        html_add(s, "<br><span class=\"path faint\">%s</span>", id);
    if (command)
        html_add(s, "<br><span class=\"path faint command\">%s</span>", command);
    if (why)
        html_add(s, "<br><span class=\"faint\">%s</span>", why);
}

static void add_row(struct ty_str *s, const json_t *run)
{
    ty_str_add(s, "<tr><td>");
    page_state(s, json_string_value(json_object_get(run, "state")), NULL);
    ty_str_add(s, "</td><td class=\"name\">");
    add_name(s, run);
    ty_str_add(s, "</td><td>");
    page_experiment(s, json_string_value(json_object_get(run, "experiment")));
    html_add(s, "</td><td>%s</td><td>%s</td><td>",
             json_string_value(json_object_get(run, "target")),
             json_string_value(json_object_get(run, "user")));
    html_time(s, json_object_get(run, "created"));
    ty_str_add(s, "</td><td class=\"nowrap\">");
    page_took(s, run);
    ty_str_add(s, "</td></tr>\n");
}

/* The list's address, with other filters than it has. */
static void add_list_link(struct ty_str *s, const char *experiment, const char *state,
                          const char *before)
{
    const char *const parts[][2] = { { "experiment", experiment },
                                     { "state", state },
                                     { "before", before } };
    const char *sign = "?";

    ty_str_add(s, "<a href=\"/");
    for (size_t i = 0; i < 3; i++) {
        if (!parts[i][1])
            continue;
        ty_str_addf(s, "%s%s=", sign, parts[i][0]);
        ty_str_add_url(s, parts[i][1], false);
        sign = "&amp;";
    }
    ty_str_add(s, "\"");
}

/* Which runs are shown, and the way to the others. */
static void add_filters(struct ty_str *s, const struct ty_run_filter *f)
{
    static const char *const states[][2] = { { NULL, "All" },
                                             { "active", "Active" },
                                             { "Completed", "Completed" },
                                             { "Failed", "Failed" },
                                             { "Canceled", "Canceled" } };

    ty_str_add(s, "<nav class=\"filters\" aria-label=\"Which runs\">");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        bool here = f->state ? states[i][0] && strcmp(f->state, states[i][0]) == 0 : !states[i][0];

        add_list_link(s, f->experiment, states[i][0], NULL);
        ty_str_addf(s, "%s>%s</a> ", here ? " aria-current=\"page\"" : "", states[i][1]);
    }
    ty_str_add(s, "</nav>\n");
}

static void add_no_run(struct ty_str *s, const struct ty_run_filter *f)
{
    ty_str_add(s,
               f->experiment || f->state || f->before
                   ? "<p>No run matches.</p>\n"
                   : "<p>There is no run here yet: <code>trainyard run -- python3 train.py</code> "
                     "makes one.</p>\n");
}

static void add_list(struct ty_str *s, const struct ty_run_filter *f, const json_t *runs,
                     const char *next)
{
    const json_t *run;
    size_t i;

    page_begin(s, f->experiment ? f->experiment : "Runs", f->before ? "" : " data-list=\"1\"",
               f->experiment ? f->experiment : "");
    html_add(s, "<h1>%s</h1>\n", f->experiment ? f->experiment : "Runs");
    add_filters(s, f);
    if (json_array_size(runs) == 0)
        add_no_run(s, f);
    else
        ty_str_add(s, "<div class=\"scroll\"><table class=\"runs\"><thead><tr><th>State</th>"
                      "<th>Run</th><th>Experiment</th><th>Target</th><th>User</th>"
                      "<th>Submitted</th><th>Took</th></tr></thead><tbody>\n");
    json_array_foreach (runs, i, run)
        add_row(s, run);
    if (json_array_size(runs) > 0)
        ty_str_add(s, "</tbody></table></div>\n");
    if (next) {
        ty_str_add(s, "<p>");
        add_list_link(s, f->experiment, f->state, next);
        ty_str_add(s, ">Older runs</a></p>\n");
    }
    page_end(s);
}

int ty_http_page_list(struct request *req, struct reply *reply)
{
    struct ty_run_filter f = { .experiment = request_param(req, "experiment"),
                               .state = request_param(req, "state"),
                               .before = request_param(req, "before"),
                               .limit = LIST_RUNS };
    CLEANUP_STR struct ty_str page = { 0 };
    CLEANUP_JSON json_t *runs = NULL;
    CLEANUP_FREE char *next = NULL;
    int64_t id;
    int r = runs_only_own(req, &f);

    (void)reply;
    if (r == 0 && f.before && (r = ty_store_run_id(req->http->o.store, f.before, &id)) < 0)
        return run_missing(req, r, f.before);
    if (r < 0)
        return r;
    r = ty_store_runs(req->http->o.store, &f, &runs, &next);
    if (r < 0)
        return ty_error_set(&req->err, r, "cannot read the runs from the state folder: %s",
                            strerror(-r));
    ty_sched_annotate_all(req->http->o.sched, runs);
    add_list(&page, &f, runs, next);
    return page_reply(req, &page);
}

/* ---- static files ---- */

int ty_http_page_static(struct request *req, struct reply *reply)
{
    const char *known = request_header(req, MHD_HTTP_HEADER_IF_NONE_MATCH);
    const struct static_file *f = static_files;
    CLEANUP_STR struct ty_str text = { 0 };
    int r;

    while (f->name && strcmp(f->name, req->args[0]) != 0)
        f++;
    if (!f->name)
        return ty_error_set(&req->err, -ENOENT, "the pages are drawn without a file '%.80s'",
                            req->args[0]);
    if (known && strcmp(known, f->etag) == 0) {
        r = reply_nothing(reply);
        reply->status = 304;
    } else {
        ty_str_addn(&text, f->bytes, f->n);
        r = reply_text(reply, f->type, &text);
    }
    if (r == 0)
        r = reply_header(reply, MHD_HTTP_HEADER_ETAG, f->etag);
    return r == 0 ? reply_header(reply, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache") : r;
}
