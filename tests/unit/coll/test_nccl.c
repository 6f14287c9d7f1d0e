/* What goes wrong while tensors are on GPUs: ranks that die inside NCCL, connections that NCCL loses, memory and system calls that
 * fail.  Against stand-ins, like test_cuda.c. */
#include "base/fault.h"
#include "cuda_kit.h"
#include <sys/mman.h>
#include <unistd.h>

/* ---- death ---- */

/* Rank 1 ends inside NCCL, on the stream, when the others are there, too. */
static void dies(struct world_rank *r)
{
    struct ty_coll_buf b = { .data = memory(r, device_of(r), 4), .count = 1 };
    struct ty_coll_call call = sum_of(r, &b, device_of(r));
    struct ty_error err = { 0 };
    int before = nccl_counts().aborts, e = 0;
    fake_nccl_die_fn *die;
    int64_t begun;

    *(void **)&die = stand_in(FAKE_NCCL, "fake_nccl_die");
    if (r->rank == 1)
        die(3);
    begun = world_now_us();
    for (int i = 0; i < 5 && e == 0; i++)
        e = ty_coll_do(r->c, &call, NULL, &err);
    CHECK(r->rank != 1);
    CHECK(e == -EOWNERDEAD && strstr(err.text, "rank 1 has died"));
    CHECK(nccl_counts().aborts == before + 1 && nccl_counts().comms == 0);
    CHECK(world_now_us() - begun < 10000000);
    release(r, b.data);
}

/* Rank 0's NCCL loses its connections; the ranks themselves live. */
static void loses(struct world_rank *r)
{
    struct ty_coll_buf b = { .data = memory(r, device_of(r), 4), .count = 1 };
    struct ty_coll_call call = sum_of(r, &b, device_of(r));
    struct ty_error err = { 0 };
    fake_nccl_die_fn *lose;
    int e = 0;

    *(void **)&lose = stand_in(FAKE_NCCL, "fake_nccl_lose");
    if (r->rank == 0)
        lose(3);
    for (int i = 0; i < 5 && e == 0; i++)
        e = ty_coll_do(r->c, &call, NULL, &err);
    CHECK(e == (r->rank == 0 ? -EIO : -EOWNERDEAD));
    CHECK(strstr(err.text, r->rank == 0 ? "NCCL failed in an operation: remote process exited"
                                        : "rank 0 could not start or go on"));
    release(r, b.data);
}

static void lost_connection(void **state)
{
    struct world w = { .size = 2, .seed = 86, .arg = (void *)&apart };

    (void)state;
    world_fork(&w, loses);
    world_end(&w, 30000);
}

static void death(void **state)
{
    struct world w = { .size = 3, .seed = 84, .arg = (void *)&apart };

    (void)state;
    world_fork(&w, dies);
    world_end(&w, 30000);
}

#ifdef TY_FAULTS
/* One of each on 6 rows; the first error, of which there is one on all ranks or on none. */
static int one_of_each(struct world_rank *r, void *in, void *out)
{
    static const enum ty_coll_kind kinds[] = { TY_COLL_ALLREDUCE, TY_COLL_REDUCESCATTER,
                                               TY_COLL_ALLGATHER, TY_COLL_ALLTOALL,
                                               TY_COLL_BROADCAST, TY_COLL_BARRIER };
    int64_t dims[2] = { 6, 1000 };
    struct ty_coll_buf from = { in, 6000, 2, dims }, to = { out, 6000, 2, dims };
    int e = 0;

    for (int i = 0; e == 0 && i < 6; i++) {
        struct ty_coll_call call = { .kind = kinds[i],
                                     .dtype = TY_COLL_F32,
                                     .op = TY_COLL_SUM,
                                     .device = TY_COLL_GPU(device_of(r)),
                                     .in = &from,
                                     .out = &to,
                                     .nbufs = 1 };
        struct ty_coll_result got = { 0 };

        e = ty_coll_do(r->c, &call, &got, NULL);
        ty_coll_result_done(&got);
    }
    return e;
}

static void fails(struct world_rank *r)
{
    const struct plan *p = r->arg;
    void *in = memory(r, device_of(r), 24000), *out = memory(r, device_of(r), 24000);
    fake_nccl_refuse_fn *tidy;
    struct fake_counts c;
    int e;

    r->c = world_open(r, 0);
    if (r->rank == 1)
        ty_fault_arm(p->point, p->visit, ENOMEM);
    e = one_of_each(r, in, out);
    if (r->rank == 1) {
        atomic_store(&p->told->visits, ty_fault_visits());
        ty_fault_arm("none", 1, 0);
    }
    atomic_store(&p->told->failed[r->rank], e != 0);
    r->c = ty_coll_close(r->c);
    *(void **)&tidy = stand_in(FAKE_NCCL, "fake_nccl_tidy");
    tidy();
    release(r, in);
    release(r, out);
    c = cuda_counts();
    CHECK(c.streams == 0 && c.events == 0 && c.blocks == 0 && c.registered == 0);
    CHECK(nccl_counts().comms == 0 && nccl_counts().ops == 0);
}

/* Memory and system calls fail on a rank: an error on all, or the other way is taken; nothing is left, nobody hangs. */
static void faults(void **state)
{
    static const char *const points[] = { "so.dlopen", "gpu.alloc", "nccl.alloc", "gpu.pinned" };

    struct told *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(told != MAP_FAILED);
    for (int i = 0; i < 8; i++) {
        struct plan plan = i % 2 ? apart : together;

        plan.point = points[i / 2];
        plan.told = told;
        do {
            struct world w = { .size = 2, .seed = 85, .arg = &plan, .manual = true };

            plan.visit++;
            world_fork(&w, fails);
            world_end(&w, 20000);
            assert_int_equal(told->failed[0], told->failed[1]);
        } while (plan.visit <= told->visits);
        assert_false(told->failed[0]); /* in the last, nothing failed */
        printf("# %s: %d points\n", plan.point, plan.visit - 1);
    }
    munmap(told, sizeof *told);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death),
        cmocka_unit_test(lost_connection),
#ifdef TY_FAULTS
        cmocka_unit_test(faults),
#endif
    };

    setenv("TRAINYARD_COLL_CUDART", FAKE_CUDA, 1);
    setenv("TRAINYARD_COLL_NCCL", FAKE_NCCL, 1);
    alarm(280);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
