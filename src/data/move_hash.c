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
    struct ty_hash_job *running[THREADS_MAX], *beside[THREADS_MAX];
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

/* Two parts of the same size at once. */
static int hash_pair(struct ty_hash_job *j, struct ty_hash_job *k, uint8_t *buffer)
{
    size_t half = BUFFER_BYTES / 2;
    struct ty_md5 a, b;

    ty_md5_begin(&a);
    ty_md5_begin(&b);
    for (uint64_t at = 0; at < j->bytes;) {
        size_t want = j->bytes - at < half ? (size_t)(j->bytes - at) : half;

        if (pread(j->fd, buffer, want, (off_t)(j->offset + at)) != (ssize_t)want ||
            pread(k->fd, buffer + half, want, (off_t)(k->offset + at)) != (ssize_t)want)
            return -EAGAIN; /* one after the other will tell which, and why */
        ty_md5_add_pair(&a, buffer, &b, buffer + half, want);
        at += want;
    }
    ty_md5_end(&a, j->sum);
    ty_md5_end(&b, k->sum);
    return 0;
}

static void hash_both(struct ty_hash_job *j, struct ty_hash_job *k, uint8_t *buffer)
{
    if (k && buffer && hash_pair(j, k, buffer) == 0) {
        j->result = k->result = 0;
        return;
    }
    j->result = buffer ? hash(j, buffer) : -ENOMEM;
    if (k)
        k->result = buffer ? hash(k, buffer) : -ENOMEM;
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

/* With the lock held: one that can be done together with j, when no idle thread is there to do it. */
static struct ty_hash_job *take_partner(struct ty_hashers *s, const struct ty_hash_job *j)
{
    const struct ty_hash_job *k = s->first;

    if (!k || s->idle > 0 || j->whole || k->whole || k->bytes != j->bytes)
        return NULL;
    return take_first(s);
}

static void put_complete(struct ty_hashers *s, struct ty_hash_job *j)
{
    if (!j)
        return;
    j->next = s->complete;
    s->complete = j;
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
        struct ty_hash_job *j, *k;

        if (!s->first) {
            s->idle++;
            pthread_cond_wait(&s->more, &s->lock);
            s->idle--;
            continue;
        }
        j = take_first(s);
        k = take_partner(s, j);
        s->running[me] = j;
        s->beside[me] = k;
        pthread_mutex_unlock(&s->lock);
        hash_both(j, k, buffer);
        pthread_mutex_lock(&s->lock);
        s->running[me] = s->beside[me] = NULL;
        put_complete(s, j);
        put_complete(s, k);
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

int ty_hashers_add(struct ty_hashers *s, struct ty_hash_job *j)
{
    int r = 0;

    pthread_mutex_lock(&s->lock);
    if (s->idle == 0 || s->first)
        r = start_thread(s);
    if (r == 0) {
        j->next = NULL;
        *s->last = j;
        s->last = &j->next;
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
        if ((s->running[i] && s->running[i]->owner == owner) ||
            (s->beside[i] && s->beside[i]->owner == owner))
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
