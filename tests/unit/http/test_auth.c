/* test_auth.c - who may ask */
#include "base/cleanup.h"
#include "base/conf.h"
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

static char name[64]; /* of who asked last */

static int check(bool known, uid_t uid, struct ty_user *who, struct ty_error *err)
{
    static struct ty_http h = { .user = "ann" };
    struct peer p = { .known = known, .uid = uid };
    struct request req = { .http = &h, .peer = &p };
    int r = auth_check(&req, "GET", NULL);

    *who = req.who;
    *err = req.err;
    snprintf(name, sizeof name, "%s", r == 0 ? req.who.name : "");
    auth_done(&h);
    return r;
}

static void test_check(void **state)
{
    char own[64];
    struct ty_user who = { 0 };
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(check(true, geteuid(), &who, &err), 0);
    auth_user_name(geteuid(), own, sizeof own);
    assert_string_equal(name, own);
    assert_int_equal(check(true, 0, &who, &err), 0);
    assert_int_equal(who.uid, 0);
    assert_int_equal(check(true, geteuid() + 1, &who, &err), -EACCES);
    assert_non_null(strstr(err.text, "serves user 'ann'"));
    assert_int_equal(check(false, geteuid(), &who, &err), -EACCES);
}

static void test_user_name(void **state)
{

    (void)state;
    auth_user_name(0, name, sizeof name);
    assert_string_equal(name, "root");
    auth_user_name(3999999999u, name, sizeof name);
    assert_string_equal(name, "3999999999");
}

/* A request of `name` for one run, to a daemon of the whole machine. */
static int may_ask(struct kit *k, const char *who_asks, uid_t uid, const char *method,
                   const char *path, struct ty_error *err)
{
    struct ty_http h = { .o = { .system = true, .store = k->store, .conf = k->conf } };
    CLEANUP_FREE char *text = strdup(path);
    struct request req = { .http = &h, .who = { .uid = uid, .name = who_asks } };
    int r;

    assert_int_equal(ty_route_find(method, text, &req.match), 0);
    req.args = (const char **)req.match.args;
    r = auth_may(&req);
    *err = req.err;
    return r;
}

static void test_system(void **state)
{
    struct kit *k = *state;
    struct ty_error err;

    kit_run(k, "r1"); /* ann's */
    assert_int_equal(may_ask(k, "ann", 1000, "GET", "/api/v1/runs/r1", &err), 0);
    assert_int_equal(may_ask(k, "ann", 1000, "POST", "/api/v1/runs/r1/cancel", &err), 0);
    assert_int_equal(may_ask(k, "root", 0, "DELETE", "/api/v1/runs/r1", &err), 0);
    assert_int_equal(may_ask(k, "bob", 1001, "GET", "/api/v1/runs/r1/follow", &err), -EACCES);
    assert_non_null(strstr(err.text, "belongs to user 'ann'"));
    assert_int_equal(may_ask(k, "bob", 1001, "PUT", "/api/v1/runs/r1/files/a", &err), -EACCES);
    assert_int_equal(may_ask(k, "bob", 1001, "GET", "/api/v1/runs/none", &err), 0);
    assert_int_equal(may_ask(k, "bob", 1001, "GET", "/api/v1/queue", &err), 0);
    assert_int_equal(may_ask(k, "bob", 1001, "PATCH", "/api/v1/queue", &err), -EACCES);
    assert_int_equal(may_ask(k, "bob", 1001, "POST", "/api/v1/shutdown", &err), -EACCES);
    assert_non_null(strstr(err.text, "only an administrator"));
}

static void test_system_shared(void **state)
{
    struct kit *k = *state;
    struct ty_error err;

    kit_run(k, "r1");
    assert_int_equal(ty_conf_set(k->conf, "system.shared", "true", "test", &err), 0);
    assert_int_equal(may_ask(k, "bob", 1001, "GET", "/api/v1/runs/r1/metrics", &err), 0);
    assert_int_equal(may_ask(k, "bob", 1001, "PATCH", "/api/v1/runs/r1/tags", &err), -EACCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer), cmocka_unit_test(test_check), cmocka_unit_test(test_user_name),
        cmocka_unit_test_setup_teardown(test_system, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_system_shared, kit_open, kit_close)
    };

    return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
