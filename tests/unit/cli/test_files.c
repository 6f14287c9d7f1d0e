/* test_files.c - files listed, chosen, fetched over broken connections, saved whole or not at all */
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/files.h"
#include "fake.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <trainyard/client.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "first_1780000000_0a1b2c3d"
#define FILE_OF(path) "GET /api/v1/runs/" ID "/files/" path
#define BROKEN(text) "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" text

struct box {
    struct fake *f;
    struct ty_cli cli;
    struct ty_place place;
    struct ty_error err;
};

static void box_open(struct box *b, const struct fake_answer *answers)
{
    struct ty_client_options o = { .no_start = true };

    *b = (struct box){ .f = fake_start(answers), .place = ty_place_run(ID) };
    o.home = fake_home(b->f);
    assert_int_equal(ty_client_open(&o, &b->cli.client, &b->err), 0);
}

static void box_done(struct box *b)
{
    ty_client_free(b->cli.client);
    fake_stop(b->f);
}

static json_t *files_of(const char *const *names)
{
    json_t *files = json_array();

    for (; *names; names++)
        json_array_append_new(files, json_pack("{s:s, s:i}", "path", *names, "bytes", 3));
    return files;
}

static void chosen(const json_t *files, const char *path, const char *expected)
{
    CLEANUP_STR struct ty_str s = { 0 };
    CLEANUP_JSON json_t *some = ty_files_select(files, path);
    json_t *file;
    size_t i;

    json_array_foreach (some, i, file)
        ty_str_addf(&s, "%s ", ty_out_str(file, "path"));
    assert_string_equal(s.text ? s.text : "", expected);
    assert_int_equal(ty_files_bytes(some), 3 * json_array_size(some));
}

static void test_select(void **state)
{
    CLEANUP_JSON json_t *files =
        files_of((const char *const[]){ "a", "a/b", "ab", "logs/x", "logs/y/z", "logs.txt", NULL });

    (void)state;
    chosen(files, "", "a a/b ab logs/x logs/y/z logs.txt ");
    chosen(files, "/", "a a/b ab logs/x logs/y/z logs.txt ");
    chosen(files, "a", "a a/b ");
    chosen(files, "logs", "logs/x logs/y/z ");
    chosen(files, "logs//", "logs/x logs/y/z ");
    chosen(files, "logs/y", "logs/y/z ");
    chosen(files, "log", "");
    chosen(files, "logs/x/more", "");
    chosen(NULL, "a", "");
}

static void test_list(void **state)
{
    struct fake_answer answers[] = {
        { .match = "GET /api/v1/runs/" ID "/files?prefix=a%20b%26c%2F ",
          .raw = fake_json("{\"files\": [{\"path\": \"a b&c/d\", \"bytes\": 9000000000}]}") },
        { .match = "GET /api/v1/runs/" ID "/files ", .raw = fake_json("{\"files\": []}") },
        { .match = "GET /api/v1/datastores/ds/files ",
          .raw = fake_reply(404, "text/plain", "no datastore 'ds'") },
        { 0 }
    };
    struct ty_place other = ty_place_datastore("ds");
    json_t *files = NULL;
    struct box b;

    (void)state;
    box_open(&b, answers);
    assert_int_equal(ty_files_list(&b.cli, &b.place, "a b&c/", &files, &b.err), 0);
    assert_int_equal(json_array_size(files), 1);
    assert_int_equal(ty_files_bytes(files), 9000000000);
    json_decref(files);
    files = NULL;
    assert_int_equal(ty_files_list(&b.cli, &b.place, "", &files, &b.err), 0);
    assert_int_equal(json_array_size(files), 0);
    json_decref(files);
    files = NULL;
    assert_int_equal(ty_files_list(&b.cli, &other, NULL, &files, &b.err), -ENOENT);
    assert_string_equal(b.err.text, "no datastore 'ds'");
    assert_null(files);
    box_done(&b);
}

static int fetch(struct box *b, int64_t offset, char buf[64])
{
    int fd = memfd_create("got", MFD_CLOEXEC), r;
    ssize_t n;

    assert_true(fd >= 0);
    r = ty_file_fetch(&b->cli, &b->place, "f", offset, fd, NULL, &b->err);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    n = ty_read_full(fd, buf, 63);
    assert_true(n >= 0);
    buf[n] = '\0';
    close(fd);
    return r;
}

/* A daemon that is started anew in the middle: it goes on where it stopped, however often, as long
 * as each connection brings something. */
static void test_fetch_goes_on(void **state)
{
    struct fake_answer answers[] = {
        { .match = FILE_OF("f "), .raw = BROKEN("1"), .close = true },
        { .match = FILE_OF("f?offset=1 "), .raw = BROKEN("2"), .close = true },
        { .match = FILE_OF("f?offset=2 "), .raw = BROKEN("3"), .close = true },
        { .match = FILE_OF("f?offset=3 "), .raw = BROKEN("4"), .close = true },
        { .match = FILE_OF("f?offset=4 "), .raw = BROKEN("5"), .close = true },
        { .match = FILE_OF("f?offset=5 "), .raw = BROKEN("6"), .close = true },
        { .match = FILE_OF("f?offset=6 "), .raw = fake_reply(200, "x/y", "789") },
        { 0 }
    };
    char buf[64];
    struct box b;

    (void)state;
    box_open(&b, answers);
    assert_int_equal(fetch(&b, 0, buf), 0);
    assert_string_equal(buf, "123456789");
    assert_int_equal(fetch(&b, 4, buf), 0);
    assert_string_equal(buf, "56789");
    box_done(&b);
}

/* Connections that bring nothing end it after a few. */
static void test_fetch_gives_up(void **state)
{
    struct fake_answer answers[] = {
        { .match = FILE_OF("f "), .raw = BROKEN("12"), .close = true },
        { .match = FILE_OF("f?offset=2 "), .raw = BROKEN(""), .close = true },
        { 0 }
    };
    char buf[64];
    struct box b;

    (void)state;
    box_open(&b, answers);
    assert_int_equal(fetch(&b, 0, buf), -ECONNRESET);
    assert_string_equal(buf, "12");
    assert_in_range(fake_count(b.f), 6, 11); /* TRIES_MAX, each asked once or, at once, again */
    box_done(&b);
}

static void test_fetch_onto_a_full_disk(void **state)
{
    struct fake_answer answers[] = {
        { .match = FILE_OF("f "), .raw = fake_reply(200, "x/y", "text") }, { 0 }
    };
    CLEANUP_CLOSE int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct box b;

    (void)state;
    box_open(&b, answers);
    assert_int_equal(ty_file_fetch(&b.cli, &b.place, "f", 0, full, NULL, &b.err), -ENOSPC);
    assert_string_equal(b.err.text, "cannot write what came of 'f': No space left on device");
    box_done(&b);
}

static int save(struct box *b, const char *path, const char *dest, bool overwrite)
{
    struct ty_transfer t = { .what = "download", .all = 4 };
    int r = ty_file_save(&b->cli, &b->place, path, dest, overwrite, &t, &b->err);

    assert_true(r < 0 || t.done == 4);
    return r;
}

/* How many entries a folder has: no half file may be left. */
static int count_entry(const char *rel, const struct stat *st, void *ctx)
{
    (void)rel, (void)st;
    ++*(int *)ctx;
    return 0;
}

static int entries(const char *dir)
{
    int n = 0;

    assert_int_equal(ty_walk(dir, count_entry, &n, NULL), 0);
    return n;
}

static void check_text(const char *path, const char *text)
{
    CLEANUP_FREE char *got = NULL;

    assert_int_equal(ty_read_file(path, 100, &got, NULL), 0);
    assert_string_equal(got, text);
}

static void test_save(void **state)
{
    struct fake_answer answers[] = {
        { .match = FILE_OF("f "), .raw = fake_reply(200, "x/y", "text") },
        { .match = FILE_OF("gone "), .raw = fake_reply(404, "text/plain", "no file 'gone'") },
        { 0 }
    };
    mode_t mask = umask(027);
    struct stat st;
    struct box b;

    (void)state;
    box_open(&b, answers);
    CLEANUP_FREE char *dir = ty_path_join(fake_home(b.f), "new/deep"), *f = ty_path_join(dir, "f");
    CLEANUP_FREE char *why = ty_strf("'%s' exists already; --overwrite replaces it", f);
    assert_int_equal(save(&b, "f", f, false), 0);
    umask(mask);
    check_text(f, "text");
    assert_int_equal(stat(f, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(entries(dir), 1);
    assert_int_equal(ty_write_file(f, "mine", 4, 0600), 0);
    assert_int_equal(save(&b, "f", f, false), -EEXIST);
    assert_string_equal(b.err.text, why);
    check_text(f, "mine");
    assert_int_equal(save(&b, "gone", f, true), -ENOENT); /* the old one stays */
    assert_string_equal(b.err.text, "no file 'gone'");
    check_text(f, "mine");
    assert_int_equal(save(&b, "f", f, true), 0);
    check_text(f, "text");
    assert_int_equal(entries(dir), 1);
    box_done(&b);
}

static void test_what_cannot_be_saved(void **state)
{
    struct fake_answer answers[] = {
        { .match = FILE_OF("f "), .raw = fake_reply(200, "x/y", "text") }, { 0 }
    };
    struct box b;

    (void)state;
    box_open(&b, answers);
    CLEANUP_FREE char *dir = ty_path_join(fake_home(b.f), "dir"), *file = ty_path_join(dir, "file");
    CLEANUP_FREE char *below = ty_path_join(file, "f"), *link = ty_path_join(dir, "link");
    CLEANUP_FREE char *why_below = ty_strf("cannot write '%s': Not a directory", below);
    CLEANUP_FREE char *why_dir = ty_strf("cannot write '%s': Is a directory", dir);
    assert_int_equal(ty_mkdir_p(dir, 0700), 0);
    assert_int_equal(ty_write_file(file, "x", 1, 0600), 0);
    assert_int_equal(save(&b, "f", below, true), -ENOTDIR);
    assert_string_equal(b.err.text, why_below);
    assert_int_equal(save(&b, "f", dir, true), -EISDIR);
    assert_string_equal(b.err.text, why_dir);
    assert_int_equal(symlink("nowhere", link), 0);
    assert_int_equal(save(&b, "f", link, false), -EEXIST); /* a link is something, too */
    assert_int_equal(entries(dir), 2);
    box_done(&b);
}

static void test_store(void **state)
{
    struct fake_answer answers[] = { { .match =
                                           "PUT /api/v1/datastores/ds/files/a%20b/c?overwrite=1 ",
                                       .raw = fake_reply(201, "application/json", "{}") },
                                     { .match = "PUT /api/v1/datastores/ds/files/a%20b/c ",
                                       .raw = fake_reply(409, "text/plain", "it is there") },
                                     { 0 } };
    struct box b;

    (void)state;
    box_open(&b, answers);
    CLEANUP_FREE char *from = ty_path_join(fake_home(b.f), "from"), *why = NULL;
    assert_int_equal(ty_write_file(from, "1\0002", 3, 0600), 0);
    assert_int_equal(ty_file_store(&b.cli, "ds", "a b/c", from, true, &b.err), 0);
    assert_memory_equal(fake_body(b.f, 0, NULL), "1\0002", 3);
    assert_non_null(strcasestr(fake_head(b.f, 0), "\r\nContent-Length: 3\r\n"));
    assert_int_equal(ty_file_store(&b.cli, "ds", "a b/c", from, false, &b.err), -EEXIST);
    assert_string_equal(b.err.text, "it is there");
    assert_int_equal(ty_file_store(&b.cli, "ds", "x", "/no/such/file", false, &b.err), -ENOENT);
    assert_string_equal(b.err.text, "cannot read '/no/such/file': No such file or directory");
    why = ty_strf("cannot store '%s': it is not a regular file", fake_home(b.f));
    assert_int_equal(ty_file_store(&b.cli, "ds", "x", fake_home(b.f), false, &b.err), -EINVAL);
    assert_string_equal(b.err.text, why);
    assert_int_equal(fake_count(b.f), 2); /* what cannot be sent is not announced */
    box_done(&b);
}

#ifdef TY_FAULTS
static void test_no_temporary_file(void **state)
{
    struct fake_answer answers[] = {
        { .match = FILE_OF("f "), .raw = fake_reply(200, "x/y", "text") }, { 0 }
    };
    struct box b;

    (void)state;
    box_open(&b, answers);
    CLEANUP_FREE char *dir = ty_path_join(fake_home(b.f), "dir"), *f = ty_path_join(dir, "f");
    CLEANUP_FREE char *why = ty_strf("cannot write '%s': No space left on device", f);
    ty_fault_arm("cli.part", 1, ENOSPC);
    assert_int_equal(save(&b, "f", f, false), -ENOSPC);
    assert_string_equal(b.err.text, why);
    assert_int_equal(fake_count(b.f), 0);
    assert_int_equal(entries(dir), 0);
    ty_fault_arm("fs.write", 1, ENOSPC); /* the disk is full in the middle */
    assert_int_equal(save(&b, "f", f, false), -ENOSPC);
    ty_fault_arm("none", 0, 0);
    assert_string_equal(b.err.text, "cannot write what came of 'f': No space left on device");
    assert_int_equal(entries(dir), 0);
    assert_int_equal(save(&b, "f", f, false), 0);
    check_text(f, "text");
    box_done(&b);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_fetch_goes_on),
        cmocka_unit_test(test_fetch_gives_up),
        cmocka_unit_test(test_fetch_onto_a_full_disk),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_what_cannot_be_saved),
        cmocka_unit_test(test_store),
#ifdef TY_FAULTS
        cmocka_unit_test(test_no_temporary_file),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
