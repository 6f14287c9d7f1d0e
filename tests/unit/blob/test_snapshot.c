/* test_snapshot.c - from a directory to a snapshot */
#include "blob/snapshot.h"
#include "kit.h"
#include <sys/socket.h>
#include <sys/un.h>

static void put(const char *path, const char *text)
{
    assert_int_equal(ty_mkdir_parent(path, 0755), 0);
    tests_put(path, text);
}

static int take(struct ty_snapshot **s, struct ty_error *err)
{
    return ty_snapshot_from_dir("src", NULL, NULL, s, err);
}

/* The paths of a snapshot's manifest, one a line: type and path. */
static char *entries(void)
{
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    struct ty_str out = { 0 };
    const char *line;
    size_t n;

    if (take(&s, &err) < 0)
        fail_msg("%s", err.text);
    for (line = strchr(ty_snapshot_manifest(s, &n), '\n') + 1; *line;
         line = strchr(line, '\n') + 1) {
        const char *path = line;

        for (int i = 0; i < 4; i++)
            path = strchr(path, ' ') + 1;
        ty_str_addf(&out, "%c %.*s\n", *line, (int)(strchr(path, '\n') - path), path);
    }
    ty_snapshot_free(s);
    return out.text ? out.text : strdup("");
}

static int enter(void **state)
{
    return tests_enter(state) < 0 ? -1 : mkdir("src", 0755);
}

static void test_equal_folders_have_equal_ids(void **state)
{
    struct ty_snapshot *a = NULL, *b = NULL;
    struct ty_error err = { 0 };

    (void)state;
    put("src/train.py", "print(1)\n");
    put("src/lib/x.py", "x = 1\n");
    assert_int_equal(mkdir("src/empty", 0700), 0);
    assert_int_equal(chmod("src/train.py", 0700), 0);
    assert_int_equal(symlink("lib/x.py", "src/link"), 0);
    assert_int_equal(take(&a, &err), 0);
    make_old("src/train.py", 1000); /* times and other mode bits do not count */
    assert_int_equal(chmod("src/lib/x.py", 0600), 0);
    assert_int_equal(take(&b, &err), 0);
    assert_string_equal(ty_snapshot_id(a), ty_snapshot_id(b));
    assert_int_equal(ty_snapshot_files(a), 2);
    assert_int_equal(ty_snapshot_bytes(a), 15);
    ty_snapshot_free(b);
    assert_int_equal(chmod("src/lib/x.py", 0755), 0); /* this one does */
    assert_int_equal(take(&b, &err), 0);
    assert_string_not_equal(ty_snapshot_id(a), ty_snapshot_id(b));
    ty_snapshot_free(a);
    ty_snapshot_free(b);
}

static void test_what_is_taken(void **state)
{
    CLEANUP_FREE char *got = NULL;
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "src/socket" };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    put("src/b", "");
    put("src/a", "");
    put("src/a.d/x", "");
    put("src/.hidden", "");
    put("src/.git/config", "");
    put("src/sub/.git", "gitdir: elsewhere");
    put("src/__pycache__/x.pyc", "");
    put("src/sub/.ipynb_checkpoints/x", "");
    put("src/venv/pyvenv.cfg", "home = /usr/bin");
    assert_int_equal(symlink("/usr/bin/python3", "src/venv/python3"), 0);
    put("src/new\nline", "");
    assert_int_equal(mkfifo("src/pipe", 0600), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    got = entries();
    assert_string_equal(got, "f .hidden\nf a\nf a.d/x\nf b\nf new%0Aline\nd sub\n");
}

static void test_ignore_files(void **state)
{
    CLEANUP_FREE char *with_git = NULL, *with_aml = NULL;

    (void)state;
    put("src/.gitignore", "*.log\ndata/\n");
    put("src/sub/.gitignore", "!keep.log\n");
    put("src/a.log", "");
    put("src/sub/keep.log", "");
    put("src/data/big", "");
    put("src/train.py", "");
    with_git = entries();
    assert_string_equal(with_git, "f .gitignore\nf sub/.gitignore\nf sub/keep.log\nf train.py\n");
    put("src/.amlignore", "train.py\n"); /* where it is, .gitignore does not count */
    with_aml = entries();
    assert_string_equal(
        with_aml,
        "f .amlignore\nf .gitignore\nf a.log\nf data/big\nf sub/.gitignore\nf sub/keep.log\n");
}

static void test_links_that_lead_out(void **state)
{
    static const struct {
        const char *target, *why;
    } links[] = { { "/etc/passwd", "leads out of it (to '/etc/passwd')" },
                  { "..", "leads out of it" },
                  { "../other", "leads out of it" },
                  { "sub/../../x", "leads out of it" },
                  { "sub/../x", "has a '..' behind a name" } };
    struct ty_snapshot *s = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        struct ty_error err = { 0 };

        assert_int_equal(symlink(links[i].target, "src/out"), 0);
        assert_int_equal(take(&s, &err), -EINVAL);
        assert_non_null(strstr(err.text, "the link 'out' in source_directory"));
        assert_non_null(strstr(err.text, links[i].why));
        assert_non_null(strstr(err.text, "'/out' in .amlignore"));
        assert_int_equal(unlink("src/out"), 0);
    }
    assert_null(s);
}

static void test_limits(void **state)
{
    struct ty_snapshot_limits few = { .files = 3 }, small = { .bytes = 100 };
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    char path[32], text[200];

    (void)state;
    memset(text, 'x', 90);
    text[90] = '\0';
    put("src/heavy.bin", text);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "src/f%d", i);
        put(path, "12345");
    }
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &few, &s, &err), -EFBIG);
    assert_non_null(strstr(err.text, "it has 5 files, and the limit (limits.snapshot_files) is 3"));
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &small, &s, &err), -EFBIG);
    assert_non_null(strstr(err.text, "110 B exceeds the limit of 100 B (limits.snapshot_bytes)"));
    assert_non_null(strstr(err.text, "'heavy.bin' (90 B)"));
    assert_non_null(strstr(err.text, ".amlignore"));
    put("src/.amlignore", "heavy.bin\nf?\n");
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &small, &s, &err), 0);
    ty_snapshot_free(s);
    /* A folder with far too many files is not walked to its end. */
    unlink("src/.amlignore");
    for (int i = 0; i < 30; i++) {
        snprintf(path, sizeof path, "src/g%d", i);
        put(path, "");
    }
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &few, &s, &err), -EFBIG);
    assert_non_null(strstr(err.text, "more than 12 files"));
}

static void test_no_such_folder(void **state)
{
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_snapshot_from_dir("absent", NULL, NULL, &s, &err), -ENOENT);
    assert_non_null(strstr(err.text, "source_directory 'absent'"));
    tests_put("plain", "");
    assert_int_equal(ty_snapshot_from_dir("plain", NULL, NULL, &s, &err), -ENOTDIR);
    assert_null(s);
}

static void test_limits_are_met_exactly(void **state)
{
    struct ty_snapshot_limits exact = { .files = 2, .bytes = 10 };
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };

    (void)state;
    put("src/a", "12345");
    put("src/b", "12345");
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &exact, &s, &err), 0);
    ty_snapshot_free(s);
    put("src/b", "123456");
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &exact, &s, &err), -EFBIG);
    put("src/b", "");
    put("src/c", "");
    assert_int_equal(ty_snapshot_from_dir("src", NULL, &exact, &s, &err), -EFBIG);
}

static void test_ignore_files_that_are_none(void **state)
{
    CLEANUP_FREE char *got = NULL, *big = calloc(1, (1 << 20) + 2);
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };

    (void)state;
    put("src/a.log", "");
    put("patterns", "*.log\n");
    assert_int_equal(symlink("../patterns", "src/.gitignore"),
                     0); /* as in git, it does not count; but it leads out */
    assert_int_equal(take(&s, &err), -EINVAL);
    assert_int_equal(unlink("src/.gitignore"), 0);
    put("src/rules", "*.log\n");
    assert_int_equal(symlink("rules", "src/.amlignore"), 0); /* this one may be a link */
    got = entries();
    assert_string_equal(got, "l .amlignore -> rules\nf rules\n");
    assert_int_equal(unlink("src/rules"), 0);
    assert_int_equal(take(&s, &err), -ENOENT); /* without it everything would be uploaded */
    assert_non_null(strstr(err.text, ".amlignore"));
    assert_int_equal(unlink("src/.amlignore"), 0);
    memset(big, '#', (1 << 20) + 1);
    put("src/.amlignore", big);
    assert_int_equal(take(&s, &err), -EFBIG);
}

/* The patterns of a sub-folder end with it. */
static void test_patterns_of_a_sub_folder(void **state)
{
    CLEANUP_FREE char *got = NULL;

    (void)state;
    put("src/.amlignore", "");
    put("src/a/.amlignore", "x\n");
    put("src/a/x", "");
    put("src/b/x", "");
    put("src/x", "");
    got = entries();
    assert_string_equal(got, "f .amlignore\nf a/.amlignore\nf b/x\nf x\n");
}

/* What the cache says of a file that has not changed is believed: the file is not read. */
static void test_the_cache_is_used(void **state)
{
    CLEANUP_STR struct ty_str text = { 0 };
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    const char *path, *sha;
    char sum[TY_SHA256_HEX + 1];
    uint64_t bytes;
    struct stat st;

    (void)state;
    put("src/a", "what is there");
    assert_int_equal(stat("src/a", &st), 0);
    ty_str_addf(&text, "trainyard-statcache 1\n%lld %llu %lld%09ld %lld%09ld " SHA_HELLO " a\n",
                (long long)st.st_size, (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec,
                st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    ty_sha256_hex(text.text, text.len, sum);
    ty_str_addf(&text, "sum %s\n", sum);
    tests_put("cache", text.text);
    assert_int_equal(ty_snapshot_from_dir("src", "cache", NULL, &s, &err), 0);
    assert_true(ty_snapshot_file(s, 0, &path, &sha, &bytes));
    assert_string_equal(sha, SHA_HELLO);
    ty_snapshot_free(s);
}

/* A file that changes within the clock's grain is read again. */
static void test_the_cache_is_not_trusted_too_early(void **state)
{
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    char id[TY_SHA256_HEX + 1];

    (void)state;
    put("src/a", "one");
    assert_int_equal(ty_snapshot_from_dir("src", "cache/file", NULL, &s, &err), 0);
    snprintf(id, sizeof id, "%s", ty_snapshot_id(s));
    ty_snapshot_free(s);
    put("src/a", "two"); /* as long, and within the clock's grain */
    assert_int_equal(ty_snapshot_from_dir("src", "cache/file", NULL, &s, &err), 0);
    assert_string_not_equal(ty_snapshot_id(s), id);
    ty_snapshot_free(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, enter, tests_leave)
    const struct CMUnitTest tests[] = {
        T(test_equal_folders_have_equal_ids),
        T(test_what_is_taken),
        T(test_ignore_files),
        T(test_links_that_lead_out),
        T(test_limits),
        T(test_limits_are_met_exactly),
        T(test_ignore_files_that_are_none),
        T(test_patterns_of_a_sub_folder),
        T(test_no_such_folder),
        T(test_the_cache_is_used),
        T(test_the_cache_is_not_trusted_too_early),
    };

    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
