/* arena.h - handing out pieces of a rank's own arena
 *
 * First fit over a list of free pieces in order of address.  A piece is 64-byte aligned and zeroed when it is given out: new
 * memory of the file is zero already, what was used before is cleared.  Not thread-safe.
 */
#ifndef TY_COLL_ARENA_H
#define TY_COLL_ARENA_H
#include <stdbool.h>
#include <stddef.h>

struct ty_arena {
    unsigned char *base;
    size_t size, fresh; /* beyond `fresh` nothing was ever given out */
    struct ty_piece {
        size_t at, n;
        bool used;
    } *piece; /* [pieces], by address, without gaps, up to `fresh` */
    int pieces, room;
};
void ty_arena_init(struct ty_arena *a, void *base, size_t size);
void *ty_arena_take(struct ty_arena *a, size_t n); /* NULL: no room.  n 0 counts as 1 */
void ty_arena_give(struct ty_arena *a, void *p);   /* NULL is fine; what was not taken is ignored */
void ty_arena_done(struct ty_arena *a);
static inline bool ty_arena_has(const struct ty_arena *a, const void *p)
{
    return (const unsigned char *)p >= a->base && (const unsigned char *)p < a->base + a->size;
}
#endif
