/* test_net.c - opening a net, small messages, and a fork */
#include "net_kit.h"
#include <fcntl.h>
#include <sys/wait.h>

static void test_what_is_no_exchange(void **state)
{
    struct ty_net_msg absent = { -1, 0, NULL, 0 }, me = { 0, 0, NULL, 0 },
                      beyond = { 2, 0, NULL, 0 };
    struct ty_net_msg reserved = { 1, TY_NET_TAG_MAX + 1, NULL, 0 };
    struct ty_error err = { 0 };
    struct node d[2];
    const char *none[2] = { NULL, "nonsense" };
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_exchange(d[0].net, &absent, NULL, NULL), 0);
    assert_int_equal(ty_net_exchange(d[0].net, NULL, &me, NULL), -EINVAL);
    assert_int_equal(ty_net_exchange(d[0].net, &beyond, NULL, NULL), -EINVAL);
    assert_int_equal(ty_net_exchange(d[0].net, &reserved, NULL, NULL), -EINVAL);
    assert_int_equal(ty_net_post(d[0].net, 0, 1, "", 0), -EINVAL);
    assert_int_equal(ty_net_post(d[0].net, 1, TY_NET_TAG_MAX + 1, "", 0), -EINVAL);
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "", TY_NET_SMALL_BYTES + 1), -EMSGSIZE);
    assert_int_equal(ty_net_check(d[0].net, 5, 1, NULL, 0, &len), -EINVAL);
    assert_int_equal(ty_net_peers(d[0].net, none, &err), -EINVAL);
    assert_non_null(strstr(err.text, "twice"));
    close_world(d, 2);
    open_node(&d[0], 0, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_peers(d[0].net, none, &err), -EINVAL);
    assert_non_null(strstr(err.text, "rank 1"));
    close_node(&d[0]);
    assert_null(ty_net_free(NULL));
}

static void test_small_in_any_order(void **state)
{
    struct node d[3];
    unsigned char buf[TY_NET_SMALL_BYTES];
    size_t len;

    (void)state;
    open_world(d, 3, (struct ty_net_options){ 0 });
    for (uint64_t t = 0; t < 300; t++) {
        unsigned char out[TY_NET_SMALL_BYTES];

        memset(out, (int)t, sizeof out);
        assert_int_equal(ty_net_post(d[1].net, 0, t, out, t % 257), 0);
        assert_int_equal(ty_net_post(d[2].net, 0, 1000 + t, out, 1), 0);
    }
    for (uint64_t t = 300; t-- > 0;) {
        take(&d[0], 1, t, buf, sizeof buf, &len);
        assert_int_equal(len, t % 257);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(buf[i], t & 255);
        take(&d[0], 2, 1000 + t, buf, sizeof buf, &len);
        assert_int_equal(len, 1);
    }
    assert_int_equal(ty_net_check(d[0].net, 1, 0, buf, sizeof buf, &len), 0);
    /* equal tags come in order; one that is too long stays */
    assert_int_equal(ty_net_post(d[0].net, 2, 9, "first", 5), 0);
    assert_int_equal(ty_net_post(d[0].net, 2, 9, "second", 6), 0);
    take(&d[2], 0, 9, buf, sizeof buf, &len);
    assert_memory_equal(buf, "first", len);
    while ((len = 0, ty_net_check(d[2].net, 0, 9, buf, 2, &len)) == 0) {
        int heard = count_of(&d[2], &d[2].heard);

        ty_net_arm(d[2].net);
        await(&d[2], &d[2].heard, heard + 1);
    }
    assert_int_equal(ty_net_check(d[2].net, 0, 9, buf, 2, &len), -EMSGSIZE);
    take(&d[2], 0, 9, buf, sizeof buf, &len);
    assert_memory_equal(buf, "second", len);
    close_world(d, 3);
}

/* What lies there for later wakes once, not again and again. */
static void test_arm(void **state)
{
    struct node d[2];
    unsigned char b;
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    ty_net_arm(d[0].net);
    assert_int_equal(ty_net_post(d[1].net, 0, 1, "x", 1), 0);
    await(&d[0], &d[0].heard, 1);
    assert_int_equal(ty_net_post(d[1].net, 0, 2, "x", 1), 0);
    take(&d[0], 1, 2, &b, 1, &len);
    ty_net_arm(d[0].net); /* message 1 lies there, and was told */
    assert_int_equal(ty_net_post(d[0].net, 1, 3, "x", 1), 0);
    take(&d[1], 0, 3, &b, 1, &len);
    assert_true(count_of(&d[0], &d[0].heard) <= 2);
    assert_int_equal(ty_net_post(d[1].net, 0, 4, "x", 1), 0);
    take(&d[0], 1, 4, &b, 1, &len);
    take(&d[0], 1, 1, &b, 1, &len);
    close_world(d, 2);
}

/* A notice is told at once, to whoever asks for no message; looking takes nothing. */
static void test_notice(void **state)
{
    struct node d[2];
    unsigned char b[8];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_false(ty_net_peek(d[0].net, 1, 1));
    assert_false(ty_net_peek(d[0].net, 9, 1));
    assert_int_equal(ty_net_post(d[1].net, 0, 1, "x", 1), 0);
    assert_int_equal(ty_net_post(d[1].net, 0, TY_NET_TAG_NOTICE, "news", 4), 0);
    await(&d[0], &d[0].notices, 1);
    assert_int_equal(d[0].notice_rank, 1);
    assert_string_equal(d[0].notice, "news");
    assert_int_equal(ty_net_check(d[0].net, 1, TY_NET_TAG_NOTICE, b, sizeof b, &len), 0);
    assert_true(ty_net_peek(d[0].net, 1, 1));
    assert_int_equal(ty_net_check(d[0].net, 1, 1, b, sizeof b, &len), 1);
    assert_false(ty_net_peek(d[0].net, 1, 1));
    close_world(d, 2);
}

/* A post whose lane is not even open yet still goes out. */
static void test_last_words(void **state)
{
    struct node d[2];
    unsigned char b[8];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "bye", 3), 0);
    d[0].net = ty_net_free(d[0].net);
    take(&d[1], 0, 1, b, sizeof b, &len);
    assert_int_equal(len, 3);
    close_world(d, 2);
}

/* A child that was forked keeps no lane open: the end of its parent is seen although it lives. */
static void test_forked(void **state)
{
    int up[2];
    struct node d[2];
    char b = 0;
    pid_t pid;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 10, 10, 1);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int open = 0;

        ty_net_forked(d[0].net);
        ty_net_forked(d[1].net);
        for (int fd = 0; fd < 1024; fd++) {
            int type;
            socklen_t len = sizeof type;

            open += getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
                    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &type, &len) == 0 && type != AF_UNIX;
        }
        b = (char)open;
        _exit(write(up[1], &b, 1) == 1 ? 0 : 1);
    }
    assert_int_equal(read(up[0], &b, 1), 1);
    assert_int_equal(b, 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    swap(d, 10, 10, 2); /* the parent's are as before */
    close(up[0]);
    close(up[1]);
    close_world(d, 2);
}

#ifdef TY_FAULTS
static void test_faults_at_open(void **state)
{
    static const char *const points[] = { "net.alloc",   "net.interfaces", "net.epoll",
                                          "net.eventfd", "net.watch",      "net.thread" };
    struct ty_net_options o = { .size = 1, .key = kit_key };
    struct ty_net *n = NULL;
    char *address = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct ty_error err = { 0 };

        ty_fault_arm(points[i], 1, EMFILE);
        assert_true(ty_net_open(&o, &n, &address, &err) < 0);
        ty_fault_arm(NULL, 0, 0);
        assert_null(n);
        assert_null(address);
        assert_true(err.text[0] != '\0');
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_no_exchange),
        cmocka_unit_test(test_small_in_any_order),
        cmocka_unit_test(test_arm),
        cmocka_unit_test(test_notice),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_forked),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults_at_open),
#endif
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
