/* The trace: a valid array after every write, rows, nested intervals, ticks, arguments; what cannot be written. */
#include "base/clock.h"
#include "base/fault.h"
#include "coll/engine.h"
#include "coll/timeline.h"
#include "tests.h"
#include "world.h"
#include <jansson.h>
#include <unistd.h>

static char path[64], other[80];

static json_t *load(const char *file)
{
    json_error_t e;
    json_t *all = json_load_file(file, JSON_REJECT_DUPLICATES, &e);

    if (!all)
        fprintf(stderr, "%s:%d: %s\n", file, e.line, e.text);
    return all;
}

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}
static long long num(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* The number of the row of that name, or -1; twice: -2. */
static long long row_of(const json_t *all, const char *name)
{
    long long row = -1;
    json_t *e;
    size_t i;

    json_array_foreach (all, i, e) {
        if (strcmp(str(e, "name"), "process_name") == 0 &&
            strcmp(str(json_object_get(e, "args"), "name"), name) == 0)
            row = row == -1 ? num(e, "pid") : -2;
    }
    return row;
}

/* The events of a row as words, "B NEGOTIATE_ALLREDUCE, X 0, ..."; times must not go back. */
static const char *words(const json_t *all, long long row, char *buf, size_t cap)
{
    long long last = 0;
    size_t i, len = 0;
    json_t *e;

    buf[0] = 0;
    json_array_foreach (all, i, e) {
        const char *ph = str(e, "ph");

        if (num(e, "pid") != row || strcmp(ph, "M") == 0)
            continue;
        len +=
            (size_t)snprintf(buf + len, cap - len, "%s%s %s", len ? ", " : "", ph, str(e, "name"));
        if (*ph == 'X')
            continue; /* ticks are in the order of ranks */
        if (num(e, "ts") < last)
            len += (size_t)snprintf(buf + len, cap - len, "(back in time)");
        last = num(e, "ts");
    }
    return buf;
}

/* The last event of that name and phase in a row. */
static const json_t *last_event(const json_t *all, long long row, const char *ph, const char *name)
{
    const json_t *found = NULL;
    json_t *e;
    size_t i;

    json_array_foreach (all, i, e) {
        if (num(e, "pid") == row && strcmp(str(e, "ph"), ph) == 0 &&
            strcmp(str(e, "name"), name) == 0)
            found = e;
    }
    return found;
}

static size_t count(const json_t *all, const char *name)
{
    size_t i, n = 0;
    json_t *e;

    json_array_foreach (all, i, e) {
        n += strcmp(str(e, "name"), name) == 0;
    }
    return n;
}

/* ---- whole worlds ---- */

static int reduce(struct world_rank *r, const char *name, int64_t rows, struct ty_error *err)
{
    float x[64] = { 0 };
    int64_t dims[2] = { rows, 3 };
    struct ty_coll_buf b = { .data = x, .count = rows * 3, .ndims = 2, .dims = dims };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .name = name,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_SUM,
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };

    return ty_coll_do(r->c, &call, NULL, err);
}

static int gather(struct world_rank *r, const char *name, struct ty_error *err)
{
    int64_t x[2] = { 1, 2 }, dims[1] = { 2 };
    struct ty_coll_buf b = { .data = x, .count = 2, .ndims = 1, .dims = dims };
    struct ty_coll_call call = {
        .kind = TY_COLL_ALLGATHER, .name = name, .dtype = TY_COLL_I64, .in = &b, .nbufs = 1
    };
    struct ty_coll_result got = { 0 };
    int e = ty_coll_do(r->c, &call, &got, err);

    ty_coll_result_done(&got);
    return e;
}

static int barrier(struct world_rank *r, struct ty_error *err)
{
    struct ty_coll_call call = { .kind = TY_COLL_BARRIER };

    return ty_coll_do(r->c, &call, NULL, err);
}

/* What is in the file after each operation: valid, and longer than before. */
static void check_grows(struct world_rank *r, size_t *size)
{
    json_t *all;

    if (r->rank != 0)
        return;
    ty_timeline_sync(r->c->timeline);
    all = load(path);
    CHECK(json_array_size(all) > *size);
    *size = json_array_size(all);
    json_decref(all);
}

#define ONCE(op, way) \
    "B NEGOTIATE_" op ", X 0, X 1, E NEGOTIATE_" op ", B " op ", B " way ", E " way ", E " op

static void check_file(struct world_rank *r)
{
    json_t *all = load(path);
    const json_t *e, *args;
    char buf[2048];
    long long row;

    CHECK(json_is_array(all));
    row = row_of(all, "layer \"1\"");
    CHECK(row > 0);
    CHECK(strcmp(words(all, row, buf, sizeof buf),
                 ONCE("ALLREDUCE", "SHM_INLINE") ", " ONCE("ALLREDUCE", "SHM_INLINE")) == 0);
    e = last_event(all, row, "E", "ALLREDUCE");
    args = json_object_get(e, "args");
    CHECK(strcmp(str(args, "dtype"), "float32") == 0 && strcmp(str(args, "shape"), "[2, 3]") == 0);
    CHECK(!json_object_get(args, "failed"));
    row = row_of(all, "gathered");
    CHECK(row > 0);
    CHECK(strcmp(words(all, row, buf, sizeof buf), ONCE("ALLGATHER", "SHM_COPY")) == 0);
    args = json_object_get(last_event(all, row, "E", "ALLGATHER"), "args");
    CHECK(strcmp(str(args, "dtype"), "int64") == 0 && strcmp(str(args, "shape"), "[2]") == 0);
    row = row_of(all, "barrier.noname");
    CHECK(row > 0);
    CHECK(strcmp(words(all, row, buf, sizeof buf),
                 "B NEGOTIATE_BARRIER, X 0, X 1, E NEGOTIATE_BARRIER, B BARRIER, E BARRIER") == 0);
    row = row_of(all, "wrong");
    CHECK(row > 0);
    CHECK(strcmp(words(all, row, buf, sizeof buf),
                 "B NEGOTIATE_ALLREDUCE, X 0, X 1, E NEGOTIATE_ALLREDUCE") == 0);
    args = json_object_get(last_event(all, row, "E", "NEGOTIATE_ALLREDUCE"), "args");
    CHECK(json_is_true(json_object_get(args, "failed")));
    CHECK(count(all, "CYCLE_START") == (r->arg ? 6 : 0));
    e = json_array_get(all, 0);
    CHECK(num(e, "pid") == 0 &&
          num(json_object_get(e, "args"), "start_time_since_epoch_in_micros") > 1600000000000000);
    CHECK(count(all, "process_sort_index") == 5 && count(all, "DROPPED") == 0);
    json_decref(all);
}

static void traced(struct world_rank *r)
{
    struct ty_error err;
    size_t size = 0;

    CHECK(reduce(r, "before", 2, &err) == 0);
    CHECK(ty_coll_timeline_start(r->c, path, r->arg != NULL, &err) == 0);
    CHECK(reduce(r, "common", 1, &err) == 0); /* from here on all ranks say when they post */
    CHECK(barrier(r, &err) == 0);
    check_grows(r, &size);
    CHECK(reduce(r, "layer \"1\"", 2, &err) == 0);
    check_grows(r, &size);
    CHECK(reduce(r, "layer \"1\"", 2, &err) == 0);
    check_grows(r, &size);
    CHECK(gather(r, "gathered", &err) == 0);
    check_grows(r, &size);
    CHECK(reduce(r, "wrong", 2 + r->rank, &err) == -EPROTO);
    check_grows(r, &size);
    CHECK(ty_coll_timeline_stop(r->c, &err) == 0);
    CHECK(reduce(r, "after", 2, &err) == 0);
    if (r->rank == 0)
        check_file(r);
}

static void a_trace(void **state)
{
    (void)state;
    for (int cycles = 0; cycles < 2; cycles++) {
        unlink(path);
        world_threads(&(struct world){ .size = 2, .arg = cycles ? path : NULL }, traced);
    }
}

static void refusals(struct world_rank *r)
{
    struct ty_error err = { 0 };
    int first = r->rank == 0;

    CHECK(ty_coll_timeline_stop(r->c, &err) == (first ? -ENOENT : 0));
    CHECK(!first || strstr(err.text, "none is being written"));
    CHECK(ty_coll_timeline_start(r->c, "/nowhere/at/all.json", false, &err) ==
          (first ? -ENOENT : 0));
    CHECK(!first || strstr(err.text, "'/nowhere/at/all.json'"));
    CHECK(ty_coll_timeline_start(r->c, "/dev/full", false, &err) == (first ? -ENOSPC : 0));
    for (int i = 0; i < 2; i++) {
        CHECK(ty_coll_timeline_start(r->c, path, false, &err) == 0);
        CHECK(reduce(r, "x", 1, &err) == 0);
        CHECK(ty_coll_timeline_start(r->c, other, false, &err) == (first ? -EEXIST : 0));
        CHECK(ty_coll_timeline_stop(r->c, &err) == 0);
    }
    CHECK(access(other, F_OK) < 0);
}

static void what_is_refused(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    world_threads(&(struct world){ .size = 2 }, refusals);
}

static void one(struct world_rank *r)
{
    struct ty_error err;

    CHECK(reduce(r, "x", 1, &err) == 0);
    CHECK((r->rank == 0 && r->arg) == (r->c->timeline != NULL));
}

/* The variables; rank 0 alone makes a file, and closing ends it. */
static void at_open(void **state)
{
    struct ty_coll_options o = { .timeline = path };
    json_t *all;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world w = { .size = 2, .arg = path, .options = i ? NULL : &o };

        unlink(path);
        if (i) {
            setenv("HOROVOD_TIMELINE", path, 1);
            setenv("HOROVOD_TIMELINE_MARK_CYCLES", "1", 1);
        }
        world_threads(&w, one);
        all = load(path);
        assert_true(row_of(all, "x") > 0);
        assert_int_equal(count(all, "CYCLE_START"), i);
        json_decref(all);
    }
    setenv("HOROVOD_TIMELINE", "DYNAMIC", 1);
    world_threads(&(struct world){ .size = 2 }, one);
    assert_true(access("DYNAMIC", F_OK) < 0);
    unsetenv("HOROVOD_TIMELINE");
    unsetenv("HOROVOD_TIMELINE_MARK_CYCLES");
}

/* ---- records ---- */

static void record(struct ty_timeline *t, int i)
{
    struct ty_coll_call call = { .kind = TY_COLL_BARRIER };
    struct ty_req r;
    char name[32];

    snprintf(name, sizeof name, "row %d", i);
    call.name = name;
    assert_int_equal(ty_req_init(&r, &call, 1, NULL, NULL, NULL), 0);
    r.submitted_us = r.begun_us = ty_mono_us();
    ty_timeline_record(t, &r, "copy");
    ty_req_done(&r);
}

/* However fast they come: what is not in the file is counted there. */
static void many_records(void **state)
{
    const int n = 60000;
    struct ty_timeline *t;
    struct ty_error err;
    size_t i, dropped = 0;
    json_t *all, *e;

    (void)state;
    assert_int_equal(ty_timeline_open(path, true, &t, &err), 0);
    for (int k = 0; k < n; k++)
        record(t, k % 1000);
    assert_int_equal(ty_timeline_close(t, &err), 0);
    all = load(path);
    json_array_foreach (all, i, e) {
        if (strcmp(str(e, "name"), "DROPPED") == 0)
            dropped += (size_t)num(json_object_get(e, "args"), "records");
    }
    assert_int_equal(count(all, "BARRIER") / 2 + dropped, n);
    assert_true(count(all, "BARRIER") / 2 >= 16384);
    assert_in_range(count(all, "process_name"), 2, 1001);
    json_decref(all);
    assert_int_equal(ty_timeline_close(NULL, NULL), 0);
}

#ifdef TY_FAULTS
/* Memory, the file, the thread: an error, and nothing is left behind. */
static void no_start(void **state)
{
    static const struct {
        const char *point;
        int visits, error;
    } points[] = { { "timeline.alloc", 5, -ENOMEM },
                   { "timeline.file", 1, -EIO },
                   { "timeline.write", 1, -EIO },
                   { "timeline.thread", 1, -EAGAIN } };
    struct ty_timeline *t;
    struct ty_error err;

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        for (int visit = 1; visit <= points[i].visits; visit++) {
            ty_fault_arm(points[i].point, visit, EIO);
            assert_int_equal(ty_timeline_open(path, false, &t, &err), points[i].error);
        }
    ty_fault_arm(NULL, 0, 0);
}

/* The disk is full at some time: what was written before is a valid trace, and closing says so. */
static void no_room(void **state)
{
    struct ty_timeline *t;
    struct ty_error err;
    json_t *all;

    (void)state;
    assert_int_equal(ty_timeline_open(path, false, &t, &err), 0);
    record(t, 1);
    ty_timeline_sync(t);
    ty_fault_arm("timeline.write", 1, ENOSPC);
    record(t, 2);
    ty_timeline_sync(t);
    ty_fault_arm(NULL, 0, 0);
    record(t, 3);
    ty_timeline_sync(t);
    all = load(path);
    assert_true(row_of(all, "row 1") > 0);
    assert_int_equal(row_of(all, "row 2"), -1);
    assert_int_equal(row_of(all, "row 3"), -1);
    json_decref(all);
    assert_int_equal(ty_timeline_close(t, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "cannot be written"));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace),  cmocka_unit_test(what_is_refused),
        cmocka_unit_test(at_open),  cmocka_unit_test(many_records),
#ifdef TY_FAULTS
        cmocka_unit_test(no_start), cmocka_unit_test(no_room),
#endif
    };
    int r;

    snprintf(path, sizeof path, "/tmp/ty-timeline-%d.json", (int)getpid());
    snprintf(other, sizeof other, "%s.other", path);
    alarm(380);
    r = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return r;
}
