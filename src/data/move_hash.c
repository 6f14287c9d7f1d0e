/* move_hash.c - see move_hash.h */
#include "data/move_hash.h"
#include "base/fault.h"
#include "data/http.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS_MAX 4
#define BUFFER_BYTES (256 << 10)

struct ty_hashers {
    struct ty_http *http;
    pthread_mutex_t lock;
    pthread_cond_t more, less; /* a job was added; a job is complete */
    struct ty_hash_job *first, **last, *complete;
    struct batch {
        struct ty_hash_job
            *jobs[TY_MD5_LANES]; /* of the same size, none with a whole when they are several */
        unsigned n;
    } running[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    int nthreads, idle;
    bool stop;
};

static int hash(struct ty_hash_job *j, uint8_t *buffer)
{
    uint64_t at = 0;
    struct ty_md5 m;

    ty_md5_begin(&m);
    while (at < j->bytes) {
        size_t want = j->bytes - at < BUFFER_BYTES ? (size_t)(j->bytes - at) : BUFFER_BYTES;
        ssize_t n = FAULT("move.hash", -1, pread(j->fd, buffer, want, (off_t)(j->offset + at)));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        if (j->whole)
            ty_md5_add_two(&m, j->whole, buffer, (size_t)n);
        else
            ty_md5_add(&m, buffer, (size_t)n);
        at += (uint64_t)n;
    }
    ty_md5_end(&m, j->sum);
    return 0;
}

int ty_hash_now(struct ty_hash_job *j)
{
    uint8_t *buffer = malloc(BUFFER_BYTES);

    j->result = buffer ? hash(j, buffer) : -ENOMEM;
    free(buffer);
    return j->result;
}

/* Parts of the same size side by side. */
static int hash_lanes(struct batch *b, uint8_t *buffer)
{
    size_t room = BUFFER_BYTES / TY_MD5_LANES;
    struct ty_md5 sums[TY_MD5_LANES], *to[TY_MD5_LANES];
    const void *from[TY_MD5_LANES];

    for (unsigned i = 0; i < b->n; i++) {
        to[i] = &sums[i];
        from[i] = buffer + i * room;
        ty_md5_begin(&sums[i]);
    }
    for (uint64_t at = 0; at < b->jobs[0]->bytes;) {
        uint64_t left = b->jobs[0]->bytes - at;
        size_t want = left < room ? (size_t)left : room;

        for (unsigned i = 0; i < b->n; i++)
            if (pread(b->jobs[i]->fd, buffer + i * room, want, (off_t)(b->jobs[i]->offset + at)) !=
                (ssize_t)want)
                return -EAGAIN; /* one after the other will tell which, and why */
        ty_md5_add_lanes(to, from, b->n, want);
        at += want;
    }
    for (unsigned i = 0; i < b->n; i++) {
        ty_md5_end(&sums[i], b->jobs[i]->sum);
        b->jobs[i]->result = 0;
    }
    return 0;
}

static void hash_batch(struct batch *b, uint8_t *buffer)
{
    if (b->n > 1 && buffer && hash_lanes(b, buffer) == 0)
        return;
    for (unsigned i = 0; i < b->n; i++)
        b->jobs[i]->result = buffer ? hash(b->jobs[i], buffer) : -ENOMEM;
}

/* With the lock held: the next job, of which none is NULL. */
static struct ty_hash_job *take_first(struct ty_hashers *s)
{
    struct ty_hash_job *j = s->first;

    s->first = j->next;
    if (!s->first)
        s->last = &s->first;
    return j;
}

/* With the lock held: the next job, and those behind it that can be done together with it.  Idle threads get none of them:
 * eight together are done as soon as three. */
static void take_batch(struct ty_hashers *s, struct batch *b)
{
    const struct ty_hash_job *j = b->jobs[0] = take_first(s);

    for (b->n = 1; b->n < TY_MD5_LANES && s->first; b->n++) {
        if (j->whole || s->first->whole || s->first->bytes != j->bytes)
            return;
        b->jobs[b->n] = take_first(s);
    }
}

static void put_complete(struct ty_hashers *s, struct batch *b)
{
    for (unsigned i = 0; i < b->n; i++) {
        b->jobs[i]->next = s->complete;
        s->complete = b->jobs[i];
    }
    b->n = 0;
}

static void *work(void *ctx)
{
    struct ty_hashers *s = ctx;
    uint8_t *buffer = malloc(BUFFER_BYTES);
    int me;

    pthread_mutex_lock(&s->lock);
    for (me = 0; !pthread_equal(s->threads[me], pthread_self());)
        me++;
    while (!s->stop) {
        struct batch *b = &s->running[me];

        if (!s->first) {
            s->idle++;
            pthread_cond_wait(&s->more, &s->lock);
            s->idle--;
            continue;
        }
        take_batch(s, b);
        pthread_mutex_unlock(&s->lock);
        hash_batch(b, buffer);
        pthread_mutex_lock(&s->lock);
        put_complete(s, b);
        pthread_cond_broadcast(&s->less);
        ty_http_wake(s->http);
    }
    pthread_mutex_unlock(&s->lock);
    free(buffer);
    return NULL;
}

struct ty_hashers *ty_hashers_new(struct ty_http *h)
{
    struct ty_hashers *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->http = h;
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    pthread_cond_init(&s->less, NULL);
    return s;
}

struct ty_hashers *ty_hashers_free(struct ty_hashers *s)
{
    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->nthreads; i++)
        pthread_join(s->threads[i], NULL);
    pthread_cond_destroy(&s->more);
    pthread_cond_destroy(&s->less);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

/* With the lock held; signals are for the thread that everything else runs on. */
static int start_thread(struct ty_hashers *s)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    sigset_t all, was;
    int r;

    if (s->nthreads == THREADS_MAX || (s->nthreads > 0 && s->nthreads >= cpus))
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    r = FAULT("move.thread", EAGAIN, pthread_create(&s->threads[s->nthreads], NULL, work, s));
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (r == 0)
        s->nthreads++;
    return s->nthreads > 0 ? 0 : -r;
}

int ty_hashers_add(struct ty_hashers *s, struct ty_hash_job *first)
{
    unsigned batches = 0, n = 0;
    struct ty_hash_job *last;
    int r = 0;

    for (last = first; last->next; last = last->next)
        batches += n++ % TY_MD5_LANES == 0;
    batches += n % TY_MD5_LANES == 0;
    pthread_mutex_lock(&s->lock);
    if (s->first)
        batches++;
    for (unsigned i = (unsigned)s->idle; i < batches && r == 0; i++)
        r = start_thread(s);
    if (r == 0) {
        *s->last = first;
        s->last = &last->next;
        if (batches > 1)
            pthread_cond_broadcast(&s->more);
        else
            pthread_cond_signal(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

struct ty_hash_job *ty_hashers_take(struct ty_hashers *s)
{
    struct ty_hash_job *j;

    pthread_mutex_lock(&s->lock);
    j = s->complete;
    if (j)
        s->complete = j->next;
    pthread_mutex_unlock(&s->lock);
    return j;
}

static bool is_running(const struct ty_hashers *s, const void *owner)
{
    for (int i = 0; i < s->nthreads; i++)
        for (unsigned k = 0; k < s->running[i].n; k++)
            if (s->running[i].jobs[k]->owner == owner)
                return true;
    return false;
}

static void drop(struct ty_hash_job **at, const void *owner)
{
    while (*at) {
        if ((*at)->owner == owner)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

void ty_hashers_forget(struct ty_hashers *s, const void *owner)
{
    pthread_mutex_lock(&s->lock);
    drop(&s->first, owner);
    for (s->last = &s->first; *s->last;)
        s->last = &(*s->last)->next;
    while (is_running(s, owner))
        pthread_cond_wait(&s->less, &s->lock);
    drop(&s->complete, owner);
    pthread_mutex_unlock(&s->lock);
}
