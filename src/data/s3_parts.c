/* s3_parts.c - S3: uploads in parts */
#include "base/error.h"
#include "data/s3_internal.h"
#include "data/xml.h"
#include <errno.h>
#include <string.h>

int ty_s3_uploads(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    CLEANUP_STR struct ty_str q = { 0 };
    int w;

    ty_str_add(&q, "?uploads=&encoding-type=url&prefix=");
    if (*s->prefix) {
        ty_str_add_url(&q, s->prefix, false);
        ty_str_add(&q, "%2F");
    }
    ty_str_add_url(&q, path, false);
    if (q.failed)
        return ty_error_oom(err);
    w = ty_s3_ask(s, r, "GET", NULL, q.text, err);
    return w < 0 ? w : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

struct uploads {
    struct ty_s3_store *s;
    const char *path;
    bool encoded, ours; /* the one being read is of our path */
    char *id, *since;   /* of the one being read */
    char *best, *best_since;
};

static int upload_ends(struct uploads *u)
{
    if (u->ours && u->id && u->since && (!u->best || strcmp(u->since, u->best_since) >= 0)) {
        free(u->best);
        free(u->best_since);
        u->best = TAKE(u->id);
        u->best_since = TAKE(u->since);
    }
    free(u->id);
    free(u->since);
    u->id = u->since = NULL;
    u->ours = false;
    return 0;
}

static int upload_element(const char *path, const char *text, void *ctx)
{
    struct uploads *u = ctx;

    if (!ty_starts_with(path, "ListMultipartUploadsResult/Upload"))
        return 0;
    path += strlen("ListMultipartUploadsResult/Upload");
    if (strcmp(path, "/Key") == 0) {
        CLEANUP_FREE char *key = strdup(text);
        char *at = key ? ty_s3_path_of(u->s, key, u->encoded) : NULL;

        u->ours = at && strcmp(at, u->path) == 0;
    } else if (strcmp(path, "/UploadId") == 0) {
        free(u->id);
        u->id = strdup(text);
    } else if (strcmp(path, "/Initiated") == 0) {
        free(u->since);
        u->since = strdup(text);
    } else if (!*path) {
        return upload_ends(u);
    }
    return 0;
}

int ty_s3_found(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                char **upload, struct ty_error *err)
{
    const char *text = r->text.text ? r->text.text : "";
    struct uploads u = { .s = (struct ty_s3_store *)base, .path = path };
    int w;

    u.encoded = strstr(text, "<EncodingType>url<") != NULL;
    w = ty_xml_each(text, r->text.len, upload_element, &u, err);
    upload_ends(&u);
    free(u.best_since);
    if (w < 0)
        free(u.best);
    else
        *upload = u.best;
    return w;
}

int ty_s3_begin(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                const struct ty_object_content *c, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    int w = ty_s3_ask(s, r, "POST", path, "?uploads=", err);

    if (w < 0)
        return w;
    if (ty_http_header(r, "Content-Type", "application/octet-stream") < 0 ||
        ty_http_header(r, "x-amz-meta-trainyard-part-bytes", "%llu",
                       (unsigned long long)c->part_bytes) < 0)
        return ty_error_oom(err);
    return ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

static int begun_element(const char *path, const char *text, void *ctx)
{
    char **upload = ctx;

    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0 || *upload)
        return 0;
    *upload = strdup(text);
    return *upload ? 0 : -ENOMEM;
}

int ty_s3_begun(struct ty_object_store *base, struct ty_http_req *r, char **upload,
                struct ty_error *err)
{
    char *id = NULL;
    int w = ty_xml_each(r->text.text ? r->text.text : "", r->text.len, begun_element, &id, err);

    if (w == 0 && !id)
        w = ty_error_set(err, -EPROTO, "%s does not say which upload it has begun", base->where);
    if (w < 0)
        free(id);
    else
        *upload = id;
    return w;
}

int ty_s3_parts(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                const char *upload, const char *marker, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    CLEANUP_STR struct ty_str q = { 0 };
    int w;

    ty_str_add(&q, "?uploadId=");
    ty_str_add_url(&q, upload, false);
    if (marker) {
        ty_str_add(&q, "&part-number-marker=");
        ty_str_add_url(&q, marker, false);
    }
    if (q.failed)
        return ty_error_oom(err);
    w = ty_s3_ask(s, r, "GET", path, q.text, err);
    return w < 0 ? w : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}

struct parts {
    ty_object_part_fn fn;
    void *ctx;
    struct ty_object_part p;
    char *etag, *next;
    bool truncated;
};

static int part_element(const char *path, const char *text, void *ctx)
{
    struct parts *l = ctx;
    int64_t n = 0;
    int r = 0;

    if (!ty_starts_with(path, "ListPartsResult/"))
        return 0;
    path += strlen("ListPartsResult/");
    if (strcmp(path, "Part/PartNumber") == 0 && ty_parse_i64(text, &n) == 0 && n > 0 &&
        n <= 10000) {
        l->p.number = (unsigned)n;
    } else if (strcmp(path, "Part/Size") == 0 && ty_parse_i64(text, &n) == 0 && n >= 0) {
        l->p.bytes = (uint64_t)n;
    } else if (strcmp(path, "Part/ETag") == 0) {
        free(l->etag);
        l->etag = strdup(text);
    } else if (strcmp(path, "Part") == 0) {
        l->p.etag = l->etag ? l->etag : "";
        l->p.has_md5 = ty_s3_etag_md5(l->p.etag, l->p.md5);
        if (l->p.number > 0)
            r = l->fn(&l->p, l->ctx);
        free(l->etag);
        l->etag = NULL;
        l->p = (struct ty_object_part){ 0 };
    } else if (strcmp(path, "IsTruncated") == 0) {
        l->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "NextPartNumberMarker") == 0) {
        free(l->next);
        l->next = strdup(text);
    }
    return r;
}

int ty_s3_parts_listed(struct ty_object_store *base, struct ty_http_req *r, ty_object_part_fn fn,
                       void *ctx, char **next, struct ty_error *err)
{
    struct parts l = { .fn = fn, .ctx = ctx };
    int w = ty_xml_each(r->text.text ? r->text.text : "", r->text.len, part_element, &l, err);

    (void)base;
    free(l.etag);
    *next = NULL;
    if (w == 0 && l.truncated)
        *next = TAKE(l.next);
    free(l.next);
    return w;
}

int ty_s3_part(struct ty_object_store *base, struct ty_http_req *r, const char *path,
               const char *upload, const struct ty_object_part *p, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    CLEANUP_STR struct ty_str q = { 0 };
    char text[25];
    int w;

    ty_str_addf(&q, "?partNumber=%u&uploadId=", p->number);
    ty_str_add_url(&q, upload, false);
    if (q.failed)
        return ty_error_oom(err);
    w = ty_s3_ask(s, r, "PUT", path, q.text, err);
    if (w < 0)
        return w;
    if (p->has_md5 && ty_http_header(r, "Content-MD5", "%s", ty_md5_base64(p->md5, text)) < 0)
        return ty_error_oom(err);
    return ty_s3_sign(s, r, TY_SIGV4_UNSIGNED, err);
}

int ty_s3_sent(struct ty_object_store *base, const struct ty_http_req *r, struct ty_object_part *p)
{
    const char *etag = ty_http_answer(r, "ETag");
    const char *kms = ty_http_answer(r, "x-amz-server-side-encryption");

    (void)base;
    p->etag = etag ? etag : "";
    p->has_md5 = !(kms && ty_starts_with(kms, "aws:kms")) && ty_s3_etag_md5(p->etag, p->md5);
    return 0;
}

int ty_s3_finish(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                 const char *upload, const struct ty_object_part *parts, unsigned n,
                 const struct ty_object_content *c, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    CLEANUP_STR struct ty_str q = { 0 }, xml = { 0 };
    int w;

    ty_str_add(&q, "?uploadId=");
    ty_str_add_url(&q, upload, false);
    if (q.failed)
        return ty_error_oom(err);
    w = ty_s3_ask(s, r, "POST", path, q.text, err);
    if (w < 0)
        return w;
    if (!c->overwrite && (!s->unconditional || s->blind) &&
        ty_http_header(r, "If-None-Match", "*") < 0)
        return ty_error_oom(err);
    ty_str_add(&xml, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (unsigned i = 0; i < n; i++) {
        ty_str_addf(&xml, "<Part><PartNumber>%u</PartNumber><ETag>", parts[i].number);
        ty_xml_add(&xml, parts[i].etag);
        ty_str_add(&xml, "</ETag></Part>");
    }
    ty_str_add(&xml, "</CompleteMultipartUpload>");
    return ty_s3_sign_xml(s, r, &xml, err);
}

int ty_s3_abandon(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  const char *upload, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    CLEANUP_STR struct ty_str q = { 0 };
    int w;

    ty_str_add(&q, "?uploadId=");
    ty_str_add_url(&q, upload, false);
    if (q.failed)
        return ty_error_oom(err);
    w = ty_s3_ask(s, r, "DELETE", path, q.text, err);
    return w < 0 ? w : ty_s3_sign(s, r, TY_SIGV4_EMPTY, err);
}
