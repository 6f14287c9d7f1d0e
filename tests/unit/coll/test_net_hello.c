/* test_net_hello.c - who gets in, who is turned away, and where a rank is looked for */
#include "net_kit.h"

static const unsigned char wrong_key[TY_NET_KEY_BYTES] = { 3, 2, 1 };

/* Nobody listens there any more: known at once, not when the time is up. */
static void test_gone_before_it_was_met(void **state)
{
    unsigned char b[8];
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 1, &v, 1 };
    struct node d[2];
    int64_t begun = ty_mono_us();

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    d[1].net = ty_net_free(d[1].net);
    assert_int_equal(ty_net_exchange(d[0].net, &m, NULL, NULL), -ECONNRESET);
    await(&d[0], &d[0].lost[1], 1);
    assert_true(ty_mono_us() - begun < 20000000);
    assert_non_null(strstr(d[0].why, "127.0.0.1:"));
    assert_non_null(strstr(d[0].why, "refused"));
    close_world(d, 2);
}

/* Addresses that lead astray come first: one that refuses, and this rank's own. */
static void test_addresses_in_order(void **state)
{
    char address[256];
    struct node d[2];
    unsigned char b;
    size_t len;

    (void)state;
    open_node(&d[0], 0, 2, (struct ty_net_options){ 0 });
    open_node(&d[1], 1, 2, (struct ty_net_options){ 0 });
    snprintf(address, sizeof address, "127.0.0.1:1 %.100s %.100s", d[0].address, d[1].address);
    assert_int_equal(ty_net_peers(d[0].net, (const char *const[]){ NULL, address }, NULL), 0);
    assert_int_equal(ty_net_peers(d[1].net, (const char *const[]){ d[0].address, NULL }, NULL), 0);
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "x", 1), 0);
    take(&d[1], 0, 1, &b, 1, &len);
    close_world(d, 2);
}

static void test_ipv6(void **state)
{
    struct ty_error err;
    char *text = NULL;
    struct node d[2];

    (void)state;
    if (ty_addresses_here("::1", 1, &text, &err) < 0)
        skip();
    free(text);
    open_world(d, 2, (struct ty_net_options){ .interfaces = "::1" });
    assert_ptr_equal(strstr(d[0].address, "[::1]:"), d[0].address);
    swap(d, 1000, 300000, 1);
    close_world(d, 2);
}

static void test_strangers_are_turned_away(void **state)
{
    struct ty_lane_hello h = { .from = 1, .to = 0, .size = 2, .lane = 0 };
    unsigned char hello[TY_LANE_HELLO_BYTES], challenge[TY_LANE_CHALLENGE_BYTES],
        proof[TY_LANE_PROOF_BYTES];
    struct node d[2];
    int fd;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    fd = connect_to(&d[0]);
    assert_int_equal(
        send(fd, "GET / HTTP/1.1\r\nHost: a\r\nAccept: anything at all, really ...\r\n\r\n", 64, 0),
        64);
    is_turned_away(fd);
    h.size = 3;
    is_turned_away(say_hello(&d[0], h, hello, NULL));
    h.size = 2;
    is_turned_away(say_hello(&d[1], h, hello, NULL)); /* for another rank */
    fd = say_hello(&d[0], h, hello, challenge);
    /* its own proof sent back, and one with another key */
    assert_int_equal(send(fd, challenge + TY_LANE_NONCE_BYTES, TY_LANE_PROOF_BYTES, 0),
                     TY_LANE_PROOF_BYTES);
    is_turned_away(fd);
    fd = say_hello(&d[0], h, hello, challenge);
    ty_lane_proof(wrong_key, TY_LANE_OPENS, hello, challenge, proof);
    assert_int_equal(send(fd, proof, sizeof proof, 0), sizeof proof);
    is_turned_away(fd);
    swap(d, 1000, 1000, 1);
    /* a lane that is there is not given to another, key or not */
    is_turned_away(say_hello(&d[0], h, hello, NULL));
    swap(d, 1000, 1000, 2);
    close_world(d, 2);
}

static void test_silent_strangers(void **state)
{
    int fds[TY_NET_STRANGERS + 10];
    struct node d[2];
    int n = sizeof fds / sizeof *fds, fd;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ .hello_timeout_ms = 600000 });
    for (int i = 0; i < n; i++)
        fds[i] = connect_to(&d[0]);
    swap(d, 1000, 1000, 1); /* who has the key gets in */
    for (int i = 0; i < 10; i++)
        is_turned_away(fds[i]);
    for (int i = 10; i < n; i++)
        close(fds[i]);
    close_world(d, 2);
    open_world(d, 2, (struct ty_net_options){ .hello_timeout_ms = 20 });
    fd = connect_to(&d[0]);
    assert_int_equal(send(fd, "TyLane", 6, 0), 6);
    is_turned_away(fd);
    close_world(d, 2);
}

static void test_wrong_key(void **state)
{
    unsigned char b[8];
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 1, &v, 1 };
    struct node d[2];

    (void)state;
    open_node(&d[0], 0, 2, (struct ty_net_options){ .connect_timeout_ms = 300 });
    open_node(&d[1], 1, 2, (struct ty_net_options){ .key = wrong_key });
    introduce(d, 2);
    assert_int_equal(ty_net_exchange(d[0].net, &m, NULL, NULL), -ECONNRESET);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "another key"));
    assert_int_equal(d[1].lost[0] + d[1].left[0], 0);
    close_world(d, 2);
}

#ifdef TY_FAULTS
/* A connection that fails or is refused once is tried again. */
static void test_faults_that_pass(void **state)
{
    static const char *const points[] = { "net.socket", "net.connect", "net.hello", "net.accept",
                                          "net.watch" };
    struct node d[2];
    unsigned char b;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        for (int error = 0; error < 2; error++) {
            open_world(d, 2, (struct ty_net_options){ 0 });
            ty_fault_arm(points[i], 1, error ? EMFILE : ECONNRESET);
            assert_int_equal(ty_net_post(d[0].net, 1, 1, "x", 1), 0);
            take(&d[1], 0, 1, &b, 1, &len);
            ty_fault_arm(NULL, 0, 0);
            close_world(d, 2);
        }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_before_it_was_met),
        cmocka_unit_test(test_addresses_in_order),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_strangers_are_turned_away),
        cmocka_unit_test(test_silent_strangers),
        cmocka_unit_test(test_wrong_key),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults_that_pass),
#endif
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
