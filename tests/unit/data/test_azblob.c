/* test_azblob.c - Azure Blob: where it is, what is asked, what answers mean (a real server is in tests/e2e/azblob.sh) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "data/azblob_internal.h"
#include <errno.h>
#include <string.h>

#define KEY "a2V5a2V5a2V5a2V5"
#define SAS "sv=2021-08-06&sp=rl&se=2026-02-03T04%3A05%3A06Z&sig=c2VjcmV0%3D"

static struct ty_error err;

/* `more` is JSON behind account and container, with a comma before it. */
static int open_with(const char *account, const char *container, const char *more,
                     struct ty_object_store **ret)
{
    CLEANUP_FREE char *text =
        ty_strf("{\"account_name\":\"%s\",\"container_name\":\"%s\"%s}", account, container, more);
    CLEANUP_JSON json_t *config = NULL;
    int r;

    assert_int_equal(ty_json_parse(text, strlen(text), &config, NULL), 0);
    err = (struct ty_error){ 0 };
    r = ty_azblob.open(config, ret, &err);
    return r;
}

static struct ty_object_store *opened(const char *more)
{
    struct ty_object_store *s = NULL;

    if (open_with("acc0unt", "con-1", more, &s) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void is_at(const char *more, const char *url, const char *where)
{
    struct ty_object_store *s = opened(more);
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };

    assert_int_equal(ty_azblob.head(s, &r, "d/a b", NULL), 0);
    assert_string_equal(r.url, url);
    assert_string_equal(s->where, where);
    ty_object_close(s);
}

static void test_addresses(void **state)
{
    (void)state;
    is_at("", "https://acc0unt.blob.core.windows.net/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt'");
    is_at(",\"prefix\":\"/p/q/\"", "https://acc0unt.blob.core.windows.net/con-1/p/q/d/a%20b",
          "container 'con-1' of account 'acc0unt'");
    is_at(",\"protocol\":\"http\",\"endpoint\":\"core.chinacloudapi.cn\"",
          "http://acc0unt.blob.core.chinacloudapi.cn/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt'");
    is_at(",\"endpoint\":\"blob.core.windows.net\"",
          "https://acc0unt.blob.core.windows.net/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt'");
    is_at(",\"endpoint\":\"acc0unt.blob.core.windows.net\"",
          "https://acc0unt.blob.core.windows.net/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt'");
    is_at(",\"endpoint\":\"https://acc0unt.blob.core.windows.net/\"",
          "https://acc0unt.blob.core.windows.net/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at https://acc0unt.blob.core.windows.net/");
    is_at(",\"endpoint\":\"127.0.0.1:10000\"", "http://127.0.0.1:10000/acc0unt/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at 127.0.0.1:10000");
    is_at(",\"endpoint\":\"localhost\",\"protocol\":\"https\"",
          "https://localhost/acc0unt/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at localhost");
    is_at(",\"endpoint\":\"http://azurite:10000\"", "http://azurite:10000/acc0unt/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at http://azurite:10000");
    is_at(",\"endpoint\":\"http://127.0.0.1:10000/acc0unt\"",
          "http://127.0.0.1:10000/acc0unt/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at http://127.0.0.1:10000/acc0unt");
    is_at(",\"endpoint\":\"http://[::1]:10000\"", "http://[::1]:10000/acc0unt/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at http://[::1]:10000");
    is_at(",\"endpoint\":\"https://data.example.org\"", "https://data.example.org/con-1/d/a%20b",
          "container 'con-1' of account 'acc0unt' at https://data.example.org");
}

static void refused(const char *account, const char *container, const char *more, const char *word)
{
    struct ty_object_store *s = NULL;

    assert_int_equal(open_with(account, container, more, &s), -EINVAL);
    assert_null(s);
    if (!strstr(err.text, word))
        fail_msg("'%s' is not in: %s", word, err.text);
    assert_null(strstr(err.text, "c2VjcmV0"));
}

static void test_bad_configuration(void **state)
{
    (void)state;
    refused("", "con", "", "account_name");
    refused("ab", "con", "", "'ab' cannot be the name of a storage account");
    refused("Account", "con", "", "'Account'");
    refused("account", "", "", "container_name");
    refused("account", "c1", "", "'c1' cannot be the name of a container");
    refused("account", "a--b", "", "'a--b'");
    refused("account", "-abc", "", "'-abc'");
    refused("account", "../x", "", "'../x'");
    refused("account", "con", ",\"endpoint\":\"ftp://x\"", "neither with https");
    refused("account", "con", ",\"endpoint\":\"https://\"", "no host");
    refused("account", "con", ",\"endpoint\":\"https://h?sv=1&sig=c2VjcmV0\"", "sas_token");
    refused("account", "con", ",\"protocol\":\"gopher\"", "'gopher'");
    refused("account", "con", ",\"prefix\":\"a/../b\"", "..");
    refused("account", "con", ",\"account_key\":\"c2VjcmV0!\"", "base64");
    refused("account", "con", ",\"account_key\":\"" KEY "\\nx\"", "line break");
    refused("account", "con", ",\"sas_token\":\"c2VjcmV0\"", "is no SAS");
    refused("account", "con", ",\"sas_token\":\"https://h/c?sv=1&sig=c2VjcmV0\"", "is no SAS");
    refused("account", "con", ",\"sas_token\":\"" SAS "\",\"account_key\":\"" KEY "\"", "give one");
}

static void test_names(void **state)
{
    struct ty_object_store *s = opened("");
    struct ty_object_content c = { .bytes = 1 };
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    char name[1100];

    (void)state;
    assert_int_equal(ty_azblob.put(s, &r, "a/b.", &c, &err), -EINVAL);
    assert_int_equal(ty_azblob.put(s, &r, "a./b", &c, &err), -EINVAL);
    assert_int_equal(ty_azblob.put(s, &r, "a\\", &c, &err), -EINVAL);
    assert_null(r.url);
    memset(name, 'x', sizeof name);
    name[1024] = '\0';
    assert_int_equal(ty_azblob.head(s, &r, name, &err), -ENAMETOOLONG);
    name[1023] = '\0';
    assert_int_equal(ty_azblob.head(s, &r, name, &err), 0);
    ty_http_req_done(&r);
    for (int i = 1; i < 1023; i += 2)
        name[i] = '/';
    assert_int_equal(ty_azblob.head(s, &r, name, &err), -ENAMETOOLONG);
    name[2 * 253 + 1] = '\0';
    assert_int_equal(ty_azblob.head(s, &r, name, &err), 0);
    ty_object_close(s);
}

static void has(const struct ty_http_req *r, const char *header, const char *value)
{
    const char *is = ty_http_asked(r, header);

    if (!value)
        assert_null(is);
    else if (!is || strcmp(is, value) != 0)
        fail_msg("%s is %s, not %s", header, is ? is : "not there", value);
}

static void test_requests(void **state)
{
    struct ty_object_store *s = opened(",\"account_key\":\"" KEY "\",\"prefix\":\"p\"");
    struct ty_object_content c = { .bytes = 4, .md5 = (const uint8_t *)"0123456789abcdef" };
    struct ty_http_req r = { 0 };

    (void)state;
    r.body_bytes = 4;
    assert_int_equal(ty_azblob.put(s, &r, "f", &c, &err), 0);
    assert_string_equal(r.method, "PUT");
    has(&r, "x-ms-blob-type", "BlockBlob");
    has(&r, "x-ms-version", TY_AZ_VERSION);
    has(&r, "Content-MD5", "MDEyMzQ1Njc4OWFiY2RlZg==");
    has(&r, "If-None-Match", "*");
    assert_int_equal(strncmp(ty_http_asked(&r, "Authorization"), "SharedKey acc0unt:", 18), 0);
    ty_http_req_done(&r);
    c.overwrite = true;
    assert_int_equal(ty_azblob.put(s, &r, "f", &c, &err), 0);
    has(&r, "If-None-Match", NULL);
    ty_http_req_done(&r);

    assert_int_equal(ty_azblob.get(s, &r, "f", 10, 5, "\"0x1\"", &err), 0);
    has(&r, "Range", "bytes=10-14");
    has(&r, "If-Match", "\"0x1\"");
    ty_http_req_done(&r);
    assert_int_equal(ty_azblob.get(s, &r, "f", 0, UINT64_MAX, NULL, &err), 0);
    has(&r, "Range", NULL);
    has(&r, "If-Match", NULL);
    ty_http_req_done(&r);

    assert_int_equal(ty_azblob.list(s, &r, "a b", "m+1", &err), 0);
    assert_string_equal(
        r.url,
        "https://acc0unt.blob.core.windows.net/con-1?restype=container&comp=list&include=metadata&"
        "maxresults=5000&prefix=p%2Fa%20b&marker=m%2B1");
    ty_http_req_done(&r);
    assert_int_equal(ty_azblob.make_container(s, &r, &err), 0);
    assert_string_equal(r.url, "https://acc0unt.blob.core.windows.net/con-1?restype=container");
    ty_http_req_done(&r);
    assert_int_equal(ty_azblob.remove(s, &r, "f", &err), 0);
    assert_string_equal(r.method, "DELETE");
    ty_http_req_done(&r);
    ty_object_close(s);
}

/* A SAS goes into every URL, and a '+' in it is meant as one. */
static void test_sas(void **state)
{
    struct ty_object_store *s = opened(",\"sas_token\":\" ?sp=r&sig=a+b/c%3D&\"");
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    char text[40];

    (void)state;
    assert_int_equal(ty_azblob.head(s, &r, "f", &err), 0);
    assert_string_equal(r.url, "https://acc0unt.blob.core.windows.net/con-1/f?sp=r&sig=a%2Bb/c%3D");
    has(&r, "Authorization", NULL);
    has(&r, "x-ms-version", TY_AZ_VERSION);
    ty_http_req_done(&r);
    assert_int_equal(ty_azblob.make_container(s, &r, &err), 0);
    assert_string_equal(
        r.url, "https://acc0unt.blob.core.windows.net/con-1?restype=container&sp=r&sig=a%2Bb/c%3D");
    assert_true(ty_az_sas_value(SAS, "se", text, sizeof text));
    assert_string_equal(text, "2026-02-03T04:05:06Z");
    assert_false(ty_az_sas_value(SAS, "e", text, sizeof text));
    ty_object_close(s);
}

static void answer(struct ty_http_req *r, long status, const char *text)
{
    r->status = status;
    ty_str_add(&r->text, text);
}

static void answer_header(struct ty_http_req *r, const char *name, const char *value)
{
    r->answer.at = reallocarray(r->answer.at, r->answer.n + 1, sizeof *r->answer.at);
    assert_non_null(r->answer.at);
    r->answer.at[r->answer.n++] = (struct ty_http_header){ strdup(name), strdup(value) };
}

static int note(const struct ty_object *o, void *ctx)
{
    char hex[33] = "-";

    if (o->has_md5)
        ty_md5_hex(o->md5, hex);
    ty_str_addf(ctx, "%s %llu %s %s %lld\n", o->path, (unsigned long long)o->bytes, o->etag, hex,
                (long long)(o->modified_us / 1000000));
    return 0;
}

static void test_listed(void **state)
{
    struct ty_object_store *s = opened(",\"prefix\":\"p\"");
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    CLEANUP_STR struct ty_str said = { 0 };
    CLEANUP_FREE char *next = NULL;

    (void)state;
    answer(
        &r, 200,
        "\xEF\xBB\xBF<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"x\"><Prefix>p/</Prefix><Blobs>"
        "<Blob><Name>p/a &amp; b</Name><Properties><Last-Modified>Thu, 26 Nov 2026 20:37:58 GMT</Last-Modified><Etag>0x25</Etag>"
        "<Content-Length>6</Content-Length><Content-MD5>sZRqySSS0jR8YjW00mERhA==</Content-MD5></Properties></Blob>"
        "<Blob><Name>p/d</Name><Properties><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob>"
        "<Blob><Name>p/e</Name><Properties><Content-Length>0</Content-Length></Properties><Metadata><hdi_isfolder>true</hdi_isfolder>"
        "</Metadata></Blob>"
        "<Blob><Name>p/f/</Name><Properties><Content-Length>0</Content-Length></Properties></Blob>"
        "<Blob><Name>other</Name><Properties><Content-Length>0</Content-Length></Properties></Blob>"
        "<Blob><Name>p/\xC3\xBC</Name><Properties><Content-Length>7000000000</Content-Length><Etag>\"0x26\"</Etag></Properties></Blob>"
        "</Blobs><NextMarker>2!8!x</NextMarker></EnumerationResults>");
    assert_int_equal(ty_azblob.listed(s, &r, note, &said, &next, &err), 0);
    assert_string_equal(said.text, "a & b 6 \"0x25\" b1946ac92492d2347c6235b4d2611184 1795725478\n"
                                   "\xC3\xBC 7000000000 \"0x26\" - 0\n");
    assert_string_equal(next, "2!8!x");
    ty_http_req_done(&r);
    answer(&r, 200, "<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>");
    free(TAKE(next));
    assert_int_equal(ty_azblob.listed(s, &r, note, &said, &next, &err), 0);
    assert_null(next);
    ty_http_req_done(&r);
    answer(&r, 200, "<html>a proxy's page");
    assert_int_equal(ty_azblob.listed(s, &r, note, &said, &next, &err), -EINVAL);
    ty_object_close(s);
}

static int note_part(const struct ty_object_part *p, void *ctx)
{
    assert_true(p->has_md5);
    ty_str_addf(ctx, "%u %llu %.16s\n", p->number, (unsigned long long)p->bytes,
                (const char *)p->md5);
    return 0;
}

/* The MD5 of that of one part, "0123456789abcdef". */
#define PARTS "8388608 QDKvjWEDUSOQbljgZxQMxQ=="

/* The name of a block is read again from a list, and those of others are left out. */
static void test_blocks(void **state)
{
    struct ty_object_store *s = opened("");
    struct ty_object_part p = { .number = 66051, .bytes = 9, .has_md5 = true };
    struct ty_object_content c = { .bytes = 9,
                                   .md5 = (const uint8_t *)"fedcba9876543210",
                                   .part_bytes = 8 << 20 };
    CLEANUP_HTTP_REQ struct ty_http_req r = { 0 };
    CLEANUP_STR struct ty_str said = { 0 };
    char *next = NULL;

    (void)state;
    memcpy(p.md5, "0123456789abcdef", 16);
    r.body_bytes = 9;
    assert_int_equal(ty_azblob.part(s, &r, "f", "", &p, &err), 0);
    assert_string_equal(
        r.url,
        "https://acc0unt.blob.core.windows.net/con-1/f?comp=block&blockid=VFkwMQABAgMwMTIzNDU2Nzg5YWJjZGVm");
    has(&r, "Content-MD5", "MDEyMzQ1Njc4OWFiY2RlZg==");
    ty_http_req_done(&r);
    assert_int_equal(ty_azblob.parts(s, &r, "f", "", NULL, &err), 0);
    assert_string_equal(
        r.url,
        "https://acc0unt.blob.core.windows.net/con-1/f?comp=blocklist&blocklisttype=uncommitted");
    answer(
        &r, 200,
        "<BlockList><CommittedBlocks/><UncommittedBlocks><Block><Name>QUFB</Name><Size>5</Size></Block>"
        "<Block><Name>VFkwMQABAgMwMTIzNDU2Nzg5YWJjZGVm</Name><Size>9</Size></Block></UncommittedBlocks></BlockList>");
    assert_int_equal(ty_azblob.parts_listed(s, &r, note_part, &said, &next, &err), 0);
    assert_string_equal(said.text, "66051 9 0123456789abcdef\n");
    ty_http_req_done(&r);
    assert_int_equal(ty_azblob.finish(s, &r, "f", "", &p, 1, &c, &err), 0);
    assert_string_equal(
        r.body,
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><Latest>VFkwMQABAgMwMTIzNDU2Nzg5YWJjZGVm</Latest>"
        "</BlockList>");
    assert_int_equal(r.body_bytes, strlen(r.body));
    has(&r, "x-ms-blob-content-md5", "ZmVkY2JhOTg3NjU0MzIxMA==");
    has(&r, "x-ms-meta-trainyard_parts", PARTS " ZmVkY2JhOTg3NjU0MzIxMA==");
    has(&r, "If-None-Match", "*");
    ty_object_close(s);
}

/* The sum of the parts counts for the content that it was noted with. */
static void test_about_parts(void **state)
{
    static const struct {
        const char *md5, *parts;
        bool counts;
    } cases[] = {
        { "ZmVkY2JhOTg3NjU0MzIxMA==", PARTS " ZmVkY2JhOTg3NjU0MzIxMA==", true },
        { "ZmVkY2JhOTg3NjU0MzIxMA==", PARTS " sZRqySSS0jR8YjW00mERhA==", false },
        { "ZmVkY2JhOTg3NjU0MzIxMA==", PARTS, false },
        { "ZmVkY2JhOTg3NjU0MzIxMA==", "0 QDKvjWEDUSOQbljgZxQMxQ== ZmVkY2JhOTg3NjU0MzIxMA==",
          false },
        { "ZmVkY2JhOTg3NjU0MzIxMA==", "8388608 QDKv ZmVkY2JhOTg3NjU0MzIxMA==", false },
        { "ZmVkY2JhOTg3NjU0MzIxMA==", "", false },
        { NULL, PARTS " ZmVkY2JhOTg3NjU0MzIxMA==", false },
    };
    struct ty_object_store *s = opened("");
    uint8_t sum[TY_MD5_BYTES];

    (void)state;
    ty_md5("0123456789abcdef", 16, sum);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP_HTTP_REQ struct ty_http_req r = { .method = "HEAD" };
        struct ty_object o;

        if (cases[i].md5)
            answer_header(&r, "Content-MD5", cases[i].md5);
        answer_header(&r, "X-Ms-Meta-Trainyard_Parts", cases[i].parts);
        assert_int_equal(ty_azblob.about(s, &r, &o), 0);
        assert_int_equal(o.has_md5, cases[i].md5 != NULL);
        assert_int_equal(o.has_parts_md5, cases[i].counts);
        assert_int_equal(o.part_bytes, cases[i].counts ? 8 << 20 : 0);
        if (cases[i].counts)
            assert_memory_equal(o.parts_md5, sum, sizeof sum);
    }
    ty_object_close(s);
}

static void test_about(void **state)
{
    struct ty_object_store *s = opened("");
    struct ty_http_req r = { .method = "GET" };
    struct ty_object o;

    (void)state;
    answer_header(&r, "ETag", "\"0x25\"");
    answer_header(&r, "Content-Length", "5");
    answer_header(&r, "Content-MD5", "sZRqySSS0jR8YjW00mERhA==");
    assert_int_equal(ty_azblob.about(s, &r, &o), 0);
    assert_true(o.has_md5);
    assert_int_equal(o.bytes, 5);
    answer_header(&r, "Content-Range", "bytes 0-4/100"); /* the MD5 is that of the piece */
    assert_int_equal(ty_azblob.about(s, &r, &o), 0);
    assert_false(o.has_md5);
    assert_int_equal(o.bytes, 100);
    answer_header(&r, "x-ms-blob-content-md5", "sZRqySSS0jR8YjW00mERhA==");
    assert_int_equal(ty_azblob.about(s, &r, &o), 0);
    assert_true(o.has_md5);
    ty_http_req_done(&r);
    ty_object_close(s);
}

/* ---- judging ---- */

struct judged {
    const char *method, *url;
    long status;
    const char *code; /* of the header; NULL: none */
    const char *date; /* NULL: none */
    const char *text; /* of the body */
    int result;
    int again;
    const char *word; /* in the sentence */
};

static void judge(const char *more, const struct judged *j)
{
    struct ty_object_store *s = opened(more);
    struct ty_http_req r = { .method = j->method,
                             .url = strdup(j->url ? j->url : "http://h/c/f?sig=c2VjcmV0") };
    int again = 77, w;

    answer(&r, j->status, j->text ? j->text : "");
    if (j->code)
        answer_header(&r, "x-ms-error-code", j->code);
    if (j->date)
        answer_header(&r, "Date", j->date);
    w = ty_azblob.judge(s, &r, "upload", "d/f", &again, &err);
    if (w != j->result || again != j->again || (j->word && !strstr(err.text, j->word)))
        fail_msg("%d %d, not %d %d with '%s': %s", w, again, j->result, j->again,
                 j->word ? j->word : "", err.text);
    if (w < 0 && (strstr(err.text, "c2VjcmV0") ||
                  !ty_starts_with(
                      err.text, "cannot upload 'd/f' in container 'con-1' of account 'acc0unt': ")))
        fail_msg("%s", err.text);
    ty_http_req_done(&r);
    ty_object_close(s);
}

#define ERROR(code, message) \
    "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>" message \
    "\nRequestId:1</Message></Error>"

static void test_judge(void **state)
{
    static const struct judged all[] = {
        { "PUT", NULL, 201, NULL, NULL, "", 0, -1, NULL },
        { "PUT", NULL, 404, "ContainerNotFound", NULL, "", -ENODEV, -1,
          "create_if_not_exists (--create)" },
        { "HEAD", NULL, 404, "BlobNotFound", NULL, "", -ENOENT, -1, "no such blob" },
        { "HEAD", NULL, 404, NULL, NULL, "", -ENOENT, -1, "no such blob" },
        { "PUT", NULL, 409, NULL, NULL, ERROR("ContainerBeingDeleted", "x"), -EAGAIN, 5000,
          "being deleted" },
        { "PUT", NULL, 409, NULL, NULL, ERROR("BlobAlreadyExists", "x"), -EEXIST, -1, "overwrite" },
        { "GET", NULL, 412, NULL, NULL, ERROR("ConditionNotMet", "x"), -ESTALE, -1,
          "changed meanwhile" },
        { "PUT", NULL, 400, NULL, NULL, ERROR("Md5Mismatch", "x"), -EBADMSG, -1, "MD5" },
        { "PUT", NULL, 400, NULL, NULL, ERROR("InvalidBlobOrBlock", "x"), -EBUSY, -1,
          "another tool" },
        { "PUT", NULL, 400, NULL, NULL, ERROR("InvalidBlockList", "x"), -ESTALE, -1,
          "not there any more" },
        { "GET", NULL, 409, NULL, NULL, ERROR("BlobArchived", "x"), -EACCES, -1, "rehydrate" },
        { "PUT", NULL, 503, NULL, NULL, ERROR("ServerBusy", "x"), -EAGAIN, 0, "(503 ServerBusy)" },
        { "PUT", NULL, 429, NULL, NULL, "", -EAGAIN, 0, "slow down" },
        { "PUT", NULL, 500, NULL, NULL, ERROR("OperationTimedOut", "x"), -EAGAIN, 0, "too long" },
        { "PUT", NULL, 502, NULL, NULL, "<html>", -EAGAIN, 0, "502" },
        { "PUT", NULL, 507, NULL, NULL, "", -EAGAIN, 0, "507" },
        { "PUT", NULL, 400, NULL, NULL, ERROR("NewInThisYear", "What &lt;it&gt; is: sig=c2VjcmV0"),
          -EPROTO, -1, "it answers 400 NewInThisYear: What <it> is: " },
        { "PUT", NULL, 418, NULL, NULL, "no XML", -EPROTO, -1, "it answers 418" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        judge(",\"account_key\":\"" KEY "\"", &all[i]);
}

static void test_judge_who(void **state)
{
    static const char denied[] =
        ERROR("AuthenticationFailed", "Server failed to authenticate the request.");
    const char *key = ",\"account_key\":\"" KEY "\"", *sas = ",\"sas_token\":\"" SAS "\"";

    (void)state;
    setenv("TRAINYARD_TEST_CLOCK_SHIFT", "0", 1);
    judge(key, &(struct judged){ "PUT", NULL, 403, NULL, NULL, denied, -EACCES, -1,
                                 "account key is not one of account 'acc0unt'" });
    judge(key, &(struct judged){ "HEAD", NULL, 403, "AuthenticationFailed",
                                 "Thu, 26 Nov 2015 20:31:51 GMT", "", -ETIME, -1,
                                 "that of the store 2015-11-26T20:31:51Z" });
    judge(
        key,
        &(struct judged){
            "PUT", NULL, 403, NULL, NULL,
            "<Error><Code>AuthenticationFailed</Code><Message>x</Message><AuthenticationErrorDetail>Request date "
            "header too old: 'x'</AuthenticationErrorDetail></Error>",
            -ETIME, -1, "set the clock" });
    judge(sas, &(struct judged){
                   "PUT", NULL, 403, NULL, "Tue, 03 Feb 2026 04:05:06 GMT", denied, -EACCES, -1,
                   "it ended at 2026-02-03T04:05:06Z (se), and it is 2026-02-03T04:05:06Z now" });
    judge(sas, &(struct judged){ "PUT", NULL, 403, NULL, "Tue, 03 Feb 2026 04:05:05 GMT", denied,
                                 -EACCES, -1, "does not accept the signature of the SAS" });
    judge(",\"sas_token\":\"st=2030-01-01&sig=x\"",
          &(struct judged){ "PUT", NULL, 403, NULL, "Tue, 03 Feb 2026 04:05:06 GMT", denied,
                            -EACCES, -1, "begins at 2030-01-01T00:00:00Z (st)" });
    judge(sas, &(struct judged){ "PUT", "http://h/c/f?comp=block", 403, NULL, NULL,
                                 ERROR("AuthorizationPermissionMismatch", "x"), -EACCES, -1,
                                 "it allows 'rl' (sp), and this needs 'w' (write)" });
    judge(sas, &(struct judged){ "GET", "http://h/c?restype=container&comp=list&x", 403, NULL, NULL,
                                 ERROR("AuthorizationPermissionMismatch", "x"), -EACCES, -1,
                                 "needs 'l' (list)" });
    judge(",\"sas_token\":\"si=policy&sig=x\"",
          &(struct judged){ "DELETE", NULL, 403, NULL, NULL,
                            ERROR("AuthorizationPermissionMismatch", "x"), -EACCES, -1,
                            "policy of the SAS does not allow it: it needs 'd'" });
    judge("", &(struct judged){ "GET", NULL, 401, NULL, NULL, "", -EACCES, -1,
                                "account_key or sas_token" });
    judge(key, &(struct judged){ "GET", NULL, 403, NULL, NULL,
                                 ERROR("AuthorizationFailure", "This request is not authorized."),
                                 -EACCES, -1, "network rules" });
    unsetenv("TRAINYARD_TEST_CLOCK_SHIFT");
}

static void test_no_answer(void **state)
{
    struct ty_object_store *s = opened("");
    struct ty_http_req r = { .method = "GET", .result = -EHOSTUNREACH, .why = "no such host" };
    int again = 7;

    (void)state;
    assert_int_equal(ty_azblob.judge(s, &r, "list", NULL, &again, &err), -EHOSTUNREACH);
    assert_int_equal(again, -1);
    assert_string_equal(
        err.text,
        "cannot list container 'con-1' of account 'acc0unt': no such host: check account_name and endpoint, and "
        "that this machine is online");
    r.result = -ECONNRESET;
    assert_int_equal(ty_azblob.judge(s, &r, "list", NULL, &again, &err), -ECONNRESET);
    assert_int_equal(again, 0);
    ty_object_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),   cmocka_unit_test(test_bad_configuration),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_requests),
        cmocka_unit_test(test_sas),         cmocka_unit_test(test_listed),
        cmocka_unit_test(test_blocks),      cmocka_unit_test(test_about),
        cmocka_unit_test(test_about_parts), cmocka_unit_test(test_judge),
        cmocka_unit_test(test_judge_who),   cmocka_unit_test(test_no_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
