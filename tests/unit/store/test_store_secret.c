/* test_store_secret.c - secrets: sealed, opened, and what happens without their key */
#include "base/fs.h"
#include "kit.h"
#include <sys/stat.h>
#include <unistd.h>

static int put(struct kit *k, const char *name, const char *value)
{
    struct ty_unit *u = ty_unit_new();
    struct ty_error err = { 0 };
    int r = ty_unit_secret_put(u, k->st, name, value, &err);

    if (r < 0) {
        ty_unit_free(u);
        return r;
    }
    return kit_commit(k, u);
}

static void assert_secret(struct kit *k, const char *name, const char *value)
{
    CLEANUP_FREE char *found = NULL;
    struct ty_error err = { 0 };

    assert_int_equal(ty_store_secret(k->st, name, &found, &err), 0);
    assert_string_equal(found, value);
}

static int64_t found_in_db(struct kit *k, const char *text)
{
    CLEANUP_FREE char *command =
        ty_strf("grep -aqF '%s' %s/state.db %s/state.db-wal", text, k->home, k->home);

    return system(command) == 0;
}

static void test_put_and_get(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = ty_strf("%s/secret.key", k->home), *none = NULL;
    CLEANUP_JSON json_t *list = NULL;
    struct ty_unit *u = ty_unit_new();
    struct ty_error err = { 0 };
    struct stat st;

    assert_int_equal(ty_store_secret(k->st, "token", &none, &err), -ENOENT);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(put(k, "token", "open sesame"), 0);
    assert_int_equal(put(k, "other", "gr\xc3\xbcn"), 0);
    assert_secret(k, "token", "open sesame");
    assert_secret(k, "other", "gr\xc3\xbcn");
    assert_int_equal(put(k, "token", "changed"), 0);
    assert_secret(k, "token", "changed");
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size == 32 && (st.st_mode & 0777) == 0600);
    assert_false(found_in_db(k, "sesame"));
    assert_true(found_in_db(k, "token"));
    assert_int_equal(ty_store_secrets(k->st, &list), 0);
    assert_int_equal(json_array_size(list), 2);
    ty_unit_secret_delete(u, "token");
    assert_int_equal(kit_commit(k, u), 0);
    assert_int_equal(ty_store_secret(k->st, "token", &none, &err), -ENOENT);
}

static void expect_no_secret(struct kit *k, const char *name, const char *why)
{
    CLEANUP_FREE char *none = NULL;
    struct ty_error err = { 0 };

    assert_true(ty_store_secret(k->st, name, &none, &err) < 0);
    if (!strstr(err.text, why))
        fail_msg("'%s' should say '%s'", err.text, why);
}

static void test_trouble(void **state)
{
    struct kit *k = *state;
    CLEANUP_FREE char *path = ty_strf("%s/secret.key", k->home), *text = NULL;
    size_t n = 0;

    assert_int_equal(put(k, "a", "one"), 0);
    assert_int_equal(put(k, "b", "two"), 0);
    /* Moved to another name. */
    kit_sql(
        k,
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'b') WHERE name = 'a'");
    expect_no_secret(k, "a", "sealed with another key");
    kit_sql(k, "UPDATE secret SET sealed = 'nonsense!' WHERE name = 'a'");
    expect_no_secret(k, "a", "is damaged; set it again");
    assert_secret(k, "b", "two");
    assert_int_equal(ty_read_file(path, 64, &text, &n), 0);
    assert_int_equal(ty_write_file(path, "short", 5, 0600), 0);
    expect_no_secret(k, "b", "it is damaged; put its backup there");
    assert_int_equal(put(k, "c", "three"), -EBADMSG);
    assert_int_equal(unlink(path), 0);
    expect_no_secret(k, "b", "No such file");
    assert_int_equal(ty_write_file(path, text, n, 0600), 0);
    assert_secret(k, "b", "two");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = { T(test_put_and_get), T(test_trouble) };

    return cmocka_run_group_tests_name("store_secret", tests, NULL, NULL);
}
