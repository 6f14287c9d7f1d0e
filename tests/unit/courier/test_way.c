/* What a courier does next: hosts that are ready, that fail, that are lost, and that are cleaned. */
#include "base/error.h"
#include "base/fs.h"
#include "kit.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char one[] = "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}]}";
static const char two[] =
    "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}, {\"host\": \"h2\"}]}";

static void text(struct kit *k, int i, enum ty_channel_type type, const char *body)
{
    ty_channel_send(&k->far[i], type, body, strlen(body));
    kit_turn(k);
}

/* The next frame that host `i` gets is of this type; PINGs are nothing. */
static json_t *gets(struct kit *k, int i, enum ty_channel_type type)
{
    struct ty_channel_frame f = { 0 };
    json_t *o = NULL;

    do
        assert_int_equal(ty_channel_next(&k->far[i], &f), 0);
    while (f.type == TY_CHANNEL_PING);
    assert_int_equal(f.type, type);
    return f.n && ty_channel_json(&f, &o) == 0 ? o : NULL;
}

static void gets_nothing(struct kit *k, int i)
{
    struct ty_channel_frame f;

    while (ty_channel_next(&k->far[i], &f) == 0)
        assert_int_equal(f.type, TY_CHANNEL_PING);
}

static void attach(struct kit *k, int i, const char *state)
{
    kit_connect(k, i);
    text(k, i, TY_CHANNEL_HELLO, "{\"version\": 1}");
    json_decref(gets(k, i, TY_CHANNEL_ATTACH));
    text(k, i, TY_CHANNEL_STATE, state);
}

static void is_verdict(const struct kit *k, const char *reason, const char *words)
{
    const char *message = json_string_value(json_object_get(k->c.verdict, "message"));

    assert_non_null(k->c.verdict);
    assert_string_equal(json_string_value(json_object_get(k->c.verdict, "reason")), reason);
    if (!strstr(message, words))
        fail_msg("no '%s' in: %s", words, message);
    assert_true(k->c.phase >= TY_COURIER_TELLING);
}

/* One host, and its runner at work. */
static void begin_running(struct kit *k)
{
    kit_begin(k, "/tmp", 1, one);
    attach(k, 0, "{\"job\": \"none\"}");
    json_decref(gets(k, 0, TY_CHANNEL_START));
    text(k, 0, TY_CHANNEL_STARTED, "{\"pid\": 7, \"notes\": []}");
    assert_int_equal(k->c.phase, TY_COURIER_RUNNING);
}

/* Nobody starts before all are ready, and other nodes only when the leader has said where it listens. */
static void test_two(void **state)
{
    struct kit k;
    json_t *o, *link;

    (void)state;
    kit_begin(&k, "/tmp", 2, two);
    attach(&k, 0, "{\"job\": \"none\"}");
    assert_int_equal(k.c.hosts[0].state, TY_HOST_READY);
    gets_nothing(&k, 0);
    assert_false(kit_has(&k, "started"));
    kit_connect(&k, 1);
    text(&k, 1, TY_CHANNEL_HELLO, "{\"version\": 1}");
    o = gets(&k, 1, TY_CHANNEL_ATTACH);
    assert_string_equal(json_string_value(json_object_get(o, "run")), "r_1.1");
    json_decref(o);
    text(&k, 1, TY_CHANNEL_STATE, "{\"job\": \"none\"}");
    o = gets(&k, 0, TY_CHANNEL_START);
    assert_string_equal(json_string_value(json_object_get(o, "verb")), "runner");
    assert_null(json_object_get(json_object_get(o, "job"), "target"));
    json_decref(o);
    assert_true(kit_has(&k, "started"));
    gets_nothing(&k, 1);
    text(&k, 0, TY_CHANNEL_STARTED, "{\"pid\": 7, \"notes\": [\"a note\", 7]}");
    gets_nothing(&k, 1);
    text(&k, 0, TY_CHANNEL_LINK, "7001 10.0.0.1 10.0.0.2");
    o = gets(&k, 1, TY_CHANNEL_START);
    assert_string_equal(json_string_value(json_object_get(o, "verb")), "node");
    link = json_object_get(json_object_get(o, "job"), "link");
    assert_int_equal(json_integer_value(json_object_get(link, "port")), 7001);
    assert_int_equal(json_array_size(json_object_get(link, "addresses")), 2);
    assert_int_equal(strlen(json_string_value(json_object_get(link, "key"))), 64);
    json_decref(o);
    kit_end(&k);
}

/* A connection that comes up and breaks before anything was brought is not tried for ever. */
static void test_fruitless(void **state)
{
    struct kit k;

    (void)state;
    kit_begin(&k, "/tmp", 1, one);
    for (int i = 0; i < 5; i++) {
        assert_null(k.c.verdict);
        kit_connect(&k, 0);
        text(&k, 0, TY_CHANNEL_HELLO, "{\"version\": 1}");
        ty_host_break(&k.c.hosts[0], "it is not heard any more");
    }
    is_verdict(&k, "prepare",
               "again and again before a file has come there (it is not heard any more)");
    kit_end(&k);
}

/* One that was ready, and waits for others, is. */
static void test_ready_breaks(void **state)
{
    struct kit k;

    (void)state;
    kit_begin(&k, "/tmp", 2, two);
    for (int i = 0; i < 9; i++) {
        attach(&k, 0, "{\"job\": \"none\"}");
        assert_int_equal(k.c.hosts[0].state, TY_HOST_READY);
        ty_host_break(&k.c.hosts[0], "it is not heard any more");
    }
    assert_null(k.c.verdict);
    kit_end(&k);
}

static void test_cannot(void **state)
{
    struct kit k;

    (void)state;
    kit_begin(&k, "/tmp", 2, two);
    attach(&k, 0, "{\"job\": \"none\"}");
    kit_connect(&k, 1);
    text(&k, 1, TY_CHANNEL_FAILED, "{\"message\": \"the disk is full\"}");
    is_verdict(&k, "prepare", "host 'h2': the disk is full");
    assert_string_equal(json_string_value(json_object_get(k.c.verdict, "node")), "h2");
    assert_false(kit_has(&k, "started"));
    kit_end(&k);
}

/* What is not understood, or not that host's to say, breaks its channel and does no harm. */
static void test_nonsense(void **state)
{
    static const struct {
        int host;
        enum ty_channel_type type;
        const char *body;
    } bad[] = {
        { 0, TY_CHANNEL_LINK, "" },
        { 0, TY_CHANNEL_LINK, "0 10.0.0.1" },
        { 0, TY_CHANNEL_LINK, "7001 \xff" },
        { 1, TY_CHANNEL_LINK, "7001 10.0.0.1" },
        { 1, TY_CHANNEL_OPEN, "\1\0\0\0" },
        { 1, TY_CHANNEL_CHUNK, "x" },
        { 0, TY_CHANNEL_CHUNK, "x" },
        { 0, TY_CHANNEL_MISSING, "" },
        { 0, TY_CHANNEL_STATE, "{\"job\": \"here\"}" },
        { 0, TY_CHANNEL_HELLO, "{\"version\": 1}" },
        { 0, TY_CHANNEL_STARTED, "[]" },
        { 0, TY_CHANNEL_ATTACH, "{}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kit k;

        kit_begin(&k, "/tmp", 2, two);
        attach(&k, 0, "{\"job\": \"none\"}");
        attach(&k, 1, "{\"job\": \"none\"}");
        text(&k, bad[i].host, bad[i].type, bad[i].body);
        if (k.c.hosts[bad[i].host].state != TY_HOST_DOWN)
            fail_msg("number %zu is taken", i);
        assert_non_null(strstr(k.c.hosts[bad[i].host].why, "not understood"));
        assert_null(k.c.link);
        assert_null(k.c.verdict);
        kit_end(&k);
    }
}

/* A file that vanished while the job was prepared ends it, once, and nothing goes round in circles. */
static void test_content(void **state)
{
    struct kit k;
    unsigned char sha[TY_CHANNEL_SHA];
    char hex[TY_SHA256_HEX + 1];
    json_t *o;

    (void)state;
    ty_sha256_hex("gone", 4, hex);
    ty_sha_to_bytes(hex, sha);
    kit_begin(&k, "/tmp", 1, one);
    k.c.content.items = calloc(1, sizeof *k.c.content.items);
    memcpy(k.c.content.items[0].sha, sha, sizeof sha);
    k.c.content.n = k.c.content.cap = 1;
    attach(&k, 0, "{\"job\": \"none\"}");
    gets(&k, 0, TY_CHANNEL_ASK);
    ty_channel_send(&k.far[0], TY_CHANNEL_MISSING, sha, sizeof sha);
    kit_turn(&k);
    is_verdict(&k, "prepare", "cannot read ");
    assert_int_equal(k.c.hosts[0].state, TY_HOST_READY);
    gets_nothing(&k, 0);
    ty_way_released(&k.c);
    kit_turn(&k);
    o = gets(&k, 0, TY_CHANNEL_CLEAN);
    assert_true(json_is_true(json_object_get(o, "kill")));
    json_decref(o);
    kit_end(&k);
}

/* The answer about content that comes behind the end of the job sends nothing. */
static void test_late_answer(void **state)
{
    struct kit k;
    unsigned char sha[TY_CHANNEL_SHA] = { 1 };

    (void)state;
    kit_begin(&k, "/tmp", 1, one);
    k.c.content.items = calloc(1, sizeof *k.c.content.items);
    memcpy(k.c.content.items[0].sha, sha, sizeof sha);
    k.c.content.n = k.c.content.cap = 1;
    attach(&k, 0, "{\"job\": \"none\"}");
    gets(&k, 0, TY_CHANNEL_ASK);
    ty_way_released(&k.c);
    kit_turn(&k);
    json_decref(gets(&k, 0, TY_CHANNEL_CLEAN));
    ty_channel_send(&k.far[0], TY_CHANNEL_MISSING, sha, sizeof sha);
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_CLEANING);
    assert_null(k.c.verdict);
    gets_nothing(&k, 0);
    kit_end(&k);
}

static void test_mpi(void **state)
{
    struct kit k;

    (void)state;
    kit_begin(&k, "/tmp", 2, two);
    k.c.spec->comm = TY_COMM_MPI;
    attach(&k, 0, "{\"job\": \"none\", \"openmpi\": \"4.1.4\"}");
    attach(&k, 1, "{\"job\": \"none\", \"openmpi\": \"5.0.1\"}");
    is_verdict(&k, "prepare", "version 4.1.4 on host 'h1' and version 5.0.1 on host 'h2'");
    assert_false(kit_has(&k, "started"));
    kit_end(&k);
}

static void test_cancel(void **state)
{
    struct kit k;

    (void)state;
    kit_begin(&k, "/tmp", 1, one);
    k.c.cancel = true;
    kit_turn(&k);
    is_verdict(&k, "cancel", "before it started");
    kit_end(&k);

    begin_running(&k);
    k.c.cancel = true;
    kit_turn(&k);
    gets(&k, 0, TY_CHANNEL_CANCEL);
    kit_turn(&k);
    gets_nothing(&k, 0);
    assert_null(k.c.verdict); /* the runner tells */
    kit_end(&k);
}

/* A runner that ends before its job is started again, and finds its folder; but not for ever. */
static void test_runner_ends(void **state)
{
    struct kit k;

    (void)state;
    begin_running(&k);
    text(&k, 0, TY_CHANNEL_ENDED, "{\"code\": 0}");
    gets_nothing(&k, 0);
    for (int i = 0; i < 3; i++) {
        text(&k, 0, TY_CHANNEL_ENDED, "{\"code\": 9}");
        json_decref(gets(&k, 0, TY_CHANNEL_RESUME));
        text(&k, 0, TY_CHANNEL_STARTED, "{\"pid\": 8}");
    }
    text(&k, 0, TY_CHANNEL_ENDED, "{\"code\": 9}");
    is_verdict(&k, "lost", "again and again (exit code 9)");
    kit_end(&k);
}

/* The next courier: the far end has the job, or it is lost. */
static void test_taken_up(void **state)
{
    struct kit k;

    (void)state;
    for (int here = 0; here < 2; here++) {
        CLEANUP_FREE char *mark = NULL;

        kit_begin(&k, "/tmp", 2, two);
        mark = ty_path_join(k.c.dir, "started");
        assert_int_equal(ty_write_file(mark, "", 0, 0600), 0);
        attach(&k, 0, here ? "{\"job\": \"here\"}" : "{\"job\": \"none\"}");
        if (here) { /* it does not wait for the other host */
            json_decref(gets(&k, 0, TY_CHANNEL_RESUME));
            assert_null(k.c.verdict);
        } else {
            is_verdict(&k, "lost", "host 'h1': the job's folder has vanished");
        }
        kit_end(&k);
    }
}

/* Let ssh try, until it has given up. */
static void try_once(struct kit *k)
{
    struct ty_courier_host *h = &k->c.hosts[0];
    int turns = 0;

    h->retry_us = k->c.now_us;
    do {
        struct pollfd p[4];
        int n;

        kit_turn(k);
        n = ty_host_poll(h, p);
        if (n)
            assert_true(poll(p, (nfds_t)n, 20000) > 0);
        assert_true(++turns < 1000);
    } while (h->state != TY_HOST_DOWN && !k->c.verdict);
}

/* A host counts as lost when it was not reached for so long, however often that was tried meanwhile. */
static void test_lost(void **state)
{
    struct kit k;
    int tries = 0;

    (void)state;
    kit_begin(&k, "/tmp", 1,
              "{\"kind\": \"hosts\", \"ssh_options\": [\"ProxyCommand=/bin/false\"], "
              "\"hosts\": [{\"host\": \"h1\"}]}");
    attach(&k, 0, "{\"job\": \"none\"}");
    json_decref(gets(&k, 0, TY_CHANNEL_START));
    text(&k, 0, TY_CHANNEL_STARTED, "{\"pid\": 7}");
    ty_flow_close(&k.far[0]);
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_DOWN);
    for (; tries < 20 && !k.c.verdict; tries++) {
        k.c.now_us += 8 * KIT_SECOND;
        try_once(&k);
    }
    is_verdict(&k, "node_lost", "host 'h1': it is not reached for 60 s: ");
    assert_int_equal(tries, 8); /* of 8 s each */
    kit_end(&k);
}

/* A shell that does not come on is given half a minute of its own, however long the host was away. */
static void test_slow_greeting(void **state)
{
    struct ty_courier_host *h;
    struct kit k;

    (void)state;
    kit_begin(
        &k, "/tmp", 1,
        "{\"kind\": \"hosts\", \"ssh_options\": [\"ProxyCommand=/bin/cat 3>&1 > /dev/null\"], "
        "\"hosts\": [{\"host\": \"h1\"}]}");
    h = &k.c.hosts[0];
    k.c.now_us += 50 * KIT_SECOND;
    h->retry_us = k.c.now_us;
    kit_turn(&k);
    kit_turn(&k);
    assert_int_equal(h->state, TY_HOST_GREETING);
    assert_int_equal(ty_host_due(h), k.c.now_us + 30 * KIT_SECOND);
    k.c.now_us += 29 * KIT_SECOND;
    kit_turn(&k);
    assert_int_equal(h->state, TY_HOST_GREETING);
    k.c.now_us += KIT_SECOND;
    kit_turn(&k);
    assert_int_equal(h->state, TY_HOST_DOWN);
    assert_non_null(strstr(h->why, "shell does not begin"));
    kit_end(&k);
}

/* What is heard in time, is not lost. */
static void test_heard_again(void **state)
{
    struct kit k;

    (void)state;
    begin_running(&k);
    ty_flow_close(&k.far[0]);
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_DOWN);
    k.c.hosts[0].retry_us = TY_NEVER;
    k.c.now_us += 50 * KIT_SECOND;
    attach(&k, 0, "{\"job\": \"here\"}");
    json_decref(gets(&k, 0, TY_CHANNEL_RESUME));
    k.c.now_us += 19 * KIT_SECOND;
    text(&k, 0, TY_CHANNEL_STARTED, "{\"pid\": 7}");
    assert_null(k.c.verdict);
    assert_int_equal(k.c.phase, TY_COURIER_RUNNING);
    kit_end(&k);
}

static void test_cleaning(void **state)
{
    struct kit k;

    (void)state;
    begin_running(&k);
    ty_way_released(&k.c);
    assert_true(kit_has(&k, "released"));
    kit_turn(&k);
    json_decref(gets(&k, 0, TY_CHANNEL_CLEAN));
    assert_false(ty_way_over(&k.c));
    text(&k, 0, TY_CHANNEL_CLEANED, "");
    assert_true(ty_way_over(&k.c));
    assert_int_equal(k.c.hosts[0].ssh.pid, 0);
    kit_end(&k);

    /* A host that was never spoken to has nothing of the job; one that is away is tried for a day. */
    kit_begin(&k, "/tmp", 2, two);
    k.c.hosts[0].touched = true;
    ty_way_released(&k.c);
    ty_way(&k.c);
    assert_int_equal(k.c.hosts[1].state, TY_HOST_CLEAN);
    assert_int_equal(k.c.hosts[0].retry_us, k.c.now_us);
    k.c.now_us += 23 * 3600 * (int64_t)KIT_SECOND;
    assert_false(ty_way_over(&k.c));
    k.c.now_us += 2 * 3600 * (int64_t)KIT_SECOND;
    assert_true(ty_way_over(&k.c));
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two),          cmocka_unit_test(test_fruitless),
        cmocka_unit_test(test_ready_breaks), cmocka_unit_test(test_cannot),
        cmocka_unit_test(test_nonsense),     cmocka_unit_test(test_content),
        cmocka_unit_test(test_late_answer),  cmocka_unit_test(test_mpi),
        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_runner_ends),
        cmocka_unit_test(test_taken_up),     cmocka_unit_test(test_lost),
        cmocka_unit_test(test_heard_again),  cmocka_unit_test(test_slow_greeting),
        cmocka_unit_test(test_cleaning),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
