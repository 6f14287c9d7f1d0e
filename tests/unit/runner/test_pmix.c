/* test_pmix.c - MPI programs whose ranks are started here, with the PMIx helper of one node and of two
 *
 * Helpers, libpmix, Open MPI and the programs are real.  This program is its own helper; the nodes all
 * lie on this machine, and here is the leader, too, who joins their fences.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/owner.h"
#include "base/str.h"
#include "runner/fence.h"
#include "runner/pmix.h"
#include "runner/pmix_helper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_US (60 * 1000 * 1000)
#define NODES_MAX 2
#define RANKS_MAX 8

struct world {
    char dir[64];
    int nnodes, per, ended;
    const struct ty_owner *owner;
    struct ty_pmix *helper[NODES_MAX];
    struct ty_fences *fences;
    int fenced; /* fences that all nodes have come to */
    pid_t pid[RANKS_MAX];
    int status[RANKS_MAX]; /* -1: it runs */
    bool ready[NODES_MAX], gone[NODES_MAX];
    char mpi[256], note[512];
    int abort_rank, abort_code; /* -1: nobody has */
    int failed;                 /* the code of FAILED */
    char why[512];
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    snprintf(w->dir, sizeof w->dir, "/tmp/ty-pmix-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(chmod(w->dir, 0755), 0);
    w->abort_rank = -1;
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < w->nnodes * w->per; i++)
        if (w->pid[i] > 0 && w->status[i] < 0)
            kill(w->pid[i], SIGKILL);
    for (int i = 0; i < w->nnodes; i++)
        ty_pmix_free(w->helper[i]);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    ty_fences_free(w->fences);
    ty_rm_rf(w->dir);
    free(w);
    return 0;
}

/* ---- helpers ---- */

static void open_world(struct world *w, int nnodes, int per)
{
    static const struct ty_pmix_node layout[] = { { "alpha", 0 }, { "beta", 0 } };
    struct ty_pmix_node nodes[NODES_MAX];

    w->nnodes = nnodes;
    w->per = per;
    w->fences = ty_fences_new(nnodes);
    for (int i = 0; i < nnodes; i++)
        nodes[i] = (struct ty_pmix_node){ layout[i].name, per };
    for (int i = 0; i < nnodes; i++) {
        CLEANUP_FREE char *name = ty_strf("job%d", i), *dir = ty_path_join(w->dir, name);
        CLEANUP_FREE char *tmp = ty_path_join(dir, "tmp");
        struct ty_pmix_spec s = { .job_dir = w->dir,
                                  .name_space = "trainyard-test-1",
                                  .tmp = tmp,
                                  .nodes = nodes,
                                  .nnodes = nnodes,
                                  .node = i,
                                  .cpus = 1, /* ranks of two nodes share the machine: they yield */
                                  .owner = w->owner,
                                  .err = 2 };
        struct ty_error err = { 0 };

        assert_int_equal(mkdir(dir, 0755), 0);
        if (w->owner)
            assert_int_equal(chown(dir, w->owner->uid, w->owner->gid), 0);
        assert_int_equal(ty_pmix_start(&s, &w->helper[i], &err), 0);
    }
}

static void on_event(struct world *w, int node, const struct ty_pmix_event *ev)
{
    struct ty_fence_joined j;

    switch (ev->kind) {
    case TY_PMIX_IS_READY:
        w->ready[node] = true;
        break;
    case TY_PMIX_IS_FAILED:
        w->failed = ev->code;
        snprintf(w->why, sizeof w->why, "%s", ev->text);
        break;
    case TY_PMIX_HAS_MPI:
        snprintf(w->mpi, sizeof w->mpi, "%s", ev->text);
        break;
    case TY_PMIX_HAS_NOTE:
        snprintf(w->note, sizeof w->note, "%s", ev->text);
        break;
    case TY_PMIX_HAS_ABORT:
        w->abort_rank = ev->rank;
        w->abort_code = ev->code;
        break;
    case TY_PMIX_HAS_FENCE:
        if (ty_fences_add(w->fences, node, ev->key, ev->key_len, ev->nodes, ev->blob, ev->len,
                          &j) != 1)
            break;
        w->fenced++;
        for (int i = 0; i < j.nnodes; i++)
            assert_int_equal(ty_pmix_fence_done(w->helper[j.nodes[i]], j.key, strlen(j.key),
                                                (uint32_t)j.nnodes, j.blob, j.len),
                             0);
        break;
    }
}

static void reap(struct world *w)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < w->nnodes * w->per; i++)
            if (w->pid[i] == pid) {
                w->status[i] = status;
                w->ended++;
            }
        for (int i = 0; i < w->nnodes; i++)
            ty_pmix_reaped(w->helper[i], pid, status);
    }
}

/* Events until `done`. */
static void until(struct world *w, bool (*done)(const struct world *))
{
    int64_t end = ty_mono_us() + WAIT_US;

    while (!done(w)) {
        struct pollfd p[NODES_MAX];

        assert_true(ty_mono_us() < end);
        for (int i = 0; i < w->nnodes; i++) {
            struct ty_pmix_event ev;
            int r;

            while ((r = ty_pmix_next(w->helper[i], &ev)) == 0)
                on_event(w, i, &ev);
            w->gone[i] = r == -EPIPE;
            p[i].fd = ty_pmix_fd(w->helper[i], &p[i].events);
        }
        reap(w);
        if (!done(w))
            poll(p, (nfds_t)w->nnodes, 20); /* ranks that end make no noise */
    }
}

static bool all_ready(const struct world *w)
{
    bool yes = true;

    for (int i = 0; i < w->nnodes; i++)
        yes = yes && (w->ready[i] || w->gone[i]);
    return yes;
}

static bool all_ended(const struct world *w)
{
    return w->ended == w->nnodes * w->per;
}

static bool all_gone(const struct world *w)
{
    bool yes = true;

    for (int i = 0; i < w->nnodes; i++)
        yes = yes && w->gone[i];
    return yes;
}

static bool has_aborted(const struct world *w)
{
    return w->abort_rank >= 0;
}

static bool one_ended(const struct world *w)
{
    return w->ended > 0;
}

static bool knows_mpi(const struct world *w)
{
    return w->mpi[0];
}

static void run_rank(struct world *w, int rank, char *const *argv)
{
    char *const *add = ty_pmix_env(w->helper[rank / w->per], rank % w->per);
    char *env[64] = { (char *)"PATH=/usr/bin:/bin", (char *)"HOME=/nonexistent" };
    int n = 2;

    assert_non_null(add);
    while (*add && n < 60)
        env[n++] = *add++;
    assert_null(*add);
    env[n++] = (char *)"OMPI_MCA_btl_tcp_if_include=lo"; /* where there is no other network */
    w->status[rank] = -1;
    w->pid[rank] = fork();
    assert_true(w->pid[rank] >= 0);
    if (w->pid[rank] == 0) {
        dup2(2, 1); /* stdout is for the results */
        if (w->owner && ty_owner_become(w->owner) < 0)
            _exit(125);
        execve(argv[0], argv, env);
        _exit(127);
    }
}

static void run(struct world *w, char *const *argv)
{
    for (int i = 0; i < w->nnodes * w->per; i++)
        run_rank(w, i, argv);
}

/* `a`, `b` may be NULL. */
static void run_mpi(struct world *w, const char *a, const char *b)
{
    char *argv[] = { getenv("TRAINYARD_MPI_MAIN"), (char *)a, (char *)b, NULL };

    assert_non_null(argv[0]);
    run(w, argv);
}

static void expect_good(const struct world *w)
{
    for (int i = 0; i < w->nnodes * w->per; i++)
        if (w->status[i] != 0)
            fail_msg("rank %d ended with status %#x", i, (unsigned)w->status[i]);
}

/* Entries of a folder whose names begin so. */
static int count(const char *dir, const char *prefix)
{
    CLEANUP_DIR DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)))
        n += ty_starts_with(e->d_name, prefix) && e->d_name[0] != '.';
    return n;
}

/* The folder with the shared memory of a node's ranks, malloc'ed. */
static char *shm_of(const struct world *w, int node)
{
    static const char name[] = "OMPI_MCA_btl_vader_backing_directory=";
    char *const *env = ty_pmix_env(w->helper[node], 0);

    while (*env && !ty_starts_with(*env, name))
        env++;
    assert_non_null(*env);
    return strdup(*env + strlen(name));
}

/* The helpers end when they are told to, and nothing is left in memory or in their folders. */
static void close_world(struct world *w)
{
    for (int i = 0; i < w->nnodes; i++)
        ty_pmix_stop(w->helper[i]);
    until(w, all_gone);
    for (int i = 0; i < w->nnodes; i++) {
        CLEANUP_FREE char *tmp = ty_strf("%s/job%d/tmp", w->dir, i), *shm = shm_of(w, i);

        assert_int_equal(count(tmp, "pmix"), 0);
        assert_true(ty_starts_with(shm, "/dev/shm/trainyard-"));
        w->helper[i] = ty_pmix_free(w->helper[i]);
        assert_int_equal(access(shm, F_OK), -1);
    }
    w->nnodes = 0;
}

/* ---- tests ---- */

static void test_one_node(void **state)
{
    struct world *w = *state;

    open_world(w, 1, 3);
    assert_null(ty_pmix_env(w->helper[0], 0));
    until(w, all_ready);
    assert_true(w->ready[0]);
    assert_non_null(strstr(ty_pmix_version(w->helper[0]), "PMIx 4."));
    assert_null(ty_pmix_env(w->helper[0], 3));
    assert_null(ty_pmix_env(w->helper[0], -1));
    run_mpi(w, "sum", "3");
    until(w, all_ended);
    expect_good(w);
    assert_int_equal(w->fenced, 0); /* the helper's own affair */
    assert_int_equal(w->abort_rank, -1);
    until(w, knows_mpi);
    assert_non_null(strstr(w->mpi, "Open MPI v4."));
    assert_string_equal(ty_pmix_mpi(w->helper[0]), w->mpi);
    close_world(w);
}

static void test_two_nodes(void **state)
{
    struct world *w = *state;

    open_world(w, 2, 2);
    until(w, all_ready);
    run_mpi(w, "sum", "2");
    until(w, all_ended);
    expect_good(w);
    assert_true(w->fenced > 0);
    assert_int_equal(ty_fences_open(w->fences), 0);
    close_world(w);
}

static void test_much_between_nodes(void **state)
{
    struct world *w = *state;

    open_world(w, 2, 1);
    until(w, all_ready);
    run_mpi(w, "much", NULL);
    until(w, all_ended);
    expect_good(w);
}

static void test_mpi4py(void **state)
{
    struct world *w = *state;
    char *argv[] = { (char *)"/usr/bin/python3", (char *)"-c",
                     (char *)"from mpi4py import MPI\n"
                             "c = MPI.COMM_WORLD\n"
                             "assert c.allreduce(c.rank + 1) == 10, c.size\n"
                             "assert c.allgather(str(c.rank)) == list('0123')\n"
                             "assert c.Split_type(MPI.COMM_TYPE_SHARED).size == 2\n",
                     NULL };

    open_world(w, 2, 2);
    until(w, all_ready);
    run(w, argv);
    until(w, all_ended);
    expect_good(w);
}

static void test_abort(void **state)
{
    struct world *w = *state;

    open_world(w, 1, 3);
    until(w, all_ready);
    run_mpi(w, "abort", NULL);
    until(w, has_aborted);
    assert_int_equal(w->abort_rank, 1);
    assert_int_equal(w->abort_code, 7);
    until(w, one_ended);
    assert_int_equal(WEXITSTATUS(w->status[1]), 7);
    kill(w->pid[0], SIGKILL); /* as a runner ends the others */
    kill(w->pid[2], SIGKILL);
    until(w, all_ended);
    close_world(w);
}

/* The others are not ended by the helper: that is the runner's business, who sees the rank's end. */
static void test_a_rank_is_killed(void **state)
{
    struct world *w = *state;

    open_world(w, 2, 2);
    until(w, all_ready);
    run_mpi(w, "die", NULL);
    until(w, one_ended);
    assert_int_equal(w->status[1], SIGKILL);
    assert_int_equal(w->abort_rank, -1);
    for (int i = 0; i < 4; i++)
        if (w->status[i] < 0)
            kill(w->pid[i], SIGKILL);
    until(w, all_ended);
    close_world(w);
}

static void test_spawning_is_refused(void **state)
{
    struct world *w = *state;

    open_world(w, 1, 2);
    until(w, all_ready);
    run_mpi(w, "spawn", NULL);
    until(w, all_ended);
    expect_good(w);
    assert_non_null(strstr(w->note, "rank 0 called MPI_Comm_spawn, which is refused"));
    assert_non_null(strstr(w->note, "process_count_per_node"));
}

static void test_as_another_user(void **state)
{
    struct world *w = *state;
    struct ty_owner *o = NULL;

    if (geteuid() != 0 || ty_owner_check() < 0)
        skip();
    assert_int_equal(ty_owner_find("nobody", &o, NULL), 0);
    w->owner = o;
    open_world(w, 1, 2);
    until(w, all_ready);
    assert_true(w->ready[0]);
    run_mpi(w, "sum", "2");
    until(w, all_ended);
    expect_good(w);
    close_world(w);
    ty_owner_free(o);
}

/* The runner dies without a word: so does the helper, and leaves nothing. */
static void test_without_a_runner(void **state)
{
    struct world *w = *state;
    CLEANUP_FREE char *note = ty_path_join(w->dir, "shm"), *shm = NULL;
    int status = -1;
    pid_t runner = fork();

    assert_true(runner >= 0);
    if (runner == 0) {
        open_world(w, 1, 2);
        until(w, all_ready);
        shm = shm_of(w, 0);
        ty_write_file(note, shm, strlen(shm), 0600);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(runner, &status, 0), runner);
    assert_int_equal(status, SIGKILL);
    assert_int_equal(ty_read_file(note, 256, &shm, NULL), 0);
    for (int64_t end = ty_mono_us() + WAIT_US; access(shm, F_OK) == 0; usleep(1000))
        assert_true(ty_mono_us() < end);
}

static void test_no_library(void **state)
{
#ifdef TY_FAULTS
    struct world *w = *state;

    setenv("TY_FAULT", "pmix.dlopen:1", 1);
    open_world(w, 1, 2);
    unsetenv("TY_FAULT");
    until(w, all_gone);
    assert_int_equal(w->failed, -ENOENT);
    assert_non_null(strstr(w->why, "libpmix.so.2 cannot be opened"));
    assert_non_null(strstr(w->why, "MPI programs cannot find each other here"));
    assert_false(w->ready[0]);
    assert_null(ty_pmix_env(w->helper[0], 0));
    assert_string_equal(ty_pmix_version(w->helper[0]), "");
#else
    (void)state; /* the build with faults has it */
#endif
}

/* What a runner says that is no layout is refused with a sentence. */
static void test_odd_layouts(void **state)
{
    struct world *w = *state;
    static const struct ty_pmix_node no_name[] = { { "", 1 } }, list[] = { { "a,b", 1 } },
                                     none[] = { { "a", 0 } };
    static const struct ty_pmix_node *const odd[] = { no_name, list, none };

    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct ty_pmix_spec s = { .job_dir = w->dir,
                                  .name_space = "odd",
                                  .tmp = w->dir,
                                  .nodes = odd[i],
                                  .nnodes = 1,
                                  .err = 2 };

        w->failed = 0;
        w->nnodes = 1;
        assert_int_equal(ty_pmix_start(&s, &w->helper[0], NULL), 0);
        w->gone[0] = false;
        until(w, all_gone);
        assert_int_equal(w->failed, -EINVAL);
        assert_non_null(strstr(w->why, "PMIx helper"));
        w->helper[0] = ty_pmix_free(w->helper[0]);
        w->nnodes = 0;
    }
}

/* A layout whose maps the library compresses. */
static void test_many_nodes(void **state)
{
    enum { N = 1000 };
    struct world *w = *state;
    struct ty_pmix_node *nodes = calloc(N, sizeof *nodes);
    struct ty_pmix_spec s = { .job_dir = w->dir,
                              .name_space = "many",
                              .tmp = w->dir,
                              .nodes = nodes,
                              .nnodes = N,
                              .node = N - 1,
                              .err = 2 };

    for (int i = 0; i < N; i++)
        nodes[i] = (struct ty_pmix_node){ ty_strf("node-of-a-large-cluster-%d", 7 * i), 4 };
    w->nnodes = 1;
    w->per = 0;
    assert_int_equal(ty_pmix_start(&s, &w->helper[0], NULL), 0);
    until(w, all_ready);
    assert_true(w->ready[0]);
    assert_non_null(ty_pmix_env(w->helper[0], 3));
    assert_null(ty_pmix_env(w->helper[0], 4));
    for (int i = 0; i < N; i++)
        free((char *)nodes[i].name);
    free(nodes);
}

static void test_what_cannot_begin(void **state)
{
    struct world *w = *state;
    static const struct ty_pmix_node one[] = { { "a", 1 } };
    CLEANUP_FREE char *file = ty_path_join(w->dir, "file"), *below = ty_path_join(file, "tmp");
    struct ty_pmix_spec s = {
        .job_dir = w->dir, .name_space = "x", .tmp = below, .nodes = one, .nnodes = 1, .err = 2
    };
    struct ty_error err = { 0 };
    struct ty_pmix *p = NULL;

    assert_int_equal(ty_write_file(file, "", 0, 0600), 0);
    assert_int_equal(ty_pmix_start(&s, &p, &err), -ENOTDIR);
    assert_non_null(strstr(err.text, "starting the PMIx helper: cannot make the folder"));
    assert_null(p);
    assert_null(ty_pmix_free(NULL));
    assert_int_equal(ty_pmix_helper_main("x"), 2);
    assert_int_equal(ty_pmix_helper_main("1"), 2);
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(test_one_node),
                                        T(test_two_nodes),
                                        T(test_much_between_nodes),
                                        T(test_mpi4py),
                                        T(test_abort),
                                        T(test_a_rank_is_killed),
                                        T(test_spawning_is_refused),
                                        T(test_as_another_user),
                                        T(test_without_a_runner),
                                        T(test_no_library),
                                        T(test_odd_layouts),
                                        T(test_many_nodes),
                                        T(test_what_cannot_begin) };

    if (argc == 3 && strcmp(argv[1], "pmix") == 0)
        return ty_pmix_helper_main(argv[2]);
    return cmocka_run_group_tests_name("pmix", tests, NULL, NULL);
}
