/* azblob_parts.c - Azure Blob: uploads in blocks
 *
 * An upload needs no name: blocks that are sent wait at the blob's name until a list of them makes the blob, or for a
 * week.  A block's name is the base64 of 24 bytes: "TY01", the number of the part (4 bytes, highest first) and the
 * MD5 of its content.  So a list of what waits tells what it is, two uploads of different contents to one name do not
 * mix, and a block that is sent again is the same block.
 */
#include "base/error.h"
#include "data/azblob_internal.h"
#include "data/xml.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define MARK "TY01"
#define ID_BYTES 24
#define ID_TEXT 33

static void block_id(const struct ty_object_part *p, char text[ID_TEXT])
{
    uint8_t id[ID_BYTES] = MARK;

    for (int i = 0; i < 4; i++)
        id[4 + i] = (uint8_t)(p->number >> (24 - 8 * i));
    memcpy(id + 8, p->md5, TY_MD5_BYTES);
    sodium_bin2base64(text, ID_TEXT, id, sizeof id, sodium_base64_VARIANT_ORIGINAL);
}

static bool read_block_id(const char *text, struct ty_object_part *p)
{
    uint8_t id[ID_BYTES];
    size_t n = 0;

    if (strlen(text) != ID_TEXT - 1 ||
        sodium_base642bin(id, sizeof id, text, ID_TEXT - 1, NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        n != sizeof id || memcmp(id, MARK, 4) != 0)
        return false;
    p->number = (unsigned)id[4] << 24 | (unsigned)id[5] << 16 | (unsigned)id[6] << 8 | id[7];
    memcpy(p->md5, id + 8, TY_MD5_BYTES);
    p->has_md5 = true;
    return p->number > 0;
}

int ty_az_parts(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                const char *upload, const char *marker, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    int w = ty_az_ask(s, r, "GET", path, "comp=blocklist&blocklisttype=uncommitted", err);

    (void)upload, (void)marker;
    return w < 0 ? w : ty_az_sign(s, r, err);
}

struct blocks {
    ty_object_part_fn fn;
    void *ctx;
    struct ty_object_part p;
    bool ours;
};

static int block_element(const char *path, const char *text, void *ctx)
{
    static const char block[] = "BlockList/UncommittedBlocks/Block";
    struct blocks *l = ctx;
    int64_t n;
    int r = 0;

    if (!ty_starts_with(path, block))
        return 0;
    path += sizeof block - 1;
    if (strcmp(path, "/Name") == 0) {
        l->ours = read_block_id(text, &l->p);
    } else if (strcmp(path, "/Size") == 0 && ty_parse_i64(text, &n) == 0 && n >= 0) {
        l->p.bytes = (uint64_t)n;
    } else if (!*path) {
        l->p.etag = "";
        if (l->ours)
            r = l->fn(&l->p, l->ctx);
        l->ours = false;
        l->p = (struct ty_object_part){ 0 };
    }
    return r;
}

int ty_az_parts_listed(struct ty_object_store *base, struct ty_http_req *r, ty_object_part_fn fn,
                       void *ctx, char **next, struct ty_error *err)
{
    struct blocks l = { .fn = fn, .ctx = ctx };
    int w = ty_xml_each(r->text.text ? r->text.text : "", r->text.len, block_element, &l, err);

    (void)base;
    if (w == 0)
        *next = NULL;
    return w;
}

int ty_az_part(struct ty_object_store *base, struct ty_http_req *r, const char *path,
               const char *upload, const struct ty_object_part *p, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    CLEANUP_STR struct ty_str q = { 0 };
    char id[ID_TEXT], md5[25];
    int w;

    (void)upload;
    block_id(p, id);
    ty_str_add(&q, "comp=block&blockid=");
    ty_str_add_url(&q, id, false);
    if (q.failed)
        return ty_error_oom(err);
    w = ty_az_ask_write(s, r, path, q.text, err);
    if (w < 0)
        return w;
    if (ty_http_header(r, "Content-MD5", "%s", ty_md5_base64(p->md5, md5)) < 0 ||
        ty_http_header(r, "Content-Type", "application/octet-stream") < 0)
        return ty_error_oom(err);
    return ty_az_sign(s, r, err);
}

int ty_az_sent(struct ty_object_store *base, const struct ty_http_req *r, struct ty_object_part *p)
{
    const char *md5 = ty_http_answer(r, "Content-MD5");

    (void)base;
    p->etag = "";
    p->has_md5 = md5 && ty_md5_from_base64(md5, p->md5) == 0;
    return 0;
}

/* "PART_BYTES SUM WHOLE", of which SUM is the MD5 of the parts' MD5s: parts of a download are hashed side by side, which the whole is not.
 * WHOLE ties it to the content that it is of, as metadata may outlive that under the hands of other tools. */
static int note_parts(struct ty_http_req *r, const struct ty_object_part *parts, unsigned n,
                      const struct ty_object_content *c)
{
    uint8_t sum[TY_MD5_BYTES];
    char text[25], whole[25];
    struct ty_md5 m;

    ty_md5_begin(&m);
    for (unsigned i = 0; i < n; i++)
        ty_md5_add(&m, parts[i].md5, TY_MD5_BYTES);
    ty_md5_end(&m, sum);
    return ty_http_header(r, TY_AZ_PARTS, "%llu %s %s", (unsigned long long)c->part_bytes,
                          ty_md5_base64(sum, text), ty_md5_base64(c->md5, whole));
}

void ty_az_read_parts(const char *text, struct ty_object *o)
{
    char sum[25], whole[25];
    uint8_t md5[TY_MD5_BYTES], parts[TY_MD5_BYTES];
    unsigned long long bytes;

    if (!text || !o->has_md5 || sscanf(text, "%llu %24s %24s", &bytes, sum, whole) != 3 ||
        bytes == 0 || ty_md5_from_base64(sum, parts) < 0 || ty_md5_from_base64(whole, md5) < 0 ||
        memcmp(md5, o->md5, sizeof md5) != 0)
        return;
    o->part_bytes = bytes;
    o->has_parts_md5 = true;
    memcpy(o->parts_md5, parts, sizeof parts);
}

/* Latest: a block that is not waiting any more, as this list has been heard already and only the answer was lost, is taken
 * from the blob. */
int ty_az_finish(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                 const char *upload, const struct ty_object_part *parts, unsigned n,
                 const struct ty_object_content *c, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    CLEANUP_STR struct ty_str xml = { 0 };
    char id[ID_TEXT], md5[25];
    int w = ty_az_ask_write(s, r, path, "comp=blocklist", err), h;

    (void)upload;
    if (w < 0)
        return w;
    ty_str_add(&xml, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for (unsigned i = 0; i < n; i++) {
        block_id(&parts[i], id);
        ty_str_addf(&xml, "<Latest>%s</Latest>", id);
    }
    ty_str_add(&xml, "</BlockList>");
    r->body_bytes = xml.len;
    r->body = ty_str_take(&xml);
    if (!r->body)
        return ty_error_oom(err);
    h = ty_http_header(r, "Content-Type", "application/xml");
    if (h == 0)
        h = ty_http_header(r, "x-ms-blob-content-type", "application/octet-stream");
    if (h == 0 && c->md5)
        h = ty_http_header(r, "x-ms-blob-content-md5", "%s", ty_md5_base64(c->md5, md5));
    if (h == 0 && c->md5)
        h = note_parts(r, parts, n, c);
    if (h == 0 && !c->overwrite)
        h = ty_http_header(r, "If-None-Match", "*");
    return h < 0 ? ty_error_oom(err) : ty_az_sign(s, r, err);
}
