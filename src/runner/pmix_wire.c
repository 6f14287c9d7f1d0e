/* pmix_wire.c - frames between the runner and the PMIx helper */
#include "runner/pmix_wire.h"
#include "base/bytes.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define FENCE_HEAD 5

static bool known(unsigned type)
{
    switch (type) {
#define X(name, value) case value:
        TY_PMIX_FRAMES(X)
#undef X
        return true;
    default:
        return false;
    }
}

static bool has_key(unsigned type)
{
    return type == TY_PMIX_FENCE || type == TY_PMIX_FENCE_DONE;
}

int ty_pmix_encode(const struct ty_pmix_frame *f, struct ty_str *out)
{
    size_t key = has_key(f->type) ? FENCE_HEAD + f->key_len : 0;
    unsigned char head[TY_PMIX_HEAD], fence[FENCE_HEAD];

    if (!known(f->type) || f->body_len > TY_PMIX_PAYLOAD_MAX - key ||
        (key && (f->key_len == 0 || f->key_len > TY_PMIX_KEY_MAX || f->nodes == 0)))
        return -EINVAL;
    ty_put_u32(head, (uint32_t)(key + f->body_len));
    head[4] = (unsigned char)f->type;
    ty_str_addn(out, head, sizeof head);
    if (key) {
        ty_put_u32(fence, f->nodes);
        fence[4] = (unsigned char)f->key_len;
        ty_str_addn(out, fence, sizeof fence);
        ty_str_addn(out, f->key, f->key_len);
    }
    ty_str_addn(out, f->body, f->body_len);
    return out->failed ? -ENOMEM : 0;
}

ptrdiff_t ty_pmix_decode(const void *in, size_t n, struct ty_pmix_frame *ret)
{
    const unsigned char *p = in;
    struct ty_pmix_frame f = { 0 };
    uint32_t len;

    if (n < TY_PMIX_HEAD)
        return -EAGAIN;
    len = ty_get_u32(p);
    if (len > TY_PMIX_PAYLOAD_MAX || !known(p[4]))
        return -EBADMSG;
    if (n - TY_PMIX_HEAD < len)
        return -EAGAIN;
    f.type = p[4];
    p += TY_PMIX_HEAD;
    f.body = p;
    f.body_len = len;
    if (has_key(f.type)) {
        if (len < FENCE_HEAD || p[4] == 0 || len - FENCE_HEAD < p[4] || ty_get_u32(p) == 0)
            return -EBADMSG;
        f.nodes = ty_get_u32(p);
        f.key_len = p[4];
        f.key = (const char *)p + FENCE_HEAD;
        f.body = p + FENCE_HEAD + f.key_len;
        f.body_len = len - FENCE_HEAD - f.key_len;
    }
    *ret = f;
    return (ptrdiff_t)len + TY_PMIX_HEAD;
}
