/* pmix_main.c - one rank under mpirun: an exchange through PMIx (test_pmix starts it)
 *
 *   pmix_main twice     two worlds, one after the other; each rank must see what all put into its world, and nothing else
 *   pmix_main both      two worlds at once
 *   pmix_main before    MPI is used first, and ends first: PMIx is refused, and MASTER_ADDR is used where it is set
 *   pmix_main inside    MPI is used first, and ends last
 *   pmix_main after     MPI is used afterwards
 *   pmix_main missing   the last rank does not come until the others have given up and said so
 *   pmix_main faults    each call of the library fails once (builds with fault points; else 77)
 *
 * Exit code 0, or 1 and a line on stderr; 77: no MPI library here.
 */
#include "base/fault.h"
#include "base/str.h"
#include "coll/boot.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 20000

#define CHECK(what, ...) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "rank %d: %s does not hold", w.rank, #what); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
            exit(1); \
        } \
    } while (0)

static struct ty_world w;

static void put(struct ty_coll_boot *b, const char *key, int world)
{
    struct ty_error err = { 0 };
    char text[2000];
    int n = snprintf(text, sizeof text, "%s of rank %d in world %d", key, w.rank, world);

    /* Values of different lengths, an empty one among them, with bytes that are no text. */
    memset(text + n, 0, sizeof text - (size_t)n);
    CHECK(b->put(b->ctx, key, text, (size_t)n + 1 + (size_t)w.rank * 100, &err) == 0, ": %s",
          err.text);
    CHECK(b->put(b->ctx, "empty", "", 0, &err) == 0, ": %s", err.text);
}

static void check(struct ty_coll_boot *b, const char *key, int world)
{
    for (int rank = 0; rank < w.size; rank++) {
        struct ty_error err = { 0 };
        char want[100];
        void *got;
        size_t n;

        snprintf(want, sizeof want, "%s of rank %d in world %d", key, rank, world);
        CHECK(b->get(b->ctx, rank, key, &got, &n, &err) == 0, ": %s", err.text);
        CHECK(n == strlen(want) + 1 + (size_t)rank * 100, ": %zu bytes", n);
        CHECK(strcmp(got, want) == 0, ": '%s', not '%s'", (char *)got, want);
        free(got);
        CHECK(b->get(b->ctx, rank, "empty", &got, &n, &err) == 0, ": %s", err.text);
        CHECK(n == 0, ": %zu bytes", n);
        free(got);
        CHECK(b->get(b->ctx, rank, "nothing", &got, &n, &err) == -ENOENT, ": %s", err.text);
    }
}

static struct ty_coll_boot enter(void)
{
    struct ty_error err = { 0 };
    struct ty_coll_boot b;

    CHECK(ty_boot_from_env(&w, TIMEOUT_MS, &b, &err) == 0, ": %s", err.text);
    return b;
}

static void fence(struct ty_coll_boot *b)
{
    struct ty_error err = { 0 };

    CHECK(b->fence(b->ctx, TIMEOUT_MS, &err) == 0, ": %s", err.text);
}

static void one_world(int world)
{
    struct ty_coll_boot b = enter();

    if (world % 2 == 0) /* not in every one: an older value would be seen */
        put(&b, "sometimes", world);
    put(&b, "address", world);
    fence(&b);
    check(&b, "address", world);
    if (world % 2 == 0) {
        check(&b, "sometimes", world);
    } else {
        struct ty_error err;
        void *got;
        size_t n;

        CHECK(b.get(b.ctx, 0, "sometimes", &got, &n, &err) == -ENOENT, " in world %d", world);
    }
    /* And a second fence in the same world. */
    put(&b, "more", world);
    fence(&b);
    check(&b, "more", world);
    b.close(b.ctx);
}

static void two_at_once(void)
{
    struct ty_coll_boot a = enter(), b = enter();

    put(&a, "address", 100);
    put(&b, "address", 200);
    fence(&b);
    fence(&a);
    check(&a, "address", 100);
    check(&b, "address", 200);
    a.close(a.ctx);
    b.close(b.ctx);
}

/* ---- MPI in the same process ---- */

static void mpi(void *so, const char *name)
{
    void *f = dlsym(so, name);
    int (*call)(void *, void *);

    CHECK(f != NULL, ": %s", name);
    memcpy(&call, &f, sizeof f);
    CHECK(call(NULL, NULL) == 0, ": %s", name);
}

static void after_mpi(void)
{
    struct ty_coll_boot b;
    struct ty_error err = { 0 };
    char port[20];

    unsetenv("MASTER_ADDR");
    CHECK(ty_boot_from_env(&w, TIMEOUT_MS, &b, &err) == -ENOENT, ": %s", err.text);
    CHECK(strstr(err.text, "MPI was used in this process and has ended"), ": %s", err.text);
    CHECK(strstr(err.text, "MASTER_ADDR"), ": %s", err.text);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    /* Equal on all ranks, and another in another job at the same time. */
    snprintf(port, sizeof port, "%ld",
             10000 + strtol(getenv("PMIX_NAMESPACE"), NULL, 10) / 65536 % 2000 * 10);
    setenv("MASTER_PORT", port, 1);
    one_world(0);
    one_world(1);
}

static void beside_mpi(const char *mode)
{
    void *so = dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);

    if (!so)
        exit(77);
    if (strcmp(mode, "after") == 0)
        one_world(0);
    mpi(so, "MPI_Init");
    if (strcmp(mode, "inside") == 0)
        one_world(0);
    mpi(so, "MPI_Finalize");
    if (strcmp(mode, "before") == 0)
        after_mpi();
    else
        one_world(1);
}

/* ---- a rank that does not come ---- */

/* Others show that they have given up by a file in the folder that the test names. */
static void missing(void)
{
    const char *dir = getenv("TEST_DIR");
    struct ty_coll_boot b = enter();
    struct ty_error err = { 0 };
    char path[300];

    CHECK(dir != NULL, ": no folder");
    if (w.rank == w.size - 1) {
        for (int rank = 0; rank < w.size - 1; rank++) {
            int fd;

            snprintf(path, sizeof path, "%s/%d", dir, rank);
            fd = open(path, O_RDONLY | O_CLOEXEC); /* a FIFO: waits for the other side */
            CHECK(fd >= 0, ": %m");
            close(fd);
        }
    } else {
        put(&b, "address", 0);
        CHECK(b.fence(b.ctx, 300, &err) == -ETIMEDOUT, ": %s", err.text);
        CHECK(strstr(err.text, "rank 2 of 3 has not come") != NULL, ": '%s'", err.text);
        snprintf(path, sizeof path, "%s/%d", dir, w.rank);
        close(open(path, O_WRONLY | O_CLOEXEC));
    }
    b.close(b.ctx);
    snprintf(path, sizeof path, "%s/good%d", dir, w.rank);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

/* ---- failures ---- */

#ifdef TY_FAULTS
static void faults(void)
{
    static const char *const points[] = { "pmix.dlopen", "pmix.alloc", "pmix.init", "pmix.put",
                                          "pmix.commit", "pmix.wait",  "pmix.get" };

    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct ty_coll_boot b = { 0 };
        struct ty_error err = { 0 };
        void *got;
        size_t n;
        int r;

        ty_fault_arm(points[i], 1, EIO);
        r = ty_boot_pmix(&w, &b, &err);
        if (r == 0)
            r = b.put(b.ctx, "address", "here", 4, &err);
        if (r == 0)
            r = b.fence(b.ctx, TIMEOUT_MS, &err);
        if (r == 0)
            r = b.get(b.ctx, w.rank, "address", &got, &n, &err);
        CHECK(r < 0, ": %s", points[i]);
        CHECK(err.code == r && err.text[0], ": %s: %d, '%s'", points[i], r, err.text);
        CHECK((r == -ENOENT) == (i == 0), ": %s: %d, '%s'", points[i], r, err.text);
        ty_fault_arm("none", 0, 0);
        if (b.close)
            b.close(b.ctx);
    }
    one_world(0);
}
#else
static void faults(void)
{
    exit(77);
}
#endif

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "twice";
    struct ty_error err = { 0 };

    alarm(380);
    CHECK(ty_world_from_env(&w, &err) == 0, ": %s", err.text);
    CHECK(strcmp(w.launcher, "openmpi") == 0, ": %s", w.launcher);
    if (strcmp(mode, "twice") == 0) {
        one_world(0);
        one_world(1);
        one_world(2);
    } else if (strcmp(mode, "both") == 0) {
        two_at_once();
    } else if (strcmp(mode, "missing") == 0) {
        missing();
    } else if (strcmp(mode, "faults") == 0) {
        faults();
    } else {
        beside_mpi(mode);
    }
    return 0;
}
