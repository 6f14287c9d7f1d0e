/* test_lead.c - the leader's side of its nodes; the clock is the test's */
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/str.h"
#include "blob/blob.h"
#include "core/row.h"
#include "runner/lead_internal.h"
#include "runner/logs.h"
#include "runner/spool.h"
#include "runner/stream.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND (1000 * 1000)
#define LOST_US (60ll * SECOND)
#define NODES 3 /* led; the first node is not among them */

struct box {
    char dir[64];
    struct ty_jobfile job;
    struct ty_job_node node[NODES + 1];
    unsigned char key[TY_LINK_KEY];
    struct ty_lead *lead;
    struct ty_stream *agent; /* of node 1, mostly */
    int64_t now;
    int log;
    struct ty_str told, lines, files; /* words of the hooks, separated by blanks */
};

static void on_state(void *ctx, int node, enum ty_node_state s)
{
    ty_str_addf(&((struct box *)ctx)->told, "%d:%s ", node, ty_node_state_word(s));
}
static void on_silent(void *ctx, int node, bool silent)
{
    ty_str_addf(&((struct box *)ctx)->told, "%d:%s ", node, silent ? "silent" : "heard");
}
static void on_told(void *ctx, int node, const json_t *o)
{
    ty_str_addf(&((struct box *)ctx)->told, "%d=%s ", node,
                json_string_value(json_object_get(o, "kind")));
}
static void on_artifact(void *ctx, int node, const char *path, const char *sha, uint64_t bytes)
{
    (void)sha;
    ty_str_addf(&((struct box *)ctx)->files, "%d:%s:%d ", node, path, (int)bytes);
}
static void on_warning(void *ctx, const char *text)
{
    ty_str_addf(&((struct box *)ctx)->files, "(%s) ", text);
}
static void on_line(void *ctx, int node, const char *text, size_t n)
{
    ty_str_addf(&((struct box *)ctx)->lines, "%d|%.*s ", node, (int)n, text);
}
static int on_log_fd(void *ctx, int rank)
{
    assert_true((rank >= 1 && rank <= NODES) || rank == TY_LOG_BUILD(1));
    return ((struct box *)ctx)->log;
}
static void on_fence(void *ctx, int node, const struct ty_frame *f)
{
    ty_str_addf(&((struct box *)ctx)->told, "%d/%.*s ", node, (int)f->name_len, f->name);
}

static const struct ty_lead_hooks hooks = { on_state,   on_silent, on_told,   on_artifact,
                                            on_warning, on_line,   on_log_fd, on_fence };

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    CLEANUP_FREE char *log = NULL;
    char hex[2 * TY_LINK_KEY + 1];
    struct ty_error err = { 0 };

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-lead-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(ty_link_key_make(hex), 0);
    assert_int_equal(ty_link_key_parse(hex, b->key), 0);
    for (int i = 0; i <= NODES; i++)
        b->node[i] = (struct ty_job_node){ .name = "n", .ranks = 1, .first = i };
    b->job = (struct ty_jobfile){ .dir = b->dir,
                                  .run = "r",
                                  .attempt = 1,
                                  .blobs = ty_path_join(b->dir, "blobs"),
                                  .spool = ty_path_join(b->dir, "spool"),
                                  .nodes = b->node,
                                  .nnodes = NODES + 1,
                                  .size = NODES + 1,
                                  .leads = true,
                                  .own_nodes = 1,
                                  .artifact_files_max = 4,
                                  .artifact_bytes_max = 1000,
                                  .json = json_pack("{s:{s:s}}", "link", "key", hex) };
    assert_int_equal(ty_mkdir_p(b->job.spool, 0700), 0);
    log = ty_path_join(b->dir, "log");
    b->log = open(log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    b->now = SECOND;
    if (ty_lead_open(&b->job, LOST_US, &hooks, b, b->now, &b->lead, &err) < 0)
        fail_msg("%s", err.text);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_stream_free(b->agent);
    ty_lead_free(b->lead);
    ty_str_done(&b->told);
    ty_str_done(&b->lines);
    ty_str_done(&b->files);
    json_decref(b->job.json);
    free((char *)b->job.blobs);
    free(b->job.spool);
    close(b->log);
    ty_rm_rf(b->dir);
    free(b);
    return 0;
}

static const char *text(const struct ty_str *s)
{
    return s->text ? s->text : "";
}

static struct ty_stream *call(struct box *b, const char *hello)
{
    static char *const to[] = { (char *)"127.0.0.1", NULL };
    struct ty_call *c = NULL;

    assert_int_equal(ty_call_new(to, ty_lead_port(b->lead), b->key, &c), 0);
    return ty_stream_new_call(c, hello);
}

static void reap(struct box *b)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        ty_lead_reaped(b->lead, pid, status);
}

static void turn(struct box *b)
{
    if (b->agent)
        ty_stream_turn(b->agent, b->now);
    ty_lead_turn(b->lead, b->now);
    if (b->agent)
        ty_stream_turn(b->agent, b->now);
    reap(b);
    poll(NULL, 0, 1);
    b->now += 1000;
}

/* The next frame for the agent that is no PONG. */
static enum ty_frame_type next(struct box *b, struct ty_frame *ret)
{
    for (int i = 0; i < 5000; i++) {
        if (ty_stream_next(b->agent, ret) == 0 && ret->type != TY_FRAME_PONG)
            return ret->type;
        turn(b);
    }
    fail_msg("no frame came; told: %s", text(&b->told));
    return TY_FRAME_PONG;
}

static void until(struct box *b, const struct ty_str *s, const char *has)
{
    for (int i = 0; i < 5000 && !strstr(text(s), has); i++)
        turn(b);
    if (!strstr(text(s), has))
        fail_msg("'%s' did not come: %s", has, text(s));
}

#define HELLO(node, pid) \
    "{\"protocol\": 1, \"run\": \"r\", \"attempt\": 1, \"node\": " #node \
    ", \"boot\": \"b\", \"pid\": " #pid ", \"start\": 1}"

static void come(struct box *b)
{
    struct ty_frame f;

    b->agent = call(b, HELLO(1, 7));
    assert_int_equal(next(b, &f), TY_FRAME_WELCOME);
}

static void say(struct box *b, struct ty_frame f)
{
    ty_stream_send(b->agent, &f);
    ty_stream_flush(b->agent, b->now);
}

static void record(struct box *b, uint64_t seq, const char *json)
{
    say(b, (struct ty_frame){
               .type = TY_FRAME_RECORD, .seq = seq, .body = json, .body_len = strlen(json) });
}

static void says_where(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *path = ty_path_join(b->dir, "link"), *line = NULL, *want = NULL;

    want = ty_strf("%d ", ty_lead_port(b->lead));
    assert_int_equal(ty_read_file(path, 4096, &line, NULL), 0);
    assert_true(ty_starts_with(line, want));
    assert_string_equal(ty_lead_address(b->lead), "");
    come(b);
    assert_string_equal(ty_lead_address(b->lead), "127.0.0.1");
}

static void states(void **state)
{
    struct box *b = *state;
    struct ty_frame f;

    come(b);
    record(b, 1, "{\"kind\": \"ready\"}");
    until(b, &b->told, "1:ready");
    assert_int_equal(next(b, &f), TY_FRAME_RECORD_ACK);
    assert_int_equal(f.seq, 2);
    assert_int_equal(ty_lead_count(b->lead, TY_NODE_READY), 1);
    assert_int_equal(ty_lead_count(b->lead, TY_NODE_WAITING), NODES - 1);
    ty_lead_go(b->lead, json_pack("{s:i}", "port", 1));
    assert_int_equal(next(b, &f), TY_FRAME_GO);
    record(b, 1, "{\"kind\": \"ready\"}"); /* again: it changes nothing */
    record(b, 2, "{\"kind\": \"rank_started\", \"rank\": 1}");
    record(b, 3, "{\"kind\": \"rank_ended\", \"rank\": 1}");
    until(b, &b->told, "1=rank_ended");
    ty_lead_end(b->lead, 1000);
    ty_lead_end(b->lead, 2000); /* longer: nothing new */
    ty_lead_end(b->lead, 0);
    while (next(b, &f) == TY_FRAME_RECORD_ACK)
        ;
    assert_int_equal(f.type, TY_FRAME_END);
    assert_int_equal(f.count, 1000);
    assert_int_equal(next(b, &f), TY_FRAME_END);
    assert_int_equal(f.count, 0);
    record(b, 4, "{\"kind\": \"collected\"}");
    until(b, &b->told, "1:done");
    assert_string_equal(
        text(&b->told),
        "1:preparing 1=ready 1:ready 1=rank_started 1:running 1=rank_ended 1:done ");
}

/* One that comes back is told what was said meanwhile, and what is there. */
static void comes_back(void **state)
{
    struct box *b = *state;
    CLEANUP_JSON json_t *o = NULL;
    struct ty_frame f;

    come(b);
    record(b, 1, "{\"kind\": \"ready\"}");
    say(b, (struct ty_frame){ .type = TY_FRAME_LOG,
                              .name = "azureml-logs/70_driver_log_1.txt",
                              .name_len = 32,
                              .body = "hello",
                              .body_len = 5 });
    say(b, (struct ty_frame){ .type = TY_FRAME_LOG,
                              .name = "azureml-logs/60_control_log.txt",
                              .name_len = 31,
                              .body = "one\ntw",
                              .body_len = 6 });
    say(b, (struct ty_frame){ .type = TY_FRAME_LOG,
                              .name = "azureml-logs/20_image_build_log_1.txt",
                              .name_len = 37,
                              .body = "pip",
                              .body_len = 3 });
    record(b, 2, "{\"kind\": \"environment\"}");
    until(b, &b->told, "1:preparing 1=ready 1:ready 1=environment ");
    until(b, &b->lines, "1|one ");
    ty_stream_free(b->agent);
    b->agent = NULL;
    turn(b);
    ty_lead_go(b->lead, json_pack("{s:i}", "port", 1));
    ty_lead_end(b->lead, 500);
    b->agent = call(b, HELLO(1, 7));
    assert_int_equal(next(b, &f), TY_FRAME_WELCOME);
    o = json_loadb(f.body, f.body_len, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(o, "record_next")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "logs"),
                                                        "azureml-logs/70_driver_log_1.txt")),
                     5);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "logs"),
                                                        "azureml-logs/60_control_log.txt")),
                     6);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "logs"),
                                                        "azureml-logs/20_image_build_log_1.txt")),
                     3);
    assert_int_equal(json_integer_value(json_object_get(o, "end_ms")), 500);
    assert_true(json_is_object(json_object_get(o, "go")));
    assert_int_equal(lseek(b->log, 0, SEEK_END), 8);
}

/* The disk takes three bytes and no more: when there is room again, no byte is there twice. */
static void full_disk(void **state)
{
    struct box *b = *state;
    struct rlimit was, little = { .rlim_cur = 3 };
    struct ty_frame f, log = { .type = TY_FRAME_LOG,
                               .name = "azureml-logs/70_driver_log_1.txt",
                               .name_len = 32,
                               .body = "hello",
                               .body_len = 5 };
    char got[16] = "";

    come(b);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    little.rlim_max = was.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    say(b, log);
    for (int i = 0; i < 5000 && ty_stream_connected(b->agent); i++)
        turn(b);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    b->agent = ty_stream_free(b->agent);
    come(b);
    say(b, log);
    assert_int_equal(next(b, &f), TY_FRAME_LOG_ACK);
    assert_int_equal(f.seq, 5);
    assert_int_equal(pread(b->log, got, sizeof got - 1, 0), 5);
    assert_string_equal(got, "hello");
}

/* The daemon takes no rows: what the node has to say besides is heard all the same. */
static void rows_without_a_daemon(void **state)
{
    static char value[TY_ROW_VALUE_MAX];
    struct box *b = *state;
    struct ty_row row = { .kind = TY_ROW_TEXT,
                          .step = TY_ROW_NO_STEP,
                          .name = "x",
                          .name_len = 1,
                          .value = value,
                          .value_len = sizeof value };
    size_t size = ty_row_size(&row), n = TY_SPOOL_UNACKED_MAX / size + 8;
    CLEANUP_FREE char *bytes = malloc(size), *path = ty_path_join(b->dir, "spool/rows-0.spool");
    struct ty_spool_reader *r = NULL;
    struct ty_error err = { 0 };
    struct ty_frame f;

    come(b);
    assert_int_equal(ty_row_encode(&row, bytes), 0);
    for (uint64_t seq = 0; seq < n; seq++) {
        say(b,
            (struct ty_frame){
                .type = TY_FRAME_ROWS, .seq = seq, .count = 1, .body = bytes, .body_len = size });
        while (!ty_stream_room(b->agent))
            turn(b);
    }
    record(b, 1, "{\"kind\": \"ready\"}");
    for (int i = 0; i < 5000 && !strstr(text(&b->told), "1:ready"); i++) {
        turn(b);
        b->now += 10 * 1000;
    }
    assert_non_null(strstr(text(&b->told), "1:ready"));
    while (next(b, &f) != TY_FRAME_ROWS_ACK || f.seq < n)
        ;
    if (ty_spool_reader_open(path, &r, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(ty_spool_reader_dropped(r) > 0 && ty_spool_reader_dropped(r) < n / 2);
    ty_spool_reader_free(r);
}

static void refuse(struct box *b, const char *hello)
{
    struct ty_frame f;

    ty_stream_free(b->agent);
    b->agent = call(b, hello);
    assert_int_equal(next(b, &f), TY_FRAME_REFUSED);
}

static void strangers(void **state)
{
    struct box *b = *state;
    struct ty_frame f;

    refuse(b, "{\"run\": \"other\", \"attempt\": 1, \"node\": 1}");
    refuse(b, "{\"run\": \"r\", \"attempt\": 2, \"node\": 1}");
    refuse(b, HELLO(0, 7)); /* the leader's own */
    refuse(b, HELLO(4, 7));
    refuse(b, HELLO(-1, 7));
    ty_stream_free(b->agent);
    come(b);
    refuse(b, HELLO(1, 8)); /* another agent of the same node */
    ty_stream_free(b->agent);
    b->agent = call(b, HELLO(1, 7));
    assert_int_equal(next(b, &f), TY_FRAME_WELCOME);
}

/* What no agent sends ends its connection, and nothing else. */
static void nonsense(void **state)
{
    static const struct ty_frame bad[] = {
        { .type = TY_FRAME_HELLO, .body = "{}", .body_len = 2 },
        { .type = TY_FRAME_RELEASE },
        { .type = TY_FRAME_RECORD, .seq = 9, .body = "{}", .body_len = 2 },
        { .type = TY_FRAME_RECORD, .seq = 1, .body = "{", .body_len = 1 },
        { .type = TY_FRAME_LOG, .name = "azureml-logs/70_driver_log_2.txt", .name_len = 32 },
        { .type = TY_FRAME_LOG, .name = "../../../etc/passwd", .name_len = 19 },
        { .type = TY_FRAME_LOG,
          .seq = 1,
          .name = "azureml-logs/70_driver_log_1.txt",
          .name_len = 32 },
        { .type = TY_FRAME_ROWS, .writer = 0, .seq = 1, .count = 1 },
        { .type = TY_FRAME_ROWS, .writer = UINT32_MAX, .count = 1 },
        { .type = TY_FRAME_ROWS, .count = 1, .body = "nothing", .body_len = 7 },
    };
    struct box *b = *state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        come(b);
        say(b, bad[i]);
        for (int k = 0; k < 5000 && ty_stream_connected(b->agent); k++)
            turn(b);
        assert_false(ty_stream_connected(b->agent));
        b->agent = ty_stream_free(b->agent);
    }
    come(b);
    assert_string_equal(text(&b->told), "1:preparing ");
}

static void lead_alone(struct box *b, int64_t us)
{
    b->now += us;
    ty_lead_turn(b->lead, b->now);
}

static void silence(void **state)
{
    struct box *b = *state;
    struct ty_frame f;

    come(b);
    assert_true(ty_lead_due(b->lead) <= b->now + TY_LEAD_SILENT_US);
    lead_alone(b, TY_LEAD_SILENT_US - 2 * SECOND);
    assert_null(strstr(text(&b->told), "silent"));
    lead_alone(b, 3 * SECOND);
    assert_non_null(strstr(text(&b->told), "1:silent"));
    assert_null(strstr(text(&b->told), "2:silent")); /* who has not come is not silent */
    until(b, &b->told, "1:heard");                   /* it says PING */
    lead_alone(b, LOST_US - 20 * SECOND);            /* those that have not come are lost first */
    lead_alone(b, 15 * SECOND);
    assert_non_null(strstr(text(&b->told), "2:lost 3:lost"));
    assert_false(ty_lead_came(b->lead, 2));
    assert_true(ty_lead_came(b->lead, 1));
    lead_alone(b, LOST_US);
    lead_alone(b, LOST_US);
    assert_non_null(strstr(text(&b->told), "1:lost"));
    assert_int_equal(ty_lead_due(b->lead), INT64_MAX);
    assert_int_equal(next(b, &f), TY_FRAME_REFUSED);
    refuse(b, HELLO(1, 7)); /* it is given up for good */
}

static void closed_by_the_other_side(void **state)
{
    struct box *b = *state;

    come(b);
    b->agent = ty_stream_free(b->agent);
    for (int i = 0; i < 20; i++)
        turn(b);
    lead_alone(b, TY_LEAD_CLOSED_US - SECOND);
    assert_null(strstr(text(&b->told), "lost"));
    lead_alone(b, SECOND);
    assert_non_null(strstr(text(&b->told), "1:lost"));
    assert_null(strstr(text(&b->told), "2:lost"));
}

static void artifact(struct box *b, uint64_t seq, const char *path, const char *content)
{
    char sha[TY_SHA256_HEX + 1];
    CLEANUP_FREE char *json = NULL;

    ty_sha256_hex(content, strlen(content), sha);
    json = ty_strf("{\"kind\": \"artifact\", \"path\": \"%s\", \"sha256\": \"%s\", \"bytes\": %zu}",
                   path, sha, strlen(content));
    record(b, seq, json);
}

static void blob(struct box *b, const char *content)
{
    char sha[TY_SHA256_HEX + 1];

    ty_sha256_hex(content, strlen(content), sha);
    say(b, (struct ty_frame){ .type = TY_FRAME_BLOB,
                              .name = sha,
                              .name_len = TY_SHA256_HEX,
                              .body = content,
                              .body_len = strlen(content) });
}

/* The content is asked for; files are told of in order, once the leader's own are there. */
static void files(void **state)
{
    struct box *b = *state;
    struct ty_frame f;
    char sha[TY_SHA256_HEX + 1];

    come(b);
    ty_sha256_hex("mine", 4, sha);
    ty_lead_own_artifact(b->lead, "outputs/x", sha, 4);
    artifact(b, 1, "outputs/x", "other");
    artifact(b, 2, "outputs/x", "mine");
    artifact(b, 3, "outputs/y", "why");
    artifact(b, 4, "../outputs/evil", "evil");
    record(b, 5, "{\"kind\": \"collected\"}");
    for (int i = 0; i < 3; i++) {
        static const char *const content[] = { "other", "mine", "why" };

        assert_int_equal(next(b, &f), TY_FRAME_WANT);
        for (int k = 0; k < 3; k++) {
            ty_sha256_hex(content[k], strlen(content[k]), sha);
            if (memcmp(sha, f.name, TY_SHA256_HEX) == 0)
                blob(b, content[k]);
        }
    }
    for (int i = 0; i < 100; i++)
        turn(b);
    assert_string_equal(text(&b->files), "");
    ty_lead_take_artifacts(b->lead);
    until(b, &b->told, "1:done");
    assert_non_null(strstr(text(&b->files), "1:outputs/node-1/x:5 "));
    assert_non_null(strstr(text(&b->files), ") 1:outputs/node-1/x:5 1:outputs/y:3 "));
    assert_null(strstr(text(&b->files), "evil"));
    ty_lead_release(b->lead);
    while (next(b, &f) != TY_FRAME_RELEASE)
        ;
}

/* The process that brings content to the disk may be killed with those of the job.  What has come while it was at work is not
 * forgotten with it. */
static void a_killed_sync(void **state)
{
    struct box *b = *state;
    struct ty_frame f;
    pid_t syncer;

    come(b);
    ty_lead_take_artifacts(b->lead);
    artifact(b, 1, "outputs/a", "one");
    artifact(b, 2, "outputs/b", "two");
    assert_int_equal(next(b, &f), TY_FRAME_WANT);
    assert_int_equal(next(b, &f), TY_FRAME_WANT);
    blob(b, "one");
    while (!b->lead->syncer.pid)
        turn(b);
    syncer = b->lead->syncer.pid;
    kill(syncer, SIGSTOP);
    blob(b, "two");
    for (int i = 0; i < 5000 && ty_fetch_left(b->lead->node[0].fetch) > 0; i++)
        turn(b);
    kill(syncer, SIGKILL);
    until(b, &b->files, "1:outputs/b:3 ");
    assert_string_equal(text(&b->files), "1:outputs/a:3 1:outputs/b:3 ");
}

static void fences(void **state)
{
    struct box *b = *state;
    struct ty_frame f,
        fence = { .type = TY_FRAME_FENCE,
                  .count = 2,
                  .name = "*/1",
                  .name_len = 3,
                  .body = "x",
                  .body_len = 1 },
        fenced = {
            .type = TY_FRAME_FENCED, .name = "*/1", .name_len = 3, .body = "yx", .body_len = 2
        };

    come(b);
    say(b, fence);
    until(b, &b->told, "1/*/1 ");
    b->agent = ty_stream_free(b->agent); /* it is away when the fence is complete */
    turn(b);
    ty_lead_fenced(b->lead, (const int[]){ 1 }, 1, &fenced);
    come(b);
    say(b, fence);
    assert_int_equal(next(b, &f), TY_FRAME_FENCED);
    assert_memory_equal(f.body, "yx", 2);
    assert_string_equal(text(&b->told), "1:preparing 1/*/1 ");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(says_where),
        T(states),
        T(comes_back),
        T(full_disk),
        T(rows_without_a_daemon),
        T(strangers),
        T(nonsense),
        T(silence),
        T(closed_by_the_other_side),
        T(files),
        T(a_killed_sync),
        T(fences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
