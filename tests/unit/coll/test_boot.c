/* test_boot.c - rank and size from launchers' variables, and which exchange they lead to */
#include "base/cleanup.h"
#include "coll/boot.h"
#include "tests.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS 20000

static const char *const variables[] = {
    "HOROVOD_RANK",
    "HOROVOD_SIZE",
    "TRAINYARD_COLL_RANK",
    "TRAINYARD_COLL_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "PMIX_NAMESPACE",
    "PMIX_RANK",
    "TRAINYARD_COLL_RENDEZVOUS",
    "TRAINYARD_COLL_SECRET",
    "HOROVOD_GLOO_RENDEZVOUS_ADDR",
    "HOROVOD_GLOO_RENDEZVOUS_PORT",
    "HOROVOD_SECRET_KEY",
};

/* Exactly these: "A=1 B=2". */
static void set(const char *text)
{
    CLEANUP_FREE char *copy = strdup(text);
    char *save;

    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    for (char *one = strtok_r(copy, " ", &save); one; one = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(one, '=');

        assert_non_null(equals);
        *equals = '\0';
        setenv(one, equals + 1, 1);
    }
}

/* ---- rank and size ---- */

static void test_launchers(void **state)
{
    static const struct {
        const char *env;
        int rank, size;
        const char *launcher;
    } cases[] = {
        { "", 0, 1, "alone" },
        { "HOROVOD_RANK=1 HOROVOD_SIZE=4", 1, 4, "horovodrun" },
        { "TRAINYARD_COLL_RANK=3 TRAINYARD_COLL_SIZE=4", 3, 4, "trainyard" },
        { "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3", 2, 3, "openmpi" },
        { "PMI_RANK=0 PMI_SIZE=2", 0, 2, "pmi" },
        { "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2", 1, 2, "slurm" },
        { "RANK=5 WORLD_SIZE=8 MASTER_ADDR=a", 5, 8, "torchrun" },
        { "RANK=0 WORLD_SIZE=1", 0, 1, "torchrun" },
        /* An agent's job of one process that calls mpirun or srun. */
        { "RANK=0 WORLD_SIZE=1 OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3", 2, 3, "openmpi" },
        { "RANK=0 WORLD_SIZE=1 MASTER_ADDR=a OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3", 2, 3,
          "openmpi" },
        { "RANK=0 WORLD_SIZE=1 SLURM_STEP_ID=4 SLURM_PROCID=1 SLURM_NTASKS=2", 1, 2, "slurm" },
        /* srun or mpirun that starts one torchrun on each node. */
        { "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2 RANK=9 WORLD_SIZE=16 MASTER_ADDR=a TORCHELASTIC_RUN_ID=x",
          9, 16, "torchrun" },
        { "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 RANK=9 WORLD_SIZE=16 TORCHELASTIC_RUN_ID=x",
          9, 16, "torchrun" },
        /* horovodrun and mpirun inside a batch job. */
        { "SLURM_PROCID=0 SLURM_NTASKS=8 HOROVOD_RANK=1 HOROVOD_SIZE=2", 1, 2, "horovodrun" },
        { "SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=8 OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3",
          2, 3, "openmpi" },
        { "PMI_RANK=1 PMI_SIZE=2 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2", 1, 2, "pmi" },
        /* A batch script itself is one process, however many tasks it may start. */
        { "SLURM_PROCID=0 SLURM_NTASKS=8", 0, 1, "alone" },
        { "SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_STEP_ID=4294967291", 0, 1, "alone" },
        { "SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_STEP_ID=-5", 0, 1, "alone" },
        /* A step of two tasks inside an allocation for eight. */
        { "SLURM_PROCID=1 SLURM_NTASKS=8 SLURM_STEP_ID=1 SLURM_STEP_NUM_TASKS=2", 1, 2, "slurm" },
        /* A word that other programs use, too; and empty variables. */
        { "RANK=7", 0, 1, "alone" },
        { "HOROVOD_RANK= HOROVOD_SIZE= RANK=1 WORLD_SIZE=2", 1, 2, "torchrun" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_world w = { -1, -1, NULL };
        struct ty_error err = { 0 };

        set(cases[i].env);
        if (ty_world_from_env(&w, &err) < 0)
            fail_msg("%s: %s", cases[i].env, err.text);
        if (w.rank != cases[i].rank || w.size != cases[i].size ||
            strcmp(w.launcher, cases[i].launcher) != 0)
            fail_msg("%s: rank %d of %d by %s", cases[i].env, w.rank, w.size, w.launcher);
    }
}

static void test_contradictions(void **state)
{
    static const struct {
        const char *env, *text[3];
    } cases[] = {
        { "HOROVOD_RANK=2", { "HOROVOD_RANK is 2", "HOROVOD_SIZE is not set" } },
        { "HOROVOD_SIZE=2", { "HOROVOD_SIZE is 2", "HOROVOD_RANK is not set" } },
        { "OMPI_COMM_WORLD_RANK=4 OMPI_COMM_WORLD_SIZE=4",
          { "OMPI_COMM_WORLD_RANK is '4'", "OMPI_COMM_WORLD_SIZE=4", "from 0 to 3" } },
        { "PMI_RANK=-1 PMI_SIZE=2", { "PMI_RANK is '-1'", "PMI_SIZE=2" } },
        { "PMI_RANK=one PMI_SIZE=2", { "PMI_RANK is 'one'", "PMI_SIZE=2" } },
        { "PMI_RANK=0 PMI_SIZE=0", { "PMI_SIZE is '0'" } },
        { "TRAINYARD_COLL_RANK=0 TRAINYARD_COLL_SIZE=2x", { "TRAINYARD_COLL_SIZE is '2x'" } },
        { "TRAINYARD_COLL_RANK=0 TRAINYARD_COLL_SIZE=99999999999999999999",
          { "TRAINYARD_COLL_SIZE is '99999999999999999999'" } },
        { "SLURM_STEP_ID=0 SLURM_PROCID=1", { "SLURM_PROCID is 1", "SLURM_NTASKS is not set" } },
        { "MASTER_ADDR=a WORLD_SIZE=2", { "WORLD_SIZE is 2", "RANK is not set" } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_world w = { -1, -1, NULL };
        struct ty_error err = { 0 };

        set(cases[i].env);
        assert_int_equal(ty_world_from_env(&w, &err), -EINVAL);
        assert_int_equal(err.code, -EINVAL);
        for (int t = 0; t < 3 && cases[i].text[t]; t++)
            if (!strstr(err.text, cases[i].text[t]))
                fail_msg("%s: '%s' does not say '%s'", cases[i].env, err.text, cases[i].text[t]);
        assert_int_equal(w.size, -1);
    }
}

/* MASTER_ADDR with neither: its name alone says nothing of ranks. */
static void test_only_a_master(void **state)
{
    struct ty_world w;
    struct ty_error err = { 0 };

    (void)state;
    set("MASTER_ADDR=a MASTER_PORT=1234");
    assert_int_equal(ty_world_from_env(&w, &err), 0);
    assert_string_equal(w.launcher, "alone");
}

/* ---- the exchange ---- */

static void test_alone(void **state)
{
    struct ty_world w = { 0, 1, "alone" };
    struct ty_error err = { 0 };
    struct ty_coll_boot b;
    void *got;
    size_t n;

    (void)state;
    set("");
    assert_int_equal(ty_boot_from_env(&w, TIMEOUT_MS, &b, &err), 0);
    assert_int_equal(b.put(b.ctx, "a", "one", 3, &err), 0);
    assert_int_equal(b.put(b.ctx, "b", NULL, 0, &err), 0);
    assert_int_equal(b.put(b.ctx, "a", "two!", 4, &err), 0);
    assert_int_equal(b.fence(b.ctx, TIMEOUT_MS, &err), 0);
    assert_int_equal(b.get(b.ctx, 0, "a", &got, &n, &err), 0);
    assert_int_equal(n, 4);
    assert_memory_equal(got, "two!", 4);
    free(got);
    assert_int_equal(b.get(b.ctx, 0, "b", &got, &n, &err), 0);
    assert_int_equal(n, 0);
    free(got);
    assert_int_equal(b.get(b.ctx, 0, "c", &got, &n, &err), -ENOENT);
    assert_int_equal(b.get(b.ctx, 1, "a", &got, &n, &err), -ENOENT);
    assert_non_null(strstr(err.text, "rank 1 has put nothing under 'a'"));
    ty_boot_forked(&b);
    b.close(b.ctx);
}

struct rank {
    pthread_t thread;
    struct ty_world world;
    int r;
    struct ty_error err;
};

static void *exchange(void *arg)
{
    struct rank *me = arg;
    struct ty_coll_boot b;

    me->r = ty_boot_from_env(&me->world, TIMEOUT_MS, &b, &me->err);
    if (me->r < 0)
        return NULL;
    me->r = b.put(b.ctx, "rank", &me->world.rank, sizeof me->world.rank, &me->err);
    if (me->r == 0)
        me->r = b.fence(b.ctx, TIMEOUT_MS, &me->err);
    for (int i = 0; i < me->world.size && me->r == 0; i++) {
        void *got;
        size_t n;

        me->r = b.get(b.ctx, i, "rank", &got, &n, &me->err);
        if (me->r < 0)
            break;
        assert_int_equal(n, sizeof(int));
        assert_memory_equal(got, &i, n);
        free(got);
    }
    b.close(b.ctx);
    return NULL;
}

static void exchange_all(const char *launcher, int size)
{
    struct rank ranks[4] = { 0 };

    for (int i = 0; i < size; i++) {
        ranks[i].world = (struct ty_world){ i, size, launcher };
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, exchange, &ranks[i]), 0);
    }
    for (int i = 0; i < size; i++)
        assert_int_equal(pthread_join(ranks[i].thread, NULL), 0);
    for (int i = 0; i < size; i++)
        if (ranks[i].r < 0)
            fail_msg("rank %d: %s", i, ranks[i].err.text);
}

/* The port is taken, but nobody listens. */
static int bind_port(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One of ten ports that belong to this process: below those that the kernel hands out by itself. */
static int bind_free(int *port)
{
    int fd;

    for (int i = 0; i < 2000; i++) {
        *port = 10000 + (getpid() + i) % 2000 * 10;
        fd = bind_port(*port);
        if (fd >= 0)
            return fd;
    }
    fail_msg("no port is free");
    return -1;
}

static void test_master(void **state)
{
    CLEANUP_CLOSE int first = -1, second = -1;
    char env[100];
    int port;

    (void)state;
    /* MASTER_PORT and the one after it are somebody's. */
    first = bind_free(&port);
    second = bind_port(port + 1);
    assert_true(second >= 0);
    snprintf(env, sizeof env, "MASTER_ADDR=127.0.0.1 MASTER_PORT=%d", port);
    set(env);
    exchange_all("torchrun", 3);
    exchange_all("torchrun", 2); /* and again, at the same port */
    snprintf(env, sizeof env, "MASTER_ADDR=localhost MASTER_PORT=%d TORCHELASTIC_RUN_ID=x", port);
    set(env);
    exchange_all("torchrun", 2);
    snprintf(env, sizeof env, "MASTER_ADDR=localhost MASTER_PORT=%d TRAINYARD_COLL_SECRET=s", port);
    set(env);
    exchange_all("slurm", 2);
}

static void test_a_rendezvous_by_name(void **state)
{
    struct ty_rendezvous *s;
    struct ty_error err = { 0 };
    char env[200];
    int port, fd = bind_free(&port);

    (void)state;
    /* Opened by rank 0, at just that port. */
    close(fd);
    snprintf(env, sizeof env,
             "TRAINYARD_COLL_RENDEZVOUS=127.0.0.1:%d MASTER_ADDR=no-such-host.invalid", port);
    set(env);
    exchange_all("torchrun", 3);
    /* Opened by the launcher. */
    assert_int_equal(ty_rendezvous_open("127.0.0.1", 0, "one", 2, &s, &err), 0);
    snprintf(env, sizeof env, "TRAINYARD_COLL_RENDEZVOUS=127.0.0.1:%d TRAINYARD_COLL_SECRET=one",
             ty_rendezvous_port(s));
    set(env);
    exchange_all("trainyard", 2);
    exchange_all("torchrun", 2); /* rank 0 finds the port in use, and that it is the right one */
    snprintf(
        env, sizeof env,
        "HOROVOD_GLOO_RENDEZVOUS_ADDR=127.0.0.1 HOROVOD_GLOO_RENDEZVOUS_PORT=%d HOROVOD_SECRET_KEY=one",
        ty_rendezvous_port(s));
    set(env);
    exchange_all("horovodrun", 2);
    ty_rendezvous_free(s);
}

static void test_no_way(void **state)
{
    static const struct {
        const char *env, *launcher;
        int r;
        const char *text;
    } cases[] = {
        { "", "pmi", -ENOENT, "rank 1 of 2 (from pmi) has no way to find the others" },
        { "", "slurm", -ENOENT, "srun --mpi=pmix" },
        { "", "openmpi", -ENOENT, "MASTER_ADDR and MASTER_PORT" },
        { "MASTER_ADDR=a", "torchrun", -EINVAL, "MASTER_PORT is not set" },
        { "MASTER_ADDR=a MASTER_PORT=0", "torchrun", -EINVAL, "MASTER_PORT is '0'" },
        { "MASTER_ADDR=a MASTER_PORT=65536", "torchrun", -EINVAL, "MASTER_PORT is '65536'" },
        { "TRAINYARD_COLL_RENDEZVOUS=host", "torchrun", -EINVAL,
          "TRAINYARD_COLL_RENDEZVOUS is 'host', and not host:port" },
        { "TRAINYARD_COLL_RENDEZVOUS=host:x", "torchrun", -EINVAL, "and not host:port" },
        { "TRAINYARD_COLL_RENDEZVOUS=:1", "torchrun", -EINVAL, "and not host:port" },

        { "HOROVOD_GLOO_RENDEZVOUS_ADDR=a", "horovodrun", -EINVAL,
          "HOROVOD_GLOO_RENDEZVOUS_PORT is not set" },
        { "TRAINYARD_COLL_RENDEZVOUS=[::1]:1", "trainyard", -ETIMEDOUT,
          "which the launcher opens" },
        { "TRAINYARD_COLL_RENDEZVOUS=127.0.0.1:1", "torchrun", -ETIMEDOUT, "which rank 0 opens" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ty_world w = { 1, 2, cases[i].launcher };
        struct ty_coll_boot b;
        struct ty_error err = { 0 };
        int r;

        set(cases[i].env);
        r = ty_boot_from_env(&w, 50, &b, &err);
        if (r != cases[i].r || !strstr(err.text, cases[i].text))
            fail_msg("%s: %d, '%s'", cases[i].env, r, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launchers),     cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_only_a_master), cmocka_unit_test(test_alone),
        cmocka_unit_test(test_master),        cmocka_unit_test(test_a_rendezvous_by_name),
        cmocka_unit_test(test_no_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
