/* test_move_hash.c - parts of files hashed by threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "data/http.h"
#include "data/move_hash.h"
#include <errno.h>
#include <string.h>

#define N 21
#define PART 400003

struct box {
    struct ty_http *h;
    struct ty_hashers *s;
    FILE *file;
    uint8_t *bytes;
    struct ty_hash_job jobs[N];
};

static int set_up(void **state)
{
    struct box *x = calloc(1, sizeof *x);

    assert_int_equal(ty_http_new(1, &x->h, NULL), 0);
    x->s = ty_hashers_new(x->h);
    x->file = tmpfile();
    x->bytes = malloc(N * PART);
    assert_true(x->s && x->file && x->bytes);
    for (size_t i = 0; i < N * PART; i++)
        x->bytes[i] = (uint8_t)(i * 31 + i / 509);
    assert_int_equal(ty_pwrite_all(fileno(x->file), x->bytes, N * PART, 0), 0);
    for (unsigned i = 0; i < N; i++)
        x->jobs[i] = (struct ty_hash_job){ .fd = fileno(x->file),
                                           .offset = (uint64_t)i * PART,
                                           .bytes = PART,
                                           .owner = x,
                                           .part = i };
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    struct box *x = *state;

    ty_hashers_free(x->s);
    ty_http_free(x->h);
    fclose(x->file);
    free(x->bytes);
    free(x);
    return 0;
}

/* All of them at once. */
static int add_all(struct box *x)
{
    for (unsigned i = 0; i + 1 < N; i++)
        x->jobs[i].next = &x->jobs[i + 1];
    return ty_hashers_add(x->s, &x->jobs[0]);
}

static struct ty_hash_job *wait_for_one(struct box *x)
{
    struct ty_hash_job *j;

    while (!(j = ty_hashers_take(x->s)))
        assert_true(ty_http_step(x->h, 1000, NULL) >= 0); /* which a job's end wakes */
    return j;
}

static void test_parts(void **state)
{
    struct box *x = *state;
    unsigned seen = 0;
    uint8_t sum[16];

    for (unsigned i = 0; i < N; i++)
        assert_int_equal(ty_hashers_add(x->s, &x->jobs[i]), 0);
    for (unsigned i = 0; i < N; i++) {
        struct ty_hash_job *j = wait_for_one(x);

        assert_int_equal(j->result, 0);
        ty_md5(x->bytes + j->offset, PART, sum);
        assert_memory_equal(j->sum, sum, 16);
        seen |= 1u << j->part;
    }
    assert_int_equal(seen, (1u << N) - 1);
    assert_null(ty_hashers_take(x->s));
}

/* One that cannot be read among others: it is told of, and only it; others of another size go beside them. */
static void test_one_fails(void **state)
{
    struct box *x = *state;
    unsigned failed = 0;
    uint8_t sum[16];

    x->jobs[5].fd = -1;
    x->jobs[N - 1].bytes = PART / 2;
    assert_int_equal(add_all(x), 0);
    for (unsigned i = 0; i < N; i++) {
        struct ty_hash_job *j = wait_for_one(x);

        assert_int_equal(j->result, j->part == 5 ? -EBADF : 0);
        failed += j->result < 0;
        ty_md5(x->bytes + j->offset, j->bytes, sum);
        if (j->part != 5)
            assert_memory_equal(j->sum, sum, 16);
    }
    assert_int_equal(failed, 1);
}

static void test_whole(void **state)
{
    struct box *x = *state;
    struct ty_md5 whole;
    uint8_t sum[16], expected[16];

    ty_md5_begin(&whole);
    for (unsigned i = 0; i < N; i++) {
        x->jobs[i].whole = &whole;
        assert_int_equal(ty_hashers_add(x->s, &x->jobs[i]), 0);
        assert_ptr_equal(wait_for_one(x), &x->jobs[i]);
    }
    ty_md5_end(&whole, sum);
    ty_md5(x->bytes, N * PART, expected);
    assert_memory_equal(sum, expected, 16);
}

static void test_ends_before(void **state)
{
    struct box *x = *state;

    x->jobs[0].offset = N * PART - 10;
    assert_int_equal(ty_hashers_add(x->s, &x->jobs[0]), 0);
    assert_int_equal(wait_for_one(x)->result, -ENODATA);
    x->jobs[1].fd = -1;
    assert_int_equal(ty_hash_now(&x->jobs[1]), -EBADF);
}

static void test_forget(void **state)
{
    struct box *x = *state;
    int other;

    for (unsigned i = 0; i < N; i++) {
        x->jobs[i].owner = i == 3 ? (void *)&other : x;
        assert_int_equal(ty_hashers_add(x->s, &x->jobs[i]), 0);
    }
    ty_hashers_forget(x->s, x);
    assert_ptr_equal(wait_for_one(x), &x->jobs[3]);
    assert_null(ty_hashers_take(x->s));
    x->jobs[5].next = NULL;
    assert_int_equal(ty_hashers_add(x->s, &x->jobs[5]), 0);
    assert_null(ty_hashers_free(NULL));
    x->s = ty_hashers_free(x->s); /* with one under way */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forget, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
