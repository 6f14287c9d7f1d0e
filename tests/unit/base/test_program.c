/* test_program.c - which file the name of a program stands for */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/program.h"
#include "base/str.h"
#include "tests.h"
#include <sys/stat.h>

static void put(const char *path, mode_t mode)
{
    assert_int_equal(ty_mkdir_parent(path, 0755), 0);
    tests_put(path, "#!/bin/sh\n");
    assert_int_equal(chmod(path, mode), 0);
}

/* What `name` is in the folders of `path`, below this folder; "": nothing. */
static void expect(const char *name, const char *path, const char *file)
{
    CLEANUP_FREE char *here = getcwd(NULL, 0), *want = ty_strf("%s/%s", here, file);
    CLEANUP_FREE char *all = ty_strf("%s:%s/a:%s/b", path, here, here);
    CLEANUP_FREE char *found = ty_program_find(name, all);

    if (*file)
        assert_string_equal(found, want);
    else
        assert_null(found);
}

static void test_find(void **state)
{
    (void)state;
    put("a/plain", 0644);
    put("b/plain", 0755);
    put("a/both", 0755);
    put("b/both", 0755);
    assert_int_equal(ty_mkdir_p("a/folder", 0755), 0);
    put("b/folder", 0755);
    assert_int_equal(symlink("../b/plain", "a/link"), 0);
    assert_int_equal(symlink("nowhere", "a/broken"), 0);
    expect("both", "/absent", "a/both");
    expect("plain", "/absent", "b/plain");
    expect("folder", "/absent", "b/folder");
    expect("link", "/absent", "a/link");
    expect("broken", "/absent", "");
    expect("absent", "/absent", "");
    expect("both", "b", "a/both"); /* where that is depends on who asks */
    expect("both", "", "a/both");
    assert_false(ty_program_is("a/folder") || ty_program_is("a/plain") || ty_program_is(""));
}

static void test_path(void **state)
{
    CLEANUP_FREE char *sh = NULL, *none = NULL;

    (void)state;
    assert_int_equal(setenv("PATH", "/absent:/bin", 1), 0);
    sh = ty_program_find("sh", NULL);
    assert_string_equal(sh, "/bin/sh");
    assert_int_equal(unsetenv("PATH"), 0);
    none = ty_program_find("sh", NULL);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_path),
    };

    return cmocka_run_group_tests_name("program", tests, tests_enter, tests_leave);
}
