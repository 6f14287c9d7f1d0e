/* tests.h - what every unit test of core includes */
#ifndef TESTS_H
#define TESTS_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The same numbers in every run: a failure can be looked at again. */
static inline uint32_t tests_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* A copy without spare bytes, so that reading beyond it is noticed. */
static inline void *tests_tight(const void *bytes, size_t n)
{
    void *p = malloc(n ? n : 1);

    assert_non_null(p);
    memcpy(p, bytes, n);
    return p;
}
#endif
