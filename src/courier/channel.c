/* channel.c - frames of a channel to bytes and back */
#include "courier/channel.h"
#include "base/bytes.h"
#include "base/error.h"
#include <errno.h>
#include <string.h>

#define HEAD 5

static const unsigned char types[] = {
#define X(name, value) value,
    TY_CHANNEL_FRAMES(X)
#undef X
};

static void add_u32(struct ty_str *out, uint32_t v)
{
    unsigned char b[4];

    ty_put_u32(b, v);
    ty_str_addn(out, b, sizeof b);
}

static void head(struct ty_flow *f, enum ty_channel_type type, size_t n)
{
    unsigned char t = (unsigned char)type;

    if (n > TY_CHANNEL_PAYLOAD_MAX)
        f->unsent.failed = true;
    add_u32(&f->unsent, (uint32_t)n);
    ty_str_addn(&f->unsent, &t, 1);
}

void ty_channel_send(struct ty_flow *f, enum ty_channel_type type, const void *body, size_t n)
{
    head(f, type, n);
    ty_str_addn(&f->unsent, body, n);
}

void ty_channel_send_json(struct ty_flow *f, enum ty_channel_type type, json_t *o)
{
    CLEANUP_FREE char *text = o ? ty_json_text(o) : NULL;

    json_decref(o);
    if (text)
        ty_channel_send(f, type, text, strlen(text));
    else
        f->unsent.failed = true;
}

void ty_channel_send_conn(struct ty_flow *f, enum ty_channel_type type, uint32_t conn,
                          const void *body, size_t n)
{
    head(f, type, n + 4);
    add_u32(&f->unsent, conn);
    ty_str_addn(&f->unsent, body, n);
}

int ty_channel_next(struct ty_flow *f, struct ty_channel_frame *ret)
{
    const char *p = ty_flow_bytes(f);
    size_t n;

    if (ty_flow_waiting(f) < HEAD)
        return -EAGAIN;
    n = ty_get_u32(p);
    if (n > TY_CHANNEL_PAYLOAD_MAX || !memchr(types, (unsigned char)p[4], sizeof types))
        return -EBADMSG;
    if (ty_flow_waiting(f) - HEAD < n)
        return -EAGAIN;
    *ret = (struct ty_channel_frame){ .type = (enum ty_channel_type)(unsigned char)p[4],
                                      .body = p + HEAD,
                                      .n = n };
    ty_flow_use(f, HEAD + n);
    return 0;
}

int ty_channel_u32(struct ty_channel_frame *f, uint32_t *ret)
{
    if (f->n < 4)
        return -EBADMSG;
    *ret = ty_get_u32(f->body);
    f->body += 4;
    f->n -= 4;
    return 0;
}

int ty_channel_json(const struct ty_channel_frame *f, json_t **ret)
{
    CLEANUP_JSON json_t *o = NULL;

    if (ty_json_parse(f->body, f->n, &o, NULL) < 0 || !json_is_object(o))
        return -EBADMSG;
    *ret = TAKE(o);
    return 0;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int ty_sha_to_bytes(const char *hex, unsigned char bytes[TY_CHANNEL_SHA])
{
    if (strlen(hex) != 2 * TY_CHANNEL_SHA)
        return -EINVAL;
    for (int i = 0; i < TY_CHANNEL_SHA; i++) {
        int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return 0;
}

void ty_sha_to_hex(const unsigned char bytes[TY_CHANNEL_SHA], char hex[2 * TY_CHANNEL_SHA + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < TY_CHANNEL_SHA; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * TY_CHANNEL_SHA] = '\0';
}
