/* test_child.c - helpers that do long work */
#include "base/error.h"
#include "runner/child.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct heard {
    int n;
    char last[128];
};

static void hear(json_t *line, void *ctx)
{
    struct heard *h = ctx;

    h->n++;
    snprintf(h->last, sizeof h->last, "%s", json_string_value(json_object_get(line, "text")));
}

/* Until the child is over; returns whether it failed. */
static bool follow(struct ty_child *c, struct heard *h)
{
    bool failed = false;

    for (;;) {
        struct pollfd p = { .fd = c->fd, .events = POLLIN };

        assert_int_equal(poll(&p, 1, 10000), 1);
        if (ty_child_read(c, hear, h, &failed) == -EPIPE)
            return failed;
    }
}

static int talk(int out, void *ctx)
{
    int n = *(int *)ctx;

    for (int i = 0; i < n; i++)
        ty_child_tell(out, "note", "a line that is not short, so that many of them fill a pipe");
    ty_child_tell(out, "note", "last \xff");
    return 0;
}

static int fail_it(int out, void *ctx)
{
    (void)out, (void)ctx;
    return -EIO;
}

static int die(int out, void *ctx)
{
    (void)out, (void)ctx;
    raise(SIGKILL);
    return 0;
}

static int stay(int out, void *ctx)
{
    (void)ctx;
    ty_child_tell(out, "note", "here");
    for (;;)
        pause();
    return 0;
}

static void test_lines(void **state)
{
    struct ty_child c = TY_CHILD_INIT;
    struct heard h = { 0 };
    struct ty_error err;
    int n = 5000;

    (void)state;
    assert_int_equal(ty_child_start(&c, talk, &n, &err), 0);
    assert_false(follow(&c, &h));
    assert_int_equal(h.n, n + 1);
    assert_string_equal(h.last, "last \xef\xbf\xbd");
    assert_int_equal(c.pid, 0);
    assert_int_equal(c.fd, -1);
}

static void test_failures(void **state)
{
    struct ty_child c = TY_CHILD_INIT;
    struct heard h = { 0 };
    struct ty_error err;

    (void)state;
    assert_int_equal(ty_child_start(&c, fail_it, NULL, &err), 0);
    assert_true(follow(&c, &h));
    assert_int_equal(ty_child_start(&c, die, NULL, &err), 0);
    assert_true(follow(&c, &h));
    assert_int_equal(h.n, 0);
}

static void test_kill(void **state)
{
    struct ty_child c = TY_CHILD_INIT;
    struct ty_error err;

    (void)state;
    assert_int_equal(ty_child_start(&c, stay, NULL, &err), 0);
    pid_t pid = c.pid;
    ty_child_kill(&c);
    assert_int_equal(waitpid(pid, NULL, 0), -1);
    ty_child_kill(&c); /* nobody: nothing */
}

static void test_reaped_by_somebody_else(void **state)
{
    struct ty_child c = TY_CHILD_INIT;
    struct heard h = { 0 };
    struct ty_error err;
    int status;

    (void)state;
    assert_int_equal(ty_child_start(&c, fail_it, NULL, &err), 0);
    assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
    ty_child_reaped(&c, c.pid + 1, 0);
    assert_false(c.reaped);
    ty_child_reaped(&c, c.pid, status);
    assert_true(follow(&c, &h));
}

static int lock_and_pass(int out, void *ctx)
{
    json_t *line = json_pack("{s:s, s:s}", "kind", "note", "text", "locked");
    int fd = open(ctx, O_RDWR | O_CLOEXEC);
    int r = flock(fd, LOCK_SH) < 0 ? -errno : 0;

    ty_child_tell(out, "note", "before");
    if (r == 0)
        r = ty_child_pass(out, line, fd);
    ty_child_tell(out, "note", "after");
    json_decref(line);
    return r;
}

/* At no moment between the child's end and the parent's taking it is what a descriptor holds free. */
static void test_a_lock_is_passed(void **state)
{
    char path[] = "/tmp/ty-child.XXXXXX";
    struct ty_child c = TY_CHILD_INIT;
    struct heard h = { 0 };
    struct ty_error err;
    bool failed = true;
    int other, mine = mkstemp(path), status;

    (void)state;
    assert_true(mine >= 0);
    other = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(ty_child_start(&c, lock_and_pass, path, &err), 0);
    assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
    ty_child_reaped(&c, c.pid, status);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), -1); /* it is on its way */
    while (c.passed < 0)
        assert_int_equal(ty_child_read(&c, hear, &h, &failed), 0);
    assert_string_equal(h.last, "locked");
    close(mine);
    mine = c.passed;
    c.passed = -1;
    assert_int_equal(fcntl(mine, F_GETFD), FD_CLOEXEC);
    assert_false(follow(&c, &h));
    assert_int_equal(h.n, 3);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), -1);
    close(mine);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    close(other);
    unlink(path);
}

/* News of a child that has ended may come late: nobody is signalled then, least of all the whole group of the caller. */
static void test_none(void **state)
{
    struct ty_child c = TY_CHILD_INIT;
    struct heard h = { 0 };
    bool failed = false;

    (void)state;
    assert_int_equal(ty_child_read(&c, hear, &h, &failed), 0);
    assert_int_equal(h.n, 0);
}

static void test_lossy_text(void **state)
{
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } t[] = {
        { "", 0, "" },
        { "plain", 5, "plain" },
        { "a\0b", 3,
          "a\xef\xbf\xbd"
          "b" },
        { "\xe2\x82", 2, "\xef\xbf\xbd" },
        { "\"\n\x01", 3, "\"\n\x01" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        json_t *o = ty_lossy_text(t[i].in, t[i].n);

        assert_true(json_is_string(o));
        if (i != 3)
            assert_string_equal(json_string_value(o), t[i].out);
        else
            assert_true(strstr(json_string_value(o), t[i].out) == json_string_value(o));
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_reaped_by_somebody_else),
        cmocka_unit_test(test_lossy_text),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_a_lock_is_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
