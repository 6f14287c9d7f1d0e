/* test_launch.c - rank wrappers: what they start, tell and end; this program is its own wrapper */
#include "base/error.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "runner/launch.h"
#include "runner/rank.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000

struct box {
    char dir[64];
    char *log;
    int64_t files;
    char **after;
    struct ty_rank rank;
};

static int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    snprintf(b->dir, sizeof b->dir, "/tmp/ty-launch-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->log = ty_path_join(b->dir, "log");
    b->rank = (struct ty_rank)TY_RANK_INIT;
    assert_int_equal(ty_write_file(b->log, "", 0, 0600), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct box *b = *state;

    ty_rank_done(&b->rank);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    ty_rm_rf(b->dir);
    free(b->log);
    free(b);
    return 0;
}

static int start(struct box *b, const char *program, const char *shell, struct ty_error *err)
{
    char *argv[] = { (char *)program, (char *)"-c", (char *)shell, NULL };
    char *env[] = { (char *)"PATH=/usr/bin:/bin", (char *)"NAME=a value", NULL };
    struct ty_launch_spec s = { .job_dir = b->dir,
                                .work = b->dir,
                                .log = b->log,
                                .argv = argv,
                                .env = env,
                                .files = b->files,
                                .after = b->after,
                                .err = -1 };

    return ty_rank_start(&s, &b->rank, err);
}

/* The next report, or false when the wrapper is gone. */
static bool next(struct box *b, struct ty_report *rep)
{
    for (;;) {
        struct pollfd p = { .fd = b->rank.line, .events = POLLIN };
        int r;

        assert_true(poll(&p, 1, WAIT_MS) > 0);
        r = ty_rank_report(&b->rank, rep);
        assert_true(r == 0 || r == -EPIPE || r == -EAGAIN);
        if (r != -EAGAIN)
            return r == 0;
    }
}

static void start_well(struct box *b, const char *shell, struct ty_report *started)
{
    struct ty_error err = { 0 };

    if (start(b, "/bin/sh", shell, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(next(b, started));
    assert_int_equal(started->kind, TY_REPORT_STARTED);
}

static char *log_of(struct box *b)
{
    char *text = NULL;
    size_t n;

    assert_int_equal(ty_read_file(b->log, 100000, &text, &n), 0);
    return text;
}

static void test_a_program(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *log = NULL, *want = ty_strf("a value\n%s\nno input\nto stderr\n", b->dir);
    struct ty_report rep;
    int status;
    pid_t wrapper;

    start_well(b, "echo $NAME; pwd; cat; echo no input; echo to stderr >&2; exit 7", &rep);
    wrapper = b->rank.pid;
    assert_true(rep.value > 0 && rep.value != wrapper);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_true(WIFEXITED(rep.value) && WEXITSTATUS(rep.value) == 7);
    assert_false(next(b, &rep));
    assert_int_equal(waitpid(wrapper, &status, 0), wrapper);
    assert_int_equal(WEXITSTATUS(status), 7);
    log = log_of(b);
    assert_string_equal(log, want);
}

/* The runner may need more files than its programs are to have. */
static void test_limit_of_files(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *log = NULL;
    struct ty_report rep;

    b->files = 77;
    start_well(b, "ulimit -n", &rep);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    log = log_of(b);
    assert_string_equal(log, "77\n");
}

static void test_a_signal(void **state)
{
    struct box *b = *state;
    struct ty_report rep;

    start_well(b, "kill -9 $$", &rep);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_true(WIFSIGNALED(rep.value) && WTERMSIG(rep.value) == SIGKILL);
}

/* What a killed tool has left is removed; one that ended by itself has removed it. */
static void test_what_is_run_after(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *mark = ty_strf("%s/mark", b->dir), *touch = ty_strf("echo $NAME > %s", mark);
    char *after[] = { (char *)"/bin/sh", (char *)"-c", touch, NULL };
    CLEANUP_FREE char *text = NULL;
    struct ty_report rep;
    size_t n;

    b->after = after;
    start_well(b, "exit 3", &rep);
    assert_true(next(b, &rep));
    assert_false(next(b, &rep));
    assert_int_equal(access(mark, F_OK), -1);
    ty_rank_done(&b->rank);
    start_well(b, "kill -9 $$", &rep);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_int_equal(ty_read_file(mark, 100, &text, &n), 0);
    assert_string_equal(text, "a value\n");
}

static void test_no_such_program(void **state)
{
    struct box *b = *state;
    struct ty_error err = { 0 };
    struct ty_report rep;

    assert_int_equal(start(b, "/bin/absent", "", &err), 0);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_FAILED);
    assert_int_equal(rep.value, -ENOENT);
    assert_non_null(strstr(rep.text, "'/bin/absent'"));
    assert_false(next(b, &rep));
}

static bool alive(int pid)
{
    return kill(pid, 0) == 0;
}

/* The pid that the program wrote, once it is there. */
static int read_pid(struct box *b, const char *name)
{
    CLEANUP_FREE char *path = ty_path_join(b->dir, name);
    int pid = 0;

    for (int i = 0; i < WAIT_MS / 5 && pid == 0; i++) {
        CLEANUP_FREE char *text = NULL;
        size_t n;

        if (ty_read_file(path, 100, &text, &n) == 0 && strchr(text, '\n'))
            sscanf(text, "%d", &pid);
        usleep(5000);
    }
    assert_true(pid > 0);
    return pid;
}

#define TREE \
    "setsid sh -c 'echo $$ > escaped; exec sleep 100' & sh -c 'echo $$ > child; exec sleep 100' & "

/* What the program leaves behind ends with it, also in a session of its own. */
static void test_leftovers(void **state)
{
    struct box *b = *state;
    struct ty_report rep;
    int escaped, child;

    start_well(b, TREE "while [ ! -s escaped ] || [ ! -s child ]; do sleep 0.01; done", &rep);
    escaped = read_pid(b, "escaped");
    child = read_pid(b, "child");
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_false(alive(escaped));
    assert_false(alive(child));
}

/* The runner's end of the line is its life: when it closes, nothing of the job goes on. */
static void test_a_broken_line(void **state)
{
    struct box *b = *state;
    struct ty_report rep;
    int escaped, status;
    pid_t wrapper;

    start_well(b, TREE "trap '' TERM; while :; do sleep 0.05; done", &rep);
    escaped = read_pid(b, "escaped");
    wrapper = b->rank.pid;
    ty_rank_done(&b->rank);
    assert_int_equal(waitpid(wrapper, &status, 0), wrapper);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_false(alive(escaped));
    assert_false(alive(rep.value));
}

/* The wrapper outlives the signals that are meant for its program. */
static void test_signals_are_for_the_program(void **state)
{
    struct box *b = *state;
    struct ty_report rep;

    start_well(b, "trap 'exit 3' TERM; echo $$ > ready; while :; do sleep 0.02; done", &rep);
    assert_int_equal(read_pid(b, "ready"), rep.value);
    assert_int_equal(kill(b->rank.pid, SIGTERM), 0);
    assert_int_equal(kill(b->rank.pid, SIGINT), 0);
    assert_int_equal(kill(b->rank.pid, SIGHUP), 0);
    assert_int_equal(kill(rep.value, SIGTERM), 0);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_int_equal(WEXITSTATUS(rep.value), 3);
}

/* What stands in /proc/PID/<name> of the wrapper, NULs as blanks. */
static char *of_wrapper(const struct box *b, const char *name)
{
    CLEANUP_FREE char *path = ty_strf("/proc/%d/%s", (int)b->rank.pid, name);
    char *text = NULL;
    size_t n;

    assert_int_equal(ty_read_file(path, 1 << 16, &text, &n), 0);
    for (size_t i = 0; i < n; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    return text;
}

/* The mark by which a later runner finds it; and the plan, with the user's secrets, in no place
 * where others could read it. */
static void test_what_shows_of_it(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *mark = ty_strf(" TRAINYARD_JOB=%s ", b->dir), *env = NULL, *line = NULL;
    struct ty_report rep;

    start_well(b, "echo secret; exec sleep 1000", &rep);
    assert_true(fcntl(b->rank.line, F_GETFD) & FD_CLOEXEC);
    env = of_wrapper(b, "environ");
    line = of_wrapper(b, "cmdline");
    assert_non_null(strstr(env, mark));
    assert_null(strstr(env, "NAME="));
    assert_null(strstr(line, "secret"));
    assert_non_null(strstr(line, " rank "));
}

/* While the program runs there is nothing to tell; after the end of the line there is nobody. */
static void test_done(void **state)
{
    struct box *b = *state;
    struct ty_report rep;

    start_well(b, "exec sleep 1000", &rep);
    assert_int_equal(ty_rank_report(&b->rank, &rep), -EAGAIN);
    ty_rank_done(&b->rank);
    assert_int_equal(b->rank.pid, 0);
    assert_int_equal(b->rank.line, -1);
    ty_rank_done(&b->rank); /* nobody: nothing */
}

/* A plan beyond what a pipe would hold, with characters that JSON has to escape. */
static void test_long_plan(void **state)
{
    struct box *b = *state;
    CLEANUP_FREE char *xs = malloc(100001), *shell = NULL, *log = NULL;
    struct ty_report rep;

    assert_non_null(xs);
    memset(xs, 'x', 100000);
    xs[100000] = '\0';
    shell = ty_strf("x=%s; test ${#x} = 100000 && printf %%s '\"\n\x01\xc3\xa4\\'", xs);
    start_well(b, shell, &rep);
    assert_true(next(b, &rep));
    assert_int_equal(rep.kind, TY_REPORT_EXITED);
    assert_int_equal(rep.value, 0);
    log = log_of(b);
    assert_string_equal(log, "\"\n\x01\xc3\xa4\\");
}

/* No descriptor is left: the sentence says what could not be done, and nothing was started. */
static void test_no_descriptors(void **state)
{
    struct box *b = *state;
    struct ty_error err = { 0 };
    struct rlimit was, few;
    int free_fd = dup(STDERR_FILENO), r;

    assert_true(free_fd >= 0);
    close(free_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    for (int left = 0; left < 3; left++) { /* the plan; the plan and one end; the plan and both */
        few = was;
        few.rlim_cur = (rlim_t)(free_fd + left);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        r = start(b, "/bin/sh", "true", &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
        assert_int_equal(r, -EMFILE);
        assert_string_equal(err.text,
                            left == 0 ? "cannot write the plan of the process: Too many open files"
                                      : "cannot make a socket: Too many open files");
        assert_int_equal(b->rank.pid, 0);
        assert_int_equal(b->rank.line, -1);
        assert_int_equal(dup2(STDERR_FILENO, free_fd), free_fd); /* nothing is kept open */
        close(free_fd);
    }
}

/* What is no report, and a text without its end. */
static void test_odd_reports(void **state)
{
    struct box *b = *state;
    struct ty_report sent = { .kind = TY_REPORT_FAILED, .value = -EIO }, rep = { .value = 77 };
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    b->rank.line = fds[0];
    memset(sent.text, 'x', sizeof sent.text);
    assert_int_equal(ty_rank_report(&b->rank, &rep), -EAGAIN);
    assert_int_equal(send(fds[1], &sent, sizeof sent, 0), sizeof sent);
    assert_int_equal(ty_rank_report(&b->rank, &rep), 0);
    assert_int_equal(rep.value, -EIO);
    assert_int_equal(strlen(rep.text), sizeof rep.text - 1);
    assert_int_equal(send(fds[1], "half", 4, 0), 4);
    assert_int_equal(ty_rank_report(&b->rank, &rep), -EPIPE);
    close(fds[1]);
    assert_int_equal(ty_rank_report(&b->rank, &rep), -EPIPE);
}

static void test_by_hand(void **state)
{
    (void)state;
    assert_int_equal(ty_rank_main(2, (char *[]){ (char *)"x", (char *)"rank", NULL }), 2);
    assert_int_equal(ty_rank_main(4, (char *[]){ (char *)"x", (char *)"rank", (char *)"a",
                                                 (char *)"9999", NULL }),
                     2);
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_program),        T(test_limit_of_files),
        T(test_a_signal),         T(test_what_is_run_after),
        T(test_no_such_program),  T(test_leftovers),
        T(test_a_broken_line),    T(test_signals_are_for_the_program),
        T(test_what_shows_of_it), T(test_done),
        T(test_long_plan),        T(test_no_descriptors),
        T(test_odd_reports),      T(test_by_hand)
    };

    if (argc > 1 && strcmp(argv[1], "rank") == 0)
        return ty_rank_main(argc, argv);
    return cmocka_run_group_tests_name("launch", tests, NULL, NULL);
}
