/* parsers.c - every parser of bytes that somebody else wrote */
#include "base/conf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "blob/ignore.h"
#include "blob/snapshot.h"
#include "blob/statcache.h"
#include "client/http.h"
#include "client/sse.h"
#include "coll/lists.h"
#include "coll/net_addr.h"
#include "coll/net_wire.h"
#include "coll/rendezvous.h"
#include "coll/req.h"
#include "core/launch_plan.h"
#include "core/routes.h"
#include "core/row.h"
#include "core/run_event.h"
#include "core/run_spec.h"
#include "core/target_spec.h"
#include "core/wire.h"
#include "fuzz.h"
#include "runner/jobfile.h"
#include "runner/pmix_wire.h"
#include "runner/records.h"
#include "runner/spool.h"
#include "target/slurm_ask.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHA "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static bool is_text(const char *bytes, size_t n)
{
    return memchr(bytes, 0, n) == NULL;
}

/* What cannot be parsed says why. */
static void check_refusal(int r, const struct ty_error *err)
{
    assert(r < 0 && err->code == r && err->text[0]);
}

/* ---- the stream of runners ---- */

static void seed_frame(struct corpus *c)
{
    static const char body[] = "{\"kind\": \"exited\", \"exit_code\": 0}";
    static const enum ty_frame_type types[] = {
        TY_FRAME_HELLO,      TY_FRAME_RECORD,  TY_FRAME_LOG,      TY_FRAME_ROWS,    TY_FRAME_PING,
        TY_FRAME_RECORD_ACK, TY_FRAME_LOG_ACK, TY_FRAME_ROWS_ACK, TY_FRAME_RELEASE, TY_FRAME_WANT,
        TY_FRAME_BLOB,       TY_FRAME_FENCE,   TY_FRAME_GO,       TY_FRAME_END,     TY_FRAME_FENCED
    };
    CLEANUP_STR struct ty_str all = { 0 };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct ty_frame f = { .type = types[i],
                              .seq = 7,
                              .writer = 2,
                              .count = 1,
                              .name = "logs/a",
                              .name_len = 6,
                              .body = body,
                              .body_len = sizeof body - 1 };
        CLEANUP_STR struct ty_str one = { 0 };

        ty_frame_encode(&f, &one);
        ty_frame_encode(&f, &all);
        corpus_add(c, one.text, one.len);
    }
    corpus_add(c, all.text, all.len);
}

static bool parse_frame(const char *bytes, size_t n)
{
    struct ty_frame f;
    ptrdiff_t used;

    for (size_t at = 0; (used = ty_frame_decode(bytes + at, n - at, &f)) > 0; at += (size_t)used) {
        CLEANUP_STR struct ty_str again = { 0 };

        ty_frame_encode(&f, &again);
        assert(again.len == (size_t)used && memcmp(again.text, bytes + at, again.len) == 0);
    }
    assert(used == -EAGAIN || used == -EBADMSG);
    return used == -EAGAIN;
}

/* ---- what a PMIx helper says ---- */

static void seed_pmix(struct corpus *c)
{
    static const enum ty_pmix_frame_type types[] = { TY_PMIX_SETUP, TY_PMIX_READY, TY_PMIX_FENCE,
                                                     TY_PMIX_FENCE_DONE, TY_PMIX_ABORT };
    CLEANUP_STR struct ty_str all = { 0 };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct ty_pmix_frame f = { .type = types[i],
                                   .nodes = 2,
                                   .key = "*/1",
                                   .key_len = 3,
                                   .body = "{\"rank\": 1}",
                                   .body_len = 11 };
        CLEANUP_STR struct ty_str one = { 0 };

        ty_pmix_encode(&f, &one);
        ty_pmix_encode(&f, &all);
        corpus_add(c, one.text, one.len);
    }
    corpus_add(c, all.text, all.len);
}

static bool parse_pmix(const char *bytes, size_t n)
{
    struct ty_pmix_frame f;
    ptrdiff_t used;

    for (size_t at = 0; (used = ty_pmix_decode(bytes + at, n - at, &f)) > 0; at += (size_t)used) {
        CLEANUP_STR struct ty_str again = { 0 };

        ty_pmix_encode(&f, &again);
        assert(again.len == (size_t)used && memcmp(again.text, bytes + at, again.len) == 0);
    }
    assert(used == -EAGAIN || used == -EBADMSG);
    return used == -EAGAIN;
}

static void seed_row(struct corpus *c)
{
    static const struct ty_row rows[] = {
        { TY_ROW_DOUBLE, TY_ROW_NO_STEP, 1, "loss", 4, "\0\0\0\0\0\0\xf0?", 8 },
        { TY_ROW_INT, 5, 2, "n", 1, "\1\0\0\0\0\0\0\0", 8 },
        { TY_ROW_TEXT, 0, 3, "text", 4, "hello", 5 },
        { TY_ROW_LIST, 0, 4, "list", 4, "[1, 2.5, \"x\"]", 13 },
        { TY_ROW_TAG, 0, 5, "tag", 3, "\"v\"", 3 },
    };
    CLEANUP_STR struct ty_str all = { 0 };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[256];

        assert(ty_row_encode(&rows[i], out) == 0);
        corpus_add(c, out, ty_row_size(&rows[i]));
        ty_str_addn(&all, out, ty_row_size(&rows[i]));
    }
    corpus_add(c, all.text, all.len);
}

static bool parse_row(const char *bytes, size_t n)
{
    struct ty_row row;
    ptrdiff_t used;

    for (size_t at = 0; (used = ty_row_decode(bytes + at, n - at, &row)) > 0; at += (size_t)used)
        assert(row.kind == TY_ROW_PAD || ty_row_size(&row) == (size_t)used);
    assert(used == -EAGAIN || used == -EBADMSG);
    return used == -EAGAIN;
}

/* ---- JSON from clients ---- */

static void seed_run_spec(struct corpus *c)
{
    corpus_text(
        c,
        "{\"version\": 1, \"experiment\": \"first\", \"target\": \"local\", \"command\": [\"/bin/sh\", \"-c\", \"echo $HOME\"], \"resources\": {\"cpus\": 2}, \"expand\": true, \"tags\": {\"a\": null}}");
    corpus_text(
        c,
        "{\"version\": 1, \"experiment\": \"first\", \"target\": \"box\", \"interpreter\": \"/usr/bin/python3\", \"script\": \"train.py\", \"arguments\": "
        "[\"--data_dir\", \"$AZUREML_DATAREFERENCE_d\"], \"snapshot\": \"" SHA
        "\", \"use_gpu\": true, \"warnings\": [\"w\"], "
        "\"environment_variables\": {\"A\": \"b\"}, \"data_references\": {\"d\": {\"datastore\": \"workspaceblobstore\", "
        "\"path\": \"x/y\", \"mode\": \"mount\", \"path_on_compute\": null, \"overwrite\": false}}, "
        "\"max_run_duration_seconds\": 60, \"azureml\": {\"runDefinition\": {}}}");
}

static bool parse_run_spec(const char *bytes, size_t n)
{
    CLEANUP_JSON json_t *json = NULL;
    struct ty_run_spec *spec = NULL;
    struct ty_error err = { 0 };
    int r = ty_json_parse(bytes, n, &json, &err);

    if (r == 0)
        r = ty_run_spec_parse(json, &spec, &err);
    if (r < 0)
        check_refusal(r, &err);
    ty_run_spec_free(spec);
    return r == 0;
}

static void seed_target_spec(struct corpus *c)
{
    corpus_text(
        c,
        "{\"kind\": \"local\", \"vm_size\": \"STANDARD_NC6\", \"min_nodes\": 0, \"max_nodes\": 2, \"require_gpu\": false, "
        "\"tags\": {\"a\": \"b\"}, \"description\": \"d\"}");
    corpus_text(
        c,
        "{\"kind\": \"hosts\", \"hosts\": [{\"host\": \"h1\", \"port\": 22, \"user\": \"u\", \"cpus\": 2}], "
        "\"ssh_options\": [\"A=b\"], \"drained_nodes\": [\"h1\"]}");
    corpus_text(
        c,
        "{\"kind\": \"slurm\", \"partition\": \"p\", \"vm_sizes\": {\"A\": {\"gres\": \"gpu:1\"}}, "
        "\"environment\": {\"A\": \"b\"}, \"sbatch_options\": [\"--x\"], \"shared_home\": false}");
}

static bool parse_target_spec(const char *bytes, size_t n)
{
    CLEANUP_JSON json_t *json = NULL;
    struct ty_target_spec *spec = NULL;
    struct ty_error err = { 0 };
    int r = ty_json_parse(bytes, n, &json, &err);

    if (r == 0)
        r = ty_target_spec_parse(json, &spec, &err);
    if (r < 0)
        check_refusal(r, &err);
    ty_target_spec_free(spec);
    return r == 0;
}

static void seed_events(struct corpus *c)
{
    corpus_text(
        c,
        "[[\"submitted\", {}], [\"prepare\", {}], [\"ready\", {}], [\"tagged\", {\"key\": \"k\", \"value\": \"v\"}], "
        "[\"started\", {\"pid\": 7}], [\"artifact\", {\"path\": \"outputs/a\", \"sha256\": \"" SHA
        "\", \"bytes\": 3}], "
        "[\"silent\", {\"seconds\": 10}], [\"heard\", {\"seconds\": 3}], [\"exited_ok\", {\"exit_code\": 0}], [\"collected\", {}]]");
    corpus_text(
        c,
        "[[\"submitted\", {}], [\"prepare\", {}], [\"cancel\", {\"reason\": \"user\"}], [\"exited_bad\", {\"exit_signal\": 15, \"error\": "
        "{\"code\": \"c\", \"message\": \"m\", \"log_tail\": null}}], [\"collected\", {}]]");
}

static bool parse_events(const char *bytes, size_t n)
{
    CLEANUP_JSON json_t *json = NULL;
    struct ty_error err = { 0 };
    struct ty_run_view v;
    int64_t seq = 1;
    bool all = true;
    json_t *event;
    size_t i;

    if (ty_json_parse(bytes, n, &json, &err) < 0 || ty_run_view_init(&v) < 0)
        return false;
    json_array_foreach (json, i, event) {
        const char *kind = json_string_value(json_array_get(event, 0));
        int r =
            kind ? ty_run_view_apply(&v, seq, (int64_t)i + 1, kind, json_array_get(event, 1), &err)
                 : -EINVAL;

        all &= r == 0;
        seq += r == 0;
        assert(v.last_seq == seq - 1);
    }
    ty_run_view_done(&v);
    return all;
}

/* ---- requests and replies ---- */

static void seed_route(struct corpus *c)
{
    corpus_text(c, "GET /api/v1/runs/a_1_2/files/outputs/model%20a.pt");
    corpus_text(c, "PUT /api/v1/datastores/d/files/a/b");
    corpus_text(c, "POST /api/v1/experiments/e/runs");
    corpus_text(c, "PATCH /api/v1/runs/x/tags");
}

static bool parse_route(const char *bytes, size_t n)
{
    CLEANUP_FREE char *copy = strndup(bytes, n);
    CLEANUP_FREE char *back = NULL;
    struct ty_route_match m;
    char *path = copy ? strchr(copy, ' ') : NULL;

    if (!path)
        return false;
    *path++ = '\0';
    if (ty_route_find(copy, path, &m) < 0)
        return false;
    back = ty_route_path(m.route, (const char *const[]){ m.args[0], m.nargs > 1 ? m.args[1] : NULL,
                                                         m.nargs > 2 ? m.args[2] : NULL, NULL });
    assert(back && ty_route_find(ty_routes[m.route].method, back, &m) == 0);
    return true;
}

static void seed_http(struct corpus *c)
{
    corpus_text(
        c,
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTrainyard-Api: 1\r\nTrainyard-Version: 0.1.0\r\n\r\nhello");
    corpus_text(
        c,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n");
    corpus_text(c, "HTTP/1.0 404 Not Found\r\nConnection: close\r\n\r\nno such run");
    corpus_text(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
}

static bool parse_http(const char *bytes, size_t n)
{
    struct ty_http_exchange x = {
        .head = "GET / HTTP/1.1\r\n\r\n", .head_len = 18, .body_max = 4096, .silence_ms = 1000
    };
    static struct ty_http_conn conn;
    int pair[2], r = -EIO;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    if (write(pair[1], bytes, n) == (ssize_t)n) {
        shutdown(pair[1], SHUT_WR);
        conn = (struct ty_http_conn){ .fd = pair[0] };
        r = ty_http_ask(&conn, &x);
        assert(r != -ETIMEDOUT && x.body_in.len <= x.body_max);
        ty_http_close(&conn);
    } else {
        close(pair[0]);
    }
    ty_str_done(&x.body_in);
    close(pair[1]);
    return r == 0;
}

static int on_event(const char *event, const char *data, size_t n, void *ctx)
{
    (void)ctx;
    assert(event && strlen(data) <= n);
    return 0;
}

static void seed_sse(struct corpus *c)
{
    corpus_text(
        c,
        "id: 3:100\nevent: log\ndata: {\"text\": \"a\"}\n\n: beat\n\nevent: end\ndata: {}\ndata: {}\n\n");
    corpus_text(c, "data\n\ndata: x\r\n\r\nid\n\n");
}

static bool parse_sse(const char *bytes, size_t n)
{
    struct ty_sse s = { 0 };
    size_t half = n / 2;
    int r = ty_sse_feed(&s, bytes, half, on_event, NULL);

    if (r == 0)
        r = ty_sse_feed(&s, bytes + half, n - half, on_event, NULL);
    ty_sse_done(&s);
    return r == 0;
}

/* ---- snapshots ---- */

static void seed_manifest(struct corpus *c)
{
    corpus_text(c, "trainyard-snapshot 1\nf 644 4 " SHA " a/b.txt\nf 755 4 " SHA
                   " run.sh\nl - 7 - to -> a/b.txt\n");
}

static bool parse_manifest(const char *bytes, size_t n)
{
    struct ty_snapshot *s = NULL;
    struct ty_error err = { 0 };
    int r = ty_snapshot_parse(bytes, n, &s, &err);
    size_t m;

    if (r < 0)
        check_refusal(r, &err);
    else
        assert(strlen(ty_snapshot_id(s)) == 64 &&
               memcmp(ty_snapshot_manifest(s, &m), bytes, n) == 0 && m == n);
    ty_snapshot_free(s);
    return r == 0;
}

static void seed_ignore(struct corpus *c)
{
    corpus_text(
        c,
        "*.tmp\n!keep.tmp\n/build/\n**/cache/**\na/**/b\n[a-z]*[!0-9]\n\\#x\nend \\ \n# comment\n[[:alpha:]]\n");
}

static bool parse_ignore(const char *bytes, size_t n)
{
    static const char *const paths[] = { "a",       "a/b",      "a/x/y/b", "build",   "x/build",
                                         "cache/f", "keep.tmp", "#x",      "\xc3\xa9" };
    struct ty_ignore *g = ty_ignore_new();

    assert(ty_ignore_add(g, "", bytes, n) == 0 && ty_ignore_add(g, "a", bytes, n) == 0);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        assert(ty_ignore_match(g, paths[i], i % 2) == ty_ignore_match(g, paths[i], i % 2));
    ty_ignore_free(g);
    return true;
}

/* ---- files ---- */

static const char *as_file(const char *bytes, size_t n)
{
    static const char path[] = "fuzz-file";

    assert(ty_write_file(path, bytes, n, 0600) == 0);
    return path;
}

static void seed_statcache(struct corpus *c)
{
    struct ty_statcache *s = ty_statcache_load(NULL);
    CLEANUP_FREE char *text = NULL;
    struct stat st = { .st_size = 4, .st_ino = 9, .st_mtim = { 1000, 5 }, .st_ctim = { 1000, 6 } };
    size_t n;

    ty_statcache_put(s, "a b\nc", &st, SHA);
    ty_statcache_put(s, "d/e", &st, SHA);
    ty_statcache_save(s, "fuzz-cache");
    ty_statcache_free(s);
    assert(ty_read_file("fuzz-cache", 65536, &text, &n) == 0);
    corpus_add(c, text, n);
    unlink("fuzz-cache");
}

static bool parse_statcache(const char *bytes, size_t n)
{
    struct ty_statcache *s = ty_statcache_load(as_file(bytes, n));
    struct stat st = { .st_size = 4, .st_ino = 9, .st_mtim = { 1000, 5 }, .st_ctim = { 1000, 6 } };
    const char *sha = ty_statcache_get(s, "d/e", &st);
    bool found = sha != NULL;

    assert(!sha || strlen(sha) == 64);
    ty_statcache_free(s);
    unlink("fuzz-file");
    return found;
}

static void seed_job(struct corpus *c)
{
    corpus_text(
        c,
        "{\"version\": 1, \"run\": \"r_1_2\", \"token\": \"t\", \"attempt\": 1, \"user\": \"u\", \"user_home\": \"/h\", "
        "\"home\": \"/h\", \"blobs\": \"/h/blobs\", \"socket\": \"/h/runner.sock\", \"workspace\": \"w\", "
        "\"manifest\": \"/h/m\", \"data_dirs\": [], \"cancel_grace_seconds\": 10, \"log_bytes_max\": 0, "
        "\"artifact_files_max\": 0, \"artifact_bytes_max\": 0, \"warnings\": [\"w\"], \"spec\": {\"version\": 1, "
        "\"experiment\": \"first\", \"target\": \"local\", \"command\": [\"/bin/true\"]}}");
}

static bool parse_job(const char *bytes, size_t n)
{
    struct ty_jobfile *j = NULL;
    struct ty_error err = { 0 };
    int r;

    ty_mkdir_p("fuzz-job", 0700);
    assert(ty_write_file("fuzz-job/job.json", bytes, n, 0600) == 0);
    r = ty_jobfile_read("fuzz-job", &j, &err);
    if (r < 0)
        check_refusal(r, &err);
    ty_jobfile_free(j);
    ty_rm_rf("fuzz-job");
    return r == 0;
}

static void seed_records(struct corpus *c)
{
    corpus_text(
        c,
        "1 {\"kind\":\"started\",\"pid\":3,\"at_us\":1}\n2 {\"kind\":\"exited\",\"exit_code\":0,\"at_us\":2}\n3 {\"kind\":\"collected\",\"at_us\":3}\n");
}

static bool parse_records(const char *bytes, size_t n)
{
    const char *path = as_file(bytes, n), *json;
    struct ty_records *r = NULL;
    struct ty_error err = { 0 };
    uint64_t seq, before = 0;
    size_t len;

    ty_records_each(path, NULL, NULL);
    if (ty_records_open(path, NULL, NULL, &r, &err) == 0) {
        ty_records_synced(r, ty_records_mark(r));
        for (; ty_records_peek(r, &seq, &json, &len) == 0; ty_records_skip(r)) {
            assert(seq == before + 1);
            before = seq;
        }
    }
    ty_records_free(r);
    unlink(path);
    return before > 0;
}

/* The rows that a script wrote, and may have written over. */
static void seed_spool(struct corpus *c)
{
    struct ty_spool_writer *w = NULL;
    struct ty_error err = { 0 };
    struct ty_row row = { TY_ROW_TEXT, 0, 3, "text", 4, "hello", 5 };
    CLEANUP_FREE char *bytes = calloc(1, FUZZ_INPUT_MAX);
    int fd;

    ty_mkdir_p("fuzz-spool", 0700);
    assert(ty_spool_create("fuzz-spool", &w, &err) == 0);
    for (int i = 0; i < 20; i++)
        assert(ty_spool_write(w, &row) == 0);
    ty_spool_writer_free(w);
    fd = open("fuzz-spool/rows-0.spool", O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && read(fd, bytes, 8192) == 8192);
    close(fd);
    corpus_add(c, bytes, 8192);
    ty_rm_rf("fuzz-spool");
}

static bool parse_spool(const char *bytes, size_t n)
{
    static char buf[TY_SPOOL_ROW_MAX];
    struct ty_spool_reader *r = NULL;
    struct ty_error err = { 0 };
    uint64_t first;
    uint32_t count;
    bool some = false;

    if (ty_spool_reader_open(as_file(bytes, n), &r, &err) == 0)
        for (int i = 0; i < 64; i++) {
            ptrdiff_t got = ty_spool_read(r, buf, sizeof buf, &first, &count);

            if (got <= 0)
                break;
            assert(parse_row(buf, (size_t)got));
            some = true;
            ty_spool_ack(r, first + count);
        }
    ty_spool_reader_free(r);
    unlink("fuzz-file");
    return some;
}

static void seed_conf(struct corpus *c)
{
    corpus_text(
        c,
        "# mine\n[limits]\nsnapshot_bytes = 1GB\nqueued_runs = 5\n[run]\ncancel_grace_seconds = 90m\n[cli]\ncolor = never\n");
}

static bool parse_conf(const char *bytes, size_t n)
{
    struct ty_conf *conf = NULL;
    struct ty_error err = { 0 };
    int r;

    ty_mkdir_p("fuzz-conf/.trainyard", 0700);
    assert(ty_write_file("fuzz-conf/.trainyard/config", bytes, n, 0600) == 0);
    r = ty_conf_load("fuzz-conf", &conf, &err);
    if (r < 0)
        check_refusal(r, &err);
    ty_conf_free(conf);
    ty_rm_rf("fuzz-conf");
    return r == 0;
}

static void seed_words(struct corpus *c)
{
    corpus_text(c, "300MB");
    corpus_text(c, "1.5GiB");
    corpus_text(c, "-9223372036854775808");
    corpus_text(c, "a%20b%C3%A9");
}

static bool parse_words(const char *bytes, size_t n)
{
    CLEANUP_FREE char *copy = strndup(bytes, n);
    uint64_t u;
    int64_t i;

    if (!copy)
        return false;
    ty_parse_bytes(copy, &u);
    ty_parse_i64(copy, &i);
    assert(ty_utf8_whole(bytes, n) <= n);
    if (is_text(bytes, n) && ty_url_decode(copy) == 0)
        assert(strlen(copy) <= n);
    return true;
}

bool fuzz_patient;

/* ---- lanes between ranks ---- */

static void seed_lane(struct corpus *c)
{
    struct ty_lane_hello h = {
        .from = 1, .to = 0, .size = 2, .lane = TY_NET_LANES, .nonce = { 1 }
    };
    unsigned char hello[TY_LANE_HELLO_BYTES], stream[3 * TY_LANE_FRAME_BYTES + 5];

    ty_lane_hello_encode(&h, hello);
    corpus_add(c, hello, sizeof hello);
    ty_lane_frame_encode(7, 5, stream);
    memcpy(stream + TY_LANE_FRAME_BYTES, "hello", 5);
    ty_lane_frame_encode(0, 0, stream + TY_LANE_FRAME_BYTES + 5);
    ty_lane_frame_encode(TY_LANE_GOODBYE, 0, stream + 2 * TY_LANE_FRAME_BYTES + 5);
    corpus_add(c, stream, sizeof stream);
}

/* As a hello, and as what follows on a lane for small messages. */
static bool parse_lane(const char *text, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char again[TY_LANE_HELLO_BYTES];
    struct ty_lane_hello h;
    struct ty_lane_small m;
    bool good = false;
    ptrdiff_t used;

    if (n >= TY_LANE_HELLO_BYTES && ty_lane_hello_decode(bytes, &h) == 0) {
        ty_lane_hello_encode(&h, again);
        assert(memcmp(again, bytes, sizeof again) == 0);
        assert(h.from < h.size && h.to < h.size && h.from != h.to && h.lane <= TY_NET_LANES);
        good = true;
    }
    for (size_t at = 0; (used = ty_lane_small_decode(bytes + at, n - at, &m)) > 0;
         at += (size_t)used) {
        assert((size_t)used <= n - at && m.len <= TY_NET_SMALL_BYTES);
        assert(m.bytes + m.len == bytes + at + used);
        assert(m.tag <= TY_NET_TAG_MAX || (m.tag == TY_LANE_GOODBYE && m.len == 0));
    }
    assert(used == -EAGAIN || used == -EBADMSG);
    return good || used == -EAGAIN;
}

static void seed_addresses(struct corpus *c)
{
    corpus_text(c, "10.0.0.1:4711 [2001:db8::1]:4711 127.0.0.1:65535");
}

static bool parse_addresses(const char *bytes, size_t n)
{
    union ty_address a[TY_NET_ADDRESSES];
    int k;

    (void)n; /* a text up to its NUL */
    k = ty_addresses_parse(bytes, a, TY_NET_ADDRESSES);
    assert(k == -EINVAL || (k > 0 && k <= TY_NET_ADDRESSES));
    for (int i = 0; i < k; i++)
        assert(a[i].any.sa_family == AF_INET || a[i].any.sa_family == AF_INET6);
    return k > 0;
}

/* ---- what ranks want ---- */

static void seed_wanted(struct corpus *c)
{
    static const int64_t dims[] = { 2, 3 };
    struct ty_coll_buf b[2] = { { .count = 6, .ndims = 2, .dims = dims, .data = c },
                                { .count = 1, .data = c } };
    static const struct ty_coll_call join = { .kind = TY_COLL_JOIN };
    struct ty_coll_call call = { .dtype = TY_COLL_F32, .in = b, .out = b, .nbufs = 2 };
    static const char *const names[] = { "layer.weight", NULL, "x", NULL };
    struct ty_req r[4];

    for (int i = 0; i < 4; i++) {
        void *bytes;
        size_t n;

        call.kind = i == 2 ? TY_COLL_BARRIER : TY_COLL_ALLREDUCE;
        call.name = names[i];
        assert(ty_req_init(&r[i], i == 3 ? &join : &call, 2, NULL, NULL, NULL) == 0);
        if (i)
            r[i - 1].next = &r[i];
        assert(ty_list_write(r, 1000, &bytes, &n) == 0);
        corpus_add(c, bytes, n);
        free(bytes);
    }
    for (int i = 0; i < 4; i++)
        ty_req_done(&r[i]);
}

/* As the list of two ranks, and beside one who wants nothing. */
static bool parse_wanted(const char *bytes, size_t n)
{
    static const int world[] = { 0, 1 };
    struct ty_list both[2], l;
    struct ty_decisions d;
    int r = ty_list_read(bytes, n, &l);

    if (r < 0) {
        assert(r == -EPROTO);
        return false;
    }
    both[0] = both[1] = l;
    assert(ty_lists_decide(both, 2, world, &d) == 0 && d.n + d.waiting <= l.n);
    ty_decisions_done(&d);
    memset(&both[1], 0, sizeof both[1]);
    assert(ty_lists_decide(both, 2, world, &d) == 0 && (l.joined || d.n == 0));
    ty_decisions_done(&d);
    ty_list_done(&l);
    return true;
}

/* ---- the rendezvous of ranks ---- */

static void seed_rendezvous(struct corpus *c)
{
    static const unsigned char ranks[] = { 2, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0 };
    static const struct ty_rdv_message good[] = {
        { .type = TY_RDV_JOIN, .a = 1, .b = 2 },
        { .type = TY_RDV_PUT, .key = "address", .value = "10.0.0.1", .value_len = 8 },
        { .type = TY_RDV_FENCE, .a = 30000 },
        { .type = TY_RDV_JOINED, .a = 1 },
        { .type = TY_RDV_REFUSED, .a = TY_RDV_SIZE, .value = "no", .value_len = 2 },
        { .type = TY_RDV_VALUE, .a = 1, .key = "key" },
        { .type = TY_RDV_FENCED },
        { .type = TY_RDV_MISSING, .a = 2, .b = 1, .value = ranks, .value_len = sizeof ranks },
        { .type = TY_RDV_GONE, .a = 1 },
    };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CLEANUP_STR struct ty_str s = { 0 };

        ty_rdv_encode(&good[i], &s);
        corpus_add(c, s.text, s.len);
    }
}

/* As a hello, and as a frame, from one who does not know the secret: never accepted. */
static void parse_stranger(const char *bytes, size_t n)
{
    unsigned char answer[TY_RDV_HELLO_BYTES], *copy = malloc(n + 1);
    struct ty_rdv_keys keys = { 0 };
    struct ty_rdv_message m;
    struct ty_rdv_side side;

    assert(copy && ty_rdv_side_init(&side, "secret") == 0);
    memcpy(copy, bytes, n);
    ty_rdv_hello_begins(copy, n);
    if (n >= TY_RDV_HELLO_BYTES)
        assert(ty_rdv_accept(&side, copy, answer, &keys) == -EACCES);
    if (n >= TY_RDV_GREETING_BYTES + TY_RDV_PROOF_BYTES && ty_rdv_hello(&side, copy, answer) == 0)
        assert(ty_rdv_confirm(&side, copy, copy + TY_RDV_GREETING_BYTES, &keys) == -EACCES);
    assert(ty_rdv_open(&keys, copy, n, &m) <= 0);
    free(copy);
}

static bool parse_rendezvous(const char *bytes, size_t n)
{
    CLEANUP_STR struct ty_str again = { 0 };
    struct ty_rdv_message m;
    int r = ty_rdv_decode(bytes, n, &m);

    parse_stranger(bytes, n);
    if (r < 0) {
        assert(r == -EPROTO);
        return false;
    }
    ty_rdv_encode(&m, &again);
    assert(again.len == n && memcmp(again.text, bytes, n) == 0);
    return true;
}

/* ---- what the commands of Slurm print ---- */

static void seed_slurm(struct corpus *c)
{
    corpus_text(c, "12|PENDING|Resources|4||N/A|trainyard:abc|d");
    corpus_text(c, "13|RUNNING|None|2|n[1-2]|1-02:03:04|(null)");
    corpus_text(c, "main|up|4|4+|4000+|gpu:2|infinite|idle");
    corpus_text(c, "n[08-11,13],m01");
    corpus_text(c, "123;cluster\n");
    corpus_text(c, "JobId=1 JobState=TIMEOUT ExitCode=0:15");
}

static bool parse_slurm(const char *bytes, size_t n)
{
    CLEANUP_FREE char *a = strndup(bytes, n), *b = strndup(bytes, n);
    struct ty_slurm_job job;
    struct ty_slurm_partition part;
    char **names = NULL, buf[32];
    uint32_t number = 0;
    bool good = ty_slurm_job_number(bytes, &number) == 0;

    assert(a && b && (!good || number > 0));
    if (ty_slurm_queue_line(a, &job) == 0) {
        assert(job.number > 0 && job.nodes >= 0 && job.word && job.reason && job.comment);
        good = true;
    }
    if (ty_slurm_partition_line(b, &part) == 0) {
        assert(*part.name && part.nodes >= 0 && part.cpus >= 0 && part.memory_mb >= 0);
        good = true;
    }
    if (ty_slurm_value(bytes, "JobState", buf, sizeof buf)) {
        assert(strlen(buf) < sizeof buf && !strchr(buf, ' '));
        good = true;
    }
    assert(strlen(ty_slurm_sentence(bytes, buf, sizeof buf)) < sizeof buf);
    if (ty_slurm_node_names(bytes, &names) == 0) {
        assert(names[0] && *names[0]);
        ty_strv_free(names);
        good = true;
    }
    return good;
}

const struct parser parsers[] = {
    { "frame", seed_frame, parse_frame },
    { "pmix", seed_pmix, parse_pmix },
    { "row", seed_row, parse_row },
    { "run_spec", seed_run_spec, parse_run_spec },
    { "target_spec", seed_target_spec, parse_target_spec },
    { "datastore", seed_datastore, parse_datastore },
    { "objects", seed_objects, parse_objects },
    { "listing", seed_listing, parse_listing },
    { "events", seed_events, parse_events },
    { "route", seed_route, parse_route },
    { "http_reply", seed_http, parse_http },
    { "sse", seed_sse, parse_sse },
    { "manifest", seed_manifest, parse_manifest },
    { "ignore", seed_ignore, parse_ignore },
    { "statcache", seed_statcache, parse_statcache },
    { "job", seed_job, parse_job },
    { "records", seed_records, parse_records },
    { "spool", seed_spool, parse_spool },
    { "conf", seed_conf, parse_conf },
    { "words", seed_words, parse_words },
    { "lane", seed_lane, parse_lane },
    { "wanted", seed_wanted, parse_wanted },
    { "addresses", seed_addresses, parse_addresses },
    { "request", seed_request, parse_request },
    { "rendezvous", seed_rendezvous, parse_rendezvous },
    { "slurm", seed_slurm, parse_slurm },
    { "link", seed_link, parse_link },
    { "node", seed_node, parse_node },
    { "channel", seed_channel, parse_channel },
    { "far", seed_far, parse_far },
    { "greeting", seed_greeting, parse_greeting },
    { 0 },
};

const struct parser *parser_find(const char *name)
{
    for (const struct parser *p = parsers; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}
