#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static char *content(const char *path)
{
    char *text = NULL;

    assert_int_equal(ty_read_file(path, 10000000, &text, NULL), 0);
    return text;
}

/* ---- paths ---- */

static void test_join(void **state)
{
    static const char *const cases[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "/", "b", "/b" }, { "", "b", "b" }
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_FREE char *got = ty_path_join(cases[i][0], cases[i][1]);

        assert_string_equal(got, cases[i][2]);
    }
}

static void test_inside(void **state)
{
    static const char *const good[] = { "a", "a/b", "..a", "a..", ".a", "a/...", "a b/\xc3\xa4" };
    static const char *const bad[] = { "",     "/",      "/a",   "a/",    "a//b",
                                       ".",    "..",     "./a",  "a/.",   "a/..",
                                       "../a", "a/../b", "a\nb", "a\x7f", "\x1b[0m" };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ty_path_is_inside(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ty_path_is_inside(bad[i]));
}

static void test_clean(void **state)
{
    static const char *const good[][2] = {
        { "./a//b/", "a/b" },  { ".", "" },        { "", "" },       { "a/..", "" },
        { "a/b/../c", "a/c" }, { "a/./b", "a/b" }, { "..a", "..a" }, { "a/b/../../c", "c" }
    };
    static const char *const bad[] = { "..", "../a", "a/../..", "/a", "a/../../a", "/" };
    char *got;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ty_path_clean(good[i][0], &got), 0);
        assert_string_equal(got, good[i][1]);
        free(got);
    }
    got = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ty_path_clean(bad[i], &got), -EINVAL);
    assert_null(got);
}

static void test_path_absolute(void **state)
{
    CLEANUP_FREE char *here = getcwd(NULL, 0);
    const char *const given[] = { "a", "a/b//", ".", "/", "/x/", "//" };
    const char *const want[] = { "%s/a", "%s/a/b", "%s/.", "/", "/x", "/" };

    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        CLEANUP_FREE char *found = NULL;
        CLEANUP_FREE char *expected =
            want[i][0] == '%' ? ty_path_join(here, want[i] + 3) : strdup(want[i]);

        assert_int_equal(ty_path_absolute(given[i], &found), 0);
        assert_string_equal(found, expected);
    }
    assert_int_equal(mkdir("gone", 0755), 0);
    assert_int_equal(chdir("gone"), 0);
    assert_int_equal(rmdir("../gone"), 0);
    char *found = NULL;
    assert_int_equal(ty_path_absolute("a", &found), -ENOENT);
    assert_null(found);
    assert_int_equal(chdir(here), 0);
}

/* ---- folders ---- */

static void test_mkdir(void **state)
{
    (void)state;
    assert_int_equal(ty_mkdir_p("m/a/b/c", 0755), 0);
    assert_int_equal(ty_mkdir_p("m/a/b/c", 0755), 0);
    assert_int_equal(ty_mkdir_p("m/x//y/", 0755), 0);
    assert_true(exists("m/a/b/c") && exists("m/x/y"));
    assert_int_equal(ty_mkdir_parent("m/p/q/file", 0755), 0);
    assert_true(exists("m/p/q") && !exists("m/p/q/file"));
    assert_int_equal(ty_mkdir_parent("file", 0755), 0);
    tests_put("m/file", "x");
    assert_int_equal(ty_mkdir_p("m/file/a", 0755), -ENOTDIR);
    assert_int_equal(ty_mkdir_p("m/file", 0755), -ENOTDIR);
    assert_int_equal(ty_mkdir_p("/", 0755), 0);
    assert_int_equal(ty_mkdir_p("", 0755), -ENOENT);
}

static void test_remove(void **state)
{
    (void)state;
    assert_int_equal(ty_mkdir_p("r/a/b", 0755), 0);
    assert_int_equal(ty_mkdir_p("kept", 0755), 0);
    tests_put("kept/file", "x");
    tests_put("r/a/file", "x");
    assert_int_equal(symlink("../../kept", "r/a/link"), 0);
    assert_int_equal(symlink("nowhere", "r/dangling"), 0);
    assert_int_equal(chmod("r/a/b", 0), 0);
    assert_int_equal(ty_rm_rf("r"), 0);
    assert_false(exists("r"));
    assert_true(exists("kept/file"));
    assert_int_equal(ty_rm_rf("r"), 0);
    assert_int_equal(symlink("kept", "link"), 0);
    assert_int_equal(ty_rm_rf("link"), 0);
    assert_true(!exists("link") && exists("kept/file"));
    assert_int_equal(ty_rm_rf("kept/file"), 0);
    assert_false(exists("kept/file"));
}

/* Deeper than there are descriptors, and than a path may be long. */
static void test_remove_deep(void **state)
{
    enum { DEPTH = 3000 };
    CLEANUP_CLOSE int at = -1;

    (void)state;
    assert_int_equal(mkdir("deep", 0755), 0);
    at = open("deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEPTH; i++) {
        int next;

        assert_int_equal(mkdirat(at, "d", 0755), 0);
        next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    assert_int_equal(ty_rm_rf("deep"), 0);
    assert_false(exists("deep"));
}

/* ---- content ---- */

static void test_read_file(void **state)
{
    size_t len = 99;
    char *text = NULL;

    (void)state;
    tests_put("ten", "0123456789");
    assert_int_equal(ty_read_file("ten", 9, &text, &len), -EFBIG);
    assert_true(!text && len == 99);
    assert_int_equal(ty_read_file("ten", 10, &text, &len), 0);
    assert_string_equal(text, "0123456789");
    assert_int_equal(len, 10);
    free(text);
    tests_put("empty", "");
    assert_int_equal(ty_read_file("empty", 0, &text, &len), 0);
    assert_true(len == 0 && text[0] == 0);
    free(text);
    text = NULL;
    assert_int_equal(ty_read_file("none", 10, &text, &len), -ENOENT);
    assert_int_equal(ty_read_file("/", 10000, &text, &len), -EISDIR);
    assert_int_equal(ty_read_file("/dev/zero", 100000, &text, &len), -EFBIG);
    assert_null(text);
    assert_int_equal(ty_read_file("/proc/self/status", 100000, &text, &len), 0);
    assert_true(len > 100 && strlen(text) == len);
    free(text);
}

static void test_read_foreign(void **state)
{
    char *text = NULL;

    (void)state;
    tests_put("foreign", "0123456789");
    assert_int_equal(ty_read_foreign("foreign", 9, &text, NULL), -EFBIG);
    assert_int_equal(ty_read_foreign("none", 9, &text, NULL), -ENOENT);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    alarm(100); /* a pipe without a writer keeps whoever opens it */
    assert_int_equal(ty_read_foreign("pipe", 9, &text, NULL), -EBADMSG);
    alarm(0);
    assert_int_equal(ty_read_foreign(".", 9, &text, NULL), -EBADMSG);
    assert_null(text);
    assert_int_equal(ty_read_foreign("foreign", 10, &text, NULL), 0);
    assert_string_equal(text, "0123456789");
    free(text);
}

static void test_write_file(void **state)
{
    CLEANUP_FREE char *got = NULL;
    struct stat st;

    (void)state;
    assert_int_equal(ty_write_file("w", "old", 3, 0600), 0);
    assert_int_equal(ty_write_file("w", "new text", 8, 0640), 0);
    got = content("w");
    assert_string_equal(got, "new text");
    assert_int_equal(stat("w", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(ty_write_file("none/w", "x", 1, 0600), -ENOENT);
}

#ifdef TY_FAULTS
static int count_entry(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel, (void)st;
    ++*(int *)ctx;
    return 0;
}

/* Whichever step fails, the old content stays whole and no temporary file is left. */
static void test_write_file_faults(void **state)
{
    int broken = 0, r = -1, entries;

    (void)state;
    assert_int_equal(ty_mkdir_p("faults", 0755), 0);
    tests_put("faults/w", "old");
    for (int at = 1; r < 0 && at < 20; at++) {
        CLEANUP_FREE char *got = NULL;

        ty_fault_arm(NULL, at, ENOSPC);
        r = ty_write_file("faults/w", "new", 3, 0600);
        ty_fault_arm(NULL, 0, 0);
        entries = 0;
        assert_int_equal(ty_walk("faults", count_entry, &entries, NULL), 0);
        assert_int_equal(entries, 1);
        got = content("faults/w");
        if (r < 0) {
            assert_true(r == -ENOSPC || r == -ENOMEM);
            assert_true(strcmp(got, "old") == 0 || strcmp(got, "new") == 0);
            broken++;
        } else {
            assert_string_equal(got, "new");
        }
    }
    assert_int_equal(r, 0);
    assert_int_equal(broken, 6); /* name, open, write, fsync, rename, fsync of the folder */
}
#endif

static void test_copy(void **state)
{
    enum { N = 3000000 };
    CLEANUP_FREE char *data = malloc(N), *got = NULL;
    size_t len = 0;
    struct stat a, b;

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < N; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    assert_int_equal(ty_write_file("from", data, N, 0600), 0);
    for (int way = 0; way < 2; way++) {
        CLEANUP_CLOSE int from = open("from", O_RDONLY | O_CLOEXEC);
        CLEANUP_CLOSE int to = open("to", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(from >= 0 && to >= 0);
#ifdef TY_FAULTS
        if (way)
            ty_fault_arm("fs.copy_range", 1, EIO);
#endif
        assert_int_equal(ty_copy_fd(from, to), 0);
        assert_int_equal(ty_read_file("to", N, &got, &len), 0);
        assert_int_equal(len, N);
        assert_memory_equal(got, data, N);
        free(TAKE(got));
        assert_true(fstat(from, &a) == 0 && fstat(to, &b) == 0 && a.st_ino != b.st_ino);
    }
#ifdef TY_FAULTS
    ty_fault_arm(NULL, 0, 0);
#endif
}

static void test_open_beneath(void **state)
{
    CLEANUP_CLOSE int dir = -1;
    int fd;

    (void)state;
    assert_int_equal(ty_mkdir_p("box/in", 0755), 0);
    tests_put("outside", "secret");
    tests_put("box/in/file", "x");
    assert_int_equal(symlink("../outside", "box/out"), 0);
    assert_int_equal(symlink("/etc/passwd", "box/abs"), 0);
    assert_int_equal(symlink("in/file", "box/fine"), 0);
    dir = open("box", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    fd = ty_open_beneath(dir, "fine", O_RDONLY, 0);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_int_equal(ty_open_beneath(dir, "../outside", O_RDONLY, 0), -EXDEV);
    assert_int_equal(ty_open_beneath(dir, "out", O_RDONLY, 0), -EXDEV);
    assert_int_equal(ty_open_beneath(dir, "abs", O_RDONLY, 0), -EXDEV);
    assert_int_equal(ty_open_beneath(dir, "none", O_RDONLY, 0), -ENOENT);
    fd = ty_open_beneath(dir, "in/made", O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && exists("box/in/made"));
    close(fd);
}

static void test_full_reads_and_writes(void **state)
{
    CLEANUP_CLOSE int fd = open("full", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char buf[16];

    (void)state;
    assert_int_equal(ty_write_all(fd, "hello world", 11), 0);
    assert_int_equal(ty_pwrite_all(fd, "W", 1, 6), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(ty_read_full(fd, buf, 5), 5);
    assert_int_equal(ty_read_full(fd, buf, sizeof buf), 6);
    assert_memory_equal(buf, " World", 6);
    assert_int_equal(ty_read_full(fd, buf, sizeof buf), 0);
    assert_int_equal(ty_write_all(-1, "x", 1), -EBADF);
}

/* ---- walking ---- */

static int note(const char *rel, const struct stat *st, void *ctx)
{
    ty_str_addf(ctx, "%s%s ", rel, S_ISDIR(st->st_mode) ? "/" : S_ISLNK(st->st_mode) ? "@" : "");
    return strcmp(rel, "skip") == 0 ? 1 : strcmp(rel, "z/stop") == 0 ? -ECANCELED : 0;
}

static void test_walk(void **state)
{
    CLEANUP_STR struct ty_str seen = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_mkdir_p("walk/b/deep", 0755), 0);
    assert_int_equal(ty_mkdir_p("walk/skip/never", 0755), 0);
    tests_put("walk/b/deep/f", "x");
    tests_put("walk/b-file", "x");
    tests_put("walk/a", "x");
    assert_int_equal(symlink("b", "walk/link"), 0);
    assert_int_equal(ty_walk("walk", note, &seen, &err), 0);
    assert_string_equal(seen.text, "a b/ b/deep/ b/deep/f b-file link@ skip/ ");

    ty_str_done(&seen);
    assert_int_equal(ty_mkdir_p("walk/z/stop", 0755), 0);
    assert_int_equal(ty_mkdir_p("walk/zz", 0755), 0);
    assert_int_equal(ty_walk("walk", note, &seen, &err), -ECANCELED);
    assert_true(ty_ends_with(seen.text, "z/ z/stop/ "));

    assert_int_equal(ty_walk("none", note, &seen, &err), -ENOENT);
    assert_string_equal(err.text, "cannot open the folder 'none': No such file or directory");
}

static void test_walk_is_bounded(void **state)
{
    CLEANUP_STR struct ty_str path = { 0 }, seen = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    ty_str_add(&path, "bounded");
    for (int i = 0; i < 220; i++)
        ty_str_add(&path, "/d");
    assert_int_equal(ty_mkdir_p(path.text, 0755), 0);
    assert_int_equal(ty_walk("bounded", note, &seen, &err), -ELOOP);
    assert_non_null(strstr(err.text, "nested more than 200 deep"));
}

/* In a mount namespace of its own; 77: none can be had. */
static int mounted_child(void)
{
    struct stat st;
    int r;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 77;
    if (ty_mkdir_p("holder/sub/store", 0755) < 0 ||
        mount("tmpfs", "holder/sub/store", "tmpfs", 0, NULL) < 0)
        return 77;
    if (ty_write_file("holder/sub/store/file", "x", 1, 0600) < 0 ||
        ty_write_file("holder/other", "x", 1, 0600) < 0)
        return 1;
    r = ty_rm_rf("holder");
    if (r != -EBUSY || stat("holder/sub/store/file", &st) < 0 || stat("holder/other", &st) == 0)
        return 2;
    if (umount("holder/sub/store") < 0 || ty_rm_rf("holder") != 0)
        return 3;
    return 0;
}

/* What is mounted below a folder that is removed may be somebody's store of data. */
static void test_mounted(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(mounted_child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_inside),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_path_absolute),
        cmocka_unit_test(test_mkdir),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_remove_deep),
        cmocka_unit_test(test_mounted),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_read_foreign),
        cmocka_unit_test(test_write_file),
#ifdef TY_FAULTS
        cmocka_unit_test(test_write_file_faults),
#endif
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_open_beneath),
        cmocka_unit_test(test_full_reads_and_writes),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_walk_is_bounded),
    };

    return cmocka_run_group_tests_name("fs", tests, tests_enter, tests_leave);
}
