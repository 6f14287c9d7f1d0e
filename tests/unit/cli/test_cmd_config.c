/* test_cmd_config.c - trainyard config list, get, set: what is read, and what a file looks like after it */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-config-XXXXXX");
    assert_non_null(mkdtemp(dir));
    setenv("XDG_CONFIG_HOME", dir, 1);
    return chdir(dir);
}

static int tear_down(void **state)
{
    (void)state;
    return chdir("/") < 0 ? -1 : ty_rm_rf(dir);
}

static void says(struct captured c, int code, const char *out, const char *err)
{
    assert_int_equal(c.code, code);
    if (out)
        assert_string_equal(c.out, out);
    if (!strstr(c.err, err))
        fail_msg("'%s' should say '%s'", c.err, err);
    captured_done(&c);
}

#define TRY(...) CAPTURE(NULL, "config", __VA_ARGS__)

static void put(const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void assert_file(const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name), *got = NULL;

    assert_int_equal(ty_read_file(path, 10000, &got, NULL), 0);
    assert_string_equal(got, text);
}

static void test_edits(void **state)
{
    static const struct {
        const char *before, *name, *value, *after;
    } edits[] = {
        { "", "sched.cpus", "3", "[sched]\ncpus = 3\n" },
        { "# mine\n[sched]\n; slots\ncpus=1 ; one\n", "sched.cpus", "3",
          "# mine\n[sched]\n; slots\ncpus = 3\n" },
        { "[sched]\ncpus = 1\n\n[cli]\ncolor = never\n", "sched.user_cpus", "2",
          "[sched]\ncpus = 1\nuser_cpus = 2\n\n[cli]\ncolor = never\n" },
        { "[cli]\ncolor = never", "sched.cpus", "3",
          "[cli]\ncolor = never\n\n[sched]\ncpus = 3\n" },
        { "[sched]\n", "sched.cpus", "3", "[sched]\ncpus = 3\n" },
        { "[limits]\ntags = 1\n[sched]\ncpus = 1\n[limits]\nartifacts = 2\n", "limits.artifacts",
          "5", "[limits]\ntags = 1\n[sched]\ncpus = 1\n[limits]\nartifacts = 5\n" },
        { "[limits]\ntags_ = 1\n", "limits.tags", "5",
          NULL }, /* a file that is wrong is left alone */
    };

    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        put("trainyard/config", edits[i].before);
        if (edits[i].after)
            says(TRY("set", edits[i].name, edits[i].value), 0, "", "when it is started again");
        else
            says(TRY("set", edits[i].name, edits[i].value), 3, "", "line 2: there is no option");
        assert_file("trainyard/config", edits[i].after ? edits[i].after : edits[i].before);
    }
}

static void test_places(void **state)
{
    (void)state;
    says(TRY("get", "sched.cpus"), 0, "0\n", "");
    says(TRY("set", "sched.cpus", "3"), 0, "", "trainyard/config'");
    says(TRY("set", "--project", "sched.cpus", "4"), 0, "", "'.trainyard/config'");
    assert_file(".trainyard/config", "[sched]\ncpus = 4\n");
    says(TRY("get", "sched.cpus"), 0, "4\n", "");
    setenv("TRAINYARD_SCHED_CPUS", "5", 1);
    says(TRY("get", "sched.cpus"), 0, "5\n", "");
    struct captured c = TRY("list", "--plain", "--show-origin");
    assert_non_null(strstr(c.out, "sched.cpus\t5\tenvironment\n"));
    assert_non_null(strstr(c.out, "limits.tags\t1000\tdefault\n"));
    captured_done(&c);
    unsetenv("TRAINYARD_SCHED_CPUS");
    c = TRY("list", "--json");
    assert_non_null(strstr(c.out, "{\"name\":\"sched.cpus\",\"value\":\"4\",\"origin\":\""));
    captured_done(&c);
}

static void test_refused(void **state)
{
    (void)state;
    says(TRY("get", "sched.cpu"), 3, "", "did you mean 'sched.cpus'?");
    says(TRY("set", "sched.cpu", "1"), 3, "", "did you mean 'sched.cpus'?");
    says(TRY("set", "sched.cpus", "many"), 1, "", "must be a whole number");
    says(TRY("set", "cli.color", "never ; # x"), 1, "", "cli.color");
    says(TRY("set", "sched.cpus"), 2, "", "config set --help");
    assert_int_equal(access("trainyard/config", F_OK), -1);
    unsetenv("XDG_CONFIG_HOME");
    setenv("HOME", "", 1);
    says(TRY("set", "sched.cpus", "1"), 3, "", "neither XDG_CONFIG_HOME nor HOME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_edits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("cmd_config", tests, NULL, NULL);
}
