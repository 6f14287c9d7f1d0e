/* kit.c - a scheduler in this process */
#include "kit.h"
#include "blob/blob.h"
#include "sched/sched_internal.h"
#include "track/follow.h"
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/un.h>

static void on_wake(uv_async_t *a)
{
    struct kit *k = a->data;

    if (k->store)
        ty_store_deliver(k->store);
}

static void wake(void *ctx)
{
    uv_async_send(&((struct kit *)ctx)->wake);
}

static void on_late(uv_timer_t *t)
{
    ((struct kit *)t->data)->late = true;
}

void kit_until(struct kit *k, bool (*fn)(struct kit *k, const char *run), const char *run)
{
    k->late = false;
    uv_timer_start(&k->bound, on_late, WAIT_MS, 0);
    while (!fn(k, run) && !k->late)
        uv_run(&k->loop, UV_RUN_ONCE);
    uv_timer_stop(&k->bound);
    if (k->late)
        fail_msg("what was waited for (run %s) did not come within %d ms", run ? run : "none",
                 WAIT_MS);
}

void kit_idle(struct kit *k, int ms)
{
    k->late = false;
    uv_timer_start(&k->bound, on_late, (uint64_t)ms, 0);
    while (!k->late)
        uv_run(&k->loop, UV_RUN_ONCE);
}

static bool recovered(struct kit *k, const char *run)
{
    (void)run;
    return !k->sched->recovering;
}

void kit_recover(struct kit *k)
{
    kit_until(k, recovered, NULL);
}

void kit_conf(struct kit *k, const char *key, const char *value)
{
    assert_int_equal(ty_conf_set(k->conf, key, value, "test", NULL), 0);
}

static int listen_in(const char *home)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s/runner.sock", home);
    unlink(a.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

void kit_start(struct kit *k)
{
    struct ty_error err = { 0 };
    CLEANUP_FREE char *blobs = ty_path_join(k->home, "blobs");
    struct ty_sched_options o = {
        .loop = &k->loop, .conf = k->conf, .home = k->home, .agent = getenv("TRAINYARD_AGENT")
    };

    assert_non_null(o.agent);
    assert_int_equal(ty_blobs_open(blobs, &k->blobs, &err), 0);
    assert_int_equal(ty_store_open(k->home, wake, k, &k->store, &err), 0);
    o.hub = k->hub = ty_follow_hub_new();
    o.store = k->store;
    o.blobs = k->blobs;
    o.runner_fd = listen_in(k->home);
    if (ty_sched_open(&o, &k->sched, &err) < 0)
        fail_msg("%s", err.text);
}

static bool closing(struct kit *k, const char *run)
{
    (void)run;
    return !uv_loop_alive(&k->loop);
}

void kit_stop(struct kit *k)
{
    if (!k->sched)
        return;
    ty_sched_stop(k->sched);
    k->store = ty_store_close(k->store);
    uv_unref((uv_handle_t *)&k->wake);
    uv_unref((uv_handle_t *)&k->bound);
    kit_until(k, closing, NULL);
    uv_ref((uv_handle_t *)&k->wake);
    uv_ref((uv_handle_t *)&k->bound);
    k->sched = ty_sched_free(k->sched);
    k->hub = ty_follow_hub_free(k->hub);
    k->blobs = ty_blobs_free(k->blobs);
}

int kit_setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    struct ty_error err = { 0 };

    signal(SIGPIPE, SIG_IGN);
    unsetenv("TRAINYARD_TEST_BOOT_ID");
    snprintf(k->home, sizeof k->home, "/tmp/ty-sched-XXXXXX");
    assert_non_null(mkdtemp(k->home));
    setenv("XDG_CONFIG_HOME", k->home, 1);
    uv_loop_init(&k->loop);
    uv_async_init(&k->loop, &k->wake, on_wake);
    uv_timer_init(&k->loop, &k->bound);
    k->wake.data = k->bound.data = k;
    assert_int_equal(ty_conf_load(NULL, &k->conf, &err), 0);
    kit_conf(k, "sched.cpus", "2");
    kit_conf(k, "run.cancel_grace_seconds", "1");
    kit_start(k);
    *state = k;
    return 0;
}

static bool all_ended(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *counts = NULL;

    (void)run;
    return ty_store_counts(k->store, &counts) == 0 &&
           json_integer_value(json_object_get(counts, "active")) == 0;
}

/* Every runner ends, and clears its folder away. */
static void end_runs(struct kit *k)
{
    struct ty_run_filter active = { .state = "active", .limit = 1000 };
    CLEANUP_JSON json_t *runs = NULL;
    const json_t *run;
    size_t i;

    assert_int_equal(ty_store_runs(k->store, &active, &runs, NULL), 0);
    json_array_foreach (runs, i, run)
        kit_cancel(k, json_string_value(json_object_get(run, "id")));
    kit_until(k, all_ended, NULL);
}

int kit_teardown(void **state)
{
    struct kit *k = *state;

    if (!k->sched)
        kit_start(k);
    end_runs(k);
    kit_stop(k);
    ty_conf_free(k->conf);
    uv_close((uv_handle_t *)&k->wake, NULL);
    uv_close((uv_handle_t *)&k->bound, NULL);
    uv_run(&k->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&k->loop), 0);
    ty_rm_rf(k->home);
    free(k);
    return 0;
}

/* ---- changes ---- */

struct answer {
    int r; /* 1: not yet */
    char run[128];
    struct ty_error *err;
};

static struct answer last;

static void on_answer(void *ctx, int r, const char *run, const struct ty_error *err)
{
    struct answer *a = ctx;

    a->r = r;
    snprintf(a->run, sizeof a->run, "%s", run);
    if (a->err && r < 0)
        *a->err = *err;
}

static bool answered(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return last.r <= 0;
}

static int wait_for(struct kit *k, int r)
{
    if (r < 0)
        return r;
    kit_until(k, answered, NULL);
    return last.r;
}

int kit_try(struct kit *k, const char *text, char run[128], struct ty_error *err)
{
    static const struct ty_user who = { 1000, "ann" };
    CLEANUP_JSON json_t *spec = NULL;
    int r;

    assert_int_equal(ty_json_parse(text, strlen(text), &spec, err), 0);
    last = (struct answer){ .r = 1, .err = err };
    r = wait_for(k, ty_sched_submit(k->sched, "first", spec, &who, on_answer, &last, err));
    if (r == 0)
        snprintf(run, 128, "%s", last.run);
    return r;
}

void kit_submit(struct kit *k, const char *more, const char *shell, char run[128])
{
    CLEANUP_STR struct ty_str spec = { 0 };
    struct ty_error err = { 0 };

    ty_str_addf(&spec, "{\"version\": 1, %s\"command\": [\"/bin/sh\", \"-c\", ", more);
    ty_str_add_json(&spec, shell, strlen(shell));
    ty_str_add(&spec, "]}");
    if (kit_try(k, spec.text, run, &err) < 0)
        fail_msg("%s", err.text);
}

int kit_cancel(struct kit *k, const char *run)
{
    struct ty_error err = { 0 };

    last = (struct answer){ .r = 1 };
    return wait_for(k, ty_sched_cancel(k->sched, run, on_answer, &last, &err));
}

int kit_delete(struct kit *k, const char *run)
{
    struct ty_error err = { 0 };

    last = (struct answer){ .r = 1 };
    return wait_for(k, ty_sched_delete(k->sched, run, on_answer, &last, &err));
}

int kit_tag(struct kit *k, const char *run, const char *change, struct ty_error *err)
{
    CLEANUP_JSON json_t *json = NULL;

    assert_int_equal(ty_json_parse(change, strlen(change), &json, err), 0);
    last = (struct answer){ .r = 1, .err = err };
    return wait_for(k, ty_sched_tag(k->sched, run, json, on_answer, &last, err));
}

int kit_target(struct kit *k, const char *name, const char *spec, struct ty_error *err)
{
    CLEANUP_JSON json_t *json = NULL;

    last = (struct answer){ .r = 1, .err = err };
    if (!spec)
        return wait_for(k, ty_sched_target_delete(k->sched, name, on_answer, &last, err));
    assert_int_equal(ty_json_parse(spec, strlen(spec), &json, err), 0);
    return wait_for(k, ty_sched_target_put(k->sched, name, json, false, on_answer, &last, err));
}

/* ---- looking ---- */

json_t *kit_run(struct kit *k, const char *run)
{
    json_t *j = NULL;

    if (ty_store_run(k->store, run, true, &j) < 0)
        return NULL;
    ty_sched_annotate(k->sched, j);
    return j;
}

static const char *wanted_state;

static bool in_state(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *j = kit_run(k, run);
    const char *state = json_string_value(json_object_get(j, "state"));

    return state && strcmp(state, wanted_state) == 0;
}

void kit_state(struct kit *k, const char *run, const char *state)
{
    wanted_state = state;
    kit_until(k, in_state, run);
}

bool kit_ended(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *j = kit_run(k, run);

    return json_is_string(json_object_get(j, "ended"));
}

char *kit_events(struct kit *k, const char *run)
{
    CLEANUP_JSON json_t *events = NULL;
    struct ty_str out = { 0 };
    const json_t *e;
    int64_t id;
    size_t i;

    assert_int_equal(ty_store_run_id(k->store, run, &id), 0);
    assert_int_equal(ty_store_events(k->store, id, 0, 1000, &events), 0);
    json_array_foreach (events, i, e)
        ty_str_addf(&out, "%s%s", i ? " " : "", json_string_value(json_object_get(e, "kind")));
    return out.text;
}

static bool has_runner(struct kit *k, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/jobs/%s/runner.id", k->home, run);

    return access(path, F_OK) == 0;
}

int kit_runner(struct kit *k, const char *run)
{
    CLEANUP_FREE char *path = ty_strf("%s/jobs/%s/runner.id", k->home, run);
    CLEANUP_FREE char *text = NULL;
    char boot[64];
    int pid = 0;
    size_t n;

    kit_until(k, has_runner, run);
    assert_int_equal(ty_read_file(path, 256, &text, &n), 0);
    assert_int_equal(sscanf(text, "%63s %d", boot, &pid), 2);
    return pid;
}

void kit_sql(struct kit *k, const char *sql)
{
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}
