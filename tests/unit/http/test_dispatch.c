/* test_dispatch.c - what is refused before a handler is called */
#include "kit.h"
#include <string.h>

static void test_no_such_path(void **state)
{
    expect(*state, "GET", "/pages", NULL, 404, "there is nothing at '/pages'");
    expect(*state, "GET", "/api/v1/nothing", NULL, 404, "/openapi.json lists");
    expect(*state, "GET", "/api/v1/runs/a%2", NULL, 400, "bad percent-escape");
    expect(*state, "GET", "/api/v1/runs/%ff", NULL, 400, "not UTF-8");
    expect(*state, "GET", "/api/v1/targets/a%2fb", NULL, 400,
           "'a/b' cannot be a name: no name has a '/'");
}

static void test_wrong_method(void **state)
{
    struct answer a = ask(*state, "DELETE", "/api/v1/status", NULL, NULL, 0);
    char allow[64];

    assert_int_equal(a.status, 405);
    assert_string_equal(header_of(&a, "Allow", allow, sizeof allow), "GET, HEAD");
    answer_done(&a);
    a = ask(*state, "POST", "/api/v1/targets/x", NULL, "{}", 2);
    assert_int_equal(a.status, 405);
    assert_string_equal(header_of(&a, "Allow", allow, sizeof allow), "GET, HEAD, PUT, DELETE");
    answer_done(&a);
    expect(*state, "BREW", "/api/v1/status", NULL, 405, "has no method BREW; it has GET, HEAD");
}

static void test_version(void **state)
{
    struct answer a = ask(*state, "GET", "/api/v1/status", "Trainyard-Api: 2\r\n", NULL, 0);

    assert_int_equal(a.status, 426);
    check_schema("error", a.json);
    answer_done(&a);
    a = ask(*state, "GET", "/api/v1/status", "Trainyard-Api: 1\r\n", NULL, 0);
    assert_int_equal(a.status, 200);
    answer_done(&a);
}

static void test_headers_and_text(void **state)
{
    struct answer a =
        ask(*state, "GET", "/nowhere", "Accept: application/json, text/plain\r\n", NULL, 0);
    char value[64];

    assert_int_equal(a.status, 404);
    assert_string_equal(header_of(&a, "Content-Type", value, sizeof value),
                        "text/plain; charset=utf-8");
    assert_string_equal(a.body,
                        "there is nothing at '/nowhere'; /openapi.json lists what there is\n");
    assert_string_equal(header_of(&a, "Trainyard-Version", value, sizeof value), TY_VERSION);
    assert_string_equal(header_of(&a, "Trainyard-Api", value, sizeof value), "1");
    answer_done(&a);
}

static void test_head(void **state)
{
    struct answer a = ask(*state, "HEAD", "/api/v1/status", NULL, NULL, 0);
    char value[64];

    assert_int_equal(a.status, 200);
    assert_int_equal(a.len, 0);
    assert_non_null(header_of(&a, "Content-Length", value, sizeof value));
    assert_string_not_equal(value, "0");
    answer_done(&a);
}

static void test_unwanted(void **state)
{
    expect(*state, "POST", "/api/v1/gc", "{}", 400, "POST /api/v1/gc takes no body");
    expect(*state, "GET", "/api/v1/status?verbose=1", NULL, 400, "'verbose' is not known here");
}

/* Refused as soon as the head says how long it will be: the body is not even sent. */
static void test_announced_too_large(void **state)
{
    static const char *const heads[] = {
        "POST /api/v1/blobs/missing HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n",
        "PUT /api/v1/datastores/d/files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n",
    };
    static const char *const names[] = { "limits.request_bytes", "limits.upload_bytes" };

    for (int i = 0; i < 2; i++) {
        struct client *c = client_open(*state);

        client_sendf(c, "%s", heads[i]);
        client_eof(c);
        assert_non_null(strstr(c->in.text, "HTTP/1.1 413 "));
        assert_non_null(strstr(c->in.text, "\"code\":\"too_large\""));
        assert_non_null(strstr(c->in.text, names[i]));
        client_close(c);
    }
}

/* Without an announced length, reading stops where the limit is reached. */
static void test_grows_too_large(void **state)
{
    struct client *c = client_open(*state);
    char piece[1000];

    memset(piece, 'a', sizeof piece);
    client_sendf(
        c, "POST /api/v1/blobs/missing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 101; i++) {
        client_sendf(c, "3e8\r\n");
        client_send(c, piece, sizeof piece);
        client_sendf(c, "\r\n");
    }
    client_eof(c);
    assert_non_null(strstr(c->in.text, "HTTP/1.1 413 "));
    assert_non_null(strstr(c->in.text, "limits.request_bytes"));
    client_close(c);
}

/* A small body that is refused is read over, and the connection goes on. */
static void test_connection_survives_refusal(void **state)
{
    struct client *c = client_open(*state);

    client_sendf(
        c, "PATCH /api/v1/runs/x/tags?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    client_until(c, "'a' is not known here");
    client_sendf(c, "GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
    client_until(c, "\"free_bytes\"");
    assert_false(c->eof);
    client_close(c);
}

static void test_malformed(void **state)
{
    static const char *const bad[] = {
        "nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "POST /api/v1/blobs/missing HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct client *c = client_open(*state);

        client_sendf(c, "%s", bad[i]);
        client_eof(c);
        assert_true(!c->in.len || (strncmp(c->in.text, "HTTP/1.", 7) == 0 &&
                                   strstr(c->in.text, "200 OK") == NULL));
        client_close(c);
    }
    expect(*state, "GET", "/api/v1/runs", NULL, 200, "\"runs\":[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_such_path, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_wrong_method, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_version, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_headers_and_text, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_head, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_unwanted, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_announced_too_large, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_grows_too_large, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_connection_survives_refusal, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_malformed, kit_open, kit_close),
    };

    return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
