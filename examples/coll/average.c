/* average.c - ranks average a vector, in plain C99
 *
 *     cc -std=c99 average.c -o average $(pkg-config --cflags --libs tycoll)
 *     mpirun -np 4 ./average
 *
 * Rank and size come from the variables of mpirun, srun, torchrun or horovodrun; alone it is a world of one.  Each rank
 * makes a vector of its own in the gradient arena, which the ranks of a node share, and one blocking call puts the average
 * into all of them.  Then three named operations are submitted in an order that differs between the ranks, and waited
 * for; names bring them together.
 */
#include <stdio.h>
#include <trainyard/coll.h>

#define N 1000

static int fail(const char *what, const struct ty_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    return 1;
}

/* One average of the whole vector. */
static int average_once(struct ty_coll *c, float *v)
{
    struct ty_coll_buf b = { 0 };
    struct ty_coll_call call = { 0 };
    struct ty_error err;

    b.data = v;
    b.count = N;
    call.kind = TY_COLL_ALLREDUCE;
    call.name = "vector";
    call.dtype = TY_COLL_F32;
    call.op = TY_COLL_AVERAGE;
    call.in = call.out = &b;
    call.nbufs = 1;
    return ty_coll_do(c, &call, NULL, &err) < 0 ? fail("average", &err) : 0;
}

/* Three sums at once. */
static int sum_parts(struct ty_coll *c, float *v)
{
    static const char *const names[] = { "first", "second", "third" };
    int64_t handle[3];
    struct ty_error err;
    int i;

    for (i = 0; i < 3; i++) {
        int k = (i + ty_coll_rank(c)) % 3; /* any order */
        struct ty_coll_buf b = { 0 };
        struct ty_coll_call call = { 0 };

        b.data = v + k * (N / 4);
        b.count = N / 4;
        call.kind = TY_COLL_ALLREDUCE;
        call.name = names[k];
        call.dtype = TY_COLL_F32;
        call.op = TY_COLL_SUM;
        call.in = call.out = &b;
        call.nbufs = 1;
        handle[i] = ty_coll_submit(c, &call, &err);
        if (handle[i] < 0)
            return fail("submit", &err);
    }
    for (i = 0; i < 3; i++)
        if (ty_coll_wait(c, handle[i], NULL, &err) < 0)
            return fail("wait", &err);
    return 0;
}

int main(void)
{
    struct ty_coll *c;
    struct ty_error err;
    float *v;
    int i, bad;

    if (ty_coll_open(NULL, &c, &err) < 0)
        return fail("open", &err);
    v = ty_coll_arena_alloc(c, N * sizeof *v);
    if (!v) {
        fprintf(stderr, "no memory in the arena\n");
        ty_coll_close(c);
        return 1;
    }
    for (i = 0; i < N; i++)
        v[i] = (float)(ty_coll_rank(c) + i);
    bad = average_once(c, v);
    if (!bad && ty_coll_rank(c) == 0)
        printf("%d ranks: the average begins with %g and ends with %g\n", ty_coll_size(c), v[0], v[N - 1]);
    if (!bad)
        bad = sum_parts(c, v);
    if (!bad && ty_coll_rank(c) == 0)
        printf("the sum of the first part begins with %g; what was not summed ends with %g\n", v[0], v[N - 1]);
    ty_coll_close(c);
    return bad;
}
