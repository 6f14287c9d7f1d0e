/* test_statcache.c - what is remembered of files, and when it is not believed */
#include "blob/statcache.h"
#include "kit.h"

#define FILE_NAME "cache/snapshots"

static const struct stat old = {
    .st_size = 5, .st_ino = 77, .st_mtim = { 1000, 1 }, .st_ctim = { 2000, 2 }
};

static void save_one(const char *path, const struct stat *st)
{
    struct ty_statcache *c = ty_statcache_load(FILE_NAME);

    ty_statcache_put(c, path, st, SHA_HELLO);
    ty_statcache_save(c, FILE_NAME);
    ty_statcache_free(c);
}

static bool knows(const char *path, const struct stat *st)
{
    struct ty_statcache *c = ty_statcache_load(FILE_NAME);
    const char *sha = ty_statcache_get(c, path, st);
    bool found = sha && strcmp(sha, SHA_HELLO) == 0;

    ty_statcache_free(c);
    return found;
}

static void test_remembers(void **state)
{
    (void)state;
    assert_false(knows("a", &old));
    save_one("a b\n%c", &old);
    assert_true(knows("a b\n%c", &old));
    assert_false(knows("a b", &old));
}

static void test_any_change_counts(void **state)
{
    struct stat st[5] = { old, old, old, old, old };

    (void)state;
    save_one("a", &old);
    st[0].st_size++;
    st[1].st_ino++;
    st[2].st_mtim.tv_nsec++;
    st[3].st_ctim.tv_nsec++;
    st[4].st_ctim.tv_sec--;
    for (int i = 0; i < 5; i++)
        assert_false(knows("a", &st[i]));
    assert_true(knows("a", &old));
}

/* Touched within the clock's grain, a file may change once more without a trace. */
static void test_young_files_are_not_remembered(void **state)
{
    struct stat young = old, modified = old;

    (void)state;
    young.st_ctim.tv_sec = time(NULL);
    modified.st_mtim.tv_sec = time(NULL) + 100; /* a clock that was set back */
    save_one("young", &young);
    assert_false(knows("young", &young));
    save_one("modified", &modified);
    assert_false(knows("modified", &modified));
    young.st_ctim.tv_sec = time(NULL) - 1;
    save_one("young", &young);
    assert_false(knows("young", &young));
    young.st_ctim.tv_sec = time(NULL) - 4;
    save_one("young", &young);
    assert_true(knows("young", &young));
}

static void test_what_is_not_asked_for_is_forgotten(void **state)
{
    struct ty_statcache *c;

    (void)state;
    save_one("a", &old);
    c = ty_statcache_load(FILE_NAME);
    ty_statcache_put(c, "b", &old, SHA_HELLO);
    ty_statcache_save(c, FILE_NAME);
    ty_statcache_free(c);
    assert_true(knows("b", &old));
    assert_false(knows("a", &old));
}

static void test_a_damaged_file_counts_as_none(void **state)
{
    CLEANUP_FREE char *text = NULL;
    size_t n;

    (void)state;
    save_one("a", &old);
    assert_int_equal(ty_read_file(FILE_NAME, 10000, &text, &n), 0);
    for (size_t at = 0; at < n; at += 3) {
        char was = text[at];

        text[at] ^= 1;
        assert_int_equal(ty_write_file(FILE_NAME, text, n, 0600), 0);
        assert_false(knows("a", &old));
        text[at] = was;
    }
    for (size_t len = 0; len < n; len += 5) {
        assert_int_equal(ty_write_file(FILE_NAME, text, len, 0600), 0);
        assert_false(knows("a", &old));
    }
    assert_int_equal(ty_write_file(FILE_NAME, text, n, 0600), 0);
    assert_true(knows("a", &old));
}

static void test_where_nothing_can_be_written(void **state)
{
    struct ty_statcache *c = ty_statcache_load("plain/cache");

    (void)state;
    tests_put("plain", "");
    ty_statcache_put(c, "a", &old, SHA_HELLO);
    ty_statcache_save(c, "plain/cache"); /* it is only a cache */
    ty_statcache_free(c);
    assert_int_equal(files_below("."), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tests_enter, tests_leave)
    const struct CMUnitTest tests[] = { T(test_remembers),
                                        T(test_any_change_counts),
                                        T(test_young_files_are_not_remembered),
                                        T(test_what_is_not_asked_for_is_forgotten),
                                        T(test_a_damaged_file_counts_as_none),
                                        T(test_where_nothing_can_be_written) };

    return cmocka_run_group_tests_name("statcache", tests, NULL, NULL);
}
