/* s3.c - S3 and what speaks like it: opening, listing, whole objects
 *
 * Bodies are signed as UNSIGNED-PAYLOAD with a Content-MD5, which the signature covers and the store checks:
 * each byte is hashed once.  Texts of XML are small and signed with their SHA-256.
 *
 * What we put carries its MD5 as metadata under the name that rclone has for it (md5chksum), since an ETag is
 * not an MD5 where a KMS encrypts; what goes in parts carries their size instead (trainyard-part-bytes), from
 * which a reader can compute the ETag again.
 */
#include "base/clock.h"
#include "base/error.h"
#include "data/s3_internal.h"
#include "data/xml.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define PART_BYTES (16ull << 20)
#define PART_BYTES_MAX (5ull << 30)
#define PARTS_MAX 10000
#define KEY_MAX 1024

/* ---- opening ---- */

static void s3_close(struct ty_object_store *base)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;

    if (s->secret)
        sodium_memzero(s->secret, strlen(s->secret));
    if (s->token)
        sodium_memzero(s->token, strlen(s->token));
    sodium_memzero(&s->key, sizeof s->key);
    free(s->key_id);
    free(s->secret);
    free(s->token);
    free(s->region);
    free(s->bucket);
    free(s->prefix);
    free(s->url);
    free(s->base.where);
    free(s);
}

struct config {
    const char *bucket, *prefix, *region, *endpoint, *key_id, *secret, *token;
    bool path_style;
};

static int read_config(const json_t *config, struct config *c, struct ty_error *err)
{
    const struct {
        const char *key, **ret;
    } texts[] = { { "bucket", &c->bucket },        { "prefix", &c->prefix },
                  { "region", &c->region },        { "endpoint", &c->endpoint },
                  { "access_key_id", &c->key_id }, { "secret_access_key", &c->secret },
                  { "session_token", &c->token } };
    int r = 0;

    for (size_t i = 0; i < sizeof texts / sizeof *texts && r == 0; i++) {
        r = ty_json_get_str(config, "configuration", texts[i].key, texts[i].ret, err);
        if (r == 0 && *texts[i].ret && !**texts[i].ret)
            *texts[i].ret = NULL;
        for (const char *p = r == 0 && *texts[i].ret ? *texts[i].ret : ""; *p; p++)
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                r = ty_error_set(err, -EINVAL,
                                 "\"%s\" has a line break or another control character in it",
                                 texts[i].key);
    }
    c->path_style = c->endpoint != NULL || (c->bucket && strchr(c->bucket, '.'));
    return r < 0 ? r : ty_json_get_bool(config, "configuration", "path_style", &c->path_style, err);
}

static int check_config(const struct config *c, struct ty_error *err)
{
    if (!c->bucket)
        return ty_error_set(err, -EINVAL, "there is no \"bucket\"");
    if (strspn(c->bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") !=
            strlen(c->bucket) ||
        strlen(c->bucket) < 3 || strlen(c->bucket) > 255)
        return ty_error_set(
            err, -EINVAL,
            "'%.100s' cannot be the name of a bucket: 3 to 63 small letters, digits, '.' and '-'",
            c->bucket);
    if (!c->key_id != !c->secret)
        return ty_error_set(
            err, -EINVAL,
            "access_key_id and secret_access_key belong together, and one is missing");
    if (c->endpoint && strpbrk(c->endpoint, "@?# "))
        return ty_error_set(
            err, -EINVAL,
            "the endpoint is 'https://host' or 'https://host:port', without a user and a query");
    if (c->endpoint && strstr(c->endpoint, "://") && !ty_starts_with(c->endpoint, "http://") &&
        !ty_starts_with(c->endpoint, "https://"))
        return ty_error_set(err, -EINVAL,
                            "the endpoint '%.100s' begins neither with https:// nor with http://",
                            c->endpoint);
    return 0;
}

/* "https://bucket.host" or "https://host/bucket". */
static char *url_of(const struct config *c, const char *region)
{
    CLEANUP_STR struct ty_str s = { 0 };
    const char *scheme = "https://", *host = c->endpoint;
    size_t n;

    if (host && strstr(host, "://")) {
        scheme = ty_starts_with(host, "http://") ? "http://" : "https://";
        host = strstr(host, "://") + 3;
    }
    n = host ? strlen(host) : 0;
    while (n > 0 && host[n - 1] == '/')
        n--;
    ty_str_add(&s, scheme);
    if (!c->path_style)
        ty_str_addf(&s, "%s.", c->bucket);
    if (host)
        ty_str_addn(&s, host, n);
    else
        ty_str_addf(&s, "s3.%s.amazonaws.com%s", region,
                    ty_starts_with(region, "cn-") ? ".cn" : "");
    if (c->path_style)
        ty_str_addf(&s, "/%s", c->bucket);
    return ty_str_take(&s);
}

static int keep(char **ret, const char *text)
{
    if (text && !(*ret = strdup(text)))
        return -ENOMEM;
    return 0;
}

static int s3_open(const json_t *config, struct ty_object_store **ret, struct ty_error *err)
{
    struct config c = { 0 };
    struct ty_s3_store *s;
    int r = read_config(config, &c, err);

    if (r == 0)
        r = check_config(&c, err);
    if (r < 0)
        return r;
    s = calloc(1, sizeof *s);
    if (!s)
        return ty_error_oom(err);
    s->base.kind = &ty_s3;
    r = ty_object_prefix(c.prefix, &s->prefix, err);
    if (r == 0 && (keep(&s->bucket, c.bucket) < 0 || keep(&s->key_id, c.key_id) < 0 ||
                   keep(&s->secret, c.secret) < 0 || keep(&s->token, c.token) < 0 ||
                   keep(&s->region, c.region ? c.region : "us-east-1") < 0 ||
                   !(s->url = url_of(&c, s->region)) ||
                   !(s->base.where = c.endpoint ? ty_strf("bucket '%s' at %s", c.bucket, c.endpoint)
                                                : ty_strf("bucket '%s' of S3", c.bucket))))
        r = ty_error_oom(err);
    if (r < 0) {
        s3_close(&s->base);
        return r;
    }
    s->key = (struct ty_sigv4){ .key_id = s->key_id,
                                .secret = s->secret,
                                .token = s->token,
                                .region = s->region,
                                .service = "s3" };
    *ret = &s->base;
    return 0;
}

/* ---- requests ---- */

int ty_s3_ask(struct ty_s3_store *s, struct ty_http_req *r, const char *method, const char *path,
              const char *query, struct ty_error *err)
{
    CLEANUP_STR struct ty_str url = { 0 };

    if (path && strlen(s->prefix) + 1 + strlen(path) > KEY_MAX)
        return ty_error_set(
            err, -ENAMETOOLONG,
            "'%.100s...' is too long for the key of an object: %d bytes is the most", path,
            KEY_MAX);
    ty_str_add(&url, s->url);
    ty_str_add(&url, "/");
    if (path && *s->prefix) {
        ty_str_add_url(&url, s->prefix, true);
        ty_str_add(&url, "/");
    }
    if (path)
        ty_str_add_url(&url, path, true);
    ty_str_add(&url, query);
    r->method = method;
    r->url = ty_str_take(&url);
    return r->url ? 0 : ty_error_oom(err);
}

int ty_s3_sign(struct ty_s3_store *s, struct ty_http_req *r, const char *payload,
               struct ty_error *err)
{
    if (s->key_id && ty_sigv4_sign(&s->key, r, payload, ty_object_now_s()) < 0)
        return ty_error_oom(err);
    return 0;
}

int ty_s3_sign_xml(struct ty_s3_store *s, struct ty_http_req *r, struct ty_str *text,
                   struct ty_error *err)
{
    uint8_t sum[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof sum + 1];

    r->body_bytes = text->len;
    r->body = ty_str_take(text);
    if (!r->body || ty_http_header(r, "Content-Type", "application/xml") < 0)
        return ty_error_oom(err);
    crypto_hash_sha256(sum, (const uint8_t *)r->body, r->body_bytes);
    sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
    return ty_s3_sign(s, r, hex, err);
}

/* ---- listing ---- */

static int list_query(struct ty_s3_store *s, struct ty_http_req *r, const char *prefix,
                      const char *marker, unsigned most, struct ty_error *err)
{
    CLEANUP_STR struct ty_str q = { 0 };
    int w;

    ty_str_addf(&q, "?list-type=2&max-keys=%u&encoding-type=url", most);
    if (*s->prefix || *prefix) {
        ty_str_add(&q, "&prefix=");
        if (*s->prefix) {
            ty_str_add_url(&q, s->prefix, false);
            ty_str_add(&q, "%2F");
        }
        ty_str_add_url(&q, prefix, false);
    }
    if (marker) {
        ty_str_add(&q, "&continuation-token=");
        ty_str_add_url(&q, marker, false);
    }
    if (q.failed)
        return ty_error_oom(err);
    w = ty_s3_ask(s, r, "GET", NULL, q.text, err);
    return w < 0 ? w : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

static int s3_list(struct ty_object_store *base, struct ty_http_req *r, const char *prefix,
                   const char *marker, struct ty_error *err)
{
    return list_query((struct ty_s3_store *)base, r, prefix, marker, 1000, err);
}

static int s3_probe(struct ty_object_store *base, struct ty_http_req *r, struct ty_error *err)
{
    return list_query((struct ty_s3_store *)base, r, "", NULL, 1, err);
}

char *ty_s3_path_of(const struct ty_s3_store *s, char *key, bool encoded)
{
    size_t n = strlen(s->prefix);

    for (char *p = key; encoded && *p; p++)
        if (*p == '+')
            *p = ' ';
    if (encoded && ty_url_decode(key) < 0)
        return NULL;
    if (n == 0)
        return key;
    return strncmp(key, s->prefix, n) == 0 && key[n] == '/' ? key + n + 1 : NULL;
}

bool ty_s3_etag_md5(const char *etag, uint8_t md5[TY_MD5_BYTES])
{
    char hex[TY_MD5_HEX + 1];
    size_t n = strlen(etag);

    if (n == TY_MD5_HEX + 2 && etag[0] == '"' && etag[n - 1] == '"') {
        snprintf(hex, sizeof hex, "%.*s", TY_MD5_HEX, etag + 1);
        return ty_md5_parse(hex, md5) == 0;
    }
    return ty_md5_parse(etag, md5) == 0;
}

struct listing {
    struct ty_s3_store *s;
    ty_object_fn fn;
    void *ctx;
    bool encoded, truncated;
    char *key, *etag, *token;
    uint64_t bytes;
    int64_t modified_us;
};

static int object_ends(struct listing *l)
{
    char *path = l->key ? ty_s3_path_of(l->s, l->key, l->encoded) : NULL;
    struct ty_object o = { .path = path,
                           .bytes = l->bytes,
                           .etag = l->etag ? l->etag : "",
                           .modified_us = l->modified_us };
    size_t n = path ? strlen(path) : 0;
    int r = 0;

    if (n > 0 && path[n - 1] != '/') {
        o.has_md5 = ty_s3_etag_md5(o.etag, o.md5);
        r = l->fn(&o, l->ctx);
    }
    free(l->key);
    free(l->etag);
    l->key = l->etag = NULL;
    l->bytes = 0;
    l->modified_us = 0;
    return r;
}

static int set_text(char **ret, const char *text)
{
    free(*ret);
    *ret = strdup(text);
    return *ret ? 0 : -ENOMEM;
}

static int list_element(const char *path, const char *text, void *ctx)
{
    struct listing *l = ctx;
    int64_t n;

    if (!ty_starts_with(path, "ListBucketResult/"))
        return 0;
    path += strlen("ListBucketResult/");
    if (strcmp(path, "Contents/Key") == 0)
        return set_text(&l->key, text);
    if (strcmp(path, "Contents/ETag") == 0)
        return set_text(&l->etag, text);
    if (strcmp(path, "Contents/Size") == 0) {
        if (ty_parse_i64(text, &n) < 0 || n < 0)
            return -EINVAL;
        l->bytes = (uint64_t)n;
    } else if (strcmp(path, "Contents/LastModified") == 0) {
        ty_time_parse(text, false, &l->modified_us);
    } else if (strcmp(path, "Contents") == 0) {
        return object_ends(l);
    } else if (strcmp(path, "IsTruncated") == 0) {
        l->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "NextContinuationToken") == 0) {
        return set_text(&l->token, text);
    }
    return 0;
}

static int s3_listed(struct ty_object_store *base, struct ty_http_req *r, ty_object_fn fn,
                     void *ctx, char **next, struct ty_error *err)
{
    const char *text = r->text.text ? r->text.text : "";
    struct listing l = { .s = (struct ty_s3_store *)base, .fn = fn, .ctx = ctx };
    int w;

    l.encoded = strstr(text, "<EncodingType>url<") != NULL;
    w = ty_xml_each(text, r->text.len, list_element, &l, err);
    free(l.key);
    free(l.etag);
    *next = NULL;
    if (w == 0 && l.truncated)
        *next = TAKE(l.token);
    free(l.token);
    return w;
}

static int s3_make(struct ty_object_store *base, struct ty_http_req *r, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    CLEANUP_STR struct ty_str xml = { 0 };
    int w = ty_s3_ask(s, r, "PUT", NULL, "", err);

    if (w < 0)
        return w;
    if (strcmp(s->region, "us-east-1") == 0)
        return ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
    ty_str_add(&xml, "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                     "<LocationConstraint>");
    ty_xml_add(&xml, s->region);
    ty_str_add(&xml, "</LocationConstraint></CreateBucketConfiguration>");
    return ty_s3_sign_xml(s, r, &xml, err);
}

/* ---- objects ---- */

static int s3_get(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  uint64_t offset, uint64_t bytes, const char *etag, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    int w = ty_s3_ask(s, r, "GET", path, "", err), h = 0;

    if (w < 0)
        return w;
    if (bytes != UINT64_MAX)
        h = ty_http_header(r, "Range", "bytes=%llu-%llu", (unsigned long long)offset,
                           (unsigned long long)(offset + bytes - 1));
    else if (offset > 0)
        h = ty_http_header(r, "Range", "bytes=%llu-", (unsigned long long)offset);
    if (h == 0 && etag && *etag)
        h = ty_http_header(r, "If-Match", "%s", etag);
    return h < 0 ? ty_error_oom(err) : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

static int s3_head(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                   struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    int w = ty_s3_ask(s, r, "HEAD", path, "", err);

    return w < 0 ? w : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

static int s3_remove(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                     struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    int w = ty_s3_ask(s, r, "DELETE", path, "", err);

    return w < 0 ? w : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

static int s3_put(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  const struct ty_object_content *c, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    int w = ty_s3_ask(s, r, "PUT", path, "", err), h;
    char text[25];

    if (w < 0)
        return w;
    h = ty_http_header(r, "Content-Type", "application/octet-stream");
    if (h == 0 && c->md5) {
        ty_md5_base64(c->md5, text);
        h = ty_http_header(r, "Content-MD5", "%s", text);
        if (h == 0)
            h = ty_http_header(r, "x-amz-meta-md5chksum", "%s", text);
    }
    if (h == 0 && !c->overwrite && (!s->unconditional || s->blind))
        h = ty_http_header(r, "If-None-Match", "*");
    if (h < 0)
        return ty_error_oom(err);
    return ty_s3_sign(s, r, c->bytes ? TY_SIGV4_UNSIGNED : TY_SIGV4_EMPTY, err);
}

static uint64_t number_of(const char *text)
{
    int64_t n;

    return text && ty_parse_i64(text, &n) == 0 && n > 0 ? (uint64_t)n : 0;
}

static int64_t when(const char *text)
{
    struct tm tm = { 0 };

    return text && strptime(text, "%a, %d %b %Y %H:%M:%S", &tm) ? (int64_t)timegm(&tm) * 1000000
                                                                : 0;
}

/* "<32 digits>-12": of the MD5s of twelve parts. */
static bool parts_md5(const char *etag, uint8_t md5[TY_MD5_BYTES])
{
    char hex[TY_MD5_HEX + 1];

    etag += *etag == '"';
    if (strlen(etag) < TY_MD5_HEX + 2 || etag[TY_MD5_HEX] != '-')
        return false;
    snprintf(hex, sizeof hex, "%.*s", TY_MD5_HEX, etag);
    return ty_md5_parse(hex, md5) == 0;
}

static int s3_about(struct ty_object_store *base, const struct ty_http_req *r, struct ty_object *o)
{
    const char *etag = ty_http_answer(r, "ETag"), *range = ty_http_answer(r, "Content-Range");
    const char *sum = ty_http_answer(r, "x-amz-meta-md5chksum");
    const char *kms = ty_http_answer(r, "x-amz-server-side-encryption");
    bool plain = !(kms && ty_starts_with(kms, "aws:kms")) &&
                 !ty_http_answer(r, "x-amz-server-side-encryption-customer-algorithm");

    (void)base;
    *o = (struct ty_object){ .path = "",
                             .etag = etag ? etag : "",
                             .modified_us = when(ty_http_answer(r, "Last-Modified")) };
    if (range && strchr(range, '/'))
        o->bytes = number_of(strchr(range, '/') + 1);
    else if (strcmp(r->method, "PUT") != 0)
        o->bytes = number_of(ty_http_answer(r, "Content-Length"));
    o->part_bytes = number_of(ty_http_answer(r, "x-amz-meta-trainyard-part-bytes"));
    if (sum && ty_md5_from_base64(sum, o->md5) == 0)
        o->has_md5 = true;
    else if (plain)
        o->has_md5 = ty_s3_etag_md5(o->etag, o->md5);
    o->has_parts_md5 =
        plain && !o->has_md5 && o->part_bytes > 0 && parts_md5(o->etag, o->parts_md5);
    return 0;
}

const struct ty_object_kind ty_s3 = {
    .name = "s3",
    .part_bytes = PART_BYTES,
    .part_bytes_max = PART_BYTES_MAX,
    .parts_max = PARTS_MAX,
    .open = s3_open,
    .close = s3_close,
    .list = s3_list,
    .listed = s3_listed,
    .probe = s3_probe,
    .make_container = s3_make,
    .get = s3_get,
    .head = s3_head,
    .about = s3_about,
    .put = s3_put,
    .remove = s3_remove,
    .uploads = ty_s3_uploads,
    .found = ty_s3_found,
    .begin = ty_s3_begin,
    .begun = ty_s3_begun,
    .parts = ty_s3_parts,
    .parts_listed = ty_s3_parts_listed,
    .part = ty_s3_part,
    .sent = ty_s3_sent,
    .finish = ty_s3_finish,
    .abandon = ty_s3_abandon,
    .judge = ty_s3_judge,
};
