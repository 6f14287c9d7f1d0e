/* test_procstat.c - what texts of /proc say */
#include "base/fs.h"
#include "base/str.h"
#include "runner/procstat.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_cpu(void **state)
{
    struct ty_proc_cpu c = { .busy = 7 };

    (void)state;
    assert_int_equal(ty_procstat_cpu("cpu  100 20 30 1000 50 3 4 5 11 0\ncpu0 1 1 1 1\n", &c), 0);
    assert_int_equal(c.busy, 100 + 20 + 30 + 3 + 4 + 5);
    assert_int_equal(c.all, c.busy + 1000 + 50);
    assert_int_equal(ty_procstat_cpu("cpu 1 2 3 4\n", &c), 0); /* an old kernel */
    assert_int_equal(c.all, 10);
    assert_int_equal(ty_procstat_cpu("cpu0 1 2 3 4\n", &c), -EBADMSG);
    assert_int_equal(ty_procstat_cpu("cpu 1 2 3\n", &c), -EBADMSG);
    assert_int_equal(ty_procstat_cpu("", &c), -EBADMSG);
    assert_int_equal(c.all, 10);
}

static void test_memory(void **state)
{
    struct ty_proc_memory m;

    (void)state;
    assert_int_equal(ty_procstat_memory("MemTotal:       65790372 kB\nMemFree:  1 kB\n"
                                        "MemAvailable:   49254528 kB\nBuffers: 2 kB\n",
                                        &m),
                     0);
    assert_int_equal(m.total_kb, 65790372);
    assert_int_equal(m.available_kb, 49254528);
    assert_int_equal(ty_procstat_memory("MemTotal: 1 kB\nMemFree: 1 kB\n", &m), -EBADMSG);
    assert_int_equal(ty_procstat_memory("MemTotal: many kB\nMemAvailable: 1 kB\n", &m), -EBADMSG);
    assert_int_equal(ty_procstat_memory("", &m), -EBADMSG);
}

static void test_network(void **state)
{
    static const char text[] =
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
        "    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0\n"
        "  eth0: 18446744073709551 12 0 0 0 0 0 0 345 6 0 0 0 0 0 0\n"
        "wlan0:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
    struct ty_proc_flow f;

    (void)state;
    assert_int_equal(ty_procstat_network(text, &f), 0);
    assert_true(f.in == 18446744073709551 + 5 && f.out == 345 + 7);
    assert_int_equal(ty_procstat_network("  lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n", &f), 0);
    assert_true(f.in == 0 && f.out == 0);
    assert_int_equal(ty_procstat_network("nothing\n", &f), -EBADMSG);
}

static bool is_sda(const char *name, void *ctx)
{
    ++*(int *)ctx;
    return strcmp(name, "sda") == 0;
}

static void test_disks(void **state)
{
    static const char text[] = "   8       0 sda 100 2 1000 3 50 4 2000 5 0 6 7 0 0 0 0 8 9\n"
                               "   8       1 sda1 90 2 900 3 40 4 1900 5 0 6 7\n"
                               " 7 0 loop0 1 0 8 0 0 0 0 0 0 0 0\n";
    struct ty_proc_flow f;
    int asked = 0;

    (void)state;
    assert_int_equal(ty_procstat_disks(text, is_sda, &asked, &f), 0);
    assert_int_equal(asked, 3);
    assert_true(f.in == 1000 * 512 && f.out == 2000 * 512);
    assert_int_equal(ty_procstat_disks("8 0 sda\n", is_sda, &asked, &f), -EBADMSG);
}

static void test_process(void **state)
{
    struct ty_proc_stat p;

    (void)state;
    assert_int_equal(ty_procstat_process(
                         "4711 (a) b (c)) S 42 4711 4711 0 -1 4194304 500 600 0 0 10 20 30 40 20 "
                         "0 3 0 987654 123456789 2500 18446744073709551615 1 1\n",
                         &p),
                     0);
    assert_int_equal(p.pid, 4711);
    assert_int_equal(p.parent, 42);
    assert_int_equal(p.ticks, 100);
    assert_int_equal(p.start, 987654);
    assert_int_equal(p.resident_pages, 2500);
    assert_int_equal(ty_procstat_process("4711 (a) S 42 4711\n", &p), -EBADMSG);
    assert_int_equal(ty_procstat_process("4711 a S 42\n", &p), -EBADMSG);
    assert_int_equal(ty_procstat_process("", &p), -EBADMSG);
}

/* What this kernel writes is understood. */
static void test_this_process(void **state)
{
    CLEANUP_FREE char *text = NULL;
    struct ty_proc_stat p;

    (void)state;
    assert_int_equal(ty_read_file("/proc/self/stat", 4096, &text, NULL), 0);
    assert_int_equal(ty_procstat_process(text, &p), 0);
    assert_int_equal(p.pid, getpid());
    assert_int_equal(p.parent, getppid());
    assert_true(p.resident_pages > 0);
}

static void group_is(const char *text, const char *want, bool want_unified)
{
    bool unified = !want_unified;
    char path[64];

    assert_int_equal(ty_procstat_cgroup(text, path, sizeof path, &unified), 0);
    assert_string_equal(path, want);
    assert_int_equal(unified, want_unified);
}

static void test_cgroup(void **state)
{
    bool unified;
    char path[8];

    (void)state;
    group_is("0::/user.slice/x.scope\n", "/user.slice/x.scope", true);
    group_is("0::/\n", "/", true);
    group_is("11:cpu,cpuacct:/c\n9:memory:/docker/abc\n0::/u\n", "/docker/abc", false);
    group_is("0::/u\n9:hugetlb,memory:/docker/a:b\n", "/docker/a:b", false);
    group_is("9:memory_like:/x\n1:name=systemd:/y\n0::/u\n", "/u", true);
    assert_int_equal(ty_procstat_cgroup("9:pids:/x\n", path, sizeof path, &unified), -EBADMSG);
    assert_int_equal(ty_procstat_cgroup("0::\n", path, sizeof path, &unified), -EBADMSG);
    assert_int_equal(ty_procstat_cgroup("0::/much/longer\n", path, sizeof path, &unified),
                     -EBADMSG);
    assert_int_equal(ty_procstat_cgroup("", path, sizeof path, &unified), -EBADMSG);
}

static void test_value(void **state)
{
    uint64_t n = 7;

    (void)state;
    assert_int_equal(ty_procstat_value("anon 1\nfile_x 2\nfile 3\n", "file", &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(ty_procstat_value("file\n", "file", &n), -EBADMSG);
    assert_int_equal(ty_procstat_value("file 99999999999999999999999\n", "file", &n), -EBADMSG);
    assert_int_equal(n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),     cmocka_unit_test(test_memory),
        cmocka_unit_test(test_network), cmocka_unit_test(test_disks),
        cmocka_unit_test(test_process), cmocka_unit_test(test_this_process),
        cmocka_unit_test(test_cgroup),  cmocka_unit_test(test_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
