/* test_build.c - builds that are killed, doubled, cut off from their index, or out of space */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "box.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ALPHA "{\"pip\":{\"packages\":[\"ty-alpha\"],\"index_url\":\"%I\"}}"
#define BULKY "{\"pip\":{\"packages\":[\"ty-bulky\"],\"index_url\":\"%I\"}}"

static void says(const struct box *b, const char *words)
{
    if (!strstr(b->err.text, words))
        fail_msg("'%s' is not in: %s", words, b->err.text);
}

/* Names in envs/, but for known/ and locks. */
static char *prefixes(const struct box *b)
{
    CLEANUP_FREE char *command = ty_strf("ls %s/envs | grep -v -e known -e lock", b->cache);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };
    int status;

    return box_run(argv, &status);
}

/* ---- builders as processes ---- */

struct builder {
    pid_t pid;
    int log; /* its log arrives here, then its result as a last line */
};

static void tell(const char *line, void *ctx)
{
    const struct builder *me = ctx;

    dprintf(me->log, "%s\n", line);
}

/* The parent goes on with *ret; the child builds, says how it went, and ends. */
static void start_builder(struct box *b, const char *spec, struct builder *ret)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    ret->pid = fork();
    assert_true(ret->pid >= 0);
    if (ret->pid == 0) {
        struct builder me = { .log = fds[1] };
        struct ask a = { .spec = spec, .log = tell, .ctx = &me };
        struct ty_env e;
        int r = box_get(b, &a, &e);

        dprintf(me.log, "RESULT %s %s\n",
                r < 0                                              ? "failed"
                : json_is_true(json_object_get(e.record, "built")) ? "built"
                                                                   : "found",
                r < 0 ? b->err.text : e.interpreter);
        _exit(0);
    }
    close(fds[1]);
    ret->log = fds[0];
}

/* Reads until a line has `word` (or the end); what was read, malloc'ed. */
static char *read_until(const struct builder *p, const char *word)
{
    CLEANUP_STR struct ty_str s = { 0 };
    char c;

    while (read(p->log, &c, 1) == 1) {
        ty_str_addn(&s, &c, 1);
        if (c == '\n' && word && strstr(s.text, word))
            break;
    }
    return ty_str_take(&s);
}

static void end_builder(struct builder *p)
{
    int status;

    close(p->log);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
}

static void two_builders_build_once(void **state)
{
    struct box *b = *state;
    struct builder one, two;

    start_builder(b, BULKY, &one);
    CLEANUP_FREE char *begun = read_until(&one, "building environment");
    start_builder(b, BULKY, &two);
    CLEANUP_FREE char *first = read_until(&one, NULL), *second = read_until(&two, NULL);
    assert_non_null(strstr(first, "RESULT built"));
    assert_non_null(strstr(second, "another process is building this environment; waiting"));
    assert_non_null(strstr(second, "RESULT found"));
    end_builder(&one);
    end_builder(&two);
    assert_int_equal(box_requests(b, "GET /simple/ty-bulky/ty_bulky"), 1);
}

static void many_builders_of_many_environments(void **state)
{
    struct box *b = *state;
    static const char *const specs[] = {
        ALPHA, BULKY, "{\"pip\":{\"packages\":[\"ty-alpha\",\"ty-bulky\"],\"index_url\":\"%I\"}}"
    };
    struct builder v[6];

    for (size_t i = 0; i < 6; i++)
        start_builder(b, specs[i % 3], &v[i]);
    for (size_t i = 0; i < 6; i++) {
        CLEANUP_FREE char *said = read_until(&v[i], NULL);

        if (!strstr(said, "RESULT built") && !strstr(said, "RESULT found"))
            fail_msg("%s", said);
        end_builder(&v[i]);
    }
}

static bool ended(pid_t pid)
{
    for (int i = 0; i < 1000; i++) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return true;
        poll(NULL, 0, 10);
    }
    return false;
}

/* The pid of the child of `of`: 0 when it has none. */
static pid_t child_of(pid_t of)
{
    CLEANUP_FREE char *path = ty_strf("/proc/%d/task/%d/children", (int)of, (int)of), *text = NULL;

    return ty_read_file(path, 1000, &text, NULL) == 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static void a_killed_build_leaves_nothing_that_is_used(void **state)
{
    static const char *const at[] = { "building environment", "resolving",  "Collecting",
                                      "packages to be had",   "Installing", "linking" };
    struct box *b = *state;
    struct ask a = { .spec = ALPHA };
    struct ty_env e;
    int status;

    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct builder p;

        start_builder(b, ALPHA, &p);
        CLEANUP_FREE char *said = read_until(&p, at[i]);
        if (!strstr(said, at[i]))
            fail_msg("no line with '%s': %s", at[i], said);
        pid_t pip = child_of(p.pid);
        kill(p.pid, SIGKILL);
        end_builder(&p);
        assert_true(pip == 0 || ended(pip)); /* it does not go on alone */
        CLEANUP_FREE char *left = prefixes(b);
        assert_true(!*left || (ty_ends_with(left, ".building") && !strchr(left, '\n')));
    }
    if (box_get(b, &a, &e) < 0)
        fail_msg("%s", b->err.text);
    assert_true(json_is_true(json_object_get(e.record, "built")));
    CLEANUP_FREE char *said =
        box_python(e.interpreter, "import ty_alpha, ty_beta; print('both')", &status);
    assert_string_equal(said, "both");
    CLEANUP_FREE char *left = prefixes(b); /* the leftovers are gone */
    assert_null(strstr(left, "building"));
    ty_env_done(&e);
}

/* ---- no index ---- */

/* A port of loopback where nobody listens, or where connections are taken and nothing is ever answered. */
static int dead_port(bool silent, int *fd)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof in;

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&in, &n), 0);
    if (silent)
        assert_int_equal(listen(*fd, 16), 0);
    return ntohs(in.sin_port);
}

static void dead_index(struct box *b, bool silent, const char *more)
{
    struct ty_env e;
    int fd, port = dead_port(silent, &fd);
    CLEANUP_FREE char *url = ty_strf("http://me:geheim@127.0.0.1:%d/simple/", port);
    CLEANUP_FREE char *spec =
        ty_strf("{\"pip\":{\"packages\":[\"ty-alpha\"],\"index_url\":\"%s\"%s}}", url, more);
    CLEANUP_FREE char *shown = ty_strf("http://me:***@127.0.0.1:%d/simple/", port);
    struct ask a = { .spec = spec };

    assert_int_equal(box_get(b, &a, &e), -ENETUNREACH);
    says(b, shown);
    says(b, "does not answer");
    says(b, "trainyard env ls");
    assert_null(strstr(b->err.text, "geheim"));
    assert_null(strstr(b->log.text, "geheim"));
    close(fd);
}

static void a_dead_index_is_named(void **state)
{
    dead_index(*state, false, "");
}

static void an_index_that_never_answers_is_named(void **state)
{
    dead_index(*state, true, "");
}

/* What is there works without one: the same again, another environment of known packages by their lock. */
static void what_is_cached_needs_no_index(void **state)
{
    struct box *b = *state;
    struct ask a = { .spec = ALPHA };
    struct ty_env e, again;
    int status;

    if (box_get(b, &a, &e) < 0)
        fail_msg("%s", b->err.text);
    close(b->server_in);
    waitpid(b->server, &status, 0);
    b->server_in = -1;
    a.offline = true;
    assert_int_equal(box_get(b, &a, &again), 0);
    assert_string_equal(e.prefix, again.prefix);
    ty_env_done(&again);

    CLEANUP_JSON json_t *spec = json_pack("{s:{s:[s]}, s:O}", "pip", "packages", "ty-alpha", "lock",
                                          json_object_get(e.record, "lock"));
    CLEANUP_FREE char *text = json_dumps(spec, 0);
    a.spec = text;
    if (box_get(b, &a, &again) < 0)
        fail_msg("%s", b->err.text);
    assert_string_not_equal(e.prefix, again.prefix);
    ty_env_done(&again);

    a.spec = BULKY;
    assert_true(box_get(b, &a, &again) < 0);
    ty_env_done(&e);
}

/* ---- no space ---- */

/* In a process of its own, whose /tmp/... it is. 0: as it should be; 77: a file system cannot be mounted here. */
static int on_a_full_disk(struct box *b)
{
    struct ask a = { .spec = BULKY };
    struct ty_env e;
    int r;

    if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mkdir(b->cache, 0700) < 0 ||
        mount("none", b->cache, "tmpfs", 0, "size=6m") < 0)
        return 77;
    r = box_get(b, &a, &e);
    if (r != -ENOSPC) {
        fprintf(stderr, "%d %s\n%s\n", r, b->err.text, b->log.text);
        return 1;
    }
    if (!strstr(b->err.text, "full") || !strstr(b->err.text, "trainyard env gc"))
        return 2;
    CLEANUP_FREE char *left = prefixes(b);
    a.spec = ALPHA; /* there is room for this one */
    if (*left || box_get(b, &a, &e) < 0)
        return 3;
    return 0;
}

static void a_full_disk_is_named(void **state)
{
    struct box *b = *state;
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(on_a_full_disk(b));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- bad names ---- */

static void what_is_no_name_is_refused(void **state)
{
    static const char *const specs[] = {
        "{\"pip\":{\"packages\":[\"ty-alpha\\n--pre\"]}}",
        "{\"pip\":{\"packages\":[\"--index-url=http://x\"]}}",
        "{\"pip\":{\"packages\":[\"-r/etc/passwd\"]}}",
        "{\"pip\":{\"packages\":[\"\"]}}",
        "{\"pip\":{\"packages\":[\"ty-alpha\"],\"constraints\":[\"a\\nb\"]}}",
        "{\"pip\":{\"packages\":[\"ty-alpha\"],\"index_url\":\"http://x\\n\"}}",
    };
    struct box *b = *state;
    struct ty_env e;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct ask a = { .spec = specs[i] };

        assert_int_equal(box_get(b, &a, &e), -EINVAL);
        says(b, "environment");
    }
    assert_int_equal(access(b->cache, F_OK), -1);
}

static void names_with_dots_lead_nowhere(void **state)
{
    struct box *b = *state;
    struct ask a = { .spec = "{\"pip\":{\"packages\":[\"../../etc\"],\"index_url\":\"%I\"}}" };
    struct ty_env e;

    assert_int_equal(box_get(b, &a, &e), -ENOENT);
    says(b, "../../etc");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, box_set_up, box_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(two_builders_build_once),
        TEST(many_builders_of_many_environments),
        TEST(a_killed_build_leaves_nothing_that_is_used),
        TEST(a_dead_index_is_named),
        TEST(an_index_that_never_answers_is_named),
        TEST(what_is_cached_needs_no_index),
        TEST(a_full_disk_is_named),
        TEST(what_is_no_name_is_refused),
        TEST(names_with_dots_lead_nowhere),
    };

    return cmocka_run_group_tests_name("env build", tests, NULL, NULL);
}
