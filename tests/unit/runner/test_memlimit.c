/* test_memlimit.c - limits of memory, in folders that look like those of cgroups */
#include "base/fs.h"
#include "base/str.h"
#include "runner/memlimit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/ty-memlimit.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return ty_rm_rf(root);
}

static void put(const char *group, const char *file, const char *text)
{
    CLEANUP_FREE char *dir = ty_strf("%s%s", root, group);
    CLEANUP_FREE char *path = ty_path_join(dir, file);

    assert_int_equal(ty_mkdir_p(dir, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void is(const struct ty_memlimit *l, int64_t want_used, int64_t want_total)
{
    int64_t used = 700, total = 10000;

    ty_memlimit_apply(l, &used, &total);
    assert_int_equal(used, want_used);
    assert_int_equal(total, want_total);
}

/* The least limit counts, whichever group has it; what it uses is what all below it use. */
static void test_second_version(void **state)
{
    struct ty_memlimit l;

    (void)state;
    put("/job/step", "memory.max", "max\n");
    put("/job", "memory.max", "4000\n");
    put("/job", "memory.current", "1000\n");
    put("/job", "memory.stat", "anon 500\ninactive_file 300\nactive_file 100\n");
    put("", "memory.max", "9000\n");
    ty_memlimit_find_below(root, "/job/step", true, &l);
    is(&l, 700, 4000);
    put("/job", "memory.current", "1500\n");
    is(&l, 1200, 4000);
    put("/job", "memory.max", "max\n"); /* lifted */
    is(&l, 700, 10000);
    put("/job", "memory.max", "20000\n"); /* more than there is */
    is(&l, 700, 10000);
}

static void test_first_version(void **state)
{
    struct ty_memlimit l;

    (void)state;
    put("/c", "memory.limit_in_bytes", "5000\n");
    put("/c", "memory.usage_in_bytes", "1000\n");
    put("/c", "memory.stat", "inactive_file 1\ntotal_inactive_file 400\n");
    ty_memlimit_find_below(root, "/c", false, &l);
    is(&l, 600, 5000);
}

static void test_none(void **state)
{
    struct ty_memlimit l;

    (void)state;
    ty_memlimit_find_below(root, "/no/such/group", true, &l);
    is(&l, 700, 10000);
    put("", "memory.max", "garbage\n");
    ty_memlimit_find_below(root, "/", true, &l);
    is(&l, 700, 10000);
    put("", "memory.max", "3000\n"); /* a limit, but nothing that says how much is used */
    ty_memlimit_find_below(root, "/", true, &l);
    is(&l, 700, 10000);
    ty_memlimit_find(&l); /* of this process: whatever it is, it is no more than there is */
    int64_t used = 1, total = INT64_MAX;
    ty_memlimit_apply(&l, &used, &total);
    assert_true(used > 0 && total > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_second_version), T(test_first_version),
                                        T(test_none) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
