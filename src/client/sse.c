/* sse.c - server-sent events out of the pieces of a stream (the format of the HTML standard,
 * section 9.2) */
#include "client/sse.h"
#include <errno.h>
#include <string.h>

static void clear(struct ty_str *s)
{
    s->len = 0;
    if (s->text)
        s->text[0] = '\0';
}

void ty_sse_done(struct ty_sse *s)
{
    ty_str_done(&s->line);
    ty_str_done(&s->event);
    ty_str_done(&s->data);
    ty_str_done(&s->id);
    ty_str_done(&s->next_id);
    *s = (struct ty_sse){ 0 };
}

void ty_sse_restart(struct ty_sse *s)
{
    clear(&s->line);
    clear(&s->event);
    clear(&s->data);
    clear(&s->next_id);
    s->has_id = s->has_data = false;
}

const char *ty_sse_last_id(const struct ty_sse *s)
{
    return s->id.len ? s->id.text : NULL;
}

static int dispatch(struct ty_sse *s, ty_sse_fn fn, void *ctx)
{
    int r = 0;

    if (s->has_data)
        r = fn(s->event.len ? s->event.text : "message", s->data.text ? s->data.text : "",
               s->data.len, ctx);
    if (r == 0 && s->has_id) {
        clear(&s->id);
        ty_str_addn(&s->id, s->next_id.text, s->next_id.len);
    }
    clear(&s->event);
    clear(&s->data);
    s->has_id = s->has_data = false;
    return r;
}

static void take_field(struct ty_sse *s, const char *name, size_t name_len, const char *value,
                       size_t n)
{
    if (name_len == 4 && !memcmp(name, "data", 4)) {
        if (s->has_data)
            ty_str_add(&s->data, "\n");
        ty_str_addn(&s->data, value, n);
        s->has_data = true;
    } else if (name_len == 5 && !memcmp(name, "event", 5)) {
        clear(&s->event);
        ty_str_addn(&s->event, value, n);
    } else if (name_len == 2 && !memcmp(name, "id", 2) && !memchr(value, '\0', n)) {
        clear(&s->next_id);
        ty_str_addn(&s->next_id, value, n);
        s->has_id = true;
    }
}

static int take_line(struct ty_sse *s, ty_sse_fn fn, void *ctx)
{
    const char *line = s->line.text, *colon;
    size_t n = s->line.len, name_len, at;

    if (n > 0 && line[n - 1] == '\r')
        n--;
    if (n == 0)
        return dispatch(s, fn, ctx);
    colon = memchr(line, ':', n);
    name_len = colon ? (size_t)(colon - line) : n;
    at = colon ? name_len + 1 : n;
    if (at < n && line[at] == ' ')
        at++;
    if (name_len > 0)
        take_field(s, line, name_len, line + at, n - at);
    return 0;
}

int ty_sse_feed(struct ty_sse *s, const char *bytes, size_t n, ty_sse_fn fn, void *ctx)
{
    while (n > 0) {
        const char *nl = memchr(bytes, '\n', n);
        size_t part = nl ? (size_t)(nl - bytes) : n;
        int r;

        if (s->line.len + s->data.len + part > TY_SSE_EVENT_MAX)
            return -EFBIG;
        ty_str_addn(&s->line, bytes, part);
        bytes += part + (nl ? 1 : 0);
        n -= part + (nl ? 1 : 0);
        if (!nl)
            break;
        r = take_line(s, fn, ctx);
        clear(&s->line);
        if (s->line.failed || s->data.failed || s->event.failed || s->id.failed ||
            s->next_id.failed)
            return -ENOMEM;
        if (r)
            return r;
    }
    return 0;
}
