/* test_slurm_command.c - commands of Slurm, by programs of the test that stand in a PATH of its own */
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "target/slurm_command.h"
#include "tests.h"
#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

static char dir[] = "/tmp/ty-slurm.XXXXXX";
static json_t *environment;

static void program(const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(dir, name);
    CLEANUP_FREE char *all = ty_strf("#!/bin/sh\n%s\n", text);

    assert_int_equal(ty_write_file(path, all, strlen(all), 0755), 0);
}

static int setup(void **state)
{
    CLEANUP_FREE char *path = NULL;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    path = ty_strf("%s:/usr/bin:/bin", dir);
    environment = json_pack("{s:s s:s}", "PATH", path, "SLURM_CONF", "/x/slurm.conf");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(environment);
    return ty_rm_rf(dir);
}

static int run(const char *const *argv, char **out, struct ty_error *err)
{
    struct ty_slurm_setting where = { .environment = environment };

    return ty_slurm_run(&where, argv, 5000, out, err);
}

/* Nothing of what surrounds this process, but the target's variables. */
static void test_environment(void **state)
{
    const char *argv[] = { "sinfo", NULL };
    CLEANUP_FREE char *out = NULL;
    struct ty_error err;

    (void)state;
    setenv("SECRET_OF_A_SHELL", "x", 1);
    program("sinfo", "env | sort");
    assert_int_equal(run(argv, &out, &err), 0);
    assert_non_null(strstr(out, "SLURM_CONF=/x/slurm.conf\n"));
    assert_non_null(strstr(out, "LC_ALL=C\n"));
    assert_non_null(strstr(out, "HOME=/"));
    assert_null(strstr(out, "SECRET_OF_A_SHELL"));
}

static void test_refusal(void **state)
{
    const char *argv[] = { "sbatch", "--parsable", NULL };
    CLEANUP_FREE char *out = NULL;
    struct ty_error err;

    (void)state;
    program("sbatch", "echo 'sbatch: error: invalid account' >&2; exit 1");
    assert_int_equal(run(argv, &out, &err), -EREMOTEIO);
    assert_string_equal(err.text, "sbatch: invalid account");
    assert_null(out);
}

static void test_missing(void **state)
{
    const char *argv[] = { "no-such-program", NULL };
    CLEANUP_FREE char *out = NULL;
    struct ty_error err;

    (void)state;
    assert_int_equal(run(argv, &out, &err), -ENOENT);
    assert_non_null(strstr(err.text, "cannot find Slurm's program 'no-such-program'"));
}

static void test_slow(void **state)
{
    const char *argv[] = { "squeue", NULL };
    struct ty_slurm_setting where = { .environment = environment };
    CLEANUP_FREE char *out = NULL;
    struct ty_error err;

    (void)state;
    program("squeue", "exec sleep 60");
    assert_int_equal(ty_slurm_run(&where, argv, 100, &out, &err), -ETIMEDOUT);
}

/* A script is longer than a pipe holds. */
static void test_input(void **state)
{
    const char *argv[] = { "sbatch", NULL };
    struct ty_slurm_setting where = { .environment = environment };
    struct ty_slurm_command c = TY_SLURM_COMMAND_INIT;
    CLEANUP_FREE char *out = NULL, *complaint = NULL, *much = malloc(1 << 20);
    struct ty_error err;

    (void)state;
    memset(much, 'x', 1 << 20);
    program("sbatch", "wc -c; echo note >&2");
    assert_int_equal(ty_slurm_command_start(&c, &where, argv, much, 1 << 20, &err), 0);
    struct pollfd p = { .fd = c.ended, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(ty_slurm_command_end(&c, &out, &complaint), 0);
    assert_int_equal(strtol(out, NULL, 10), 1 << 20);
    assert_string_equal(complaint, "note\n");
    assert_int_equal(c.pid, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_environment),
                                        cmocka_unit_test(test_refusal),
                                        cmocka_unit_test(test_missing), cmocka_unit_test(test_slow),
                                        cmocka_unit_test(test_input) };

    return cmocka_run_group_tests_name("slurm_command", tests, setup, teardown);
}
