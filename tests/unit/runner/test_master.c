/* test_master.c - a port for the ranks to meet: free, and this job's alone */
#include "base/cleanup.h"
#include "core/launch_plan.h"
#include "runner/master.h"
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

static int listen_at(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Two jobs that begin at once do not choose the same, although neither listens yet. */
static void test_held(void **state)
{
    CLEANUP_CLOSE int first = -1, second = -1, third = -1, user = -1;
    int a = ty_master_claim(&first), b = ty_master_claim(&second), c;

    (void)state;
    assert_true(first >= 0 && second >= 0);
    assert_true(a >= TY_MASTER_PORT && b > a);
    user = listen_at(a); /* it is free for the job itself */
    assert_true(user >= 0);
    close(second);
    second = -1;
    c = ty_master_claim(&third);
    assert_int_equal(c, b);
}

/* A port that some program listens at is left out, also when nobody holds it. */
static void test_used(void **state)
{
    CLEANUP_CLOSE int first = -1, user = -1, second = -1;
    int a = ty_master_claim(&first);

    (void)state;
    user = listen_at(a);
    assert_true(user >= 0);
    close(first);
    first = -1;
    assert_int_not_equal(ty_master_claim(&second), a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_held), cmocka_unit_test(test_used) };

    return cmocka_run_group_tests_name("master", tests, NULL, NULL);
}
