/* pmix_layout.h - which ranks a job has and where, for the helper: read from SETUP, told to libpmix
 *
 * Ranks are dealt node by node: the first node has 0 to ranks-1, and so on.
 */
#ifndef TY_PMIX_LAYOUT_H
#define TY_PMIX_LAYOUT_H
#include "runner/pmix_lib.h"
#include <stdbool.h>
#include <stdint.h>
struct ty_error;

struct ty_pmix_layout {
    char *name_space, *tmp, *shm; /* malloc'ed; folders that are there; shm: of the ranks' shared memory, or "" */
    struct ty_pmix_place {
        char *name; /* malloc'ed */
        uint32_t first, ranks;
    } *nodes;
    int nnodes, node; /* node: this one */
    int64_t cpus;     /* for the ranks of this node; 0: not known */
    uint32_t size;
};

int ty_pmix_layout_read(const char *json, size_t n, struct ty_pmix_layout *ret, struct ty_error *err);
void ty_pmix_layout_done(struct ty_pmix_layout *l);
int ty_pmix_layout_node_of(const struct ty_pmix_layout *l, uint32_t rank); /* -1: no such rank */

/* A list of infos; what the values point to is malloc'ed and belongs to the list. */
struct ty_pmix_infos {
    pmix_info_t *v;
    size_t n, cap;
    bool failed; /* sticky: out of memory */
};
void ty_pmix_infos_done(struct ty_pmix_infos *s);
void ty_pmix_add_text(struct ty_pmix_infos *s, const char *key, const char *text);
void ty_pmix_add_u32(struct ty_pmix_infos *s, const char *key, uint32_t v);

/* What libpmix must know of the job and of each rank, as launchers of MPI tell it. */
int ty_pmix_layout_infos(const struct ty_pmix_layout *l, const struct ty_pmix_lib *lib,
                         struct ty_pmix_infos *ret, struct ty_error *err);
#endif
