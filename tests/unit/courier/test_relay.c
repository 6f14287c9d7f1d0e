/* The runner's stream through a courier: whole frames in order, and no record of a file before the file. */
#include "base/fs.h"
#include "base/str.h"
#include "core/wire.h"
#include "kit.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SERIAL 3

static const char target[] =
    "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}, {\"host\": \"h2\"}]}";
static char sha[TY_SHA256_HEX + 1]; /* of "weights" */
static unsigned char key[TY_CHANNEL_SHA];

/* A job that runs, and whose runner has connected. */
static void begin(struct kit *k)
{
    kit_begin(k, "/tmp", 1, target);
    ty_sha256_hex("weights", 7, sha);
    ty_sha_to_bytes(sha, key);
    kit_connect(k, 0);
    k->c.hosts[0].state = TY_HOST_RUNNING;
    k->c.phase = TY_COURIER_RUNNING;
    ty_channel_send_conn(&k->far[0], TY_CHANNEL_OPEN, SERIAL, NULL, 0);
    kit_turn(k);
    assert_true(ty_flow_is_open(&k->daemon));
}

static void record(struct ty_str *out, uint64_t seq, const char *body)
{
    struct ty_frame f = {
        .type = TY_FRAME_RECORD, .seq = seq, .body = body, .body_len = strlen(body)
    };

    assert_int_equal(ty_frame_encode(&f, out), 0);
}

static void artifact(struct ty_str *out, uint64_t seq)
{
    CLEANUP_FREE char *body = ty_strf(
        "{\"kind\": \"artifact\", \"at_us\": 5, \"path\": \"outputs/w\", \"sha256\": \"%s\", \"bytes\": 7}",
        sha);

    record(out, seq, body);
}

static void send_up(struct kit *k, const struct ty_str *s)
{
    ty_channel_send_conn(&k->far[0], TY_CHANNEL_DATA, SERIAL, s->text, s->len);
    kit_turn(k);
}

static void daemon_gets(struct kit *k, enum ty_frame_type type, uint64_t seq, const char *words)
{
    struct ty_frame f;
    ptrdiff_t n = ty_frame_decode(ty_flow_bytes(&k->daemon), ty_flow_waiting(&k->daemon), &f);

    assert_true(n > 0);
    assert_int_equal(f.type, type);
    assert_int_equal(f.seq, seq);
    assert_non_null(memmem(f.body, f.body_len, words, strlen(words)));
    ty_flow_use(&k->daemon, (size_t)n);
}

static struct ty_channel_frame host_gets(struct kit *k, enum ty_channel_type type)
{
    struct ty_channel_frame f = { 0 };

    do
        assert_int_equal(ty_channel_next(&k->far[0], &f), 0);
    while (f.type == TY_CHANNEL_PING);
    assert_int_equal(f.type, type);
    return f;
}

static void send_blob(struct kit *k, const char *text)
{
    ty_channel_send_json(&k->far[0], TY_CHANNEL_BLOB,
                         json_pack("{s:s s:i}", "sha256", sha, "bytes", 7));
    ty_channel_send(&k->far[0], TY_CHANNEL_CHUNK, text, 3);
    ty_channel_send(&k->far[0], TY_CHANNEL_CHUNK, text + 3, 4);
    kit_turn(k);
}

static void test_frames(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 }, down = { 0 };
    struct ty_frame ack = { .type = TY_FRAME_RECORD_ACK, .seq = 2 };
    struct ty_channel_frame f;
    uint32_t serial;
    struct kit k;

    (void)state;
    begin(&k);
    record(&up, 1, "{\"kind\": \"ready\"}");
    record(&up, 2, "{\"kind\": \"started\"}");
    /* In pieces, and some of them of a connection that is over. */
    for (size_t at = 0; at < up.len; at++) {
        ty_channel_send_conn(&k.far[0], TY_CHANNEL_DATA, SERIAL, up.text + at, 1);
        ty_channel_send_conn(&k.far[0], TY_CHANNEL_DATA, SERIAL - 1, "old", 3);
        kit_turn(&k);
    }
    assert_int_equal(ty_flow_waiting(&k.daemon), up.len);
    assert_memory_equal(ty_flow_bytes(&k.daemon), up.text, up.len);
    ty_frame_encode(&ack, &down);
    ty_str_addn(&k.daemon.unsent, down.text, down.len - 1);
    kit_turn(&k);
    ty_str_addn(&k.daemon.unsent, down.text + down.len - 1, 1);
    kit_turn(&k);
    f = host_gets(&k, TY_CHANNEL_DATA);
    assert_int_equal(ty_channel_u32(&f, &serial), 0);
    assert_int_equal(serial, SERIAL);
    assert_int_equal(f.n, down.len);
    assert_memory_equal(f.body, down.text, down.len);
    /* The daemon hangs up: the runner is to come back. */
    ty_flow_close(&k.daemon);
    kit_turn(&k);
    host_gets(&k, TY_CHANNEL_CLOSE);
    kit_end(&k);
}

/* A reference whose datastore is a folder of ours. */
struct ours {
    struct kit k;
    struct ty_data_ref ref, *was;
    char root[64];
};

static void begin_data(struct ours *o)
{
    begin(&o->k);
    snprintf(o->root, sizeof o->root, "/tmp/ty-back-XXXXXX");
    assert_non_null(mkdtemp(o->root));
    o->ref = (struct ty_data_ref){
        .name = "d", .datastore = "store", .path = "back", .mode = TY_DATA_UPLOAD
    };
    o->was = o->k.c.spec->data;
    o->k.c.spec->data = &o->ref;
    o->k.c.spec->ndata = 1;
    o->k.c.data.refs = calloc(2, sizeof *o->k.c.data.refs);
    o->k.c.data.refs[0].root = strdup(o->root);
    o->k.c.data.compare = -1;
}

static void end_data(struct ours *o)
{
    free(o->k.c.data.refs[0].root);
    free(o->k.c.data.refs);
    o->k.c.data.refs = NULL;
    o->k.c.spec->data = o->was;
    o->k.c.spec->ndata = 0;
    assert_int_equal(ty_rm_rf(o->root), 0);
    kit_end(&o->k);
}

static void goes_back(struct ours *o, uint64_t seq, const char *path, const char *text)
{
    CLEANUP_STR struct ty_str up = { 0 };
    CLEANUP_FREE char *body = NULL;
    char its[TY_SHA256_HEX + 1];

    ty_sha256_hex(text, strlen(text), its);
    body = ty_strf(
        "{\"kind\": \"data\", \"at_us\": 5, \"ref\": \"d\", \"path\": \"%s\", \"file\": false, "
        "\"sha256\": \"%s\", \"bytes\": %zu}",
        path, its, strlen(text));
    record(&up, seq, body);
    send_up(&o->k, &up);
}

/* A file that goes back lies in its place, whole, before its record goes on; nothing is replaced, and nothing leads out. */
static void test_data(void **state)
{
    struct ours o;
    CLEANUP_FREE char *text = NULL, *path = NULL, *again = NULL;
    struct ty_channel_frame f;
    size_t n;

    (void)state;
    begin_data(&o);
    path = ty_strf("%s/back/x/w", o.root);
    goes_back(&o, 1, "x/w", "weights");
    f = host_gets(&o.k, TY_CHANNEL_FETCH);
    assert_memory_equal(f.body, key, sizeof key);
    assert_int_equal(ty_flow_waiting(&o.k.daemon), 0);
    send_blob(&o.k, "weights");
    daemon_gets(&o.k, TY_FRAME_RECORD, 1, "\"data\"");
    assert_int_equal(ty_read_file(path, 100, &text, &n), 0);
    assert_string_equal(text, "weights");
    goes_back(&o, 2, "x/w", "weights"); /* said again: it is there */
    daemon_gets(&o.k, TY_FRAME_RECORD, 2, "\"data\"");
    goes_back(&o, 3, "x/w", "others?");
    daemon_gets(&o.k, TY_FRAME_RECORD, 3, "there is another file of that name");
    assert_int_equal(ty_read_file(path, 100, &again, &n), 0);
    assert_string_equal(again, "weights");
    goes_back(&o, 4, "../out", "weights");
    daemon_gets(&o.k, TY_FRAME_RECORD, 4, "it has no place here");
    end_data(&o);
}

/* What does not come as it was said leaves nothing; what is gone is said to be. */
static void test_data_spoilt(void **state)
{
    struct ours o;
    CLEANUP_STR struct ty_str up = { 0 };
    CLEANUP_FREE char *path = NULL;

    (void)state;
    begin_data(&o);
    path = ty_strf("%s/back/w", o.root);
    goes_back(&o, 1, "w", "weights");
    host_gets(&o.k, TY_CHANNEL_FETCH);
    send_blob(&o.k, "weighty");
    daemon_gets(&o.k, TY_FRAME_RECORD, 1, "what came is not what was sent");
    assert_int_equal(access(path, F_OK), -1);
    goes_back(&o, 2, "w", "weights");
    host_gets(&o.k, TY_CHANNEL_FETCH);
    ty_channel_send(&o.k.far[0], TY_CHANNEL_GONE, key, sizeof key);
    kit_turn(&o.k);
    daemon_gets(&o.k, TY_FRAME_RECORD, 2, "it is not there any more");
    record(&up, 3, "{\"kind\": \"data\", \"ref\": \"d\", \"path\": \"w\", \"bytes\": 7}");
    send_up(&o.k, &up);
    daemon_gets(&o.k, TY_FRAME_RECORD, 3, "its record has no hash");
    end_data(&o);
}

/* Two names for one content: each gets it. */
static void test_data_twice(void **state)
{
    struct ours o;
    CLEANUP_FREE char *a = NULL, *b = NULL;

    (void)state;
    begin_data(&o);
    a = ty_strf("%s/back/a", o.root);
    b = ty_strf("%s/back/b", o.root);
    goes_back(&o, 1, "a", "weights");
    goes_back(&o, 2, "b", "weights");
    host_gets(&o.k, TY_CHANNEL_FETCH);
    send_blob(&o.k, "weights");
    daemon_gets(&o.k, TY_FRAME_RECORD, 1, "\"a\"");
    host_gets(&o.k, TY_CHANNEL_FETCH);
    send_blob(&o.k, "weights");
    daemon_gets(&o.k, TY_FRAME_RECORD, 2, "\"b\"");
    assert_int_equal(access(a, F_OK), 0);
    assert_int_equal(access(b, F_OK), 0);
    end_data(&o);
}

static void test_no_daemon(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    close(k.listener);
    k.listener = -1;
    ty_channel_send_conn(&k.far[0], TY_CHANNEL_OPEN, SERIAL + 1, NULL, 0);
    kit_turn(&k);
    host_gets(&k, TY_CHANNEL_CLOSE);
    assert_false(ty_flow_is_open(&k.c.relay.daemon));
    assert_int_equal(ty_flow_read(&k.daemon, 1), -EPIPE); /* a new one ends the old */
    kit_end(&k);
}

static void test_file_first(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 };
    struct ty_channel_frame f;
    struct kit k;

    (void)state;
    begin(&k);
    record(&up, 1, "{\"kind\": \"ready\"}");
    artifact(&up, 2);
    record(&up, 3, "{\"kind\": \"collected\"}");
    artifact(&up, 4);
    send_up(&k, &up);
    daemon_gets(&k, TY_FRAME_RECORD, 1, "ready");
    assert_int_equal(ty_flow_waiting(&k.daemon), 0);
    f = host_gets(&k, TY_CHANNEL_FETCH); /* once, though two name it */
    assert_memory_equal(f.body, key, sizeof key);
    assert_int_equal(ty_channel_next(&k.far[0], &f), -EAGAIN);
    /* While it waits, the daemon hears that the runner lives. */
    assert_int_equal(ty_relay_due(&k.c), k.c.now_us + 2 * KIT_SECOND);
    k.c.now_us += 2 * KIT_SECOND;
    kit_turn(&k);
    daemon_gets(&k, TY_FRAME_PING, 0, "");
    assert_int_equal(ty_flow_waiting(&k.daemon), 0);
    send_blob(&k, "weights");
    assert_true(ty_blob_has(k.c.blobs, sha));
    daemon_gets(&k, TY_FRAME_RECORD, 2, "artifact");
    daemon_gets(&k, TY_FRAME_RECORD, 3, "collected");
    daemon_gets(&k, TY_FRAME_RECORD, 4, "artifact");
    assert_null(k.c.relay.wanted);
    assert_int_equal(ty_relay_due(&k.c), TY_NEVER);
    kit_end(&k);
}

static void test_file_gone(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 };
    struct kit k;

    (void)state;
    begin(&k);
    artifact(&up, 2);
    record(&up, 3, "{\"kind\": \"collected\"}");
    send_up(&k, &up);
    host_gets(&k, TY_CHANNEL_FETCH);
    ty_channel_send(&k.far[0], TY_CHANNEL_GONE, key, sizeof key);
    kit_turn(&k);
    daemon_gets(&k, TY_FRAME_RECORD, 2, "'outputs/w' could not be brought");
    daemon_gets(&k, TY_FRAME_RECORD, 3, "collected");
    kit_end(&k);
}

/* A file that is not what its record says is not kept, and its record does not go on. */
static void test_file_changed(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 };
    struct kit k;

    (void)state;
    begin(&k);
    artifact(&up, 1);
    send_up(&k, &up);
    host_gets(&k, TY_CHANNEL_FETCH);
    send_blob(&k, "WEIGHTS");
    assert_false(ty_blob_has(k.c.blobs, sha));
    host_gets(&k, TY_CHANNEL_CLOSE);
    assert_int_equal(ty_flow_waiting(&k.daemon), 0);
    /* The runner comes back, and all is tried again. */
    ty_channel_send_conn(&k.far[0], TY_CHANNEL_OPEN, SERIAL, NULL, 0);
    send_up(&k, &up);
    host_gets(&k, TY_CHANNEL_FETCH);
    send_blob(&k, "weights");
    daemon_gets(&k, TY_FRAME_RECORD, 1, "artifact");
    kit_end(&k);
}

/* A channel that breaks in a file leaves nothing behind: the next one brings it whole. */
static void test_file_cut(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 };
    struct kit k;

    (void)state;
    begin(&k);
    artifact(&up, 1);
    send_up(&k, &up);
    host_gets(&k, TY_CHANNEL_FETCH);
    ty_channel_send_json(&k.far[0], TY_CHANNEL_BLOB,
                         json_pack("{s:s s:i}", "sha256", sha, "bytes", 7));
    ty_channel_send(&k.far[0], TY_CHANNEL_CHUNK, "wei", 3);
    kit_turn(&k);
    assert_non_null(k.c.relay.put);
    ty_flow_close(&k.far[0]);
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_DOWN);
    assert_null(k.c.relay.put);
    assert_null(k.c.relay.wanted);
    kit_connect(&k, 0);
    k.c.hosts[0].state = TY_HOST_RUNNING;
    ty_channel_send_conn(&k.far[0], TY_CHANNEL_OPEN, SERIAL, NULL, 0);
    send_up(&k, &up);
    host_gets(&k, TY_CHANNEL_FETCH);
    send_blob(&k, "weights");
    daemon_gets(&k, TY_FRAME_RECORD, 1, "artifact");
    kit_end(&k);
}

/* A host fills neither our disk nor our memory with what nobody asked for. */
static void test_limits(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 };
    CLEANUP_FREE char *part = calloc(1, TY_CHANNEL_PART);
    struct ty_frame frame = { .type = TY_FRAME_LOG, .name = "a", .name_len = 1 };
    struct kit k;

    (void)state;
    begin(&k);
    ty_channel_send_json(&k.far[0], TY_CHANNEL_BLOB,
                         json_pack("{s:s s:i}", "sha256", sha, "bytes", 7));
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_DOWN);
    assert_null(k.c.relay.put);
    kit_end(&k);

    begin(&k);
    artifact(&up, 1);
    send_up(&k, &up);
    host_gets(&k, TY_CHANNEL_FETCH);
    ty_channel_send_json(&k.far[0], TY_CHANNEL_BLOB,
                         json_pack("{s:s s:i}", "sha256", sha, "bytes", -1));
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_DOWN);
    kit_end(&k);

    /* Behind a file that does not come, as much as there is credit for waits, and no more. */
    begin(&k);
    frame.body = part;
    frame.body_len = TY_CHANNEL_PART - 64;
    while (up.len + TY_CHANNEL_PART < TY_CHANNEL_WINDOW)
        ty_frame_encode(&frame, &up);
    for (size_t at = 0; at < up.len; at += TY_CHANNEL_PART) {
        size_t left = up.len - at;

        ty_channel_send_conn(&k.far[0], TY_CHANNEL_DATA, SERIAL, up.text + at,
                             left < TY_CHANNEL_PART ? left : TY_CHANNEL_PART);
        while (ty_flow_unsent(&k.far[0]))
            kit_turn(&k);
    }
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_RUNNING);
    assert_int_equal(ty_flow_waiting(&k.daemon), 0);
    for (int i = 0; i < 2; i++) {
        ty_channel_send_conn(&k.far[0], TY_CHANNEL_DATA, SERIAL, part, TY_CHANNEL_PART);
        while (ty_flow_is_open(&k.far[0]) && ty_flow_unsent(&k.far[0]) &&
               k.c.hosts[0].state == TY_HOST_RUNNING)
            kit_turn(&k);
    }
    kit_turn(&k);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_DOWN);
    kit_end(&k);
}

/* The far end may send as much again as was passed on. */
static void test_credit(void **state)
{
    CLEANUP_STR struct ty_str up = { 0 };
    CLEANUP_FREE char *part = calloc(1, TY_CHANNEL_PART);
    struct ty_frame frame = { .type = TY_FRAME_LOG, .name = "a", .name_len = 1, .body = part };
    struct ty_channel_frame f;
    uint32_t serial, bytes;
    struct kit k;

    (void)state;
    begin(&k);
    frame.body_len = TY_CHANNEL_PART / 4;
    ty_frame_encode(&frame, &up);
    send_up(&k, &up);
    assert_int_equal(ty_channel_next(&k.far[0], &f), -EAGAIN); /* too little to speak of */
    send_up(&k, &up);
    f = host_gets(&k, TY_CHANNEL_CREDIT);
    assert_int_equal(ty_channel_u32(&f, &serial), 0);
    assert_int_equal(ty_channel_u32(&f, &bytes), 0);
    assert_int_equal(serial, SERIAL);
    assert_int_equal(bytes, 2 * up.len);
    kit_end(&k);
}

static void test_nonsense_from_daemon(void **state)
{
    struct kit k;

    (void)state;
    begin(&k);
    ty_str_addn(&k.daemon.unsent, "\377\377\377\377\377", 5);
    kit_turn(&k);
    host_gets(&k, TY_CHANNEL_CLOSE);
    assert_int_equal(k.c.hosts[0].state, TY_HOST_RUNNING);
    kit_end(&k);
}

/* RELEASE goes to the runner before its folder is removed. */
static void test_release(void **state)
{
    struct ty_frame release = { .type = TY_FRAME_RELEASE };
    struct kit k;

    (void)state;
    begin(&k);
    ty_frame_encode(&release, &k.daemon.unsent);
    kit_turn(&k);
    kit_turn(&k);
    assert_true(kit_has(&k, "released"));
    host_gets(&k, TY_CHANNEL_DATA);
    host_gets(&k, TY_CHANNEL_CLEAN);
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_data_spoilt),
        cmocka_unit_test(test_data_twice),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_no_daemon),
        cmocka_unit_test(test_file_first),
        cmocka_unit_test(test_file_gone),
        cmocka_unit_test(test_file_changed),
        cmocka_unit_test(test_file_cut),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_credit),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_nonsense_from_daemon),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
