/* test_server.c - connections: many requests on one, clients that go away, stopping with
 * everything open */
#include "http/request.h"
#include "kit.h"
#include <string.h>

#define SPEC "{\"version\":1,\"display_name\":\"first_1\"}"

static struct client *submit(struct kit *k)
{
    struct client *c = client_open(k);

    client_sendf(
        c,
        "POST /api/v1/experiments/first/runs HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n" SPEC,
        strlen(SPEC));
    return c;
}

static bool has_request(void *ctx)
{
    return ((struct kit *)ctx)->http->requests != NULL;
}

static bool is_held(void *ctx)
{
    return ((struct kit *)ctx)->sched.nheld > 0;
}

static void test_keep_alive(void **state)
{
    struct client *c = client_open(*state);

    for (int i = 0; i < 50; i++) {
        ty_str_done(&c->in);
        client_sendf(c, "GET /api/v1/runs HTTP/1.1\r\nHost: x\r\n\r\n");
        client_until(c, "\"next\":null}");
    }
    assert_false(c->eof);
    client_close(c);
}

static void test_pipelined(void **state)
{
    struct client *c = client_open(*state);

    client_sendf(
        c,
        "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
    client_until(c, "there is nothing");
    client_until(c, "\"db_bytes\"");
    client_close(c);
}

/* The reply to a change comes when it is stored, and other requests are served meanwhile. */
static void test_held_until_stored(void **state)
{
    struct kit *k = *state;
    struct client *c;

    k->sched.hold = true;
    c = submit(k);
    kit_until(k, is_held, k);
    expect(k, "GET", "/api/v1/status", NULL, 200, "free_bytes");
    assert_int_equal(c->in.len, 0);
    fake_release(&k->sched);
    client_until(c, "201 Created");
    client_until(c, "\"first_1\"");
    client_close(c);
}

static void test_client_goes_away_while_held(void **state)
{
    struct kit *k = *state;
    struct client *c;

    k->sched.hold = true;
    c = submit(k);
    kit_until(k, is_held, k);
    client_close(c);
    expect(k, "GET", "/api/v1/status", NULL, 200, "free_bytes");
    fake_release(&k->sched);
    expect(k, "GET", "/api/v1/runs/first_1", NULL, 200, "first_1");
}

static void test_shutdown(void **state)
{
    struct kit *k = *state;
    struct client *idle = client_open(k), *follower, *stopper;

    kit_run(k, "other_1");
    client_sendf(idle, "GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
    client_until(idle, "free_bytes");
    follower = client_open(k);
    client_sendf(follower, "GET /api/v1/runs/other_1/follow HTTP/1.1\r\nHost: x\r\n\r\n");
    client_until(follower, "Starting");
    stopper = client_open(k);
    client_sendf(stopper, "POST /api/v1/shutdown HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    client_until(stopper, "HTTP/1.1 204 ");
    client_eof(stopper);
    client_eof(idle);
    client_eof(follower);
    assert_true(k->stopped);
    assert_null(strstr(follower->in.text, "event: end"));
    client_close(idle);
    client_close(follower);
    client_close(stopper);
}

/* What was queued when the daemon stops is stored, and its client is told. */
static void test_stop_answers_what_is_stored(void **state)
{
    struct kit *k = *state;
    struct client *c;

    k->sched.hold = true;
    c = submit(k);
    kit_until(k, is_held, k);
    k->sched.hold = false;
    ty_http_stop(k->http);
    fake_release(&k->sched);
    kit_stop(k);
    client_eof(c);
    assert_non_null(strstr(c->in.text, "201 Created"));
    client_close(c);
}

/* The body of a request comes when the store is closed already. */
static void test_stop_with_a_request_half_sent(void **state)
{
    struct kit *k = *state;
    struct client *c = client_open(k);

    client_sendf(
        c,
        "POST /api/v1/experiments/first/runs HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%.5s",
        strlen(SPEC), SPEC);
    kit_until(k, has_request, k);
    client_send(c, SPEC + 5, strlen(SPEC) - 5);
    ty_http_stop(k->http);
    k->sched.store = NULL; /* whoever uses it now crashes */
    kit_stop(k);
    client_eof(c);
    if (c->in.len > 0)
        assert_non_null(strstr(c->in.text, "the daemon is stopping"));
    client_close(c);
}

/* A request that nobody answers any more does not keep the daemon from ending, and its late
 * answer harms nobody. */
static int close_with_held(void **state)
{
    struct kit *k = *state;
    struct ty_sched late = k->sched;
    int r = kit_close(state);

    fake_release(&late);
    return r;
}

static void test_stop_with_a_held_request(void **state)
{
    struct kit *k = *state;
    struct client *c;

    k->sched.hold = true;
    c = submit(k);
    kit_until(k, is_held, k);
    kit_stop(k);
    client_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keep_alive, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_pipelined, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_held_until_stored, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_client_goes_away_while_held, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_shutdown, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_stop_answers_what_is_stored, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_stop_with_a_request_half_sent, kit_open, kit_close),
        cmocka_unit_test_setup_teardown(test_stop_with_a_held_request, kit_open, close_with_held),
    };

    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
