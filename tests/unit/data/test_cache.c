/* test_cache.c - which files of the cache of objects go */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/cache.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define HOUR ((int64_t)3600 * 1000000)

struct box {
    char dir[64];
    struct ty_error err;
};

static char *path_of(const struct box *b, const char *name)
{
    return ty_strf("%s/data/%s", b->dir, name);
}

static void put(const struct box *b, const char *name, size_t n, int64_t age_s)
{
    CLEANUP_FREE char *path = path_of(b, name), *bytes = calloc(1, n);
    time_t then = time(NULL) - age_s;
    struct timespec t[2] = { { .tv_sec = then }, { .tv_sec = then } };

    memset(bytes, 'x', n);
    assert_int_equal(ty_mkdir_parent(path, 0700), 0);
    assert_int_equal(ty_write_file(path, bytes, n, 0600), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static bool is_there(const struct box *b, const char *name)
{
    CLEANUP_FREE char *path = path_of(b, name);

    return access(path, F_OK) == 0;
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-cache-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rm_rf(b->dir);
    free(b);
    return 0;
}

static void no_cache_is_an_empty_one(void **state)
{
    struct box *b = *state;
    uint64_t freed = 1;

    assert_int_equal(ty_data_cache_collect(b->dir, 0, 0, false, &freed, &b->err), 0);
    assert_int_equal(freed, 0);
}

static void what_was_not_used_goes(void **state)
{
    struct box *b = *state;
    uint64_t freed = 0;

    put(b, "s/ab/old", 8192, 40 * 24 * 3600);
    put(b, "s/ab/new", 8192, 2 * 3600);
    put(b, "s/lock-x", 1, 40 * 24 * 3600);
    assert_int_equal(
        ty_data_cache_collect(b->dir, UINT64_MAX, 30 * 24 * HOUR, true, &freed, &b->err), 0);
    assert_true(freed >= 8192 && freed < 2 * 8192);
    assert_true(is_there(b, "s/ab/old"));
    assert_int_equal(
        ty_data_cache_collect(b->dir, UINT64_MAX, 30 * 24 * HOUR, false, &freed, &b->err), 0);
    assert_false(is_there(b, "s/ab/old"));
    assert_true(is_there(b, "s/ab/new"));
    assert_true(is_there(b, "s/lock-x"));
}

static void the_longest_unused_go_first_and_what_is_used_now_stays(void **state)
{
    struct box *b = *state;
    uint64_t freed = 0;

    put(b, "s/ab/a", 8192, 9 * 3600);
    put(b, "s/ab/b", 8192, 8 * 3600);
    put(b, "t/cd/c", 8192, 7 * 3600);
    put(b, "t/cd/now", 8192, 1);
    assert_int_equal(ty_data_cache_collect(b->dir, 2 * 8192, INT64_MAX, false, &freed, &b->err), 0);
    assert_false(is_there(b, "s/ab/a") || is_there(b, "s/ab/b"));
    assert_true(is_there(b, "t/cd/c"));
    assert_int_equal(ty_data_cache_collect(b->dir, 0, 0, false, &freed, &b->err), 0);
    assert_false(is_there(b, "t/cd/c"));
    assert_true(is_there(b, "t/cd/now"));
}

static void downloads_that_were_broken_off_go_after_a_day(void **state)
{
    struct box *b = *state;
    uint64_t freed = 0;

    put(b, "s/ab/.x.trainyard-part", 8192, 25 * 3600);
    put(b, "s/ab/.y.trainyard-part", 8192, 3600);
    assert_int_equal(ty_data_cache_collect(b->dir, UINT64_MAX, INT64_MAX, false, &freed, &b->err),
                     0);
    assert_false(is_there(b, "s/ab/.x.trainyard-part"));
    assert_true(is_there(b, "s/ab/.y.trainyard-part"));
}

/* A file that is linked to a job's folder is in use, and would free nothing. */
static void what_a_run_has_stays(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *held = path_of(b, "s/ab/held"), *own = ty_path_join(b->dir, "own");
    uint64_t freed = 0;

    put(b, "s/ab/held", 8192, 9 * 3600);
    put(b, "s/ab/free", 8192, 8 * 3600);
    assert_int_equal(link(held, own), 0);
    assert_int_equal(ty_data_cache_collect(b->dir, 0, INT64_MAX, false, &freed, &b->err), 0);
    assert_true(is_there(b, "s/ab/held"));
    assert_false(is_there(b, "s/ab/free"));
    assert_int_equal(ty_data_cache_collect(b->dir, UINT64_MAX, 0, false, &freed, &b->err), 0);
    assert_true(is_there(b, "s/ab/held"));
    assert_int_equal(unlink(own), 0);
    assert_int_equal(ty_data_cache_collect(b->dir, UINT64_MAX, 0, false, &freed, &b->err), 0);
    assert_false(is_there(b, "s/ab/held"));
}

static void it_is_kept_within_its_limit(void **state)
{
    struct box *b = *state;

    put(b, "s/ab/a", 8192, 9 * 3600);
    put(b, "s/ab/b", 8192, 8 * 3600);
    put(b, "s/about", 100, 40 * 24 * 3600);
    ty_data_cache_grown(b->dir);
    ty_data_cache_keep(b->dir, 0);
    assert_true(is_there(b, "s/ab/a") && is_there(b, "s/ab/b"));
    ty_data_cache_grown(b->dir);
    ty_data_cache_keep(b->dir, 3 * 4096);
    assert_true(!is_there(b, "s/ab/a") && is_there(b, "s/ab/b"));
    put(b, "s/ab/old", 4096, 40 * 24 * 3600);
    put(b, "lock-grown", 0, 7200); /* nothing came, and it was looked at today */
    put(b, "lock-kept", 0, 3600);
    ty_data_cache_keep(b->dir, 4096);
    assert_true(is_there(b, "s/ab/b") && is_there(b, "s/ab/old"));
    put(b, "lock-kept", 0, 25 * 3600);
    ty_data_cache_keep(b->dir, 0);
    assert_true(is_there(b, "s/ab/b") && !is_there(b, "s/ab/old"));
    assert_true(is_there(b, "s/about"));
}

static int note_store(const struct ty_data_cache_store *s, void *ctx)
{
    const char *kind = json_string_value(json_object_get(s->about, "kind"));

    ty_str_addf(ctx, "%s %s %llu %d; ", s->id, kind ? kind : "-", (unsigned long long)s->files,
                s->bytes >= 8192);
    return 0;
}

static void what_it_has_is_told_by_store(void **state)
{
    struct box *b = *state;
    CLEANUP_STR struct ty_str said = { 0 };
    CLEANUP_FREE char *about = path_of(b, "s/about");

    assert_int_equal(ty_data_cache_list(b->dir, note_store, &said, &b->err), 0);
    assert_int_equal(said.len, 0);
    put(b, "s/ab/a", 8192, 1);
    put(b, "s/cd/b", 8192, 1);
    put(b, "s/lock", 0, 1);
    put(b, "t/ab/a", 10, 1);
    put(b, "u/lock", 0, 1);
    put(b, "lock-kept", 0, 1);
    assert_int_equal(ty_write_file(about, "{\"kind\":\"s3\"}", 13, 0600), 0);
    assert_int_equal(ty_data_cache_list(b->dir, note_store, &said, &b->err), 0);
    assert_string_equal(said.text, "s s3 2 1; t - 1 0; ");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(no_cache_is_an_empty_one),
        T(what_was_not_used_goes),
        T(the_longest_unused_go_first_and_what_is_used_now_stays),
        T(downloads_that_were_broken_off_go_after_a_day),
        T(what_a_run_has_stays),
        T(it_is_kept_within_its_limit),
        T(what_it_has_is_told_by_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
