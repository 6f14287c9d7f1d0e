/* cmd_why.c - trainyard why: why a run waits, that it runs or is silent since when, or why it ended
 *
 * One sentence, made of the run and of its event log; under it what the sentence rests on: for a run
 * that waits the queue before it and those that use the slots, for one that failed its last lines.
 */
#include "base/clock.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/runs.h"
#include "client/stubs.h"
#include "core/run_event.h"

#define PAGE 1000
#define PAGES_MAX 100
#define AHEAD_SHOWN 10   /* of the runs before this one in the queue */
#define FULL_BYTES 65536 /* with less than this a run can write neither log nor result */
#define HOLDERS_MAX 20   /* of the runs that use slots: each is asked for by itself */

/* What the event log says of the present state. */
struct history {
    char kind[32];     /* of the last event that moved the state */
    int64_t at_us;     /* its time */
    int64_t silent_us; /* when a silent run was last heard */
    char node[128];    /* the node that was not; "": its runner */
    json_t *cancel;    /* data of the first `cancel`, owned */
    json_t *hang; /* who keeps the others waiting with what, and since when; owned; NULL: nobody */
};

/* Everything that is told of one run. */
struct story {
    json_t *run;
    struct history past;
    json_t *ahead;       /* RUNs before it in the queue, the next one first */
    json_t *holders;     /* RUNs that use slots */
    size_t holders_left; /* further ones */
    json_t *slots;       /* {"cpus", "used"} */
    json_t *boxes;       /* names of the targets that are this box, as keys */
    bool here;           /* the run's target is one of them */
    bool full;           /* the disk of the state folder: what could start waits for room */
};

static void story_done(struct story *s)
{
    json_decref(s->run);
    json_decref(s->past.cancel);
    json_decref(s->past.hang);
    json_decref(s->ahead);
    json_decref(s->holders);
    json_decref(s->slots);
    json_decref(s->boxes);
}
#define CLEANUP_STORY CLEANUP(story_done)

/* ---- what is asked for ---- */

static void set_hang(struct history *h, json_t *hang)
{
    json_decref(h->hang);
    h->hang = json_is_object(hang) ? json_incref(hang) : NULL;
}

static void on_event(const json_t *event, void *ctx)
{
    struct history *h = ctx;
    const char *kind = ty_out_str(event, "kind");
    enum ty_run_event ev = ty_run_event_parse(kind);
    json_t *data = json_object_get(event, "data");

    if (ty_note_parse(kind) == TY_NOTE_WARNED && json_object_get(data, "hang"))
        set_hang(h, json_object_get(data, "hang"));
    if (ev == TY_EV_INVALID)
        return; /* a note, which moves nothing */
    if (ev == TY_EV_STARTED || ev == TY_EV_REQUEUED)
        set_hang(h, NULL);
    snprintf(h->kind, sizeof h->kind, "%s", kind ? kind : "");
    h->at_us = ty_out_time(json_object_get(event, "at"));
    if (!strcmp(kind, "silent")) {
        h->silent_us =
            h->at_us - json_integer_value(json_object_get(data, "seconds")) * INT64_C(1000000);
        snprintf(h->node, sizeof h->node, "%s", ty_out_str(data, "node"));
    }
    if (!strcmp(kind, "cancel") && !h->cancel)
        h->cancel = json_incref(data);
}

static int by_place(const void *a, const void *b)
{
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "queue_place")),
               y = json_integer_value(json_object_get(*(json_t *const *)b, "queue_place"));

    return (x > y) - (x < y);
}

static int sort_by_place(json_t **list)
{
    size_t n = json_array_size(*list), i;
    json_t **all = calloc(n + 1, sizeof(json_t *)), *sorted = json_array();

    for (i = 0; all && i < n; i++)
        all[i] = json_array_get(*list, i);
    if (all)
        qsort(all, n, sizeof(json_t *), by_place);
    for (i = 0; all && sorted && i < n; i++)
        json_array_append(sorted, all[i]);
    free(all);
    if (json_array_size(sorted) < n) {
        json_decref(sorted);
        return -1;
    }
    json_decref(*list);
    *list = sorted;
    return 0;
}

/* Of the machines that this one could have, as far as their targets tell. */
static bool may_hold_its_slots(const struct story *s, const json_t *run)
{
    const char *target = ty_out_str(run, "target");

    return s->here ? json_object_get(s->boxes, target) != NULL
                   : strcmp(target, ty_out_str(s->run, "target")) == 0;
}

/* Part the active runs into those before this one and those that use slots. */
static void part(struct story *s, const json_t *runs)
{
    json_int_t mine = json_integer_value(json_object_get(s->run, "queue_place"));
    json_t *run;
    size_t i;

    json_array_foreach (runs, i, run) {
        const json_t *place = json_object_get(run, "queue_place");

        if (!json_is_integer(place) && may_hold_its_slots(s, run))
            json_array_append(s->holders, run);
        else if (json_is_integer(place) && json_integer_value(place) < mine)
            json_array_append(s->ahead, run);
    }
}

static int fetch_active(struct ty_cli *cli, struct story *s, struct ty_error *err)
{
    CLEANUP_FREE char *query = ty_strf("state=active&limit=%d", PAGE);
    int i;

    for (i = 0; i < PAGES_MAX && query; i++) {
        struct ty_call call = { .query = query };
        CLEANUP_JSON json_t *page = NULL;
        CLEANUP_STR struct ty_str next = { 0 };
        int r = ty_cli_get(cli, TY_ROUTE_run_list, &call, &page, err);

        if (r < 0)
            return r;
        part(s, json_object_get(page, "runs"));
        if (!json_is_string(json_object_get(page, "next")))
            break;
        ty_str_addf(&next, "state=active&limit=%d&before=", PAGE);
        ty_str_add_url(&next, ty_out_str(page, "next"), false);
        free(query);
        query = ty_str_take(&next);
    }
    return query && sort_by_place(&s->ahead) == 0 ? 0 : ty_error_oom(err);
}

/* The list does not say how many slots a run has: that stands in its specification. */
static int fetch_holders(struct ty_cli *cli, struct story *s, struct ty_error *err)
{
    size_t n = json_array_size(s->holders), i;
    int r = 0;

    if (n > HOLDERS_MAX) {
        s->holders_left = n - HOLDERS_MAX;
        n = HOLDERS_MAX;
    }
    for (i = 0; i < n && r == 0; i++) {
        json_t *whole = NULL;

        r = ty_cli_run(cli, ty_out_str(json_array_get(s->holders, i), "id"), &whole, err);
        if (r == 0)
            json_array_set_new(s->holders, i, whole);
    }
    while (json_array_size(s->holders) > n)
        json_array_remove(s->holders, n);
    return r;
}

static int fetch_boxes(struct ty_cli *cli, struct story *s, struct ty_error *err)
{
    CLEANUP_JSON json_t *targets = NULL;
    struct ty_call none = { 0 };
    const json_t *t;
    size_t i;
    int r = ty_cli_get(cli, TY_ROUTE_target_list, &none, &targets, err);

    s->boxes = json_object();
    json_array_foreach (json_object_get(targets, "targets"), i, t)
        if (strcmp(ty_out_str(json_object_get(t, "spec"), "kind"), "local") == 0)
            json_object_set_new(s->boxes, ty_out_str(t, "name"), json_true());
    s->here = json_object_get(s->boxes, ty_out_str(s->run, "target")) != NULL;
    return r;
}

static int fetch_queue(struct ty_cli *cli, struct story *s, struct ty_error *err)
{
    CLEANUP_JSON json_t *status = NULL;
    struct ty_call none = { 0 };
    int r;

    r = fetch_boxes(cli, s, err);
    if (r == 0)
        r = fetch_active(cli, s, err);
    if (r == 0)
        r = fetch_holders(cli, s, err);
    if (r == 0)
        r = ty_cli_get(cli, TY_ROUTE_status_get, &none, &status, err);
    if (r == 0)
        s->slots = json_incref(json_object_get(status, "slots"));
    return r;
}

/* Of a run that waits for nobody.  Not to know is no failure: the question was another. */
static bool disk_is_full(struct ty_cli *cli)
{
    CLEANUP_JSON json_t *status = NULL;
    struct ty_call none = { 0 };
    struct ty_error err = { 0 };
    const json_t *left;

    if (ty_cli_get(cli, TY_ROUTE_status_get, &none, &status, &err) < 0)
        return false;
    left = json_object_get(status, "free_bytes");
    return json_is_integer(left) && json_integer_value(left) < FULL_BYTES;
}

static int fetch(struct ty_cli *cli, const char *ref, struct story *s, struct ty_error *err)
{
    CLEANUP_FREE char *id = NULL;
    int r = ty_cli_run_id(cli, ref, &id, err);

    s->ahead = json_array();
    s->holders = json_array();
    if (r == 0 && (!s->ahead || !s->holders))
        r = ty_error_oom(err);
    if (r == 0)
        r = ty_cli_run(cli, id, &s->run, err);
    if (r == 0)
        r = ty_cli_run_events(cli, id, on_event, &s->past, err);
    if (r == 0 && json_is_integer(json_object_get(s->run, "queue_place")))
        r = fetch_queue(cli, s, err);
    else if (r == 0 && !strcmp(ty_out_str(s->run, "state"), "Queued"))
        s->full = disk_is_full(cli);
    return r;
}

/* ---- the sentence ---- */

static int64_t since(const struct story *s, enum ty_run_state state)
{
    if (state == TY_RUN_NOT_RESPONDING && s->past.silent_us)
        return s->past.silent_us;
    return s->past.at_us;
}

static void say_end(const struct story *s, enum ty_run_state state, struct ty_str *out)
{
    const char *message = ty_out_str(json_object_get(s->run, "error"), "message");
    int64_t from = ty_out_time(json_object_get(s->run, "started")),
            to = ty_out_time(json_object_get(s->run, "ended"));
    char took[16];

    if (from && to)
        ty_str_addf(out, ", after %s", ty_out_duration(to - from, took));
    if (message[0])
        ty_str_addf(out, ": %s", message);
    else if (state == TY_RUN_COMPLETED)
        ty_str_add(out, ": its program exited with code 0");
    else if (state == TY_RUN_CANCELED)
        ty_str_add(out, from ? ": somebody asked it to stop"
                             : ": somebody asked it to stop before it had started");
}

static void say_hang(const json_t *hang, struct ty_str *out)
{
    int64_t at = json_integer_value(json_object_get(hang, "since_us"));
    char iso[32], ago[16];

    ty_str_addf(out, ": its processes wait for %s since %s (%s ago): %s", ty_out_str(hang, "who"),
                ty_time_iso(at, iso), ty_out_duration(ty_wall_us() - at, ago),
                ty_out_str(hang, "what"));
}

static void say_active(const struct story *s, enum ty_run_state state, struct ty_str *out)
{
    const char *message = ty_out_str(s->past.cancel, "message");
    const char *why = ty_out_str(s->run, "why");

    if (state != TY_RUN_QUEUED && why[0]) {
        ty_str_addf(out, ": %s", why);
        return;
    }
    switch (state) {
    case TY_RUN_QUEUED:
        if (why[0]) /* "waits for ..." is of the run; the rest are sentences of their own */
            ty_str_addf(out, ": %s%s", ty_starts_with(why, "waits ") ? "it " : "", why);
        else
            ty_str_addf(out, ": it has its slots, and %s",
                        s->full ? "starts when there is room on the disk of the state folder, "
                                  "which is full"
                                : "is about to start");
        break;
    case TY_RUN_RUNNING:
        if (s->past.hang)
            say_hang(s->past.hang, out);
        break;
    case TY_RUN_NOT_RESPONDING:
        if (s->past.node[0])
            ty_str_addf(out,
                        ": its node '%s' has not been heard since then; one that stays silent is "
                        "given up",
                        s->past.node);
        else
            ty_str_add(
                out,
                ": its runner has not been heard since then; one that stays silent is replaced");
        break;
    case TY_RUN_CANCEL_REQUESTED:
        ty_str_addf(out, ": %s; its processes have not ended yet",
                    message[0] ? message : "somebody asked it to stop");
        break;
    case TY_RUN_FINALIZING:
        ty_str_add(out, ": its program has ended, its outputs and logs are being collected");
        break;
    default:
        break;
    }
}

static char *sentence(const struct story *s)
{
    const char *word = ty_out_str(s->run, "state");
    enum ty_run_state state = ty_run_state_parse(word);
    bool ended = state >= 0 && ty_run_state_ended(state);
    int64_t at = since(s, state);
    struct ty_str out = { 0 };
    char iso[32], ago[16];

    ty_str_addf(&out, "run '%s' is %s", ty_out_str(s->run, "id"), word);
    if (at)
        ty_str_addf(&out, " since %s (%s ago)", ty_time_iso(at, iso),
                    ty_out_duration(ty_wall_us() - at, ago));
    if (ended)
        say_end(s, state, &out);
    else
        say_active(s, state, &out);
    return ty_str_take(&out);
}

/* ---- printing ---- */

static void print_lines(const char *text)
{
    const char *end;

    for (; *text; text = *end ? end + 1 : end) {
        CLEANUP_FREE char *one = NULL;
        CLEANUP_FREE char *safe = NULL;

        end = strchr(text, '\n');
        end = end ? end : text + strlen(text);
        one = ty_strf("%.*s", (int)(end - text), text);
        safe = one ? ty_out_safe(one) : NULL;
        printf("  | %s\n", safe ? safe : "");
    }
}

/* Those of all its processes, which share what this box has. */
static json_int_t cpus_of(const struct story *s, const json_t *run)
{
    const json_t *cpus =
        json_object_get(json_object_get(json_object_get(run, "spec"), "resources"), "cpus");
    json_int_t n = json_is_integer(cpus) ? json_integer_value(cpus) : 1,
               all = json_integer_value(json_object_get(s->slots, "cpus")),
               nodes = json_integer_value(json_object_get(run, "node_count")),
               each = json_integer_value(json_object_get(run, "process_count_per_node"));

    n *= (nodes > 0 ? nodes : 1) * (each > 0 ? each : 1);
    return s->here && n > all ? all : n;
}

static void print_ahead(const struct ty_cli *cli, const struct story *s)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "PLACE", "ID", "TARGET", "COMMAND" },
                                        .state_column = -1,
                                        .right = 1 };
    size_t n = json_array_size(s->ahead), shown = n > AHEAD_SHOWN ? AHEAD_SHOWN : n, i;

    if (n == 0)
        return;
    for (i = 0; i < shown; i++) {
        const json_t *run = json_array_get(s->ahead, i);
        char place[24];
        const char *cells[] = { place, ty_out_str(run, "id"), ty_out_str(run, "target"),
                                ty_out_str(run, "command_line") };

        snprintf(place, sizeof place, "%lld",
                 (long long)json_integer_value(json_object_get(run, "queue_place")));
        ty_table_row(&t, cells);
    }
    puts("\nBefore it in the queue:");
    ty_table_print(cli, &t);
    if (n > shown)
        printf("and %zu more\n", n - shown);
}

static void print_holders(const struct ty_cli *cli, const struct story *s)
{
    CLEANUP_TABLE struct ty_table t = { .heads = { "ID", "STATE", "CPUS", "AGE", "TARGET",
                                                   "COMMAND" },
                                        .state_column = 1,
                                        .right = 1 << 2 | 1 << 3 };
    const json_t *run;
    int64_t now = ty_wall_us();
    size_t i;

    if (s->here)
        printf("\n%lld of %lld CPU slots are in use%s\n",
               (long long)json_integer_value(json_object_get(s->slots, "used")),
               (long long)json_integer_value(json_object_get(s->slots, "cpus")),
               json_array_size(s->holders) ? ":" : "");
    else if (json_array_size(s->holders))
        printf("\nOn target '%s':\n", ty_out_str(s->run, "target"));
    json_array_foreach (s->holders, i, run) {
        char cpus[24], age[16];
        const char *cells[] = { ty_out_str(run, "id"),
                                ty_out_str(run, "state"),
                                cpus,
                                ty_out_duration(now - ty_out_time(json_object_get(run, "created")),
                                                age),
                                ty_out_str(run, "target"),
                                ty_out_str(run, "command_line") };

        snprintf(cpus, sizeof cpus, "%lld", (long long)cpus_of(s, run));
        ty_table_row(&t, cells);
    }
    if (t.rows)
        ty_table_print(cli, &t);
    if (s->holders_left)
        printf("and %zu more\n", s->holders_left);
}

static void print(const struct ty_cli *cli, const struct story *s, const char *text)
{
    CLEANUP_FREE char *safe = ty_out_safe(text);
    CLEANUP_FREE char *advice = ty_cli_run_advice(s->run);

    puts(safe ? safe : text);
    print_lines(ty_out_str(json_object_get(s->run, "error"), "log_tail"));
    if (advice)
        puts(advice);
    if (s->slots) {
        print_ahead(cli, s);
        print_holders(cli, s);
    }
}

/* ---- JSON ---- */

static json_t *brief(const struct story *s, const json_t *runs, bool holders)
{
    json_t *list = json_array();
    json_t *run;
    size_t i;

    json_array_foreach (runs, i, run) {
        json_t *one = json_pack("{s:s s:s s:s s:s}", "run", ty_out_str(run, "id"), "state",
                                ty_out_str(run, "state"), "target", ty_out_str(run, "target"),
                                "command_line", ty_out_str(run, "command_line"));

        if (holders)
            json_object_set_new(one, "cpus", json_integer(cpus_of(s, run)));
        else
            json_object_set(one, "queue_place", json_object_get(run, "queue_place"));
        json_array_append_new(list, one);
    }
    return list;
}

static int print_json(const struct ty_cli *cli, const struct story *s, const char *text)
{
    int64_t at = since(s, ty_run_state_parse(ty_out_str(s->run, "state")));
    char iso[32];
    CLEANUP_JSON json_t *out = json_pack(
        "{s:s s:s s:s s:s? s:O? s:O? s:o s:o s:I s:O? s:O? s:O?}", "run", ty_out_str(s->run, "id"),
        "state", ty_out_str(s->run, "state"), "sentence", text, "since",
        at ? ty_time_iso(at, iso) : NULL, "why", json_object_get(s->run, "why"), "queue_place",
        json_object_get(s->run, "queue_place"), "ahead", brief(s, s->ahead, false), "holders",
        brief(s, s->holders, true), "holders_left", (json_int_t)s->holders_left, "slots", s->slots,
        "error", json_object_get(s->run, "error"), "hang", s->past.hang);

    if (!out)
        return ty_cli_fail(cli, &(struct ty_error){ .text = "cannot make JSON of the answer" });
    return ty_out_json(cli, out);
}

/* ---- the command ---- */

static void suggest(const struct story *s)
{
    const char *id = ty_out_str(s->run, "id");
    enum ty_run_state state = ty_run_state_parse(ty_out_str(s->run, "state"));

    if (state == TY_RUN_FAILED || state == TY_RUN_CANCELED)
        fprintf(stderr, "\n  trainyard logs --tail 20 %s\n", id);
    else if (state == TY_RUN_RUNNING || state == TY_RUN_NOT_RESPONDING)
        fprintf(stderr, "\n  trainyard logs -f --tail 20 %s\n", id);
}

static int tell(struct ty_cli *cli, int i, struct ty_error *err)
{
    CLEANUP_STORY struct story s = { 0 };
    CLEANUP_FREE char *text = NULL;

    if (fetch(cli, cli->args[i], &s, err) < 0)
        return ty_cli_fail(cli, err);
    text = sentence(&s);
    if (!text) {
        ty_error_oom(err);
        return ty_cli_fail(cli, err);
    }
    if (ty_cli_flag(cli, "json"))
        return print_json(cli, &s, text);
    if (i > 0)
        putchar('\n');
    print(cli, &s, text);
    fflush(stdout);
    if (cli->terminal && cli->nargs == 1)
        suggest(&s);
    return TY_EXIT_OK;
}

static int run(struct ty_cli *cli)
{
    struct ty_error err = { 0 };
    int code = TY_EXIT_OK, i;

    if (ty_cli_client(cli, true, &err) < 0)
        return ty_cli_fail(cli, &err);
    for (i = 0; i < cli->nargs; i++) {
        int one = tell(cli, i, &err);

        code = code ? code : one;
    }
    return code;
}

static const struct ty_cli_option options[] = { TY_OPT_JSON, TY_OPT_END };

const struct ty_cli_command ty_cmd_why = {
    .name = "why",
    .usage = "RUN...",
    .summary = "Say why a run waits, since when it runs or is silent, or why it ended",
    .examples = "  trainyard why @last\n"
                "  trainyard why --json first_17 | jq -r .sentence\n",
    .text =
        "RUN is an id, the beginning of one, or @last.  Of a run that waits it lists those before it in the queue, and those\n"
        "that use the CPU slots; of one that failed the last lines of its log.\n",
    .options = options,
    .min = 1,
    .max = -1,
    .run = run,
};
