/* test_html.c - what comes from users stays text; curves keep what matters */
#include "base/conf.h"
#include "http/html.h"
#include "kit.h"
#include <math.h>
#include <string.h>

#define GIVES(call, expected) \
    do { \
        CLEANUP_STR struct ty_str s = { 0 }; \
        call; \
        assert_string_equal(s.text ? s.text : "", expected); \
    } while (0)

static void test_text(void **state)
{
    (void)state;
    GIVES(html_text(&s, "a<b>&\"'"), "a&#60;b&#62;&#38;&#34;&#39;");
    GIVES(html_text(&s, "gr\xc3\xbcn \xe2\x9c\x93 \xf0\x9f\x9a\x82"),
          "gr\xc3\xbcn \xe2\x9c\x93 \xf0\x9f\x9a\x82");
    GIVES(html_text(&s, "\xff<\xc3"), "\xef\xbf\xbd&#60;\xef\xbf\xbd");
    GIVES(html_textn(&s, "a\0b", 3), "a\xef\xbf\xbd"
                                     "b");
    GIVES(html_text(&s, NULL), "");
    GIVES(html_add(&s, "<a href=\"%s\">%s</a>", "x\"y", "<"), "<a href=\"x&#34;y\">&#60;</a>");
}

#define LOG(text) html_log(&s, text, sizeof text - 1)

static void test_log(void **state)
{
    (void)state;
    GIVES(LOG("\x1b[1;32mgreen\x1b[0m\tand <b>\n"), "green\tand &#60;b&#62;\n");
    GIVES(LOG("1%\r2%\r\n"), "1%\n2%\n");
    GIVES(LOG("\x1b]0;title\x07shown \x1b]0;t\x1b\\too\x08"), "shown too");
    GIVES(LOG("cut \x1b[1;3"), "cut ");
    GIVES(LOG("cut \x1b"), "cut ");
}

static void test_durations(void **state)
{
    (void)state;
    GIVES(html_duration(&s, 1540000), "1.5 s");
    GIVES(html_duration(&s, 59000000), "59 s");
    GIVES(html_duration(&s, 61000000), "1 min 1 s");
    GIVES(html_duration(&s, INT64_C(7260000000)), "2 h 1 min");
    GIVES(html_duration(&s, INT64_C(90000000000)), "1 d 1 h");
}

static void test_chart(void **state)
{
    static double many[100000];
    CLEANUP_STR struct ty_str s = { 0 }, none = { 0 };

    (void)state;
    many[54321] = 7;
    html_chart(&s, "a<b", many, sizeof many / sizeof *many);
    assert_non_null(
        strstr(s.text, "<title>a&#60;b: 100000 values from 0 to 7, the last 0</title>"));
    assert_non_null(strstr(s.text, " 0.0L")); /* the spike reaches the top */
    assert_true(s.len < 16384);
    html_chart(&none, "gap", (const double[]){ NAN, INFINITY }, 2);
    assert_null(strstr(none.text, "<svg"));
    ty_str_done(&s);
    html_chart(&s, "x", (const double[]){ 1, NAN, 3, 2 }, 4);
    assert_non_null(strstr(s.text, "d=\"M0.0 110.0M213.3 0.0L320.0 55.0\"")); /* a gap is no line */
}

static void test_pages(void **state)
{
    struct kit *k = *state;

    expect(k, "GET", "/", NULL, 200, "There is no run here yet");
    kit_run(k, "r1");
    kit_log(k, "r1", "azureml-logs/70_driver_log.txt", 0, "one <two>\n", 10);
    kit_rows(k, "r1", 0, 0, 5, "lo<ss");
    expect(k, "GET", "/", NULL, 200, "<a href=\"/runs/r1\">r1</a>");
    expect(k, "GET", "/", NULL, 200, "<a href=\"/?state=active\">Active</a>");
    expect(k, "GET", "/?experiment=other", NULL, 200, "<p>No run matches.</p>");
    expect(k, "GET", "/?experiment=other&state=Failed", NULL, 200,
           "<a href=\"/?experiment=other&amp;state=Failed\" aria-current=\"page\">Failed</a>");
    expect(k, "GET", "/machines", NULL, 200, "<td>box</td><td>up</td>");
    expect(k, "GET", "/?before=none", NULL, 404, "no run 'none'");
    expect(k, "GET", "/runs/r1", NULL, 200, "one &#60;two&#62;");
    expect(k, "GET", "/runs/r1", NULL, 200,
           "<title>lo&#60;ss: 5 values from 0 to 4, the last 4</title>");
    expect(k, "GET", "/runs/r1?part=metrics", NULL, 200, "<section id=\"metrics\">");
    expect(k, "GET", "/runs/r1?part=system", NULL, 200, "None were sampled");
    expect(k, "GET", "/runs/r1?part=x", NULL, 400, "it can be metrics");
    expect(k, "GET", "/runs/none", NULL, 404, "no run 'none'");
    expect(k, "GET", "/static/page.css", NULL, 200, "prefers-color-scheme");
    expect(k, "GET", "/static/../x", NULL, 404, "");
}

static void test_page_of_several_processes(void **state)
{
    struct kit *k = *state;

    k->spec =
        "{\"version\":1,\"node_count\":2,\"process_count_per_node\":2,\"communicator\":\"Mpi\"}";
    kit_run(k, "r1");
    kit_log(k, "r1", "azureml-logs/70_driver_log_0.txt", 0, "from zero\n", 10);
    kit_log(k, "r1", "azureml-logs/70_driver_log_3.txt", 0, "from three\n", 11);
    expect(k, "GET", "/runs/r1", NULL, 200, "from zero");
    expect(k, "GET", "/runs/r1", NULL, 200, "<a href=\"?rank=3\">3</a>");
    expect(k, "GET", "/runs/r1", NULL, 200, "2 x 2");
    expect(k, "GET", "/runs/r1?rank=3", NULL, 200, "from three");
    expect(k, "GET", "/runs/r1?rank=3", NULL, 200, "data-log=\"azureml-logs/70_driver_log_3.txt\"");
    expect(k, "GET", "/runs/r1?rank=1", NULL, 200, "aria-current=\"page\">1<");
    expect(k, "GET", "/runs/r1?rank=4", NULL, 400, "no process 4; the first is 0 and the last 3");
}

static void test_links(void **state)
{
    struct kit *k = *state;
    CLEANUP_JSON json_t *link = NULL;
    CLEANUP_JSON json_t *again = NULL;

    kit_run(k, "r1");
    link = expect_json(k, "GET", "/api/v1/link?run=r1", NULL, 200, "link");
    again = expect_json(k, "GET", "/api/v1/link?run=r1", NULL, 200, "link");
    assert_true(json_equal(link, again));
    expect(k, "GET", "/api/v1/link?run=none", NULL, 404, "no run 'none'");
    expect(k, "DELETE", "/api/v1/link", NULL, 204, "");
    json_decref(again);
    again = expect_json(k, "GET", "/api/v1/link?run=r1", NULL, 200, "link");
    assert_false(json_equal(link, again));
}

/* 70000 would be taken for 4464, its lower 16 bits. */
static void test_port_too_high(void **state)
{
    struct kit *k = *state;

    assert_int_equal(ty_conf_set(k->conf, "http.port", "70000", "test", NULL), 0);
    expect(k, "GET", "/api/v1/link", NULL, 500, "http.port is 70000");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_open, kit_close)
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_text),
                                        cmocka_unit_test(test_log),
                                        cmocka_unit_test(test_durations),
                                        cmocka_unit_test(test_chart),
                                        T(test_pages),
                                        T(test_page_of_several_processes),
                                        T(test_links),
                                        T(test_port_too_high) };

    return cmocka_run_group_tests_name("html", tests, NULL, NULL);
}
