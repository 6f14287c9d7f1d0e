/* test_sse.c - events out of pieces that end anywhere */
#include "client/sse.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char stream[] = ":\n\n"
                             "id: 3:0\nevent: state\ndata: {\"state\": \"Running\"}\n\n"
                             "id: 3:5\r\nevent: log\r\ndata: {\"text\": \"h\xc3\xa9\"}\r\n\r\n"
                             "data: one\ndata: two\n\n"
                             "event: end\ndata:x\nid: 4:5\n\n"
                             "id: 9:9\nevent: log\ndata: half";
static const char told[] =
    "state={\"state\": \"Running\"};log={\"text\": \"h\xc3\xa9\"};message=one\ntwo;end=x;";

static int note(const char *event, const char *data, size_t n, void *ctx)
{
    char *all = ctx;

    snprintf(all + strlen(all), 512 - strlen(all), "%s=%.*s;", event, (int)n, data);
    return 0;
}

static void test_pieces_of_every_size(void **state)
{
    size_t size, at;

    (void)state;
    for (size = 1; size <= sizeof stream; size++) {
        struct ty_sse s = { 0 };
        char all[512] = "";

        for (at = 0; at < sizeof stream - 1; at += size) {
            size_t n = sizeof stream - 1 - at < size ? sizeof stream - 1 - at : size;

            assert_int_equal(ty_sse_feed(&s, stream + at, n, note, all), 0);
        }
        assert_string_equal(all, told);
        /* the half event is not told of, and its id is not resumed from */
        assert_string_equal(ty_sse_last_id(&s), "4:5");
        ty_sse_done(&s);
    }
}

static void test_restart_forgets_the_half_event(void **state)
{
    struct ty_sse s = { 0 };
    char all[512] = "";

    (void)state;
    assert_null(ty_sse_last_id(&s));
    assert_int_equal(ty_sse_feed(&s, stream, sizeof stream - 1, note, all), 0);
    ty_sse_restart(&s);
    all[0] = '\0';
    assert_int_equal(ty_sse_feed(&s, "data: new\n\n", 11, note, all), 0);
    assert_string_equal(all, "message=new;");
    assert_string_equal(ty_sse_last_id(&s), "4:5");
    ty_sse_done(&s);
}

static int stop(const char *event, const char *data, size_t n, void *ctx)
{
    (void)event;
    (void)data;
    (void)n;
    ++*(int *)ctx;
    return -EPIPE;
}

static void test_callback_stops(void **state)
{
    struct ty_sse s = { 0 };
    int calls = 0;

    (void)state;
    assert_int_equal(ty_sse_feed(&s, stream, sizeof stream - 1, stop, &calls), -EPIPE);
    assert_int_equal(calls, 1);
    assert_null(ty_sse_last_id(&s)); /* what was not taken comes again */
    ty_sse_done(&s);
}

static void test_an_event_has_a_limit(void **state)
{
    struct ty_sse s = { 0 };
    char *big = malloc(1 << 20);
    int i, r = 0;

    (void)state;
    memset(big, 'x', 1 << 20);
    for (i = 0; i < 32 && r == 0; i++)
        r = ty_sse_feed(&s, big, 1 << 20, note, NULL);
    assert_int_equal(r, -EFBIG);
    free(big);
    ty_sse_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_of_every_size),
        cmocka_unit_test(test_restart_forgets_the_half_event),
        cmocka_unit_test(test_callback_stops),
        cmocka_unit_test(test_an_event_has_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
