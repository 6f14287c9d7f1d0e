/* test_queue.c - the order of the queue, shares, memory, pausing */
#include "kit.h"

static const struct ty_user ann = { 1000, "ann" }, bob = { 1001, "bob" };

static struct {
    int r;
    char run[128];
} got;

static void on_answer(void *ctx, int r, const char *run, const struct ty_error *err)
{
    (void)ctx, (void)err;
    got.r = r;
    snprintf(got.run, sizeof got.run, "%s", run);
}

static bool answered(struct kit *k, const char *run)
{
    (void)k, (void)run;
    return got.r != 1;
}

/* A run that goes on until it is canceled. */
static void submit_as(struct kit *k, const struct ty_user *who, const char *more, char run[128])
{
    CLEANUP_FREE char *text =
        ty_strf("{\"version\": 1, %s\"command\": [\"/bin/sleep\", \"100\"]}", more);
    CLEANUP_JSON json_t *spec = json_loads(text, 0, NULL);
    struct ty_error err = { 0 };

    got.r = 1;
    assert_int_equal(ty_sched_submit(k->sched, "first", spec, who, on_answer, NULL, &err), 0);
    kit_until(k, answered, NULL);
    assert_int_equal(got.r, 0);
    memcpy(run, got.run, sizeof got.run);
}

static void pause_queue(struct kit *k, bool paused)
{
    struct ty_error err = { 0 };

    got.r = 1;
    assert_int_equal(ty_sched_pause(k->sched, paused, on_answer, NULL, &err), 0);
    kit_until(k, answered, NULL);
    assert_int_equal(got.r, 0);
}

/* Who waits, in order: the last letter of each display name. */
static void assert_queue(struct kit *k, const char *order)
{
    CLEANUP_JSON json_t *queue = NULL, *list = NULL;
    char have[32] = "";
    const json_t *one;
    size_t i;

    assert_int_equal(ty_sched_queue(k->sched, &queue), 0);
    list = json_deep_copy(json_object_get(queue, "runs"));
    ty_sched_annotate_all(k->sched, list);
    json_array_foreach (json_object_get(queue, "runs"), i, one) {
        CLEANUP_JSON json_t *run = kit_run(k, json_string_value(json_object_get(one, "id")));
        const json_t *listed = json_array_get(list, i);

        assert_int_equal(json_integer_value(json_object_get(listed, "queue_place")), i + 1);
        assert_true(json_equal(json_object_get(listed, "why"), json_object_get(one, "why")));

        assert_int_equal(json_integer_value(json_object_get(run, "queue_place")), i + 1);
        assert_true(json_equal(json_object_get(run, "why"), json_object_get(one, "why")));
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s",
                 json_string_value(json_object_get(run, "display_name")));
    }
    assert_string_equal(have, order);
}

static void assert_why(struct kit *k, const char *run, const char *part)
{
    CLEANUP_JSON json_t *j = kit_run(k, run);
    const char *why = json_string_value(json_object_get(j, "why"));

    if (!why || !strstr(why, part))
        fail_msg("'%s' should say '%s'", why ? why : "", part);
}

static void test_priorities(void **state)
{
    struct kit *k = *state;
    char first[128], a[128], b[128], c[128];

    submit_as(k, &ann, "\"resources\": {\"cpus\": 2}, ", first);
    kit_state(k, first, "Running");
    submit_as(k, &ann, "\"display_name\": \"a\", ", a);
    submit_as(k, &ann, "\"display_name\": \"b\", \"priority\": 5, \"resources\": {\"cpus\": 2}, ",
              b);
    submit_as(k, &ann, "\"display_name\": \"c\", \"priority\": -1, ", c);
    kit_idle(k, 50);
    assert_queue(k, "bac");
    assert_int_equal(kit_cancel(k, first), 0);
    kit_state(k, b, "Running");
    assert_queue(k, "ac");
    assert_int_equal(kit_cancel(k, b), 0);
    kit_state(k, a, "Running");
    kit_state(k, c, "Running");
}

/* Whoever holds less is next; and nobody holds more than is allowed. */
static void test_shares(void **state)
{
    struct kit *k = *state;
    char a1[128], a2[128], a3[128], b1[128];

    submit_as(k, &ann, "", a1);
    submit_as(k, &ann, "", a2);
    kit_state(k, a2, "Running");
    submit_as(k, &ann, "\"display_name\": \"a\", ", a3);
    submit_as(k, &bob, "\"display_name\": \"b\", ", b1);
    kit_idle(k, 50);
    assert_queue(k, "ba");
    assert_int_equal(kit_cancel(k, a1), 0);
    kit_state(k, b1, "Running");
    assert_queue(k, "a");
    kit_conf(k, "sched.user_cpus", "1");
    kit_stop(k);
    kit_start(k);
    assert_int_equal(kit_cancel(k, b1), 0);
    kit_until(k, kit_ended, b1);
    kit_idle(k, 100);
    kit_state(k, a3, "Queued");
    assert_why(k, a3,
               "waits until user 'ann' has fewer CPU slots in use (1 of 1, sched.user_cpus)");
    submit_as(k, &bob, "", b1); /* passes */
    kit_state(k, b1, "Running");
    assert_int_equal(kit_cancel(k, a2), 0);
    kit_state(k, a3, "Running");
}

/* On a box with one slot nobody holds anything when a run ends: who has used less is next, also after a restart. */
static void test_lately(void **state)
{
    struct kit *k = *state;
    char a1[128], a2[128], b1[128];

    kit_conf(k, "sched.cpus", "1");
    kit_stop(k);
    kit_start(k);
    submit_as(k, &ann, "", a1);
    kit_state(k, a1, "Running");
    submit_as(k, &ann, "\"display_name\": \"a\", ", a2);
    submit_as(k, &bob, "\"display_name\": \"b\", ", b1);
    kit_idle(k, 100);
    pause_queue(k, true);
    assert_int_equal(kit_cancel(k, a1), 0);
    kit_until(k, kit_ended, a1);
    assert_queue(k, "ba"); /* both hold nothing now */
    kit_stop(k);
    kit_start(k);
    assert_queue(k, "ba");
    pause_queue(k, false);
    kit_state(k, b1, "Running");
    assert_queue(k, "a");
    kit_conf(k, "sched.share_half_life", "0"); /* nothing counts: the order of submission */
    submit_as(k, &bob, "\"display_name\": \"c\", ", a1);
    assert_int_equal(kit_cancel(k, b1), 0);
    kit_state(k, a2, "Running");
    assert_queue(k, "c");
}

static void test_memory(void **state)
{
    struct kit *k = *state;
    struct ty_error err = { 0 };
    char a[128], b[128], c[128];

    kit_conf(k, "sched.memory_mb", "1000");
    kit_stop(k);
    kit_start(k);
    submit_as(k, &ann, "\"resources\": {\"memory_mb\": 600}, ", a);
    submit_as(k, &ann, "\"resources\": {\"memory_mb\": 500}, ", b);
    submit_as(k, &ann, "", c);
    kit_state(k, a, "Running");
    kit_idle(k, 50);
    assert_why(k, b, "waits for 500 MB of memory of this box (600 of 1000 in use)");
    assert_why(k, c, "waits for its turn, behind 1 other run"); /* the head is not overtaken */
    assert_int_equal(kit_cancel(k, a), 0);
    kit_state(k, b, "Running");
    kit_state(k, c, "Running");
    assert_int_equal(kit_try(k,
                             "{\"version\": 1, \"command\": [\"/bin/true\"], \"resources\": "
                             "{\"memory_mb\": 1001}}",
                             a, &err),
                     -EINVAL);
    assert_non_null(strstr(err.text, "1001 MB of memory, and this box has 1000"));
}

static void test_runs_of_one_user(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *spec =
        json_loads("{\"version\": 1, \"command\": [\"/bin/true\"]}", 0, NULL);
    struct ty_error err = { 0 };
    char a[128];

    kit_conf(k, "limits.user_runs", "1");
    submit_as(k, &ann, "", a);
    assert_int_equal(ty_sched_submit(k->sched, "first", spec, &ann, on_answer, NULL, &err),
                     -EUSERS);
    assert_non_null(strstr(err.text, "user 'ann' has 1 runs"));
    submit_as(k, &bob, "", a);
    assert_int_equal(kit_cancel(k, a), 0);
    kit_until(k, kit_ended, a);
    submit_as(k, &bob, "", a); /* one has ended */
}

static void test_pause(void **state)
{
    struct kit *k = *state;
    char a[128], b[128];

    submit_as(k, &ann, "", a);
    kit_state(k, a, "Running");
    pause_queue(k, true);
    submit_as(k, &ann, "\"display_name\": \"b\", ", b);
    kit_idle(k, 50);
    kit_state(k, b, "Queued");
    kit_state(k, a, "Running");
    assert_why(k, b, "the queue is paused");
    kit_stop(k);
    kit_start(k);
    kit_idle(k, 50);
    assert_queue(k, "b"); /* still */
    pause_queue(k, false);
    kit_state(k, b, "Running");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_priorities),       T(test_shares),
                                        T(test_lately),           T(test_memory),
                                        T(test_runs_of_one_user), T(test_pause) };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
