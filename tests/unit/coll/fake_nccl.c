/* fake_nccl.c - a stand-in for libnccl.so.2, see fake_cuda.h
 *
 * The members of a communicator, threads or processes, meet in a file that the unique id names.  Calls are non-blocking as
 * NCCL's are: a group is on the stream only when its communicator has said so, and runs later, there.  What NCCL does not
 * allow ends the process with a message: buffers that are not on the communicator's GPU or overlap in a wrong way, averages of
 * integers, calls that differ between the members, calls outside a group.
 */
#include "coll/futex.h"
#include "coll/nccl.h"
#include "fake_cuda.h"
#include "values.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define RANKS 16
#define CALLS 512
#define AREA ((size_t)16 << 20)
#define OPS 64
#define FIRST_OP 5
#define MUST(x, why) ((x) ? (void)0 : die(__LINE__, why))

enum kind { ALL_REDUCE, REDUCE, REDUCE_SCATTER, BROADCAST, ALL_GATHER, SEND, RECV };
struct told { /* what a member says of a call */
    int kind, type, op, peer;
    size_t n, at;
    double scale;
};
struct member {
    _Atomic uint64_t posted, read;
    int calls;
    struct told call[CALLS];
};
struct shared {
    _Atomic uint32_t bell;
    _Atomic int attached;
    struct member member[RANKS];
};
struct call {
    struct told t;
    const void *in;
    void *out;
};
struct group {
    struct comm *comm;
    void *stream;
    int calls;
    struct call call[CALLS];
};
struct comm {
    int n, me, device, state; /* state: how often GetAsyncError says "in progress" yet */
    bool up;
    uint64_t groups;
    struct shared *shared;
    unsigned char *area;
    char path[64];
    struct group *pending;
    _Atomic int abort, lost;
    int busy; /* groups on the stream; under `lock` */
    double scale[OPS];
    bool used[OPS];
};

static _Atomic int comms, ops, calls, aborts, groups, die_at, lose_at, refuse;
static char made[64]; /* the file of the last unique id */
static _Thread_local struct group *open_group;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;

static _Noreturn void die(int line, const char *why)
{
    fprintf(stderr, "fake_nccl.c:%d: %s\n", line, why);
    _exit(1);
}

static void *cuda(const char *name)
{
    void *so = dlopen(getenv("TRAINYARD_COLL_CUDART"), RTLD_NOW | RTLD_LOCAL);
    void *f = so ? dlsym(so, name) : NULL;

    MUST(f, "no stand-in for CUDA");
    return f;
}

static void *alias(const void *p, size_t n, int device)
{
    fake_alias_fn *f;

    *(void **)&f = cuda("fake_alias");
    return f(p, n, device);
}

static enum ty_coll_dtype type_of(int type)
{
    static const int types[] = { TY_COLL_I8, TY_COLL_U8,  TY_COLL_I32, -1,          TY_COLL_I64,
                                 -1,         TY_COLL_F16, TY_COLL_F32, TY_COLL_F64, TY_COLL_BF16 };

    MUST(type >= 0 && type < 10 && types[type] >= 0, "no such type");
    return (enum ty_coll_dtype)types[type];
}

static size_t width(int type)
{
    static const size_t widths[TY_COLL_DTYPES] = {
        [TY_COLL_U8] = 1,  [TY_COLL_I8] = 1,   [TY_COLL_I32] = 4, [TY_COLL_I64] = 8,
        [TY_COLL_F16] = 2, [TY_COLL_BF16] = 2, [TY_COLL_F32] = 4, [TY_COLL_F64] = 8
    };

    return widths[type_of(type)];
}

/* ---- running a group, on the thread of its stream ---- */

static void ring(struct shared *s)
{
    atomic_fetch_add(&s->bell, 1);
    ty_futex_wake(&s->bell, RANKS);
}

static bool wait_for(struct comm *k, uint64_t group, bool read)
{
    for (;;) {
        uint32_t bell = atomic_load(&k->shared->bell);
        int here = 0;

        for (int i = 0; i < k->n; i++) {
            struct member *m = &k->shared->member[i];

            here += atomic_load(read ? &m->read : &m->posted) >= group;
        }
        if (here == k->n)
            return true;
        if (atomic_load(&k->abort))
            return false;
        ty_futex_wait(&k->shared->bell, bell, -1);
    }
}

static size_t bytes_in(const struct comm *k, const struct told *t)
{
    size_t n = t->n * width(t->type);

    return t->kind == RECV || (t->kind == BROADCAST && t->peer != k->me) ? 0
           : t->kind == REDUCE_SCATTER                                   ? n * (size_t)k->n
                                                                         : n;
}
static size_t bytes_out(const struct comm *k, const struct told *t)
{
    size_t n = t->n * width(t->type);

    return t->kind == SEND || (t->kind == REDUCE && t->peer != k->me) ? 0
           : t->kind == ALL_GATHER                                    ? n * (size_t)k->n
                                                                      : n;
}

static const unsigned char *data_of(const struct comm *k, int member, size_t at)
{
    return k->area + (size_t)member * AREA + at;
}

static void post(struct comm *k, struct group *g)
{
    struct member *m = &k->shared->member[k->me];
    size_t at = 0;

    m->calls = g->calls;
    for (int i = 0; i < g->calls; i++) {
        struct call *c = &g->call[i];
        size_t n = bytes_in(k, &c->t);

        c->t.at = at;
        m->call[i] = c->t;
        MUST(at + n <= AREA, "too much for the stand-in");
        if (n)
            memcpy((unsigned char *)data_of(k, k->me, at), alias(c->in, n, k->device), n);
        at += (n + 63) / 64 * 64;
    }
}

static double combine(const struct told *t, double a, double b)
{
    return t->op == 1 ? a * b : t->op == 2 ? (a > b ? a : b) : t->op == 3 ? (a < b ? a : b) : a + b;
}

static void reduce(struct comm *k, const struct call *c, int index, size_t skip)
{
    enum ty_coll_dtype type = type_of(c->t.type);
    void *out = alias(c->out, c->t.n * width(c->t.type), k->device);

    for (size_t i = 0; i < c->t.n; i++) {
        double sum = 0;

        for (int r = 0; r < k->n; r++) {
            const struct told *t = &k->shared->member[r].call[index];
            double x = load(type, data_of(k, r, t->at), (int64_t)(skip + i)) * c->t.scale;

            sum = r ? combine(&c->t, sum, x) : x;
        }
        store(type, out, (int64_t)i, c->t.op == 4 ? sum / k->n : sum);
    }
}

/* The data that member `from` sends me, as the nth time in this group. */
static const unsigned char *sent(const struct comm *k, int from, size_t n, int nth)
{
    const struct member *m = &k->shared->member[from];

    for (int i = 0; i < m->calls; i++)
        if (m->call[i].kind == SEND && m->call[i].peer == k->me && nth-- == 0) {
            MUST(m->call[i].n == n, "a receive is not as long as its send");
            return data_of(k, from, m->call[i].at);
        }
    die(__LINE__, "a receive without its send");
}

static void give(struct comm *k, struct group *g, int index, int *received)
{
    const struct call *c = &g->call[index];
    size_t n = c->t.n * width(c->t.type), out = bytes_out(k, &c->t);
    unsigned char *to = out ? alias(c->out, out, k->device) : NULL;

    for (int r = 0; c->t.kind < SEND && r < k->n; r++) {
        const struct told *t = &k->shared->member[r].call[index];

        MUST(k->shared->member[r].calls == g->calls && t->kind == c->t.kind &&
                 t->type == c->t.type && t->n == c->t.n && t->op == c->t.op &&
                 t->peer == c->t.peer && t->scale == c->t.scale,
             "the members' calls differ");
        if (c->t.kind == ALL_GATHER)
            memcpy(to + (size_t)r * n, data_of(k, r, t->at), n);
    }
    if (c->t.kind == ALL_REDUCE || (c->t.kind == REDUCE && c->t.peer == k->me))
        reduce(k, c, index, 0);
    if (c->t.kind == REDUCE_SCATTER)
        reduce(k, c, index, (size_t)k->me * c->t.n);
    if (c->t.kind == BROADCAST)
        memcpy(to, data_of(k, c->t.peer, k->shared->member[c->t.peer].call[index].at), n);
    if (c->t.kind == RECV)
        memcpy(to, sent(k, c->t.peer, c->t.n, received[c->t.peer]++), n);
}

static void run(void *arg)
{
    struct group *g = arg;
    struct comm *k = g->comm;
    uint64_t number = ++k->groups;
    int received[RANKS] = { 0 };

    if (atomic_load(&die_at) > 0 && atomic_fetch_sub(&die_at, 1) == 1)
        _exit(0);
    if (atomic_load(&lose_at) > 0 && atomic_fetch_sub(&lose_at, 1) == 1)
        atomic_store(&k->lost, 1);
    if (wait_for(k, number - 1, true) && (!k->lost || wait_for(k, UINT64_MAX, false))) {
        post(k, g);
        atomic_store(&k->shared->member[k->me].posted, number);
        ring(k->shared);
        if (wait_for(k, number, false)) {
            for (int i = 0; i < g->calls; i++)
                give(k, g, i, received);
            atomic_store(&k->shared->member[k->me].read, number);
            ring(k->shared);
        }
    }
    free(g);
    pthread_mutex_lock(&lock);
    k->busy--;
    pthread_cond_broadcast(&idle);
    pthread_mutex_unlock(&lock);
}

/* ---- communicators ---- */

EXPORT int ncclGetVersion(int *version);
int ncclGetVersion(int *version)
{
    const char *other = getenv("FAKE_NCCL_VERSION");

    *version = other ? (int)strtol(other, NULL, 10) : 22105;
    return 0;
}

EXPORT const char *ncclGetErrorString(int error);
const char *ncclGetErrorString(int error)
{
    return error == 2   ? "unhandled system error"
           : error == 6 ? "remote process exited or there was a network error"
                        : "no error";
}

EXPORT int ncclGetUniqueId(struct ty_nccl_id *id);
int ncclGetUniqueId(struct ty_nccl_id *id)
{
    char path[] = "/tmp/ty-fake-nccl-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    MUST(fd >= 0 && ftruncate(fd, (off_t)(sizeof(struct shared) + RANKS * AREA)) == 0, "no file");
    close(fd);
    memset(id, 0, sizeof *id);
    memcpy(id->bytes, path, sizeof path);
    memcpy(made, path, sizeof path);
    return 0;
}

EXPORT int ncclCommInitRankConfig(void **ret, int n, struct ty_nccl_id id, int rank,
                                  struct ty_nccl_config *config);
int ncclCommInitRankConfig(void **ret, int n, struct ty_nccl_id id, int rank,
                           struct ty_nccl_config *config)
{
    struct comm *k = calloc(1, sizeof *k);
    int (*device)(int *);
    int fd = open(id.bytes, O_RDWR | O_CLOEXEC);

    MUST(config->magic == 0xcafebeef && config->version == 21400 && config->size == 24 &&
             config->blocking == 0,
         "not the configuration of a non-blocking communicator");
    if (atomic_exchange(&refuse, 0)) {
        close(fd);
        free(k);
        return 2;
    }
    MUST(fd >= 0 && n <= RANKS, "no file for the communicator");
    *(void **)&device = cuda("cudaGetDevice");
    device(&k->device);
    k->n = n;
    k->me = rank;
    memcpy(k->path, id.bytes, sizeof k->path);
    k->shared =
        mmap(NULL, sizeof(struct shared) + RANKS * AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(k->shared != MAP_FAILED, "no memory for the communicator");
    k->area = (unsigned char *)(k->shared + 1);
    close(fd);
    if (atomic_fetch_add(&k->shared->attached, 1) + 1 == n)
        unlink(k->path);
    atomic_fetch_add(&comms, 1);
    *ret = k;
    return TY_NCCL_IN_PROGRESS;
}

EXPORT int ncclCommGetAsyncError(void *comm, int *error);
int ncclCommGetAsyncError(void *comm, int *error)
{
    struct comm *k = comm;
    fake_enqueue_fn *enqueue;

    k->up |= atomic_load(&k->shared->attached) == k->n;
    if (k->lost) {
        *error = 6;
        return 0;
    }
    *error = !k->up || k->state-- > 0 ? TY_NCCL_IN_PROGRESS : 0;
    if (*error == 0 && k->pending) {
        *(void **)&enqueue = cuda("fake_enqueue");
        pthread_mutex_lock(&lock);
        k->busy++;
        pthread_mutex_unlock(&lock);
        enqueue(k->pending->stream, run, k->pending);
        k->pending = NULL;
    }
    return 0;
}

EXPORT int ncclCommAbort(void *comm);
int ncclCommAbort(void *comm)
{
    struct comm *k = comm;

    atomic_store(&k->abort, 1);
    ring(k->shared);
    pthread_mutex_lock(&lock);
    while (k->busy)
        pthread_cond_wait(&idle, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < OPS; i++)
        ops -= k->used[i];
    unlink(k->path);
    munmap(k->shared, sizeof(struct shared) + RANKS * AREA);
    free(k->pending);
    free(k);
    atomic_fetch_sub(&comms, 1);
    atomic_fetch_add(&aborts, 1);
    return 0;
}

/* ---- calls ---- */

EXPORT int ncclGroupStart(void);
int ncclGroupStart(void)
{
    MUST(!open_group, "a group in a group");
    open_group = calloc(1, sizeof *open_group);
    return 0;
}

EXPORT int ncclGroupEnd(void);
int ncclGroupEnd(void)
{
    struct group *g = open_group;

    MUST(g, "no group");
    open_group = NULL;
    atomic_fetch_add(&groups, 1);
    if (!g->comm) {
        free(g);
        return 0;
    }
    g->comm->pending = g;
    g->comm->state = 2;
    return TY_NCCL_IN_PROGRESS;
}

static bool apart(const void *a, size_t n, const void *b, size_t m)
{
    return (uintptr_t)a + n <= (uintptr_t)b || (uintptr_t)b + m <= (uintptr_t)a;
}

/* Where NCCL allows it: a part of the whole lies in its place there. */
static bool in_place(const struct comm *k, const struct told *t, const void *in, const void *out)
{
    size_t skip = (size_t)k->me * t->n * width(t->type);

    return t->kind == REDUCE_SCATTER ? (uintptr_t)out == (uintptr_t)in + skip
           : t->kind == ALL_GATHER   ? (uintptr_t)in == (uintptr_t)out + skip
                                     : in == out;
}

static int add(void *comm, void *stream, const void *in, void *out, struct told t)
{
    struct comm *k = comm;
    struct group *g = open_group;
    struct call *c;
    size_t to, from;

    MUST(g && (!g->comm || (g->comm == k && g->stream == stream)), "a call outside its group");
    MUST(k->up && !k->pending, "the communicator is not ready");
    MUST(g->calls < CALLS, "too many calls for the stand-in");
    t.scale = 1;
    if (t.op >= FIRST_OP) {
        MUST(k->used[t.op - FIRST_OP], "no such operator");
        t.scale = k->scale[t.op - FIRST_OP];
        t.op = 0;
    }
    MUST(t.op != 4 || t.type >= 6, "NCCL's averages of integers are not the engine's");
    from = bytes_in(k, &t);
    to = bytes_out(k, &t);
    MUST(!from || alias(in, from, k->device), "an input that is not on the communicator's GPU");
    MUST(!to || alias(out, to, k->device), "an output that is not on the communicator's GPU");
    if (from && to && t.kind < SEND)
        MUST(in_place(k, &t, in, out) || apart(in, from, out, to), "buffers overlap");
    g->comm = k;
    g->stream = stream;
    c = &g->call[g->calls++];
    *c = (struct call){ t, in, out };
    atomic_fetch_add(&calls, 1);
    return 0;
}

EXPORT int ncclAllReduce(const void *in, void *out, size_t n, int type, int op, void *comm,
                         void *s);
int ncclAllReduce(const void *in, void *out, size_t n, int type, int op, void *comm, void *s)
{
    return add(comm, s, in, out, (struct told){ ALL_REDUCE, type, op, 0, n, 0, 1 });
}
EXPORT int ncclReduce(const void *in, void *out, size_t n, int type, int op, int root, void *comm,
                      void *s);
int ncclReduce(const void *in, void *out, size_t n, int type, int op, int root, void *comm, void *s)
{
    return add(comm, s, in, out, (struct told){ REDUCE, type, op, root, n, 0, 1 });
}
EXPORT int ncclReduceScatter(const void *in, void *out, size_t n, int type, int op, void *comm,
                             void *s);
int ncclReduceScatter(const void *in, void *out, size_t n, int type, int op, void *comm, void *s)
{
    return add(comm, s, in, out, (struct told){ REDUCE_SCATTER, type, op, 0, n, 0, 1 });
}
EXPORT int ncclBroadcast(const void *in, void *out, size_t n, int type, int root, void *comm,
                         void *s);
int ncclBroadcast(const void *in, void *out, size_t n, int type, int root, void *comm, void *s)
{
    return add(comm, s, in, out, (struct told){ BROADCAST, type, 0, root, n, 0, 1 });
}
EXPORT int ncclAllGather(const void *in, void *out, size_t n, int type, void *comm, void *s);
int ncclAllGather(const void *in, void *out, size_t n, int type, void *comm, void *s)
{
    return add(comm, s, in, out, (struct told){ ALL_GATHER, type, 0, 0, n, 0, 1 });
}
EXPORT int ncclSend(const void *in, size_t n, int type, int peer, void *comm, void *s);
int ncclSend(const void *in, size_t n, int type, int peer, void *comm, void *s)
{
    return add(comm, s, in, NULL, (struct told){ SEND, type, 0, peer, n, 0, 1 });
}
EXPORT int ncclRecv(void *out, size_t n, int type, int peer, void *comm, void *s);
int ncclRecv(void *out, size_t n, int type, int peer, void *comm, void *s)
{
    return add(comm, s, NULL, out, (struct told){ RECV, type, 0, peer, n, 0, 1 });
}

EXPORT int ncclRedOpCreatePreMulSum(int *op, void *scalar, int type, int residence, void *comm);
int ncclRedOpCreatePreMulSum(int *op, void *scalar, int type, int residence, void *comm)
{
    struct comm *k = comm;

    MUST(residence == 1 && type >= 6, "a scalar of another kind");
    for (int i = 0; i < OPS; i++)
        if (!k->used[i]) {
            k->used[i] = true;
            k->scale[i] = load(type_of(type), scalar, 0);
            *op = FIRST_OP + i;
            atomic_fetch_add(&ops, 1);
            return 0;
        }
    die(__LINE__, "too many operators for the stand-in");
}

EXPORT int ncclRedOpDestroy(int op, void *comm);
int ncclRedOpDestroy(int op, void *comm)
{
    struct comm *k = comm;

    MUST(op >= FIRST_OP && k->used[op - FIRST_OP] && !k->pending, "no such operator");
    k->used[op - FIRST_OP] = false;
    atomic_fetch_sub(&ops, 1);
    return 0;
}

/* ---- for the test ---- */

EXPORT fake_nccl_counts_fn fake_nccl_counts;
struct fake_nccl_counts fake_nccl_counts(void)
{
    return (struct fake_nccl_counts){ comms, ops, calls, aborts, groups };
}
EXPORT fake_nccl_die_fn fake_nccl_die;
void fake_nccl_die(int n)
{
    atomic_store(&die_at, n);
}
EXPORT fake_nccl_refuse_fn fake_nccl_tidy;
void fake_nccl_tidy(void)
{
    unlink(made);
}
EXPORT fake_nccl_die_fn fake_nccl_lose;
void fake_nccl_lose(int n)
{
    atomic_store(&lose_at, n);
}
EXPORT fake_nccl_refuse_fn fake_nccl_refuse;
void fake_nccl_refuse(void)
{
    atomic_store(&refuse, 1);
}
