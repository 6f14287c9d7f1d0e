/* test_link_ends.c - a gate, callers and strangers on this box */
#include "base/clock.h"
#include "base/error.h"
#include "base/link_ends.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US (20 * 1000 * 1000)
#define MANY 300

static const unsigned char key[TY_LINK_KEY] = { 9 }, other_key[TY_LINK_KEY] = { 8 };
static char *here[] = { (char *)"127.0.0.1", NULL };

static struct ty_gate *gate(void)
{
    struct ty_gate *g = NULL;
    struct ty_error err = { 0 };

    if (ty_gate_open(key, &g, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(ty_gate_port(g) > 0);
    return g;
}

static struct ty_call *call(char *const *to, int port, const unsigned char k[TY_LINK_KEY])
{
    struct ty_call *c = NULL;

    assert_int_equal(ty_call_new(to, port, k, &c), 0);
    return c;
}

/* Both sides until the call is answered or has failed: what it says.  *got: the gate's end, if any. */
static int meet(struct ty_gate *g, struct ty_call *c, struct ty_link **ret, struct ty_link **got)
{
    int64_t end = ty_mono_us() + PATIENCE_US;
    int r = -EAGAIN;

    *got = NULL;
    while ((r == -EAGAIN || (r == 0 && !*got)) && ty_mono_us() < end) {
        struct pollfd p[] = { { .fd = g ? ty_gate_fd(g) : -1, .events = POLLIN },
                              { .fd = ty_call_fd(c), .events = POLLIN } };

        if (g && !*got)
            *got = ty_gate_next(g, ty_mono_us());
        if (r == -EAGAIN)
            r = ty_call_turn(c, ty_mono_us(), ret);
        poll(p, 2, 10);
    }
    return r;
}

static void addresses(void **state)
{
    char **list, name[IF_NAMESIZE];
    struct ty_error err;
    int r = ty_link_addresses(&list, &err);

    (void)state;
    if (r == -ENODEV)
        skip();
    assert_int_equal(r, 0);
    assert_non_null(list[0]);
    assert_int_equal(ty_link_interface(list[0], name), 0);
    assert_true(*name);
    assert_int_equal(ty_link_interface("192.0.2.77", name), -ENODEV);
    if (list[1]) /* there is more than loopback */
        assert_string_not_equal(list[0], "127.0.0.1");
    ty_link_addresses_free(list);
}

static void meets(void **state)
{
    struct ty_gate *g = gate();
    struct ty_call *c = call(here, ty_gate_port(g), key);
    struct ty_link *a = NULL, *b;
    char buf[8], text[TY_LINK_ADDRESS_TEXT];

    (void)state;
    assert_int_equal(meet(g, c, &a, &b), 0);
    assert_non_null(b);
    assert_int_equal(ty_link_send(a, "hi", 2), 2);
    for (int i = 0; i < 1000 && ty_link_recv(b, buf, sizeof buf) != 2; i++)
        poll(NULL, 0, 1);
    assert_memory_equal(buf, "hi", 2);
    assert_int_equal(ty_link_local(b, text), 0);
    assert_string_equal(text, "127.0.0.1"); /* as a caller names it, also on an IPv6 socket */
    ty_link_free(a);
    ty_link_free(b);
    ty_call_free(c);
    ty_gate_free(g);
}

static void refused(void **state)
{
    struct ty_gate *g = gate();
    struct ty_call *c = call(here, ty_gate_port(g), key);
    struct ty_link *a = NULL, *b;

    (void)state;
    ty_gate_free(g);
    assert_int_equal(meet(NULL, c, &a, &b), -ECONNREFUSED);
    assert_int_equal(meet(NULL, c, &a, &b), -ECONNREFUSED); /* it begins anew */
    ty_call_free(c);
}

static void wrong_key(void **state)
{
    struct ty_gate *g = gate();
    struct ty_call *c = call(here, ty_gate_port(g), other_key);
    struct ty_link *a = NULL, *b;

    (void)state;
    assert_int_equal(meet(g, c, &a, &b), -EACCES);
    assert_null(b);
    ty_call_free(c);
    ty_gate_free(g);
}

/* One who listens and never speaks, at another address of this box but the same port. */
static int mute(int port, const char *address)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    inet_pton(AF_INET, address, &a.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 8) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The first address leads to somebody else, who says nothing; the second is wrong; the third is the one, and the first to be
 * tried from then on. */
static void finds_the_address(void **state)
{
    static char *const list[] = { (char *)"127.0.0.2", (char *)"no address", (char *)"127.0.0.3",
                                  (char *)"127.0.0.1", NULL };
    int port = 0, other, fd;
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t n = sizeof a;
    struct ty_link *l = NULL, *far = NULL;
    struct ty_call *c;
    int64_t now = 1;
    int r = -EAGAIN;

    (void)state;
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    port = ntohs(a.sin_port);
    other = mute(port, "127.0.0.2");
    assert_true(other >= 0);
    c = call(list, port, key);
    for (int i = 0; i < 2000 && r == -EAGAIN; i++) {
        int in = far ? -1 : accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (in >= 0)
            far = ty_link_new(in, true, key, now);
        if (far)
            assert_int_equal(ty_link_turn(far, now), 0);
        r = ty_call_turn(c, now, &l);
        now += 10 * 1000; /* the call's own clock */
        poll(NULL, 0, 1);
    }
    assert_int_equal(r, 0);
    assert_true(now > TY_CALL_NEXT_US);
    ty_link_free(l);
    ty_link_free(far);
    close(fd);
    /* Now nobody is there: of the four it is the one that had answered whose failure counts. */
    close(other);
    r = -EAGAIN;
    for (int i = 0; i < 2000 && r == -EAGAIN; i++, now += 10 * 1000) {
        r = ty_call_turn(c, now, &l);
        poll(NULL, 0, 1);
    }
    assert_int_equal(r, -ECONNREFUSED);
    ty_call_free(c);
}

static int stranger(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static bool is_closed(int fd)
{
    char buf[256];
    ssize_t n;

    while ((n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
        ;
    return n == 0 || errno == ECONNRESET;
}

/* More strangers than there is room for: the oldest go, and one who has the key comes in all the same. */
static void crowds(void **state)
{
    struct ty_gate *g = gate();
    struct ty_call *c = call(here, ty_gate_port(g), key);
    struct ty_link *a = NULL, *b;
    int fd[MANY], closed = 0;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        fd[i] = stranger(ty_gate_port(g));
        assert_null(ty_gate_next(g, ty_mono_us()));
    }
    assert_int_equal(meet(g, c, &a, &b), 0);
    for (int i = 0; i < MANY; i++)
        closed += is_closed(fd[i]);
    assert_true(closed >= MANY - TY_GATE_STRANGERS_MAX);
    assert_true(closed <= MANY - TY_GATE_STRANGERS_MAX + 1);
    assert_true(ty_gate_due(g) < INT64_MAX);
    assert_null(ty_gate_next(g, ty_mono_us() + 2 * TY_LINK_HANDSHAKE_US)); /* time is over */
    assert_int_equal(ty_gate_due(g), INT64_MAX);
    for (int i = 0; i < MANY; i++) {
        assert_true(is_closed(fd[i]));
        close(fd[i]);
    }
    ty_link_free(a);
    ty_link_free(b);
    ty_call_free(c);
    ty_gate_free(g);
}

static void many_at_once(void **state)
{
    struct ty_gate *g = gate();
    static struct ty_call *c[MANY];
    static struct ty_link *a[MANY], *b[MANY];
    int64_t end = ty_mono_us() + PATIENCE_US;
    int done = 0, came = 0;

    (void)state;
    for (int i = 0; i < MANY; i++)
        c[i] = call(here, ty_gate_port(g), key);
    while ((done < MANY || came < MANY) && ty_mono_us() < end) {
        struct ty_link *l;

        for (int i = 0; i < MANY; i++)
            if (!a[i] && ty_call_turn(c[i], ty_mono_us(), &a[i]) == 0)
                done++;
        while ((l = ty_gate_next(g, ty_mono_us()))) {
            if (came < MANY)
                b[came++] = l;
            else
                ty_link_free(l);
        }
    }
    assert_int_equal(done, MANY);
    assert_int_equal(came, MANY);
    for (int i = 0; i < MANY; i++) {
        ty_link_free(a[i]);
        ty_link_free(b[i]);
        ty_call_free(c[i]);
    }
    ty_gate_free(g);
}

/* Without descriptors the gate waits, and goes on when there are some. */
static void descriptors_run_out(void **state)
{
    struct ty_gate *g = gate();
    struct ty_call *c = call(here, ty_gate_port(g), key);
    struct ty_link *a = NULL, *b = NULL;
    struct rlimit was, few;
    int fd = stranger(ty_gate_port(g)), next = dup(fd);
    struct pollfd p = { .fd = ty_gate_fd(g), .events = POLLIN };

    (void)state;
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = was;
    few.rlim_cur = (rlim_t)next + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_null(ty_gate_next(g, 1000));
    assert_true(ty_gate_due(g) < INT64_MAX);
    assert_int_equal(poll(&p, 1, 0), 0); /* it does not spin */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(meet(g, c, &a, &b), 0);
    close(fd);
    close(next);
    ty_link_free(a);
    ty_link_free(b);
    ty_call_free(c);
    ty_gate_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),         cmocka_unit_test(meets),
        cmocka_unit_test(refused),           cmocka_unit_test(wrong_key),
        cmocka_unit_test(finds_the_address), cmocka_unit_test(crowds),
        cmocka_unit_test(many_at_once),      cmocka_unit_test(descriptors_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
