/* agent.c - stands in for trainyard-agent where only the daemon is measured: a courier whose job lies on no machine
 *
 * To the daemon it is what a courier is: it signs and locks the job folder, speaks the runner's stream, says every two seconds
 * that it is there, and sends what a runner samples of one node (ten values), until the run is canceled. No ssh, no host and no
 * process of a user stands behind it. bench/fleet starts a thousand of them.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "core/row.h"
#include "runner/stream.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct job {
    char *dir;
    json_t *json;
    struct ty_stream *stream;
    int64_t sample_us, every_us; /* 0: none is taken */
    uint64_t rows;
    bool ending, over;
};
static volatile sig_atomic_t canceled;

static void on_term(int sig)
{
    (void)sig;
    canceled = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "agent: %s: %m\n", what);
    exit(1);
}

static const char *text_of(const struct job *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j->json, key));

    if (!text)
        die(key);
    return text;
}

static void sign(struct job *j)
{
    CLEANUP_FREE char *lock = ty_path_join(j->dir, "lock"), *id = ty_path_join(j->dir, "runner.id"),
                      *path = ty_path_join(j->dir, "job.json");
    CLEANUP_FREE char *text = NULL, *mine = NULL, *hello = NULL;
    struct ty_proc_id me = { 0 };
    size_t n;
    int fd = lock ? open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || ty_proc_identify(getpid(), &me) < 0)
        die("the job folder is not ours");
    mine = ty_strf("%s %d %" PRIu64 "\n", me.boot, (int)me.pid, me.start);
    if (!id || !mine || ty_write_file(id, mine, strlen(mine), 0600) < 0 || !path ||
        ty_read_file(path, 64 << 20, &text, &n) < 0 || ty_json_parse(text, n, &j->json, NULL) < 0)
        die("the job folder cannot be used");
    hello = ty_strf("{\"protocol\": 1, \"run\": \"%s\", \"attempt\": %" PRId64 ", \"token\": \"%s\", "
                    "\"boot\": \"%s\", \"pid\": %d, \"start\": %" PRIu64 "}",
                    text_of(j, "run"), (int64_t)json_integer_value(json_object_get(j->json, "attempt")),
                    text_of(j, "token"), me.boot, (int)me.pid, me.start);
    j->every_us = json_integer_value(json_object_get(j->json, "system_metrics_seconds")) * 1000000;
    j->stream = hello ? ty_stream_new(text_of(j, "socket"), hello) : NULL;
    if (!j->stream)
        die("no memory");
}

static void record(struct job *j, uint64_t seq, const char *kind, const char *more)
{
    CLEANUP_FREE char *text =
        ty_strf("{\"kind\": \"%s\", \"at_us\": %" PRId64 "%s}", kind, ty_wall_us(), more);
    struct ty_frame f = { .type = TY_FRAME_RECORD, .seq = seq, .body = text };

    if (!text)
        die("no memory");
    f.body_len = strlen(text);
    ty_stream_send(j->stream, &f);
}

/* What a runner without GPUs samples of its node and of one rank. */
static void sample(struct job *j, int64_t now)
{
    static const char *const names[] = {
        "system/cpu_percent", "system/memory_used_mb", "system/memory_percent",
        "system/network_received_bytes_per_s", "system/network_sent_bytes_per_s",
        "system/disk_read_bytes_per_s", "system/disk_written_bytes_per_s", "system/disk_free_mb",
        "system/rank0/cpu_percent", "system/rank0/memory_mb"
    };
    char buf[2048];
    size_t at = 0, count = sizeof names / sizeof *names;

    for (size_t i = 0; i < count; i++) {
        double value = (double)((now >> 10) % 1000) / 7;
        struct ty_row row = { .kind = TY_ROW_DOUBLE,
                              .step = TY_ROW_NO_STEP,
                              .at_us = ty_wall_us(),
                              .name = names[i],
                              .name_len = strlen(names[i]),
                              .value = &value,
                              .value_len = sizeof value };

        if (at + ty_row_size(&row) > sizeof buf || ty_row_encode(&row, buf + at) < 0)
            die("a row");
        at += ty_row_size(&row);
    }
    struct ty_frame f = { .type = TY_FRAME_ROWS,
                          .seq = j->rows,
                          .count = (uint32_t)count,
                          .body = buf,
                          .body_len = at };
    ty_stream_send(j->stream, &f);
    j->rows += count;
    j->sample_us = now + j->every_us;
}

static void hear(struct job *j, int64_t now)
{
    struct ty_frame in;

    while (ty_stream_next(j->stream, &in) == 0) {
        if (in.type == TY_FRAME_WELCOME) {
            CLEANUP_FREE char *pid = ty_strf(", \"pid\": %d", (int)getpid());

            record(j, 1, "started", pid ? pid : "");
            j->sample_us = j->every_us ? now + now % j->every_us : INT64_MAX;
        }
        if (in.type == TY_FRAME_CANCEL)
            canceled = 1;
        if (in.type == TY_FRAME_REFUSED || in.type == TY_FRAME_RELEASE)
            j->over = true;
    }
}

static void turn(struct job *j, int64_t now)
{
    ty_stream_turn(j->stream, now);
    hear(j, now);
    if (ty_stream_connected(j->stream) && j->sample_us > 0 && now >= j->sample_us && !j->ending)
        sample(j, now);
    if (canceled && !j->ending && ty_stream_connected(j->stream)) {
        j->ending = true;
        record(j, 2, "exited", ", \"reason\": \"cancel\"");
        record(j, 3, "collected", "");
    }
    ty_stream_flush(j->stream, now);
}

static void wait_for_something(const struct job *j, int64_t now)
{
    struct pollfd p = { 0 };
    int64_t due = ty_stream_due(j->stream);

    if (j->sample_us > 0 && j->sample_us < due && !j->ending)
        due = j->sample_us;
    p.fd = ty_stream_fd(j->stream, &p.events);
    poll(&p, 1, due > now ? (int)((due - now) / 1000) + 1 : 0);
}

int main(int argc, char **argv)
{
    struct job j = { 0 };

    if (argc < 3 || strcmp(argv[1], "courier") != 0) {
        puts("{\"cpus\": 1}"); /* whoever asks for facts */
        return 0;
    }
    setsid();
    signal(SIGTERM, on_term);
    signal(SIGPIPE, SIG_IGN);
    j.dir = realpath(argv[2], NULL);
    if (!j.dir)
        die(argv[2]);
    sign(&j);
    while (!j.over) {
        int64_t now = ty_mono_us();

        turn(&j, now);
        if (!j.over)
            wait_for_something(&j, now);
    }
    ty_stream_free(j.stream);
    json_decref(j.json);
    ty_rm_rf(j.dir);
    free(j.dir);
    return 0;
}
