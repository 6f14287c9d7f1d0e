/* Flows and frames: what is sent arrives, in whatever pieces; what is none is refused. */
#include "courier/channel.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void pair(struct ty_flow *a, struct ty_flow *b)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ty_flow_open(a, fds[0], fds[0]);
    ty_flow_open(b, fds[1], fds[1]);
}

static void test_frames(void **state)
{
    struct ty_flow a = TY_FLOW_INIT, b = TY_FLOW_INIT;
    struct ty_channel_frame f;
    json_t *o = NULL;
    uint32_t n = 0;

    (void)state;
    pair(&a, &b);
    ty_channel_send(&a, TY_CHANNEL_PING, NULL, 0);
    ty_channel_send_json(&a, TY_CHANNEL_STATE, json_pack("{s:s}", "job", "none"));
    ty_channel_send_conn(&a, TY_CHANNEL_DATA, 0x01020304, "bytes", 5);
    assert_int_equal(ty_flow_write(&a), 0);
    assert_int_equal(ty_flow_unsent(&a), 0);
    assert_int_equal(ty_flow_read(&b, 1 << 20), 0);
    assert_int_equal(ty_channel_next(&b, &f), 0);
    assert_int_equal(f.type, TY_CHANNEL_PING);
    assert_int_equal(f.n, 0);
    assert_int_equal(ty_channel_next(&b, &f), 0);
    assert_int_equal(ty_channel_json(&f, &o), 0);
    assert_string_equal(json_string_value(json_object_get(o, "job")), "none");
    json_decref(o);
    assert_int_equal(ty_channel_next(&b, &f), 0);
    assert_int_equal(ty_channel_json(&f, &o), -EBADMSG);
    assert_int_equal(ty_channel_u32(&f, &n), 0);
    assert_int_equal(n, 0x01020304);
    assert_int_equal(f.n, 5);
    assert_memory_equal(f.body, "bytes", 5);
    assert_int_equal(ty_channel_next(&b, &f), -EAGAIN);
    ty_flow_close(&a);
    assert_int_equal(ty_flow_read(&b, 1 << 20), -EPIPE);
    ty_flow_close(&b);
}

/* Every way to cut a frame in two gives "not yet", then the frame. */
static void test_pieces(void **state)
{
    struct ty_flow out = TY_FLOW_INIT;
    struct ty_channel_frame f;
    size_t n;

    (void)state;
    ty_channel_send(&out, TY_CHANNEL_LINK, "4711 10.0.0.1", 13);
    n = out.unsent.len;
    for (size_t cut = 0; cut < n; cut++) {
        struct ty_flow a = TY_FLOW_INIT, b = TY_FLOW_INIT;

        pair(&a, &b);
        ty_str_addn(&a.unsent, out.unsent.text, cut);
        assert_int_equal(ty_flow_write(&a), 0);
        assert_int_equal(ty_flow_read(&b, 1 << 20), 0);
        assert_int_equal(ty_channel_next(&b, &f), -EAGAIN);
        ty_str_addn(&a.unsent, out.unsent.text + cut, n - cut);
        assert_int_equal(ty_flow_write(&a), 0);
        assert_int_equal(ty_flow_read(&b, 1 << 20), 0);
        assert_int_equal(ty_channel_next(&b, &f), 0);
        assert_int_equal(f.n, 13);
        ty_flow_close(&a);
        ty_flow_close(&b);
    }
    ty_flow_close(&out);
}

static void test_what_is_no_frame(void **state)
{
    static const char bad[][6] = {
        { 0, 0, 0, 0, 0 }, { 0, 0, 0, 0, 60 }, { 1, 0, 16, 0, 14 }, { -1, -1, -1, -1, 14 }
    };
    struct ty_channel_frame f = { .body = "ab", .n = 2 };
    uint32_t n;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ty_flow a = TY_FLOW_INIT, b = TY_FLOW_INIT;

        pair(&a, &b);
        ty_str_addn(&a.unsent, bad[i], 5);
        assert_int_equal(ty_flow_write(&a), 0);
        ty_flow_read(&b, 100);
        assert_int_equal(ty_channel_next(&b, &f), -EBADMSG);
        ty_flow_close(&a);
        ty_flow_close(&b);
    }
    f = (struct ty_channel_frame){ .body = "ab", .n = 2 };
    assert_int_equal(ty_channel_u32(&f, &n), -EBADMSG);
}

/* A frame that is too long breaks the flow instead of the other side. */
static void test_too_long(void **state)
{
    struct ty_flow a = TY_FLOW_INIT, b = TY_FLOW_INIT;
    char *big = calloc(1, TY_CHANNEL_PAYLOAD_MAX + 1);

    (void)state;
    pair(&a, &b);
    ty_channel_send(&a, TY_CHANNEL_CHUNK, big, TY_CHANNEL_PAYLOAD_MAX + 1);
    assert_true(ty_flow_write(&a) < 0);
    ty_flow_close(&a);
    ty_flow_close(&b);
    free(big);
}

/* More than a socket takes goes in turns, and arrives whole; reading stops where it is told to. */
static void test_much(void **state)
{
    struct ty_flow a = TY_FLOW_INIT, b = TY_FLOW_INIT;
    struct pollfd p[2];
    size_t n = 3 << 20, got = 0;
    char *big = malloc(n);

    (void)state;
    memset(big, 'x', n);
    pair(&a, &b);
    ty_str_addn(&a.unsent, big, n);
    while (got < n) {
        assert_int_equal(ty_flow_write(&a), 0);
        assert_true(ty_flow_read(&b, 100 * 1000) == 0);
        assert_true(ty_flow_waiting(&b) > 0 && ty_flow_waiting(&b) < 100 * 1000 + 300 * 1024);
        got += ty_flow_waiting(&b);
        ty_flow_use(&b, ty_flow_waiting(&b));
        if (got < n / 2)
            assert_int_equal(ty_flow_poll(&a, p, false), 1);
    }
    assert_int_equal(got, n);
    assert_int_equal(ty_flow_poll(&a, p, false), 0);
    assert_int_equal(ty_flow_poll(&a, p, true), 1);
    ty_flow_close(&a);
    ty_flow_close(&b);
    free(big);
}

static void test_hashes(void **state)
{
    static const char hex[] = "00010203040506070809aabbccddeeff00010203040506070809aabbccddeeff";
    unsigned char bytes[TY_CHANNEL_SHA];
    char back[65];

    (void)state;
    assert_int_equal(ty_sha_to_bytes(hex, bytes), 0);
    assert_int_equal(bytes[10], 0xaa);
    ty_sha_to_hex(bytes, back);
    assert_string_equal(back, hex);
    assert_int_equal(ty_sha_to_bytes("abc", bytes), -EINVAL);
    assert_int_equal(
        ty_sha_to_bytes("g0010203040506070809aabbccddeeff00010203040506070809aabbccddeeff", bytes),
        -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_what_is_no_frame),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_much),
        cmocka_unit_test(test_hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
