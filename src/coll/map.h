/* map.h - from 64-bit keys to words: open addressing, for keys that are hashes already (or small numbers) */
#ifndef TY_COLL_MAP_H
#define TY_COLL_MAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise.  Key 0 is not allowed. */
struct ty_map {
    struct ty_map_entry {
        uint64_t key, value;
    } *at;
    size_t size, used; /* size: 0 or a power of two */
};

/* Room for one more entry, so that the next put cannot fail: 0 or -ENOMEM. */
int ty_map_reserve(struct ty_map *m);
/* Set the value of a key; after ty_map_reserve. */
void ty_map_put(struct ty_map *m, uint64_t key, uint64_t value);
bool ty_map_get(const struct ty_map *m, uint64_t key, uint64_t *value);
void ty_map_remove(struct ty_map *m, uint64_t key); /* an absent key is fine */
void ty_map_clear(struct ty_map *m);                /* keeps the memory */
void ty_map_done(struct ty_map *m);
#endif
