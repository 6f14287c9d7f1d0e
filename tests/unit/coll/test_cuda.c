/* Tensors on GPUs, against stand-ins for CUDA and NCCL: both ways, every operation, who shares a GPU, and what is
 * missing. */
#include "cuda_kit.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

/* ---- reductions ---- */

static const int64_t counts[] = { 0, 1, 7, 1000, 70001 };
#define COUNTS 5

/* Would NCCL do it?  Said here once more, in other words. */
static bool served(enum ty_coll_dtype t, enum ty_coll_op op, bool scaled)
{
    bool adds = op == TY_COLL_SUM || op == TY_COLL_AVERAGE;

    if (t == TY_COLL_I16)
        return false;
    if (t >= TY_COLL_F16)
        return adds || !scaled;
    return !scaled && op != TY_COLL_AVERAGE;
}

static void check(struct world_rank *r, const struct ty_coll_call *call, const void *got,
                  int64_t from, int64_t n)
{
    int ranks[WORLD_MAX];

    for (int i = 0; i < r->size; i++)
        ranks[i] = i;
    for (int64_t i = 0; i < n; i++) {
        double slack, want = reduced(call->dtype, call->op, r->w->seed, ranks, r->size, from + i,
                                     call->prescale, call->postscale, &slack);
        double have = load(call->dtype, got, i);

        /* A scale in 16 bits is off by half a unit itself. */
        slack += 2 * epsilon(call->dtype) * fabs(want);
        if (fabs(have - want) > slack)
            fprintf(stderr, "%s op %d element %lld of %lld, scales %g %g: %.17g instead of %.17g\n",
                    ty_coll_dtype_name(call->dtype), call->op, (long long)i, (long long)n,
                    call->prescale, call->postscale, have, want);
        CHECK(fabs(have - want) <= slack);
    }
}

static void allreduce(struct world_rank *r, enum ty_coll_dtype t, enum ty_coll_op op, int64_t n,
                      bool scaled, bool in_place)
{
    size_t bytes = (size_t)n * ty_coll_dtype_size(t);
    struct ty_coll_buf in = { .data = memory(r, device_of(r), bytes), .count = n }, out = in;
    bool scales = scaled && t != TY_COLL_BOOL;
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = t,
                                 .op = op,
                                 .prescale = scales && op != TY_COLL_PRODUCT ? 2 : 1,
                                 .postscale = scales ? 0.25 : 1,
                                 .device = TY_COLL_GPU(device_of(r)),
                                 .in = &in,
                                 .out = &out,
                                 .nbufs = 1 };
    uint64_t before[2];

    if (!in_place)
        out.data = memory(r, device_of(r), bytes);
    fill(t, alias(in.data, bytes), n, r->w->seed, r->rank);
    note(r, before);
    run(r, &call, NULL);
    went(r, served(t, op, scales), before, 1);
    check(r, &call, alias(out.data, bytes), 0, n);
    if (!in_place)
        release(r, out.data);
    release(r, in.data);
}

static void allreduces(struct world_rank *r)
{
    for (int t = 0; t < TY_COLL_DTYPES; t++)
        for (int op = 0; op < TY_COLL_OPS; op++)
            for (int i = 0; op != TY_COLL_ADASUM && i < COUNTS; i++) {
                allreduce(r, (enum ty_coll_dtype)t, (enum ty_coll_op)op, counts[i], false, i % 2);
                if (i < 4)
                    allreduce(r, (enum ty_coll_dtype)t, (enum ty_coll_op)op, counts[i], true,
                              i % 2 == 0);
            }
}

/* Two ranks that have the same: Adasum is it again. */
static void adasum(struct world_rank *r)
{
    struct ty_coll_buf b = { .data = memory(r, device_of(r), 400), .count = 100 };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .dtype = TY_COLL_F32,
                                 .op = TY_COLL_ADASUM,
                                 .device = TY_COLL_GPU(device_of(r)),
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    float *x = alias(b.data, 400);
    uint64_t before[2];

    for (int i = 0; i < 100; i++)
        x[i] = (float)(i + 1);
    note(r, before);
    run(r, &call, NULL);
    went(r, false, before, 1);
    for (int i = 0; i < 100; i++)
        CHECK(fabs(x[i] - (i + 1)) < 1e-4);
    release(r, b.data);
}

static void reducescatter(struct world_rank *r, enum ty_coll_dtype t, int64_t rows, bool in_place)
{
    int64_t dims[2] = { rows, 33 }, a = ty_first_row(rows, r->size, r->rank),
            b = ty_first_row(rows, r->size, r->rank + 1);
    size_t size = ty_coll_dtype_size(t), bytes = (size_t)(rows * 33) * size;
    struct ty_coll_buf in = { memory(r, device_of(r), bytes), rows * 33, 2, dims }, out = in;
    struct ty_coll_call call = { .kind = TY_COLL_REDUCESCATTER,
                                 .dtype = t,
                                 .op = TY_COLL_AVERAGE,
                                 .prescale = 1,
                                 .postscale = 1,
                                 .device = TY_COLL_GPU(device_of(r)),
                                 .in = &in,
                                 .out = &out,
                                 .nbufs = 1 };
    uint64_t before[2];

    if (!in_place)
        out.data = memory(r, device_of(r), bytes);
    fill(t, alias(in.data, bytes), rows * 33, r->w->seed, r->rank);
    note(r, before);
    run(r, &call, NULL);
    went(r, t >= TY_COLL_F16, before, 1);
    check(r, &call, alias(out.data, bytes), a * 33, (b - a) * 33);
    if (!in_place)
        release(r, out.data);
    release(r, in.data);
}

static void reducescatters(struct world_rank *r)
{
    for (int t = 0; t < TY_COLL_DTYPES; t++)
        for (int64_t rows = 0; t != TY_COLL_BOOL && rows < 10; rows += 3)
            reducescatter(r, (enum ty_coll_dtype)t, rows, rows % 2);
    reducescatter(r, TY_COLL_F32, 12 * 100, true);
    reducescatter(r, TY_COLL_F32, 12 * 100, false);
}

/* ---- the others ---- */

static void broadcasts(struct world_rank *r)
{
    for (int root = 0; root < r->size; root++) {
        struct ty_coll_buf in[2] = { { .data = memory(r, device_of(r), 20000), .count = 10000 },
                                     { .data = memory(r, device_of(r), 10), .count = 5 } };
        struct ty_coll_buf out[2] = { in[0], in[1] };
        struct ty_coll_call call = { .kind = TY_COLL_BROADCAST,
                                     .dtype = TY_COLL_I16,
                                     .root = root,
                                     .device = TY_COLL_GPU(device_of(r)),
                                     .in = in,
                                     .out = out,
                                     .nbufs = 2 };
        uint64_t before[2];
        const void *x;

        out[0].data = memory(r, device_of(r), 20000);
        fill(TY_COLL_I16, alias(in[0].data, 20000), 10000, r->w->seed, r->rank);
        fill(TY_COLL_I16, alias(in[1].data, 10), 5, r->w->seed, r->rank);
        note(r, before);
        run(r, &call, NULL);
        went(r, true, before, 1);
        x = alias(out[0].data, 20000);
        for (int i = 0; i < 10000; i++)
            CHECK(load(TY_COLL_I16, x, i) == value(TY_COLL_I16, r->w->seed, root, i));
        for (int i = 0; i < 5; i++)
            CHECK(load(TY_COLL_I16, alias(out[1].data, 10), i) ==
                  value(TY_COLL_I16, r->w->seed, root, i));
        release(r, out[0].data);
        release(r, in[0].data);
        release(r, in[1].data);
    }
}

static int64_t rows_of(int rank, int tensor, bool even)
{
    return even ? 5 : (rank + tensor) % 3 * 40;
}

static void allgather(struct world_rank *r, bool even)
{
    struct ty_coll_buf in[2];
    int64_t dims[2][2];
    struct ty_coll_call call = { .kind = TY_COLL_ALLGATHER,
                                 .dtype = TY_COLL_F64,
                                 .device = TY_COLL_GPU(device_of(r)),
                                 .in = in,
                                 .nbufs = 2 };
    struct ty_coll_result got = { 0 };
    uint64_t before[2];

    for (int k = 0; k < 2; k++) {
        int64_t n = rows_of(r->rank, k, even) * 3;

        dims[k][0] = rows_of(r->rank, k, even);
        dims[k][1] = 3;
        in[k] = (struct ty_coll_buf){ memory(r, device_of(r), (size_t)n * 8), n, 2, dims[k] };
        fill(TY_COLL_F64, alias(in[k].data, (size_t)n * 8), n, r->w->seed, r->rank);
    }
    note(r, before);
    run(r, &call, &got);
    went(r, true, before, 1);
    CHECK(got.nrows == 2 * r->size && got.device == TY_COLL_GPU(device_of(r)));
    for (int k = 0; k < 2; k++) {
        const void *x = alias(got.data[k], 1);
        int64_t at = 0;

        for (int i = 0; i < r->size; i++) {
            CHECK(got.rows[k * r->size + i] == rows_of(i, k, even));
            for (int64_t j = 0; j < rows_of(i, k, even) * 3; j++, at++)
                CHECK(load(TY_COLL_F64, x, at) == value(TY_COLL_F64, r->w->seed, i, j));
        }
        release(r, in[k].data);
    }
    ty_coll_result_done(&got);
}

static void allgathers(struct world_rank *r)
{
    allgather(r, true);
    allgather(r, false);
}

/* Rank i sends rank j (i + 2 * j) % 4 rows. */
static void alltoall(struct world_rank *r)
{
    int64_t splits[WORLD_MAX], dims[2] = { 0, 50 }, from = 0, at = 0;
    struct ty_coll_buf in = { .ndims = 2, .dims = dims };
    struct ty_coll_call call = { .kind = TY_COLL_ALLTOALL,
                                 .dtype = TY_COLL_I32,
                                 .device = TY_COLL_GPU(device_of(r)),
                                 .in = &in,
                                 .nbufs = 1,
                                 .splits = splits };
    struct ty_coll_result got = { 0 };
    uint64_t before[2];
    const void *x;

    for (int i = 0; i < r->size; i++)
        dims[0] += splits[i] = (r->rank + 2 * i) % 4;
    in.count = dims[0] * 50;
    in.data = memory(r, device_of(r), (size_t)in.count * 4);
    fill(TY_COLL_I32, alias(in.data, (size_t)in.count * 4), in.count, r->w->seed, r->rank);
    note(r, before);
    run(r, &call, &got);
    went(r, true, before, 1);
    x = alias(got.data[0], 1);
    for (int i = 0; i < r->size; i++) {
        CHECK(got.rows[i] == (i + 2 * r->rank) % 4);
        from = 0;
        for (int k = 0; k < r->rank; k++)
            from += (i + 2 * k) % 4 * 50;
        for (int64_t j = 0; j < got.rows[i] * 50; j++, at++)
            CHECK(load(TY_COLL_I32, x, at) == value(TY_COLL_I32, r->w->seed, i, from + j));
    }
    release(r, in.data);
    ty_coll_result_done(&got);
}

static void others(struct world_rank *r)
{
    reducescatters(r);
    broadcasts(r);
    allgathers(r);
    alltoall(r);
    if ((r->size & (r->size - 1)) == 0)
        adasum(r);
}

static void everything(struct world_rank *r)
{
    allreduces(r);
    others(r);
}

/* What the engine had of the GPUs is given back. */
static void nothing_left(void)
{
    struct fake_counts c = cuda_counts();

    assert_int_equal(c.streams, 0);
    assert_int_equal(c.events, 0);
    assert_int_equal(c.blocks, 0);
    assert_int_equal(c.registered, 0);
    assert_int_equal(nccl_counts().comms, 0);
    assert_int_equal(nccl_counts().ops, 0);
}

static void by_nccl(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++)
        world_threads(&(struct world){ .size = n, .seed = 71, .arg = (void *)&apart }, everything);
    assert_true(nccl_counts().calls > 0);
    nothing_left();
}

/* The first rank says once that it will be slow, and why. */
static void told(void *ctx, const char *line)
{
    _Atomic int *lines = ctx;

    if (strstr(line, "process set 0 go through memory of the host") &&
        strstr(line, "ranks 0 and 1 share the GPU 0000:11:00.0"))
        atomic_fetch_add(lines, 1);
}

static void by_host(void **state)
{
    struct plan alone = { .nccl = true };
    _Atomic int lines = 0;
    struct ty_coll_options options = { .warn = told, .warn_ctx = &lines };

    (void)state;
    world_threads(&(struct world){ .size = 1, .seed = 72, .arg = &alone }, everything);
    for (int n = 2; n <= 4; n++)
        world_threads(
            &(struct world){ .size = n, .seed = 72, .arg = (void *)&together, .options = &options },
            everything);
    assert_int_equal(lines, 3);
    nothing_left();
}

static void processes(void **state)
{
    const struct plan *plans[2] = { &apart, &together };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world w = { .size = 3, .seed = 73, .arg = (void *)plans[i] };

        world_fork(&w, others);
        world_end(&w, 60000);
    }
}

static void nodes(void **state)
{
    static const char *const names[] = { "a", "b", "a", "b" };

    (void)state;
    world_threads(&(struct world){ .size = 4, .seed = 74, .node = names, .arg = (void *)&apart },
                  others);
    world_threads(&(struct world){ .size = 4, .seed = 74, .node = names, .arg = (void *)&together },
                  others);
    nothing_left();
}

/* ---- order ---- */

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
    float *x;
    int n, rank, waits; /* it opens when so many streams wait for an event */
};

/* What the caller's own stream does before `ready`: nothing until the gate opens, then the tensor. */
static void late(void *arg)
{
    struct gate *g = arg;

    pthread_mutex_lock(&g->lock);
    while (!g->open)
        pthread_cond_wait(&g->opened, &g->lock);
    pthread_mutex_unlock(&g->lock);
    for (int i = 0; i < g->n; i++)
        g->x[i] = (float)(g->rank + i);
}

static void *open_gate(void *arg)
{
    struct gate *g = arg;

    while (cuda_counts().waits < g->waits)
        sched_yield();
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_signal(&g->opened);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static int waits_before; /* the world */

static void after_ready(struct world_rank *r)
{
    struct ty_cuda c = cuda();
    struct ty_coll_buf b = { .data = memory(r, device_of(r), 4000), .count = 1000 };
    struct gate g = { PTHREAD_MUTEX_INITIALIZER,
                      PTHREAD_COND_INITIALIZER,
                      false,
                      alias(b.data, 4000),
                      1000,
                      r->rank,
                      waits_before + r->size };
    struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                 .op = TY_COLL_SUM,
                                 .dtype = TY_COLL_F32,
                                 .device = TY_COLL_GPU(device_of(r)),
                                 .in = &b,
                                 .out = &b,
                                 .nbufs = 1 };
    struct ty_error err = { 0 };
    fake_enqueue_fn *enqueue;
    void *stream, *event;
    pthread_t opener;
    int64_t handle;

    *(void **)&enqueue = stand_in(FAKE_CUDA, "fake_enqueue");
    CHECK(c.SetDevice(device_of(r)) == 0 && c.StreamCreateWithFlags(&stream, 1) == 0);
    CHECK(c.EventCreateWithFlags(&event, 0) == 0);
    enqueue(stream, late, &g);
    CHECK(c.EventRecord(event, stream) == 0);
    call.ready = event;
    handle = ty_coll_submit(r->c, &call, &err);
    CHECK(handle > 0);
    CHECK(pthread_create(&opener, NULL, open_gate, &g) == 0);
    CHECK(ty_coll_wait(r->c, handle, NULL, &err) == 0);
    for (int i = 0; i < 1000; i++)
        CHECK(g.x[i] == (float)(r->size * (r->size - 1) / 2 + r->size * i));
    pthread_join(opener, NULL);
    c.EventDestroy(event);
    c.StreamDestroy(stream);
    release(r, b.data);
}

static void ready(void **state)
{
    const struct plan *plans[2] = { &apart, &together };

    (void)state;
    for (int i = 0; i < 2; i++) {
        waits_before = cuda_counts().waits;
        world_threads(&(struct world){ .size = 3, .seed = 75, .arg = (void *)plans[i] },
                      after_ready);
    }
    nothing_left();
}

/* ---- submitted in any order, run together ---- */

#define HOOKS 24

static void hooks(struct world_rank *r)
{
    struct ty_coll_buf b[HOOKS];
    char name[HOOKS][16];
    int64_t handle[HOOKS];
    uint64_t before[2], seed = r->seed;
    struct ty_error err = { 0 };

    for (int i = 0; i < HOOKS; i++) {
        snprintf(name[i], sizeof name[i], "grad %d", i);
        b[i] = (struct ty_coll_buf){ .data = memory(r, device_of(r), 4096), .count = 1000 };
    }
    note(r, before);
    for (int step = 0; step < 4; step++) {
        int order[HOOKS];

        for (int i = 0; i < HOOKS; i++) {
            int k = (int)(tests_random(&seed) % (uint32_t)(i + 1));

            order[i] = order[k];
            order[k] = i;
        }
        for (int i = 0; i < HOOKS; i++) {
            int k = order[i];
            struct ty_coll_call call = { .kind = TY_COLL_ALLREDUCE,
                                         .name = name[k],
                                         .dtype = TY_COLL_F32,
                                         .op = TY_COLL_SUM,
                                         .device = TY_COLL_GPU(device_of(r)),
                                         .in = &b[k],
                                         .out = &b[k],
                                         .nbufs = 1 };

            fill(TY_COLL_F32, alias(b[k].data, 4096), 1000, r->w->seed + (uint64_t)k, r->rank);
            handle[k] = ty_coll_submit(r->c, &call, &err);
            CHECK(handle[k] > 0);
        }
        for (int k = 0; k < HOOKS; k++) {
            const void *x = alias(b[k].data, 4096);

            CHECK(ty_coll_wait(r->c, handle[k], NULL, &err) == 0);
            for (int i = 0; i < 1000; i++) {
                float sum = 0;

                for (int j = 0; j < r->size; j++)
                    sum += (float)value(TY_COLL_F32, r->w->seed + (uint64_t)k, j, i);
                CHECK(fabs(load(TY_COLL_F32, x, i) - (double)sum) < 1e-5);
            }
        }
    }
    went(r, true, before, 4 * HOOKS);
    for (int i = 0; i < HOOKS; i++)
        release(r, b[i].data);
}

static void many(void **state)
{
    struct fake_nccl_counts before = nccl_counts(), after;

    (void)state;
    world_threads(&(struct world){ .size = 3, .seed = 76, .arg = (void *)&apart }, hooks);
    after = nccl_counts();
    assert_int_equal(after.calls - before.calls, 3 * 4 * HOOKS);
    assert_true(after.groups - before.groups < after.calls - before.calls);
    world_threads(&(struct world){ .size = 3, .seed = 76, .arg = (void *)&together }, hooks);
    nothing_left();
}

/* ---- odd ones ---- */

/* The communicator is bound to a rank's first GPU; its second one's tensors are copied there.  The calling thread's current
 * device stays. */
static void second_device(struct world_rank *r)
{
    struct ty_cuda c = cuda();
    int now = -1;

    CHECK(c.SetDevice(3) == 0);
    for (int i = 0; i < 3; i++) {
        int device = i == 1 ? 2 + r->rank : device_of(r);
        struct ty_coll_buf b = { .data = memory(r, device, 4), .count = 1 };
        struct ty_coll_call call = sum_of(r, &b, device);
        int32_t *x = alias(b.data, 4);
        uint64_t before[2];

        *x = r->rank + 1;
        note(r, before);
        run(r, &call, NULL);
        went(r, true, before, 1);
        CHECK(*x == r->size * (r->size + 1) / 2);
        CHECK(c.GetDevice(&now) == 0 && now == 3);
        CHECK(c.GetLastError() == 0);
        release(r, b.data);
    }
}

static void mixed(struct world_rank *r)
{
    int32_t plain = 1;
    struct ty_coll_buf b = { .data = r->rank ? memory(r, 0, 4) : &plain, .count = 1 };
    struct ty_coll_call call = sum_of(r, &b, 0);
    struct ty_error err = { 0 };

    if (r->rank == 0)
        call.device = 0;
    CHECK(ty_coll_do(r->c, &call, NULL, &err) == -EPROTO);
    CHECK(strstr(err.text, "GPU") && strstr(err.text, "CPU"));
    if (r->rank)
        release(r, b.data);
    /* The world goes on. */
    b.data = memory(r, device_of(r), 4);
    call.device = TY_COLL_GPU(device_of(r));
    *(int32_t *)alias(b.data, 4) = 1;
    run(r, &call, NULL);
    CHECK(*(int32_t *)alias(b.data, 4) == r->size);
    release(r, b.data);
}

static void no_such(struct world_rank *r)
{
    struct ty_coll_buf b = { .data = r, .count = 1 };
    struct ty_coll_call call = sum_of(r, &b, 4);
    struct ty_error err = { 0 };

    CHECK(ty_coll_do(r->c, &call, NULL, &err) == -EINVAL && strstr(err.text, "GPU 4"));
    CHECK(ty_coll_gpu_ready(r->c, &err) == 0);
}

/* The last rank joins while the others go on: before it has used a GPU, and after. */
static void joins(struct world_rank *r)
{
    for (int round = 0; round < 2; round++) {
        int mine = r->rank == r->size - 1 ? round : 3;
        struct ty_coll_buf b = { .data = memory(r, device_of(r), 4), .count = 1 };
        struct ty_coll_call call = sum_of(r, &b, device_of(r)), join = { .kind = TY_COLL_JOIN };
        int32_t *x = alias(b.data, 4);

        for (int i = 0; i < mine; i++) {
            *x = 1;
            run(r, &call, NULL);
            CHECK(*x == (i < round ? r->size : r->size - 1));
        }
        run(r, &join, NULL);
        release(r, b.data);
    }
}

/* Sets that share ranks have communicators of their own. */
static void sets(struct world_rank *r)
{
    static const int ranks[2][2] = { { 0, 1 }, { 1, 2 } };
    int id[2];

    for (int s = 0; s < 2; s++) {
        struct ty_coll_call add = { .kind = TY_COLL_SET_ADD, .ranks = ranks[s], .nranks = 2 };
        struct ty_coll_result got;

        run(r, &add, &got);
        id[s] = got.value;
    }
    for (int i = 0; i < 10; i++)
        for (int s = 0; s < 3; s++) {
            struct ty_coll_buf b = { .data = memory(r, device_of(r), 4), .count = 1 };
            struct ty_coll_call call = sum_of(r, &b, device_of(r));
            bool member = s == 2 || r->rank == ranks[s][0] || r->rank == ranks[s][1];
            int32_t *x = alias(b.data, 4);

            *x = 1;
            call.set = s == 2 ? 0 : id[s];
            if (member) {
                run(r, &call, NULL);
                CHECK(*x == (s == 2 ? r->size : 2));
            }
            release(r, b.data);
        }
    for (int s = 0; s < 2; s++) {
        struct ty_coll_call gone = { .kind = TY_COLL_SET_REMOVE, .set = id[s] };

        run(r, &gone, NULL);
    }
}

static void odd(void **state)
{
    (void)state;
    world_threads(&(struct world){ .size = 2, .seed = 77, .arg = (void *)&apart }, second_device);
    world_threads(&(struct world){ .size = 2, .seed = 78, .arg = (void *)&apart }, mixed);
    world_threads(&(struct world){ .size = 1, .seed = 79, .arg = (void *)&apart }, no_such);
    world_threads(&(struct world){ .size = 3, .seed = 80, .arg = (void *)&apart }, joins);
    world_threads(&(struct world){ .size = 3, .seed = 80, .arg = (void *)&together }, joins);
    world_threads(&(struct world){ .size = 3, .seed = 81, .arg = (void *)&apart }, sets);
    nothing_left();
}

/* ---- what is missing ---- */

static void no_cuda(struct world_rank *r)
{
    struct ty_coll_buf b = { .data = r, .count = 1 };
    struct ty_coll_call call = sum_of(r, &b, 0);
    struct ty_error err = { 0 };
    int32_t x = 1;

    for (int i = 0; i < 2; i++) { /* it is not looked for twice, and says the same */
        memset(&err, 0, sizeof err);
        CHECK(ty_coll_do(r->c, &call, NULL, &err) == -ENOTSUP);
        CHECK(strstr(err.text, r->arg));
        CHECK(ty_coll_submit(r->c, &call, &err) == -ENOTSUP);
        CHECK(ty_coll_gpu_ready(r->c, &err) == -ENOTSUP);
    }
    b.data = &x;
    call.device = 0;
    run(r, &call, NULL);
    CHECK(x == r->size);
}

static void missing(void **state)
{
    struct ty_error err = { 0 };
    int version = 0;

    (void)state;
    setenv("TRAINYARD_COLL_CUDART", "/nowhere/libcudart.so.12", 1);
    world_threads(&(struct world){ .size = 2, .arg = "/nowhere/libcudart.so.12" }, no_cuda);
    setenv("TRAINYARD_COLL_CUDART", "none", 1);
    world_threads(&(struct world){ .size = 2, .arg = "TRAINYARD_COLL_CUDART=none" }, no_cuda);
    assert_int_equal(ty_coll_cuda_found(NULL, &err), -ENOENT);
    setenv("TRAINYARD_COLL_CUDART", FAKE_NCCL, 1); /* a library, but another one */
    world_threads(&(struct world){ .size = 2, .arg = "no function cudaGetErrorString" }, no_cuda);
    setenv("TRAINYARD_COLL_CUDART", FAKE_CUDA, 1);
    setenv("FAKE_CUDA_DEVICES", "0", 1);
    world_threads(&(struct world){ .size = 2, .arg = "no CUDA-capable device" }, no_cuda);
    unsetenv("FAKE_CUDA_DEVICES");
    assert_int_equal(ty_coll_cuda_found(NULL, &err), 0);
    assert_int_equal(ty_coll_nccl_found(NULL, &version, &err), 0);
    assert_int_equal(version, 22105);
    nothing_left();
}

static void refuses(struct world_rank *r)
{
    const struct plan *p = r->arg;
    fake_nccl_refuse_fn *refuse;

    *(void **)&refuse = stand_in(FAKE_NCCL, "fake_nccl_refuse");
    if (p->refuse == r->rank + 1)
        refuse();
    alltoall(r);
    allreduce(r, TY_COLL_F32, TY_COLL_SUM, 1000, false, true);
}

static void no_nccl(void **state)
{
    struct plan plan = apart;
    struct world w = { .size = 3, .seed = 82, .arg = &plan };
    int version;

    (void)state;
    plan.nccl = false;
    setenv("TRAINYARD_COLL_NCCL", "none", 1);
    world_threads(&w, others);
    setenv("TRAINYARD_COLL_NCCL", FAKE_NCCL, 1);
    setenv("FAKE_NCCL_VERSION", "21304", 1);
    world_threads(&w, others);
    assert_int_equal(ty_coll_nccl_found(NULL, &version, NULL), -ENOENT);
    unsetenv("FAKE_NCCL_VERSION");
    /* One rank's communicator fails: in all members, for one that is missing never comes up. */
    plan.refuse = 2;
    world_fork(&w, refuses);
    world_end(&w, 100000);
    nothing_left();
}

static void no_pins(void **state)
{
    (void)state;
    setenv("FAKE_CUDA_NO_PINS", "1", 1);
    world_threads(&(struct world){ .size = 2, .seed = 83, .arg = (void *)&together }, others);
    unsetenv("FAKE_CUDA_NO_PINS");
    nothing_left();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_nccl), cmocka_unit_test(by_host), cmocka_unit_test(processes),
        cmocka_unit_test(nodes),   cmocka_unit_test(ready),   cmocka_unit_test(many),
        cmocka_unit_test(odd),     cmocka_unit_test(missing), cmocka_unit_test(no_nccl),
        cmocka_unit_test(no_pins),
    };

    setenv("TRAINYARD_COLL_CUDART", FAKE_CUDA, 1);
    setenv("TRAINYARD_COLL_NCCL", FAKE_NCCL, 1);
    alarm(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
