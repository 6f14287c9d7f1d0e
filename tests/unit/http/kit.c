/* kit.c - a server in this process, and clients of it */
#include "kit.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "blob/blob.h"
#include "http/schemas.h"
#include "store/store.h"
#include "track/follow.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the loop ---- */

static void on_wake(uv_async_t *a)
{
    struct kit *k = a->data;

    if (k->store)
        ty_store_deliver(k->store);
}

static void wake(void *ctx)
{
    uv_async_send(&((struct kit *)ctx)->wake);
}
static void on_late(uv_timer_t *t)
{
    ((struct kit *)t->data)->late = true;
}

void kit_until(struct kit *k, bool (*fn)(void *ctx), void *ctx)
{
    k->late = false;
    uv_timer_start(&k->bound, on_late, WAIT_MS, 0);
    while (!fn(ctx) && !k->late)
        uv_run(&k->loop, UV_RUN_ONCE);
    uv_timer_stop(&k->bound);
    if (k->late)
        fail_msg("what was waited for did not come within %d ms", WAIT_MS);
}

/* ---- opening and closing ---- */

static int listen_in(const char *dir)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static void on_stop(void *ctx)
{
    struct kit *k = ctx;

    k->stopped = true;
    kit_stop(k);
}

static void limit(struct kit *k, const char *key, const char *value)
{
    assert_int_equal(ty_conf_set(k->conf, key, value, "test", NULL), 0);
}

int kit_open(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    CLEANUP_FREE char *blobs = NULL;
    struct ty_error err = { 0 };
    struct ty_http_options o;

    signal(SIGPIPE, SIG_IGN);
    snprintf(k->dir, sizeof k->dir, "/tmp/ty-http-XXXXXX");
    assert_non_null(mkdtemp(k->dir));
    k->agent = ty_path_join(k->dir, "agent");
    setenv("XDG_CONFIG_HOME", k->dir, 1);
    blobs = ty_path_join(k->dir, "blobs");
    uv_loop_init(&k->loop);
    uv_async_init(&k->loop, &k->wake, on_wake);
    uv_timer_init(&k->loop, &k->bound);
    k->wake.data = k->bound.data = k;
    assert_int_equal(ty_conf_load(k->dir, &k->conf, &err), 0);
    limit(k, "limits.request_bytes", "100000");
    limit(k, "limits.upload_bytes", "1000000");
    limit(k, "limits.followers", "3");
    assert_int_equal(ty_blobs_open(blobs, &k->blobs, &err), 0);
    assert_int_equal(ty_store_open(k->dir, wake, k, &k->store, &err), 0);
    k->hub = ty_follow_hub_new();
    k->sched = (struct ty_sched){ .store = k->store, .hub = k->hub };
    o = (struct ty_http_options){ .loop = &k->loop,
                                  .listen_fd = listen_in(k->dir),
                                  .store = k->store,
                                  .sched = &k->sched,
                                  .blobs = k->blobs,
                                  .conf = k->conf,
                                  .hub = k->hub,
                                  .home = k->dir,
                                  .agent = k->agent,
                                  .started_us = 1780000000000000,
                                  .stop = on_stop,
                                  .ctx = k };
    assert_int_equal(ty_http_open(&o, &k->http, &err), 0);
    *state = k;
    return 0;
}

/* As the daemon does it. */
void kit_stop(struct kit *k)
{
    if (!k->store)
        return;
    ty_http_stop(k->http);
    k->store = ty_store_close(k->store);
}

int kit_close(void **state)
{
    struct kit *k = *state;

    kit_stop(k);
    uv_close((uv_handle_t *)&k->wake, NULL);
    uv_close((uv_handle_t *)&k->bound, NULL);
    uv_run(&k->loop, UV_RUN_DEFAULT);
    ty_http_done(k->http);
    ty_follow_hub_free(k->hub);
    ty_blobs_free(k->blobs);
    ty_conf_free(k->conf);
    assert_int_equal(uv_loop_close(&k->loop), 0);
    ty_rm_rf(k->dir);
    free(k->agent);
    free(k);
    return 0;
}

/* ---- runs ---- */

static bool is_true(void *ctx)
{
    return *(bool *)ctx;
}

struct commit {
    bool done;
    int r;
};

static void on_commit(void *ctx, int r)
{
    *(struct commit *)ctx = (struct commit){ .done = true, .r = r };
}

static void commit(struct kit *k, struct ty_unit *u, const char *run)
{
    struct commit c = { 0 };

    ty_store_commit(k->store, u, on_commit, &c);
    kit_until(k, is_true, &c.done);
    assert_int_equal(c.r, 0);
    ty_follow_notify(k->hub, run);
}

int64_t kit_run(struct kit *k, const char *name)
{
    struct ty_run_row row = { .id = ty_store_next_id(k->store),
                              .name = name,
                              .experiment = "first",
                              .target = "local",
                              .user = "ann",
                              .command_line = "true",
                              .token = "t",
                              .spec = k->spec ? k->spec : "{\"version\":1}",
                              .run = TY_RUN_INIT };
    struct ty_event_note note = { .at_us = 1780000000000000, .exit_code = -1 };
    struct ty_unit *u = ty_unit_new();

    ty_unit_run_add(u, &row);
    assert_int_equal(ty_run_apply(&row.run, TY_EV_SUBMITTED, &note), 0);
    ty_unit_event(u, row.id, 1, note.at_us, "submitted", NULL, &row.run);
    commit(k, u, name);
    return row.id;
}

struct last {
    struct ty_run run;
    int64_t id, seq;
};

static int take_last(const struct ty_active_run *a, void *ctx)
{
    *(struct last *)ctx = (struct last){ .run = a->row.run, .id = a->row.id, .seq = a->last_seq };
    return 0;
}

static struct last last_of(struct kit *k, const char *name)
{
    struct last l;

    assert_int_equal(ty_store_with_run(k->store, name, take_last, &l), 0);
    return l;
}

void kit_event(struct kit *k, const char *name, enum ty_run_event ev)
{
    struct last l = last_of(k, name);
    struct ty_event_note note = { .at_us = 1780000001000000 + l.seq,
                                  .exit_code = ev == TY_EV_EXITED_OK ? 0 : -1 };
    struct ty_unit *u = ty_unit_new();

    assert_int_equal(ty_run_apply(&l.run, ev, &note), 0);
    ty_unit_event(u, l.id, l.seq + 1, note.at_us, ty_run_event_word(ev), NULL, &l.run);
    commit(k, u, name);
}

void kit_note(struct kit *k, const char *name, int count)
{
    struct last l = last_of(k, name);
    struct ty_unit *u = ty_unit_new();

    for (int i = 0; i < count; i++) {
        CLEANUP_JSON json_t *data = json_pack("{s:s}", "text", "beware");

        ty_unit_event(u, l.id, ++l.seq, 1780000002000000, "warned", data, &l.run);
    }
    commit(k, u, name);
}

void kit_log(struct kit *k, const char *name, const char *log, uint64_t offset, const void *bytes,
             size_t n)
{
    struct ty_unit *u = ty_unit_new();

    ty_unit_log(u, last_of(k, name).id, name, log, offset, bytes, n,
                k->log_at_us ? k->log_at_us : ty_wall_us());
    commit(k, u, name);
}

void kit_rows(struct kit *k, const char *name, uint32_t writer, uint64_t first, uint32_t count,
              const char *metric)
{
    struct ty_unit *u = ty_unit_new();
    CLEANUP_STR struct ty_str rows = { 0 };

    for (uint32_t i = 0; i < count; i++) {
        double value = (double)(first + i);
        struct ty_row row = { .kind = TY_ROW_DOUBLE,
                              .step = TY_ROW_NO_STEP,
                              .at_us = 1780000003000000,
                              .name = metric,
                              .name_len = strlen(metric),
                              .value = &value,
                              .value_len = sizeof value };
        CLEANUP_FREE char *bytes = calloc(1, ty_row_size(&row));

        assert_int_equal(ty_row_encode(&row, bytes), 0);
        ty_str_addn(&rows, bytes, ty_row_size(&row));
    }
    ty_unit_rows(u, last_of(k, name).id, writer, first, count, rows.text, rows.len);
    commit(k, u, name);
}

/* ---- connections ---- */

/* Reads all there is: after a reset the loop tells of it once only. */
static void on_bytes(uv_poll_t *p, int status, int events)
{
    struct client *c = p->data;
    char buf[65536];
    ssize_t n;

    (void)status;
    (void)events;
    while ((n = read(c->fd, buf, sizeof buf)) > 0)
        ty_str_addn(&c->in, buf, (size_t)n);
    if (n == 0 || errno != EAGAIN) {
        c->eof = true;
        uv_poll_stop(&c->poll);
    }
}

struct client *client_open(struct kit *k)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct client *c = calloc(1, sizeof *c);

    c->k = k;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", k->dir);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    uv_poll_init(&k->loop, &c->poll, c->fd);
    c->poll.data = c;
    uv_poll_start(&c->poll, UV_READABLE, on_bytes);
    return c;
}

/* A server that refused may have closed its end: what could not be sent is then of no interest. */
void client_send(struct client *c, const void *bytes, size_t n)
{
    size_t at = 0;
    int64_t tries = 0;

    while (at < n) {
        ssize_t w = write(c->fd, (const char *)bytes + at, n - at);

        if (w > 0)
            at += (size_t)w;
        else if (errno != EAGAIN)
            return;
        if (w < 0)
            uv_run(&c->k->loop, UV_RUN_NOWAIT);
        if (++tries > 10000000)
            fail_msg("the server takes nothing more");
    }
}

void client_sendf(struct client *c, const char *fmt, ...)
{
    CLEANUP_STR struct ty_str s = { 0 };
    va_list ap;

    va_start(ap, fmt);
    ty_str_addv(&s, fmt, ap);
    va_end(ap);
    client_send(c, s.text, s.len);
}

struct wanted {
    struct client *c;
    const char *text;
};

static bool has_text(void *ctx)
{
    struct wanted *w = ctx;

    return w->c->eof ||
           (w->c->in.text && memmem(w->c->in.text, w->c->in.len, w->text, strlen(w->text)));
}

void client_until(struct client *c, const char *text)
{
    struct wanted w = { .c = c, .text = text };

    kit_until(c->k, has_text, &w);
    if (!c->in.text || !memmem(c->in.text, c->in.len, text, strlen(text)))
        fail_msg("the connection ended without '%s'; it had: %s", text,
                 c->in.text ? c->in.text : "");
}

void client_eof(struct client *c)
{
    kit_until(c->k, is_true, &c->eof);
}

static void on_client_closed(uv_handle_t *h)
{
    struct client *c = h->data;

    close(c->fd);
    ty_str_done(&c->in);
    free(c);
}

struct client *client_close(struct client *c)
{
    shutdown(c->fd, SHUT_RDWR);
    uv_close((uv_handle_t *)&c->poll, on_client_closed);
    return NULL;
}

/* ---- exchanges ---- */

const char *header_of(const struct answer *a, const char *name, char *buf, size_t size)
{
    for (const char *line = a->head; line && *line;
         line = strstr(line, "\r\n") ? strstr(line, "\r\n") + 2 : NULL)
        if (strncasecmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
            const char *value = line + strlen(name) + 2;

            snprintf(buf, size, "%.*s", (int)strcspn(value, "\r"), value);
            return buf;
        }
    return NULL;
}

static void dechunk(struct answer *a)
{
    char *in = a->body, *end = a->body + a->len;
    size_t n = 0;

    while (in < end) {
        size_t size = strtoul(in, &in, 16);

        in += 2;
        if (size == 0)
            break;
        assert_true(in + size <= end);
        memmove(a->body + n, in, size);
        n += size;
        in += size + 2;
    }
    a->body[n] = '\0';
    a->len = n;
}

static struct answer parse(const struct ty_str *in)
{
    char *blank = in->text ? memmem(in->text, in->len, "\r\n\r\n", 4) : NULL, buf[64];
    struct answer a = { 0 };

    if (!blank)
        fail_msg("no HTTP reply came but: %s", in->text ? in->text : "nothing");
    a.head = strndup(in->text, (size_t)(blank - in->text));
    a.len = in->len - (size_t)(blank + 4 - in->text);
    a.body = malloc(a.len + 1);
    memcpy(a.body, blank + 4, a.len);
    a.body[a.len] = '\0';
    assert_int_equal(sscanf(a.head, "HTTP/1.1 %d", &a.status), 1);
    if (header_of(&a, "Transfer-Encoding", buf, sizeof buf))
        dechunk(&a);
    if (header_of(&a, "Content-Type", buf, sizeof buf) && strcmp(buf, "application/json") == 0)
        a.json = json_loadb(a.body, a.len, 0, NULL);
    return a;
}

struct answer ask(struct kit *k, const char *method, const char *path, const char *headers,
                  const void *body, size_t n)
{
    struct client *c = client_open(k);
    struct answer a;

    client_sendf(c, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s", method, path,
                 headers ? headers : "");
    if (body)
        client_sendf(c, "Content-Length: %zu\r\n", n);
    client_sendf(c, "\r\n");
    if (body)
        client_send(c, body, n);
    client_eof(c);
    a = parse(&c->in);
    client_close(c);
    return a;
}

void answer_done(struct answer *a)
{
    free(a->head);
    free(a->body);
    json_decref(a->json);
    *a = (struct answer){ 0 };
}

void expect(struct kit *k, const char *method, const char *path, const char *body, int status,
            const char *text)
{
    struct answer a = ask(k, method, path, NULL, body, body ? strlen(body) : 0);

    if (a.status != status || !strstr(a.body, text))
        fail_msg("%s %s gave %d: %s", method, path, a.status, a.body);
    if (status >= 400)
        check_schema("error", a.json);
    answer_done(&a);
}

json_t *expect_json(struct kit *k, const char *method, const char *path, const char *body,
                    int status, const char *schema)
{
    struct answer a = ask(k, method, path, NULL, body, body ? strlen(body) : 0);
    json_t *j;

    if (a.status != status || !a.json)
        fail_msg("%s %s gave %d: %s", method, path, a.status, a.body);
    if (schema)
        check_schema(schema, a.json);
    j = json_incref(a.json);
    answer_done(&a);
    return j;
}

/* ---- schemas: as much of them as docs/spec/schema uses ---- */

static char misfit[256]; /* the last reason why something did not fit */

static bool is_type(const json_t *j, const char *type)
{
    return strcmp(type, "object") == 0    ? json_is_object(j)
           : strcmp(type, "array") == 0   ? json_is_array(j)
           : strcmp(type, "string") == 0  ? json_is_string(j)
           : strcmp(type, "integer") == 0 ? json_is_integer(j)
           : strcmp(type, "boolean") == 0 ? json_is_boolean(j)
                                          : strcmp(type, "null") == 0 && json_is_null(j);
}

static bool has_type(const json_t *schema, const json_t *j)
{
    const json_t *type = json_object_get(schema, "type"), *one;
    size_t i;

    if (json_is_string(type))
        return is_type(j, json_string_value(type));
    json_array_foreach (type, i, one)
        if (is_type(j, json_string_value(one)))
            return true;
    return !type;
}

static json_t *schema_named(const char *name)
{
    for (const struct schema_text *s = schema_texts; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return json_loads(s->json, 0, NULL);
    fail_msg("there is no schema '%s'", name);
    return NULL;
}

static bool fits(const json_t *schema, const json_t *j, const char *where);

static bool fits_object(const json_t *schema, const json_t *j, const char *where)
{
    const json_t *props = json_object_get(schema, "properties"),
                 *more = json_object_get(schema, "additionalProperties");
    const char *key;
    json_t *value;
    size_t i;

    json_array_foreach (json_object_get(schema, "required"), i, value)
        if (!json_object_get(j, json_string_value(value))) {
            snprintf(misfit, sizeof misfit, "%s: no '%s'", where, json_string_value(value));
            return false;
        }
    json_object_foreach ((json_t *)j, key, value) {
        const json_t *rule = json_object_get(props, key);

        if (!rule && json_is_false(more)) {
            snprintf(misfit, sizeof misfit, "%s: unknown '%s'", where, key);
            return false;
        }
        if ((rule || json_is_object(more)) && !fits(rule ? rule : more, value, key))
            return false;
    }
    return true;
}

static bool fits_choice(const json_t *schema, const json_t *j)
{
    const json_t *choices = json_object_get(schema, "enum"),
                 *only = json_object_get(schema, "const"), *one;
    bool found = !choices;
    size_t i;

    json_array_foreach (choices, i, one)
        found |= json_equal(one, j);
    return found && (!only || json_equal(only, j));
}

static bool fits(const json_t *schema, const json_t *j, const char *where)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *items = json_object_get(schema, "items");
    json_t *one;
    bool good = true;
    size_t i;

    if (ref) {
        CLEANUP_JSON json_t *other = schema_named(strrchr(ref, '/') + 1);

        return fits(other, j, where);
    }
    if (json_object_get(schema, "oneOf")) {
        int n = 0;

        json_array_foreach (json_object_get(schema, "oneOf"), i, one)
            n += fits(one, j, where);
        return n == 1;
    }
    good = has_type(schema, j) && fits_choice(schema, j);
    if (!good)
        snprintf(misfit, sizeof misfit, "%s: is of the wrong type or value", where);
    if (good && json_is_object(j))
        good = fits_object(schema, j, where);
    json_array_foreach (j, i, one)
        good = good && (!items || fits(items, one, where));
    return good;
}

void check_schema(const char *schema, const json_t *j)
{
    CLEANUP_JSON json_t *s = schema_named(schema);

    if (!j || !fits(s, j, schema)) {
        CLEANUP_FREE char *text = j ? json_dumps(j, 0) : NULL;

        fail_msg("this is no %s (%s): %s", schema, misfit, text ? text : "nothing");
    }
}
