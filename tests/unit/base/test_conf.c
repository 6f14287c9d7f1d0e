#include "base/cleanup.h"
#include "base/conf.h"
#include "base/error.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>

static void conf_freep(struct ty_conf **c)
{
    ty_conf_free(*c);
}
#define CLEANUP_CONF CLEANUP(conf_freep)

static void fresh(void)
{
    unsetenv("TRAINYARD_LIMITS_SNAPSHOT_BYTES");
    unsetenv("TRAINYARD_RUN_CANCEL_GRACE_SECONDS");
    setenv("XDG_CONFIG_HOME", tests_folder, 1);
    assert_int_equal(ty_rm_rf("trainyard"), 0);
    assert_int_equal(ty_rm_rf("project"), 0);
    assert_int_equal(ty_mkdir_p("trainyard", 0755), 0);
    assert_int_equal(ty_mkdir_p("project/.trainyard", 0755), 0);
    assert_int_equal(ty_mkdir_p("project/sub/folder", 0755), 0);
}

static struct ty_conf *loaded(const char *start)
{
    struct ty_conf *c = NULL;
    struct ty_error err = { 0 };

    if (ty_conf_load(start, &c, &err) < 0)
        fail_msg("%s", err.text);
    return c;
}

static void refused(const char *file, const char *content, const char *expected)
{
    struct ty_conf *c = NULL;
    struct ty_error err = { 0 };

    tests_put(file, content);
    assert_true(ty_conf_load("project", &c, &err) < 0);
    assert_null(c);
    if (!strstr(err.text, expected))
        fail_msg("'%s' lacks '%s'", err.text, expected);
}

static void test_defaults(void **state)
{
    CLEANUP_CONF struct ty_conf *c = NULL;

    (void)state;
    fresh();
    c = loaded(NULL);
    assert_int_equal(ty_conf_number(c, "limits.snapshot_bytes"), 300000000);
    assert_int_equal(ty_conf_number(c, "run.max_run_duration_seconds"), 30 * 86400);
    assert_int_equal(ty_conf_number(c, "sched.cpus"), 0);
    assert_false(ty_conf_bool(c, "target.require_gpu"));
    assert_string_equal(ty_conf_text(c, "cli.color"), "auto");
    assert_string_equal(ty_conf_origin(c, "cli.color"), "default");
}

/* Each stronger source wins over all weaker ones. */
static void test_precedence(void **state)
{
    CLEANUP_CONF struct ty_conf *user = NULL, *project = NULL, *env = NULL;

    (void)state;
    fresh();
    tests_put("trainyard/config", "[limits]\nsnapshot_bytes = 1MB\nsnapshot_files = 5 ; few\n");
    user = loaded("project/sub/folder");
    assert_int_equal(ty_conf_number(user, "limits.snapshot_bytes"), 1000000);
    assert_true(ty_ends_with(ty_conf_origin(user, "limits.snapshot_bytes"), "/trainyard/config"));

    tests_put("project/.trainyard/config", "[limits]\nsnapshot_bytes = 2MB\n");
    project = loaded("project/sub/folder");
    assert_int_equal(ty_conf_number(project, "limits.snapshot_bytes"), 2000000);
    assert_int_equal(ty_conf_number(project, "limits.snapshot_files"), 5);
    assert_true(ty_ends_with(ty_conf_origin(project, "limits.snapshot_bytes"),
                             "/project/.trainyard/config"));

    setenv("TRAINYARD_LIMITS_SNAPSHOT_BYTES", "3MB", 1);
    env = loaded("project");
    assert_int_equal(ty_conf_number(env, "limits.snapshot_bytes"), 3000000);
    assert_string_equal(ty_conf_text(env, "limits.snapshot_bytes"), "3MB");
    assert_string_equal(ty_conf_origin(env, "limits.snapshot_bytes"), "environment");
    assert_int_equal(ty_conf_set(env, "limits.snapshot_bytes", "4MB", "flag", NULL), 0);
    assert_int_equal(ty_conf_number(env, "limits.snapshot_bytes"), 4000000);
    assert_string_equal(ty_conf_origin(env, "limits.snapshot_bytes"), "flag");
}

static void test_without_start_no_project_file(void **state)
{
    CLEANUP_CONF struct ty_conf *c = NULL;

    (void)state;
    fresh();
    tests_put("project/.trainyard/config", "[limits]\nsnapshot_files = 7\n");
    assert_int_equal(chdir("project"), 0);
    c = loaded(NULL);
    assert_int_equal(chdir(".."), 0);
    assert_int_equal(ty_conf_number(c, "limits.snapshot_files"), 100000);
}

static void test_bad_files(void **state)
{
    static const char file[] = "project/.trainyard/config";

    (void)state;
    fresh();
    refused(file, "[limits]\n\nsnapshot_byte = 1MB\n",
            ".trainyard/config', line 3: there is no option 'limits.snapshot_byte'; "
            "did you mean 'limits.snapshot_bytes'?");
    refused(file, "[limits]\nsnapshot_bytes = many\n",
            "line 2: limits.snapshot_bytes must be a size in bytes like 300MB, "
            "not 'many'");
    refused(file, "[limits]\nsnapshot_bytes = many\nnonsense\n",
            "line 3: it is neither '[section]' nor 'key = value'");
    refused(file, "loose = 1\n", "line 1: there is no option 'loose'");
    refused(file, "[run]\ncancel_grace_seconds = -1\n",
            "line 2: run.cancel_grace_seconds must be a time in seconds");
}

static void test_bad_environment(void **state)
{
    struct ty_conf *c = NULL;
    struct ty_error err = { 0 };

    (void)state;
    fresh();
    setenv("TRAINYARD_RUN_CANCEL_GRACE_SECONDS", "soon", 1);
    assert_int_equal(ty_conf_load(NULL, &c, &err), -EINVAL);
    assert_null(c);
    assert_string_equal(
        err.text,
        "environment variable TRAINYARD_RUN_CANCEL_GRACE_SECONDS must be a time in seconds, or "
        "like 90m, 12h or 7d, not 'soon'");
}

static void test_kinds(void **state)
{
    CLEANUP_CONF struct ty_conf *c = NULL;

    (void)state;
    fresh();
    c = loaded(NULL);
    assert_int_equal(ty_conf_set(c, "run.cancel_grace_seconds", "90m", "flag", NULL), 0);
    assert_int_equal(ty_conf_number(c, "run.cancel_grace_seconds"), 5400);
    assert_int_equal(ty_conf_set(c, "run.cancel_grace_seconds", "2d", "flag", NULL), 0);
    assert_int_equal(ty_conf_number(c, "run.cancel_grace_seconds"), 172800);
    assert_int_equal(ty_conf_set(c, "run.cancel_grace_seconds", "h", "flag", NULL), -EINVAL);
    assert_int_equal(
        ty_conf_set(c, "run.cancel_grace_seconds", "999999999999999999d", "flag", NULL), -ERANGE);
    assert_int_equal(ty_conf_number(c, "run.cancel_grace_seconds"), 172800);
    assert_int_equal(ty_conf_set(c, "target.require_gpu", "Yes", "flag", NULL), 0);
    assert_true(ty_conf_bool(c, "target.require_gpu"));
    assert_int_equal(ty_conf_set(c, "target.require_gpu", "maybe", "flag", NULL), -EINVAL);
    assert_int_equal(ty_conf_set(c, "no.such", "1", "flag", NULL), -ENOENT);
}

/* Every row is complete, and its default passes its own check (else nothing could be loaded). */
static void test_table(void **state)
{
    int n = 0;

    (void)state;
    for (const struct ty_conf_option *o; (o = ty_conf_option(n)); n++) {
        assert_non_null(strchr(o->key, '.'));
        assert_true(strlen(o->help) > 10 && strlen(o->kind) > 3 && o->fallback[0]);
        for (int m = 0; m < n; m++)
            assert_string_not_equal(ty_conf_option(m)->key, o->key);
    }
    assert_true(n > 10);
    assert_null(ty_conf_option(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_without_start_no_project_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_bad_environment),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests_name("conf", tests, tests_enter, tests_leave);
}
