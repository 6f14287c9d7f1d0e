/* test_slurm_pump.c - lines, and then bytes, through a link */
#include "base/clock.h"
#include "base/error.h"
#include "base/link_ends.h"
#include "target/slurm_lines.h"
#include "target/slurm_pump.h"
#include "tests.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define MUCH (3 << 20)

static const unsigned char key[TY_LINK_KEY] = { 7 };

/* The two ends of a fresh link. */
static void link_pair(struct ty_link **a, struct ty_link **b)
{
    char *here[] = { (char *)(uintptr_t) "127.0.0.1", NULL };
    struct ty_gate *g = NULL;
    struct ty_call *c = NULL;

    *a = *b = NULL;
    assert_int_equal(ty_gate_open(key, &g, NULL), 0);
    assert_int_equal(ty_call_new(here, ty_gate_port(g), key, &c), 0);
    while (!*a || !*b) {
        struct pollfd p[] = { { .fd = ty_gate_fd(g), .events = POLLIN },
                              { .fd = ty_call_fd(c), .events = POLLIN } };

        poll(p, 2, 100);
        if (!*a)
            *a = ty_gate_next(g, ty_mono_us());
        if (!*b)
            assert_true(ty_call_turn(c, ty_mono_us(), b) == 0 || !*b);
    }
    ty_call_free(c);
    ty_gate_free(g);
}

static void test_lines(void **state)
{
    struct ty_lines l = { 0 };
    json_t *o = NULL;
    const char *rest;
    int ends[2];
    size_t n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ty_lines_add(&l, json_pack("{s:i}", "a", 1));
    assert_true(ty_lines_waiting(&l));
    assert_int_equal(ty_lines_send(&l, ends[0], NULL), 0);
    assert_false(ty_lines_waiting(&l));
    assert_int_equal(send(ends[0], "[1]\n{\"b\": 2}\nmore", 17, 0), 17);
    assert_int_equal(ty_lines_read(&l, ends[1], NULL), 0);
    assert_int_equal(ty_lines_next(&l, &o), 0);
    assert_int_equal(json_integer_value(json_object_get(o, "a")), 1);
    json_decref(o);
    assert_int_equal(ty_lines_next(&l, &o), -EBADMSG); /* no object */
    assert_int_equal(ty_lines_next(&l, &o), 0);
    json_decref(o);
    assert_int_equal(ty_lines_next(&l, &o), -EAGAIN);
    rest = ty_lines_rest(&l, &n);
    assert_int_equal(n, 4);
    assert_memory_equal(rest, "more", 4);
    close(ends[0]);
    assert_int_equal(ty_lines_read(&l, ends[1], NULL), -EPIPE);
    close(ends[1]);
    ty_lines_done(&l);
}

static void turn(struct ty_pump *p, int *r)
{
    if (*r == 0)
        *r = ty_pump_turn(p, ty_mono_us());
}

/* What goes in on one side comes out on the other, whole, though nobody takes it at once; and so does the end. */
static void test_pump(void **state)
{
    struct ty_link *a, *b;
    struct ty_pump p = { .fd = -1 }, q = { .fd = -1 };
    int left[2], right[2], r = 0, s = 0;
    size_t in = 0, out = 0;
    bool ended = false;
    char buf[8192];

    (void)state;
    link_pair(&a, &b);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, left), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, right), 0);
    assert_int_equal(ty_pump_open(&p, a, left[1], NULL, 0), 0);
    assert_int_equal(ty_pump_open(&q, b, right[1], "first", 5), 0);
    for (int64_t until = ty_mono_us() + 20000000; !ended && ty_mono_us() < until;) {
        ssize_t n;

        if (in < MUCH) {
            memset(buf, (int)(in / sizeof buf), sizeof buf);
            n = send(left[0], buf, sizeof buf, MSG_NOSIGNAL);
            in += n > 0 ? (size_t)n : 0;
            if (in >= MUCH)
                shutdown(left[0], SHUT_WR);
        }
        turn(&p, &r);
        turn(&q, &s);
        if (r != 0) /* it is over: the link closes, and the other side hears the end */
            ty_pump_close(&p);
        while ((n = recv(right[0], buf, sizeof buf, 0)) > 0)
            out += (size_t)n;
        ended = n == 0 || (s != 0 && n < 0);
    }
    assert_int_equal(r, 1);
    assert_int_equal(out, in + 5);
    ty_pump_close(&p);
    ty_pump_close(&q);
    close(left[0]);
    close(right[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_pump) };

    return cmocka_run_group_tests_name("slurm_pump", tests, NULL, NULL);
}
