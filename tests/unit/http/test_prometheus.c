/* test_prometheus.c - the numbers of the daemon: every line is one that Prometheus reads */
#include "kit.h"
#include <ctype.h>
#include <string.h>

/* "name value" or "name{label="text"} value" of trainyard_...; or a comment. */
static bool is_line(const char *line)
{
    char name[128], value[64];
    double number;
    int used = 0;

    if (line[0] == '#')
        return strncmp(line, "# HELP trainyard_", 17) == 0 ||
               strncmp(line, "# TYPE trainyard_", 17) == 0;
    if (sscanf(line, "trainyard_%100[a-z_]%n", name, &used) != 1)
        return false;
    if (line[used] == '{')
        used += (int)strcspn(line + used, "}") + 1;
    return line[used] == ' ' && sscanf(line + used, " %60s", value) == 1 &&
           sscanf(value, "%lf", &number) == 1;
}

static void test_lines(void **state)
{
    struct answer a;
    char type[80];
    int values = 0;

    kit_run(*state, "first_1");
    a = ask(*state, "GET", "/metrics", NULL, NULL, 0);
    assert_int_equal(a.status, 200);
    assert_non_null(header_of(&a, "Content-Type", type, sizeof type));
    assert_string_equal(type, "text/plain; version=0.0.4; charset=utf-8");
    assert_non_null(strstr(a.body, "\ntrainyard_runs_stored 1\n"));
    assert_non_null(strstr(a.body, "\ntrainyard_store_ok 1\n"));
    assert_non_null(strstr(a.body, "trainyard_build_info{version=\"" TY_VERSION "\"} 1\n"));
    for (char *line = a.body, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        if (!is_line(line))
            fail_msg("'%s' is no line", line);
        values += line[0] != '#';
    }
    assert_int_equal(values, 14);
    answer_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("prometheus", tests, NULL, NULL);
}
