/* test_stubs.c - every route has a stub that asks for its method and path */
#include "base/error.h"
#include "client/stubs.h"
#include "fake.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef int (*stub_f)(struct ty_client *c, const struct ty_call *call, struct ty_reply *reply,
                      struct ty_error *err);
#define X(m, p, r, h, i, o, s) ty_client_##h,
static const stub_f stubs[TY_ROUTE_COUNT] = { TY_ROUTES(X) };
#undef X

static void test_every_stub(void **state)
{
    struct fake_answer answers[] = { { .match = "", .raw = fake_json("{}") }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client_options o = { .home = fake_home(f), .no_start = true };
    struct ty_client *c = NULL;
    int i;

    (void)state;
    assert_int_equal(ty_client_open(&o, &c, NULL), 0);
    for (i = 0; i < TY_ROUTE_COUNT; i++) {
        struct ty_call call = { .args = { "one", "two/2" } };
        char expect[160], got[160];
        const char *brace = strchr(ty_routes[i].path, '{');
        const char *rest = brace ? strchr(brace, '}') + 1 : "";

        assert_int_equal(stubs[i](c, &call, NULL, NULL), 0);
        snprintf(got, sizeof got, "%.*s", (int)strcspn(fake_head(f, i), "\r"), fake_head(f, i));
        if (strchr(rest, '{') && !strstr(rest, "/{path+}"))
            snprintf(expect, sizeof expect, "%s %.*sone%.*stwo%%2F2 HTTP/1.1", ty_routes[i].method,
                     (int)(brace - ty_routes[i].path), ty_routes[i].path,
                     (int)(strchr(rest, '{') - rest), rest);
        else if (strstr(rest, "/{path+}"))
            snprintf(expect, sizeof expect, "%s %.*sone%.*stwo/2 HTTP/1.1", ty_routes[i].method,
                     (int)(brace - ty_routes[i].path), ty_routes[i].path,
                     (int)(strchr(rest, '{') - rest), rest);
        else
            snprintf(expect, sizeof expect, "%s %.*s%s%s HTTP/1.1", ty_routes[i].method,
                     brace ? (int)(brace - ty_routes[i].path) : 200, ty_routes[i].path,
                     brace ? "one" : "", rest);
        assert_string_equal(got, expect);
    }
    ty_client_free(c);
    fake_stop(f);
}

static void test_missing_name(void **state)
{
    struct fake_answer answers[] = { { .match = "", .raw = fake_json("{}") }, { 0 } };
    struct fake *f = fake_start(answers);
    struct ty_client_options o = { .home = fake_home(f), .no_start = true };
    struct ty_call call = { .args = { "r", "" } };
    struct ty_client *c = NULL;
    struct ty_error err = { 0 };

    (void)state;
    assert_int_equal(ty_client_open(&o, &c, NULL), 0);
    assert_int_equal(ty_client_file_get(c, &call, NULL, &err), -EINVAL);
    assert_string_equal(err.text, "the name of the path is empty");
    call.args[0] = "";
    assert_int_equal(ty_client_target_put(c, &call, NULL, &err), -EINVAL);
    assert_string_equal(err.text, "the name of the target is empty");
    assert_int_equal(fake_count(f), 0);
    ty_client_free(c);
    fake_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_stub),
                                        cmocka_unit_test(test_missing_name) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
