/* test_each.c - going over a store: its blobs, and nothing else that lies there */
#include "blob/each.h"
#include "kit.h"

struct seen {
    int count, stop_at;
    char last[TY_SHA256_HEX + 1];
};

static int see(int folder, const char *prefix, const char *name, void *ctx)
{
    struct seen *s = ctx;
    struct stat st;

    assert_int_equal(fstatat(folder, name, &st, 0), 0);
    snprintf(s->last, sizeof s->last, "%s%s", prefix, name);
    return ++s->count == s->stop_at ? -ECANCELED : 0;
}

static void test_blobs_and_nothing_else(void **state)
{
    struct ty_blobs *b = open_store();
    struct seen s = { 0 };
    char sha[TY_SHA256_HEX + 1];
    int fd = open("store", O_RDONLY | O_DIRECTORY);

    (void)state;
    assert_int_equal(ty_each_blob(fd, see, &s), 0);
    assert_int_equal(s.count, 0);
    put_text(b, "hello", sha);
    tests_put("store/2c/README", "not a blob");
    tests_put("store/2c/F24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824",
              "nor this");
    tests_put("store/zz", "");
    assert_int_equal(symlink("2c", "store/ff"), 0); /* a folder behind a link is not looked into */
    assert_int_equal(ty_each_blob(fd, see, &s), 0);
    assert_int_equal(s.count, 1);
    assert_string_equal(s.last, SHA_HELLO);
    put_text(b, "other", sha);
    s = (struct seen){ .stop_at = 1 };
    assert_int_equal(ty_each_blob(fd, see, &s), -ECANCELED);
    assert_int_equal(s.count, 1);
    close(fd);
    ty_blobs_free(b);
}

static void test_leftovers(void **state)
{
    struct seen s = { 0 };
    int fd = open("store", O_RDONLY | O_DIRECTORY);

    (void)state;
    tests_put("store/tmp/half", "");
    tests_put("store/tmp/.hidden", "");
    assert_int_equal(ty_each_tmp(fd, see, &s), 0);
    assert_int_equal(s.count, 1);
    assert_string_equal(s.last, "tmphalf");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_blobs_and_nothing_else),
                                        cmocka_unit_test(test_leftovers) };

    return cmocka_run_group_tests_name("each", tests, tests_enter, tests_leave);
}
