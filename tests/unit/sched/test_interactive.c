/* test_interactive.c - runs without a program */
#include "base/proc.h"
#include "core/row.h"
#include "kit.h"
#include <sys/wait.h>

static struct {
    int r;
    char said[sizeof((struct ty_error *)0)->text];
} got;

static void on_answer(void *ctx, int r, const char *run, const struct ty_error *err)
{
    (void)ctx, (void)run;
    got.r = r;
    snprintf(got.said, sizeof got.said, "%s", err->text);
}

static bool answered(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return got.r != 1;
}

static int answer(struct kit *k, int r)
{
    if (r < 0)
        return r;
    kit_until(k, answered, NULL);
    return got.r;
}

static void begin(struct kit *k, const char *more, char run[128])
{
    CLEANUP_FREE char *spec = ty_strf("{\"version\": 1, %s\"interactive\": true}", more);
    struct ty_error err = { 0 };

    if (kit_try(k, spec, run, &err) < 0)
        fail_msg("%s", err.text);
}

static int end(struct kit *k, const char *run, const char *how, struct ty_error *err)
{
    CLEANUP_JSON json_t *json = json_loads(how, 0, NULL);

    got.r = 1;
    return answer(k, ty_sched_end(k->sched, run, json, on_answer, NULL, err));
}

static void assert_text(struct kit *k, const char *run, const char *key, const char *text)
{
    CLEANUP_JSON json_t *j = kit_run(k, run);
    const json_t *v = json_object_get(j, key);

    if (json_is_object(v))
        v = json_object_get(v, "code");
    assert_string_equal(json_string_value(v), text);
}

static void test_ends(void **state)
{
    static const char *const ends[][3] = {
        { "{\"state\": \"Completed\"}", "Completed", NULL },
        { "{\"state\": \"Failed\", \"code\": \"Mine\", \"message\": \"why\"}", "Failed", "Mine" },
        { "{\"state\": \"Canceled\"}", "Canceled", NULL },
    };
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char run[128], program[128];

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        begin(k, "", run);
        assert_text(k, run, "state", "Running");
        assert_text(k, run, "kind", "interactive");
        assert_int_equal(end(k, run, "{\"state\": \"Running\"}", &err), -EINVAL);
        assert_int_equal(end(k, run, "[]", &err), -EINVAL);
        assert_int_equal(end(k, run, ends[i][0], &err), 0);
        assert_text(k, run, "state", ends[i][1]);
        if (ends[i][2])
            assert_text(k, run, "error", ends[i][2]);
        assert_int_equal(end(k, run, "{\"state\": \"Completed\"}", &err), 0); /* ended: no change */
        assert_text(k, run, "state", ends[i][1]);
    }
    begin(k, "", run);
    assert_int_equal(kit_cancel(k, run), 0);
    kit_state(k, run, "Canceled");
    kit_submit(k, "", "true", program);
    kit_until(k, kit_ended, program);
    assert_int_equal(end(k, program, "{\"state\": \"Completed\"}", &err), -EINVAL);
    assert_non_null(strstr(err.text, "ends when its program does"));
    assert_int_equal(end(k, "first_1_00000000", "{\"state\": \"Completed\"}", &err), -ENOENT);
}

/* It takes no slot, and outlives the daemon. */
static void test_restart(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char a[128], b[128], c[128], program[128];

    begin(k, "", a);
    begin(k, "", b);
    begin(k, "", c); /* more than there are slots */
    kit_submit(k, "", "true", program);
    kit_until(k, kit_ended, program);
    kit_stop(k);
    kit_start(k);
    assert_text(k, a, "state", "Running");
    assert_int_equal(end(k, a, "{\"state\": \"Completed\"}", &err), 0);
}

static void test_children(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char parent[128], child[128], grandchild[128], other[128];
    CLEANUP_FREE char *more = NULL, *deeper = NULL;

    begin(k, "", parent);
    more = ty_strf("\"parent\": \"%s\", ", parent);
    begin(k, more, child);
    deeper = ty_strf("\"parent\": \"%s\", ", child);
    begin(k, deeper, grandchild);
    begin(k, more, other);
    assert_text(k, child, "parent", parent);
    assert_int_equal(end(k, other, "{\"state\": \"Completed\"}", &err), 0);
    assert_int_equal(kit_delete(k, parent), -EBUSY);
    assert_int_equal(end(k, parent, "{\"state\": \"Failed\"}", &err), 0);
    kit_state(k, grandchild, "Failed");
    assert_text(k, child, "error", "ParentFailed");
    assert_text(k, other, "state", "Completed");
    begin(k, deeper, grandchild);
    assert_int_equal(kit_delete(k, parent), -EBUSY); /* deep below it one is going on */
    assert_int_equal(end(k, grandchild, "{\"state\": \"Completed\"}", &err), 0);
    assert_int_equal(kit_delete(k, parent), 0);
    assert_null(kit_run(k, other));
    assert_null(kit_run(k, grandchild));
    assert_int_equal(
        kit_try(k, "{\"version\": 1, \"interactive\": true, \"parent\": \"first_1_00000000\"}",
                other, &err),
        -ENOENT);
}

/* The daemon died between the end of the parent and that of its child. */
static void test_an_orphan(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *more = NULL;
    char parent[128], child[128];

    begin(k, "", parent);
    more = ty_strf("\"parent\": \"%s\", ", parent);
    begin(k, more, child);
    kit_stop(k);
    kit_sql(k, "UPDATE run SET state = 'Canceled', outcome = 'Canceled', active = 0, "
               "ended_us = created_us + 9000000 WHERE parent IS NULL");
    kit_start(k);
    kit_state(k, child, "Canceled");
}

static void test_its_process(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *more = NULL;
    struct ty_proc_id id;
    char run[128];
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(ty_proc_identify(pid, &id), 0);
    more = ty_strf("\"process\": {\"pid\": %d, \"start\": %llu, \"boot\": \"%s\"}, ", (int)pid,
                   (unsigned long long)id.start, id.boot);
    begin(k, more, run);
    kit_idle(k, 1500); /* longer than a look */
    assert_text(k, run, "state", "Running");
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    kit_state(k, run, "Failed");
    assert_text(k, run, "error", "ProcessLost");
}

/* ---- rows ---- */

static size_t put(char *at, enum ty_row_kind kind, const char *name, double value)
{
    const struct ty_row row = { .kind = kind,
                                .step = TY_ROW_NO_STEP,
                                .at_us = 1780000000000000,
                                .name = name,
                                .name_len = strlen(name),
                                .value = &value,
                                .value_len = sizeof value };

    assert_int_equal(ty_row_encode(&row, at), 0);
    return ty_row_size(&row);
}

static int add(struct kit *k, const char *run, uint64_t first, const void *rows, size_t n,
               struct ty_error *err)
{
    got.r = 1;
    return answer(k, ty_sched_rows(k->sched, run, TY_ROW_WRITER_OUTSIDE, first, rows, n, on_answer,
                                   NULL, err));
}

static void test_rows(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *metrics = NULL;
    struct ty_error err = { 0 };
    char run[128], rows[256];
    size_t n, one;
    int64_t id;

    begin(k, "", run);
    one = put(rows, TY_ROW_DOUBLE, "loss", 2.0);
    n = one + put(rows + one, TY_ROW_DOUBLE, "loss", 1.0);
    assert_int_equal(add(k, run, 0, rows, n, &err), 0);
    assert_int_equal(add(k, run, 0, rows, n, &err), 0); /* sent again */
    assert_int_equal(add(k, run, 1, rows, n, &err), 0); /* one of them is new */
    assert_int_equal(add(k, run, 9, rows, n, &err), -EEXIST);
    assert_non_null(strstr(got.said, "beyond the next row"));
    assert_int_equal(add(k, run, 3, rows, n - 8, &err), -EINVAL);
    assert_non_null(strstr(err.text, "row 2 of the batch is malformed"));
    put(rows, TY_ROW_TAG, "loss", 1.0);
    assert_int_equal(add(k, run, 3, rows, n, &err), -EINVAL);
    assert_non_null(strstr(err.text, "of the kind 'tag'"));
    assert_int_equal(end(k, run, "{\"state\": \"Completed\"}", &err), 0);
    assert_int_equal(ty_store_run_id(k->store, run, &id), 0);
    assert_int_equal(ty_store_metrics(k->store, id, NULL, &metrics), 0);
    CLEANUP_FREE char *text = json_dumps(metrics, JSON_COMPACT);
    assert_string_equal(text, "{\"loss\":[2.0,1.0,1.0]}");
    assert_int_equal(add(k, "first_1_00000000", 0, rows, 0, &err), -ENOENT);
}

static void test_properties(void **state)
{
    static const char *const bad[][2] = {
        { "{}", "with an object 'set'" },
        { "{\"set\": {\"a\": 1}}", "property 'a'" },
        { "{\"set\": {\"\": \"x\"}}", "a key has 1 to 1024 bytes" },
        { "{\"set\": {}, \"remove\": []}", "'remove'" },
        { "{\"set\": {\"new\": \"x\", \"k\": \"v\"}}", "the property 'k' is 'v' already" },
    };
    struct kit *k = *state;
    CLEANUP_JSON json_t *found = NULL;
    struct ty_error err = { 0 };
    char run[128];

    begin(k, "\"properties\": {\"k\": \"v\"}, ", run);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_JSON json_t *change = json_loads(bad[i][0], 0, NULL);

        got.r = 1;
        if (ty_sched_properties(k->sched, run, change, on_answer, NULL, &err) >= 0 ||
            !strstr(err.text, bad[i][1]))
            fail_msg("%s gave '%s'", bad[i][0], err.text);
    }
    CLEANUP_JSON json_t *good = json_loads("{\"set\": {\"a\": \"1\", \"b\": \"2\"}}", 0, NULL);
    got.r = 1;
    assert_int_equal(answer(k, ty_sched_properties(k->sched, run, good, on_answer, NULL, &err)), 0);
    found = kit_run(k, run);
    assert_int_equal(json_object_size(json_object_get(found, "properties")), 3);
    assert_int_equal(ty_sched_properties(k->sched, "first_1_00000000", good, on_answer, NULL, &err),
                     -ENOENT);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_ends),      T(test_restart),     T(test_children),
                                        T(test_an_orphan), T(test_its_process), T(test_rows),
                                        T(test_properties) };

    return cmocka_run_group_tests_name("interactive", tests, NULL, NULL);
}
