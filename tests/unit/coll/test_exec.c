/* test_exec.c - plans run by threads that pass messages in memory: sums, segments, overlap, errors */
#include "coll/exec.h"
#include "tests.h"
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <time.h>

#define MOST_RANKS 9

/* A message on its way; each pair has a queue of them. */
struct mail {
    struct mail *next;
    uint64_t tag;
    size_t bytes;
    char data[];
};
struct post {
    pthread_mutex_t lock;
    pthread_cond_t came;
    struct mail *first[MOST_RANKS][MOST_RANKS];
    int messages;
    size_t longest;
    bool closed; /* a rank has failed: nobody waits any more */
};
struct peer {
    struct post *post;
    const struct ty_plan *plan;
    struct ty_exec *e;
    void *data;
    uint64_t seed;
    bool tells;  /* calls got() */
    int fail_at; /* this call fails; -1: none */
    int calls, told;
    int result;
};

static size_t iov_bytes(const struct ty_net_msg *m)
{
    size_t n = 0;

    for (int i = 0; i < m->niov; i++)
        n += m->iov[i].iov_len;
    return n;
}

static void put_mail(struct peer *me, const struct ty_net_msg *m)
{
    struct mail *mail = malloc(sizeof *mail + iov_bytes(m));
    struct mail **end = &me->post->first[me->plan->rank][m->rank];

    assert_non_null(mail);
    *mail = (struct mail){ .tag = m->tag, .bytes = iov_bytes(m) };
    for (size_t i = 0, at = 0; i < (size_t)m->niov; at += m->iov[i].iov_len, i++)
        memcpy(mail->data + at, m->iov[i].iov_base, m->iov[i].iov_len);
    pthread_mutex_lock(&me->post->lock);
    while (*end)
        end = &(*end)->next;
    *end = mail;
    me->post->messages++;
    if (mail->bytes > me->post->longest)
        me->post->longest = mail->bytes;
    pthread_cond_broadcast(&me->post->came);
    pthread_mutex_unlock(&me->post->lock);
}

static int take_mail(struct peer *me, int from, struct mail **ret)
{
    struct mail **first = &me->post->first[from][me->plan->rank];
    struct timespec end;
    int r = 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&me->post->lock);
    while (!*first && !me->post->closed && r == 0)
        r = -pthread_cond_timedwait(&me->post->came, &me->post->lock, &end);
    if (*first) {
        *ret = *first;
        *first = (*first)->next;
        r = 0;
    } else if (r == 0)
        r = -ECONNRESET;
    pthread_mutex_unlock(&me->post->lock);
    return r;
}

/* Where byte `at` of the message goes, and how many after it go there too. */
static char *place(const struct ty_net_msg *m, size_t at, size_t *room)
{
    int i = 0;

    for (; at >= m->iov[i].iov_len; i++)
        at -= m->iov[i].iov_len;
    *room = m->iov[i].iov_len - at;
    return (char *)m->iov[i].iov_base + at;
}

/* Copy from the beginning and from the middle in turn, as two lanes do, in parts of any length, telling of each. */
static void deliver(struct peer *me, const struct mail *mail, struct ty_net_msg *m,
                    void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    size_t middle = mail->bytes / 128 * 64, from[2] = { 0, middle },
           to[2] = { middle, mail->bytes };

    for (int lane = 0; from[0] < to[0] || from[1] < to[1]; lane = !lane) {
        size_t n = (1 + tests_random(&me->seed) % 1024) * 64, at = from[lane];

        n = n > to[lane] - at ? to[lane] - at : n;
        from[lane] += n;
        for (size_t done = 0, room; done < n; done += room) {
            char *p = place(m, at + done, &room);

            room = room > n - done ? n - done : room;
            memcpy(p, mail->data + at + done, room);
        }
        if (got && me->tells && n > 0) {
            got(arg, at, n);
            me->told++;
        }
    }
}

static int exchange(void *ctx, struct ty_net_msg *send, struct ty_net_msg *recv,
                    void (*got)(void *arg, size_t at, size_t bytes), void *arg)
{
    struct peer *me = ctx;
    struct mail *mail = NULL;
    int r;

    if (me->calls++ == me->fail_at)
        return -EOWNERDEAD;
    if (send)
        put_mail(me, send);
    if (!recv)
        return 0;
    if ((r = take_mail(me, recv->rank, &mail)) < 0)
        return r;
    if (mail->tag != recv->tag || mail->bytes != iov_bytes(recv))
        r = -EPROTO;
    else
        deliver(me, mail, recv, got, arg);
    free(mail);
    return r;
}

static void *run_peer(void *arg)
{
    struct peer *me = arg;
    const struct ty_exec_io io = { me, exchange };
    struct ty_exec e = *me->e;
    size_t scratch = ty_exec_scratch(&e, me->plan);

    e.io = &io;
    e.scratch = scratch ? aligned_alloc(64, (scratch + 63) / 64 * 64) : NULL;
    me->result = ty_exec_run(&e, me->plan, me->data);
    free(e.scratch);
    if (me->result < 0) {
        pthread_mutex_lock(&me->post->lock);
        me->post->closed = true;
        pthread_cond_broadcast(&me->post->came);
        pthread_mutex_unlock(&me->post->lock);
    }
    return NULL;
}

/* Run one allreduce of n threads on rows of data; the mail that was not fetched is thrown away. */
static void run(struct post *post, struct peer *peers, struct ty_plan plan, struct ty_exec e,
                void *data, uint64_t *seed, bool tells, int failing)
{
    struct ty_plan plans[MOST_RANKS];
    pthread_t threads[MOST_RANKS];
    size_t row = (size_t)plan.count * ty_coll_dtype_size(e.dtype);

    *post = (struct post){ .lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER };
    for (int r = 0; r < plan.n; r++) {
        plans[r] = plan;
        plans[r].rank = r;
        peers[r] = (struct peer){ .post = post,
                                  .plan = &plans[r],
                                  .e = &e,
                                  .data = (char *)data + (size_t)r * row,
                                  .seed = tests_random(seed),
                                  .tells = tells,
                                  .fail_at = r == failing ? 1 : -1 };
        assert_int_equal(pthread_create(&threads[r], NULL, run_peer, &peers[r]), 0);
    }
    for (int r = 0; r < plan.n; r++)
        pthread_join(threads[r], NULL);
    for (int a = 0; a < MOST_RANKS; a++)
        for (int b = 0; b < MOST_RANKS; b++)
            for (struct mail *m = post->first[a][b], *next; m; m = next) {
                assert_true(failing >= 0);
                next = m->next;
                free(m);
            }
}

static void check_sum(enum ty_plan_kind kind, int n, int64_t count, size_t segment, bool tells,
                      uint64_t *seed)
{
    struct ty_plan plan = { .kind = kind, .n = n, .count = count };
    struct ty_exec e = { .dtype = TY_COLL_F32, .op = TY_COLL_SUM, .tag = 1000, .segment = segment };
    float *data = malloc((size_t)(count * n + 1) * sizeof *data);
    double *sum = calloc((size_t)count + 1, sizeof *sum),
           *size = calloc((size_t)count + 1, sizeof *size);
    struct post post;
    struct peer peers[MOST_RANKS];

    for (int64_t i = 0; i < count * n; i++) {
        data[i] = ldexpf((float)tests_random(seed) - 1073741824.0f, (int)(tests_random(seed) % 10));
        sum[i % count] += data[i];
        size[i % count] += fabs((double)data[i]);
    }
    run(&post, peers, plan, e, data, seed, tells, -1);
    for (int r = 0; r < n; r++) {
        assert_int_equal(peers[r].result, 0);
        assert_memory_equal(data, data + r * count, (size_t)count * sizeof *data);
    }
    for (int64_t i = 0; i < count; i++)
        assert_true(fabs((double)data[i] - sum[i]) <= n * (double)FLT_EPSILON * size[i]);
    assert_true(post.longest <= (segment ? segment : TY_EXEC_SEGMENT));
    free(data);
    free(sum);
    free(size);
}

static void test_every_plan_and_segment(void **state)
{
    uint64_t seed = 31;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 1; n <= MOST_RANKS; n++)
            for (int i = 0; i < 8; i++)
                check_sum((enum ty_plan_kind)kind, n,
                          i < 3 ? i : (int64_t)(tests_random(&seed) % 3000),
                          (const size_t[]){ 0, 64, 100, 4096 }[i % 4], i % 2, &seed);
}

static void test_large(void **state)
{
    uint64_t seed = 32;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 2; n <= 5; n++)
            check_sum((enum ty_plan_kind)kind, n, 400000 + (int64_t)(tests_random(&seed) % 1000), 0,
                      n != 3, &seed);
}

/* What is received is added while the rest comes, but never to what a slow sender may still have to send. */
static void test_who_may_add_early(void **state)
{
    static float data[2 * 50000];
    uint64_t seed = 33;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++) {
        struct ty_plan plan = { .kind = (enum ty_plan_kind)kind, .n = 2, .count = 50000 };
        struct ty_exec e = { .dtype = TY_COLL_F32, .op = TY_COLL_SUM };
        struct post post;
        struct peer peers[MOST_RANKS];

        run(&post, peers, plan, e, data, &seed, true, -1);
        assert_int_equal(peers[0].told > 0, kind != TY_PLAN_RECURSIVE_DOUBLING);
        assert_int_equal(peers[1].told > 0, kind != TY_PLAN_RECURSIVE_DOUBLING);
    }
}

/* min(-0, 0) and NaNs with payloads depend on the order of operands; the ranks must not. */
static void test_same_bits_of_zeros_and_nans(void **state)
{
    static const uint32_t odd[] = { 0x00000000, 0x80000000, 0x7fc00001,
                                    0xffc12345, 0x3f800000, 0x7f800000 };
    uint64_t seed = 34;
    uint32_t data[MOST_RANKS * 37];

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 2; n <= MOST_RANKS; n++)
            for (int op = TY_COLL_MIN; op <= TY_COLL_PRODUCT; op++) {
                struct ty_plan plan = { .kind = (enum ty_plan_kind)kind, .n = n, .count = 37 };
                struct ty_exec e = { .dtype = TY_COLL_F32, .op = (enum ty_coll_op)op };
                struct post post;
                struct peer peers[MOST_RANKS];

                for (int i = 0; i < n * 37; i++)
                    data[i] = odd[tests_random(&seed) % (sizeof odd / sizeof *odd)];
                run(&post, peers, plan, e, data, &seed, true, -1);
                for (int r = 1; r < n; r++)
                    assert_memory_equal(data, data + r * 37, 37 * sizeof *data);
            }
}

static void test_other_types(void **state)
{
    uint64_t seed = 35;
    int8_t bytes[MOST_RANKS * 301];
    int64_t longs[MOST_RANKS * 301], sum[301];

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int n = 2; n <= MOST_RANKS; n++) {
            struct ty_plan plan = { .kind = (enum ty_plan_kind)kind, .n = n, .count = 301 };
            struct ty_exec e = { .dtype = TY_COLL_I8, .op = TY_COLL_SUM, .segment = 64 };
            struct post post;
            struct peer peers[MOST_RANKS];

            memset(sum, 0, sizeof sum);
            for (int i = 0; i < n * 301; i++) {
                bytes[i] = (int8_t)tests_random(&seed);
                longs[i] = (int64_t)bytes[i] * (1ll << 32);
                sum[i % 301] += bytes[i];
            }
            run(&post, peers, plan, e, bytes, &seed, true, -1);
            e.dtype = TY_COLL_I64;
            run(&post, peers, plan, e, longs, &seed, true, -1);
            for (int i = 0; i < n * 301; i++) {
                assert_int_equal(bytes[i], (int8_t)sum[i % 301]);
                assert_int_equal(longs[i] >> 32, sum[i % 301]);
            }
        }
}

static void test_errors_end_the_run(void **state)
{
    static float data[5 * 1000];
    uint64_t seed = 36;

    (void)state;
    for (int kind = 0; kind < TY_PLAN_KINDS; kind++)
        for (int failing = 0; failing < 5; failing++) {
            struct ty_plan plan = { .kind = (enum ty_plan_kind)kind, .n = 5, .count = 1000 };
            struct ty_exec e = { .dtype = TY_COLL_F32, .op = TY_COLL_SUM, .segment = 256 };
            struct post post;
            struct peer peers[MOST_RANKS];

            run(&post, peers, plan, e, data, &seed, true, failing);
            assert_int_equal(peers[failing].result, -EOWNERDEAD);
            assert_int_equal(peers[failing].calls, 2);
            for (int r = 0; r < 5; r++)
                assert_true(peers[r].result == 0 || peers[r].result == -ECONNRESET || r == failing);
        }
}

static void test_scratch(void **state)
{
    struct ty_exec e = { .dtype = TY_COLL_F64 };
    struct ty_plan p = { .kind = TY_PLAN_RING, .rank = 1, .n = 4, .count = 40 };

    (void)state;
    assert_int_equal(ty_exec_scratch(&e, &p), 80);
    p.count = 1 << 22;
    assert_int_equal(ty_exec_scratch(&e, &p), TY_EXEC_SEGMENT);
    e.segment = 100;
    assert_int_equal(ty_exec_scratch(&e, &p), 64);
    p.n = 1;
    assert_int_equal(ty_exec_scratch(&e, &p), 0);
    /* Who hands in and is given the result adds nothing; its partner does. */
    p = (struct ty_plan){ .kind = TY_PLAN_RECURSIVE_DOUBLING, .rank = 0, .n = 3, .count = 1 };
    assert_int_equal(ty_exec_scratch(&e, &p), 0);
    p.rank = 1;
    assert_int_equal(ty_exec_scratch(&e, &p), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_plan_and_segment),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_who_may_add_early),
        cmocka_unit_test(test_same_bits_of_zeros_and_nans),
        cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_errors_end_the_run),
        cmocka_unit_test(test_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
