/* test_systree.c - who belongs to which rank, with real processes */
#include "base/clock.h"
#include "runner/systree.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HELD (32 << 20)

/* A process with `children` children, which have one each when `deep`; every one holds memory when it is ready.  It says so
 * through `ready`, and sleeps. */
static void be(int ready, int children, bool deep, size_t bytes)
{
    char *memory = bytes ? malloc(bytes) : NULL;

    if (memory)
        memset(memory, 1, bytes);
    while (children > 0) {
        if (fork() == 0) {
            children = deep ? 1 : 0;
            deep = false;
        } else {
            children--;
        }
    }
    if (write(ready, "x", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static pid_t start(int children, bool deep, size_t bytes)
{
    int fds[2], all = 1 + children + (deep ? children : 0);
    pid_t pid;
    char c;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        be(fds[1], children, deep, bytes);
    }
    close(fds[1]);
    for (int i = 0; i < all; i++)
        assert_int_equal(read(fds[0], &c, 1), 1);
    close(fds[0]);
    return pid;
}

static void stop(pid_t pid)
{
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_whose_processes(void **state)
{
    pid_t alone = start(0, false, 0), large = start(3, true, HELD), other = start(2, false, 0);
    struct ty_systree_rank ranks[] = { { .rank = 0, .wrapper = large },
                                       { .rank = 1, .wrapper = alone },
                                       { .rank = 2, .wrapper = 1 << 22 } };
    struct ty_systree *t = ty_systree_new(ranks, 3);

    (void)state;
    for (int i = 0; i < 2; i++) { /* read anew, and only what is known */
        assert_int_equal(ty_systree_look(t, i), 0);
        assert_int_equal(ranks[0].processes, 7);
        assert_int_equal(ranks[1].processes, 1);
        assert_int_equal(ranks[2].processes, 0);
        assert_true(ranks[0].resident_bytes > HELD);
        assert_true(ranks[1].resident_bytes > 0 && ranks[1].resident_bytes < HELD);
    }
    stop(alone);
    assert_int_equal(ty_systree_look(t, 2), 0);
    assert_int_equal(ranks[0].processes, 7);
    assert_int_equal(ranks[1].processes, 0);
    assert_int_equal(ranks[1].resident_bytes, 0);
    alone = start(4, false, 0);
    ranks[1].wrapper = alone;
    assert_int_equal(ty_systree_look(t, INT64_MAX / 4), 0); /* much later: all is read again */
    assert_int_equal(ranks[1].processes, 5);
    ty_systree_free(t);
    stop(alone);
    stop(large);
    stop(other);
}

/* CPU time of a child that has ended stays with whoever waited for it. */
static void test_ticks(void **state)
{
    struct ty_systree_rank me = { .rank = 0, .wrapper = getpid() };
    struct ty_systree *t = ty_systree_new(&me, 1);
    uint64_t before;
    pid_t pid;

    (void)state;
    assert_int_equal(ty_systree_look(t, 0), 0);
    before = me.ticks;
    pid = fork();
    if (pid == 0) {
        volatile unsigned n = 0;

        for (clock_t end = clock() + CLOCKS_PER_SEC / 20; clock() < end;)
            n = n + 1;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    assert_int_equal(ty_systree_look(t, 0), 0);
    assert_true(me.ticks >= before + 3); /* 50 ms are five ticks of a hundred a second */
    ty_systree_free(t);
    ty_systree_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_whose_processes),
                                        cmocka_unit_test(test_ticks) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
