/* objects.c - answers of object stores: the first byte says whose ('s' or 'a'), the second to what, the rest is the body */
#include "base/error.h"
#include "data/http.h"
#include "data/object.h"
#include "fuzz.h"
#include <assert.h>
#include <string.h>

static const char S3[] = "{\"bucket\": \"buck\", \"endpoint\": \"http://h\", \"prefix\": \"p\"}";
static const char AZURE[] =
    "{\"account_name\": \"account\", \"container_name\": \"cont\", \"sas_token\": \"sv=1&sig=QUJD\"}";

void seed_objects(struct corpus *c)
{
    corpus_text(
        c,
        "sl<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType><Contents><Key>p/a+b%2Bc</Key>"
        "<LastModified>2026-11-26T12:00:00.000Z</LastModified><ETag>&quot;900150983cd24fb0d6963f7d28e17f72&quot;</ETag>"
        "<Size>5</Size></Contents><NextContinuationToken>tok</NextContinuationToken></ListBucketResult>");
    corpus_text(
        c,
        "su<ListMultipartUploadsResult><Upload><Key>p/x</Key><UploadId>up</UploadId><Initiated>2026-11-26T00:00:00Z</Initiated>"
        "</Upload></ListMultipartUploadsResult>");
    corpus_text(
        c,
        "sb<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>");
    corpus_text(
        c,
        "sp<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker><Part><PartNumber>2"
        "</PartNumber><Size>5</Size><ETag>\"900150983cd24fb0d6963f7d28e17f72\"</ETag></Part></ListPartsResult>");
    corpus_text(
        c,
        "sj<Error><Code>RequestTimeTooSkewed</Code><Message>no</Message><ServerTime>2026-11-26T00:00:00Z</ServerTime></Error>");
    corpus_text(
        c,
        "sj<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message><Region>eu-west-3</Region></Error>");
    corpus_text(
        c,
        "al<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs><Blob><Name>p/a</Name><Properties><Content-Length>5"
        "</Content-Length><Etag>0x8</Etag><Content-MD5>kAFQmDzST7DWlj99KOF/cg==</Content-MD5></Properties></Blob></Blobs>"
        "<NextMarker>m</NextMarker></EnumerationResults>");
    corpus_text(
        c,
        "ap<BlockList><UncommittedBlocks><Block><Name>QUFBQQ==</Name><Size>5</Size></Block></UncommittedBlocks></BlockList>");
    corpus_text(c, "aj<Error><Code>AuthenticationFailed</Code><Message>no</Message></Error>");
}

static int see_object(const struct ty_object *o, void *ctx)
{
    assert(o->path && *o->path && o->etag);
    ++*(int *)ctx;
    return 0;
}

static int see_part(const struct ty_object_part *p, void *ctx)
{
    assert(p->number > 0 && p->etag);
    ++*(int *)ctx;
    return 0;
}

static bool read_answer(struct ty_object_store *s, char what, struct ty_http_req *r)
{
    const struct ty_object_kind *k = s->kind;
    CLEANUP_FREE char *text = NULL;
    struct ty_error err = { 0 };
    int again = 7, seen = 0, w = -1;

    switch (what) {
    case 'l':
        w = k->listed(s, r, see_object, &seen, &text, &err);
        break;
    case 'u':
        w = k->found ? k->found(s, r, "x", &text, &err) : -1;
        break;
    case 'b':
        w = k->begun ? k->begun(s, r, &text, &err) : -1;
        assert(w < 0 || text);
        break;
    case 'p':
        w = k->parts_listed(s, r, see_part, &seen, &text, &err);
        break;
    default:
        r->status = 400;
        w = k->judge(s, r, "upload", "x", &again, &err);
        assert(w < 0 && err.text[0] && again >= -1);
        return true;
    }
    return w == 0;
}

bool parse_objects(const char *bytes, size_t n)
{
    CLEANUP_JSON json_t *config = json_loads(bytes[0] == 'a' ? AZURE : S3, 0, NULL);
    const struct ty_object_kind *kind = bytes[0] == 'a' ? &ty_azblob : &ty_s3;
    struct ty_object_store *s = NULL;
    struct ty_http_req r = { .method = "GET", .url = strdup("http://h/x"), .status = 200 };
    bool good = false;

    if (n >= 2 && kind->open(config, &s, NULL) == 0) {
        ty_str_addn(&r.text, bytes + 2, n - 2);
        good = read_answer(s, bytes[1], &r);
    }
    ty_http_req_done(&r);
    ty_object_close(s);
    return good;
}
