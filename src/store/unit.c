/* unit.c - the memory of a unit
 *
 * An arena of chunks holds the operations and copies of what they were given, so that composing
 * one costs a few allocations, and the whole goes at once on the other thread.
 */
#include "store/store_internal.h"
#include <string.h>

#define CHUNK 4096

struct unit_chunk {
    struct unit_chunk *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

struct ty_unit *ty_unit_new(void)
{
    struct ty_unit *u = calloc(1, sizeof *u);

    if (u)
        u->tail = &u->head;
    return u;
}

void ty_unit_free(struct ty_unit *u)
{
    if (!u)
        return;
    for (struct unit_chunk *c = u->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(u);
}

void unit_failed(struct ty_unit *u)
{
    if (u)
        u->failed = true;
}

static void *arena_take(struct ty_unit *u, size_t n)
{
    size_t need = (n + 15) & ~(size_t)15;
    struct unit_chunk *c = u->chunks;
    void *p;

    if (!c || c->size - c->used < need) {
        size_t size = need > CHUNK / 2 ? need : CHUNK - sizeof *c;

        c = malloc(sizeof *c + size);
        if (!c) {
            u->failed = true;
            return NULL;
        }
        *c = (struct unit_chunk){ .next = u->chunks, .size = size };
        u->chunks = c;
    }
    p = c->bytes + c->used;
    c->used += need;
    return p;
}

void *unit_op(struct ty_unit *u, size_t size,
              int (*apply)(struct ty_store *st, const struct op *op))
{
    struct op *op = u && !u->failed ? arena_take(u, size) : NULL;

    if (!op)
        return NULL;
    memset(op, 0, size);
    op->apply = apply;
    *u->tail = op;
    u->tail = &op->next;
    return op;
}

const void *unit_bytes(struct ty_unit *u, const void *bytes, size_t n)
{
    void *copy = arena_take(u, n ? n : 1);

    if (copy && n)
        memcpy(copy, bytes, n);
    return copy;
}

const char *unit_text(struct ty_unit *u, const char *text)
{
    return text ? unit_bytes(u, text, strlen(text) + 1) : NULL;
}
