/* test_verdict.c - who ended the job, out of what is known at a moment */
#include "runner/verdict.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define T0 1000000
#define CODE(n) ((n) << 8) /* as a wait status */

static struct ty_member members[4];
static struct ty_ranks ranks;

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        members[i] = (struct ty_member){ .plan.rank = i };
    ranks = (struct ty_ranks){ .at = members, .n = 4, .epoll = -1 };
    return 0;
}

static void ends(int i, int status, bool victim, int64_t at_us)
{
    ty_ranks_ended(&ranks, i, &status, victim, at_us);
}

static void decided(int64_t now_us, int who)
{
    int64_t due = -5;

    assert_int_equal(ty_verdict(&ranks, now_us, &due), who);
    assert_int_equal(due, -5);
}

static void waits(int64_t now_us, int64_t until)
{
    int64_t due = -5;

    assert_int_equal(ty_verdict(&ranks, now_us, &due), -1);
    assert_true(due == until);
}

static void test_nobody(void **state)
{
    (void)state;
    waits(T0, INT64_MAX);
    ends(0, CODE(0), false, T0);
    waits(T0 + 1, INT64_MAX);
    for (int i = 1; i < 4; i++)
        ends(i, CODE(0), false, T0);
    waits(T0 + 1, INT64_MAX);
    assert_int_equal(ranks.ended, 4);
    assert_int_equal(ranks.bad, 0);
}

static void test_first_of_those_that_fail(void **state)
{
    (void)state;
    ends(2, CODE(1), false, T0);
    waits(T0, T0 + TY_VERDICT_WAIT_US);
    ends(0, CODE(1), false, T0 + 10);
    waits(T0 + 10, T0 + TY_VERDICT_WAIT_US);
    decided(T0 + TY_VERDICT_WAIT_US, 2);
}

static void test_killed_beats_failed(void **state)
{
    (void)state;
    ends(2, CODE(1), false, T0);
    ends(1, SIGKILL, false, T0 + 10);
    decided(T0 + 10, 1);
}

/* abort() is what a library does that misses another rank. */
static void test_abort_is_a_failure(void **state)
{
    (void)state;
    ends(2, CODE(1), false, T0);
    ends(1, SIGABRT, false, T0 + 10);
    decided(T0 + TY_VERDICT_WAIT_US, 2);
}

static void test_lost_without_a_word(void **state)
{
    (void)state;
    ends(2, CODE(1), false, T0);
    ty_ranks_ended(&ranks, 3, NULL, false, T0 + 5);
    decided(T0 + 5, 3);
}

static void test_victims(void **state)
{
    (void)state;
    ends(0, CODE(1), true, T0);
    ends(3, SIGSEGV, true, T0 + 1);
    waits(T0 + 4 * 1000 * 1000,
          T0 + TY_VERDICT_VICTIM_US); /* an interpreter may take that long to end */
    ends(1, CODE(7), false, T0 + 4 * 1000 * 1000 + 1);
    decided(T0 + 4 * 1000 * 1000 + 2, 1);
}

static void test_only_victims(void **state)
{
    (void)state;
    ends(3, CODE(1), true, T0);
    ends(0, CODE(1), true, T0 + 1);
    decided(T0 + TY_VERDICT_VICTIM_US, 3);
}

/* Nobody is left that could tell more. */
static void test_all_gone(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        ends(i, i == 2 ? CODE(4) : CODE(0), false, T0 + i);
    decided(T0 + 3, 2);
    ends(2, CODE(0), false, T0 + 9); /* once is enough */
    decided(T0 + 9, 2);
    assert_int_equal(ranks.ended, 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, set_up)
    const struct CMUnitTest tests[] = {
        T(test_nobody),
        T(test_first_of_those_that_fail),
        T(test_killed_beats_failed),
        T(test_abort_is_a_failure),
        T(test_lost_without_a_word),
        T(test_victims),
        T(test_only_victims),
        T(test_all_gone),
    };

    return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
