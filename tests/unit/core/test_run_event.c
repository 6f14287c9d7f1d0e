/* test_run_event.c - folding an event log */
#include "allocs.h"
#include "base/error.h"
#include "core/run_event.h"
#include "tests.h"

#define SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SHA2 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static int apply(struct ty_run_view *v, int64_t seq, const char *kind, const char *data,
                 struct ty_error *err)
{
    CLEANUP_JSON json_t *j = NULL;
    int left = allocs_left;

    allocs_left = -1;
    j = data ? json_loads(data, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(j || !data);
    allocs_left = left;
    return ty_run_view_apply(v, seq, 1000 + seq, kind, j, err);
}

/* Everything that the view holds, as text. */
static char *text_of(const struct ty_run_view *v)
{
    CLEANUP_JSON json_t *j = json_pack(
        "{s:O? s:O s:O s:O s:O s:I s:s s:s s:s s:i s:i s:i s:I s:I s:I}", "error", v->error,
        "warnings", v->warnings, "tags", v->tags, "properties", v->properties, "artifacts",
        v->artifacts, "seq", (json_int_t)v->last_seq, "state", ty_run_state_word(v->run.state),
        "outcome", ty_run_state_word(v->run.outcome), "heard", ty_run_state_word(v->run.heard),
        "attempt", v->run.attempt, "code", v->run.exit_code, "signal", v->run.exit_signal,
        "created", (json_int_t)v->run.created_us, "started", (json_int_t)v->run.started_us, "ended",
        (json_int_t)v->run.ended_us);
    char *text = json_dumps(j, JSON_COMPACT);

    assert_non_null(text);
    return text;
}

static const char *word(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static const struct step {
    const char *kind, *data;
} life[] = {
    { "submitted", "{\"target\": \"local\", \"user\": \"ann\"}" },
    { "warned", "{\"text\": \"no GPU here\"}" },
    { "tagged", "{\"key\": \"colour\", \"value\": \"red\"}" },
    { "tagged", "{\"key\": \"bare\", \"value\": null}" },
    { "prepare", NULL },
    { "ready", "{}" },
    { "started", "{\"pid\": 12}" },
    { "tagged", "{\"key\": \"colour\", \"value\": \"blue\"}" },
    { "tagged", "{\"key\": \"gone\", \"value\": \"x\"}" },
    { "untagged", "{\"key\": \"gone\"}" },
    { "untagged", "{\"key\": \"never was\"}" },
    { "property", "{\"key\": \"p\", \"value\": \"first\"}" },
    { "property", "{\"key\": \"p\", \"value\": \"second\"}" },
    { "warned", "{\"text\": \"second warning\"}" },
    { "exited_bad",
      "{\"exit_code\": 3, \"error\": {\"code\": \"ScriptFailed\", \"message\": \"m\", \"log_tail\": \"t\"}}" },
    { "environment", "{\"node\": 1, \"hash\": \"ab\", \"built\": true, \"seconds\": 1.5}" },
    { "artifact", "{\"path\": \"outputs/a\", \"sha256\": \"" SHA "\", \"bytes\": 5}" },
    { "artifact", "{\"path\": \"outputs/a\", \"sha256\": \"" SHA2 "\", \"bytes\": 0}" },
    { "collected", NULL },
    { "tagged", "{\"key\": \"after\"}" },
};
enum { STEPS = sizeof life / sizeof *life };

static void test_life(void **state)
{
    struct ty_run_view v;
    const json_t *a;

    (void)state;
    assert_int_equal(ty_run_view_init(&v), 0);
    for (int i = 0; i < STEPS; i++)
        assert_int_equal(apply(&v, i + 1, life[i].kind, life[i].data, NULL), 0);
    assert_int_equal(v.last_seq, STEPS);
    assert_int_equal(v.run.state, TY_RUN_FAILED);
    assert_int_equal(v.run.exit_code, 3);
    assert_int_equal(v.run.created_us, 1001);
    assert_int_equal(v.run.started_us, 1007);
    assert_int_equal(v.run.ended_us, 1019);
    assert_string_equal(word(v.error, "code"), "ScriptFailed");
    assert_string_equal(word(v.error, "log_tail"), "t");
    assert_int_equal(json_array_size(v.warnings), 2);
    assert_string_equal(json_string_value(json_array_get(v.warnings, 1)), "second warning");
    assert_int_equal(json_object_size(v.tags), 3);
    assert_string_equal(word(v.tags, "colour"), "blue");
    assert_true(json_is_null(json_object_get(v.tags, "bare")));
    assert_true(json_is_null(json_object_get(v.tags, "after")));
    assert_string_equal(word(v.properties, "p"), "first");
    assert_int_equal(json_object_size(v.artifacts), 1);
    a = json_object_get(v.artifacts, "outputs/a");
    assert_string_equal(word(a, "sha256"), SHA2);
    assert_int_equal(json_integer_value(json_object_get(a, "bytes")), 0);
    ty_run_view_done(&v);
    assert_null(v.tags);
    ty_run_view_done(&v);
}

/* A view on which `n` steps of `life` have been folded. */
static void live(struct ty_run_view *v, int n)
{
    assert_int_equal(ty_run_view_init(v), 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(apply(v, i + 1, life[i].kind, life[i].data, NULL), 0);
}

static void test_refused(void **state)
{
    static const struct {
        const char *kind, *data;
        int64_t ahead; /* of the next sequence number */
        int r;
        const char *words; /* in the sentence */
    } bad[] = {
        { "warned", "{\"text\": \"x\"}", 1, -EPROTO, "event 9 follows event 7" },
        { "warned", "{\"text\": \"x\"}", -1, -EPROTO, "event 7 follows event 7" },
        { "exploded", "{}", 0, -EINVAL, "'exploded'" },
        { "", "{}", 0, -EINVAL, "''" },
        { "Started", "{}", 0, -EINVAL, "'Started'" },
        { "submitted", "{}", 0, -EPROTO, "'submitted' cannot follow state Running" },
        { "collected", "{}", 0, -EPROTO, "'collected' cannot follow state Running" },
        { "cancel", "[]", 0, -EINVAL, "'cancel' is malformed" },
        { "cancel", "3", 0, -EINVAL, "malformed" },
        { "exited_ok", "{\"exit_code\": \"0\"}", 0, -EINVAL, "'exited_ok' is malformed" },
        { "exited_ok", "{\"exit_code\": 256}", 0, -EINVAL, "malformed" },
        { "exited_bad", "{\"exit_code\": -1}", 0, -EINVAL, "malformed" },
        { "exited_bad", "{\"exit_code\": 4294967297}", 0, -EINVAL, "malformed" },
        { "exited_bad", "{\"exit_signal\": 1000}", 0, -EINVAL, "malformed" },
        { "exited_bad", "{\"exit_signal\": 9.0}", 0, -EINVAL, "malformed" },
        { "lost", "{\"error\": \"gone\"}", 0, -EINVAL, "malformed" },
        { "warned", "{}", 0, -EINVAL, "'warned' is malformed" },
        { "warned", NULL, 0, -EINVAL, "malformed" },
        { "warned", "{\"text\": 5}", 0, -EINVAL, "malformed" },
        { "tagged", "{\"value\": \"x\"}", 0, -EINVAL, "malformed" },
        { "tagged", "{\"key\": \"\", \"value\": \"x\"}", 0, -EINVAL, "malformed" },
        { "tagged", "{\"key\": \"k\", \"value\": 5}", 0, -EINVAL, "malformed" },
        { "untagged", "{\"key\": null}", 0, -EINVAL, "malformed" },
        { "property", "{\"key\": \"k\"}", 0, -EINVAL, "malformed" },
        { "property", "{\"key\": \"k\", \"value\": null}", 0, -EINVAL, "malformed" },
        { "environment", "{\"node\": -1, \"hash\": \"\", \"built\": true, \"seconds\": 0}", 0,
          -EINVAL, "malformed" },
        { "environment", "{\"node\": 0, \"hash\": \"a\", \"seconds\": 0}", 0, -EINVAL,
          "malformed" },
        { "artifact", "{\"path\": \"a\", \"bytes\": 1}", 0, -EINVAL, "malformed" },
        { "artifact", "{\"path\": \"a\", \"sha256\": \"\", \"bytes\": 1}", 0, -EINVAL,
          "malformed" },
        { "artifact", "{\"path\": \"a\", \"sha256\": \"" SHA "\"}", 0, -EINVAL, "malformed" },
        { "artifact", "{\"path\": \"a\", \"sha256\": \"" SHA "\", \"bytes\": -1}", 0, -EINVAL,
          "malformed" },
        { "artifact", "{\"path\": \"../a\", \"sha256\": \"" SHA "\", \"bytes\": 1}", 0, -EINVAL,
          "malformed" },
        { "artifact", "{\"path\": \"/a\", \"sha256\": \"" SHA "\", \"bytes\": 1}", 0, -EINVAL,
          "malformed" },
    };
    struct ty_run_view v;
    char *before;

    (void)state;
    live(&v, 7);
    before = text_of(&v);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ty_error err = { 0 };
        char *after;

        assert_int_equal(apply(&v, v.last_seq + 1 + bad[i].ahead, bad[i].kind, bad[i].data, &err),
                         bad[i].r);
        assert_int_equal(err.code, bad[i].r);
        if (!strstr(err.text, bad[i].words))
            fail_msg("'%s' lacks '%s'", err.text, bad[i].words);
        after = text_of(&v);
        assert_string_equal(after, before);
        free(after);
    }
    free(before);
    ty_run_view_done(&v);
}

static void test_error(void **state)
{
    struct ty_run_view v;

    (void)state;
    live(&v, 7);
    assert_int_equal(apply(&v, 8, "cancel", "{\"reason\": \"user\", \"message\": null}", NULL), 0);
    assert_null(v.error);
    assert_int_equal(
        apply(&v, 9, "cancel", "{\"reason\": \"user\", \"message\": \"by ann\"}", NULL), 0);
    assert_string_equal(word(v.error, "code"), "Canceled");
    assert_string_equal(word(v.error, "message"), "by ann");
    assert_true(json_is_null(json_object_get(v.error, "log_tail")));
    assert_int_equal(apply(&v, 10, "cancel",
                           "{\"reason\": \"time_limit\", \"message\": \"60 s are over\"}", NULL),
                     0);
    assert_string_equal(word(v.error, "code"), "TimeLimit");
    assert_int_equal(apply(&v, 11, "exited_bad", "{\"exit_signal\": 15}", NULL), 0);
    assert_string_equal(word(v.error, "code"), "TimeLimit");
    assert_int_equal(apply(&v, 12, "collected", NULL, NULL), 0);
    assert_int_equal(v.run.state, TY_RUN_CANCELED);
    assert_int_equal(v.run.exit_signal, 15);
    assert_int_equal(v.run.exit_code, -1);
    ty_run_view_done(&v);

    live(&v, 7);
    assert_int_equal(
        apply(&v, 8, "silent", "{\"seconds\": 11, \"error\": {\"code\": \"RunnerLost\"}}", NULL),
        0);
    assert_non_null(v.error);
    assert_int_equal(apply(&v, 9, "requeued", NULL, NULL), 0);
    assert_null(v.error);
    assert_int_equal(v.run.attempt, 2);
    ty_run_view_done(&v);
}

/* Fail each of jansson's allocations in turn, at each step: -ENOMEM with a text, and the view is as before. */
static void test_out_of_memory(void **state)
{
    int failed = 0;

    (void)state;
    for (int step = 0; step < STEPS; step++)
        for (int k = 0;; k++) {
            struct ty_error err = { 0 };
            struct ty_run_view v;
            char *before, *after;
            int r;

            live(&v, step);
            before = text_of(&v);
            allocs_left = k;
            r = apply(&v, step + 1, life[step].kind, life[step].data, &err);
            allocs_left = -1;
            after = text_of(&v);
            if (r < 0) {
                assert_int_equal(r, -ENOMEM);
                assert_true(err.code == r && err.text[0]);
                assert_string_equal(after, before);
                failed++;
            }
            free(before);
            free(after);
            ty_run_view_done(&v);
            if (r == 0)
                break;
            assert_in_range(k, 0, 100);
        }
    assert_in_range(failed, 5, 1000);
    for (int k = 0; k < 4; k++) {
        struct ty_run_view v;

        allocs_left = k;
        assert_int_equal(ty_run_view_init(&v), -ENOMEM);
        allocs_left = -1;
    }
}

static void test_note_words(void **state)
{
    (void)state;
    for (int n = 0; n < TY_NOTE_COUNT; n++)
        assert_int_equal(ty_note_parse(ty_note_word((enum ty_note)n)), n);
    assert_int_equal(ty_note_parse("artifact"), TY_NOTE_ARTIFACT);
    assert_int_equal(ty_note_parse("started"), TY_NOTE_INVALID);
    for (int e = 0; e < TY_EV_COUNT; e++)
        assert_int_equal(ty_note_parse(ty_run_event_word((enum ty_run_event)e)), TY_NOTE_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_error),      cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_note_words),
    };
    return cmocka_run_group_tests(tests, allocs_setup, NULL);
}
