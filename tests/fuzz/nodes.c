/* nodes.c - what other boxes send: bytes of a stranger to a link, and frames of a node to the runner that leads it */
#include "base/fs.h"
#include "base/link.h"
#include "fuzz.h"
#include "runner/lead_internal.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHA "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

/* ---- a stranger ---- */

void seed_link(struct corpus *c)
{
    static const unsigned char key[TY_LINK_KEY] = { 1 };
    char greeting[40];
    int fd[2];
    struct ty_link *l;

    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
    l = ty_link_new(fd[0], true, key, 0);
    assert(l && ty_link_turn(l, 1) == 0 &&
           read(fd[1], greeting, sizeof greeting) == sizeof greeting);
    corpus_add(c, greeting, sizeof greeting);
    ty_link_free(l);
    close(fd[1]);
}

/* To a side that was called, and to one that has called: nobody without the key gets past the proof. */
bool parse_link(const char *bytes, size_t n)
{
    static const unsigned char key[TY_LINK_KEY] = { 2 };
    bool waits = false;

    for (int called = 0; called < 2; called++) {
        struct ty_link *l;
        char buf[64];
        int fd[2], r;

        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
        l = ty_link_new(fd[0], called, key, 0);
        assert(l && (n == 0 || write(fd[1], bytes, n) == (ssize_t)n));
        r = ty_link_turn(l, 1);
        assert(!ty_link_ready(l) && ty_link_recv(l, buf, sizeof buf) < 0);
        waits |= r == 0;
        ty_link_free(l);
        close(fd[1]);
    }
    return waits;
}

/* ---- a node ---- */

static int null_fd = -1;

static void on_state(void *ctx, int node, enum ty_node_state s)
{
    (void)ctx;
    assert(node == 1 && s > TY_NODE_WAITING && s < TY_NODE_LOST);
}
static void on_silent(void *ctx, int node, bool silent)
{
    (void)ctx, (void)node, (void)silent;
}
static void on_told(void *ctx, int node, const json_t *o)
{
    (void)ctx, (void)node;
    assert(json_is_object(o));
}
static void on_artifact(void *ctx, int node, const char *path, const char *sha, uint64_t bytes)
{
    (void)ctx, (void)node, (void)bytes;
    assert(ty_path_is_inside(path) && ty_fetch_is_sha(sha, strlen(sha)));
}
static void on_warning(void *ctx, const char *text)
{
    (void)ctx;
    assert(*text);
}
static void on_line(void *ctx, int node, const char *text, size_t n)
{
    (void)ctx, (void)node;
    assert(!memchr(text, '\n', n));
}
static int on_log_fd(void *ctx, int rank)
{
    (void)ctx;
    assert(rank == 1);
    return null_fd;
}
static void on_fence(void *ctx, int node, const struct ty_frame *f)
{
    (void)ctx, (void)node, (void)f;
}

static const struct ty_lead_hooks hooks = { on_state,   on_silent, on_told,   on_artifact,
                                            on_warning, on_line,   on_log_fd, on_fence };

void seed_node(struct corpus *c)
{
    static const char *const records[] = {
        "{\"kind\": \"ready\"}",
        "{\"kind\": \"rank_ended\", \"rank\": 1, \"status\": 0}",
        "{\"kind\": \"artifact\", \"path\": \"outputs/a\", \"sha256\": \"" SHA "\", \"bytes\": 4}",
    };
    struct ty_frame frames[] = {
        { .type = TY_FRAME_PING },
        { .type = TY_FRAME_LOG,
          .name = "azureml-logs/70_driver_log_1.txt",
          .name_len = 32,
          .body = "x\n",
          .body_len = 2 },
        { .type = TY_FRAME_LOG,
          .name = "azureml-logs/60_control_log.txt",
          .name_len = 31,
          .body = "a\nb",
          .body_len = 3 },
        { .type = TY_FRAME_RECORD, .seq = 1 },
        { .type = TY_FRAME_RECORD, .seq = 2 },
        { .type = TY_FRAME_RECORD, .seq = 3 },
        { .type = TY_FRAME_BLOB, .name = SHA, .name_len = 64, .body = "test", .body_len = 4 },
        { .type = TY_FRAME_WANT, .name = SHA, .name_len = 64 },
        { .type = TY_FRAME_FENCE,
          .count = 2,
          .name = "*/1",
          .name_len = 3,
          .body = "x",
          .body_len = 1 },
    };
    CLEANUP_STR struct ty_str all = { 0 };

    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        CLEANUP_STR struct ty_str one = { 0 };

        if (frames[i].type == TY_FRAME_RECORD) {
            frames[i].body = records[frames[i].seq - 1];
            frames[i].body_len = strlen(frames[i].body);
        }
        assert(ty_frame_encode(&frames[i], &one) == 0 && ty_frame_encode(&frames[i], &all) == 0);
        if (frames[i].type != TY_FRAME_RECORD || frames[i].seq == 1)
            corpus_add(c, one.text, one.len);
    }
    corpus_add(c, all.text, all.len);
}

bool parse_node(const char *bytes, size_t n)
{
    struct ty_job_node nodes[2] = { { .name = "a", .ranks = 1 },
                                    { .name = "b", .ranks = 1, .first = 1 } };
    struct ty_jobfile job = { .run = "r",
                              .nodes = nodes,
                              .nnodes = 2,
                              .size = 2,
                              .own_nodes = 1,
                              .leads = true,
                              .spool = (char *)"fuzz-node/spool",
                              .blobs = "fuzz-node/blobs",
                              .artifact_files_max = 10,
                              .artifact_bytes_max = 1000 };
    struct ty_lead l = { .job = &job,
                         .hooks = &hooks,
                         .epoll = -1,
                         .syncer = TY_CHILD_INIT,
                         .first = 1,
                         .n = 1,
                         .take = true };
    struct ty_node node = { .lead = &l, .index = 1, .record_next = 1 };
    struct ty_frame f;
    ptrdiff_t used;
    int r = 0;

    null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert(ty_mkdir_p(job.spool, 0700) == 0 && ty_blobs_open(job.blobs, &l.blobs, NULL) == 0);
    l.files = json_object();
    l.node = &node;
    l.count[TY_NODE_WAITING] = 1;
    node.logged = calloc(1, sizeof *node.logged);
    node.fetch = ty_fetch_new(l.blobs);
    for (size_t at = 0; r == 0 && (used = ty_frame_decode(bytes + at, n - at, &f)) > 0;
         at += (size_t)used)
        r = ty_lead_take(&node, &f);
    json_decref(ty_lead_taken(&node));
    ty_lead_take_free(&node);
    json_decref(l.files);
    ty_blobs_free(l.blobs);
    close(null_fd);
    ty_rm_rf("fuzz-node");
    return r == 0;
}
