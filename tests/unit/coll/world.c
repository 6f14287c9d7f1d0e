/* world.c - ranks of a test, and the table through which they find each other
 *
 * The table has no locks, so that a rank that is killed at any moment leaves it whole: an entry is filled by its rank
 * alone and then published; a fence is a counter of each rank, and a futex for those that wait.
 */
#include "world.h"
#include "base/clock.h"
#include "coll/futex.h"
#include "tests.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 4
#define KEY_BYTES 32
#define VALUE_BYTES 4000

struct world_value {
    _Atomic uint32_t there;
    uint32_t n;
    char key[KEY_BYTES];
    char bytes[VALUE_BYTES];
};
struct world_table {
    int size;
    _Atomic uint32_t bell;
    _Atomic uint64_t word[WORLD_WORDS];
    struct {
        _Atomic uint32_t fences[WORLD_MAX];
        struct world_value value[WORLD_MAX][KEYS];
    } world[WORLD_GENERATIONS];
};
struct place {
    struct world_table *t;
    int rank, generation;
};

struct world_table *world_table_new(int size)
{
    struct world_table *t =
        mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(t != MAP_FAILED && size <= WORLD_MAX);
    t->size = size;
    return t;
}

void world_table_free(struct world_table *t)
{
    munmap(t, sizeof *t);
}

static int put(void *ctx, const char *key, const void *value, size_t n, struct ty_error *err)
{
    struct place *p = ctx;
    struct world_value *v = p->t->world[p->generation].value[p->rank];

    (void)err;
    while (v->there)
        v++;
    if (n > sizeof v->bytes || strlen(key) >= sizeof v->key)
        return -EMSGSIZE;
    memcpy(v->key, key, strlen(key) + 1);
    memcpy(v->bytes, value, n);
    v->n = (uint32_t)n;
    atomic_store(&v->there, 1);
    return 0;
}

static int fence(void *ctx, int timeout_ms, struct ty_error *err)
{
    struct place *p = ctx;
    _Atomic uint32_t *fences = p->t->world[p->generation].fences;
    uint32_t mine = atomic_fetch_add(&fences[p->rank], 1) + 1;
    int64_t until = ty_mono_us() + (int64_t)timeout_ms * 1000;

    (void)err;
    atomic_fetch_add(&p->t->bell, 1);
    ty_futex_wake(&p->t->bell, WORLD_MAX);
    for (;;) {
        uint32_t bell = atomic_load(&p->t->bell);
        int64_t left = until - ty_mono_us();
        int here = 0;

        for (int i = 0; i < p->t->size; i++)
            here += atomic_load(&fences[i]) >= mine;
        if (here == p->t->size)
            return 0;
        if (left <= 0)
            return -ETIMEDOUT;
        ty_futex_wait(&p->t->bell, bell, left);
    }
}

static int get(void *ctx, int rank, const char *key, void **ret, size_t *n, struct ty_error *err)
{
    struct place *p = ctx;

    (void)err;
    for (int k = 0; k < KEYS; k++) {
        struct world_value *v = &p->t->world[p->generation].value[rank][k];

        if (!atomic_load(&v->there) || strcmp(v->key, key) != 0)
            continue;
        *ret = malloc(v->n + 1);
        memcpy(*ret, v->bytes, v->n);
        *n = v->n;
        return 0;
    }
    return -ENOENT;
}

struct ty_coll_boot world_boot(struct world_table *t, int rank, int generation)
{
    struct place *p = malloc(sizeof *p);

    *p = (struct place){ t, rank, generation };
    return (struct ty_coll_boot){ p, put, fence, get, free };
}

_Atomic uint64_t *world_word(const struct world *w, int i)
{
    return &w->table->word[i];
}

int64_t world_now_us(void)
{
    return ty_mono_us();
}

_Noreturn void world_failed(const struct world *w, int rank, const char *what, const char *file,
                            int line)
{
    fprintf(stderr, "%s:%d: rank %d of %d, seed %llu: not true: %s\n", file, line, rank, w->size,
            (unsigned long long)w->seed, what);
    fflush(stdout);
    _exit(1);
}

static void no_warning(void *ctx, const char *line)
{
    (void)ctx;
    (void)line;
}

struct ty_coll *world_open(struct world_rank *r, int generation)
{
    struct ty_coll_options o = r->w->options ? *r->w->options : (struct ty_coll_options){ 0 };
    struct ty_coll_boot boot = world_boot(r->w->table, r->rank, generation);
    struct ty_error err = { 0 };
    struct ty_coll *c = NULL;

    o.size = r->size;
    o.rank = r->rank;
    o.boot = &boot;
    o.node = r->w->node ? r->w->node[r->rank] : "one";
    if (!o.arena_bytes)
        o.arena_bytes = 256 << 20;
    if (!o.warn)
        o.warn = no_warning;
    if (ty_coll_open(&o, &c, &err) < 0)
        world_failed(r->w, r->rank, err.text, __FILE__, __LINE__);
    return c;
}

static void run(struct world_rank *r, void (*body)(struct world_rank *r))
{
    if (!r->w->manual)
        r->c = world_open(r, 0);
    body(r);
    if (!r->w->manual)
        r->c = ty_coll_close(r->c);
}

static struct world_rank rank_of(struct world *w, int rank)
{
    return (struct world_rank){ .w = w,
                                .rank = rank,
                                .size = w->size,
                                .arg = w->arg,
                                .seed = w->seed * 1000003 + (uint64_t)rank * 7919 + 1 };
}

/* ---- threads ---- */

struct start {
    struct world_rank r;
    void (*body)(struct world_rank *r);
};

static void *thread(void *arg)
{
    struct start *s = arg;

    run(&s->r, s->body);
    return NULL;
}

void world_threads(const struct world *given, void (*body)(struct world_rank *r))
{
    struct world w = *given;
    struct start start[WORLD_MAX];
    pthread_t t[WORLD_MAX];

    w.table = world_table_new(w.size);
    for (int i = 0; i < w.size; i++) {
        start[i] = (struct start){ rank_of(&w, i), body };
        assert_int_equal(pthread_create(&t[i], NULL, thread, &start[i]), 0);
    }
    for (int i = 0; i < w.size; i++)
        pthread_join(t[i], NULL);
    world_table_free(w.table);
}

/* ---- processes ---- */

void world_fork(struct world *w, void (*body)(struct world_rank *r))
{
    w->table = world_table_new(w->size);
    fflush(stdout);
    for (int i = 0; i < w->size; i++) {
        w->pid[i] = fork();
        assert_true(w->pid[i] >= 0);
        if (w->pid[i] == 0) {
            struct world_rank r = rank_of(w, i);

            run(&r, body);
            _exit(0);
        }
    }
}

void world_kill(struct world *w, int rank)
{
    int status;

    kill(w->pid[rank], SIGKILL);
    waitpid(w->pid[rank], &status, 0);
    w->pid[rank] = 0;
}

void world_end(struct world *w, int timeout_ms)
{
    int64_t until = ty_mono_us() + (int64_t)timeout_ms * 1000;
    int bad = 0;

    for (int i = 0; i < w->size; i++) {
        int status = 0;
        pid_t got = 0;

        while (w->pid[i] && (got = waitpid(w->pid[i], &status, WNOHANG)) == 0 &&
               ty_mono_us() < until)
            usleep(1000);
        if (w->pid[i] && got == 0) {
            printf("# rank %d of %d has not ended, seed %llu\n", i, w->size,
                   (unsigned long long)w->seed);
            world_kill(w, i);
            bad++;
        } else if (w->pid[i] && status != 0) {
            printf("# rank %d of %d ended with status 0x%x, seed %llu\n", i, w->size, status,
                   (unsigned long long)w->seed);
            bad++;
        }
    }
    world_table_free(w->table);
    assert_int_equal(bad, 0);
}
