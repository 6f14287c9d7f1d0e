/* inside.c - a runner's state inside the test, without its loop */
#include "inside.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US (20 * 1000 * 1000)
#define QUIET_TURNS 20

static void need(int got, const struct ty_error *err)
{
    if (got < 0)
        fail_msg("%s", err->text);
}

void inside_open(struct inside *in)
{
    struct ty_runner *r = &in->r;
    CLEANUP_FREE char *records = job_file(&in->j, "records.spool"), *logs = NULL;
    struct ty_error err = { 0 };

    job_write(&in->j);
    ty_runner_init(r);
    r->rescan = true;
    r->now_us = ty_mono_us();
    need(ty_jobfile_read(in->j.dir, &r->job, &err), &err);
    logs = ty_path_join(r->job->log, "azureml-logs");
    assert_int_equal(ty_mkdir_p(logs, 0700), 0);
    assert_int_equal(ty_mkdir_p(r->job->spool, 0700), 0);
    assert_int_equal(ty_mkdir_p(r->job->tmp, 0700), 0);
    need(ty_logs_open(&r->logs, r->job, &err), &err);
    need(ty_ranks_open(&r->ranks, r->job, &err), &err);
    need(ty_records_open(records, NULL, NULL, &r->records, &err), &err);
    r->rows = ty_rows_new(r->job->spool);
    r->stream = ty_stream_new(r->job->socket, "{}");
    assert_true(r->rows && r->stream);
}

void inside_done(struct inside *in)
{
    struct ty_runner *r = &in->r;

    ty_life_stop(r);
    ty_stream_free(r->stream);
    ty_rows_free(r->rows);
    ty_records_free(r->records);
    ty_logs_done(&r->logs);
    ty_ranks_done(&r->ranks);
    ty_hang_done(&r->hang);
    ty_environment_done(r);
    if (r->meeting.hold >= 0)
        close(r->meeting.hold);
    ty_jobfile_free(r->job);
    free(r->failure);
    free(r->buf);
    job_done(&in->j);
}

void inside_sync(struct inside *in)
{
    assert_int_equal(ty_records_write(in->r.records), 0);
    ty_records_synced(in->r.records, ty_records_mark(in->r.records));
}

void inside_deliver(struct inside *in)
{
    struct ty_runner *r = &in->r;

    r->now_us = ty_mono_us();
    ty_stream_turn(r->stream, r->now_us);
    ty_deliver_frames(r);
    ty_deliver_pump(r);
    ty_stream_flush(r->stream, r->now_us);
    fake_turn(&in->j.fake, 1);
}

void inside_settle(struct inside *in)
{
    int frames = -1, quiet = 0;

    for (int64_t end = ty_mono_us() + PATIENCE_US; quiet < QUIET_TURNS && !in->r.over;) {
        quiet = in->j.fake.frames == frames && ty_stream_connected(in->r.stream) ? quiet + 1 : 0;
        frames = in->j.fake.frames;
        inside_deliver(in);
        assert_true(ty_mono_us() < end);
    }
}

void inside_until(struct inside *in, enum ty_phase phase)
{
    struct ty_runner *r = &in->r;

    for (int64_t end = ty_mono_us() + PATIENCE_US; r->phase != phase;) {
        struct pollfd p[3 + TY_HELPER_COUNT] = { { .fd = r->child.fd, .events = POLLIN },
                                                 { .fd = r->ranks.epoll, .events = POLLIN } };
        struct pollfd *mpi = &p[2 + TY_HELPER_COUNT];
        int64_t due = ty_life_due(r);

        r->now_us = ty_mono_us();
        if (r->now_us > end)
            fail_msg("it stayed '%s' for 20 seconds", ty_phase_word(r->phase));
        for (int h = 0; h < TY_HELPER_COUNT; h++)
            p[2 + h] = (struct pollfd){ .fd = r->helper[h].fd, .events = POLLIN };
        mpi->fd = ty_mpi_fd(r, &mpi->events);
        poll(p, 3 + TY_HELPER_COUNT, due == TY_NEVER ? 1000 : 10);
        r->now_us = ty_mono_us();
        ty_runner_reap(r);
        if (p[0].revents && r->child.fd == p[0].fd)
            ty_life_child(r);
        for (int h = 0; h < TY_HELPER_COUNT; h++)
            if (p[2 + h].revents && r->helper[h].fd == p[2 + h].fd)
                ty_helpers_hear(r, (enum ty_helper)h);
        if (mpi->revents && ty_mpi_fd(r, &mpi->events) == mpi->fd)
            ty_mpi_hear(r);
        if (p[1].revents)
            ty_follow_ranks(r);
        ty_life_timers(r);
    }
}

static void keep(uint64_t seq, const json_t *record, void *ctx)
{
    (void)seq;
    json_array_append_new(ctx, json_deep_copy(record));
}

/* As they are in the file; owned by this function until the next call. */
static const json_t *records_of(struct inside *in)
{
    static json_t *all;
    CLEANUP_FREE char *path = job_file(&in->j, "records.spool");

    inside_sync(in);
    json_decref(all);
    all = json_array();
    assert_int_equal(ty_records_each(path, keep, all), 0);
    return all;
}

static const json_t *nth(const json_t *all, const char *kind, int n)
{
    const json_t *o;
    size_t i;

    json_array_foreach (all, i, o)
        if (strcmp(json_string_value(json_object_get(o, "kind")), kind) == 0 && n-- == 0)
            return o;
    return NULL;
}

const char *inside_text(struct inside *in, const char *kind, int n, const char *key)
{
    const char *text = json_string_value(json_object_get(nth(records_of(in), kind, n), key));

    return text ? text : "";
}

int inside_number(struct inside *in, const char *kind, int n, const char *key)
{
    const json_t *v = json_object_get(nth(records_of(in), kind, n), key);

    return json_is_integer(v) ? (int)json_integer_value(v) : -1;
}

int inside_count(struct inside *in, const char *kind)
{
    const json_t *all = records_of(in);
    int n = 0;

    while (nth(all, kind, n))
        n++;
    return n;
}

char *inside_log(struct inside *in, enum ty_log_id log)
{
    CLEANUP_FREE char *path = ty_path_join(in->r.job->log, in->r.logs.at[log].name);
    char *text = NULL;

    assert_int_equal(ty_read_file(path, 1 << 20, &text, NULL), 0);
    return text;
}
