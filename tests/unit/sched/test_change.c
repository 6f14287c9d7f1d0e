/* test_change.c - changes that people ask for */
#include "kit.h"

#define LONG_KEY_BYTES 1025

static void test_tags(void **state)
{
    static const struct {
        const char *change, *why;
    } bad[] = {
        { "[]", "not a JSON object" },
        { "{\"sett\": {}}", "sett" },
        { "{\"set\": []}", "'set' is an object" },
        { "{\"remove\": {}}", "'remove' a list" },
        { "{\"set\": {\"a\": 1}}", "tag 'a'" },
        { "{\"set\": {\"\": \"x\"}}", "a key has 1 to 1024 bytes" },
        { "{\"remove\": [1]}", "'remove' lists keys" },
    };
    struct kit *k = *state;
    CLEANUP_JSON json_t *run = NULL;
    CLEANUP_STR struct ty_str longest = { 0 };
    struct ty_error err = { 0 };
    const json_t *tags;
    char name[128];

    kit_submit(k, "\"tags\": {\"a\": \"1\", \"b\": \"2\"}, ", "true", name);
    kit_until(k, kit_ended, name);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (kit_tag(k, name, bad[i].change, &err) != -EINVAL || !strstr(err.text, bad[i].why))
            fail_msg("%s gave '%s'", bad[i].change, err.text);
    ty_str_add(&longest, "{\"set\": {\"");
    for (int i = 0; i < LONG_KEY_BYTES; i++)
        ty_str_add(&longest, "k");
    ty_str_add(&longest, "\": \"x\"}}");
    assert_int_equal(kit_tag(k, name, longest.text, &err), -EINVAL);
    assert_int_equal(kit_tag(k, "first_1_00000000", "{\"set\": {}}", &err), -ENOENT);
    /* An ended run may be tagged. */
    assert_int_equal(
        kit_tag(k, name, "{\"set\": {\"a\": \"9\", \"c\": null}, \"remove\": [\"b\", \"absent\"]}",
                &err),
        0);
    run = kit_run(k, name);
    tags = json_object_get(run, "tags");
    assert_int_equal(json_object_size(tags), 2);
    assert_string_equal(json_string_value(json_object_get(tags, "a")), "9");
    assert_true(json_is_null(json_object_get(tags, "c")));
}

/* Two changes of an ended run at once: both are kept, each with its own number. */
static int answers;

static void on_answer(void *ctx, int r, const char *run, const struct ty_error *err)
{
    (void)ctx, (void)run, (void)err;
    assert_int_equal(r, 0);
    answers++;
}

static bool both(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return answers == 2;
}

static void test_two_at_once(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *a = json_pack("{s:{s:s}}", "set", "x", "1"),
                        *b = json_pack("{s:{s:s}}", "set", "y", "2");
    CLEANUP_FREE char *events = NULL;
    struct ty_error err = { 0 };
    char name[128];

    kit_submit(k, "", "true", name);
    kit_until(k, kit_ended, name);
    answers = 0;
    assert_int_equal(ty_sched_tag(k->sched, name, a, on_answer, NULL, &err), 0);
    assert_int_equal(ty_sched_tag(k->sched, name, b, on_answer, NULL, &err), 0);
    kit_until(k, both, NULL);
    events = kit_events(k, name);
    assert_non_null(strstr(events, "collected tagged tagged"));
}

static void test_files(void **state)
{
    static const char sha[] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    static const char other[] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char name[128];

    kit_submit(k, "", "true", name);
    kit_until(k, kit_ended, name);
    answers = 0;
    assert_int_equal(ty_sched_artifact(k->sched, name, "outputs/a", sha, 4, on_answer, NULL, &err),
                     0);
    assert_int_equal(
        ty_sched_artifact(k->sched, name, "outputs/b", other, 5, on_answer, NULL, &err), 0);
    kit_until(k, both, NULL);
    assert_int_equal(
        ty_sched_artifact(k->sched, name, "outputs/a", other, 5, on_answer, NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, "'outputs/a' already, with other content"));
    assert_int_equal(ty_sched_artifact(k->sched, name, "outputs/a", sha, 4, on_answer, NULL, &err),
                     0); /* the same again */
    kit_conf(k, "limits.artifacts", "2");
    assert_int_equal(ty_sched_artifact(k->sched, name, "outputs/c", sha, 4, on_answer, NULL, &err),
                     -EUSERS);
    assert_non_null(strstr(err.text, "limits.artifacts"));
    assert_int_equal(
        ty_sched_artifact(k->sched, "first_1_00000000", "outputs/a", sha, 4, on_answer, NULL, &err),
        -ENOENT);
    kit_idle(k, 50);
}

static void test_delete(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *logs = NULL;
    CLEANUP_JSON json_t *gone = NULL;
    char name[128];

    kit_submit(k, "", "echo hello; sleep 100", name);
    logs = ty_strf("%s/logs/%s", k->home, name);
    kit_state(k, name, "Running");
    assert_int_equal(kit_delete(k, name), -EBUSY);
    assert_int_equal(kit_cancel(k, name), 0);
    kit_until(k, kit_ended, name);
    assert_int_equal(access(logs, F_OK), 0);
    assert_int_equal(kit_delete(k, name), 0);
    gone = kit_run(k, name);
    assert_null(gone);
    assert_int_equal(kit_delete(k, name), -ENOENT);
    assert_int_equal(kit_cancel(k, name), -ENOENT);
    for (int i = 0; access(logs, F_OK) == 0 && i < 100; i++)
        kit_idle(k, 20);
    assert_int_equal(access(logs, F_OK), -1);
}

static void test_targets(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *target = NULL;
    struct ty_error err = { 0 };
    char name[128];

    assert_int_equal(kit_target(k, "b", "{\"kind\": \"local\"}", &err),
                     -EINVAL); /* a name too short */
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"cloud\"}", &err), -EINVAL);
    assert_non_null(strstr(err.text, "cloud"));
    assert_int_equal(ty_store_target(k->store, "box", &target), -ENOENT);
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\", \"max_nodes\": 2}", &err), 0);
    assert_int_equal(ty_store_target(k->store, "box", &target), 0);
    kit_submit(k, "\"target\": \"box\", ", "sleep 100", name);
    assert_int_equal(kit_target(k, "box", NULL, &err), -EBUSY);
    assert_non_null(strstr(err.text, name));
    assert_int_equal(kit_cancel(k, name), 0);
    kit_until(k, kit_ended, name);
    assert_int_equal(kit_target(k, "box", NULL, &err), 0);
    assert_int_equal(kit_target(k, "box", NULL, &err), -ENOENT);
    assert_int_equal(kit_target(k, "local", NULL, &err), -EINVAL);
}

#ifdef TY_FAULTS
/* What the record of that run says of `why`; malloc'ed, "" for null. */
static char *why_of(struct kit *k, const char *name)
{
    CLEANUP_JSON json_t *run = kit_run(k, name);
    const char *why = json_string_value(json_object_get(run, "why"));

    return strdup(why ? why : "");
}

/* A run whose changes do not come into the database has the state that it had, and says so. */
static void test_a_full_disk_is_told(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *full = NULL, *after = NULL;
    struct ty_error err = { 0 };
    char name[128];

    kit_submit(k, "", "sleep 100", name);
    kit_state(k, name, "Running");
    ty_fault_arm("store.commit", 1, ENOSPC);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"a\": \"1\"}}", &err), -ENOSPC);
    full = why_of(k, name);
    assert_string_equal(
        full, "what becomes of it cannot be stored: the disk of the state folder is full; "
              "it is kept, and stored when that is over");
    kit_recover(k);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"b\": \"1\"}}", &err), 0);
    after = why_of(k, name);
    assert_string_equal(after, "");
}

/* A change that was refused for a full disk never was, in memory either. */
static void test_a_full_disk(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *events = NULL;
    struct ty_error err = { 0 };
    char name[128], other[128];

    kit_submit(k, "", "true", name);
    kit_until(k, kit_ended, name);
    ty_fault_arm("store.commit", 1, ENOSPC);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"a\": \"1\"}}", &err), -ENOSPC);
    kit_recover(k);
    assert_int_equal(kit_tag(k, name, "{\"set\": {\"b\": \"1\"}}", &err), 0);
    events = kit_events(k, name);
    assert_non_null(strstr(events, "collected tagged"));
    ty_fault_arm("store.commit", 1, ENOSPC);
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\"}", &err), -ENOSPC);
    kit_recover(k);
    assert_int_equal(kit_try(k,
                             "{\"version\": 1, \"target\": \"box\", \"command\": [\"/bin/true\"]}",
                             other, &err),
                     -ENOENT);
    assert_int_equal(kit_target(k, "box", "{\"kind\": \"local\"}", &err), 0);
    ty_fault_arm("store.commit", 1, ENOSPC);
    assert_int_equal(kit_target(k, "box", NULL, &err), -ENOSPC);
    kit_recover(k);
    kit_submit(k, "\"target\": \"box\", ", "true", other);
    kit_state(k, other, "Completed");
}
#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        T(test_tags),        T(test_two_at_once),         T(test_files), T(test_delete),
        T(test_targets),
#ifdef TY_FAULTS
        T(test_a_full_disk), T(test_a_full_disk_is_told),
#endif
    };

    return cmocka_run_group_tests_name("change", tests, NULL, NULL);
}
