/* test_nodes.c - a job on two boxes: a runner and the agent of another node, with a folder each, here on one box
 *
 * Between the two is a wire of the test's, which can be cut, also so that neither side is told.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/link_ends.h"
#include "base/proc.h"
#include "job.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US (40 * 1000 * 1000)
#define PAIRS 64

/* --- the wire --- */

struct wire {
    pthread_t thread;
    int listen, port, to;
    int pair[PAIRS][2], n;
    atomic_bool frozen, over;
    atomic_int hang_up_after; /* bytes, then each connection is closed; 0: never */
};

static int connect_here(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

static void hang_up(struct wire *w, int i)
{
    close(w->pair[i][0]);
    close(w->pair[i][1]);
    w->pair[i][0] = w->pair[i][1] = -1;
}

static void carry(struct wire *w, int i, int side, int *carried)
{
    char buf[16384];
    ssize_t n = recv(w->pair[i][side], buf, sizeof buf, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || send(w->pair[i][!side], buf, (size_t)n, MSG_NOSIGNAL) != n) {
        hang_up(w, i);
        return;
    }
    *carried += (int)n;
    if (w->hang_up_after && *carried > w->hang_up_after) {
        *carried = 0;
        hang_up(w, i);
    }
}

static void *wire_main(void *ctx)
{
    struct wire *w = ctx;
    int carried = 0;

    while (!w->over) {
        struct pollfd p[2 * PAIRS + 1] = { { .fd = w->frozen ? -1 : w->listen, .events = POLLIN } };

        for (int i = 0; i < w->n; i++)
            for (int s = 0; s < 2; s++)
                p[1 + 2 * i + s] =
                    (struct pollfd){ .fd = w->frozen ? -1 : w->pair[i][s], .events = POLLIN };
        poll(p, (nfds_t)(1 + 2 * w->n), 20);
        if (w->frozen)
            continue;
        for (int i = 0; i < w->n; i++)
            for (int s = 0; s < 2; s++)
                if (w->pair[i][s] >= 0 && p[1 + 2 * i + s].revents)
                    carry(w, i, s, &carried);
        if (p[0].revents && w->n < PAIRS) {
            int in = accept4(w->listen, NULL, NULL, SOCK_CLOEXEC), out = connect_here(w->to);

            if (out < 0) {
                /* As if it had been refused: nobody is behind it any more. */
                close(in);
                close(w->listen);
                w->listen = -1;
                continue;
            }
            w->pair[w->n][0] = in;
            w->pair[w->n++][1] = out;
        }
    }
    return NULL;
}

static void wire_open(struct wire *w, int to)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;

    w->to = to;
    w->listen = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->listen, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(w->listen, 8), 0);
    assert_int_equal(getsockname(w->listen, (struct sockaddr *)&a, &n), 0);
    w->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&w->thread, NULL, wire_main, w), 0);
}

static void wire_close(struct wire *w)
{
    w->over = true;
    pthread_join(w->thread, NULL);
    for (int i = 0; i < w->n; i++)
        if (w->pair[i][0] >= 0)
            hang_up(w, i);
    if (w->listen >= 0)
        close(w->listen);
}

/* --- two boxes --- */

struct two {
    struct job j; /* the first node */
    char *dir;    /* job folder of the second */
    pid_t agent;  /* 0: none, or it is reaped */
    int status;
    struct wire wire;
    bool wired;
};

static struct two the_two; /* not on the stack: a test that fails leaves it for the teardown */
static struct two *alive;

static void make(struct two *t, const char *command, const char *script)
{
    char key[2 * TY_LINK_KEY + 1];

    *t = (struct two){ 0 };
    job_make(&t->j, command, script);
    assert_int_equal(ty_link_key_make(key), 0);
    json_object_set_new(
        t->j.json, "nodes",
        json_pack("[{s:s, s:i}, {s:s, s:i}]", "name", "h1", "ranks", 1, "name", "h2", "ranks", 1));
    json_object_set_new(t->j.json, "local_nodes", json_integer(1));
    json_object_set_new(t->j.json, "link", json_pack("{s:s}", "key", key));
    json_object_set_new(job_spec(&t->j), "node_count", json_integer(2));
    json_object_set_new(job_spec(&t->j), "communicator", json_string("Gloo"));
    t->dir = ty_strf("%s/other/jobs/x", t->j.home);
    assert_int_equal(ty_mkdir_p(t->dir, 0700), 0);
    alive = t;
}

static bool over(struct two *t)
{
    job_over(&t->j);
    if (t->agent && waitpid(t->agent, &t->status, WNOHANG) == t->agent)
        t->agent = 0;
    return !t->agent && !t->j.runner;
}

static void until(struct two *t, bool (*is)(struct two *t))
{
    int64_t end = ty_mono_us() + PATIENCE_US;

    while (!is(t)) {
        if (ty_mono_us() > end)
            fail_msg("it did not come to what the test waits for");
        fake_turn(&t->j.fake, 10);
        (void)over(t);
    }
}

static bool listens(struct two *t)
{
    CLEANUP_FREE char *path = job_file(&t->j, "link");

    return access(path, F_OK) == 0;
}

static void start_first(struct two *t)
{
    CLEANUP_FREE char *path = job_file(&t->j, "link"), *text = NULL;
    int port = 0;

    job_write(&t->j);
    job_start(&t->j, NULL, NULL);
    until(t, listens);
    assert_int_equal(ty_read_file(path, 65536, &text, NULL), 0);
    assert_int_equal(sscanf(text, "%d ", &port), 1);
    assert_true(text[strlen(text) - 1] == '\n' && strchr(text, ' '));
    wire_open(&t->wire, port);
    t->wired = true;
}

static void start_second(struct two *t)
{
    const char *agent = getenv("TRAINYARD_AGENT");
    const char *argv[] = { agent, "node", t->dir, NULL };
    const char *env[] = { "PATH=/usr/bin:/bin", NULL };
    struct ty_spawn s = { .argv = argv, .envp = env, .cwd = "/", .in = -1, .out = -1, .err = 2 };
    CLEANUP_FREE char *path = ty_path_join(t->dir, "job.json"),
                      *blobs = ty_strf("%s/other/blobs", t->j.home);
    json_t *o = json_deep_copy(t->j.json), *link = json_object_get(o, "link");
    struct ty_error err = { 0 };
    char *text;

    json_object_set_new(o, "role", json_string("node"));
    json_object_set_new(o, "node", json_integer(1));
    json_object_set_new(o, "blobs", json_string(blobs));
    json_object_set_new(link, "port", json_integer(t->wire.port));
    json_object_set_new(link, "addresses", json_pack("[s, s]", "192.0.2.1", "127.0.0.1"));
    text = json_dumps(o, 0);
    assert_int_equal(ty_write_file(path, text, strlen(text), 0600), 0);
    free(text);
    json_decref(o);
    if (ty_spawn(&s, &t->agent, &err) < 0)
        fail_msg("%s", err.text);
}

static int clean(void **state)
{
    struct two *t = alive;

    if (t && t->agent) {
        kill(t->agent, SIGKILL);
        waitpid(t->agent, NULL, 0);
    }
    if (t && t->dir)
        ty_marked_kill("TRAINYARD_JOB", t->dir);
    if (t && t->wired)
        wire_close(&t->wire);
    alive = NULL;
    return job_clean(state);
}

static void done(struct two *t)
{
    assert_int_equal(t->agent, 0);
    assert_int_equal(access(t->dir, F_OK), -1); /* it leaves nothing */
    ty_marked_kill("TRAINYARD_JOB", t->dir);
    wire_close(&t->wire);
    free(t->dir);
    job_done(&t->j);
    alive = NULL;
}

static int processes_there(const struct two *t)
{
    struct job far = { .dir = t->dir };

    return job_processes(&far);
}

static bool nobody_there(struct two *t)
{
    return processes_there(t) == 0;
}

static const char *log_of(struct two *t, const char *name)
{
    const struct ty_str *log = fake_log(&t->j.fake, name);

    return log->text ? log->text : "";
}

static bool both_ready(struct two *t)
{
    return strstr(log_of(t, "log_0.txt"), "ready\n") && strstr(log_of(t, "log_1.txt"), "ready\n");
}

static void start_both(struct two *t)
{
    start_first(t);
    start_second(t);
}

static bool phase_there(struct two *t, const char *word)
{
    CLEANUP_FREE char *path = ty_path_join(t->dir, "phase"), *text = NULL;

    return ty_read_file(path, 64, &text, NULL) == 0 && strcmp(text, word) == 0;
}
static bool is_collected_there(struct two *t)
{
    return phase_there(t, "collected");
}
static bool is_waiting_there(struct two *t)
{
    CLEANUP_FREE char *path = ty_path_join(t->dir, "log/azureml-logs/60_control_log.txt"),
                      *text = NULL;

    return ty_read_file(path, 65536, &text, NULL) == 0 && strstr(text, "ready; waiting");
}

static const json_t *artifact(struct two *t, const char *path)
{
    const json_t *o;

    for (int i = 0; (o = fake_record(&t->j.fake, "artifact", i)); i++)
        if (strcmp(job_text(&t->j, "artifact", i, "path"), path) == 0)
            return o;
    return NULL;
}

static bool told_node(struct two *t, const char *state)
{
    for (int i = 0; fake_record(&t->j.fake, "node", i); i++)
        if (strcmp(job_text(&t->j, "node", i, "state"), state) == 0 &&
            strcmp(job_text(&t->j, "node", i, "node"), "h2") == 0)
            return true;
    return false;
}

static char *read_blob(struct two *t, const json_t *o)
{
    const char *sha = json_string_value(json_object_get(o, "sha256"));
    CLEANUP_FREE char *path = ty_strf("%s/blobs/%.2s/%s", t->j.home, sha, sha + 2);
    char *text = NULL;

    assert_int_equal(ty_read_file(path, 65536, &text, NULL), 0);
    return text;
}

/* --- tests --- */

/* A rank there says who is late, as the engine does; who leads ends the job for it. */
static void a_hang(void **state)
{
    struct two *t = &the_two;

    (void)state;
    make(
        t,
        "if [ $RANK = 1 ]; then cd $TRAINYARD_SPOOL_DIR; read up rest < /proc/uptime; "
        "echo '[{\"name\": \"g\", \"kind\": \"allreduce\", \"late\": [0], \"nlate\": 1, "
        "\"since_us\": '$(((${up%.*} - 5) * 1000000))'}]' > new; mv new stall.1; fi; exec sleep 1000",
        NULL);
    json_object_set_new(job_spec(&t->j), "hang_timeout_seconds", json_integer(6));
    start_both(t);
    until(t, over);
    assert_true(strstr(job_text(&t->j, "warning", 0, "text"),
                       "rank 0 (node h1) keeps the others waiting: allreduce 'g' since "));
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "hang");
    assert_int_equal(job_number(&t->j, "exited", 0, "rank"), 0);
    assert_string_equal(job_text(&t->j, "exited", 0, "node"), "h1");
    assert_true(strstr(job_text(&t->j, "exited", 0, "message"),
                       "rank 0 (node h1) kept the others waiting for "));
    assert_true(nobody_there(t));
    done(t);
}

/* The script comes over the link, and everything that the ranks leave comes back. */
static void whole_life(void **state)
{
    CLEANUP_FREE char *script =
        ty_strf("echo hello from $RANK of $WORLD_SIZE at $MASTER_ADDR, node $NODE_RANK\n"
                "echo $RANK > outputs/mine-$RANK; echo $RANK > outputs/same; echo x > logs/equal\n"
                "exec %s 20000 1000\n",
                getenv("TRAINYARD_ROW_WRITER"));
    CLEANUP_FREE char *mine = NULL, *other = NULL;
    struct two *const t = &the_two;

    (void)state;
    make(t, NULL, script);
    start_both(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "message"), "");
    assert_int_equal(job_number(&t->j, "exited", 0, "exit_code"), 0);
    assert_int_equal(job_number(&t->j, "started", 0, "ranks"), 2);
    assert_string_equal(log_of(t, "log_0.txt"), "hello from 0 of 2 at 127.0.0.1, node 0\nlogged\n");
    assert_string_equal(log_of(t, "log_1.txt"), "hello from 1 of 2 at 127.0.0.1, node 1\nlogged\n");
    assert_non_null(strstr(log_of(t, "60_control_log.txt"), "\n[node h2] 20"));
    assert_int_equal(t->j.fake.nrows[0], 20000);
    assert_int_equal(t->j.fake.nrows[1], 20000);
    assert_int_equal(t->j.fake.rows[0].len, t->j.fake.rows[1].len);
    assert_memory_equal(t->j.fake.rows[0].text, t->j.fake.rows[1].text, t->j.fake.rows[0].len);
    mine = read_blob(t, artifact(t, "outputs/mine-1"));
    assert_string_equal(mine, "1\n");
    assert_non_null(artifact(t, "outputs/mine-0"));
    assert_non_null(artifact(t, "logs/equal"));
    assert_null(artifact(t, "logs/node-1/equal"));
    other = read_blob(t, artifact(t, "outputs/node-1/same"));
    assert_string_equal(other, "1\n");
    assert_non_null(strstr(job_text(&t->j, "warning", 0, "text"), "outputs/node-1/same"));
    assert_true(told_node(t, "preparing") && told_node(t, "running") && told_node(t, "done"));
    assert_int_equal(WEXITSTATUS(t->status), 0);
    done(t);
}

/* Whatever ends on the way, each byte comes once. */
static void many_cuts(void **state)
{
    CLEANUP_FREE char *command = ty_strf(
        "i=0; while [ $i -lt 3000 ]; do echo line $i of rank $RANK, a line of some length as lines "
        "of logs often are; i=$((i+1)); done; exec %s 50000 1000",
        getenv("TRAINYARD_ROW_WRITER"));
    CLEANUP_STR struct ty_str want = { 0 };
    struct two *const t = &the_two;

    (void)state;
    make(t, command, NULL);
    start_first(t);
    t->wire.hang_up_after = 1000000;
    start_second(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "message"), "");
    for (int i = 0; i < 3000; i++)
        ty_str_addf(&want, "line %d of rank 1, a line of some length as lines of logs often are\n",
                    i);
    ty_str_add(&want, "logged\n");
    assert_int_equal(strcmp(log_of(t, "log_1.txt"), want.text), 0);
    assert_int_equal(t->j.fake.nrows[0], 50000);
    assert_int_equal(t->j.fake.nrows[1], 50000);
    assert_memory_equal(t->j.fake.rows[0].text, t->j.fake.rows[1].text, t->j.fake.rows[0].len);
    assert_true(t->wire.n > 1);
    done(t);
}

#define SLEEPS "echo ready; [ $RANK = 1 ] || exec sleep 600; "

static void rank_there_fails(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, SLEEPS "echo it breaks here; exit 3", NULL);
    start_both(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "script");
    assert_string_equal(job_text(&t->j, "exited", 0, "message"),
                        "rank 1 (node h2) exited with code 3");
    assert_int_equal(job_number(&t->j, "exited", 0, "exit_code"), 3);
    assert_int_equal(job_number(&t->j, "exited", 0, "rank"), 1);
    assert_string_equal(job_text(&t->j, "exited", 0, "node"), "h2");
    assert_non_null(strstr(job_text(&t->j, "exited", 0, "log_tail"), "it breaks here\n"));
    done(t);
}

static void wrapper_there_killed(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, SLEEPS "kill -9 $PPID; exec sleep 600", NULL);
    start_both(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "lost");
    assert_non_null(strstr(job_text(&t->j, "exited", 0, "message"),
                           "the process that watched rank 1 (node h2) "));
    assert_null(strstr(job_text(&t->j, "exited", 0, "message"), "exited with code 0"));
    assert_true(nobody_there(t));
    done(t);
}

static void rank_here_fails(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready; [ $RANK = 0 ] || exec sleep 600; exit 4", NULL);
    start_both(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "message"),
                        "rank 0 (node h1) exited with code 4");
    assert_true(nobody_there(t));
    done(t);
}

static pid_t find_there(const struct two *t, const char *name)
{
    struct job far = { .dir = t->dir };

    return job_find(&far, name);
}

static bool sleeps_there(struct two *t)
{
    return find_there(t, "sleep") > 0;
}

static void rank_there_is_killed(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready; exec sleep 600", NULL);
    start_both(t);
    until(t, both_ready);
    until(t, sleeps_there); /* "ready" is said before */
    assert_int_equal(kill(find_there(t, "sleep"), SIGKILL), 0);
    until(t, over);
    assert_int_equal(job_number(&t->j, "exited", 0, "exit_signal"), SIGKILL);
    assert_int_equal(job_number(&t->j, "exited", 0, "rank"), 1);
    done(t);
}

static void declared_there(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "[ $RANK = 0 ] || echo not good enough > $TRAINYARD_SPOOL_DIR/failed", NULL);
    start_both(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "message"),
                        "the script called run.fail(): not good enough");
    done(t);
}

/* SIGTERM is heard there, too, and leaves time for last words. */
static void canceled(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "trap 'echo last words; exit 0' TERM; echo ready; while :; do sleep 0.05; done", NULL);
    start_both(t);
    until(t, both_ready);
    fake_cancel(&t->j.fake);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "cancel");
    assert_true(ty_ends_with(log_of(t, "log_1.txt"), "last words\n"));
    done(t);
}

static bool is_canceled(struct two *t)
{
    return job_collected(&t->j);
}
static bool both_told(struct two *t)
{
    return !t->agent; /* the other was sent away */
}

static void canceled_before_it_came(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready", NULL);
    json_object_set_new(t->j.json, "node_lost_seconds", json_integer(2));
    t->j.fake.cancel = true;
    t->j.fake.hold = true; /* the runner stays until the other has come */
    start_first(t);
    until(t, is_canceled);
    start_second(t);
    until(t, both_told);
    fake_say(&t->j.fake, &(struct ty_frame){ .type = TY_FRAME_RELEASE });
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "cancel");
    assert_string_equal(log_of(t, "log_1.txt"), "");
    done(t);
}

static void cannot_prepare_there(void **state)
{
    CLEANUP_FREE char *work = NULL;
    struct two *const t = &the_two;

    (void)state;
    make(t, NULL, "echo ready");
    work = ty_strf("%s/work/in-the-way", t->dir);
    assert_int_equal(ty_mkdir_p(work, 0700), 0);
    start_both(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "prepare");
    assert_non_null(strstr(job_text(&t->j, "exited", 0, "message"), "node 'h2': cannot unpack"));
    assert_string_equal(log_of(t, "log_0.txt"), ""); /* all start, or none */
    done(t);
}

static void never_comes(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready", NULL);
    json_object_set_new(t->j.json, "node_lost_seconds", json_integer(1));
    start_first(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "node_lost");
    assert_string_equal(job_text(&t->j, "exited", 0, "node"), "h2");
    assert_string_equal(job_text(&t->j, "exited", 0, "message"),
                        "node 'h2' did not come within 1 s");
    ty_rm_rf(t->dir);
    done(t);
}

static void agent_is_killed(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready; exec sleep 600", NULL);
    json_object_set_new(t->j.json, "node_lost_seconds", json_integer(2));
    start_both(t);
    until(t, both_ready);
    assert_int_equal(kill(t->agent, SIGKILL), 0);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "node_lost");
    assert_string_equal(job_text(&t->j, "exited", 0, "node"), "h2");
    assert_non_null(strstr(job_text(&t->j, "exited", 0, "message"), "node 'h2' was lost: "));
    assert_true(told_node(t, "lost"));
    until(t, nobody_there); /* the wrapper has ended its rank */
    ty_rm_rf(t->dir);
    done(t);
}

/* The rank here says that it ends because another has gone: the node that is lost is to blame. */
static void victims_of_a_lost_node(void **state)
{
    struct two *const t = &the_two;
    CLEANUP_FREE char *flag = NULL, *command = NULL;

    (void)state;
    make(t, "", NULL);
    flag = ty_strf("%s/flag", t->j.home);
    command = ty_strf(
        "echo ready; while [ ! -e %s ]; do sleep 0.05; done; [ $RANK = 1 ] && exec sleep 600; "
        "touch $TRAINYARD_SPOOL_DIR/victim.0; exit 1",
        flag);
    json_object_set_new(job_spec(&t->j), "command",
                        json_pack("[s, s, s]", "/bin/sh", "-c", command));
    json_object_set_new(t->j.json, "node_lost_seconds", json_integer(12));
    start_both(t);
    until(t, both_ready);
    assert_int_equal(kill(t->agent, SIGKILL), 0);
    until(t, nobody_there);
    assert_int_equal(ty_write_file(flag, "", 0, 0600), 0);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "node_lost");
    ty_rm_rf(t->dir);
    done(t);
}

static void ended_while_it_prepares(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready", NULL);
    start_first(t);
    t->wire.frozen = true; /* it does not hear that it may start */
    start_second(t);
    until(t, is_waiting_there);
    kill(t->agent, SIGTERM);
    until(t, is_collected_there);
    t->wire.frozen = false;
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "prepare");
    assert_string_equal(job_text(&t->j, "exited", 0, "message"),
                        "node 'h2' was ended before its processes had started");
    done(t);
}

static void runner_is_killed(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready; exec sleep 600", NULL);
    start_both(t);
    until(t, both_ready);
    assert_int_equal(kill(t->j.runner, SIGKILL), 0);
    until(t, over);
    assert_true(nobody_there(t));
    assert_int_equal(WEXITSTATUS(t->status), 0);
    done(t);
}

/* A runner takes up the folder of one that was killed; then its own files there are gone with it. */
static void take_up(struct two *t, const char *records, const char *phase)
{
    CLEANUP_FREE char *logs = NULL, *log = NULL, *spool = NULL, *word = NULL;

    make(t, "true", NULL);
    logs = job_file(&t->j, "log/azureml-logs");
    log = job_file(&t->j, "log/azureml-logs/70_driver_log_1.txt");
    spool = job_file(&t->j, "records.spool");
    word = job_file(&t->j, "phase");
    job_write(&t->j);
    assert_int_equal(ty_mkdir_p(logs, 0700), 0);
    assert_int_equal(ty_write_file(log, "from h2\n", 8, 0600), 0);
    assert_int_equal(ty_write_file(spool, records, strlen(records), 0600), 0);
    assert_int_equal(ty_write_file(word, phase, strlen(phase), 0600), 0);
    job_start(&t->j, NULL, NULL);
    while (!over(t))
        fake_turn(&t->j.fake, 10);
    assert_string_equal(log_of(t, "log_1.txt"), "from h2\n"); /* what had come is delivered */
    free(t->dir);
}

static void files_of(struct two *t, const char *node_state, const char *warning)
{
    CLEANUP_FREE char *records = ty_strf(
        "1 {\"kind\": \"started\", \"ranks\": 2}\n2 {\"kind\": \"exited\", \"exit_code\": 0}\n"
        "3 {\"kind\": \"node\", \"node\": \"h2\", \"state\": \"%s\"}\n",
        node_state);

    take_up(t, records, "collecting");
    assert_string_equal(job_text(&t->j, "warning", 0, "text"), warning);
    assert_int_equal(job_number(&t->j, "exited", 0, "exit_code"), 0);
    job_done(&t->j);
}

static void after_a_killed_runner(void **state)
{
    struct two *t = &the_two;

    (void)state;
    take_up(t, "", "running");
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "lost");
    job_done(&t->j);
    files_of(
        t, "running",
        "the files and logs of node 'h2' may not be complete: the runner that gathered them was killed");
    files_of(t, "done", "");
    files_of(t, "lost", ""); /* that was told when it was lost */
    alive = NULL;
}

/* Each node has a PMIx server of its own, and their fences go through the first, also over a wire that breaks. */
static void mpi(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    if (system("/usr/bin/python3 -c 'import mpi4py' 2>/dev/null") != 0) {
        print_message("mpi: skipped, mpi4py is not there\n");
        skip();
    }
    make(t,
         "exec /usr/bin/python3 -c \"from mpi4py import MPI; c = MPI.COMM_WORLD; "
         "print('rank', c.rank, 'of', c.size, 'sum', c.allreduce(c.rank + 1), flush=True)\"",
         NULL);
    json_object_set_new(job_spec(&t->j), "communicator", json_string("Mpi"));
    start_first(t);
    t->wire.hang_up_after = 3000;
    start_second(t);
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "message"), "");
    assert_string_equal(log_of(t, "log_0.txt"), "rank 0 of 2 sum 3\n");
    assert_string_equal(log_of(t, "log_1.txt"), "rank 1 of 2 sum 3\n");
    assert_true(t->wire.n > 1);
    done(t);
}

static bool is_silent(struct two *t)
{
    return told_node(t, "silent");
}
static bool is_heard(struct two *t)
{
    return told_node(t, "heard");
}

/* What processes tell each other at the start has a bound: beyond it the job ends with a word, and does not hang. */
static void too_much_for_mpi(size_t bytes)
{
    static const char text[] =
        "import base64, ctypes as c, os\n"
        "class Value(c.Structure):\n"
        "    _fields_ = [('type', c.c_uint16), ('data', c.c_char_p), ('rest', c.c_byte * 24)]\n"
        "class Info(c.Structure):\n"
        "    _fields_ = [('key', c.c_char * 512), ('flags', c.c_uint32), ('value', Value)]\n"
        "lib, me = c.CDLL('libpmix.so.2'), c.create_string_buffer(512)\n"
        "assert lib.PMIx_Init(me, None, 0) == 0\n"
        "value = Value(3, base64.b64encode(os.urandom(%zu)))\n"
        "assert lib.PMIx_Put(3, b'much', c.byref(value)) == 0 and lib.PMIx_Commit() == 0\n"
        "collect = Info(b'pmix.collect', 0, Value(1, c.cast(1, c.c_char_p)))\n"
        "lib.PMIx_Fence(None, 0, c.byref(collect), 1)\n";
    struct two *const t = &the_two;
    static const char words[] = "what they tell each other at the start is more";
    CLEANUP_FREE char *program = NULL, *path = NULL, *command = NULL;
    const char *message;

    if (access("/usr/lib/x86_64-linux-gnu/libpmix.so.2", F_OK) < 0)
        skip();
    make(t, "true", NULL);
    path = ty_path_join(t->j.home, "much.py");
    program = ty_strf(text, bytes);
    command = ty_strf("exec /usr/bin/python3 %s", path);
    assert_int_equal(ty_write_file(path, program, strlen(program), 0600), 0);
    json_object_set_new(job_spec(&t->j), "command",
                        json_pack("[s, s, s]", "/bin/sh", "-c", command));
    json_object_set_new(job_spec(&t->j), "communicator", json_string("Mpi"));
    start_both(t);
    until(t, over);
    message = job_text(&t->j, "exited", 0, "message");
    if (!strstr(message, words))
        fail_msg("no '%s' in: %s", words, message);
    assert_true(nobody_there(t));
    done(t);
}

static void too_much(void **state)
{
    (void)state;
    too_much_for_mpi(450 * 1024);  /* in all */
    too_much_for_mpi(1024 * 1024); /* of one */
}

/* Nobody is told of the cut, and it is mended before the patience of either side ends. */
static void cut_and_mended(void **state)
{
    CLEANUP_FREE char *flag = NULL, *command = NULL;
    struct two *const t = &the_two;

    (void)state;
    make(t, "", NULL);
    flag = ty_strf("%s/flag", t->j.home);
    command =
        ty_strf("echo ready; while [ ! -e %s ]; do sleep 0.05; echo more; done; echo end", flag);
    json_object_set_new(job_spec(&t->j), "command",
                        json_pack("[s, s, s]", "/bin/sh", "-c", command));
    start_both(t);
    until(t, both_ready);
    t->wire.frozen = true;
    until(t, is_silent);
    t->wire.frozen = false;
    until(t, is_heard);
    assert_int_equal(ty_write_file(flag, "", 0, 0600), 0);
    until(t, over);
    assert_int_equal(job_number(&t->j, "exited", 0, "exit_code"), 0);
    assert_true(ty_ends_with(log_of(t, "log_1.txt"), "more\nend\n"));
    done(t);
}

static void cut_for_good(void **state)
{
    struct two *const t = &the_two;

    (void)state;
    make(t, "echo ready; exec sleep 600", NULL);
    json_object_set_new(t->j.json, "node_lost_seconds", json_integer(2));
    start_both(t);
    until(t, both_ready);
    t->wire.frozen = true;
    until(t, over);
    assert_string_equal(job_text(&t->j, "exited", 0, "reason"), "node_lost");
    assert_string_equal(job_text(&t->j, "exited", 0, "message"),
                        "node 'h2' was lost: it was not heard for 2 s");
    assert_true(nobody_there(t));
    done(t);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);

#define T(f) cmocka_unit_test_teardown(f, clean)
    const struct CMUnitTest tests[] = {
        T(mpi),
        T(too_much),
        T(victims_of_a_lost_node),
        T(ended_while_it_prepares),
        T(whole_life),
        T(many_cuts),
        T(rank_there_fails),
        T(wrapper_there_killed),
        T(rank_here_fails),
        T(rank_there_is_killed),
        T(declared_there),
        T(canceled),
        T(canceled_before_it_came),
        T(cannot_prepare_there),
        T(never_comes),
        T(agent_is_killed),
        T(runner_is_killed),
        T(after_a_killed_runner),
        T(cut_and_mended),
        T(cut_for_good),
        T(a_hang),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
