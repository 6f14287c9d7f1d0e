/* test_collect.c - what the cache of environments holds, and what of it goes */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/json.h"
#include "box.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY_US ((int64_t)24 * 3600 * 1000000)
#define ALPHA "{\"pip\":{\"packages\":[\"ty-alpha\"],\"index_url\":\"%I\"}}"
#define BULKY "{\"pip\":{\"packages\":[\"ty-bulky\",\"ty-beta\"],\"index_url\":\"%I\"}}"

static void get(struct box *b, const char *spec, struct ty_env *e)
{
    struct ask a = { .spec = spec };

    if (box_get(b, &a, e) < 0)
        fail_msg("%s\n%s", b->err.text, b->log.text ? b->log.text : "");
}

static const char *key_of(const struct ty_env *e)
{
    return strrchr(e->prefix, '/') + 1;
}

static void unused_for(const struct box *b, const struct ty_env *e, int days)
{
    CLEANUP_FREE char *lock = ty_strf("%s/envs/%s.lock", b->cache, key_of(e));
    time_t then = time(NULL) - (time_t)days * 24 * 3600;
    struct timespec t[2] = { { .tv_sec = then }, { .tv_sec = then } };

    assert_int_equal(utimensat(AT_FDCWD, lock, t, 0), 0);
}

static int entries(const struct box *b, const char *folder)
{
    CLEANUP_FREE char *path = ty_strf("%s/%s", b->cache, folder);
    CLEANUP_DIR DIR *d = opendir(path);
    int n = 0;

    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    return n;
}

static void collect(struct box *b, struct ty_env_gc *gc)
{
    if (ty_env_collect(b->cache, gc, &b->err) < 0)
        fail_msg("%s", b->err.text);
}

struct listed {
    int n, busy;
    char first[TY_ENV_HASH + 1];
    int64_t bytes[4];
    bool told; /* each says of what it was made */
};

static int list(const struct ty_env_item *item, void *ctx)
{
    struct listed *l = ctx;

    if (l->n == 0)
        snprintf(l->first, sizeof l->first, "%s", item->key);
    l->bytes[l->n++] = item->bytes;
    l->busy += item->busy;
    l->told = json_object_get(item->about, "spec") && json_object_get(item->about, "record");
    return 0;
}

static void nothing_is_there(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = 0, .unused_us = 0, .all = true };
    struct listed l = { 0 };

    assert_int_equal(ty_env_each(b->cache, list, &l, &b->err), 0);
    assert_int_equal(l.n, 0);
    collect(b, &gc);
    assert_int_equal(gc.removed, 0);
    assert_int_equal(access(b->cache, F_OK), -1);
}

static void what_there_is_is_listed(void **state)
{
    struct box *b = *state;
    struct ty_env alpha, bulky;
    struct listed l = { 0 };

    get(b, ALPHA, &alpha);
    get(b, BULKY, &bulky);
    unused_for(b, &alpha, 1);
    close(alpha.hold);
    alpha.hold = -1;
    assert_int_equal(ty_env_each(b->cache, list, &l, &b->err), 0);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.busy, 1);
    assert_string_equal(l.first, key_of(&bulky));
    assert_true(l.told);
    assert_true(l.bytes[0] > 12 << 20); /* its package, which nobody else has */
    assert_true(l.bytes[1] < 2 << 20);
    ty_env_done(&alpha);
    ty_env_done(&bulky);
}

static void what_is_held_stays(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = 0, .unused_us = 0, .all = true };
    struct ty_env alpha, bulky;
    int status;

    get(b, ALPHA, &alpha);
    get(b, BULKY, &bulky);
    close(bulky.hold);
    bulky.hold = -1;
    collect(b, &gc);
    assert_int_equal(gc.removed, 1);
    assert_true(gc.freed_bytes > 12 << 20);
    assert_int_equal(access(bulky.prefix, F_OK), -1);
    assert_int_equal(access(alpha.prefix, F_OK), 0);
    assert_int_equal(entries(b, "wheels"), 2); /* alpha and beta */
    CLEANUP_FREE char *said = box_python(alpha.interpreter, "import ty_alpha, ty_beta", &status);
    assert_string_equal(said, "");

    /* Whoever was given the hold has it, too, whatever becomes of who gave it. */
    int hold = dup(alpha.hold);
    assert_true(hold >= 0);
    ty_env_done(&alpha);
    collect(b, &gc);
    assert_int_equal(gc.removed, 0);
    close(hold);
    collect(b, &gc);
    assert_int_equal(gc.removed, 1);
    assert_int_equal(entries(b, "wheels"), 0);
    assert_int_equal(entries(b, "envs"), 1); /* known/ alone: no lock, no description */
    assert_int_equal(entries(b, "envs/known"), 0);

    /* And is made again. */
    ty_env_done(&bulky);
    get(b, BULKY, &bulky);
    assert_true(json_is_true(json_object_get(bulky.record, "built")));
    ty_env_done(&bulky);
}

static void the_longest_unused_goes_first(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = 8 << 20, .unused_us = -1 };
    struct ty_env alpha, bulky;

    get(b, BULKY, &bulky);
    get(b, ALPHA, &alpha);
    unused_for(b, &bulky, 1);
    close(alpha.hold);
    close(bulky.hold);
    alpha.hold = bulky.hold = -1;

    gc.dry = true;
    collect(b, &gc);
    assert_int_equal(gc.removed, 1);
    assert_true(gc.freed_bytes > 12 << 20);
    assert_int_equal(access(bulky.prefix, F_OK), 0);

    gc.dry = false;
    collect(b, &gc);
    assert_int_equal(gc.removed, 1);
    assert_int_equal(access(bulky.prefix, F_OK), -1);
    assert_int_equal(access(alpha.prefix, F_OK), 0);
    collect(b, &gc);
    assert_int_equal(gc.removed, 0);
    ty_env_done(&alpha);
    ty_env_done(&bulky);
}

static void what_is_old_goes(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = -1, .unused_us = 30 * DAY_US };
    struct ty_env alpha, bulky;

    get(b, BULKY, &bulky);
    get(b, ALPHA, &alpha);
    unused_for(b, &alpha, 31);
    unused_for(b, &bulky, 29);
    close(alpha.hold);
    close(bulky.hold);
    alpha.hold = bulky.hold = -1;
    collect(b, &gc);
    assert_int_equal(gc.removed, 1);
    assert_int_equal(access(alpha.prefix, F_OK), -1);
    assert_int_equal(access(bulky.prefix, F_OK), 0);

    /* Using it makes it young again. */
    ty_env_done(&bulky);
    get(b, BULKY, &bulky);
    CLEANUP_FREE char *lock = ty_strf("%s/envs/%s.lock", b->cache, key_of(&bulky));
    struct stat st;
    assert_int_equal(stat(lock, &st), 0);
    assert_true(time(NULL) - st.st_mtim.tv_sec < 24 * 3600);
    ty_env_done(&alpha);
    ty_env_done(&bulky);
}

static void a_limit_is_kept_after_a_build(void **state)
{
    struct box *b = *state;
    struct ask a = { .spec = BULKY, .cache_bytes_max = 8 << 20 };
    struct ty_env bulky, alpha;

    assert_int_equal(box_get(b, &a, &bulky), 0);
    assert_int_equal(access(bulky.prefix, F_OK), 0); /* too large, and in use */
    close(bulky.hold);
    bulky.hold = -1;
    a.spec = ALPHA;
    assert_int_equal(box_get(b, &a, &alpha), 0);
    assert_int_equal(access(bulky.prefix, F_OK), -1);
    assert_int_equal(access(alpha.prefix, F_OK), 0);
    ty_env_done(&alpha);
    ty_env_done(&bulky);
}

/* What conda has unpacked is linked into prefixes; what is not goes, the archives too. */
static void packages_of_conda_go_when_nothing_links_them(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = 0, .unused_us = -1 };
    CLEANUP_FREE char *linked = ty_strf("%s/conda/pkgs/linked-1.0-0/lib/x.so", b->cache);
    CLEANUP_FREE char *alone = ty_strf("%s/conda/pkgs/alone-1.0-0/lib/x.so", b->cache);
    CLEANUP_FREE char *archive = ty_strf("%s/conda/pkgs/linked-1.0-0.conda", b->cache);
    CLEANUP_FREE char *prefix_file = ty_strf("%s/x.so", b->dir);

    assert_int_equal(ty_mkdir_parent(linked, 0700), 0);
    assert_int_equal(ty_mkdir_parent(alone, 0700), 0);
    assert_int_equal(ty_write_file(linked, "bytes", 5, 0600), 0);
    assert_int_equal(ty_write_file(alone, "bytes", 5, 0600), 0);
    assert_int_equal(ty_write_file(archive, "bytes", 5, 0600), 0);
    assert_int_equal(link(linked, prefix_file), 0);
    CLEANUP_FREE char *folders = ty_strf("%s/wheels", b->cache);
    assert_int_equal(ty_mkdir_p(folders, 0700), 0);
    collect(b, &gc);
    assert_int_equal(access(linked, F_OK), 0);
    assert_int_equal(access(alone, F_OK), -1);
    assert_int_equal(access(archive, F_OK), -1);
    assert_int_equal(unlink(prefix_file), 0);
    collect(b, &gc);
    assert_int_equal(access(linked, F_OK), -1);
}

static void what_killed_programs_left_goes(void **state)
{
    struct box *b = *state;
    struct ty_env_gc gc = { .max_bytes = -1, .unused_us = -1 };
    const char *key = "00000000000000000000000000000000000000000000000000000000000000aa";
    CLEANUP_FREE char *building = ty_strf("%s/envs/%s.building/lib", b->cache, key);
    CLEANUP_FREE char *wheel = ty_strf("%s/wheels/%s.4711/site", b->cache, key);

    assert_int_equal(ty_mkdir_p(building, 0700), 0);
    assert_int_equal(ty_mkdir_p(wheel, 0700), 0);
    collect(b, &gc);
    assert_int_equal(access(building, F_OK), -1);
    assert_int_equal(access(wheel, F_OK), -1);
    assert_int_equal(entries(b, "wheels"), 0);
}

/* Of who removes or builds and is killed there may be an answer that was once true, and a prefix that is not whole. */
static void what_does_not_say_what_it_is_is_built_anew(void **state)
{
    struct box *b = *state;
    struct ty_env e;
    CLEANUP_FREE char *about = NULL, *cfg = NULL;

    get(b, ALPHA, &e);
    about = ty_strf("%s.json", e.prefix);
    cfg = ty_strf("%s/pyvenv.cfg", e.prefix);
    assert_int_equal(unlink(about), 0);
    assert_int_equal(unlink(cfg), 0);
    ty_env_done(&e);
    get(b, ALPHA, &e);
    assert_true(json_is_true(json_object_get(e.record, "built")));
    assert_int_equal(access(about, F_OK), 0);
    assert_int_equal(access(cfg, F_OK), 0);
    ty_env_done(&e);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, box_set_up, box_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_there),
        TEST(what_there_is_is_listed),
        TEST(what_is_held_stays),
        TEST(the_longest_unused_goes_first),
        TEST(what_is_old_goes),
        TEST(a_limit_is_kept_after_a_build),
        TEST(packages_of_conda_go_when_nothing_links_them),
        TEST(what_killed_programs_left_goes),
        TEST(what_does_not_say_what_it_is_is_built_anew),
    };

    return cmocka_run_group_tests_name("env collect", tests, NULL, NULL);
}
