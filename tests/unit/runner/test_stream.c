/* test_stream.c - connecting, framing and coming back */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/str.h"
#include "runner/stream.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
    char dir[64];
    char *path;
    int listen;
};

static void start_listening(struct box *b)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    snprintf(a.sun_path, sizeof a.sun_path, "%s", b->path);
    b->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(b->listen, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(b->listen, 4), 0);
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-stream-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->path = ty_path_join(b->dir, "s");
    b->listen = -1;
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    if (b->listen >= 0)
        close(b->listen);
    ty_rm_rf(b->dir);
    free(b->path);
    free(b);
    return 0;
}

/* What came so far must be exactly these frames. */
static void assert_comes(int fd, const struct ty_frame *expected, size_t n)
{
    static char buf[1 << 20];
    size_t used = 0;
    ssize_t len = recv(fd, buf, sizeof buf, MSG_DONTWAIT);

    assert_true(len > 0);
    for (size_t i = 0; i < n; i++) {
        struct ty_frame f;
        ptrdiff_t got = ty_frame_decode(buf + used, (size_t)len - used, &f);

        assert_true(got > 0);
        assert_int_equal(f.type, expected[i].type);
        assert_int_equal(f.body_len, expected[i].body_len);
        assert_memory_equal(f.body, expected[i].body, f.body_len);
        used += (size_t)got;
    }
    assert_int_equal(used, len);
}

static void test_hello_and_frames(void **state)
{
    struct box *b = *state;
    struct ty_frame hello = { .type = TY_FRAME_HELLO, .body = "{}", .body_len = 2 },
                    ping = { .type = TY_FRAME_PING }, in;
    CLEANUP_STR struct ty_str out = { 0 };
    short events;
    int fd;

    start_listening(b);
    struct ty_stream *s = ty_stream_new(b->path, "{}");
    assert_int_equal(ty_stream_fd(s, &events), -1);
    ty_stream_turn(s, 1000);
    assert_true(ty_stream_connected(s));
    fd = accept(b->listen, NULL, NULL);
    ty_stream_turn(s, 1000);
    assert_comes(fd, &hello, 1);
    assert_int_equal(ty_stream_next(s, &in), -EAGAIN);
    assert_int_equal(ty_stream_due(s), 1000 + 2000000);
    ty_stream_turn(s, ty_stream_due(s));
    assert_comes(fd, &ping, 1);

    /* A frame that comes in two pieces, then two at once. */
    assert_int_equal(
        ty_frame_encode(
            &(struct ty_frame){ .type = TY_FRAME_WELCOME, .body = "{\"a\":1}", .body_len = 7 },
            &out),
        0);
    assert_int_equal(send(fd, out.text, 4, 0), 4);
    ty_stream_turn(s, 3000);
    assert_int_equal(ty_stream_next(s, &in), -EAGAIN);
    assert_int_equal(ty_frame_encode(&(struct ty_frame){ .type = TY_FRAME_CANCEL }, &out), 0);
    assert_int_equal(send(fd, out.text + 4, out.len - 4, 0), out.len - 4);
    ty_stream_turn(s, 3000);
    assert_int_equal(ty_stream_next(s, &in), 0);
    assert_int_equal(in.type, TY_FRAME_WELCOME);
    assert_memory_equal(in.body, "{\"a\":1}", 7);
    assert_int_equal(ty_stream_next(s, &in), 0);
    assert_int_equal(in.type, TY_FRAME_CANCEL);
    assert_int_equal(ty_stream_next(s, &in), -EAGAIN);
    close(fd);
    ty_stream_free(s);
}

static void test_coming_back(void **state)
{
    struct box *b = *state;
    struct ty_stream *s = ty_stream_new(b->path, "{}");
    int64_t now = 1000000, delay = TY_STREAM_DELAY_MIN_US;

    for (int i = 0; i < 10; i++) {
        ty_stream_turn(s, now);
        assert_false(ty_stream_connected(s));
        assert_int_equal(ty_stream_due(s), now + delay);
        ty_stream_turn(s, now + delay - 1); /* too early: nothing happens */
        assert_int_equal(ty_stream_due(s), now + delay);
        now += delay;
        delay = delay * 2 < TY_STREAM_DELAY_MAX_US ? delay * 2 : TY_STREAM_DELAY_MAX_US;
    }
    start_listening(b);
    ty_stream_turn(s, now);
    assert_true(ty_stream_connected(s));
    ty_stream_break(s, now);
    assert_int_equal(ty_stream_due(s),
                     now + TY_STREAM_DELAY_MAX_US); /* connecting alone is no progress */
    now += TY_STREAM_DELAY_MAX_US;
    ty_stream_turn(s, now);
    ty_stream_progress(s);
    ty_stream_break(s, now);
    assert_int_equal(ty_stream_due(s), now + TY_STREAM_DELAY_MIN_US);
    ty_stream_free(s);
}

static void test_last_words_are_heard(void **state)
{
    struct box *b = *state;
    CLEANUP_STR struct ty_str out = { 0 };
    struct ty_frame in;
    int fd;

    start_listening(b);
    struct ty_stream *s = ty_stream_new(b->path, "{}");
    ty_stream_turn(s, 0);
    fd = accept(b->listen, NULL, NULL);
    assert_int_equal(
        ty_frame_encode(&(struct ty_frame){ .type = TY_FRAME_REFUSED, .body = "{}", .body_len = 2 },
                        &out),
        0);
    assert_int_equal(send(fd, out.text, out.len, 0), out.len);
    assert_int_equal(send(fd, out.text, 3, 0), 3); /* and a frame that never becomes whole */
    close(fd);
    ty_stream_turn(s, 0);
    assert_int_equal(ty_stream_next(s, &in), 0);
    assert_int_equal(in.type, TY_FRAME_REFUSED);
    assert_int_equal(ty_stream_next(s, &in), -EAGAIN);
    assert_false(ty_stream_room(s));
    assert_int_equal(ty_stream_due(s), 0);
    ty_stream_turn(s, 1);
    assert_false(ty_stream_connected(s));
    ty_stream_free(s);
}

static void test_nonsense_breaks_it(void **state)
{
    struct box *b = *state;
    struct ty_frame in;
    int fd;

    start_listening(b);
    struct ty_stream *s = ty_stream_new(b->path, "{}");
    ty_stream_turn(s, 0);
    fd = accept(b->listen, NULL, NULL);
    assert_int_equal(send(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, 0), 8);
    ty_stream_turn(s, 0);
    assert_int_equal(ty_stream_next(s, &in), -EAGAIN);
    assert_false(ty_stream_connected(s));
    close(fd);
    ty_stream_free(s);
}

/* A daemon that does not read: what is queued is bounded, and nothing waits. */
static void test_back_pressure(void **state)
{
    struct box *b = *state;
    static char bytes[TY_WIRE_LOG_CHUNK];
    struct ty_frame f = {
        .type = TY_FRAME_LOG, .name = "x", .name_len = 1, .body = bytes, .body_len = sizeof bytes
    };
    short events;
    int n = 0;

    start_listening(b);
    struct ty_stream *s = ty_stream_new(b->path, "{}");
    ty_stream_turn(s, 0);
    while (ty_stream_room(s)) {
        assert_true(++n < 1000);
        ty_stream_send(s, &f);
        ty_stream_turn(s, 0);
    }
    ty_stream_fd(s, &events);
    assert_int_equal(events, POLLIN | POLLOUT);
    assert_true(ty_stream_due(s) > 60 * 1000 * 1000); /* the socket wakes, no clock */
    ty_stream_free(s);
}

static void test_long_path(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *deep = ty_strf("%s/%0*d", b->dir, 120, 1), *there = NULL, *link_path = NULL;
    struct ty_stream *s;

    assert_int_equal(ty_mkdir_p(deep, 0700), 0);
    start_listening(b);
    there = ty_path_join(deep, "s");
    assert_int_equal(rename(b->path, there), 0);
    s = ty_stream_new(there, "{}");
    ty_stream_turn(s, 0);
    assert_true(ty_stream_connected(s));
    ty_stream_free(s);
}

/* ---- over a link ---- */

struct two {
    struct ty_gate *gate;
    struct ty_stream *near, *far; /* who has called, and whom */
    int64_t now;
};

static void open_two(struct two *t)
{
    static const unsigned char key[TY_LINK_KEY] = { 5 };
    static char *const here[] = { (char *)"127.0.0.1", NULL };
    struct ty_call *call = NULL;
    struct ty_error err = { 0 };

    *t = (struct two){ .now = 1 };
    assert_int_equal(ty_gate_open(key, &t->gate, &err), 0);
    assert_int_equal(ty_call_new(here, ty_gate_port(t->gate), key, &call), 0);
    t->near = ty_stream_new_call(call, "{\"node\": 1}");
    assert_non_null(t->near);
}

static void close_two(struct two *t)
{
    ty_stream_free(t->near);
    ty_stream_free(t->far);
    ty_gate_free(t->gate);
}

/* A turn of both; the clock is the test's. */
static void turn_two(struct two *t)
{
    struct ty_link *l;

    ty_stream_turn(t->near, t->now);
    l = t->gate ? ty_gate_next(t->gate, t->now) : NULL;
    if (l) {
        ty_stream_free(t->far);
        t->far = ty_stream_new_called(l);
    }
    if (t->far)
        ty_stream_turn(t->far, t->now);
    poll(NULL, 0, 1);
    t->now += 1000;
}

/* Until the next frame comes to that side. */
static void await_frame(struct two *t, struct ty_stream **to, struct ty_frame *ret)
{
    for (int i = 0; i < 20000; i++) {
        if (*to && ty_stream_next(*to, ret) == 0)
            return;
        turn_two(t);
    }
    fail_msg("no frame came");
}

static void test_over_a_link(void **state)
{
    static char bytes[TY_WIRE_BLOB_CHUNK];
    struct ty_frame big = {
        .type = TY_FRAME_BLOB, .name = "x", .name_len = 1, .body = bytes, .body_len = sizeof bytes
    };
    struct ty_frame in;
    struct two t;
    short events;

    (void)state;
    memset(bytes, 'b', sizeof bytes);
    open_two(&t);
    await_frame(&t, &t.far, &in);
    assert_int_equal(in.type, TY_FRAME_HELLO);
    assert_memory_equal(in.body, "{\"node\": 1}", in.body_len);
    assert_non_null(ty_stream_link(t.near));
    assert_true(ty_stream_fd(t.near, &events) >= 0);
    assert_int_equal(ty_stream_due(t.far), INT64_MAX);
    for (int i = 0; i < 3; i++) {
        big.seq = (uint64_t)i;
        ty_stream_send(t.near, &big);
        ty_stream_send(t.far, &big);
    }
    for (int i = 0; i < 3; i++) {
        await_frame(&t, &t.far, &in);
        assert_int_equal(in.seq, i);
        assert_int_equal(in.body_len, sizeof bytes);
        await_frame(&t, &t.near, &in);
        assert_int_equal(in.seq, i);
        assert_memory_equal(in.body, bytes, sizeof bytes);
    }
    /* Silence: the one that called says that it is there. */
    t.now += 3 * 1000 * 1000;
    await_frame(&t, &t.far, &in);
    assert_int_equal(in.type, TY_FRAME_PING);
    close_two(&t);
}

static void test_a_link_comes_back(void **state)
{
    struct ty_frame in;
    struct two t;

    (void)state;
    open_two(&t);
    await_frame(&t, &t.far, &in);
    ty_stream_break(t.far, t.now);
    ty_stream_turn(t.far, t.now);
    assert_false(ty_stream_connected(t.far));
    await_frame(&t, &t.far, &in); /* of a new one */
    assert_int_equal(in.type, TY_FRAME_HELLO);
    assert_int_equal(ty_stream_serial(t.near), 2);
    assert_false(ty_stream_refused(t.near));
    /* Now nobody listens any more. */
    t.gate = ty_gate_free(t.gate);
    t.far = ty_stream_free(t.far);
    for (int i = 0; i < 20000 && !ty_stream_refused(t.near); i++)
        turn_two(&t);
    assert_true(ty_stream_refused(t.near));
    assert_false(ty_stream_connected(t.near));
    close_two(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello_and_frames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_coming_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_words_are_heard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense_breaks_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_back_pressure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_path, set_up, tear_down),
        cmocka_unit_test(test_over_a_link),
        cmocka_unit_test(test_a_link_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
