/* test_auth.c - who may ask */
#include "base/error.h"
#include "http/request.h"
#include "kit.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_peer(void **state)
{
    uid_t uid = 12345;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(auth_peer(fds[0], &uid), 0);
    assert_int_equal(uid, geteuid());
    close(fds[0]);
    close(fds[1]);
    assert_true(auth_peer(-1, &uid) < 0);
    assert_int_equal(uid, geteuid());
}

static int check(bool known, uid_t uid, struct ty_user *who, struct ty_error *err)
{
    static struct ty_http h = { .user = "ann" };
    struct peer p = { .known = known, .uid = uid };
    struct request req = { .http = &h, .peer = &p };

    return auth_check(&req, who, err);
}

static void test_check(void **state)
{
    struct ty_user who = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(check(true, geteuid(), &who, &err), 0);
    assert_string_equal(who.name, "ann");
    assert_int_equal(check(true, 0, &who, &err), 0);
    assert_int_equal(who.uid, 0);
    assert_int_equal(check(true, geteuid() + 1, &who, &err), -EACCES);
    assert_non_null(strstr(err.text, "serves user 'ann'"));
    assert_int_equal(check(false, geteuid(), &who, &err), -EACCES);
}

static void test_user_name(void **state)
{
    char name[64];

    (void)state;
    auth_user_name(0, name, sizeof name);
    assert_string_equal(name, "root");
    auth_user_name(3999999999u, name, sizeof name);
    assert_string_equal(name, "3999999999");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_peer), cmocka_unit_test(test_check),
                                        cmocka_unit_test(test_user_name) };

    return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
