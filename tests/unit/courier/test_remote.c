/* The far end, as a courier sees it: the real program on a pair of sockets. */
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "blob/blob.h"
#include "core/wire.h"
#include "courier/channel.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000

static char dir[64], *folder;

struct far {
    struct ty_flow ch;
    pid_t pid;
};

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-remote-XXXXXX");
    assert_non_null(mkdtemp(dir));
    folder = ty_path_join(dir, "trainyard");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(folder);
    return ty_rm_rf(dir);
}

/* The next frame of that type; those of others are looked at by nobody, but for FAILED. */
static struct ty_channel_frame expect(struct far *f, enum ty_channel_type type)
{
    struct ty_channel_frame got;

    for (;;) {
        struct pollfd p = { .fd = f->ch.in, .events = POLLIN };
        int r = ty_channel_next(&f->ch, &got);

        if (r == 0 && got.type == type)
            return got;
        if (r == 0 && got.type == TY_CHANNEL_FAILED)
            fail_msg("%.*s", (int)got.n, got.body);
        if (r == 0)
            continue;
        assert_int_equal(r, -EAGAIN);
        assert_int_equal(ty_flow_write(&f->ch), 0);
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        r = ty_flow_read(&f->ch, 1 << 20);
        if (r < 0 && ty_flow_waiting(&f->ch) == 0)
            fail_msg("the far end is gone");
    }
}

static json_t *expect_json(struct far *f, enum ty_channel_type type)
{
    struct ty_channel_frame got = expect(f, type);
    json_t *o = NULL;

    assert_int_equal(ty_channel_json(&got, &o), 0);
    return o;
}

static void far_begin(struct far *f)
{
    const char *agent = getenv("TRAINYARD_AGENT");
    const char *argv[] = { agent, "remote", folder, NULL };
    struct ty_error err = { 0 };
    int fds[2];

    assert_non_null(agent);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct ty_spawn s = { .argv = argv, .in = fds[1], .out = fds[1], .err = 2 };
    if (ty_spawn(&s, &f->pid, &err) < 0)
        fail_msg("%s", err.text);
    close(fds[1]);
    ty_flow_open(&f->ch, fds[0], fds[0]);
    json_decref(expect_json(f, TY_CHANNEL_HELLO));
}

static void far_end(struct far *f)
{
    ty_flow_close(&f->ch);
    assert_int_equal(waitpid(f->pid, NULL, 0), f->pid);
}

static void attach_as(struct far *f, const char *name, int attempt, const char *state)
{
    json_t *o;

    ty_channel_send_json(
        &f->ch, TY_CHANNEL_ATTACH,
        json_pack("{s:s s:i s:s s:b}", "run", name, "attempt", attempt, "token", "t", "mpi", 0));
    o = expect_json(f, TY_CHANNEL_STATE);
    assert_string_equal(json_string_value(json_object_get(o, "job")), state);
    json_decref(o);
}

static void attach(struct far *f, int attempt, const char *state)
{
    attach_as(f, "r_1", attempt, state);
}

static json_t *job(json_t *spec)
{
    return json_pack("{s:i s:s s:i s:s s:s s:s s:s s:s s:o s:n s:[] s:s s:s s:s}", "version", 1,
                     "run", "r_1", "attempt", 1, "token", "t", "socket", "/nonexistent", "blobs",
                     "/nonexistent", "home", "/nonexistent", "workspace", "trainyard", "spec", spec,
                     "manifest", "data_dirs", "user", "nobody", "user_home", "/nonexistent",
                     "run_as", "somebody");
}

static json_t *command(const char *text)
{
    return json_pack("{s:i s:s s:[s s s]}", "version", 1, "experiment", "first", "command",
                     "/bin/sh", "-c", text);
}

static void send_start(struct far *f, json_t *spec)
{
    ty_channel_send_json(&f->ch, TY_CHANNEL_START,
                         json_pack("{s:s s:b s:o s:n s:n}", "verb", "runner", "link", 0, "job",
                                   job(spec), "manifest", "packages"));
}

static void expect_failure(struct far *f, const char *words)
{
    struct ty_channel_frame got = { 0 };

    for (;;) {
        struct pollfd p = { .fd = f->ch.in, .events = POLLIN };

        if (ty_channel_next(&f->ch, &got) == 0) {
            if (got.type == TY_CHANNEL_FAILED)
                break;
            continue;
        }
        assert_int_equal(ty_flow_write(&f->ch), 0);
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        assert_int_equal(ty_flow_read(&f->ch, 1 << 20), 0);
    }
    if (!memmem(got.body, got.n, words, strlen(words)))
        fail_msg("no '%s' in: %.*s", words, (int)got.n, got.body);
}

static void send_blob(struct far *f, const char *hex, const char *text)
{
    ty_channel_send_json(&f->ch, TY_CHANNEL_BLOB,
                         json_pack("{s:s s:i}", "sha256", hex, "bytes", (int)strlen(text)));
    ty_channel_send(&f->ch, TY_CHANNEL_CHUNK, text, strlen(text));
}

static void test_content(void **state)
{
    struct far f = { 0 };
    struct ty_channel_frame got;
    unsigned char sha[2][TY_CHANNEL_SHA];
    char hex[2][65];
    json_t *o;

    (void)state;
    far_begin(&f);
    attach(&f, 1, "none");
    ty_sha256_hex("one", 3, hex[0]);
    ty_sha256_hex("two", 3, hex[1]);
    ty_sha_to_bytes(hex[0], sha[0]);
    ty_sha_to_bytes(hex[1], sha[1]);
    ty_channel_send(&f.ch, TY_CHANNEL_ASK, sha, sizeof sha);
    assert_int_equal(expect(&f, TY_CHANNEL_MISSING).n, sizeof sha);
    send_blob(&f, hex[0], "one");
    ty_channel_send(&f.ch, TY_CHANNEL_ASK, sha, sizeof sha);
    got = expect(&f, TY_CHANNEL_MISSING);
    assert_int_equal(got.n, TY_CHANNEL_SHA);
    assert_memory_equal(got.body, sha[1], TY_CHANNEL_SHA);
    /* It goes back as it came; what is not there is gone. */
    ty_channel_send(&f.ch, TY_CHANNEL_FETCH, sha[1], TY_CHANNEL_SHA);
    ty_channel_send(&f.ch, TY_CHANNEL_FETCH, sha[0], TY_CHANNEL_SHA);
    got = expect(&f, TY_CHANNEL_GONE);
    assert_memory_equal(got.body, sha[1], TY_CHANNEL_SHA);
    o = expect_json(&f, TY_CHANNEL_BLOB);
    assert_string_equal(json_string_value(json_object_get(o, "sha256")), hex[0]);
    assert_int_equal(json_integer_value(json_object_get(o, "bytes")), 3);
    json_decref(o);
    got = expect(&f, TY_CHANNEL_CHUNK);
    assert_memory_equal(got.body, "one", 3);
    /* Content that is not what its name says is refused, and not kept. */
    send_blob(&f, hex[1], "TWO");
    expect_failure(&f, hex[1]);
    ty_channel_send(&f.ch, TY_CHANNEL_ASK, sha[1], TY_CHANNEL_SHA);
    assert_int_equal(expect(&f, TY_CHANNEL_MISSING).n, TY_CHANNEL_SHA);
    far_end(&f);
}

static void test_what_cannot_start(void **state)
{
    struct far f = { 0 };
    json_t *spec;

    (void)state;
    far_begin(&f);
    attach(&f, 1, "none");
    spec = json_pack("{s:i s:s s:s s:s s:s}", "version", 1, "experiment", "first", "script", "a.py",
                     "interpreter", "/nonexistent/python3", "source_directory", "/x");
    send_start(&f, spec);
    expect_failure(&f, "/nonexistent/python3");
    ty_channel_send_json(&f.ch, TY_CHANNEL_ATTACH,
                         json_pack("{s:s s:i s:s}", "run", "../x", "attempt", 1, "token", "t"));
    expect_failure(&f, "no name of a run");
    far_end(&f);
}

/* The stream of the runner: HELLO comes through, and WELCOME goes back. */
static void greet(struct far *f)
{
    static const char welcome[] =
        "{\"protocol\":1,\"record_next\":1,\"logs\":{},\"rows\":{},\"cancel\":false}";
    struct ty_frame w = { .type = TY_FRAME_WELCOME, .body = welcome, .body_len = strlen(welcome) };
    struct ty_channel_frame got = expect(f, TY_CHANNEL_OPEN);
    CLEANUP_STR struct ty_str out = { 0 };
    struct ty_frame hello;
    uint32_t serial, again;

    assert_int_equal(ty_channel_u32(&got, &serial), 0);
    got = expect(f, TY_CHANNEL_DATA);
    assert_int_equal(ty_channel_u32(&got, &again), 0);
    assert_int_equal(again, serial);
    assert_true(ty_frame_decode(got.body, got.n, &hello) > 0);
    assert_int_equal(hello.type, TY_FRAME_HELLO);
    assert_non_null(memmem(hello.body, hello.body_len, "r_1", 3));
    ty_frame_encode(&w, &out);
    ty_channel_send_conn(&f->ch, TY_CHANNEL_DATA, serial, out.text, out.len);
}

static char *read_here(const char *name)
{
    char path[256], *text = NULL;

    snprintf(path, sizeof path, "%s/jobs/r_1/%s", folder, name);
    return ty_read_file(path, 1 << 20, &text, NULL) == 0 ? text : NULL;
}

static void clean(struct far *f)
{
    char path[256];

    ty_channel_send_json(&f->ch, TY_CHANNEL_CLEAN, json_pack("{s:b}", "kill", 1));
    expect(f, TY_CHANNEL_CLEANED);
    snprintf(path, sizeof path, "%s/jobs/r_1", folder);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_job(void **state)
{
    struct far f = { 0 }, g = { 0 };
    json_t *o;
    char *text;

    (void)state;
    far_begin(&f);
    attach(&f, 1, "none");
    send_start(&f, command("echo begun; exec sleep 1000"));
    o = expect_json(&f, TY_CHANNEL_STARTED);
    assert_true(json_integer_value(json_object_get(o, "pid")) > 0);
    json_decref(o);
    greet(&f);
    text = read_here("job.json");
    assert_non_null(text);
    assert_non_null(strstr(text, folder));
    assert_null(strstr(text, "/nonexistent"));
    assert_null(strstr(text, "run_as"));
    free(text);
    /* The channel breaks; the next one finds the job, and the runner comes to it. */
    far_end(&f);
    far_begin(&f);
    attach(&f, 1, "here");
    ty_channel_send_json(&f.ch, TY_CHANNEL_RESUME, json_pack("{s:s}", "verb", "runner"));
    json_decref(expect_json(&f, TY_CHANNEL_STARTED));
    greet(&f);
    /* One that comes while this one lives ends it. */
    far_begin(&g);
    attach(&g, 1, "here");
    ty_channel_send_json(&g.ch, TY_CHANNEL_RESUME, json_pack("{s:s}", "verb", "runner"));
    json_decref(expect_json(&g, TY_CHANNEL_STARTED));
    greet(&g);
    far_end(&f);
    clean(&g);
    far_end(&g);
}

/* Where nobody named the interpreter, the machine's own will do, and it is said. */
static void test_other_python(void **state)
{
    struct far f = { 0 };
    json_t *o;

    (void)state;
    if (access("/usr/bin/python3", X_OK) < 0)
        skip();
    far_begin(&f);
    attach(&f, 1, "none");
    send_start(&f, json_pack("{s:i s:s s:s s:s s:b s:s s:s}", "version", 1, "experiment", "first",
                             "script", "a.py", "interpreter", "/nonexistent/python3",
                             "interpreter_any", 1, "source_directory", "/x", "snapshot",
                             "00010203040506070809aabbccddeeff00010203040506070809aabbccddeeff"));
    o = expect_json(&f, TY_CHANNEL_STARTED);
    assert_int_equal(json_array_size(json_object_get(o, "notes")), 1);
    json_decref(o);
    clean(&f);
    far_end(&f);
}

/* What is here of another attempt makes way. */
/* The second node's folder has a name of its own, for nodes may share a home; its checkpoints are the run's. */
static void test_checkpoints(void **state)
{
    CLEANUP_FREE char *path = ty_strf("%s/checkpoints/r_1", folder);
    CLEANUP_FREE char *its = ty_strf("%s/jobs/r_1.1", folder);
    json_t *o = job(command("exec sleep 1000"));
    struct far f = { 0 };

    (void)state;
    json_object_set_new(o, "checkpoint_dir", json_string("/nonexistent"));
    far_begin(&f);
    attach_as(&f, "r_1.1", 1, "none");
    ty_channel_send_json(&f.ch, TY_CHANNEL_START,
                         json_pack("{s:s s:b s:o s:n s:n}", "verb", "runner", "link", 0, "job", o,
                                   "manifest", "packages"));
    json_decref(expect_json(&f, TY_CHANNEL_STARTED));
    assert_int_equal(access(its, F_OK), 0);
    assert_int_equal(access(path, F_OK), 0);
    clean(&f);
    far_end(&f);
}

static void test_other_attempt(void **state)
{
    struct far f = { 0 };

    (void)state;
    far_begin(&f);
    attach(&f, 1, "none");
    send_start(&f, command("exec sleep 1000"));
    json_decref(expect_json(&f, TY_CHANNEL_STARTED));
    far_end(&f);
    far_begin(&f);
    attach(&f, 2, "none");
    assert_null(read_here("job.json"));
    far_end(&f);
}

static void test_probe(void **state)
{
    struct far f = { 0 };
    json_t *o;

    (void)state;
    far_begin(&f);
    ty_channel_send(&f.ch, TY_CHANNEL_PROBE, NULL, 0);
    o = expect_json(&f, TY_CHANNEL_FACTS);
    assert_true(json_integer_value(json_object_get(o, "cpus")) > 0);
    assert_true(json_integer_value(json_object_get(o, "memory_mb")) > 0);
    assert_true(json_is_array(json_object_get(o, "gpus")));
    assert_true(json_is_array(json_object_get(o, "python")));
    assert_true(json_is_string(json_object_get(o, "openmpi")));
    assert_true(json_is_boolean(json_object_get(o, "libpmix")));
    assert_true(json_is_string(json_object_get(o, "images")));
    assert_int_equal(json_is_true(json_object_get(o, "sandbox")),
                     access("/usr/bin/bwrap", X_OK) == 0);
    json_decref(o);
    far_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_content, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_python, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checkpoints, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_attempt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_probe, set_up, tear_down),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
