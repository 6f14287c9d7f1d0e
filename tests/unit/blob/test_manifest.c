/* test_manifest.c - the text form of a snapshot: one way to write it, and nothing else is read */
#include "blob/snapshot_internal.h"
#include "kit.h"

#define HEAD "trainyard-snapshot 1\n"

static int parse(const char *text, struct ty_snapshot **ret, struct ty_error *err)
{
    return ty_snapshot_parse(text, strlen(text), ret, err);
}

static void test_what_is_written_is_read(void **state)
{
    static const char text[] = HEAD "f 644 5 " SHA_HELLO " a/%0Anewline\n"
                                    "f 755 0 " SHA_HELLO " b%25 \xc3\xa9 x\n"
                                    "d - - - empty\n"
                                    "l - 10 - to%3E -> a/%0Anewline\n";
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    const char *path, *sha;
    uint64_t bytes;
    size_t n;
    char id[TY_SHA256_HEX + 1];

    (void)state;
    if (parse(text, &s, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(ty_snapshot_manifest(s, &n), text);
    assert_int_equal(n, strlen(text));
    ty_sha256_hex(text, n, id);
    assert_string_equal(ty_snapshot_id(s), id);
    assert_int_equal(ty_snapshot_files(s), 2);
    assert_int_equal(ty_snapshot_bytes(s), 5);
    assert_true(ty_snapshot_file(s, 0, &path, &sha, &bytes));
    assert_string_equal(path, "a/\nnewline");
    assert_string_equal(sha, SHA_HELLO);
    assert_int_equal(bytes, 5);
    assert_true(ty_snapshot_file(s, 1, &path, &sha, &bytes));
    assert_string_equal(path, "b% \xc3\xa9 x");
    assert_false(ty_snapshot_file(s, 2, &path, &sha, &bytes));
    ty_snapshot_free(s);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "", "not a snapshot manifest" },
        { "trainyard-snapshot 2\n", "not a snapshot manifest" },
        { HEAD "d - - - a", "not a snapshot manifest" },
        { HEAD "x - - - a\n", "line 2" },
        { HEAD "f 644 5 " SHA_HELLO "\n", "line 2" },
        { HEAD "f 644 5 abc a\n", "line 2" },
        { HEAD "f 644 -5 " SHA_HELLO " a\n", "line 2" },
        { HEAD "f 644 05 " SHA_HELLO " a\n", "line 2" },
        { HEAD "f 777 5 " SHA_HELLO " a\n", "line 2" },
        { HEAD "f 644 9223372036854775807 " SHA_HELLO " a\nf 644 1 " SHA_HELLO " b\n", "line 3" },
        { HEAD "d - - - /a\n", "line 2" },
        { HEAD "d - - - ../a\n", "line 2" },
        { HEAD "d - - - a/../b\n", "line 2" },
        { HEAD "d - - - a//b\n", "line 2" },
        { HEAD "d - - - %2e%2e\n", "line 2" },
        { HEAD "d - - - a%2Fb\n", "line 2" }, /* an encoding that is not ours */
        { HEAD "d - - - %00\n", "line 2" },
        { HEAD "d - - - b\nd - - - a\n", "line 3" },
        { HEAD "d - - - a\nd - - - a\n", "line 3" },
        { HEAD "l - 4 - a -> /etc\n", "line 2" },
        { HEAD "l - 2 - a -> ..\n", "line 2" },
        { HEAD "l - 6 - a -> b/../c\n", "line 2" },
        { HEAD "l - 9 - a -> b\n", "line 2" },
        { HEAD "f 644 5 " SHA_HELLO " a\nf 644 5 " SHA_HELLO " a/b\n", "below another" },
        { HEAD "l - 1 - a -> b\nf 644 5 " SHA_HELLO " a/b\n", "below another" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_snapshot *s = NULL;
        struct ty_error err = { 0 };

        if (parse(cases[i].text, &s, &err) != -EBADMSG || !strstr(err.text, cases[i].why))
            fail_msg("%s gave '%s'", cases[i].text, err.text);
        assert_null(s);
    }
    assert_int_equal(ty_snapshot_parse(HEAD "d - - - a\0b\n", sizeof HEAD "d - - - a\0b\n" - 1,
                                       &(struct ty_snapshot *){ NULL }, NULL),
                     -EBADMSG);
}

static void test_paths(void **state)
{
    char deep[2 * (TY_SNAPSHOT_DEPTH_MAX + 3)], longest[TY_SNAPSHOT_PATH_MAX + 2];

    (void)state;
    for (size_t i = 0; i < TY_SNAPSHOT_DEPTH_MAX + 2; i++)
        memcpy(deep + 2 * i, "d/", 2);
    deep[2 * TY_SNAPSHOT_DEPTH_MAX + 1] = '\0';
    assert_true(ty_snapshot_path_fits(deep));
    deep[2 * TY_SNAPSHOT_DEPTH_MAX + 1] = '/';
    deep[2 * TY_SNAPSHOT_DEPTH_MAX + 3] = '\0';
    assert_false(ty_snapshot_path_fits(deep));
    memset(longest, 'x', sizeof longest);
    longest[TY_SNAPSHOT_PATH_MAX] = '\0';
    assert_true(ty_snapshot_path_fits(longest));
    longest[TY_SNAPSHOT_PATH_MAX] = 'x';
    longest[TY_SNAPSHOT_PATH_MAX + 1] = '\0';
    assert_false(ty_snapshot_path_fits(longest));
    assert_true(ty_snapshot_path_fits("..."));
    assert_false(ty_snapshot_path_fits("."));
    assert_false(ty_snapshot_path_fits(""));
}

static void test_links(void **state)
{
    static const struct {
        const char *path, *target;
        bool fits;
    } cases[] = {
        { "a", "b", true },         { "a/b", "../c", true },     { "a/b/c", "../../d/e", true },
        { "a", "./b//c", true },    { "a", "..", false },        { "a/b", "../..", false },
        { "a", "/b", false },       { "a", "", false },          { "a", "b/../c", false },
        { "a/b", "c/../d", false }, { "a/b", "../../c", false }, { "a", "...", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (ty_snapshot_link_fits(cases[i].path, cases[i].target) != cases[i].fits)
            fail_msg("%s -> %s", cases[i].path, cases[i].target);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_is_written_is_read),
                                        cmocka_unit_test(test_what_is_refused),
                                        cmocka_unit_test(test_paths),
                                        cmocka_unit_test(test_links) };

    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
