/* What fails on one rank, at whatever point, is an error there and on the others, never a wait without end: memory, threads
 * and system calls fail one after the other in a world that opens, does some of everything, and closes. */
#include "base/fault.h"
#include "tests.h"
#include "world.h"
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RANKS = 4, STEP = 3 * WORLD_THIN };

/* What the processes tell. */
struct told {
    _Atomic int visits, opened;
};

/* Which rank fails, on how many nodes. */
static const struct kind {
    const char *node[RANKS];
    int who;
} kinds[] = {
    { { "a", "a", "a", "a" }, 0 },
    { { "a", "a", "a", "a" }, 2 },
    { { "a", "a", "b", "b" }, 0 },
    { { "a", "a", "b", "b" }, 3 },
};

struct trial {
    const struct kind *kind;
    int visit;
    struct told *told;
};

static void no_warning(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

static int open_one(struct world_rank *r, struct ty_error *err)
{
    const struct trial *t = r->arg;
    struct ty_coll_boot boot = world_boot(r->w->table, r->rank, 0);
    struct ty_coll_options o = { .size = r->size,
                                 .rank = r->rank,
                                 .boot = &boot,
                                 .node = t->kind->node[r->rank],
                                 .start_timeout_s = 1,
                                 .arena_bytes = 1 << 20,
                                 .timeline = "/dev/null",
                                 .warn = no_warning };

    return ty_coll_open(&o, &r->c, err);
}

/* One operation on `count` floats in rows of 4. */
static int one(struct world_rank *r, enum ty_coll_kind kind, enum ty_coll_op op, int set,
               const char *name, int64_t count, struct ty_error *err)
{
    static float in[1 << 17], out[1 << 17];
    int64_t dims[2] = { count / 4, 4 };
    int ranks[2] = { 0, 2 };
    struct ty_coll_buf b = { in, count, 2, dims }, to = { out, count, 2, dims };
    struct ty_coll_call call = { .kind = kind,
                                 .op = op,
                                 .name = name,
                                 .set = set,
                                 .dtype = TY_COLL_F32,
                                 .in = &b,
                                 .out = &to,
                                 .nbufs = 1,
                                 .ranks = ranks,
                                 .nranks = 2 };
    struct ty_coll_result ret = { 0 };
    int e = ty_coll_do(r->c, &call, &ret, err);

    ty_coll_result_done(&ret);
    return e == -EPROTO ? 0 : e;
}

static int some_of_everything(struct world_rank *r, struct ty_error *err)
{
    int e = one(r, TY_COLL_ALLREDUCE, TY_COLL_SUM, 0, "small", 16, err);

    for (int kind = TY_COLL_ALLREDUCE; e == 0 && kind <= TY_COLL_BARRIER; kind++)
        e = one(r, (enum ty_coll_kind)kind, TY_COLL_SUM, 0, NULL, 1 << 16, err);
    if (e == 0)
        e = one(r, TY_COLL_ALLREDUCE, TY_COLL_ADASUM, 0, "adasum", 4096, err);
    if (e == 0) /* ranks differ */
        e = one(r, TY_COLL_ALLREDUCE, TY_COLL_SUM, 0, "shape", 4 * (r->rank + 1), err);
    if (e == 0)
        e = one(r, TY_COLL_SET_ADD, TY_COLL_SUM, 0, NULL, 0, err);
    if (e == 0 && r->rank % 2 == 0)
        e = one(r, TY_COLL_ALLREDUCE, TY_COLL_SUM, 1, "in a set", 1 << 15, err);
    if (e == 0 && r->rank != 1) /* which joins */
        e = one(r, TY_COLL_ALLREDUCE, TY_COLL_SUM, 0, "without 1", 4096, err);
    if (e == 0)
        e = one(r, TY_COLL_JOIN, TY_COLL_SUM, 0, NULL, 0, err);
    return e;
}

static void body(struct world_rank *r)
{
    const struct trial *t = r->arg;
    bool fails = r->rank == t->kind->who;
    struct ty_error err = { 0 };

    if (fails)
        ty_fault_arm(NULL, t->visit, ENOMEM);
    if (open_one(r, &err) == 0) {
        atomic_fetch_add(&t->told->opened, 1);
        if (some_of_everything(r, &err) < 0)
            CHECK(err.text[0]);
        r->c = ty_coll_close(r->c);
    }
    if (fails)
        atomic_store(&t->told->visits, ty_fault_visits());
}

static void every_point(void **state)
{
    struct told *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(told != MAP_FAILED);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct trial t = { .kind = &kinds[k], .visit = 1 - STEP + (int)k % STEP, .told = told };

        do {
            struct world w = {
                .size = RANKS, .manual = true, .arg = &t, .seed = (uint64_t)(t.visit += STEP)
            };

            atomic_store(&told->opened, 0);
            world_fork(&w, body);
            world_end(&w, 15000);
        } while (t.visit <= atomic_load(&told->visits));
        assert_int_equal(atomic_load(&told->opened), RANKS); /* in the last, nothing failed */
        printf("# rank %d of %s: %d points\n", t.kind->who, t.kind->node[2], told->visits);
    }
    munmap(told, sizeof *told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point),
    };

    alarm(380);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
