/* world.h - a world of ranks inside one test: as threads of this process, or as processes forked from it
 *
 *     static void body(struct world_rank *r) { CHECK(ty_coll_do(r->c, ...) == 0); }
 *     world_threads(&(struct world){ .size = 3 }, body);
 *
 * The ranks find each other through a table in memory that forked processes share, too.  Each opens its context,
 * runs the body and closes.  Ranks that are not the test's own thread must not use cmocka's assertions, for those jump
 * to the thread of the test: they use CHECK, which ends the process and says where, with the seed of the world.
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <trainyard/coll.h>

#define WORLD_MAX 16

/* Sanitizers take their time: one in so many of the many cases is enough there. */
#if defined(__SANITIZE_THREAD__)
#define WORLD_THIN 12
#elif defined(__SANITIZE_ADDRESS__)
#define WORLD_THIN 4
#else
#define WORLD_THIN 1
#endif

struct world_table;
struct world;

struct world_rank {
    struct world *w;
    int rank, size;
    struct ty_coll *c; /* in a body: open */
    uint64_t seed;     /* of this rank */
    void *arg;         /* world->arg */
};

/* Zero-initialise. */
struct world {
    int size;
    const char *const *node; /* [size] names; NULL: all on one */
    uint64_t seed;           /* printed by CHECK */
    void *arg;
    const struct ty_coll_options *options; /* what else to open with */
    bool manual; /* the body opens and closes, with world_open */

    /* the world's own */
    struct world_table *table;
    pid_t pid[WORLD_MAX];
};

/* Run the body on all ranks and return when all have ended. */
void world_threads(const struct world *w, void (*body)(struct world_rank *r));

/* Start a process for each rank; world_end() waits for them, timeout_ms at most (then kills them and fails), and fails unless
 * each exited with 0, or was killed by the test with world_kill. */
void world_fork(struct world *w, void (*body)(struct world_rank *r));
void world_kill(struct world *w, int rank);
void world_end(struct world *w, int timeout_ms);

/* The exchange of a rank: what ty_coll_options.boot points to.  A table serves one world after another: `generation` numbers
 * them from 0, at most WORLD_GENERATIONS - 1. */
#define WORLD_GENERATIONS 8
struct world_table *world_table_new(int size); /* shared with processes that are forked later */
void world_table_free(struct world_table *t);
struct ty_coll_boot world_boot(struct world_table *t, int rank, int generation);
/* Open the context of a rank with the world's options; fails the test on an error. */
struct ty_coll *world_open(struct world_rank *r, int generation);

/* A word for the test, shared by all ranks, processes too: of WORLD_WORDS, zero at first. */
#define WORLD_WORDS 256
_Atomic uint64_t *world_word(const struct world *w, int i);

/* End the process, with file and line and the seed. */
#define CHECK(x) ((x) ? (void)0 : world_failed(r->w, r->rank, #x, __FILE__, __LINE__))
_Noreturn void world_failed(const struct world *w, int rank, const char *what, const char *file, int line);
int64_t world_now_us(void);
#endif
