/* s3d.c - a quick server that speaks enough of S3 for the benchmark of transfers
 *
 *     s3d FOLDER      prints its port, serves until its standard input ends
 *
 * Servers of tests are slow enough to hide who is before them: a file through s3rver takes it longer than any client.  This one
 * has a thread for each connection, sends by sendfile() and computes the MD5 of what comes, as stores do.  It
 * checks no signature, keeps no order of versions, and takes parts of at most SLOT bytes, each at its place in the object's file.
 * What it is not asked for by curl, rclone and our mover in the benchmark, it does not know.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/md5.h"
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <uthash.h>

#define SLOT (16ull << 20)
#define PARTS 10000
#define PAGE 1000
#define METAS 8

struct object {
    char *key, etag[64], *file;
    uint64_t bytes;
    char *metas[METAS][2];
    /* while it is uploaded in parts; its key is "upload id" then */
    char *of;
    uint8_t (*sums)[16];
    uint64_t *sizes;
    UT_hash_handle hh;
};
struct call { /* a request whose body is coming */
    int fd;
    uint64_t at;
    struct ty_md5 md5;
    char *file;
    bool keeps;
};
static struct {
    pthread_rwlock_t lock;
    struct object *objects, *uploads;
    const char *folder;
    unsigned long files;
    bool sorted;
} the = { .lock = PTHREAD_RWLOCK_INITIALIZER };

static char *new_file(void)
{
    return ty_strf("%s/%lu", the.folder, __atomic_add_fetch(&the.files, 1, __ATOMIC_RELAXED));
}

static void object_free(struct object *o, bool with_file)
{
    if (!o)
        return;
    if (with_file && o->file)
        unlink(o->file);
    for (int i = 0; i < METAS; i++) {
        free(o->metas[i][0]);
        free(o->metas[i][1]);
    }
    free(o->key);
    free(o->file);
    free(o->of);
    free(o->sums);
    free(o->sizes);
    free(o);
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
    enum MHD_Result ok = MHD_queue_response(c, status, r);

    MHD_destroy_response(r);
    return ok;
}

static struct MHD_Response *text(char *xml)
{
    return MHD_create_response_from_buffer(xml ? strlen(xml) : 0, xml, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result fail(struct MHD_Connection *c, unsigned status, const char *code)
{
    return answer(c, status, text(ty_strf("<Error><Code>%s</Code><Message>no</Message></Error>", code)));
}

static const char *query(struct MHD_Connection *c, const char *name)
{
    return MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, name);
}

static void describe(struct MHD_Response *r, const struct object *o)
{
    MHD_add_response_header(r, "ETag", o->etag);
    MHD_add_response_header(r, "Last-Modified", "Thu, 26 Nov 2026 12:00:00 GMT");
    MHD_add_response_header(r, "Accept-Ranges", "bytes");
    for (int i = 0; i < METAS && o->metas[i][0]; i++)
        MHD_add_response_header(r, o->metas[i][0], o->metas[i][1]);
}

static enum MHD_Result get(struct MHD_Connection *c, const char *key, bool head)
{
    const char *range = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Range");
    unsigned long long from = 0, to = 0;
    struct MHD_Response *r;
    struct object *o;
    int fd, status = 200;

    pthread_rwlock_rdlock(&the.lock);
    HASH_FIND_STR(the.objects, key, o);
    if (!o || (fd = open(o->file, O_RDONLY | O_CLOEXEC)) < 0) {
        pthread_rwlock_unlock(&the.lock);
        return fail(c, 404, "NoSuchKey");
    }
    to = o->bytes ? o->bytes - 1 : 0;
    if (range && sscanf(range, "bytes=%llu-%llu", &from, &to) >= 1)
        status = 206;
    if (to >= o->bytes)
        to = o->bytes ? o->bytes - 1 : 0;
    (void)head; /* libmicrohttpd sends no body then */
    r = MHD_create_response_from_fd_at_offset64(o->bytes ? to - from + 1 : 0, fd, from);
    describe(r, o);
    if (status == 206) {
        char said[100];

        snprintf(said, sizeof said, "bytes %llu-%llu/%llu", from, to, (unsigned long long)o->bytes);
        MHD_add_response_header(r, "Content-Range", said);
    }
    pthread_rwlock_unlock(&the.lock);
    return answer(c, (unsigned)status, r);
}

static int by_key(const struct object *a, const struct object *b) { return strcmp(a->key, b->key); }

static enum MHD_Result list(struct MHD_Connection *c)
{
    const char *prefix = query(c, "prefix"), *after = query(c, "marker");
    CLEANUP_STR struct ty_str s = { 0 };
    const char *last = NULL;
    int n = 0;
    bool more = false;

    if (!after)
        after = query(c, "continuation-token");
    prefix = prefix ? prefix : "";
    pthread_rwlock_wrlock(&the.lock);
    if (!the.sorted)
        HASH_SORT(the.objects, by_key);
    the.sorted = true;
    ty_str_add(&s, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><EncodingType>url</EncodingType>");
    for (struct object *o = the.objects; o && !more; o = o->hh.next) {
        if (!ty_starts_with(o->key, prefix) || (after && strcmp(o->key, after) <= 0))
            continue;
        if (n++ == PAGE) {
            more = true;
            break;
        }
        last = o->key;
        ty_str_addf(&s, "<Contents><Key>%s</Key><LastModified>2026-11-26T12:00:00.000Z</LastModified><ETag>%s</ETag>"
                        "<Size>%llu</Size><StorageClass>STANDARD</StorageClass></Contents>",
                    o->key, o->etag, (unsigned long long)o->bytes);
    }
    ty_str_addf(&s, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
    if (more)
        ty_str_addf(&s, "<NextMarker>%s</NextMarker><NextContinuationToken>%s</NextContinuationToken>", last, last);
    ty_str_add(&s, "</ListBucketResult>");
    pthread_rwlock_unlock(&the.lock);
    return answer(c, 200, text(ty_str_take(&s)));
}

static enum MHD_Result keep_meta(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct object *o = ctx;

    (void)kind;
    if (strncasecmp(name, "x-amz-meta-", 11) != 0)
        return MHD_YES;
    for (int i = 0; i < METAS; i++)
        if (!o->metas[i][0]) {
            o->metas[i][0] = strdup(name);
            o->metas[i][1] = strdup(value);
            break;
        }
    return MHD_YES;
}

static void place(struct object *o)
{
    struct object *was;

    pthread_rwlock_wrlock(&the.lock);
    HASH_FIND_STR(the.objects, o->key, was);
    if (was)
        HASH_DEL(the.objects, was);
    HASH_ADD_KEYPTR(hh, the.objects, o->key, strlen(o->key), o);
    the.sorted = false;
    pthread_rwlock_unlock(&the.lock);
    object_free(was, true);
}

static enum MHD_Result put(struct MHD_Connection *c, struct call *k, const char *key)
{
    const char *part = query(c, "partNumber"), *id = query(c, "uploadId");
    uint8_t sum[16];
    char hex[33], etag[64];
    struct MHD_Response *r;
    struct object *o;
    int64_t n;

    ty_md5_end(&k->md5, sum);
    snprintf(etag, sizeof etag, "\"%s\"", ty_md5_hex(sum, hex));
    if (id && part && ty_parse_i64(part, &n) == 0 && n > 0 && n <= PARTS) {
        pthread_rwlock_wrlock(&the.lock);
        HASH_FIND_STR(the.uploads, id, o);
        if (o) {
            memcpy(o->sums[n - 1], sum, 16);
            o->sizes[n - 1] = k->at;
        }
        pthread_rwlock_unlock(&the.lock);
        if (!o)
            return fail(c, 404, "NoSuchUpload");
    } else {
        o = calloc(1, sizeof *o);
        o->key = strdup(key);
        o->bytes = k->at;
        o->file = TAKE(k->file);
        snprintf(o->etag, sizeof o->etag, "%s", etag);
        MHD_get_connection_values(c, MHD_HEADER_KIND, keep_meta, o);
        place(o);
    }
    r = text(strdup(""));
    MHD_add_response_header(r, "ETag", etag);
    return answer(c, 200, r);
}

static enum MHD_Result begin(struct MHD_Connection *c, const char *key)
{
    struct object *o = calloc(1, sizeof *o);
    CLEANUP_FREE char *id = NULL;

    o->file = new_file();
    o->key = ty_strf("u%s", strrchr(o->file, '/') + 1);
    o->of = strdup(key);
    o->sums = calloc(PARTS, sizeof *o->sums);
    o->sizes = calloc(PARTS, sizeof *o->sizes);
    MHD_get_connection_values(c, MHD_HEADER_KIND, keep_meta, o);
    close(open(o->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    id = strdup(o->key);
    pthread_rwlock_wrlock(&the.lock);
    HASH_ADD_KEYPTR(hh, the.uploads, o->key, strlen(o->key), o);
    pthread_rwlock_unlock(&the.lock);
    return answer(c, 200, text(ty_strf("<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>%s</Key><UploadId>%s</UploadId>"
                                       "</InitiateMultipartUploadResult>", key, id)));
}

static enum MHD_Result finish(struct MHD_Connection *c, const char *id)
{
    struct ty_md5 m;
    uint8_t sum[16];
    struct object *o;
    char hex[33];
    int n = 0;

    pthread_rwlock_wrlock(&the.lock);
    HASH_FIND_STR(the.uploads, id, o);
    if (o)
        HASH_DEL(the.uploads, o);
    pthread_rwlock_unlock(&the.lock);
    if (!o)
        return fail(c, 404, "NoSuchUpload");
    ty_md5_begin(&m);
    for (; n < PARTS && o->sizes[n]; n++) {
        ty_md5_add(&m, o->sums[n], 16);
        o->bytes = (uint64_t)n * SLOT + o->sizes[n];
    }
    ty_md5_end(&m, sum);
    snprintf(o->etag, sizeof o->etag, "\"%s-%d\"", ty_md5_hex(sum, hex), n);
    free(o->key);
    o->key = TAKE(o->of);
    place(o);
    return answer(c, 200, text(ty_strf("<CompleteMultipartUploadResult><Key>%s</Key><ETag>%s</ETag></CompleteMultipartUploadResult>",
                                       o->key, o->etag)));
}

static enum MHD_Result act(struct MHD_Connection *c, struct call *k, const char *method, const char *key)
{
    if (strcmp(method, "PUT") == 0)
        return put(c, k, key);
    if (strcmp(method, "POST") == 0)
        return query(c, "uploadId") ? finish(c, query(c, "uploadId")) : begin(c, key);
    if (strcmp(method, "DELETE") == 0)
        return answer(c, 204, text(strdup("")));
    if (query(c, "uploads") || MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "uploads"))
        return answer(c, 200, text(strdup("<ListMultipartUploadsResult></ListMultipartUploadsResult>")));
    return *key ? get(c, key, strcmp(method, "HEAD") == 0) : list(c);
}

static int open_body(struct MHD_Connection *c, struct call *k)
{
    const char *part = query(c, "partNumber"), *id = query(c, "uploadId");
    struct object *o = NULL;
    int64_t n = 0;

    k->keeps = true;
    if (!id || !part || ty_parse_i64(part, &n) < 0 || n < 1) {
        k->file = new_file();
        k->fd = open(k->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        return k->fd;
    }
    pthread_rwlock_rdlock(&the.lock);
    HASH_FIND_STR(the.uploads, id, o);
    if (o)
        k->fd = open(o->file, O_WRONLY | O_CLOEXEC);
    pthread_rwlock_unlock(&the.lock);
    if (k->fd >= 0 && lseek(k->fd, (off_t)((uint64_t)(n - 1) * SLOT), SEEK_SET) < 0)
        return -1;
    return k->fd;
}

static enum MHD_Result serve(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                             const char *version, const char *data, size_t *n, void **state)
{
    const char *key = url[0] == '/' ? strchr(url + 1, '/') : NULL; /* after the bucket */
    struct call *k = *state;

    (void)ctx, (void)version;
    if (!k) {
        k = calloc(1, sizeof *k);
        k->fd = -1;
        ty_md5_begin(&k->md5);
        *state = k;
        if (strcmp(method, "PUT") == 0 && open_body(c, k) < 0)
            return MHD_NO;
        return MHD_YES;
    }
    if (*n > 0) {
        if (k->keeps) {
            ty_md5_add(&k->md5, data, *n);
            if (ty_write_all(k->fd, data, *n) < 0)
                return MHD_NO;
        }
        k->at += *n;
        *n = 0;
        return MHD_YES;
    }
    return act(c, k, method, key ? key + 1 : "");
}

static void ended(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    struct call *k = *state;

    (void)ctx, (void)c, (void)why;
    if (!k)
        return;
    if (k->fd >= 0)
        close(k->fd);
    if (k->file)
        unlink(k->file);
    free(k->file);
    free(k);
    *state = NULL;
}

int main(int argc, char **argv)
{
    struct MHD_Daemon *d;
    char byte;

    if (argc != 2)
        return 2;
    the.folder = argv[1];
    d = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL,
                         serve, NULL, MHD_OPTION_NOTIFY_COMPLETED, ended, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t)(256 << 10), MHD_OPTION_CONNECTION_LIMIT, 300u, MHD_OPTION_END);
    if (!d)
        return 1;
    printf("%u\n", (unsigned)MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    MHD_stop_daemon(d);
    return 0;
}
