/* Hosts that could not be cleaned are not forgotten.  Couriers are started as this program, which leaves a mark. */
#include "base/fs.h"
#include "base/str.h"
#include "kit.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const char target[] = "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}]}";

static void begin(struct kit *k)
{
    kit_begin(k, "/tmp", 1, target);
    json_object_set_new(k->c.job, "home", json_string(k->dir));
}

static bool is_there(const struct kit *k, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(k->dir, name);

    return access(path, F_OK) == 0;
}

static void put(const struct kit *k, const char *name, const char *file, int days)
{
    CLEANUP_FREE char *dir = ty_strf("%s/lost/%s", k->dir, name);
    CLEANUP_FREE char *path = ty_path_join(dir, file);
    struct timespec t[2] = { { .tv_sec = time(NULL) - (time_t)days * 24 * 3600 } };

    t[1] = t[0];
    assert_int_equal(ty_mkdir_p(dir, 0700), 0);
    assert_int_equal(ty_write_file(path, "", 0, 0600), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void wait_for_all(void)
{
    while (waitpid(-1, NULL, 0) > 0)
        ;
}

/* The folder makes way for the next attempt, and what was open in it stays so. */
static void test_keep(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    k.c.attempt = 2;
    assert_true(ty_lost_keep(&k.c));
    assert_false(is_there(&k, "job"));
    assert_true(is_there(&k, "lost/r_1.2"));
    ty_way_released(&k.c);
    assert_true(is_there(&k, "lost/r_1.2/released"));
    assert_true(ty_lost_keep(&k.c)); /* it is there already */
    assert_true(is_there(&k, "lost/r_1.2/released"));
    kit_end(&k);

    kit_begin(&k, "/tmp", 1, target); /* a folder of no service */
    assert_false(ty_lost_keep(&k.c));
    assert_true(is_there(&k, "job"));
    kit_end(&k);
}

static void test_take_up(void **state)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_CLOSE int lock = -1;
    struct kit k;

    (void)state;
    begin(&k);
    ty_lost_take_up(&k.c); /* nothing is lost */
    put(&k, "left.1", "released", 2);
    put(&k, "held.1", "released", 2);
    put(&k, "held.1", "lock", 2);
    put(&k, "old.1", "released", 31);
    put(&k, "old.1", "runner.id", 1); /* of one that tried */
    path = ty_path_join(k.dir, "lost/held.1/lock");
    lock = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
    ty_lost_take_up(&k.c);
    wait_for_all();
    assert_true(is_there(&k, "lost/left.1/came"));
    assert_true(is_there(&k, "lost/held.1"));
    assert_false(is_there(&k, "lost/held.1/came"));
    assert_false(is_there(&k, "lost/old.1"));
    kit_end(&k);
}

/* One that was started so starts no others. */
static void test_no_chain(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    assert_true(ty_lost_keep(&k.c));
    put(&k, "left.1", "lock", 2);
    ty_lost_take_up(&k.c);
    wait_for_all();
    assert_false(is_there(&k, "lost/left.1/came"));
    kit_end(&k);
}

static int be_courier(const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "came");

    return path && ty_write_file(path, "", 0, 0600) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_take_up),
        cmocka_unit_test(test_no_chain),
    };

    if (argc == 3 && strcmp(argv[1], "courier") == 0)
        return be_courier(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
