/* arena.c - first fit, neighbours that are free become one */
#include "coll/arena.h"
#include "base/fault.h"
#include <stdlib.h>
#include <string.h>

void ty_arena_init(struct ty_arena *a, void *base, size_t size)
{
    memset(a, 0, sizeof *a);
    a->base = base;
    a->size = size;
}

void ty_arena_done(struct ty_arena *a)
{
    free(a->piece);
    memset(a, 0, sizeof *a);
}

/* A piece at index i; those behind it move. */
static bool insert(struct ty_arena *a, int i, struct ty_piece p)
{
    if (a->pieces == a->room) {
        int room = a->room ? a->room * 2 : 64;
        struct ty_piece *more =
            FAULT("arena.alloc", NULL, realloc(a->piece, (size_t)room * sizeof *more));

        if (!more)
            return false;
        a->piece = more;
        a->room = room;
    }
    memmove(&a->piece[i + 1], &a->piece[i], (size_t)(a->pieces - i) * sizeof *a->piece);
    a->piece[i] = p;
    a->pieces++;
    return true;
}

void *ty_arena_take(struct ty_arena *a, size_t n)
{
    if (n > a->size)
        return NULL;
    n = n ? (n + 63) / 64 * 64 : 64;
    for (int i = 0; i < a->pieces; i++) {
        struct ty_piece *p = &a->piece[i];

        if (p->used || p->n < n)
            continue;
        if (p->n > n && !insert(a, i + 1, (struct ty_piece){ p->at + n, p->n - n, false }))
            return NULL;
        p = &a->piece[i];
        p->n = n;
        p->used = true;
        memset(a->base + p->at, 0, n);
        return a->base + p->at;
    }
    if (a->pieces && !a->piece[a->pieces - 1].used) { /* the last one and what is behind it */
        struct ty_piece *last = &a->piece[a->pieces - 1];

        if (n > a->size - last->at)
            return NULL;
        memset(a->base + last->at, 0, last->n);
        last->n = n;
        last->used = true;
        a->fresh = last->at + n;
        return a->base + last->at;
    }
    if (n > a->size - a->fresh || !insert(a, a->pieces, (struct ty_piece){ a->fresh, n, true }))
        return NULL;
    a->fresh += n;
    return a->base + a->fresh - n;
}

static void remove_at(struct ty_arena *a, int i)
{
    a->pieces--;
    memmove(&a->piece[i], &a->piece[i + 1], (size_t)(a->pieces - i) * sizeof *a->piece);
}

void ty_arena_give(struct ty_arena *a, void *p)
{
    size_t at = (size_t)((unsigned char *)p - a->base);
    int low = 0, high = a->pieces - 1, i;

    if (!p || !ty_arena_has(a, p))
        return;
    while (low < high) {
        int middle = (low + high) / 2;

        if (a->piece[middle].at < at)
            low = middle + 1;
        else
            high = middle;
    }
    i = low;
    if (i >= a->pieces || a->piece[i].at != at || !a->piece[i].used)
        return;
    a->piece[i].used = false;
    if (i + 1 < a->pieces && !a->piece[i + 1].used) {
        a->piece[i].n += a->piece[i + 1].n;
        remove_at(a, i + 1);
    }
    if (i > 0 && !a->piece[i - 1].used) {
        a->piece[i - 1].n += a->piece[i].n;
        remove_at(a, i);
    }
}
