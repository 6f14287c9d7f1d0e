/* test_routes.c - finding routes, and building paths that are found again */
#include "base/fault.h"
#include "base/str.h"
#include "core/routes.h"
#include "tests.h"

static int find(const char *method, const char *path, char copy[256], struct ty_route_match *m)
{
    snprintf(copy, 256, "%s", path);
    return ty_route_find(method, copy, m);
}

static int braces(const char *path)
{
    int n = 0;

    for (; *path; path++)
        n += *path == '{';
    return n;
}

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < TY_ROUTE_COUNT; i++) {
        const struct ty_route *r = &ty_routes[i];
        const char *rest = strstr(r->path, "+}");

        assert_true(braces(r->path) <= TY_ROUTE_ARGS_MAX);
        assert_true(r->path[0] == '/' && r->name[0] && r->summary[0]);
        assert_in_range(r->role, TY_ROLE_READER, TY_ROLE_OWNER);
        assert_true(strcmp(r->method, "GET") != 0 || r->in == TY_SCHEMA_NONE);
        assert_true(strcmp(r->method, "GET") == 0 || r->role != TY_ROLE_READER);
        assert_true(!rest || rest[2] == '\0');
        for (int k = 0; k < i; k++)
            assert_true(strcmp(r->method, ty_routes[k].method) != 0 ||
                        strcmp(r->path, ty_routes[k].path) != 0);
    }
    assert_string_equal(ty_schema_name(TY_SCHEMA_NONE), "none");
    assert_string_equal(ty_schema_name(TY_SCHEMA_RUN_SPEC), "run_spec");
    assert_string_equal(ty_schema_name(TY_SCHEMA_DATASTORE), "datastore");
}

/* Every route's path, built from names that need every care, leads back to the route and the names. */
static void test_there_and_back(void **state)
{
    static const char *const args[] = { "a b%/\xc3\xa4", "x/y z?#&+", NULL };
    static const char *const plain[] = { "a b%\xc3\xa4?", "x/y z?#&+", NULL };
    static const char *const segments[] = { "a b%\xc3\xa4?", "x y?#&+", NULL };

    (void)state;
    for (int i = 0; i < TY_ROUTE_COUNT; i++) {
        int n = braces(ty_routes[i].path);
        bool rest_only = n == 1 && strstr(ty_routes[i].path, "+}");
        const char *const *given = rest_only                         ? plain + 1
                                   : strstr(ty_routes[i].path, "+}") ? plain
                                                                     : segments;
        char *path = ty_route_path((enum ty_route_id)i, given);
        struct ty_route_match m;

        assert_non_null(path);
        assert_null(strpbrk(path, " ?#{}"));
        assert_int_equal(ty_route_find(ty_routes[i].method, path, &m), 0);
        assert_int_equal(m.route, i);
        assert_int_equal(m.nargs, n);
        for (int k = 0; k < n; k++)
            assert_string_equal(m.args[k], given[k]);
        free(path);
    }
    char *path = ty_route_path(TY_ROUTE_run_get, args);
    struct ty_route_match m;

    assert_string_equal(path, "/api/v1/runs/a%20b%25%2F%C3%A4");
    assert_int_equal(ty_route_find("GET", path, &m), -EINVAL);
    free(path);
}

static void test_found(void **state)
{
    struct ty_route_match m;
    char copy[256];

    (void)state;
    assert_int_equal(find("GET", "/api/v1/runs", copy, &m), 0);
    assert_int_equal(m.route, TY_ROUTE_run_list);
    assert_int_equal(m.nargs, 0);
    assert_int_equal(find("POST", "/api/v1/experiments/first/runs", copy, &m), 0);
    assert_int_equal(m.route, TY_ROUTE_run_submit);
    assert_string_equal(m.args[0], "first");
    assert_int_equal(find("GET", "/api/v1/runs/r%31/files/outputs/a%20b//c", copy, &m), 0);
    assert_int_equal(m.route, TY_ROUTE_file_get);
    assert_string_equal(m.args[0], "r1");
    assert_string_equal(m.args[1], "outputs/a b//c");
    assert_int_equal(find("GET", "/api/v1/runs/r/files/a%2Fb", copy, &m), 0);
    assert_string_equal(m.args[1], "a/b");
    assert_int_equal(find("DELETE", "/api/v1/runs/files", copy, &m), 0);
    assert_int_equal(m.route, TY_ROUTE_run_delete);
    assert_string_equal(m.args[0], "files");
}

static void test_not_found(void **state)
{
    static const struct {
        const char *method, *path;
        int r;
    } bad[] = {
        { "GET", "", -ENOENT },
        { "GET", "/pages", -ENOENT },
        { "GET", "api/v1/runs", -ENOENT },
        { "GET", "/api/v1", -ENOENT },
        { "GET", "/api/v1/runs/", -ENOENT },
        { "GET", "/api/v1/runsx", -ENOENT },
        { "GET", "/api/v1/run", -ENOENT },
        { "GET", "//api/v1/runs", -ENOENT },
        { "GET", "/api/v1/runs/r/", -ENOENT },
        { "GET", "/api/v1/runs//files", -ENOENT },
        { "GET", "/api/v1/runs/r/files/", -ENOENT },
        { "GET", "/api/v1/runs/r/s", -ENOENT },
        { "GET", "/api/v1/runs/{run}/nothing", -ENOENT },
        { "GET", "/API/v1/runs", -ENOENT },
        { "POST", "/api/v1/runs", -ENOTSUP },
        { "get", "/api/v1/runs", -ENOTSUP },
        { "", "/api/v1/runs", -ENOTSUP },
        { "HEAD", "/api/v1/runs", -ENOTSUP },
        { "GET", "/api/v1/runs/r/cancel", -ENOTSUP },
        { "GET", "/api/v1/runs/a%2Fb", -EINVAL },
        { "GET", "/api/v1/runs/%", -EINVAL },
        { "GET", "/api/v1/runs/%4", -EINVAL },
        { "GET", "/api/v1/runs/%zz", -EINVAL },
        { "GET", "/api/v1/runs/a%00b", -EINVAL },
        { "GET", "/api/v1/runs/r/files/a%00", -EINVAL },
        { "GET", "/api/v1/runs/%2F/files/a", -EINVAL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ty_route_match m = { .route = TY_ROUTE_INVALID, .nargs = 77 };
        char copy[256];
        int r = find(bad[i].method, bad[i].path, copy, &m);

        if (r != bad[i].r)
            fail_msg("%s %s: %d", bad[i].method, bad[i].path, r);
        assert_int_equal(m.route, TY_ROUTE_INVALID);
        assert_int_equal(m.nargs, 77);
        if (r != -EINVAL)
            assert_string_equal(copy, bad[i].path);
    }
}

/* Paths made of pieces of routes and of what breaks them; what is found lies inside the path. */
static void test_random(void **state)
{
    static const char *const pieces[] = {
        "/", "/api/v1", "/runs", "/files", "/datastores", "/targets", "/experiments",
        "x", "%41",     "%2f",   "%00",    "%",           "..",       "{",
        "}", "+}",      "\xff",  "/r",     "/cancel",     "/tags"
    };
    static const char *const methods[] = { "GET", "PUT", "POST", "DELETE", "PATCH" };
    uint64_t seed = 3;
    int found = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct ty_route_match m;
        char path[128] = "/api/v1";
        size_t n = 7;
        int r;

        for (uint32_t k = tests_random(&seed) % 6; k > 0; k--) {
            const char *piece = pieces[tests_random(&seed) % (sizeof pieces / sizeof *pieces)];

            memcpy(path + n, piece, strlen(piece) + 1);
            n += strlen(piece);
        }
        r = ty_route_find(methods[tests_random(&seed) % 5], path, &m);
        assert_true(r == 0 || r == -ENOENT || r == -ENOTSUP || r == -EINVAL);
        for (int k = 0; r == 0 && k < m.nargs; k++) {
            bool rest = k == m.nargs - 1 && strstr(ty_routes[m.route].path, "+}");

            assert_true(m.args[k] > path && m.args[k] + strlen(m.args[k]) <= path + n);
            assert_true(rest || !strchr(m.args[k], '/'));
        }
        found += r == 0;
    }
    assert_in_range(found, 1000, 90000);
}

#ifdef TY_FAULTS
static void test_out_of_memory(void **state)
{
    static const char *const args[] = { "r", NULL };

    (void)state;
    ty_fault_arm("str.alloc", 1, ENOMEM);
    assert_null(ty_route_path(TY_ROUTE_run_get, args));
    ty_fault_arm(NULL, 0, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),         cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_found),         cmocka_unit_test(test_not_found),
        cmocka_unit_test(test_random),
#ifdef TY_FAULTS
        cmocka_unit_test(test_out_of_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
