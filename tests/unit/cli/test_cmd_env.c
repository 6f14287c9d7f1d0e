/* test_cmd_env.c - trainyard env: what is refused, and what needs no build; the rest is in tests/e2e/env.sh */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "capture.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
#define TRY(...) CAPTURE(dir, __VA_ARGS__)

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-cmd-env.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(dir);
}

static void says(struct captured c, int code, const char *out, const char *err)
{
    if (c.code != code || strcmp(c.out, out) != 0 || !strstr(c.err, err))
        fail_msg("%d, '%s', '%s'", c.code, c.out, c.err);
    captured_done(&c);
}

static void test_an_empty_cache(void **state)
{
    (void)state;
    says(TRY("env", "ls", "-q"), 0, "", "");
    says(TRY("env", "ls", "--json"), 0, "{\"environments\":[]}\n", "");
    says(TRY("env", "show", "0123456789"), 3, "", "no environment of this machine has a key");
    says(TRY("env", "show", "012"), 1, "", "give at least 4 digits");
    says(TRY("env", "gc"), 0, "removed 0 environments (0 B), and 0 B of data\n", "");
    says(TRY("env", "gc", "--dry-run", "--json"), 0,
         "{\"removed\":0,\"freed_bytes\":0,\"freed_data_bytes\":0,\"dry\":true}\n", "");
}

static void test_what_is_refused(void **state)
{
    (void)state;
    says(TRY("env", "build"), 1, "", "say what is wanted");
    says(TRY("env", "build", "--pip", "six", "first_1"), 1, "", "and not both");
    says(TRY("env", "build", "--requirements", "/nonexistent"), 3, "", "/nonexistent");
    says(TRY("env", "build", "--pip", "--pre"), 1, "", "requirements file");
    says(TRY("env", "gc", "--max", "much"), 1, "", "--max 'much' is not a size");
    says(TRY("env", "gc", "--unused", "long"), 1, "", "--unused 'long' is not a time");
    says(TRY("data", "cache", "--max", "much"), 2, "", "--max 'much' is not a size");
    says(TRY("data", "cache", "--dry-run"), 2, "", "--dry-run goes with");
}

static void test_downloaded_data(void **state)
{
    CLEANUP_FREE char *place = ty_path_join(dir, "cache/data/s/ab/object");
    const struct timespec then[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

    (void)state;
    says(TRY("data", "cache", "--plain"), 0, "", "");
    assert_int_equal(ty_mkdir_parent(place, 0700), 0);
    assert_int_equal(ty_write_file(place, "x", 1, 0600), 0);
    says(TRY("data", "cache", "-q", "--clear"), 0, "removed 0 B of downloaded data\n", "");
    assert_int_equal(utimensat(AT_FDCWD, place, then, 0), 0);
    says(TRY("data", "cache", "--clear", "--dry-run"), 0,
         "would remove 4.1 kB of downloaded data\n", "");
    says(TRY("data", "cache", "--clear"), 0, "removed 4.1 kB of downloaded data\n", "");
    assert_int_equal(access(place, F_OK), -1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_an_empty_cache), T(test_what_is_refused),
                                        T(test_downloaded_data) };

    return cmocka_run_group_tests_name("cmd_env", tests, NULL, NULL);
}
