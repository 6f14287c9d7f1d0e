/* test_sse.c - server-sent events as bytes */
#include "http/sse.h"
#include "kit.h"
#include "store/store.h"
#include <errno.h>
#include <string.h>

static void test_cursor(void **state)
{
    static const char *const bad[] = { "",
                                       ":",
                                       "1",
                                       "1:",
                                       ":1",
                                       "-1:2",
                                       "1:-2",
                                       "1:2:",
                                       "1:2:0-3.",
                                       "1:2:.0-3",
                                       "1:2:x",
                                       "1:2:3",
                                       "1:2:0-3:4",
                                       "1:2:-3",
                                       "1:2:0-",
                                       "1:2:4294967296-1",
                                       "a:1",
                                       "1: 2",
                                       "99999999999999999999:1" };
    CLEANUP(ty_row_places_done) struct ty_row_places rows = { 0 };
    CLEANUP_STR struct ty_str many = { 0 };
    struct sse_cursor c = { .seq = 7, .offset = 8 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sse_cursor_parse(bad[i], &c, &rows), -EINVAL);
    assert_true(c.seq == 7 && c.offset == 8);
    ty_row_places_done(&rows);
    assert_int_equal(sse_cursor_parse("12:345", &c, &rows), 0);
    assert_true(c.seq == 12 && c.offset == 345 && rows.n == 0);
    assert_int_equal(sse_cursor_parse("1:2:0-7.70000-99", &c, &rows), 0);
    assert_true(c.seq == 1 && c.offset == 2 && rows.n == 2);
    assert_true(ty_row_places_get(&rows, 0) == 7 && ty_row_places_get(&rows, 1) == 0 &&
                ty_row_places_get(&rows, 70000) == 99);
    ty_str_add(&many, "1:2:0-1");
    for (int i = 1; i <= TY_ROW_PLACES_MAX; i++)
        ty_str_addf(&many, ".%d-1", i);
    assert_int_equal(sse_cursor_parse(many.text, &c, &rows), -EINVAL);
}

static void test_several_logs_in_the_id(void **state)
{
    CLEANUP_STR struct ty_str out = { 0 };
    CLEANUP(ty_row_places_done) struct ty_row_places rows = { 0 };
    int64_t ranks[3] = { 0 };
    struct sse_cursor c = { .seq = 3, .ranks = ranks, .nranks = 3 };

    (void)state;
    assert_int_equal(sse_log(&out, &c, "l", 1, "ab", 2, false), 2);
    assert_int_equal(sse_log(&out, &c, "m", 0, "c", 1, false), 1);
    assert_string_equal(
        out.text,
        "id: 3:0.2\nevent: log\ndata: {\"name\":\"l\",\"rank\":1,\"offset\":0,\"text\":\"ab\"}\n\n"
        "id: 3:1.2\nevent: log\ndata: {\"name\":\"m\",\"rank\":0,\"offset\":0,\"text\":\"c\"}\n\n");
    assert_int_equal(sse_cursor_parse("4:5.6.7:0-1", &c, &rows), 0);
    assert_true(c.seq == 4 && ranks[0] == 5 && ranks[1] == 6 && ranks[2] == 7 && rows.n == 1);
    assert_int_equal(sse_cursor_parse("4:0", &c, &rows), 0);
    assert_int_equal(sse_cursor_parse("4:1.2.3.4", &c, &rows), -EINVAL);
    assert_int_equal(sse_cursor_parse("4:1..2", &c, &rows), -EINVAL);
    c = (struct sse_cursor){ 0 };
    assert_int_equal(sse_cursor_parse("4:1.2", &c, &rows), -EINVAL);
}

static void test_rows_in_the_id(void **state)
{
    CLEANUP_STR struct ty_str out = { 0 };
    CLEANUP_JSON json_t *data = json_object();
    struct ty_row_place list[] = { { 0, 5 }, { 70000, 12 } };
    struct ty_row_places rows = { .list = list, .n = 2 }, none = { 0 };
    struct sse_cursor c = { .seq = 3, .offset = 4, .rows = &rows };

    (void)state;
    sse_json(&out, &c, "rows", data);
    assert_int_equal(sse_log(&out, &c, "l", -1, "ab", 2, false), 2);
    c.rows = &none;
    sse_json(&out, &c, "rows", data);
    assert_string_equal(
        out.text,
        "id: 3:4:0-5.70000-12\nevent: rows\ndata: {}\n\n"
        "id: 3:6:0-5.70000-12\nevent: log\ndata: {\"name\":\"l\",\"offset\":4,\"text\":\"ab\"}\n\n"
        "id: 3:6\nevent: rows\ndata: {}\n\n");
}

static void test_state(void **state)
{
    CLEANUP_STR struct ty_str out = { 0 };
    CLEANUP_JSON json_t *moved = json_pack("{s:s s:s}", "at", "T", "kind", "ready");
    struct sse_cursor c = { .seq = 3, .offset = 4 };

    (void)state;
    sse_state(&out, &c, "Queued", moved, NULL);
    assert_string_equal(out.text,
                        "id: 3:4\nevent: state\ndata: "
                        "{\"state\":\"Queued\",\"at\":\"T\",\"why\":null,\"kind\":\"ready\"}\n\n");
}

static void check_log(const char *bytes, size_t n, bool last, size_t sent, const char *event)
{
    CLEANUP_STR struct ty_str out = { 0 };
    struct sse_cursor c = { .seq = 2, .offset = 10 };

    assert_int_equal(sse_log(&out, &c, "a.txt", -1, bytes, n, last), sent);
    assert_int_equal(c.offset, 10 + (int64_t)sent);
    assert_string_equal(out.text ? out.text : "", event);
}

static void test_log_text(void **state)
{
    (void)state;
    check_log(
        "a\"\n", 3, false, 3,
        "id: 2:13\nevent: log\ndata: {\"name\":\"a.txt\",\"offset\":10,\"text\":\"a\\\"\\n\"}\n\n");
    check_log("", 0, true, 0, "");
}

/* A character that is cut waits for its rest; at the log's end nothing more comes, so it is sent
 * as bytes. */
static void test_log_cut_character(void **state)
{
    (void)state;
    check_log("x\xc3", 2, false, 1,
              "id: 2:11\nevent: log\ndata: {\"name\":\"a.txt\",\"offset\":10,\"text\":\"x\"}\n\n");
    check_log("x\xc3", 2, true, 1,
              "id: 2:11\nevent: log\ndata: {\"name\":\"a.txt\",\"offset\":10,\"text\":\"x\"}\n\n");
    check_log("\xc3", 1, false, 0, "");
    check_log(
        "\xc3", 1, true, 1,
        "id: 2:11\nevent: log\ndata: {\"name\":\"a.txt\",\"offset\":10,\"base64\":\"ww==\"}\n\n");
}

static void test_log_bytes(void **state)
{
    (void)state;
    check_log(
        "\xff\xfe\n", 3, false, 3,
        "id: 2:13\nevent: log\ndata: {\"name\":\"a.txt\",\"offset\":10,\"base64\":\"//4K\"}\n\n");
    check_log(
        "a\0b", 3, false, 3,
        "id: 2:13\nevent: log\ndata: {\"name\":\"a.txt\",\"offset\":10,\"base64\":\"YQBi\"}\n\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cursor),         cmocka_unit_test(test_several_logs_in_the_id),
        cmocka_unit_test(test_rows_in_the_id), cmocka_unit_test(test_state),
        cmocka_unit_test(test_log_text),       cmocka_unit_test(test_log_cut_character),
        cmocka_unit_test(test_log_bytes),
    };

    return cmocka_run_group_tests_name("sse", tests, NULL, NULL);
}
