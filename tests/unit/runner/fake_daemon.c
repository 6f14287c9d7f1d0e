/* fake_daemon.c - the daemon's end of the runner stream, for tests */
#include "fake_daemon.h"
#include "core/row.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

void fake_back(struct fake *f)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    snprintf(a.sun_path, sizeof a.sun_path, "%s", f->socket);
    unlink(f->socket);
    f->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(f->listen >= 0);
    assert_int_equal(bind(f->listen, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(f->listen, 8), 0);
}

void fake_open(struct fake *f, const char *socket)
{
    *f = (struct fake){
        .socket = strdup(socket), .listen = -1, .conn = -1, .records = json_array()
    };
    fake_back(f);
}

static void hang_up(struct fake *f)
{
    if (f->conn >= 0)
        close(f->conn);
    f->conn = -1;
    ty_str_done(&f->in);
}

void fake_away(struct fake *f)
{
    hang_up(f);
    if (f->listen >= 0)
        close(f->listen);
    f->listen = -1;
    unlink(f->socket);
}

void fake_done(struct fake *f)
{
    fake_away(f);
    free(f->socket);
    json_decref(f->records);
    json_decref(f->hello);
    for (int i = 0; i < FAKE_LOGS; i++) {
        free(f->log_name[i]);
        ty_str_done(&f->log[i]);
    }
    for (int i = 0; i < FAKE_WRITERS; i++)
        ty_str_done(&f->rows[i]);
}

void fake_say(struct fake *f, const struct ty_frame *frame)
{
    CLEANUP_STR struct ty_str out = { 0 };

    assert_int_equal(ty_frame_encode(frame, &out), 0);
    if (f->conn >= 0 && send(f->conn, out.text, out.len, MSG_NOSIGNAL) != (ssize_t)out.len)
        hang_up(f);
}

void fake_cancel(struct fake *f)
{
    fake_say(f, &(struct ty_frame){ .type = TY_FRAME_CANCEL });
}

static void say_json(struct fake *f, enum ty_frame_type type, json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);
    struct ty_frame frame = { .type = type, .body = text, .body_len = strlen(text) };

    fake_say(f, &frame);
    free(text);
    json_decref(o);
}

static void on_hello(struct fake *f, const struct ty_frame *in)
{
    json_t *logs = json_object(), *rows = json_object();

    json_decref(f->hello);
    f->hello = json_loadb(in->body, in->body_len, 0, NULL);
    assert_non_null(f->hello);
    for (int i = 0; i < FAKE_LOGS; i++)
        if (f->log_name[i])
            json_object_set_new(logs, f->log_name[i], json_integer((json_int_t)f->log[i].len));
    for (int i = 0; i < FAKE_WRITERS; i++) {
        char key[8];

        snprintf(key, sizeof key, "%d", i);
        if (f->nrows[i])
            json_object_set_new(rows, key, json_integer((json_int_t)f->nrows[i]));
    }
    f->welcomes++;
    if (f->welcome) {
        json_decref(logs);
        json_decref(rows);
        fake_say(f, &(struct ty_frame){ .type = TY_FRAME_WELCOME,
                                        .body = f->welcome,
                                        .body_len = strlen(f->welcome) });
        return;
    }
    if (f->refuse) {
        json_decref(logs);
        json_decref(rows);
        say_json(f, TY_FRAME_REFUSED, json_pack("{s:s}", "message", "no such run"));
        hang_up(f);
        return;
    }
    say_json(f, TY_FRAME_WELCOME,
             json_pack("{s:i, s:i, s:o, s:o, s:b}", "protocol", 1, "record_next",
                       (int)json_array_size(f->records) + 1, "logs", logs, "rows", rows, "cancel",
                       f->cancel));
    if (fake_record(f, "collected", 0) && !f->hold)
        fake_say(f, &(struct ty_frame){ .type = TY_FRAME_RELEASE });
}

static void on_record(struct fake *f, const struct ty_frame *in)
{
    uint64_t have = json_array_size(f->records);
    json_t *o = json_loadb(in->body, in->body_len, 0, NULL);

    assert_non_null(o);
    assert_true(in->seq >= 1 && in->seq <= have + 1);
    if (in->seq <= have)
        assert_true(json_equal(o, json_array_get(f->records, in->seq - 1)));
    else
        json_array_append(f->records, o);
    fake_say(f, &(struct ty_frame){ .type = TY_FRAME_RECORD_ACK,
                                    .seq = json_array_size(f->records) + 1 });
    if (strcmp(json_string_value(json_object_get(o, "kind")), "collected") == 0 && !f->hold)
        fake_say(f, &(struct ty_frame){ .type = TY_FRAME_RELEASE });
    json_decref(o);
}

static void on_log(struct fake *f, const struct ty_frame *in)
{
    int i = 0;

    while (i < FAKE_LOGS && f->log_name[i] &&
           (strlen(f->log_name[i]) != in->name_len ||
            memcmp(f->log_name[i], in->name, in->name_len) != 0))
        i++;
    assert_true(i < FAKE_LOGS);
    if (!f->log_name[i])
        f->log_name[i] = strndup(in->name, in->name_len);
    assert_true(in->body_len > 0 && in->body_len <= TY_WIRE_LOG_CHUNK);
    assert_int_equal(in->seq, f->log[i].len); /* exactly what is missing */
    ty_str_addn(&f->log[i], in->body, in->body_len);
    fake_say(f, &(struct ty_frame){ .type = TY_FRAME_LOG_ACK,
                                    .seq = f->log[i].len,
                                    .name = in->name,
                                    .name_len = in->name_len });
}

static void on_rows(struct fake *f, const struct ty_frame *in)
{
    size_t used = 0;
    uint32_t n = 0;

    assert_true(in->writer < FAKE_WRITERS);
    assert_int_equal(in->seq, f->nrows[in->writer]);
    while (used < in->body_len) {
        struct ty_row row;
        ptrdiff_t got = ty_row_decode((const char *)in->body + used, in->body_len - used, &row);

        assert_true(got > 0 && row.kind != TY_ROW_PAD);
        used += (size_t)got;
        n++;
    }
    assert_int_equal(n, in->count);
    ty_str_addn(&f->rows[in->writer], in->body, in->body_len);
    f->nrows[in->writer] += n;
    fake_say(f, &(struct ty_frame){
                    .type = TY_FRAME_ROWS_ACK, .writer = in->writer, .seq = f->nrows[in->writer] });
}

static void on_frame(struct fake *f, const struct ty_frame *in)
{
    if (in->type == TY_FRAME_HELLO)
        on_hello(f, in);
    else if (in->type == TY_FRAME_PING)
        fake_say(f, &(struct ty_frame){ .type = TY_FRAME_PONG });
    else if (f->mute)
        return;
    else if (in->type == TY_FRAME_RECORD)
        on_record(f, in);
    else if (in->type == TY_FRAME_LOG)
        on_log(f, in);
    else if (in->type == TY_FRAME_ROWS)
        on_rows(f, in);
    else
        fail_msg("a runner does not send frames of type %d", (int)in->type);
}

static void on_bytes(struct fake *f)
{
    size_t used = 0;

    while (f->conn >= 0) {
        struct ty_frame in;
        ptrdiff_t n =
            f->in.len > used ? ty_frame_decode(f->in.text + used, f->in.len - used, &in) : -EAGAIN;

        if (n == -EAGAIN)
            break;
        assert_true(n > 0);
        on_frame(f, &in);
        used += (size_t)n;
        f->frames++;
        if (f->break_every && f->frames % f->break_every == 0)
            hang_up(f);
    }
    if (f->conn >= 0 && used > 0) {
        memmove(f->in.text, f->in.text + used, f->in.len - used);
        f->in.len -= used;
    }
}

void fake_turn(struct fake *f, int timeout_ms)
{
    static char buf[1 << 16];
    struct pollfd p[2] = { { .fd = f->listen, .events = POLLIN },
                           { .fd = f->conn, .events = POLLIN } };
    ssize_t n;

    if (poll(p, 2, timeout_ms) <= 0)
        return;
    if (p[0].revents) {
        int fd = accept4(f->listen, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
            hang_up(f);
            f->conn = fd;
            return;
        }
    }
    if (!p[1].revents)
        return;
    n = recv(f->conn, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        hang_up(f);
        return;
    }
    ty_str_addn(&f->in, buf, (size_t)n);
    on_bytes(f);
}

const json_t *fake_record(const struct fake *f, const char *kind, int n)
{
    size_t i;
    json_t *o;

    json_array_foreach (f->records, i, o)
        if (strcmp(json_string_value(json_object_get(o, "kind")), kind) == 0 && n-- == 0)
            return o;
    return NULL;
}

const struct ty_str *fake_log(const struct fake *f, const char *name)
{
    static const struct ty_str none = { .text = (char *)"" };

    for (int i = 0; i < FAKE_LOGS; i++)
        if (f->log_name[i] && ty_ends_with(f->log_name[i], name))
            return &f->log[i];
    return &none;
}
