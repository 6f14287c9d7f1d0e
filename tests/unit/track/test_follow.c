/* test_follow.c - the hub of followers */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "track/follow.h"
#include <errno.h>

struct ear {
    struct ty_follower f; /* first */
    struct ty_follow_hub *hub;
    struct ear *drop;    /* removed when this one is woken */
    struct ear *join;    /* added to "a" when this one is woken */
    const char *pass_on; /* notified when this one is woken, once */
    int heard;
};

static void on_wake(struct ty_follower *f)
{
    struct ear *e = (struct ear *)f;
    const char *run = e->pass_on;

    e->heard++;
    if (e->drop)
        ty_follow_remove(e->hub, &e->drop->f);
    if (e->join && !e->join->f.slot)
        assert_int_equal(ty_follow_add(e->hub, "a", &e->join->f, 100), 0);
    e->pass_on = NULL;
    if (run)
        ty_follow_notify(e->hub, run);
}

#define EARS 4
struct fixture {
    struct ty_follow_hub *hub;
    struct ear e[EARS];
};

static int open_hub(void **state)
{
    static struct fixture x;

    x = (struct fixture){ .hub = ty_follow_hub_new() };
    for (int i = 0; i < EARS; i++)
        x.e[i] = (struct ear){ .f.wake = on_wake, .hub = x.hub };
    *state = &x;
    return 0;
}

static int close_hub(void **state)
{
    struct fixture *x = *state;

    for (int i = 0; i < EARS; i++) {
        ty_follow_remove(x->hub, &x->e[i].f);
        ty_follow_remove(x->hub, &x->e[i].f);
    }
    ty_follow_hub_free(x->hub);
    return 0;
}

static void add(struct fixture *x, int i, const char *run)
{
    assert_int_equal(ty_follow_add(x->hub, run, &x->e[i].f, 100), 0);
}

static void test_only_who_asked(void **state)
{
    struct fixture *x = *state;

    add(x, 0, "a");
    add(x, 1, "a");
    add(x, 2, "b");
    ty_follow_notify(x->hub, "a");
    ty_follow_notify(x->hub, "c");
    assert_int_equal(x->e[0].heard, 1);
    assert_int_equal(x->e[1].heard, 1);
    assert_int_equal(x->e[2].heard, 0);
    ty_follow_remove(x->hub, &x->e[0].f);
    ty_follow_notify(x->hub, "a");
    assert_int_equal(x->e[0].heard, 1);
    assert_int_equal(x->e[1].heard, 2);
}

static void test_limit(void **state)
{
    struct fixture *x = *state;

    add(x, 0, "a");
    add(x, 1, "b");
    assert_int_equal(ty_follow_add(x->hub, "c", &x->e[2].f, 2), -EUSERS);
    assert_null(x->e[2].f.slot);
    ty_follow_remove(x->hub, &x->e[0].f);
    assert_int_equal(ty_follow_add(x->hub, "c", &x->e[2].f, 2), 0);
}

/* Each position of the list removes each other. */
static void test_removal_inside_wake(void **state)
{
    struct fixture *x = *state;

    for (int dropper = 0; dropper < 3; dropper++)
        for (int dropped = 0; dropped < 3; dropped++) {
            for (int i = 0; i < 3; i++) {
                x->e[i] = (struct ear){ .f.wake = on_wake, .hub = x->hub };
                add(x, i, "a");
            }
            x->e[dropper].drop = &x->e[dropped];
            ty_follow_notify(x->hub, "a");
            ty_follow_notify(x->hub, "a");
            assert_null(x->e[dropped].f.slot);
            assert_true(x->e[dropped].heard <= 1);
            for (int i = 0; i < 3; i++) {
                assert_true(i == dropped || x->e[i].heard == 2);
                ty_follow_remove(x->hub, &x->e[i].f);
            }
        }
}

static void test_last_one_removes_itself(void **state)
{
    struct fixture *x = *state;

    add(x, 0, "a");
    x->e[0].drop = &x->e[0];
    ty_follow_notify(x->hub, "a");
    ty_follow_notify(x->hub, "a");
    assert_int_equal(x->e[0].heard, 1);
}

static void test_joining_inside_wake(void **state)
{
    struct fixture *x = *state;

    add(x, 0, "a");
    x->e[0].join = &x->e[1];
    ty_follow_notify(x->hub, "a");
    ty_follow_notify(x->hub, "a");
    assert_int_equal(x->e[0].heard, 2);
    assert_int_equal(x->e[1].heard, 1);
}

/* A walk inside a walk, whose wakes remove what the outer one would visit next. */
static void test_nested(void **state)
{
    struct fixture *x = *state;

    add(x, 0, "a");
    add(x, 1, "a");
    add(x, 2, "a"); /* is first */
    add(x, 3, "b");
    x->e[2].pass_on = "b";
    x->e[3].drop = &x->e[1];
    ty_follow_notify(x->hub, "a");
    assert_int_equal(x->e[2].heard, 1);
    assert_int_equal(x->e[3].heard, 1);
    assert_int_equal(x->e[1].heard, 0);
    assert_int_equal(x->e[0].heard, 1);
}

static void test_all(void **state)
{
    struct fixture *x = *state;

    ty_follow_notify_all(x->hub);
    add(x, 0, "a");
    add(x, 1, "b");
    add(x, 2, "c");
    x->e[0].drop = &x->e[0];
    ty_follow_notify_all(x->hub);
    ty_follow_notify_all(x->hub);
    assert_int_equal(x->e[0].heard, 1);
    assert_int_equal(x->e[1].heard, 2);
    assert_int_equal(x->e[2].heard, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_who_asked, open_hub, close_hub),
        cmocka_unit_test_setup_teardown(test_limit, open_hub, close_hub),
        cmocka_unit_test_setup_teardown(test_removal_inside_wake, open_hub, close_hub),
        cmocka_unit_test_setup_teardown(test_last_one_removes_itself, open_hub, close_hub),
        cmocka_unit_test_setup_teardown(test_joining_inside_wake, open_hub, close_hub),
        cmocka_unit_test_setup_teardown(test_nested, open_hub, close_hub),
        cmocka_unit_test_setup_teardown(test_all, open_hub, close_hub),
    };

    return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
