/* kit.c - what the store's tests share */
#include "kit.h"
#include "base/clock.h"
#include "base/fs.h"
#include <poll.h>
#include <sqlite3.h>
#include <sys/eventfd.h>

static void on_wake(void *ctx)
{
    struct kit *k = ctx;
    uint64_t one = 1;

    (void)!write(k->wake, &one, sizeof one);
}

int kit_open(struct kit *k, struct ty_error *err)
{
    return ty_store_open(k->home, on_wake, k, &k->st, err);
}

void kit_close(struct kit *k)
{
    k->st = ty_store_close(k->st);
}

int kit_setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    struct ty_error err = { 0 };

    snprintf(k->home, sizeof k->home, "/tmp/ty-store-XXXXXX");
    if (!mkdtemp(k->home))
        return -1;
    k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *state = k;
    return kit_open(k, &err);
}

int kit_teardown(void **state)
{
    struct kit *k = *state;

#ifdef TY_FAULTS
    ty_fault_arm("nothing", 0, EIO);
#endif
    kit_close(k);
    close(k->wake);
    ty_rm_rf(k->home);
    free(k);
    return 0;
}

void kit_done(void *ctx, int r)
{
    assert_int_equal(*(int *)ctx, NOT_YET); /* exactly once */
    *(int *)ctx = r;
}

void kit_pump(struct kit *k, const int *result)
{
    int64_t until = ty_mono_us() + 20000000;

    while (*result == NOT_YET && ty_mono_us() < until) {
        struct pollfd p = { .fd = k->wake, .events = POLLIN };
        uint64_t n;

        poll(&p, 1, 1000);
        (void)!read(k->wake, &n, sizeof n);
        ty_store_deliver(k->st);
    }
    assert_int_not_equal(*result, NOT_YET);
}

int kit_commit(struct kit *k, struct ty_unit *u)
{
    int r = NOT_YET;

    ty_store_commit(k->st, u, kit_done, &r);
    kit_pump(k, &r);
    return r;
}

void kit_event(struct ty_unit *u, int64_t id, int64_t seq, enum ty_run_event ev, const char *data,
               struct ty_run *run)
{
    CLEANUP_JSON json_t *d = json_loads(data ? data : "{}", 0, NULL);
    const json_t *code = json_object_get(d, "exit_code");
    struct ty_event_note note = { .at_us = T0 + seq,
                                  .exit_code = code ? (int)json_integer_value(code) : -1,
                                  .exit_signal =
                                      (int)json_integer_value(json_object_get(d, "exit_signal")) };

    assert_non_null(d);
    assert_int_equal(ty_run_apply(run, ev, &note), 0);
    ty_unit_event(u, id, seq, note.at_us, ty_run_event_word(ev), d, run);
}

void kit_note(struct ty_unit *u, int64_t id, int64_t seq, enum ty_note note, const char *data,
              const struct ty_run *run)
{
    CLEANUP_JSON json_t *d = json_loads(data, 0, NULL);

    assert_non_null(d);
    ty_unit_event(u, id, seq, T0 + seq, ty_note_word(note), d, run);
}

void kit_add_run(struct kit *k, struct ty_unit *u, const char *name, const char *experiment,
                 int64_t *id, struct ty_run *run)
{
    struct ty_run_row row = { .id = ty_store_next_id(k->st),
                              .name = name,
                              .experiment = experiment,
                              .target = "local",
                              .user = "ann",
                              .uid = 1000,
                              .command_line = "python3 train.py",
                              .token = "secret",
                              .spec = "{\"version\":1}",
                              .run = TY_RUN_INIT };

    ty_unit_run_add(u, &row);
    *run = row.run;
    *id = row.id;
    kit_event(u, row.id, 1, TY_EV_SUBMITTED, "{\"target\":\"local\",\"user\":\"ann\"}", run);
}

int64_t kit_run(struct kit *k, const char *name, const char *experiment, struct ty_run *run)
{
    struct ty_unit *u = ty_unit_new();
    struct ty_run mine;
    int64_t id;

    kit_add_run(k, u, name, experiment, &id, run ? run : &mine);
    assert_int_equal(kit_commit(k, u), 0);
    return id;
}

void kit_json_is(json_t *have, const char *text)
{
    CLEANUP_JSON json_t *mine = have;
    CLEANUP_JSON json_t *want = json_loads(text, JSON_DECODE_ANY, NULL);
    CLEANUP_FREE char *shown = json_dumps(have, JSON_ENCODE_ANY | JSON_COMPACT);

    assert_non_null(want);
    if (!json_equal(have, want))
        fail_msg("got %s, expected %s", shown ? shown : "nothing", text);
}

void kit_row(struct ty_str *s, enum ty_row_kind kind, const char *name, int64_t at_us,
             const void *value, size_t n)
{
    struct ty_row row = { .kind = kind,
                          .step = TY_ROW_NO_STEP,
                          .at_us = at_us,
                          .name = name,
                          .name_len = strlen(name),
                          .value = value,
                          .value_len = n };
    CLEANUP_FREE char *bytes = calloc(1, ty_row_size(&row));

    assert_int_equal(ty_row_encode(&row, bytes), 0);
    ty_str_addn(s, bytes, ty_row_size(&row));
}

void kit_row_double(struct ty_str *s, const char *name, int64_t at_us, double d)
{
    kit_row(s, TY_ROW_DOUBLE, name, at_us, &d, sizeof d);
}

void kit_sql(struct kit *k, const char *text)
{
    CLEANUP_FREE char *path = ty_strf("%s/state.db", k->home);
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}
