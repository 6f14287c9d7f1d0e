/* open.c - joining a world and leaving it
 *
 * Each rank puts a card: which node it is on, and the name of a socket.  With all cards each rank knows the nodes; the first
 * rank of each makes the memory of its node and the others ask it.  When there are several nodes a second round of
 * the exchange carries addresses.  Rank 0's card has the key that everybody must show from then on.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "coll/boot.h"
#include "coll/engine.h"
#include "coll/net.h"
#include "coll/plan.h"
#include "coll/stall.h"
#include "coll/timeline.h"
#include "coll/tune.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARENA_BYTES (64ull << 30)
#define START_TIMEOUT_S 30

struct card {
    char node[128];
    char socket[32];
    unsigned char key[TY_KEY_BYTES]; /* of rank 0 */
    uint64_t arena_bytes;
    uint64_t select; /* a hash of the table of algorithms */
};

/* ---- what is not given ---- */

/* A whole number with an optional k, M, G or T; 0 when unset.  -EINVAL. */
static int number_from_env(const char *name, bool suffix, uint64_t *ret, struct ty_error *err)
{
    static const char units[] = "kMGT";
    const char *text = getenv(name), *unit;
    char *end;
    uint64_t n;
    int shift;

    if (!text || !*text)
        return 0;
    errno = 0;
    n = strtoull(text, &end, 10);
    unit = *end && suffix ? strchr(units, *end) : NULL;
    if (errno || end == text || *text == '-' || (*end && (!unit || end[1])))
        return ty_error_set(err, -EINVAL, "%s is '%s': give a whole number%s", name, text,
                            suffix ? ", with k, M, G or T behind it if you like" : "");
    shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (n > UINT64_MAX >> shift)
        return ty_error_set(err, -EINVAL, "%s is '%s', which is too large", name, text);
    *ret = n << shift;
    return 0;
}

static int seconds_from_env(const char *name, int *field, struct ty_error *err)
{
    uint64_t n = 0;
    int r = *field ? 0 : number_from_env(name, false, &n, err);

    if (r < 0)
        return r;
    if (!*field)
        *field = n > 1000000000 ? 1000000000 : (int)n;
    return 0;
}

static int fill_options(struct ty_coll_options *o, struct ty_error *err)
{
    uint64_t arena = o->arena_bytes;
    const char *disable = getenv("HOROVOD_STALL_CHECK_DISABLE");
    bool off = disable && strcmp(disable, "1") == 0;
    int r = seconds_from_env("HOROVOD_START_TIMEOUT", &o->start_timeout_s, err);

    if (r == 0 && !off)
        r = seconds_from_env("HOROVOD_STALL_CHECK_TIME_SECONDS", &o->stall_warning_s, err);
    if (r == 0 && !off)
        r = seconds_from_env("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", &o->stall_shutdown_s, err);
    if (r == 0 && !arena)
        r = number_from_env("TRAINYARD_COLL_ARENA", true, &arena, err);
    if (r < 0)
        return r;
    o->start_timeout_s = o->start_timeout_s > 0 ? o->start_timeout_s : START_TIMEOUT_S;
    if (o->stall_warning_s == 0)
        o->stall_warning_s = off ? -1 : 60;
    o->arena_bytes = arena ? (size_t)arena : ARENA_BYTES;
    if (!o->select)
        o->select = getenv("TRAINYARD_COLL_SELECT");
    if (!o->timeline) {
        const char *cycles = getenv("HOROVOD_TIMELINE_MARK_CYCLES");

        o->timeline = getenv("HOROVOD_TIMELINE");
        o->timeline_cycles = cycles && strcmp(cycles, "1") == 0;
    }
    if (!o->node)
        o->node = getenv("TRAINYARD_COLL_NODE");
    if (!o->stall_file)
        o->stall_file = getenv("TRAINYARD_COLL_STALL_FILE");
    if (!o->cuda_path)
        o->cuda_path = getenv("TRAINYARD_COLL_CUDA_PATH");
    return 0;
}

/* Those who share a kernel and a network namespace can pass descriptors to each other. */
static void find_node_name(char *buf, size_t cap)
{
    char boot[64] = "", space[64] = "";
    CLEANUP_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, boot, sizeof boot - 1) : -1;

    if (n <= 0)
        gethostname(boot, sizeof boot - 1);
    boot[strcspn(boot, "\n")] = 0;
    n = readlink("/proc/self/ns/net", space, sizeof space - 1);
    snprintf(buf, cap, "%s %s", boot, n > 0 ? space : "");
}

/* ---- the exchange ---- */

/* All ranks of a world must go the same way. */
static uint64_t hash_select(const struct ty_coll_options *o)
{
    static const unsigned char key[crypto_shorthash_KEYBYTES] = "trainyard.way..";
    const char *text = o->select ? o->select : "";
    uint64_t h;

    crypto_shorthash((unsigned char *)&h, (const unsigned char *)text, strlen(text), key);
    return h;
}

static int put_card(struct ty_coll *c, const struct ty_coll_options *o, int *listener,
                    struct ty_error *err)
{
    struct card card = { .arena_bytes = o->arena_bytes, .select = hash_select(o) };

    if (o->node && strlen(o->node) >= sizeof card.node)
        return ty_error_set(err, -EINVAL,
                            "the name of this node (TRAINYARD_COLL_NODE) is longer than %zu bytes",
                            sizeof card.node - 1);
    if (o->node)
        snprintf(card.node, sizeof card.node, "%s", o->node);
    else
        find_node_name(card.node, sizeof card.node);
    *listener = ty_node_listen(card.socket, err);
    if (*listener < 0)
        return *listener;
    if (c->rank == 0)
        randombytes_buf(card.key, sizeof card.key);
    return c->boot.put(c->boot.ctx, "card", &card, sizeof card, err);
}

static int get_cards(struct ty_coll *c, struct card *cards, struct ty_error *err)
{
    for (int i = 0; i < c->size; i++) {
        void *got = NULL;
        size_t n = 0;
        int r = c->boot.get(c->boot.ctx, i, "card", &got, &n, err);

        if (r < 0)
            return r;
        if (n != sizeof *cards) {
            free(got);
            return ty_error_set(
                err, -EPROTO,
                "rank %d speaks another version of the engine; give all ranks the same one", i);
        }
        memcpy(&cards[i], got, n);
        cards[i].node[sizeof cards[i].node - 1] = cards[i].socket[sizeof cards[i].socket - 1] = 0;
        free(got);
        if (cards[i].select != cards[0].select)
            return ty_error_set(
                err, -EPROTO,
                "ranks 0 and %d choose algorithms differently; give all ranks the same "
                "TRAINYARD_COLL_SELECT",
                i);
    }
    return 0;
}

/* node_of, local_of, and what follows from them; local[]: ranks of the world on this node. */
static void find_nodes(struct ty_coll *c, const struct card *cards, int *local, int *nnodes)
{
    int *first = local,
        *count = c->local_of; /* borrowed: the first rank and the ranks of each node */

    *nnodes = 0;
    for (int i = 0; i < c->size; i++) {
        int k = 0;

        while (k < *nnodes && strcmp(cards[first[k]].node, cards[i].node) != 0)
            k++;
        if (k == *nnodes)
            first[(*nnodes)++] = i;
        c->node_of[i] = k;
    }
    c->homogeneous = true;
    for (int k = 0, previous = 0; k < *nnodes; k++, previous = count[0]) {
        count[0] = 0;
        for (int i = 0; i < c->size; i++)
            count[0] += c->node_of[i] == k;
        if (k > 0 && count[0] != previous)
            c->homogeneous = false;
    }
    for (int i = 0; i < c->size; i++) {
        c->local_of[i] = 0;
        for (int j = 0; j < i; j++)
            c->local_of[i] += c->node_of[j] == c->node_of[i];
    }
    c->local_rank = c->local_of[c->rank];
    for (int i = 0; i < c->size; i++) {
        if (c->node_of[i] == c->node_of[c->rank])
            local[c->local_size++] = i;
        if (c->local_of[i] == c->local_rank) {
            c->cross_size++;
            c->cross_rank += i < c->rank;
        }
    }
}

/* ---- ends, told by threads of the node and the net ---- */

void ty_engine_tell(struct ty_coll *c, int rank, enum ty_end why)
{
    int32_t told[2] = { rank, (int32_t)why };

    for (int i = 0; c->net && i < c->size; i++)
        if (c->local_of[i] == 0 && c->node_of[i] != c->node_of[c->rank])
            ty_net_post(c->net, i, TY_NET_TAG_NOTICE, told, sizeof told);
}

/* Leaders of the other nodes hear it from the leader here, or from all when it is the leader who is gone. */
static void tell_others(struct ty_coll *c, int rank, enum ty_end why)
{
    if (c->local_rank == 0 || (c->node_of[rank] == c->node_of[c->rank] && c->local_of[rank] == 0))
        ty_engine_tell(c, rank, why);
}

static void local_lost(void *ctx, int world, enum ty_end why)
{
    struct ty_coll *c = ctx;

    if (!c->net)
        return;
    ty_net_wake(c->net);
    if (why !=
        TY_END_LEFT) /* who has a lane to it hears its goodbye; the others hear of those who then give up */
        tell_others(c, world, why);
}
static void remote_lost(void *ctx, int rank, const char *why)
{
    struct ty_coll *c = ctx;

    (void)why;
    if (!c->node) /* still opening: whoever waits for that rank finds out */
        return;
    ty_engine_lost(c, rank, TY_END_CUT);
    tell_others(c, rank, TY_END_CUT);
}
static void remote_left(void *ctx, int rank)
{
    struct ty_coll *c = ctx;

    if (c->node)
        ty_engine_lost(c, rank, TY_END_LEFT);
}
static void remote_notice(void *ctx, int rank, const void *bytes, size_t n)
{
    struct ty_coll *c = ctx;
    int32_t told[2];

    (void)rank;
    if (n == TY_NOTE_BYTES)
        ty_notes_heard(c->notes, bytes);
    if (n != sizeof told || !c->node)
        return;
    memcpy(told, bytes, n);
    if (told[0] >= 0 && told[0] < c->size)
        ty_engine_lost(c, told[0], (enum ty_end)told[1]);
}
static void remote_heard(void *ctx)
{
    struct ty_coll *c = ctx;

    if (c->node)
        ty_node_ring_one(c->node, c->node->me);
}

/* ---- opening ---- */

static int open_net(struct ty_coll *c, const unsigned char *key, int timeout_ms,
                    struct ty_error *err)
{
    const char *interfaces = getenv("TRAINYARD_COLL_INTERFACES");
    struct ty_net_options o = { .rank = c->rank,
                                .size = c->size,
                                .key = key,
                                .connect_timeout_ms = timeout_ms,
                                .ctx = c,
                                .interfaces =
                                    interfaces ? interfaces : getenv("HOROVOD_GLOO_IFACE"),
                                .lost = remote_lost,
                                .left = remote_left,
                                .heard = remote_heard,
                                .notice = remote_notice };
    char **address = calloc((size_t)c->size, sizeof *address);
    CLEANUP_FREE char *mine = NULL;
    int r = address ? ty_net_open(&o, &c->net, &mine, err) : ty_error_oom(err);

    if (r == 0)
        r = c->boot.put(c->boot.ctx, "address", mine, strlen(mine) + 1, err);
    if (r == 0)
        r = c->boot.fence(c->boot.ctx, timeout_ms, err);
    for (int i = 0; r == 0 && i < c->size; i++) {
        void *got = NULL;
        size_t n = 0;

        if (c->node_of[i] == c->node_of[c->rank])
            continue;
        r = c->boot.get(c->boot.ctx, i, "address", &got, &n, err);
        address[i] = got;
        if (r == 0 && (n == 0 || address[i][n - 1] != 0))
            r = ty_error_set(err, -EPROTO, "rank %d gave no address", i);
    }
    if (r == 0)
        r = ty_net_peers(c->net, (const char *const *)address, err);
    for (int i = 0; address && i < c->size; i++)
        free(address[i]);
    free(address);
    return r;
}

static bool cores_to_spare(const struct ty_coll *c)
{
    cpu_set_t cores;

    return sched_getaffinity(0, sizeof cores, &cores) == 0 &&
           CPU_COUNT(&cores) >= 2 * c->local_size;
}

static int open_places(struct ty_coll *c, const struct ty_coll_options *o, int *listener,
                       struct ty_error *err)
{
    struct card *cards = calloc((size_t)c->size, sizeof *cards);
    int *local = calloc((size_t)c->size, sizeof *local), nnodes = 0, leader = 0;
    struct ty_node_options n = { 0 };
    struct ty_node *node = NULL;
    int r = cards && local ? get_cards(c, cards, err) : ty_error_oom(err);

    if (r == 0) {
        find_nodes(c, cards, local, &nnodes);
        leader = local[0];
        if (c->local_size > TY_NODE_RANKS)
            r = ty_error_set(
                err, -EINVAL,
                "%d ranks are on one node, and 256 is the most; use fewer, or TRAINYARD_COLL_NODE to "
                "make two nodes of it",
                c->local_size);
    }
    if (r == 0 && nnodes > 1)
        r = ty_select_parse(o->select, &c->select, err);
    if (r == 0 && nnodes > 1)
        r = open_net(c, cards[0].key, o->start_timeout_s * 1000, err);
    if (r == 0) {
        if (c->local_rank != 0) {
            close(*listener);
            *listener = -1;
        }
        n = (struct ty_node_options){ .me = c->local_rank,
                                      .ranks = c->local_size,
                                      .world = local,
                                      .key = cards[0].key,
                                      .socket = cards[leader].socket,
                                      .listener = *listener,
                                      .arena_bytes = cards[leader].arena_bytes,
                                      .timeout_ms = o->start_timeout_s * 1000,
                                      .lost = local_lost,
                                      .ctx = c };
        *listener = -1;
        r = ty_node_open(&n, &node, err);
        c->node = node;
    }
    free(cards);
    free(local);
    return r;
}

/* ---- forks ---- */

/* The one global of the engine: a forked child must find the contexts whose descriptors it has. */
static pthread_mutex_t contexts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ty_coll *contexts;
static bool watching_forks;

/* The contexts' own locks are left alone: a library that is called under one (CUDA's) may fork a helper. */
static void before_fork(void)
{
    pthread_mutex_lock(&contexts_lock);
}
static void after_fork(void)
{
    pthread_mutex_unlock(&contexts_lock);
}
static void in_child(void)
{
    for (struct ty_coll *c = contexts; c; c = c->next_context) {
        if (c->forked) /* of a parent's parent: its descriptors' numbers are other files' by now */
            continue;
        c->forked = true;
        ty_node_forked(c->node);
        if (c->net)
            ty_net_forked(c->net);
        ty_boot_forked(&c->boot);
    }
    after_fork();
}

static int enlist(struct ty_coll *c)
{
    int r = 0;

    pthread_mutex_lock(&contexts_lock);
    if (!watching_forks)
        r = -pthread_atfork(before_fork, after_fork, in_child);
    watching_forks |= r == 0;
    if (r == 0) {
        c->next_context = contexts;
        contexts = c;
    }
    pthread_mutex_unlock(&contexts_lock);
    return r;
}

static void delist(struct ty_coll *c)
{
    pthread_mutex_lock(&contexts_lock);
    for (struct ty_coll **at = &contexts; *at; at = &(*at)->next_context)
        if (*at == c) {
            *at = c->next_context;
            break;
        }
    pthread_mutex_unlock(&contexts_lock);
}

/* ---- life ---- */

static void give_up(struct ty_coll *c)
{
    ty_node_leave(c->node); /* its thread uses the net, and the net's thread the node */
    ty_net_free(c->net);
    ty_node_free(c->node);
    ty_notes_free(c->notes);
    if (c->boot.close)
        c->boot.close(c->boot.ctx);
    ty_select_free(c->select);
    ty_arena_done(&c->arena);
    free(c->node_of);
    free(c->local_of);
    free(c);
}

static int find_world(struct ty_coll *c, const struct ty_coll_options *o, struct ty_error *err)
{
    struct ty_world w = { .rank = o->rank, .size = o->size, .launcher = "options" };
    int r = o->size > 0 ? 0 : ty_world_from_env(&w, err);

    if (r < 0)
        return r;
    if (w.rank < 0 || w.rank >= w.size)
        return ty_error_set(err, -EINVAL, "cannot join a world of %d ranks as rank %d", w.size,
                            w.rank);
    c->rank = w.rank;
    c->size = w.size;
    c->node_of = calloc((size_t)c->size, sizeof *c->node_of);
    c->local_of = calloc((size_t)c->size, sizeof *c->local_of);
    if (!c->node_of || !c->local_of)
        return ty_error_oom(err);
    if (o->boot)
        c->boot = *o->boot;
    else
        r = ty_boot_from_env(&w, o->start_timeout_s * 1000, &c->boot, err);
    return r;
}

static int join_world(struct ty_coll *c, const struct ty_coll_options *o, struct ty_error *err)
{
    CLEANUP_CLOSE int listener = -1;
    int r = find_world(c, o, err);

    if (r == 0)
        r = put_card(c, o, &listener, err);
    if (r == 0)
        r = c->boot.fence(c->boot.ctx, o->start_timeout_s * 1000, err);
    if (r == 0)
        r = open_places(c, o, &listener, err);
    return r;
}

static int start(struct ty_coll *c, const struct ty_coll_options *o, struct ty_error *err)
{
    int r = ty_engine_init(c);

    c->warn = o->warn;
    c->warn_ctx = o->warn_ctx;
    c->stall_warning_s = o->stall_warning_s;
    c->stall_shutdown_s = o->stall_shutdown_s;
    c->stall_file = o->stall_file && *o->stall_file ? strdup(o->stall_file) : NULL;
    c->cores = cores_to_spare(c);
    c->cuda_path = o->cuda_path ? strdup(o->cuda_path) : NULL;
    ty_arena_init(&c->arena, ty_node_arena(c->node, c->node->me), c->node->arena_bytes);
    if (r == 0)
        r = ty_engine_add_world(c);
    if (r == 0)
        r = enlist(c);
    if (r < 0) {
        ty_engine_done(c);
        return ty_error_set(err, r, "cannot start the engine: %s", strerror(-r));
    }
    r = ty_stall_start(c);
    if (r < 0)
        ty_error_set(err, r, "cannot start to look for late ranks: %s", strerror(-r));
    if (r == 0)
        r = ty_engine_meet(c, o->start_timeout_s * 1000, err);
    if (r == 0) {
        r = ty_tune(c);
        if (r < 0)
            r = ty_engine_cannot_start(c, r, err);
    }
    if (r == 0 && o->timeline && *o->timeline && strcmp(o->timeline, "DYNAMIC") != 0)
        r = ty_coll_timeline_start(c, o->timeline, o->timeline_cycles, err);
    if (r < 0) {
        delist(c);
        ty_engine_stop(c);
        ty_stall_stop(c);
        ty_engine_done(c);
    }
    return r;
}

int ty_coll_open(const struct ty_coll_options *options, struct ty_coll **ret, struct ty_error *err)
{
    struct ty_coll_options o = options ? *options : (struct ty_coll_options){ 0 };
    struct ty_coll *c;
    int r = sodium_init() < 0
                ? ty_error_set(err, -EIO, "cannot start libsodium: no source of random numbers")
                : 0;

    if (r == 0)
        r = fill_options(&o, err);
    if (r < 0)
        return r;
    c = FAULT("coll.alloc", NULL, calloc(1, sizeof *c));
    if (c)
        c->notes = ty_notes_new();
    if (!c || !c->notes) {
        free(c);
        return ty_error_oom(err);
    }
    r = join_world(c, &o, err);
    if (r == 0)
        r = start(c, &o, err);
    /* The others are on their way in, and would wait for this rank. */
    if (r < 0 && c->node && !ty_node_poisoned(c->node))
        ty_engine_break(c, c->rank, TY_END_FAILED);
    if (r < 0) {
        give_up(c);
        return r;
    }
    *ret = c;
    return 0;
}

struct ty_coll *ty_coll_close(struct ty_coll *c)
{
    if (!c)
        return NULL;
    delist(c);
    if (c->forked) /* a child has its parent's threads' memory, and not their threads */
        return NULL;
    ty_engine_stop(c);
    ty_stall_stop(c);
    ty_engine_close_timeline(c);
    ty_engine_done(c);
    give_up(c);
    return NULL;
}

int ty_coll_rank(const struct ty_coll *c)
{
    return c->rank;
}
int ty_coll_size(const struct ty_coll *c)
{
    return c->size;
}
int ty_coll_local_rank(const struct ty_coll *c)
{
    return c->local_rank;
}
int ty_coll_local_size(const struct ty_coll *c)
{
    return c->local_size;
}
int ty_coll_cross_rank(const struct ty_coll *c)
{
    return c->cross_rank;
}
int ty_coll_cross_size(const struct ty_coll *c)
{
    return c->cross_size;
}
bool ty_coll_homogeneous(const struct ty_coll *c)
{
    return c->homogeneous;
}

void *ty_coll_arena_alloc(struct ty_coll *c, size_t bytes)
{
    void *p;

    if (c->forked)
        return NULL;
    pthread_mutex_lock(&c->lock);
    p = ty_arena_take(&c->arena, bytes);
    pthread_mutex_unlock(&c->lock);
    return p;
}

void ty_coll_arena_free(struct ty_coll *c, void *p)
{
    if (c->forked)
        return;
    pthread_mutex_lock(&c->lock);
    ty_arena_give(&c->arena, p);
    pthread_mutex_unlock(&c->lock);
}

bool ty_coll_arena_has(const struct ty_coll *c, const void *p)
{
    return ty_arena_has(&c->arena, p);
}
