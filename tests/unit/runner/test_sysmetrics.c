/* test_sysmetrics.c - the helper that samples, as a process, and what it writes */
#include "base/error.h"
#include "base/fs.h"
#include "base/gpu.h"
#include "base/str.h"
#include "runner/child.h"
#include "runner/spool.h"
#include "runner/sysmetrics.h"
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ty-sysmetrics.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    unsetenv("TRAINYARD_TEST_NVML");
    return ty_rm_rf(dir);
}

struct heard {
    int writer, samples;
};

static void hear(json_t *line, void *ctx)
{
    const char *kind = json_string_value(json_object_get(line, "kind"));
    struct heard *h = ctx;

    if (strcmp(kind, "sampler") == 0)
        h->writer = (int)json_integer_value(json_object_get(line, "writer"));
    h->samples += strcmp(kind, "sampled") == 0;
}

/* The names of all rows, with a blank behind each; the helper has made `samples` samples. */
static char *names_of(struct ty_sysmetrics *m, int samples)
{
    struct heard h = { .writer = -1 };
    struct ty_child c = TY_CHILD_INIT;
    struct ty_spool_reader *reader = NULL;
    struct ty_str names = { 0 };
    struct ty_error err = { 0 };
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *buf = malloc(TY_SPOOL_ROW_MAX);
    uint64_t first;
    uint32_t count;
    ptrdiff_t n;
    bool failed;

    m->spool = dir;
    assert_int_equal(ty_child_start(&c, ty_sysmetrics_main, m, &err), 0);
    while (h.samples < samples) {
        struct pollfd p = { .fd = c.fd, .events = POLLIN };

        assert_int_equal(poll(&p, 1, 30000), 1);
        assert_int_equal(ty_child_read(&c, hear, &h, &failed), 0);
    }
    ty_child_kill(&c);
    assert_true(h.writer >= 0);
    path = ty_strf("%s/rows-%d.spool", dir, h.writer);
    assert_int_equal(ty_spool_reader_open(path, &reader, &err), 0);
    while ((n = ty_spool_read(reader, buf, TY_SPOOL_ROW_MAX, &first, &count)) > 0)
        for (char *at = buf; at < buf + n;) {
            struct ty_row row;
            double value;

            at += ty_row_decode(at, (size_t)(buf + n - at), &row);
            assert_int_equal(row.kind, TY_ROW_DOUBLE);
            assert_true(ty_row_is_system(row.name, row.name_len));
            assert_true(row.at_us > 0 && row.step == TY_ROW_NO_STEP);
            memcpy(&value, row.value, sizeof value);
            assert_true(value >= 0);
            ty_str_addf(&names, "%.*s ", (int)row.name_len, row.name);
        }
    ty_spool_reader_free(reader);
    return ty_str_take(&names);
}

static int times(const char *text, const char *word)
{
    int n = 0;

    for (; (text = strstr(text, word)); text += strlen(word))
        n++;
    return n;
}

static void test_a_machine(void **state)
{
    struct ty_systree_rank rank = { .rank = 3, .wrapper = getpid() };
    struct ty_sysmetrics m = {
        .node = "", .gpus = "", .seconds = 1, .first_us = 1000, .ranks = &rank, .nranks = 1
    };
    CLEANUP_FREE char *names = names_of(&m, 2);

    (void)state;
    assert_int_equal(times(names, "system/memory_used_mb "), 2);
    assert_int_equal(times(names, "system/memory_percent "), 2);
    assert_int_equal(times(names, "system/disk_free_mb "), 2);
    assert_int_equal(times(names, "system/network_received_bytes_per_s "), 2);
    assert_int_equal(times(names, "system/rank3/cpu_percent "), 2);
    assert_int_equal(times(names, "system/rank3/memory_mb "), 2);
    assert_true(times(names, "system/cpu_percent ") >= 1); /* none where no tick went by */
    assert_int_equal(times(names, "gpu"), 0);
}

static void test_a_node_with_gpus(void **state)
{
    static const char gpus[] = "gpu GPU-a A 100 10 20 30 40\ngpu GPU-b B 100 - - - 50\n"
                               "gpu GPU-c C 100 1 2 3 4\n";
    struct ty_sysmetrics m = { .node = "h1", .gpus = "0,GPU-b", .seconds = 60, .first_us = 1000 };
    CLEANUP_FREE char *from = ty_strf("%s/libnvml-whole.so", getenv("TRAINYARD_NVML_FOLDER"));
    CLEANUP_FREE char *library = ty_path_join(dir, "nvml.so");
    CLEANUP_FREE char *list = ty_path_join(dir, "nvml.so.gpus");
    CLEANUP_FREE char *names = NULL;

    (void)state;
    assert_int_equal(symlink(from, library), 0);
    assert_int_equal(ty_write_file(list, gpus, strlen(gpus), 0600), 0);
    setenv("TRAINYARD_TEST_NVML", library, 1);
    names = names_of(&m, 1);
    assert_int_equal(times(names, "system/h1/memory_used_mb "), 1);
    assert_int_equal(times(names, "system/h1/gpu0/utilization_percent "), 1);
    assert_int_equal(times(names, "system/h1/gpu0/memory_used_mb "), 1);
    assert_int_equal(times(names, "system/h1/gpu0/power_watts "), 1);
    assert_int_equal(times(names, "system/h1/gpu0/temperature_c "), 1);
    assert_int_equal(times(names, "system/h1/gpu1/power_watts "), 1);
    assert_int_equal(times(names, "gpu1/"), 2); /* the library says more of memory than the list */
    assert_int_equal(times(names, "gpu2/"), 0);
}

static void test_which_gpus(void **state)
{
    (void)state;
    assert_true(ty_sysmetrics_has_gpu(NULL, 5, "GPU-x"));
    assert_true(ty_sysmetrics_has_gpu("1,5", 5, "GPU-x"));
    assert_true(ty_sysmetrics_has_gpu("GPU-x", 5, "GPU-x"));
    assert_true(ty_sysmetrics_has_gpu("3,GPU-x,4", 5, "GPU-x"));
    assert_false(ty_sysmetrics_has_gpu("", 5, "GPU-x"));
    assert_false(ty_sysmetrics_has_gpu("55,15", 5, "GPU-x"));
    assert_false(ty_sysmetrics_has_gpu("GPU-xy", 5, "GPU-x"));
}

/* Every ten seconds in the first hour; a month has less than fifty thousand samples. */
static void test_wait(void **state)
{
    const int64_t second = 1000000, month = 30 * 86400 * second;
    int64_t n = 0;

    (void)state;
    assert_int_equal(ty_sysmetrics_wait(10, 0), 10 * second);
    assert_int_equal(ty_sysmetrics_wait(10, 3600 * second), 10 * second);
    assert_int_equal(ty_sysmetrics_wait(10, 7200 * second), 20 * second);
    assert_int_equal(ty_sysmetrics_wait(10, month), 60 * second);
    assert_int_equal(ty_sysmetrics_wait(300, month), 300 * second);
    for (int64_t at = 0; at < month; at += ty_sysmetrics_wait(10, at))
        n++;
    assert_true(n > 43000 && n < 45000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_a_machine), T(test_a_node_with_gpus),
                                        T(test_which_gpus), T(test_wait) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
