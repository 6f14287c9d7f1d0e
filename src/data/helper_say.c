/* helper_say.c - what the data helper says: one JSON object a line */
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/helper_internal.h"
#include <errno.h>
#include <string.h>

/* clang-format off */
static const struct {
    int r;
    const char *code;
} codes[] = {
    { -EINVAL, "bad_request" },  { -EACCES, "forbidden" },     { -EPERM, "forbidden" },
    { -ENOENT, "not_found" },    { -ENOTDIR, "not_found" },    { -ENODEV, "no_container" },
    { -EEXIST, "conflict" },     { -EISDIR, "conflict" },      { -EBUSY, "changed" },
    { -ENODATA, "changed" },     { -ESTALE, "changed" },       { -ETIME, "clock" },
    { -EAGAIN, "unavailable" },  { -ETIMEDOUT, "unavailable" }, { -ECONNREFUSED, "unavailable" },
    { -ECONNRESET, "unavailable" }, { -EHOSTUNREACH, "unavailable" }, { -ENETUNREACH, "unavailable" },
    { -EPIPE, "unavailable" },   { -EKEYREJECTED, "unavailable" }, { -EBADMSG, "damaged" },
    { -ENOSPC, "no_space" },     { -EDQUOT, "no_space" },      { -ENOPKG, "no_libcurl" },
};
/* clang-format on */

static const char *code_of(int r)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].r == r)
            return codes[i].code;
    return "internal";
}

int helper_say(struct helper *h, const char *word, json_t *value)
{
    CLEANUP_JSON json_t *line = value ? json_pack("{s:o}", word, value) : NULL;
    CLEANUP_FREE char *text = line ? ty_json_text(line) : NULL;
    CLEANUP_STR struct ty_str out = { 0 };

    if (!text)
        return -ENOMEM;
    ty_str_add(&out, text);
    ty_str_add(&out, "\n");
    return out.failed ? -ENOMEM : ty_write_all(h->out, out.text, out.len);
}

json_t *helper_error_json(int r, const char *sentence)
{
    return json_pack("{s:s s:s}", "code", code_of(r), "message", sentence);
}

int helper_fail(struct helper *h, int r)
{
    json_t *error;

    if (!h->err->text[0]) {
        errno = -r;
        ty_error_set(h->err, r, "the request cannot be done: %m");
    }
    error = helper_error_json(r, h->err->text);
    if (error && h->failed > 1)
        json_object_set_new(error, "failed", json_integer((json_int_t)h->failed));
    helper_say(h, "error", error);
    return 1;
}

static json_t *time_json(int64_t us)
{
    char text[32];

    return us > 0 ? json_string(ty_time_iso(us, text)) : json_null();
}

int helper_say_object(struct helper *h, const struct ty_object *o)
{
    char md5[TY_MD5_HEX + 1];

    return helper_say(h, "file",
                      json_pack("{s:s s:I s:s? s:s? s:o}", "path", o->path, "bytes",
                                (json_int_t)o->bytes, "etag", *o->etag ? o->etag : NULL, "md5",
                                o->has_md5 ? ty_md5_hex(o->md5, md5) : NULL, "modified",
                                time_json(o->modified_us)));
}
