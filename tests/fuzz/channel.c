/* channel.c - what hosts say to a courier, what a courier asks of a host, and what a login shell prints before */
#include "../unit/courier/kit.h"
#include "base/error.h"
#include "base/fs.h"
#include "core/wire.h"
#include "courier/farjob.h"
#include "fuzz.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHA "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" /* of "test" */
#define FRAME_HEAD 5

/* ---- what a host says ---- */

static void text_frame(struct ty_flow *f, enum ty_channel_type type, const char *text)
{
    ty_channel_send(f, type, text, strlen(text));
}

static void record_frame(struct ty_flow *f, uint32_t conn, const char *record)
{
    struct ty_frame one = {
        .type = TY_FRAME_RECORD, .seq = 1, .body = record, .body_len = strlen(record)
    };
    CLEANUP_STR struct ty_str out = { 0 };

    assert(ty_frame_encode(&one, &out) == 0);
    ty_channel_send_conn(f, TY_CHANNEL_DATA, conn, out.text, out.len);
}

static void prepared(struct ty_flow *f)
{
    unsigned char sha[TY_CHANNEL_SHA];

    assert(ty_sha_to_bytes(SHA, sha) == 0);
    text_frame(
        f, TY_CHANNEL_HELLO,
        "{\"version\": 1, \"agent\": \"0\", \"host\": \"h\", \"boot\": \"b\", \"folder\": \"/f\"}");
    text_frame(f, TY_CHANNEL_STATE, "{\"job\": \"none\", \"openmpi\": \"4.1.4\"}");
    ty_channel_send(f, TY_CHANNEL_MISSING, sha, sizeof sha);
    text_frame(f, TY_CHANNEL_STARTED, "{\"pid\": 7, \"notes\": [\"a note\", 7]}");
    text_frame(f, TY_CHANNEL_LINK, "7001 10.0.0.1 fe80::1");
}

static void corpus_flow(struct corpus *c, struct ty_flow *f)
{
    corpus_add(c, f->unsent.text, f->unsent.len);
    ty_str_done(&f->unsent);
}

void seed_channel(struct corpus *c)
{
    struct ty_flow f = TY_FLOW_INIT;
    unsigned char sha[TY_CHANNEL_SHA];
    char hex[TY_SHA256_HEX + 1];

    ty_sha256_hex("x", 1, hex);
    ty_sha_to_bytes(hex, sha);
    prepared(&f);
    ty_channel_send_conn(&f, TY_CHANNEL_OPEN, 1, NULL, 0);
    record_frame(&f, 1, "{\"kind\": \"ready\"}");
    record_frame(&f, 1,
                 "{\"kind\": \"artifact\", \"path\": \"outputs/a\", \"sha256\": "
                 "\"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"}");
    ty_channel_send_json(&f, TY_CHANNEL_BLOB, json_pack("{s:s s:i}", "sha256", hex, "bytes", 1));
    ty_channel_send(&f, TY_CHANNEL_CHUNK, "x", 1);
    ty_channel_send_conn(&f, TY_CHANNEL_CLOSE, 1, NULL, 0);
    corpus_flow(c, &f);
    prepared(&f);
    ty_channel_send_conn(&f, TY_CHANNEL_OPEN, 1, NULL, 0);
    record_frame(&f, 1,
                 "{\"kind\": \"artifact\", \"path\": \"outputs/a\", \"sha256\": "
                 "\"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"}");
    ty_channel_send(&f, TY_CHANNEL_GONE, sha, sizeof sha);
    text_frame(&f, TY_CHANNEL_ENDED, "{\"code\": 1}");
    ty_channel_send(&f, TY_CHANNEL_PING, NULL, 0);
    corpus_flow(c, &f);
    text_frame(&f, TY_CHANNEL_HELLO, "{\"version\": 1}");
    text_frame(&f, TY_CHANNEL_STATE, "{\"job\": \"here\"}");
    text_frame(&f, TY_CHANNEL_FAILED, "{\"message\": \"the disk is full\"}");
    ty_channel_send(&f, TY_CHANNEL_CLEANED, NULL, 0);
    corpus_flow(c, &f);
}

/* How long the frame is that begins there, or what is left of it. */
static size_t frame_at(const char *bytes, size_t n)
{
    const unsigned char *b = (const unsigned char *)bytes;
    size_t body;

    if (n < FRAME_HEAD)
        return n;
    body = b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
    return body < n - FRAME_HEAD ? body + FRAME_HEAD : n;
}

/* The leader's far end says it all, one frame a turn; the other host has nothing to say.  The way of a job leads in one
 * direction, and what waits for the daemon is bounded. */
bool parse_channel(const char *bytes, size_t n)
{
    struct kit k;
    char sha[TY_SHA256_HEX + 1];
    bool accepted;

    kit_begin(&k, ".", 1, "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\"}]}");
    assert(ty_blob_put_bytes(k.c.blobs, "test", 4, sha, NULL) == 0);
    k.c.content.items = calloc(1, sizeof *k.c.content.items);
    assert(k.c.content.items && ty_sha_to_bytes(sha, k.c.content.items[0].sha) == 0);
    k.c.content.n = k.c.content.cap = 1;
    kit_connect(&k, 0);
    for (size_t at = 0; at < n && k.c.hosts[0].ssh.pid;) {
        enum ty_courier_phase before = k.c.phase;
        size_t one = frame_at(bytes + at, n - at);

        ty_str_addn(&k.far[0].unsent, bytes + at, one);
        at += one;
        kit_turn(&k);
        assert(k.c.phase >= before && (k.c.phase != TY_COURIER_TELLING || k.c.verdict));
        assert(k.c.relay.up.len <= 2 * TY_CHANNEL_WINDOW);
        k.c.now_us += KIT_SECOND / 10;
    }
    accepted = k.c.hosts[0].state != TY_HOST_DOWN;
    kit_end(&k);
    return accepted;
}

/* ---- what a courier asks for ---- */

void seed_far(struct corpus *c)
{
    corpus_text(
        c,
        "{\"run\": \"r_1\", \"attempt\": 1, \"token\": \"t\", \"start\": {\"job\": {\"version\": 1, \"run\": \"r_1\", \"token\": \"t\", \"attempt\": 1, "
        "\"spec\": {\"version\": 1, \"experiment\": \"first\", \"command\": [\"/bin/true\"]}, \"checkpoint_dir\": \"/x\", "
        "\"run_as\": \"u\", \"data_dirs\": []}, \"manifest\": null, \"packages\": null}}");
    corpus_text(
        c,
        "{\"run\": \"r_1.2\", \"attempt\": 1, \"token\": \"t\", \"start\": {\"job\": {\"version\": 1, \"run\": \"r_1\", \"token\": \"t\", \"attempt\": 1, "
        "\"spec\": {\"version\": 1, \"experiment\": \"first\", \"script\": \"a.py\", \"interpreter\": \"/bin/sh\", \"source_directory\": \"/x\", \"snapshot\": \"" SHA
        "\", "
        "\"data_references\": {\"d\": {\"datastore\": \"w\", \"path\": \"x\", \"mode\": \"mount\", \"path_on_compute\": null, \"overwrite\": false}}}, "
        "\"data_dirs\": [\"/tmp\"]}, \"manifest\": \"" SHA "\"}}");
}

/* Nothing but our folder is beside it: no name leads out of it. */
static void check_place(const char *dir)
{
    CLEANUP_FREE char *path = ty_path_join(dir, "far/jobs/.new-r");

    assert(path && access(path, F_OK) < 0);
    assert(rmdir(dir) < 0 && errno == ENOTEMPTY);
    path[strlen(dir)] = '\0';
    assert(access(path, F_OK) == 0);
}

bool parse_far(const char *bytes, size_t n)
{
    char dir[] = "fuzz-far-XXXXXX", sha[TY_SHA256_HEX + 1];
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_JSON json_t *notes = json_array();
    CLEANUP_FREE char *folder = NULL;
    struct ty_error err = { 0 };
    const char *run, *token;
    struct ty_far f;
    int r;

    if (ty_json_parse(bytes, n, &o, &err) < 0 || !json_is_object(o) ||
        !(run = json_string_value(json_object_get(o, "run"))) ||
        !(token = json_string_value(json_object_get(o, "token"))))
        return false;
    assert(notes && mkdtemp(dir) && (folder = ty_path_join(dir, "far")));
    assert(ty_far_open(&f, folder, &err) == 0);
    assert(ty_blob_put_bytes(f.blobs, "test", 4, sha, NULL) == 0);
    r = ty_far_attach(&f, run, json_integer_value(json_object_get(o, "attempt")), token, &err);
    assert(r <= 0 && (r == 0 || err.text[0]));
    if (r == 0)
        r = ty_far_make(&f, json_object_get(o, "start"), notes, &err);
    assert(r == 0 || err.text[0]);
    if (r == 0) /* the same job is found again, and another one clears its place */
        assert(ty_far_attach(&f, run, 1, token, &err) >= 0);
    check_place(dir);
    ty_far_done(&f);
    ty_rm_rf(dir);
    return r == 0;
}

/* ---- what comes before the far end speaks ---- */

void seed_greeting(struct corpus *c)
{
    corpus_text(c, "Welcome!\r\nLast login: today\r\n\ntrainyard:send\n\ntrainyard:ready\n");
    corpus_text(c, "trainyard:ready\r\n\5\0\0\0");
}

bool parse_greeting(const char *bytes, size_t n)
{
    struct ty_ssh s = TY_SSH_INIT;
    struct ty_error err = { 0 };
    char why[64];
    int to[2], said[2], r;

    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, to) == 0);
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, said) == 0);
    assert(n == 0 ||
           (write(to[1], bytes, n) == (ssize_t)n && write(said[1], bytes, n) == (ssize_t)n));
    shutdown(said[1], SHUT_WR);
    ty_flow_open(&s.flow, to[0], to[0]);
    ty_flow_open(&s.err, said[0], said[0]);
    s.agent = open("/dev/null", O_RDONLY | O_CLOEXEC);
    r = ty_ssh_greet(&s, &err);
    assert(r >= 0 || r == -EPIPE || err.text[0]);
    ty_ssh_why(&s, why, sizeof why);
    assert(*why && !strchr(why, '\n'));
    ty_ssh_end(&s);
    close(to[1]);
    close(said[1]);
    return r == 1;
}
