/* test_runs.c - names of runs, and what an ended run's shell sees */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "cli/runs.h"
#include "fake.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <trainyard/client.h>

#include <cmocka.h>

#define A "first_1780000000_0a1b2c3d"
#define B "first_1780000001_0a1b2c3e"
#define C "second_1780000002_0a1b2c3f"

static int find(struct fake *f, const char *ref, char **id, struct ty_error *err)
{
    struct ty_client_options o = { .home = fake_home(f), .no_start = true };
    struct ty_cli cli = { 0 };
    int r;

    assert_int_equal(ty_client_open(&o, &cli.client, NULL), 0);
    r = ty_cli_run_id(&cli, ref, id, err);
    ty_client_free(cli.client);
    return r;
}

static void test_names(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs?limit=1 ",
          .raw = fake_json("{\"runs\": [{\"id\": \"" C "\"}], \"next\": null}") },
        { .match = "GET /api/v1/runs?limit=1000 ",
          .raw = fake_json("{\"runs\": [{\"id\": \"" C "\"}, {\"id\": \"" B "\"}], \"next\": \"" B
                           "\"}") },
        { .match = "GET /api/v1/runs?limit=1000&before=" B,
          .raw =
              fake_json("{\"runs\": [{\"id\": \"" A "\"}, {\"id\": \"sec\"}], \"next\": null}") },
        { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_error err = { 0 };
    char *id = NULL;

    (void)state;
    assert_int_equal(find(f, "@last", &id, &err), 0);
    assert_string_equal(id, C);
    free(id);
    assert_int_equal(fake_count(f), 1);
    assert_int_equal(find(f, A, &id, &err), 0); /* a whole id needs no request */
    assert_string_equal(id, A);
    free(id);
    assert_int_equal(fake_count(f), 1);
    assert_int_equal(find(f, "first_1780000000", &id, &err), 0); /* on the second page */
    assert_string_equal(id, A);
    free(id);
    assert_int_equal(find(f, "sec", &id, &err), 0); /* a whole name goes before a beginning */
    assert_string_equal(id, "sec");
    free(id);
    id = NULL;
    assert_int_equal(find(f, "first", &id, &err), -EINVAL);
    assert_true(strstr(err.text, "2 runs") && strstr(err.text, A) && strstr(err.text, B));
    assert_int_equal(find(f, "third", &id, &err), -ENOENT);
    assert_non_null(strstr(err.text, "'third'"));
    assert_int_equal(find(f, "", &id, &err), -ENOENT);
    assert_null(id);
    fake_stop(f);
}

static void test_no_run_yet(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET", .raw = fake_json("{\"runs\": [], \"next\": null}") }, { 0 }
    };
    struct fake *f = fake_start(answers);
    struct ty_error err = { 0 };
    char *id = NULL;

    (void)state;
    assert_int_equal(find(f, "@last", &id, &err), -ENOENT);
    assert_non_null(strstr(err.text, "@last"));
    assert_null(id);
    fake_stop(f);
}

static void test_codes(void **state)
{
    static const struct {
        const char *run;
        int code;
    } table[] = {
        { "{\"state\": \"Completed\", \"exit_code\": 0, \"exit_signal\": null}", 0 },
        { "{\"state\": \"Failed\", \"exit_code\": 3, \"exit_signal\": null}", 3 },
        { "{\"state\": \"Failed\", \"exit_code\": null, \"exit_signal\": 9}", 137 },
        { "{\"state\": \"Canceled\", \"exit_code\": null, \"exit_signal\": 15}", 143 },
        { "{\"state\": \"Canceled\", \"exit_code\": null, \"exit_signal\": null}", 125 },
        { "{\"state\": \"Failed\", \"exit_code\": null, \"exit_signal\": null}", 125 },
        { "{\"state\": \"Canceled\", \"exit_code\": 0, \"exit_signal\": null}", 125 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        CLEANUP_JSON json_t *run = json_loads(table[i].run, 0, NULL);

        assert_int_equal(ty_cli_run_code(run), table[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_names),
                                        cmocka_unit_test(test_no_run_yet),
                                        cmocka_unit_test(test_codes) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
