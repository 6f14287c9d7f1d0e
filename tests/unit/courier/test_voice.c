/* The courier as the runner of its job. */
#include "base/fs.h"
#include "base/str.h"
#include "core/wire.h"
#include "kit.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static const char target[] = "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}]}";

/* Its host does not answer. */
static void begin(struct kit *k)
{
    kit_begin(k, "/tmp", 1, target);
    k->c.voice.wanted = true;
    kit_turn(k);
}

static json_t *gets(struct kit *k, enum ty_frame_type type, uint64_t seq)
{
    struct ty_frame f;
    ptrdiff_t n = ty_frame_decode(ty_flow_bytes(&k->daemon), ty_flow_waiting(&k->daemon), &f);
    json_t *o = NULL;

    assert_true(n > 0);
    assert_int_equal(f.type, type);
    assert_int_equal(f.seq, seq);
    if (f.body_len)
        assert_int_equal(ty_json_parse(f.body, f.body_len, &o, NULL), 0);
    ty_flow_use(&k->daemon, (size_t)n);
    return o;
}

static void says(struct kit *k, enum ty_frame_type type, const char *body)
{
    struct ty_frame f = { .type = type, .body = body, .body_len = strlen(body) };

    assert_int_equal(ty_frame_encode(&f, &k->daemon.unsent), 0);
    kit_turn(k);
}

static void test_alive(void **state)
{
    struct kit k;
    json_t *o;

    (void)state;
    begin(&k);
    o = gets(&k, TY_FRAME_HELLO, 0);
    assert_string_equal(json_string_value(json_object_get(o, "run")), "r_1");
    assert_string_equal(json_string_value(json_object_get(o, "token")), "t");
    assert_int_equal(json_integer_value(json_object_get(o, "pid")), getpid());
    json_decref(o);
    k.c.now_us += 5 * KIT_SECOND;
    kit_turn(&k);
    assert_int_equal(ty_flow_waiting(&k.daemon), 0); /* not before it is welcome */
    says(&k, TY_FRAME_WELCOME, "{\"record_next\": 1, \"cancel\": false}");
    gets(&k, TY_FRAME_PING, 0);
    assert_int_equal(ty_voice_due(&k.c), k.c.now_us + 2 * KIT_SECOND);
    k.c.now_us += KIT_SECOND;
    kit_turn(&k);
    assert_int_equal(ty_flow_waiting(&k.daemon), 0);
    k.c.now_us += KIT_SECOND;
    kit_turn(&k);
    gets(&k, TY_FRAME_PING, 0);
    assert_false(k.c.cancel);
    kit_end(&k);
}

/* A daemon that goes is called again, later each time, and as often as it takes. */
static void test_daemon_goes(void **state)
{
    int64_t first;
    struct kit k;

    (void)state;
    begin(&k);
    json_decref(gets(&k, TY_FRAME_HELLO, 0));
    ty_flow_close(&k.daemon);
    kit_turn(&k);
    assert_true(ty_voice_due(&k.c) > k.c.now_us);
    unlink(k.socket);
    first = ty_voice_due(&k.c) - k.c.now_us;
    for (int i = 0; i < 12; i++) {
        k.c.now_us = ty_voice_due(&k.c);
        kit_turn(&k);
        assert_false(ty_flow_is_open(&k.daemon));
    }
    assert_true(ty_voice_due(&k.c) - k.c.now_us > first);
    assert_int_equal(ty_voice_due(&k.c) - k.c.now_us, 2 * KIT_SECOND);
    kit_end(&k);
}

static void test_cancel(void **state)
{
    struct kit k;

    (void)state;
    for (int early = 0; early < 2; early++) {
        json_t *o;

        begin(&k);
        json_decref(gets(&k, TY_FRAME_HELLO, 0));
        if (early) {
            says(&k, TY_FRAME_WELCOME, "{\"record_next\": 1, \"cancel\": true}");
        } else {
            says(&k, TY_FRAME_WELCOME, "{\"record_next\": 1, \"cancel\": false}");
            says(&k, TY_FRAME_CANCEL, "");
        }
        assert_true(k.c.cancel);
        /* Nothing was started: it tells the end itself. */
        kit_turn(&k);
        json_decref(gets(&k, TY_FRAME_HELLO, 0));
        says(&k, TY_FRAME_WELCOME, "{\"record_next\": 4, \"cancel\": true}");
        o = gets(&k, TY_FRAME_RECORD, 4);
        assert_string_equal(json_string_value(json_object_get(o, "reason")), "cancel");
        json_decref(o);
        o = gets(&k, TY_FRAME_RECORD, 5);
        assert_string_equal(json_string_value(json_object_get(o, "kind")), "collected");
        json_decref(o);
        kit_end(&k);
    }
}

/* A daemon that ends before it has the end is told again, what it lacks. */
static void test_told_again(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    json_decref(gets(&k, TY_FRAME_HELLO, 0));
    says(&k, TY_FRAME_WELCOME, "{\"record_next\": 1}");
    while (ty_flow_waiting(&k.daemon))
        json_decref(gets(&k, TY_FRAME_PING, 0));
    ty_courier_end(&k.c, "prepare", "h1", "it cannot");
    for (int i = 0; i < 2; i++) {
        json_t *o;

        k.c.now_us += 5 * KIT_SECOND;
        kit_turn(&k);
        json_decref(gets(&k, TY_FRAME_HELLO, 0));
        says(&k, TY_FRAME_WELCOME, "{\"record_next\": 2}");
        o = gets(&k, TY_FRAME_RECORD, 2);
        assert_true(json_equal(o, k.c.verdict));
        json_decref(o);
        ty_flow_close(&k.daemon);
        kit_turn(&k);
    }
    k.c.now_us += 5 * KIT_SECOND;
    kit_turn(&k);
    says(&k, TY_FRAME_RELEASE, "");
    assert_true(k.c.released);
    assert_true(kit_has(&k, "released"));
    assert_int_equal(ty_voice_due(&k.c), TY_NEVER);
    kit_end(&k);
}

static void test_refused(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    says(&k, TY_FRAME_REFUSED, "{\"message\": \"no such run\"}");
    assert_true(kit_has(&k, "released"));
    assert_int_equal(k.c.phase, TY_COURIER_CLEANING);
    assert_true(ty_way_over(&k.c)); /* nothing was touched */
    kit_end(&k);

    begin(&k); /* what is no frame ends the connection, not the job */
    ty_str_addn(&k.daemon.unsent, "\377\377\377\377\377", 5);
    kit_turn(&k);
    assert_false(ty_flow_is_open(&k.c.voice.daemon));
    assert_true(k.c.voice.wanted);
    kit_end(&k);
}

/* A socket whose path does not fit into an address. */
static void test_long_path(void **state)
{
    char dir[] = "/tmp/ty-voice-XXXXXX";
    struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "runner.sock" };
    CLEANUP_FREE char *folder = NULL, *path = NULL;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), here, fd;
    char name[121];

    (void)state;
    memset(name, 'x', 120);
    name[120] = '\0';
    assert_non_null(mkdtemp(dir));
    folder = ty_path_join(dir, name);
    path = ty_path_join(folder, "runner.sock");
    assert_int_equal(ty_voice_connect(path), -ENOENT);
    assert_int_equal(ty_mkdir_p(folder, 0700), 0);
    here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(fchdir(here), 0);
    close(here);
    fd = ty_voice_connect(path);
    assert_true(fd >= 0);
    close(fd);
    close(listener);
    ty_rm_rf(dir);
}

/* A disk that takes no verdict does not keep it from being told. */
static void test_end_not_kept(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    json_decref(gets(&k, TY_FRAME_HELLO, 0));
    ty_rm_rf(k.c.dir);
    ty_courier_end(&k.c, "prepare", NULL, "it cannot");
    kit_turn(&k);
    json_decref(gets(&k, TY_FRAME_HELLO, 0));
    says(&k, TY_FRAME_WELCOME, "{\"record_next\": 0}");
    json_decref(gets(&k, TY_FRAME_RECORD, 1));
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alive),        cmocka_unit_test(test_daemon_goes),
        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_told_again),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_long_path),
        cmocka_unit_test(test_end_not_kept),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
