/* map.c - open addressing with linear probing; removal moves the entries behind the gap, so there are no tombstones */
#include "coll/map.h"
#include "base/fault.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t home(const struct ty_map *m, uint64_t key)
{
    return (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (m->size - 1);
}

/* The place of the key, or the free one where it would be. */
static struct ty_map_entry *place(const struct ty_map *m, uint64_t key)
{
    size_t i = home(m, key);

    while (m->at[i].key && m->at[i].key != key)
        i = (i + 1) & (m->size - 1);
    return &m->at[i];
}

int ty_map_reserve(struct ty_map *m)
{
    struct ty_map bigger = { .size = m->size ? m->size * 2 : 64 };

    if (m->used * 2 < m->size)
        return 0;
    bigger.at = FAULT("map.alloc", NULL, calloc(bigger.size, sizeof *bigger.at));
    if (!bigger.at)
        return -ENOMEM;
    for (size_t i = 0; i < m->size; i++)
        if (m->at[i].key)
            *place(&bigger, m->at[i].key) = m->at[i];
    bigger.used = m->used;
    free(m->at);
    *m = bigger;
    return 0;
}

void ty_map_put(struct ty_map *m, uint64_t key, uint64_t value)
{
    struct ty_map_entry *e = place(m, key);

    m->used += !e->key;
    e->key = key;
    e->value = value;
}

bool ty_map_get(const struct ty_map *m, uint64_t key, uint64_t *value)
{
    const struct ty_map_entry *e = m->size ? place(m, key) : NULL;

    if (!e || !e->key)
        return false;
    *value = e->value;
    return true;
}

void ty_map_remove(struct ty_map *m, uint64_t key)
{
    struct ty_map_entry *e = m->size ? place(m, key) : NULL;
    size_t gap, i;

    if (!e || !e->key)
        return;
    gap = i = (size_t)(e - m->at);
    for (;;) {
        i = (i + 1) & (m->size - 1);
        if (!m->at[i].key)
            break;
        /* Entries between their home and i stay reachable only if the gap is not in between. */
        if (((i - home(m, m->at[i].key)) & (m->size - 1)) >= ((i - gap) & (m->size - 1))) {
            m->at[gap] = m->at[i];
            gap = i;
        }
    }
    m->at[gap].key = 0;
    m->used--;
}

void ty_map_clear(struct ty_map *m)
{
    if (m->size)
        memset(m->at, 0, m->size * sizeof *m->at);
    m->used = 0;
}

void ty_map_done(struct ty_map *m)
{
    free(m->at);
    memset(m, 0, sizeof *m);
}
