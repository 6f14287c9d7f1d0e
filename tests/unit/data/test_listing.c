/* test_listing.c - listings of data, what has changed since, and markers */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/listing.h"
#include "data/marker.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    char *data, *list;
    struct ty_error err;
};

static void put(const struct box *b, const char *name, const char *text)
{
    CLEANUP_FREE char *path = ty_path_join(b->data, name);

    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
}

static void drop(const struct box *b, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(b->data, name);

    assert_int_equal(unlink(path), 0);
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-listing-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->data = ty_path_join(b->dir, "data");
    b->list = ty_path_join(b->dir, "list");
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rm_rf(b->dir);
    free(b->data);
    free(b->list);
    free(b);
    return 0;
}

static int add(const struct ty_listed *f, void *ctx)
{
    return ty_listing_add(ctx, f);
}

static void list(struct box *b)
{
    CLEANUP_CLOSE int fd = open(b->list, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct ty_listing_out o;

    assert_true(fd >= 0);
    assert_int_equal(ty_listing_begin(&o, fd), 0);
    assert_int_equal(ty_listing_walk(b->data, add, NULL, &o, &b->err), 0);
    assert_int_equal(ty_listing_finish(&o), 0);
}

static int show(const struct ty_listed *f, void *ctx)
{
    ty_str_addf(ctx, "%s %llu %o '%s';", f->path, (unsigned long long)f->bytes, f->mode, f->mark);
    return 0;
}

static void what_is_written_is_read(void **state)
{
    struct box *b = *state;
    CLEANUP_CLOSE int fd = open(b->list, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CLEANUP_STR struct ty_str s = { 0 };
    struct ty_listing_out o;

    assert_int_equal(ty_listing_begin(&o, fd), 0);
    assert_int_equal(ty_listing_add(&o, &(struct ty_listed){ .path = "a b/%c\xc3\xa4",
                                                             .mark = "\"x y\"",
                                                             .bytes = 3,
                                                             .mtime_us = -5,
                                                             .mode = 0755 }),
                     0);
    assert_int_equal(
        ty_listing_add(&o,
                       &(struct ty_listed){ .path = "b", .mark = "", .bytes = 0, .mode = 0644 }),
        0);
    assert_int_equal(ty_listing_finish(&o), 0);
    assert_int_equal(ty_listing_read(b->list, show, &s), 0);
    assert_string_equal(s.text, "a b/%c\xc3\xa4 3 755 '\"x y\"';b 0 644 '';");
}

static int last_offset(const struct ty_listed *f, void *ctx)
{
    *(uint64_t *)ctx = f->offset;
    return 0;
}

static void a_line_is_found_again(void **state)
{
    struct box *b = *state;
    CLEANUP_STR struct ty_str s = { 0 };
    CLEANUP_CLOSE int fd = -1;
    uint64_t offset = 0;

    put(b, "one", "1");
    put(b, "two", "22");
    list(b);
    assert_int_equal(ty_listing_read(b->list, last_offset, &offset), 0);
    fd = open(b->list, O_RDONLY | O_CLOEXEC);
    assert_int_equal(ty_listing_at(fd, offset, show, &s), 0);
    assert_string_equal(s.text, "two 2 644 '';");
}

static void foreign_text_is_no_listing(void **state)
{
    static const char *const bad[] = { "",
                                       "x",
                                       "trainyard-data 2\n",
                                       "trainyard-data 1\nnothing\n",
                                       "trainyard-data 1\n644 1 1 - ../x\n",
                                       "trainyard-data 1\n644 1 1 - x" };
    struct box *b = *state;
    CLEANUP_STR struct ty_str s = { 0 };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ty_write_file(b->list, bad[i], strlen(bad[i]), 0600), 0);
        assert_int_equal(ty_listing_read(b->list, show, &s), -EBADMSG);
    }
}

static void changes_are_named(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *text = NULL, *none = NULL;
    struct ty_changes c;

    put(b, "same", "1");
    put(b, "sub/longer", "1");
    put(b, "gone", "1");
    put(b, ".trainyard-datastore", "ours");
    list(b);
    assert_int_equal(ty_listing_compare(b->list, b->data, true, &c, &b->err), 0);
    none = ty_changes_text(&c, "d");
    assert_null(none);
    ty_str_done(&c.names);
    put(b, "sub/longer", "123");
    put(b, "new", "1");
    drop(b, "gone");
    assert_int_equal(ty_listing_compare(b->list, b->data, true, &c, &b->err), 0);
    text = ty_changes_text(&c, "d");
    assert_string_equal(
        text, "3 files of datastore 'd' changed while the run was running (1 changed, 1 gone, 1 "
              "new): new, sub/longer, gone");
    ty_str_done(&c.names);
    assert_int_equal(ty_listing_compare(b->list, b->data, false, &c, &b->err), 0);
    assert_int_equal(c.added, 0);
    assert_int_equal(c.changed + c.gone, 2);
    ty_str_done(&c.names);
}

static void all_may_be_gone(void **state)
{
    struct box *b = *state;
    struct ty_changes c;

    put(b, "a", "1");
    list(b);
    assert_int_equal(ty_rm_rf(b->data), 0);
    assert_int_equal(ty_listing_compare(b->list, b->data, true, &c, &b->err), 0);
    assert_int_equal(c.gone, 1);
    ty_str_done(&c.names);
}

static void what_is_removed_is_named(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *none = NULL, *one = NULL, *two = NULL;

    put(b, "a", "1");
    put(b, "sub/b", "2");
    list(b);
    put(b, "new", "3");
    none = ty_listing_removed(b->list, b->data, "sets");
    assert_null(none);
    drop(b, "sub/b");
    one = ty_listing_removed(b->list, b->data, "sets");
    assert_string_equal(one, "1 file that the run has removed stays in datastore 'sets': sub/b");
    ty_rm_rf(b->data);
    two = ty_listing_removed(b->list, b->data, "sets");
    assert_string_equal(two, "2 files that the run has removed stay in datastore 'sets': a, sub/b");
}

static void a_folder_is_known_by_its_word_and_a_copy_is_not(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *copy = ty_path_join(b->dir, "copy"), *from = NULL, *to = NULL, *text = NULL;
    char token[TY_MARKER_TOKEN], again[TY_MARKER_TOKEN];
    size_t n;

    put(b, "a", "1");
    assert_int_equal(ty_marker_token(b->data, token), 0);
    assert_int_equal(ty_marker_token(b->data, again), 0);
    assert_string_equal(token, again);
    assert_true(ty_marker_fits(b->data, token));
    assert_int_equal(ty_mkdir_p(copy, 0700), 0);
    assert_false(ty_marker_fits(copy, token));
    from = ty_path_join(b->data, TY_MARKER_NAME);
    to = ty_path_join(copy, TY_MARKER_NAME);
    assert_int_equal(ty_read_file(from, 100, &text, &n), 0);
    assert_int_equal(ty_write_file(to, text, n, 0600), 0);
    assert_false(ty_marker_fits(copy, token));
    assert_false(ty_marker_fits("/nowhere/at/all", token));
}

static void a_folder_that_cannot_be_marked_is_known_by_its_looks(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *mark = NULL, *copy = ty_path_join(b->dir, "copy"),
                      *file = ty_path_join(copy, "a");
    char token[TY_MARKER_TOKEN];

    put(b, "a", "1");
    mark = ty_path_join(b->data, TY_MARKER_NAME);
    assert_int_equal(mkdir(mark, 0700), 0); /* in its place: no word can be written, also by root */
    assert_int_equal(ty_marker_token(b->data, token), 0);
    assert_true(ty_starts_with(token, "look "));
    assert_true(ty_marker_fits(b->data, token));
    assert_int_equal(ty_mkdir_p(copy, 0700), 0);
    assert_int_equal(ty_write_file(file, "1", 1, 0600), 0);
    assert_false(ty_marker_fits(copy, token));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(what_is_written_is_read),
        T(a_line_is_found_again),
        T(foreign_text_is_no_listing),
        T(changes_are_named),
        T(all_may_be_gone),
        T(what_is_removed_is_named),
        T(a_folder_is_known_by_its_word_and_a_copy_is_not),
        T(a_folder_that_cannot_be_marked_is_known_by_its_looks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
