/* node.c - making the shared memory of a node, handing it out, bells, and the watch over a neighbour's life
 *
 * Handing out: the leader listens on an abstract socket whose name it gave to the others; each connects, shows the key,
 * and is sent the memory file's descriptor.  A rank that is a thread of the leader's own process (the kernel says so)
 * uses the leader's mapping instead, so that race detectors see one address for one word.
 *
 * The watcher reads the word of a robust mutex as the kernel and glibc keep it: the owner's thread id; 0 once it was
 * unlocked; FUTEX_OWNER_DIED set by the kernel when the owner died.  FUTEX_WAITERS asks the kernel for a wake-up then.
 */
#include "coll/node.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MAGIC 0x3130656e6f4e7954u /* "TyNone01" */
#define PAGE 4096u
#define SPIN_US 20
#define YIELDS 64
#define WATCH_US 1000000
#define HELLO_US 2000000
#define SPINS_SHARED 20 /* where ranks share cores */

static size_t page_up(size_t n)
{
    return (n + PAGE - 1) / PAGE * PAGE;
}

/* ---- layout ---- */

static void lay_out(struct ty_node *n)
{
    size_t head = page_up(sizeof(struct ty_node_head)) +
                  page_up((size_t)n->ranks * sizeof(struct ty_node_rank));
    size_t each = (size_t)n->ranks * TY_NODE_SETS;

    n->control_at = head;
    n->staging_at = page_up(n->control_at + each * (2 * TY_POST_BYTES + TY_LINE));
    n->arena_at = n->staging_at + each * 2 * TY_SLOT_BYTES;
    n->bytes = n->arena_at + (size_t)n->ranks * n->arena_bytes;
}

static void find_places(struct ty_node *n)
{
    n->head = (struct ty_node_head *)n->base;
    n->rank = (struct ty_node_rank *)(n->base + page_up(sizeof(struct ty_node_head)));
}

static int map(struct ty_node *n, struct ty_error *err)
{
    void *p =
        FAULT("node.map", MAP_FAILED,
              mmap(NULL, n->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, n->fd, 0));

    if (p == MAP_FAILED)
        return ty_error_set(
            err, -errno,
            "cannot map %zu GiB of address space for the memory that the ranks of this node share "
            "(%zu GiB of it for each rank's gradients): %m; ask for less with TRAINYARD_COLL_ARENA",
            n->bytes >> 30, n->arena_bytes >> 30);
    madvise(p, n->bytes, MADV_DONTDUMP);
    n->base = p;
    find_places(n);
    return 0;
}

static int init_life(pthread_mutex_t *m)
{
    pthread_mutexattr_t a;
    int r = -pthread_mutexattr_init(&a);

    if (r < 0)
        return r;
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    r = -pthread_mutex_init(m, &a);
    pthread_mutexattr_destroy(&a);
    return r;
}

static int create(struct ty_node *n, const struct ty_node_options *o, struct ty_error *err)
{
    int r;

    n->fd = FAULT("node.memfd", -1, memfd_create("trainyard-node", MFD_CLOEXEC));
    if (n->fd < 0)
        return ty_error_set(err, -errno,
                            "cannot make the memory file that the ranks of this node share: %m");
    if (ftruncate(n->fd, (off_t)n->bytes) < 0)
        return ty_error_set(
            err, -errno,
            "cannot size the memory file that the ranks of this node share to %zu GiB: %m",
            n->bytes >> 30);
    r = map(n, err);
    if (r < 0)
        return r;
    n->head->magic = MAGIC;
    n->head->ranks = (uint32_t)n->ranks;
    n->head->arena_bytes = n->arena_bytes;
    n->head->bytes = n->bytes;
    atomic_store(&n->head->users, 1);
    for (int i = 0; i < n->ranks; i++) {
        n->rank[i].world = o->world[i];
        r = init_life(&n->rank[i].life);
        if (r < 0)
            return ty_error_set(err, r, "cannot make a mutex between processes: %s", strerror(-r));
    }
    return 0;
}

/* ---- handing out ---- */

struct hello {
    uint64_t magic;
    int32_t rank;
    unsigned char key[TY_KEY_BYTES];
};
/* With the descriptor beside it, unless base is set: then the asker is of the same process and uses that. */
struct welcome {
    uint64_t magic, bytes, arena_bytes;
    void *base;
};

int ty_node_listen(char name[32], struct ty_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    unsigned char random[8];
    CLEANUP_CLOSE int fd =
        FAULT("node.listen", -1, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    int n;

    if (fd < 0)
        return ty_error_set(err, -errno, "cannot make a socket for the ranks of this node: %m");
    randombytes_buf(random, sizeof random);
    n = snprintf(name, 32, "ty-coll-");
    sodium_bin2hex(name + n, sizeof random * 2 + 1, random, sizeof random);
    n = (int)strlen(name);
    memcpy(a.sun_path + 1, name, (size_t)n);
    if (bind(fd, (struct sockaddr *)&a,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0 ||
        listen(fd, TY_NODE_RANKS) < 0)
        return ty_error_set(err, -errno, "cannot listen for the ranks of this node: %m");
    return TAKE_FD(fd);
}

static int wait_readable(int fd, int64_t deadline_us)
{
    struct pollfd p = { fd, POLLIN, 0 };
    int64_t left = deadline_us - ty_mono_us();
    int r;

    do
        r = poll(&p, 1, left < 0 ? 0 : (int)(left / 1000) + 1);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

/* Is the process at the other end this one? */
static bool same_process(int fd)
{
    struct ucred c;
    socklen_t n = sizeof c;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) == 0 && c.pid == getpid();
}

static int send_welcome(int fd, const struct ty_node *n)
{
    struct welcome w = { MAGIC, n->bytes, n->arena_bytes, same_process(fd) ? n->base : NULL };
    struct iovec iov = { &w, sizeof w };
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = { 0 };
    struct msghdr m = { .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof control.bytes };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &n->fd, sizeof(int));
    if (w.base)
        atomic_fetch_add(&n->head->users, 1);
    return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)sizeof w ? 0 : -errno;
}

/* Who asks says so at once; a stranger who says nothing must not keep the others waiting. */
static int64_t patience_us(int64_t deadline_us)
{
    int64_t soon = ty_mono_us() + HELLO_US;

    return soon < deadline_us ? soon : deadline_us;
}

/* Time is up: who of this node's ranks has not come. */
static int name_missing(const int *world, const bool *came, int ranks, struct ty_error *err)
{
    char list[200] = "";
    int n = 0, missing = 0;

    for (int i = 0; i < ranks; i++)
        if (!came[i] && missing++ < 32)
            n += snprintf(list + n, sizeof list - (size_t)n, "%s%d", n ? ", " : "", world[i]);
    return ty_error_set(err, -ETIMEDOUT,
                        "the shared memory of this node is not complete: rank%s %s%s %s not come",
                        missing == 1 ? "" : "s", list, missing > 32 ? " and more" : "",
                        missing == 1 ? "has" : "have");
}

/* Answer those who ask, until all have got it.  Who does not know the key is not answered. */
static int hand_out(struct ty_node *n, const struct ty_node_options *o, int64_t deadline_us,
                    struct ty_error *err)
{
    bool came[TY_NODE_RANKS] = { true };
    int missing = n->ranks - 1;

    while (missing > 0) {
        CLEANUP_CLOSE int fd = -1;
        struct hello h;
        int r = wait_readable(o->listener, deadline_us);

        if (r == -ETIMEDOUT)
            return name_missing(o->world, came, n->ranks, err);
        if (r < 0)
            return ty_error_set(err, r, "cannot wait for the ranks of this node: %s", strerror(-r));
        fd = accept4(o->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || wait_readable(fd, patience_us(deadline_us)) < 0 ||
            recv(fd, &h, sizeof h, 0) != (ssize_t)sizeof h || h.magic != MAGIC ||
            sodium_memcmp(h.key, o->key, sizeof h.key) != 0 || h.rank <= 0 || h.rank >= n->ranks)
            continue;
        if (send_welcome(fd, n) < 0)
            continue;
        missing -= !came[h.rank];
        came[h.rank] = true;
    }
    return 0;
}

static int receive_welcome(int fd, struct welcome *w, int *memory)
{
    struct iovec iov = { w, sizeof *w };
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr m = { .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof control.bytes };
    struct cmsghdr *c;
    ssize_t k = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

    if (k != (ssize_t)sizeof *w || w->magic != MAGIC)
        return k < 0 ? -errno : -EPROTO;
    c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EPROTO;
    memcpy(memory, CMSG_DATA(c), sizeof(int));
    return 0;
}

static int ask(struct ty_node *n, const struct ty_node_options *o, int64_t deadline_us,
               struct ty_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct hello h = { MAGIC, n->me, { 0 } };
    struct welcome w;
    size_t len = strlen(o->socket);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int r;

    memcpy(h.key, o->key, sizeof h.key);
    memcpy(a.sun_path + 1, o->socket, len < sizeof a.sun_path - 1 ? len : sizeof a.sun_path - 1);
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) < 0 ||
        send(fd, &h, sizeof h, MSG_NOSIGNAL) != (ssize_t)sizeof h)
        return ty_error_set(
            err, -errno,
            "cannot ask rank %d for the shared memory of this node: %m; if its processes cannot reach each "
            "other, give each part a TRAINYARD_COLL_NODE of its own",
            o->world[0]);
    r = wait_readable(fd, deadline_us);
    if (r == 0)
        r = FAULT("node.receive", -EIO, receive_welcome(fd, &w, &n->fd));
    if (r < 0)
        return ty_error_set(err, r, "rank %d has not given the shared memory of this node: %s",
                            o->world[0], strerror(-r));
    if (w.bytes != n->bytes || w.arena_bytes != n->arena_bytes)
        return ty_error_set(
            err, -EPROTO,
            "rank %d has laid out the shared memory of this node differently (%llu bytes, here %zu); give "
            "all ranks the same TRAINYARD_COLL_ARENA and the same version",
            o->world[0], (unsigned long long)w.bytes, n->bytes);
    if (w.base) {
        close(n->fd);
        n->fd = -1;
        n->borrowed = true;
        n->base = w.base;
        find_places(n);
        return 0;
    }
    return map(n, err);
}

/* ---- life ---- */

static _Atomic uint32_t *life_word(struct ty_node *n, int rank)
{
    return (_Atomic uint32_t *)&n->rank[rank].life.__data.__lock;
}

bool ty_node_poison(struct ty_node *n, int world, enum ty_end why)
{
    uint64_t none = 0, word = (uint64_t)(uint32_t)(world + 1) | (uint64_t)why << 32;
    bool first;

    if (why != TY_END_LEFT)
        atomic_compare_exchange_strong(&n->head->broken, &none, word);
    none = 0;
    first = atomic_compare_exchange_strong(&n->head->poison, &none, word);
    for (int r = 0; r < n->ranks; r++) {
        ty_node_ring_one(n, r);
        ty_futex_wake(life_word(n, r), TY_NODE_RANKS); /* its watcher */
    }
    return first;
}

void ty_node_look(struct ty_node *n, int rank)
{
    if (atomic_load_explicit(life_word(n, rank), memory_order_relaxed) & FUTEX_OWNER_DIED)
        ty_node_poison(n, n->rank[rank].world, TY_END_DIED);
}

/* What this watcher has told. */
struct told {
    bool poison, broken;
};

static void tell(struct ty_node *n, struct told *told)
{
    uint64_t poison = ty_node_poisoned(n), broken = ty_node_broken(n);

    if (!n->lost)
        return;
    if (poison && !told->poison && poison != broken)
        n->lost(n->ctx, (int)(uint32_t)poison - 1, (enum ty_end)(poison >> 32));
    if (broken && !told->broken)
        n->lost(n->ctx, (int)(uint32_t)broken - 1, (enum ty_end)(broken >> 32));
    told->poison = poison;
    told->broken = broken;
}

/* Watch `rank` until it has died or left, the node is broken, or this watcher is to stop.  The word does not change when
 * others poison the node: they wake us, and should that be missed, we look once a second. */
static void watch(struct ty_node *n, int rank, struct told *told)
{
    _Atomic uint32_t *word = life_word(n, rank);

    while (!atomic_load(&n->stop) && !told->broken) {
        uint32_t v = atomic_fetch_or(word, FUTEX_WAITERS) | FUTEX_WAITERS;

        tell(n, told);
        if (v & FUTEX_OWNER_DIED) {
            ty_node_poison(n, n->rank[rank].world, TY_END_DIED);
            tell(n, told);
            return;
        }
        if ((v & FUTEX_TID_MASK) == 0) {
            ty_node_poison(n, n->rank[rank].world, TY_END_LEFT);
            tell(n, told);
            return;
        }
        if (!told->broken)
            ty_futex_wait(word, v, WATCH_US);
    }
}

/* The thread whose death is this rank's death. */
static void *watcher(void *arg)
{
    struct ty_node *n = arg;
    struct told told = { false, false };

    pthread_mutex_lock(&n->rank[n->me].life);
    atomic_fetch_add(&n->head->ready, 1);
    ty_futex_wake(&n->head->ready, TY_NODE_RANKS);
    while (!atomic_load(&n->stop) && !atomic_load(&n->watching))
        ty_futex_wait(&n->watching, 0, -1);
    for (int k = 1; k < n->ranks; k++)
        watch(n, (n->me + k) % n->ranks, &told);
    while (!atomic_load(&n->stop)) {
        /* All others of this node are gone, or it is broken; news from other nodes still come. */
        tell(n, &told);
        ty_futex_wait(&n->stop, 0, told.broken ? -1 : WATCH_US);
    }
    pthread_mutex_unlock(&n->rank[n->me].life);
    atomic_store(&n->ended, 1);
    ty_futex_wake(&n->ended, 1);
    return NULL;
}

/* The others are there when each holds its life. */
static int wait_for_all(struct ty_node *n, const int *world, int64_t deadline_us,
                        struct ty_error *err)
{
    bool came[TY_NODE_RANKS];
    uint32_t ready;

    while ((ready = atomic_load(&n->head->ready)) < (uint32_t)n->ranks) {
        int64_t left = deadline_us - ty_mono_us();

        if (left <= 0) {
            for (int i = 0; i < n->ranks; i++)
                came[i] = atomic_load(life_word(n, i)) != 0;
            return name_missing(world, came, n->ranks, err);
        }
        ty_futex_wait(&n->head->ready, ready, left);
    }
    return 0;
}

/* ---- life cycle ---- */

static void choose_waiting(struct ty_node *n)
{
    cpu_set_t cores;
    int64_t begun;
    int k = 0;

    n->cores = sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) >= n->ranks;
    n->yields = YIELDS;
    n->spins = SPINS_SHARED;
    if (!n->cores)
        return;
    begun = ty_mono_us();
    while (ty_mono_us() - begun < 50)
        for (int i = 0; i < 64; i++, k++)
            ty_cpu_pause();
    n->spins = k * SPIN_US / 50;
}

int ty_node_open(const struct ty_node_options *o, struct ty_node **ret, struct ty_error *err)
{
    int64_t deadline_us = ty_mono_us() + (int64_t)o->timeout_ms * 1000;
    CLEANUP_CLOSE int listener = o->listener;
    struct ty_node *n = FAULT("node.alloc", NULL, calloc(1, sizeof *n));
    int r;

    if (!n)
        return ty_error_oom(err);
    n->me = o->me;
    n->ranks = o->ranks;
    n->arena_bytes = page_up(o->arena_bytes);
    n->fd = -1;
    n->lost = o->lost;
    n->ctx = o->ctx;
    lay_out(n);
    choose_waiting(n);
    r = n->me == 0 ? create(n, o, err) : ask(n, o, deadline_us, err);
    if (r == 0 && n->me == 0)
        r = hand_out(n, o, deadline_us, err);
    if (r == 0) {
        n->rank[n->me].pid = getpid();
        r = -FAULT("node.thread", EAGAIN, pthread_create(&n->watcher, NULL, watcher, n));
        if (r < 0)
            ty_error_set(err, r, "cannot start a thread: %s", strerror(-r));
        else
            n->watched = true;
    }
    if (r < 0) {
        ty_node_free(n);
        return r;
    }
    r = wait_for_all(n, o->world, deadline_us, err);
    if (r < 0) {
        ty_node_free(n);
        return r;
    }
    atomic_store(&n->watching, 1);
    ty_futex_wake(&n->watching, 1);
    *ret = n;
    return 0;
}

void ty_node_leave(struct ty_node *n)
{
    if (!n || !n->watched)
        return;
    n->watched = false;
    atomic_store(&n->stop, 1);
    /* The watcher may be between its look at `stop` and its sleep: wake it until it has ended. */
    while (!atomic_load(&n->ended)) {
        ty_futex_wake(&n->stop, 1);
        ty_futex_wake(&n->watching, 1);
        for (int r = 0; r < n->ranks; r++)
            ty_futex_wake(life_word(n, r), TY_NODE_RANKS);
        ty_futex_wait(&n->ended, 0, 1000);
    }
    pthread_join(n->watcher, NULL);
}

struct ty_node *ty_node_free(struct ty_node *n)
{
    if (!n)
        return NULL;
    if (n->base) {
        ty_node_leave(n);
        if (n->borrowed || n->me == 0) {
            /* Ranks of one process use one mapping: the last of them takes it down. */
            if (atomic_fetch_sub(&n->head->users, 1) == 1)
                munmap(n->base, n->bytes);
        } else {
            munmap(n->base, n->bytes);
        }
    }
    if (n->fd >= 0)
        close(n->fd);
    free(n);
    return NULL;
}

void ty_node_forked(struct ty_node *n)
{
    if (n->fd < 0)
        return;
    if (mmap(ty_node_arena(n, n->me), n->arena_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, n->fd,
             (off_t)(n->arena_at + (size_t)n->me * n->arena_bytes)) == MAP_FAILED)
        return;
    munmap(n->base, n->arena_at + (size_t)n->me * n->arena_bytes);
    if (n->me + 1 < n->ranks)
        munmap(ty_node_arena(n, n->me + 1), (size_t)(n->ranks - n->me - 1) * n->arena_bytes);
    close(n->fd);
    n->fd = -1;
}

/* ---- bells ---- */

void ty_node_ring_one(struct ty_node *n, int rank)
{
    atomic_fetch_add_explicit(&n->rank[rank].bell, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&n->rank[rank].asleep, memory_order_seq_cst))
        ty_futex_wake(&n->rank[rank].bell, 1);
}

void ty_node_sleep(struct ty_node *n, bool (*ready)(void *ctx), void *ctx, int64_t timeout_us)
{
    struct ty_node_rank *me = &n->rank[n->me];
    uint32_t bell = atomic_load(&me->bell);

    atomic_store(&me->asleep, 1);
    atomic_fetch_add(&n->head->sleepers, 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (!ready(ctx))
        ty_futex_wait(&me->bell, bell, timeout_us);
    atomic_fetch_sub(&n->head->sleepers, 1);
    atomic_store(&me->asleep, 0);
}
