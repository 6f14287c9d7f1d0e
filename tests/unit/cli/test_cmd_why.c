/* test_cmd_why.c - why: the sentence of each state, and the queue of a run that waits */
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "capture.h"
#include "fake.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID "first_1780000000_0a1b2c3d"
#define OTHER(n) "other_178000000" n "_0a1b2c3d"
#define RUN(id, state, more) \
    "{\"id\": \"" id "\", \"state\": \"" state "\", \"target\": \"local\", " \
    "\"command_line\": \"python3 train.py\", \"created\": \"2026-11-23T11:52:03.000000Z\"" more \
    "}"
#define EVENT(seq, second, kind, data) \
    "{\"seq\": " seq ", \"at\": \"2026-11-23T11:52:" second ".000000Z\", \"kind\": \"" kind \
    "\", \"data\": " data "}"
#define BEGIN EVENT("1", "03", "submitted", "{}") ", " EVENT("2", "04", "ready", "{}")
#define GET "GET /api/v1/runs/" ID

/* What `why` says of a run whose events are these. */
static char *sentence_of(const char *run, const char *events)
{
    CLEANUP_FREE char *log = ty_strf("{\"events\": [%s]}", events);
    struct fake_answer answers[] = { { .match = GET " ", .raw = fake_json(run) },
                                     { .match = GET "/events?after=0&limit=1000 ",
                                       .raw = fake_json(log) },
                                     { 0 } };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "why", ID);
    char *text = c.out;

    assert_int_equal(c.code, 0);
    assert_string_equal(c.err, "");
    free(c.err);
    fake_stop(f);
    return text;
}

static void test_states(void **state)
{
    static const struct {
        const char *run, *events, *begin, *end;
    } table[] = {
        { RUN(ID, "Running", ""),
          BEGIN ", " EVENT("3", "05", "started", "{\"pid\": 7}") ", " EVENT(
              "4", "59", "tagged", "{\"key\": \"k\", \"value\": null}"),
          "run '" ID "' is Running since 2026-11-23T11:52:05.000000Z (", " ago)\n" },
        { RUN(ID, "Running", ", \"why\": \"what becomes of it cannot be stored: no space\""),
          BEGIN ", " EVENT("3", "05", "started", "{\"pid\": 7}"),
          "run '" ID "' is Running since 2026-11-23T11:52:05.000000Z (",
          " ago): what becomes of it cannot be stored: no space\n" },
        /* silent since the last word, not since that was noticed */
        { RUN(ID, "NotResponding", ""),
          BEGIN ", " EVENT("3", "05", "started", "{}") ", " EVENT("4", "30", "silent",
                                                                  "{\"seconds\": 11}"),
          "run '" ID "' is NotResponding since 2026-11-23T11:52:19.000000Z (",
          " ago): its runner has not been heard since then; one that stays silent is replaced\n" },
        { RUN(ID, "NotResponding", ""),
          BEGIN ", " EVENT("3", "05", "started", "{}") ", " EVENT(
              "4", "30", "silent", "{\"seconds\": 11, \"node\": \"h2\"}"),
          "run '" ID "' is NotResponding since 2026-11-23T11:52:19.000000Z (",
          " ago): its node 'h2' has not been heard since then; one that stays silent is given up\n" },
        { RUN(ID, "Queued", ", \"why\": null, \"queue_place\": null"), BEGIN,
          "run '" ID "' is Queued since 2026-11-23T11:52:04.000000Z (",
          " ago): it has its slots, and is about to start\n" },
        { RUN(ID, "Queued", ", \"why\": \"target 'lab' is drained\", \"queue_place\": null"), BEGIN,
          "run '" ID "' is Queued since 2026-11-23T11:52:04.000000Z (",
          " ago): target 'lab' is drained\n" },
        { RUN(ID, "Queued", ", \"why\": \"waits for its turn\", \"queue_place\": null"), BEGIN,
          "run '" ID "' is Queued since 2026-11-23T11:52:04.000000Z (",
          " ago): it waits for its turn\n" },
        { RUN(ID, "CancelRequested", ""),
          BEGIN ", " EVENT("3", "05", "cancel", "{\"reason\": \"user\"}"),
          "run '" ID "' is CancelRequested since 2026-11-23T11:52:05.000000Z (",
          " ago): somebody asked it to stop; its processes have not ended yet\n" },
        { RUN(ID, "CancelRequested", ""),
          BEGIN ", " EVENT("3", "05", "cancel", "{\"reason\": \"x\", \"message\": \"too long\"}"),
          "run '" ID "' is CancelRequested since 2026-11-23T11:52:05.000000Z (",
          " ago): too long; its processes have not ended yet\n" },
        { RUN(ID, "Finalizing", ""), BEGIN ", " EVENT("3", "05", "exited_ok", "{}"),
          "run '" ID "' is Finalizing since 2026-11-23T11:52:05.000000Z (",
          " ago): its program has ended, its outputs and logs are being collected\n" },
        { RUN(ID, "Completed",
              ", \"started\": \"2026-11-23T11:52:05.000000Z\", "
              "\"ended\": \"2026-11-23T11:53:06.000000Z\", \"error\": null"),
          BEGIN ", " EVENT("3", "50", "collected", "{}"),
          "run '" ID "' is Completed since 2026-11-23T11:52:50.000000Z (",
          " ago), after 1m01s: its program exited with code 0\n" },
        { RUN(ID, "Canceled", ", \"started\": null, \"ended\": \"2026-11-23T11:53:06.000000Z\""),
          BEGIN ", " EVENT("3", "50", "collected", "{}"), "run '" ID "' is Canceled since ",
          " ago): somebody asked it to stop before it had started\n" },
        { RUN(ID, "Canceled",
              ", \"started\": \"2026-11-23T11:53:05.000000Z\", \"ended\": "
              "\"2026-11-23T11:53:06.000000Z\""),
          BEGIN ", " EVENT("3", "50", "collected", "{}"), "run '" ID "' is Canceled since ",
          " ago), after 1s: somebody asked it to stop\n" },
        /* its last lines, which cannot move the cursor */
        { RUN(ID, "Failed",
              ", \"started\": \"2026-11-23T11:53:05.000000Z\", \"ended\": "
              "\"2026-11-23T11:53:07.000000Z\", \"error\": {\"message\": \"it broke\", "
              "\"log_tail\": \"one\\n\\u001b[31mtwo\\nlast\"}"),
          BEGIN ", " EVENT("3", "50", "collected", "{}"), "run '" ID "' is Failed since ",
          " ago), after 2s: it broke\n  | one\n  | ?[31mtwo\n  | last\n" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        CLEANUP_FREE char *text = sentence_of(table[i].run, table[i].events);

        if (!ty_starts_with(text, table[i].begin) || !ty_ends_with(text, table[i].end))
            fail_msg("'%s' is not '%s...%s'", text, table[i].begin, table[i].end);
    }
}

/* A run that could start and does not: the disk is looked at. */
static void test_full_disk(void **state)
{
    struct fake_answer answers[] = {
        { .match = GET " ",
          .raw = fake_json(RUN(ID, "Queued", ", \"why\": null, \"queue_place\": null")) },
        { .match = GET "/events?after=0&limit=1000 ",
          .raw = fake_json("{\"events\": [" BEGIN "]}") },
        { .match = "GET /api/v1/status ", .raw = fake_json("{\"free_bytes\": 0}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "why", ID);

    (void)state;
    assert_int_equal(c.code, 0);
    assert_true(
        ty_ends_with(c.out, " ago): it has its slots, and starts when there is room on the disk of "
                            "the state folder, which is full\n"));
    captured_done(&c);
    fake_stop(f);
}

#define WAITS(id, place) \
    RUN(id, "Queued", ", \"why\": \"waits for 2 CPU slots\", \"queue_place\": " place)
#define USES(id, more) RUN(id, "Running", ", \"why\": null, \"queue_place\": null" more)

/* A queue of two pages: this run, one after it, two before it, and two that use slots. */
static struct fake *queue(void)
{
    struct fake_answer answers[] = {
        { .match = GET " ", .raw = fake_json(WAITS(ID, "3")) },
        { .match = GET "/events?after=0&limit=1000 ",
          .raw = fake_json("{\"events\": [" BEGIN "]}") },
        { .match = "GET /api/v1/targets ",
          .raw = fake_json("{\"targets\": [{\"name\": \"local\", \"spec\": {\"kind\": \"local\"}}, "
                           "{\"name\": \"lab\", \"spec\": {\"kind\": \"hosts\"}}]}") },
        { .match = "GET /api/v1/runs?state=active&limit=1000 ",
          .raw = fake_json("{\"runs\": [" WAITS(OTHER("9"), "4") ", " WAITS(ID, "3") ", " WAITS(
              OTHER("2"), "2") ", " USES(OTHER("5"), "") "], \"next\": \"a&b\"}") },
        { .match = "GET /api/v1/runs?state=active&limit=1000&before=a%26b ",
          .raw = fake_json("{\"runs\": [" USES(OTHER("4"), "") ", {\"id\": \"" OTHER(
              "6") "\", \"target\": "
                   "\"lab\", \"queue_place\": null}, " WAITS(OTHER("1"), "1") "], "
                                                                              "\"next\": null}") },
        { .match = "GET /api/v1/runs/" OTHER("5") " ",
          .raw = fake_json(USES(OTHER("5"), ", \"spec\": {\"resources\": {\"cpus\": 3}}")) },
        { .match = "GET /api/v1/runs/" OTHER("4") " ",
          .raw = fake_json(USES(OTHER("4"), ", \"spec\": {}, \"node_count\": 2, "
                                            "\"process_count_per_node\": 4")) },
        { .match = "GET /api/v1/status ",
          .raw = fake_json("{\"slots\": {\"cpus\": 5, \"used\": 4}}") },
        { 0 }
    };

    return fake_start(answers);
}

static void test_queue(void **state)
{
    struct fake *f = queue();
    struct captured c = CAPTURE(fake_home(f), "why", ID);
    const char *first, *second;

    (void)state;
    assert_int_equal(c.code, 0);
    assert_true(
        ty_starts_with(c.out, "run '" ID "' is Queued since 2026-11-23T11:52:04.000000Z ("));
    assert_non_null(strstr(c.out, " ago): it waits for 2 CPU slots\n\nBefore it in the queue:\n"));
    first = strstr(c.out, "\n    1  " OTHER("1") "  local   python3 train.py\n");
    second = strstr(c.out, "\n    2  " OTHER("2") "  local   python3 train.py\n");
    assert_true(first && second && first < second);
    assert_null(strstr(c.out, OTHER("9")));
    assert_non_null(strstr(c.out, "\n\n4 of 5 CPU slots are in use:\n"));
    assert_non_null(strstr(c.out, "\n" OTHER("5") "  Running     3 "));
    assert_non_null(strstr(c.out, "\n" OTHER("4") "  Running     5 ")); /* of 8 */
    assert_null(strstr(c.out, OTHER("6")));
    captured_done(&c);
    fake_stop(f);
}

static void test_json(void **state)
{
    struct fake *f = queue();
    struct captured c = CAPTURE(fake_home(f), "why", "--json", ID);
    CLEANUP_JSON json_t *j = json_loads(c.out, 0, NULL), *ahead = NULL, *holders = NULL;

    (void)state;
    assert_int_equal(c.code, 0);
    assert_string_equal(json_string_value(json_object_get(j, "run")), ID);
    assert_string_equal(json_string_value(json_object_get(j, "since")),
                        "2026-11-23T11:52:04.000000Z");
    assert_string_equal(json_string_value(json_object_get(j, "why")), "waits for 2 CPU slots");
    assert_int_equal(json_integer_value(json_object_get(j, "queue_place")), 3);
    ahead = json_incref(json_object_get(j, "ahead"));
    assert_int_equal(json_array_size(ahead), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(ahead, 0), "run")),
                        OTHER("1"));
    holders = json_incref(json_object_get(j, "holders"));
    assert_int_equal(json_array_size(holders), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(holders, 0), "cpus")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "slots"), "used")), 4);
    assert_true(json_is_null(json_object_get(j, "error")));
    captured_done(&c);
    fake_stop(f);
}

/* A long event log comes in pages: what counts is the end of it. */
static void test_event_pages(void **state)
{
    CLEANUP_STR struct ty_str first = { 0 };
    struct fake *f;
    struct captured c;

    (void)state;
    ty_str_add(&first, "{\"events\": [" BEGIN ", " EVENT("3", "05", "started", "{}"));
    for (int i = 4; i <= 1000; i++)
        ty_str_addf(&first, ", {\"seq\": %d, \"at\": null, \"kind\": \"artifact\"}", i);
    ty_str_add(&first, "]}");
    struct fake_answer answers[] = {
        { .match = GET " ", .raw = fake_json(RUN(ID, "Finalizing", "")) },
        { .match = GET "/events?after=0&limit=1000 ", .raw = fake_json(first.text) },
        { .match = GET "/events?after=1000&limit=1000 ",
          .raw = fake_json("{\"events\": [" EVENT("1001", "45", "exited_ok", "{}") "]}") },
        { 0 }
    };
    f = fake_start(answers);
    c = CAPTURE(fake_home(f), "why", ID);
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.out, " is Finalizing since 2026-11-23T11:52:45.000000Z ("));
    captured_done(&c);
    fake_stop(f);
}

static void test_refusals(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET", .raw = fake_reply(404, "text/plain", "there is no run 'x'") }, { 0 }
    };
    struct fake *f = fake_start(answers);
    struct captured c = CAPTURE(fake_home(f), "why", ID);

    (void)state;
    assert_int_equal(c.code, 3);
    assert_string_equal(c.out, "");
    assert_string_equal(c.err, "trainyard: there is no run 'x'\n");
    captured_done(&c);
    c = CAPTURE(fake_home(f), "why");
    assert_int_equal(c.code, 2);
    captured_done(&c);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),      cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_queue),       cmocka_unit_test(test_json),
        cmocka_unit_test(test_event_pages), cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
