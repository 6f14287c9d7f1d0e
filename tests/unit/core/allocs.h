/* allocs.h - jansson's allocations, failing at a chosen one */
#ifndef ALLOCS_H
#define ALLOCS_H
#include <jansson.h>
#include <stdlib.h>

static int allocs_left = -1; /* until the one that fails; -1: none does */

static inline void *allocs_get(size_t n)
{
    if (allocs_left == 0)
        return NULL;
    if (allocs_left > 0)
        allocs_left--;
    return malloc(n);
}

static inline int allocs_setup(void **state)
{
    (void)state;
    json_set_alloc_funcs(allocs_get, free);
    return 0;
}
#endif
