/* test_ingest.c - the daemon's end of the runner stream: what is acknowledged is stored, once
 *
 * Real store, real socket; the test is the runner, and in the place of the scheduler it writes down what it is asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "core/row.h"
#include "core/wire.h"
#include "store/store.h"
#include "track/follow.h"
#include "track/ingest.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 10000
#define RUN "first_1_00000000"

struct box {
    char home[64];
    uv_loop_t loop;
    uv_async_t wake;
    struct ty_store *store;
    struct ty_follow_hub *hub;
    struct ty_ingest *in;
    int64_t id, seq;
    struct ty_run run;
    /* what the scheduler was asked */
    int hello_r, records, notes, stored, failed, heard;
    bool cancel;
    char last_note[128];
    /* what the runner has read */
    char bytes[1 << 16];
    size_t len;
};

/* ---- in the place of the scheduler ---- */

static int on_hello(void *ctx, const char *run, const char *token, int64_t attempt, int64_t *id,
                    struct ty_error *err)
{
    struct box *b = ctx;

    assert_string_equal(run, RUN);
    if (strcmp(token, "secret") != 0 || attempt != 1)
        return ty_error_set(err, -EACCES, "this is not the runner of that run");
    if (b->hello_r < 0)
        return ty_error_set(err, b->hello_r, "not now");
    *id = b->id;
    return 0;
}

static bool on_cancel_wanted(void *ctx, const char *run)
{
    (void)run;
    return ((struct box *)ctx)->cancel;
}

static int on_record(void *ctx, const char *run, struct ty_unit *u, const json_t *record,
                     struct ty_error *err)
{
    struct box *b = ctx;

    (void)run;
    if (!json_is_string(json_object_get(record, "kind")))
        return ty_error_set(err, -EINVAL, "it has no kind");
    b->records++;
    ty_unit_event(u, b->id, ++b->seq, 1, "warned", record, &b->run);
    return 0;
}

static void on_note(void *ctx, const char *run, struct ty_unit *u, bool property, const char *key,
                    const json_t *value)
{
    struct box *b = ctx;

    (void)run, (void)u;
    b->notes++;
    snprintf(b->last_note, sizeof b->last_note, "%s %s %s", property ? "property" : "tag", key,
             json_is_null(value) ? "null" : json_string_value(value));
}

static int64_t on_queued(void *ctx, const char *run)
{
    (void)run;
    return ((struct box *)ctx)->seq;
}

static void on_stored(void *ctx, const char *run, int r, int64_t ticket)
{
    struct box *b = ctx;

    (void)run;
    assert_true(ticket <= b->seq);
    *(r < 0 ? &b->failed : &b->stored) += 1;
}

static void on_heard(void *ctx, const char *run)
{
    (void)run;
    ((struct box *)ctx)->heard++;
}

static const struct ty_ingest_ops ops = { .hello = on_hello,
                                          .cancel_wanted = on_cancel_wanted,
                                          .record = on_record,
                                          .note = on_note,
                                          .queued = on_queued,
                                          .stored = on_stored,
                                          .heard = on_heard };

/* ---- the box ---- */

static void on_wake(uv_async_t *a)
{
    struct box *b = a->data;

    if (b->store)
        ty_store_deliver(b->store);
}

static void wake(void *ctx)
{
    uv_async_send(&((struct box *)ctx)->wake);
}

static void add_run(struct box *b)
{
    struct ty_run_row row = { .id = ty_store_next_id(b->store),
                              .name = RUN,
                              .experiment = "first",
                              .token = "secret",
                              .spec = "{}",
                              .run = TY_RUN_INIT };
    struct ty_unit *u = ty_unit_new();
    struct ty_event_note note = { .at_us = 1, .exit_code = -1 };
    CLEANUP_JSON json_t *data = json_object();

    b->run = (struct ty_run)TY_RUN_INIT;
    assert_int_equal(ty_run_apply(&b->run, TY_EV_SUBMITTED, &note), 0);
    ty_unit_run_add(u, &row);
    ty_unit_event(u, row.id, 1, 1, "submitted", data, &b->run);
    ty_store_commit(b->store, u, NULL, NULL);
    assert_int_equal(ty_store_settle(b->store), 0);
    b->id = row.id;
    b->seq = 1;
}

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct ty_ingest_options o = { .loop = &b->loop, .ops = &ops, .ctx = b };
    struct ty_error err = { 0 };

    signal(SIGPIPE, SIG_IGN);
    snprintf(b->home, sizeof b->home, "/tmp/ty-ingest-XXXXXX");
    assert_non_null(mkdtemp(b->home));
    uv_loop_init(&b->loop);
    uv_async_init(&b->loop, &b->wake, on_wake);
    b->wake.data = b;
    assert_int_equal(ty_store_open(b->home, wake, b, &b->store, &err), 0);
    o.store = b->store;
    o.hub = b->hub = ty_follow_hub_new();
    o.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", b->home);
    assert_int_equal(bind(o.listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(ty_ingest_open(&o, &b->in, &err), 0);
    add_run(b);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_ingest_stop(b->in);
    b->store = ty_store_close(b->store);
    uv_close((uv_handle_t *)&b->wake, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    ty_ingest_free(b->in);
    ty_follow_hub_free(b->hub);
    ty_rm_rf(b->home);
    free(b);
    return 0;
}

/* ---- the runner ---- */

static int dial(struct box *b)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", b->home);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    b->len = 0;
    return fd;
}

static void say(int fd, const struct ty_frame *f)
{
    CLEANUP_STR struct ty_str out = { 0 };

    assert_int_equal(ty_frame_encode(f, &out), 0);
    assert_int_equal(write(fd, out.text, out.len), out.len);
}

static void say_json(int fd, enum ty_frame_type type, uint64_t seq, const char *json)
{
    say(fd, &(struct ty_frame){ .type = type, .seq = seq, .body = json, .body_len = strlen(json) });
}

static void say_log(int fd, uint64_t offset, const char *text)
{
    say(fd, &(struct ty_frame){ .type = TY_FRAME_LOG,
                                .seq = offset,
                                .name = "l",
                                .name_len = 1,
                                .body = text,
                                .body_len = strlen(text) });
}

/* The next frame: 1; the end of the stream: 0. */
static int hear(struct box *b, int fd, struct ty_frame *f)
{
    static char copy[1 << 16];

    for (int ms = 0; ms < WAIT_MS; ms += 2) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ptrdiff_t used = ty_frame_decode(b->bytes, b->len, f);

        assert_true(used > 0 || used == -EAGAIN);
        if (used > 0) {
            memcpy(copy, b->bytes, b->len);
            assert_true(ty_frame_decode(copy, b->len, f) == used);
            b->len -= (size_t)used;
            memmove(b->bytes, b->bytes + used, b->len);
            return 1;
        }
        uv_run(&b->loop, UV_RUN_NOWAIT);
        if (poll(&p, 1, 2) > 0) {
            ssize_t n = read(fd, b->bytes + b->len, sizeof b->bytes - b->len);

            if (n <= 0)
                return 0;
            b->len += (size_t)n;
        }
    }
    fail_msg("no frame came, and no end");
    return -1;
}

static void expect(struct box *b, int fd, enum ty_frame_type type, uint64_t seq)
{
    struct ty_frame f;

    assert_int_equal(hear(b, fd, &f), 1);
    assert_int_equal(f.type, type);
    assert_int_equal(f.seq, seq);
}

static void expect_end(struct box *b, int fd)
{
    struct ty_frame f;

    assert_int_equal(hear(b, fd, &f), 0);
    close(fd);
}

#define HELLO(protocol, token) \
    "{\"protocol\": " protocol ", \"run\": \"" RUN "\", \"attempt\": 1, \"token\": \"" token "\"}"

/* A greeted stream; *resume (NULL: not asked) is what the daemon has. */
static int greet(struct box *b, json_t **resume)
{
    struct ty_error err = { 0 };
    struct ty_frame f;
    json_t *o = NULL;
    int fd = dial(b);

    say_json(fd, TY_FRAME_HELLO, 0, HELLO("1", "secret"));
    assert_int_equal(hear(b, fd, &f), 1);
    assert_int_equal(f.type, TY_FRAME_WELCOME);
    assert_int_equal(ty_json_parse(f.body, f.body_len, &o, &err), 0);
    if (resume)
        *resume = o;
    else
        json_decref(o);
    return fd;
}

static size_t add_row(char *out, enum ty_row_kind kind, const char *name, const void *value,
                      size_t n)
{
    struct ty_row row = { .kind = kind,
                          .step = TY_ROW_NO_STEP,
                          .at_us = 5,
                          .name = name,
                          .name_len = strlen(name),
                          .value = value,
                          .value_len = n };

    assert_int_equal(ty_row_encode(&row, out), 0);
    return ty_row_size(&row);
}

static int64_t resume_number(const json_t *resume, const char *key, const char *name)
{
    const json_t *at = json_object_get(resume, key);

    return json_integer_value(name ? json_object_get(at, name) : at);
}

/* ---- greeting ---- */

static void test_greeting(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *resume = NULL;
    int fd = greet(b, &resume);

    assert_int_equal(resume_number(resume, "record_next", NULL), 1);
    assert_int_equal(json_object_size(json_object_get(resume, "logs")), 0);
    assert_false(json_is_true(json_object_get(resume, "cancel")));
    assert_true(ty_ingest_connected(b->in, RUN));
    say(fd, &(struct ty_frame){ .type = TY_FRAME_PING });
    expect(b, fd, TY_FRAME_PONG, 0);
    assert_int_equal(b->heard, 1);
    close(fd);
}

static void expect_refused(struct box *b, const char *hello, const char *why)
{
    struct ty_frame f;
    int fd = dial(b);

    say_json(fd, TY_FRAME_HELLO, 0, hello);
    assert_int_equal(hear(b, fd, &f), 1);
    assert_int_equal(f.type, TY_FRAME_REFUSED);
    assert_non_null(memmem(f.body, f.body_len, why, strlen(why)));
    expect_end(b, fd);
}

static void test_who_is_not_let_in(void **state)
{
    static const char *const nonsense[] = { "[]", "{", "{\"protocol\": 1}",
                                            "{\"protocol\": \"1\", \"run\": 1}" };
    struct box *b = *state;
    int fd;

    expect_refused(b, HELLO("1", "wrong"), "not the runner");
    fd = dial(b);
    say_json(fd, TY_FRAME_HELLO, 0,
             HELLO("2", "secret")); /* of a newer runner: it waits for another daemon */
    expect_end(b, fd);
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        fd = dial(b);
        say_json(fd, TY_FRAME_HELLO, 0, nonsense[i]);
        expect_end(b, fd);
    }
    fd = dial(b);
    say_log(fd, 0, "before any greeting");
    expect_end(b, fd);
    fd = dial(b);
    assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    expect_end(b, fd);
    b->hello_r = -EAGAIN; /* come back later: no word, and no refusal, which would end the job */
    fd = dial(b);
    say_json(fd, TY_FRAME_HELLO, 0, HELLO("1", "secret"));
    expect_end(b, fd);
}

/* ---- logs, rows, records ---- */

static void test_a_log(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *resume = NULL;
    uint64_t bytes = 0;
    int fd = greet(b, NULL);

    say_log(fd, 0, "hello ");
    say_log(fd, 6, "world");
    expect(b, fd, TY_FRAME_LOG_ACK, 6);
    expect(b, fd, TY_FRAME_LOG_ACK, 11);
    say_log(fd, 3, "lo world, again"); /* what is known is not written twice */
    expect(b, fd, TY_FRAME_LOG_ACK, 18);
    assert_int_equal(ty_store_log_size(b->store, b->id, "l", &bytes), 0);
    assert_int_equal(bytes, 18);
    say_log(fd, 100, "a gap");
    expect_end(b, fd);
    assert_int_equal(b->failed, 1);
    fd = greet(b, &resume);
    assert_int_equal(resume_number(resume, "logs", "l"), 18);
    close(fd);
}

static void test_rows(void **state)
{
    static const char one[8] = { 0, 0, 0, 0, 0, 0, (char)0xf0, 0x3f };
    struct box *b = *state;
    CLEANUP_JSON json_t *rows = NULL, *resume = NULL;
    char bytes[512];
    size_t n = 0;
    int fd = greet(b, NULL);

    n += add_row(bytes + n, TY_ROW_DOUBLE, "loss", one, 8);
    n += add_row(bytes + n, TY_ROW_TAG, "stage", "\"warm\"", 6);
    n += add_row(bytes + n, TY_ROW_DOUBLE, "loss", one, 8);
    say(fd, &(struct ty_frame){ .type = TY_FRAME_ROWS,
                                .writer = 3,
                                .seq = 0,
                                .count = 3,
                                .body = bytes,
                                .body_len = n });
    expect(b, fd, TY_FRAME_ROWS_ACK, 3);
    assert_int_equal(b->notes, 1);
    assert_string_equal(b->last_note, "tag stage warm");
    /* Sent again: neither row nor tag counts twice. */
    say(fd, &(struct ty_frame){ .type = TY_FRAME_ROWS,
                                .writer = 3,
                                .seq = 0,
                                .count = 3,
                                .body = bytes,
                                .body_len = n });
    expect(b, fd, TY_FRAME_ROWS_ACK, 3);
    assert_int_equal(b->notes, 1);
    assert_int_equal(ty_store_rows_json(b->store, b->id, "loss", 100, &rows), 0);
    assert_int_equal(json_array_size(rows), 2);
    n = add_row(bytes, TY_ROW_PROPERTY, "p", "\"v\"", 3);
    say(fd, &(struct ty_frame){ .type = TY_FRAME_ROWS,
                                .writer = 3,
                                .seq = 3,
                                .count = 1,
                                .body = bytes,
                                .body_len = n });
    expect(b, fd, TY_FRAME_ROWS_ACK, 4);
    assert_string_equal(b->last_note, "property p v");
    n = add_row(bytes, TY_ROW_TAG, "t", "[1]", 3); /* malformed: dropped, and the rest goes on */
    say(fd, &(struct ty_frame){ .type = TY_FRAME_ROWS,
                                .writer = 3,
                                .seq = 4,
                                .count = 1,
                                .body = bytes,
                                .body_len = n });
    expect(b, fd, TY_FRAME_ROWS_ACK, 5);
    assert_int_equal(b->notes, 2);
    say(fd, &(struct ty_frame){ .type = TY_FRAME_ROWS,
                                .writer = 3,
                                .seq = 9,
                                .count = 1,
                                .body = bytes,
                                .body_len = n });
    expect_end(b, fd); /* a gap */
    fd = greet(b, &resume);
    assert_int_equal(resume_number(resume, "rows", "3"), 5);
    say(fd, &(struct ty_frame){ .type = TY_FRAME_ROWS,
                                .writer = 1u << 31,
                                .seq = 0,
                                .count = 1,
                                .body = bytes,
                                .body_len = n });
    expect_end(b, fd); /* no such writer */
}

static void test_records(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *resume = NULL;
    int fd = greet(b, NULL);

    say_json(fd, TY_FRAME_RECORD, 1, "{\"kind\": \"warning\", \"text\": \"a\"}");
    expect(b, fd, TY_FRAME_RECORD_ACK, 2);
    say_json(fd, TY_FRAME_RECORD, 1,
             "{\"kind\": \"warning\", \"text\": \"a\"}"); /* its acknowledgement was lost */
    expect(b, fd, TY_FRAME_RECORD_ACK, 2);
    assert_int_equal(b->records, 1);
    say_json(fd, TY_FRAME_RECORD, 3, "{\"kind\": \"warning\", \"text\": \"gap\"}");
    expect_end(b, fd);
    fd = greet(b, &resume);
    assert_int_equal(resume_number(resume, "record_next", NULL), 2);
    say_json(fd, TY_FRAME_RECORD, 2, "{\"kind\": \"collected\", \"text\": \"end\"}");
    expect(b, fd, TY_FRAME_RECORD_ACK, 3);
    expect(b, fd, TY_FRAME_RELEASE, 0);
    assert_int_equal(b->records, 2);
    say_json(fd, TY_FRAME_RECORD, 3, "{\"text\": \"no kind\"}");
    expect_end(b, fd);
    fd = greet(b, NULL);
    say_json(fd, TY_FRAME_RECORD, 3, "not json");
    expect_end(b, fd);
}

/* ---- several connections of one run ---- */

/* The runner lost its connection before we did: the new one is welcomed, the old one closed. */
static void test_a_second_connection(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *resume = NULL;
    int old = greet(b, NULL), fd;

    say_log(old, 0, "in flight");
    fd = greet(b, &resume); /* it waits until what the first one sent is stored */
    assert_int_equal(resume_number(resume, "logs", "l"), 9);
    say_log(fd, 9, "!");
    expect(b, fd, TY_FRAME_LOG_ACK, 10);
    assert_true(ty_ingest_connected(b->in, RUN));
    close(old);
    close(fd);
    for (int i = 0; ty_ingest_connected(b->in, RUN) && i < 1000; i++)
        uv_run(&b->loop, UV_RUN_ONCE);
    assert_false(ty_ingest_connected(b->in, RUN));
}

static void test_cancel(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *resume = NULL;
    int fd;

    assert_false(ty_ingest_cancel(b->in, RUN));
    fd = greet(b, NULL);
    assert_true(ty_ingest_cancel(b->in, RUN));
    expect(b, fd, TY_FRAME_CANCEL, 0);
    close(fd);
    b->cancel = true; /* wanted while no runner was there: it is told with its welcome */
    fd = greet(b, &resume);
    assert_true(json_is_true(json_object_get(resume, "cancel")));
    close(fd);
}

#ifdef TY_FAULTS
/* What cannot be stored is not acknowledged: the stream ends, and goes on where the store is. */
static void test_a_store_that_fails(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *resume = NULL;
    int fd = greet(b, NULL);

    ty_fault_arm("store.commit", 1, ENOSPC);
    say_log(fd, 0, "lost");
    expect_end(b, fd);
    ty_fault_arm("none", 0, 0);
    assert_int_equal(b->failed, 1);
    assert_int_equal(ty_store_resume(b->store), 0);
    fd = greet(b, &resume);
    assert_int_equal(json_object_size(json_object_get(resume, "logs")), 0);
    say_log(fd, 0, "kept");
    expect(b, fd, TY_FRAME_LOG_ACK, 4);
    close(fd);
}
#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_greeting),
        T(test_who_is_not_let_in),
        T(test_a_log),
        T(test_rows),
        T(test_records),
        T(test_a_second_connection),
        T(test_cancel),
#ifdef TY_FAULTS
        T(test_a_store_that_fails),
#endif
    };

    return cmocka_run_group_tests_name("ingest", tests, NULL, NULL);
}
