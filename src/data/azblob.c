/* azblob.c - Azure Blob: opening, listing, whole blobs
 *
 * Who asks is told by Shared Key (account_key) or by a SAS, which is a part of the query; it stands in no text and no log.
 * Every blob that we write carries the MD5 of its content, which the service checks when the blob comes in one piece
 * (Content-MD5) and keeps for readers otherwise (x-ms-blob-content-md5).
 *
 * Where the service is (`endpoint`):
 *   none, or a DNS suffix as "core.chinacloudapi.cn"    https://ACCOUNT.blob.SUFFIX/CONTAINER
 *   an address or "localhost", or a host with a port    http://HOST:PORT/ACCOUNT/CONTAINER: an emulator, path form
 *   a URL with a path                                    URL/CONTAINER, as it is
 *   a URL without a path                                 URL/CONTAINER for a name without a port; else the path form
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "data/azblob_internal.h"
#include "data/xml.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define PART_BYTES (8ull << 20)
#define PART_BYTES_MAX (4000ull << 20)
#define PARTS_MAX 50000
#define NAME_MAX_CHARS 1024
#define NAME_MAX_PARTS 254
#define SUFFIX "core.windows.net"
#define SMALL "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

/* ---- opening ---- */

static void az_close(struct ty_object_store *base)
{
    struct ty_az_store *s = (struct ty_az_store *)base;

    if (s->key.key) {
        sodium_memzero((void *)(uintptr_t)s->key.key, s->key.key_bytes);
        free((void *)(uintptr_t)s->key.key);
    }
    if (s->sas)
        sodium_memzero(s->sas, strlen(s->sas));
    free(s->sas);
    free(s->account);
    free(s->container);
    free(s->prefix);
    free(s->url);
    free(s->base.where);
    free(s);
}

struct config {
    const char *account, *container, *prefix, *protocol, *endpoint, *key, *sas;
};

static int read_config(const json_t *config, struct config *c, struct ty_error *err)
{
    const struct {
        const char *key, **ret;
    } texts[] = { { "account_name", &c->account }, { "container_name", &c->container },
                  { "prefix", &c->prefix },        { "protocol", &c->protocol },
                  { "endpoint", &c->endpoint },    { "account_key", &c->key },
                  { "sas_token", &c->sas } };
    int r = 0;

    for (size_t i = 0; i < sizeof texts / sizeof *texts && r == 0; i++) {
        r = ty_json_get_str(config, "configuration", texts[i].key, texts[i].ret, err);
        if (r == 0 && *texts[i].ret && !**texts[i].ret)
            *texts[i].ret = NULL;
        for (const char *p = r == 0 && *texts[i].ret ? *texts[i].ret : ""; *p && r == 0; p++)
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                r = ty_error_set(err, -EINVAL,
                                 "\"%s\" has a line break or another control character in it",
                                 texts[i].key);
    }
    return r;
}

static bool is_account(const char *name)
{
    size_t n = strlen(name);

    return n >= 3 && n <= 24 && strspn(name, SMALL DIGITS) == n;
}

static bool is_container(const char *name)
{
    size_t n = strlen(name);

    if (strcmp(name, "$root") == 0 || strcmp(name, "$web") == 0 || strcmp(name, "$logs") == 0)
        return true;
    return n >= 3 && n <= 63 && strspn(name, SMALL DIGITS "-") == n && name[0] != '-' &&
           name[n - 1] != '-' && !strstr(name, "--");
}

static int check_names(const struct config *c, struct ty_error *err)
{
    if (!c->account)
        return ty_error_set(err, -EINVAL, "there is no \"account_name\"");
    if (!is_account(c->account))
        return ty_error_set(
            err, -EINVAL,
            "'%.100s' cannot be the name of a storage account: those have 3 to 24 small letters and digits",
            c->account);
    if (!c->container)
        return ty_error_set(err, -EINVAL, "there is no \"container_name\"");
    if (!is_container(c->container))
        return ty_error_set(
            err, -EINVAL,
            "'%.100s' cannot be the name of a container: those have 3 to 63 small letters, digits and single '-', and "
            "begin and end with a letter or a digit",
            c->container);
    return 0;
}

static int check_address(const struct config *c, struct ty_error *err)
{
    if (c->protocol && strcmp(c->protocol, "https") != 0 && strcmp(c->protocol, "http") != 0)
        return ty_error_set(err, -EINVAL, "the protocol '%.20s' is neither 'https' nor 'http'",
                            c->protocol);
    if (c->endpoint && (strpbrk(c->endpoint, "@?# \\") || strstr(c->endpoint, "sig=")))
        return ty_error_set(err, -EINVAL,
                            "the endpoint is a suffix as '" SUFFIX
                            "', or 'https://host', without a user and a query: a SAS belongs "
                            "into sas_token");
    if (c->endpoint && strstr(c->endpoint, "://") && strncmp(c->endpoint, "https://", 8) != 0 &&
        strncmp(c->endpoint, "http://", 7) != 0)
        return ty_error_set(err, -EINVAL,
                            "the endpoint '%.100s' begins neither with https:// nor with http://",
                            c->endpoint);
    if (c->endpoint && (strcspn(c->endpoint, "/") == 0 || strcmp(c->endpoint, "https://") == 0 ||
                        strcmp(c->endpoint, "http://") == 0))
        return ty_error_set(err, -EINVAL, "the endpoint '%.100s' has no host", c->endpoint);
    if (c->key && c->sas)
        return ty_error_set(
            err, -EINVAL,
            "account_key and sas_token are both given: one of them is used, so give one");
    return 0;
}

/* An address, "localhost", or a name with a port: no account's own name is like that. */
static bool is_emulator(const char *host, size_t n)
{
    return host[0] == '[' || memchr(host, ':', n) || strspn(host, DIGITS ".") >= n ||
           (n == strlen("localhost") && strncmp(host, "localhost", n) == 0);
}

static char *url_of(const struct config *c, bool *cloud)
{
    const char *endpoint = c->endpoint ? c->endpoint : SUFFIX, *scheme = c->protocol,
               *host = strstr(endpoint, "://");
    CLEANUP_STR struct ty_str s = { 0 };
    bool path, emulator;
    size_t n, nhost;

    host = host ? host + 3 : endpoint;
    n = strlen(host);
    while (n > 0 && host[n - 1] == '/')
        n--;
    nhost = strcspn(host, "/");
    nhost = nhost < n ? nhost : n;
    path = nhost < n;
    emulator = is_emulator(host, nhost);
    if (host != endpoint)
        ty_str_addn(&s, endpoint, (size_t)(host - endpoint));
    else
        ty_str_addf(&s, "%s://", scheme ? scheme : emulator ? "http" : "https");
    *cloud = host == endpoint && !emulator && !path;
    if (*cloud && strncmp(host, c->account, strlen(c->account)) == 0 &&
        strncmp(host + strlen(c->account), ".blob.", 6) == 0)
        ty_str_add(&s, ""); /* the whole name was given */
    else if (*cloud)
        ty_str_addf(&s, "%s.%s", c->account, strncmp(host, "blob.", 5) == 0 ? "" : "blob.");
    ty_str_addn(&s, host, n);
    if (emulator && !path)
        ty_str_addf(&s, "/%s", c->account);
    ty_str_addf(&s, "/%s", c->container);
    return ty_str_take(&s);
}

static int keep_key(struct ty_az_store *s, const char *text, struct ty_error *err)
{
    size_t max = strlen(text), n = 0;
    uint8_t *key = malloc(max + 1);

    if (!key)
        return ty_error_oom(err);
    s->key.key = key;
    if (sodium_base642bin(key, max, text, max, " ", &n, NULL, sodium_base64_VARIANT_ORIGINAL) !=
            0 ||
        n == 0)
        return ty_error_set(
            err, -EINVAL,
            "the account key is not base64: copy the whole value of 'key1' or 'key2' (Access keys of the storage account)");
    s->key.key_bytes = n;
    return 0;
}

/* A SAS as it is copied from many places: with '?' before it, blanks around it, a '+' that nobody has encoded. */
static int keep_sas(struct ty_az_store *s, const char *text, struct ty_error *err)
{
    CLEANUP_STR struct ty_str sas = { 0 };
    size_t n;

    text += strspn(text, " ?&");
    n = strlen(text);
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '&'))
        n--;
    for (size_t i = 0; i < n; i++)
        if (text[i] == '+')
            ty_str_add(&sas, "%2B");
        else
            ty_str_addn(&sas, text + i, 1);
    s->sas = ty_str_take(&sas);
    if (!s->sas)
        return ty_error_oom(err);
    if (strstr(s->sas, "://") || strpbrk(s->sas, " #?\"<>\\^`{|}") ||
        !(ty_starts_with(s->sas, "sig=") || strstr(s->sas, "&sig=")))
        return ty_error_set(
            err, -EINVAL,
            "the sas_token is no SAS: it is what stands behind '?' in a SAS URL, with 'sig=' in it");
    return 0;
}

static int az_open(const json_t *config, struct ty_object_store **ret, struct ty_error *err)
{
    struct config c = { 0 };
    struct ty_az_store *s;
    int r = read_config(config, &c, err);

    if (r == 0)
        r = check_names(&c, err);
    if (r == 0)
        r = check_address(&c, err);
    if (r < 0)
        return r;
    s = calloc(1, sizeof *s);
    if (!s)
        return ty_error_oom(err);
    s->base.kind = &ty_azblob;
    r = ty_object_prefix(c.prefix, &s->prefix, err);
    if (r == 0 && c.key)
        r = keep_key(s, c.key, err);
    if (r == 0 && c.sas)
        r = keep_sas(s, c.sas, err);
    if (r == 0) {
        s->account = strdup(c.account);
        s->container = strdup(c.container);
        s->url = url_of(&c, &s->cloud);
        s->base.where = s->cloud ? ty_strf("container '%s' of account '%s'", c.container, c.account)
                                 : ty_strf("container '%s' of account '%s' at %s", c.container,
                                           c.account, c.endpoint);
        if (!s->account || !s->container || !s->url || !s->base.where)
            r = ty_error_oom(err);
    }
    if (r < 0) {
        az_close(&s->base);
        return r;
    }
    s->key.account = s->account;
    *ret = &s->base;
    return 0;
}

bool ty_az_sas_value(const char *sas, const char *key, char *text, size_t max)
{
    size_t n = strlen(key);

    for (const char *p = sas; *p; p += strcspn(p, "&"), p += *p == '&')
        if (strncmp(p, key, n) == 0 && p[n] == '=') {
            snprintf(text, max, "%.*s", (int)strcspn(p + n + 1, "&"), p + n + 1);
            return ty_url_decode(text) == 0;
        }
    return false;
}

char *ty_az_sas_url(const struct ty_object_store *base, int64_t until_s)
{
    const struct ty_az_store *s = (const struct ty_az_store *)base;
    CLEANUP_FREE char *made = s->key.key ? ty_sharedkey_sas(&s->key, s->container, until_s) : NULL;
    const char *sas = s->sas ? s->sas : made;

    if (s->key.key && !made)
        return NULL;
    return sas ? ty_strf("%s?%s", s->url, sas) : strdup(s->url);
}

/* ---- requests ---- */

static size_t characters(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static int check_name(const struct ty_az_store *s, const char *path, bool write,
                      struct ty_error *err)
{
    size_t slashes = 0, n = strlen(path);

    for (const char *p = s->prefix; *p; p++)
        slashes += *p == '/';
    for (const char *p = path; *p; p++)
        slashes += *p == '/';
    if (characters(s->prefix) + 1 + characters(path) > NAME_MAX_CHARS)
        return ty_error_set(
            err, -ENAMETOOLONG,
            "'%.100s...' is too long for the name of a blob: %d characters is the most", path,
            NAME_MAX_CHARS);
    if (slashes + (*s->prefix ? 2 : 1) > NAME_MAX_PARTS)
        return ty_error_set(err, -ENAMETOOLONG,
                            "'%.100s...' has too many parts for the name of a blob: %d is the most",
                            path, NAME_MAX_PARTS);
    if (write && (path[n - 1] == '.' || path[n - 1] == '\\' || strstr(path, "./")))
        return ty_error_set(
            err, -EINVAL,
            "'%.200s' cannot be the name of a blob: Azure drops a '.' or '\\' at the end of a part; give the file another name",
            path);
    return 0;
}

static int ask(struct ty_az_store *s, struct ty_http_req *r, const char *method, const char *path,
               const char *query, struct ty_error *err)
{
    CLEANUP_STR struct ty_str url = { 0 };
    const char *mark = "?";

    ty_str_add(&url, s->url);
    if (path) {
        ty_str_add(&url, "/");
        if (*s->prefix) {
            ty_str_add_url(&url, s->prefix, true);
            ty_str_add(&url, "/");
        }
        ty_str_add_url(&url, path, true);
    }
    if (*query) {
        ty_str_addf(&url, "?%s", query);
        mark = "&";
    }
    if (s->sas)
        ty_str_addf(&url, "%s%s", mark, s->sas);
    r->method = method;
    r->url = ty_str_take(&url);
    return r->url ? 0 : ty_error_oom(err);
}

int ty_az_ask(struct ty_az_store *s, struct ty_http_req *r, const char *method, const char *path,
              const char *query, struct ty_error *err)
{
    int w = path ? check_name(s, path, false, err) : 0;

    return w < 0 ? w : ask(s, r, method, path, query, err);
}

int ty_az_ask_write(struct ty_az_store *s, struct ty_http_req *r, const char *path,
                    const char *query, struct ty_error *err)
{
    int w = check_name(s, path, true, err);

    return w < 0 ? w : ask(s, r, "PUT", path, query, err);
}

int ty_az_sign(struct ty_az_store *s, struct ty_http_req *r, struct ty_error *err)
{
    if (ty_http_header(r, "x-ms-version", TY_AZ_VERSION) < 0)
        return ty_error_oom(err);
    if (s->key.key && ty_sharedkey_sign(&s->key, r, ty_object_now_s()) < 0)
        return ty_error_oom(err);
    return 0;
}

/* ---- listing ---- */

static int list_page(struct ty_object_store *base, struct ty_http_req *r, const char *prefix,
                     const char *marker, unsigned most, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    CLEANUP_STR struct ty_str q = { 0 };
    int w;

    ty_str_addf(&q, "restype=container&comp=list&include=metadata&maxresults=%u", most);
    if (*s->prefix || *prefix) {
        ty_str_add(&q, "&prefix=");
        if (*s->prefix) {
            ty_str_add_url(&q, s->prefix, false);
            ty_str_add(&q, "%2F");
        }
        ty_str_add_url(&q, prefix, false);
    }
    if (marker) {
        ty_str_add(&q, "&marker=");
        ty_str_add_url(&q, marker, false);
    }
    if (q.failed)
        return ty_error_oom(err);
    w = ty_az_ask(s, r, "GET", NULL, q.text, err);
    return w < 0 ? w : ty_az_sign(s, r, err);
}

static int az_list(struct ty_object_store *base, struct ty_http_req *r, const char *prefix,
                   const char *marker, struct ty_error *err)
{
    return list_page(base, r, prefix, marker, 5000, err);
}

static int az_probe(struct ty_object_store *base, struct ty_http_req *r, struct ty_error *err)
{
    return list_page(base, r, "", NULL, 1, err);
}

int64_t ty_az_when(const char *text)
{
    struct tm tm = { 0 };

    return text && strptime(text, "%a, %d %b %Y %H:%M:%S", &tm) ? (int64_t)timegm(&tm) * 1000000
                                                                : 0;
}

struct listing {
    const struct ty_az_store *s;
    ty_object_fn fn;
    void *ctx;
    struct ty_object o; /* the one being read; path and etag are not set */
    char *name, *etag, *next;
    bool folder;
};

static int set_text(char **ret, const char *text)
{
    free(*ret);
    *ret = strdup(text);
    return *ret ? 0 : -ENOMEM;
}

/* Headers have quotes around an ETag, listings have none. */
static int set_etag(char **ret, const char *text)
{
    free(*ret);
    *ret = *text == '"' || !*text ? strdup(text) : ty_strf("\"%s\"", text);
    return *ret ? 0 : -ENOMEM;
}

static int blob_ends(struct listing *l)
{
    size_t n = strlen(l->s->prefix), len = l->name ? strlen(l->name) : 0;
    int r = 0;

    if (len > n && !l->folder && l->name[len - 1] != '/' &&
        (n == 0 || (strncmp(l->name, l->s->prefix, n) == 0 && l->name[n] == '/'))) {
        l->o.path = l->name + (n ? n + 1 : 0);
        l->o.etag = l->etag ? l->etag : "";
        r = l->fn(&l->o, l->ctx);
    }
    free(l->name);
    free(l->etag);
    l->name = l->etag = NULL;
    l->o = (struct ty_object){ 0 };
    l->folder = false;
    return r;
}

static int blob_element(struct listing *l, const char *path, const char *text)
{
    int64_t n;

    if (strcmp(path, "Name") == 0)
        return set_text(&l->name, text);
    if (strcmp(path, "Properties/Etag") == 0)
        return set_etag(&l->etag, text);
    if (strcmp(path, "Properties/Content-Length") == 0) {
        if (ty_parse_i64(text, &n) < 0 || n < 0)
            return -EINVAL;
        l->o.bytes = (uint64_t)n;
    } else if (strcmp(path, "Properties/Content-MD5") == 0) {
        l->o.has_md5 = ty_md5_from_base64(text, l->o.md5) == 0;
    } else if (strcmp(path, "Properties/Last-Modified") == 0) {
        l->o.modified_us = ty_az_when(text);
    } else if (strcmp(path, "Properties/ResourceType") == 0) {
        l->folder |=
            strcmp(text, "directory") == 0; /* accounts with a hierarchical namespace list them */
    } else if (strcasecmp(path, "Metadata/hdi_isfolder") == 0) {
        l->folder |= strcmp(text, "true") == 0; /* and some tools make an empty blob for each */
    }
    return 0;
}

static int list_element(const char *path, const char *text, void *ctx)
{
    static const char blob[] = "EnumerationResults/Blobs/Blob";
    struct listing *l = ctx;

    if (strcmp(path, blob) == 0)
        return blob_ends(l);
    if (ty_starts_with(path, blob) && path[sizeof blob - 1] == '/')
        return blob_element(l, path + sizeof blob, text);
    if (strcmp(path, "EnumerationResults/NextMarker") == 0 && *text)
        return set_text(&l->next, text);
    return 0;
}

static int az_listed(struct ty_object_store *base, struct ty_http_req *r, ty_object_fn fn,
                     void *ctx, char **next, struct ty_error *err)
{
    struct listing l = { .s = (struct ty_az_store *)base, .fn = fn, .ctx = ctx };
    int w = ty_xml_each(r->text.text ? r->text.text : "", r->text.len, list_element, &l, err);

    free(l.name);
    free(l.etag);
    if (w == 0)
        *next = TAKE(l.next);
    free(l.next);
    return w;
}

static int az_make(struct ty_object_store *base, struct ty_http_req *r, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    int w = ty_az_ask(s, r, "PUT", NULL, "restype=container", err);

    return w < 0 ? w : ty_az_sign(s, r, err);
}

/* ---- blobs ---- */

static int az_get(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  uint64_t offset, uint64_t bytes, const char *etag, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    int w = ty_az_ask(s, r, "GET", path, "", err), h = 0;

    if (w < 0)
        return w;
    if (bytes != UINT64_MAX)
        h = ty_http_header(r, "Range", "bytes=%llu-%llu", (unsigned long long)offset,
                           (unsigned long long)(offset + bytes - 1));
    else if (offset > 0)
        h = ty_http_header(r, "Range", "bytes=%llu-", (unsigned long long)offset);
    if (h == 0 && etag && *etag)
        h = ty_http_header(r, "If-Match", "%s", etag);
    return h < 0 ? ty_error_oom(err) : ty_az_sign(s, r, err);
}

static int az_head(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                   struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    int w = ty_az_ask(s, r, "HEAD", path, "", err);

    return w < 0 ? w : ty_az_sign(s, r, err);
}

static int az_remove(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                     struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    int w = ty_az_ask(s, r, "DELETE", path, "", err);

    if (w < 0)
        return w;
    return ty_http_header(r, "x-ms-delete-snapshots", "include") < 0 ? ty_error_oom(err)
                                                                     : ty_az_sign(s, r, err);
}

static int az_put(struct ty_object_store *base, struct ty_http_req *r, const char *path,
                  const struct ty_object_content *c, struct ty_error *err)
{
    struct ty_az_store *s = (struct ty_az_store *)base;
    int w = ty_az_ask_write(s, r, path, "", err), h;
    char text[25];

    if (w < 0)
        return w;
    h = ty_http_header(r, "Content-Type", "application/octet-stream");
    if (h == 0)
        h = ty_http_header(r, "x-ms-blob-type", "BlockBlob");
    if (h == 0 && c->md5)
        h = ty_http_header(r, "Content-MD5", "%s", ty_md5_base64(c->md5, text));
    if (h == 0 && !c->overwrite)
        h = ty_http_header(r, "If-None-Match", "*");
    return h < 0 ? ty_error_oom(err) : ty_az_sign(s, r, err);
}

static uint64_t number_of(const char *text)
{
    int64_t n;

    return text && ty_parse_i64(text, &n) == 0 && n > 0 ? (uint64_t)n : 0;
}

/* Content-MD5 is that of the blob, but for a piece of it (206), and for a list of blocks that was sent. */
static int az_about(struct ty_object_store *base, const struct ty_http_req *r, struct ty_object *o)
{
    const char *etag = ty_http_answer(r, "ETag"), *range = ty_http_answer(r, "Content-Range");
    const char *md5 = ty_http_answer(r, "x-ms-blob-content-md5");
    bool put = strcmp(r->method, "PUT") == 0;

    (void)base;
    *o = (struct ty_object){ .path = "",
                             .etag = etag ? etag : "",
                             .modified_us = ty_az_when(ty_http_answer(r, "Last-Modified")) };
    if (range && strchr(range, '/'))
        o->bytes = number_of(strchr(range, '/') + 1);
    else if (!put)
        o->bytes = number_of(ty_http_answer(r, "Content-Length"));
    if (!md5 && put)
        md5 = ty_http_asked(r, "x-ms-blob-content-md5");
    if (!md5 && !range && !ty_http_asked(r, "x-ms-blob-content-md5"))
        md5 = ty_http_answer(r, "Content-MD5");
    o->has_md5 = md5 && ty_md5_from_base64(md5, o->md5) == 0;
    ty_az_read_parts(ty_http_answer(r, TY_AZ_PARTS), o);
    return 0;
}

const struct ty_object_kind ty_azblob = {
    .name = "azureblob",
    .part_bytes = PART_BYTES,
    .part_bytes_max = PART_BYTES_MAX,
    .parts_max = PARTS_MAX,
    .whole_md5 = true,
    .open = az_open,
    .close = az_close,
    .list = az_list,
    .listed = az_listed,
    .probe = az_probe,
    .make_container = az_make,
    .get = az_get,
    .head = az_head,
    .about = az_about,
    .put = az_put,
    .remove = az_remove,
    .parts = ty_az_parts,
    .parts_listed = ty_az_parts_listed,
    .part = ty_az_part,
    .sent = ty_az_sent,
    .finish = ty_az_finish,
    .judge = ty_az_judge,
};
