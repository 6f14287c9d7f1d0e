/* test_params.c - what a run was asked to do, flat; and the numbers that it logged */
#include "base/str.h"
#include "cli/params.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);

    assert_non_null(j);
    return j;
}

/* Of a run with this spec: the params are exactly those of `want`. */
static void params_are(const char *run, const char *want)
{
    CLEANUP_JSON json_t *in = parse(run);
    CLEANUP_JSON json_t *out = ty_run_params(in);
    CLEANUP_JSON json_t *expected = parse(want);
    CLEANUP_FREE char *text = json_dumps(out, 0);

    if (!json_equal(out, expected))
        fail_msg("%s gives %s", run, text);
}

#define USUAL(expand) \
    "\"target\": \"local\", \"node_count\": \"1\", \"process_count_per_node\": \"1\", \"communicator\": " \
    "\"None\", \"use_gpu\": \"false\", \"expand\": \"" expand "\", \"resources.cpus\": \"1\""

static void test_words(void **state)
{
    (void)state;
    params_are(
        "{\"spec\": {\"command\": [\"/bin/python3\", \"-u\", \"train.py\", \"--lr\", \"0.1\", \"--fast\", "
        "\"--name=a=b\", \"--shift\", \"-3.5\", \"-n\", \"7\", \"data\", \"-.5\"]}}",
        "{\"program\": \"/bin/python3\", \"-u\": \"true\", \"arg.1\": \"train.py\", \"--lr\": \"0.1\", "
        "\"--fast\": \"true\", \"--name\": \"a=b\", \"--shift\": \"-3.5\", \"-n\": \"7\", \"arg.2\": \"data\", "
        "\"arg.3\": \"-.5\", " USUAL("false") "}");
    params_are(
        "{\"spec\": {\"command\": [\"p\", \"--x\", \"1\", \"--x\", \"2\", \"--last\"], \"arguments\": [\"--\", "
        "\"--y\", \"-\"]}}",
        "{\"program\": \"p\", \"--x\": \"1 2\", \"--last\": \"true\", \"arg.1\": \"--y\", \"arg.2\": \"-\", " USUAL(
            "false") "}");
}

static void test_the_rest(void **state)
{
    (void)state;
    params_are(
        "{\"tags\": {\"k\": \"v\", \"bare\": null}, \"spec\": {\"script\": \"a.py\", \"interpreter\": "
        "\"/py\", \"arguments\": [\"--lr\", \"1\"], \"expand\": null, \"target\": \"gpu\", \"use_gpu\": true, "
        "\"resources\": {\"cpus\": 4}, \"max_run_duration_seconds\": 60, "
        "\"environment_variables\": {\"A\": \"1\"}, \"data_references\": {\"d\": {\"datastore\": \"s\", "
        "\"path\": \"p/q\"}, \"u\": {\"datastore\": \"s\", \"mode\": \"upload\", \"path_on_compute\": \"out\", "
        "\"overwrite\": true}}}}",
        "{\"program\": \"/py\", \"arg.1\": \"a.py\", \"--lr\": \"1\", \"target\": \"gpu\", \"node_count\": \"1\", "
        "\"process_count_per_node\": \"1\", \"communicator\": \"None\", \"use_gpu\": \"true\", \"expand\": "
        "\"true\", \"resources.cpus\": \"4\", \"max_run_duration_seconds\": \"60\", \"env.A\": \"1\", "
        "\"data.d\": \"s/p/q:mount\", \"data.u\": \"s:upload on out overwrite\", \"tag.k\": \"v\", "
        "\"tag.bare\": \"null\"}");
    params_are("{}", "{" USUAL("false") "}");
}

static void test_scalar(void **state)
{
    CLEANUP_JSON json_t *v = parse(
        "[1, 2.5, {\"$float\": \"NaN\"}, {\"$float\": \"-Infinity\"}, \"NaN\", null, {}, [1]]");
    double d = 7;

    (void)state;
    assert_true(ty_scalar(json_array_get(v, 0), &d) && d == 1);
    assert_true(ty_scalar(json_array_get(v, 1), &d) && d == 2.5);
    assert_true(ty_scalar(json_array_get(v, 2), &d) && isnan(d));
    assert_true(ty_scalar(json_array_get(v, 3), &d) && d == -INFINITY);
    for (size_t i = 4; i < json_array_size(v); i++)
        assert_false(ty_scalar(json_array_get(v, i), &d));
    assert_true(d == -INFINITY);
}

static void test_scalars(void **state)
{
    CLEANUP_JSON json_t *metrics = parse(
        "{\"one\": 3, \"loss\": [0.5, {\"$float\": \"NaN\"}, 0.25, 0.75], \"word\": \"x\", \"words\": [1, "
        "\"x\"], \"row\": {\"a\": 1}, \"none\": [], \"bad\": [{\"$float\": \"NaN\"}]}");
    CLEANUP_JSON json_t *want = parse(
        "{\"one\": {\"count\": 1, \"last\": 3, \"min\": 3, \"max\": 3}, \"loss\": {\"count\": 4, \"last\": 0.75, "
        "\"min\": 0.25, \"max\": 0.75}, \"bad\": {\"count\": 1, \"last\": {\"$float\": \"NaN\"}, \"min\": null, "
        "\"max\": null}}");
    CLEANUP_JSON json_t *have = ty_scalars_of(metrics);

    (void)state;
    assert_true(json_equal(have, want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_the_rest),
        cmocka_unit_test(test_scalar),
        cmocka_unit_test(test_scalars),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
