/* test_ignore.c - ignore patterns: known cases, and thousands that git itself decides */
#include "blob/ignore.h"
#include "kit.h"

static const struct {
    const char *patterns, *path;
    bool dir, ignored;
} cases[] = {
    { "*.tmp", "a.tmp", false, true },
    { "*.tmp", "deep/er/a.tmp", false, true },
    { "*.tmp\n!keep.tmp", "keep.tmp", false, false },
    { "!keep.tmp\n*.tmp", "keep.tmp", false, true },
    { "/a", "a", false, true },
    { "/a", "b/a", false, false },
    { "a/b", "a/b", false, true },
    { "a/b", "x/a/b", false, false },
    { "build/", "build", true, true },
    { "build/", "build", false, false },
    { "**/x", "a/b/x", false, true },
    { "a/**", "a/b/c", false, true },
    { "a/**", "a", true, false },
    { "a/**/z", "a/z", false, true },
    { "a/**/z", "a/b/c/z", false, true },
    { "a?c", "a/c", false, false },
    { "[a-c]x", "bx", false, true },
    { "[!a-c]x", "bx", false, false },
    { "[[:digit:]]x", "7x", false, true },
    { "\\#x", "#x", false, true },
    { "# comment", "# comment", false, false },
    { "end\\ ", "end ", false, true },
    { "end  ", "end", false, true },
    { "a\r\n*.b\r\n", "x.b", false, true },
    { "[unclosed", "[unclosed", false, false },
};

static void test_known_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_ignore *g = ty_ignore_new();

        assert_int_equal(ty_ignore_add(g, "", cases[i].patterns, strlen(cases[i].patterns)), 0);
        if (ty_ignore_match(g, cases[i].path, cases[i].dir) != cases[i].ignored)
            fail_msg("'%s' against '%s'", cases[i].path, cases[i].patterns);
        ty_ignore_free(g);
    }
}

static void test_files_of_sub_folders(void **state)
{
    struct ty_ignore *g = ty_ignore_new();

    (void)state;
    assert_int_equal(ty_ignore_add(g, "", "*.log", 5), 0);
    assert_int_equal(ty_ignore_count(g), 1);
    assert_int_equal(ty_ignore_add(g, "sub", "!*.log\n/top\n", 12), 0);
    assert_true(ty_ignore_match(g, "a.log", false));
    assert_false(ty_ignore_match(g, "sub/a.log", false));
    assert_true(ty_ignore_match(g, "sub/top", false));
    assert_false(ty_ignore_match(g, "top", false));
    assert_false(ty_ignore_match(g, "subway/top", false));
    ty_ignore_cut(g, 1);
    assert_true(ty_ignore_match(g, "sub/a.log", false));
    ty_ignore_free(g);
}

/* A pattern on which naive matchers take minutes. */
static void test_no_exponential_time(void **state)
{
    CLEANUP_STR struct ty_str pattern = { 0 }, path = { 0 };
    struct ty_ignore *g = ty_ignore_new();

    (void)state;
    for (int i = 0; i < 200; i++) {
        ty_str_add(&pattern, i % 2 ? "a*" : "**/a*");
        ty_str_add(&path, i % 10 ? "a" : "/a");
    }
    ty_str_add(&pattern, "b");
    assert_int_equal(ty_ignore_add(g, "", pattern.text, pattern.len), 0);
    assert_false(ty_ignore_match(g, path.text + 1, false));
    ty_ignore_free(g);
}

/* ---- git decides ---- */

static uint32_t dice = 12345;

static uint32_t roll(uint32_t n)
{
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 8) % n;
}

static void random_pattern(struct ty_str *out)
{
    static const char *const parts[] = { "a",    "b",    "ab",  "*",  "**", "?", "/",   "/",
                                         "[ab]", "[!a]", "\\*", "a*", ".",  "!", "[a-", "\\" };

    for (uint32_t n = 1 + roll(5); n > 0; n--)
        ty_str_add(out, parts[roll(sizeof parts / sizeof *parts)]);
    if (roll(6) == 0)
        ty_str_add(out, " ");
}

static void random_path(struct ty_str *out)
{
    static const char *const parts[] = { "a", "b", "ab", "abc", "*", "c" };

    for (uint32_t n = 1 + roll(4), i = 0; i < n; i++)
        ty_str_addf(out, "%s%s", i ? "/" : "", parts[roll(sizeof parts / sizeof *parts)]);
}

/* Our verdict on a path as git sees it: a path is ignored with the folder that it lies in. */
static bool ignored(const struct ty_ignore *g, const char *path)
{
    CLEANUP_FREE char *part = strdup(path);

    for (char *slash = strchr(part, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (ty_ignore_match(g, part, true))
            return true;
        *slash = '/';
    }
    return ty_ignore_match(g, path, false);
}

/* One line for each path: git's pattern, empty when none matched, and the path. */
static void ask_git(const struct ty_str *paths, struct ty_str *answer)
{
    char buf[4096];
    size_t n;
    FILE *p;

    assert_int_equal(ty_write_file("paths", paths->text, paths->len, 0600), 0);
    p = popen("git -c core.excludesFile=/dev/null check-ignore --no-index --stdin -z -v -n < paths",
              "re");
    assert_non_null(p);
    while ((n = fread(buf, 1, sizeof buf, p)) > 0)
        ty_str_addn(answer, buf, n);
    assert_true(pclose(p) >= 0);
}

static void compare_with_git(void)
{
    CLEANUP_STR struct ty_str patterns = { 0 }, paths = { 0 }, answer = { 0 };
    struct ty_ignore *g = ty_ignore_new();
    const char *at;

    for (uint32_t n = 1 + roll(4); n > 0; n--) {
        random_pattern(&patterns);
        ty_str_add(&patterns, "\n");
    }
    for (int i = 0; i < 40; i++) {
        random_path(&paths);
        ty_str_addn(&paths, "", 1);
    }
    assert_int_equal(ty_write_file("repo/.gitignore", patterns.text, patterns.len, 0600), 0);
    assert_int_equal(ty_ignore_add(g, "", patterns.text, patterns.len), 0);
    assert_int_equal(chdir("repo"), 0);
    ask_git(&paths, &answer);
    assert_int_equal(chdir(".."), 0);
    at = answer.text;
    for (const char *path = paths.text; path < paths.text + paths.len; path += strlen(path) + 1) {
        const char *fields[4]; /* source, line, pattern, path */

        for (int i = 0; i < 4; i++) {
            assert_true(at < answer.text + answer.len);
            fields[i] = at;
            at += strlen(at) + 1;
        }
        assert_string_equal(fields[3], path);
        if (ignored(g, path) != (fields[2][0] && fields[2][0] != '!'))
            fail_msg("'%s': git says '%s', for the patterns\n%s", path, fields[2], patterns.text);
    }
    ty_ignore_free(g);
}

static void test_like_git(void **state)
{
    (void)state;
    unsetenv("GIT_DIR"); /* as a hook of git has it */
    unsetenv("GIT_WORK_TREE");
    unsetenv("GIT_INDEX_FILE");
    assert_int_equal(system("git init -q repo"), 0);
    for (int i = 0; i < 150; i++)
        compare_with_git();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_cases),
        cmocka_unit_test(test_files_of_sub_folders),
        cmocka_unit_test(test_no_exponential_time),
        cmocka_unit_test(test_like_git),
    };

    return cmocka_run_group_tests_name("ignore", tests, tests_enter, tests_leave);
}
