/* wire.c - frames to bytes and back
 *
 * A frame is: u32 payload bytes, u8 type, payload.  `shapes` says what each payload is made of, so that encoding and
 * decoding cannot disagree.
 */
#include "core/wire.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

/* What the payload has, in this order. */
struct shape {
    unsigned char type;
    bool writer, seq, count, name, body;
};

static const struct shape shapes[] = {
    { .type = TY_FRAME_HELLO, .body = true },
    { .type = TY_FRAME_RECORD, .seq = true, .body = true },
    { .type = TY_FRAME_LOG, .seq = true, .name = true, .body = true },
    { .type = TY_FRAME_ROWS, .writer = true, .seq = true, .count = true, .body = true },
    { .type = TY_FRAME_PING },
    { .type = TY_FRAME_WANT, .seq = true, .name = true },
    { .type = TY_FRAME_BLOB, .seq = true, .name = true, .body = true },
    { .type = TY_FRAME_FENCE, .count = true, .name = true, .body = true },
    { .type = TY_FRAME_WELCOME, .body = true },
    { .type = TY_FRAME_RECORD_ACK, .seq = true },
    { .type = TY_FRAME_LOG_ACK, .seq = true, .name = true },
    { .type = TY_FRAME_ROWS_ACK, .writer = true, .seq = true },
    { .type = TY_FRAME_CANCEL },
    { .type = TY_FRAME_PONG },
    { .type = TY_FRAME_REFUSED, .body = true },
    { .type = TY_FRAME_RELEASE },
    { .type = TY_FRAME_GO, .body = true },
    { .type = TY_FRAME_END, .count = true },
    { .type = TY_FRAME_FENCED, .name = true, .body = true },
};

#define X(name, value) +1
static_assert(sizeof shapes / sizeof *shapes == TY_FRAMES(X), "every frame has one shape");
#undef X

static const struct shape *shape_of(unsigned type)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].type == type)
            return &shapes[i];
    return NULL;
}

static size_t numbers(const struct shape *s)
{
    return (s->writer ? 4 : 0) + (s->seq ? 8 : 0) + (s->count ? 4 : 0) + (s->name ? 2 : 0);
}

static void add_number(struct ty_str *out, uint64_t v, int bytes)
{
    unsigned char b[8];

    for (int i = 0; i < bytes; i++)
        b[i] = (unsigned char)(v >> 8 * i);
    ty_str_addn(out, b, (size_t)bytes);
}

int ty_frame_encode(const struct ty_frame *f, struct ty_str *out)
{
    const struct shape *s = shape_of(f->type);
    size_t name_len = s && s->name ? f->name_len : 0, n;

    if (!s || name_len > UINT16_MAX || f->body_len > (s->body ? TY_WIRE_PAYLOAD_MAX : 0))
        return -EINVAL;
    n = numbers(s) + name_len + f->body_len;
    if (n > TY_WIRE_PAYLOAD_MAX)
        return -EINVAL;
    add_number(out, n, 4);
    add_number(out, f->type, 1);
    if (s->writer)
        add_number(out, f->writer, 4);
    if (s->seq)
        add_number(out, f->seq, 8);
    if (s->count)
        add_number(out, f->count, 4);
    if (s->name) {
        add_number(out, name_len, 2);
        ty_str_addn(out, f->name, name_len);
    }
    ty_str_addn(out, f->body, f->body_len);
    return out->failed ? -ENOMEM : 0;
}

static uint64_t take_number(const unsigned char **p, int bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < bytes; i++)
        v |= (uint64_t) * (*p)++ << 8 * i;
    return v;
}

ptrdiff_t ty_frame_decode(const void *in, size_t n, struct ty_frame *ret)
{
    const unsigned char *p = in, *end;
    struct ty_frame f = { 0 };
    const struct shape *s;
    uint64_t payload;

    if (n < TY_WIRE_HEAD)
        return -EAGAIN;
    payload = take_number(&p, 4);
    s = shape_of(*p++);
    if (!s || payload > TY_WIRE_PAYLOAD_MAX || payload < numbers(s))
        return -EBADMSG;
    if (n - TY_WIRE_HEAD < payload)
        return -EAGAIN;
    end = p + payload;
    f.type = (enum ty_frame_type)s->type;
    f.writer = s->writer ? (uint32_t)take_number(&p, 4) : 0;
    f.seq = s->seq ? take_number(&p, 8) : 0;
    f.count = s->count ? (uint32_t)take_number(&p, 4) : 0;
    f.name_len = s->name ? take_number(&p, 2) : 0;
    if (f.name_len > (size_t)(end - p))
        return -EBADMSG;
    f.name = s->name ? (const char *)p : NULL;
    f.body = p + f.name_len;
    f.body_len = (size_t)(end - p) - f.name_len;
    if (f.body_len > 0 && !s->body)
        return -EBADMSG;
    *ret = f;
    return (ptrdiff_t)(TY_WIRE_HEAD + payload);
}
