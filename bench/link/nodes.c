/* nodes.c - what a leader pays for its nodes: nodes [COUNT [SECONDS]]
 *
 * One process leads (the code of the runner), another is COUNT node agents (their streams, without jobs) on loopback: they come,
 * say that they are ready, and then only that they are there, every two seconds.  Prints the seconds until all were ready, and
 * the share of a core that leading them costs afterwards.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/str.h"
#include "runner/lead.h"
#include "runner/stream.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMING_US (120 * 1000 * 1000)

static char *const here[] = { (char *)"127.0.0.1", NULL };

static void die(const char *what)
{
    fprintf(stderr, "nodes: %s: %m\n", what);
    exit(1);
}

/* --- the agents --- */

struct agent {
    struct ty_stream *stream;
    bool welcomed;
};

static struct ty_stream *stream_of(int node, int port, const unsigned char key[TY_LINK_KEY])
{
    char hello[256];
    struct ty_call *call = NULL;

    snprintf(hello, sizeof hello,
             "{\"protocol\": 1, \"run\": \"bench\", \"attempt\": 1, \"node\": %d, \"boot\": \"b\", "
             "\"pid\": %d, \"start\": 1}",
             node, node);
    if (ty_call_new(here, port, key, &call) < 0)
        die("no memory for an agent");
    return ty_stream_new_call(call, hello);
}

static void agent_turn(struct agent *a, int64_t now)
{
    static const char ready[] = "{\"kind\": \"ready\", \"at_us\": 1}";
    struct ty_frame in, record = {
        .type = TY_FRAME_RECORD, .seq = 1, .body = ready, .body_len = sizeof ready - 1
    };

    ty_stream_turn(a->stream, now);
    while (ty_stream_next(a->stream, &in) == 0)
        if (in.type == TY_FRAME_WELCOME && !a->welcomed) {
            a->welcomed = true;
            ty_stream_send(a->stream, &record);
        }
    ty_stream_flush(a->stream, now);
}

static void agents(int n, int port, const unsigned char key[TY_LINK_KEY])
{
    struct agent *a = calloc((size_t)n, sizeof *a);
    struct pollfd *p = calloc((size_t)n, sizeof *p);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!a || !p)
        die("no memory");
    for (int i = 0; i < n; i++)
        if (!(a[i].stream = stream_of(i + 1, port, key)))
            die("no memory");
    for (;;) {
        int64_t now = ty_mono_us(), next = now + 1000 * 1000;

        for (int i = 0; i < n; i++) {
            if (p[i].revents || ty_stream_due(a[i].stream) <= now)
                agent_turn(&a[i], now);
            p[i].fd = ty_stream_fd(a[i].stream, &p[i].events);
            if (ty_stream_due(a[i].stream) < next)
                next = ty_stream_due(a[i].stream);
        }
        poll(p, (nfds_t)n, next > now ? (int)((next - now) / 1000) + 1 : 0);
    }
}

/* --- the leader --- */

static void on_state(void *ctx, int node, enum ty_node_state s)
{
    (void)ctx;
    if (s == TY_NODE_LOST) {
        fprintf(stderr, "nodes: node %d is lost\n", node);
        exit(1);
    }
}
static void on_silent(void *ctx, int node, bool silent)
{
    (void)ctx, (void)node, (void)silent;
}
static void on_told(void *ctx, int node, const json_t *record)
{
    (void)ctx, (void)node, (void)record;
}

static const struct ty_lead_hooks hooks = { .state = on_state,
                                            .silent = on_silent,
                                            .told = on_told };

static void lead_until(struct ty_lead *l, int64_t until_us, int ready)
{
    for (int64_t now; (now = ty_mono_us()) < until_us && ty_lead_count(l, TY_NODE_READY) < ready;) {
        struct pollfd p = { .fd = ty_lead_fd(l), .events = POLLIN };
        int64_t due = ty_lead_due(l) < until_us ? ty_lead_due(l) : until_us;

        poll(&p, 1, due > now ? (int)((due - now) / 1000) + 1 : 0);
        ty_lead_turn(l, ty_mono_us());
    }
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void make_job(struct ty_jobfile *j, int n, const char *dir, const char *hex)
{
    *j = (struct ty_jobfile){ .dir = strdup(dir),
                              .run = "bench",
                              .attempt = 1,
                              .blobs = ty_path_join(dir, "blobs"),
                              .nodes = calloc((size_t)n + 1, sizeof *j->nodes),
                              .nnodes = n + 1,
                              .size = n + 1,
                              .leads = true,
                              .own_nodes = 1 };
    j->json = json_pack("{s:{s:s}}", "link", "key", hex);
    if (!j->dir || !j->blobs || !j->nodes || !j->json)
        die("no memory");
    for (int i = 0; i <= n; i++)
        j->nodes[i] = (struct ty_job_node){ .name = "node", .ranks = 1, .first = i };
}

int main(int argc, char **argv)
{
    int64_t count = 1000, seconds = 10, begin;
    char dir[] = "/tmp/ty-nodes-XXXXXX", hex[2 * TY_LINK_KEY + 1];
    unsigned char key[TY_LINK_KEY];
    struct rlimit files;
    struct ty_jobfile job;
    struct ty_lead *l = NULL;
    struct ty_error err = { 0 };
    double cpu, coming;
    pid_t pid;

    if ((argc > 1 && ty_parse_i64(argv[1], &count) < 0) ||
        (argc > 2 && ty_parse_i64(argv[2], &seconds) < 0) || count < 1 || count > 100000) {
        fputs("usage: nodes [COUNT [SECONDS]]\n", stderr);
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (!mkdtemp(dir) || ty_link_key_make(hex) < 0 || ty_link_key_parse(hex, key) < 0)
        die("cannot begin");
    make_job(&job, (int)count, dir, hex);
    if (ty_lead_open(&job, 60 * 1000 * 1000, &hooks, NULL, ty_mono_us(), &l, &err) < 0) {
        fprintf(stderr, "nodes: %s\n", err.text);
        return 1;
    }
    begin = ty_mono_us();
    pid = fork();
    if (pid == 0)
        agents((int)count, ty_lead_port(l), key);
    lead_until(l, begin + COMING_US, (int)count);
    coming = (double)(ty_mono_us() - begin) / 1e6;
    if (ty_lead_count(l, TY_NODE_READY) < count) {
        fprintf(stderr, "nodes: only %d of %d nodes came within 120 s\n",
                ty_lead_count(l, TY_NODE_READY), (int)count);
        return 1;
    }
    cpu = cpu_seconds();
    lead_until(l, ty_mono_us() + seconds * 1000 * 1000, (int)count + 1);
    cpu = cpu_seconds() - cpu;
    printf("{\"nodes\": %d, \"ready_s\": %.3f, \"cpu_percent\": %.2f}\n", (int)count, coming,
           100 * cpu / (double)seconds);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ty_lead_free(l);
    json_decref(job.json);
    free(job.nodes);
    free(job.dir);
    free((char *)job.blobs);
    ty_rm_rf(dir);
    return 0;
}
