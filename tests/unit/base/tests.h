/* tests.h - what every unit test of base includes, and a folder of its own for those that write */
#ifndef TESTS_H
#define TESTS_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/fs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Group setup and teardown: the working directory becomes a fresh folder, which goes away with all that is in it. */
static char tests_folder[64];

static inline int tests_enter(void **state)
{
    (void)state;
    snprintf(tests_folder, sizeof tests_folder, "/tmp/ty-unit.XXXXXX");
    return mkdtemp(tests_folder) ? chdir(tests_folder) : -1;
}

static inline int tests_leave(void **state)
{
    (void)state;
    return chdir("/") < 0 ? -1 : ty_rm_rf(tests_folder);
}

static inline void tests_put(const char *path, const char *text)
{
    assert_int_equal(ty_write_file(path, text, strlen(text), 0644), 0);
}
#endif
