/* test_net_lanes.c - who leaves, who is lost: goodbyes, a child that is killed, a network that is cut */
#include "net_kit.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

/* A rank in a process of its own, which does `what` and then waits to be killed; it gets and gives addresses by pipes. */
struct child {
    pid_t pid;
    int in, out;
};

static void child_says(int fd, const char *text)
{
    if (write(fd, text, strlen(text) + 1) < 0)
        _exit(3);
}

static void read_text(int fd, char *buf, size_t cap)
{
    size_t n = 0;

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };

        if (n == cap || poll(&p, 1, PATIENCE_S * 1000) != 1 || read(fd, buf + n, 1) != 1) {
            buf[0] = '\0';
            return;
        }
        if (buf[n++] == '\0')
            return;
    }
}

/* Rank 1 of two: swaps 8 bytes with rank 0, says "ready", and stays. */
static void live_as_rank_1(int in, int out, const unsigned char *its_key, const char *interfaces)
{
    struct ty_net_options o = { .rank = 1, .size = 2, .key = its_key, .interfaces = interfaces };
    struct ty_net *n;
    char *mine, other[1024];
    unsigned char b[8] = { 0 };
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 0, 1, &v, 1 };

    alarm(380);
    if (ty_net_open(&o, &n, &mine, NULL) < 0)
        _exit(2);
    child_says(out, mine);
    read_text(in, other, sizeof other);
    if (ty_net_peers(n, (const char *const[]){ other, NULL }, NULL) < 0 ||
        ty_net_exchange(n, &m, &m, NULL) < 0)
        _exit(4);
    child_says(out, "ready");
    for (;;)
        pause();
}

static int run_command(const char *command)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 1);
        dup2(null, 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static bool quiet_world(void)
{
    return unshare(CLONE_NEWNET) == 0 && run_command("ip link set lo up") == 0;
}

/* `apart`: in a network of its own, and it waits there for its cable. */
static void open_child(struct child *c, bool apart, const char *interfaces)
{
    int down[2], up[2];

    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        close(down[1]);
        close(up[0]);
        if (apart) {
            char go[8];

            child_says(up[1], quiet_world() ? "apart" : "refused");
            read_text(down[0], go, sizeof go);
        }
        live_as_rank_1(down[0], up[1], kit_key, interfaces);
    }
    close(down[0]);
    close(up[1]);
    c->in = down[1];
    c->out = up[0];
}

static void meet_child(struct child *c, struct node *d, const char *its_address)
{
    unsigned char b[8] = { 0 };
    struct iovec v = { b, 8 };
    struct ty_net_msg m = { 1, 1, &v, 1 };
    char text[64];

    child_says(c->in, d->address);
    assert_int_equal(ty_net_peers(d->net, (const char *const[]){ NULL, its_address }, NULL), 0);
    assert_int_equal(ty_net_exchange(d->net, &m, &m, NULL), 0);
    read_text(c->out, text, sizeof text);
    assert_string_equal(text, "ready");
}

static void end_child(struct child *c)
{
    kill(c->pid, SIGKILL);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
    close(c->in);
    close(c->out);
}

static void test_killed(void **state)
{
    struct child c;
    struct node d;
    struct job j;
    unsigned char b[8];
    char address[1024];
    int64_t killed_us;

    (void)state;
    open_child(&c, false, "lo"); /* before there are threads */
    read_text(c.out, address, sizeof address);
    open_node(&d, 0, 2, (struct ty_net_options){ 0 });
    meet_child(&c, &d, address);
    set_job(&j, &d, -1, b, 0, 1, b, 8, 2);
    begin(&j);
    killed_us = ty_mono_us();
    end_child(&c);
    assert_int_equal(end(&j), -ECONNRESET);
    await(&d, &d.lost[1], 1);
    assert_true(d.lost_us - killed_us <
                1000000); /* it takes less than a millisecond where there is a free core */
    assert_non_null(strstr(d.why, "connection ended"));
    assert_int_equal(ty_net_post(d.net, 1, 1, b, 1), -ECONNRESET);
    assert_int_equal(ty_net_exchange(d.net, &j.recv, NULL, NULL), -ECONNRESET);
    assert_int_equal(d.left[1], 0);
    close_node(&d);
}

#define NOT_ALLOWED 77

/* The three states in which a rank can vanish. */
enum cut { CUT_IDLE, CUT_SENDING, CUT_POSTING, CUTS };

/* Two network namespaces with a cable between them, in a process that can be thrown away. */
static int live_through_a_cut(enum cut what)
{
    static unsigned char big[30000000];
    char command[256], text[1024];
    struct child c;
    struct node d;
    struct job j;
    int64_t cut_us;
    int r;

    if (!quiet_world())
        return NOT_ALLOWED;
    open_child(&c, true, "eth9");
    read_text(c.out, text, sizeof text);
    snprintf(
        command, sizeof command,
        "ip link add cable type veth peer name eth9 netns %d && ip addr add 10.97.0.1/24 dev cable && "
        "ip link set cable up && nsenter -t %d -n sh -c 'ip addr add 10.97.0.2/24 dev eth9 && ip link set eth9 up'",
        (int)c.pid, (int)c.pid);
    if (strcmp(text, "apart") != 0 || run_command(command) < 0) {
        end_child(&c);
        return NOT_ALLOWED;
    }
    child_says(c.in, "go");
    read_text(c.out, text, sizeof text);
    open_node(&d, 0, 2, (struct ty_net_options){ .interfaces = "cable" });
    meet_child(&c, &d, text);
    set_job(&j, &d, what == CUT_SENDING ? 1 : -1, big, sizeof big, what == CUT_SENDING ? -1 : 1,
            big, 8, 2);
    begin(&j);
    snprintf(command, sizeof command, "nsenter -t %d -n ip link set eth9 down", (int)c.pid);
    cut_us = ty_mono_us();
    if (run_command(what == CUT_IDLE ? "ip link set cable down" : command) < 0)
        return 3;
    if (what == CUT_POSTING)
        ty_net_post(d.net, 1, 5, "x", 1);
    await(&d, &d.lost[1], 1);
    r = end(&j) == -ECONNRESET && d.lost_us - cut_us < 10000000 ? 0 : 4;
    close_node(&d);
    end_child(&c);
    return r;
}

static void test_cut_network(void **state)
{
    pid_t pid[CUTS];
    int status, refused = 0;

    (void)state;
    for (int i = 0; i < CUTS; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0) {
            alarm(380);
            _exit(live_through_a_cut((enum cut)i));
        }
    }
    for (int i = 0; i < CUTS; i++) {
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_true(WIFEXITED(status));
        refused += WEXITSTATUS(status) == NOT_ALLOWED;
        if (WEXITSTATUS(status) != NOT_ALLOWED)
            assert_int_equal(WEXITSTATUS(status), 0);
    }
    if (refused)
        skip();
}

static void test_goodbye_is_no_loss(void **state)
{
    unsigned char out[100] = { 4 }, in[100] = { 0 }, b[8];
    struct iovec s = { out, sizeof out }, r = { in, sizeof in };
    struct ty_net_msg send = { 0, 3, &s, 1 }, recv = { 1, 3, &r, 1 }, back = { 1, 4, &s, 1 };
    struct node d[2];
    size_t len;

    (void)state;
    open_world(d, 2, (struct ty_net_options){ 0 });
    swap(d, 9, 9, 1);
    assert_int_equal(ty_net_exchange(d[1].net, &send, NULL, NULL), 0);
    assert_int_equal(ty_net_post(d[1].net, 0, 8, "last", 4), 0);
    d[1].net = ty_net_free(d[1].net);
    await(&d[0], &d[0].left[1], 1);
    /* what it sent before can still be had, and then no more */
    assert_int_equal(ty_net_exchange(d[0].net, NULL, &recv, NULL), 0);
    assert_memory_equal(in, out, sizeof out);
    assert_int_equal(ty_net_exchange(d[0].net, NULL, &recv, NULL), -ESHUTDOWN);
    assert_int_equal(ty_net_exchange(d[0].net, &back, NULL, NULL), -ESHUTDOWN);
    assert_int_equal(ty_net_check(d[0].net, 1, 8, b, sizeof b, &len), 1);
    assert_int_equal(ty_net_check(d[0].net, 1, 8, b, sizeof b, &len), -ESHUTDOWN);
    assert_int_equal(ty_net_post(d[0].net, 1, 8, b, 1), -ESHUTDOWN);
    assert_int_equal(d[0].lost[1], 0);
    close_world(d, 2);
}

/* The goodbye goes against the direction of the only lane that was asked for; who is blocked learns of it.  The other lane,
 * which rank 1 opens to watch over rank 0 while it waits, is in any state when rank 1 leaves. */
static void leave_who_is_blocked(void)
{
    unsigned char b[8] = { 0 };
    struct node d[2];
    struct job j;
    size_t len;

    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_post(d[0].net, 1, 1, b, 1), 0);
    take(&d[1], 0, 1, b, sizeof b, &len);
    set_job(&j, &d[0], -1, b, 0, 1, b, 8, 1);
    begin(&j);
    d[1].net = ty_net_free(d[1].net);
    assert_int_equal(end(&j), -ESHUTDOWN);
    await(&d[0], &d[0].left[1], 1);
    assert_int_equal(d[0].lost[1], 0);
    close_world(d, 2);
}

static void test_goodbye_to_who_is_blocked(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        leave_who_is_blocked();
}

static void *free_net(void *arg)
{
    struct node *d = arg;

    d->net = ty_net_free(d->net);
    return NULL;
}

/* Rank 0 is this test, at a socket of its own; rank 1 leaves when it has proved itself on a lane and not heard whether that
 * is open.  It says goodbye there all the same: else it would be taken for lost. */
static void test_goodbye_on_a_lane_that_opens(void **state)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct ty_lane_hello h = { .from = 0, .to = 1, .size = 2, .lane = 0 };
    unsigned char hello[TY_LANE_HELLO_BYTES], out[TY_LANE_CHALLENGE_BYTES] = { 9 },
                                              proof[TY_LANE_PROOF_BYTES];
    unsigned char frame[TY_LANE_FRAME_BYTES];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd, stranger;
    socklen_t len = sizeof a;
    char address[64];
    uint64_t tag, bytes;
    pthread_t leaving;
    struct node d;
    size_t n;

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(a.sin_port));
    open_node(&d, 1, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_peers(d.net, (const char *const[]){ address, NULL }, NULL), 0);
    assert_int_equal(ty_net_check(d.net, 0, 1, out, 0, &n),
                     0); /* opens a lane, to watch over rank 0 */
    fd = accept(listener, NULL, NULL);
    assert_int_equal(recv(fd, hello, sizeof hello, MSG_WAITALL), sizeof hello);
    ty_lane_proof(kit_key, TY_LANE_ACCEPTS, hello, out, out + TY_LANE_NONCE_BYTES);
    assert_int_equal(send(fd, out, sizeof out, 0), sizeof out);
    assert_int_equal(recv(fd, proof, sizeof proof, MSG_WAITALL), sizeof proof);
    assert_true(ty_lane_proof_holds(kit_key, TY_LANE_OPENS, hello, out, proof));
    stranger = say_hello(&d, h, hello, out);
    assert_int_equal(pthread_create(&leaving, NULL, free_net, &d), 0);
    is_turned_away(stranger); /* now it is leaving */
    ty_lane_frame_encode(TY_LANE_WELCOME, 0, frame);
    assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    assert_int_equal(recv(fd, frame, sizeof frame, MSG_WAITALL), sizeof frame);
    ty_lane_frame_decode(frame, &tag, &bytes);
    assert_true(tag == TY_LANE_GOODBYE && bytes == 0);
    close(fd);
    pthread_join(leaving, NULL);
    close(listener);
    close_node(&d);
}

/* Who has the key and then sends what is no message, or too many of them, is lost; nobody else is. */
static int intrude(struct node *d, int lane)
{
    struct ty_lane_hello h = { .from = 1, .to = 0, .size = 3, .lane = (uint32_t)lane };
    unsigned char hello[TY_LANE_HELLO_BYTES], challenge[TY_LANE_CHALLENGE_BYTES],
        proof[TY_LANE_PROOF_BYTES];
    unsigned char welcome[TY_LANE_FRAME_BYTES];
    int fd = say_hello(d, h, hello, challenge);

    assert_true(ty_lane_proof_holds(kit_key, TY_LANE_ACCEPTS, hello, challenge,
                                    challenge + TY_LANE_NONCE_BYTES));
    ty_lane_proof(kit_key, TY_LANE_OPENS, hello, challenge, proof);
    assert_int_equal(send(fd, proof, sizeof proof, 0), sizeof proof);
    assert_int_equal(recv(fd, welcome, sizeof welcome, MSG_WAITALL), sizeof welcome);
    return fd;
}

static void test_garbage_from_a_rank(void **state)
{
    unsigned char garbage[32], frame[TY_LANE_FRAME_BYTES];
    struct node d[3];
    int fd;

    (void)state;
    memset(garbage, 0xa5, sizeof garbage);
    open_world(d, 3, (struct ty_net_options){ 0 });
    fd = intrude(&d[0], TY_NET_LANES);
    assert_int_equal(send(fd, garbage, sizeof garbage, MSG_NOSIGNAL), sizeof garbage);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "no message"));
    assert_int_equal(d[0].lost[2], 0);
    close(fd);
    close_world(d, 3);
    open_world(d, 3, (struct ty_net_options){ 0 });
    fd = intrude(&d[0], TY_NET_LANES);
    ty_lane_frame_encode(1, 0, frame);
    for (int i = 0; i < TY_NET_INBOX + 1; i++)
        assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "more small messages"));
    close(fd);
    close_world(d, 3);
}

/* A data lane that breaks alone makes its rank lost too, with nobody in an exchange. */
static void test_broken_data_lane(void **state)
{
    struct node d[3];
    int small, data;

    (void)state;
    open_world(d, 3, (struct ty_net_options){ 0 });
    small = intrude(&d[0], TY_NET_LANES);
    data = intrude(&d[0], 1);
    close(data);
    await(&d[0], &d[0].lost[1], 1);
    assert_non_null(strstr(d[0].why, "broke"));
    close(small);
    close_world(d, 3);
}

#ifdef TY_FAULTS
/* An established lane that fails makes the rank lost. */
static void lose_by(const char *point, int visit)
{
    struct node d[2];
    unsigned char b;
    size_t len;

    open_world(d, 2, (struct ty_net_options){ 0 });
    assert_int_equal(ty_net_post(d[0].net, 1, 1, "x", 1), 0);
    take(&d[1], 0, 1, &b, 1, &len);
    ty_fault_arm(point, visit, ECONNRESET);
    ty_net_post(d[0].net, 1, 2, "x", 1);
    await(&d[0], &d[0].lost[1], 1);
    ty_fault_arm(NULL, 0, 0);
    close_world(d, 2);
}

static void test_faults_that_lose(void **state)
{
    (void)state;
    lose_by("net.send", 1);
    lose_by("net.recv", 1);
    lose_by("net.letter", 1);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_cut_network),
        cmocka_unit_test(test_goodbye_is_no_loss),
        cmocka_unit_test(test_goodbye_to_who_is_blocked),
        cmocka_unit_test(test_goodbye_on_a_lane_that_opens),
        cmocka_unit_test(test_garbage_from_a_rank),
        cmocka_unit_test(test_broken_data_lane),
#ifdef TY_FAULTS
        cmocka_unit_test(test_faults_that_lose),
#endif
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
